/*
 * For tests of the registry layer: a local store in a temporary directory and a registry on it; and makers of the
 * values that its functions take. Whatever goes wrong in here fails the test.
 */
#ifndef ORLOP_TESTS_UNIT_FIXTURE_H
#define ORLOP_TESTS_UNIT_FIXTURE_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "registry/blob.h"
#include "registry/manifest.h"
#include "registry/registry.h"
#include "registry/upload.h"

#define OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define OCI_EMPTY "application/vnd.oci.empty.v1+json"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#define assert_ok(call) assert_int_equal((call), ERR_OK)

struct fixture {
    char dir[128];
    struct store *store;
    struct registry *registry;
    struct registry_settings settings; /* of the next fixture_reopen */
    struct repo_name repo;             /* "library/app" */
    struct err err;                    /* of the last call that the test made with it */
};

/* cmocka's setup and teardown: a fresh fixture in *state, and its end. */
int fixture_setup(void **state);
int fixture_teardown(void **state);
/* As a restart of the server with fixture->settings. */
void fixture_reopen(struct fixture *fixture);

/* A new directory on a fast file system if there is one; out has 128 bytes. */
void temp_dir_make(char *out);
void temp_dir_remove(const char *dir);

struct repo_name repo_of(const char *text);
struct tag_name tag_of(const char *text);
struct digest digest_of(enum digest_algorithm algorithm, struct str bytes);
struct digest sha256_of(const char *text);
/* The digest as text, in one of a few buffers that are used in turn. */
const char *digest_text(const struct digest *digest);
struct reference by_digest(const struct digest *digest);
struct reference by_tag(const char *text);

/* Straight to the store. */
void object_put(struct fixture *fixture, const char *key, struct str bytes);
void object_delete(struct fixture *fixture, const char *key);
bool object_exists(struct fixture *fixture, const char *key);
/* Bytes of a file below the store's directory: replaced, read whole, or cut to a size. */
void file_write(struct fixture *fixture, const char *path, struct str bytes);
void file_read(struct fixture *fixture, const char *path, struct buf *out);
void file_cut(struct fixture *fixture, const char *path, uint64_t size_bytes);
bool file_exists(struct fixture *fixture, const char *path);
size_t uploads_count(struct fixture *fixture);

/*
 * Note every put and delete of objects from now on, one a line ("put KEY", "delete KEY"), until watch_stop or a reopen.
 * The one numbered fail_at (from 1; 0: none) and all after it fail with ERR_IO and do nothing, as after a crash there.
 */
void watch_start(struct fixture *fixture, size_t fail_at);
const char *watch_lines(void);
void watch_stop(struct fixture *fixture);

/* Pushes that must succeed. A NULL tag pushes by digest; subject and artifact_type may be NULL. */
struct digest push_blob(struct fixture *fixture, const struct repo_name *repo, struct str bytes);
struct digest push_manifest(struct fixture *fixture, const struct repo_name *repo, const char *tag, const char *text);
/* An image manifest of an empty config, which is pushed too; note makes it unlike others. */
void image_text(struct fixture *fixture, const struct repo_name *repo, const struct digest *subject,
                const char *artifact_type, const char *note, struct buf *out);
struct digest push_image(struct fixture *fixture, const struct repo_name *repo, const char *tag,
                         const struct digest *subject, const char *artifact_type, const char *note);

#endif

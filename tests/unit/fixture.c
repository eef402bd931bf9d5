#include "fixture.h"

#include "base/fs.h"
#include "base/log.h"
#include "digest/hash.h"
#include "store/driver.h"
#include "store/local.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define FILE_BYTES_MAX (128 * 1024 * 1024)
#define DIGEST_TEXTS 8

void temp_dir_make(char *out)
{
    const char *parent = getenv("TMPDIR");
    if (!parent)
        parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void) snprintf(out, 128, "%.100s/orlop-test-XXXXXX", parent);
    assert_non_null(mkdtemp(out));
}

void temp_dir_remove(const char *dir)
{
    struct err err = ERR_INIT;
    assert_ok(fs_remove_tree(AT_FDCWD, dir, &err));
}

static void fixture_open(struct fixture *fixture)
{
    assert_ok(local_store_open(fixture->dir, LOCAL_EXCLUSIVE, &fixture->store, &fixture->err));
    assert_ok(registry_new(fixture->store, &fixture->settings, &fixture->registry, &fixture->err));
}

static void fixture_shut(struct fixture *fixture)
{
    registry_free(fixture->registry);
    store_close(fixture->store);
}

int fixture_setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    log_set_level(LOG_ERROR);
    temp_dir_make(fixture->dir);
    fixture->settings = REGISTRY_SETTINGS_DEFAULT;
    fixture->repo = repo_of("library/app");
    fixture_open(fixture);
    *state = fixture;
    return 0;
}

int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    fixture_shut(fixture);
    temp_dir_remove(fixture->dir);
    free(fixture);
    clock_set_offset_for_tests(0);
    return 0;
}

void fixture_reopen(struct fixture *fixture)
{
    fixture_shut(fixture);
    fixture_open(fixture);
}

struct repo_name repo_of(const char *text)
{
    struct repo_name repo;
    struct err err = ERR_INIT;
    assert_ok(repo_name_parse(str_from(text), &repo, &err));
    return repo;
}

struct tag_name tag_of(const char *text)
{
    struct tag_name tag;
    struct err err = ERR_INIT;
    assert_ok(tag_name_parse(str_from(text), &tag, &err));
    return tag;
}

struct digest digest_of(enum digest_algorithm algorithm, struct str bytes)
{
    struct hash hash;
    struct digest digest;
    hash_init(&hash, algorithm);
    hash_update(&hash, bytes.ptr, bytes.len);
    hash_digest(&hash, &digest);
    return digest;
}

struct digest sha256_of(const char *text)
{
    return digest_of(DIGEST_SHA256, str_from(text));
}

const char *digest_text(const struct digest *digest)
{
    static char texts[DIGEST_TEXTS][DIGEST_TEXT_BYTES_MAX];
    static unsigned next;
    char *text = texts[next++ % DIGEST_TEXTS];
    digest_format(digest, text);
    return text;
}

struct reference by_digest(const struct digest *digest)
{
    return (struct reference){.is_digest = true, .digest = *digest};
}

struct reference by_tag(const char *text)
{
    return (struct reference){.tag = tag_of(text)};
}

void object_put(struct fixture *fixture, const char *key, struct str bytes)
{
    struct err err = ERR_INIT;
    assert_ok(store_put(fixture->store, key, bytes, STORE_PUT_ANY, &err));
}

void object_delete(struct fixture *fixture, const char *key)
{
    struct err err = ERR_INIT;
    assert_ok(store_delete(fixture->store, (const char *const[]){key}, 1, &err));
}

bool object_exists(struct fixture *fixture, const char *key)
{
    struct err err = ERR_INIT;
    uint64_t size_bytes;
    enum err_code code = store_stat(fixture->store, key, &size_bytes, &err);
    assert_true(code == ERR_OK || code == ERR_NOT_FOUND);
    return code == ERR_OK;
}

/* ---- files below the store's directory ---- */

static int dir_open(struct fixture *fixture)
{
    int fd = open(fixture->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

void file_write(struct fixture *fixture, const char *path, struct str bytes)
{
    struct err err = ERR_INIT;
    auto_fd dir_fd = dir_open(fixture);
    assert_ok(fs_write_atomic(dir_fd, "tmp", path, bytes, FS_REPLACE, FS_VOLATILE, &err));
}

void file_read(struct fixture *fixture, const char *path, struct buf *out)
{
    struct err err = ERR_INIT;
    auto_fd dir_fd = dir_open(fixture);
    *out = BUF_INIT(FILE_BYTES_MAX);
    assert_ok(fs_read_file(dir_fd, path, out, &err));
}

void file_cut(struct fixture *fixture, const char *path, uint64_t size_bytes)
{
    auto_fd dir_fd = dir_open(fixture);
    auto_fd fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t) size_bytes), 0);
}

bool file_exists(struct fixture *fixture, const char *path)
{
    auto_fd dir_fd = dir_open(fixture);
    struct stat st;
    return fstatat(dir_fd, path, &st, 0) == 0;
}

size_t uploads_count(struct fixture *fixture)
{
    struct err err = ERR_INIT;
    struct store_upload_info infos[64];
    size_t count;
    assert_ok(store_upload_list(fixture->store, NULL, 64, infos, &count, &err));
    return count;
}

/* ---- watching the store ---- */

static struct watch {
    const struct store_ops *plain;
    struct store_ops watched;
    char lines[16 * 1024];
    size_t count, fail_at;
} watch; /* a driver's functions have no argument of ours */

/* Note one change; false when it is to fail. */
static bool watch_note(const char *verb, const char *key)
{
    size_t len = strlen(watch.lines);
    watch.count++;
    if (watch.fail_at && watch.count >= watch.fail_at)
        return false;
    (void) snprintf(watch.lines + len, sizeof(watch.lines) - len, "%s %s\n", verb, key);
    return true;
}

static enum err_code watched_put(struct store *store, const char *key, struct str bytes, enum store_put_mode mode,
                                 struct err *err)
{
    if (!watch_note("put", key))
        return err_set(err, ERR_IO, "the test makes this put fail");
    return watch.plain->put(store, key, bytes, mode, err);
}

static enum err_code watched_delete(struct store *store, const char *const *keys, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (!watch_note("delete", keys[i]))
            return err_set(err, ERR_IO, "the test makes this delete fail");
    }
    return watch.plain->delete (store, keys, count, err);
}

void watch_start(struct fixture *fixture, size_t fail_at)
{
    watch = (struct watch){.plain = fixture->store->ops, .watched = *fixture->store->ops, .fail_at = fail_at};
    watch.watched.put = watched_put;
    watch.watched.delete = watched_delete;
    fixture->store->ops = &watch.watched;
}

const char *watch_lines(void)
{
    return watch.lines;
}

void watch_stop(struct fixture *fixture)
{
    fixture->store->ops = watch.plain;
}

/* ---- pushes ---- */

struct digest push_blob(struct fixture *fixture, const struct repo_name *repo, struct str bytes)
{
    struct digest digest = digest_of(DIGEST_SHA256, bytes);
    struct upload *upload;
    assert_ok(upload_begin_single(fixture->registry, repo, DIGEST_SHA256, &upload, &fixture->err));
    assert_ok(upload_write(upload, bytes.ptr, bytes.len, &fixture->err));
    assert_ok(upload_commit(upload, &digest, &fixture->err));
    return digest;
}

struct digest push_manifest(struct fixture *fixture, const struct repo_name *repo, const char *tag, const char *text)
{
    struct tag_name name = tag_of(tag ? tag : "none");
    struct manifest_put put = {.repo = repo, .tags = &name, .tag_count = tag ? 1 : 0, .bytes = str_from(text)};
    struct manifest_put_result result;
    assert_ok(manifest_put(fixture->registry, &put, &result, &fixture->err));
    return result.digest;
}

void image_text(struct fixture *fixture, const struct repo_name *repo, const struct digest *subject,
                const char *artifact_type, const char *note, struct buf *out)
{
    struct digest config = push_blob(fixture, repo, STR("{}"));
    *out = BUF_INIT(REGISTRY_MANIFEST_BYTES_MAX);
    (void) buf_append_text(out, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_MANIFEST "\"");
    if (artifact_type)
        (void) buf_appendf(out, ",\"artifactType\":\"%s\"", artifact_type);
    (void) buf_appendf(out, ",\"config\":{\"mediaType\":\"" OCI_EMPTY "\",\"digest\":\"%s\",\"size\":2}",
                       digest_text(&config));
    (void) buf_append_text(out, ",\"layers\":[]");
    if (subject)
        (void) buf_appendf(out, ",\"subject\":{\"mediaType\":\"" OCI_MANIFEST "\",\"digest\":\"%s\",\"size\":7}",
                           digest_text(subject));
    (void) buf_appendf(out, ",\"annotations\":{\"note\":\"%s\"}}", note);
    assert_false(out->overflowed);
}

struct digest push_image(struct fixture *fixture, const struct repo_name *repo, const char *tag,
                         const struct digest *subject, const char *artifact_type, const char *note)
{
    auto_buf text = BUF_INIT(0);
    image_text(fixture, repo, subject, artifact_type, note, &text);
    return push_manifest(fixture, repo, tag, text.ptr);
}

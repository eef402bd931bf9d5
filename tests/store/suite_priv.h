/*
 * Shared by the suite's files: the store under test, and steps that must succeed.
 */
#ifndef ORLOP_TESTS_STORE_SUITE_PRIV_H
#define ORLOP_TESTS_STORE_SUITE_PRIV_H

#include "suite.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define OBJECT_BYTES_MAX (STORE_OBJECT_BYTES_MAX + 1024)
#define MARKER "orlop.json" /* the store's own; the one object that is always there */
#define THREADS 8
#define THREAD_ROUNDS 25 /* of each thread, unless the driver says otherwise */

struct suite {
    const struct suite_driver *driver;
    struct store *store;
};

extern struct suite suite; /* cmocka hands a group's setup nothing */

int suite_open(void **state);
int suite_close(void **state);
/* After each test: nothing is left but the marker. */
int suite_expect_no_leftovers(void **state);

#define SUITE_TEST(fn) cmocka_unit_test_teardown(fn, suite_expect_no_leftovers)

/* The parts; each returns its number of failures. */
int suite_run_objects(void);
int suite_run_uploads(void);

static inline int thread_rounds(void)
{
    return suite.driver->thread_rounds ? suite.driver->thread_rounds : THREAD_ROUNDS;
}

static inline struct store *store_of(void **state)
{
    (void) state;
    return suite.store;
}

struct walked {
    struct buf lines; /* "key size\n", as they came */
    size_t count;
    size_t stop_after; /* 0: never */
};

/* Walk and note; returns how many came. The caller frees walked->lines. */
size_t suite_walk(struct store *store, const char *prefix, size_t stop_after, struct walked *walked);

static inline void put(struct store *store, const char *key, struct str bytes)
{
    struct err err = ERR_INIT;
    assert_ok(store_put(store, key, bytes, STORE_PUT_ANY, &err));
}

static inline void delete_one(struct store *store, const char *key)
{
    struct err err = ERR_INIT;
    assert_ok(store_delete(store, (const char *const[]){key}, 1, &err));
}

/* Check one listing against names in order, ended by NULL. */
static inline void assert_list(struct store *store, const char *prefix, const char *after, size_t limit, bool more,
                               const char *const *expected)
{
    struct err err = ERR_INIT;
    struct store_names names;
    assert_ok(store_list(store, prefix, after, limit, &names, &err));
    size_t count = 0;
    while (expected[count])
        count++;
    if (names.count != count)
        fail_msg("%s after '%s': %zu names instead of %zu", prefix, after ? after : "", names.count, count);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(names.items[i], expected[i]);
    assert_int_equal(names.more, more);
    store_names_free(&names);
    assert_int_equal(names.count, 0);
    assert_null(names.items);
}

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NO_NAMES ((const char *const[]){NULL})

static inline struct store_upload *upload_create(struct store *store, char *id)
{
    struct err err = ERR_INIT;
    struct store_upload *upload;
    uuid_new(id);
    assert_ok(store_upload_create(store, id, &upload, &err));
    return upload;
}

static inline void append(struct store_upload *upload, struct str bytes)
{
    struct err err = ERR_INIT;
    assert_ok(store_upload_append(upload, bytes.ptr, bytes.len, &err));
}

static inline void checkpoint(struct store_upload *upload, const char *record)
{
    struct err err = ERR_INIT;
    assert_ok(store_upload_checkpoint(upload, str_from(record), &err));
}

/* Open it again, check its record, and go on at offset_bytes. */
static inline struct store_upload *upload_open(struct store *store, const char *id, const char *record,
                                               uint64_t offset_bytes)
{
    struct err err = ERR_INIT;
    struct store_upload *upload;
    auto_buf out = BUF_INIT(STORE_RECORD_BYTES_MAX);
    assert_ok(store_upload_open(store, id, &upload, &out, &err));
    assert_string_equal(buf_str(&out).ptr, record);
    assert_ok(store_upload_seek(upload, offset_bytes, &err));
    return upload;
}

static inline void assert_no_upload(struct store *store, const char *id)
{
    struct err err = ERR_INIT;
    struct store_upload *upload;
    auto_buf out = BUF_INIT(STORE_RECORD_BYTES_MAX);
    assert_int_equal(store_upload_open(store, id, &upload, &out, &err), ERR_NOT_FOUND);
    assert_int_equal(store_upload_record(store, id, &out, &err), ERR_NOT_FOUND);
    assert_int_equal(out.len, 0);
}

static inline void commit(struct store_upload *upload, const struct digest *digest, uint64_t size_bytes)
{
    struct err err = ERR_INIT;
    struct store_place place;
    if (store_upload_commit(upload, digest, size_bytes, &place, &err) != ERR_OK)
        fail_msg("%s", err_text(&err));
}

static inline void upload_remove(struct store *store, const char *id)
{
    struct err err = ERR_INIT;
    assert_ok(store_upload_remove(store, id, &err));
}

static inline void assert_no_blob(struct store *store, const struct digest *digest)
{
    struct err err = ERR_INIT;
    struct store_blob blob;
    uint64_t size_bytes;
    assert_int_equal(store_blob_stat(store, digest, &size_bytes, &err), ERR_NOT_FOUND);
    assert_int_equal(store_blob_open(store, digest, NULL, &blob, &err), ERR_NOT_FOUND);
}

static inline void blob_delete(struct store *store, const struct digest *digest)
{
    struct err err = ERR_INIT;
    assert_ok(store_blob_delete(store, digest, &err));
}

static inline struct str random_text(size_t len)
{
    char *bytes = malloc(len);
    assert_non_null(bytes);
    random_bytes(bytes, len);
    return (struct str){bytes, len};
}

static inline void free_text(struct str text)
{
    free((void *) (uintptr_t) text.ptr);
}

/* ---- threads ---- */

struct crew {
    struct store *store;
    atomic_int next; /* numbers the threads */
    atomic_int wins;
    struct digest shared;
};

static inline void crew_run(struct crew *crew, struct store *store, void *(*work)(void *arg))
{
    pthread_t threads[THREADS];
    *crew = (struct crew){.store = store, .shared = suite_digest(DIGEST_SHA256)};
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, crew), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

#endif

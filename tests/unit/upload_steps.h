/*
 * Steps of uploads to fixture->repo; those that return nothing must succeed.
 */
#ifndef ORLOP_TESTS_UNIT_UPLOAD_STEPS_H
#define ORLOP_TESTS_UNIT_UPLOAD_STEPS_H

#include "fixture.h"

#include "base/metrics.h"

static inline struct upload_id start(struct fixture *fixture, enum digest_algorithm algorithm)
{
    struct upload_id id;
    assert_ok(upload_start(fixture->registry, &fixture->repo, algorithm, &id, &fixture->err));
    return id;
}

static inline struct upload *begin(struct fixture *fixture, const struct upload_id *id, uint64_t expected_size)
{
    struct upload *upload;
    uint64_t size_bytes = 999;
    assert_ok(upload_begin(fixture->registry, &fixture->repo, id, NULL, NULL, &upload, &size_bytes, &fixture->err));
    assert_int_equal(size_bytes, expected_size);
    return upload;
}

static inline void feed(struct fixture *fixture, struct upload *upload, const char *text)
{
    assert_ok(upload_write(upload, text, strlen(text), &fixture->err));
}

static inline void finish(struct fixture *fixture, struct upload *upload, uint64_t expected_size)
{
    uint64_t size_bytes = 999;
    assert_ok(upload_finish_chunk(upload, &size_bytes, &fixture->err));
    assert_int_equal(size_bytes, expected_size);
}

/* A whole PATCH. */
static inline void patch(struct fixture *fixture, const struct upload_id *id, uint64_t at, const char *text)
{
    struct upload *upload = begin(fixture, id, at);
    feed(fixture, upload, text);
    finish(fixture, upload, at + strlen(text));
}

/* A whole PUT without a body. */
static inline enum err_code close_with(struct fixture *fixture, const struct upload_id *id, const struct digest *digest)
{
    struct upload *upload;
    uint64_t size_bytes;
    enum err_code code =
        upload_begin(fixture->registry, &fixture->repo, id, NULL, digest, &upload, &size_bytes, &fixture->err);
    return code == ERR_OK ? upload_commit(upload, digest, &fixture->err) : code;
}

static inline enum err_code status(struct fixture *fixture, const struct upload_id *id, uint64_t *out)
{
    return upload_status(fixture->registry, &fixture->repo, id, out, &fixture->err);
}

static inline void assert_size(struct fixture *fixture, const struct upload_id *id, uint64_t expected)
{
    uint64_t size_bytes = 999;
    assert_ok(status(fixture, id, &size_bytes));
    assert_int_equal(size_bytes, expected);
}

static inline void assert_unknown(struct fixture *fixture, const struct upload_id *id)
{
    struct upload *upload;
    uint64_t size_bytes;
    assert_int_equal(status(fixture, id, &size_bytes), ERR_BLOB_UPLOAD_UNKNOWN);
    assert_int_equal(upload_begin(fixture->registry, &fixture->repo, id, NULL, NULL, &upload, &size_bytes,
                                  &fixture->err),
                     ERR_BLOB_UPLOAD_UNKNOWN);
    assert_int_equal(upload_cancel(fixture->registry, &fixture->repo, id, &fixture->err), ERR_BLOB_UPLOAD_UNKNOWN);
}

static inline void assert_blob(struct fixture *fixture, const struct digest *digest, const char *expected)
{
    struct store_blob blob;
    char bytes[256];
    size_t got;
    assert_ok(blob_open(fixture->registry, &fixture->repo, digest, &blob, &fixture->err));
    assert_int_equal(blob.size_bytes, strlen(expected));
    assert_ok(store_blob_read(fixture->store, &blob, 0, bytes, sizeof(bytes), &got, &fixture->err));
    assert_int_equal(got, strlen(expected));
    assert_memory_equal(bytes, expected, got);
    store_blob_close(fixture->store, &blob);
}

static inline void assert_no_blob(struct fixture *fixture, const struct digest *digest)
{
    uint64_t size_bytes;
    struct store_blob_info info;
    assert_int_equal(blob_stat(fixture->registry, &fixture->repo, digest, &info, &fixture->err), ERR_BLOB_UNKNOWN);
    assert_int_equal(store_blob_stat(fixture->store, digest, &size_bytes, &fixture->err), ERR_NOT_FOUND);
}

static inline uint64_t rehashed(void)
{
    return metric_counter_value(METRIC_BYTES_REHASHED);
}

#endif

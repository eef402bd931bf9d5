/* The run, and the helpers that drivers' own tests share. */
#include "suite_priv.h"

struct suite suite;

void suite_assert_object(struct store *store, const char *key, struct str expected)
{
    struct err err = ERR_INIT;
    auto_buf out = BUF_INIT(OBJECT_BYTES_MAX);
    uint64_t size_bytes = 12345;
    assert_ok(store_get(store, key, &out, &err));
    assert_int_equal(out.len, expected.len);
    assert_memory_equal(buf_str(&out).ptr, expected.ptr, expected.len);
    assert_ok(store_stat(store, key, &size_bytes, &err));
    assert_int_equal(size_bytes, expected.len);
}

void suite_assert_missing(struct store *store, const char *key)
{
    struct err err = ERR_INIT;
    auto_buf out = BUF_INIT(OBJECT_BYTES_MAX);
    uint64_t size_bytes;
    assert_int_equal(store_get(store, key, &out, &err), ERR_NOT_FOUND);
    assert_int_equal(out.len, 0);
    assert_int_equal(store_stat(store, key, &size_bytes, &err), ERR_NOT_FOUND);
}

struct digest suite_digest(enum digest_algorithm algorithm)
{
    struct digest digest = {.algorithm = suite.driver && suite.driver->verifies_sha256 ? DIGEST_SHA512 : algorithm};
    random_bytes(digest.raw, digest_raw_bytes(digest.algorithm));
    return digest;
}

void suite_blob_put(struct store *store, const struct digest *digest, struct str bytes)
{
    char id[UUID_TEXT_BYTES];
    struct store_upload *upload = upload_create(store, id);
    if (bytes.len)
        append(upload, bytes);
    commit(upload, digest, bytes.len);
    store_upload_close(upload);
    upload_remove(store, id);
}

void suite_assert_blob(struct store *store, const struct digest *digest, struct str expected)
{
    struct err err = ERR_INIT;
    struct store_blob blob;
    uint64_t size_bytes;
    size_t got;
    assert_ok(store_blob_stat(store, digest, &size_bytes, &err));
    assert_int_equal(size_bytes, expected.len);
    assert_ok(store_blob_open(store, digest, NULL, &blob, &err));
    assert_int_equal(blob.size_bytes, expected.len);
    char *bytes = malloc(expected.len + 1);
    assert_non_null(bytes);
    assert_ok(store_blob_read(store, &blob, 0, bytes, expected.len + 1, &got, &err));
    assert_int_equal(got, expected.len);
    assert_memory_equal(bytes, expected.ptr, expected.len);
    free(bytes);
    store_blob_close(store, &blob);
}

static bool note_walked(void *arg, const char *key, uint64_t size_bytes)
{
    struct walked *walked = arg;
    assert_true(buf_appendf(&walked->lines, "%s %llu\n", key, (unsigned long long) size_bytes));
    walked->count++;
    return walked->count != walked->stop_after;
}

size_t suite_walk(struct store *store, const char *prefix, size_t stop_after, struct walked *walked)
{
    struct err err = ERR_INIT;
    *walked = (struct walked){.lines = BUF_INIT(1024 * 1024), .stop_after = stop_after};
    assert_ok(store_walk(store, prefix, note_walked, walked, &err));
    return walked->count;
}

int suite_open(void **state)
{
    (void) state;
    suite.store = suite.driver->open(suite.driver->arg);
    return 0;
}

int suite_close(void **state)
{
    (void) state;
    suite.driver->close(suite.driver->arg, suite.store);
    return 0;
}

static bool sweep_object(void *arg, const char *key, uint64_t size_bytes)
{
    struct err err = ERR_INIT;
    (void) size_bytes;
    if (strcmp(key, MARKER) != 0 && !str_starts(str_from(key), STR("uploads/")))
        (void) !store_delete(arg, (const char *const[]){key}, 1, &err);
    return true;
}

/* After each test: nothing is left but the marker. What is left is swept up, for the sake of the tests to come. */
int suite_expect_no_leftovers(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    struct store_upload_info info;
    struct walked walked;
    size_t uploads, uploads_left = 0;
    size_t objects = suite_walk(store, "", 0, &walked);
    if (objects != 1)
        print_error("left over:\n%s", buf_str(&walked.lines).ptr);
    buf_free(&walked.lines);
    assert_ok(store_walk(store, "", sweep_object, store, &err));
    for (;;) {
        assert_ok(store_upload_list(store, NULL, 1, &info, &uploads, &err));
        if (uploads == 0)
            break;
        print_error("upload %s is left over\n", info.id);
        upload_remove(store, info.id);
        uploads_left++;
    }
    return objects == 1 && uploads_left == 0 ? 0 : -1;
}

int store_suite_run(const struct suite_driver *driver)
{
    suite.driver = driver;
    return suite_run_objects() + suite_run_uploads();
}

/* The contract's second part: blobs, uploads, and the store itself. */
#include "suite_priv.h"

#define LONG_UPLOAD_BYTES (20 * 1024 * 1024)

/* ---- blobs ---- */

static void test_blobs(void **state)
{
    struct store *store = store_of(state);
    static const enum digest_algorithm algorithms[] = {DIGEST_SHA256, DIGEST_SHA512};
    for (size_t i = 0; i < COUNT_OF(algorithms); i++) {
        struct digest digest = suite_digest(algorithms[i]), other = digest;
        other.raw[digest_raw_bytes(algorithms[i]) - 1] ^= 1;
        assert_no_blob(store, &digest);
        suite_blob_put(store, &digest, STR("some bytes"));
        suite_assert_blob(store, &digest, STR("some bytes"));
        assert_no_blob(store, &other);
        blob_delete(store, &other); /* missing is no error */
        suite_assert_blob(store, &digest, STR("some bytes"));
        blob_delete(store, &digest);
        assert_no_blob(store, &digest);
        blob_delete(store, &digest);
    }
}

static void test_blob_reads(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    struct digest digest = suite_digest(DIGEST_SHA256);
    struct store_blob blob;
    char out[16];
    size_t got;
    suite_blob_put(store, &digest, STR("0123456789"));
    assert_ok(store_blob_open(store, &digest, NULL, &blob, &err));
    assert_ok(store_blob_read(store, &blob, 3, out, 4, &got, &err));
    assert_int_equal(got, 4);
    assert_memory_equal(out, "3456", 4);
    assert_ok(store_blob_read(store, &blob, 8, out, sizeof(out), &got, &err));
    assert_int_equal(got, 2);
    assert_memory_equal(out, "89", 2);
    assert_ok(store_blob_read(store, &blob, 10, out, sizeof(out), &got, &err));
    assert_int_equal(got, 0);
    assert_ok(store_blob_read(store, &blob, 1000, out, sizeof(out), &got, &err));
    assert_int_equal(got, 0);
    assert_ok(store_blob_read(store, &blob, 5, out, 0, &got, &err));
    assert_int_equal(got, 0);
    if (blob.fd >= 0) { /* then its bytes stand there */
        assert_int_equal(pread(blob.fd, out, 10, (off_t) blob.fd_offset), 10);
        assert_memory_equal(out, "0123456789", 10);
    }
    store_blob_close(store, &blob);
    blob_delete(store, &digest);
}

static void test_readers_keep_a_deleted_blob(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    struct digest digest = suite_digest(DIGEST_SHA256);
    struct store_blob blob;
    char out[16];
    size_t got;
    suite_blob_put(store, &digest, STR("0123456789"));
    assert_ok(store_blob_open(store, &digest, NULL, &blob, &err));
    assert_ok(store_blob_read(store, &blob, 0, out, 0, &got, &err));
    blob_delete(store, &digest);
    assert_no_blob(store, &digest);
    assert_ok(store_blob_read(store, &blob, 0, out, sizeof(out), &got, &err));
    assert_int_equal(got, 10);
    assert_memory_equal(out, "0123456789", 10);
    store_blob_close(store, &blob);
}

/* ---- uploads ---- */

static void test_upload(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    char id[UUID_TEXT_BYTES];
    struct digest digest = suite_digest(DIGEST_SHA256);
    struct store_upload *upload = upload_create(store, id);
    append(upload, STR("one "));
    append(upload, STR("two "));
    checkpoint(upload, "record 1");
    append(upload, STR("three"));
    checkpoint(upload, "record 2");
    store_upload_close(upload);

    upload = upload_open(store, id, "record 2", 13);
    append(upload, STR(" four"));
    assert_ok(store_upload_flush(upload, &err));
    assert_no_blob(store, &digest);
    commit(upload, &digest, 18);
    store_upload_close(upload);
    suite_assert_blob(store, &digest, STR("one two three four"));

    auto_buf record = BUF_INIT(STORE_RECORD_BYTES_MAX); /* the session stays until it is removed */
    assert_ok(store_upload_record(store, id, &record, &err));
    assert_string_equal(record.ptr, "record 2");
    upload_remove(store, id);
    assert_no_upload(store, id);
    suite_assert_blob(store, &digest, STR("one two three four"));
    blob_delete(store, &digest);
    store_upload_close(NULL);
}

static void test_nothing_is_kept_without_a_checkpoint(void **state)
{
    struct store *store = store_of(state);
    char id[UUID_TEXT_BYTES], untouched[UUID_TEXT_BYTES];
    struct store_upload *upload = upload_create(store, id);
    assert_no_upload(store, id);
    append(upload, STR("bytes"));
    assert_no_upload(store, id);
    store_upload_close(upload);
    assert_no_upload(store, id);
    upload_remove(store, id);
    store_upload_close(upload_create(store, untouched));
    upload_remove(store, untouched);
    upload_remove(store, untouched); /* missing is no error */
}

static void test_what_was_not_checkpointed_is_forgotten(void **state)
{
    struct store *store = store_of(state);
    char id[UUID_TEXT_BYTES];
    struct digest digest = suite_digest(DIGEST_SHA256);
    struct store_upload *upload = upload_create(store, id);
    append(upload, STR("kept,"));
    checkpoint(upload, "5");
    append(upload, STR("forgotten and longer than what comes"));
    store_upload_close(upload);
    upload = upload_open(store, id, "5", 5);
    append(upload, STR("new"));
    checkpoint(upload, "8");
    store_upload_close(upload);
    upload = upload_open(store, id, "8", 8);
    commit(upload, &digest, 8);
    store_upload_close(upload);
    suite_assert_blob(store, &digest, STR("kept,new"));
    upload_remove(store, id);
    blob_delete(store, &digest);
}

static void test_commit_cuts_what_is_past_its_size(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    char id[UUID_TEXT_BYTES];
    struct digest digest = suite_digest(DIGEST_SHA256);
    struct store_upload *upload = upload_create(store, id);
    auto_buf record = BUF_INIT(STORE_RECORD_BYTES_MAX);
    append(upload, STR("kept"));
    checkpoint(upload, "4");
    append(upload, STR(" and junk"));
    store_upload_close(upload);
    assert_ok(store_upload_open(store, id, &upload, &record, &err));
    commit(upload, &digest, 4); /* nothing was appended: nobody had to say where it goes on */
    store_upload_close(upload);
    suite_assert_blob(store, &digest, STR("kept"));
    upload_remove(store, id);
    blob_delete(store, &digest);
}

static void test_commit_is_idempotent(void **state)
{
    struct store *store = store_of(state);
    char id[UUID_TEXT_BYTES];
    struct digest digest = suite_digest(DIGEST_SHA512);
    struct store_upload *upload = upload_create(store, id);
    append(upload, STR("bytes"));
    checkpoint(upload, "5");
    for (int i = 0; i < 3; i++) { /* as after a crash between commit and remove */
        commit(upload, &digest, 5);
        store_upload_close(upload);
        suite_assert_blob(store, &digest, STR("bytes"));
        struct err err = ERR_INIT;
        auto_buf record = BUF_INIT(STORE_RECORD_BYTES_MAX);
        assert_ok(store_upload_open(store, id, &upload, &record, &err));
        assert_string_equal(record.ptr, "5");
    }
    store_upload_close(upload);
    upload_remove(store, id);
    blob_delete(store, &digest);
}

static void test_commit_of_bytes_that_are_nowhere(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    char id[UUID_TEXT_BYTES];
    struct digest digest = suite_digest(DIGEST_SHA256);
    struct store_upload *upload = upload_create(store, id);
    checkpoint(upload, "lies");
    assert_int_equal(store_upload_commit(upload, &digest, 5, &(struct store_place){""}, &err), ERR_CORRUPT);
    append(upload, STR("four"));
    assert_int_equal(store_upload_commit(upload, &digest, 5, &(struct store_place){""}, &err), ERR_CORRUPT);
    assert_no_blob(store, &digest);
    store_upload_close(upload);
    upload_remove(store, id);
}

static void test_commit_keeps_a_whole_blob_and_replaces_a_damaged_one(void **state)
{
    struct store *store = store_of(state);
    struct digest digest = suite_digest(DIGEST_SHA256);
    suite_blob_put(store, &digest, STR("first"));
    suite_blob_put(store, &digest, STR("ours!")); /* of the same size: dropped */
    suite_assert_blob(store, &digest, STR("first"));
    suite_blob_put(store, &digest, STR("of another size"));
    suite_assert_blob(store, &digest, STR("of another size"));
    suite_blob_put(store, &digest, STR("short"));
    suite_assert_blob(store, &digest, STR("short"));
    suite_blob_put(store, &digest, STR(""));
    suite_assert_blob(store, &digest, STR(""));
    suite_blob_put(store, &digest, STR("mended"));
    suite_assert_blob(store, &digest, STR("mended"));
    blob_delete(store, &digest);
}

static void test_upload_of_no_bytes(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    char id[UUID_TEXT_BYTES];
    struct digest digest = suite_digest(DIGEST_SHA256);
    struct store_upload *upload = upload_create(store, id);
    checkpoint(upload, "0");
    store_upload_close(upload);
    for (int i = 0; i < 2; i++) {
        upload = upload_open(store, id, "0", 0);
        assert_ok(store_upload_flush(upload, &err));
        commit(upload, &digest, 0);
        store_upload_close(upload);
        suite_assert_blob(store, &digest, STR(""));
    }
    upload_remove(store, id);
    blob_delete(store, &digest);
}

static void test_seek(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    char id[UUID_TEXT_BYTES];
    struct digest digest = suite_digest(DIGEST_SHA256);
    struct store_upload *upload = upload_create(store, id);
    auto_buf record = BUF_INIT(STORE_RECORD_BYTES_MAX);
    append(upload, STR("01234567"));
    checkpoint(upload, "8");
    store_upload_close(upload);
    assert_ok(store_upload_open(store, id, &upload, &record, &err));
    assert_int_equal(store_upload_seek(upload, 9, &err), ERR_CORRUPT);
    assert_int_equal(store_upload_seek(upload, UINT64_MAX / 4, &err), ERR_CORRUPT);
    assert_ok(store_upload_seek(upload, 3, &err)); /* back, as a rollback does */
    append(upload, STR("x"));
    checkpoint(upload, "4");
    commit(upload, &digest, 4);
    store_upload_close(upload);
    suite_assert_blob(store, &digest, STR("012x"));
    upload_remove(store, id);
    blob_delete(store, &digest);

    upload = upload_create(store, id);
    checkpoint(upload, "0");
    assert_ok(store_upload_seek(upload, 0, &err));
    assert_int_equal(store_upload_seek(upload, 1, &err), ERR_CORRUPT);
    store_upload_close(upload);
    upload_remove(store, id);
}

static void test_reading_back(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    char id[UUID_TEXT_BYTES], out[16];
    size_t got = 1;
    struct store_upload *upload = upload_create(store, id);
    assert_ok(store_upload_read(upload, 0, out, sizeof(out), &got, &err));
    assert_int_equal(got, 0);
    append(upload, STR("0123456789"));
    assert_ok(store_upload_read(upload, 2, out, 3, &got, &err));
    assert_int_equal(got, 3);
    assert_memory_equal(out, "234", 3);
    checkpoint(upload, "10");
    store_upload_close(upload);
    upload = upload_open(store, id, "10", 10);
    assert_ok(store_upload_read(upload, 0, out, sizeof(out), &got, &err));
    assert_int_equal(got, 10);
    assert_memory_equal(out, "0123456789", 10);
    assert_ok(store_upload_read(upload, 10, out, sizeof(out), &got, &err));
    assert_int_equal(got, 0);
    append(upload, STR("x")); /* reading moves nothing */
    assert_ok(store_upload_read(upload, 9, out, sizeof(out), &got, &err));
    assert_int_equal(got, 2);
    assert_memory_equal(out, "9x", 2);
    store_upload_close(upload);
    upload_remove(store, id);
}

static void test_long_upload_in_odd_pieces(void **state)
{
    struct store *store = store_of(state);
    struct str bytes = random_text(LONG_UPLOAD_BYTES);
    char id[UUID_TEXT_BYTES], record[32];
    struct digest digest = suite_digest(DIGEST_SHA256);
    struct store_upload *upload = upload_create(store, id);
    size_t done = 0, next = 1;
    for (unsigned n = 0; done < bytes.len; n++) {
        size_t len = next < bytes.len - done ? next : bytes.len - done;
        append(upload, (struct str){bytes.ptr + done, len});
        done += len;
        next = next * 3 % 999983;
        if (n % 10 == 9) {
            (void) snprintf(record, sizeof(record), "%zu", done);
            checkpoint(upload, record);
            store_upload_close(upload);
            upload = upload_open(store, id, record, done);
        }
    }
    commit(upload, &digest, bytes.len);
    store_upload_close(upload);
    suite_assert_blob(store, &digest, bytes);
    upload_remove(store, id);
    blob_delete(store, &digest);
    free_text(bytes);
}

static void test_biggest_record(void **state)
{
    struct store *store = store_of(state);
    char id[UUID_TEXT_BYTES], record[STORE_RECORD_BYTES_MAX + 1];
    struct store_upload *upload = upload_create(store, id);
    memset(record, 'r', STORE_RECORD_BYTES_MAX);
    record[STORE_RECORD_BYTES_MAX] = '\0';
    checkpoint(upload, record);
    store_upload_close(upload);
    upload = upload_open(store, id, record, 0);
    checkpoint(upload, "short");
    store_upload_close(upload);
    store_upload_close(upload_open(store, id, "short", 0));
    upload_remove(store, id);
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void test_upload_list(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    char ids[10][UUID_TEXT_BYTES];
    struct store_upload_info infos[COUNT_OF(ids) + 1];
    size_t count = 99;
    assert_ok(store_upload_list(store, NULL, COUNT_OF(infos), infos, &count, &err));
    assert_int_equal(count, 0);
    uint64_t before_ms = clock_wall_ms();
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        struct store_upload *upload = upload_create(store, ids[i]);
        checkpoint(upload, "record");
        store_upload_close(upload);
    }
    qsort(ids, COUNT_OF(ids), sizeof(ids[0]), compare_ids);
    assert_ok(store_upload_list(store, NULL, COUNT_OF(infos), infos, &count, &err));
    assert_int_equal(count, COUNT_OF(ids));
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(infos[i].id, ids[i]);
        assert_true(infos[i].last_activity_ms + 2000 >= before_ms);
        assert_true(infos[i].last_activity_ms <= clock_wall_ms() + 2000);
    }
    assert_ok(store_upload_list(store, ids[3], 4, infos, &count, &err));
    assert_int_equal(count, 4);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(infos[i].id, ids[4 + i]);
    assert_ok(store_upload_list(store, ids[COUNT_OF(ids) - 1], 4, infos, &count, &err));
    assert_int_equal(count, 0);
    for (size_t i = 0; i < COUNT_OF(ids); i++)
        upload_remove(store, ids[i]);
}

/* ---- a restart ---- */

static void test_a_restart_keeps_everything(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    char id[UUID_TEXT_BYTES], lost[UUID_TEXT_BYTES], secret[65];
    struct digest blob = suite_digest(DIGEST_SHA256), committed = suite_digest(DIGEST_SHA256);
    (void) snprintf(secret, sizeof(secret), "%s", store_secret(store));
    put(store, "restart/object", STR("kept"));
    suite_blob_put(store, &blob, STR("blob"));
    struct store_upload *upload = upload_create(store, id), *unkept = upload_create(store, lost);
    append(upload, STR("half"));
    checkpoint(upload, "4");
    append(upload, STR("lost"));
    append(unkept, STR("lost"));
    store_upload_close(upload);
    store_upload_close(unkept);

    suite.store = store = suite.driver->reopen(suite.driver->arg, store);
    assert_string_equal(store_secret(store), secret);
    suite_assert_object(store, "restart/object", STR("kept"));
    suite_assert_blob(store, &blob, STR("blob"));
    assert_no_upload(store, lost);
    upload = upload_open(store, id, "4", 4);
    append(upload, STR("whole"));
    commit(upload, &committed, 9);
    store_upload_close(upload);
    suite_assert_blob(store, &committed, STR("halfwhole"));
    upload_remove(store, id);
    upload_remove(store, lost);
    delete_one(store, "restart/object");
    blob_delete(store, &blob);
    blob_delete(store, &committed);
    assert_ok(store_probe(store, &err));
}

static void test_probe_and_properties(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    for (int i = 0; i < 3; i++)
        assert_ok(store_probe(store, &err));
    assert_true(store_caps(store)->parallel > 0);
    assert_true(strlen(store_name(store)) > 0);
    assert_non_null(store_boot_id(store));
    const char *secret = store_secret(store);
    assert_int_equal(strlen(secret), 64);
    assert_int_equal(strspn(secret, "0123456789abcdef"), 64);
}

/* ---- threads ---- */

/* Uploads of their own and of one blob that all push, each in two sittings; blobs share a folder and come and go. */
static void *race_uploads(void *arg)
{
    struct crew *crew = arg;
    for (int round = 0; round < thread_rounds(); round++) {
        struct digest own = suite_digest(DIGEST_SHA256);
        own.raw[0] = crew->shared.raw[0];
        const struct digest *digest = round % 2 ? &own : &crew->shared;
        char id[UUID_TEXT_BYTES];
        struct store_upload *upload = upload_create(crew->store, id);
        append(upload, STR("first "));
        checkpoint(upload, "6");
        store_upload_close(upload);
        upload = upload_open(crew->store, id, "6", 6);
        append(upload, STR("second"));
        commit(upload, digest, 12);
        store_upload_close(upload);
        suite_assert_blob(crew->store, digest, STR("first second"));
        upload_remove(crew->store, id);
        if (round % 2)
            blob_delete(crew->store, digest);
    }
    return NULL;
}

static void test_concurrent_uploads(void **state)
{
    struct store *store = store_of(state);
    struct crew crew;
    crew_run(&crew, store, race_uploads);
    suite_assert_blob(store, &crew.shared, STR("first second"));
    blob_delete(store, &crew.shared);
}

/* Every blob of one folder is deleted again at once, so that commits find it gone. */
static void *race_commit_and_delete(void *arg)
{
    struct crew *crew = arg;
    for (int round = 0; round < 4 * thread_rounds(); round++) {
        struct digest own = suite_digest(DIGEST_SHA256);
        own.raw[0] = crew->shared.raw[0];
        suite_blob_put(crew->store, &own, STR("short-lived"));
        blob_delete(crew->store, &own);
    }
    return NULL;
}

static void test_commits_beside_deletes(void **state)
{
    struct crew crew;
    crew_run(&crew, store_of(state), race_commit_and_delete);
}

int suite_run_uploads(void)
{
    static const struct CMUnitTest tests[] = {
        SUITE_TEST(test_blobs),
        SUITE_TEST(test_blob_reads),
        SUITE_TEST(test_readers_keep_a_deleted_blob),
        SUITE_TEST(test_upload),
        SUITE_TEST(test_nothing_is_kept_without_a_checkpoint),
        SUITE_TEST(test_what_was_not_checkpointed_is_forgotten),
        SUITE_TEST(test_commit_cuts_what_is_past_its_size),
        SUITE_TEST(test_commit_is_idempotent),
        SUITE_TEST(test_commit_of_bytes_that_are_nowhere),
        SUITE_TEST(test_commit_keeps_a_whole_blob_and_replaces_a_damaged_one),
        SUITE_TEST(test_upload_of_no_bytes),
        SUITE_TEST(test_seek),
        SUITE_TEST(test_reading_back),
        SUITE_TEST(test_long_upload_in_odd_pieces),
        SUITE_TEST(test_biggest_record),
        SUITE_TEST(test_upload_list),
        SUITE_TEST(test_a_restart_keeps_everything),
        SUITE_TEST(test_probe_and_properties),
        SUITE_TEST(test_concurrent_uploads),
        SUITE_TEST(test_commits_beside_deletes),
    };
    print_message("%s: uploads\n", suite.driver->name);
    return cmocka_run_group_tests_name("uploads", tests, suite_open, suite_close);
}

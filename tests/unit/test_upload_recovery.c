/* Uploads after damage, reboots and long silence. */
#include "upload_steps.h"

#include "registry/record.h"
#include "store/driver.h"

#define OTHER_BOOT "00000000-0000-4000-8000-000000000000"

/* ---- damage ---- */

static void data_path(const struct upload_id *id, const char *leaf, char *out)
{
    (void) snprintf(out, 128, "uploads/%s/%s", id->text, leaf);
}

static void test_lost_bytes(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = sha256_of("0123456789"), long_digest = digest_of(DIGEST_SHA512, STR("0123456789"));
    char path[128];

    struct upload_id id = start(fixture, DIGEST_SHA256); /* noticed when it is written to */
    patch(fixture, &id, 0, "0123456789");
    data_path(&id, "data", path);
    file_cut(fixture, path, 9);
    struct upload *upload = begin(fixture, &id, 10);
    assert_int_equal(upload_write(upload, "x", 1, &fixture->err), ERR_BLOB_UPLOAD_UNKNOWN);
    upload_abandon(upload);
    assert_unknown(fixture, &id);

    id = start(fixture, DIGEST_SHA256); /* when it is closed */
    patch(fixture, &id, 0, "0123456789");
    data_path(&id, "data", path);
    file_cut(fixture, path, 0);
    assert_int_equal(close_with(fixture, &id, &digest), ERR_BLOB_UPLOAD_UNKNOWN);
    assert_unknown(fixture, &id);

    id = start(fixture, DIGEST_SHA256); /* when it is read back */
    patch(fixture, &id, 0, "0123456789");
    data_path(&id, "data", path);
    file_cut(fixture, path, 5);
    assert_int_equal(close_with(fixture, &id, &long_digest), ERR_BLOB_UPLOAD_UNKNOWN);
    assert_unknown(fixture, &id);

    assert_no_blob(fixture, &digest);
    assert_no_blob(fixture, &long_digest);
    assert_int_equal(uploads_count(fixture), 0);
}

static void test_unreadable_records(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    char junk[STORE_RECORD_BYTES_MAX + 100];
    memset(junk, 'j', sizeof(junk));
    const struct str records[] = {
        STR(""), STR("ORLU"), STR("ORLU\0\3 and what a newer release wrote"), STR("{}"), {junk, sizeof(junk)}};
    for (size_t i = 0; i < COUNT_OF(records); i++) {
        for (int by_status = 0; by_status < 2; by_status++) {
            struct upload *upload;
            uint64_t size_bytes;
            struct upload_id id = start(fixture, DIGEST_SHA256);
            patch(fixture, &id, 0, "bytes");
            data_path(&id, "record", path);
            file_write(fixture, path, records[i]);
            if (by_status)
                assert_int_equal(status(fixture, &id, &size_bytes), ERR_BLOB_UPLOAD_UNKNOWN);
            else
                assert_int_equal(upload_begin(fixture->registry, &fixture->repo, &id, NULL, NULL, &upload, &size_bytes,
                                              &fixture->err),
                                 ERR_BLOB_UPLOAD_UNKNOWN);
            assert_unknown(fixture, &id);
            assert_int_equal(uploads_count(fixture), 0); /* the remains go at once */
        }
    }
}

static void test_records_of_version_1(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = sha256_of("oldnew");
    struct upload_id id = start(fixture, DIGEST_SHA256);
    patch(fixture, &id, 0, "old");
    char path[128];
    auto_buf record = BUF_INIT(0);
    auto_buf old = BUF_INIT(RECORD_BYTES_MAX);
    data_path(&id, "record", path);
    file_read(fixture, path, &record);
    /* Version 1 is version 2 without the boot id. */
    size_t boot_at = 6 + 1 + strlen(fixture->repo.text) + 16, boot_len = (uint8_t) record.ptr[boot_at];
    assert_true(buf_append(&old, record.ptr, boot_at));
    assert_true(buf_append(&old, record.ptr + boot_at + 1 + boot_len, record.len - boot_at - 1 - boot_len - 4));
    old.ptr[5] = 1;
    struct digest sum = digest_of(DIGEST_SHA256, buf_str(&old));
    assert_true(buf_append(&old, sum.raw, 4));
    file_write(fixture, path, buf_str(&old));

    assert_size(fixture, &id, 3);
    patch(fixture, &id, 3, "new");
    buf_free(&record);
    file_read(fixture, path, &record);
    assert_int_equal(record.ptr[5], RECORD_VERSION); /* brought up to date by the next checkpoint */
    assert_ok(close_with(fixture, &id, &digest));
    assert_blob(fixture, &digest, "oldnew");
}

/* ---- reboots ---- */

static void pretend_reboot(struct fixture *fixture)
{
    fixture_reopen(fixture);
    (void) snprintf(fixture->store->boot_id, sizeof(fixture->store->boot_id), "%s", OTHER_BOOT);
}

static void test_bytes_that_survived_a_reboot(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = sha256_of("before after");
    struct upload_id id = start(fixture, DIGEST_SHA256);
    patch(fixture, &id, 0, "before ");
    pretend_reboot(fixture);
    uint64_t before = rehashed();
    patch(fixture, &id, 7, "after");
    assert_int_equal(rehashed() - before, 7);
    before = rehashed();
    assert_ok(close_with(fixture, &id, &digest)); /* the last checkpoint is of this boot */
    assert_int_equal(rehashed(), before);
    assert_blob(fixture, &digest, "before after");
}

static void test_bytes_that_did_not_survive_a_reboot(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    struct upload *upload;
    uint64_t size_bytes;
    static const struct str damages[] = {{"before", 6}, {"bef\0\0\0 ", 7}, {"", 0}};
    for (size_t i = 0; i < COUNT_OF(damages); i++) {
        struct upload_id id = start(fixture, DIGEST_SHA256);
        patch(fixture, &id, 0, "before ");
        data_path(&id, "data", path);
        file_write(fixture, path, damages[i]);
        pretend_reboot(fixture);
        assert_int_equal(upload_begin(fixture->registry, &fixture->repo, &id, NULL, NULL, &upload, &size_bytes,
                                      &fixture->err),
                         ERR_BLOB_UPLOAD_UNKNOWN);
        assert_unknown(fixture, &id);
        assert_int_equal(uploads_count(fixture), 0);
        fixture_reopen(fixture);
    }
}

/* ---- expiry ---- */

static void expire(struct fixture *fixture, size_t expected)
{
    size_t count = 999;
    assert_ok(upload_expire(fixture->registry, &count, &fixture->err));
    assert_int_equal(count, expected);
}

static void test_idle_sessions_expire(void **state)
{
    struct fixture *fixture = *state;
    int64_t idle_ms = (int64_t) fixture->settings.upload_idle_ms_max;
    uint64_t expired = metric_counter_value(METRIC_UPLOADS_EXPIRED);
    expire(fixture, 0);
    struct upload_id old = start(fixture, DIGEST_SHA256), older = start(fixture, DIGEST_SHA256);
    patch(fixture, &old, 0, "bytes");
    clock_set_offset_for_tests(idle_ms - 60000);
    expire(fixture, 0);
    clock_set_offset_for_tests(idle_ms + 60000);
    struct upload_id fresh = start(fixture, DIGEST_SHA256);
    expire(fixture, 2);
    assert_unknown(fixture, &old);
    assert_unknown(fixture, &older);
    assert_size(fixture, &fresh, 0);
    assert_int_equal(metric_counter_value(METRIC_UPLOADS_EXPIRED), expired + 2);
    clock_set_offset_for_tests(2 * idle_ms + 120000);
    expire(fixture, 1);
    assert_int_equal(uploads_count(fixture), 0);
}

static void test_sessions_in_use_do_not_expire(void **state)
{
    struct fixture *fixture = *state;
    int64_t idle_ms = (int64_t) fixture->settings.upload_idle_ms_max;
    struct upload_id id = start(fixture, DIGEST_SHA256);
    struct upload *upload = begin(fixture, &id, 0);
    clock_set_offset_for_tests(idle_ms + 60000);
    expire(fixture, 0);
    feed(fixture, upload, "still here");
    finish(fixture, upload, 10);
    expire(fixture, 0); /* active now, whatever the files' times say */
    assert_size(fixture, &id, 10);
}

static void test_remains_expire(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    struct upload_id id = start(fixture, DIGEST_SHA256), died, newer = start(fixture, DIGEST_SHA256);
    uuid_new(died.text); /* a server that died before its first checkpoint */
    data_path(&died, "data", path);
    file_write(fixture, path, STR("bytes"));
    data_path(&id, "record", path);
    file_write(fixture, path, STR("no record"));
    data_path(&newer, "record", path);
    file_write(fixture, path, STR("ORLU\0\11 of a newer release"));
    assert_int_equal(uploads_count(fixture), 3);
    clock_set_offset_for_tests((int64_t) fixture->settings.upload_idle_ms_max + 60000);
    expire(fixture, 3);
    assert_int_equal(uploads_count(fixture), 0);
}

static void test_the_setting_may_change(void **state)
{
    struct fixture *fixture = *state;
    (void) start(fixture, DIGEST_SHA256);
    clock_set_offset_for_tests(61 * 1000);
    expire(fixture, 0);
    struct registry_settings settings = fixture->settings;
    settings.upload_idle_ms_max = 60 * 1000;
    registry_update_settings(fixture->registry, &settings);
    expire(fixture, 1);
}

#define UPLOAD_TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        UPLOAD_TEST(test_lost_bytes),
        UPLOAD_TEST(test_unreadable_records),
        UPLOAD_TEST(test_records_of_version_1),
        UPLOAD_TEST(test_bytes_that_survived_a_reboot),
        UPLOAD_TEST(test_bytes_that_did_not_survive_a_reboot),
        UPLOAD_TEST(test_idle_sessions_expire),
        UPLOAD_TEST(test_sessions_in_use_do_not_expire),
        UPLOAD_TEST(test_remains_expire),
        UPLOAD_TEST(test_the_setting_may_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "fixture.h"

#include "registry/record.h"

/* One upload's record in each version, 24 bytes in: every later release must read them, or say that it cannot. */
static const char golden_v1[] =
    "4f524c5500010b6c6962726172792f6170700000018bcfe5687b0000018bcfe56db0006a011800000000000000186a09"
    "e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd1968656c6c6f206f726c6f702c2068656c6c6f"
    "20776f726c64000000000000000000000000000000000000000000000000000000000000000000000000000000001ce5"
    "4be1";
static const char golden_v2[] =
    "4f524c5500020b6c6962726172792f6170700000018bcfe5687b0000018bcfe56db02435663065366232632d38663164"
    "2d346335392d396636652d303132333435363738396162006a011800000000000000186a09e667bb67ae853c6ef372a5"
    "4ff53a510e527f9b05688c1f83d9ab5be0cd1968656c6c6f206f726c6f702c2068656c6c6f20776f726c640000000000"
    "0000000000000000000000000000000000000000000000000000000000000000000000b1205666";
#define GOLDEN_BYTES STR("hello orlop, hello world")
#define GOLDEN_BOOT_ID "5f0e6b2c-8f1d-4c59-9f6e-0123456789ab"

static void hex_decode(const char *hex, struct buf *out)
{
    *out = BUF_INIT(RECORD_BYTES_MAX);
    for (const char *p = hex; *p; p += 2) {
        unsigned value;
        assert_int_equal(sscanf(p, "%2x", &value), 1);
        assert_true(buf_append_char(out, (char) (uint8_t) value));
    }
}

static struct upload_record golden_record(void)
{
    struct upload_record record = {.repo = repo_of("library/app"),
                                   .started_ms = 1700000000123,
                                   .active_ms = 1700000001456,
                                   .boot_id = GOLDEN_BOOT_ID};
    hash_init(&record.hash, DIGEST_SHA256);
    hash_update(&record.hash, GOLDEN_BYTES.ptr, GOLDEN_BYTES.len);
    return record;
}

static void assert_same(const struct upload_record *a, const struct upload_record *b)
{
    struct digest digest_a, digest_b;
    hash_digest(&a->hash, &digest_a);
    hash_digest(&b->hash, &digest_b);
    assert_string_equal(a->repo.text, b->repo.text);
    assert_true(a->started_ms == b->started_ms);
    assert_true(a->active_ms == b->active_ms);
    assert_string_equal(a->boot_id, b->boot_id);
    assert_true(a->hash.total_bytes == b->hash.total_bytes);
    assert_true(digest_equal(&digest_a, &digest_b));
}

static void test_golden_v2(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct upload_record expected = golden_record(), actual;
    auto_buf golden = BUF_INIT(0);
    auto_buf encoded = BUF_INIT(RECORD_BYTES_MAX);
    hex_decode(golden_v2, &golden);
    assert_ok(record_decode(buf_str(&golden), &actual, &err));
    assert_same(&actual, &expected);
    record_encode(&expected, &encoded);
    assert_int_equal(encoded.len, golden.len);
    assert_memory_equal(encoded.ptr, golden.ptr, golden.len);
}

static void test_golden_v1(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct upload_record expected = golden_record(), actual;
    auto_buf golden = BUF_INIT(0);
    expected.boot_id[0] = '\0';
    hex_decode(golden_v1, &golden);
    assert_ok(record_decode(buf_str(&golden), &actual, &err));
    assert_same(&actual, &expected);
}

static void test_round_trips(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct upload_record record = golden_record(), again;
    memset(record.repo.text, 'a', REPO_NAME_CHARS_MAX);
    record.repo.text[REPO_NAME_CHARS_MAX] = '\0';
    memset(record.boot_id, 'b', RECORD_BOOT_ID_CHARS_MAX);
    record.boot_id[RECORD_BOOT_ID_CHARS_MAX] = '\0';
    record.started_ms = UINT64_MAX;
    record.active_ms = 0;
    hash_init(&record.hash, DIGEST_SHA512);
    hash_update(&record.hash, record.repo.text, 200);
    auto_buf biggest = BUF_INIT(RECORD_BYTES_MAX);
    record_encode(&record, &biggest);
    assert_ok(record_decode(buf_str(&biggest), &again, &err));
    assert_same(&record, &again);

    record.boot_id[0] = '\0';
    record.repo = repo_of("a");
    hash_init(&record.hash, DIGEST_SHA256);
    auto_buf behind = BUF_INIT(RECORD_BYTES_MAX); /* the record is appended to what is there */
    assert_true(buf_append_text(&behind, "before"));
    record_encode(&record, &behind);
    assert_ok(record_decode((struct str){behind.ptr + 6, behind.len - 6}, &again, &err));
    assert_same(&record, &again);
}

static void test_truncations(void **state)
{
    (void) state;
    static const char *const goldens[] = {golden_v1, golden_v2};
    for (size_t i = 0; i < COUNT_OF(goldens); i++) {
        auto_buf golden = BUF_INIT(0);
        hex_decode(goldens[i], &golden);
        for (size_t len = 0; len < golden.len; len++) {
            struct err err = ERR_INIT;
            struct upload_record record;
            char *copy = malloc(len + 1); /* of that size, for the sanitizer */
            assert_non_null(copy);
            memcpy(copy, golden.ptr, len);
            copy = realloc(copy, len ? len : 1);
            assert_int_equal(record_decode((struct str){copy, len}, &record, &err), ERR_CORRUPT);
            free(copy);
        }
        struct err err = ERR_INIT;
        struct upload_record record;
        assert_true(buf_append_char(&golden, '\0'));
        assert_int_equal(record_decode(buf_str(&golden), &record, &err), ERR_CORRUPT);
    }
}

static void test_every_flipped_bit_is_noticed(void **state)
{
    (void) state;
    static const char *const goldens[] = {golden_v1, golden_v2};
    for (size_t i = 0; i < COUNT_OF(goldens); i++) {
        auto_buf golden = BUF_INIT(0);
        hex_decode(goldens[i], &golden);
        for (size_t bit = 0; bit < 8 * golden.len; bit++) {
            struct err err = ERR_INIT;
            struct upload_record record;
            golden.ptr[bit / 8] = (char) (golden.ptr[bit / 8] ^ (1 << bit % 8));
            enum err_code code = record_decode(buf_str(&golden), &record, &err);
            assert_true(code == ERR_CORRUPT || (code == ERR_VERSION && (bit / 8 == 4 || bit / 8 == 5)));
            golden.ptr[bit / 8] = (char) (golden.ptr[bit / 8] ^ (1 << bit % 8));
        }
    }
}

static void test_unknown_versions(void **state)
{
    (void) state;
    static const unsigned versions[] = {0, RECORD_VERSION + 1, 255, 256, 0xffff};
    for (size_t i = 0; i < COUNT_OF(versions); i++) {
        struct err err = ERR_INIT;
        struct upload_record record;
        auto_buf golden = BUF_INIT(0);
        hex_decode(golden_v2, &golden);
        golden.ptr[4] = (char) (uint8_t) (versions[i] >> 8);
        golden.ptr[5] = (char) (uint8_t) versions[i];
        assert_int_equal(record_decode(buf_str(&golden), &record, &err), ERR_VERSION);
        /* Of an unknown version nothing else is believed to be known. */
        assert_int_equal(record_decode((struct str){golden.ptr, 6}, &record, &err), ERR_VERSION);
    }
}

/* A record with a right checksum over wrong content: a text in place of another of the same length. */
static void check_content(const char *from, const char *to, size_t len)
{
    struct err err = ERR_INIT;
    struct upload_record record;
    auto_buf golden = BUF_INIT(0);
    hex_decode(golden_v2, &golden);
    char *place = memmem(golden.ptr, golden.len, from, len);
    assert_non_null(place);
    memcpy(place, to, len);
    struct digest sum = digest_of(DIGEST_SHA256, (struct str){golden.ptr, golden.len - 4});
    memcpy(golden.ptr + golden.len - 4, sum.raw, 4);
    assert_int_equal(record_decode(buf_str(&golden), &record, &err), ERR_CORRUPT);
}

static void test_wrong_content(void **state)
{
    (void) state;
    check_content("library/app", "Library/app", 11);
    check_content("library/app", "library/../", 11);
    check_content("library/app", "library\0app", 11);
    check_content(GOLDEN_BOOT_ID, "5f0e6b2c-8f1d-4c59-9f6e-0123456789a\0", 36);
    check_content("\x01\x18\0\0", "\x01\x19\0\0", 4); /* the state's pending bytes */
    check_content("\x01\x18\0\0", "\x03\x18\0\0", 4); /* its algorithm */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_v2),
        cmocka_unit_test(test_golden_v1),
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_truncations),
        cmocka_unit_test(test_every_flipped_bit_is_noticed),
        cmocka_unit_test(test_unknown_versions),
        cmocka_unit_test(test_wrong_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "fixture.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_parse_and_format(void **state)
{
    (void) state;
    static const char *const texts[] = {"sha256:" HEX64, "sha512:" HEX64 HEX64};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct digest digest;
        char text[DIGEST_TEXT_BYTES_MAX], hex[DIGEST_HEX_BYTES_MAX];
        assert_true(digest_parse(str_from(texts[i]), &digest));
        assert_int_equal(digest.algorithm, i == 0 ? DIGEST_SHA256 : DIGEST_SHA512);
        assert_int_equal(digest.raw[1], 0x23);
        digest_format(&digest, text);
        assert_string_equal(text, texts[i]);
        digest_format_hex(&digest, hex);
        assert_string_equal(hex, texts[i] + 7);
        struct digest again;
        assert_true(digest_parse_hex(digest.algorithm, str_from(hex), &again));
        assert_true(digest_equal(&digest, &again));
    }
}

static void test_bytes_past_the_length_are_zero(void **state)
{
    (void) state;
    struct digest digest;
    memset(&digest, 0xff, sizeof(digest));
    assert_true(digest_parse(STR("sha256:" HEX64), &digest));
    for (size_t i = 32; i < DIGEST_RAW_BYTES_MAX; i++)
        assert_int_equal(digest.raw[i], 0);
}

static void test_malformed(void **state)
{
    (void) state;
    static const struct str wrong[] = {
        {"", 0},
        {NULL, 0},
        {":", 1},
        {"sha256", 6},
        {"sha256:", 7},
        {HEX64, 64},
        {"sha256:" HEX64, 70},     /* a digit short */
        {"sha256:" HEX64 "0", 72}, /* and one too many */
        {"sha256:" HEX64, 72},     /* the NUL is no digit */
        {"sha256:" HEX64 HEX64, 7 + 128},
        {"sha512:" HEX64, 71},
        {"SHA256:" HEX64, 71},
        {"sha384:" HEX64, 71},
        {"sha256+b64:" HEX64, 75},
        {" sha256:" HEX64, 72},
        {"sha256: 123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 71},
        {"sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef", 71},
        {"sha256:g123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 71},
        {"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde/", 71},
        {"sha256::123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 71},
    };
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        struct digest digest, before;
        memset(&digest, 0x5a, sizeof(digest));
        before = digest;
        assert_false(digest_parse(wrong[i], &digest));
        assert_memory_equal(&digest, &before, sizeof(digest));
    }
}

static void test_equal(void **state)
{
    (void) state;
    struct digest a = sha256_of("a"), b = sha256_of("b"), long_a = digest_of(DIGEST_SHA512, STR("a"));
    assert_true(digest_equal(&a, &a));
    assert_false(digest_equal(&a, &b));
    assert_false(digest_equal(&a, &long_a));
    struct digest last = long_a;
    last.raw[63] ^= 1;
    assert_false(digest_equal(&last, &long_a));
}

static void test_algorithms(void **state)
{
    (void) state;
    enum digest_algorithm algorithm;
    assert_true(digest_algorithm_parse(STR("sha256"), &algorithm));
    assert_int_equal(algorithm, 1); /* the numbers stand in records */
    assert_true(digest_algorithm_parse(STR("sha512"), &algorithm));
    assert_int_equal(algorithm, 2);
    assert_string_equal(digest_algorithm_name(DIGEST_SHA256), "sha256");
    assert_string_equal(digest_algorithm_name(DIGEST_SHA512), "sha512");
    assert_int_equal(digest_raw_bytes(DIGEST_SHA256), 32);
    assert_int_equal(digest_raw_bytes(DIGEST_SHA512), 64);
    static const char *const wrong[] = {"", "sha", "sha25", "sha2566", "SHA256", "sha1", "md5"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        assert_false(digest_algorithm_parse(str_from(wrong[i]), &algorithm));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_and_format), cmocka_unit_test(test_bytes_past_the_length_are_zero),
        cmocka_unit_test(test_malformed),        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_algorithms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "base/buf.h"
#include "base/json_text.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_parse_u64(void **state)
{
    (void) state;
    uint64_t value = 7;
    assert_true(str_parse_u64(STR("0"), &value));
    assert_int_equal(value, 0);
    assert_true(str_parse_u64(STR("18446744073709551615"), &value));
    assert_true(value == UINT64_MAX);
    value = 7;
    static const char *const wrong[] = {
        "", "-1", "+1", " 1", "1 ", "1x", "0x1", "18446744073709551616", "99999999999999999999"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_false(str_parse_u64(str_from(wrong[i]), &value));
        assert_int_equal(value, 7);
    }
}

static void test_compare(void **state)
{
    (void) state;
    assert_true(str_compare(STR("a"), STR("b")) < 0);
    assert_true(str_compare(STR("ab"), STR("a")) > 0);
    assert_true(str_compare(STR(""), STR("a")) < 0);
    assert_true(str_compare(STR("\xff"), STR("a")) > 0);
    assert_int_equal(str_compare(STR("a"), STR("a")), 0);
    assert_int_equal(str_compare(str_from(NULL), STR("")), 0);
    assert_true(str_equal(str_from(NULL), STR("")));
    assert_true(str_starts(STR("abc"), STR("ab")));
    assert_false(str_starts(STR("a"), STR("ab")));
}

static void test_append_keeps_a_nul(void **state)
{
    (void) state;
    auto_buf buf = BUF_INIT(10000);
    assert_true(buf_append_text(&buf, "ab"));
    assert_true(buf_append_char(&buf, 'c'));
    assert_true(buf_append(&buf, "d\0e", 3));
    assert_int_equal(buf.len, 6);
    assert_memory_equal(buf.ptr, "abcd\0e", 7);
    for (int i = 0; i < 1000; i++)
        assert_true(buf_appendf(&buf, "%04d,", i));
    assert_int_equal(buf.len, 5006);
    assert_string_equal(buf.ptr + 6 + 5 * 999, "0999,");
    assert_false(buf.overflowed);
}

static void test_limit(void **state)
{
    (void) state;
    auto_buf buf = BUF_INIT(5);
    assert_true(buf_append_text(&buf, "1234"));
    assert_false(buf_append_text(&buf, "56"));
    assert_true(buf.overflowed);
    assert_string_equal(buf.ptr, "1234");
    assert_false(buf_appendf(&buf, "%d", 56));
    assert_string_equal(buf.ptr, "1234");
    assert_int_equal(buf.len, 4);
    assert_true(buf_append_char(&buf, '5'));
    assert_false(buf_append_char(&buf, '6'));
    assert_true(buf_append(&buf, "", 0));
    assert_false(buf_reserve(&buf, SIZE_MAX));

    buf_clear(&buf);
    assert_false(buf.overflowed);
    assert_int_equal(buf.len, 0);
    assert_true(buf_appendf(&buf, "%05d", 7));
    assert_string_equal(buf.ptr, "00007");
    buf_free(&buf);
    assert_null(buf.ptr);
    assert_int_equal(buf.max, 5);
}

static void test_limit_nothing(void **state)
{
    (void) state;
    auto_buf none = BUF_INIT(0);
    assert_false(buf_append_char(&none, 'x'));
    assert_string_equal(buf_str(&none).ptr, "");
    auto_buf empty = BUF_INIT(8);
    assert_true(buf_append(&empty, NULL, 0));
    assert_string_equal(empty.ptr, "");
}

static void test_appendf_grows_when_the_text_does_not_fit(void **state)
{
    (void) state;
    auto_buf buf = BUF_INIT(100000);
    assert_true(buf_appendf(&buf, "x%0500d", 0));
    assert_int_equal(buf.len, 501);
    assert_true(buf_appendf(&buf, "%5000s", "y"));
    assert_int_equal(buf.len, 5501);
    assert_int_equal(buf.ptr[5500], 'y');
    assert_int_equal(buf.ptr[5501], '\0');
}

static void test_append_u64(void **state)
{
    (void) state;
    static const uint64_t numbers[] = {0, 9, 10, 4096, 1234567890123, UINT64_MAX};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        char expected[32];
        auto_buf buf = BUF_INIT(20);
        (void) snprintf(expected, sizeof(expected), "%llu", (unsigned long long) numbers[i]);
        assert_true(buf_append_u64(&buf, numbers[i]));
        assert_string_equal(buf.ptr, expected);
    }
    auto_buf narrow = BUF_INIT(2);
    assert_false(buf_append_u64(&narrow, 100));
    assert_true(buf_append_u64(&narrow, 99));
}

static void test_on_an_array(void **state)
{
    (void) state;
    char array[8];
    struct buf buf = BUF_ON(array);
    assert_string_equal(buf.ptr, "");
    assert_true(buf_append_text(&buf, "1234567"));
    assert_false(buf_append_char(&buf, '8'));
    assert_string_equal(array, "1234567");
    assert_ptr_equal(buf.ptr, array);
}

static void check_json(struct str text, const char *expected)
{
    auto_buf buf = BUF_INIT(1000);
    assert_true(buf_append_json_string(&buf, text));
    assert_string_equal(buf.ptr, expected);
}

static void test_json_string(void **state)
{
    (void) state;
    check_json(STR(""), "\"\"");
    check_json(STR("plain"), "\"plain\"");
    check_json(STR("a\"b\\c/\n\r\t\b"), "\"a\\\"b\\\\c/\\n\\r\\t\\u0008\"");
    check_json(STR("\0\x1b[31m\x7f"), "\"\\u0000\\u001b[31m\\u007f\"");
    check_json(STR("\xc2\x9b\xc2\xa0"), "\"\\u009b\xc2\xa0\"");
    check_json(STR("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xb3"),
               "\"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xb3\"");
    /* Not UTF-8: a lone byte, a cut character, an overlong slash, a surrogate, beyond U+10FFFF. */
    check_json(STR("\xff."), "\"\\ufffd.\"");
    check_json(STR("\xe2\x82"), "\"\\ufffd\\ufffd\"");
    check_json(STR("\xc0\xaf"), "\"\\ufffd\\ufffd\"");
    check_json(STR("\xed\xa0\x80"), "\"\\ufffd\\ufffd\\ufffd\"");
    check_json(STR("\xf4\x90\x80\x80"), "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
}

static void test_json_string_says_when_it_does_not_fit(void **state)
{
    (void) state;
    auto_buf buf = BUF_INIT(6);
    assert_false(buf_append_json_string(&buf, STR("12345")));
    buf_clear(&buf);
    assert_true(buf_append_json_string(&buf, STR("1234")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_u64),          cmocka_unit_test(test_compare),
        cmocka_unit_test(test_append_keeps_a_nul), cmocka_unit_test(test_limit),
        cmocka_unit_test(test_limit_nothing),      cmocka_unit_test(test_appendf_grows_when_the_text_does_not_fit),
        cmocka_unit_test(test_append_u64),         cmocka_unit_test(test_on_an_array),
        cmocka_unit_test(test_json_string),        cmocka_unit_test(test_json_string_says_when_it_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "fixture.h"

#include "base/json.h"

static struct json *parse(const char *text)
{
    struct json *root = NULL;
    struct err err = ERR_INIT;
    assert_ok(json_parse(str_from(text), &root, &err));
    return root;
}

static void assert_invalid(struct str text, const char *message_part)
{
    struct json *root = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(json_parse(text, &root, &err), ERR_INVALID);
    assert_null(root);
    assert_non_null(strstr(err.message, message_part));
}

static void test_access(void **state)
{
    (void) state;
    struct str text;
    uint64_t number = 7;
    auto_json root = parse("{\"t\":\"gr\\u00fc\\u00df\",\"n\":9223372036854775807,\"z\":0,\"m\":-1,\"f\":1.5,\"e\":1e3,"
                           "\"l\":[1,{\"a\":\"b\"},\"x\"],\"o\":{},\"b\":true,\"0\":null}");
    assert_true(json_is_map(root));
    assert_false(json_is_list(root));
    assert_true(json_text(json_member(root, "t"), &text));
    assert_true(str_equal(text, STR("gr\xc3\xbc\xc3\x9f")));
    assert_int_equal(text.ptr[text.len], '\0');
    assert_true(json_u64(json_member(root, "z"), &number));
    assert_int_equal(number, 0);
    assert_true(json_u64(json_member(root, "n"), &number));
    assert_true(number == INT64_MAX);
    static const char *const no_numbers[] = {"t", "m", "f", "e", "l", "o", "b", "0", "absent"};
    for (size_t i = 0; i < COUNT_OF(no_numbers); i++)
        assert_false(json_u64(json_member(root, no_numbers[i]), &number));
    assert_true(number == INT64_MAX);

    const struct json *list = json_member(root, "l");
    assert_true(json_is_list(list));
    assert_int_equal(json_count(list), 3);
    assert_true(json_text(json_member(json_item(list, 1), "a"), &text));
    assert_true(json_text(json_item(list, 2), &text));
    assert_false(json_text(json_item(list, 0), &text));
    assert_null(json_item(list, 3));
}

static void test_nothing_is_no_value(void **state)
{
    (void) state;
    struct str text;
    uint64_t number;
    auto_json root = parse("[[]]");
    assert_null(json_member(NULL, "a"));
    assert_null(json_member(root, "a"));
    assert_null(json_item(NULL, 0));
    assert_int_equal(json_count(NULL), 0);
    assert_int_equal(json_count(json_item(root, 0)), 0);
    assert_false(json_is_map(NULL));
    assert_false(json_is_list(NULL));
    assert_false(json_text(NULL, &text));
    assert_false(json_u64(NULL, &number));
    assert_false(json_is_text_map(NULL));
    json_free(NULL);
}

static void test_malformed(void **state)
{
    (void) state;
    static const char *const wrong[] = {"",
                                        " ",
                                        "{",
                                        "}",
                                        "{} {}",
                                        "{\"a\":}",
                                        "{\"a\" 1}",
                                        "{'a':1}",
                                        "[1,]",
                                        "{\"a\":1,}",
                                        "nope",
                                        "[01]",
                                        "[+1]",
                                        "[\"\\x\"]",
                                        "[\"a]",
                                        "[NaN]",
                                        "[\"\t\"]",
                                        "/* */{}",
                                        "[1e999]",
                                        "\xef\xbb\xbf{}",
                                        "[18446744073709551616]",
                                        "[\"\\u0000\"]"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        assert_invalid(str_from(wrong[i]), "not valid JSON");
    assert_invalid((struct str){NULL, 0}, "not valid JSON");
    assert_invalid(STR("{\"a\":1}\0"), "not valid JSON");
    assert_invalid(STR("{\n\n  \"a\": oops}"), "line 3");
}

static void test_utf8_is_checked(void **state)
{
    (void) state;
    static const char *const wrong[] = {"[\"\xff\"]",     "[\"\xc3\"]",
                                        "[\"\xc0\xaf\"]", "[\"\xed\xa0\x80\"]",
                                        "[\"\\ud800\"]",  "[\"\\udc00\\ud800\"]",
                                        "{\"\xff\":1}",   "[\"\xf4\x90\x80\x80\"]"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        assert_invalid(str_from(wrong[i]), "not valid JSON");
    auto_json root = parse("[\"\\ud83d\\udc33\"]");
    struct str text;
    assert_true(json_text(json_item(root, 0), &text));
    assert_true(str_equal(text, STR("\xf0\x9f\x90\xb3")));
}

static void test_duplicate_keys_are_refused(void **state)
{
    (void) state;
    assert_invalid(STR("{\"a\":1,\"a\":1}"), "duplicate");
    assert_invalid(STR("[{\"x\":{\"a\":1,\"b\":2,\"\\u0061\":3}}]"), "duplicate");
    json_free(parse("[{\"a\":1},{\"a\":1}]"));
}

static void nested(struct buf *out, unsigned depth)
{
    *out = BUF_INIT(10000);
    for (unsigned i = 0; i < depth; i++)
        assert_true(buf_append_text(out, i % 2 ? "{\"[\":" : "["));
    if (depth % 2 == 0)
        assert_true(buf_append_text(out, "1"));
    for (unsigned i = depth; i-- > 0;)
        assert_true(buf_append_char(out, i % 2 ? '}' : ']'));
}

static void test_depth(void **state)
{
    (void) state;
    auto_buf deepest = BUF_INIT(0);
    auto_buf too_deep = BUF_INIT(0);
    nested(&deepest, JSON_DEPTH_MAX);
    nested(&too_deep, JSON_DEPTH_MAX + 1);
    json_free(parse(deepest.ptr));
    assert_invalid(buf_str(&too_deep), "deeper than 64");
    /* Brackets in texts are none, whatever is escaped there. */
    json_free(
        parse("[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[\\\\\"]"));
    /* Nor do closing ones that were never opened hide what follows. */
    auto_buf hidden = BUF_INIT(20000);
    for (unsigned i = 0; i < 1000; i++)
        assert_true(buf_append_char(&hidden, ']'));
    assert_true(buf_append(&hidden, too_deep.ptr, too_deep.len));
    assert_invalid(buf_str(&hidden), "deeper than 64");
}

static void list_of(struct buf *out, size_t count)
{
    *out = BUF_INIT(2 * count + 2);
    assert_true(buf_append_char(out, '['));
    for (size_t i = 0; i < count; i++)
        assert_true(buf_append_text(out, i ? ",1" : "1"));
    assert_true(buf_append_char(out, ']'));
}

static void test_number_of_values(void **state)
{
    (void) state;
    auto_buf most = BUF_INIT(0);
    auto_buf too_many = BUF_INIT(0);
    list_of(&most, JSON_VALUES_MAX - 1); /* the list is a value too */
    list_of(&too_many, JSON_VALUES_MAX);
    auto_json root = parse(most.ptr);
    assert_int_equal(json_count(root), JSON_VALUES_MAX - 1);
    assert_invalid(buf_str(&too_many), "more than 200000 values");
}

static void test_text_maps(void **state)
{
    (void) state;
    auto_json root = parse("[{},{\"a\":\"b\",\"c\":\"\"},{\"a\":\"b\",\"c\":1},{\"a\":null},[],\"a\"]");
    static const bool expected[] = {true, true, false, false, false, false};
    for (size_t i = 0; i < COUNT_OF(expected); i++)
        assert_int_equal(json_is_text_map(json_item(root, i)), expected[i]);
}

static void test_append(void **state)
{
    (void) state;
    static const char text[] = "{\"z\":[1,-2,true,null],\"a\":{\"k\":\"\\u0001\\\"\\\\ \xc3\xbc\"},\"e\":\"\"}";
    auto_json root = parse(text);
    auto_buf out = BUF_INIT(1000);
    assert_true(json_append(&out, root));
    assert_string_equal(out.ptr, text); /* compact, members in their order */
    buf_clear(&out);
    assert_true(json_append(&out, json_member(root, "e")));
    assert_string_equal(out.ptr, "\"\"");
    auto_buf small = BUF_INIT(10);
    assert_false(json_append(&small, root));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_access),
        cmocka_unit_test(test_nothing_is_no_value),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_utf8_is_checked),
        cmocka_unit_test(test_duplicate_keys_are_refused),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_number_of_values),
        cmocka_unit_test(test_text_maps),
        cmocka_unit_test(test_append),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

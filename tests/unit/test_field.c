#include "http/field.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void test_decodes_paths(void **state)
{
    static const struct {
        const char *text;
        const char *decoded; /* NULL: refused */
    } cases[] = {
        {"", ""},         {"/v2/a", "/v2/a"}, {"a%2Fb%3a", "a/b:"}, {"a+b", "a+b"}, {"%C3%A9", "\xc3\xa9"},
        {"%2e%2E", ".."}, {"%", NULL},        {"%4", NULL},         {"%4g", NULL},  {"a%00b", NULL},
        {"a%0Ab", NULL},  {"a\tb", NULL},     {"a\x7f", NULL},      {"a%7f", NULL}, {"%%41", NULL},
    };
    char out[64];
    size_t len;

    (void) state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        print_message("'%s'\n", cases[i].text);
        assert_int_equal(field_decode_path(str_from(cases[i].text), out, &len), cases[i].decoded != NULL);
        if (cases[i].decoded) {
            assert_string_equal(out, cases[i].decoded);
            assert_int_equal(len, strlen(out));
        }
    }
}

static void assert_value(struct str value, const char *expected)
{
    if (!expected) {
        assert_null(value.ptr);
        return;
    }
    assert_non_null(value.ptr);
    assert_true(str_equal(value, str_from(expected)));
    assert_int_equal(value.ptr[value.len], '\0');
}

static void test_parses_queries(void **state)
{
    struct field_query query;

    (void) state;
    assert_true(field_query_parse(STR("tag=a&tag=b+c&&n=10&digest=sha256%3Aab%2B&empty=&flag&x=a=b"), &query));
    assert_int_equal(query.count, 7);
    assert_value(field_query_get(&query, "tag"), "a");
    assert_value(field_query_get_nth(&query, "tag", 1), "b c");
    assert_value(field_query_get_nth(&query, "tag", 2), NULL);
    assert_value(field_query_get(&query, "digest"), "sha256:ab+");
    assert_value(field_query_get(&query, "empty"), "");
    assert_value(field_query_get(&query, "flag"), "");
    assert_value(field_query_get(&query, "x"), "a=b");
    assert_value(field_query_get(&query, "y"), NULL);
    field_query_free(&query);

    assert_true(field_query_parse((struct str){NULL, 0}, &query));
    assert_int_equal(query.count, 0);
    field_query_free(&query);
    assert_true(field_query_parse(STR("a"), &query));
    assert_value(field_query_get(&query, "a"), "");
    field_query_free(&query);
    assert_false(field_query_parse(STR("a=%"), &query));
    field_query_free(&query);
    assert_false(field_query_parse(STR("a=%00"), &query));
    field_query_free(&query);
}

static void test_bounds_queries(void **state)
{
    struct field_query query;
    char text[2 * (FIELD_QUERY_PAIRS_MAX + 1)];

    (void) state;
    for (size_t i = 0; i < sizeof(text); i += 2)
        memcpy(text + i, "a&", 2);
    assert_true(field_query_parse((struct str){text, sizeof(text) - 2}, &query));
    assert_int_equal(query.count, FIELD_QUERY_PAIRS_MAX);
    field_query_free(&query);
    assert_false(field_query_parse((struct str){text, sizeof(text)}, &query));
    field_query_free(&query);
}

static void test_parses_ranges(void **state)
{
    static const struct {
        const char *text;
        uint64_t size;
        enum field_range_kind kind;
        size_t count;
        struct field_range first;
        struct field_range second;
    } cases[] = {
        {"bytes=500-1499", 2048, FIELD_RANGE_SOME, 1, {500, 1500}, {0, 0}},
        {"bytes=500-", 2048, FIELD_RANGE_SOME, 1, {500, 2048}, {0, 0}},
        {"bytes=-500", 2048, FIELD_RANGE_SOME, 1, {1548, 2048}, {0, 0}},
        {"bytes=-5000", 2048, FIELD_RANGE_SOME, 1, {0, 2048}, {0, 0}},
        {"bytes=2000-5000", 2048, FIELD_RANGE_SOME, 1, {2000, 2048}, {0, 0}},
        {"bytes=0-18446744073709551615", 2048, FIELD_RANGE_SOME, 1, {0, 2048}, {0, 0}},
        {"Bytes = 0-0", 2048, FIELD_RANGE_NONE, 0, {0, 0}, {0, 0}},
        {"BYTES=0-0", 2048, FIELD_RANGE_SOME, 1, {0, 1}, {0, 0}},
        {"bytes= 0-0 , 5-6 ", 2048, FIELD_RANGE_SOME, 2, {0, 1}, {5, 7}},
        {"bytes=0-9,5000-,50-59", 2048, FIELD_RANGE_SOME, 2, {0, 10}, {50, 60}},
        {"bytes=500-0", 2048, FIELD_RANGE_UNSATISFIABLE, 0, {0, 0}, {0, 0}},
        {"bytes=2048-", 2048, FIELD_RANGE_UNSATISFIABLE, 0, {0, 0}, {0, 0}},
        {"bytes=-0", 2048, FIELD_RANGE_UNSATISFIABLE, 0, {0, 0}, {0, 0}},
        {"bytes=0-", 0, FIELD_RANGE_UNSATISFIABLE, 0, {0, 0}, {0, 0}},
        {"bytes=-1", 0, FIELD_RANGE_UNSATISFIABLE, 0, {0, 0}, {0, 0}},
        {"bytes=0-,0-", 2048, FIELD_RANGE_NONE, 0, {0, 0}, {0, 0}},
        {"bytes=", 2048, FIELD_RANGE_NONE, 0, {0, 0}, {0, 0}},
        {"bytes=,", 2048, FIELD_RANGE_NONE, 0, {0, 0}, {0, 0}},
        {"bytes=a-b", 2048, FIELD_RANGE_NONE, 0, {0, 0}, {0, 0}},
        {"bytes=1-2x", 2048, FIELD_RANGE_NONE, 0, {0, 0}, {0, 0}},
        {"bytes=-", 2048, FIELD_RANGE_NONE, 0, {0, 0}, {0, 0}},
        {"bytes=5", 2048, FIELD_RANGE_NONE, 0, {0, 0}, {0, 0}},
        {"bytes=99999999999999999999-", 2048, FIELD_RANGE_NONE, 0, {0, 0}, {0, 0}},
        {"items=0-1", 2048, FIELD_RANGE_NONE, 0, {0, 0}, {0, 0}},
        {"", 2048, FIELD_RANGE_NONE, 0, {0, 0}, {0, 0}},
    };
    struct field_ranges out;

    (void) state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        print_message("'%s' of %llu\n", cases[i].text, (unsigned long long) cases[i].size);
        assert_int_equal(field_range_parse(str_from(cases[i].text), cases[i].size, &out), cases[i].kind);
        if (cases[i].kind != FIELD_RANGE_SOME)
            continue;
        assert_int_equal(out.count, cases[i].count);
        assert_memory_equal(&out.ranges[0], &cases[i].first, sizeof(out.ranges[0]));
        if (out.count > 1)
            assert_memory_equal(&out.ranges[1], &cases[i].second, sizeof(out.ranges[1]));
    }
    assert_int_equal(field_range_parse((struct str){NULL, 0}, 10, &out), FIELD_RANGE_NONE);
}

static void test_bounds_ranges(void **state)
{
    struct field_ranges out;
    auto_buf text = BUF_INIT(4096);

    (void) state;
    assert_true(buf_append_text(&text, "bytes="));
    for (int i = 0; i < FIELD_RANGES_MAX; i++)
        assert_true(buf_appendf(&text, "%d-%d,", 2 * i, 2 * i));
    assert_int_equal(field_range_parse(buf_str(&text), 4096, &out), FIELD_RANGE_SOME);
    assert_int_equal(out.count, FIELD_RANGES_MAX);
    assert_true(buf_append_text(&text, "4000-4001"));
    assert_int_equal(field_range_parse(buf_str(&text), 4096, &out), FIELD_RANGE_NONE);
}

static void test_parses_content_ranges(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        uint64_t first;
        uint64_t end;
    } cases[] = {
        {"0-0", true, 0, 1},
        {"10-19", true, 10, 20},
        {" 10-19 ", true, 10, 20},
        {"bytes 10-19/100", true, 10, 20},
        {"bytes 10-19/*", true, 10, 20},
        {"0-18446744073709551614", true, 0, UINT64_MAX},
        {"0-18446744073709551615", false, 0, 0},
        {"19-10", false, 0, 0},
        {"10-", false, 0, 0},
        {"-10", false, 0, 0},
        {"bytes=0-1", false, 0, 0},
        {"bytes 0-1", false, 0, 0},
        {"bytes 0-10/10", false, 0, 0},
        {"bytes 0-10/x", false, 0, 0},
        {"bytes */10", false, 0, 0},
        {"0 - 1", false, 0, 0},
        {"+0-1", false, 0, 0},
        {"0-1,2-3", false, 0, 0},
        {"", false, 0, 0},
    };

    (void) state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint64_t first = 0;
        uint64_t end = 0;
        print_message("'%s'\n", cases[i].text);
        assert_int_equal(field_content_range_parse(str_from(cases[i].text), &first, &end), cases[i].ok);
        assert_int_equal(first, cases[i].first);
        assert_int_equal(end, cases[i].end);
    }
    assert_false(field_content_range_parse((struct str){NULL, 0}, &(uint64_t){0}, &(uint64_t){0}));
}

static void test_matches_etags(void **state)
{
    static const struct {
        const char *list;
        bool strong;
        bool weak;
    } cases[] = {
        {"\"a\"", true, true},
        {"W/\"a\"", false, true},
        {"*", true, true},
        {" \"b\" , \"a\"", true, true},
        {"\"b\",W/\"a\",\"c\"", false, true},
        {"\"b\"", false, false},
        {"a", false, false},
        {"\"a", false, false},
        {"\"x,\"a\"", false, false},
        {"\"\"", false, false},
        {"", false, false},
        {"W/", false, false},
    };

    (void) state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        print_message("'%s'\n", cases[i].list);
        assert_int_equal(field_etag_matches(str_from(cases[i].list), STR("a"), false), cases[i].strong);
        assert_int_equal(field_etag_matches(str_from(cases[i].list), STR("a"), true), cases[i].weak);
    }
    assert_false(field_etag_matches((struct str){NULL, 0}, STR("a"), true));
}

static void test_finds_media_types(void **state)
{
    static const struct {
        const char *text;
        const char *type;
    } cases[] = {
        {"application/json", "application/json"},
        {" application/vnd.oci.image.manifest.v1+json ; charset=utf-8", "application/vnd.oci.image.manifest.v1+json"},
        {"application", ""},
        {"application/", ""},
        {"/json", ""},
        {"a b/c", ""},
        {"a/b/c", ""},
        {"", ""},
    };

    (void) state;
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_true(str_equal(field_media_type(str_from(cases[i].text)), str_from(cases[i].type)));
    assert_int_equal(field_media_type((struct str){NULL, 0}).len, 0);
}

static void test_decodes_basic(void **state)
{
    static const struct {
        const char *text;
        const char *decoded; /* NULL: refused */
    } cases[] = {
        {"Basic dXNlcjpwYXNz", "user:pass"},
        {"basic  dXNlcjpwYXNzMQ==", "user:pass1"},
        {"Basic dXNlcjpwYXNzMQ", "user:pass1"},
        {"Basic dXNlcjpwYXNzMTI=", "user:pass12"},
        {"Basic Og==", ":"},
        {"Basic dXNlcg==", NULL}, /* no colon */
        {"Basic dTpwAA==", NULL}, /* NUL */
        {"Basic dXNlcjpwYXNz!", NULL},
        {"Basic dXNlc", NULL},
        {"Basic ====", NULL},
        {"Basic dX=lcjpw", NULL},
        {"Basic ", NULL},
        {"Basic", NULL},
        {"Bearer dXNlcjpwYXNz", NULL},
        {"", NULL},
    };
    char out[16];
    char small[9];

    (void) state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        print_message("'%s'\n", cases[i].text);
        assert_int_equal(field_basic_parse(str_from(cases[i].text), out, sizeof(out)), cases[i].decoded != NULL);
        if (cases[i].decoded)
            assert_string_equal(out, cases[i].decoded);
    }
    assert_false(field_basic_parse((struct str){NULL, 0}, out, sizeof(out)));
    assert_false(field_basic_parse(STR("Basic dXNlcjpwYXNz"), small, sizeof(small)));
}

static void test_encodes_query_values(void **state)
{
    auto_buf out = BUF_INIT(64);
    auto_buf small = BUF_INIT(4);

    (void) state;
    assert_true(field_encode_query(&out, STR("a-Z_0.9~/ +\xc3")));
    assert_string_equal(out.ptr, "a-Z_0.9~%2F%20%2B%C3");
    assert_false(field_encode_query(&small, STR("a//")));
}

static void test_knows_tokens(void **state)
{
    (void) state;
    assert_true(field_is_token(STR("X-Request-Id")));
    assert_false(field_is_token(STR("X Y")));
    assert_false(field_is_token(STR("X:")));
    assert_false(field_is_token(STR("X\0Y")));
    assert_false(field_is_token(STR("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decodes_paths),  cmocka_unit_test(test_parses_queries),
        cmocka_unit_test(test_bounds_queries), cmocka_unit_test(test_parses_ranges),
        cmocka_unit_test(test_bounds_ranges),  cmocka_unit_test(test_parses_content_ranges),
        cmocka_unit_test(test_matches_etags),  cmocka_unit_test(test_finds_media_types),
        cmocka_unit_test(test_decodes_basic),  cmocka_unit_test(test_encodes_query_values),
        cmocka_unit_test(test_knows_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

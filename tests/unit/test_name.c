#include "fixture.h"

#define GENERATED_NAMES 5000

/* A number below limit. */
static unsigned pick(unsigned limit)
{
    uint32_t number;
    random_bytes(&number, sizeof(number));
    return number % limit;
}

static bool name_is_valid(struct str text)
{
    struct repo_name name;
    struct err err = ERR_INIT;
    enum err_code code = repo_name_parse(text, &name, &err);
    if (code == ERR_OK)
        assert_true(str_equal(str_from(name.text), text));
    else
        assert_int_equal(code, ERR_NAME_INVALID);
    return code == ERR_OK;
}

static void test_repo_names(void **state)
{
    (void) state;
    static const char *const valid[] = {"a",           "0",
                                        "a/b",         "library/alpine",
                                        "a.b",         "a_b",
                                        "a__b",        "a-b",
                                        "a---b",       "a-----b/c",
                                        "0/1/2/3/4/5", "a.b_c__d-e--f/g",
                                        "x86_64",      "registry.example/team"};
    static const char *const invalid[] = {"A",    "a/B",   "/",     "/a",       "a/",   "a//b",    ".",
                                          "..",   "a/..",  "../a",  "a/./b",    ".a",   "a.",      "a..b",
                                          "_a",   "a_",    "a___b", "-a",       "a-",   "a/-b",    "a-/b",
                                          "a._b", "a_.b",  "a-.b",  "a.-b",     "a_-b", "a b",     "a:b",
                                          "a@b",  "a%2fb", "a\\b",  "\xc3\xa4", "a\n",  "a/_tags", "a/b./c"};
    for (size_t i = 0; i < COUNT_OF(valid); i++)
        assert_true(name_is_valid(str_from(valid[i])));
    for (size_t i = 0; i < COUNT_OF(invalid); i++)
        assert_false(name_is_valid(str_from(invalid[i])));
    assert_false(name_is_valid((struct str){NULL, 0}));
    assert_false(name_is_valid(STR("")));
    assert_false(name_is_valid(STR("a\0b")));
    assert_false(name_is_valid(STR("ab\0")));
}

static void test_repo_name_length(void **state)
{
    (void) state;
    char text[300];
    memset(text, 'a', sizeof(text));
    assert_true(name_is_valid((struct str){text, 255}));
    assert_false(name_is_valid((struct str){text, 256}));
    text[100] = '.'; /* counts twice */
    assert_true(name_is_valid((struct str){text, 254}));
    assert_false(name_is_valid((struct str){text, 255}));
    text[100] = '/';
    assert_true(name_is_valid((struct str){text, 255}));
}

static void test_the_first_mistake_is_named(void **state)
{
    (void) state;
    struct repo_name name;
    struct err err = ERR_INIT;
    assert_int_equal(repo_name_parse(STR(""), &name, &err), ERR_NAME_INVALID);
    assert_non_null(strstr(err.message, "empty"));
    assert_int_equal(repo_name_parse(STR("Upper"), &name, &err), ERR_NAME_INVALID);
    assert_non_null(strstr(err.message, "lower-case"));
    char text[256];
    memset(text, 'a', sizeof(text));
    assert_int_equal(repo_name_parse((struct str){text, 256}, &name, &err), ERR_NAME_INVALID);
    assert_non_null(strstr(err.message, "255"));
}

static bool tag_is_valid(struct str text)
{
    struct tag_name tag;
    struct err err = ERR_INIT;
    enum err_code code = tag_name_parse(text, &tag, &err);
    if (code == ERR_OK)
        assert_true(str_equal(str_from(tag.text), text));
    else
        assert_int_equal(code, ERR_TAG_INVALID);
    return code == ERR_OK;
}

static void test_tags(void **state)
{
    (void) state;
    static const char *const valid[] = {"a",  "A",  "0",  "_",          "__", "latest", "v1.2.3-rc.1_x",
                                        "Z-", "a.", "_.", "sha256-0123"};
    static const char *const invalid[] = {"",    ".",   "..",  ".a",  "-a",       "a/b",
                                          "a:b", "a b", "a+b", "a@b", "\xc3\xa4", "a\n"};
    for (size_t i = 0; i < COUNT_OF(valid); i++)
        assert_true(tag_is_valid(str_from(valid[i])));
    for (size_t i = 0; i < COUNT_OF(invalid); i++)
        assert_false(tag_is_valid(str_from(invalid[i])));
    char text[129];
    memset(text, 'a', sizeof(text));
    assert_true(tag_is_valid((struct str){text, 128}));
    assert_false(tag_is_valid((struct str){text, 129}));
    assert_false(tag_is_valid(STR("a\0b")));
    assert_false(tag_is_valid((struct str){NULL, 0}));
    for (unsigned c = 1; c < 256; c++) { /* every byte, first and later */
        char pair[2] = {(char) c, 'x'}, later[2] = {'x', (char) c};
        bool word = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        assert_int_equal(tag_is_valid((struct str){pair, 2}), word);
        assert_int_equal(tag_is_valid((struct str){later, 2}), word || c == '.' || c == '-');
    }
}

static void test_references(void **state)
{
    (void) state;
    struct reference reference;
    struct err err = ERR_INIT;
    struct digest digest = sha256_of("x");
    assert_ok(reference_parse(STR("latest"), &reference, &err));
    assert_false(reference.is_digest);
    assert_string_equal(reference.tag.text, "latest");
    assert_ok(reference_parse(str_from(digest_text(&digest)), &reference, &err));
    assert_true(reference.is_digest);
    assert_true(digest_equal(&reference.digest, &digest));
    assert_int_equal(reference_parse(STR("sha256:12"), &reference, &err), ERR_DIGEST_INVALID);
    assert_int_equal(reference_parse(STR("md5:d41d8cd98f00b204e9800998ecf8427e"), &reference, &err),
                     ERR_DIGEST_INVALID);
    assert_int_equal(reference_parse(STR("a:b"), &reference, &err), ERR_DIGEST_INVALID);
    assert_int_equal(reference_parse(STR(":"), &reference, &err), ERR_DIGEST_INVALID);
    assert_int_equal(reference_parse(STR(".hidden"), &reference, &err), ERR_TAG_INVALID);
    assert_int_equal(reference_parse(STR(""), &reference, &err), ERR_TAG_INVALID);
}

/* ---- the escaped form ---- */

static void test_escape(void **state)
{
    (void) state;
    static const struct {
        const char *name, *escaped;
    } pairs[] = {{"a", "a"}, {"a/b", "a.b"}, {"a.b", "a..b"}, {"a.b/c.d/e", "a..b.c..d.e"}, {"a_b-c__d", "a_b-c__d"}};
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        struct repo_name name = repo_of(pairs[i].name), again;
        char escaped[REPO_NAME_CHARS_MAX + 1];
        repo_name_escape(&name, escaped);
        assert_string_equal(escaped, pairs[i].escaped);
        assert_true(repo_name_unescape(escaped, &again));
        assert_string_equal(again.text, pairs[i].name);
    }
}

static void test_unescape_refuses(void **state)
{
    (void) state;
    static const char *const wrong[] = {"",    ".",     "..",     "...", "a.", ".a",  "a..",
                                        "..a", "a...b", "a....b", "a/b", "A",  "a b", "a-.b"};
    struct repo_name name;
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        assert_false(repo_name_unescape(wrong[i], &name));
    char text[600];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_false(repo_name_unescape(text, &name));
    text[256] = '\0';
    assert_false(repo_name_unescape(text, &name));
    text[255] = '\0';
    assert_true(repo_name_unescape(text, &name));
}

/* Few letters and many separators, so that generated names often share a beginning and differ in a separator. */
static struct repo_name generated_name(void)
{
    static const char *const separators[] = {".", "_", "__", "-", "--", "/", "/", "."};
    char text[200] = "";
    size_t len = 0;
    unsigned words = 1 + pick(6);
    for (unsigned w = 0; w < words; w++) {
        if (w > 0)
            len += (size_t) snprintf(text + len, sizeof(text) - len, "%s", separators[pick(COUNT_OF(separators))]);
        for (unsigned n = 1 + pick(2); n > 0; n--)
            text[len++] = "a0z"[pick(3)];
    }
    return repo_of(text);
}

static int sign(int order)
{
    return (order > 0) - (order < 0);
}

static void test_escaping_is_reversible_and_keeps_the_order(void **state)
{
    (void) state;
    struct repo_name previous = repo_of("a");
    for (int i = 0; i < GENERATED_NAMES; i++) {
        struct repo_name name = generated_name(), again;
        char escaped[REPO_NAME_CHARS_MAX + 1], escaped_previous[REPO_NAME_CHARS_MAX + 1];
        repo_name_escape(&name, escaped);
        repo_name_escape(&previous, escaped_previous);
        assert_null(strchr(escaped, '/'));
        assert_true(repo_name_unescape(escaped, &again));
        assert_string_equal(again.text, name.text);
        assert_int_equal(sign(strcmp(name.text, previous.text)), sign(strcmp(escaped, escaped_previous)));
        previous = name;
    }
}

static void test_what_unescapes_is_an_escaped_name(void **state)
{
    (void) state;
    unsigned accepted = 0;
    for (int i = 0; i < 20 * GENERATED_NAMES; i++) {
        char text[9], again[REPO_NAME_CHARS_MAX + 1];
        struct repo_name name;
        unsigned len = pick(sizeof(text));
        for (unsigned n = 0; n < len; n++)
            text[n] = "a..-_b"[pick(6)];
        text[len] = '\0';
        if (!repo_name_unescape(text, &name))
            continue;
        accepted++;
        repo_name_escape(&name, again);
        assert_string_equal(again, text);
    }
    assert_true(accepted > 1000);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repo_names),
        cmocka_unit_test(test_repo_name_length),
        cmocka_unit_test(test_the_first_mistake_is_named),
        cmocka_unit_test(test_tags),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_unescape_refuses),
        cmocka_unit_test(test_escaping_is_reversible_and_keeps_the_order),
        cmocka_unit_test(test_what_unescapes_is_an_escaped_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

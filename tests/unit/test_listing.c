#include "fixture.h"

#include "registry/keys.h"
#include "registry/listing.h"

static void push_tag(struct fixture *fixture, const char *repo_name, const char *tag)
{
    struct repo_name repo = repo_of(repo_name);
    (void) push_image(fixture, &repo, tag, NULL, NULL, "x");
}

static void assert_names(const struct store_names *names, bool more, const char *const *expected)
{
    size_t count = 0;
    while (expected[count])
        count++;
    assert_int_equal(names->count, count);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(names->items[i], expected[i]);
    assert_int_equal(names->more, more);
}

static void assert_tags(struct fixture *fixture, const char *after, size_t limit, bool more,
                        const char *const *expected)
{
    struct store_names names;
    assert_ok(tags_list(fixture->registry, &fixture->repo, after, limit, &names, &fixture->err));
    assert_names(&names, more, expected);
    store_names_free(&names);
}

static void assert_catalog(struct fixture *fixture, const char *after, size_t limit, bool more,
                           const char *const *expected)
{
    struct store_names names;
    assert_ok(catalog_list(fixture->registry, after, limit, &names, &fixture->err));
    assert_names(&names, more, expected);
    store_names_free(&names);
}

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NO_NAMES ((const char *const[]){NULL})

static void test_tags(void **state)
{
    struct fixture *fixture = *state;
    static const char *const tags[] = {"v10", "v2", "latest", "V1", "_x", "1.0", "1.0-rc"};
    for (size_t i = 0; i < COUNT_OF(tags); i++)
        push_tag(fixture, "library/app", tags[i]);
    push_tag(fixture, "library/app/nested", "not-ours");
    assert_tags(fixture, NULL, 100, false, NAMES("1.0", "1.0-rc", "V1", "_x", "latest", "v10", "v2"));
    assert_tags(fixture, "", 3, true, NAMES("1.0", "1.0-rc", "V1"));
    assert_tags(fixture, "V1", 3, true, NAMES("_x", "latest", "v10"));
    assert_tags(fixture, "v10", 3, false, NAMES("v2"));
    assert_tags(fixture, "v2", 3, false, NO_NAMES);
    assert_tags(fixture, "M nothing of that name", 1, true, NAMES("V1"));
    assert_tags(fixture, NULL, 7, false, NAMES("1.0", "1.0-rc", "V1", "_x", "latest", "v10", "v2"));
    assert_tags(fixture, NULL, 0, true, NO_NAMES);
}

static void test_tags_of_no_repository(void **state)
{
    struct fixture *fixture = *state;
    struct store_names names;
    assert_int_equal(tags_list(fixture->registry, &fixture->repo, NULL, 10, &names, &fixture->err), ERR_NAME_UNKNOWN);
    assert_non_null(strstr(fixture->err.message, "library/app"));
    assert_int_equal(names.count, 0);
    (void) push_blob(fixture, &fixture->repo, STR("a blob alone makes none"));
    assert_int_equal(tags_list(fixture->registry, &fixture->repo, NULL, 10, &names, &fixture->err), ERR_NAME_UNKNOWN);
    push_tag(fixture, "library/app/nested", "v1"); /* nor does one below */
    assert_int_equal(tags_list(fixture->registry, &fixture->repo, NULL, 10, &names, &fixture->err), ERR_NAME_UNKNOWN);
}

static void test_a_repository_without_tags(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = push_image(fixture, &fixture->repo, NULL, NULL, NULL, "x");
    assert_tags(fixture, NULL, 10, false, NO_NAMES);
    push_tag(fixture, "library/app", "v1");
    assert_tags(fixture, NULL, 10, false, NAMES("v1"));
    assert_ok(manifest_delete(fixture->registry, &fixture->repo, &digest, &fixture->err));
    assert_tags(fixture, NULL, 10, false, NO_NAMES); /* once a repository, always one */
}

static void test_catalog(void **state)
{
    struct fixture *fixture = *state;
    static const char *const repos[] = {"b", "a/b", "a.b", "a", "a-b", "a/b/c", "a_b", "ab", "a0", "a.b/c"};
    assert_catalog(fixture, NULL, 10, false, NO_NAMES);
    for (size_t i = 0; i < COUNT_OF(repos); i++)
        push_tag(fixture, repos[i], NULL);
    struct repo_name blobs_only = repo_of("blobs/only");
    (void) push_blob(fixture, &blobs_only, STR("x"));
    assert_catalog(fixture, NULL, 100, false,
                   NAMES("a", "a-b", "a.b", "a.b/c", "a/b", "a/b/c", "a0", "a_b", "ab", "b"));
    char after[REPO_NAME_CHARS_MAX + 1] = "";
    static const char *const order[] = {"a", "a-b", "a.b", "a.b/c", "a/b", "a/b/c", "a0", "a_b", "ab", "b"};
    for (size_t i = 0; i < COUNT_OF(order); i++) { /* page by page */
        assert_catalog(fixture, after, 1, i + 1 < COUNT_OF(order), NAMES(order[i]));
        (void) snprintf(after, sizeof(after), "%s", order[i]);
    }
    assert_catalog(fixture, after, 1, false, NO_NAMES);
    assert_catalog(fixture, "a.c", 2, true, NAMES("a/b", "a/b/c"));
    assert_catalog(fixture, "Z", 1, true, NAMES("a"));
    assert_catalog(fixture, "zzz", 1, false, NO_NAMES);
}

static void test_catalog_after_anything(void **state)
{
    struct fixture *fixture = *state;
    struct store_names names;
    char longest[2000];
    push_tag(fixture, "a", NULL);
    memset(longest, '.', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    static const char *const odd[] = {".", "..", "/", "a/", "a..b", "../../x", "\xff\xfe", "a\nb"};
    for (size_t i = 0; i < COUNT_OF(odd); i++) {
        assert_ok(catalog_list(fixture->registry, odd[i], 10, &names, &fixture->err));
        assert_true(names.count <= 1);
        store_names_free(&names);
    }
    assert_ok(catalog_list(fixture->registry, longest, 10, &names, &fixture->err));
    store_names_free(&names);
    object_put(fixture, "names/NOT-a-name", STR("")); /* what is no name is not listed */
    assert_catalog(fixture, NULL, 10, false, NAMES("a"));
}

/* `last` need not be a name: whatever it is, what comes after it in byte order is listed. */
static void test_after_anything_is_byte_order(void **state)
{
    struct fixture *fixture = *state;
    static const char *const order[] = {"a",     "a-b",   "a.b",   "a.b-c", "a.b.c", "a.b/c", "a/b",
                                        "a/b-c", "a/b.c", "a/b/c", "a0",    "a_b",   "ab",    "b"};
    static const char alphabet[] = {'a', 'b', 'a', 'b', '-', '.', '.', '/', '/', '_', '0', '~', ' ', 1, '\xff'};
    for (size_t i = 0; i < COUNT_OF(order); i++) {
        char key[KEY_BYTES];
        struct repo_name repo = repo_of(order[i]);
        key_catalog(&repo, key);
        object_put(fixture, key, STR(""));
        if (strchr(order[i], '/')) /* the others are tags too */
            continue;
        (void) snprintf(key, sizeof(key), "repos/b/_tags/%s", order[i]);
        object_put(fixture, key, STR(""));
    }
    struct repo_name tagged = repo_of("b"); /* one that there is */
    for (uint32_t number = 0; number < 3000; number++) {
        char after[8] = "";
        struct store_names names, tags;
        uint32_t left = number * 2654435761U;
        size_t len = number % sizeof(after), expected = 0, expected_tags = 0;
        for (size_t i = 0; i < len; i++, left = left * 1664525U + 1013904223U)
            after[i] = alphabet[(left >> 16) % sizeof(alphabet)];
        after[len] = '\0';
        assert_ok(catalog_list(fixture->registry, after, 100, &names, &fixture->err));
        assert_ok(tags_list(fixture->registry, &tagged, after, 100, &tags, &fixture->err));
        for (size_t i = 0; i < COUNT_OF(order); i++) {
            if (strcmp(order[i], after) <= 0)
                continue;
            assert_true(expected < names.count);
            assert_string_equal(names.items[expected++], order[i]);
            if (!strchr(order[i], '/'))
                assert_string_equal(tags.items[expected_tags++], order[i]);
        }
        assert_int_equal(names.count, expected);
        assert_int_equal(tags.count, expected_tags);
        store_names_free(&names);
        store_names_free(&tags);
    }
}

#define LISTING_TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        LISTING_TEST(test_tags),
        LISTING_TEST(test_tags_of_no_repository),
        LISTING_TEST(test_a_repository_without_tags),
        LISTING_TEST(test_catalog),
        LISTING_TEST(test_catalog_after_anything),
        LISTING_TEST(test_after_anything_is_byte_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

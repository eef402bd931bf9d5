/* The contract's first part: objects, lists, walks. */
#include "suite_priv.h"

#define MANY_NAMES 230

static void test_put_and_get(void **state)
{
    struct store *store = store_of(state);
    suite_assert_missing(store, "top/object");
    put(store, "top/object", STR("content"));
    suite_assert_object(store, "top/object", STR("content"));
    put(store, "top/object", STR("other content"));
    suite_assert_object(store, "top/object", STR("other content"));
    put(store, "top/object", STR("less"));
    suite_assert_object(store, "top/object", STR("less"));
    put(store, "top/a/b/c/d", STR("\0binary\xff\n\0"));
    suite_assert_object(store, "top/a/b/c/d", STR("\0binary\xff\n\0"));
    suite_assert_object(store, "top/object", STR("less"));
    delete_one(store, "top/object");
    delete_one(store, "top/a/b/c/d");
    suite_assert_missing(store, "top/object");
}

static void test_put_new_keeps_what_is_there(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    assert_ok(store_put(store, "new/object", STR("first"), STORE_PUT_NEW, &err));
    assert_int_equal(store_put(store, "new/object", STR("second"), STORE_PUT_NEW, &err), ERR_EXISTS);
    suite_assert_object(store, "new/object", STR("first"));
    put(store, "new/object", STR("third"));
    assert_int_equal(store_put(store, "new/object", STR(""), STORE_PUT_NEW, &err), ERR_EXISTS);
    suite_assert_object(store, "new/object", STR("third"));
    delete_one(store, "new/object");
    assert_ok(store_put(store, "new/object", STR("fourth"), STORE_PUT_NEW, &err));
    suite_assert_object(store, "new/object", STR("fourth"));
    delete_one(store, "new/object");
}

static void test_empty_objects(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    put(store, "empty/one", STR(""));
    suite_assert_object(store, "empty/one", STR(""));
    assert_int_equal(store_put(store, "empty/one", STR("x"), STORE_PUT_NEW, &err), ERR_EXISTS);
    auto_buf none = BUF_INIT(0);
    assert_ok(store_get(store, "empty/one", &none, &err));
    put(store, "empty/one", STR("full"));
    put(store, "empty/one", STR(""));
    suite_assert_object(store, "empty/one", STR(""));
    delete_one(store, "empty/one");
}

static void test_biggest_object(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    struct str bytes = random_text(STORE_OBJECT_BYTES_MAX);
    put(store, "big/object", bytes);
    suite_assert_object(store, "big/object", bytes);
    auto_buf exact = BUF_INIT(STORE_OBJECT_BYTES_MAX);
    auto_buf less = BUF_INIT(STORE_OBJECT_BYTES_MAX - 1);
    assert_ok(store_get(store, "big/object", &exact, &err));
    assert_int_equal(store_get(store, "big/object", &less, &err), ERR_LIMIT);
    free_text(bytes);
    delete_one(store, "big/object");
}

static void test_get_appends_up_to_the_limit(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    auto_buf out = BUF_INIT(16);
    put(store, "limit/object", STR("12345678"));
    assert_ok(store_get(store, "limit/object", &out, &err));
    assert_ok(store_get(store, "limit/object", &out, &err));
    assert_string_equal(out.ptr, "1234567812345678");
    assert_int_equal(store_get(store, "limit/object", &out, &err), ERR_LIMIT);
    buf_clear(&out);
    assert_true(buf_append_text(&out, "123456789"));
    assert_int_equal(store_get(store, "limit/object", &out, &err), ERR_LIMIT);
    assert_memory_equal(out.ptr, "123456789", 9);
    auto_buf none = BUF_INIT(0);
    assert_int_equal(store_get(store, "limit/object", &none, &err), ERR_LIMIT);
    delete_one(store, "limit/object");
}

static void test_missing_objects(void **state)
{
    struct store *store = store_of(state);
    static const char *const keys[] = {"missing", "missing/a", "missing/a/b/c", "present/a/b", "present/b"};
    put(store, "present/a/x", STR("x"));
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        suite_assert_missing(store, keys[i]);
    delete_one(store, "present/a/x");
}

static void test_longest_keys(void **state)
{
    struct store *store = store_of(state);
    char key[STORE_KEY_BYTES_MAX + 1], longest[256];
    memset(key, 'k', STORE_KEY_BYTES_MAX);
    key[STORE_KEY_BYTES_MAX] = '\0';
    for (size_t i = 255; i < STORE_KEY_BYTES_MAX; i += 256) /* three components of 255 bytes, as file systems allow */
        key[i] = '/';
    put(store, key, STR("far away"));
    suite_assert_object(store, key, STR("far away"));
    char prefix[STORE_KEY_BYTES_MAX + 1];
    (void) snprintf(prefix, sizeof(prefix), "%.512s", key);
    memset(longest, 'k', 255);
    longest[255] = '\0';
    assert_list(store, prefix, NULL, 10, false, NAMES(longest));
    delete_one(store, key);
    suite_assert_missing(store, key);
}

static void test_delete(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    static const char *const keys[] = {"delete/a", "delete/missing", "delete/b/c/d", "nowhere/x", "delete/e"};
    put(store, "delete/a", STR("a"));
    put(store, "delete/b/c/d", STR("d"));
    put(store, "delete/e", STR("e"));
    put(store, "delete/kept", STR("kept"));
    assert_ok(store_delete(store, keys, COUNT_OF(keys), &err));
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        suite_assert_missing(store, keys[i]);
    suite_assert_object(store, "delete/kept", STR("kept"));
    assert_ok(store_delete(store, keys, COUNT_OF(keys), &err));
    assert_ok(store_delete(store, keys, 0, &err));
    delete_one(store, "delete/kept");
    assert_list(store, "delete/", NULL, 10, false, NO_NAMES);
    put(store, "delete/a", STR("again"));
    suite_assert_object(store, "delete/a", STR("again"));
    delete_one(store, "delete/a");
}

/* ---- lists ---- */

static void test_list_in_byte_order(void **state)
{
    struct store *store = store_of(state);
    static const char *const names[] = {"z",  "a", "a.b", "a-b", "a0", "aA", "a_b",
                                        "ab", "B", "1",   "10",  "2",  "_",  "\xc3\xa4"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char key[64];
        (void) snprintf(key, sizeof(key), "order/x/%s", names[i]);
        put(store, key, STR(""));
    }
    put(store, "order/x/c/deeper", STR("not directly below"));
    put(store, "order/xx", STR("beside"));
    assert_list(store, "order/x/", NULL, 100, false,
                NAMES("1", "10", "2", "B", "_", "a", "a-b", "a.b", "a0", "aA", "a_b", "ab", "z", "\xc3\xa4"));
    assert_list(store, "order/x/", "", 100, false,
                NAMES("1", "10", "2", "B", "_", "a", "a-b", "a.b", "a0", "aA", "a_b", "ab", "z", "\xc3\xa4"));
    assert_list(store, "order/x/", "a0", 100, false, NAMES("aA", "a_b", "ab", "z", "\xc3\xa4"));
    assert_list(store, "order/x/", "a/", 2, true, NAMES("a0", "aA")); /* nothing of that name */
    assert_list(store, "order/x/", "\xff", 100, false, NO_NAMES);
    assert_list(store, "order/", NULL, 100, false, NAMES("xx"));
    assert_list(store, "order/x/c/", NULL, 100, false, NAMES("deeper"));
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char key[64];
        (void) snprintf(key, sizeof(key), "order/x/%s", names[i]);
        delete_one(store, key);
    }
    delete_one(store, "order/x/c/deeper");
    delete_one(store, "order/xx");
}

static void test_list_limits(void **state)
{
    struct store *store = store_of(state);
    put(store, "few/a", STR(""));
    put(store, "few/b", STR(""));
    put(store, "few/c", STR(""));
    assert_list(store, "few/", NULL, 3, false, NAMES("a", "b", "c"));
    assert_list(store, "few/", NULL, 2, true, NAMES("a", "b"));
    assert_list(store, "few/", NULL, 1, true, NAMES("a"));
    assert_list(store, "few/", NULL, 0, true, NO_NAMES);
    assert_list(store, "few/", "a", 2, false, NAMES("b", "c"));
    assert_list(store, "few/", "a", 1, true, NAMES("b"));
    assert_list(store, "few/", "b", 1, false, NAMES("c"));
    assert_list(store, "few/", "c", 1, false, NO_NAMES);
    assert_list(store, "few/", "c", 0, false, NO_NAMES);
    assert_list(store, "few/", NULL, STORE_LIST_MAX, false, NAMES("a", "b", "c"));
    delete_one(store, "few/a");
    delete_one(store, "few/b");
    delete_one(store, "few/c");
}

/* What a page begins after need not be a name, nor text. */
static void test_list_after_anything(void **state)
{
    struct store *store = store_of(state);
    char longest[4096];
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    put(store, "odd/a", STR(""));
    put(store, "odd/a-", STR(""));
    put(store, "odd/b", STR(""));
    assert_list(store, "odd/", "a\xff", 1, false, NAMES("b"));
    assert_list(store, "odd/", "a\xc3", 2, false, NAMES("b"));
    assert_list(store, "odd/", "a\xe2\x82\xac", 1, false, NAMES("b"));
    assert_list(store, "odd/", "\x80", 1, false, NO_NAMES);
    assert_list(store, "odd/", "a\x01", 1, true, NAMES("a-"));
    assert_list(store, "odd/", "../odd/a", 1, true, NAMES("a"));
    assert_list(store, "odd/", "a/b", 1, false, NAMES("b"));
    assert_list(store, "odd/", longest, 1, false, NAMES("b"));
    longest[0] = 'c';
    assert_list(store, "odd/", longest, 1, false, NO_NAMES);
    delete_one(store, "odd/a");
    delete_one(store, "odd/a-");
    delete_one(store, "odd/b");
}

static void test_list_of_a_missing_prefix(void **state)
{
    struct store *store = store_of(state);
    assert_list(store, "nobody/", NULL, 10, false, NO_NAMES);
    assert_list(store, "nobody/was/here/", "x", 10, false, NO_NAMES);
}

static void test_list_pages(void **state)
{
    struct store *store = store_of(state);
    for (int i = 0; i < MANY_NAMES; i++) {
        char key[64];
        (void) snprintf(key, sizeof(key), "pages/%03d", i * 7 % MANY_NAMES);
        put(store, key, STR("x"));
    }
    static const size_t limits[] = {1, 7, 100, MANY_NAMES};
    for (size_t l = 0; l < COUNT_OF(limits); l++) {
        struct err err = ERR_INIT;
        char after[16] = "";
        bool more = true;
        int next = 0;
        while (more) {
            struct store_names names;
            assert_ok(store_list(store, "pages/", after, limits[l], &names, &err));
            assert_true(names.count <= limits[l]);
            for (size_t i = 0; i < names.count; i++, next++) {
                (void) snprintf(after, sizeof(after), "%03d", next);
                assert_string_equal(names.items[i], after);
            }
            more = names.more;
            assert_int_equal(more, next < MANY_NAMES);
            store_names_free(&names);
        }
        assert_int_equal(next, MANY_NAMES);
    }
    for (int i = 0; i < MANY_NAMES; i++) {
        char key[64];
        (void) snprintf(key, sizeof(key), "pages/%03d", i);
        delete_one(store, key);
    }
}

/* ---- walks ---- */

static size_t walk_count(struct store *store, const char *prefix, size_t stop_after)
{
    struct walked walked;
    size_t count = suite_walk(store, prefix, stop_after, &walked);
    buf_free(&walked.lines);
    return count;
}

static void test_walk(void **state)
{
    struct store *store = store_of(state);
    static const char *const keys[] = {"walk/a", "walk/b/c", "walk/b/d/e/f/g", "walk/b.c", "walks"};
    struct walked walked;
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        put(store, keys[i], (struct str){"123456789", i});

    assert_int_equal(suite_walk(store, "", 0, &walked), COUNT_OF(keys) + 1);
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        char line[64];
        (void) snprintf(line, sizeof(line), "%s %zu\n", keys[i], i);
        assert_non_null(strstr(buf_str(&walked.lines).ptr, line));
    }
    assert_non_null(strstr(buf_str(&walked.lines).ptr, MARKER " "));
    buf_free(&walked.lines);

    assert_int_equal(walk_count(store, "walk/", 0), 4);
    assert_int_equal(walk_count(store, "walk/b/", 0), 2);
    assert_int_equal(walk_count(store, "walk/b/d/e/", 0), 1);
    assert_int_equal(walk_count(store, "walk/missing/", 0), 0);
    assert_int_equal(walk_count(store, "walk/", 1), 1);
    assert_int_equal(walk_count(store, "walk/", 3), 3);
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        delete_one(store, keys[i]);
    assert_int_equal(walk_count(store, "walk/", 0), 0);
}

static bool delete_walked(void *arg, const char *key, uint64_t size_bytes)
{
    (void) size_bytes;
    delete_one(arg, key);
    return true;
}

static void test_walk_beside_deletes(void **state)
{
    struct store *store = store_of(state);
    struct err err = ERR_INIT;
    for (int i = 0; i < 60; i++) {
        char key[64];
        (void) snprintf(key, sizeof(key), "fading/%d/%d/%d", i % 3, i % 5, i);
        put(store, key, STR(""));
    }
    for (int rounds = 0; rounds < 60 && walk_count(store, "fading/", 0) > 0; rounds++)
        assert_ok(store_walk(store, "fading/", delete_walked, store, &err));
    assert_int_equal(walk_count(store, "fading/", 0), 0);
}

/* ---- threads ---- */

static void *race_put_new(void *arg)
{
    struct crew *crew = arg;
    for (int round = 0; round < thread_rounds(); round++) {
        struct err err = ERR_INIT;
        char key[64];
        (void) snprintf(key, sizeof(key), "race/%d", round);
        enum err_code code = store_put(crew->store, key, STR("winner"), STORE_PUT_NEW, &err);
        assert_true(code == ERR_OK || code == ERR_EXISTS);
        crew->wins += code == ERR_OK;
    }
    return NULL;
}

static void test_one_of_many_new_puts_wins(void **state)
{
    struct store *store = store_of(state);
    struct crew crew;
    crew_run(&crew, store, race_put_new);
    assert_int_equal(crew.wins, thread_rounds());
    for (int round = 0; round < thread_rounds(); round++) {
        char key[64];
        (void) snprintf(key, sizeof(key), "race/%d", round);
        suite_assert_object(store, key, STR("winner"));
        delete_one(store, key);
    }
}

/* All in one folder, which empties and fills all the time. */
static void *race_put_and_delete(void *arg)
{
    struct crew *crew = arg;
    char key[64];
    (void) snprintf(key, sizeof(key), "busy/folder/of/%d", atomic_fetch_add(&crew->next, 1));
    for (int round = 0; round < thread_rounds(); round++) {
        put(crew->store, key, STR("mine"));
        suite_assert_object(crew->store, key, STR("mine"));
        delete_one(crew->store, key);
        suite_assert_missing(crew->store, key);
    }
    return NULL;
}

static void test_puts_beside_deletes(void **state)
{
    struct crew crew;
    crew_run(&crew, store_of(state), race_put_and_delete);
}

/* A reader sees one whole content or the other, never a mixture or nothing. */
static void *race_replace(void *arg)
{
    struct crew *crew = arg;
    int number = atomic_fetch_add(&crew->next, 1);
    char bytes[4096];
    memset(bytes, 'a' + number, sizeof(bytes));
    for (int round = 0; round < thread_rounds(); round++) {
        struct err err = ERR_INIT;
        auto_buf out = BUF_INIT(sizeof(bytes));
        put(crew->store, "replaced/object", (struct str){bytes, sizeof(bytes)});
        if (store_get(crew->store, "replaced/object", &out, &err) != ERR_OK)
            print_error("a read beside replacing: %s\n",
                        err_text(&err)); /* what fails in a thread says nothing itself */
        assert_int_equal(out.len, sizeof(bytes));
        for (size_t i = 1; i < out.len; i++)
            assert_int_equal(out.ptr[i], out.ptr[0]);
    }
    return NULL;
}

static void test_replacing_is_atomic(void **state)
{
    struct store *store = store_of(state);
    struct crew crew;
    crew_run(&crew, store, race_replace);
    delete_one(store, "replaced/object");
}

int suite_run_objects(void)
{
    static const struct CMUnitTest tests[] = {
        SUITE_TEST(test_put_and_get),
        SUITE_TEST(test_put_new_keeps_what_is_there),
        SUITE_TEST(test_empty_objects),
        SUITE_TEST(test_biggest_object),
        SUITE_TEST(test_get_appends_up_to_the_limit),
        SUITE_TEST(test_missing_objects),
        SUITE_TEST(test_longest_keys),
        SUITE_TEST(test_delete),
        SUITE_TEST(test_list_in_byte_order),
        SUITE_TEST(test_list_limits),
        SUITE_TEST(test_list_after_anything),
        SUITE_TEST(test_list_of_a_missing_prefix),
        SUITE_TEST(test_list_pages),
        SUITE_TEST(test_walk),
        SUITE_TEST(test_walk_beside_deletes),
        SUITE_TEST(test_one_of_many_new_puts_wins),
        SUITE_TEST(test_puts_beside_deletes),
        SUITE_TEST(test_replacing_is_atomic),
    };
    print_message("%s: objects\n", suite.driver->name);
    return cmocka_run_group_tests_name("objects", tests, suite_open, suite_close);
}

#include "fixture.h"

#include "store/local_names.h"

#define UNIVERSE 3000
#define STEPS 60000
#define MANY 20000

/* A fixed sequence, so that a failure comes again. */
static uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

/* What the set should be: some of a sorted universe of names. */
struct model {
    char *names[UNIVERSE];
    bool holds[UNIVERSE];
};

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

static void model_make(struct model *model, uint32_t *seed)
{
    for (size_t i = 0; i < UNIVERSE; i++) {
        char name[LOCAL_NAME_BYTES_MAX + 1];
        /* Long common beginnings, some of the greatest length, some that are the beginning of others. */
        size_t len = i % 10 == 0 ? LOCAL_NAME_BYTES_MAX : 1 + next_random(seed) % 30;
        size_t prefix_len = next_random(seed) % len;
        for (size_t at = 0; at < len; at++)
            name[at] = at < prefix_len ? 'v' : (char) ("-._09AZaz\x7f\xc3\xff"[next_random(seed) % 12]);
        name[len] = '\0';
        model->names[i] = strdup(name);
        assert_non_null(model->names[i]);
        model->holds[i] = false;
    }
    qsort(model->names, UNIVERSE, sizeof(char *), compare);
    const char *last = "";
    for (size_t i = 0; i < UNIVERSE; i++) { /* the same name twice: leave it out */
        if (strcmp(last, model->names[i]) == 0)
            model->names[i][0] = '\0';
        else
            last = model->names[i];
    }
}

static void assert_page(const struct local_names *names, const struct model *model, const char *after, size_t limit)
{
    struct store_names page;
    size_t count = 0, i = 0;
    assert_true(local_names_page(names, after, limit, &page));
    for (; i < UNIVERSE; i++) {
        if (!model->holds[i] || strcmp(model->names[i], after) <= 0)
            continue;
        if (count == limit)
            break;
        assert_true(count < page.count);
        assert_string_equal(page.items[count++], model->names[i]);
    }
    assert_int_equal(page.count, count);
    assert_int_equal(page.more, i < UNIVERSE);
    store_names_free(&page);
}

static void test_as_its_model(void **state)
{
    (void) state;
    uint32_t seed = 2463534242;
    struct model *model = calloc(1, sizeof(*model));
    struct local_names names cleanup(local_names_clear) = {0};
    model_make(model, &seed);
    size_t count = 0;
    for (size_t step = 0; step < STEPS; step++) {
        size_t i = next_random(&seed) % UNIVERSE;
        bool grows = step / 10000 % 2 == 0; /* by turns it fills and empties */
        bool adds = next_random(&seed) % 4 != 0 ? grows : !grows;
        if (model->names[i][0] == '\0')
            continue;
        if (adds)
            assert_true(local_names_add(&names, model->names[i]));
        else
            local_names_remove(&names, model->names[i]);
        count += (size_t) adds - (size_t) model->holds[i];
        model->holds[i] = adds;
        assert_int_equal(names.count, count);
        if (step % 64 == 0) {
            const char *after = step % 3 ? model->names[next_random(&seed) % UNIVERSE] : "vvvvv";
            assert_page(&names, model, after, next_random(&seed) % 40);
        }
    }
    assert_page(&names, model, "", UNIVERSE);
    assert_page(&names, model, "", 0);
    for (size_t i = 0; i < UNIVERSE; i++) {
        if (model->holds[i])
            local_names_remove(&names, model->names[i]);
        free(model->names[i]);
    }
    assert_int_equal(names.count, 0);
    assert_int_equal(local_names_bytes(&names), 0);
    free(model);
}

static void test_none(void **state)
{
    (void) state;
    struct local_names names = {0};
    struct store_names page;
    local_names_remove(&names, "a");
    local_names_trim(&names, 0);
    assert_true(local_names_page(&names, "a", 10, &page));
    assert_int_equal(page.count, 0);
    assert_false(page.more);
    store_names_free(&page);
    assert_int_equal(local_names_bytes(&names), 0);
}

static void test_after_what_no_name_can_be(void **state)
{
    (void) state;
    struct local_names names cleanup(local_names_clear) = {0};
    char longest[4096], name[LOCAL_NAME_BYTES_MAX + 1];
    memset(longest, 'm', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    (void) snprintf(name, sizeof(name), "%.255s", longest);
    assert_true(local_names_add(&names, name));
    assert_true(local_names_add(&names, "z"));
    struct store_names page;
    assert_true(local_names_page(&names, longest, 10, &page));
    assert_int_equal(page.count, 1);
    assert_string_equal(page.items[0], "z");
    store_names_free(&page);
    assert_true(local_names_page(&names, "../..", 10, &page));
    assert_int_equal(page.count, 2);
    store_names_free(&page);
}

static size_t names_fill(struct local_names *names, size_t (*number)(size_t i))
{
    size_t bytes = 0;
    for (size_t i = 0; i < MANY; i++) {
        char name[32];
        bytes += (size_t) snprintf(name, sizeof(name), "v1.%08zu-rc", number(i));
        assert_true(local_names_add(names, name));
    }
    assert_int_equal(names->count, MANY);
    return bytes;
}

static size_t upwards(size_t i)
{
    return i;
}

static size_t downwards(size_t i)
{
    return MANY - i;
}

static size_t anyhow(size_t i)
{
    return i * 7919 % MANY; /* a prime: each once */
}

/* What the limit of the index means in names. */
static void test_memory(void **state)
{
    (void) state;
    struct local_names names = {0};
    size_t bytes = names_fill(&names, upwards);
    assert_true(local_names_bytes(&names) < bytes * 5 / 4);
    local_names_clear(&names);
    bytes = names_fill(&names, downwards);
    assert_true(local_names_bytes(&names) < bytes * 5 / 4);
    local_names_clear(&names);
    bytes = names_fill(&names, anyhow);
    assert_true(local_names_bytes(&names) < bytes * 9 / 4);
    for (size_t i = 0; i < MANY; i++) { /* all but every hundredth go */
        char name[32];
        (void) snprintf(name, sizeof(name), "v1.%08zu-rc", i);
        if (i % 100 != 0)
            local_names_remove(&names, name);
    }
    assert_int_equal(names.count, MANY / 100);
    assert_true(local_names_bytes(&names) < bytes / 10);
    local_names_clear(&names);
    assert_int_equal(local_names_bytes(&names), 0);
}

static void test_trim(void **state)
{
    (void) state;
    static const size_t keeps[] = {MANY + 1, MANY, MANY - 1, 5000, 4999, 300, 1, 0};
    struct local_names names cleanup(local_names_clear) = {0};
    (void) names_fill(&names, anyhow);
    for (size_t i = 0; i < COUNT_OF(keeps); i++) {
        struct store_names page;
        size_t expected = keeps[i] < MANY ? keeps[i] : MANY;
        local_names_trim(&names, keeps[i]);
        assert_int_equal(names.count, expected);
        assert_true(local_names_page(&names, "", MANY, &page));
        assert_int_equal(page.count, expected);
        for (size_t at = 0; at < expected; at++) {
            char name[32];
            (void) snprintf(name, sizeof(name), "v1.%08zu-rc", at);
            assert_string_equal(page.items[at], name);
        }
        store_names_free(&page);
    }
    assert_true(local_names_add(&names, "again"));
    assert_int_equal(names.count, 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_its_model),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_after_what_no_name_can_be),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_trim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

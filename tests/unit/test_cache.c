#include "fixture.h"

#include "base/metrics.h"
#include "registry/cache.h"

#include <pthread.h>
#include <stdatomic.h>

#define BYTES_MAX (1024 * 1024)
#define SHARDS 16 /* a share of the bytes each: what one value may cost at most */
#define THREADS 4
#define THREAD_STEPS 20000
#define THREAD_KEYS 64

struct value {
    atomic_int refs;
    atomic_int *freed;
    int number;
};

static void value_ref(void *value)
{
    assert_true(atomic_fetch_add(&((struct value *) value)->refs, 1) > 0);
}

static void value_unref(void *p)
{
    struct value *value = p;
    int before = atomic_fetch_sub(&value->refs, 1);
    assert_true(before > 0);
    if (before == 1) {
        atomic_fetch_add(value->freed, 1);
        free(value);
    }
}

static const struct cache_value_ops ops = {value_ref, value_unref};

static struct value *value_new(int number, atomic_int *freed)
{
    struct value *value = calloc(1, sizeof(*value));
    assert_non_null(value);
    value->refs = 1;
    value->freed = freed;
    value->number = number;
    return value;
}

/* Put a value that only the cache keeps. */
static void put_number(struct cache *cache, const char *key, int number, size_t bytes, atomic_int *freed)
{
    struct value *value = value_new(number, freed);
    cache_put(cache, str_from(key), value, bytes);
    value_unref(value);
}

/* The number under key; -1 when there is none. */
static int get_number(struct cache *cache, const char *key)
{
    struct value *value = cache_get(cache, str_from(key));
    if (!value)
        return -1;
    int number = value->number;
    value_unref(value);
    return number;
}

static void test_put_get_remove(void **state)
{
    (void) state;
    atomic_int freed = 0;
    struct cache *cache = cache_new(BYTES_MAX, &ops);
    assert_int_equal(get_number(cache, "a"), -1);
    put_number(cache, "a", 1, 100, &freed);
    put_number(cache, "b", 2, 100, &freed);
    put_number(cache, "", 3, 100, &freed);
    assert_int_equal(get_number(cache, "a"), 1);
    assert_int_equal(get_number(cache, "b"), 2);
    assert_int_equal(get_number(cache, ""), 3);
    cache_remove(cache, STR("a"));
    cache_remove(cache, STR("a"));
    assert_int_equal(get_number(cache, "a"), -1);
    assert_int_equal(freed, 1);
    cache_free(cache);
    assert_int_equal(freed, 3);
    cache_free(NULL);
}

static void test_replacing_frees_the_old_value_once(void **state)
{
    (void) state;
    atomic_int freed = 0;
    struct cache *cache = cache_new(BYTES_MAX, &ops);
    for (int i = 0; i < 100; i++)
        put_number(cache, "key", i, 10, &freed);
    assert_int_equal(get_number(cache, "key"), 99);
    assert_int_equal(freed, 99);
    cache_free(cache);
    assert_int_equal(freed, 100);
}

static void test_a_reader_keeps_its_value(void **state)
{
    (void) state;
    atomic_int freed = 0;
    struct cache *cache = cache_new(BYTES_MAX, &ops);
    put_number(cache, "key", 7, 10, &freed);
    struct value *value = cache_get(cache, STR("key"));
    put_number(cache, "key", 8, 10, &freed);
    cache_free(cache);
    assert_int_equal(freed, 1);
    assert_int_equal(value->number, 7);
    value_unref(value);
    assert_int_equal(freed, 2);
}

static void test_bytes(void **state)
{
    (void) state;
    atomic_int freed = 0;
    uint64_t number = 42, out = 0;
    char longest[CACHE_BYTES_VALUE_MAX], back[CACHE_BYTES_VALUE_MAX], key[CACHE_KEY_BYTES_MAX];
    struct cache *cache = cache_new(BYTES_MAX, &ops);
    assert_false(cache_get_bytes(cache, STR("n"), &out, sizeof(out)));
    cache_put_bytes(cache, STR("n"), &number, sizeof(number));
    assert_true(cache_get_bytes(cache, STR("n"), &out, sizeof(out)));
    assert_int_equal(out, 42);
    assert_false(cache_get_bytes(cache, STR("n"), &out, 4)); /* another length is another kind of value */
    assert_null(cache_get(cache, STR("n")));
    put_number(cache, "v", 1, 10, &freed);
    assert_false(cache_get_bytes(cache, STR("v"), &out, sizeof(out)));

    memset(longest, 'x', sizeof(longest));
    memset(key, 'k', sizeof(key));
    key[5] = '\0'; /* keys are bytes */
    cache_put_bytes(cache, (struct str){key, sizeof(key)}, longest, sizeof(longest));
    assert_true(cache_get_bytes(cache, (struct str){key, sizeof(key)}, back, sizeof(back)));
    assert_memory_equal(back, longest, sizeof(back));
    assert_false(cache_get_bytes(cache, (struct str){key, 5}, back, sizeof(back)));
    cache_free(cache);
}

static void test_bounded(void **state)
{
    (void) state;
    atomic_int freed = 0;
    int64_t before = metric_gauge_value(METRIC_CACHE_BYTES);
    struct cache *cache = cache_new(BYTES_MAX, &ops);
    int kept = 0;
    for (int i = 0; i < 10000; i++) {
        char key[32];
        (void) snprintf(key, sizeof(key), "key %d", i);
        put_number(cache, key, i, 1000, &freed);
        assert_true(metric_gauge_value(METRIC_CACHE_BYTES) - before <= BYTES_MAX);
    }
    for (int i = 0; i < 10000; i++) {
        char key[32];
        (void) snprintf(key, sizeof(key), "key %d", i);
        int number = get_number(cache, key);
        assert_true(number == i || number == -1);
        kept += number == i;
    }
    assert_int_equal(kept + freed, 10000);
    assert_true(kept > 700 && kept < 1049); /* about a MiB of them */
    cache_free(cache);
    assert_int_equal(freed, 10000);
    assert_true(metric_gauge_value(METRIC_CACHE_BYTES) == before);
}

static void test_least_recently_used_goes_first(void **state)
{
    (void) state;
    atomic_int freed = 0;
    struct cache *cache = cache_new(BYTES_MAX, &ops);
    for (int i = 0; i < 5000; i++) {
        char key[32];
        (void) snprintf(key, sizeof(key), "key %d", i);
        put_number(cache, key, i, 1000, &freed);
        assert_int_equal(get_number(cache, "key 0"), 0); /* in use all the time */
        assert_int_equal(get_number(cache, key), i);     /* the newest is never the one to go */
    }
    assert_int_equal(get_number(cache, "key 1"), -1);
    cache_free(cache);
    assert_int_equal(freed, 5000);
}

static void test_too_big_a_value_is_not_kept(void **state)
{
    (void) state;
    atomic_int freed = 0;
    struct cache *cache = cache_new(BYTES_MAX, &ops);
    put_number(cache, "small", 1, 10, &freed);
    put_number(cache, "big", 2, BYTES_MAX / SHARDS, &freed);
    assert_int_equal(get_number(cache, "big"), -1);
    assert_int_equal(freed, 1);
    assert_int_equal(get_number(cache, "small"), 1);
    put_number(cache, "small", 3, BYTES_MAX, &freed); /* nor does what it replaces stay */
    assert_int_equal(get_number(cache, "small"), -1);
    assert_int_equal(freed, 3);
    cache_free(cache);
}

static void test_resize(void **state)
{
    (void) state;
    atomic_int freed = 0;
    struct cache *cache = cache_new(0, &ops);
    put_number(cache, "a", 1, 1, &freed);
    assert_int_equal(get_number(cache, "a"), -1); /* of no size: nothing is kept */
    cache_resize(cache, BYTES_MAX);
    put_number(cache, "a", 1, 1, &freed);
    put_number(cache, "b", 2, 1, &freed);
    assert_int_equal(get_number(cache, "a"), 1);
    cache_resize(cache, 0);
    assert_int_equal(get_number(cache, "a"), -1);
    assert_int_equal(freed, 3);
    cache_free(cache);
}

static void test_lookups_are_counted(void **state)
{
    (void) state;
    atomic_int freed = 0;
    uint64_t hits = metric_counter_value(METRIC_CACHE_HITS), misses = metric_counter_value(METRIC_CACHE_MISSES);
    struct cache *cache = cache_new(BYTES_MAX, &ops);
    put_number(cache, "a", 1, 1, &freed);
    (void) get_number(cache, "a");
    (void) get_number(cache, "a");
    (void) get_number(cache, "b");
    assert_int_equal(metric_counter_value(METRIC_CACHE_HITS) - hits, 2);
    assert_int_equal(metric_counter_value(METRIC_CACHE_MISSES) - misses, 1);
    cache_free(cache);
}

static void test_hash_is_keyed(void **state)
{
    (void) state;
    struct cache *a = cache_new(0, &ops), *b = cache_new(0, &ops);
    unsigned same = 0;
    for (size_t len = 0; len <= 24; len++) {
        struct str key = {"abcdefghijklmnopqrstuvwx", len};
        assert_true(cache_hash(a, key) == cache_hash(a, key));
        same += cache_hash(a, key) == cache_hash(b, key);
        for (size_t other = 0; other < len; other++)
            assert_true(cache_hash(a, key) != cache_hash(a, (struct str){key.ptr, other}));
    }
    assert_int_equal(same, 0);
    cache_free(a);
    cache_free(b);
}

/* ---- threads ---- */

struct workload {
    struct cache *cache;
    atomic_int made, freed;
};

static void *work(void *arg)
{
    struct workload *load = arg;
    uint32_t number;
    random_bytes(&number, sizeof(number));
    for (int i = 0; i < THREAD_STEPS; i++) {
        char key[16];
        number = number * 1664525 + 1013904223;
        int k = (int) (number >> 16) % THREAD_KEYS;
        (void) snprintf(key, sizeof(key), "%d", k);
        switch ((number >> 8) % 8) {
        case 0:
            put_number(load->cache, key, k, 2000, &load->freed);
            atomic_fetch_add(&load->made, 1);
            break;
        case 1:
            cache_put_bytes(load->cache, str_from(key), &k, sizeof(k));
            break;
        case 2:
            cache_remove(load->cache, str_from(key));
            break;
        case 3:
            if (i % 100 == 0)
                cache_resize(load->cache, (number >> 4) % (2 * THREAD_KEYS * 2000));
            break;
        default: {
            int found = get_number(load->cache, key), bytes = k;
            assert_true(found == -1 || found == k);
            assert_true(!cache_get_bytes(load->cache, str_from(key), &bytes, sizeof(bytes)) || bytes == k);
        }
        }
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void) state;
    struct workload load = {.cache = cache_new(THREAD_KEYS * 2000, &ops)};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &load), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    cache_free(load.cache);
    assert_int_equal(load.made, load.freed);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_get_remove),
        cmocka_unit_test(test_replacing_frees_the_old_value_once),
        cmocka_unit_test(test_a_reader_keeps_its_value),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_least_recently_used_goes_first),
        cmocka_unit_test(test_too_big_a_value_is_not_kept),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_lookups_are_counted),
        cmocka_unit_test(test_hash_is_keyed),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "fixture.h"

#include "base/clock.h"
#include "base/wait.h"

#define SHORT_MS 30
#define LONG_MS 60000

struct bell {
    pthread_mutex_t mutex;
    pthread_cond_t rings;
    bool has_rung;
};

static void bell_init(struct bell *bell)
{
    *bell = (struct bell){.mutex = PTHREAD_MUTEX_INITIALIZER};
    wait_init(&bell->rings);
}

static void *ring(void *arg)
{
    struct bell *bell = arg;
    pthread_mutex_lock(&bell->mutex);
    bell->has_rung = true;
    pthread_cond_signal(&bell->rings);
    pthread_mutex_unlock(&bell->mutex);
    return NULL;
}

static void test_ends_at_its_time(void **state)
{
    (void) state;
    struct bell bell;
    bell_init(&bell);
    uint64_t until_ms = clock_monotonic_ms() + SHORT_MS;
    pthread_mutex_lock(&bell.mutex);
    while (wait_until(&bell.rings, &bell.mutex, until_ms))
        ;
    pthread_mutex_unlock(&bell.mutex);
    assert_true(clock_monotonic_ms() >= until_ms);
    pthread_cond_destroy(&bell.rings);
}

static void test_a_time_that_is_past(void **state)
{
    (void) state;
    struct bell bell;
    bell_init(&bell);
    pthread_mutex_lock(&bell.mutex);
    assert_false(wait_until(&bell.rings, &bell.mutex, 0));
    assert_false(wait_until(&bell.rings, &bell.mutex, clock_monotonic_ms()));
    pthread_mutex_unlock(&bell.mutex);
    pthread_cond_destroy(&bell.rings);
}

static void test_is_woken_before(void **state)
{
    (void) state;
    struct bell bell;
    pthread_t thread;
    bell_init(&bell);
    uint64_t begin_ms = clock_monotonic_ms();
    pthread_mutex_lock(&bell.mutex);
    assert_int_equal(pthread_create(&thread, NULL, ring, &bell), 0);
    bool in_time = true;
    while (!bell.has_rung && in_time)
        in_time = wait_until(&bell.rings, &bell.mutex, begin_ms + LONG_MS);
    pthread_mutex_unlock(&bell.mutex);
    assert_true(bell.has_rung);
    assert_true(in_time);
    pthread_join(thread, NULL);
    pthread_cond_destroy(&bell.rings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends_at_its_time),
        cmocka_unit_test(test_a_time_that_is_past),
        cmocka_unit_test(test_is_woken_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

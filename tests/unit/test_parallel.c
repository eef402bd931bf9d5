#include "fixture.h"

#include "base/parallel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define ITEMS 500
#define CALLERS 8
#define COMPANY_MS_MAX 20000

struct crowd {
    atomic_uint times[ITEMS];
    atomic_uint inside, most;
    atomic_uint begun;
    size_t fails_at;  /* ITEMS: none does */
    unsigned company; /* nobody leaves before so many were inside */
};

static void pause_us(long us)
{
    struct timespec pause = {0, us * 1000};
    (void) nanosleep(&pause, NULL);
}

static void visit(struct crowd *crowd, size_t index)
{
    unsigned inside = atomic_fetch_add(&crowd->inside, 1) + 1, most = atomic_load(&crowd->most);
    while (inside > most && !atomic_compare_exchange_weak(&crowd->most, &most, inside))
        ;
    atomic_fetch_add(&crowd->times[index], 1);
    atomic_fetch_add(&crowd->begun, 1);
    pause_us(200);
    for (unsigned waited = 0; atomic_load(&crowd->most) < crowd->company && waited < COMPANY_MS_MAX; waited++)
        pause_us(1000);
    atomic_fetch_sub(&crowd->inside, 1);
}

static bool visit_each(void *arg, size_t index)
{
    struct crowd *crowd = arg;
    visit(crowd, index);
    return index != crowd->fails_at;
}

static enum err_code visit_try(void *arg, size_t index, struct err *err)
{
    struct crowd *crowd = arg;
    visit(crowd, index);
    return index >= crowd->fails_at ? err_set(err, ERR_IO, "item %zu", index) : ERR_OK;
}

static void assert_each_once(struct crowd *crowd)
{
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(atomic_load(&crowd->times[i]), 1);
    assert_int_equal(atomic_load(&crowd->inside), 0);
}

static void test_each_item_once_and_never_too_many_at_once(void **state)
{
    static const unsigned widths[] = {1, 2, 16, PARALLEL_THREADS, 10 * PARALLEL_THREADS};
    (void) state;
    for (size_t i = 0; i < COUNT_OF(widths); i++) {
        struct crowd crowd = {.fails_at = ITEMS, .company = widths[i] < 16 ? widths[i] : 16};
        parallel_each(ITEMS, widths[i], visit_each, &crowd);
        assert_each_once(&crowd);
        unsigned allowed = widths[i] < PARALLEL_THREADS + 1 ? widths[i] : PARALLEL_THREADS + 1; /* and the caller */
        assert_true(atomic_load(&crowd.most) <= allowed);
        assert_true(atomic_load(&crowd.most) >= crowd.company);
    }
}

static void test_nothing_to_do(void **state)
{
    struct crowd crowd = {.fails_at = 0};
    struct err err = ERR_INIT;
    (void) state;
    parallel_each(0, 16, visit_each, &crowd);
    assert_int_equal(parallel_try(0, 16, visit_try, &crowd, &err), ERR_OK);
    assert_int_equal(atomic_load(&crowd.begun), 0);
}

static void test_one_at_a_time_goes_in_order_and_stops(void **state)
{
    struct crowd crowd = {.fails_at = 7};
    struct err err = ERR_INIT;
    (void) state;
    assert_int_equal(parallel_try(ITEMS, 1, visit_try, &crowd, &err), ERR_IO);
    assert_string_equal(err_text(&err), "item 7");
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(atomic_load(&crowd.times[i]), i <= 7);
}

static void test_a_failure_begins_no_more(void **state)
{
    (void) state;
    struct crowd each = {.fails_at = 3};
    parallel_each(ITEMS, 16, visit_each, &each);
    assert_true(atomic_load(&each.begun) < ITEMS);
    assert_int_equal(atomic_load(&each.inside), 0);

    struct crowd crowd = {.fails_at = 3}; /* and all after it fail too: one of them is told */
    struct err err = ERR_INIT;
    assert_int_equal(parallel_try(ITEMS, 16, visit_try, &crowd, &err), ERR_IO);
    assert_int_equal(err.code, ERR_IO);
    assert_true(atomic_load(&crowd.begun) < ITEMS);
    assert_int_equal(atomic_load(&crowd.inside), 0);
}

/* Each item is a call of its own; with all threads taken the callers do their work themselves. */
static bool call_again(void *arg, size_t index)
{
    struct crowd *crowds = arg;
    parallel_each(ITEMS, 16, visit_each, &crowds[index]);
    return true;
}

static void test_calls_within_calls(void **state)
{
    struct crowd crowds[CALLERS];
    (void) state;
    for (size_t i = 0; i < CALLERS; i++)
        crowds[i] = (struct crowd){.fails_at = ITEMS};
    parallel_each(CALLERS, CALLERS, call_again, crowds);
    for (size_t i = 0; i < CALLERS; i++)
        assert_each_once(&crowds[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_item_once_and_never_too_many_at_once),
        cmocka_unit_test(test_nothing_to_do),
        cmocka_unit_test(test_one_at_a_time_goes_in_order_and_stops),
        cmocka_unit_test(test_a_failure_begins_no_more),
        cmocka_unit_test(test_calls_within_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

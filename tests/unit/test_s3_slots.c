#include "store/s3_slots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define SLOTS 2
#define SHORT_MS 50
#define LONG_MS 10000

static struct s3_slot *make(void *arg)
{
    struct s3_slot *slot = calloc(1, sizeof(*slot));
    assert_non_null(slot);
    (*(size_t *) arg)++;
    return slot;
}

static void end(struct s3_slot *slot)
{
    free(slot);
}

static void test_bounded_and_reused(void **state)
{
    (void) state;
    struct s3_slots slots;
    size_t made = 0;
    bool was_parked = true;
    s3_slots_init(&slots, SLOTS, make, &made);
    struct s3_slot *first = s3_slots_take(&slots, 0, &was_parked);
    struct s3_slot *second = s3_slots_take(&slots, 0, &was_parked);
    assert_false(was_parked);
    assert_null(s3_slots_take(&slots, SHORT_MS, &was_parked));
    s3_slots_give(&slots, first);
    s3_slots_give(&slots, second);
    assert_ptr_equal(s3_slots_take(&slots, 0, &was_parked), second); /* the one that is warm */
    assert_int_equal(made, SLOTS);
    s3_slots_give(&slots, second);
    s3_slots_destroy(&slots, end);
}

static void test_parked_slots_are_taken_oldest_first(void **state)
{
    (void) state;
    struct s3_slots slots;
    size_t made = 0;
    bool was_parked;
    s3_slots_init(&slots, SLOTS, make, &made);
    struct s3_slot *first = s3_slots_take(&slots, 0, &was_parked);
    struct s3_slot *second = s3_slots_take(&slots, 0, &was_parked);
    uint64_t parking_first = s3_slots_park(&slots, first);
    uint64_t parking_second = s3_slots_park(&slots, second);
    assert_true(s3_slots_unpark(&slots, first, parking_first)); /* nobody wanted it */
    parking_first = s3_slots_park(&slots, first);
    assert_ptr_equal(s3_slots_take(&slots, 0, &was_parked), second);
    assert_true(was_parked);
    assert_false(s3_slots_unpark(&slots, second, parking_second));
    assert_false(s3_slots_unpark(&slots, second, parking_second)); /* nor when its taker has parked it */
    uint64_t parking_taker = s3_slots_park(&slots, second);
    assert_false(s3_slots_unpark(&slots, second, parking_second));
    assert_true(s3_slots_unpark(&slots, first, parking_first));
    assert_true(s3_slots_unpark(&slots, second, parking_taker));
    s3_slots_give(&slots, first);
    s3_slots_give(&slots, second);
    assert_ptr_equal(s3_slots_take(&slots, 0, &was_parked), second);
    assert_false(was_parked);
    s3_slots_give(&slots, second);
    s3_slots_destroy(&slots, end);
}

struct taker {
    struct s3_slots *slots;
    struct s3_slot *slot;
    bool was_parked;
};

static void *take(void *arg)
{
    struct taker *taker = arg;
    taker->slot = s3_slots_take(taker->slots, LONG_MS, &taker->was_parked);
    return NULL;
}

static void wait_for_waiter(struct s3_slots *slots)
{
    for (bool waits = false; !waits; (void) usleep(1000)) {
        pthread_mutex_lock(&slots->mutex);
        waits = slots->waiters != NULL;
        pthread_mutex_unlock(&slots->mutex);
    }
}

static void test_what_is_parked_goes_to_who_waits(void **state)
{
    (void) state;
    struct s3_slots slots;
    size_t made = 0;
    bool was_parked;
    pthread_t thread;
    s3_slots_init(&slots, 1, make, &made);
    struct s3_slot *slot = s3_slots_take(&slots, 0, &was_parked);
    struct taker taker = {.slots = &slots};
    assert_int_equal(pthread_create(&thread, NULL, take, &taker), 0);
    wait_for_waiter(&slots);
    uint64_t parking = s3_slots_park(&slots, slot);
    pthread_join(thread, NULL);
    assert_ptr_equal(taker.slot, slot);
    assert_true(taker.was_parked);
    assert_false(s3_slots_unpark(&slots, slot, parking));
    assert_int_equal(pthread_create(&thread, NULL, take, &taker), 0);
    wait_for_waiter(&slots);
    s3_slots_give(&slots, slot);
    pthread_join(thread, NULL);
    assert_ptr_equal(taker.slot, slot);
    assert_false(taker.was_parked);
    s3_slots_give(&slots, slot);
    s3_slots_destroy(&slots, end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounded_and_reused),
        cmocka_unit_test(test_parked_slots_are_taken_oldest_first),
        cmocka_unit_test(test_what_is_parked_goes_to_who_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "base/clock.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_rfc3339(void **state)
{
    (void) state;
    static const struct {
        uint64_t wall_ms;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {951827696789, "2000-02-29T12:34:56.789Z"},
        {1769903999123, "2026-01-31T23:59:59.123Z"},
        {1769903999007, "2026-01-31T23:59:59.007Z"}, /* of the same second, whose text is kept */
        {1769904000040, "2026-02-01T00:00:00.040Z"},
        {253402300799999, "9999-12-31T23:59:59.999Z"},
        {UINT64_MAX, "9999-12-31T23:59:59.999Z"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[TIME_TEXT_BYTES];
        clock_format_rfc3339(rows[i].wall_ms, text);
        assert_string_equal(text, rows[i].text);
    }
}

static void test_monotonic_never_goes_back(void **state)
{
    (void) state;
    uint64_t before = clock_monotonic_us();
    for (int i = 0; i < 1000; i++) {
        uint64_t now = clock_monotonic_us();
        assert_true(now >= before);
        before = now;
    }
    assert_true(clock_monotonic_ms() >= before / 1000);
}

static void test_offset_shifts_the_wall_clock_alone(void **state)
{
    (void) state;
    uint64_t wall = clock_wall_ms();
    uint64_t monotonic = clock_monotonic_ms();
    clock_set_offset_for_tests(3600 * 1000);
    assert_in_range(clock_wall_ms() - wall, 3600 * 1000, 3600 * 1000 + 10000);
    clock_set_offset_for_tests(-3600 * 1000);
    assert_in_range(wall - clock_wall_ms(), 3600 * 1000 - 10000, 3600 * 1000);
    assert_in_range(clock_monotonic_ms() - monotonic, 0, 10000);
    clock_set_offset_for_tests(0);
}

static void test_uuid(void **state)
{
    (void) state;
    char previous[UUID_TEXT_BYTES] = "";
    for (int i = 0; i < 1000; i++) {
        char text[UUID_TEXT_BYTES];
        uuid_new(text);
        assert_int_equal(strlen(text), UUID_TEXT_BYTES - 1);
        for (size_t at = 0; at < UUID_TEXT_BYTES - 1; at++) {
            if (at == 8 || at == 13 || at == 18 || at == 23)
                assert_int_equal(text[at], '-');
            else
                assert_true(isdigit((unsigned char) text[at]) || (text[at] >= 'a' && text[at] <= 'f'));
        }
        assert_int_equal(text[14], '4');
        assert_non_null(strchr("89ab", text[19]));
        assert_string_not_equal(text, previous);
        memcpy(previous, text, sizeof(text));
    }
}

static void test_random_bytes_fills_all(void **state)
{
    (void) state;
    unsigned char seen_zero_only[4096];
    unsigned char bytes[sizeof(seen_zero_only)];
    memset(seen_zero_only, 1, sizeof(seen_zero_only));
    /* A byte that is zero eight times running has not been written. */
    for (int i = 0; i < 8; i++) {
        memset(bytes, 0, sizeof(bytes));
        random_bytes(bytes, sizeof(bytes));
        for (size_t at = 0; at < sizeof(bytes); at++)
            seen_zero_only[at] &= bytes[at] == 0;
    }
    for (size_t at = 0; at < sizeof(bytes); at++)
        assert_false(seen_zero_only[at]);
    random_bytes(bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc3339),
        cmocka_unit_test(test_monotonic_never_goes_back),
        cmocka_unit_test(test_offset_shifts_the_wall_clock_alone),
        cmocka_unit_test(test_uuid),
        cmocka_unit_test(test_random_bytes_fills_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

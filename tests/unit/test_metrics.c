#include "base/metrics.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define EXPOSITION_BYTES_MAX (256 * 1024)

static unsigned count_of(const char *text, const char *wanted)
{
    unsigned count = 0;
    for (const char *at = strstr(text, wanted); at; at = strstr(at + 1, wanted))
        count++;
    return count;
}

static void test_counters_and_gauges(void **state)
{
    (void) state;
    uint64_t before = metric_counter_value(METRIC_REQUESTS_4XX);
    metric_add(METRIC_REQUESTS_4XX, 3);
    assert_int_equal(metric_counter_value(METRIC_REQUESTS_4XX), before + 3);
    metric_gauge_set(METRIC_CONNECTIONS, 5);
    metric_gauge_add(METRIC_CONNECTIONS, -7);
    assert_int_equal(metric_gauge_value(METRIC_CONNECTIONS), -2);

    auto_buf out = BUF_INIT(EXPOSITION_BYTES_MAX);
    assert_true(metrics_format(&out));
    assert_non_null(strstr(out.ptr, "\norlop_http_requests_total{class=\"4xx\"} 3\n"));
    assert_non_null(strstr(out.ptr, "\norlop_http_connections -2\n"));
    assert_int_equal(count_of(out.ptr, "# HELP orlop_http_requests_total "), 1);
    assert_int_equal(count_of(out.ptr, "# TYPE orlop_http_requests_total counter\n"), 1);
    assert_int_equal(count_of(out.ptr, "\norlop_http_requests_total{"), 5);
}

static void test_histogram_is_cumulative(void **state)
{
    (void) state;
    metric_observe_us(METRIC_REQUEST_SECONDS, 0);
    metric_observe_us(METRIC_REQUEST_SECONDS, 500); /* a bound belongs to its bucket */
    metric_observe_us(METRIC_REQUEST_SECONDS, 501);
    metric_observe_us(METRIC_REQUEST_SECONDS, 2000000);
    metric_observe_us(METRIC_REQUEST_SECONDS, 61000000);

    auto_buf out = BUF_INIT(EXPOSITION_BYTES_MAX);
    assert_true(metrics_format(&out));
    static const char *const lines[] = {
        "# TYPE orlop_http_request_duration_seconds histogram\n",
        "orlop_http_request_duration_seconds_bucket{le=\"0.0005\"} 2\n",
        "orlop_http_request_duration_seconds_bucket{le=\"0.001\"} 3\n",
        "orlop_http_request_duration_seconds_bucket{le=\"1\"} 3\n",
        "orlop_http_request_duration_seconds_bucket{le=\"2.5\"} 4\n",
        "orlop_http_request_duration_seconds_bucket{le=\"60\"} 4\n",
        "orlop_http_request_duration_seconds_bucket{le=\"+Inf\"} 5\n",
        "orlop_http_request_duration_seconds_sum 63.001001\n",
        "orlop_http_request_duration_seconds_count 5\n",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        assert_non_null(strstr(out.ptr, lines[i]));
}

static void test_process_and_build(void **state)
{
    (void) state;
    auto_buf out = BUF_INIT(EXPOSITION_BYTES_MAX);
    assert_true(metrics_format(&out));
    assert_int_equal(count_of(out.ptr, "\norlop_build_info{version=\""), 1);

    static const struct {
        const char *name;
        double min;
        double max;
    } rows[] = {
        {"\nprocess_resident_memory_bytes ", 100e3, 10e9},
        {"\nprocess_open_fds ", 3, 1000},
        {"\nprocess_cpu_seconds_total ", 0, 1000},
        {"\nprocess_start_time_seconds ", 1.6e9, 4e9},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *at = strstr(out.ptr, rows[i].name);
        assert_non_null(at);
        double value = strtod(at + strlen(rows[i].name), NULL);
        assert_true(value >= rows[i].min && value <= rows[i].max);
    }
}

static void test_every_line_is_well_formed(void **state)
{
    (void) state;
    auto_buf out = BUF_INIT(EXPOSITION_BYTES_MAX);
    assert_true(metrics_format(&out));
    assert_int_equal(out.ptr[out.len - 1], '\n');
    /* Either a comment or "name value". */
    for (const char *line = out.ptr; *line;) {
        size_t len = strcspn(line, "\n");
        bool comment = strncmp(line, "# HELP orlop_", 13) == 0 || strncmp(line, "# TYPE orlop_", 13) == 0 ||
                       strncmp(line, "# HELP process_", 15) == 0 || strncmp(line, "# TYPE process_", 15) == 0;
        if (!comment) {
            const char *space = memchr(line, ' ', len);
            assert_non_null(space);
            char *end;
            (void) strtod(space + 1, &end);
            assert_ptr_equal(end, line + len);
        }
        line += len + 1;
    }
}

static void test_a_small_buffer_says_so(void **state)
{
    (void) state;
    auto_buf out = BUF_INIT(100);
    assert_false(metrics_format(&out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters_and_gauges),    cmocka_unit_test(test_histogram_is_cumulative),
        cmocka_unit_test(test_process_and_build),      cmocka_unit_test(test_every_line_is_well_formed),
        cmocka_unit_test(test_a_small_buffer_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

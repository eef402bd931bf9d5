#include "base/metrics.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/version.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>

#define US_PER_S 1000000.0
#define MS_PER_S 1000.0
#define PROC_FILE_BYTES_MAX 4096

/* Upper bounds of the histograms' buckets; as text too, so that labels never change with a float's printing. */
static const struct {
    uint64_t us;
    const char *seconds;
} bounds[] = {
    {500, "0.0005"}, {1000, "0.001"},  {2500, "0.0025"}, {5000, "0.005"},  {10000, "0.01"}, {25000, "0.025"},
    {50000, "0.05"}, {100000, "0.1"},  {250000, "0.25"}, {500000, "0.5"},  {1000000, "1"},  {2500000, "2.5"},
    {5000000, "5"},  {10000000, "10"}, {30000000, "30"}, {60000000, "60"},
};

#define BOUND_COUNT (sizeof(bounds) / sizeof(bounds[0]))

struct histogram {
    _Atomic uint64_t buckets[BOUND_COUNT + 1]; /* each its own count; the last is everything above */
    _Atomic uint64_t sum_us;
};

/* The process's metrics: the one set of globals besides the log. */
static _Atomic uint64_t counters[METRIC_COUNTER_COUNT];
static _Atomic int64_t gauges[METRIC_GAUGE_COUNT];
static struct histogram histograms[METRIC_HISTOGRAM_COUNT];

enum metric_type { TYPE_COUNTER, TYPE_GAUGE, TYPE_HISTOGRAM };

static const struct metric {
    enum metric_type type;
    unsigned index;
    const char *name;
    const char *labels;
    const char *help;
} metrics[] = {
#define COUNTER(id, name, labels, help) {TYPE_COUNTER, METRIC_##id, name, labels, help},
#define GAUGE(id, name, labels, help) {TYPE_GAUGE, METRIC_##id, name, labels, help},
#define HISTOGRAM(id, name, labels, help) {TYPE_HISTOGRAM, METRIC_##id, name, labels, help},
#include "base/metrics_table.h"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
};

void metric_add(enum metric_counter id, uint64_t n)
{
    atomic_fetch_add_explicit(&counters[id], n, memory_order_relaxed);
}

void metric_gauge_add(enum metric_gauge id, int64_t n)
{
    atomic_fetch_add_explicit(&gauges[id], n, memory_order_relaxed);
}

void metric_gauge_set(enum metric_gauge id, int64_t value)
{
    atomic_store_explicit(&gauges[id], value, memory_order_relaxed);
}

void metric_observe_us(enum metric_histogram id, uint64_t us)
{
    size_t bucket = 0;
    while (bucket < BOUND_COUNT && us > bounds[bucket].us)
        bucket++;
    atomic_fetch_add_explicit(&histograms[id].buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histograms[id].sum_us, us, memory_order_relaxed);
}

uint64_t metric_counter_value(enum metric_counter id)
{
    return atomic_load_explicit(&counters[id], memory_order_relaxed);
}

int64_t metric_gauge_value(enum metric_gauge id)
{
    return atomic_load_explicit(&gauges[id], memory_order_relaxed);
}

static void metrics_append_head(struct buf *out, const char *name, const char *type, const char *help)
{
    (void) buf_appendf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* The name, "{labels}" unless there are none, and a space. */
static void metrics_append_name(struct buf *out, const struct metric *metric)
{
    (void) buf_append_text(out, metric->name);
    if (metric->labels[0] != '\0')
        (void) buf_appendf(out, "{%s}", metric->labels);
    (void) buf_append_char(out, ' ');
}

static void metrics_append_histogram(struct buf *out, const struct metric *metric)
{
    struct histogram *histogram = &histograms[metric->index];
    const char *comma = metric->labels[0] != '\0' ? "," : "";
    const char *open = metric->labels[0] != '\0' ? "{" : "";
    const char *close = metric->labels[0] != '\0' ? "}" : "";

    unsigned long long total = 0;
    for (size_t i = 0; i <= BOUND_COUNT; i++) {
        total += atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
        (void) buf_appendf(out, "%s_bucket{%s%sle=\"%s\"} %llu\n", metric->name, metric->labels, comma,
                           i < BOUND_COUNT ? bounds[i].seconds : "+Inf", total);
    }
    double sum = (double) atomic_load_explicit(&histogram->sum_us, memory_order_relaxed) / US_PER_S;
    (void) buf_appendf(out, "%s_sum%s%s%s %.6f\n", metric->name, open, metric->labels, close, sum);
    (void) buf_appendf(out, "%s_count%s%s%s %llu\n", metric->name, open, metric->labels, close, total);
}

static void metrics_append(struct buf *out, const struct metric *metric)
{
    switch (metric->type) {
    case TYPE_COUNTER:
        metrics_append_name(out, metric);
        (void) buf_appendf(out, "%llu\n",
                           (unsigned long long) metric_counter_value((enum metric_counter) metric->index));
        break;
    case TYPE_GAUGE:
        metrics_append_name(out, metric);
        (void) buf_appendf(out, "%lld\n", (long long) metric_gauge_value((enum metric_gauge) metric->index));
        break;
    case TYPE_HISTOGRAM:
        metrics_append_histogram(out, metric);
        break;
    }
}

/* ---- the process, from /proc ---- */

static bool process_read(const char *path, struct buf *out)
{
    struct err err = ERR_INIT;
    return fs_read_file(AT_FDCWD, path, out, &err) == ERR_OK;
}

static void process_append_memory(struct buf *out)
{
    char text[PROC_FILE_BYTES_MAX];
    struct buf file = BUF_ON(text);
    unsigned long long pages;
    if (!process_read("/proc/self/statm", &file) || sscanf(file.ptr, "%*u %llu", &pages) != 1)
        return;
    metrics_append_head(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.");
    (void) buf_appendf(out, "process_resident_memory_bytes %llu\n", pages * (unsigned long long) sysconf(_SC_PAGESIZE));
}

static void process_append_fds(struct buf *out)
{
    auto_dir dir = opendir("/proc/self/fd");
    if (!dir)
        return;
    unsigned count = 0;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        count += entry->d_name[0] != '.';
    metrics_append_head(out, "process_open_fds", "gauge", "Open file descriptors.");
    (void) buf_appendf(out, "process_open_fds %u\n", count - 1); /* less the one that reads the directory */
}

/* CPU time and start: fields 14, 15 and 22 of /proc/self/stat, which stand behind the last ')'. */
static void process_append_times(struct buf *out)
{
    char text[PROC_FILE_BYTES_MAX];
    struct buf file = BUF_ON(text);
    char uptime_text[PROC_FILE_BYTES_MAX];
    struct buf uptime_file = BUF_ON(uptime_text);
    if (!process_read("/proc/self/stat", &file) || !process_read("/proc/uptime", &uptime_file))
        return;
    const char *rest = strrchr(file.ptr, ')');
    unsigned long long user;
    unsigned long long system;
    unsigned long long start;
    double uptime;
    if (!rest ||
        sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu", &user,
               &system, &start) != 3 ||
        sscanf(uptime_file.ptr, "%lf", &uptime) != 1)
        return;

    double ticks = (double) sysconf(_SC_CLK_TCK);
    double age = uptime - (double) start / ticks;
    metrics_append_head(out, "process_cpu_seconds_total", "counter", "User and system CPU time spent in seconds.");
    (void) buf_appendf(out, "process_cpu_seconds_total %.2f\n", (double) (user + system) / ticks);
    metrics_append_head(out, "process_start_time_seconds", "gauge", "Start time since the Unix epoch in seconds.");
    (void) buf_appendf(out, "process_start_time_seconds %.2f\n", (double) clock_wall_ms() / MS_PER_S - age);
}

bool metrics_format(struct buf *out)
{
    static const char *const type_names[] = {"counter", "gauge", "histogram"};
    const char *previous = "";
    for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
        if (strcmp(previous, metrics[i].name) != 0)
            metrics_append_head(out, metrics[i].name, type_names[metrics[i].type], metrics[i].help);
        previous = metrics[i].name;
        metrics_append(out, &metrics[i]);
    }
    metrics_append_head(out, "orlop_build_info", "gauge", "The running release; always 1.");
    (void) buf_append_text(out, "orlop_build_info{version=\"" ORLOP_VERSION "\"} 1\n");
    process_append_memory(out);
    process_append_fds(out);
    process_append_times(out);
    return !out->overflowed;
}

/*
 * Counters, gauges and histograms, all named in metrics_table.h, written out as Prometheus text.
 *
 * Adding is one relaxed atomic operation and never allocates. Threads: any.
 */
#ifndef ORLOP_BASE_METRICS_H
#define ORLOP_BASE_METRICS_H

#include "base/buf.h"

#include <stdint.h>

/* COUNTER(id, "name", "labels or empty", "help") — rows with the same name stand together and share the help. */
enum metric_counter {
#define COUNTER(id, name, labels, help) METRIC_##id,
#define GAUGE(id, name, labels, help)
#define HISTOGRAM(id, name, labels, help)
#include "base/metrics_table.h"
    METRIC_COUNTER_COUNT
};
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM

enum metric_gauge {
#define COUNTER(id, name, labels, help)
#define GAUGE(id, name, labels, help) METRIC_##id,
#define HISTOGRAM(id, name, labels, help)
#include "base/metrics_table.h"
    METRIC_GAUGE_COUNT
};
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM

/* Histograms have fixed bounds in seconds: 0.0005 … 60 in steps of about 2.5. */
enum metric_histogram {
#define COUNTER(id, name, labels, help)
#define GAUGE(id, name, labels, help)
#define HISTOGRAM(id, name, labels, help) METRIC_##id,
#include "base/metrics_table.h"
    METRIC_HISTOGRAM_COUNT
};
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM

void metric_add(enum metric_counter id, uint64_t n);
void metric_gauge_add(enum metric_gauge id, int64_t n);
void metric_gauge_set(enum metric_gauge id, int64_t value);
void metric_observe_us(enum metric_histogram id, uint64_t us);

uint64_t metric_counter_value(enum metric_counter id);
int64_t metric_gauge_value(enum metric_gauge id);

/* Append the whole Prometheus exposition, orlop_build_info and the usual process_* metrics included. false: it does not
 * fit. */
bool metrics_format(struct buf *out);

#endif

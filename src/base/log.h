/*
 * Structured logging to stderr: one line per event, a constant message and named fields. Text on a terminal, JSON
 * otherwise (or as log_init says).
 *
 * Lines are formatted on the caller's stack and put in a bounded ring (LOG_RING_BYTES) that one thread writes out in
 * batches, so a network thread never waits for a slow stderr. When the ring is full the line is dropped and counted
 * (log_dropped_count, a metric); before the next that fits a line says how many were lost. Before log_init and after
 * log_finish lines are written at once.
 *
 *     log_event(LOG_INFO, "upload committed", LOG_TEXT("digest", text), LOG_U64("bytes", size));
 *
 * Values are escaped; never log credentials. Threads: any.
 */
#ifndef ORLOP_BASE_LOG_H
#define ORLOP_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_RING_BYTES (1024 * 1024)
#define LOG_LINE_BYTES_MAX 4096  /* a longer line is cut at a field's end and marked "cut":true */
#define LOG_VALUE_BYTES_MAX 1024 /* a longer text is shortened to that and "..." */

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_FORMAT_AUTO, LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

struct log_field {
    const char *name;
    enum { LOG_FIELD_TEXT, LOG_FIELD_U64, LOG_FIELD_DOUBLE, LOG_FIELD_BOOL } type;
    const char *text; /* NULL: the field is left out */
    uint64_t u64;
    double number;
};

#define LOG_TEXT(n, v) ((struct log_field){.name = (n), .type = LOG_FIELD_TEXT, .text = (v)})
#define LOG_U64(n, v) ((struct log_field){.name = (n), .type = LOG_FIELD_U64, .u64 = (v)})
#define LOG_DOUBLE(n, v) ((struct log_field){.name = (n), .type = LOG_FIELD_DOUBLE, .number = (v)})
#define LOG_BOOL(n, v) ((struct log_field){.name = (n), .type = LOG_FIELD_BOOL, .u64 = (v)})

#define log_event(level, message, ...)                                     \
    log_write((level), (message), (const struct log_field[]){__VA_ARGS__}, \
              sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

/* Lowest level that is written. Safe to change while running (SIGHUP). Default LOG_INFO. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* Start the writer thread. Call once, after any fork. */
void log_init(enum log_format format);
/* Write what waits (for at most two seconds, should stderr be stuck) and stop the thread. */
void log_finish(void);

void log_write(enum log_level level, const char *message, const struct log_field *fields, size_t field_count);

uint64_t log_dropped_count(void);

/* "debug", "info", "warn", "error" to a level and back. */
bool log_level_parse(const char *text, enum log_level *out);
const char *log_level_name(enum log_level level);

#endif

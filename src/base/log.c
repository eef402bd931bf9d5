#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/json_text.h"
#include "base/metrics.h"
#include "base/wait.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#define LOG_BATCH_MS 5     /* how long a line may wait for others to be written with it */
#define LOG_FINISH_MS 2000 /* how long log_finish waits for a stderr that takes nothing */
#define LOG_CUT_BYTES 16   /* kept free for the mark of a cut line and its end */
#define LOG_DROPPED_LINE_BYTES_MAX 256

/*
 * The process has one stderr, hence one log. The ring's bytes [start, start + used) wait to be written; the writer
 * writes them where they stand and gives the room back afterwards, so producers never touch them meanwhile.
 */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t wake;  /* the writer: there is something to write, or to hurry for */
    pthread_cond_t ended; /* log_finish: the writer has ended */
    pthread_t writer;
    bool running; /* lines go to the ring */
    bool stopping;
    bool writer_waits; /* only then must a producer signal */
    uint64_t dropped_unsaid;
    size_t start;
    size_t used;
    char ring[LOG_RING_BYTES];
} sink = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static _Atomic int log_lowest = LOG_INFO;
static atomic_bool log_as_json = true;

static const char *const log_level_names[] = {"debug", "info", "warn", "error"};

const char *log_level_name(enum log_level level)
{
    return log_level_names[level];
}

bool log_level_parse(const char *text, enum log_level *out)
{
    for (size_t i = 0; i < sizeof(log_level_names) / sizeof(log_level_names[0]); i++) {
        if (strcmp(text, log_level_names[i]) == 0) {
            *out = (enum log_level) i;
            return true;
        }
    }
    return false;
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_lowest, (int) level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return (int) level >= atomic_load_explicit(&log_lowest, memory_order_relaxed);
}

uint64_t log_dropped_count(void)
{
    return metric_counter_value(METRIC_LOG_DROPPED);
}

/* ---- formatting ---- */

/* At most LOG_VALUE_BYTES_MAX of text, cut before a UTF-8 character rather than through it. */
static struct str log_value(const char *text, bool *out_cut)
{
    size_t len = strnlen(text, LOG_VALUE_BYTES_MAX + 1);
    *out_cut = len > LOG_VALUE_BYTES_MAX;
    if (*out_cut) {
        len = LOG_VALUE_BYTES_MAX;
        while (len > 0 && ((unsigned char) text[len] & 0xC0) == 0x80)
            len--;
    }
    return (struct str){text, len};
}

static bool log_append_text(struct buf *line, const char *text, bool json)
{
    bool cut;
    struct str value = log_value(text, &cut);
    bool plain = !json && !cut && value.len > 0;
    for (size_t i = 0; plain && i < value.len; i++)
        plain = value.ptr[i] > ' ' && value.ptr[i] < 0x7F && !strchr("\"=\\", value.ptr[i]);
    if (plain)
        return buf_append(line, value.ptr, value.len);
    if (!buf_append_json_string(line, value))
        return false;
    if (!cut)
        return true;
    line->len--; /* the closing quote, to come after the mark */
    return buf_append_text(line, "...\"");
}

static bool log_append_field(struct buf *line, const struct log_field *field, bool json)
{
    /* Every request makes a line: pieces put one behind the other cost half of what printf does. */
    if (!buf_append_text(line, json ? ",\"" : " ") || !buf_append_text(line, field->name) ||
        !buf_append_text(line, json ? "\":" : "="))
        return false;
    switch (field->type) {
    case LOG_FIELD_TEXT:
        return log_append_text(line, field->text, json);
    case LOG_FIELD_U64:
        return buf_append_u64(line, field->u64);
    case LOG_FIELD_DOUBLE:
        return isfinite(field->number) ? buf_appendf(line, "%.6g", field->number) : buf_append_text(line, "null");
    case LOG_FIELD_BOOL:
        return buf_append_text(line, field->u64 ? "true" : "false");
    default:
        return false;
    }
}

static void log_format_line(struct buf *line, bool json, enum log_level level, const char *message,
                            const struct log_field *fields, size_t field_count)
{
    char time_text[TIME_TEXT_BYTES];
    clock_format_rfc3339(clock_wall_ms(), time_text);

    size_t limit = line->max;
    line->max -= LOG_CUT_BYTES;
    bool cut = false;
    if (json) {
        const char *const start[] = {"{\"time\":\"", time_text, "\",\"level\":\"", log_level_name(level),
                                     "\",\"message\":"};
        for (size_t i = 0; i < sizeof(start) / sizeof(start[0]); i++)
            (void) buf_append_text(line, start[i]);
        size_t before = line->len;
        if (!log_append_text(line, message, true)) {
            line->len = before;
            (void) buf_append_text(line, "\"\"");
        }
    } else {
        (void) buf_appendf(line, "%s %-5s ", time_text, log_level_name(level));
        (void) buf_append_text(line, message);
    }

    for (size_t i = 0; i < field_count && !cut; i++) {
        size_t before = line->len;
        if (fields[i].type == LOG_FIELD_TEXT && !fields[i].text)
            continue;
        if (!log_append_field(line, &fields[i], json)) {
            line->len = before;
            cut = true;
        }
    }
    line->max = limit;
    if (cut)
        (void) buf_append_text(line, json ? ",\"cut\":true" : " cut=true");
    (void) buf_append_text(line, json ? "}\n" : "\n");
}

/* ---- writing ---- */

/* Write to stderr, waiting if it must. What cannot be written at all (nobody reads it any more) is dropped. */
static void log_write_out(const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t put = write(STDERR_FILENO, bytes, len);
        if (put >= 0) {
            bytes += put;
            len -= (size_t) put;
        } else if (errno == EAGAIN) {
            struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
            (void) poll(&ready, 1, -1);
        } else if (errno != EINTR) {
            return;
        }
    }
}

static void *log_run_writer(void *arg)
{
    (void) arg;
    pthread_mutex_lock(&sink.mutex);
    for (;;) {
        sink.writer_waits = true;
        while (sink.used == 0 && !sink.stopping)
            pthread_cond_wait(&sink.wake, &sink.mutex);
        sink.writer_waits = false;
        if (sink.used == 0)
            break;
        if (!sink.stopping && sink.used < LOG_RING_BYTES / 2)
            (void) wait_until(&sink.wake, &sink.mutex, clock_monotonic_ms() + LOG_BATCH_MS);
        size_t len = sink.used;
        if (len > LOG_RING_BYTES - sink.start)
            len = LOG_RING_BYTES - sink.start;
        const char *bytes = sink.ring + sink.start;
        pthread_mutex_unlock(&sink.mutex);
        log_write_out(bytes, len);
        pthread_mutex_lock(&sink.mutex);
        sink.start = (sink.start + len) % LOG_RING_BYTES;
        sink.used -= len;
    }
    sink.running = false;
    pthread_cond_signal(&sink.ended);
    pthread_mutex_unlock(&sink.mutex);
    return NULL;
}

/* Copy a line into the ring; the mutex is held. */
static bool log_put(struct str line)
{
    if (line.len > LOG_RING_BYTES - sink.used)
        return false;
    size_t at = (sink.start + sink.used) % LOG_RING_BYTES;
    size_t first = LOG_RING_BYTES - at < line.len ? LOG_RING_BYTES - at : line.len;
    memcpy(sink.ring + at, line.ptr, first);
    memcpy(sink.ring, line.ptr + first, line.len - first);
    sink.used += line.len;
    return true;
}

/* Say how many lines were lost, before the first that fits again; the mutex is held. */
static void log_say_dropped(bool json)
{
    char text[LOG_DROPPED_LINE_BYTES_MAX];
    struct buf line = BUF_ON(text);
    const struct log_field field = LOG_U64("lines", sink.dropped_unsaid);
    log_format_line(&line, json, LOG_WARN, "log lines were dropped: stderr is too slow", &field, 1);
    if (log_put(buf_str(&line)))
        sink.dropped_unsaid = 0;
}

void log_write(enum log_level level, const char *message, const struct log_field *fields, size_t field_count)
{
    if (!log_enabled(level))
        return;
    char text[LOG_LINE_BYTES_MAX + 1];
    struct buf line = BUF_ON(text);
    bool json = atomic_load_explicit(&log_as_json, memory_order_relaxed);
    log_format_line(&line, json, level, message, fields, field_count);

    pthread_mutex_lock(&sink.mutex);
    bool queued = sink.running;
    if (queued) {
        if (sink.dropped_unsaid > 0 && line.len + LOG_DROPPED_LINE_BYTES_MAX <= LOG_RING_BYTES - sink.used)
            log_say_dropped(json);
        if (sink.dropped_unsaid > 0 || !log_put(buf_str(&line))) {
            sink.dropped_unsaid++;
            metric_add(METRIC_LOG_DROPPED, 1);
        } else if (sink.writer_waits) {
            sink.writer_waits = false;
            pthread_cond_signal(&sink.wake);
        }
    }
    pthread_mutex_unlock(&sink.mutex);
    if (!queued)
        log_write_out(line.ptr, line.len);
}

void log_init(enum log_format format)
{
    bool json = format == LOG_FORMAT_JSON || (format == LOG_FORMAT_AUTO && !isatty(STDERR_FILENO));
    atomic_store(&log_as_json, json);

    wait_init(&sink.wake);
    wait_init(&sink.ended);

    pthread_mutex_lock(&sink.mutex);
    sink.stopping = false;
    sink.running = pthread_create(&sink.writer, NULL, log_run_writer, NULL) == 0; /* else lines are written at once */
    pthread_mutex_unlock(&sink.mutex);
}

void log_finish(void)
{
    pthread_mutex_lock(&sink.mutex);
    bool started = sink.running;
    sink.stopping = true;
    uint64_t until_ms = clock_monotonic_ms() + LOG_FINISH_MS;
    if (started)
        pthread_cond_signal(&sink.wake);
    while (sink.running && wait_until(&sink.ended, &sink.mutex, until_ms))
        ;
    bool ended = !sink.running;
    pthread_mutex_unlock(&sink.mutex);
    if (!started)
        return;
    if (ended)
        pthread_join(sink.writer, NULL);
    else
        pthread_detach(sink.writer); /* stderr is stuck; the process must end all the same */
}

#include "http/reply.h"

#include "base/json_text.h"
#include "http/exchange.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define HEADER_BYTES_USUAL 512
#define HEADER_VALUE_BYTES_MAX ((size_t) 8 * 1024)
#define ERROR_BODY_BYTES_MAX ((size_t) 8 * 1024)

void reply_init(struct reply *reply)
{
    reply->status = 0;
    reply->headers = BUF_INIT(REPLY_HEADER_BYTES_MAX);
    reply->segments = NULL;
    reply->segment_count = 0;
    reply->segment_cap = 0;
    reply->body_bytes = 0;
    reply->streams = false;
    reply->broken = false;
    reply->error = ERR_OK;
    reply->error_detail[0] = '\0';
}

static bool status_has_body(int status)
{
    return status != 204 && status != 304;
}

bool reply_is_streamed(const struct reply *reply)
{
    return reply->streams && reply->body_bytes > 0 && status_has_body(reply->status);
}

/* ---- segments ---- */

static void segment_release(const struct reply_segment *segment)
{
    if (segment->release)
        segment->release(segment->arg);
    if (segment->owned)
        fd_close(segment->fd);
}

static void reply_drop_body(struct reply *reply)
{
    for (size_t i = 0; i < reply->segment_count; i++)
        segment_release(&reply->segments[i]);
    reply->segment_count = 0;
    reply->body_bytes = 0;
    reply->streams = false;
}

void reply_free(struct reply *reply)
{
    reply_drop_body(reply);
    free(reply->segments);
    reply->segments = NULL;
    reply->segment_cap = 0;
    buf_free(&reply->headers);
}

static void reply_add_segment(struct reply *reply, const struct reply_segment *segment)
{
    if (reply->segment_count == reply->segment_cap) {
        size_t cap = reply->segment_cap == 0 ? 1 : REPLY_SEGMENTS_MAX;
        struct reply_segment *grown = reply->segment_cap < cap ? realloc(reply->segments, cap * sizeof(*grown)) : NULL;
        if (!grown) {
            reply->broken = true;
            segment_release(segment);
            return;
        }
        reply->segments = grown;
        reply->segment_cap = cap;
    }
    reply->segments[reply->segment_count++] = *segment;
    reply->body_bytes += segment->len;
    reply->streams |= segment->read != NULL;
}

static void reply_add_bytes(struct reply *reply, const void *bytes, size_t len, void (*release)(void *), void *arg)
{
    reply_add_segment(reply, &(struct reply_segment){
                                 .len = len, .bytes = len > 0 ? bytes : "", .release = release, .arg = arg, .fd = -1});
}

static void reply_add_buf(struct reply *reply, struct buf *body)
{
    size_t len = body->len;
    char *bytes = TAKE_PTR(body->ptr);
    if (body->overflowed)
        reply->broken = true;
    body->len = 0;
    body->cap = 0;
    body->overflowed = false;
    reply_add_bytes(reply, bytes, len, free, bytes);
}

/* ---- headers ---- */

void reply_set_header(struct reply *reply, const char *name, const char *value)
{
    assert(!strpbrk(name, "\r\n: ") && !strpbrk(value, "\r\n"));
    if (reply->headers.cap == 0)
        (void) buf_reserve(&reply->headers, HEADER_BYTES_USUAL);
    if (!buf_append(&reply->headers, name, strlen(name) + 1) || !buf_append(&reply->headers, value, strlen(value) + 1))
        reply->broken = true;
}

bool reply_next_header(const struct reply *reply, size_t *at, const char **out_name, const char **out_value)
{
    if (*at >= reply->headers.len)
        return false;
    *out_name = reply->headers.ptr + *at;
    *at += strlen(*out_name) + 1;
    *out_value = reply->headers.ptr + *at;
    *at += strlen(*out_value) + 1;
    return true;
}

/* ---- errors ---- */

/* What a client may know: below 500 the message; above, the table's words and where to look. */
static bool error_format(struct buf *out, const struct err *err, const char *request_id)
{
    const struct err_info *info = err_info(err->code);
    char generic[ERR_MESSAGE_BYTES_MAX];
    const char *message = err->message[0] ? err->message : info->text;

    if (info->http_status >= 500) {
        (void) snprintf(generic, sizeof(generic), "%s (request %s)", info->text, request_id);
        message = generic;
    }
    (void) buf_appendf(out, "{\"errors\":[{\"code\":\"%s\",\"message\":", info->oci_code);
    (void) buf_append_json_string(out, str_from(message));
    (void) buf_append_text(out, ",\"detail\":{\"request\":");
    (void) buf_append_json_string(out, str_from(request_id));
    (void) buf_append_text(out, "}}]}\n");
    return !out->overflowed;
}

void reply_set_error(struct reply *reply, const struct err *err, const char *request_id)
{
    const struct err_info *info = err_info(err->code);
    auto_buf body = BUF_INIT(ERROR_BODY_BYTES_MAX);

    assert(err->code != ERR_OK);
    reply_drop_body(reply);
    reply->status = info->http_status;
    reply->error = err->code;
    (void) snprintf(reply->error_detail, sizeof(reply->error_detail), "%s", err_text(err));
    if (err->code == ERR_UNAUTHORIZED)
        reply_set_header(reply, "WWW-Authenticate", "Basic realm=\"orlop\"");
    if (info->http_status == 503 || info->http_status == 429) {
        char seconds[16];
        (void) snprintf(seconds, sizeof(seconds), "%d", REPLY_RETRY_AFTER_S);
        reply_set_header(reply, "Retry-After", seconds);
    }
    reply_set_header(reply, "Content-Type", "application/json");
    (void) error_format(&body, err, request_id);
    reply_add_buf(reply, &body);
}

void reply_seal(struct reply *reply)
{
    if (reply->broken) {
        reply_free(reply);
        enum err_code code = reply->error;
        reply_init(reply);
        reply->status = 503;
        reply->error = code != ERR_OK ? code : ERR_NO_MEMORY;
    }
    if (!status_has_body(reply->status))
        reply_drop_body(reply);
}

/* ---- sending ---- */

/* The segment that holds the body's byte at pos, of which *out_offset is where in it; NULL past the end. */
static const struct reply_segment *reply_find_segment(const struct reply *reply, uint64_t pos, uint64_t *out_offset)
{
    for (size_t i = 0; i < reply->segment_count; i++) {
        if (pos < reply->segments[i].len) {
            *out_offset = pos;
            return &reply->segments[i];
        }
        pos -= reply->segments[i].len;
    }
    return NULL;
}

ssize_t reply_read_body(const struct reply *reply, uint64_t pos, char *out, size_t len)
{
    uint64_t offset;
    const struct reply_segment *segment = reply_find_segment(reply, pos, &offset);
    if (!segment)
        return 0;
    assert(!segment->read);
    if (len > segment->len - offset)
        len = (size_t) (segment->len - offset);
    if (segment->bytes) {
        memcpy(out, segment->bytes + offset, len);
        return (ssize_t) len;
    }
    ssize_t n;
    do
        n = pread(segment->fd, out, len, (off_t) (segment->offset + offset));
    while (n < 0 && errno == EINTR);
    return n > 0 ? n : -1;
}

size_t reply_fill(const struct reply *reply, uint64_t pos, char *out, size_t len, struct err *err)
{
    uint64_t offset;
    size_t got = 0;
    const struct reply_segment *segment = reply_find_segment(reply, pos, &offset);
    if (!segment || !segment->read) {
        ssize_t n = reply_read_body(reply, pos, out, len);
        if (n <= 0)
            (void) err_set(err, ERR_IO, "a file of the answer is shorter than it was, or cannot be read");
        return n > 0 ? (size_t) n : 0;
    }
    if (len > segment->len - offset)
        len = (size_t) (segment->len - offset);
    if (segment->read(segment->arg, segment->offset + offset, out, len, &got, err))
        return 0;
    assert(got <= len);
    if (got == 0)
        (void) err_set(err, ERR_IO, "the answer's source ended at byte %llu, %llu bytes early",
                       (unsigned long long) segment->offset + offset, (unsigned long long) segment->len - offset);
    return got;
}

bool reply_is_truncated(const struct reply *reply)
{
    for (size_t i = 0; i < reply->segment_count; i++) {
        const struct reply_segment *segment = &reply->segments[i];
        struct stat st;
        if (!segment->bytes && segment->fd >= 0 &&
            (fstat(segment->fd, &st) != 0 || (uint64_t) st.st_size < segment->offset + segment->len))
            return true;
    }
    return false;
}

static const char *status_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {416, "Range Not Satisfiable"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
        {507, "Insufficient Storage"},
    };

    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status)
            return reasons[i].reason;
    }
    return "Status"; /* the phrase means nothing to a client */
}

bool reply_render(const struct reply *reply, bool is_head, struct buf *out)
{
    time_t now = (time_t) (clock_wall_ms() / 1000);
    struct tm tm;
    char date[64];
    (void) strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    (void) buf_appendf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: close\r\n", reply->status,
                       status_reason(reply->status), date);

    const char *name;
    const char *value;
    for (size_t at = 0; reply_next_header(reply, &at, &name, &value);)
        (void) buf_appendf(out, "%s: %s\r\n", name, value);
    if (status_has_body(reply->status))
        (void) buf_appendf(out, "Content-Length: %llu\r\n", (unsigned long long) reply->body_bytes);
    (void) buf_append_text(out, "\r\n");

    for (uint64_t pos = 0; !is_head && pos < reply->body_bytes;) {
        size_t len = reply->body_bytes - pos < BUFSIZ ? (size_t) (reply->body_bytes - pos) : BUFSIZ;
        ssize_t n = buf_reserve(out, len) ? reply_read_body(reply, pos, out->ptr + out->len, len) : -1;
        if (n <= 0)
            return false;
        out->len += (size_t) n;
        pos += (uint64_t) n;
    }
    return !out->overflowed;
}

/* ---- request.h: what endpoints call ---- */

static struct reply *request_reply(struct request *request)
{
    struct reply *reply = exchange_reply(request);
    request->reply = reply;
    return reply;
}

void reply_status(struct request *request, int status)
{
    assert(status >= 200 && status < 600);
    request_reply(request)->status = status;
}

void reply_header(struct request *request, const char *name, const char *value)
{
    reply_set_header(request_reply(request), name, value);
}

void reply_headerf(struct request *request, const char *name, const char *format, ...)
{
    auto_buf value = BUF_INIT(HEADER_VALUE_BYTES_MAX);
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);

    if (len < 0 || !buf_reserve(&value, (size_t) len + 1)) {
        request_reply(request)->broken = true;
        return;
    }
    va_start(args, format);
    (void) vsnprintf(value.ptr, (size_t) len + 1, format, args);
    va_end(args);
    reply_header(request, name, value.ptr);
}

void reply_body_take(struct request *request, struct buf *body)
{
    reply_add_buf(request_reply(request), body);
}

void reply_body_shared(struct request *request, const void *bytes, size_t len, void (*release)(void *), void *arg)
{
    reply_add_bytes(request_reply(request), bytes, len, release, arg);
}

void reply_body_file(struct request *request, int fd, bool owned, uint64_t offset, uint64_t len)
{
    reply_add_segment(request_reply(request),
                      &(struct reply_segment){.len = len, .fd = fd, .owned = owned, .offset = offset});
}

void reply_body_stream(struct request *request, uint64_t offset, uint64_t len, reply_read_fn *read,
                       void (*release)(void *arg), void *arg)
{
    reply_add_segment(
        request_reply(request),
        &(struct reply_segment){.len = len, .read = read, .release = release, .arg = arg, .fd = -1, .offset = offset});
}

void reply_body_text(struct request *request, const char *text, size_t len)
{
    auto_buf copy = BUF_INIT(len + 1);
    if (!buf_append(&copy, text, len))
        request_reply(request)->broken = true;
    reply_add_buf(request_reply(request), &copy);
}

void reply_error(struct request *request, const struct err *err)
{
    reply_set_error(request_reply(request), err, request->id);
}

int reply_status_code(const struct request *request)
{
    return request->reply ? request->reply->status : 0;
}

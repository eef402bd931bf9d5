/*
 * A slot (s3_slots.h) is an easy handle, the multi handle that drives it and keeps its connection, and the state of the
 * exchange that runs on it. libcurl is driven by hand (perform, poll) instead of by curl_easy_perform: the body can
 * then be pulled, and the peer is timed only while somebody waits for it.
 */
#include "store/s3_http.h"

#include "base/clock.h"
#include "store/s3_slots.h"

#include <assert.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

#define POLL_MS_MAX 1000
#define READ_STEP_BYTES (64 * 1024)      /* by which read_all grows */
#define UPLOAD_BUFFER_BYTES (64L * 1024) /* libcurl's own, per connection */
#define RECEIVE_BUFFER_BYTES (128L * 1024)
#define RECEIVE_BUFFER_BYTES_SENDING (16L * 1024) /* what answers a request with a body is short */
#define DRAIN_BYTES_MAX (64 * 1024) /* of a body not read to its end: worth receiving to keep the connection */
#define MS_PER_S 1000

struct s3_http_exchange {
    struct s3_slot slot; /* first */
    struct s3_http *http;
    CURL *easy;
    CURLM *multi;
    struct curl_slist *headers;
    char problem[CURL_ERROR_SIZE];

    const struct str *body; /* the request's, and how far it was given to libcurl */
    size_t body_count;
    size_t span;
    size_t span_offset;

    struct s3_http_answer *answer; /* NULL once the head is complete */
    size_t header_bytes;
    char retry_after[64];

    char *want; /* where the body goes now; want_len is what still fits */
    size_t want_len;
    size_t want_got;
    uint64_t received_bytes;
    uint64_t content_length;
    char stash[CURL_MAX_WRITE_SIZE]; /* what did not fit into want: at most one write of libcurl's */
    size_t stash_len;
    size_t stash_offset;

    uint64_t deadline_ms; /* 0: none */
    uint64_t moved_ms;    /* when a byte last moved, or waiting began */
    bool moved;
    bool sent; /* a connection was there and the request went out on it */
    bool head_done;
    bool is_paused;
    bool is_discarding;
    bool done;
    CURLcode result;
};

struct s3_http {
    struct s3_http_settings settings;
    char *ca_file;
    bool ca_is_directory;
    struct s3_slots slots;
};

/* ---- dates and headers ---- */

bool s3_http_parse_date(struct str text, uint64_t *out_ms)
{
    char copy[64];
    if (text.len >= sizeof(copy))
        return false;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    time_t seconds = curl_getdate(copy, NULL);
    if (seconds < 0)
        return false;
    *out_ms = (uint64_t) seconds * MS_PER_S;
    return true;
}

struct str s3_http_amz(const struct s3_http_answer *answer, const char *name)
{
    size_t name_len = strlen(name);
    for (const char *line = answer->amz; *line;) {
        size_t len = strcspn(line, "\n");
        if (len > name_len && memcmp(line, name, name_len) == 0 && line[name_len] == ':')
            return (struct str){line + name_len + 1, len - name_len - 1};
        line += len + (line[len] == '\n');
    }
    return (struct str){"", 0};
}

static void answer_reset(struct s3_http_answer *answer)
{
    memset(answer, 0, sizeof(*answer));
    answer->content_length = S3_HTTP_UNKNOWN;
    answer->range_first = S3_HTTP_UNKNOWN;
    answer->range_total = S3_HTTP_UNKNOWN;
}

static bool name_is(struct str name, const char *expected)
{
    return name.len == strlen(expected) && strncasecmp(name.ptr, expected, name.len) == 0;
}

static void copy_text(char *out, size_t out_bytes, struct str text)
{
    size_t len = text.len < out_bytes ? text.len : out_bytes - 1;
    memcpy(out, text.ptr, len);
    out[len] = '\0';
}

/* "bytes 0-99/1234", "bytes 0-99/" followed by a star, or "bytes" and "*" "/1234" for a range that cannot be served */
static void answer_take_range(struct s3_http_answer *answer, struct str value)
{
    const char *slash = memchr(value.ptr, '/', value.len);
    const char *dash = memchr(value.ptr, '-', value.len);
    static const char unit[] = "bytes ";
    if (!slash || !str_starts(value, STR("bytes ")))
        return;
    const char *first = value.ptr + sizeof(unit) - 1;
    uint64_t number;
    if (dash && str_parse_u64((struct str){first, (size_t) (dash - first)}, &number))
        answer->range_first = number;
    if (str_parse_u64((struct str){slash + 1, value.len - (size_t) (slash + 1 - value.ptr)}, &number))
        answer->range_total = number;
}

static void answer_take_amz(struct s3_http_answer *answer, struct str name, struct str value)
{
    size_t used = strlen(answer->amz);
    if (name.len + value.len + 2 >= sizeof(answer->amz) - used || memchr(value.ptr, '\n', value.len))
        return;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        answer->amz[used++] = c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
    }
    answer->amz[used++] = ':';
    memcpy(answer->amz + used, value.ptr, value.len);
    memcpy(answer->amz + used + value.len, "\n", 2);
}

static void exchange_take_header(struct s3_http_exchange *exchange, struct str name, struct str value)
{
    struct s3_http_answer *answer = exchange->answer;
    if (name_is(name, "etag"))
        copy_text(answer->etag, sizeof(answer->etag), value);
    else if (name_is(name, "content-length"))
        (void) str_parse_u64(value, &answer->content_length);
    else if (name_is(name, "content-range"))
        answer_take_range(answer, value);
    else if (name_is(name, "date"))
        (void) s3_http_parse_date(value, &answer->date_ms);
    else if (name_is(name, "last-modified"))
        (void) s3_http_parse_date(value, &answer->last_modified_ms);
    else if (name_is(name, "retry-after"))
        copy_text(exchange->retry_after, sizeof(exchange->retry_after), value);
    else if (name_is(name, "location"))
        copy_text(answer->location, sizeof(answer->location), value);
    else if (name.len > 6 && strncasecmp(name.ptr, "x-amz-", 6) == 0)
        answer_take_amz(answer, name, value);
}

static void exchange_finish_head(struct s3_http_exchange *exchange)
{
    struct s3_http_answer *answer = exchange->answer;
    struct str text = str_from(exchange->retry_after);
    uint64_t number;
    if (str_parse_u64(text, &number)) {
        answer->retry_after_ms = number > UINT32_MAX ? UINT32_MAX : number * MS_PER_S;
    } else if (text.len > 0 && s3_http_parse_date(text, &number)) {
        uint64_t now = answer->date_ms ? answer->date_ms : clock_wall_ms();
        answer->retry_after_ms = number > now ? number - now : 0;
    }
    exchange->content_length = answer->content_length;
    exchange->head_done = true;
    exchange->answer = NULL;
}

/* ---- what libcurl calls ---- */

static void exchange_moved(struct s3_http_exchange *exchange)
{
    exchange->moved = true;
    exchange->moved_ms = clock_monotonic_ms();
}

static size_t on_header(char *bytes, size_t size, size_t count, void *arg)
{
    struct s3_http_exchange *exchange = arg;
    struct str line = {bytes, size * count};
    exchange_moved(exchange);
    exchange->header_bytes += line.len;
    if (exchange->header_bytes > S3_HTTP_HEADERS_BYTES_MAX)
        return 0;
    if (!exchange->answer) /* a trailer */
        return line.len;

    size_t full_len = line.len;
    while (line.len > 0 && strchr("\r\n \t", line.ptr[line.len - 1]))
        line.len--;
    if (str_starts(line, STR("HTTP/"))) {
        const char *space = memchr(line.ptr, ' ', line.len);
        answer_reset(exchange->answer);
        exchange->retry_after[0] = '\0';
        /* libcurl has checked the line: three digits stand there. */
        exchange->answer->status = space ? (int) strtol(space + 1, NULL, 10) : 0;
    } else if (line.len == 0) {
        if (exchange->answer->status >= 200)
            exchange_finish_head(exchange);
    } else {
        const char *colon = memchr(line.ptr, ':', line.len);
        if (colon) {
            struct str name = {line.ptr, (size_t) (colon - line.ptr)};
            struct str value = {colon + 1, line.len - name.len - 1};
            while (value.len > 0 && (*value.ptr == ' ' || *value.ptr == '\t')) {
                value.ptr++;
                value.len--;
            }
            exchange_take_header(exchange, name, value);
        }
    }
    return full_len;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *arg)
{
    struct s3_http_exchange *exchange = arg;
    size_t len = size * count;
    if (exchange->is_discarding) {
        exchange->received_bytes += len;
        return len;
    }
    if (exchange->want_len == 0 || len > exchange->want_len + sizeof(exchange->stash)) {
        exchange->is_paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    size_t taken = len < exchange->want_len ? len : exchange->want_len;
    memcpy(exchange->want + exchange->want_got, bytes, taken);
    exchange->want_got += taken;
    exchange->want_len -= taken;
    memcpy(exchange->stash, bytes + taken, len - taken);
    exchange->stash_len = len - taken;
    exchange->stash_offset = 0;
    exchange->received_bytes += len;
    exchange_moved(exchange);
    return len;
}

static size_t on_send(char *bytes, size_t size, size_t count, void *arg)
{
    struct s3_http_exchange *exchange = arg;
    size_t room = size * count;
    size_t given = 0;
    while (given < room && exchange->span < exchange->body_count) {
        const struct str *span = &exchange->body[exchange->span];
        size_t left = span->len - exchange->span_offset;
        size_t len = left < room - given ? left : room - given;
        if (len > 0)
            memcpy(bytes + given, span->ptr + exchange->span_offset, len);
        given += len;
        exchange->span_offset += len;
        if (len == left) {
            exchange->span++;
            exchange->span_offset = 0;
        }
    }
    exchange_moved(exchange);
    return given;
}

/*
 * libcurl is about to send the request. Once: when a kept connection turns out to be dead it would send again by
 * itself, but whether that is safe is for s3_client.c to say.
 */
static int on_request(void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
    struct s3_http_exchange *exchange = arg;
    (void) remote_ip;
    (void) local_ip;
    (void) remote_port;
    (void) local_port;
    if (exchange->sent)
        return CURL_PREREQFUNC_ABORT;
    exchange->sent = true;
    exchange_moved(exchange);
    return CURL_PREREQFUNC_OK;
}

/* ---- the pool ---- */

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static bool curl_is_ready; /* by curl_once */

static void curl_start(void)
{
    curl_is_ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

static void slot_free(struct s3_slot *slot)
{
    struct s3_http_exchange *exchange = (struct s3_http_exchange *) slot;
    if (exchange->easy)
        curl_easy_cleanup(exchange->easy);
    if (exchange->multi)
        curl_multi_cleanup(exchange->multi);
    free(exchange);
}

static struct s3_slot *slot_new(void *arg)
{
    struct s3_http_exchange *exchange = calloc(1, sizeof(*exchange));
    if (!exchange)
        return NULL;
    exchange->http = arg;
    exchange->easy = curl_easy_init();
    exchange->multi = curl_multi_init();
    if (!exchange->easy || !exchange->multi) {
        slot_free(&exchange->slot);
        return NULL;
    }
    (void) curl_multi_setopt(exchange->multi, CURLMOPT_MAXCONNECTS, 1L);
    return &exchange->slot;
}

enum err_code s3_http_open(const struct s3_http_settings *settings, struct s3_http **out, struct err *err)
{
    assert(settings->connections_max >= 1 && settings->connections_max <= S3_HTTP_CONNECTIONS_MAX);
    pthread_once(&curl_once, curl_start);
    struct s3_http *http = calloc(1, sizeof(*http));
    if (!http || !curl_is_ready) {
        free(http);
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    }
    http->settings = *settings;
    if (settings->ca_file && settings->ca_file[0] != '\0') {
        struct stat st;
        if (stat(settings->ca_file, &st) != 0) {
            int failed = errno;
            free(http);
            (void) err_set_errno(err, failed, "CA certificates %s", settings->ca_file);
            return err_become(err, ERR_INVALID, "The file of CA certificates for the store cannot be read");
        }
        http->ca_is_directory = S_ISDIR(st.st_mode);
        http->ca_file = strdup(settings->ca_file);
        if (!http->ca_file) {
            free(http);
            return err_set(err, ERR_NO_MEMORY, "out of memory");
        }
    }
    s3_slots_init(&http->slots, settings->connections_max, slot_new, http);
    *out = http;
    return ERR_OK;
}

void s3_http_close(struct s3_http *http)
{
    if (!http)
        return;
    s3_slots_destroy(&http->slots, slot_free);
    free(http->ca_file);
    free(http);
}

/* Leave what the slot was doing; a connection in the middle of an answer is closed. */
static void exchange_stop(struct s3_http_exchange *exchange)
{
    (void) curl_multi_remove_handle(exchange->multi, exchange->easy);
    curl_slist_free_all(exchange->headers);
    exchange->headers = NULL;
}

/* NULL: none in time (or no memory). */
static struct s3_http_exchange *pool_take(struct s3_http *http)
{
    bool was_parked;
    struct s3_slot *slot = s3_slots_take(&http->slots, http->settings.wait_timeout_ms, &was_parked);
    struct s3_http_exchange *exchange = (struct s3_http_exchange *) slot;
    if (was_parked)
        exchange_stop(exchange);
    return exchange;
}

uint64_t s3_http_park(struct s3_http_exchange *exchange)
{
    return s3_slots_park(&exchange->http->slots, &exchange->slot);
}

bool s3_http_unpark(struct s3_http *http, struct s3_http_exchange *exchange, uint64_t parking)
{
    return s3_slots_unpark(&http->slots, &exchange->slot, parking);
}

/* ---- an exchange ---- */

static void exchange_reset(struct s3_http_exchange *exchange, const struct s3_http_request *request,
                           struct s3_http_answer *answer)
{
    exchange->problem[0] = '\0';
    exchange->body = request->body;
    exchange->body_count = request->body_count;
    exchange->span = exchange->span_offset = 0;
    exchange->answer = answer;
    exchange->header_bytes = 0;
    exchange->retry_after[0] = '\0';
    exchange->want = NULL;
    exchange->want_len = exchange->want_got = 0;
    exchange->received_bytes = 0;
    exchange->content_length = S3_HTTP_UNKNOWN;
    exchange->stash_len = exchange->stash_offset = 0;
    exchange->moved_ms = clock_monotonic_ms();
    exchange->deadline_ms = request->timeout_ms ? exchange->moved_ms + request->timeout_ms : 0;
    exchange->moved = exchange->sent = exchange->head_done = exchange->is_paused = exchange->is_discarding = false;
    exchange->done = false;
    exchange->result = CURLE_OK;
    answer_reset(answer);
}

static bool exchange_add_header(struct s3_http_exchange *exchange, const char *name, const char *value)
{
    assert(!strpbrk(name, "\r\n:") && !strpbrk(value, "\r\n"));
    auto_buf line = BUF_INIT(S3_HTTP_HEADERS_BYTES_MAX);
    /* "name;" is libcurl's spelling of a header without a value; "name:" would remove it. */
    if (!buf_appendf(&line, value[0] != '\0' ? "%s: %s" : "%s;%s", name, value))
        return false;
    struct curl_slist *longer = curl_slist_append(exchange->headers, line.ptr);
    if (!longer)
        return false;
    exchange->headers = longer;
    return true;
}

static bool exchange_set_headers(struct s3_http_exchange *exchange, const struct s3_http_request *request)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (!exchange_add_header(exchange, request->headers[i].name, request->headers[i].value))
            return false;
    }
    /* Bodies are small, or the store is meant to take them: a round trip to ask first is not worth it. */
    struct curl_slist *longer = curl_slist_append(exchange->headers, "Expect:");
    if (!longer)
        return false;
    exchange->headers = longer;
    return curl_easy_setopt(exchange->easy, CURLOPT_HTTPHEADER, exchange->headers) == CURLE_OK;
}

static void exchange_set_method(struct s3_http_exchange *exchange, const struct s3_http_request *request)
{
    CURL *easy = exchange->easy;
    uint64_t body_bytes = 0;
    for (size_t i = 0; i < request->body_count; i++)
        body_bytes += request->body[i].len;
    if (strcmp(request->method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else if (strcmp(request->method, "PUT") == 0 || strcmp(request->method, "POST") == 0) {
        /* As an upload a POST, too, gets no Content-Type that nobody asked for. */
        curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t) body_bytes);
    } else {
        assert(body_bytes == 0);
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    }
    if (strcmp(request->method, "HEAD") != 0)
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
}

static bool exchange_set_up(struct s3_http_exchange *exchange, const struct s3_http_request *request)
{
    const struct s3_http *http = exchange->http;
    CURL *easy = exchange->easy;
    curl_easy_reset(easy); /* keeps the connection */
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, exchange->problem);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "orlop");
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) http->settings.connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE,
                     request->body_count ? RECEIVE_BUFFER_BYTES_SENDING : RECEIVE_BUFFER_BYTES);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER_BYTES);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, exchange);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, exchange);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_send);
    curl_easy_setopt(easy, CURLOPT_READDATA, exchange);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_request);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, exchange);
    if (http->ca_file)
        curl_easy_setopt(easy, http->ca_is_directory ? CURLOPT_CAPATH : CURLOPT_CAINFO, http->ca_file);
    if (http->settings.proxy_is_ignored)
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    exchange_set_method(exchange, request);
    return curl_easy_setopt(easy, CURLOPT_URL, request->url) == CURLE_OK && exchange_set_headers(exchange, request) &&
           curl_multi_add_handle(exchange->multi, easy) == CURLM_OK;
}

/* The end of what libcurl did: from its result, or because time ran out. */
static enum err_code exchange_fail(struct s3_http_exchange *exchange, struct err *err)
{
    CURLcode result = exchange->result;
    const char *problem = exchange->problem[0] ? exchange->problem : curl_easy_strerror(result);
    enum err_code code = ERR_UPSTREAM;
    const char *message = "The connection to the object store broke";
    if (result == CURLE_OUT_OF_MEMORY) {
        code = ERR_NO_MEMORY;
        message = "out of memory";
    } else if (result == CURLE_OPERATION_TIMEDOUT) {
        code = exchange->sent ? ERR_TIMEOUT : ERR_STORE_GONE;
        message = "The object store took too long to answer";
    } else if (!exchange->sent) {
        code = ERR_STORE_GONE;
        message = "The object store cannot be reached";
    } else if (result == CURLE_ABORTED_BY_CALLBACK || result == CURLE_SEND_FAIL_REWIND) {
        problem = "the connection was closed before an answer came";
    } else if (result == CURLE_WRITE_ERROR && !exchange->head_done) {
        problem = "the answer's headers are too long";
    }
    (void) err_set(err, code, "%s", message);
    return err_wrap(err, "%s", problem);
}

static enum err_code exchange_time_out(struct s3_http_exchange *exchange, struct err *err)
{
    exchange->done = true;
    exchange->result = CURLE_OPERATION_TIMEDOUT;
    (void) snprintf(exchange->problem, sizeof(exchange->problem), "%s",
                    exchange->deadline_ms ? "the time for this request is over" : "no byte moved for too long");
    return exchange_fail(exchange, err);
}

/* Let libcurl do what it can do now, or wait until it can do something. exchange->done tells its end. */
static enum err_code exchange_step(struct s3_http_exchange *exchange, struct err *err)
{
    int running, messages;
    exchange->moved = false;
    if (curl_multi_perform(exchange->multi, &running) != CURLM_OK) {
        exchange->done = true;
        exchange->result = CURLE_OUT_OF_MEMORY;
        return exchange_fail(exchange, err);
    }
    const CURLMsg *message = curl_multi_info_read(exchange->multi, &messages);
    if (message && message->msg == CURLMSG_DONE) {
        exchange->done = true;
        exchange->result = message->data.result;
        return exchange->result == CURLE_OK ? ERR_OK : exchange_fail(exchange, err);
    }

    uint64_t now = clock_monotonic_ms();
    uint64_t until_ms = exchange->deadline_ms;
    if (until_ms == 0)
        until_ms = exchange->moved_ms + exchange->http->settings.stall_timeout_ms;
    if (now >= until_ms)
        return exchange_time_out(exchange, err);
    if (exchange->moved)
        return ERR_OK;
    uint64_t wait_ms = until_ms - now;
    (void) curl_multi_poll(exchange->multi, NULL, 0, wait_ms < POLL_MS_MAX ? (int) wait_ms : POLL_MS_MAX, NULL);
    return ERR_OK;
}

enum err_code s3_http_begin(struct s3_http *http, const struct s3_http_request *request, struct s3_http_answer *answer,
                            struct s3_http_exchange **out, enum s3_http_fate *out_fate, struct err *err)
{
    *out = NULL;
    *out_fate = S3_HTTP_NOT_SENT;
    answer_reset(answer);
    struct s3_http_exchange *exchange = pool_take(http);
    if (!exchange)
        return err_set(err, ERR_BUSY, "All connections to the object store are busy, try again");
    exchange_reset(exchange, request, answer);
    if (!exchange_set_up(exchange, request)) {
        s3_http_end(exchange);
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    }

    struct err failure = ERR_INIT;
    enum err_code code = ERR_OK;
    while (code == ERR_OK && !exchange->head_done && !exchange->done)
        code = exchange_step(exchange, &failure);
    if (code == ERR_OK && !exchange->head_done)
        code = err_set(&failure, ERR_UPSTREAM, "The object store sent no answer");
    *out_fate = exchange->head_done ? S3_HTTP_ANSWERED : exchange->sent ? S3_HTTP_AMBIGUOUS : S3_HTTP_NOT_SENT;
    exchange->answer = NULL;
    if (!exchange->head_done) { /* with a head, a failure is the body's: for s3_http_read to tell */
        s3_http_end(exchange);
        *err = failure;
        return code;
    }
    *out = exchange;
    return ERR_OK;
}

enum err_code s3_http_read(struct s3_http_exchange *exchange, void *bytes, size_t len, size_t *out_len, struct err *err)
{
    assert(len > 0);
    size_t stashed = exchange->stash_len - exchange->stash_offset;
    if (stashed > 0) {
        size_t taken = stashed < len ? stashed : len;
        memcpy(bytes, exchange->stash + exchange->stash_offset, taken);
        exchange->stash_offset += taken;
        *out_len = taken;
        return ERR_OK;
    }

    exchange->want = bytes;
    exchange->want_len = len;
    exchange->want_got = 0;
    exchange->moved_ms = clock_monotonic_ms();
    if (exchange->is_paused) {
        exchange->is_paused = false;
        (void) curl_easy_pause(exchange->easy, CURLPAUSE_CONT);
    }
    struct err failure = ERR_INIT;
    enum err_code code = ERR_OK;
    while (code == ERR_OK && exchange->want_got == 0 && !exchange->done)
        code = exchange_step(exchange, &failure);
    if (code == ERR_OK && exchange->want_got == 0 && exchange->result != CURLE_OK)
        code = exchange_fail(exchange, &failure);
    exchange->want = NULL;
    exchange->want_len = 0;
    *out_len = exchange->want_got;
    if (exchange->want_got == 0 && code != ERR_OK)
        *err = failure;
    /* What came before it broke is good; the failure is told by the next read. */
    return exchange->want_got > 0 ? ERR_OK : code;
}

enum err_code s3_http_read_all(struct s3_http_exchange *exchange, struct buf *out, struct err *err)
{
    for (;;) {
        char probe;
        size_t room = out->max - out->len;
        size_t step = room < READ_STEP_BYTES ? room : READ_STEP_BYTES;
        if (step > 0 && !buf_reserve(out, step))
            return err_set(err, ERR_NO_MEMORY, "out of memory");
        if (out->cap > out->len + 1 && out->cap - out->len - 1 > step)
            step = out->cap - out->len - 1 < room ? out->cap - out->len - 1 : room;

        size_t got;
        enum err_code code =
            s3_http_read(exchange, step > 0 ? out->ptr + out->len : &probe, step > 0 ? step : 1, &got, err);
        if (code != ERR_OK || got == 0)
            return code;
        if (step == 0)
            return err_set(err, ERR_LIMIT, "The answer of the object store is longer than %zu bytes", out->max);
        out->len += got;
        out->ptr[out->len] = '\0';
    }
}

void s3_http_end(struct s3_http_exchange *exchange)
{
    if (!exchange)
        return;
    uint64_t left = exchange->content_length - exchange->received_bytes;
    if (exchange->head_done && !exchange->done && exchange->content_length != S3_HTTP_UNKNOWN &&
        left <= DRAIN_BYTES_MAX) {
        struct err ignored = ERR_INIT;
        exchange->is_discarding = true;
        if (exchange->is_paused)
            (void) curl_easy_pause(exchange->easy, CURLPAUSE_CONT);
        exchange->deadline_ms = 1; /* long ago: take what has arrived, but do not wait */
        (void) exchange_step(exchange, &ignored);
    }
    exchange_stop(exchange);
    s3_slots_give(&exchange->http->slots, &exchange->slot);
}

enum err_code s3_http_exchange_all(struct s3_http *http, const struct s3_http_request *request,
                                   struct s3_http_answer *answer, struct buf *out, enum s3_http_fate *out_fate,
                                   struct err *err)
{
    struct s3_http_exchange *exchange;
    enum err_code code = s3_http_begin(http, request, answer, &exchange, out_fate, err);
    if (code != ERR_OK)
        return code;
    code = s3_http_read_all(exchange, out, err);
    s3_http_end(exchange);
    return code;
}

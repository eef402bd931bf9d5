/* The network thread's side of an exchange: from a head to an endpoint, and the body's bytes into the pipe. */
#include "http/exchange.h"

#include "base/metrics.h"
#include "http/exchange_priv.h"

#include <assert.h>
#include <stdio.h>
#include <strings.h>

/* So much in the pipe wakes a worker: a hand-over costs the same for one byte as for many. */
#define WAKE_BYTES ((size_t) 128 * 1024)
#define HEADER_OVERHEAD_BYTES 64 /* what libmicrohttpd keeps for each header besides its text */

/* ---- life ---- */

/* A process's own prefix and a number: unique, and cheaper than randomness for each request. */
static void exchange_set_id(char out[UUID_TEXT_BYTES])
{
    static _Atomic uint64_t counter;
    static _Atomic uint32_t prefix;

    uint32_t first = atomic_load_explicit(&prefix, memory_order_relaxed);
    if (first == 0) {
        uint32_t fresh;
        random_bytes(&fresh, sizeof(fresh));
        fresh |= 1;
        first = atomic_compare_exchange_strong(&prefix, &first, fresh) ? fresh : atomic_load(&prefix);
    }
    static const char digits[] = "0123456789abcdef";
    uint64_t number = atomic_fetch_add_explicit(&counter, 1, memory_order_relaxed) + 1;
    for (int i = 0; i < 8; i++)
        out[i] = digits[first >> (28 - 4 * i) & 15];
    out[8] = '-';
    for (int i = 0; i < 12; i++)
        out[9 + i] = digits[number >> (44 - 4 * i) & 15];
    out[21] = '\0';
}

struct exchange *exchange_new(struct engine *engine, struct net_connection *connection, const char *target)
{
    size_t target_len = strlen(target);
    /* Not zeroed as a whole: the arrays of headers and query pairs are large, and filled as far as they are used. */
    struct exchange *exchange = malloc(sizeof(*exchange));
    char *text = malloc(2 * (target_len + 1));
    if (!exchange || !text) {
        free(exchange);
        free(text);
        return NULL;
    }
    memcpy(text, target, target_len + 1);

    struct request *request = &exchange->request;
    request->server = engine->server;
    request->registry = engine->registry;
    request->endpoint = NULL;
    request->method = METHOD_OTHER;
    request->is_head = false;
    request->target = (struct str){text, target_len};
    request->repo.text[0] = '\0';
    request->last = (struct str){"", 0};
    request->query.count = 0;
    request->query.storage = NULL;
    request->has_content_length = false;
    request->content_length = 0;
    exchange_set_id(request->id);
    request->user = NULL;
    request->body = BUF_INIT(0);
    request->state = NULL;
    request->reply = NULL;

    memset(&exchange->engine, 0, offsetof(struct exchange, user) - offsetof(struct exchange, engine));
    exchange->engine = engine;
    exchange->connection = connection;
    atomic_init(&exchange->refs, 1);
    exchange->started_us = clock_monotonic_us();
    exchange->user[0] = '\0';
    exchange->text = text;
    exchange->header_text = NULL;
    exchange->header_count = 0;
    exchange->memory = (struct budget_ticket){.granted = exchange_memory_granted};
    exchange->pipe.bytes = NULL;
    reply_init(&exchange->reply);
    memset(&exchange->synced, 0, sizeof(exchange->synced));
    pthread_mutex_init(&exchange->synced.lock, NULL);
    atomic_fetch_add_explicit(&engine->requests_active, 1, memory_order_relaxed);
    metric_gauge_add(METRIC_REQUESTS_ACTIVE, 1);
    return exchange;
}

void exchange_ref(struct exchange *exchange)
{
    atomic_fetch_add_explicit(&exchange->refs, 1, memory_order_relaxed);
}

void exchange_unref(struct exchange *exchange)
{
    if (atomic_fetch_sub_explicit(&exchange->refs, 1, memory_order_acq_rel) > 1)
        return;
    budget_give_back(&exchange->engine->budget, &exchange->memory);
    reply_free(&exchange->reply);
    field_query_free(&exchange->request.query);
    buf_free(&exchange->request.body);
    body_pipe_free(&exchange->pipe);
    pthread_mutex_destroy(&exchange->synced.lock);
    free(exchange->header_text);
    free(exchange->text);
    free(exchange);
}

struct reply *exchange_reply(struct request *request)
{
    return &((struct exchange *) request)->reply;
}

/* ---- request.h's questions ---- */

struct str request_header(struct request *request, const char *name)
{
    struct exchange *exchange = (struct exchange *) request;
    size_t len = strlen(name);

    for (size_t i = 0; i < exchange->header_count; i++) {
        const struct net_header *header = &exchange->headers[i];
        if (header->name.len == len && strncasecmp(header->name.ptr, name, len) == 0)
            return header->value;
    }
    return (struct str){NULL, 0};
}

bool request_may_pull(struct request *request, const struct repo_name *repo)
{
    struct exchange *exchange = (struct exchange *) request;
    struct auth *auth = exchange->engine->auth;

    (void) repo; /* what a user may do is the same in every repository */
    return !auth || auth_is_open(auth) || auth_allows(auth, exchange->verdict, true, false);
}

/* ---- the head ---- */

static bool header_is(const struct net_header *header, const char *name)
{
    return header->name.len == strlen(name) && strncasecmp(header->name.ptr, name, header->name.len) == 0;
}

static enum http_method method_parse(const char *text)
{
    static const struct {
        const char *text;
        enum http_method method;
    } methods[] = {
        {"GET", METHOD_GET}, {"HEAD", METHOD_HEAD},   {"POST", METHOD_POST},
        {"PUT", METHOD_PUT}, {"PATCH", METHOD_PATCH}, {"DELETE", METHOD_DELETE},
    };

    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(methods[i].text, text) == 0)
            return methods[i].method;
    }
    return METHOD_OTHER;
}

/* Put name and value behind *at, joining the value to an earlier header of that name. */
static void exchange_add_header(struct exchange *exchange, const struct net_header *header, char **at)
{
    struct net_header *same = NULL;
    for (size_t i = 0; i < exchange->header_count && !same; i++) {
        if (exchange->headers[i].name.len == header->name.len &&
            strncasecmp(exchange->headers[i].name.ptr, header->name.ptr, header->name.len) == 0)
            same = &exchange->headers[i];
    }
    struct str before = same ? same->value : (struct str){NULL, 0};
    if (!same) {
        same = &exchange->headers[exchange->header_count++];
        same->name = (struct str){memcpy(*at, header->name.ptr, header->name.len), header->name.len};
        *at += header->name.len;
    }
    char *value = *at;
    if (before.ptr) {
        memcpy(*at, before.ptr, before.len);
        memcpy(*at + before.len, ", ", 2);
        *at += before.len + 2;
    }
    memcpy(*at, header->value.ptr, header->value.len);
    *at += header->value.len;
    same->value = (struct str){value, (size_t) (*at - value)};
}

/* Copy the headers: the connection's own may vanish with the client while a worker still reads them. */
static bool exchange_copy_headers(struct exchange *exchange, const struct net_header *headers, size_t count)
{
    size_t bytes = 1;
    /* Each join copies what stands before it; joins are rare, and all headers together are small. */
    for (size_t i = 0; i < count; i++) {
        bytes += headers[i].name.len + headers[i].value.len;
        for (size_t j = 0; j < i; j++) {
            if (headers[j].name.len == headers[i].name.len &&
                strncasecmp(headers[j].name.ptr, headers[i].name.ptr, headers[i].name.len) == 0)
                bytes += headers[j].value.len + 2;
        }
    }
    exchange->header_text = malloc(bytes);
    if (!exchange->header_text)
        return false;
    char *at = exchange->header_text;
    for (size_t i = 0; i < count; i++)
        exchange_add_header(exchange, &headers[i], &at);
    assert(at <= exchange->header_text + bytes);
    return true;
}

/*
 * Where does the request end? One Content-Length, or one Transfer-Encoding that is exactly "chunked"; all else is
 * refused, as something between us and the client might read it differently.
 */
static enum err_code exchange_check_framing(struct exchange *exchange, const struct net_header *headers, size_t count,
                                            struct err *err)
{
    struct request *request = &exchange->request;
    unsigned lengths = 0;
    unsigned encodings = 0;
    bool names_ok = true;
    bool length_ok = true;
    bool chunked = false;

    for (size_t i = 0; i < count; i++) {
        names_ok = names_ok && field_is_token(headers[i].name);
        if (header_is(&headers[i], "Content-Length")) {
            lengths++;
            length_ok = length_ok && str_parse_u64(headers[i].value, &request->content_length);
        } else if (header_is(&headers[i], "Transfer-Encoding")) {
            encodings++;
            chunked = headers[i].value.len == 7 && strncasecmp(headers[i].value.ptr, "chunked", 7) == 0;
        } else if (header_is(&headers[i], "Expect")) {
            exchange->expects_continue = true;
        }
    }
    request->has_content_length = lengths == 1 && length_ok;
    exchange->body_expected = encodings > 0 || (lengths > 0 && request->content_length > 0);
    if (!names_ok)
        return err_set(err, ERR_REQUEST_INVALID, "a header's name holds a character that is not allowed there");
    if (!length_ok)
        return err_set(err, ERR_REQUEST_INVALID, "Content-Length is not a number");
    if (lengths > 1)
        return err_set(err, ERR_REQUEST_INVALID, "send one Content-Length, not %u", lengths);
    if (lengths > 0 && encodings > 0)
        return err_set(err, ERR_REQUEST_INVALID, "send Content-Length or Transfer-Encoding, not both");
    if (encodings > 1 || (encodings == 1 && !chunked))
        return err_set(err, ERR_REQUEST_INVALID, "the only Transfer-Encoding is 'chunked', once");
    if (encodings > 0 && net_is_http_1_0(exchange->connection))
        return err_set(err, ERR_REQUEST_INVALID, "HTTP/1.0 knows no Transfer-Encoding");
    return ERR_OK;
}

/* Read the head into the request. After an error nobody can say where the next request begins: must_close. */
static enum err_code exchange_read_head(struct exchange *exchange, struct err *err)
{
    struct net_header headers[NET_HEADERS_MAX];
    struct request *request = &exchange->request;

    exchange->must_close = true;
    size_t count = net_headers(exchange->connection, headers);
    size_t kept = count < NET_HEADERS_MAX ? count : NET_HEADERS_MAX;
    request->method = method_parse(net_method(exchange->connection));
    request->is_head = request->method == METHOD_HEAD;
    if (exchange_check_framing(exchange, headers, kept, err))
        return err->code;
    if (count > NET_HEADERS_MAX)
        return err_set(err, ERR_REQUEST_HEAD_TOO_BIG, "more than %d headers", NET_HEADERS_MAX);
    uint64_t max = exchange->engine->settings.header_bytes_max;
    if (net_head_bytes(exchange->connection) + count * HEADER_OVERHEAD_BYTES > max)
        return err_set(err, ERR_REQUEST_HEAD_TOO_BIG,
                       "the request line and headers are longer than %llu bytes (%d of them for each header)",
                       (unsigned long long) max, HEADER_OVERHEAD_BYTES);
    if (!net_head_is_whole(exchange->connection, request->target.ptr, headers, count))
        return err_set(err, ERR_REQUEST_INVALID,
                       "the request line or a header is malformed: no NUL, no folded lines, lines end with CRLF");
    if (strcspn(request->target.ptr, "\t\n\v\f\r ") < request->target.len)
        return err_set(err, ERR_REQUEST_INVALID, "the request target holds white space");
    if (!exchange_copy_headers(exchange, headers, count))
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    exchange->must_close = false;
    return ERR_OK;
}

/* Split the target in path and query, take "http://host" off its front, and find the endpoint. */
static enum err_code exchange_route(struct exchange *exchange, const char **out_allow, struct err *err)
{
    struct request *request = &exchange->request;
    struct str path = request->target;

    *out_allow = NULL;
    if (str_starts(path, STR("http://")) || str_starts(path, STR("https://"))) {
        const char *host = strstr(path.ptr, "://") + 3;
        const char *end = host + strcspn(host, "/?");
        path = (struct str){end, path.len - (size_t) (end - path.ptr)};
    }
    const char *mark = path.len > 0 ? memchr(path.ptr, '?', path.len) : NULL;
    struct str query = {"", 0};
    if (mark) {
        query = (struct str){mark + 1, path.len - (size_t) (mark - path.ptr) - 1};
        path.len = (size_t) (mark - path.ptr);
    }
    if (!field_query_parse(query, &request->query)) {
        if (request->query.count == FIELD_QUERY_PAIRS_MAX)
            return err_set(err, ERR_QUERY_TOO_LONG, "the query holds more than %d parameters", FIELD_QUERY_PAIRS_MAX);
        return err_set(err, ERR_REQUEST_INVALID, "the query holds a bad percent-escape");
    }
    return exchange->engine->router(request, path, exchange->text + request->target.len + 1, out_allow, err);
}

/* ---- from the head to the endpoint ---- */

/* Give the exchange to a worker and suspend the connection until the job is done. */
static bool exchange_submit(struct exchange *exchange, enum stage stage, enum work work, bool initial)
{
    exchange->stage = stage;
    pthread_mutex_lock(&exchange->synced.lock);
    bool posted = exchange_post_synced(exchange, work, initial);
    if (posted) {
        exchange->synced.wait = WAIT_JOB;
        net_set_phase(exchange->connection, NET_WORK);
        net_suspend(exchange->connection);
    }
    pthread_mutex_unlock(&exchange->synced.lock);
    if (posted)
        return true;
    struct err err = ERR_INIT;
    (void) err_set(&err, ERR_BUSY, "too many requests wait for a worker");
    return exchange_refuse(exchange, &err);
}

/* The endpoint may run: its body, as far as it wants one, is there. */
static bool exchange_run(struct exchange *exchange)
{
    const struct endpoint *endpoint = exchange->request.endpoint;

    if (endpoint->fast && endpoint->fast(&exchange->request))
        return exchange_answer(exchange);
    return exchange_submit(exchange, STAGE_RUN, WORK_RUN, true);
}

static bool exchange_receive(struct exchange *exchange, enum stage stage)
{
    exchange->stage = stage;
    exchange->head_done = true;
    net_set_phase(exchange->connection, NET_BODY);
    return true;
}

/* A BODY_BUFFER endpoint's body must fit, and there must be memory for it. */
static bool exchange_begin_buffer(struct exchange *exchange)
{
    struct request *request = &exchange->request;
    size_t bytes_max = request->endpoint->body_bytes_max;
    struct err err = ERR_INIT;

    request->body = BUF_INIT(bytes_max);
    if (request->has_content_length && request->content_length > bytes_max) {
        (void) err_set(&err, ERR_MANIFEST_TOO_BIG, "the body is %llu bytes long; at most %zu are taken",
                       (unsigned long long) request->content_length, bytes_max);
        return exchange_refuse(exchange, &err);
    }
    uint64_t bytes = request->has_content_length ? request->content_length : bytes_max;
    pthread_mutex_lock(&exchange->synced.lock);
    enum budget_answer answer = budget_take(&exchange->engine->budget, &exchange->memory, bytes);
    if (answer == BUDGET_WAIT) {
        exchange->stage = STAGE_MEMORY;
        exchange->synced.wait = WAIT_MEMORY;
        net_set_phase(exchange->connection, NET_WORK);
        net_suspend(exchange->connection);
    }
    pthread_mutex_unlock(&exchange->synced.lock);
    if (answer == BUDGET_WAIT)
        return true;
    if (answer == BUDGET_GRANTED)
        return exchange_receive(exchange, STAGE_BUFFER);
    (void) err_set(&err, ERR_BUSY, "there is no memory for this body");
    return exchange_refuse(exchange, &err);
}

/* The caller is known to be allowed: see what the endpoint wants of the body. */
static bool exchange_begin(struct exchange *exchange)
{
    struct request *request = &exchange->request;
    struct err err = ERR_INIT;

    if (!exchange->body_expected)
        return exchange_run(exchange);
    switch (request->endpoint->body_kind) {
    case BODY_STREAM:
        return exchange_run(exchange);
    case BODY_BUFFER:
        return exchange_begin_buffer(exchange);
    case BODY_NONE:
        break;
    }
    if (!request->has_content_length || request->content_length <= EXCHANGE_DROP_BYTES_MAX)
        return exchange_receive(exchange, STAGE_DROP);
    (void) err_set(&err, ERR_REQUEST_BODY_TOO_BIG, "this request takes no body");
    return exchange_refuse(exchange, &err);
}

static bool exchange_authorize(struct exchange *exchange)
{
    struct request *request = &exchange->request;
    struct auth *auth = exchange->engine->auth;
    enum access access = request->endpoint->access;
    bool pull = access == ACCESS_PULL || access == ACCESS_CATALOG || access == ACCESS_NONE;
    struct err err = ERR_INIT;

    if (exchange->verdict == AUTH_USER)
        request->user = exchange->user;
    if (!auth || auth_is_open(auth) || auth_allows(auth, exchange->verdict, pull, access == ACCESS_NONE))
        return exchange_begin(exchange);
    if (exchange->verdict == AUTH_USER)
        (void) err_set(&err, ERR_DENIED, "requested access to the resource is denied");
    else
        (void) err_set(&err, ERR_UNAUTHORIZED, "%s",
                       exchange->verdict == AUTH_WRONG ? "the user name or password is wrong"
                                                       : "authentication required");
    return exchange_refuse(exchange, &err);
}

static bool exchange_begin_head(struct exchange *exchange)
{
    struct err err = ERR_INIT;
    const char *allow = NULL;

    if (exchange->must_close || exchange_route(exchange, &allow, &err)) {
        if (exchange->must_close)
            return exchange_answer(exchange);
        if (allow)
            reply_header(&exchange->request, "Allow", allow);
        return exchange_refuse(exchange, &err);
    }
    exchange->verdict = AUTH_ANONYMOUS;
    if (exchange->engine->auth && !auth_is_open(exchange->engine->auth)) {
        struct str authorization = request_header(&exchange->request, "Authorization");
        exchange->verdict = auth_check_fast(exchange->engine->auth, authorization, exchange->user);
    }
    if (exchange->verdict == AUTH_ASK_WORKER)
        return exchange_submit(exchange, STAGE_AUTH, WORK_AUTH, true);
    return exchange_authorize(exchange);
}

/* ---- steps ---- */

static bool exchange_is_replied(struct exchange *exchange)
{
    pthread_mutex_lock(&exchange->synced.lock);
    bool ready = exchange->synced.reply_ready;
    pthread_mutex_unlock(&exchange->synced.lock);
    return ready;
}

/* run() returned: with an answer, or wanting the body. */
static bool exchange_after_run(struct exchange *exchange)
{
    if (exchange_is_replied(exchange))
        return exchange_answer(exchange);
    size_t cap = (size_t) exchange->engine->settings.body_pipe_bytes;
    exchange->wake_bytes = cap / 2 < WAKE_BYTES ? cap / 2 : WAKE_BYTES;
    if (body_pipe_init(&exchange->pipe, cap))
        return exchange_receive(exchange, STAGE_STREAM);
    (void) exchange_abort(exchange, ERR_NO_MEMORY, "out of memory");
    return false;
}

/* All of the body is in the pipe: let a worker finish. */
static bool exchange_end_stream(struct exchange *exchange)
{
    exchange->stage = STAGE_END;
    pthread_mutex_lock(&exchange->synced.lock);
    exchange->synced.body_complete = true;
    bool ready = exchange->synced.reply_ready;
    if (!ready) {
        if (!exchange->synced.job_active)
            (void) exchange_post_synced(exchange, WORK_STREAM, false);
        exchange->synced.wait = WAIT_JOB;
        net_set_phase(exchange->connection, NET_WORK);
        net_suspend(exchange->connection);
    }
    pthread_mutex_unlock(&exchange->synced.lock);
    return ready ? exchange_answer(exchange) : true;
}

/* The head is complete, or the request is, or what the exchange waited for came true. */
static bool exchange_advance(struct exchange *exchange)
{
    switch (exchange->stage) {
    case STAGE_NEW:
        return exchange_begin_head(exchange);
    case STAGE_AUTH:
        return exchange_authorize(exchange);
    case STAGE_MEMORY:
        return exchange_receive(exchange, STAGE_BUFFER);
    case STAGE_RUN:
        return exchange_after_run(exchange);
    case STAGE_DROP:
        return exchange->reply.status != 0 ? exchange_answer(exchange) : exchange_run(exchange);
    case STAGE_BUFFER:
        return exchange_run(exchange);
    case STAGE_STREAM:
        return exchange_end_stream(exchange);
    case STAGE_END:
        return exchange_answer(exchange);
    case STAGE_REPLY:
        return true;
    case STAGE_CLOSED:
        break;
    }
    return false;
}

/* Put bytes in the pipe; what does not fit stays with the connection, which is suspended then. */
static bool exchange_stream(struct exchange *exchange, const char *bytes, size_t *len)
{
    while (*len > 0) {
        size_t taken = body_pipe_write(&exchange->pipe, bytes, *len);
        bytes += taken;
        *len -= taken;
        exchange->body_received += taken;
        size_t used = body_pipe_used(&exchange->pipe);
        if (*len == 0 && used < exchange->wake_bytes)
            break;

        pthread_mutex_lock(&exchange->synced.lock);
        bool ready = exchange->synced.reply_ready;
        if (!ready && !exchange->synced.job_active)
            (void) exchange_post_synced(exchange, WORK_STREAM, false);
        bool full = *len > 0 && !ready && body_pipe_room(&exchange->pipe) == 0;
        if (full) {
            exchange->synced.wait = WAIT_ROOM;
            net_set_phase(exchange->connection, NET_WORK);
            net_suspend(exchange->connection);
        }
        pthread_mutex_unlock(&exchange->synced.lock);
        if (full)
            break;
        if (ready) {
            exchange->body_received += *len;
            *len = 0;
            return exchange_answer(exchange);
        }
    }
    return true;
}

static bool exchange_take_body(struct exchange *exchange, const char *bytes, size_t *len)
{
    struct err err = ERR_INIT;
    size_t offered = *len;

    net_progress(exchange->connection, offered);
    if (exchange->stage == STAGE_STREAM) {
        bool go_on = exchange_stream(exchange, bytes, len);
        metric_add(METRIC_BODY_BYTES_IN, offered - *len);
        return go_on;
    }
    metric_add(METRIC_BODY_BYTES_IN, offered);
    exchange->body_received += offered;
    *len = 0;
    if (exchange->stage == STAGE_BUFFER && !buf_append(&exchange->request.body, bytes, offered)) {
        (void) err_set(&err, ERR_MANIFEST_TOO_BIG, "the body is longer than the %zu bytes that are taken",
                       exchange->request.endpoint->body_bytes_max);
        return exchange_refuse(exchange, &err);
    }
    if (exchange->stage == STAGE_DROP && exchange->reply.status == 0 &&
        exchange->body_received > EXCHANGE_DROP_BYTES_MAX) {
        (void) err_set(&err, ERR_REQUEST_BODY_TOO_BIG, "this request takes no body");
        return exchange_refuse(exchange, &err);
    }
    return exchange->stage != STAGE_CLOSED;
}

bool exchange_step(struct exchange *exchange, const char *bytes, size_t *len)
{
    struct err err = ERR_INIT;

    if (exchange->stage == STAGE_CLOSED || atomic_load_explicit(&exchange->engine->cutting, memory_order_relaxed))
        return false;
    if (exchange->stage == STAGE_NEW && !exchange->head_done) {
        if (exchange_read_head(exchange, &err))
            reply_error(&exchange->request, &err);
        /* Without a body the next step comes at once, and only an answer given there leaves the connection open. */
        if (!exchange->body_expected) {
            exchange->head_done = true;
            return true;
        }
    }
    if (*len > 0)
        return exchange_take_body(exchange, bytes, len);
    exchange->body_done = exchange->head_done;
    return exchange_advance(exchange);
}

void exchange_tick(struct exchange *exchange)
{
    if (exchange->stage != STAGE_STREAM)
        return;
    pthread_mutex_lock(&exchange->synced.lock);
    bool ready = exchange->synced.reply_ready;
    if (!ready && body_pipe_used(&exchange->pipe) > 0) {
        exchange->synced.flush = true;
        if (!exchange->synced.job_active)
            (void) exchange_post_synced(exchange, WORK_STREAM, false);
    }
    pthread_mutex_unlock(&exchange->synced.lock);
    /* The client is not sending: nothing but this clock would tell it the answer. */
    if (ready)
        (void) exchange_answer(exchange);
}

/* The network thread's side of an exchange, continued: the answer on its way, and what is counted and logged of it. */
#include "http/exchange_priv.h"

#include "base/log.h"
#include "base/metrics.h"

#include <assert.h>

#define ANSWER_BYTES_MAX ((size_t) 128 * 1024) /* of an early answer */
#define REPLY_PIPES 2 /* an answer's pipe beside a request's: a fifth fewer turns of the threads at its ends */
#define LOG_TARGET_BYTES 512
#define LOG_AGENT_BYTES 256

/* ---- answers ---- */

static void exchange_seal(struct exchange *exchange, struct reply *reply)
{
    reply_seal(reply);
    reply_set_header(reply, "Docker-Distribution-API-Version", "registry/2.0");
    reply_set_header(reply, "X-Request-Id", exchange->request.id);
    exchange->status_sent = reply->status;
    exchange->body_bytes_sent = exchange->request.is_head || reply->streams ? 0 : reply->body_bytes;
}

static bool exchange_answer_early(struct exchange *exchange, struct reply *reply)
{
    auto_buf text = BUF_INIT(ANSWER_BYTES_MAX);

    exchange->stage = STAGE_CLOSED;
    exchange_seal(exchange, reply);
    metric_add(METRIC_EARLY_ANSWERS, 1);
    return reply_render(reply, exchange->request.is_head, &text) &&
           net_answer_early(exchange->connection, buf_str(&text));
}

bool exchange_open_pipe(struct exchange *exchange)
{
    struct reply *reply = &exchange->reply;
    uint64_t cap = REPLY_PIPES * exchange->engine->settings.body_pipe_bytes;

    if (!reply_is_streamed(reply) || exchange->request.is_head)
        return false;
    body_pipe_free(&exchange->pipe);
    if (!body_pipe_init(&exchange->pipe, (size_t) (cap < reply->body_bytes ? cap : reply->body_bytes)))
        reply->broken = true;
    exchange->reply_begun = true;
    return !reply->broken;
}

static bool exchange_answer_now(struct exchange *exchange)
{
    struct reply *reply = &exchange->reply;
    bool close = exchange->must_close || !(exchange->body_done || !exchange->body_expected) ||
                 atomic_load_explicit(&exchange->engine->draining, memory_order_relaxed);

    if (!exchange->reply_begun)
        (void) exchange_open_pipe(exchange);
    exchange_seal(exchange, reply);
    if (reply_is_truncated(reply)) {
        log_event(LOG_ERROR, "a file is shorter than its answer", LOG_TEXT("request", exchange->request.id));
        return false;
    }
    exchange->stage = STAGE_REPLY;
    net_set_phase(exchange->connection, NET_REPLY);
    return net_reply(exchange->connection, exchange, reply, exchange->request.is_head, close);
}

bool exchange_answer(struct exchange *exchange)
{
    struct request *request = &exchange->request;

    assert(exchange->reply.status != 0);
    if (exchange->body_done || !exchange->body_expected)
        return exchange_answer_now(exchange);
    if (!exchange->head_done && exchange->expects_continue)
        return exchange_answer_now(exchange);
    if (!exchange->must_close && request->has_content_length &&
        request->content_length - exchange->body_received <= EXCHANGE_DROP_BYTES_MAX) {
        exchange->stage = STAGE_DROP;
        exchange->head_done = true;
        net_set_phase(exchange->connection, NET_BODY);
        return true;
    }
    (void) exchange_answer_early(exchange, &exchange->reply);
    return false;
}

bool exchange_refuse(struct exchange *exchange, const struct err *err)
{
    reply_error(&exchange->request, err);
    return exchange_answer(exchange);
}

bool exchange_abort(struct exchange *exchange, enum err_code code, const char *message)
{
    struct err err = ERR_INIT;
    struct reply reply;

    (void) err_set(&err, code, "%s", message);
    reply_init(&reply);
    reply_set_error(&reply, &err, exchange->request.id);
    exchange->aborted = code;
    bool sent = exchange_answer_early(exchange, &reply);
    reply_free(&reply);
    return sent;
}

bool exchange_time_out(struct exchange *exchange)
{
    return exchange_abort(exchange, ERR_REQUEST_TIMEOUT, "the request arrived too slowly");
}

/* Copy what is in the pipe, and have a worker fill it again once half of it is free. With synced.lock held. */
static size_t exchange_drain_pipe_synced(struct exchange *exchange, char *out, size_t len)
{
    struct str run = body_pipe_peek(&exchange->pipe);

    if (len > run.len)
        len = run.len;
    memcpy(out, run.ptr, len);
    body_pipe_consume(&exchange->pipe, len);
    exchange->body_bytes_sent += len;
    if (!exchange->synced.job_active && !exchange->synced.reply_failed &&
        body_pipe_written(&exchange->pipe) < exchange->reply.body_bytes &&
        body_pipe_room(&exchange->pipe) >= exchange_pipe_half(exchange))
        (void) exchange_post_synced(exchange, WORK_REPLY, false);
    return len;
}

ssize_t exchange_read_reply(struct exchange *exchange, uint64_t pos, char *out, size_t len)
{
    bool cutting = atomic_load_explicit(&exchange->engine->cutting, memory_order_relaxed);

    if (!exchange->reply.streams) {
        ssize_t n = reply_read_body(&exchange->reply, pos, out, len);
        return n > 0 ? n : -1;
    }
    if (cutting)
        return -1;
    /* The client has taken what it was given before, or it was us who made it wait. */
    net_set_phase(exchange->connection, NET_REPLY);
    pthread_mutex_lock(&exchange->synced.lock);
    size_t n = exchange_drain_pipe_synced(exchange, out, len);
    bool failed = n == 0 && exchange->synced.reply_failed;
    if (n == 0 && !failed) {
        exchange->synced.wait = WAIT_BYTES;
        net_set_phase(exchange->connection, NET_WORK);
        net_suspend(exchange->connection);
    }
    pthread_mutex_unlock(&exchange->synced.lock);
    return failed ? -1 : (ssize_t) n;
}

/* ---- the end ---- */

static void exchange_count(const struct exchange *exchange, uint64_t duration_us)
{
    static const enum metric_counter classes[] = {METRIC_REQUESTS_1XX, METRIC_REQUESTS_2XX, METRIC_REQUESTS_3XX,
                                                  METRIC_REQUESTS_4XX, METRIC_REQUESTS_5XX};

    if (exchange->status_sent >= 100 && exchange->status_sent < 600)
        metric_add(classes[exchange->status_sent / 100 - 1], 1);
    metric_add(METRIC_BODY_BYTES_OUT, exchange->body_bytes_sent);
    metric_observe_us(METRIC_REQUEST_SECONDS, duration_us);
}

/* A NUL-terminated copy of s, cut to out_bytes - 1; NULL when there is no s. */
static const char *text_cut(struct str s, char *out, size_t out_bytes)
{
    size_t len = s.len < out_bytes - 1 ? s.len : out_bytes - 1;
    if (!s.ptr)
        return NULL;
    memcpy(out, s.ptr, len);
    out[len] = '\0';
    return out;
}

static void exchange_log(struct exchange *exchange, bool sent, uint64_t duration_us)
{
    struct request *request = &exchange->request;
    char peer[NET_PEER_TEXT_BYTES];
    char target[LOG_TARGET_BYTES];
    char agent[LOG_AGENT_BYTES];
    /* Unless it was sent, the reply may still be a worker's, and is not looked at. */
    bool own = exchange->stage == STAGE_REPLY || (exchange->stage == STAGE_CLOSED && !exchange->aborted);
    enum err_code error = own ? exchange->reply.error : exchange->aborted;
    bool our_fault = exchange->status_sent >= 500 || (error && err_info(error)->http_status >= 500);

    net_peer(exchange->connection, peer);
    log_event(our_fault ? LOG_ERROR : LOG_INFO, "request", LOG_TEXT("id", request->id),
              LOG_TEXT("method", net_method(exchange->connection)),
              LOG_TEXT("target", text_cut(request->target, target, sizeof(target))),
              LOG_U64("status", (uint64_t) exchange->status_sent),
              LOG_DOUBLE("duration_ms", (double) duration_us / 1e3), LOG_U64("bytes_in", exchange->body_received),
              LOG_U64("bytes_out", exchange->body_bytes_sent), LOG_TEXT("remote", peer),
              LOG_TEXT("user", request->user), LOG_TEXT("endpoint", request->endpoint ? request->endpoint->name : NULL),
              LOG_TEXT("agent", text_cut(request_header(request, "User-Agent"), agent, sizeof(agent))),
              LOG_TEXT("error", error ? err_info(error)->name : NULL),
              LOG_TEXT("detail", own && error ? exchange->reply.error_detail : NULL),
              LOG_TEXT("ended", sent ? NULL : "incomplete"));
}

void exchange_completed(struct exchange *exchange, bool sent, int status)
{
    uint64_t duration_us = clock_monotonic_us() - exchange->started_us;

    /* First: from here on no worker changes what is logged (job_fail). */
    pthread_mutex_lock(&exchange->synced.lock);
    exchange->synced.completed = true;
    if (!exchange->synced.job_active && exchange_needs_gone_synced(exchange))
        (void) exchange_post_synced(exchange, WORK_GONE, false);
    pthread_mutex_unlock(&exchange->synced.lock);

    if (exchange->status_sent == 0)
        exchange->status_sent = status;
    if (exchange->stage == STAGE_CLOSED)
        sent = true;
    exchange_count(exchange, duration_us);
    if (exchange->engine->settings.access_log)
        exchange_log(exchange, sent, duration_us);
    exchange->connection = NULL;
    atomic_fetch_sub_explicit(&exchange->engine->requests_active, 1, memory_order_relaxed);
    metric_gauge_add(METRIC_REQUESTS_ACTIVE, -1);
    exchange_unref(exchange);
}

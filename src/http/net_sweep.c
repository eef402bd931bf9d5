/* The clocks of a connection: who takes too long is answered 408, closed, or cut. */
#include "http/net_priv.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "http/engine.h"
#include "http/exchange.h"
#include "http/reply.h"

#include <linux/tcp.h>
#include <netinet/in.h>

#define POOL_IDLE_MS 1000 /* a busy connection keeps its memory */
#define ANSWER_BYTES_MAX ((size_t) 4 * 1024)

/* Bytes the client has confirmed: what progress of an answer is. */
static uint64_t connection_acked(const struct net_connection *connection)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    if (getsockopt(connection->fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return 0;
    return info.tcpi_bytes_acked;
}

static void sweep_head(struct net_connection *connection)
{
    struct err err = ERR_INIT;
    struct reply reply;
    auto_buf text = BUF_INIT(ANSWER_BYTES_MAX);

    if (connection->exchange) {
        (void) exchange_time_out(connection->exchange);
        return;
    }
    (void) err_set(&err, ERR_REQUEST_TIMEOUT, "the request arrived too slowly");
    reply_init(&reply);
    reply_set_error(&reply, &err, "none");
    if (reply_render(&reply, false, &text))
        (void) net_answer_early(connection, buf_str(&text));
    reply_free(&reply);
}

static bool body_is_too_slow(struct net_connection *connection, const struct http_settings *settings, uint64_t now)
{
    if (now - connection->progress_ms > settings->body_timeout_ms)
        return true;
    uint64_t window = now - connection->window_ms;
    if (window < settings->body_timeout_ms)
        return false;
    bool slow = connection->window_bytes < settings->body_bytes_per_second_min * window / 1000;
    connection->window_ms = now;
    connection->window_bytes = 0;
    return slow;
}

static void sweep_reply(struct net_connection *connection, const struct http_settings *settings, uint64_t now)
{
    if (now - connection->window_ms < NET_SWEEP_MS)
        return;
    uint64_t acked = connection_acked(connection);
    connection->window_ms = now;
    if (acked != connection->window_bytes) {
        connection->window_bytes = acked;
        connection->progress_ms = now;
        return;
    }
    /* The library waits for ever when a file it sends has become shorter; this ends it. */
    struct reply *reply = exchange_reply((struct request *) connection->exchange);
    bool stuck = now - connection->progress_ms > settings->body_timeout_ms;
    if (stuck)
        metric_add(METRIC_REQUESTS_TIMED_OUT, 1);
    if (stuck || reply_is_truncated(reply))
        net_cut(connection);
}

void net_sweep(struct net_connection *connection, uint64_t now)
{
    struct engine *engine = connection->thread->net->engine;
    const struct http_settings *settings = &engine->settings;

    if (connection->suspended)
        return;
    if (atomic_load(&engine->cutting) || (connection->phase == NET_IDLE && atomic_load(&engine->draining))) {
        net_cut(connection);
        return;
    }
    switch (connection->phase) {
    case NET_HEAD:
        if (now - connection->phase_ms > settings->header_timeout_ms) {
            metric_add(METRIC_REQUESTS_TIMED_OUT, 1);
            sweep_head(connection);
        }
        break;
    case NET_IDLE:
        if (now - connection->phase_ms > settings->idle_timeout_ms)
            net_cut(connection);
        else if (connection->pool && !connection->pool_given && now - connection->phase_ms > POOL_IDLE_MS)
            net_give_pool_back(connection);
        break;
    case NET_BODY:
        if (body_is_too_slow(connection, settings, now)) {
            metric_add(METRIC_REQUESTS_TIMED_OUT, 1);
            (void) exchange_time_out(connection->exchange);
        } else {
            exchange_tick(connection->exchange);
        }
        break;
    case NET_REPLY:
        sweep_reply(connection, settings, now);
        break;
    case NET_WORK:
    case NET_ANSWERED:
        break;
    }
    if (connection->phase != NET_ANSWERED)
        return;
    /* Let the library close it after a second of silence: the socket then lingers, which a cut one cannot. */
    if (!connection->closing)
        net_close_when_silent(connection);
    else if (now - connection->phase_ms > settings->linger_ms_max + 2 * NET_SWEEP_MS)
        net_cut(connection);
    connection->closing = true;
}

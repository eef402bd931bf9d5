/* The worker's side of an exchange: checking passwords, calling the endpoint's functions, reading streamed replies. */
#include "http/exchange_priv.h"

#include "base/log.h"

#include <assert.h>
#include <stdio.h>

/* A body that keeps moving lets other requests have the worker after so many bytes, if any wait. */
#define JOB_BODY_BYTES_MAX ((size_t) 4 * 1024 * 1024)

static bool job_replied(const struct exchange *exchange)
{
    return exchange->reply.status != 0;
}

/* An endpoint that ends without an answer is a bug of ours, but not one to leave a client waiting for. */
static void job_ensure_reply(struct exchange *exchange)
{
    if (job_replied(exchange))
        return;
    struct err err = ERR_INIT;
    (void) err_set(&err, ERR_INVALID, "endpoint %s gave no answer", exchange->request.endpoint->name);
    reply_error(&exchange->request, &err);
}

static void job_end(struct exchange *exchange)
{
    pthread_mutex_lock(&exchange->synced.lock);
    exchange->synced.ended = true;
    pthread_mutex_unlock(&exchange->synced.lock);
    exchange->request.endpoint->end(&exchange->request);
    job_ensure_reply(exchange);
}

enum next {
    NEXT_BODY,  /* there are bytes for body(), or room for a reply's */
    NEXT_END,   /* there were all; end() is due */
    NEXT_STOP,  /* answered, or the client is gone */
    NEXT_PAUSE, /* too little there: another job will be queued when there is more */
    NEXT_YIELD  /* others wait for the worker */
};

/* Decide what comes next, and let the client send on when half of the pipe is free. */
static enum next job_stream_next(struct exchange *exchange, size_t done)
{
    enum next next = NEXT_BODY;

    pthread_mutex_lock(&exchange->synced.lock);
    size_t used = body_pipe_used(&exchange->pipe);
    bool complete = exchange->synced.body_complete;
    if (exchange->synced.completed)
        next = NEXT_STOP;
    else if (used == 0)
        next = complete ? NEXT_END : NEXT_PAUSE;
    else if (!complete && !exchange->synced.flush && used < exchange->wake_bytes / 2)
        next = NEXT_PAUSE;
    else if (done >= JOB_BODY_BYTES_MAX && workers_are_wanted(exchange->engine->workers))
        next = NEXT_YIELD;
    if (exchange->synced.wait == WAIT_ROOM && used <= exchange->pipe.cap / 2) {
        exchange->synced.wait = WAIT_NONE;
        net_resume(exchange->connection);
    }
    /* Decided and done under one lock: the writer of the pipe looks at job_active to know whether to queue a job. */
    if (next == NEXT_PAUSE) {
        exchange->synced.flush = false;
        exchange->synced.job_active = false;
    }
    pthread_mutex_unlock(&exchange->synced.lock);
    return next;
}

static enum next job_stream(struct exchange *exchange)
{
    enum next next;
    size_t done = 0;

    while ((next = job_stream_next(exchange, done)) == NEXT_BODY) {
        struct str run = body_pipe_peek(&exchange->pipe);
        exchange->request.endpoint->body(&exchange->request, run.ptr, run.len);
        body_pipe_consume(&exchange->pipe, run.len);
        done += run.len;
        if (job_replied(exchange))
            return NEXT_STOP;
    }
    if (next == NEXT_END)
        job_end(exchange);
    return next;
}

/* ---- streamed replies ---- */

/*
 * A reply's reading ends when the pipe is full, so that a slow client holds no worker; exchange_read_reply begins anew.
 */
static enum next job_reply_next(struct exchange *exchange, size_t done)
{
    enum next next = NEXT_BODY;

    pthread_mutex_lock(&exchange->synced.lock);
    bool over = exchange->synced.completed || exchange->synced.reply_failed ||
                atomic_load_explicit(&exchange->engine->cutting, memory_order_relaxed) ||
                body_pipe_written(&exchange->pipe) == exchange->reply.body_bytes;
    if (over || body_pipe_room(&exchange->pipe) == 0)
        next = NEXT_PAUSE;
    else if (done >= JOB_BODY_BYTES_MAX && workers_are_wanted(exchange->engine->workers))
        next = NEXT_YIELD;
    if (exchange->synced.wait == WAIT_BYTES && (over || body_pipe_used(&exchange->pipe) > 0)) {
        exchange->synced.wait = WAIT_NONE;
        net_resume(exchange->connection);
    }
    if (next == NEXT_PAUSE)
        exchange->synced.job_active = false;
    pthread_mutex_unlock(&exchange->synced.lock);
    return next;
}

/* The reply cannot go on. Its error is for the log, which may have been written already. */
static void job_fail_reply(struct exchange *exchange, const struct err *err)
{
    struct reply *reply = &exchange->reply;

    pthread_mutex_lock(&exchange->synced.lock);
    if (!exchange->synced.completed) {
        exchange->synced.reply_failed = true;
        reply->error = err->code;
        (void) snprintf(reply->error_detail, sizeof(reply->error_detail), "%s", err_text(err));
    }
    pthread_mutex_unlock(&exchange->synced.lock);
}

/* Read at most len_max bytes of the reply into the pipe. 0: err says why. */
static size_t job_fill(struct exchange *exchange, size_t len_max, struct err *err)
{
    size_t len;
    char *space = body_pipe_space(&exchange->pipe, &len);
    if (len > len_max)
        len = len_max;
    size_t got = reply_fill(&exchange->reply, body_pipe_written(&exchange->pipe), space, len, err);
    body_pipe_commit(&exchange->pipe, got);
    return got;
}

static enum next job_reply(struct exchange *exchange)
{
    struct err err = ERR_INIT;
    enum next next;
    size_t done = 0;

    while ((next = job_reply_next(exchange, done)) == NEXT_BODY) {
        size_t got = job_fill(exchange, exchange_pipe_half(exchange), &err);
        if (got == 0)
            job_fail_reply(exchange, &err);
        done += got;
    }
    return next;
}

/*
 * Fill the pipe with the answer's beginning before it is handed over. So what is short is read by this job, and gone
 * from the store's connections when the job is; and what cannot even be begun is still answered as an error.
 */
static void job_begin_reply(struct exchange *exchange)
{
    struct reply *reply = &exchange->reply;
    struct body_pipe *pipe = &exchange->pipe;
    struct err err = ERR_INIT;

    if (!exchange_open_pipe(exchange))
        return;
    while (body_pipe_room(pipe) > 0 && body_pipe_written(pipe) < reply->body_bytes) {
        if (job_fill(exchange, pipe->cap, &err) > 0)
            continue;
        if (body_pipe_written(pipe) > 0) {
            job_fail_reply(exchange, &err);
        } else {
            buf_clear(&reply->headers); /* they spoke of the body */
            reply_error(&exchange->request, &err);
        }
        return;
    }
}

/* ---- jobs ---- */

static void job_run(struct exchange *exchange)
{
    struct request *request = &exchange->request;
    bool streams = request->endpoint->body_kind == BODY_STREAM;

    pthread_mutex_lock(&exchange->synced.lock);
    exchange->synced.run_called = true;
    pthread_mutex_unlock(&exchange->synced.lock);
    request->endpoint->run(request);
    if (!streams) {
        job_ensure_reply(exchange);
        job_begin_reply(exchange);
    } else if (!exchange->body_expected && !job_replied(exchange)) {
        job_end(exchange);
    }
    buf_free(&request->body);
    budget_give_back(&exchange->engine->budget, &exchange->memory);
}

static void job_authenticate(struct exchange *exchange)
{
    exchange->verdict =
        auth_check_slow(exchange->engine->auth, request_header(&exchange->request, "Authorization"), exchange->user);
}

/* Pass the exchange back to the network thread or, when the client is gone, end it here. */
static void job_finish(struct exchange *exchange)
{
    pthread_mutex_lock(&exchange->synced.lock);
    bool gone = exchange->synced.completed && exchange_needs_gone_synced(exchange);
    exchange->synced.reply_ready = job_replied(exchange);
    exchange->synced.ended |= gone;
    exchange->synced.job_active = false;
    if (exchange->synced.wait == WAIT_JOB || exchange->synced.wait == WAIT_ROOM) {
        exchange->synced.wait = WAIT_NONE;
        net_resume(exchange->connection);
    }
    pthread_mutex_unlock(&exchange->synced.lock);
    if (gone)
        exchange->request.endpoint->gone(&exchange->request);
}

static void exchange_job(struct job *job)
{
    struct exchange *exchange = (struct exchange *) ((char *) job - offsetof(struct exchange, job));
    enum next next = NEXT_STOP;

    switch (exchange->work) {
    case WORK_AUTH:
        job_authenticate(exchange);
        break;
    case WORK_RUN:
        job_run(exchange);
        break;
    case WORK_STREAM:
        next = job_stream(exchange);
        break;
    case WORK_REPLY:
        next = job_reply(exchange);
        break;
    case WORK_GONE:
        break;
    }
    if (next == NEXT_YIELD) {
        workers_post_more(exchange->engine->workers, job);
        return;
    }
    if (next != NEXT_PAUSE)
        job_finish(exchange);
    exchange_unref(exchange);
}

bool exchange_needs_gone_synced(const struct exchange *exchange)
{
    return exchange->synced.run_called && !exchange->synced.ended && !job_replied(exchange) &&
           exchange->request.endpoint->body_kind == BODY_STREAM && exchange->request.endpoint->gone;
}

bool exchange_post_synced(struct exchange *exchange, enum work work, bool initial)
{
    assert(!exchange->synced.job_active);
    exchange->work = work;
    exchange->job.run = exchange_job;
    exchange->synced.job_active = true;
    exchange_ref(exchange);
    if (!initial) {
        workers_post_more(exchange->engine->workers, &exchange->job);
        return true;
    }
    if (workers_post(exchange->engine->workers, &exchange->job))
        return true;
    exchange->synced.job_active = false;
    exchange_unref(exchange);
    return false;
}

void exchange_memory_granted(struct budget_ticket *ticket)
{
    struct exchange *exchange = (struct exchange *) ((char *) ticket - offsetof(struct exchange, memory));

    pthread_mutex_lock(&exchange->synced.lock);
    assert(exchange->synced.wait == WAIT_MEMORY);
    exchange->synced.wait = WAIT_NONE;
    net_resume(exchange->connection);
    pthread_mutex_unlock(&exchange->synced.lock);
}

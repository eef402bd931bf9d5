/* What exchange.c and exchange_answer.c (the network thread's side) and exchange_job.c (the worker's side) share. */
#ifndef ORLOP_HTTP_EXCHANGE_PRIV_H
#define ORLOP_HTTP_EXCHANGE_PRIV_H

#include "http/body_pipe.h"
#include "http/engine.h"
#include "http/exchange.h"
#include "http/net.h"
#include "http/reply.h"

/* So much of an unwanted body is read and dropped to keep the connection; more, and the connection is closed. */
#define EXCHANGE_DROP_BYTES_MAX ((uint64_t) 256 * 1024)

/* What the network thread expects next. */
enum stage {
    STAGE_NEW,    /* the head */
    STAGE_AUTH,   /* a worker to check the password */
    STAGE_MEMORY, /* memory for the body */
    STAGE_RUN,    /* a worker to call run() */
    STAGE_DROP,   /* body bytes nobody wants; the reply may be decided already */
    STAGE_BUFFER, /* body bytes for request->body */
    STAGE_STREAM, /* body bytes for the pipe */
    STAGE_END,    /* a worker to empty the pipe and call end() */
    STAGE_REPLY,  /* the answer is on its way */
    STAGE_CLOSED  /* answered early: the connection closes */
};

enum work { WORK_AUTH, WORK_RUN, WORK_STREAM, WORK_REPLY, WORK_GONE };

/* Why the connection is suspended. */
enum wait { WAIT_NONE, WAIT_JOB, WAIT_ROOM, WAIT_MEMORY, WAIT_BYTES };

struct exchange {
    struct request request; /* first: a request is the head of its exchange */
    struct engine *engine;
    struct net_connection *connection;
    _Atomic unsigned refs;

    enum stage stage;
    bool body_expected;
    bool head_done;        /* the next step brings body bytes or the request's end */
    bool body_done;        /* the request's end was seen */
    bool must_close;       /* where the request ends is not certain */
    bool expects_continue; /* the client waits for 100 or an answer before it sends the body */
    uint64_t body_received;
    uint64_t started_us;
    int status_sent;
    enum err_code aborted; /* answered by exchange_abort */
    bool reply_begun;      /* a streamed reply has the pipe */
    uint64_t body_bytes_sent;

    enum auth_verdict verdict;
    char user[AUTH_USER_CHARS_MAX + 1];
    char *text;        /* the target, and room for the decoded path */
    char *header_text; /* names and values, joined where a header was repeated */
    size_t header_count;
    struct net_header headers[NET_HEADERS_MAX];

    struct budget_ticket memory;
    struct reply reply;
    struct body_pipe pipe; /* the request's body; later a streamed reply's */
    size_t wake_bytes;     /* so much in the pipe is worth waking a worker for */

    enum work work; /* set before the job is queued */
    struct job job;
    struct {
        pthread_mutex_t lock;
        bool job_active; /* queued or running */
        enum wait wait;
        bool reply_ready;
        bool reply_failed; /* a streamed reply ends here: reply.error says why */
        bool run_called;
        bool ended;         /* end() or gone() was called */
        bool body_complete; /* all of the body is in the pipe */
        bool flush;         /* work on what is in the pipe, however little */
        bool completed;     /* the connection is done with this request */
    } synced;
};

/* The reply is decided. When the client is not through with its body: drop a short rest, else answer into it. */
bool exchange_answer(struct exchange *exchange);
bool exchange_refuse(struct exchange *exchange, const struct err *err);
/* Answer an error while the exchange's own reply may be in a worker's hands. */
bool exchange_abort(struct exchange *exchange, enum err_code code, const char *message);

/* A streamed reply moves in halves of the pipe: while the client takes one, a worker fills the other. */
static inline size_t exchange_pipe_half(const struct exchange *exchange)
{
    return (exchange->pipe.cap + 1) / 2;
}

/*
 * A streamed body crosses from the workers in a pipe, the one a streamed request body came in before. false: there is
 * no such body, or no memory (the reply is broken then).
 */
bool exchange_open_pipe(struct exchange *exchange);

/* Queue the job. Call with synced.lock held and job_active false. initial: it may be refused (false). */
bool exchange_post_synced(struct exchange *exchange, enum work work, bool initial);
/* Must gone() still be called? With synced.lock held. */
bool exchange_needs_gone_synced(const struct exchange *exchange);
/* budget's granted(). */
void exchange_memory_granted(struct budget_ticket *ticket);

#endif

/*
 * The HTTP server: network threads, which never block, and workers, which may.
 *
 *     server.c     the API's engine and the admin listener's (admin.c)
 *     engine.c     one listener: start, drain
 *     net.c        connections; the only file that knows libmicrohttpd; net_sweep.c: their clocks
 *     exchange.c   one request on the network thread: head, authorization, body; exchange_answer.c: its answer
 *     exchange_job.c   the same on a worker: calls the endpoint (request.h)
 *     reply.c      answers; body_pipe.c, budget.c, workers.c, peers.c, linger.c: what bounds all this
 */
#ifndef ORLOP_HTTP_SERVER_H
#define ORLOP_HTTP_SERVER_H

#include "http/auth.h"
#include "registry/registry.h"

struct http_settings {
    const char *listen;          /* "ADDR:PORT", "[V6]:PORT", ":PORT"; port 0 lets the kernel choose */
    const char *admin_listen;    /* /healthz /readyz /metrics; "" for none */
    const char *tls_certificate; /* PEM files; "" for plain HTTP */
    const char *tls_key;
    unsigned network_threads; /* 0: one a core, at most 4 */
    unsigned workers;         /* threads that may block */
    unsigned connections_max;
    unsigned connections_per_address_max; /* 0: no limit */
    unsigned jobs_waiting_max;            /* requests waiting for a worker; more are answered 503 with Retry-After */
    uint64_t header_bytes_max;   /* request line and headers; a connection holds so much memory, even while idle */
    uint64_t body_pipe_bytes;    /* a streaming request's ring */
    uint64_t buffered_bytes_max; /* all BODY_BUFFER bodies together; more wait */
    uint64_t header_timeout_ms;  /* from a new connection, or a request line, to the end of the headers */
    uint64_t idle_timeout_ms;    /* keep-alive connection without a complete request line */
    uint64_t body_timeout_ms;    /* no byte of a body, or of an answer, moved for so long */
    uint64_t body_bytes_per_second_min; /* measured over body_timeout_ms; slower bodies are answered 408 */
    uint64_t linger_ms_max; /* after an early answer: how long what the client still sends is read and dropped */
    uint64_t drain_ms_max;  /* SIGTERM: requests still running after this are cut */
    bool access_log;
};

struct http_server;

/* Listen and serve. On success both listeners accept. Errors: ERR_INVALID (bad address or certificate), ERR_IO. */
must_check enum err_code http_server_start(const struct http_settings *settings, struct registry *registry,
                                           struct auth *auth, struct http_server **out, struct err *err);
/* The port listened on (for port 0). */
unsigned http_server_port(const struct http_server *server);
unsigned http_server_admin_port(const struct http_server *server);
/*
 * Stop accepting, let running requests end (at most drain_ms_max), then free everything. /readyz answers 503 meanwhile.
 * false: a worker hangs in a call that does not return. Nothing was freed then, what it uses (the registry) must not be
 * freed either, and the process should end.
 */
must_check bool http_server_drain(struct http_server *server);

#endif

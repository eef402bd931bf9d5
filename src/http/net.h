/*
 * The network: connections, their clocks, and libmicrohttpd, which only net.c knows.
 *
 * Each network thread runs a libmicrohttpd daemon of its own, and all of them accept from one listening socket. What
 * concerns a connection — bytes, timeouts, early answers — is done by its thread, so a connection needs no lock; the
 * one thing other threads may do is net_resume.
 *
 * A connection's bytes go to its exchange (exchange.h): exchange_new when the request line is there, exchange_step when
 * there is something to do, exchange_completed when the request is over.
 */
#ifndef ORLOP_HTTP_NET_H
#define ORLOP_HTTP_NET_H

#include "base/buf.h"
#include "base/err.h"

#define NET_HEADERS_MAX 100
#define NET_REPLY_HEAD_BYTES 2048 /* kept free of request headers in a connection's memory */
#define NET_PEER_TEXT_BYTES 64

struct engine;
struct exchange;
struct net;
struct net_connection;
struct reply;

/* What a connection waits for, which decides how long it may. */
enum net_phase {
    NET_HEAD,     /* a request's head (at first: since the connection was accepted) */
    NET_IDLE,     /* the next request */
    NET_BODY,     /* a request's body */
    NET_WORK,     /* us: no clock runs */
    NET_REPLY,    /* the client to take the answer */
    NET_ANSWERED, /* answered early and about to be closed */
};

struct net_header {
    struct str name;
    struct str value;
};

/* Take listen_fd (in every case) and start the threads. */
must_check enum err_code net_start(struct engine *engine, int listen_fd, struct net **out, struct err *err);
/* Connections that are open. */
unsigned net_connections(const struct net *net);
/* Stop the threads and free all. No connection may be suspended. */
void net_stop(struct net *net);

/* ---- for a request's exchange, on the connection's thread ---- */

const char *net_method(const struct net_connection *connection);
/* The request's headers, at most NET_HEADERS_MAX; returns how many there are. Valid until the request is completed. */
size_t net_headers(struct net_connection *connection, struct net_header *out);
/* Bytes of the request line and headers, and how much of the connection's memory is left for the answer's head. */
size_t net_head_bytes(struct net_connection *connection);
/* Is all of the head in target and these headers, which are all of them? Not, if it holds a NUL, a bare CR or LF, a
 * folded line, or a line without a name. */
bool net_head_is_whole(struct net_connection *connection, const char *target, const struct net_header *headers,
                       size_t count);
bool net_is_http_1_0(const struct net_connection *connection);
void net_peer(const struct net_connection *connection, char out[NET_PEER_TEXT_BYTES]);

void net_set_phase(struct net_connection *connection, enum net_phase phase);
/* Body bytes arrived. */
void net_progress(struct net_connection *connection, size_t bytes);

/*
 * Hear nothing of the connection until net_resume, which any thread may call and after which exchange_step is called.
 */
void net_suspend(struct net_connection *connection);
void net_resume(struct net_connection *connection);

/* Send the exchange's sealed reply the regular way. Only where the whole request has been read, or none of its body. */
must_check bool net_reply(struct net_connection *connection, struct exchange *exchange, struct reply *reply,
                          bool is_head, bool close);
/* Send a rendered answer while the client may still be sending. The connection is then closed gracefully: what still
 * comes is read and dropped for a while, so that no reset destroys the answer. false: it could not be sent. */
bool net_answer_early(struct net_connection *connection, struct str bytes);

#endif

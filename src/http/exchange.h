/*
 * One request's way through the server: the engine's half of struct request (request.h draws the states).
 *
 * An exchange is shared by the connection it came from, the job that works on it and the answer being sent, and freed
 * with the last of them. The connection's thread owns everything but `synced`, which is shared with the worker under
 * its lock, and what a running job was given: the request, its body and its reply.
 */
#ifndef ORLOP_HTTP_EXCHANGE_H
#define ORLOP_HTTP_EXCHANGE_H

#include "http/request.h"

struct engine;
struct exchange;
struct net_connection;

/* A request line arrived. NULL: no memory. */
struct exchange *exchange_new(struct engine *engine, struct net_connection *connection, const char *target);
/*
 * Something happened: the head is complete (first call), body bytes arrived (*len > 0; what is not taken is left in
 * *len, and then the connection is suspended), the request is complete, or the connection was resumed. false: close it.
 */
bool exchange_step(struct exchange *exchange, const char *bytes, size_t *len);
/* Called a few times a second while the connection is not suspended. */
void exchange_tick(struct exchange *exchange);
/* The client is too slow: answer 408. false: it could not be sent. */
bool exchange_time_out(struct exchange *exchange);
/* Body bytes of the reply from pos on, where the last call's ended. 0: none yet, and the connection was suspended; -1:
 * there will be none, close it. */
ssize_t exchange_read_reply(struct exchange *exchange, uint64_t pos, char *out, size_t len);
/* The request is over. sent: the answer went out whole; status: of an answer libmicrohttpd gave by itself, or 0. */
void exchange_completed(struct exchange *exchange, bool sent, int status);

void exchange_ref(struct exchange *exchange);
void exchange_unref(struct exchange *exchange);
/* The reply that belongs to a request. */
struct reply *exchange_reply(struct request *request);

#endif

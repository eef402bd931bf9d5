/*
 * An engine: one listener with its network threads, its workers and its routes. The server has two, for the API and for
 * the admin listener; tests start their own with routes of their own.
 *
 * Lock order: exchange.synced.lock or budget.lock, then workers' or libmicrohttpd's own; never the other way round.
 */
#ifndef ORLOP_HTTP_ENGINE_H
#define ORLOP_HTTP_ENGINE_H

#include "http/auth.h"
#include "http/budget.h"
#include "http/request.h"
#include "http/server.h"
#include "http/workers.h"

#include <stdatomic.h>

/* As route_find. */
typedef enum err_code engine_router(struct request *request, struct str path, char *storage, const char **out_allow,
                                    struct err *err);

struct net;

struct engine {
    struct http_settings settings; /* its strings are used only while starting */
    struct http_server *server;    /* NULL in tests */
    struct registry *registry;
    struct auth *auth; /* NULL: everyone may do everything */
    engine_router *router;
    struct workers *workers;
    struct budget budget;
    struct net *net;
    unsigned port;
    _Atomic uint64_t requests_active;
    _Atomic bool draining; /* no new connections; answers close theirs; idle ones are closed */
    _Atomic bool cutting;  /* the time for draining is over: end what is left */
};

/* settings->listen is where; its admin_listen is not looked at. */
must_check enum err_code engine_start(const struct http_settings *settings, struct http_server *server,
                                      struct registry *registry, struct auth *auth, engine_router *router,
                                      struct engine **out, struct err *err);
/* As http_server_drain. */
must_check bool engine_drain(struct engine *engine);

#endif

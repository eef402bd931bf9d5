#include "http/server_priv.h"

#include "http/admin.h"
#include "http/route.h"

#include <stdlib.h>
#include <sys/resource.h>

/* Descriptors beside the connections': files being read and written, libraries, the admin listener. */
#define FILES_BESIDE 128
#define FILES_PER_WORKER 4

#define ADMIN_CONNECTIONS_MAX 64
#define ADMIN_JOBS_WAITING_MAX 16

/* Raise the soft limit of open files to the hard one, and check that the connections fit. */
static enum err_code server_raise_file_limit(const struct http_settings *settings, struct err *err)
{
    struct rlimit limit;
    uint64_t needed = (uint64_t) settings->connections_max + ADMIN_CONNECTIONS_MAX + FILES_BESIDE +
                      (uint64_t) FILES_PER_WORKER * settings->workers;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return err_set_errno(err, errno, "getrlimit");
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            return err_set_errno(err, errno, "setrlimit");
    }
    if (limit.rlim_cur < needed)
        return err_set(err, ERR_INVALID,
                       "%u connections need %llu open files, but the limit is %llu: raise it (ulimit -n, LimitNOFILE) "
                       "or allow fewer connections",
                       settings->connections_max, (unsigned long long) needed, (unsigned long long) limit.rlim_cur);
    return ERR_OK;
}

/* The admin listener is the same engine, made small, and open to whoever can reach it. */
static enum err_code server_start_admin(struct http_server *server, const struct http_settings *settings,
                                        struct registry *registry, struct err *err)
{
    struct http_settings admin = *settings;

    if (!settings->admin_listen || !settings->admin_listen[0])
        return ERR_OK;
    admin.listen = settings->admin_listen;
    admin.tls_certificate = NULL;
    admin.tls_key = NULL;
    admin.network_threads = 1;
    admin.workers = 1;
    admin.connections_max = ADMIN_CONNECTIONS_MAX;
    admin.connections_per_address_max = 0;
    admin.jobs_waiting_max = ADMIN_JOBS_WAITING_MAX;
    admin.drain_ms_max = 0;
    admin.access_log = false;
    return engine_start(&admin, server, registry, NULL, admin_route, &server->admin, err);
}

enum err_code http_server_start(const struct http_settings *settings, struct registry *registry, struct auth *auth,
                                struct http_server **out, struct err *err)
{
    if (server_raise_file_limit(settings, err))
        return err->code;
    struct http_server *server = calloc(1, sizeof(*server));
    if (!server)
        return err_set(err, ERR_NO_MEMORY, "no memory for the server");
    enum err_code failed = server_start_admin(server, settings, registry, err);
    if (!failed)
        failed = engine_start(settings, server, registry, auth, route_find, &server->api, err);
    if (failed) {
        if (!server->admin || engine_drain(server->admin))
            free(server);
        return failed;
    }
    *out = server;
    return ERR_OK;
}

unsigned http_server_port(const struct http_server *server)
{
    return server->api->port;
}

unsigned http_server_admin_port(const struct http_server *server)
{
    return server->admin ? server->admin->port : 0;
}

bool http_server_is_draining(const struct http_server *server)
{
    return atomic_load(&server->draining);
}

bool http_server_drain(struct http_server *server)
{
    atomic_store(&server->draining, true);
    bool drained = engine_drain(server->api);
    if (server->admin && !engine_drain(server->admin))
        drained = false;
    if (drained)
        free(server);
    return drained;
}

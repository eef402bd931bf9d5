#include "http/engine.h"

#include "base/clock.h"
#include "base/log.h"
#include "http/listen.h"
#include "http/net.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define NETWORK_THREADS_MAX 4
#define CUT_MS ((uint64_t) 5000) /* what workers get to end their calls after the connections were cut */
#define POLL_MS 10

enum err_code engine_start(const struct http_settings *settings, struct http_server *server, struct registry *registry,
                           struct auth *auth, engine_router *router, struct engine **out, struct err *err)
{
    struct engine *engine = calloc(1, sizeof(*engine));
    if (!engine)
        return err_set(err, ERR_NO_MEMORY, "no memory for the server");
    engine->settings = *settings;
    engine->server = server;
    engine->registry = registry;
    engine->auth = auth;
    engine->router = router;
    if (settings->network_threads == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        engine->settings.network_threads = cores < 1                     ? 1
                                           : cores > NETWORK_THREADS_MAX ? NETWORK_THREADS_MAX
                                                                         : (unsigned) cores;
    }
    budget_init(&engine->budget, settings->buffered_bytes_max);

    int fd;
    enum err_code failed = listen_open(settings->listen, &fd, &engine->port, err);
    if (!failed)
        failed = workers_start(settings->workers, settings->jobs_waiting_max, &engine->workers, err);
    if (failed)
        fd_close(fd);
    else
        failed = net_start(engine, fd, &engine->net, err);
    if (failed) {
        if (engine->workers)
            (void) workers_stop(engine->workers, UINT64_MAX);
        budget_finish(&engine->budget);
        free(engine);
        return failed;
    }
    *out = engine;
    return ERR_OK;
}

/* Wait until no request is active and, when the connections must end too, none is open. */
static bool engine_wait(struct engine *engine, uint64_t until_ms, bool connections)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
    while (atomic_load(&engine->requests_active) > 0 || (connections && net_connections(engine->net) > 0)) {
        if (clock_monotonic_ms() >= until_ms)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

bool engine_drain(struct engine *engine)
{
    uint64_t now = clock_monotonic_ms();
    atomic_store(&engine->draining, true);
    bool drained = engine_wait(engine, now + engine->settings.drain_ms_max, false);
    if (!drained)
        log_event(LOG_WARN, "requests still running are cut",
                  LOG_U64("requests", atomic_load(&engine->requests_active)));
    atomic_store(&engine->cutting, true);
    if (!engine_wait(engine, clock_monotonic_ms() + CUT_MS, true)) {
        log_event(LOG_ERROR, "a worker does not return; giving up on it",
                  LOG_U64("requests", atomic_load(&engine->requests_active)));
        return false;
    }
    net_stop(engine->net);
    if (!workers_stop(engine->workers, CUT_MS)) {
        log_write(LOG_ERROR, "a worker does not return; giving up on it", NULL, 0);
        return false;
    }
    budget_finish(&engine->budget);
    free(engine);
    return true;
}

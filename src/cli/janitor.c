#include "cli/janitor.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/wait.h"
#include "registry/upload.h"

#include <pthread.h>

struct janitor {
    struct registry *registry;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* interval_ms or stopping */
    uint64_t interval_ms;
    bool stopping;
};

static void janitor_pass(struct janitor *janitor)
{
    struct err err = ERR_INIT;
    size_t count = 0;
    if (upload_expire(janitor->registry, &count, &err))
        log_event(LOG_WARN, "idle uploads could not be looked for", LOG_TEXT("error", err_info(err.code)->name),
                  LOG_TEXT("detail", err_text(&err)));
    if (count > 0)
        log_event(LOG_INFO, "idle uploads removed", LOG_U64("uploads", count));
}

/* Wait until interval_ms after since, whatever it is changed to meanwhile. false: stop. The mutex is held. */
static bool janitor_wait(struct janitor *janitor, uint64_t since_ms)
{
    while (!janitor->stopping) {
        uint64_t until_ms = since_ms + janitor->interval_ms;
        if (clock_monotonic_ms() >= until_ms)
            return true;
        (void) wait_until(&janitor->changed, &janitor->mutex, until_ms);
    }
    return false;
}

static void *janitor_run(void *arg)
{
    struct janitor *janitor = arg;
    bool more = true;
    while (more) {
        uint64_t since_ms = clock_monotonic_ms();
        janitor_pass(janitor);
        pthread_mutex_lock(&janitor->mutex);
        more = janitor_wait(janitor, since_ms);
        pthread_mutex_unlock(&janitor->mutex);
    }
    return NULL;
}

enum err_code janitor_start(struct registry *registry, uint64_t interval_ms, struct janitor **out, struct err *err)
{
    struct janitor *janitor = calloc(1, sizeof(*janitor));
    if (!janitor)
        return err_set(err, ERR_NO_MEMORY, "%s", err_info(ERR_NO_MEMORY)->text);
    janitor->registry = registry;
    janitor->interval_ms = interval_ms;
    pthread_mutex_init(&janitor->mutex, NULL);
    wait_init(&janitor->changed);

    int failed = pthread_create(&janitor->thread, NULL, janitor_run, janitor);
    if (failed) {
        pthread_cond_destroy(&janitor->changed);
        pthread_mutex_destroy(&janitor->mutex);
        free(janitor);
        return err_set_errno(err, failed, "start the janitor's thread");
    }
    *out = janitor;
    return ERR_OK;
}

void janitor_set_interval(struct janitor *janitor, uint64_t interval_ms)
{
    pthread_mutex_lock(&janitor->mutex);
    janitor->interval_ms = interval_ms;
    pthread_cond_signal(&janitor->changed);
    pthread_mutex_unlock(&janitor->mutex);
}

void janitor_stop(struct janitor *janitor)
{
    if (!janitor)
        return;
    pthread_mutex_lock(&janitor->mutex);
    janitor->stopping = true;
    pthread_cond_signal(&janitor->changed);
    pthread_mutex_unlock(&janitor->mutex);
    pthread_join(janitor->thread, NULL);
    pthread_cond_destroy(&janitor->changed);
    pthread_mutex_destroy(&janitor->mutex);
    free(janitor);
}

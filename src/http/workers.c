#include "http/workers.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "base/wait.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct workers {
    unsigned waiting_max;
    unsigned thread_count;
    pthread_t *threads;
    struct {
        pthread_mutex_t lock;
        pthread_cond_t job_waits;
        pthread_cond_t thread_ended;
        struct job *first;
        struct job **end;
        unsigned waiting;
        unsigned idle;
        unsigned running_threads;
        bool stopping;
    } synced;
};

static void *workers_thread(void *arg)
{
    struct workers *workers = arg;

    pthread_mutex_lock(&workers->synced.lock);
    for (;;) {
        while (!workers->synced.first && !workers->synced.stopping) {
            workers->synced.idle++;
            pthread_cond_wait(&workers->synced.job_waits, &workers->synced.lock);
            workers->synced.idle--;
        }
        struct job *job = workers->synced.first;
        if (!job)
            break;
        workers->synced.first = job->next;
        if (!job->next)
            workers->synced.end = &workers->synced.first;
        workers->synced.waiting--;
        pthread_mutex_unlock(&workers->synced.lock);

        metric_gauge_add(METRIC_JOBS_WAITING, -1);
        metric_gauge_add(METRIC_WORKERS_BUSY, 1);
        job->run(job); /* may free it */
        metric_gauge_add(METRIC_WORKERS_BUSY, -1);
        pthread_mutex_lock(&workers->synced.lock);
    }
    workers->synced.running_threads--;
    pthread_cond_signal(&workers->synced.thread_ended);
    pthread_mutex_unlock(&workers->synced.lock);
    return NULL;
}

static void workers_init(struct workers *workers, unsigned waiting_max)
{
    workers->waiting_max = waiting_max;
    workers->synced.end = &workers->synced.first;
    pthread_mutex_init(&workers->synced.lock, NULL);
    pthread_cond_init(&workers->synced.job_waits, NULL);
    wait_init(&workers->synced.thread_ended);
}

static void workers_free(struct workers *workers)
{
    for (unsigned i = 0; i < workers->thread_count; i++)
        pthread_join(workers->threads[i], NULL);
    pthread_mutex_destroy(&workers->synced.lock);
    pthread_cond_destroy(&workers->synced.job_waits);
    pthread_cond_destroy(&workers->synced.thread_ended);
    free(workers->threads);
    free(workers);
}

enum err_code workers_start(unsigned count, unsigned waiting_max, struct workers **out, struct err *err)
{
    assert(count > 0);
    struct workers *workers = calloc(1, sizeof(*workers));
    pthread_t *threads = calloc(count, sizeof(*threads));
    if (!workers || !threads) {
        free(workers);
        free(threads);
        return err_set(err, ERR_NO_MEMORY, "no memory for %u workers", count);
    }
    workers->threads = threads;
    workers_init(workers, waiting_max);
    for (; workers->thread_count < count; workers->thread_count++) {
        int failed = pthread_create(&threads[workers->thread_count], NULL, workers_thread, workers);
        if (failed) {
            (void) workers_stop(workers, UINT64_MAX);
            return err_set_errno(err, failed, "starting %u workers", count);
        }
        pthread_mutex_lock(&workers->synced.lock);
        workers->synced.running_threads++;
        pthread_mutex_unlock(&workers->synced.lock);
    }
    *out = workers;
    return ERR_OK;
}

static bool workers_queue(struct workers *workers, struct job *job, bool always)
{
    pthread_mutex_lock(&workers->synced.lock);
    bool taken =
        always || workers->synced.idle > workers->synced.waiting || workers->synced.waiting < workers->waiting_max;
    if (taken) {
        job->next = NULL;
        *workers->synced.end = job;
        workers->synced.end = &job->next;
        workers->synced.waiting++;
        metric_gauge_add(METRIC_JOBS_WAITING, 1);
        if (workers->synced.idle > 0)
            pthread_cond_signal(&workers->synced.job_waits);
    }
    pthread_mutex_unlock(&workers->synced.lock);
    return taken;
}

bool workers_post(struct workers *workers, struct job *job)
{
    return workers_queue(workers, job, false);
}

void workers_post_more(struct workers *workers, struct job *job)
{
    (void) workers_queue(workers, job, true);
}

bool workers_are_wanted(struct workers *workers)
{
    pthread_mutex_lock(&workers->synced.lock);
    bool wanted = workers->synced.first != NULL;
    pthread_mutex_unlock(&workers->synced.lock);
    return wanted;
}

bool workers_stop(struct workers *workers, uint64_t wait_ms)
{
    uint64_t until_ms = clock_monotonic_ms() + (wait_ms < INT32_MAX ? wait_ms : INT32_MAX);
    pthread_mutex_lock(&workers->synced.lock);
    workers->synced.stopping = true;
    pthread_cond_broadcast(&workers->synced.job_waits);
    while (workers->synced.running_threads > 0 &&
           wait_until(&workers->synced.thread_ended, &workers->synced.lock, until_ms))
        ;
    bool ended = workers->synced.running_threads == 0;
    pthread_mutex_unlock(&workers->synced.lock);
    if (ended)
        workers_free(workers);
    return ended;
}

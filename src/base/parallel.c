/* A few shared threads that help whoever calls parallel_each. */
#include "base/parallel.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

struct task {
    struct task *next;
    parallel_fn *fn;
    void *arg;
    size_t count;
    atomic_size_t begun;
    unsigned helpers_wanted; /* under pool.mutex, as all below */
    unsigned helpers;        /* at work on it */
    pthread_cond_t done;
};

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t posted;
    struct task *first;
    unsigned threads, idle;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .posted = PTHREAD_COND_INITIALIZER};

static void task_work(struct task *task)
{
    for (;;) {
        size_t index = atomic_fetch_add(&task->begun, 1);
        if (index >= task->count)
            return;
        if (!task->fn(task->arg, index))
            atomic_store(&task->begun, task->count);
    }
}

static void *help(void *arg)
{
    (void) arg;
    pthread_mutex_lock(&pool.mutex);
    for (;;) {
        struct task *task = pool.first;
        while (task && task->helpers_wanted == 0)
            task = task->next;
        if (!task) {
            pool.idle++;
            pthread_cond_wait(&pool.posted, &pool.mutex);
            pool.idle--;
            continue;
        }
        task->helpers_wanted--;
        task->helpers++;
        pthread_mutex_unlock(&pool.mutex);
        task_work(task);
        pthread_mutex_lock(&pool.mutex);
        if (--task->helpers == 0)
            pthread_cond_signal(&task->done);
    }
    return NULL;
}

/* One more thread if that may help. The mutex is held. */
static void pool_grow(unsigned wanted)
{
    pthread_t thread;
    sigset_t all, before; /* signals are the main thread's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.idle < wanted && pool.threads < PARALLEL_THREADS && wanted > 0) {
        if (pthread_create(&thread, NULL, help, NULL) != 0)
            break;
        (void) pthread_detach(thread);
        pool.threads++;
        wanted--;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void parallel_each(size_t count, unsigned width, parallel_fn *fn, void *arg)
{
    struct task task = {.fn = fn, .arg = arg, .count = count};
    if (width > count)
        width = (unsigned) count;
    if (width > 1) {
        pthread_cond_init(&task.done, NULL);
        pthread_mutex_lock(&pool.mutex);
        task.helpers_wanted = width - 1;
        task.next = pool.first;
        pool.first = &task;
        pool_grow(width - 1);
        pthread_cond_broadcast(&pool.posted);
        pthread_mutex_unlock(&pool.mutex);
    }
    task_work(&task);
    if (width <= 1)
        return;
    pthread_mutex_lock(&pool.mutex);
    struct task **link = &pool.first;
    while (*link != &task)
        link = &(*link)->next;
    *link = task.next; /* nobody new joins */
    while (task.helpers > 0)
        pthread_cond_wait(&task.done, &pool.mutex);
    pthread_mutex_unlock(&pool.mutex);
    pthread_cond_destroy(&task.done);
}

struct attempt {
    parallel_try_fn *fn;
    void *arg;
    pthread_mutex_t mutex;
    enum err_code code; /* under the mutex, as err: the first failure */
    struct err *err;
};

static bool attempt_one(void *arg, size_t index)
{
    struct attempt *attempt = arg;
    struct err err = ERR_INIT;
    enum err_code code = attempt->fn(attempt->arg, index, &err);
    if (code == ERR_OK)
        return true;
    pthread_mutex_lock(&attempt->mutex);
    if (attempt->code == ERR_OK) {
        attempt->code = code;
        *attempt->err = err;
    }
    pthread_mutex_unlock(&attempt->mutex);
    return false;
}

enum err_code parallel_try(size_t count, unsigned width, parallel_try_fn *fn, void *arg, struct err *err)
{
    struct attempt attempt = {.fn = fn, .arg = arg, .mutex = PTHREAD_MUTEX_INITIALIZER, .err = err};
    parallel_each(count, width, attempt_one, &attempt);
    return attempt.code;
}

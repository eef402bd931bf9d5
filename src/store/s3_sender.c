/* A plain queue and its threads. What its jobs hold bounds it: part memory, and LATER_MAX of s3_discard.c. */
#include "store/s3_sender.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

struct s3_senders {
    pthread_mutex_t mutex;
    pthread_cond_t posted;
    struct s3_job *first, **last;
    bool stop;
    unsigned count;
    pthread_t threads[];
};

static void *sender_run(void *arg)
{
    struct s3_senders *senders = arg;
    pthread_mutex_lock(&senders->mutex);
    for (;;) {
        struct s3_job *job = senders->first;
        if (job) {
            senders->first = job->next;
            if (!senders->first)
                senders->last = &senders->first;
            pthread_mutex_unlock(&senders->mutex);
            job->run(job);
            pthread_mutex_lock(&senders->mutex);
        } else if (senders->stop) {
            break;
        } else {
            pthread_cond_wait(&senders->posted, &senders->mutex);
        }
    }
    pthread_mutex_unlock(&senders->mutex);
    return NULL;
}

struct s3_senders *s3_senders_new(unsigned threads)
{
    struct s3_senders *senders = calloc(1, sizeof(*senders) + threads * sizeof(senders->threads[0]));
    if (!senders)
        return NULL;
    pthread_mutex_init(&senders->mutex, NULL);
    pthread_cond_init(&senders->posted, NULL);
    senders->last = &senders->first;
    sigset_t all, before; /* signals are the main thread's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (senders->count < threads &&
           pthread_create(&senders->threads[senders->count], NULL, sender_run, senders) == 0)
        senders->count++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (senders->count == 0) {
        s3_senders_free(senders);
        return NULL;
    }
    return senders;
}

void s3_senders_free(struct s3_senders *senders)
{
    if (!senders)
        return;
    pthread_mutex_lock(&senders->mutex);
    senders->stop = true;
    pthread_cond_broadcast(&senders->posted);
    pthread_mutex_unlock(&senders->mutex);
    for (unsigned i = 0; i < senders->count; i++)
        pthread_join(senders->threads[i], NULL);
    pthread_cond_destroy(&senders->posted);
    pthread_mutex_destroy(&senders->mutex);
    free(senders);
}

void s3_senders_post(struct s3_senders *senders, struct s3_job *job)
{
    job->next = NULL;
    pthread_mutex_lock(&senders->mutex);
    *senders->last = job;
    senders->last = &job->next;
    pthread_cond_signal(&senders->posted);
    pthread_mutex_unlock(&senders->mutex);
}

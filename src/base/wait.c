#include "base/wait.h"

#include <time.h>

#define MS_PER_S 1000
#define NS_PER_MS 1000000L

void wait_init(pthread_cond_t *cond)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

bool wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t until_ms)
{
    struct timespec until = {.tv_sec = (time_t) (until_ms / MS_PER_S),
                             .tv_nsec = (long) (until_ms % MS_PER_S) * NS_PER_MS};
    return pthread_cond_timedwait(cond, mutex, &until) == 0;
}

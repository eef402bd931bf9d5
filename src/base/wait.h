/*
 * Waiting for another thread, but not for ever: a condition whose waits end at a time of clock_monotonic_ms().
 */
#ifndef ORLOP_BASE_WAIT_H
#define ORLOP_BASE_WAIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* For use with wait_until; the caller destroys it. */
void wait_init(pthread_cond_t *cond);
/* As pthread_cond_wait (it may return for no reason). false: the time is over. */
bool wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t until_ms);

#endif

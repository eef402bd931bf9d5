/*
 * Do one thing for many items at once, where each waits for the network rather than the processor.
 *
 * The caller works too, helped by as many of PARALLEL_THREADS shared threads as are free: with none free it does
 * everything itself, so calls never wait for each other.
 */
#ifndef ORLOP_BASE_PARALLEL_H
#define ORLOP_BASE_PARALLEL_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define PARALLEL_THREADS 64 /* in the process; started when they are first needed */

/* Item `index`; false: begin no further items. Called from several threads at once. */
typedef bool parallel_fn(void *arg, size_t index);

/* Call fn for 0 … count-1, at most `width` at a time (1: just a loop), and return when all that began are done. */
void parallel_each(size_t count, unsigned width, parallel_fn *fn, void *arg);

/* The same for what may fail: after a failure no further items begin, and the first one's error is the result. */
typedef enum err_code parallel_try_fn(void *arg, size_t index, struct err *err);
must_check enum err_code parallel_try(size_t count, unsigned width, parallel_try_fn *fn, void *arg, struct err *err);

#endif

/*
 * Do one thing for many items at once, where each waits for the network rather than the processor.
 *
 * The caller works too, helped by as many of PARALLEL_THREADS shared threads as are free: with none free it does
 * everything itself, so calls never wait for each other.
 */
#ifndef ORLOP_BASE_PARALLEL_H
#define ORLOP_BASE_PARALLEL_H

#include <stdbool.h>
#include <stddef.h>

#define PARALLEL_THREADS 32 /* in the process; started when they are first needed */

/* Item `index`; false: begin no further items. Called from several threads at once. */
typedef bool parallel_fn(void *arg, size_t index);

/* Call fn for 0 … count-1, at most `width` at a time (1: just a loop), and return when all that began are done. */
void parallel_each(size_t count, unsigned width, parallel_fn *fn, void *arg);

#endif

/*
 * The threads that may block: a fixed number of them and one queue.
 *
 * A job is embedded in what it works on and queued at most once at a time. New work is refused when too much waits;
 * work that ends what was begun (workers_post_more) is always taken: there is at most one such job a request, and
 * requests are bounded by the connections. Threads: any.
 */
#ifndef ORLOP_HTTP_WORKERS_H
#define ORLOP_HTTP_WORKERS_H

#include "base/err.h"

#include <stdint.h>

struct job {
    void (*run)(struct job *job);
    struct job *next;
};

struct workers;

must_check enum err_code workers_start(unsigned count, unsigned waiting_max, struct workers **out, struct err *err);
/* false: too many jobs wait; nothing was queued. */
must_check bool workers_post(struct workers *workers, struct job *job);
void workers_post_more(struct workers *workers, struct job *job);
/* Does any job wait? A long one may then let go of its thread and queue itself again. */
bool workers_are_wanted(struct workers *workers);
/* Run what is queued to its end and join. false: after wait_ms some job still runs; nothing was freed then. */
bool workers_stop(struct workers *workers, uint64_t wait_ms);

#endif

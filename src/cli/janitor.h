/*
 * The janitor: a thread that removes idle upload sessions, at its start and then at an interval.
 */
#ifndef ORLOP_CLI_JANITOR_H
#define ORLOP_CLI_JANITOR_H

#include "registry/registry.h"

struct janitor;

/* The registry must outlive it. */
must_check enum err_code janitor_start(struct registry *registry, uint64_t interval_ms, struct janitor **out,
                                       struct err *err);
void janitor_set_interval(struct janitor *janitor, uint64_t interval_ms);
/* End the thread, after the pass it may be in. NULL is fine. */
void janitor_stop(struct janitor *janitor);

#endif

/*
 * A bounded number of slots, each good for one exchange at a time, and who may have one next.
 *
 *              take                     park
 *     free ───────────► taken ◄──────────────────► parked
 *       ▲                │  ▲        unpark          │
 *       └────────────────┘  └────────────────────────┘
 *             give              take by another: the slot parked longest, when none is free
 *
 * A download whose client is slow parks its slot between reads. So slots are never all held by those who wait for
 * clients, or for a thread that itself waits for a slot. Free slots are taken last in, first out, so that few
 * connections stay warm and the others age; takers that find none wait in order of arrival.
 *
 * Threads: any. A slot has one holder at a time, and only the holder gives, parks and unparks.
 */
#ifndef ORLOP_STORE_S3_SLOTS_H
#define ORLOP_STORE_S3_SLOTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* First in what a slot is; the fields are s3_slots.c's. */
struct s3_slot {
    struct s3_slot *next;
    uint64_t parking; /* 0: not parked */
    bool was_parked;  /* taken from another's parking: what it was doing is still to be stopped */
};

struct s3_slot_waiter;

struct s3_slots {
    struct s3_slot *(*make)(void *arg); /* a further slot; NULL: no memory */
    void *arg;
    size_t max;
    pthread_mutex_t mutex;
    /* by mutex */
    size_t count; /* made so far */
    uint64_t parkings;
    struct s3_slot *free;
    struct s3_slot *parked;         /* the longest parked first */
    struct s3_slot_waiter *waiters; /* the longest waiting first; while there are any, none is free or parked */
};

void s3_slots_init(struct s3_slots *slots, size_t max, struct s3_slot *(*make)(void *arg), void *arg);
/* Call end() for every slot; all must have been given back. */
void s3_slots_destroy(struct s3_slots *slots, void (*end)(struct s3_slot *slot));
/* NULL: none in time, or no memory. *out_was_parked: what it was doing is to be stopped first. */
struct s3_slot *s3_slots_take(struct s3_slots *slots, uint32_t wait_ms, bool *out_was_parked);
void s3_slots_give(struct s3_slots *slots, struct s3_slot *slot);
/* Let others take the slot, if they must. Returns the parking's number, which is not 0. */
uint64_t s3_slots_park(struct s3_slots *slots, struct s3_slot *slot);
/* false: another has taken it. */
bool s3_slots_unpark(struct s3_slots *slots, struct s3_slot *slot, uint64_t parking);

#endif

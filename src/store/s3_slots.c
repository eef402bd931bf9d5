#include "store/s3_slots.h"

#include "base/clock.h"
#include "base/wait.h"

#include <assert.h>

/* A thread that waits for a slot, on its stack. */
struct s3_slot_waiter {
    struct s3_slot_waiter *next;
    pthread_cond_t given;
    struct s3_slot *slot;
};

void s3_slots_init(struct s3_slots *slots, size_t max, struct s3_slot *(*make)(void *arg), void *arg)
{
    *slots = (struct s3_slots){.make = make, .arg = arg, .max = max};
    pthread_mutex_init(&slots->mutex, NULL);
}

void s3_slots_destroy(struct s3_slots *slots, void (*end)(struct s3_slot *slot))
{
    size_t ended = 0;
    while (slots->free) {
        struct s3_slot *slot = slots->free;
        slots->free = slot->next;
        end(slot);
        ended++;
    }
    assert(ended == slots->count);
    pthread_mutex_destroy(&slots->mutex);
}

/* Queue for a slot; with the mutex held. NULL: none was given in time. */
static struct s3_slot *wait_synced(struct s3_slots *slots, uint32_t wait_ms)
{
    uint64_t until_ms = clock_monotonic_ms() + wait_ms;
    struct s3_slot_waiter self = {.slot = NULL};
    wait_init(&self.given);
    struct s3_slot_waiter **end = &slots->waiters;
    while (*end)
        end = &(*end)->next;
    *end = &self;
    while (!self.slot && wait_until(&self.given, &slots->mutex, until_ms))
        ;
    if (!self.slot) {
        struct s3_slot_waiter **at = &slots->waiters;
        while (*at != &self)
            at = &(*at)->next;
        *at = self.next;
    }
    pthread_cond_destroy(&self.given);
    return self.slot;
}

/* To the one who waits longest: threads that come again at once must not starve it. false: nobody waits. */
static bool hand_over_synced(struct s3_slots *slots, struct s3_slot *slot)
{
    struct s3_slot_waiter *first = slots->waiters;
    if (!first)
        return false;
    slots->waiters = first->next;
    first->slot = slot;
    pthread_cond_signal(&first->given);
    return true;
}

/* From its holder, who waits for a client, to somebody who can use it now. */
static void evict_synced(struct s3_slot *slot)
{
    slot->parking = 0;
    slot->was_parked = true;
}

struct s3_slot *s3_slots_take(struct s3_slots *slots, uint32_t wait_ms, bool *out_was_parked)
{
    pthread_mutex_lock(&slots->mutex);
    struct s3_slot *slot = slots->free;
    if (slot) {
        slots->free = slot->next;
    } else if (slots->count < slots->max) {
        slot = slots->make(slots->arg);
        slots->count += slot != NULL;
    } else if (slots->parked) {
        slot = slots->parked;
        slots->parked = slot->next;
        evict_synced(slot);
    } else {
        slot = wait_synced(slots, wait_ms);
    }
    *out_was_parked = slot && slot->was_parked;
    if (slot)
        slot->was_parked = false;
    pthread_mutex_unlock(&slots->mutex);
    return slot;
}

void s3_slots_give(struct s3_slots *slots, struct s3_slot *slot)
{
    pthread_mutex_lock(&slots->mutex);
    if (!hand_over_synced(slots, slot)) {
        slot->next = slots->free;
        slots->free = slot;
    }
    pthread_mutex_unlock(&slots->mutex);
}

uint64_t s3_slots_park(struct s3_slots *slots, struct s3_slot *slot)
{
    pthread_mutex_lock(&slots->mutex);
    uint64_t parking = ++slots->parkings;
    if (slots->waiters) {
        evict_synced(slot);
        (void) hand_over_synced(slots, slot);
    } else {
        struct s3_slot **end = &slots->parked;
        while (*end)
            end = &(*end)->next;
        slot->parking = parking;
        slot->next = NULL;
        *end = slot;
    }
    pthread_mutex_unlock(&slots->mutex);
    return parking;
}

bool s3_slots_unpark(struct s3_slots *slots, struct s3_slot *slot, uint64_t parking)
{
    pthread_mutex_lock(&slots->mutex);
    bool is_ours = slot->parking == parking;
    if (is_ours) {
        struct s3_slot **at = &slots->parked;
        while (*at != slot)
            at = &(*at)->next;
        *at = slot->next;
        slot->parking = 0;
    }
    pthread_mutex_unlock(&slots->mutex);
    return is_ours;
}

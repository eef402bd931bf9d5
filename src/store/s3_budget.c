/*
 * Counted slabs with a queue of waiters. Freed slabs are kept for reuse up to a few; the rest goes back to the system.
 */
#include "store/s3_budget.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "base/wait.h"
#include "store/s3.h"

#include <assert.h>
#include <pthread.h>
#include <sys/mman.h>

#define KEPT_MAX 32 /* free slabs kept warm: 8 MiB, one part */

struct waiter {
    struct waiter *next;
    pthread_cond_t cond;
    bool granted;
};

struct s3_budget {
    pthread_mutex_t mutex;
    size_t used;
    size_t max;     /* what takers share */
    size_t reserve; /* beyond max, for the one with the overdraft */
    struct waiter *first, **last;
    const void *overdraft_owner;
    char *kept[KEPT_MAX];
    size_t kept_count;
};

/* Slabs are mapped, not allocated: what is given back is gone from the process. */
static void slab_unmap(char *slab)
{
    if (slab)
        (void) munmap(slab, S3_SLAB_BYTES);
}

/* The mutex is held. */
static void budget_use(struct s3_budget *budget)
{
    budget->used++;
    metric_gauge_add(METRIC_S3_PART_BYTES, S3_SLAB_BYTES);
}

struct s3_budget *s3_budget_new(size_t slabs_max, size_t part_slabs)
{
    assert(part_slabs < slabs_max);
    struct s3_budget *budget = calloc(1, sizeof(*budget));
    if (!budget)
        return NULL;
    pthread_mutex_init(&budget->mutex, NULL);
    budget->max = slabs_max - part_slabs;
    budget->reserve = part_slabs;
    metric_gauge_add(METRIC_S3_PART_BYTES_MAX, (int64_t) (slabs_max * S3_SLAB_BYTES));
    budget->last = &budget->first;
    return budget;
}

void s3_budget_free(struct s3_budget *budget)
{
    if (!budget)
        return;
    assert(budget->used == 0 && !budget->first);
    while (budget->kept_count > 0)
        slab_unmap(budget->kept[--budget->kept_count]);
    metric_gauge_add(METRIC_S3_PART_BYTES_MAX, -(int64_t) ((budget->max + budget->reserve) * S3_SLAB_BYTES));
    pthread_mutex_destroy(&budget->mutex);
    free(budget);
}

static void waiter_remove(struct s3_budget *budget, struct waiter *waiter)
{
    struct waiter **link = &budget->first;
    while (*link != waiter)
        link = &(*link)->next;
    *link = waiter->next;
    if (budget->last == &waiter->next)
        budget->last = link;
}

/* Queue up and wait; true when a slab was granted. The mutex is held. */
static bool wait_for_slab(struct s3_budget *budget, uint32_t wait_ms)
{
    struct waiter waiter = {.next = NULL};
    uint64_t until_ms = clock_monotonic_ms() + wait_ms;
    wait_init(&waiter.cond);
    *budget->last = &waiter;
    budget->last = &waiter.next;
    while (!waiter.granted && wait_until(&waiter.cond, &budget->mutex, until_ms))
        continue;
    if (!waiter.granted)
        waiter_remove(budget, &waiter);
    pthread_cond_destroy(&waiter.cond);
    return waiter.granted;
}

/* The memory for a slab that was counted. The mutex is held and is given up. */
static char *slab_unlock(struct s3_budget *budget, bool granted)
{
    char *slab = NULL;
    if (granted && budget->kept_count > 0)
        slab = budget->kept[--budget->kept_count];
    pthread_mutex_unlock(&budget->mutex);
    if (!granted || slab)
        return slab;
    slab = mmap(NULL, S3_SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (slab != MAP_FAILED)
        return slab;
    s3_budget_give(budget, NULL);
    return NULL;
}

char *s3_budget_take(struct s3_budget *budget, uint32_t wait_ms)
{
    pthread_mutex_lock(&budget->mutex);
    bool granted = !budget->first && budget->used < budget->max;
    if (granted)
        budget_use(budget);
    else
        granted = wait_ms > 0 && wait_for_slab(budget, wait_ms);
    return slab_unlock(budget, granted);
}

char *s3_budget_overdraw(struct s3_budget *budget, const void *owner)
{
    pthread_mutex_lock(&budget->mutex);
    bool granted =
        (!budget->overdraft_owner || budget->overdraft_owner == owner) && budget->used < budget->max + budget->reserve;
    if (granted) {
        budget->overdraft_owner = owner;
        budget_use(budget);
    }
    return slab_unlock(budget, granted);
}

void s3_budget_end_overdraft(struct s3_budget *budget, const void *owner)
{
    pthread_mutex_lock(&budget->mutex);
    if (budget->overdraft_owner == owner)
        budget->overdraft_owner = NULL;
    pthread_mutex_unlock(&budget->mutex);
}

void s3_budget_give(struct s3_budget *budget, char *slab)
{
    pthread_mutex_lock(&budget->mutex);
    if (slab && budget->kept_count < KEPT_MAX) {
        budget->kept[budget->kept_count++] = slab;
        slab = NULL;
    }
    struct waiter *waiter = budget->used <= budget->max ? budget->first : NULL;
    if (waiter) {
        waiter_remove(budget, waiter); /* the slab's place passes on: used stays */
        waiter->granted = true;
        pthread_cond_signal(&waiter->cond);
    } else {
        budget->used--;
        metric_gauge_add(METRIC_S3_PART_BYTES, -(int64_t) S3_SLAB_BYTES);
    }
    pthread_mutex_unlock(&budget->mutex);
    slab_unmap(slab);
}

bool s3_budget_is_short(struct s3_budget *budget)
{
    pthread_mutex_lock(&budget->mutex);
    bool is_short = budget->first != NULL;
    pthread_mutex_unlock(&budget->mutex);
    return is_short;
}

/*
 * Part memory of the whole process, in slabs of S3_SLAB_BYTES. When it is spent, takers wait in order of arrival.
 *
 * Many uploads may each hold a little too little for a part when it is spent: nobody could send, nobody would give
 * back. So a part's worth is kept in reserve for one taker at a time, which overdraws until its part is on its way.
 * Parts under way give back what was overdrawn for them: until they have, the next one finds less in the reserve, and
 * waits. Shared memory and reserve together are the limit.
 */
#ifndef ORLOP_STORE_S3_BUDGET_H
#define ORLOP_STORE_S3_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct s3_budget;

/* part_slabs, less than slabs_max, hold the first part of any upload. NULL: no memory. */
struct s3_budget *s3_budget_new(size_t slabs_max, size_t part_slabs);
void s3_budget_free(struct s3_budget *budget); /* every slab given back; NULL is fine */
/* A slab, waiting at most wait_ms for one. NULL: none came, or no memory. */
char *s3_budget_take(struct s3_budget *budget, uint32_t wait_ms);
/* A slab from the reserve for owner; NULL while another owner overdraws, or the reserve is used up. */
char *s3_budget_overdraw(struct s3_budget *budget, const void *owner);
/* owner needs it no longer (its part is on its way); no harm when it has none. */
void s3_budget_end_overdraft(struct s3_budget *budget, const void *owner);
void s3_budget_give(struct s3_budget *budget, char *slab);
/* Is somebody waiting? Then what can be given back should be. */
bool s3_budget_is_short(struct s3_budget *budget);

#endif

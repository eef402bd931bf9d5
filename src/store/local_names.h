/*
 * A sorted set of file names, packed into blocks: a page of n names costs O(log total + n), adding or removing one a
 * binary search and a move within one block, and memory is about what the names themselves take (a block is never
 * less than half full when names only come).
 *
 * Names are 1 to LOCAL_NAME_BYTES_MAX bytes and stand in byte order. Threads: one at a time.
 */
#ifndef ORLOP_STORE_LOCAL_NAMES_H
#define ORLOP_STORE_LOCAL_NAMES_H

#include "store/store.h"

#define LOCAL_NAME_BYTES_MAX 255 /* as long as file names are */

struct names_block;

/* Empty: all zero. */
struct local_names {
    struct names_block **blocks; /* none is empty; all names of one stand before all of the next */
    size_t block_count;
    size_t block_cap;
    size_t count; /* names */
};

/* A name that is there already is a success. false: out of memory, and nothing has changed. */
must_check bool local_names_add(struct local_names *names, const char *name);
/* One that is not there is fine. */
void local_names_remove(struct local_names *names, const char *name);
/* Forget all but the `keep` smallest. */
void local_names_trim(struct local_names *names, size_t keep);
void local_names_clear(struct local_names *names);
/* The memory it takes. */
size_t local_names_bytes(const struct local_names *names);
/* The names after `after` ("": from the start), at most limit, as store_list. false: out of memory, out is empty. */
must_check bool local_names_page(const struct local_names *names, const char *after, size_t limit,
                                 struct store_names *out);

#endif

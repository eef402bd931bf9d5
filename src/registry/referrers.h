/*
 * Shared by the files that list referrers.
 *
 *     referrers.c           the pages: which entries there are, what each is, in order, until the page is full
 *     referrers_names.c     the truth: the keys of the descriptors, listed in parallel ranges where there are many
 *     referrers_fold.c      entries of the fallback tag (image-spec "Referrers Tag Schema")
 *     referrers_load.c      descriptors from this process's memory and from their objects
 *     referrers_snapshot.c  many descriptors in one object: a cache that readers write
 *
 * A descriptor does not change while its key exists. So it may come from memory, from a snapshot or from its own
 * object, but whether its key exists is asked of the store by every listing.
 */
#ifndef ORLOP_REGISTRY_REFERRERS_H
#define ORLOP_REGISTRY_REFERRERS_H

#include "registry/listing.h"
#include "registry/registry_priv.h"

#define REFERRERS_REQUESTS_MAX 16 /* under way at once for one listing */
#define REFERRERS_FOLD_MAX 1000   /* entries of a fallback index that are looked at */

/* ---- descriptors: referrers_load.c ---- */

/* Immutable and shared. */
struct referrer {
    atomic_uint refs;
    size_t len;      /* of the descriptor, JSON, at bytes */
    size_t type_len; /* of its artifactType, which follows it; 0: none */
    char bytes[];
};

/* NULL when out of memory. */
struct referrer *referrer_new(struct str descriptor, struct str artifact_type);
void referrer_ref(struct referrer *referrer);
void referrer_unref(struct referrer *referrer); /* NULL is fine */

static inline struct str referrer_descriptor(const struct referrer *referrer)
{
    return (struct str){referrer->bytes, referrer->len};
}

static inline struct str referrer_type(const struct referrer *referrer)
{
    return (struct str){referrer->bytes + referrer->len, referrer->type_len};
}

/* One entry of a listing. */
struct referrer_item {
    struct digest digest;
    struct referrer *referrer; /* NULL: not loaded, or gone */
    bool is_folded;            /* from the fallback tag, not listed as a key */
};

/* Of what a request asks: its repository and subject. */
struct referrers_query;

/* From memory; NULL: not there. */
struct referrer *referrer_find_cached(struct registry *registry, const struct referrers_query *query,
                                      const struct digest *digest);
void referrer_remember(struct registry *registry, const struct referrers_query *query, const struct digest *digest,
                       struct referrer *referrer);

/*
 * Fetch those of items[0 … count-1] that are not loaded, in order, until they are bytes_max together. Writes how many
 * items were dealt with, and adds to *fetched how many were fetched from their keys; what is gone stays NULL.
 */
enum err_code referrers_fetch(struct registry *registry, const struct referrers_query *query,
                              struct referrer_item *items, size_t count, size_t bytes_max, size_t *out_done,
                              size_t *fetched, struct err *err);

/* ---- digests in the order of the names "<alg>-<hex>" ---- */

struct digest_list {
    struct digest *items;
    size_t count, cap;
};

int digest_order(const struct digest *a, const struct digest *b);
/* false: out of memory. */
bool digest_list_add(struct digest_list *list, const struct digest *digest);
void digest_list_free(struct digest_list *list);

/* ---- referrers_names.c ---- */

struct referrer_names {
    struct digest_list list;
    bool more;            /* others follow */
    char last[KEY_BYTES]; /* the last name read: after which to go on */
};

/*
 * The referrers' names after `after`: at least `wanted`, when there are as many, and at most REFERRERS_NAMES_MAX.
 * Fewer, with `more`, is possible where digests are not spread as evenly as they should be; some there are always.
 */
#define REFERRERS_NAMES_MAX 16000
enum err_code referrers_names_read(struct registry *registry, const struct referrers_query *query, const char *after,
                                   size_t wanted, struct referrer_names *out, struct err *err);
void referrers_names_free(struct referrer_names *names);

/* ---- referrers_fold.c ---- */

/* The digests in the fallback tag's index, in order and each once; whether they are here is not looked at. */
enum err_code referrers_fold_read(struct registry *registry, const struct referrers_query *query,
                                  struct digest_list *out, struct err *err);
/*
 * The descriptor that this manifest's push would have written. *out is NULL when there is no such manifest or it has
 * another subject.
 */
enum err_code referrer_from_manifest(struct registry *registry, const struct referrers_query *query,
                                     const struct digest *digest, struct referrer **out, struct err *err);

/* ---- referrers_snapshot.c ---- */

/*
 * A snapshot's object:
 *
 *     orlop-referrers 1 whole <SHA-256 of all that follows this line>\n
 *     sha256-<hex> <length of artifactType> <length of descriptor> <artifactType><descriptor>\n
 *     …                                                                             in order of name
 *
 * One that would be longer than STORE_OBJECT_BYTES_MAX says `split` instead of `whole` and has no lines: its entries
 * are in the snapshots of its parts, each of the names that have one more hex digit in common. At
 * KEY_SNAPSHOT_DIGITS_MAX digits a snapshot has as many entries as fit.
 */
#define SNAPSHOT_VERSION 1

struct snapshot_entry {
    struct digest digest;
    struct str type, descriptor;
};

struct snapshot {
    struct buf bytes; /* what the entries point into */
    struct snapshot_entry *entries;
    size_t count;
    bool is_split;
};

/* Takes *bytes over. ERR_CORRUPT, ERR_VERSION. */
enum err_code snapshot_decode(struct buf *bytes, struct snapshot *out, struct err *err);
void snapshot_free(struct snapshot *snapshot);

void snapshot_begin(struct buf *out); /* out: BUF_INIT(STORE_OBJECT_BYTES_MAX) */
/* In order of name. false: it does not fit, and nothing was added. */
bool snapshot_add(struct buf *out, const struct snapshot_entry *entry);
void snapshot_end(struct buf *out, bool is_split);

/* The part that name is in, one digit deeper than whole. */
struct snapshot_part snapshot_part_of(const struct snapshot_part *whole, const struct digest *name);
bool snapshot_part_has(const struct snapshot_part *part, const struct digest *name);

#endif

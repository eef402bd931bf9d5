/*
 * The truth: what the bucket held when, and what must hold at every moment.
 *
 * It watches every change of the bucket, so it knows the order in which things really happened; what a client was told
 * is then checked against that. An operation begins at a moment (sim_truth_now) and ends later; what it says was so must
 * have been so at some moment in between, give or take how long a node may believe what it remembers.
 *
 * Checked at each change, whoever makes it:
 *     a blob's key gets the bytes of its digest, or a pointer to such bytes; neither ever goes, nor what a pointer names
 *     a reference is only made to a blob that is whole
 *     a manifest's key gets the bytes of its digest
 *     a tag, manifest or reference is only removed while somebody asks for that, or by a late request of such
 */
#ifndef ORLOP_TESTS_SIM_TRUTH_H
#define ORLOP_TESTS_SIM_TRUTH_H

#include "registry/keys.h"
#include "registry/registry.h"
#include "sim_bucket.h"

/* A moment in the order of all that happens. */
struct sim_moment {
    uint64_t order;
    uint64_t ms;
};

/* Forget everything and watch this bucket. */
void sim_truth_begin(struct sim_bucket *bucket);
void sim_truth_end(void);
struct sim_moment sim_truth_now(void);
/* The moment as long ago as a node may believe what it remembers. */
struct sim_moment sim_truth_stale(struct sim_moment moment);

/* Was the key there, or not there, at any moment since? */
bool sim_truth_was_there(const char *key, struct sim_moment since);
bool sim_truth_was_absent(const char *key, struct sim_moment since);
bool sim_truth_is_there(const char *key);
/* Did the tag's object name this digest at any moment since? */
bool sim_truth_tag_was(const char *tag_key, const struct digest *digest, struct sim_moment since);
/* Did it name anything but that? */
bool sim_truth_tag_was_not(const char *tag_key, const struct digest *digest, struct sim_moment since);
/* Was a manifest that the tag named at some moment since not there at another? */
bool sim_truth_tag_dangled(const struct repo_name *repo, const char *tag_key, struct sim_moment since);
/* Was it ever changed by a request that its caller had given up? Nobody can know then what it holds. */
bool sim_truth_was_late(const char *key);
/* Are the blob's bytes in the bucket, whole? */
bool sim_truth_blob_is_whole(const struct digest *digest);

/*
 * Somebody asks for the removal of a key, or of a manifest with all tags that point at it: from now on until it is
 * withdrawn.
 */
void sim_truth_permit(const char *key);
void sim_truth_withdraw(const char *key);
/* Was its removal ever asked for? */
bool sim_truth_was_permitted(const char *key);

#endif

/*
 * Manifests: exact bytes with their media type, found by digest or tag.
 */
#ifndef ORLOP_REGISTRY_MANIFEST_H
#define ORLOP_REGISTRY_MANIFEST_H

#include "registry/registry.h"

#include <stdatomic.h>

#define MEDIA_TYPE_CHARS_MAX 255

/* Immutable and shared: taken by manifest_find*, given back with manifest_unref. */
struct manifest {
    atomic_uint refs;
    uint64_t read_ms; /* monotonic; when it was read from the store or put there */
    struct digest digest;
    char media_type[MEDIA_TYPE_CHARS_MAX + 1];
    size_t len;
    char bytes[]; /* followed by a NUL */
};

void manifest_ref(struct manifest *manifest);
void manifest_unref(struct manifest *manifest); /* NULL is fine */

/* From memory only; NULL when the store must be asked (which says nothing about existence). */
struct manifest *manifest_find_cached(struct registry *registry, const struct repo_name *repo,
                                      const struct reference *reference);

/* Spec: end-3. ERR_MANIFEST_UNKNOWN (also for unknown repositories). */
must_check enum err_code manifest_find(struct registry *registry, const struct repo_name *repo,
                                       const struct reference *reference, struct manifest **out, struct err *err);

/* A condition on what a tag points at now (If-Match, If-None-Match). */
struct tag_condition {
    enum { TAG_ANY, TAG_IS, TAG_EXISTS, TAG_ABSENT, TAG_IS_NOT } kind;
    struct digest digest; /* for TAG_IS and TAG_IS_NOT */
};

struct manifest_put {
    const struct repo_name *repo;
    const struct digest *digest; /* the digest in the URL; NULL when pushed by tag: then sha256 */
    const struct tag_name *tags; /* tags to point at it: the one in the URL, or those of ?tag= */
    size_t tag_count;
    struct str media_type; /* Content-Type without parameters; empty: taken from the body */
    struct str bytes;
    struct tag_condition condition; /* on tags[0]; TAG_ANY for none */
};

struct manifest_put_result {
    struct digest digest;
    bool has_subject;
    struct digest subject;
};

/*
 * Spec: end-7. Validate, store, index (referrers), tag. Errors: ERR_MANIFEST_INVALID, ERR_MANIFEST_TOO_BIG,
 * ERR_DIGEST_INVALID, ERR_MANIFEST_BLOB_UNKNOWN (message names the first missing digest), ERR_TAG_MISMATCH.
 * Nothing is written unless the condition holds. Then the durable steps: manifest, catalog entry and the tags' reverse
 * entries, in any order or at once; referrer descriptor; tags. A crash between leaves a valid registry and a retry
 * completes it.
 */
must_check enum err_code manifest_put(struct registry *registry, const struct manifest_put *put,
                                      struct manifest_put_result *out, struct err *err);

/* Spec: end-9 by digest: its tags go first, then its descriptor, then it. ERR_MANIFEST_UNKNOWN,
 * ERR_METHOD_UNSUPPORTED. */
must_check enum err_code manifest_delete(struct registry *registry, const struct repo_name *repo,
                                         const struct digest *digest, struct err *err);

/* Spec: end-9 by tag: the manifest stays. ERR_MANIFEST_UNKNOWN, ERR_TAG_MISMATCH, ERR_METHOD_UNSUPPORTED. */
must_check enum err_code tag_delete(struct registry *registry, const struct repo_name *repo, const struct tag_name *tag,
                                    const struct tag_condition *condition, struct err *err);

#endif

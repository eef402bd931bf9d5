/*
 * Shared by the registry's files.
 *
 * Locks, in the order in which they may be taken:
 *   1. a session's mutex (upload.c)
 *   2. one digest stripe: a blob's bytes against its references; a manifest against its deletion
 *   3. tag stripes: a tag's value in the store against what the cache says; the stripes of one push's tags in order
 *   4. the sessions' table; a cache shard (leaves: nothing is called under them)
 * Otherwise never two of the same kind at once.
 *
 * With an exclusive store the cache is authoritative for tags and references: a cold read and every change happen
 * under the stripe's lock, so a reader cannot put back what a writer just replaced.
 */
#ifndef ORLOP_REGISTRY_REGISTRY_PRIV_H
#define ORLOP_REGISTRY_REGISTRY_PRIV_H

#include "registry/cache.h"
#include "registry/keys.h"
#include "registry/manifest.h"
#include "registry/registry.h"

#include "registry/blob.h"

#include <pthread.h>
#include <stdatomic.h>

#define STRIPE_COUNT 256
/* Where other nodes write too, references and manifests in memory are believed this long; tags never. */
#define STALE_MS_MAX 30000
#define SMALL_OBJECT_BYTES_MAX 4096 /* tags and references */
#define BIG_JSON_BYTES (256 * 1024) /* JSON trees of bigger texts are built one at a time */
#define REFERRER_DESCRIPTOR_BYTES_MAX (REGISTRY_MANIFEST_BYTES_MAX - 1024) /* so that one alone is a page */
#define REFERRERS_CACHE_SHARE 4 /* one in so many of the cache's bytes is for referrers' descriptors */

struct sessions;

struct registry {
    struct store *store;
    struct cache *cache;
    struct cache *referrers;   /* descriptors: a cache of their own, so that a long list drives nothing else out */
    struct sessions *sessions; /* uploads being appended to; upload.c */
    _Atomic uint64_t upload_idle_ms_max;
    _Atomic bool sparse_indexes, check_references, deletes;
    _Atomic(enum blob_redirect) redirect;
    _Atomic uint32_t redirect_expires_s;
    pthread_mutex_t digest_locks[STRIPE_COUNT];
    pthread_mutex_t tag_locks[STRIPE_COUNT];
    pthread_mutex_t big_json_lock; /* one big JSON tree in memory at a time */
};

/* A lock held until the end of the scope. */
static inline void cleanup_unlock(pthread_mutex_t **mutex)
{
    if (*mutex)
        pthread_mutex_unlock(*mutex);
}

static inline pthread_mutex_t *lock_mutex(pthread_mutex_t *mutex)
{
    pthread_mutex_lock(mutex);
    return mutex;
}

#define auto_unlock __attribute__((unused)) cleanup(cleanup_unlock) pthread_mutex_t *

pthread_mutex_t *registry_digest_lock(struct registry *registry, const struct digest *digest);
pthread_mutex_t *registry_tag_lock(struct registry *registry, const struct repo_name *repo, const struct tag_name *tag);

/* ---- cache keys: a kind, then a digest's raw bytes or a tag, then the repository ---- */

struct cache_key {
    char bytes[CACHE_KEY_BYTES_MAX];
    size_t len;
};

struct cache_key cache_key_digest(char kind, const struct repo_name *repo, const struct digest *digest);
struct cache_key cache_key_tag(const struct repo_name *repo, const struct tag_name *tag);
static inline struct str cache_key_str(const struct cache_key *key)
{
    return (struct str){key->bytes, key->len};
}

/* May what the cache says of tags and references be trusted? */
static inline bool registry_is_exclusive(const struct registry *registry)
{
    return store_caps(registry->store)->exclusive;
}

/* May something read from the store then still be believed? */
static inline bool registry_is_fresh(const struct registry *registry, uint64_t read_ms)
{
    return registry_is_exclusive(registry) || clock_monotonic_ms() - read_ms < STALE_MS_MAX;
}

/* Cold reads take the lock only where the cache is the truth: elsewhere they would wait for each other in vain. */
static inline pthread_mutex_t *lock_if_exclusive(const struct registry *registry, pthread_mutex_t *mutex)
{
    return registry_is_exclusive(registry) ? lock_mutex(mutex) : NULL;
}

/* Held while a JSON text of that length is parsed and its tree is in memory; taken before all others. */
static inline pthread_mutex_t *lock_if_big(struct registry *registry, size_t json_bytes)
{
    return json_bytes > BIG_JSON_BYTES ? lock_mutex(&registry->big_json_lock) : NULL;
}

/* ERR_METHOD_UNSUPPORTED when deletes are off. */
enum err_code registry_allow_delete(struct registry *registry, struct err *err);

/* ---- blob.c ---- */

/* Say that repo has this blob. The digest's lock is held. */
enum err_code blob_link_locked(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                               const struct store_blob_info *info, struct err *err);
/* Read a reference's text. false: it is damaged. */
bool blob_info_decode(struct str text, struct store_blob_info *out);

/* ---- tag.c ---- */

/* What the tag points at. ERR_MANIFEST_UNKNOWN. */
enum err_code tag_find(struct registry *registry, const struct repo_name *repo, const struct tag_name *tag,
                       struct digest *out, struct err *err);
bool tag_find_cached(struct registry *registry, const struct repo_name *repo, const struct tag_name *tag,
                     struct digest *out);

/*
 * The tags of one push: tags_lock, then tag_index for each, then tag_move for each once the manifest is stored, and
 * tags_unlock in any case. The digest's lock is held around them. tag_index and tag_move may run on other threads.
 */
struct tag_moves {
    struct registry *registry;
    const struct manifest_put *put;
    const struct digest *digest; /* of the manifest */
    bool is_locked[STRIPE_COUNT];
    struct tag_move {
        bool existed, is_needless; /* points there already, and nobody else writes */
        struct digest before;
    } * items; /* put->tag_count */
};

/* Lock the tags and look at what they are, as far as that matters. ERR_TAG_MISMATCH: the condition does not hold. */
enum err_code tags_lock(struct tag_moves *moves, struct registry *registry, const struct manifest_put *put,
                        const struct digest *digest, struct err *err);
void tags_unlock(struct tag_moves *moves);
/* Write the reverse entry. */
enum err_code tag_index(struct tag_moves *moves, size_t index, struct err *err);
/* Write the tag, whose manifest and reverse entry are stored. */
enum err_code tag_move(struct tag_moves *moves, size_t index, const struct manifest *manifest, struct err *err);

/* Remove every tag that points at digest, whose lock is held. */
enum err_code tag_delete_all_of(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                                struct err *err);
/* The digest in a tag object's bytes. ERR_CORRUPT. */
enum err_code tag_decode(struct str bytes, struct digest *out, struct err *err);

/* ---- manifest.c ---- */

/* Read a manifest from the store, past the cache. ERR_NOT_FOUND; ERR_CORRUPT when its bytes are not its digest's. */
enum err_code manifest_load(struct store *store, const struct repo_name *repo, const struct digest *digest,
                            struct manifest **out, struct err *err);

/* ---- referrers_load.c ---- */

/* Remember a descriptor that was just written: the next list of its subject need not fetch it. */
void referrer_pushed(struct registry *registry, const struct repo_name *repo, const struct digest *subject,
                     const struct digest *digest, struct str descriptor, struct str artifact_type);

/* ---- upload.c ---- */

struct sessions *sessions_new(void);
void sessions_free(struct sessions *sessions);

#endif

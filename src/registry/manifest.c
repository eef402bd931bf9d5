/*
 * Manifests. A manifest's object is one line that keeps its media type, then its exact bytes:
 *
 *     orlop-manifest application/vnd.oci.image.manifest.v1+json\n{"schemaVersion":2, …
 *
 * Steps that change a manifest's existence happen under its digest's lock; the references it needs are checked
 * before, because those checks may take other digests' locks.
 */
#include "registry/manifest.h"

#include "base/parallel.h"
#include "digest/hash.h"
#include "registry/blob.h"
#include "registry/manifest_doc.h"
#include "registry/registry_priv.h"

#include <assert.h>

#define ENVELOPE "orlop-manifest "
#define FIND_TRIES_MAX 4      /* a tag may move to a new manifest while its old one is deleted */
#define REFERENCES_AT_ONCE 64 /* 127 layers, as many as clients make, are two rounds */

void manifest_ref(struct manifest *manifest)
{
    atomic_fetch_add_explicit(&manifest->refs, 1, memory_order_relaxed);
}

void manifest_unref(struct manifest *manifest)
{
    if (manifest && atomic_fetch_sub_explicit(&manifest->refs, 1, memory_order_acq_rel) == 1)
        free(manifest);
}

static void cleanup_manifest(struct manifest **manifest)
{
    manifest_unref(*manifest);
}

#define auto_manifest cleanup(cleanup_manifest) struct manifest *

static struct manifest *manifest_new(const struct digest *digest, struct str media_type, struct str bytes)
{
    struct manifest *manifest = malloc(sizeof(*manifest) + bytes.len + 1);
    if (!manifest)
        return NULL;
    atomic_init(&manifest->refs, 1);
    manifest->read_ms = clock_monotonic_ms();
    manifest->digest = *digest;
    manifest->len = bytes.len;
    memcpy(manifest->media_type, media_type.ptr, media_type.len);
    manifest->media_type[media_type.len] = '\0';
    memcpy(manifest->bytes, bytes.ptr, bytes.len);
    manifest->bytes[bytes.len] = '\0';
    return manifest;
}

static void bytes_digest(struct str bytes, enum digest_algorithm algorithm, struct digest *out)
{
    struct hash hash;
    hash_init(&hash, algorithm);
    hash_update(&hash, bytes.ptr, bytes.len);
    hash_digest(&hash, out);
}

static enum err_code manifest_unknown(struct err *err, const struct digest *digest)
{
    char text[DIGEST_TEXT_BYTES_MAX];
    digest_format(digest, text);
    return err_set(err, ERR_MANIFEST_UNKNOWN, "this repository has no manifest %s", text);
}

/* ---- find ---- */

enum err_code manifest_load(struct store *store, const struct repo_name *repo, const struct digest *digest,
                            struct manifest **out, struct err *err)
{
    char key[KEY_BYTES];
    auto_buf object = BUF_INIT(STORE_OBJECT_BYTES_MAX);
    key_manifest(repo, digest, key);
    if (store_get(store, key, &object, err) != ERR_OK)
        return err->code;
    struct str text = buf_str(&object), envelope = STR(ENVELOPE);
    const char *newline = memchr(text.ptr, '\n', text.len);
    size_t line_len = newline ? (size_t) (newline - text.ptr) : 0;
    if (!str_starts(text, envelope) || line_len < envelope.len || line_len - envelope.len > MEDIA_TYPE_CHARS_MAX)
        return err_set(err, ERR_CORRUPT, "%s has no media type line", key);
    struct str media_type = {text.ptr + envelope.len, line_len - envelope.len};
    struct str bytes = {newline + 1, text.len - line_len - 1};
    struct digest actual;
    bytes_digest(bytes, digest->algorithm, &actual);
    if (!digest_equal(&actual, digest))
        return err_set(err, ERR_CORRUPT, "%s has bytes of another digest", key);
    *out = manifest_new(digest, media_type, bytes);
    return *out ? ERR_OK : err_set(err, ERR_NO_MEMORY, "out of memory");
}

static void manifest_remember(struct registry *registry, const struct repo_name *repo, struct manifest *manifest)
{
    struct cache_key key = cache_key_digest('m', repo, &manifest->digest);
    cache_put(registry->cache, cache_key_str(&key), manifest, sizeof(*manifest) + manifest->len);
}

static struct manifest *digest_find_cached(struct registry *registry, const struct repo_name *repo,
                                           const struct digest *digest)
{
    struct cache_key key = cache_key_digest('m', repo, digest);
    struct manifest *manifest = cache_get(registry->cache, cache_key_str(&key));
    if (!manifest || registry_is_fresh(registry, manifest->read_ms))
        return manifest;
    manifest_unref(manifest);
    return NULL;
}

struct manifest *manifest_find_cached(struct registry *registry, const struct repo_name *repo,
                                      const struct reference *reference)
{
    struct digest digest = reference->digest;
    if (!reference->is_digest && !tag_find_cached(registry, repo, &reference->tag, &digest))
        return NULL;
    return digest_find_cached(registry, repo, &digest);
}

/* The digest's lock is held. ERR_NOT_FOUND. */
static enum err_code digest_find_locked(struct registry *registry, const struct repo_name *repo,
                                        const struct digest *digest, struct manifest **out, struct err *err)
{
    *out = digest_find_cached(registry, repo, digest);
    if (*out)
        return ERR_OK;
    if (manifest_load(registry->store, repo, digest, out, err) != ERR_OK)
        return err->code;
    manifest_remember(registry, repo, *out);
    return ERR_OK;
}

static enum err_code digest_find(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                                 struct manifest **out, struct err *err)
{
    *out = digest_find_cached(registry, repo, digest);
    if (*out)
        return ERR_OK;
    auto_unlock lock = lock_if_exclusive(registry, registry_digest_lock(registry, digest));
    enum err_code code = digest_find_locked(registry, repo, digest, out, err);
    return code == ERR_NOT_FOUND ? manifest_unknown(err, digest) : code;
}

enum err_code manifest_find(struct registry *registry, const struct repo_name *repo, const struct reference *reference,
                            struct manifest **out, struct err *err)
{
    if (reference->is_digest)
        return digest_find(registry, repo, &reference->digest, out, err);
    enum err_code code = ERR_OK;
    for (int tries = 0; tries < FIND_TRIES_MAX; tries++) {
        struct digest digest;
        if (tag_find(registry, repo, &reference->tag, &digest, err) != ERR_OK)
            return err->code;
        code = digest_find(registry, repo, &digest, out, err);
        if (code != ERR_MANIFEST_UNKNOWN)
            return code;
    }
    return code;
}

/* ---- put ---- */

/* One push on its way. */
struct manifest_change {
    struct registry *registry;
    const struct manifest_put *put;
    const struct manifest_doc *doc;
    struct manifest *manifest;
    struct tag_moves tags;
};

static enum err_code reference_check(void *arg, size_t index, struct err *err)
{
    const struct manifest_change *change = arg;
    struct registry *registry = change->registry;
    const struct repo_name *repo = change->put->repo;
    const struct manifest_reference *reference = &change->doc->references[index];
    struct store_blob_info info;
    char text[DIGEST_TEXT_BYTES_MAX];
    if (reference->is_optional || (reference->is_manifest && registry->sparse_indexes))
        return ERR_OK;
    enum err_code code;
    if (reference->is_manifest) {
        auto_manifest child = NULL;
        code = digest_find(registry, repo, &reference->digest, &child, err);
    } else {
        code = blob_stat(registry, repo, &reference->digest, &info, err);
    }
    if (code != ERR_BLOB_UNKNOWN && code != ERR_MANIFEST_UNKNOWN)
        return code;
    digest_format(&reference->digest, text);
    return err_set(err, ERR_MANIFEST_BLOB_UNKNOWN,
                   "the manifest refers to %s %s, which this repository lacks: push it first",
                   reference->is_manifest ? "manifest" : "blob", text);
}

static enum err_code references_check(struct manifest_change *change, struct err *err)
{
    if (!change->registry->check_references)
        return ERR_OK;
    unsigned width = store_caps(change->registry->store)->parallel > 1 ? REFERENCES_AT_ONCE : 1;
    return parallel_try(change->doc->reference_count, width, reference_check, change, err);
}

/* The repository appears in the catalog from its first manifest on. */
static enum err_code catalog_add(struct registry *registry, const struct repo_name *repo, struct err *err)
{
    char key[KEY_BYTES], known;
    key_catalog(repo, key);
    struct str cached = str_from(key);
    if (cache_get_bytes(registry->cache, cached, &known, sizeof(known)))
        return ERR_OK;
    enum err_code code = store_put(registry->store, key, STR(""), STORE_PUT_NEW, err);
    if (code != ERR_OK && code != ERR_EXISTS)
        return code;
    cache_put_bytes(registry->cache, cached, "", 1);
    return ERR_OK;
}

/* Write the manifest's object unless it is there with this media type. The digest's lock is held. */
static enum err_code manifest_write_locked(struct registry *registry, const struct repo_name *repo,
                                           const struct manifest *manifest, struct err *err)
{
    char key[KEY_BYTES];
    auto_manifest known = digest_find_cached(registry, repo, &manifest->digest);
    if (known && registry_is_exclusive(registry) && strcmp(known->media_type, manifest->media_type) == 0)
        return ERR_OK;
    auto_buf object = BUF_INIT(STORE_OBJECT_BYTES_MAX);
    if (!buf_appendf(&object, ENVELOPE "%s\n", manifest->media_type) ||
        !buf_append(&object, manifest->bytes, manifest->len))
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    key_manifest(repo, &manifest->digest, key);
    return store_put(registry->store, key, buf_str(&object), STORE_PUT_ANY, err);
}

/*
 * What comes before anything leads to the manifest: itself, the catalog entry, its tags' reverse entries. None needs
 * another, so where each is a request they go out together. The digest's lock is held.
 */
static enum err_code manifest_step(void *arg, size_t index, struct err *err)
{
    struct manifest_change *change = arg;
    if (index == 0)
        return manifest_write_locked(change->registry, change->put->repo, change->manifest, err);
    if (index == 1)
        return catalog_add(change->registry, change->put->repo, err);
    return tag_index(&change->tags, index - 2, err);
}

static enum err_code descriptor_write(struct manifest_change *change, struct str descriptor, struct err *err)
{
    char key[KEY_BYTES];
    if (!change->doc->has_subject)
        return ERR_OK;
    key_referrer(change->put->repo, &change->doc->subject, &change->manifest->digest, key);
    enum err_code code = store_put(change->registry->store, key, descriptor, STORE_PUT_NEW, err);
    if (code == ERR_OK)
        referrer_pushed(change->registry, change->put->repo, &change->doc->subject, &change->manifest->digest,
                        descriptor, change->doc->artifact_type);
    return code == ERR_EXISTS ? ERR_OK : code;
}

static enum err_code tag_step(void *arg, size_t index, struct err *err)
{
    struct manifest_change *change = arg;
    return tag_move(&change->tags, index, change->manifest, err);
}

/* The durable steps, in the order that manifest.h promises. */
static enum err_code manifest_store(struct manifest_change *change, struct str descriptor, struct err *err)
{
    struct registry *registry = change->registry;
    const struct manifest_put *put = change->put;
    unsigned width = store_caps(registry->store)->parallel;
    auto_unlock lock = lock_mutex(registry_digest_lock(registry, &change->manifest->digest));
    enum err_code code = tags_lock(&change->tags, registry, put, &change->manifest->digest, err);
    if (code == ERR_OK)
        code = parallel_try(2 + put->tag_count, width, manifest_step, change, err);
    if (code == ERR_OK)
        code = descriptor_write(change, descriptor, err);
    if (code == ERR_OK) {
        manifest_remember(registry, put->repo, change->manifest);
        code = parallel_try(put->tag_count, width, tag_step, change, err);
    }
    tags_unlock(&change->tags);
    return code;
}

/* Do the bytes hash to what the URL says? */
static enum err_code put_digest(const struct manifest_put *put, struct digest *out, struct err *err)
{
    char expected[DIGEST_TEXT_BYTES_MAX], actual[DIGEST_TEXT_BYTES_MAX];
    bytes_digest(put->bytes, put->digest ? put->digest->algorithm : DIGEST_SHA256, out);
    if (!put->digest || digest_equal(out, put->digest))
        return ERR_OK;
    digest_format(put->digest, expected);
    digest_format(out, actual);
    return err_set(err, ERR_DIGEST_INVALID, "the manifest's bytes have digest %.80s, not %.80s", actual, expected);
}

static void cleanup_doc(struct manifest_doc *doc)
{
    manifest_doc_free(doc);
}

enum err_code manifest_put(struct registry *registry, const struct manifest_put *put, struct manifest_put_result *out,
                           struct err *err)
{
    struct digest digest;
    if (put->bytes.len > REGISTRY_MANIFEST_BYTES_MAX)
        return err_set(err, ERR_MANIFEST_TOO_BIG, "the manifest has more than %d bytes", REGISTRY_MANIFEST_BYTES_MAX);
    if (put_digest(put, &digest, err) != ERR_OK)
        return err->code;

    auto_unlock big_lock = lock_if_big(registry, put->bytes.len);
    struct manifest_doc doc cleanup(cleanup_doc) = {0};
    struct manifest_change change = {.registry = registry, .put = put, .doc = &doc};
    if (manifest_doc_parse(put->bytes, put->media_type, &doc, err) != ERR_OK ||
        references_check(&change, err) != ERR_OK)
        return err->code;
    auto_manifest manifest = manifest_new(&digest, str_from(doc.media_type), put->bytes);
    if (!manifest)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    auto_buf descriptor = BUF_INIT(REFERRER_DESCRIPTOR_BYTES_MAX);
    if (doc.has_subject && !manifest_doc_descriptor(&doc, &digest, put->bytes.len, &descriptor))
        return err_set(err, ERR_MANIFEST_INVALID, "the manifest's annotations are too big for its referrer descriptor");
    change.manifest = manifest;
    if (manifest_store(&change, buf_str(&descriptor), err) != ERR_OK)
        return err->code;
    *out = (struct manifest_put_result){.digest = digest, .has_subject = doc.has_subject, .subject = doc.subject};
    return ERR_OK;
}

/* ---- delete ---- */

struct listed {
    const struct digest *digest;
    char key[KEY_BYTES]; /* "": not found */
};

static bool find_listed(void *arg, const char *key, uint64_t size_bytes)
{
    struct listed *listed = arg;
    struct key_parts parts;
    (void) size_bytes;
    key_parse(key, &parts);
    if (parts.kind == KEY_REFERRER && digest_equal(&parts.referrer, listed->digest))
        (void) snprintf(listed->key, sizeof(listed->key), "%s", key);
    return listed->key[0] == '\0';
}

/* A damaged manifest no longer tells its subject: look for its descriptor among all of the repository's. */
static enum err_code descriptor_delete_unread(struct registry *registry, const struct repo_name *repo,
                                              const struct digest *digest, struct err *err)
{
    char prefix[KEY_BYTES];
    struct listed listed = {.digest = digest};
    (void) snprintf(prefix, sizeof(prefix), "repos/%s/_referrers/", repo->text);
    if (store_walk(registry->store, prefix, find_listed, &listed, err) != ERR_OK)
        return err->code;
    return listed.key[0] ? store_delete(registry->store, (const char *const[]){listed.key}, 1, err) : ERR_OK;
}

static enum err_code descriptor_delete(struct registry *registry, const struct repo_name *repo,
                                       const struct manifest *manifest, struct err *err)
{
    char key[KEY_BYTES];
    struct manifest_doc doc cleanup(cleanup_doc) = {0};
    if (manifest_doc_parse((struct str){manifest->bytes, manifest->len}, str_from(manifest->media_type), &doc, err) !=
        ERR_OK)
        return err_become(err, ERR_CORRUPT, "the stored manifest cannot be read");
    if (!doc.has_subject)
        return ERR_OK;
    key_referrer(repo, &doc.subject, &manifest->digest, key);
    return store_delete(registry->store, (const char *const[]){key}, 1, err);
}

enum err_code manifest_delete(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                              struct err *err)
{
    char key[KEY_BYTES];
    auto_manifest manifest = NULL;
    if (registry_allow_delete(registry, err) != ERR_OK)
        return err->code;
    auto_unlock lock = lock_mutex(registry_digest_lock(registry, digest));
    enum err_code code = digest_find_locked(registry, repo, digest, &manifest, err);
    if (code == ERR_NOT_FOUND)
        return manifest_unknown(err, digest);
    if (code != ERR_OK && code != ERR_CORRUPT) /* a damaged one may go */
        return code;
    if (tag_delete_all_of(registry, repo, digest, err) != ERR_OK ||
        (manifest ? descriptor_delete(registry, repo, manifest, err)
                  : descriptor_delete_unread(registry, repo, digest, err)) != ERR_OK)
        return err->code;
    struct cache_key cached = cache_key_digest('m', repo, digest);
    cache_remove(registry->cache, cache_key_str(&cached));
    key_manifest(repo, digest, key);
    return store_delete(registry->store, (const char *const[]){key}, 1, err);
}

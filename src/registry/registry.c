/* The registry's instance: its settings, its locks, its cache. */
#include "registry/referrers.h"
#include "registry/registry_priv.h"

static void manifest_ref_value(void *value)
{
    manifest_ref(value);
}

static void manifest_unref_value(void *value)
{
    manifest_unref(value);
}

static void referrer_ref_value(void *value)
{
    referrer_ref(value);
}

static void referrer_unref_value(void *value)
{
    referrer_unref(value);
}

static const struct cache_value_ops referrer_values = {referrer_ref_value, referrer_unref_value};
static const struct cache_value_ops manifest_values = {manifest_ref_value, manifest_unref_value};

enum err_code registry_new(struct store *store, const struct registry_settings *settings, struct registry **out,
                           struct err *err)
{
    struct registry *registry = calloc(1, sizeof(*registry));
    if (!registry)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    registry->store = store;
    for (size_t i = 0; i < STRIPE_COUNT; i++) {
        pthread_mutex_init(&registry->digest_locks[i], NULL);
        pthread_mutex_init(&registry->tag_locks[i], NULL);
    }
    pthread_mutex_init(&registry->big_json_lock, NULL);
    registry->cache = cache_new((size_t) settings->cache_bytes_max, &manifest_values);
    registry->referrers = cache_new((size_t) settings->cache_bytes_max, &referrer_values);
    registry->sessions = sessions_new();
    if (!registry->cache || !registry->referrers || !registry->sessions) {
        registry_free(registry);
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    }
    registry_update_settings(registry, settings);
    *out = registry;
    return ERR_OK;
}

void registry_free(struct registry *registry)
{
    if (!registry)
        return;
    cache_free(registry->cache);
    cache_free(registry->referrers);
    sessions_free(registry->sessions);
    for (size_t i = 0; i < STRIPE_COUNT; i++) {
        pthread_mutex_destroy(&registry->digest_locks[i]);
        pthread_mutex_destroy(&registry->tag_locks[i]);
    }
    pthread_mutex_destroy(&registry->big_json_lock);
    free(registry);
}

void registry_update_settings(struct registry *registry, const struct registry_settings *settings)
{
    registry->upload_idle_ms_max = settings->upload_idle_ms_max;
    registry->sparse_indexes = settings->sparse_indexes;
    registry->check_references = settings->check_references;
    registry->deletes = settings->deletes;
    registry->redirect = settings->redirect;
    registry->redirect_expires_s = settings->redirect_expires_s;
    size_t referrers_bytes_max = (size_t) settings->cache_bytes_max / REFERRERS_CACHE_SHARE;
    cache_resize(registry->cache, (size_t) settings->cache_bytes_max - referrers_bytes_max);
    cache_resize(registry->referrers, referrers_bytes_max);
}

struct store *registry_store(struct registry *registry)
{
    return registry->store;
}

enum err_code registry_ready(struct registry *registry, struct err *err)
{
    return store_probe(registry->store, err);
}

enum err_code registry_allow_delete(struct registry *registry, struct err *err)
{
    if (!registry->deletes)
        return err_set(err, ERR_METHOD_UNSUPPORTED, "deletes are switched off on this registry");
    return ERR_OK;
}

pthread_mutex_t *registry_digest_lock(struct registry *registry, const struct digest *digest)
{
    /* Digests are evenly spread already. */
    return &registry->digest_locks[digest->raw[0] % STRIPE_COUNT];
}

pthread_mutex_t *registry_tag_lock(struct registry *registry, const struct repo_name *repo, const struct tag_name *tag)
{
    struct cache_key key = cache_key_tag(repo, tag);
    return &registry->tag_locks[cache_hash(registry->cache, cache_key_str(&key)) % STRIPE_COUNT];
}

static void key_add(struct cache_key *key, const void *bytes, size_t len)
{
    memcpy(key->bytes + key->len, bytes, len);
    key->len += len;
}

struct cache_key cache_key_digest(char kind, const struct repo_name *repo, const struct digest *digest)
{
    struct cache_key key;
    key.bytes[0] = kind;
    key.bytes[1] = (char) digest->algorithm;
    key.len = 2;
    key_add(&key, digest->raw, digest_raw_bytes(digest->algorithm));
    key_add(&key, repo->text, strlen(repo->text));
    return key;
}

struct cache_key cache_key_tag(const struct repo_name *repo, const struct tag_name *tag)
{
    struct cache_key key;
    key.bytes[0] = 't';
    key.len = 1;
    key_add(&key, tag->text, strlen(tag->text) + 1); /* the NUL keeps tag and repository apart */
    key_add(&key, repo->text, strlen(repo->text));
    return key;
}

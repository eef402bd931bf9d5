/* Descriptors: in this process's memory, and fetched from where they are. */
#include "base/json.h"
#include "base/log.h"
#include "base/parallel.h"
#include "registry/referrers.h"

struct referrer *referrer_new(struct str descriptor, struct str artifact_type)
{
    struct referrer *referrer = malloc(sizeof(*referrer) + descriptor.len + artifact_type.len);
    if (!referrer)
        return NULL;
    atomic_init(&referrer->refs, 1);
    referrer->len = descriptor.len;
    referrer->type_len = artifact_type.len;
    memcpy(referrer->bytes, descriptor.ptr, descriptor.len);
    if (artifact_type.len)
        memcpy(referrer->bytes + descriptor.len, artifact_type.ptr, artifact_type.len);
    return referrer;
}

void referrer_ref(struct referrer *referrer)
{
    atomic_fetch_add_explicit(&referrer->refs, 1, memory_order_relaxed);
}

void referrer_unref(struct referrer *referrer)
{
    if (referrer && atomic_fetch_sub_explicit(&referrer->refs, 1, memory_order_acq_rel) == 1)
        free(referrer);
}

/* ---- in memory ---- */

static struct cache_key cache_key_referrer(const struct referrers_query *query, const struct digest *digest)
{
    struct cache_key key = cache_key_digest('r', query->repo, &query->subject);
    size_t len = digest_raw_bytes(digest->algorithm); /* different lengths: no two keys are the same */
    memcpy(key.bytes + key.len, digest->raw, len);
    key.len += len;
    return key;
}

struct referrer *referrer_find_cached(struct registry *registry, const struct referrers_query *query,
                                      const struct digest *digest)
{
    struct cache_key key = cache_key_referrer(query, digest);
    return cache_get(registry->referrers, cache_key_str(&key));
}

void referrer_remember(struct registry *registry, const struct referrers_query *query, const struct digest *digest,
                       struct referrer *referrer)
{
    struct cache_key key = cache_key_referrer(query, digest);
    cache_put(registry->referrers, cache_key_str(&key), referrer,
              sizeof(*referrer) + referrer->len + referrer->type_len);
}

void referrer_pushed(struct registry *registry, const struct repo_name *repo, const struct digest *subject,
                     const struct digest *digest, struct str descriptor, struct str artifact_type)
{
    struct referrers_query query = {.repo = repo, .subject = *subject};
    struct referrer *referrer = referrer_new(descriptor, artifact_type);
    if (referrer)
        referrer_remember(registry, &query, digest, referrer);
    referrer_unref(referrer);
}

/* ---- digests ---- */

int digest_order(const struct digest *a, const struct digest *b)
{
    if (a->algorithm != b->algorithm)
        return a->algorithm < b->algorithm ? -1 : 1;
    return memcmp(a->raw, b->raw, digest_raw_bytes(a->algorithm));
}

bool digest_list_add(struct digest_list *list, const struct digest *digest)
{
    if (list->count == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 64;
        struct digest *items = realloc(list->items, cap * sizeof(*items));
        if (!items)
            return false;
        list->items = items;
        list->cap = cap;
    }
    list->items[list->count++] = *digest;
    return true;
}

void digest_list_free(struct digest_list *list)
{
    free(list->items);
    *list = (struct digest_list){0};
}

/* ---- from the store ---- */

struct fetch {
    struct registry *registry;
    const struct referrers_query *query;
    struct referrer_item *items;
    const size_t *wanted; /* indexes of items */
    size_t bytes_max;
    atomic_size_t bytes, begun, fetched;
    pthread_mutex_t mutex;
    struct err *err; /* of the first that failed */
    enum err_code code;
};

/* Read a descriptor's object. *out stays NULL when it is damaged. */
static enum err_code read_object(struct fetch *fetch, const struct digest *digest, struct referrer **out,
                                 struct err *err)
{
    char key[KEY_BYTES];
    auto_buf bytes = BUF_INIT(REFERRER_DESCRIPTOR_BYTES_MAX);
    key_referrer(fetch->query->repo, &fetch->query->subject, digest, key);
    enum err_code code = store_get(fetch->registry->store, key, &bytes, err);
    if (code != ERR_OK)
        return code == ERR_LIMIT ? ERR_OK : code;
    auto_unlock lock = lock_if_big(fetch->registry, bytes.len);
    auto_json root = NULL;
    struct err damage = ERR_INIT;
    struct str type = STR("");
    if (json_parse(buf_str(&bytes), &root, &damage) != ERR_OK || !json_is_map(root))
        return ERR_OK;
    (void) json_text(json_member(root, "artifactType"), &type);
    *out = referrer_new(buf_str(&bytes), type);
    return *out ? ERR_OK : err_set(err, ERR_NO_MEMORY, "out of memory");
}

static enum err_code fetch_item(struct fetch *fetch, struct referrer_item *item, struct err *err)
{
    if (item->is_folded)
        return referrer_from_manifest(fetch->registry, fetch->query, &item->digest, &item->referrer, err);
    enum err_code code = read_object(fetch, &item->digest, &item->referrer, err);
    if (code == ERR_OK && !item->referrer) { /* damaged on the disk: the manifest says the same */
        code = referrer_from_manifest(fetch->registry, fetch->query, &item->digest, &item->referrer, err);
        log_event(LOG_WARN, "a referrer's descriptor is damaged", LOG_TEXT("repository", fetch->query->repo->text));
    }
    if (code != ERR_OK)
        return code == ERR_NOT_FOUND ? ERR_OK : code; /* deleted since its key was listed */
    atomic_fetch_add(&fetch->fetched, 1);
    if (item->referrer)
        referrer_remember(fetch->registry, fetch->query, &item->digest, item->referrer);
    return ERR_OK;
}

static bool fetch_one(void *arg, size_t index)
{
    struct fetch *fetch = arg;
    struct referrer_item *item = &fetch->items[fetch->wanted[index]];
    struct err err = ERR_INIT;
    atomic_fetch_add(&fetch->begun, 1);
    enum err_code code = fetch_item(fetch, item, &err);
    if (code == ERR_OK) {
        size_t len = item->referrer ? item->referrer->len : 0;
        return atomic_fetch_add(&fetch->bytes, len) + len < fetch->bytes_max;
    }
    auto_unlock lock = lock_mutex(&fetch->mutex);
    if (fetch->code == ERR_OK)
        *fetch->err = err;
    fetch->code = fetch->err->code;
    return false;
}

enum err_code referrers_fetch(struct registry *registry, const struct referrers_query *query,
                              struct referrer_item *items, size_t count, size_t bytes_max, size_t *out_done,
                              size_t *fetched, struct err *err)
{
    auto_mem size_t *wanted = malloc((count + 1) * sizeof(*wanted));
    size_t wanted_count = 0;
    if (!wanted)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++) {
        if (!items[i].referrer)
            wanted[wanted_count++] = i;
    }
    struct fetch fetch = {.registry = registry,
                          .query = query,
                          .items = items,
                          .wanted = wanted,
                          .bytes_max = bytes_max,
                          .mutex = PTHREAD_MUTEX_INITIALIZER,
                          .err = err};
    unsigned width = store_caps(registry->store)->parallel;
    parallel_each(wanted_count, width < REFERRERS_REQUESTS_MAX ? width : REFERRERS_REQUESTS_MAX, fetch_one, &fetch);
    /* They are begun in order, and all that began are done. */
    *out_done = fetch.begun == wanted_count ? count : wanted[fetch.begun];
    *fetched += fetch.fetched;
    return fetch.code;
}

/*
 * Blobs in repositories. The bytes are shared; a reference object says which repository may read them. A blob's bytes
 * and its references change only under the digest's lock, so that the last reference's removal cannot race with a new
 * one (exclusive stores; where other nodes write too, collecting unreferenced bytes is gc's).
 */
#include "registry/blob.h"

#include "base/json.h"
#include "registry/registry_priv.h"

#define MOUNT_CANDIDATES_MAX 1000 /* repositories looked at for an anonymous mount */

static enum err_code blob_unknown(struct err *err, const struct digest *digest)
{
    char text[DIGEST_TEXT_BYTES_MAX];
    digest_format(digest, text);
    return err_set(err, ERR_BLOB_UNKNOWN, "this repository has no blob %s", text);
}

bool blob_info_decode(struct str text, struct store_blob_info *out)
{
    auto_json root = NULL;
    struct err err = ERR_INIT;
    struct str place;
    *out = (struct store_blob_info){0};
    if (json_parse(text, &root, &err) != ERR_OK || !json_u64(json_member(root, "size"), &out->size_bytes))
        return false;
    if (!json_member(root, "place"))
        return true;
    if (!json_text(json_member(root, "place"), &place) || place.len >= sizeof(out->place.text))
        return false;
    memcpy(out->place.text, place.ptr, place.len);
    return true;
}

/* Ask the store whether repo has the blob. ERR_NOT_FOUND. */
static enum err_code ref_read(struct store *store, const struct repo_name *repo, const struct digest *digest,
                              struct store_blob_info *out, struct err *err)
{
    char key[KEY_BYTES];
    auto_buf text = BUF_INIT(SMALL_OBJECT_BYTES_MAX);
    key_ref(digest, repo, key);
    if (store_get(store, key, &text, err) != ERR_OK)
        return err->code;
    return blob_info_decode(buf_str(&text), out) ? ERR_OK : err_set(err, ERR_CORRUPT, "%s is damaged", key);
}

/* A reference in memory; on a store with other writers it is believed for a while only. */
struct cached_ref {
    struct store_blob_info info;
    uint64_t read_ms;
};

bool blob_stat_cached(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                      struct store_blob_info *out)
{
    struct cached_ref cached;
    struct cache_key key = cache_key_digest('r', repo, digest);
    if (!cache_get_bytes(registry->cache, cache_key_str(&key), &cached, sizeof(cached)) ||
        !registry_is_fresh(registry, cached.read_ms))
        return false;
    *out = cached.info;
    return true;
}

static void ref_remember(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                         const struct store_blob_info *info)
{
    struct cached_ref cached = {.info = *info, .read_ms = clock_monotonic_ms()};
    struct cache_key key = cache_key_digest('r', repo, digest);
    cache_put_bytes(registry->cache, cache_key_str(&key), &cached, sizeof(cached));
}

/* The digest's lock is held where the store is exclusive. ERR_NOT_FOUND. */
static enum err_code ref_find_locked(struct registry *registry, const struct repo_name *repo,
                                     const struct digest *digest, struct store_blob_info *out, struct err *err)
{
    if (blob_stat_cached(registry, repo, digest, out))
        return ERR_OK;
    if (ref_read(registry->store, repo, digest, out, err) != ERR_OK)
        return err->code;
    ref_remember(registry, repo, digest, out);
    return ERR_OK;
}

enum err_code blob_stat(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                        struct store_blob_info *out, struct err *err)
{
    if (blob_stat_cached(registry, repo, digest, out))
        return ERR_OK;
    auto_unlock lock = lock_if_exclusive(registry, registry_digest_lock(registry, digest));
    enum err_code code = ref_find_locked(registry, repo, digest, out, err);
    return code == ERR_NOT_FOUND ? blob_unknown(err, digest) : code;
}

enum err_code blob_open(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                        struct store_blob *out, struct err *err)
{
    struct store_blob_info info;
    if (blob_stat(registry, repo, digest, &info, err) != ERR_OK)
        return err->code;
    enum err_code code = store_blob_open(registry->store, digest, &info, out, err);
    if (code == ERR_OK && out->size_bytes == info.size_bytes)
        return ERR_OK;
    if (code == ERR_OK) {
        store_blob_close(registry->store, out);
        return err_set(err, ERR_CORRUPT, "the blob has %llu bytes instead of %llu",
                       (unsigned long long) out->size_bytes, (unsigned long long) info.size_bytes);
    }
    if (code != ERR_NOT_FOUND)
        return code;
    /* Deleted since we looked, or damaged? */
    auto_unlock lock = lock_if_exclusive(registry, registry_digest_lock(registry, digest));
    struct err again = ERR_INIT;
    if (ref_read(registry->store, repo, digest, &info, &again) == ERR_NOT_FOUND)
        return blob_unknown(err, digest);
    return err_become(err, ERR_CORRUPT, "the blob's bytes are missing from the store");
}

enum err_code blob_url(struct registry *registry, const struct digest *digest, const struct store_blob_info *info,
                       struct buf *out, struct err *err)
{
    enum blob_redirect redirect = registry->redirect;
    if (redirect == BLOB_REDIRECT_NEVER ||
        (redirect == BLOB_REDIRECT_AUTO && !store_caps(registry->store)->has_public_urls))
        return err_set(err, ERR_INVALID, "redirects are not asked for");
    return store_blob_url(registry->store, digest, &info->place, registry->redirect_expires_s, out, err);
}

enum err_code blob_link_locked(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                               const struct store_blob_info *info, struct err *err)
{
    char key[KEY_BYTES], text[64 + STORE_PLACE_BYTES_MAX];
    struct store_blob_info known;
    if (registry_is_exclusive(registry) && blob_stat_cached(registry, repo, digest, &known))
        return ERR_OK;
    key_ref(digest, repo, key);
    int len = snprintf(text, sizeof(text), "{\"size\":%llu", (unsigned long long) info->size_bytes);
    if (info->place.text[0])
        len += snprintf(text + len, sizeof(text) - (size_t) len, ",\"place\":\"%s\"", info->place.text);
    (void) snprintf(text + len, sizeof(text) - (size_t) len, "}\n");
    if (store_put(registry->store, key, str_from(text), STORE_PUT_ANY, err) != ERR_OK)
        return err->code;
    ref_remember(registry, repo, digest, info);
    return ERR_OK;
}

enum err_code blob_delete(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                          struct err *err)
{
    char key[KEY_BYTES], prefix[KEY_BYTES];
    struct store_blob_info info;
    if (registry_allow_delete(registry, err) != ERR_OK)
        return err->code;
    auto_unlock lock = lock_mutex(registry_digest_lock(registry, digest));
    enum err_code code = ref_find_locked(registry, repo, digest, &info, err);
    if (code != ERR_OK && code != ERR_CORRUPT) /* a damaged reference may go */
        return code == ERR_NOT_FOUND ? blob_unknown(err, digest) : code;
    struct cache_key cached = cache_key_digest('r', repo, digest);
    cache_remove(registry->cache, cache_key_str(&cached));
    key_ref(digest, repo, key);
    if (store_delete(registry->store, (const char *const[]){key}, 1, err) != ERR_OK)
        return err->code;
    if (!registry_is_exclusive(registry))
        return ERR_OK;

    struct store_names others cleanup(store_names_free) = {0};
    key_refs_prefix(digest, prefix);
    if (store_list(registry->store, prefix, NULL, 0, &others, err) != ERR_OK)
        return err->code;
    return others.more ? ERR_OK : store_blob_delete(registry->store, digest, err);
}

/* A repository that has the blob and may be read, for a mount that names none. The digest's lock is held. */
static enum err_code mount_source_find(struct registry *registry, const struct digest *digest,
                                       blob_may_read_fn *may_read, void *arg, struct repo_name *out, struct err *err)
{
    char prefix[KEY_BYTES];
    struct store_names names cleanup(store_names_free) = {0};
    key_refs_prefix(digest, prefix);
    if (store_list(registry->store, prefix, NULL, MOUNT_CANDIDATES_MAX, &names, err) != ERR_OK)
        return err->code;
    for (size_t i = 0; i < names.count; i++) {
        if (repo_name_unescape(names.items[i], out) && may_read(arg, out))
            return ERR_OK;
    }
    return err_set(err, ERR_NOT_FOUND, "no repository to mount from");
}

enum err_code blob_mount(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                         const struct repo_name *from, blob_may_read_fn *may_read, void *arg, struct err *err)
{
    struct repo_name found;
    struct store_blob_info info = {0};
    auto_unlock lock = lock_mutex(registry_digest_lock(registry, digest));
    enum err_code code = ERR_OK;
    if (!from) {
        code = mount_source_find(registry, digest, may_read, arg, &found, err);
        from = &found;
    } else if (!may_read(arg, from)) {
        return blob_unknown(err, digest);
    }
    if (code == ERR_OK)
        code = ref_find_locked(registry, from, digest, &info, err);
    if (code == ERR_NOT_FOUND)
        return blob_unknown(err, digest);
    return code == ERR_OK ? blob_link_locked(registry, repo, digest, &info, err) : code;
}

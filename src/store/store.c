/* Dispatch to the driver, after asserting that keys are well-formed: a bad key is our bug, never a client's. */
#include "store/driver.h"

#include <assert.h>

/* No component that is empty or begins with '.', no leading slash; a prefix may end in one. */
static bool key_is_clean(const char *key, bool is_prefix)
{
    size_t len = strlen(key);
    if (len == 0)
        return is_prefix;
    if (len > STORE_KEY_BYTES_MAX || (is_prefix && key[len - 1] != '/'))
        return false;
    const char *part = key;
    for (;;) {
        size_t part_len = strcspn(part, "/");
        if (part_len == 0 || part[0] == '.')
            return false;
        part += part_len;
        if (*part == '\0')
            return true;
        part++;
        if (*part == '\0')
            return is_prefix;
    }
}

enum err_code store_get(struct store *store, const char *key, struct buf *out, struct err *err)
{
    assert(key_is_clean(key, false));
    return store->ops->get(store, key, out, err);
}

enum err_code store_put(struct store *store, const char *key, struct str bytes, enum store_put_mode mode,
                        struct err *err)
{
    assert(key_is_clean(key, false));
    assert(bytes.len <= STORE_OBJECT_BYTES_MAX);
    return store->ops->put(store, key, bytes, mode, err);
}

enum err_code store_stat(struct store *store, const char *key, uint64_t *out_bytes, struct err *err)
{
    assert(key_is_clean(key, false));
    return store->ops->stat(store, key, out_bytes, err);
}

enum err_code store_delete(struct store *store, const char *const *keys, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++)
        assert(key_is_clean(keys[i], false));
    return store->ops->delete (store, keys, count, err);
}

enum err_code store_list(struct store *store, const char *prefix, const char *after, size_t limit,
                         struct store_names *out, struct err *err)
{
    assert(key_is_clean(prefix, true));
    assert(limit <= STORE_LIST_MAX);
    *out = (struct store_names){0};
    return store->ops->list(store, prefix, after ? after : "", limit, out, err);
}

void store_names_free(struct store_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->items[i]);
    free(names->items);
    *names = (struct store_names){0};
}

enum err_code store_walk(struct store *store, const char *prefix, store_walk_fn *fn, void *arg, struct err *err)
{
    assert(key_is_clean(prefix, true));
    return store->ops->walk(store, prefix, fn, arg, err);
}

enum err_code store_blob_stat(struct store *store, const struct digest *digest, uint64_t *out_bytes, struct err *err)
{
    return store->ops->blob_stat(store, digest, out_bytes, err);
}

enum err_code store_blob_open(struct store *store, const struct digest *digest, const struct store_blob_info *known,
                              struct store_blob *out, struct err *err)
{
    return store->ops->blob_open(store, digest, known, out, err);
}

enum err_code store_blob_url(struct store *store, const struct digest *digest, const struct store_place *place,
                             uint32_t expires_s, struct buf *out, struct err *err)
{
    if (!store->ops->blob_url)
        return err_set(err, ERR_INVALID, "this store has no URLs");
    return store->ops->blob_url(store, digest, place, expires_s, out, err);
}

enum err_code store_blob_read(struct store *store, struct store_blob *blob, uint64_t offset, void *bytes, size_t len,
                              size_t *out_len, struct err *err)
{
    return store->ops->blob_read(store, blob, offset, bytes, len, out_len, err);
}

void store_blob_close(struct store *store, struct store_blob *blob)
{
    store->ops->blob_close(store, blob);
}

enum err_code store_blob_delete(struct store *store, const struct digest *digest, struct err *err)
{
    return store->ops->blob_delete(store, digest, err);
}

enum err_code store_upload_create(struct store *store, const char *id, struct store_upload **out, struct err *err)
{
    return store->ops->upload_create(store, id, out, err);
}

enum err_code store_upload_open(struct store *store, const char *id, struct store_upload **out, struct buf *out_record,
                                struct err *err)
{
    return store->ops->upload_open(store, id, out, out_record, err);
}

enum err_code store_upload_record(struct store *store, const char *id, struct buf *out_record, struct err *err)
{
    return store->ops->upload_record(store, id, out_record, err);
}

enum err_code store_upload_seek(struct store_upload *upload, uint64_t offset_bytes, struct err *err)
{
    return upload->store->ops->upload_seek(upload, offset_bytes, err);
}

enum err_code store_upload_confirm(struct store_upload *upload, struct err *err)
{
    return upload->store->ops->upload_confirm ? upload->store->ops->upload_confirm(upload, err) : ERR_OK;
}

enum err_code store_upload_append(struct store_upload *upload, const void *bytes, size_t len, struct err *err)
{
    return upload->store->ops->upload_append(upload, bytes, len, err);
}

enum err_code store_upload_checkpoint(struct store_upload *upload, struct str record, struct err *err)
{
    assert(record.len <= STORE_RECORD_BYTES_MAX);
    return upload->store->ops->upload_checkpoint(upload, record, err);
}

enum err_code store_upload_read(struct store_upload *upload, uint64_t offset, void *bytes, size_t len, size_t *out_len,
                                struct err *err)
{
    return upload->store->ops->upload_read(upload, offset, bytes, len, out_len, err);
}

enum err_code store_upload_flush(struct store_upload *upload, struct err *err)
{
    return upload->store->ops->upload_flush(upload, err);
}

enum err_code store_upload_commit(struct store_upload *upload, const struct digest *digest, uint64_t size_bytes,
                                  struct store_place *out_place, struct err *err)
{
    return upload->store->ops->upload_commit(upload, digest, size_bytes, out_place, err);
}

enum err_code store_upload_discard(struct store_upload *upload, struct err *err)
{
    return upload->store->ops->upload_discard(upload, err);
}

void store_upload_close(struct store_upload *upload)
{
    if (upload)
        upload->store->ops->upload_close(upload);
}

enum err_code store_upload_remove(struct store *store, const char *id, struct err *err)
{
    return store->ops->upload_remove(store, id, err);
}

enum err_code store_upload_list(struct store *store, const char *after, size_t limit, struct store_upload_info *out,
                                size_t *out_count, struct err *err)
{
    return store->ops->upload_list(store, after ? after : "", limit, out, out_count, err);
}

enum err_code store_tidy(struct store *store, uint64_t idle_ms, struct err *err)
{
    return store->ops->tidy ? store->ops->tidy(store, idle_ms, err) : ERR_OK;
}

const struct store_caps *store_caps(const struct store *store)
{
    return &store->caps;
}

const char *store_name(const struct store *store)
{
    return store->name;
}

enum err_code store_probe(struct store *store, struct err *err)
{
    return store->ops->probe(store, err);
}

const char *store_boot_id(const struct store *store)
{
    return store->boot_id;
}

const char *store_secret(const struct store *store)
{
    return store->secret;
}

void store_close(struct store *store)
{
    if (store)
        store->ops->close(store);
}

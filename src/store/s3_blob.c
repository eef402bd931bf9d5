/*
 * Blobs in the bucket: at their digest's key, or behind a pointer at that key + ".at". One LIST by digest finds either.
 */
#include "store/s3_priv.h"

#include "base/json.h"
#include "store/blob_key.h"

#include <stdio.h>

#define POINTER_BYTES_MAX 1024
#define FIND_ENTRIES_MAX 4 /* the blob, its pointer, and keys that begin like them */

struct blob_stream {
    char key[STORE_KEY_BYTES_MAX + 1];
    struct s3_stream *stream; /* NULL until the first read */
    uint64_t position;        /* of the stream, in the blob */
    bool is_cut;              /* the stream ends before the blob does */
};

static void pointer_key(const struct digest *digest, char *out)
{
    blob_key_format(digest, out);
    memcpy(out + strlen(out), BLOB_POINTER_SUFFIX, sizeof(BLOB_POINTER_SUFFIX));
}

static enum err_code pointer_read(struct s3 *s3, const struct digest *digest, uint64_t *out_bytes,
                                  struct store_place *out_place, struct err *err)
{
    char key[BLOB_KEY_BYTES_MAX];
    auto_buf text = BUF_INIT(POINTER_BYTES_MAX);
    auto_json root = NULL;
    struct str place;
    pointer_key(digest, key);
    if (s3_get(&s3->base, key, &text, err) != ERR_OK)
        return err->code;
    if (json_parse(buf_str(&text), &root, err) != ERR_OK || !json_u64(json_member(root, "size"), out_bytes) ||
        !json_text(json_member(root, "place"), &place) || place.len >= sizeof(out_place->text))
        return err_set(err, ERR_CORRUPT, "%s is damaged", key);
    memcpy(out_place->text, place.ptr, place.len + 1);
    return ERR_OK;
}

enum err_code s3_pointer_put(struct s3 *s3, const struct digest *digest, uint64_t size_bytes,
                             const struct store_place *place, struct store_place *out_place, struct err *err)
{
    char key[BLOB_KEY_BYTES_MAX], text[POINTER_BYTES_MAX];
    uint64_t other_bytes;
    pointer_key(digest, key);
    (void) snprintf(text, sizeof(text), "{\"size\":%llu,\"place\":\"%s\"}\n", (unsigned long long) size_bytes,
                    place->text);
    *out_place = *place;
    enum err_code code = s3_put(&s3->base, key, str_from(text), STORE_PUT_NEW, err);
    if (code != ERR_EXISTS)
        return code;
    if (pointer_read(s3, digest, &other_bytes, out_place, err) != ERR_OK)
        return err->code;
    if (other_bytes == size_bytes)
        return strcmp(out_place->text, place->text) == 0 ? ERR_OK : ERR_EXISTS;
    *out_place = *place; /* what is there is damaged */
    return s3_put(&s3->base, key, str_from(text), STORE_PUT_ANY, err);
}

struct find_state {
    const char *key;
    bool whole, pointer;
    uint64_t size_bytes;
};

static bool find_entry(void *arg, const char *key, bool is_prefix, uint64_t size_bytes, uint64_t modified_ms)
{
    struct find_state *state = arg;
    size_t len = strlen(state->key);
    (void) is_prefix, (void) modified_ms;
    if (strcmp(key, state->key) == 0) {
        state->whole = true;
        state->size_bytes = size_bytes;
    } else if (strncmp(key, state->key, len) == 0 && strcmp(key + len, BLOB_POINTER_SUFFIX) == 0) {
        state->pointer = true;
    }
    return true;
}

/* Where is the blob? One LIST, and the pointer's GET when there is one. ERR_NOT_FOUND. */
enum err_code s3_blob_find(struct s3 *s3, const struct digest *digest, uint64_t *out_bytes,
                           struct store_place *out_place, struct err *err)
{
    char key[BLOB_KEY_BYTES_MAX];
    blob_key_format(digest, key);
    struct find_state state = {.key = key};
    struct s3_listing listing = {.prefix = key, .limit = FIND_ENTRIES_MAX, .fn = find_entry, .arg = &state};
    if (s3_list_all(s3, &listing, NULL, err) != ERR_OK)
        return err->code;
    out_place->text[0] = '\0';
    *out_bytes = state.size_bytes;
    if (state.whole)
        return ERR_OK;
    return state.pointer ? pointer_read(s3, digest, out_bytes, out_place, err)
                         : err_set(err, ERR_NOT_FOUND, "%s is not there", key);
}

static void place_key(const struct digest *digest, const struct store_place *place, char *out)
{
    if (place->text[0])
        (void) snprintf(out, STORE_KEY_BYTES_MAX + 1, "%s", place->text);
    else
        blob_key_format(digest, out);
}

enum err_code s3_blob_stat(struct store *store, const struct digest *digest, uint64_t *out_bytes, struct err *err)
{
    struct store_place place;
    return s3_blob_find(s3_of(store), digest, out_bytes, &place, err);
}

enum err_code s3_blob_open(struct store *store, const struct digest *digest, const struct store_blob_info *known,
                           struct store_blob *out, struct err *err)
{
    struct store_blob_info found;
    if (!known) {
        if (s3_blob_find(s3_of(store), digest, &found.size_bytes, &found.place, err) != ERR_OK)
            return err->code;
        known = &found;
    }
    struct blob_stream *stream = calloc(1, sizeof(*stream));
    if (!stream)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    place_key(digest, &known->place, stream->key);
    *out = (struct store_blob){.size_bytes = known->size_bytes, .fd = -1, .driver = stream};
    return ERR_OK;
}

static void blob_stream_end(struct blob_stream *stream)
{
    s3_stream_close(stream->stream);
    stream->stream = NULL;
}

/* Have a stream that stands at offset, and ends where the reader said that it will. */
static enum err_code blob_stream_at(struct s3 *s3, const struct store_blob *blob, uint64_t offset, struct err *err)
{
    struct blob_stream *stream = blob->driver;
    if (stream->stream && stream->position == offset)
        return ERR_OK;
    blob_stream_end(stream);
    stream->is_cut = blob->fetch_end > offset && blob->fetch_end < blob->size_bytes;
    uint64_t len = stream->is_cut ? blob->fetch_end - offset : S3_TO_END;
    stream->position = offset;
    return s3_stream_open(s3->client, stream->key, offset, len, &stream->stream, NULL, err);
}

enum err_code s3_blob_read(struct store *store, struct store_blob *blob, uint64_t offset, void *bytes, size_t len,
                           size_t *out_len, struct err *err)
{
    struct blob_stream *stream = blob->driver;
    char *to = bytes;
    *out_len = 0;
    if (offset >= blob->size_bytes)
        return ERR_OK;
    if (blob_stream_at(s3_of(store), blob, offset, err) != ERR_OK)
        return err->code;
    while (*out_len < len && stream->position < blob->size_bytes) {
        size_t got;
        if (blob_stream_at(s3_of(store), blob, offset + *out_len, err) != ERR_OK ||
            s3_stream_read(stream->stream, to + *out_len, len - *out_len, &got, err) != ERR_OK)
            return err->code;
        *out_len += got;
        stream->position += got;
        if (got == 0 && !stream->is_cut)
            break;
        if (got == 0)
            blob_stream_end(stream);
    }
    return ERR_OK;
}

void s3_blob_close(struct store *store, struct store_blob *blob)
{
    struct blob_stream *stream = blob->driver;
    (void) store;
    if (stream)
        s3_stream_close(stream->stream);
    free(stream);
    blob->driver = NULL;
}

enum err_code s3_blob_delete(struct store *store, const struct digest *digest, struct err *err)
{
    struct s3 *s3 = s3_of(store);
    struct store_place place;
    uint64_t size_bytes;
    char key[BLOB_KEY_BYTES_MAX], pointer[BLOB_KEY_BYTES_MAX];
    enum err_code code = s3_blob_find(s3, digest, &size_bytes, &place, err);
    if (code != ERR_OK)
        return code == ERR_NOT_FOUND ? ERR_OK : code;
    blob_key_format(digest, key);
    pointer_key(digest, pointer);
    const char *keys[] = {pointer, key, place.text};
    return s3_delete(store, keys, place.text[0] ? 3 : 2, err);
}

enum err_code s3_blob_url(struct store *store, const struct digest *digest, const struct store_place *place,
                          uint32_t expires_s, struct buf *out, struct err *err)
{
    struct s3 *s3 = s3_of(store);
    char key[STORE_KEY_BYTES_MAX + 1];
    place_key(digest, place, key);
    return s3_presign_get(s3->client, key, NULL, 0, expires_s, out, err);
}

/*
 * Multipart uploads that no session knows: a node died between CreateMultipartUpload and its checkpoint, or after it
 * removed a session and before it aborted the upload. S3 keeps (and bills) their parts until they are aborted.
 */
#include "store/s3_upload.h"

#include <stdio.h>

#define TIDY_BATCH 256
#define DATA_PREFIX (sizeof("data/pp/") - 1)

struct orphan {
    char key[STORE_PLACE_BYTES_MAX]; /* data/<pp>/<session's id> and perhaps "-<nonce>" */
    char multipart_id[S3_UPLOAD_ID_BYTES_MAX];
};

struct tidy {
    size_t skip; /* the bucket's prefix */
    uint64_t before_ms;
    struct orphan *orphans;
    size_t count;
};

static bool tidy_entry(void *arg, const struct s3_upload_entry *entry)
{
    struct tidy *tidy = arg;
    if (entry->initiated_ms >= tidy->before_ms || entry->key.len < tidy->skip + DATA_PREFIX + UUID_TEXT_BYTES - 1 ||
        entry->key.len >= tidy->skip + STORE_PLACE_BYTES_MAX || entry->upload_id.len >= S3_UPLOAD_ID_BYTES_MAX)
        return true;
    struct orphan *orphan = &tidy->orphans[tidy->count++];
    memcpy(orphan->key, entry->key.ptr + tidy->skip, entry->key.len - tidy->skip);
    orphan->key[entry->key.len - tidy->skip] = '\0';
    memcpy(orphan->multipart_id, entry->upload_id.ptr, entry->upload_id.len);
    orphan->multipart_id[entry->upload_id.len] = '\0';
    return tidy->count < TIDY_BATCH;
}

static bool note_any(void *arg, const char *key, bool is_prefix, uint64_t size_bytes, uint64_t modified_ms)
{
    bool *found = arg;
    (void) key, (void) is_prefix, (void) size_bytes, (void) modified_ms;
    *found = true;
    return false;
}

static enum err_code orphan_abort(struct s3 *s3, const struct orphan *orphan, struct err *err)
{
    char prefix[64];
    bool has_session = false;
    (void) snprintf(prefix, sizeof(prefix), "uploads/%.*s/", UUID_TEXT_BYTES - 1, orphan->key + DATA_PREFIX);
    struct s3_listing listing = {.prefix = prefix, .limit = 1, .fn = note_any, .arg = &has_session};
    if (s3_list_all(s3, &listing, NULL, err) != ERR_OK)
        return err->code;
    return has_session ? ERR_OK : s3_multipart_abort(s3, orphan->key, orphan->multipart_id, err);
}

enum err_code s3_tidy(struct store *store, uint64_t idle_ms, struct err *err)
{
    struct s3 *s3 = s3_of(store);
    char prefix[S3_PREFIX_BYTES_MAX + 8];
    uint64_t now_ms = clock_wall_ms();
    struct s3_page page = {0};
    auto_mem struct orphan *orphans = calloc(TIDY_BATCH, sizeof(*orphans));
    if (!orphans)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    (void) snprintf(prefix, sizeof(prefix), "%sdata/", s3_client_target(s3->client)->prefix);
    struct tidy tidy = {.skip = strlen(s3_client_target(s3->client)->prefix),
                        .before_ms = now_ms > idle_ms ? now_ms - idle_ms : 0,
                        .orphans = orphans};
    do {
        auto_buf xml = BUF_INIT(S3_XML_BYTES_MAX);
        struct s3_param query[] = {{"uploads", ""},
                                   {"encoding-type", "url"},
                                   {"prefix", prefix},
                                   {"key-marker", page.next},
                                   {"upload-id-marker", page.next_upload_id}};
        struct s3_request request = {.operation = S3_LIST_UPLOADS, .query = query, .query_count = page.next[0] ? 5 : 3};
        struct s3_page next = {0};
        tidy.count = 0;
        if (s3_send(s3->client, &request, NULL, &xml, err) != ERR_OK ||
            s3_xml_read_uploads(buf_str(&xml), tidy_entry, &tidy, &next, err) != ERR_OK)
            return err->code;
        for (size_t i = 0; i < tidy.count; i++) {
            if (orphan_abort(s3, &orphans[i], err) != ERR_OK)
                return err->code;
        }
        page = next;
    } while (page.more && tidy.count < TIDY_BATCH); /* a full batch: the rest is the next round's */
    return ERR_OK;
}

/*
 * Completing an upload that has stray parts: those of a node that died, or was overtaken, before its next checkpoint.
 * AWS drops them when the upload is completed without them; Ceph RGW refuses to complete it. There is no request that
 * removes a part, and none that reads one, so:
 *
 *     1. complete it with the stray parts as well: an object in which our bytes stand with others' between them
 *     2. begin a second multipart upload at the same key and let the store copy our ranges into it
 *     3. complete that one: it replaces the object
 *
 * Nothing refers to the key before all is done. A kill in between costs the session: its next commit finds an object of
 * the wrong size there, and the client starts again.
 */
#include "store/s3_upload.h"

#include <inttypes.h>
#include <stdio.h>

#define COMPLETE_TRIES 3                              /* a stray part may still be on its way */
#define COPY_BYTES_MAX ((uint64_t) 256 * 1024 * 1024) /* of one request: so that it takes no longer than its time */
#define COPIES_MAX S3_PARTS_MAX
#define SOURCE_BYTES_MAX (3 * (S3_BUCKET_BYTES_MAX + S3_KEY_BYTES_MAX))

struct parts {
    struct s3_sent_part *items;
    size_t count, cap;
    bool failed;
};

static void parts_free(struct parts *parts)
{
    free(parts->items);
}

static bool parts_add(void *arg, const struct s3_part *part)
{
    struct parts *parts = arg;
    if (parts->count == parts->cap) {
        size_t cap = parts->cap ? 2 * parts->cap : 64;
        struct s3_sent_part *items = realloc(parts->items, cap * sizeof(*items));
        parts->failed = parts->failed || !items;
        if (!items)
            return false;
        parts->items = items;
        parts->cap = cap;
    }
    parts->failed = parts->failed || part->etag.len >= S3_PART_ETAG_BYTES;
    if (parts->failed)
        return false;
    struct s3_sent_part *item = &parts->items[parts->count++];
    *item = (struct s3_sent_part){.number = (uint16_t) part->number, .size_bytes = part->size_bytes};
    memcpy(item->etag, part->etag.ptr, part->etag.len);
    return true;
}

/* Ours must be among them as they were sent, or the bytes would not be those that were hashed. */
static bool ours_are_there(const struct s3_upload *upload, const struct parts *all)
{
    size_t found = 0;
    for (size_t i = 0; i < all->count; i++) {
        if (!s3_part_is_ours(upload, all->items[i].number))
            continue;
        const struct s3_sent_part *there = &all->items[i], *sent = &upload->parts[found++];
        if (found > upload->part_count || there->number != sent->number || there->size_bytes != sent->size_bytes ||
            strcmp(there->etag, sent->etag) != 0)
            return false;
    }
    return found == upload->part_count && all->count > found;
}

/* The first step. On success *all is what the object now consists of, beyond doubt. */
static enum err_code complete_all(struct s3_upload *upload, const char *key, struct parts *all, struct err *err)
{
    enum err_code code = ERR_CORRUPT;
    bool is_ambiguous = false;
    for (int tries = 0; code == ERR_CORRUPT && tries < COMPLETE_TRIES; tries++) {
        all->count = 0;
        if (s3_multipart_list(upload, parts_add, all, err) != ERR_OK)
            return err->code;
        if (all->failed || !ours_are_there(upload, all))
            return err_set(err, ERR_CORRUPT, "parts of upload %s are missing from the object store", upload->id);
        code = s3_multipart_complete(s3_of_upload(upload), key, upload->multipart_id, upload->nonce, all->items,
                                     all->count, &is_ambiguous, err);
    }
    if (code == ERR_OK && is_ambiguous)
        return err_set(err, ERR_CORRUPT, "it is not known which parts upload %s was completed with", upload->id);
    return code;
}

struct copy {
    struct s3_upload *upload;
    char key[STORE_PLACE_BYTES_MAX];
    char multipart_id[S3_UPLOAD_ID_BYTES_MAX];
    char nonce[S3_NONCE_BYTES];
    char source[SOURCE_BYTES_MAX];
    struct parts parts;
};

static enum err_code copy_source(struct copy *copy, struct err *err)
{
    const struct s3_target *target = s3_client_target(s3_of_upload(copy->upload)->client);
    char path[S3_BUCKET_BYTES_MAX + S3_KEY_BYTES_MAX + 2];
    auto_buf text = BUF_INIT(SOURCE_BYTES_MAX - 1);
    (void) snprintf(path, sizeof(path), "/%s/%s%s", target->bucket, target->prefix, copy->key);
    if (!s3_encode_path(&text, path))
        return err_set(err, ERR_LIMIT, "the name of the object to copy is too long");
    memcpy(copy->source, text.ptr, text.len);
    copy->source[text.len] = '\0';
    return ERR_OK;
}

static enum err_code copy_one(struct copy *copy, uint64_t offset, uint64_t len, struct err *err)
{
    char number[8], range[64], etag[S3_ETAG_BYTES_MAX];
    auto_buf xml = BUF_INIT(S3_XML_TEXT_BYTES_MAX);
    if (copy->parts.count == COPIES_MAX)
        return err_set(err, ERR_LIMIT, "the blob is in too many pieces");
    (void) snprintf(number, sizeof(number), "%zu", copy->parts.count + 1);
    (void) snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64, offset, offset + len - 1);
    const struct s3_param query[] = {{"partNumber", number}, {"uploadId", copy->multipart_id}};
    const struct s3_param headers[] = {{"x-amz-copy-source", copy->source}, {"x-amz-copy-source-range", range}};
    struct s3_request request = {.operation = S3_COPY_PART,
                                 .key = copy->key,
                                 .query = query,
                                 .query_count = 2,
                                 .headers = headers,
                                 .header_count = 2,
                                 .timeout_ms = S3_COMPLETE_TIMEOUT_MS};
    if (s3_send(s3_of_upload(copy->upload)->client, &request, NULL, &xml, err) != ERR_OK ||
        s3_xml_read_copied_part(buf_str(&xml), etag, err) != ERR_OK)
        return err->code;
    const struct s3_part part = {.number = (unsigned) copy->parts.count + 1, .size_bytes = len, .etag = str_from(etag)};
    return parts_add(&copy->parts, &part) ? ERR_OK : err_set(err, ERR_NO_MEMORY, "out of memory");
}

/* A range in as few requests as may be, of about the same length: no part may be short. */
static enum err_code copy_range(struct copy *copy, uint64_t offset, uint64_t len, struct err *err)
{
    uint64_t pieces = (len + COPY_BYTES_MAX - 1) / COPY_BYTES_MAX;
    for (uint64_t i = 0; i < pieces; i++) {
        uint64_t from = len / pieces * i, to = i + 1 == pieces ? len : len / pieces * (i + 1);
        if (copy_one(copy, offset + from, to - from, err) != ERR_OK)
            return err->code;
    }
    return ERR_OK;
}

/* Our ranges, each as long as no stray part stands in it. */
static enum err_code copy_ours(struct copy *copy, const struct parts *all, struct err *err)
{
    uint64_t offset = 0, begin = 0, len = 0;
    for (size_t i = 0; i < all->count; i++) {
        bool is_ours = s3_part_is_ours(copy->upload, all->items[i].number);
        if (is_ours && len == 0)
            begin = offset;
        if (is_ours)
            len += all->items[i].size_bytes;
        if (!is_ours && len > 0) {
            if (copy_range(copy, begin, len, err) != ERR_OK)
                return err->code;
            len = 0;
        }
        offset += all->items[i].size_bytes;
    }
    return len > 0 ? copy_range(copy, begin, len, err) : ERR_OK;
}

enum err_code s3_parts_salvage(struct s3_upload *upload, struct err *err)
{
    struct s3 *s3 = s3_of_upload(upload);
    bool is_ambiguous; /* no matter: the nonce is known to nobody else */
    cleanup(parts_free) struct parts all = {0};
    auto_mem struct copy *copy = calloc(1, sizeof(*copy));
    if (!copy)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    copy->upload = upload;
    s3_nonce_new(copy->nonce);
    s3_data_key(upload, copy->key);
    if (copy_source(copy, err) != ERR_OK || complete_all(upload, copy->key, &all, err) != ERR_OK ||
        s3_multipart_create(s3, copy->key, copy->nonce, copy->multipart_id, err) != ERR_OK)
        return err->code;
    enum err_code code = copy_ours(copy, &all, err);
    if (code == ERR_OK)
        code = s3_multipart_complete(s3, copy->key, copy->multipart_id, copy->nonce, copy->parts.items,
                                     copy->parts.count, &is_ambiguous, err);
    if (code != ERR_OK) {
        struct err ignored = ERR_INIT; /* what stays is the janitor's */
        (void) !s3_multipart_abort(s3, copy->key, copy->multipart_id, &ignored);
    }
    parts_free(&copy->parts);
    return code;
}

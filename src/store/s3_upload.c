/* The driver's contract for uploads; s3_upload.h draws what they consist of. */
#include "store/s3_upload.h"

#include "base/metrics.h"
#include "digest/hash.h"
#include "store/blob_key.h"

#include <stdio.h>
#include <stdlib.h>

#define VERIFY_BUFFER_BYTES (256 * 1024)

static struct s3_upload *upload_of(struct store_upload *base)
{
    return (struct s3_upload *) base;
}

enum err_code s3_upload_create(struct store *store, const char *id, struct store_upload **out, struct err *err)
{
    struct s3_upload *upload = s3_upload_new(store, id);
    if (!upload)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    *out = &upload->base;
    return ERR_OK;
}

/*
 * From memory if it waits there, else from the bucket. In memory it may be behind, as its next checkpoint would tell;
 * verify (or long waiting) makes sure that it is not.
 */
static enum err_code upload_find(struct store *store, const char *id, bool verify, struct s3_upload **out,
                                 struct err *err)
{
    struct s3_upload *upload = s3_sessions_take(s3_of(store), id);
    bool is_newest = true;
    enum err_code code = ERR_OK;
    if (upload && (verify || clock_monotonic_ms() - upload->idle_since_ms > S3_UNVERIFIED_MS_MAX))
        code = s3_session_is_newest(upload, &is_newest, err);
    if (upload && (code != ERR_OK || !is_newest)) {
        s3_upload_free(upload);
        upload = NULL;
    }
    if (code != ERR_OK)
        return code;
    if (!upload)
        return s3_session_load(store, id, out, err);
    *out = upload;
    return ERR_OK;
}

enum err_code s3_upload_open(struct store *store, const char *id, struct store_upload **out, struct buf *out_record,
                             struct err *err)
{
    struct s3_upload *upload;
    if (upload_find(store, id, false, &upload, err) != ERR_OK)
        return err->code;
    if (!buf_append(out_record, upload->record.ptr, upload->record.len)) {
        s3_upload_free(upload);
        return err_set(err, ERR_LIMIT, "the upload's record is too long");
    }
    *out = &upload->base;
    return ERR_OK;
}

enum err_code s3_upload_record(struct store *store, const char *id, struct buf *out_record, struct err *err)
{
    struct s3 *s3 = s3_of(store);
    struct s3_upload *upload;
    if (upload_find(store, id, true, &upload, err) != ERR_OK)
        return err->code;
    bool fits = buf_append(out_record, upload->record.ptr, upload->record.len);
    s3_sessions_put(s3, upload);
    return fits ? ERR_OK : err_set(err, ERR_LIMIT, "the upload's record is too long");
}

enum err_code s3_upload_seek(struct store_upload *base, uint64_t offset_bytes, struct err *err)
{
    struct s3_upload *upload = upload_of(base);
    if (offset_bytes == upload->size_bytes)
        return ERR_OK;
    if (offset_bytes > upload->size_bytes)
        return err_set(err, ERR_CORRUPT, "upload %s holds fewer bytes than its record says", upload->id);
    if (s3_parts_wait(upload, 0, err) != ERR_OK || s3_session_load_tail(upload, err) != ERR_OK)
        return err->code;
    /* Parts past the offset are forgotten; the bytes between the last one kept and the offset must be in memory. */
    while (upload->parts_bytes > offset_bytes && upload->part_count > 0) {
        upload->parts_bytes -= upload->parts[--upload->part_count].size_bytes;
        struct s3_part_run *last = &upload->runs[upload->run_count - 1];
        if (--last->count == 0)
            upload->run_count--;
        s3_tail_cut(upload, 0);
    }
    if (offset_bytes < upload->parts_bytes || offset_bytes - upload->parts_bytes > upload->tail_bytes) {
        upload->is_useless = true;
        return err_set(err, ERR_CORRUPT, "upload %s cannot go back to %llu", upload->id,
                       (unsigned long long) offset_bytes);
    }
    s3_tail_cut(upload, offset_bytes - upload->parts_bytes);
    if (upload->saved_bytes > offset_bytes)
        upload->saved_bytes = offset_bytes;
    return ERR_OK;
}

enum err_code s3_upload_confirm(struct store_upload *base, struct err *err)
{
    struct s3_upload *upload = upload_of(base);
    bool is_newest;
    bool will_send = upload->multipart_id[0] && upload->size_bytes > upload->parts_bytes;
    if (will_send) /* the claim that the last part needs says it too */
        return s3_claim(upload, err);
    if (s3_session_is_newest(upload, &is_newest, err) != ERR_OK)
        return err->code;
    return is_newest ? ERR_OK : err_set(err, ERR_PRECONDITION, "another node has appended to this upload");
}

enum err_code s3_upload_append(struct store_upload *base, const void *bytes, size_t len, struct err *err)
{
    struct s3_upload *upload = upload_of(base);
    if (s3_session_load_tail(upload, err) != ERR_OK)
        return err->code;
    return s3_tail_append(upload, bytes, len, err);
}

enum err_code s3_upload_checkpoint(struct store_upload *base, struct str record, struct err *err)
{
    struct s3_upload *upload = upload_of(base);
    if (s3_session_load_tail(upload, err) != ERR_OK)
        return err->code;
    bool is_part = upload->tail_bytes >= S3_PART_BYTES_MIN && !s3_of_upload(upload)->settings.part_bytes;
    if ((is_part && s3_tail_send(upload, err) != ERR_OK) || s3_parts_wait(upload, 0, err) != ERR_OK)
        return err->code;
    return s3_session_save(upload, record, true, err);
}

/* Copy from the tail in memory. */
static size_t tail_read(const struct s3_upload *upload, uint64_t at, char *to, size_t len)
{
    size_t done = 0;
    while (done < len && at + done < upload->tail_bytes) {
        size_t within = (size_t) ((at + done) % S3_SLAB_BYTES);
        uint64_t left = upload->tail_bytes - (at + done);
        size_t some = S3_SLAB_BYTES - within;
        some = some < left ? some : (size_t) left;
        some = some < len - done ? some : len - done;
        memcpy(to + done, upload->slabs[(at + done) / S3_SLAB_BYTES] + within, some);
        done += some;
    }
    return done;
}

/* Read the completed object from offset on. ERR_CORRUPT: another commit has dropped it. */
static enum err_code data_open(struct s3_upload *upload, uint64_t offset, struct s3_stream **out, struct err *err)
{
    char key[STORE_PLACE_BYTES_MAX];
    s3_data_key(upload, key);
    enum err_code code = s3_stream_open(s3_of_upload(upload)->client, key, offset, S3_TO_END, out, NULL, err);
    return code == ERR_NOT_FOUND ? err_become(err, ERR_CORRUPT, "the upload was ended elsewhere") : code;
}

/* S3 gives parts to nobody before they are one object: so the object is made, and read. Nothing can follow it. */
static enum err_code completed_read(struct s3_upload *upload, uint64_t offset, void *bytes, size_t len, size_t *out_len,
                                    struct err *err)
{
    if (s3_upload_flush(&upload->base, err) != ERR_OK || s3_parts_complete(upload, err) != ERR_OK)
        return err->code;
    if (upload->readback && upload->readback_position != offset) {
        s3_stream_close(upload->readback);
        upload->readback = NULL;
    }
    if (!upload->readback && data_open(upload, offset, &upload->readback, err) != ERR_OK)
        return err->code;
    upload->readback_position = offset;
    if (s3_stream_read(upload->readback, bytes, len, out_len, err) != ERR_OK)
        return err->code;
    upload->readback_position += *out_len;
    return ERR_OK;
}

enum err_code s3_upload_read(struct store_upload *base, uint64_t offset, void *bytes, size_t len, size_t *out_len,
                             struct err *err)
{
    struct s3_upload *upload = upload_of(base);
    *out_len = 0;
    if (s3_session_load_tail(upload, err) != ERR_OK)
        return err->code;
    if (upload->multipart_id[0])
        return completed_read(upload, offset, bytes, len, out_len, err);
    *out_len = tail_read(upload, offset, bytes, len);
    return ERR_OK;
}

enum err_code s3_upload_flush(struct store_upload *base, struct err *err)
{
    struct s3_upload *upload = upload_of(base);
    if (s3_session_load_tail(upload, err) != ERR_OK)
        return err->code;
    if (upload->multipart_id[0] && s3_tail_send(upload, err) != ERR_OK)
        return err->code;
    return s3_parts_wait(upload, 0, err);
}

/* The whole blob is in memory: one PUT at its key, verified by S3 against the digest where that is SHA-256. */
static enum err_code commit_single(struct s3_upload *upload, const struct digest *digest, struct err *err)
{
    char key[BLOB_KEY_BYTES_MAX], hex[DIGEST_HEX_BYTES_MAX];
    auto_mem struct str *spans = calloc(upload->slab_count + 1, sizeof(*spans));
    if (!spans)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    size_t count = s3_tail_spans(upload, 0, spans);
    blob_key_format(digest, key);
    digest_format_hex(digest, hex);
    const char *payload_sha256 = digest->algorithm == DIGEST_SHA256 ? hex : NULL;
    struct s3 *s3 = s3_of_upload(upload);
    uint64_t there_bytes;
    enum err_code code = s3_put_spans(s3, key, spans, count, true, payload_sha256, err);
    if (code == ERR_EXISTS)
        code = s3_stat(&s3->base, key, &there_bytes, err);
    else
        return code;
    if (code == ERR_OK && there_bytes == upload->size_bytes)
        return ERR_OK;
    if (code != ERR_OK && code != ERR_NOT_FOUND)
        return code;
    return s3_put_spans(s3, key, spans, count, false, payload_sha256, err); /* what is there is damaged */
}

/*
 * The bytes were made one object, but perhaps by another node, of what another client sent to this session: a pointer
 * is made only to what has the digest.
 */
static enum err_code data_verify(struct s3_upload *upload, const struct digest *digest, struct err *err)
{
    struct s3_stream *stream;
    struct hash hash;
    struct digest actual;
    auto_mem char *buffer = malloc(VERIFY_BUFFER_BYTES);
    if (!buffer)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    enum err_code code = data_open(upload, 0, &stream, err);
    if (code != ERR_OK)
        return code;
    hash_init(&hash, digest->algorithm);
    for (size_t got = 1; code == ERR_OK && got > 0;) {
        code = s3_stream_read(stream, buffer, VERIFY_BUFFER_BYTES, &got, err);
        if (code == ERR_OK)
            hash_update(&hash, buffer, got);
    }
    s3_stream_close(stream);
    metric_add(METRIC_BYTES_REHASHED, hash.total_bytes);
    hash_digest(&hash, &actual);
    if (code == ERR_OK && !digest_equal(&actual, digest))
        return err_set(err, ERR_CORRUPT, "another node has completed upload %s with other bytes", upload->id);
    upload->is_doubtful = code != ERR_OK;
    return code;
}

static enum err_code commit_parts(struct s3_upload *upload, const struct digest *digest, struct store_place *out_place,
                                  struct err *err)
{
    struct s3 *s3 = s3_of_upload(upload);
    struct store_place ours;
    s3_data_key(upload, ours.text);
    if (s3_parts_complete(upload, err) != ERR_OK || (upload->is_doubtful && data_verify(upload, digest, err) != ERR_OK))
        return err->code;
    enum err_code code = s3_pointer_put(s3, digest, upload->parts_bytes, &ours, out_place, err);
    if (code != ERR_EXISTS)
        return code;
    /* Somebody was first: theirs stays. What cannot be deleted now is found by a collection. */
    struct err ignored = ERR_INIT;
    (void) !s3_delete(&s3->base, (const char *const[]){ours.text}, 1, &ignored);
    return ERR_OK;
}

static enum err_code commit_here(struct s3_upload *upload, const struct digest *digest, uint64_t size_bytes,
                                 struct store_place *out_place, struct err *err)
{
    if (s3_upload_flush(&upload->base, err) != ERR_OK)
        return err->code;
    if (upload->size_bytes != size_bytes)
        return err_set(err, ERR_CORRUPT, "upload %s holds %llu bytes of %llu", upload->id,
                       (unsigned long long) upload->size_bytes, (unsigned long long) size_bytes);
    out_place->text[0] = '\0';
    return upload->multipart_id[0] ? commit_parts(upload, digest, out_place, err) : commit_single(upload, digest, err);
}

enum err_code s3_upload_commit(struct store_upload *base, const struct digest *digest, uint64_t size_bytes,
                               struct store_place *out_place, struct err *err)
{
    struct s3_upload *upload = upload_of(base);
    uint64_t there_bytes;
    struct err ignored = ERR_INIT;
    enum err_code code = commit_here(upload, digest, size_bytes, out_place, err);
    upload->is_committed = code == ERR_OK;
    /* Gone from under us: another request may have committed it, which is what was wanted. */
    if (code == ERR_CORRUPT && upload->multipart_id[0] &&
        s3_blob_find(s3_of_upload(upload), digest, &there_bytes, out_place, &ignored) == ERR_OK &&
        there_bytes == size_bytes)
        return ERR_OK;
    return code;
}

void s3_upload_close(struct store_upload *base)
{
    struct s3_upload *upload = upload_of(base);
    struct err ignored = ERR_INIT;
    bool keep = !upload->is_discarded && !upload->is_useless && !upload->is_completed && upload->next_sequence > 0 &&
                s3_parts_wait(upload, 0, &ignored) == ERR_OK && upload->saved_bytes >= upload->parts_bytes &&
                upload->record.len > 0 && (upload->size_bytes == upload->saved_bytes || upload->tail_is_loaded);
    if (!keep) {
        s3_upload_free(upload);
        return;
    }
    if (upload->size_bytes > upload->saved_bytes) /* appended, but never checkpointed: forgotten */
        s3_tail_cut(upload, upload->saved_bytes - upload->parts_bytes);
    s3_sessions_put(s3_of_upload(upload), upload);
}

/* ---- listing ---- */

struct list_uploads {
    struct store_upload_info *out;
    size_t count, limit;
};

static bool list_entry(void *arg, const char *key, bool is_prefix, uint64_t size_bytes, uint64_t modified_ms)
{
    struct list_uploads *list = arg;
    const char *id = key + strlen("uploads/");
    (void) is_prefix, (void) size_bytes;
    if (strcspn(id, "/") != UUID_TEXT_BYTES - 1)
        return true;
    struct store_upload_info *last = list->count ? &list->out[list->count - 1] : NULL;
    if (!last || strncmp(last->id, id, UUID_TEXT_BYTES - 1) != 0) {
        if (list->count == list->limit)
            return false;
        last = &list->out[list->count++];
        memcpy(last->id, id, UUID_TEXT_BYTES - 1);
        last->id[UUID_TEXT_BYTES - 1] = '\0';
        last->last_activity_ms = 0;
    }
    if (modified_ms > last->last_activity_ms)
        last->last_activity_ms = modified_ms;
    return true;
}

enum err_code s3_upload_list(struct store *store, const char *after, size_t limit, struct store_upload_info *out,
                             size_t *out_count, struct err *err)
{
    char after_key[64] = "";
    struct list_uploads list = {.out = out, .limit = limit};
    if (after[0]) /* '0' follows '/': past everything of that upload */
        (void) snprintf(after_key, sizeof(after_key), "uploads/%s0", after);
    struct s3_listing listing = {.prefix = "uploads/", .after = after_key, .fn = list_entry, .arg = &list};
    if (s3_list_all(s3_of(store), &listing, NULL, err) != ERR_OK)
        return err->code;
    *out_count = list.count;
    return ERR_OK;
}

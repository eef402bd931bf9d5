/* The checkpoints of an upload, uploads/<id>/<sequence>, and the uploads that wait in memory for their next request. */
#include "store/s3_upload.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define PIECE_BYTES (128 * 1024) /* of a checkpoint's object; more than any head */
#define IDLE_MAX 4096            /* uploads kept in memory between requests; the rest is read back when it is needed */

/* A batch of a session's keys, to delete. */
struct names_of_session {
    char text[S3_DELETE_MAX][S3_SESSION_KEY_BYTES_MAX];
    const char *keys[S3_DELETE_MAX];
    size_t count;
};

struct s3_sessions {
    pthread_mutex_t mutex;
    struct s3_upload *first; /* the most recently used */
    size_t count;
};

void s3_session_key(const char *id, uint32_t sequence, char *out)
{
    (void) snprintf(out, S3_SESSION_KEY_BYTES_MAX, "uploads/%s/%08u", id, (unsigned) sequence);
}

/* Of all names of an upload's checkpoints. out has S3_SESSION_KEY_BYTES_MAX. */
static void session_prefix(const char *id, char *out)
{
    (void) snprintf(out, S3_SESSION_KEY_BYTES_MAX, "uploads/%s/", id);
}

/* ---- an upload's memory ---- */

struct s3_upload *s3_upload_new(struct store *store, const char *id)
{
    struct s3_upload *upload = calloc(1, sizeof(*upload));
    if (!upload)
        return NULL;
    upload->base.store = store;
    (void) snprintf(upload->id, sizeof(upload->id), "%s", id);
    upload->next_part = 1;
    upload->tail_is_loaded = true;
    upload->record = BUF_INIT(STORE_RECORD_BYTES_MAX);
    pthread_mutex_init(&upload->synced.mutex, NULL);
    pthread_cond_init(&upload->synced.landed, NULL);
    return upload;
}

void s3_upload_free(struct s3_upload *upload)
{
    struct err ignored = ERR_INIT;
    (void) !s3_parts_wait(upload, 0, &ignored);
    s3_stream_close(upload->readback);
    s3_tail_unload(upload);
    free(upload->slabs);
    free(upload->parts);
    buf_free(&upload->record);
    pthread_cond_destroy(&upload->synced.landed);
    pthread_mutex_destroy(&upload->synced.mutex);
    free(upload);
}

void s3_data_key(const struct s3_upload *upload, char *out)
{
    const char *id = upload->id;
    (void) snprintf(out, STORE_PLACE_BYTES_MAX, "data/%.2s/%s%s%.16s", id, id, upload->nonce[0] ? "-" : "",
                    upload->nonce);
}

/* ---- writing ---- */

static enum err_code record_keep(struct s3_upload *upload, struct str record, struct err *err)
{
    if (record.ptr == upload->record.ptr)
        return ERR_OK;
    buf_clear(&upload->record);
    return buf_append(&upload->record, record.ptr, record.len) ? ERR_OK : err_set(err, ERR_NO_MEMORY, "out of memory");
}

enum err_code s3_session_save(struct s3_upload *upload, struct str record, bool with_bytes, struct err *err)
{
    struct s3 *s3 = s3_of_upload(upload);
    char key[S3_SESSION_KEY_BYTES_MAX];
    uint64_t from = upload->saved_bytes > upload->parts_bytes ? upload->saved_bytes : upload->parts_bytes;
    auto_buf head = BUF_INIT(S3_CHECKPOINT_HEAD_BYTES_MAX);
    auto_mem struct s3_checkpoint *checkpoint = calloc(1, sizeof(*checkpoint));
    auto_mem struct str *spans = calloc(upload->slab_count + 2, sizeof(*spans));
    if (!checkpoint || !spans)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    memcpy(checkpoint->node, s3->node, sizeof(checkpoint->node));
    memcpy(checkpoint->multipart_id, upload->multipart_id, sizeof(checkpoint->multipart_id));
    if (upload->multipart_id[0])
        memcpy(checkpoint->nonce, upload->nonce, sizeof(checkpoint->nonce));
    memcpy(checkpoint->runs, upload->runs, sizeof(checkpoint->runs));
    checkpoint->run_count = upload->run_count;
    checkpoint->next_part = upload->next_part;
    checkpoint->parts_bytes = upload->parts_bytes;
    checkpoint->tail_first = upload->tail_first;
    checkpoint->bytes_offset = from;
    checkpoint->record = record;
    s3_checkpoint_encode(checkpoint, &head);
    spans[0] = buf_str(&head);
    size_t count = 1;
    if (with_bytes)
        count += s3_tail_spans(upload, from - upload->parts_bytes, spans + 1);
    s3_session_key(upload->id, upload->next_sequence, key);
    /* With one writer the number is new: no need to look. */
    enum err_code code = s3_put_spans(s3, key, spans, count, s3->conditional, NULL, err);
    if (code == ERR_EXISTS)
        return err_become(err, ERR_PRECONDITION, "another node has appended to this upload");
    if (code != ERR_OK || record_keep(upload, record, err) != ERR_OK)
        return err->code;
    upload->next_sequence++;
    memcpy(upload->saved_node, s3->node, sizeof(upload->saved_node));
    if (with_bytes)
        upload->saved_bytes = upload->size_bytes;
    return ERR_OK;
}

/* ---- reading ---- */

struct newest {
    char key[S3_SESSION_KEY_BYTES_MAX];
    bool found;
};

static bool newest_entry(void *arg, const char *key, bool is_prefix, uint64_t size_bytes, uint64_t modified_ms)
{
    struct newest *newest = arg;
    (void) is_prefix, (void) size_bytes, (void) modified_ms;
    newest->found = true;
    (void) snprintf(newest->key, sizeof(newest->key), "%s", key);
    return true;
}

static enum err_code newest_find(struct s3 *s3, const char *id, const char *after, struct newest *out, struct err *err)
{
    char prefix[S3_SESSION_KEY_BYTES_MAX];
    session_prefix(id, prefix);
    struct s3_listing listing = {.prefix = prefix, .after = after, .fn = newest_entry, .arg = out};
    return s3_list_all(s3, &listing, NULL, err);
}

enum err_code s3_session_is_newest(struct s3_upload *upload, bool *out, struct err *err)
{
    char ours[S3_SESSION_KEY_BYTES_MAX], before[S3_SESSION_KEY_BYTES_MAX];
    struct newest newest = {.found = false};
    bool has_before = upload->next_sequence > 1;
    s3_session_key(upload->id, upload->next_sequence - 1, ours);
    s3_session_key(upload->id, has_before ? upload->next_sequence - 2 : 0, before);
    if (newest_find(s3_of_upload(upload), upload->id, has_before ? before : NULL, &newest, err) != ERR_OK)
        return err->code;
    *out = newest.found && strcmp(newest.key, ours) == 0;
    return ERR_OK;
}

/* Take over what a checkpoint says. Bytes: what its object holds, ending at the upload's size. */
static enum err_code adopt(struct s3_upload *upload, const struct s3_checkpoint *checkpoint, size_t bytes_len,
                           struct err *err)
{
    struct s3 *s3 = s3_of_upload(upload);
    memcpy(upload->multipart_id, checkpoint->multipart_id, sizeof(upload->multipart_id));
    memcpy(upload->nonce, checkpoint->nonce, sizeof(upload->nonce));
    memcpy(upload->runs, checkpoint->runs, sizeof(upload->runs));
    memcpy(upload->saved_node, checkpoint->node, sizeof(upload->saved_node));
    upload->run_count = checkpoint->run_count;
    upload->next_part = checkpoint->next_part;
    upload->parts_bytes = checkpoint->parts_bytes;
    upload->tail_first = checkpoint->tail_first;
    upload->size_bytes = upload->saved_bytes = checkpoint->bytes_offset + bytes_len;
    if (upload->size_bytes < upload->parts_bytes)
        return err_set(err, ERR_CORRUPT, "the upload's checkpoint contradicts itself");
    if (upload->multipart_id[0] && strcmp(checkpoint->node, s3->node) != 0)
        upload->next_part += S3_TAKEOVER_SKIP;
    upload->tail_is_loaded = upload->size_bytes == upload->parts_bytes;
    return record_keep(upload, checkpoint->record, err);
}

/*
 * A checkpoint's object while it is read: its head, then its bytes piece by piece, for they may be as long as a part
 * and belong into part memory alone.
 */
struct reading {
    struct s3_stream *stream;
    struct s3_checkpoint checkpoint; /* record points into piece */
    uint64_t bytes_len;              /* what follows the head */
    struct str bytes;                /* what of it is in piece already */
    char piece[PIECE_BYTES];
};

static void reading_free(struct reading **reading)
{
    if (*reading)
        s3_stream_close((*reading)->stream);
    free(*reading);
}

static enum err_code reading_open(struct s3_upload *upload, const char *key, struct reading **out, struct err *err)
{
    struct s3_answer answer;
    size_t len = 0, some = 0;
    struct reading *reading = *out = calloc(1, sizeof(*reading));
    if (!reading)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    enum err_code code =
        s3_stream_open(s3_of_upload(upload)->client, key, 0, S3_TO_END, &reading->stream, &answer, err);
    do {
        if (code == ERR_OK)
            code = s3_stream_read(reading->stream, reading->piece + len, PIECE_BYTES - len, &some, err);
        len += code == ERR_OK ? some : 0;
    } while (code == ERR_OK && some > 0 && len < PIECE_BYTES);
    if (code == ERR_OK)
        code = s3_checkpoint_decode((struct str){reading->piece, len}, &reading->checkpoint, &reading->bytes, err);
    if (code == ERR_OK)
        reading->bytes_len = answer.head.content_length - (len - reading->bytes.len);
    return code;
}

/* Append the object's bytes past the first `skip` to the tail. */
static enum err_code reading_append(struct s3_upload *upload, struct reading *reading, uint64_t skip, struct err *err)
{
    struct str bytes = reading->bytes;
    for (uint64_t left = reading->bytes_len; left > 0;) {
        enum err_code code = ERR_OK;
        if (bytes.len == 0) {
            bytes.ptr = reading->piece;
            code = s3_stream_read(reading->stream, reading->piece, PIECE_BYTES, &bytes.len, err);
        }
        size_t skipped = skip < bytes.len ? (size_t) skip : bytes.len;
        if (code == ERR_OK && skipped < bytes.len)
            code = s3_tail_load(upload, bytes.ptr + skipped, bytes.len - skipped, err);
        if (code != ERR_OK)
            return code;
        skip -= skipped;
        left -= bytes.len;
        bytes.len = 0;
    }
    return ERR_OK;
}

static enum err_code load_checkpoint(struct s3_upload *upload, const char *key, struct err *err)
{
    cleanup(reading_free) struct reading *reading = NULL;
    if (reading_open(upload, key, &reading, err) != ERR_OK ||
        adopt(upload, &reading->checkpoint, reading->bytes_len, err) != ERR_OK)
        return err->code;
    /* Often the newest object holds the whole tail: no need to fetch it again. */
    if (upload->tail_is_loaded || reading->checkpoint.bytes_offset != upload->parts_bytes)
        return ERR_OK;
    upload->size_bytes = upload->parts_bytes;
    upload->tail_is_loaded = true;
    return reading_append(upload, reading, 0, err);
}

enum err_code s3_session_load(struct store *store, const char *id, struct s3_upload **out, struct err *err)
{
    struct newest newest = {.found = false};
    bool is_ended = s3_discards_has(s3_of(store)->discards, id);
    if (!is_ended && newest_find(s3_of(store), id, NULL, &newest, err) != ERR_OK)
        return err->code;
    if (!newest.found)
        return err_set(err, ERR_NOT_FOUND, "there is no upload %s", id);
    struct s3_upload *upload = s3_upload_new(store, id);
    if (!upload)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    upload->next_sequence = (uint32_t) strtoul(strrchr(newest.key, '/') + 1, NULL, 10) + 1;
    if (load_checkpoint(upload, newest.key, err) != ERR_OK) {
        s3_upload_free(upload);
        return err->code;
    }
    *out = upload;
    return ERR_OK;
}

/* Put one checkpoint's bytes in their place: they may begin before the tail, or replace what a rollback took back. */
static enum err_code tail_add(struct s3_upload *upload, struct reading *reading, struct err *err)
{
    uint64_t offset = reading->checkpoint.bytes_offset, skip = 0;
    if (offset + reading->bytes_len <= upload->parts_bytes)
        return ERR_OK;
    if (offset < upload->parts_bytes)
        skip = upload->parts_bytes - offset;
    if (offset + skip > upload->size_bytes)
        return err_set(err, ERR_CORRUPT, "the upload's checkpoints leave a gap");
    s3_tail_cut(upload, offset + skip - upload->parts_bytes);
    return reading_append(upload, reading, skip, err);
}

/* Fetch what the checkpoints since the last part hold, in order, into the empty tail. */
static enum err_code tail_fetch(struct s3_upload *upload, struct err *err)
{
    for (uint32_t sequence = upload->tail_first; sequence < upload->next_sequence; sequence++) {
        char key[S3_SESSION_KEY_BYTES_MAX];
        cleanup(reading_free) struct reading *reading = NULL;
        s3_session_key(upload->id, sequence, key);
        enum err_code code = reading_open(upload, key, &reading, err);
        if (code == ERR_NOT_FOUND)
            code = err_set(err, ERR_CORRUPT, "a checkpoint of the upload is missing");
        if (code == ERR_OK)
            code = tail_add(upload, reading, err);
        if (code != ERR_OK)
            return code;
    }
    return ERR_OK;
}

enum err_code s3_session_load_tail(struct s3_upload *upload, struct err *err)
{
    uint64_t expected = upload->saved_bytes;
    if (upload->tail_is_loaded)
        return ERR_OK;
    upload->tail_is_loaded = true;
    upload->size_bytes = upload->parts_bytes;
    uint64_t part_bytes_before = upload->parts_bytes;
    enum err_code code = tail_fetch(upload, err);
    assert(upload->parts_bytes == part_bytes_before);
    if (code == ERR_OK && upload->size_bytes != expected)
        code = err_set(err, ERR_CORRUPT, "the upload's checkpoints do not add up");
    if (code != ERR_OK) { /* what came of it is no tail: the next who needs it begins anew */
        upload->size_bytes = expected;
        s3_tail_unload(upload);
    }
    return code;
}

static bool delete_entry(void *arg, const char *key, bool is_prefix, uint64_t size_bytes, uint64_t modified_ms)
{
    struct names_of_session *names = arg;
    (void) is_prefix, (void) size_bytes, (void) modified_ms;
    if (names->count == S3_DELETE_MAX)
        return false;
    (void) snprintf(names->text[names->count], S3_SESSION_KEY_BYTES_MAX, "%s", key);
    names->keys[names->count] = names->text[names->count];
    names->count++;
    return true;
}

enum err_code s3_session_delete_unread(struct s3 *s3, const char *id, struct err *err)
{
    char prefix[S3_SESSION_KEY_BYTES_MAX];
    auto_mem struct names_of_session *names = malloc(sizeof(*names));
    if (!names)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    session_prefix(id, prefix);
    struct s3_listing listing = {.prefix = prefix, .fn = delete_entry, .arg = names};
    do {
        names->count = 0;
        if (s3_list_all(s3, &listing, NULL, err) != ERR_OK ||
            (names->count > 0 && s3_delete(&s3->base, names->keys, names->count, err) != ERR_OK))
            return err->code;
    } while (names->count == S3_DELETE_MAX);
    return ERR_OK;
}

/* ---- idle uploads ---- */

struct s3_sessions *s3_sessions_new(void)
{
    struct s3_sessions *sessions = calloc(1, sizeof(*sessions));
    if (sessions)
        pthread_mutex_init(&sessions->mutex, NULL);
    return sessions;
}

void s3_sessions_free(struct s3_sessions *sessions)
{
    if (!sessions)
        return;
    while (sessions->first) {
        struct s3_upload *upload = sessions->first;
        sessions->first = upload->next;
        s3_upload_free(upload);
    }
    pthread_mutex_destroy(&sessions->mutex);
    free(sessions);
}

struct s3_upload *s3_sessions_take(struct s3 *s3, const char *id)
{
    struct s3_sessions *sessions = s3->sessions;
    pthread_mutex_lock(&sessions->mutex);
    struct s3_upload **link = &sessions->first;
    while (*link && strcmp((*link)->id, id) != 0)
        link = &(*link)->next;
    struct s3_upload *upload = *link;
    if (upload) {
        *link = upload->next;
        upload->next = NULL;
        sessions->count--;
    }
    pthread_mutex_unlock(&sessions->mutex);
    return upload;
}

void s3_sessions_put(struct s3 *s3, struct s3_upload *upload)
{
    struct s3_sessions *sessions = s3->sessions;
    struct s3_upload *oldest = NULL;
    upload->idle_since_ms = clock_monotonic_ms();
    upload->is_claimed = false;
    pthread_mutex_lock(&sessions->mutex);
    upload->next = sessions->first;
    sessions->first = upload;
    if (++sessions->count > IDLE_MAX) {
        struct s3_upload **link = &sessions->first;
        while ((*link)->next)
            link = &(*link)->next;
        oldest = *link;
        *link = NULL;
        sessions->count--;
    }
    pthread_mutex_unlock(&sessions->mutex);
    if (oldest)
        s3_upload_free(oldest);
}

bool s3_sessions_reclaim(struct s3 *s3)
{
    struct s3_sessions *sessions = s3->sessions;
    struct s3_upload *oldest = NULL;
    pthread_mutex_lock(&sessions->mutex);
    for (struct s3_upload *upload = sessions->first; upload; upload = upload->next) {
        if (upload->slab_count > 0)
            oldest = upload;
    }
    if (oldest)
        s3_tail_unload(oldest);
    pthread_mutex_unlock(&sessions->mutex);
    return oldest != NULL;
}

/*
 * Upload sessions; the state machine is drawn in upload.h.
 *
 * A request that appends holds the session's entry in the table, so there is one at a time. The entry's mutex covers
 * each durable step against a cancel from another thread: cancel removes the session under it and leaves a mark, and
 * the appender, which looks at the mark before each step, never writes a record again.
 */
#include "registry/upload.h"

#include "base/log.h"
#include "base/metrics.h"
#include "registry/record.h"
#include "registry/registry_priv.h"

#include <assert.h>

#define REHASH_BUFFER_BYTES (256 * 1024)
#define EXPIRE_BATCH 256

/* ---- sessions being appended to ---- */

struct session {
    struct session *next;
    struct upload_id id;
    unsigned refs; /* under the table's mutex */
    pthread_mutex_t mutex;
    bool cancelled; /* under mutex */
};

struct sessions {
    pthread_mutex_t mutex;
    struct session *first; /* at most UPLOAD_APPENDING_MAX: a list, walked once a request */
    size_t count;
};

struct sessions *sessions_new(void)
{
    struct sessions *sessions = calloc(1, sizeof(*sessions));
    if (sessions)
        pthread_mutex_init(&sessions->mutex, NULL);
    return sessions;
}

void sessions_free(struct sessions *sessions)
{
    if (!sessions)
        return;
    assert(sessions->first == NULL);
    pthread_mutex_destroy(&sessions->mutex);
    free(sessions);
}

static struct session *session_find_locked(struct sessions *sessions, const struct upload_id *id)
{
    for (struct session *session = sessions->first; session; session = session->next) {
        if (strcmp(session->id.text, id->text) == 0)
            return session;
    }
    return NULL;
}

/* Take the session for this request. ERR_RANGE_INVALID when another has it, ERR_BUSY when too many are taken. */
static enum err_code session_take(struct sessions *sessions, const struct upload_id *id, struct session **out,
                                  struct err *err)
{
    auto_unlock lock = lock_mutex(&sessions->mutex);
    if (session_find_locked(sessions, id))
        return err_set(err, ERR_RANGE_INVALID,
                       "another request is writing to this upload: ask for its status and go on from there");
    if (sessions->count == UPLOAD_APPENDING_MAX)
        return err_set(err, ERR_BUSY, "%d uploads are being written to already, try again", UPLOAD_APPENDING_MAX);
    struct session *session = calloc(1, sizeof(*session));
    if (!session)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    session->id = *id;
    session->refs = 1;
    pthread_mutex_init(&session->mutex, NULL);
    session->next = sessions->first;
    sessions->first = session;
    sessions->count++;
    *out = session;
    return ERR_OK;
}

static void session_unref(struct sessions *sessions, struct session *session)
{
    auto_unlock lock = lock_mutex(&sessions->mutex);
    if (--session->refs > 0)
        return;
    struct session **link = &sessions->first;
    while (*link != session)
        link = &(*link)->next;
    *link = session->next;
    sessions->count--;
    pthread_mutex_destroy(&session->mutex);
    free(session);
}

/* ---- an upload being appended to ---- */

struct upload {
    struct registry *registry;
    struct session *session; /* our entry in the table */
    bool single;             /* it lives only in this request: nothing is checkpointed */
    struct store_upload *stored;
    struct upload_id id;
    struct upload_record record; /* record.hash runs; record as of the last checkpoint plus what came since */
    struct hash begin_hash;      /* where this request began, for a rollback */
    uint64_t checkpoint_bytes;   /* size at the last checkpoint */
    uint64_t range_end;          /* 0: the request named no range */
    bool positioned;             /* the store was told where appending goes on */
    bool has_expected;           /* PUT: the digest it names is known from the start */
    struct digest expected;
    bool was_published; /* by an earlier attempt at the same PUT */
    bool is_torn;       /* an append failed: the store may hold some of its bytes, which were not hashed */
};

static void upload_free(struct upload *upload)
{
    store_upload_close(upload->stored);
    if (upload->session)
        session_unref(upload->registry->sessions, upload->session);
    free(upload);
}

static void cleanup_upload(struct upload **upload)
{
    if (*upload)
        upload_free(*upload);
}

#define auto_upload cleanup(cleanup_upload) struct upload *

static enum err_code upload_unknown(struct err *err)
{
    return err_set(err, ERR_BLOB_UPLOAD_UNKNOWN, "no such upload: it was finished, cancelled, or expired; start again");
}

static enum err_code check_not_cancelled(const struct upload *upload, struct err *err)
{
    return upload->session->cancelled ? upload_unknown(err) : ERR_OK;
}

/* Lock the session against a cancel. */
static pthread_mutex_t *upload_lock(struct upload *upload)
{
    return lock_mutex(&upload->session->mutex);
}

/* A session that cannot go on is the client's unknown upload: it is removed, the client starts again. */
static enum err_code discard_session(struct registry *registry, const struct upload_id *id, struct err *err)
{
    struct err ignored = ERR_INIT;
    log_event(LOG_WARN, "upload discarded", LOG_TEXT("upload", id->text), LOG_TEXT("reason", err_text(err)));
    if (store_upload_remove(registry->store, id->text, &ignored) != ERR_OK)
        log_event(LOG_WARN, "upload not removed", LOG_TEXT("upload", id->text), LOG_TEXT("reason", err_text(&ignored)));
    return upload_unknown(err);
}

/* Another node was faster: its bytes stay, the client asks where to go on. */
static enum err_code written_elsewhere(struct err *err)
{
    return err_become(err, ERR_RANGE_INVALID,
                      "another request has written to this upload: ask for its status and go on from there");
}

static enum err_code checkpoint_locked(struct upload *upload, struct err *err)
{
    auto_buf bytes = BUF_INIT(RECORD_BYTES_MAX);
    if (check_not_cancelled(upload, err) != ERR_OK)
        return err->code;
    upload->record.active_ms = clock_wall_ms();
    (void) snprintf(upload->record.boot_id, sizeof(upload->record.boot_id), "%s",
                    store_boot_id(upload->registry->store));
    record_encode(&upload->record, &bytes);
    enum err_code code = store_upload_checkpoint(upload->stored, buf_str(&bytes), err);
    if (code == ERR_PRECONDITION)
        return written_elsewhere(err);
    if (code == ERR_CORRUPT)
        return discard_session(upload->registry, &upload->id, err);
    if (code != ERR_OK)
        return code;
    upload->checkpoint_bytes = upload->record.hash.total_bytes;
    return ERR_OK;
}

static enum err_code checkpoint(struct upload *upload, struct err *err)
{
    auto_unlock lock = upload_lock(upload);
    return checkpoint_locked(upload, err);
}

bool upload_id_parse(struct str text, struct upload_id *out)
{
    if (text.len != UUID_TEXT_BYTES - 1)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c >= 'A' && c <= 'F')
            c = (char) (c - 'A' + 'a');
        bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
        bool is_hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
        if (is_dash ? c != '-' : !is_hex)
            return false;
        out->text[i] = c;
    }
    out->text[text.len] = '\0';
    return true;
}

/* ---- start ---- */

static enum err_code upload_new(struct registry *registry, const struct repo_name *repo,
                                enum digest_algorithm algorithm, struct upload **out, struct err *err)
{
    struct upload *upload = calloc(1, sizeof(*upload));
    if (!upload)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    upload->registry = registry;
    upload->record.repo = *repo;
    upload->record.started_ms = clock_wall_ms();
    upload->positioned = true;
    hash_init(&upload->record.hash, algorithm);
    upload->begin_hash = upload->record.hash;
    uuid_new(upload->id.text);
    if (session_take(registry->sessions, &upload->id, &upload->session, err) != ERR_OK ||
        store_upload_create(registry->store, upload->id.text, &upload->stored, err) != ERR_OK) {
        upload_free(upload);
        return err->code;
    }
    metric_add(METRIC_UPLOADS_STARTED, 1);
    *out = upload;
    return ERR_OK;
}

enum err_code upload_start(struct registry *registry, const struct repo_name *repo, enum digest_algorithm algorithm,
                           struct upload_id *out, struct err *err)
{
    auto_upload upload = NULL;
    if (upload_new(registry, repo, algorithm, &upload, err) != ERR_OK || checkpoint(upload, err) != ERR_OK)
        return err->code;
    *out = upload->id;
    return ERR_OK;
}

enum err_code upload_begin_single(struct registry *registry, const struct repo_name *repo,
                                  enum digest_algorithm algorithm, struct upload **out, struct err *err)
{
    if (upload_new(registry, repo, algorithm, out, err) != ERR_OK)
        return err->code;
    (*out)->single = true;
    return ERR_OK;
}

/* ---- take a session ---- */

/* Feed hash with what the store holds below size_bytes. The two callers are the only readers of uploaded bytes. */
static enum err_code rehash(struct upload *upload, struct hash *hash, uint64_t size_bytes, struct err *err)
{
    auto_mem char *buffer = malloc(REHASH_BUFFER_BYTES);
    if (!buffer)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    while (hash->total_bytes < size_bytes) {
        uint64_t left = size_bytes - hash->total_bytes;
        size_t want = left < REHASH_BUFFER_BYTES ? (size_t) left : REHASH_BUFFER_BYTES, got;
        if (store_upload_read(upload->stored, hash->total_bytes, buffer, want, &got, err) != ERR_OK)
            return err->code;
        if (got == 0)
            return err_set(err, ERR_CORRUPT, "the upload's bytes end early");
        hash_update(hash, buffer, got);
        metric_add(METRIC_BYTES_REHASHED, got);
    }
    return ERR_OK;
}

/* After a reboot unsynced bytes may be gone though the file is as long as before: believe them only if they hash to
 * the saved state. */
static enum err_code verify_after_reboot(struct upload *upload, struct err *err)
{
    const char *boot_id = store_boot_id(upload->registry->store);
    uint8_t expected[HASH_STATE_BYTES_MAX], actual[HASH_STATE_BYTES_MAX];
    if (upload->record.boot_id[0] == '\0' || strcmp(upload->record.boot_id, boot_id) == 0)
        return ERR_OK;
    struct hash hash;
    hash_init(&hash, upload->record.hash.algorithm);
    if (rehash(upload, &hash, upload->record.hash.total_bytes, err) != ERR_OK)
        return err->code;
    size_t len = hash_save(&upload->record.hash, expected);
    if (hash_save(&hash, actual) != len || memcmp(expected, actual, len) != 0)
        return err_set(err, ERR_CORRUPT, "the upload's bytes did not survive the reboot");
    return ERR_OK;
}

static bool is_session_damage(enum err_code code)
{
    return code == ERR_VERSION || code == ERR_CORRUPT || code == ERR_LIMIT;
}

/* Read the session back from the store into upload, whose entry in the table is taken. */
static enum err_code upload_restore(struct upload *upload, const struct repo_name *repo, struct err *err)
{
    struct registry *registry = upload->registry;
    auto_buf bytes = BUF_INIT(STORE_RECORD_BYTES_MAX);
    enum err_code code = store_upload_open(registry->store, upload->id.text, &upload->stored, &bytes, err);
    if (code == ERR_NOT_FOUND)
        return upload_unknown(err);
    if (code == ERR_OK)
        code = record_decode(buf_str(&bytes), &upload->record, err);
    if (code == ERR_OK && strcmp(upload->record.repo.text, repo->text) != 0)
        return upload_unknown(err); /* another repository's */
    if (code == ERR_OK)
        code = verify_after_reboot(upload, err);
    if (is_session_damage(code)) {
        store_upload_close(upload->stored);
        upload->stored = NULL;
        return discard_session(registry, &upload->id, err);
    }
    return code;
}

/* What this node remembers of a session may be behind what another node wrote: read it anew. */
static enum err_code upload_refresh(struct upload *upload, struct err *err)
{
    struct repo_name repo = upload->record.repo;
    auto_buf newest = BUF_INIT(STORE_RECORD_BYTES_MAX);
    store_upload_close(upload->stored);
    upload->stored = NULL;
    upload->positioned = false;
    enum err_code code = store_upload_record(upload->registry->store, upload->id.text, &newest, err);
    if (code == ERR_NOT_FOUND)
        return upload_unknown(err);
    return code == ERR_OK ? upload_restore(upload, &repo, err) : code;
}

/*
 * Where other nodes write too: a range that does not fit may fit what they wrote, and what is to be committed must be
 * all there is (of an empty session nothing can be lost: its digest says what the client means).
 */
static enum err_code catch_up_at_begin(struct upload *upload, const struct upload_range *range, bool will_end,
                                       struct err *err)
{
    uint64_t size_bytes = upload->record.hash.total_bytes;
    if (registry_is_exclusive(upload->registry))
        return ERR_OK;
    bool is_behind = range && range->first != size_bytes;
    if (!is_behind && will_end && size_bytes > 0) {
        enum err_code code = store_upload_confirm(upload->stored, err);
        is_behind = code == ERR_PRECONDITION;
        if (code != ERR_OK && !is_behind)
            return code;
    }
    return is_behind ? upload_refresh(upload, err) : ERR_OK;
}

enum err_code upload_begin(struct registry *registry, const struct repo_name *repo, const struct upload_id *id,
                           const struct upload_range *range, const struct digest *expected, struct upload **out,
                           uint64_t *out_size_bytes, struct err *err)
{
    auto_upload upload = calloc(1, sizeof(*upload));
    if (!upload)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    upload->registry = registry;
    upload->id = *id;
    *out_size_bytes = 0;
    enum err_code code = session_take(registry->sessions, id, &upload->session, err);
    if (code == ERR_RANGE_INVALID) {
        /* Busy. Name the size for the 416, or say 404 if the session is not this repository's at all. */
        struct err status = ERR_INIT;
        if (upload_status(registry, repo, id, out_size_bytes, &status) == ERR_BLOB_UPLOAD_UNKNOWN)
            *err = status;
        return err->code;
    }
    if (code != ERR_OK || upload_restore(upload, repo, err) != ERR_OK)
        return err->code;

    if (catch_up_at_begin(upload, range, expected != NULL, err) != ERR_OK)
        return err->code;
    uint64_t size_bytes = upload->record.hash.total_bytes;
    *out_size_bytes = size_bytes;
    if (range && range->first != size_bytes)
        return err_set(err, ERR_RANGE_INVALID, "the upload has %llu bytes: go on there, not at %llu",
                       (unsigned long long) size_bytes, (unsigned long long) range->first);
    if (expected && size_bytes == 0 && expected->algorithm != upload->record.hash.algorithm)
        hash_init(&upload->record.hash, expected->algorithm);
    upload->has_expected = expected != NULL;
    if (expected)
        upload->expected = *expected;
    upload->range_end = range ? range->end : 0;
    upload->begin_hash = upload->record.hash;
    upload->checkpoint_bytes = size_bytes;
    *out = TAKE_PTR(upload);
    return ERR_OK;
}

/* ---- append ---- */

/*
 * Tell the store where appending goes on. When the bytes are gone, an earlier attempt at this very PUT may have
 * published them and died before it answered: then what comes is hashed only, and commit finds the blob there.
 */
static enum err_code position(struct upload *upload, struct err *err)
{
    uint64_t blob_bytes;
    struct err ignored = ERR_INIT;
    if (upload->positioned)
        return ERR_OK;
    enum err_code code = store_upload_seek(upload->stored, upload->record.hash.total_bytes, err);
    if (code == ERR_CORRUPT && upload->has_expected) {
        code = store_blob_stat(upload->registry->store, &upload->expected, &blob_bytes, &ignored);
        upload->was_published = code == ERR_OK;
    }
    if (code == ERR_CORRUPT || code == ERR_NOT_FOUND)
        return discard_session(upload->registry, &upload->id, err);
    upload->positioned = code == ERR_OK;
    return code == ERR_OK || err->code == code ? code : err_become(err, code, "%s", ignored.message);
}

enum err_code upload_write(struct upload *upload, const void *bytes, size_t len, struct err *err)
{
    uint64_t size_bytes = upload->record.hash.total_bytes;
    auto_unlock lock = upload_lock(upload);
    if (check_not_cancelled(upload, err) != ERR_OK)
        return err->code;
    if (len == 0)
        return ERR_OK;
    if (upload->range_end && len > upload->range_end - size_bytes)
        return err_set(err, ERR_SIZE_INVALID, "the body is longer than its Content-Range says");
    if (position(upload, err) != ERR_OK)
        return err->code;
    if (!upload->was_published && store_upload_append(upload->stored, bytes, len, err) != ERR_OK) {
        upload->is_torn = true;
        return err->code == ERR_CORRUPT        ? discard_session(upload->registry, &upload->id, err)
               : err->code == ERR_PRECONDITION ? written_elsewhere(err)
                                               : err->code;
    }
    hash_update(&upload->record.hash, bytes, len);
    metric_add(METRIC_BYTES_HASHED, len);
    if (upload->single || upload->record.hash.total_bytes - upload->checkpoint_bytes < UPLOAD_CHECKPOINT_BYTES)
        return ERR_OK;
    return checkpoint_locked(upload, err);
}

static void forget_session(struct upload *upload)
{
    struct err err = ERR_INIT;
    if (store_upload_discard(upload->stored, &err) != ERR_OK)
        log_event(LOG_WARN, "upload not removed", LOG_TEXT("upload", upload->id.text),
                  LOG_TEXT("reason", err_text(&err)));
}

void upload_rollback(struct upload *upload)
{
    struct err err = ERR_INIT;
    bool moved = !upload->single && upload->checkpoint_bytes != upload->begin_hash.total_bytes;
    upload->record.hash = upload->begin_hash;
    if (moved && store_upload_seek(upload->stored, upload->begin_hash.total_bytes, &err) == ERR_CORRUPT)
        (void) discard_session(upload->registry, &upload->id, &err);
    else if (moved && checkpoint(upload, &err) != ERR_OK && err.code != ERR_BLOB_UPLOAD_UNKNOWN)
        log_event(LOG_WARN, "upload not rolled back", LOG_TEXT("upload", upload->id.text),
                  LOG_TEXT("reason", err_text(&err)));
    if (upload->single)
        forget_session(upload);
    upload_free(upload);
}

enum err_code upload_finish_chunk(struct upload *owned, uint64_t *out_size_bytes, struct err *err)
{
    auto_upload upload = owned;
    uint64_t size_bytes = upload->record.hash.total_bytes;
    if (upload->range_end && size_bytes != upload->range_end) {
        upload_rollback(TAKE_PTR(upload));
        return err_set(err, ERR_SIZE_INVALID, "the body is shorter than its Content-Range says");
    }
    if (checkpoint(upload, err) != ERR_OK)
        return err->code;
    *out_size_bytes = size_bytes;
    return ERR_OK;
}

void upload_abandon(struct upload *owned)
{
    auto_upload upload = owned;
    struct err err = ERR_INIT;
    if (upload->single) {
        upload_rollback(TAKE_PTR(upload));
        return;
    }
    if (upload->record.hash.total_bytes == upload->checkpoint_bytes)
        return;
    enum err_code code = ERR_OK;
    if (upload->is_torn) /* what is kept ends where the hash does */
        code = store_upload_seek(upload->stored, upload->record.hash.total_bytes, &err);
    if (code == ERR_OK)
        code = checkpoint(upload, &err);
    if (code != ERR_OK && code != ERR_BLOB_UPLOAD_UNKNOWN)
        log_event(LOG_WARN, "abandoned upload not kept", LOG_TEXT("upload", upload->id.text),
                  LOG_TEXT("reason", err_text(&err)));
}

/* ---- commit ---- */

/*
 * The bytes are gone: an earlier attempt at this PUT may have published them and died before it answered. They are
 * believed to be the blob of that digest only if that blob hashes to what was saved as they arrived.
 */
static enum err_code verify_published(struct upload *upload, const struct digest *expected, struct err *err)
{
    struct store *store = upload->registry->store;
    struct digest arrived, there;
    struct hash hash;
    struct store_blob blob;
    auto_mem char *buffer = malloc(REHASH_BUFFER_BYTES);
    if (!buffer)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    enum err_code code = store_blob_open(store, expected, NULL, &blob, err);
    if (code != ERR_OK)
        return code == ERR_NOT_FOUND ? err_become(err, ERR_CORRUPT, "the upload's bytes are gone") : code;
    hash_init(&hash, upload->record.hash.algorithm);
    for (size_t got = 1; code == ERR_OK && got > 0;) {
        code = store_blob_read(store, &blob, hash.total_bytes, buffer, REHASH_BUFFER_BYTES, &got, err);
        if (code == ERR_OK)
            hash_update(&hash, buffer, got);
    }
    store_blob_close(store, &blob);
    metric_add(METRIC_BYTES_REHASHED, hash.total_bytes);
    hash_digest(&upload->record.hash, &arrived);
    hash_digest(&hash, &there);
    if (code == ERR_OK && !digest_equal(&arrived, &there))
        code = err_set(err, ERR_CORRUPT, "the upload's bytes are gone");
    return code;
}

/* The digest of what was uploaded, in the algorithm of the expected one. */
static enum err_code upload_digest(struct upload *upload, const struct digest *expected, struct digest *out,
                                   struct err *err)
{
    struct hash hash = upload->record.hash;
    if (hash.algorithm == expected->algorithm) {
        hash_digest(&hash, out);
        return ERR_OK;
    }
    hash_init(&hash, expected->algorithm);
    enum err_code code = rehash(upload, &hash, upload->record.hash.total_bytes, err);
    if (code == ERR_CORRUPT) {
        code = verify_published(upload, expected, err);
        *out = *expected;
    } else {
        hash_digest(&hash, out);
    }
    return code;
}

/* Publish and reference. The session's mutex is held, so a cancel comes before or after the whole. */
static enum err_code publish_locked(struct upload *upload, const struct digest *digest, struct err *err)
{
    struct registry *registry = upload->registry;
    uint64_t size_bytes = upload->record.hash.total_bytes;
    if (check_not_cancelled(upload, err) != ERR_OK || store_upload_flush(upload->stored, err) != ERR_OK)
        return err->code == ERR_PRECONDITION ? written_elsewhere(err) : err->code;
    auto_unlock lock = lock_mutex(registry_digest_lock(registry, digest));
    struct store_blob_info info = {.size_bytes = size_bytes};
    if (store_upload_commit(upload->stored, digest, size_bytes, &info.place, err) != ERR_OK)
        return err->code;
    return blob_link_locked(registry, &upload->record.repo, digest, &info, err);
}

/* Refuse the digest: the bytes are not what the client meant, so the session ends. */
static enum err_code reject(struct upload *upload, const struct digest *expected, const struct digest *actual,
                            struct err *err)
{
    char expected_text[DIGEST_TEXT_BYTES_MAX], actual_text[DIGEST_TEXT_BYTES_MAX];
    digest_format(expected, expected_text);
    digest_format(actual, actual_text);
    forget_session(upload);
    metric_add(METRIC_UPLOADS_REJECTED, 1);
    return err_set(err, ERR_DIGEST_INVALID, "the uploaded bytes have digest %.80s, not %.80s: upload them again",
                   actual_text, expected_text);
}

/*
 * The digest is not the expected one. Did another node append what we do not know of? Then, if this request brought no
 * bytes, look again with theirs; if it brought some, they stand in the wrong place: the client must ask where to go on.
 */
static enum err_code catch_up(struct upload *upload, const struct digest *expected, struct digest *actual,
                              struct err *err)
{
    uint64_t begin_bytes = upload->begin_hash.total_bytes;
    bool brought_bytes = upload->record.hash.total_bytes != begin_bytes;
    if (upload->single || registry_is_exclusive(upload->registry) || digest_equal(expected, actual))
        return ERR_OK;
    if (upload_refresh(upload, err) != ERR_OK)
        return err->code;
    if (!brought_bytes)
        return upload_digest(upload, expected, actual, err);
    if (upload->record.hash.total_bytes == begin_bytes)
        return ERR_OK; /* we knew all: the digest is wrong */
    return err_set(err, ERR_RANGE_INVALID,
                   "another request has written to this upload: ask for its status and go on from there");
}

enum err_code upload_commit(struct upload *owned, const struct digest *digest, struct err *err)
{
    auto_upload upload = owned;
    struct digest actual;
    if (upload->range_end && upload->record.hash.total_bytes != upload->range_end) {
        upload_rollback(TAKE_PTR(upload));
        return err_set(err, ERR_SIZE_INVALID, "the body is shorter than its Content-Range says");
    }
    enum err_code code = upload_digest(upload, digest, &actual, err);
    if (code == ERR_OK)
        code = catch_up(upload, digest, &actual, err);
    if (code == ERR_PRECONDITION)
        code = written_elsewhere(err);
    auto_unlock lock = upload_lock(upload);
    if (code == ERR_OK)
        code =
            digest_equal(&actual, digest) ? publish_locked(upload, digest, err) : reject(upload, digest, &actual, err);
    if (code == ERR_CORRUPT && !upload->single)
        code = discard_session(upload->registry, &upload->id, err);
    if (code == ERR_OK) {
        forget_session(upload);
        metric_add(METRIC_UPLOADS_COMMITTED, 1);
    } else if (upload->single && code != ERR_DIGEST_INVALID) {
        forget_session(upload);
    }
    /* Unlock before the entry may go with upload_free: scopes end in the reverse order of declaration. */
    return code;
}

/* ---- status, cancel, expiry ---- */

enum err_code upload_status(struct registry *registry, const struct repo_name *repo, const struct upload_id *id,
                            uint64_t *out_size_bytes, struct err *err)
{
    auto_buf bytes = BUF_INIT(STORE_RECORD_BYTES_MAX);
    struct upload_record record;
    enum err_code code = store_upload_record(registry->store, id->text, &bytes, err);
    if (code == ERR_OK)
        code = record_decode(buf_str(&bytes), &record, err);
    if (is_session_damage(code))
        return discard_session(registry, id, err);
    if (code == ERR_NOT_FOUND || (code == ERR_OK && strcmp(record.repo.text, repo->text) != 0))
        return upload_unknown(err);
    if (code == ERR_OK)
        *out_size_bytes = record.hash.total_bytes;
    return code;
}

/* The session's entry, shared with the request that has it. NULL when none has. */
static struct session *session_share(struct sessions *sessions, const struct upload_id *id)
{
    auto_unlock lock = lock_mutex(&sessions->mutex);
    struct session *session = session_find_locked(sessions, id);
    if (session)
        session->refs++;
    return session;
}

/* Remove the session for good, whoever is appending. */
static enum err_code session_remove(struct registry *registry, const struct upload_id *id, struct err *err)
{
    struct sessions *sessions = registry->sessions;
    struct session *session;
    enum err_code code;
    while (!(session = session_share(sessions, id))) {
        code = session_take(sessions, id, &session, err);
        if (code == ERR_OK)
            break;
        if (code != ERR_RANGE_INVALID) /* else a request took it between the two looks */
            return code;
    }
    pthread_mutex_lock(&session->mutex);
    code = store_upload_remove(registry->store, id->text, err);
    session->cancelled |= code == ERR_OK;
    pthread_mutex_unlock(&session->mutex);
    session_unref(sessions, session);
    return code;
}

enum err_code upload_cancel(struct registry *registry, const struct repo_name *repo, const struct upload_id *id,
                            struct err *err)
{
    uint64_t size_bytes;
    if (upload_status(registry, repo, id, &size_bytes, err) != ERR_OK || session_remove(registry, id, err) != ERR_OK)
        return err->code;
    metric_add(METRIC_UPLOADS_CANCELLED, 1);
    return ERR_OK;
}

/* Look again once the session is ours: a request may have come and gone since it was listed. */
static bool session_is_idle(struct registry *registry, const struct upload_id *id)
{
    auto_buf bytes = BUF_INIT(STORE_RECORD_BYTES_MAX);
    struct upload_record record;
    struct err err = ERR_INIT;
    if (store_upload_record(registry->store, id->text, &bytes, &err) != ERR_OK ||
        record_decode(buf_str(&bytes), &record, &err) != ERR_OK)
        return true;
    return record.active_ms + registry->upload_idle_ms_max <= clock_wall_ms();
}

/* Remove one session if nobody is appending to it. */
static void expire_one(struct registry *registry, const char *id_text, size_t *count)
{
    struct upload_id id;
    struct session *session = NULL;
    struct err err = ERR_INIT;
    if (!upload_id_parse(str_from(id_text), &id) || session_take(registry->sessions, &id, &session, &err) != ERR_OK)
        return;
    if (!session_is_idle(registry, &id)) {
        session_unref(registry->sessions, session);
        return;
    }
    if (store_upload_remove(registry->store, id.text, &err) == ERR_OK) {
        (*count)++;
        metric_add(METRIC_UPLOADS_EXPIRED, 1);
        log_event(LOG_INFO, "upload expired", LOG_TEXT("upload", id.text));
    } else {
        log_event(LOG_WARN, "upload not removed", LOG_TEXT("upload", id.text), LOG_TEXT("reason", err_text(&err)));
    }
    session_unref(registry->sessions, session);
}

enum err_code upload_expire(struct registry *registry, size_t *out_count, struct err *err)
{
    auto_mem struct store_upload_info *batch = calloc(EXPIRE_BATCH, sizeof(*batch));
    char after[UUID_TEXT_BYTES] = "";
    size_t count;
    *out_count = 0;
    if (!batch)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    if (store_tidy(registry->store, registry->upload_idle_ms_max, err) != ERR_OK)
        return err->code;
    do {
        if (store_upload_list(registry->store, after, EXPIRE_BATCH, batch, &count, err) != ERR_OK)
            return err->code;
        uint64_t now_ms = clock_wall_ms(), idle_ms_max = registry->upload_idle_ms_max;
        for (size_t i = 0; i < count; i++) {
            if (batch[i].last_activity_ms + idle_ms_max <= now_ms)
                expire_one(registry, batch[i].id, out_count);
            memcpy(after, batch[i].id, UUID_TEXT_BYTES);
        }
    } while (count > 0);
    return ERR_OK;
}

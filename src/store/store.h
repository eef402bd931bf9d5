/*
 * The store driver's contract: small objects, blobs, and uploads that become blobs. Implemented by local.c (files);
 * an S3 driver and an in-memory one speak the same.
 *
 * Keys are relative, '/'-separated, made of checked parts (registry/keys.c spells every one); no key is empty, begins
 * with '/', or holds a component that is empty or begins with '.'. A key that is the prefix of another ("a" and "a/b")
 * never exists.
 *
 * What an answer promises: when a put, delete or commit returns ERR_OK, a power cut a moment later loses nothing.
 * When an upload checkpoint returns ERR_OK, a SIGKILL a moment later loses nothing.
 *
 * Errors, for all: ERR_NO_SPACE, ERR_READ_ONLY, ERR_STORE_GONE, ERR_IO, ERR_TIMEOUT, ERR_UPSTREAM, ERR_NO_MEMORY; each
 * function names those that mean something more.
 * Threads: all functions may be called from any thread at once; a struct store_upload and a struct store_blob have one
 * owner at a time.
 */
#ifndef ORLOP_STORE_STORE_H
#define ORLOP_STORE_STORE_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "digest/digest.h"

#define STORE_KEY_BYTES_MAX 767                  /* with a prefix of 256 before it, as much as S3 takes */
#define STORE_OBJECT_BYTES_MAX (5 * 1024 * 1024) /* small objects: the 4 MiB manifest and its envelope */
#define STORE_RECORD_BYTES_MAX 4096              /* an upload's state record */
#define STORE_LIST_MAX 10000                     /* names in one store_list */

#define STORE_PLACE_BYTES_MAX 64 /* where a blob's bytes stand, with the NUL */

struct store;        /* a driver's instance */
struct store_upload; /* an upload's storage, open for appending */

/* Capabilities that callers branch on. */
struct store_caps {
    /* This process is the only writer: what it remembers of mutable objects (tags, references) is the truth. */
    bool exclusive;
    /* Requests worth having under way at once for one operation: 1 where each costs the processor, not the network. */
    unsigned parallel;
    /* Blobs are local files: opening one does not wait, and gives a descriptor. */
    bool has_files;
    /* store_blob_url gives HTTPS addresses that clients anywhere can be expected to reach. */
    bool has_public_urls;
};

/*
 * Where a blob's bytes stand: "" at the digest's own key, else the driver's word. Commit tells it, references keep it,
 * and reading by it saves the driver from finding out.
 */
struct store_place {
    char text[STORE_PLACE_BYTES_MAX];
};

struct store_blob_info {
    uint64_t size_bytes;
    struct store_place place;
};

enum store_put_mode {
    STORE_PUT_ANY, /* create or replace */
    STORE_PUT_NEW, /* ERR_EXISTS when the key exists */
};

/* What store_list found: the part of each key after the prefix. */
struct store_names {
    char **items;
    size_t count;
    bool more; /* the limit was reached and more follow */
};

/* An upload found by store_upload_list. */
struct store_upload_info {
    char id[UUID_TEXT_BYTES];
    uint64_t last_activity_ms; /* wall clock */
};

/*
 * A blob opened for reading. With a local file fd >= 0 and the bytes stand at fd_offset in it (so that the server may
 * use sendfile); otherwise fd is -1 and store_blob_read fetches them, no further ahead than to fetch_end.
 */
struct store_blob {
    uint64_t size_bytes;
    uint64_t fetch_end; /* the reader's: it goes on reading up to there; 0: to the blob's end */
    int fd;
    uint64_t fd_offset;
    void *driver; /* the driver's own; NULL when unused */
};

/* ---- objects ---- */

/* Append the object's bytes to out. ERR_NOT_FOUND; ERR_LIMIT when it does not fit into out. */
must_check enum err_code store_get(struct store *store, const char *key, struct buf *out, struct err *err);
/* Write a whole object, atomically and durably. ERR_EXISTS with STORE_PUT_NEW. */
must_check enum err_code store_put(struct store *store, const char *key, struct str bytes, enum store_put_mode mode,
                                   struct err *err);
/* The object's size. ERR_NOT_FOUND. */
must_check enum err_code store_stat(struct store *store, const char *key, uint64_t *out_bytes, struct err *err);
/* Delete objects, durably; those missing are no error. Order is not promised; a failure may leave some deleted. */
must_check enum err_code store_delete(struct store *store, const char *const *keys, size_t count, struct err *err);
/*
 * The objects directly below prefix (which ends in '/'), in byte order, those after `after` (NULL or "": from the
 * start; it need not exist), at most limit (≤ STORE_LIST_MAX; 0: only to learn from `more` whether there are any). A
 * missing prefix is an empty list. Free with store_names_free.
 */
must_check enum err_code store_list(struct store *store, const char *prefix, const char *after, size_t limit,
                                    struct store_names *out, struct err *err);
void store_names_free(struct store_names *names);

/*
 * Call fn for every object below prefix ("" for all, else ending in '/'), in any order, with its full key. fn returns
 * false to stop early (still ERR_OK). Objects that come or go meanwhile may or may not be seen.
 */
typedef bool store_walk_fn(void *arg, const char *key, uint64_t size_bytes);
must_check enum err_code store_walk(struct store *store, const char *prefix, store_walk_fn *fn, void *arg,
                                    struct err *err);

/* ---- blobs ---- */

/* ERR_NOT_FOUND. */
must_check enum err_code store_blob_stat(struct store *store, const struct digest *digest, uint64_t *out_bytes,
                                         struct err *err);
/*
 * Open for reading; close with store_blob_close. known: what a reference says of it; NULL: find out. ERR_NOT_FOUND,
 * which with `known` may come as late as the first read.
 */
must_check enum err_code store_blob_open(struct store *store, const struct digest *digest,
                                         const struct store_blob_info *known, struct store_blob *out, struct err *err);
/* Append a URL by which a client may read the blob itself for expires_s seconds. ERR_INVALID: this store has none. */
must_check enum err_code store_blob_url(struct store *store, const struct digest *digest,
                                        const struct store_place *place, uint32_t expires_s, struct buf *out,
                                        struct err *err);
/* Read up to len bytes at offset; short only at the blob's end. len 0: only make sure that reading there will do. */
must_check enum err_code store_blob_read(struct store *store, struct store_blob *blob, uint64_t offset, void *bytes,
                                         size_t len, size_t *out_len, struct err *err);
void store_blob_close(struct store *store, struct store_blob *blob);
/* Remove the bytes for good; missing is no error. Readers that have begun to read keep theirs. */
must_check enum err_code store_blob_delete(struct store *store, const struct digest *digest, struct err *err);

/* ---- uploads: create → (append* → checkpoint)* → commit | remove ---- */

/* Make room for a new upload; nothing is kept until its first checkpoint. id is a UUID not used before. */
must_check enum err_code store_upload_create(struct store *store, const char *id, struct store_upload **out,
                                             struct err *err);
/* Reopen an upload after its last checkpoint and append that checkpoint's record to out_record (at most
 * STORE_RECORD_BYTES_MAX). ERR_NOT_FOUND. The caller reads the offset from the record and sets it by
 * store_upload_seek before it appends. */
must_check enum err_code store_upload_open(struct store *store, const char *id, struct store_upload **out,
                                           struct buf *out_record, struct err *err);
/* The record alone. ERR_NOT_FOUND. */
must_check enum err_code store_upload_record(struct store *store, const char *id, struct buf *out_record,
                                             struct err *err);
/* Append goes on at offset_bytes; bytes beyond it, from an append that was never checkpointed, are forgotten.
 * ERR_CORRUPT when fewer bytes than that are there. */
must_check enum err_code store_upload_seek(struct store_upload *upload, uint64_t offset_bytes, struct err *err);
/* Make sure, before it is committed, that no other node has appended meanwhile. ERR_PRECONDITION: one has; open it
 * again. */
must_check enum err_code store_upload_confirm(struct store_upload *upload, struct err *err);
must_check enum err_code store_upload_append(struct store_upload *upload, const void *bytes, size_t len,
                                             struct err *err);
/* Make everything appended so far, and the record, survive a SIGKILL, as one step. ERR_CORRUPT: the upload was ended
 * elsewhere. ERR_PRECONDITION: another node has
 * appended meanwhile, and nothing of ours was kept. */
must_check enum err_code store_upload_checkpoint(struct store_upload *upload, struct str record, struct err *err);
/* Read back what was appended: only for an unannounced algorithm, or to verify after a reboot. */
must_check enum err_code store_upload_read(struct store_upload *upload, uint64_t offset, void *bytes, size_t len,
                                           size_t *out_len, struct err *err);
/*
 * Make the appended bytes themselves durable, as commit does too: called first, outside locks, so that commit is short.
 */
must_check enum err_code store_upload_flush(struct store_upload *upload, struct err *err);
/*
 * Publish what was appended (size_bytes of it) as the blob, durably, without reading or copying it. The blob being
 * there already, whole, is a success (ours is dropped); so a commit repeated after a crash at any step ends in the same
 * place. The session's record stays until store_upload_remove. ERR_CORRUPT when the bytes are in neither place.
 */
must_check enum err_code store_upload_commit(struct store_upload *upload, const struct digest *digest,
                                             uint64_t size_bytes, struct store_place *out_place, struct err *err);
/*
 * Remove all the session holds, with its handle still open: after a commit, or when it is given up. After a commit a
 * driver may go on with that when it has returned; to this process the upload is unknown at once.
 */
must_check enum err_code store_upload_discard(struct store_upload *upload, struct err *err);
/* Give up the handle; what was not checkpointed may be lost. NULL is fine. */
void store_upload_close(struct store_upload *upload);
/* Remove an upload and all it holds; missing is no error. The upload must not be open. */
must_check enum err_code store_upload_remove(struct store *store, const char *id, struct err *err);
/* Up to limit uploads, ids after `after` (NULL: all) in byte order. */
must_check enum err_code store_upload_list(struct store *store, const char *after, size_t limit,
                                           struct store_upload_info *out, size_t *out_count, struct err *err);

/* ---- the store itself ---- */

/* Remove what the store keeps of uploads that belong to no session and are older than idle_ms. The janitor's. */
must_check enum err_code store_tidy(struct store *store, uint64_t idle_ms, struct err *err);

const struct store_caps *store_caps(const struct store *store);
/* "DIR" or "s3://…", for messages. */
const char *store_name(const struct store *store);
/* Can the store be read and written now? The /readyz probe; cheap; ERR_STORE_GONE, ERR_NO_SPACE, ERR_READ_ONLY. */
must_check enum err_code store_probe(struct store *store, struct err *err);
/* Changes at every reboot of whatever keeps unsynced bytes; "" when checkpoints survive a power cut anyway. */
const char *store_boot_id(const struct store *store);
/* The format marker's secret, 64 hex characters: keys for whatever must be the same on every node. */
const char *store_secret(const struct store *store);
void store_close(struct store *store);

#endif

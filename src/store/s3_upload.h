/*
 * An upload to S3, as the files of the driver's upload half see it.
 *
 *     blob bytes:   [ parts …………………………… | tail …………………… )
 *                   0                   parts_bytes      size
 *                          saved_bytes: what the last checkpoint covers
 *
 * s3_parts.c holds the tail and sends parts, s3_session.c reads and writes checkpoints and keeps idle uploads in
 * memory, s3_upload.c is the driver's contract over both.
 *
 * Parts: before a request's first part the next sequence number is claimed by a checkpoint without bytes, so of two
 * nodes only one sends. A node that takes an upload over from another also skips S3_TAKEOVER_SKIP part numbers: should
 * the other be alive after all, what it sends lands on numbers nobody uses, and its next checkpoint loses. Ceph RGW
 * refuses to complete an upload that has such stray parts: s3_salvage.c is the way round that.
 */
#ifndef ORLOP_STORE_S3_UPLOAD_H
#define ORLOP_STORE_S3_UPLOAD_H

#include "store/s3_checkpoint.h"
#include "store/s3_priv.h"

#define S3_TAKEOVER_SKIP 16
#define S3_PART_ETAG_BYTES 72
#define S3_UNVERIFIED_MS_MAX 30000 /* an upload in memory for longer is looked for in the bucket before it is used */
#define S3_TAIL_WAIT_MS 60000      /* for part memory; then the client is asked to come back */

struct s3_sent_part {
    uint16_t number;
    uint64_t size_bytes;
    char etag[S3_PART_ETAG_BYTES]; /* "" until it is sent */
};

struct s3_upload {
    struct store_upload base;
    char id[UUID_TEXT_BYTES];
    uint64_t size_bytes;

    /* the tail; its first byte is the first of slabs[0] */
    char **slabs;
    size_t slab_count, slab_cap;
    uint64_t tail_bytes;
    bool tail_is_loaded; /* false: still in the session's objects only */

    /* parts */
    char multipart_id[S3_UPLOAD_ID_BYTES_MAX]; /* "": none was begun */
    char nonce[S3_NONCE_BYTES];                /* the multipart upload was begun with; in its data's key */
    struct s3_sent_part *parts;                /* what this process sent; what others sent comes by ListParts */
    size_t part_count, part_cap;
    struct s3_part_run runs[S3_CHECKPOINT_RUNS_MAX]; /* every number that belongs to the blob */
    size_t run_count;
    uint32_t next_part;
    uint64_t parts_bytes;
    bool parts_are_known; /* every run's etags are in parts */

    /* the session's objects */
    uint32_t next_sequence;
    uint32_t tail_first;
    uint64_t saved_bytes;
    char saved_node[33]; /* who wrote the last checkpoint */
    struct buf record;
    uint64_t idle_since_ms; /* monotonic; while it waits in memory */
    bool is_claimed;
    bool is_completed; /* CompleteMultipartUpload was done */
    bool is_doubtful;  /* it was, but perhaps by another node, with parts of its own */
    bool is_committed;
    bool is_discarded;
    bool is_useless;            /* what is in memory no longer fits the checkpoints: not to be kept */
    struct s3_stream *readback; /* of the completed bytes, for an unannounced algorithm */
    uint64_t readback_position;

    /* with the senders */
    struct {
        pthread_mutex_t mutex;
        pthread_cond_t landed;
        unsigned in_flight;
        struct err failure; /* of the first part that failed; the upload is then of no more use in memory */
    } synced;

    struct s3_upload *next; /* in the idle list, the most recent first */
};

static inline struct s3 *s3_of_upload(const struct s3_upload *upload)
{
    return s3_of(upload->base.store);
}

struct s3_upload *s3_upload_new(struct store *store, const char *id); /* NULL: no memory */
void s3_upload_free(struct s3_upload *upload);                        /* waits for parts in flight */
/*
 * Where the multipart upload writes. Of its own: a node that believes in a session long after another has committed it
 * may begin and complete a second one, and must not replace what a blob's pointer names. out: STORE_PLACE_BYTES_MAX.
 */
void s3_data_key(const struct s3_upload *upload, char *out);

/* ---- s3_parts.c ---- */

/* Put bytes at the tail's end, sending parts as they fill. */
enum err_code s3_tail_append(struct s3_upload *upload, const void *bytes, size_t len, struct err *err);
/*
 * The same with bytes that are read back, sending nothing: a checkpoint after a failed part holds all that the part
 * would have held, and may be taken back by the next.
 */
enum err_code s3_tail_load(struct s3_upload *upload, const void *bytes, size_t len, struct err *err);
/* Cut the tail to its first bytes. */
void s3_tail_cut(struct s3_upload *upload, uint64_t tail_bytes);
/* Give the tail's memory back; it stays in the session's objects. */
void s3_tail_unload(struct s3_upload *upload);
/* Spans of the tail from skip on; count_max is enough for slab_count. Returns how many. */
size_t s3_tail_spans(const struct s3_upload *upload, uint64_t skip, struct str *out);
/* Send the tail as a part, short as it may be. Nothing to do when it is empty. */
enum err_code s3_tail_send(struct s3_upload *upload, struct err *err);
/* Win the next sequence number, once a request: whoever sends parts must be alone. ERR_PRECONDITION. */
enum err_code s3_claim(struct s3_upload *upload, struct err *err);
/* Wait until no more than `most` parts are in flight; the failure of any. */
enum err_code s3_parts_wait(struct s3_upload *upload, unsigned most, struct err *err);
/* Make parts complete by ListParts where other processes sent some, in order. ERR_CORRUPT when one is missing. */
enum err_code s3_parts_learn(struct s3_upload *upload, struct err *err);
/* CompleteMultipartUpload; fine when it was done before, by whomever: see is_doubtful. */
enum err_code s3_parts_complete(struct s3_upload *upload, struct err *err);
/* Is that part number one of the blob's, or a stray? */
bool s3_part_is_ours(const struct s3_upload *upload, unsigned number);

void s3_nonce_new(char *out); /* S3_NONCE_BYTES */
enum err_code s3_multipart_create(struct s3 *s3, const char *key, const char *nonce, char *out_multipart_id,
                                  struct err *err);
/* Call fn for every part of the multipart upload. ERR_NOT_FOUND: it is no more: completed, or aborted. */
enum err_code s3_multipart_list(struct s3_upload *upload, s3_part_fn *fn, void *arg, struct err *err);
/*
 * ERR_NOT_FOUND: there is no such multipart upload. ERR_CORRUPT: the store does not take these parts for it.
 * *out_ambiguous: it is done, but perhaps by another process, with parts of its own.
 */
enum err_code s3_multipart_complete(struct s3 *s3, const char *key, const char *multipart_id, const char *nonce,
                                    const struct s3_sent_part *sent, size_t count, bool *out_ambiguous,
                                    struct err *err);
enum err_code s3_multipart_abort(struct s3 *s3, const char *key, const char *multipart_id, struct err *err);

/* ---- s3_salvage.c ---- */

/* Complete in spite of parts beside ours, all of ours being known. ERR_CORRUPT: ours are not all there. */
enum err_code s3_parts_salvage(struct s3_upload *upload, struct err *err);

/* ---- s3_session.c ---- */

#define S3_SESSION_KEY_BYTES_MAX 64

/* uploads/ID/SEQUENCE, the name of a checkpoint. out has S3_SESSION_KEY_BYTES_MAX. */
void s3_session_key(const char *id, uint32_t sequence, char *out);
/* Write the next checkpoint object with the tail's unsaved bytes. ERR_PRECONDITION: another node wrote it. */
enum err_code s3_session_save(struct s3_upload *upload, struct str record, bool with_bytes, struct err *err);
/* Read the newest checkpoint into a new upload. ERR_NOT_FOUND. */
enum err_code s3_session_load(struct store *store, const char *id, struct s3_upload **out, struct err *err);
/* Bring the tail back into memory. */
enum err_code s3_session_load_tail(struct s3_upload *upload, struct err *err);
/* Delete every object of a session whose checkpoints cannot be read. */
enum err_code s3_session_delete_unread(struct s3 *s3, const char *id, struct err *err);
/* Is our last checkpoint there and the newest? No also when the session is gone. One request. */
enum err_code s3_session_is_newest(struct s3_upload *upload, bool *out, struct err *err);
/* Take the idle upload out of memory, NULL when there is none; put one in (ours no more). */
struct s3_upload *s3_sessions_take(struct s3 *s3, const char *id);
void s3_sessions_put(struct s3 *s3, struct s3_upload *upload);
/* Make the longest idle upload give its part memory back. false: none has any. */
bool s3_sessions_reclaim(struct s3 *s3);

#endif

/* Shared by the S3 driver's files; see s3.h for what it is. */
#ifndef ORLOP_STORE_S3_PRIV_H
#define ORLOP_STORE_S3_PRIV_H

#include "store/driver.h"
#include "store/s3.h"
#include "store/s3_budget.h"
#include "store/s3_sender.h"
#include "store/s3_xml.h"

#include <pthread.h>

#define S3_KEY_LOCKS 64

struct s3_sessions;
struct s3_discards;

struct s3 {
    struct store base;
    struct s3_client *client;
    struct s3_budget *budget;
    struct s3_senders *senders;
    struct s3_sessions *sessions; /* uploads between two requests, their tails in memory */
    struct s3_discards *discards; /* committed uploads whose checkpoints are being deleted */
    struct s3_settings settings;
    bool conditional;                        /* If-None-Match is honoured */
    char node[33];                           /* this process, in every checkpoint it writes */
    pthread_mutex_t key_locks[S3_KEY_LOCKS]; /* where it is not: of puts and gets, by key */
};

static inline struct s3 *s3_of(struct store *store)
{
    return (struct s3 *) store;
}

/* ---- s3_object.c ---- */

enum err_code s3_get(struct store *, const char *, struct buf *, struct err *);
enum err_code s3_put(struct store *, const char *, struct str, enum store_put_mode, struct err *);
enum err_code s3_stat(struct store *, const char *, uint64_t *, struct err *);
enum err_code s3_delete(struct store *, const char *const *, size_t, struct err *);
enum err_code s3_list(struct store *, const char *, const char *, size_t, struct store_names *, struct err *);
enum err_code s3_walk(struct store *, const char *, store_walk_fn *, void *, struct err *);

/* One page of a listing below prefix (keys as orlop's own, the bucket's prefix taken off). */
struct s3_listing {
    const char *prefix;
    const char *after;     /* first page only; NULL: from the start */
    const char *delimiter; /* NULL: none */
    size_t limit;          /* 0: as many as S3 gives (1000) */
    bool (*fn)(void *arg, const char *key, bool is_prefix, uint64_t size_bytes, uint64_t modified_ms);
    void *arg;
};
/* All pages, until fn returns false or limit entries were seen. *out_more (may be NULL): the limit cut it. */
enum err_code s3_list_all(struct s3 *s3, const struct s3_listing *listing, bool *out_more, struct err *err);
/* PUT with spans. is_new: ERR_EXISTS when the key exists (one request; where the store has no conditions, two). */
enum err_code s3_put_spans(struct s3 *s3, const char *key, const struct str *spans, size_t count, bool is_new,
                           const char *payload_sha256, struct err *err);

/* ---- s3_blob.c ---- */

enum err_code s3_blob_stat(struct store *, const struct digest *, uint64_t *, struct err *);
enum err_code s3_blob_open(struct store *, const struct digest *, const struct store_blob_info *, struct store_blob *,
                           struct err *);
enum err_code s3_blob_read(struct store *, struct store_blob *, uint64_t, void *, size_t, size_t *, struct err *);
void s3_blob_close(struct store *, struct store_blob *);
enum err_code s3_blob_delete(struct store *, const struct digest *, struct err *);
enum err_code s3_blob_url(struct store *, const struct digest *, const struct store_place *, uint32_t, struct buf *,
                          struct err *);
/* Where the blob is: one LIST, and the pointer's GET when there is one. ERR_NOT_FOUND. */
enum err_code s3_blob_find(struct s3 *s3, const struct digest *digest, uint64_t *out_bytes,
                           struct store_place *out_place, struct err *err);
/* Write the pointer from the digest to where its bytes are. ERR_EXISTS: *out_place is where another's are. */
enum err_code s3_pointer_put(struct s3 *s3, const struct digest *digest, uint64_t size_bytes,
                             const struct store_place *place, struct store_place *out_place, struct err *err);

/* ---- s3_tidy.c ---- */

enum err_code s3_tidy(struct store *, uint64_t, struct err *);

/* ---- s3_upload.c ---- */

struct s3_sessions *s3_sessions_new(void);
void s3_sessions_free(struct s3_sessions *sessions);
enum err_code s3_upload_create(struct store *, const char *, struct store_upload **, struct err *);
enum err_code s3_upload_open(struct store *, const char *, struct store_upload **, struct buf *, struct err *);
enum err_code s3_upload_record(struct store *, const char *, struct buf *, struct err *);
enum err_code s3_upload_seek(struct store_upload *, uint64_t, struct err *);
enum err_code s3_upload_confirm(struct store_upload *, struct err *);
enum err_code s3_upload_append(struct store_upload *, const void *, size_t, struct err *);
enum err_code s3_upload_checkpoint(struct store_upload *, struct str, struct err *);
enum err_code s3_upload_read(struct store_upload *, uint64_t, void *, size_t, size_t *, struct err *);
enum err_code s3_upload_flush(struct store_upload *, struct err *);
enum err_code s3_upload_commit(struct store_upload *, const struct digest *, uint64_t, struct store_place *,
                               struct err *);
void s3_upload_close(struct store_upload *);
enum err_code s3_upload_list(struct store *, const char *, size_t, struct store_upload_info *, size_t *, struct err *);

/* ---- s3_discard.c ---- */

struct s3_discards *s3_discards_new(void);
void s3_discards_close(struct s3_discards *discards); /* what is not done in some seconds from now expires */
void s3_discards_free(struct s3_discards *discards);  /* when the senders have ended */
/* Was that upload committed here, and is it being removed? */
bool s3_discards_has(struct s3_discards *discards, const char *id);
enum err_code s3_upload_discard(struct store_upload *, struct err *);
enum err_code s3_upload_remove(struct store *, const char *, struct err *);

#endif

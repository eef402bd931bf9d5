/* Shared by the local driver's files; see local.h for what it is. */
#ifndef ORLOP_STORE_LOCAL_PRIV_H
#define ORLOP_STORE_LOCAL_PRIV_H

#include "base/fs.h"
#include "store/blob_key.h"
#include "store/driver.h"
#include "store/local.h"
#include "store/local_index.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#define LOCAL_TMP "tmp"
#define LOCAL_TRIES_MAX 4 /* each race with deletes that empty an object's folder costs a put one; the last one wins */
#define LOCAL_WRITE_BACK_BYTES (8 * 1024 * 1024) /* start write-back each time so much has landed */

struct local {
    struct store base;
    char *dir;   /* absolute */
    int root_fd; /* keeps its number when the directory is reopened (dup3) */
    int lock_fd; /* -1 beside a server */
    pthread_mutex_t reopen_mutex;
    pthread_rwlock_t folders_lock; /* shared by those who remove empty folders, held by a put that lost its races */
    struct local_index *index;     /* NULL beside a server */
    _Atomic dev_t root_dev;        /* what root_fd is open on */
    _Atomic ino_t root_ino;
};

struct local_upload {
    struct store_upload base;
    char id[UUID_TEXT_BYTES];
    int data_fd; /* -1 until the first byte */
    uint64_t offset;
    uint64_t written_back_to; /* write-back was started up to here */
    bool is_synced;           /* nothing was written since the last fdatasync */
};

/* The path still names the directory we hold; if another with our secret is there, take that. Else ERR_STORE_GONE. */
enum err_code local_check_root(struct local *local, struct err *err);
/* After an operation failed: what it said, unless it is "not found" because the whole directory vanished. */
enum err_code local_explain(struct local *local, struct err *err);

/* local_object.c */
enum err_code local_get(struct store *, const char *, struct buf *, struct err *);
enum err_code local_put(struct store *, const char *, struct str, enum store_put_mode, struct err *);
enum err_code local_stat(struct store *, const char *, uint64_t *, struct err *);
enum err_code local_delete(struct store *, const char *const *, size_t, struct err *);
/* Around try number `tries` of putting something into a folder: during the last one no empty folder is removed. */
void local_race_begin(struct local *, int tries);
void local_race_end(struct local *, int tries);

/* local_list.c */
enum err_code local_list(struct store *, const char *, const char *, size_t, struct store_names *, struct err *);
enum err_code local_walk(struct store *, const char *, store_walk_fn *, void *, struct err *);
/* A page of what is of this kind in the directory at path ("." for the root), as store_list. */
enum err_code local_list_dir(struct local *, const char *path, enum local_kind kind, const char *after, size_t limit,
                             struct store_names *, struct err *);

/* local_blob.c */
enum err_code local_blob_stat(struct store *, const struct digest *, uint64_t *, struct err *);
enum err_code local_blob_open(struct store *, const struct digest *, const struct store_blob_info *,
                              struct store_blob *, struct err *);
enum err_code local_blob_read(struct store *, struct store_blob *, uint64_t, void *, size_t, size_t *, struct err *);
void local_blob_close(struct store *, struct store_blob *);
enum err_code local_blob_delete(struct store *, const struct digest *, struct err *);

/* local_upload.c */
enum err_code local_upload_create(struct store *, const char *, struct store_upload **, struct err *);
enum err_code local_upload_open(struct store *, const char *, struct store_upload **, struct buf *, struct err *);
enum err_code local_upload_record(struct store *, const char *, struct buf *, struct err *);
enum err_code local_upload_seek(struct store_upload *, uint64_t, struct err *);
enum err_code local_upload_append(struct store_upload *, const void *, size_t, struct err *);
enum err_code local_upload_checkpoint(struct store_upload *, struct str, struct err *);
enum err_code local_upload_read(struct store_upload *, uint64_t, void *, size_t, size_t *, struct err *);
enum err_code local_upload_flush(struct store_upload *, struct err *);
enum err_code local_upload_commit(struct store_upload *, const struct digest *, uint64_t, struct store_place *,
                                  struct err *);
enum err_code local_upload_discard(struct store_upload *, struct err *);
void local_upload_close(struct store_upload *);
enum err_code local_upload_remove(struct store *, const char *, struct err *);
enum err_code local_upload_list(struct store *, const char *, size_t, struct store_upload_info *, size_t *,
                                struct err *);

static inline struct local *local_of(struct store *store)
{
    return (struct local *) store;
}

#endif

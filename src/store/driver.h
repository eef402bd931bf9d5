/*
 * What a driver implements: the functions of store.h, less the "store_" (see there for what each must do), and the
 * base struct every instance and upload begins with. store.c checks keys and calls through.
 */
#ifndef ORLOP_STORE_DRIVER_H
#define ORLOP_STORE_DRIVER_H

#include "store/store.h"

struct store_ops {
    enum err_code (*get)(struct store *, const char *key, struct buf *out, struct err *);
    enum err_code (*put)(struct store *, const char *key, struct str bytes, enum store_put_mode, struct err *);
    enum err_code (*stat)(struct store *, const char *key, uint64_t *out_bytes, struct err *);
    enum err_code (*delete)(struct store *, const char *const *keys, size_t count, struct err *);
    enum err_code (*list)(struct store *, const char *prefix, const char *after, size_t limit, struct store_names *out,
                          struct err *);
    enum err_code (*walk)(struct store *, const char *prefix, store_walk_fn *, void *arg, struct err *);

    enum err_code (*blob_stat)(struct store *, const struct digest *, uint64_t *out_bytes, struct err *);
    enum err_code (*blob_open)(struct store *, const struct digest *, const struct store_blob_info *,
                               struct store_blob *out, struct err *);
    enum err_code (*blob_read)(struct store *, struct store_blob *, uint64_t offset, void *bytes, size_t len,
                               size_t *out_len, struct err *);
    void (*blob_close)(struct store *, struct store_blob *);
    /* NULL: this store has no URLs. */
    enum err_code (*blob_url)(struct store *, const struct digest *, const struct store_place *, uint32_t expires_s,
                              struct buf *out, struct err *);
    enum err_code (*blob_delete)(struct store *, const struct digest *, struct err *);

    enum err_code (*upload_create)(struct store *, const char *id, struct store_upload **out, struct err *);
    enum err_code (*upload_open)(struct store *, const char *id, struct store_upload **out, struct buf *out_record,
                                 struct err *);
    enum err_code (*upload_record)(struct store *, const char *id, struct buf *out_record, struct err *);
    enum err_code (*upload_seek)(struct store_upload *, uint64_t offset_bytes, struct err *);
    enum err_code (*upload_confirm)(struct store_upload *, struct err *); /* NULL: there are no other nodes */
    enum err_code (*upload_append)(struct store_upload *, const void *bytes, size_t len, struct err *);
    enum err_code (*upload_checkpoint)(struct store_upload *, struct str record, struct err *);
    enum err_code (*upload_read)(struct store_upload *, uint64_t offset, void *bytes, size_t len, size_t *out_len,
                                 struct err *);
    enum err_code (*upload_flush)(struct store_upload *, struct err *);
    enum err_code (*upload_commit)(struct store_upload *, const struct digest *, uint64_t size_bytes,
                                   struct store_place *out_place, struct err *);
    enum err_code (*upload_discard)(struct store_upload *, struct err *);
    void (*upload_close)(struct store_upload *);
    enum err_code (*upload_remove)(struct store *, const char *id, struct err *);
    enum err_code (*upload_list)(struct store *, const char *after, size_t limit, struct store_upload_info *out,
                                 size_t *out_count, struct err *);

    enum err_code (*tidy)(struct store *, uint64_t idle_ms, struct err *); /* NULL: nothing can be left over */
    enum err_code (*probe)(struct store *, struct err *);
    void (*close)(struct store *);
};

struct store {
    const struct store_ops *ops;
    struct store_caps caps;
    char name[512];
    char boot_id[64];
    char secret[65];
};

struct store_upload {
    struct store *store;
};

#endif

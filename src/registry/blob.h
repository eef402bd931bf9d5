/*
 * Blobs in a repository: shared bytes, readable only where a reference (refs/…) says so.
 */
#ifndef ORLOP_REGISTRY_BLOB_H
#define ORLOP_REGISTRY_BLOB_H

#include "registry/registry.h"

/* From memory. false: not known without asking the store. */
bool blob_stat_cached(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                      struct store_blob_info *out);

/* Spec: end-2 HEAD. ERR_BLOB_UNKNOWN when this repository has no such blob. */
must_check enum err_code blob_stat(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                                   struct store_blob_info *out, struct err *err);
/* Spec: end-2 GET. Close with store_blob_close on registry_store(). ERR_BLOB_UNKNOWN. */
must_check enum err_code blob_open(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                                   struct store_blob *out, struct err *err);
/*
 * A URL by which the client may read the blob from where the store keeps it. ERR_INVALID: it is not to be sent there.
 */
must_check enum err_code blob_url(struct registry *registry, const struct digest *digest,
                                  const struct store_blob_info *info, struct buf *out, struct err *err);
/* Spec: end-10. Removes this repository's reference; the bytes go with the last one. ERR_BLOB_UNKNOWN,
 * ERR_METHOD_UNSUPPORTED when deletes are off. */
must_check enum err_code blob_delete(struct registry *registry, const struct repo_name *repo,
                                     const struct digest *digest, struct err *err);
/*
 * Spec: end-11. Reference the blob of repository `from` here. from NULL: from any repository that may_read allows
 * (anonymous mount). ERR_BLOB_UNKNOWN when there is none: the caller then opens an upload (UP-9).
 */
typedef bool blob_may_read_fn(void *arg, const struct repo_name *repo);
must_check enum err_code blob_mount(struct registry *registry, const struct repo_name *repo,
                                    const struct digest *digest, const struct repo_name *from,
                                    blob_may_read_fn *may_read, void *arg, struct err *err);

#endif

/*
 * Upload sessions: open → appending* → committed | cancelled | expired.
 *
 *              upload_start            upload_write*, upload_finish_chunk
 *     (none) ───────────────► open ◄──────────────────────────────────┐
 *                              │  upload_begin                        │
 *                              ├─────────────► appending ─────────────┤
 *                              │                  │ upload_commit     │ upload_rollback, upload_abandon
 *      cancel, expiry ◄────────┤                  ▼
 *                              │              committed (the session is gone; the blob is referenced)
 *
 * A session's state is one versioned record (record.h) with the running hash's state in it; its bytes are the store's.
 * One request at a time may be appending: a second gets ERR_RANGE_INVALID. While a long body arrives the state is
 * checkpointed every UPLOAD_CHECKPOINT_BYTES, so a killed server costs the client at most that much.
 *
 * The digest is checked against the hash of the bytes as they arrived; nothing is read back, but for two cases that
 * are counted (METRIC_BYTES_REHASHED): the client closes with an algorithm it did not announce, or the machine was
 * rebooted during the upload and the unsynced bytes must be compared with the saved state.
 */
#ifndef ORLOP_REGISTRY_UPLOAD_H
#define ORLOP_REGISTRY_UPLOAD_H

#include "registry/registry.h"

#define UPLOAD_CHECKPOINT_BYTES (64ULL * 1024 * 1024)
#define UPLOAD_APPENDING_MAX 4096 /* uploads being appended to at once; more get ERR_BUSY */

struct upload_id {
    char text[UUID_TEXT_BYTES];
};

/* A session being appended to; one owner (a request); steps may run on different threads, one after the other. */
struct upload;

/* Content-Range of a chunk, half-open here: bytes [first, end). */
struct upload_range {
    uint64_t first;
    uint64_t end;
};

/* false unless text is a UUID in lower or upper case (then lower-cased). */
bool upload_id_parse(struct str text, struct upload_id *out);

/* Spec: end-4a. Open a session; algorithm is what the client announced (?digest-algorithm=), else DIGEST_SHA256. */
must_check enum err_code upload_start(struct registry *registry, const struct repo_name *repo,
                                      enum digest_algorithm algorithm, struct upload_id *out, struct err *err);

/* Spec: end-4b. A session that lives only in this request (single POST): nothing is kept until commit. */
must_check enum err_code upload_begin_single(struct registry *registry, const struct repo_name *repo,
                                             enum digest_algorithm algorithm, struct upload **out, struct err *err);

/*
 * Spec: end-5, end-6. Take the session for appending. range may be NULL (append at the end). expected, when given
 * (PUT), lets an untouched session hash with the digest's own algorithm.
 * Errors: ERR_BLOB_UPLOAD_UNKNOWN; ERR_RANGE_INVALID when range->first is not the current size or another request is
 * appending; *out_size_bytes is then set (the client's 416 names it), as it is on success.
 */
must_check enum err_code upload_begin(struct registry *registry, const struct repo_name *repo,
                                      const struct upload_id *id, const struct upload_range *range,
                                      const struct digest *expected, struct upload **out, uint64_t *out_size_bytes,
                                      struct err *err);

/* Append body bytes as they come. After an error only rollback, abandon or free are left. ERR_BLOB_UPLOAD_UNKNOWN when
 * it was cancelled meanwhile; ERR_SIZE_INVALID past the range's end. */
must_check enum err_code upload_write(struct upload *upload, const void *bytes, size_t len, struct err *err);

/* The PATCH's body is complete: checkpoint and release. On ERR_SIZE_INVALID (shorter than its range) the session is
 * rolled back to where the request began. upload is freed in every case. */
must_check enum err_code upload_finish_chunk(struct upload *upload, uint64_t *out_size_bytes, struct err *err);

/*
 * Spec: end-6. Close with the digest: verify, publish, reference, forget the session. ERR_DIGEST_INVALID removes the
 * session; any other error keeps it as it was at the last checkpoint. upload is freed in every case.
 */
must_check enum err_code upload_commit(struct upload *upload, const struct digest *digest, struct err *err);

/* The client vanished or was too slow: keep what arrived (checkpoint) and release. upload is freed. */
void upload_abandon(struct upload *owned);
/* Back to where the request began, and release. upload is freed. */
void upload_rollback(struct upload *upload);

/* Spec: end-13. Bytes held by the last checkpoint. ERR_BLOB_UPLOAD_UNKNOWN. */
must_check enum err_code upload_status(struct registry *registry, const struct repo_name *repo,
                                       const struct upload_id *id, uint64_t *out_size_bytes, struct err *err);

/* Spec: end-14. ERR_BLOB_UPLOAD_UNKNOWN. A request that is appending fails at its next step. */
must_check enum err_code upload_cancel(struct registry *registry, const struct repo_name *repo,
                                       const struct upload_id *id, struct err *err);

/* Remove sessions idle past the setting, and those whose record is unreadable. Returns how many in *out_count. */
must_check enum err_code upload_expire(struct registry *registry, size_t *out_count, struct err *err);

#endif

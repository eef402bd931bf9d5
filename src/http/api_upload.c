/*
 * Uploads: start and mount (end-4a, end-11), single POST (end-4b), chunk (end-5), commit (end-6), status (end-13),
 * cancel (end-14).
 *
 * The session's URL carries its id and nothing else, so any URL a client was ever given for it stays good.
 */
#include "http/api.h"
#include "http/endpoints.h"

#include "registry/blob.h"
#include "registry/upload.h"

/* Spec: the Range header of an upload. Docker's client cannot parse "0--1", so an empty upload is "0-0". */
static void upload_headers(struct request *request, const struct upload_id *id, uint64_t size_bytes)
{
    reply_headerf(request, "Location", "/v2/%s/blobs/uploads/%s", request->repo.text, id->text);
    reply_headerf(request, "Range", "0-%llu", (unsigned long long) (size_bytes ? size_bytes - 1 : 0));
    reply_header(request, "Docker-Upload-UUID", id->text);
}

static void reply_blob_created(struct request *request, const struct digest *digest)
{
    char text[DIGEST_TEXT_BYTES_MAX];
    digest_format(digest, text);
    reply_status(request, 201);
    api_location(request, "blobs", digest);
    reply_header(request, "Docker-Content-Digest", text);
}

/* ---- POST ---- */

static bool may_read(void *arg, const struct repo_name *repo)
{
    return request_may_pull(arg, repo);
}

/* Mount when asked for and possible; anything in the way means an ordinary upload, never an error (UP-9). */
static bool try_mount(struct request *request)
{
    struct str mount = field_query_get(&request->query, "mount");
    struct str from = field_query_get(&request->query, "from");
    struct repo_name from_name;
    struct digest digest;
    struct err err = ERR_INIT;
    if (!mount.ptr || !digest_parse(mount, &digest) || (from.ptr && repo_name_parse(from, &from_name, &err) != ERR_OK))
        return false;
    if (blob_mount(request->registry, &request->repo, &digest, from.ptr ? &from_name : NULL, may_read, request, &err) !=
        ERR_OK)
        return false;
    reply_blob_created(request, &digest);
    return true;
}

static enum err_code algorithm_read(struct request *request, enum digest_algorithm *out, struct err *err)
{
    struct str name = field_query_get(&request->query, "digest-algorithm");
    *out = DIGEST_SHA256;
    if (name.ptr && !digest_algorithm_parse(name, out))
        return err_set(err, ERR_DIGEST_INVALID, "the digest algorithm is not supported: use sha256 or sha512");
    return ERR_OK;
}

static void upload_start_run(struct request *request)
{
    enum digest_algorithm algorithm;
    struct upload_id id;
    struct err err = ERR_INIT;
    if (try_mount(request))
        return;
    if (algorithm_read(request, &algorithm, &err) != ERR_OK ||
        upload_start(request->registry, &request->repo, algorithm, &id, &err) != ERR_OK) {
        reply_error(request, &err);
        return;
    }
    reply_status(request, 202);
    upload_headers(request, &id, 0);
}

/* ---- bodies ---- */

/* A request that sends bytes: a PATCH, a PUT, or a single POST. */
struct transfer {
    struct upload *upload;
    struct upload_id id;
    struct digest digest; /* PUT and single POST */
};

static void transfer_free(struct request *request)
{
    free(request->state);
    request->state = NULL;
}

static enum err_code transfer_new(struct request *request, struct transfer **out, struct err *err)
{
    *out = request->state = calloc(1, sizeof(**out));
    return *out ? ERR_OK : err_set(err, ERR_NO_MEMORY, "out of memory");
}

static void transfer_body(struct request *request, const void *bytes, size_t len)
{
    struct transfer *transfer = request->state;
    struct err err = ERR_INIT;
    enum err_code code = upload_write(transfer->upload, bytes, len, &err);
    if (code == ERR_OK)
        return;
    if (code == ERR_SIZE_INVALID)
        upload_rollback(transfer->upload);
    else
        upload_abandon(transfer->upload);
    reply_error(request, &err);
    transfer_free(request);
}

static void transfer_gone(struct request *request)
{
    struct transfer *transfer = request->state;
    upload_abandon(transfer->upload);
    transfer_free(request);
}

/* Content-Range of a chunk. *out_has is false when there is none. */
static enum err_code range_read(struct request *request, struct upload_range *out, bool *out_has, struct err *err)
{
    struct str text = request_header(request, "Content-Range");
    *out_has = text.ptr != NULL;
    if (!*out_has)
        return ERR_OK;
    if (!field_content_range_parse(text, &out->first, &out->end))
        return err_set(err, ERR_BLOB_UPLOAD_INVALID,
                       "Content-Range is malformed: use <first byte>-<last byte>, both counted from 0");
    return ERR_OK;
}

/* The chunk's length is known before its body: refuse a contradiction at once. Checked after the range's place. */
static enum err_code length_check(struct request *request, const struct upload_range *range, struct err *err)
{
    if (request->has_content_length && request->content_length != range->end - range->first)
        return err_set(err, ERR_SIZE_INVALID, "Content-Length is %llu, but Content-Range says %llu bytes",
                       (unsigned long long) request->content_length, (unsigned long long) (range->end - range->first));
    return ERR_OK;
}

/* Take the session named in the URL; answers the error, with the session's state where the client can go on. */
static bool transfer_begin(struct request *request, const struct digest *expected)
{
    struct transfer *transfer;
    struct upload_range range;
    struct err err = ERR_INIT;
    uint64_t size_bytes = 0;
    bool has_range;
    enum err_code code = transfer_new(request, &transfer, &err);
    if (code == ERR_OK && !upload_id_parse(request->last, &transfer->id))
        code = err_set(&err, ERR_BLOB_UPLOAD_UNKNOWN, "no such upload: its id is no UUID");
    if (code == ERR_OK)
        code = range_read(request, &range, &has_range, &err);
    if (code == ERR_OK)
        code = upload_begin(request->registry, &request->repo, &transfer->id, has_range ? &range : NULL, expected,
                            &transfer->upload, &size_bytes, &err);
    if (code == ERR_OK && has_range && length_check(request, &range, &err) != ERR_OK) {
        upload_rollback(transfer->upload);
        code = err.code;
    }
    if (code == ERR_OK) {
        if (expected)
            transfer->digest = *expected;
        return true;
    }
    reply_error(request, &err);
    if (code == ERR_RANGE_INVALID)
        upload_headers(request, &transfer->id, size_bytes);
    transfer_free(request);
    return false;
}

/* ---- PATCH ---- */

static void upload_chunk_run(struct request *request)
{
    (void) transfer_begin(request, NULL);
}

static void upload_chunk_end(struct request *request)
{
    struct transfer *transfer = request->state;
    struct err err = ERR_INIT;
    uint64_t size_bytes;
    if (upload_finish_chunk(transfer->upload, &size_bytes, &err) != ERR_OK) {
        reply_error(request, &err);
    } else {
        reply_status(request, 202);
        upload_headers(request, &transfer->id, size_bytes);
    }
    transfer_free(request);
}

/* ---- PUT, and POST with ?digest= ---- */

/* ?digest= of a request that closes an upload. Nothing has been touched yet when it is refused (PUT-5). */
static enum err_code digest_parameter(struct request *request, struct digest *out, struct err *err)
{
    struct str text = field_query_get(&request->query, "digest");
    if (!text.ptr)
        return err_set(err, ERR_DIGEST_INVALID, "the request names no digest: add ?digest=<digest of the whole blob>");
    if (!digest_parse(text, out))
        return err_set(err, ERR_DIGEST_INVALID,
                       "the digest is malformed or of an unsupported algorithm: use sha256:<64 lower-case hex digits> "
                       "or sha512:<128>");
    return ERR_OK;
}

/* A range out of order is 416 even before the digest is looked at (PUT-3). Fills err with that if so. */
static bool range_is_out_of_order(struct request *request, struct upload_id *out_id, uint64_t *out_size_bytes,
                                  struct err *err)
{
    struct upload_range range;
    struct err ignored = ERR_INIT;
    bool has_range;
    if (!upload_id_parse(request->last, out_id) || range_read(request, &range, &has_range, &ignored) != ERR_OK ||
        !has_range || upload_status(request->registry, &request->repo, out_id, out_size_bytes, &ignored) != ERR_OK ||
        range.first == *out_size_bytes)
        return false;
    (void) err_set(err, ERR_RANGE_INVALID, "the upload has %llu bytes: go on there, not at %llu",
                   (unsigned long long) *out_size_bytes, (unsigned long long) range.first);
    return true;
}

static void upload_commit_run(struct request *request)
{
    struct digest digest;
    struct upload_id id;
    struct err err = ERR_INIT;
    uint64_t size_bytes;
    if (digest_parameter(request, &digest, &err) == ERR_OK) {
        (void) transfer_begin(request, &digest);
        return;
    }
    bool out_of_order = range_is_out_of_order(request, &id, &size_bytes, &err);
    reply_error(request, &err);
    if (out_of_order)
        upload_headers(request, &id, size_bytes);
}

static void transfer_commit(struct request *request)
{
    struct transfer *transfer = request->state;
    struct err err = ERR_INIT;
    if (upload_commit(transfer->upload, &transfer->digest, &err) != ERR_OK)
        reply_error(request, &err);
    else
        reply_blob_created(request, &transfer->digest);
    transfer_free(request);
}

static void upload_single_run(struct request *request)
{
    struct transfer *transfer;
    struct digest digest;
    struct err err = ERR_INIT;
    if (try_mount(request))
        return;
    if (digest_parameter(request, &digest, &err) == ERR_OK && transfer_new(request, &transfer, &err) == ERR_OK) {
        transfer->digest = digest;
        if (upload_begin_single(request->registry, &request->repo, digest.algorithm, &transfer->upload, &err) == ERR_OK)
            return;
    }
    reply_error(request, &err);
    transfer_free(request);
}

/* ---- GET and DELETE of a session ---- */

static bool session_id(struct request *request, struct upload_id *out)
{
    struct err err = ERR_INIT;
    if (upload_id_parse(request->last, out))
        return true;
    (void) err_set(&err, ERR_BLOB_UPLOAD_UNKNOWN, "no such upload: its id is no UUID");
    reply_error(request, &err);
    return false;
}

static void upload_status_run(struct request *request)
{
    struct upload_id id;
    struct err err = ERR_INIT;
    uint64_t size_bytes;
    if (!session_id(request, &id))
        return;
    if (upload_status(request->registry, &request->repo, &id, &size_bytes, &err) != ERR_OK) {
        reply_error(request, &err);
        return;
    }
    reply_status(request, 204);
    upload_headers(request, &id, size_bytes);
}

static void upload_cancel_run(struct request *request)
{
    struct upload_id id;
    struct err err = ERR_INIT;
    if (!session_id(request, &id))
        return;
    if (upload_cancel(request->registry, &request->repo, &id, &err) != ERR_OK)
        reply_error(request, &err);
    else
        reply_status(request, 204);
}

const struct endpoint endpoint_upload_start = {.name = "upload-start",
                                               .method = METHOD_POST,
                                               .access = ACCESS_PUSH,
                                               .run = upload_start_run};

const struct endpoint endpoint_upload_single = {.name = "upload-single",
                                                .method = METHOD_POST,
                                                .access = ACCESS_PUSH,
                                                .body_kind = BODY_STREAM,
                                                .run = upload_single_run,
                                                .body = transfer_body,
                                                .end = transfer_commit,
                                                .gone = transfer_gone};

const struct endpoint endpoint_upload_chunk = {.name = "upload-chunk",
                                               .method = METHOD_PATCH,
                                               .access = ACCESS_PUSH,
                                               .body_kind = BODY_STREAM,
                                               .run = upload_chunk_run,
                                               .body = transfer_body,
                                               .end = upload_chunk_end,
                                               .gone = transfer_gone};

const struct endpoint endpoint_upload_commit = {.name = "upload-commit",
                                                .method = METHOD_PUT,
                                                .access = ACCESS_PUSH,
                                                .body_kind = BODY_STREAM,
                                                .run = upload_commit_run,
                                                .body = transfer_body,
                                                .end = transfer_commit,
                                                .gone = transfer_gone};

const struct endpoint endpoint_upload_status = {.name = "upload-status",
                                                .method = METHOD_GET,
                                                .access = ACCESS_PUSH,
                                                .run = upload_status_run};

const struct endpoint endpoint_upload_cancel = {.name = "upload-cancel",
                                                .method = METHOD_DELETE,
                                                .access = ACCESS_PUSH,
                                                .run = upload_cancel_run};

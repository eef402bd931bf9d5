/* Blobs: GET and HEAD with ranges (end-2), DELETE (end-10). */
#include "http/api.h"
#include "http/endpoints.h"

#include "registry/blob.h"

#define BOUNDARY_BYTES_MAX 64
#define REDIRECT_BYTES_MAX (8 * 1024) /* a presigned URL with a session token */
#define BLOB_TYPE "application/octet-stream"

static void blob_headers(struct request *request, const struct digest *digest)
{
    api_digest_headers(request, digest);
    reply_header(request, "Accept-Ranges", "bytes");
    reply_header(request, "Cache-Control", API_IMMUTABLE);
}

/* An open blob that is no local file, read as its answer goes out. */
struct blob_source {
    struct store *store;
    struct store_blob blob;
    struct field_ranges ranges; /* none: all of it */
};

/* Where reading that begins at offset will end. */
static uint64_t ranges_end(const struct field_ranges *ranges, uint64_t offset)
{
    for (size_t i = 0; i < ranges->count; i++) {
        if (offset >= ranges->ranges[i].first && offset < ranges->ranges[i].end)
            return ranges->ranges[i].end;
    }
    return 0;
}

static enum err_code source_read(void *arg, uint64_t offset, void *bytes, size_t len, size_t *out_len, struct err *err)
{
    struct blob_source *source = arg;
    source->blob.fetch_end = ranges_end(&source->ranges, offset);
    enum err_code code = store_blob_read(source->store, &source->blob, offset, bytes, len, out_len, err);
    /* The bytes were there a moment ago, and never change: whatever it is, the client's request was fine. */
    return code == ERR_NOT_FOUND || code == ERR_PRECONDITION
               ? err_become(err, ERR_CORRUPT, "the blob's bytes have changed in the store")
               : code;
}

static void source_release(void *arg)
{
    struct blob_source *source = arg;
    store_blob_close(source->store, &source->blob);
    free(source);
}

/* What an answer's body is read from: a file's descriptor, or a source. */
struct blob_body {
    struct store_blob *blob;
    struct blob_source *source; /* NULL for a file */
};

/* Add [first, end) of the blob to the body. The last piece takes the blob over. */
static void body_add(struct request *request, const struct blob_body *body, uint64_t first, uint64_t end, bool is_last)
{
    if (body->source)
        reply_body_stream(request, first, end - first, source_read, is_last ? source_release : NULL, body->source);
    else
        reply_body_file(request, body->blob->fd, is_last, body->blob->fd_offset + first, end - first);
}

/* Several ranges in one answer (RFC 9110 §14.6): a head before each part, all parts from one blob. */
static void reply_multipart(struct request *request, const struct digest *digest, const struct blob_body *body,
                            const struct field_ranges *ranges)
{
    const struct store_blob *blob = body->blob;
    char boundary[BOUNDARY_BYTES_MAX], head[256];
    (void) snprintf(boundary, sizeof(boundary), "orlop-%s", request->id);
    reply_status(request, 206);
    blob_headers(request, digest);
    reply_headerf(request, "Content-Type", "multipart/byteranges; boundary=%s", boundary);
    for (size_t i = 0; i < ranges->count; i++) {
        const struct field_range *range = &ranges->ranges[i];
        int len = snprintf(head, sizeof(head),
                           "%s--%s\r\nContent-Type: " BLOB_TYPE "\r\nContent-Range: bytes %llu-%llu/%llu\r\n\r\n",
                           i ? "\r\n" : "", boundary, (unsigned long long) range->first,
                           (unsigned long long) range->end - 1, (unsigned long long) blob->size_bytes);
        reply_body_text(request, head, (size_t) len);
        body_add(request, body, range->first, range->end, i + 1 == ranges->count);
    }
    int len = snprintf(head, sizeof(head), "\r\n--%s--\r\n", boundary);
    reply_body_text(request, head, (size_t) len);
}

static void reply_unsatisfiable(struct request *request, uint64_t size_bytes)
{
    struct err err = ERR_INIT;
    (void) err_set(&err, ERR_RANGE_NOT_SATISFIABLE, "the blob has %llu bytes: no byte of it is in that range",
                   (unsigned long long) size_bytes);
    reply_error(request, &err);
    reply_headerf(request, "Content-Range", "bytes */%llu", (unsigned long long) size_bytes);
}

/* Does Range apply? Not on HEAD, and not when If-Range names other content. */
static struct str range_header(struct request *request, const struct digest *digest)
{
    char text[DIGEST_TEXT_BYTES_MAX];
    struct str if_range = request_header(request, "If-Range");
    digest_format(digest, text);
    if (request->is_head || (if_range.ptr && !field_etag_matches(if_range, str_from(text), false)))
        return (struct str){0};
    return request_header(request, "Range");
}

/*
 * Make ready to read the ranges (none: all of it). What is no file is asked for now, so that a failure is still an
 * answer of its own. On failure the blob is closed.
 */
static enum err_code body_open(struct request *request, struct store_blob *blob, const struct field_ranges *ranges,
                               struct blob_body *out, struct err *err)
{
    uint64_t first = ranges->count > 0 ? ranges->ranges[0].first : 0;
    struct store *store = registry_store(request->registry);
    size_t none;
    char nowhere[1];
    *out = (struct blob_body){.blob = blob};
    if (blob->fd >= 0)
        return ERR_OK;
    blob->fetch_end = ranges_end(ranges, first);
    enum err_code code = store_blob_read(store, blob, first, nowhere, 0, &none, err);
    if (code == ERR_OK && !(out->source = malloc(sizeof(*out->source))))
        code = err_set(err, ERR_NO_MEMORY, "out of memory");
    if (code != ERR_OK) {
        store_blob_close(store, blob);
        return code == ERR_NOT_FOUND ? err_become(err, ERR_CORRUPT, "the blob's bytes are missing from the store")
                                     : code;
    }
    *out->source = (struct blob_source){.store = store, .blob = *blob, .ranges = *ranges};
    out->blob = &out->source->blob;
    return ERR_OK;
}

/* Answer a GET from the open blob, which is taken over. */
static void reply_blob(struct request *request, const struct digest *digest, struct store_blob *blob)
{
    struct field_ranges ranges;
    struct str range = range_header(request, digest);
    enum field_range_kind kind = range.ptr ? field_range_parse(range, blob->size_bytes, &ranges) : FIELD_RANGE_NONE;
    if (kind == FIELD_RANGE_UNSATISFIABLE) {
        reply_unsatisfiable(request, blob->size_bytes);
        store_blob_close(registry_store(request->registry), blob);
        return;
    }
    uint64_t first = 0, end = blob->size_bytes;
    struct blob_body body;
    struct err err = ERR_INIT;
    if (kind != FIELD_RANGE_SOME)
        ranges.count = 0;
    if (body_open(request, blob, &ranges, &body, &err) != ERR_OK) {
        reply_error(request, &err);
        return;
    }
    if (kind == FIELD_RANGE_SOME && ranges.count > 1) {
        reply_multipart(request, digest, &body, &ranges);
        return;
    }
    reply_status(request, kind == FIELD_RANGE_SOME ? 206 : 200);
    if (kind == FIELD_RANGE_SOME) {
        first = ranges.ranges[0].first;
        end = ranges.ranges[0].end;
        reply_headerf(request, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long) first,
                      (unsigned long long) end - 1, (unsigned long long) blob->size_bytes);
    }
    blob_headers(request, digest);
    reply_header(request, "Content-Type", BLOB_TYPE);
    body_add(request, &body, first, end, true);
}

/* HEAD needs the size only: a body that the engine never reads gives the Content-Length. */
static void reply_blob_head(struct request *request, const struct digest *digest, uint64_t size_bytes)
{
    reply_status(request, 200);
    blob_headers(request, digest);
    reply_header(request, "Content-Type", BLOB_TYPE);
    reply_body_file(request, -1, false, 0, size_bytes);
}

/* Send the client to where the store keeps the blob, if that is asked for. HEAD is always answered here. */
static bool reply_redirect(struct request *request, const struct digest *digest, const struct store_blob_info *info)
{
    struct err err = ERR_INIT;
    auto_buf url = BUF_INIT(REDIRECT_BYTES_MAX);
    if (blob_url(request->registry, digest, info, &url, &err) != ERR_OK)
        return false;
    reply_status(request, 307);
    api_digest_headers(request, digest);
    reply_header(request, "Cache-Control", "no-store"); /* the URL is a credential, and does not last */
    reply_header(request, "Location", url.ptr);
    return true;
}

static bool blob_get_fast(struct request *request)
{
    struct digest digest;
    struct store_blob blob;
    struct err err = ERR_INIT;
    struct store_blob_info info;
    if (api_digest(request, &digest, &err) != ERR_OK) {
        reply_error(request, &err);
        return true;
    }
    if (!blob_stat_cached(request->registry, &request->repo, &digest, &info))
        return false;
    if (api_not_modified(request, &digest))
        return true;
    if (request->is_head) {
        reply_blob_head(request, &digest, info.size_bytes);
        return true;
    }
    if (!store_caps(registry_store(request->registry))->has_files ||
        store_blob_open(registry_store(request->registry), &digest, &info, &blob, &err) != ERR_OK)
        return false; /* deleted or damaged: for run() to find out */
    if (blob.size_bytes != info.size_bytes) {
        store_blob_close(registry_store(request->registry), &blob);
        return false;
    }
    reply_blob(request, &digest, &blob);
    return true;
}

static void blob_get_run(struct request *request)
{
    struct digest digest;
    struct store_blob blob;
    struct err err = ERR_INIT;
    struct store_blob_info info;
    if (api_digest(request, &digest, &err) != ERR_OK ||
        blob_stat(request->registry, &request->repo, &digest, &info, &err) != ERR_OK) {
        reply_error(request, &err);
    } else if (api_not_modified(request, &digest)) {
        return;
    } else if (request->is_head) {
        reply_blob_head(request, &digest, info.size_bytes);
    } else if (reply_redirect(request, &digest, &info)) {
        return;
    } else if (blob_open(request->registry, &request->repo, &digest, &blob, &err) != ERR_OK) {
        reply_error(request, &err);
    } else {
        reply_blob(request, &digest, &blob);
    }
}

static void blob_delete_run(struct request *request)
{
    struct digest digest;
    struct err err = ERR_INIT;
    if (api_digest(request, &digest, &err) != ERR_OK ||
        blob_delete(request->registry, &request->repo, &digest, &err) != ERR_OK)
        reply_error(request, &err);
    else
        reply_status(request, 202);
}

const struct endpoint endpoint_blob_get = {.name = "blob-get",
                                           .method = METHOD_GET,
                                           .access = ACCESS_PULL,
                                           .fast = blob_get_fast,
                                           .run = blob_get_run};

const struct endpoint endpoint_blob_delete = {.name = "blob-delete",
                                              .method = METHOD_DELETE,
                                              .access = ACCESS_DELETE,
                                              .run = blob_delete_run};

/* GET /v2/ (end-1), and what all endpoints share. */
#include "http/api.h"
#include "http/endpoints.h"

#include "digest/digest.h"

enum err_code api_digest(struct request *request, struct digest *out, struct err *err)
{
    if (!digest_parse(request->last, out))
        return err_set(err, ERR_DIGEST_INVALID,
                       "the digest is malformed or of an unsupported algorithm: use sha256:<64 lower-case hex digits> "
                       "or sha512:<128>");
    return ERR_OK;
}

void api_digest_headers(struct request *request, const struct digest *digest)
{
    char text[DIGEST_TEXT_BYTES_MAX];
    digest_format(digest, text);
    reply_header(request, "Docker-Content-Digest", text);
    reply_headerf(request, "ETag", "\"%s\"", text);
}

void api_location(struct request *request, const char *kind, const struct digest *digest)
{
    char text[DIGEST_TEXT_BYTES_MAX];
    digest_format(digest, text);
    reply_headerf(request, "Location", "/v2/%s/%s/%s", request->repo.text, kind, text);
}

bool api_not_modified(struct request *request, const struct digest *digest)
{
    char text[DIGEST_TEXT_BYTES_MAX];
    struct str if_match = request_header(request, "If-Match");
    struct str if_none_match = request_header(request, "If-None-Match");
    if (!if_match.ptr && !if_none_match.ptr)
        return false;
    digest_format(digest, text);
    if (if_match.ptr && !field_etag_matches(if_match, str_from(text), false)) {
        struct err err = ERR_INIT;
        (void) err_set(&err, ERR_TAG_MISMATCH, "the content is %s, which If-Match does not name", text);
        reply_error(request, &err);
        return true;
    }
    if (if_none_match.ptr && field_etag_matches(if_none_match, str_from(text), true)) {
        reply_status(request, 304);
        api_digest_headers(request, digest);
        return true;
    }
    return false;
}

void api_json(struct request *request, const char *content_type, struct buf *body)
{
    reply_status(request, 200);
    reply_header(request, "Content-Type", content_type);
    reply_body_take(request, body);
}

enum err_code api_page_limit(struct request *request, size_t default_limit, size_t *out, struct err *err)
{
    struct str n = field_query_get(&request->query, "n");
    uint64_t value;
    *out = default_limit;
    if (!n.ptr)
        return ERR_OK;
    if (!str_parse_u64(n, &value))
        return err_set(err, ERR_PAGINATION_INVALID, "'n' must be a number of entries, 0 or more");
    *out = value > REGISTRY_PAGE_ENTRIES_MAX ? REGISTRY_PAGE_ENTRIES_MAX : (size_t) value;
    return ERR_OK;
}

static bool ping_fast(struct request *request)
{
    reply_status(request, 200);
    reply_header(request, "Content-Type", "application/json");
    reply_body_text(request, "{}", 2);
    return true;
}

static void ping_run(struct request *request)
{
    (void) ping_fast(request);
}

const struct endpoint endpoint_ping = {.name = "ping",
                                       .method = METHOD_GET,
                                       .access = ACCESS_NONE,
                                       .fast = ping_fast,
                                       .run = ping_run};

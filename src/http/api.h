/* What the endpoint files share. */
#ifndef ORLOP_HTTP_API_H
#define ORLOP_HTTP_API_H

#include "http/request.h"
#include "registry/manifest.h"

#define API_IMMUTABLE "max-age=31536000, immutable" /* content under its digest never changes */

/* Parse request->last as a digest; ERR_DIGEST_INVALID. */
must_check enum err_code api_digest(struct request *request, struct digest *out, struct err *err);
/* Docker-Content-Digest, ETag and, for a caller that has it, nothing more. */
void api_digest_headers(struct request *request, const struct digest *digest);
/* Location: /v2/<name>/<kind>/<digest>, a path: right behind every proxy. */
void api_location(struct request *request, const char *kind, const struct digest *digest);
/* GET's conditions on an entity tag (RFC 9110 §13): true when a 304 or 412 was answered. */
bool api_not_modified(struct request *request, const struct digest *digest);
/* A whole JSON answer; body moves into it. */
void api_json(struct request *request, const char *content_type, struct buf *body);
/* n of a paged list. ERR_PAGINATION_INVALID. Absent: default_limit; larger than the most: the most. */
must_check enum err_code api_page_limit(struct request *request, size_t default_limit, size_t *out, struct err *err);

#endif

/*
 * From method and path to an endpoint. Names may contain "blobs", "manifests", "tags" and so on as components, so the
 * fixed suffix is matched from the right, then the name is validated.
 *
 *     /v2/                                      ping
 *     /v2/_catalog                              catalog
 *     /v2/<name>/tags/list                      tags
 *     /v2/<name>/manifests/<tag-or-digest>      manifest
 *     /v2/<name>/blobs/<digest>                 blob
 *     /v2/<name>/blobs/uploads/                 upload start (also without the last slash)
 *     /v2/<name>/blobs/uploads/<uuid>           upload session
 *     /v2/<name>/referrers/<digest>             referrers
 */
#ifndef ORLOP_HTTP_ROUTE_H
#define ORLOP_HTTP_ROUTE_H

#include "http/request.h"

/*
 * Fill request->endpoint, repo and last from request->method, request->query and the raw path (without the query). The
 * path is decoded into storage (path.len + 1 bytes), which request->last then points into. Errors: ERR_ROUTE_UNKNOWN,
 * ERR_METHOD_UNSUPPORTED (*out_allow then names the methods for the Allow header), ERR_NAME_INVALID,
 * ERR_REQUEST_INVALID for bad escapes. HEAD finds GET's endpoint and sets is_head.
 */
must_check enum err_code route_find(struct request *request, struct str path, char *storage, const char **out_allow,
                                    struct err *err);

#endif

/*
 * Every error orlop knows, in one table: ERR(name, OCI code, HTTP status, text).
 *
 * The first block is what the lower layers speak (files, S3); registry/ translates it once, where the meaning is
 * known, into the second block, whose OCI codes are those of distribution-spec "Error codes" (code-1 … code-14).
 * Only http/reply.c turns a row into a status and a body.
 */
/* clang-format off */
ERR(NOT_FOUND,          "UNKNOWN",               500, "not found")
ERR(EXISTS,             "UNKNOWN",               500, "exists already")
ERR(PRECONDITION,       "UNKNOWN",               412, "the precondition does not hold")
ERR(NO_SPACE,           "UNAVAILABLE",           507, "the store is full")
ERR(READ_ONLY,          "UNAVAILABLE",           503, "the store cannot be written")
ERR(STORE_GONE,         "UNAVAILABLE",           503, "the store is not reachable")
ERR(BUSY,               "UNAVAILABLE",           503, "the server is busy, try again")
ERR(TIMEOUT,            "UNAVAILABLE",           503, "the store took too long")
ERR(UPSTREAM,           "UNAVAILABLE",           503, "the object store failed")
ERR(CORRUPT,            "UNKNOWN",               500, "stored data is damaged")
ERR(VERSION,            "UNKNOWN",               500, "stored data has a format version this release does not know")
ERR(IO,                 "UNKNOWN",               500, "input or output failed")
ERR(NO_MEMORY,          "UNAVAILABLE",           503, "out of memory")
ERR(LIMIT,              "UNKNOWN",               500, "a limit was reached")
ERR(INVALID,            "UNKNOWN",               500, "invalid value")

ERR(BLOB_UNKNOWN,          "BLOB_UNKNOWN",          404, "blob unknown to repository")
ERR(BLOB_UPLOAD_INVALID,   "BLOB_UPLOAD_INVALID",   400, "blob upload invalid")
ERR(BLOB_UPLOAD_UNKNOWN,   "BLOB_UPLOAD_UNKNOWN",   404, "blob upload unknown to registry")
ERR(RANGE_INVALID,         "BLOB_UPLOAD_INVALID",   416, "the range does not continue the upload")
ERR(RANGE_NOT_SATISFIABLE, "UNSUPPORTED",           416, "the range lies outside the blob")
ERR(DIGEST_INVALID,        "DIGEST_INVALID",        400, "provided digest did not match uploaded content")
ERR(MANIFEST_BLOB_UNKNOWN, "MANIFEST_BLOB_UNKNOWN", 400, "manifest references a manifest or blob unknown to registry")
ERR(MANIFEST_INVALID,      "MANIFEST_INVALID",      400, "manifest invalid")
ERR(MANIFEST_TOO_BIG,      "MANIFEST_INVALID",      413, "manifest too big")
ERR(MANIFEST_UNKNOWN,      "MANIFEST_UNKNOWN",      404, "manifest unknown to registry")
ERR(NAME_INVALID,          "NAME_INVALID",          400, "invalid repository name")
ERR(NAME_UNKNOWN,          "NAME_UNKNOWN",          404, "repository name not known to registry")
ERR(SIZE_INVALID,          "SIZE_INVALID",          400, "provided length did not match content length")
ERR(TAG_INVALID,           "TAG_INVALID",           400, "invalid tag")
ERR(TAGS_TOO_MANY,         "TAG_INVALID",           414, "too many tag parameters")
ERR(PAGINATION_INVALID,    "PAGINATION_NUMBER_INVALID", 400, "invalid number of results requested")
ERR(REQUEST_INVALID,       "UNSUPPORTED",           400, "the request is malformed")
ERR(REQUEST_HEAD_TOO_BIG,  "UNSUPPORTED",           431, "the request line and headers are too long")
ERR(REQUEST_BODY_TOO_BIG,  "UNSUPPORTED",           413, "the request has a body that is not expected here")
ERR(QUERY_TOO_LONG,        "UNSUPPORTED",           414, "too many query parameters")
ERR(REQUEST_TIMEOUT,       "UNSUPPORTED",           408, "the request arrived too slowly")
ERR(ROUTE_UNKNOWN,         "UNSUPPORTED",           404, "no such endpoint")
ERR(METHOD_UNSUPPORTED,    "UNSUPPORTED",           405, "the operation is unsupported")
ERR(TAG_MISMATCH,          "DENIED",                412, "the tag no longer has the expected value")
ERR(UNAUTHORIZED,          "UNAUTHORIZED",          401, "authentication required")
ERR(DENIED,                "DENIED",                403, "requested access to the resource is denied")
ERR(TOO_MANY_REQUESTS,     "TOOMANYREQUESTS",       429, "too many requests")
/* clang-format on */

/*
 * Routes (input: method, space, target): an endpoint is found with a valid name and a last part without NULs, or the
 * error is one that a client can be told. The endpoints are stand-ins, so that none of theirs is linked.
 */
#include "fuzz.h"
#include "http/endpoints.h"
#include "http/route.h"

const struct endpoint endpoint_ping, endpoint_catalog, endpoint_tags, endpoint_referrers;
const struct endpoint endpoint_manifest_get, endpoint_manifest_put, endpoint_manifest_delete;
const struct endpoint endpoint_blob_get, endpoint_blob_delete;
const struct endpoint endpoint_upload_start, endpoint_upload_single, endpoint_upload_chunk;
const struct endpoint endpoint_upload_commit, endpoint_upload_status, endpoint_upload_cancel;

/* The method by name; target becomes what follows the space. */
static enum http_method take_method(struct str *target)
{
    static const struct {
        struct str name;
        enum http_method method;
    } methods[] = {
        {{"GET ", 4}, METHOD_GET}, {{"HEAD ", 5}, METHOD_HEAD},   {{"POST ", 5}, METHOD_POST},
        {{"PUT ", 4}, METHOD_PUT}, {{"PATCH ", 6}, METHOD_PATCH}, {{"DELETE ", 7}, METHOD_DELETE},
    };
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (str_starts(*target, methods[i].name)) {
            *target = (struct str){target->ptr + methods[i].name.len, target->len - methods[i].name.len};
            return methods[i].method;
        }
    }
    return METHOD_OTHER;
}

static void check_found(const struct request *request)
{
    struct err err = ERR_INIT;
    struct repo_name repo;
    assert(request->endpoint);
    assert(request->last.ptr && !memchr(request->last.ptr, '\0', request->last.len));
    assert(!memchr(request->last.ptr, '/', request->last.len));
    if (request->endpoint == &endpoint_ping || request->endpoint == &endpoint_catalog)
        assert(request->repo.text[0] == '\0');
    else
        assert(repo_name_parse(str_from(request->repo.text), &repo, &err) == ERR_OK);
}

static void check_refused(enum err_code code, const struct err *err, const char *allow)
{
    assert(code == err->code && err->message[0] != '\0');
    assert(code == ERR_ROUTE_UNKNOWN || code == ERR_METHOD_UNSUPPORTED || code == ERR_NAME_INVALID ||
           code == ERR_REQUEST_INVALID);
    assert((code == ERR_METHOD_UNSUPPORTED) == (allow != NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str path = fuzz_text(data, size);
    struct request request = {.method = take_method(&path)};
    const char *mark = path.len > 0 ? memchr(path.ptr, '?', path.len) : NULL;
    struct str query = {NULL, 0};
    if (mark) {
        query = (struct str){mark + 1, path.len - (size_t) (mark - path.ptr) - 1};
        path.len = (size_t) (mark - path.ptr);
    }

    auto_mem char *storage = malloc(path.len + 1);
    if (storage && field_query_parse(query, &request.query)) {
        struct err err = ERR_INIT;
        const char *allow = NULL;
        enum err_code code = route_find(&request, path, storage, &allow, &err);
        if (code == ERR_OK)
            check_found(&request);
        else
            check_refused(code, &err, allow);
    }
    field_query_free(&request.query);
    return 0;
}

#include "http/route.h"

#include "http/endpoints.h"
#include "http/field.h"

/* What a path can name; each has its endpoints by method in `routes`. */
enum resource {
    RESOURCE_PING,
    RESOURCE_CATALOG,
    RESOURCE_TAGS,
    RESOURCE_MANIFEST,
    RESOURCE_BLOB,
    RESOURCE_UPLOADS,
    RESOURCE_UPLOAD,
    RESOURCE_REFERRERS,
    RESOURCE_COUNT
};

#define METHOD_COUNT (METHOD_OTHER + 1)

static const struct {
    const char *allow;
    const struct endpoint *endpoints[METHOD_COUNT];
} routes[RESOURCE_COUNT] = {
    [RESOURCE_PING] = {"GET, HEAD", {[METHOD_GET] = &endpoint_ping}},
    [RESOURCE_CATALOG] = {"GET, HEAD", {[METHOD_GET] = &endpoint_catalog}},
    [RESOURCE_TAGS] = {"GET, HEAD", {[METHOD_GET] = &endpoint_tags}},
    [RESOURCE_MANIFEST] = {"GET, HEAD, PUT, DELETE",
                           {[METHOD_GET] = &endpoint_manifest_get,
                            [METHOD_PUT] = &endpoint_manifest_put,
                            [METHOD_DELETE] = &endpoint_manifest_delete}},
    [RESOURCE_BLOB] = {"GET, HEAD, DELETE",
                       {[METHOD_GET] = &endpoint_blob_get, [METHOD_DELETE] = &endpoint_blob_delete}},
    [RESOURCE_UPLOADS] = {"POST", {[METHOD_POST] = &endpoint_upload_start}},
    [RESOURCE_UPLOAD] = {"GET, HEAD, PATCH, PUT, DELETE",
                         {[METHOD_GET] = &endpoint_upload_status,
                          [METHOD_PATCH] = &endpoint_upload_chunk,
                          [METHOD_PUT] = &endpoint_upload_commit,
                          [METHOD_DELETE] = &endpoint_upload_cancel}},
    [RESOURCE_REFERRERS] = {"GET, HEAD", {[METHOD_GET] = &endpoint_referrers}},
};

/* Split "a/b/c" at its last slash: *rest becomes "a/b", *out "c". false: no slash. */
static bool route_split_last(struct str *rest, struct str *out)
{
    const char *slash = rest->len > 0 ? memrchr(rest->ptr, '/', rest->len) : NULL;
    if (!slash)
        return false;
    *out = (struct str){slash + 1, rest->len - (size_t) (slash - rest->ptr) - 1};
    rest->len = (size_t) (slash - rest->ptr);
    return true;
}

/* What follows "/v2/", decoded, to a resource, the repository's name and the last part. */
static bool route_match(struct str path, enum resource *out, struct str *out_name, struct str *out_last)
{
    struct str rest = path;
    struct str last;
    struct str kind;

    *out_last = (struct str){"", 0};
    *out_name = (struct str){"", 0};
    if (path.len == 0) {
        *out = RESOURCE_PING;
        return true;
    }
    if (str_equal(path, STR("_catalog"))) {
        *out = RESOURCE_CATALOG;
        return true;
    }
    if (!route_split_last(&rest, &last) || !route_split_last(&rest, &kind))
        return false;

    struct str before = rest;
    struct str outer;
    *out_name = rest;
    if (str_equal(kind, STR("tags")) && str_equal(last, STR("list"))) {
        *out = RESOURCE_TAGS;
        return true;
    }
    if (str_equal(kind, STR("blobs")) && str_equal(last, STR("uploads"))) {
        *out = RESOURCE_UPLOADS;
        return true;
    }
    if (str_equal(kind, STR("uploads")) && route_split_last(&before, &outer) && str_equal(outer, STR("blobs"))) {
        *out_name = before;
        *out_last = last;
        *out = last.len > 0 ? RESOURCE_UPLOAD : RESOURCE_UPLOADS;
        return true;
    }
    if (last.len == 0)
        return false;
    *out_last = last;
    if (str_equal(kind, STR("manifests"))) {
        *out = RESOURCE_MANIFEST;
        return true;
    }
    if (str_equal(kind, STR("blobs"))) {
        *out = RESOURCE_BLOB;
        return true;
    }
    if (str_equal(kind, STR("referrers"))) {
        *out = RESOURCE_REFERRERS;
        return true;
    }
    return false;
}

static enum err_code route_unknown(struct err *err)
{
    return err_set(err, ERR_ROUTE_UNKNOWN, "no such endpoint: the API begins at /v2/");
}

enum err_code route_find(struct request *request, struct str path, char *storage, const char **out_allow,
                         struct err *err)
{
    static const struct str prefix = {"/v2/", 4};
    struct str decoded = {storage, 0};

    *out_allow = NULL;
    if (!field_decode_path(path, storage, &decoded.len))
        return err_set(err, ERR_REQUEST_INVALID, "the path holds a bad percent-escape or a control character");
    if (str_equal(decoded, STR("/v2")))
        decoded = prefix;
    if (!str_starts(decoded, prefix))
        return route_unknown(err);

    enum resource resource;
    struct str name;
    struct str below = {decoded.ptr + prefix.len, decoded.len - prefix.len};
    if (!route_match(below, &resource, &name, &request->last))
        return route_unknown(err);

    request->is_head = request->method == METHOD_HEAD;
    enum http_method method = request->is_head ? METHOD_GET : request->method;
    request->endpoint = routes[resource].endpoints[method];
    if (!request->endpoint) {
        *out_allow = routes[resource].allow;
        return err_set(err, ERR_METHOD_UNSUPPORTED, "the method is not supported here: use one of %s",
                       routes[resource].allow);
    }
    if (request->endpoint == &endpoint_upload_start && field_query_get(&request->query, "digest").ptr)
        request->endpoint = &endpoint_upload_single;
    if (resource == RESOURCE_PING || resource == RESOURCE_CATALOG)
        return ERR_OK;
    return repo_name_parse(name, &request->repo, err);
}

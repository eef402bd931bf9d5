#include "http/endpoints.h"
#include "http/route.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define DIGEST "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct found {
    struct request request;
    char storage[512];
    const char *allow;
    struct err err;
};

static enum err_code find(struct found *found, enum http_method method, const char *path)
{
    memset(found, 0, sizeof(*found));
    found->request.method = method;
    return route_find(&found->request, str_from(path), found->storage, &found->allow, &found->err);
}

static void test_finds_every_endpoint(void **state)
{
    static const struct {
        enum http_method method;
        const char *path;
        const struct endpoint *endpoint;
        const char *repo;
        const char *last;
    } cases[] = {
        {METHOD_GET, "/v2/", &endpoint_ping, "", ""},
        {METHOD_HEAD, "/v2/", &endpoint_ping, "", ""},
        {METHOD_GET, "/v2", &endpoint_ping, "", ""},
        {METHOD_GET, "/v2/_catalog", &endpoint_catalog, "", ""},
        {METHOD_GET, "/v2/a/tags/list", &endpoint_tags, "a", ""},
        {METHOD_GET, "/v2/a/b/c/manifests/latest", &endpoint_manifest_get, "a/b/c", "latest"},
        {METHOD_HEAD, "/v2/a/manifests/" DIGEST, &endpoint_manifest_get, "a", DIGEST},
        {METHOD_PUT, "/v2/a/manifests/1.0", &endpoint_manifest_put, "a", "1.0"},
        {METHOD_DELETE, "/v2/a/manifests/1.0", &endpoint_manifest_delete, "a", "1.0"},
        {METHOD_GET, "/v2/a/blobs/" DIGEST, &endpoint_blob_get, "a", DIGEST},
        {METHOD_DELETE, "/v2/a/blobs/" DIGEST, &endpoint_blob_delete, "a", DIGEST},
        {METHOD_POST, "/v2/a/blobs/uploads/", &endpoint_upload_start, "a", ""},
        {METHOD_POST, "/v2/a/blobs/uploads", &endpoint_upload_start, "a", ""},
        {METHOD_PATCH, "/v2/a/blobs/uploads/u-1", &endpoint_upload_chunk, "a", "u-1"},
        {METHOD_PUT, "/v2/a/blobs/uploads/u-1", &endpoint_upload_commit, "a", "u-1"},
        {METHOD_GET, "/v2/a/blobs/uploads/u-1", &endpoint_upload_status, "a", "u-1"},
        {METHOD_DELETE, "/v2/a/blobs/uploads/u-1", &endpoint_upload_cancel, "a", "u-1"},
        {METHOD_GET, "/v2/a/referrers/" DIGEST, &endpoint_referrers, "a", DIGEST},
        /* Names hold the same words as routes; escapes are decoded before both. */
        {METHOD_GET, "/v2/blobs/uploads/tags/list", &endpoint_tags, "blobs/uploads", ""},
        {METHOD_GET, "/v2/manifests/manifests/manifests", &endpoint_manifest_get, "manifests", "manifests"},
        {METHOD_POST, "/v2/tags/list/blobs/uploads/", &endpoint_upload_start, "tags/list", ""},
        {METHOD_GET, "/v2/a%2fb/blobs/sha256%3A00", &endpoint_blob_get, "a/b", "sha256:00"},
    };

    (void) state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct found found;
        print_message("%s\n", cases[i].path);
        assert_int_equal(find(&found, cases[i].method, cases[i].path), ERR_OK);
        assert_ptr_equal(found.request.endpoint, cases[i].endpoint);
        assert_string_equal(found.request.repo.text, cases[i].repo);
        assert_true(str_equal(found.request.last, str_from(cases[i].last)));
        assert_int_equal(found.request.is_head, cases[i].method == METHOD_HEAD);
    }
}

static void test_refuses_the_rest(void **state)
{
    static const struct {
        enum http_method method;
        const char *path;
        enum err_code code;
        const char *allow;
    } cases[] = {
        {METHOD_GET, "/", ERR_ROUTE_UNKNOWN, NULL},
        {METHOD_GET, "", ERR_ROUTE_UNKNOWN, NULL},
        {METHOD_GET, "*", ERR_ROUTE_UNKNOWN, NULL},
        {METHOD_GET, "/v1/", ERR_ROUTE_UNKNOWN, NULL},
        {METHOD_GET, "/v2/a", ERR_ROUTE_UNKNOWN, NULL},
        {METHOD_GET, "/v2/a/manifests", ERR_ROUTE_UNKNOWN, NULL},
        {METHOD_GET, "/v2/a/manifests/", ERR_ROUTE_UNKNOWN, NULL},
        {METHOD_GET, "/v2/a/tags/other", ERR_ROUTE_UNKNOWN, NULL},
        {METHOD_GET, "/v2/manifests/x", ERR_ROUTE_UNKNOWN, NULL},
        {METHOD_PUT, "/v2/", ERR_METHOD_UNSUPPORTED, "GET, HEAD"},
        {METHOD_POST, "/v2/a/manifests/x", ERR_METHOD_UNSUPPORTED, "GET, HEAD, PUT, DELETE"},
        {METHOD_GET, "/v2/a/blobs/uploads/", ERR_METHOD_UNSUPPORTED, "POST"},
        {METHOD_OTHER, "/v2/a/tags/list", ERR_METHOD_UNSUPPORTED, "GET, HEAD"},
        {METHOD_GET, "/v2/A/tags/list", ERR_NAME_INVALID, NULL},
        {METHOD_GET, "/v2//tags/list", ERR_NAME_INVALID, NULL},
        {METHOD_GET, "/v2/a//b/tags/list", ERR_NAME_INVALID, NULL},
        {METHOD_GET, "/v2/../etc/tags/list", ERR_NAME_INVALID, NULL},
        {METHOD_GET, "/v2/%2e%2e/tags/list", ERR_NAME_INVALID, NULL},
        {METHOD_GET, "/v2/a/%2E%2E/b/manifests/x", ERR_NAME_INVALID, NULL},
        {METHOD_GET, "/v2/a%00/tags/list", ERR_REQUEST_INVALID, NULL},
        {METHOD_GET, "/v2/a%0a/tags/list", ERR_REQUEST_INVALID, NULL},
        {METHOD_GET, "/v2/a%/tags/list", ERR_REQUEST_INVALID, NULL},
        {METHOD_GET, "/v2/a%zz/tags/list", ERR_REQUEST_INVALID, NULL},
    };

    (void) state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct found found;
        print_message("%s\n", cases[i].path);
        assert_int_equal(find(&found, cases[i].method, cases[i].path), cases[i].code);
        assert_int_equal(found.err.code, cases[i].code);
        assert_true(found.err.message[0] != '\0');
        if (cases[i].allow)
            assert_string_equal(found.allow, cases[i].allow);
        else
            assert_null(found.allow);
    }
}

static void test_query_chooses_single_post(void **state)
{
    struct request request = {.method = METHOD_POST};
    struct err err = ERR_INIT;
    const char *allow;
    char storage[64];

    (void) state;
    assert_true(field_query_parse(STR("digest=sha256:00"), &request.query));
    assert_int_equal(route_find(&request, STR("/v2/a/blobs/uploads/"), storage, &allow, &err), ERR_OK);
    assert_ptr_equal(request.endpoint, &endpoint_upload_single);
    field_query_free(&request.query);
    assert_true(field_query_parse(STR("mount=sha256:00&from=b"), &request.query));
    assert_int_equal(route_find(&request, STR("/v2/a/blobs/uploads/"), storage, &allow, &err), ERR_OK);
    assert_ptr_equal(request.endpoint, &endpoint_upload_start);
    field_query_free(&request.query);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_every_endpoint),
        cmocka_unit_test(test_refuses_the_rest),
        cmocka_unit_test(test_query_chooses_single_post),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

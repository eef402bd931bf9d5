#include "store/s3_target.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* Settings to what the URL of key "a/b" and of the bucket becomes. */
static const struct {
    struct s3_target_settings settings;
    const char *key_url;
    const char *bucket_url;
    const char *region;
} good[] = {
    {{.url = "s3://bucket", .region = "eu-west-1"},
     "https://bucket.s3.eu-west-1.amazonaws.com/a/b",
     "https://bucket.s3.eu-west-1.amazonaws.com/",
     "eu-west-1"},
    {{.url = "s3://bucket/some/prefix/", .region = "cn-north-1"},
     "https://bucket.s3.cn-north-1.amazonaws.com.cn/some/prefix/a/b",
     "https://bucket.s3.cn-north-1.amazonaws.com.cn/",
     "cn-north-1"},
    {{.url = "s3://bucket.with.dots", .region = "us-east-1"},
     "https://s3.us-east-1.amazonaws.com/bucket.with.dots/a/b",
     "https://s3.us-east-1.amazonaws.com/bucket.with.dots",
     "us-east-1"},
    {{.url = "s3://bucket", .region = "us-east-1", .addressing = S3_ADDRESSING_PATH},
     "https://s3.us-east-1.amazonaws.com/bucket/a/b",
     "https://s3.us-east-1.amazonaws.com/bucket",
     "us-east-1"},
    {{.url = "s3://bucket/p", .endpoint_url = "http://ceph:7480"},
     "http://ceph:7480/bucket/p/a/b",
     "http://ceph:7480/bucket",
     "us-east-1"},
    {{.url = "s3://bucket", .endpoint_url = "HTTPS://Minio.Example.com:443/", .region = "eu"},
     "https://minio.example.com/bucket/a/b",
     "https://minio.example.com/bucket",
     "eu"},
    {{.url = "s3://bucket", .endpoint_url = "http://[::1]:80/base//", .region = "auto"},
     "http://[::1]/base/bucket/a/b",
     "http://[::1]/base/bucket",
     "auto"},
    {{.url = "s3://bucket", .endpoint_url = "http://127.0.0.1:9000", .region = ""},
     "http://127.0.0.1:9000/bucket/a/b",
     "http://127.0.0.1:9000/bucket",
     "us-east-1"},
    {{.url = "s3://bucket", .endpoint_url = "http://ceph:7480/rgw", .addressing = S3_ADDRESSING_VIRTUAL},
     "http://bucket.ceph:7480/rgw/a/b",
     "http://bucket.ceph:7480/rgw",
     "us-east-1"},
    {{.url = "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/point/p", .region = "us-east-1"},
     "https://point-123456789012.s3-accesspoint.eu-west-1.amazonaws.com/p/a/b",
     "https://point-123456789012.s3-accesspoint.eu-west-1.amazonaws.com/",
     "eu-west-1"},
    {{.url = "s3://arn:aws-cn:s3:cn-north-1:123456789012:accesspoint:point"},
     "https://point-123456789012.s3-accesspoint.cn-north-1.amazonaws.com.cn/a/b",
     "https://point-123456789012.s3-accesspoint.cn-north-1.amazonaws.com.cn/",
     "cn-north-1"},
    {{.url = "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/point", .endpoint_url = "https://vpce.example"},
     "https://point-123456789012.vpce.example/a/b",
     "https://point-123456789012.vpce.example/",
     "eu-west-1"},
};

static void assert_url(const struct s3_target *target, const struct s3_endpoint *endpoint, const char *key,
                       const char *expected)
{
    auto_buf url = BUF_INIT(4096);
    assert_true(buf_appendf(&url, "%s://%s", endpoint->tls ? "https" : "http", endpoint->host));
    assert_true(s3_target_path(target, endpoint, key, &url));
    assert_string_equal(url.ptr, expected);
}

static void test_urls(void **state)
{
    (void) state;
    for (size_t i = 0; i < LENGTH(good); i++) {
        struct err err = ERR_INIT;
        struct s3_target target;
        if (s3_target_parse(&good[i].settings, &target, &err) != ERR_OK)
            fail_msg("%s: %s", good[i].settings.url, err.message);
        assert_url(&target, &target.endpoint, "a/b", good[i].key_url);
        assert_url(&target, &target.endpoint, NULL, good[i].bucket_url);
        assert_string_equal(target.region, good[i].region);
        assert_int_equal(target.is_aws, good[i].settings.endpoint_url == NULL);
        assert_false(target.has_public_endpoint);
        assert_url(&target, &target.public_endpoint, "a/b", good[i].key_url);
    }
}

static void test_public_endpoint(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct s3_target target;
    const struct s3_target_settings settings = {.url = "s3://bucket/p",
                                                .endpoint_url = "http://10.0.0.1:7480",
                                                .public_endpoint_url = "https://s3.example.com"};
    assert_int_equal(s3_target_parse(&settings, &target, &err), ERR_OK);
    assert_true(target.has_public_endpoint);
    assert_url(&target, &target.endpoint, "k", "http://10.0.0.1:7480/bucket/p/k");
    assert_url(&target, &target.public_endpoint, "k", "https://s3.example.com/bucket/p/k");
    assert_string_equal(target.prefix, "p/");
}

static void test_what_is_refused(void **state)
{
    (void) state;
    static const struct {
        struct s3_target_settings settings;
        const char *why;
    } bad[] = {
        {{.url = "bucket"}, "is no S3 store"},
        {{.url = "s3://"}, "is not a bucket name"},
        {{.url = "s3://ab", .region = "r"}, "is not a bucket name"},
        {{.url = "s3://Bucket", .region = "r"}, "is not a bucket name"},
        {{.url = "s3://-bucket", .region = "r"}, "is not a bucket name"},
        {{.url = "s3://bucket-/p", .region = "r"}, "is not a bucket name"},
        {{.url = "s3://buc..ket", .region = "r"}, "is not a bucket name"},
        {{.url = "s3://192.168.1.1", .region = "r"}, "is not a bucket name"},
        {{.url = "s3://a123456789012345678901234567890123456789012345678901234567890123"}, "is not a bucket name"},
        {{.url = "s3://bucket/a//b", .region = "r"}, "prefix"},
        {{.url = "s3://bucket/a/../b", .region = "r"}, "prefix"},
        {{.url = "s3://bucket/.", .region = "r"}, "prefix"},
        {{.url = "s3://bucket/a\nb", .region = "r"}, "prefix"},
        {{.url = "s3://bucket"}, "region of bucket 'bucket' is not known"},
        {{.url = "s3://bucket", .region = "eu west"}, "is not the name of a region"},
        {{.url = "s3://bucket", .endpoint_url = "ceph:7480"}, "endpoint"},
        {{.url = "s3://bucket", .endpoint_url = "http://"}, "endpoint"},
        {{.url = "s3://bucket", .endpoint_url = "http://h:"}, "endpoint"},
        {{.url = "s3://bucket", .endpoint_url = "http://h:0"}, "endpoint"},
        {{.url = "s3://bucket", .endpoint_url = "http://h:65536"}, "endpoint"},
        {{.url = "s3://bucket", .endpoint_url = "http://h:1x"}, "endpoint"},
        {{.url = "s3://bucket", .endpoint_url = "http://user@h"}, "endpoint"},
        {{.url = "s3://bucket", .endpoint_url = "http://h/p?q"}, "endpoint"},
        {{.url = "s3://bucket", .endpoint_url = "http://[::1"}, "endpoint"},
        {{.url = "s3://bucket", .endpoint_url = "http://[::1]x"}, "endpoint"},
        {{.url = "s3://bucket", .endpoint_url = "http://h", .public_endpoint_url = "x"}, "public endpoint"},
        {{.url = "s3://bucket", .endpoint_url = "http://127.0.0.1:1", .addressing = S3_ADDRESSING_VIRTUAL},
         "it is an address"},
        {{.url = "s3://arn:aws:s3:::bucket"}, "no access point's ARN"},
        {{.url = "s3://arn:aws:s3::123456789012:accesspoint/x.mrap"}, "multi-region"},
        {{.url = "s3://arn:aws:s3-outposts:r:123456789012:outpost/x"}, "no access point's ARN"},
        {{.url = "s3://arn:aws:s3:eu-west-1:12345678901:accesspoint/point"}, "malformed"},
        {{.url = "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/"}, "malformed"},
        {{.url = "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/po.int"}, "malformed"},
        {{.url = "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint"}, "no access point's ARN"},
    };
    for (size_t i = 0; i < LENGTH(bad); i++) {
        struct err err = ERR_INIT;
        struct s3_target target;
        assert_int_equal(s3_target_parse(&bad[i].settings, &target, &err), ERR_INVALID);
        if (!strstr(err.message, bad[i].why))
            fail_msg("%s %s: %s", bad[i].settings.url, bad[i].settings.endpoint_url, err.message);
    }
}

static void test_public_or_not(void **state)
{
    (void) state;
    static const struct {
        const char *host;
        bool is_public;
    } rows[] = {
        {"s3.amazonaws.com", true},
        {"s3.example.com:9000", true},
        {"8.8.8.8", true},
        {"[2001:4860::1]:80", true},
        {"172.32.0.1", true},
        {"ceph", false},
        {"localhost:7480", false},
        {"a.localhost", false},
        {"minio.storage.svc", false},
        {"minio.storage.svc.cluster.local:9000", false},
        {"nas.local", false},
        {"x.internal", false},
        {"127.0.0.1", false},
        {"10.1.2.3:80", false},
        {"172.16.0.1", false},
        {"172.31.255.255", false},
        {"192.168.0.1", false},
        {"169.254.1.1", false},
        {"100.64.0.1", false},
        {"0.0.0.0", false},
        {"[::1]:80", false},
        {"[fe80::1]", false},
        {"[fd00::1]", false},
        {"[::ffff:8.8.8.8]", false},
    };
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct s3_endpoint endpoint = {.tls = false};
        memcpy(endpoint.host, rows[i].host, strlen(rows[i].host));
        if (s3_endpoint_is_public(&endpoint) != rows[i].is_public)
            fail_msg("%s", rows[i].host);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_public_endpoint),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_public_or_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Against the examples of the S3 API reference ("Authenticating Requests") and rows of AWS's SigV4 test suite. */
#include "store/s3_sign.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define UNRESERVED "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define MAY_24_2013_MS 1369353600000 /* 20130524T000000Z */
#define AUG_30_2015_MS 1440938160000 /* 20150830T123600Z */

static const struct s3_keys s3_keys = {
    .access_key_id = "AKIAIOSFODNN7EXAMPLE",
    .secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
};
static const struct s3_keys suite_keys = {
    .access_key_id = "AKIDEXAMPLE",
    .secret_access_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
};

static struct s3_sign_input s3_example(const char *method, const char *path)
{
    return (struct s3_sign_input){.method = method,
                                  .host = "examplebucket.s3.amazonaws.com",
                                  .path = path,
                                  .payload_sha256 = EMPTY_SHA256,
                                  .time_ms = MAY_24_2013_MS,
                                  .region = "us-east-1",
                                  .service = "s3",
                                  .keys = &s3_keys};
}

static void assert_authorization(const struct s3_sign_input *input, const char *names, const char *signature)
{
    auto_buf out = BUF_INIT(4096);
    auto_buf expected = BUF_INIT(4096);
    assert_true(s3_authorization(&out, input));
    assert_true(buf_appendf(&expected,
                            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
                            "SignedHeaders=%s,Signature=%s",
                            names, signature));
    assert_string_equal(out.ptr, expected.ptr);
}

static void test_s3_get_object(void **state)
{
    (void) state;
    struct s3_sign_input input = s3_example("GET", "/test.txt");
    input.headers = &(struct s3_param){"Range", "bytes=0-9"};
    input.header_count = 1;
    assert_authorization(&input, "host;range;x-amz-content-sha256;x-amz-date",
                         "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void test_s3_put_object(void **state)
{
    (void) state;
    struct s3_sign_input input = s3_example("PUT", "/test$file.text");
    const struct s3_param headers[] = {{"x-amz-storage-class", "REDUCED_REDUNDANCY"},
                                       {"Date", "Fri, 24 May 2013 00:00:00 GMT"}};
    input.headers = headers;
    input.header_count = LENGTH(headers);
    input.payload_sha256 = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    assert_authorization(&input, "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                         "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void test_s3_get_lifecycle(void **state)
{
    (void) state;
    struct s3_sign_input input = s3_example("GET", "/");
    input.query = &(struct s3_param){"lifecycle", ""};
    input.query_count = 1;
    assert_authorization(&input, "host;x-amz-content-sha256;x-amz-date",
                         "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

static void test_s3_list_objects(void **state)
{
    (void) state;
    struct s3_sign_input input = s3_example("GET", "/");
    const struct s3_param query[] = {{"prefix", "J"}, {"max-keys", "2"}};
    input.query = query;
    input.query_count = LENGTH(query);
    assert_authorization(&input, "host;x-amz-content-sha256;x-amz-date",
                         "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void test_s3_presigned_url(void **state)
{
    (void) state;
    auto_buf out = BUF_INIT(4096);
    struct s3_sign_input input = s3_example("GET", "/test.txt");
    assert_true(s3_presign(&out, &input, "https", 86400));
    assert_string_equal(out.ptr, "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
                                 "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
                                 "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
                                 "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
}

static void test_presigned_parameters_are_encoded_and_in_order(void **state)
{
    (void) state;
    auto_buf out = BUF_INIT(4096);
    struct s3_sign_input input = s3_example("GET", "/a b");
    struct s3_keys keys = s3_keys;
    memcpy(keys.session_token, "to/ken+=", 9);
    input.keys = &keys;
    input.query = &(struct s3_param){"response-content-type", "application/x+y; q=1"};
    input.query_count = 1;
    assert_true(s3_presign(&out, &input, "http", 60));
    assert_non_null(strstr(out.ptr, "http://examplebucket.s3.amazonaws.com/a%20b?X-Amz-Algorithm="));
    assert_non_null(strstr(out.ptr, "&X-Amz-Expires=60&X-Amz-Security-Token=to%2Fken%2B%3D&X-Amz-SignedHeaders=host"
                                    "&response-content-type=application%2Fx%2By%3B%20q%3D1&X-Amz-Signature="));
}

/* The suite signs host and x-amz-date alone: the steps are called one by one. */
static const struct suite_row {
    const char *name;
    const char *method;
    const char *path;
    struct s3_param query[3];
    struct s3_param headers[2];
    const char *payload_sha256; /* NULL: of nothing */
    const char *signature;
} suite[] = {
    {"get-vanilla", "GET", "/", .signature = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
    {"get-vanilla-empty-query-key", "GET", "/", .query = {{"Param1", "value1"}},
     .signature = "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"},
    {"get-vanilla-query-order-key-case", "GET", "/", .query = {{"Param2", "value2"}, {"Param1", "value1"}},
     .signature = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
    {"get-vanilla-query-order-value", "GET", "/", .query = {{"Param1", "value2"}, {"Param1", "value1"}},
     .signature = "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"},
    {"get-vanilla-query-order-encoded", "GET", "/",
     .query = {{"Param-3", "Value3"}, {"Param", "Value2"}, {"\u1234", "Value1"}},
     .signature = "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"},
    {"get-vanilla-query-unreserved", "GET", "/", .query = {{UNRESERVED, UNRESERVED}},
     .signature = "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
    {"get-vanilla-utf8-query", "GET", "/", .query = {{"\u1234", "bar"}},
     .signature = "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
    {"get-unreserved", "GET", "/" UNRESERVED,
     .signature = "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
    {"get-utf8", "GET", "/\u1234", .signature = "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
    {"get-space-unnormalized", "GET", "/example space/",
     .signature = "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"},
    {"get-slashes-unnormalized", "GET", "//example//",
     .signature = "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5"},
    {"get-header-value-trim", "GET", "/", .headers = {{"My-Header1", " value1"}, {"My-Header2", " \"a   b   c\""}},
     .signature = "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
    {"post-vanilla", "POST", "/", .signature = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
    {"post-vanilla-query", "POST", "/", .query = {{"Param1", "value1"}},
     .signature = "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
    {"post-header-key-sort", "POST", "/", .headers = {{"My-Header1", "value1"}},
     .signature = "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
    {"post-header-value-case", "POST", "/", .headers = {{"My-Header1", "VALUE1"}},
     .signature = "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"},
    {"post-x-www-form-urlencoded", "POST", "/", .headers = {{"Content-Type", "application/x-www-form-urlencoded"}},
     .payload_sha256 = "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
     .signature = "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
};

static size_t count_of(const struct s3_param *params, size_t max)
{
    size_t count = 0;
    while (count < max && params[count].name)
        count++;
    return count;
}

static void test_suite(void **state)
{
    (void) state;
    for (size_t i = 0; i < LENGTH(suite); i++) {
        struct s3_param headers[4] = {{"X-Amz-Date", "20150830T123600Z"}, {"Host", "example.amazonaws.com"}};
        size_t header_count = 2;
        for (size_t h = 0; h < count_of(suite[i].headers, LENGTH(suite[i].headers)); h++)
            headers[header_count++] = suite[i].headers[h];
        const struct s3_sign_input input = {
            .method = suite[i].method,
            .path = suite[i].path,
            .query = suite[i].query,
            .query_count = count_of(suite[i].query, LENGTH(suite[i].query)),
            .headers = headers,
            .header_count = header_count,
            .payload_sha256 = suite[i].payload_sha256 ? suite[i].payload_sha256 : EMPTY_SHA256,
            .time_ms = AUG_30_2015_MS,
            .region = "us-east-1",
            .service = "service",
            .keys = &suite_keys,
        };
        auto_buf canonical = BUF_INIT(S3_SIGN_TEXT_BYTES_MAX);
        auto_buf to_sign = BUF_INIT(S3_SIGN_TEXT_BYTES_MAX);
        char signature[DIGEST_HEX_BYTES_MAX];
        assert_true(s3_canonical_request(&canonical, &input));
        assert_true(s3_string_to_sign(&to_sign, &input, buf_str(&canonical)));
        s3_signature(&input, buf_str(&to_sign), signature);
        if (strcmp(signature, suite[i].signature) != 0)
            fail_msg("%s: %s\n%s", suite[i].name, signature, canonical.ptr);
    }
}

static void test_canonical_request_text(void **state)
{
    (void) state;
    auto_buf out = BUF_INIT(4096);
    struct s3_sign_input input = s3_example("GET", "/a//b/../c+d%20\xff");
    const struct s3_param headers[] = {{"X-B", "\t two \t words "}, {"host", "h:7480"}, {"x-a", ""}};
    input.headers = headers;
    input.header_count = LENGTH(headers);
    assert_true(s3_canonical_request(&out, &input));
    assert_string_equal(
        out.ptr, "GET\n/a//b/../c%2Bd%2520%FF\n\nhost:h:7480\nx-a:\nx-b:two words\n\nhost;x-a;x-b\n" EMPTY_SHA256);
}

static void test_session_token_is_signed(void **state)
{
    (void) state;
    auto_buf out = BUF_INIT(4096);
    struct s3_keys keys = s3_keys;
    memcpy(keys.session_token, "token", 6);
    struct s3_sign_input input = s3_example("GET", "/test.txt");
    input.keys = &keys;
    assert_true(s3_authorization(&out, &input));
    assert_non_null(strstr(out.ptr, "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"));
}

static void test_limits_are_told(void **state)
{
    (void) state;
    char small[32];
    struct buf out = BUF_ON(small);
    struct s3_sign_input input = s3_example("GET", "/test.txt");
    assert_false(s3_authorization(&out, &input));
    buf_clear(&out);
    assert_false(s3_presign(&out, &input, "https", 60));
    buf_clear(&out);
    assert_false(s3_encode_path(&out, "/+++++++++++++++++++"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_s3_get_object),
        cmocka_unit_test(test_s3_put_object),
        cmocka_unit_test(test_s3_get_lifecycle),
        cmocka_unit_test(test_s3_list_objects),
        cmocka_unit_test(test_s3_presigned_url),
        cmocka_unit_test(test_presigned_parameters_are_encoded_and_in_order),
        cmocka_unit_test(test_suite),
        cmocka_unit_test(test_canonical_request_text),
        cmocka_unit_test(test_session_token_is_signed),
        cmocka_unit_test(test_limits_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "store/s3_credentials.h"

#include "aws_home.h"
#include "base/clock.h"
#include "fake_http.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define HOUR_MS (3600 * 1000)

static struct s3_credentials *must_open(void)
{
    struct err err = ERR_INIT;
    struct s3_config config;
    struct s3_credentials *credentials = NULL;
    if (s3_config_load(NULL, &config, &err) != ERR_OK ||
        s3_credentials_open(&config, NULL, NULL, &credentials, &err) != ERR_OK)
        fail_msg("%s", err_text(&err));
    return credentials;
}

static enum err_code get(struct s3_credentials *credentials, struct s3_keys *keys, struct err *err)
{
    uint64_t expires_ms;
    *err = ERR_INIT;
    return s3_credentials_get(credentials, keys, &expires_ms, err);
}

static void assert_id(struct s3_credentials *credentials, const char *id)
{
    struct s3_keys keys;
    struct err err;
    if (get(credentials, &keys, &err) != ERR_OK)
        fail_msg("%s", err_text(&err));
    assert_string_equal(keys.access_key_id, id);
}

/* Keys as a container or an instance is given them, good until so long from now. */
static char *json_keys(const char *id, int64_t expires_in_ms)
{
    char time[TIME_TEXT_BYTES];
    char *out = NULL;
    clock_format_rfc3339(clock_wall_ms() + (uint64_t) expires_in_ms, time);
    assert_true(asprintf(&out,
                         "{\"Code\":\"Success\",\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"s\",\"Token\":\"t\","
                         "\"Expiration\":\"%s\"}",
                         id, time) > 0);
    return out;
}

static void use_container(const struct fake *fake)
{
    char url[128];
    (void) snprintf(url, sizeof(url), "%s/creds?x=1", fake->url);
    aws_home_set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
}

/* ---- the order of the sources ---- */

static void test_the_first_source_wins(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct s3_config config;
    struct s3_credentials *credentials;
    const struct s3_keys setting = {.access_key_id = "setting", .secret_access_key = "s"};

    aws_home_set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/");
    credentials = must_open();
    assert_string_equal(s3_credentials_source(credentials), "container");
    s3_credentials_close(credentials);

    aws_home_write(".aws/credentials", "[default]\naws_access_key_id = file\naws_secret_access_key = s\n");
    credentials = must_open();
    assert_string_equal(s3_credentials_source(credentials), "file");
    assert_id(credentials, "file");
    s3_credentials_close(credentials);

    aws_home_set("AWS_WEB_IDENTITY_TOKEN_FILE", "/token");
    aws_home_set("AWS_ROLE_ARN", "arn");
    credentials = must_open();
    assert_string_equal(s3_credentials_source(credentials), "web identity");
    s3_credentials_close(credentials);

    aws_home_set("AWS_ACCESS_KEY_ID", "env");
    aws_home_set("AWS_SECRET_ACCESS_KEY", "s");
    credentials = must_open();
    assert_string_equal(s3_credentials_source(credentials), "environment");
    assert_id(credentials, "env");
    assert_false(s3_credentials_reject(credentials, "env"));
    s3_credentials_close(credentials);

    assert_int_equal(s3_config_load(NULL, &config, &err), ERR_OK);
    assert_int_equal(s3_credentials_open(&config, &setting, NULL, &credentials, &err), ERR_OK);
    assert_string_equal(s3_credentials_source(credentials), "setting");
    assert_id(credentials, "setting");
    s3_credentials_close(credentials);
}

static void test_no_source(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct s3_config config;
    struct s3_credentials *credentials;
    aws_home_set("AWS_EC2_METADATA_DISABLED", "true");
    assert_int_equal(s3_config_load(NULL, &config, &err), ERR_OK);
    assert_int_equal(s3_credentials_open(&config, NULL, NULL, &credentials, &err), ERR_INVALID);
    assert_non_null(strstr(err.message, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"));

    aws_home_write(".aws/config", "[default]\ncredential_process = /bin/x\n");
    assert_int_equal(s3_config_load(NULL, &config, &err), ERR_OK);
    assert_int_equal(s3_credentials_open(&config, NULL, NULL, &credentials, &err), ERR_INVALID);
    assert_non_null(strstr(err.message, "'credential_process', which is not supported"));

    aws_home_set("AWS_WEB_IDENTITY_TOKEN_FILE", "/token");
    assert_int_equal(s3_config_load(NULL, &config, &err), ERR_OK);
    assert_int_equal(s3_credentials_open(&config, NULL, NULL, &credentials, &err), ERR_INVALID);
    assert_non_null(strstr(err.message, "AWS_ROLE_ARN"));
}

/* ---- each source ---- */

static void test_container(void **state)
{
    (void) state;
    char path[256];
    auto_mem char *first = json_keys("one", HOUR_MS);
    const struct fake_step steps[] = {{.status = "500 Oops"}, {.status = "200 OK", .body = first}};
    struct fake *fake = fake_start(steps, LENGTH(steps));
    use_container(fake);
    aws_home_path(path, sizeof(path), "token");
    aws_home_write("token", "Basic abc\n");
    aws_home_set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "unused");
    aws_home_set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path);
    struct s3_credentials *credentials = must_open();
    struct s3_keys keys;
    struct err err = ERR_INIT;
    uint64_t expires_ms;
    assert_int_equal(s3_credentials_get(credentials, &keys, &expires_ms, &err), ERR_OK);
    assert_string_equal(keys.access_key_id, "one");
    assert_string_equal(keys.secret_access_key, "s");
    assert_string_equal(keys.session_token, "t");
    assert_true(expires_ms > clock_wall_ms());
    assert_id(credentials, "one");
    assert_int_equal(fake_request_count(fake), 2);
    assert_non_null(strstr(fake_request(fake, 1)->head, "GET /creds?x=1 HTTP/1.1"));
    assert_string_equal(fake_header(fake_request(fake, 1), "authorization"), "Basic abc");
    s3_credentials_close(credentials);
    fake_stop(fake);
}

static void test_container_elsewhere_needs_tls(void **state)
{
    (void) state;
    static const char *const uris[] = {"http://example.com/", "http://127.0.0.1.example.com/", "ftp://127.0.0.1/",
                                       "http://localhost@example.com/"};
    for (size_t i = 0; i < LENGTH(uris); i++) {
        struct s3_keys keys;
        struct err err;
        aws_home_set("AWS_CONTAINER_CREDENTIALS_FULL_URI", uris[i]);
        struct s3_credentials *credentials = must_open();
        assert_int_equal(get(credentials, &keys, &err), ERR_INVALID);
        assert_non_null(strstr(err.message, "neither https nor at an address of this machine"));
        s3_credentials_close(credentials);
    }
}

static void test_instance(void **state)
{
    (void) state;
    auto_mem char *json = json_keys("imds", HOUR_MS);
    const struct fake_step steps[] = {{.status = "200 OK", .body = "TOKEN"},
                                      {.status = "200 OK", .body = "the-role\nanother"},
                                      {.status = "200 OK", .body = json}};
    struct fake *fake = fake_start(steps, LENGTH(steps));
    aws_home_set("AWS_EC2_METADATA_SERVICE_ENDPOINT", fake->url);
    struct s3_credentials *credentials = must_open();
    assert_string_equal(s3_credentials_source(credentials), "instance");
    assert_id(credentials, "imds");
    assert_non_null(strstr(fake_request(fake, 0)->head, "PUT /latest/api/token HTTP/1.1"));
    assert_string_equal(fake_header(fake_request(fake, 0), "x-aws-ec2-metadata-token-ttl-seconds"), "21600");
    assert_non_null(strstr(fake_request(fake, 1)->head, "GET /latest/meta-data/iam/security-credentials/ HTTP"));
    assert_non_null(
        strstr(fake_request(fake, 2)->head, "GET /latest/meta-data/iam/security-credentials/the-role HTTP"));
    assert_string_equal(fake_header(fake_request(fake, 2), "x-aws-ec2-metadata-token"), "TOKEN");
    s3_credentials_close(credentials);
    fake_stop(fake);
}

static void test_instance_that_does_not_answer(void **state)
{
    (void) state;
    struct fake *fake = fake_start(NULL, 0);
    aws_home_set("AWS_EC2_METADATA_SERVICE_ENDPOINT", fake->url);
    struct s3_credentials *credentials = must_open();
    struct s3_keys keys;
    struct err err;
    assert_int_equal(get(credentials, &keys, &err), ERR_UPSTREAM);
    assert_non_null(
        strstr(err.detail, "access keys from instance: no access keys in the configuration, the environment"));
    assert_non_null(strstr(err.detail, "was answered 599"));
    size_t asked = fake_request_count(fake);
    /* The next caller does not ask again at once, and is told the same. */
    assert_int_equal(get(credentials, &keys, &err), ERR_UPSTREAM);
    assert_non_null(strstr(err.detail, "was answered 599"));
    assert_int_equal(fake_request_count(fake), asked);
    s3_credentials_close(credentials);
    fake_stop(fake);
}

static void use_sts(const struct fake *fake)
{
    char path[256];
    aws_home_path(path, sizeof(path), "token");
    aws_home_write("token", "eyJ.web+token\n");
    aws_home_set("AWS_WEB_IDENTITY_TOKEN_FILE", path);
    aws_home_set("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r");
    aws_home_set("AWS_ROLE_SESSION_NAME", "me");
    aws_home_set("AWS_ENDPOINT_URL_STS", fake->url);
}

static void test_web_identity(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {
        {.status = "200 OK",
         .body = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
                 "<AccessKeyId>sts</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
                 "<Expiration>2199-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
                 "</AssumeRoleWithWebIdentityResponse>"}};
    struct fake *fake = fake_start(steps, LENGTH(steps));
    use_sts(fake);
    struct s3_credentials *credentials = must_open();
    assert_id(credentials, "sts");
    assert_non_null(strstr(fake_request(fake, 0)->head, "POST / HTTP/1.1"));
    assert_string_equal(fake_header(fake_request(fake, 0), "content-type"),
                        "application/x-www-form-urlencoded; charset=utf-8");
    assert_string_equal(fake_request(fake, 0)->body.ptr,
                        "Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fr&"
                        "RoleSessionName=me&Version=2011-06-15&WebIdentityToken=eyJ.web%2Btoken");
    assert_int_equal(fake_request_count(fake), 1);
    s3_credentials_close(credentials);
    fake_stop(fake);
}

static void test_web_identity_refused(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {
        {.status = "403 Forbidden",
         .body = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not you</Message></Error></ErrorResponse>"}};
    struct fake *fake = fake_start(steps, LENGTH(steps));
    use_sts(fake);
    struct s3_credentials *credentials = must_open();
    struct s3_keys keys;
    struct err err;
    assert_int_equal(get(credentials, &keys, &err), ERR_UPSTREAM);
    assert_non_null(strstr(err.detail, "access keys from web identity: "));
    assert_non_null(strstr(err.detail, "403 AccessDenied Not you"));
    assert_null(strstr(err.detail, "eyJ"));
    assert_int_equal(fake_request_count(fake), 1);
    s3_credentials_close(credentials);
    fake_stop(fake);
}

/* ---- how long ---- */

static void test_refresh_ahead_of_time(void **state)
{
    (void) state;
    auto_mem char *first = json_keys("one", HOUR_MS);
    auto_mem char *second = json_keys("two", 2 * HOUR_MS);
    const struct fake_step steps[] = {{.status = "200 OK", .body = first},
                                      {.status = "403 No"},
                                      {.status = "200 OK", .body = second}};
    struct fake *fake = fake_start(steps, LENGTH(steps));
    use_container(fake);
    struct s3_credentials *credentials = must_open();
    assert_id(credentials, "one");
    assert_id(credentials, "one");
    assert_int_equal(fake_request_count(fake), 1);
    /* A refresh that fails is nobody's concern while the keys work, and is not tried again at once. */
    clock_set_offset_for_tests(HOUR_MS - S3_CREDENTIALS_AHEAD_MS + 1000);
    assert_id(credentials, "one");
    assert_id(credentials, "one");
    assert_int_equal(fake_request_count(fake), 2);
    fake_sleep_ms(1100);
    assert_id(credentials, "two");
    assert_id(credentials, "two");
    assert_int_equal(fake_request_count(fake), 3);
    clock_set_offset_for_tests(0);
    s3_credentials_close(credentials);
    fake_stop(fake);
}

static void test_brief_keys_are_not_asked_for_again_at_once(void **state)
{
    (void) state;
    auto_mem char *brief = json_keys("brief", S3_CREDENTIALS_AHEAD_MS - 1000);
    const struct fake_step steps[] = {{.status = "200 OK", .body = brief}, {.status = "403 No"}};
    struct fake *fake = fake_start(steps, LENGTH(steps));
    use_container(fake);
    struct s3_credentials *credentials = must_open();
    assert_id(credentials, "brief");
    assert_id(credentials, "brief");
    assert_int_equal(fake_request_count(fake), 1);
    s3_credentials_close(credentials);
    fake_stop(fake);
}

static void test_expired_keys_are_not_given(void **state)
{
    (void) state;
    auto_mem char *first = json_keys("one", HOUR_MS);
    auto_mem char *second = json_keys("two", 3 * HOUR_MS);
    const struct fake_step steps[] = {{.status = "200 OK", .body = first},
                                      {.status = "200 OK", .body = first},
                                      {.status = "200 OK", .body = second}};
    struct fake *fake = fake_start(steps, LENGTH(steps));
    use_container(fake);
    struct s3_credentials *credentials = must_open();
    struct s3_keys keys;
    struct err err;
    assert_id(credentials, "one");
    clock_set_offset_for_tests(2 * HOUR_MS);
    assert_int_equal(get(credentials, &keys, &err), ERR_UPSTREAM);
    assert_non_null(strstr(err.detail, "have expired already"));
    fake_sleep_ms(1100);
    assert_id(credentials, "two");
    clock_set_offset_for_tests(0);
    s3_credentials_close(credentials);
    fake_stop(fake);
}

static void test_rejected_keys(void **state)
{
    (void) state;
    struct s3_credentials *credentials;
    aws_home_write(".aws/credentials", "[default]\naws_access_key_id = old\naws_secret_access_key = s\n");
    credentials = must_open();
    assert_id(credentials, "old");
    aws_home_write(".aws/credentials", "[default]\naws_access_key_id = new\naws_secret_access_key = s\n");
    assert_id(credentials, "old");
    assert_true(s3_credentials_reject(credentials, "old"));
    assert_id(credentials, "new");
    assert_true(s3_credentials_reject(credentials, "old"));  /* there are others already */
    assert_false(s3_credentials_reject(credentials, "new")); /* but not that often */
    assert_id(credentials, "new");
    s3_credentials_close(credentials);
}

static void *get_once(void *arg)
{
    struct s3_keys keys;
    struct err err;
    return get(arg, &keys, &err) == ERR_OK && strcmp(keys.access_key_id, "one") == 0 ? arg : NULL;
}

static void test_one_refresher_at_a_time(void **state)
{
    (void) state;
    auto_mem char *json = json_keys("one", HOUR_MS);
    const struct fake_step steps[] = {{.status = "200 OK", .body = json, .delay_ms = 100}};
    struct fake *fake = fake_start(steps, LENGTH(steps));
    use_container(fake);
    struct s3_credentials *credentials = must_open();
    pthread_t threads[8];
    for (size_t i = 0; i < LENGTH(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, get_once, credentials), 0);
    for (size_t i = 0; i < LENGTH(threads); i++) {
        void *good;
        pthread_join(threads[i], &good);
        assert_non_null(good);
    }
    assert_int_equal(fake_request_count(fake), 1);
    s3_credentials_close(credentials);
    fake_stop(fake);
}

static void test_answers_that_are_no_keys(void **state)
{
    (void) state;
    static const char *const bodies[] = {"",
                                         "{",
                                         "[]",
                                         "{}",
                                         "{\"AccessKeyId\":\"a\"}",
                                         "{\"Code\":\"Failed\",\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"s\"}",
                                         "{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"s\",\"Expiration\":\"soon\"}",
                                         "{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"s\",\"Token\":7}"};
    for (size_t i = 0; i < LENGTH(bodies); i++) {
        const struct fake_step steps[] = {{.status = "200 OK", .body = bodies[i]}};
        struct fake *fake = fake_start(steps, LENGTH(steps));
        use_container(fake);
        struct s3_credentials *credentials = must_open();
        struct s3_keys keys;
        struct err err;
        assert_int_equal(get(credentials, &keys, &err), ERR_UPSTREAM);
        s3_credentials_close(credentials);
        fake_stop(fake);
    }
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, aws_home_new, aws_home_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_the_first_source_wins),
        TEST(test_no_source),
        TEST(test_container),
        TEST(test_container_elsewhere_needs_tls),
        TEST(test_instance),
        TEST(test_instance_that_does_not_answer),
        TEST(test_web_identity),
        TEST(test_web_identity_refused),
        TEST(test_refresh_ahead_of_time),
        TEST(test_brief_keys_are_not_asked_for_again_at_once),
        TEST(test_expired_keys_are_not_given),
        TEST(test_rejected_keys),
        TEST(test_one_refresher_at_a_time),
        TEST(test_answers_that_are_no_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

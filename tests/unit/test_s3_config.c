#include "store/s3_config.h"

#include "aws_home.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static void test_ini(void **state)
{
    (void) state;
    static const char text[] = "key = outside\n"
                               "# comment\n"
                               "; comment\n"
                               "[default]\n"
                               "Region=eu-west-1 # here\r\n"
                               "  nested = no\n"
                               "s3 =\n"
                               "  endpoint_url = nested\n"
                               "tight=a#b;c\n"
                               "empty =\n"
                               "noequals\n"
                               "[ profile   other ]\n"
                               "region = one\n"
                               "region = two\n"
                               "[services x]\n"
                               "region = three\n"
                               "[default]\n"
                               "late = yes";
    static const struct {
        const char *section;
        const char *key;
        const char *value; /* NULL: not there */
    } rows[] = {
        {"default", "region", "eu-west-1"}, {"default", "REGION", "eu-west-1"}, {"default", "nested", NULL},
        {"default", "endpoint_url", NULL},  {"default", "tight", "a#b;c"},      {"default", "empty", ""},
        {"default", "noequals", NULL},      {"default", "late", "yes"},         {"default", "key", NULL},
        {"profile other", "region", "two"}, {"other", "region", NULL},          {"profile default", "region", NULL},
        {"services x", "region", "three"},  {"none", "region", NULL},
    };
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct str value = STR("untouched");
        bool found = s3_config_lookup(STR(text), str_from(rows[i].section), str_from(rows[i].key), &value);
        if (found != (rows[i].value != NULL) || (found && !str_equal(value, str_from(rows[i].value))))
            fail_msg("[%s] %s: %d '%.*s'", rows[i].section, rows[i].key, found, (int) value.len, value.ptr);
    }
    assert_true(s3_config_has_section(STR(text), STR("profile other")));
    assert_false(s3_config_has_section(STR(text), STR("other")));
    assert_false(s3_config_has_section(STR(""), STR("default")));
    assert_false(s3_config_has_section(STR("[default"), STR("default")));
}

static void test_nothing_is_set(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct s3_config config;
    struct s3_keys keys;
    bool found;
    assert_int_equal(s3_config_load(NULL, &config, &err), ERR_OK);
    assert_string_equal(config.profile, "default");
    assert_false(config.profile_is_named);
    assert_string_equal(config.region, "");
    assert_string_equal(config.endpoint_url, "");
    assert_string_equal(config.env_keys.access_key_id, "");
    assert_string_equal(config.container_uri, "");
    assert_string_equal(config.metadata_endpoint, "http://169.254.169.254");
    assert_false(config.metadata_is_disabled);
    assert_non_null(strstr(config.credentials_file, "/.aws/credentials"));
    assert_int_equal(s3_config_file_keys(&config, &keys, &found, &err), ERR_OK);
    assert_false(found);
    (void) unsetenv("HOME");
    assert_int_equal(s3_config_load(NULL, &config, &err), ERR_OK);
    assert_string_equal(config.credentials_file, "");
}

static void test_environment(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct s3_config config;
    aws_home_set("AWS_ACCESS_KEY_ID", "id");
    aws_home_set("AWS_SECRET_ACCESS_KEY", "secret");
    aws_home_set("AWS_SESSION_TOKEN", "token");
    aws_home_set("AWS_DEFAULT_REGION", "r2");
    aws_home_set("AWS_ENDPOINT_URL", "http://all");
    aws_home_set("AWS_CA_BUNDLE", "/ca.pem");
    aws_home_set("AWS_EC2_METADATA_DISABLED", "TRUE");
    aws_home_set("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ipv6");
    aws_home_set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/x");
    aws_home_set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://localhost/");
    aws_home_write(".aws/config", "[default]\nregion = r3\nendpoint_url = http://profile\n");
    assert_int_equal(s3_config_load(NULL, &config, &err), ERR_OK);
    assert_string_equal(config.env_keys.access_key_id, "id");
    assert_string_equal(config.env_keys.session_token, "token");
    assert_string_equal(config.region, "r2");
    assert_string_equal(config.endpoint_url, "http://all");
    assert_string_equal(config.sts_endpoint_url, "http://all");
    assert_string_equal(config.ca_bundle, "/ca.pem");
    assert_true(config.metadata_is_disabled);
    assert_string_equal(config.metadata_endpoint, "http://[fd00:ec2::254]");
    assert_string_equal(config.container_uri, "http://169.254.170.2/v2/credentials/x");

    aws_home_set("AWS_REGION", "r1");
    aws_home_set("AWS_ENDPOINT_URL_S3", "http://s3");
    aws_home_set("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://meta");
    assert_int_equal(s3_config_load("", &config, &err), ERR_OK);
    assert_string_equal(config.region, "r1");
    assert_string_equal(config.endpoint_url, "http://s3");
    assert_string_equal(config.sts_endpoint_url, "http://all");
    assert_string_equal(config.metadata_endpoint, "http://meta");

    aws_home_set("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
    assert_int_equal(s3_config_load(NULL, &config, &err), ERR_OK);
    assert_string_equal(config.endpoint_url, "");

    /* A profile named by a setting is wanted, whatever the environment's keys. */
    assert_int_equal(s3_config_load("default", &config, &err), ERR_OK);
    assert_string_equal(config.env_keys.access_key_id, "");
}

static void test_profiles(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct s3_config config;
    struct s3_keys keys;
    bool found;
    aws_home_write(".aws/credentials", "[default]\naws_access_key_id = d\naws_secret_access_key = ds\n"
                                       "[work]\naws_access_key_id=w\naws_secret_access_key=ws+/=\n"
                                       "aws_session_token=wt\n");
    aws_home_write(".aws/config", "[default]\nregion = rd\n[profile work]\nregion = rw\nca_bundle = /w.pem\n"
                                  "[profile only-config]\naws_access_key_id = c\naws_secret_access_key = cs\n"
                                  "[profile role]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = work\n"
                                  "[profile web]\nrole_arn = arn\nweb_identity_token_file = /token\n");
    assert_int_equal(s3_config_load(NULL, &config, &err), ERR_OK);
    assert_string_equal(config.region, "rd");
    assert_int_equal(s3_config_file_keys(&config, &keys, &found, &err), ERR_OK);
    assert_true(found);
    assert_string_equal(keys.access_key_id, "d");
    assert_string_equal(keys.session_token, "");

    aws_home_set("AWS_PROFILE", "work");
    assert_int_equal(s3_config_load(NULL, &config, &err), ERR_OK);
    assert_true(config.profile_is_named);
    assert_string_equal(config.region, "rw");
    assert_string_equal(config.ca_bundle, "/w.pem");
    assert_int_equal(s3_config_file_keys(&config, &keys, &found, &err), ERR_OK);
    assert_string_equal(keys.access_key_id, "w");
    assert_string_equal(keys.secret_access_key, "ws+/=");
    assert_string_equal(keys.session_token, "wt");

    assert_int_equal(s3_config_load("only-config", &config, &err), ERR_OK);
    assert_int_equal(s3_config_file_keys(&config, &keys, &found, &err), ERR_OK);
    assert_string_equal(keys.access_key_id, "c");
    assert_int_equal(s3_config_load("role", &config, &err), ERR_OK);
    assert_string_equal(config.unsupported, "source_profile");
    assert_int_equal(s3_config_load("web", &config, &err), ERR_OK);
    assert_string_equal(config.web_identity_token_file, "/token");
    assert_string_equal(config.role_arn, "arn");

    assert_int_equal(s3_config_load("nobody", &config, &err), ERR_INVALID);
    assert_non_null(strstr(err.message, "no profile 'nobody'"));
}

static void test_other_files(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct s3_config config;
    struct s3_keys keys;
    bool found;
    char path[256];
    aws_home_path(path, sizeof(path), "other");
    aws_home_set("AWS_SHARED_CREDENTIALS_FILE", path);
    aws_home_write("other", "[default]\naws_access_key_id = o\naws_secret_access_key = os\n");
    assert_int_equal(s3_config_load(NULL, &config, &err), ERR_OK);
    assert_int_equal(s3_config_file_keys(&config, &keys, &found, &err), ERR_OK);
    assert_string_equal(keys.access_key_id, "o");
    aws_home_write("other", "[default]\naws_access_key_id = rotated\naws_secret_access_key = os\n");
    assert_int_equal(s3_config_file_keys(&config, &keys, &found, &err), ERR_OK);
    assert_string_equal(keys.access_key_id, "rotated");
    aws_home_write("other", "[default]\naws_access_key_id = half\n");
    assert_int_equal(s3_config_file_keys(&config, &keys, &found, &err), ERR_INVALID);
    assert_non_null(strstr(err.message, "half a pair"));

    aws_home_set("AWS_CONFIG_FILE", aws_home); /* a directory */
    assert_int_equal(s3_config_load(NULL, &config, &err), ERR_INVALID);
    assert_non_null(strstr(err.message, "cannot be read"));
}

static void test_bad_values(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct s3_config config;
    char longer[S3_REGION_BYTES_MAX + 1];
    memset(longer, 'r', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    aws_home_set("AWS_REGION", longer);
    assert_int_equal(s3_config_load(NULL, &config, &err), ERR_INVALID);
    assert_non_null(strstr(err.message, "AWS_REGION is too long"));
    aws_home_set("AWS_REGION", "");
    aws_home_set("AWS_ACCESS_KEY_ID", "alone");
    assert_int_equal(s3_config_load(NULL, &config, &err), ERR_INVALID);
    assert_non_null(strstr(err.message, "Set both"));
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, aws_home_new, aws_home_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_ini),      TEST(test_nothing_is_set), TEST(test_environment),
        TEST(test_profiles), TEST(test_other_files),    TEST(test_bad_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * What the AWS SDKs' environment variables and shared files say, read as the SDKs read them: a variable wins over the
 * profile, the profile is AWS_PROFILE's or "default", ~/.aws/credentials wins over ~/.aws/config for keys.
 */
#ifndef ORLOP_STORE_S3_CONFIG_H
#define ORLOP_STORE_S3_CONFIG_H

#include "base/err.h"
#include "store/s3_sign.h"
#include "store/s3_target.h"

#define S3_CONFIG_FILE_BYTES_MAX (1024 * 1024)
#define S3_CONFIG_PATH_BYTES_MAX 1024
#define S3_CONFIG_NAME_BYTES_MAX 256

/* One value from the environment and the profile; "" when neither has it. */
struct s3_config {
    char profile[S3_CONFIG_NAME_BYTES_MAX];
    bool profile_is_named; /* by setting or variable: then it must exist */
    char credentials_file[S3_CONFIG_PATH_BYTES_MAX];
    char config_file[S3_CONFIG_PATH_BYTES_MAX];

    char region[S3_REGION_BYTES_MAX];         /* AWS_REGION, AWS_DEFAULT_REGION, region */
    char endpoint_url[S3_URL_BYTES_MAX];      /* AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, endpoint_url */
    char sts_endpoint_url[S3_URL_BYTES_MAX];  /* AWS_ENDPOINT_URL_STS, AWS_ENDPOINT_URL */
    char ca_bundle[S3_CONFIG_PATH_BYTES_MAX]; /* AWS_CA_BUNDLE, ca_bundle */

    struct s3_keys env_keys; /* AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN */
    char web_identity_token_file[S3_CONFIG_PATH_BYTES_MAX]; /* AWS_WEB_IDENTITY_TOKEN_FILE, web_identity_token_file */
    char role_arn[S3_CONFIG_PATH_BYTES_MAX];                /* AWS_ROLE_ARN, role_arn */
    char role_session_name[S3_CONFIG_NAME_BYTES_MAX];       /* AWS_ROLE_SESSION_NAME, role_session_name */
    char container_uri[S3_URL_BYTES_MAX]; /* AWS_CONTAINER_CREDENTIALS_FULL_URI, or _RELATIVE_URI made whole */
    char container_token[S3_SESSION_TOKEN_BYTES_MAX];    /* AWS_CONTAINER_AUTHORIZATION_TOKEN */
    char container_token_file[S3_CONFIG_PATH_BYTES_MAX]; /* AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE */
    /* The first of the profile's settings that names a way to get keys which is not supported: "source_profile", … */
    char unsupported[S3_CONFIG_NAME_BYTES_MAX];
    bool metadata_is_disabled;                /* AWS_EC2_METADATA_DISABLED=true */
    char metadata_endpoint[S3_URL_BYTES_MAX]; /* AWS_EC2_METADATA_SERVICE_ENDPOINT or its default */
};

/*
 * Read the environment and the shared files. profile: NULL, or a setting that wins over AWS_PROFILE and over keys in
 * the environment. Missing files are no error; an unreadable one, a value that is too long, half a pair of keys or a
 * named profile that is nowhere is ERR_INVALID. Call before other threads run: it uses getenv.
 */
must_check enum err_code s3_config_load(const char *profile, struct s3_config *out, struct err *err);

/*
 * The profile's keys as the files say now (they may have been rotated). *out_found is false when the profile holds
 * none.
 */
must_check enum err_code s3_config_file_keys(const struct s3_config *config, struct s3_keys *out, bool *out_found,
                                             struct err *err);

/* ---- the files' syntax, for tests and the above ---- */

/*
 * The value of a key in the section [name] of an INI text; the last one counts. false: not there. The value is borrowed
 * from text, without blanks at its ends and without a comment (" # …", " ; …"). Indented lines belong to the line above
 * (nested settings) and are skipped.
 */
bool s3_config_lookup(struct str text, struct str section, struct str key, struct str *out_value);
bool s3_config_has_section(struct str text, struct str section);

#endif

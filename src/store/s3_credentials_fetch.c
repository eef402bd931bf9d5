/* The sources of keys that are asked over HTTP. */
#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "store/s3_credentials_priv.h"
#include "store/s3_xml.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>

#define ANSWER_BYTES_MAX (64 * 1024)
#define TOKEN_BYTES_MAX (32 * 1024) /* a web identity token: STS takes 20,000 characters */
#define TRIES_MAX 3
#define RETRY_WAIT_MS 200 /* doubled each time */
#define STS_TIMEOUT_MS 10000
#define METADATA_TIMEOUT_MS 2000
#define METADATA_TOKEN_SECONDS "21600"
#define NS_PER_MS 1000000

/* Send, try again what may pass by itself. Success is status 200. */
static enum err_code fetch_send(struct s3_http *http, const struct s3_http_request *request, struct buf *out,
                                struct err *err)
{
    struct s3_http_answer answer;
    enum s3_http_fate fate;
    for (unsigned try = 1;; try++) {
        buf_clear(out);
        enum err_code code = s3_http_exchange_all(http, request, &answer, out, &fate, err);
        if (code == ERR_OK && answer.status == 200)
            return ERR_OK;
        bool is_passing = code != ERR_OK || answer.status >= 500 || answer.status == 429;
        if (!is_passing || try == TRIES_MAX) {
            struct s3_error error;
            if (code != ERR_OK)
                return err_wrap(err, "%s %.*s", request->method, (int) strcspn(request->url, "?"), request->url);
            (void) s3_xml_read_error(buf_str(out), &error);
            return err_set(err, ERR_UPSTREAM, "%s %.*s was answered %d %s %s", request->method,
                           (int) strcspn(request->url, "?"), request->url, answer.status, error.code, error.message);
        }
        struct timespec wait = {.tv_nsec = (long) (RETRY_WAIT_MS << (try - 1)) * NS_PER_MS};
        (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, NULL);
    }
}

/* A token's file without the line end that editors leave. */
static enum err_code read_token(const char *path, struct buf *out, struct err *err)
{
    if (fs_read_file(AT_FDCWD, path, out, err) != ERR_OK)
        return err_wrap(err, "token file");
    while (out->len > 0 && strchr(" \t\r\n", out->ptr[out->len - 1]))
        out->ptr[--out->len] = '\0';
    if (out->len == 0 || strlen(out->ptr) != out->len || strpbrk(out->ptr, "\r\n"))
        return err_set(err, ERR_INVALID, "The token file '%s' does not hold a token", path);
    return ERR_OK;
}

/* ---- STS ---- */

enum err_code fetch_web_identity(const struct s3_config *config, struct s3_http *http, struct s3_keys *out,
                                 uint64_t *out_expires_ms, struct err *err)
{
    auto_buf token = BUF_INIT(TOKEN_BYTES_MAX);
    if (read_token(config->web_identity_token_file, &token, err) != ERR_OK)
        return err->code;
    char url[S3_URL_BYTES_MAX + S3_REGION_BYTES_MAX];
    if (config->sts_endpoint_url[0] != '\0')
        (void) snprintf(url, sizeof(url), "%s", config->sts_endpoint_url);
    else if (config->region[0] != '\0')
        (void) snprintf(url, sizeof(url), "https://sts.%s.amazonaws.com%s/", config->region,
                        strncmp(config->region, "cn-", 3) == 0 ? ".cn" : "");
    else
        (void) snprintf(url, sizeof(url), "https://sts.amazonaws.com/");

    char session[64];
    (void) snprintf(session, sizeof(session), "orlop-%llu", (unsigned long long) clock_wall_ms());
    const struct s3_param fields[] = {
        {"Action", "AssumeRoleWithWebIdentity"},
        {"Version", "2011-06-15"},
        {"RoleArn", config->role_arn},
        {"RoleSessionName", config->role_session_name[0] != '\0' ? config->role_session_name : session},
        {"WebIdentityToken", token.ptr},
    };
    auto_buf form = BUF_INIT(3 * TOKEN_BYTES_MAX);
    if (!s3_encode_query(&form, fields, sizeof(fields) / sizeof(fields[0])))
        return err_set(err, ERR_LIMIT, "The web identity token is too long");
    const struct str body = buf_str(&form);
    const struct s3_http_request request = {
        .method = "POST",
        .url = url,
        .headers = &(struct s3_param){"content-type", "application/x-www-form-urlencoded; charset=utf-8"},
        .header_count = 1,
        .body = &body,
        .body_count = 1,
        .timeout_ms = STS_TIMEOUT_MS};
    auto_buf answer = BUF_INIT(ANSWER_BYTES_MAX);
    if (fetch_send(http, &request, &answer, err) != ERR_OK)
        return err->code;
    return s3_xml_read_assumed_role(buf_str(&answer), out, out_expires_ms, err);
}

/* ---- JSON, as containers and instances say it ---- */

static bool take_member(const struct json *object, const char *name, char *out, size_t out_bytes)
{
    struct str text;
    if (!json_text(json_member(object, name), &text) || text.len >= out_bytes)
        return false;
    memcpy(out, text.ptr, text.len);
    out[text.len] = '\0';
    return true;
}

static enum err_code read_json_keys(struct str answer, struct s3_keys *out, uint64_t *out_expires_ms, struct err *err)
{
    auto_json object = NULL;
    struct str text;
    *out = (struct s3_keys){.access_key_id = ""};
    *out_expires_ms = 0;
    if (json_parse(answer, &object, err) != ERR_OK)
        return err_become(err, ERR_UPSTREAM, "The answer with the access keys is not JSON");
    if (json_text(json_member(object, "Code"), &text) && !str_equal(text, STR("Success")))
        return err_set(err, ERR_UPSTREAM, "The access keys were refused: %.*s", (int) text.len, text.ptr);
    if (!take_member(object, "AccessKeyId", out->access_key_id, sizeof(out->access_key_id)) ||
        !take_member(object, "SecretAccessKey", out->secret_access_key, sizeof(out->secret_access_key)) ||
        (json_member(object, "Token") &&
         !take_member(object, "Token", out->session_token, sizeof(out->session_token))) ||
        (json_text(json_member(object, "Expiration"), &text) && !s3_parse_time(text, out_expires_ms)))
        return err_set(err, ERR_UPSTREAM, "The answer with the access keys lacks some, or one is too long");
    return ERR_OK;
}

/* ---- containers ---- */

/* Plain HTTP only to this machine and to the addresses of ECS and EKS, as the SDKs have it. */
static bool container_uri_is_allowed(const char *uri)
{
    static const char *const hosts[] = {"127.0.0.1",     "localhost",      "[::1]",
                                        "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"};
    if (strncmp(uri, "https://", 8) == 0)
        return true;
    if (strncmp(uri, "http://", 7) != 0)
        return false;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        size_t len = strlen(hosts[i]);
        if (strncmp(uri + 7, hosts[i], len) == 0 && strchr(":/", uri[7 + len]))
            return true;
    }
    return false;
}

enum err_code fetch_container(const struct s3_config *config, struct s3_http *http, struct s3_keys *out,
                              uint64_t *out_expires_ms, struct err *err)
{
    auto_buf token = BUF_INIT(TOKEN_BYTES_MAX);
    if (!container_uri_is_allowed(config->container_uri))
        return err_set(err, ERR_INVALID,
                       "AWS_CONTAINER_CREDENTIALS_FULL_URI '%s' is neither https nor at an address "
                       "of this machine",
                       config->container_uri);
    if (config->container_token_file[0] != '\0') {
        if (read_token(config->container_token_file, &token, err) != ERR_OK)
            return err->code;
    } else if (!buf_append_text(&token, config->container_token)) {
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    }
    const struct s3_http_request request = {.method = "GET",
                                            .url = config->container_uri,
                                            .headers = &(struct s3_param){"authorization", token.ptr},
                                            .header_count = token.len > 0,
                                            .timeout_ms = METADATA_TIMEOUT_MS};
    auto_buf answer = BUF_INIT(ANSWER_BYTES_MAX);
    if (fetch_send(http, &request, &answer, err) != ERR_OK)
        return err->code;
    return read_json_keys(buf_str(&answer), out, out_expires_ms, err);
}

/* ---- EC2 ---- */

static enum err_code metadata_get(const struct s3_config *config, struct s3_http *http, const char *token,
                                  const char *role, struct buf *out, struct err *err)
{
    char url[2 * S3_URL_BYTES_MAX];
    (void) snprintf(url, sizeof(url), "%s/latest/meta-data/iam/security-credentials/%s", config->metadata_endpoint,
                    role);
    const struct s3_http_request request = {.method = "GET",
                                            .url = url,
                                            .headers = &(struct s3_param){"x-aws-ec2-metadata-token", token},
                                            .header_count = 1,
                                            .timeout_ms = METADATA_TIMEOUT_MS};
    return fetch_send(http, &request, out, err);
}

enum err_code fetch_instance(const struct s3_config *config, struct s3_http *http, struct s3_keys *out,
                             uint64_t *out_expires_ms, struct err *err)
{
    char url[2 * S3_URL_BYTES_MAX];
    (void) snprintf(url, sizeof(url), "%s/latest/api/token", config->metadata_endpoint);
    const struct s3_http_request request = {.method = "PUT",
                                            .url = url,
                                            .headers = &(struct s3_param){"x-aws-ec2-metadata-token-ttl-seconds",
                                                                          METADATA_TOKEN_SECONDS},
                                            .header_count = 1,
                                            .timeout_ms = METADATA_TIMEOUT_MS};
    auto_buf token = BUF_INIT(ANSWER_BYTES_MAX);
    auto_buf role = BUF_INIT(S3_URL_BYTES_MAX / 2);
    auto_buf answer = BUF_INIT(ANSWER_BYTES_MAX);
    if (fetch_send(http, &request, &token, err) != ERR_OK)
        return err->code;
    if (token.len == 0 || strpbrk(token.ptr, "\r\n"))
        return err_set(err, ERR_UPSTREAM, "The metadata service gave no token");
    if (metadata_get(config, http, token.ptr, "", &role, err) != ERR_OK)
        return err->code;
    if (role.len > 0)
        role.ptr[strcspn(role.ptr, "\r\n")] = '\0';
    if (role.len == 0 || role.ptr[0] == '\0' || strpbrk(role.ptr, " /?#%"))
        return err_set(err, ERR_UPSTREAM, "The instance has no role");
    if (metadata_get(config, http, token.ptr, role.ptr, &answer, err) != ERR_OK)
        return err->code;
    return read_json_keys(buf_str(&answer), out, out_expires_ms, err);
}

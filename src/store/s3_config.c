#include "store/s3_config.h"

#include "base/fs.h"

#include <fcntl.h>
#include <stdio.h>
#include <strings.h>

#define CONTAINER_HOST "http://169.254.170.2"
#define METADATA_HOST "http://169.254.169.254"
#define METADATA_HOST_V6 "http://[fd00:ec2::254]"

/* ---- INI ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct str trim(struct str text)
{
    while (text.len > 0 && is_blank(text.ptr[0])) {
        text.ptr++;
        text.len--;
    }
    while (text.len > 0 && is_blank(text.ptr[text.len - 1]))
        text.len--;
    return text;
}

/* Take the next line off text. false: none is left. */
static bool next_line(struct str *text, struct str *line)
{
    if (text->len == 0)
        return false;
    const char *end = memchr(text->ptr, '\n', text->len);
    size_t len = end ? (size_t) (end - text->ptr) : text->len;
    *line = (struct str){text->ptr, len};
    len += end != NULL;
    *text = (struct str){text->ptr + len, text->len - len};
    return true;
}

/* "[ profile  name ]" is the section "profile name". */
static bool section_is(struct str line, struct str section)
{
    const char *end = memchr(line.ptr, ']', line.len);
    if (!end)
        return false;
    struct str name = trim((struct str){line.ptr + 1, (size_t) (end - line.ptr) - 1});
    struct str word = STR("profile");
    if (str_starts(name, word) && name.len > word.len && is_blank(name.ptr[word.len])) {
        if (!str_starts(section, STR("profile ")))
            return false;
        name = trim((struct str){name.ptr + word.len, name.len - word.len});
        section = (struct str){section.ptr + word.len + 1, section.len - word.len - 1};
    }
    return str_equal(name, section);
}

/* Without " # comment" or " ; comment". */
static struct str without_comment(struct str value)
{
    for (size_t i = 1; i < value.len; i++) {
        if ((value.ptr[i] == '#' || value.ptr[i] == ';') && is_blank(value.ptr[i - 1]))
            return trim((struct str){value.ptr, i});
    }
    return value;
}

bool s3_config_lookup(struct str text, struct str section, struct str key, struct str *out_value)
{
    bool inside = false, found = false;
    for (struct str line; next_line(&text, &line);) {
        if (line.len == 0 || is_blank(line.ptr[0]) || line.ptr[0] == '#' || line.ptr[0] == ';')
            continue;
        if (line.ptr[0] == '[') {
            inside = section_is(line, section);
            continue;
        }
        const char *equals = memchr(line.ptr, '=', line.len);
        if (!inside || !equals)
            continue;
        struct str name = trim((struct str){line.ptr, (size_t) (equals - line.ptr)});
        if (name.len != key.len || strncasecmp(name.ptr, key.ptr, key.len) != 0)
            continue;
        *out_value = without_comment(trim((struct str){equals + 1, (size_t) (line.ptr + line.len - equals) - 1}));
        found = true;
    }
    return found;
}

bool s3_config_has_section(struct str text, struct str section)
{
    for (struct str line; next_line(&text, &line);) {
        if (line.len > 0 && line.ptr[0] == '[' && section_is(line, section))
            return true;
    }
    return false;
}

/* ---- both files ---- */

struct files {
    struct buf credentials;
    struct buf config;
    struct str credentials_section; /* "name" */
    struct str config_section;      /* "profile name" or "default" */
    char section_text[S3_CONFIG_NAME_BYTES_MAX + 16];
};

static void files_free(struct files *files)
{
    buf_free(&files->credentials);
    buf_free(&files->config);
}

static enum err_code file_read(const char *path, struct buf *out, struct err *err)
{
    struct err failure = ERR_INIT;
    if (path[0] == '\0' || fs_read_file(AT_FDCWD, path, out, &failure) == ERR_OK || failure.code == ERR_NOT_FOUND)
        return ERR_OK;
    *err = failure;
    return err_become(err, ERR_INVALID, "The AWS settings in '%s' cannot be read", path);
}

static enum err_code files_read(const struct s3_config *config, struct files *files, struct err *err)
{
    files->credentials = BUF_INIT(S3_CONFIG_FILE_BYTES_MAX);
    files->config = BUF_INIT(S3_CONFIG_FILE_BYTES_MAX);
    if (file_read(config->credentials_file, &files->credentials, err) != ERR_OK ||
        file_read(config->config_file, &files->config, err) != ERR_OK)
        return err->code;
    (void) snprintf(files->section_text, sizeof(files->section_text), "profile %s", config->profile);
    files->credentials_section = str_from(config->profile);
    files->config_section = str_from(files->section_text);
    /* "default" may stand without the word; "[profile default]" wins when both are there. */
    if (strcmp(config->profile, "default") == 0 &&
        !s3_config_has_section(buf_str(&files->config), files->config_section))
        files->config_section = files->credentials_section;
    return ERR_OK;
}

static bool files_lookup(const struct files *files, const char *key, struct str *out)
{
    struct str name = str_from(key);
    return (s3_config_lookup(buf_str(&files->credentials), files->credentials_section, name, out) ||
            s3_config_lookup(buf_str(&files->config), files->config_section, name, out)) &&
           out->len > 0;
}

/* ---- values ---- */

static enum err_code take(char *out, size_t out_bytes, struct str value, const char *name, struct err *err)
{
    if (value.len >= out_bytes || (value.len > 0 && memchr(value.ptr, '\0', value.len)))
        return err_set(err, ERR_INVALID, "The value of %s is too long", name);
    if (value.len > 0)
        memcpy(out, value.ptr, value.len);
    out[value.len] = '\0';
    return ERR_OK;
}

static const char *env_text(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] != '\0' ? value : NULL;
}

/* The first that is set of two variables and the profile's key; each may be NULL. out stays "" when none is. */
static enum err_code take_first(char *out, size_t out_bytes, const char *env, const char *other_env,
                                const struct files *files, const char *key, struct err *err)
{
    const char *name = env;
    const char *text = env ? env_text(env) : NULL;
    if (!text && other_env) {
        name = other_env;
        text = env_text(other_env);
    }
    struct str value = str_from(text);
    if (!text && key && files_lookup(files, key, &value))
        name = key;
    return take(out, out_bytes, value, name ? name : key, err);
}

#define TAKE(field, env, other_env, key) \
    take_first(config.field, sizeof(config.field), env, other_env, &files, key, err)

static bool env_is_true(const char *name)
{
    const char *value = env_text(name);
    return value && strcasecmp(value, "true") == 0;
}

/* $HOME/.aws/NAME unless the variable names another. */
static enum err_code take_path(char *out, size_t out_bytes, const char *env, const char *name, struct err *err)
{
    const char *home = env_text("HOME");
    const char *path = env_text(env);
    char below_home[S3_CONFIG_PATH_BYTES_MAX];
    if (!path && home) {
        int length = snprintf(below_home, sizeof(below_home), "%s/.aws/%s", home, name);
        if (length < 0 || (size_t) length >= sizeof(below_home))
            return err_set(err, ERR_INVALID, "The value of HOME is too long");
        path = below_home;
    }
    return take(out, out_bytes, str_from(path), env, err);
}

static enum err_code take_places(const char *profile, struct s3_config *config, struct err *err)
{
    const char *name = profile && profile[0] != '\0' ? profile : env_text("AWS_PROFILE");
    config->profile_is_named = name != NULL;
    if (take(config->profile, sizeof(config->profile), str_from(name ? name : "default"), "AWS_PROFILE", err) != ERR_OK)
        return err->code;
    if (take_path(config->credentials_file, sizeof(config->credentials_file), "AWS_SHARED_CREDENTIALS_FILE",
                  "credentials", err) != ERR_OK)
        return err->code;
    return take_path(config->config_file, sizeof(config->config_file), "AWS_CONFIG_FILE", "config", err);
}

static enum err_code take_env_keys(struct s3_keys *keys, struct err *err)
{
    const struct files *none = NULL;
    if (take_first(keys->access_key_id, sizeof(keys->access_key_id), "AWS_ACCESS_KEY_ID", NULL, none, NULL, err) !=
            ERR_OK ||
        take_first(keys->secret_access_key, sizeof(keys->secret_access_key), "AWS_SECRET_ACCESS_KEY", NULL, none, NULL,
                   err) != ERR_OK ||
        take_first(keys->session_token, sizeof(keys->session_token), "AWS_SESSION_TOKEN", NULL, none, NULL, err) !=
            ERR_OK)
        return err->code;
    if ((keys->access_key_id[0] == '\0') != (keys->secret_access_key[0] == '\0'))
        return err_set(err, ERR_INVALID, "Set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or neither");
    return ERR_OK;
}

static enum err_code take_container(struct s3_config *config, struct err *err)
{
    const char *relative = env_text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = env_text("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    int length = snprintf(config->container_uri, sizeof(config->container_uri), "%s%s", relative ? CONTAINER_HOST : "",
                          relative ? relative
                          : full   ? full
                                   : "");
    if (length < 0 || (size_t) length >= sizeof(config->container_uri))
        return err_set(err, ERR_INVALID, "The URI of the container's credentials is too long");
    return ERR_OK;
}

/* Ways to get keys that the SDKs know and we do not: they must not be passed over in silence. */
static void note_unsupported(struct s3_config *config, const struct files *files)
{
    static const char *const keys[] = {"source_profile", "credential_source", "credential_process",
                                       "sso_session",    "sso_start_url",     "login_session"};
    struct str value;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]) && config->unsupported[0] == '\0'; i++) {
        if (files_lookup(files, keys[i], &value))
            (void) snprintf(config->unsupported, sizeof(config->unsupported), "%s", keys[i]);
    }
}

enum err_code s3_config_load(const char *profile, struct s3_config *out, struct err *err)
{
    struct s3_config config = {.profile = ""};
    cleanup(files_free) struct files files = {.section_text = ""};
    if (take_places(profile, &config, err) != ERR_OK || files_read(&config, &files, err) != ERR_OK)
        return err->code;
    if (config.profile_is_named && !s3_config_has_section(buf_str(&files.credentials), files.credentials_section) &&
        !s3_config_has_section(buf_str(&files.config), files.config_section))
        return err_set(err, ERR_INVALID, "There is no profile '%s' in '%s' or '%s'", config.profile,
                       config.credentials_file, config.config_file);
    if (!(profile && profile[0] != '\0') && take_env_keys(&config.env_keys, err) != ERR_OK)
        return err->code;
    if (!env_is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") &&
        (TAKE(endpoint_url, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "endpoint_url") != ERR_OK ||
         TAKE(sts_endpoint_url, "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL", "endpoint_url") != ERR_OK))
        return err->code;
    const char *metadata = env_text("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
    bool is_v6 = metadata && strcasecmp(metadata, "IPv6") == 0;
    if (TAKE(region, "AWS_REGION", "AWS_DEFAULT_REGION", "region") != ERR_OK ||
        TAKE(ca_bundle, "AWS_CA_BUNDLE", NULL, "ca_bundle") != ERR_OK ||
        TAKE(web_identity_token_file, "AWS_WEB_IDENTITY_TOKEN_FILE", NULL, "web_identity_token_file") != ERR_OK ||
        TAKE(role_arn, "AWS_ROLE_ARN", NULL, "role_arn") != ERR_OK ||
        TAKE(role_session_name, "AWS_ROLE_SESSION_NAME", NULL, "role_session_name") != ERR_OK ||
        TAKE(container_token, "AWS_CONTAINER_AUTHORIZATION_TOKEN", NULL, NULL) != ERR_OK ||
        TAKE(container_token_file, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", NULL, NULL) != ERR_OK ||
        TAKE(metadata_endpoint, "AWS_EC2_METADATA_SERVICE_ENDPOINT", NULL, NULL) != ERR_OK ||
        take_container(&config, err) != ERR_OK)
        return err->code;
    if (config.metadata_endpoint[0] == '\0')
        (void) snprintf(config.metadata_endpoint, sizeof(config.metadata_endpoint), "%s",
                        is_v6 ? METADATA_HOST_V6 : METADATA_HOST);
    config.metadata_is_disabled = env_is_true("AWS_EC2_METADATA_DISABLED");
    note_unsupported(&config, &files);
    *out = config;
    return ERR_OK;
}

enum err_code s3_config_file_keys(const struct s3_config *config, struct s3_keys *out, bool *out_found, struct err *err)
{
    struct s3_keys keys = {.access_key_id = ""};
    cleanup(files_free) struct files files = {.section_text = ""};
    *out_found = false;
    if (files_read(config, &files, err) != ERR_OK)
        return err->code;
    if (take_first(keys.access_key_id, sizeof(keys.access_key_id), NULL, NULL, &files, "aws_access_key_id", err) !=
            ERR_OK ||
        take_first(keys.secret_access_key, sizeof(keys.secret_access_key), NULL, NULL, &files, "aws_secret_access_key",
                   err) != ERR_OK ||
        take_first(keys.session_token, sizeof(keys.session_token), NULL, NULL, &files, "aws_session_token", err) !=
            ERR_OK)
        return err->code;
    if ((keys.access_key_id[0] == '\0') != (keys.secret_access_key[0] == '\0'))
        return err_set(err, ERR_INVALID, "Profile '%s' in '%s' has half a pair of keys", config->profile,
                       config->credentials_file);
    *out_found = keys.access_key_id[0] != '\0';
    *out = keys;
    return ERR_OK;
}

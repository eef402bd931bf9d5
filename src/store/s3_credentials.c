#include "base/clock.h"
#include "base/log.h"
#include "base/wait.h"
#include "store/s3_credentials_priv.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>

#define CONNECT_TIMEOUT_MS 2000
#define FAILURE_WAIT_MS_FIRST 1000 /* before a refresh that failed is tried again; doubled each time */
#define FAILURE_WAIT_MS_MAX 30000
#define SUCCESS_WAIT_MS 10000 /* before keys that came with little time left are asked for again */
#define REJECT_WAIT_MS 5000

enum source { SOURCE_SETTING, SOURCE_ENVIRONMENT, SOURCE_WEB_IDENTITY, SOURCE_FILE, SOURCE_CONTAINER, SOURCE_INSTANCE };

static const char *const source_names[] = {"setting", "environment", "web identity", "file", "container", "instance"};

struct s3_credentials {
    struct s3_config config;
    struct s3_keys setting_keys;
    enum source source;
    struct s3_http *http;

    pthread_mutex_t mutex;
    pthread_cond_t refreshed; /* a refresh has ended, well or not */
    struct {                  /* by mutex */
        struct s3_keys keys;
        uint64_t expires_ms; /* wall clock; 0: never */
        bool valid;
        bool refreshing;
        uint64_t not_before_ms; /* monotonic: no refresh sooner */
        uint64_t rejected_ms;   /* monotonic; 0: never */
        unsigned failures;      /* in a row */
        struct err failure;     /* the last */
    } synced;
};

/* ---- which source ---- */

static enum err_code source_choose(const struct s3_config *config, const struct s3_keys *setting_keys, enum source *out,
                                   struct err *err)
{
    struct s3_keys keys;
    bool found = false;
    if (setting_keys) {
        *out = SOURCE_SETTING;
        return ERR_OK;
    }
    if (config->env_keys.access_key_id[0] != '\0') {
        *out = SOURCE_ENVIRONMENT;
        return ERR_OK;
    }
    if (config->web_identity_token_file[0] != '\0') {
        if (config->role_arn[0] == '\0')
            return err_set(err, ERR_INVALID, "AWS_WEB_IDENTITY_TOKEN_FILE is set: set AWS_ROLE_ARN as well");
        *out = SOURCE_WEB_IDENTITY;
        return ERR_OK;
    }
    if (s3_config_file_keys(config, &keys, &found, err) != ERR_OK)
        return err->code;
    *out = found ? SOURCE_FILE : config->container_uri[0] != '\0' ? SOURCE_CONTAINER : SOURCE_INSTANCE;
    if (!found && config->unsupported[0] != '\0')
        return err_set(err, ERR_INVALID, "Profile '%s' gets its access keys by '%s', which is not supported",
                       config->profile, config->unsupported);
    if (*out == SOURCE_INSTANCE && (config->metadata_is_disabled || config->profile_is_named))
        return err_set(err, ERR_INVALID,
                       "There are no access keys for S3: set AWS_ACCESS_KEY_ID and "
                       "AWS_SECRET_ACCESS_KEY, or put keys for profile '%s' into '%s'",
                       config->profile, config->credentials_file);
    return ERR_OK;
}

const char *s3_credentials_source(const struct s3_credentials *credentials)
{
    return source_names[credentials->source];
}

enum err_code s3_credentials_open(const struct s3_config *config, const struct s3_keys *setting_keys,
                                  const char *ca_file, struct s3_credentials **out, struct err *err)
{
    enum source source;
    if (source_choose(config, setting_keys, &source, err) != ERR_OK)
        return err->code;
    struct s3_credentials *credentials = calloc(1, sizeof(*credentials));
    if (!credentials)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    credentials->config = *config;
    credentials->source = source;
    if (setting_keys)
        credentials->setting_keys = *setting_keys;
    const struct s3_http_settings http = {.connections_max = 1,
                                          .wait_timeout_ms = S3_CREDENTIALS_WAIT_MS_MAX,
                                          .connect_timeout_ms = CONNECT_TIMEOUT_MS,
                                          .stall_timeout_ms = S3_CREDENTIALS_WAIT_MS_MAX,
                                          .ca_file = ca_file && ca_file[0] != '\0' ? ca_file : config->ca_bundle,
                                          .proxy_is_ignored = source != SOURCE_WEB_IDENTITY};
    if (s3_http_open(&http, &credentials->http, err) != ERR_OK) {
        free(credentials);
        return err->code;
    }
    wait_init(&credentials->refreshed);
    pthread_mutex_init(&credentials->mutex, NULL);
    *out = credentials;
    return ERR_OK;
}

void s3_credentials_close(struct s3_credentials *credentials)
{
    if (!credentials)
        return;
    s3_http_close(credentials->http);
    pthread_cond_destroy(&credentials->refreshed);
    pthread_mutex_destroy(&credentials->mutex);
    explicit_bzero(credentials, sizeof(*credentials));
    free(credentials);
}

/* ---- refreshing ---- */

static enum err_code fetch_file(const struct s3_config *config, struct s3_keys *out, struct err *err)
{
    bool found;
    if (s3_config_file_keys(config, out, &found, err) != ERR_OK)
        return err->code;
    if (!found)
        return err_set(err, ERR_INVALID, "Profile '%s' in '%s' has no keys any more", config->profile,
                       config->credentials_file);
    return ERR_OK;
}

static enum err_code fetch_any(struct s3_credentials *credentials, struct s3_keys *out, uint64_t *out_expires_ms,
                               struct err *err)
{
    const struct s3_config *config = &credentials->config;
    *out_expires_ms = 0;
    switch (credentials->source) {
    case SOURCE_SETTING:
        *out = credentials->setting_keys;
        return ERR_OK;
    case SOURCE_ENVIRONMENT:
        *out = config->env_keys;
        return ERR_OK;
    case SOURCE_FILE:
        return fetch_file(config, out, err);
    case SOURCE_WEB_IDENTITY:
        return fetch_web_identity(config, credentials->http, out, out_expires_ms, err);
    case SOURCE_CONTAINER:
        return fetch_container(config, credentials->http, out, out_expires_ms, err);
    case SOURCE_INSTANCE:
        break;
    }
    if (fetch_instance(config, credentials->http, out, out_expires_ms, err) == ERR_OK)
        return ERR_OK;
    /* The last resort failed: most likely keys were to come from elsewhere. */
    return err_wrap(err,
                    "no access keys in the configuration, the environment (AWS_ACCESS_KEY_ID, "
                    "AWS_WEB_IDENTITY_TOKEN_FILE, AWS_CONTAINER_CREDENTIALS_FULL_URI) or profile '%s' of '%s'; EC2's "
                    "metadata service",
                    config->profile, config->credentials_file);
}

/* Fetch without the lock, then take over what came. Called and left with the lock held. */
static enum err_code refresh_synced(struct s3_credentials *credentials, struct err *err)
{
    struct s3_keys keys;
    uint64_t expires_ms;
    assert(!credentials->synced.refreshing);
    credentials->synced.refreshing = true;
    pthread_mutex_unlock(&credentials->mutex);
    enum err_code code = fetch_any(credentials, &keys, &expires_ms, err);
    if (code == ERR_OK && expires_ms != 0 && expires_ms <= clock_wall_ms())
        code = err_set(err, ERR_UPSTREAM, "The access keys that were given have expired already");
    uint64_t now = clock_monotonic_ms();
    if (code != ERR_OK) {
        (void) err_wrap(err, "access keys from %s", source_names[credentials->source]);
        log_event(LOG_WARN, "no new access keys for the object store",
                  LOG_TEXT("source", source_names[credentials->source]), LOG_TEXT("error", err_text(err)));
    }
    pthread_mutex_lock(&credentials->mutex);

    credentials->synced.refreshing = false;
    if (code == ERR_OK) {
        credentials->synced.keys = keys;
        credentials->synced.expires_ms = expires_ms;
        credentials->synced.valid = true;
        credentials->synced.failures = 0;
        bool is_brief = expires_ms != 0 && expires_ms <= clock_wall_ms() + S3_CREDENTIALS_AHEAD_MS;
        credentials->synced.not_before_ms = is_brief ? now + SUCCESS_WAIT_MS : now;
    } else {
        unsigned shift = credentials->synced.failures < 5 ? credentials->synced.failures : 5;
        uint64_t wait = (uint64_t) FAILURE_WAIT_MS_FIRST << shift;
        credentials->synced.failures++;
        credentials->synced.not_before_ms = now + (wait < FAILURE_WAIT_MS_MAX ? wait : FAILURE_WAIT_MS_MAX);
        credentials->synced.failure = *err;
    }
    pthread_cond_broadcast(&credentials->refreshed);
    return code;
}

/* Keys that work, those in use or new ones. With the lock held. */
static enum err_code get_synced(struct s3_credentials *credentials, struct err *err)
{
    uint64_t until_ms = clock_monotonic_ms() + S3_CREDENTIALS_WAIT_MS_MAX;
    for (;;) {
        uint64_t now = clock_wall_ms();
        uint64_t expires_ms = credentials->synced.expires_ms;
        bool is_usable = credentials->synced.valid && (expires_ms == 0 || now < expires_ms);
        bool is_fresh = is_usable && (expires_ms == 0 || now + S3_CREDENTIALS_AHEAD_MS < expires_ms);
        /* Only a failure makes those wait who have no keys. */
        bool is_due = clock_monotonic_ms() >= credentials->synced.not_before_ms ||
                      (!is_usable && credentials->synced.failures == 0);
        if (is_fresh)
            return ERR_OK;
        if (!credentials->synced.refreshing && is_due) {
            struct err failure = ERR_INIT;
            enum err_code code = refresh_synced(credentials, &failure);
            if (code == ERR_OK || is_usable)
                return ERR_OK;
            *err = failure;
            return code;
        }
        if (is_usable)
            return ERR_OK;
        if (!credentials->synced.refreshing) {
            *err = credentials->synced.failure;
            return err->code;
        }
        if (!wait_until(&credentials->refreshed, &credentials->mutex, until_ms))
            return err_set(err, ERR_TIMEOUT, "Waiting for access keys to the object store took too long");
    }
}

enum err_code s3_credentials_get(struct s3_credentials *credentials, struct s3_keys *out, uint64_t *out_expires_ms,
                                 struct err *err)
{
    pthread_mutex_lock(&credentials->mutex);
    enum err_code code = get_synced(credentials, err);
    if (code == ERR_OK) {
        *out = credentials->synced.keys;
        *out_expires_ms = credentials->synced.expires_ms;
    }
    pthread_mutex_unlock(&credentials->mutex);
    return code;
}

bool s3_credentials_reject(struct s3_credentials *credentials, const char *access_key_id)
{
    if (credentials->source == SOURCE_SETTING || credentials->source == SOURCE_ENVIRONMENT)
        return false;
    uint64_t now = clock_monotonic_ms();
    pthread_mutex_lock(&credentials->mutex);
    bool is_current = credentials->synced.valid && strcmp(credentials->synced.keys.access_key_id, access_key_id) == 0;
    bool is_too_soon = credentials->synced.rejected_ms != 0 && now < credentials->synced.rejected_ms + REJECT_WAIT_MS;
    if (is_current && !is_too_soon) {
        credentials->synced.valid = false;
        credentials->synced.not_before_ms = 0;
        credentials->synced.rejected_ms = now;
    }
    pthread_mutex_unlock(&credentials->mutex);
    return !is_current || !is_too_soon;
}

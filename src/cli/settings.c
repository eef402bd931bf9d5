#include "cli/settings.h"

#include "cli/location.h"
#include "store/s3.h"

#include <strings.h>
#include <sys/resource.h>

#define ORIGIN_BYTES_MAX 256
#define CONNECTIONS_DEFAULT_MAX 20000
#define CONNECTIONS_DEFAULT_MIN 100
/* Descriptors left for everything but clients' connections. */
#define FILES_BESIDE 512
#define FILES_PER_WORKER 4

/* "orlop.yaml:7: http.tls_key: " and then what the format says. */
static enum err_code settings_refuse(const struct config *config, enum setting setting, const char *problem,
                                     struct err *err)
{
    char origin_text[ORIGIN_BYTES_MAX];
    struct buf origin = BUF_ON(origin_text);
    (void) config_append_origin(&origin, config, setting);
    char key[CONFIG_NAME_BYTES_MAX];
    setting_key_name(setting, key);
    return err_set(err, ERR_INVALID, "%s: %s: %s", origin.ptr, key, problem);
}

static enum err_code check_listen(const struct config *config, enum setting setting, struct err *err)
{
    const char *text = config_text(config, setting);
    const char *colon = strrchr(text, ':');
    uint64_t port;
    if (colon && str_parse_u64(str_from(colon + 1), &port) && port <= UINT16_MAX)
        return ERR_OK;
    return settings_refuse(config, setting, "it must be ADDRESS:PORT, [IPv6]:PORT or :PORT", err);
}

/* A bucket's URL with a slip in it would make a directory of that name. */
static bool is_mistyped_url(const char *location)
{
    return !location_is_s3(location) &&
           (strncasecmp(location, "s3:", 3) == 0 || strncmp(location, "s3//", 4) == 0 || strstr(location, "://"));
}

enum err_code settings_check_store(const struct config *config, struct err *err)
{
    if (is_mistyped_url(config_text(config, SETTING_store_location)))
        return settings_refuse(config, SETTING_store_location,
                               "a bucket is s3://BUCKET[/PREFIX], with its store's address in s3.endpoint; a directory "
                               "of such a name is ./NAME",
                               err);
    uint64_t part_bytes = config_number(config, SETTING_s3_part_bytes);
    if (part_bytes != 0 && part_bytes < S3_PART_BYTES_MIN)
        return settings_refuse(config, SETTING_s3_part_bytes, "S3 takes no parts under 5MiB but the last", err);
    if (part_bytes > config_number(config, SETTING_s3_part_memory_bytes_max) / 4)
        return settings_refuse(config, SETTING_s3_part_bytes, "a part may be a quarter of s3.part_memory_bytes_max",
                               err);
    return ERR_OK;
}

enum err_code settings_check(const struct config *config, struct err *err)
{
    if (settings_check_store(config, err) || check_listen(config, SETTING_http_listen, err))
        return err->code;
    if (config_text(config, SETTING_admin_listen)[0] && check_listen(config, SETTING_admin_listen, err))
        return err->code;
    bool certificate = config_text(config, SETTING_http_tls_certificate)[0] != '\0';
    bool key = config_text(config, SETTING_http_tls_key)[0] != '\0';
    if (certificate && !key)
        return settings_refuse(config, SETTING_http_tls_certificate, "it needs http.tls_key beside it", err);
    if (key && !certificate)
        return settings_refuse(config, SETTING_http_tls_key, "it needs http.tls_certificate beside it", err);
    return ERR_OK;
}

/* http.connections_max, or what the limit of open files allows. */
static unsigned connections_max(const struct config *config)
{
    uint64_t wanted = config_number(config, SETTING_http_connections_max);
    if (wanted > 0)
        return (unsigned) wanted;
    struct rlimit limit;
    uint64_t beside = FILES_BESIDE + FILES_PER_WORKER * config_number(config, SETTING_http_workers);
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max < beside + CONNECTIONS_DEFAULT_MIN)
        return CONNECTIONS_DEFAULT_MIN;
    uint64_t left = limit.rlim_max - beside;
    return left < CONNECTIONS_DEFAULT_MAX ? (unsigned) left : CONNECTIONS_DEFAULT_MAX;
}

struct http_settings settings_http(const struct config *config)
{
    return (struct http_settings){
        .listen = config_text(config, SETTING_http_listen),
        .admin_listen = config_text(config, SETTING_admin_listen),
        .tls_certificate = config_text(config, SETTING_http_tls_certificate),
        .tls_key = config_text(config, SETTING_http_tls_key),
        .network_threads = (unsigned) config_number(config, SETTING_http_network_threads),
        .workers = (unsigned) config_number(config, SETTING_http_workers),
        .connections_max = connections_max(config),
        .connections_per_address_max = (unsigned) config_number(config, SETTING_http_connections_per_address_max),
        .jobs_waiting_max = (unsigned) config_number(config, SETTING_http_jobs_waiting_max),
        .header_bytes_max = config_number(config, SETTING_http_header_bytes_max),
        .body_pipe_bytes = config_number(config, SETTING_http_body_pipe_bytes),
        .buffered_bytes_max = config_number(config, SETTING_http_buffered_bytes_max),
        .header_timeout_ms = config_number(config, SETTING_http_header_timeout),
        .idle_timeout_ms = config_number(config, SETTING_http_idle_timeout),
        .body_timeout_ms = config_number(config, SETTING_http_body_timeout),
        .body_bytes_per_second_min = config_number(config, SETTING_http_body_rate_min),
        .linger_ms_max = config_number(config, SETTING_http_linger),
        .drain_ms_max = config_number(config, SETTING_http_drain),
        .access_log = config_bool(config, SETTING_log_access),
    };
}

struct registry_settings settings_registry(const struct config *config)
{
    return (struct registry_settings){
        .cache_bytes_max = config_number(config, SETTING_registry_cache_bytes_max),
        .upload_idle_ms_max = config_number(config, SETTING_uploads_idle),
        .sparse_indexes = config_bool(config, SETTING_registry_sparse_indexes),
        .check_references = config_bool(config, SETTING_registry_check_references),
        .deletes = config_bool(config, SETTING_registry_deletes),
        .redirect = (enum blob_redirect) config_number(config, SETTING_s3_redirect),
        .redirect_expires_s = (uint32_t) (config_number(config, SETTING_s3_redirect_expires) / 1000),
    };
}

/* The choices below stand in their enum's order. */

enum auth_anonymous settings_anonymous(const struct config *config)
{
    return (enum auth_anonymous) config_number(config, SETTING_auth_anonymous);
}

enum log_level settings_log_level(const struct config *config)
{
    return (enum log_level) config_number(config, SETTING_log_level);
}

enum log_format settings_log_format(const struct config *config)
{
    return (enum log_format) config_number(config, SETTING_log_format);
}

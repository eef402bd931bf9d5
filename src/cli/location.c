/* From the settings to an open store. */
#include "cli/location.h"

#include "store/s3.h"
#include "store/s3_config.h"

struct location {
    struct store *store;
    struct s3_credentials *credentials; /* NULL for a directory */
};

bool location_is_s3(const char *text)
{
    return str_starts(str_from(text), STR("s3://"));
}

struct store *location_store(struct location *location)
{
    return location->store;
}

void location_close(struct location *location)
{
    if (!location)
        return;
    store_close(location->store);
    s3_credentials_close(location->credentials);
    free(location);
}

/* The setting if it says something, else what the AWS environment and files say. */
static const char *setting_or(const struct config *config, enum setting setting, const char *otherwise)
{
    const char *text = config_text(config, setting);
    return text[0] ? text : otherwise;
}

static enum err_code open_s3(const struct config *config, bool must_exist, struct location *location, struct err *err)
{
    struct s3_target target;
    auto_mem struct s3_config *aws = calloc(1, sizeof(*aws));
    if (!aws)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    const char *profile = config_text(config, SETTING_s3_profile);
    if (s3_config_load(profile[0] ? profile : NULL, aws, err) != ERR_OK)
        return err->code;
    const char *ca_file = setting_or(config, SETTING_s3_ca_file, aws->ca_bundle);
    struct s3_target_settings where = {
        .url = config_text(config, SETTING_store_location),
        .endpoint_url = setting_or(config, SETTING_s3_endpoint, aws->endpoint_url),
        .public_endpoint_url = config_text(config, SETTING_s3_public_endpoint),
        .region = setting_or(config, SETTING_s3_region, aws->region),
        .addressing = (enum s3_addressing) config_number(config, SETTING_s3_addressing),
    };
    struct s3_settings settings = S3_SETTINGS_DEFAULT;
    settings.client.target = &target;
    settings.client.ca_file = ca_file;
    settings.client.connections_max = (size_t) config_number(config, SETTING_s3_connections_max);
    settings.client.checksum = (enum s3_checksum) config_number(config, SETTING_s3_checksum);
    settings.part_memory_bytes_max = config_number(config, SETTING_s3_part_memory_bytes_max);
    settings.part_bytes = config_number(config, SETTING_s3_part_bytes);
    settings.senders = (unsigned) config_number(config, SETTING_s3_senders);
    settings.is_single_writer = config_bool(config, SETTING_s3_single_writer);
    if (s3_target_parse(&where, &target, err) != ERR_OK ||
        s3_credentials_open(aws, NULL, ca_file, &location->credentials, err) != ERR_OK)
        return err->code;
    settings.client.credentials = location->credentials;
    settings.must_exist = must_exist;
    enum err_code code = s3_store_open(&settings, &location->store, err);
    bool says_enough = code == ERR_OK || code == ERR_NOT_FOUND || code == ERR_INVALID || code == ERR_VERSION;
    if (!says_enough)
        return err_become(err, code, "%.300s: look at bucket '%s', endpoint %s://%s, region %s, access keys (%s)",
                          err->message, target.bucket, target.endpoint.tls ? "https" : "http", target.endpoint.host,
                          target.region, s3_credentials_source(location->credentials));
    return code;
}

enum err_code location_open(const struct config *config, enum local_access access, struct location **out,
                            struct err *err)
{
    const char *text = config_text(config, SETTING_store_location);
    struct location *location = calloc(1, sizeof(*location));
    if (!location)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    enum err_code code = location_is_s3(text) ? open_s3(config, access == LOCAL_BESIDE, location, err)
                                              : local_store_open(text, access, &location->store, err);
    if (code != ERR_OK) {
        location_close(location);
        return code;
    }
    *out = location;
    return ERR_OK;
}

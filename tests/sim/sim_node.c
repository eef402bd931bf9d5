#include "sim_node.h"

#include "sim_sched.h"
#include "store/s3_config.h"

#define PART_MEMORY_BYTES (48 * 1024) /* six first parts */

struct sim_node_settings sim_node_settings_small(void)
{
    struct sim_node_settings settings = {.store = S3_SETTINGS_DEFAULT,
                                         .with_registry = true,
                                         .registry = REGISTRY_SETTINGS_DEFAULT};
    settings.store.part_memory_bytes_max = PART_MEMORY_BYTES;
    settings.store.senders = 2;
    settings.store.client.connections_max = 8;
    settings.registry.cache_bytes_max = 1024 * 1024;
    return settings;
}

enum err_code sim_node_open(const struct sim_node_settings *settings, struct sim_node *out, struct err *err)
{
    static const struct s3_keys keys = {.access_key_id = "sim", .secret_access_key = "secret"};
    char endpoint[64];
    auto_mem struct s3_config *config = calloc(1, sizeof(*config));
    auto_mem struct s3_target *target = calloc(1, sizeof(*target));
    sim_check(config && target, "no memory");
    *out = (struct sim_node){.number = sim_net_node()};
    sim_net_endpoint(out->number, endpoint, sizeof(endpoint));
    const struct s3_target_settings where = {.url = "s3://bucket", .endpoint_url = endpoint};
    struct s3_settings store = settings->store;
    enum err_code code = s3_target_parse(&where, target, err);
    if (code == ERR_OK)
        code = s3_credentials_open(config, &keys, NULL, &out->credentials, err);
    store.client.target = target;
    store.client.credentials = out->credentials;
    if (code == ERR_OK)
        code = s3_store_open(&store, &out->store, err);
    if (code == ERR_OK && settings->with_registry)
        code = registry_new(out->store, &settings->registry, &out->registry, err);
    if (code != ERR_OK)
        sim_node_close(out);
    return code;
}

void sim_node_close(struct sim_node *node)
{
    registry_free(node->registry);
    store_close(node->store);
    s3_credentials_close(node->credentials);
    node->registry = NULL;
    node->store = NULL;
    node->credentials = NULL;
}

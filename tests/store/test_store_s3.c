/*
 * The contract suite on a real S3 server. ORLOP_TEST_S3 names the bucket as s3://…, with the usual AWS_… variables for
 * endpoint and keys; without it there is nothing to test against and the program says so. ORLOP_TEST_ROUNDS: how long the
 * tests that race go on, for servers that are slow.
 */
#include "store/s3.h"
#include "store/s3_config.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>

struct place {
    struct s3_config config;
    struct s3_credentials *credentials;
    unsigned next; /* each store has a prefix of its own */
    char url[512];
};

static struct store *place_open(struct place *place)
{
    struct err err = ERR_INIT;
    struct s3_target target;
    struct store *store = NULL;
    struct s3_target_settings where = {.url = place->url,
                                       .endpoint_url = place->config.endpoint_url,
                                       .region = place->config.region};
    if (s3_target_parse(&where, &target, &err) != ERR_OK)
        fail_msg("%s", err_text(&err));
    struct s3_settings settings = S3_SETTINGS_DEFAULT;
    settings.client.target = &target;
    settings.client.credentials = place->credentials;
    if (s3_store_open(&settings, &store, &err) != ERR_OK)
        fail_msg("%s", err_text(&err));
    return store;
}

static struct store *suite_open(void *arg)
{
    struct place *place = arg;
    (void) snprintf(place->url, sizeof(place->url), "%s/t%ld-%u", getenv("ORLOP_TEST_S3"), (long) getpid(),
                    place->next++);
    return place_open(place);
}

static struct store *suite_reopen(void *arg, struct store *store)
{
    store_close(store);
    return place_open(arg);
}

static bool delete_key(void *arg, const char *key, uint64_t size_bytes)
{
    struct err err = ERR_INIT;
    (void) size_bytes;
    assert_ok(store_delete(arg, (const char *const[]){key}, 1, &err));
    return true;
}

static void suite_close(void *arg, struct store *store)
{
    struct err err = ERR_INIT;
    (void) arg;
    assert_ok(store_walk(store, "", delete_key, store, &err));
    store_close(store);
}

int main(void)
{
    struct place place = {0};
    struct err err = ERR_INIT;
    if (!getenv("ORLOP_TEST_S3")) {
        puts("skipped: ORLOP_TEST_S3 names no bucket");
        return 77;
    }
    if (s3_config_load(NULL, &place.config, &err) != ERR_OK ||
        s3_credentials_open(&place.config, NULL, NULL, &place.credentials, &err) != ERR_OK) {
        fprintf(stderr, "%s\n", err_text(&err));
        return 1;
    }
    uint64_t rounds = 0;
    if (getenv("ORLOP_TEST_ROUNDS"))
        (void) str_parse_u64(str_from(getenv("ORLOP_TEST_ROUNDS")), &rounds);
    const struct suite_driver driver = {.name = "S3 store",
                                        .open = suite_open,
                                        .reopen = suite_reopen,
                                        .close = suite_close,
                                        .arg = &place,
                                        .thread_rounds = (int) rounds,
                                        .verifies_sha256 = true};
    int failures = store_suite_run(&driver);
    s3_credentials_close(place.credentials);
    return failures;
}

/*
 * The store contract's suite on the S3 driver over a simulated bucket: without faults, then with faults that the
 * driver must get over by itself (it is given more tries than there can be faults in a row).
 */
#include "sim_node.h"
#include "sim_sched.h"
#include "suite.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

#define FAULTY_SEEDS 3

struct place {
    struct sim_bucket *bucket;
    struct sim_bucket_ways ways;
    struct sim_net_settings net;
    struct sim_node node;
};

static void node_open(struct place *place)
{
    struct err err = ERR_INIT;
    struct sim_node_settings settings = sim_node_settings_small();
    settings.with_registry = false;
    settings.store.part_memory_bytes_max = 1024 * 1024;
    settings.store.client.tries_max = 40; /* so many faults in a row do not come */
    settings.store.client.retry_tokens = 0;
    settings.store.client.backoff_max_ms = 500;
    if (sim_node_open(&settings, &place->node, &err) != ERR_OK)
        fail_msg("%s", err_text(&err));
}

static struct store *suite_sim_open(void *arg)
{
    struct place *place = arg;
    place->bucket = sim_bucket_new(&place->ways);
    place->net.bucket = place->bucket;
    sim_net_begin(&place->net);
    node_open(place);
    return place->node.store;
}

static struct store *suite_sim_reopen(void *arg, struct store *store)
{
    struct place *place = arg;
    (void) store;
    sim_node_close(&place->node);
    node_open(place);
    return place->node.store;
}

static void suite_sim_close(void *arg, struct store *store)
{
    struct place *place = arg;
    (void) store;
    sim_node_close(&place->node);
    sim_settle();
    print_message("%llu requests\n", (unsigned long long) sim_net_request_count());
    sim_bucket_free(place->bucket);
}

/*
 * Whatever the driver can get over without help: no late requests, which may undo what came after them, and none without
 * an answer, of which two in a row are where it gives up.
 */
static void choose_faults(struct sim_net_settings *net)
{
    net->has_delays = true;
    net->faults_of_10000 = 600;
    for (int i = 1; i < SIM_FAULT_COUNT; i++)
        net->weights[i] = i != SIM_FAULT_LATE && i != SIM_FAULT_TIMEOUT_BEFORE && i != SIM_FAULT_TIMEOUT_AFTER;
}

/* Does a node that opens such a bucket know whether others may write to it as well? */
static int expect_exclusive(struct place *place, struct sim_bucket_ways ways, bool expected, const char *name)
{
    place->ways = ways;
    bool exclusive = store_caps(suite_sim_open(place))->exclusive;
    suite_sim_close(place, NULL);
    printf(exclusive == expected ? "[       OK ] %s\n" : "[  FAILED  ] %s\n", name);
    return exclusive != expected;
}

int main(int argc, char **argv)
{
    struct place place = {0};
    struct suite_driver driver = {
        "S3 store on a simulated bucket", suite_sim_open, suite_sim_reopen, suite_sim_close, &place,
        .verifies_sha256 = true};
    (void) argc;
    sim_program = argv[0];
    log_set_level(LOG_ERROR);
    sim_begin(1);
    int failures = store_suite_run(&driver);
    failures += expect_exclusive(&place, (struct sim_bucket_ways){0}, false, "conditions_are_honoured");
    failures += expect_exclusive(&place, (struct sim_bucket_ways){.ignores_if_none_match = true}, true,
                                 "conditions_are_ignored");
    failures +=
        expect_exclusive(&place, (struct sim_bucket_ways){.refuses_conditions = true}, true, "conditions_are_refused");
    choose_faults(&place.net);
    for (uint64_t seed = 1; seed <= FAULTY_SEEDS; seed++) {
        char name[64];
        (void) snprintf(name, sizeof(name), "S3 store with faults, seed %llu", (unsigned long long) seed);
        driver.name = name;
        place.ways = (struct sim_bucket_ways){.page_entries = 1 + sim_below(100),
                                              .complete_wants_all_parts = seed % 2,
                                              .part_bytes_min = S3_PART_BYTES_MIN};
        sim_begin(seed);
        failures += store_suite_run(&driver);
    }
    return failures;
}

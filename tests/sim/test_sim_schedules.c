/*
 * Thousands of schedules: two nodes on one bucket, clients that push, tag, mount, read, list and delete on either,
 * while requests fail in all ways and nodes crash and come back. What must hold is checked at each change of the
 * bucket (sim_truth.c), by each client (sim_push.c, sim_requests.c), and at the end of each schedule, here.
 */
#include "registry/check.h"
#include "sim_run.h"
#include "sim_world.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define SEEDS 10000
#define CLIENTS_MAX 6
#define CLIENT_REQUESTS_MAX 12
#define QUIET_MS (30 * 60 * 1000)
#define EXPIRY_MS (25 * 3600 * 1000ULL)
#define SABOTAGE_SEEDS 200

/* ---- clients ---- */

/* What a client does, by weight. */
static const struct {
    void (*request)(void);
    unsigned weight;
} requests[] = {
    {world_push_blob, 10},     {world_push_blob_together, 3}, {world_push_rivals, 2},    {world_cancel_upload, 2},
    {world_read_blob, 6},      {world_mount_blob, 6},         {world_delete_blob, 3},    {world_put_manifest, 12},
    {world_read_tag, 6},       {world_read_manifest, 4},      {world_delete_tag, 4},     {world_delete_manifest, 3},
    {world_list_referrers, 4}, {world_list_tags, 3},          {world_expire_uploads, 1},
};

static void request_any(void)
{
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
        sum += requests[i].weight;
    unsigned at = (unsigned) sim_below(sum);
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        if (at < requests[i].weight) {
            requests[i].request();
            return;
        }
        at -= requests[i].weight;
    }
}

static void *client_run(void *arg)
{
    uint64_t count = 2 + sim_below(CLIENT_REQUESTS_MAX - 1);
    (void) arg;
    for (uint64_t i = 0; i < count; i++) {
        request_any();
        sim_sleep_ms(sim_chance(1000) ? sim_below(30000) : sim_below(500));
    }
    world.clients--;
    return NULL;
}

/* Crashes nodes now and then, or in the middle of a request. */
static void *chaos_run(void *arg)
{
    uint64_t crashes = sim_below(4);
    (void) arg;
    while (crashes-- > 0 && world.clients > 0) {
        struct place *place = &world.places[sim_below(WORLD_PLACES)];
        sim_net_script_crash(place->node.number, 1 + (unsigned) sim_below(40));
        for (uint64_t left = sim_below(200); left > 0 && !sim_net_is_down(place->node.number); left--)
            sim_sleep_ms(100);
        world_restart(place, sim_below(5000));
    }
    return NULL;
}

/* ---- the end ---- */

/* A late request may have written or removed half of a pair that its own deletion or push had settled long before. */
static bool is_excused(const char *key)
{
    struct key_parts parts;
    char other[KEY_BYTES];
    struct sim_moment never = {0, 0};
    if (sim_truth_was_late(key))
        return true;
    key_parse(key, &parts);
    for (size_t i = 0; i < world.manifest_count; i++) {
        const struct digest *digest = &world.manifests[i].digest;
        bool is_about = parts.kind == KEY_REFERRER ? digest_equal(&parts.referrer, digest)
                                                   : parts.kind == KEY_TAG && sim_truth_tag_was(key, digest, never);
        key_manifest(&parts.repo, digest, other);
        if (is_about && sim_truth_was_late(other))
            return true;
        key_tagged(&parts.repo, digest, &parts.tag, other);
        if (is_about && parts.kind == KEY_TAG && sim_truth_was_late(other))
            return true;
    }
    return false;
}

static void print_finding(void *arg, enum check_severity severity, const char *kind, const char *key, const char *text)
{
    unsigned *errors = arg;
    if (severity == CHECK_ERROR && !is_excused(key)) {
        fprintf(stderr, "check: %s %s: %s\n", kind, key, text);
        ++*errors;
    }
    sim_trace("check: %s %s: %s", kind, key, text);
}

/* Read by a fresh node what the bucket's keys promise. */
static void expect_readable(struct registry *registry)
{
    for (size_t i = 0; sim_bucket_at(world.bucket, i); i++) {
        struct key_parts parts;
        struct err err = ERR_INIT;
        struct manifest *manifest = NULL;
        key_parse(sim_bucket_at(world.bucket, i)->key, &parts);
        struct reference reference = {.is_digest = parts.kind == KEY_MANIFEST, .digest = parts.digest};
        reference.tag = parts.tag;
        if (parts.kind == KEY_REF)
            world_expect_blob(registry, &parts.repo, &parts.digest);
        if (parts.kind != KEY_MANIFEST && parts.kind != KEY_TAG)
            continue;
        enum err_code code = manifest_find(registry, &parts.repo, &reference, &manifest, &err);
        sim_check(code == ERR_OK || is_excused(sim_bucket_at(world.bucket, i)->key), "%s cannot be read: %s",
                  sim_bucket_at(world.bucket, i)->key, world_error(&err));
        manifest_unref(manifest);
    }
}

static void expect_sound(struct sim_node *node)
{
    unsigned errors = 0;
    const struct check_callbacks callbacks = {.arg = &errors, .finding = print_finding};
    struct check_totals totals;
    struct err err = ERR_INIT;
    enum err_code code = registry_check(node->store, false, &callbacks, &totals, &err);
    sim_check(code == ERR_OK, "the check fails: %s", world_error(&err));
    sim_check(errors == 0, "the check finds %u errors", errors);
    sim_count(COUNT_CHECKS, 1);
}

/* Of uploads that nobody goes on with, nothing is left after a while. */
static void expect_tidy(struct sim_node *node)
{
    struct err err = ERR_INIT;
    size_t count;
    for (int pass = 0; pass < 2; pass++) { /* the first takes the sessions, the second what they left behind */
        sim_sleep_ms(EXPIRY_MS);
        sim_check(upload_expire(node->registry, &count, &err) == ERR_OK, "uploads cannot be expired: %s",
                  world_error(&err));
    }
    sim_check(sim_bucket_upload_count(world.bucket) == 0, "%zu multipart uploads are left",
              sim_bucket_upload_count(world.bucket));
    for (size_t i = 0; sim_bucket_at(world.bucket, i); i++) {
        const char *key = sim_bucket_at(world.bucket, i)->key;
        sim_check(strncmp(key, "uploads/", 8) != 0, "an upload's object is left: %s", key);
    }
}

static void run(void)
{
    pthread_t threads[CLIENTS_MAX + 1];
    size_t count = 2 + sim_below(CLIENTS_MAX - 1);
    world_begin();
    world.clients = (unsigned) count;
    for (size_t i = 0; i <= count; i++)
        sim_check(pthread_create(&threads[i], NULL, i < count ? client_run : chaos_run, NULL) == 0, "no task");
    for (size_t i = 0; i <= count; i++)
        (void) pthread_join(threads[i], NULL);
    sim_net_set_faults(0);
    while (sim_net_late_count() > 0)
        sim_sleep_ms(QUIET_MS);
    for (size_t i = 0; i < WORLD_PLACES; i++)
        world_restart(&world.places[i], 0);
    expect_readable(world.places[0].node.registry);
    expect_sound(&world.places[1].node);
    expect_tidy(&world.places[1].node);
    world_end();
}

/* ---- that the harness notices ---- */

static const struct sim_test test = {.name = "schedules",
                                     .seeds = SEEDS,
                                     .run = run,
                                     .counter_names = world_counter_names};

/* A bucket that breaks one promise must make schedules fail. */
static int run_sabotaged(const char *name, struct sim_bucket_ways ways)
{
    world.ways = ways;
    uint64_t failed = sim_run_seeds(&test, 1, SABOTAGE_SEEDS, true);
    world.ways = (struct sim_bucket_ways){0};
    printf(failed ? "[       OK ] notices %s\n" : "[  FAILED  ] notices %s\n", name);
    return failed ? 0 : 1;
}

int main(int argc, char **argv)
{
    int status = sim_run_main(&test, argc, argv);
    if (argc > 1)
        return status;
    status |= run_sabotaged("ignored_conditions", (struct sim_bucket_ways){.ignores_if_none_match = true});
    status |= run_sabotaged("lost_puts", (struct sim_bucket_ways){.loses_puts_of_10000 = 50});
    status |= run_sabotaged("cut_puts", (struct sim_bucket_ways){.cuts_puts_of_10000 = 50});
    status |= run_sabotaged("stale_lists", (struct sim_bucket_ways){.lists_stale_of_10000 = 500});
    return status;
}

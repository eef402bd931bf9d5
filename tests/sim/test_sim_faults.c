/*
 * One fault at a time, everywhere: a day in the life of a node is lived once without faults, then once for each of its
 * requests and each way in which that can fail; nobody may notice. Then the node crashes at each of its requests, and
 * another must find everything that was acknowledged.
 */
#include "registry/blob.h"
#include "registry/check.h"
#include "registry/listing.h"
#include "sim_run.h"
#include "sim_world.h"

#include "digest/hash.h"

#include <stdio.h>
#include <stdlib.h>

#define BLOB_BYTES 30000
#define CHUNK_BYTES 9000
#define REQUESTS_MAX 200 /* of a day; it has fewer */

enum counter { COUNT_DAYS };
static const char *const counter_names[] = {"days", NULL};

/* What was acknowledged in a day, in order. */
struct day {
    struct sim_bucket *bucket;
    struct sim_node node;
    struct repo_name repo, other;
    struct tag_name tag;
    char bytes[BLOB_BYTES];
    struct digest small, large, manifest, referrer;
    bool has_small, has_large, has_mount, has_manifest, has_tag, has_referrer;
    struct err err;
};

static void bytes_digest(const void *bytes, size_t len, struct digest *out)
{
    struct hash hash;
    hash_init(&hash, DIGEST_SHA256);
    hash_update(&hash, bytes, len);
    hash_digest(&hash, out);
}

static struct day *day_new(void)
{
    static const struct sim_bucket_ways ways = {.part_bytes_min = S3_PART_BYTES_MIN};
    struct day *day = calloc(1, sizeof(*day));
    struct err err = ERR_INIT;
    sim_check(day, "no memory");
    day->bucket = sim_bucket_new(&ways);
    sim_truth_begin(day->bucket);
    const struct sim_net_settings net = {.bucket = day->bucket, .late_ms_max = 5000};
    sim_net_begin(&net);
    sim_check(repo_name_parse(STR("one"), &day->repo, &err) == ERR_OK &&
                  repo_name_parse(STR("two"), &day->other, &err) == ERR_OK &&
                  tag_name_parse(STR("latest"), &day->tag, &err) == ERR_OK,
              "a name is refused");
    for (size_t i = 0; i < sizeof(day->bytes); i++)
        day->bytes[i] = (char) (i * i / 7);
    bytes_digest(day->bytes, 1000, &day->small);
    bytes_digest(day->bytes, sizeof(day->bytes), &day->large);
    return day;
}

static void day_free(struct day *day)
{
    sim_node_close(&day->node);
    sim_settle();
    sim_truth_end();
    sim_bucket_free(day->bucket);
    free(day);
}

static bool day_open(struct day *day)
{
    struct sim_node_settings settings = sim_node_settings_small();
    return sim_node_open(&settings, &day->node, &day->err) == ERR_OK;
}

/* ---- what is done in a day; false: it failed ---- */

static bool push_small(struct day *day)
{
    struct upload *upload;
    if (upload_begin_single(day->node.registry, &day->repo, DIGEST_SHA256, &upload, &day->err) != ERR_OK)
        return false;
    if (upload_write(upload, day->bytes, 1000, &day->err) != ERR_OK) {
        upload_abandon(upload);
        return false;
    }
    return day->has_small = upload_commit(upload, &day->small, &day->err) == ERR_OK;
}

/* In chunks, each of more than a part. */
static bool push_large(struct day *day)
{
    struct registry *registry = day->node.registry;
    struct upload_id id;
    struct upload *upload;
    uint64_t size_bytes;
    if (upload_start(registry, &day->repo, DIGEST_SHA256, &id, &day->err) != ERR_OK)
        return false;
    for (size_t at = 0; at < BLOB_BYTES; at += CHUNK_BYTES) {
        size_t len = BLOB_BYTES - at < CHUNK_BYTES ? BLOB_BYTES - at : CHUNK_BYTES;
        const struct upload_range range = {at, at + len};
        if (upload_begin(registry, &day->repo, &id, &range, NULL, &upload, &size_bytes, &day->err) != ERR_OK)
            return false;
        if (upload_write(upload, day->bytes + at, len, &day->err) != ERR_OK) {
            upload_abandon(upload);
            return false;
        }
        if (upload_finish_chunk(upload, &size_bytes, &day->err) != ERR_OK)
            return false;
    }
    if (upload_begin(registry, &day->repo, &id, NULL, &day->large, &upload, &size_bytes, &day->err) != ERR_OK)
        return false;
    return day->has_large = upload_commit(upload, &day->large, &day->err) == ERR_OK;
}

static bool may_read(void *arg, const struct repo_name *repo)
{
    (void) arg, (void) repo;
    return true;
}

static bool push_manifest(struct day *day, const char *text, const struct tag_name *tag, struct digest *out)
{
    struct manifest_put_result result;
    const struct manifest_put put = {
        .repo = &day->repo, .bytes = str_from(text), .tags = tag, .tag_count = tag != NULL};
    bytes_digest(text, strlen(text), out);
    return manifest_put(day->node.registry, &put, &result, &day->err) == ERR_OK;
}

static bool push_manifests(struct day *day)
{
    char text[1024], digest[DIGEST_TEXT_BYTES_MAX];
    digest_format(&day->large, digest);
    (void) snprintf(text, sizeof(text),
                    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{"
                    "\"mediaType\":\"a/b\",\"size\":30000,\"digest\":\"%s\"},\"layers\":[]}",
                    digest);
    if (!push_manifest(day, text, &day->tag, &day->manifest))
        return false;
    day->has_manifest = day->has_tag = true;
    digest_format(&day->manifest, digest);
    (void) snprintf(text, sizeof(text),
                    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[],"
                    "\"subject\":{\"mediaType\":\"a/b\",\"size\":1,\"digest\":\"%s\"}}",
                    digest);
    return day->has_referrer = push_manifest(day, text, NULL, &day->referrer);
}

static bool list_referrers(struct day *day)
{
    struct referrers_page page;
    char text[DIGEST_TEXT_BYTES_MAX];
    const struct referrers_query query = {.repo = &day->repo, .subject = day->manifest};
    if (referrers_list(day->node.registry, &query, &page, &day->err) != ERR_OK)
        return false;
    digest_format(&day->referrer, text);
    sim_check(strstr(buf_str(&page.json).ptr, text), "a referrer is not listed");
    buf_free(&page.json);
    return true;
}

static bool live(struct day *day)
{
    struct registry *registry = day->node.registry;
    if (!push_small(day) || !push_large(day))
        return false;
    if (blob_mount(registry, &day->other, &day->large, &day->repo, may_read, NULL, &day->err) != ERR_OK)
        return false;
    day->has_mount = true;
    return push_manifests(day) && list_referrers(day);
}

/* ---- what must be there ---- */

static void expect_manifest(struct day *day, const struct reference *reference, const struct digest *digest)
{
    struct err err = ERR_INIT;
    struct manifest *manifest = NULL;
    sim_check(manifest_find(day->node.registry, &day->repo, reference, &manifest, &err) == ERR_OK,
              "a manifest is lost: %s", world_error(&err));
    sim_check(digest_equal(&manifest->digest, digest), "a tag points elsewhere");
    manifest_unref(manifest);
}

static void expect_kept(struct day *day)
{
    struct registry *registry = day->node.registry;
    struct check_totals totals;
    const struct check_callbacks callbacks = {0};
    struct err err = ERR_INIT;
    if (day->has_small)
        world_expect_blob(registry, &day->repo, &day->small);
    if (day->has_large)
        world_expect_blob(registry, &day->repo, &day->large);
    if (day->has_mount)
        world_expect_blob(registry, &day->other, &day->large);
    if (day->has_manifest)
        expect_manifest(day, &(struct reference){.is_digest = true, .digest = day->manifest}, &day->manifest);
    if (day->has_tag)
        expect_manifest(day, &(struct reference){.tag = day->tag}, &day->manifest);
    if (day->has_referrer)
        sim_check(list_referrers(day), "referrers cannot be listed: %s", world_error(&day->err));
    sim_check(registry_check(day->node.store, false, &callbacks, &totals, &err) == ERR_OK, "the check fails: %s",
              world_error(&err));
    sim_check(totals.errors == 0, "the check finds %llu errors", (unsigned long long) totals.errors);
}

static void restart(struct day *day)
{
    sim_node_close(&day->node);
    while (sim_net_late_count() > 0)
        sim_sleep_ms(1000);
    sim_check(day_open(day), "a node cannot be opened: %s", world_error(&day->err));
}

/* Request number nth meets the fault; false: there are not so many. */
static bool day_with_fault(unsigned nth, enum sim_fault fault)
{
    struct day *day = day_new();
    sim_net_script(0, nth, fault); /* the first node to be */
    sim_check(day_open(day) && live(day), "fault '%s' at request %u is noticed: %s", sim_fault_name(fault), nth,
              world_error(&day->err));
    bool has_met = sim_net_fault_count(fault) > 0;
    sim_check(!store_caps(day->node.store)->exclusive, "a node believes that it is alone");
    restart(day);
    expect_kept(day);
    day_free(day);
    sim_count(COUNT_DAYS, 1);
    return has_met;
}

static bool day_with_crash(unsigned nth)
{
    struct day *day = day_new();
    sim_net_script_crash(0, nth);
    bool is_whole = day_open(day) && live(day);
    restart(day);
    expect_kept(day);
    sim_check(live(day), "what a crash interrupted cannot be repeated: %s", world_error(&day->err));
    expect_kept(day);
    day_free(day);
    sim_count(COUNT_DAYS, 1);
    return !is_whole;
}

/* Each seed is one way to fail; the last is the crash. */
static void run(void)
{
    uint64_t way = sim_seed();
    unsigned nth = 1;
    while (way < SIM_FAULT_COUNT ? day_with_fault(nth, (enum sim_fault) way) : day_with_crash(nth)) {
        nth++;
        sim_check(nth < REQUESTS_MAX, "a day has more than %d requests", REQUESTS_MAX);
    }
    sim_check(nth > 30, "a day has only %u requests", nth - 1);
}

int main(int argc, char **argv)
{
    const struct sim_test test = {
        .name = "single_faults", .seeds = SIM_FAULT_COUNT, .run = run, .counter_names = counter_names};
    return sim_run_main(&test, argc, argv);
}

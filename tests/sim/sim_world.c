#include "sim_world.h"

#include "digest/hash.h"
#include "sim_run.h"

#include <stdio.h>
#include <stdlib.h>

#define DOWN_STEP_MS 50
#define OPEN_TRIES_MAX 200

struct world world;

const char *const world_counter_names[] = {
    [COUNT_REQUESTS] = "requests to the bucket",
    [COUNT_FAULTS] = "faults",
    [COUNT_LATE] = "late requests",
    [COUNT_CRASHES] = "crashes",
    [COUNT_UNHEARD] = "unheard answers",
    [COUNT_PUSHES] = "blobs pushed",
    [COUNT_RESUMES] = "uploads resumed",
    [COUNT_SESSIONS_LOST] = "sessions that had to restart",
    [COUNT_BLOB_READS] = "blobs read",
    [COUNT_MOUNTS] = "blobs mounted",
    [COUNT_BLOB_DELETES] = "blobs deleted",
    [COUNT_CANCELS] = "uploads cancelled",
    [COUNT_MANIFEST_PUTS] = "manifests pushed",
    [COUNT_TAG_MOVES] = "tags moved",
    [COUNT_MISMATCHES] = "conditions not met",
    [COUNT_MANIFEST_READS] = "manifests read",
    [COUNT_TAG_DELETES] = "tags deleted",
    [COUNT_MANIFEST_DELETES] = "manifests deleted",
    [COUNT_LISTS] = "lists read",
    [COUNT_CHECKS] = "whole checks",
    [WORLD_COUNTERS] = NULL,
};

/* ---- making ---- */

static void bytes_digest(const void *bytes, size_t len, enum digest_algorithm algorithm, struct digest *out)
{
    struct hash hash;
    hash_init(&hash, algorithm);
    hash_update(&hash, bytes, len);
    hash_digest(&hash, out);
}

/* From nothing to many parts with a checkpoint on the way. */
static void make_contents(void)
{
    static const size_t least[WORLD_CONTENTS] = {0, 1, 100, 3000, 6000, 9000, 26000};
    static const size_t most[WORLD_CONTENTS] = {0, 40, 3000, 6000, 9000, 26000, 60000};
    for (size_t i = 0; i < WORLD_CONTENTS; i++) {
        struct content *content = &world.contents[i];
        content->len = least[i] + (most[i] > least[i] ? (size_t) sim_below(most[i] - least[i]) : 0);
        content->bytes = malloc(content->len + 8);
        sim_check(content->bytes, "no memory");
        for (size_t at = 0; at < content->len; at += 8) {
            uint64_t bits = sim_random();
            memcpy(content->bytes + at, &bits, 8);
        }
        bytes_digest(content->bytes, content->len, sim_chance(2000) ? DIGEST_SHA512 : DIGEST_SHA256, &content->digest);
    }
}

static void make_names(void)
{
    static const char *const repos[WORLD_REPOS] = {"plain", "with/a.dot", "private/one"};
    static const char *const tags[WORLD_TAGS] = {"latest", "v1.0", "edge"};
    struct err err = ERR_INIT;
    for (size_t i = 0; i < WORLD_REPOS; i++)
        sim_check(repo_name_parse(str_from(repos[i]), &world.repos[i], &err) == ERR_OK, "a name is refused");
    for (size_t i = 0; i < WORLD_TAGS; i++)
        sim_check(tag_name_parse(str_from(tags[i]), &world.tags[i], &err) == ERR_OK, "a tag is refused");
    bytes_digest("one", 3, DIGEST_SHA256, &world.subjects[0]);
    bytes_digest("two", 3, DIGEST_SHA256, &world.subjects[1]);
}

/* How much goes wrong in this schedule, and what. */
static void choose_faults(struct sim_net_settings *net)
{
    static const unsigned rates[] = {0, 100, 300, 1000};
    net->faults_of_10000 = rates[sim_below(4)];
    for (int i = 1; i < SIM_FAULT_COUNT; i++)
        net->weights[i] = sim_chance(6000) ? (unsigned) sim_below(4) : 0;
    if (sim_chance(6000))
        net->weights[SIM_FAULT_LATE] = 0;
    net->late_ms_max = sim_chance(5000) ? 2000 : 120000;
}

static void node_open(struct place *place)
{
    for (int tries = 0; tries < OPEN_TRIES_MAX; tries++) {
        struct err err = ERR_INIT;
        enum err_code code = sim_node_open(&world.node, &place->node, &err);
        if (code == ERR_OK) {
            sim_check(!store_caps(place->node.store)->exclusive, "a node believes that it is alone");
            place->is_up = true;
            sim_trace("node-%u is up", place->node.number);
            return;
        }
        sim_check(world_is_transient(code), "a node cannot be opened: %s", world_error(&err));
        sim_sleep_ms(500);
    }
    sim_fail("a node cannot be opened");
}

void world_begin(void)
{
    struct sim_bucket_ways ways = world.ways;
    memset(&world, 0, sizeof(world));
    world.ways = ways;
    ways.part_bytes_min = S3_PART_BYTES_MIN;
    ways.complete_wants_all_parts = sim_chance(3000);
    ways.page_entries = sim_chance(5000) ? 2 + sim_below(6) : 0;
    world.bucket = sim_bucket_new(&ways);
    sim_truth_begin(world.bucket);
    struct sim_net_settings net = {.bucket = world.bucket, .has_delays = true};
    choose_faults(&net);
    unsigned faults_of_10000 = net.faults_of_10000;
    net.faults_of_10000 = 0;
    sim_net_begin(&net);
    world.node = sim_node_settings_small();
    if (sim_chance(3000))
        world.node.store.part_bytes = S3_PART_BYTES_FIRST;
    if (sim_chance(2000)) {
        world.node.store.client.tries_max = 2;
        world.node.store.client.retry_tokens = 20;
    }
    make_contents();
    make_names();
    for (size_t i = 0; i < WORLD_PLACES; i++)
        node_open(&world.places[i]);
    sim_net_set_faults(faults_of_10000);
}

void world_end(void)
{
    for (size_t i = 0; i < WORLD_PLACES; i++)
        sim_node_close(&world.places[i].node);
    for (size_t i = 0; i < WORLD_CONTENTS; i++)
        free(world.contents[i].bytes);
    sim_truth_end();
    sim_bucket_free(world.bucket);
    sim_count(COUNT_REQUESTS, sim_net_request_count());
    for (int i = 1; i < SIM_FAULT_COUNT; i++)
        sim_count(COUNT_FAULTS, sim_net_fault_count((enum sim_fault) i));
    sim_count(COUNT_LATE, sim_net_fault_count(SIM_FAULT_LATE));
}

/* ---- nodes ---- */

struct place *world_enter(void)
{
    for (;;) {
        struct place *place = &world.places[sim_below(WORLD_PLACES)];
        if (place->is_up && !sim_net_is_down(place->node.number)) {
            place->users++;
            return place;
        }
        sim_sleep_ms(DOWN_STEP_MS);
    }
}

bool world_leave(struct place *place)
{
    bool was_heard = !sim_net_is_down(place->node.number);
    place->users--;
    if (!was_heard)
        sim_count(COUNT_UNHEARD, 1);
    return was_heard;
}

void world_restart(struct place *place, uint64_t down_ms)
{
    sim_net_crash(place->node.number);
    sim_count(COUNT_CRASHES, 1);
    while (place->users > 0)
        sim_sleep_ms(DOWN_STEP_MS);
    place->is_up = false;
    sim_node_close(&place->node);
    sim_sleep_ms(down_ms);
    node_open(place);
}

bool world_is_transient(enum err_code code)
{
    return code == ERR_STORE_GONE || code == ERR_BUSY || code == ERR_TIMEOUT || code == ERR_UPSTREAM;
}

const char *world_error(const struct err *err)
{
    static char text[ERR_DETAIL_BYTES_MAX + ERR_MESSAGE_BYTES_MAX + 64];
    (void) snprintf(text, sizeof(text), "%s: %s [%s]", err_info(err->code)->name, err->message, err->detail);
    return text;
}

const struct repo_name *world_repo(void)
{
    return &world.repos[sim_below(WORLD_REPOS)];
}

const struct content *world_content(void)
{
    return &world.contents[sim_below(WORLD_CONTENTS)];
}

/* ---- what is there, as far as anybody was told ---- */

/* One of rows × columns that is marked, mostly; else any. */
static void any_of(const bool *marks, size_t rows, size_t columns, size_t *out_row, size_t *out_column)
{
    size_t marked[WORLD_REPOS * WORLD_CONTENTS], count = 0;
    for (size_t i = 0; i < rows * columns; i++) {
        if (marks[i])
            marked[count++] = i;
    }
    size_t chosen = count > 0 && sim_chance(8000) ? marked[sim_below(count)] : (size_t) sim_below(rows * columns);
    *out_row = chosen / columns;
    *out_column = chosen % columns;
}

void world_any_blob(const struct repo_name **out_repo, const struct content **out_content)
{
    size_t repo, content;
    any_of(&world.has_blob[0][0], WORLD_REPOS, WORLD_CONTENTS, &repo, &content);
    *out_repo = &world.repos[repo];
    *out_content = &world.contents[content];
}

void world_any_tag(const struct repo_name **out_repo, const struct tag_name **out_tag)
{
    size_t repo, tag;
    any_of(&world.has_tag[0][0], WORLD_REPOS, WORLD_TAGS, &repo, &tag);
    *out_repo = &world.repos[repo];
    *out_tag = &world.tags[tag];
}

void world_note_blob(const struct repo_name *repo, const struct digest *digest)
{
    for (size_t i = 0; i < WORLD_REPOS; i++) {
        for (size_t k = 0; k < WORLD_CONTENTS; k++)
            world.has_blob[i][k] |=
                strcmp(world.repos[i].text, repo->text) == 0 && digest_equal(&world.contents[k].digest, digest);
    }
}

void world_note_tag(const struct repo_name *repo, const struct tag_name *tag)
{
    for (size_t i = 0; i < WORLD_REPOS; i++) {
        for (size_t k = 0; k < WORLD_TAGS; k++)
            world.has_tag[i][k] |=
                strcmp(world.repos[i].text, repo->text) == 0 && strcmp(world.tags[k].text, tag->text) == 0;
    }
}

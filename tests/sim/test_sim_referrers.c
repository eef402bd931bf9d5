/*
 * Referrers of one subject under contention: 8 clients push them, 4 delete, 4 list, on two nodes, for 10,000
 * operations.
 * No listing misses an entry whose push was acknowledged before it began and whose deletion nobody had asked for before
 * it ended, nor shows one that nobody pushed; when all is quiet both nodes list exactly what is there.
 */
#include "digest/hash.h"
#include "registry/listing.h"
#include "registry/manifest.h"
#include "sim_node.h"
#include "sim_run.h"
#include "sim_sched.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define SEEDS 2
/* Of each kind, together 10,000. */
#define WRITES 4000
#define DELETES 3950
#define LISTS 2050
#define WRITERS 8
#define DELETERS 4
#define LISTERS 4
#define NODES 2
#define LIVE_MAX 64 /* when there are so many, writers wait for deleters */
#define PAUSE_MS_MAX 100
#define LIST_BYTES_MAX (1024 * 1024)
#define OCI_INDEX "application/vnd.oci.image.index.v1+json"

enum counter { COUNT_PUSHES, COUNT_DELETES, COUNT_LISTS, COUNT_ENTRIES, COUNT_REQUESTS, COUNT_FAULTS };
static const char *const counter_names[] = {"pushes", "deletes", "lists", "entries in lists", "requests to the bucket",
                                            "faults", NULL};

/* Orders of events; 0: it did not happen. */
struct entry {
    struct digest digest;
    uint64_t pushed;  /* acknowledged */
    uint64_t deleted; /* asked for */
    bool is_gone;     /* acknowledged */
};

static struct {
    struct sim_node nodes[NODES];
    struct repo_name repo;
    struct digest subject;
    struct entry entries[WRITES];
    size_t count;
    size_t live;
    size_t deletes, lists;
    uint64_t order;
} race;

static void text_digest(struct str text, struct digest *out)
{
    struct hash hash;
    hash_init(&hash, DIGEST_SHA256);
    hash_update(&hash, text.ptr, text.len);
    hash_digest(&hash, out);
}

/* The number-th referrer's manifest. */
static void entry_text(size_t number, struct buf *out)
{
    char subject[DIGEST_TEXT_BYTES_MAX];
    digest_format(&race.subject, subject);
    sim_check(buf_appendf(out,
                          "{\"schemaVersion\":2,\"mediaType\":\"" OCI_INDEX
                          "\",\"artifactType\":\"a/b\",\"manifests\":[],"
                          "\"subject\":{\"mediaType\":\"" OCI_INDEX "\",\"size\":1,\"digest\":\"%s\"},"
                          "\"annotations\":{\"number\":\"%zu\"}}",
                          subject, number),
              "a manifest is too long");
}

static struct registry *any_node(void)
{
    return race.nodes[sim_below(NODES)].registry;
}

static bool is_transient(enum err_code code)
{
    return code == ERR_STORE_GONE || code == ERR_BUSY || code == ERR_TIMEOUT || code == ERR_UPSTREAM;
}

static void pause_a_little(void)
{
    sim_sleep_ms(sim_below(PAUSE_MS_MAX));
}

/* ---- clients ---- */

static void *write_run(void *arg)
{
    char bytes[1024];
    (void) arg;
    for (;;) {
        pause_a_little();
        if (race.live >= LIVE_MAX && race.deletes < DELETES)
            continue;
        if (race.count == WRITES)
            break;
        size_t number = race.count++;
        struct entry *entry = &race.entries[number];
        struct buf text = BUF_ON(bytes);
        entry_text(number, &text);
        text_digest(buf_str(&text), &entry->digest);
        const struct manifest_put put = {.repo = &race.repo, .digest = &entry->digest, .bytes = buf_str(&text)};
        enum err_code code = ERR_BUSY;
        while (code != ERR_OK) { /* as a client does, until it is acknowledged */
            struct err err = ERR_INIT;
            struct manifest_put_result result;
            code = manifest_put(any_node(), &put, &result, &err);
            sim_check(code == ERR_OK || is_transient(code), "a push fails: %s", err_text(&err));
        }
        entry->pushed = ++race.order;
        race.live++;
        sim_count(COUNT_PUSHES, 1);
    }
    return NULL;
}

/* One that is there and that nobody deletes. */
static struct entry *choose_entry(void)
{
    size_t first = (size_t) sim_below(race.count ? race.count : 1);
    for (size_t i = 0; i < race.count; i++) {
        struct entry *entry = &race.entries[(first + i) % race.count];
        if (entry->pushed && !entry->deleted)
            return entry;
    }
    return NULL;
}

static void *delete_run(void *arg)
{
    (void) arg;
    while (race.deletes < DELETES) {
        pause_a_little();
        struct entry *entry = choose_entry();
        if (!entry || race.deletes == DELETES)
            continue;
        race.deletes++;
        entry->deleted = ++race.order;
        enum err_code code = ERR_BUSY;
        while (code != ERR_OK && code != ERR_MANIFEST_UNKNOWN) { /* unknown: an earlier try did it */
            struct err err = ERR_INIT;
            code = manifest_delete(any_node(), &race.repo, &entry->digest, &err);
            sim_check(code == ERR_OK || code == ERR_MANIFEST_UNKNOWN || is_transient(code), "a delete fails: %s",
                      err_text(&err));
        }
        entry->is_gone = true;
        race.live--;
        sim_count(COUNT_DELETES, 1);
    }
    return NULL;
}

/* All pages of the list. */
static enum err_code list_read(struct registry *registry, struct buf *out, struct err *err)
{
    char after[DIGEST_TEXT_BYTES_MAX] = "";
    struct referrers_query query = {.repo = &race.repo, .subject = race.subject, .limit = sim_chance(2000) ? 7 : 0};
    do {
        struct referrers_page page;
        query.after = after[0] ? after : NULL;
        if (referrers_list(registry, &query, &page, err) != ERR_OK)
            return err->code;
        sim_check(buf_append(out, buf_str(&page.json).ptr, page.json.len), "a list is too long");
        (void) snprintf(after, sizeof(after), "%s", page.next);
        buf_free(&page.json);
    } while (after[0]);
    return ERR_OK;
}

static size_t count_text(struct str text, const char *part)
{
    size_t count = 0;
    const char *end = text.ptr + text.len;
    for (const char *at = text.ptr; (at = memmem(at, (size_t) (end - at), part, strlen(part))) != NULL; at++)
        count++;
    return count;
}

static bool is_listed(struct str list, const struct entry *entry)
{
    char text[DIGEST_TEXT_BYTES_MAX];
    digest_format(&entry->digest, text);
    return memmem(list.ptr, list.len, text, strlen(text)) != NULL;
}

/* Every entry that must be there, and none that nobody pushed. */
static void expect_list(struct str list, uint64_t begun, bool is_quiet)
{
    size_t found = 0, listed = count_text(list, "\"artifactType\"");
    for (size_t i = 0; i < race.count; i++) {
        const struct entry *entry = &race.entries[i];
        bool is_found = is_listed(list, entry);
        bool must = entry->pushed && entry->pushed <= begun && !entry->deleted;
        found += is_found;
        sim_check(is_found || !must, "a list of %zu misses entry %zu, which was acknowledged before it began", listed,
                  i);
        sim_check(!is_found || !is_quiet || must, "all is quiet, but entry %zu is listed, which was deleted", i);
    }
    sim_check(found == listed, "a list has %zu entries, of which %zu were ever pushed", listed, found);
    sim_count(COUNT_ENTRIES, listed);
}

static void *list_run(void *arg)
{
    (void) arg;
    while (race.lists++ < LISTS) {
        struct err err = ERR_INIT;
        pause_a_little();
        auto_buf list = BUF_INIT(LIST_BYTES_MAX);
        uint64_t begun = race.order;
        enum err_code code = list_read(any_node(), &list, &err);
        sim_check(code == ERR_OK || is_transient(code), "a list fails: %s", err_text(&err));
        if (code == ERR_OK)
            expect_list(buf_str(&list), begun, false);
        sim_count(COUNT_LISTS, 1);
    }
    return NULL;
}

/* ---- a run ---- */

static void nodes_open(void)
{
    struct sim_node_settings settings = sim_node_settings_small();
    for (size_t i = 0; i < NODES; i++) {
        struct err err = ERR_INIT;
        sim_check(sim_node_open(&settings, &race.nodes[i], &err) == ERR_OK, "a node cannot be opened: %s",
                  err_text(&err));
    }
}

static void expect_quiet(void)
{
    for (size_t i = 0; i < NODES; i++) {
        struct err err = ERR_INIT;
        auto_buf list = BUF_INIT(LIST_BYTES_MAX);
        sim_check(list_read(race.nodes[i].registry, &list, &err) == ERR_OK, "a list fails: %s", err_text(&err));
        expect_list(buf_str(&list), race.order, true);
    }
}

static void run(void)
{
    pthread_t threads[WRITERS + DELETERS + LISTERS];
    struct err err = ERR_INIT;
    const struct sim_bucket_ways ways = {.page_entries = sim_chance(5000) ? 10 : 0};
    struct sim_net_settings net = {.bucket = sim_bucket_new(&ways), .has_delays = true};
    for (int i = 1; i < SIM_FAULT_COUNT; i++)
        net.weights[i] = i != SIM_FAULT_LATE; /* a late one would undo what came after it */
    memset(&race, 0, sizeof(race));
    sim_net_begin(&net);
    nodes_open();
    sim_net_set_faults(sim_seed() % 2 ? 0 : 100);
    text_digest(STR("subject"), &race.subject);
    sim_check(repo_name_parse(STR("one"), &race.repo, &err) == ERR_OK, "a name is refused");
    for (size_t i = 0; i < WRITERS + DELETERS + LISTERS; i++) {
        void *(*task)(void *) = i < WRITERS ? write_run : i < WRITERS + DELETERS ? delete_run : list_run;
        sim_check(pthread_create(&threads[i], NULL, task, NULL) == 0, "no task");
    }
    for (size_t i = 0; i < WRITERS + DELETERS + LISTERS; i++)
        (void) pthread_join(threads[i], NULL);
    sim_net_set_faults(0);
    expect_quiet();
    for (size_t i = 0; i < NODES; i++) /* and fresh ones, which remember nothing */
        sim_node_close(&race.nodes[i]);
    nodes_open();
    expect_quiet();
    for (size_t i = 0; i < NODES; i++)
        sim_node_close(&race.nodes[i]);
    sim_bucket_free(net.bucket);
    sim_count(COUNT_REQUESTS, sim_net_request_count());
    for (int i = 1; i < SIM_FAULT_COUNT; i++)
        sim_count(COUNT_FAULTS, sim_net_fault_count((enum sim_fault) i));
}

int main(int argc, char **argv)
{
    const struct sim_test test = {.name = "referrers", .seeds = SEEDS, .run = run, .counter_names = counter_names};
    return sim_run_main(&test, argc, argv);
}

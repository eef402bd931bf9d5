#include "sim_truth.h"

#include "base/json.h"
#include "digest/hash.h"
#include "sim_http.h"
#include "sim_sched.h"
#include "store/blob_key.h"

#include <stdio.h>
#include <stdlib.h>

#define STALE_MS 30500 /* registry_priv.h's STALE_MS_MAX and a little */
#define TABLE_SIZE 4096

struct change {
    struct sim_moment moment;
    bool is_there;
    struct digest digest; /* of a tag */
};

struct item {
    char *key; /* NULL: the slot is free */
    struct change *changes;
    size_t count, cap;
    unsigned permits;
    bool was_permitted;
    bool was_late;
};

static struct {
    struct sim_bucket *bucket;
    uint64_t order;
    struct item items[TABLE_SIZE];
} truth;

/* ---- items ---- */

static struct item *item_of(const char *key)
{
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (const char *p = key; *p; p++)
        hash = (hash ^ (unsigned char) *p) * 0x100000001b3ULL;
    for (size_t i = 0; i < TABLE_SIZE; i++) {
        struct item *item = &truth.items[(hash + i) % TABLE_SIZE];
        if (!item->key) {
            item->key = strdup(key);
            sim_check(item->key, "no memory");
            return item;
        }
        if (strcmp(item->key, key) == 0)
            return item;
    }
    sim_fail("more than %d keys", TABLE_SIZE);
}

static void item_change(struct item *item, const struct change *change)
{
    if (item->count == item->cap) {
        item->cap = item->cap ? 2 * item->cap : 4;
        item->changes = realloc(item->changes, item->cap * sizeof(item->changes[0]));
        sim_check(item->changes, "no memory");
    }
    item->changes[item->count++] = *change;
}

struct sim_moment sim_truth_now(void)
{
    return (struct sim_moment){++truth.order, sim_now_ms()};
}

struct sim_moment sim_truth_stale(struct sim_moment moment)
{
    /* The order is found by time: 0 comes before everything. */
    return (struct sim_moment){0, moment.ms > STALE_MS ? moment.ms - STALE_MS : 0};
}

static bool is_before(const struct change *change, struct sim_moment moment)
{
    return moment.order ? change->moment.order < moment.order : change->moment.ms < moment.ms;
}

/* The states since: fn is called with the one at that moment, then with each that came. true: fn said so once. */
static bool any_state(const char *key, struct sim_moment since, bool (*fn)(const struct change *state, const void *arg),
                      const void *arg)
{
    static const struct change nothing = {.is_there = false};
    const struct item *item = item_of(key);
    const struct change *first = &nothing;
    for (size_t i = 0; i < item->count; i++) {
        if (is_before(&item->changes[i], since))
            first = &item->changes[i];
    }
    if (fn(first, arg))
        return true;
    for (size_t i = 0; i < item->count; i++) {
        if (!is_before(&item->changes[i], since) && fn(&item->changes[i], arg))
            return true;
    }
    return false;
}

static bool state_is_there(const struct change *state, const void *arg)
{
    (void) arg;
    return state->is_there;
}

static bool state_is_absent(const struct change *state, const void *arg)
{
    (void) arg;
    return !state->is_there;
}

static bool state_is(const struct change *state, const void *digest)
{
    return state->is_there && digest_equal(&state->digest, digest);
}

static bool state_is_not(const struct change *state, const void *digest)
{
    return !state_is(state, digest);
}

bool sim_truth_was_there(const char *key, struct sim_moment since)
{
    return any_state(key, since, state_is_there, NULL);
}

bool sim_truth_was_absent(const char *key, struct sim_moment since)
{
    return any_state(key, since, state_is_absent, NULL);
}

bool sim_truth_is_there(const char *key)
{
    return sim_bucket_find(truth.bucket, key) != NULL;
}

bool sim_truth_tag_was(const char *tag_key, const struct digest *digest, struct sim_moment since)
{
    return any_state(tag_key, since, state_is, digest);
}

bool sim_truth_tag_was_not(const char *tag_key, const struct digest *digest, struct sim_moment since)
{
    return any_state(tag_key, since, state_is_not, digest);
}

struct dangling {
    const struct repo_name *repo;
    struct sim_moment since;
};

static bool state_dangles(const struct change *state, const void *arg)
{
    const struct dangling *dangling = arg;
    char key[KEY_BYTES];
    if (!state->is_there)
        return false;
    key_manifest(dangling->repo, &state->digest, key);
    return sim_truth_was_absent(key, dangling->since);
}

bool sim_truth_tag_dangled(const struct repo_name *repo, const char *tag_key, struct sim_moment since)
{
    const struct dangling dangling = {repo, since};
    return any_state(tag_key, since, state_dangles, &dangling);
}

void sim_truth_permit(const char *key)
{
    struct item *item = item_of(key);
    item->permits++;
    item->was_permitted = true;
}

void sim_truth_withdraw(const char *key)
{
    item_of(key)->permits--;
}

bool sim_truth_was_permitted(const char *key)
{
    return item_of(key)->was_permitted;
}

bool sim_truth_was_late(const char *key)
{
    return item_of(key)->was_late;
}

/* Is its removal asked for, or was it, by a request that comes late? */
static bool is_permitted(const char *key)
{
    const struct item *item = item_of(key);
    return item->permits > 0 || (sim_net_is_late() && item->was_permitted);
}

/* ---- what must hold at each change ---- */

static bool bytes_have_digest(const char *bytes, size_t len, const struct digest *digest)
{
    struct hash hash;
    struct digest actual;
    hash_init(&hash, digest->algorithm);
    hash_update(&hash, bytes, len);
    hash_digest(&hash, &actual);
    return digest_equal(&actual, digest);
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* What a pointer names; NULL: nothing that is there. */
static const struct sim_object *pointed_at(const struct sim_object *pointer)
{
    auto_json root = NULL;
    struct err err = ERR_INIT;
    struct str place;
    if (json_parse((struct str){pointer->bytes, pointer->len}, &root, &err) != ERR_OK ||
        !json_text(json_member(root, "place"), &place))
        return NULL;
    return sim_bucket_find(truth.bucket, place.ptr);
}

bool sim_truth_blob_is_whole(const struct digest *digest)
{
    char key[BLOB_KEY_BYTES_MAX + sizeof(BLOB_POINTER_SUFFIX)];
    blob_key_format(digest, key);
    const struct sim_object *object = sim_bucket_find(truth.bucket, key);
    if (!object) {
        memcpy(key + strlen(key), BLOB_POINTER_SUFFIX, sizeof(BLOB_POINTER_SUFFIX));
        object = sim_bucket_find(truth.bucket, key);
        object = object ? pointed_at(object) : NULL;
    }
    return object && bytes_have_digest(object->bytes, object->len, digest);
}

static void watch_blob(const char *key, const struct sim_object *after)
{
    struct digest digest;
    sim_check(blob_key_parse(key, &digest), "no blob's key: %s", key);
    sim_check(after, "a blob is removed: %s", key);
    const struct sim_object *bytes = ends_with(key, BLOB_POINTER_SUFFIX) ? pointed_at(after) : after;
    sim_check(bytes && bytes_have_digest(bytes->bytes, bytes->len, &digest),
              "a blob's bytes are not those of its digest: %s", key);
}

static void watch_data(const char *key, const struct sim_object *before, const struct sim_object *after)
{
    sim_check(!before || !after, "a blob's data are replaced: %s", key);
    for (size_t i = 0; !after; i++) {
        const struct sim_object *pointer = sim_bucket_at(truth.bucket, i);
        if (!pointer)
            break;
        if (strncmp(pointer->key, "blobs/", 6) == 0 && ends_with(pointer->key, BLOB_POINTER_SUFFIX))
            sim_check(pointed_at(pointer) != before, "the bytes of %s are removed", pointer->key);
    }
}

static void watch_manifest(const char *key, const struct key_parts *parts, const struct sim_object *after)
{
    if (!after) {
        sim_check(is_permitted(key), "a manifest goes that nobody asked to delete: %s", key);
        return;
    }
    const char *newline = memchr(after->bytes, '\n', after->len);
    sim_check(newline &&
                  bytes_have_digest(newline + 1, (size_t) (after->bytes + after->len - newline - 1), &parts->digest),
              "a manifest's bytes are not those of its digest: %s", key);
}

static bool tag_digest(const struct sim_object *object, struct digest *out)
{
    auto_json root = NULL;
    struct err err = ERR_INIT;
    struct str text;
    return json_parse((struct str){object->bytes, object->len}, &root, &err) == ERR_OK &&
           json_text(json_member(root, "digest"), &text) && digest_parse(text, out);
}

/*
 * Is a manifest being deleted that the tag points at, or did? Whoever deletes it looks at the tag and then removes it; on
 * another node it may have moved in between.
 */
static bool is_going(const char *tag_key, const struct repo_name *repo)
{
    const struct item *item = item_of(tag_key);
    for (size_t i = 0; i < item->count; i++) {
        char manifest[KEY_BYTES];
        key_manifest(repo, &item->changes[i].digest, manifest);
        if (item->changes[i].is_there && is_permitted(manifest))
            return true;
    }
    return false;
}

static void watch_tag(const char *key, const struct key_parts *parts, const struct sim_object *before,
                      const struct sim_object *after, struct digest *out_digest)
{
    if (after) {
        sim_check(tag_digest(after, out_digest), "a tag is damaged: %s", key);
        return;
    }
    sim_check(tag_digest(before, out_digest), "a tag is damaged: %s", key);
    sim_check(is_permitted(key) || is_going(key, &parts->repo), "a tag goes that nobody asked to delete: %s", key);
}

static void watch_ref(const char *key, const struct key_parts *parts, const struct sim_object *after)
{
    if (after)
        sim_check(sim_truth_blob_is_whole(&parts->digest), "a reference to a blob that is not there: %s", key);
    else
        sim_check(is_permitted(key), "a reference goes that nobody asked to delete: %s", key);
}

static void watch(void *arg, const char *key, const struct sim_object *before, const struct sim_object *after)
{
    struct key_parts parts;
    struct change change = {.moment = sim_truth_now(), .is_there = after != NULL};
    (void) arg;
    if (strncmp(key, "uploads/", 8) == 0 || strncmp(key, "probe/", 6) == 0)
        return;
    if (strncmp(key, "blobs/", 6) == 0)
        watch_blob(key, after);
    if (strncmp(key, "data/", 5) == 0)
        watch_data(key, before, after);
    key_parse(key, &parts);
    if (parts.kind == KEY_MANIFEST)
        watch_manifest(key, &parts, after);
    else if (parts.kind == KEY_TAG)
        watch_tag(key, &parts, before, after, &change.digest);
    else if (parts.kind == KEY_REF)
        watch_ref(key, &parts, after);
    item_change(item_of(key), &change);
    item_of(key)->was_late |= sim_net_is_late();
}

void sim_truth_end(void)
{
    for (size_t i = 0; i < TABLE_SIZE; i++) {
        free(truth.items[i].key);
        free(truth.items[i].changes);
    }
    memset(&truth, 0, sizeof(truth));
}

void sim_truth_begin(struct sim_bucket *bucket)
{
    sim_truth_end();
    truth.bucket = bucket;
    sim_bucket_watch(bucket, watch, NULL);
}

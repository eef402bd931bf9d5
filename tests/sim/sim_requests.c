/* Clients that read, mount, tag, list and delete; each checks what it was told against the truth. */
#include "base/json.h"
#include "registry/blob.h"
#include "registry/listing.h"
#include "sim_run.h"
#include "sim_world.h"

#include "digest/hash.h"

#include <stdio.h>

#define READ_BYTES_MAX (128 * 1024)
#define OCI_IMAGE "application/vnd.oci.image.manifest.v1+json"
#define OCI_INDEX "application/vnd.oci.image.index.v1+json"

/* One request on some node. */
struct visit {
    struct place *place;
    struct registry *registry;
    struct sim_moment begun;
    struct err err;
};

static struct visit visit_begin(void)
{
    struct place *place = world_enter();
    return (struct visit){.place = place, .registry = place->node.registry, .begun = sim_truth_now()};
}

/* false: there is nothing to check: the client heard nothing, or that the store is in trouble. */
static bool visit_end(struct visit *visit, enum err_code code)
{
    bool was_heard = world_leave(visit->place);
    return was_heard && !world_is_transient(code);
}

static void expect_code(const struct visit *visit, enum err_code code, enum err_code other, const char *what)
{
    sim_check(code == ERR_OK || code == other, "%s fails: %s", what, world_error(&visit->err));
}

static void bytes_digest(const void *bytes, size_t len, enum digest_algorithm algorithm, struct digest *out)
{
    struct hash hash;
    hash_init(&hash, algorithm);
    hash_update(&hash, bytes, len);
    hash_digest(&hash, out);
}

/* ---- blobs ---- */

static enum err_code blob_fetch(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                                struct buf *out, struct err *err)
{
    struct store_blob blob;
    size_t got = 1;
    enum err_code code = blob_open(registry, repo, digest, &blob, err);
    if (code != ERR_OK)
        return code;
    while (code == ERR_OK && got > 0) {
        char piece[4096];
        code = store_blob_read(registry_store(registry), &blob, out->len, piece, sizeof(piece), &got, err);
        if (code == ERR_OK)
            sim_check(buf_append(out, piece, got), "a blob is too long");
    }
    sim_check(code != ERR_OK || out->len == blob.size_bytes, "a blob of %llu bytes ends after %zu",
              (unsigned long long) blob.size_bytes, out->len);
    store_blob_close(registry_store(registry), &blob);
    return code;
}

static void expect_bytes(const struct buf *bytes, const struct digest *digest)
{
    struct digest actual;
    bytes_digest(buf_str(bytes).ptr, bytes->len, digest->algorithm, &actual);
    sim_check(digest_equal(&actual, digest), "a blob was read whose bytes are not its digest's");
}

void world_expect_blob(struct registry *registry, const struct repo_name *repo, const struct digest *digest)
{
    struct err err = ERR_INIT;
    auto_buf bytes = BUF_INIT(READ_BYTES_MAX);
    sim_check(blob_fetch(registry, repo, digest, &bytes, &err) == ERR_OK, "a blob cannot be read: %s",
              world_error(&err));
    expect_bytes(&bytes, digest);
}

/* Found, although it was not there; or not found, although it was? */
static void expect_found_or_not(const struct visit *visit, const char *key, bool is_found)
{
    if (is_found)
        sim_check(sim_truth_was_there(key, sim_truth_stale(visit->begun)), "found, but not there: %s", key);
    else
        sim_check(sim_truth_was_absent(key, visit->begun), "not found, but there: %s", key);
}

void world_read_blob(void)
{
    const struct repo_name *repo;
    const struct content *content;
    char key[KEY_BYTES];
    world_any_blob(&repo, &content);
    const struct digest *digest = &content->digest;
    auto_buf bytes = BUF_INIT(READ_BYTES_MAX);
    struct visit visit = visit_begin();
    key_ref(digest, repo, key);
    enum err_code code = blob_fetch(visit.registry, repo, digest, &bytes, &visit.err);
    if (!visit_end(&visit, code))
        return;
    expect_code(&visit, code, ERR_BLOB_UNKNOWN, "reading a blob");
    expect_found_or_not(&visit, key, code == ERR_OK);
    if (code == ERR_OK)
        expect_bytes(&bytes, digest);
    sim_count(COUNT_BLOB_READS, code == ERR_OK);
}

/* The last repository is nobody's to read. */
static bool may_read(void *arg, const struct repo_name *repo)
{
    (void) arg;
    return strcmp(repo->text, world.repos[WORLD_REPOS - 1].text) != 0;
}

static bool may_read_all(void *arg, const struct repo_name *repo)
{
    (void) arg, (void) repo;
    return true;
}

void world_mount_blob(void)
{
    const struct repo_name *repo = world_repo(), *from;
    const struct content *content;
    world_any_blob(&from, &content);
    from = sim_chance(6000) ? from : NULL;
    const struct digest *digest = &content->digest;
    char key[KEY_BYTES], source[KEY_BYTES];
    bool source_was_there = false, source_was_absent = false;
    struct visit visit = visit_begin();
    enum err_code code =
        blob_mount(visit.registry, repo, digest, from, from ? may_read_all : may_read, NULL, &visit.err);
    if (!visit_end(&visit, code))
        return;
    expect_code(&visit, code, ERR_BLOB_UNKNOWN, "mounting a blob");
    for (size_t i = 0; i < WORLD_REPOS; i++) {
        if (from ? strcmp(from->text, world.repos[i].text) != 0 : !may_read(NULL, &world.repos[i]))
            continue;
        key_ref(digest, &world.repos[i], source);
        source_was_there |= sim_truth_was_there(source, sim_truth_stale(visit.begun));
        source_was_absent |= sim_truth_was_absent(source, visit.begun);
    }
    key_ref(digest, repo, key);
    if (code == ERR_OK) {
        sim_check(source_was_there, "a blob was mounted that none of those who may be read has: %s", key);
        sim_check(sim_truth_was_there(key, visit.begun), "a mount was acknowledged, but there is no %s", key);
        sim_check(sim_truth_blob_is_whole(digest), "a mount was acknowledged, but the blob is not whole");
        world_note_blob(repo, digest);
        sim_count(COUNT_MOUNTS, 1);
    } else {
        sim_check(source_was_absent, "a mount found no source, but there was one: %s", key);
    }
}

void world_delete_blob(void)
{
    const struct repo_name *repo;
    const struct content *content;
    char key[KEY_BYTES];
    world_any_blob(&repo, &content);
    const struct digest *digest = &content->digest;
    key_ref(digest, repo, key);
    sim_truth_permit(key);
    struct visit visit = visit_begin();
    enum err_code code = blob_delete(visit.registry, repo, digest, &visit.err);
    sim_truth_withdraw(key);
    if (!visit_end(&visit, code))
        return;
    expect_code(&visit, code, ERR_BLOB_UNKNOWN, "deleting a blob");
    sim_check(sim_truth_was_absent(key, visit.begun), "a delete was acknowledged, but it is still there: %s", key);
    sim_count(COUNT_BLOB_DELETES, code == ERR_OK);
}

/* ---- manifests ---- */

/* A new one, or one that was made before. NULL: enough were made. */
static struct made_manifest *make_manifest(void)
{
    char digest[DIGEST_TEXT_BYTES_MAX];
    if (world.manifest_count > 0 && (sim_chance(2500) || world.manifest_count == WORLD_MANIFESTS_MAX))
        return &world.manifests[sim_below(world.manifest_count)];
    struct made_manifest *made = &world.manifests[world.manifest_count++];
    struct buf text = BUF_ON(made->text);
    const struct content *content;
    world_any_blob(&made->repo, &content);
    made->has_subject = sim_chance(5000);
    made->subject = world.subjects[sim_below(2)];
    made->has_blob = sim_chance(4000);
    made->blob = content->digest;
    bool ok = buf_appendf(&text, "{\"schemaVersion\":2,\"mediaType\":\"%s\",\"annotations\":{\"number\":\"%zu\"}",
                          made->has_blob ? OCI_IMAGE : OCI_INDEX, world.manifest_count);
    digest_format(&made->subject, digest);
    if (made->has_subject)
        ok = ok &&
             buf_appendf(&text, ",\"subject\":{\"mediaType\":\"" OCI_IMAGE "\",\"size\":3,\"digest\":\"%s\"}", digest);
    digest_format(&made->blob, digest);
    if (made->has_blob)
        ok = ok && buf_appendf(&text, ",\"config\":{\"mediaType\":\"a/b\",\"size\":1,\"digest\":\"%s\"},\"layers\":[]}",
                               digest);
    else
        ok = ok && buf_append_text(&text, ",\"manifests\":[]}");
    sim_check(ok, "a manifest is too long");
    bytes_digest(made->text, text.len, DIGEST_SHA256, &made->digest);
    return made;
}

static struct tag_condition make_condition(void)
{
    struct tag_condition condition = {.kind = TAG_ANY};
    uint64_t kind = sim_below(10);
    if (world.manifest_count > 0)
        condition.digest = world.manifests[sim_below(world.manifest_count)].digest;
    if (kind < 6 || world.manifest_count == 0)
        return condition;
    condition.kind = kind == 6 ? TAG_ABSENT : kind == 7 ? TAG_EXISTS : kind == 8 ? TAG_IS_NOT : TAG_IS;
    return condition;
}

/* Did the condition not hold at some moment since? */
static bool condition_failed(const char *tag_key, const struct tag_condition *condition, struct sim_moment since)
{
    switch (condition->kind) {
    case TAG_ANY:
        return false;
    case TAG_IS:
        return sim_truth_tag_was_not(tag_key, &condition->digest, since);
    case TAG_EXISTS:
        return sim_truth_was_absent(tag_key, since);
    case TAG_ABSENT:
        return sim_truth_was_there(tag_key, since);
    case TAG_IS_NOT:
        return sim_truth_tag_was(tag_key, &condition->digest, since);
    }
    return false;
}

/* An acknowledged push. */
static void expect_put(const struct visit *visit, struct made_manifest *made, const struct manifest_put *put)
{
    char key[KEY_BYTES];
    key_manifest(made->repo, &made->digest, key);
    sim_check(sim_truth_was_there(key, visit->begun), "a manifest was acknowledged, but is not there: %s", key);
    for (size_t i = 0; i < put->tag_count; i++) {
        key_tag(made->repo, &put->tags[i], key);
        sim_check(sim_truth_tag_was(key, &made->digest, visit->begun),
                  "a tag was acknowledged, but never pointed there: %s", key);
        world_note_tag(made->repo, &put->tags[i]);
    }
    if (!made->acknowledged.order)
        made->acknowledged = sim_truth_now();
    sim_count(COUNT_MANIFEST_PUTS, 1);
    sim_count(COUNT_TAG_MOVES, put->tag_count);
}

void world_put_manifest(void)
{
    char key[KEY_BYTES];
    struct made_manifest *made = make_manifest();
    struct tag_name tag = world.tags[sim_below(WORLD_TAGS)];
    struct manifest_put_result result;
    struct manifest_put put = {.repo = made->repo, .bytes = str_from(made->text), .tags = &tag};
    put.tag_count = sim_chance(7000);
    put.digest = put.tag_count == 0 || sim_chance(3000) ? &made->digest : NULL;
    if (put.tag_count > 0)
        put.condition = make_condition();
    if (made->deleters > 0) /* see world_delete_manifest */
        return;
    made->pushers++;
    struct visit visit = visit_begin();
    enum err_code code = manifest_put(visit.registry, &put, &result, &visit.err);
    made->pushers--;
    if (!visit_end(&visit, code))
        return;
    if (code == ERR_MANIFEST_BLOB_UNKNOWN) {
        key_ref(&made->blob, made->repo, key);
        sim_check(made->has_blob && sim_truth_was_absent(key, visit.begun), "a manifest's blob is not found: %s", key);
        return;
    }
    expect_code(&visit, code, ERR_TAG_MISMATCH, "pushing a manifest");
    if (code == ERR_OK) {
        expect_put(&visit, made, &put);
        return;
    }
    key_tag(made->repo, &tag, key);
    sim_check(condition_failed(key, &put.condition, visit.begun), "a condition held, but was refused: %s", key);
    sim_count(COUNT_MISMATCHES, 1);
}

static void expect_manifest_bytes(const struct manifest *manifest)
{
    struct digest actual;
    bytes_digest(manifest->bytes, manifest->len, manifest->digest.algorithm, &actual);
    sim_check(digest_equal(&actual, &manifest->digest), "a manifest was read whose bytes are not its digest's");
}

void world_read_tag(void)
{
    char key[KEY_BYTES];
    const struct repo_name *repo;
    const struct tag_name *tag;
    struct manifest *manifest = NULL;
    world_any_tag(&repo, &tag);
    struct reference reference = {.tag = *tag};
    struct visit visit = visit_begin();
    enum err_code code = manifest_find(visit.registry, repo, &reference, &manifest, &visit.err);
    key_tag(repo, &reference.tag, key);
    if (visit_end(&visit, code)) {
        expect_code(&visit, code, ERR_MANIFEST_UNKNOWN, "reading a tag");
        if (code == ERR_OK) {
            expect_manifest_bytes(manifest);
            sim_check(sim_truth_tag_was(key, &manifest->digest, visit.begun),
                      "a tag was read that did not point there: %s", key);
            sim_count(COUNT_MANIFEST_READS, 1);
        } else {
            sim_check(sim_truth_was_absent(key, visit.begun) || sim_truth_tag_dangled(repo, key, visit.begun),
                      "a tag was not found, but there: %s", key);
        }
    }
    manifest_unref(manifest);
}

void world_read_manifest(void)
{
    char key[KEY_BYTES];
    struct manifest *manifest = NULL;
    if (world.manifest_count == 0)
        return;
    const struct made_manifest *made = &world.manifests[sim_below(world.manifest_count)];
    const struct repo_name *repo = sim_chance(8000) ? made->repo : world_repo();
    const struct reference reference = {.is_digest = true, .digest = made->digest};
    struct visit visit = visit_begin();
    enum err_code code = manifest_find(visit.registry, repo, &reference, &manifest, &visit.err);
    key_manifest(repo, &made->digest, key);
    if (visit_end(&visit, code)) {
        expect_code(&visit, code, ERR_MANIFEST_UNKNOWN, "reading a manifest");
        expect_found_or_not(&visit, key, code == ERR_OK);
        if (code == ERR_OK)
            expect_manifest_bytes(manifest);
        sim_count(COUNT_MANIFEST_READS, code == ERR_OK);
    }
    manifest_unref(manifest);
}

void world_delete_tag(void)
{
    char key[KEY_BYTES];
    const struct repo_name *repo;
    const struct tag_name *tag;
    world_any_tag(&repo, &tag);
    const struct tag_condition condition = make_condition();
    key_tag(repo, tag, key);
    sim_truth_permit(key);
    struct visit visit = visit_begin();
    enum err_code code = tag_delete(visit.registry, repo, tag, &condition, &visit.err);
    sim_truth_withdraw(key);
    if (!visit_end(&visit, code))
        return;
    if (code == ERR_TAG_MISMATCH) {
        sim_check(condition_failed(key, &condition, visit.begun), "a condition held, but was refused: %s", key);
        sim_count(COUNT_MISMATCHES, 1);
        return;
    }
    expect_code(&visit, code, ERR_MANIFEST_UNKNOWN, "deleting a tag");
    sim_check(sim_truth_was_absent(key, visit.begun), "a delete was acknowledged, but it is still there: %s", key);
    sim_count(COUNT_TAG_DELETES, code == ERR_OK);
}

/* Pushes and deletes of one manifest do not overlap here: nothing orders them when they come to two nodes. */
void world_delete_manifest(void)
{
    char key[KEY_BYTES];
    if (world.manifest_count == 0)
        return;
    struct made_manifest *made = &world.manifests[sim_below(world.manifest_count)];
    if (made->pushers > 0)
        return;
    made->deleters++;
    key_manifest(made->repo, &made->digest, key);
    made->is_delete_asked = true;
    sim_truth_permit(key);
    struct visit visit = visit_begin();
    enum err_code code = manifest_delete(visit.registry, made->repo, &made->digest, &visit.err);
    sim_truth_withdraw(key);
    made->deleters--;
    if (!visit_end(&visit, code))
        return;
    expect_code(&visit, code, ERR_MANIFEST_UNKNOWN, "deleting a manifest");
    sim_check(sim_truth_was_absent(key, visit.begun), "a delete was acknowledged, but it is still there: %s", key);
    sim_count(COUNT_MANIFEST_DELETES, code == ERR_OK);
}

/* ---- lists ---- */

static bool is_listed(struct str json, const struct digest *digest)
{
    char text[DIGEST_TEXT_BYTES_MAX];
    digest_format(digest, text);
    return memmem(json.ptr, json.len, text, strlen(text)) != NULL;
}

/* All pages, one after the other. */
static enum err_code referrers_read(struct registry *registry, const struct repo_name *repo,
                                    const struct digest *subject, struct buf *out, struct err *err)
{
    char after[DIGEST_TEXT_BYTES_MAX] = "";
    struct referrers_query query = {.repo = repo, .subject = *subject, .limit = sim_chance(5000) ? 2 : 0};
    do {
        struct referrers_page page;
        query.after = after[0] ? after : NULL;
        if (referrers_list(registry, &query, &page, err) != ERR_OK)
            return err->code;
        (void) buf_append(out, buf_str(&page.json).ptr, page.json.len);
        (void) snprintf(after, sizeof(after), "%s", page.next);
        buf_free(&page.json);
    } while (after[0]);
    return ERR_OK;
}

void world_list_referrers(void)
{
    char key[KEY_BYTES];
    const struct repo_name *repo = world_repo();
    const struct digest *subject = &world.subjects[sim_below(2)];
    auto_buf json = BUF_INIT(1024 * 1024);
    struct visit visit = visit_begin();
    enum err_code code = referrers_read(visit.registry, repo, subject, &json, &visit.err);
    if (!visit_end(&visit, code))
        return;
    expect_code(&visit, code, ERR_OK, "listing referrers");
    for (size_t i = 0; i < world.manifest_count; i++) {
        const struct made_manifest *made = &world.manifests[i];
        if (!made->has_subject || strcmp(made->repo->text, repo->text) != 0 || !digest_equal(&made->subject, subject))
            continue;
        key_manifest(repo, &made->digest, key);
        bool must = made->acknowledged.order && made->acknowledged.order < visit.begun.order && !made->is_delete_asked;
        if (is_listed(buf_str(&json), &made->digest))
            sim_check(sim_truth_was_there(key, (struct sim_moment){0, 0}), "a referrer is listed that never was: %s",
                      key);
        else
            sim_check(!must, "a referrer is not listed: %s", key);
    }
    sim_count(COUNT_LISTS, 1);
}

static bool name_is_listed(const struct store_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->items[i], name) == 0)
            return true;
    }
    return false;
}

void world_list_tags(void)
{
    char key[KEY_BYTES];
    const struct repo_name *repo = world_repo();
    struct store_names names cleanup(store_names_free) = {0};
    struct visit visit = visit_begin();
    enum err_code code = tags_list(visit.registry, repo, NULL, 100, &names, &visit.err);
    if (!visit_end(&visit, code))
        return;
    expect_code(&visit, code, ERR_NAME_UNKNOWN, "listing tags");
    for (size_t i = 0; i < WORLD_TAGS; i++) {
        key_tag(repo, &world.tags[i], key);
        if (code == ERR_OK && name_is_listed(&names, world.tags[i].text))
            sim_check(sim_truth_was_there(key, visit.begun), "a tag is listed that was not there: %s", key);
        else
            sim_check(sim_truth_was_absent(key, visit.begun), "a tag is not listed that was there: %s", key);
    }
    sim_count(COUNT_LISTS, 1);
}

void world_expire_uploads(void)
{
    size_t count;
    struct visit visit = visit_begin();
    enum err_code code = upload_expire(visit.registry, &count, &visit.err);
    if (visit_end(&visit, code))
        expect_code(&visit, code, ERR_OK, "expiring uploads");
}

/*
 * The walk of `orlop check`.
 *
 * Each kind of object has one test, a function that says what is wrong with it, if anything. What fails is kept as a
 * suspect and tested again after the walk: beside a running server an object may be half-way through its change. Only
 * what is wrong twice is a finding.
 */
#include "registry/check.h"

#include "digest/hash.h"
#include "registry/manifest_doc.h"
#include "registry/record.h"
#include "registry/referrers.h"
#include "registry/registry_priv.h"
#include "store/blob_key.h"

#include <stdarg.h>
#include <time.h>

#define READ_BYTES (1024 * 1024)
#define SUSPECTS_MAX 100000 /* more are reported without a second look */
#define SECOND_LOOK_MS 300
#define UPLOAD_BATCH 4096 /* beside a server a page costs a reading of the directory */

struct problem {
    enum check_severity severity;
    const char *kind; /* NULL: nothing is wrong */
    char text[ERR_MESSAGE_BYTES_MAX];
};

struct check;
typedef void check_test_fn(struct check *check, const char *key, struct problem *out);

struct suspect {
    check_test_fn *test;
    char *key;
};

struct check {
    struct store *store;
    bool quick;
    const struct check_callbacks *callbacks;
    struct check_totals *totals;
    uint64_t bytes_done, bytes_total;
    bool second_look;
    struct suspect *suspects;
    size_t suspect_count, suspect_cap;
    char *buffer; /* READ_BYTES */
};

static void problem_set(struct problem *problem, enum check_severity severity, const char *kind, const char *format,
                        ...) __attribute__((format(printf, 4, 5)));

static void problem_set(struct problem *problem, enum check_severity severity, const char *kind, const char *format,
                        ...)
{
    va_list args;
    problem->severity = severity;
    problem->kind = kind;
    va_start(args, format);
    (void) vsnprintf(problem->text, sizeof(problem->text), format, args);
    va_end(args);
}

static void report_progress(struct check *check)
{
    if (check->callbacks->progress)
        check->callbacks->progress(check->callbacks->arg, check->bytes_done, check->bytes_total, check->totals);
}

static void report(struct check *check, const char *key, const struct problem *problem)
{
    if (problem->severity == CHECK_ERROR)
        check->totals->errors++;
    else
        check->totals->leftovers++;
    if (check->callbacks->finding)
        check->callbacks->finding(check->callbacks->arg, problem->severity, problem->kind, key, problem->text);
}

/* Keep for a second look; false when there is no room. */
static bool suspect_add(struct check *check, check_test_fn *test, const char *key)
{
    if (check->suspect_count == SUSPECTS_MAX)
        return false;
    if (check->suspect_count == check->suspect_cap) {
        size_t cap = check->suspect_cap ? 2 * check->suspect_cap : 64;
        struct suspect *grown = realloc(check->suspects, cap * sizeof(*grown));
        if (!grown)
            return false;
        check->suspects = grown;
        check->suspect_cap = cap;
    }
    char *copy = strdup(key);
    if (!copy)
        return false;
    check->suspects[check->suspect_count++] = (struct suspect){test, copy};
    return true;
}

static void run_test(struct check *check, check_test_fn *test, const char *key)
{
    struct problem problem = {0};
    test(check, key, &problem);
    if (problem.kind && (check->second_look || !suspect_add(check, test, key)))
        report(check, key, &problem);
}

/* ---- tests ---- */

static bool object_exists(struct check *check, const char *key)
{
    uint64_t size_bytes;
    struct err err = ERR_INIT;
    return store_stat(check->store, key, &size_bytes, &err) == ERR_OK;
}

static bool has_reference(struct check *check, const struct digest *digest)
{
    char prefix[KEY_BYTES];
    struct err err = ERR_INIT;
    struct store_names names cleanup(store_names_free) = {0};
    key_refs_prefix(digest, prefix);
    return store_list(check->store, prefix, NULL, 0, &names, &err) == ERR_OK && names.more;
}

/* Read the whole blob and hash it. */
static enum err_code blob_digest(struct check *check, const struct digest *digest, struct digest *out, struct err *err)
{
    struct store_blob blob;
    struct hash hash;
    size_t got = 1;
    if (store_blob_open(check->store, digest, NULL, &blob, err) != ERR_OK)
        return err->code;
    hash_init(&hash, digest->algorithm);
    enum err_code code = ERR_OK;
    while (code == ERR_OK && got > 0) {
        code = store_blob_read(check->store, &blob, hash.total_bytes, check->buffer, READ_BYTES, &got, err);
        if (code != ERR_OK)
            break;
        hash_update(&hash, check->buffer, got);
        if (!check->second_look)
            check->bytes_done += got;
        report_progress(check);
    }
    store_blob_close(check->store, &blob);
    hash_digest(&hash, out);
    return code;
}

static void test_blob(struct check *check, const char *key, struct problem *out)
{
    struct digest digest, actual;
    struct err err = ERR_INIT;
    if (!blob_key_parse(key, &digest)) {
        problem_set(out, CHECK_LEFTOVER, "unknown-object", "it stands among the blobs but is none");
        return;
    }
    if (!check->quick) {
        enum err_code code = blob_digest(check, &digest, &actual, &err);
        if (code == ERR_NOT_FOUND)
            return; /* deleted meanwhile; references to it are tested on their own */
        if (code != ERR_OK) {
            problem_set(out, CHECK_ERROR, "blob-unreadable", "the blob cannot be read: %.200s", err_text(&err));
            return;
        }
        if (!digest_equal(&actual, &digest)) {
            char text[DIGEST_TEXT_BYTES_MAX];
            digest_format(&actual, text);
            problem_set(out, CHECK_ERROR, "blob-digest-mismatch", "the blob's bytes have digest %s", text);
            return;
        }
    }
    if (!has_reference(check, &digest))
        problem_set(out, CHECK_LEFTOVER, "blob-unreferenced", "no repository refers to the blob");
}

static void test_ref(struct check *check, const char *key, struct problem *out)
{
    struct key_parts parts;
    struct err err = ERR_INIT;
    struct store_blob_info expected;
    uint64_t actual;
    auto_buf text = BUF_INIT(SMALL_OBJECT_BYTES_MAX);
    key_parse(key, &parts);
    if (parts.kind != KEY_REF) {
        problem_set(out, CHECK_LEFTOVER, "unknown-object", "it stands among the references but is none");
        return;
    }
    enum err_code code = store_get(check->store, key, &text, &err);
    if (code == ERR_NOT_FOUND)
        return;
    if (code != ERR_OK || !blob_info_decode(buf_str(&text), &expected)) {
        problem_set(out, CHECK_ERROR, "reference-damaged", "the reference cannot be read: %.200s", err_text(&err));
        return;
    }
    if (store_blob_stat(check->store, &parts.digest, &actual, &err) != ERR_OK)
        problem_set(out, CHECK_ERROR, "blob-missing", "repository '%s' refers to a blob that is not there",
                    parts.repo.text);
    else if (actual != expected.size_bytes)
        problem_set(out, CHECK_ERROR, "blob-size-mismatch", "the blob has %llu bytes, repository '%s' says %llu",
                    (unsigned long long) actual, parts.repo.text, (unsigned long long) expected.size_bytes);
}

static void cleanup_doc(struct manifest_doc *doc)
{
    manifest_doc_free(doc);
}

/* What a whole, readable manifest needs around it. */
static void test_manifest_surroundings(struct check *check, const struct key_parts *parts,
                                       const struct manifest_doc *doc, struct problem *out)
{
    char key[KEY_BYTES], text[DIGEST_TEXT_BYTES_MAX];
    for (size_t i = 0; i < doc->reference_count; i++) {
        const struct manifest_reference *reference = &doc->references[i];
        if (reference->is_manifest)
            key_manifest(&parts->repo, &reference->digest, key);
        else
            key_ref(&reference->digest, &parts->repo, key);
        if (reference->is_optional || object_exists(check, key))
            continue;
        digest_format(&reference->digest, text);
        problem_set(out, CHECK_LEFTOVER, "manifest-incomplete", "%s %s, which it refers to, is not in the repository",
                    reference->is_manifest ? "manifest" : "blob", text);
        return;
    }
    if (doc->has_subject)
        key_referrer(&parts->repo, &doc->subject, &parts->digest, key);
    if (doc->has_subject && !object_exists(check, key)) {
        problem_set(out, CHECK_LEFTOVER, "referrer-unlisted",
                    "its push or delete was interrupted: it has a subject but is not listed there; push it again");
        return;
    }
    key_catalog(&parts->repo, key);
    if (!object_exists(check, key))
        problem_set(out, CHECK_LEFTOVER, "repository-unlisted",
                    "its push was interrupted: the repository is not in the catalog; push it again");
}

static void test_manifest(struct check *check, const char *key, const struct key_parts *parts, struct problem *out)
{
    struct err err = ERR_INIT;
    struct manifest *manifest = NULL;
    struct manifest_doc doc cleanup(cleanup_doc) = {0};
    enum err_code code = manifest_load(check->store, &parts->repo, &parts->digest, &manifest, &err);
    if (code == ERR_NOT_FOUND)
        return;
    if (code == ERR_OK)
        code = manifest_doc_parse((struct str){manifest->bytes, manifest->len}, str_from(manifest->media_type), &doc,
                                  &err);
    if (code == ERR_OK)
        test_manifest_surroundings(check, parts, &doc, out);
    else
        problem_set(out, CHECK_ERROR, "manifest-damaged", "%.250s", err_text(&err));
    manifest_unref(manifest);
    (void) key;
}

static void test_tag(struct check *check, const char *key, const struct key_parts *parts, struct problem *out)
{
    char other[KEY_BYTES], text[DIGEST_TEXT_BYTES_MAX];
    struct err err = ERR_INIT;
    struct digest digest;
    auto_buf bytes = BUF_INIT(SMALL_OBJECT_BYTES_MAX);
    enum err_code code = store_get(check->store, key, &bytes, &err);
    if (code == ERR_NOT_FOUND)
        return;
    if (code != ERR_OK || tag_decode(buf_str(&bytes), &digest, &err) != ERR_OK) {
        problem_set(out, CHECK_ERROR, "tag-damaged", "the tag cannot be read: %.200s", err_text(&err));
        return;
    }
    digest_format(&digest, text);
    key_manifest(&parts->repo, &digest, other);
    if (!object_exists(check, other)) {
        problem_set(out, CHECK_ERROR, "manifest-missing", "the tag points at %s, which is not there", text);
        return;
    }
    key_tagged(&parts->repo, &digest, &parts->tag, other);
    if (!object_exists(check, other))
        problem_set(out, CHECK_ERROR, "tag-unindexed", "the tag is not in the reverse index of %s", text);
}

static void test_tagged(struct check *check, const struct key_parts *parts, struct problem *out)
{
    char key[KEY_BYTES];
    struct err err = ERR_INIT;
    struct digest digest;
    auto_buf bytes = BUF_INIT(SMALL_OBJECT_BYTES_MAX);
    key_tag(&parts->repo, &parts->tag, key);
    if (store_get(check->store, key, &bytes, &err) != ERR_OK || tag_decode(buf_str(&bytes), &digest, &err) != ERR_OK ||
        !digest_equal(&digest, &parts->digest))
        problem_set(out, CHECK_LEFTOVER, "tag-index-stale", "the tag '%s' does not point there", parts->tag.text);
}

static void test_referrer(struct check *check, const struct key_parts *parts, struct problem *out)
{
    char key[KEY_BYTES];
    key_manifest(&parts->repo, &parts->referrer, key);
    if (!object_exists(check, key))
        problem_set(out, CHECK_ERROR, "referrer-missing", "the listed referrer is not there");
}

/* A snapshot may be old or damaged, which costs time; but what it says of a referrer that is there must be so. */
static void test_snapshot(struct check *check, const char *key, const struct key_parts *parts, struct problem *out)
{
    char other[KEY_BYTES], text[DIGEST_TEXT_BYTES_MAX];
    struct err err = ERR_INIT;
    struct snapshot snapshot cleanup(snapshot_free) = {0};
    auto_buf bytes = BUF_INIT(STORE_OBJECT_BYTES_MAX);
    enum err_code code = store_get(check->store, key, &bytes, &err);
    if (code == ERR_NOT_FOUND)
        return;
    if (code == ERR_OK)
        code = snapshot_decode(&bytes, &snapshot, &err);
    if (code != ERR_OK)
        problem_set(out, CHECK_LEFTOVER, "snapshot-unusable", "the next list of referrers goes without it: %.200s",
                    err_text(&err));
    for (size_t i = 0; i < snapshot.count && !check->quick; i++) {
        const struct snapshot_entry *entry = &snapshot.entries[i];
        auto_buf descriptor = BUF_INIT(REFERRER_DESCRIPTOR_BYTES_MAX);
        key_referrer(&parts->repo, &parts->digest, &entry->digest, other);
        if (store_get(check->store, other, &descriptor, &err) == ERR_OK &&
            !str_equal(buf_str(&descriptor), entry->descriptor)) {
            digest_format(&entry->digest, text);
            problem_set(out, CHECK_ERROR, "snapshot-wrong", "the descriptor of referrer %s is another: delete it",
                        text);
            return;
        }
    }
}

static void test_repo_object(struct check *check, const char *key, struct problem *out)
{
    struct key_parts parts;
    key_parse(key, &parts);
    switch (parts.kind) {
    case KEY_MANIFEST:
        test_manifest(check, key, &parts, out);
        break;
    case KEY_TAG:
        test_tag(check, key, &parts, out);
        break;
    case KEY_TAGGED:
        test_tagged(check, &parts, out);
        break;
    case KEY_REFERRER:
        test_referrer(check, &parts, out);
        break;
    case KEY_SNAPSHOT:
        test_snapshot(check, key, &parts, out);
        break;
    case KEY_REF:
    case KEY_CATALOG:
    case KEY_UNKNOWN:
        problem_set(out, CHECK_LEFTOVER, "unknown-object", "it stands among the repositories but belongs to none");
        break;
    }
}

static void test_catalog_entry(struct check *check, const char *key, struct problem *out)
{
    struct key_parts parts;
    (void) check;
    key_parse(key, &parts);
    if (parts.kind != KEY_CATALOG)
        problem_set(out, CHECK_LEFTOVER, "unknown-object", "it stands in the catalog but names no repository");
}

static void test_upload(struct check *check, const char *id, struct problem *out)
{
    auto_buf bytes = BUF_INIT(STORE_RECORD_BYTES_MAX);
    struct upload_record record;
    struct err err = ERR_INIT;
    enum err_code code = store_upload_record(check->store, id, &bytes, &err);
    if (code == ERR_OK)
        code = record_decode(buf_str(&bytes), &record, &err);
    if (code != ERR_OK)
        problem_set(out, CHECK_LEFTOVER, "upload-unusable", "the upload cannot be resumed: %.200s", err_text(&err));
}

/* ---- the walk ---- */

static bool count_blob(void *arg, const char *key, uint64_t size_bytes)
{
    struct check *check = arg;
    (void) key;
    check->bytes_total += size_bytes;
    return true;
}

static bool visit_blob(void *arg, const char *key, uint64_t size_bytes)
{
    struct check *check = arg;
    check->totals->blobs++;
    check->totals->blob_bytes += size_bytes;
    run_test(check, test_blob, key);
    if (check->quick)
        check->bytes_done += size_bytes;
    report_progress(check);
    return true;
}

static bool visit_ref(void *arg, const char *key, uint64_t size_bytes)
{
    struct check *check = arg;
    (void) size_bytes;
    check->totals->references++;
    run_test(check, test_ref, key);
    report_progress(check);
    return true;
}

static bool visit_repo_object(void *arg, const char *key, uint64_t size_bytes)
{
    struct check *check = arg;
    struct key_parts parts;
    (void) size_bytes;
    key_parse(key, &parts);
    check->totals->manifests += parts.kind == KEY_MANIFEST;
    check->totals->tags += parts.kind == KEY_TAG;
    check->totals->referrers += parts.kind == KEY_REFERRER;
    run_test(check, test_repo_object, key);
    report_progress(check);
    return true;
}

static bool visit_catalog_entry(void *arg, const char *key, uint64_t size_bytes)
{
    struct check *check = arg;
    (void) size_bytes;
    check->totals->repositories++;
    run_test(check, test_catalog_entry, key);
    return true;
}

static enum err_code visit_uploads(struct check *check, struct err *err)
{
    auto_mem struct store_upload_info *batch = calloc(UPLOAD_BATCH, sizeof(*batch));
    char after[UUID_TEXT_BYTES] = "";
    size_t count;
    if (!batch)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    do {
        if (store_upload_list(check->store, after, UPLOAD_BATCH, batch, &count, err) != ERR_OK)
            return err->code;
        for (size_t i = 0; i < count; i++) {
            check->totals->uploads++;
            run_test(check, test_upload, batch[i].id);
            memcpy(after, batch[i].id, UUID_TEXT_BYTES);
        }
    } while (count > 0);
    return ERR_OK;
}

static void look_again(struct check *check)
{
    if (check->suspect_count == 0)
        return;
    struct timespec pause = {0, SECOND_LOOK_MS * 1000000L};
    (void) nanosleep(&pause, NULL);
    check->second_look = true;
    for (size_t i = 0; i < check->suspect_count; i++)
        run_test(check, check->suspects[i].test, check->suspects[i].key);
}

static void check_release(struct check *check)
{
    for (size_t i = 0; i < check->suspect_count; i++)
        free(check->suspects[i].key);
    free(check->suspects);
    free(check->buffer);
}

enum err_code registry_check(struct store *store, bool quick, const struct check_callbacks *callbacks,
                             struct check_totals *out, struct err *err)
{
    struct check check cleanup(check_release) = {
        .store = store, .quick = quick, .callbacks = callbacks, .totals = out, .buffer = malloc(READ_BYTES)};
    *out = (struct check_totals){0};
    if (!check.buffer)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    if (store_walk(store, "blobs/", count_blob, &check, err) != ERR_OK ||
        store_walk(store, "repos/", visit_repo_object, &check, err) != ERR_OK ||
        store_walk(store, KEY_CATALOG_PREFIX, visit_catalog_entry, &check, err) != ERR_OK ||
        store_walk(store, "refs/", visit_ref, &check, err) != ERR_OK ||
        store_walk(store, "blobs/", visit_blob, &check, err) != ERR_OK || visit_uploads(&check, err) != ERR_OK)
        return err->code;
    look_again(&check);
    report_progress(&check);
    return ERR_OK;
}

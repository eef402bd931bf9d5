#include "fixture.h"

#include "registry/check.h"
#include "registry/keys.h"

#include <pthread.h>
#include <stdatomic.h>

#define DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define THREADS 8
#define THREAD_ROUNDS 15

static enum err_code put_text(struct fixture *fixture, const struct digest *digest, const char *media_type,
                              const char *text, struct manifest_put_result *out)
{
    struct manifest_put put = {
        .repo = &fixture->repo, .digest = digest, .media_type = str_from(media_type), .bytes = str_from(text)};
    return manifest_put(fixture->registry, &put, out, &fixture->err);
}

static enum err_code find(struct fixture *fixture, const struct reference *reference)
{
    struct manifest *manifest = NULL;
    enum err_code code = manifest_find(fixture->registry, &fixture->repo, reference, &manifest, &fixture->err);
    manifest_unref(manifest);
    return code;
}

static void assert_manifest(struct fixture *fixture, const struct reference *reference, const char *text,
                            const char *media_type)
{
    struct manifest *manifest;
    assert_ok(manifest_find(fixture->registry, &fixture->repo, reference, &manifest, &fixture->err));
    assert_string_equal(manifest->bytes, text);
    assert_int_equal(manifest->len, strlen(text));
    assert_string_equal(manifest->media_type, media_type);
    struct digest digest = digest_of(manifest->digest.algorithm, str_from(text));
    assert_true(digest_equal(&manifest->digest, &digest));
    manifest_unref(manifest);
}

static void noted_finding(void *arg, enum check_severity severity, const char *kind, const char *key, const char *text)
{
    (void) arg;
    if (severity == CHECK_ERROR)
        print_error("%s %s: %s\n", kind, key, text);
}

static uint64_t check_errors(struct fixture *fixture)
{
    struct check_callbacks callbacks = {.finding = noted_finding};
    struct check_totals totals;
    assert_ok(registry_check(fixture->store, true, &callbacks, &totals, &fixture->err));
    return totals.errors;
}

/* ---- put and find ---- */

static void test_put_and_find(void **state)
{
    struct fixture *fixture = *state;
    auto_buf text = BUF_INIT(0);
    image_text(fixture, &fixture->repo, NULL, NULL, "  exact \\u00fc bytes ", &text);
    struct digest digest = push_manifest(fixture, &fixture->repo, "v1", text.ptr);
    struct digest expected = sha256_of(text.ptr);
    assert_true(digest_equal(&digest, &expected));
    for (int round = 0; round < 2; round++) { /* warm, then cold */
        struct reference by_name = by_tag("v1"), by_hash = by_digest(&digest), wrong_name = by_tag("v2");
        assert_manifest(fixture, &by_name, text.ptr, OCI_MANIFEST);
        assert_manifest(fixture, &by_hash, text.ptr, OCI_MANIFEST);
        assert_int_equal(find(fixture, &wrong_name), ERR_MANIFEST_UNKNOWN);
        assert_non_null(strstr(fixture->err.message, "v2"));
        fixture_reopen(fixture);
    }
    struct digest missing = sha256_of("missing");
    struct reference by_missing = by_digest(&missing), by_hash = by_digest(&digest), by_name = by_tag("v1");
    assert_int_equal(find(fixture, &by_missing), ERR_MANIFEST_UNKNOWN);
    fixture->repo = repo_of("library/other");
    assert_int_equal(find(fixture, &by_hash), ERR_MANIFEST_UNKNOWN);
    assert_int_equal(find(fixture, &by_name), ERR_MANIFEST_UNKNOWN);
}

static void test_find_cached(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = push_image(fixture, &fixture->repo, "v1", NULL, NULL, "x");
    struct reference references[] = {by_digest(&digest), by_tag("v1")};
    for (size_t i = 0; i < COUNT_OF(references); i++) {
        assert_ok(find(fixture, &references[i]));
        struct manifest *manifest = manifest_find_cached(fixture->registry, &fixture->repo, &references[i]);
        assert_non_null(manifest);
        manifest_unref(manifest);
        fixture_reopen(fixture);
        assert_null(manifest_find_cached(fixture->registry, &fixture->repo, &references[i]));
        assert_ok(find(fixture, &references[i]));
        manifest = manifest_find_cached(fixture->registry, &fixture->repo, &references[i]);
        assert_non_null(manifest);
        manifest_unref(manifest);
    }
    struct reference missing = by_tag("v2");
    assert_null(manifest_find_cached(fixture->registry, &fixture->repo, &missing));
    manifest_unref(NULL);
}

static void test_without_a_cache(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.cache_bytes_max = 0;
    fixture_reopen(fixture);
    struct digest digest = push_image(fixture, &fixture->repo, "v1", NULL, NULL, "x");
    struct reference by_hash = by_digest(&digest), by_name = by_tag("v1");
    assert_ok(find(fixture, &by_hash));
    assert_ok(find(fixture, &by_name));
    assert_null(manifest_find_cached(fixture->registry, &fixture->repo, &by_name));
    assert_ok(manifest_delete(fixture->registry, &fixture->repo, &digest, &fixture->err));
    assert_int_equal(find(fixture, &by_name), ERR_MANIFEST_UNKNOWN);
}

static void test_put_by_digest(void **state)
{
    struct fixture *fixture = *state;
    static const enum digest_algorithm algorithms[] = {DIGEST_SHA256, DIGEST_SHA512};
    auto_buf text = BUF_INIT(0);
    image_text(fixture, &fixture->repo, NULL, NULL, "x", &text);
    for (size_t i = 0; i < COUNT_OF(algorithms); i++) {
        struct manifest_put_result result;
        struct digest digest = digest_of(algorithms[i], buf_str(&text)), wrong = digest;
        wrong.raw[0] ^= 1;
        assert_int_equal(put_text(fixture, &wrong, "", text.ptr, &result), ERR_DIGEST_INVALID);
        char shown[81]; /* of a long one the beginning must do */
        (void) snprintf(shown, sizeof(shown), "%s", digest_text(&digest));
        assert_non_null(strstr(fixture->err.message, shown));
        struct reference by_hash = by_digest(&digest);
        assert_int_equal(find(fixture, &by_hash), ERR_MANIFEST_UNKNOWN);
        assert_ok(put_text(fixture, &digest, "", text.ptr, &result));
        assert_true(digest_equal(&result.digest, &digest));
        assert_manifest(fixture, &by_hash, text.ptr, OCI_MANIFEST);
    }
}

static void test_invalid_manifests_are_not_stored(void **state)
{
    struct fixture *fixture = *state;
    struct manifest_put_result result;
    static const char *const texts[] = {"", "{", "[]", "{\"schemaVersion\":1}", "{\"schemaVersion\":2}"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct digest digest = sha256_of(texts[i]);
        struct reference by_hash = by_digest(&digest);
        assert_int_equal(put_text(fixture, NULL, OCI_MANIFEST, texts[i], &result), ERR_MANIFEST_INVALID);
        assert_int_equal(find(fixture, &by_hash), ERR_MANIFEST_UNKNOWN);
    }
}

static void test_size_limit(void **state)
{
    struct fixture *fixture = *state;
    struct manifest_put_result result;
    auto_buf text = BUF_INIT(REGISTRY_MANIFEST_BYTES_MAX + 1);
    auto_buf image = BUF_INIT(0);
    image_text(fixture, &fixture->repo, NULL, NULL, "big", &image);
    assert_true(buf_append(&text, image.ptr, image.len));
    while (text.len < REGISTRY_MANIFEST_BYTES_MAX)
        assert_true(buf_append_char(&text, '\n'));
    assert_ok(put_text(fixture, NULL, "", text.ptr, &result));
    fixture_reopen(fixture);
    struct reference by_hash = by_digest(&result.digest);
    assert_manifest(fixture, &by_hash, text.ptr, OCI_MANIFEST);
    assert_true(buf_append_char(&text, '\n'));
    assert_int_equal(put_text(fixture, NULL, "", text.ptr, &result), ERR_MANIFEST_TOO_BIG);
}

static void test_media_type_may_change(void **state)
{
    struct fixture *fixture = *state;
    struct manifest_put_result result;
    struct digest config = push_blob(fixture, &fixture->repo, STR("{}"));
    char text[300];
    (void) snprintf(text, sizeof(text), "{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\",\"size\":2},\"layers\":[]}",
                    digest_text(&config));
    assert_ok(put_text(fixture, NULL, OCI_MANIFEST, text, &result));
    struct reference by_hash = by_digest(&result.digest);
    assert_manifest(fixture, &by_hash, text, OCI_MANIFEST);
    assert_ok(put_text(fixture, NULL, DOCKER_MANIFEST, text, &result));
    assert_manifest(fixture, &by_hash, text, DOCKER_MANIFEST);
    fixture_reopen(fixture);
    assert_manifest(fixture, &by_hash, text, DOCKER_MANIFEST);
}

/* ---- references ---- */

static void image_of(const struct digest *config, const char *layer_members, char *out, size_t out_bytes)
{
    (void) snprintf(out, out_bytes,
                    "{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\",\"size\":2},\"layers\":[{\"size\":7,%s}]}",
                    digest_text(config), layer_members);
}

static void test_missing_blobs(void **state)
{
    struct fixture *fixture = *state;
    struct manifest_put_result result;
    struct digest config = sha256_of("{}"), layer = sha256_of("layer");
    struct repo_name elsewhere = repo_of("elsewhere");
    char text[1000], members[200];
    (void) snprintf(members, sizeof(members), "\"digest\":\"%s\"", digest_text(&layer));
    image_of(&config, members, text, sizeof(text));
    assert_int_equal(put_text(fixture, NULL, "", text, &result), ERR_MANIFEST_BLOB_UNKNOWN);
    assert_non_null(strstr(fixture->err.message, digest_text(&config)));
    (void) push_blob(fixture, &fixture->repo, STR("{}"));
    (void) push_blob(fixture, &elsewhere, STR("layer")); /* does not count */
    assert_int_equal(put_text(fixture, NULL, "", text, &result), ERR_MANIFEST_BLOB_UNKNOWN);
    assert_non_null(strstr(fixture->err.message, digest_text(&layer)));
    (void) push_blob(fixture, &fixture->repo, STR("layer"));
    assert_ok(put_text(fixture, NULL, "", text, &result));
}

static void test_blobs_that_may_be_elsewhere(void **state)
{
    struct fixture *fixture = *state;
    struct manifest_put_result result;
    struct digest config = push_blob(fixture, &fixture->repo, STR("{}")), layer = sha256_of("layer");
    char text[1000], members[300];
    (void) snprintf(members, sizeof(members), "\"digest\":\"%s\",\"urls\":[\"https://example.org/layer\"]",
                    digest_text(&layer));
    image_of(&config, members, text, sizeof(text));
    assert_ok(put_text(fixture, NULL, "", text, &result));

    (void) snprintf(members, sizeof(members), "\"digest\":\"%s\"", digest_text(&layer));
    image_of(&config, members, text, sizeof(text));
    struct registry_settings settings = fixture->settings;
    settings.check_references = false;
    registry_update_settings(fixture->registry, &settings);
    assert_ok(put_text(fixture, NULL, "", text, &result));
}

static void test_indexes(void **state)
{
    struct fixture *fixture = *state;
    struct manifest_put_result result;
    auto_buf image = BUF_INIT(0);
    image_text(fixture, &fixture->repo, NULL, NULL, "member", &image);
    struct digest member = sha256_of(image.ptr);
    char text[1000];
    (void) snprintf(text, sizeof(text), "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"%s\",\"size\":7}]}",
                    digest_text(&member));
    assert_int_equal(put_text(fixture, NULL, OCI_INDEX, text, &result), ERR_MANIFEST_BLOB_UNKNOWN);
    assert_non_null(strstr(fixture->err.message, "manifest sha256:"));
    (void) push_blob(fixture, &fixture->repo, buf_str(&image)); /* a blob of that digest is no manifest */
    assert_int_equal(put_text(fixture, NULL, OCI_INDEX, text, &result), ERR_MANIFEST_BLOB_UNKNOWN);

    struct registry_settings settings = fixture->settings;
    settings.sparse_indexes = true;
    registry_update_settings(fixture->registry, &settings);
    assert_ok(put_text(fixture, NULL, OCI_INDEX, text, &result));
    registry_update_settings(fixture->registry, &fixture->settings);
    (void) push_manifest(fixture, &fixture->repo, NULL, image.ptr);
    assert_ok(put_text(fixture, NULL, OCI_INDEX, text, &result));
}

static void test_subjects_need_not_exist(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = sha256_of("to come");
    struct manifest_put_result result;
    auto_buf text = BUF_INIT(0);
    image_text(fixture, &fixture->repo, &subject, NULL, "x", &text);
    assert_ok(put_text(fixture, NULL, "", text.ptr, &result));
    assert_true(result.has_subject);
    assert_true(digest_equal(&result.subject, &subject));
    buf_free(&text);
    image_text(fixture, &fixture->repo, NULL, NULL, "x", &text);
    assert_ok(put_text(fixture, NULL, "", text.ptr, &result));
    assert_false(result.has_subject);
}

/* ---- delete ---- */

static void test_delete(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = push_image(fixture, &fixture->repo, "v1", NULL, NULL, "x");
    struct digest other = push_image(fixture, &fixture->repo, "other", NULL, NULL, "y");
    struct reference by_hash = by_digest(&digest), v1 = by_tag("v1"), by_other = by_tag("other");
    auto_buf text = BUF_INIT(0);
    image_text(fixture, &fixture->repo, NULL, NULL, "x", &text);
    (void) push_manifest(fixture, &fixture->repo, "v2", text.ptr);
    fixture_reopen(fixture);
    assert_ok(manifest_delete(fixture->registry, &fixture->repo, &digest, &fixture->err));
    for (int round = 0; round < 2; round++) {
        struct reference v2 = by_tag("v2");
        assert_int_equal(find(fixture, &by_hash), ERR_MANIFEST_UNKNOWN);
        assert_int_equal(find(fixture, &v1), ERR_MANIFEST_UNKNOWN);
        assert_int_equal(find(fixture, &v2), ERR_MANIFEST_UNKNOWN);
        assert_ok(find(fixture, &by_other));
        assert_int_equal(manifest_delete(fixture->registry, &fixture->repo, &digest, &fixture->err),
                         ERR_MANIFEST_UNKNOWN);
        fixture_reopen(fixture);
    }
    (void) push_manifest(fixture, &fixture->repo, "v1", text.ptr); /* it may come back */
    assert_ok(find(fixture, &v1));
    assert_ok(manifest_delete(fixture->registry, &fixture->repo, &digest, &fixture->err));
    assert_ok(manifest_delete(fixture->registry, &fixture->repo, &other, &fixture->err));
    assert_int_equal(check_errors(fixture), 0);
}

static void test_delete_of_a_tag_that_moved_on(void **state)
{
    struct fixture *fixture = *state;
    struct digest old = push_image(fixture, &fixture->repo, "latest", NULL, NULL, "old");
    struct reference latest = by_tag("latest");
    char key[KEY_BYTES];
    struct tag_name tag = tag_of("latest");
    (void) push_image(fixture, &fixture->repo, "latest", NULL, NULL, "new");
    key_tagged(&fixture->repo, &old, &tag, key); /* as a crash after the move leaves it */
    object_put(fixture, key, STR(""));
    assert_ok(manifest_delete(fixture->registry, &fixture->repo, &old, &fixture->err));
    assert_false(object_exists(fixture, key));
    assert_ok(find(fixture, &latest));
}

static void test_delete_switched_off(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = push_image(fixture, &fixture->repo, "v1", NULL, NULL, "x");
    struct tag_name tag = tag_of("v1");
    struct tag_condition any = {.kind = TAG_ANY};
    struct registry_settings settings = fixture->settings;
    settings.deletes = false;
    registry_update_settings(fixture->registry, &settings);
    assert_int_equal(manifest_delete(fixture->registry, &fixture->repo, &digest, &fixture->err),
                     ERR_METHOD_UNSUPPORTED);
    assert_int_equal(tag_delete(fixture->registry, &fixture->repo, &tag, &any, &fixture->err), ERR_METHOD_UNSUPPORTED);
    struct reference v1 = by_tag("v1");
    assert_ok(find(fixture, &v1));
}

/* ---- the order of durable steps ---- */

static void expect_steps(char *const *steps, size_t count)
{
    const char *rest = watch_lines();
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(steps[i]);
        if (strncmp(rest, steps[i], len) != 0 || rest[len] != '\n')
            fail_msg("step %zu should be '%s'; the steps are:\n%s", i, steps[i], watch_lines());
        rest += len + 1;
    }
    assert_string_equal(rest, "");
}

/* "verb key" in a buffer of its own; the caller frees it. */
static char *step(const char *verb, const char *key)
{
    char *text;
    assert_true(asprintf(&text, "%s %s", verb, key) > 0);
    return text;
}

static void test_order_of_put_and_delete(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = sha256_of("subject");
    struct tag_name tag = tag_of("v1");
    char manifest[KEY_BYTES], catalog[KEY_BYTES], referrer[KEY_BYTES], tagged[KEY_BYTES], tag_key[KEY_BYTES];
    auto_buf text = BUF_INIT(0);
    image_text(fixture, &fixture->repo, &subject, NULL, "x", &text);
    struct digest digest = sha256_of(text.ptr);
    key_manifest(&fixture->repo, &digest, manifest);
    key_catalog(&fixture->repo, catalog);
    key_referrer(&fixture->repo, &subject, &digest, referrer);
    key_tagged(&fixture->repo, &digest, &tag, tagged);
    key_tag(&fixture->repo, &tag, tag_key);

    char *put_steps[] = {step("put", manifest), step("put", catalog), step("put", tagged), step("put", referrer),
                         step("put", tag_key)};
    char *delete_steps[] = {step("delete", tag_key), step("delete", tagged), step("delete", referrer),
                            step("delete", manifest)};
    watch_start(fixture, 0);
    (void) push_manifest(fixture, &fixture->repo, "v1", text.ptr);
    expect_steps(put_steps, COUNT_OF(put_steps));
    watch_stop(fixture);
    watch_start(fixture, 0);
    assert_ok(manifest_delete(fixture->registry, &fixture->repo, &digest, &fixture->err));
    expect_steps(delete_steps, COUNT_OF(delete_steps));
    watch_stop(fixture);
    for (size_t i = 0; i < COUNT_OF(put_steps); i++)
        free(put_steps[i]);
    for (size_t i = 0; i < COUNT_OF(delete_steps); i++)
        free(delete_steps[i]);
}

/* Cut the push short at each step: what is there is valid, in this process and after a restart; a retry completes it. */
static void test_interrupted_puts(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = sha256_of("subject");
    for (size_t fail_at = 1; fail_at <= 6; fail_at++) {
        for (int restart = 0; restart < 2; restart++) {
            char name[32], note[32];
            struct manifest_put_result result;
            auto_buf text = BUF_INIT(0);
            (void) snprintf(name, sizeof(name), "crash/p%zu-%d", fail_at, restart);
            (void) snprintf(note, sizeof(note), "%zu-%d", fail_at, restart);
            fixture->repo = repo_of(name);
            struct tag_name tag = tag_of("v1");
            (void) push_image(fixture, &fixture->repo, "v1", NULL, NULL, "before");
            image_text(fixture, &fixture->repo, &subject, NULL, note, &text);
            struct manifest_put put = {.repo = &fixture->repo, .tags = &tag, .tag_count = 1, .bytes = buf_str(&text)};
            watch_start(fixture, fail_at);
            enum err_code code = manifest_put(fixture->registry, &put, &result, &fixture->err);
            watch_stop(fixture);
            assert_int_equal(code, fail_at <= 5 ? ERR_IO : ERR_OK); /* the catalog has the name already: five steps */
            if (restart)
                fixture_reopen(fixture);
            struct reference v1 = by_tag("v1");
            assert_ok(find(fixture, &v1));
            assert_int_equal(check_errors(fixture), 0);
            assert_ok(manifest_put(fixture->registry, &put, &result, &fixture->err));
            assert_manifest(fixture, &v1, text.ptr, OCI_MANIFEST);
            assert_int_equal(check_errors(fixture), 0);
        }
    }
}

static void test_interrupted_deletes(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = sha256_of("subject");
    for (size_t fail_at = 1; fail_at <= 5; fail_at++) {
        for (int restart = 0; restart < 2; restart++) {
            char name[32];
            (void) snprintf(name, sizeof(name), "crash/d%zu-%d", fail_at, restart);
            fixture->repo = repo_of(name);
            struct digest digest = push_image(fixture, &fixture->repo, "v1", &subject, NULL, name);
            struct reference by_hash = by_digest(&digest), v1 = by_tag("v1");
            watch_start(fixture, fail_at);
            enum err_code code = manifest_delete(fixture->registry, &fixture->repo, &digest, &fixture->err);
            watch_stop(fixture);
            assert_int_equal(code, fail_at <= 4 ? ERR_IO : ERR_OK);
            if (restart)
                fixture_reopen(fixture);
            assert_int_equal(check_errors(fixture), 0);
            if (code != ERR_OK)
                assert_ok(manifest_delete(fixture->registry, &fixture->repo, &digest, &fixture->err));
            assert_int_equal(find(fixture, &by_hash), ERR_MANIFEST_UNKNOWN);
            assert_int_equal(find(fixture, &v1), ERR_MANIFEST_UNKNOWN);
            assert_int_equal(check_errors(fixture), 0);
        }
    }
}

/* ---- damage ---- */

static void test_damaged_manifests(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = push_image(fixture, &fixture->repo, "v1", NULL, NULL, "x");
    struct reference by_hash = by_digest(&digest), v1 = by_tag("v1");
    auto_buf text = BUF_INIT(0);
    auto_buf object = BUF_INIT(0);
    char key[KEY_BYTES];
    key_manifest(&fixture->repo, &digest, key);
    file_read(fixture, key, &object);
    image_text(fixture, &fixture->repo, NULL, NULL, "x", &text);
    object.ptr[object.len - 3] ^= 1;
    char long_line[400] = "orlop-manifest ";
    memset(long_line + 15, 'x', sizeof(long_line) - 16);
    long_line[sizeof(long_line) - 2] = '\n';
    const struct str damages[] = {buf_str(&object),
                                  STR(""),
                                  STR("orlop-manifest"),
                                  STR("orlop-manifest x"),
                                  buf_str(&text),
                                  str_from(long_line),
                                  {object.ptr, object.len / 2}};
    for (size_t i = 0; i < COUNT_OF(damages); i++) {
        file_write(fixture, key, damages[i]);
        fixture_reopen(fixture);
        assert_int_equal(find(fixture, &by_hash), ERR_CORRUPT);
        assert_int_equal(find(fixture, &v1), ERR_CORRUPT);
        (void) push_manifest(fixture, &fixture->repo, "v1", text.ptr); /* pushing again mends it */
        fixture_reopen(fixture);
        assert_ok(find(fixture, &v1));
    }
    file_write(fixture, key, STR("junk"));
    fixture_reopen(fixture);
    assert_ok(manifest_delete(fixture->registry, &fixture->repo, &digest, &fixture->err)); /* and it may go */
    assert_false(object_exists(fixture, key));
    assert_int_equal(find(fixture, &v1), ERR_MANIFEST_UNKNOWN);
}

static void test_a_tag_to_nowhere(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = push_image(fixture, &fixture->repo, "v1", NULL, NULL, "x");
    struct reference v1 = by_tag("v1");
    char key[KEY_BYTES];
    key_manifest(&fixture->repo, &digest, key);
    object_delete(fixture, key);
    fixture_reopen(fixture);
    assert_int_equal(find(fixture, &v1), ERR_MANIFEST_UNKNOWN);
}

/* ---- threads ---- */

struct crew {
    struct fixture *fixture;
    char *texts[3];
    struct digest digests[3];
    atomic_uint next;
};

/* Push, pull and delete three manifests under one tag. What a reader gets is whole; what is found by tag exists. */
static void *churn(void *arg)
{
    struct crew *crew = arg;
    struct fixture *fixture = crew->fixture;
    struct tag_name tag = tag_of("contested");
    struct reference contested = by_tag("contested");
    for (int round = 0; round < THREAD_ROUNDS; round++) {
        struct err err = ERR_INIT;
        struct manifest_put_result result;
        struct manifest *manifest = NULL;
        unsigned which = atomic_fetch_add(&crew->next, 1) % 3;
        struct manifest_put put = {
            .repo = &fixture->repo, .tags = &tag, .tag_count = 1, .bytes = str_from(crew->texts[which])};
        assert_ok(manifest_put(fixture->registry, &put, &result, &err));
        enum err_code code = manifest_find(fixture->registry, &fixture->repo, &contested, &manifest, &err);
        assert_true(code == ERR_OK || code == ERR_MANIFEST_UNKNOWN);
        if (code == ERR_OK)
            assert_int_equal(manifest->bytes[0], '{');
        manifest_unref(manifest);
        code = manifest_delete(fixture->registry, &fixture->repo, &crew->digests[(which + 1) % 3], &err);
        assert_true(code == ERR_OK || code == ERR_MANIFEST_UNKNOWN);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct fixture *fixture = *state;
    struct crew crew = {.fixture = fixture};
    struct digest subject = sha256_of("subject");
    pthread_t threads[THREADS];
    for (size_t i = 0; i < 3; i++) {
        char note[2] = {(char) ('a' + i), '\0'};
        auto_buf text = BUF_INIT(0);
        image_text(fixture, &fixture->repo, &subject, NULL, note, &text);
        crew.digests[i] = sha256_of(text.ptr);
        crew.texts[i] = TAKE_PTR(text.ptr);
    }
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, &crew), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(check_errors(fixture), 0); /* no tag points at a manifest that is gone */
    for (size_t i = 0; i < 3; i++) {
        struct reference cached_name = by_tag("contested"), by_hash = by_digest(&crew.digests[i]);
        enum err_code warm = find(fixture, &by_hash), warm_tag = find(fixture, &cached_name);
        fixture_reopen(fixture);
        assert_int_equal(find(fixture, &by_hash), warm); /* memory and store agree */
        assert_int_equal(find(fixture, &cached_name), warm_tag);
        free(crew.texts[i]);
    }
}

#define MANIFEST_TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        MANIFEST_TEST(test_put_and_find),
        MANIFEST_TEST(test_find_cached),
        MANIFEST_TEST(test_without_a_cache),
        MANIFEST_TEST(test_put_by_digest),
        MANIFEST_TEST(test_invalid_manifests_are_not_stored),
        MANIFEST_TEST(test_size_limit),
        MANIFEST_TEST(test_media_type_may_change),
        MANIFEST_TEST(test_missing_blobs),
        MANIFEST_TEST(test_blobs_that_may_be_elsewhere),
        MANIFEST_TEST(test_indexes),
        MANIFEST_TEST(test_subjects_need_not_exist),
        MANIFEST_TEST(test_delete),
        MANIFEST_TEST(test_delete_of_a_tag_that_moved_on),
        MANIFEST_TEST(test_delete_switched_off),
        MANIFEST_TEST(test_order_of_put_and_delete),
        MANIFEST_TEST(test_interrupted_puts),
        MANIFEST_TEST(test_interrupted_deletes),
        MANIFEST_TEST(test_damaged_manifests),
        MANIFEST_TEST(test_a_tag_to_nowhere),
        MANIFEST_TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

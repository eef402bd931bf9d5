#include "fixture.h"

#include "registry/keys.h"
#include "registry/listing.h"
#include "registry/registry_priv.h"

#include <pthread.h>
#include <stdatomic.h>

#define THREADS 8
#define MANY_TAGS 1100 /* more than one batch of a delete */

struct put_request {
    struct fixture *fixture;
    struct buf text;
    struct tag_name tag;
    struct tag_condition condition;
};

static enum err_code put_if(const struct put_request *request, struct err *err)
{
    struct fixture *fixture = request->fixture;
    struct manifest_put_result result;
    struct manifest_put put = {.repo = &fixture->repo,
                               .tags = &request->tag,
                               .tag_count = 1,
                               .bytes = buf_str(&request->text),
                               .condition = request->condition};
    return manifest_put(fixture->registry, &put, &result, err);
}

static enum err_code put_tag_if(struct fixture *fixture, const char *tag, const char *note,
                                struct tag_condition condition)
{
    struct put_request request = {.fixture = fixture, .tag = tag_of(tag), .condition = condition};
    image_text(fixture, &fixture->repo, NULL, NULL, note, &request.text);
    enum err_code code = put_if(&request, &fixture->err);
    buf_free(&request.text);
    return code;
}

/* What the tag points at, asked warm and cold. */
static void assert_tag(struct fixture *fixture, const char *name, const struct digest *expected)
{
    struct reference reference = by_tag(name);
    for (int round = 0; round < 2; round++) {
        struct manifest *manifest = NULL;
        enum err_code code = manifest_find(fixture->registry, &fixture->repo, &reference, &manifest, &fixture->err);
        if (expected) {
            assert_ok(code);
            assert_true(digest_equal(&manifest->digest, expected));
        } else {
            assert_int_equal(code, ERR_MANIFEST_UNKNOWN);
        }
        manifest_unref(manifest);
        fixture_reopen(fixture);
    }
}

static void test_a_tag_moves(void **state)
{
    struct fixture *fixture = *state;
    struct digest first = push_image(fixture, &fixture->repo, "latest", NULL, NULL, "first");
    assert_tag(fixture, "latest", &first);
    struct digest second = push_image(fixture, &fixture->repo, "latest", NULL, NULL, "second");
    assert_tag(fixture, "latest", &second);
    struct reference by_hash = by_digest(&first); /* the first one stays, untagged */
    struct manifest *manifest;
    assert_ok(manifest_find(fixture->registry, &fixture->repo, &by_hash, &manifest, &fixture->err));
    manifest_unref(manifest);
    char key[KEY_BYTES];
    struct tag_name tag = tag_of("latest");
    key_tagged(&fixture->repo, &first, &tag, key);
    assert_false(object_exists(fixture, key)); /* the reverse index moved along */
    key_tagged(&fixture->repo, &second, &tag, key);
    assert_true(object_exists(fixture, key));
}

static void test_pushing_the_same_again_writes_nothing(void **state)
{
    struct fixture *fixture = *state;
    (void) push_image(fixture, &fixture->repo, "v1", NULL, NULL, "x");
    watch_start(fixture, 0);
    assert_ok(put_tag_if(fixture, "v1", "x", (struct tag_condition){.kind = TAG_ANY}));
    assert_string_equal(watch_lines(), "");
    watch_stop(fixture);
}

static void test_many_tags_at_once(void **state)
{
    struct fixture *fixture = *state;
    struct tag_name tags[] = {tag_of("a"), tag_of("b"), tag_of("c"), tag_of("a")};
    struct manifest_put_result result;
    auto_buf text = BUF_INIT(0);
    image_text(fixture, &fixture->repo, NULL, NULL, "x", &text);
    struct manifest_put put = {.repo = &fixture->repo,
                               .tags = tags,
                               .tag_count = COUNT_OF(tags),
                               .bytes = buf_str(&text),
                               .condition = {.kind = TAG_ABSENT}};
    assert_ok(manifest_put(fixture->registry, &put, &result, &fixture->err));
    assert_tag(fixture, "a", &result.digest);
    assert_tag(fixture, "b", &result.digest);
    assert_tag(fixture, "c", &result.digest);
}

static void test_conditions_of_a_push(void **state)
{
    struct fixture *fixture = *state;
    struct tag_condition absent = {.kind = TAG_ABSENT}, exists = {.kind = TAG_EXISTS};
    struct digest other = sha256_of("other");
    struct tag_condition is_other = {.kind = TAG_IS, .digest = other},
                         is_not_other = {.kind = TAG_IS_NOT, .digest = other};

    assert_int_equal(put_tag_if(fixture, "t", "1", exists), ERR_TAG_MISMATCH);
    assert_int_equal(put_tag_if(fixture, "t", "1", is_other), ERR_TAG_MISMATCH);
    assert_tag(fixture, "t", NULL);
    assert_ok(put_tag_if(fixture, "t", "1", absent));
    assert_int_equal(put_tag_if(fixture, "t", "2", absent), ERR_TAG_MISMATCH);
    assert_int_equal(put_tag_if(fixture, "t", "1", absent), ERR_TAG_MISMATCH); /* though it is the same */
    assert_int_equal(put_tag_if(fixture, "t", "2", is_other), ERR_TAG_MISMATCH);

    struct reference reference = by_tag("t");
    struct manifest *manifest;
    assert_ok(manifest_find(fixture->registry, &fixture->repo, &reference, &manifest, &fixture->err));
    struct tag_condition is_first = {.kind = TAG_IS, .digest = manifest->digest};
    struct tag_condition is_not_first = {.kind = TAG_IS_NOT, .digest = manifest->digest};
    manifest_unref(manifest);
    watch_start(fixture, 0);
    assert_int_equal(put_tag_if(fixture, "t", "2", is_not_first), ERR_TAG_MISMATCH);
    assert_string_equal(watch_lines(), ""); /* not even the manifest */
    watch_stop(fixture);
    assert_tag(fixture, "t", &is_first.digest);
    assert_ok(put_tag_if(fixture, "t", "2", is_first));
    assert_int_equal(put_tag_if(fixture, "t", "3", is_first), ERR_TAG_MISMATCH);
    assert_ok(put_tag_if(fixture, "t", "3", is_not_other));
    assert_ok(put_tag_if(fixture, "t", "4", exists));
    assert_ok(put_tag_if(fixture, "u", "4", is_not_other)); /* nor is a tag that does not exist the other */
    fixture_reopen(fixture);
    assert_int_equal(put_tag_if(fixture, "t", "5", is_first), ERR_TAG_MISMATCH); /* cold as well */
}

static enum err_code delete_tag(struct fixture *fixture, const char *name, struct tag_condition condition)
{
    struct tag_name tag = tag_of(name);
    return tag_delete(fixture->registry, &fixture->repo, &tag, &condition, &fixture->err);
}

static void test_delete(void **state)
{
    struct fixture *fixture = *state;
    struct tag_condition any = {.kind = TAG_ANY};
    struct digest digest = push_image(fixture, &fixture->repo, "v1", NULL, NULL, "x");
    (void) push_image(fixture, &fixture->repo, "v2", NULL, NULL, "x");
    assert_int_equal(delete_tag(fixture, "v3", any), ERR_MANIFEST_UNKNOWN);
    assert_ok(delete_tag(fixture, "v1", any));
    assert_tag(fixture, "v1", NULL);
    assert_tag(fixture, "v2", &digest); /* the manifest stays */
    assert_int_equal(delete_tag(fixture, "v1", any), ERR_MANIFEST_UNKNOWN);
    char key[KEY_BYTES];
    struct tag_name tag = tag_of("v1");
    key_tagged(&fixture->repo, &digest, &tag, key);
    assert_false(object_exists(fixture, key));
    fixture->repo = repo_of("unknown/repo");
    assert_int_equal(delete_tag(fixture, "v1", any), ERR_MANIFEST_UNKNOWN);
}

static void test_conditions_of_a_delete(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = push_image(fixture, &fixture->repo, "v1", NULL, NULL, "x"), other = sha256_of("other");
    struct tag_condition is_other = {.kind = TAG_IS, .digest = other}, is_not = {.kind = TAG_IS_NOT, .digest = digest};
    struct tag_condition absent = {.kind = TAG_ABSENT}, exists = {.kind = TAG_EXISTS};
    struct tag_condition is = {.kind = TAG_IS, .digest = digest};
    assert_int_equal(delete_tag(fixture, "v1", is_other), ERR_TAG_MISMATCH);
    assert_int_equal(delete_tag(fixture, "v1", is_not), ERR_TAG_MISMATCH);
    assert_int_equal(delete_tag(fixture, "v1", absent), ERR_TAG_MISMATCH);
    assert_tag(fixture, "v1", &digest);
    assert_ok(delete_tag(fixture, "v1", is));
    assert_int_equal(delete_tag(fixture, "v1", exists), ERR_MANIFEST_UNKNOWN);
}

static void test_damaged_tags(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = push_image(fixture, &fixture->repo, "v1", NULL, NULL, "x");
    struct tag_name tag = tag_of("v1");
    struct reference reference = by_tag("v1");
    char key[KEY_BYTES];
    key_tag(&fixture->repo, &tag, key);
    static const char *const damages[] = {"", "{", "{}", "[]", "{\"digest\":7}", "{\"digest\":\"sha256:12\"}"};
    for (size_t i = 0; i < COUNT_OF(damages); i++) {
        struct manifest *manifest;
        struct digest found;
        assert_int_equal(tag_decode(str_from(damages[i]), &found, &fixture->err), ERR_CORRUPT);
        file_write(fixture, key, str_from(damages[i]));
        fixture_reopen(fixture);
        assert_int_equal(manifest_find(fixture->registry, &fixture->repo, &reference, &manifest, &fixture->err),
                         ERR_CORRUPT);
        assert_non_null(strstr(fixture->err.detail, key));
        assert_ok(put_tag_if(fixture, "v1", "x", (struct tag_condition){.kind = TAG_ANY})); /* a push mends it */
        assert_tag(fixture, "v1", &digest);
    }
}

static void test_what_a_tag_says(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = push_image(fixture, &fixture->repo, "v1", NULL, NULL, "x"), found;
    struct tag_name tag = tag_of("v1");
    char key[KEY_BYTES], expected[400];
    auto_buf object = BUF_INIT(0);
    key_tag(&fixture->repo, &tag, key);
    file_read(fixture, key, &object);
    assert_ok(tag_decode(buf_str(&object), &found, &fixture->err));
    assert_true(digest_equal(&found, &digest));
    (void) snprintf(expected, sizeof(expected),
                    "{\"digest\":\"%s\",\"mediaType\":\"" OCI_MANIFEST "\",\"size\":", digest_text(&digest));
    assert_memory_equal(object.ptr, expected, strlen(expected));
    assert_non_null(strstr(object.ptr, ",\"pushed\":\"20"));
}

static void test_a_manifest_of_many_tags(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = push_image(fixture, &fixture->repo, NULL, NULL, NULL, "x");
    for (int i = 0; i < MANY_TAGS; i++) {
        char key[KEY_BYTES], name[32], text[200];
        (void) snprintf(name, sizeof(name), "t%d", i);
        struct tag_name tag = tag_of(name);
        key_tagged(&fixture->repo, &digest, &tag, key);
        file_write(fixture, key, STR(""));
        key_tag(&fixture->repo, &tag, key);
        (void) snprintf(text, sizeof(text), "{\"digest\":\"%s\"}", digest_text(&digest));
        file_write(fixture, key, str_from(text));
    }
    assert_ok(manifest_delete(fixture->registry, &fixture->repo, &digest, &fixture->err));
    struct store_names names;
    assert_ok(tags_list(fixture->registry, &fixture->repo, NULL, 10, &names, &fixture->err));
    assert_int_equal(names.count, 0);
    store_names_free(&names);
    char prefix[KEY_BYTES];
    key_tagged_prefix(&fixture->repo, &digest, prefix);
    assert_ok(store_list(fixture->store, prefix, NULL, 10, &names, &fixture->err));
    assert_int_equal(names.count, 0);
    store_names_free(&names);
}

/* ---- threads: of many who may create or move a tag on a condition, one wins ---- */

struct race {
    struct put_request requests[THREADS];
    atomic_uint next, wins;
};

static void *race_put(void *arg)
{
    struct race *race = arg;
    struct err err = ERR_INIT;
    struct put_request *request = &race->requests[atomic_fetch_add(&race->next, 1)];
    enum err_code code = put_if(request, &err);
    assert_true(code == ERR_OK || code == ERR_TAG_MISMATCH);
    race->wins += code == ERR_OK;
    return NULL;
}

static void run_race(struct fixture *fixture, struct tag_condition condition)
{
    struct race race = {.next = 0};
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        char note[2] = {(char) ('0' + i), '\0'};
        race.requests[i] = (struct put_request){.fixture = fixture, .tag = tag_of("prize"), .condition = condition};
        image_text(fixture, &fixture->repo, NULL, NULL, note, &race.requests[i].text);
    }
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race_put, &race), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < THREADS; i++)
        buf_free(&race.requests[i].text);
    assert_int_equal(race.wins, 1);
}

static void test_one_of_many_wins(void **state)
{
    struct fixture *fixture = *state;
    for (int round = 0; round < 5; round++) {
        run_race(fixture, (struct tag_condition){.kind = TAG_ABSENT});
        struct digest seed = push_image(fixture, &fixture->repo, "prize", NULL, NULL, "seed");
        run_race(fixture, (struct tag_condition){.kind = TAG_IS, .digest = seed});
        assert_ok(delete_tag(fixture, "prize", (struct tag_condition){.kind = TAG_EXISTS}));
    }
}

#define TAG_TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TAG_TEST(test_a_tag_moves),
        TAG_TEST(test_pushing_the_same_again_writes_nothing),
        TAG_TEST(test_many_tags_at_once),
        TAG_TEST(test_conditions_of_a_push),
        TAG_TEST(test_delete),
        TAG_TEST(test_conditions_of_a_delete),
        TAG_TEST(test_damaged_tags),
        TAG_TEST(test_what_a_tag_says),
        TAG_TEST(test_a_manifest_of_many_tags),
        TAG_TEST(test_one_of_many_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

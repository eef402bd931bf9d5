#include "fixture.h"

#include "registry/keys.h"
#include "store/blob_key.h"

#include <pthread.h>

#define THREADS 8
#define THREAD_ROUNDS 30

static bool may_read_all(void *arg, const struct repo_name *repo)
{
    (void) arg;
    (void) repo;
    return true;
}

static bool may_read_none(void *arg, const struct repo_name *repo)
{
    (void) arg;
    (void) repo;
    return false;
}

/* arg is the one name that may be read. */
static bool may_read_one(void *arg, const struct repo_name *repo)
{
    return strcmp(repo->text, arg) == 0;
}

static enum err_code stat_blob(struct fixture *fixture, const struct repo_name *repo, const struct digest *digest)
{
    struct store_blob_info info = {0};
    return blob_stat(fixture->registry, repo, digest, &info, &fixture->err);
}

static bool bytes_are_there(struct fixture *fixture, const struct digest *digest)
{
    uint64_t size_bytes;
    return store_blob_stat(fixture->store, digest, &size_bytes, &fixture->err) == ERR_OK;
}

static void test_stat_and_open(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = push_blob(fixture, &fixture->repo, STR("content"));
    for (int round = 0; round < 2; round++) { /* warm, then cold */
        struct store_blob_info info = {0};
        struct store_blob blob;
        char bytes[16];
        size_t got;
        assert_ok(blob_stat(fixture->registry, &fixture->repo, &digest, &info, &fixture->err));
        assert_int_equal(info.size_bytes, 7);
        assert_ok(blob_open(fixture->registry, &fixture->repo, &digest, &blob, &fixture->err));
        assert_int_equal(blob.size_bytes, 7);
        assert_ok(store_blob_read(fixture->store, &blob, 0, bytes, sizeof(bytes), &got, &fixture->err));
        assert_int_equal(got, 7);
        assert_memory_equal(bytes, "content", 7);
        store_blob_close(fixture->store, &blob);
        fixture_reopen(fixture);
    }
}

static void test_other_repositories_do_not_see_it(void **state)
{
    struct fixture *fixture = *state;
    struct repo_name other = repo_of("library/app2");
    struct store_blob blob;
    struct digest digest = push_blob(fixture, &fixture->repo, STR("content")), missing = sha256_of("missing");
    assert_int_equal(stat_blob(fixture, &other, &digest), ERR_BLOB_UNKNOWN);
    assert_int_equal(blob_open(fixture->registry, &other, &digest, &blob, &fixture->err), ERR_BLOB_UNKNOWN);
    assert_int_equal(blob_delete(fixture->registry, &other, &digest, &fixture->err), ERR_BLOB_UNKNOWN);
    assert_int_equal(stat_blob(fixture, &fixture->repo, &missing), ERR_BLOB_UNKNOWN);
    assert_non_null(strstr(fixture->err.message, digest_text(&missing)));
    assert_ok(stat_blob(fixture, &fixture->repo, &digest));
}

static void test_cached(void **state)
{
    struct fixture *fixture = *state;
    struct store_blob_info info = {0};
    struct digest digest = push_blob(fixture, &fixture->repo, STR("content"));
    assert_true(blob_stat_cached(fixture->registry, &fixture->repo, &digest, &info));
    assert_int_equal(info.size_bytes, 7);
    fixture_reopen(fixture);
    assert_false(blob_stat_cached(fixture->registry, &fixture->repo, &digest, &info));
    assert_ok(stat_blob(fixture, &fixture->repo, &digest));
    assert_true(blob_stat_cached(fixture->registry, &fixture->repo, &digest, &info));
    assert_ok(blob_delete(fixture->registry, &fixture->repo, &digest, &fixture->err));
    assert_false(blob_stat_cached(fixture->registry, &fixture->repo, &digest, &info));
}

static void test_delete_keeps_shared_bytes(void **state)
{
    struct fixture *fixture = *state;
    struct repo_name other = repo_of("library/app2");
    struct digest digest = push_blob(fixture, &fixture->repo, STR("shared"));
    (void) push_blob(fixture, &other, STR("shared"));
    assert_ok(blob_delete(fixture->registry, &fixture->repo, &digest, &fixture->err));
    assert_int_equal(stat_blob(fixture, &fixture->repo, &digest), ERR_BLOB_UNKNOWN);
    assert_ok(stat_blob(fixture, &other, &digest));
    assert_true(bytes_are_there(fixture, &digest));
    assert_int_equal(blob_delete(fixture->registry, &fixture->repo, &digest, &fixture->err), ERR_BLOB_UNKNOWN);
    fixture_reopen(fixture);
    assert_ok(blob_delete(fixture->registry, &other, &digest, &fixture->err)); /* the last one takes the bytes along */
    assert_false(bytes_are_there(fixture, &digest));
    (void) push_blob(fixture, &fixture->repo, STR("shared")); /* and they can come back */
    assert_ok(stat_blob(fixture, &fixture->repo, &digest));
}

static void test_delete_switched_off(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = push_blob(fixture, &fixture->repo, STR("content"));
    struct registry_settings settings = fixture->settings;
    settings.deletes = false;
    registry_update_settings(fixture->registry, &settings);
    assert_int_equal(blob_delete(fixture->registry, &fixture->repo, &digest, &fixture->err), ERR_METHOD_UNSUPPORTED);
    assert_ok(stat_blob(fixture, &fixture->repo, &digest));
}

static void test_mount(void **state)
{
    struct fixture *fixture = *state;
    struct repo_name target = repo_of("target"), nobody = repo_of("nobody");
    struct digest digest = push_blob(fixture, &fixture->repo, STR("content")), missing = sha256_of("missing");
    struct registry *registry = fixture->registry;
    struct err *err = &fixture->err;
    assert_int_equal(blob_mount(registry, &target, &digest, &nobody, may_read_all, NULL, err), ERR_BLOB_UNKNOWN);
    assert_int_equal(blob_mount(registry, &target, &missing, &fixture->repo, may_read_all, NULL, err),
                     ERR_BLOB_UNKNOWN);
    assert_int_equal(blob_mount(registry, &target, &digest, &fixture->repo, may_read_none, NULL, err),
                     ERR_BLOB_UNKNOWN);
    assert_int_equal(stat_blob(fixture, &target, &digest), ERR_BLOB_UNKNOWN);
    assert_ok(blob_mount(registry, &target, &digest, &fixture->repo, may_read_all, NULL, err));
    assert_ok(blob_mount(registry, &target, &digest, &fixture->repo, may_read_all, NULL, err));
    fixture_reopen(fixture);
    struct store_blob_info info = {0};
    assert_ok(blob_stat(fixture->registry, &target, &digest, &info, err));
    assert_int_equal(info.size_bytes, 7);
    assert_ok(blob_delete(fixture->registry, &fixture->repo, &digest, err));
    assert_ok(stat_blob(fixture, &target, &digest)); /* it is the target's own now */
    assert_true(bytes_are_there(fixture, &digest));
}

static void test_mount_from_anywhere(void **state)
{
    struct fixture *fixture = *state;
    struct repo_name target = repo_of("target"), secret = repo_of("a.secret/place"), open_one = repo_of("z/open");
    struct registry *registry = fixture->registry;
    struct err *err = &fixture->err;
    struct digest digest = sha256_of("content");
    assert_int_equal(blob_mount(registry, &target, &digest, NULL, may_read_all, NULL, err), ERR_BLOB_UNKNOWN);
    (void) push_blob(fixture, &secret, STR("content"));
    assert_int_equal(blob_mount(registry, &target, &digest, NULL, may_read_one, open_one.text, err), ERR_BLOB_UNKNOWN);
    assert_int_equal(stat_blob(fixture, &target, &digest), ERR_BLOB_UNKNOWN);
    (void) push_blob(fixture, &open_one, STR("content"));
    assert_ok(blob_mount(registry, &target, &digest, NULL, may_read_one, open_one.text, err));
    assert_ok(stat_blob(fixture, &target, &digest));
}

static void test_damage(void **state)
{
    struct fixture *fixture = *state;
    struct store_blob blob;
    char key[KEY_BYTES];
    struct digest digest = push_blob(fixture, &fixture->repo, STR("content"));

    blob_key_format(&digest, key); /* bytes cut */
    file_cut(fixture, key, 3);
    assert_int_equal(blob_open(fixture->registry, &fixture->repo, &digest, &blob, &fixture->err), ERR_CORRUPT);
    (void) push_blob(fixture, &fixture->repo, STR("content")); /* pushing again mends it */
    assert_ok(blob_open(fixture->registry, &fixture->repo, &digest, &blob, &fixture->err));
    store_blob_close(fixture->store, &blob);

    object_delete(fixture, key); /* bytes gone */
    assert_int_equal(blob_open(fixture->registry, &fixture->repo, &digest, &blob, &fixture->err), ERR_CORRUPT);
    (void) push_blob(fixture, &fixture->repo, STR("content"));
    assert_ok(blob_open(fixture->registry, &fixture->repo, &digest, &blob, &fixture->err));
    store_blob_close(fixture->store, &blob);

    key_ref(&digest, &fixture->repo, key); /* reference unreadable */
    static const char *const texts[] = {"", "{", "{}", "{\"size\":-1}", "{\"size\":\"7\"}"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        file_write(fixture, key, str_from(texts[i]));
        fixture_reopen(fixture);
        assert_int_equal(stat_blob(fixture, &fixture->repo, &digest), ERR_CORRUPT);
    }
    (void) push_blob(fixture, &fixture->repo, STR("content"));
    assert_ok(stat_blob(fixture, &fixture->repo, &digest));
}

static void test_deleted_behind_the_back_of_a_reader(void **state)
{
    struct fixture *fixture = *state;
    struct store_blob blob;
    struct digest digest = push_blob(fixture, &fixture->repo, STR("content"));
    char ref[KEY_BYTES], bytes[KEY_BYTES];
    key_ref(&digest, &fixture->repo, ref);
    blob_key_format(&digest, bytes);
    object_delete(fixture, ref); /* memory still says that it is here */
    object_delete(fixture, bytes);
    assert_int_equal(blob_open(fixture->registry, &fixture->repo, &digest, &blob, &fixture->err), ERR_BLOB_UNKNOWN);
}

/* Mounts and deletes of one blob between repositories: bytes never go while a reference is acknowledged. */
static void *mount_and_delete(void *arg)
{
    struct fixture *fixture = arg;
    struct digest digest = sha256_of("contested");
    struct repo_name source = repo_of("source"), own;
    uint32_t number;
    char text[32];
    random_bytes(&number, sizeof(number));
    (void) snprintf(text, sizeof(text), "own/n%u", number);
    own = repo_of(text);
    for (int round = 0; round < THREAD_ROUNDS; round++) {
        struct err err = ERR_INIT;
        struct store_blob blob;
        enum err_code code =
            blob_mount(fixture->registry, &own, &digest, round % 2 ? &source : NULL, may_read_all, NULL, &err);
        assert_true(code == ERR_OK || code == ERR_BLOB_UNKNOWN);
        if (code == ERR_OK) {
            assert_ok(blob_open(fixture->registry, &own, &digest, &blob, &err));
            store_blob_close(fixture->store, &blob);
            assert_ok(blob_delete(fixture->registry, &own, &digest, &err));
        }
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct fixture *fixture = *state;
    struct repo_name source = repo_of("source");
    pthread_t threads[THREADS];
    struct digest digest = sha256_of("contested");
    (void) push_blob(fixture, &source, STR("contested"));
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, mount_and_delete, fixture), 0);
    for (int round = 0; round < THREAD_ROUNDS; round++) {
        struct err err = ERR_INIT;
        assert_ok(blob_delete(fixture->registry, &source, &digest, &err));
        (void) push_blob(fixture, &source, STR("contested"));
    }
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(bytes_are_there(fixture, &digest));
    assert_ok(blob_delete(fixture->registry, &source, &digest, &fixture->err));
    assert_false(bytes_are_there(fixture, &digest));
}

#define BLOB_TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        BLOB_TEST(test_stat_and_open),
        BLOB_TEST(test_other_repositories_do_not_see_it),
        BLOB_TEST(test_cached),
        BLOB_TEST(test_delete_keeps_shared_bytes),
        BLOB_TEST(test_delete_switched_off),
        BLOB_TEST(test_mount),
        BLOB_TEST(test_mount_from_anywhere),
        BLOB_TEST(test_damage),
        BLOB_TEST(test_deleted_behind_the_back_of_a_reader),
        BLOB_TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The local store's lists of big directories, which come from memory: local_index.h says what must hold. */
#include "suite.h"

#include "base/fs.h"
#include "base/metrics.h"
#include "store/local.h"
#include "store/local_index.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define MANY (3 * LOCAL_INDEX_NAMES_MIN)
#define THREADS 6
#define THREAD_ROUNDS 60

struct place {
    char root[128];
    char dir[160];
    char other[160];
    struct store *store;
};

static int place_setup(void **state)
{
    struct place *place = calloc(1, sizeof(*place));
    struct err err = ERR_INIT;
    assert_non_null(place);
    const char *parent = getenv("TMPDIR");
    if (!parent)
        parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"; /* syncs cost nothing there */
    (void) snprintf(place->root, sizeof(place->root), "%.100s/orlop-lists-XXXXXX", parent);
    assert_non_null(mkdtemp(place->root));
    (void) snprintf(place->dir, sizeof(place->dir), "%s/store", place->root);
    (void) snprintf(place->other, sizeof(place->other), "%s/other", place->root);
    assert_ok(local_store_open(place->dir, LOCAL_EXCLUSIVE, &place->store, &err));
    *state = place;
    return 0;
}

static int place_teardown(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    store_close(place->store);
    assert_ok(fs_remove_tree(AT_FDCWD, place->root, &err));
    free(place);
    return 0;
}

/* Files "0000000", "0000002", … in dir/folder, behind the store's back: before it first lists them. */
static void make_files(const char *dir, const char *folder, size_t count)
{
    char path[256];
    struct err err = ERR_INIT;
    auto_fd dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_ok(fs_make_dirs(dir_fd, folder, FS_VOLATILE, &err));
    for (size_t i = 0; i < count; i++) {
        (void) snprintf(path, sizeof(path), "%s/%07zu", folder, 2 * i);
        auto_fd fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        assert_true(fd >= 0);
    }
}

static void put(struct store *store, const char *key)
{
    struct err err = ERR_INIT;
    assert_ok(store_put(store, key, STR("x"), STORE_PUT_ANY, &err));
}

static void delete (struct store *store, const char *key)
{
    struct err err = ERR_INIT;
    assert_ok(store_delete(store, (const char *const[]){key}, 1, &err));
}

static void list(struct store *store, const char *prefix, const char *after, size_t limit, struct store_names *out)
{
    struct err err = ERR_INIT;
    assert_ok(store_list(store, prefix, after, limit, out, &err));
}

static bool is_listed(struct store *store, const char *prefix, const char *name)
{
    struct store_names names;
    char before[64];
    (void) snprintf(before, sizeof(before), "%s", name);
    before[strlen(before) - 1]--;
    list(store, prefix, before, 3, &names);
    bool found = false;
    for (size_t i = 0; i < names.count; i++)
        found = found || strcmp(names.items[i], name) == 0;
    store_names_free(&names);
    return found;
}

/* All names page by page; they must be in order. */
static size_t count_names(struct store *store, const char *prefix, size_t limit)
{
    char after[256] = "";
    size_t count = 0;
    bool more = true;
    while (more) {
        struct store_names names;
        list(store, prefix, after, limit, &names);
        for (size_t i = 0; i < names.count; i++) {
            assert_true(strcmp(after, names.items[i]) < 0);
            (void) snprintf(after, sizeof(after), "%s", names.items[i]);
        }
        count += names.count;
        more = names.more;
        assert_true(!more || names.count == limit);
        store_names_free(&names);
    }
    return count;
}

static void assert_any(struct store *store, const char *prefix, const char *after, bool expected)
{
    struct store_names names;
    list(store, prefix, after, 0, &names);
    assert_int_equal(names.count, 0);
    assert_int_equal(names.more, expected);
    store_names_free(&names);
}

static void test_pages_come_from_memory(void **state)
{
    struct place *place = *state;
    make_files(place->dir, "many/a", MANY);
    make_files(place->dir, "few/a", LOCAL_INDEX_NAMES_MIN);
    assert_int_equal(count_names(place->store, "many/a/", 1), MANY);
    uint64_t read = metric_counter_value(METRIC_LISTS_FROM_DIRECTORY);
    assert_int_equal(count_names(place->store, "many/a/", 100), MANY);
    assert_int_equal(count_names(place->store, "many/a/", 10000), MANY);
    assert_int_equal(metric_counter_value(METRIC_LISTS_FROM_DIRECTORY), read); /* a warm page reads no directory */
    assert_int_equal(count_names(place->store, "few/a/", LOCAL_INDEX_NAMES_MIN), LOCAL_INDEX_NAMES_MIN);
    assert_int_equal(metric_counter_value(METRIC_LISTS_FROM_DIRECTORY), read + 1); /* it is small */
    assert_any(place->store, "many/a/", NULL, true);
    assert_any(place->store, "many/a/", "z", false);
}

/* To know whether there is anything, nothing is read in. */
static void test_is_there_anything(void **state)
{
    struct place *place = *state;
    make_files(place->dir, "many/a", MANY);
    uint64_t from_memory = metric_counter_value(METRIC_LISTS_FROM_MEMORY);
    assert_any(place->store, "many/a/", NULL, true);
    assert_any(place->store, "many/a/", "00", true);
    assert_any(place->store, "none/a/", NULL, false);
    assert_int_equal(metric_gauge_value(METRIC_LIST_INDEX_BYTES), 0);
    assert_int_equal(metric_counter_value(METRIC_LISTS_FROM_MEMORY), from_memory);
}

static void test_changes_show(void **state)
{
    struct place *place = *state;
    struct store *store = place->store;
    make_files(place->dir, "many/a", MANY);
    assert_int_equal(count_names(store, "many/a/", 1000), MANY);
    assert_false(is_listed(store, "many/a/", "0000001"));
    put(store, "many/a/0000001");
    assert_true(is_listed(store, "many/a/", "0000001"));
    put(store, "many/a/0000001");
    struct err err = ERR_INIT;
    assert_int_equal(store_put(store, "many/a/0000000", STR(""), STORE_PUT_NEW, &err), ERR_EXISTS);
    assert_int_equal(count_names(store, "many/a/", 1000), MANY + 1);
    delete (store, "many/a/0000001");
    delete (store, "many/a/0000001");
    delete (store, "many/a/0000000");
    assert_int_equal(count_names(store, "many/a/", 1000), MANY - 1);
    put(store, "many/b/one"); /* beside it */
    assert_int_equal(count_names(store, "many/a/", 1000), MANY - 1);
    for (size_t i = 1; i < MANY; i++) {
        char key[64];
        (void) snprintf(key, sizeof(key), "many/a/%07zu", 2 * i);
        delete (store, key);
    }
    assert_int_equal(count_names(store, "many/a/", 1000), 0);
    put(store, "many/a/new"); /* the folder had gone with its last name */
    assert_int_equal(count_names(store, "many/a/", 1000), 1);
}

static void test_beside_a_server(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    struct store *beside;
    make_files(place->dir, "many/a", MANY);
    assert_ok(local_store_open(place->dir, LOCAL_BESIDE, &beside, &err));
    assert_int_equal(count_names(beside, "many/a/", 1000), MANY);
    put(place->store, "many/a/0000001");
    assert_true(is_listed(beside, "many/a/", "0000001")); /* what others put shows: nothing is remembered */
    delete (place->store, "many/a/0000000");
    assert_int_equal(count_names(beside, "many/a/", 7), MANY);
    store_close(beside);
}

/* The directory goes and comes back as another one of the same store. */
static void test_the_store_vanishes(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    struct store_names names;
    char marker[256], copy[256];
    make_files(place->dir, "many/a", MANY);
    assert_int_equal(count_names(place->store, "many/a/", 1000), MANY);
    assert_int_equal(rename(place->dir, place->other), 0);
    assert_int_equal(store_list(place->store, "many/a/", NULL, 10, &names, &err), ERR_STORE_GONE);
    (void) snprintf(marker, sizeof(marker), "%s/orlop.json", place->other);
    (void) snprintf(copy, sizeof(copy), "%s/orlop.json", place->dir);
    assert_int_equal(mkdir(place->dir, 0755), 0);
    make_files(place->dir, "many/a", MANY / 2);
    assert_int_equal(store_list(place->store, "many/a/", NULL, 10, &names, &err), ERR_STORE_GONE);
    assert_int_equal(link(marker, copy), 0);
    assert_int_equal(count_names(place->store, "many/a/", 1000), MANY / 2);
    put(place->store, "many/a/0000001");
    assert_int_equal(count_names(place->store, "many/a/", 1000), MANY / 2 + 1);
}

static struct store_upload *upload_begin(struct store *store, char *id)
{
    struct err err = ERR_INIT;
    struct store_upload *upload;
    uuid_new(id);
    assert_ok(store_upload_create(store, id, &upload, &err));
    assert_ok(store_upload_checkpoint(upload, STR("record"), &err));
    return upload;
}

static size_t count_uploads(struct store *store, size_t batch)
{
    struct err err = ERR_INIT;
    struct store_upload_info infos[256];
    char after[UUID_TEXT_BYTES] = "";
    size_t total = 0, count;
    do {
        assert_ok(store_upload_list(store, after, batch, infos, &count, &err));
        for (size_t i = 0; i < count; i++) {
            assert_true(strcmp(after, infos[i].id) < 0);
            memcpy(after, infos[i].id, UUID_TEXT_BYTES);
        }
        total += count;
    } while (count > 0);
    return total;
}

static void test_many_uploads(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    enum { UPLOADS = LOCAL_INDEX_NAMES_MIN + 200 };
    static char ids[UPLOADS][UUID_TEXT_BYTES];
    make_files(place->dir, "uploads/not-a-session", 1);
    for (size_t i = 0; i < UPLOADS; i++)
        store_upload_close(upload_begin(place->store, ids[i]));
    assert_int_equal(count_uploads(place->store, 256), UPLOADS);
    uint64_t read = metric_counter_value(METRIC_LISTS_FROM_DIRECTORY);
    char id[UUID_TEXT_BYTES];
    struct store_upload *upload = upload_begin(place->store, id);
    assert_int_equal(count_uploads(place->store, 100), UPLOADS + 1);
    assert_ok(store_upload_discard(upload, &err));
    store_upload_close(upload);
    for (size_t i = 0; i < 100; i++)
        assert_ok(store_upload_remove(place->store, ids[i], &err));
    assert_int_equal(count_uploads(place->store, 256), UPLOADS - 100);
    assert_int_equal(metric_counter_value(METRIC_LISTS_FROM_DIRECTORY), read);

    uuid_new(id); /* a session whose first bytes come before its first checkpoint */
    assert_ok(store_upload_create(place->store, id, &upload, &err));
    assert_ok(store_upload_append(upload, "x", 1, &err));
    assert_int_equal(count_uploads(place->store, 256), UPLOADS - 99);
    store_upload_close(upload);
}

static void test_blobs(void **state)
{
    struct place *place = *state;
    char text[DIGEST_TEXT_BYTES_MAX], folder[64], name[DIGEST_HEX_BYTES_MAX];
    struct digest digest = suite_digest(DIGEST_SHA512);
    struct err err = ERR_INIT;
    digest_format(&digest, text);
    (void) snprintf(name, sizeof(name), "%s", strchr(text, ':') + 1);
    (void) snprintf(folder, sizeof(folder), "blobs/sha512/%.2s/", name);
    make_files(place->dir, folder, MANY);
    assert_int_equal(count_names(place->store, folder, 1000), MANY);
    suite_blob_put(place->store, &digest, STR("blob"));
    assert_int_equal(count_names(place->store, folder, 1000), MANY + 1);
    assert_ok(store_blob_delete(place->store, &digest, &err));
    assert_int_equal(count_names(place->store, folder, 1000), MANY);
}

/* ---- threads ---- */

struct crew {
    struct store *store;
    atomic_int next;
};

static void *put_list_delete(void *arg)
{
    struct crew *crew = arg;
    int number = atomic_fetch_add(&crew->next, 1);
    for (int round = 0; round < THREAD_ROUNDS; round++) {
        char name[64], key[128];
        (void) snprintf(name, sizeof(name), "%07d-%d", 61 * round % MANY, number);
        (void) snprintf(key, sizeof(key), "many/a/%s", name);
        put(crew->store, key);
        assert_true(is_listed(crew->store, "many/a/", name));
        delete (crew->store, key);
        assert_false(is_listed(crew->store, "many/a/", name));
        /* A folder of its own that empties and fills beside the others'. */
        (void) snprintf(key, sizeof(key), "other/a/%s", name);
        put(crew->store, key);
        assert_true(is_listed(crew->store, "other/a/", name));
        delete (crew->store, key);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct place *place = *state;
    struct crew crew = {.store = place->store};
    pthread_t threads[THREADS];
    make_files(place->dir, "many/a", MANY);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, put_list_delete, &crew), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(count_names(place->store, "many/a/", 1000), MANY);
    assert_int_equal(count_names(place->store, "other/a/", 1000), 0);
}

#define LISTS_TEST(fn) cmocka_unit_test_setup_teardown(fn, place_setup, place_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        LISTS_TEST(test_pages_come_from_memory),
        LISTS_TEST(test_is_there_anything),
        LISTS_TEST(test_changes_show),
        LISTS_TEST(test_beside_a_server),
        LISTS_TEST(test_the_store_vanishes),
        LISTS_TEST(test_many_uploads),
        LISTS_TEST(test_blobs),
        LISTS_TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

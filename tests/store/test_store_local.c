#include "suite.h"

#include "base/fs.h"
#include "store/driver.h"
#include "store/local.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define THREADS 8
#define SECRET_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SECRET_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* A place for stores: a directory of its own, where "store" is the store's directory. */
struct place {
    char root[128];
    char dir[160];
    char other[160]; /* a second path beside it */
    int fd;          /* of root */
    struct store *store;
};

static void place_make(struct place *place)
{
    const char *parent = getenv("TMPDIR");
    if (!parent)
        parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"; /* syncs cost nothing there */
    *place = (struct place){0};
    (void) snprintf(place->root, sizeof(place->root), "%.100s/orlop-store-XXXXXX", parent);
    assert_non_null(mkdtemp(place->root));
    (void) snprintf(place->dir, sizeof(place->dir), "%s/store", place->root);
    (void) snprintf(place->other, sizeof(place->other), "%s/other", place->root);
    place->fd = open(place->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(place->fd >= 0);
}

static void place_remove(struct place *place)
{
    struct err err = ERR_INIT;
    store_close(place->store);
    fd_close(place->fd);
    assert_ok(fs_remove_tree(AT_FDCWD, place->root, &err));
}

static void place_open(struct place *place)
{
    struct err err = ERR_INIT;
    assert_ok(local_store_open(place->dir, LOCAL_EXCLUSIVE, &place->store, &err));
}

static int place_setup(void **state)
{
    struct place *place = malloc(sizeof(*place));
    assert_non_null(place);
    place_make(place);
    *state = place;
    return 0;
}

static int place_teardown(void **state)
{
    place_remove(*state);
    free(*state);
    return 0;
}

/* path is below the place's root: "store/…". */
static void write_file(struct place *place, const char *path, struct str bytes)
{
    struct err err = ERR_INIT;
    assert_ok(fs_write_atomic(place->fd, ".", path, bytes, FS_REPLACE, FS_VOLATILE, &err));
}

static void assert_file(struct place *place, const char *path, const char *expected)
{
    struct err err = ERR_INIT;
    auto_buf out = BUF_INIT(4096);
    assert_ok(fs_read_file(place->fd, path, &out, &err));
    assert_string_equal(buf_str(&out).ptr, expected);
}

static bool exists(struct place *place, const char *path)
{
    struct stat st;
    return fstatat(place->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void make_marker(struct place *place, const char *dir, const char *secret)
{
    char path[64], text[128];
    (void) snprintf(path, sizeof(path), "%s/orlop.json", dir);
    (void) snprintf(text, sizeof(text), "{\"format\": 1, \"secret\": \"%s\"}\n", secret);
    write_file(place, path, str_from(text));
}

static void assert_refused(struct place *place, enum err_code code, const char *message_part)
{
    struct err err = ERR_INIT;
    struct store *store = NULL;
    assert_int_equal(local_store_open(place->dir, LOCAL_EXCLUSIVE, &store, &err), code);
    assert_null(store);
    if (!strstr(err.message, message_part))
        fail_msg("'%s' does not say '%s'", err.message, message_part);
}

/* ---- opening ---- */

static void test_a_new_store(void **state)
{
    struct place *place = *state;
    struct stat st;
    place_open(place);
    assert_true(exists(place, "store/orlop.json"));
    assert_true(exists(place, "store/lock"));
    assert_int_equal(fstatat(place->fd, "store/tmp", &st, 0), 0);
    assert_string_equal(store_name(place->store), place->dir);
    assert_true(strlen(store_boot_id(place->store)) > 0);

    struct err err = ERR_INIT;
    auto_buf text = BUF_INIT(4096);
    assert_ok(fs_read_file(place->fd, "store/orlop.json", &text, &err));
    assert_non_null(strstr(text.ptr, "\"format\": 1"));
    assert_non_null(strstr(text.ptr, store_secret(place->store)));
}

static void test_secrets_differ_and_stay(void **state)
{
    struct place *place = *state;
    char secret[65];
    place_open(place);
    (void) snprintf(secret, sizeof(secret), "%s", store_secret(place->store));
    store_close(place->store);
    place_open(place);
    assert_string_equal(store_secret(place->store), secret);

    struct err err = ERR_INIT;
    struct store *other;
    assert_ok(local_store_open(place->other, LOCAL_EXCLUSIVE, &other, &err));
    assert_string_not_equal(store_secret(other), secret);
    store_close(other);
}

static void test_a_directory_that_is_there_and_empty(void **state)
{
    struct place *place = *state;
    assert_int_equal(mkdir(place->dir, 0755), 0);
    write_file(place, "store/lock", STR(""));
    assert_int_equal(mkdirat(place->fd, "store/tmp", 0755), 0);
    assert_int_equal(mkdirat(place->fd, "store/lost+found", 0700), 0);
    /* A server that died while it made the marker. */
    write_file(place, "store/tmp/0b9e3f6c-5c7e-4d0a-8a52-0123456789ab", STR("{\"form"));
    place_open(place);
    assert_false(exists(place, "store/tmp/0b9e3f6c-5c7e-4d0a-8a52-0123456789ab"));
}

static void test_paths_that_are_no_directory(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    struct store *store;
    char deep[200];
    (void) snprintf(deep, sizeof(deep), "%s/a/b", place->dir);
    assert_int_equal(local_store_open(deep, LOCAL_EXCLUSIVE, &store, &err), ERR_NOT_FOUND); /* not mkdir -p */
    assert_non_null(strstr(err.message, deep));
    write_file(place, "store", STR("a file"));
    assert_refused(place, ERR_IO, "cannot open the store's directory");
}

static void test_foreign_directories_are_left_alone(void **state)
{
    struct place *place = *state;
    assert_int_equal(mkdir(place->dir, 0755), 0);
    write_file(place, "store/tmp/thesis.txt", STR("precious"));
    assert_refused(place, ERR_INVALID, "'thesis.txt'");
    write_file(place, "store/letter.txt", STR("precious too"));
    write_file(place, "store/lock", STR("somebody's"));
    assert_refused(place, ERR_INVALID, "is not empty and is no orlop store");
    assert_file(place, "store/tmp/thesis.txt", "precious");
    assert_file(place, "store/letter.txt", "precious too");
    assert_file(place, "store/lock", "somebody's");
    assert_false(exists(place, "store/orlop.json"));
}

static void test_markers_that_are_not_understood(void **state)
{
    struct place *place = *state;
    static const struct {
        const char *text;
        enum err_code code;
        const char *message_part;
    } rows[] = {
        {"{\"format\": 2, \"secret\": \"" SECRET_A "\"}", ERR_VERSION, "store format 2"},
        {"{\"format\": 0, \"secret\": \"" SECRET_A "\"}", ERR_VERSION, "store format 0"},
        {"{\"format\": \"1\", \"secret\": \"" SECRET_A "\"}", ERR_CORRUPT, "names no format"},
        {"{\"secret\": \"" SECRET_A "\"}", ERR_CORRUPT, "names no format"},
        {"{\"format\": 1}", ERR_CORRUPT, "no secret"},
        {"{\"format\": 1, \"secret\": \"short\"}", ERR_CORRUPT, "no secret"},
        {"{\"format\": 1, \"secr", ERR_CORRUPT, "is damaged"},
        {"", ERR_CORRUPT, "is damaged"},
    };
    assert_int_equal(mkdir(place->dir, 0755), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        write_file(place, "store/orlop.json", str_from(rows[i].text));
        write_file(place, "store/tmp/0b9e3f6c-5c7e-4d0a-8a52-0123456789ab", STR("kept"));
        assert_refused(place, rows[i].code, rows[i].message_part);
        assert_file(place, "store/orlop.json", rows[i].text);
        assert_file(place, "store/tmp/0b9e3f6c-5c7e-4d0a-8a52-0123456789ab", "kept");
    }
    make_marker(place, "store", SECRET_A);
    place_open(place);
    assert_string_equal(store_secret(place->store), SECRET_A);
}

static void test_leftovers_are_cleared_at_open(void **state)
{
    struct place *place = *state;
    place_open(place);
    store_close(place->store);
    write_file(place, "store/tmp/half-written", STR("x"));
    write_file(place, "store/tmp/removed-upload/data", STR("x"));
    write_file(place, "store/repos/a/_tags/kept", STR("kept"));
    place_open(place);
    assert_true(exists(place, "store/tmp"));
    assert_false(exists(place, "store/tmp/half-written"));
    assert_false(exists(place, "store/tmp/removed-upload"));
    suite_assert_object(place->store, "repos/a/_tags/kept", STR("kept"));
}

/* ---- the lock ---- */

static void test_the_lock_names_its_holder(void **state)
{
    struct place *place = *state;
    char process[64];
    (void) snprintf(process, sizeof(process), "process %ld on ", (long) getpid());
    place_open(place);
    assert_refused(place, ERR_BUSY, process);
    local_store_announce(place->store, "127.0.0.1:5000");
    assert_refused(place, ERR_BUSY, "serving on 127.0.0.1:5000");
    assert_refused(place, ERR_BUSY, "since 20");
    local_store_announce(place->store, "");
    store_close(place->store);
    place_open(place); /* it went with the store */
}

static void test_the_lock_goes_with_a_killed_process(void **state)
{
    struct place *place = *state;
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct err err = ERR_INIT;
        struct store *store;
        bool ok = local_store_open(place->dir, LOCAL_EXCLUSIVE, &store, &err) == ERR_OK;
        (void) !write(ready[1], "x", 1);
        for (;;)
            (void) pause();
        _exit(ok);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    char process[64];
    (void) snprintf(process, sizeof(process), "process %ld on ", (long) child);
    assert_refused(place, ERR_BUSY, process);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    (void) close(ready[0]);
    (void) close(ready[1]);
    place_open(place);
}

static void test_beside_a_server(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    struct store *beside;
    assert_int_equal(local_store_open(place->dir, LOCAL_BESIDE, &beside, &err), ERR_NOT_FOUND);
    assert_false(exists(place, "store"));
    assert_int_equal(mkdir(place->dir, 0755), 0);
    assert_int_equal(local_store_open(place->dir, LOCAL_BESIDE, &beside, &err), ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "is no orlop store"));
    assert_false(exists(place, "store/lock"));

    place_open(place);
    write_file(place, "store/tmp/being-written", STR("x"));
    assert_ok(local_store_open(place->dir, LOCAL_BESIDE, &beside, &err));
    assert_false(store_caps(beside)->exclusive);
    assert_string_equal(store_secret(beside), store_secret(place->store));
    assert_true(exists(place, "store/tmp/being-written"));
    assert_ok(store_put(place->store, "a/b", STR("x"), STORE_PUT_ANY, &err));
    suite_assert_object(beside, "a/b", STR("x"));
    assert_ok(store_probe(beside, &err));
    local_store_announce(beside, "nowhere");
    store_close(beside);
    char process[64];
    (void) snprintf(process, sizeof(process), "process %ld on ", (long) getpid());
    assert_refused(place, ERR_BUSY, process); /* the lock is still the server's */
}

/* ---- the directory vanishes ---- */

static void assert_gone(struct place *place)
{
    struct store *store = place->store;
    struct err err = ERR_INIT;
    auto_buf out = BUF_INIT(4096);
    uint64_t size_bytes;
    struct store_names names;
    struct store_blob blob;
    struct store_upload *upload;
    struct digest digest = suite_digest(DIGEST_SHA256);
    char id[UUID_TEXT_BYTES];
    uuid_new(id);
    assert_int_equal(store_probe(store, &err), ERR_STORE_GONE);
    assert_int_equal(store_put(store, "a/b", STR("x"), STORE_PUT_ANY, &err), ERR_STORE_GONE);
    assert_int_equal(store_get(store, "a/missing", &out, &err), ERR_STORE_GONE);
    assert_int_equal(store_stat(store, "a/missing", &size_bytes, &err), ERR_STORE_GONE);
    assert_int_equal(store_delete(store, (const char *const[]){"a/b"}, 1, &err), ERR_STORE_GONE);
    assert_int_equal(store_list(store, "missing/", NULL, 10, &names, &err), ERR_STORE_GONE);
    assert_int_equal(store_blob_open(store, &digest, NULL, &blob, &err), ERR_STORE_GONE);
    assert_int_equal(store_blob_stat(store, &digest, &size_bytes, &err), ERR_STORE_GONE);
    assert_int_equal(store_upload_create(store, id, &upload, &err), ERR_STORE_GONE);
    assert_int_equal(store_upload_open(store, id, &upload, &out, &err), ERR_STORE_GONE);
    assert_int_equal(store_upload_remove(store, id, &err), ERR_STORE_GONE);
    assert_null(strstr(err.message, place->dir)); /* clients learn no paths */
}

static void test_renamed_away_and_back(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    place_open(place);
    assert_ok(store_put(place->store, "a/b", STR("kept"), STORE_PUT_ANY, &err));
    assert_int_equal(rename(place->dir, place->other), 0);
    assert_gone(place);
    assert_false(exists(place, "store")); /* nothing was made in its place */
    assert_int_equal(mkdir(place->dir, 0755), 0);
    assert_gone(place); /* an empty directory, as below a mount that went */
    assert_int_equal(rmdir(place->dir), 0);
    assert_int_equal(rename(place->other, place->dir), 0);
    assert_ok(store_probe(place->store, &err));
    suite_assert_object(place->store, "a/b", STR("kept"));
    assert_ok(store_put(place->store, "a/c", STR("new"), STORE_PUT_ANY, &err));
}

static void test_another_store_in_its_place(void **state)
{
    struct place *place = *state;
    place_open(place);
    assert_int_equal(rename(place->dir, place->other), 0);
    make_marker(place, "store", SECRET_B);
    assert_gone(place);
    assert_false(exists(place, "store/a"));
    assert_false(exists(place, "store/lock"));
}

static void test_the_same_store_elsewhere_in_its_place(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    place_open(place);
    assert_ok(store_put(place->store, "a/b", STR("old"), STORE_PUT_ANY, &err));
    assert_int_equal(rename(place->dir, place->other), 0);
    make_marker(place, "store", store_secret(place->store)); /* restored from a backup, without tmp */
    write_file(place, "store/a/b", STR("restored"));
    assert_ok(store_probe(place->store, &err));
    suite_assert_object(place->store, "a/b", STR("restored"));
    assert_ok(store_put(place->store, "a/c", STR("new"), STORE_PUT_ANY, &err));
    assert_file(place, "store/a/c", "new");
    assert_false(exists(place, "other/a/c"));
    assert_refused(place, ERR_BUSY, "is in use by process"); /* the lock moved along */
}

static void *put_until_reopened(void *arg)
{
    struct store *store = arg;
    struct err err = ERR_INIT;
    char id[UUID_TEXT_BYTES], key[64];
    uuid_new(id);
    (void) snprintf(key, sizeof(key), "threads/%s", id);
    assert_ok(store_put(store, key, STR("x"), STORE_PUT_ANY, &err));
    return NULL;
}

static void test_many_threads_find_it_again(void **state)
{
    struct place *place = *state;
    place_open(place);
    for (int round = 0; round < 10; round++) {
        struct err err = ERR_INIT;
        pthread_t threads[THREADS];
        assert_ok(fs_remove_tree(AT_FDCWD, place->other, &err));
        assert_int_equal(rename(place->dir, place->other), 0);
        make_marker(place, "store", store_secret(place->store));
        for (size_t i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, put_until_reopened, place->store), 0);
        for (size_t i = 0; i < THREADS; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        struct store_names names;
        assert_ok(store_list(place->store, "threads/", NULL, 100, &names, &err));
        assert_int_equal(names.count, THREADS);
        store_names_free(&names);
    }
}

static void test_an_upload_outlives_its_directory_by_no_checkpoint(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    struct store_upload *upload;
    struct digest digest = suite_digest(DIGEST_SHA256);
    char id[UUID_TEXT_BYTES];
    uuid_new(id);
    place_open(place);
    assert_ok(store_upload_create(place->store, id, &upload, &err));
    assert_ok(store_upload_append(upload, "abc", 3, &err));
    assert_int_equal(rename(place->dir, place->other), 0);
    assert_int_equal(store_upload_checkpoint(upload, STR("3"), &err), ERR_STORE_GONE);
    assert_int_equal(store_upload_commit(upload, &digest, 3, &(struct store_place){""}, &err), ERR_STORE_GONE);
    assert_int_equal(rename(place->other, place->dir), 0);
    assert_ok(store_upload_checkpoint(upload, STR("3"), &err));
    assert_ok(store_upload_commit(upload, &digest, 3, &(struct store_place){""}, &err));
    store_upload_close(upload);
    suite_assert_blob(place->store, &digest, STR("abc"));
}

/* ---- file systems that refuse ---- */

/* A mount namespace of our own, so that nothing stays mounted whatever happens; skips without the privilege. */
static void need_mounts(void)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        skip();
}

static void make_tmpfs(struct place *place, const char *options)
{
    assert_int_equal(mkdir(place->dir, 0755), 0);
    assert_int_equal(mount("tmpfs", place->dir, "tmpfs", 0, options), 0);
}

static void drop_tmpfs(struct place *place)
{
    store_close(place->store);
    place->store = NULL;
    assert_int_equal(umount(place->dir), 0);
}

static void test_full_disk(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    struct store_upload *upload;
    struct digest digest = suite_digest(DIGEST_SHA256);
    char id[UUID_TEXT_BYTES], *filler = calloc(1, 1024 * 1024);
    need_mounts();
    assert_non_null(filler);
    make_tmpfs(place, "size=2m");
    place_open(place);
    assert_ok(store_put(place->store, "a/kept", STR("old"), STORE_PUT_ANY, &err));
    uuid_new(id);
    assert_ok(store_upload_create(place->store, id, &upload, &err));
    assert_ok(store_upload_append(upload, "first", 5, &err));
    assert_ok(store_upload_checkpoint(upload, STR("5"), &err));
    enum err_code code = ERR_OK;
    for (int i = 0; i < 4 && code == ERR_OK; i++)
        code = store_upload_append(upload, filler, 1024 * 1024, &err);
    assert_int_equal(code, ERR_NO_SPACE);
    assert_int_equal(store_put(place->store, "a/kept", STR("new"), STORE_PUT_ANY, &err), ERR_NO_SPACE);
    assert_int_equal(store_put(place->store, "a/new", STR("new"), STORE_PUT_NEW, &err), ERR_NO_SPACE);
    assert_int_equal(store_probe(place->store, &err), ERR_NO_SPACE);
    assert_int_equal(store_upload_checkpoint(upload, STR("9"), &err), ERR_NO_SPACE);
    store_upload_close(upload);
    suite_assert_object(place->store, "a/kept", STR("old"));
    suite_assert_missing(place->store, "a/new");

    /* Room again: what was acknowledged is there, and work goes on. */
    auto_buf record = BUF_INIT(STORE_RECORD_BYTES_MAX);
    assert_ok(store_upload_open(place->store, id, &upload, &record, &err));
    assert_string_equal(record.ptr, "5");
    assert_ok(store_upload_commit(upload, &digest, 5, &(struct store_place){""}, &err));
    store_upload_close(upload);
    suite_assert_blob(place->store, &digest, STR("first"));
    assert_ok(store_upload_remove(place->store, id, &err));
    assert_ok(store_put(place->store, "a/kept", STR("new"), STORE_PUT_ANY, &err));
    struct store_names names;
    assert_ok(store_probe(place->store, &err));
    assert_ok(store_list(place->store, "tmp/", NULL, 10, &names, &err)); /* failed writes left nothing */
    assert_true(names.count <= 1);                                       /* but the probe's file */
    store_names_free(&names);
    drop_tmpfs(place);
    free(filler);
}

static void test_read_only_file_system(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    struct store *beside;
    need_mounts();
    make_tmpfs(place, "size=2m");
    place_open(place);
    assert_ok(store_put(place->store, "a/b", STR("kept"), STORE_PUT_ANY, &err));
    char secret[65];
    (void) snprintf(secret, sizeof(secret), "%s", store_secret(place->store));
    store_close(place->store);
    assert_int_equal(mount("none", place->dir, NULL, MS_REMOUNT | MS_RDONLY, "size=2m"), 0);
    place->store = NULL;
    assert_refused(place, ERR_READ_ONLY, "cannot be written");

    assert_ok(local_store_open(place->dir, LOCAL_BESIDE, &beside, &err)); /* reading it is fine */
    assert_string_equal(store_secret(beside), secret);
    suite_assert_object(beside, "a/b", STR("kept"));
    assert_int_equal(store_put(beside, "a/c", STR("x"), STORE_PUT_ANY, &err), ERR_READ_ONLY);
    assert_int_equal(store_delete(beside, (const char *const[]){"a/b"}, 1, &err), ERR_READ_ONLY);
    suite_assert_object(beside, "a/b", STR("kept"));
    store_close(beside);
    drop_tmpfs(place);
}

static void test_a_mount_that_goes_away(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    need_mounts();
    make_tmpfs(place, "size=2m");
    place_open(place);
    assert_ok(store_put(place->store, "a/b", STR("kept"), STORE_PUT_ANY, &err));
    assert_int_equal(umount2(place->dir, MNT_DETACH), 0);
    assert_gone(place);
    assert_false(exists(place, "store/a"));
    assert_false(exists(place, "store/orlop.json"));
}

/* ---- the suite ---- */

static struct store *suite_open(void *arg)
{
    struct place *place = arg;
    struct err err = ERR_INIT;
    struct store *store;
    place_make(place);
    assert_ok(local_store_open(place->dir, LOCAL_EXCLUSIVE, &store, &err));
    return store;
}

static struct store *suite_reopen(void *arg, struct store *store)
{
    struct place *place = arg;
    struct err err = ERR_INIT;
    store_close(store);
    assert_ok(local_store_open(place->dir, LOCAL_EXCLUSIVE, &store, &err));
    return store;
}

static void suite_close(void *arg, struct store *store)
{
    struct place *place = arg;
    place->store = store;
    place_remove(place);
}

#define LOCAL_TEST(fn) cmocka_unit_test_setup_teardown(fn, place_setup, place_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        LOCAL_TEST(test_a_new_store),
        LOCAL_TEST(test_secrets_differ_and_stay),
        LOCAL_TEST(test_a_directory_that_is_there_and_empty),
        LOCAL_TEST(test_paths_that_are_no_directory),
        LOCAL_TEST(test_foreign_directories_are_left_alone),
        LOCAL_TEST(test_markers_that_are_not_understood),
        LOCAL_TEST(test_leftovers_are_cleared_at_open),
        LOCAL_TEST(test_the_lock_names_its_holder),
        LOCAL_TEST(test_the_lock_goes_with_a_killed_process),
        LOCAL_TEST(test_beside_a_server),
        LOCAL_TEST(test_renamed_away_and_back),
        LOCAL_TEST(test_another_store_in_its_place),
        LOCAL_TEST(test_the_same_store_elsewhere_in_its_place),
        LOCAL_TEST(test_many_threads_find_it_again),
        LOCAL_TEST(test_an_upload_outlives_its_directory_by_no_checkpoint),
        LOCAL_TEST(test_full_disk),
        LOCAL_TEST(test_read_only_file_system),
        LOCAL_TEST(test_a_mount_that_goes_away),
    };
    struct place place;
    const struct suite_driver driver = {"local store", suite_open, suite_reopen,
                                        suite_close,   &place,     .verifies_sha256 = false};
    int failures = store_suite_run(&driver);
    failures += cmocka_run_group_tests_name("local store's own", tests, NULL, NULL);
    return failures;
}

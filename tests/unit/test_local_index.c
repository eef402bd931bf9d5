#include "fixture.h"

#include "base/fs.h"
#include "base/metrics.h"
#include "store/local_index.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define BYTES_MAX (1024 * 1024)
#define SMALL_BYTES_MAX (16 * 1024)
#define WRITERS 4
#define WRITER_STEPS 1500
#define STEADY_NAMES 400
#define RACES 3000

/* A directory tree and an index of it. */
struct place {
    char dir[128];
    int fd;
    struct local_index *index;
};

static int place_setup(void **state)
{
    struct place *place = calloc(1, sizeof(*place));
    assert_non_null(place);
    temp_dir_make(place->dir);
    place->fd = open(place->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(place->fd >= 0);
    place->index = local_index_new(place->fd, BYTES_MAX);
    assert_non_null(place->index);
    *state = place;
    return 0;
}

static int place_teardown(void **state)
{
    struct place *place = *state;
    local_index_free(place->index);
    fd_close(place->fd);
    temp_dir_remove(place->dir);
    free(place);
    return 0;
}

static void index_replace(struct place *place, size_t bytes_max)
{
    local_index_free(place->index);
    place->index = local_index_new(place->fd, bytes_max);
    assert_non_null(place->index);
}

static void make_folder(struct place *place, const char *path)
{
    assert_int_equal(mkdirat(place->fd, path, 0755), 0);
}

/* As a put and a delete do: the file first, the note after it. */
static void put(struct place *place, const char *key)
{
    int fd = openat(place->fd, key, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    fd_close(fd);
    local_index_note(place->index, key);
}

static void delete (struct place *place, const char *key)
{
    assert_true(unlinkat(place->fd, key, 0) == 0 || errno == ENOENT);
    local_index_note(place->index, key);
}

static void put_many(struct place *place, const char *path, size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++) {
        char key[300];
        (void) snprintf(key, sizeof(key), "%s/name-%06zu", path, i);
        put(place, key);
    }
}

static enum local_index_answer ask(struct place *place, const char *path, enum local_kind kind, bool build,
                                   const char *after, size_t limit, struct store_names *out)
{
    struct err err = ERR_INIT;
    enum local_index_answer answer;
    *out = (struct store_names){0};
    assert_ok(local_index_page(place->index, path, kind, build, after, limit, &answer, out, &err));
    return answer;
}

static enum local_index_answer ask_only(struct place *place, const char *path, bool build)
{
    struct store_names names;
    enum local_index_answer answer = ask(place, path, LOCAL_FILES, build, "", 1, &names);
    store_names_free(&names);
    return answer;
}

static void assert_names(struct place *place, const char *path, enum local_kind kind, const char *const *expected)
{
    struct store_names names;
    assert_int_equal(ask(place, path, kind, true, "", 100, &names), LOCAL_INDEX_PAGE);
    size_t count = 0;
    for (; expected[count]; count++) {
        assert_true(count < names.count);
        assert_string_equal(names.items[count], expected[count]);
    }
    assert_int_equal(names.count, count);
    store_names_free(&names);
}

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NO_NAMES ((const char *const[]){NULL})

static void test_absent_until_built(void **state)
{
    struct place *place = *state;
    make_folder(place, "a");
    put(place, "a/2");
    put(place, "a/1");
    assert_int_equal(ask_only(place, "a", false), LOCAL_INDEX_ABSENT);
    assert_int_equal(local_index_bytes(place->index), 0);
    assert_names(place, "a", LOCAL_FILES, NAMES("1", "2"));
    assert_int_equal(ask_only(place, "a", false), LOCAL_INDEX_PAGE);
    assert_true(local_index_bytes(place->index) > 0);
    assert_int_equal(metric_gauge_value(METRIC_LIST_INDEX_BYTES), local_index_bytes(place->index));
    local_index_clear(place->index);
    assert_int_equal(ask_only(place, "a", false), LOCAL_INDEX_ABSENT);
    assert_int_equal(local_index_bytes(place->index), 0);
    assert_int_equal(metric_gauge_value(METRIC_LIST_INDEX_BYTES), 0);
}

static void test_changes_are_noted(void **state)
{
    struct place *place = *state;
    make_folder(place, "a");
    put(place, "a/m");
    assert_names(place, "a", LOCAL_FILES, NAMES("m"));
    put(place, "a/z");
    put(place, "a/b");
    put(place, "a/b");
    assert_names(place, "a", LOCAL_FILES, NAMES("b", "m", "z"));
    delete (place, "a/m");
    delete (place, "a/m");
    delete (place, "a/never");
    assert_names(place, "a", LOCAL_FILES, NAMES("b", "z"));
    delete (place, "a/b");
    delete (place, "a/z");
    assert_names(place, "a", LOCAL_FILES, NO_NAMES);
    assert_int_equal(unlinkat(place->fd, "a", AT_REMOVEDIR), 0); /* the folder goes and comes with its names */
    local_index_note(place->index, "a");
    assert_names(place, "a", LOCAL_FILES, NO_NAMES);
    make_folder(place, "a");
    put(place, "a/new");
    assert_names(place, "a", LOCAL_FILES, NAMES("new"));
    local_index_note(place->index, "top"); /* of no folder */
    local_index_note(NULL, "a/new");       /* nor is there always an index */
    local_index_clear(NULL);
    local_index_free(NULL);
}

/* A note is a hint to look: what it was about, when it comes and how often does not matter. */
static void test_notes_come_anyhow(void **state)
{
    struct place *place = *state;
    make_folder(place, "a");
    put(place, "a/stays");
    put(place, "a/goes");
    assert_names(place, "a", LOCAL_FILES, NAMES("goes", "stays"));
    assert_int_equal(unlinkat(place->fd, "a/goes", 0), 0); /* deleted, put and deleted: the notes come afterwards */
    for (int i = 0; i < 3; i++)
        local_index_note(place->index, "a/goes");
    assert_names(place, "a", LOCAL_FILES, NAMES("stays"));
    local_index_note(place->index, "a/stays"); /* a delete that failed */
    local_index_note(place->index, "a/fails"); /* a put that did */
    assert_names(place, "a", LOCAL_FILES, NAMES("stays"));
    char longest[300] = "a/";
    memset(longest + 2, 'x', 256);
    local_index_note(place->index, longest); /* no file's name is as long */
    assert_names(place, "a", LOCAL_FILES, NAMES("stays"));
}

static void test_kinds(void **state)
{
    struct place *place = *state;
    make_folder(place, "a");
    make_folder(place, "a/folder");
    put(place, "a/file");
    put(place, "a/.hidden");
    assert_int_equal(symlinkat("file", place->fd, "a/link"), 0);
    assert_names(place, "a", LOCAL_FILES, NAMES("file"));
    assert_names(place, "a", LOCAL_FOLDERS, NAMES("folder"));
    make_folder(place, "a/more");
    local_index_note(place->index, "a/more");
    local_index_note(place->index, "a/link");
    put(place, "a/text");
    assert_names(place, "a", LOCAL_FILES, NAMES("file", "text"));
    assert_names(place, "a", LOCAL_FOLDERS, NAMES("folder", "more"));
}

static void test_what_cannot_be_read(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    struct store_names names = {0};
    enum local_index_answer answer;
    assert_int_equal(ask_only(place, "missing", true), LOCAL_INDEX_NONE);
    assert_int_equal(ask_only(place, "missing", false), LOCAL_INDEX_ABSENT);
    put(place, "file");
    assert_int_not_equal(local_index_page(place->index, "file", LOCAL_FILES, true, "", 1, &answer, &names, &err),
                         ERR_OK);
    assert_int_equal(ask_only(place, "file", false), LOCAL_INDEX_ABSENT);
}

static void test_pages(void **state)
{
    struct place *place = *state;
    struct store_names names;
    make_folder(place, "a");
    put_many(place, "a", 0, 500);
    assert_int_equal(ask_only(place, "a", true), LOCAL_INDEX_PAGE);
    put_many(place, "a", 500, 500);
    char after[64] = "";
    for (size_t at = 0; at < 1000; at += 100) {
        assert_int_equal(ask(place, "a", LOCAL_FILES, false, after, 100, &names), LOCAL_INDEX_PAGE);
        assert_int_equal(names.count, 100);
        assert_int_equal(names.more, at < 900);
        for (size_t i = 0; i < 100; i++) {
            (void) snprintf(after, sizeof(after), "name-%06zu", at + i);
            assert_string_equal(names.items[i], after);
        }
        store_names_free(&names);
    }
    assert_int_equal(ask(place, "a", LOCAL_FILES, false, "name-0005", 1, &names), LOCAL_INDEX_PAGE);
    assert_string_equal(names.items[0], "name-000500");
    store_names_free(&names);
}

/* ---- limits ---- */

static void test_too_big(void **state)
{
    struct place *place = *state;
    index_replace(place, SMALL_BYTES_MAX);
    make_folder(place, "small");
    make_folder(place, "big");
    put_many(place, "small", 0, 10);
    put_many(place, "big", 0, 3000);
    assert_int_equal(ask_only(place, "small", true), LOCAL_INDEX_PAGE);
    assert_int_equal(ask_only(place, "big", true), LOCAL_INDEX_NONE);
    assert_int_equal(ask_only(place, "big", false), LOCAL_INDEX_NONE); /* known without reading it again */
    assert_int_equal(local_index_bytes(place->index), 0);

    local_index_measured(place->index, "big", LOCAL_FILES, 3000 * 11); /* as it was */
    assert_int_equal(ask_only(place, "big", false), LOCAL_INDEX_NONE);
    local_index_measured(place->index, "small", LOCAL_FILES, 10 * 11); /* not in there: nothing to do */
    for (size_t i = 0; i < 2900; i++) {
        char key[64];
        (void) snprintf(key, sizeof(key), "big/name-%06zu", i);
        delete (place, key);
    }
    local_index_measured(place->index, "big", LOCAL_FILES, 100 * 11);
    assert_int_equal(ask_only(place, "big", false), LOCAL_INDEX_ABSENT);
    assert_int_equal(ask_only(place, "big", true), LOCAL_INDEX_PAGE);
    local_index_measured(place->index, "big", LOCAL_FILES, 100 * 11); /* a ready one stays */
    assert_int_equal(ask_only(place, "big", false), LOCAL_INDEX_PAGE);

    put_many(place, "big", 10000, 3000); /* and grows out of it again, while in use */
    assert_int_equal(ask_only(place, "big", false), LOCAL_INDEX_NONE);
    assert_int_equal(local_index_bytes(place->index), 0);
}

static void test_the_least_listed_makes_room(void **state)
{
    struct place *place = *state;
    static const char *const paths[] = {"a", "b", "c"};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        make_folder(place, paths[i]);
        put_many(place, paths[i], 0, 500);
    }
    assert_int_equal(ask_only(place, "a", true), LOCAL_INDEX_PAGE);
    size_t bytes_max = local_index_bytes(place->index) * 9 / 4; /* two fit, three do not */
    index_replace(place, bytes_max);
    assert_int_equal(ask_only(place, "a", true), LOCAL_INDEX_PAGE);
    assert_int_equal(ask_only(place, "b", true), LOCAL_INDEX_PAGE);
    assert_int_equal(ask_only(place, "a", false), LOCAL_INDEX_PAGE);
    put_many(place, "b", 0, 1); /* a note is no list */
    assert_int_equal(ask_only(place, "c", true), LOCAL_INDEX_PAGE);
    assert_int_equal(ask_only(place, "a", false), LOCAL_INDEX_PAGE);
    assert_int_equal(ask_only(place, "b", false), LOCAL_INDEX_ABSENT);
    assert_true(local_index_bytes(place->index) <= bytes_max);
    put_many(place, "a", 500, 300); /* growing has the same effect */
    assert_int_equal(ask_only(place, "a", false), LOCAL_INDEX_PAGE);
    assert_int_equal(ask_only(place, "c", false), LOCAL_INDEX_ABSENT);
    assert_true(local_index_bytes(place->index) <= bytes_max);
}

static void test_a_number_of_folders(void **state)
{
    struct place *place = *state;
    char path[32];
    index_replace(place, 64 * 1024 * 1024);
    for (size_t i = 0; i <= LOCAL_INDEX_FOLDERS_MAX; i++) {
        (void) snprintf(path, sizeof(path), "f%zu", i);
        make_folder(place, path);
        assert_int_equal(ask_only(place, path, true), LOCAL_INDEX_PAGE);
        if (i > 0)
            assert_int_equal(ask_only(place, "f0", false), LOCAL_INDEX_PAGE);
    }
    assert_int_equal(ask_only(place, "f1", false), LOCAL_INDEX_ABSENT);
    assert_int_equal(ask_only(place, "f0", false), LOCAL_INDEX_PAGE);
    assert_int_equal(ask_only(place, path, false), LOCAL_INDEX_PAGE);
}

/* ---- threads ---- */

struct crew {
    struct place *place;
    atomic_int next;
    atomic_int running; /* writers */
};

/* What lists say of name, by whichever way they are answered. */
static bool is_listed(struct place *place, const char *name)
{
    struct store_names names;
    char before[64];
    (void) snprintf(before, sizeof(before), "%s", name);
    before[strlen(before) - 1]--; /* something below it, that need not be there */
    for (;;) {
        if (ask(place, "a", LOCAL_FILES, true, before, 2, &names) == LOCAL_INDEX_PAGE) {
            bool found = false;
            for (size_t i = 0; i < names.count; i++)
                found = found || strcmp(names.items[i], name) == 0;
            store_names_free(&names);
            return found;
        }
    }
}

/* Its own name comes and goes, and each list knows. */
static void *write_and_list(void *arg)
{
    struct crew *crew = arg;
    char name[32], key[64];
    int number = atomic_fetch_add(&crew->next, 1);
    for (int step = 0; step < WRITER_STEPS; step++) {
        (void) snprintf(name, sizeof(name), "w%d-%d-x", number, step % 50);
        (void) snprintf(key, sizeof(key), "a/%s", name);
        put(crew->place, key);
        assert_true(is_listed(crew->place, name));
        delete (crew->place, key);
        assert_false(is_listed(crew->place, name));
    }
    atomic_fetch_sub(&crew->running, 1);
    return NULL;
}

/* Names that nobody touches are in every list. */
static void *list_steady(void *arg)
{
    struct crew *crew = arg;
    struct store_names names;
    while (atomic_load(&crew->running) > 0) {
        if (ask(crew->place, "a", LOCAL_FILES, true, "name-", STEADY_NAMES, &names) != LOCAL_INDEX_PAGE)
            continue;
        assert_int_equal(names.count, STEADY_NAMES);
        assert_string_equal(names.items[STEADY_NAMES - 1], "name-000399");
        store_names_free(&names);
    }
    return NULL;
}

/* The folder is forgotten and read again all the time: by clear, and to make room for another. */
static void *disturb(void *arg)
{
    struct crew *crew = arg;
    for (int round = 0; atomic_load(&crew->running) > 0; round++) {
        if (round % 2)
            (void) ask_only(crew->place, "b", true);
        else
            local_index_clear(crew->place->index);
        (void) usleep(300);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct place *place = *state;
    struct crew crew = {.place = place, .running = WRITERS};
    pthread_t threads[WRITERS + 2];
    index_replace(place, 24 * 1024); /* enough for one of the two */
    make_folder(place, "a");
    make_folder(place, "b");
    put_many(place, "a", 0, STEADY_NAMES);
    put_many(place, "b", 0, 1000);
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_and_list, &crew), 0);
    assert_int_equal(pthread_create(&threads[WRITERS], NULL, list_steady, &crew), 0);
    assert_int_equal(pthread_create(&threads[WRITERS + 1], NULL, disturb, &crew), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(local_index_bytes(place->index) <= 24 * 1024);
}

struct race {
    struct place *place;
    atomic_int next;
    pthread_barrier_t barrier;
};

static void *race(void *arg)
{
    struct race *race = arg;
    int number = atomic_fetch_add(&race->next, 1);
    for (int round = 0; round < RACES; round++) {
        struct stat st;
        (void) pthread_barrier_wait(&race->barrier);
        if ((number + round) % 2)
            put(race->place, "a/one");
        else
            delete (race->place, "a/one");
        (void) pthread_barrier_wait(&race->barrier);
        if (number == 0)
            assert_int_equal(is_listed(race->place, "one"), fstatat(race->place->fd, "a/one", &st, 0) == 0);
    }
    return NULL;
}

/* Puts and deletes of one name at once: whoever was last, the list says what is there. */
static void test_one_name_by_many(void **state)
{
    struct place *place = *state;
    struct race shared = {.place = place};
    pthread_t threads[WRITERS];
    make_folder(place, "a");
    assert_int_equal(ask_only(place, "a", true), LOCAL_INDEX_PAGE);
    assert_int_equal(pthread_barrier_init(&shared.barrier, NULL, WRITERS), 0);
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race, &shared), 0);
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    pthread_barrier_destroy(&shared.barrier);
}

#define INDEX_TEST(fn) cmocka_unit_test_setup_teardown(fn, place_setup, place_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        INDEX_TEST(test_absent_until_built),
        INDEX_TEST(test_changes_are_noted),
        INDEX_TEST(test_notes_come_anyhow),
        INDEX_TEST(test_kinds),
        INDEX_TEST(test_what_cannot_be_read),
        INDEX_TEST(test_pages),
        INDEX_TEST(test_too_big),
        INDEX_TEST(test_the_least_listed_makes_room),
        INDEX_TEST(test_a_number_of_folders),
        INDEX_TEST(test_threads),
        INDEX_TEST(test_one_name_by_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

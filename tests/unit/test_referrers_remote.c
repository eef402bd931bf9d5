/* Lists of referrers on a store of many that is asked over a network: what is asked, and that the answer is whole. */
#include "fixture.h"

#include "base/json.h"
#include "registry/keys.h"
#include "registry/listing.h"
#include "registry/referrers.h"
#include "store/driver.h"

#include <pthread.h>
#include <time.h>

#define TEN_THOUSAND 10000
#define VERY_MANY 100000
#define SNAPSHOTS_MAX 64
#define S3_PAGE 1000

/* ---- a store with one subject's referrers ---- */

struct remote_object {
    char key[KEY_BYTES];
    struct buf bytes;
};

/* A driver's functions have no argument of ours. */
static struct remote {
    struct store_ops ops;
    struct digest subject;
    struct digest *referrers; /* in order */
    size_t count;
    size_t note_bytes; /* of each descriptor's annotation */
    uint64_t wait_us;  /* of each request */
    struct remote_object snapshots[SNAPSHOTS_MAX];
    size_t snapshot_count;
    pthread_mutex_t mutex;
    size_t lists, gets, snapshot_gets, puts, active, peak;
    size_t names_max; /* ever listed in one request */
} remote;

static void remote_enter(size_t *counter)
{
    pthread_mutex_lock(&remote.mutex);
    (*counter)++;
    remote.active++;
    remote.peak = remote.active > remote.peak ? remote.active : remote.peak;
    pthread_mutex_unlock(&remote.mutex);
    if (remote.wait_us)
        (void) nanosleep(&(struct timespec){.tv_nsec = (long) remote.wait_us * 1000}, NULL);
}

static enum err_code remote_leave(enum err_code code)
{
    pthread_mutex_lock(&remote.mutex);
    remote.active--;
    pthread_mutex_unlock(&remote.mutex);
    return code;
}

static int compare(const void *a, const void *b)
{
    return digest_order(a, b);
}

static void descriptor_of(const struct digest *digest, struct buf *out)
{
    char text[DIGEST_TEXT_BYTES_MAX];
    digest_format(digest, text);
    assert_true(buf_appendf(out,
                            "{\"mediaType\":\"" OCI_MANIFEST "\",\"digest\":\"%s\",\"size\":1,"
                            "\"artifactType\":\"type/%d\",\"annotations\":{\"note\":\"%0*d\"}}",
                            text, digest->raw[31] % 2, (int) remote.note_bytes, 7));
}

static struct remote_object *find_snapshot(const char *key)
{
    for (size_t i = 0; i < remote.snapshot_count; i++) {
        if (strcmp(remote.snapshots[i].key, key) == 0)
            return &remote.snapshots[i];
    }
    return NULL;
}

static enum err_code remote_get(struct store *store, const char *key, struct buf *out, struct err *err)
{
    struct key_parts parts;
    (void) store;
    key_parse(key, &parts);
    remote_enter(parts.kind == KEY_SNAPSHOT ? &remote.snapshot_gets : &remote.gets);
    if (parts.kind == KEY_SNAPSHOT && find_snapshot(key)) {
        const struct buf *bytes = &find_snapshot(key)->bytes;
        return remote_leave(buf_append(out, bytes->ptr, bytes->len) ? ERR_OK : err_set(err, ERR_LIMIT, "too long"));
    }
    if (parts.kind != KEY_REFERRER || !digest_equal(&parts.digest, &remote.subject) ||
        !bsearch(&parts.referrer, remote.referrers, remote.count, sizeof(struct digest), compare))
        return remote_leave(err_set(err, ERR_NOT_FOUND, "there is none"));
    descriptor_of(&parts.referrer, out);
    return remote_leave(ERR_OK);
}

static enum err_code remote_put(struct store *store, const char *key, struct str bytes, enum store_put_mode mode,
                                struct err *err)
{
    (void) store, (void) err;
    assert_int_equal(mode, STORE_PUT_ANY);
    remote_enter(&remote.puts);
    struct remote_object *object = find_snapshot(key);
    if (!object) {
        assert_true(remote.snapshot_count < SNAPSHOTS_MAX);
        object = &remote.snapshots[remote.snapshot_count++];
        (void) snprintf(object->key, sizeof(object->key), "%s", key);
        object->bytes = BUF_INIT(STORE_OBJECT_BYTES_MAX);
    }
    buf_clear(&object->bytes);
    assert_true(buf_append(&object->bytes, bytes.ptr, bytes.len));
    return remote_leave(ERR_OK);
}

static enum err_code remote_list(struct store *store, const char *prefix, const char *after, size_t limit,
                                 struct store_names *out, struct err *err)
{
    char ours[KEY_BYTES], name[DIGEST_TEXT_BYTES_MAX];
    struct repo_name repo = repo_of("library/app");
    (void) store, (void) err;
    remote_enter(&remote.lists);
    assert_true(limit > 0 && limit <= S3_PAGE);
    key_referrers_prefix(&repo, &remote.subject, ours);
    assert_string_equal(prefix, ours);
    size_t low = 0, high = remote.count;
    while (low < high) { /* the first after `after` */
        size_t middle = (low + high) / 2;
        key_digest_dashed(&remote.referrers[middle], name);
        if (strcmp(name, after) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    out->items = calloc(limit, sizeof(*out->items));
    assert_non_null(out->items);
    for (; out->count < limit && low < remote.count; low++) {
        key_digest_dashed(&remote.referrers[low], name);
        out->items[out->count] = strdup(name);
        assert_non_null(out->items[out->count++]);
    }
    out->more = low < remote.count;
    return remote_leave(ERR_OK);
}

static void counters_reset(void)
{
    remote.lists = remote.gets = remote.snapshot_gets = remote.puts = remote.peak = 0;
}

static void set_cache(struct fixture *fixture, uint64_t bytes_max)
{
    fixture->settings.cache_bytes_max = bytes_max;
    registry_update_settings(fixture->registry, &fixture->settings);
}

static int remote_setup(void **state)
{
    assert_int_equal(fixture_setup(state), 0);
    struct fixture *fixture = *state;
    remote = (struct remote){.ops = *fixture->store->ops, .subject = sha256_of("subject"), .note_bytes = 100};
    pthread_mutex_init(&remote.mutex, NULL);
    remote.ops.get = remote_get;
    remote.ops.put = remote_put;
    remote.ops.list = remote_list;
    fixture->store->ops = &remote.ops;
    fixture->store->caps.exclusive = false;
    fixture->store->caps.parallel = 16;
    return 0;
}

static void remote_clear(void)
{
    for (size_t i = 0; i < remote.snapshot_count; i++)
        buf_free(&remote.snapshots[i].bytes);
    free(remote.referrers);
    remote.referrers = NULL;
    remote.count = remote.snapshot_count = 0;
}

static int remote_teardown(void **state)
{
    remote_clear();
    return fixture_teardown(state);
}

/* count more, of this algorithm, made from numbers beginning with `from`. */
static void referrers_add(enum digest_algorithm algorithm, size_t from, size_t count)
{
    remote.referrers = realloc(remote.referrers, (remote.count + count) * sizeof(struct digest));
    assert_non_null(remote.referrers);
    for (size_t i = 0; i < count; i++) {
        char text[32];
        (void) snprintf(text, sizeof(text), "%zu", from + i);
        remote.referrers[remote.count++] = digest_of(algorithm, str_from(text));
    }
    qsort(remote.referrers, remote.count, sizeof(struct digest), compare);
}

/* ---- asking ---- */

/* The page's digests must be those from referrers[from] on; how many they are. */
static size_t page_match(const struct referrers_page *page, size_t from)
{
    size_t count = 0;
    static const char mark[] = "\"digest\":\"";
    const char *end = page->json.ptr + page->json.len;
    for (const char *at = page->json.ptr; (at = memmem(at, (size_t) (end - at), mark, strlen(mark))); count++) {
        char text[DIGEST_TEXT_BYTES_MAX];
        at += strlen(mark);
        assert_true(from + count < remote.count);
        digest_format(&remote.referrers[from + count], text);
        assert_memory_equal(at, text, strlen(text));
    }
    return count;
}

/* List all of it, each page checked; the number of pages. */
static size_t list_all(struct fixture *fixture, size_t limit)
{
    char after[DIGEST_TEXT_BYTES_MAX] = "";
    size_t seen = 0, pages = 0;
    struct referrers_query query = {.repo = &fixture->repo, .subject = remote.subject, .after = after, .limit = limit};
    do {
        struct referrers_page page;
        assert_ok(referrers_list(fixture->registry, &query, &page, &fixture->err));
        assert_true(page.json.len < 4 * 1024 * 1024);
        size_t count = page_match(&page, seen);
        assert_true(limit == 0 || count <= limit);
        seen += count;
        pages++;
        memcpy(after, page.next, sizeof(after));
        buf_free(&page.json);
    } while (after[0]);
    assert_int_equal(seen, remote.count);
    return pages;
}

static void test_ten_thousand(void **state)
{
    struct fixture *fixture = *state;
    remote.wait_us = 100;
    referrers_add(DIGEST_SHA256, 0, TEN_THOUSAND);
    assert_int_equal(list_all(fixture, 0), 1);
    assert_true(remote.gets == TEN_THOUSAND + 1 && remote.peak <= 16); /* one more for the fallback tag */
    assert_true(remote.lists + remote.snapshot_gets + remote.puts + 1 <= 20);
    assert_int_equal(remote.puts, 1);
    counters_reset();
    assert_int_equal(list_all(fixture, 0), 1); /* from memory */
    assert_true(remote.gets == 1 && remote.snapshot_gets == 0 && remote.puts == 0);
    assert_true(remote.lists + 1 <= 20);
    set_cache(fixture, 0);
    counters_reset();
    assert_int_equal(list_all(fixture, 0), 1); /* from the snapshot */
    assert_true(remote.gets == 1 && remote.snapshot_gets == 1 && remote.puts == 0);
    assert_true(remote.lists + 2 <= 20);
}

static void test_pages_of_a_client(void **state)
{
    struct fixture *fixture = *state;
    static const size_t limits[] = {1, 99, 1000, 1001, 2500, 9999};
    referrers_add(DIGEST_SHA256, 0, 2600);
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        counters_reset();
        size_t pages = list_all(fixture, limits[i]);
        assert_int_equal(pages, (2600 + limits[i] - 1) / limits[i]);
        assert_true(remote.lists <= pages * (1 + limits[i] / 800 + 1));
    }
    set_cache(fixture, 0);
    assert_int_equal(list_all(fixture, 500), 6); /* the snapshot grows with each page that is read */
    assert_int_equal(remote.puts, 6);
    counters_reset();
    assert_int_equal(list_all(fixture, 500), 6);
    assert_true(remote.gets == 6 && remote.snapshot_gets == 6 && remote.puts == 0);
}

static void test_a_page_reads_what_it_needs(void **state)
{
    struct fixture *fixture = *state;
    struct referrers_query query = {.repo = &fixture->repo, .subject = remote.subject, .limit = 10};
    struct referrers_page page;
    referrers_add(DIGEST_SHA256, 0, VERY_MANY);
    assert_ok(referrers_list(fixture->registry, &query, &page, &fixture->err));
    buf_free(&page.json);
    assert_true(remote.lists == 1 && remote.gets == 1 + 11 && remote.snapshot_gets == 0);
    remote.note_bytes = 20000; /* about 200 to a page */
    query.limit = 0;
    counters_reset();
    assert_ok(referrers_list(fixture->registry, &query, &page, &fixture->err));
    assert_true(remote.lists <= 16 && remote.gets <= 230);
    buf_free(&page.json);
}

static void test_very_many(void **state)
{
    struct fixture *fixture = *state;
    referrers_add(DIGEST_SHA256, 0, VERY_MANY);
    size_t pages = list_all(fixture, 0);
    assert_true(pages >= 7 && remote.peak <= 16);
    (void) list_all(fixture, 0); /* in the meantime the snapshot was split: its parts are written now */
    (void) list_all(fixture, 0);
    set_cache(fixture, 0);
    counters_reset();
    assert_int_equal(list_all(fixture, 0), pages);
    assert_true(remote.gets == pages && remote.puts == 0); /* of each page's fallback tag */
    assert_true(remote.snapshot_gets <= 16 + 4 * pages);
    assert_true(remote.lists <= 18 * pages);
}

static void test_both_algorithms(void **state)
{
    struct fixture *fixture = *state;
    referrers_add(DIGEST_SHA256, 0, 3000);
    referrers_add(DIGEST_SHA512, 0, 3000);
    assert_int_equal(list_all(fixture, 0), 1);
    (void) list_all(fixture, 700);
    set_cache(fixture, 0);
    counters_reset();
    assert_int_equal(list_all(fixture, 0), 1);
    assert_true(remote.gets == 1 && remote.lists <= 17);
}

/* Digests that somebody has chosen: close together after a few that are far apart, or all of one beginning. */
static void test_digests_that_are_not_spread(void **state)
{
    struct fixture *fixture = *state;
    for (int round = 0; round < 2; round++) {
        remote_clear();
        referrers_add(DIGEST_SHA256, 0, 9000);
        for (size_t i = 0; i < remote.count; i++) {
            bool is_apart = round == 0 && i < 1000;
            memset(remote.referrers[i].raw, is_apart ? (int) (i / 8) : 0xe0, 8);
            remote.referrers[i].raw[8] = (uint8_t) i;
        }
        qsort(remote.referrers, remote.count, sizeof(struct digest), compare);
        (void) list_all(fixture, 0);
        (void) list_all(fixture, 1700);
    }
}

/* ---- snapshots that are not as they should be ---- */

static void test_stale_entries(void **state)
{
    struct fixture *fixture = *state;
    set_cache(fixture, 0);
    referrers_add(DIGEST_SHA256, 0, 1000);
    (void) list_all(fixture, 0);
    size_t full_bytes = remote.snapshots[0].bytes.len;
    for (size_t i = 0; i < 500; i++) /* every second one is deleted */
        remote.referrers[i] = remote.referrers[2 * i];
    remote.count = 500;
    counters_reset();
    (void) list_all(fixture, 0);
    assert_true(remote.gets == 1 && remote.snapshot_gets == 1 && remote.puts == 0);
    referrers_add(DIGEST_SHA256, 5000, 62); /* not many: an eighth at most */
    counters_reset();
    (void) list_all(fixture, 0);
    assert_true(remote.gets == 63 && remote.puts == 0);
    referrers_add(DIGEST_SHA256, 6000, 62);
    counters_reset();
    (void) list_all(fixture, 0);
    assert_true(remote.gets == 125 && remote.puts == 1);
    assert_true(remote.snapshots[0].bytes.len < full_bytes * 63 / 100); /* without those deleted */
    counters_reset();
    (void) list_all(fixture, 0);
    assert_true(remote.gets == 1 && remote.snapshot_gets == 1 && remote.puts == 0);
}

static void test_unusable_snapshots(void **state)
{
    struct fixture *fixture = *state;
    set_cache(fixture, 0);
    referrers_add(DIGEST_SHA256, 0, 100);
    (void) list_all(fixture, 0);
    struct buf *bytes = &remote.snapshots[0].bytes;
    auto_buf good = BUF_INIT(STORE_OBJECT_BYTES_MAX);
    assert_true(buf_append(&good, bytes->ptr, bytes->len));
    for (int kind = 0; kind < 4; kind++) {
        assert_memory_equal(bytes->ptr, good.ptr, good.len); /* it was mended by the list before */
        if (kind == 0)
            bytes->len = bytes->len / 2;
        else if (kind == 1)
            bytes->ptr[strlen("orlop-referrers ")] = '2';
        else if (kind == 2)
            bytes->ptr[bytes->len / 2] ^= 1;
        else
            bytes->len = 0;
        counters_reset();
        (void) list_all(fixture, 0);
        assert_true(remote.gets == 101 && remote.puts == 1);
    }
}

static enum err_code failing_put(struct store *store, const char *key, struct str bytes, enum store_put_mode mode,
                                 struct err *err)
{
    (void) store, (void) key, (void) bytes, (void) mode;
    return err_set(err, ERR_READ_ONLY, "no");
}

static enum err_code failing_snapshot_get(struct store *store, const char *key, struct buf *out, struct err *err)
{
    return strstr(key, ".snapshot") ? err_set(err, ERR_UPSTREAM, "no") : remote_get(store, key, out, err);
}

static void test_snapshots_that_fail(void **state)
{
    struct fixture *fixture = *state;
    set_cache(fixture, 0);
    referrers_add(DIGEST_SHA256, 0, 100);
    remote.ops.put = failing_put;
    remote.ops.get = failing_snapshot_get;
    (void) list_all(fixture, 0);
    (void) list_all(fixture, 30);
}

/* ---- what is fetched ---- */

static _Atomic size_t gets_left;

static enum err_code get_until_failure(struct store *store, const char *key, struct buf *out, struct err *err)
{
    if (strstr(key, "/sha256-") && gets_left-- == 0)
        return err_set(err, ERR_UPSTREAM, "no");
    return remote_get(store, key, out, err);
}

static void test_a_fetch_that_fails(void **state)
{
    struct fixture *fixture = *state;
    struct referrers_query query = {.repo = &fixture->repo, .subject = remote.subject};
    struct referrers_page page;
    referrers_add(DIGEST_SHA256, 0, 100);
    remote.ops.get = get_until_failure;
    gets_left = 50;
    assert_int_equal(referrers_list(fixture->registry, &query, &page, &fixture->err), ERR_UPSTREAM);
    remote.ops.get = remote_get;
    (void) list_all(fixture, 0);
}

static enum err_code get_of_some(struct store *store, const char *key, struct buf *out, struct err *err)
{
    struct key_parts parts;
    key_parse(key, &parts);
    if (parts.kind == KEY_REFERRER && parts.referrer.raw[31] % 2 == 0)
        return err_set(err, ERR_NOT_FOUND, "deleted since it was listed");
    return remote_get(store, key, out, err);
}

static void test_deleted_while_listing(void **state)
{
    struct fixture *fixture = *state;
    size_t kept = 0;
    referrers_add(DIGEST_SHA256, 0, 500);
    remote.ops.get = get_of_some;
    struct referrers_query query = {.repo = &fixture->repo, .subject = remote.subject};
    struct referrers_page page;
    assert_ok(referrers_list(fixture->registry, &query, &page, &fixture->err));
    for (size_t i = 0; i < 500; i++) {
        if (remote.referrers[i].raw[31] % 2 == 1)
            remote.referrers[kept++] = remote.referrers[i];
    }
    remote.count = kept;
    assert_int_equal(page_match(&page, 0), kept);
    buf_free(&page.json);
    (void) list_all(fixture, 0);
}

static void test_filter_reads_no_descriptor_twice(void **state)
{
    struct fixture *fixture = *state;
    struct str types[] = {STR("type/1"), STR("nobody's")};
    struct referrers_query query = {
        .repo = &fixture->repo, .subject = remote.subject, .artifact_types = types, .artifact_type_count = 2};
    struct referrers_page page;
    referrers_add(DIGEST_SHA256, 0, 2000);
    assert_ok(referrers_list(fixture->registry, &query, &page, &fixture->err));
    buf_free(&page.json);
    assert_int_equal(remote.gets, 2001);
    set_cache(fixture, 0);
    counters_reset();
    assert_ok(referrers_list(fixture->registry, &query, &page, &fixture->err));
    assert_true(remote.gets == 1 && remote.snapshot_gets == 1);
    auto_json root = NULL;
    assert_ok(json_parse(buf_str(&page.json), &root, &fixture->err));
    assert_in_range(json_count(json_member(root, "manifests")), 900, 1100);
    buf_free(&page.json);
}

#define REMOTE_TEST(fn) cmocka_unit_test_setup_teardown(fn, remote_setup, remote_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        REMOTE_TEST(test_ten_thousand),
        REMOTE_TEST(test_pages_of_a_client),
        REMOTE_TEST(test_a_page_reads_what_it_needs),
        REMOTE_TEST(test_very_many),
        REMOTE_TEST(test_both_algorithms),
        REMOTE_TEST(test_digests_that_are_not_spread),
        REMOTE_TEST(test_stale_entries),
        REMOTE_TEST(test_unusable_snapshots),
        REMOTE_TEST(test_snapshots_that_fail),
        REMOTE_TEST(test_a_fetch_that_fails),
        REMOTE_TEST(test_deleted_while_listing),
        REMOTE_TEST(test_filter_reads_no_descriptor_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

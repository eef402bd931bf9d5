#include "fixture.h"

#include "base/json.h"
#include "registry/check.h"
#include "registry/referrers.h"

#include <pthread.h>

#define MANY 1050 /* more than one listing of the store */
#define BIG_NOTE_BYTES (1024 * 1024)
#define THREADS 6
#define THREAD_ROUNDS 15

static struct referrers_query query_of(struct fixture *fixture, const struct digest *subject)
{
    return (struct referrers_query){.repo = &fixture->repo, .subject = *subject};
}

/* One page, checked to be an image index; the caller frees *out_root. Writes the next page's cursor. */
static size_t list(struct fixture *fixture, const struct referrers_query *query, struct json **out_root, char *out_next)
{
    struct referrers_page page;
    struct str text;
    uint64_t version;
    assert_ok(referrers_list(fixture->registry, query, &page, &fixture->err));
    assert_true(page.json.len <= REFERRERS_PAGE_BYTES_MAX + STORE_OBJECT_BYTES_MAX);
    assert_ok(json_parse(buf_str(&page.json), out_root, &fixture->err));
    buf_free(&page.json);
    assert_true(json_u64(json_member(*out_root, "schemaVersion"), &version));
    assert_int_equal(version, 2);
    assert_true(json_text(json_member(*out_root, "mediaType"), &text));
    assert_string_equal(text.ptr, OCI_INDEX);
    assert_true(json_is_list(json_member(*out_root, "manifests")));
    if (out_next)
        (void) snprintf(out_next, DIGEST_TEXT_BYTES_MAX, "%s", page.next);
    else
        assert_string_equal(page.next, "");
    return json_count(json_member(*out_root, "manifests"));
}

static size_t count(struct fixture *fixture, const struct referrers_query *query)
{
    auto_json root = NULL;
    return list(fixture, query, &root, NULL);
}

static bool lists(const struct json *root, const struct digest *digest)
{
    struct str text;
    const struct json *manifests = json_member(root, "manifests");
    for (size_t i = 0; i < json_count(manifests); i++) {
        assert_true(json_text(json_member(json_item(manifests, i), "digest"), &text));
        if (strcmp(text.ptr, digest_text(digest)) == 0)
            return true;
    }
    return false;
}

static const char *member_text(const struct json *root, size_t index, const char *name)
{
    struct str text;
    const struct json *entry = json_item(json_member(root, "manifests"), index);
    return json_text(json_member(entry, name), &text) ? text.ptr : NULL;
}

static void test_none(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = sha256_of("nobody");
    struct referrers_query query = query_of(fixture, &subject);
    struct referrers_page page;
    assert_ok(referrers_list(fixture->registry, &query, &page, &fixture->err));
    assert_string_equal(page.json.ptr, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_INDEX "\",\"manifests\":[]}");
    assert_string_equal(page.next, "");
    buf_free(&page.json);
}

static void test_descriptors(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = push_image(fixture, &fixture->repo, "app", NULL, NULL, "subject");
    struct digest referrer = push_image(fixture, &fixture->repo, NULL, &subject, "application/sbom", "the note");
    struct digest plain = push_image(fixture, &fixture->repo, NULL, &subject, NULL, "no type of its own");
    struct referrers_query query = query_of(fixture, &subject);
    for (int round = 0; round < 2; round++) {
        auto_json root = NULL;
        assert_int_equal(list(fixture, &query, &root, NULL), 2);
        assert_true(lists(root, &referrer));
        assert_true(lists(root, &plain));
        size_t at = strcmp(member_text(root, 0, "digest"), digest_text(&referrer)) == 0 ? 0 : 1;
        assert_string_equal(member_text(root, at, "mediaType"), OCI_MANIFEST);
        assert_string_equal(member_text(root, at, "artifactType"), "application/sbom");
        assert_string_equal(member_text(root, 1 - at, "artifactType"), OCI_EMPTY); /* its config's */
        struct str note;
        const struct json *entry = json_item(json_member(root, "manifests"), at);
        assert_true(json_text(json_member(json_member(entry, "annotations"), "note"), &note));
        assert_string_equal(note.ptr, "the note");
        fixture_reopen(fixture);
    }
    struct repo_name other = repo_of("other");
    query.repo = &other;
    assert_int_equal(count(fixture, &query), 0);
}

static void test_a_subject_that_comes_later_or_never(void **state)
{
    struct fixture *fixture = *state;
    auto_buf text = BUF_INIT(0);
    image_text(fixture, &fixture->repo, NULL, NULL, "comes later", &text);
    struct digest subject = sha256_of(text.ptr);
    (void) push_image(fixture, &fixture->repo, NULL, &subject, NULL, "early");
    struct referrers_query query = query_of(fixture, &subject);
    assert_int_equal(count(fixture, &query), 1);
    (void) push_manifest(fixture, &fixture->repo, "app", text.ptr);
    assert_int_equal(count(fixture, &query), 1);
    assert_ok(manifest_delete(fixture->registry, &fixture->repo, &subject, &fixture->err));
    assert_int_equal(count(fixture, &query), 1); /* a subject's end is not its referrers' */
}

static void test_delete(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = sha256_of("subject");
    struct digest a = push_image(fixture, &fixture->repo, "tagged", &subject, NULL, "a");
    struct digest b = push_image(fixture, &fixture->repo, NULL, &subject, NULL, "b");
    struct referrers_query query = query_of(fixture, &subject);
    assert_ok(manifest_delete(fixture->registry, &fixture->repo, &a, &fixture->err));
    auto_json root = NULL;
    assert_int_equal(list(fixture, &query, &root, NULL), 1);
    assert_true(lists(root, &b));
    (void) push_image(fixture, &fixture->repo, NULL, &subject, NULL, "a");
    (void) push_image(fixture, &fixture->repo, NULL, &subject, NULL, "a"); /* pushed twice, listed once */
    assert_int_equal(count(fixture, &query), 2);
}

static void test_filter(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = sha256_of("subject");
    for (int i = 0; i < 6; i++) {
        char note[2] = {(char) ('0' + i), '\0'};
        (void) push_image(fixture, &fixture->repo, NULL, &subject,
                          i % 3 == 0   ? "a/a"
                          : i % 3 == 1 ? "b/b"
                                       : "c/c",
                          note);
    }
    struct str types[] = {STR("a/a"), STR("c/c"), STR("nobody's")};
    struct referrers_query query = query_of(fixture, &subject);
    query.artifact_types = types;
    query.artifact_type_count = 1;
    auto_json root = NULL;
    assert_int_equal(list(fixture, &query, &root, NULL), 2);
    assert_string_equal(member_text(root, 0, "artifactType"), "a/a");
    assert_string_equal(member_text(root, 1, "artifactType"), "a/a");
    query.artifact_type_count = 3;
    assert_int_equal(count(fixture, &query), 4);
    query.artifact_types = types + 2;
    query.artifact_type_count = 1;
    assert_int_equal(count(fixture, &query), 0);
    struct str beginning = STR("a/");
    query.artifact_types = &beginning;
    assert_int_equal(count(fixture, &query), 0);

    query.artifact_types = types; /* pages of what passes the filter, without an empty one at the end */
    query.artifact_type_count = 2;
    query.limit = 2;
    char next[DIGEST_TEXT_BYTES_MAX];
    auto_json first = NULL;
    auto_json second = NULL;
    assert_int_equal(list(fixture, &query, &first, next), 2);
    assert_string_not_equal(next, "");
    query.after = next;
    assert_int_equal(list(fixture, &query, &second, NULL), 2);
}

/* Follow pages to the end; the digests must come in order, each once. Returns how many came on how many pages. */
static size_t follow(struct fixture *fixture, struct referrers_query query, size_t *out_pages)
{
    char next[DIGEST_TEXT_BYTES_MAX] = "", last[DIGEST_TEXT_BYTES_MAX] = "";
    size_t total = 0;
    *out_pages = 0;
    do {
        auto_json root = NULL;
        char after[DIGEST_TEXT_BYTES_MAX];
        memcpy(after, next, sizeof(after));
        query.after = after;
        size_t got = list(fixture, &query, &root, next);
        for (size_t i = 0; i < got; i++) {
            const char *digest = member_text(root, i, "digest");
            assert_true(strcmp(digest, last) > 0);
            (void) snprintf(last, sizeof(last), "%s", digest);
        }
        if (next[0])
            assert_string_equal(next + 7, last + 7);
        assert_true(got > 0 || *out_pages == 0);
        total += got;
        (*out_pages)++;
    } while (next[0]);
    return total;
}

static void test_pages(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = sha256_of("subject");
    size_t pages;
    for (int i = 0; i < 7; i++) {
        char note[2] = {(char) ('0' + i), '\0'};
        (void) push_image(fixture, &fixture->repo, NULL, &subject, NULL, note);
    }
    static const size_t expected_pages[] = {1, 7, 4, 3, 2, 2, 2, 1, 1};
    for (size_t limit = 0; limit < COUNT_OF(expected_pages); limit++) {
        struct referrers_query query = query_of(fixture, &subject);
        query.limit = limit;
        assert_int_equal(follow(fixture, query, &pages), 7);
        assert_int_equal(pages, expected_pages[limit]);
    }
    struct referrers_query query = query_of(fixture, &subject);
    static const char *const afters[] = {"zzz", "sha999-", "\xff"};
    for (size_t i = 0; i < COUNT_OF(afters); i++) {
        query.after = afters[i];
        assert_int_equal(count(fixture, &query), 0);
    }
    char longest[1000];
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    query.after = longest; /* before all */
    assert_int_equal(count(fixture, &query), 7);
}

/* Descriptors without their manifests. */
static void write_descriptors(struct fixture *fixture, const struct digest *subject, int from, int to)
{
    for (int i = from; i < to; i++) {
        char key[KEY_BYTES], note[16], text[200];
        (void) snprintf(note, sizeof(note), "%d", i);
        struct digest digest = sha256_of(note);
        key_referrer(&fixture->repo, subject, &digest, key);
        (void) snprintf(text, sizeof(text), "{\"mediaType\":\"x\",\"digest\":\"%s\",\"size\":1}", digest_text(&digest));
        file_write(fixture, key, str_from(text));
    }
}

static void test_many(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = sha256_of("subject");
    size_t pages;
    write_descriptors(fixture, &subject, 0, MANY);
    struct referrers_query query = query_of(fixture, &subject);
    assert_int_equal(follow(fixture, query, &pages), MANY);
    assert_int_equal(pages, 1);
    query.limit = 1000;
    assert_int_equal(follow(fixture, query, &pages), MANY);
    assert_int_equal(pages, 2);
}

/* Keys are the truth: a snapshot adds nothing, and hides nothing. */
static void test_snapshot_beside_its_subject(void **state)
{
    struct fixture *fixture = *state;
    static const struct snapshot_part whole = {.digits = 0};
    struct digest subject = sha256_of("subject");
    struct referrers_query query = query_of(fixture, &subject);
    char snapshot[KEY_BYTES], key[KEY_BYTES], note[16];
    key_snapshot(&fixture->repo, &subject, &whole, snapshot);
    write_descriptors(fixture, &subject, 0, 16);
    assert_int_equal(count(fixture, &query), 16);
    assert_false(object_exists(fixture, snapshot)); /* so few are not worth one */
    fixture_reopen(fixture);
    write_descriptors(fixture, &subject, 16, 40);
    assert_int_equal(count(fixture, &query), 40);
    assert_true(object_exists(fixture, snapshot));
    fixture_reopen(fixture);
    write_descriptors(fixture, &subject, 40, 50);
    assert_int_equal(count(fixture, &query), 50);
    for (int i = 0; i < 50; i++) {
        (void) snprintf(note, sizeof(note), "%d", i);
        struct digest digest = sha256_of(note);
        key_referrer(&fixture->repo, &subject, &digest, key);
        object_delete(fixture, key);
    }
    assert_int_equal(count(fixture, &query), 0);
    struct digest last = push_image(fixture, &fixture->repo, NULL, &subject, NULL, "last");
    assert_int_equal(count(fixture, &query), 1);
    assert_ok(manifest_delete(fixture->registry, &fixture->repo, &last, &fixture->err));
    fixture_reopen(fixture);
    assert_int_equal(count(fixture, &query), 0);
    struct check_totals totals;
    static const struct check_callbacks silent;
    assert_ok(registry_check(fixture->store, false, &silent, &totals, &fixture->err));
    assert_int_equal(totals.errors, 0);
}

static void test_damaged_descriptor(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = sha256_of("subject");
    struct digest referrer = push_image(fixture, &fixture->repo, NULL, &subject, "a/b", "whole");
    struct referrers_query query = query_of(fixture, &subject);
    char key[KEY_BYTES];
    auto_buf good = BUF_INIT(0);
    key_referrer(&fixture->repo, &subject, &referrer, key);
    file_read(fixture, key, &good);
    static const char *const texts[] = {"", "{", "[]", "{\"mediaType\":\"x\"} and more"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct referrers_page page;
        file_write(fixture, key, str_from(texts[i]));
        fixture_reopen(fixture);
        assert_ok(referrers_list(fixture->registry, &query, &page, &fixture->err));
        assert_non_null(strstr(page.json.ptr, good.ptr)); /* as its manifest says */
        buf_free(&page.json);
    }
}

/* A descriptor as long as one may be is a page of its own below 4 MiB; a longer one's manifest is refused. */
static void test_longest_descriptor(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = sha256_of("subject");
    struct referrers_query query = query_of(fixture, &subject);
    struct referrers_page page;
    auto_mem char *note = malloc(REFERRER_DESCRIPTOR_BYTES_MAX);
    assert_non_null(note);
    (void) push_image(fixture, &fixture->repo, NULL, &subject, NULL, "");
    assert_ok(referrers_list(fixture->registry, &query, &page, &fixture->err));
    size_t head_bytes = strlen("{\"schemaVersion\":2,\"mediaType\":\"" OCI_INDEX "\",\"manifests\":[]}");
    size_t room = REFERRER_DESCRIPTOR_BYTES_MAX - (page.json.len - head_bytes) - 4; /* the size takes 7 digits, not 3 */
    buf_free(&page.json);
    for (int over = 1; over >= 0; over--) {
        auto_buf text = BUF_INIT(0);
        struct manifest_put_result result;
        memset(note, 'n', room + (size_t) over);
        note[room + (size_t) over] = '\0';
        image_text(fixture, &fixture->repo, &subject, NULL, note, &text);
        struct manifest_put put = {.repo = &fixture->repo, .bytes = buf_str(&text)};
        assert_int_equal(manifest_put(fixture->registry, &put, &result, &fixture->err),
                         over ? ERR_MANIFEST_INVALID : ERR_OK);
    }
    query.limit = 1;
    char next[DIGEST_TEXT_BYTES_MAX] = "";
    size_t longest = 0;
    for (int i = 0; i < 2; i++) {
        query.after = next;
        fixture_reopen(fixture);
        assert_ok(referrers_list(fixture->registry, &query, &page, &fixture->err));
        longest = page.json.len > longest ? page.json.len : longest;
        memcpy(next, page.next, sizeof(next));
        buf_free(&page.json);
    }
    assert_int_equal(longest, REFERRER_DESCRIPTOR_BYTES_MAX + head_bytes);
    assert_true(longest < 4 * 1024 * 1024);
}

static void test_pages_are_bounded_in_bytes(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = sha256_of("subject");
    char *note = malloc(BIG_NOTE_BYTES + 1);
    size_t pages;
    assert_non_null(note);
    memset(note, 'n', BIG_NOTE_BYTES);
    note[BIG_NOTE_BYTES] = '\0';
    for (int i = 0; i < 7; i++) {
        note[0] = (char) ('0' + i);
        (void) push_image(fixture, &fixture->repo, NULL, &subject, NULL, note);
    }
    struct referrers_query query = query_of(fixture, &subject);
    struct referrers_page page;
    assert_ok(referrers_list(fixture->registry, &query, &page, &fixture->err));
    assert_true(page.json.len <= REFERRERS_PAGE_BYTES_MAX);
    buf_free(&page.json);
    assert_int_equal(follow(fixture, query, &pages), 7);
    assert_int_equal(pages, 3); /* three fit into one */
    free(note);
}

/* ---- the fallback tag ---- */

static void push_fallback(struct fixture *fixture, const struct digest *subject, const struct digest *entries, size_t n)
{
    char tag[DIGEST_TEXT_BYTES_MAX];
    auto_buf text = BUF_INIT(1000000);
    struct registry_settings settings = fixture->settings;
    settings.sparse_indexes = true;
    registry_update_settings(fixture->registry, &settings);
    key_digest_dashed(subject, tag);
    tag[7 + 64] = '\0';
    assert_true(buf_append_text(&text, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_INDEX "\",\"manifests\":["));
    for (size_t i = 0; i < n; i++)
        assert_true(buf_appendf(&text, "%s{\"mediaType\":\"" OCI_MANIFEST "\",\"digest\":\"%s\",\"size\":1}",
                                i ? "," : "", digest_text(&entries[i])));
    assert_true(buf_append_text(&text, "]}"));
    (void) push_manifest(fixture, &fixture->repo, tag, text.ptr);
    registry_update_settings(fixture->registry, &fixture->settings);
}

static void test_fallback_entries_are_folded_in(void **state)
{
    struct fixture *fixture = *state;
    static const enum digest_algorithm algorithms[] = {DIGEST_SHA256, DIGEST_SHA512};
    for (size_t i = 0; i < COUNT_OF(algorithms); i++) {
        struct digest subject = digest_of(algorithms[i], STR("subject")), other = sha256_of("other subject");
        struct digest entries[] = {
            push_image(fixture, &fixture->repo, NULL, NULL, "a/folded", "old client, no subject"),
            push_image(fixture, &fixture->repo, NULL, &subject, "a/listed", "old client, subject"),
            push_image(fixture, &fixture->repo, NULL, &other, "a/other", "another's"),
            sha256_of("not here"),
        };
        struct digest unlisted = push_image(fixture, &fixture->repo, NULL, &subject, "a/new", "new client");
        push_fallback(fixture, &subject, entries, COUNT_OF(entries));
        struct referrers_query query = query_of(fixture, &subject);
        size_t pages;
        auto_json root = NULL;
        assert_int_equal(list(fixture, &query, &root, NULL), 3);
        assert_true(lists(root, &entries[0]));
        assert_true(lists(root, &entries[1]));
        assert_true(lists(root, &unlisted));
        for (query.limit = 1; query.limit <= 4; query.limit++) { /* merged in order, page by page */
            assert_int_equal(follow(fixture, query, &pages), 3);
            assert_int_equal(pages, (3 + query.limit - 1) / query.limit);
        }
        struct str type = STR("a/folded");
        query.artifact_types = &type;
        query.artifact_type_count = 1;
        query.limit = 0;
        assert_int_equal(count(fixture, &query), 1);
        assert_ok(manifest_delete(fixture->registry, &fixture->repo, &entries[0], &fixture->err));
        assert_int_equal(count(fixture, &query), 0); /* what is gone is not listed, whatever the index says */
    }
}

static void test_fallback_entries_are_listed_once(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = sha256_of("subject");
    struct digest a = push_image(fixture, &fixture->repo, NULL, NULL, NULL, "a");
    struct digest b = push_image(fixture, &fixture->repo, NULL, &subject, NULL, "b");
    struct digest entries[] = {a, b, a, a, b};
    push_fallback(fixture, &subject, entries, COUNT_OF(entries));
    struct referrers_query query = query_of(fixture, &subject);
    size_t pages;
    assert_int_equal(follow(fixture, query, &pages), 2);
}

static void test_only_fallback_entries(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = sha256_of("subject"), entries[50];
    for (size_t i = 0; i < COUNT_OF(entries); i++) {
        char note[16];
        (void) snprintf(note, sizeof(note), "%zu", i);
        entries[i] = push_image(fixture, &fixture->repo, NULL, NULL, NULL, note);
    }
    push_fallback(fixture, &subject, entries, COUNT_OF(entries));
    struct referrers_query query = query_of(fixture, &subject);
    size_t pages;
    query.limit = 20;
    assert_int_equal(follow(fixture, query, &pages), COUNT_OF(entries));
    assert_int_equal(pages, 3);
}

static void test_fallback_limit(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = sha256_of("subject"), entries[REFERRERS_FOLD_MAX + 1];
    for (size_t i = 0; i < COUNT_OF(entries); i++) {
        char text[32];
        (void) snprintf(text, sizeof(text), "not here %zu", i);
        entries[i] = sha256_of(text);
    }
    entries[REFERRERS_FOLD_MAX - 1] =
        push_image(fixture, &fixture->repo, NULL, NULL, NULL, "the last that is looked at");
    entries[REFERRERS_FOLD_MAX] = push_image(fixture, &fixture->repo, NULL, NULL, NULL, "one too many");
    push_fallback(fixture, &subject, entries, COUNT_OF(entries));
    struct referrers_query query = query_of(fixture, &subject);
    auto_json root = NULL;
    assert_int_equal(list(fixture, &query, &root, NULL), 1);
    assert_true(lists(root, &entries[REFERRERS_FOLD_MAX - 1]));
}

static void test_a_tag_that_only_looks_like_a_fallback(void **state)
{
    struct fixture *fixture = *state;
    struct digest subject = sha256_of("subject");
    char tag[DIGEST_TEXT_BYTES_MAX];
    key_digest_dashed(&subject, tag);
    (void) push_image(fixture, &fixture->repo, tag, NULL, NULL, "an image");
    struct referrers_query query = query_of(fixture, &subject);
    assert_int_equal(count(fixture, &query), 0);
    push_fallback(fixture, &subject, NULL, 0);
    assert_int_equal(count(fixture, &query), 0);
}

/* ---- threads ---- */

struct crew {
    struct fixture *fixture;
    struct digest subject;
    char *texts[THREADS];
    _Atomic size_t next;
};

/* Each pushes and deletes its own referrer of one subject; none is lost or left. */
static void *push_and_delete(void *arg)
{
    struct crew *crew = arg;
    struct fixture *fixture = crew->fixture;
    const char *text = crew->texts[crew->next++];
    struct digest digest = sha256_of(text);
    for (int round = 0; round < THREAD_ROUNDS; round++) {
        struct err err = ERR_INIT;
        struct manifest_put put = {.repo = &fixture->repo, .bytes = str_from(text)};
        struct manifest_put_result result;
        struct referrers_query query = query_of(fixture, &crew->subject);
        assert_ok(manifest_put(fixture->registry, &put, &result, &err));
        for (int present = 1; present >= 0; present--) {
            struct referrers_page page;
            char digest_hex[DIGEST_HEX_BYTES_MAX];
            digest_format_hex(&digest, digest_hex);
            assert_ok(referrers_list(fixture->registry, &query, &page, &err));
            assert_int_equal(strstr(page.json.ptr, digest_hex) != NULL, present);
            buf_free(&page.json);
            if (present)
                assert_ok(manifest_delete(fixture->registry, &fixture->repo, &digest, &err));
        }
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct fixture *fixture = *state;
    struct crew crew = {.fixture = fixture, .subject = sha256_of("subject")};
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        char note[2] = {(char) ('a' + i), '\0'};
        auto_buf text = BUF_INIT(0);
        image_text(fixture, &fixture->repo, &crew.subject, NULL, note, &text);
        crew.texts[i] = TAKE_PTR(text.ptr);
    }
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, push_and_delete, &crew), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    struct referrers_query query = query_of(fixture, &crew.subject);
    assert_int_equal(count(fixture, &query), 0);
    for (size_t i = 0; i < THREADS; i++)
        free(crew.texts[i]);
}

#define REFERRERS_TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        REFERRERS_TEST(test_none),
        REFERRERS_TEST(test_descriptors),
        REFERRERS_TEST(test_a_subject_that_comes_later_or_never),
        REFERRERS_TEST(test_delete),
        REFERRERS_TEST(test_filter),
        REFERRERS_TEST(test_pages),
        REFERRERS_TEST(test_many),
        REFERRERS_TEST(test_snapshot_beside_its_subject),
        REFERRERS_TEST(test_damaged_descriptor),
        REFERRERS_TEST(test_longest_descriptor),
        REFERRERS_TEST(test_pages_are_bounded_in_bytes),
        REFERRERS_TEST(test_fallback_entries_are_folded_in),
        REFERRERS_TEST(test_fallback_entries_are_listed_once),
        REFERRERS_TEST(test_only_fallback_entries),
        REFERRERS_TEST(test_fallback_limit),
        REFERRERS_TEST(test_a_tag_that_only_looks_like_a_fallback),
        REFERRERS_TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

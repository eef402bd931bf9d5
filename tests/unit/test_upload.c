#include "upload_steps.h"

#include <pthread.h>
#include <stdatomic.h>

#define PIECE_BYTES (4 * 1024 * 1024)
#define THREADS 8
#define THREAD_ROUNDS 20

/* ---- ids ---- */

static void test_ids(void **state)
{
    (void) state;
    struct upload_id id;
    assert_true(upload_id_parse(STR("0b9e3f6c-5c7e-4d0a-8a52-0123456789ab"), &id));
    assert_string_equal(id.text, "0b9e3f6c-5c7e-4d0a-8a52-0123456789ab");
    assert_true(upload_id_parse(STR("0B9E3F6C-5C7E-4D0A-8A52-0123456789AB"), &id));
    assert_string_equal(id.text, "0b9e3f6c-5c7e-4d0a-8a52-0123456789ab");
    static const char *const wrong[] = {"",
                                        "0b9e3f6c-5c7e-4d0a-8a52-0123456789a",
                                        "0b9e3f6c-5c7e-4d0a-8a52-0123456789abc",
                                        "0b9e3f6c05c7e-4d0a-8a52-0123456789ab",
                                        "0b9e3f6c-5c7e-4d0a-8a52-0123456789ag",
                                        "------------------------------------",
                                        "../../../../../../../../../../etc/a",
                                        "0b9e3f6c-5c7e-4d0a-8a52-0123456789a/",
                                        "{b9e3f6c-5c7e-4d0a-8a52-0123456789a}"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        assert_false(upload_id_parse(str_from(wrong[i]), &id));
    assert_false(upload_id_parse((struct str){"0b9e3f6c-5c7e-4d0a-8a52-0123456789a\0", 36}, &id));
}

/* ---- the way of most uploads ---- */

static void test_chunks(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = sha256_of("one two three");
    struct upload_id id = start(fixture, DIGEST_SHA256);
    assert_size(fixture, &id, 0);
    patch(fixture, &id, 0, "one ");
    patch(fixture, &id, 4, "two ");
    patch(fixture, &id, 8, "");
    assert_size(fixture, &id, 8);
    fixture_reopen(fixture); /* the state is in the store alone */
    assert_size(fixture, &id, 8);
    struct upload *upload = begin(fixture, &id, 8);
    feed(fixture, upload, "th");
    feed(fixture, upload, "ree");
    uint64_t before = rehashed(), committed = metric_counter_value(METRIC_UPLOADS_COMMITTED);
    assert_ok(upload_commit(upload, &digest, &fixture->err)); /* PUT with the last chunk */
    assert_int_equal(rehashed(), before);
    assert_int_equal(metric_counter_value(METRIC_UPLOADS_COMMITTED), committed + 1);
    assert_blob(fixture, &digest, "one two three");
    assert_unknown(fixture, &id);
    assert_int_equal(uploads_count(fixture), 0);
    assert_int_equal(close_with(fixture, &id, &digest), ERR_BLOB_UPLOAD_UNKNOWN);
}

static void test_close_without_a_body(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = sha256_of("all"), empty = sha256_of("");
    struct upload_id id = start(fixture, DIGEST_SHA256);
    patch(fixture, &id, 0, "all");
    assert_ok(close_with(fixture, &id, &digest));
    assert_blob(fixture, &digest, "all");
    id = start(fixture, DIGEST_SHA256);
    assert_ok(close_with(fixture, &id, &empty)); /* a blob of no bytes */
    assert_blob(fixture, &empty, "");
    assert_int_equal(uploads_count(fixture), 0);
}

static void test_single_post(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = sha256_of("bytes"), wrong = sha256_of("other bytes");
    struct upload *upload;
    assert_ok(upload_begin_single(fixture->registry, &fixture->repo, DIGEST_SHA256, &upload, &fixture->err));
    feed(fixture, upload, "byt");
    feed(fixture, upload, "es");
    assert_ok(upload_commit(upload, &digest, &fixture->err));
    assert_blob(fixture, &digest, "bytes");
    assert_false(file_exists(fixture, "uploads") && uploads_count(fixture) > 0);

    assert_ok(upload_begin_single(fixture->registry, &fixture->repo, DIGEST_SHA256, &upload, &fixture->err));
    feed(fixture, upload, "bytes");
    assert_int_equal(upload_commit(upload, &wrong, &fixture->err), ERR_DIGEST_INVALID);
    assert_no_blob(fixture, &wrong);
    assert_int_equal(uploads_count(fixture), 0);
}

static void test_a_single_post_leaves_nothing_behind(void **state)
{
    struct fixture *fixture = *state;
    struct upload *upload;
    assert_ok(upload_begin_single(fixture->registry, &fixture->repo, DIGEST_SHA256, &upload, &fixture->err));
    feed(fixture, upload, "bytes");
    upload_abandon(upload); /* the client went away: it never learned an id */
    assert_int_equal(uploads_count(fixture), 0);
    assert_ok(upload_begin_single(fixture->registry, &fixture->repo, DIGEST_SHA256, &upload, &fixture->err));
    feed(fixture, upload, "bytes");
    upload_rollback(upload);
    assert_int_equal(uploads_count(fixture), 0);
    assert_ok(upload_begin_single(fixture->registry, &fixture->repo, DIGEST_SHA256, &upload, &fixture->err));
    upload_rollback(upload);
    assert_int_equal(uploads_count(fixture), 0);
}

static void test_a_wrong_digest_ends_the_session(void **state)
{
    struct fixture *fixture = *state;
    struct digest wrong = sha256_of("something else");
    uint64_t rejected = metric_counter_value(METRIC_UPLOADS_REJECTED);
    struct upload_id id = start(fixture, DIGEST_SHA256);
    patch(fixture, &id, 0, "bytes");
    assert_int_equal(close_with(fixture, &id, &wrong), ERR_DIGEST_INVALID);
    struct digest actual = sha256_of("bytes");
    assert_non_null(strstr(fixture->err.message, digest_text(&actual)));
    assert_int_equal(metric_counter_value(METRIC_UPLOADS_REJECTED), rejected + 1);
    assert_unknown(fixture, &id);
    assert_no_blob(fixture, &wrong);
    assert_int_equal(uploads_count(fixture), 0);
}

static void test_the_same_blob_twice(void **state)
{
    struct fixture *fixture = *state;
    struct repo_name first = fixture->repo, second = repo_of("other/app");
    struct digest digest = sha256_of("shared");
    struct store_blob_info info = {0};
    for (int i = 0; i < 2; i++) {
        (void) push_blob(fixture, &first, STR("shared"));
        assert_int_equal(blob_stat(fixture->registry, &second, &digest, &info, &fixture->err), ERR_BLOB_UNKNOWN);
    }
    (void) push_blob(fixture, &second, STR("shared"));
    assert_ok(blob_stat(fixture->registry, &second, &digest, &info, &fixture->err));
    assert_int_equal(info.size_bytes, 6);
    assert_blob(fixture, &digest, "shared");
}

static void test_sessions_belong_to_their_repository(void **state)
{
    struct fixture *fixture = *state;
    struct upload_id id = start(fixture, DIGEST_SHA256);
    patch(fixture, &id, 0, "bytes");
    struct repo_name mine = fixture->repo;
    fixture->repo = repo_of("library/app2");
    assert_unknown(fixture, &id);
    struct upload *busy, *upload;
    uint64_t size_bytes;
    fixture->repo = mine;
    assert_size(fixture, &id, 5); /* nobody else harmed it */
    busy = begin(fixture, &id, 5);
    fixture->repo = repo_of("library/app2");
    assert_unknown(fixture, &id); /* not even that it is busy is told */
    fixture->repo = mine;
    upload_abandon(busy);
    struct upload_id never;
    uuid_new(never.text);
    assert_unknown(fixture, &never);
    assert_int_equal(upload_begin(fixture->registry, &fixture->repo, &never, NULL, NULL, &upload, &size_bytes,
                                  &fixture->err),
                     ERR_BLOB_UPLOAD_UNKNOWN);
}

/* ---- ranges ---- */

static enum err_code begin_range(struct fixture *fixture, const struct upload_id *id, uint64_t first, uint64_t end,
                                 struct upload **out, uint64_t *out_size)
{
    struct upload_range range = {first, end};
    *out_size = 999;
    return upload_begin(fixture->registry, &fixture->repo, id, &range, NULL, out, out_size, &fixture->err);
}

static void test_ranges_must_continue(void **state)
{
    struct fixture *fixture = *state;
    struct upload *upload;
    uint64_t size_bytes;
    struct upload_id id = start(fixture, DIGEST_SHA256);
    assert_int_equal(begin_range(fixture, &id, 1, 4, &upload, &size_bytes), ERR_RANGE_INVALID);
    assert_int_equal(size_bytes, 0);
    assert_ok(begin_range(fixture, &id, 0, 4, &upload, &size_bytes));
    assert_int_equal(size_bytes, 0);
    feed(fixture, upload, "0123");
    finish(fixture, upload, 4);
    static const uint64_t wrong[] = {0, 3, 5, UINT64_MAX - 1};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        assert_int_equal(begin_range(fixture, &id, wrong[i], UINT64_MAX, &upload, &size_bytes), ERR_RANGE_INVALID);
        assert_int_equal(size_bytes, 4); /* for the client to go on from */
        assert_non_null(strstr(fixture->err.message, "4 bytes"));
    }
    assert_size(fixture, &id, 4);
    assert_ok(begin_range(fixture, &id, 4, 6, &upload, &size_bytes));
    feed(fixture, upload, "45");
    finish(fixture, upload, 6);
    struct digest digest = sha256_of("012345");
    assert_ok(close_with(fixture, &id, &digest));
}

static void test_bodies_longer_than_their_range(void **state)
{
    struct fixture *fixture = *state;
    struct upload *upload;
    uint64_t size_bytes;
    struct upload_id id = start(fixture, DIGEST_SHA256);
    patch(fixture, &id, 0, "ab");
    assert_ok(begin_range(fixture, &id, 2, 4, &upload, &size_bytes));
    feed(fixture, upload, "c");
    assert_int_equal(upload_write(upload, "de", 2, &fixture->err), ERR_SIZE_INVALID);
    upload_rollback(upload);
    assert_size(fixture, &id, 2);
    assert_ok(begin_range(fixture, &id, 2, 4, &upload, &size_bytes));
    feed(fixture, upload, "cd");
    finish(fixture, upload, 4);
    struct digest digest = sha256_of("abcd");
    assert_ok(close_with(fixture, &id, &digest));
    assert_blob(fixture, &digest, "abcd");
}

static void test_bodies_shorter_than_their_range(void **state)
{
    struct fixture *fixture = *state;
    struct upload *upload;
    uint64_t size_bytes;
    struct digest digest = sha256_of("abc");
    struct upload_id id = start(fixture, DIGEST_SHA256);
    patch(fixture, &id, 0, "ab");
    assert_ok(begin_range(fixture, &id, 2, 9, &upload, &size_bytes));
    feed(fixture, upload, "c");
    assert_int_equal(upload_finish_chunk(upload, &size_bytes, &fixture->err), ERR_SIZE_INVALID);
    assert_size(fixture, &id, 2);
    assert_ok(begin_range(fixture, &id, 2, 9, &upload, &size_bytes));
    feed(fixture, upload, "c");
    assert_int_equal(upload_commit(upload, &digest, &fixture->err), ERR_SIZE_INVALID);
    assert_size(fixture, &id, 2);
    assert_no_blob(fixture, &digest);
    patch(fixture, &id, 2, "c");
    assert_ok(close_with(fixture, &id, &digest));
}

/* ---- interruptions ---- */

static void test_abandon_keeps_what_arrived(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = sha256_of("half whole");
    struct upload_id id = start(fixture, DIGEST_SHA256);
    struct upload *upload = begin(fixture, &id, 0);
    feed(fixture, upload, "half ");
    upload_abandon(upload);
    fixture_reopen(fixture);
    assert_size(fixture, &id, 5);
    upload = begin(fixture, &id, 5);
    upload_abandon(upload);
    patch(fixture, &id, 5, "whole");
    assert_ok(close_with(fixture, &id, &digest));
    assert_blob(fixture, &digest, "half whole");
}

static void test_rollback_forgets_what_arrived(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = sha256_of("kept+new");
    struct upload_id id = start(fixture, DIGEST_SHA256);
    patch(fixture, &id, 0, "kept+");
    struct upload *upload = begin(fixture, &id, 5);
    feed(fixture, upload, "forgotten, and longer");
    upload_rollback(upload);
    assert_size(fixture, &id, 5);
    patch(fixture, &id, 5, "new");
    assert_ok(close_with(fixture, &id, &digest));
    assert_blob(fixture, &digest, "kept+new");
}

static void test_a_killed_server_keeps_checkpoints(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = sha256_of("kept+more");
    struct upload_id id = start(fixture, DIGEST_SHA256);
    patch(fixture, &id, 0, "kept+");
    char path[128];
    (void) snprintf(path, sizeof(path), "uploads/%s/data", id.text);
    file_write(fixture, path, STR("kept+junk that no checkpoint knows of"));
    fixture_reopen(fixture);
    patch(fixture, &id, 5, "more");
    assert_ok(close_with(fixture, &id, &digest));
    assert_blob(fixture, &digest, "kept+more");

    id = start(fixture, DIGEST_SHA256);
    patch(fixture, &id, 0, "kept+more");
    (void) snprintf(path, sizeof(path), "uploads/%s/data", id.text);
    file_write(fixture, path, STR("kept+more and junk"));
    assert_ok(close_with(fixture, &id, &digest)); /* closing appends nothing: the junk is cut off all the same */
    uint64_t size_bytes;
    assert_ok(store_blob_stat(fixture->store, &digest, &size_bytes, &fixture->err));
    assert_int_equal(size_bytes, 9);
}

static void test_commit_after_a_crash_in_it(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = sha256_of("bytes");
    struct upload_id id = start(fixture, DIGEST_SHA256);
    patch(fixture, &id, 0, "bytes");
    struct store_upload *stored;
    auto_buf record = BUF_INIT(STORE_RECORD_BYTES_MAX);
    assert_ok(store_upload_open(fixture->store, id.text, &stored, &record, &fixture->err));
    struct store_place place;
    assert_ok(
        store_upload_commit(stored, &digest, 5, &place, &fixture->err)); /* published, not referenced: died here */
    store_upload_close(stored);
    fixture_reopen(fixture);
    assert_size(fixture, &id, 5);
    assert_ok(close_with(fixture, &id, &digest));
    assert_blob(fixture, &digest, "bytes");
    assert_int_equal(uploads_count(fixture), 0);
}

static void test_checkpoints_on_the_way(void **state)
{
    struct fixture *fixture = *state;
    char *piece = malloc(PIECE_BYTES);
    assert_non_null(piece);
    memset(piece, 'x', PIECE_BYTES);
    struct upload_id id = start(fixture, DIGEST_SHA256);
    struct upload *upload = begin(fixture, &id, 0);
    uint64_t sent = 0;
    while (sent < UPLOAD_CHECKPOINT_BYTES - PIECE_BYTES) {
        assert_ok(upload_write(upload, piece, PIECE_BYTES, &fixture->err));
        sent += PIECE_BYTES;
    }
    assert_ok(upload_write(upload, piece, PIECE_BYTES - 1, &fixture->err));
    assert_size(fixture, &id, 0); /* a byte before the boundary: nothing yet */
    assert_ok(upload_write(upload, piece, 2, &fixture->err));
    assert_size(fixture, &id, UPLOAD_CHECKPOINT_BYTES + 1);
    assert_ok(upload_write(upload, piece, 1000, &fixture->err));
    assert_size(fixture, &id, UPLOAD_CHECKPOINT_BYTES + 1);
    upload_rollback(upload); /* back behind the checkpoint too */
    assert_size(fixture, &id, 0);
    patch(fixture, &id, 0, "short");
    struct digest digest = sha256_of("short");
    assert_ok(close_with(fixture, &id, &digest));
    assert_blob(fixture, &digest, "short");
    free(piece);
}

/* ---- two requests ---- */

static void test_one_request_at_a_time(void **state)
{
    struct fixture *fixture = *state;
    struct upload *second;
    uint64_t size_bytes = 999;
    struct upload_id id = start(fixture, DIGEST_SHA256);
    patch(fixture, &id, 0, "abc");
    struct upload *first = begin(fixture, &id, 3);
    feed(fixture, first, "de");
    assert_int_equal(upload_begin(fixture->registry, &fixture->repo, &id, NULL, NULL, &second, &size_bytes,
                                  &fixture->err),
                     ERR_RANGE_INVALID);
    assert_int_equal(size_bytes, 3);
    assert_non_null(strstr(fixture->err.message, "another request"));
    assert_size(fixture, &id, 3); /* the status is the last checkpoint's */
    finish(fixture, first, 5);
    patch(fixture, &id, 5, "f");
    struct digest digest = sha256_of("abcdef");
    assert_ok(close_with(fixture, &id, &digest));
}

static void test_cancel(void **state)
{
    struct fixture *fixture = *state;
    uint64_t cancelled = metric_counter_value(METRIC_UPLOADS_CANCELLED);
    struct upload_id id = start(fixture, DIGEST_SHA256);
    patch(fixture, &id, 0, "bytes");
    assert_ok(upload_cancel(fixture->registry, &fixture->repo, &id, &fixture->err));
    assert_unknown(fixture, &id);
    assert_int_equal(uploads_count(fixture), 0);
    assert_int_equal(metric_counter_value(METRIC_UPLOADS_CANCELLED), cancelled + 1);
}

/* Cancel while a request appends; then what that request may still do. */
static struct upload *cancelled_upload(struct fixture *fixture, const char *sent_before)
{
    struct upload_id id = start(fixture, DIGEST_SHA256);
    struct upload *upload = begin(fixture, &id, 0);
    if (sent_before)
        feed(fixture, upload, sent_before);
    assert_ok(upload_cancel(fixture->registry, &fixture->repo, &id, &fixture->err));
    assert_int_equal(upload_cancel(fixture->registry, &fixture->repo, &id, &fixture->err), ERR_BLOB_UPLOAD_UNKNOWN);
    return upload;
}

static void test_cancel_while_appending(void **state)
{
    struct fixture *fixture = *state;
    uint64_t size_bytes;
    struct digest digest = sha256_of("bytes");
    static const char *const sent[] = {NULL, "bytes"};
    for (size_t i = 0; i < COUNT_OF(sent); i++) {
        struct upload *upload = cancelled_upload(fixture, sent[i]);
        assert_int_equal(upload_write(upload, "x", 1, &fixture->err), ERR_BLOB_UPLOAD_UNKNOWN);
        upload_abandon(upload);
        assert_int_equal(uploads_count(fixture), 0);

        upload = cancelled_upload(fixture, sent[i]);
        assert_int_equal(upload_finish_chunk(upload, &size_bytes, &fixture->err), ERR_BLOB_UPLOAD_UNKNOWN);
        assert_int_equal(uploads_count(fixture), 0);

        upload = cancelled_upload(fixture, sent[i]);
        upload_abandon(upload);
        assert_int_equal(uploads_count(fixture), 0);

        upload = cancelled_upload(fixture, sent[i]);
        upload_rollback(upload);
        assert_int_equal(uploads_count(fixture), 0);
    }
    struct upload *upload = cancelled_upload(fixture, "bytes");
    assert_int_equal(upload_commit(upload, &digest, &fixture->err), ERR_BLOB_UPLOAD_UNKNOWN);
    assert_no_blob(fixture, &digest);
    assert_int_equal(uploads_count(fixture), 0);
}

static void test_limit_of_uploads_at_once(void **state)
{
    struct fixture *fixture = *state;
    struct upload **uploads = calloc(UPLOAD_APPENDING_MAX, sizeof(struct upload *)), *upload;
    struct upload_id id = start(fixture, DIGEST_SHA256);
    uint64_t size_bytes;
    assert_non_null(uploads);
    for (size_t i = 0; i < UPLOAD_APPENDING_MAX; i++)
        assert_ok(upload_begin_single(fixture->registry, &fixture->repo, DIGEST_SHA256, &uploads[i], &fixture->err));
    assert_int_equal(upload_begin_single(fixture->registry, &fixture->repo, DIGEST_SHA256, &upload, &fixture->err),
                     ERR_BUSY);
    assert_int_equal(upload_start(fixture->registry, &fixture->repo, DIGEST_SHA256, &id, &fixture->err), ERR_BUSY);
    assert_int_equal(upload_begin(fixture->registry, &fixture->repo, &id, NULL, NULL, &upload, &size_bytes,
                                  &fixture->err),
                     ERR_BUSY);
    upload_rollback(uploads[7]);
    upload = begin(fixture, &id, 0);
    upload_abandon(upload);
    for (size_t i = 0; i < UPLOAD_APPENDING_MAX; i++) {
        if (i != 7)
            upload_rollback(uploads[i]);
    }
    free(uploads);
}

/* ---- algorithms ---- */

static void test_announced_sha512(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = digest_of(DIGEST_SHA512, STR("abcdef"));
    uint64_t before = rehashed();
    struct upload_id id = start(fixture, DIGEST_SHA512);
    patch(fixture, &id, 0, "abc");
    patch(fixture, &id, 3, "def");
    assert_ok(close_with(fixture, &id, &digest));
    assert_blob(fixture, &digest, "abcdef");
    assert_int_equal(rehashed(), before);
}

static void test_sha512_of_a_put_with_all_bytes(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = digest_of(DIGEST_SHA512, STR("abcdef"));
    struct upload *upload;
    uint64_t before = rehashed(), size_bytes;
    struct upload_id id = start(fixture, DIGEST_SHA256); /* nothing was announced */
    assert_ok(upload_begin(fixture->registry, &fixture->repo, &id, NULL, &digest, &upload, &size_bytes, &fixture->err));
    feed(fixture, upload, "abcdef");
    assert_ok(upload_commit(upload, &digest, &fixture->err));
    assert_blob(fixture, &digest, "abcdef");
    assert_int_equal(rehashed(), before);
}

static void test_unannounced_algorithms_are_read_back(void **state)
{
    struct fixture *fixture = *state;
    static const enum digest_algorithm announced[] = {DIGEST_SHA256, DIGEST_SHA512};
    for (size_t i = 0; i < COUNT_OF(announced); i++) {
        struct digest digest = digest_of(announced[1 - i], STR("abcdef"));
        uint64_t before = rehashed();
        struct upload_id id = start(fixture, announced[i]);
        patch(fixture, &id, 0, "abc");
        patch(fixture, &id, 3, "def");
        assert_ok(close_with(fixture, &id, &digest));
        assert_blob(fixture, &digest, "abcdef");
        assert_int_equal(rehashed() - before, 6);
    }
    struct digest wrong = digest_of(DIGEST_SHA512, STR("ABCDEF"));
    struct upload_id id = start(fixture, DIGEST_SHA256);
    patch(fixture, &id, 0, "abcdef");
    assert_int_equal(close_with(fixture, &id, &wrong), ERR_DIGEST_INVALID);
    assert_unknown(fixture, &id);
}

/* ---- threads ---- */

struct crew {
    struct fixture *fixture;
    struct upload_id contested;
    atomic_int written, refused;
    atomic_bool done;
};

static void crew_run(struct crew *crew, void *(*work)(void *arg))
{
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, crew), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* Whole uploads of one blob that is deleted again and again: an acknowledged push is always there or deleted. */
static void *push_and_delete(void *arg)
{
    struct crew *crew = arg;
    struct fixture *fixture = crew->fixture;
    struct digest digest = sha256_of("contested");
    for (int round = 0; round < THREAD_ROUNDS; round++) {
        struct err err = ERR_INIT;
        struct upload *upload;
        struct upload_id id;
        uint64_t size_bytes;
        assert_ok(upload_start(fixture->registry, &fixture->repo, DIGEST_SHA256, &id, &err));
        assert_ok(upload_begin(fixture->registry, &fixture->repo, &id, NULL, NULL, &upload, &size_bytes, &err));
        assert_ok(upload_write(upload, "contested", 9, &err));
        assert_ok(upload_commit(upload, &digest, &err));
        enum err_code code = blob_delete(fixture->registry, &fixture->repo, &digest, &err);
        assert_true(code == ERR_OK || code == ERR_BLOB_UNKNOWN);
    }
    return NULL;
}

static void test_pushes_beside_deletes(void **state)
{
    struct crew crew = {.fixture = *state};
    struct digest digest = sha256_of("contested");
    crew_run(&crew, push_and_delete);
    assert_no_blob(crew.fixture, &digest); /* the last delete found the last push */
    assert_int_equal(uploads_count(crew.fixture), 0);
}

/* All append to one session: each either gets its whole turn or is refused. */
static void *append_contested(void *arg)
{
    struct crew *crew = arg;
    struct fixture *fixture = crew->fixture;
    for (int round = 0; round < THREAD_ROUNDS; round++) {
        struct err err = ERR_INIT;
        struct upload *upload;
        uint64_t size_bytes;
        enum err_code code =
            upload_begin(fixture->registry, &fixture->repo, &crew->contested, NULL, NULL, &upload, &size_bytes, &err);
        assert_true(code == ERR_OK || code == ERR_RANGE_INVALID);
        if (code == ERR_RANGE_INVALID) {
            crew->refused++;
            continue;
        }
        assert_ok(upload_write(upload, "xx", 2, &err));
        assert_ok(upload_write(upload, "xx", 2, &err));
        assert_ok(upload_finish_chunk(upload, &size_bytes, &err));
        crew->written++;
    }
    return NULL;
}

static void test_many_requests_on_one_session(void **state)
{
    struct crew crew = {.fixture = *state};
    crew.contested = start(crew.fixture, DIGEST_SHA256);
    crew_run(&crew, append_contested);
    assert_int_equal(crew.written + crew.refused, THREADS * THREAD_ROUNDS);
    assert_size(crew.fixture, &crew.contested, 4 * (uint64_t) crew.written);
    char expected[4 * THREADS * THREAD_ROUNDS + 1];
    memset(expected, 'x', sizeof(expected));
    struct digest digest = digest_of(DIGEST_SHA256, (struct str){expected, 4 * (size_t) crew.written});
    assert_ok(close_with(crew.fixture, &crew.contested, &digest));
}

/* Each session is appended to and cancelled at once; the janitor looks at all of them. */
static void *append_until_cancelled(void *arg)
{
    struct crew *crew = arg;
    struct fixture *fixture = crew->fixture;
    while (!crew->done) {
        struct err err = ERR_INIT;
        struct upload *upload;
        uint64_t size_bytes;
        if (upload_begin(fixture->registry, &fixture->repo, &crew->contested, NULL, NULL, &upload, &size_bytes, &err) !=
            ERR_OK) {
            assert_true(err.code == ERR_RANGE_INVALID || err.code == ERR_BLOB_UPLOAD_UNKNOWN);
            if (err.code == ERR_BLOB_UPLOAD_UNKNOWN)
                break;
            continue;
        }
        enum err_code code = upload_write(upload, "bytes", 5, &err);
        if (code == ERR_OK)
            code = upload_finish_chunk(upload, &size_bytes, &err);
        else
            upload_abandon(upload);
        assert_true(code == ERR_OK || code == ERR_BLOB_UPLOAD_UNKNOWN);
    }
    return NULL;
}

static void test_cancel_from_another_thread(void **state)
{
    struct fixture *fixture = *state;
    for (int round = 0; round < THREAD_ROUNDS; round++) {
        struct crew crew = {.fixture = fixture};
        struct err err = ERR_INIT;
        pthread_t threads[3];
        size_t expired;
        crew.contested = start(fixture, DIGEST_SHA256);
        for (size_t i = 0; i < COUNT_OF(threads); i++)
            assert_int_equal(pthread_create(&threads[i], NULL, append_until_cancelled, &crew), 0);
        assert_ok(upload_expire(fixture->registry, &expired, &err));
        assert_int_equal(expired, 0);
        assert_ok(upload_cancel(fixture->registry, &fixture->repo, &crew.contested, &err));
        crew.done = true;
        for (size_t i = 0; i < COUNT_OF(threads); i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(uploads_count(fixture), 0); /* nobody brought it back */
    }
}

#define UPLOAD_TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        UPLOAD_TEST(test_chunks),
        UPLOAD_TEST(test_close_without_a_body),
        UPLOAD_TEST(test_single_post),
        UPLOAD_TEST(test_a_single_post_leaves_nothing_behind),
        UPLOAD_TEST(test_a_wrong_digest_ends_the_session),
        UPLOAD_TEST(test_the_same_blob_twice),
        UPLOAD_TEST(test_sessions_belong_to_their_repository),
        UPLOAD_TEST(test_ranges_must_continue),
        UPLOAD_TEST(test_bodies_longer_than_their_range),
        UPLOAD_TEST(test_bodies_shorter_than_their_range),
        UPLOAD_TEST(test_abandon_keeps_what_arrived),
        UPLOAD_TEST(test_rollback_forgets_what_arrived),
        UPLOAD_TEST(test_a_killed_server_keeps_checkpoints),
        UPLOAD_TEST(test_commit_after_a_crash_in_it),
        UPLOAD_TEST(test_checkpoints_on_the_way),
        UPLOAD_TEST(test_one_request_at_a_time),
        UPLOAD_TEST(test_cancel),
        UPLOAD_TEST(test_cancel_while_appending),
        UPLOAD_TEST(test_limit_of_uploads_at_once),
        UPLOAD_TEST(test_announced_sha512),
        UPLOAD_TEST(test_sha512_of_a_put_with_all_bytes),
        UPLOAD_TEST(test_unannounced_algorithms_are_read_back),
        UPLOAD_TEST(test_pushes_beside_deletes),
        UPLOAD_TEST(test_many_requests_on_one_session),
        UPLOAD_TEST(test_cancel_from_another_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

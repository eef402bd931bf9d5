/* Streamed answers (reply_body_stream): bytes from a source that blocks, over real sockets. */
#include "base/clock.h"
#include "base/log.h"
#include "http/engine.h"
#include "http_client.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RING_BYTES 65536 /* of an answer's pipe, which is twice a request's */
#define MIB (1024 * 1024)

static struct engine *engine;

/* ---- the source: what every answer reads from ---- */

static struct {
    _Atomic uint64_t step;    /* at most so many bytes a read; 0: all that are asked for */
    _Atomic uint64_t fail_at; /* a read from here on fails */
    _Atomic uint64_t end_at;  /* a read from here on finds nothing */
    _Atomic uint64_t hold_at; /* a read from here on waits for go_on */
    _Atomic bool go_on;
    _Atomic int slow_ms; /* every read takes so long */
    _Atomic uint64_t bytes;
    _Atomic int reads, reading, readers_max, opened, released, released_while_reading;
} source;

static void source_reset(void)
{
    source.step = 0;
    source.fail_at = source.end_at = source.hold_at = UINT64_MAX;
    source.go_on = false;
    source.slow_ms = 0;
    source.bytes = 0;
    source.reads = source.reading = source.readers_max = 0;
    source.opened = source.released = source.released_while_reading = 0;
}

static char source_byte(uint64_t offset)
{
    return (char) (offset * 31 + (offset >> 8) * 7 + (offset >> 16));
}

static void sleep_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

/* An answer's own: so that a second release, or a read after it, is seen by the address sanitizer too. */
struct handle {
    _Atomic int reading;
};

static enum err_code source_read(void *arg, uint64_t offset, void *bytes, size_t len, size_t *out_len, struct err *err)
{
    struct handle *handle = arg;
    if (++handle->reading > source.readers_max)
        source.readers_max = handle->reading;
    source.reads++;
    source.reading++;
    while (offset >= source.hold_at && !source.go_on)
        sleep_ms(1);
    if (source.slow_ms > 0)
        sleep_ms(source.slow_ms);
    if (source.step > 0 && len > source.step)
        len = source.step;
    if (offset >= source.end_at)
        len = 0;
    for (size_t i = 0; i < len; i++)
        ((char *) bytes)[i] = source_byte(offset + i);
    *out_len = len;
    source.bytes += len;
    enum err_code failed =
        offset >= source.fail_at ? err_set_errno(err, EIO, "reading secret/object at %d", (int) offset) : ERR_OK;
    source.reading--;
    handle->reading--;
    return failed;
}

static void source_release(void *arg)
{
    struct handle *handle = arg;
    if (handle->reading > 0)
        source.released_while_reading++;
    source.released++;
    free(handle);
}

static struct handle *source_open(void)
{
    struct handle *handle = calloc(1, sizeof(*handle));
    assert_non_null(handle);
    source.opened++;
    return handle;
}

static bool source_is_released(void)
{
    return source.released == source.opened;
}

/* The rules that hold however an answer ended. */
static void assert_source_is_closed(void)
{
    wait_for(source_is_released);
    assert_int_equal(source.released_while_reading, 0);
    assert_true(source.readers_max <= 1);
}

/* ---- endpoints ---- */

/* ?size=N: N bytes of the source. */
static bool source_fast(struct request *request)
{
    uint64_t size;
    assert_true(str_parse_u64(field_query_get(&request->query, "size"), &size));
    reply_status(request, 200);
    reply_body_stream(request, 0, size, source_read, source_release, source_open());
    return true;
}

static void source_run(struct request *request)
{
    (void) source_fast(request);
}

/* Two ranges as multipart/byteranges has them. */
static void parts_run(struct request *request)
{
    struct handle *handle = source_open();
    reply_status(request, 206);
    reply_body_text(request, "<one>", 5);
    reply_body_stream(request, 1000, 100000, source_read, NULL, handle);
    reply_body_text(request, "<two>", 5);
    reply_body_stream(request, 7, 0, source_read, NULL, handle);
    reply_body_stream(request, 500000, 3, source_read, source_release, handle);
    reply_body_text(request, "<end>", 5);
}

static void echo_start(struct request *request)
{
    request->state = calloc(1, sizeof(uint64_t));
    assert_non_null(request->state);
}

static void echo_body(struct request *request, const void *bytes, size_t len)
{
    (void) bytes;
    *(uint64_t *) request->state += len;
}

/* A streamed body is answered by a stream as long. */
static void echo_end(struct request *request)
{
    reply_status(request, 200);
    reply_body_stream(request, 0, *(uint64_t *) request->state, source_read, source_release, source_open());
    free(TAKE_PTR(request->state));
}

static void echo_gone(struct request *request)
{
    free(TAKE_PTR(request->state));
}

static void work_run(struct request *request)
{
    reply_status(request, 204);
}

static void unchanged_run(struct request *request)
{
    source_run(request);
    reply_status(request, 304);
}

static const struct route {
    struct str path;
    struct endpoint endpoint;
} routes[] = {
    {{"/fast", 5}, {.name = "fast", .method = METHOD_GET, .fast = source_fast, .run = source_run}},
    {{"/source", 7}, {.name = "source", .method = METHOD_GET, .run = source_run}},
    {{"/parts", 6}, {.name = "parts", .method = METHOD_GET, .run = parts_run}},
    {{"/work", 5}, {.name = "work", .method = METHOD_GET, .run = work_run}},
    {{"/unchanged", 10}, {.name = "unchanged", .method = METHOD_GET, .run = unchanged_run}},
    {{"/echo", 5},
     {.name = "echo",
      .method = METHOD_PUT,
      .body_kind = BODY_STREAM,
      .run = echo_start,
      .body = echo_body,
      .end = echo_end,
      .gone = echo_gone}},
};

static enum err_code test_route(struct request *request, struct str path, char *storage, const char **out_allow,
                                struct err *err)
{
    (void) storage;
    *out_allow = NULL;
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (!str_equal(path, routes[i].path))
            continue;
        request->endpoint = &routes[i].endpoint;
        return ERR_OK;
    }
    return err_set(err, ERR_ROUTE_UNKNOWN, "no such endpoint");
}

/* ---- engines ---- */

static const struct http_settings settings = {.listen = "127.0.0.1:0",
                                              .network_threads = 2,
                                              .workers = 1,
                                              .connections_max = 200,
                                              .jobs_waiting_max = 100,
                                              .header_bytes_max = 6 * 1024,
                                              .body_pipe_bytes = RING_BYTES / 2,
                                              .buffered_bytes_max = 1000,
                                              .header_timeout_ms = 1500,
                                              .idle_timeout_ms = 3000,
                                              .body_timeout_ms = 1000,
                                              .body_bytes_per_second_min = 1000,
                                              .linger_ms_max = 2000,
                                              .drain_ms_max = 5000};

static int start_with(const struct http_settings *with)
{
    struct err err = ERR_INIT;
    source_reset();
    return engine_start(with, NULL, NULL, NULL, test_route, &engine, &err) == ERR_OK ? 0 : -1;
}

static int setup(void **state)
{
    (void) state;
    return start_with(&settings);
}

static int teardown(void **state)
{
    (void) state;
    source.go_on = true;
    return engine_drain(engine) ? 0 : -1;
}

static void get(struct client *client, const char *method, const char *path, uint64_t size)
{
    char text[128];
    int len = snprintf(text, sizeof(text), "%s %s?size=%llu HTTP/1.1\r\nHost: x\r\n\r\n", method, path,
                       (unsigned long long) size);
    client_send(client, text, (size_t) len);
}

static void assert_source_bytes(struct str bytes, uint64_t offset)
{
    for (size_t i = 0; i < bytes.len; i++) {
        if (bytes.ptr[i] != source_byte(offset + i))
            fail_msg("byte %zu is wrong", i);
    }
}

static void assert_get(struct client *client, const char *path, uint64_t size)
{
    struct answer answer;
    get(client, "GET", path, size);
    assert_true(client_read(client, &answer, false));
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.body.len, size);
    assert_source_bytes(buf_str(&answer.body), 0);
    answer_free(&answer);
}

/* ---- tests ---- */

static void test_streams_every_size(void **state)
{
    static const uint64_t sizes[] = {
        0, 1, 2, RING_BYTES / 2, RING_BYTES - 1, RING_BYTES, RING_BYTES + 1, 3 * RING_BYTES + 17, 9 * MIB + 5};
    static const uint64_t steps[] = {0, 1000, 40000};
    struct client client;

    (void) state;
    client_open(engine->port, &client);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t j = 0; j < sizeof(steps) / sizeof(steps[0]); j++) {
            source.step = steps[j];
            assert_get(&client, j % 2 ? "/fast" : "/source", sizes[i]);
        }
    }
    assert_source_is_closed();
    client_close(&client);
}

static void test_streams_in_tiny_pieces(void **state)
{
    struct http_settings tiny = settings;
    struct client client;

    (void) state;
    assert_true(engine_drain(engine));
    for (tiny.body_pipe_bytes = 1; tiny.body_pipe_bytes <= 3; tiny.body_pipe_bytes++) {
        assert_int_equal(start_with(&tiny), 0);
        client_open(engine->port, &client);
        for (uint64_t size = 0; size < 6; size++)
            assert_get(&client, "/source", size);
        assert_source_is_closed();
        client_close(&client);
        assert_true(engine_drain(engine));
    }
    assert_int_equal(start_with(&settings), 0);
}

static void test_streams_ranges_between_texts(void **state)
{
    struct client client;
    struct answer answer;

    (void) state;
    client_open(engine->port, &client);
    for (int round = 0; round < 2; round++) {
        client_text(&client, "GET /parts HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_true(client_read(&client, &answer, false));
        assert_int_equal(answer.body.len, 5 + 100000 + 5 + 3 + 5);
        assert_memory_equal(answer.body.ptr, "<one>", 5);
        assert_source_bytes((struct str){answer.body.ptr + 5, 100000}, 1000);
        assert_memory_equal(answer.body.ptr + 100005, "<two>", 5);
        assert_source_bytes((struct str){answer.body.ptr + 100010, 3}, 500000);
        assert_memory_equal(answer.body.ptr + 100013, "<end>", 5);
        answer_free(&answer);
    }
    assert_source_is_closed();
    assert_int_equal(source.released, 2);
    client_close(&client);
}

static void test_reads_nothing_without_a_body(void **state)
{
    struct client client;
    struct answer answer;

    (void) state;
    client_open(engine->port, &client);
    get(&client, "HEAD", "/source", 5 * MIB);
    assert_true(client_read(&client, &answer, true));
    assert_string_equal(answer_header(&answer, "Content-Length"), "5242880");
    answer_free(&answer);
    get(&client, "GET", "/unchanged", 5 * MIB);
    assert_true(client_read(&client, &answer, true));
    assert_int_equal(answer.status, 304);
    answer_free(&answer);
    assert_get(&client, "/source", 10);
    assert_source_is_closed();
    assert_int_equal(source.bytes, 10);
    client_close(&client);
}

static void test_answers_a_streamed_body_with_a_stream(void **state)
{
    static char body[300000];
    struct client client;
    struct answer answer;

    (void) state;
    client_open(engine->port, &client);
    for (int round = 0; round < 2; round++) {
        client_text(&client, "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n");
        client_send(&client, body, sizeof(body));
        assert_true(client_read(&client, &answer, false));
        assert_int_equal(answer.body.len, sizeof(body));
        assert_source_bytes(buf_str(&answer.body), 0);
        answer_free(&answer);
    }
    assert_source_is_closed();
    client_close(&client);
}

/* The client takes the head and stops; what is between it and the source fills up. */
static void stall(struct client *client, uint64_t size)
{
    client_open(engine->port, client);
    get(client, "GET", "/source", size);
    for (uint64_t before = UINT64_MAX; before != source.bytes || before == 0; sleep_ms(50))
        before = source.bytes;
}

static void test_slow_clients_hold_no_worker(void **state)
{
    struct http_settings patient = settings;
    struct client slow[5];
    struct client client;
    struct answer answer;

    (void) state;
    assert_true(engine_drain(engine));
    patient.body_timeout_ms = 20000;
    assert_int_equal(start_with(&patient), 0);
    for (size_t i = 0; i < 5; i++)
        stall(&slow[i], 12 * MIB);
    assert_int_equal(source.reading, 0);
    client_open(engine->port, &client);
    client_text(&client, "GET /work HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_status(&client, 204);
    assert_get(&client, "/source", MIB);
    client_close(&client);
    for (size_t i = 0; i < 5; i++) {
        assert_true(client_read(&slow[i], &answer, false));
        assert_int_equal(answer.body.len, 12 * MIB);
        assert_source_bytes(buf_str(&answer.body), 0);
        answer_free(&answer);
        client_close(&slow[i]);
    }
    assert_source_is_closed();
}

static void test_cuts_a_client_that_does_not_read(void **state)
{
    struct client client;
    char bytes[65536];

    (void) state;
    stall(&client, 12 * MIB);
    assert_source_is_closed();
    while (recv(client.fd, bytes, sizeof(bytes), 0) > 0)
        ;
    client_close(&client);
}

static void test_a_slow_source_is_not_the_clients_fault(void **state)
{
    struct client client;

    (void) state;
    client_open(engine->port, &client);
    source.slow_ms = 1800; /* longer than body_timeout_ms */
    assert_get(&client, "/source", RING_BYTES + 1);
    source.slow_ms = 0;
    assert_get(&client, "/source", MIB);
    assert_source_is_closed();
    client_close(&client);
}

static bool source_is_reading(void)
{
    return source.reading == 1;
}

static bool source_has_read(void)
{
    return source.bytes > 0;
}

static bool nothing_is_active(void)
{
    return engine->requests_active == 0;
}

static void test_clients_vanish_at_every_stage(void **state)
{
    static const uint64_t holds[] = {0, 1, RING_BYTES / 2, RING_BYTES, 3 * RING_BYTES, 4 * MIB};
    struct client client;

    (void) state;
    for (size_t i = 0; i < sizeof(holds) / sizeof(holds[0]); i++) {
        /* While the source is being read, with the connection asleep or sending. */
        source_reset();
        source.hold_at = holds[i];
        client_open(engine->port, &client);
        get(&client, "GET", i % 2 ? "/fast" : "/source", 12 * MIB);
        for (uint64_t until = clock_monotonic_ms() + CLIENT_PATIENCE_MS;
             !source_is_reading() || source.bytes < holds[i];) {
            struct pollfd fd = {.fd = client.fd, .events = POLLIN};
            assert_true(clock_monotonic_ms() < until);
            if (poll(&fd, 1, 1) > 0)
                assert_true(client_more(&client));
        }
        client_close(&client);
        sleep_ms(20);
        source.go_on = true;
        assert_source_is_closed();
        wait_for(nothing_is_active);
    }
    /* Right after the request; with a full ring; after some of it. */
    source_reset();
    for (int i = 0; i < 30; i++) {
        client_open(engine->port, &client);
        get(&client, "GET", i % 2 ? "/fast" : "/source", 12 * MIB);
        if (i % 3 == 1)
            wait_for(source_has_read);
        for (int j = 0; i % 3 == 2 && j < i; j++)
            assert_true(client_more(&client));
        client_close(&client);
    }
    assert_source_is_closed();
    wait_for(nothing_is_active);
}

static void test_errors_cut_the_connection(void **state)
{
    static const uint64_t places[] = {0, 1, 1000, RING_BYTES / 2, RING_BYTES, 2 * MIB};
    struct client client;
    struct answer answer;

    (void) state;
    for (size_t i = 0; i < 2 * sizeof(places) / sizeof(places[0]); i++) {
        uint64_t place = places[i / 2];
        source_reset();
        *(i % 2 ? &source.fail_at : &source.end_at) = place;
        source.step = place % RING_BYTES == 0 ? 0 : place;
        client_open(engine->port, &client);
        get(&client, "GET", "/source", 3 * MIB);
        bool is_whole = client_read(&client, &answer, false);
        assert_true(is_whole == (place == 0));
        if (place == 0) { /* nothing was sent yet: an error like any other */
            assert_int_equal(answer.status, 500);
            assert_non_null(strstr(answer.body.ptr, "\"errors\""));
            assert_string_equal(answer_header(&answer, "Content-Type"), "application/json");
        } else {
            assert_int_equal(answer.status, 200);
            assert_int_equal(answer.body.len, place); /* all that was good, and nothing else */
            assert_source_bytes(buf_str(&answer.body), 0);
        }
        answer_free(&answer);
        client_close(&client);
        assert_source_is_closed();
        wait_for(nothing_is_active);
    }
}

/* The access log, to a file. */
static void test_logs_errors_with_the_request(void **state)
{
    struct http_settings logging = settings;
    struct client client;
    struct answer answer;
    char path[] = "/tmp/orlop-test-stream-XXXXXX";
    char text[8192] = "";
    int fd = mkstemp(path);
    int before = dup(STDERR_FILENO);

    (void) state;
    assert_true(fd >= 0 && before >= 0 && unlink(path) == 0);
    assert_true(engine_drain(engine));
    logging.access_log = true;
    assert_int_equal(start_with(&logging), 0);
    source.fail_at = 1000;
    source.step = 1000;
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    client_open(engine->port, &client);
    get(&client, "GET", "/source", MIB);
    assert_false(client_read(&client, &answer, false));
    answer_free(&answer);
    client_close(&client);
    wait_for(nothing_is_active);
    assert_int_equal(dup2(before, STDERR_FILENO), STDERR_FILENO);
    close(before);
    assert_true(pread(fd, text, sizeof(text) - 1, 0) > 0);
    close(fd);
    assert_non_null(strstr(text, "secret/object"));
    assert_non_null(strstr(text, "incomplete"));
    assert_null(strchr(strchr(text, '\n') + 1, '\n')); /* one line */
    assert_source_is_closed();
}

static void *drain_thread(void *arg)
{
    *(bool *) arg = engine_drain(engine);
    return NULL;
}

static void test_drains_streams_to_their_end(void **state)
{
    struct client client;
    struct answer answer;
    pthread_t thread;
    bool drained = false;

    (void) state;
    source.hold_at = 2 * MIB;
    client_open(engine->port, &client);
    get(&client, "GET", "/source", 3 * MIB);
    wait_for(source_has_read);
    assert_int_equal(pthread_create(&thread, NULL, drain_thread, &drained), 0);
    sleep_ms(400);
    source.go_on = true;
    assert_true(client_read(&client, &answer, false));
    assert_source_bytes(buf_str(&answer.body), 0);
    answer_free(&answer);
    pthread_join(thread, NULL);
    assert_true(drained);
    assert_source_is_closed();
    client_close(&client);
    assert_int_equal(start_with(&settings), 0);
}

/* Time is over: connections that wait for the source, for the client, and in a slow read are all ended. */
static void test_cuts_streams_in_flight(void **state)
{
    struct http_settings hasty = settings;
    struct client client;
    struct client stalled;
    pthread_t thread;
    bool drained = false;

    (void) state;
    assert_true(engine_drain(engine));
    hasty.drain_ms_max = 200;
    hasty.body_timeout_ms = 20000;
    assert_int_equal(start_with(&hasty), 0);
    stall(&stalled, 12 * MIB);
    source.hold_at = 0;
    client_open(engine->port, &client);
    get(&client, "GET", "/source", MIB);
    wait_for(source_is_reading);
    assert_int_equal(pthread_create(&thread, NULL, drain_thread, &drained), 0);
    sleep_ms(1000);
    source.go_on = true;
    pthread_join(thread, NULL);
    assert_true(drained);
    assert_source_is_closed();
    client_close(&client);
    client_close(&stalled);
    assert_int_equal(start_with(&settings), 0);
}

int main(void)
{
#define ENGINE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        ENGINE_TEST(test_streams_every_size),
        ENGINE_TEST(test_streams_in_tiny_pieces),
        ENGINE_TEST(test_streams_ranges_between_texts),
        ENGINE_TEST(test_reads_nothing_without_a_body),
        ENGINE_TEST(test_answers_a_streamed_body_with_a_stream),
        ENGINE_TEST(test_slow_clients_hold_no_worker),
        ENGINE_TEST(test_cuts_a_client_that_does_not_read),
        ENGINE_TEST(test_a_slow_source_is_not_the_clients_fault),
        ENGINE_TEST(test_clients_vanish_at_every_stage),
        ENGINE_TEST(test_errors_cut_the_connection),
        ENGINE_TEST(test_logs_errors_with_the_request),
        ENGINE_TEST(test_drains_streams_to_their_end),
        ENGINE_TEST(test_cuts_streams_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

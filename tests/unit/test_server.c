/* The engine over real sockets, with endpoints of its own: what it does with requests, whatever they ask for. */
#include "base/clock.h"
#include "http/engine.h"
#include "http_client.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define BUFFER_BYTES_MAX ((size_t) 1024 * 1024)

static struct engine *engine;

/* ---- endpoints ---- */

static _Atomic int runs, ends, gones;
static _Atomic bool gate; /* /gate waits until it is open */

static bool hello_fast(struct request *request)
{
    reply_status(request, 200);
    reply_header(request, "Content-Type", "text/plain");
    reply_body_shared(request, "hello", 5, NULL, NULL);
    return true;
}

static void hello_run(struct request *request)
{
    (void) hello_fast(request);
}

static void empty_run(struct request *request)
{
    reply_status(request, 204);
}

static void gate_run(struct request *request)
{
    runs++;
    while (!gate)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    (void) hello_fast(request);
}

static void fail_run(struct request *request)
{
    struct err err = ERR_INIT;
    (void) err_set_errno(&err, EIO, "reading secret/path");
    reply_error(request, &err);
}

static void headers_run(struct request *request)
{
    struct str value = request_header(request, "x-many");
    reply_status(request, 200);
    reply_body_text(request, value.ptr ? value.ptr : "none", value.ptr ? value.len : 4);
}

/* "0123456789" of a file, then "-text-", then "abc" of the same file; ?short=1 promises more than the file has. */
static void file_run(struct request *request)
{
    char path[] = "/tmp/orlop-test-server-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && unlink(path) == 0 && write(fd, "0123456789abc", 13) == 13);
    reply_status(request, 200);
    if (field_query_get(&request->query, "parts").ptr) {
        reply_body_file(request, fd, true, 0, 10);
        reply_body_text(request, "-text-", 6);
        reply_body_file(request, fd, false, 10, 3);
    } else {
        reply_body_file(request, fd, true, 0, field_query_get(&request->query, "short").ptr ? 100 : 13);
    }
}

static void buffer_run(struct request *request)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < request->body.len; i++)
        sum += (unsigned char) request->body.ptr[i];
    reply_status(request, 201);
    reply_headerf(request, "X-Sum", "%zu:%u", request->body.len, sum);
}

struct counted {
    uint64_t bytes;
    uint32_t sum;
};

static void stream_run(struct request *request)
{
    struct err err = ERR_INIT;
    runs++;
    if (field_query_get(&request->query, "refuse").ptr) {
        (void) err_set(&err, ERR_NAME_UNKNOWN, "no such name");
        reply_error(request, &err);
        return;
    }
    request->state = calloc(1, sizeof(struct counted));
    assert_non_null(request->state);
}

static void stream_body(struct request *request, const void *bytes, size_t len)
{
    struct counted *counted = request->state;
    struct err err = ERR_INIT;
    for (size_t i = 0; i < len; i++)
        counted->sum += ((const unsigned char *) bytes)[i];
    counted->bytes += len;
    if (field_query_get(&request->query, "slow").ptr)
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    if (!field_query_get(&request->query, "break").ptr)
        return;
    (void) err_set(&err, ERR_SIZE_INVALID, "too much");
    free(TAKE_PTR(request->state));
    reply_error(request, &err);
}

static void stream_end(struct request *request)
{
    struct counted *counted = request->state;
    ends++;
    reply_status(request, 201);
    reply_headerf(request, "X-Sum", "%llu:%u", (unsigned long long) counted->bytes, counted->sum);
    free(TAKE_PTR(request->state));
}

static void stream_gone(struct request *request)
{
    gones++;
    free(TAKE_PTR(request->state));
}

static const struct route {
    struct str path;
    struct endpoint endpoint;
} routes[] = {
    {{"/hello", 6}, {.name = "hello", .method = METHOD_GET, .fast = hello_fast, .run = hello_run}},
    {{"/work", 5}, {.name = "work", .method = METHOD_GET, .run = hello_run}},
    {{"/empty", 6}, {.name = "empty", .method = METHOD_GET, .run = empty_run}},
    {{"/gate", 5}, {.name = "gate", .method = METHOD_GET, .run = gate_run}},
    {{"/fail", 5}, {.name = "fail", .method = METHOD_GET, .run = fail_run}},
    {{"/headers", 8}, {.name = "headers", .method = METHOD_GET, .run = headers_run}},
    {{"/file", 5}, {.name = "file", .method = METHOD_GET, .run = file_run}},
    {{"/buffer", 7},
     {.name = "buffer",
      .method = METHOD_PUT,
      .body_kind = BODY_BUFFER,
      .body_bytes_max = BUFFER_BYTES_MAX,
      .run = buffer_run}},
    {{"/stream", 7},
     {.name = "stream",
      .method = METHOD_PUT,
      .body_kind = BODY_STREAM,
      .run = stream_run,
      .body = stream_body,
      .end = stream_end,
      .gone = stream_gone}},
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
                                              .workers = 4,
                                              .connections_max = 200,
                                              .jobs_waiting_max = 4,
                                              .header_bytes_max = 6 * 1024,
                                              .body_pipe_bytes = 64 * 1024,
                                              .buffered_bytes_max = BUFFER_BYTES_MAX + 100,
                                              .header_timeout_ms = 1500,
                                              .idle_timeout_ms = 3000,
                                              .body_timeout_ms = 1500,
                                              .body_bytes_per_second_min = 1000,
                                              .linger_ms_max = 2000,
                                              .drain_ms_max = 5000};

static int start_with(const struct http_settings *with)
{
    struct err err = ERR_INIT;
    runs = 0;
    ends = 0;
    gones = 0;
    gate = false;
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
    gate = true;
    return engine_drain(engine) ? 0 : -1;
}

/* ---- tests ---- */

static void test_keeps_connections_and_pipelines(void **state)
{
    struct client client;
    struct answer answer;
    char id[64];

    (void) state;
    client_open(engine->port, &client);
    client_text(&client, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\nGET /work?a=b HTTP/1.1\r\nHost: x\r\n\r\n"
                         "GET http://x/hello HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
                         "HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    for (int i = 0; i < 3; i++) {
        assert_true(client_read(&client, &answer, false));
        assert_int_equal(answer.status, 200);
        assert_string_equal(answer.body.ptr, "hello");
        assert_string_equal(answer_header(&answer, "Docker-Distribution-API-Version"), "registry/2.0");
        assert_string_not_equal(answer_header(&answer, "X-Request-Id"), id);
        (void) snprintf(id, sizeof(id), "%s", answer_header(&answer, "X-Request-Id"));
        answer_free(&answer);
    }
    assert_true(client_read(&client, &answer, false));
    assert_int_equal(answer.status, 404);
    assert_string_equal(answer_header(&answer, "Content-Type"), "application/json");
    assert_non_null(strstr(answer.body.ptr, "{\"errors\":[{\"code\":\"UNSUPPORTED\",\"message\":\"no such endpoint\""));
    answer_free(&answer);
    assert_true(client_read(&client, &answer, true));
    assert_string_equal(answer_header(&answer, "Content-Length"), "5");
    answer_free(&answer);
    client_text(&client, "GET /empty HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(client_read(&client, &answer, false));
    assert_int_equal(answer.status, 204);
    assert_string_equal(answer_header(&answer, "Content-Length"), "");
    answer_free(&answer);
    client_text(&client, "GET /hello HTTP/1.0\r\n\r\n");
    assert_status(&client, 200);
    assert_closed(&client);
    client_close(&client);
}

static void test_hides_details_of_errors(void **state)
{
    struct client client;
    struct answer answer;

    (void) state;
    client_open(engine->port, &client);
    client_text(&client, "GET /fail HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(client_read(&client, &answer, false));
    assert_int_equal(answer.status, 500);
    assert_null(strstr(answer.body.ptr, "secret"));
    assert_non_null(strstr(answer.body.ptr, answer_header(&answer, "X-Request-Id")));
    answer_free(&answer);
    client_close(&client);
}

static void test_joins_repeated_headers(void **state)
{
    struct client client;
    struct answer answer;

    (void) state;
    client_open(engine->port, &client);
    client_text(&client, "GET /headers HTTP/1.1\r\nHost: x\r\nX-Many: a\r\nOther: o\r\nx-many: b\r\nX-MANY:\r\n\r\n");
    assert_true(client_read(&client, &answer, false));
    assert_string_equal(answer.body.ptr, "a, b, ");
    answer_free(&answer);
    client_close(&client);
}

static void test_sends_files(void **state)
{
    struct client client;
    struct answer answer;

    (void) state;
    client_open(engine->port, &client);
    client_text(&client, "GET /file HTTP/1.1\r\nHost: x\r\n\r\nGET /file?parts=1 HTTP/1.1\r\nHost: x\r\n\r\n"
                         "HEAD /file?parts=1 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(client_read(&client, &answer, false));
    assert_string_equal(answer.body.ptr, "0123456789abc");
    answer_free(&answer);
    assert_true(client_read(&client, &answer, false));
    assert_string_equal(answer.body.ptr, "0123456789-text-abc");
    answer_free(&answer);
    assert_true(client_read(&client, &answer, true));
    assert_string_equal(answer_header(&answer, "Content-Length"), "19");
    answer_free(&answer);
    client_text(&client, "GET /file?short=1 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_false(client_read(&client, &answer, false));
    answer_free(&answer);
    client_close(&client);
}

static void pattern_fill(char *bytes, size_t len, uint32_t *sum)
{
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (char) (i * 7 + i / 1000);
        *sum += (unsigned char) bytes[i];
    }
}

/* Send len pattern bytes to target, with a length or in odd chunks, and check what the server counted. */
static void check_upload(struct client *client, const char *target, size_t len, bool chunked)
{
    struct answer answer;
    char text[256];
    uint32_t sum = 0;
    char *bytes = malloc(len + 1);

    assert_non_null(bytes);
    pattern_fill(bytes, len, &sum);
    if (chunked) {
        (void) snprintf(text, sizeof(text), "PUT %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", target);
        client_text(client, text);
        for (size_t at = 0, step = 1; at < len; at += step, step = step * 5 % 70001) {
            step = step < len - at ? step : len - at;
            (void) snprintf(text, sizeof(text), "%zx;x=y\r\n", step);
            client_text(client, text);
            client_send(client, bytes + at, step);
            client_text(client, "\r\n");
        }
        client_text(client, "0\r\nTrailer: ignored\r\n\r\n");
    } else {
        (void) snprintf(text, sizeof(text), "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", target, len);
        client_text(client, text);
        client_send(client, bytes, len);
    }
    free(bytes);
    assert_true(client_read(client, &answer, false));
    assert_int_equal(answer.status, 201);
    (void) snprintf(text, sizeof(text), "%zu:%u", len, sum);
    assert_string_equal(answer_header(&answer, "X-Sum"), text);
    answer_free(&answer);
}

static void test_streams_bodies(void **state)
{
    struct client client;

    (void) state;
    client_open(engine->port, &client);
    check_upload(&client, "/stream", 0, false);
    check_upload(&client, "/stream", 0, true);
    check_upload(&client, "/stream", 1, false);
    check_upload(&client, "/stream", 1, true);
    check_upload(&client, "/stream", 5 * 1000 * 1000, false);
    check_upload(&client, "/stream", 5 * 1000 * 1000, true);
    check_upload(&client, "/stream?slow=1", 3 * 1000 * 1000, false);
    check_upload(&client, "/stream?slow=1", 3 * 1000 * 1000, true);
    assert_int_equal(runs, 8);
    assert_int_equal(ends, 8);
    assert_int_equal(gones, 0);
    client_close(&client);
}

static void test_buffers_bodies(void **state)
{
    struct client client;
    struct answer answer;
    auto_buf text = BUF_INIT(4 * BUFFER_BYTES_MAX);

    (void) state;
    client_open(engine->port, &client);
    check_upload(&client, "/buffer", 0, false);
    check_upload(&client, "/buffer", 1000, true);
    check_upload(&client, "/buffer", BUFFER_BYTES_MAX, false);
    check_upload(&client, "/buffer", BUFFER_BYTES_MAX, true);
    /* One byte too many: little enough to be dropped, and the connection stays. */
    (void) buf_appendf(&text, "PUT /buffer HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", BUFFER_BYTES_MAX + 1);
    client_text(&client, text.ptr);
    assert_true(client_read(&client, &answer, false));
    assert_int_equal(answer.status, 413);
    assert_string_equal(answer_header(&answer, "Connection"), "close");
    answer_free(&answer);
    client_close(&client);

    client_open(engine->port, &client);
    buf_clear(&text);
    (void) buf_appendf(&text, "PUT /buffer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n",
                       BUFFER_BYTES_MAX + 1);
    client_text(&client, text.ptr);
    assert_true(buf_reserve(&text, BUFFER_BYTES_MAX + 1));
    client_send(&client, memset(text.ptr, 'x', BUFFER_BYTES_MAX + 1), BUFFER_BYTES_MAX + 1);
    assert_status(&client, 413);
    assert_closed(&client);
    client_close(&client);
}

static void test_waits_for_memory(void **state)
{
    static const char head[] = "PUT /buffer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
    static char body[1000000];
    struct client first;
    struct client second;

    (void) state;
    client_open(engine->port, &first);
    client_open(engine->port, &second);
    client_text(&first, head);
    client_send(&first, body, 500000);
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    client_text(&second, head);
    client_send(&second, body, 1000);
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    assert_int_equal(poll(&(struct pollfd){.fd = second.fd, .events = POLLIN}, 1, 0), 0);
    client_send(&first, body, 500000);
    assert_status(&first, 201);
    client_send(&second, body, 999000);
    assert_status(&second, 201);
    client_close(&first);
    client_close(&second);
}

static void test_drops_small_unwanted_bodies(void **state)
{
    struct client client;
    (void) state;
    client_open(engine->port, &client);
    client_text(&client, "PUT /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345");
    assert_status(&client, 404);
    client_text(&client, "PUT /stream?refuse=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345");
    assert_status(&client, 404);
    client_text(&client, "GET /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345");
    assert_status(&client, 200);
    client_text(&client, "GET /hello HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n");
    assert_status(&client, 200);
    assert_int_equal(gones, 0);
    client_text(&client, "GET /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n");
    assert_status(&client, 413);
    assert_closed(&client);
    client_close(&client);
}

/* Send for ever, until the answer can be read; the answer must not be lost to a reset. */
static void check_early_answer(const char *head, int status)
{
    static char body[64 * 1024];
    struct client client;
    struct answer answer;
    uint64_t until = clock_monotonic_ms() + CLIENT_PATIENCE_MS;

    client_open(engine->port, &client);
    client_text(&client, head);
    for (int after = 0; after < 20;) {
        struct pollfd fd = {.fd = client.fd, .events = POLLIN | POLLOUT};
        assert_true(clock_monotonic_ms() < until && poll(&fd, 1, CLIENT_PATIENCE_MS) == 1);
        if (fd.revents & POLLOUT)
            (void) !send(client.fd, body, sizeof(body), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (fd.revents & POLLIN)
            after++;
    }
    assert_true(client_read(&client, &answer, false));
    assert_int_equal(answer.status, status);
    assert_string_equal(answer_header(&answer, "Connection"), "close");
    assert_non_null(strstr(answer.body.ptr, "\"errors\""));
    answer_free(&answer);
    client_close(&client);
}

static void test_answers_while_the_client_sends(void **state)
{
    (void) state;
    check_early_answer("PUT /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n", 404);
    check_early_answer("PUT /stream?refuse=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n", 404);
    check_early_answer("PUT /stream?break=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n", 400);
    check_early_answer("PUT /stream?break=1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
                       400);
    check_early_answer("PUT /buffer HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n", 413);
    assert_int_equal(gones, 0);
}

static void test_answers_a_client_that_stalls(void **state)
{
    struct client client;
    (void) state;
    client_open(engine->port, &client);
    client_text(&client, "PUT /stream?break=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx");
    assert_status(&client, 400);
    client_close(&client);
}

static void test_expect_continue(void **state)
{
    struct client client;
    struct answer answer;

    (void) state;
    client_open(engine->port, &client);
    client_text(&client, "PUT /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_true(client_read(&client, &answer, true));
    assert_int_equal(answer.status, 100);
    answer_free(&answer);
    client_text(&client, "12345");
    assert_status(&client, 201);
    client_text(&client,
                "PUT /stream?refuse=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_status(&client, 404);
    assert_closed(&client);
    client_close(&client);
}

static bool one_gone(void)
{
    return gones == 1;
}

static void test_tells_when_the_client_is_gone(void **state)
{
    struct client client;
    (void) state;
    client_open(engine->port, &client);
    client_text(&client, "PUT /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n123");
    while (runs == 0)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    client_close(&client);
    wait_for(one_gone);
    assert_int_equal(ends, 0);
}

static void test_times_out_slow_bodies(void **state)
{
    struct client client;

    (void) state;
    client_open(engine->port, &client);
    client_text(&client, "PUT /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n123");
    assert_status(&client, 408); /* stalled */
    wait_for(one_gone);
    client_close(&client);

    client_open(engine->port, &client);
    client_text(&client, "PUT /buffer HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
    for (int i = 0; poll(&(struct pollfd){.fd = client.fd, .events = POLLIN}, 1, 100) == 0; i++) {
        assert_true(i < 100);
        client_text(&client, "x"); /* ten bytes a second */
    }
    assert_status(&client, 408);
    client_close(&client);
}

static void test_times_out_slow_heads_and_idle_connections(void **state)
{
    struct client client;

    (void) state;
    client_open(engine->port, &client);
    client_text(&client, "GET /hel");
    assert_status(&client, 408);
    client_close(&client);
    client_open(engine->port, &client);
    client_text(&client, "GET /hello HTTP/1.1\r\nX:");
    assert_status(&client, 408);
    client_close(&client);
    client_open(engine->port, &client);
    client_text(&client, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_status(&client, 200);
    assert_closed(&client);
    client_close(&client);
}

static bool four_run(void)
{
    return runs == 4;
}

static void test_refuses_work_when_too_much_waits(void **state)
{
    struct client waiting[8];
    struct client client;
    struct answer answer;

    (void) state;
    for (size_t i = 0; i < 8; i++) {
        client_open(engine->port, &waiting[i]);
        client_text(&waiting[i], "GET /gate HTTP/1.1\r\nHost: x\r\n\r\n");
        if (i == 3)
            wait_for(four_run);
    }
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    client_open(engine->port, &client);
    client_text(&client, "GET /work HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(client_read(&client, &answer, false));
    assert_int_equal(answer.status, 503);
    assert_string_equal(answer_header(&answer, "Retry-After"), "1");
    answer_free(&answer);
    assert_status(&client, 200); /* what needs no worker is still answered */
    gate = true;
    for (size_t i = 0; i < 8; i++) {
        assert_status(&waiting[i], 200);
        client_close(&waiting[i]);
    }
    client_close(&client);
}

static void *drain_thread(void *arg)
{
    *(bool *) arg = engine_drain(engine);
    return NULL;
}

static bool one_run(void)
{
    return runs == 1;
}

static void test_drains(void **state)
{
    struct client busy;
    struct client idle;
    struct answer answer;
    pthread_t thread;
    bool drained = false;

    (void) state;
    client_open(engine->port, &busy);
    client_open(engine->port, &idle);
    client_text(&idle, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_status(&idle, 200);
    client_text(&busy, "GET /gate HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_for(one_run);
    assert_int_equal(pthread_create(&thread, NULL, drain_thread, &drained), 0);
    assert_closed(&idle);
    gate = true;
    assert_true(client_read(&busy, &answer, false));
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer_header(&answer, "Connection"), "close");
    answer_free(&answer);
    pthread_join(thread, NULL);
    assert_true(drained);
    client_close(&busy);
    client_close(&idle);
    assert_int_equal(start_with(&settings), 0);
}

static void test_limits_connections_of_an_address(void **state)
{
    struct http_settings few = settings;
    struct client clients[3];

    (void) state;
    assert_true(engine_drain(engine));
    few.connections_per_address_max = 2;
    assert_int_equal(start_with(&few), 0);
    for (size_t i = 0; i < 3; i++) {
        client_open(engine->port, &clients[i]);
        if (i < 2) {
            client_text(&clients[i], "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_status(&clients[i], 200);
        }
    }
    assert_closed(&clients[2]);
    client_close(&clients[2]);
    client_close(&clients[0]);
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    client_open(engine->port, &clients[0]);
    client_text(&clients[0], "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_status(&clients[0], 200);
    client_close(&clients[0]);
    client_close(&clients[1]);
}

static void test_refuses_bad_settings(void **state)
{
    static const char *const wrong[] = {"", "5000", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", "::1:5000", "[::1]"};
    struct http_settings bad = settings;
    struct engine *none;

    (void) state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct err err = ERR_INIT;
        bad.listen = wrong[i];
        assert_int_equal(engine_start(&bad, NULL, NULL, NULL, test_route, &none, &err), ERR_INVALID);
    }
    struct err err = ERR_INIT;
    bad.listen = "127.0.0.1:0";
    bad.tls_certificate = "/nonexistent/cert.pem";
    bad.tls_key = "/nonexistent/key.pem";
    assert_int_equal(engine_start(&bad, NULL, NULL, NULL, test_route, &none, &err), ERR_INVALID);
}

int main(void)
{
#define ENGINE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        ENGINE_TEST(test_keeps_connections_and_pipelines),
        ENGINE_TEST(test_hides_details_of_errors),
        ENGINE_TEST(test_joins_repeated_headers),
        ENGINE_TEST(test_sends_files),
        ENGINE_TEST(test_streams_bodies),
        ENGINE_TEST(test_buffers_bodies),
        ENGINE_TEST(test_waits_for_memory),
        ENGINE_TEST(test_drops_small_unwanted_bodies),
        ENGINE_TEST(test_answers_while_the_client_sends),
        ENGINE_TEST(test_answers_a_client_that_stalls),
        ENGINE_TEST(test_expect_continue),
        ENGINE_TEST(test_tells_when_the_client_is_gone),
        ENGINE_TEST(test_times_out_slow_bodies),
        ENGINE_TEST(test_times_out_slow_heads_and_idle_connections),
        ENGINE_TEST(test_refuses_work_when_too_much_waits),
        ENGINE_TEST(test_drains),
        ENGINE_TEST(test_limits_connections_of_an_address),
        cmocka_unit_test(test_refuses_bad_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

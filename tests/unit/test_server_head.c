/* Heads of requests over real sockets: what is refused as unclear, and what is too much. */
#include "base/clock.h"
#include "http/engine.h"
#include "http_client.h"

#include <stdatomic.h>
#include <stdio.h>

static struct engine *engine;
static _Atomic int bodies; /* were taken */

static void hello_run(struct request *request)
{
    struct str value = request_header(request, "x");
    reply_status(request, 200);
    reply_body_text(request, value.ptr ? value.ptr : "none", value.ptr ? value.len : 4);
}

static void body_run(struct request *request)
{
    bodies++;
    reply_status(request, 201);
}

static const struct endpoint hello = {.name = "hello", .method = METHOD_GET, .run = hello_run};
static const struct endpoint body = {.name = "body",
                                     .method = METHOD_PUT,
                                     .body_kind = BODY_BUFFER,
                                     .body_bytes_max = 1000000,
                                     .run = body_run};

static enum err_code test_route(struct request *request, struct str path, char *storage, const char **out_allow,
                                struct err *err)
{
    (void) storage;
    *out_allow = NULL;
    request->endpoint = str_equal(path, STR("/body")) ? &body : &hello;
    return str_starts(path, STR("/")) ? ERR_OK : err_set(err, ERR_ROUTE_UNKNOWN, "no such endpoint");
}

static const struct http_settings settings = {.listen = "127.0.0.1:0",
                                              .network_threads = 2,
                                              .workers = 2,
                                              .connections_max = 200,
                                              .jobs_waiting_max = 4,
                                              .header_bytes_max = 6 * 1024,
                                              .body_pipe_bytes = 64 * 1024,
                                              .buffered_bytes_max = 2000000,
                                              .header_timeout_ms = 1500,
                                              .idle_timeout_ms = 3000,
                                              .body_timeout_ms = 1500,
                                              .body_bytes_per_second_min = 1000,
                                              .linger_ms_max = 2000,
                                              .drain_ms_max = 5000};

static int setup(void **state)
{
    struct err err = ERR_INIT;
    (void) state;
    bodies = 0;
    return engine_start(&settings, NULL, NULL, NULL, test_route, &engine, &err) == ERR_OK ? 0 : -1;
}

static int setup_large(void **state)
{
    struct http_settings large = settings;
    struct err err = ERR_INIT;
    (void) state;
    large.header_bytes_max = (uint64_t) 32 * 1024;
    return engine_start(&large, NULL, NULL, NULL, test_route, &engine, &err) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void) state;
    return engine_drain(engine) ? 0 : -1;
}

static void test_refuses_unclear_framing(void **state)
{
    static const char *const heads[] = {
        "PUT /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "PUT /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n12345",
        "PUT /body HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n12345",
        "PUT /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\n12345",
        "PUT /body HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n12345",
        "PUT /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5x\r\n\r\n12345",
        "PUT /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "PUT /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        "PUT /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "PUT /body HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "PUT /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\nBad Name: 5\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n",
        "GET /hello HTTP/1.1\r\n\r\n",
        "GET /hello?a=%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    };

    (void) state;
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        struct client client;
        print_message("%s\n", heads[i]);
        client_open(engine->port, &client);
        client_text(&client, heads[i]);
        assert_status(&client, 400);
        client_close(&client);
    }
    assert_int_equal(bodies, 0);
}

static void test_bounds_heads(void **state)
{
    struct client client;
    auto_buf text = BUF_INIT(1024 * 1024);

    (void) state;
    /* More than the connection's memory holds: the library's own answer, and no reset before it is read. */
    (void) buf_append_text(&text, "GET /hello HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 10000; i++)
        (void) buf_appendf(&text, "X-%d: %d\r\n", i, i);
    (void) buf_append_text(&text, "\r\n");
    client_open(engine->port, &client);
    client_send(&client, text.ptr, text.len);
    assert_status(&client, 431);
    assert_closed(&client);
    client_close(&client);

    buf_clear(&text);
    (void) buf_append_text(&text, "GET /hello HTTP/1.1\r\nHost: x\r\nX: ");
    for (int i = 0; i < 6 * 1024; i++)
        (void) buf_append_char(&text, 'x');
    (void) buf_append_text(&text, "\r\n\r\n");
    client_open(engine->port, &client);
    client_send(&client, text.ptr, text.len);
    assert_status(&client, 431);
    client_close(&client);
}

static void test_refuses_unclear_lines(void **state)
{
#define HEAD(text)                                   \
    {                                                \
        text "\r\n\r\n", sizeof(text "\r\n\r\n") - 1 \
    }
    static const struct str heads[] = {
        HEAD("GET / HTTP/1.1\r\nHost: x\r\n: x"),
        HEAD("GET / HTTP/1.1\r\n: x\r\nHost: x"),
        HEAD("GET / HTTP/1.1\r\nHost: x\r\n: x\r\nContent-Length: 5"),
        HEAD("GET / HTTP/1.1\r\nHost: x\r\n:"),
        HEAD("GET / HTTP/1.1\r\nHost: x\r\nX : x"),
        HEAD("GET / HTTP/1.1\r\nHost: x\r\nX\t: x"),
        HEAD("GET / HTTP/1.1\r\n X: x\r\nHost: x"),
        HEAD("GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b"),
        HEAD("GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n\tb\r\n\tc\r\nY: d"),
        HEAD("GET / HTTP/1.1\r\nHost: x\r\nContent-Len: 5\r\n gth"),
        HEAD("GET / HTTP/1.1\r\nHost: x\r\nX: a\0b"),
        HEAD("GET / HTTP/1.1\r\nHost: x\r\nX: a\0\0"),
        HEAD("GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\nY: c"),
        HEAD("GET / HTTP/1.1\r\nHost: x\r\nX\0Y: a"),
        HEAD("GET / HTTP/1.1\r\nHost: x\r\n\0X: a"),
        HEAD("GET / HTTP/1.1\r\nHost: x\r\nX: a\rY: b"),
        HEAD("GET / HTTP/1.1\r\nHost: x\r\nX: a\r\r"),
        HEAD("GET / HTTP/1.1\r\nHost: x\nX: a"),
        HEAD("GET / HTTP/1.1\nHost: x"),
        HEAD("GET /\0/../x HTTP/1.1\r\nHost: x"),
        HEAD("GET /\r/x HTTP/1.1\r\nHost: x"),
        HEAD("GET /\tx HTTP/1.1\r\nHost: x"),
        HEAD("GET /?a=\0b HTTP/1.1\r\nHost: x"),
        HEAD("GET /\0?a=b&c=d HTTP/1.1\r\nHost: x"),
    };

    (void) state;
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        struct client client;
        print_message("%zu\n", i);
        client_open(engine->port, &client);
        client_send(&client, heads[i].ptr, heads[i].len);
        assert_status(&client, 400);
        assert_closed(&client);
        client_close(&client);
    }
}

static void test_takes_clear_lines(void **state)
{
    static const struct {
        const char *head;
        const char *value;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n\r\n", "a"},
        {"GET / HTTP/1.1\r\nHost:x\r\nX:a\r\nY:\r\n\r\n", "a"},
        {"GET / HTTP/1.1\r\nHost: x\r\nX: \t a b\tc\r\n\r\n", "a b\tc"},
        {"GET /?a&b=c HTTP/1.1\r\nHost:\r\nX:\r\n\r\n", ""},
        {"\r\nGET /?a&b=c HTTP/1.1\r\nHost: x\r\nX: \xff\r\n\r\n", "\xff"},
        {"GET / HTTP/1.1\r\nHost: x\r\nCookie: a=b; c=d\r\nX: 1\r\nx: 2\r\n\r\n", "1, 2"},
        {"GET / HTTP/1.0\r\n\r\n", "none"},
    };
    struct client client;
    struct answer answer;

    (void) state;
    client_open(engine->port, &client);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        client_text(&client, cases[i].head);
        assert_true(client_read(&client, &answer, false));
        assert_int_equal(answer.status, 200);
        assert_int_equal(answer.body.len, strlen(cases[i].value));
        assert_memory_equal(answer.body.len > 0 ? answer.body.ptr : "", cases[i].value, answer.body.len);
        answer_free(&answer);
    }
    assert_closed(&client);
    client_close(&client);
}

/* "method target HTTP/1.1" with so many parameters, and a body. */
static void send_parameters(struct client *client, const char *method, const char *target, unsigned count, size_t len)
{
    auto_buf text = BUF_INIT(1024 * 1024);

    (void) buf_appendf(&text, "%s %s?", method, target);
    for (unsigned i = 0; i < count; i++)
        (void) buf_appendf(&text, "&tag=v%u", i);
    (void) buf_appendf(&text, " HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", len);
    for (size_t i = 0; i < len; i++)
        (void) buf_append_char(&text, 'x');
    client_send(client, text.ptr, text.len);
}

static void test_long_request_lines(void **state)
{
    static const unsigned counts[] = {0, 64, 65, 300, 500, 1000, 3000, 5000};
    static const size_t bodies_len[] = {0, 400, 30000, 200000};
    struct client client;
    struct answer answer;

    (void) state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        for (size_t j = 0; j < sizeof(bodies_len) / sizeof(bodies_len[0]); j++) {
            client_open(engine->port, &client);
            send_parameters(&client, "PUT", "/body", counts[i], bodies_len[j]);
            assert_true(client_read(&client, &answer, false));
            if (counts[i] <= 64)
                assert_int_equal(answer.status, 201);
            else if (counts[i] < 3000)
                assert_int_equal(answer.status, 414);
            else
                assert_true(answer.status == 414 || answer.status == 431);
            answer_free(&answer);
            client_close(&client);
        }
    }
}

static bool nothing_is_active(void)
{
    return engine->requests_active == 0;
}

/* The library drops these without telling; the request must be over all the same. */
static void test_forgets_no_request(void **state)
{
    auto_buf text = BUF_INIT(1024 * 1024);
    struct client client;

    (void) state;
    (void) buf_append(&text, "PUT /\0?", 7);
    for (unsigned i = 0; i < 3000; i++)
        (void) buf_appendf(&text, "&tag=v%u", i);
    (void) buf_append_text(&text, " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    client_open(engine->port, &client);
    client_send(&client, text.ptr, text.len);
    assert_closed(&client);
    client_close(&client);

    buf_clear(&text);
    (void) buf_append_text(&text, "PUT /body HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nCookie: ");
    for (unsigned i = 0; i < 2000; i++)
        (void) buf_appendf(&text, "c%u=v; ", i);
    (void) buf_append_text(&text, "\r\n\r\n");
    client_open(engine->port, &client);
    client_send(&client, text.ptr, text.len);
    while (client_more(&client))
        ;
    client_close(&client);
    wait_for(nothing_is_active);
}

int main(void)
{
#define ENGINE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        ENGINE_TEST(test_refuses_unclear_framing),
        ENGINE_TEST(test_refuses_unclear_lines),
        ENGINE_TEST(test_takes_clear_lines),
        ENGINE_TEST(test_bounds_heads),
        cmocka_unit_test_setup_teardown(test_long_request_lines, setup_large, teardown),
        cmocka_unit_test_setup_teardown(test_forgets_no_request, setup_large, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

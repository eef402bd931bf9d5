#include "store/s3_http.h"

#include "base/clock.h"
#include "fake_http.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static const struct s3_http_settings settings = {.connections_max = 4,
                                                 .wait_timeout_ms = 200,
                                                 .connect_timeout_ms = 2000,
                                                 .stall_timeout_ms = 1000};

static struct s3_http *open_http(void)
{
    struct err err = ERR_INIT;
    struct s3_http *http;
    assert_int_equal(s3_http_open(&settings, &http, &err), ERR_OK);
    return http;
}

static enum err_code get(struct s3_http *http, const char *url, struct s3_http_answer *answer, struct buf *out,
                         enum s3_http_fate *fate, struct err *err)
{
    const struct s3_http_request request = {.method = "GET", .url = url};
    buf_clear(out);
    return s3_http_exchange_all(http, &request, answer, out, fate, err);
}

static void test_head_of_an_answer(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {
        {.status = "206 Partial Content",
         .headers = "ETag: \"abc\"\r\nContent-Range: bytes 5-9/1234\r\nDate: Wed, 21 Oct 2015 07:28:00 GMT\r\n"
                    "Last-Modified: Wed, 21 Oct 2015 07:27:00 GMT\r\nRetry-After: Wed, 21 Oct 2015 07:28:07 GMT\r\n"
                    "Location: http://elsewhere/\r\nX-Amz-Request-Id:  tx1 \r\nX-Amz-Meta-Orlop-Nonce: n\r\n",
         .body = "hello"},
        {.status = "503 Slow", .headers = "Retry-After: 3\r\nContent-Range: bytes */77\r\n"},
        {.status = "100 Continue\r\n\r\nHTTP/1.1 200 OK"},
    };
    struct fake *fake = fake_start(steps, LENGTH(steps));
    struct s3_http *http = open_http();
    struct err err = ERR_INIT;
    struct s3_http_answer answer;
    enum s3_http_fate fate;
    auto_buf out = BUF_INIT(100);

    assert_int_equal(get(http, fake->url, &answer, &out, &fate, &err), ERR_OK);
    assert_int_equal(answer.status, 206);
    assert_string_equal(out.ptr, "hello");
    assert_string_equal(answer.etag, "\"abc\"");
    assert_int_equal(answer.content_length, 5);
    assert_int_equal(answer.range_first, 5);
    assert_int_equal(answer.range_total, 1234);
    assert_int_equal(answer.date_ms, 1445412480000);
    assert_int_equal(answer.last_modified_ms, 1445412420000);
    assert_int_equal(answer.retry_after_ms, 7000);
    assert_string_equal(answer.location, "http://elsewhere/");
    assert_true(str_equal(s3_http_amz(&answer, "x-amz-request-id"), STR("tx1")));
    assert_true(str_equal(s3_http_amz(&answer, "x-amz-meta-orlop-nonce"), STR("n")));
    assert_int_equal(s3_http_amz(&answer, "x-amz-meta").len, 0);

    assert_int_equal(get(http, fake->url, &answer, &out, &fate, &err), ERR_OK);
    assert_int_equal(answer.status, 503);
    assert_int_equal(answer.retry_after_ms, 3000);
    assert_int_equal(answer.range_total, 77);
    assert_true(answer.range_first == S3_HTTP_UNKNOWN);
    assert_string_equal(answer.etag, "");

    assert_int_equal(get(http, fake->url, &answer, &out, &fate, &err), ERR_OK);
    assert_int_equal(answer.status, 200);
    assert_int_equal(fake_connection_count(fake), 1);
    s3_http_close(http);
    fake_stop(fake);
}

static void test_what_is_sent(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {{.status = "200 OK"},
                                             {.status = "200 OK"},
                                             {.status = "200 OK"},
                                             {.status = "204 No Content"},
                                             {.status = "200 OK", .headers = "Content-Length: 12345\r\n"},
                                             {.status = "200 OK", .body = "x"}};
    struct fake *fake = fake_start(steps, LENGTH(steps));
    struct s3_http *http = open_http();
    struct err err = ERR_INIT;
    struct s3_http_answer answer;
    enum s3_http_fate fate;
    char url[256];
    auto_buf out = BUF_INIT(100);

    /* spans of every kind, together longer than any buffer on the way */
    size_t big_bytes = 5 * 1024 * 1024 + 3;
    auto_mem char *big = malloc(big_bytes);
    memset(big, 'b', big_bytes);
    const struct str spans[] = {STR("head"), {NULL, 0}, {big, big_bytes}, STR("tail")};
    const struct s3_param headers[] = {{"x-one", "1"}, {"x-empty", ""}};
    (void) snprintf(url, sizeof(url), "%s/a//b/../c%%20d?x=%%2F&y=", fake->url);
    const struct s3_http_request put = {.method = "PUT",
                                        .url = url,
                                        .headers = headers,
                                        .header_count = LENGTH(headers),
                                        .body = spans,
                                        .body_count = LENGTH(spans)};
    assert_int_equal(s3_http_exchange_all(http, &put, &answer, &out, &fate, &err), ERR_OK);
    const struct fake_request *seen = fake_request(fake, 0);
    assert_non_null(strstr(seen->head, "PUT /a//b/../c%20d?x=%2F&y= HTTP/1.1\r\n"));
    assert_string_equal(fake_header(seen, "x-one"), "1");
    assert_string_equal(fake_header(seen, "x-empty"), "");
    assert_null(fake_header(seen, "expect"));
    assert_null(fake_header(seen, "transfer-encoding"));
    assert_null(fake_header(seen, "content-type"));
    assert_int_equal(seen->body.len, big_bytes + 8);
    assert_memory_equal(seen->body.ptr, "headb", 5);
    assert_memory_equal(seen->body.ptr + big_bytes + 3, "btail", 5);

    const struct s3_http_request empty = {.method = "PUT", .url = url};
    assert_int_equal(s3_http_exchange_all(http, &empty, &answer, &out, &fate, &err), ERR_OK);
    assert_string_equal(fake_header(fake_request(fake, 1), "content-length"), "0");

    const struct s3_http_request post = {.method = "POST", .url = url, .body = spans, .body_count = 1};
    assert_int_equal(s3_http_exchange_all(http, &post, &answer, &out, &fate, &err), ERR_OK);
    assert_non_null(strstr(fake_request(fake, 2)->head, "POST "));
    assert_null(fake_header(fake_request(fake, 2), "content-type"));
    assert_string_equal(fake_request(fake, 2)->body.ptr, "head");

    const struct s3_http_request del = {.method = "DELETE", .url = url};
    assert_int_equal(s3_http_exchange_all(http, &del, &answer, &out, &fate, &err), ERR_OK);
    assert_non_null(strstr(fake_request(fake, 3)->head, "DELETE "));

    const struct s3_http_request head = {.method = "HEAD", .url = url};
    assert_int_equal(s3_http_exchange_all(http, &head, &answer, &out, &fate, &err), ERR_OK);
    assert_int_equal(answer.content_length, 12345);
    assert_int_equal(out.len, 0);

    assert_int_equal(get(http, url, &answer, &out, &fate, &err), ERR_OK);
    assert_int_equal(fake_connection_count(fake), 1);
    s3_http_close(http);
    fake_stop(fake);
}

static void test_body_is_pulled(void **state)
{
    (void) state;
    size_t bytes = 3 * 1024 * 1024 + 7;
    auto_mem char *body = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        body[i] = (char) (i * 2654435761U >> 13);
    const struct fake_step steps[] = {{.status = "200 OK", .body = body, .body_bytes = bytes},
                                      {.status = "200 OK", .body = body, .body_bytes = bytes},
                                      {.status = "200 OK", .body = body, .body_bytes = bytes},
                                      {.status = "200 OK", .body = body, .body_bytes = 5000},
                                      {.status = "200 OK"}};
    struct fake *fake = fake_start(steps, LENGTH(steps));
    struct s3_http *http = open_http();
    struct err err = ERR_INIT;
    struct s3_http_answer answer;
    struct s3_http_exchange *exchange;
    enum s3_http_fate fate;
    const struct s3_http_request request = {.method = "GET", .url = fake->url};
    static const size_t steps_of_reading[] = {1000, 300000};
    auto_mem char *got = malloc(bytes);

    for (size_t i = 0; i < LENGTH(steps_of_reading); i++) {
        size_t total = 0, len;
        assert_int_equal(s3_http_begin(http, &request, &answer, &exchange, &fate, &err), ERR_OK);
        assert_int_equal(fate, S3_HTTP_ANSWERED);
        do {
            size_t room = bytes - total < steps_of_reading[i] ? bytes - total : steps_of_reading[i];
            char end;
            assert_int_equal(s3_http_read(exchange, room ? got + total : &end, room ? room : 1, &len, &err), ERR_OK);
            total += len;
        } while (len > 0);
        assert_int_equal(total, bytes);
        assert_memory_equal(got, body, bytes);
        s3_http_end(exchange);
    }
    assert_int_equal(fake_connection_count(fake), 1);

    /* A slow reader is not timed; a long body left unread costs the connection, a short one does not. */
    size_t len;
    assert_int_equal(s3_http_begin(http, &request, &answer, &exchange, &fate, &err), ERR_OK);
    assert_int_equal(s3_http_read(exchange, got, 100, &len, &err), ERR_OK);
    fake_sleep_ms(settings.stall_timeout_ms + 100);
    assert_int_equal(s3_http_read(exchange, got, 100, &len, &err), ERR_OK);
    assert_true(len > 0);
    s3_http_end(exchange);
    assert_int_equal(s3_http_begin(http, &request, &answer, &exchange, &fate, &err), ERR_OK);
    fake_sleep_ms(50);
    s3_http_end(exchange);
    assert_int_equal(s3_http_begin(http, &request, &answer, &exchange, &fate, &err), ERR_OK);
    s3_http_end(exchange);
    assert_int_equal(fake_connection_count(fake), 2);
    s3_http_close(http);
    fake_stop(fake);
}

static void test_body_over_the_limit(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {{.status = "200 OK", .body = "0123456789"},
                                             {.status = "200 OK", .body = "0123456789"}};
    struct fake *fake = fake_start(steps, LENGTH(steps));
    struct s3_http *http = open_http();
    struct err err = ERR_INIT;
    struct s3_http_answer answer;
    enum s3_http_fate fate;
    auto_buf fits = BUF_INIT(10);
    auto_buf small = BUF_INIT(9);
    assert_int_equal(get(http, fake->url, &answer, &fits, &fate, &err), ERR_OK);
    assert_int_equal(fits.len, 10);
    assert_int_equal(get(http, fake->url, &answer, &small, &fate, &err), ERR_LIMIT);
    s3_http_close(http);
    fake_stop(fake);
}

static void test_failures(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {
        {.how = FAKE_RESET},
        {.how = FAKE_CUT, .status = "200 OK", .body = "0123456789", .sent_bytes = 4},
        {.how = FAKE_SILENCE},
        {.how = FAKE_SILENCE},
        {.status = "200 OK", .body = "late", .delay_ms = 600},
        {.status = "nonsense"},
    };
    struct fake *fake = fake_start(steps, LENGTH(steps));
    struct s3_http *http = open_http();
    struct err err = ERR_INIT;
    struct s3_http_answer answer;
    enum s3_http_fate fate;
    auto_buf out = BUF_INIT(100);

    assert_int_equal(get(http, fake->url, &answer, &out, &fate, &err), ERR_UPSTREAM);
    assert_int_equal(fate, S3_HTTP_AMBIGUOUS);
    assert_true(err.detail[0] != '\0');
    assert_int_equal(get(http, fake->url, &answer, &out, &fate, &err), ERR_UPSTREAM);
    assert_int_equal(fate, S3_HTTP_ANSWERED);
    assert_int_equal(answer.status, 200);
    assert_string_equal(out.ptr, "0123");

    uint64_t begun = clock_monotonic_ms();
    assert_int_equal(get(http, fake->url, &answer, &out, &fate, &err), ERR_TIMEOUT);
    assert_int_equal(fate, S3_HTTP_AMBIGUOUS);
    assert_in_range(clock_monotonic_ms() - begun, settings.stall_timeout_ms, settings.stall_timeout_ms + 5000);

    /* With a limit of its own a request is not held to the stall timeout: shorter … */
    struct s3_http_request request = {.method = "GET", .url = fake->url, .timeout_ms = 100};
    begun = clock_monotonic_ms();
    assert_int_equal(s3_http_exchange_all(http, &request, &answer, &out, &fate, &err), ERR_TIMEOUT);
    assert_in_range(clock_monotonic_ms() - begun, 100, settings.stall_timeout_ms - 50);
    /* … or longer. */
    request.timeout_ms = 5000;
    assert_int_equal(s3_http_exchange_all(http, &request, &answer, &out, &fate, &err), ERR_OK);
    assert_int_equal(get(http, fake->url, &answer, &out, &fate, &err), ERR_UPSTREAM);
    s3_http_close(http);
    fake_stop(fake);
}

static void test_no_server(void **state)
{
    (void) state;
    struct fake *fake = fake_start(NULL, 0);
    char url[64];
    memcpy(url, fake->url, sizeof(url));
    fake_stop(fake);
    struct s3_http *http = open_http();
    struct err err = ERR_INIT;
    struct s3_http_answer answer;
    enum s3_http_fate fate;
    auto_buf out = BUF_INIT(100);
    assert_int_equal(get(http, url, &answer, &out, &fate, &err), ERR_STORE_GONE);
    assert_int_equal(fate, S3_HTTP_NOT_SENT);
    assert_int_equal(answer.status, 0);
    assert_int_equal(get(http, "ftp://127.0.0.1/", &answer, &out, &fate, &err), ERR_STORE_GONE);
    s3_http_close(http);
}

/* A kept connection that the server has closed: the request is sent at most once, whatever is found out when. */
static void test_dead_connection_is_not_resent_on(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {{.status = "200 OK"},
                                             {.how = FAKE_RESET},
                                             {.status = "200 OK"},
                                             {.how = FAKE_ANSWER_AND_CLOSE, .status = "200 OK"},
                                             {.status = "200 OK"}};
    struct fake *fake = fake_start(steps, LENGTH(steps));
    struct s3_http *http = open_http();
    struct err err = ERR_INIT;
    struct s3_http_answer answer;
    enum s3_http_fate fate;
    auto_buf out = BUF_INIT(100);
    const struct s3_http_request put = {.method = "PUT", .url = fake->url};
    assert_int_equal(s3_http_exchange_all(http, &put, &answer, &out, &fate, &err), ERR_OK);
    /* Reset on a reused connection, before a byte of an answer: libcurl itself would send again. */
    assert_int_equal(s3_http_exchange_all(http, &put, &answer, &out, &fate, &err), ERR_UPSTREAM);
    assert_int_equal(fate, S3_HTTP_AMBIGUOUS);
    assert_int_equal(fake_request_count(fake), 2);
    assert_int_equal(s3_http_exchange_all(http, &put, &answer, &out, &fate, &err), ERR_OK);
    assert_int_equal(s3_http_exchange_all(http, &put, &answer, &out, &fate, &err), ERR_OK);
    fake_sleep_ms(50);
    assert_int_equal(s3_http_exchange_all(http, &put, &answer, &out, &fate, &err), ERR_OK);
    assert_int_equal(fake_request_count(fake), 5);
    s3_http_close(http);
    fake_stop(fake);
}

static void test_pool_is_bounded(void **state)
{
    (void) state;
    struct fake_step steps[16];
    for (size_t i = 0; i < LENGTH(steps); i++)
        steps[i] = (struct fake_step){.status = "200 OK", .body = "body"};
    struct fake *fake = fake_start(steps, LENGTH(steps));
    struct s3_http *http = open_http();
    struct err err = ERR_INIT;
    struct s3_http_answer answer;
    struct s3_http_exchange *exchanges[4], *fifth;
    enum s3_http_fate fate;
    const struct s3_http_request request = {.method = "GET", .url = fake->url};
    for (size_t i = 0; i < LENGTH(exchanges); i++)
        assert_int_equal(s3_http_begin(http, &request, &answer, &exchanges[i], &fate, &err), ERR_OK);
    uint64_t begun = clock_monotonic_ms();
    assert_int_equal(s3_http_begin(http, &request, &answer, &fifth, &fate, &err), ERR_BUSY);
    assert_int_equal(fate, S3_HTTP_NOT_SENT);
    assert_in_range(clock_monotonic_ms() - begun, settings.wait_timeout_ms, settings.wait_timeout_ms + 5000);
    for (size_t i = 0; i < LENGTH(exchanges); i++) {
        size_t len;
        char body[8];
        assert_int_equal(s3_http_read(exchanges[i], body, sizeof(body), &len, &err), ERR_OK);
        assert_int_equal(len, 4);
        s3_http_end(exchanges[i]);
    }
    assert_int_equal(s3_http_begin(http, &request, &answer, &fifth, &fate, &err), ERR_OK);
    s3_http_end(fifth);
    assert_int_equal(fake_connection_count(fake), 4);
    s3_http_close(http);
    fake_stop(fake);
}

struct runner {
    struct s3_http *http;
    const char *url;
    unsigned good;
};

static void *run_gets(void *arg)
{
    struct runner *runner = arg;
    auto_buf out = BUF_INIT(100);
    for (int i = 0; i < 5; i++) {
        struct err err = ERR_INIT;
        struct s3_http_answer answer;
        enum s3_http_fate fate;
        runner->good += get(runner->http, runner->url, &answer, &out, &fate, &err) == ERR_OK && out.len == 4;
    }
    return NULL;
}

static void test_threads_share_the_pool(void **state)
{
    (void) state;
    struct fake_step steps[40];
    for (size_t i = 0; i < LENGTH(steps); i++)
        steps[i] = (struct fake_step){.status = "200 OK", .body = "body", .delay_ms = 5};
    struct fake *fake = fake_start(steps, LENGTH(steps));
    struct s3_http *http = open_http();
    struct runner runners[8];
    pthread_t threads[LENGTH(runners)];
    unsigned good = 0;
    for (size_t i = 0; i < LENGTH(runners); i++) {
        runners[i] = (struct runner){http, fake->url, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, run_gets, &runners[i]), 0);
    }
    for (size_t i = 0; i < LENGTH(runners); i++) {
        pthread_join(threads[i], NULL);
        good += runners[i].good;
    }
    assert_int_equal(good, LENGTH(steps));
    assert_true(fake_connection_count(fake) <= settings.connections_max);
    s3_http_close(http);
    fake_stop(fake);
}

static void test_ca_file_must_be_there(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct s3_http *http;
    struct s3_http_settings other = settings;
    other.ca_file = "/nonexistent/ca.pem";
    assert_int_equal(s3_http_open(&other, &http, &err), ERR_INVALID);
    assert_non_null(strstr(err.detail, "/nonexistent/ca.pem"));
}

static void test_dates(void **state)
{
    (void) state;
    uint64_t ms;
    assert_true(s3_http_parse_date(STR("Sun, 06 Nov 1994 08:49:37 GMT"), &ms));
    assert_int_equal(ms, 784111777000);
    assert_false(s3_http_parse_date(STR("yesterday or so"), &ms));
    assert_false(s3_http_parse_date(STR(""), &ms));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_of_an_answer),
        cmocka_unit_test(test_what_is_sent),
        cmocka_unit_test(test_body_is_pulled),
        cmocka_unit_test(test_body_over_the_limit),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_no_server),
        cmocka_unit_test(test_dead_connection_is_not_resent_on),
        cmocka_unit_test(test_pool_is_bounded),
        cmocka_unit_test(test_threads_share_the_pool),
        cmocka_unit_test(test_ca_file_must_be_there),
        cmocka_unit_test(test_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "store/s3_client.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "fake_http.h"
#include "store/s3_verdict.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define NONCE "0123456789abcdef0123456789abcdef"
#define ERROR_XML(code) "<Error><Code>" code "</Code><Message>said so</Message><RequestId>tx9</RequestId></Error>"
#define SLOW_DOWN                                                \
    {                                                            \
        .status = "503 Slow Down", .body = ERROR_XML("SlowDown") \
    }
#define OK                                               \
    {                                                    \
        .status = "200 OK", .headers = "ETag: \"e\"\r\n" \
    }

#define TIMEOUT_MS 1500 /* nothing but a step that stalls takes so long, on a busy machine either */

/* A client of a scripted store. */
struct world {
    struct fake *fake;
    struct s3_credentials *credentials;
    struct s3_client *client;
    struct s3_answer answer;
    struct err err;
};

static struct s3_client_settings test_settings(void)
{
    struct s3_client_settings settings = S3_CLIENT_DEFAULTS;
    settings.connections_max = 4;
    settings.stall_timeout_ms = TIMEOUT_MS;
    settings.request_timeout_ms = TIMEOUT_MS;
    settings.backoff_first_ms = 2;
    settings.backoff_max_ms = 10;
    return settings;
}

static struct world *world_open_with(const struct fake_step *steps, size_t count, struct s3_client_settings settings)
{
    static const struct s3_keys keys = {.access_key_id = "AKID", .secret_access_key = "secret"};
    struct world *world = calloc(1, sizeof(*world));
    struct s3_config config = {.profile = "default"};
    struct s3_target target;
    world->fake = fake_start(steps, count);
    const struct s3_target_settings where = {.url = "s3://bucket/pre", .endpoint_url = world->fake->url};
    assert_int_equal(s3_target_parse(&where, &target, &world->err), ERR_OK);
    assert_int_equal(s3_credentials_open(&config, &keys, NULL, &world->credentials, &world->err), ERR_OK);
    settings.target = &target;
    settings.credentials = world->credentials;
    assert_int_equal(s3_client_open(&settings, &world->client, &world->err), ERR_OK);
    return world;
}

static struct world *world_open(const struct fake_step *steps, size_t count)
{
    return world_open_with(steps, count, test_settings());
}

static void world_close(struct world *world)
{
    s3_client_close(world->client);
    s3_credentials_close(world->credentials);
    fake_stop(world->fake);
    free(world);
}

static enum err_code world_send(struct world *world, struct s3_request request)
{
    if (!request.key)
        request.key = "some key";
    world->err = ERR_INIT;
    return s3_send(world->client, &request, &world->answer, NULL, &world->err);
}

static enum err_code world_put(struct world *world, enum s3_condition condition)
{
    static const struct str body = {"hello", 5};
    return world_send(world, (struct s3_request){.operation = S3_PUT_OBJECT,
                                                 .body = &body,
                                                 .body_count = 1,
                                                 .condition = condition,
                                                 .etag = "\"e0\"",
                                                 .nonce = NONCE});
}

static void assert_detail(const struct world *world, const char *part)
{
    if (!strstr(world->err.detail, part))
        fail_msg("'%s' is not in '%s'", part, world->err.detail);
}

/* ---- what is sent ---- */

static void test_put_as_it_goes_out(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {
        {.status = "200 OK", .headers = "ETag: \"e\"\r\nx-amz-request-id: tx1\r\n"}};
    struct world *world = world_open(steps, LENGTH(steps));
    uint64_t before = metric_counter_value(METRIC_S3_PUT_OBJECT_OK);
    assert_int_equal(world_put(world, S3_IF_ABSENT), ERR_OK);
    assert_string_equal(world->answer.head.etag, "\"e\"");
    assert_string_equal(world->answer.request_id, "tx1");
    assert_int_equal(world->answer.tries, 1);
    assert_int_equal(metric_counter_value(METRIC_S3_PUT_OBJECT_OK), before + 1);

    const struct fake_request *seen = fake_request(world->fake, 0);
    assert_non_null(strstr(seen->head, "PUT /bucket/pre/some%20key HTTP/1.1\r\n"));
    assert_string_equal(fake_header(seen, "if-none-match"), "*");
    assert_string_equal(fake_header(seen, S3_NONCE_HEADER), NONCE);
    assert_string_equal(fake_header(seen, "x-amz-content-sha256"),
                        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_non_null(strstr(fake_header(seen, "authorization"),
                           "/us-east-1/s3/aws4_request,SignedHeaders=host;if-none-match;x-amz-content-sha256;"
                           "x-amz-date;x-amz-meta-orlop-nonce,Signature="));
    assert_string_equal(seen->body.ptr, "hello");
    world_close(world);
}

static void test_payload_hash_and_checksums(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {OK, OK, OK, OK};
    struct s3_client_settings settings = test_settings();
    settings.checksum = S3_CHECKSUM_CRC32C;
    struct world *world = world_open_with(steps, LENGTH(steps), settings);
    auto_mem char *big = calloc(1, S3_HASHED_BYTES_MAX + 1);
    const struct str body = {big, S3_HASHED_BYTES_MAX + 1};
    const struct str digits = STR("123456789");
    struct s3_request part = {.operation = S3_UPLOAD_PART, .body = &body, .body_count = 1};
    assert_int_equal(world_send(world, part), ERR_OK);
    assert_string_equal(fake_header(fake_request(world->fake, 0), "x-amz-content-sha256"), S3_UNSIGNED_PAYLOAD);
    part.payload_sha256 = "known";
    part.body = &digits;
    assert_int_equal(world_send(world, part), ERR_OK);
    assert_string_equal(fake_header(fake_request(world->fake, 1), "x-amz-content-sha256"), "known");
    assert_string_equal(fake_header(fake_request(world->fake, 1), "x-amz-checksum-crc32c"), "4waSgw==");
    assert_int_equal(world_send(world, (struct s3_request){.operation = S3_CREATE_UPLOAD, .nonce = NONCE}), ERR_OK);
    assert_string_equal(fake_header(fake_request(world->fake, 2), "x-amz-checksum-algorithm"), "CRC32C");
    assert_string_equal(fake_header(fake_request(world->fake, 2), S3_NONCE_HEADER), NONCE);
    const struct s3_request del = {.operation = S3_DELETE_OBJECTS,
                                   .query = &(struct s3_param){"delete", ""},
                                   .query_count = 1,
                                   .body = &digits,
                                   .body_count = 1};
    assert_int_equal(world_send(world, del), ERR_OK);
    assert_non_null(strstr(fake_request(world->fake, 3)->head, "POST /bucket?delete= HTTP/1.1"));
    assert_string_equal(fake_header(fake_request(world->fake, 3), "content-md5"), "JfnnlDI7RTiF9RgfG2JNCw==");
    world_close(world);
}

static void test_body_of_the_answer(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {{.how = FAKE_CUT, .status = "200 OK", .body = "content", .sent_bytes = 3},
                                             {.status = "500 Oops", .body = "this is no content"},
                                             {.status = "200 OK", .body = "content"},
                                             {.status = "200 OK", .body = "content"}};
    struct world *world = world_open(steps, LENGTH(steps));
    const struct s3_request request = {.operation = S3_GET_OBJECT, .key = "k"};
    auto_buf out = BUF_INIT(10);
    assert_true(buf_append_text(&out, "my "));
    assert_int_equal(s3_send(world->client, &request, NULL, &out, &world->err), ERR_OK);
    assert_string_equal(out.ptr, "my content");
    assert_int_equal(s3_send(world->client, &request, NULL, &out, &world->err), ERR_LIMIT);
    assert_string_equal(out.ptr, "my content");
    assert_int_equal(fake_request_count(world->fake), 4);
    world_close(world);
}

/* ---- failures ---- */

static void test_failures_become_errors(void **state)
{
    (void) state;
    static const struct {
        struct fake_step step;
        enum err_code code;
        const char *detail;
    } rows[] = {
        {{.status = "404 Not Found", .body = ERROR_XML("NoSuchKey")}, ERR_NOT_FOUND, "404 NoSuchKey: said so"},
        {{.status = "404 Not Found", .body = ERROR_XML("NoSuchBucket")}, ERR_STORE_GONE, "NoSuchBucket"},
        {{.status = "403 Forbidden", .body = ERROR_XML("AccessDenied")},
         ERR_READ_ONLY,
         "PutObject bucket/pre/some key: 403 AccessDenied: said so: (request id tx9, try 1); PutObject needs the "
         "permission s3:PutObject"},
        {{.status = "403 Forbidden", .body = ERROR_XML("QuotaExceeded")}, ERR_NO_SPACE, "QuotaExceeded"},
        {{.status = "403 Forbidden", .body = ERROR_XML("SignatureDoesNotMatch")},
         ERR_UPSTREAM,
         "SignatureDoesNotMatch"},
        {{.status = "416 No", .body = ERROR_XML("InvalidRange")}, ERR_RANGE_NOT_SATISFIABLE, "InvalidRange"},
        {{.status = "412 No", .body = ERROR_XML("PreconditionFailed")}, ERR_PRECONDITION, "412"},
        {{.status = "501 No", .body = ERROR_XML("NotImplemented")}, ERR_UPSTREAM, "501 NotImplemented"},
        {{.status = "301 Moved",
          .headers = "x-amz-bucket-region: eu-west-9\r\n",
          .body = ERROR_XML("PermanentRedirect")},
         ERR_UPSTREAM,
         "the bucket is in region 'eu-west-9', but 'us-east-1' was asked: set the store's region"},
        {{.status = "400 Bad",
          .body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-9</Region></Error>"},
         ERR_UPSTREAM,
         "in region 'eu-west-9'"},
        {{.status = "418 Teapot", .body = "<html>not XML"}, ERR_UPSTREAM, "418"},
    };
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct world *world = world_open(&rows[i].step, 1);
        assert_int_equal(world_put(world, S3_UNCONDITIONAL), rows[i].code);
        assert_detail(world, rows[i].detail);
        assert_true(world->err.message[0] != '\0' && !strstr(world->err.message, "bucket/pre"));
        assert_int_equal(fake_request_count(world->fake), 1);
        world_close(world);
    }
}

static void test_unreachable_store(void **state)
{
    (void) state;
    struct world *world = world_open(NULL, 0);
    fake_stop(world->fake);
    assert_int_equal(world_put(world, S3_UNCONDITIONAL), ERR_STORE_GONE);
    assert_int_equal(world->answer.tries, 5);
    assert_int_equal(world->answer.head.status, 0);
    assert_false(world->answer.was_ambiguous);
    world->fake = fake_start(NULL, 0);
    world_close(world);
}

/* ---- retries ---- */

static void test_retries_until_it_works(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {
        SLOW_DOWN, {.how = FAKE_RESET}, {.status = "500 Oops"}, {.how = FAKE_RESET_EARLY}, OK};
    struct world *world = world_open(steps, LENGTH(steps));
    uint64_t retries = metric_counter_value(METRIC_S3_RETRIES);
    assert_int_equal(world_put(world, S3_UNCONDITIONAL), ERR_OK);
    assert_int_equal(world->answer.tries, 5);
    assert_true(world->answer.was_ambiguous);
    assert_string_equal(world->answer.code, "");
    assert_int_equal(metric_counter_value(METRIC_S3_RETRIES), retries + 4);
    assert_string_equal(fake_request(world->fake, 4)->body.ptr, "hello");
    world_close(world);
}

static void test_retries_end(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {SLOW_DOWN, SLOW_DOWN, SLOW_DOWN, SLOW_DOWN, SLOW_DOWN, OK};
    struct world *world = world_open(steps, LENGTH(steps));
    assert_int_equal(world_put(world, S3_UNCONDITIONAL), ERR_BUSY);
    assert_detail(world, "503 SlowDown: said so: (request id tx9, try 5)");
    assert_string_equal(world->answer.code, "SlowDown");
    assert_false(world->answer.was_ambiguous);
    assert_int_equal(fake_request_count(world->fake), 5);
    world_close(world);
}

static void test_a_request_with_a_limit_ends_in_time(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {{.how = FAKE_SILENCE},
                                             {.how = FAKE_SILENCE},
                                             {.how = FAKE_SILENCE},
                                             {.how = FAKE_SILENCE},
                                             {.how = FAKE_SILENCE}};
    struct world *world = world_open(steps, LENGTH(steps));
    uint64_t begun = clock_monotonic_ms();
    assert_int_equal(world_put(world, S3_UNCONDITIONAL), ERR_TIMEOUT);
    assert_in_range(clock_monotonic_ms() - begun, TIMEOUT_MS, 10 * TIMEOUT_MS);
    assert_in_range(world->answer.tries, 2, 3);
    world_close(world);
}

static void test_retry_after(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {
        {.status = "503 Slow Down", .headers = "Retry-After: 1\r\n", .body = ERROR_XML("SlowDown")},
        OK,
        {.status = "503 Slow Down", .headers = "Retry-After: 3600\r\n", .body = ERROR_XML("SlowDown")},
        OK};
    struct s3_client_settings settings = test_settings();
    settings.retry_after_max_ms = 1100;
    settings.request_timeout_ms = 5000;
    struct world *world = world_open_with(steps, LENGTH(steps), settings);
    uint64_t begun = clock_monotonic_ms();
    assert_int_equal(world_put(world, S3_UNCONDITIONAL), ERR_OK);
    assert_in_range(clock_monotonic_ms() - begun, 1000, 1500);
    assert_int_equal(world_put(world, S3_UNCONDITIONAL), ERR_OK);
    assert_in_range(clock_monotonic_ms() - begun, 2100, 3500);
    world_close(world);
}

static void test_retry_budget(void **state)
{
    (void) state;
    struct fake_step steps[40];
    for (size_t i = 0; i < LENGTH(steps); i++)
        steps[i] = (struct fake_step) SLOW_DOWN;
    struct s3_client_settings settings = test_settings();
    settings.retry_tokens = 30; /* six retries */
    struct world *world = world_open_with(steps, LENGTH(steps), settings);
    uint64_t denied = metric_counter_value(METRIC_S3_RETRIES_DENIED);
    for (int i = 0; i < 10; i++)
        assert_int_equal(world_put(world, S3_UNCONDITIONAL), ERR_BUSY);
    assert_int_equal(fake_request_count(world->fake), 10 + 6);
    assert_int_equal(metric_counter_value(METRIC_S3_RETRIES_DENIED), denied + 9);
    world_close(world);
}

static void test_successes_refill_the_budget(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {SLOW_DOWN, SLOW_DOWN, OK, OK, OK, OK, OK, SLOW_DOWN, OK};
    struct s3_client_settings settings = test_settings();
    settings.retry_tokens = 5;
    struct world *world = world_open_with(steps, LENGTH(steps), settings);
    assert_int_equal(world_put(world, S3_UNCONDITIONAL), ERR_BUSY); /* both tries */
    for (int i = 0; i < 5; i++)
        assert_int_equal(world_put(world, S3_UNCONDITIONAL), ERR_OK);
    assert_int_equal(world_put(world, S3_UNCONDITIONAL), ERR_OK);
    assert_int_equal(world->answer.tries, 2);
    world_close(world);
}

static void test_clock_skew(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {
        {.status = "403 Forbidden",
         .headers = "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n",
         .body = ERROR_XML("RequestTimeTooSkewed")},
        OK, /* a HEAD's answer is not told why */
        {.status = "403 Forbidden", .headers = "Date: Wed, 21 Oct 2015 09:28:00 GMT\r\n"},
        OK,
        {.status = "403 Forbidden", .headers = "Date: Wed, 21 Oct 2015 09:28:00 GMT\r\n"},
        {.status = "403 Forbidden", .headers = "Date: Wed, 21 Oct 2015 09:28:00 GMT\r\n"}};
    struct world *world = world_open(steps, LENGTH(steps));
    assert_int_equal(world_put(world, S3_UNCONDITIONAL), ERR_OK);
    assert_true(strncmp(fake_header(fake_request(world->fake, 1), "x-amz-date"), "20151021T0728", 13) == 0);
    assert_int_equal(world_send(world, (struct s3_request){.operation = S3_HEAD_OBJECT}), ERR_OK);
    assert_true(strncmp(fake_header(fake_request(world->fake, 3), "x-amz-date"), "20151021T0928", 13) == 0);
    assert_int_equal(world_send(world, (struct s3_request){.operation = S3_HEAD_OBJECT}), ERR_UPSTREAM);
    world_close(world);
}

/* ---- conditional writes ---- */

static void test_whose_write(void **state)
{
    (void) state;
#define REFUSED                                                     \
    {                                                               \
        .status = "412 No", .body = ERROR_XML("PreconditionFailed") \
    }
    static const struct {
        const char *name;
        struct fake_step steps[3];
        enum s3_condition condition;
        enum err_code code;
        size_t requests;
    } rows[] = {
        {"refused at once", {REFUSED}, S3_IF_ABSENT, ERR_EXISTS, 1},
        {"refused at once", {REFUSED}, S3_IF_MATCH, ERR_PRECONDITION, 1},
        {"gone", {{.status = "404 No", .body = ERROR_XML("NoSuchKey")}}, S3_IF_MATCH, ERR_PRECONDITION, 1},
        {"ours",
         {{.how = FAKE_RESET},
          REFUSED,
          {.status = "200 OK", .headers = S3_NONCE_HEADER ": " NONCE "\r\nETag: \"e\"\r\n"}},
         S3_IF_ABSENT,
         ERR_OK,
         3},
        {"ours",
         {{.status = "500 Oops"},
          REFUSED,
          {.status = "200 OK", .headers = S3_NONCE_HEADER ": " NONCE "\r\nETag: \"e\"\r\n"}},
         S3_IF_MATCH,
         ERR_OK,
         3},
        {"theirs",
         {{.how = FAKE_RESET}, REFUSED, {.status = "200 OK", .headers = S3_NONCE_HEADER ": other\r\n"}},
         S3_IF_ABSENT,
         ERR_EXISTS,
         3},
        {"nobody's", {{.how = FAKE_RESET}, REFUSED, {.status = "404 No"}}, S3_IF_ABSENT, ERR_EXISTS, 3},
        {"nobody knows", {{.how = FAKE_RESET}, REFUSED, {.status = "403 No"}}, S3_IF_ABSENT, ERR_READ_ONLY, 3},
        {"throttled is not lost", {SLOW_DOWN, REFUSED}, S3_IF_ABSENT, ERR_EXISTS, 2},
        {"a conflict is tried again",
         {{.status = "409 No", .body = ERROR_XML("ConditionalRequestConflict")}, REFUSED},
         S3_IF_ABSENT,
         ERR_EXISTS,
         2},
        {"lost, then taken", {{.how = FAKE_RESET}, OK}, S3_IF_ABSENT, ERR_OK, 2},
    };
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct world *world = world_open(rows[i].steps, rows[i].requests);
        enum err_code code = world_put(world, rows[i].condition);
        if (code != rows[i].code || fake_request_count(world->fake) != rows[i].requests)
            fail_msg("%zu %s: %s (%s), %zu requests", i, rows[i].name, err_info(code)->name, err_text(&world->err),
                     fake_request_count(world->fake));
        if (code == ERR_OK)
            assert_string_equal(world->answer.head.etag, "\"e\"");
        if (rows[i].condition == S3_IF_MATCH)
            assert_string_equal(fake_header(fake_request(world->fake, 0), "if-match"), "e0");
        world_close(world);
    }
}

static void test_complete(void **state)
{
    (void) state;
#define DONE                                                                                        \
    {                                                                                               \
        .status = "200 OK",                                                                         \
        .body = "<CompleteMultipartUploadResult><ETag>\"m\"</ETag></CompleteMultipartUploadResult>" \
    }
#define GONE                                                  \
    {                                                         \
        .status = "404 No", .body = ERROR_XML("NoSuchUpload") \
    }
    static const struct {
        struct fake_step steps[3];
        const char *nonce;
        enum err_code code;
        size_t requests;
    } rows[] = {
        {{DONE}, NULL, ERR_OK, 1},
        {{{.status = "200 OK", .body = "  \n<?xml version=\"1.0\"?>" ERROR_XML("InternalError")}, DONE},
         NULL,
         ERR_OK,
         2},
        {{{.status = "200 OK", .body = ERROR_XML("InvalidPart")}}, NULL, ERR_UPSTREAM, 1},
        {{GONE}, NONCE, ERR_NOT_FOUND, 1},
        {{{.how = FAKE_RESET}, GONE}, NULL, ERR_NOT_FOUND, 2},
        {{{.how = FAKE_RESET}, GONE, {.status = "200 OK", .headers = S3_NONCE_HEADER ": " NONCE "\r\n"}},
         NONCE,
         ERR_OK,
         3},
        {{{.how = FAKE_RESET}, GONE, {.status = "404 No"}}, NONCE, ERR_NOT_FOUND, 3},
    };
    static const struct str body = {"<x/>", 4};
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct world *world = world_open(rows[i].steps, rows[i].requests);
        auto_buf out = BUF_INIT(1000);
        const struct s3_request request = {
            .operation = S3_COMPLETE_UPLOAD, .key = "k", .body = &body, .body_count = 1, .nonce = rows[i].nonce};
        enum err_code code = s3_send(world->client, &request, &world->answer, &out, &world->err);
        if (code != rows[i].code || fake_request_count(world->fake) != rows[i].requests)
            fail_msg("%zu: %s (%s)", i, err_info(code)->name, err_text(&world->err));
        assert_null(fake_header(fake_request(world->fake, 0), S3_NONCE_HEADER));
        if (code == ERR_OK && rows[i].nonce == NULL)
            assert_non_null(strstr(out.ptr, "\"m\""));
        world_close(world);
    }
}

/* ---- streams ---- */

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz";

static enum err_code read_stream(struct s3_stream *stream, struct buf *out, struct err *err)
{
    for (;;) {
        char chunk[7];
        size_t len;
        enum err_code code = s3_stream_read(stream, chunk, sizeof(chunk), &len, err);
        if (code != ERR_OK || len == 0)
            return code;
        assert_true(buf_append(out, chunk, len));
    }
}

#define ETAG "ETag: \"v1\"\r\n"

static void test_stream_whole_and_range(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {
        {.status = "200 OK", .headers = ETAG, .body = alphabet},
        {.status = "206 Partial", .headers = ETAG "Content-Range: bytes 3-6/26\r\n", .body = "defg"},
        {.status = "206 Partial", .headers = ETAG "Content-Range: bytes 24-25/26\r\n", .body = "yz"},
        {.status = "200 OK", .headers = ETAG, .body = alphabet},
        {.status = "404 No", .body = ERROR_XML("NoSuchKey")}};
    struct world *world = world_open(steps, LENGTH(steps));
    struct s3_stream *stream;
    auto_buf out = BUF_INIT(100);
    assert_int_equal(s3_stream_open(world->client, "k", 0, S3_TO_END, &stream, &world->answer, &world->err), ERR_OK);
    assert_int_equal(world->answer.head.content_length, 26);
    assert_null(fake_header(fake_request(world->fake, 0), "range"));
    assert_int_equal(read_stream(stream, &out, &world->err), ERR_OK);
    assert_string_equal(out.ptr, alphabet);
    assert_int_equal(s3_stream_position(stream), 26);
    s3_stream_close(stream);

    buf_clear(&out);
    assert_int_equal(s3_stream_open(world->client, "k", 3, 4, &stream, NULL, &world->err), ERR_OK);
    assert_string_equal(fake_header(fake_request(world->fake, 1), "range"), "bytes=3-6");
    assert_int_equal(read_stream(stream, &out, &world->err), ERR_OK);
    assert_string_equal(out.ptr, "defg");
    s3_stream_close(stream);

    buf_clear(&out);
    assert_int_equal(s3_stream_open(world->client, "k", 24, S3_TO_END, &stream, NULL, &world->err), ERR_OK);
    assert_string_equal(fake_header(fake_request(world->fake, 2), "range"), "bytes=24-");
    assert_int_equal(read_stream(stream, &out, &world->err), ERR_OK);
    assert_string_equal(out.ptr, "yz");
    s3_stream_close(stream);

    assert_int_equal(fake_connection_count(world->fake), 1);
    assert_int_equal(s3_stream_open(world->client, "k", 3, 4, &stream, NULL, &world->err), ERR_UPSTREAM);
    assert_int_equal(s3_stream_open(world->client, "k", 3, 4, &stream, NULL, &world->err), ERR_NOT_FOUND);
    world_close(world);
}

static void test_stream_resumes(void **state)
{
    (void) state;
    static const struct fake_step steps[] = {
        {.how = FAKE_CUT, .status = "200 OK", .headers = ETAG, .body = alphabet, .sent_bytes = 10},
        SLOW_DOWN,
        {.how = FAKE_CUT,
         .status = "206 Partial",
         .headers = ETAG "Content-Range: bytes 10-25/26\r\nContent-Length: 16\r\n",
         .body = alphabet + 10,
         .sent_bytes = 6},
        {.status = "206 Partial", .headers = ETAG "Content-Range: bytes 16-25/26\r\n", .body = alphabet + 16}};
    struct world *world = world_open(steps, LENGTH(steps));
    struct s3_stream *stream;
    auto_buf out = BUF_INIT(100);
    assert_int_equal(s3_stream_open(world->client, "k", 0, S3_TO_END, &stream, NULL, &world->err), ERR_OK);
    if (read_stream(stream, &out, &world->err) != ERR_OK)
        fail_msg("%s", err_text(&world->err));
    assert_string_equal(out.ptr, alphabet);
    assert_string_equal(fake_header(fake_request(world->fake, 1), "range"), "bytes=10-25");
    assert_string_equal(fake_header(fake_request(world->fake, 1), "if-match"), "\"v1\"");
    assert_string_equal(fake_header(fake_request(world->fake, 3), "range"), "bytes=16-25");
    s3_stream_close(stream);
    world_close(world);
}

static void test_stream_that_cannot_go_on(void **state)
{
    (void) state;
    static const struct {
        struct fake_step then;
        enum err_code code;
    } rows[] = {
        {{.status = "412 No", .body = ERROR_XML("PreconditionFailed")}, ERR_PRECONDITION},
        {{.status = "404 No", .body = ERROR_XML("NoSuchKey")}, ERR_NOT_FOUND},
        {{.status = "200 OK", .headers = ETAG, .body = alphabet}, ERR_UPSTREAM},
        {{.status = "206 Partial",
          .headers = "ETag: \"v2\"\r\nContent-Range: bytes 10-25/26\r\n",
          .body = alphabet + 10},
         ERR_PRECONDITION},
    };
    for (size_t i = 0; i < LENGTH(rows); i++) {
        const struct fake_step steps[] = {
            {.how = FAKE_CUT, .status = "200 OK", .headers = ETAG, .body = alphabet, .sent_bytes = 10}, rows[i].then};
        struct world *world = world_open(steps, LENGTH(steps));
        struct s3_stream *stream;
        auto_buf out = BUF_INIT(100);
        assert_int_equal(s3_stream_open(world->client, "k", 0, S3_TO_END, &stream, NULL, &world->err), ERR_OK);
        assert_int_equal(read_stream(stream, &out, &world->err), rows[i].code);
        assert_int_equal(out.len, 10);
        assert_detail(world, "at byte 10");
        assert_true(read_stream(stream, &out, &world->err) != ERR_OK);
        s3_stream_close(stream);
        world_close(world);
    }
}

static void test_stream_gives_up(void **state)
{
    (void) state;
    struct fake_step steps[20];
    for (size_t i = 0; i < LENGTH(steps); i++)
        steps[i] =
            (struct fake_step){.how = FAKE_CUT,
                               .status = i ? "206 Partial" : "200 OK",
                               .headers = i ? ETAG "Content-Range: bytes 4-25/26\r\nContent-Length: 22\r\n" : ETAG,
                               .body = alphabet,
                               .body_bytes = 26,
                               .sent_bytes = i ? 0 : 4};
    struct world *world = world_open(steps, LENGTH(steps));
    struct s3_stream *stream;
    auto_buf out = BUF_INIT(100);
    assert_int_equal(s3_stream_open(world->client, "k", 0, S3_TO_END, &stream, NULL, &world->err), ERR_OK);
    assert_int_equal(read_stream(stream, &out, &world->err), ERR_UPSTREAM);
    assert_string_equal(out.ptr, "abcd");
    assert_true(fake_request_count(world->fake) <= 6);
    s3_stream_close(stream);
    world_close(world);
}

/* ---- the rest ---- */

static void test_presigned_url(void **state)
{
    (void) state;
    struct world *world = world_open(NULL, 0);
    auto_buf out = BUF_INIT(4096);
    const struct s3_param query = {"response-content-type", "a/b"};
    assert_int_equal(s3_presign_get(world->client, "some key", &query, 1, 600, &out, &world->err), ERR_OK);
    assert_int_equal(strncmp(out.ptr, world->fake->url, strlen(world->fake->url)), 0);
    assert_non_null(strstr(out.ptr, "/bucket/pre/some%20key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID"));
    assert_non_null(strstr(out.ptr, "&X-Amz-Expires=600&"));
    assert_non_null(strstr(out.ptr, "&response-content-type=a%2Fb&X-Amz-Signature="));
    world_close(world);
}

static void test_keys_are_bounded(void **state)
{
    (void) state;
    struct world *world = world_open(NULL, 0);
    char key[S3_KEY_BYTES_MAX + 1];
    memset(key, 'k', sizeof(key) - 1);
    key[sizeof(key) - 1] = '\0';
    assert_int_equal(world_send(world, (struct s3_request){.operation = S3_GET_OBJECT, .key = key}), ERR_LIMIT);
    world_close(world);
}

static void test_verdicts_have_messages(void **state)
{
    (void) state;
    for (int status = 300; status < 600; status++) {
        const struct s3_http_answer head = {.status = status};
        const struct s3_error error = {.code = ""};
        struct s3_verdict verdict = s3_verdict_of_answer(S3_PUT_OBJECT, &head, &error);
        assert_true(verdict.code != ERR_OK && verdict.message && verdict.outcome != S3_OUTCOME_OK);
        assert_int_equal(verdict.retry == S3_RETRY_LATER, status == 408 || status == 429 || status == 500 ||
                                                              status == 502 || status == 503 || status == 504);
    }
    for (int operation = 0; operation < S3_OPERATION_COUNT; operation++)
        assert_true(s3_operation_name((enum s3_operation) operation)[0] != '\0');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_as_it_goes_out),
        cmocka_unit_test(test_payload_hash_and_checksums),
        cmocka_unit_test(test_body_of_the_answer),
        cmocka_unit_test(test_failures_become_errors),
        cmocka_unit_test(test_unreachable_store),
        cmocka_unit_test(test_retries_until_it_works),
        cmocka_unit_test(test_retries_end),
        cmocka_unit_test(test_a_request_with_a_limit_ends_in_time),
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_retry_budget),
        cmocka_unit_test(test_successes_refill_the_budget),
        cmocka_unit_test(test_clock_skew),
        cmocka_unit_test(test_whose_write),
        cmocka_unit_test(test_complete),
        cmocka_unit_test(test_stream_whole_and_range),
        cmocka_unit_test(test_stream_resumes),
        cmocka_unit_test(test_stream_that_cannot_go_on),
        cmocka_unit_test(test_stream_gives_up),
        cmocka_unit_test(test_presigned_url),
        cmocka_unit_test(test_keys_are_bounded),
        cmocka_unit_test(test_verdicts_have_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

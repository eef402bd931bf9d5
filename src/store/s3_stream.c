/*
 * A streaming GET: what broke goes on by Range, as long as the object is still the same. Between reads its connection
 * is parked: a reader who waits for a slow client, or for a thread, keeps nobody from the store.
 */
#include "base/metrics.h"
#include "store/s3_client_priv.h"

#include <assert.h>
#include <stdio.h>

#define RANGE_BYTES_MAX 64

struct s3_stream {
    struct s3_client *client;
    char *key;
    uint64_t offset;     /* of the object, where the stream begins */
    uint64_t size_bytes; /* of the stream, as it was announced */
    uint64_t position;   /* bytes read */
    char etag[S3_HTTP_ETAG_BYTES_MAX];
    struct s3_http_exchange *exchange;
    uint64_t parking; /* 0: the exchange is ours */
    unsigned resumes;
    unsigned resumes_in_vain; /* since the last byte */
};

/* GET from offset + position. The first time the answer says how much there is; afterwards it must agree. */
static enum err_code stream_begin(struct s3_stream *stream, struct s3_answer *answer, struct err *err)
{
    char range[RANGE_BYTES_MAX];
    struct s3_param headers[2];
    size_t count = 0;
    bool is_first = stream->etag[0] == '\0';
    uint64_t first = stream->offset + stream->position;
    uint64_t left = stream->size_bytes - stream->position;
    if (stream->size_bytes != S3_TO_END)
        (void) snprintf(range, sizeof(range), "bytes=%llu-%llu", (unsigned long long) first,
                        (unsigned long long) (first + left - 1));
    else
        (void) snprintf(range, sizeof(range), "bytes=%llu-", (unsigned long long) first);
    bool is_ranged = first > 0 || stream->size_bytes != S3_TO_END;
    if (is_ranged)
        headers[count++] = (struct s3_param){"range", range};
    if (!is_first)
        headers[count++] = (struct s3_param){"if-match", stream->etag};

    const struct s3_request request = {
        .operation = S3_GET_OBJECT, .key = stream->key, .headers = headers, .header_count = count};
    struct s3_call call;
    enum err_code code = call_prepare(&call, stream->client, &request, err);
    call.is_stream = true;
    if (code == ERR_OK)
        code = call_run(&call, err);
    stream->exchange = TAKE_PTR(call.exchange);
    *answer = call.answer;
    call_release(&call);
    if (code != ERR_OK)
        return code;

    const struct s3_http_answer *head = &answer->head;
    if (head->content_length == S3_HTTP_UNKNOWN || (is_ranged && (head->status != 206 || head->range_first != first)))
        code = err_set(err, ERR_UPSTREAM, "The object store answered a range it was not asked for");
    else if (is_first)
        stream->size_bytes = head->content_length;
    else if (head->content_length != left || strcmp(head->etag, stream->etag) != 0)
        code = err_set(err, ERR_PRECONDITION, "the object has changed while it was read");
    if (code != ERR_OK)
        s3_http_end(TAKE_PTR(stream->exchange));
    if (is_first)
        memcpy(stream->etag, head->etag, sizeof(stream->etag));
    return code;
}

/* Between reads: others may have the connection. What is through has no more use for it. */
static void stream_park(struct s3_stream *stream)
{
    if (!stream->exchange)
        return;
    if (stream->position == stream->size_bytes)
        s3_http_end(TAKE_PTR(stream->exchange));
    else if (stream->etag[0]) /* or it could not go on as the same object */
        stream->parking = s3_http_park(stream->exchange);
}

/* Take the connection back, if others left it. false: they did not. */
static bool stream_unpark(struct s3_stream *stream)
{
    if (stream->parking == 0)
        return true;
    if (!s3_http_unpark(stream->client->http, stream->exchange, stream->parking))
        stream->exchange = NULL;
    stream->parking = 0;
    return stream->exchange != NULL;
}

static void stream_free(struct s3_stream *stream)
{
    (void) stream_unpark(stream);
    s3_http_end(stream->exchange);
    free(stream->key);
    free(stream);
}

enum err_code s3_stream_open(struct s3_client *client, const char *key, uint64_t offset, uint64_t len,
                             struct s3_stream **out, struct s3_answer *answer, struct err *err)
{
    assert(len > 0);
    struct s3_answer unused;
    struct s3_stream *stream = calloc(1, sizeof(*stream));
    if (!stream || !(stream->key = strdup(key))) {
        free(stream);
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    }
    stream->client = client;
    stream->offset = offset;
    stream->size_bytes = len;
    enum err_code code = stream_begin(stream, answer ? answer : &unused, err);
    if (code != ERR_OK) {
        stream_free(stream);
        return code;
    }
    *out = stream;
    return ERR_OK;
}

/* The exchange broke with err. ERR_OK: another goes on where it stopped. */
static enum err_code stream_resume(struct s3_stream *stream, struct err *err)
{
    unsigned cost = err->code == ERR_TIMEOUT ? S3_RETRY_COST_TIMEOUT : S3_RETRY_COST;
    s3_http_end(TAKE_PTR(stream->exchange));
    stream->resumes++;
    stream->resumes_in_vain++;
    if (stream->etag[0] == '\0' || stream->resumes > S3_STREAM_RESUMES_MAX ||
        stream->resumes_in_vain >= stream->client->settings.tries_max ||
        !client_wait_to_retry(stream->client, stream->resumes_in_vain, cost, 0))
        return err->code;
    metric_add(METRIC_S3_STREAMS_RESUMED, 1);
    struct s3_answer answer;
    return stream_begin(stream, &answer, err);
}

/* Read on, on another connection where this one broke. len > 0 is not more than what is left. */
static enum err_code stream_read(struct s3_stream *stream, void *bytes, size_t len, size_t *out_len, struct err *err)
{
    for (;;) {
        struct err failure = ERR_INIT;
        enum err_code code = ERR_UPSTREAM;
        if (stream->exchange)
            code = s3_http_read(stream->exchange, bytes, len, out_len, &failure);
        if (code == ERR_OK && *out_len > 0) {
            stream->position += *out_len;
            stream->resumes_in_vain = 0;
            metric_add(METRIC_S3_BYTES_RECEIVED, *out_len);
            return ERR_OK;
        }
        if (code == ERR_OK)
            (void) err_set(&failure, ERR_UPSTREAM, "The object store sent less than it announced");
        else if (!stream->exchange)
            (void) err_set(&failure, ERR_UPSTREAM, "The download from the object store broke before");
        if (!stream->exchange || stream_resume(stream, &failure) != ERR_OK) {
            *err = failure;
            return err->code;
        }
    }
}

enum err_code s3_stream_read(struct s3_stream *stream, void *bytes, size_t len, size_t *out_len, struct err *err)
{
    enum err_code code = ERR_OK;
    struct s3_answer answer;
    *out_len = 0;
    if (len > stream->size_bytes - stream->position)
        len = (size_t) (stream->size_bytes - stream->position);
    if (len == 0)
        return ERR_OK;
    if (!stream_unpark(stream)) {
        metric_add(METRIC_S3_STREAMS_YIELDED, 1);
        code = stream_begin(stream, &answer, err);
    }
    if (code == ERR_OK)
        code = stream_read(stream, bytes, len, out_len, err);
    stream_park(stream);
    if (code == ERR_OK)
        return ERR_OK;
    unsigned long long at = stream->offset + stream->position;
    return err_wrap(err, "GetObject %s at byte %llu", stream->key, at);
}

uint64_t s3_stream_position(const struct s3_stream *stream)
{
    return stream->position;
}

void s3_stream_close(struct s3_stream *stream)
{
    if (stream)
        stream_free(stream);
}

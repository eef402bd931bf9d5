#include "base/clock.h"
#include "base/metrics.h"
#include "digest/hash.h"
#include "store/s3_client_priv.h"

#include <assert.h>
#include <stdio.h>
#include <time.h>

#define ERROR_BODY_BYTES_MAX (256 * 1024)
#define NONCE_RAW_BYTES 16
#define HEADERS_OF_ALL 5 /* host, date, payload hash, token, authorization */
#define MS_PER_S 1000
#define NS_PER_MS 1000000

static const struct operation {
    const char *method;
    const char *name;
    const char *action;
    bool is_bucket;
    enum metric_counter counter; /* the first of four, in the order of enum s3_outcome */
} operations[] = {
#define S3_OPERATION(id, method, name, action, is_bucket) \
    [S3_##id] = {method, name, action, is_bucket, METRIC_S3_##id##_OK},
#include "store/s3_operation_table.h"
#undef S3_OPERATION
};

static_assert(METRIC_S3_HEAD_BUCKET_FAILED - METRIC_S3_HEAD_BUCKET_OK == S3_OUTCOME_FAILED,
              "an operation's counters stand in the order of enum s3_outcome");

const char *s3_operation_name(enum s3_operation operation)
{
    return operations[operation].name;
}

/* ---- the client ---- */

enum err_code s3_client_open(const struct s3_client_settings *settings, struct s3_client **out, struct err *err)
{
    assert(settings->tries_max >= 1 && settings->target && settings->credentials);
    struct s3_client *client = calloc(1, sizeof(*client));
    if (!client)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    client->settings = *settings;
    client->target = *settings->target;
    client->settings.target = &client->target;
    client->tokens = (int) settings->retry_tokens;
    const struct s3_http_settings http = {.connections_max = settings->connections_max,
                                          .wait_timeout_ms = settings->wait_timeout_ms,
                                          .connect_timeout_ms = settings->connect_timeout_ms,
                                          .stall_timeout_ms = settings->stall_timeout_ms,
                                          .ca_file = settings->ca_file};
    if (s3_http_open(&http, &client->http, err) != ERR_OK) {
        free(client);
        return err->code;
    }
    *out = client;
    return ERR_OK;
}

void s3_client_close(struct s3_client *client)
{
    if (!client)
        return;
    s3_http_close(client->http);
    free(client);
}

const struct s3_target *s3_client_target(const struct s3_client *client)
{
    return &client->target;
}

static uint64_t client_now_ms(const struct s3_client *client)
{
    return clock_wall_ms() + (uint64_t) atomic_load_explicit(&client->clock_offset_ms, memory_order_relaxed);
}

/* ---- the retry budget ---- */

static bool tokens_take(struct s3_client *client, int cost)
{
    if (client->settings.retry_tokens == 0)
        return true;
    int had = atomic_load_explicit(&client->tokens, memory_order_relaxed);
    do {
        if (had < cost)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&client->tokens, &had, had - cost, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

static void tokens_give(struct s3_client *client, int count)
{
    int max = (int) client->settings.retry_tokens;
    int had = atomic_load_explicit(&client->tokens, memory_order_relaxed);
    int want;
    do {
        want = had + count < max ? had + count : max;
    } while (had < max && !atomic_compare_exchange_weak_explicit(&client->tokens, &had, want, memory_order_relaxed,
                                                                 memory_order_relaxed));
}

/* Full jitter: anything between nothing and the doubled bound, so that clients do not come back together. */
static uint64_t backoff_ms(const struct s3_client_settings *settings, unsigned number, uint64_t retry_after_ms)
{
    uint64_t bound = settings->backoff_first_ms;
    for (unsigned i = 1; i < number && bound < settings->backoff_max_ms; i++)
        bound *= 2;
    if (bound > settings->backoff_max_ms)
        bound = settings->backoff_max_ms;
    uint32_t random;
    random_bytes(&random, sizeof(random));
    uint64_t wait = random % (bound + 1);
    if (retry_after_ms > settings->retry_after_max_ms)
        retry_after_ms = settings->retry_after_max_ms;
    return wait > retry_after_ms ? wait : retry_after_ms + wait / 2;
}

bool client_wait_to_retry(struct s3_client *client, unsigned number, unsigned cost, uint64_t retry_after_ms)
{
    if (!tokens_take(client, (int) cost)) {
        metric_add(METRIC_S3_RETRIES_DENIED, 1);
        return false;
    }
    metric_add(METRIC_S3_RETRIES, 1);
    uint64_t wait = backoff_ms(&client->settings, number, retry_after_ms);
    struct timespec left = {.tv_sec = (time_t) (wait / MS_PER_S), .tv_nsec = (long) (wait % MS_PER_S) * NS_PER_MS};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
        ;
    return true;
}

/* ---- preparing ---- */

static void call_add_header(struct s3_call *call, const char *name, const char *value)
{
    assert(call->header_count + HEADERS_OF_ALL < S3_PARAMS_MAX);
    call->headers[call->header_count++] = (struct s3_param){name, value};
}

static void random_hex(char *out)
{
    uint8_t raw[NONCE_RAW_BYTES];
    random_bytes(raw, sizeof(raw));
    for (size_t i = 0; i < sizeof(raw); i++)
        (void) snprintf(out + 2 * i, 3, "%02x", raw[i]);
}

static uint64_t body_bytes(const struct s3_request *request)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < request->body_count; i++)
        bytes += request->body[i].len;
    return bytes;
}

static void call_hash_payload(struct s3_call *call)
{
    const struct s3_request *request = call->request;
    struct hash hash;
    struct digest digest;
    if (request->payload_sha256) {
        (void) snprintf(call->payload_sha256, sizeof(call->payload_sha256), "%s", request->payload_sha256);
    } else if (body_bytes(request) <= S3_HASHED_BYTES_MAX || call->client->settings.payloads_are_hashed) {
        hash_init(&hash, DIGEST_SHA256);
        for (size_t i = 0; i < request->body_count; i++)
            hash_update(&hash, request->body[i].ptr, request->body[i].len);
        hash_digest(&hash, &digest);
        digest_format_hex(&digest, call->payload_sha256);
    } else {
        (void) snprintf(call->payload_sha256, sizeof(call->payload_sha256), "%s", S3_UNSIGNED_PAYLOAD);
    }
}

static void call_add_checksum(struct s3_call *call)
{
    const struct s3_request *request = call->request;
    enum s3_checksum checksum = call->client->settings.checksum;
    bool is_data = request->operation == S3_PUT_OBJECT || request->operation == S3_UPLOAD_PART;
    /* DeleteObjects must have one, and all stores know this one. */
    if (request->operation == S3_DELETE_OBJECTS || (is_data && checksum == S3_CHECKSUM_MD5)) {
        uint8_t raw[MD5_BYTES];
        md5_spans(request->body, request->body_count, raw);
        base64_encode(raw, sizeof(raw), call->md5);
        call_add_header(call, "content-md5", call->md5);
    } else if (is_data && checksum == S3_CHECKSUM_CRC32C) {
        uint32_t crc = 0;
        for (size_t i = 0; i < request->body_count; i++)
            crc = crc32c(crc, request->body[i].ptr, request->body[i].len);
        const uint8_t raw[CRC32C_BYTES] = {(uint8_t) (crc >> 24), (uint8_t) (crc >> 16), (uint8_t) (crc >> 8),
                                           (uint8_t) crc};
        base64_encode(raw, sizeof(raw), call->crc32c);
        call_add_header(call, "x-amz-checksum-crc32c", call->crc32c);
    } else if (request->operation == S3_CREATE_UPLOAD && checksum == S3_CHECKSUM_CRC32C) {
        call_add_header(call, "x-amz-checksum-algorithm", "CRC32C");
    }
}

static void call_add_condition(struct s3_call *call)
{
    const struct s3_request *request = call->request;
    bool is_put = request->operation == S3_PUT_OBJECT;
    assert(request->condition == S3_UNCONDITIONAL || is_put || request->operation == S3_COMPLETE_UPLOAD);
    if (request->condition == S3_IF_ABSENT) {
        call_add_header(call, "if-none-match", "*");
    } else if (request->condition == S3_IF_MATCH) {
        /* Of a write: without the quotes, as AWS writes it too; Ceph would never find it equal otherwise. */
        size_t skip = request->etag[0] == '"';
        (void) snprintf(call->etag, sizeof(call->etag), "%.*s", (int) strcspn(request->etag + skip, "\""),
                        request->etag + skip);
        call_add_header(call, "if-match", call->etag);
    }

    if (request->nonce)
        (void) snprintf(call->nonce, sizeof(call->nonce), "%s", request->nonce);
    else if (is_put && request->condition != S3_UNCONDITIONAL)
        random_hex(call->nonce);
    if (call->nonce[0] != '\0' && (is_put || request->operation == S3_CREATE_UPLOAD))
        call_add_header(call, S3_NONCE_HEADER, call->nonce);
}

enum err_code call_prepare(struct s3_call *call, struct s3_client *client, const struct s3_request *request,
                           struct err *err)
{
    *call = (struct s3_call){.client = client,
                             .request = request,
                             .path = BUF_INIT(S3_SIGN_TEXT_BYTES_MAX),
                             .url = BUF_INIT(S3_SIGN_TEXT_BYTES_MAX),
                             .begun_ms = clock_monotonic_ms()};
    for (size_t i = 0; i < request->header_count; i++)
        call_add_header(call, request->headers[i].name, request->headers[i].value);
    call_add_condition(call);
    call_hash_payload(call);
    call_add_checksum(call);
    if (request->timeout_ms)
        call->timeout_ms = request->timeout_ms;
    else if (request->operation == S3_COMPLETE_UPLOAD)
        call->timeout_ms = S3_COMPLETE_TIMEOUT_MS;
    else if (body_bytes(request) <= S3_HASHED_BYTES_MAX)
        call->timeout_ms = client->settings.request_timeout_ms;

    const struct s3_endpoint *endpoint = &client->target.endpoint;
    const char *key = operations[request->operation].is_bucket ? NULL : request->key;
    if (key && strlen(client->target.prefix) + strlen(key) > S3_KEY_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "The object store takes no keys longer than %d bytes, the prefix included",
                       S3_KEY_BYTES_MAX);
    if (!s3_target_path(&client->target, endpoint, key, &call->path) ||
        !buf_appendf(&call->url, "%s://%s", endpoint->tls ? "https" : "http", endpoint->host) ||
        !s3_encode_path(&call->url, call->path.ptr) || (request->query_count && !buf_append_char(&call->url, '?')) ||
        !s3_encode_query(&call->url, request->query, request->query_count))
        return err_set(err, ERR_LIMIT, "A request to the object store would be too long");
    return ERR_OK;
}

void call_release(struct s3_call *call)
{
    s3_http_end(call->exchange);
    call->exchange = NULL;
    buf_free(&call->path);
    buf_free(&call->url);
}

/* ---- one try ---- */

/* Sign and send. On success call->exchange is open and its head in call->answer. */
static enum err_code call_begin(struct s3_call *call, enum s3_http_fate *out_fate, struct err *err)
{
    struct s3_client *client = call->client;
    const struct s3_request *request = call->request;
    struct s3_keys keys;
    uint64_t expires_ms;
    *out_fate = S3_HTTP_NOT_SENT;
    call->answer.head.status = 0;
    call->access_key_id[0] = '\0';
    if (s3_credentials_get(client->settings.credentials, &keys, &expires_ms, err) != ERR_OK)
        return err->code;
    memcpy(call->access_key_id, keys.access_key_id, sizeof(call->access_key_id));

    const struct s3_sign_input input = {.method = operations[request->operation].method,
                                        .host = client->target.endpoint.host,
                                        .path = call->path.ptr,
                                        .query = request->query,
                                        .query_count = request->query_count,
                                        .headers = call->headers,
                                        .header_count = call->header_count,
                                        .payload_sha256 = call->payload_sha256,
                                        .time_ms = client_now_ms(client),
                                        .region = client->target.region,
                                        .service = "s3",
                                        .keys = &keys};
    char amz_date[S3_AMZ_DATE_BYTES];
    auto_buf authorization = BUF_INIT(S3_HTTP_HEADERS_BYTES_MAX);
    s3_amz_date(input.time_ms, amz_date);
    if (!s3_authorization(&authorization, &input))
        return err_set(err, ERR_LIMIT, "A request to the object store would be too long");

    struct s3_param headers[S3_PARAMS_MAX];
    size_t count = call->header_count;
    memcpy(headers, call->headers, count * sizeof(headers[0]));
    headers[count++] = (struct s3_param){"x-amz-date", amz_date};
    headers[count++] = (struct s3_param){"x-amz-content-sha256", call->payload_sha256};
    if (keys.session_token[0] != '\0')
        headers[count++] = (struct s3_param){"x-amz-security-token", keys.session_token};
    headers[count++] = (struct s3_param){"authorization", authorization.ptr};
    const struct s3_http_request http = {.method = input.method,
                                         .url = call->url.ptr,
                                         .headers = headers,
                                         .header_count = count,
                                         .body = request->body,
                                         .body_count = request->body_count,
                                         .timeout_ms = call->is_stream ? 0 : call->timeout_ms};
    return s3_http_begin(client->http, &http, &call->answer.head, &call->exchange, out_fate, err);
}

/* Read the body: of a success to out, of a failure to take S3's error from it. */
static enum err_code call_read(struct s3_call *call, struct err *err)
{
    int status = call->answer.head.status;
    bool is_success = status >= 200 && status < 300;
    /* CompleteMultipartUpload answers 200 before it knows. */
    bool is_late = call->request->operation == S3_COMPLETE_UPLOAD;
    if (is_success && call->is_stream)
        return ERR_OK;

    auto_buf scratch = BUF_INIT(ERROR_BODY_BYTES_MAX);
    struct buf *body = is_success && call->out && !is_late ? call->out : &scratch;
    size_t start = body->len;
    enum err_code code = s3_http_read_all(call->exchange, body, err);
    s3_http_end(TAKE_PTR(call->exchange));
    metric_add(METRIC_S3_BYTES_RECEIVED, body->len - start);
    if (code != ERR_OK && body == call->out) {
        body->len = start;
        if (body->ptr)
            body->ptr[start] = '\0';
        return code;
    }
    if (code != ERR_OK && is_success)
        return code;
    /* An error that is cut is an error none the less: its status is known. */
    if (!is_success || is_late)
        (void) s3_xml_read_error(buf_str(&scratch), &call->error);
    if (is_success && is_late && call->out && call->error.code[0] == '\0' &&
        !buf_append(call->out, buf_str(&scratch).ptr, scratch.len))
        return err_set(err, ERR_LIMIT, "The answer of the object store is longer than %zu bytes", call->out->max);
    return ERR_OK;
}

static void copy_str(char *out, size_t out_bytes, struct str text)
{
    size_t len = text.len < out_bytes ? text.len : out_bytes - 1;
    memcpy(out, text.ptr, len);
    out[len] = '\0';
}

/* One try, told in call->verdict; err is its error. */
static enum err_code call_try(struct s3_call *call, struct err *err)
{
    const struct operation *operation = &operations[call->request->operation];
    enum s3_http_fate fate;
    uint64_t begun_us = clock_monotonic_us();
    call->error = (struct s3_error){.code = ""};
    call->answer.tries++;
    enum err_code code = call_begin(call, &fate, err);
    bool was_sent = fate != S3_HTTP_NOT_SENT;
    if (was_sent)
        metric_add(METRIC_S3_BYTES_SENT, body_bytes(call->request));
    if (code == ERR_OK)
        code = call_read(call, err);

    struct s3_answer *answer = &call->answer;
    copy_str(answer->code, sizeof(answer->code), str_from(call->error.code));
    struct str request_id = s3_http_amz(&answer->head, "x-amz-request-id");
    copy_str(answer->request_id, sizeof(answer->request_id),
             request_id.len ? request_id : str_from(call->error.request_id));

    call->verdict = code == ERR_OK ? s3_verdict_of_answer(call->request->operation, &answer->head, &call->error)
                                   : s3_verdict_of_failure(code, fate);
    if (call->verdict.code != ERR_OK)
        s3_http_end(TAKE_PTR(call->exchange));
    bool had_keys = call->access_key_id[0] != '\0';
    if (!had_keys)
        call->verdict.retry = S3_RETRY_NEVER; /* s3_credentials.c has tried again itself */
    if (was_sent || (had_keys && code == ERR_STORE_GONE)) {
        metric_add((enum metric_counter)((int) operation->counter + (int) call->verdict.outcome), 1);
        metric_observe_us(METRIC_S3_REQUEST_SECONDS, clock_monotonic_us() - begun_us);
    }
    if (code == ERR_OK && call->verdict.code != ERR_OK)
        (void) err_set(err, call->verdict.code, "%s", call->verdict.message);
    return call->verdict.code;
}

/* ---- whose write is it? ---- */

/*
 * A refusal came after a try whose fate is unknown: was it our own write that stands in the way? ERR_OK: it was; the
 * answer then is that of a success.
 */
static enum err_code call_find_out(struct s3_call *call, struct err *err)
{
    const struct s3_request head = {.operation = S3_HEAD_OBJECT, .key = call->request->key};
    struct s3_answer answer;
    enum err_code refused = err->code;
    struct err failure = ERR_INIT;
    enum err_code code = s3_send(call->client, &head, &answer, NULL, &failure);
    if (code == ERR_NOT_FOUND)
        return refused;
    if (code != ERR_OK) {
        *err = failure;
        (void) err_become(err, code, "It is not known whether the object store has taken a write, try again");
        return code;
    }
    if (!str_equal(s3_http_amz(&answer.head, S3_NONCE_HEADER), str_from(call->nonce)))
        return refused;
    call->answer.head = answer.head;
    call->answer.code[0] = '\0';
    return ERR_OK;
}

/* ---- all tries ---- */

static void call_describe(const struct s3_call *call, struct err *err)
{
    const struct operation *operation = &operations[call->request->operation];
    const struct s3_target *target = &call->client->target;
    const struct s3_answer *answer = &call->answer;
    char hint[2 * S3_REGION_BYTES_MAX + 160] = "";
    struct str region = s3_http_amz(&answer->head, "x-amz-bucket-region");
    if (region.len == 0)
        region = str_from(call->error.region);
    if (region.len > 0 && region.len < S3_REGION_BYTES_MAX && !str_equal(region, str_from(target->region)))
        (void) snprintf(hint, sizeof(hint),
                        "; the bucket is in region '%.*s', but '%s' was asked: set the store's region",
                        (int) region.len, region.ptr, target->region);
    else if (err->code == ERR_READ_ONLY)
        (void) snprintf(hint, sizeof(hint), "; %s needs the permission %s", operation->name, operation->action);

    char status[S3_ERROR_CODE_BYTES_MAX + 320] = "";
    if (answer->head.status)
        (void) snprintf(status, sizeof(status), "%d %s%s%s: ", answer->head.status, answer->code,
                        call->error.message[0] ? ": " : "", call->error.message);
    (void) err_wrap(err, "%s %s%s: %s(request id %s, try %u)%s", operation->name, target->bucket,
                    operation->is_bucket ? "" : call->path.ptr + strlen(target->endpoint.base_path), status,
                    answer->request_id[0] ? answer->request_id : "none", answer->tries, hint);
}

/* What may be done about a failure: true when the next try may begin. */
static bool call_may_retry(struct s3_call *call, enum err_code code)
{
    struct s3_client *client = call->client;
    const struct s3_http_answer *head = &call->answer.head;
    switch (call->verdict.retry) {
    case S3_RETRY_NEVER:
        return false;
    case S3_RETRY_CLOCK:
        if (call->clock_was_set || head->date_ms == 0)
            return false;
        call->clock_was_set = true;
        atomic_store_explicit(&client->clock_offset_ms, (int64_t) (head->date_ms - clock_wall_ms()),
                              memory_order_relaxed);
        return true;
    case S3_RETRY_KEYS:
        if (call->keys_were_changed)
            return false;
        call->keys_were_changed = true;
        return s3_credentials_reject(client->settings.credentials, call->access_key_id);
    case S3_RETRY_LATER:
        break;
    }
    if (call->answer.tries >= client->settings.tries_max)
        return false;
    if (call->timeout_ms && clock_monotonic_ms() >= call->begun_ms + 2 * (uint64_t) call->timeout_ms)
        return false;
    call->token_cost = code == ERR_TIMEOUT ? S3_RETRY_COST_TIMEOUT : S3_RETRY_COST;
    return client_wait_to_retry(client, call->answer.tries, call->token_cost, head->retry_after_ms);
}

enum err_code call_run(struct s3_call *call, struct err *err)
{
    const struct s3_request *request = call->request;
    struct err failure = ERR_INIT;
    enum err_code code;
    for (;;) {
        code = call_try(call, &failure);
        if (code == ERR_OK) {
            tokens_give(call->client, call->token_cost ? (int) call->token_cost : 1);
            return ERR_OK;
        }
        if (call->verdict.retry == S3_RETRY_NEVER || !call_may_retry(call, code))
            break;
        call->answer.was_ambiguous = call->answer.was_ambiguous || call->verdict.may_be_applied;
    }

    bool is_refusal =
        call->answer.head.status == 412 || (code == ERR_NOT_FOUND && request->operation == S3_COMPLETE_UPLOAD);
    if (is_refusal && call->answer.was_ambiguous && call->nonce[0] != '\0') {
        code = call_find_out(call, &failure);
        if (code == ERR_OK)
            return ERR_OK;
    }
    if (code == ERR_PRECONDITION && request->condition == S3_IF_ABSENT)
        code = err_become(&failure, ERR_EXISTS, "exists already");
    else if (code == ERR_NOT_FOUND && request->condition == S3_IF_MATCH)
        code = err_become(&failure, ERR_PRECONDITION, "the precondition does not hold");
    call_describe(call, &failure);
    *err = failure;
    return code;
}

enum err_code s3_send(struct s3_client *client, const struct s3_request *request, struct s3_answer *answer,
                      struct buf *out, struct err *err)
{
    struct s3_call call;
    enum err_code code = call_prepare(&call, client, request, err);
    call.out = out;
    if (code == ERR_OK)
        code = call_run(&call, err);
    if (answer)
        *answer = call.answer;
    call_release(&call);
    return code;
}

/* ---- presigned URLs ---- */

enum err_code s3_presign_get(struct s3_client *client, const char *key, const struct s3_param *query,
                             size_t query_count, uint32_t expires_s, struct buf *out, struct err *err)
{
    const struct s3_endpoint *endpoint = &client->target.public_endpoint;
    struct s3_keys keys;
    uint64_t expires_ms;
    if (s3_credentials_get(client->settings.credentials, &keys, &expires_ms, err) != ERR_OK)
        return err->code;
    auto_buf path = BUF_INIT(S3_SIGN_TEXT_BYTES_MAX);
    struct s3_sign_input input = {.method = "GET",
                                  .host = endpoint->host,
                                  .query = query,
                                  .query_count = query_count,
                                  .time_ms = client_now_ms(client),
                                  .region = client->target.region,
                                  .service = "s3",
                                  .keys = &keys};
    /* An URL whose keys have expired is refused, whatever it says itself. */
    uint64_t now = clock_wall_ms();
    if (expires_ms && expires_ms < now + expires_s * (uint64_t) MS_PER_S)
        expires_s = expires_ms > now + MS_PER_S ? (uint32_t) ((expires_ms - now) / MS_PER_S) : 1;
    if (!s3_target_path(&client->target, endpoint, key, &path))
        return err_set(err, ERR_LIMIT, "A key of the object store is too long");
    input.path = path.ptr;
    if (!s3_presign(out, &input, endpoint->tls ? "https" : "http", expires_s))
        return err_set(err, ERR_LIMIT, "An URL of the object store is too long");
    return ERR_OK;
}

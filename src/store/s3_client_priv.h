/* Shared by s3_client.c (requests) and s3_stream.c (streaming GETs). */
#ifndef ORLOP_STORE_S3_CLIENT_PRIV_H
#define ORLOP_STORE_S3_CLIENT_PRIV_H

#include "digest/checksum.h"
#include "store/s3_client.h"
#include "store/s3_verdict.h"

#include <stdatomic.h>

struct s3_client {
    struct s3_client_settings settings;
    struct s3_target target;
    struct s3_http *http;
    _Atomic int64_t clock_offset_ms; /* the store's clock less ours */
    _Atomic int tokens;              /* of the retry budget */
};

/* One request on its way, over all its tries. */
struct s3_call {
    struct s3_client *client;
    const struct s3_request *request;
    struct buf *out; /* where a successful body goes; NULL: nowhere */
    /* A successful answer's body is left to the caller, who takes this over; set and read by s3_stream.c alone. */
    bool is_stream;
    struct s3_http_exchange *exchange;

    struct s3_answer answer;
    struct s3_error error; /* of the last try */
    struct s3_verdict verdict;
    uint64_t begun_ms;
    uint32_t timeout_ms; /* of a try; 0: none */
    unsigned token_cost; /* paid for the last retry; 0: none */
    bool clock_was_set;
    bool keys_were_changed;
    char access_key_id[S3_ACCESS_KEY_BYTES_MAX]; /* of the last try */

    /* the same for every try */
    struct s3_param headers[S3_PARAMS_MAX]; /* to be signed, less those of every request */
    size_t header_count;
    char payload_sha256[DIGEST_HEX_BYTES_MAX];
    char nonce[S3_NONCE_BYTES];
    char etag[S3_HTTP_ETAG_BYTES_MAX]; /* for S3_IF_MATCH */
    char md5[BASE64_BYTES(MD5_BYTES)];
    char crc32c[BASE64_BYTES(CRC32C_BYTES)];
    struct buf path;
    struct buf url;
};

/* Make ready (call_release in any case), then try until it succeeds or is given up. */
must_check enum err_code call_prepare(struct s3_call *call, struct s3_client *client, const struct s3_request *request,
                                      struct err *err);
must_check enum err_code call_run(struct s3_call *call, struct err *err);
void call_release(struct s3_call *call);

/* Pay for a retry and wait before it; number counts from 1. false: the budget is spent, nothing was waited. */
bool client_wait_to_retry(struct s3_client *client, unsigned number, unsigned cost, uint64_t retry_after_ms);
#define S3_RETRY_COST 5
#define S3_RETRY_COST_TIMEOUT 10

#endif

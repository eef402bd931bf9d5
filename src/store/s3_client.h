/*
 * One S3 request: signed, sent, retried where that is safe, its failure told in orlop's errors.
 *
 *     struct s3_request request = {.operation = S3_PUT_OBJECT, .key = key, .body = &bytes, .body_count = 1,
 *                                  .condition = S3_IF_ABSENT};
 *     struct s3_answer answer;
 *     return s3_send(client, &request, &answer, NULL, err);
 *
 * Retries: on 500, 502, 503, 504, 429, SlowDown, RequestTimeout, OperationAborted, timeouts, resets and cut answers, at
 * most tries_max tries, with full jitter (a random wait up to backoff_first_ms · 2^n, at most backoff_max_ms), not
 * sooner than Retry-After says (itself cut at retry_after_max_ms), and none begins later than twice its timeout after
 * the first try of a request that has one. A retry costs 5 tokens (10 after a timeout) of a
 * bucket of retry_tokens that each success refills by 1: in an outage the store sees each request about once.
 * 403 RequestTimeTooSkewed sets the client's clock offset from the answer's Date and tries once more; expired keys are
 * fetched anew, once. Redirects to another region are an error that names it.
 *
 * Conditional writes carry x-amz-meta-orlop-nonce. When a try's answer was lost and a later one is refused with 412, a
 * HEAD tells whose write is there: ours, then it succeeded; another's, then ERR_EXISTS or ERR_PRECONDITION.
 *
 * Errors: ERR_NOT_FOUND (404), ERR_EXISTS (S3_IF_ABSENT refused), ERR_PRECONDITION (any other 412; S3_IF_MATCH on
 * what is gone), ERR_NO_SPACE (QuotaExceeded, 507), ERR_READ_ONLY (403: the detail names the IAM action; or 405),
 * ERR_RANGE_NOT_SATISFIABLE (416), ERR_LIMIT (the answer is longer than out takes), ERR_BUSY (no connection became
 * free, or the store is slowing us down), ERR_TIMEOUT, ERR_STORE_GONE (no connection), ERR_UPSTREAM (all else). The
 * detail holds operation, key, status, S3's code and message, and its request id.
 *
 * Threads: any.
 */
#ifndef ORLOP_STORE_S3_CLIENT_H
#define ORLOP_STORE_S3_CLIENT_H

#include "store/s3_credentials.h"
#include "store/s3_http.h"
#include "store/s3_target.h"

#define S3_ERROR_CODE_BYTES_MAX 64
#define S3_REQUEST_ID_BYTES_MAX 96
#define S3_NONCE_BYTES 33 /* 32 hex characters and the NUL */
#define S3_NONCE_HEADER "x-amz-meta-orlop-nonce"
#define S3_HASHED_BYTES_MAX 65536 /* bodies up to this are always signed with their hash */
#define S3_COMPLETE_TIMEOUT_MS (5 * 60 * 1000)
#define S3_STREAM_RESUMES_MAX 8 /* of one stream */
#define S3_TO_END UINT64_MAX

enum s3_operation {
#define S3_OPERATION(id, method, name, action, is_bucket) S3_##id,
#include "store/s3_operation_table.h"
#undef S3_OPERATION
    S3_OPERATION_COUNT
};

/*
 * Sent with the bodies of PutObject and UploadPart, for stores (or networks) that ask for more than TLS and TCP give.
 * CRC32C is asked for by CreateMultipartUpload too, and CompleteMultipartUpload must then name each part's (struct
 * s3_part): x-amz-checksum-crc32c of the part's answer.
 */
enum s3_checksum { S3_CHECKSUM_NONE, S3_CHECKSUM_CRC32C, S3_CHECKSUM_MD5 };

struct s3_client_settings {
    const struct s3_target *target;     /* copied */
    struct s3_credentials *credentials; /* borrowed */
    const char *ca_file;                /* see s3_http_settings */
    size_t connections_max;
    uint32_t wait_timeout_ms; /* for a free connection */
    uint32_t connect_timeout_ms;
    uint32_t stall_timeout_ms;   /* without a byte moving */
    uint32_t request_timeout_ms; /* of one try of a request with at most S3_HASHED_BYTES_MAX of body, its answer read */
    unsigned tries_max;
    uint32_t backoff_first_ms;
    uint32_t backoff_max_ms;
    uint32_t retry_after_max_ms;
    unsigned retry_tokens; /* 0: unlimited retries (within tries_max) */
    enum s3_checksum checksum;
    bool payloads_are_hashed; /* sign the hash of long bodies too, at the price of a second pass */
};

#define S3_CLIENT_DEFAULTS                                    \
    ((struct s3_client_settings){.connections_max = 64,       \
                                 .wait_timeout_ms = 30000,    \
                                 .connect_timeout_ms = 5000,  \
                                 .stall_timeout_ms = 30000,   \
                                 .request_timeout_ms = 30000, \
                                 .tries_max = 5,              \
                                 .backoff_first_ms = 100,     \
                                 .backoff_max_ms = 10000,     \
                                 .retry_after_max_ms = 20000, \
                                 .retry_tokens = 500})

struct s3_client;

enum s3_condition { S3_UNCONDITIONAL, S3_IF_ABSENT, S3_IF_MATCH };

/* Everything is borrowed until the call returns. Zero is a good value for whatever is not named. */
struct s3_request {
    enum s3_operation operation;
    const char *key;              /* below the target's prefix; not used by operations on the bucket */
    const struct s3_param *query; /* raw */
    size_t query_count;
    const struct s3_param *headers; /* names in lower case, values without line ends */
    size_t header_count;
    const struct str *body; /* spans, sent one after the other */
    size_t body_count;
    const char *payload_sha256;  /* of the body when known, in hex: S3 then verifies it. Else see S3_HASHED_BYTES_MAX */
    enum s3_condition condition; /* of PUT_OBJECT and COMPLETE_UPLOAD */
    const char *etag;            /* for S3_IF_MATCH */
    /*
     * The nonce of a conditional PUT_OBJECT; NULL: one is made up. CREATE_UPLOAD sends it when it is given, and
     * COMPLETE_UPLOAD then takes it to tell, after a lost answer, that NoSuchUpload or 412 means "done already".
     */
    const char *nonce;
    uint32_t timeout_ms; /* of each try; 0: as set for the client, for COMPLETE_UPLOAD S3_COMPLETE_TIMEOUT_MS */
};

struct s3_answer {
    struct s3_http_answer head;               /* of the last try */
    char code[S3_ERROR_CODE_BYTES_MAX];       /* S3's error code, "" on success or when it said none */
    char request_id[S3_REQUEST_ID_BYTES_MAX]; /* S3's, "" when it said none */
    unsigned tries;
    bool was_ambiguous; /* an earlier try may have been applied although its answer was lost */
};

must_check enum err_code s3_client_open(const struct s3_client_settings *settings, struct s3_client **out,
                                        struct err *err);
/* No request may be under way. NULL is fine. */
void s3_client_close(struct s3_client *client);
const struct s3_target *s3_client_target(const struct s3_client *client);

/*
 * The body of a successful answer is appended to out (its limit holds; NULL: no body is wanted). answer may be NULL.
 * A CompleteMultipartUpload answered 200 with an error inside fails as that error.
 */
must_check enum err_code s3_send(struct s3_client *client, const struct s3_request *request, struct s3_answer *answer,
                                 struct buf *out, struct err *err);

/* ---- streaming GETs ---- */

struct s3_stream;

/*
 * GET len bytes of key from offset (S3_TO_END: all that follow) and wait for the head. A stream that breaks goes on by
 * Range and If-Match at the byte where it stopped; ERR_PRECONDITION when the object is another by then.
 */
must_check enum err_code s3_stream_open(struct s3_client *client, const char *key, uint64_t offset, uint64_t len,
                                        struct s3_stream **out, struct s3_answer *answer, struct err *err);
/* Up to len bytes; *out_len is 0 only at the end, which is where it was announced to be. */
must_check enum err_code s3_stream_read(struct s3_stream *stream, void *bytes, size_t len, size_t *out_len,
                                        struct err *err);
/* Bytes from the stream's start (offset) that were read. */
uint64_t s3_stream_position(const struct s3_stream *stream);
/* NULL is fine. */
void s3_stream_close(struct s3_stream *stream);

/* ---- presigned URLs ---- */

/*
 * Append an URL at the public endpoint by which anyone can GET key for expires_s seconds, or for as long as the keys
 * are valid if that is shorter. query: response-content-type and the like.
 */
must_check enum err_code s3_presign_get(struct s3_client *client, const char *key, const struct s3_param *query,
                                        size_t query_count, uint32_t expires_s, struct buf *out, struct err *err);

/* "PutObject" */
const char *s3_operation_name(enum s3_operation operation);

#endif

/*
 * AWS Signature Version 4, as pure functions: no clock, no environment, no I/O.
 *
 * Paths and query parameters are given raw, as they are meant; they are percent-encoded here, once, by S3's rules:
 * everything but A-Z a-z 0-9 - . _ ~ is encoded ('/' is kept in paths), and a path is never normalised ("//" and ".."
 * are ordinary parts of a key).
 */
#ifndef ORLOP_STORE_S3_SIGN_H
#define ORLOP_STORE_S3_SIGN_H

#include "base/buf.h"
#include "digest/digest.h"

#define S3_PARAMS_MAX 32              /* headers, or query parameters, of one request, those added here included */
#define S3_SIGN_TEXT_BYTES_MAX 65536  /* a canonical request, an URL */
#define S3_AMZ_DATE_BYTES 17          /* "20130524T000000Z" and the NUL */
#define S3_PRESIGN_SECONDS_MAX 604800 /* seven days: S3 accepts no more */
#define S3_UNSIGNED_PAYLOAD "UNSIGNED-PAYLOAD"

#define S3_ACCESS_KEY_BYTES_MAX 129
#define S3_SECRET_KEY_BYTES_MAX 257
#define S3_SESSION_TOKEN_BYTES_MAX 8192 /* tokens of STS are 300 to 4,000 bytes long */

/* A header or query parameter: raw texts. */
struct s3_param {
    const char *name;
    const char *value;
};

struct s3_keys {
    char access_key_id[S3_ACCESS_KEY_BYTES_MAX];
    char secret_access_key[S3_SECRET_KEY_BYTES_MAX];
    char session_token[S3_SESSION_TOKEN_BYTES_MAX]; /* "": none */
};

/* What is signed. Everything is borrowed. */
struct s3_sign_input {
    const char *method;
    const char *host; /* as in the Host header: with its port unless that is the scheme's own */
    const char *path; /* raw, begins with '/' */
    const struct s3_param *query;
    size_t query_count;
    const struct s3_param *headers; /* every header to be signed; each name once, in any case and order */
    size_t header_count;
    const char *payload_sha256; /* lower-case hex, or S3_UNSIGNED_PAYLOAD */
    uint64_t time_ms;           /* since 1970 */
    const char *region;
    const char *service; /* "s3", "sts" */
    const struct s3_keys *keys;
};

/* ---- the pieces, each appended to out; false: out's limit was reached ---- */

bool s3_encode_path(struct buf *out, const char *path);
bool s3_encode_query_text(struct buf *out, const char *text);
/* "a=1&b=2", encoded and sorted as SigV4 wants it, which is also the query to send. */
bool s3_encode_query(struct buf *out, const struct s3_param *query, size_t count);

/* "20130524T000000Z"; out has S3_AMZ_DATE_BYTES. */
void s3_amz_date(uint64_t time_ms, char *out);
/* Exactly of the headers given, host included by the caller. */
bool s3_canonical_request(struct buf *out, const struct s3_sign_input *input);
bool s3_string_to_sign(struct buf *out, const struct s3_sign_input *input, struct str canonical_request);
/* 64 hex characters and a NUL. */
void s3_signature(const struct s3_sign_input *input, struct str string_to_sign, char out[DIGEST_HEX_BYTES_MAX]);

/* ---- the whole ---- */

/*
 * The Authorization header's value. Signed are the headers of input and those every S3 request has, which the caller
 * sends beside: host, x-amz-date (s3_amz_date), x-amz-content-sha256 and, with a session token, x-amz-security-token.
 */
bool s3_authorization(struct buf *out, const struct s3_sign_input *input);

/*
 * Append "https://host/path?…&X-Amz-Signature=…" (scheme without "://"), good for expires_s seconds from input's time.
 * Its query holds input's own parameters (response-content-type and the like). input's headers are not used: only
 * host is signed; nor is the payload.
 */
bool s3_presign(struct buf *out, const struct s3_sign_input *input, const char *scheme, uint32_t expires_s);

#endif

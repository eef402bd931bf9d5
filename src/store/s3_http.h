/*
 * HTTP exchanges over a bounded pool of kept connections. The one user of libcurl.
 *
 * An exchange is begun (request sent, answer's head received), read piece by piece, and ended; all blocking, from any
 * thread, one owner at a time. Nothing is signed, retried or followed here: s3_client.h does that. Between reads the
 * peer is not timed: a slow consumer is no slow store.
 */
#ifndef ORLOP_STORE_S3_HTTP_H
#define ORLOP_STORE_S3_HTTP_H

#include "base/buf.h"
#include "base/err.h"
#include "store/s3_sign.h"

#define S3_HTTP_CONNECTIONS_MAX 512
#define S3_HTTP_HEADERS_BYTES_MAX 16384 /* of an answer */
#define S3_HTTP_ETAG_BYTES_MAX 256
#define S3_HTTP_AMZ_BYTES_MAX 2048
#define S3_HTTP_UNKNOWN UINT64_MAX

struct s3_http; /* the pool */
struct s3_http_exchange;

struct s3_http_settings {
    size_t connections_max;      /* at once, 1 … S3_HTTP_CONNECTIONS_MAX */
    uint32_t wait_timeout_ms;    /* for a free connection */
    uint32_t connect_timeout_ms; /* name, TCP and TLS */
    uint32_t stall_timeout_ms; /* without a byte moving either way while it is waited for: of requests without limit */
    const char *ca_file;       /* PEM file or hashed directory; NULL or "": the system's */
    bool proxy_is_ignored;     /* the environment's proxies are not for metadata services */
};

struct s3_http_request {
    const char *method;
    const char *url;
    const struct s3_param *headers; /* all but Host, Content-Length and User-Agent */
    size_t header_count;
    const struct str *body; /* spans, borrowed until the exchange began */
    size_t body_count;
    uint32_t timeout_ms; /* for all of it, reading included; 0: as long as bytes move */
};

/* An answer's head. */
struct s3_http_answer {
    int status;
    char etag[S3_HTTP_ETAG_BYTES_MAX];
    uint64_t content_length;   /* S3_HTTP_UNKNOWN: not said */
    uint64_t range_first;      /* of Content-Range; S3_HTTP_UNKNOWN: none */
    uint64_t range_total;      /* the whole object's size there; S3_HTTP_UNKNOWN: none */
    uint64_t retry_after_ms;   /* 0: none. A date becomes a distance from the answer's own Date */
    uint64_t date_ms;          /* 0: none */
    uint64_t last_modified_ms; /* 0: none */
    char location[512];
    char amz
        [S3_HTTP_AMZ_BYTES_MAX]; /* "x-amz-…:value\n" of each, names in lower case; those that do not fit are dropped */
};

/* How far a failed exchange came: whether the server may have acted on it. */
enum s3_http_fate {
    S3_HTTP_NOT_SENT,  /* no connection, or not a byte of the request went out */
    S3_HTTP_AMBIGUOUS, /* sent in part or whole, no answer */
    S3_HTTP_ANSWERED,  /* the head arrived; the body may be cut */
};

must_check enum err_code s3_http_open(const struct s3_http_settings *settings, struct s3_http **out, struct err *err);
/* No exchange may be open. NULL is fine. */
void s3_http_close(struct s3_http *http);

/*
 * Send and wait for the answer's head; *out is then to be ended. ERR_BUSY: no connection became free; ERR_TIMEOUT;
 * ERR_STORE_GONE: no connection could be made (name, TCP, TLS: the detail says); ERR_UPSTREAM: it broke. On failure
 * *out_fate says how far it came and nothing is left to end.
 */
must_check enum err_code s3_http_begin(struct s3_http *http, const struct s3_http_request *request,
                                       struct s3_http_answer *answer, struct s3_http_exchange **out,
                                       enum s3_http_fate *out_fate, struct err *err);
/* Up to len bytes (len > 0); *out_len is 0 only at the end. A body shorter than its Content-Length is ERR_UPSTREAM. */
must_check enum err_code s3_http_read(struct s3_http_exchange *exchange, void *bytes, size_t len, size_t *out_len,
                                      struct err *err);
/* Append the rest to out. ERR_LIMIT when it does not fit. */
must_check enum err_code s3_http_read_all(struct s3_http_exchange *exchange, struct buf *out, struct err *err);
/*
 * Let go of an exchange until it is read on: when somebody needs a connection and none is free, the exchange that was
 * let go of longest ago is ended. Returns what s3_http_unpark wants, never 0.
 */
uint64_t s3_http_park(struct s3_http_exchange *exchange);
/* false: it was ended meanwhile, and is not to be looked at any more. */
bool s3_http_unpark(struct s3_http *http, struct s3_http_exchange *exchange, uint64_t parking);
/* The connection is kept when the body was read to its end, else closed. NULL is fine. */
void s3_http_end(struct s3_http_exchange *exchange);

/* begin, read_all and end in one. The body of any status is appended to out. */
must_check enum err_code s3_http_exchange_all(struct s3_http *http, const struct s3_http_request *request,
                                              struct s3_http_answer *answer, struct buf *out,
                                              enum s3_http_fate *out_fate, struct err *err);

/* The value of an x-amz- header, name in lower case; empty when it is not there. Borrowed from answer. */
struct str s3_http_amz(const struct s3_http_answer *answer, const char *name);

/* "Wed, 21 Oct 2015 07:28:00 GMT" to milliseconds since 1970. false: no date. */
bool s3_http_parse_date(struct str text, uint64_t *out_ms);

#endif

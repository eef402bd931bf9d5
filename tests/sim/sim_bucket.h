/*
 * An S3 bucket in memory: what orlop's driver uses of S3, with S3's semantics, strongly consistent.
 *
 *     PUT GET HEAD DELETE            with Range, If-Match, If-None-Match: *, x-amz-meta-…, x-amz-content-sha256
 *     ListObjectsV2                  prefix, delimiter, start-after, continuation-token, max-keys, encoding-type=url
 *     DeleteObjects                  quiet
 *     multipart                      create, upload part, complete, abort, ListParts, ListMultipartUploads
 *
 * A request is answered in one step (sim_bucket_answer): atomic, as S3 is. What makes it a network (delays, losses)
 * is sim_http.c's. Every change of an object is told to `watch` before it is made, which is where a test checks what
 * must hold at each moment.
 */
#ifndef ORLOP_TESTS_SIM_BUCKET_H
#define ORLOP_TESTS_SIM_BUCKET_H

#include "base/buf.h"
#include "store/s3_http.h"

#define SIM_KEY_BYTES_MAX 1025
#define SIM_ETAG_BYTES 40
#define SIM_NONCE_BYTES 40

/* How it differs from AWS's, or is made to misbehave. */
struct sim_bucket_ways {
    /* Ceph RGW: CompleteMultipartUpload refuses an upload that has parts beside those listed. */
    bool complete_wants_all_parts;
    /* At most this many entries on a page of a listing, whatever max-keys says; 0: 1000. */
    size_t page_entries;
    /* It knows no conditions: 501 to whoever asks for one. */
    bool refuses_conditions;
    /* Least bytes of a part that is not the last. */
    uint64_t part_bytes_min;
    /* Broken on purpose, to prove that tests notice. */
    bool ignores_if_none_match;
    unsigned loses_puts_of_10000;  /* answers 200 and keeps nothing */
    unsigned cuts_puts_of_10000;   /* keeps half of it */
    unsigned lists_stale_of_10000; /* leaves the newest object out of a page */
};

struct sim_object {
    char *key;
    char *bytes;
    size_t len;
    char etag[SIM_ETAG_BYTES]; /* with its quotes */
    char nonce[SIM_NONCE_BYTES];
    uint64_t modified_ms;
};

struct sim_bucket;

/* before and after are NULL where there is nothing: one of them may be. Called before the change is made. */
typedef void sim_watch_fn(void *arg, const char *key, const struct sim_object *before, const struct sim_object *after);

struct sim_bucket *sim_bucket_new(const struct sim_bucket_ways *ways);
void sim_bucket_free(struct sim_bucket *bucket);
void sim_bucket_watch(struct sim_bucket *bucket, sim_watch_fn *fn, void *arg);

struct sim_request {
    const char *method;
    const char *key; /* NULL: about the bucket */
    const struct s3_param *query;
    size_t query_count;
    const struct s3_param *headers;
    size_t header_count;
    struct str body;
};

/* The answer's head goes to answer, its body is appended to out. */
void sim_bucket_answer(struct sim_bucket *bucket, const struct sim_request *request, struct s3_http_answer *answer,
                       struct buf *out);
/* An answer that is an error: <Error><Code>…. */
void sim_bucket_error(int status, const char *code, struct s3_http_answer *answer, struct buf *out);

/* ---- for tests: look without asking ---- */

/* NULL: it is not there. */
const struct sim_object *sim_bucket_find(const struct sim_bucket *bucket, const char *key);
/* The index-th object in order of key; NULL past the last. */
const struct sim_object *sim_bucket_at(const struct sim_bucket *bucket, size_t index);
size_t sim_bucket_upload_count(const struct sim_bucket *bucket);

#endif

/*
 * Fields of requests and replies as pure functions: targets, queries, ranges, conditions, media types, links.
 *
 * HTTP's inclusive ranges become half-open [first, end) here and never travel further.
 */
#ifndef ORLOP_HTTP_FIELD_H
#define ORLOP_HTTP_FIELD_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define FIELD_RANGES_MAX 64 /* more ranges in one request: the header is ignored (RFC 9110 §14.2 allows it) */
#define FIELD_QUERY_PAIRS_MAX 64

/* Is all of text one or more of the characters RFC 9110 allows in a token (a field's name)? */
bool field_is_token(struct str text);

/*
 * Percent-decode a path part. false: bad escape, NUL, or a control character. out needs len + 1 bytes; NUL-terminated.
 */
bool field_decode_path(struct str text, char *out, size_t *out_len);

/* A parsed query string, form-encoded: '+' is a space. Names and values point into `storage`. */
struct field_query {
    struct field_pair {
        struct str name;
        struct str value;
    } pairs[FIELD_QUERY_PAIRS_MAX];
    size_t count;
    char *storage;
};

/* false: bad escape, NUL or too many pairs. text NULL/empty is fine. Free with field_query_free in every case. */
bool field_query_parse(struct str text, struct field_query *out);
void field_query_free(struct field_query *query);
/* The first value of name; ptr NULL when absent. */
struct str field_query_get(const struct field_query *query, const char *name);
/* The index-th value of name (repeated parameters); ptr NULL when there are fewer. */
struct str field_query_get_nth(const struct field_query *query, const char *name, size_t index);

/* What a Range header asks of a body of size_bytes (RFC 9110 §14). */
enum field_range_kind {
    FIELD_RANGE_NONE,          /* no, malformed, or another unit: send 200 with everything */
    FIELD_RANGE_SOME,          /* 206 with ranges[0..count) */
    FIELD_RANGE_UNSATISFIABLE, /* 416 with "bytes *" "/size" */
};

struct field_range {
    uint64_t first;
    uint64_t end;
};

struct field_ranges {
    struct field_range ranges[FIELD_RANGES_MAX];
    size_t count;
};

/* Clamps to size; drops unsatisfiable ranges beside satisfiable ones; `first > last` makes that range unsatisfiable
 * (spec suite: 500-0 is 416). More than FIELD_RANGES_MAX ranges, or ranges that together exceed the body (they
 * overlap): FIELD_RANGE_NONE. */
enum field_range_kind field_range_parse(struct str text, uint64_t size_bytes, struct field_ranges *out);

/* A chunk's Content-Range, "<first>-<last>" and nothing else; also takes RFC 9110's "bytes first-last/total". false:
 * malformed, last < first, or overflow. */
bool field_content_range_parse(struct str text, uint64_t *out_first, uint64_t *out_end);

/* Does an If-None-Match / If-Match list (or "*") hold this entity tag (given without quotes)? Weak tags match when
 * weak_ok. */
bool field_etag_matches(struct str list, struct str etag, bool weak_ok);

/* The media type of a Content-Type, without parameters and white space; empty when there is none or it is malformed. */
struct str field_media_type(struct str content_type);

/* "user:password" of a Basic Authorization header, base64-decoded into out (NUL-terminated). false: not Basic, bad
 * base64, NUL inside, no colon, or too long. */
bool field_basic_parse(struct str authorization, char *out, size_t out_bytes);

/* Append text percent-encoded for a query value (unreserved characters stay). */
bool field_encode_query(struct buf *out, struct str text);

#endif

/*
 * An answer as the endpoints build it (request.h) and as the network sends it: a status, headers, and a body of
 * segments in memory, in files, or read from elsewhere (streams).
 *
 * Building never fails for the caller: when memory or a limit ends, the reply is marked broken and reply_seal makes a
 * plain 503 of it. Threads: owned by whoever owns the request.
 */
#ifndef ORLOP_HTTP_REPLY_H
#define ORLOP_HTTP_REPLY_H

#include "http/request.h"

#define REPLY_HEADER_BYTES_MAX ((size_t) 16 * 1024)
#define REPLY_SEGMENTS_MAX \
    (2 * FIELD_RANGES_MAX + 2) /* multipart/byteranges: a part's head and its bytes, and the end */
#define REPLY_RETRY_AFTER_S 1

struct reply_segment {
    uint64_t len;
    const char *bytes;   /* in memory, until release(arg) */
    reply_read_fn *read; /* or read from arg, until release(arg) */
    void (*release)(void *);
    void *arg;
    int fd; /* or, else, in a file; -1: nowhere, for HEAD */
    bool owned;
    uint64_t offset;
};

struct reply {
    int status;         /* 0: not decided yet */
    struct buf headers; /* "name\0value\0" for each */
    struct reply_segment *segments;
    size_t segment_count;
    size_t segment_cap;
    uint64_t body_bytes;
    bool streams; /* some segment is a stream */
    bool broken;
    enum err_code error; /* for the log; ERR_OK when it is not an error answer */
    char error_detail[ERR_DETAIL_BYTES_MAX];
};

void reply_init(struct reply *reply);
void reply_free(struct reply *reply);

/* The building blocks under request.h's functions, for answers that belong to no endpoint. */
void reply_set_header(struct reply *reply, const char *name, const char *value);
void reply_set_error(struct reply *reply, const struct err *err, const char *request_id);

/* Is there a body to be read from elsewhere, but for HEAD? */
bool reply_is_streamed(const struct reply *reply);
/* No more changes: replace a broken reply, drop the body of a status that has none. */
void reply_seal(struct reply *reply);
/* Walk the headers: *at starts at 0; false at the end. */
bool reply_next_header(const struct reply *reply, size_t *at, const char **out_name, const char **out_value);
/* Copy body bytes from pos of a reply without streams; 0 only past the end, -1 when a file is shorter than it was said
 * to be, or unreadable. */
ssize_t reply_read_body(const struct reply *reply, uint64_t pos, char *out, size_t len);
/* The same for any reply; may block. 0: err says why. */
size_t reply_fill(const struct reply *reply, uint64_t pos, char *out, size_t len, struct err *err);
/* Is there a file segment that ends before its bytes do? */
bool reply_is_truncated(const struct reply *reply);

/* The whole answer, which has no streams, as HTTP/1.1 with Connection: close. false: it does not fit out, or a file
 * cannot be read. */
bool reply_render(const struct reply *reply, bool is_head, struct buf *out);

#endif

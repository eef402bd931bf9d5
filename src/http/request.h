/*
 * One request, from its headers to the end of its answer, and the endpoint that serves it.
 *
 *             headers complete             worker                     worker, for each batch        worker
 *   PARSED ───► authorize, route ──► run() ───────────► RECEIVING ──► body() … body() ──► end() ──► REPLYING ──► DONE
 *     │              │                 │ (no body)          │                               │
 *     │ fast() true  │ refused         └───── reply ────────┼── early reply ────────────────┘
 *     └──────────────┴───────────────────────► REPLYING     └── client gone, too slow ──► gone() ──► DONE
 *
 * Threads: a request has one owner at a time. fast() runs on a network thread and must neither block nor touch the
 * store (but may open a local blob file); run(), body(), end() and gone() run on a worker, one after the other, and may
 * block. While a worker owns it the connection is suspended, or (streaming) the network thread only fills the pipe.
 * A slow client never holds a worker: body() is called only when there are bytes.
 *
 * Bodies: BODY_NONE endpoints get none (one that is sent is drained and dropped). BODY_BUFFER collects at most
 * body_bytes_max into request->body (more: ERR_MANIFEST_TOO_BIG is answered) before run(). BODY_STREAM calls run()
 * before the first byte — it may answer at once — then body() and end().
 *
 * An endpoint function has answered when it returns with a status set (reply_status, reply_error); before and after
 * that it may add headers and body. run() of a streaming endpoint and body() may return without: the request goes on.
 * Once one has answered, or end() or gone() was called, no function is called any more and request->state must be
 * released.
 */
#ifndef ORLOP_HTTP_REQUEST_H
#define ORLOP_HTTP_REQUEST_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "http/field.h"
#include "registry/name.h"
#include "registry/registry.h"

struct http_server;
struct request;

/* Read up to len bytes from offset on. It may block and is called on workers only, never two at once for one answer.
 * Fewer bytes than asked for are fine, but none (*out_len 0) is the unexpected end: the connection is then cut. */
typedef enum err_code reply_read_fn(void *arg, uint64_t offset, void *bytes, size_t len, size_t *out_len,
                                    struct err *err);

enum http_method { METHOD_GET, METHOD_HEAD, METHOD_POST, METHOD_PUT, METHOD_PATCH, METHOD_DELETE, METHOD_OTHER };

enum body_kind { BODY_NONE, BODY_BUFFER, BODY_STREAM };

/* What the caller must be allowed to do in request->repo. */
enum access { ACCESS_NONE, ACCESS_PULL, ACCESS_PUSH, ACCESS_DELETE, ACCESS_CATALOG };

struct endpoint {
    const char *name; /* for logs: "manifest-get" */
    enum http_method method;
    enum access access;
    enum body_kind body_kind;
    size_t body_bytes_max;                 /* BODY_BUFFER */
    bool (*fast)(struct request *request); /* NULL: always run(); true: the reply is set */
    void (*run)(struct request *request);
    void (*body)(struct request *request, const void *bytes, size_t len);
    void (*end)(struct request *request);  /* the body is complete; must set the reply */
    void (*gone)(struct request *request); /* release request->state without a reply; NULL when there is none */
};

struct request {
    /* Set before any endpoint function is called; read-only for them. */
    struct http_server *server;
    struct registry *registry;
    const struct endpoint *endpoint;
    enum http_method method;
    bool is_head;          /* HEAD is served by GET's endpoint; the body is dropped by the engine */
    struct str target;     /* raw request target */
    struct repo_name repo; /* "" when the route has none */
    struct str last;       /* the route's last part, decoded: reference, digest, upload id; "" if none */
    struct field_query query;
    bool has_content_length;
    uint64_t content_length; /* when has_content_length */
    char id[UUID_TEXT_BYTES];
    const char *user; /* NULL: anonymous */

    struct buf body; /* BODY_BUFFER */

    /* The endpoint's own, from run() to end() or gone(). */
    void *state;

    /* The answer: set once by the functions below. */
    struct reply *reply;
};

/* A request header's value; repeated headers are joined with ", ". ptr NULL when absent. Valid while the request is. */
struct str request_header(struct request *request, const char *name);
/* May this caller pull from another repository (mount)? */
bool request_may_pull(struct request *request, const struct repo_name *repo);

/* ---- the answer; each call before the reply is sent; strings are copied ---- */

/* Begin the answer: a status and no body yet (Content-Length: 0, none for 204 and 304). */
void reply_status(struct request *request, int status);
/* Add a header. Name and value must be clean (asserted: no CR, LF). */
void reply_header(struct request *request, const char *name, const char *value);
void reply_headerf(struct request *request, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Body from a buffer, whose memory moves into the reply (buf is left empty). */
void reply_body_take(struct request *request, struct buf *body);
/* Body from memory owned by somebody else until release(arg) is called. */
void reply_body_shared(struct request *request, const void *bytes, size_t len, void (*release)(void *), void *arg);
/* Body from [offset, offset + len) of fd, which the reply takes and closes; a single one goes out by sendfile. Mixed
 * with reply_body_text for multipart/byteranges: segments are sent in the order they were added. dup()s nothing: pass
 * owned = false for all but one of the segments that share an fd. fd -1, on HEAD only: the length without the bytes. */
void reply_body_file(struct request *request, int fd, bool owned, uint64_t offset, uint64_t len);
void reply_body_text(struct request *request, const char *text, size_t len);
/* Body from [offset, offset + len) of what read() reads, for a blob that is no local file; the answer must begin after
 * the request's end (not in run() of a BODY_STREAM endpoint, nor in body()). Mixes with reply_body_text as files do.
 * release(arg) (may be NULL) is called once, on any thread, when nothing of the answer is read any more: give it to
 * only one of the segments that share an arg. read() is called as the client takes the bytes, with a bounded ring
 * between, and not at all on HEAD. Its error cuts the connection, as a status was sent before, and is logged with the
 * request. */
void reply_body_stream(struct request *request, uint64_t offset, uint64_t len, reply_read_fn *read,
                       void (*release)(void *arg), void *arg);
/* The error answer: status, OCI JSON body, and for 5xx the request id in the message instead of internals; the detail
 * is logged with the request. Replaces status and body; headers stay. 401 gets its WWW-Authenticate, 503 and 429 a
 * Retry-After. */
void reply_error(struct request *request, const struct err *err);

/* For tests and logs. */
int reply_status_code(const struct request *request);

#endif

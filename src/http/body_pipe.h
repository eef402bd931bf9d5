/*
 * A ring of bytes between one writer and one reader, of a size fixed at its start: a request's body on its way from a
 * network thread to a worker, or a streamed answer's from a worker to a network thread.
 *
 * Neither side ever waits in here: a write takes what fits, a read shows what is there. Who sleeps and who wakes whom
 * is decided by exchange*.c. Threads: one writer and one reader at a time, each may call body_pipe_used,
 * body_pipe_room and body_pipe_written.
 */
#ifndef ORLOP_HTTP_BODY_PIPE_H
#define ORLOP_HTTP_BODY_PIPE_H

#include "base/buf.h"

#include <stdatomic.h>

struct body_pipe {
    char *bytes; /* NULL until body_pipe_init */
    size_t cap;
    _Atomic uint64_t written; /* all bytes ever put in; only the writer changes it */
    _Atomic uint64_t read;    /* all bytes ever taken out; only the reader changes it */
};

/* false: no memory. */
bool body_pipe_init(struct body_pipe *ring, size_t cap);
void body_pipe_free(struct body_pipe *ring);

/* Writer: copy in as much as fits; returns how much that was. */
size_t body_pipe_write(struct body_pipe *ring, const void *bytes, size_t len);
/*
 * Writer: the longest free run that lies together (*out_len may be 0), to fill in place; then commit what was filled.
 */
char *body_pipe_space(const struct body_pipe *ring, size_t *out_len);
void body_pipe_commit(struct body_pipe *ring, size_t len);
/* Reader: the longest run that lies together; empty when nothing is there. Valid until it is consumed. */
struct str body_pipe_peek(const struct body_pipe *ring);
/* Reader: give back the first len bytes of what peek showed. */
void body_pipe_consume(struct body_pipe *ring, size_t len);

size_t body_pipe_used(const struct body_pipe *ring);
size_t body_pipe_room(const struct body_pipe *ring);
/* All bytes ever put in. */
uint64_t body_pipe_written(const struct body_pipe *ring);

#endif

#include "http/body_pipe.h"

#include <assert.h>
#include <stdlib.h>

bool body_pipe_init(struct body_pipe *ring, size_t cap)
{
    assert(cap > 0);
    ring->bytes = malloc(cap);
    ring->cap = cap;
    atomic_init(&ring->written, 0);
    atomic_init(&ring->read, 0);
    return ring->bytes != NULL;
}

void body_pipe_free(struct body_pipe *ring)
{
    free(ring->bytes);
    ring->bytes = NULL;
}

size_t body_pipe_used(const struct body_pipe *ring)
{
    /* read first: it never passes written, so the difference cannot wrap whichever side asks. */
    uint64_t read = atomic_load_explicit(&ring->read, memory_order_acquire);
    return (size_t) (atomic_load_explicit(&ring->written, memory_order_acquire) - read);
}

size_t body_pipe_room(const struct body_pipe *ring)
{
    size_t used = body_pipe_used(ring);
    return used < ring->cap ? ring->cap - used : 0;
}

size_t body_pipe_write(struct body_pipe *ring, const void *bytes, size_t len)
{
    uint64_t written = atomic_load_explicit(&ring->written, memory_order_relaxed);
    size_t room = body_pipe_room(ring);
    if (len > room)
        len = room;
    size_t at = (size_t) (written % ring->cap);
    size_t first = len < ring->cap - at ? len : ring->cap - at;
    memcpy(ring->bytes + at, bytes, first);
    memcpy(ring->bytes, (const char *) bytes + first, len - first);
    atomic_store_explicit(&ring->written, written + len, memory_order_release);
    return len;
}

char *body_pipe_space(const struct body_pipe *ring, size_t *out_len)
{
    size_t at = (size_t) (atomic_load_explicit(&ring->written, memory_order_relaxed) % ring->cap);
    size_t room = body_pipe_room(ring);
    *out_len = room < ring->cap - at ? room : ring->cap - at;
    return ring->bytes + at;
}

void body_pipe_commit(struct body_pipe *ring, size_t len)
{
    assert(len <= body_pipe_room(ring));
    atomic_fetch_add_explicit(&ring->written, len, memory_order_release);
}

uint64_t body_pipe_written(const struct body_pipe *ring)
{
    return atomic_load_explicit(&ring->written, memory_order_relaxed);
}

struct str body_pipe_peek(const struct body_pipe *ring)
{
    size_t used = body_pipe_used(ring);
    size_t at = (size_t) (atomic_load_explicit(&ring->read, memory_order_relaxed) % ring->cap);
    size_t len = used < ring->cap - at ? used : ring->cap - at;
    return (struct str){ring->bytes + at, len};
}

void body_pipe_consume(struct body_pipe *ring, size_t len)
{
    assert(len <= body_pipe_used(ring));
    atomic_fetch_add_explicit(&ring->read, len, memory_order_release);
}

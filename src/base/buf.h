/*
 * Bytes: `struct str` borrows, `struct buf` owns and has a maximum.
 *
 * A buffer cannot exist without a limit: BUF_INIT names it, and an append beyond it fails with nothing appended and
 * leaves the buffer marked `overflowed`, so that a writer may check once at its end. The bytes are followed by a NUL
 * (not counted) as soon as ptr is set.
 */
#ifndef ORLOP_BASE_BUF_H
#define ORLOP_BASE_BUF_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A borrowed run of bytes; never outlives its owner and is never stored in something longer-lived. */
struct str {
    const char *ptr;
    size_t len;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})

static inline struct str str_from(const char *text)
{
    return (struct str){text, text ? strlen(text) : 0};
}

static inline bool str_equal(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Does s begin with prefix? */
static inline bool str_starts(struct str s, struct str prefix)
{
    return s.len >= prefix.len && memcmp(s.ptr, prefix.ptr, prefix.len) == 0;
}

/* Parse all of s as an unsigned decimal number: digits only, no sign, no overflow, not empty. */
bool str_parse_u64(struct str s, uint64_t *out);

/* memcmp order, the shorter first when one begins the other. */
int str_compare(struct str a, struct str b);

struct buf {
    char *ptr; /* NULL while empty and never grown */
    size_t len;
    size_t cap;
    size_t max; /* bytes this buffer may ever hold */
    bool overflowed;
};

#define BUF_INIT(bytes_max) ((struct buf){.max = (bytes_max)})
/* An empty buffer on the caller's char array, which limits it. It never allocates and must not be freed. */
#define BUF_ON(array) ((struct buf){.ptr = memset((array), 0, 1), .cap = sizeof(array), .max = sizeof(array) - 1})

/* Each returns false, appends nothing and sets overflowed when the limit (or memory) is reached. */
bool buf_append(struct buf *buf, const void *bytes, size_t len);
bool buf_append_text(struct buf *buf, const char *text);
bool buf_append_char(struct buf *buf, char c);
bool buf_append_u64(struct buf *buf, uint64_t number); /* decimal */
bool buf_appendf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Room for len more bytes at ptr + len, whose length the caller then adds to buf->len. */
bool buf_reserve(struct buf *buf, size_t len);

void buf_clear(struct buf *buf); /* empty and not overflowed, memory kept */
void buf_free(struct buf *buf);  /* empty and not overflowed, memory given back; the limit stays */

static inline struct str buf_str(const struct buf *buf)
{
    return (struct str){buf->ptr ? buf->ptr : "", buf->len};
}

#define auto_buf cleanup(buf_free) struct buf

#endif

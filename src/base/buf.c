#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>

#define BUF_FIRST_BYTES 128

bool str_parse_u64(struct str s, uint64_t *out)
{
    uint64_t value = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c < '0' || c > '9')
            return false;
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, (uint64_t) (c - '0'), &value))
            return false;
    }
    *out = value;
    return true;
}

int str_compare(struct str a, struct str b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common ? memcmp(a.ptr, b.ptr, common) : 0;
    if (order != 0)
        return order;
    return (a.len > b.len) - (a.len < b.len);
}

static bool buf_overflow(struct buf *buf)
{
    buf->overflowed = true;
    return false;
}

bool buf_reserve(struct buf *buf, size_t len)
{
    assert(buf->len <= buf->max);
    if (len > buf->max - buf->len)
        return buf_overflow(buf);
    size_t needed = buf->len + len + 1; /* the NUL */
    if (needed == 0)
        return buf_overflow(buf);
    if (needed <= buf->cap)
        return true;

    size_t cap = buf->cap ? buf->cap : BUF_FIRST_BYTES;
    while (cap < needed)
        cap = cap > SIZE_MAX / 2 ? needed : cap * 2;
    if (cap - 1 > buf->max)
        cap = buf->max + 1;
    char *ptr = realloc(buf->ptr, cap);
    if (!ptr)
        return buf_overflow(buf);
    if (buf->len == 0)
        ptr[0] = '\0';
    buf->ptr = ptr;
    buf->cap = cap;
    return true;
}

bool buf_append(struct buf *buf, const void *bytes, size_t len)
{
    if (!buf_reserve(buf, len))
        return false;
    if (len > 0)
        memcpy(buf->ptr + buf->len, bytes, len);
    buf->len += len;
    buf->ptr[buf->len] = '\0';
    return true;
}

bool buf_append_text(struct buf *buf, const char *text)
{
    return buf_append(buf, text, strlen(text));
}

bool buf_append_char(struct buf *buf, char c)
{
    return buf_append(buf, &c, 1);
}

bool buf_append_u64(struct buf *buf, uint64_t number)
{
    char digits[20]; /* of UINT64_MAX */
    size_t first = sizeof(digits);
    do {
        digits[--first] = (char) ('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return buf_append(buf, digits + first, sizeof(digits) - first);
}

bool buf_appendf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    /* Most texts fit into what is there; the others are measured first and printed a second time. */
    size_t end = buf->cap < buf->max ? buf->cap : buf->max + 1;
    size_t room = buf->cap > 0 ? end - buf->len : 0;
    int length = vsnprintf(room ? buf->ptr + buf->len : NULL, room, format, args);
    va_end(args);

    bool ok = length >= 0;
    if (ok && (size_t) length >= room) {
        if (room)
            buf->ptr[buf->len] = '\0';
        ok = buf_reserve(buf, (size_t) length);
        if (ok)
            (void) vsnprintf(buf->ptr + buf->len, (size_t) length + 1, format, again);
    }
    va_end(again);
    if (!ok)
        return buf_overflow(buf);
    buf->len += (size_t) length;
    return true;
}

void buf_clear(struct buf *buf)
{
    buf->len = 0;
    buf->overflowed = false;
    if (buf->ptr)
        buf->ptr[0] = '\0';
}

void buf_free(struct buf *buf)
{
    cleanup_mem(&buf->ptr);
    buf->len = 0;
    buf->cap = 0;
    buf->overflowed = false;
}

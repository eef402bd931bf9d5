#include "base/json_text.h"

size_t utf8_char_bytes(struct str s)
{
    if (s.len == 0)
        return 0;
    const unsigned char *p = (const unsigned char *) s.ptr;
    if (p[0] < 0x80)
        return 1;

    /* RFC 3629 section 4: the second byte's range depends on the first, the others are 80..BF. */
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    size_t bytes;
    if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        bytes = 2;
    } else if (p[0] >= 0xE0 && p[0] <= 0xEF) {
        bytes = 3;
        if (p[0] == 0xE0)
            low = 0xA0;
        if (p[0] == 0xED)
            high = 0x9F;
    } else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        bytes = 4;
        if (p[0] == 0xF0)
            low = 0x90;
        if (p[0] == 0xF4)
            high = 0x8F;
    } else {
        return 0;
    }
    if (s.len < bytes || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < bytes; i++)
        if (p[i] < 0x80 || p[i] > 0xBF)
            return 0;
    return bytes;
}

/* Controls are escaped, also DEL and those above ASCII (U+0080 to U+009F). */
static bool json_is_control(struct str c)
{
    const unsigned char *p = (const unsigned char *) c.ptr;
    return p[0] < 0x20 || p[0] == 0x7F || (c.len == 2 && p[0] == 0xC2 && p[1] < 0xA0);
}

/* One character that may not stand as it is; empty: bytes that are none. */
static bool json_append_escape(struct buf *out, struct str c)
{
    if (c.len == 0)
        return buf_append_text(out, "\\ufffd");
    switch (c.ptr[0]) {
    case '"':
        return buf_append_text(out, "\\\"");
    case '\\':
        return buf_append_text(out, "\\\\");
    case '\n':
        return buf_append_text(out, "\\n");
    case '\r':
        return buf_append_text(out, "\\r");
    case '\t':
        return buf_append_text(out, "\\t");
    default:
        return buf_appendf(out, "\\u%04x", (unsigned) (unsigned char) c.ptr[c.len - 1]);
    }
}

bool buf_append_json_string(struct buf *out, struct str s)
{
    bool ok = buf_append_char(out, '"');
    size_t plain = 0; /* s[plain..i) waits to be copied as it is */
    size_t i = 0;
    while (ok && i < s.len) {
        if (s.ptr[i] >= ' ' && s.ptr[i] < 0x7F && s.ptr[i] != '"' && s.ptr[i] != '\\') { /* most characters */
            i++;
            continue;
        }
        struct str c = {s.ptr + i, utf8_char_bytes((struct str){s.ptr + i, s.len - i})};
        size_t step = c.len > 0 ? c.len : 1;
        if (c.len == 0 || c.ptr[0] == '"' || c.ptr[0] == '\\' || json_is_control(c)) {
            ok = buf_append(out, s.ptr + plain, i - plain) && json_append_escape(out, c);
            plain = i + step;
        }
        i += step;
    }
    return ok && buf_append(out, s.ptr + plain, i - plain) && buf_append_char(out, '"');
}

#include "http/field.h"

#include <stdlib.h>
#include <strings.h>

/* ---- characters ---- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool is_control(char c)
{
    return (unsigned char) c < 0x20 || c == 0x7f;
}

/* RFC 9110's tchar: what names, methods and the two halves of a media type are made of. */
static bool is_token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

bool field_is_token(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!is_token_char(text.ptr[i]))
            return false;
    }
    return text.len > 0;
}

static struct str str_trim(struct str s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* Take what stands before the first `separator` off *rest; false when rest is used up (its ptr is NULL then). */
static bool str_split(struct str *rest, char separator, struct str *out)
{
    if (!rest->ptr)
        return false;
    const char *at = rest->len > 0 ? memchr(rest->ptr, separator, rest->len) : NULL;
    if (!at) {
        *out = *rest;
        *rest = (struct str){NULL, 0};
        return true;
    }
    *out = (struct str){rest->ptr, (size_t) (at - rest->ptr)};
    rest->len -= out->len + 1;
    rest->ptr = at + 1;
    return true;
}

/* ---- percent-encoding ---- */

/* out may be text's own memory: decoding never grows. */
static bool percent_decode(struct str text, bool plus_is_space, char *out, size_t *out_len)
{
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '%') {
            if (text.len - i < 3)
                return false;
            int high = hex_value(text.ptr[i + 1]);
            int low = hex_value(text.ptr[i + 2]);
            if (high < 0 || low < 0)
                return false;
            c = (char) (high * 16 + low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (is_control(c))
            return false;
        out[len++] = c;
    }
    out[len] = '\0';
    *out_len = len;
    return true;
}

bool field_decode_path(struct str text, char *out, size_t *out_len)
{
    return percent_decode(text, false, out, out_len);
}

bool field_encode_query(struct buf *out, struct str text)
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char) text.ptr[i];
        bool unreserved = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
                          c == '.' || c == '_' || c == '~';
        char escape[3] = {'%', digits[c >> 4], digits[c & 15]};
        if (!(unreserved ? buf_append_char(out, (char) c) : buf_append(out, escape, sizeof(escape))))
            return false;
    }
    return true;
}

/* ---- queries ---- */

/* Decode one name or value to *at, which moves on past its NUL. */
static bool query_decode(struct str text, char **at, struct str *out)
{
    size_t len;
    if (!percent_decode(text, true, *at, &len))
        return false;
    *out = (struct str){*at, len};
    *at += len + 1;
    return true;
}

bool field_query_parse(struct str text, struct field_query *out)
{
    out->count = 0;
    out->storage = NULL;
    if (text.len == 0)
        return true;
    /*
     * Every pair needs at most its own bytes, '=' becoming a NUL, and two NULs when it has no '=' and no '&' after it.
     */
    out->storage = malloc(text.len + 2);
    if (!out->storage)
        return false;

    char *at = out->storage;
    struct str pair;
    while (str_split(&text, '&', &pair)) {
        struct str rest = pair;
        struct str name;
        if (pair.len == 0)
            continue;
        if (out->count == FIELD_QUERY_PAIRS_MAX)
            return false;
        struct field_pair *decoded = &out->pairs[out->count];
        (void) str_split(&rest, '=', &name);
        if (!query_decode(name, &at, &decoded->name))
            return false;
        if (!rest.ptr) {
            /* A name alone has the empty value: the NUL that ends its name. */
            decoded->value = (struct str){decoded->name.ptr + decoded->name.len, 0};
        } else if (!query_decode(rest, &at, &decoded->value)) {
            return false;
        }
        out->count++;
    }
    return true;
}

void field_query_free(struct field_query *query)
{
    free(query->storage);
    query->storage = NULL;
    query->count = 0;
}

struct str field_query_get_nth(const struct field_query *query, const char *name, size_t index)
{
    struct str wanted = str_from(name);

    for (size_t i = 0; i < query->count; i++) {
        if (str_equal(query->pairs[i].name, wanted) && index-- == 0)
            return query->pairs[i].value;
    }
    return (struct str){NULL, 0};
}

struct str field_query_get(const struct field_query *query, const char *name)
{
    return field_query_get_nth(query, name, 0);
}

/* ---- ranges ---- */

/* One "first-last", "first-" or "-suffix". false: malformed. *satisfiable: it has bytes in [0, size). */
static bool range_parse_spec(struct str spec, uint64_t size_bytes, struct field_range *out, bool *satisfiable)
{
    struct str last = str_trim(spec);
    struct str first;
    (void) str_split(&last, '-', &first);
    if (!last.ptr)
        return false;

    uint64_t a = 0;
    uint64_t b = 0;
    if (first.len == 0) {
        if (!str_parse_u64(last, &b))
            return false;
        *satisfiable = b > 0 && size_bytes > 0;
        *out = (struct field_range){b < size_bytes ? size_bytes - b : 0, size_bytes};
        return true;
    }
    if (!str_parse_u64(first, &a) || (last.len > 0 && !str_parse_u64(last, &b)))
        return false;
    if (last.len == 0)
        b = UINT64_MAX;
    *satisfiable = a <= b && a < size_bytes;
    *out = (struct field_range){a, b < size_bytes ? b + 1 : size_bytes};
    return true;
}

enum field_range_kind field_range_parse(struct str text, uint64_t size_bytes, struct field_ranges *out)
{
    out->count = 0;
    if (!text.ptr)
        return FIELD_RANGE_NONE;
    struct str unit;
    struct str rest = str_trim(text);
    (void) str_split(&rest, '=', &unit);
    if (!rest.ptr || unit.len != 5 || strncasecmp(unit.ptr, "bytes", 5) != 0)
        return FIELD_RANGE_NONE;

    uint64_t sum = 0;
    size_t seen = 0;
    struct str spec;
    while (str_split(&rest, ',', &spec)) {
        struct field_range range;
        bool satisfiable;
        if (str_trim(spec).len == 0)
            continue;
        if (!range_parse_spec(spec, size_bytes, &range, &satisfiable) || ++seen > FIELD_RANGES_MAX)
            return FIELD_RANGE_NONE;
        if (!satisfiable)
            continue;
        /* Each range lies within the size, so neither the difference nor, checked like this, the sum wraps. */
        uint64_t len = range.end - range.first;
        if (out->count > 0 && len > size_bytes - sum)
            return FIELD_RANGE_NONE;
        sum += len;
        out->ranges[out->count++] = range;
    }
    if (seen == 0)
        return FIELD_RANGE_NONE;
    return out->count > 0 ? FIELD_RANGE_SOME : FIELD_RANGE_UNSATISFIABLE;
}

bool field_content_range_parse(struct str text, uint64_t *out_first, uint64_t *out_end)
{
    static const struct str unit = {"bytes ", 6};

    if (!text.ptr)
        return false;
    struct str rest = str_trim(text);
    struct str first;
    struct str total = {NULL, 0};
    if (rest.len > unit.len && strncasecmp(rest.ptr, unit.ptr, unit.len) == 0) {
        total = (struct str){rest.ptr + unit.len, rest.len - unit.len};
        (void) str_split(&total, '/', &rest);
        if (!total.ptr)
            return false;
    }
    uint64_t a;
    uint64_t b;
    uint64_t size = UINT64_MAX;
    (void) str_split(&rest, '-', &first);
    if (!rest.ptr || !str_parse_u64(first, &a) || !str_parse_u64(rest, &b))
        return false;
    if (total.ptr && !str_equal(total, STR("*")) && !str_parse_u64(total, &size))
        return false;
    if (b < a || b >= size)
        return false;
    *out_first = a;
    *out_end = b + 1;
    return true;
}

/* ---- conditions, media types, credentials ---- */

bool field_etag_matches(struct str list, struct str etag, bool weak_ok)
{
    if (!list.ptr)
        return false;
    struct str rest = str_trim(list);
    if (str_equal(rest, STR("*")))
        return true;

    /* A tag may hold commas between its quotes, so this walks the list itself instead of splitting it. */
    while (rest.len > 0) {
        if (rest.ptr[0] == ' ' || rest.ptr[0] == '\t' || rest.ptr[0] == ',') {
            rest.ptr++;
            rest.len--;
            continue;
        }
        bool weak = str_starts(rest, STR("W/"));
        size_t skip = weak ? 3 : 1;
        if (rest.len < skip || rest.ptr[skip - 1] != '"')
            return false;
        struct str tag = {rest.ptr + skip, rest.len - skip};
        const char *quote = tag.len > 0 ? memchr(tag.ptr, '"', tag.len) : NULL;
        if (!quote)
            return false;
        tag.len = (size_t) (quote - tag.ptr);
        if ((weak_ok || !weak) && str_equal(tag, etag))
            return true;
        rest.len -= skip + tag.len + 1;
        rest.ptr = quote + 1;
    }
    return false;
}

struct str field_media_type(struct str content_type)
{
    static const struct str none = {"", 0};

    if (!content_type.ptr)
        return none;
    struct str parameters = content_type;
    struct str type;
    (void) str_split(&parameters, ';', &type);
    type = str_trim(type);
    struct str subtype = type;
    struct str major;
    (void) str_split(&subtype, '/', &major);
    return subtype.ptr && field_is_token(major) && field_is_token(subtype) ? type : none;
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Padding may be missing, as some clients leave it out; nothing may follow it. */
static bool base64_decode(struct str text, char *out, size_t out_bytes, size_t *out_len)
{
    if (text.len >= 4 && text.len % 4 == 0) {
        for (int i = 0; i < 2 && text.ptr[text.len - 1] == '='; i++)
            text.len--;
    }
    if (text.len % 4 == 1)
        return false;
    uint32_t bits = 0;
    unsigned bit_count = 0;
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        int value = base64_value(text.ptr[i]);
        if (value < 0)
            return false;
        bits = (bits << 6 | (uint32_t) value) & 0xffffff;
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            if (len + 1 >= out_bytes)
                return false;
            out[len++] = (char) (bits >> bit_count & 0xff);
        }
    }
    out[len] = '\0';
    *out_len = len;
    return true;
}

bool field_basic_parse(struct str authorization, char *out, size_t out_bytes)
{
    static const struct str scheme = {"Basic ", 6};

    if (!authorization.ptr || out_bytes == 0)
        return false;
    struct str rest = str_trim(authorization);
    if (rest.len <= scheme.len || strncasecmp(rest.ptr, scheme.ptr, scheme.len) != 0)
        return false;
    size_t len;
    if (!base64_decode(str_trim((struct str){rest.ptr + scheme.len, rest.len - scheme.len}), out, out_bytes, &len))
        return false;
    return memchr(out, '\0', len) == NULL && memchr(out, ':', len) != NULL;
}

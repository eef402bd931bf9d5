/* Digests as values: parsing is strict (lower-case hex, exact length), so that one digest has one spelling. */
#include "digest/digest.h"

static const struct algorithm {
    const char *name;
    size_t raw_bytes;
} algorithms[] = {
    [DIGEST_SHA256] = {"sha256", 32},
    [DIGEST_SHA512] = {"sha512", 64},
};

bool digest_algorithm_parse(struct str text, enum digest_algorithm *out)
{
    for (int a = DIGEST_SHA256; a <= DIGEST_SHA512; a++) {
        if (str_equal(text, str_from(algorithms[a].name))) {
            *out = (enum digest_algorithm) a;
            return true;
        }
    }
    return false;
}

const char *digest_algorithm_name(enum digest_algorithm algorithm)
{
    return algorithms[algorithm].name;
}

size_t digest_raw_bytes(enum digest_algorithm algorithm)
{
    return algorithms[algorithm].raw_bytes;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

bool digest_parse_hex(enum digest_algorithm algorithm, struct str hex, struct digest *out)
{
    size_t raw_bytes = digest_raw_bytes(algorithm);
    if (hex.len != 2 * raw_bytes)
        return false;
    struct digest digest = {.algorithm = algorithm};
    for (size_t i = 0; i < raw_bytes; i++) {
        int high = hex_value(hex.ptr[2 * i]);
        int low = hex_value(hex.ptr[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        digest.raw[i] = (uint8_t) (high << 4 | low);
    }
    *out = digest;
    return true;
}

bool digest_parse(struct str text, struct digest *out)
{
    const char *colon = text.len ? memchr(text.ptr, ':', text.len) : NULL;
    if (!colon)
        return false;
    struct str name = {text.ptr, (size_t) (colon - text.ptr)};
    struct str hex = {colon + 1, text.len - name.len - 1};
    enum digest_algorithm algorithm;
    return digest_algorithm_parse(name, &algorithm) && digest_parse_hex(algorithm, hex, out);
}

void digest_format_hex(const struct digest *digest, char *out)
{
    static const char digits[] = "0123456789abcdef";
    size_t raw_bytes = digest_raw_bytes(digest->algorithm);
    for (size_t i = 0; i < raw_bytes; i++) {
        out[2 * i] = digits[digest->raw[i] >> 4];
        out[2 * i + 1] = digits[digest->raw[i] & 15];
    }
    out[2 * raw_bytes] = '\0';
}

void digest_format(const struct digest *digest, char *out)
{
    const char *name = digest_algorithm_name(digest->algorithm);
    size_t name_len = strlen(name);
    memcpy(out, name, name_len);
    out[name_len] = ':';
    digest_format_hex(digest, out + name_len + 1);
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
    return a->algorithm == b->algorithm && memcmp(a->raw, b->raw, digest_raw_bytes(a->algorithm)) == 0;
}

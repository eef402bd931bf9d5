/* The spelling of blob keys; see blob_key.h. */
#include "store/blob_key.h"

void blob_key_format(const struct digest *digest, char *out)
{
    char hex[DIGEST_HEX_BYTES_MAX];
    digest_format_hex(digest, hex);
    (void) snprintf(out, BLOB_KEY_BYTES_MAX, "blobs/%s/%.2s/%s", digest_algorithm_name(digest->algorithm), hex, hex);
}

bool blob_key_parse(const char *key, struct digest *out)
{
    struct str text = str_from(key);
    enum digest_algorithm algorithm;
    if (!str_starts(text, STR("blobs/")) || text.len < 6 + 7 + 3)
        return false;
    if (!digest_algorithm_parse((struct str){key + 6, 6}, &algorithm) || key[12] != '/' || key[15] != '/')
        return false;
    struct str hex = str_from(key + 16), suffix = STR(BLOB_POINTER_SUFFIX);
    if (hex.len > suffix.len && memcmp(hex.ptr + hex.len - suffix.len, suffix.ptr, suffix.len) == 0)
        hex.len -= suffix.len;
    return digest_parse_hex(algorithm, hex, out) && memcmp(key + 13, key + 16, 2) == 0;
}

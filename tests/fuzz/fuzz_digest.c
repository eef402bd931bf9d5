/* Digests: what is accepted is written back as it was. */
#include "digest/digest.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = fuzz_text(data, size);
    struct digest digest;
    if (digest_parse(text, &digest)) {
        char again[DIGEST_TEXT_BYTES_MAX];
        digest_format(&digest, again);
        assert(str_equal(text, str_from(again)));

        char hex[DIGEST_HEX_BYTES_MAX];
        struct digest from_hex;
        digest_format_hex(&digest, hex);
        assert(strlen(hex) == 2 * digest_raw_bytes(digest.algorithm));
        assert(digest_parse_hex(digest.algorithm, str_from(hex), &from_hex) && digest_equal(&digest, &from_hex));
    }

    struct digest from_hex;
    if (digest_parse_hex(DIGEST_SHA256, text, &from_hex))
        assert(size == 64);
    if (digest_parse_hex(DIGEST_SHA512, text, &from_hex))
        assert(size == 128);

    enum digest_algorithm algorithm;
    if (digest_algorithm_parse(text, &algorithm))
        assert(str_equal(text, str_from(digest_algorithm_name(algorithm))));
    return 0;
}

/* Percent-decoding of path parts: never longer, never a control character, stable when there is nothing to decode. */
#include "base/cleanup.h"
#include "fuzz.h"
#include "http/field.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    auto_mem char *out = malloc(size + 1);
    size_t len = 0;
    if (!out || !field_decode_path(fuzz_text(data, size), out, &len))
        return 0;
    assert(len <= size && out[len] == '\0' && strlen(out) == len);
    for (size_t i = 0; i < len; i++)
        assert((unsigned char) out[i] >= 0x20 && out[i] != 0x7f);
    if (size == 0 || !memchr(data, '%', size))
        assert(len == size && memcmp(out, data, len) == 0);
    return 0;
}

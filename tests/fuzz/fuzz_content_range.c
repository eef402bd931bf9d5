/* A chunk's Content-Range: a range that holds a byte, and reads the same in the plain form. */
#include "fuzz.h"
#include "http/field.h"

#include <inttypes.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t first, end, first_again, end_again;
    if (!field_content_range_parse(fuzz_text(data, size), &first, &end))
        return 0;
    assert(first < end);
    char plain[64];
    snprintf(plain, sizeof(plain), "%" PRIu64 "-%" PRIu64, first, end - 1);
    assert(field_content_range_parse(str_from(plain), &first_again, &end_again));
    assert(first == first_again && end == end_again);
    return 0;
}

/* Range headers, against a size given by the first eight bytes: every range lies inside the body. */
#include "fuzz.h"
#include "http/field.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t size_bytes;
    if (size < sizeof(size_bytes))
        return 0;
    memcpy(&size_bytes, data, sizeof(size_bytes));

    struct field_ranges ranges;
    struct str text = fuzz_text(data + sizeof(size_bytes), size - sizeof(size_bytes));
    if (field_range_parse(text, size_bytes, &ranges) != FIELD_RANGE_SOME)
        return 0;
    assert(ranges.count > 0 && ranges.count <= FIELD_RANGES_MAX);
    uint64_t left = size_bytes;
    for (size_t i = 0; i < ranges.count; i++) {
        const struct field_range *range = &ranges.ranges[i];
        assert(range->first < range->end && range->end <= size_bytes);
        /* Together never more than the body: a small request must not ask for a huge answer. */
        assert(range->end - range->first <= left);
        left -= range->end - range->first;
    }
    return 0;
}

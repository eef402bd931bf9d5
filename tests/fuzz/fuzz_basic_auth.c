/* Basic credentials: "user:password" that fits, ends in a NUL and holds no other. */
#include "fuzz.h"
#include "http/field.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t capacities[] = {1, 2, 16, 300};
    for (size_t i = 0; i < sizeof(capacities) / sizeof(capacities[0]); i++) {
        auto_mem char *out = malloc(capacities[i]);
        if (!out || !field_basic_parse(fuzz_text(data, size), out, capacities[i]))
            continue;
        assert(memchr(out, '\0', capacities[i]) && strchr(out, ':'));
    }
    return 0;
}

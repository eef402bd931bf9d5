/* Content-Type: the media type is a piece of the header, without blanks and parameters, and is its own media type. */
#include "fuzz.h"
#include "http/field.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = fuzz_text(data, size);
    struct str type = field_media_type(text);
    if (type.len == 0)
        return 0;
    assert(type.ptr >= text.ptr && type.ptr + type.len <= text.ptr + text.len);
    for (size_t i = 0; i < type.len; i++)
        assert(type.ptr[i] > ' ' && type.ptr[i] < 0x7f && !strchr(";,\"", type.ptr[i]));
    assert(str_equal(field_media_type(type), type));
    return 0;
}

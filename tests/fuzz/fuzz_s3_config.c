/* The AWS SDKs' shared files (input: key, newline, file): a value is a piece of the file, on one line and trimmed. */
#include "fuzz.h"
#include "store/s3_config.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str key, text, value;
    fuzz_split(fuzz_text(data, size), &key, &text);
    static const struct str sections[] = {{"default", 7}, {"profile dev", 11}};
    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
        if (!s3_config_lookup(text, sections[i], key, &value))
            continue;
        assert(s3_config_has_section(text, sections[i]));
        assert(value.ptr >= text.ptr && value.ptr + value.len <= text.ptr + text.len);
        assert(value.len == 0 || !memchr(value.ptr, '\n', value.len));
        assert(value.len == 0 || (!is_blank(value.ptr[0]) && !is_blank(value.ptr[value.len - 1])));
    }
    return 0;
}

/* JSON: what is accepted, written compactly, is accepted again and written the same; any bytes become a valid text. */
#include "base/json.h"
#include "base/json_text.h"
#include "fuzz.h"

#define JSON_BYTES_MAX (8 * 1024 * 1024)

static void check_value(struct str text)
{
    struct err err = ERR_INIT;
    auto_json value = NULL;
    if (json_parse(text, &value, &err) != ERR_OK) {
        assert(err.code == ERR_INVALID && err.message[0] != '\0');
        return;
    }
    auto_buf once = BUF_INIT(JSON_BYTES_MAX);
    auto_buf twice = BUF_INIT(JSON_BYTES_MAX);
    auto_json again = NULL;
    assert(json_append(&once, value));
    assert(json_parse(buf_str(&once), &again, &err) == ERR_OK);
    assert(json_append(&twice, again));
    assert(str_equal(buf_str(&once), buf_str(&twice)));
}

static void check_text(struct str text)
{
    auto_buf quoted = BUF_INIT(JSON_BYTES_MAX);
    assert(buf_append_char(&quoted, '['));
    assert(buf_append_json_string(&quoted, text));
    assert(buf_append_char(&quoted, ']'));

    struct err err = ERR_INIT;
    auto_json value = NULL;
    if (text.len == 0 || !memchr(text.ptr, '\0', text.len))
        assert(json_parse(buf_str(&quoted), &value, &err) == ERR_OK && json_count(value) == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_value(fuzz_text(data, size));
    check_text(fuzz_text(data, size));
    return 0;
}

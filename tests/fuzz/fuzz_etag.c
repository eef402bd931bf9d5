/* If-Match and If-None-Match lists (input: list, newline, entity tag): weak comparison finds whatever strong does. */
#include "digest/digest.h"
#include "fuzz.h"
#include "http/field.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str list, etag;
    fuzz_split(fuzz_text(data, size), &list, &etag);
    bool strong = field_etag_matches(list, etag, false);
    bool weak = field_etag_matches(list, etag, true);
    assert(weak || !strong);
    assert(field_etag_matches(STR("*"), etag, false));

    struct digest digest;
    if (digest_parse(etag, &digest)) {
        auto_buf alone = BUF_INIT(1024);
        assert(buf_append_text(&alone, "W/\"") && buf_append(&alone, etag.ptr, etag.len) &&
               buf_append_char(&alone, '"'));
        assert(field_etag_matches(buf_str(&alone), etag, true) && !field_etag_matches(buf_str(&alone), etag, false));
    }
    return 0;
}

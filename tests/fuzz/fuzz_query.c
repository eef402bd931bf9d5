/* Query strings: what was parsed, encoded again, parses to the same pairs. */
#include "fuzz.h"
#include "http/field.h"

#define QUERY_BYTES_MAX (1024 * 1024)

static bool encode(const struct field_query *query, struct buf *out)
{
    for (size_t i = 0; i < query->count; i++)
        if ((i > 0 && !buf_append_char(out, '&')) || !field_encode_query(out, query->pairs[i].name) ||
            !buf_append_char(out, '=') || !field_encode_query(out, query->pairs[i].value))
            return false;
    return true;
}

static void check_lookup(const struct field_query *query)
{
    assert(!field_query_get(query, "no such parameter\x01").ptr);
    assert(!field_query_get_nth(query, "digest", FIELD_QUERY_PAIRS_MAX).ptr);
    assert(field_query_get(query, "digest").ptr == field_query_get_nth(query, "digest", 0).ptr);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct field_query query, again;
    if (field_query_parse(fuzz_text(data, size), &query)) {
        assert(query.count <= FIELD_QUERY_PAIRS_MAX);
        check_lookup(&query);

        auto_buf text = BUF_INIT(QUERY_BYTES_MAX);
        if (encode(&query, &text)) {
            assert(field_query_parse(buf_str(&text), &again) && again.count == query.count);
            for (size_t i = 0; i < query.count; i++) {
                assert(str_equal(query.pairs[i].name, again.pairs[i].name));
                assert(str_equal(query.pairs[i].value, again.pairs[i].value));
            }
            field_query_free(&again);
        }
    }
    field_query_free(&query);
    return 0;
}

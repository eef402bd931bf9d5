/*
 * Snapshots of referrers: what is accepted is written back as it was. Each input is tried as it is, and as what follows
 * a head with the right checksum, which no fuzzer would find.
 */
#include "fuzz.h"

#include "digest/hash.h"
#include "registry/referrers.h"

#define BYTES_MAX STORE_OBJECT_BYTES_MAX

static void check_decode(struct str text)
{
    struct err err = ERR_INIT;
    struct snapshot snapshot cleanup(snapshot_free) = {0};
    auto_buf bytes = BUF_INIT(BYTES_MAX);
    if (!buf_append(&bytes, text.ptr, text.len))
        return;
    enum err_code code = snapshot_decode(&bytes, &snapshot, &err);
    if (code != ERR_OK) {
        assert(code == err.code && (code == ERR_VERSION || code == ERR_CORRUPT));
        return;
    }
    auto_buf again = BUF_INIT(BYTES_MAX);
    snapshot_begin(&again);
    for (size_t i = 0; i < snapshot.count; i++)
        assert(snapshot_add(&again, &snapshot.entries[i]));
    snapshot_end(&again, snapshot.is_split);
    assert(str_equal(text, buf_str(&again)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = fuzz_text(data, size);
    check_decode(text);

    for (int is_split = 0; is_split < 2; is_split++) {
        struct hash hash;
        struct digest digest;
        char sum[DIGEST_HEX_BYTES_MAX];
        auto_buf sealed = BUF_INIT(BYTES_MAX);
        hash_init(&hash, DIGEST_SHA256);
        hash_update(&hash, text.ptr, text.len);
        hash_digest(&hash, &digest);
        digest_format_hex(&digest, sum);
        if (buf_appendf(&sealed, "orlop-referrers 1 %s %s\n", is_split ? "split" : "whole", sum) &&
            buf_append(&sealed, text.ptr, text.len))
            check_decode(buf_str(&sealed));
    }
    return 0;
}

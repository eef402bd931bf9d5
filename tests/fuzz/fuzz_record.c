/*
 * Upload records: what is accepted is written back as it was, but for older versions, which come back as the current
 * one. Each input is tried as it is and with the right checksum added, which no fuzzer would find.
 */
#include "fuzz.h"
#include "registry/record.h"

#define CHECKSUM_BYTES 4
#define VERSION_OFFSET 4

static void check_decode(struct str bytes)
{
    struct err err = ERR_INIT;
    struct upload_record record;
    enum err_code code = record_decode(bytes, &record, &err);
    if (code != ERR_OK) {
        assert(code == err.code && (code == ERR_VERSION || code == ERR_CORRUPT));
        return;
    }
    auto_buf once = BUF_INIT(RECORD_BYTES_MAX);
    record_encode(&record, &once);
    assert(!once.overflowed);
    if (bytes.ptr[VERSION_OFFSET] == 0 && bytes.ptr[VERSION_OFFSET + 1] == RECORD_VERSION)
        assert(str_equal(bytes, buf_str(&once)));

    struct upload_record again;
    auto_buf twice = BUF_INIT(RECORD_BYTES_MAX);
    assert(record_decode(buf_str(&once), &again, &err) == ERR_OK);
    record_encode(&again, &twice);
    assert(str_equal(buf_str(&once), buf_str(&twice)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_decode(fuzz_text(data, size));

    auto_mem uint8_t *sealed = malloc(size + CHECKSUM_BYTES);
    if (!sealed)
        return 0;
    struct hash hash;
    struct digest digest;
    hash_init(&hash, DIGEST_SHA256);
    hash_update(&hash, data, size);
    hash_digest(&hash, &digest);
    if (size > 0)
        memcpy(sealed, data, size);
    memcpy(sealed + size, digest.raw, CHECKSUM_BYTES);
    check_decode(fuzz_text(sealed, size + CHECKSUM_BYTES));
    return 0;
}

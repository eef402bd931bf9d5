/*
 * Saved hash states: one that is accepted is saved again as it was, and can be gone on with; and saving and restoring
 * in the middle of any bytes changes no digest.
 */
#include "digest/hash.h"
#include "fuzz.h"

static void check_restore(const uint8_t *state, size_t len)
{
    struct hash hash;
    if (!hash_restore(&hash, state, len))
        return;
    uint8_t saved[HASH_STATE_BYTES_MAX];
    assert(hash_save(&hash, saved) == len && memcmp(saved, state, len) == 0);

    struct digest before, after;
    hash_digest(&hash, &before);
    hash_update(&hash, state, len);
    hash_digest(&hash, &after);
    assert(!digest_equal(&before, &after));
}

static void check_split(enum digest_algorithm algorithm, const uint8_t *bytes, size_t len, size_t split)
{
    struct hash whole, parts;
    hash_init(&whole, algorithm);
    hash_update(&whole, bytes, len);
    hash_init(&parts, algorithm);
    hash_update(&parts, bytes, split);

    uint8_t state[HASH_STATE_BYTES_MAX];
    struct hash resumed;
    assert(hash_restore(&resumed, state, hash_save(&parts, state)));
    assert(resumed.total_bytes == split);
    hash_update(&resumed, bytes + split, len - split);

    struct digest expected, got;
    hash_digest(&whole, &expected);
    hash_digest(&resumed, &got);
    assert(digest_equal(&expected, &got));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_restore(data, size);
    if (size > 1) {
        size_t split = data[0] % size;
        check_split(DIGEST_SHA256, data + 1, size - 1, split);
        check_split(DIGEST_SHA512, data + 1, size - 1, split);
    }
    return 0;
}

#include "digest/hmac.h"

#define BLOCK_BYTES 64
#define INNER_PAD 0x36
#define OUTER_PAD 0x5c

/* A hash that has seen the key, padded. */
static void hmac_start(struct hash *hash, const uint8_t *block, uint8_t pad)
{
    uint8_t padded[BLOCK_BYTES];
    for (size_t i = 0; i < BLOCK_BYTES; i++)
        padded[i] = block[i] ^ pad;
    hash_init(hash, DIGEST_SHA256);
    hash_update(hash, padded, sizeof(padded));
}

void hmac_init(struct hmac *hmac, const void *key, size_t key_len)
{
    uint8_t block[BLOCK_BYTES] = {0};
    if (key_len > BLOCK_BYTES) {
        struct hash hash;
        struct digest digest;
        hash_init(&hash, DIGEST_SHA256);
        hash_update(&hash, key, key_len);
        hash_digest(&hash, &digest);
        memcpy(block, digest.raw, HMAC_SHA256_BYTES);
    } else if (key_len > 0) {
        memcpy(block, key, key_len);
    }
    hmac_start(&hmac->inner, block, INNER_PAD);
    hmac_start(&hmac->outer, block, OUTER_PAD);
}

void hmac_update(struct hmac *hmac, const void *bytes, size_t len)
{
    hash_update(&hmac->inner, bytes, len);
}

void hmac_final(struct hmac *hmac, uint8_t *out)
{
    struct digest digest;
    hash_digest(&hmac->inner, &digest);
    hash_update(&hmac->outer, digest.raw, HMAC_SHA256_BYTES);
    hash_digest(&hmac->outer, &digest);
    memcpy(out, digest.raw, HMAC_SHA256_BYTES);
}

void hmac_sha256(const void *key, size_t key_len, const void *bytes, size_t len, uint8_t *out)
{
    struct hmac hmac;
    hmac_init(&hmac, key, key_len);
    hmac_update(&hmac, bytes, len);
    hmac_final(&hmac, out);
}

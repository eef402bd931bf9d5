/*
 * HMAC-SHA256 (RFC 2104) over digest/hash.h, in pieces or at once.
 */
#ifndef ORLOP_DIGEST_HMAC_H
#define ORLOP_DIGEST_HMAC_H

#include "digest/hash.h"

#define HMAC_SHA256_BYTES 32

struct hmac {
    struct hash inner;
    struct hash outer;
};

void hmac_init(struct hmac *hmac, const void *key, size_t key_len);
void hmac_update(struct hmac *hmac, const void *bytes, size_t len);
/* Write HMAC_SHA256_BYTES; hmac is used up. out may be (part of) the key. */
void hmac_final(struct hmac *hmac, uint8_t *out);

/* All at once. out may be the key. */
void hmac_sha256(const void *key, size_t key_len, const void *bytes, size_t len, uint8_t *out);

#endif

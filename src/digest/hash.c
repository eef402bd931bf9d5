/*
 * Streaming hashes over libcrypto's low-level contexts: the EVP interface cannot give its state away. The functions are
 * marked deprecated since OpenSSL 3 but are its fastest and most stable ones; this file is their only user.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "digest/hash.h"

#include <assert.h>
#include <openssl/sha.h>

#define SHA256_BLOCK_BYTES 64
#define SHA512_BLOCK_BYTES 128
#define STATE_HEADER_BYTES 10

static_assert(sizeof(SHA256_CTX) <= sizeof(((struct hash *) 0)->ctx), "struct hash must hold a SHA256_CTX");
static_assert(sizeof(SHA512_CTX) <= sizeof(((struct hash *) 0)->ctx), "struct hash must hold a SHA512_CTX");

static SHA256_CTX *ctx256(struct hash *hash)
{
    return (SHA256_CTX *) (void *) hash->ctx.opaque;
}

static SHA512_CTX *ctx512(struct hash *hash)
{
    return (SHA512_CTX *) (void *) hash->ctx.opaque;
}

void hash_init(struct hash *hash, enum digest_algorithm algorithm)
{
    memset(hash, 0, sizeof(*hash));
    hash->algorithm = algorithm;
    if (algorithm == DIGEST_SHA256)
        SHA256_Init(ctx256(hash));
    else
        SHA512_Init(ctx512(hash));
}

void hash_update(struct hash *hash, const void *bytes, size_t len)
{
    if (hash->algorithm == DIGEST_SHA256)
        SHA256_Update(ctx256(hash), bytes, len);
    else
        SHA512_Update(ctx512(hash), bytes, len);
    hash->total_bytes += len;
}

void hash_digest(const struct hash *hash, struct digest *out)
{
    struct hash copy = *hash; /* finishing pads the state: do it on a copy */
    struct digest digest = {.algorithm = hash->algorithm};
    if (hash->algorithm == DIGEST_SHA256)
        SHA256_Final(digest.raw, ctx256(&copy));
    else
        SHA512_Final(digest.raw, ctx512(&copy));
    *out = digest;
}

static void put_be(uint8_t *out, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t) (value >> (8 * (bytes - 1 - i)));
}

static uint64_t get_be(const uint8_t *in, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | in[i];
    return value;
}

size_t hash_save(const struct hash *hash, uint8_t *out)
{
    struct hash copy = *hash;
    bool is256 = hash->algorithm == DIGEST_SHA256;
    size_t block_bytes = is256 ? SHA256_BLOCK_BYTES : SHA512_BLOCK_BYTES;
    size_t word_bytes = is256 ? 4 : 8;
    size_t pending = (size_t) (hash->total_bytes % block_bytes);
    const uint8_t *block = is256 ? (const uint8_t *) ctx256(&copy)->data : ctx512(&copy)->u.p;

    assert((is256 ? ctx256(&copy)->num : ctx512(&copy)->num) == pending);
    out[0] = (uint8_t) hash->algorithm;
    out[1] = (uint8_t) pending;
    put_be(out + 2, hash->total_bytes, 8);
    uint8_t *p = out + STATE_HEADER_BYTES;
    for (size_t i = 0; i < 8; i++, p += word_bytes)
        put_be(p, is256 ? ctx256(&copy)->h[i] : ctx512(&copy)->h[i], word_bytes);
    memset(p, 0, block_bytes);
    memcpy(p, block, pending);
    return (size_t) (p - out) + block_bytes;
}

bool hash_restore(struct hash *hash, const uint8_t *state, size_t len)
{
    if (len < STATE_HEADER_BYTES)
        return false;
    bool is256 = state[0] == DIGEST_SHA256;
    if (!is256 && state[0] != DIGEST_SHA512)
        return false;
    size_t block_bytes = is256 ? SHA256_BLOCK_BYTES : SHA512_BLOCK_BYTES;
    size_t word_bytes = is256 ? 4 : 8;
    if (len != (is256 ? HASH_STATE_BYTES_SHA256 : HASH_STATE_BYTES_SHA512))
        return false;
    uint64_t total = get_be(state + 2, 8);
    size_t pending = state[1];
    if (pending != total % block_bytes || total > UINT64_MAX / 8)
        return false;
    const uint8_t *block = state + STATE_HEADER_BYTES + 8 * word_bytes;
    for (size_t i = pending; i < block_bytes; i++) {
        if (block[i] != 0)
            return false;
    }

    struct hash restored;
    hash_init(&restored, (enum digest_algorithm) state[0]);
    restored.total_bytes = total;
    const uint8_t *p = state + STATE_HEADER_BYTES;
    if (is256) {
        SHA256_CTX *ctx = ctx256(&restored);
        for (size_t i = 0; i < 8; i++, p += word_bytes)
            ctx->h[i] = (SHA_LONG) get_be(p, word_bytes);
        ctx->Nl = (SHA_LONG) (total << 3);
        ctx->Nh = (SHA_LONG) (total >> 29);
        ctx->num = (unsigned) pending;
        memcpy(ctx->data, block, pending);
    } else {
        SHA512_CTX *ctx = ctx512(&restored);
        for (size_t i = 0; i < 8; i++, p += word_bytes)
            ctx->h[i] = get_be(p, word_bytes);
        ctx->Nl = total << 3;
        ctx->Nh = total >> 61;
        ctx->num = (unsigned) pending;
        memcpy(ctx->u.p, block, pending);
    }
    *hash = restored;
    return true;
}

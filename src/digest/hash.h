/*
 * Streaming SHA-256 and SHA-512 whose state can be saved and restored, on any machine, in any later release.
 *
 * The saved form is ours, not the library's struct: big-endian, fixed size, and documented here because it lives in
 * stores for as long as an upload does:
 *
 *     byte 0      algorithm (1 sha256, 2 sha512)
 *     byte 1      number of bytes in the unfinished block, 0..63 or 0..127
 *     2..9        total bytes hashed, big-endian
 *     10..        eight chaining words, big-endian, 4 or 8 bytes each
 *     then        the unfinished block, 64 or 128 bytes, zero past its length
 *
 * so 106 bytes for sha256 and 202 for sha512. total mod block size must equal byte 1, or the state is refused.
 * Threads: one owner at a time.
 */
#ifndef ORLOP_DIGEST_HASH_H
#define ORLOP_DIGEST_HASH_H

#include "digest/digest.h"

#define HASH_STATE_BYTES_SHA256 (10 + 32 + 64)
#define HASH_STATE_BYTES_SHA512 (10 + 64 + 128)
#define HASH_STATE_BYTES_MAX HASH_STATE_BYTES_SHA512

/* Caller's storage; copy it freely (a copy is an independent hash at the same point). */
struct hash {
    enum digest_algorithm algorithm;
    uint64_t total_bytes;
    union {
        uint64_t align;
        unsigned char opaque[232]; /* the library's context; its size is asserted in hash.c */
    } ctx;
};

void hash_init(struct hash *hash, enum digest_algorithm algorithm);
void hash_update(struct hash *hash, const void *bytes, size_t len);
/* The digest of what was hashed so far. hash itself is unchanged and may go on. */
void hash_digest(const struct hash *hash, struct digest *out);

/* Write the saved form; out has HASH_STATE_BYTES_MAX. Returns its length. */
size_t hash_save(const struct hash *hash, uint8_t *out);
/* Restore from a saved form of exactly len bytes. false: not a valid state; hash untouched. */
bool hash_restore(struct hash *hash, const uint8_t *state, size_t len);

#endif

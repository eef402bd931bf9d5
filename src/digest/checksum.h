/*
 * Checksums that S3 asks for on the way: CRC-32C (Castagnoli) and MD5. They guard against damage, not against malice;
 * digests (digest/hash.h) do that.
 */
#ifndef ORLOP_DIGEST_CHECKSUM_H
#define ORLOP_DIGEST_CHECKSUM_H

#include "base/buf.h"

#define CRC32C_BYTES 4
#define MD5_BYTES 16
#define BASE64_BYTES(raw) (((raw) + 2) / 3 * 4 + 1) /* length of the text, with its NUL */

/* The CRC of bytes, going on from that of the bytes before (0 at the start). */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t len);

/* The MD5 of spans one after the other. out has MD5_BYTES. */
void md5_spans(const struct str *spans, size_t count, uint8_t *out);

/* Write base64 and a NUL; out has BASE64_BYTES(len). */
void base64_encode(const uint8_t *bytes, size_t len, char *out);

#endif

/*
 * Digests as values: "algorithm:hex" (image-spec "Digests"). sha256 and sha512 are supported; 72 bytes, no heap.
 */
#ifndef ORLOP_DIGEST_DIGEST_H
#define ORLOP_DIGEST_DIGEST_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define DIGEST_RAW_BYTES_MAX 64
#define DIGEST_HEX_BYTES_MAX (2 * DIGEST_RAW_BYTES_MAX + 1) /* with the NUL */
#define DIGEST_TEXT_BYTES_MAX (7 + DIGEST_HEX_BYTES_MAX)    /* "sha512:" + hex + NUL */

enum digest_algorithm { DIGEST_SHA256 = 1, DIGEST_SHA512 = 2 }; /* stored in records: never renumber */

struct digest {
    enum digest_algorithm algorithm;
    uint8_t raw[DIGEST_RAW_BYTES_MAX]; /* bytes past the algorithm's length are zero */
};

/* Parse "sha256:<64 lower-case hex>" or "sha512:<128>"; all of text. false: malformed or unsupported; out untouched. */
bool digest_parse(struct str text, struct digest *out);
/* As digest_parse for the hex alone. */
bool digest_parse_hex(enum digest_algorithm algorithm, struct str hex, struct digest *out);
/* Write "algorithm:hex" and a NUL; out has DIGEST_TEXT_BYTES_MAX. */
void digest_format(const struct digest *digest, char *out);
/* Write the hex and a NUL; out has DIGEST_HEX_BYTES_MAX. */
void digest_format_hex(const struct digest *digest, char *out);
bool digest_equal(const struct digest *a, const struct digest *b);

/* "sha256" / "sha512" to the algorithm and back; 32 or 64 raw bytes. */
bool digest_algorithm_parse(struct str text, enum digest_algorithm *out);
const char *digest_algorithm_name(enum digest_algorithm algorithm);
size_t digest_raw_bytes(enum digest_algorithm algorithm);

#endif

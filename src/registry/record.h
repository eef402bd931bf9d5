/*
 * An upload's state record, as kept by the store. All numbers big-endian:
 *
 *     "ORLU"                     magic
 *     u16  format version        2 now; 1 is still read
 *     u8   n, n bytes            repository name
 *     u64  started, ms           wall clock
 *     u64  last activity, ms     wall clock
 *     u8   n, n bytes            boot id under which the bytes were written (since version 2; "" before)
 *     u16  n, n bytes            hash state (digest/hash.h); its total is the upload's size
 *     u32                        the first four bytes of the SHA-256 of all before
 *
 * An unknown version is ERR_VERSION, anything else wrong ERR_CORRUPT; callers answer both as an unknown upload.
 */
#ifndef ORLOP_REGISTRY_RECORD_H
#define ORLOP_REGISTRY_RECORD_H

#include "digest/hash.h"
#include "registry/name.h"

#define RECORD_VERSION 2
#define RECORD_BYTES_MAX 1024
#define RECORD_BOOT_ID_CHARS_MAX 63

struct upload_record {
    struct repo_name repo;
    uint64_t started_ms;
    uint64_t active_ms;
    char boot_id[RECORD_BOOT_ID_CHARS_MAX + 1];
    struct hash hash; /* hash.total_bytes is the upload's size */
};

/* Append the record's bytes in the current version to out (limit ≥ RECORD_BYTES_MAX). */
void record_encode(const struct upload_record *record, struct buf *out);
must_check enum err_code record_decode(struct str bytes, struct upload_record *out, struct err *err);

#endif

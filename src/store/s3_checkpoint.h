/*
 * A checkpoint object of an S3 upload, uploads/<id>/<sequence>: the driver's state, the registry's record, and the
 * bytes that came since the checkpoint before (unless parts hold them). All numbers big-endian:
 *
 *     "ORLS"                       magic
 *     u16                          format version: 2, or 1 without the nonce
 *     32 bytes                     the node that wrote it (hex)
 *     u16 n, n bytes               S3's multipart upload id; n = 0: none was begun
 *     32 bytes                     version 2: the nonce it was begun with (hex)
 *     u32                          next part number to use
 *     u16 n, n × (u16, u16)        runs of part numbers that belong to the blob: first, count
 *     u64                          bytes held by those parts
 *     u32                          first sequence number whose bytes are not in parts (tail)
 *     u64                          where in the blob this object's bytes begin
 *     u16 n, n bytes               the registry's record
 *     then                         the bytes
 */
#ifndef ORLOP_STORE_S3_CHECKPOINT_H
#define ORLOP_STORE_S3_CHECKPOINT_H

#include "store/s3_xml.h"
#include "store/store.h"

#define S3_CHECKPOINT_RUNS_MAX 64 /* each takeover by another node begins one */
#define S3_CHECKPOINT_HEAD_BYTES_MAX \
    (128 + S3_UPLOAD_ID_BYTES_MAX + 4 * S3_CHECKPOINT_RUNS_MAX + STORE_RECORD_BYTES_MAX)

struct s3_part_run {
    uint16_t first;
    uint16_t count;
};

struct s3_checkpoint {
    char node[33];
    char multipart_id[S3_UPLOAD_ID_BYTES_MAX];
    char nonce[33]; /* "": none */
    uint32_t next_part;
    struct s3_part_run runs[S3_CHECKPOINT_RUNS_MAX];
    size_t run_count;
    uint64_t parts_bytes;
    uint32_t tail_first;
    uint64_t bytes_offset;
    struct str record; /* decoded: points into the object */
};

/* Append everything but the bytes to out (limit ≥ S3_CHECKPOINT_HEAD_BYTES_MAX). */
void s3_checkpoint_encode(const struct s3_checkpoint *checkpoint, struct buf *out);
/* *out_bytes is what follows the head, in object. ERR_VERSION; ERR_CORRUPT. */
must_check enum err_code s3_checkpoint_decode(struct str object, struct s3_checkpoint *out, struct str *out_bytes,
                                              struct err *err);

#endif

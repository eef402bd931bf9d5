/*
 * The S3 driver: the store's keys as objects below a prefix of a bucket, served by any number of nodes.
 *
 *     orlop.json                          format marker and secret
 *     blobs/<alg>/<pp>/<hex>              a blob that was one PUT …
 *     blobs/<alg>/<pp>/<hex>.at           … or the place of one that came in parts: {"size": N, "place": "data/…"}
 *     data/<pp>/<upload id>-<nonce>       bytes of a multipart upload, written once, never moved
 *     uploads/<id>/<sequence>             a checkpoint: state, record, and the bytes since the one before
 *
 * What each operation costs, in requests, is the budget table of ARCHITECTURE.md; tests count it at the wire.
 *
 * A small chunk is one PUT of its checkpoint, with If-None-Match: a racing node loses there and nothing is ever
 * rewritten. Bytes gather in memory and go out as parts, some in flight while the next fills; all part memory comes
 * out of one budget for the process. Commit completes the multipart upload and writes a pointer: no byte is copied or
 * read back, whatever the size.
 *
 * Without honest conditional writes (probed at open) one node may write: store_caps says so.
 */
#ifndef ORLOP_STORE_S3_H
#define ORLOP_STORE_S3_H

#include "store/s3_client.h"
#include "store/store.h"

#define S3_PART_BYTES_MIN (5 * 1024 * 1024)   /* S3's least, but for the last */
#define S3_PART_BYTES_FIRST (8 * 1024 * 1024) /* of the first parts; later ones grow so that 10,000 always suffice */
#define S3_SLAB_BYTES (256 * 1024)            /* part memory is taken in these */
#define S3_PARTS_IN_FLIGHT_MAX 4              /* of one upload */

struct s3_settings {
    struct s3_client_settings client;
    uint64_t part_memory_bytes_max; /* of all uploads together; when it is spent, uploads wait */
    unsigned senders;               /* threads that send parts */
    uint64_t part_bytes;            /* 0: growing from S3_PART_BYTES_FIRST; else all parts but the last are this long */
    bool must_exist;                /* write nothing: no probe, and ERR_NOT_FOUND where there is no store yet */
    bool is_single_writer;          /* do not ask for conditional writes: the operator promises one node */
};

#define S3_SETTINGS_DEFAULT \
    ((struct s3_settings){.client = S3_CLIENT_DEFAULTS, .part_memory_bytes_max = 256 * 1024 * 1024, .senders = 8})

/*
 * Open the bucket; makes the marker when the prefix is empty. Errors as s3_client.h; ERR_VERSION for an unknown
 * format; ERR_INVALID when objects of something else are there.
 */
must_check enum err_code s3_store_open(const struct s3_settings *settings, struct store **out, struct err *err);

#endif

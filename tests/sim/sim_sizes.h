/*
 * Included before every file of the store and the registry that is compiled for the simulation: the sizes at which
 * uploads change their ways, each a thousandth or so of the real one, in the same order. A schedule with parts, short
 * parts, checkpoints on the way and several slabs a part is then a matter of kilobytes.
 */
#ifndef ORLOP_TESTS_SIM_SIZES_H
#define ORLOP_TESTS_SIM_SIZES_H

#include "registry/upload.h"
#include "store/s3.h"

#undef S3_PART_BYTES_MIN
#define S3_PART_BYTES_MIN (5 * 1024)
#undef S3_PART_BYTES_FIRST
#define S3_PART_BYTES_FIRST (8 * 1024)
#undef S3_SLAB_BYTES
#define S3_SLAB_BYTES 256
#undef S3_HASHED_BYTES_MAX
#define S3_HASHED_BYTES_MAX 2048
#undef UPLOAD_CHECKPOINT_BYTES
#define UPLOAD_CHECKPOINT_BYTES (24ULL * 1024)

#endif

/*
 * Where blobs stand: blobs/<alg>/<first two hex digits>/<hex>. The one spelling, for every driver.
 */
#ifndef ORLOP_STORE_BLOB_KEY_H
#define ORLOP_STORE_BLOB_KEY_H

#include "store/store.h"

#define BLOB_KEY_BYTES_MAX 192
#define BLOB_POINTER_SUFFIX ".at" /* after a blob's key: where its bytes are instead */

/* out has BLOB_KEY_BYTES_MAX. */
void blob_key_format(const struct digest *digest, char *out);
/* false: not the key of a blob or of its pointer. */
bool blob_key_parse(const char *key, struct digest *out);

#endif

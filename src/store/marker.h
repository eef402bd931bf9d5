/*
 * The store's format marker, orlop.json: {"format": 1, "secret": "<64 hex digits>"}. Every driver's first object.
 */
#ifndef ORLOP_STORE_MARKER_H
#define ORLOP_STORE_MARKER_H

#include "base/buf.h"
#include "base/err.h"

#define MARKER_KEY "orlop.json"
#define MARKER_BYTES_MAX 4096
#define MARKER_SECRET_BYTES 65 /* with the NUL */

/* Read a marker's text. where names the store in messages. ERR_VERSION: a format of another release; ERR_CORRUPT. */
must_check enum err_code marker_parse(struct str text, const char *where, char *out_secret, struct err *err);
/* Append a new marker with a fresh secret. */
void marker_make(struct buf *out);

#endif

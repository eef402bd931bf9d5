/*
 * Text as a JSON string, for what is written by hand (log lines, reports). Reading JSON is the registry's business.
 */
#ifndef ORLOP_BASE_JSON_TEXT_H
#define ORLOP_BASE_JSON_TEXT_H

#include "base/buf.h"

/*
 * Append s quoted and escaped (RFC 8259); the controls above ASCII too, as terminals obey them. Bytes that are no UTF-8
 * become U+FFFD, so the result is always valid. On overflow the buffer ends in the middle of the string: the caller
 * cuts it back to where it was.
 */
bool buf_append_json_string(struct buf *out, struct str s);

/* Bytes of the UTF-8 character s begins with; 0 when there is none (empty, cut, overlong, surrogate). */
size_t utf8_char_bytes(struct str s);

#endif

/*
 * Strict JSON, read-only: UTF-8 checked, duplicate keys refused, depth and number of values bounded before the parser
 * allocates anything. The only user of the JSON library is json.c.
 *
 * Threads: a parsed value may be read from any thread; it has one owner, who frees the root.
 */
#ifndef ORLOP_BASE_JSON_H
#define ORLOP_BASE_JSON_H

#include "base/buf.h"
#include "base/err.h"

#define JSON_DEPTH_MAX 64
#define JSON_VALUES_MAX 200000 /* about 20 MiB of tree at worst */

struct json; /* a value; members and items are borrowed from their root */

/* Parse one whole object or list. ERR_INVALID with a message that says what is wrong and on which line. */
must_check enum err_code json_parse(struct str text, struct json **out, struct err *err);
void json_free(struct json *root); /* NULL is fine */

bool json_is_map(const struct json *value);
bool json_is_list(const struct json *value);
/* NULL when value is no object, or has no such member, or null for it. value may be NULL. */
const struct json *json_member(const struct json *value, const char *name);
/* Items of an array; 0 for anything else. */
size_t json_count(const struct json *value);
const struct json *json_item(const struct json *array, size_t index);
/* false when value is NULL or of another type. Text has no NUL inside and is NUL-terminated. */
bool json_text(const struct json *value, struct str *out);
bool json_u64(const struct json *value, uint64_t *out);
/* Is every member of this object a text? */
bool json_is_text_map(const struct json *value);
/* Append compact JSON. */
bool json_append(struct buf *out, const struct json *value);

static inline void cleanup_json(struct json **root)
{
    json_free(*root);
    *root = NULL;
}

#define auto_json cleanup(cleanup_json) struct json *

#endif

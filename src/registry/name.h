/*
 * Repository names, tags and references as values (distribution-spec "Pulling manifests").
 */
#ifndef ORLOP_REGISTRY_NAME_H
#define ORLOP_REGISTRY_NAME_H

#include "base/buf.h"
#include "base/err.h"
#include "digest/digest.h"

#define REPO_NAME_CHARS_MAX 255 /* a dot counts twice, so that the escaped form is a file name too */
#define TAG_CHARS_MAX 128

struct repo_name {
    char text[REPO_NAME_CHARS_MAX + 1];
};

struct tag_name {
    char text[TAG_CHARS_MAX + 1];
};

/* <tag-or-digest>: a colon in it means digest. */
struct reference {
    bool is_digest;
    struct digest digest;
    struct tag_name tag;
};

/* All of text must match the name grammar and the length limit; else ERR_NAME_INVALID with a message saying why. */
must_check enum err_code repo_name_parse(struct str text, struct repo_name *out, struct err *err);
/* ERR_TAG_INVALID. */
must_check enum err_code tag_name_parse(struct str text, struct tag_name *out, struct err *err);
/* ERR_TAG_INVALID, or ERR_DIGEST_INVALID for a malformed or unsupported digest. */
must_check enum err_code reference_parse(struct str text, struct reference *out, struct err *err);

/*
 * One path component for a whole name, for catalog and blob references: '/' becomes '.', '.' becomes "..". No name has
 * two dots in a row or a dot before a separator, so this is reversible; and it keeps byte order: listing escaped names
 * in order lists the names in order. out has REPO_NAME_CHARS_MAX + 1 bytes.
 */
void repo_name_escape(const struct repo_name *name, char *out);
/* false: not something repo_name_escape makes. */
bool repo_name_unescape(const char *text, struct repo_name *out);

#endif

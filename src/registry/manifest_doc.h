/*
 * What a manifest's JSON says: its type, what it refers to, its subject, and the descriptor under which it is listed
 * among a subject's referrers (image-spec "Image Manifest", "Image Index").
 */
#ifndef ORLOP_REGISTRY_MANIFEST_DOC_H
#define ORLOP_REGISTRY_MANIFEST_DOC_H

#include "base/json.h"
#include "registry/manifest.h"

#define MANIFEST_REFERENCES_MAX 20000 /* descriptors in one manifest */

struct manifest_reference {
    struct digest digest;
    bool is_manifest; /* an entry of an index, else a config or layer */
    bool is_optional; /* its content may live elsewhere: non-distributable, or with urls */
};

struct manifest_doc {
    struct json *root;
    char media_type[MEDIA_TYPE_CHARS_MAX + 1];
    bool is_index;
    struct manifest_reference *references;
    size_t reference_count;
    bool has_subject;
    struct digest subject;
    struct str artifact_type; /* of the referrer's descriptor; empty: none. Points into root. */
};

/*
 * Parse and validate. media_type is the Content-Type without parameters; empty or generic: taken from the body.
 * ERR_MANIFEST_INVALID says what is wrong. Free with manifest_doc_free, also after a failure.
 */
must_check enum err_code manifest_doc_parse(struct str bytes, struct str media_type, struct manifest_doc *out,
                                            struct err *err);
void manifest_doc_free(struct manifest_doc *doc);

/* Append the descriptor by which this manifest is listed as a referrer. */
bool manifest_doc_descriptor(const struct manifest_doc *doc, const struct digest *digest, size_t size_bytes,
                             struct buf *out);

#endif

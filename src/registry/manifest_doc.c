/*
 * Reading manifests. Lenient where the specification is (unknown fields, unknown artifact and layer types, empty
 * lists), strict where a mistake would surface only at somebody's pull.
 */
#include "registry/manifest_doc.h"

#include "base/json_text.h"

#define OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define OCI_ARTIFACT "application/vnd.oci.artifact.manifest.v1+json"
#define DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"

enum manifest_shape { SHAPE_UNKNOWN, SHAPE_IMAGE, SHAPE_INDEX, SHAPE_ARTIFACT };

static enum manifest_shape shape_of(struct str media_type)
{
    static const struct {
        struct str media_type;
        enum manifest_shape shape;
    } known[] = {
        {{OCI_MANIFEST, sizeof(OCI_MANIFEST) - 1}, SHAPE_IMAGE},
        {{OCI_INDEX, sizeof(OCI_INDEX) - 1}, SHAPE_INDEX},
        {{OCI_ARTIFACT, sizeof(OCI_ARTIFACT) - 1}, SHAPE_ARTIFACT},
        {{DOCKER_MANIFEST, sizeof(DOCKER_MANIFEST) - 1}, SHAPE_IMAGE},
        {{DOCKER_LIST, sizeof(DOCKER_LIST) - 1}, SHAPE_INDEX},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (str_equal(media_type, known[i].media_type))
            return known[i].shape;
    }
    return SHAPE_UNKNOWN;
}

static bool is_non_distributable(struct str media_type)
{
    return str_starts(media_type, STR("application/vnd.oci.image.layer.nondistributable.")) ||
           str_equal(media_type, STR("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"));
}

/* Types that say nothing: what a plain HTTP client sends. */
static bool is_generic(struct str media_type)
{
    return media_type.len == 0 || str_equal(media_type, STR("application/json")) ||
           str_equal(media_type, STR("application/octet-stream")) ||
           str_equal(media_type, STR("application/x-www-form-urlencoded"));
}

static enum err_code invalid(struct err *err, const char *what)
{
    return err_set(err, ERR_MANIFEST_INVALID, "the manifest is invalid: %s", what);
}

/* A member that must be a text when it is there; empty when it is not. */
static enum err_code optional_text(const struct json *object, const char *name, struct str *out, struct err *err)
{
    const struct json *member = json_member(object, name);
    *out = STR("");
    if (member && !json_text(member, out))
        return err_set(err, ERR_MANIFEST_INVALID, "the manifest is invalid: '%s' must be a text", name);
    return ERR_OK;
}

/* Check one descriptor and read its digest. where names it in the message. */
static enum err_code descriptor_read(const struct json *descriptor, const char *where, struct digest *out_digest,
                                     struct str *out_media_type, struct err *err)
{
    struct str text;
    uint64_t size;
    if (!json_is_map(descriptor))
        return err_set(err, ERR_MANIFEST_INVALID, "the manifest is invalid: %s must be a descriptor", where);
    if (!json_text(json_member(descriptor, "digest"), &text) || !digest_parse(text, out_digest))
        return err_set(err, ERR_MANIFEST_INVALID,
                       "the manifest is invalid: %s has no digest of a supported form (sha256:… or sha512:…)", where);
    if (!json_u64(json_member(descriptor, "size"), &size))
        return err_set(err, ERR_MANIFEST_INVALID, "the manifest is invalid: %s has no size in bytes", where);
    return optional_text(descriptor, "mediaType", out_media_type, err);
}

static enum err_code reference_add(struct manifest_doc *doc, const struct json *descriptor, const char *where,
                                   bool is_manifest, struct err *err)
{
    struct manifest_reference *reference = &doc->references[doc->reference_count];
    struct str media_type;
    *reference = (struct manifest_reference){.is_manifest = is_manifest};
    if (descriptor_read(descriptor, where, &reference->digest, &media_type, err) != ERR_OK)
        return err->code;
    reference->is_optional = is_non_distributable(media_type) || json_count(json_member(descriptor, "urls")) > 0;
    doc->reference_count++;
    return ERR_OK;
}

/* Read config and the named list of descriptors into doc->references. */
static enum err_code references_read(struct manifest_doc *doc, const char *list_name, bool has_config, struct err *err)
{
    const struct json *list = json_member(doc->root, list_name);
    const struct json *config = json_member(doc->root, "config");
    size_t count = json_count(list);
    if (!json_is_list(list))
        return err_set(err, ERR_MANIFEST_INVALID, "the manifest is invalid: '%s' must be a list", list_name);
    if (count > MANIFEST_REFERENCES_MAX)
        return err_set(err, ERR_MANIFEST_INVALID, "the manifest is invalid: more than %d descriptors",
                       MANIFEST_REFERENCES_MAX);
    doc->references = calloc(count + 1, sizeof(*doc->references));
    if (!doc->references)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    if (has_config && reference_add(doc, config, "'config'", false, err) != ERR_OK)
        return err->code;
    for (size_t i = 0; i < count; i++) {
        char where[64];
        (void) snprintf(where, sizeof(where), "'%s'[%zu]", list_name, i);
        if (reference_add(doc, json_item(list, i), where, doc->is_index, err) != ERR_OK)
            return err->code;
    }
    return ERR_OK;
}

/* The effective media type: the header's if it says something, else the body's, else by what the body looks like. */
static enum err_code media_type_settle(struct manifest_doc *doc, struct str header, enum manifest_shape *out_shape,
                                       struct err *err)
{
    struct str body;
    if (optional_text(doc->root, "mediaType", &body, err) != ERR_OK)
        return err->code;
    struct str settled = is_generic(header) ? body : header;
    if (settled.len == 0)
        settled = json_member(doc->root, "manifests") ? STR(OCI_INDEX) : STR(OCI_MANIFEST);
    if (body.len && !str_equal(body, settled))
        return err_set(err, ERR_MANIFEST_INVALID,
                       "the manifest is invalid: its mediaType differs from the Content-Type it was sent with");
    *out_shape = shape_of(settled);
    if (*out_shape == SHAPE_UNKNOWN)
        return err_set(err, ERR_MANIFEST_INVALID,
                       "the manifest's media type '%.*s' is not supported: send an OCI manifest or index, or Docker "
                       "schema 2",
                       (int) (settled.len < 100 ? settled.len : 100), settled.ptr);
    memcpy(doc->media_type, settled.ptr, settled.len);
    doc->media_type[settled.len] = '\0';
    return ERR_OK;
}

static enum err_code subject_read(struct manifest_doc *doc, struct err *err)
{
    const struct json *subject = json_member(doc->root, "subject");
    struct str media_type;
    if (!subject)
        return ERR_OK;
    doc->has_subject = true;
    return descriptor_read(subject, "'subject'", &doc->subject, &media_type, err);
}

/* Spec "Listing Referrers": the manifest's artifactType, else an image's config type, else none. */
static enum err_code artifact_type_read(struct manifest_doc *doc, struct err *err)
{
    if (optional_text(doc->root, "artifactType", &doc->artifact_type, err) != ERR_OK)
        return err->code;
    if (doc->artifact_type.len == 0 && !doc->is_index)
        return optional_text(json_member(doc->root, "config"), "mediaType", &doc->artifact_type, err);
    return ERR_OK;
}

enum err_code manifest_doc_parse(struct str bytes, struct str media_type, struct manifest_doc *out, struct err *err)
{
    uint64_t schema_version;
    enum manifest_shape shape;
    *out = (struct manifest_doc){0};
    if (json_parse(bytes, &out->root, err) != ERR_OK)
        return err_become(err, ERR_MANIFEST_INVALID, "the manifest is invalid: %s", err->message);
    if (!json_is_map(out->root))
        return invalid(err, "it must be a JSON object");
    if (media_type_settle(out, media_type, &shape, err) != ERR_OK)
        return err->code;
    if (shape != SHAPE_ARTIFACT &&
        (!json_u64(json_member(out->root, "schemaVersion"), &schema_version) || schema_version != 2))
        return invalid(err, "'schemaVersion' must be 2");
    out->is_index = shape == SHAPE_INDEX;
    const struct json *annotations = json_member(out->root, "annotations");
    if (annotations && !json_is_text_map(annotations))
        return invalid(err, "'annotations' must be an object of texts");

    enum err_code code = ERR_OK;
    if (shape == SHAPE_IMAGE)
        code = references_read(out, "layers", true, err);
    else if (shape == SHAPE_INDEX)
        code = references_read(out, "manifests", false, err);
    else if (json_member(out->root, "blobs"))
        code = references_read(out, "blobs", false, err);
    if (code != ERR_OK || subject_read(out, err) != ERR_OK)
        return err->code;
    return artifact_type_read(out, err);
}

void manifest_doc_free(struct manifest_doc *doc)
{
    json_free(doc->root);
    free(doc->references);
    *doc = (struct manifest_doc){0};
}

bool manifest_doc_descriptor(const struct manifest_doc *doc, const struct digest *digest, size_t size_bytes,
                             struct buf *out)
{
    char text[DIGEST_TEXT_BYTES_MAX];
    digest_format(digest, text);
    const struct json *annotations = json_member(doc->root, "annotations");
    bool ok =
        buf_appendf(out, "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu", doc->media_type, text, size_bytes);
    if (doc->artifact_type.len)
        ok = ok && buf_append_text(out, ",\"artifactType\":") && buf_append_json_string(out, doc->artifact_type);
    if (annotations)
        ok = ok && buf_append_text(out, ",\"annotations\":") && json_append(out, annotations);
    return ok && buf_append_char(out, '}');
}

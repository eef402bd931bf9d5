/* Manifests and tags: GET and HEAD (end-3), PUT (end-7), DELETE (end-9). */
#include "http/api.h"
#include "http/endpoints.h"

#include "registry/manifest.h"

#define TAG_PARAMETERS_MAX 64 /* ?tag= on one PUT; the specification asks for at least 10 */

static void release_manifest(void *manifest)
{
    manifest_unref(manifest);
}

/* Answer with the manifest, whose reference is taken over. */
static void reply_manifest(struct request *request, const struct reference *reference, struct manifest *manifest)
{
    if (api_not_modified(request, &manifest->digest)) {
        manifest_unref(manifest);
        return;
    }
    reply_status(request, 200);
    reply_header(request, "Content-Type", manifest->media_type);
    api_digest_headers(request, &manifest->digest);
    reply_header(request, "Cache-Control", reference->is_digest ? API_IMMUTABLE : "no-cache");
    reply_body_shared(request, manifest->bytes, manifest->len, release_manifest, manifest);
}

/* A tag that breaks the grammar cannot exist: reading it is 404, as clients expect, not 400. */
static enum err_code reference_to_read(struct request *request, struct reference *out, struct err *err)
{
    enum err_code code = reference_parse(request->last, out, err);
    return code == ERR_TAG_INVALID ? err_set(err, ERR_MANIFEST_UNKNOWN, "no such tag: %s", err->message) : code;
}

static bool manifest_get_fast(struct request *request)
{
    struct reference reference;
    struct err err = ERR_INIT;
    if (reference_to_read(request, &reference, &err) != ERR_OK) {
        reply_error(request, &err);
        return true;
    }
    struct manifest *manifest = manifest_find_cached(request->registry, &request->repo, &reference);
    if (!manifest)
        return false;
    reply_manifest(request, &reference, manifest);
    return true;
}

static void manifest_get_run(struct request *request)
{
    struct reference reference;
    struct manifest *manifest;
    struct err err = ERR_INIT;
    if (reference_to_read(request, &reference, &err) != ERR_OK ||
        manifest_find(request->registry, &request->repo, &reference, &manifest, &err) != ERR_OK)
        reply_error(request, &err);
    else
        reply_manifest(request, &reference, manifest);
}

/* ---- PUT ---- */

/* Read an entity tag "<digest>" (quoted or not) of a list; false when the list's first is none of ours. */
static bool first_etag(struct str list, struct digest *out)
{
    while (list.len && (list.ptr[0] == ' ' || list.ptr[0] == '"'))
        list.ptr++, list.len--;
    size_t len = 0;
    while (len < list.len && list.ptr[len] != '"' && list.ptr[len] != ',' && list.ptr[len] != ' ')
        len++;
    return digest_parse((struct str){list.ptr, len}, out);
}

/* If-Match and If-None-Match as a condition on a tag. An etag that no manifest can have never matches. */
static struct tag_condition condition_read(struct request *request)
{
    struct tag_condition condition = {.kind = TAG_ANY};
    struct str if_match = request_header(request, "If-Match");
    struct str if_none_match = request_header(request, "If-None-Match");
    condition.digest.algorithm = DIGEST_SHA256;
    if (if_match.ptr) {
        condition.kind = str_equal(if_match, STR("*")) ? TAG_EXISTS : TAG_IS;
        if (condition.kind == TAG_IS)
            (void) first_etag(if_match, &condition.digest);
    } else if (if_none_match.ptr) {
        condition.kind = str_equal(if_none_match, STR("*")) ? TAG_ABSENT : TAG_IS_NOT;
        if (condition.kind == TAG_IS_NOT)
            (void) first_etag(if_none_match, &condition.digest);
    }
    return condition;
}

struct put_target {
    bool has_digest;
    struct digest digest;
    size_t tag_count;
    size_t parameter_count; /* tags that came as ?tag=, for OCI-Tag */
    struct tag_name tags[TAG_PARAMETERS_MAX];
};

/* By digest with ?tag=…, or by tag, which one client accompanies with ?digest=. */
static enum err_code put_target_read(struct request *request, struct put_target *out, struct err *err)
{
    struct reference reference;
    if (reference_parse(request->last, &reference, err) != ERR_OK)
        return err->code;
    out->has_digest = reference.is_digest;
    out->digest = reference.digest;
    out->tag_count = out->parameter_count = 0;
    if (!reference.is_digest) {
        struct str digest = field_query_get(&request->query, "digest");
        out->tags[out->tag_count++] = reference.tag;
        out->has_digest = digest.ptr != NULL;
        if (digest.ptr && !digest_parse(digest, &out->digest))
            return err_set(err, ERR_DIGEST_INVALID, "the digest in the query is malformed or unsupported");
        return ERR_OK;
    }
    for (struct str tag; (tag = field_query_get_nth(&request->query, "tag", out->tag_count)).ptr;) {
        if (out->tag_count == TAG_PARAMETERS_MAX)
            return err_set(err, ERR_TAGS_TOO_MANY, "more than %d tags in one request: push the rest in another",
                           TAG_PARAMETERS_MAX);
        if (tag_name_parse(tag, &out->tags[out->tag_count], err) != ERR_OK)
            return err->code;
        out->tag_count++;
    }
    out->parameter_count = out->tag_count;
    return ERR_OK;
}

static void manifest_put_run(struct request *request)
{
    struct err err = ERR_INIT;
    struct manifest_put_result result;
    char subject[DIGEST_TEXT_BYTES_MAX];
    auto_mem struct put_target *target = malloc(sizeof(*target));
    if (!target)
        (void) err_set(&err, ERR_NO_MEMORY, "out of memory");
    if (!target || put_target_read(request, target, &err) != ERR_OK) {
        reply_error(request, &err);
        return;
    }
    struct manifest_put put = {
        .repo = &request->repo,
        .digest = target->has_digest ? &target->digest : NULL,
        .tags = target->tags,
        .tag_count = target->tag_count,
        .media_type = field_media_type(request_header(request, "Content-Type")),
        .bytes = buf_str(&request->body),
        .condition = condition_read(request),
    };
    if (manifest_put(request->registry, &put, &result, &err) != ERR_OK) {
        reply_error(request, &err);
        return;
    }
    reply_status(request, 201);
    api_location(request, "manifests", &result.digest);
    api_digest_headers(request, &result.digest);
    if (result.has_subject) {
        digest_format(&result.subject, subject);
        reply_header(request, "OCI-Subject", subject);
    }
    for (size_t i = 0; i < target->parameter_count; i++)
        reply_header(request, "OCI-Tag", target->tags[i].text);
}

/* ---- DELETE ---- */

static void manifest_delete_run(struct request *request)
{
    struct reference reference;
    struct err err = ERR_INIT;
    enum err_code code = reference_to_read(request, &reference, &err);
    if (code == ERR_OK && reference.is_digest) {
        code = manifest_delete(request->registry, &request->repo, &reference.digest, &err);
    } else if (code == ERR_OK) {
        struct tag_condition condition = condition_read(request);
        code = tag_delete(request->registry, &request->repo, &reference.tag, &condition, &err);
    }
    if (code != ERR_OK)
        reply_error(request, &err);
    else
        reply_status(request, 202);
}

const struct endpoint endpoint_manifest_get = {.name = "manifest-get",
                                               .method = METHOD_GET,
                                               .access = ACCESS_PULL,
                                               .fast = manifest_get_fast,
                                               .run = manifest_get_run};

const struct endpoint endpoint_manifest_put = {.name = "manifest-put",
                                               .method = METHOD_PUT,
                                               .access = ACCESS_PUSH,
                                               .body_kind = BODY_BUFFER,
                                               .body_bytes_max = REGISTRY_MANIFEST_BYTES_MAX,
                                               .run = manifest_put_run};

const struct endpoint endpoint_manifest_delete = {.name = "manifest-delete",
                                                  .method = METHOD_DELETE,
                                                  .access = ACCESS_DELETE,
                                                  .run = manifest_delete_run};

/*
 * The fallback tag: clients that find no referrers API keep an index of a subject's referrers under "<alg>-<hex>"
 * (image-spec "Referrers Tag Schema"). What it lists is folded into the answers, where it is here.
 */
#include "base/json.h"
#include "registry/manifest_doc.h"
#include "registry/referrers.h"

#define TAG_HEX_CHARS_MAX 64 /* of the digest: longer ones are cut */

static void cleanup_doc(struct manifest_doc *doc)
{
    manifest_doc_free(doc);
}

static void cleanup_manifest(struct manifest **manifest)
{
    manifest_unref(*manifest);
}

static int compare_digests(const void *a, const void *b)
{
    return digest_order(a, b);
}

/* In order of name, each once. */
static void settle(struct digest_list *list)
{
    size_t kept = 0;
    if (list->count > 1)
        qsort(list->items, list->count, sizeof(list->items[0]), compare_digests);
    for (size_t i = 0; i < list->count; i++) {
        if (kept == 0 || !digest_equal(&list->items[kept - 1], &list->items[i]))
            list->items[kept++] = list->items[i];
    }
    list->count = kept;
}

enum err_code referrers_fold_read(struct registry *registry, const struct referrers_query *query,
                                  struct digest_list *out, struct err *err)
{
    char dashed[DIGEST_TEXT_BYTES_MAX];
    struct reference reference = {0};
    cleanup(cleanup_manifest) struct manifest *index = NULL;
    key_digest_dashed(&query->subject, dashed);
    memcpy(reference.tag.text, dashed, strcspn(dashed, "-") + 1 + TAG_HEX_CHARS_MAX);
    enum err_code code = manifest_find(registry, query->repo, &reference, &index, err);
    if (code != ERR_OK)
        return code == ERR_MANIFEST_UNKNOWN ? ERR_OK : code;

    auto_unlock lock = lock_if_big(registry, index->len);
    auto_json root = NULL;
    struct err damage = ERR_INIT;
    if (json_parse((struct str){index->bytes, index->len}, &root, &damage) != ERR_OK)
        return ERR_OK;
    const struct json *entries = json_member(root, "manifests"); /* none: an ordinary tag that looks like one */
    for (size_t i = 0; i < json_count(entries) && i < REFERRERS_FOLD_MAX; i++) {
        struct digest digest;
        struct str text;
        if (json_text(json_member(json_item(entries, i), "digest"), &text) && digest_parse(text, &digest) &&
            !digest_list_add(out, &digest))
            return err_set(err, ERR_NO_MEMORY, "out of memory");
    }
    settle(out);
    return ERR_OK;
}

enum err_code referrer_from_manifest(struct registry *registry, const struct referrers_query *query,
                                     const struct digest *digest, struct referrer **out, struct err *err)
{
    struct reference reference = {.is_digest = true, .digest = *digest};
    cleanup(cleanup_manifest) struct manifest *manifest = NULL;
    *out = NULL;
    enum err_code code = manifest_find(registry, query->repo, &reference, &manifest, err);
    if (code != ERR_OK)
        return code == ERR_MANIFEST_UNKNOWN ? ERR_OK : code;

    auto_unlock lock = lock_if_big(registry, manifest->len);
    struct manifest_doc doc cleanup(cleanup_doc) = {0};
    auto_buf descriptor = BUF_INIT(REFERRER_DESCRIPTOR_BYTES_MAX);
    if (manifest_doc_parse((struct str){manifest->bytes, manifest->len}, str_from(manifest->media_type), &doc, err) !=
            ERR_OK ||
        (doc.has_subject && !digest_equal(&doc.subject, &query->subject)) ||
        !manifest_doc_descriptor(&doc, digest, manifest->len, &descriptor))
        return ERR_OK;
    *out = referrer_new(buf_str(&descriptor), doc.artifact_type);
    return *out ? ERR_OK : err_set(err, ERR_NO_MEMORY, "out of memory");
}

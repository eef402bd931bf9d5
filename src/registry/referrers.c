/*
 * Referrers of a subject. Each referrer's descriptor is an object of its own, written once at its push and removed at
 * its delete, so concurrent changes never meet. Manifests that clients listed under the fallback tag (image-spec
 * "Referrers Tag Schema") before they found this API are folded in where they are here and not listed already.
 */
#include "base/json.h"
#include "registry/listing.h"
#include "registry/manifest_doc.h"
#include "registry/registry_priv.h"

#define INDEX_MEDIA_TYPE "application/vnd.oci.image.index.v1+json"
#define LIST_BATCH 1000
#define FOLD_MAX 1000 /* entries of a fallback index that are looked at */
#define FALLBACK_HEX_CHARS_MAX 64

struct folded {
    char name[DIGEST_TEXT_BYTES_MAX]; /* "<alg>-<hex>" */
    char *descriptor;
};

struct fold {
    struct folded items[FOLD_MAX];
    size_t count;
};

static void fold_free(struct fold **fold)
{
    for (size_t i = 0; *fold && i < (*fold)->count; i++)
        free((*fold)->items[i].descriptor);
    free(*fold);
}

static int folded_compare(const void *a, const void *b)
{
    return strcmp(((const struct folded *) a)->name, ((const struct folded *) b)->name);
}

static void cleanup_doc(struct manifest_doc *doc)
{
    manifest_doc_free(doc);
}

/* Put the entries in order of name, each once. */
static void fold_settle(struct fold *fold)
{
    size_t kept = 0;
    qsort(fold->items, fold->count, sizeof(fold->items[0]), folded_compare);
    for (size_t i = 0; i < fold->count; i++) {
        if (kept > 0 && folded_compare(&fold->items[kept - 1], &fold->items[i]) == 0)
            free(fold->items[i].descriptor);
        else
            fold->items[kept++] = fold->items[i];
    }
    fold->count = kept;
}

/* The entry's manifest must be here and must not have another subject. */
static void fold_add(struct fold *fold, const struct referrers_query *query, const struct digest *digest,
                     const struct manifest *manifest)
{
    struct manifest_doc doc cleanup(cleanup_doc) = {0};
    struct err err = ERR_INIT;
    auto_buf descriptor = BUF_INIT(STORE_OBJECT_BYTES_MAX);
    if (manifest_doc_parse((struct str){manifest->bytes, manifest->len}, str_from(manifest->media_type), &doc, &err) !=
            ERR_OK ||
        (doc.has_subject && !digest_equal(&doc.subject, &query->subject)) ||
        !manifest_doc_descriptor(&doc, digest, manifest->len, &descriptor))
        return;
    struct folded *item = &fold->items[fold->count++];
    key_digest_dashed(digest, item->name);
    item->descriptor = TAKE_PTR(descriptor.ptr);
}

/* Read the fallback tag's index, if there is one. *out stays NULL when there is nothing to fold. */
static enum err_code fold_read(struct registry *registry, const struct referrers_query *query, struct fold **out,
                               struct err *err)
{
    char dashed[DIGEST_TEXT_BYTES_MAX];
    struct reference reference = {0};
    struct manifest *index = NULL;
    key_digest_dashed(&query->subject, dashed);
    size_t tag_len = strcspn(dashed, "-") + 1 + FALLBACK_HEX_CHARS_MAX;
    memcpy(reference.tag.text, dashed, tag_len);
    enum err_code code = manifest_find(registry, query->repo, &reference, &index, err);
    if (code != ERR_OK)
        return code == ERR_MANIFEST_UNKNOWN ? ERR_OK : code;

    auto_json root = NULL;
    code = json_parse((struct str){index->bytes, index->len}, &root, err);
    manifest_unref(index);
    const struct json *entries = json_member(root, "manifests");
    if (code != ERR_OK || json_count(entries) == 0)
        return ERR_OK; /* an ordinary tag that looks like one */
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < json_count(entries) && (*out)->count < FOLD_MAX; i++) {
        struct str text;
        struct manifest *manifest = NULL;
        struct reference entry = {.is_digest = true};
        if (!json_text(json_member(json_item(entries, i), "digest"), &text) || !digest_parse(text, &entry.digest))
            continue;
        code = manifest_find(registry, query->repo, &entry, &manifest, err);
        if (code == ERR_OK)
            fold_add(*out, query, &entry.digest, manifest);
        manifest_unref(manifest);
        if (code != ERR_OK && code != ERR_MANIFEST_UNKNOWN)
            return code;
    }
    fold_settle(*out);
    return ERR_OK;
}

/* ---- the page ---- */

struct page {
    struct registry *registry;
    const struct referrers_query *query;
    struct referrers_page *out;
    size_t count;
    char last[DIGEST_TEXT_BYTES_MAX]; /* name of the last entry put on the page */
    bool full;
};

static bool type_is_wanted(const struct referrers_query *query, struct str descriptor)
{
    if (query->artifact_type_count == 0)
        return true;
    auto_json root = NULL;
    struct err err = ERR_INIT;
    struct str type;
    if (json_parse(descriptor, &root, &err) != ERR_OK || !json_text(json_member(root, "artifactType"), &type))
        return false;
    for (size_t i = 0; i < query->artifact_type_count; i++) {
        if (str_equal(type, query->artifact_types[i]))
            return true;
    }
    return false;
}

/* Put one descriptor on the page, or find the page full (it then begins the next one). */
static enum err_code page_add(struct page *page, const char *name, struct str descriptor, struct err *err)
{
    struct buf *json = &page->out->json;
    if (!type_is_wanted(page->query, descriptor))
        return ERR_OK;
    if (page->count > 0 && (json->len + descriptor.len + 3 > REFERRERS_PAGE_BYTES_MAX ||
                            (page->query->limit && page->count == page->query->limit))) {
        page->full = true;
        return ERR_OK;
    }
    if ((page->count > 0 && !buf_append_char(json, ',')) || !buf_append(json, descriptor.ptr, descriptor.len))
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    page->count++;
    (void) snprintf(page->last, sizeof(page->last), "%s", name);
    return ERR_OK;
}

static enum err_code page_add_stored(struct page *page, const char *prefix, const char *name, struct err *err)
{
    char key[KEY_BYTES];
    auto_buf descriptor = BUF_INIT(STORE_OBJECT_BYTES_MAX);
    int len = snprintf(key, sizeof(key), "%s%s", prefix, name);
    if (len < 0 || (size_t) len > STORE_KEY_BYTES_MAX)
        return ERR_OK; /* none of ours */
    enum err_code code = store_get(page->registry->store, key, &descriptor, err);
    if (code != ERR_OK)
        return code == ERR_NOT_FOUND ? ERR_OK : code; /* deleted since the list was read */
    return page_add(page, name, buf_str(&descriptor), err);
}

/* Merge the stored descriptors with the folded ones, both in order of name. */
static enum err_code page_fill(struct page *page, const struct fold *fold, struct err *err)
{
    char prefix[KEY_BYTES], after[DIGEST_TEXT_BYTES_MAX + 1] = "";
    size_t next_folded = 0, folded_count = fold ? fold->count : 0;
    bool more = true;
    (void) snprintf(after, sizeof(after), "%s", page->query->after ? page->query->after : "");
    while (next_folded < folded_count && strcmp(fold->items[next_folded].name, after) <= 0)
        next_folded++;
    key_referrers_prefix(page->query->repo, &page->query->subject, prefix);
    while (more && !page->full) {
        struct store_names names cleanup(store_names_free) = {0};
        if (store_list(page->registry->store, prefix, after, LIST_BATCH, &names, err) != ERR_OK)
            return err->code;
        more = names.more;
        for (size_t i = 0; (i < names.count || (!more && next_folded < folded_count)) && !page->full;) {
            const struct folded *folded = next_folded < folded_count ? &fold->items[next_folded] : NULL;
            int order = !folded ? -1 : i == names.count ? 1 : strcmp(names.items[i], folded->name);
            if (order >= 0)
                next_folded++;
            enum err_code code = order <= 0 ? page_add_stored(page, prefix, names.items[i], err)
                                            : page_add(page, folded->name, str_from(folded->descriptor), err);
            if (code != ERR_OK)
                return code;
            if (order <= 0)
                (void) snprintf(after, sizeof(after), "%s", names.items[i++]);
        }
    }
    return ERR_OK;
}

enum err_code referrers_list(struct registry *registry, const struct referrers_query *query, struct referrers_page *out,
                             struct err *err)
{
    cleanup(fold_free) struct fold *fold = NULL;
    struct page page = {.registry = registry, .query = query, .out = out};
    *out = (struct referrers_page){.json = BUF_INIT(REFERRERS_PAGE_BYTES_MAX + STORE_OBJECT_BYTES_MAX)};
    enum err_code code = fold_read(registry, query, &fold, err);
    (void) buf_append_text(&out->json, "{\"schemaVersion\":2,\"mediaType\":\"" INDEX_MEDIA_TYPE "\",\"manifests\":[");
    if (code == ERR_OK)
        code = page_fill(&page, fold, err);
    if (code == ERR_OK && !buf_append_text(&out->json, "]}"))
        code = err_set(err, ERR_NO_MEMORY, "out of memory");
    if (code != ERR_OK) {
        buf_free(&out->json);
        return code;
    }
    if (page.full)
        (void) snprintf(out->next, sizeof(out->next), "%s", page.last);
    return ERR_OK;
}

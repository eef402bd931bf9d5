/* Lists: tags (end-8), _catalog, referrers (end-12). */
#include "http/api.h"
#include "http/endpoints.h"

#include "base/json_text.h"
#include "registry/listing.h"

#define LIST_BODY_BYTES_MAX (8 * 1024 * 1024) /* REGISTRY_PAGE_ENTRIES_MAX names of 256 characters, escaped */
#define LINK_BYTES_MAX (8 * 1024)
#define ARTIFACT_TYPES_MAX FIELD_QUERY_PAIRS_MAX

/* Link: <path?query>; rel="next", with `last` and whatever else the page was asked with. */
static void link_next(struct request *request, const char *path, struct str last, struct str n, const char *more)
{
    auto_buf link = BUF_INIT(LINK_BYTES_MAX);
    (void) buf_appendf(&link, "<%s?", path);
    if (n.ptr)
        (void) buf_appendf(&link, "n=%.*s&", (int) n.len, n.ptr);
    (void) buf_append_text(&link, "last=");
    (void) field_encode_query(&link, last);
    (void) buf_append_text(&link, more);
    if (buf_append_text(&link, ">; rel=\"next\""))
        reply_header(request, "Link", link.ptr);
}

static bool names_append(struct buf *body, const struct store_names *names)
{
    bool ok = buf_append_char(body, '[');
    for (size_t i = 0; ok && i < names->count; i++)
        ok = (i == 0 || buf_append_char(body, ',')) && buf_append_json_string(body, str_from(names->items[i]));
    return ok && buf_append_char(body, ']');
}

static void out_of_memory(struct request *request)
{
    struct err err = ERR_INIT;
    (void) err_set(&err, ERR_NO_MEMORY, "out of memory");
    reply_error(request, &err);
}

/* `last` of the query, NULL when absent. Query values end with a NUL. */
static const char *after_read(struct request *request)
{
    return field_query_get(&request->query, "last").ptr;
}

/* Send a page of names as {head[...]}; a Link when more follow. n=0 asks for an empty page without one (TL-4). */
static void reply_names(struct request *request, const char *head, const char *path, size_t limit,
                        const struct store_names *names)
{
    auto_buf body = BUF_INIT(LIST_BODY_BYTES_MAX);
    if (!buf_append_text(&body, head) || !names_append(&body, names) || !buf_append_text(&body, "}\n")) {
        out_of_memory(request);
        return;
    }
    api_json(request, "application/json", &body);
    if (names->more && limit > 0 && names->count > 0)
        link_next(request, path, str_from(names->items[names->count - 1]), field_query_get(&request->query, "n"), "");
}

static void tags_run(struct request *request)
{
    struct store_names names cleanup(store_names_free) = {0};
    struct err err = ERR_INIT;
    size_t limit;
    char head[REPO_NAME_CHARS_MAX + 64], path[REPO_NAME_CHARS_MAX + 64];
    if (api_page_limit(request, REGISTRY_PAGE_ENTRIES_DEFAULT, &limit, &err) != ERR_OK ||
        tags_list(request->registry, &request->repo, after_read(request), limit, &names, &err) != ERR_OK) {
        reply_error(request, &err);
        return;
    }
    (void) snprintf(head, sizeof(head), "{\"name\":\"%s\",\"tags\":", request->repo.text);
    (void) snprintf(path, sizeof(path), "/v2/%s/tags/list", request->repo.text);
    reply_names(request, head, path, limit, &names);
}

static void catalog_run(struct request *request)
{
    struct store_names names cleanup(store_names_free) = {0};
    struct err err = ERR_INIT;
    size_t limit;
    if (api_page_limit(request, REGISTRY_PAGE_ENTRIES_DEFAULT, &limit, &err) != ERR_OK ||
        catalog_list(request->registry, after_read(request), limit, &names, &err) != ERR_OK) {
        reply_error(request, &err);
        return;
    }
    reply_names(request, "{\"repositories\":", "/v2/_catalog", limit, &names);
}

/* ---- referrers ---- */

/* The wanted artifact types, any of which may match, and the same as a query for the next page's link. */
static size_t artifact_types_read(struct request *request, struct str *out, struct buf *query)
{
    size_t count = 0;
    for (; count < ARTIFACT_TYPES_MAX; count++) {
        out[count] = field_query_get_nth(&request->query, "artifactType", count);
        if (!out[count].ptr)
            break;
        (void) buf_append_text(query, "&artifactType=");
        (void) field_encode_query(query, out[count]);
    }
    return count;
}

static void referrers_run(struct request *request)
{
    struct referrers_query query = {.repo = &request->repo, .after = after_read(request)};
    struct referrers_page page;
    struct str types[ARTIFACT_TYPES_MAX];
    struct err err = ERR_INIT;
    auto_buf types_query = BUF_INIT(LINK_BYTES_MAX);
    char path[REPO_NAME_CHARS_MAX + DIGEST_TEXT_BYTES_MAX + 64], subject[DIGEST_TEXT_BYTES_MAX];
    query.artifact_types = types;
    query.artifact_type_count = artifact_types_read(request, types, &types_query);
    if (api_digest(request, &query.subject, &err) != ERR_OK ||
        api_page_limit(request, 0, &query.limit, &err) != ERR_OK ||
        referrers_list(request->registry, &query, &page, &err) != ERR_OK) {
        reply_error(request, &err);
        return;
    }
    api_json(request, "application/vnd.oci.image.index.v1+json", &page.json);
    if (query.artifact_type_count > 0)
        reply_header(request, "OCI-Filters-Applied", "artifactType");
    if (!page.next[0])
        return;
    digest_format(&query.subject, subject);
    (void) snprintf(path, sizeof(path), "/v2/%s/referrers/%s", request->repo.text, subject);
    link_next(request, path, str_from(page.next), field_query_get(&request->query, "n"),
              types_query.len ? types_query.ptr : "");
}

const struct endpoint endpoint_tags = {.name = "tags", .method = METHOD_GET, .access = ACCESS_PULL, .run = tags_run};
const struct endpoint endpoint_catalog = {.name = "catalog",
                                          .method = METHOD_GET,
                                          .access = ACCESS_CATALOG,
                                          .run = catalog_run};
const struct endpoint endpoint_referrers = {.name = "referrers",
                                            .method = METHOD_GET,
                                            .access = ACCESS_PULL,
                                            .run = referrers_run};

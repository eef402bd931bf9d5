/* Tags and catalog, a page at a time. */
#include "registry/listing.h"

#include "registry/registry_priv.h"

enum err_code tags_list(struct registry *registry, const struct repo_name *repo, const char *after, size_t limit,
                        struct store_names *out, struct err *err)
{
    char key[KEY_BYTES];
    uint64_t size_bytes;
    key_tags_prefix(repo, key);
    if (store_list(registry->store, key, after, limit, out, err) != ERR_OK || out->count > 0)
        return out->count > 0 ? ERR_OK : err->code;
    /* No tags after that one: is there such a repository? */
    key_catalog(repo, key);
    enum err_code code = store_stat(registry->store, key, &size_bytes, err);
    if (code == ERR_NOT_FOUND)
        return err_set(err, ERR_NAME_UNKNOWN, "there is no repository '%s'", repo->text);
    return code;
}

enum err_code catalog_list(struct registry *registry, const char *after, size_t limit, struct store_names *out,
                           struct err *err)
{
    char escaped[2 * REPO_NAME_CHARS_MAX + 1] = "";
    struct repo_name name;
    if (after) {
        /* Anything may stand in `last`: escape what begins like a name and let byte order do the rest. */
        (void) snprintf(name.text, sizeof(name.text), "%s", after);
        repo_name_escape(&name, escaped);
    }
    if (store_list(registry->store, KEY_CATALOG_PREFIX, escaped, limit, out, err) != ERR_OK)
        return err->code;
    size_t kept = 0;
    for (size_t i = 0; i < out->count; i++) {
        char *item = out->items[i];
        char *plain = repo_name_unescape(item, &name) ? strdup(name.text) : NULL;
        free(item);
        if (plain)
            out->items[kept++] = plain;
    }
    out->count = kept;
    return ERR_OK;
}

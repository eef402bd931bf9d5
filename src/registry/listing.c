/* Tags and catalog, a page at a time. */
#include "registry/listing.h"

#include "registry/registry_priv.h"

enum err_code tags_list(struct registry *registry, const struct repo_name *repo, const char *after, size_t limit,
                        struct store_names *out, struct err *err)
{
    char key[KEY_BYTES], from[TAG_CHARS_MAX + 2]; /* anything may stand in after, but no tag is longer */
    uint64_t size_bytes;
    (void) snprintf(from, sizeof(from), "%s", after ? after : "");
    key_tags_prefix(repo, key);
    enum err_code code = store_list(registry->store, key, from, limit, out, err);
    if (code != ERR_OK || out->count > 0)
        return code;
    /* No tags after that one: is there such a repository? */
    key_catalog(repo, key);
    code = store_stat(registry->store, key, &size_bytes, err);
    if (code == ERR_NOT_FOUND)
        return err_set(err, ERR_NAME_UNKNOWN, "there is no repository '%s'", repo->text);
    return code;
}

/*
 * Where text, which may be anything, stands among escaped names: as repo_name_escape, but in a name a letter or a digit
 * follows a slash. Where less does ("a/", "a/-"), what begins with "a." stands before it, and all of "a/" after it. No
 * name is longer than what is looked at.
 */
static void escape_anything(const char *text, char *out)
{
    for (size_t i = 0; i < REPO_NAME_CHARS_MAX && text[i]; i++) {
        unsigned char next = (unsigned char) text[i + 1];
        *out++ = text[i] == '/' ? '.' : text[i];
        if (text[i] == '.')
            *out++ = '.';
        if (text[i] == '/' && next < '0') {
            *out++ = '/';
            break;
        }
    }
    *out = '\0';
}

enum err_code catalog_list(struct registry *registry, const char *after, size_t limit, struct store_names *out,
                           struct err *err)
{
    char escaped[2 * REPO_NAME_CHARS_MAX + 1];
    struct repo_name name;
    escape_anything(after ? after : "", escaped);
    if (store_list(registry->store, KEY_CATALOG_PREFIX, escaped, limit, out, err) != ERR_OK)
        return err->code;
    size_t kept = 0;
    for (size_t i = 0; i < out->count; i++) {
        char *item = out->items[i];
        if (repo_name_unescape(item, &name)) {
            memcpy(item, name.text, strlen(name.text) + 1); /* never longer than it was */
            out->items[kept++] = item;
        } else {
            free(item);
        }
    }
    out->count = kept;
    return ERR_OK;
}

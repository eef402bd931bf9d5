/*
 * Tags: one small object each, with a reverse index by digest so that deleting a manifest costs its own tags only.
 *
 * The reverse entry is written before the tag and removed after it, so every tag has one; entries may be left over
 * from a crash and are then checked against the tag.
 */
#include "base/json.h"
#include "base/parallel.h"
#include "registry/registry_priv.h"

#define TAGGED_BATCH 1000

enum err_code tag_decode(struct str bytes, struct digest *out, struct err *err)
{
    auto_json root = NULL;
    struct str text;
    if (json_parse(bytes, &root, err) != ERR_OK || !json_text(json_member(root, "digest"), &text) ||
        !digest_parse(text, out))
        return err_set(err, ERR_CORRUPT, "a tag's object is damaged");
    return ERR_OK;
}

bool tag_find_cached(struct registry *registry, const struct repo_name *repo, const struct tag_name *tag,
                     struct digest *out)
{
    if (!registry_is_exclusive(registry))
        return false;
    struct cache_key key = cache_key_tag(repo, tag);
    return cache_get_bytes(registry->cache, cache_key_str(&key), out, sizeof(*out));
}

static void tag_remember(struct registry *registry, const struct repo_name *repo, const struct tag_name *tag,
                         const struct digest *digest)
{
    struct cache_key key = cache_key_tag(repo, tag);
    cache_put_bytes(registry->cache, cache_key_str(&key), digest, sizeof(*digest));
}

static void tag_forget(struct registry *registry, const struct repo_name *repo, const struct tag_name *tag)
{
    struct cache_key key = cache_key_tag(repo, tag);
    cache_remove(registry->cache, cache_key_str(&key));
}

/* The tag's lock is held. ERR_NOT_FOUND. */
static enum err_code tag_find_locked(struct registry *registry, const struct repo_name *repo,
                                     const struct tag_name *tag, struct digest *out, struct err *err)
{
    char key[KEY_BYTES];
    auto_buf bytes = BUF_INIT(SMALL_OBJECT_BYTES_MAX);
    if (tag_find_cached(registry, repo, tag, out))
        return ERR_OK;
    key_tag(repo, tag, key);
    enum err_code code = store_get(registry->store, key, &bytes, err);
    if (code == ERR_OK)
        code = tag_decode(buf_str(&bytes), out, err);
    if (code == ERR_LIMIT)
        code = err_become(err, ERR_CORRUPT, "a tag's object is damaged: too long");
    if (code != ERR_OK)
        return code == ERR_NOT_FOUND ? code : err_wrap(err, "%s", key);
    tag_remember(registry, repo, tag, out);
    return ERR_OK;
}

static enum err_code tag_unknown(struct err *err, const struct tag_name *tag)
{
    return err_set(err, ERR_MANIFEST_UNKNOWN, "this repository has no tag '%s'", tag->text);
}

enum err_code tag_find(struct registry *registry, const struct repo_name *repo, const struct tag_name *tag,
                       struct digest *out, struct err *err)
{
    if (tag_find_cached(registry, repo, tag, out))
        return ERR_OK;
    auto_unlock lock = lock_if_exclusive(registry, registry_tag_lock(registry, repo, tag));
    enum err_code code = tag_find_locked(registry, repo, tag, out, err);
    return code == ERR_NOT_FOUND ? tag_unknown(err, tag) : code;
}

/* current is NULL when the tag does not exist. */
static enum err_code condition_check(const struct tag_condition *condition, const struct digest *current,
                                     struct err *err)
{
    bool holds = true;
    switch (condition->kind) {
    case TAG_ANY:
        break;
    case TAG_IS:
        holds = current && digest_equal(current, &condition->digest);
        break;
    case TAG_EXISTS:
        holds = current != NULL;
        break;
    case TAG_ABSENT:
        holds = current == NULL;
        break;
    case TAG_IS_NOT:
        holds = !current || !digest_equal(current, &condition->digest);
        break;
    }
    if (holds)
        return ERR_OK;
    return err_set(err, ERR_TAG_MISMATCH, "the tag no longer is what the request expects: read it again");
}

static bool tag_object_format(const struct manifest *manifest, struct buf *out)
{
    char digest[DIGEST_TEXT_BYTES_MAX], pushed[TIME_TEXT_BYTES];
    digest_format(&manifest->digest, digest);
    clock_format_rfc3339(clock_wall_ms(), pushed);
    return buf_appendf(out, "{\"digest\":\"%s\",\"mediaType\":\"%s\",\"size\":%zu,\"pushed\":\"%s\"}\n", digest,
                       manifest->media_type, manifest->len, pushed);
}

/* ---- a push ---- */

/* What the tag points at matters to a condition, and to the reverse index where that is ours alone. */
static enum err_code tag_look(void *arg, size_t index, struct err *err)
{
    struct tag_moves *moves = arg;
    struct tag_move *move = &moves->items[index];
    const struct tag_condition any = {.kind = TAG_ANY}, *condition = index == 0 ? &moves->put->condition : &any;
    if (condition->kind == TAG_ANY && !registry_is_exclusive(moves->registry))
        return ERR_OK;
    enum err_code code =
        tag_find_locked(moves->registry, moves->put->repo, &moves->put->tags[index], &move->before, err);
    if (code != ERR_OK && code != ERR_NOT_FOUND && code != ERR_CORRUPT) /* a damaged tag is mended by a push */
        return code;
    move->existed = code == ERR_OK;
    move->is_needless =
        move->existed && digest_equal(&move->before, moves->digest) && registry_is_exclusive(moves->registry);
    return condition_check(condition, move->existed ? &move->before : NULL, err);
}

enum err_code tags_lock(struct tag_moves *moves, struct registry *registry, const struct manifest_put *put,
                        const struct digest *digest, struct err *err)
{
    *moves = (struct tag_moves){.registry = registry, .put = put, .digest = digest};
    if (put->tag_count == 0)
        return ERR_OK;
    moves->items = calloc(put->tag_count, sizeof(*moves->items));
    if (!moves->items)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < put->tag_count; i++)
        moves->is_locked[registry_tag_lock(registry, put->repo, &put->tags[i]) - registry->tag_locks] = true;
    for (size_t i = 0; i < STRIPE_COUNT; i++) {
        if (moves->is_locked[i])
            pthread_mutex_lock(&registry->tag_locks[i]);
    }
    return parallel_try(put->tag_count, store_caps(registry->store)->parallel, tag_look, moves, err);
}

void tags_unlock(struct tag_moves *moves)
{
    for (size_t i = 0; i < STRIPE_COUNT; i++) {
        if (moves->is_locked[i])
            pthread_mutex_unlock(&moves->registry->tag_locks[i]);
    }
    free(moves->items);
}

enum err_code tag_index(struct tag_moves *moves, size_t index, struct err *err)
{
    char key[KEY_BYTES];
    if (moves->items[index].is_needless)
        return ERR_OK;
    key_tagged(moves->put->repo, moves->digest, &moves->put->tags[index], key);
    return store_put(moves->registry->store, key, STR(""), STORE_PUT_ANY, err);
}

enum err_code tag_move(struct tag_moves *moves, size_t index, const struct manifest *manifest, struct err *err)
{
    char key[KEY_BYTES];
    struct registry *registry = moves->registry;
    const struct repo_name *repo = moves->put->repo;
    const struct tag_name *tag = &moves->put->tags[index];
    const struct tag_move *move = &moves->items[index];
    auto_buf bytes = BUF_INIT(SMALL_OBJECT_BYTES_MAX);
    if (move->is_needless)
        return ERR_OK;
    if (!tag_object_format(manifest, &bytes))
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    key_tag(repo, tag, key);
    tag_forget(registry, repo, tag); /* should the put fail half-way, the store is asked */
    /* That it is new, the store itself makes sure of: another node may have made it since we looked. */
    bool must_be_new = index == 0 && moves->put->condition.kind == TAG_ABSENT;
    enum err_code code =
        store_put(registry->store, key, buf_str(&bytes), must_be_new ? STORE_PUT_NEW : STORE_PUT_ANY, err);
    if (code == ERR_EXISTS)
        return condition_check(&moves->put->condition, &manifest->digest, err);
    if (code != ERR_OK)
        return code;
    tag_remember(registry, repo, tag, &manifest->digest);
    if (!move->existed || digest_equal(&move->before, moves->digest) || !registry_is_exclusive(registry))
        return ERR_OK;
    key_tagged(repo, &move->before, tag, key);
    return store_delete(registry->store, (const char *const[]){key}, 1, err);
}

/* ---- delete ---- */

/* The tag's lock is held. */
static enum err_code tag_remove_locked(struct registry *registry, const struct repo_name *repo,
                                       const struct tag_name *tag, const struct digest *current, struct err *err)
{
    char key[KEY_BYTES], tagged_key[KEY_BYTES];
    key_tag(repo, tag, key);
    key_tagged(repo, current, tag, tagged_key);
    tag_forget(registry, repo, tag);
    if (store_delete(registry->store, (const char *const[]){key}, 1, err) != ERR_OK)
        return err->code;
    return registry_is_exclusive(registry) ? store_delete(registry->store, (const char *const[]){tagged_key}, 1, err)
                                           : ERR_OK;
}

enum err_code tag_delete(struct registry *registry, const struct repo_name *repo, const struct tag_name *tag,
                         const struct tag_condition *condition, struct err *err)
{
    struct digest current;
    if (registry_allow_delete(registry, err) != ERR_OK)
        return err->code;
    auto_unlock lock = lock_mutex(registry_tag_lock(registry, repo, tag));
    enum err_code code = tag_find_locked(registry, repo, tag, &current, err);
    if (code == ERR_CORRUPT && condition->kind == TAG_ANY) { /* a damaged one may go */
        char key[KEY_BYTES];
        key_tag(repo, tag, key);
        return store_delete(registry->store, (const char *const[]){key}, 1, err);
    }
    if (code != ERR_OK)
        return code == ERR_NOT_FOUND ? tag_unknown(err, tag) : code;
    if (condition_check(condition, &current, err) != ERR_OK)
        return err->code;
    return tag_remove_locked(registry, repo, tag, &current, err);
}

/* One tag that may point at digest: remove it if it does, and its reverse entry in any case. */
static enum err_code tag_delete_if(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                                   const char *name, struct err *err)
{
    struct tag_name tag;
    struct digest current;
    char tagged_key[KEY_BYTES];
    if (tag_name_parse(str_from(name), &tag, err) != ERR_OK)
        return ERR_OK; /* none of ours */
    auto_unlock lock = lock_mutex(registry_tag_lock(registry, repo, &tag));
    enum err_code code = tag_find_locked(registry, repo, &tag, &current, err);
    if (code != ERR_OK && code != ERR_NOT_FOUND && code != ERR_CORRUPT) /* a damaged tag points nowhere */
        return code;
    if (code == ERR_OK && digest_equal(&current, digest))
        return tag_remove_locked(registry, repo, &tag, digest, err);
    key_tagged(repo, digest, &tag, tagged_key);
    return store_delete(registry->store, (const char *const[]){tagged_key}, 1, err);
}

enum err_code tag_delete_all_of(struct registry *registry, const struct repo_name *repo, const struct digest *digest,
                                struct err *err)
{
    char prefix[KEY_BYTES], after[TAG_CHARS_MAX + 1] = "";
    bool more = true;
    key_tagged_prefix(repo, digest, prefix);
    while (more) {
        struct store_names names cleanup(store_names_free) = {0};
        if (store_list(registry->store, prefix, after, TAGGED_BATCH, &names, err) != ERR_OK)
            return err->code;
        for (size_t i = 0; i < names.count; i++) {
            if (tag_delete_if(registry, repo, digest, names.items[i], err) != ERR_OK)
                return err->code;
            (void) snprintf(after, sizeof(after), "%s", names.items[i]);
        }
        more = names.more;
    }
    return ERR_OK;
}

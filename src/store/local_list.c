/* Listing and walking directories. Pages of big ones come from memory where the store is ours alone (local_index.h). */
#include "store/local_priv.h"

#include "base/metrics.h"
#include "store/local_names.h"

#include <fcntl.h>
#include <sys/stat.h>

#define KEPT_NAMES_MIN 1000 /* names gathered beyond a page before the greatest are dropped: at least so many */

/* An open listing of the directory at path; NULL with ERR_OK when there is none. */
static enum err_code open_list(struct local *local, const char *path, DIR **out, struct err *err)
{
    *out = NULL;
    auto_fd fd = openat(local->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return local_check_root(local, err);
    if (fd < 0 || !(*out = fdopendir(fd)))
        return err_set_errno(err, errno, "list %s", path);
    fd = -1;
    return ERR_OK;
}

/* The root's own files, which are no objects. */
static bool is_private(const char *path, const char *name)
{
    return strcmp(path, ".") == 0 && (strcmp(name, "lock") == 0 || strcmp(name, LOCAL_TMP) == 0);
}

struct page {
    const char *path;
    enum local_kind kind;
    const char *after;
    size_t limit;
    /* of the last reading: the names of this kind that went by, and their bytes */
    size_t read_names;
    size_t read_bytes;
};

/*
 * Read the directory for the page. Reading ends when names_max have gone by, and then there is none. Memory is that of
 * a page, however many names there are.
 */
static enum err_code read_page(struct local *local, struct page *page, size_t names_max, struct store_names *out,
                               struct err *err)
{
    struct local_names names cleanup(local_names_clear) = {0};
    size_t keep = page->limit + 1;
    bool is_known = false; /* limit 0 asks whether there is anything */
    auto_dir list = NULL;
    page->read_names = page->read_bytes = 0;
    metric_add(METRIC_LISTS_FROM_DIRECTORY, 1);
    if (open_list(local, page->path, &list, err) != ERR_OK)
        return err->code;
    errno = 0;
    for (struct dirent *entry; list && !is_known && page->read_names < names_max && (entry = readdir(list));
         errno = 0) {
        const char *name = entry->d_name;
        if (!local_kind_holds(page->kind, dirfd(list), name, entry->d_type) || is_private(page->path, name))
            continue;
        page->read_names++;
        page->read_bytes += strlen(name);
        if (strcmp(name, page->after) <= 0)
            continue;
        if (!local_names_add(&names, name))
            return err_set(err, ERR_NO_MEMORY, "out of memory");
        if (names.count >= 2 * keep + KEPT_NAMES_MIN)
            local_names_trim(&names, keep);
        is_known = page->limit == 0;
    }
    if (errno != 0)
        return err_set_errno(err, errno, "list %s", page->path);
    if (page->read_names < names_max && !local_names_page(&names, "", page->limit, out))
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    return ERR_OK;
}

/* From memory if it can be. The root is not noted there; and that the whole store vanished shows only here. */
static enum err_code ask_index(struct local *local, const struct page *page, bool build,
                               enum local_index_answer *answer, struct store_names *out, struct err *err)
{
    *answer = LOCAL_INDEX_NONE;
    if (!local->index || strcmp(page->path, ".") == 0)
        return ERR_OK;
    if (local_check_root(local, err) != ERR_OK)
        return err->code;
    return local_index_page(local->index, page->path, page->kind, build, page->after, page->limit, answer, out, err);
}

enum err_code local_list_dir(struct local *local, const char *path, enum local_kind kind, const char *after,
                             size_t limit, struct store_names *out, struct err *err)
{
    struct page page = {.path = path, .kind = kind, .after = after, .limit = limit};
    enum local_index_answer answer;
    if (ask_index(local, &page, false, &answer, out, err) != ERR_OK)
        return err->code;
    if (answer == LOCAL_INDEX_ABSENT) {
        if (read_page(local, &page, LOCAL_INDEX_NAMES_MIN + 1, out, err) != ERR_OK)
            return err->code;
        if (page.read_names <= LOCAL_INDEX_NAMES_MIN)
            return ERR_OK;
        if (ask_index(local, &page, true, &answer, out, err) != ERR_OK)
            return err->code;
    }
    if (answer == LOCAL_INDEX_PAGE) {
        metric_add(METRIC_LISTS_FROM_MEMORY, 1);
        return ERR_OK;
    }
    if (read_page(local, &page, SIZE_MAX, out, err) != ERR_OK)
        return err->code;
    if (local->index && limit > 0)
        local_index_measured(local->index, path, kind, page.read_bytes);
    return ERR_OK;
}

enum err_code local_list(struct store *store, const char *prefix, const char *after, size_t limit,
                         struct store_names *out, struct err *err)
{
    char path[STORE_KEY_BYTES_MAX + 1];
    size_t len = strlen(prefix); /* ends in '/' or is empty */
    (void) snprintf(path, sizeof(path), "%.*s", (int) (len ? len - 1 : 1), len ? prefix : ".");
    return local_list_dir(local_of(store), path, LOCAL_FILES, after, limit, out, err);
}

/* ---- walking ---- */

struct walk {
    struct local *local;
    store_walk_fn *fn;
    void *arg;
    char key[STORE_KEY_BYTES_MAX + 1]; /* grows and shrinks as the walk goes down and up */
    bool stopped;
};

static enum err_code walk_dir(struct walk *walk, size_t key_len, struct err *err)
{
    auto_dir list = NULL;
    const char *path = key_len ? walk->key : ".";
    if (open_list(walk->local, path, &list, err) != ERR_OK)
        return err->code;
    errno = 0;
    for (struct dirent *entry; list && !walk->stopped && (entry = readdir(list)); errno = 0) {
        size_t name_len = strlen(entry->d_name);
        struct stat st;
        if (entry->d_name[0] == '.' || key_len + name_len + 2 > sizeof(walk->key) || is_private(path, entry->d_name))
            continue;
        if (fstatat(dirfd(list), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue; /* gone meanwhile */
        memcpy(walk->key + key_len, entry->d_name, name_len + 1);
        if (S_ISREG(st.st_mode)) {
            walk->stopped = !walk->fn(walk->arg, walk->key, (uint64_t) st.st_size);
        } else if (S_ISDIR(st.st_mode)) {
            memcpy(walk->key + key_len + name_len, "/", 2);
            if (walk_dir(walk, key_len + name_len + 1, err) != ERR_OK)
                return err->code;
        }
        walk->key[key_len] = '\0';
    }
    return errno ? err_set_errno(err, errno, "list %s", walk->key) : ERR_OK;
}

enum err_code local_walk(struct store *store, const char *prefix, store_walk_fn *fn, void *arg, struct err *err)
{
    struct walk walk = {.local = local_of(store), .fn = fn, .arg = arg};
    (void) snprintf(walk.key, sizeof(walk.key), "%s", prefix);
    return walk_dir(&walk, strlen(prefix), err);
}

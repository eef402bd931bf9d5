/*
 * Small objects as files. Empty directories are removed as their last object goes; a put that races with that makes
 * them again.
 */
#include "store/local_priv.h"

#include <fcntl.h>
#include <sys/stat.h>

enum err_code local_get(struct store *store, const char *key, struct buf *out, struct err *err)
{
    struct local *local = local_of(store);
    if (fs_read_file(local->root_fd, key, out, err) != ERR_OK)
        return local_explain(local, err);
    return ERR_OK;
}

enum err_code local_put(struct store *store, const char *key, struct str bytes, enum store_put_mode mode,
                        struct err *err)
{
    struct local *local = local_of(store);
    if (local_check_root(local, err) != ERR_OK)
        return err->code;
    enum fs_existing existing = mode == STORE_PUT_NEW ? FS_KEEP : FS_REPLACE;
    enum err_code code = ERR_NOT_FOUND;
    for (int tries = 0; code == ERR_NOT_FOUND && tries < LOCAL_TRIES_MAX; tries++) {
        local_race_begin(local, tries);
        code = fs_write_atomic(local->root_fd, LOCAL_TMP, key, bytes, existing, FS_DURABLE, err);
        local_race_end(local, tries);
    }
    return code == ERR_NOT_FOUND ? local_explain(local, err) : code;
}

void local_race_begin(struct local *local, int tries)
{
    if (tries == LOCAL_TRIES_MAX - 1)
        pthread_rwlock_wrlock(&local->folders_lock);
}

void local_race_end(struct local *local, int tries)
{
    if (tries == LOCAL_TRIES_MAX - 1)
        pthread_rwlock_unlock(&local->folders_lock);
}

enum err_code local_stat(struct store *store, const char *key, uint64_t *out_bytes, struct err *err)
{
    struct local *local = local_of(store);
    struct stat st;
    if (fstatat(local->root_fd, key, &st, 0) != 0) {
        (void) err_set_errno(err, errno, "stat %s", key);
        return local_explain(local, err);
    }
    *out_bytes = (uint64_t) st.st_size;
    return ERR_OK;
}

static bool remove_empty_folder(struct local *local, const char *path)
{
    pthread_rwlock_rdlock(&local->folders_lock);
    crash_point("remove directory");
    bool is_gone = unlinkat(local->root_fd, path, AT_REMOVEDIR) == 0 || errno == ENOENT;
    pthread_rwlock_unlock(&local->folders_lock);
    return is_gone;
}

/*
 * Remove the directories that deleting key may have left empty; two levels is what the layout needs. The nearest one
 * that stays is synced, for it holds what tells that the key is gone, whoever removed the directories in between.
 */
static enum err_code settle_parents(struct local *local, const char *key, struct err *err)
{
    char path[STORE_KEY_BYTES_MAX + 1];
    (void) snprintf(path, sizeof(path), "%s", key);
    enum err_code code = ERR_NOT_FOUND;
    bool may_remove = true;
    for (int level = 0; code == ERR_NOT_FOUND; level++) {
        char *slash = strrchr(path, '/');
        if (!slash)
            return fs_sync_dir(local->root_fd, ".", err);
        *slash = '\0';
        bool is_top = !strchr(path, '/'); /* the top folders stay */
        may_remove = may_remove && level < 2 && !is_top && remove_empty_folder(local, path);
        code = may_remove ? ERR_NOT_FOUND : fs_sync_dir(local->root_fd, path, err);
    }
    return code;
}

enum err_code local_delete(struct store *store, const char *const *keys, size_t count, struct err *err)
{
    struct local *local = local_of(store);
    if (local_check_root(local, err) != ERR_OK)
        return err->code;
    for (size_t i = 0; i < count; i++) {
        enum err_code code = fs_unlink(local->root_fd, keys[i], FS_VOLATILE, err);
        if (code != ERR_OK && code != ERR_NOT_FOUND)
            return code;
        if (settle_parents(local, keys[i], err) != ERR_OK)
            return err->code;
    }
    return ERR_OK;
}

/* ---- listing ---- */

/* The smallest names seen so far, at most limit + 1 after each squeeze; twice that while reading. */
struct selection {
    char **items;
    size_t count;
    size_t cap;
    size_t keep;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

static void selection_squeeze(struct selection *selection)
{
    if (selection->count > 1)
        qsort(selection->items, selection->count, sizeof(char *), compare_names);
    while (selection->count > selection->keep)
        free(selection->items[--selection->count]);
}

static void selection_free(struct selection *selection)
{
    for (size_t i = 0; i < selection->count; i++)
        free(selection->items[i]);
    free(selection->items);
}

static bool selection_add(struct selection *selection, const char *name)
{
    if (selection->count == selection->cap) {
        if (selection->count >= 2 * selection->keep) {
            selection_squeeze(selection);
        } else {
            size_t cap = selection->cap ? 2 * selection->cap : 64;
            cap = cap > 2 * selection->keep ? 2 * selection->keep : cap;
            char **items = realloc(selection->items, cap * sizeof(char *));
            if (!items)
                return false;
            selection->items = items;
            selection->cap = cap;
        }
    }
    char *copy = strdup(name);
    if (!copy)
        return false;
    selection->items[selection->count++] = copy;
    return true;
}

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

enum err_code local_list_dir(struct local *local, const char *path, const char *after, size_t limit,
                             local_keep_fn *keep, struct store_names *out, struct err *err)
{
    auto_dir list = NULL;
    if (open_list(local, path, &list, err) != ERR_OK)
        return err->code;
    struct selection selection cleanup(selection_free) = {.keep = limit + 1};
    errno = 0;
    for (struct dirent *entry; list && (entry = readdir(list)); errno = 0) {
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, after) <= 0 || is_private(path, entry->d_name))
            continue;
        if (!keep(dirfd(list), entry->d_name, entry->d_type))
            continue;
        if (!selection_add(&selection, entry->d_name))
            return err_set(err, ERR_NO_MEMORY, "out of memory");
    }
    if (errno != 0)
        return err_set_errno(err, errno, "list %s", path);
    selection_squeeze(&selection);
    out->more = selection.count > limit;
    if (out->more)
        free(selection.items[--selection.count]);
    out->items = TAKE_PTR(selection.items);
    out->count = selection.count;
    selection.count = 0;
    return ERR_OK;
}

static bool is_object(int dir_fd, const char *name, unsigned char type)
{
    struct stat st;
    if (type == DT_UNKNOWN)
        return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
    return type == DT_REG;
}

enum err_code local_list(struct store *store, const char *prefix, const char *after, size_t limit,
                         struct store_names *out, struct err *err)
{
    return local_list_dir(local_of(store), prefix[0] ? prefix : ".", after, limit, is_object, out, err);
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

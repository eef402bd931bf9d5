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
    local_index_note(local->index, key);
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
        local_index_note(local->index, keys[i]);
        if (code != ERR_OK && code != ERR_NOT_FOUND)
            return code;
        if (settle_parents(local, keys[i], err) != ERR_OK)
            return err->code;
    }
    return ERR_OK;
}

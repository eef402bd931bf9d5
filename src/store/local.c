/*
 * Opening the local store: the directory, its lock, its format marker; and noticing when it vanishes.
 */
#include "store/local_priv.h"

#include "store/marker.h"

#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>

#define HOLDER_BYTES_MAX 512

static const struct store_ops local_ops;

/* Read the marker below root_fd into secret (65 bytes). ERR_NOT_FOUND when there is none. */
static enum err_code marker_read(int root_fd, const char *dir, char *secret, struct err *err)
{
    auto_buf text = BUF_INIT(MARKER_BYTES_MAX);
    if (fs_read_file(root_fd, MARKER_KEY, &text, err) != ERR_OK)
        return err->code;
    return marker_parse(buf_str(&text), dir, secret, err);
}

static bool is_root_leftover(const char *name)
{
    return strcmp(name, "lock") == 0 || strcmp(name, LOCAL_TMP) == 0 || strcmp(name, "lost+found") == 0;
}

static bool is_tmp_leftover(const char *name)
{
    return strlen(name) == UUID_TEXT_BYTES - 1;
}

/* May path, of a directory without a marker, be taken over? Only what a crash before the marker leaves may be in it. */
static enum err_code expect_leftovers(int root_fd, const char *path, bool (*is_leftover)(const char *name),
                                      const char *dir, struct err *err)
{
    auto_fd list_fd = openat(root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (list_fd < 0 && errno == ENOENT)
        return ERR_OK;
    auto_dir list = list_fd >= 0 ? fdopendir(list_fd) : NULL;
    if (!list)
        return err_set_errno(err, errno, "list %s/%s", dir, path);
    list_fd = -1;
    for (struct dirent *entry; (entry = readdir(list));) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !is_leftover(name))
            return err_set(err, ERR_INVALID,
                           "%s is not empty and is no orlop store (no %s, but '%s'): choose an empty directory", dir,
                           MARKER_KEY, name);
    }
    return ERR_OK;
}

/* Write a fresh marker. */
static enum err_code marker_create(int root_fd, const char *dir, char *secret, struct err *err)
{
    auto_buf text = BUF_INIT(MARKER_BYTES_MAX);
    marker_make(&text);
    if (fs_write_atomic(root_fd, LOCAL_TMP, MARKER_KEY, buf_str(&text), FS_KEEP, FS_DURABLE, err) != ERR_OK)
        return err->code;
    return marker_parse(buf_str(&text), dir, secret, err);
}

/* Say who we are in the lock file; what cannot be written is no reason to fail. */
static void lock_describe(int lock_fd, const char *listen)
{
    char host[HOST_NAME_MAX + 1] = "?", since[TIME_TEXT_BYTES], text[HOLDER_BYTES_MAX];
    (void) gethostname(host, sizeof(host) - 1);
    clock_format_rfc3339(clock_wall_ms(), since);
    int len = snprintf(text, sizeof(text), "process %ld on %s%s%s, since %s\n", (long) getpid(), host,
                       listen[0] ? ", serving on " : "", listen, since);
    if (len > 0 && ftruncate(lock_fd, 0) == 0)
        (void) !pwrite(lock_fd, text, (size_t) len, 0);
}

/* Take the lock below root_fd. ERR_BUSY names the holder. */
static enum err_code lock_take(int root_fd, const char *dir, int *out_fd, struct err *err)
{
    auto_fd fd = openat(root_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0)
        return err_set_errno(err, errno, "open %s/lock", dir);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            return err_set_errno(err, errno, "lock %s/lock", dir);
        char holder[HOLDER_BYTES_MAX] = "another process";
        ssize_t len = pread(fd, holder, sizeof(holder) - 1, 0);
        if (len > 0) {
            holder[len] = '\0';
            holder[strcspn(holder, "\n")] = '\0';
        }
        return err_set(err, ERR_BUSY, "%s is in use by %s: stop it first, or use another directory", dir, holder);
    }
    lock_describe(fd, "");
    *out_fd = TAKE_FD(fd);
    return ERR_OK;
}

/* A writer waits only for those that are in, or steady deletes would keep it out. */
static void folders_lock_init(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(lock, &attr);
    pthread_rwlockattr_destroy(&attr);
}

static enum err_code remember_root(struct local *local, struct err *err)
{
    struct stat st;
    if (fstat(local->root_fd, &st) != 0)
        return err_set_errno(err, errno, "stat %s", local->dir);
    local->root_dev = st.st_dev;
    local->root_ino = st.st_ino;
    return ERR_OK;
}

/* Does the path still name the directory that we hold? */
static bool root_is_here(struct local *local)
{
    struct stat st;
    return stat(local->dir, &st) == 0 && st.st_dev == local->root_dev && st.st_ino == local->root_ino;
}

/* The directory at the path is another one than we hold: take it if it is our store (it carries our secret). */
static enum err_code local_reopen(struct local *local, struct err *err)
{
    auto_fd fd = open(local->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char secret[65];
    struct err why = ERR_INIT;
    if (fd < 0 || marker_read(fd, local->dir, secret, &why) != ERR_OK || strcmp(secret, local->base.secret) != 0) {
        (void) err_set(err, ERR_STORE_GONE, "the store is not reachable: bring its directory back and orlop goes on");
        (void) snprintf(err->detail, sizeof(err->detail), "%s is no longer the store's directory", local->dir);
        return ERR_STORE_GONE;
    }
    auto_fd lock_fd = -1;
    if (local->lock_fd >= 0 &&
        (lock_take(fd, local->dir, &lock_fd, err) != ERR_OK || fs_make_dirs(fd, LOCAL_TMP, FS_DURABLE, err) != ERR_OK))
        return err->code;
    if (dup3(fd, local->root_fd, O_CLOEXEC) < 0)
        return err_set_errno(err, errno, "reopen %s", local->dir);
    local_index_clear(local->index);
    if (lock_fd >= 0) {
        fd_close(local->lock_fd);
        local->lock_fd = TAKE_FD(lock_fd);
    }
    return remember_root(local, err);
}

enum err_code local_check_root(struct local *local, struct err *err)
{
    if (root_is_here(local))
        return ERR_OK;
    pthread_mutex_lock(&local->reopen_mutex);
    enum err_code code = root_is_here(local) ? ERR_OK : local_reopen(local, err); /* another thread may have done it */
    pthread_mutex_unlock(&local->reopen_mutex);
    return code;
}

enum err_code local_explain(struct local *local, struct err *err)
{
    struct err gone = ERR_INIT;
    if (err->code == ERR_NOT_FOUND && local_check_root(local, &gone) != ERR_OK)
        *err = gone;
    return err->code;
}

static enum err_code local_probe(struct store *store, struct err *err)
{
    struct local *local = local_of(store);
    if (local_check_root(local, err) != ERR_OK)
        return err->code;
    if (local->lock_fd < 0)
        return ERR_OK;
    if (fs_write_atomic(local->root_fd, LOCAL_TMP, LOCAL_TMP "/probe", STR("probe\n"), FS_REPLACE, FS_VOLATILE, err) !=
        ERR_OK)
        return err_wrap(err, "probe of %s", local->dir);
    return ERR_OK;
}

static void local_close(struct store *store)
{
    struct local *local = local_of(store);
    fd_close(local->root_fd);
    fd_close(local->lock_fd); /* releases the lock */
    pthread_mutex_destroy(&local->reopen_mutex);
    pthread_rwlock_destroy(&local->folders_lock);
    local_index_free(local->index);
    free(local->dir);
    free(local);
}

void local_store_announce(struct store *store, const char *listen)
{
    struct local *local = local_of(store);
    if (local->lock_fd >= 0)
        lock_describe(local->lock_fd, listen);
}

/* Checkpoints live in the page cache, which a reboot empties. */
static void read_boot_id(char *out, size_t out_bytes)
{
    auto_buf text = BUF_INIT(out_bytes - 1);
    struct err err = ERR_INIT;
    out[0] = '\0';
    if (fs_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &text, &err) == ERR_OK) {
        memcpy(out, text.ptr, text.len);
        out[text.len] = '\0';
        out[strcspn(out, "\n")] = '\0';
    }
}

/*
 * What only the server that holds the lock does: clear leftovers, make the marker of a new store. A directory that is
 * somebody else's is refused before anything in it is touched, be it the lock.
 */
static enum err_code prepare_exclusive(struct local *local, struct err *err)
{
    enum err_code code = marker_read(local->root_fd, local->dir, local->base.secret, err);
    if (code == ERR_NOT_FOUND) {
        code = expect_leftovers(local->root_fd, ".", is_root_leftover, local->dir, err);
        if (code == ERR_OK)
            code = expect_leftovers(local->root_fd, LOCAL_TMP, is_tmp_leftover, local->dir, err);
    }
    if (code != ERR_OK || lock_take(local->root_fd, local->dir, &local->lock_fd, err) != ERR_OK)
        return err->code;
    code = marker_read(local->root_fd, local->dir, local->base.secret, err); /* another may just have made it */
    if (code != ERR_OK && code != ERR_NOT_FOUND)
        return code;
    if (fs_remove_tree(local->root_fd, LOCAL_TMP, err) != ERR_OK ||
        fs_make_dirs(local->root_fd, LOCAL_TMP, FS_DURABLE, err) != ERR_OK)
        return err_wrap(err, "clear %s/%s", local->dir, LOCAL_TMP);
    if (code == ERR_NOT_FOUND)
        return marker_create(local->root_fd, local->dir, local->base.secret, err);
    return ERR_OK;
}

static enum err_code prepare_beside(struct local *local, struct err *err)
{
    enum err_code code = marker_read(local->root_fd, local->dir, local->base.secret, err);
    if (code == ERR_NOT_FOUND)
        return err_become(err, ERR_NOT_FOUND, "%s is no orlop store (it has no %s)", local->dir, MARKER_KEY);
    return code;
}

enum err_code local_store_open(const char *dir, enum local_access access, struct store **out, struct err *err)
{
    bool made = access == LOCAL_EXCLUSIVE && mkdir(dir, 0700) == 0;
    if (access == LOCAL_EXCLUSIVE && !made && errno != EEXIST) {
        int sys_errno = errno;
        (void) err_set_errno(err, sys_errno, "make %s", dir);
        return err_become(err, err->code, "cannot make the store's directory %s: %s", dir, strerror(sys_errno));
    }
    struct local *local = calloc(1, sizeof(*local));
    if (!local)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    local->base.ops = &local_ops;
    local->base.caps = (struct store_caps){.exclusive = access == LOCAL_EXCLUSIVE, .parallel = 1, .has_files = true};
    local->lock_fd = -1;
    pthread_mutex_init(&local->reopen_mutex, NULL);
    folders_lock_init(&local->folders_lock);
    local->dir = realpath(dir, NULL);
    local->root_fd = local->dir ? open(local->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (local->root_fd < 0) {
        int sys_errno = errno;
        (void) err_set_errno(err, sys_errno, "open %s", dir);
        (void) err_become(err, err->code, "cannot open the store's directory %s: %s", dir, strerror(sys_errno));
        local_close(&local->base);
        return err->code;
    }
    if (access == LOCAL_EXCLUSIVE && !(local->index = local_index_new(local->root_fd, LOCAL_INDEX_BYTES_MAX))) {
        local_close(&local->base);
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    }
    (void) snprintf(local->base.name, sizeof(local->base.name), "%s", local->dir);
    read_boot_id(local->base.boot_id, sizeof(local->base.boot_id));
    if ((made && fs_sync_dir(local->root_fd, "..", err) != ERR_OK) || remember_root(local, err) != ERR_OK ||
        (access == LOCAL_EXCLUSIVE ? prepare_exclusive(local, err) : prepare_beside(local, err)) != ERR_OK) {
        local_close(&local->base);
        return err->code;
    }
    *out = &local->base;
    return ERR_OK;
}

static const struct store_ops local_ops = {
    .get = local_get,
    .put = local_put,
    .stat = local_stat,
    .delete = local_delete,
    .list = local_list,
    .walk = local_walk,
    .blob_stat = local_blob_stat,
    .blob_open = local_blob_open,
    .blob_read = local_blob_read,
    .blob_close = local_blob_close,
    .blob_delete = local_blob_delete,
    .upload_create = local_upload_create,
    .upload_open = local_upload_open,
    .upload_record = local_upload_record,
    .upload_seek = local_upload_seek,
    .upload_append = local_upload_append,
    .upload_checkpoint = local_upload_checkpoint,
    .upload_read = local_upload_read,
    .upload_flush = local_upload_flush,
    .upload_commit = local_upload_commit,
    .upload_close = local_upload_close,
    .upload_discard = local_upload_discard,
    .upload_remove = local_upload_remove,
    .upload_list = local_upload_list,
    .probe = local_probe,
    .close = local_close,
};

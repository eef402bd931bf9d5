#include "base/fs.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define FS_READ_BYTES (64 * 1024)
#define FS_TREE_DEPTH_MAX 512 /* fs_remove_tree holds one descriptor a level */
#define FS_FILE_MODE 0640     /* who may read what is only for the registry to say */
#define FS_DIR_MODE 0750

#ifdef ORLOP_CRASH_POINTS

#include <signal.h>
#include <stdatomic.h>

void crash_point(const char *name)
{
    static atomic_ulong count;
    unsigned long number = atomic_fetch_add(&count, 1) + 1;

    const char *log_path = getenv("ORLOP_CRASH_LOG");
    if (log_path) {
        auto_fd fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, FS_FILE_MODE);
        if (fd >= 0)
            (void) dprintf(fd, "%lu %s\n", number, name);
    }
    const char *at = getenv("ORLOP_CRASH_AT");
    if (at && strtoul(at, NULL, 10) == number)
        (void) raise(SIGKILL);
}

#endif

/* The directory part of path into out; "." when there is none. false: too long. */
static bool fs_parent(const char *path, char *out, size_t out_bytes)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t) (slash - path) : 0;
    if (len >= out_bytes)
        return false;
    if (len == 0)
        return snprintf(out, out_bytes, "%s", slash ? "/" : ".") > 0;
    memcpy(out, path, len);
    out[len] = '\0';
    return true;
}

enum err_code fs_pread_full(int fd, void *bytes, size_t len, uint64_t offset, size_t *out_len, struct err *err)
{
    size_t done = 0;
    while (done < len) {
        ssize_t got = pread(fd, (char *) bytes + done, len - done, (off_t) (offset + done));
        if (got < 0) {
            if (errno == EINTR)
                continue;
            return err_set_errno(err, errno, "read %zu bytes at %llu", len, (unsigned long long) offset);
        }
        if (got == 0)
            break;
        done += (size_t) got;
    }
    *out_len = done;
    return ERR_OK;
}

enum err_code fs_pwrite_full(int fd, const void *bytes, size_t len, uint64_t offset, struct err *err)
{
    size_t done = 0;
    while (done < len) {
        ssize_t put = pwrite(fd, (const char *) bytes + done, len - done, (off_t) (offset + done));
        if (put < 0) {
            if (errno == EINTR)
                continue;
            return err_set_errno(err, errno, "write %zu bytes at %llu", len, (unsigned long long) offset);
        }
        done += (size_t) put;
    }
    return ERR_OK;
}

/* out is full to its limit: is there more in the file? */
static enum err_code fs_expect_end(int fd, const char *path, const struct buf *out, struct err *err)
{
    char extra;
    ssize_t got;
    do
        got = read(fd, &extra, 1);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return err_set_errno(err, errno, "read %s", path);
    if (got == 0)
        return ERR_OK;
    (void) err_set(err, ERR_LIMIT, "%s", err_info(ERR_LIMIT)->text);
    return err_wrap(err, "%s is longer than %zu bytes", path, out->max);
}

enum err_code fs_read_file(int dir_fd, const char *path, struct buf *out, struct err *err)
{
    auto_fd fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(err, errno, "open %s", path);
    struct stat info;
    if (fstat(fd, &info) != 0)
        return err_set_errno(err, errno, "stat %s", path);

    /* The size is only a hint (0 in /proc); the byte more lets read report the end without growing the buffer. */
    size_t wanted = info.st_size > 0 ? (size_t) info.st_size + 1 : FS_READ_BYTES;
    for (;; wanted = FS_READ_BYTES) {
        size_t left = out->max - out->len;
        if (left == 0)
            return fs_expect_end(fd, path, out, err);
        if (out->cap <= out->len + 1 && !buf_reserve(out, wanted < left ? wanted : left))
            return err_set_errno(err, ENOMEM, "read %s", path);
        ssize_t got = read(fd, out->ptr + out->len, out->cap - out->len - 1);
        if (got == 0)
            return ERR_OK;
        if (got < 0 && errno != EINTR)
            return err_set_errno(err, errno, "read %s", path);
        if (got > 0)
            out->len += (size_t) got;
        out->ptr[out->len] = '\0';
    }
}

enum err_code fs_sync_dir(int dir_fd, const char *path, struct err *err)
{
    auto_fd fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(err, errno, "open directory %s", path);
    crash_point("sync directory");
    /* EINVAL: a file system that has no notion of syncing a directory. */
    if (fsync(fd) != 0 && errno != EINVAL)
        return err_set_errno(err, errno, "sync directory %s", path);
    return ERR_OK;
}

static enum err_code fs_sync_parent(int dir_fd, const char *path, struct err *err)
{
    char parent[FS_PATH_BYTES_MAX];
    if (!fs_parent(path, parent, sizeof(parent)))
        return err_set_errno(err, ENAMETOOLONG, "sync the directory of a path");
    return fs_sync_dir(dir_fd, parent, err);
}

enum err_code fs_make_dirs(int dir_fd, const char *path, enum fs_sync sync, struct err *err)
{
    char partial[FS_PATH_BYTES_MAX];
    size_t len = strlen(path);
    if (len >= sizeof(partial))
        return err_set_errno(err, ENAMETOOLONG, "make directory");

    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(partial, path, i);
        partial[i] = '\0';
        crash_point("make directory");
        if (mkdirat(dir_fd, partial, FS_DIR_MODE) != 0) {
            if (errno == EEXIST)
                continue;
            return err_set_errno(err, errno, "make directory %s", partial);
        }
        if (sync == FS_DURABLE && fs_sync_parent(dir_fd, partial, err))
            return err->code;
    }
    return ERR_OK;
}

static int fs_rename(int dir_fd, const char *from, const char *to, enum fs_existing existing)
{
    if (existing == FS_REPLACE)
        return renameat(dir_fd, from, dir_fd, to);
    if (renameat2(dir_fd, from, dir_fd, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    /* A file system without RENAME_NOREPLACE (NFS): a link never replaces either. */
    if (linkat(dir_fd, from, dir_fd, to, 0) != 0)
        return -1;
    return unlinkat(dir_fd, from, 0);
}

/* Rename into place, making to's parents only when the rename says that they are missing. */
static enum err_code fs_move(int dir_fd, const char *from, const char *to, enum fs_existing existing, enum fs_sync sync,
                             struct err *err)
{
    crash_point("rename");
    int failed = fs_rename(dir_fd, from, to, existing);
    if (failed && errno == ENOENT) {
        char parent[FS_PATH_BYTES_MAX];
        if (!fs_parent(to, parent, sizeof(parent)))
            return err_set_errno(err, ENAMETOOLONG, "rename %s", from);
        if (strcmp(parent, ".") != 0 && fs_make_dirs(dir_fd, parent, sync, err))
            return err->code;
        crash_point("rename");
        failed = fs_rename(dir_fd, from, to, existing);
    }
    if (failed)
        return err_set_errno(err, errno, "rename %s to %s", from, to);
    if (sync == FS_VOLATILE)
        return ERR_OK;
    /* A directory that is gone again took what was put there along: its deleter syncs that. */
    enum err_code code = fs_sync_parent(dir_fd, to, err);
    return code == ERR_NOT_FOUND ? ERR_OK : code;
}

/* Write and sync the temporary file. */
static enum err_code fs_write_new(int dir_fd, const char *path, struct str bytes, enum fs_sync sync, struct err *err)
{
    auto_fd fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FS_FILE_MODE);
    if (fd < 0)
        return err_set_errno(err, errno, "create %s", path);
    crash_point("write");
    if (fs_pwrite_full(fd, bytes.ptr, bytes.len, 0, err))
        return err_wrap(err, "%s", path);
    if (sync == FS_DURABLE) {
        crash_point("sync file");
        if (fsync(fd) != 0)
            return err_set_errno(err, errno, "sync %s", path);
    }
    /* Network file systems report a full disk only here. */
    if (close(TAKE_FD(fd)) != 0 && errno != EINTR)
        return err_set_errno(err, errno, "close %s", path);
    return ERR_OK;
}

enum err_code fs_write_atomic(int dir_fd, const char *tmp_dir, const char *path, struct str bytes,
                              enum fs_existing existing, enum fs_sync sync, struct err *err)
{
    char name[UUID_TEXT_BYTES];
    char tmp[FS_PATH_BYTES_MAX];
    uuid_new(name);
    if (snprintf(tmp, sizeof(tmp), "%s/%s", tmp_dir, name) >= (int) sizeof(tmp))
        return err_set_errno(err, ENAMETOOLONG, "write %s", path);

    if (fs_write_new(dir_fd, tmp, bytes, sync, err) || fs_move(dir_fd, tmp, path, existing, sync, err)) {
        (void) unlinkat(dir_fd, tmp, 0); /* gone already when only the directory's sync failed */
        return err_wrap(err, "write %s", path);
    }
    return ERR_OK;
}

enum err_code fs_publish(int dir_fd, const char *from, const char *to, enum fs_existing existing, struct err *err)
{
    return fs_move(dir_fd, from, to, existing, FS_DURABLE, err);
}

enum err_code fs_unlink(int dir_fd, const char *path, enum fs_sync sync, struct err *err)
{
    crash_point("unlink");
    if (unlinkat(dir_fd, path, 0) != 0)
        return err_set_errno(err, errno, "unlink %s", path);
    return sync == FS_DURABLE ? fs_sync_parent(dir_fd, path, err) : ERR_OK;
}

static enum err_code fs_remove_below(int dir_fd, const char *path, unsigned depth, struct err *err)
{
    crash_point("unlink");
    if (unlinkat(dir_fd, path, 0) == 0 || errno == ENOENT)
        return ERR_OK;
    if (errno != EISDIR && errno != EPERM)
        return err_set_errno(err, errno, "unlink %s", path);
    if (depth == 0)
        return err_set_errno(err, ELOOP, "remove %s", path);

    auto_fd fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? ERR_OK : err_set_errno(err, errno, "open directory %s", path);
    auto_dir dir = fdopendir(fd);
    if (!dir)
        return err_set_errno(err, errno, "open directory %s", path);
    int below_fd = TAKE_FD(fd); /* dir owns it now */

    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry)
            break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (fs_remove_below(below_fd, entry->d_name, depth - 1, err))
            return err_wrap(err, "%s", path);
    }
    if (errno != 0)
        return err_set_errno(err, errno, "read directory %s", path);
    crash_point("remove directory");
    if (unlinkat(dir_fd, path, AT_REMOVEDIR) != 0 && errno != ENOENT)
        return err_set_errno(err, errno, "remove directory %s", path);
    return ERR_OK;
}

enum err_code fs_remove_tree(int dir_fd, const char *path, struct err *err)
{
    return fs_remove_below(dir_fd, path, FS_TREE_DEPTH_MAX, err);
}

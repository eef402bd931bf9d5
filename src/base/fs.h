/*
 * Files: whole reads and writes, and the atomic, durable replacement of a file below a root directory.
 *
 * Paths are relative to an open directory (dir_fd); they never hold "..": the callers build them from checked parts.
 * Calls restart on EINTR. Errors keep errno (err_set_errno).
 */
#ifndef ORLOP_BASE_FS_H
#define ORLOP_BASE_FS_H

#include "base/buf.h"
#include "base/err.h"

#include <sys/types.h>

#define FS_PATH_BYTES_MAX 4096

/* Read len bytes at offset; *out_len is shorter only at the end of the file. */
must_check enum err_code fs_pread_full(int fd, void *bytes, size_t len, uint64_t offset, size_t *out_len,
                                       struct err *err);
/* Write all bytes at offset. A partial write before an error leaves what it left. */
must_check enum err_code fs_pwrite_full(int fd, const void *bytes, size_t len, uint64_t offset, struct err *err);

/* Append a whole file to out. ERR_NOT_FOUND when missing; ERR_LIMIT when longer than out's limit. */
must_check enum err_code fs_read_file(int dir_fd, const char *path, struct buf *out, struct err *err);

/* What fs_write_atomic does when path exists. */
enum fs_existing { FS_REPLACE, FS_KEEP /* fail with ERR_EXISTS and change nothing */ };
/* FS_DURABLE: on return file and directory entries survive a power cut. FS_VOLATILE: they survive a SIGKILL. */
enum fs_sync { FS_DURABLE, FS_VOLATILE };

/*
 * Put bytes at path: temporary file in tmp_dir (same file system, must exist) → write → fsync → rename → fsync of the
 * directory. Missing parent directories are made (and synced). On failure path is as it was (only when the last step,
 * the directory's fsync, fails may it be new) and no temporary is left, unless the process dies in between: leftovers
 * in tmp_dir are the caller's to clear at start.
 */
must_check enum err_code fs_write_atomic(int dir_fd, const char *tmp_dir, const char *path, struct str bytes,
                                         enum fs_existing existing, enum fs_sync sync, struct err *err);

/*
 * Move the file at from to to (same file system), making and syncing to's missing parents, then fsync to's directory.
 * With FS_KEEP an existing target fails with ERR_EXISTS and from stays. The file's own data is not synced here.
 */
must_check enum err_code fs_publish(int dir_fd, const char *from, const char *to, enum fs_existing existing,
                                    struct err *err);

/* Unlink path and fsync its directory. ERR_NOT_FOUND when it is not there. */
must_check enum err_code fs_unlink(int dir_fd, const char *path, enum fs_sync sync, struct err *err);

/* mkdir -p below dir_fd; with FS_DURABLE each new directory's parent is synced. The root itself is never made. */
must_check enum err_code fs_make_dirs(int dir_fd, const char *path, enum fs_sync sync, struct err *err);

/* Remove a directory and all below it; missing is fine. */
must_check enum err_code fs_remove_tree(int dir_fd, const char *path, struct err *err);

/* fsync the directory at path ("." for dir_fd itself). */
must_check enum err_code fs_sync_dir(int dir_fd, const char *path, struct err *err);

/*
 * Crash points, for tests/crash: every durable step calls this before it is taken. When ORLOP_CRASH_AT=N is set in
 * the environment of a build with ORLOP_CRASH_POINTS, the Nth call raises SIGKILL; ORLOP_CRASH_LOG=FILE appends each
 * point's name. In other builds it is nothing.
 */
#ifdef ORLOP_CRASH_POINTS
void crash_point(const char *name);
#else
#define crash_point(name) ((void) 0)
#endif

#endif

/*
 * Scope-owned resources: an owning local starts at its empty value and carries one of these attributes; success
 * moves it out with TAKE_PTR or TAKE_FD. Cleanup functions accept the empty value and keep errno.
 */
#ifndef ORLOP_BASE_CLEANUP_H
#define ORLOP_BASE_CLEANUP_H

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define cleanup(fn) __attribute__((cleanup(fn)))

/* Close fd unless it is -1. close is never retried: Linux has released the number even on EINTR. */
static inline void fd_close(int fd)
{
    if (fd >= 0) {
        int saved = errno;
        (void) close(fd);
        errno = saved;
    }
}

static inline void cleanup_fd(int *fd)
{
    fd_close(*fd);
    *fd = -1;
}

static inline void cleanup_mem(void *p)
{
    int saved = errno;
    free(*(void **) p);
    *(void **) p = NULL;
    errno = saved;
}

static inline void cleanup_dir(DIR **dir)
{
    int saved = errno;
    if (*dir)
        (void) closedir(*dir);
    *dir = NULL;
    errno = saved;
}

static inline void cleanup_file(FILE **file)
{
    int saved = errno;
    if (*file)
        (void) fclose(*file);
    *file = NULL;
    errno = saved;
}

#define auto_fd cleanup(cleanup_fd) int
#define auto_mem cleanup(cleanup_mem)
#define auto_dir cleanup(cleanup_dir) DIR *
#define auto_file cleanup(cleanup_file) FILE *

#define TAKE_PTR(p)                 \
    ({                              \
        __typeof__(p) taken_ = (p); \
        (p) = NULL;                 \
        taken_;                     \
    })

#define TAKE_FD(fd)        \
    ({                     \
        int taken_ = (fd); \
        (fd) = -1;         \
        taken_;            \
    })

#endif

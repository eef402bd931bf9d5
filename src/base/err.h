/*
 * Errors: a code to branch on, a message for the client, a detail for the log.
 *
 * A function that can fail returns `enum err_code` (ERR_OK is 0) and takes a caller-owned `struct err *err` last.
 * err is never NULL; success does not touch it; nothing is allocated. Messages are whole sentences that say what to
 * do; the detail holds paths, keys and errno texts and never leaves the server.
 *
 *     return err_set(err, ERR_NAME_INVALID, "'%s' is not a repository name: use lower case", name);
 *
 * Threads: a struct err belongs to one request or one call chain; there is no global state.
 */
#ifndef ORLOP_BASE_ERR_H
#define ORLOP_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

#define ERR_MESSAGE_BYTES_MAX 320
#define ERR_DETAIL_BYTES_MAX 512

enum err_code {
    ERR_OK = 0,
#define ERR(name, oci, status, text) ERR_##name,
#include "base/err_table.h"
#undef ERR
    ERR_CODE_COUNT
};

struct err {
    enum err_code code;
    int sys_errno;                       /* 0 when no system call failed */
    char message[ERR_MESSAGE_BYTES_MAX]; /* safe to send to a client */
    char detail[ERR_DETAIL_BYTES_MAX];   /* for the log only */
};

/* One row of err_table.h. */
struct err_info {
    const char *name; /* "BLOB_UNKNOWN": the enum's name without ERR_ */
    const char *oci_code;
    int http_status;
    const char *text;
};

#define must_check __attribute__((warn_unused_result))

#define ERR_INIT ((struct err){.code = ERR_OK})

/* The table row of a code. Never NULL; code must be a member of the enum. */
const struct err_info *err_info(enum err_code code);

/* Fill err with a code and a public message; returns code. */
enum err_code err_set(struct err *err, enum err_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Fill err from an errno value: ENOSPC and EDQUOT become ERR_NO_SPACE, EROFS, EACCES and EPERM ERR_READ_ONLY, ENOENT
 * ERR_NOT_FOUND, EEXIST ERR_EXISTS, ENOMEM ERR_NO_MEMORY, all else ERR_IO. The message is the table's text; what the
 * format says (what was tried, on what) goes, with strerror's text, into the detail.
 */
enum err_code err_set_errno(struct err *err, int sys_errno, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Put "context: " before the detail (outermost context first), which is begun with the message when there is none.
 * Keeps code and message; returns the code.
 */
enum err_code err_wrap(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Change the code and public message, keeping the detail (the old message becomes it when there is none): the one
 * translation between layers. Returns code.
 */
enum err_code err_become(struct err *err, enum err_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The detail if there is one, else the message, else the table's text: what a log line or a terminal shows. */
const char *err_text(const struct err *err);

#endif

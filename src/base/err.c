#include "base/err.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct err_info err_rows[ERR_CODE_COUNT] = {
    [ERR_OK] = {"OK", "UNKNOWN", 500, "no error"},
#define ERR(name, oci, status, text) [ERR_##name] = {#name, oci, status, text},
#include "base/err_table.h"
#undef ERR
};

const struct err_info *err_info(enum err_code code)
{
    assert((unsigned) code < ERR_CODE_COUNT);
    return &err_rows[code];
}

/* Format to out and end a cut text with an ellipsis. A cut through a UTF-8 character is undone. */
static void err_format(char *out, size_t out_bytes, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

static void err_format(char *out, size_t out_bytes, const char *format, va_list args)
{
    static const char ellipsis[] = "...";
    int written = vsnprintf(out, out_bytes, format, args);
    if (written < 0) {
        out[0] = '\0';
        return;
    }
    if ((size_t) written < out_bytes)
        return;
    size_t end = out_bytes - sizeof(ellipsis);
    while (end > 0 && ((unsigned char) out[end] & 0xC0) == 0x80)
        end--;
    memcpy(out + end, ellipsis, sizeof(ellipsis));
}

/* A variadic wrapper, so that texts already in an err can be joined by the same cutting rule. */
static void err_print(char *out, size_t out_bytes, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void err_print(char *out, size_t out_bytes, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    err_format(out, out_bytes, format, args);
    va_end(args);
}

/* All of these format to a local first: the arguments may point into err itself. */

enum err_code err_set(struct err *err, enum err_code code, const char *format, ...)
{
    char message[ERR_MESSAGE_BYTES_MAX];
    va_list args;
    va_start(args, format);
    err_format(message, sizeof(message), format, args);
    va_end(args);

    err->code = code;
    err->sys_errno = 0;
    memcpy(err->message, message, strlen(message) + 1);
    err->detail[0] = '\0';
    return code;
}

static enum err_code err_code_of_errno(int sys_errno)
{
    switch (sys_errno) {
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case EROFS:
    case EACCES:
    case EPERM:
        return ERR_READ_ONLY;
    case ENOENT:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case ENOMEM:
        return ERR_NO_MEMORY;
    default:
        return ERR_IO;
    }
}

enum err_code err_set_errno(struct err *err, int sys_errno, const char *format, ...)
{
    char what[ERR_DETAIL_BYTES_MAX];
    char reason[128];
    va_list args;
    va_start(args, format);
    err_format(what, sizeof(what), format, args);
    va_end(args);

    err->code = err_code_of_errno(sys_errno);
    err->sys_errno = sys_errno;
    err_print(err->message, sizeof(err->message), "%s", err_info(err->code)->text);
    err_print(err->detail, sizeof(err->detail), "%s: %s", what, strerror_r(sys_errno, reason, sizeof(reason)));
    return err->code;
}

enum err_code err_wrap(struct err *err, const char *format, ...)
{
    char context[ERR_DETAIL_BYTES_MAX];
    char detail[ERR_DETAIL_BYTES_MAX];
    va_list args;
    va_start(args, format);
    err_format(context, sizeof(context), format, args);
    va_end(args);

    err_print(detail, sizeof(detail), "%s: %s", context, err_text(err));
    memcpy(err->detail, detail, sizeof(detail));
    return err->code;
}

enum err_code err_become(struct err *err, enum err_code code, const char *format, ...)
{
    char message[ERR_MESSAGE_BYTES_MAX];
    va_list args;
    va_start(args, format);
    err_format(message, sizeof(message), format, args);
    va_end(args);

    if (err->detail[0] == '\0')
        err_print(err->detail, sizeof(err->detail), "%s", err->message);
    err->code = code;
    memcpy(err->message, message, strlen(message) + 1);
    return code;
}

const char *err_text(const struct err *err)
{
    if (err->detail[0] != '\0')
        return err->detail;
    if (err->message[0] != '\0')
        return err->message;
    return err_info(err->code)->text;
}

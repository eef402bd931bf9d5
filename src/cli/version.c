#include "base/version.h"
#include "base/fs.h"
#include "cli/cli.h"
#include "cli/commands.h"

#include <fcntl.h>

#define MAPS_BYTES_MAX (4 * 1024 * 1024)

/* The file behind a line of /proc/self/maps if it is a shared library; ptr NULL otherwise. */
static struct str library_of_line(struct str line)
{
    const char *slash = memrchr(line.ptr, '/', line.len);
    if (!slash)
        return (struct str){NULL, 0};
    struct str name = {slash + 1, line.len - (size_t) (slash + 1 - line.ptr)};
    return memmem(name.ptr, name.len, ".so", 3) ? name : (struct str){NULL, 0};
}

/* The mappings name the very files in use, "libmicrohttpd.so.12.60.0", however the links point. */
static void append_libraries(struct buf *out)
{
    auto_buf maps = BUF_INIT(MAPS_BYTES_MAX);
    struct err err = ERR_INIT;
    if (fs_read_file(AT_FDCWD, "/proc/self/maps", &maps, &err))
        return;
    struct str rest = buf_str(&maps);
    struct str previous = {NULL, 0}; /* a library's mappings stand together */
    while (rest.len > 0) {
        const char *end = memchr(rest.ptr, '\n', rest.len);
        struct str line = {rest.ptr, end ? (size_t) (end - rest.ptr) : rest.len};
        struct str library = library_of_line(line);
        if (library.ptr && !str_equal(library, previous)) {
            (void) buf_appendf(out, "  %.*s\n", (int) library.len, library.ptr);
            previous = library;
        }
        size_t step = line.len + (end ? 1 : 0);
        rest = (struct str){rest.ptr + step, rest.len - step};
    }
}

int command_version(int argc, char **argv)
{
    static const struct cli_syntax syntax = {
        .usage = "orlop version",
        .prose = "Print the release and the libraries in use.",
        .settings = CLI_SETTINGS_NONE,
    };
    int status;
    if (!cli_parse(&syntax, argc, argv, NULL, &status))
        return status;
    auto_buf out = BUF_INIT(CLI_OUTPUT_BYTES_MAX);
    (void) buf_append_text(&out, "orlop " ORLOP_VERSION "\nlibraries:\n");
    append_libraries(&out);
    return cli_print(&out);
}

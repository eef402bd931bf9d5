#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define FILE_BYTES_MAX (1024 * 1024)
#define UNPRIVILEGED_USER 65534

struct place {
    char path[64];
    int fd;
};

static int place_make(void **state)
{
    struct place *place = calloc(1, sizeof(*place));
    (void) snprintf(place->path, sizeof(place->path), "/tmp/orlop-fs-XXXXXX");
    assert_non_null(mkdtemp(place->path));
    place->fd = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(place->fd >= 0);
    assert_int_equal(mkdirat(place->fd, "tmp", 0755), 0);
    *state = place;
    return 0;
}

static int place_remove(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    assert_int_equal(fs_remove_tree(AT_FDCWD, place->path, &err), ERR_OK);
    fd_close(place->fd);
    free(place);
    return 0;
}

static void assert_content(int fd, const char *path, struct str expected)
{
    struct err err = ERR_INIT;
    auto_buf out = BUF_INIT(FILE_BYTES_MAX);
    assert_int_equal(fs_read_file(fd, path, &out, &err), ERR_OK);
    assert_int_equal(out.len, expected.len);
    assert_memory_equal(buf_str(&out).ptr, expected.ptr, expected.len);
}

static unsigned count_entries(int fd, const char *path)
{
    auto_dir dir = fdopendir(openat(fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    assert_non_null(dir);
    unsigned count = 0;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        count += entry->d_name[0] != '.';
    return count;
}

static void test_write_and_read(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    assert_int_equal(fs_write_atomic(place->fd, "tmp", "a", STR("one"), FS_REPLACE, FS_DURABLE, &err), ERR_OK);
    assert_content(place->fd, "a", STR("one"));
    assert_int_equal(fs_write_atomic(place->fd, "tmp", "a", STR(""), FS_REPLACE, FS_VOLATILE, &err), ERR_OK);
    assert_content(place->fd, "a", STR(""));
    assert_int_equal(fs_write_atomic(place->fd, "tmp", "x/y/z/b", STR("deep"), FS_KEEP, FS_DURABLE, &err), ERR_OK);
    assert_content(place->fd, "x/y/z/b", STR("deep"));
    assert_int_equal(fs_write_atomic(place->fd, "tmp", "x/v/b", STR("too"), FS_REPLACE, FS_VOLATILE, &err), ERR_OK);
    assert_content(place->fd, "x/v/b", STR("too"));
    assert_int_equal(count_entries(place->fd, "tmp"), 0);
    assert_int_equal(err.code, ERR_OK);
}

static void test_keep_leaves_the_old_content(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    assert_int_equal(fs_write_atomic(place->fd, "tmp", "a", STR("one"), FS_KEEP, FS_DURABLE, &err), ERR_OK);
    assert_int_equal(fs_write_atomic(place->fd, "tmp", "a", STR("two"), FS_KEEP, FS_DURABLE, &err), ERR_EXISTS);
    assert_content(place->fd, "a", STR("one"));
    assert_int_equal(count_entries(place->fd, "tmp"), 0);
}

static void test_a_failed_write_leaves_nothing(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    /* The target is a directory: the rename fails, after the temporary file was written. */
    assert_int_equal(mkdirat(place->fd, "d", 0755), 0);
    assert_int_equal(fs_write_atomic(place->fd, "tmp", "d", STR("x"), FS_REPLACE, FS_DURABLE, &err), ERR_IO);
    assert_int_equal(count_entries(place->fd, "tmp"), 0);
    assert_non_null(strstr(err.detail, "write d: rename tmp/"));

    assert_int_equal(fs_write_atomic(place->fd, "gone", "a", STR("x"), FS_REPLACE, FS_DURABLE, &err), ERR_NOT_FOUND);
    /* A parent is a file. */
    assert_int_equal(fs_write_atomic(place->fd, "tmp", "f", STR("x"), FS_REPLACE, FS_DURABLE, &err), ERR_OK);
    assert_int_equal(fs_write_atomic(place->fd, "tmp", "f/a", STR("x"), FS_REPLACE, FS_DURABLE, &err), ERR_IO);
    assert_int_equal(count_entries(place->fd, "tmp"), 0);
}

static void test_path_too_long(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    char path[2 * FS_PATH_BYTES_MAX];
    memset(path, 'a', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    for (size_t i = 100; i < sizeof(path) - 1; i += 100)
        path[i] = '/';
    assert_int_equal(fs_write_atomic(place->fd, "tmp", path, STR("x"), FS_REPLACE, FS_DURABLE, &err), ERR_IO);
    assert_int_equal(fs_make_dirs(place->fd, path, FS_VOLATILE, &err), ERR_IO);
    assert_int_equal(err.sys_errno, ENAMETOOLONG);
    assert_int_equal(count_entries(place->fd, "tmp"), 0);
}

static void test_read_file(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    auto_buf out = BUF_INIT(8);
    assert_int_equal(fs_read_file(place->fd, "none", &out, &err), ERR_NOT_FOUND);
    assert_int_equal(err.sys_errno, ENOENT);

    assert_int_equal(fs_write_atomic(place->fd, "tmp", "f", STR("12345678"), FS_KEEP, FS_VOLATILE, &err), ERR_OK);
    assert_int_equal(fs_read_file(place->fd, "f", &out, &err), ERR_OK);
    assert_string_equal(out.ptr, "12345678");
    buf_clear(&out);
    assert_int_equal(fs_write_atomic(place->fd, "tmp", "f", STR("123456789"), FS_REPLACE, FS_VOLATILE, &err), ERR_OK);
    assert_int_equal(fs_read_file(place->fd, "f", &out, &err), ERR_LIMIT);

    /* It appends, and reads files that do not tell their size. */
    auto_buf more = BUF_INIT(FILE_BYTES_MAX);
    assert_true(buf_append_text(&more, ">"));
    assert_int_equal(fs_read_file(AT_FDCWD, "/proc/self/status", &more, &err), ERR_OK);
    assert_true(str_starts(buf_str(&more), STR(">Name:")));
    assert_int_equal(fs_read_file(place->fd, ".", &more, &err), ERR_IO);
}

static void test_pread_and_pwrite(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    auto_fd fd = openat(place->fd, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(fs_pwrite_full(fd, "abcdef", 6, 2, &err), ERR_OK);
    char bytes[16];
    size_t len;
    assert_int_equal(fs_pread_full(fd, bytes, 4, 2, &len, &err), ERR_OK);
    assert_int_equal(len, 4);
    assert_memory_equal(bytes, "abcd", 4);
    assert_int_equal(fs_pread_full(fd, bytes, sizeof(bytes), 6, &len, &err), ERR_OK);
    assert_int_equal(len, 2);
    assert_int_equal(fs_pread_full(fd, bytes, sizeof(bytes), 100, &len, &err), ERR_OK);
    assert_int_equal(len, 0);
    assert_int_equal(fs_pread_full(-1, bytes, 1, 0, &len, &err), ERR_IO);
    assert_int_equal(fs_pwrite_full(-1, "x", 1, 0, &err), ERR_IO);
    assert_int_equal(err.sys_errno, EBADF);
}

static void test_publish(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    assert_int_equal(fs_write_atomic(place->fd, "tmp", "up/1", STR("one"), FS_KEEP, FS_VOLATILE, &err), ERR_OK);
    assert_int_equal(fs_write_atomic(place->fd, "tmp", "up/2", STR("two"), FS_KEEP, FS_VOLATILE, &err), ERR_OK);
    assert_int_equal(fs_publish(place->fd, "up/1", "blobs/aa/x", FS_KEEP, &err), ERR_OK);
    assert_int_equal(fs_publish(place->fd, "up/2", "blobs/aa/x", FS_KEEP, &err), ERR_EXISTS);
    assert_content(place->fd, "up/2", STR("two"));
    assert_content(place->fd, "blobs/aa/x", STR("one"));
    assert_int_equal(fs_publish(place->fd, "up/2", "blobs/aa/x", FS_REPLACE, &err), ERR_OK);
    assert_content(place->fd, "blobs/aa/x", STR("two"));
    assert_int_equal(fs_publish(place->fd, "up/2", "blobs/aa/x", FS_REPLACE, &err), ERR_NOT_FOUND);
    assert_int_equal(count_entries(place->fd, "up"), 0);
}

static void test_unlink_and_directories(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    assert_int_equal(fs_make_dirs(place->fd, "a/b/c", FS_DURABLE, &err), ERR_OK);
    assert_int_equal(fs_make_dirs(place->fd, "a/b/c", FS_DURABLE, &err), ERR_OK);
    assert_int_equal(fs_sync_dir(place->fd, ".", &err), ERR_OK);
    assert_int_equal(fs_sync_dir(place->fd, "a/b", &err), ERR_OK);
    assert_int_equal(fs_sync_dir(place->fd, "none", &err), ERR_NOT_FOUND);
    assert_int_equal(fs_write_atomic(place->fd, "tmp", "a/b/f", STR("x"), FS_KEEP, FS_VOLATILE, &err), ERR_OK);
    assert_int_equal(fs_unlink(place->fd, "a/b/f", FS_DURABLE, &err), ERR_OK);
    assert_int_equal(fs_unlink(place->fd, "a/b/f", FS_VOLATILE, &err), ERR_NOT_FOUND);

    assert_int_equal(fs_write_atomic(place->fd, "tmp", "a/b/c/f", STR("x"), FS_KEEP, FS_VOLATILE, &err), ERR_OK);
    assert_int_equal(fs_write_atomic(place->fd, "tmp", "outside", STR("x"), FS_KEEP, FS_VOLATILE, &err), ERR_OK);
    assert_int_equal(symlinkat("../outside", place->fd, "a/link"), 0);
    assert_int_equal(symlinkat("..", place->fd, "a/up"), 0);
    assert_int_equal(fs_remove_tree(place->fd, "a", &err), ERR_OK);
    assert_int_equal(faccessat(place->fd, "a", F_OK, 0), -1);
    assert_content(place->fd, "outside", STR("x")); /* links are removed, not followed */
    assert_int_equal(fs_remove_tree(place->fd, "a", &err), ERR_OK);
}

/* The body runs in a child as an ordinary user, for root may write everywhere. */
static void test_read_only_directory(void **state)
{
    struct place *place = *state;
    assert_int_equal(mkdirat(place->fd, "closed", 0555), 0);
    assert_int_equal(fchmodat(place->fd, "tmp", 0777, 0), 0);
    assert_int_equal(fchmodat(place->fd, ".", 0755, 0), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct err err = ERR_INIT;
        if (getuid() == 0 && setuid(UNPRIVILEGED_USER) != 0)
            _exit(2);
        bool refused =
            fs_write_atomic(place->fd, "tmp", "closed/f", STR("x"), FS_REPLACE, FS_DURABLE, &err) == ERR_READ_ONLY &&
            fs_make_dirs(place->fd, "closed/d", FS_DURABLE, &err) == ERR_READ_ONLY &&
            count_entries(place->fd, "tmp") == 0;
        _exit(refused ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* A file system of 64 KiB that is full: the old content stays and no temporary is left. */
static void test_full_disk(void **state)
{
    struct place *place = *state;
    char path[128];
    (void) snprintf(path, sizeof(path), "%s/small", place->path);
    assert_int_equal(mkdir(path, 0755), 0);
    if (mount("none", path, "tmpfs", 0, "size=64k") != 0) {
        print_message("skipped: mounting a tmpfs is not permitted here\n");
        skip();
    }
    struct err err = ERR_INIT;
    auto_buf big = BUF_INIT(FILE_BYTES_MAX);
    assert_true(buf_reserve(&big, 100000));
    memset(big.ptr, 'x', 100000);
    big.len = 100000;

    {
        auto_fd fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(mkdirat(fd, "tmp", 0755), 0);
        assert_int_equal(fs_write_atomic(fd, "tmp", "f", STR("old"), FS_REPLACE, FS_DURABLE, &err), ERR_OK);
        assert_int_equal(fs_write_atomic(fd, "tmp", "f", buf_str(&big), FS_REPLACE, FS_DURABLE, &err), ERR_NO_SPACE);
        assert_content(fd, "f", STR("old"));
        assert_int_equal(count_entries(fd, "tmp"), 0);
    }
    assert_int_equal(umount(path), 0);
}

int main(void)
{
#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, place_make, place_remove)
    const struct CMUnitTest tests[] = {
        WITH_PLACE(test_write_and_read),
        WITH_PLACE(test_keep_leaves_the_old_content),
        WITH_PLACE(test_a_failed_write_leaves_nothing),
        WITH_PLACE(test_path_too_long),
        WITH_PLACE(test_read_file),
        WITH_PLACE(test_pread_and_pwrite),
        WITH_PLACE(test_publish),
        WITH_PLACE(test_unlink_and_directories),
        WITH_PLACE(test_read_only_directory),
        WITH_PLACE(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

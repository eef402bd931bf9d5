#include "base/buf.h"
#include "base/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cmocka.h>

#define CAPTURE_BYTES_MAX (64 * 1024 * 1024)

/* While a test runs, stderr is a file in memory. */
struct capture {
    int saved;
    int file;
};

static void stderr_become(int fd)
{
    assert_true(dup2(fd, STDERR_FILENO) >= 0);
}

static struct capture capture_begin(void)
{
    struct capture capture = {.saved = dup(STDERR_FILENO), .file = memfd_create("stderr", MFD_CLOEXEC)};
    stderr_become(capture.file);
    return capture;
}

static void read_to_end(int fd, struct buf *out)
{
    char bytes[65536];
    for (ssize_t got = read(fd, bytes, sizeof(bytes)); got > 0; got = read(fd, bytes, sizeof(bytes)))
        (void) buf_append(out, bytes, (size_t) got);
}

static void capture_end(struct capture *capture, struct buf *out)
{
    stderr_become(capture->saved);
    fd_close(capture->saved);
    assert_int_equal(lseek(capture->file, 0, SEEK_SET), 0);
    read_to_end(capture->file, out);
    fd_close(capture->file);
}

/* The rest of a line behind its time, which is checked for its shape. */
static const char *after_json_time(const char *line)
{
    static const char start[] = "{\"time\":\"";
    assert_true(strncmp(line, start, sizeof(start) - 1) == 0);
    const char *end = strchr(line + sizeof(start) - 1, '"');
    assert_non_null(end);
    assert_int_equal(end - line - (long) sizeof(start) + 1, 24);
    return end + 1;
}

static void test_json_line(void **state)
{
    (void) state;
    auto_buf out = BUF_INIT(CAPTURE_BYTES_MAX);
    struct capture capture = capture_begin();
    log_init(LOG_FORMAT_JSON);
    log_event(LOG_INFO, "hello", LOG_TEXT("a", "b c"), LOG_TEXT("absent", NULL), LOG_U64("n", UINT64_MAX),
              LOG_DOUBLE("d", 1.5), LOG_DOUBLE("nan", __builtin_nan("")), LOG_BOOL("yes", true), LOG_BOOL("no", false));
    log_event(LOG_WARN, "bare");
    log_finish();
    capture_end(&capture, &out);
    const char *rest = after_json_time(out.ptr);
    static const char first[] = ",\"level\":\"info\",\"message\":\"hello\",\"a\":\"b c\",\"n\":18446744073709551615,"
                                "\"d\":1.5,\"nan\":null,\"yes\":true,\"no\":false}\n";
    assert_true(strncmp(rest, first, sizeof(first) - 1) == 0);
    assert_string_equal(after_json_time(rest + sizeof(first) - 1), ",\"level\":\"warn\",\"message\":\"bare\"}\n");
}

static void test_text_line(void **state)
{
    (void) state;
    auto_buf out = BUF_INIT(CAPTURE_BYTES_MAX);
    struct capture capture = capture_begin();
    log_init(LOG_FORMAT_TEXT);
    log_event(LOG_ERROR, "went wrong", LOG_TEXT("path", "/a/b"), LOG_TEXT("why", "no \"x\"\n"), LOG_TEXT("empty", ""));
    log_finish();
    capture_end(&capture, &out);
    assert_string_equal(out.ptr + 24, " error went wrong path=/a/b why=\"no \\\"x\\\"\\n\" empty=\"\"\n");
}

static void test_levels(void **state)
{
    (void) state;
    auto_buf out = BUF_INIT(CAPTURE_BYTES_MAX);
    struct capture capture = capture_begin();
    log_init(LOG_FORMAT_TEXT);
    log_event(LOG_DEBUG, "one");
    log_set_level(LOG_DEBUG);
    log_event(LOG_DEBUG, "two");
    log_set_level(LOG_ERROR);
    assert_false(log_enabled(LOG_WARN));
    assert_true(log_enabled(LOG_ERROR));
    log_event(LOG_WARN, "three");
    log_set_level(LOG_INFO);
    log_finish();
    capture_end(&capture, &out);
    assert_null(strstr(out.ptr, "one"));
    assert_non_null(strstr(out.ptr, "two"));
    assert_null(strstr(out.ptr, "three"));

    enum log_level level;
    for (int i = LOG_DEBUG; i <= LOG_ERROR; i++) {
        assert_true(log_level_parse(log_level_name((enum log_level) i), &level));
        assert_int_equal(level, i);
    }
    assert_false(log_level_parse("Info", &level));
}

static void test_escaping(void **state)
{
    (void) state;
    auto_buf out = BUF_INIT(CAPTURE_BYTES_MAX);
    struct capture capture = capture_begin();
    log_init(LOG_FORMAT_JSON);
    log_event(LOG_INFO, "m", LOG_TEXT("v", "\x1b[2J\"\\\xff\xc3\xa9\n{}"));
    log_finish();
    capture_end(&capture, &out);
    assert_non_null(strstr(out.ptr, "\"v\":\"\\u001b[2J\\\"\\\\\\ufffd\xc3\xa9\\n{}\"}\n"));
    assert_int_equal(strcspn(out.ptr, "\n"), out.len - 1);
}

static void test_before_init_and_after_finish_lines_are_written_at_once(void **state)
{
    (void) state;
    auto_buf out = BUF_INIT(CAPTURE_BYTES_MAX);
    struct capture capture = capture_begin();
    log_event(LOG_INFO, "direct");
    capture_end(&capture, &out);
    assert_non_null(strstr(out.ptr, "direct"));
}

static void test_long_values_are_shortened(void **state)
{
    (void) state;
    char value[LOG_LINE_BYTES_MAX * 2];
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    auto_buf out = BUF_INIT(CAPTURE_BYTES_MAX);
    struct capture capture = capture_begin();
    log_init(LOG_FORMAT_JSON);
    log_event(LOG_INFO, "m", LOG_TEXT("long", value), LOG_U64("after", 7));
    log_finish();
    capture_end(&capture, &out);
    assert_true(out.len < LOG_VALUE_BYTES_MAX + 200);
    assert_non_null(strstr(out.ptr, "vvv...\",\"after\":7}\n"));
}

static void test_a_cut_line_stays_valid(void **state)
{
    (void) state;
    char value[LOG_VALUE_BYTES_MAX + 1];
    auto_buf out = BUF_INIT(CAPTURE_BYTES_MAX);
    struct capture capture = capture_begin();
    log_init(LOG_FORMAT_JSON);
    /* Every length near the limit, so that the cut comes at every place of a field. */
    memset(value, '\x01', sizeof(value) - 1); /* six bytes each when escaped */
    for (size_t len = 640; len < 690; len++) {
        char exact[LOG_VALUE_BYTES_MAX + 1];
        memcpy(exact, value, sizeof(value));
        exact[len] = '\0';
        log_event(LOG_INFO, "m", LOG_TEXT("big", exact), LOG_U64("one", 1), LOG_TEXT("two", "2"), LOG_BOOL("b", 1));
    }
    log_finish();
    capture_end(&capture, &out);

    unsigned cut = 0;
    unsigned whole = 0;
    for (char *line = out.ptr; *line;) {
        size_t len = strcspn(line, "\n");
        assert_true(len < LOG_LINE_BYTES_MAX);
        line[len] = '\0';
        /* Its end is a whole field's, with or without the mark. */
        bool is_cut = strcmp(line + len - 12, ",\"cut\":true}") == 0;
        bool is_whole = strcmp(line + len - 9, "\"b\":true}") == 0;
        assert_true(is_cut || is_whole);
        cut += is_cut;
        whole += is_whole;
        unsigned quotes = 0;
        for (size_t i = 0; i < len; i++)
            quotes += line[i] == '"';
        assert_int_equal(quotes % 2, 0);
        line += len + 1;
    }
    assert_true(cut > 0);
    assert_true(whole > 0);
    assert_int_equal(cut + whole, 50);
}

struct reader {
    int fd;
    struct buf *out;
};

static void *reader_run(void *arg)
{
    struct reader *reader = arg;
    read_to_end(reader->fd, reader->out);
    return NULL;
}

static void test_a_full_ring_drops_and_counts(void **state)
{
    (void) state;
    auto_buf out = BUF_INIT(CAPTURE_BYTES_MAX);
    int saved = dup(STDERR_FILENO);
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    stderr_become(ends[1]);
    fd_close(ends[1]);
    log_init(LOG_FORMAT_JSON);
    uint64_t before = log_dropped_count();
    char value[900];
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    /* Nobody reads: the pipe (64 KiB) and the ring fill, and logging goes on at once. */
    const unsigned lines = 3 * LOG_RING_BYTES / 900;
    for (unsigned i = 0; i < lines; i++)
        log_event(LOG_INFO, "filler", LOG_TEXT("v", value));
    uint64_t dropped = log_dropped_count() - before;

    struct reader reader = {ends[0], &out};
    pthread_t thread;
    int started = pthread_create(&thread, NULL, reader_run, &reader);
    /* Room again: the loss is said before the next line. */
    usleep(200 * 1000);
    log_event(LOG_INFO, "after the flood");
    log_finish();
    stderr_become(saved); /* closes the pipe's last writing end: the reader ends */
    assert_int_equal(started, 0);
    pthread_join(thread, NULL);
    fd_close(saved);
    fd_close(ends[0]);

    assert_in_range(dropped, lines / 2, lines);
    char expected[128];
    (void) snprintf(expected, sizeof(expected),
                    "\"message\":\"log lines were dropped: stderr is too slow\",\"lines\":%llu}",
                    (unsigned long long) dropped);
    const char *said = strstr(out.ptr, expected);
    assert_non_null(said);
    assert_non_null(strstr(said, "after the flood"));
    unsigned fillers = 0;
    for (const char *at = strstr(out.ptr, "filler"); at; at = strstr(at + 1, "filler"))
        fillers++;
    assert_int_equal(fillers + dropped, lines);
    assert_int_equal(log_dropped_count() - before, dropped);
}

static void *log_many(void *arg)
{
    for (unsigned i = 0; i < 500; i++)
        log_event(LOG_INFO, "line", LOG_U64("thread", *(unsigned *) arg), LOG_U64("i", i));
    return NULL;
}

static void test_threads_do_not_mix_lines(void **state)
{
    (void) state;
    enum { THREADS = 4 };
    auto_buf out = BUF_INIT(CAPTURE_BYTES_MAX);
    struct capture capture = capture_begin();
    log_init(LOG_FORMAT_JSON);
    pthread_t threads[THREADS];
    unsigned numbers[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, &numbers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    log_finish();
    capture_end(&capture, &out);

    unsigned next[THREADS] = {0};
    unsigned lines = 0;
    for (const char *line = out.ptr; *line; line = strchr(line, '\n') + 1, lines++) {
        unsigned thread;
        unsigned i;
        assert_int_equal(sscanf(after_json_time(line),
                                ",\"level\":\"info\",\"message\":\"line\",\"thread\":%u,\"i\":%u}", &thread, &i),
                         2);
        assert_true(thread < THREADS);
        assert_int_equal(i, next[thread]++);
    }
    assert_int_equal(lines, THREADS * 500);
}

static void test_finish_does_not_wait_for_a_stuck_stderr(void **state)
{
    (void) state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) != 0 || dup2(ends[1], STDERR_FILENO) < 0)
            _exit(2);
        log_init(LOG_FORMAT_JSON);
        for (unsigned i = 0; i < 2000; i++)
            log_event(LOG_INFO, "a line that fills the pipe, which nobody reads");
        alarm(20);
        log_finish();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_line),
        cmocka_unit_test(test_text_line),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_escaping),
        cmocka_unit_test(test_before_init_and_after_finish_lines_are_written_at_once),
        cmocka_unit_test(test_long_values_are_shortened),
        cmocka_unit_test(test_a_cut_line_stays_valid),
        cmocka_unit_test(test_a_full_ring_drops_and_counts),
        cmocka_unit_test(test_threads_do_not_mix_lines),
        cmocka_unit_test(test_finish_does_not_wait_for_a_stuck_stderr),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

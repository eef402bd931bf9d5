#include "http/body_pipe.h"

#include <pthread.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_takes_what_fits_and_wraps(void **state)
{
    struct body_pipe ring;
    (void) state;
    assert_true(body_pipe_init(&ring, 8));
    assert_int_equal(body_pipe_write(&ring, "abcdef", 6), 6);
    assert_int_equal(body_pipe_room(&ring), 2);
    assert_true(str_equal(body_pipe_peek(&ring), STR("abcdef")));
    body_pipe_consume(&ring, 4);
    assert_int_equal(body_pipe_write(&ring, "ghijklm", 7), 6);
    assert_int_equal(body_pipe_room(&ring), 0);
    assert_int_equal(body_pipe_write(&ring, "x", 1), 0);
    assert_true(str_equal(body_pipe_peek(&ring), STR("efgh")));
    body_pipe_consume(&ring, 4);
    assert_true(str_equal(body_pipe_peek(&ring), STR("ijkl")));
    body_pipe_consume(&ring, 4);
    assert_int_equal(body_pipe_used(&ring), 0);
    assert_int_equal(body_pipe_peek(&ring).len, 0);
    body_pipe_free(&ring);
}

#define STREAM_BYTES ((size_t) 3 * 1000 * 1000)

static unsigned char stream_byte(size_t i)
{
    return (unsigned char) (i * 31 + i / 251);
}

static void *stream_writer(void *arg)
{
    struct body_pipe *ring = arg;
    unsigned char chunk[701];

    for (size_t done = 0; done < STREAM_BYTES;) {
        size_t len = STREAM_BYTES - done < sizeof(chunk) ? STREAM_BYTES - done : sizeof(chunk);
        for (size_t i = 0; i < len; i++)
            chunk[i] = stream_byte(done + i);
        for (size_t sent = 0; sent < len;)
            sent += body_pipe_write(ring, chunk + sent, len - sent);
        done += len;
    }
    return NULL;
}

static void test_carries_bytes_between_two_threads(void **state)
{
    struct body_pipe ring;
    pthread_t writer;
    size_t wrong = 0;

    (void) state;
    assert_true(body_pipe_init(&ring, 4096));
    assert_int_equal(pthread_create(&writer, NULL, stream_writer, &ring), 0);
    for (size_t done = 0; done < STREAM_BYTES;) {
        struct str run = body_pipe_peek(&ring);
        for (size_t i = 0; i < run.len; i++)
            wrong += (unsigned char) run.ptr[i] != stream_byte(done + i);
        body_pipe_consume(&ring, run.len);
        done += run.len;
    }
    pthread_join(writer, NULL);
    assert_int_equal(wrong, 0);
    assert_int_equal(body_pipe_used(&ring), 0);
    body_pipe_free(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_what_fits_and_wraps),
        cmocka_unit_test(test_carries_bytes_between_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

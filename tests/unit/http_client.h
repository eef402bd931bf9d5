/*
 * An HTTP client for tests: bytes over a socket, and answers with a Content-Length. What takes longer than
 * CLIENT_PATIENCE_MS fails the test.
 */
#ifndef ORLOP_TESTS_UNIT_HTTP_CLIENT_H
#define ORLOP_TESTS_UNIT_HTTP_CLIENT_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"

#define CLIENT_PATIENCE_MS 10000
#define CLIENT_ANSWER_BYTES_MAX ((size_t) 16 * 1024 * 1024)

struct client {
    int fd;
    struct buf in; /* what came and was not read by client_read yet */
};

struct answer {
    int status;
    struct buf head;
    struct buf body;
};

void wait_for(bool (*condition)(void));

void client_open(unsigned port, struct client *client);
void client_close(struct client *client);
void client_send(struct client *client, const char *bytes, size_t len);
void client_text(struct client *client, const char *text);
/* Receive more. false: the server closed; a reset fails the test. */
bool client_more(struct client *client);
/* Read one answer. false: the connection ended before one was complete; the body is then what came of it. */
bool client_read(struct client *client, struct answer *answer, bool is_head);

void answer_free(struct answer *answer);
/* A header's value in the answer; "" when it is not there. Valid until the next call. */
const char *answer_header(const struct answer *answer, const char *name);

void assert_status(struct client *client, int status);
void assert_closed(struct client *client);

#endif

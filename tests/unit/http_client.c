#include "http_client.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void wait_for(bool (*condition)(void))
{
    for (uint64_t until = clock_monotonic_ms() + CLIENT_PATIENCE_MS; !condition();) {
        assert_true(clock_monotonic_ms() < until);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

void client_open(unsigned port, struct client *client)
{
    const struct timeval patience = {.tv_sec = CLIENT_PATIENCE_MS / 1000};
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t) port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    client->in = BUF_INIT(CLIENT_ANSWER_BYTES_MAX);
    assert_true(client->fd >= 0);
    (void) setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    (void) setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    assert_int_equal(connect(client->fd, (const struct sockaddr *) &address, sizeof(address)), 0);
}

void client_close(struct client *client)
{
    close(client->fd);
    buf_free(&client->in);
}

void client_send(struct client *client, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(client->fd, bytes, len, MSG_NOSIGNAL);
        assert_true(n > 0);
        bytes += n;
        len -= (size_t) n;
    }
}

void client_text(struct client *client, const char *text)
{
    client_send(client, text, strlen(text));
}

bool client_more(struct client *client)
{
    assert_true(buf_reserve(&client->in, 64 * 1024));
    ssize_t n = recv(client->fd, client->in.ptr + client->in.len, 64 * 1024, 0);
    assert_true(n >= 0);
    client->in.len += (size_t) n;
    return n > 0;
}

static void client_drop(struct client *client, size_t len)
{
    memmove(client->in.ptr, client->in.ptr + len, client->in.len - len);
    client->in.len -= len;
}

void answer_free(struct answer *answer)
{
    buf_free(&answer->head);
    buf_free(&answer->body);
}

const char *answer_header(const struct answer *answer, const char *name)
{
    static char value[1024];
    char line[128];
    (void) snprintf(line, sizeof(line), "\r\n%s: ", name);
    const char *at = strcasestr(answer->head.ptr, line);
    value[0] = '\0';
    if (at) {
        at += strlen(line);
        (void) snprintf(value, sizeof(value), "%.*s", (int) strcspn(at, "\r"), at);
    }
    return value;
}

bool client_read(struct client *client, struct answer *answer, bool is_head)
{
    char *end;
    *answer = (struct answer){.head = BUF_INIT(64 * 1024), .body = BUF_INIT(CLIENT_ANSWER_BYTES_MAX)};
    while (client->in.len == 0 || !(end = memmem(client->in.ptr, client->in.len, "\r\n\r\n", 4))) {
        if (!client_more(client))
            return false;
    }
    size_t head = (size_t) (end - client->in.ptr) + 4;
    assert_true(buf_append(&answer->head, client->in.ptr, head));
    client_drop(client, head);
    assert_int_equal(sscanf(answer->head.ptr, "HTTP/1.1 %d ", &answer->status), 1);
    size_t len = is_head ? 0 : (size_t) strtoull(answer_header(answer, "Content-Length"), NULL, 10);
    while (client->in.len < len) {
        if (client_more(client))
            continue;
        assert_true(buf_append(&answer->body, client->in.ptr, client->in.len));
        client->in.len = 0;
        return false;
    }
    assert_true(buf_append(&answer->body, client->in.ptr ? client->in.ptr : "", len));
    client_drop(client, len);
    return true;
}

void assert_closed(struct client *client)
{
    while (client_more(client))
        ;
    assert_int_equal(client->in.len, 0);
}

void assert_status(struct client *client, int status)
{
    struct answer answer;
    assert_true(client_read(client, &answer, false));
    assert_int_equal(answer.status, status);
    answer_free(&answer);
}

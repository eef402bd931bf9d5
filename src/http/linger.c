#include "http/linger.h"

#include "base/cleanup.h"

#include <stdbool.h>
#include <sys/socket.h>

#define READ_BYTES ((size_t) 64 * 1024)
#define READS_A_TURN 64

void linger_add(struct linger_list *list, int fd, uint64_t until_ms)
{
    if (list->count == LINGER_SOCKETS_MAX) {
        fd_close(fd);
        return;
    }
    list->sockets[list->count++] =
        (struct linger_socket){.fd = fd, .until_ms = until_ms, .bytes_left = LINGER_BYTES_MAX};
}

/* Read for one turn. false: the client has closed, or sent too much. */
static bool linger_drop(struct linger_socket *lingering)
{
    char dropped[READ_BYTES];

    for (int i = 0; i < READS_A_TURN && lingering->bytes_left > 0; i++) {
        ssize_t n = recv(lingering->fd, dropped, sizeof(dropped), MSG_DONTWAIT);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        if (n == 0)
            return false;
        lingering->bytes_left -= (uint64_t) n < lingering->bytes_left ? (uint64_t) n : lingering->bytes_left;
    }
    return lingering->bytes_left > 0;
}

void linger_run(struct linger_list *list, uint64_t now_ms)
{
    for (size_t i = 0; i < list->count;) {
        struct linger_socket *lingering = &list->sockets[i];
        if (now_ms < lingering->until_ms && linger_drop(lingering)) {
            i++;
            continue;
        }
        fd_close(lingering->fd);
        *lingering = list->sockets[--list->count];
    }
}

void linger_close_all(struct linger_list *list)
{
    while (list->count > 0)
        fd_close(list->sockets[--list->count].fd);
}

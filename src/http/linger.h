/*
 * Sockets that were answered while their client still sent. Closing them at once would make the kernel send a reset,
 * which can destroy the answer before the client reads it; so what comes is read and dropped until the client closes,
 * a time is over, or LINGER_BYTES_MAX came. Threads: owned by one network thread.
 */
#ifndef ORLOP_HTTP_LINGER_H
#define ORLOP_HTTP_LINGER_H

#include <stddef.h>
#include <stdint.h>

#define LINGER_SOCKETS_MAX 256 /* a thread; beyond it sockets are just closed */
#define LINGER_BYTES_MAX ((uint64_t) 64 * 1024 * 1024)

struct linger_list {
    size_t count;
    struct linger_socket {
        int fd;
        uint64_t until_ms;
        uint64_t bytes_left;
    } sockets[LINGER_SOCKETS_MAX];
};

/* Take the socket. */
void linger_add(struct linger_list *list, int fd, uint64_t until_ms);
/* Drop what came, close what is over. */
void linger_run(struct linger_list *list, uint64_t now_ms);
void linger_close_all(struct linger_list *list);

#endif

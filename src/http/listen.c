#include "http/listen.h"

#include "base/buf.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#define HOST_BYTES_MAX 256
#define BACKLOG 1024

/* Split at the last colon; brackets around the address are dropped. false: not of that form. */
static bool listen_split(const char *where, char host[HOST_BYTES_MAX], char port[8])
{
    const char *colon = strrchr(where, ':');
    if (!colon)
        return false;
    struct str address = {where, (size_t) (colon - where)};
    uint64_t number;
    if (!str_parse_u64(str_from(colon + 1), &number) || number > UINT16_MAX)
        return false;
    if (address.len >= 2 && address.ptr[0] == '[' && address.ptr[address.len - 1] == ']')
        address = (struct str){address.ptr + 1, address.len - 2};
    else if (address.len > 0 && memchr(address.ptr, ':', address.len))
        return false;
    if (address.len >= HOST_BYTES_MAX)
        return false;
    memcpy(host, address.ptr, address.len);
    host[address.len] = '\0';
    (void) snprintf(port, 8, "%u", (unsigned) number);
    return true;
}

static int listen_try(const struct addrinfo *address)
{
    const int on = 1;
    auto_fd fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    (void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0)
        return -1;
    return TAKE_FD(fd);
}

static unsigned listen_port(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);
    if (getsockname(fd, (struct sockaddr *) &address, &len) != 0)
        return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *) (const void *) &address)->sin6_port);
    return ntohs(((const struct sockaddr_in *) (const void *) &address)->sin_port);
}

enum err_code listen_open(const char *where, int *out_fd, unsigned *out_port, struct err *err)
{
    /* All addresses: IPv6's any takes IPv4 too, where there is IPv6; getaddrinfo lists IPv4 first. */
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char host[HOST_BYTES_MAX];
    char port[8];

    if (!listen_split(where, host, port))
        return err_set(err, ERR_INVALID, "'%s' is no address to listen on: write ADDRESS:PORT or [IPv6]:PORT", where);
    int failed = getaddrinfo(host[0] ? host : NULL, port, &hints, &found);
    if (failed)
        return err_set(err, ERR_INVALID, "cannot listen on '%s': %s", where, gai_strerror(failed));

    int fd = -1;
    for (int family = host[0] ? AF_UNSPEC : AF_INET6; fd < 0; family = AF_UNSPEC) {
        for (const struct addrinfo *address = found; address && fd < 0; address = address->ai_next) {
            if (family == AF_UNSPEC || address->ai_family == family)
                fd = listen_try(address);
        }
        if (family == AF_UNSPEC)
            break;
    }
    int saved = errno;
    freeaddrinfo(found);
    if (fd < 0)
        return err_set(err, ERR_INVALID, "cannot listen on '%s': %s%s", where, strerror(saved),
                       saved == EADDRINUSE ? ": stop what does, or choose another with --listen or --admin-listen"
                                           : "");
    *out_fd = fd;
    *out_port = listen_port(fd);
    return ERR_OK;
}

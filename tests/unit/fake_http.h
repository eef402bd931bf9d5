/*
 * A scripted HTTP server for tests: answers, or misbehaves, step by step, and remembers what it was asked.
 *
 *     static const struct fake_step steps[] = {{.how = FAKE_RESET}, {.status = "200 OK", .body = "hello"}};
 *     struct fake *fake = fake_start(steps, 2);
 *     … requests to http://127.0.0.1:fake->port …
 *     fake_stop(fake);
 *
 * Each request takes the next step; beyond the last it is answered 599. One thread a connection.
 */
#ifndef ORLOP_TESTS_FAKE_HTTP_H
#define ORLOP_TESTS_FAKE_HTTP_H

#include "base/buf.h"

#include <arpa/inet.h>
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#define FAKE_REQUESTS_MAX 64
#define FAKE_CONNECTIONS_MAX 64
#define FAKE_HEAD_BYTES_MAX 65536
#define FAKE_BODY_BYTES_MAX (64 * 1024 * 1024)

enum fake_how {
    FAKE_ANSWER,
    FAKE_ANSWER_AND_CLOSE, /* without having said so */
    FAKE_RESET,            /* the request was read; a reset instead of an answer */
    FAKE_RESET_EARLY,      /* the request's head was read, its body was not */
    FAKE_CUT,              /* the answer's head and sent_bytes of its body, then the end */
    FAKE_SILENCE,          /* the request was read; nothing until the client hangs up */
};

struct fake_step {
    enum fake_how how;
    const char *status;  /* "200 OK" */
    const char *headers; /* "Name: value\r\n…", or NULL */
    const char *body;    /* or NULL */
    size_t body_bytes;   /* 0: strlen(body) */
    size_t sent_bytes;   /* for FAKE_CUT */
    unsigned delay_ms;   /* before the answer */
};

struct fake_request {
    char head[FAKE_HEAD_BYTES_MAX];
    struct buf body;
};

struct fake {
    uint16_t port;
    char url[64];
    const struct fake_step *steps;
    size_t step_count;
    int listener;
    pthread_t acceptor;
    pthread_mutex_t mutex;
    /* by mutex */
    size_t request_count;
    struct fake_request *requests[FAKE_REQUESTS_MAX];
    size_t connection_count;
    int connections[FAKE_CONNECTIONS_MAX];
    pthread_t threads[FAKE_CONNECTIONS_MAX];
};

struct fake_connection {
    struct fake *fake;
    int fd;
};

static inline void fake_sleep_ms(unsigned ms)
{
    struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = (long) (ms % 1000) * 1000000};
    (void) nanosleep(&wait, NULL);
}

static inline bool fake_send(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        bytes += sent;
        len -= (size_t) sent;
    }
    return true;
}

/* The value of a header in a request's head, or NULL; good until the next call of the same thread. */
static inline const char *fake_header(const struct fake_request *request, const char *name)
{
    static __thread char value[FAKE_HEAD_BYTES_MAX];
    size_t name_len = strlen(name);
    for (const char *line = strchr(request->head, '\n'); line; line = strchr(line + 1, '\n')) {
        if (strncasecmp(line + 1, name, name_len) != 0 || line[1 + name_len] != ':')
            continue;
        const char *text = line + 2 + name_len;
        text += *text == ' ';
        (void) snprintf(value, sizeof(value), "%.*s", (int) strcspn(text, "\r\n"), text);
        return value;
    }
    return NULL;
}

static inline bool fake_read_head(int fd, struct fake_request *request)
{
    size_t len = 0;
    while (len < sizeof(request->head) - 1) {
        if (recv(fd, request->head + len, 1, 0) != 1)
            return false;
        request->head[++len] = '\0';
        if (len >= 4 && memcmp(request->head + len - 4, "\r\n\r\n", 4) == 0)
            return true;
    }
    return false;
}

static inline bool fake_read_body(int fd, struct fake_request *request)
{
    const char *length = fake_header(request, "content-length");
    size_t left = length ? (size_t) strtoull(length, NULL, 10) : 0;
    while (left > 0) {
        char chunk[65536];
        ssize_t got = recv(fd, chunk, left < sizeof(chunk) ? left : sizeof(chunk), 0);
        if (got <= 0 || !buf_append(&request->body, chunk, (size_t) got))
            return false;
        left -= (size_t) got;
    }
    return true;
}

/* A reset, not an orderly end; the descriptor itself is closed by fake_stop. */
static inline void fake_reset(int fd)
{
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    (void) connect(fd, &nobody, sizeof(nobody));
}

/* Do what the step says. false: the connection has ended. */
static inline bool fake_act(int fd, const struct fake_step *step, bool is_head)
{
    size_t body_bytes = step->body_bytes ? step->body_bytes : step->body ? strlen(step->body) : 0;
    char head[4096];
    char unused;
    if (step->delay_ms)
        fake_sleep_ms(step->delay_ms);
    if (step->how == FAKE_RESET || step->how == FAKE_RESET_EARLY) {
        fake_reset(fd);
        return false;
    }
    if (step->how == FAKE_SILENCE) {
        while (recv(fd, &unused, 1, 0) > 0)
            ;
        return false;
    }
    bool has_length =
        (step->headers && strcasestr(step->headers, "content-length:")) || strncmp(step->status, "204", 3) == 0;
    int len = snprintf(head, sizeof(head), "HTTP/1.1 %s\r\n%s", step->status, step->headers ? step->headers : "");
    if (!has_length)
        len += snprintf(head + len, sizeof(head) - (size_t) len, "Content-Length: %zu\r\n", body_bytes);
    len += snprintf(head + len, sizeof(head) - (size_t) len, "\r\n");
    if (!fake_send(fd, head, (size_t) len))
        return false;
    size_t sent = step->how == FAKE_CUT ? step->sent_bytes : body_bytes;
    if (!is_head && sent > 0 && !fake_send(fd, step->body, sent))
        return false;
    if (step->how != FAKE_ANSWER)
        (void) shutdown(fd, SHUT_RDWR);
    return step->how == FAKE_ANSWER;
}

static inline void *fake_serve(void *arg)
{
    struct fake_connection connection = *(struct fake_connection *) arg;
    struct fake *fake = connection.fake;
    free(arg);
    for (bool open = true; open;) {
        static const struct fake_step beyond = {.status = "599 Beyond The Script"};
        struct fake_request *request = calloc(1, sizeof(*request));
        assert(request);
        request->body = BUF_INIT(FAKE_BODY_BYTES_MAX);
        if (!fake_read_head(connection.fd, request)) {
            free(request);
            break;
        }
        pthread_mutex_lock(&fake->mutex);
        size_t number = fake->request_count++;
        const struct fake_step *step = number < fake->step_count ? &fake->steps[number] : &beyond;
        assert(number < FAKE_REQUESTS_MAX);
        fake->requests[number] = request;
        pthread_mutex_unlock(&fake->mutex);
        if (step->how != FAKE_RESET_EARLY && !fake_read_body(connection.fd, request))
            break;
        open = fake_act(connection.fd, step, strncmp(request->head, "HEAD ", 5) == 0);
    }
    (void) shutdown(connection.fd, SHUT_RDWR);
    return NULL;
}

static inline void *fake_accept(void *arg)
{
    struct fake *fake = arg;
    for (;;) {
        int fd = accept(fake->listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        struct fake_connection *connection = malloc(sizeof(*connection));
        assert(connection);
        *connection = (struct fake_connection){fake, fd};
        pthread_mutex_lock(&fake->mutex);
        size_t number = fake->connection_count++;
        assert(number < FAKE_CONNECTIONS_MAX);
        fake->connections[number] = fd;
        int failed = pthread_create(&fake->threads[number], NULL, fake_serve, connection);
        assert(failed == 0);
        (void) failed;
        pthread_mutex_unlock(&fake->mutex);
    }
}

static inline struct fake *fake_start(const struct fake_step *steps, size_t count)
{
    struct fake *fake = calloc(1, sizeof(*fake));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    assert(fake);
    fake->steps = steps;
    fake->step_count = count;
    fake->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int failed = bind(fake->listener, (struct sockaddr *) &address, len) || listen(fake->listener, 64) ||
                 getsockname(fake->listener, (struct sockaddr *) &address, &len) ||
                 pthread_mutex_init(&fake->mutex, NULL) || pthread_create(&fake->acceptor, NULL, fake_accept, fake);
    assert(!failed);
    (void) failed;
    fake->port = ntohs(address.sin_port);
    (void) snprintf(fake->url, sizeof(fake->url), "http://127.0.0.1:%u", fake->port);
    return fake;
}

static inline size_t fake_request_count(struct fake *fake)
{
    pthread_mutex_lock(&fake->mutex);
    size_t count = fake->request_count;
    pthread_mutex_unlock(&fake->mutex);
    return count;
}

static inline size_t fake_connection_count(struct fake *fake)
{
    pthread_mutex_lock(&fake->mutex);
    size_t count = fake->connection_count;
    pthread_mutex_unlock(&fake->mutex);
    return count;
}

static inline struct fake_request *fake_request(struct fake *fake, size_t number)
{
    pthread_mutex_lock(&fake->mutex);
    struct fake_request *request = number < fake->request_count ? fake->requests[number] : NULL;
    pthread_mutex_unlock(&fake->mutex);
    assert(request);
    return request;
}

static inline void fake_stop(struct fake *fake)
{
    (void) shutdown(fake->listener, SHUT_RDWR);
    pthread_join(fake->acceptor, NULL);
    close(fake->listener);
    for (size_t i = 0; i < fake->connection_count; i++)
        (void) shutdown(fake->connections[i], SHUT_RDWR);
    for (size_t i = 0; i < fake->connection_count; i++) {
        pthread_join(fake->threads[i], NULL);
        close(fake->connections[i]);
    }
    for (size_t i = 0; i < fake->request_count; i++) {
        buf_free(&fake->requests[i]->body);
        free(fake->requests[i]);
    }
    pthread_mutex_destroy(&fake->mutex);
    free(fake);
}

#endif

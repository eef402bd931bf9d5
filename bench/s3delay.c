/*
 * A proxy between a registry and its object store, for the benchmarks: it counts every request and makes each one wait.
 *
 *     s3delay PORT STORE_PORT [DELAY_MS]
 *
 * listens on 127.0.0.1:PORT and passes on to 127.0.0.1:STORE_PORT. One thread a connection, which has a connection of
 * its own to the store; bodies go by splice(2) and are never copied here. What comes on stdin steers it, a line each:
 *
 *     delay MS     every request from now on waits that long before it is passed on
 *     count        one line of JSON: for each operation the requests, bytes of bodies up and down; then all begin at 0
 *
 * The end of stdin ends it. What it cannot make sense of closes the connection and is counted as "error".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    head_bytes_max = 64 * 1024,
    piece_bytes = 1024 * 1024, // of the pipe between two sockets
    stack_bytes = 512 * 1024,  // three heads
    backlog = 4096,
};

enum operation {
    OP_GET_OBJECT,
    OP_HEAD_OBJECT,
    OP_PUT_OBJECT,
    OP_COPY_OBJECT,
    OP_DELETE_OBJECT,
    OP_DELETE_OBJECTS,
    OP_LIST_OBJECTS,
    OP_CREATE_UPLOAD,
    OP_UPLOAD_PART,
    OP_COPY_PART,
    OP_COMPLETE_UPLOAD,
    OP_ABORT_UPLOAD,
    OP_LIST_PARTS,
    OP_LIST_UPLOADS,
    OP_OTHER,
    OP_ERROR,
    OP_COUNT,
};

static const char *const operation_names[OP_COUNT] = {
    "GetObject",   "HeadObject",   "PutObject",  "CopyObject",     "DeleteObject",   "DeleteObjects",
    "ListObjects", "CreateUpload", "UploadPart", "UploadPartCopy", "CompleteUpload", "AbortUpload",
    "ListParts",   "ListUploads",  "other",      "error",
};

struct count {
    atomic_ullong requests, bytes_up, bytes_down;
};

static struct count counts[OP_COUNT];
static atomic_uint delay_ms;
static struct sockaddr_in store_address;

// One direction of a connection: a socket and what has been read from it beyond what was used.
struct side {
    int fd;
    size_t used; // of buffer
    char buffer[head_bytes_max];
};

struct link {
    struct side client, store;
    int pipe[2];
    bool failed; // what was being done when a socket broke is not to be counted as an answer
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

// ---- moving bytes ----

static bool write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        data += sent;
        size -= (size_t) sent;
    }
    return true;
}

// The first size bytes of the buffer are done with.
static void use(struct side *side, size_t size)
{
    memmove(side->buffer, side->buffer + size, side->used - size);
    side->used -= size;
}

static bool fill(struct side *side)
{
    if (side->used == sizeof side->buffer)
        return false;
    ssize_t got;
    do
        got = recv(side->fd, side->buffer + side->used, sizeof side->buffer - side->used, 0);
    while (got < 0 && errno == EINTR);
    if (got <= 0)
        return false;
    side->used += (size_t) got;
    return true;
}

// size bytes of a body; when the other side no longer takes them they are still read, as its answer is yet to come.
static bool pass_bytes(struct link *link, struct side *from, struct side *to, uint64_t size, bool *taken)
{
    size_t first = from->used < size ? from->used : (size_t) size;
    if (first && *taken)
        *taken = write_all(to->fd, from->buffer, first);
    use(from, first);
    for (uint64_t left = size - first; left;) {
        if (!*taken)
            return false;
        size_t want = left < piece_bytes ? (size_t) left : piece_bytes;
        ssize_t got = splice(from->fd, NULL, link->pipe[1], NULL, want, SPLICE_F_MOVE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        left -= (uint64_t) got;
        while (got) {
            ssize_t sent =
                splice(link->pipe[0], NULL, to->fd, NULL, (size_t) got, SPLICE_F_MOVE | (left ? SPLICE_F_MORE : 0));
            if (sent < 0 && errno == EINTR)
                continue;
            if (sent <= 0)
                return *taken = false;
            got -= sent;
        }
    }
    return true;
}

// The bytes up to and with end, which must fit the buffer; 0: the connection ended.
static size_t find(struct side *side, const char *end)
{
    for (;;) {
        char *at = memmem(side->buffer, side->used, end, strlen(end));
        if (at)
            return (size_t) (at - side->buffer) + strlen(end);
        if (!fill(side))
            return 0;
    }
}

static bool pass_chunks(struct link *link, struct side *from, struct side *to, bool *taken, uint64_t *passed)
{
    for (;;) {
        size_t line = find(from, "\r\n");
        if (!line)
            return false;
        uint64_t size = strtoull(from->buffer, NULL, 16);
        if (!write_all(to->fd, from->buffer, line))
            return false;
        use(from, line);
        if (size == 0)
            break;
        *passed += size;
        if (!pass_bytes(link, from, to, size + 2, taken))
            return false;
    }
    for (;;) { // trailers, up to an empty line
        size_t line = find(from, "\r\n");
        if (!line || !write_all(to->fd, from->buffer, line))
            return false;
        use(from, line);
        if (line == 2)
            return true;
    }
}

// ---- heads ----

// The value of a field, copied; false: it is not there.
static bool field(const char *head, size_t size, const char *name, char *value, size_t value_size)
{
    size_t name_length = strlen(name);
    const char *end = head + size;
    for (const char *line = head; line < end;) {
        const char *next = memmem(line, (size_t) (end - line), "\r\n", 2);
        if (!next)
            return false;
        if ((size_t) (next - line) > name_length && line[name_length] == ':' &&
            strncasecmp(line, name, name_length) == 0) {
            const char *begin = line + name_length + 1;
            while (begin < next && *begin == ' ')
                begin++;
            size_t length = (size_t) (next - begin);
            if (length >= value_size)
                length = value_size - 1;
            memcpy(value, begin, length);
            value[length] = 0;
            return true;
        }
        line = next + 2;
    }
    return false;
}

static bool has_parameter(const char *query, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = query; (at = strstr(at, name)); at += length) {
        bool begins = at == query || at[-1] == '&';
        bool ends = at[length] == 0 || at[length] == '=' || at[length] == '&';
        if (begins && ends)
            return true;
    }
    return false;
}

static enum operation operation_of(const char *method, char *target, bool copies)
{
    char *query = strchr(target, '?');
    if (query)
        *query++ = 0;
    else
        query = target + strlen(target);
    const char *key = strchr(target + 1, '/'); // after the bucket
    bool has_key = key && key[1];
    bool get = strcmp(method, "GET") == 0, put = strcmp(method, "PUT") == 0, post = strcmp(method, "POST") == 0;
    bool delete = strcmp(method, "DELETE") == 0;
    if (has_parameter(query, "uploadId")) {
        if (put)
            return copies ? OP_COPY_PART : OP_UPLOAD_PART;
        return post ? OP_COMPLETE_UPLOAD : delete ? OP_ABORT_UPLOAD : get ? OP_LIST_PARTS : OP_OTHER;
    }
    if (has_parameter(query, "uploads"))
        return post ? OP_CREATE_UPLOAD : OP_LIST_UPLOADS;
    if (post && has_parameter(query, "delete"))
        return OP_DELETE_OBJECTS;
    if (get)
        return has_key ? OP_GET_OBJECT : OP_LIST_OBJECTS;
    if (!has_key)
        return OP_OTHER;
    if (put)
        return copies ? OP_COPY_OBJECT : OP_PUT_OBJECT;
    return delete ? OP_DELETE_OBJECT : strcmp(method, "HEAD") == 0 ? OP_HEAD_OBJECT : OP_OTHER;
}

static bool body_of(struct link *link, struct side *from, struct side *to, const char *head, size_t size, bool *taken,
                    uint64_t *passed)
{
    char value[64];
    if (field(head, size, "Transfer-Encoding", value, sizeof value) && strcasestr(value, "chunked")) {
        return pass_chunks(link, from, to, taken, passed);
    }
    if (!field(head, size, "Content-Length", value, sizeof value))
        return true;
    *passed = strtoull(value, NULL, 10);
    return *passed == 0 || pass_bytes(link, from, to, *passed, taken);
}

// ---- a request and its answer ----

// The heads of answers up to one that is not 100 Continue; its body too. false: the connection cannot go on.
static bool answer(struct link *link, bool without_body, bool interim, int *status, uint64_t *down)
{
    char head[head_bytes_max];
    size_t size = find(&link->store, "\r\n\r\n");
    if (!size || sscanf(link->store.buffer, "HTTP/1.%*d %d", status) != 1)
        return false;
    memcpy(head, link->store.buffer, size);
    use(&link->store, size);
    if (!write_all(link->client.fd, head, size))
        return false;
    if (*status == 100)
        return interim || answer(link, without_body, interim, status, down);
    bool taken = true;
    if (!without_body && *status != 204 && *status != 304 &&
        !body_of(link, &link->store, &link->client, head, size, &taken, down)) {
        return false;
    }
    char value[64];
    return !(field(head, size, "Connection", value, sizeof value) && strcasestr(value, "close"));
}

static void wait_delay(void)
{
    unsigned ms = atomic_load(&delay_ms);
    if (!ms)
        return;
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    while (nanosleep(&left, &left) && errno == EINTR) {}
}

static bool exchange(struct link *link)
{
    size_t size = find(&link->client, "\r\n\r\n");
    if (!size)
        return false;
    char head[head_bytes_max], method[16], target[8192], value[256];
    memcpy(head, link->client.buffer, size);
    use(&link->client, size);
    char line[sizeof method + sizeof target];
    const char *line_end = memmem(head, size, "\r\n", 2);
    snprintf(line, sizeof line, "%.*s", (int) (line_end - head), head);
    if (sscanf(line, "%15s %8191s", method, target) != 2)
        return false;
    bool copies = field(head, size, "x-amz-copy-source", value, sizeof value);
    struct count *count = &counts[operation_of(method, target, copies)];
    bool waits = field(head, size, "Expect", value, sizeof value) && strcasecmp(value, "100-continue") == 0;
    bool without_body = strcmp(method, "HEAD") == 0;

    wait_delay();
    uint64_t up = 0, down = 0;
    int status = 0;
    bool goes_on = write_all(link->store.fd, head, size), taken = true;
    if (goes_on && waits) {
        goes_on = answer(link, without_body, true, &status, &down);
        if (status != 100)
            goes_on = false; // refused before the body: whether the client sends it nobody knows
    }
    if (goes_on && !body_of(link, &link->client, &link->store, head, size, &taken, &up))
        goes_on = false;
    if (goes_on || !taken)
        goes_on = answer(link, without_body, false, &status, &down) && taken;
    atomic_fetch_add(&counts[status ? (size_t) (count - counts) : OP_ERROR].requests, 1);
    atomic_fetch_add(&count->bytes_up, up);
    atomic_fetch_add(&count->bytes_down, down);
    return goes_on;
}

static void *serve(void *argument)
{
    struct link *link = argument;
    int on = 1;
    setsockopt(link->client.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    link->store.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (link->store.fd >= 0 && pipe2(link->pipe, O_CLOEXEC) == 0) {
        fcntl(link->pipe[1], F_SETPIPE_SZ, piece_bytes);
        setsockopt(link->store.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(link->store.fd, (struct sockaddr *) &store_address, sizeof store_address) == 0) {
            while (exchange(link)) {}
        }
        close(link->pipe[0]);
        close(link->pipe[1]);
    }
    if (link->store.fd >= 0)
        close(link->store.fd);
    close(link->client.fd);
    free(link);
    return NULL;
}

static void *accept_all(void *argument)
{
    int listener = *(int *) argument;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, stack_bytes);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            die("s3delay: accept");
        }
        struct link *link = calloc(1, sizeof *link);
        if (!link)
            die("s3delay");
        link->client.fd = fd;
        pthread_t thread;
        if (pthread_create(&thread, &attributes, serve, link))
            die("s3delay: a thread");
    }
    return NULL;
}

static void print_counts(void)
{
    const char *separator = "";
    putchar('{');
    for (size_t i = 0; i < OP_COUNT; i++) {
        unsigned long long requests = atomic_exchange(&counts[i].requests, 0);
        unsigned long long up = atomic_exchange(&counts[i].bytes_up, 0),
                           down = atomic_exchange(&counts[i].bytes_down, 0);
        if (!requests && !up && !down)
            continue;
        printf("%s\"%s\": {\"requests\": %llu, \"up\": %llu, \"down\": %llu}", separator, operation_names[i], requests,
               up, down);
        separator = ", ";
    }
    puts("}");
    fflush(stdout);
}

/* A decimal number of at most `most`; anything else ends the program. */
static unsigned number(const char *text, unsigned most)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || value > most) {
        fprintf(stderr, "s3delay: %s is no number up to %u\n", text, most);
        exit(2);
    }
    return (unsigned) value;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fputs("s3delay PORT STORE_PORT [DELAY_MS]\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    store_address = address;
    address.sin_port = htons((uint16_t) number(argv[1], UINT16_MAX));
    store_address.sin_port = htons((uint16_t) number(argv[2], UINT16_MAX));
    if (argc > 3)
        atomic_store(&delay_ms, number(argv[3], 60000));

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (listener < 0)
        die("s3delay: socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *) &address, sizeof address) || listen(listener, backlog))
        die("s3delay: listen");
    pthread_t thread;
    if (pthread_create(&thread, NULL, accept_all, &listener))
        die("s3delay: a thread");
    puts("ready");
    fflush(stdout);

    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        unsigned ms;
        if (strcmp(line, "count\n") == 0) {
            print_counts();
        } else if (sscanf(line, "delay %u", &ms) == 1) {
            atomic_store(&delay_ms, ms);
            puts("ok");
            fflush(stdout);
        } else {
            fprintf(stderr, "s3delay: what is %s", line);
            return 2;
        }
    }
    return 0;
}

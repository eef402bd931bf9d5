#include "http/net.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/metrics.h"
#include "http/engine.h"
#include "http/exchange.h"
#include "http/net_priv.h"
#include "http/peers.h"
#include "http/reply.h"
#include "http/tls.h"

#include <assert.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#define LINGER_POLL_MS 10
/* What an idle connection holds is given back (pool_give_back). */
#define PAGE_BYTES ((uintptr_t) 4096)
#define POOL_MALLOC_BYTES_MAX ((size_t) 32 * 1024) /* the library maps pools larger than this */
#define POOL_FIRST_BYTES_MAX 2048                  /* a request line on the pool's first page came within these */
#define BODY_BLOCK_BYTES ((size_t) 128 * 1024)     /* of an answer that is not one file or one run of memory */
#define TLS_FILE_BYTES_MAX ((size_t) 1024 * 1024)

static struct net_connection *connection_of(struct MHD_Connection *mhd)
{
    return MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

static const struct sockaddr *connection_address(const struct net_connection *connection)
{
    return MHD_get_connection_info(connection->mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr;
}

void net_cut(struct net_connection *connection)
{
    (void) shutdown(connection->fd, SHUT_RDWR);
}

void net_close_when_silent(struct net_connection *connection)
{
    (void) MHD_set_connection_option(connection->mhd, MHD_CONNECTION_OPTION_TIMEOUT, 1u);
}

/* ---- what exchanges ask ---- */

const char *net_method(const struct net_connection *connection)
{
    return connection->method;
}

struct header_list {
    struct net_header *headers;
    size_t count;
};

static enum MHD_Result header_add(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len,
                                  const char *value, size_t value_len)
{
    struct header_list *list = cls;

    (void) kind;
    if (list->count < NET_HEADERS_MAX)
        list->headers[list->count] = (struct net_header){{name, name_len}, {value, value_len}};
    list->count++;
    return MHD_YES;
}

size_t net_headers(struct net_connection *connection, struct net_header *out)
{
    struct header_list list = {.headers = out};
    (void) MHD_get_connection_values_n(connection->mhd, MHD_HEADER_KIND, header_add, &list);
    return list.count;
}

size_t net_head_bytes(struct net_connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    return info ? info->header_size : 0;
}

/*
 * The library cuts its copy of the head with NULs and is lax about what it cuts. Its pieces lie where they came, so
 * what it passed over shows as a gap between them: a NUL of the client's, a folded line, a line without a name (which
 * ends the head for it, with headers still to come), a line that ends without CR.
 */
bool net_head_is_whole(struct net_connection *connection, const char *target, const struct net_header *headers,
                       size_t count)
{
    const char *at = connection->version + strlen(connection->version);
    if (connection->version != connection->uri + strlen(target) + 1)
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct net_header *header = &headers[i];
        if (header->name.ptr != at + 2 || header->value.ptr <= header->name.ptr + header->name.len ||
            memchr(header->value.ptr, '\r', header->value.len))
            return false;
        at = header->value.ptr + header->value.len;
    }
    return at + 4 == connection->method + net_head_bytes(connection);
}

bool net_is_http_1_0(const struct net_connection *connection)
{
    return strcmp(connection->version, "HTTP/1.0") == 0;
}

void net_peer(const struct net_connection *connection, char out[NET_PEER_TEXT_BYTES])
{
    const struct sockaddr *address = connection_address(connection);
    socklen_t len = address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getnameinfo(address, len, out, NET_PEER_TEXT_BYTES, NULL, 0, NI_NUMERICHOST) != 0)
        out[0] = '\0';
}

void net_set_phase(struct net_connection *connection, enum net_phase phase)
{
    uint64_t now = clock_monotonic_ms();
    connection->phase = phase;
    connection->suspended = false;
    connection->phase_ms = now;
    connection->progress_ms = now;
    connection->window_ms = now;
    connection->window_bytes = 0;
}

void net_progress(struct net_connection *connection, size_t bytes)
{
    if (connection->phase != NET_BODY) /* it was us who made it wait */
        net_set_phase(connection, NET_BODY);
    connection->progress_ms = clock_monotonic_ms();
    connection->window_bytes += bytes;
}

void net_suspend(struct net_connection *connection)
{
    connection->suspended = true;
    MHD_suspend_connection(connection->mhd);
}

static void thread_wake(struct net_thread *thread)
{
    if (!atomic_exchange(&thread->woken, true))
        (void) eventfd_write(thread->wake_fd, 1);
}

void net_resume(struct net_connection *connection)
{
    /* Once it is resumed, its thread may close and free it. */
    struct net_thread *thread = connection->thread;
    MHD_resume_connection(connection->mhd);
    thread_wake(thread);
}

/* ---- answers ---- */

static ssize_t reply_reader(void *cls, uint64_t pos, char *out, size_t len)
{
    ssize_t n = exchange_read_reply(cls, pos, out, len);
    return n < 0 ? MHD_CONTENT_READER_END_WITH_ERROR : n;
}

static void reply_release(void *cls)
{
    exchange_unref(cls);
}

/* One file, and the kernel may send it: its descriptor passes to the response. */
static struct MHD_Response *reply_sendfile(struct reply *reply)
{
    struct reply_segment *segment = &reply->segments[0];
    int fd = segment->owned ? segment->fd : fcntl(segment->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return NULL;
    struct MHD_Response *response = MHD_create_response_from_fd_at_offset64(segment->len, fd, segment->offset);
    if (response)
        segment->owned = false;
    else if (!segment->owned)
        fd_close(fd);
    return response;
}

static struct MHD_Response *reply_to_response(struct net_connection *connection, struct exchange *exchange,
                                              struct reply *reply, bool is_head)
{
    if (reply->body_bytes == 0)
        return MHD_create_response_from_buffer(0, (void *) (uintptr_t) "", MHD_RESPMEM_PERSISTENT);
    if (!is_head && reply->segment_count == 1 && reply->segments[0].fd >= 0 && !connection->thread->net->tls)
        return reply_sendfile(reply);

    struct MHD_Response *response;
    exchange_ref(exchange);
    if (!is_head && reply->segment_count == 1 && reply->segments[0].bytes)
        response = MHD_create_response_from_buffer_with_free_callback_cls(reply->segments[0].len,
                                                                          (void *) (uintptr_t) reply->segments[0].bytes,
                                                                          reply_release, exchange);
    else
        response = MHD_create_response_from_callback(reply->body_bytes, is_head ? 1 : BODY_BLOCK_BYTES, reply_reader,
                                                     exchange, reply_release);
    if (!response)
        exchange_unref(exchange);
    return response;
}

bool net_reply(struct net_connection *connection, struct exchange *exchange, struct reply *reply, bool is_head,
               bool close)
{
    struct MHD_Response *response = reply_to_response(connection, exchange, reply, is_head);
    const char *name;
    const char *value;

    if (!response)
        return false;
    for (size_t at = 0; reply_next_header(reply, &at, &name, &value);)
        (void) MHD_add_response_header(response, name, value);
    if (close)
        (void) MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    enum MHD_Result queued = MHD_queue_response(connection->mhd, (unsigned) reply->status, response);
    MHD_destroy_response(response);
    return queued == MHD_YES;
}

static bool connection_send(struct net_connection *connection, struct str bytes)
{
    if (connection->thread->net->tls) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        return info && tls_send(info->tls_session, bytes);
    }
    while (bytes.len > 0) {
        ssize_t n = send(connection->fd, bytes.ptr, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes.ptr += n;
        bytes.len -= (size_t) n;
    }
    return true;
}

bool net_answer_early(struct net_connection *connection, struct str bytes)
{
    net_set_phase(connection, NET_ANSWERED);
    return connection_send(connection, bytes);
}

/* ---- libmicrohttpd's callbacks, all on the connection's thread ---- */

static void connection_open(struct net_thread *thread, struct MHD_Connection *mhd, void **socket_context)
{
    struct net_connection *connection = calloc(1, sizeof(*connection));
    int fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;

    *socket_context = connection;
    if (!connection) {
        (void) shutdown(fd, SHUT_RDWR);
        return;
    }
    connection->thread = thread;
    connection->mhd = mhd;
    connection->fd = fd;
    connection->link = &thread->connections;
    connection->next = thread->connections;
    if (connection->next)
        connection->next->link = &connection->next;
    thread->connections = connection;
    net_set_phase(connection, NET_HEAD);
    atomic_fetch_add(&thread->net->connections, 1);
    metric_gauge_add(METRIC_CONNECTIONS, 1);
    connection->counted = peers_add(thread->net->peers, connection_address(connection));
    if (!connection->counted)
        net_cut(connection);
}

/* May the client have more to send, so that closing now would reset the connection? */
static bool connection_should_linger(const struct net_connection *connection)
{
    char byte;
    switch (connection->phase) {
    case NET_HEAD:
    case NET_BODY:
    case NET_ANSWERED:
        return true;
    case NET_IDLE:
    case NET_WORK:
    case NET_REPLY:
        break;
    }
    return recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static void connection_close(struct net_connection *connection)
{
    struct net_thread *thread = connection->thread;
    uint64_t linger_ms = thread->net->engine->settings.linger_ms_max;

    /* After some errors of its own the library forgets to tell that the request is over. */
    if (connection->exchange)
        exchange_completed(TAKE_PTR(connection->exchange), false, 0);

    /* libmicrohttpd closes its descriptor next; a second one keeps the socket. */
    bool linger = linger_ms > 0 && connection_should_linger(connection);
    int fd = linger ? fcntl(connection->fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (fd >= 0) {
        (void) shutdown(fd, SHUT_WR); /* it did already, but for after those errors */
        linger_add(&thread->lingering, fd, clock_monotonic_ms() + linger_ms);
    }
    *connection->link = connection->next;
    if (connection->next)
        connection->next->link = connection->link;
    if (connection->counted)
        peers_remove(thread->net->peers, connection_address(connection));
    atomic_fetch_sub(&thread->net->connections, 1);
    metric_gauge_add(METRIC_CONNECTIONS, -1);
    free(connection);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        connection_open(cls, mhd, socket_context);
    else if (*socket_context)
        connection_close(*socket_context);
}

/*
 * The library zeroes all of a connection's memory after each request, so that an idle connection would hold it all.
 * What is only zeros is given back to the kernel, which reads as zeros again: the library cannot tell.
 *
 * The memory is mapped when it is larger than POOL_MALLOC_BYTES_MAX, begins with the request line, and is known to
 * begin on the request line's own page unless the client sent much before (empty lines).
 */
static size_t pool_bytes(const struct net_thread *thread)
{
    return ((size_t) thread->net->engine->settings.header_bytes_max + NET_REPLY_HEAD_BYTES + PAGE_BYTES - 1) &
           ~(PAGE_BYTES - 1);
}

static void pool_find(struct net_connection *connection, const struct net_thread *thread)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    connection->pool_given = false;
    bool is_mapped = thread->net->engine->settings.header_bytes_max + NET_REPLY_HEAD_BYTES > POOL_MALLOC_BYTES_MAX;
    if (connection->pool || !is_mapped)
        return;
    if (getsockopt(connection->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
        info.tcpi_bytes_received <= POOL_FIRST_BYTES_MAX)
        connection->pool = (char *) ((uintptr_t) connection->uri & ~(PAGE_BYTES - 1));
}

void net_give_pool_back(struct net_connection *connection)
{
    char *begin = connection->pool + PAGE_BYTES;
    size_t len = pool_bytes(connection->thread) - PAGE_BYTES;
    connection->pool_given = true;
    if (begin[0] == 0 && memcmp(begin, begin + 1, len - 1) == 0)
        (void) madvise(begin, len, MADV_DONTNEED);
}

/*
 * The library would split the query into records in the connection's memory, and when that is full (some hundred
 * parameters) lose the connection without an answer. Nobody reads these records: show it an empty query. Its const
 * is a promise it does not need; the bytes are its own, and writable.
 */
static void query_hide(const char *uri)
{
    char *mark = strchr((char *) (uintptr_t) uri, '?');
    if (mark)
        mark[1] = '\0';
}

static void *on_request_line(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct net_thread *thread = cls;
    struct net_connection *connection = connection_of(mhd);
    if (!connection)
        return NULL;
    connection->method = NULL;
    connection->version = NULL;
    connection->uri = uri;
    pool_find(connection, thread);
    net_set_phase(connection, NET_HEAD);
    connection->exchange = exchange_new(thread->net->engine, connection, uri ? uri : "");
    if (uri)
        query_hide(uri);
    return connection->exchange;
}

static enum MHD_Result on_step(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                               const char *version, const char *upload_data, size_t *upload_data_size, void **context)
{
    struct exchange *exchange = *context;
    if (!exchange)
        return MHD_NO;
    struct net_connection *connection = connection_of(mhd);
    (void) cls;
    (void) url;
    connection->method = method;
    connection->version = version;
    connection->suspended = false;
    return exchange_step(exchange, upload_data, upload_data_size) ? MHD_YES : MHD_NO;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode code)
{
    struct exchange *exchange = *context;
    if (!exchange)
        return;
    struct net_connection *connection = connection_of(mhd);
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_HTTP_STATUS);
    bool sent = code == MHD_REQUEST_TERMINATED_COMPLETED_OK;

    (void) cls;
    *context = NULL;
    connection->exchange = NULL;
    exchange_completed(exchange, sent, info ? (int) info->http_status : 0);
    if (sent)
        net_set_phase(connection, NET_IDLE);
}

/* Targets are decoded by route.c and field.c, which refuse what this library would let pass. */
static size_t on_unescape(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void) cls;
    (void) mhd;
    return strlen(text);
}

__attribute__((format(printf, 2, 0))) static void on_log(void *cls, const char *format, va_list args)
{
    char text[256];

    (void) cls;
    if (!log_enabled(LOG_DEBUG))
        return;
    int len = vsnprintf(text, sizeof(text), format, args);
    for (int i = len < (int) sizeof(text) ? len : (int) sizeof(text) - 1; i > 0 && text[i - 1] == '\n'; i--)
        text[i - 1] = '\0';
    log_event(LOG_DEBUG, "http library", LOG_TEXT("text", text));
}

/* ---- threads ---- */

static void net_quiesce(struct net_thread *thread)
{
    if (thread->quiesced)
        return;
    thread->quiesced = true;
    MHD_socket listening = MHD_quiesce_daemon(thread->daemon);
    if (listening != MHD_INVALID_SOCKET)
        fd_close(listening);
}

/* Sleep until a socket has news or another thread does. The library's own sleep knows nothing of the latter. */
static void thread_wait(struct net_thread *thread)
{
    MHD_UNSIGNED_LONG_LONG library_ms;
    uint64_t wait_ms = thread->lingering.count > 0 ? LINGER_POLL_MS : NET_SWEEP_MS;
    struct pollfd fds[] = {
        {.fd = MHD_get_daemon_info(thread->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, .events = POLLIN},
        {.fd = thread->wake_fd, .events = POLLIN},
    };

    if (MHD_get_timeout(thread->daemon, &library_ms) == MHD_YES && library_ms < wait_ms)
        wait_ms = library_ms;
    if (wait_ms > 0 && poll(fds, 2, (int) wait_ms) > 0 && fds[1].revents) {
        eventfd_t count;
        (void) eventfd_read(thread->wake_fd, &count);
    }
    /* From here on a resume must wake anew: the library looks for the resumed before it looks at sockets. */
    atomic_store(&thread->woken, false);
}

static void thread_sweep(struct net_thread *thread, uint64_t now)
{
    if (atomic_load(&thread->net->engine->draining))
        net_quiesce(thread);
    for (struct net_connection *connection = thread->connections; connection; connection = connection->next)
        net_sweep(connection, now);
    thread->swept_ms = now;
}

static void *net_thread_run(void *arg)
{
    struct net_thread *thread = arg;
    sigset_t signals;
    sigfillset(&signals); /* the main thread's; and SIGPIPE is nobody's */
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    while (!atomic_load_explicit(&thread->stop, memory_order_relaxed)) {
        thread_wait(thread);
        (void) MHD_run_wait(thread->daemon, 0);
        uint64_t now = clock_monotonic_ms();
        if (thread->lingering.count > 0 && now - thread->lingered_ms >= LINGER_POLL_MS) {
            thread->lingered_ms = now;
            linger_run(&thread->lingering, now);
        }
        if (now - thread->swept_ms >= NET_SWEEP_MS)
            thread_sweep(thread, now);
    }
    return NULL;
}

/* ---- start and stop ---- */

static enum err_code net_load_tls(struct net *net, const struct http_settings *settings, struct err *err)
{
    net->tls = settings->tls_certificate && settings->tls_certificate[0];
    if (!net->tls)
        return ERR_OK;
    if (fs_read_file(AT_FDCWD, settings->tls_certificate, &net->certificate, err))
        return err_become(err, ERR_INVALID, "the TLS certificate %s cannot be read", settings->tls_certificate);
    if (fs_read_file(AT_FDCWD, settings->tls_key, &net->key, err))
        return err_become(err, ERR_INVALID, "the TLS key %s cannot be read", settings->tls_key);
    return tls_check_pair(buf_str(&net->certificate), buf_str(&net->key), err);
}

static enum err_code net_start_thread(struct net_thread *thread, int listen_fd, struct err *err)
{
    struct net *net = thread->net;
    const struct http_settings *settings = &net->engine->settings;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, net->certificate.ptr},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, net->key.ptr},
        {MHD_OPTION_END, 0, NULL},
    };

    auto_fd fd = fcntl(listen_fd, F_DUPFD_CLOEXEC, 0);
    thread->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0 || thread->wake_fd < 0)
        return err_set_errno(err, errno, "descriptors for a network thread");
    thread->daemon =
        MHD_start_daemon(net->tls ? flags | MHD_USE_TLS : flags, 0, NULL, NULL, on_step, thread, /* */
                         MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, /* first: the others may log */
                         MHD_OPTION_LISTEN_SOCKET, fd,             /* */
                         MHD_OPTION_CONNECTION_LIMIT,
                         (settings->connections_max + net->thread_count - 1) / net->thread_count,
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) settings->header_bytes_max + NET_REPLY_HEAD_BYTES,
                         MHD_OPTION_STRICT_FOR_CLIENT, 1,                 /* */
                         MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,            /* or it would not use sendfile */
                         MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL, /* */
                         MHD_OPTION_URI_LOG_CALLBACK, on_request_line, thread, MHD_OPTION_NOTIFY_COMPLETED,
                         on_completed, thread, MHD_OPTION_NOTIFY_CONNECTION, on_connection, thread, /* */
                         MHD_OPTION_ARRAY, net->tls ? tls : &tls[2], MHD_OPTION_END);
    if (!thread->daemon)
        return err_set(err, ERR_IO, "the HTTP library could not be started");
    (void) TAKE_FD(fd);
    int failed = pthread_create(&thread->thread, NULL, net_thread_run, thread);
    if (failed)
        return err_set_errno(err, failed, "starting a network thread");
    thread->started = true;
    return ERR_OK;
}

enum err_code net_start(struct engine *engine, int listen_fd, struct net **out, struct err *err)
{
    auto_fd listening = listen_fd;
    unsigned count = engine->settings.network_threads;
    struct net *net = calloc(1, sizeof(*net) + count * sizeof(net->threads[0]));
    if (net)
        net->peers = peers_new(engine->settings.connections_per_address_max);
    if (!net || !net->peers) {
        free(net);
        return err_set(err, ERR_NO_MEMORY, "no memory for %u network threads", count);
    }
    net->engine = engine;
    net->thread_count = count;
    net->certificate = BUF_INIT(TLS_FILE_BYTES_MAX);
    net->key = BUF_INIT(TLS_FILE_BYTES_MAX);
    enum err_code failed = net_load_tls(net, &engine->settings, err);
    for (unsigned i = 0; i < count; i++) {
        net->threads[i].net = net;
        net->threads[i].wake_fd = -1;
        if (!failed)
            failed = net_start_thread(&net->threads[i], listening, err);
    }
    if (failed) {
        net_stop(net);
        return failed;
    }
    *out = net;
    return ERR_OK;
}

unsigned net_connections(const struct net *net)
{
    return atomic_load(&net->connections);
}

void net_stop(struct net *net)
{
    for (unsigned i = 0; i < net->thread_count; i++) {
        struct net_thread *thread = &net->threads[i];
        atomic_store(&thread->stop, true);
        if (thread->started) {
            thread_wake(thread);
            pthread_join(thread->thread, NULL);
        }
        if (thread->daemon)
            MHD_stop_daemon(thread->daemon);
        linger_close_all(&thread->lingering);
        fd_close(thread->wake_fd);
    }
    peers_free(net->peers);
    buf_free(&net->certificate);
    buf_free(&net->key);
    free(net);
}

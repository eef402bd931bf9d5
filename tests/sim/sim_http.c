/* store/s3_http.h over a simulated network; see sim_http.h. */
#include "sim_http.h"

#include "sim_sched.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define QUERY_MAX 16
#define ANSWER_BYTES_MAX (64 * 1024 * 1024)
#define SLOW_MS_MAX 25000
#define SHORT_MS_MAX 10
#define MEDIUM_MS_MAX 300
#define LONG_MS_MAX 5000
#define PARKED_LOST_OF_10000 2000 /* exchanges that end while nobody reads them */

struct s3_http {
    struct s3_http_settings settings;
    size_t open;
};

struct s3_http_exchange {
    struct s3_http *http;
    struct buf body;
    size_t offset;
    bool is_torn; /* an error stands at the body's end */
};

/* A request of our own: it may be applied when its caller is gone. */
struct call {
    unsigned node;
    char *method;
    char *key; /* NULL: about the bucket */
    struct s3_param query[QUERY_MAX];
    size_t query_count;
    struct s3_param headers[S3_PARAMS_MAX];
    size_t header_count;
    char *body;
    size_t body_len;
};

struct node {
    bool is_down;
    unsigned script_nth; /* 0: no script */
    enum sim_fault script_fault;
    unsigned crash_nth;
};

static struct {
    struct sim_net_settings settings;
    struct node nodes[SIM_NODES_MAX];
    unsigned node_count;
    uint64_t requests;
    uint64_t faults[SIM_FAULT_COUNT];
    unsigned late;
    bool is_late;
} net;

static const char *const fault_names[SIM_FAULT_COUNT] = {
    [SIM_FAULT_NONE] = "none",
    [SIM_FAULT_UNSENT] = "unsent",
    [SIM_FAULT_RESET_BEFORE] = "reset-before",
    [SIM_FAULT_RESET_AFTER] = "reset-after",
    [SIM_FAULT_TIMEOUT_BEFORE] = "timeout-before",
    [SIM_FAULT_TIMEOUT_AFTER] = "timeout-after",
    [SIM_FAULT_LATE] = "late",
    [SIM_FAULT_SLOW] = "slow",
    [SIM_FAULT_CONFLICT] = "409",
    [SIM_FAULT_SLOWDOWN] = "503",
    [SIM_FAULT_ERROR_BEFORE] = "500-before",
    [SIM_FAULT_ERROR_AFTER] = "500-after",
    [SIM_FAULT_TORN_REQUEST] = "torn-request",
    [SIM_FAULT_TORN_ANSWER] = "torn-answer",
};

const char *sim_fault_name(enum sim_fault fault)
{
    return fault_names[fault];
}

/* ---- nodes ---- */

void sim_net_begin(const struct sim_net_settings *settings)
{
    assert(net.late == 0);
    memset(&net, 0, sizeof(net));
    net.settings = *settings;
}

void sim_net_set_faults(unsigned faults_of_10000)
{
    net.settings.faults_of_10000 = faults_of_10000;
}

unsigned sim_net_node(void)
{
    sim_check(net.node_count < SIM_NODES_MAX, "more than %d nodes", SIM_NODES_MAX);
    return net.node_count++;
}

void sim_net_endpoint(unsigned node, char *out, size_t out_bytes)
{
    (void) snprintf(out, out_bytes, "http://node-%u.sim", node);
}

void sim_net_crash(unsigned node)
{
    sim_trace("node-%u crashes", node);
    net.nodes[node].is_down = true;
}

bool sim_net_is_down(unsigned node)
{
    return net.nodes[node].is_down;
}

void sim_net_script(unsigned node, unsigned nth, enum sim_fault fault)
{
    net.nodes[node].script_nth = nth;
    net.nodes[node].script_fault = fault;
}

void sim_net_script_crash(unsigned node, unsigned nth)
{
    net.nodes[node].crash_nth = nth;
}

uint64_t sim_net_request_count(void)
{
    return net.requests;
}

uint64_t sim_net_fault_count(enum sim_fault fault)
{
    return net.faults[fault];
}

unsigned sim_net_late_count(void)
{
    return net.late;
}

bool sim_net_is_late(void)
{
    return net.is_late;
}

/* ---- requests ---- */

static char *copy(const char *text, size_t len)
{
    char *out = malloc(len + 1);
    sim_check(out, "no memory");
    memcpy(out, text, len);
    out[len] = '\0';
    return out;
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* A copy with "%2F" made '/'. */
static char *copy_decoded(const char *text, size_t len)
{
    char *out = copy(text, len), *to = out;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '%') {
            *to++ = (char) (hex_value(text[i + 1]) << 4 | hex_value(text[i + 2]));
            i += 2;
        } else {
            *to++ = text[i];
        }
    }
    *to = '\0';
    return out;
}

static void call_take_query(struct call *call, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "&"), name_len = strcspn(text, "=&");
        sim_check(call->query_count < QUERY_MAX, "too many query parameters");
        const char *value = name_len < len ? text + name_len + 1 : text + len;
        call->query[call->query_count++] =
            (struct s3_param){copy_decoded(text, name_len), copy_decoded(value, (size_t) (text + len - value))};
        text += len + (text[len] == '&');
    }
}

/* "http://node-7.sim/bucket/key?query" */
static void call_take_url(struct call *call, const char *url)
{
    unsigned node;
    int used = 0;
    sim_check(sscanf(url, "http://node-%u.sim/%n", &node, &used) == 1 && used > 0 && node < net.node_count,
              "a request to nowhere: %s", url);
    call->node = node;
    const char *path = url + used;
    const char *end = path + strcspn(path, "?");
    const char *slash = memchr(path, '/', (size_t) (end - path));
    if (slash && slash + 1 < end)
        call->key = copy_decoded(slash + 1, (size_t) (end - slash - 1));
    if (*end == '?')
        call_take_query(call, end + 1);
}

static struct call *call_new(const struct s3_http_request *request)
{
    struct call *call = calloc(1, sizeof(*call));
    sim_check(call, "no memory");
    call->method = copy(request->method, strlen(request->method));
    call_take_url(call, request->url);
    for (size_t i = 0; i < request->header_count; i++) {
        const struct s3_param *from = &request->headers[i];
        call->headers[call->header_count++] =
            (struct s3_param){copy(from->name, strlen(from->name)), copy(from->value, strlen(from->value))};
    }
    for (size_t i = 0; i < request->body_count; i++)
        call->body_len += request->body[i].len;
    call->body = copy("", 0);
    call->body = realloc(call->body, call->body_len + 1);
    sim_check(call->body, "no memory");
    size_t at = 0;
    for (size_t i = 0; i < request->body_count; i++) {
        memcpy(call->body + at, request->body[i].ptr, request->body[i].len);
        at += request->body[i].len;
    }
    call->body[at] = '\0';
    return call;
}

static void params_free(struct s3_param *params, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free((void *) (uintptr_t) params[i].name);
        free((void *) (uintptr_t) params[i].value);
    }
}

static void call_free(struct call *call)
{
    params_free(call->query, call->query_count);
    params_free(call->headers, call->header_count);
    free(call->method);
    free(call->key);
    free(call->body);
    free(call);
}

static void call_apply(const struct call *call, struct s3_http_answer *answer, struct buf *out)
{
    const struct sim_request request = {.method = call->method,
                                        .key = call->key,
                                        .query = call->query,
                                        .query_count = call->query_count,
                                        .headers = call->headers,
                                        .header_count = call->header_count,
                                        .body = {call->body, call->body_len}};
    sim_bucket_answer(net.settings.bucket, &request, answer, out);
    sim_trace("node-%u %s %s%s%s: %d%s", call->node, call->method, call->key ? call->key : "(bucket)",
              call->query_count ? "?" : "", call->query_count ? call->query[0].name : "", answer->status,
              net.is_late ? " late" : "");
}

/* ---- late requests: each a task of its own ---- */

static void apply_unheard(const struct call *call)
{
    struct s3_http_answer answer;
    auto_buf out = BUF_INIT(ANSWER_BYTES_MAX);
    call_apply(call, &answer, &out);
}

static void *late_run(void *arg)
{
    struct call *call = arg;
    sim_sleep_ms(sim_below(net.settings.late_ms_max + 1));
    net.is_late = true;
    apply_unheard(call);
    net.is_late = false;
    net.late--;
    call_free(call);
    return NULL;
}

static void call_send_late(struct call *call)
{
    pthread_t thread;
    net.late++;
    sim_check(pthread_create(&thread, NULL, late_run, call) == 0, "no task for a late request");
    (void) pthread_detach(thread);
}

/* ---- faults ---- */

static enum sim_fault fault_choose(struct node *node)
{
    if (node->script_nth > 0 && --node->script_nth == 0)
        return node->script_fault;
    if (!sim_chance(net.settings.faults_of_10000))
        return SIM_FAULT_NONE;
    unsigned sum = 0;
    for (int i = 1; i < SIM_FAULT_COUNT; i++)
        sum += net.settings.weights[i];
    unsigned at = (unsigned) sim_below(sum ? sum : 1);
    for (int i = 1; i < SIM_FAULT_COUNT; i++) {
        if (at < net.settings.weights[i])
            return (enum sim_fault) i;
        at -= net.settings.weights[i];
    }
    return SIM_FAULT_NONE;
}

/* Most requests are quick, some are not. */
static void delay(void)
{
    uint64_t kind = sim_below(16);
    if (net.settings.has_delays)
        sim_sleep_ms(sim_below(kind < 12 ? SHORT_MS_MAX : kind < 15 ? MEDIUM_MS_MAX : LONG_MS_MAX));
    else
        sim_step();
}

static enum err_code broke(enum s3_http_fate fate, enum s3_http_fate *out_fate, struct err *err)
{
    *out_fate = fate;
    if (fate == S3_HTTP_NOT_SENT)
        return err_set(err, ERR_STORE_GONE, "The object store cannot be reached");
    return err_set(err, ERR_UPSTREAM, "The connection to the object store broke");
}

static enum err_code timed_out(uint64_t since_ms, uint64_t timeout_ms, enum s3_http_fate *out_fate, struct err *err)
{
    uint64_t now_ms = sim_now_ms();
    *out_fate = S3_HTTP_AMBIGUOUS;
    if (since_ms + timeout_ms > now_ms)
        sim_sleep_ms(since_ms + timeout_ms - now_ms);
    return err_set(err, ERR_TIMEOUT, "The object store took too long to answer");
}

static bool is_conditional(const struct call *call)
{
    for (size_t i = 0; i < call->header_count; i++) {
        const char *name = call->headers[i].name;
        if (strcmp(call->method, "PUT") == 0 && (strcmp(name, "if-none-match") == 0 || strcmp(name, "if-match") == 0))
            return true;
    }
    return false;
}

/* An error that the store answers, whatever it did; 0: none. */
static int fault_status(const struct call *call, enum sim_fault fault, const char **out_code)
{
    switch (fault) {
    case SIM_FAULT_CONFLICT:
        *out_code = is_conditional(call) ? "ConditionalRequestConflict" : "SlowDown";
        return is_conditional(call) ? 409 : 503;
    case SIM_FAULT_SLOWDOWN:
        *out_code = "SlowDown";
        return 503;
    case SIM_FAULT_ERROR_BEFORE:
    case SIM_FAULT_ERROR_AFTER:
        *out_code = "InternalError";
        return 500;
    case SIM_FAULT_TORN_REQUEST:
        *out_code = call->body_len > 0 ? "IncompleteBody" : "SlowDown";
        return call->body_len > 0 ? 400 : 503;
    case SIM_FAULT_NONE:
    case SIM_FAULT_UNSENT:
    case SIM_FAULT_RESET_BEFORE:
    case SIM_FAULT_RESET_AFTER:
    case SIM_FAULT_TIMEOUT_BEFORE:
    case SIM_FAULT_TIMEOUT_AFTER:
    case SIM_FAULT_LATE:
    case SIM_FAULT_SLOW:
    case SIM_FAULT_TORN_ANSWER:
    case SIM_FAULT_COUNT:
        break;
    }
    return 0;
}

static void answer_fault(const struct call *call, enum sim_fault fault, struct s3_http_answer *answer, struct buf *out)
{
    const char *code;
    int status = fault_status(call, fault, &code);
    if (status == 0)
        return;
    buf_clear(out);
    memset(answer, 0, sizeof(*answer));
    answer->range_first = answer->range_total = S3_HTTP_UNKNOWN;
    sim_bucket_error(status, code, answer, out);
    if (strcmp(call->method, "HEAD") == 0)
        buf_clear(out);
}

/* Is the request applied before its caller hears anything? */
static bool fault_is_applied(enum sim_fault fault)
{
    switch (fault) {
    case SIM_FAULT_NONE:
    case SIM_FAULT_RESET_AFTER:
    case SIM_FAULT_TIMEOUT_AFTER:
    case SIM_FAULT_SLOW:
    case SIM_FAULT_ERROR_AFTER:
    case SIM_FAULT_TORN_ANSWER:
        return true;
    case SIM_FAULT_UNSENT:
    case SIM_FAULT_RESET_BEFORE:
    case SIM_FAULT_TIMEOUT_BEFORE:
    case SIM_FAULT_LATE:
    case SIM_FAULT_CONFLICT:
    case SIM_FAULT_SLOWDOWN:
    case SIM_FAULT_ERROR_BEFORE:
    case SIM_FAULT_TORN_REQUEST:
    case SIM_FAULT_COUNT:
        break;
    }
    return false;
}

/* ---- s3_http.h ---- */

enum err_code s3_http_open(const struct s3_http_settings *settings, struct s3_http **out, struct err *err)
{
    (void) err;
    *out = calloc(1, sizeof(**out));
    sim_check(*out, "no memory");
    (*out)->settings = *settings;
    return ERR_OK;
}

void s3_http_close(struct s3_http *http)
{
    if (http)
        sim_check(http->open == 0, "%zu exchanges are open when their pool is closed", http->open);
    free(http);
}

/* The request's way to the bucket and back. ERR_OK: answer and exchange hold what came. */
static enum err_code transact(struct call **call, enum sim_fault fault, uint32_t timeout_ms,
                              struct s3_http_answer *answer, struct s3_http_exchange *exchange,
                              enum s3_http_fate *out_fate, struct err *err)
{
    struct node *node = &net.nodes[(*call)->node];
    uint64_t since_ms = sim_now_ms();
    if (node->is_down || fault == SIM_FAULT_UNSENT) {
        sim_step();
        return broke(S3_HTTP_NOT_SENT, out_fate, err);
    }
    if (fault == SIM_FAULT_LATE) {
        call_send_late(TAKE_PTR(*call));
        return timed_out(since_ms, timeout_ms, out_fate, err);
    }
    delay();
    bool crashed_before = node->is_down;
    if (crashed_before ? sim_chance(5000) : fault_is_applied(fault))
        call_apply(*call, answer, &exchange->body);
    if (fault == SIM_FAULT_SLOW)
        sim_sleep_ms(sim_below(timeout_ms < SLOW_MS_MAX ? timeout_ms : SLOW_MS_MAX));
    else
        delay();
    if (node->is_down || fault == SIM_FAULT_RESET_BEFORE || fault == SIM_FAULT_RESET_AFTER)
        return broke(S3_HTTP_AMBIGUOUS, out_fate, err);
    if (fault == SIM_FAULT_TIMEOUT_BEFORE || fault == SIM_FAULT_TIMEOUT_AFTER)
        return timed_out(since_ms, timeout_ms, out_fate, err);
    answer_fault(*call, fault, answer, &exchange->body);
    if (fault == SIM_FAULT_TORN_ANSWER) {
        exchange->is_torn = true;
        exchange->body.len = exchange->body.len ? sim_below(exchange->body.len) : 0;
    }
    *out_fate = S3_HTTP_ANSWERED;
    return ERR_OK;
}

enum err_code s3_http_begin(struct s3_http *http, const struct s3_http_request *request, struct s3_http_answer *answer,
                            struct s3_http_exchange **out, enum s3_http_fate *out_fate, struct err *err)
{
    struct call *call = call_new(request);
    struct s3_http_exchange *exchange = calloc(1, sizeof(*exchange));
    sim_check(exchange, "no memory");
    *exchange = (struct s3_http_exchange){.http = http, .body = BUF_INIT(ANSWER_BYTES_MAX)};
    *out = NULL;
    memset(answer, 0, sizeof(*answer));
    struct node *node = &net.nodes[call->node];
    enum sim_fault fault = node->is_down ? SIM_FAULT_NONE : fault_choose(node);
    net.requests++;
    net.faults[fault]++;
    if (fault != SIM_FAULT_NONE)
        sim_trace("node-%u %s %s meets %s", call->node, call->method, call->key ? call->key : "(bucket)",
                  fault_names[fault]);
    if (node->crash_nth > 0 && --node->crash_nth == 0)
        sim_net_crash(call->node);
    uint32_t timeout_ms = request->timeout_ms ? request->timeout_ms : http->settings.stall_timeout_ms;
    http->open++;
    enum err_code code = transact(&call, fault, timeout_ms, answer, exchange, out_fate, err);
    if (call)
        call_free(call);
    if (code == ERR_OK)
        *out = exchange;
    else
        s3_http_end(exchange);
    return code;
}

enum err_code s3_http_read(struct s3_http_exchange *exchange, void *bytes, size_t len, size_t *out_len, struct err *err)
{
    size_t left = exchange->body.len - exchange->offset;
    size_t some = left < len ? left : len;
    if (some == 0 && exchange->is_torn)
        return err_set(err, ERR_UPSTREAM, "The connection to the object store broke");
    if (some > 0)
        memcpy(bytes, exchange->body.ptr + exchange->offset, some);
    exchange->offset += some;
    *out_len = some;
    return ERR_OK;
}

enum err_code s3_http_read_all(struct s3_http_exchange *exchange, struct buf *out, struct err *err)
{
    size_t left = exchange->body.len - exchange->offset;
    if (out->max - out->len < left)
        return err_set(err, ERR_LIMIT, "The answer of the object store is longer than %zu bytes", out->max);
    sim_check(buf_append(out, buf_str(&exchange->body).ptr + exchange->offset, left), "no memory");
    exchange->offset += left;
    if (exchange->is_torn)
        return err_set(err, ERR_UPSTREAM, "The connection to the object store broke");
    return ERR_OK;
}

void s3_http_end(struct s3_http_exchange *exchange)
{
    if (!exchange)
        return;
    exchange->http->open--;
    buf_free(&exchange->body);
    free(exchange);
}

/* What the pool does when others need connections, the seed does here. */
uint64_t s3_http_park(struct s3_http_exchange *exchange)
{
    (void) exchange;
    return 1;
}

bool s3_http_unpark(struct s3_http *http, struct s3_http_exchange *exchange, uint64_t parking)
{
    (void) http;
    sim_check(parking == 1, "not parked");
    if (net.settings.faults_of_10000 == 0 || !sim_chance(PARKED_LOST_OF_10000))
        return true;
    s3_http_end(exchange);
    return false;
}

enum err_code s3_http_exchange_all(struct s3_http *http, const struct s3_http_request *request,
                                   struct s3_http_answer *answer, struct buf *out, enum s3_http_fate *out_fate,
                                   struct err *err)
{
    struct s3_http_exchange *exchange;
    enum err_code code = s3_http_begin(http, request, answer, &exchange, out_fate, err);
    if (code != ERR_OK)
        return code;
    code = s3_http_read_all(exchange, out, err);
    s3_http_end(exchange);
    return code;
}

struct str s3_http_amz(const struct s3_http_answer *answer, const char *name)
{
    size_t name_len = strlen(name);
    for (const char *line = answer->amz; *line; line += strcspn(line, "\n") + 1) {
        if (strncmp(line, name, name_len) == 0 && line[name_len] == ':')
            return (struct str){line + name_len + 1, strcspn(line + name_len + 1, "\n")};
    }
    return (struct str){"", 0};
}

/* Answers are made here: there is no date to read. */
bool s3_http_parse_date(struct str text, uint64_t *out_ms)
{
    (void) text;
    (void) out_ms;
    return false;
}

#include "http/admin.h"

#include "base/json_text.h"
#include "base/log.h"
#include "base/metrics.h"
#include "http/server_priv.h"

#define METRICS_BYTES_MAX ((size_t) 256 * 1024)
#define PROBE_INTERVAL_MS 1000
#define READY_BYTES_MAX ((size_t) 4 * 1024)

static bool healthz_fast(struct request *request)
{
    reply_status(request, 200);
    reply_header(request, "Content-Type", "text/plain; charset=utf-8");
    reply_body_text(request, "ok\n", 3);
    return true;
}

static bool metrics_fast(struct request *request)
{
    auto_buf text = BUF_INIT(METRICS_BYTES_MAX);
    struct err err = ERR_INIT;

    if (!metrics_format(&text)) {
        (void) err_set(&err, ERR_LIMIT, "the metrics do not fit in %zu bytes", METRICS_BYTES_MAX);
        reply_error(request, &err);
        return true;
    }
    reply_status(request, 200);
    reply_header(request, "Content-Type", "text/plain; version=0.0.4; charset=utf-8");
    reply_body_take(request, &text);
    return true;
}

/* Ask the store, at most once in PROBE_INTERVAL_MS; between, the last answer holds. One worker, so no lock. */
static void readyz_probe(struct http_server *server, struct registry *registry)
{
    struct ready_probe *probe = &server->probe;
    uint64_t now = clock_monotonic_ms();

    if (probe->done && now - probe->at_ms < PROBE_INTERVAL_MS)
        return;
    struct err err = ERR_INIT;
    probe->code = registry_ready(registry, &err);
    if (probe->code) {
        log_event(LOG_WARN, "the store is not ready", LOG_TEXT("error", err_info(err.code)->name),
                  LOG_TEXT("detail", err_text(&err)));
        (void) snprintf(probe->reason, sizeof(probe->reason), "%s", err_info(probe->code)->text);
    }
    metric_gauge_set(METRIC_STORE_WRITABLE, probe->code == ERR_OK);
    probe->at_ms = now;
    probe->done = true;
}

static void readyz_run(struct request *request)
{
    struct http_server *server = request->server;
    bool draining = http_server_is_draining(server);
    auto_buf body = BUF_INIT(READY_BYTES_MAX);

    if (!draining)
        readyz_probe(server, request->registry);
    bool ready = !draining && server->probe.code == ERR_OK;
    (void) buf_appendf(&body, "{\"ready\":%s,\"reason\":", ready ? "true" : "false");
    (void) buf_append_json_string(&body, str_from(draining ? "shutting down" : ready ? "" : server->probe.reason));
    bool is_single = store_caps(registry_store(request->registry))->exclusive;
    (void) buf_appendf(&body, ",\"single_writer\":%s}\n", is_single ? "true" : "false");
    reply_status(request, ready ? 200 : 503);
    reply_header(request, "Content-Type", "application/json");
    reply_body_take(request, &body);
}

static void admin_run_fast(struct request *request)
{
    (void) request->endpoint->fast(request);
}

static const struct endpoint endpoint_healthz = {.name = "healthz",
                                                 .method = METHOD_GET,
                                                 .fast = healthz_fast,
                                                 .run = admin_run_fast};
static const struct endpoint endpoint_metrics = {.name = "metrics",
                                                 .method = METHOD_GET,
                                                 .fast = metrics_fast,
                                                 .run = admin_run_fast};
static const struct endpoint endpoint_readyz = {.name = "readyz", .method = METHOD_GET, .run = readyz_run};

enum err_code admin_route(struct request *request, struct str path, char *storage, const char **out_allow,
                          struct err *err)
{
    static const struct {
        struct str path;
        const struct endpoint *endpoint;
    } routes[] = {
        {{"/healthz", 8}, &endpoint_healthz},
        {{"/readyz", 7}, &endpoint_readyz},
        {{"/metrics", 8}, &endpoint_metrics},
    };

    (void) storage;
    *out_allow = NULL;
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (!str_equal(path, routes[i].path))
            continue;
        request->endpoint = routes[i].endpoint;
        request->is_head = request->method == METHOD_HEAD;
        if (request->method == METHOD_GET || request->is_head)
            return ERR_OK;
        *out_allow = "GET, HEAD";
        return err_set(err, ERR_METHOD_UNSUPPORTED, "the method is not supported here: use GET");
    }
    return err_set(err, ERR_ROUTE_UNKNOWN, "no such endpoint: there are /healthz, /readyz and /metrics");
}

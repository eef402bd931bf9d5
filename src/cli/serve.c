#include "base/log.h"
#include "base/metrics.h"
#include "base/version.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/janitor.h"
#include "cli/location.h"
#include "cli/settings.h"

#include <assert.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>

#define ADDRESS_BYTES_MAX 300

static const struct cli_syntax serve_syntax = {
    .usage = "orlop serve [--config FILE] [--listen ADDRESS:PORT] [--store DIR | s3://BUCKET[/PREFIX]] [settings]",
    .prose = "Run the registry. SIGTERM and SIGINT let running requests end, a second one ends at once; SIGHUP reads\n"
             "the settings and the users' file again.",
    .settings = CLI_SETTINGS_ALL,
};

/* What runs, in the order it is started. */
struct serve {
    int argc;
    char **argv;
    struct config started; /* as at the start; the server points into it */
    struct config live;    /* as last read: what SIGHUP took over */
    struct location *location;
    struct registry *registry;
    struct auth *auth;
    struct http_server *http;
    struct janitor *janitor;
};

/* ---- signals: blocked in every thread, and waited for by the main one ---- */

static void signals_of_interest(sigset_t *out)
{
    sigemptyset(out);
    sigaddset(out, SIGTERM);
    sigaddset(out, SIGINT);
    sigaddset(out, SIGHUP);
}

static void signals_block(void)
{
    sigset_t set;
    signals_of_interest(&set);
    int failed = pthread_sigmask(SIG_BLOCK, &set, NULL);
    assert(!failed);
    (void) failed;
    (void) signal(SIGPIPE, SIG_IGN);
}

static int signals_wait(void)
{
    sigset_t set;
    int number = 0;
    signals_of_interest(&set);
    while (sigwait(&set, &number) != 0)
        ;
    return number;
}

/* While requests drain: whoever asks a second time means it. */
static void *exit_on_second_signal(void *arg)
{
    (void) arg;
    while (signals_wait() == SIGHUP)
        ;
    static const char text[] = "orlop: ended at once by a second signal\n";
    (void) !write(STDERR_FILENO, text, sizeof(text) - 1);
    _exit(CLI_FAILED);
}

/* ---- SIGHUP ---- */

static bool same_value(const struct config *a, const struct config *b, enum setting setting)
{
    if (setting_info(setting)->type == CONFIG_TEXT)
        return strcmp(config_text(a, setting), config_text(b, setting)) == 0;
    return config_number(a, setting) == config_number(b, setting);
}

/* Name what has changed; returns how many settings were taken over. */
static uint64_t log_changes(const struct serve *serve, const struct config *fresh)
{
    uint64_t taken = 0;
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        enum setting setting = (enum setting) i;
        char key[CONFIG_NAME_BYTES_MAX];
        setting_key_name(setting, key);
        if (setting_info(setting)->reload == CONFIG_RESTART) {
            if (!same_value(&serve->started, fresh, setting))
                log_event(LOG_WARN, "a changed setting needs a restart", LOG_TEXT("setting", key));
        } else if (!same_value(&serve->live, fresh, setting)) {
            log_event(LOG_INFO, "a changed setting was taken over", LOG_TEXT("setting", key));
            taken++;
        }
    }
    return taken;
}

static void serve_reload(struct serve *serve)
{
    struct err err = ERR_INIT;
    auto_config fresh = {0};
    if (config_init(&fresh, &err) || cli_load(&serve_syntax, serve->argc, serve->argv, &fresh, &err) ||
        settings_check(&fresh, &err)) {
        log_event(LOG_ERROR, "the settings are wrong, the old ones stay", LOG_TEXT("reason", err_text(&err)));
    } else {
        uint64_t taken = log_changes(serve, &fresh);
        log_set_level(settings_log_level(&fresh));
        struct registry_settings registry_settings = settings_registry(&fresh);
        registry_update_settings(serve->registry, &registry_settings);
        janitor_set_interval(serve->janitor, config_number(&fresh, SETTING_uploads_janitor_interval));
        log_event(LOG_INFO, "settings read again", LOG_U64("taken_over", taken));

        struct config old = serve->live;
        serve->live = fresh;
        fresh = old;
    }
    if (auth_is_open(serve->auth))
        return;
    if (auth_reload(serve->auth, &err))
        log_event(LOG_ERROR, "the users' file is wrong, the old users stay", LOG_TEXT("reason", err_text(&err)));
    else
        log_event(LOG_INFO, "users read again");
}

/* ---- start ---- */

/* Where clients find the server, "localhost" standing for all addresses. */
static void client_address(const struct serve *serve, char *out)
{
    const char *listen = config_text(&serve->started, SETTING_http_listen);
    const char *colon = strrchr(listen, ':');
    size_t len = colon ? (size_t) (colon - listen) : strlen(listen);
    struct str host = {listen, len};
    if (len == 0 || str_equal(host, STR("0.0.0.0")) || str_equal(host, STR("[::]")))
        host = STR("localhost");
    (void) snprintf(out, ADDRESS_BYTES_MAX, "%.*s:%u", (int) host.len, host.ptr, http_server_port(serve->http));
}

/* For people who start it by hand; others find the same in the log. */
static void print_welcome(const struct serve *serve, const char *address)
{
    char path[PATH_MAX];
    const char *location = config_text(&serve->started, SETTING_store_location);
    bool tls = config_text(&serve->started, SETTING_http_tls_certificate)[0] != '\0';
    (void) fprintf(stderr,
                   "\norlop " ORLOP_VERSION " serves on %s://%s and keeps its data in %s\n\n"
                   "Try it:   docker pull hello-world\n"
                   "          docker tag hello-world %s/hello-world\n"
                   "          docker push %s/hello-world\n\n"
                   "Ctrl-C ends it.\n\n",
                   tls ? "https" : "http", address, realpath(location, path) ? path : location, address, address);
}

static enum err_code serve_start(struct serve *serve, struct err *err)
{
    const struct config *config = &serve->started;
    struct http_settings http_settings = settings_http(config);
    struct registry_settings registry_settings = settings_registry(config);

    if (location_open(config, LOCAL_EXCLUSIVE, &serve->location, err))
        return err->code;
    if (registry_new(location_store(serve->location), &registry_settings, &serve->registry, err))
        return err->code;
    if (auth_new(config_text(config, SETTING_auth_htpasswd), settings_anonymous(config), &serve->auth, err))
        return err->code;
    if (http_server_start(&http_settings, serve->registry, serve->auth, &serve->http, err))
        return err->code;
    return janitor_start(serve->registry, config_number(config, SETTING_uploads_janitor_interval), &serve->janitor,
                         err);
}

/*
 * In the opposite order of serve_start, whose failure may have left the last ones NULL. false: a request hangs in the
 * store; what it uses was left alone.
 */
static bool serve_stop(struct serve *serve)
{
    janitor_stop(serve->janitor);
    if (serve->http && !http_server_drain(serve->http))
        return false;
    if (serve->auth)
        auth_free(serve->auth);
    if (serve->registry)
        registry_free(serve->registry);
    location_close(serve->location);
    return true;
}

/* How many may write to the bucket? */
static void bucket_announce(const struct serve *serve, const struct store *store)
{
    if (config_bool(&serve->started, SETTING_s3_single_writer))
        log_event(LOG_INFO, "s3.single_writer is set: only this node may write to the object store",
                  LOG_TEXT("store", store_name(store)));
    else if (store_caps(store)->exclusive)
        log_event(LOG_WARN, "the object store has no conditional writes: only this node may write to it",
                  LOG_TEXT("store", store_name(store)));
    else
        log_event(LOG_INFO, "the object store has conditional writes: several nodes may write to it",
                  LOG_TEXT("store", store_name(store)));
}

static void serve_announce(struct serve *serve)
{
    char address[ADDRESS_BYTES_MAX];
    client_address(serve, address);
    struct store *store = location_store(serve->location);
    if (!location_is_s3(config_text(&serve->started, SETTING_store_location)))
        local_store_announce(store, address);
    else
        bucket_announce(serve, store);
    metric_gauge_set(METRIC_STORE_SINGLE_WRITER, store_caps(store)->exclusive);
    if (isatty(STDERR_FILENO))
        print_welcome(serve, address);
    log_event(LOG_INFO, "serving", LOG_TEXT("version", ORLOP_VERSION), LOG_TEXT("address", address),
              LOG_U64("port", http_server_port(serve->http)),
              LOG_U64("admin_port", http_server_admin_port(serve->http)), LOG_TEXT("store", store_name(store)),
              LOG_TEXT("config", serve->started.file));
    if (auth_is_open(serve->auth))
        log_event(LOG_INFO, "no users' file is set: everyone may push and delete");
}

static void serve_until_told(struct serve *serve)
{
    int number = signals_wait();
    while (number == SIGHUP) {
        serve_reload(serve);
        number = signals_wait();
    }
    log_event(LOG_INFO, "ending: running requests may finish", LOG_TEXT("signal", sigabbrev_np(number)));
    pthread_t watcher;
    if (pthread_create(&watcher, NULL, exit_on_second_signal, NULL) == 0)
        pthread_detach(watcher);
}

static void serve_free(struct serve *serve)
{
    config_free(&serve->live);
    config_free(&serve->started);
}

/*
 * As many heaps as processors: glibc's usual eight for each keep tens of MiB that were freed, when many threads took
 * memory at once.
 */
static void heaps_limit(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    (void) mallopt(M_ARENA_MAX, processors > 0 ? (int) processors : 1);
}

int command_serve(int argc, char **argv)
{
    cleanup(serve_free) struct serve serve = {.argc = argc, .argv = argv};
    struct err err = ERR_INIT;
    int status;
    if (config_init(&serve.started, &err) || config_init(&serve.live, &err))
        return cli_fail(&err);
    if (!cli_parse(&serve_syntax, argc, argv, &serve.started, &status))
        return status;
    if (cli_load(&serve_syntax, argc, argv, &serve.live, &err) || settings_check(&serve.started, &err)) {
        (void) cli_fail(&err);
        return CLI_USAGE;
    }

    heaps_limit();
    signals_block(); /* before the first thread, which inherits it */
    log_set_level(settings_log_level(&serve.started));
    log_init(settings_log_format(&serve.started));
    status = CLI_DONE;
    if (serve_start(&serve, &err)) {
        status = cli_fail(&err);
    } else {
        serve_announce(&serve);
        serve_until_told(&serve);
    }
    if (!serve_stop(&serve)) {
        log_event(LOG_ERROR, "ended although a request still hangs in the store");
        log_finish();
        _exit(CLI_FAILED); /* without tearing down what that request's thread uses */
    }
    if (status == CLI_DONE)
        log_event(LOG_INFO, "ended");
    log_finish();
    return status;
}

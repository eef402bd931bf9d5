#include "registry/check.h"
#include "base/json_text.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/location.h"
#include "cli/settings.h"

#define BAR_CELLS 24
#define BAR_INTERVAL_MS 100
#define LINE_INTERVAL_MS 5000
#define FINDING_BYTES_MAX (64 * 1024)
#define MS_PER_S 1000.0

enum progress_style { PROGRESS_NONE, PROGRESS_BAR, PROGRESS_LINES };

struct check_run {
    bool json;
    enum progress_style style;
    uint64_t start_ms;
    uint64_t shown_ms; /* when progress was last shown */
    bool bar_is_shown;
    size_t findings;
};

/* ---- progress, on stderr ---- */

/* "1.5 GiB"; out has 16 bytes. */
static const char *human_bytes(uint64_t bytes, char *out)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double number = (double) bytes;
    size_t unit = 0;
    while (number >= 1000 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        number /= 1024;
        unit++;
    }
    (void) snprintf(out, 16, unit == 0 ? "%.0f %s" : "%.1f %s", number, units[unit]);
    return out;
}

static void bar_clear(struct check_run *run)
{
    if (run->bar_is_shown)
        (void) fputs("\r\033[K", stderr);
    run->bar_is_shown = false;
}

/* "37% of 2.6 GiB, 812.0 MiB/s, 0:02 left, 0 errors" */
static void progress_text(const struct check_run *run, uint64_t now_ms, uint64_t bytes_done, uint64_t bytes_total,
                          const struct check_totals *totals, struct buf *out)
{
    char total_text[16];
    char rate_text[16];
    double seconds = (double) (now_ms - run->start_ms) / MS_PER_S;
    double rate = seconds > 0 ? (double) bytes_done / seconds : 0;
    uint64_t left_s = rate > 0 ? (uint64_t) ((double) (bytes_total - bytes_done) / rate + 0.5) : 0;
    (void) buf_appendf(out, "%3u%% of %s, %s/s, %llu:%02llu left, %llu errors",
                       (unsigned) ((double) bytes_done * 100 / (double) bytes_total),
                       human_bytes(bytes_total, total_text), human_bytes((uint64_t) rate, rate_text),
                       (unsigned long long) (left_s / 60), (unsigned long long) (left_s % 60),
                       (unsigned long long) totals->errors);
}

static void check_progress(void *arg, uint64_t bytes_done, uint64_t bytes_total, const struct check_totals *totals)
{
    struct check_run *run = arg;
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t interval_ms = run->style == PROGRESS_BAR ? BAR_INTERVAL_MS : LINE_INTERVAL_MS;
    if (run->style == PROGRESS_NONE || now_ms - run->shown_ms < interval_ms)
        return;
    run->shown_ms = now_ms;
    if (bytes_done > bytes_total) /* a server beside us adds blobs */
        bytes_done = bytes_total;

    char text[256];
    struct buf line = BUF_ON(text);
    if (bytes_total == 0)
        (void) buf_append_text(&line, "counting");
    else
        progress_text(run, now_ms, bytes_done, bytes_total, totals, &line);
    if (run->style == PROGRESS_LINES) {
        (void) fprintf(stderr, "check: %s\n", line.ptr);
        return;
    }
    int cells = bytes_total > 0 ? (int) ((double) bytes_done * BAR_CELLS / (double) bytes_total) : 0;
    (void) fprintf(stderr, "\r\033[K[%.*s%*s] %s", cells, "########################", BAR_CELLS - cells, "", line.ptr);
    (void) fflush(stderr);
    run->bar_is_shown = true;
}

/* ---- findings and the report, on stdout ---- */

static const char *severity_name(enum check_severity severity)
{
    return severity == CHECK_ERROR ? "error" : "leftover";
}

static void check_finding(void *arg, enum check_severity severity, const char *kind, const char *key, const char *text)
{
    struct check_run *run = arg;
    auto_buf line = BUF_INIT(FINDING_BYTES_MAX);
    if (run->json) {
        (void) buf_appendf(&line, "%s\n    {\"severity\": \"%s\", \"kind\": ", run->findings > 0 ? "," : "",
                           severity_name(severity));
        (void) buf_append_json_string(&line, str_from(kind));
        (void) buf_append_text(&line, ", \"key\": ");
        (void) buf_append_json_string(&line, str_from(key));
        (void) buf_append_text(&line, ", \"text\": ");
        (void) buf_append_json_string(&line, str_from(text));
        (void) buf_append_text(&line, "}");
    } else {
        (void) buf_appendf(&line, "%-8s  %s  %s: %s\n", severity_name(severity), kind, key, text);
    }
    run->findings++;
    bar_clear(run);
    (void) fwrite(buf_str(&line).ptr, 1, line.len, stdout);
}

static void report_begin(const struct check_run *run, const char *store, bool quick)
{
    if (!run->json)
        return;
    auto_buf out = BUF_INIT(FINDING_BYTES_MAX);
    (void) buf_append_text(&out, "{\n  \"store\": ");
    (void) buf_append_json_string(&out, str_from(store));
    (void) buf_appendf(&out, ",\n  \"quick\": %s,\n  \"findings\": [", quick ? "true" : "false");
    (void) fwrite(buf_str(&out).ptr, 1, out.len, stdout);
}

static int report_end_json(const struct check_run *run, const struct check_totals *totals, double seconds,
                           const struct err *failure)
{
    auto_buf out = BUF_INIT(FINDING_BYTES_MAX);
    (void) buf_appendf(&out,
                       "%s],\n  \"totals\": {\"blobs\": %llu, \"blob_bytes\": %llu, \"manifests\": %llu, "
                       "\"tags\": %llu, \"references\": %llu, \"referrers\": %llu, \"repositories\": %llu, "
                       "\"uploads\": %llu, \"errors\": %llu, \"leftovers\": %llu},\n  \"seconds\": %.3f,\n"
                       "  \"complete\": %s",
                       run->findings > 0 ? "\n  " : "", (unsigned long long) totals->blobs,
                       (unsigned long long) totals->blob_bytes, (unsigned long long) totals->manifests,
                       (unsigned long long) totals->tags, (unsigned long long) totals->references,
                       (unsigned long long) totals->referrers, (unsigned long long) totals->repositories,
                       (unsigned long long) totals->uploads, (unsigned long long) totals->errors,
                       (unsigned long long) totals->leftovers, seconds, failure ? "false" : "true");
    if (failure) {
        (void) buf_append_text(&out, ",\n  \"failure\": ");
        (void) buf_append_json_string(&out, str_from(err_text(failure)));
    }
    (void) buf_append_text(&out, "\n}\n");
    return cli_print(&out);
}

static int report_end_text(const struct check_totals *totals, double seconds, bool quick)
{
    char bytes_text[16];
    auto_buf out = BUF_INIT(FINDING_BYTES_MAX);
    (void) buf_appendf(&out,
                       "%s %llu blobs (%s), %llu manifests, %llu tags, %llu references, %llu referrers in %llu "
                       "repositories, and %llu open uploads in %.1f s\n",
                       quick ? "Looked at" : "Verified", (unsigned long long) totals->blobs,
                       human_bytes(totals->blob_bytes, bytes_text), (unsigned long long) totals->manifests,
                       (unsigned long long) totals->tags, (unsigned long long) totals->references,
                       (unsigned long long) totals->referrers, (unsigned long long) totals->repositories,
                       (unsigned long long) totals->uploads, seconds);
    if (totals->errors == 0)
        (void) buf_append_text(&out, "No errors");
    else
        (void) buf_appendf(&out, "%llu error%s", (unsigned long long) totals->errors, totals->errors == 1 ? "" : "s");
    if (totals->leftovers > 0)
        (void) buf_appendf(&out, "; %llu harmless leftover%s of interrupted requests",
                           (unsigned long long) totals->leftovers, totals->leftovers == 1 ? "" : "s");
    (void) buf_append_text(&out, totals->errors == 0 ? ".\n" : ": the store is damaged.\n");
    return cli_print(&out);
}

static int check_store(struct check_run *run, const struct config *config, bool quick)
{
    struct err err = ERR_INIT;
    struct location *opened = NULL;
    const char *location = config_text(config, SETTING_store_location);
    if (location_open(config, LOCAL_BESIDE, &opened, &err)) {
        if (err.code == ERR_NOT_FOUND)
            return cli_error("%s holds no store%s%s", location, err.detail[0] ? ": " : "", err.detail);
        return cli_fail(&err);
    }
    const struct check_callbacks callbacks = {.arg = run, .finding = check_finding, .progress = check_progress};
    struct check_totals totals = {0};
    run->start_ms = clock_monotonic_ms();
    report_begin(run, location, quick);
    enum err_code failed = registry_check(location_store(opened), quick, &callbacks, &totals, &err);
    double seconds = (double) (clock_monotonic_ms() - run->start_ms) / MS_PER_S;
    location_close(opened);
    bar_clear(run);

    int printed = CLI_DONE;
    if (run->json)
        printed = report_end_json(run, &totals, seconds, failed ? &err : NULL);
    else if (!failed)
        printed = report_end_text(&totals, seconds, quick);
    if (failed)
        return cli_fail(&err);
    return totals.errors > 0 ? CLI_FAILED : printed;
}

int command_check(int argc, char **argv)
{
    bool quick = false;
    bool json = false;
    bool progress = false;
    const struct cli_option options[] = {
        {"--quick", NULL, "Compare sizes only; digests are not verified.", NULL, &quick},
        {"--json", NULL, "Print the report as one JSON object.", NULL, &json},
        {"--progress", NULL, "Print progress lines to stderr when it is no terminal, too.", NULL, &progress},
    };
    const struct cli_syntax syntax = {
        .usage = "orlop check [--store DIR | s3://BUCKET[/PREFIX]] [--quick] [--json] [--progress] [--config FILE]",
        .prose = "Verify a store: every digest, every reference. A server may run on it meanwhile. Exit 0: no errors\n"
                 "(leftovers of interrupted requests are harmless and only mentioned); 1: errors, or the store cannot\n"
                 "be read.",
        .options = options,
        .option_count = sizeof(options) / sizeof(options[0]),
        .settings = CLI_SETTINGS_STORE,
    };
    int status;
    struct err err = ERR_INIT;
    auto_config config = {0};
    if (config_init(&config, &err))
        return cli_fail(&err);
    if (!cli_parse(&syntax, argc, argv, &config, &status))
        return status;
    if (settings_check_store(&config, &err)) {
        (void) cli_fail(&err);
        return CLI_USAGE;
    }
    struct check_run run = {
        .json = json,
        .style = isatty(STDERR_FILENO) ? PROGRESS_BAR
                 : progress            ? PROGRESS_LINES
                                       : PROGRESS_NONE,
    };
    return check_store(&run, &config, quick);
}

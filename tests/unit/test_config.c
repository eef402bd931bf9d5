#include "cli/config.h"
#include "cli/config_text.h"
#include "cli/suggest.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define TEXT_BYTES_MAX (256 * 1024)

static int config_make(void **state)
{
    struct config *config = calloc(1, sizeof(*config));
    struct err err = ERR_INIT;
    assert_non_null(config);
    assert_int_equal(config_init(config, &err), ERR_OK);
    *state = config;
    return 0;
}

static int config_remove(void **state)
{
    config_free(*state);
    free(*state);
    return 0;
}

static void assert_value(const struct config *config, enum setting setting, const char *expected)
{
    auto_buf value = BUF_INIT(TEXT_BYTES_MAX);
    assert_true(config_append_value(&value, config, setting));
    assert_string_equal(buf_str(&value).ptr, expected);
}

static void assert_origin(const struct config *config, enum setting setting, const char *expected)
{
    auto_buf origin = BUF_INIT(TEXT_BYTES_MAX);
    assert_true(config_append_origin(&origin, config, setting));
    assert_string_equal(buf_str(&origin).ptr, expected);
}

static void test_defaults(void **state)
{
    struct config *config = *state;
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        enum setting setting = (enum setting) i;
        const struct setting_info *info = setting_info(setting);
        assert_int_equal(config->values[i].origin, ORIGIN_DEFAULT);
        assert_true(info->min <= info->max);
        assert_true(info->prose[strlen(info->prose) - 1] == '.');
        assert_int_equal(info->type == CONFIG_CHOICE, strchr(info->choices, '|') != NULL);
    }
    assert_string_equal(config_text(config, SETTING_http_listen), "127.0.0.1:5000");
    assert_int_equal(config_number(config, SETTING_http_drain), 30000);
    assert_int_equal(config_number(config, SETTING_http_buffered_bytes_max), 64 << 20);
    assert_true(config_bool(config, SETTING_registry_deletes));
    assert_origin(config, SETTING_http_listen, "default");
}

static void test_names(void **state)
{
    (void) state;
    char name[CONFIG_NAME_BYTES_MAX];
    setting_key_name(SETTING_http_header_timeout, name);
    assert_string_equal(name, "http.header_timeout");
    setting_flag_name(SETTING_http_header_timeout, name);
    assert_string_equal(name, "--http-header-timeout");
    setting_variable_name(SETTING_http_header_timeout, name);
    assert_string_equal(name, "ORLOP_HTTP_HEADER_TIMEOUT");
    enum setting setting;
    assert_true(setting_find(STR("log"), STR("level"), &setting));
    assert_int_equal(setting, SETTING_log_level);
    assert_false(setting_find(STR("log"), STR("listen"), &setting));
    assert_false(setting_find(STR(""), STR(""), &setting));
}

static void test_bytes(void **state)
{
    struct config *config = *state;
    static const struct {
        const char *text;
        uint64_t bytes;
        const char *shortest;
    } rows[] = {
        {"65536", 65536, "64KiB"},    {"64KiB", 65536, "64KiB"},  {"64 KiB", 65536, "64KiB"},
        {"100k", 100000, "100k"},     {"100kB", 100000, "100k"},  {"1M", 1000000, "1M"},
        {"1MB", 1000000, "1M"},       {"1MiB", 1 << 20, "1MiB"},  {"20001", 20001, "20001B"},
        {"64MiB", 64 << 20, "64MiB"}, {"65536B", 65536, "64KiB"}, {"00016KiB", 16384, "16KiB"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(config_set(config, SETTING_http_body_pipe_bytes, str_from(rows[i].text), ORIGIN_FLAG, 0, &err),
                         ERR_OK);
        assert_int_equal(config_number(config, SETTING_http_body_pipe_bytes), rows[i].bytes);
        assert_value(config, SETTING_http_body_pipe_bytes, rows[i].shortest);
    }
}

static void test_durations(void **state)
{
    struct config *config = *state;
    static const struct {
        const char *text;
        uint64_t ms;
        const char *shortest;
    } rows[] = {
        {"0", 0, "0"},          {"1500ms", 1500, "1500ms"}, {"2s", 2000, "2s"},     {"120s", 120000, "2m"},
        {"90 s", 90000, "90s"}, {"1h", 3600000, "1h"},      {"1d", 86400000, "1d"}, {"24h", 86400000, "1d"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(config_set(config, SETTING_http_drain, str_from(rows[i].text), ORIGIN_FLAG, 0, &err), ERR_OK);
        assert_int_equal(config_number(config, SETTING_http_drain), rows[i].ms);
        assert_value(config, SETTING_http_drain, rows[i].shortest);
    }
}

static void test_wrong_values(void **state)
{
    struct config *config = *state;
    static const struct {
        enum setting setting;
        const char *text;
        const char *message;
    } rows[] = {
        {SETTING_http_workers, "0", "'0' is too small: the least is 1"},
        {SETTING_http_workers, "1025", "'1025' is too big: the most is 1024"},
        {SETTING_http_workers, "-1", "'-1' is not a number"},
        {SETTING_http_workers, "", "'' is not a number"},
        {SETTING_http_workers, "8.5", "'8.5' is not a number"},
        {SETTING_http_header_bytes_max, "1", "'1' is too small: the least is 4KiB"},
        {SETTING_http_header_bytes_max, "32Kib", "'Kib' is not a unit: use k, M, G, T, KiB, MiB, GiB or TiB"},
        {SETTING_http_header_bytes_max, "big", "'big' is not a size: write a number and a unit, like 64MiB"},
        {SETTING_http_header_bytes_max, "99999999999T", "'99999999999T' is too big a number"},
        {SETTING_http_header_timeout, "30", "'30' has no unit: add ms, s, m, h or d"},
        {SETTING_http_header_timeout, "30x", "'x' is not a unit: use ms, s, m, h or d"},
        {SETTING_http_header_timeout, "s", "'s' is not a duration: write a number and a unit, like 30s"},
        {SETTING_http_header_timeout, "2h", "'2h' is too big: the most is 1h"},
        {SETTING_http_header_timeout, "0", "'0' is too small: the least is 100ms"},
        {SETTING_registry_deletes, "maybe", "'maybe' is neither true nor false"},
        {SETTING_registry_deletes, "True", "'True' is neither true nor false"},
        {SETTING_log_level, "verbose", "'verbose' is none of debug|info|warn|error"},
        {SETTING_log_level, "", "'' is none of debug|info|warn|error"},
        {SETTING_log_level, "info|warn", "'info|warn' is none of debug|info|warn|error"},
        {SETTING_store_location, "", "it must not be empty"},
        {SETTING_store_location, "a\nb", "the text has a control character at byte 2"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(config_set(config, rows[i].setting, str_from(rows[i].text), ORIGIN_FLAG, 0, &err),
                         ERR_INVALID);
        assert_string_equal(err.message, rows[i].message);
        assert_int_equal(config->values[rows[i].setting].origin, ORIGIN_DEFAULT);
    }
}

static void test_words(void **state)
{
    struct config *config = *state;
    struct err err = ERR_INIT;
    static const char *const yes[] = {"true", "yes", "on"};
    static const char *const no[] = {"false", "no", "off"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(config_set(config, SETTING_log_access, str_from(no[i]), ORIGIN_FLAG, 0, &err), ERR_OK);
        assert_false(config_bool(config, SETTING_log_access));
        assert_int_equal(config_set(config, SETTING_log_access, str_from(yes[i]), ORIGIN_FLAG, 0, &err), ERR_OK);
        assert_true(config_bool(config, SETTING_log_access));
    }
    assert_int_equal(config_set(config, SETTING_log_level, STR("error"), ORIGIN_FLAG, 0, &err), ERR_OK);
    assert_int_equal(config_number(config, SETTING_log_level), 3);
}

static void test_the_stronger_origin_wins_in_any_order(void **state)
{
    struct config *config = *state;
    struct err err = ERR_INIT;
    assert_int_equal(config_set(config, SETTING_http_workers, STR("3"), ORIGIN_FLAG, 0, &err), ERR_OK);
    assert_int_equal(config_set(config, SETTING_http_workers, STR("2"), ORIGIN_ENVIRONMENT, 0, &err), ERR_OK);
    assert_int_equal(config_set(config, SETTING_http_workers, STR("1"), ORIGIN_FILE, 7, &err), ERR_OK);
    assert_int_equal(config_number(config, SETTING_http_workers), 3);
    assert_origin(config, SETTING_http_workers, "--http-workers");
    /* What loses must still be right. */
    assert_int_equal(config_set(config, SETTING_http_workers, STR("x"), ORIGIN_FILE, 7, &err), ERR_INVALID);
    assert_int_equal(config_set(config, SETTING_http_workers, STR("4"), ORIGIN_FLAG, 0, &err), ERR_OK);
    assert_int_equal(config_number(config, SETTING_http_workers), 4);
}

static void test_environment(void **state)
{
    struct config *config = *state;
    struct err err = ERR_INIT;
    assert_int_equal(setenv("ORLOP_LOG_LEVEL", "debug", 1), 0);
    assert_int_equal(config_read_environment(config, &err), ERR_OK);
    assert_origin(config, SETTING_log_level, "ORLOP_LOG_LEVEL");
    assert_value(config, SETTING_log_level, "debug");
    assert_int_equal(setenv("ORLOP_LOG_LEVEL", "loud", 1), 0);
    assert_int_equal(config_read_environment(config, &err), ERR_INVALID);
    assert_string_equal(err.message, "ORLOP_LOG_LEVEL: 'loud' is none of debug|info|warn|error");
    assert_int_equal(unsetenv("ORLOP_LOG_LEVEL"), 0);
}

static void test_yaml(void **state)
{
    struct config *config = *state;
    struct err err = ERR_INIT;
    assert_int_equal(config_read_yaml(config, "f",
                                      STR("# a comment\n"
                                          "http:\n"
                                          "  listen: ':80'\n"
                                          "  workers: 8 # inline\n"
                                          "\n"
                                          "log: {level: warn, access: no}\n"
                                          "auth:\n"
                                          "store:\n"
                                          "  location: \"/a b\"\n"),
                                      &err),
                     ERR_OK);
    assert_string_equal(config_text(config, SETTING_http_listen), ":80");
    assert_int_equal(config_number(config, SETTING_http_workers), 8);
    assert_int_equal(config->values[SETTING_http_workers].line, 4);
    assert_value(config, SETTING_log_level, "warn");
    assert_false(config_bool(config, SETTING_log_access));
    assert_string_equal(config_text(config, SETTING_store_location), "/a b");

    static const char *const empty[] = {"", "\n", "# only this\n", "---\n", "~\n", "\xef\xbb\xbfhttp:\n  workers: 9\n"};
    for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++)
        assert_int_equal(config_read_yaml(config, "f", str_from(empty[i]), &err), ERR_OK);
}

static void test_yaml_errors(void **state)
{
    struct config *config = *state;
    static const struct {
        const char *text;
        const char *message;
    } rows[] = {
        {"http:\n  workers: 8\n  wokers: 9\n",
         "f:3: http.wokers: there is no such setting; did you mean http.workers?"},
        {"http:\n  htpasswd: x\n", "f:2: http.htpasswd: there is no such setting; did you mean auth.htpasswd?"},
        {"http:\n  zzzzzzzz: x\n", "f:2: http.zzzzzzzz: there is no such setting"},
        {"htpp:\n  listen: x\n", "f:1: htpp: there is no such section; did you mean http?"},
        {"\n\nbanana: 1\n", "f:3: banana: there is no such section"},
        {"http: 7\n", "f:1: http: it needs indented 'key: value' lines, not a single value"},
        {"http:\n- workers\n", "f:2: http: it needs indented 'key: value' lines, not a list"},
        {"http:\n  workers: [8]\n", "f:2: http.workers: it needs one value, not a list"},
        {"http:\n  workers: {a: 8}\n", "f:2: http.workers: it needs one value, not a mapping"},
        {"http:\n  workers:\n", "f:2: http.workers: it has no value: write one or remove the line"},
        {"http:\n  workers: 1\n  workers: 2\n", "f:3: http.workers: it is set twice"},
        {"http:\n  workers: many\n", "f:2: http.workers: 'many' is not a number"},
        {"http:\n  [a]: 1\n", "f:2: http.: there is no such setting"},
        {"- http\n", "f:1: the file needs 'section:' lines, not a list"},
        {"just words\n", "f:1: the file needs 'section:' lines, not a single value"},
        {"---\nhttp:\n---\nlog:\n", "f:4: a second document begins here: the file may have only one"},
        {"http:\n\tworkers: 8\n", "f:2: this is not YAML: found character that cannot start any token"},
        {"http: [\n", "f:2: this is not YAML: did not find expected node content"},
        {"store:\n  location: \"a\\0b\"\n", "f:2: store.location: the text has a control character at byte 2"},
        {"http: *x\n", "f:1: this is not YAML: found undefined alias"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(config_read_yaml(config, "f", str_from(rows[i].text), &err), ERR_INVALID);
        assert_string_equal(err.message, rows[i].message);
    }
    struct err err = ERR_INIT;
    assert_int_equal(config_read_yaml(config, "f", STR("http:\n  listen: \"\xff\"\n"), &err), ERR_INVALID);
    assert_non_null(strstr(err.message, "this is not YAML"));
}

static void test_file(void **state)
{
    struct config *config = *state;
    struct err err = ERR_INIT;
    assert_int_equal(config_read_file(config, "/nonexistent/orlop.yaml", &err), ERR_INVALID);
    assert_string_equal(err.message, "/nonexistent/orlop.yaml: the file cannot be read: No such file or directory");

    char path[] = "/tmp/orlop-config-XXXXXX";
    auto_fd fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "http:\n  workers: 5\n", 19), 19);
    assert_int_equal(config_read_file(config, path, &err), ERR_OK);
    char origin[sizeof(path) + 2];
    (void) snprintf(origin, sizeof(origin), "%s:2", path);
    assert_origin(config, SETTING_http_workers, origin);
    assert_int_equal(unlink(path), 0);
}

static void test_show_can_be_read_again(void **state)
{
    struct config *config = *state;
    struct err err = ERR_INIT;
    assert_int_equal(config_set(config, SETTING_store_location, STR("/a \"b\" # \xc3\xbc"), ORIGIN_FLAG, 0, &err),
                     ERR_OK);
    assert_int_equal(config_set(config, SETTING_http_drain, STR("90s"), ORIGIN_FLAG, 0, &err), ERR_OK);
    auto_buf yaml = BUF_INIT(TEXT_BYTES_MAX);
    config_append_yaml(&yaml, config);
    assert_non_null(strstr(yaml.ptr, "  drain: 90s"));
    assert_non_null(strstr(yaml.ptr, " # --http-drain\n"));

    auto_config again = {0};
    assert_int_equal(config_init(&again, &err), ERR_OK);
    assert_int_equal(config_read_yaml(&again, "shown", buf_str(&yaml), &err), ERR_OK);
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        assert_int_equal(again.values[i].number, config->values[i].number);
        if (setting_info((enum setting) i)->type == CONFIG_TEXT)
            assert_string_equal(again.values[i].text, config->values[i].text);
        assert_int_equal(again.values[i].origin, ORIGIN_FILE);
    }
}

static void test_help_and_reference_name_every_setting(void **state)
{
    (void) state;
    auto_buf help = BUF_INIT(TEXT_BYTES_MAX);
    auto_buf reference = BUF_INIT(TEXT_BYTES_MAX);
    config_append_help(&help);
    config_append_reference(&reference);
    assert_false(help.overflowed || reference.overflowed);
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        enum setting setting = (enum setting) i;
        char name[CONFIG_NAME_BYTES_MAX];
        setting_flag_name(setting, name);
        assert_non_null(strstr(help.ptr, name));
        assert_non_null(strstr(reference.ptr, name));
        setting_key_name(setting, name);
        assert_non_null(strstr(reference.ptr, name));
        setting_variable_name(setting, name);
        assert_non_null(strstr(reference.ptr, name));
    }
    for (const char *line = help.ptr; *line; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 80);
}

static void test_suggest(void **state)
{
    (void) state;
    static const char *const words[] = {"serve", "check", "config", "version"};
    static const struct {
        const char *word;
        const char *meant;
    } rows[] = {
        {"serve", "serve"}, {"server", "serve"}, {"srve", "serve"}, {"esrve", "serve"},     {"conifg", "config"},
        {"chekc", "check"}, {"x", NULL},         {"", NULL},        {"verzion", "version"}, {"banana", NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *meant = suggest(str_from(rows[i].word), words, 4);
        if (rows[i].meant)
            assert_string_equal(meant, rows[i].meant);
        else
            assert_null(meant);
    }
    char longest[SUGGEST_WORD_BYTES_MAX + 2];
    memset(longest, 's', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_null(suggest(str_from(longest), words, 4));
}

int main(void)
{
#define WITH_CONFIG(test) cmocka_unit_test_setup_teardown(test, config_make, config_remove)
    const struct CMUnitTest tests[] = {
        WITH_CONFIG(test_defaults),
        cmocka_unit_test(test_names),
        WITH_CONFIG(test_bytes),
        WITH_CONFIG(test_durations),
        WITH_CONFIG(test_wrong_values),
        WITH_CONFIG(test_words),
        WITH_CONFIG(test_the_stronger_origin_wins_in_any_order),
        WITH_CONFIG(test_environment),
        WITH_CONFIG(test_yaml),
        WITH_CONFIG(test_yaml_errors),
        WITH_CONFIG(test_file),
        WITH_CONFIG(test_show_can_be_read_again),
        cmocka_unit_test(test_help_and_reference_name_every_setting),
        cmocka_unit_test(test_suggest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

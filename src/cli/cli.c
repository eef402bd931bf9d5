#include "cli/cli.h"

#include "cli/config_text.h"
#include "cli/suggest.h"

#include <errno.h>
#include <stdarg.h>

#define CANDIDATES_MAX (2 * SETTING_COUNT + 16)
#define ERROR_BYTES_MAX 4096

int cli_error(const char *format, ...)
{
    char text[ERROR_BYTES_MAX];
    va_list args;
    va_start(args, format);
    (void) vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    /* Some of it may be the words of an object store: none of them for the terminal to obey. */
    for (char *at = text; *at; at++) {
        if (((unsigned char) *at < ' ' && *at != '\n') || *at == 0x7F)
            *at = '?';
    }
    (void) fprintf(stderr, "orlop: %s\n", text);
    return CLI_FAILED;
}

int cli_fail(const struct err *err)
{
    bool detailed = err->detail[0] != '\0';
    return cli_error("%s%s%s%s", err->message, detailed ? " (" : "", detailed ? err->detail : "", detailed ? ")" : "");
}

int cli_print(const struct buf *out)
{
    if (out->overflowed)
        return cli_error("the output is longer than %zu bytes", out->max);
    if (fwrite(buf_str(out).ptr, 1, out->len, stdout) != out->len || fflush(stdout) != 0)
        return cli_error("the output cannot be written: %s", strerror(errno));
    return CLI_DONE;
}

/* ---- flags ---- */

static bool takes_setting(const struct cli_syntax *syntax, enum setting setting)
{
    const char *section = setting_info(setting)->section;
    return syntax->settings == CLI_SETTINGS_ALL ||
           (syntax->settings == CLI_SETTINGS_STORE && (strcmp(section, "store") == 0 || strcmp(section, "s3") == 0));
}

static bool find_setting(const struct cli_syntax *syntax, struct str flag, enum setting *out)
{
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        enum setting setting = (enum setting) i;
        char name[CONFIG_NAME_BYTES_MAX];
        setting_flag_name(setting, name);
        const char *short_flag = setting_short_flag(setting);
        if (takes_setting(syntax, setting) &&
            (str_equal(flag, str_from(name)) || (short_flag && str_equal(flag, str_from(short_flag))))) {
            *out = setting;
            return true;
        }
    }
    return false;
}

static const struct cli_option *find_option(const struct cli_syntax *syntax, struct str flag)
{
    for (size_t i = 0; i < syntax->option_count; i++)
        if (str_equal(flag, str_from(syntax->options[i].flag)))
            return &syntax->options[i];
    return NULL;
}

static enum err_code refuse_flag(const struct cli_syntax *syntax, struct str flag, struct err *err)
{
    char names[SETTING_COUNT][CONFIG_NAME_BYTES_MAX];
    const char *candidates[CANDIDATES_MAX];
    size_t count = 0;
    candidates[count++] = "--help";
    if (syntax->settings != CLI_SETTINGS_NONE)
        candidates[count++] = "--config";
    for (size_t i = 0; i < syntax->option_count && count < CANDIDATES_MAX; i++)
        candidates[count++] = syntax->options[i].flag;
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        enum setting setting = (enum setting) i;
        if (!takes_setting(syntax, setting))
            continue;
        setting_flag_name(setting, names[i]);
        if (setting_short_flag(setting) && count < CANDIDATES_MAX)
            candidates[count++] = setting_short_flag(setting);
        if (count < CANDIDATES_MAX)
            candidates[count++] = names[i];
    }
    /* A setting's section is easily forgotten: --workers is near nothing, but the end of --http-workers. */
    const char *meant = suggest(flag, candidates, count);
    for (size_t i = 0; !meant && i < count && flag.len > 2; i++) {
        size_t len = strlen(candidates[i]);
        struct str tail = {flag.ptr + 1, flag.len - 1};
        if (len > tail.len && str_equal((struct str){candidates[i] + len - tail.len, tail.len}, tail))
            meant = candidates[i];
    }
    return err_set(err, ERR_INVALID, "there is no flag %.*s%s%s%s", (int) flag.len, flag.ptr,
                   meant ? "; did you mean " : "", meant ? meant : "", meant ? "?" : "");
}

/* What stands on the command line besides settings. */
struct given {
    bool help;
    const char *config_file; /* NULL: not given */
};

/* One flag; *at is its place in argv, moved past its value when that is an argument of its own. */
static enum err_code parse_flag(const struct cli_syntax *syntax, int argc, char **argv, int *at, struct given *given,
                                struct config *config, struct err *err)
{
    const char *word = argv[*at];
    const char *equals = strchr(word, '=');
    struct str flag = {word, equals ? (size_t) (equals - word) : strlen(word)};
    bool is_config = syntax->settings != CLI_SETTINGS_NONE && str_equal(flag, STR("--config"));
    const struct cli_option *option = is_config ? NULL : find_option(syntax, flag);
    enum setting setting = SETTING_COUNT;
    bool is_setting = !is_config && !option && find_setting(syntax, flag, &setting);
    if (!is_config && !option && !is_setting)
        return refuse_flag(syntax, flag, err);

    if (option && !option->value_name) {
        if (equals)
            return err_set(err, ERR_INVALID, "%s takes no value", option->flag);
        *option->on = true;
        return ERR_OK;
    }
    const char *value = equals ? equals + 1 : *at + 1 < argc ? argv[++*at] : NULL;
    if (!value)
        return err_set(err, ERR_INVALID, "%.*s needs a value", (int) flag.len, flag.ptr);
    if (option)
        *option->value = value;
    else if (is_config)
        given->config_file = value;
    else if (config_set(config, setting, str_from(value), ORIGIN_FLAG, 0, err))
        return err_set(err, err->code, "%.*s: %s", (int) flag.len, flag.ptr, err->message);
    return ERR_OK;
}

static enum err_code parse_flags(const struct cli_syntax *syntax, int argc, char **argv, struct given *given,
                                 struct config *config, struct err *err)
{
    /* --help is answered whatever else is wrong. */
    for (int i = 1; i < argc; i++)
        given->help = given->help || strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
    for (int i = 1; i < argc && !given->help; i++) {
        if (argv[i][0] != '-')
            return err_set(err, ERR_INVALID, "'%s' is not expected here", argv[i]);
        if (parse_flag(syntax, argc, argv, &i, given, config, err))
            return err->code;
    }
    return ERR_OK;
}

/* The file: --config, else ORLOP_CONFIG, else the usual place if there is one. An empty name means none. */
static enum err_code load_file(const struct given *given, struct config *config, struct err *err)
{
    const char *path = given->config_file ? given->config_file : getenv("ORLOP_CONFIG");
    if (!path)
        path = access(CONFIG_FILE_DEFAULT, F_OK) == 0 ? CONFIG_FILE_DEFAULT : "";
    return path[0] != '\0' ? config_read_file(config, path, err) : ERR_OK;
}

/* A variable that is nearly a setting's is passed over, since it may be another's, but not in silence. */
static void note_misspelt_variables(void)
{
    char names[SETTING_COUNT][CONFIG_NAME_BYTES_MAX];
    const char *candidates[SETTING_COUNT];
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        setting_variable_name((enum setting) i, names[i]);
        candidates[i] = names[i];
    }
    for (char **at = environ; *at; at++) {
        struct str name = {*at, strcspn(*at, "=")};
        const char *meant = str_starts(name, STR("ORLOP_")) ? suggest(name, candidates, SETTING_COUNT) : NULL;
        if (meant && !str_equal(name, str_from(meant)))
            (void) cli_error("%.*s is not a setting and is passed over; did you mean %s?", (int) name.len, name.ptr,
                             meant);
    }
}

static enum err_code load_rest(const struct given *given, struct config *config, struct err *err)
{
    note_misspelt_variables();
    if (load_file(given, config, err) || config_read_environment(config, err))
        return err->code;
    return ERR_OK;
}

enum err_code cli_load(const struct cli_syntax *syntax, int argc, char **argv, struct config *config, struct err *err)
{
    struct given given = {0};
    if (parse_flags(syntax, argc, argv, &given, config, err))
        return err->code;
    return load_rest(&given, config, err);
}

/* ---- help ---- */

static int print_help(const struct cli_syntax *syntax)
{
    auto_buf out = BUF_INIT(CLI_OUTPUT_BYTES_MAX);
    (void) buf_appendf(&out, "Usage: %s\n\n%s\n\nFlags\n", syntax->usage, syntax->prose);
    for (size_t i = 0; i < syntax->option_count; i++) {
        const struct cli_option *option = &syntax->options[i];
        (void) buf_appendf(&out, "  %s%s%s\n", option->flag, option->value_name ? " " : "",
                           option->value_name ? option->value_name : "");
        config_append_wrapped(&out, 8, option->prose);
    }
    if (syntax->settings != CLI_SETTINGS_NONE) {
        (void) buf_append_text(&out, "  --config FILE\n");
        config_append_wrapped(&out, 8,
                              "YAML file with settings (also ORLOP_CONFIG); " CONFIG_FILE_DEFAULT " is read when it "
                              "exists. Flags win over environment variables, these over the file.");
    }
    (void) buf_append_text(&out, "  --help\n        Print this.\n");
    for (unsigned i = 0; syntax->settings == CLI_SETTINGS_STORE && i < SETTING_COUNT; i++) {
        if (takes_setting(syntax, (enum setting) i))
            config_append_setting_help(&out, (enum setting) i);
    }
    if (syntax->settings == CLI_SETTINGS_ALL)
        config_append_help(&out);
    return cli_print(&out);
}

bool cli_parse(const struct cli_syntax *syntax, int argc, char **argv, struct config *config, int *out_exit)
{
    struct given given = {0};
    struct err err = ERR_INIT;
    if (parse_flags(syntax, argc, argv, &given, config, &err)) {
        (void) cli_error("%s", err.message);
        (void) fprintf(stderr, "Usage: %s\n", syntax->usage);
        *out_exit = CLI_USAGE;
        return false;
    }
    if (given.help) {
        *out_exit = print_help(syntax);
        return false;
    }
    if (config && load_rest(&given, config, &err)) {
        (void) cli_error("%s", err.message);
        *out_exit = CLI_USAGE;
        return false;
    }
    return true;
}

/* ---- subcommands ---- */

static int print_commands(const char *path, const char *prose, const struct cli_command *commands, size_t count)
{
    auto_buf out = BUF_INIT(CLI_OUTPUT_BYTES_MAX);
    (void) buf_appendf(&out, "Usage: %s COMMAND [flags]\n\n%s\n\nCommands\n", path, prose);
    for (size_t i = 0; i < count; i++)
        (void) buf_appendf(&out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    (void) buf_appendf(&out, "\n'%s COMMAND --help' tells more.\n", path);
    return cli_print(&out);
}

int cli_dispatch(const char *path, const char *prose, const struct cli_command *commands, size_t count, int argc,
                 char **argv)
{
    if (argc < 2) {
        (void) cli_error("a command is missing: see '%s --help'", path);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
        return print_commands(path, prose, commands, count);
    const char *candidates[CANDIDATES_MAX];
    for (size_t i = 0; i < count && i < CANDIDATES_MAX; i++) {
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
        candidates[i] = commands[i].name;
    }
    const char *meant = suggest(str_from(name), candidates, count);
    (void) cli_error("there is no command '%s'%s%s%s", name, meant ? "; did you mean '" : "", meant ? meant : "",
                     meant ? "'?" : "");
    (void) fprintf(stderr, "Usage: %s COMMAND [flags], see '%s --help'\n", path, path);
    return CLI_USAGE;
}

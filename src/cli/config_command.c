#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/config_text.h"
#include "cli/settings.h"

/* Read the settings and judge them as a server would. true: go on. */
static bool read_settings(const struct cli_syntax *syntax, int argc, char **argv, struct config *config, int *out_exit)
{
    struct err err = ERR_INIT;
    if (config_init(config, &err)) {
        *out_exit = cli_fail(&err);
        return false;
    }
    if (!cli_parse(syntax, argc, argv, config, out_exit))
        return false;
    if (settings_check(config, &err)) {
        (void) cli_fail(&err);
        *out_exit = CLI_USAGE;
        return false;
    }
    return true;
}

static int config_check(int argc, char **argv)
{
    static const struct cli_syntax syntax = {
        .usage = "orlop config check [--config FILE] [settings]",
        .prose = "Tell whether the settings are right, the users' file included. Exit 0: they are.",
        .settings = CLI_SETTINGS_ALL,
    };
    int status;
    struct err err = ERR_INIT;
    auto_config config = {0};
    if (!read_settings(&syntax, argc, argv, &config, &status))
        return status;
    struct auth *auth = NULL;
    if (auth_new(config_text(&config, SETTING_auth_htpasswd), settings_anonymous(&config), &auth, &err)) {
        (void) cli_fail(&err);
        return CLI_USAGE;
    }
    auth_free(auth);
    auto_buf out = BUF_INIT(CLI_OUTPUT_BYTES_MAX);
    (void) buf_appendf(&out, "The settings are right (%s).\n", config.file ? config.file : "no file was read");
    return cli_print(&out);
}

static int config_show(int argc, char **argv)
{
    static const struct cli_syntax syntax = {
        .usage = "orlop config show [--config FILE] [settings]",
        .prose = "Print the settings in force as a YAML file, and as comments where each comes from.",
        .settings = CLI_SETTINGS_ALL,
    };
    int status;
    auto_config config = {0};
    if (!read_settings(&syntax, argc, argv, &config, &status))
        return status;
    auto_buf out = BUF_INIT(CLI_OUTPUT_BYTES_MAX);
    config_append_yaml(&out, &config);
    return cli_print(&out);
}

static int config_reference(int argc, char **argv)
{
    static const struct cli_syntax syntax = {
        .usage = "orlop config reference",
        .prose = "Print the page that explains every setting, in Markdown.",
        .settings = CLI_SETTINGS_NONE,
    };
    int status;
    if (!cli_parse(&syntax, argc, argv, NULL, &status))
        return status;
    auto_buf out = BUF_INIT(CLI_OUTPUT_BYTES_MAX);
    config_append_reference(&out);
    return cli_print(&out);
}

int command_config(int argc, char **argv)
{
    static const struct cli_command commands[] = {
        {"check", "Tell whether the settings are right", config_check},
        {"show", "Print the settings in force and where each comes from", config_show},
        {"reference", "Print the page that explains every setting", config_reference},
    };
    return cli_dispatch("orlop config", "Check, show and explain the settings.", commands,
                        sizeof(commands) / sizeof(commands[0]), argc, argv);
}

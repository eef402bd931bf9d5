/*
 * What the subcommands share: reading a command line, printing help and errors, exit codes.
 */
#ifndef ORLOP_CLI_CLI_H
#define ORLOP_CLI_CLI_H

#include "cli/config.h"

#define CLI_OUTPUT_BYTES_MAX (1024 * 1024)

enum cli_exit {
    CLI_DONE = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2, /* the command line or the settings are wrong; nothing was done */
};

/* A flag of one subcommand: a switch sets *on, one with a value_name sets *value (which points into argv). */
struct cli_option {
    const char *flag;
    const char *value_name; /* NULL for a switch */
    const char *prose;
    const char **value;
    bool *on;
};

/* Which settings a subcommand takes as flags. */
enum cli_settings { CLI_SETTINGS_NONE, CLI_SETTINGS_STORE, CLI_SETTINGS_ALL };

struct cli_syntax {
    const char *usage; /* "orlop check [--store DIR] …" */
    const char *prose;
    const struct cli_option *options; /* besides --help, and --config when settings are read */
    size_t option_count;
    enum cli_settings settings;
};

struct cli_command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv); /* argv[0] is the subcommand's name; returns an enum cli_exit */
};

/*
 * Read flags and, unless the subcommand takes no settings (config is then NULL), the file, the environment and the
 * settings among the flags. true: go on. false: return *out_exit, all is said: help was asked for, or something is
 * wrong. config must have been filled by config_init, and may be used only on true.
 */
must_check bool cli_parse(const struct cli_syntax *syntax, int argc, char **argv, struct config *config, int *out_exit);
/* The same without a word on stderr, for SIGHUP: the message is in err. --help cannot occur again. */
must_check enum err_code cli_load(const struct cli_syntax *syntax, int argc, char **argv, struct config *config,
                                  struct err *err);

/* Run the command that argv[1] names, or print help, or say what is wrong. path is what was typed so far: "orlop". */
int cli_dispatch(const char *path, const char *prose, const struct cli_command *commands, size_t count, int argc,
                 char **argv);

/* Print "orlop: message" to stderr; returns CLI_FAILED. */
int cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for an error: its message, and its detail when there is one. */
int cli_fail(const struct err *err);
/* Print out to stdout; returns CLI_DONE, or CLI_FAILED and an error when it cannot be written. */
int cli_print(const struct buf *out);

#endif

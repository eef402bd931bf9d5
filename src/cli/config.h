/*
 * Settings: every one has a row in config_table.h, and a value that came from the default, the YAML file, the
 * environment or a flag. The later in this list wins, whatever the order in which they are read.
 *
 * How values are written, everywhere the same:
 *     TEXT      as it is
 *     CHOICE    one of the row's words
 *     BOOL      true, false (also yes, no, on, off)
 *     NUMBER    decimal digits
 *     BYTES     a number and k, M, G, T (powers of 1000; also kB …) or KiB, MiB, GiB, TiB; without a unit: bytes
 *     DURATION  a number and ms, s, m, h or d; only 0 needs no unit
 *
 * Errors are ERR_INVALID; the message is a sentence that begins with where the value stands: "orlop.yaml:7:
 * http.workers: …", "ORLOP_HTTP_WORKERS: …", "--http-workers: …".
 */
#ifndef ORLOP_CLI_CONFIG_H
#define ORLOP_CLI_CONFIG_H

#include "base/buf.h"
#include "base/err.h"

#define CONFIG_FILE_DEFAULT "/etc/orlop/orlop.yaml"
#define CONFIG_FILE_BYTES_MAX (256 * 1024)
#define CONFIG_NAME_BYTES_MAX 64 /* of a flag, a variable or a section.key, with the NUL */

enum setting {
#define SECTION(section, title)
#define SETTING(section, key, type, fallback, min, max, choices, reload, prose) SETTING_##section##_##key,
#include "cli/config_table.h"
    SETTING_COUNT
};
#undef SECTION
#undef SETTING

enum setting_type { CONFIG_TEXT, CONFIG_CHOICE, CONFIG_BOOL, CONFIG_NUMBER, CONFIG_BYTES, CONFIG_DURATION };
enum setting_reload { CONFIG_RESTART, CONFIG_LIVE };

/* A row of config_table.h. */
struct setting_info {
    const char *section;
    const char *key;
    enum setting_type type;
    const char *fallback; /* the default */
    uint64_t min;
    uint64_t max;
    const char *choices;
    enum setting_reload reload;
    const char *prose;
};

struct section_info {
    const char *name;
    const char *title;
};

enum config_origin { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENVIRONMENT, ORIGIN_FLAG };

struct config_value {
    char *text;      /* as it was given; owned */
    uint64_t number; /* what it means: the choice's index, 0 or 1, the number, bytes, or milliseconds */
    enum config_origin origin;
    unsigned line; /* ORIGIN_FILE */
};

struct config {
    char *file; /* the YAML file that was read; NULL: none. Owned */
    struct config_value values[SETTING_COUNT];
};

const struct setting_info *setting_info(enum setting setting);
extern const struct section_info config_sections[];
extern const size_t config_section_count;

/* The setting of a section and key; false: there is none. */
bool setting_find(struct str section, struct str key, enum setting *out);
/* "section.key", "--section-key" and "ORLOP_SECTION_KEY" of a setting; out has CONFIG_NAME_BYTES_MAX. */
void setting_key_name(enum setting setting, char *out);
void setting_flag_name(enum setting setting, char *out);
void setting_variable_name(enum setting setting, char *out);
/* The second, short flag of the few settings that have one ("--listen", "--store"); NULL for the others. */
const char *setting_short_flag(enum setting setting);
/* What stands for a value in help: "SIZE", "DURATION", the choices … */
const char *setting_value_name(enum setting setting);

/* All defaults. Only memory can fail. Free with config_free. */
must_check enum err_code config_init(struct config *config, struct err *err);
void config_free(struct config *config);
#define auto_config cleanup(config_free) struct config

/*
 * Check text and, unless a stronger origin has set it already, take it over. line is ORIGIN_FILE's. The message says
 * what is wrong with the value but not where it stands: the caller does.
 */
must_check enum err_code config_set(struct config *config, enum setting setting, struct str text,
                                    enum config_origin origin, unsigned line, struct err *err);

/* Every setting in a YAML text; name is what messages call the file. */
must_check enum err_code config_read_yaml(struct config *config, const char *name, struct str text, struct err *err);
/* As config_read_yaml, from a file, whose name is kept in config->file. */
must_check enum err_code config_read_file(struct config *config, const char *path, struct err *err);
/* Every setting that has a variable in the environment. */
must_check enum err_code config_read_environment(struct config *config, struct err *err);

const char *config_text(const struct config *config, enum setting setting);
uint64_t config_number(const struct config *config, enum setting setting);
bool config_bool(const struct config *config, enum setting setting);

/* Append the value in its shortest exact spelling: 64MiB, 30s, true. */
bool config_append_value(struct buf *out, const struct config *config, enum setting setting);
/* Append where the value came from: "default", "orlop.yaml:7", "ORLOP_HTTP_WORKERS", "--http-workers". */
bool config_append_origin(struct buf *out, const struct config *config, enum setting setting);
/* Append a number in the type's spelling. */
bool config_append_number(struct buf *out, enum setting_type type, uint64_t number);

#endif

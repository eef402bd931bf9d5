#include "cli/config_text.h"

#include "base/json_text.h"

#define COLUMNS 80
#define ORIGIN_COLUMN 44 /* of the comments in YAML */

void config_append_wrapped(struct buf *out, size_t indent, const char *words)
{
    size_t column = 0;
    while (*words) {
        size_t len = strcspn(words, " ");
        if (column > 0 && column + 1 + len > COLUMNS) {
            (void) buf_append_char(out, '\n');
            column = 0;
        }
        if (column == 0) {
            (void) buf_appendf(out, "%*s", (int) indent, "");
            column = indent;
        } else {
            (void) buf_append_char(out, ' ');
            column++;
        }
        (void) buf_append(out, words, len);
        column += len;
        words += len + strspn(words + len, " ");
    }
    (void) buf_append_char(out, '\n');
}

/* "16KiB to 64MiB" for what has bounds; nothing for words and texts. */
static bool append_bounds(struct buf *out, const struct setting_info *info)
{
    if (info->type == CONFIG_TEXT || info->type == CONFIG_CHOICE || info->type == CONFIG_BOOL)
        return false;
    (void) config_append_number(out, info->type, info->min);
    (void) buf_append_text(out, " to ");
    (void) config_append_number(out, info->type, info->max);
    return true;
}

void config_append_setting_help(struct buf *out, enum setting setting)
{
    const struct setting_info *info = setting_info(setting);
    char flag[CONFIG_NAME_BYTES_MAX];
    setting_flag_name(setting, flag);
    const char *short_flag = setting_short_flag(setting);
    (void) buf_appendf(out, "  %s%s%s %s\n", flag, short_flag ? ", " : "", short_flag ? short_flag : "",
                       setting_value_name(setting));
    config_append_wrapped(out, 8, info->prose);

    if (info->fallback[0] == '\0')
        return;
    (void) buf_appendf(out, "        Default %s", info->fallback);
    char bounds_text[64];
    struct buf bounds = BUF_ON(bounds_text);
    if (append_bounds(&bounds, info))
        (void) buf_appendf(out, " (%s)", bounds.ptr);
    (void) buf_append_text(out, ".\n");
}

void config_append_help(struct buf *out)
{
    for (size_t section = 0; section < config_section_count; section++) {
        (void) buf_appendf(out, "\n%s\n", config_sections[section].title);
        for (unsigned i = 0; i < SETTING_COUNT; i++)
            if (strcmp(setting_info((enum setting) i)->section, config_sections[section].name) == 0)
                config_append_setting_help(out, (enum setting) i);
    }
    (void) buf_append_text(out, "\n");
    config_append_wrapped(
        out, 0,
        "Every setting is also a key of the YAML file (--http-workers is workers below http) and an "
        "environment variable (ORLOP_HTTP_WORKERS). A SIZE is a number and k, M, G, KiB, MiB or GiB; a "
        "DURATION a number and ms, s, m, h or d.");
}

void config_append_yaml(struct buf *out, const struct config *config)
{
    const char *section = "";
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        enum setting setting = (enum setting) i;
        const struct setting_info *info = setting_info(setting);
        if (strcmp(section, info->section) != 0) {
            section = info->section;
            (void) buf_appendf(out, "%s%s:\n", i > 0 ? "\n" : "", section);
        }
        size_t start = out->len;
        (void) buf_appendf(out, "  %s: ", info->key);
        if (info->type == CONFIG_TEXT) /* a JSON string is a YAML string */
            (void) buf_append_json_string(out, str_from(config_text(config, setting)));
        else
            (void) config_append_value(out, config, setting);
        size_t len = out->len - start;
        (void) buf_appendf(out, "%*s # ", len < ORIGIN_COLUMN ? (int) (ORIGIN_COLUMN - len) : 0, "");
        (void) config_append_origin(out, config, setting);
        (void) buf_append_char(out, '\n');
    }
}

/* ---- docs/settings.md ---- */

static void append_reference_setting(struct buf *out, enum setting setting)
{
    const struct setting_info *info = setting_info(setting);
    char key[CONFIG_NAME_BYTES_MAX];
    char flag[CONFIG_NAME_BYTES_MAX];
    char variable[CONFIG_NAME_BYTES_MAX];
    setting_key_name(setting, key);
    setting_flag_name(setting, flag);
    setting_variable_name(setting, variable);

    (void) buf_appendf(out, "\n### `%s`\n\n%s\n\n", key, info->prose);
    (void) buf_appendf(out, "- Default: %s%s%s\n", info->fallback[0] ? "`" : "",
                       info->fallback[0] ? info->fallback : "empty", info->fallback[0] ? "`" : "");
    char bounds_text[64];
    struct buf bounds = BUF_ON(bounds_text);
    if (append_bounds(&bounds, info))
        (void) buf_appendf(out, "- Values: %s\n", bounds.ptr);
    else if (info->type != CONFIG_TEXT)
        (void) buf_appendf(out, "- Values: `%s`\n", setting_value_name(setting));
    const char *short_flag = setting_short_flag(setting);
    (void) buf_appendf(out, "- Flag: `%s`%s%s%s\n", flag, short_flag ? " or `" : "", short_flag ? short_flag : "",
                       short_flag ? "`" : "");
    (void) buf_appendf(out, "- Environment: `%s`\n", variable);
    (void) buf_appendf(out, "- A change is taken over: %s\n",
                       info->reload == CONFIG_LIVE ? "on SIGHUP" : "by a restart");
}

/* clang-format off */
static const char reference_head[] =
    "# Settings\n"
    "\n"
    "This page is printed by `orlop config reference`. `orlop config show` prints the settings in force and where\n"
    "each comes from; `orlop config check` tells what is wrong with them.\n"
    "\n"
    "A setting can stand in a YAML file, in the environment or on the command line. A flag wins over a variable, a\n"
    "variable over the file, the file over the default. The file is the one `--config` or `ORLOP_CONFIG` names, else\n"
    "`" CONFIG_FILE_DEFAULT "` when it exists:\n"
    "\n"
    "```yaml\n"
    "http:\n"
    "  listen: :5000\n"
    "  drain: 1m\n"
    "store:\n"
    "  location: /var/lib/orlop\n"
    "```\n"
    "\n"
    "Sizes are written as a number and `k`, `M`, `G`, `T` (powers of 1000) or `KiB`, `MiB`, `GiB`, `TiB` (powers\n"
    "of 1024); without a unit they are bytes. Durations are a number and `ms`, `s`, `m`, `h` or `d`. Unknown keys,\n"
    "values of a wrong kind and values out of bounds are errors that name the file, the line and the key.\n"
    "\n"
    "On SIGHUP the server reads the file again, and the htpasswd file with it. Settings that need a restart are\n"
    "named in the log when they have changed.\n";
/* clang-format on */

void config_append_reference(struct buf *out)
{
    (void) buf_append_text(out, reference_head);
    for (size_t section = 0; section < config_section_count; section++) {
        (void) buf_appendf(out, "\n## %s: `%s`\n", config_sections[section].title, config_sections[section].name);
        for (unsigned i = 0; i < SETTING_COUNT; i++)
            if (strcmp(setting_info((enum setting) i)->section, config_sections[section].name) == 0)
                append_reference_setting(out, (enum setting) i);
    }
}

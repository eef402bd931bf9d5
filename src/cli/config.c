#include "cli/config.h"

#include <assert.h>
#include <ctype.h>

static const struct setting_info setting_rows[SETTING_COUNT] = {
#define SECTION(section, title)
#define SETTING(section, key, type, fallback, min, max, choices, reload, prose) \
    [SETTING_##section##_##key] = {#section, #key, CONFIG_##type, fallback, min, max, choices, CONFIG_##reload, prose},
#include "cli/config_table.h"
#undef SECTION
#undef SETTING
};

const struct section_info config_sections[] = {
#define SECTION(section, title) {#section, title},
#define SETTING(section, key, type, fallback, min, max, choices, reload, prose)
#include "cli/config_table.h"
#undef SECTION
#undef SETTING
};

const size_t config_section_count = sizeof(config_sections) / sizeof(config_sections[0]);

/* Units, smallest first; a number is printed in the largest that divides it. Of equal factors the first is printed. */
struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit bytes_units[] = {
    {"B", 1},
    {"k", 1000},
    {"kB", 1000},
    {"KiB", 1ULL << 10},
    {"M", 1000000},
    {"MB", 1000000},
    {"MiB", 1ULL << 20},
    {"G", 1000000000},
    {"GB", 1000000000},
    {"GiB", 1ULL << 30},
    {"T", 1000000000000},
    {"TB", 1000000000000},
    {"TiB", 1ULL << 40},
};

static const struct unit duration_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 24 * 3600 * 1000},
};

static const char *const true_words[] = {"true", "yes", "on"};
static const char *const false_words[] = {"false", "no", "off"};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

const struct setting_info *setting_info(enum setting setting)
{
    assert((unsigned) setting < SETTING_COUNT);
    return &setting_rows[setting];
}

bool setting_find(struct str section, struct str key, enum setting *out)
{
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        if (str_equal(section, str_from(setting_rows[i].section)) && str_equal(key, str_from(setting_rows[i].key))) {
            *out = (enum setting) i;
            return true;
        }
    }
    return false;
}

/* prefix, section, joint, key; then every character changed. */
static void setting_name(enum setting setting, const char *prefix, char joint, int (*change)(int), char *out)
{
    const struct setting_info *info = setting_info(setting);
    int len = snprintf(out, CONFIG_NAME_BYTES_MAX, "%s%s%c%s", prefix, info->section, joint, info->key);
    assert(len > 0 && len < CONFIG_NAME_BYTES_MAX);
    for (char *at = out; change && *at; at++)
        *at = (char) change((unsigned char) *at);
}

static int underscore_to_dash(int c)
{
    return c == '_' ? '-' : c;
}

void setting_key_name(enum setting setting, char *out)
{
    setting_name(setting, "", '.', NULL, out);
}

void setting_flag_name(enum setting setting, char *out)
{
    setting_name(setting, "--", '-', underscore_to_dash, out);
}

void setting_variable_name(enum setting setting, char *out)
{
    setting_name(setting, "ORLOP_", '_', toupper, out);
}

const char *setting_short_flag(enum setting setting)
{
    if (setting == SETTING_http_listen)
        return "--listen";
    return setting == SETTING_store_location ? "--store" : NULL;
}

const char *setting_value_name(enum setting setting)
{
    static const char *const names[] = {
        [CONFIG_TEXT] = "",         [CONFIG_CHOICE] = "",    [CONFIG_BOOL] = "true|false",
        [CONFIG_NUMBER] = "NUMBER", [CONFIG_BYTES] = "SIZE", [CONFIG_DURATION] = "DURATION",
    };
    const struct setting_info *info = setting_info(setting);
    return info->choices[0] != '\0' ? info->choices : names[info->type];
}

/* ---- from text ---- */

static const struct unit *unit_find(const struct unit *units, size_t count, struct str name)
{
    for (size_t i = 0; i < count; i++)
        if (str_equal(name, str_from(units[i].name)))
            return &units[i];
    return NULL;
}

/* Split "64 MiB" into its number and its unit. false: it does not begin with a number that fits. */
static bool quantity_split(struct str text, uint64_t *out_number, struct str *out_unit)
{
    size_t digits = 0;
    while (digits < text.len && text.ptr[digits] >= '0' && text.ptr[digits] <= '9')
        digits++;
    size_t unit = digits;
    while (unit < text.len && text.ptr[unit] == ' ')
        unit++;
    *out_unit = (struct str){text.ptr + unit, text.len - unit};
    return str_parse_u64((struct str){text.ptr, digits}, out_number);
}

static enum err_code parse_quantity(enum setting_type type, struct str text, uint64_t *out, struct err *err)
{
    bool bytes = type == CONFIG_BYTES;
    uint64_t number;
    struct str unit_name;
    if (!quantity_split(text, &number, &unit_name))
        return err_set(err, ERR_INVALID, "'%.*s' is not %s", (int) text.len, text.ptr,
                       bytes ? "a size: write a number and a unit, like 64MiB"
                             : "a duration: write a number and a unit, like 30s");
    if (unit_name.len == 0 && (bytes || number == 0)) {
        *out = number;
        return ERR_OK;
    }
    if (unit_name.len == 0)
        return err_set(err, ERR_INVALID, "'%.*s' has no unit: add ms, s, m, h or d", (int) text.len, text.ptr);
    const struct unit *unit = bytes ? unit_find(bytes_units, COUNT_OF(bytes_units), unit_name)
                                    : unit_find(duration_units, COUNT_OF(duration_units), unit_name);
    if (!unit)
        return err_set(err, ERR_INVALID, "'%.*s' is not a unit: use %s", (int) unit_name.len, unit_name.ptr,
                       bytes ? "k, M, G, T, KiB, MiB, GiB or TiB" : "ms, s, m, h or d");
    if (__builtin_mul_overflow(number, unit->factor, out))
        return err_set(err, ERR_INVALID, "'%.*s' is too big a number", (int) text.len, text.ptr);
    return ERR_OK;
}

static enum err_code parse_bool(struct str text, uint64_t *out, struct err *err)
{
    for (size_t i = 0; i < COUNT_OF(true_words); i++) {
        bool is_true = str_equal(text, str_from(true_words[i]));
        if (is_true || str_equal(text, str_from(false_words[i]))) {
            *out = is_true;
            return ERR_OK;
        }
    }
    return err_set(err, ERR_INVALID, "'%.*s' is neither true nor false", (int) text.len, text.ptr);
}

static enum err_code parse_choice(const char *choices, struct str text, uint64_t *out, struct err *err)
{
    uint64_t index = 0;
    for (const char *at = choices;; index++) {
        size_t len = strcspn(at, "|");
        if (str_equal(text, (struct str){at, len})) {
            *out = index;
            return ERR_OK;
        }
        if (at[len] == '\0')
            return err_set(err, ERR_INVALID, "'%.*s' is none of %s", (int) text.len, text.ptr, choices);
        at += len + 1;
    }
}

static enum err_code parse_text(const struct setting_info *info, struct str text, struct err *err)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char) text.ptr[i] < ' ' || text.ptr[i] == 0x7F)
            return err_set(err, ERR_INVALID, "the text has a control character at byte %zu", i + 1);
    if (text.len < info->min)
        return err_set(err, ERR_INVALID, "it must not be empty");
    if (text.len > info->max)
        return err_set(err, ERR_INVALID, "the text is longer than %llu bytes", (unsigned long long) info->max);
    return ERR_OK;
}

static enum err_code check_bounds(const struct setting_info *info, struct str text, uint64_t number, struct err *err)
{
    if (number >= info->min && number <= info->max)
        return ERR_OK;
    bool small = number < info->min;
    char limit_text[32];
    struct buf limit = BUF_ON(limit_text);
    (void) config_append_number(&limit, info->type, small ? info->min : info->max);
    return err_set(err, ERR_INVALID, "'%.*s' is too %s: the %s is %s", (int) text.len, text.ptr,
                   small ? "small" : "big", small ? "least" : "most", limit.ptr);
}

static enum err_code parse_value(const struct setting_info *info, struct str text, uint64_t *out, struct err *err)
{
    *out = 0;
    switch (info->type) {
    case CONFIG_TEXT:
        return parse_text(info, text, err);
    case CONFIG_CHOICE:
        return parse_choice(info->choices, text, out, err);
    case CONFIG_BOOL:
        return parse_bool(text, out, err);
    case CONFIG_NUMBER:
        if (!str_parse_u64(text, out))
            return err_set(err, ERR_INVALID, "'%.*s' is not a number", (int) text.len, text.ptr);
        break;
    case CONFIG_BYTES:
    case CONFIG_DURATION:
        if (parse_quantity(info->type, text, out, err))
            return err->code;
        break;
    }
    return check_bounds(info, text, *out, err);
}

enum err_code config_set(struct config *config, enum setting setting, struct str text, enum config_origin origin,
                         unsigned line, struct err *err)
{
    uint64_t number;
    if (parse_value(setting_info(setting), text, &number, err))
        return err->code;
    struct config_value *value = &config->values[setting];
    if (value->text && value->origin > origin)
        return ERR_OK;
    char *copy = strndup(text.ptr, text.len);
    if (!copy)
        return err_set(err, ERR_NO_MEMORY, "%s", err_info(ERR_NO_MEMORY)->text);
    free(value->text);
    *value = (struct config_value){.text = copy, .number = number, .origin = origin, .line = line};
    return ERR_OK;
}

enum err_code config_init(struct config *config, struct err *err)
{
    *config = (struct config){0};
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        enum setting setting = (enum setting) i;
        if (config_set(config, setting, str_from(setting_rows[i].fallback), ORIGIN_DEFAULT, 0, err)) {
            assert(err->code == ERR_NO_MEMORY); /* defaults are right */
            config_free(config);
            return err->code;
        }
    }
    return ERR_OK;
}

void config_free(struct config *config)
{
    for (unsigned i = 0; i < SETTING_COUNT; i++)
        cleanup_mem(&config->values[i].text);
    cleanup_mem(&config->file);
}

enum err_code config_read_environment(struct config *config, struct err *err)
{
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        enum setting setting = (enum setting) i;
        char name[CONFIG_NAME_BYTES_MAX];
        setting_variable_name(setting, name);
        const char *text = getenv(name);
        if (text && config_set(config, setting, str_from(text), ORIGIN_ENVIRONMENT, 0, err))
            return err_set(err, err->code, "%s: %s", name, err->message);
    }
    return ERR_OK;
}

/* ---- values and their text ---- */

const char *config_text(const struct config *config, enum setting setting)
{
    assert(setting_info(setting)->type == CONFIG_TEXT);
    return config->values[setting].text;
}

uint64_t config_number(const struct config *config, enum setting setting)
{
    assert(setting_info(setting)->type != CONFIG_TEXT);
    return config->values[setting].number;
}

bool config_bool(const struct config *config, enum setting setting)
{
    assert(setting_info(setting)->type == CONFIG_BOOL);
    return config->values[setting].number != 0;
}

/* The largest unit that divides number: it is printed shortest there. */
static bool append_quantity(struct buf *out, const struct unit *units, size_t count, uint64_t number)
{
    const struct unit *best = &units[0];
    for (size_t i = 1; i < count; i++)
        if (number > 0 && number % units[i].factor == 0 && units[i].factor > best->factor)
            best = &units[i];
    return buf_appendf(out, "%llu%s", (unsigned long long) (number / best->factor), best->name);
}

bool config_append_number(struct buf *out, enum setting_type type, uint64_t number)
{
    switch (type) {
    case CONFIG_BOOL:
        return buf_append_text(out, number ? "true" : "false");
    case CONFIG_BYTES:
        if (number != 0)
            return append_quantity(out, bytes_units, COUNT_OF(bytes_units), number);
        break;
    case CONFIG_DURATION:
        if (number != 0)
            return append_quantity(out, duration_units, COUNT_OF(duration_units), number);
        break;
    case CONFIG_NUMBER:
    case CONFIG_CHOICE:
    case CONFIG_TEXT:
        break;
    }
    return buf_appendf(out, "%llu", (unsigned long long) number);
}

bool config_append_value(struct buf *out, const struct config *config, enum setting setting)
{
    enum setting_type type = setting_info(setting)->type;
    const struct config_value *value = &config->values[setting];
    if (type == CONFIG_TEXT || type == CONFIG_CHOICE)
        return buf_append_text(out, value->text);
    return config_append_number(out, type, value->number);
}

bool config_append_origin(struct buf *out, const struct config *config, enum setting setting)
{
    const struct config_value *value = &config->values[setting];
    char name[CONFIG_NAME_BYTES_MAX];
    switch (value->origin) {
    case ORIGIN_DEFAULT:
        return buf_append_text(out, "default");
    case ORIGIN_FILE:
        return buf_appendf(out, "%s:%u", config->file ? config->file : "file", value->line);
    case ORIGIN_ENVIRONMENT:
        setting_variable_name(setting, name);
        return buf_append_text(out, name);
    case ORIGIN_FLAG:
        setting_flag_name(setting, name);
        return buf_append_text(out, name);
    }
    return false;
}

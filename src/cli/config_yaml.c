#include "base/fs.h"
#include "cli/config.h"
#include "cli/suggest.h"

#include <errno.h>
#include <fcntl.h>
#include <yaml.h>

/*
 * libyaml's document loader gives every node its line, which is all that a tree of two levels needs; unknown, doubled
 * and misplaced keys are told here, values are config_set's business.
 */

static void cleanup_parser(yaml_parser_t *parser)
{
    yaml_parser_delete(parser);
}

static void cleanup_document(yaml_document_t *document)
{
    yaml_document_delete(document);
}

static unsigned node_line(const yaml_node_t *node)
{
    return (unsigned) node->start_mark.line + 1;
}

static struct str node_text(const yaml_node_t *node)
{
    return (struct str){(const char *) node->data.scalar.value, node->data.scalar.length};
}

/* Nothing at all, "null" or "~": a key whose value was left out. */
static bool node_is_null(const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    struct str text = node_text(node);
    return text.len == 0 || str_equal(text, STR("~")) || str_equal(text, STR("null"));
}

static const char *node_kind(const yaml_node_t *node)
{
    switch (node->type) {
    case YAML_SEQUENCE_NODE:
        return "a list";
    case YAML_MAPPING_NODE:
        return "a mapping";
    case YAML_SCALAR_NODE:
    case YAML_NO_NODE:
        break;
    }
    return "a single value";
}

/* The file and the document being read. */
struct reading {
    struct config *config;
    const char *name;
    yaml_document_t *document;
    bool seen[SETTING_COUNT];
};

static enum err_code refuse_setting(const struct reading *reading, const char *section, const yaml_node_t *key,
                                    struct str key_text, struct err *err)
{
    char names[SETTING_COUNT][CONFIG_NAME_BYTES_MAX];
    const char *candidates[SETTING_COUNT];
    const char *elsewhere = NULL; /* the same key in another section */
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        setting_key_name((enum setting) i, names[i]);
        candidates[i] = names[i];
        if (str_equal(key_text, str_from(setting_info((enum setting) i)->key)))
            elsewhere = names[i];
    }
    auto_buf wrong = BUF_INIT(CONFIG_FILE_BYTES_MAX);
    (void) buf_appendf(&wrong, "%s.%.*s", section, (int) key_text.len, key_text.ptr);
    const char *meant = elsewhere ? elsewhere : suggest(buf_str(&wrong), candidates, SETTING_COUNT);
    return err_set(err, ERR_INVALID, "%s:%u: %s: there is no such setting%s%s%s", reading->name, node_line(key),
                   buf_str(&wrong).ptr, meant ? "; did you mean " : "", meant ? meant : "", meant ? "?" : "");
}

static enum err_code read_setting(struct reading *reading, const char *section, const yaml_node_t *key,
                                  const yaml_node_t *value, struct err *err)
{
    struct str key_text = key->type == YAML_SCALAR_NODE ? node_text(key) : STR("");
    enum setting setting;
    if (!setting_find(str_from(section), key_text, &setting))
        return refuse_setting(reading, section, key, key_text, err);
    char name[CONFIG_NAME_BYTES_MAX];
    setting_key_name(setting, name);
    if (reading->seen[setting])
        return err_set(err, ERR_INVALID, "%s:%u: %s: it is set twice", reading->name, node_line(key), name);
    reading->seen[setting] = true;
    if (value->type != YAML_SCALAR_NODE)
        return err_set(err, ERR_INVALID, "%s:%u: %s: it needs one value, not %s", reading->name, node_line(value), name,
                       node_kind(value));
    if (node_is_null(value))
        return err_set(err, ERR_INVALID, "%s:%u: %s: it has no value: write one or remove the line", reading->name,
                       node_line(key), name);
    if (config_set(reading->config, setting, node_text(value), ORIGIN_FILE, node_line(value), err))
        return err_set(err, err->code, "%s:%u: %s: %s", reading->name, node_line(value), name, err->message);
    return ERR_OK;
}

static enum err_code refuse_section(const struct reading *reading, const yaml_node_t *key, struct str key_text,
                                    struct err *err)
{
    const char *candidates[SETTING_COUNT]; /* there are no more sections than settings */
    for (size_t i = 0; i < config_section_count; i++)
        candidates[i] = config_sections[i].name;
    const char *meant = suggest(key_text, candidates, config_section_count);
    return err_set(err, ERR_INVALID, "%s:%u: %.*s: there is no such section%s%s%s", reading->name, node_line(key),
                   (int) key_text.len, key_text.ptr, meant ? "; did you mean " : "", meant ? meant : "",
                   meant ? "?" : "");
}

static enum err_code read_section(struct reading *reading, const yaml_node_t *key, const yaml_node_t *value,
                                  struct err *err)
{
    struct str key_text = key->type == YAML_SCALAR_NODE ? node_text(key) : STR("");
    const char *section = NULL;
    for (size_t i = 0; i < config_section_count; i++)
        if (str_equal(key_text, str_from(config_sections[i].name)))
            section = config_sections[i].name;
    if (!section)
        return refuse_section(reading, key, key_text, err);
    if (node_is_null(value)) /* all its lines are commented out */
        return ERR_OK;
    if (value->type != YAML_MAPPING_NODE)
        return err_set(err, ERR_INVALID, "%s:%u: %s: it needs indented 'key: value' lines, not %s", reading->name,
                       node_line(value), section, node_kind(value));
    for (const yaml_node_pair_t *pair = value->data.mapping.pairs.start; pair < value->data.mapping.pairs.top; pair++) {
        const yaml_node_t *setting_key = yaml_document_get_node(reading->document, pair->key);
        const yaml_node_t *setting_value = yaml_document_get_node(reading->document, pair->value);
        if (read_setting(reading, section, setting_key, setting_value, err))
            return err->code;
    }
    return ERR_OK;
}

static enum err_code read_syntax_error(const char *name, const yaml_parser_t *parser, struct err *err)
{
    if (parser->error == YAML_MEMORY_ERROR)
        return err_set(err, ERR_NO_MEMORY, "%s", err_info(ERR_NO_MEMORY)->text);
    /* The reader (bad UTF-8) knows no mark of its own; the parser stands near it. */
    const yaml_mark_t *mark = parser->error == YAML_READER_ERROR ? &parser->mark : &parser->problem_mark;
    return err_set(err, ERR_INVALID, "%s:%zu: this is not YAML: %s", name, mark->line + 1,
                   parser->problem ? parser->problem : "unknown problem");
}

enum err_code config_read_yaml(struct config *config, const char *name, struct str text, struct err *err)
{
    cleanup(cleanup_parser) yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return err_set(err, ERR_NO_MEMORY, "%s", err_info(ERR_NO_MEMORY)->text);
    yaml_parser_set_input_string(&parser, (const unsigned char *) text.ptr, text.len);

    cleanup(cleanup_document) yaml_document_t document = {0};
    if (!yaml_parser_load(&parser, &document))
        return read_syntax_error(name, &parser, err);
    const yaml_node_t *root = yaml_document_get_root_node(&document);
    if (!root)
        return ERR_OK; /* an empty file */
    if (node_is_null(root))
        return ERR_OK;
    if (root->type != YAML_MAPPING_NODE)
        return err_set(err, ERR_INVALID, "%s:%u: the file needs 'section:' lines, not %s", name, node_line(root),
                       node_kind(root));

    struct reading reading = {.config = config, .name = name, .document = &document};
    for (const yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(&document, pair->key);
        const yaml_node_t *value = yaml_document_get_node(&document, pair->value);
        if (read_section(&reading, key, value, err))
            return err->code;
    }

    cleanup(cleanup_document) yaml_document_t rest = {0};
    if (!yaml_parser_load(&parser, &rest))
        return read_syntax_error(name, &parser, err);
    const yaml_node_t *second = yaml_document_get_root_node(&rest);
    if (second)
        return err_set(err, ERR_INVALID, "%s:%u: a second document begins here: the file may have only one", name,
                       node_line(second));
    return ERR_OK;
}

enum err_code config_read_file(struct config *config, const char *path, struct err *err)
{
    auto_buf text = BUF_INIT(CONFIG_FILE_BYTES_MAX);
    if (fs_read_file(AT_FDCWD, path, &text, err)) {
        if (err->code == ERR_LIMIT)
            return err_set(err, ERR_INVALID, "%s: the file is longer than %d bytes", path, CONFIG_FILE_BYTES_MAX);
        return err_set(err, ERR_INVALID, "%s: the file cannot be read: %s", path, strerror(err->sys_errno));
    }
    free(config->file);
    config->file = strdup(path);
    if (!config->file)
        return err_set(err, ERR_NO_MEMORY, "%s", err_info(ERR_NO_MEMORY)->text);
    return config_read_yaml(config, path, buf_str(&text), err);
}

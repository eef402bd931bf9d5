/* The one user of jansson. Its tree costs memory per value, not per byte, so values are counted before it starts. */
#include "base/json.h"

#include <jansson.h>

static json_t *tree(const struct json *value)
{
    return (json_t *) (uintptr_t) value;
}

/* Count nesting and values without parsing: brackets and commas outside of strings. */
static bool json_is_bounded(struct str text)
{
    size_t depth = 0, values = 1;
    bool in_text = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (in_text) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_text = false;
            continue;
        }
        if (c == '"') {
            in_text = true;
        } else if (c == '{' || c == '[') {
            values++;
            if (++depth > JSON_DEPTH_MAX)
                return false;
        } else if (c == '}' || c == ']') {
            if (depth > 0)
                depth--;
        } else if (c == ',') {
            values++;
        }
        if (values > JSON_VALUES_MAX)
            return false;
    }
    return true;
}

enum err_code json_parse(struct str text, struct json **out, struct err *err)
{
    if (!json_is_bounded(text))
        return err_set(err, ERR_INVALID, "JSON nested deeper than %d levels or of more than %d values", JSON_DEPTH_MAX,
                       JSON_VALUES_MAX);
    json_error_t problem;
    json_t *root = json_loadb(text.len ? text.ptr : "", text.len, JSON_REJECT_DUPLICATES, &problem);
    if (!root)
        return err_set(err, ERR_INVALID, "not valid JSON: %s (line %d, column %d)", problem.text, problem.line,
                       problem.column);
    *out = (struct json *) root;
    return ERR_OK;
}

void json_free(struct json *root)
{
    json_decref(tree(root));
}

bool json_is_map(const struct json *value)
{
    return json_is_object(tree(value));
}

bool json_is_list(const struct json *value)
{
    return json_is_array(tree(value));
}

const struct json *json_member(const struct json *value, const char *name)
{
    const json_t *member = json_object_get(tree(value), name);
    return json_is_null(member) ? NULL : (const struct json *) member;
}

size_t json_count(const struct json *value)
{
    return json_array_size(tree(value));
}

const struct json *json_item(const struct json *array, size_t index)
{
    return (const struct json *) json_array_get(tree(array), index);
}

bool json_text(const struct json *value, struct str *out)
{
    if (!json_is_string(tree(value)))
        return false;
    *out = (struct str){json_string_value(tree(value)), json_string_length(tree(value))};
    return true;
}

bool json_u64(const struct json *value, uint64_t *out)
{
    if (!json_is_integer(tree(value)) || json_integer_value(tree(value)) < 0)
        return false;
    *out = (uint64_t) json_integer_value(tree(value));
    return true;
}

bool json_is_text_map(const struct json *value)
{
    if (!json_is_map(value))
        return false;
    const char *name;
    json_t *member;
    json_object_foreach(tree(value), name, member)
    {
        if (!json_is_string(member))
            return false;
    }
    return true;
}

static int json_append_some(const char *bytes, size_t len, void *arg)
{
    return buf_append(arg, bytes, len) ? 0 : -1;
}

bool json_append(struct buf *out, const struct json *value)
{
    return json_dump_callback(tree(value), json_append_some, out, JSON_COMPACT | JSON_ENCODE_ANY) == 0;
}

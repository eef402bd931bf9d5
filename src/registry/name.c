/* The name grammar, written out: a hand-rolled matcher of the specification's regular expressions. */
#include "registry/name.h"

static bool is_alnum_lower(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* The length of the separator at p: ".", "_", "__" or any run of dashes; 0 when there is none. */
static size_t separator_len(const char *p, const char *end)
{
    if (*p == '.')
        return 1;
    if (*p == '_')
        return p + 1 < end && p[1] == '_' ? 2 : 1;
    size_t len = 0;
    while (p + len < end && p[len] == '-')
        len++;
    return len;
}

/* [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)* */
static bool component_is_valid(const char *p, const char *end)
{
    for (;;) {
        if (p == end || !is_alnum_lower(*p))
            return false;
        while (p < end && is_alnum_lower(*p))
            p++;
        if (p == end)
            return true;
        size_t len = separator_len(p, end);
        if (len == 0)
            return false;
        p += len;
    }
}

enum err_code repo_name_parse(struct str text, struct repo_name *out, struct err *err)
{
    size_t escaped_len = text.len;
    for (size_t i = 0; i < text.len; i++)
        escaped_len += text.ptr[i] == '.';
    if (text.len == 0)
        return err_set(err, ERR_NAME_INVALID, "the repository name is empty");
    if (escaped_len > REPO_NAME_CHARS_MAX)
        return err_set(err, ERR_NAME_INVALID, "the repository name is longer than %d characters (a dot counts twice)",
                       REPO_NAME_CHARS_MAX);
    const char *end = text.ptr + text.len;
    for (const char *p = text.ptr;; p++) {
        const char *slash = memchr(p, '/', (size_t) (end - p));
        if (!component_is_valid(p, slash ? slash : end))
            return err_set(err, ERR_NAME_INVALID,
                           "the repository name is malformed: use lower-case letters and digits, joined by one of "
                           "'.', '_', '__', '-' or '/'");
        if (!slash)
            break;
        p = slash;
    }
    memcpy(out->text, text.ptr, text.len);
    out->text[text.len] = '\0';
    return ERR_OK;
}

static bool is_tag_char(char c, bool first)
{
    return is_alnum_lower(c) || (c >= 'A' && c <= 'Z') || c == '_' || (!first && (c == '.' || c == '-'));
}

enum err_code tag_name_parse(struct str text, struct tag_name *out, struct err *err)
{
    bool valid = text.len > 0 && text.len <= TAG_CHARS_MAX;
    for (size_t i = 0; valid && i < text.len; i++)
        valid = is_tag_char(text.ptr[i], i == 0);
    if (!valid)
        return err_set(err, ERR_TAG_INVALID,
                       "the tag is malformed: use 1 to %d of letters, digits, '_', '.', '-', not beginning with '.' "
                       "or '-'",
                       TAG_CHARS_MAX);
    memcpy(out->text, text.ptr, text.len);
    out->text[text.len] = '\0';
    return ERR_OK;
}

enum err_code reference_parse(struct str text, struct reference *out, struct err *err)
{
    struct reference reference = {0};
    reference.is_digest = text.len > 0 && memchr(text.ptr, ':', text.len);
    if (!reference.is_digest) {
        if (tag_name_parse(text, &reference.tag, err) != ERR_OK)
            return err->code;
    } else if (!digest_parse(text, &reference.digest)) {
        return err_set(err, ERR_DIGEST_INVALID,
                       "the digest is malformed or of an unsupported algorithm: use sha256:<64 lower-case hex digits> "
                       "or sha512:<128>");
    }
    *out = reference;
    return ERR_OK;
}

void repo_name_escape(const struct repo_name *name, char *out)
{
    for (const char *p = name->text; *p; p++) {
        *out++ = *p == '/' ? '.' : *p;
        if (*p == '.')
            *out++ = '.';
    }
    *out = '\0';
}

bool repo_name_unescape(const char *text, struct repo_name *out)
{
    char plain[REPO_NAME_CHARS_MAX + 1];
    size_t len = 0;
    for (const char *p = text; *p; p++) {
        if (len == REPO_NAME_CHARS_MAX)
            return false;
        if (*p == '/')
            return false;
        if (*p == '.' && p[1] == '.') {
            plain[len++] = '.';
            p++;
        } else {
            plain[len++] = *p == '.' ? '/' : *p;
        }
    }
    struct err err = ERR_INIT;
    return repo_name_parse((struct str){plain, len}, out, &err) == ERR_OK;
}

/* The spelling of keys; the tree is drawn in keys.h. */
#include "registry/keys.h"

#define KEY_SNAPSHOT_SUFFIX ".snapshot"

struct digest_text {
    const char *algorithm;
    char hex[DIGEST_HEX_BYTES_MAX];
};

static struct digest_text spell(const struct digest *digest)
{
    struct digest_text text = {.algorithm = digest_algorithm_name(digest->algorithm)};
    digest_format_hex(digest, text.hex);
    return text;
}

void key_refs_prefix(const struct digest *blob, char *out)
{
    struct digest_text d = spell(blob);
    (void) snprintf(out, KEY_BYTES, "refs/%s/%.2s/%s/", d.algorithm, d.hex, d.hex);
}

void key_ref(const struct digest *blob, const struct repo_name *repo, char *out)
{
    key_refs_prefix(blob, out);
    repo_name_escape(repo, out + strlen(out));
}

void key_manifest(const struct repo_name *repo, const struct digest *digest, char *out)
{
    struct digest_text d = spell(digest);
    (void) snprintf(out, KEY_BYTES, "repos/%s/_manifests/%s/%s", repo->text, d.algorithm, d.hex);
}

void key_tags_prefix(const struct repo_name *repo, char *out)
{
    (void) snprintf(out, KEY_BYTES, "repos/%s/_tags/", repo->text);
}

void key_tag(const struct repo_name *repo, const struct tag_name *tag, char *out)
{
    (void) snprintf(out, KEY_BYTES, "repos/%s/_tags/%s", repo->text, tag->text);
}

void key_tagged_prefix(const struct repo_name *repo, const struct digest *digest, char *out)
{
    struct digest_text d = spell(digest);
    (void) snprintf(out, KEY_BYTES, "repos/%s/_tagged/%s/%s/", repo->text, d.algorithm, d.hex);
}

void key_tagged(const struct repo_name *repo, const struct digest *digest, const struct tag_name *tag, char *out)
{
    key_tagged_prefix(repo, digest, out);
    memcpy(out + strlen(out), tag->text, strlen(tag->text) + 1);
}

void key_referrers_prefix(const struct repo_name *repo, const struct digest *subject, char *out)
{
    struct digest_text d = spell(subject);
    (void) snprintf(out, KEY_BYTES, "repos/%s/_referrers/%s/%s/", repo->text, d.algorithm, d.hex);
}

void key_referrer(const struct repo_name *repo, const struct digest *subject, const struct digest *referrer, char *out)
{
    key_referrers_prefix(repo, subject, out);
    key_digest_dashed(referrer, out + strlen(out));
}

void key_snapshot(const struct repo_name *repo, const struct digest *subject, const struct snapshot_part *part,
                  char *out)
{
    struct digest_text d = spell(subject);
    int len = snprintf(out, KEY_BYTES, "repos/%s/_referrers/%s/%s", repo->text, d.algorithm, d.hex);
    if (part->digits)
        len += snprintf(out + len, (size_t) (KEY_BYTES - len), ".%s-%0*x", digest_algorithm_name(part->algorithm),
                        (int) part->digits, part->value);
    (void) snprintf(out + len, (size_t) (KEY_BYTES - len), KEY_SNAPSHOT_SUFFIX);
}

void key_catalog(const struct repo_name *repo, char *out)
{
    memcpy(out, KEY_CATALOG_PREFIX, sizeof(KEY_CATALOG_PREFIX));
    repo_name_escape(repo, out + strlen(out));
}

void key_digest_dashed(const struct digest *digest, char *out)
{
    digest_format(digest, out);
    *strchr(out, ':') = '-';
}

bool key_digest_undash(const char *text, struct digest *out)
{
    struct str whole = str_from(text);
    enum digest_algorithm algorithm;
    const char *dash = strchr(text, '-');
    if (!dash || !digest_algorithm_parse((struct str){text, (size_t) (dash - text)}, &algorithm))
        return false;
    size_t skip = (size_t) (dash - text) + 1;
    return digest_parse_hex(algorithm, (struct str){text + skip, whole.len - skip}, out);
}

/* ---- reading keys back ---- */

/* Split off the part before the next '/'; *rest is NULL after the last one. */
static struct str next_part(const char **rest)
{
    const char *start = *rest;
    size_t len = strcspn(start, "/");
    *rest = start[len] ? start + len + 1 : NULL;
    return (struct str){start, len};
}

/* "<alg>/<hex>" at rest; *rest moves behind it. */
static bool take_digest(const char **rest, struct digest *out)
{
    enum digest_algorithm algorithm;
    if (!*rest || !digest_algorithm_parse(next_part(rest), &algorithm) || !*rest)
        return false;
    return digest_parse_hex(algorithm, next_part(rest), out);
}

static enum key_kind parse_ref(const char *rest, struct key_parts *out)
{
    enum digest_algorithm algorithm;
    if (!digest_algorithm_parse(next_part(&rest), &algorithm) || !rest)
        return KEY_UNKNOWN;
    struct str shard = next_part(&rest);
    if (shard.len != 2 || !rest)
        return KEY_UNKNOWN;
    struct str hex = next_part(&rest);
    if (!digest_parse_hex(algorithm, hex, &out->digest) || memcmp(shard.ptr, hex.ptr, 2) != 0 || !rest)
        return KEY_UNKNOWN;
    return repo_name_unescape(rest, &out->repo) ? KEY_REF : KEY_UNKNOWN;
}

/* ".<alg>-<hex digits>" or nothing. */
static bool parse_part(struct str text, struct snapshot_part *out)
{
    if (text.len == 0)
        return true;
    const char *dash = memchr(text.ptr, '-', text.len);
    if (text.ptr[0] != '.' || !dash ||
        !digest_algorithm_parse((struct str){text.ptr + 1, (size_t) (dash - text.ptr) - 1}, &out->algorithm))
        return false;
    for (const char *p = dash + 1; p < text.ptr + text.len; p++) {
        const char *digit = strchr("0123456789abcdef", *p);
        if (!digit || !*p || out->digits++ == KEY_SNAPSHOT_DIGITS_MAX)
            return false;
        out->value = out->value << 4 | (unsigned) (digit - "0123456789abcdef");
    }
    return out->digits > 0;
}

/* "<alg>/<subject>[.<part>].snapshot" */
static bool parse_snapshot(const char *rest, struct key_parts *out)
{
    enum digest_algorithm algorithm;
    struct str suffix = STR(KEY_SNAPSHOT_SUFFIX);
    if (!digest_algorithm_parse(next_part(&rest), &algorithm) || !rest)
        return false;
    struct str name = str_from(rest);
    size_t hex_len = 2 * digest_raw_bytes(algorithm);
    if (name.len < hex_len + suffix.len || strcmp(name.ptr + name.len - suffix.len, suffix.ptr) != 0)
        return false;
    return digest_parse_hex(algorithm, (struct str){name.ptr, hex_len}, &out->digest) &&
           parse_part((struct str){name.ptr + hex_len, name.len - hex_len - suffix.len}, &out->part);
}

static enum key_kind parse_repo(const char *rest, struct key_parts *out)
{
    struct err err = ERR_INIT;
    const char *mark = strstr(rest, "/_"); /* no component of a name begins with '_' */
    if (!mark || repo_name_parse((struct str){rest, (size_t) (mark - rest)}, &out->repo, &err) != ERR_OK)
        return KEY_UNKNOWN;
    rest = mark + 1;
    struct str folder = next_part(&rest);
    if (!rest)
        return KEY_UNKNOWN;
    if (str_equal(folder, STR("_tags")))
        return tag_name_parse(str_from(rest), &out->tag, &err) == ERR_OK ? KEY_TAG : KEY_UNKNOWN;
    if (str_equal(folder, STR("_referrers")) && parse_snapshot(rest, out))
        return KEY_SNAPSHOT;
    if (!take_digest(&rest, &out->digest))
        return KEY_UNKNOWN;
    if (str_equal(folder, STR("_manifests")))
        return rest ? KEY_UNKNOWN : KEY_MANIFEST;
    if (str_equal(folder, STR("_tagged")) && rest)
        return tag_name_parse(str_from(rest), &out->tag, &err) == ERR_OK ? KEY_TAGGED : KEY_UNKNOWN;
    if (str_equal(folder, STR("_referrers")) && rest)
        return key_digest_undash(rest, &out->referrer) ? KEY_REFERRER : KEY_UNKNOWN;
    return KEY_UNKNOWN;
}

void key_parse(const char *key, struct key_parts *out)
{
    struct str text = str_from(key);
    *out = (struct key_parts){0};
    if (str_starts(text, STR("refs/")))
        out->kind = parse_ref(key + 5, out);
    else if (str_starts(text, STR("repos/")))
        out->kind = parse_repo(key + 6, out);
    else if (str_starts(text, STR(KEY_CATALOG_PREFIX)) && repo_name_unescape(key + 6, &out->repo))
        out->kind = KEY_CATALOG;
}

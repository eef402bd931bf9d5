/* Snapshots: encoding and decoding; the layout is in referrers.h. */
#include "digest/hash.h"
#include "registry/referrers.h"

#define HEAD "orlop-referrers "
#define WHOLE " whole "
#define SPLIT " split "
#define SUM_CHARS 64
#define NUMBER_CHARS_MAX 20
#define LINE_OVERHEAD_MAX (DIGEST_TEXT_BYTES_MAX + 2 * NUMBER_CHARS_MAX + 4)

struct snapshot_part snapshot_part_of(const struct snapshot_part *whole, const struct digest *name)
{
    unsigned digits = whole->digits + 1;
    return (struct snapshot_part){.algorithm = name->algorithm,
                                  .digits = digits,
                                  .value = name->raw[0] >> (8 - 4 * digits)};
}

bool snapshot_part_has(const struct snapshot_part *part, const struct digest *name)
{
    return part->digits == 0 ||
           (name->algorithm == part->algorithm && name->raw[0] >> (8 - 4 * part->digits) == (int) part->value);
}

/* ---- writing ---- */

static void sum_of(struct str text, char out[DIGEST_HEX_BYTES_MAX])
{
    struct hash hash;
    struct digest digest;
    hash_init(&hash, DIGEST_SHA256);
    hash_update(&hash, text.ptr, text.len);
    hash_digest(&hash, &digest);
    digest_format_hex(&digest, out);
}

static size_t head_len(const struct buf *out)
{
    return (size_t) ((char *) memchr(out->ptr, '\n', out->len) - out->ptr) + 1;
}

/* Everything but the checksum, and which kind it is, which are not known before the end. */
void snapshot_begin(struct buf *out)
{
    (void) buf_appendf(out, HEAD "%d" WHOLE "%0*d\n", SNAPSHOT_VERSION, SUM_CHARS, 0);
}

bool snapshot_add(struct buf *out, const struct snapshot_entry *entry)
{
    char name[DIGEST_TEXT_BYTES_MAX];
    size_t len = out->len;
    if (entry->type.len + entry->descriptor.len + LINE_OVERHEAD_MAX > out->max - out->len)
        return false;
    key_digest_dashed(&entry->digest, name);
    bool ok = buf_appendf(out, "%s %zu %zu ", name, entry->type.len, entry->descriptor.len) &&
              buf_append(out, entry->type.ptr, entry->type.len) &&
              buf_append(out, entry->descriptor.ptr, entry->descriptor.len) && buf_append_char(out, '\n');
    if (!ok)
        out->len = len;
    return ok;
}

void snapshot_end(struct buf *out, bool is_split)
{
    char sum[DIGEST_HEX_BYTES_MAX];
    size_t start = head_len(out);
    if (is_split) {
        out->len = start;
        memcpy(out->ptr + start - 1 - SUM_CHARS - strlen(SPLIT), SPLIT, strlen(SPLIT));
    }
    sum_of((struct str){out->ptr + start, out->len - start}, sum);
    memcpy(out->ptr + start - 1 - SUM_CHARS, sum, SUM_CHARS);
}

/* ---- reading ---- */

/* Take what text begins with, and what is before the next `end`. */
static bool take(struct str *text, struct str beginning)
{
    if (!str_starts(*text, beginning))
        return false;
    *text = (struct str){text->ptr + beginning.len, text->len - beginning.len};
    return true;
}

static bool take_until(struct str *text, char end, struct str *out)
{
    const char *at = memchr(text->ptr, end, text->len);
    if (!at)
        return false;
    *out = (struct str){text->ptr, (size_t) (at - text->ptr)};
    *text = (struct str){at + 1, text->len - out->len - 1};
    return true;
}

static bool take_bytes(struct str *text, uint64_t len, struct str *out)
{
    if (text->len < len)
        return false;
    *out = (struct str){text->ptr, len};
    *text = (struct str){text->ptr + len, text->len - len};
    return true;
}

/* A number as we write it. */
static bool take_length(struct str *text, uint64_t *out)
{
    struct str digits;
    return take_until(text, ' ', &digits) && str_parse_u64(digits, out) && (digits.ptr[0] != '0' || digits.len == 1);
}

static bool take_entry(struct str *text, struct snapshot_entry *out)
{
    char name[DIGEST_TEXT_BYTES_MAX];
    struct str dashed;
    uint64_t type_len, descriptor_len;
    if (!take_until(text, ' ', &dashed) || dashed.len >= sizeof(name))
        return false;
    *(char *) mempcpy(name, dashed.ptr, dashed.len) = '\0';
    return strlen(name) == dashed.len && key_digest_undash(name, &out->digest) && take_length(text, &type_len) &&
           take_length(text, &descriptor_len) && take_bytes(text, type_len, &out->type) &&
           take_bytes(text, descriptor_len, &out->descriptor) && take(text, STR("\n"));
}

static enum err_code corrupt(struct err *err, const char *what)
{
    return err_set(err, ERR_CORRUPT, "the snapshot of referrers %s", what);
}

static enum err_code take_head(struct str *text, bool *out_split, struct err *err)
{
    struct str version, kind, sum;
    uint64_t number;
    char actual[DIGEST_HEX_BYTES_MAX];
    if (!take(text, STR(HEAD)) || !take_until(text, ' ', &version) || !str_parse_u64(version, &number))
        return corrupt(err, "is none");
    if (!str_equal(version, STR("1")))
        return err_set(err, ERR_VERSION, "the snapshot of referrers has a version that this release does not know");
    if (!take_until(text, ' ', &kind) || !take_until(text, '\n', &sum))
        return corrupt(err, "is cut");
    *out_split = str_equal(kind, STR("split"));
    if (!*out_split && !str_equal(kind, STR("whole")))
        return corrupt(err, "is of an unknown kind");
    sum_of(*text, actual);
    return str_equal(sum, str_from(actual)) ? ERR_OK : corrupt(err, "has a wrong checksum");
}

static enum err_code take_entries(struct str text, struct snapshot *out, struct err *err)
{
    size_t cap = 0;
    while (text.len > 0) {
        if (out->count == cap) {
            cap = cap ? 2 * cap : 64;
            struct snapshot_entry *entries = realloc(out->entries, cap * sizeof(*entries));
            if (!entries)
                return err_set(err, ERR_NO_MEMORY, "out of memory");
            out->entries = entries;
        }
        if (!take_entry(&text, &out->entries[out->count]))
            return corrupt(err, "has a line that is none");
        if (out->count > 0 && digest_order(&out->entries[out->count - 1].digest, &out->entries[out->count].digest) >= 0)
            return corrupt(err, "is not in order");
        out->count++;
    }
    return out->is_split && out->count > 0 ? corrupt(err, "is split, but has lines") : ERR_OK;
}

enum err_code snapshot_decode(struct buf *bytes, struct snapshot *out, struct err *err)
{
    *out = (struct snapshot){.bytes = *bytes};
    *bytes = BUF_INIT(bytes->max);
    struct str text = buf_str(&out->bytes);
    enum err_code code = take_head(&text, &out->is_split, err);
    if (code == ERR_OK)
        code = take_entries(text, out, err);
    if (code != ERR_OK)
        snapshot_free(out);
    return code;
}

void snapshot_free(struct snapshot *snapshot)
{
    buf_free(&snapshot->bytes);
    free(snapshot->entries);
    *snapshot = (struct snapshot){0};
}

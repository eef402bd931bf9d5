#include "store/s3_sign.h"

#include "digest/hmac.h"

#include <assert.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

#define ALGORITHM "AWS4-HMAC-SHA256"
#define MS_PER_S 1000
#define DATE_LEN 8 /* the "20130524" of an x-amz-date */

/* ---- encoding ---- */

static bool sign_is_unreserved(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}

static bool sign_encode(struct buf *out, const char *text, bool slash_is_kept)
{
    static const char hex[] = "0123456789ABCDEF";
    for (; *text; text++) {
        unsigned char c = (unsigned char) *text;
        if (sign_is_unreserved(*text) || (slash_is_kept && c == '/')) {
            if (!buf_append_char(out, *text))
                return false;
        } else if (!buf_append(out, (char[]){'%', hex[c >> 4], hex[c & 15]}, 3)) {
            return false;
        }
    }
    return true;
}

bool s3_encode_path(struct buf *out, const char *path)
{
    return sign_encode(out, path, true);
}

bool s3_encode_query_text(struct buf *out, const char *text)
{
    return sign_encode(out, text, false);
}

/* Sorted by their encoded form: '%' stands before every unreserved byte, so the raw order may be another. */
static int sign_compare_encoded(const char *a, const char *b)
{
    for (;; a++, b++) {
        if (*a == *b && *a != '\0')
            continue;
        if (*a == '\0' || *b == '\0')
            return (*a != '\0') - (*b != '\0');
        bool a_plain = sign_is_unreserved(*a), b_plain = sign_is_unreserved(*b);
        if (a_plain != b_plain)
            return a_plain ? 1 : -1;
        return (unsigned char) *a < (unsigned char) *b ? -1 : 1; /* both encoded: hex keeps the order of bytes */
    }
}

static int query_compare(const struct s3_param *a, const struct s3_param *b)
{
    int order = sign_compare_encoded(a->name, b->name);
    return order ? order : sign_compare_encoded(a->value, b->value);
}

static int header_compare(const struct s3_param *a, const struct s3_param *b)
{
    return strcasecmp(a->name, b->name);
}

/* Insertion sort: lists of one request are short. */
static void sign_sort(struct s3_param *params, size_t count,
                      int (*compare)(const struct s3_param *, const struct s3_param *))
{
    for (size_t i = 1; i < count; i++) {
        struct s3_param param = params[i];
        size_t at = i;
        for (; at > 0 && compare(&param, &params[at - 1]) < 0; at--)
            params[at] = params[at - 1];
        params[at] = param;
    }
}

bool s3_encode_query(struct buf *out, const struct s3_param *query, size_t count)
{
    struct s3_param sorted[S3_PARAMS_MAX];
    assert(count <= S3_PARAMS_MAX);
    if (count > 0)
        memcpy(sorted, query, count * sizeof(*query));
    sign_sort(sorted, count, query_compare);
    for (size_t i = 0; i < count; i++) {
        if ((i > 0 && !buf_append_char(out, '&')) || !s3_encode_query_text(out, sorted[i].name) ||
            !buf_append_char(out, '=') || !s3_encode_query_text(out, sorted[i].value))
            return false;
    }
    return true;
}

/* ---- the canonical request ---- */

void s3_amz_date(uint64_t time_ms, char *out)
{
    time_t seconds = (time_t) (time_ms / MS_PER_S);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    size_t length = strftime(out, S3_AMZ_DATE_BYTES, "%Y%m%dT%H%M%SZ", &parts);
    assert(length == S3_AMZ_DATE_BYTES - 1); /* the years 1000 to 9999 */
}

static bool sign_append_lower(struct buf *out, const char *name)
{
    for (; *name; name++) {
        char c = *name >= 'A' && *name <= 'Z' ? (char) (*name - 'A' + 'a') : *name;
        if (!buf_append_char(out, c))
            return false;
    }
    return true;
}

/* Without blanks at its ends, and with one where several follow each other. */
static bool sign_append_trimmed(struct buf *out, const char *value)
{
    bool blank = false, begun = false;
    for (; *value; value++) {
        if (*value == ' ' || *value == '\t') {
            blank = true;
            continue;
        }
        if (blank && begun && !buf_append_char(out, ' '))
            return false;
        if (!buf_append_char(out, *value))
            return false;
        blank = false;
        begun = true;
    }
    return true;
}

/* input's headers in their order, by name. */
static void sign_sorted_headers(const struct s3_sign_input *input, struct s3_param *sorted)
{
    assert(input->header_count <= S3_PARAMS_MAX);
    if (input->header_count > 0)
        memcpy(sorted, input->headers, input->header_count * sizeof(*sorted));
    sign_sort(sorted, input->header_count, header_compare);
}

/* "host;range;x-amz-date" */
static bool sign_append_header_names(struct buf *out, const struct s3_param *sorted, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if ((i > 0 && !buf_append_char(out, ';')) || !sign_append_lower(out, sorted[i].name))
            return false;
    }
    return true;
}

bool s3_canonical_request(struct buf *out, const struct s3_sign_input *input)
{
    struct s3_param sorted[S3_PARAMS_MAX];
    sign_sorted_headers(input, sorted);
    (void) buf_appendf(out, "%s\n", input->method);
    (void) s3_encode_path(out, input->path);
    (void) buf_append_char(out, '\n');
    (void) s3_encode_query(out, input->query, input->query_count);
    (void) buf_append_char(out, '\n');
    for (size_t i = 0; i < input->header_count; i++) {
        (void) sign_append_lower(out, sorted[i].name);
        (void) buf_append_char(out, ':');
        (void) sign_append_trimmed(out, sorted[i].value);
        (void) buf_append_char(out, '\n');
    }
    (void) buf_append_char(out, '\n');
    (void) sign_append_header_names(out, sorted, input->header_count);
    (void) buf_appendf(out, "\n%s", input->payload_sha256);
    return !out->overflowed;
}

/* ---- the signature ---- */

/* "20130524/us-east-1/s3/aws4_request" */
static bool sign_append_scope(struct buf *out, const struct s3_sign_input *input, const char *amz_date)
{
    return buf_appendf(out, "%.*s/%s/%s/aws4_request", DATE_LEN, amz_date, input->region, input->service);
}

bool s3_string_to_sign(struct buf *out, const struct s3_sign_input *input, struct str canonical_request)
{
    char amz_date[S3_AMZ_DATE_BYTES];
    s3_amz_date(input->time_ms, amz_date);

    struct hash hash;
    struct digest digest;
    char hex[DIGEST_HEX_BYTES_MAX];
    hash_init(&hash, DIGEST_SHA256);
    hash_update(&hash, canonical_request.ptr, canonical_request.len);
    hash_digest(&hash, &digest);
    digest_format_hex(&digest, hex);

    (void) buf_appendf(out, ALGORITHM "\n%s\n", amz_date);
    (void) sign_append_scope(out, input, amz_date);
    (void) buf_appendf(out, "\n%s", hex);
    return !out->overflowed;
}

void s3_signature(const struct s3_sign_input *input, struct str string_to_sign, char out[DIGEST_HEX_BYTES_MAX])
{
    char amz_date[S3_AMZ_DATE_BYTES];
    s3_amz_date(input->time_ms, amz_date);

    char first[4 + S3_SECRET_KEY_BYTES_MAX];
    int length = snprintf(first, sizeof(first), "AWS4%s", input->keys->secret_access_key);
    struct digest key = {.algorithm = DIGEST_SHA256};
    hmac_sha256(first, (size_t) length, amz_date, DATE_LEN, key.raw);
    hmac_sha256(key.raw, HMAC_SHA256_BYTES, input->region, strlen(input->region), key.raw);
    hmac_sha256(key.raw, HMAC_SHA256_BYTES, input->service, strlen(input->service), key.raw);
    hmac_sha256(key.raw, HMAC_SHA256_BYTES, "aws4_request", strlen("aws4_request"), key.raw);
    hmac_sha256(key.raw, HMAC_SHA256_BYTES, string_to_sign.ptr, string_to_sign.len, key.raw);
    digest_format_hex(&key, out);
}

static bool sign_finish(const struct s3_sign_input *input, char out[DIGEST_HEX_BYTES_MAX])
{
    auto_buf canonical = BUF_INIT(S3_SIGN_TEXT_BYTES_MAX);
    auto_buf to_sign = BUF_INIT(S3_SIGN_TEXT_BYTES_MAX);
    if (!s3_canonical_request(&canonical, input) || !s3_string_to_sign(&to_sign, input, buf_str(&canonical)))
        return false;
    s3_signature(input, buf_str(&to_sign), out);
    return true;
}

bool s3_authorization(struct buf *out, const struct s3_sign_input *input)
{
    char amz_date[S3_AMZ_DATE_BYTES];
    s3_amz_date(input->time_ms, amz_date);

    struct s3_param headers[S3_PARAMS_MAX];
    struct s3_sign_input whole = *input;
    assert(input->header_count + 4 <= S3_PARAMS_MAX);
    sign_sorted_headers(input, headers);
    headers[whole.header_count++] = (struct s3_param){"host", input->host};
    headers[whole.header_count++] = (struct s3_param){"x-amz-content-sha256", input->payload_sha256};
    headers[whole.header_count++] = (struct s3_param){"x-amz-date", amz_date};
    if (input->keys->session_token[0] != '\0')
        headers[whole.header_count++] = (struct s3_param){"x-amz-security-token", input->keys->session_token};
    sign_sort(headers, whole.header_count, header_compare);
    whole.headers = headers;

    char signature[DIGEST_HEX_BYTES_MAX];
    if (!sign_finish(&whole, signature))
        return false;
    (void) buf_appendf(out, ALGORITHM " Credential=%s/", input->keys->access_key_id);
    (void) sign_append_scope(out, input, amz_date);
    (void) buf_append_text(out, ",SignedHeaders=");
    (void) sign_append_header_names(out, headers, whole.header_count);
    (void) buf_appendf(out, ",Signature=%s", signature);
    return !out->overflowed;
}

bool s3_presign(struct buf *out, const struct s3_sign_input *input, const char *scheme, uint32_t expires_s)
{
    char amz_date[S3_AMZ_DATE_BYTES];
    s3_amz_date(input->time_ms, amz_date);
    char credential[S3_ACCESS_KEY_BYTES_MAX + 256];
    struct buf credential_buf = BUF_ON(credential);
    char expires[16];
    (void) snprintf(expires, sizeof(expires), "%u", expires_s);
    if (!buf_appendf(&credential_buf, "%s/", input->keys->access_key_id) ||
        !sign_append_scope(&credential_buf, input, amz_date))
        return false;

    struct s3_param query[S3_PARAMS_MAX];
    struct s3_sign_input whole = *input;
    assert(input->query_count + 6 <= S3_PARAMS_MAX && expires_s <= S3_PRESIGN_SECONDS_MAX);
    if (input->query_count > 0)
        memcpy(query, input->query, input->query_count * sizeof(*query));
    query[whole.query_count++] = (struct s3_param){"X-Amz-Algorithm", ALGORITHM};
    query[whole.query_count++] = (struct s3_param){"X-Amz-Credential", credential};
    query[whole.query_count++] = (struct s3_param){"X-Amz-Date", amz_date};
    query[whole.query_count++] = (struct s3_param){"X-Amz-Expires", expires};
    query[whole.query_count++] = (struct s3_param){"X-Amz-SignedHeaders", "host"};
    if (input->keys->session_token[0] != '\0')
        query[whole.query_count++] = (struct s3_param){"X-Amz-Security-Token", input->keys->session_token};
    whole.query = query;
    whole.headers = &(struct s3_param){"host", input->host};
    whole.header_count = 1;
    whole.payload_sha256 = S3_UNSIGNED_PAYLOAD;

    char signature[DIGEST_HEX_BYTES_MAX];
    if (!sign_finish(&whole, signature))
        return false;
    (void) buf_appendf(out, "%s://%s", scheme, input->host);
    (void) s3_encode_path(out, input->path);
    (void) buf_append_char(out, '?');
    (void) s3_encode_query(out, whole.query, whole.query_count);
    (void) buf_appendf(out, "&X-Amz-Signature=%s", signature);
    return !out->overflowed;
}

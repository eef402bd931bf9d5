#include "store/s3_target.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <strings.h>

#define BUCKET_LEN_MIN 3
#define BUCKET_LEN_MAX 63
#define PORT_MAX 65535

static bool is_set(const char *text)
{
    return text && text[0] != '\0';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Letters of a host name's part in lower case, digits, and dashes, or also dots. */
static bool is_name_char(char c, bool dots)
{
    return (c >= 'a' && c <= 'z') || is_digit(c) || c == '-' || (dots && c == '.');
}

/* Copy to a char array; false when it does not fit or holds a NUL. */
static bool copy_to(char *out, size_t out_bytes, struct str text)
{
    if (text.len >= out_bytes || (text.len > 0 && memchr(text.ptr, '\0', text.len)))
        return false;
    if (text.len > 0)
        memcpy(out, text.ptr, text.len);
    out[text.len] = '\0';
    return true;
}

/* Split text at its first c; without one all of it goes to head. */
static bool cut(struct str text, char c, struct str *head, struct str *tail)
{
    const char *at = text.len ? memchr(text.ptr, c, text.len) : NULL;
    *head = at ? (struct str){text.ptr, (size_t) (at - text.ptr)} : text;
    *tail = at ? (struct str){at + 1, text.len - head->len - 1} : (struct str){"", 0};
    return at != NULL;
}

/* ---- the endpoint's URL ---- */

static enum err_code endpoint_invalid(struct err *err, const char *setting, const char *url)
{
    return err_set(err, ERR_INVALID, "%s: '%s' is not of the form http://host, https://host:port or https://host/path",
                   setting, url);
}

/* "host", "host:port", "[address]:port". Written lower-case, a default port left out. */
static bool endpoint_take_host(struct s3_endpoint *endpoint, struct str authority)
{
    struct str host = authority;
    struct str port = {"", 0};
    if (authority.len > 0 && authority.ptr[0] == '[') {
        const char *end = memchr(authority.ptr, ']', authority.len);
        if (!end)
            return false;
        host.len = (size_t) (end + 1 - authority.ptr);
        if (host.len < authority.len) {
            if (end[1] != ':')
                return false;
            port = (struct str){end + 2, authority.len - host.len - 1};
        }
    } else if (cut(authority, ':', &host, &port) && port.len == 0) {
        return false;
    }
    if (host.len == 0 || host.len >= sizeof(endpoint->host) - 6)
        return false;
    struct buf out = {.ptr = endpoint->host, .cap = sizeof(endpoint->host), .max = sizeof(endpoint->host) - 1};
    for (size_t i = 0; i < host.len; i++) {
        char c = host.ptr[i];
        c = c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
        if (!is_name_char(c, true) && c != '_' && !(host.ptr[0] == '[' && strchr("[]:", c)))
            return false;
        (void) buf_append_char(&out, c);
    }
    if (port.len > 0) {
        uint64_t number;
        if (!str_parse_u64(port, &number) || number == 0 || number > PORT_MAX)
            return false;
        if (number != (endpoint->tls ? 443 : 80))
            (void) buf_appendf(&out, ":%u", (unsigned) number);
    }
    return !out.overflowed;
}

static enum err_code endpoint_parse(const char *setting, const char *url, struct s3_endpoint *out, struct err *err)
{
    *out = (struct s3_endpoint){.tls = strncasecmp(url, "https://", 8) == 0};
    if (!out->tls && strncasecmp(url, "http://", 7) != 0)
        return endpoint_invalid(err, setting, url);
    struct str rest = str_from(url + (out->tls ? 8 : 7));
    struct str authority, path;
    if (cut(rest, '/', &authority, &path)) {
        while (path.len > 0 && path.ptr[path.len - 1] == '/')
            path.len--;
    }
    for (size_t i = 0; i < path.len; i++) {
        if (path.ptr[i] <= ' ' || strchr("?#%@", path.ptr[i]))
            return endpoint_invalid(err, setting, url);
    }
    struct buf base = {.ptr = out->base_path, .cap = sizeof(out->base_path), .max = sizeof(out->base_path) - 1};
    if (path.len > 0 && (!buf_append_char(&base, '/') || !buf_append(&base, path.ptr, path.len)))
        return endpoint_invalid(err, setting, url);
    if (!endpoint_take_host(out, authority))
        return endpoint_invalid(err, setting, url);
    return ERR_OK;
}

/* ---- the bucket ---- */

/* AWS's rules for new buckets, which every other store accepts too. */
static bool bucket_is_valid(struct str name)
{
    if (name.len < BUCKET_LEN_MIN || name.len > BUCKET_LEN_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        bool at_end = i == 0 || i == name.len - 1;
        if (!is_name_char(name.ptr[i], !at_end) || (at_end && name.ptr[i] == '-'))
            return false;
        if (name.ptr[i] == '.' && name.ptr[i - 1] == '.')
            return false;
    }
    char text[BUCKET_LEN_MAX + 1];
    struct in_addr address;
    (void) copy_to(text, sizeof(text), name);
    return inet_pton(AF_INET, text, &address) != 1;
}

static bool region_is_valid(struct str region)
{
    if (region.len == 0 || region.len >= S3_REGION_BYTES_MAX)
        return false;
    for (size_t i = 0; i < region.len; i++) {
        char c = region.ptr[i];
        if (!is_name_char(c, false) && !(c >= 'A' && c <= 'Z') && c != '_')
            return false;
    }
    return true;
}

/* China's regions have a domain of their own. */
static const char *aws_domain(const char *region)
{
    return strncmp(region, "cn-", 3) == 0 ? "amazonaws.com.cn" : "amazonaws.com";
}

/* arn:PARTITION:s3:REGION:ACCOUNT:accesspoint/NAME, or a colon before the name */
struct access_point {
    struct str region;
    struct str account;
    struct str name;
};

/* Take the ARN from the beginning of text; *rest is what follows the '/' behind it. */
static enum err_code access_point_parse(struct str text, struct access_point *out, struct str *out_arn,
                                        struct str *rest, struct err *err)
{
    struct str parts[5]; /* arn, partition, service, region, account */
    struct str tail = text;
    bool whole = true;
    for (size_t i = 0; i < 5; i++)
        whole = cut(tail, ':', &parts[i], &tail) && whole;
    static const char kind[] = "accesspoint";
    size_t kind_len = sizeof(kind) - 1;
    if (!whole || !str_equal(parts[2], STR("s3")) || !str_starts(tail, STR("accesspoint")) || tail.len <= kind_len ||
        !strchr(":/", tail.ptr[kind_len]))
        return err_set(err, ERR_INVALID,
                       "'%.*s' is no access point's ARN: write "
                       "s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME",
                       (int) text.len, text.ptr);
    if (parts[3].len == 0)
        return err_set(err, ERR_INVALID,
                       "'%.*s' is a multi-region access point, which cannot be used: name the "
                       "access point of one region",
                       (int) text.len, text.ptr);
    tail = (struct str){tail.ptr + kind_len + 1, tail.len - kind_len - 1};
    *out = (struct access_point){.region = parts[3], .account = parts[4]};
    (void) cut(tail, '/', &out->name, rest);
    bool valid = region_is_valid(out->region) && out->account.len == 12 && out->name.len >= 3 && out->name.len <= 50;
    for (size_t i = 0; valid && i < out->account.len; i++)
        valid = is_digit(out->account.ptr[i]);
    for (size_t i = 0; valid && i < out->name.len; i++)
        valid = is_name_char(out->name.ptr[i], false);
    if (!valid)
        return err_set(err, ERR_INVALID, "'%.*s': region, account number or name of the access point is malformed",
                       (int) text.len, text.ptr);
    *out_arn = (struct str){text.ptr, (size_t) (out->name.ptr + out->name.len - text.ptr)};
    return ERR_OK;
}

/* "a/b/" from "a/b", "a/b/" or "/a/b"; no empty, "." or ".." component, no control characters. */
static enum err_code prefix_parse(struct str text, char *out, struct err *err)
{
    while (text.len > 0 && text.ptr[text.len - 1] == '/')
        text.len--;
    bool ok = text.len + 2 <= S3_PREFIX_BYTES_MAX;
    for (struct str rest = text, part; ok && rest.len > 0;) {
        (void) cut(rest, '/', &part, &rest);
        ok = part.len > 0 && !str_equal(part, STR(".")) && !str_equal(part, STR(".."));
        for (size_t i = 0; ok && i < part.len; i++)
            ok = (unsigned char) part.ptr[i] >= ' ' && part.ptr[i] != 0x7F;
    }
    if (!ok)
        return err_set(err, ERR_INVALID,
                       "The store's prefix '%.*s' has an empty, '.' or '..' component, a control "
                       "character, or more than %d bytes",
                       (int) text.len, text.ptr, S3_PREFIX_BYTES_MAX - 2);
    (void) copy_to(out, S3_PREFIX_BYTES_MAX, text);
    if (text.len > 0)
        memcpy(out + text.len, "/", 2);
    return ERR_OK;
}

/* ---- putting it together ---- */

/* Put label before the endpoint's host. false: too long. */
static bool endpoint_add_label(struct s3_endpoint *endpoint, const char *label)
{
    char host[S3_HOST_BYTES_MAX];
    int length = snprintf(host, sizeof(host), "%s.%s", label, endpoint->host);
    if (length < 0 || (size_t) length >= sizeof(host))
        return false;
    memcpy(endpoint->host, host, (size_t) length + 1);
    return true;
}

static bool endpoint_add_path(struct s3_endpoint *endpoint, const char *bucket)
{
    size_t used = strlen(endpoint->base_path);
    int length = snprintf(endpoint->base_path + used, sizeof(endpoint->base_path) - used, "/%s", bucket);
    return length >= 0 && (size_t) length < sizeof(endpoint->base_path) - used;
}

static bool host_is_address(const char *host)
{
    char name[S3_HOST_BYTES_MAX];
    struct in_addr address;
    (void) copy_to(name, sizeof(name), (struct str){host, strcspn(host, ":")});
    return host[0] == '[' || inet_pton(AF_INET, name, &address) == 1;
}

/* How the bucket is said at this endpoint. label: the bucket's or access point's part of a host name. */
static enum err_code endpoint_address(struct s3_endpoint *endpoint, const char *bucket, const char *label,
                                      bool is_access_point, bool is_aws, enum s3_addressing addressing, struct err *err)
{
    bool virtual_hosted = is_access_point || addressing == S3_ADDRESSING_VIRTUAL;
    if (addressing == S3_ADDRESSING_AUTO)
        virtual_hosted = is_access_point || (is_aws && !strchr(bucket, '.'));
    if (virtual_hosted && host_is_address(endpoint->host))
        return err_set(err, ERR_INVALID,
                       "A bucket or access point cannot be part of the host name at the endpoint "
                       "'%s': it is an address",
                       endpoint->host);
    if (!(virtual_hosted ? endpoint_add_label(endpoint, label) : endpoint_add_path(endpoint, bucket)))
        return err_set(err, ERR_INVALID, "The store's endpoint '%s' is too long", endpoint->host);
    return ERR_OK;
}

static enum err_code target_take_endpoints(struct s3_target *out, const struct s3_target_settings *settings,
                                           const struct access_point *point, struct err *err)
{
    char label[S3_BUCKET_BYTES_MAX];
    out->is_aws = !is_set(settings->endpoint_url);
    if (point)
        (void) snprintf(label, sizeof(label), "%.*s-%.*s", (int) point->name.len, point->name.ptr,
                        (int) point->account.len, point->account.ptr);
    else
        (void) snprintf(label, sizeof(label), "%s", out->bucket);

    enum err_code code = ERR_OK;
    if (out->is_aws) {
        out->endpoint.tls = true;
        (void) snprintf(out->endpoint.host, sizeof(out->endpoint.host), "%s.%s.%s", point ? "s3-accesspoint" : "s3",
                        out->region, aws_domain(out->region));
    } else {
        code = endpoint_parse("The store's endpoint", settings->endpoint_url, &out->endpoint, err);
    }
    if (code == ERR_OK)
        code =
            endpoint_address(&out->endpoint, out->bucket, label, point != NULL, out->is_aws, settings->addressing, err);
    if (code != ERR_OK)
        return code;

    out->has_public_endpoint = is_set(settings->public_endpoint_url);
    out->public_endpoint = out->endpoint;
    if (!out->has_public_endpoint)
        return ERR_OK;
    code = endpoint_parse("The store's public endpoint", settings->public_endpoint_url, &out->public_endpoint, err);
    if (code == ERR_OK)
        code = endpoint_address(&out->public_endpoint, out->bucket, label, point != NULL, false, settings->addressing,
                                err);
    return code;
}

enum err_code s3_target_parse(const struct s3_target_settings *settings, struct s3_target *out, struct err *err)
{
    struct s3_target target = {.is_aws = false};
    struct str url = str_from(settings->url);
    if (!str_starts(url, STR("s3://")))
        return err_set(err, ERR_INVALID, "'%s' is no S3 store: write s3://bucket or s3://bucket/prefix", settings->url);
    url = (struct str){url.ptr + 5, url.len - 5};

    struct access_point point;
    bool is_point = str_starts(url, STR("arn:"));
    struct str bucket, prefix;
    if (is_point && access_point_parse(url, &point, &bucket, &prefix, err) != ERR_OK)
        return err->code;
    if (!is_point) {
        (void) cut(url, '/', &bucket, &prefix);
        if (!bucket_is_valid(bucket))
            return err_set(err, ERR_INVALID,
                           "'%.*s' is not a bucket name: 3 to 63 lower-case letters, digits, '.' and "
                           "'-', with a letter or digit at both ends",
                           (int) bucket.len, bucket.ptr);
    }
    if (!copy_to(target.bucket, sizeof(target.bucket), bucket))
        return err_set(err, ERR_INVALID, "The access point's ARN is too long");
    if (prefix_parse(prefix, target.prefix, err) != ERR_OK)
        return err->code;

    struct str region = is_point ? point.region : str_from(settings->region ? settings->region : "");
    if (region.len == 0 && !is_set(settings->endpoint_url))
        return err_set(err, ERR_INVALID,
                       "The region of bucket '%s' is not known: set the store's region, AWS_REGION, "
                       "or the store's endpoint if it is not on AWS",
                       target.bucket);
    if (region.len == 0)
        region = STR(S3_REGION_DEFAULT);
    if (!region_is_valid(region))
        return err_set(err, ERR_INVALID, "'%.*s' is not the name of a region", (int) region.len, region.ptr);
    (void) copy_to(target.region, sizeof(target.region), region);

    enum err_code code = target_take_endpoints(&target, settings, is_point ? &point : NULL, err);
    if (code == ERR_OK)
        *out = target;
    return code;
}

bool s3_target_path(const struct s3_target *target, const struct s3_endpoint *endpoint, const char *key,
                    struct buf *out)
{
    return buf_append_text(out, endpoint->base_path) &&
           (key || endpoint->base_path[0] == '\0' ? buf_append_char(out, '/') : true) &&
           (!key || (buf_append_text(out, target->prefix) && buf_append_text(out, key)));
}

/* ---- is it public? ---- */

static bool address_is_public(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1) {
        uint32_t a = ntohl(v4.s_addr);
        return !(a >> 24 == 127 || a >> 24 == 10 || a >> 24 == 0 || a >> 20 == 0xAC1 || a >> 16 == 0xC0A8 ||
                 a >> 16 == 0xA9FE || a >> 22 == 0x64400000 >> 22);
    }
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return !(IN6_IS_ADDR_LOOPBACK(&v6) || IN6_IS_ADDR_UNSPECIFIED(&v6) || IN6_IS_ADDR_LINKLOCAL(&v6) ||
                 (v6.s6_addr[0] & 0xFE) == 0xFC || IN6_IS_ADDR_V4MAPPED(&v6));
    return false;
}

bool s3_endpoint_is_public(const struct s3_endpoint *endpoint)
{
    static const char *const private_ends[] = {".local", ".internal", ".localhost", ".svc", ".cluster.local"};
    char host[S3_HOST_BYTES_MAX];
    if (host_is_address(endpoint->host)) {
        bool is_v6 = endpoint->host[0] == '[';
        struct str address = str_from(endpoint->host + is_v6);
        address.len = strcspn(address.ptr, is_v6 ? "]" : ":");
        return copy_to(host, sizeof(host), address) && address_is_public(host);
    }
    (void) copy_to(host, sizeof(host), (struct str){endpoint->host, strcspn(endpoint->host, ":")});
    size_t len = strlen(host);
    for (size_t i = 0; i < sizeof(private_ends) / sizeof(private_ends[0]); i++) {
        size_t end_len = strlen(private_ends[i]);
        if (len > end_len && strcmp(host + len - end_len, private_ends[i]) == 0)
            return false;
    }
    return strchr(host, '.') != NULL;
}

/* Objects in an array sorted by key, multipart uploads in a list. */
#include "sim_bucket.h"

#include "base/clock.h"
#include "digest/checksum.h"
#include "digest/hash.h"
#include "sim_sched.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#define PAGE_ENTRIES 1000
#define PARTS_MAX 10000
#define BODY_BYTES_MAX (64 * 1024 * 1024)

struct part {
    unsigned number;
    char *bytes;
    size_t len;
    char etag[SIM_ETAG_BYTES];
};

struct upload {
    struct upload *next; /* in order of creation */
    char id[SIM_ETAG_BYTES];
    char *key;
    char nonce[SIM_NONCE_BYTES];
    uint64_t initiated_ms;
    struct part *parts; /* in order of number */
    size_t part_count, part_cap;
};

struct sim_bucket {
    struct sim_bucket_ways ways;
    struct sim_object **objects;
    size_t count, cap;
    struct upload *uploads;
    uint64_t upload_number;
    sim_watch_fn *watch;
    void *watch_arg;
};

static void *must(void *memory)
{
    sim_check(memory, "no memory");
    return memory;
}

/* ---- objects ---- */

static void object_free(struct sim_object *object)
{
    free(object->key);
    free(object->bytes);
    free(object);
}

/* "\"<MD5><end>\"" */
static void etag_make(struct str bytes, const char *end, char *out)
{
    uint8_t md5[MD5_BYTES];
    char hex[2 * MD5_BYTES + 1];
    md5_spans(&bytes, 1, md5);
    for (size_t i = 0; i < MD5_BYTES; i++)
        (void) snprintf(hex + 2 * i, 3, "%02x", md5[i]);
    (void) snprintf(out, SIM_ETAG_BYTES, "\"%s%s\"", hex, end);
}

static struct sim_object *object_new(const char *key, const char *nonce, const void *bytes, size_t len)
{
    struct sim_object *object = must(calloc(1, sizeof(*object)));
    object->key = must(strdup(key));
    object->bytes = must(malloc(len + 1));
    memcpy(object->bytes, bytes, len);
    object->bytes[len] = '\0';
    object->len = len;
    etag_make((struct str){object->bytes, len}, "", object->etag);
    (void) snprintf(object->nonce, sizeof(object->nonce), "%s", nonce);
    object->modified_ms = clock_wall_ms();
    return object;
}

/* Where key is or would be. */
static size_t object_place(const struct sim_bucket *bucket, const char *key, bool *out_found)
{
    size_t low = 0, high = bucket->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(bucket->objects[middle]->key, key);
        if (order == 0) {
            *out_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *out_found = false;
    return low;
}

const struct sim_object *sim_bucket_find(const struct sim_bucket *bucket, const char *key)
{
    bool found;
    size_t at = object_place(bucket, key, &found);
    return found ? bucket->objects[at] : NULL;
}

const struct sim_object *sim_bucket_at(const struct sim_bucket *bucket, size_t index)
{
    return index < bucket->count ? bucket->objects[index] : NULL;
}

static void object_put(struct sim_bucket *bucket, struct sim_object *object)
{
    bool found;
    size_t at = object_place(bucket, object->key, &found);
    if (bucket->watch)
        bucket->watch(bucket->watch_arg, object->key, found ? bucket->objects[at] : NULL, object);
    if (found) {
        object_free(bucket->objects[at]);
    } else {
        if (bucket->count == bucket->cap) {
            bucket->cap = bucket->cap ? 2 * bucket->cap : 256;
            bucket->objects = must(realloc(bucket->objects, bucket->cap * sizeof(struct sim_object *)));
        }
        memmove(bucket->objects + at + 1, bucket->objects + at, (bucket->count - at) * sizeof(struct sim_object *));
        bucket->count++;
    }
    bucket->objects[at] = object;
}

static void object_delete(struct sim_bucket *bucket, const char *key)
{
    bool found;
    size_t at = object_place(bucket, key, &found);
    if (!found)
        return;
    struct sim_object *object = bucket->objects[at];
    if (bucket->watch)
        bucket->watch(bucket->watch_arg, object->key, object, NULL);
    bucket->count--;
    memmove(bucket->objects + at, bucket->objects + at + 1, (bucket->count - at) * sizeof(struct sim_object *));
    object_free(object);
}

/* ---- multipart uploads ---- */

static void upload_free(struct upload *upload)
{
    for (size_t i = 0; i < upload->part_count; i++)
        free(upload->parts[i].bytes);
    free(upload->parts);
    free(upload->key);
    free(upload);
}

static struct upload **upload_find(struct sim_bucket *bucket, const char *key, const char *id)
{
    struct upload **link = &bucket->uploads;
    while (*link && (strcmp((*link)->id, id) != 0 || strcmp((*link)->key, key) != 0))
        link = &(*link)->next;
    return link;
}

static void upload_remove(struct upload **link)
{
    struct upload *upload = *link;
    *link = upload->next;
    upload_free(upload);
}

size_t sim_bucket_upload_count(const struct sim_bucket *bucket)
{
    size_t count = 0;
    for (const struct upload *upload = bucket->uploads; upload; upload = upload->next)
        count++;
    return count;
}

/* ---- the bucket ---- */

struct sim_bucket *sim_bucket_new(const struct sim_bucket_ways *ways)
{
    struct sim_bucket *bucket = must(calloc(1, sizeof(*bucket)));
    bucket->ways = *ways;
    return bucket;
}

void sim_bucket_free(struct sim_bucket *bucket)
{
    for (size_t i = 0; i < bucket->count; i++)
        object_free(bucket->objects[i]);
    free(bucket->objects);
    while (bucket->uploads)
        upload_remove(&bucket->uploads);
    free(bucket);
}

void sim_bucket_watch(struct sim_bucket *bucket, sim_watch_fn *fn, void *arg)
{
    bucket->watch = fn;
    bucket->watch_arg = arg;
}

/* ---- requests and answers ---- */

static const char *param(const struct s3_param *params, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(params[i].name, name) == 0)
            return params[i].value;
    }
    return NULL;
}

static const char *query(const struct sim_request *request, const char *name)
{
    return param(request->query, request->query_count, name);
}

static const char *header(const struct sim_request *request, const char *name)
{
    return param(request->headers, request->header_count, name);
}

static void add(struct buf *out, const char *text)
{
    sim_check(buf_append_text(out, text), "an answer is too long");
}

static void add_number(struct buf *out, const char *tag, uint64_t number)
{
    sim_check(buf_appendf(out, "<%s>%llu</%s>", tag, (unsigned long long) number, tag), "an answer is too long");
}

/* Percent-encoded, as encoding-type=url asks for. */
static void add_key(struct buf *out, const char *tag, const char *key)
{
    sim_check(buf_appendf(out, "<%s>", tag) && s3_encode_query_text(out, key) && buf_appendf(out, "</%s>", tag),
              "an answer is too long");
}

static void add_time(struct buf *out, const char *tag, uint64_t ms)
{
    char text[TIME_TEXT_BYTES];
    clock_format_rfc3339(ms, text);
    sim_check(buf_appendf(out, "<%s>%s</%s>", tag, text, tag), "an answer is too long");
}

void sim_bucket_error(int status, const char *code, struct s3_http_answer *answer, struct buf *out)
{
    size_t before = out->len;
    answer->status = status;
    sim_check(buf_appendf(out, "<Error><Code>%s</Code><Message>simulated</Message></Error>", code), "no memory");
    answer->content_length = out->len - before;
}

static bool etag_matches(const char *wanted, const char *etag)
{
    size_t skip = wanted[0] == '"';
    size_t len = strcspn(wanted + skip, "\"");
    return strlen(etag) == len + 2 && strncmp(etag + 1, wanted + skip, len) == 0;
}

/* S3 verifies the hash that the request was signed with. */
static bool payload_is_whole(const struct sim_request *request)
{
    const char *expected = header(request, "x-amz-content-sha256");
    char hex[DIGEST_HEX_BYTES_MAX];
    struct hash hash;
    struct digest digest;
    sim_check(expected, "a request without x-amz-content-sha256");
    if (strcmp(expected, S3_UNSIGNED_PAYLOAD) == 0)
        return true;
    hash_init(&hash, DIGEST_SHA256);
    hash_update(&hash, request->body.ptr, request->body.len);
    hash_digest(&hash, &digest);
    digest_format_hex(&digest, hex);
    return strcmp(hex, expected) == 0;
}

static void answer_put(struct sim_bucket *bucket, const struct sim_request *request, struct s3_http_answer *answer,
                       struct buf *out)
{
    const char *nonce = header(request, "x-amz-meta-orlop-nonce");
    const char *if_match = header(request, "if-match");
    const struct sim_object *there = sim_bucket_find(bucket, request->key);
    if (bucket->ways.refuses_conditions && (if_match || header(request, "if-none-match"))) {
        sim_bucket_error(501, "NotImplemented", answer, out);
        return;
    }
    if (header(request, "if-none-match") && there && !bucket->ways.ignores_if_none_match) {
        sim_bucket_error(412, "PreconditionFailed", answer, out);
        return;
    }
    if (if_match && !there) {
        sim_bucket_error(404, "NoSuchKey", answer, out);
        return;
    }
    if (if_match && !etag_matches(if_match, there->etag)) {
        sim_bucket_error(412, "PreconditionFailed", answer, out);
        return;
    }
    size_t len = sim_chance(bucket->ways.cuts_puts_of_10000) ? request->body.len / 2 : request->body.len;
    struct sim_object *object = object_new(request->key, nonce ? nonce : "", request->body.ptr, len);
    memcpy(answer->etag, object->etag, sizeof(object->etag));
    answer->status = 200;
    if (sim_chance(bucket->ways.loses_puts_of_10000))
        object_free(object);
    else
        object_put(bucket, object);
}

static void answer_get(struct sim_bucket *bucket, const struct sim_request *request, struct s3_http_answer *answer,
                       struct buf *out)
{
    const struct sim_object *object = sim_bucket_find(bucket, request->key);
    bool is_head = strcmp(request->method, "HEAD") == 0;
    const char *range = header(request, "range"), *if_match = header(request, "if-match");
    unsigned long long first = 0, last = 0;
    if (!object || (if_match && !etag_matches(if_match, object->etag))) {
        sim_bucket_error(object ? 412 : 404, object ? "PreconditionFailed" : "NoSuchKey", answer, out);
        if (is_head)
            buf_clear(out);
        return;
    }
    answer->status = 200;
    size_t len = object->len;
    if (range) {
        int fields = sscanf(range, "bytes=%llu-%llu", &first, &last);
        sim_check(fields >= 1, "a range that is none: %s", range);
        if (first >= object->len) {
            sim_bucket_error(416, "InvalidRange", answer, out);
            return;
        }
        if (fields == 1 || last >= object->len)
            last = object->len - 1;
        len = (size_t) (last - first + 1);
        answer->status = 206;
        answer->range_first = first;
        answer->range_total = object->len;
    }
    memcpy(answer->etag, object->etag, sizeof(object->etag));
    answer->content_length = len;
    answer->last_modified_ms = object->modified_ms;
    if (object->nonce[0])
        (void) snprintf(answer->amz, sizeof(answer->amz), "x-amz-meta-orlop-nonce:%s\n", object->nonce);
    if (!is_head)
        sim_check(buf_append(out, object->bytes + first, len), "an answer is too long");
}

/* ---- listing ---- */

/* The newest object is younger than this: what a store with stale listings would leave out. */
#define STALE_MS 5000

static void answer_list(struct sim_bucket *bucket, const struct sim_request *request, struct s3_http_answer *answer,
                        struct buf *out)
{
    const char *prefix = query(request, "prefix"), *delimiter = query(request, "delimiter");
    const char *token = query(request, "continuation-token"), *after = query(request, "start-after");
    const char *max_keys = query(request, "max-keys"), *encoding = query(request, "encoding-type");
    char common[SIM_KEY_BYTES_MAX] = "", last[SIM_KEY_BYTES_MAX] = "";
    size_t limit = max_keys ? strtoul(max_keys, NULL, 10) : PAGE_ENTRIES, count = 0;
    bool more = false;
    sim_check(prefix && encoding && strcmp(encoding, "url") == 0, "a listing without prefix or encoding");
    if (bucket->ways.page_entries && limit > bucket->ways.page_entries)
        limit = bucket->ways.page_entries;
    if (token)
        after = token;
    bool is_stale = sim_chance(bucket->ways.lists_stale_of_10000);
    uint64_t stale_ms = clock_wall_ms() - STALE_MS;
    add(out, "<ListBucketResult><EncodingType>url</EncodingType>");
    bool found;
    for (size_t i = object_place(bucket, prefix, &found); i < bucket->count && !more; i++) {
        const struct sim_object *object = bucket->objects[i];
        size_t prefix_len = strlen(prefix);
        if (strncmp(object->key, prefix, prefix_len) != 0)
            break;
        const char *cut = delimiter ? strstr(object->key + prefix_len, delimiter) : NULL;
        size_t common_len = cut ? (size_t) (cut - object->key) + strlen(delimiter) : 0;
        bool is_old = after && strcmp(object->key, after) <= 0;
        /* a common prefix that was told on the page before */
        is_old |= cut && after && strlen(after) == common_len && strncmp(object->key, after, common_len) == 0;
        if (is_old || (cut && common[0] && strncmp(object->key, common, strlen(common)) == 0) ||
            (is_stale && object->modified_ms > stale_ms))
            continue;
        if (count == limit) {
            more = true;
            break;
        }
        count++;
        if (cut) {
            (void) snprintf(common, sizeof(common), "%.*s", (int) common_len, object->key);
            (void) snprintf(last, sizeof(last), "%s", common);
            add(out, "<CommonPrefixes>");
            add_key(out, "Prefix", common);
            add(out, "</CommonPrefixes>");
            continue;
        }
        (void) snprintf(last, sizeof(last), "%s", object->key);
        add(out, "<Contents>");
        add_key(out, "Key", object->key);
        add_number(out, "Size", object->len);
        add_time(out, "LastModified", object->modified_ms);
        add(out, "</Contents>");
    }
    add(out, more ? "<IsTruncated>true</IsTruncated>" : "<IsTruncated>false</IsTruncated>");
    if (more)
        sim_check(buf_appendf(out, "<NextContinuationToken>%s</NextContinuationToken>", last), "an answer is too long");
    add(out, "</ListBucketResult>");
    answer->status = 200;
}

/* "&#38;" and the like, in place. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from;) {
        char *end;
        if (from[0] == '&' && from[1] == '#') {
            *to++ = (char) strtoul(from + 2, &end, 10);
            from = end + (*end == ';');
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
}

/* The text of the next <tag> at or after *from; false: none. */
static bool next_text(const char **from, const char *tag, char *out, size_t out_bytes)
{
    char open[64], close[64];
    (void) snprintf(open, sizeof(open), "<%s>", tag);
    (void) snprintf(close, sizeof(close), "</%s>", tag);
    const char *begin = strstr(*from, open);
    const char *end = begin ? strstr(begin, close) : NULL;
    if (!end)
        return false;
    begin += strlen(open);
    sim_check((size_t) (end - begin) < out_bytes, "a text is too long");
    memcpy(out, begin, (size_t) (end - begin));
    out[end - begin] = '\0';
    unescape(out);
    *from = end;
    return true;
}

static void answer_delete_objects(struct sim_bucket *bucket, const struct sim_request *request,
                                  struct s3_http_answer *answer, struct buf *out)
{
    char key[6 * SIM_KEY_BYTES_MAX];
    for (const char *from = request->body.ptr; next_text(&from, "Key", key, sizeof(key));)
        object_delete(bucket, key);
    add(out, "<DeleteResult></DeleteResult>");
    answer->status = 200;
}

/* ---- multipart ---- */

static void answer_create(struct sim_bucket *bucket, const struct sim_request *request, struct s3_http_answer *answer,
                          struct buf *out)
{
    const char *nonce = header(request, "x-amz-meta-orlop-nonce");
    struct upload *upload = must(calloc(1, sizeof(*upload)));
    (void) snprintf(upload->id, sizeof(upload->id), "upload-%llu", (unsigned long long) ++bucket->upload_number);
    (void) snprintf(upload->nonce, sizeof(upload->nonce), "%s", nonce ? nonce : "");
    upload->key = must(strdup(request->key));
    upload->initiated_ms = clock_wall_ms();
    struct upload **end = &bucket->uploads;
    while (*end)
        end = &(*end)->next;
    *end = upload;
    sim_check(buf_appendf(out, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>",
                          upload->id),
              "no memory");
    answer->status = 200;
}

static void answer_part(struct sim_bucket *bucket, const struct sim_request *request, struct s3_http_answer *answer,
                        struct buf *out)
{
    struct upload *upload = *upload_find(bucket, request->key, query(request, "uploadId"));
    unsigned number = (unsigned) strtoul(query(request, "partNumber"), NULL, 10);
    if (!upload) {
        sim_bucket_error(404, "NoSuchUpload", answer, out);
        return;
    }
    if (number < 1 || number > PARTS_MAX) {
        sim_bucket_error(400, "InvalidArgument", answer, out);
        return;
    }
    size_t at = 0;
    while (at < upload->part_count && upload->parts[at].number < number)
        at++;
    if (at == upload->part_count || upload->parts[at].number != number) {
        if (upload->part_count == upload->part_cap) {
            upload->part_cap = upload->part_cap ? 2 * upload->part_cap : 16;
            upload->parts = must(realloc(upload->parts, upload->part_cap * sizeof(upload->parts[0])));
        }
        memmove(upload->parts + at + 1, upload->parts + at, (upload->part_count - at) * sizeof(upload->parts[0]));
        upload->part_count++;
        upload->parts[at].bytes = NULL;
    }
    struct part *part = &upload->parts[at];
    struct sim_object *like = object_new("part", "", request->body.ptr, request->body.len);
    free(part->bytes);
    part->number = number;
    part->bytes = TAKE_PTR(like->bytes);
    part->len = like->len;
    memcpy(part->etag, like->etag, sizeof(part->etag));
    memcpy(answer->etag, like->etag, sizeof(part->etag));
    object_free(like);
    answer->status = 200;
}

/* The listed parts, joined. NULL: the error's code. */
static const char *parts_join(const struct sim_bucket *bucket, const struct upload *upload, const char *xml,
                              struct buf *out)
{
    char number_text[16], etag[SIM_ETAG_BYTES * 6];
    unsigned before = 0;
    size_t listed = 0;
    bool was_short = false;
    for (const char *from = xml; next_text(&from, "PartNumber", number_text, sizeof(number_text));) {
        const struct part *part = NULL;
        unsigned number = (unsigned) strtoul(number_text, NULL, 10);
        sim_check(next_text(&from, "ETag", etag, sizeof(etag)), "a part without ETag");
        for (size_t i = 0; i < upload->part_count; i++) {
            if (upload->parts[i].number == number)
                part = &upload->parts[i];
        }
        if (!part || !etag_matches(etag, part->etag))
            return "InvalidPart";
        if (number <= before)
            return "InvalidPartOrder";
        if (was_short)
            return "EntityTooSmall";
        was_short = part->len < bucket->ways.part_bytes_min;
        before = number;
        listed++;
        sim_check(buf_append(out, part->bytes, part->len), "a blob is too long");
    }
    if (listed == 0)
        return "MalformedXML";
    return bucket->ways.complete_wants_all_parts && listed != upload->part_count ? "InvalidPart" : NULL;
}

/* Of an object of parts: the MD5 of its parts' MD5s, and how many they are. */
static void parts_etag(const struct upload *upload, const char *xml, char *out)
{
    char number_text[16], end[16];
    auto_buf raw = BUF_INIT(PARTS_MAX * MD5_BYTES);
    size_t listed = 0;
    for (const char *from = xml; next_text(&from, "PartNumber", number_text, sizeof(number_text)); listed++) {
        for (size_t i = 0; i < upload->part_count; i++) {
            const struct part *part = &upload->parts[i];
            uint8_t md5[MD5_BYTES];
            if (part->number != strtoul(number_text, NULL, 10))
                continue;
            md5_spans(&(struct str){part->bytes, part->len}, 1, md5);
            sim_check(buf_append(&raw, md5, sizeof(md5)), "no memory");
        }
    }
    (void) snprintf(end, sizeof(end), "-%zu", listed);
    etag_make(buf_str(&raw), end, out);
}

static void answer_complete(struct sim_bucket *bucket, const struct sim_request *request, struct s3_http_answer *answer,
                            struct buf *out)
{
    struct upload **link = upload_find(bucket, request->key, query(request, "uploadId"));
    auto_buf bytes = BUF_INIT(BODY_BYTES_MAX);
    if (!*link) {
        sim_bucket_error(404, "NoSuchUpload", answer, out);
        return;
    }
    const char *error = parts_join(bucket, *link, request->body.ptr, &bytes);
    if (error) {
        sim_bucket_error(400, error, answer, out);
        return;
    }
    struct sim_object *object = object_new(request->key, (*link)->nonce, buf_str(&bytes).ptr, bytes.len);
    parts_etag(*link, request->body.ptr, object->etag);
    upload_remove(link);
    sim_check(buf_appendf(out, "<CompleteMultipartUploadResult><ETag>%s</ETag></CompleteMultipartUploadResult>",
                          object->etag),
              "no memory");
    answer->status = 200;
    object_put(bucket, object);
}

static void answer_list_parts(struct sim_bucket *bucket, const struct sim_request *request,
                              struct s3_http_answer *answer, struct buf *out)
{
    const struct upload *upload = *upload_find(bucket, request->key, query(request, "uploadId"));
    const char *marker = query(request, "part-number-marker");
    unsigned after = marker ? (unsigned) strtoul(marker, NULL, 10) : 0, last = 0;
    size_t limit = bucket->ways.page_entries ? bucket->ways.page_entries : PAGE_ENTRIES, count = 0;
    bool more = false;
    if (!upload) {
        sim_bucket_error(404, "NoSuchUpload", answer, out);
        return;
    }
    add(out, "<ListPartsResult>");
    for (size_t i = 0; i < upload->part_count && !more; i++) {
        const struct part *part = &upload->parts[i];
        if (part->number <= after)
            continue;
        more = count == limit;
        if (more)
            break;
        count++;
        last = part->number;
        add(out, "<Part>");
        add_number(out, "PartNumber", part->number);
        add_number(out, "Size", part->len);
        sim_check(buf_appendf(out, "<ETag>%s</ETag></Part>", part->etag), "no memory");
    }
    add(out, more ? "<IsTruncated>true</IsTruncated>" : "<IsTruncated>false</IsTruncated>");
    if (more)
        add_number(out, "NextPartNumberMarker", last);
    add(out, "</ListPartsResult>");
    answer->status = 200;
}

static int compare_uploads(const void *a, const void *b)
{
    const struct upload *left = *(struct upload *const *) a, *right = *(struct upload *const *) b;
    int order = strcmp(left->key, right->key);
    return order ? order : strcmp(left->id, right->id);
}

static void answer_list_uploads(struct sim_bucket *bucket, const struct sim_request *request,
                                struct s3_http_answer *answer, struct buf *out)
{
    const char *prefix = query(request, "prefix"), *key_marker = query(request, "key-marker");
    const char *id_marker = query(request, "upload-id-marker");
    size_t limit = bucket->ways.page_entries ? bucket->ways.page_entries : PAGE_ENTRIES, count = 0, all = 0;
    const struct upload *last = NULL;
    bool more = false;
    auto_mem struct upload **sorted = must(calloc(sim_bucket_upload_count(bucket) + 1, sizeof(struct upload *)));
    for (struct upload *upload = bucket->uploads; upload; upload = upload->next) {
        int order = key_marker ? strcmp(upload->key, key_marker) : 1;
        if (strncmp(upload->key, prefix, strlen(prefix)) == 0 &&
            (order > 0 || (order == 0 && id_marker && strcmp(upload->id, id_marker) > 0)))
            sorted[all++] = upload;
    }
    qsort(sorted, all, sizeof(struct upload *), compare_uploads);
    add(out, "<ListMultipartUploadsResult><EncodingType>url</EncodingType>");
    for (size_t i = 0; i < all && !more; i++) {
        more = count == limit;
        if (more)
            break;
        count++;
        last = sorted[i];
        add(out, "<Upload>");
        add_key(out, "Key", last->key);
        sim_check(buf_appendf(out, "<UploadId>%s</UploadId>", last->id), "no memory");
        add_time(out, "Initiated", last->initiated_ms);
        add(out, "</Upload>");
    }
    add(out, more ? "<IsTruncated>true</IsTruncated>" : "<IsTruncated>false</IsTruncated>");
    if (more) {
        add_key(out, "NextKeyMarker", last->key);
        sim_check(buf_appendf(out, "<NextUploadIdMarker>%s</NextUploadIdMarker>", last->id), "no memory");
    }
    add(out, "</ListMultipartUploadsResult>");
    answer->status = 200;
}

static void answer_abort(struct sim_bucket *bucket, const struct sim_request *request, struct s3_http_answer *answer,
                         struct buf *out)
{
    struct upload **link = upload_find(bucket, request->key, query(request, "uploadId"));
    if (!*link) {
        sim_bucket_error(404, "NoSuchUpload", answer, out);
        return;
    }
    upload_remove(link);
    answer->status = 204;
}

/* ---- dispatch ---- */

typedef void answer_fn(struct sim_bucket *bucket, const struct sim_request *request, struct s3_http_answer *answer,
                       struct buf *out);

static answer_fn *choose_object(const struct sim_request *request)
{
    bool of_upload = query(request, "uploadId") != NULL;
    if (strcmp(request->method, "PUT") == 0)
        return of_upload ? answer_part : answer_put;
    if (strcmp(request->method, "GET") == 0)
        return of_upload ? answer_list_parts : answer_get;
    if (strcmp(request->method, "HEAD") == 0)
        return answer_get;
    if (strcmp(request->method, "DELETE") == 0)
        return of_upload ? answer_abort : NULL;
    if (strcmp(request->method, "POST") == 0)
        return of_upload ? answer_complete : query(request, "uploads") ? answer_create : NULL;
    return NULL;
}

static answer_fn *choose_bucket(const struct sim_request *request)
{
    if (strcmp(request->method, "GET") == 0)
        return query(request, "list-type") ? answer_list : query(request, "uploads") ? answer_list_uploads : NULL;
    if (strcmp(request->method, "POST") == 0 && query(request, "delete"))
        return answer_delete_objects;
    return NULL;
}

static void answer_delete(struct sim_bucket *bucket, const struct sim_request *request, struct s3_http_answer *answer,
                          struct buf *out)
{
    (void) out;
    object_delete(bucket, request->key);
    answer->status = 204;
}

void sim_bucket_answer(struct sim_bucket *bucket, const struct sim_request *request, struct s3_http_answer *answer,
                       struct buf *out)
{
    size_t before = out->len;
    memset(answer, 0, sizeof(*answer));
    answer->content_length = answer->range_first = answer->range_total = S3_HTTP_UNKNOWN;
    answer->date_ms = clock_wall_ms();
    answer_fn *fn = request->key ? choose_object(request) : choose_bucket(request);
    if (!fn && request->key && strcmp(request->method, "DELETE") == 0)
        fn = answer_delete;
    sim_check(fn, "a request that the simulated bucket does not know: %s %s", request->method,
              request->key ? request->key : "(bucket)");
    if (!payload_is_whole(request))
        sim_bucket_error(400, "XAmzContentSHA256Mismatch", answer, out);
    else
        fn(bucket, request, answer, out);
    if (answer->content_length == S3_HTTP_UNKNOWN)
        answer->content_length = out->len - before;
}

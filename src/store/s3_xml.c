/*
 * One walk over a document (struct reader) and two ways to use it: a few single values (xml_read_values), or a listing
 * of entries (struct listing) whose texts live until the next entry.
 */
#include "store/s3_xml.h"

#include <assert.h>
#include <expat.h>
#include <stdio.h>
#include <time.h>

#define NAME_BYTES_MAX 64
#define MS_PER_S 1000
#define NAMESPACE " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

/* ---- the walk ---- */

struct reader {
    XML_Parser parser;
    const char *const *roots; /* which root elements are welcome; ends with NULL */
    unsigned depth;
    char names[S3_XML_DEPTH_MAX + 1][NAME_BYTES_MAX]; /* of the open elements; [0] is "", the document */
    struct buf text;
    bool text_is_cut; /* it was longer than what is kept */
    bool is_leaf;     /* no element was met inside of the open one */
    bool cuts_are_fine;
    bool stopped;        /* by the callback: no failure */
    const char *problem; /* a failure other than expat's own */

    void (*begin)(struct reader *, const char *name);
    /* An element without elements inside has ended. */
    void (*leaf)(struct reader *, const char *parent, const char *name, struct str text);
    void (*end)(struct reader *, const char *name);
    void *arg;
};

static void reader_fail(struct reader *reader, const char *problem)
{
    if (!reader->problem)
        reader->problem = problem;
    (void) XML_StopParser(reader->parser, XML_FALSE);
}

static void reader_stop(struct reader *reader)
{
    reader->stopped = true;
    (void) XML_StopParser(reader->parser, XML_FALSE);
}

static void XMLCALL reader_on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
    struct reader *reader = arg;
    (void) attributes;
    if (reader->problem || reader->stopped)
        return;
    if (reader->depth == S3_XML_DEPTH_MAX) {
        reader_fail(reader, "nested too deeply");
        return;
    }
    size_t len = strlen(name);
    char *own = reader->names[++reader->depth];
    if (len < NAME_BYTES_MAX)
        memcpy(own, name, len + 1);
    else
        own[0] = '\0'; /* none that we know */
    if (reader->depth == 1) {
        const char *const *root = reader->roots;
        while (*root && strcmp(*root, own) != 0)
            root++;
        if (!*root) {
            reader_fail(reader, "not the document that was asked for");
            return;
        }
    }
    buf_clear(&reader->text);
    reader->text_is_cut = false;
    reader->is_leaf = true;
    if (reader->begin)
        reader->begin(reader, own);
}

static void XMLCALL reader_on_text(void *arg, const XML_Char *text, int len)
{
    struct reader *reader = arg;
    if (!reader->is_leaf || reader->text_is_cut)
        return;
    if (buf_append(&reader->text, text, (size_t) len))
        return;
    reader->text_is_cut = true;
    if (!reader->cuts_are_fine)
        reader_fail(reader, "a text is too long");
}

static void XMLCALL reader_on_end(void *arg, const XML_Char *name)
{
    struct reader *reader = arg;
    (void) name;
    if (reader->problem || reader->stopped)
        return;
    const char *own = reader->names[reader->depth];
    const char *parent = reader->names[reader->depth - 1];
    reader->depth--;
    if (reader->is_leaf)
        reader->leaf(reader, parent, own, buf_str(&reader->text));
    reader->is_leaf = false;
    if (reader->end && !reader->problem)
        reader->end(reader, own);
}

static void XMLCALL reader_on_doctype(void *arg, const XML_Char *name, const XML_Char *system_id,
                                      const XML_Char *public_id, int has_internal_subset)
{
    (void) name;
    (void) system_id;
    (void) public_id;
    (void) has_internal_subset;
    reader_fail(arg, "it has a DTD");
}

static struct str xml_trim_start(struct str xml)
{
    /* Servers send blanks while a long operation runs, some before the XML declaration, where none may be. */
    while (xml.len > 0 && strchr(" \t\r\n", xml.ptr[0]) && xml.ptr[0] != '\0') {
        xml.ptr++;
        xml.len--;
    }
    return xml;
}

/* Walk the whole document. reader's callbacks, roots and arg are set by the caller. */
static enum err_code reader_run(struct reader *reader, struct str xml, struct err *err)
{
    if (xml.len > S3_XML_BYTES_MAX)
        return err_set(err, ERR_UPSTREAM, "the store's answer is longer than %d bytes", S3_XML_BYTES_MAX);
    xml = xml_trim_start(xml);
    reader->parser = XML_ParserCreate(NULL);
    if (!reader->parser)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    reader->text = BUF_INIT(S3_XML_TEXT_BYTES_MAX);
    XML_SetUserData(reader->parser, reader);
    XML_SetElementHandler(reader->parser, reader_on_start, reader_on_end);
    XML_SetCharacterDataHandler(reader->parser, reader_on_text);
    XML_SetStartDoctypeDeclHandler(reader->parser, reader_on_doctype);

    bool parsed = XML_Parse(reader->parser, xml.len ? xml.ptr : "", (int) xml.len, XML_TRUE) == XML_STATUS_OK;
    const char *problem = reader->problem;
    if (!problem && !parsed && !reader->stopped)
        problem = XML_ErrorString(XML_GetErrorCode(reader->parser));
    unsigned long line = XML_GetCurrentLineNumber(reader->parser);
    XML_ParserFree(reader->parser);
    buf_free(&reader->text);
    if (problem)
        return err_set(err, ERR_UPSTREAM, "the store's XML answer cannot be used: %s (line %lu)", problem, line);
    return ERR_OK;
}

/* ---- single values ---- */

/* Where the text of <parent><name> goes; left as it was when there is none, the first counts. */
struct value {
    const char *parent;
    const char *name;
    char *out;
    size_t out_bytes;
    bool found;
};

struct values {
    struct value *items;
    size_t count;
};

static void values_leaf(struct reader *reader, const char *parent, const char *name, struct str text)
{
    struct values *values = reader->arg;
    for (size_t i = 0; i < values->count; i++) {
        struct value *value = &values->items[i];
        if (value->found || strcmp(value->parent, parent) != 0 || strcmp(value->name, name) != 0)
            continue;
        if (text.len >= value->out_bytes) {
            if (!reader->cuts_are_fine) {
                reader_fail(reader, "a value is too long");
                return;
            }
            text.len = value->out_bytes - 1;
        }
        memcpy(value->out, text.ptr, text.len);
        value->out[text.len] = '\0';
        value->found = true;
    }
}

static enum err_code xml_read_values(struct str xml, const char *root, struct value *items, size_t count,
                                     struct err *err)
{
    struct values values = {items, count};
    struct reader reader = {.roots = (const char *const[]){root, NULL}, .leaf = values_leaf, .arg = &values};
    return reader_run(&reader, xml, err);
}

bool s3_xml_read_error(struct str xml, struct s3_error *out)
{
    struct s3_error found = {.code = ""};
    struct value items[] = {
        {"Error", "Code", found.code, sizeof(found.code), false},
        {"Error", "Message", found.message, sizeof(found.message), false},
        {"Error", "RequestId", found.request_id, sizeof(found.request_id), false},
        {"ErrorResponse", "RequestId", found.request_id, sizeof(found.request_id), false},
        {"Error", "Region", found.region, sizeof(found.region), false},
    };
    struct values values = {items, sizeof(items) / sizeof(items[0])};
    struct reader reader = {.roots = (const char *const[]){"Error", "ErrorResponse", NULL},
                            .leaf = values_leaf,
                            .cuts_are_fine = true,
                            .arg = &values};
    struct err ignored = ERR_INIT;
    bool read = reader_run(&reader, xml, &ignored) == ERR_OK && found.code[0] != '\0';
    *out = read ? found : (struct s3_error){.code = ""};
    return read;
}

enum err_code s3_xml_read_upload_id(struct str xml, char *out, struct err *err)
{
    out[0] = '\0';
    struct value items[] = {{"InitiateMultipartUploadResult", "UploadId", out, S3_UPLOAD_ID_BYTES_MAX, false}};
    if (xml_read_values(xml, "InitiateMultipartUploadResult", items, 1, err) != ERR_OK)
        return err->code;
    if (out[0] == '\0')
        return err_set(err, ERR_UPSTREAM, "the store began a multipart upload without an id");
    return ERR_OK;
}

enum err_code s3_xml_read_copied_part(struct str xml, char *out, struct err *err)
{
    out[0] = '\0';
    struct s3_error error;
    if (s3_xml_read_error(xml, &error))
        return err_set(err, ERR_UPSTREAM, "the store failed to copy a part: %s: %s", error.code, error.message);
    struct value items[] = {{"CopyPartResult", "ETag", out, S3_ETAG_BYTES_MAX, false}};
    if (xml_read_values(xml, "CopyPartResult", items, 1, err) != ERR_OK)
        return err->code;
    return out[0] ? ERR_OK : err_set(err, ERR_UPSTREAM, "the store copied a part without an ETag");
}

enum err_code s3_xml_read_completed(struct str xml, char *out, struct err *err)
{
    out[0] = '\0';
    struct s3_error error;
    if (s3_xml_read_error(xml, &error))
        return err_set(err, ERR_UPSTREAM, "the store failed to complete a multipart upload: %s: %s", error.code,
                       error.message);
    struct value items[] = {{"CompleteMultipartUploadResult", "ETag", out, S3_ETAG_BYTES_MAX, false}};
    return xml_read_values(xml, "CompleteMultipartUploadResult", items, 1, err);
}

enum err_code s3_xml_read_assumed_role(struct str xml, struct s3_keys *out, uint64_t *out_expires_ms, struct err *err)
{
    char expiration[64] = "";
    *out = (struct s3_keys){.access_key_id = ""};
    struct value items[] = {
        {"Credentials", "AccessKeyId", out->access_key_id, sizeof(out->access_key_id), false},
        {"Credentials", "SecretAccessKey", out->secret_access_key, sizeof(out->secret_access_key), false},
        {"Credentials", "SessionToken", out->session_token, sizeof(out->session_token), false},
        {"Credentials", "Expiration", expiration, sizeof(expiration), false},
    };
    if (xml_read_values(xml, "AssumeRoleWithWebIdentityResponse", items, sizeof(items) / sizeof(items[0]), err) !=
        ERR_OK)
        return err->code;
    if (out->access_key_id[0] == '\0' || out->secret_access_key[0] == '\0' ||
        !s3_parse_time(str_from(expiration), out_expires_ms))
        return err_set(err, ERR_UPSTREAM, "the answer of STS lacks keys or their expiration");
    return ERR_OK;
}

/* ---- listings ---- */

enum text_slot { TEXT_KEY, TEXT_ETAG, TEXT_UPLOAD_ID, TEXT_CRC32C, TEXT_CODE, TEXT_MESSAGE, TEXT_COUNT };
enum number_slot { NUMBER_SIZE, NUMBER_PART, NUMBER_TIME, NUMBER_COUNT };

struct listing {
    const char *root;
    const char *entry;       /* "Contents", "Part", … */
    const char *other_entry; /* "CommonPrefixes", or NULL */
    /* Call the caller's function; false: it has had enough. A failure is told by reader_fail. */
    bool (*emit)(struct reader *, struct listing *);
    void *fn; /* a pointer to the caller's function */
    void *fn_arg;
    struct s3_page *page; /* NULL: not paged */

    bool is_encoded; /* percent-encoding is to be undone in keys */
    bool is_open;    /* inside of an entry */
    bool is_other;
    struct buf texts[TEXT_COUNT];
    bool has_text[TEXT_COUNT];
    uint64_t numbers[NUMBER_COUNT];
    bool has_number[NUMBER_COUNT];
};

/* What an entry may hold. */
static const struct {
    const char *name;
    bool is_number;
    int slot;
} entry_fields[] = {
    {"Key", false, TEXT_KEY},
    {"Prefix", false, TEXT_KEY},
    {"ETag", false, TEXT_ETAG},
    {"UploadId", false, TEXT_UPLOAD_ID},
    {"ChecksumCRC32C", false, TEXT_CRC32C},
    {"Code", false, TEXT_CODE},
    {"Message", false, TEXT_MESSAGE},
    {"Size", true, NUMBER_SIZE},
    {"PartNumber", true, NUMBER_PART},
    {"LastModified", true, NUMBER_TIME},
    {"Initiated", true, NUMBER_TIME},
};

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Append text with "%2F" and "+" made what they stand for. */
static bool append_decoded(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            int high = i + 2 < text.len ? hex_value(text.ptr[i + 1]) : -1;
            int low = i + 2 < text.len ? hex_value(text.ptr[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char) (high << 4 | low);
            i += 2;
        }
        if (!buf_append_char(out, c))
            return false;
    }
    return true;
}

static void listing_begin(struct reader *reader, const char *name)
{
    struct listing *listing = reader->arg;
    if (reader->depth != 2)
        return;
    listing->is_other = listing->other_entry && strcmp(name, listing->other_entry) == 0;
    listing->is_open = listing->is_other || strcmp(name, listing->entry) == 0;
    if (!listing->is_open)
        return;
    for (size_t i = 0; i < TEXT_COUNT; i++)
        buf_clear(&listing->texts[i]);
    memset(listing->has_text, 0, sizeof(listing->has_text));
    memset(listing->has_number, 0, sizeof(listing->has_number));
    memset(listing->numbers, 0, sizeof(listing->numbers));
}

static void listing_field(struct reader *reader, struct listing *listing, const char *name, struct str text)
{
    for (size_t i = 0; i < sizeof(entry_fields) / sizeof(entry_fields[0]); i++) {
        int slot = entry_fields[i].slot;
        if (strcmp(entry_fields[i].name, name) != 0)
            continue;
        if (entry_fields[i].is_number) {
            listing->has_number[slot] = true;
            if (!(slot == NUMBER_TIME ? s3_parse_time(text, &listing->numbers[slot])
                                      : str_parse_u64(text, &listing->numbers[slot])))
                reader_fail(reader, "a number or time is malformed");
            return;
        }
        listing->has_text[slot] = true;
        buf_clear(&listing->texts[slot]);
        if (!(slot == TEXT_KEY && listing->is_encoded ? append_decoded(&listing->texts[slot], text)
                                                      : buf_append(&listing->texts[slot], text.ptr, text.len)))
            reader_fail(reader, "a key is malformed");
        return;
    }
}

static bool page_text(char *out, size_t out_bytes, struct str text, bool is_encoded)
{
    struct buf buf = {.ptr = out, .cap = out_bytes, .max = out_bytes - 1};
    return is_encoded ? append_decoded(&buf, text) : buf_append(&buf, text.ptr, text.len);
}

static void listing_page_field(struct reader *reader, struct listing *listing, const char *name, struct str text)
{
    struct s3_page *page = listing->page;
    bool ok = true;
    if (strcmp(name, "IsTruncated") == 0)
        page->more = str_equal(text, STR("true"));
    else if (strcmp(name, "NextContinuationToken") == 0 || strcmp(name, "NextPartNumberMarker") == 0)
        ok = page_text(page->next, sizeof(page->next), text, false);
    else if (strcmp(name, "NextKeyMarker") == 0)
        ok = page_text(page->next, sizeof(page->next), text, listing->is_encoded);
    else if (strcmp(name, "NextUploadIdMarker") == 0)
        ok = page_text(page->next_upload_id, sizeof(page->next_upload_id), text, false);
    if (!ok)
        reader_fail(reader, "a marker is too long or malformed");
}

static void listing_leaf(struct reader *reader, const char *parent, const char *name, struct str text)
{
    struct listing *listing = reader->arg;
    (void) parent;
    if (listing->is_open && reader->depth == 2)
        listing_field(reader, listing, name, text);
    else if (listing->page && reader->depth == 1)
        listing_page_field(reader, listing, name, text);
}

static void listing_end(struct reader *reader, const char *name)
{
    struct listing *listing = reader->arg;
    (void) name;
    if (reader->depth != 1 || !listing->is_open)
        return;
    listing->is_open = false;
    if (!listing->emit(reader, listing) && !reader->problem)
        reader_stop(reader);
}

static enum err_code listing_read(struct listing *listing, struct str xml, struct err *err)
{
    /* It may stand behind the keys. Within a text '<' would be escaped: this finds the element only. */
    static const char encoded[] = "<EncodingType>url</EncodingType>";
    listing->is_encoded = xml.len > 0 && memmem(xml.ptr, xml.len, encoded, sizeof(encoded) - 1) != NULL;
    if (listing->page)
        *listing->page = (struct s3_page){.more = false};
    for (size_t i = 0; i < TEXT_COUNT; i++)
        listing->texts[i] = BUF_INIT(S3_XML_TEXT_BYTES_MAX);

    struct reader reader = {.roots = (const char *const[]){listing->root, NULL},
                            .begin = listing_begin,
                            .leaf = listing_leaf,
                            .end = listing_end,
                            .arg = listing};
    enum err_code code = reader_run(&reader, xml, err);
    for (size_t i = 0; i < TEXT_COUNT; i++)
        buf_free(&listing->texts[i]);
    if (code == ERR_OK && !reader.stopped && listing->page && listing->page->more && listing->page->next[0] == '\0')
        return err_set(err, ERR_UPSTREAM, "the store says that its listing goes on, but not where");
    if (listing->page && !listing->page->more)
        *listing->page = (struct s3_page){.more = false}; /* some name a marker on the last page too */
    return code;
}

static bool objects_emit(struct reader *reader, struct listing *listing)
{
    if (!listing->has_text[TEXT_KEY] || (!listing->is_other && !listing->has_number[NUMBER_SIZE])) {
        reader_fail(reader, "an object without key or size");
        return false;
    }
    const struct s3_object object = {.key = buf_str(&listing->texts[TEXT_KEY]),
                                     .is_prefix = listing->is_other,
                                     .size_bytes = listing->numbers[NUMBER_SIZE],
                                     .etag = buf_str(&listing->texts[TEXT_ETAG]),
                                     .modified_ms = listing->numbers[NUMBER_TIME]};
    return (*(s3_object_fn **) listing->fn)(listing->fn_arg, &object);
}

enum err_code s3_xml_read_objects(struct str xml, s3_object_fn *fn, void *arg, struct s3_page *page, struct err *err)
{
    struct listing listing = {.root = "ListBucketResult",
                              .entry = "Contents",
                              .other_entry = "CommonPrefixes",
                              .emit = objects_emit,
                              .fn = &fn,
                              .fn_arg = arg,
                              .page = page};
    return listing_read(&listing, xml, err);
}

static bool parts_emit(struct reader *reader, struct listing *listing)
{
    uint64_t number = listing->numbers[NUMBER_PART];
    if (number < 1 || number > S3_PARTS_MAX || !listing->has_number[NUMBER_SIZE] || !listing->has_text[TEXT_ETAG]) {
        reader_fail(reader, "a part without number, size or ETag");
        return false;
    }
    const struct s3_part part = {.number = (unsigned) number,
                                 .size_bytes = listing->numbers[NUMBER_SIZE],
                                 .etag = buf_str(&listing->texts[TEXT_ETAG]),
                                 .crc32c = buf_str(&listing->texts[TEXT_CRC32C])};
    return (*(s3_part_fn **) listing->fn)(listing->fn_arg, &part);
}

enum err_code s3_xml_read_parts(struct str xml, s3_part_fn *fn, void *arg, struct s3_page *page, struct err *err)
{
    struct listing listing = {
        .root = "ListPartsResult", .entry = "Part", .emit = parts_emit, .fn = &fn, .fn_arg = arg, .page = page};
    return listing_read(&listing, xml, err);
}

static bool uploads_emit(struct reader *reader, struct listing *listing)
{
    if (!listing->has_text[TEXT_KEY] || !listing->has_text[TEXT_UPLOAD_ID]) {
        reader_fail(reader, "a multipart upload without key or id");
        return false;
    }
    const struct s3_upload_entry upload = {.key = buf_str(&listing->texts[TEXT_KEY]),
                                           .upload_id = buf_str(&listing->texts[TEXT_UPLOAD_ID]),
                                           .initiated_ms = listing->numbers[NUMBER_TIME]};
    return (*(s3_upload_entry_fn **) listing->fn)(listing->fn_arg, &upload);
}

enum err_code s3_xml_read_uploads(struct str xml, s3_upload_entry_fn *fn, void *arg, struct s3_page *page,
                                  struct err *err)
{
    struct listing listing = {.root = "ListMultipartUploadsResult",
                              .entry = "Upload",
                              .emit = uploads_emit,
                              .fn = &fn,
                              .fn_arg = arg,
                              .page = page};
    return listing_read(&listing, xml, err);
}

static bool deleted_emit(struct reader *reader, struct listing *listing)
{
    (void) reader;
    const struct s3_delete_failure failure = {.key = buf_str(&listing->texts[TEXT_KEY]),
                                              .code = buf_str(&listing->texts[TEXT_CODE]),
                                              .message = buf_str(&listing->texts[TEXT_MESSAGE])};
    return (*(s3_delete_failure_fn **) listing->fn)(listing->fn_arg, &failure);
}

enum err_code s3_xml_read_deleted(struct str xml, s3_delete_failure_fn *fn, void *arg, struct err *err)
{
    struct listing listing = {.root = "DeleteResult", .entry = "Error", .emit = deleted_emit, .fn = &fn, .fn_arg = arg};
    return listing_read(&listing, xml, err);
}

/* ---- writing ---- */

static bool append_escaped(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool ok;
        if (c == '&' || c == '<' || c == '>' || c == '"' || c == '\'' || c == '\t' || c == '\n' || c == '\r')
            ok = buf_appendf(out, "&#%d;", c);
        else
            ok = buf_append_char(out, c);
        if (!ok)
            return false;
    }
    return true;
}

bool s3_xml_write_complete(struct buf *out, const struct s3_part *parts, size_t count)
{
    (void) buf_append_text(out, "<CompleteMultipartUpload" NAMESPACE ">");
    for (size_t i = 0; i < count; i++) {
        assert(parts[i].number >= 1 && parts[i].number <= S3_PARTS_MAX);
        assert(i == 0 || parts[i].number > parts[i - 1].number);
        (void) buf_appendf(out, "<Part><PartNumber>%u</PartNumber><ETag>", parts[i].number);
        (void) append_escaped(out, parts[i].etag);
        (void) buf_append_text(out, "</ETag>");
        if (parts[i].crc32c.len > 0) {
            (void) buf_append_text(out, "<ChecksumCRC32C>");
            (void) append_escaped(out, parts[i].crc32c);
            (void) buf_append_text(out, "</ChecksumCRC32C>");
        }
        (void) buf_append_text(out, "</Part>");
    }
    (void) buf_append_text(out, "</CompleteMultipartUpload>");
    return !out->overflowed;
}

bool s3_xml_write_delete(struct buf *out, const struct str *keys, size_t count)
{
    assert(count <= S3_DELETE_MAX);
    (void) buf_append_text(out, "<Delete" NAMESPACE "><Quiet>true</Quiet>");
    for (size_t i = 0; i < count; i++) {
        (void) buf_append_text(out, "<Object><Key>");
        (void) append_escaped(out, keys[i]);
        (void) buf_append_text(out, "</Key></Object>");
    }
    (void) buf_append_text(out, "</Delete>");
    return !out->overflowed;
}

/* ---- times ---- */

bool s3_parse_time(struct str text, uint64_t *out_ms)
{
    /* 2026-01-31T23:59:59Z, with or without a fraction */
    char copy[40];
    struct tm parts = {0};
    int used = 0;
    if (text.len < 20 || text.len >= sizeof(copy) || memchr(text.ptr, '\0', text.len))
        return false;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    for (size_t i = 0; i < 19; i++) {
        char pattern = "dddd-dd-ddTdd:dd:dd"[i];
        if (pattern == 'd' ? copy[i] < '0' || copy[i] > '9' : copy[i] != pattern)
            return false;
    }
    if (sscanf(copy, "%4d-%2d-%2dT%2d:%2d:%2d%n", &parts.tm_year, &parts.tm_mon, &parts.tm_mday, &parts.tm_hour,
               &parts.tm_min, &parts.tm_sec, &used) != 6)
        return false;
    const char *rest = copy + used;
    unsigned milliseconds = 0;
    if (*rest == '.') {
        unsigned scale = 100;
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, scale /= 10)
            milliseconds += (unsigned) (*rest - '0') * scale;
    }
    bool in_range = parts.tm_year >= 1970 && parts.tm_mon >= 1 && parts.tm_mon <= 12 && parts.tm_mday >= 1 &&
                    parts.tm_mday <= 31 && parts.tm_hour <= 23 && parts.tm_min <= 59 && parts.tm_sec <= 60;
    if (!in_range || strcmp(rest, "Z") != 0)
        return false;
    parts.tm_year -= 1900;
    parts.tm_mon -= 1;
    time_t seconds = timegm(&parts);
    if (seconds < 0)
        return false;
    *out_ms = (uint64_t) seconds * MS_PER_S + milliseconds;
    return true;
}

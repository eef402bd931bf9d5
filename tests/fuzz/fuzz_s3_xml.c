/* What a store answers: every reader over the same bytes. What is read is bounded; what was escaped comes back. */
#include "fuzz.h"
#include "store/s3_xml.h"

struct counted {
    size_t entries;
    struct buf keys; /* as a DeleteObjects body would say them */
};

static bool on_object(void *arg, const struct s3_object *object)
{
    struct counted *counted = arg;
    assert(object->key.len <= S3_XML_TEXT_BYTES_MAX && object->etag.len <= S3_XML_TEXT_BYTES_MAX);
    (void) s3_xml_write_delete(&counted->keys, &object->key, 1);
    return ++counted->entries < 1000;
}

static bool on_part(void *arg, const struct s3_part *part)
{
    struct counted *counted = arg;
    assert(part->number >= 1 && part->number <= S3_PARTS_MAX);
    return ++counted->entries < 1000;
}

static bool on_upload(void *arg, const struct s3_upload_entry *upload)
{
    struct counted *counted = arg;
    assert(upload->key.ptr && upload->upload_id.ptr);
    return ++counted->entries < 1000;
}

static bool on_failure(void *arg, const struct s3_delete_failure *failure)
{
    struct counted *counted = arg;
    assert(failure->key.ptr && failure->code.ptr);
    return ++counted->entries < 1000;
}

static void check_failure(enum err_code code, const struct err *err)
{
    assert(code == ERR_OK || (code == ERR_UPSTREAM && err->message[0] != '\0'));
}

/* A text that is written as an ETag is read back as it was. */
static void check_escaping(struct str text)
{
    struct err err = ERR_INIT;
    char etag[S3_ETAG_BYTES_MAX];
    auto_buf written = BUF_INIT(65536);
    auto_buf xml = BUF_INIT(65536);
    const struct s3_part part = {.number = 1, .etag = text};
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if ((c < ' ' && c != '\t' && c != '\r' && c != '\n') || (unsigned char) c >= 0x80)
            return; /* XML has no spelling for it, or it may be no UTF-8 */
    }
    if (text.len >= sizeof(etag))
        return;
    assert(s3_xml_write_complete(&written, &part, 1));
    const char *begin = strstr(written.ptr, "<ETag>");
    const char *end = strstr(begin, "</ETag>");
    assert(begin && end);
    assert(buf_appendf(&xml, "<CompleteMultipartUploadResult>%.*s</CompleteMultipartUploadResult>",
                       (int) (end + 7 - begin), begin));
    assert(s3_xml_read_completed(buf_str(&xml), etag, &err) == ERR_OK);
    assert(strlen(etag) == text.len && memcmp(etag, text.ptr, text.len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str xml = fuzz_text(data, size);
    struct err err = ERR_INIT;
    struct counted counted = {.keys = BUF_INIT(1024 * 1024)};
    struct s3_page page;
    struct s3_error error;
    struct s3_keys keys;
    uint64_t ms;
    char id[S3_UPLOAD_ID_BYTES_MAX];
    char etag[S3_ETAG_BYTES_MAX];

    check_failure(s3_xml_read_objects(xml, on_object, &counted, &page, &err), &err);
    check_failure(s3_xml_read_parts(xml, on_part, &counted, &page, &err), &err);
    check_failure(s3_xml_read_uploads(xml, on_upload, &counted, &page, &err), &err);
    check_failure(s3_xml_read_deleted(xml, on_failure, &counted, &err), &err);
    check_failure(s3_xml_read_upload_id(xml, id, &err), &err);
    check_failure(s3_xml_read_completed(xml, etag, &err), &err);
    check_failure(s3_xml_read_copied_part(xml, etag, &err), &err);
    check_failure(s3_xml_read_assumed_role(xml, &keys, &ms, &err), &err);
    if (!s3_xml_read_error(xml, &error))
        assert(error.code[0] == '\0' && error.message[0] == '\0');
    (void) s3_parse_time(xml, &ms);
    check_escaping(xml);
    buf_free(&counted.keys);
    return 0;
}

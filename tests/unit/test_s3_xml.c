#include "store/s3_xml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define XML "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
#define S3 " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

/* What the callbacks were given, one line each. */
struct seen {
    struct buf text;
    size_t stop_after; /* 0: never */
    size_t count;
};

static struct seen seen_new(void)
{
    return (struct seen){.text = BUF_INIT(65536)};
}

static bool seen_more(struct seen *seen)
{
    return ++seen->count != seen->stop_after;
}

static bool on_object(void *arg, const struct s3_object *object)
{
    struct seen *seen = arg;
    assert_true(buf_appendf(&seen->text, "%.*s %s %llu %.*s %llu\n", (int) object->key.len, object->key.ptr,
                            object->is_prefix ? "prefix" : "object", (unsigned long long) object->size_bytes,
                            (int) object->etag.len, object->etag.ptr, (unsigned long long) object->modified_ms));
    return seen_more(seen);
}

static bool on_part(void *arg, const struct s3_part *part)
{
    struct seen *seen = arg;
    assert_true(buf_appendf(&seen->text, "%u %llu %.*s %.*s\n", part->number, (unsigned long long) part->size_bytes,
                            (int) part->etag.len, part->etag.ptr, (int) part->crc32c.len, part->crc32c.ptr));
    return seen_more(seen);
}

static bool on_upload(void *arg, const struct s3_upload_entry *upload)
{
    struct seen *seen = arg;
    assert_true(buf_appendf(&seen->text, "%.*s %.*s %llu\n", (int) upload->key.len, upload->key.ptr,
                            (int) upload->upload_id.len, upload->upload_id.ptr,
                            (unsigned long long) upload->initiated_ms));
    return seen_more(seen);
}

static bool on_failure(void *arg, const struct s3_delete_failure *failure)
{
    struct seen *seen = arg;
    assert_true(buf_appendf(&seen->text, "%.*s %.*s %.*s\n", (int) failure->key.len, failure->key.ptr,
                            (int) failure->code.len, failure->code.ptr, (int) failure->message.len,
                            failure->message.ptr));
    return seen_more(seen);
}

static const char aws_listing[] = XML
    "<ListBucketResult" S3 "><Name>b</Name><Prefix>p/</Prefix><NextContinuationToken>1a&amp;==</NextContinuationToken>"
    "<KeyCount>3</KeyCount><MaxKeys>3</MaxKeys><Delimiter>/</Delimiter><EncodingType>url</EncodingType>"
    "<IsTruncated>true</IsTruncated>"
    "<Contents><Key>p/a%2Bb+c%26%C3%A9&amp;%0A</Key><LastModified>2026-01-31T23:59:59.250Z</LastModified>"
    "<ETag>&quot;e1&quot;</ETag><Size>5368709120</Size><Owner><ID>me</ID><Key>no</Key></Owner>"
    "<StorageClass>STANDARD</StorageClass></Contents>\n"
    "<Contents><Size>0</Size><Key>p/z</Key></Contents>"
    "<CommonPrefixes><Prefix>p/dir/</Prefix></CommonPrefixes></ListBucketResult>";

static void test_objects(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct s3_page page;
    struct seen seen = seen_new();
    assert_int_equal(s3_xml_read_objects(STR(aws_listing), on_object, &seen, &page, &err), ERR_OK);
    assert_string_equal(seen.text.ptr, "p/a+b c&\u00e9&\n object 5368709120 \"e1\" 1769903999250\n"
                                       "p/z object 0  0\n"
                                       "p/dir/ prefix 0  0\n");
    assert_true(page.more);
    assert_string_equal(page.next, "1a&==");
    buf_free(&seen.text);
}

static void test_objects_until_enough(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct s3_page page;
    struct seen seen = seen_new();
    seen.stop_after = 1;
    assert_int_equal(s3_xml_read_objects(STR(aws_listing), on_object, &seen, &page, &err), ERR_OK);
    assert_int_equal(seen.count, 1);
    buf_free(&seen.text);
}

static void test_keys_as_they_are_without_encoding(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct s3_page page;
    struct seen seen = seen_new();
    assert_int_equal(
        s3_xml_read_objects(STR("<ListBucketResult><IsTruncated>false</IsTruncated><NextContinuationToken>x"
                                "</NextContinuationToken><Contents><Key>a%2B+&lt;b&gt;&#233;</Key><Size>1"
                                "</Size></Contents></ListBucketResult>"),
                            on_object, &seen, &page, &err),
        ERR_OK);
    assert_string_equal(seen.text.ptr, "a%2B+<b>\u00e9 object 1  0\n");
    assert_false(page.more);
    assert_string_equal(page.next, "");
    buf_free(&seen.text);
}

static void test_parts(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct s3_page page;
    struct seen seen = seen_new();
    assert_int_equal(
        s3_xml_read_parts(STR(XML "<ListPartsResult" S3 "><Bucket>b</Bucket><Key>k%</Key><UploadId>u</UploadId>"
                                  "<PartNumberMarker>0</PartNumberMarker><NextPartNumberMarker>2</NextPartNumberMarker>"
                                  "<MaxParts>2</MaxParts><IsTruncated>true</IsTruncated>"
                                  "<Part><PartNumber>1</PartNumber><LastModified>2026-01-31T23:59:59Z</LastModified>"
                                  "<ETag>\"a\"</ETag><Size>8388608</Size></Part><Part><PartNumber>2</PartNumber>"
                                  "<ChecksumCRC32C>AAAAAA==</ChecksumCRC32C><ETag>\"b\"</ETag><Size>3</Size></Part>"
                                  "</ListPartsResult>"),
                          on_part, &seen, &page, &err),
        ERR_OK);
    assert_string_equal(seen.text.ptr, "1 8388608 \"a\" \n2 3 \"b\" AAAAAA==\n");
    assert_true(page.more);
    assert_string_equal(page.next, "2");
    buf_free(&seen.text);
}

static void test_uploads(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct s3_page page;
    struct seen seen = seen_new();
    assert_int_equal(
        s3_xml_read_uploads(
            STR(XML "<ListMultipartUploadsResult" S3 "><KeyMarker></KeyMarker><NextKeyMarker>k%2F1</NextKeyMarker>"
                    "<NextUploadIdMarker>u1</NextUploadIdMarker><IsTruncated>true</IsTruncated>"
                    "<Upload><Key>data%2F1</Key><UploadId>2~x</UploadId><Initiator><ID>i</ID></Initiator>"
                    "<Initiated>2026-01-31T23:59:59.000Z</Initiated></Upload><EncodingType>url</EncodingType>"
                    "</ListMultipartUploadsResult>"),
            on_upload, &seen, &page, &err),
        ERR_OK);
    assert_string_equal(seen.text.ptr, "data/1 2~x 1769903999000\n");
    assert_string_equal(page.next, "k/1");
    assert_string_equal(page.next_upload_id, "u1");
    buf_free(&seen.text);
}

static void test_deleted(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct seen seen = seen_new();
    assert_int_equal(s3_xml_read_deleted(STR(XML
                                             "<DeleteResult" S3 "><Deleted><Key>a</Key></Deleted><Error><Key>b%2F</Key>"
                                             "<Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>"),
                                         on_failure, &seen, &err),
                     ERR_OK);
    assert_string_equal(seen.text.ptr, "b%2F AccessDenied no\n");
    buf_free(&seen.text);
    seen = seen_new();
    assert_int_equal(s3_xml_read_deleted(STR("<DeleteResult/>"), on_failure, &seen, &err), ERR_OK);
    assert_int_equal(seen.count, 0);
}

static void test_single_answers(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    char id[S3_UPLOAD_ID_BYTES_MAX];
    char etag[S3_ETAG_BYTES_MAX];
    assert_int_equal(s3_xml_read_upload_id(STR(XML "<InitiateMultipartUploadResult" S3 "><Bucket>b</Bucket><Key>k</Key>"
                                                   "<UploadId>2~&amp;x</UploadId></InitiateMultipartUploadResult>"),
                                           id, &err),
                     ERR_OK);
    assert_string_equal(id, "2~&x");
    assert_int_equal(s3_xml_read_upload_id(STR("<InitiateMultipartUploadResult/>"), id, &err), ERR_UPSTREAM);

    assert_int_equal(s3_xml_read_completed(STR(" \r\n \n" XML "<CompleteMultipartUploadResult" S3
                                               "><Location>l</Location>"
                                               "<ETag>&#34;m-2&#34;</ETag></CompleteMultipartUploadResult>"),
                                           etag, &err),
                     ERR_OK);
    assert_string_equal(etag, "\"m-2\"");
    assert_int_equal(s3_xml_read_completed(STR(XML "\n  <Error><Code>InternalError</Code><Message>m</Message></Error>"),
                                           etag, &err),
                     ERR_UPSTREAM);
    assert_non_null(strstr(err.message, "InternalError"));
    assert_int_equal(s3_xml_read_completed(STR(""), etag, &err), ERR_UPSTREAM);

    assert_int_equal(s3_xml_read_copied_part(STR(XML "<CopyPartResult" S3 "><LastModified>2026-01-31T23:59:59.000Z"
                                                     "</LastModified><ETag>&#34;c&#34;</ETag></CopyPartResult>"),
                                             etag, &err),
                     ERR_OK);
    assert_string_equal(etag, "\"c\"");
    assert_int_equal(s3_xml_read_copied_part(STR("<Error><Code>InternalError</Code></Error>"), etag, &err),
                     ERR_UPSTREAM);
    assert_int_equal(s3_xml_read_copied_part(STR("<CopyPartResult/>"), etag, &err), ERR_UPSTREAM);
    assert_int_equal(s3_xml_read_copied_part(STR(""), etag, &err), ERR_UPSTREAM);
}

static void test_errors(void **state)
{
    (void) state;
    struct s3_error error;
    assert_true(
        s3_xml_read_error(STR(XML "<Error><Code>NoSuchKey</Code><Message>gone &lt;away&gt;</Message><Key>k</Key>"
                                  "<RequestId>tx</RequestId><HostId>h</HostId><Region>eu</Region></Error>"),
                          &error));
    assert_string_equal(error.code, "NoSuchKey");
    assert_string_equal(error.message, "gone <away>");
    assert_string_equal(error.request_id, "tx");
    assert_string_equal(error.region, "eu");
    assert_true(
        s3_xml_read_error(STR("<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>"
                              "<Type>Sender</Type><Code>ExpiredTokenException</Code><Message>m</Message></Error>"
                              "<RequestId>r</RequestId></ErrorResponse>"),
                          &error));
    assert_string_equal(error.code, "ExpiredTokenException");
    assert_string_equal(error.request_id, "r");

    /* Whatever is too long is cut: an error is an error. */
    auto_buf xml = BUF_INIT(100000);
    assert_true(buf_append_text(&xml, "<Error><StringToSign>"));
    for (int i = 0; i < 20000; i++)
        assert_true(buf_append_text(&xml, "x"));
    assert_true(buf_append_text(&xml, "</StringToSign><Code>C</Code><Message>"));
    for (int i = 0; i < 1000; i++)
        assert_true(buf_append_text(&xml, "m"));
    assert_true(buf_append_text(&xml, "</Message></Error>"));
    assert_true(s3_xml_read_error(buf_str(&xml), &error));
    assert_string_equal(error.code, "C");
    assert_int_equal(strlen(error.message), sizeof(error.message) - 1);

    static const char *const others[] = {"",      "<html><body>502</body></html>",      "<Error>", "<Error/>",
                                         "plain", "<Error><Message>m</Message></Error>"};
    for (size_t i = 0; i < LENGTH(others); i++) {
        assert_false(s3_xml_read_error(str_from(others[i]), &error));
        assert_string_equal(error.code, "");
        assert_string_equal(error.message, "");
    }
}

static void test_assumed_role(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct s3_keys keys;
    uint64_t expires_ms;
    assert_int_equal(
        s3_xml_read_assumed_role(
            STR("<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"
                "<AssumeRoleWithWebIdentityResult><AssumedRoleUser><Arn>a</Arn></AssumedRoleUser><Credentials>"
                "<SessionToken>tok</SessionToken><SecretAccessKey>sec</SecretAccessKey>"
                "<Expiration>2026-01-31T23:59:59Z</Expiration><AccessKeyId>ASIA</AccessKeyId></Credentials>"
                "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"),
            &keys, &expires_ms, &err),
        ERR_OK);
    assert_string_equal(keys.access_key_id, "ASIA");
    assert_string_equal(keys.secret_access_key, "sec");
    assert_string_equal(keys.session_token, "tok");
    assert_int_equal(expires_ms, 1769903999000);
    assert_int_equal(s3_xml_read_assumed_role(STR("<AssumeRoleWithWebIdentityResponse/>"), &keys, &expires_ms, &err),
                     ERR_UPSTREAM);
}

#define LISTING(inside) "<ListBucketResult>" inside "</ListBucketResult>"

static void test_what_is_refused(void **state)
{
    (void) state;
    static const struct {
        const char *xml;
        const char *why;
    } rows[] = {
        {"<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;\">]>" LISTING("&b;"), "it has a DTD"},
        {"<!DOCTYPE ListBucketResult SYSTEM \"file:///etc/passwd\">" LISTING(""), "it has a DTD"},
        {LISTING("<a><b><c><d><e><f><g><h/></g></f></e></d></c></b></a>"), "nested too deeply"},
        {"<ListPartsResult/>", "not the document"},
        {LISTING("<Contents><Size>1</Size></Contents>"), "without key or size"},
        {LISTING("<Contents><Key>k</Key></Contents>"), "without key or size"},
        {LISTING("<CommonPrefixes/>"), "without key or size"},
        {LISTING("<Contents><Key>k</Key><Size>-1</Size></Contents>"), "malformed"},
        {LISTING("<Contents><Key>k</Key><Size>99999999999999999999</Size></Contents>"), "malformed"},
        {LISTING("<Contents><Key>k</Key><Size>1</Size><LastModified>now</LastModified></Contents>"), "malformed"},
        {LISTING("<EncodingType>url</EncodingType><Contents><Key>%4</Key><Size>1</Size></Contents>"), "malformed"},
        {LISTING("<EncodingType>url</EncodingType><Contents><Key>%zz</Key><Size>1</Size></Contents>"), "malformed"},
        {LISTING("<IsTruncated>true</IsTruncated>"), "but not where"},
        {LISTING("<Contents>"), "mismatched tag"},
        {"<ListBucketResult>", "no element found"},
        {"", "no element found"},
        {LISTING("&nbsp;"), "undefined entity"},
        {LISTING("\x01"), "not well-formed"},
    };
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct err err = ERR_INIT;
        struct s3_page page;
        struct seen seen = seen_new();
        assert_int_equal(s3_xml_read_objects(str_from(rows[i].xml), on_object, &seen, &page, &err), ERR_UPSTREAM);
        if (!strstr(err.message, rows[i].why))
            fail_msg("%s: %s", rows[i].xml, err.message);
        buf_free(&seen.text);
    }
}

static void test_limits(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    struct s3_page page;
    struct seen seen = seen_new();
    auto_buf xml = BUF_INIT(S3_XML_BYTES_MAX + 100);
    assert_true(buf_append_text(&xml, "<ListBucketResult><Contents><Size>1</Size><Key>"));
    for (int i = 0; i <= S3_XML_TEXT_BYTES_MAX; i++)
        assert_true(buf_append_char(&xml, 'k'));
    assert_true(buf_append_text(&xml, "</Key></Contents></ListBucketResult>"));
    assert_int_equal(s3_xml_read_objects(buf_str(&xml), on_object, &seen, &page, &err), ERR_UPSTREAM);
    assert_non_null(strstr(err.message, "a text is too long"));
    while (xml.len <= S3_XML_BYTES_MAX)
        assert_true(buf_append_char(&xml, ' '));
    assert_int_equal(s3_xml_read_objects(buf_str(&xml), on_object, &seen, &page, &err), ERR_UPSTREAM);
    assert_non_null(strstr(err.message, "longer than"));
    buf_free(&seen.text);
}

static void test_writing(void **state)
{
    (void) state;
    auto_buf out = BUF_INIT(1000);
    const struct s3_part parts[] = {{.number = 1, .etag = STR("\"a&b\"")},
                                    {.number = 10000, .etag = STR("c"), .crc32c = STR("AAAAAA==")}};
    assert_true(s3_xml_write_complete(&out, parts, LENGTH(parts)));
    assert_string_equal(out.ptr,
                        "<CompleteMultipartUpload" S3 "><Part><PartNumber>1</PartNumber><ETag>&#34;a&#38;b&#34;"
                        "</ETag></Part><Part><PartNumber>10000</PartNumber><ETag>c</ETag>"
                        "<ChecksumCRC32C>AAAAAA==</ChecksumCRC32C></Part></CompleteMultipartUpload>");
    buf_clear(&out);
    const struct str keys[] = {STR("a/<b>'\"\t\r\n\u00e9"), STR("c")};
    assert_true(s3_xml_write_delete(&out, keys, LENGTH(keys)));
    assert_string_equal(out.ptr,
                        "<Delete" S3 "><Quiet>true</Quiet><Object><Key>a/&#60;b&#62;&#39;&#34;&#9;&#13;&#10;\u00e9"
                        "</Key></Object><Object><Key>c</Key></Object></Delete>");
    out.max = out.len + 10;
    assert_false(s3_xml_write_delete(&out, keys, LENGTH(keys)));
}

static void test_times(void **state)
{
    (void) state;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"1970-01-01T00:00:00Z", 0},
                {"2026-01-31T23:59:59Z", 1769903999000},
                {"2026-01-31T23:59:59.1Z", 1769903999100},
                {"2026-01-31T23:59:59.123456Z", 1769903999123}};
    static const char *const bad[] = {"",
                                      "2026-01-31",
                                      "2026-01-31T23:59:59",
                                      "2026-01-31 23:59:59Z",
                                      "2026-13-31T23:59:59Z",
                                      "2026-01-31T24:59:59Z",
                                      "1960-01-31T23:59:59Z",
                                      "2026-01-31T23:59:59+01:00",
                                      "+026-01-31T23:59:59Z",
                                      "2026-01-31T23:59:59.1234567890123456789012345Z"};
    for (size_t i = 0; i < LENGTH(good); i++) {
        uint64_t ms;
        assert_true(s3_parse_time(str_from(good[i].text), &ms));
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < LENGTH(bad); i++) {
        uint64_t ms;
        assert_false(s3_parse_time(str_from(bad[i]), &ms));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects),
        cmocka_unit_test(test_objects_until_enough),
        cmocka_unit_test(test_keys_as_they_are_without_encoding),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_uploads),
        cmocka_unit_test(test_deleted),
        cmocka_unit_test(test_single_answers),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_assumed_role),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_writing),
        cmocka_unit_test(test_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

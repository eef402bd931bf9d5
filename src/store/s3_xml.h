/*
 * S3's XML, read and written. The one user of expat.
 *
 * Texts are handed out as they are meant: entities resolved and, in listings asked for with encoding-type=url (as all
 * should be: XML cannot carry every key), percent-encoding undone. Documents with a DTD, nested deeper than
 * S3_XML_DEPTH_MAX, longer than S3_XML_BYTES_MAX or with a text beyond S3_XML_TEXT_BYTES_MAX are refused: ERR_UPSTREAM,
 * as is whatever lacks what it must have. Namespaces are ignored. Callbacks are called as entries are met, before the
 * document is known to be whole: on failure forget them. They return false to stop early (still ERR_OK).
 */
#ifndef ORLOP_STORE_S3_XML_H
#define ORLOP_STORE_S3_XML_H

#include "base/buf.h"
#include "base/err.h"
#include "store/s3_sign.h"

#define S3_XML_BYTES_MAX (8 * 1024 * 1024)
#define S3_XML_DEPTH_MAX 8
#define S3_XML_TEXT_BYTES_MAX 8192
#define S3_MARKER_BYTES_MAX 4096
#define S3_UPLOAD_ID_BYTES_MAX 1024
#define S3_ETAG_BYTES_MAX 256
#define S3_PARTS_MAX 10000 /* of a multipart upload */
#define S3_DELETE_MAX 1000 /* keys of one DeleteObjects */

/* Where the next page begins: empty texts on the last page. */
struct s3_page {
    bool more;
    char next[S3_MARKER_BYTES_MAX];              /* continuation-token, part-number-marker or key-marker */
    char next_upload_id[S3_UPLOAD_ID_BYTES_MAX]; /* upload-id-marker */
};

/* ---- ListObjectsV2 ---- */

struct s3_object {
    struct str key; /* whole, the target's prefix included; a common prefix ends in the delimiter */
    bool is_prefix;
    uint64_t size_bytes;
    struct str etag; /* with its quotes */
    uint64_t modified_ms;
};
typedef bool s3_object_fn(void *arg, const struct s3_object *object);
must_check enum err_code s3_xml_read_objects(struct str xml, s3_object_fn *fn, void *arg, struct s3_page *page,
                                             struct err *err);

/* ---- ListParts ---- */

struct s3_part {
    unsigned number;
    uint64_t size_bytes;
    struct str etag;
    struct str crc32c; /* base64; empty unless the upload was created with S3_CHECKSUM_CRC32C */
};
typedef bool s3_part_fn(void *arg, const struct s3_part *part);
must_check enum err_code s3_xml_read_parts(struct str xml, s3_part_fn *fn, void *arg, struct s3_page *page,
                                           struct err *err);

/* ---- ListMultipartUploads ---- */

struct s3_upload_entry {
    struct str key;
    struct str upload_id;
    uint64_t initiated_ms;
};
typedef bool s3_upload_entry_fn(void *arg, const struct s3_upload_entry *upload);
must_check enum err_code s3_xml_read_uploads(struct str xml, s3_upload_entry_fn *fn, void *arg, struct s3_page *page,
                                             struct err *err);

/* ---- single answers ---- */

/* InitiateMultipartUploadResult's UploadId; out has S3_UPLOAD_ID_BYTES_MAX. */
must_check enum err_code s3_xml_read_upload_id(struct str xml, char *out, struct err *err);
/* CopyPartResult's ETag; out has S3_ETAG_BYTES_MAX. An Error is ERR_UPSTREAM. */
must_check enum err_code s3_xml_read_copied_part(struct str xml, char *out, struct err *err);
/* CompleteMultipartUploadResult's ETag ("" when it has none); out has S3_ETAG_BYTES_MAX. An Error is ERR_UPSTREAM. */
must_check enum err_code s3_xml_read_completed(struct str xml, char *out, struct err *err);

/* DeleteResult: fn is called for each key that could not be deleted (ask with Quiet: deleted ones are not told). */
struct s3_delete_failure {
    struct str key;
    struct str code;
    struct str message;
};
typedef bool s3_delete_failure_fn(void *arg, const struct s3_delete_failure *failure);
must_check enum err_code s3_xml_read_deleted(struct str xml, s3_delete_failure_fn *fn, void *arg, struct err *err);

struct s3_error {
    char code[64];
    char message[256];
    char request_id[96];
    char region[64];
};
/* Read an Error document. false when xml is none: then out is all empty. Never fails otherwise. */
bool s3_xml_read_error(struct str xml, struct s3_error *out);

/* STS AssumeRoleWithWebIdentity's answer. */
must_check enum err_code s3_xml_read_assumed_role(struct str xml, struct s3_keys *out, uint64_t *out_expires_ms,
                                                  struct err *err);

/* ---- request bodies; false: out's limit ---- */

/* Parts in ascending order of number; size_bytes is not used. */
bool s3_xml_write_complete(struct buf *out, const struct s3_part *parts, size_t count);
/* Quiet. Keys are whole. XML 1.0 has no spelling for control characters: keys must not hold any. */
bool s3_xml_write_delete(struct buf *out, const struct str *keys, size_t count);

/* "2026-01-31T23:59:59.000Z", as in listings, to milliseconds since 1970. false: no such time. */
bool s3_parse_time(struct str text, uint64_t *out_ms);

#endif

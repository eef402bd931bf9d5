/*
 * The S3 operations orlop uses: S3_OPERATION(id, method, "name", "IAM action it needs", is it about the bucket?).
 * Included by s3_client.h and s3_client.c; base/metrics_table.h has four counters for each.
 */
/* clang-format off */
S3_OPERATION(HEAD_BUCKET,     "HEAD",   "HeadBucket",              "s3:ListBucket",                 true)
S3_OPERATION(LIST_OBJECTS,    "GET",    "ListObjectsV2",           "s3:ListBucket",                 true)
S3_OPERATION(LIST_UPLOADS,    "GET",    "ListMultipartUploads",    "s3:ListBucketMultipartUploads", true)
S3_OPERATION(DELETE_OBJECTS,  "POST",   "DeleteObjects",           "s3:DeleteObject",               true)
S3_OPERATION(GET_OBJECT,      "GET",    "GetObject",               "s3:GetObject",                  false)
S3_OPERATION(HEAD_OBJECT,     "HEAD",   "HeadObject",              "s3:GetObject",                  false)
S3_OPERATION(PUT_OBJECT,      "PUT",    "PutObject",               "s3:PutObject",                  false)
S3_OPERATION(DELETE_OBJECT,   "DELETE", "DeleteObject",            "s3:DeleteObject",               false)
S3_OPERATION(CREATE_UPLOAD,   "POST",   "CreateMultipartUpload",   "s3:PutObject",                  false)
S3_OPERATION(UPLOAD_PART,     "PUT",    "UploadPart",              "s3:PutObject",                  false)
S3_OPERATION(COPY_PART,       "PUT",    "UploadPartCopy",          "s3:PutObject",                  false)
S3_OPERATION(COMPLETE_UPLOAD, "POST",   "CompleteMultipartUpload", "s3:PutObject",                  false)
S3_OPERATION(ABORT_UPLOAD,    "DELETE", "AbortMultipartUpload",    "s3:AbortMultipartUpload",       false)
S3_OPERATION(LIST_PARTS,      "GET",    "ListParts",               "s3:ListMultipartUploadParts",   false)
/* clang-format on */

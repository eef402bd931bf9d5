/* Every metric: COUNTER, GAUGE or HISTOGRAM (id, name, labels, help). Included by metrics.h; see there. */
/* clang-format off */
COUNTER(REQUESTS_1XX, "orlop_http_requests_total", "class=\"1xx\"", "Requests answered, by class of status.")
COUNTER(REQUESTS_2XX, "orlop_http_requests_total", "class=\"2xx\"", "")
COUNTER(REQUESTS_3XX, "orlop_http_requests_total", "class=\"3xx\"", "")
COUNTER(REQUESTS_4XX, "orlop_http_requests_total", "class=\"4xx\"", "")
COUNTER(REQUESTS_5XX, "orlop_http_requests_total", "class=\"5xx\"", "")
COUNTER(BODY_BYTES_IN, "orlop_http_body_bytes_total", "direction=\"in\"", "Body bytes received and sent.")
COUNTER(BODY_BYTES_OUT, "orlop_http_body_bytes_total", "direction=\"out\"", "")
COUNTER(REQUESTS_TIMED_OUT, "orlop_http_timeouts_total", "", "Connections ended because the client was too slow.")
COUNTER(EARLY_ANSWERS, "orlop_http_early_answers_total", "", "Answers sent before the whole request body had arrived.")
COUNTER(LOG_DROPPED, "orlop_log_lines_dropped_total", "", "Log lines dropped because stderr was too slow.")
COUNTER(UPLOADS_STARTED, "orlop_uploads_total", "event=\"started\"", "Upload sessions, by what became of them.")
COUNTER(UPLOADS_COMMITTED, "orlop_uploads_total", "event=\"committed\"", "")
COUNTER(UPLOADS_CANCELLED, "orlop_uploads_total", "event=\"cancelled\"", "")
COUNTER(UPLOADS_EXPIRED, "orlop_uploads_total", "event=\"expired\"", "")
COUNTER(UPLOADS_REJECTED, "orlop_uploads_total", "event=\"rejected\"", "")
COUNTER(BYTES_HASHED, "orlop_hashed_bytes_total", "", "Blob bytes hashed while they arrived.")
COUNTER(BYTES_REHASHED, "orlop_rehashed_bytes_total", "", "Blob bytes read back to hash them (unannounced sha512, a reboot during an upload, a commit that another node may have done).")
COUNTER(CACHE_HITS, "orlop_cache_lookups_total", "result=\"hit\"", "Lookups in the in-memory cache of manifests, tags and references.")
COUNTER(CACHE_MISSES, "orlop_cache_lookups_total", "result=\"miss\"", "")
COUNTER(LISTS_FROM_MEMORY, "orlop_local_lists_total", "source=\"memory\"", "Lists of a local store: pages from memory, and directories read.")
COUNTER(LISTS_FROM_DIRECTORY, "orlop_local_lists_total", "source=\"directory\"", "")
/* S3 requests as they went out, every try: outcomes "refused" are expected answers (404, 412, 416). */
#define S3_REQUESTS(id, operation, outcome)                                                                       \
    COUNTER(S3_##id, "orlop_s3_requests_total", "operation=\"" operation "\",outcome=\"" outcome "\"",             \
            "Requests to the object store, by operation and outcome, retries included.")
#define S3_OPERATION_REQUESTS(id, operation)                                                                      \
    S3_REQUESTS(id##_OK, operation, "ok")                                                                         \
    S3_REQUESTS(id##_REFUSED, operation, "refused")                                                               \
    S3_REQUESTS(id##_THROTTLED, operation, "throttled")                                                           \
    S3_REQUESTS(id##_FAILED, operation, "failed")
S3_OPERATION_REQUESTS(HEAD_BUCKET, "HeadBucket")
S3_OPERATION_REQUESTS(LIST_OBJECTS, "ListObjectsV2")
S3_OPERATION_REQUESTS(LIST_UPLOADS, "ListMultipartUploads")
S3_OPERATION_REQUESTS(DELETE_OBJECTS, "DeleteObjects")
S3_OPERATION_REQUESTS(GET_OBJECT, "GetObject")
S3_OPERATION_REQUESTS(HEAD_OBJECT, "HeadObject")
S3_OPERATION_REQUESTS(PUT_OBJECT, "PutObject")
S3_OPERATION_REQUESTS(DELETE_OBJECT, "DeleteObject")
S3_OPERATION_REQUESTS(CREATE_UPLOAD, "CreateMultipartUpload")
S3_OPERATION_REQUESTS(UPLOAD_PART, "UploadPart")
S3_OPERATION_REQUESTS(COMPLETE_UPLOAD, "CompleteMultipartUpload")
S3_OPERATION_REQUESTS(ABORT_UPLOAD, "AbortMultipartUpload")
S3_OPERATION_REQUESTS(LIST_PARTS, "ListParts")
#undef S3_OPERATION_REQUESTS
#undef S3_REQUESTS
COUNTER(S3_BYTES_SENT, "orlop_s3_body_bytes_total", "direction=\"sent\"", "Body bytes sent to and received from the object store.")
COUNTER(S3_BYTES_RECEIVED, "orlop_s3_body_bytes_total", "direction=\"received\"", "")
COUNTER(S3_RETRIES, "orlop_s3_retries_total", "", "Requests to the object store that were tried again.")
COUNTER(S3_RETRIES_DENIED, "orlop_s3_retries_denied_total", "", "Requests not tried again because too many others were.")
COUNTER(S3_STREAMS_RESUMED, "orlop_s3_streams_resumed_total", "", "Downloads from the object store that broke and went on.")
GAUGE(CONNECTIONS, "orlop_http_connections", "", "Open client connections.")
GAUGE(REQUESTS_ACTIVE, "orlop_http_requests_active", "", "Requests being answered.")
GAUGE(WORKERS_BUSY, "orlop_workers_busy", "", "Workers running a request.")
GAUGE(JOBS_WAITING, "orlop_jobs_waiting", "", "Requests waiting for a worker.")
GAUGE(LIST_INDEX_BYTES, "orlop_local_list_bytes", "", "Memory that the names of big directories take, on a local store.")
GAUGE(CACHE_BYTES, "orlop_cache_bytes", "", "Bytes held by the in-memory cache.")
GAUGE(STORE_WRITABLE, "orlop_store_writable", "", "1 when the last probe of the store succeeded.")
HISTOGRAM(REQUEST_SECONDS, "orlop_http_request_duration_seconds", "", "Time from a request's headers to the end of its answer.")
HISTOGRAM(S3_REQUEST_SECONDS, "orlop_s3_request_duration_seconds", "", "Time of one request to the object store, to the end of its answer (of a stream: of its head).")
/* clang-format on */

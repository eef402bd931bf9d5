/*
 * The endpoints, one group a file: api_base.c (ping), api_blob.c, api_upload.c, api_manifest.c, api_list.c.
 */
#ifndef ORLOP_HTTP_ENDPOINTS_H
#define ORLOP_HTTP_ENDPOINTS_H

#include "http/request.h"

extern const struct endpoint endpoint_ping;
extern const struct endpoint endpoint_catalog;
extern const struct endpoint endpoint_tags;
extern const struct endpoint endpoint_referrers;
extern const struct endpoint endpoint_manifest_get;
extern const struct endpoint endpoint_manifest_put;
extern const struct endpoint endpoint_manifest_delete;
extern const struct endpoint endpoint_blob_get;
extern const struct endpoint endpoint_blob_delete;
extern const struct endpoint endpoint_upload_start;
extern const struct endpoint endpoint_upload_single; /* POST with ?digest=: chosen by route_find from the query */
extern const struct endpoint endpoint_upload_chunk;
extern const struct endpoint endpoint_upload_commit;
extern const struct endpoint endpoint_upload_status;
extern const struct endpoint endpoint_upload_cancel;

#endif

/* Shared by s3_credentials.c (which keys, how long, who refreshes) and s3_credentials_fetch.c (each source). */
#ifndef ORLOP_STORE_S3_CREDENTIALS_PRIV_H
#define ORLOP_STORE_S3_CREDENTIALS_PRIV_H

#include "store/s3_credentials.h"
#include "store/s3_http.h"

/* Fetch from one source: *out_expires_ms is 0 for keys without an end. */
enum err_code fetch_web_identity(const struct s3_config *config, struct s3_http *http, struct s3_keys *out,
                                 uint64_t *out_expires_ms, struct err *err);
enum err_code fetch_container(const struct s3_config *config, struct s3_http *http, struct s3_keys *out,
                              uint64_t *out_expires_ms, struct err *err);
enum err_code fetch_instance(const struct s3_config *config, struct s3_http *http, struct s3_keys *out,
                             uint64_t *out_expires_ms, struct err *err);

#endif

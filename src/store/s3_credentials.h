/*
 * The keys to sign with, found as the AWS SDKs find them, and kept fresh. In this order; the first that is configured
 * is used, and no other when it fails:
 *
 *     setting      keys named in orlop's own configuration
 *     environment  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *     web identity AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN (or the profile's): STS AssumeRoleWithWebIdentity
 *     file         the profile's keys in ~/.aws/credentials, ~/.aws/config (or the files named in the environment)
 *     container    AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI, with a token or a token file
 *     instance     the EC2 metadata service, version 2
 *
 * Keys that expire are fetched anew S3_CREDENTIALS_AHEAD_MS before they do, by one thread, while the others go on with
 * the old ones; only when those have expired do callers wait. A failed refresh is not tried again for a while (growing
 * from 1 s to 30 s) as long as the old keys work. Threads: any.
 */
#ifndef ORLOP_STORE_S3_CREDENTIALS_H
#define ORLOP_STORE_S3_CREDENTIALS_H

#include "store/s3_config.h"

#define S3_CREDENTIALS_AHEAD_MS (5 * 60 * 1000)
#define S3_CREDENTIALS_WAIT_MS_MAX 20000 /* how long a caller without valid keys waits for another's refresh */

struct s3_credentials;

/*
 * config is copied. setting_keys: the configuration's own, or NULL. Nothing is fetched yet. ca_file as in
 * s3_http_settings; NULL: config's ca_bundle.
 */
must_check enum err_code s3_credentials_open(const struct s3_config *config, const struct s3_keys *setting_keys,
                                             const char *ca_file, struct s3_credentials **out, struct err *err);
/* NULL is fine. */
void s3_credentials_close(struct s3_credentials *credentials);

/*
 * Copy the keys that are valid now. *out_expires_ms (wall clock) is 0 when they never expire. ERR_UPSTREAM or
 * ERR_INVALID with what was tried in the detail; ERR_TIMEOUT.
 */
must_check enum err_code s3_credentials_get(struct s3_credentials *credentials, struct s3_keys *out,
                                            uint64_t *out_expires_ms, struct err *err);

/*
 * S3 said that the keys with this id are expired or unknown: the next get fetches anew (at most once in 5 s). true
 * when that can help: the source may have others by now.
 */
bool s3_credentials_reject(struct s3_credentials *credentials, const char *access_key_id);

/* "environment", "web identity", …: for the log. */
const char *s3_credentials_source(const struct s3_credentials *credentials);

#endif

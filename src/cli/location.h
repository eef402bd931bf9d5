/*
 * Opening a store by where it is: a directory, or s3://BUCKET[/PREFIX].
 */
#ifndef ORLOP_CLI_LOCATION_H
#define ORLOP_CLI_LOCATION_H

#include "cli/config.h"
#include "store/local.h"

struct location; /* an open store and what it was opened with */

/*
 * access is the local driver's; with LOCAL_BESIDE nothing is written to a bucket, either. Call before other threads
 * run: it reads the environment.
 */
must_check enum err_code location_open(const struct config *config, enum local_access access, struct location **out,
                                       struct err *err);
struct store *location_store(struct location *location);
void location_close(struct location *location); /* NULL is fine */
bool location_is_s3(const char *text);

#endif

/*
 * What an answer of S3's, or the lack of one, means: the error it is, and whether to try again. Pure.
 */
#ifndef ORLOP_STORE_S3_VERDICT_H
#define ORLOP_STORE_S3_VERDICT_H

#include "store/s3_client.h"
#include "store/s3_xml.h"

enum s3_retry {
    S3_RETRY_NEVER,
    S3_RETRY_LATER, /* after a wait, while the budget lasts */
    S3_RETRY_CLOCK, /* at once, after the clock offset was set; once */
    S3_RETRY_KEYS,  /* at once, with other keys if there are; once */
};

/* In the order of the counters in base/metrics_table.h. */
enum s3_outcome { S3_OUTCOME_OK, S3_OUTCOME_REFUSED, S3_OUTCOME_THROTTLED, S3_OUTCOME_FAILED };

struct s3_verdict {
    enum err_code code; /* ERR_OK: the request succeeded */
    enum s3_retry retry;
    enum s3_outcome outcome;
    bool may_be_applied; /* although it failed */
    const char *message; /* for err_set; NULL when code is ERR_OK */
};

/* error is what the body said (all empty when nothing). head->status is of an answer: not 0. */
struct s3_verdict s3_verdict_of_answer(enum s3_operation operation, const struct s3_http_answer *head,
                                       const struct s3_error *error);
/* No whole answer came: what s3_http.h said. */
struct s3_verdict s3_verdict_of_failure(enum err_code code, enum s3_http_fate fate);

#endif

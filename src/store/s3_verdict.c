#include "store/s3_verdict.h"

#include "base/clock.h"

#define SKEW_MS_MIN (5 * 60 * 1000) /* S3 refuses signatures 15 minutes old; a HEAD's 403 does not say why */

#define MESSAGE_BUSY "The object store asks for fewer requests, try again"
#define MESSAGE_FAILED "The object store failed"
#define MESSAGE_SLOW "The object store took too long"
#define MESSAGE_CLOCK "The clocks of this server and of the object store differ too much"
#define MESSAGE_KEYS "The object store does not accept this server's access keys"
#define MESSAGE_DENIED "The object store does not allow this server to do that"
#define MESSAGE_FULL "The object store is full"
#define MESSAGE_NO_BUCKET "The bucket of this server does not exist"
#define MESSAGE_REGION "The bucket of this server is in another region or at another endpoint"
#define MESSAGE_NOT_FOUND "not found"
#define MESSAGE_PRECONDITION "the precondition does not hold"

/* By S3's error code, which says more than the status. */
static const struct rule {
    const char *s3_code;
    struct s3_verdict verdict;
} rules[] = {
    {"SlowDown", {ERR_BUSY, S3_RETRY_LATER, S3_OUTCOME_THROTTLED, false, MESSAGE_BUSY}},
    {"RequestLimitExceeded", {ERR_BUSY, S3_RETRY_LATER, S3_OUTCOME_THROTTLED, false, MESSAGE_BUSY}},
    {"TooManyRequests", {ERR_BUSY, S3_RETRY_LATER, S3_OUTCOME_THROTTLED, false, MESSAGE_BUSY}},
    {"ServiceUnavailable", {ERR_BUSY, S3_RETRY_LATER, S3_OUTCOME_THROTTLED, true, MESSAGE_BUSY}},
    {"InternalError", {ERR_UPSTREAM, S3_RETRY_LATER, S3_OUTCOME_FAILED, true, MESSAGE_FAILED}},
    {"RequestTimeout", {ERR_TIMEOUT, S3_RETRY_LATER, S3_OUTCOME_FAILED, true, MESSAGE_SLOW}},
    {"IncompleteBody", {ERR_UPSTREAM, S3_RETRY_LATER, S3_OUTCOME_FAILED, false, MESSAGE_FAILED}},
    {"BadDigest", {ERR_UPSTREAM, S3_RETRY_LATER, S3_OUTCOME_FAILED, false, MESSAGE_FAILED}},
    {"XAmzContentSHA256Mismatch", {ERR_UPSTREAM, S3_RETRY_LATER, S3_OUTCOME_FAILED, false, MESSAGE_FAILED}},
    {"OperationAborted", {ERR_BUSY, S3_RETRY_LATER, S3_OUTCOME_REFUSED, false, MESSAGE_BUSY}},
    {"ConditionalRequestConflict", {ERR_BUSY, S3_RETRY_LATER, S3_OUTCOME_REFUSED, false, MESSAGE_BUSY}},
    {"RequestTimeTooSkewed", {ERR_UPSTREAM, S3_RETRY_CLOCK, S3_OUTCOME_FAILED, false, MESSAGE_CLOCK}},
    {"ExpiredToken", {ERR_UPSTREAM, S3_RETRY_KEYS, S3_OUTCOME_FAILED, false, MESSAGE_KEYS}},
    {"InvalidToken", {ERR_UPSTREAM, S3_RETRY_KEYS, S3_OUTCOME_FAILED, false, MESSAGE_KEYS}},
    {"TokenRefreshRequired", {ERR_UPSTREAM, S3_RETRY_KEYS, S3_OUTCOME_FAILED, false, MESSAGE_KEYS}},
    {"InvalidAccessKeyId", {ERR_UPSTREAM, S3_RETRY_KEYS, S3_OUTCOME_FAILED, false, MESSAGE_KEYS}},
    {"SignatureDoesNotMatch", {ERR_UPSTREAM, S3_RETRY_KEYS, S3_OUTCOME_FAILED, false, MESSAGE_KEYS}},
    {"QuotaExceeded", {ERR_NO_SPACE, S3_RETRY_NEVER, S3_OUTCOME_FAILED, false, MESSAGE_FULL}},
    {"XMinioStorageFull", {ERR_NO_SPACE, S3_RETRY_NEVER, S3_OUTCOME_FAILED, false, MESSAGE_FULL}},
    {"XMinioAdminBucketQuotaExceeded", {ERR_NO_SPACE, S3_RETRY_NEVER, S3_OUTCOME_FAILED, false, MESSAGE_FULL}},
    {"NoSuchBucket", {ERR_STORE_GONE, S3_RETRY_NEVER, S3_OUTCOME_FAILED, false, MESSAGE_NO_BUCKET}},
    {"PermanentRedirect", {ERR_UPSTREAM, S3_RETRY_NEVER, S3_OUTCOME_FAILED, false, MESSAGE_REGION}},
    {"TemporaryRedirect", {ERR_UPSTREAM, S3_RETRY_NEVER, S3_OUTCOME_FAILED, false, MESSAGE_REGION}},
    {"AuthorizationHeaderMalformed", {ERR_UPSTREAM, S3_RETRY_NEVER, S3_OUTCOME_FAILED, false, MESSAGE_REGION}},
};

static struct s3_verdict verdict_of_status(enum s3_operation operation, int status)
{
    switch (status) {
    case 301:
    case 302:
    case 307:
    case 308:
        return (struct s3_verdict){ERR_UPSTREAM, S3_RETRY_NEVER, S3_OUTCOME_FAILED, false, MESSAGE_REGION};
    case 403:
    case 405:
        return (struct s3_verdict){ERR_READ_ONLY, S3_RETRY_NEVER, S3_OUTCOME_FAILED, false, MESSAGE_DENIED};
    case 404:
        if (operation == S3_HEAD_BUCKET)
            return (struct s3_verdict){ERR_STORE_GONE, S3_RETRY_NEVER, S3_OUTCOME_FAILED, false, MESSAGE_NO_BUCKET};
        return (struct s3_verdict){ERR_NOT_FOUND, S3_RETRY_NEVER, S3_OUTCOME_REFUSED, false, MESSAGE_NOT_FOUND};
    case 408:
        return (struct s3_verdict){ERR_TIMEOUT, S3_RETRY_LATER, S3_OUTCOME_FAILED, true, MESSAGE_SLOW};
    case 412:
        return (struct s3_verdict){ERR_PRECONDITION, S3_RETRY_NEVER, S3_OUTCOME_REFUSED, false, MESSAGE_PRECONDITION};
    case 416:
        return (struct s3_verdict){ERR_RANGE_NOT_SATISFIABLE, S3_RETRY_NEVER, S3_OUTCOME_REFUSED, false,
                                   "the range lies outside the object"};
    case 429:
        return (struct s3_verdict){ERR_BUSY, S3_RETRY_LATER, S3_OUTCOME_THROTTLED, false, MESSAGE_BUSY};
    case 500:
    case 502:
    case 504:
        return (struct s3_verdict){ERR_UPSTREAM, S3_RETRY_LATER, S3_OUTCOME_FAILED, true, MESSAGE_FAILED};
    case 503:
        return (struct s3_verdict){ERR_BUSY, S3_RETRY_LATER, S3_OUTCOME_THROTTLED, true, MESSAGE_BUSY};
    case 507:
        return (struct s3_verdict){ERR_NO_SPACE, S3_RETRY_NEVER, S3_OUTCOME_FAILED, false, MESSAGE_FULL};
    default:
        return (struct s3_verdict){ERR_UPSTREAM, S3_RETRY_NEVER, S3_OUTCOME_FAILED, false, MESSAGE_FAILED};
    }
}

/* A HEAD's answer has no body: its 403 may be a clock that is off, which only its Date shows. */
static bool verdict_is_skewed(const struct s3_http_answer *head)
{
    uint64_t now = clock_wall_ms();
    uint64_t distance = head->date_ms > now ? head->date_ms - now : now - head->date_ms;
    return head->status == 403 && head->date_ms != 0 && distance >= SKEW_MS_MIN;
}

struct s3_verdict s3_verdict_of_answer(enum s3_operation operation, const struct s3_http_answer *head,
                                       const struct s3_error *error)
{
    bool error_is_told = error->code[0] != '\0';
    if (head->status >= 200 && head->status < 300 && !error_is_told)
        return (struct s3_verdict){ERR_OK, S3_RETRY_NEVER, S3_OUTCOME_OK, false, NULL};
    for (size_t i = 0; error_is_told && i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (strcmp(rules[i].s3_code, error->code) == 0)
            return rules[i].verdict;
    }
    if (!error_is_told && verdict_is_skewed(head))
        return (struct s3_verdict){ERR_UPSTREAM, S3_RETRY_CLOCK, S3_OUTCOME_FAILED, false, MESSAGE_CLOCK};
    return verdict_of_status(operation, head->status);
}

struct s3_verdict s3_verdict_of_failure(enum err_code code, enum s3_http_fate fate)
{
    /* What is ours (no free connection, no memory, a body beyond its limit) does not get better by asking again. */
    bool is_ours = code == ERR_BUSY || code == ERR_NO_MEMORY || code == ERR_LIMIT;
    return (struct s3_verdict){.code = code,
                               .retry = is_ours ? S3_RETRY_NEVER : S3_RETRY_LATER,
                               .outcome = S3_OUTCOME_FAILED,
                               .may_be_applied = fate != S3_HTTP_NOT_SENT};
}

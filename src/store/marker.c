/* The format marker; see marker.h. */
#include "store/marker.h"

#include "base/clock.h"
#include "base/json.h"
#include "digest/digest.h"

#define FORMAT_VERSION 1

enum err_code marker_parse(struct str text, const char *where, char *out_secret, struct err *err)
{
    auto_json root = NULL;
    uint64_t format;
    struct str secret;
    if (json_parse(text, &root, err) != ERR_OK)
        return err_become(err, ERR_CORRUPT, "%s/" MARKER_KEY " is damaged: %s", where, err->message);
    if (!json_u64(json_member(root, "format"), &format))
        return err_set(err, ERR_CORRUPT, "%s/" MARKER_KEY " names no format", where);
    if (format != FORMAT_VERSION)
        return err_set(err, ERR_VERSION, "%s has store format %llu; this release knows format %d only: use a newer one",
                       where, (unsigned long long) format, FORMAT_VERSION);
    if (!json_text(json_member(root, "secret"), &secret) || secret.len != MARKER_SECRET_BYTES - 1)
        return err_set(err, ERR_CORRUPT, "%s/" MARKER_KEY " has no secret of %d characters", where,
                       MARKER_SECRET_BYTES - 1);
    memcpy(out_secret, secret.ptr, MARKER_SECRET_BYTES);
    return ERR_OK;
}

void marker_make(struct buf *out)
{
    struct digest as_digest = {.algorithm = DIGEST_SHA256};
    char hex[DIGEST_HEX_BYTES_MAX];
    random_bytes(as_digest.raw, digest_raw_bytes(as_digest.algorithm));
    digest_format_hex(&as_digest, hex);
    (void) buf_appendf(out, "{\"format\": %d, \"secret\": \"%s\"}\n", FORMAT_VERSION, hex);
}

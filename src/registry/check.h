/*
 * `orlop check`: walk the whole store, verify every digest and every reference.
 *
 * Findings are errors (something acknowledged is damaged or missing) or leftovers (harmless remains of interrupted
 * requests: unreferenced blobs, sessions, an unlisted referrer). May run beside a server: what looks wrong is looked
 * at a second time before it is reported.
 */
#ifndef ORLOP_REGISTRY_CHECK_H
#define ORLOP_REGISTRY_CHECK_H

#include "registry/registry.h"

struct check_totals {
    uint64_t blobs, blob_bytes;
    uint64_t manifests, tags, references, referrers, repositories, uploads;
    uint64_t errors, leftovers;
};

enum check_severity { CHECK_ERROR, CHECK_LEFTOVER };

struct check_callbacks {
    void *arg;
    /* kind is a constant such as "blob-digest-mismatch"; key the object; text a sentence. */
    void (*finding)(void *arg, enum check_severity severity, const char *kind, const char *key, const char *text);
    /* Called often; bytes_total is known from the start (0 while counting). */
    void (*progress)(void *arg, uint64_t bytes_done, uint64_t bytes_total, const struct check_totals *totals);
};

/* quick: sizes only, digests are not verified. ERR_OK also when findings were made: see totals. */
must_check enum err_code registry_check(struct store *store, bool quick, const struct check_callbacks *callbacks,
                                        struct check_totals *out, struct err *err);

#endif

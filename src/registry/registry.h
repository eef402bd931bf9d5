/*
 * The registry: repositories of manifests, tags and blobs on a store. Knows no HTTP.
 *
 * Part headers: blob.h, upload.h, manifest.h, tag.h, referrers.h, catalog.h, janitor.h, check.h.
 * Threads: every function may be called from any thread; those that touch the store block. Functions named *_cached
 * never block and never touch the store: network threads use them.
 */
#ifndef ORLOP_REGISTRY_REGISTRY_H
#define ORLOP_REGISTRY_REGISTRY_H

#include "registry/name.h"
#include "store/store.h"

#define REGISTRY_MANIFEST_BYTES_MAX (4 * 1024 * 1024) /* spec: at least 4 MB must be accepted */
#define REGISTRY_PAGE_ENTRIES_MAX 10000
#define REGISTRY_PAGE_ENTRIES_DEFAULT 1000

struct registry;

/* Which blob GETs are sent to where the store itself can be read, if it can. */
enum blob_redirect { BLOB_REDIRECT_NEVER, BLOB_REDIRECT_ALWAYS, BLOB_REDIRECT_AUTO /* where clients can reach it */ };

struct registry_settings {
    uint64_t cache_bytes_max;    /* manifests, tags and references kept in memory */
    uint64_t upload_idle_ms_max; /* sessions idle longer are removed by the janitor */
    bool sparse_indexes;         /* accept indexes whose manifests are not here */
    bool check_references;       /* refuse manifests whose config or layers are not here */
    bool deletes;                /* false: DELETE answers 405 UNSUPPORTED */
    enum blob_redirect redirect;
    uint32_t redirect_expires_s;
};

#define REGISTRY_SETTINGS_DEFAULT                                          \
    ((struct registry_settings){.cache_bytes_max = 32 * 1024 * 1024,       \
                                .upload_idle_ms_max = 24 * 3600 * 1000ULL, \
                                .sparse_indexes = false,                   \
                                .check_references = true,                  \
                                .deletes = true,                           \
                                .redirect = BLOB_REDIRECT_AUTO,            \
                                .redirect_expires_s = 1200})

/* Takes no ownership of store, which must outlive the registry. Never fails but for memory. */
must_check enum err_code registry_new(struct store *store, const struct registry_settings *settings,
                                      struct registry **out, struct err *err);
void registry_free(struct registry *registry);
struct store *registry_store(struct registry *registry);
/* Settings that SIGHUP may change while running. */
void registry_update_settings(struct registry *registry, const struct registry_settings *settings);

/* Can it serve now? ERR_STORE_GONE and others as store_probe. */
must_check enum err_code registry_ready(struct registry *registry, struct err *err);

#endif

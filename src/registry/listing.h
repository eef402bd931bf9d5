/*
 * Lists that come in pages: tags, catalog, referrers.
 */
#ifndef ORLOP_REGISTRY_LISTING_H
#define ORLOP_REGISTRY_LISTING_H

#include "registry/registry.h"

/* Clients read 4 MiB at most. A page holds as many entries as fit in this; a single longer one still fits in 4 MiB. */
#define REFERRERS_PAGE_BYTES_MAX (4 * 1024 * 1024 - 64 * 1024)

/*
 * Spec: end-8. Up to limit tags after `after` (NULL: from the start), byte order; more says whether others follow.
 * ERR_NAME_UNKNOWN when the repository does not exist. Free with store_names_free.
 */
must_check enum err_code tags_list(struct registry *registry, const struct repo_name *repo, const char *after,
                                   size_t limit, struct store_names *out, struct err *err);

/* Docker's _catalog: repository names, byte order. Free with store_names_free. */
must_check enum err_code catalog_list(struct registry *registry, const char *after, size_t limit,
                                      struct store_names *out, struct err *err);

/* One page of the referrers of subject. */
struct referrers_query {
    const struct repo_name *repo;
    struct digest subject;
    const struct str *artifact_types; /* any of; none: all */
    size_t artifact_type_count;
    const char *after; /* "<alg>-<hex>" of the last entry seen; NULL: from the start */
    size_t limit;      /* 0: as many as fit in a page */
};

struct referrers_page {
    struct buf json;                  /* the image index */
    char next[DIGEST_TEXT_BYTES_MAX]; /* pass as `after` for the next page; "" when this is the last */
};

/* Spec: end-12. An unknown subject or repository is an empty list. Free page->json. */
must_check enum err_code referrers_list(struct registry *registry, const struct referrers_query *query,
                                        struct referrers_page *out, struct err *err);

#endif

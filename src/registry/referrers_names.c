/*
 * Which referrers there are: the keys below the subject.
 *
 * A store that is asked over a network gives a page of names at a time. Where one page is not all, the rest is asked
 * for in ranges at once: digests are spread evenly, so how far the first page went tells where to cut.
 */
#include "registry/referrers.h"

#include "base/parallel.h"

#include <inttypes.h>

#define PAGE_NAMES 1000                         /* as many as S3 lists in one request */
#define RANGE_NAMES 800                         /* planned for one; a little uneven, they still fit in a page */
#define RANGES_MAX (REFERRERS_REQUESTS_MAX - 1) /* the fallback tag is read beside them */
#define SAMPLE_MIN 100                          /* fewer names say little about the others */

_Static_assert(PAGE_NAMES + RANGES_MAX * PAGE_NAMES <= REFERRERS_NAMES_MAX, "the limit");
_Static_assert(STORE_LIST_MAX <= REFERRERS_NAMES_MAX, "the limit");

struct ranges {
    struct store *store;
    const char *prefix;
    size_t count;
    char starts[RANGES_MAX][KEY_BYTES]; /* each range's names are after this … */
    struct store_names names[RANGES_MAX];
};

static void ranges_free(struct ranges **ranges)
{
    for (size_t i = 0; *ranges && i < (*ranges)->count; i++)
        store_names_free(&(*ranges)->names[i]);
    free(*ranges);
}

void referrers_names_free(struct referrer_names *names)
{
    digest_list_free(&names->list);
}

/* Add the names up to bound (NULL: all). Objects that are none of ours are passed over. */
static enum err_code names_add(struct referrer_names *out, const struct store_names *names, const char *bound,
                               struct err *err)
{
    for (size_t i = 0; i < names->count && (!bound || strcmp(names->items[i], bound) < 0); i++) {
        struct digest digest;
        (void) snprintf(out->last, sizeof(out->last), "%s", names->items[i]);
        if (key_digest_undash(names->items[i], &digest) && !digest_list_add(&out->list, &digest))
            return err_set(err, ERR_NO_MEMORY, "out of memory");
    }
    return ERR_OK;
}

static uint64_t position(const struct digest *digest)
{
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof(value); i++)
        value = value << 8 | digest->raw[i];
    return value;
}

/* Cut what follows the first page into ranges; one, when it is not known how. */
static void ranges_plan(struct ranges *ranges, const struct referrer_names *first, size_t wanted)
{
    const struct digest_list *list = &first->list;
    memcpy(ranges->starts[0], first->last, sizeof(first->last));
    ranges->count = 1;
    const struct digest *last = list->count ? &list->items[list->count - 1] : NULL;
    size_t from = 0; /* the last one's algorithm begins here */
    while (last && list->items[from].algorithm != last->algorithm)
        from++;
    if (list->count - from < SAMPLE_MIN)
        return;
    uint64_t at = position(last);
    uint64_t step = (at - position(&list->items[from])) / (list->count - from) * RANGE_NAMES;
    while (ranges->count < RANGES_MAX && ranges->count * RANGE_NAMES < wanted && step > 0 && at <= UINT64_MAX - step) {
        at += step;
        (void) snprintf(ranges->starts[ranges->count++], KEY_BYTES, "%s-%016" PRIx64,
                        digest_algorithm_name(last->algorithm), at);
    }
}

static enum err_code range_read(void *arg, size_t index, struct err *err)
{
    struct ranges *ranges = arg;
    return store_list(ranges->store, ranges->prefix, ranges->starts[index], PAGE_NAMES, &ranges->names[index], err);
}

/* Add the ranges' names in order, up to the first range that had more of them than a page takes. */
static enum err_code ranges_add(const struct ranges *ranges, struct referrer_names *out, struct err *err)
{
    bool is_whole = true;
    for (size_t i = 0; i < ranges->count && is_whole; i++) {
        const struct store_names *names = &ranges->names[i];
        const char *bound = i + 1 < ranges->count ? ranges->starts[i + 1] : NULL;
        if (names_add(out, names, bound, err) != ERR_OK)
            return err->code;
        out->more = names->more;
        is_whole = !names->more || (bound && strcmp(names->items[names->count - 1], bound) >= 0);
    }
    return ERR_OK;
}

enum err_code referrers_names_read(struct registry *registry, const struct referrers_query *query, const char *after,
                                   size_t wanted, struct referrer_names *out, struct err *err)
{
    char prefix[KEY_BYTES];
    struct store_names names cleanup(store_names_free) = {0};
    bool is_remote = store_caps(registry->store)->parallel > 1;
    size_t page = is_remote ? PAGE_NAMES : STORE_LIST_MAX;
    key_referrers_prefix(query->repo, &query->subject, prefix);
    if (store_list(registry->store, prefix, after, wanted < page ? wanted : page, &names, err) != ERR_OK ||
        names_add(out, &names, NULL, err) != ERR_OK)
        return err->code;
    out->more = names.more;
    if (!is_remote || !names.more || wanted <= page)
        return ERR_OK;

    cleanup(ranges_free) struct ranges *ranges = calloc(1, sizeof(*ranges));
    if (!ranges)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    ranges->store = registry->store;
    ranges->prefix = prefix;
    ranges_plan(ranges, out, wanted - page);
    enum err_code code = parallel_try(ranges->count, RANGES_MAX, range_read, ranges, err);
    return code == ERR_OK ? ranges_add(ranges, out, err) : code;
}

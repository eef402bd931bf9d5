/*
 * Pages of referrers.
 *
 * Each referrer's descriptor is an object of its own, written once at its push and removed at its delete, so concurrent
 * changes never meet; which keys there are is the truth, in the order of their names. A page is made of batches of
 * names. What this process does not remember of a batch is taken from the subject's snapshot, when that saves much, and
 * then from the descriptors' own objects, several at a time. When many had to be fetched so, the snapshot is written
 * anew.
 */
#include "registry/referrers.h"

#include "base/log.h"
#include "base/parallel.h"

#define INDEX_MEDIA_TYPE "application/vnd.oci.image.index.v1+json"
#define BODY_BYTES_MAX (4 * 1024 * 1024)
/* A snapshot is read, and written, when more than these are not known of the entries at hand. */
#define MANY_MIN 16
#define MANY_SHARE 8 /* one in so many: a snapshot costs as much as it has entries */

_Static_assert(REFERRER_DESCRIPTOR_BYTES_MAX + 128 <= BODY_BYTES_MAX, "a page of one");

struct listing {
    struct registry *registry;
    const struct referrers_query *query;
    struct digest_list fold;
    size_t fold_next;

    /* The batch of names that is dealt with. */
    struct referrer_names names;
    bool is_first; /* it begins with the first name there is */
    struct referrer_item *items;
    size_t count;
    size_t kept_bytes; /* of descriptors that were dealt with and may be wanted for the snapshot */

    /* The page. */
    struct buf json;
    size_t entries;
    char last[DIGEST_TEXT_BYTES_MAX]; /* name of the last entry on it */
    bool is_full;
};

static void batch_free(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++)
        referrer_unref(listing->items[i].referrer);
    free(listing->items);
    listing->items = NULL;
    listing->count = listing->kept_bytes = 0;
    digest_list_free(&listing->names.list);
}

static void listing_free(struct listing *listing)
{
    batch_free(listing);
    digest_list_free(&listing->fold);
    buf_free(&listing->json);
}

static bool is_many(size_t missing, size_t count)
{
    return missing > MANY_MIN && missing > count / MANY_SHARE;
}

/* ---- the page ---- */

static bool is_filtered(const struct listing *listing)
{
    return listing->query->artifact_type_count > 0;
}

static bool type_is_wanted(const struct referrers_query *query, struct str type)
{
    for (size_t i = 0; i < query->artifact_type_count; i++) {
        if (str_equal(type, query->artifact_types[i]))
            return true;
    }
    return query->artifact_type_count == 0;
}

/* Put one entry on the page, or find the page full (it then begins the next one). */
static enum err_code page_add(struct listing *listing, const struct referrer_item *item, struct err *err)
{
    struct buf *json = &listing->json;
    if (!item->referrer || !type_is_wanted(listing->query, referrer_type(item->referrer)))
        return ERR_OK;
    struct str descriptor = referrer_descriptor(item->referrer);
    if (listing->entries > 0 && (json->len + descriptor.len + 3 > REFERRERS_PAGE_BYTES_MAX ||
                                 (listing->query->limit && listing->entries == listing->query->limit))) {
        listing->is_full = true;
        return ERR_OK;
    }
    if ((listing->entries > 0 && !buf_append_char(json, ',')) || !buf_append(json, descriptor.ptr, descriptor.len))
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    listing->entries++;
    key_digest_dashed(&item->digest, listing->last);
    return ERR_OK;
}

/* What was put on the page is kept for the snapshot as long as it would fit in one. */
static void item_done(struct listing *listing, struct referrer_item *item)
{
    size_t len = item->referrer ? item->referrer->len : 0;
    if (listing->kept_bytes + len <= STORE_OBJECT_BYTES_MAX) {
        listing->kept_bytes += len;
        return;
    }
    referrer_unref(item->referrer);
    item->referrer = NULL;
}

/* Fetch what is missing of items[from … to-1] and put them on the page until it is full; *out_done: the first not. */
static enum err_code items_answer(struct listing *listing, size_t from, size_t to, size_t *out_done, size_t *fetched,
                                  struct err *err)
{
    size_t done = from;
    while (done < to && !listing->is_full) {
        size_t count = to - done, loaded, bytes_max = BODY_BYTES_MAX;
        if (!is_filtered(listing)) { /* not more than the page takes, and one that finds it full */
            size_t used = listing->json.len;
            bytes_max = used < REFERRERS_PAGE_BYTES_MAX ? REFERRERS_PAGE_BYTES_MAX - used : 1;
            size_t left = listing->query->limit - listing->entries + 1;
            count = listing->query->limit && left < count ? left : count;
        }
        enum err_code code = referrers_fetch(listing->registry, listing->query, listing->items + done, count, bytes_max,
                                             &loaded, fetched, err);
        for (size_t end = done + loaded; code == ERR_OK && done < end && !listing->is_full;) {
            code = page_add(listing, &listing->items[done], err);
            if (!listing->is_full)
                item_done(listing, &listing->items[done++]);
        }
        if (code != ERR_OK)
            return code;
    }
    *out_done = done;
    return ERR_OK;
}

/* ---- with snapshots ---- */

/* A snapshot that is not there or cannot be used is an empty one. */
static void snapshot_read(const struct listing *listing, const struct snapshot_part *part, struct snapshot *out)
{
    char key[KEY_BYTES];
    struct err err = ERR_INIT;
    auto_buf bytes = BUF_INIT(STORE_OBJECT_BYTES_MAX);
    key_snapshot(listing->query->repo, &listing->query->subject, part, key);
    enum err_code code = store_get(listing->registry->store, key, &bytes, &err);
    if (code == ERR_OK)
        code = snapshot_decode(&bytes, out, &err);
    if (code != ERR_OK && code != ERR_NOT_FOUND)
        log_event(LOG_INFO, "snapshot of referrers not used", LOG_TEXT("key", key), LOG_TEXT("reason", err_text(&err)));
}

static void snapshot_apply(struct listing *listing, const struct snapshot *snapshot, size_t from, size_t to)
{
    size_t at = 0;
    for (size_t i = from; i < to; i++) {
        struct referrer_item *item = &listing->items[i];
        while (at < snapshot->count && digest_order(&snapshot->entries[at].digest, &item->digest) < 0)
            at++;
        if (at == snapshot->count)
            return;
        const struct snapshot_entry *entry = &snapshot->entries[at];
        if (item->referrer || item->is_folded || !digest_equal(&entry->digest, &item->digest))
            continue;
        item->referrer = referrer_new(entry->descriptor, entry->type);
        if (item->referrer)
            referrer_remember(listing->registry, listing->query, &item->digest, item->referrer);
    }
}

/* Merge what the snapshot had with items[from … done-1], which are all there are of that range. false: too long. */
static bool snapshot_merge(const struct listing *listing, const struct snapshot *old, size_t from, size_t to,
                           size_t done, struct buf *out)
{
    bool is_from_start = from > 0 || listing->is_first;
    bool is_to_end = done == to && (to < listing->count || !listing->names.more);
    const struct snapshot_entry *entry = old->entries, *entries_end = entry + old->count;
    bool fits = true;
    for (size_t i = from; fits && (i < done || entry < entries_end);) {
        const struct referrer_item *item = i < done ? &listing->items[i] : NULL;
        int order = entry == entries_end ? 1 : !item ? -1 : digest_order(&entry->digest, &item->digest);
        if (order < 0) {
            bool is_unlisted = item ? i > from || is_from_start : is_to_end;
            fits = is_unlisted || snapshot_add(out, entry);
            entry++;
            continue;
        }
        if (item->referrer && !item->is_folded) {
            fits = snapshot_add(out, &(struct snapshot_entry){.digest = item->digest,
                                                              .type = referrer_type(item->referrer),
                                                              .descriptor = referrer_descriptor(item->referrer)});
        }
        entry += order == 0;
        i++;
    }
    return fits;
}

/* Readers write snapshots, and only as a favour to the next ones: a failure is no failure of theirs. */
static void snapshot_write(const struct listing *listing, const struct snapshot_part *part, const struct snapshot *old,
                           size_t from, size_t to, size_t done)
{
    char key[KEY_BYTES];
    struct err err = ERR_INIT;
    auto_buf bytes = BUF_INIT(STORE_OBJECT_BYTES_MAX);
    snapshot_begin(&bytes);
    bool fits = snapshot_merge(listing, old, from, to, done, &bytes);
    if (bytes.overflowed || !bytes.ptr)
        return; /* out of memory */
    snapshot_end(&bytes, !fits && part->digits < KEY_SNAPSHOT_DIGITS_MAX);
    key_snapshot(listing->query->repo, &listing->query->subject, part, key);
    if (store_put(listing->registry->store, key, buf_str(&bytes), STORE_PUT_ANY, &err) != ERR_OK)
        log_event(LOG_WARN, "snapshot of referrers not written", LOG_TEXT("key", key),
                  LOG_TEXT("reason", err_text(&err)));
}

static enum err_code parts_answer(struct listing *listing, const struct snapshot_part *whole, size_t from, size_t to,
                                  struct err *err);

/* Answer with items[from … to-1], which are those of this part that are in the batch. */
static enum err_code part_answer(struct listing *listing, const struct snapshot_part *part, size_t from, size_t to,
                                 struct err *err)
{
    struct snapshot snapshot cleanup(snapshot_free) = {0};
    size_t missing = 0, fetched = 0, done;
    for (size_t i = from; i < to; i++)
        missing += !listing->items[i].referrer && !listing->items[i].is_folded;
    if (is_many(missing, to - from)) {
        snapshot_read(listing, part, &snapshot);
        if (snapshot.is_split && part->digits < KEY_SNAPSHOT_DIGITS_MAX)
            return parts_answer(listing, part, from, to, err);
        snapshot_apply(listing, &snapshot, from, to);
    }
    listing->kept_bytes = 0;
    enum err_code code = items_answer(listing, from, to, &done, &fetched, err);
    if (code == ERR_OK && is_many(fetched, done - from))
        snapshot_write(listing, part, &snapshot, from, to, done);
    for (size_t i = from; i < to; i++) {
        referrer_unref(listing->items[i].referrer);
        listing->items[i].referrer = NULL;
    }
    return code;
}

/* The same by the parts of a snapshot that is split. */
static enum err_code parts_answer(struct listing *listing, const struct snapshot_part *whole, size_t from, size_t to,
                                  struct err *err)
{
    while (from < to && !listing->is_full) {
        struct snapshot_part part = snapshot_part_of(whole, &listing->items[from].digest);
        size_t end = from + 1;
        while (end < to && snapshot_part_has(&part, &listing->items[end].digest))
            end++;
        enum err_code code = part_answer(listing, &part, from, end, err);
        if (code != ERR_OK)
            return code;
        from = end;
    }
    return ERR_OK;
}

/* ---- batches ---- */

/* How many the page may still take, and one that finds it full; an entry's bytes are guessed from those it has. */
static size_t names_wanted(const struct listing *listing)
{
    size_t wanted = REFERRERS_NAMES_MAX, used = listing->json.len;
    if (is_filtered(listing))
        return wanted;
    if (listing->query->limit && listing->query->limit - listing->entries + 1 < wanted)
        wanted = listing->query->limit - listing->entries + 1;
    if (listing->entries == 0)
        return wanted;
    size_t bytes_left = used < REFERRERS_PAGE_BYTES_MAX ? REFERRERS_PAGE_BYTES_MAX - used : 0;
    size_t fitting = bytes_left / (used / listing->entries) + 2;
    return fitting < wanted ? fitting : wanted;
}

/* The next entry of the fallback tag that belongs in this batch. */
static const struct digest *fold_peek(const struct listing *listing)
{
    char name[DIGEST_TEXT_BYTES_MAX];
    if (listing->fold_next == listing->fold.count)
        return NULL;
    const struct digest *digest = &listing->fold.items[listing->fold_next];
    key_digest_dashed(digest, name);
    return listing->names.more && strcmp(name, listing->names.last) > 0 ? NULL : digest;
}

/* Merge names and fallback entries into the batch's items, with what is in memory of them. */
static enum err_code batch_merge(struct listing *listing, struct err *err)
{
    const struct digest_list *names = &listing->names.list;
    listing->items = calloc(names->count + listing->fold.count + 1, sizeof(*listing->items));
    if (!listing->items)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0;;) {
        const struct digest *name = i < names->count ? &names->items[i] : NULL, *folded = fold_peek(listing);
        if (!name && !folded)
            return ERR_OK;
        int order = !folded ? -1 : !name ? 1 : digest_order(name, folded);
        struct referrer_item *item = &listing->items[listing->count++];
        *item = (struct referrer_item){.digest = order <= 0 ? *name : *folded, .is_folded = order > 0};
        i += order <= 0;
        listing->fold_next += order >= 0;
        if (!item->is_folded)
            item->referrer = referrer_find_cached(listing->registry, listing->query, &item->digest);
    }
}

static enum err_code batch_answer(struct listing *listing, struct err *err)
{
    static const struct snapshot_part whole = {.digits = 0};
    enum err_code code = batch_merge(listing, err);
    if (code == ERR_OK)
        code = part_answer(listing, &whole, 0, listing->count, err);
    return code;
}

/* What a listing begins with: the first names, and the fallback tag, side by side. */
struct opening {
    struct listing *listing;
    const char *after;
};

static enum err_code opening_read(void *arg, size_t index, struct err *err)
{
    struct opening *opening = arg;
    struct listing *listing = opening->listing;
    if (index == 1)
        return referrers_fold_read(listing->registry, listing->query, &listing->fold, err);
    return referrers_names_read(listing->registry, listing->query, opening->after, names_wanted(listing),
                                &listing->names, err);
}

static enum err_code listing_open(struct listing *listing, struct err *err)
{
    /* `after` is longer than any name: what is cut off changes nothing. */
    char after[DIGEST_TEXT_BYTES_MAX + 1] = "", name[DIGEST_TEXT_BYTES_MAX];
    struct opening opening = {.listing = listing, .after = after};
    (void) snprintf(after, sizeof(after), "%s", listing->query->after ? listing->query->after : "");
    if (parallel_try(2, store_caps(listing->registry->store)->parallel, opening_read, &opening, err) != ERR_OK)
        return err->code;
    listing->is_first = after[0] == '\0';
    for (; listing->fold_next < listing->fold.count; listing->fold_next++) {
        key_digest_dashed(&listing->fold.items[listing->fold_next], name);
        if (strcmp(name, after) > 0)
            break;
    }
    return ERR_OK;
}

static enum err_code listing_next(struct listing *listing, struct err *err)
{
    char after[KEY_BYTES];
    memcpy(after, listing->names.last, sizeof(after));
    batch_free(listing);
    listing->is_first = false;
    return referrers_names_read(listing->registry, listing->query, after, names_wanted(listing), &listing->names, err);
}

enum err_code referrers_list(struct registry *registry, const struct referrers_query *query, struct referrers_page *out,
                             struct err *err)
{
    struct listing listing cleanup(
        listing_free) = {.registry = registry, .query = query, .json = BUF_INIT(BODY_BYTES_MAX)};
    (void) buf_append_text(&listing.json,
                           "{\"schemaVersion\":2,\"mediaType\":\"" INDEX_MEDIA_TYPE "\",\"manifests\":[");
    enum err_code code = listing_open(&listing, err);
    if (code == ERR_OK)
        code = batch_answer(&listing, err);
    while (code == ERR_OK && listing.names.more && !listing.is_full) {
        code = listing_next(&listing, err);
        if (code == ERR_OK)
            code = batch_answer(&listing, err);
    }
    if (code == ERR_OK && !buf_append_text(&listing.json, "]}"))
        code = err_set(err, ERR_NO_MEMORY, "out of memory");
    if (code != ERR_OK)
        return code;
    *out = (struct referrers_page){.json = listing.json};
    listing.json = BUF_INIT(0);
    if (listing.is_full)
        memcpy(out->next, listing.last, sizeof(out->next));
    return ERR_OK;
}

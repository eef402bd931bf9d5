/* Small objects in the bucket. */
#include "store/s3_priv.h"

#include "base/json_text.h"

#include <stdio.h>

#define LIST_XML_BYTES_MAX S3_XML_BYTES_MAX
#define PAGE_KEYS_MAX 1000
#define LAST_CHARACTER "\xf4\x8f\xbf\xbf" /* U+10FFFF */
#define BEFORE_DOT "-" LAST_CHARACTER     /* after what begins with the character before '.' */
#define AFTER_KEY_BYTES_MAX ((size_t) 2 * STORE_KEY_BYTES_MAX)

static pthread_mutex_t *key_lock(struct s3 *s3, const char *key)
{
    uint32_t hash = 2166136261; /* FNV-1a */
    for (const char *c = key; *c; c++)
        hash = (hash ^ (uint8_t) *c) * 16777619;
    return &s3->key_locks[hash % S3_KEY_LOCKS];
}

enum err_code s3_get(struct store *store, const char *key, struct buf *out, struct err *err)
{
    struct s3 *s3 = s3_of(store);
    struct s3_request request = {.operation = S3_GET_OBJECT, .key = key};
    if (s3->conditional)
        return s3_send(s3->client, &request, NULL, out, err);
    /* Swift says 404 of an object that is being replaced at that moment. */
    pthread_mutex_t *lock = key_lock(s3, key);
    pthread_mutex_lock(lock);
    enum err_code code = s3_send(s3->client, &request, NULL, out, err);
    pthread_mutex_unlock(lock);
    return code;
}

static enum err_code put_send(struct s3 *s3, const char *key, const struct str *spans, size_t count, bool is_new,
                              const char *payload_sha256, struct err *err)
{
    struct s3_request request = {
        .operation = S3_PUT_OBJECT,
        .key = key,
        .body = spans,
        .body_count = count,
        .payload_sha256 = payload_sha256,
        .condition = is_new ? S3_IF_ABSENT : S3_UNCONDITIONAL,
    };
    return s3_send(s3->client, &request, NULL, NULL, err);
}

enum err_code s3_put_spans(struct s3 *s3, const char *key, const struct str *spans, size_t count, bool is_new,
                           const char *payload_sha256, struct err *err)
{
    uint64_t size_bytes;
    if (s3->conditional)
        return put_send(s3, key, spans, count, is_new, payload_sha256, err);
    /* One writer, this process: under the lock nobody comes between the look and the put. */
    pthread_mutex_t *lock = key_lock(s3, key);
    pthread_mutex_lock(lock);
    enum err_code code = is_new ? s3_stat(&s3->base, key, &size_bytes, err) : ERR_NOT_FOUND;
    if (code == ERR_OK)
        code = err_set(err, ERR_EXISTS, "%s exists already", key);
    else if (code == ERR_NOT_FOUND)
        code = put_send(s3, key, spans, count, false, payload_sha256, err);
    pthread_mutex_unlock(lock);
    return code;
}

enum err_code s3_put(struct store *store, const char *key, struct str bytes, enum store_put_mode mode, struct err *err)
{
    return s3_put_spans(s3_of(store), key, &bytes, 1, mode == STORE_PUT_NEW, NULL, err);
}

enum err_code s3_stat(struct store *store, const char *key, uint64_t *out_bytes, struct err *err)
{
    struct s3_answer answer;
    struct s3_request request = {.operation = S3_HEAD_OBJECT, .key = key};
    if (s3_send(s3_of(store)->client, &request, &answer, NULL, err) != ERR_OK)
        return err->code;
    *out_bytes = answer.head.content_length;
    return ERR_OK;
}

static bool note_failure(void *arg, const struct s3_delete_failure *failure)
{
    struct err *err = arg;
    (void) err_set(err, ERR_UPSTREAM, "the object store did not delete everything");
    (void) snprintf(err->detail, sizeof(err->detail), "DeleteObjects %.*s: %.*s", (int) failure->key.len,
                    failure->key.ptr, (int) failure->code.len, failure->code.ptr);
    return false;
}

/* One request for up to S3_DELETE_MAX keys. */
static enum err_code delete_batch(struct s3 *s3, const char *const *keys, size_t count, struct err *err)
{
    struct s3_param query = {"delete", ""};
    auto_buf xml = BUF_INIT(S3_XML_BYTES_MAX);
    auto_buf answer = BUF_INIT(S3_XML_BYTES_MAX);
    auto_mem struct str *whole = calloc(count, sizeof(*whole));
    auto_mem char *text = malloc(count * (S3_KEY_BYTES_MAX + 1));
    if (!whole || !text)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++) {
        char *key = text + i * (S3_KEY_BYTES_MAX + 1);
        (void) snprintf(key, S3_KEY_BYTES_MAX + 1, "%s%s", s3_client_target(s3->client)->prefix, keys[i]);
        whole[i] = str_from(key);
    }
    if (!s3_xml_write_delete(&xml, whole, count))
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    struct str body = buf_str(&xml);
    struct s3_request request = {
        .operation = S3_DELETE_OBJECTS, .query = &query, .query_count = 1, .body = &body, .body_count = 1};
    if (s3_send(s3->client, &request, NULL, &answer, err) != ERR_OK)
        return err->code;
    struct err failure = ERR_INIT;
    if (s3_xml_read_deleted(buf_str(&answer), note_failure, &failure, err) != ERR_OK)
        return err->code;
    if (failure.code != ERR_OK)
        *err = failure;
    return failure.code;
}

enum err_code s3_delete(struct store *store, const char *const *keys, size_t count, struct err *err)
{
    struct s3 *s3 = s3_of(store);
    if (count == 1) {
        struct s3_request request = {.operation = S3_DELETE_OBJECT, .key = keys[0]};
        enum err_code code = s3_send(s3->client, &request, NULL, NULL, err);
        return code == ERR_NOT_FOUND ? ERR_OK : code;
    }
    for (size_t done = 0; done < count; done += S3_DELETE_MAX) {
        size_t batch = count - done < S3_DELETE_MAX ? count - done : S3_DELETE_MAX;
        if (delete_batch(s3, keys + done, batch, err) != ERR_OK)
            return err->code;
    }
    return ERR_OK;
}

/* ---- listing ---- */

struct list_state {
    const struct s3_listing *listing;
    size_t prefix_len; /* of the bucket's prefix */
    size_t seen;
    bool stopped, cut;
};

static bool list_entry(void *arg, const struct s3_object *object)
{
    struct list_state *state = arg;
    char key[S3_KEY_BYTES_MAX + 1];
    if (object->key.len < state->prefix_len || object->key.len > S3_KEY_BYTES_MAX)
        return true;
    if (state->listing->limit && state->seen == state->listing->limit) {
        state->cut = true;
        return false;
    }
    size_t len = object->key.len - state->prefix_len;
    memcpy(key, object->key.ptr + state->prefix_len, len);
    key[len] = '\0';
    state->seen++;
    state->stopped =
        !state->listing->fn(state->listing->arg, key, object->is_prefix, object->size_bytes, object->modified_ms);
    return !state->stopped;
}

/* One ListObjectsV2. */
static enum err_code list_page(struct s3 *s3, struct list_state *state, struct s3_page *page, struct err *err)
{
    const char *bucket_prefix = s3_client_target(s3->client)->prefix;
    char prefix[2 * S3_KEY_BYTES_MAX], after[2 * S3_KEY_BYTES_MAX], max_keys[16];
    struct s3_param query[6] = {{"list-type", "2"}, {"encoding-type", "url"}, {"prefix", prefix}};
    size_t count = 3;
    const struct s3_listing *listing = state->listing;
    (void) snprintf(prefix, sizeof(prefix), "%s%s", bucket_prefix, listing->prefix);
    if (listing->delimiter)
        query[count++] = (struct s3_param){"delimiter", listing->delimiter};
    if (page->next[0]) {
        query[count++] = (struct s3_param){"continuation-token", page->next};
    } else if (listing->after && listing->after[0]) {
        (void) snprintf(after, sizeof(after), "%s%s", bucket_prefix, listing->after);
        query[count++] = (struct s3_param){"start-after", after};
    }
    size_t left = listing->limit ? listing->limit + 1 - state->seen : PAGE_KEYS_MAX;
    if (left < PAGE_KEYS_MAX) {
        (void) snprintf(max_keys, sizeof(max_keys), "%zu", left);
        query[count++] = (struct s3_param){"max-keys", max_keys};
    }
    auto_buf xml = BUF_INIT(LIST_XML_BYTES_MAX);
    struct s3_request request = {.operation = S3_LIST_OBJECTS, .query = query, .query_count = count};
    struct s3_page next = {0};
    if (s3_send(s3->client, &request, NULL, &xml, err) != ERR_OK ||
        s3_xml_read_objects(buf_str(&xml), list_entry, state, &next, err) != ERR_OK)
        return err->code;
    *page = next;
    return ERR_OK;
}

enum err_code s3_list_all(struct s3 *s3, const struct s3_listing *listing, bool *out_more, struct err *err)
{
    struct list_state state = {.listing = listing, .prefix_len = strlen(s3_client_target(s3->client)->prefix)};
    struct s3_page page = {0};
    do {
        if (list_page(s3, &state, &page, err) != ERR_OK)
            return err->code;
        if (listing->limit && state.seen == listing->limit && page.more)
            state.cut = true;
    } while (page.more && !state.stopped && !state.cut);
    if (out_more)
        *out_more = state.cut;
    return ERR_OK;
}

struct names_state {
    const char *after; /* compared here too: a very long one is cut short in start-after */
    size_t prefix_len;
    struct store_names *out;
    size_t cap;
    bool failed;
};

static bool names_add(void *arg, const char *key, bool is_prefix, uint64_t size_bytes, uint64_t modified_ms)
{
    struct names_state *state = arg;
    (void) size_bytes, (void) modified_ms;
    if (is_prefix || strcmp(key + state->prefix_len, state->after) <= 0)
        return true;
    if (state->out->count == state->cap) {
        size_t cap = state->cap ? 2 * state->cap : 64;
        char **items = realloc(state->out->items, cap * sizeof(char *));
        if (items) {
            state->out->items = items;
            state->cap = cap;
        }
        state->failed = !items;
    }
    char *copy = state->failed ? NULL : strdup(key + state->prefix_len);
    state->failed = !copy;
    if (copy)
        state->out->items[state->out->count++] = copy;
    return !state->failed;
}

/* How much of text is UTF-8: names are, what a client asks to list after need not be. */
static size_t utf8_len(const char *text)
{
    struct str rest = str_from(text);
    for (size_t len; rest.len > 0 && (len = utf8_char_bytes(rest)) > 0; rest.ptr += len, rest.len -= len)
        continue;
    return (size_t) (rest.ptr - text);
}

/*
 * MinIO refuses to list after "../x". No component of a key begins with a dot: what follows such a one is what follows
 * the last that could begin with the character before it. after_key has room for BEFORE_DOT beyond its end.
 */
static void dots_avoid(char *after_key, size_t from)
{
    for (char *c = after_key + from; *c; c++) {
        if (*c == '.' && (c == after_key + from || c[-1] == '/')) {
            memcpy(c, BEFORE_DOT, sizeof(BEFORE_DOT));
            return;
        }
    }
}

enum err_code s3_list(struct store *store, const char *prefix, const char *after, size_t limit, struct store_names *out,
                      struct err *err)
{
    char after_key[AFTER_KEY_BYTES_MAX + sizeof(BEFORE_DOT)];
    size_t after_len = utf8_len(after);
    struct names_state state = {.after = after, .prefix_len = strlen(prefix), .out = out};
    struct s3_listing listing = {.prefix = prefix, .delimiter = "/", .limit = limit, .fn = names_add, .arg = &state};
    if (limit == 0)
        listing.limit = 1; /* is there anything? */
    if (after[0]) {
        /* start-after must be UTF-8. Keys are ASCII: any other character stands where the bytes do that are none. */
        (void) snprintf(after_key, AFTER_KEY_BYTES_MAX, "%s%.*s%s", prefix, (int) after_len, after,
                        after[after_len] ? LAST_CHARACTER : "");
        dots_avoid(after_key, strlen(prefix));
        listing.after = after_key;
    }
    enum err_code code = s3_list_all(s3_of(store), &listing, &out->more, err);
    if (limit == 0 && out->count > 0) {
        store_names_free(out);
        out->more = true;
    }
    if (code == ERR_OK && state.failed)
        code = err_set(err, ERR_NO_MEMORY, "out of memory");
    if (code != ERR_OK)
        store_names_free(out);
    return code;
}

struct walk_state {
    store_walk_fn *fn;
    void *arg;
};

static bool walk_entry(void *arg, const char *key, bool is_prefix, uint64_t size_bytes, uint64_t modified_ms)
{
    struct walk_state *state = arg;
    (void) is_prefix, (void) modified_ms;
    return state->fn(state->arg, key, size_bytes);
}

enum err_code s3_walk(struct store *store, const char *prefix, store_walk_fn *fn, void *arg, struct err *err)
{
    struct walk_state state = {fn, arg};
    struct s3_listing listing = {.prefix = prefix, .fn = walk_entry, .arg = &state};
    return s3_list_all(s3_of(store), &listing, NULL, err);
}

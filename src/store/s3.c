/* Opening the bucket: format marker, probe for honest conditional writes, the driver's table. */
#include "store/s3_priv.h"

#include "base/json.h"
#include "base/log.h"
#include "store/marker.h"

#include <stdio.h>

#define PROBE_PREFIX "probe/"

static const struct store_ops s3_ops;

/* Put the probe's object. *out_unsupported: the store refuses the condition as such, not this write for now. */
static enum err_code probe_put(struct s3 *s3, const char *key, enum s3_condition condition, bool *out_unsupported,
                               struct err *err)
{
    static const char *const codes[] = {"NotImplemented", "NotSupported", "InvalidArgument", "InvalidRequest"};
    struct str body = STR("orlop probes whether If-None-Match is honoured\n");
    struct s3_answer answer;
    struct s3_request request = {
        .operation = S3_PUT_OBJECT, .key = key, .body = &body, .body_count = 1, .condition = condition};
    enum err_code code = s3_send(s3->client, &request, &answer, NULL, err);
    *out_unsupported = answer.head.status == 501;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        *out_unsupported |= answer.head.status == 400 && strcmp(answer.code, codes[i]) == 0;
    return code;
}

/* Two conditional writes of one key: the second must lose. What the store answers decides. */
static enum err_code probe_conditional(struct s3 *s3, struct err *err)
{
    char key[64], id[UUID_TEXT_BYTES];
    struct err ignored = ERR_INIT;
    bool is_unsupported, ignored_too;
    uuid_new(id);
    (void) snprintf(key, sizeof(key), PROBE_PREFIX "%s", id);
    enum err_code first = probe_put(s3, key, S3_IF_ABSENT, &is_unsupported, err);
    enum err_code second = first == ERR_OK ? probe_put(s3, key, S3_IF_ABSENT, &ignored_too, err) : first;
    s3->conditional = first == ERR_OK && second == ERR_EXISTS;
    if (first == ERR_OK)
        (void) !s3_delete(&s3->base, (const char *const[]){key}, 1, &ignored);
    if (s3->conditional || (first == ERR_OK && second == ERR_OK)) /* both were taken: the condition is ignored */
        return ERR_OK;
    if (first == ERR_OK)
        return second;
    /* A plain write tells a store that has no conditions from one that cannot be written. */
    if (!is_unsupported || probe_put(s3, key, S3_UNCONDITIONAL, &is_unsupported, err) != ERR_OK)
        return err->code;
    (void) !s3_delete(&s3->base, (const char *const[]){key}, 1, &ignored);
    return ERR_OK;
}

static bool note_any(void *arg, const char *key, bool is_prefix, uint64_t size_bytes, uint64_t modified_ms)
{
    (void) is_prefix, (void) size_bytes, (void) modified_ms;
    if (strncmp(key, PROBE_PREFIX, strlen(PROBE_PREFIX)) == 0)
        return true;
    (void) snprintf(arg, STORE_KEY_BYTES_MAX, "%s", key);
    return false;
}

/* Read the marker, or make it in an empty place. Of two nodes that make it at once, one wins and both read it. */
static enum err_code marker_settle(struct s3 *s3, struct err *err)
{
    enum err_code code = ERR_OK;
    for (int tries = 0; tries < 3; tries++) {
        char other[STORE_KEY_BYTES_MAX + 1] = "";
        struct s3_listing listing = {.prefix = "", .limit = 8, .fn = note_any, .arg = other};
        auto_buf text = BUF_INIT(MARKER_BYTES_MAX);
        code = s3_get(&s3->base, MARKER_KEY, &text, err);
        if (code == ERR_OK)
            return marker_parse(buf_str(&text), s3->base.name, s3->base.secret, err);
        if (code != ERR_NOT_FOUND || s3_list_all(s3, &listing, NULL, err) != ERR_OK)
            return err->code;
        if (other[0] && tries == 0) /* another node may have made the marker since we looked for it */
            continue;
        if (other[0])
            return err_set(err, ERR_INVALID,
                           "%s is not empty and is no orlop store (no " MARKER_KEY
                           ", but '%.100s'): use another prefix",
                           s3->base.name, other);
        if (s3->settings.must_exist)
            return err_set(err, ERR_NOT_FOUND, "%s is empty", s3->base.name);
        buf_clear(&text);
        marker_make(&text);
        code = s3_put(&s3->base, MARKER_KEY, buf_str(&text), STORE_PUT_NEW, err);
        if (code != ERR_OK && code != ERR_EXISTS)
            return code;
    }
    return code == ERR_OK ? err_set(err, ERR_NOT_FOUND, "%s: " MARKER_KEY " vanishes", s3->base.name) : code;
}

static enum err_code s3_probe(struct store *store, struct err *err)
{
    uint64_t size_bytes;
    return s3_stat(store, MARKER_KEY, &size_bytes, err);
}

static void s3_close(struct store *store)
{
    struct s3 *s3 = s3_of(store);
    s3_sessions_free(s3->sessions);
    s3_discards_close(s3->discards);
    s3_senders_free(s3->senders);
    s3_discards_free(s3->discards);
    s3_budget_free(s3->budget);
    s3_client_close(s3->client);
    for (size_t i = 0; i < S3_KEY_LOCKS; i++)
        pthread_mutex_destroy(&s3->key_locks[i]);
    free(s3);
}

static enum err_code s3_start(struct s3 *s3, struct err *err)
{
    if (s3_client_open(&s3->settings.client, &s3->client, err) != ERR_OK)
        return err->code;
    const struct s3_target *target = s3_client_target(s3->client);
    (void) snprintf(s3->base.name, sizeof(s3->base.name), "s3://%.200s/%.200s", target->bucket, target->prefix);
    uint64_t part_bytes = s3->settings.part_bytes > S3_PART_BYTES_FIRST ? s3->settings.part_bytes : S3_PART_BYTES_FIRST;
    s3->budget = s3_budget_new((size_t) (s3->settings.part_memory_bytes_max / S3_SLAB_BYTES),
                               (size_t) ((part_bytes + S3_SLAB_BYTES - 1) / S3_SLAB_BYTES));
    s3->senders = s3_senders_new(s3->settings.senders);
    s3->sessions = s3_sessions_new();
    s3->discards = s3_discards_new();
    if (!s3->budget || !s3->senders || !s3->sessions || !s3->discards)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    if (!s3->settings.is_single_writer && !s3->settings.must_exist && probe_conditional(s3, err) != ERR_OK)
        return err_wrap(err, "probe of %s", s3->base.name);
    s3->base.caps.exclusive = !s3->conditional && !s3->settings.must_exist;
    /* A client of a registry with TLS must not be led out of it unasked. */
    s3->base.caps.has_public_urls = target->public_endpoint.tls && s3_endpoint_is_public(&target->public_endpoint);
    return marker_settle(s3, err);
}

enum err_code s3_store_open(const struct s3_settings *settings, struct store **out, struct err *err)
{
    uint8_t raw[16];
    struct s3 *s3 = calloc(1, sizeof(*s3));
    if (!s3)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    s3->base.ops = &s3_ops;
    s3->base.caps.parallel = 16;
    s3->settings = *settings;
    for (size_t i = 0; i < S3_KEY_LOCKS; i++)
        pthread_mutex_init(&s3->key_locks[i], NULL);
    random_bytes(raw, sizeof(raw));
    for (size_t i = 0; i < sizeof(raw); i++)
        (void) snprintf(s3->node + 2 * i, 3, "%02x", raw[i]);
    if (s3_start(s3, err) != ERR_OK) {
        s3_close(&s3->base);
        return err->code;
    }
    *out = &s3->base;
    return ERR_OK;
}

static const struct store_ops s3_ops = {
    .get = s3_get,
    .put = s3_put,
    .stat = s3_stat,
    .delete = s3_delete,
    .list = s3_list,
    .walk = s3_walk,
    .blob_stat = s3_blob_stat,
    .blob_open = s3_blob_open,
    .blob_read = s3_blob_read,
    .blob_close = s3_blob_close,
    .blob_delete = s3_blob_delete,
    .blob_url = s3_blob_url,
    .upload_create = s3_upload_create,
    .upload_open = s3_upload_open,
    .upload_record = s3_upload_record,
    .upload_seek = s3_upload_seek,
    .upload_confirm = s3_upload_confirm,
    .upload_append = s3_upload_append,
    .upload_checkpoint = s3_upload_checkpoint,
    .upload_read = s3_upload_read,
    .upload_flush = s3_upload_flush,
    .upload_commit = s3_upload_commit,
    .upload_close = s3_upload_close,
    .upload_discard = s3_upload_discard,
    .upload_remove = s3_upload_remove,
    .upload_list = s3_upload_list,
    .tidy = s3_tidy,
    .probe = s3_probe,
    .close = s3_close,
};

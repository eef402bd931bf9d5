/*
 * Removing sessions. After a commit that is done behind the answer, by the senders: the session's objects are as many
 * as it had checkpoints, and a store may delete them one by one. Until they are gone, this node says that the session
 * is no more (s3_session_load asks here); should the node die meanwhile, what is left expires.
 */
#include "base/clock.h"
#include "base/log.h"
#include "store/s3_upload.h"

#include <assert.h>
#include <stdio.h>

#define REMOVE_BATCH S3_DELETE_MAX
#define LATER_MAX 64  /* sessions being removed behind their answers; the next is removed before its own */
#define CLOSE_MS 5000 /* for those that are left when the store is closed; it may be out of reach */

struct discard {
    struct s3_job job; /* first */
    struct discard *next;
    struct s3 *s3;
    char id[UUID_TEXT_BYTES];
    uint32_t count; /* of its checkpoints */
};

struct s3_discards {
    pthread_mutex_t mutex;
    struct discard *first;
    size_t count;
    uint64_t until_ms; /* monotonic; 0: not closing */
};

struct s3_discards *s3_discards_new(void)
{
    struct s3_discards *discards = calloc(1, sizeof(*discards));
    if (discards)
        pthread_mutex_init(&discards->mutex, NULL);
    return discards;
}

void s3_discards_free(struct s3_discards *discards)
{
    if (!discards)
        return;
    assert(!discards->first);
    pthread_mutex_destroy(&discards->mutex);
    free(discards);
}

void s3_discards_close(struct s3_discards *discards)
{
    if (!discards)
        return;
    pthread_mutex_lock(&discards->mutex);
    discards->until_ms = clock_monotonic_ms() + CLOSE_MS;
    pthread_mutex_unlock(&discards->mutex);
}

bool s3_discards_has(struct s3_discards *discards, const char *id)
{
    pthread_mutex_lock(&discards->mutex);
    const struct discard *discard = discards->first;
    while (discard && strcmp(discard->id, id) != 0)
        discard = discard->next;
    pthread_mutex_unlock(&discards->mutex);
    return discard != NULL;
}

/* Delete the checkpoints below next_sequence; their names need no listing. */
static enum err_code delete_checkpoints(struct s3 *s3, const char *id, uint32_t count, struct err *err)
{
    auto_mem char *text = malloc(REMOVE_BATCH * S3_SESSION_KEY_BYTES_MAX);
    auto_mem const char **keys = calloc(REMOVE_BATCH, sizeof(*keys));
    if (!text || !keys)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    for (uint32_t done = 0; done < count;) {
        size_t batch = 0;
        for (; batch < REMOVE_BATCH && done < count; batch++, done++) {
            char *key = text + batch * S3_SESSION_KEY_BYTES_MAX;
            s3_session_key(id, done, key);
            keys[batch] = key;
        }
        if (s3_delete(&s3->base, keys, batch, err) != ERR_OK)
            return err->code;
    }
    return ERR_OK;
}

static bool discards_are_over(struct s3_discards *discards)
{
    pthread_mutex_lock(&discards->mutex);
    bool are_over = discards->until_ms > 0 && clock_monotonic_ms() > discards->until_ms;
    pthread_mutex_unlock(&discards->mutex);
    return are_over;
}

static void discard_run(struct s3_job *job)
{
    struct discard *discard = (struct discard *) job;
    struct s3_discards *discards = discard->s3->discards;
    struct err err = ERR_INIT;
    if (discards_are_over(discards))
        log_event(LOG_WARN, "upload not removed", LOG_TEXT("upload", discard->id), LOG_TEXT("reason", "shutting down"));
    else if (delete_checkpoints(discard->s3, discard->id, discard->count, &err) != ERR_OK)
        log_event(LOG_WARN, "upload not removed", LOG_TEXT("upload", discard->id), LOG_TEXT("reason", err_text(&err)));
    pthread_mutex_lock(&discards->mutex);
    struct discard **link = &discards->first;
    while (*link != discard)
        link = &(*link)->next;
    *link = discard->next;
    discards->count--;
    pthread_mutex_unlock(&discards->mutex);
    free(discard);
}

/* false: too many are under way, or no memory. */
static bool discard_later(struct s3 *s3, const struct s3_upload *upload)
{
    struct s3_discards *discards = s3->discards;
    struct discard *discard = calloc(1, sizeof(*discard));
    if (!discard)
        return false;
    discard->job.run = discard_run;
    discard->s3 = s3;
    memcpy(discard->id, upload->id, sizeof(discard->id));
    discard->count = upload->next_sequence;
    pthread_mutex_lock(&discards->mutex);
    bool is_taken = discards->count < LATER_MAX;
    if (is_taken) {
        discard->next = discards->first;
        discards->first = discard;
        discards->count++;
    }
    pthread_mutex_unlock(&discards->mutex);
    if (is_taken)
        s3_senders_post(s3->senders, &discard->job);
    else
        free(discard);
    return is_taken;
}

enum err_code s3_upload_discard(struct store_upload *base, struct err *err)
{
    struct s3_upload *upload = (struct s3_upload *) base;
    struct s3 *s3 = s3_of_upload(upload);
    struct err ignored = ERR_INIT;
    upload->is_discarded = true;
    (void) !s3_parts_wait(upload, 0, &ignored);
    if (upload->is_committed && upload->next_sequence > 0 && discard_later(s3, upload))
        return ERR_OK;
    /* Newest first would leave an older one to resume from; but ids are not reused and a leftover expires. */
    if (delete_checkpoints(s3, upload->id, upload->next_sequence, err) != ERR_OK)
        return err->code;
    /* After a commit S3 has no such upload any more, and that costs one request only where parts were sent. */
    if (!upload->multipart_id[0] || upload->is_completed)
        return ERR_OK;
    char key[STORE_PLACE_BYTES_MAX];
    s3_data_key(upload, key);
    return s3_multipart_abort(s3, key, upload->multipart_id, err);
}

enum err_code s3_upload_remove(struct store *store, const char *id, struct err *err)
{
    struct s3_upload *upload;
    struct s3_upload *idle = s3_sessions_take(s3_of(store), id);
    if (idle)
        s3_upload_free(idle);
    enum err_code code = s3_session_load(store, id, &upload, err);
    if (code == ERR_NOT_FOUND)
        return ERR_OK;
    if (code == ERR_VERSION || code == ERR_CORRUPT)
        return s3_session_delete_unread(s3_of(store), id, err);
    if (code != ERR_OK)
        return code;
    code = s3_upload_discard(&upload->base, err);
    s3_upload_free(upload);
    return code;
}

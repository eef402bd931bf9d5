/* The tail of an upload, and the parts it goes out in. */
#include "digest/checksum.h"
#include "store/s3_upload.h"

#include <assert.h>
#include <stdio.h>

#define TAKE_STEP_MS 250
#define PARTS_SHORT 32           /* 256 MiB; then parts double: a store completes an upload part by part */
#define PARTS_BEFORE_GROWTH 3000 /* 46 GiB take no more memory than the first of them; then parts double again … */
#define PARTS_A_SIZE 500         /* … each time after so many */
#define PART_BYTES_MOST ((uint64_t) 4 * 1024 * 1024 * 1024) /* S3 takes 5 GiB */
#define PART_MEMORY_SHARE 4                                 /* one part is at most this fraction of the part memory */

/* How long the next part is to be. Grows with their number, so that 10,000 reach as far as memory allows. */
static uint64_t part_bytes_next(const struct s3_upload *upload)
{
    const struct s3_settings *settings = &s3_of_upload(upload)->settings;
    if (settings->part_bytes)
        return settings->part_bytes;
    uint64_t most = settings->part_memory_bytes_max / PART_MEMORY_SHARE / S3_SLAB_BYTES * S3_SLAB_BYTES;
    most = most < PART_BYTES_MOST ? most : PART_BYTES_MOST;
    uint64_t bytes = S3_PART_BYTES_FIRST;
    if (upload->next_part > PARTS_SHORT && bytes * 2 <= most)
        bytes *= 2;
    for (uint32_t n = upload->next_part; n > PARTS_BEFORE_GROWTH && bytes * 2 <= most; n -= PARTS_A_SIZE)
        bytes *= 2;
    return bytes;
}

/* ---- memory ---- */

/* Short parts free memory, where the store takes them. */
static bool may_send_early(const struct s3_upload *upload)
{
    return upload->tail_bytes >= S3_PART_BYTES_MIN && !s3_of_upload(upload)->settings.part_bytes;
}

static enum err_code slab_take(struct s3_upload *upload, bool may_send, char **out, struct err *err)
{
    struct s3 *s3 = s3_of_upload(upload);
    uint64_t until_ms = clock_monotonic_ms() + S3_TAIL_WAIT_MS;
    *out = s3_budget_take(s3->budget, 0);
    while (!*out && clock_monotonic_ms() < until_ms) {
        if (s3_sessions_reclaim(s3)) {
            *out = s3_budget_take(s3->budget, 0);
            continue;
        }
        if (may_send && may_send_early(upload) && s3_tail_send(upload, err) != ERR_OK)
            return err->code;
        *out = s3_budget_take(s3->budget, TAKE_STEP_MS);
        if (!*out)
            *out = s3_budget_overdraw(s3->budget, upload);
    }
    return *out ? ERR_OK : err_set(err, ERR_BUSY, "all memory for uploads is in use, try again");
}

/* A slab with room at the tail's end. */
static enum err_code tail_room(struct s3_upload *upload, bool may_send, struct err *err)
{
    if (upload->tail_bytes < (uint64_t) upload->slab_count * S3_SLAB_BYTES)
        return ERR_OK;
    char *slab = NULL;
    if (slab_take(upload, may_send, &slab, err) != ERR_OK)
        return err->code;
    if (upload->slab_count == upload->slab_cap) {
        size_t cap = upload->slab_cap ? 2 * upload->slab_cap : 8;
        char **slabs = realloc(upload->slabs, cap * sizeof(*slabs));
        if (!slabs) {
            s3_budget_give(s3_of_upload(upload)->budget, slab);
            return err_set(err, ERR_NO_MEMORY, "out of memory");
        }
        upload->slabs = slabs;
        upload->slab_cap = cap;
    }
    upload->slabs[upload->slab_count++] = slab;
    return ERR_OK;
}

void s3_tail_cut(struct s3_upload *upload, uint64_t tail_bytes)
{
    size_t keep = (size_t) ((tail_bytes + S3_SLAB_BYTES - 1) / S3_SLAB_BYTES);
    while (upload->slab_count > keep)
        s3_budget_give(s3_of_upload(upload)->budget, upload->slabs[--upload->slab_count]);
    upload->tail_bytes = tail_bytes;
    upload->size_bytes = upload->parts_bytes + tail_bytes;
}

void s3_tail_unload(struct s3_upload *upload)
{
    uint64_t size_bytes = upload->size_bytes;
    s3_tail_cut(upload, 0);
    s3_budget_end_overdraft(s3_of_upload(upload)->budget, upload);
    upload->size_bytes = size_bytes;
    upload->tail_is_loaded = size_bytes == upload->parts_bytes;
}

size_t s3_tail_spans(const struct s3_upload *upload, uint64_t skip, struct str *out)
{
    size_t count = 0;
    for (uint64_t at = skip; at < upload->tail_bytes;) {
        size_t within = (size_t) (at % S3_SLAB_BYTES);
        uint64_t left = upload->tail_bytes - at;
        size_t len = S3_SLAB_BYTES - within < left ? S3_SLAB_BYTES - within : (size_t) left;
        out[count++] = (struct str){upload->slabs[at / S3_SLAB_BYTES] + within, len};
        at += len;
    }
    return count;
}

static enum err_code tail_grow(struct s3_upload *upload, const char *bytes, size_t len, bool may_send, struct err *err)
{
    while (len > 0) {
        if (tail_room(upload, may_send, err) != ERR_OK)
            return err->code;
        uint64_t part_bytes = part_bytes_next(upload);
        size_t within = (size_t) (upload->tail_bytes % S3_SLAB_BYTES);
        size_t some = S3_SLAB_BYTES - within < len ? S3_SLAB_BYTES - within : len;
        if (upload->tail_bytes < part_bytes && some > part_bytes - upload->tail_bytes)
            some = (size_t) (part_bytes - upload->tail_bytes);
        memcpy(upload->slabs[upload->tail_bytes / S3_SLAB_BYTES] + within, bytes, some);
        upload->tail_bytes += some;
        upload->size_bytes += some;
        bytes += some;
        len -= some;
        if (may_send && upload->tail_bytes >= part_bytes && s3_tail_send(upload, err) != ERR_OK)
            return err->code;
    }
    return ERR_OK;
}

enum err_code s3_tail_append(struct s3_upload *upload, const void *bytes, size_t len, struct err *err)
{
    if (upload->tail_bytes >= part_bytes_next(upload) && s3_tail_send(upload, err) != ERR_OK)
        return err->code;
    return tail_grow(upload, bytes, len, true, err);
}

enum err_code s3_tail_load(struct s3_upload *upload, const void *bytes, size_t len, struct err *err)
{
    return tail_grow(upload, bytes, len, false, err);
}

/* ---- sending ---- */

struct part_job {
    struct s3_job job; /* first */
    struct s3_upload *upload;
    size_t index; /* in upload->parts */
    uint64_t len;
    size_t slab_count;
    char *slabs[];
};

static enum err_code part_upload(struct part_job *job, uint16_t number, char *out_etag, struct err *err)
{
    struct s3_upload *upload = job->upload;
    char key[STORE_PLACE_BYTES_MAX], number_text[8];
    struct s3_param query[] = {{"partNumber", number_text}, {"uploadId", upload->multipart_id}};
    struct s3_answer answer;
    auto_mem struct str *spans = calloc(job->slab_count, sizeof(*spans));
    if (!spans)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < job->slab_count; i++) {
        uint64_t left = job->len - (uint64_t) i * S3_SLAB_BYTES;
        spans[i] = (struct str){job->slabs[i], left < S3_SLAB_BYTES ? (size_t) left : S3_SLAB_BYTES};
    }
    s3_data_key(upload, key);
    (void) snprintf(number_text, sizeof(number_text), "%u", (unsigned) number);
    struct s3_request request = {.operation = S3_UPLOAD_PART,
                                 .key = key,
                                 .query = query,
                                 .query_count = 2,
                                 .body = spans,
                                 .body_count = job->slab_count};
    if (s3_send(s3_of_upload(upload)->client, &request, &answer, NULL, err) != ERR_OK)
        return err->code;
    size_t len = strlen(answer.head.etag);
    if (len == 0 || len >= S3_PART_ETAG_BYTES)
        return err_set(err, ERR_UPSTREAM, "the object store gave part %u no usable ETag", (unsigned) number);
    memcpy(out_etag, answer.head.etag, len + 1);
    return ERR_OK;
}

static void part_run(struct s3_job *base)
{
    struct part_job *job = (struct part_job *) base;
    struct s3_upload *upload = job->upload;
    struct s3_budget *budget = s3_of_upload(upload)->budget;
    char etag[S3_PART_ETAG_BYTES] = "";
    struct err err = ERR_INIT;
    pthread_mutex_lock(&upload->synced.mutex);
    uint16_t number = upload->parts[job->index].number;
    pthread_mutex_unlock(&upload->synced.mutex);
    enum err_code code = part_upload(job, number, etag, &err);
    for (size_t i = 0; i < job->slab_count; i++)
        s3_budget_give(budget, job->slabs[i]);
    pthread_mutex_lock(&upload->synced.mutex);
    memcpy(upload->parts[job->index].etag, etag, sizeof(etag));
    if (code != ERR_OK && upload->synced.failure.code == ERR_OK)
        upload->synced.failure = err;
    upload->synced.in_flight--;
    pthread_cond_broadcast(&upload->synced.landed); /* under the mutex: a waiter may free the upload at once */
    pthread_mutex_unlock(&upload->synced.mutex);
    free(job);
}

enum err_code s3_parts_wait(struct s3_upload *upload, unsigned most, struct err *err)
{
    pthread_mutex_lock(&upload->synced.mutex);
    while (upload->synced.in_flight > most)
        pthread_cond_wait(&upload->synced.landed, &upload->synced.mutex);
    enum err_code code = upload->synced.failure.code;
    if (code != ERR_OK)
        *err = upload->synced.failure;
    pthread_mutex_unlock(&upload->synced.mutex);
    if (code == ERR_NOT_FOUND) /* no such multipart upload */
        code = err_become(err, ERR_CORRUPT, "the upload was ended elsewhere");
    return code;
}

enum err_code s3_multipart_create(struct s3 *s3, const char *key, const char *nonce, char *out_multipart_id,
                                  struct err *err)
{
    struct s3_param query = {"uploads", ""};
    auto_buf xml = BUF_INIT(S3_XML_TEXT_BYTES_MAX);
    struct s3_request request = {
        .operation = S3_CREATE_UPLOAD, .key = key, .query = &query, .query_count = 1, .nonce = nonce};
    if (s3_send(s3->client, &request, NULL, &xml, err) != ERR_OK)
        return err->code;
    return s3_xml_read_upload_id(buf_str(&xml), out_multipart_id, err);
}

void s3_nonce_new(char *out)
{
    uint8_t raw[16];
    random_bytes(raw, sizeof(raw));
    for (size_t i = 0; i < sizeof(raw); i++)
        (void) snprintf(out + 2 * i, 3, "%02x", raw[i]);
}

static enum err_code multipart_begin(struct s3_upload *upload, struct err *err)
{
    char key[STORE_PLACE_BYTES_MAX];
    if (upload->multipart_id[0])
        return ERR_OK;
    s3_nonce_new(upload->nonce);
    s3_data_key(upload, key);
    if (s3_multipart_create(s3_of_upload(upload), key, upload->nonce, upload->multipart_id, err) != ERR_OK)
        return err->code;
    upload->parts_are_known = true; /* a fresh one: all its parts will be ours */
    return ERR_OK;
}

enum err_code s3_claim(struct s3_upload *upload, struct err *err)
{
    if (upload->is_claimed || upload->next_sequence == 0 || !s3_of_upload(upload)->conditional)
        return ERR_OK;
    if (s3_session_save(upload, buf_str(&upload->record), false, err) != ERR_OK)
        return err->code;
    upload->is_claimed = true;
    return ERR_OK;
}

/* Note that a number belongs to the blob. */
static enum err_code run_add(struct s3_upload *upload, uint16_t number, struct err *err)
{
    struct s3_part_run *last = upload->run_count ? &upload->runs[upload->run_count - 1] : NULL;
    if (last && last->first + last->count == number) {
        last->count++;
        return ERR_OK;
    }
    if (upload->run_count == S3_CHECKPOINT_RUNS_MAX)
        return err_set(err, ERR_LIMIT, "the upload changed nodes too often: start it again");
    upload->runs[upload->run_count++] = (struct s3_part_run){number, 1};
    return ERR_OK;
}

static enum err_code part_add(struct s3_upload *upload, uint64_t size_bytes, size_t *out_index, struct err *err)
{
    if (upload->next_part > S3_PARTS_MAX)
        return err_set(err, ERR_LIMIT, "the blob is too big for %d parts of this size: give uploads more memory",
                       S3_PARTS_MAX);
    pthread_mutex_lock(&upload->synced.mutex); /* senders write etags into parts */
    if (upload->part_count == upload->part_cap) {
        size_t cap = upload->part_cap ? 2 * upload->part_cap : 16;
        struct s3_sent_part *parts = realloc(upload->parts, cap * sizeof(*parts));
        if (parts) {
            upload->parts = parts;
            upload->part_cap = cap;
        }
    }
    bool fits = upload->part_count < upload->part_cap;
    if (fits) {
        *out_index = upload->part_count++;
        upload->parts[*out_index] =
            (struct s3_sent_part){.number = (uint16_t) upload->next_part, .size_bytes = size_bytes};
    }
    pthread_mutex_unlock(&upload->synced.mutex);
    if (!fits)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    return run_add(upload, (uint16_t) upload->next_part++, err);
}

enum err_code s3_tail_send(struct s3_upload *upload, struct err *err)
{
    struct s3 *s3 = s3_of_upload(upload);
    if (upload->tail_bytes == 0)
        return ERR_OK;
    if (multipart_begin(upload, err) != ERR_OK || s3_claim(upload, err) != ERR_OK ||
        s3_parts_wait(upload, S3_PARTS_IN_FLIGHT_MAX - 1, err) != ERR_OK)
        return err->code;
    struct part_job *job = calloc(1, sizeof(*job) + upload->slab_count * sizeof(job->slabs[0]));
    if (!job)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    if (part_add(upload, upload->tail_bytes, &job->index, err) != ERR_OK) {
        free(job);
        return err->code;
    }
    job->job.run = part_run;
    job->upload = upload;
    job->len = upload->tail_bytes;
    job->slab_count = upload->slab_count;
    memcpy(job->slabs, upload->slabs, upload->slab_count * sizeof(job->slabs[0]));
    upload->parts_bytes += upload->tail_bytes;
    upload->slab_count = 0;
    upload->tail_bytes = 0;
    upload->tail_first = upload->next_sequence; /* all that was saved is in parts now */
    s3_budget_end_overdraft(s3->budget, upload);
    pthread_mutex_lock(&upload->synced.mutex);
    upload->synced.in_flight++;
    pthread_mutex_unlock(&upload->synced.mutex);
    s3_senders_post(s3->senders, &job->job);
    return ERR_OK;
}

/* ---- completing ---- */

bool s3_part_is_ours(const struct s3_upload *upload, unsigned number)
{
    for (size_t i = 0; i < upload->run_count; i++) {
        if (number >= upload->runs[i].first && number < (unsigned) upload->runs[i].first + upload->runs[i].count)
            return true;
    }
    return false;
}

struct learn {
    struct s3_upload *upload;
    struct s3_sent_part *parts;
    size_t count, cap;
    bool failed;
};

static bool learn_part(void *arg, const struct s3_part *part)
{
    struct learn *learn = arg;
    if (!s3_part_is_ours(learn->upload, part->number))
        return true;
    learn->failed = learn->failed || learn->count == learn->cap || part->etag.len >= S3_PART_ETAG_BYTES;
    if (learn->failed)
        return false;
    struct s3_sent_part *known = &learn->parts[learn->count++];
    *known = (struct s3_sent_part){.number = (uint16_t) part->number, .size_bytes = part->size_bytes};
    memcpy(known->etag, part->etag.ptr, part->etag.len);
    return true;
}

static size_t numbers_count(const struct s3_upload *upload)
{
    size_t count = 0;
    for (size_t i = 0; i < upload->run_count; i++)
        count += upload->runs[i].count;
    return count;
}

enum err_code s3_multipart_list(struct s3_upload *upload, s3_part_fn *fn, void *arg, struct err *err)
{
    char key[STORE_PLACE_BYTES_MAX];
    struct s3_page page = {0};
    s3_data_key(upload, key);
    do {
        auto_buf xml = BUF_INIT(S3_XML_BYTES_MAX);
        struct s3_param query[] = {{"uploadId", upload->multipart_id}, {"part-number-marker", page.next}};
        struct s3_request request = {
            .operation = S3_LIST_PARTS, .key = key, .query = query, .query_count = page.next[0] ? 2 : 1};
        struct s3_page next = {0};
        if (s3_send(s3_of_upload(upload)->client, &request, NULL, &xml, err) != ERR_OK ||
            s3_xml_read_parts(buf_str(&xml), fn, arg, &next, err) != ERR_OK)
            return err->code;
        page = next;
    } while (page.more);
    return ERR_OK;
}

enum err_code s3_parts_learn(struct s3_upload *upload, struct err *err)
{
    struct learn learn = {.upload = upload, .cap = numbers_count(upload)};
    if (upload->parts_are_known)
        return ERR_OK;
    learn.parts = calloc(learn.cap + 1, sizeof(*learn.parts));
    if (!learn.parts)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    enum err_code code = s3_multipart_list(upload, learn_part, &learn, err);
    uint64_t bytes = 0;
    for (size_t i = 0; i < learn.count; i++)
        bytes += learn.parts[i].size_bytes;
    if (code == ERR_OK && (learn.failed || learn.count != learn.cap || bytes != upload->parts_bytes))
        code = err_set(err, ERR_CORRUPT, "parts of upload %s are missing from the object store", upload->id);
    if (code != ERR_OK) {
        free(learn.parts);
        return code;
    }
    free(upload->parts);
    upload->parts = learn.parts;
    upload->part_count = learn.count;
    upload->part_cap = learn.cap + 1;
    upload->parts_are_known = true;
    return ERR_OK;
}

/* The MD5 in an ETag of a part: 32 hex digits, quoted or not. false: it is something else. */
static bool etag_md5(const char *etag, uint8_t *out)
{
    struct digest digest; /* its parser reads hex: twice the same makes a SHA-256 */
    char hex[2 * 2 * MD5_BYTES + 1];
    size_t skip = etag[0] == '"';
    if (strcspn(etag + skip, "\"") != 2 * MD5_BYTES)
        return false;
    (void) snprintf(hex, sizeof(hex), "%.32s%.32s", etag + skip, etag + skip);
    if (!digest_parse_hex(DIGEST_SHA256, str_from(hex), &digest))
        return false;
    memcpy(out, digest.raw, MD5_BYTES);
    return true;
}

/*
 * Is the object at our data's key made of the very parts we know? S3 gives an object of parts the MD5 of its parts'
 * MD5s. Where ETags are something else, it cannot be told.
 */
static bool etag_is_of_our_parts(const struct s3_upload *upload, const char *etag)
{
    uint8_t md5[MD5_BYTES];
    char expected[2 * MD5_BYTES + 16];
    auto_mem uint8_t *raw = malloc(upload->part_count * MD5_BYTES + 1);
    if (!raw || !upload->parts_are_known)
        return false;
    for (size_t i = 0; i < upload->part_count; i++) {
        if (!etag_md5(upload->parts[i].etag, raw + i * MD5_BYTES))
            return false;
    }
    md5_spans(&(struct str){(const char *) raw, upload->part_count * MD5_BYTES}, 1, md5);
    for (size_t i = 0; i < MD5_BYTES; i++)
        (void) snprintf(expected + 2 * i, 3, "%02x", md5[i]);
    (void) snprintf(expected + sizeof(md5) * 2, 16, "-%zu", upload->part_count);
    size_t skip = etag[0] == '"';
    return strlen(expected) == strcspn(etag + skip, "\"") && strncmp(expected, etag + skip, strlen(expected)) == 0;
}

/* The multipart upload is no more: is its object there? */
static enum err_code data_is_whole(struct s3_upload *upload, struct err *err)
{
    char key[STORE_PLACE_BYTES_MAX];
    struct s3_answer answer;
    s3_data_key(upload, key);
    struct s3_request request = {.operation = S3_HEAD_OBJECT, .key = key};
    enum err_code code = s3_send(s3_of_upload(upload)->client, &request, &answer, NULL, err);
    if (code == ERR_NOT_FOUND || (code == ERR_OK && answer.head.content_length != upload->parts_bytes))
        return err_set(err, ERR_CORRUPT, "the bytes of upload %s are no longer in the object store", upload->id);
    upload->is_doubtful = code == ERR_OK && !etag_is_of_our_parts(upload, answer.head.etag);
    return code;
}

enum err_code s3_multipart_complete(struct s3 *s3, const char *key, const char *multipart_id, const char *nonce,
                                    const struct s3_sent_part *sent, size_t count, bool *out_ambiguous, struct err *err)
{
    struct s3_param query = {"uploadId", multipart_id};
    auto_buf xml = BUF_INIT(S3_XML_BYTES_MAX);
    auto_buf answer = BUF_INIT(S3_XML_BYTES_MAX);
    auto_mem struct s3_part *parts = calloc(count, sizeof(*parts));
    if (!parts)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++)
        parts[i] = (struct s3_part){.number = sent[i].number, .etag = str_from(sent[i].etag)};
    if (!s3_xml_write_complete(&xml, parts, count))
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    struct str body = buf_str(&xml);
    struct s3_request request = {.operation = S3_COMPLETE_UPLOAD,
                                 .key = key,
                                 .query = &query,
                                 .query_count = 1,
                                 .body = &body,
                                 .body_count = 1,
                                 .nonce = nonce[0] ? nonce : NULL};
    struct s3_answer head;
    enum err_code code = s3_send(s3->client, &request, &head, &answer, err);
    if (code == ERR_UPSTREAM && strcmp(head.code, "InvalidPart") == 0)
        code = err_become(err, ERR_CORRUPT, "the object store refuses the parts of an upload");
    *out_ambiguous = head.was_ambiguous;
    return code;
}

enum err_code s3_parts_complete(struct s3_upload *upload, struct err *err)
{
    char key[STORE_PLACE_BYTES_MAX];
    bool is_ambiguous = false;
    if (upload->is_completed)
        return ERR_OK;
    s3_data_key(upload, key);
    enum err_code code = s3_parts_learn(upload, err);
    if (code == ERR_OK) {
        code = s3_multipart_complete(s3_of_upload(upload), key, upload->multipart_id, upload->nonce, upload->parts,
                                     upload->part_count, &is_ambiguous, err);
        if (code == ERR_CORRUPT)
            code = s3_parts_salvage(upload, err);
        else if (code == ERR_OK && is_ambiguous) /* the answer may be that of a HEAD, of what any try completed */
            code = data_is_whole(upload, err);
    }
    if (code == ERR_NOT_FOUND) /* done by an attempt that was cut short, if its bytes are there */
        code = data_is_whole(upload, err);
    upload->is_completed = code == ERR_OK;
    return code;
}

enum err_code s3_multipart_abort(struct s3 *s3, const char *data_key, const char *multipart_id, struct err *err)
{
    struct s3_param query = {"uploadId", multipart_id};
    struct s3_request request = {.operation = S3_ABORT_UPLOAD, .key = data_key, .query = &query, .query_count = 1};
    enum err_code code = s3_send(s3->client, &request, NULL, NULL, err);
    return code == ERR_NOT_FOUND ? ERR_OK : code;
}

/* Clients that push blobs, as real ones do: chunk by chunk, asking where to go on after whatever went wrong. */
#include "digest/hash.h"
#include "registry/blob.h"
#include "sim_run.h"
#include "sim_world.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define PUSH_TRIES_MAX 60 /* requests that may fail in one push before the client gives up */
#define PAUSE_MS_MAX 3000
#define RIVAL_TRIES 4

/* A push under way: one client's, or two's. */
struct push {
    const struct repo_name *repo;
    const struct content *content;
    struct upload_id id;
    size_t acknowledged;   /* bytes that a 202 or a status has told of */
    size_t sent;           /* bytes that a client ever began to send */
    bool is_shared;        /* two clients write to it */
    bool was_commit_tried; /* so the session may be gone, and rightly */
    bool is_done;
    struct sim_moment begun;
    unsigned failures;
    unsigned users;
};

/* What a client does next. */
enum next { NEXT_GO_ON, NEXT_ASK, NEXT_START_AGAIN };

static bool is_referenced(const struct push *push)
{
    char key[KEY_BYTES];
    key_ref(&push->content->digest, push->repo, key);
    return sim_truth_was_there(key, push->begun);
}

static void expect_done(const struct push *push)
{
    sim_check(is_referenced(push), "a push was acknowledged, but there is no reference");
    sim_check(sim_truth_blob_is_whole(&push->content->digest), "a push was acknowledged, but the blob is not whole");
    world_note_blob(push->repo, &push->content->digest);
    sim_count(COUNT_PUSHES, 1);
}

/* The session is unknown: may it be? */
static enum next session_gone(struct push *push, const struct err *err)
{
    bool may_be = push->was_commit_tried || push->is_shared || world.ways.complete_wants_all_parts;
    sim_check(may_be, "an upload with %zu acknowledged bytes is lost: %s", push->acknowledged, world_error(err));
    sim_count(COUNT_SESSIONS_LOST, 1);
    return NEXT_START_AGAIN;
}

/* known: what had been acknowledged when the request began. */
static void told_size(struct push *push, uint64_t size_bytes, size_t known)
{
    sim_check(size_bytes >= known || push->was_commit_tried, "an upload has %llu bytes, of which %zu were acknowledged",
              (unsigned long long) size_bytes, known);
    sim_check(size_bytes <= push->sent, "an upload has %llu bytes, but only %zu were sent",
              (unsigned long long) size_bytes, push->sent);
    if (size_bytes > push->acknowledged)
        push->acknowledged = (size_t) size_bytes;
}

static enum next failed(struct push *push, enum err_code code, const struct err *err, const char *what)
{
    /* A node that had not heard of the commit misses the bytes that another node took. */
    bool may_miss = push->is_shared || (push->was_commit_tried && is_referenced(push));
    if (code == ERR_BLOB_UPLOAD_UNKNOWN || (code == ERR_DIGEST_INVALID && may_miss))
        return session_gone(push, err);
    sim_check(world_is_transient(code) || code == ERR_RANGE_INVALID, "%s fails: %s", what, world_error(err));
    push->failures++;
    sim_sleep_ms(sim_below(PAUSE_MS_MAX));
    return NEXT_ASK;
}

/* ---- one request each ---- */

static bool start(struct push *push)
{
    struct err err = ERR_INIT;
    const struct content *content = push->content;
    push->acknowledged = push->sent = 0;
    push->was_commit_tried = false;
    while (push->failures < PUSH_TRIES_MAX) {
        struct place *place = world_enter();
        bool announces = sim_chance(8000); /* else the digest comes as a surprise, when it is not SHA-256 */
        enum err_code code = upload_start(place->node.registry, push->repo,
                                          announces ? content->digest.algorithm : DIGEST_SHA256, &push->id, &err);
        bool was_heard = world_leave(place);
        if (code == ERR_OK && was_heard)
            return true;
        sim_check(code == ERR_OK || !was_heard || world_is_transient(code), "starting an upload fails: %s",
                  world_error(&err));
        push->failures++;
        sim_sleep_ms(sim_below(PAUSE_MS_MAX));
    }
    return false;
}

static enum next unheard(struct push *push)
{
    push->failures++;
    return NEXT_ASK;
}

static enum next ask(struct push *push)
{
    struct err err = ERR_INIT;
    uint64_t size_bytes = 0;
    size_t known = push->acknowledged;
    struct place *place = world_enter();
    enum err_code code = upload_status(place->node.registry, push->repo, &push->id, &size_bytes, &err);
    if (!world_leave(place))
        return unheard(push);
    if (code != ERR_OK)
        return failed(push, code, &err, "asking for an upload's status");
    told_size(push, size_bytes, known);
    sim_count(COUNT_RESUMES, 1);
    return NEXT_GO_ON;
}

/* Write the bytes in pieces, as they come from a network. */
static enum err_code write_pieces(struct upload *upload, const char *bytes, size_t len, struct err *err)
{
    while (len > 0) {
        size_t piece = sim_chance(5000) ? len : 1 + (size_t) sim_below(len);
        if (upload_write(upload, bytes, piece, err) != ERR_OK)
            return err->code;
        bytes += piece;
        len -= piece;
    }
    return ERR_OK;
}

/* size_bytes: what a 416 named, or 0. */
static enum next refused(struct push *push, enum err_code code, uint64_t size_bytes, const struct err *err)
{
    if (code == ERR_RANGE_INVALID && size_bytes > 0 && !push->is_shared)
        told_size(push, size_bytes, push->acknowledged);
    return failed(push, code, err, "taking an upload");
}

static enum next send_chunk(struct push *push, size_t len)
{
    struct err err = ERR_INIT;
    struct upload *upload;
    uint64_t size_bytes = 0;
    size_t from = push->acknowledged;
    const struct upload_range range = {from, from + len};
    /* Who is not sure where the upload ends must say where a chunk belongs. */
    bool with_range = push->is_shared || push->failures > 0 || sim_chance(6000);
    if (from + len > push->sent)
        push->sent = from + len;
    struct place *place = world_enter();
    enum err_code code = upload_begin(place->node.registry, push->repo, &push->id, with_range ? &range : NULL, NULL,
                                      &upload, &size_bytes, &err);
    bool was_taken = code == ERR_OK;
    if (was_taken) {
        code = write_pieces(upload, push->content->bytes + from, len, &err);
        if (code != ERR_OK || sim_chance(300)) { /* or the client goes away */
            upload_abandon(upload);
            code = code == ERR_OK ? ERR_UPSTREAM : code;
        } else {
            code = upload_finish_chunk(upload, &size_bytes, &err);
        }
    }
    if (!world_leave(place))
        return unheard(push);
    if (code != ERR_OK && was_taken)
        return failed(push, code, err.code ? &err : &(struct err){.code = code}, "a chunk");
    if (code != ERR_OK)
        return refused(push, code, size_bytes, &err);
    sim_check(size_bytes == from + len, "a chunk ends at %llu instead of %zu", (unsigned long long) size_bytes,
              from + len);
    if (from + len > push->acknowledged)
        push->acknowledged = from + len;
    return NEXT_GO_ON;
}

/* Is the blob there, although its session is not? */
static bool is_there(struct push *push)
{
    for (; push->failures < PUSH_TRIES_MAX; push->failures++) {
        struct err err = ERR_INIT;
        struct store_blob_info info;
        struct place *place = world_enter();
        struct sim_moment begun = sim_truth_now();
        enum err_code code = blob_stat(place->node.registry, push->repo, &push->content->digest, &info, &err);
        bool was_heard = world_leave(place);
        if (was_heard && (code == ERR_OK || code == ERR_BLOB_UNKNOWN)) {
            char key[KEY_BYTES];
            key_ref(&push->content->digest, push->repo, key);
            sim_check(code == ERR_OK || sim_truth_was_absent(key, begun), "a blob is not found: %s", key);
            return code == ERR_OK;
        }
        sim_sleep_ms(sim_below(PAUSE_MS_MAX));
    }
    return false;
}

/* PUT: the rest of the bytes, and the digest. */
static enum next commit(struct push *push)
{
    struct err err = ERR_INIT;
    struct upload *upload;
    uint64_t size_bytes = 0;
    const struct content *content = push->content;
    size_t from = push->acknowledged, len = content->len - from;
    const struct upload_range range = {from, from + len};
    bool with_range = len > 0 && (push->is_shared || push->failures > 0 || sim_chance(5000));
    push->sent = content->len;
    struct place *place = world_enter();
    enum err_code code = upload_begin(place->node.registry, push->repo, &push->id, with_range ? &range : NULL,
                                      &content->digest, &upload, &size_bytes, &err);
    bool was_taken = code == ERR_OK;
    if (was_taken) {
        code = write_pieces(upload, content->bytes + from, len, &err);
        if (code != ERR_OK) {
            upload_abandon(upload);
        } else {
            push->was_commit_tried = true;
            code = upload_commit(upload, &content->digest, &err);
        }
    }
    if (!world_leave(place))
        return unheard(push);
    if (code == ERR_OK) {
        expect_done(push);
        push->is_done = true;
        return NEXT_GO_ON;
    }
    return was_taken ? failed(push, code, &err, "a commit") : refused(push, code, size_bytes, &err);
}

/* ---- whole pushes ---- */

static size_t chunk_len(const struct push *push)
{
    size_t left = push->content->len - push->acknowledged;
    size_t most = sim_chance(5000) ? 700 : sim_chance(5000) ? 7000 : left;
    size_t len = 1 + (size_t) sim_below(most < left ? most : left);
    return sim_chance(3000) ? left : len;
}

/* Go on until it is done, or lost, or the client has had enough. false: start again. */
static bool push_on(struct push *push)
{
    enum next next = NEXT_GO_ON;
    while (!push->is_done && push->failures < PUSH_TRIES_MAX) {
        if (next == NEXT_ASK)
            next = ask(push);
        else if (push->acknowledged == push->content->len || sim_chance(3000))
            next = commit(push);
        else
            next = send_chunk(push, chunk_len(push));
        if (next == NEXT_START_AGAIN) {
            bool was_committed = push->was_commit_tried && is_there(push);
            push->is_done |= was_committed;
            return was_committed;
        }
        sim_sleep_ms(sim_chance(500) ? sim_below(40000) : sim_below(200));
    }
    return true;
}

static void push_single(struct push *push)
{
    while (!push->is_done && push->failures < PUSH_TRIES_MAX) {
        struct err err = ERR_INIT;
        struct upload *upload;
        const struct content *content = push->content;
        struct place *place = world_enter();
        enum err_code code =
            upload_begin_single(place->node.registry, push->repo, content->digest.algorithm, &upload, &err);
        if (code == ERR_OK) {
            code = write_pieces(upload, content->bytes, content->len, &err);
            if (code == ERR_OK)
                code = upload_commit(upload, &content->digest, &err);
            else
                upload_abandon(upload);
        }
        bool was_heard = world_leave(place);
        if (was_heard && code == ERR_OK) {
            expect_done(push);
            push->is_done = true;
        } else if (was_heard) {
            sim_check(world_is_transient(code), "a single push fails: %s", world_error(&err));
        }
        push->failures++;
        sim_sleep_ms(sim_below(PAUSE_MS_MAX));
    }
}

static struct push push_new(void)
{
    return (struct push){.repo = world_repo(), .content = world_content(), .begun = sim_truth_now()};
}

void world_push_blob(void)
{
    struct push push = push_new();
    if (sim_chance(3000)) {
        push_single(&push);
        return;
    }
    while (!push.is_done && push.failures < PUSH_TRIES_MAX && start(&push)) {
        if (push_on(&push))
            return;
    }
}

static void *push_beside(void *arg)
{
    struct push *push = arg;
    (void) push_on(push);
    push->users--;
    sim_wake(push);
    return NULL;
}

void world_push_blob_together(void)
{
    pthread_t thread;
    struct push push = push_new();
    push.is_shared = true;
    if (!start(&push))
        return;
    push.users = 1;
    if (pthread_create(&thread, NULL, push_beside, &push) == 0)
        (void) pthread_detach(thread);
    (void) push_on(&push);
    while (push.users > 0)
        sim_wait(&push);
}

/* ---- two clients who do not mean the same blob ---- */

struct rival {
    struct push push;
    struct content content;
    unsigned *working;
};

/* Everything in one PUT, again and again: nothing is promised but that what is acknowledged is right. */
static void *rival_run(void *arg)
{
    struct rival *rival = arg;
    struct push *push = &rival->push;
    struct err err = ERR_INIT;
    for (int tries = 0; tries < RIVAL_TRIES && !push->is_done; tries++) {
        struct upload *upload;
        uint64_t size_bytes;
        const struct upload_range range = {0, rival->content.len};
        struct place *place = world_enter();
        enum err_code code = upload_begin(place->node.registry, push->repo, &push->id, sim_chance(5000) ? &range : NULL,
                                          &rival->content.digest, &upload, &size_bytes, &err);
        if (code == ERR_OK) {
            code = write_pieces(upload, rival->content.bytes, rival->content.len, &err);
            if (code == ERR_OK)
                code = upload_commit(upload, &rival->content.digest, &err);
            else
                upload_abandon(upload);
        }
        if (world_leave(place) && code == ERR_OK) {
            expect_done(push);
            push->is_done = true;
        }
        sim_sleep_ms(sim_below(300));
    }
    --*rival->working;
    sim_wake(rival->working);
    return NULL;
}

void world_push_rivals(void)
{
    struct rival rivals[2];
    unsigned working = 2;
    pthread_t thread;
    struct push push = push_new();
    if (push.content->len == 0 || !start(&push))
        return;
    for (size_t i = 0; i < 2; i++) {
        struct content *content = &rivals[i].content;
        rivals[i] = (struct rival){.push = push, .working = &working, .content = *push.content};
        content->bytes = malloc(content->len);
        sim_check(content->bytes, "no memory");
        memcpy(content->bytes, push.content->bytes, content->len);
        content->bytes[sim_below(content->len)] ^= (char) (1 + i);
        struct hash hash;
        hash_init(&hash, DIGEST_SHA256);
        hash_update(&hash, content->bytes, content->len);
        hash_digest(&hash, &content->digest);
        rivals[i].push.content = content;
        sim_check(pthread_create(&thread, NULL, rival_run, &rivals[i]) == 0, "no task");
        (void) pthread_detach(thread);
    }
    while (working > 0)
        sim_wait(&working);
    for (size_t i = 0; i < 2; i++)
        free(rivals[i].content.bytes);
}

void world_cancel_upload(void)
{
    struct push push = push_new();
    struct err err = ERR_INIT;
    if (!start(&push))
        return;
    push.was_commit_tried = true; /* it may be gone */
    if (push.content->len > 0)
        (void) send_chunk(&push, chunk_len(&push));
    struct place *place = world_enter();
    enum err_code code = upload_cancel(place->node.registry, push.repo, &push.id, &err);
    if (!world_leave(place))
        return;
    sim_check(code == ERR_OK || code == ERR_BLOB_UPLOAD_UNKNOWN || world_is_transient(code), "a cancel fails: %s",
              world_error(&err));
    if (code != ERR_OK)
        return;
    sim_count(COUNT_CANCELS, 1);
    uint64_t size_bytes;
    bool may_return = sim_net_fault_count(SIM_FAULT_LATE) > 0;
    place = world_enter();
    code = upload_status(place->node.registry, push.repo, &push.id, &size_bytes, &err);
    if (world_leave(place) && code == ERR_OK)
        sim_check(may_return, "a cancelled upload is still there");
}

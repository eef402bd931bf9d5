/*
 * The world of a schedule: a bucket, two nodes that crash and come back, contents to push, and clients that do one
 * operation after the other on whichever node they meet.
 *
 * A client brackets each request: world_enter gives a node that is up, world_leave says whether the client heard the
 * answer. It did not when the node crashed meanwhile; what the code under test returned is then of no meaning.
 */
#ifndef ORLOP_TESTS_SIM_WORLD_H
#define ORLOP_TESTS_SIM_WORLD_H

#include "registry/manifest.h"
#include "registry/upload.h"
#include "sim_node.h"
#include "sim_sched.h"
#include "sim_truth.h"

#define WORLD_PLACES 2
#define WORLD_REPOS 3 /* the last may not be read by those who mount without naming a source */
#define WORLD_TAGS 3
#define WORLD_CONTENTS 7
#define WORLD_MANIFESTS_MAX 64

enum world_counter {
    COUNT_REQUESTS,
    COUNT_FAULTS,
    COUNT_LATE,
    COUNT_CRASHES,
    COUNT_UNHEARD,
    COUNT_PUSHES,
    COUNT_RESUMES,
    COUNT_SESSIONS_LOST,
    COUNT_BLOB_READS,
    COUNT_MOUNTS,
    COUNT_BLOB_DELETES,
    COUNT_CANCELS,
    COUNT_MANIFEST_PUTS,
    COUNT_TAG_MOVES,
    COUNT_MISMATCHES,
    COUNT_MANIFEST_READS,
    COUNT_TAG_DELETES,
    COUNT_MANIFEST_DELETES,
    COUNT_LISTS,
    COUNT_CHECKS,
    WORLD_COUNTERS
};
extern const char *const world_counter_names[];

/* Where a node runs: after a crash another one does. */
struct place {
    struct sim_node node;
    bool is_up;
    unsigned users;
};

struct content {
    char *bytes;
    size_t len;
    struct digest digest;
};

/* A manifest that was made up; its bytes are its own. */
struct made_manifest {
    const struct repo_name *repo;
    char text[1024];
    struct digest digest;
    bool has_subject;
    struct digest subject;
    bool has_blob;
    struct digest blob;
    struct sim_moment acknowledged; /* order 0: never */
    bool is_delete_asked;
    unsigned pushers, deleters; /* at work on it */
};

struct world {
    struct sim_bucket *bucket;
    struct sim_bucket_ways ways;
    struct sim_node_settings node;
    struct place places[WORLD_PLACES];
    struct repo_name repos[WORLD_REPOS];
    struct tag_name tags[WORLD_TAGS];
    struct content contents[WORLD_CONTENTS];
    struct digest subjects[2];
    struct made_manifest manifests[WORLD_MANIFESTS_MAX];
    size_t manifest_count;
    bool has_blob[WORLD_REPOS][WORLD_CONTENTS]; /* somebody was told so, once */
    bool has_tag[WORLD_REPOS][WORLD_TAGS];
    unsigned clients; /* at work */
    bool is_over;     /* for the tasks that end only then */
};

extern struct world world;

/* Make bucket, contents and nodes; what varies from schedule to schedule is chosen here. */
void world_begin(void);
void world_end(void);

/* ---- nodes ---- */

/* A place whose node is up, any. */
struct place *world_enter(void);
/* false: the node crashed meanwhile, the client heard nothing. */
bool world_leave(struct place *place);
/* Crash the node, wait for its users, close it, and open another after a while. */
void world_restart(struct place *place, uint64_t down_ms);

/* Did the store's faults cause it? Then the client knows nothing, and asks again. */
bool world_is_transient(enum err_code code);

/* What went wrong, for sim_fail. */
const char *world_error(const struct err *err);

/* ---- what clients do: each checks what it is told ---- */

const struct repo_name *world_repo(void);
const struct content *world_content(void);
/* Any; mostly one of those that somebody was told to be there. */
void world_any_blob(const struct repo_name **out_repo, const struct content **out_content);
void world_any_tag(const struct repo_name **out_repo, const struct tag_name **out_tag);
void world_note_blob(const struct repo_name *repo, const struct digest *digest);
void world_note_tag(const struct repo_name *repo, const struct tag_name *tag);

void world_push_blob(void);
void world_push_blob_together(void); /* two clients write to one session */
void world_push_rivals(void);        /* two with different bytes */
void world_cancel_upload(void);
void world_read_blob(void);
void world_mount_blob(void);
void world_delete_blob(void);
void world_put_manifest(void);
void world_read_tag(void);
void world_read_manifest(void);
void world_delete_tag(void);
void world_delete_manifest(void);
void world_list_referrers(void);
void world_list_tags(void);
void world_expire_uploads(void);

/* One read, used at the end as well: fails unless the blob is there, whole. */
void world_expect_blob(struct registry *registry, const struct repo_name *repo, const struct digest *digest);

#endif

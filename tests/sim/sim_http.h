/*
 * The network between nodes and the bucket: an s3_http.h (linked in place of s3_http.c) that hands each request to a
 * sim_bucket, after a while, and answers after another while, unless a fault is chosen for it.
 *
 * A node is a process that serves the bucket. Its number is in the host of its endpoint ("http://node-7.sim"), so one
 * program can hold several. A node that crashed never comes back: all its requests fail from then on, and those under
 * way may have been applied or not. A restart is a new node.
 *
 *     request ──► [may be lost] ──wait──► applied to the bucket ──wait──► [answer may be lost] ──► caller
 *                                            ▲
 *               a late one ──────────────────┘ at any time, also after its caller gave up
 */
#ifndef ORLOP_TESTS_SIM_HTTP_H
#define ORLOP_TESTS_SIM_HTTP_H

#include "sim_bucket.h"

enum sim_fault {
    SIM_FAULT_NONE,
    SIM_FAULT_UNSENT,         /* no connection */
    SIM_FAULT_RESET_BEFORE,   /* the connection broke, not applied */
    SIM_FAULT_RESET_AFTER,    /* the connection broke, but it was applied */
    SIM_FAULT_TIMEOUT_BEFORE, /* no answer in time, not applied */
    SIM_FAULT_TIMEOUT_AFTER,  /* no answer in time, but it was applied */
    SIM_FAULT_LATE,           /* no answer in time; applied at some time, perhaps after the caller gave up */
    SIM_FAULT_SLOW,           /* the answer takes long */
    SIM_FAULT_CONFLICT,       /* 409 to a conditional write, not applied; else as SIM_FAULT_SLOWDOWN */
    SIM_FAULT_SLOWDOWN,       /* 503 SlowDown, not applied */
    SIM_FAULT_ERROR_BEFORE,   /* 500 InternalError, not applied */
    SIM_FAULT_ERROR_AFTER,    /* 500 InternalError, but it was applied */
    SIM_FAULT_TORN_REQUEST,   /* 400 IncompleteBody; without a body as SIM_FAULT_SLOWDOWN */
    SIM_FAULT_TORN_ANSWER,    /* applied; the answer's body ends early */
    SIM_FAULT_COUNT
};

#define SIM_NODES_MAX 64 /* of one run, restarts included */

struct sim_net_settings {
    struct sim_bucket *bucket;
    bool has_delays;                   /* requests take (virtual) time and so overtake each other */
    unsigned faults_of_10000;          /* how often any fault is chosen */
    unsigned weights[SIM_FAULT_COUNT]; /* which one, by weight; that of SIM_FAULT_NONE is not used */
    uint32_t late_ms_max;              /* how late SIM_FAULT_LATE is at most */
};

/* Begin with no nodes. settings are copied. No late request may be under way. */
void sim_net_begin(const struct sim_net_settings *settings);
/* Faults on or off from now on. */
void sim_net_set_faults(unsigned faults_of_10000);
/* A new node's number. */
unsigned sim_net_node(void);
/* "http://node-N.sim" */
void sim_net_endpoint(unsigned node, char *out, size_t out_bytes);
void sim_net_crash(unsigned node);
bool sim_net_is_down(unsigned node);
/* Of this node's requests, the nth from now (1: the next) meets this fault. One at a time; the node may be yet to come. */
void sim_net_script(unsigned node, unsigned nth, enum sim_fault fault);
/* The node crashes when its nth request from now is under way. */
void sim_net_script_crash(unsigned node, unsigned nth);
/* Requests of all nodes so far. */
uint64_t sim_net_request_count(void);
uint64_t sim_net_fault_count(enum sim_fault fault);
/* Late requests that are still to be applied. */
unsigned sim_net_late_count(void);
/* Is what the bucket's watch is told of right now a request that its caller gave up? */
bool sim_net_is_late(void);

const char *sim_fault_name(enum sim_fault fault);

#endif

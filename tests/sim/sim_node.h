/*
 * A node: what one process of orlop holds of a bucket. Opened, used by tasks, closed; or crashed, and then closed when
 * its tasks have come to their ends.
 */
#ifndef ORLOP_TESTS_SIM_NODE_H
#define ORLOP_TESTS_SIM_NODE_H

#include "registry/registry.h"
#include "sim_http.h"
#include "store/s3.h"

struct sim_node {
    unsigned number; /* in the network; another after each restart */
    struct s3_credentials *credentials;
    struct store *store;
    struct registry *registry; /* NULL when only the store was asked for */
};

struct sim_node_settings {
    struct s3_settings store; /* target and credentials are filled in */
    bool with_registry;
    struct registry_settings registry;
};

/* A small node: few senders, little part memory, quick to give up. */
struct sim_node_settings sim_node_settings_small(void);

/* Open a new node of the network. On failure nothing is left. */
must_check enum err_code sim_node_open(const struct sim_node_settings *settings, struct sim_node *out, struct err *err);
/* Nobody uses it any more. A closed one is fine. */
void sim_node_close(struct sim_node *node);

#endif

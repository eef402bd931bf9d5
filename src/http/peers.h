/* How many connections each address has. Threads: any. */
#ifndef ORLOP_HTTP_PEERS_H
#define ORLOP_HTTP_PEERS_H

#include <stdbool.h>
#include <sys/socket.h>

struct peers;

/* count_max 0: no limit. NULL: no memory. */
struct peers *peers_new(unsigned count_max);
void peers_free(struct peers *peers);
/* Count one more connection from address. false: it has as many as it may, and was not counted. */
bool peers_add(struct peers *peers, const struct sockaddr *address);
void peers_remove(struct peers *peers, const struct sockaddr *address);

#endif

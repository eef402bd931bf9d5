#include "http/peers.h"

#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 1024

struct peer {
    struct peer *next;
    struct in6_addr address;
    unsigned count;
};

struct peers {
    unsigned count_max;
    pthread_mutex_t lock;
    struct peer *buckets[BUCKETS];
};

struct peers *peers_new(unsigned count_max)
{
    struct peers *peers = calloc(1, sizeof(*peers));
    if (peers) {
        peers->count_max = count_max;
        pthread_mutex_init(&peers->lock, NULL);
    }
    return peers;
}

void peers_free(struct peers *peers)
{
    if (!peers)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        assert(!peers->buckets[i]);
    pthread_mutex_destroy(&peers->lock);
    free(peers);
}

/* One form for both families; false for others, which are not counted. */
static bool peer_address(const struct sockaddr *address, struct in6_addr *out)
{
    if (address->sa_family == AF_INET6) {
        *out = ((const struct sockaddr_in6 *) (const void *) address)->sin6_addr;
        return true;
    }
    if (address->sa_family != AF_INET)
        return false;
    memset(out, 0, sizeof(*out));
    out->s6_addr[10] = 0xff;
    out->s6_addr[11] = 0xff;
    memcpy(&out->s6_addr[12], &((const struct sockaddr_in *) (const void *) address)->sin_addr, 4);
    return true;
}

/* The link to the address's entry, or to the end of its bucket. */
static struct peer **peers_find(struct peers *peers, const struct in6_addr *address)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < sizeof(address->s6_addr); i++)
        hash = (hash ^ address->s6_addr[i]) * 16777619u;
    struct peer **link = &peers->buckets[hash % BUCKETS];
    while (*link && memcmp(&(*link)->address, address, sizeof(*address)) != 0)
        link = &(*link)->next;
    return link;
}

bool peers_add(struct peers *peers, const struct sockaddr *address)
{
    struct in6_addr key;
    if (peers->count_max == 0 || !peer_address(address, &key))
        return true;

    pthread_mutex_lock(&peers->lock);
    struct peer **link = peers_find(peers, &key);
    if (!*link && (*link = calloc(1, sizeof(**link))))
        (*link)->address = key;
    bool fits = *link && (*link)->count < peers->count_max;
    if (fits)
        (*link)->count++;
    pthread_mutex_unlock(&peers->lock);
    return fits;
}

void peers_remove(struct peers *peers, const struct sockaddr *address)
{
    struct in6_addr key;
    if (peers->count_max == 0 || !peer_address(address, &key))
        return;

    pthread_mutex_lock(&peers->lock);
    struct peer **link = peers_find(peers, &key);
    assert(*link && (*link)->count > 0);
    if (--(*link)->count == 0) {
        struct peer *peer = *link;
        *link = peer->next;
        free(peer);
    }
    pthread_mutex_unlock(&peers->lock);
}

/* What net.c and net_sweep.c (the clocks) share. */
#ifndef ORLOP_HTTP_NET_PRIV_H
#define ORLOP_HTTP_NET_PRIV_H

#include "http/linger.h"
#include "http/net.h"

#include <pthread.h>
#include <stdatomic.h>

#define NET_SWEEP_MS 250

struct MHD_Connection;
struct MHD_Daemon;
struct peers;

/* A client's socket. Belongs to its thread; mhd is what other threads may use, in net_resume. */
struct net_connection {
    struct net_connection *next;
    struct net_connection **link; /* what points here */
    struct net_thread *thread;
    struct MHD_Connection *mhd;
    struct exchange *exchange;
    const char *method;
    const char *version;
    const char *uri; /* where libmicrohttpd had the target; only compared */
    int fd;
    enum net_phase phase;
    bool suspended;       /* until the step after net_resume */
    bool closing;         /* told to close by itself soon */
    bool counted;         /* in peers */
    uint64_t phase_ms;    /* since when it is in this phase */
    uint64_t progress_ms; /* when the client last did something */
    uint64_t window_ms;   /* since when window_bytes counts body bytes; in NET_REPLY, bytes the client confirmed */
    uint64_t window_bytes;
    char *pool;      /* the library's memory for it; NULL: not known */
    bool pool_given; /* its zero pages were given back since the last request */
};

struct net_thread {
    struct net *net;
    struct MHD_Daemon *daemon;
    pthread_t thread;
    bool started;
    bool quiesced;
    int wake_fd; /* an eventfd; readable: look after resumed connections, or stop */
    _Atomic bool woken;
    _Atomic bool stop;
    struct net_connection *connections;
    uint64_t swept_ms;
    uint64_t lingered_ms;
    struct linger_list lingering;
};

struct net {
    struct engine *engine;
    struct peers *peers;
    bool tls;
    struct buf certificate;
    struct buf key;
    _Atomic unsigned connections;
    unsigned thread_count;
    struct net_thread threads[];
};

/* Look at a connection's clock. Called every NET_SWEEP_MS. */
void net_sweep(struct net_connection *connection, uint64_t now_ms);

/* End the connection's bytes both ways; the library finds out. */
void net_cut(struct net_connection *connection);
/* Let the library close the connection after a second of silence. */
void net_close_when_silent(struct net_connection *connection);
/* Give an idle connection's memory back. */
void net_give_pool_back(struct net_connection *connection);

#endif

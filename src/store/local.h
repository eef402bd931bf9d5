/*
 * The local driver: the store's keys as files below one directory, held by one server at a time.
 *
 *     DIR/orlop.json          {"format": 1, "secret": "…"}: unknown format or broken → refuses to open
 *     DIR/lock                flock'ed by the server; says who holds it
 *     DIR/tmp/                files being written; emptied at open
 *     DIR/blobs/<alg>/<pp>/<hex>   and every other key of storage's design, as it is
 *     DIR/uploads/<id>/record      the last checkpoint's record
 *     DIR/uploads/<id>/data        the bytes
 *
 * All paths are opened relative to one descriptor of DIR. Before a write, and when something is missing, the driver
 * checks that DIR still is that directory, so a
 * vanished mount is ERR_STORE_GONE, never "not found" and never a new tree on the disk below; when it is back (or a
 * directory with the same secret is) work goes on.
 */
#ifndef ORLOP_STORE_LOCAL_H
#define ORLOP_STORE_LOCAL_H

#include "store/store.h"

enum local_access {
    LOCAL_EXCLUSIVE, /* a server: takes the lock (ERR_BUSY names the holder), makes DIR when missing */
    LOCAL_BESIDE,    /* a tool beside a server: no lock, nothing made; ERR_NOT_FOUND when DIR is no store */
};

must_check enum err_code local_store_open(const char *dir, enum local_access access, struct store **out,
                                          struct err *err);

/* Tell whoever finds the lock taken where this server listens ("127.0.0.1:5000"). Best effort. */
void local_store_announce(struct store *store, const char *listen);

#endif

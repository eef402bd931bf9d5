/* The server's two engines, and what /readyz remembers. */
#ifndef ORLOP_HTTP_SERVER_PRIV_H
#define ORLOP_HTTP_SERVER_PRIV_H

#include "http/engine.h"

/* Only the admin listener's one worker looks at it. */
struct ready_probe {
    bool done;
    uint64_t at_ms;
    enum err_code code;
    char reason[ERR_MESSAGE_BYTES_MAX];
};

struct http_server {
    struct engine *api;
    struct engine *admin; /* NULL: none */
    struct ready_probe probe;
    _Atomic bool draining;
};

bool http_server_is_draining(const struct http_server *server);

#endif

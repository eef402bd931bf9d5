/* Listening sockets. */
#ifndef ORLOP_HTTP_LISTEN_H
#define ORLOP_HTTP_LISTEN_H

#include "base/err.h"

/*
 * Listen on "ADDR:PORT", "NAME:PORT", "[V6]:PORT" or ":PORT" (all addresses). The socket does not block. ERR_INVALID.
 */
must_check enum err_code listen_open(const char *where, int *out_fd, unsigned *out_port, struct err *err);

#endif

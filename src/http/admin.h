/*
 * The admin listener's endpoints: /healthz (the process is alive), /readyz (it can serve: the store answers and it is
 * not draining; and whether other nodes may write to the store too), /metrics (Prometheus text).
 */
#ifndef ORLOP_HTTP_ADMIN_H
#define ORLOP_HTTP_ADMIN_H

#include "http/request.h"

/* As route_find. */
must_check enum err_code admin_route(struct request *request, struct str path, char *storage, const char **out_allow,
                                     struct err *err);

#endif

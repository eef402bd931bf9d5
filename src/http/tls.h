/*
 * What TLS needs beyond libmicrohttpd: checking a certificate and its key before listening, and writing to a session
 * directly. Only tls.c knows GnuTLS.
 */
#ifndef ORLOP_HTTP_TLS_H
#define ORLOP_HTTP_TLS_H

#include "base/buf.h"
#include "base/err.h"

/* Do the PEM texts hold a certificate chain and its key? ERR_INVALID. */
must_check enum err_code tls_check_pair(struct str certificate, struct str key, struct err *err);
/* Write all of bytes to a GnuTLS session whose socket does not block. false: it did not take them all. */
must_check bool tls_send(void *session, struct str bytes);

#endif

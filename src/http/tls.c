#include "http/tls.h"

#include <gnutls/gnutls.h>
#include <limits.h>

enum err_code tls_check_pair(struct str certificate, struct str key, struct err *err)
{
    gnutls_certificate_credentials_t credentials;

    if (certificate.len > UINT_MAX || key.len > UINT_MAX)
        return err_set(err, ERR_INVALID, "the TLS certificate or key is too long");
    int failed = gnutls_certificate_allocate_credentials(&credentials);
    if (failed < 0)
        return err_set(err, ERR_NO_MEMORY, "TLS: %s", gnutls_strerror(failed));
    gnutls_datum_t certificate_datum = {(unsigned char *) (uintptr_t) certificate.ptr, (unsigned) certificate.len};
    gnutls_datum_t key_datum = {(unsigned char *) (uintptr_t) key.ptr, (unsigned) key.len};
    failed = gnutls_certificate_set_x509_key_mem(credentials, &certificate_datum, &key_datum, GNUTLS_X509_FMT_PEM);
    gnutls_certificate_free_credentials(credentials);
    if (failed < 0)
        return err_set(err, ERR_INVALID, "the TLS certificate and key cannot be used: %s", gnutls_strerror(failed));
    return ERR_OK;
}

bool tls_send(void *session, struct str bytes)
{
    while (bytes.len > 0) {
        ssize_t n = gnutls_record_send(session, bytes.ptr, bytes.len);
        if (n == GNUTLS_E_INTERRUPTED)
            continue;
        if (n <= 0)
            return false;
        bytes.ptr += n;
        bytes.len -= (size_t) n;
    }
    return true;
}

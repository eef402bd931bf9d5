/*
 * Who may do what: HTTP Basic against an htpasswd file (bcrypt, by crypt_r), or open to all.
 *
 * If any operation may need credentials, an unauthenticated ping must be 401: clients decide there. An empty user and
 * password (skopeo sends them) count as anonymous. A password hash takes tens of milliseconds, so it runs on a worker,
 * and a verified pair is remembered (as a keyed hash, bounded, for AUTH_REMEMBER_MS) so that later requests are
 * answered at once. Threads: any.
 */
#ifndef ORLOP_HTTP_AUTH_H
#define ORLOP_HTTP_AUTH_H

#include "base/buf.h"
#include "base/err.h"

#define AUTH_REMEMBER_MS (5 * 60 * 1000)
#define AUTH_REMEMBER_MAX 1024
#define AUTH_USER_CHARS_MAX 255

struct auth;

enum auth_anonymous { AUTH_ANONYMOUS_NONE, AUTH_ANONYMOUS_PULL };

enum auth_verdict {
    AUTH_ANONYMOUS, /* no credentials, or empty ones */
    AUTH_USER,      /* verified; the user's name is filled in */
    AUTH_WRONG,     /* credentials that are not right */
    AUTH_ASK_WORKER /* only from auth_check_fast: the password must be hashed */
};

/* htpasswd_path "" or NULL: everyone may do everything. ERR_INVALID names file and line. */
must_check enum err_code auth_new(const char *htpasswd_path, enum auth_anonymous anonymous, struct auth **out,
                                  struct err *err);
/* Read the file again (SIGHUP); on error the old one stays. */
must_check enum err_code auth_reload(struct auth *auth, struct err *err);
void auth_free(struct auth *auth);

/* Judge an Authorization header's value (ptr NULL: none). out_user has AUTH_USER_CHARS_MAX + 1 bytes. */
enum auth_verdict auth_check_fast(struct auth *auth, struct str authorization, char *out_user);
enum auth_verdict auth_check_slow(struct auth *auth, struct str authorization, char *out_user);

/* Is the operation allowed? pull: GET and HEAD of content; ping is asked with ping = true. */
bool auth_allows(const struct auth *auth, enum auth_verdict verdict, bool pull, bool ping);
/* true: everyone may do everything; nothing else need be asked. */
bool auth_is_open(const struct auth *auth);

#endif

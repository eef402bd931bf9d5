#include "http/auth.h"

#include "base/clock.h"
#include "base/fs.h"
#include "digest/hash.h"
#include "http/field.h"

#include <assert.h>
#include <crypt.h>
#include <fcntl.h>
#include <pthread.h>

#define AUTH_FILE_BYTES_MAX (4 * 1024 * 1024)
#define AUTH_PASSWORD_BYTES_MAX 512
#define AUTH_PAIR_BYTES (AUTH_USER_CHARS_MAX + 1 + AUTH_PASSWORD_BYTES_MAX + 1)
#define AUTH_KEY_BYTES 32
#define FINGERPRINT_BYTES 32

#define BCRYPT_CHARS 60 /* "$2b$", two digits of cost, '$', 22 characters of salt, 31 of hash */
#define BCRYPT_COST_MIN 4
#define BCRYPT_COST_MAX 17 /* each step doubles the time; 17 takes about ten seconds */

/* A fingerprint may stand in one of the slots of its set; the one that ends first makes room. */
#define REMEMBER_SLOTS 8
#define REMEMBER_SETS (AUTH_REMEMBER_MAX / REMEMBER_SLOTS)

struct auth_user {
    char name[AUTH_USER_CHARS_MAX + 1];
    char hash[BCRYPT_CHARS + 1];
    unsigned line;
};

struct auth_users {
    struct auth_user *items; /* sorted by name */
    size_t count;
    char unknown[BCRYPT_CHARS + 1]; /* what the passwords of unknown users are hashed with: it costs the same time */
};

/* A pair that was right, as a keyed hash. */
struct remembered {
    uint8_t fingerprint[FINGERPRINT_BYTES];
    uint64_t until_ms; /* 0: free */
};

struct auth {
    char *path; /* NULL: open to all */
    enum auth_anonymous anonymous;
    uint8_t key[AUTH_KEY_BYTES]; /* of the fingerprints; this process's own */

    pthread_mutex_t mutex; /* guards what follows; never held while a password is hashed */
    struct auth_users users;
    uint64_t generation; /* of users */
    struct remembered remembered[REMEMBER_SETS][REMEMBER_SLOTS];
};

/* ---- the file ---- */

static void users_free(struct auth_users *users)
{
    cleanup_mem(&users->items);
    users->count = 0;
}

static int user_compare(const void *a, const void *b)
{
    return strcmp(((const struct auth_user *) a)->name, ((const struct auth_user *) b)->name);
}

static bool is_bcrypt(struct str hash)
{
    static const char alphabet[] = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    if (hash.len != BCRYPT_CHARS)
        return false;
    if (!str_starts(hash, STR("$2a$")) && !str_starts(hash, STR("$2b$")) && !str_starts(hash, STR("$2y$")))
        return false;
    uint64_t cost;
    if (!str_parse_u64((struct str){hash.ptr + 4, 2}, &cost) || cost < BCRYPT_COST_MIN || cost > BCRYPT_COST_MAX)
        return false;
    if (hash.ptr[6] != '$')
        return false;
    for (size_t i = 7; i < hash.len; i++)
        if (hash.ptr[i] == '\0' || !strchr(alphabet, hash.ptr[i]))
            return false;
    return true;
}

/* What a hash that we do not take looks like. */
static const char *hash_kind(struct str hash)
{
    static const struct {
        const char *prefix;
        const char *kind;
    } kinds[] = {
        {"$2", "a bcrypt form or cost that is not accepted"},
        {"$apr1$", "MD5"},
        {"$1$", "MD5"},
        {"{SHA}", "SHA-1"},
        {"$5$", "SHA-256"},
        {"$6$", "SHA-512"},
        {"$y$", "yescrypt"},
        {"$argon2", "argon2"},
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (str_starts(hash, str_from(kinds[i].prefix)))
            return kinds[i].kind;
    return "something else, or nothing";
}

static enum err_code parse_line(struct str line, const char *path, unsigned number, struct auth_user *out,
                                struct err *err)
{
    const char *colon = memchr(line.ptr, ':', line.len);
    struct str name = {line.ptr, colon ? (size_t) (colon - line.ptr) : 0};
    if (name.len == 0)
        return err_set(err, ERR_INVALID, "%s:%u: the line is not 'user:hash'", path, number);
    if (name.len > AUTH_USER_CHARS_MAX)
        return err_set(err, ERR_INVALID, "%s:%u: the user's name is longer than %d bytes", path, number,
                       AUTH_USER_CHARS_MAX);
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char) name.ptr[i] < ' ' || name.ptr[i] == 0x7F)
            return err_set(err, ERR_INVALID, "%s:%u: the user's name has a control character", path, number);

    struct str hash = {colon + 1, line.len - name.len - 1};
    if (!is_bcrypt(hash))
        return err_set(err, ERR_INVALID,
                       "%s:%u: the password of '%.*s' is hashed by %s; only bcrypt with a cost of %d to %d is "
                       "accepted: set it with 'htpasswd -B'",
                       path, number, (int) name.len, name.ptr, hash_kind(hash), BCRYPT_COST_MIN, BCRYPT_COST_MAX);
    memcpy(out->name, name.ptr, name.len);
    out->name[name.len] = '\0';
    memcpy(out->hash, hash.ptr, hash.len);
    out->hash[hash.len] = '\0';
    out->line = number;
    return ERR_OK;
}

/* Cut the next line off rest; white space at its end (CR of a foreign editor) is dropped. */
static struct str next_line(struct str *rest)
{
    const char *end = memchr(rest->ptr, '\n', rest->len);
    struct str line = {rest->ptr, end ? (size_t) (end - rest->ptr) : rest->len};
    size_t step = line.len + (end ? 1 : 0);
    *rest = (struct str){rest->ptr + step, rest->len - step};
    while (line.len > 0 && strchr("\r\t ", line.ptr[line.len - 1]))
        line.len--;
    return line;
}

/* Sort, refuse doubles, and let unknown users cost what the most expensive known one does. */
static enum err_code users_finish(struct auth_users *users, const char *path, struct err *err)
{
    static const char any_salt[] = "$2b$10$abcdefghijklmnopqrstuu";
    memcpy(users->unknown, any_salt, sizeof(any_salt));
    if (users->count == 0)
        return ERR_OK;
    qsort(users->items, users->count, sizeof(users->items[0]), user_compare);
    const char *cost = users->items[0].hash + 4;
    for (size_t i = 1; i < users->count; i++) {
        const struct auth_user *user = &users->items[i];
        if (strcmp(user[-1].name, user->name) == 0)
            return err_set(err, ERR_INVALID, "%s:%u: the user '%s' is there twice", path,
                           user->line > user[-1].line ? user->line : user[-1].line, user->name);
        if (memcmp(user->hash + 4, cost, 2) > 0)
            cost = user->hash + 4;
    }
    memcpy(users->unknown + 4, cost, 2);
    return ERR_OK;
}

static enum err_code users_parse(struct str text, const char *path, struct auth_users *out, struct err *err)
{
    size_t lines_max = 1;
    for (size_t i = 0; i < text.len; i++)
        lines_max += text.ptr[i] == '\n';
    cleanup(users_free) struct auth_users users = {.items = calloc(lines_max, sizeof(struct auth_user))};
    if (!users.items)
        return err_set(err, ERR_NO_MEMORY, "%s", err_info(ERR_NO_MEMORY)->text);

    for (unsigned number = 1; text.len > 0; number++) {
        struct str line = next_line(&text);
        if (line.len == 0 || line.ptr[0] == '#')
            continue;
        if (parse_line(line, path, number, &users.items[users.count], err))
            return err->code;
        users.count++;
    }
    if (users_finish(&users, path, err))
        return err->code;
    *out = users;
    users.items = NULL;
    return ERR_OK;
}

static enum err_code users_read(const char *path, struct auth_users *out, struct err *err)
{
    auto_buf text = BUF_INIT(AUTH_FILE_BYTES_MAX);
    if (fs_read_file(AT_FDCWD, path, &text, err)) {
        if (err->code == ERR_LIMIT)
            return err_set(err, ERR_INVALID, "%s: the file is longer than %d bytes", path, AUTH_FILE_BYTES_MAX);
        return err_set(err, ERR_INVALID, "%s: the file cannot be read: %s", path, strerror(err->sys_errno));
    }
    return users_parse(buf_str(&text), path, out, err);
}

/* ---- life ---- */

enum err_code auth_new(const char *htpasswd_path, enum auth_anonymous anonymous, struct auth **out, struct err *err)
{
    struct auth *auth = calloc(1, sizeof(*auth));
    if (!auth)
        return err_set(err, ERR_NO_MEMORY, "%s", err_info(ERR_NO_MEMORY)->text);
    auth->anonymous = anonymous;
    pthread_mutex_init(&auth->mutex, NULL);
    random_bytes(auth->key, sizeof(auth->key));
    if (htpasswd_path && htpasswd_path[0] != '\0') {
        auth->path = strdup(htpasswd_path);
        if (!auth->path)
            (void) err_set(err, ERR_NO_MEMORY, "%s", err_info(ERR_NO_MEMORY)->text);
        if (!auth->path || users_read(auth->path, &auth->users, err)) {
            auth_free(auth);
            return err->code;
        }
    }
    *out = auth;
    return ERR_OK;
}

void auth_free(struct auth *auth)
{
    if (!auth)
        return;
    users_free(&auth->users);
    pthread_mutex_destroy(&auth->mutex);
    free(auth->path);
    explicit_bzero(auth, sizeof(*auth));
    free(auth);
}

enum err_code auth_reload(struct auth *auth, struct err *err)
{
    struct auth_users users = {0};
    if (auth_is_open(auth))
        return ERR_OK;
    if (users_read(auth->path, &users, err))
        return err->code;
    pthread_mutex_lock(&auth->mutex);
    struct auth_users old = auth->users;
    auth->users = users;
    auth->generation++;
    memset(auth->remembered, 0, sizeof(auth->remembered));
    pthread_mutex_unlock(&auth->mutex);
    users_free(&old);
    return ERR_OK;
}

/* ---- remembered pairs; the mutex is held ---- */

static void fingerprint(const struct auth *auth, const char *pair, uint8_t *out)
{
    struct hash hash;
    struct digest digest;
    hash_init(&hash, DIGEST_SHA256);
    hash_update(&hash, auth->key, sizeof(auth->key));
    hash_update(&hash, pair, strlen(pair));
    hash_digest(&hash, &digest);
    memcpy(out, digest.raw, FINGERPRINT_BYTES);
    explicit_bzero(&hash, sizeof(hash)); /* its block holds the pair */
}

static struct remembered *remember_set(struct auth *auth, const uint8_t *print)
{
    return auth->remembered[(print[0] | (unsigned) print[1] << 8) % REMEMBER_SETS];
}

static bool is_remembered(struct auth *auth, const uint8_t *print)
{
    const struct remembered *set = remember_set(auth, print);
    uint64_t now_ms = clock_monotonic_ms();
    for (size_t i = 0; i < REMEMBER_SLOTS; i++)
        if (set[i].until_ms > now_ms && memcmp(set[i].fingerprint, print, FINGERPRINT_BYTES) == 0)
            return true;
    return false;
}

static void remember(struct auth *auth, const uint8_t *print)
{
    struct remembered *set = remember_set(auth, print);
    struct remembered *slot = &set[0];
    for (size_t i = 0; i < REMEMBER_SLOTS; i++) {
        if (memcmp(set[i].fingerprint, print, FINGERPRINT_BYTES) == 0) {
            slot = &set[i];
            break;
        }
        if (set[i].until_ms < slot->until_ms)
            slot = &set[i];
    }
    memcpy(slot->fingerprint, print, FINGERPRINT_BYTES);
    slot->until_ms = clock_monotonic_ms() + AUTH_REMEMBER_MS;
}

/* ---- judging ---- */

/* Compare every byte, wherever the first difference is. */
static bool equal_in_constant_time(const char *a, const char *b, size_t len)
{
    unsigned char difference = 0;
    for (size_t i = 0; i < len; i++)
        difference |= (unsigned char) (a[i] ^ b[i]);
    return difference == 0;
}

static bool password_matches(const char *password, const char *hash)
{
    struct crypt_data *data = calloc(1, sizeof(*data)); /* 32 KiB */
    if (!data)
        return false;
    const char *got = crypt_r(password, hash, data);
    bool matches = got && strlen(got) == BCRYPT_CHARS && equal_in_constant_time(got, hash, BCRYPT_CHARS);
    explicit_bzero(data, sizeof(*data));
    free(data);
    return matches;
}

/* A decoded header: "user\0password". */
struct credentials {
    char pair[AUTH_PAIR_BYTES];
    const char *password;
    uint8_t print[FINGERPRINT_BYTES];
};

static void cleanup_credentials(struct credentials *credentials)
{
    explicit_bzero(credentials, sizeof(*credentials));
}

/* AUTH_ASK_WORKER: there are credentials to be judged. */
static enum auth_verdict credentials_read(const struct auth *auth, struct str authorization, struct credentials *out)
{
    if (!authorization.ptr || auth_is_open(auth))
        return AUTH_ANONYMOUS;
    if (!field_basic_parse(authorization, out->pair, sizeof(out->pair)))
        return AUTH_WRONG;
    if (strcmp(out->pair, ":") == 0)
        return AUTH_ANONYMOUS;
    fingerprint(auth, out->pair, out->print);
    char *colon = strchr(out->pair, ':');
    assert(colon);
    *colon = '\0';
    out->password = colon + 1;
    if (strlen(out->pair) > AUTH_USER_CHARS_MAX)
        return AUTH_WRONG;
    return AUTH_ASK_WORKER;
}

enum auth_verdict auth_check_fast(struct auth *auth, struct str authorization, char *out_user)
{
    cleanup(cleanup_credentials) struct credentials credentials;
    enum auth_verdict verdict = credentials_read(auth, authorization, &credentials);
    if (verdict != AUTH_ASK_WORKER)
        return verdict;
    pthread_mutex_lock(&auth->mutex);
    bool known = is_remembered(auth, credentials.print);
    pthread_mutex_unlock(&auth->mutex);
    if (!known)
        return AUTH_ASK_WORKER;
    memcpy(out_user, credentials.pair, strlen(credentials.pair) + 1);
    return AUTH_USER;
}

enum auth_verdict auth_check_slow(struct auth *auth, struct str authorization, char *out_user)
{
    enum auth_verdict verdict = auth_check_fast(auth, authorization, out_user);
    if (verdict != AUTH_ASK_WORKER)
        return verdict;
    cleanup(cleanup_credentials) struct credentials credentials;
    verdict = credentials_read(auth, authorization, &credentials);
    assert(verdict == AUTH_ASK_WORKER);

    char hash[BCRYPT_CHARS + 1];
    struct auth_user wanted;
    memcpy(wanted.name, credentials.pair, strlen(credentials.pair) + 1);
    pthread_mutex_lock(&auth->mutex);
    const struct auth_user *user =
        auth->users.count > 0 ? bsearch(&wanted, auth->users.items, auth->users.count, sizeof(wanted), user_compare)
                              : NULL;
    bool exists = user != NULL;
    uint64_t generation = auth->generation;
    memcpy(hash, exists ? user->hash : auth->users.unknown, sizeof(hash));
    pthread_mutex_unlock(&auth->mutex);

    /* Unknown users pass through the same work, so that time does not tell who exists. */
    bool matches = password_matches(credentials.password, hash);
    if (!matches || !exists)
        return AUTH_WRONG;
    pthread_mutex_lock(&auth->mutex);
    if (generation == auth->generation) /* else the file has changed meanwhile: judge anew the next time */
        remember(auth, credentials.print);
    pthread_mutex_unlock(&auth->mutex);
    memcpy(out_user, credentials.pair, strlen(credentials.pair) + 1);
    return AUTH_USER;
}

bool auth_allows(const struct auth *auth, enum auth_verdict verdict, bool pull, bool ping)
{
    if (auth_is_open(auth))
        return true;
    switch (verdict) {
    case AUTH_USER:
        return true;
    case AUTH_ANONYMOUS: /* a ping that succeeds would make clients believe that they need no credentials */
        return auth->anonymous == AUTH_ANONYMOUS_PULL && pull && !ping;
    case AUTH_WRONG:
    case AUTH_ASK_WORKER:
        break;
    }
    return false;
}

bool auth_is_open(const struct auth *auth)
{
    return auth->path == NULL;
}

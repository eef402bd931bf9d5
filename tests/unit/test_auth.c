#include "base/clock.h"
#include "base/fs.h"
#include "http/auth.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

/* bcrypt hashes of the cheapest cost, so that tests are quick. */
#define HASH_SECRET "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"
#define HASH_CHANGED "$2b$04$abcdefghijklmnopqrstuu5XQl64I3WPWSJw.ftK7xXCrRn1r6QJi"
#define HASH_BOB "$2y$04$abcdefghijklmnopqrstuuad/dDqr5Vrcu4U9HaWbEGSL5Ob70rCu"
#define HASH_X "$2a$05$abcdefghijklmnopqrstuuhKF09ZYWwH2zP/0fwE1X8e/Q1YNx/hO"
#define HASH_EMPTY "$2b$04$abcdefghijklmnopqrstuubyCG3zY1GIXMyxfivm.ClDiInHzxjiq"

#define ALICE_SECRET STR("Basic YWxpY2U6c2VjcmV0")
#define ALICE_CHANGED STR("Basic YWxpY2U6Y2hhbmdlZA==")
#define ALICE_WRONG STR("Basic YWxpY2U6d3Jvbmc=")
#define ALICE_EMPTY STR("Basic YWxpY2U6")
#define BOB STR("Basic Ym9iOmJvYidzOiBsb25nIHDDpHNz") /* "bob's: long päss": a colon, a space, UTF-8 */
#define CAROL STR("Basic Y2Fyb2w6eA==")
#define NOBODY STR("Basic bm9ib2R5OnNlY3JldA==")
#define NO_USER STR("Basic OnNlY3JldA==")
#define EMPTY STR("Basic Og==")
#define NO_HEADER ((struct str){NULL, 0})

static const char users[] = "# users\n"
                            "alice:" HASH_SECRET "\n"
                            "\n"
                            "bob:" HASH_BOB "\r\n"
                            "carol:" HASH_X;

/* A file of users, and whoever judges by it. */
struct place {
    char path[64];
    struct auth *auth;
};

static void write_users(const struct place *place, const char *text)
{
    struct err err = ERR_INIT;
    assert_int_equal(fs_write_atomic(AT_FDCWD, "/tmp", place->path, str_from(text), FS_REPLACE, FS_VOLATILE, &err),
                     ERR_OK);
}

static int place_make(void **state)
{
    struct place *place = calloc(1, sizeof(*place));
    struct err err = ERR_INIT;
    assert_non_null(place);
    (void) snprintf(place->path, sizeof(place->path), "/tmp/orlop-auth-XXXXXX");
    fd_close(mkstemp(place->path));
    write_users(place, users);
    assert_int_equal(auth_new(place->path, AUTH_ANONYMOUS_NONE, &place->auth, &err), ERR_OK);
    *state = place;
    return 0;
}

static int place_remove(void **state)
{
    struct place *place = *state;
    auth_free(place->auth);
    (void) unlink(place->path);
    free(place);
    return 0;
}

static void test_right_credentials(void **state)
{
    struct place *place = *state;
    char user[AUTH_USER_CHARS_MAX + 1];
    assert_int_equal(auth_check_fast(place->auth, ALICE_SECRET, user), AUTH_ASK_WORKER);
    assert_int_equal(auth_check_slow(place->auth, ALICE_SECRET, user), AUTH_USER);
    assert_string_equal(user, "alice");
    /* Now it is remembered. */
    user[0] = '\0';
    assert_int_equal(auth_check_fast(place->auth, ALICE_SECRET, user), AUTH_USER);
    assert_string_equal(user, "alice");
    assert_int_equal(auth_check_slow(place->auth, BOB, user), AUTH_USER);
    assert_string_equal(user, "bob");
    assert_int_equal(auth_check_slow(place->auth, CAROL, user), AUTH_USER);
    assert_string_equal(user, "carol");
}

static void test_wrong_credentials(void **state)
{
    struct place *place = *state;
    char user[AUTH_USER_CHARS_MAX + 1];
    const struct str slow[] = {ALICE_WRONG, ALICE_EMPTY, NOBODY, NO_USER, ALICE_CHANGED};
    for (size_t i = 0; i < sizeof(slow) / sizeof(slow[0]); i++) {
        /* However often: what is wrong is never remembered as right. */
        for (int again = 0; again < 2; again++) {
            assert_int_equal(auth_check_fast(place->auth, slow[i], user), AUTH_ASK_WORKER);
            assert_int_equal(auth_check_slow(place->auth, slow[i], user), AUTH_WRONG);
        }
    }
    const struct str malformed[] = {
        STR(""), STR("Basic"), STR("Basic %%%"), STR("Bearer abc"), STR("Basic bm9jb2xvbg=="), STR("YWxpY2U6c2VjcmV0")};
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++)
        assert_int_equal(auth_check_fast(place->auth, malformed[i], user), AUTH_WRONG);
}

static void test_anonymous(void **state)
{
    struct place *place = *state;
    char user[AUTH_USER_CHARS_MAX + 1];
    assert_int_equal(auth_check_fast(place->auth, NO_HEADER, user), AUTH_ANONYMOUS);
    assert_int_equal(auth_check_fast(place->auth, EMPTY, user), AUTH_ANONYMOUS);
    assert_int_equal(auth_check_slow(place->auth, EMPTY, user), AUTH_ANONYMOUS);
}

static void test_long_credentials(void **state)
{
    struct place *place = *state;
    char user[AUTH_USER_CHARS_MAX + 1];
    char header[8192] = "Basic ";
    for (size_t len = 400; len < sizeof(header) - 1; len += 1796) {
        memset(header + 6, 'Y', len - 6); /* decodes to letters without a colon */
        header[len] = '\0';
        assert_int_equal(auth_check_fast(place->auth, str_from(header), user), AUTH_WRONG);
    }
    /* A user of 300 letters: "YWFh" is "aaa", "Ojo6" is ":::". */
    for (size_t i = 0; i < 100; i++)
        memcpy(header + 6 + 4 * i, "YWFh", 4);
    memcpy(header + 6 + 400, "Ojo6", 5);
    assert_int_equal(auth_check_fast(place->auth, str_from(header), user), AUTH_WRONG);
}

static void test_permissions(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    assert_false(auth_is_open(place->auth));
    assert_true(auth_allows(place->auth, AUTH_USER, false, false));
    assert_true(auth_allows(place->auth, AUTH_USER, false, true));
    assert_false(auth_allows(place->auth, AUTH_ANONYMOUS, true, false));
    assert_false(auth_allows(place->auth, AUTH_ANONYMOUS, false, true));
    assert_false(auth_allows(place->auth, AUTH_WRONG, true, false));

    struct auth *pull;
    assert_int_equal(auth_new(place->path, AUTH_ANONYMOUS_PULL, &pull, &err), ERR_OK);
    assert_true(auth_allows(pull, AUTH_ANONYMOUS, true, false));
    assert_false(auth_allows(pull, AUTH_ANONYMOUS, false, false));
    assert_false(auth_allows(pull, AUTH_ANONYMOUS, false, true)); /* the ping must ask for credentials */
    assert_false(auth_allows(pull, AUTH_ANONYMOUS, true, true));
    assert_false(auth_allows(pull, AUTH_WRONG, true, false));
    auth_free(pull);
}

static void test_open(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    char user[AUTH_USER_CHARS_MAX + 1];
    const char *const none[] = {NULL, ""};
    for (size_t i = 0; i < 2; i++) {
        struct auth *auth;
        assert_int_equal(auth_new(none[i], AUTH_ANONYMOUS_NONE, &auth, &err), ERR_OK);
        assert_true(auth_is_open(auth));
        assert_int_equal(auth_check_fast(auth, ALICE_SECRET, user), AUTH_ANONYMOUS);
        assert_true(auth_allows(auth, AUTH_ANONYMOUS, false, true));
        assert_int_equal(auth_reload(auth, &err), ERR_OK);
        auth_free(auth);
    }
}

static void test_reload(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    char user[AUTH_USER_CHARS_MAX + 1];
    assert_int_equal(auth_check_slow(place->auth, ALICE_SECRET, user), AUTH_USER);
    assert_int_equal(auth_check_slow(place->auth, BOB, user), AUTH_USER);

    /* A wrong file changes nothing. */
    write_users(place, "alice:" HASH_CHANGED "\nbroken\n");
    assert_int_equal(auth_reload(place->auth, &err), ERR_INVALID);
    assert_int_equal(auth_check_fast(place->auth, ALICE_SECRET, user), AUTH_USER);

    /* A right one does at once: what was remembered is forgotten. */
    write_users(place, "alice:" HASH_CHANGED "\n");
    assert_int_equal(auth_reload(place->auth, &err), ERR_OK);
    assert_int_equal(auth_check_slow(place->auth, ALICE_SECRET, user), AUTH_WRONG);
    assert_int_equal(auth_check_slow(place->auth, BOB, user), AUTH_WRONG);
    assert_int_equal(auth_check_slow(place->auth, ALICE_CHANGED, user), AUTH_USER);
}

static void test_a_user_with_an_empty_password(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    char user[AUTH_USER_CHARS_MAX + 1];
    write_users(place, "alice:" HASH_EMPTY "\n");
    assert_int_equal(auth_reload(place->auth, &err), ERR_OK);
    assert_int_equal(auth_check_slow(place->auth, ALICE_EMPTY, user), AUTH_USER);
    assert_int_equal(auth_check_slow(place->auth, ALICE_SECRET, user), AUTH_WRONG);
}

static void test_no_users(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    char user[AUTH_USER_CHARS_MAX + 1];
    write_users(place, "# nobody yet\n");
    assert_int_equal(auth_reload(place->auth, &err), ERR_OK);
    assert_false(auth_is_open(place->auth));
    assert_int_equal(auth_check_slow(place->auth, ALICE_SECRET, user), AUTH_WRONG);
}

static void test_wrong_files(void **state)
{
    struct place *place = *state;
    static const struct {
        const char *text;
        const char *message; /* behind "PATH:" */
    } rows[] = {
        {"alice\n", "1: the line is not 'user:hash'"},
        {"# c\n\n:" HASH_X "\n", "3: the line is not 'user:hash'"},
        {"a\tb:" HASH_X "\n", "1: the user's name has a control character"},
        {"alice:" HASH_X "\nbob:" HASH_X "\nalice:" HASH_BOB "\n", "3: the user 'alice' is there twice"},
        {"bob:$apr1$abc$def\n", "1: the password of 'bob' is hashed by MD5; only bcrypt"},
        {"bob:{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=\n", "1: the password of 'bob' is hashed by SHA-1; only bcrypt"},
        {"bob:$6$a$b\n", "1: the password of 'bob' is hashed by SHA-512; only bcrypt"},
        {"bob:$y$j9T$a$b\n", "1: the password of 'bob' is hashed by yescrypt; only bcrypt"},
        {"bob:plain\n", "1: the password of 'bob' is hashed by something else, or nothing; only bcrypt"},
        {"bob:\n", "1: the password of 'bob' is hashed by something else, or nothing; only bcrypt"},
        {"bob:$2b$31$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n",
         "1: the password of 'bob' is hashed by a bcrypt form or cost that is not accepted; only bcrypt"},
        {"bob:" HASH_X "x\n",
         "1: the password of 'bob' is hashed by a bcrypt form or cost that is not accepted; only bcrypt"},
        {"bob:$2x$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n",
         "1: the password of 'bob' is hashed by a bcrypt form or cost that is not accepted; only bcrypt"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err = ERR_INIT;
        struct auth *auth = NULL;
        char expected[ERR_MESSAGE_BYTES_MAX];
        write_users(place, rows[i].text);
        assert_int_equal(auth_new(place->path, AUTH_ANONYMOUS_NONE, &auth, &err), ERR_INVALID);
        (void) snprintf(expected, sizeof(expected), "%s:%s", place->path, rows[i].message);
        assert_memory_equal(err.message, expected, strlen(expected));
        assert_null(strstr(err.message, "$")); /* never a hash in a message */
    }
    struct err err = ERR_INIT;
    struct auth *auth = NULL;
    assert_int_equal(auth_new("/nonexistent/users", AUTH_ANONYMOUS_NONE, &auth, &err), ERR_INVALID);
    assert_string_equal(err.message, "/nonexistent/users: the file cannot be read: No such file or directory");
}

/* The processor's time, which other programs' load does not stretch. */
static uint64_t thread_time_us(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
    return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

static uint64_t time_of_check(struct auth *auth, struct str header)
{
    char user[AUTH_USER_CHARS_MAX + 1];
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 5; i++) {
        uint64_t start = thread_time_us();
        assert_int_equal(auth_check_slow(auth, header, user), AUTH_WRONG);
        uint64_t took = thread_time_us() - start;
        best = took < best ? took : best;
    }
    return best;
}

static void test_unknown_users_take_as_long_as_known_ones(void **state)
{
    struct place *place = *state;
    struct err err = ERR_INIT;
    /* Cost 8: some ten milliseconds, long beside everything else. */
    write_users(place, "alice:$2b$08$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n");
    assert_int_equal(auth_reload(place->auth, &err), ERR_OK);
    uint64_t known = time_of_check(place->auth, ALICE_WRONG);
    uint64_t unknown = time_of_check(place->auth, NOBODY);
    assert_true(unknown > known / 2 && unknown < known * 2);
}

static void *check_many(void *arg)
{
    char user[AUTH_USER_CHARS_MAX + 1];
    uintptr_t wrong = 0;
    for (int i = 0; i < 100; i++) {
        enum auth_verdict verdict = auth_check_fast(arg, BOB, user);
        if (verdict == AUTH_ASK_WORKER)
            verdict = auth_check_slow(arg, BOB, user);
        wrong += verdict != AUTH_USER || strcmp(user, "bob") != 0;
    }
    return (void *) wrong;
}

static void test_threads(void **state)
{
    enum { THREADS = 4 };
    struct place *place = *state;
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, check_many, place->auth), 0);
    for (int i = 0; i < 20; i++) {
        struct err err = ERR_INIT;
        assert_int_equal(auth_reload(place->auth, &err), ERR_OK);
        usleep(1000);
    }
    for (size_t i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

int main(void)
{
#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, place_make, place_remove)
    const struct CMUnitTest tests[] = {
        WITH_PLACE(test_right_credentials),
        WITH_PLACE(test_wrong_credentials),
        WITH_PLACE(test_anonymous),
        WITH_PLACE(test_long_credentials),
        WITH_PLACE(test_permissions),
        cmocka_unit_test(test_open),
        WITH_PLACE(test_reload),
        WITH_PLACE(test_a_user_with_an_empty_password),
        WITH_PLACE(test_no_users),
        WITH_PLACE(test_wrong_files),
        WITH_PLACE(test_unknown_users_take_as_long_as_known_ones),
        WITH_PLACE(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

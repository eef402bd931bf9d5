/*
 * The store contract's tests: every promise of store/store.h, run against any driver. A driver's own test program
 * fills in a struct suite_driver and calls store_suite_run; what only that driver promises it tests itself.
 *
 * One store serves all tests; each test must leave it as it found it, and fails when it does not.
 */
#ifndef ORLOP_TESTS_STORE_SUITE_H
#define ORLOP_TESTS_STORE_SUITE_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store.h"

struct suite_driver {
    const char *name;
    /* A fresh store that this process alone writes to. Fails the test if it cannot. */
    struct store *(*open)(void *arg);
    /* Close it and open what it kept, as a restart of the server does. */
    struct store *(*reopen)(void *arg, struct store *store);
    /* Close it and forget all it kept. */
    void (*close)(void *arg, struct store *store);
    void *arg;
    int thread_rounds;    /* of each thread in the tests that race; 0: as many as is usual */
    bool verifies_sha256; /* its store refuses bytes that are not those of their SHA-256 digest */
};

/* Run the suite as a cmocka group; returns the number of failures. */
int store_suite_run(const struct suite_driver *driver);

/* For drivers' own tests too. */
#define assert_ok(call) assert_int_equal((call), ERR_OK)

/* Assert what the store holds. */
void suite_assert_object(struct store *store, const char *key, struct str expected);
void suite_assert_missing(struct store *store, const char *key);
void suite_assert_blob(struct store *store, const struct digest *digest, struct str expected);
/* A digest that is of no particular bytes. Of SHA-512 for a driver whose store verifies SHA-256 itself. */
struct digest suite_digest(enum digest_algorithm algorithm);
/* Put bytes as a blob by way of an upload. */
void suite_blob_put(struct store *store, const struct digest *digest, struct str bytes);

#endif

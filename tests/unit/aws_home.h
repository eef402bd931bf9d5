/* A home directory of one's own, and an environment without AWS variables, for tests of what the AWS SDKs read. */
#ifndef ORLOP_TESTS_AWS_HOME_H
#define ORLOP_TESTS_AWS_HOME_H

#include "base/cleanup.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

extern char **environ;

static char aws_home[64];

static inline void aws_home_path(char *out, size_t out_bytes, const char *name)
{
    (void) snprintf(out, out_bytes, "%s/%s", aws_home, name);
}

static inline void aws_home_write(const char *name, const char *text)
{
    char path[256];
    aws_home_path(path, sizeof(path), name);
    FILE *file = fopen(path, "w");
    assert(file);
    (void) fputs(text, file);
    (void) fclose(file);
}

static inline void aws_home_set(const char *variable, const char *value)
{
    int failed = setenv(variable, value, 1);
    assert(!failed);
    (void) failed;
}

/* cmocka's setup and teardown of one test. */
static inline int aws_home_new(void **state)
{
    (void) state;
    for (char **entry = environ; *entry;) {
        char name[256];
        (void) snprintf(name, sizeof(name), "%.*s", (int) strcspn(*entry, "="), *entry);
        if (strncmp(name, "AWS_", 4) == 0) {
            (void) unsetenv(name);
            entry = environ;
        } else {
            entry++;
        }
    }
    (void) snprintf(aws_home, sizeof(aws_home), "/tmp/orlop-aws-XXXXXX");
    if (!mkdtemp(aws_home))
        return -1;
    char path[256];
    aws_home_path(path, sizeof(path), ".aws");
    aws_home_set("HOME", aws_home);
    return mkdir(path, 0700);
}

static inline int aws_home_remove(void **state)
{
    static const char *const names[] = {".aws/credentials", ".aws/config", "token", "other", ".aws", ""};
    (void) state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[256];
        aws_home_path(path, sizeof(path), names[i]);
        (void) remove(path);
    }
    return 0;
}

#endif

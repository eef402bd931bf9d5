/*
 * What every fuzz target is: one function over bytes from outside, asserting what its parser promises. libFuzzer calls
 * it with inputs of its own (`make fuzz`), replay.c with those of corpus/ (`make test`). Inputs are copied to memory of
 * their exact size before, so that the sanitizers see a parser that reads past its end.
 */
#ifndef ORLOP_FUZZ_H
#define ORLOP_FUZZ_H

#include "base/buf.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline struct str fuzz_text(const uint8_t *data, size_t size)
{
    return (struct str){(const char *) data, size};
}

/* Split the input of a target that takes two texts at its first newline; without one the second is empty. */
static inline void fuzz_split(struct str input, struct str *first, struct str *second)
{
    const char *newline = input.len > 0 ? memchr(input.ptr, '\n', input.len) : NULL;
    size_t len = newline ? (size_t) (newline - input.ptr) : input.len;
    *first = (struct str){input.ptr, len};
    *second = newline ? (struct str){newline + 1, input.len - len - 1} : (struct str){input.ptr + len, 0};
}

#endif

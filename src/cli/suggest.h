/*
 * "Did you mean …?"
 */
#ifndef ORLOP_CLI_SUGGEST_H
#define ORLOP_CLI_SUGGEST_H

#include "base/buf.h"

#define SUGGEST_WORD_BYTES_MAX 128 /* nothing is suggested for longer words */

/* The candidate that needs the fewest changed, missing, added or swapped characters; NULL when none is near enough. */
const char *suggest(struct str word, const char *const *candidates, size_t count);

#endif

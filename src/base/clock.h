/*
 * Time and randomness. Tests may shift the wall clock with clock_set_offset_for_tests; nothing else may.
 */
#ifndef ORLOP_BASE_CLOCK_H
#define ORLOP_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define UUID_TEXT_BYTES 37 /* 36 characters and the NUL */
#define TIME_TEXT_BYTES 32

/* Milliseconds since an arbitrary point, never going back: for timeouts and durations. */
uint64_t clock_monotonic_ms(void);
uint64_t clock_monotonic_us(void);
/* Milliseconds since 1970-01-01 UTC: for what is stored. */
uint64_t clock_wall_ms(void);
void clock_set_offset_for_tests(int64_t offset_ms);

/* RFC 3339 in UTC with milliseconds: 2026-01-31T23:59:59.123Z. out has TIME_TEXT_BYTES. */
void clock_format_rfc3339(uint64_t wall_ms, char *out);

/* Bytes from the kernel's generator; aborts if the kernel has none (it cannot happen after boot). */
void random_bytes(void *out, size_t len);
/* A version 4 UUID in lower case. out has UUID_TEXT_BYTES. */
void uuid_new(char *out);

#endif

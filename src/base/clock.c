#include "base/clock.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define NS_PER_US 1000ULL
#define US_PER_MS 1000ULL
#define MS_PER_S 1000ULL
#define US_PER_S (US_PER_MS * MS_PER_S)

static _Atomic int64_t clock_offset_ms;

static uint64_t clock_read_us(clockid_t id)
{
    struct timespec now;
    if (clock_gettime(id, &now) != 0)
        abort(); /* only an unknown clock id fails */
    return (uint64_t) now.tv_sec * US_PER_S + (uint64_t) now.tv_nsec / NS_PER_US;
}

uint64_t clock_monotonic_us(void)
{
    return clock_read_us(CLOCK_MONOTONIC);
}

uint64_t clock_monotonic_ms(void)
{
    return clock_monotonic_us() / US_PER_MS;
}

uint64_t clock_wall_ms(void)
{
    uint64_t now = clock_read_us(CLOCK_REALTIME) / US_PER_MS;
    return now + (uint64_t) atomic_load_explicit(&clock_offset_ms, memory_order_relaxed);
}

void clock_set_offset_for_tests(int64_t offset_ms)
{
    atomic_store_explicit(&clock_offset_ms, offset_ms, memory_order_relaxed);
}

void clock_format_rfc3339(uint64_t wall_ms, char *out)
{
    /* The last millisecond of the year 9999: RFC 3339 has four digits for the year. */
    const uint64_t last_ms = 253402300799999ULL;
    if (wall_ms > last_ms)
        wall_ms = last_ms;

    /* Logs ask for the same second again and again: each thread keeps the text of its last one. */
    static _Thread_local time_t last_seconds = -1;
    static _Thread_local char last[TIME_TEXT_BYTES];
    time_t seconds = (time_t) (wall_ms / MS_PER_S);
    if (seconds != last_seconds) {
        struct tm parts;
        gmtime_r(&seconds, &parts);
        (void) strftime(last, sizeof(last), "%Y-%m-%dT%H:%M:%S.000Z", &parts);
        last_seconds = seconds;
    }
    memcpy(out, last, sizeof(last));
    char *ms = out + strlen("YYYY-MM-DDTHH:MM:SS.");
    ms[0] = (char) ('0' + wall_ms % MS_PER_S / 100);
    ms[1] = (char) ('0' + wall_ms / 10 % 10);
    ms[2] = (char) ('0' + wall_ms % 10);
}

void random_bytes(void *out, size_t len)
{
    char *next = out;
    while (len > 0) {
        ssize_t got = getrandom(next, len, 0);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            abort();
        }
        next += got;
        len -= (size_t) got;
    }
}

void uuid_new(char *out)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char raw[16];
    random_bytes(raw, sizeof(raw));
    raw[6] = (unsigned char) ((raw[6] & 0x0F) | 0x40); /* version 4: random */
    raw[8] = (unsigned char) ((raw[8] & 0x3F) | 0x80); /* variant of RFC 9562 */

    for (size_t i = 0; i < sizeof(raw); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *out++ = '-';
        *out++ = hex[raw[i] >> 4];
        *out++ = hex[raw[i] & 0x0F];
    }
    *out = '\0';
}

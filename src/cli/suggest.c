#include "cli/suggest.h"

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The Damerau-Levenshtein distance (adjacent swaps only); three rows of its table suffice. */
static size_t distance(struct str a, struct str b)
{
    size_t rows[3][SUGGEST_WORD_BYTES_MAX + 1];
    for (size_t j = 0; j <= b.len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i + 2) % 3];
        const size_t *above_that = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t changed = above[j - 1] + (a.ptr[i - 1] != b.ptr[j - 1]);
            row[j] = least(changed, least(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a.ptr[i - 1] == b.ptr[j - 2] && a.ptr[i - 2] == b.ptr[j - 1])
                row[j] = least(row[j], above_that[j - 2] + 1);
        }
    }
    return rows[a.len % 3][b.len];
}

const char *suggest(struct str word, const char *const *candidates, size_t count)
{
    if (word.len == 0 || word.len > SUGGEST_WORD_BYTES_MAX)
        return NULL;
    const char *best = NULL;
    size_t best_distance = least(word.len / 3 + 1, 3) + 1;
    for (size_t i = 0; i < count; i++) {
        struct str candidate = str_from(candidates[i]);
        if (candidate.len > SUGGEST_WORD_BYTES_MAX)
            continue;
        size_t changes = distance(word, candidate);
        if (changes < best_distance) {
            best = candidates[i];
            best_distance = changes;
        }
    }
    return best;
}

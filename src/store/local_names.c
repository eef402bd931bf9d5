#include "store/local_names.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES 4076                   /* with its head and malloc's, a page */
#define MERGED_BYTES_MAX (BLOCK_BYTES / 2) /* room to grow again before it is split again */

/* Entries: a byte with the length, then the name. */
struct names_block {
    uint16_t used;
    uint16_t count;
    unsigned char bytes[BLOCK_BYTES];
};

/* Where a name stands, or belongs. */
struct place {
    size_t block;
    size_t offset;
    bool found;
};

static size_t entry_bytes(const unsigned char *entry)
{
    return 1 + (size_t) entry[0];
}

static int entry_compare(const unsigned char *entry, const char *name, size_t len)
{
    size_t common = entry[0] < len ? entry[0] : len;
    int order = memcmp(entry + 1, name, common);
    return order ? order : (entry[0] > len) - (entry[0] < len);
}

/* In the last block that begins with the name or before it; there is a block. */
static struct place find(const struct local_names *names, const char *name, size_t len)
{
    size_t low = 0, high = names->block_count; /* the block is in [low, high) */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (entry_compare(names->blocks[middle]->bytes, name, len) <= 0)
            low = middle;
        else
            high = middle;
    }
    const struct names_block *block = names->blocks[low];
    struct place place = {.block = low};
    int order = -1;
    while (place.offset < block->used && (order = entry_compare(block->bytes + place.offset, name, len)) < 0)
        place.offset += entry_bytes(block->bytes + place.offset);
    place.found = order == 0;
    return place;
}

static bool add_block(struct local_names *names, size_t at)
{
    if (names->block_count == names->block_cap) {
        size_t cap = names->block_cap ? 2 * names->block_cap : 16;
        struct names_block **blocks = realloc(names->blocks, cap * sizeof(*blocks));
        if (!blocks)
            return false;
        names->blocks = blocks;
        names->block_cap = cap;
    }
    struct names_block *block = malloc(sizeof(*block));
    if (!block)
        return false;
    block->used = block->count = 0;
    memmove(names->blocks + at + 1, names->blocks + at, (names->block_count - at) * sizeof(struct names_block *));
    names->blocks[at] = block;
    names->block_count++;
    return true;
}

static void remove_block(struct local_names *names, size_t at)
{
    free(names->blocks[at]);
    names->block_count--;
    memmove(names->blocks + at, names->blocks + at + 1, (names->block_count - at) * sizeof(struct names_block *));
}

/* Where to cut a full block before something is put at offset: in the middle, but names in order fill their blocks. */
static size_t cut_of(const struct names_block *block, size_t offset, size_t *out_count)
{
    size_t cut = 0, count = 0;
    size_t target = offset == 0 ? 0 : offset == block->used ? offset : block->used / 2U;
    for (; cut < target; count++)
        cut += entry_bytes(block->bytes + cut);
    *out_count = count;
    return cut;
}

/* Make room for bytes at place, which may move it into the next block. */
static bool make_room(struct local_names *names, struct place *place, size_t bytes)
{
    struct names_block *block = names->blocks[place->block];
    if (block->used + bytes <= BLOCK_BYTES)
        return true;
    size_t next = place->block + 1, count;
    if (place->offset == block->used && next < names->block_count && names->blocks[next]->used + bytes <= BLOCK_BYTES) {
        *place = (struct place){.block = next};
        return true;
    }
    if (!add_block(names, next))
        return false;
    struct names_block *upper = names->blocks[next];
    size_t cut = cut_of(block, place->offset, &count);
    upper->used = (uint16_t) (block->used - cut);
    upper->count = (uint16_t) (block->count - count);
    memcpy(upper->bytes, block->bytes + cut, upper->used);
    block->used = (uint16_t) cut;
    block->count = (uint16_t) count;
    if (place->offset > cut || (place->offset == cut && upper->count == 0))
        *place = (struct place){.block = next, .offset = place->offset - cut};
    return true;
}

bool local_names_add(struct local_names *names, const char *name)
{
    size_t len = strlen(name);
    assert(len > 0 && len <= LOCAL_NAME_BYTES_MAX);
    if (names->block_count == 0 && !add_block(names, 0))
        return false;
    struct place place = find(names, name, len);
    if (place.found)
        return true;
    if (!make_room(names, &place, 1 + len))
        return false;
    struct names_block *block = names->blocks[place.block];
    unsigned char *entry = block->bytes + place.offset;
    memmove(entry + 1 + len, entry, block->used - place.offset);
    entry[0] = (unsigned char) len;
    memcpy(entry + 1, name, len);
    block->used = (uint16_t) (block->used + 1 + len);
    block->count++;
    names->count++;
    return true;
}

/* Join block at with the next one where both are small, or names that go would leave many blocks of few names. */
static void merge(struct local_names *names, size_t at)
{
    if (at + 1 >= names->block_count)
        return;
    struct names_block *block = names->blocks[at], *next = names->blocks[at + 1];
    if (block->used + next->used > MERGED_BYTES_MAX)
        return;
    memcpy(block->bytes + block->used, next->bytes, next->used);
    block->used = (uint16_t) (block->used + next->used);
    block->count = (uint16_t) (block->count + next->count);
    remove_block(names, at + 1);
}

void local_names_remove(struct local_names *names, const char *name)
{
    size_t len = strlen(name);
    struct place place = names->block_count ? find(names, name, len) : (struct place){0};
    if (!place.found)
        return;
    struct names_block *block = names->blocks[place.block];
    unsigned char *entry = block->bytes + place.offset;
    block->used = (uint16_t) (block->used - 1 - len);
    block->count--;
    names->count--;
    memmove(entry, entry + 1 + len, block->used - place.offset);
    if (names->count == 0) {
        local_names_clear(names);
    } else if (block->count == 0) {
        remove_block(names, place.block);
    } else {
        merge(names, place.block);
        if (place.block > 0)
            merge(names, place.block - 1);
    }
}

void local_names_trim(struct local_names *names, size_t keep)
{
    size_t kept = 0, at = 0;
    while (at < names->block_count && kept + names->blocks[at]->count <= keep)
        kept += names->blocks[at++]->count;
    if (at == names->block_count)
        return;
    struct names_block *block = names->blocks[at];
    size_t used = 0, left = keep - kept;
    for (size_t i = 0; i < left; i++)
        used += entry_bytes(block->bytes + used);
    block->used = (uint16_t) used;
    block->count = (uint16_t) left;
    for (size_t first_gone = left ? at + 1 : at; names->block_count > first_gone;)
        remove_block(names, names->block_count - 1);
    names->count = keep;
}

void local_names_clear(struct local_names *names)
{
    for (size_t i = 0; i < names->block_count; i++)
        free(names->blocks[i]);
    free(names->blocks);
    *names = (struct local_names){0};
}

size_t local_names_bytes(const struct local_names *names)
{
    return names->block_count * sizeof(struct names_block) + names->block_cap * sizeof(struct names_block *);
}

bool local_names_page(const struct local_names *names, const char *after, size_t limit, struct store_names *out)
{
    struct place place = names->block_count ? find(names, after, strlen(after)) : (struct place){0};
    size_t most = names->count < limit ? names->count : limit;
    *out = (struct store_names){.items = most ? malloc(most * sizeof(char *)) : NULL};
    if (most && !out->items)
        return false;
    for (; place.block < names->block_count; place.block++, place.offset = 0) {
        const struct names_block *block = names->blocks[place.block];
        for (; place.offset < block->used; place.offset += entry_bytes(block->bytes + place.offset)) {
            const unsigned char *entry = block->bytes + place.offset;
            if (place.found) { /* `after` itself */
                place.found = false;
                continue;
            }
            out->more = out->count == limit;
            if (out->more)
                return true;
            out->items[out->count] = strndup((const char *) entry + 1, entry[0]);
            if (!out->items[out->count]) {
                store_names_free(out);
                return false;
            }
            out->count++;
        }
    }
    return true;
}

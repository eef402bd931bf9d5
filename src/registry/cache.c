/* Sharded LRU. Keys come from clients, so the hash is keyed (SipHash-2-4): nobody can aim at one bucket. */
#include "registry/cache.h"

#include "base/clock.h"
#include "base/metrics.h"

#include <pthread.h>

#define SHARD_COUNT 16
#define BUCKETS_MIN 64

struct entry {
    struct entry *chain;         /* next in the bucket */
    struct entry *newer, *older; /* in the shard's LRU list */
    uint64_t hash;
    size_t cost;
    void *value; /* NULL: the value is the bytes behind the key */
    uint32_t key_len;
    uint32_t bytes_len;
    char key[];
};

struct shard {
    pthread_mutex_t mutex;
    struct entry **buckets;
    size_t bucket_count; /* a power of two */
    size_t entry_count;
    size_t cost;
    size_t cost_max;
    struct entry *newest, *oldest;
};

struct cache {
    const struct cache_value_ops *ops;
    uint64_t seed[2];
    struct shard shards[SHARD_COUNT];
};

static inline uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
    v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
}

uint64_t cache_hash(struct cache *cache, struct str key)
{
    uint64_t v[4] = {cache->seed[0] ^ 0x736f6d6570736575, cache->seed[1] ^ 0x646f72616e646f6d,
                     cache->seed[0] ^ 0x6c7967656e657261, cache->seed[1] ^ 0x7465646279746573};
    size_t i = 0;
    uint64_t word;
    for (; i + 8 <= key.len; i += 8) {
        memcpy(&word, key.ptr + i, 8);
        v[3] ^= word;
        sip_round(v);
        sip_round(v);
        v[0] ^= word;
    }
    word = (uint64_t) key.len << 56;
    for (size_t j = 0; i + j < key.len; j++)
        word |= (uint64_t) (uint8_t) key.ptr[i + j] << (8 * j);
    v[3] ^= word;
    sip_round(v);
    sip_round(v);
    v[0] ^= word;
    v[2] ^= 0xff;
    for (int k = 0; k < 4; k++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct cache *cache_new(size_t bytes_max, const struct cache_value_ops *ops)
{
    struct cache *cache = calloc(1, sizeof(*cache));
    if (!cache)
        return NULL;
    cache->ops = ops;
    random_bytes(cache->seed, sizeof(cache->seed));
    for (size_t i = 0; i < SHARD_COUNT; i++) {
        struct shard *shard = &cache->shards[i];
        pthread_mutex_init(&shard->mutex, NULL);
        shard->bucket_count = BUCKETS_MIN;
        shard->buckets = calloc(BUCKETS_MIN, sizeof(struct entry *));
        if (!shard->buckets) {
            cache_free(cache);
            return NULL;
        }
    }
    cache_resize(cache, bytes_max);
    return cache;
}

/* ---- within a shard, its lock held ---- */

static struct entry **find_slot(struct shard *shard, uint64_t hash, struct str key)
{
    struct entry **slot = &shard->buckets[hash & (shard->bucket_count - 1)];
    while (*slot &&
           ((*slot)->hash != hash || (*slot)->key_len != key.len || memcmp((*slot)->key, key.ptr, key.len) != 0))
        slot = &(*slot)->chain;
    return slot;
}

static void lru_unlink(struct shard *shard, struct entry *entry)
{
    *(entry->newer ? &entry->newer->older : &shard->newest) = entry->older;
    *(entry->older ? &entry->older->newer : &shard->oldest) = entry->newer;
}

static void lru_push(struct shard *shard, struct entry *entry)
{
    entry->newer = NULL;
    entry->older = shard->newest;
    *(shard->newest ? &shard->newest->newer : &shard->oldest) = entry;
    shard->newest = entry;
}

static void drop(struct cache *cache, struct shard *shard, struct entry **slot)
{
    struct entry *entry = *slot;
    *slot = entry->chain;
    lru_unlink(shard, entry);
    shard->cost -= entry->cost;
    shard->entry_count--;
    metric_gauge_add(METRIC_CACHE_BYTES, -(int64_t) entry->cost);
    if (entry->value)
        cache->ops->unref(entry->value);
    free(entry);
}

static void shrink(struct cache *cache, struct shard *shard)
{
    while (shard->cost > shard->cost_max && shard->oldest) {
        struct entry *oldest = shard->oldest;
        drop(cache, shard, find_slot(shard, oldest->hash, (struct str){oldest->key, oldest->key_len}));
    }
}

/* Keep chains short; when there is no memory for more buckets, longer chains do. */
static void grow_buckets(struct shard *shard)
{
    size_t count = shard->bucket_count * 2;
    struct entry **buckets = calloc(count, sizeof(struct entry *));
    if (!buckets)
        return;
    for (size_t i = 0; i < shard->bucket_count; i++) {
        for (struct entry *entry = shard->buckets[i], *next; entry; entry = next) {
            next = entry->chain;
            entry->chain = buckets[entry->hash & (count - 1)];
            buckets[entry->hash & (count - 1)] = entry;
        }
    }
    free(shard->buckets);
    shard->buckets = buckets;
    shard->bucket_count = count;
}

/* ---- the interface ---- */

static struct shard *shard_lock(struct cache *cache, uint64_t hash)
{
    struct shard *shard = &cache->shards[hash >> 60];
    pthread_mutex_lock(&shard->mutex);
    return shard;
}

/* The entry, made the newest; its shard stays locked in *out_shard. NULL when there is none. */
static struct entry *lookup(struct cache *cache, struct str key, struct shard **out_shard)
{
    uint64_t hash = cache_hash(cache, key);
    struct shard *shard = *out_shard = shard_lock(cache, hash);
    struct entry *entry = *find_slot(shard, hash, key);
    if (entry && shard->newest != entry) {
        lru_unlink(shard, entry);
        lru_push(shard, entry);
    }
    metric_add(entry ? METRIC_CACHE_HITS : METRIC_CACHE_MISSES, 1);
    return entry;
}

void *cache_get(struct cache *cache, struct str key)
{
    struct shard *shard;
    struct entry *entry = lookup(cache, key, &shard);
    void *value = entry ? entry->value : NULL;
    if (value)
        cache->ops->ref(value);
    pthread_mutex_unlock(&shard->mutex);
    return value;
}

bool cache_get_bytes(struct cache *cache, struct str key, void *out, size_t len)
{
    struct shard *shard;
    struct entry *entry = lookup(cache, key, &shard);
    bool found = entry && !entry->value && entry->bytes_len == len;
    if (found)
        memcpy(out, entry->key + entry->key_len, len);
    pthread_mutex_unlock(&shard->mutex);
    return found;
}

static void put_entry(struct cache *cache, struct str key, void *value, size_t value_bytes, const void *bytes,
                      size_t len)
{
    uint64_t hash = cache_hash(cache, key);
    struct entry *entry = malloc(sizeof(*entry) + key.len + len);
    if (entry) {
        *entry = (struct entry){.hash = hash,
                                .cost = sizeof(*entry) + key.len + len + value_bytes + 32 /* the allocator's share */,
                                .value = value,
                                .key_len = (uint32_t) key.len,
                                .bytes_len = (uint32_t) len};
        memcpy(entry->key, key.ptr, key.len);
        if (len)
            memcpy(entry->key + key.len, bytes, len);
    }
    struct shard *shard = shard_lock(cache, hash);
    struct entry **slot = find_slot(shard, hash, key);
    if (*slot)
        drop(cache, shard, slot);
    if (!entry || entry->cost > shard->cost_max) {
        free(entry);
    } else {
        if (value)
            cache->ops->ref(value);
        if (shard->entry_count >= 2 * shard->bucket_count)
            grow_buckets(shard);
        slot = &shard->buckets[hash & (shard->bucket_count - 1)];
        entry->chain = *slot;
        *slot = entry;
        lru_push(shard, entry);
        shard->cost += entry->cost;
        shard->entry_count++;
        metric_gauge_add(METRIC_CACHE_BYTES, (int64_t) entry->cost);
        shrink(cache, shard);
    }
    pthread_mutex_unlock(&shard->mutex);
}

void cache_put(struct cache *cache, struct str key, void *value, size_t value_bytes)
{
    put_entry(cache, key, value, value_bytes, NULL, 0);
}

void cache_put_bytes(struct cache *cache, struct str key, const void *bytes, size_t len)
{
    put_entry(cache, key, NULL, 0, bytes, len);
}

void cache_remove(struct cache *cache, struct str key)
{
    uint64_t hash = cache_hash(cache, key);
    struct shard *shard = shard_lock(cache, hash);
    struct entry **slot = find_slot(shard, hash, key);
    if (*slot)
        drop(cache, shard, slot);
    pthread_mutex_unlock(&shard->mutex);
}

void cache_resize(struct cache *cache, size_t bytes_max)
{
    for (size_t i = 0; i < SHARD_COUNT; i++) {
        struct shard *shard = &cache->shards[i];
        pthread_mutex_lock(&shard->mutex);
        shard->cost_max = bytes_max / SHARD_COUNT;
        shrink(cache, shard);
        pthread_mutex_unlock(&shard->mutex);
    }
}

void cache_free(struct cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < SHARD_COUNT; i++) {
        struct shard *shard = &cache->shards[i];
        shard->cost_max = 0;
        if (shard->buckets)
            shrink(cache, shard);
        free(shard->buckets);
        pthread_mutex_destroy(&shard->mutex);
    }
    free(cache);
}

/*
 * A bounded in-memory cache: text keys to shared values or to small byte strings, least recently used out first.
 *
 * Sharded, each shard with its own lock held for a few instructions, so network threads may use it. A value is
 * immutable; whoever changes what it stands for in the store removes or replaces it under the lock that also covers
 * the store operation (registry_priv.h).
 */
#ifndef ORLOP_REGISTRY_CACHE_H
#define ORLOP_REGISTRY_CACHE_H

#include "base/buf.h"

#define CACHE_KEY_BYTES_MAX 512
#define CACHE_BYTES_VALUE_MAX 128

struct cache;

struct cache_value_ops {
    void (*ref)(void *value);
    void (*unref)(void *value);
};

/* NULL when out of memory. bytes_max counts keys, values and overhead. */
struct cache *cache_new(size_t bytes_max, const struct cache_value_ops *ops);
void cache_free(struct cache *cache); /* NULL is fine */
void cache_resize(struct cache *cache, size_t bytes_max);

/* A referenced value, or NULL. */
void *cache_get(struct cache *cache, struct str key);
/* Keep a reference of our own to value, replacing what was there. A value too big for the cache is not kept. */
void cache_put(struct cache *cache, struct str key, void *value, size_t value_bytes);

/* The same for plain bytes (len ≤ CACHE_BYTES_VALUE_MAX), copied in and out. */
bool cache_get_bytes(struct cache *cache, struct str key, void *out, size_t len);
void cache_put_bytes(struct cache *cache, struct str key, const void *bytes, size_t len);

void cache_remove(struct cache *cache, struct str key);

/* Keyed hash of bytes (SipHash-2-4), for the cache and for lock stripes. */
uint64_t cache_hash(struct cache *cache, struct str key);

#endif

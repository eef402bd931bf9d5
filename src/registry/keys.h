/*
 * Every key of the registry's objects, spelled once.
 *
 *     refs/<alg>/<pp>/<hex>/<repository, escaped>           this repository has this blob: {"size": N}
 *     repos/<name>/_manifests/<alg>/<hex>                   "orlop-manifest <media type>\n" and the exact bytes
 *     repos/<name>/_tags/<tag>                              {"digest", "mediaType", "size", "pushed"}
 *     repos/<name>/_tagged/<alg>/<hex>/<tag>                which tags may point at a manifest; empty
 *     repos/<name>/_referrers/<alg>/<subject>/<alg>-<hex>   one descriptor per referrer, written once
 *     repos/<name>/_referrers/<alg>/<subject>.snapshot      many of them in one object: a cache that readers write;
 *     …/<subject>.<alg>-<hex digit(s)>.snapshot             parts of one that became too big
 *     names/<repository, escaped>                           catalog entry; empty
 *
 * Blobs and uploads are the driver's (store/blob_key.h). Every out has STORE_KEY_BYTES_MAX + 1 bytes.
 */
#ifndef ORLOP_REGISTRY_KEYS_H
#define ORLOP_REGISTRY_KEYS_H

#include "registry/name.h"
#include "store/store.h"

#define KEY_BYTES (STORE_KEY_BYTES_MAX + 1)
#define KEY_CATALOG_PREFIX "names/"

void key_ref(const struct digest *blob, const struct repo_name *repo, char *out);
void key_refs_prefix(const struct digest *blob, char *out);
void key_manifest(const struct repo_name *repo, const struct digest *digest, char *out);
void key_tag(const struct repo_name *repo, const struct tag_name *tag, char *out);
void key_tags_prefix(const struct repo_name *repo, char *out);
void key_tagged(const struct repo_name *repo, const struct digest *digest, const struct tag_name *tag, char *out);
void key_tagged_prefix(const struct repo_name *repo, const struct digest *digest, char *out);
void key_referrer(const struct repo_name *repo, const struct digest *subject, const struct digest *referrer, char *out);
void key_referrers_prefix(const struct repo_name *repo, const struct digest *subject, char *out);
void key_catalog(const struct repo_name *repo, char *out);

/* Whom a snapshot is of: all referrers (digits 0), or those of an algorithm whose hex begins with so many digits. */
#define KEY_SNAPSHOT_DIGITS_MAX 2
struct snapshot_part {
    enum digest_algorithm algorithm;
    unsigned digits, value;
};

void key_snapshot(const struct repo_name *repo, const struct digest *subject, const struct snapshot_part *part,
                  char *out);

/* "<alg>-<hex>", a referrer's name below its subject, and back. out has DIGEST_TEXT_BYTES_MAX. */
void key_digest_dashed(const struct digest *digest, char *out);
bool key_digest_undash(const char *text, struct digest *out);

/* What a key found by a walk is; used by check. */
enum key_kind { KEY_UNKNOWN, KEY_REF, KEY_MANIFEST, KEY_TAG, KEY_TAGGED, KEY_REFERRER, KEY_SNAPSHOT, KEY_CATALOG };

struct key_parts {
    enum key_kind kind;
    struct repo_name repo;
    struct digest digest; /* blob, manifest, or subject of a referrer or snapshot */
    struct digest referrer;
    struct snapshot_part part;
    struct tag_name tag;
};

/* kind is KEY_UNKNOWN when the key is none of ours. */
void key_parse(const char *key, struct key_parts *out);

#endif

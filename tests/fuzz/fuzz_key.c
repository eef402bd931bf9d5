/* Keys found by walking a store: what is recognized is spelled exactly so. */
#include "fuzz.h"
#include "registry/keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char key[KEY_BYTES], again[KEY_BYTES] = "";
    if (size >= sizeof(key) || (size > 0 && memchr(data, '\0', size)))
        return 0;
    *(char *) mempcpy(key, data, size) = '\0';

    struct key_parts parts;
    key_parse(key, &parts);
    switch (parts.kind) {
    case KEY_UNKNOWN:
        return 0;
    case KEY_REF:
        key_ref(&parts.digest, &parts.repo, again);
        break;
    case KEY_MANIFEST:
        key_manifest(&parts.repo, &parts.digest, again);
        break;
    case KEY_TAG:
        key_tag(&parts.repo, &parts.tag, again);
        break;
    case KEY_TAGGED:
        key_tagged(&parts.repo, &parts.digest, &parts.tag, again);
        break;
    case KEY_REFERRER:
        key_referrer(&parts.repo, &parts.digest, &parts.referrer, again);
        break;
    case KEY_SNAPSHOT:
        key_snapshot(&parts.repo, &parts.digest, &parts.part, again);
        break;
    case KEY_CATALOG:
        key_catalog(&parts.repo, again);
        break;
    }
    assert(strcmp(key, again) == 0);
    return 0;
}

/*
 * Manifests (input: Content-Type, newline, body): what is accepted is accepted again under the type it settled on, and
 * its descriptor is JSON that says so.
 */
#include "fuzz.h"
#include "registry/manifest_doc.h"

#define DESCRIPTOR_BYTES_MAX (1024 * 1024)

static void check_descriptor(const struct manifest_doc *doc, size_t size_bytes)
{
    struct digest digest = {.algorithm = DIGEST_SHA512};
    auto_buf text = BUF_INIT(DESCRIPTOR_BYTES_MAX);
    assert(manifest_doc_descriptor(doc, &digest, size_bytes, &text));

    struct err err = ERR_INIT;
    auto_json descriptor = NULL;
    struct str media_type;
    uint64_t size_again;
    assert(json_parse(buf_str(&text), &descriptor, &err) == ERR_OK);
    assert(json_text(json_member(descriptor, "mediaType"), &media_type));
    assert(str_equal(media_type, str_from(doc->media_type)));
    assert(json_u64(json_member(descriptor, "size"), &size_again) && size_again == size_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str media_type, body;
    fuzz_split(fuzz_text(data, size), &media_type, &body);

    struct err err = ERR_INIT;
    struct manifest_doc doc;
    enum err_code code = manifest_doc_parse(body, media_type, &doc, &err);
    if (code == ERR_OK) {
        assert(doc.reference_count <= MANIFEST_REFERENCES_MAX + 1);
        check_descriptor(&doc, body.len);

        struct manifest_doc again;
        assert(manifest_doc_parse(body, str_from(doc.media_type), &again, &err) == ERR_OK);
        assert(again.is_index == doc.is_index && again.reference_count == doc.reference_count);
        manifest_doc_free(&again);
    } else {
        assert(code == ERR_MANIFEST_INVALID && err.code == code && err.message[0] != '\0');
    }
    manifest_doc_free(&doc);
    return 0;
}

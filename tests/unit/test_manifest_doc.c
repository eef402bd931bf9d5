#include "fixture.h"

#include "registry/manifest_doc.h"

#define HEX_A "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
#define HEX_B "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"
#define DESCRIPTOR_A "{\"mediaType\":\"application/a\",\"digest\":\"sha256:" HEX_A "\",\"size\":1}"
#define DESCRIPTOR_B "{\"mediaType\":\"application/b\",\"digest\":\"sha256:" HEX_B "\",\"size\":2}"

#define OCI_ARTIFACT "application/vnd.oci.artifact.manifest.v1+json"
#define DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"

#define IMAGE "{\"schemaVersion\":2,\"config\":" DESCRIPTOR_A ",\"layers\":[" DESCRIPTOR_B "]"
#define INDEX "{\"schemaVersion\":2,\"manifests\":[" DESCRIPTOR_A "," DESCRIPTOR_B "]"

static void assert_valid(const char *text, const char *media_type, struct manifest_doc *doc)
{
    struct err err = ERR_INIT;
    enum err_code code = manifest_doc_parse(str_from(text), str_from(media_type), doc, &err);
    if (code != ERR_OK)
        print_message("%s\n", err.message);
    assert_ok(code);
}

static void assert_invalid(const char *text, const char *media_type, const char *message_part)
{
    struct manifest_doc doc;
    struct err err = ERR_INIT;
    assert_int_equal(manifest_doc_parse(str_from(text), str_from(media_type), &doc, &err), ERR_MANIFEST_INVALID);
    if (!strstr(err.message, message_part))
        fail_msg("'%s' does not say '%s'", err.message, message_part);
    manifest_doc_free(&doc);
}

static void test_image(void **state)
{
    (void) state;
    struct manifest_doc doc;
    struct digest a = sha256_of("a"), b = sha256_of("b");
    assert_valid(IMAGE "}", OCI_MANIFEST, &doc);
    assert_string_equal(doc.media_type, OCI_MANIFEST);
    assert_false(doc.is_index);
    assert_false(doc.has_subject);
    assert_int_equal(doc.reference_count, 2);
    assert_true(digest_equal(&doc.references[0].digest, &a));
    assert_true(digest_equal(&doc.references[1].digest, &b));
    assert_false(doc.references[0].is_manifest || doc.references[1].is_manifest);
    assert_false(doc.references[0].is_optional || doc.references[1].is_optional);
    assert_true(str_equal(doc.artifact_type, STR("application/a"))); /* the config's type */
    manifest_doc_free(&doc);
    assert_null(doc.root);
    manifest_doc_free(&doc);
}

static void test_index(void **state)
{
    (void) state;
    struct manifest_doc doc;
    assert_valid(INDEX "}", OCI_INDEX, &doc);
    assert_true(doc.is_index);
    assert_int_equal(doc.reference_count, 2);
    assert_true(doc.references[0].is_manifest && doc.references[1].is_manifest);
    assert_int_equal(doc.artifact_type.len, 0);
    manifest_doc_free(&doc);
    assert_valid("{\"schemaVersion\":2,\"manifests\":[]}", OCI_INDEX, &doc);
    assert_int_equal(doc.reference_count, 0);
    manifest_doc_free(&doc);
}

static void test_media_types(void **state)
{
    (void) state;
    static const struct {
        const char *header, *body, *rest, *settled;
    } rows[] = {
        {OCI_MANIFEST, "", IMAGE, OCI_MANIFEST},
        {OCI_MANIFEST, OCI_MANIFEST, IMAGE, OCI_MANIFEST},
        {DOCKER_MANIFEST, "", IMAGE, DOCKER_MANIFEST},
        {DOCKER_LIST, DOCKER_LIST, INDEX, DOCKER_LIST},
        {"", OCI_INDEX, INDEX, OCI_INDEX},
        {"", DOCKER_MANIFEST, IMAGE, DOCKER_MANIFEST},
        {"application/json", OCI_MANIFEST, IMAGE, OCI_MANIFEST},
        {"application/octet-stream", OCI_MANIFEST, IMAGE, OCI_MANIFEST},
        {"application/x-www-form-urlencoded", DOCKER_LIST, INDEX, DOCKER_LIST},
        {"", "", IMAGE, OCI_MANIFEST}, /* by what the body looks like */
        {"", "", INDEX, OCI_INDEX},
        {OCI_ARTIFACT, "", "{\"blobs\":[" DESCRIPTOR_A "]", OCI_ARTIFACT},
        {OCI_ARTIFACT, "", "{\"artifactType\":\"x/y\"", OCI_ARTIFACT},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char text[1000];
        struct manifest_doc doc;
        (void) snprintf(text, sizeof(text), "%s%s%s%s}", rows[i].rest, rows[i].body[0] ? ",\"mediaType\":\"" : "",
                        rows[i].body, rows[i].body[0] ? "\"" : "");
        assert_valid(text, rows[i].header, &doc);
        assert_string_equal(doc.media_type, rows[i].settled);
        manifest_doc_free(&doc);
    }
}

static void test_media_types_refused(void **state)
{
    (void) state;
    assert_invalid(IMAGE ",\"mediaType\":\"" OCI_INDEX "\"}", OCI_MANIFEST, "differs from the Content-Type");
    assert_invalid(IMAGE ",\"mediaType\":7}", OCI_MANIFEST, "'mediaType' must be a text");
    assert_invalid(IMAGE "}", "application/vnd.docker.distribution.manifest.v1+prettyjws", "not supported");
    assert_invalid(IMAGE "}", "text/html", "not supported");
    assert_invalid(IMAGE ",\"mediaType\":\"text/html\"}", "", "not supported");
    char longer[2 * MEDIA_TYPE_CHARS_MAX];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_invalid(IMAGE "}", longer, "not supported");
}

static void test_malformed(void **state)
{
    (void) state;
    static const struct {
        const char *media_type, *text, *message_part;
    } rows[] = {
        {OCI_MANIFEST, "", "not valid JSON"},
        {OCI_MANIFEST, "{", "line 1"},
        {OCI_MANIFEST, "[]", "must be a JSON object"},
        {OCI_MANIFEST, IMAGE ",\"config\":{}}", "duplicate"},
        {OCI_MANIFEST, "{\"config\":" DESCRIPTOR_A ",\"layers\":[]}", "'schemaVersion' must be 2"},
        {OCI_MANIFEST, "{\"schemaVersion\":1,\"config\":" DESCRIPTOR_A ",\"layers\":[]}", "'schemaVersion' must be 2"},
        {OCI_MANIFEST, "{\"schemaVersion\":\"2\",\"config\":" DESCRIPTOR_A ",\"layers\":[]}",
         "'schemaVersion' must be 2"},
        {OCI_INDEX, "{\"schemaVersion\":3,\"manifests\":[]}", "'schemaVersion' must be 2"},
        {OCI_MANIFEST, "{\"schemaVersion\":2,\"layers\":[]}", "'config' must be a descriptor"},
        {OCI_MANIFEST, "{\"schemaVersion\":2,\"config\":[],\"layers\":[]}", "'config' must be a descriptor"},
        {OCI_MANIFEST, "{\"schemaVersion\":2,\"config\":" DESCRIPTOR_A "}", "'layers' must be a list"},
        {OCI_MANIFEST, "{\"schemaVersion\":2,\"config\":" DESCRIPTOR_A ",\"layers\":{}}", "'layers' must be a list"},
        {OCI_INDEX, "{\"schemaVersion\":2}", "'manifests' must be a list"},
        {OCI_ARTIFACT, "{\"blobs\":{}}", "'blobs' must be a list"},
        {OCI_MANIFEST, "{\"schemaVersion\":2,\"config\":" DESCRIPTOR_A ",\"layers\":[" DESCRIPTOR_B ",7]}",
         "'layers'[1] must be a descriptor"},
        {OCI_INDEX, "{\"schemaVersion\":2,\"manifests\":[{\"size\":1}]}", "'manifests'[0] has no digest"},
        {OCI_INDEX, "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"sha256:12\",\"size\":1}]}", "has no digest"},
        {OCI_INDEX, "{\"schemaVersion\":2,\"manifests\":[{\"digest\":7,\"size\":1}]}", "has no digest"},
        {OCI_INDEX, "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"sha256:" HEX_A "\"}]}", "has no size"},
        {OCI_INDEX, "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"sha256:" HEX_A "\",\"size\":-1}]}",
         "has no size"},
        {OCI_INDEX, "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"sha256:" HEX_A "\",\"size\":1.5}]}",
         "has no size"},
        {OCI_INDEX,
         "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"sha256:" HEX_A "\",\"size\":1,\"mediaType\":1}]}",
         "'mediaType' must be a text"},
        {OCI_MANIFEST, IMAGE ",\"annotations\":[]}", "'annotations' must be"},
        {OCI_MANIFEST, IMAGE ",\"annotations\":{\"a\":1}}", "'annotations' must be"},
        {OCI_MANIFEST, IMAGE ",\"subject\":\"sha256:" HEX_A "\"}", "'subject' must be a descriptor"},
        {OCI_MANIFEST, IMAGE ",\"subject\":{\"digest\":\"sha256:" HEX_A "\"}}", "'subject' has no size"},
        {OCI_MANIFEST, IMAGE ",\"subject\":{\"digest\":\"sha1:12\",\"size\":1}}", "'subject' has no digest"},
        {OCI_MANIFEST, IMAGE ",\"artifactType\":{}}", "'artifactType' must be a text"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_invalid(rows[i].text, rows[i].media_type, rows[i].message_part);
}

static void test_lenient(void **state)
{
    (void) state;
    static const char *const texts[] = {
        IMAGE ",\"unknown\":{\"a\":[1,null]}}",
        "{\"schemaVersion\":2,\"config\":" DESCRIPTOR_A ",\"layers\":[]}",
        "{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:" HEX_A "\",\"size\":0,\"data\":\"e30=\"},\"layers\":[]}",
        IMAGE ",\"annotations\":{}}",
        IMAGE ",\"artifactType\":\"\"}",
        "\n\t {\"schemaVersion\": 2 , \"config\" : " DESCRIPTOR_A " ,\n\"layers\":[ ]}\n\n",
    };
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct manifest_doc doc;
        assert_valid(texts[i], OCI_MANIFEST, &doc);
        manifest_doc_free(&doc);
    }
}

static void test_content_that_may_live_elsewhere(void **state)
{
    (void) state;
    struct manifest_doc doc;
    assert_valid("{\"schemaVersion\":2,\"config\":" DESCRIPTOR_A ",\"layers\":["
                 "{\"digest\":\"sha256:" HEX_A "\",\"size\":1,\"urls\":[\"https://example.org/a\"]},"
                 "{\"digest\":\"sha256:" HEX_A "\",\"size\":1,\"urls\":[]},"
                 "{\"digest\":\"sha256:" HEX_A "\",\"size\":1,"
                 "\"mediaType\":\"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip\"},"
                 "{\"digest\":\"sha256:" HEX_A "\",\"size\":1,"
                 "\"mediaType\":\"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip\"}]}",
                 OCI_MANIFEST, &doc);
    static const bool expected[] = {false, true, false, true, true};
    assert_int_equal(doc.reference_count, COUNT_OF(expected));
    for (size_t i = 0; i < COUNT_OF(expected); i++)
        assert_int_equal(doc.references[i].is_optional, expected[i]);
    manifest_doc_free(&doc);
}

static void test_too_many_descriptors(void **state)
{
    (void) state;
    auto_buf text = BUF_INIT(4 * 1024 * 1024);
    assert_true(buf_append_text(&text, "{\"schemaVersion\":2,\"manifests\":["));
    for (int i = 0; i < MANIFEST_REFERENCES_MAX; i++)
        assert_true(buf_append_text(&text, "{\"digest\":\"sha256:" HEX_A "\",\"size\":1},"));
    size_t len = text.len;
    text.len--;
    assert_true(buf_append_text(&text, "]}"));
    struct manifest_doc doc;
    assert_valid(text.ptr, OCI_INDEX, &doc);
    assert_int_equal(doc.reference_count, MANIFEST_REFERENCES_MAX);
    manifest_doc_free(&doc);
    text.len = len - 1;
    assert_true(buf_append_text(&text, "," DESCRIPTOR_A "]}"));
    assert_invalid(text.ptr, OCI_INDEX, "more than 20000 descriptors");
}

static void check_descriptor(const char *text, const char *media_type, const char *expected)
{
    struct manifest_doc doc;
    struct digest digest = sha256_of("a");
    auto_buf out = BUF_INIT(2000);
    assert_valid(text, media_type, &doc);
    assert_true(manifest_doc_descriptor(&doc, &digest, 123, &out));
    assert_string_equal(out.ptr, expected);
    manifest_doc_free(&doc);
}

static void test_descriptors(void **state)
{
    (void) state;
#define HEAD(media_type) "{\"mediaType\":\"" media_type "\",\"digest\":\"sha256:" HEX_A "\",\"size\":123"
    check_descriptor(IMAGE "}", OCI_MANIFEST, HEAD(OCI_MANIFEST) ",\"artifactType\":\"application/a\"}");
    check_descriptor(IMAGE ",\"artifactType\":\"x/y\"}", OCI_MANIFEST, HEAD(OCI_MANIFEST) ",\"artifactType\":\"x/y\"}");
    check_descriptor(INDEX "}", OCI_INDEX, HEAD(OCI_INDEX) "}");
    check_descriptor(INDEX ",\"artifactType\":\"x/y\",\"annotations\":{\"k\":\"v \\\"q\\\"\",\"a\":\"\"}}", OCI_INDEX,
                     HEAD(OCI_INDEX) ",\"artifactType\":\"x/y\",\"annotations\":{\"k\":\"v \\\"q\\\"\",\"a\":\"\"}}");
    check_descriptor("{\"artifactType\":\"a\\\"b\"}", OCI_ARTIFACT, HEAD(OCI_ARTIFACT) ",\"artifactType\":\"a\\\"b\"}");
    check_descriptor("{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:" HEX_A "\",\"size\":0},\"layers\":[]}",
                     DOCKER_MANIFEST, HEAD(DOCKER_MANIFEST) "}");

    struct manifest_doc doc;
    struct digest digest = sha256_of("a");
    char array[50];
    struct buf small = BUF_ON(array);
    assert_valid(IMAGE "}", OCI_MANIFEST, &doc);
    assert_false(manifest_doc_descriptor(&doc, &digest, 123, &small));
    manifest_doc_free(&doc);
}

static void test_subject(void **state)
{
    (void) state;
    struct manifest_doc doc;
    struct digest b = sha256_of("b");
    assert_valid(IMAGE ",\"subject\":" DESCRIPTOR_B "}", OCI_MANIFEST, &doc);
    assert_true(doc.has_subject);
    assert_true(digest_equal(&doc.subject, &b));
    assert_int_equal(doc.reference_count, 2); /* a subject need not be here */
    manifest_doc_free(&doc);
    assert_valid(INDEX ",\"subject\":" DESCRIPTOR_B "}", OCI_INDEX, &doc);
    assert_true(doc.has_subject);
    manifest_doc_free(&doc);
    assert_valid("{\"subject\":" DESCRIPTOR_B "}", OCI_ARTIFACT, &doc);
    assert_true(doc.has_subject);
    manifest_doc_free(&doc);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_image),
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_media_types),
        cmocka_unit_test(test_media_types_refused),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_lenient),
        cmocka_unit_test(test_content_that_may_live_elsewhere),
        cmocka_unit_test(test_too_many_descriptors),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_subject),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "fixture.h"

#include "registry/check.h"
#include "registry/referrers.h"
#include "store/blob_key.h"

/* What a check found: lines of "error|leftover KIND KEY". */
struct findings {
    struct buf lines;
    uint64_t progress_calls, bytes_done, bytes_total;
    bool went_back; /* progress went down, or past the total */
};

static void note_finding(void *arg, enum check_severity severity, const char *kind, const char *key, const char *text)
{
    struct findings *findings = arg;
    assert_true(strlen(text) > 10);
    assert_true(buf_appendf(&findings->lines, "%s %s %s\n", severity == CHECK_ERROR ? "error" : "leftover", kind, key));
}

static void note_progress(void *arg, uint64_t bytes_done, uint64_t bytes_total, const struct check_totals *totals)
{
    struct findings *findings = arg;
    assert_non_null(totals);
    findings->progress_calls++;
    findings->went_back |= bytes_done < findings->bytes_done || (bytes_total && bytes_done > bytes_total);
    findings->bytes_done = bytes_done;
    findings->bytes_total = bytes_total;
}

static struct check_totals run(struct fixture *fixture, bool quick, struct findings *findings)
{
    struct check_callbacks callbacks = {.arg = findings, .finding = note_finding, .progress = note_progress};
    struct check_totals totals;
    *findings = (struct findings){.lines = BUF_INIT(100000)};
    assert_ok(registry_check(fixture->store, quick, &callbacks, &totals, &fixture->err));
    assert_false(findings->went_back);
    return totals;
}

/* Exactly these findings: each line once, in any order. NULL ends them. */
static void assert_findings(struct fixture *fixture, bool quick, const char *const *expected)
{
    struct findings findings;
    struct check_totals totals = run(fixture, quick, &findings);
    const char *lines = buf_str(&findings.lines).ptr;
    size_t count = 0, errors = 0;
    for (; expected[count]; count++) {
        char line[KEY_BYTES + 64];
        (void) snprintf(line, sizeof(line), "%s\n", expected[count]);
        if (!strstr(lines, line))
            fail_msg("'%s' was not found, but:\n%s", expected[count], lines);
        errors += line[0] == 'e';
    }
    if (totals.errors != errors || totals.leftovers != count - errors)
        fail_msg("these were found:\n%s", lines);
    buf_free(&findings.lines);
}

#define CLEAN ((const char *const[]){NULL})

/* One expected finding about a key; a quick run makes it too. (Each run with findings takes a second look.) */
static void assert_finding(struct fixture *fixture, const char *finding, const char *key)
{
    char line[KEY_BYTES + 64];
    (void) snprintf(line, sizeof(line), "%s %s", finding, key);
    assert_findings(fixture, true, (const char *const[]){line, NULL});
}

/* A store of one of everything. */
struct sample {
    struct digest config, layer, image, index, referrer;
};

static struct sample fill(struct fixture *fixture)
{
    struct sample sample = {.config = sha256_of("{}")};
    char text[600];
    sample.layer = push_blob(fixture, &fixture->repo, STR("layer of ten bytes and some"));
    (void) push_blob(fixture, &fixture->repo, STR("{}"));
    (void) snprintf(
        text, sizeof(text),
        "{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\",\"size\":2},\"layers\":[{\"digest\":\"%s\",\"size\":27}]}",
        digest_text(&sample.config), digest_text(&sample.layer));
    sample.image = push_manifest(fixture, &fixture->repo, "v1", text);
    (void) snprintf(text, sizeof(text), "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"%s\",\"size\":7}]}",
                    digest_text(&sample.image));
    sample.index = push_manifest(fixture, &fixture->repo, "all", text);
    sample.referrer = push_image(fixture, &fixture->repo, NULL, &sample.image, "a/b", "a signature");
    return sample;
}

static void test_an_empty_store(void **state)
{
    struct fixture *fixture = *state;
    struct findings findings;
    assert_findings(fixture, false, CLEAN);
    struct check_totals totals = run(fixture, false, &findings);
    struct check_totals nothing = {0};
    assert_memory_equal(&totals, &nothing, sizeof(totals));
    buf_free(&findings.lines);
    struct check_callbacks silent = {0};
    assert_ok(registry_check(fixture->store, false, &silent, &totals, &fixture->err));
}

static void test_a_clean_store(void **state)
{
    struct fixture *fixture = *state;
    struct findings findings;
    struct upload_id id;
    (void) fill(fixture);
    struct repo_name other = repo_of("other");
    (void) push_image(fixture, &other, "v1", NULL, NULL, "x");
    assert_ok(upload_start(fixture->registry, &other, DIGEST_SHA256, &id, &fixture->err));
    for (int quick = 0; quick < 2; quick++) {
        assert_findings(fixture, quick, CLEAN);
        struct check_totals totals = run(fixture, quick, &findings);
        assert_int_equal(totals.blobs, 2);
        assert_int_equal(totals.blob_bytes, 29);
        assert_int_equal(totals.manifests, 4);
        assert_int_equal(totals.tags, 3);
        assert_int_equal(totals.references, 3);
        assert_int_equal(totals.referrers, 1);
        assert_int_equal(totals.repositories, 2);
        assert_int_equal(totals.uploads, 1);
        assert_int_equal(findings.bytes_done, 29);
        assert_int_equal(findings.bytes_total, 29);
        assert_true(findings.progress_calls > 0);
        buf_free(&findings.lines);
    }
}

static void test_blobs(void **state)
{
    struct fixture *fixture = *state;
    struct sample sample = fill(fixture);
    char blob[KEY_BYTES], ref[KEY_BYTES], line[KEY_BYTES + 64];
    blob_key_format(&sample.layer, blob);
    key_ref(&sample.layer, &fixture->repo, ref);

    file_write(fixture, blob, STR("LAYER of ten bytes and some")); /* of the right size: a quick run cannot see it */
    assert_findings(fixture, true, CLEAN);
    (void) snprintf(line, sizeof(line), "error blob-digest-mismatch %s", blob);
    assert_findings(fixture, false, (const char *const[]){line, NULL});

    char size_line[KEY_BYTES + 64];
    file_write(fixture, blob, STR("layer")); /* cut */
    (void) snprintf(size_line, sizeof(size_line), "error blob-size-mismatch %s", ref);
    assert_findings(fixture, true, (const char *const[]){size_line, NULL});
    assert_findings(fixture, false, (const char *const[]){line, size_line, NULL});

    object_delete(fixture, blob);
    assert_finding(fixture, "error blob-missing", ref);
    file_write(fixture, blob, STR("layer of ten bytes and some"));
    assert_findings(fixture, false, CLEAN);
}

static void test_unreferenced_blobs(void **state)
{
    struct fixture *fixture = *state;
    (void) fill(fixture);
    struct digest digest = sha256_of("nobody's");
    char blob[KEY_BYTES];
    blob_key_format(&digest, blob);
    file_write(fixture, blob, STR("nobody's"));
    assert_finding(fixture, "leftover blob-unreferenced", blob);
}

static void test_references(void **state)
{
    struct fixture *fixture = *state;
    struct sample sample = fill(fixture);
    char ref[KEY_BYTES], manifest[KEY_BYTES], blob[KEY_BYTES], lines[3][KEY_BYTES + 64];
    key_ref(&sample.layer, &fixture->repo, ref);
    static const char *const damages[] = {"", "{", "{}", "{\"size\":\"27\"}"};
    for (size_t i = 0; i < COUNT_OF(damages); i++) {
        file_write(fixture, ref, str_from(damages[i]));
        assert_finding(fixture, "error reference-damaged", ref);
    }
    file_write(fixture, ref, STR("{\"size\":28}"));
    assert_finding(fixture, "error blob-size-mismatch", ref);
    object_delete(fixture, ref);
    key_manifest(&fixture->repo, &sample.image, manifest);
    blob_key_format(&sample.layer, blob);
    (void) snprintf(lines[0], sizeof(lines[0]), "leftover manifest-incomplete %s", manifest);
    (void) snprintf(lines[1], sizeof(lines[1]), "leftover blob-unreferenced %s", blob);
    assert_findings(fixture, false, (const char *const[]){lines[0], lines[1], NULL});
}

static void test_manifests(void **state)
{
    struct fixture *fixture = *state;
    struct sample sample = fill(fixture);
    char key[KEY_BYTES], tag_key[KEY_BYTES], index_key[KEY_BYTES], lines[3][KEY_BYTES + 64];
    struct tag_name tag = tag_of("v1");
    auto_buf whole = BUF_INIT(0);
    key_manifest(&fixture->repo, &sample.image, key);
    key_manifest(&fixture->repo, &sample.index, index_key);
    key_tag(&fixture->repo, &tag, tag_key);
    file_read(fixture, key, &whole);

    const struct str damages[] = {
        STR(""), STR("junk"), {whole.ptr, whole.len - 1}, STR("orlop-manifest " OCI_MANIFEST "\n{}")};
    for (size_t i = 0; i < COUNT_OF(damages); i++) {
        file_write(fixture, key, damages[i]);
        assert_finding(fixture, "error manifest-damaged", key);
    }
    object_delete(fixture, key);
    (void) snprintf(lines[0], sizeof(lines[0]), "error manifest-missing %s", tag_key);
    (void) snprintf(lines[1], sizeof(lines[1]), "leftover manifest-incomplete %s", index_key);
    assert_findings(fixture, false, (const char *const[]){lines[0], lines[1], NULL});
    file_write(fixture, key, buf_str(&whole));
    assert_findings(fixture, false, CLEAN);
}

static void test_a_stored_manifest_that_is_not_valid(void **state)
{
    struct fixture *fixture = *state;
    char key[KEY_BYTES];
    struct digest digest = sha256_of("{\"schemaVersion\":2}");
    (void) fill(fixture);
    key_manifest(&fixture->repo, &digest, key);
    file_write(fixture, key, STR("orlop-manifest " OCI_MANIFEST "\n{\"schemaVersion\":2}"));
    assert_finding(fixture, "error manifest-damaged", key);
}

static void test_tags(void **state)
{
    struct fixture *fixture = *state;
    struct sample sample = fill(fixture);
    struct tag_name tag = tag_of("v1"), stale = tag_of("stale");
    char key[KEY_BYTES], tagged[KEY_BYTES];
    auto_buf whole = BUF_INIT(0);
    key_tag(&fixture->repo, &tag, key);
    key_tagged(&fixture->repo, &sample.image, &tag, tagged);
    file_read(fixture, key, &whole);

    object_delete(fixture, tagged);
    assert_finding(fixture, "error tag-unindexed", key);
    object_put(fixture, tagged, STR(""));
    assert_findings(fixture, false, CLEAN);

    char damaged[KEY_BYTES + 64], index_stale[KEY_BYTES + 64];
    file_write(fixture, key, STR("junk"));
    (void) snprintf(damaged, sizeof(damaged), "error tag-damaged %s", key);
    (void) snprintf(index_stale, sizeof(index_stale), "leftover tag-index-stale %s", tagged);
    assert_findings(fixture, false, (const char *const[]){damaged, index_stale, NULL});
    file_write(fixture, key, buf_str(&whole));

    key_tagged(&fixture->repo, &sample.image, &stale, tagged);
    object_put(fixture, tagged, STR(""));
    assert_finding(fixture, "leftover tag-index-stale", tagged);
}

static void test_referrers(void **state)
{
    struct fixture *fixture = *state;
    struct sample sample = fill(fixture);
    char descriptor[KEY_BYTES], manifest[KEY_BYTES];
    auto_buf whole = BUF_INIT(0);
    key_referrer(&fixture->repo, &sample.image, &sample.referrer, descriptor);
    key_manifest(&fixture->repo, &sample.referrer, manifest);
    file_read(fixture, manifest, &whole);
    object_delete(fixture, manifest);
    assert_finding(fixture, "error referrer-missing", descriptor);
    file_write(fixture, manifest, buf_str(&whole));
    object_delete(fixture, descriptor);
    assert_finding(fixture, "leftover referrer-unlisted", manifest);
}

static void write_snapshot(struct fixture *fixture, const char *key, const struct digest *referrer, const char *text)
{
    struct snapshot_entry entry = {*referrer, STR("a/b"), str_from(text)};
    auto_buf bytes = BUF_INIT(STORE_OBJECT_BYTES_MAX);
    snapshot_begin(&bytes);
    assert_true(snapshot_add(&bytes, &entry));
    snapshot_end(&bytes, false);
    object_put(fixture, key, buf_str(&bytes));
}

static void test_snapshots(void **state)
{
    struct fixture *fixture = *state;
    struct sample sample = fill(fixture);
    static const struct snapshot_part whole = {.digits = 0};
    struct digest gone = sha256_of("gone");
    char key[KEY_BYTES], descriptor[KEY_BYTES], line[KEY_BYTES + 64];
    auto_buf text = BUF_INIT(0);
    key_snapshot(&fixture->repo, &sample.image, &whole, key);
    key_referrer(&fixture->repo, &sample.image, &sample.referrer, descriptor);
    file_read(fixture, descriptor, &text);
    write_snapshot(fixture, key, &sample.referrer, text.ptr);
    assert_findings(fixture, false, CLEAN);
    write_snapshot(fixture, key, &gone, "what it was"); /* old: no harm */
    assert_findings(fixture, false, CLEAN);
    object_put(fixture, key, STR("orlop-referrers 1 whole "));
    assert_finding(fixture, "leftover snapshot-unusable", key);
    write_snapshot(fixture, key, &sample.referrer, "{}"); /* this would be believed */
    (void) snprintf(line, sizeof(line), "error snapshot-wrong %s", key);
    assert_findings(fixture, false, (const char *const[]){line, NULL});
}

static void test_catalog(void **state)
{
    struct fixture *fixture = *state;
    char key[KEY_BYTES], manifest[KEY_BYTES];
    struct digest digest = push_image(fixture, &fixture->repo, "v1", NULL, NULL, "x");
    key_catalog(&fixture->repo, key);
    key_manifest(&fixture->repo, &digest, manifest);
    object_delete(fixture, key);
    assert_finding(fixture, "leftover repository-unlisted", manifest);
    object_put(fixture, key, STR(""));
    assert_findings(fixture, false, CLEAN);
}

static void test_unknown_objects(void **state)
{
    struct fixture *fixture = *state;
    (void) fill(fixture);
    static const char *const keys[] = {"blobs/sha256/zz",  "blobs/readme.txt",
                                       "refs/sha256/junk", "repos/library/app/_tags/x/y",
                                       "repos/stray",      "repos/library/app/_other/thing",
                                       "names/NOT.a.name"};
    const char *expected[COUNT_OF(keys) + 1] = {NULL};
    char lines[COUNT_OF(keys)][KEY_BYTES + 64];
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        object_put(fixture, keys[i], STR("junk"));
        (void) snprintf(lines[i], sizeof(lines[i]), "leftover unknown-object %s", keys[i]);
        expected[i] = lines[i];
    }
    assert_findings(fixture, true, expected);
    assert_findings(fixture, false, expected);
}

static void test_uploads(void **state)
{
    struct fixture *fixture = *state;
    struct upload_id id;
    char path[128];
    assert_ok(upload_start(fixture->registry, &fixture->repo, DIGEST_SHA256, &id, &fixture->err));
    assert_findings(fixture, false, CLEAN);
    (void) snprintf(path, sizeof(path), "uploads/%s/record", id.text);
    file_write(fixture, path, STR("junk"));
    assert_finding(fixture, "leftover upload-unusable", id.text);
    object_delete(fixture, path);
    (void) snprintf(path, sizeof(path), "uploads/%s/data", id.text); /* died before its first checkpoint */
    file_write(fixture, path, STR("bytes"));
    assert_finding(fixture, "leftover upload-unusable", id.text);
}

static void test_many_findings_of_all_kinds(void **state)
{
    struct fixture *fixture = *state;
    struct findings findings;
    for (int i = 0; i < 200; i++) {
        char note[16], key[KEY_BYTES];
        (void) snprintf(note, sizeof(note), "%d", i);
        struct digest digest = sha256_of(note);
        struct tag_name tag = tag_of(note);
        blob_key_format(&digest, key);
        file_write(fixture, key, STR("other bytes"));
        key_tag(&fixture->repo, &tag, key);
        file_write(fixture, key, STR("junk"));
    }
    struct check_totals totals = run(fixture, false, &findings);
    assert_int_equal(totals.errors, 400);
    assert_int_equal(totals.leftovers, 0); /* one finding an object, the worst */
    assert_int_equal(totals.blobs, 200);
    assert_int_equal(findings.bytes_done, findings.bytes_total);
    buf_free(&findings.lines);
}

/* An object that is mended between the two looks is no finding. */
struct mending {
    struct fixture *fixture;
    const char *key;
    struct str bytes;
    bool done;
};

static void mend(void *arg, uint64_t bytes_done, uint64_t bytes_total, const struct check_totals *totals)
{
    struct mending *mending = arg;
    (void) bytes_done;
    (void) bytes_total;
    if (totals->references > 0 && !mending->done) { /* the manifests were looked at before the references */
        file_write(mending->fixture, mending->key, mending->bytes);
        mending->done = true;
    }
}

static void test_a_second_look(void **state)
{
    struct fixture *fixture = *state;
    struct sample sample = fill(fixture);
    char key[KEY_BYTES];
    auto_buf whole = BUF_INIT(0);
    key_manifest(&fixture->repo, &sample.image, key);
    file_read(fixture, key, &whole);
    file_write(fixture, key, STR("junk"));
    struct mending mending = {fixture, key, buf_str(&whole), false};
    struct check_callbacks callbacks = {.arg = &mending, .progress = mend};
    struct check_totals totals;
    assert_ok(registry_check(fixture->store, false, &callbacks, &totals, &fixture->err));
    assert_true(mending.done);
    assert_int_equal(totals.errors, 0);
    assert_int_equal(totals.leftovers, 0);
}

#define CHECK_TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CHECK_TEST(test_an_empty_store),
        CHECK_TEST(test_a_clean_store),
        CHECK_TEST(test_blobs),
        CHECK_TEST(test_unreferenced_blobs),
        CHECK_TEST(test_references),
        CHECK_TEST(test_manifests),
        CHECK_TEST(test_a_stored_manifest_that_is_not_valid),
        CHECK_TEST(test_tags),
        CHECK_TEST(test_referrers),
        CHECK_TEST(test_snapshots),
        CHECK_TEST(test_catalog),
        CHECK_TEST(test_unknown_objects),
        CHECK_TEST(test_uploads),
        CHECK_TEST(test_many_findings_of_all_kinds),
        CHECK_TEST(test_a_second_look),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "fixture.h"

#include "registry/keys.h"
#include "store/blob_key.h"

#define HEX_A "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb" /* sha256 of "a" */
#define HEX_B "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"

static void test_spelling(void **state)
{
    (void) state;
    struct repo_name repo = repo_of("team/app.x");
    struct tag_name tag = tag_of("v1");
    struct digest a = sha256_of("a"), b = sha256_of("b");
    char key[KEY_BYTES];
    key_ref(&a, &repo, key);
    assert_string_equal(key, "refs/sha256/ca/" HEX_A "/team.app..x");
    key_refs_prefix(&a, key);
    assert_string_equal(key, "refs/sha256/ca/" HEX_A "/");
    key_manifest(&repo, &a, key);
    assert_string_equal(key, "repos/team/app.x/_manifests/sha256/" HEX_A);
    key_tag(&repo, &tag, key);
    assert_string_equal(key, "repos/team/app.x/_tags/v1");
    key_tags_prefix(&repo, key);
    assert_string_equal(key, "repos/team/app.x/_tags/");
    key_tagged(&repo, &a, &tag, key);
    assert_string_equal(key, "repos/team/app.x/_tagged/sha256/" HEX_A "/v1");
    key_tagged_prefix(&repo, &a, key);
    assert_string_equal(key, "repos/team/app.x/_tagged/sha256/" HEX_A "/");
    key_referrer(&repo, &a, &b, key);
    assert_string_equal(key, "repos/team/app.x/_referrers/sha256/" HEX_A "/sha256-" HEX_B);
    key_referrers_prefix(&repo, &a, key);
    assert_string_equal(key, "repos/team/app.x/_referrers/sha256/" HEX_A "/");
    struct snapshot_part part = {.digits = 0};
    key_snapshot(&repo, &a, &part, key);
    assert_string_equal(key, "repos/team/app.x/_referrers/sha256/" HEX_A ".snapshot");
    part = (struct snapshot_part){.algorithm = DIGEST_SHA512, .digits = 2, .value = 0x0f};
    key_snapshot(&repo, &a, &part, key);
    assert_string_equal(key, "repos/team/app.x/_referrers/sha256/" HEX_A ".sha512-0f.snapshot");
    key_catalog(&repo, key);
    assert_string_equal(key, "names/team.app..x");
    blob_key_format(&a, key);
    assert_string_equal(key, "blobs/sha256/ca/" HEX_A);
}

static void test_dashed_digests(void **state)
{
    (void) state;
    static const enum digest_algorithm algorithms[] = {DIGEST_SHA256, DIGEST_SHA512};
    for (size_t i = 0; i < COUNT_OF(algorithms); i++) {
        struct digest digest = digest_of(algorithms[i], STR("x")), again;
        char dashed[DIGEST_TEXT_BYTES_MAX];
        key_digest_dashed(&digest, dashed);
        assert_int_equal(dashed[6], '-');
        assert_string_equal(dashed + 7, digest_text(&digest) + 7);
        assert_true(key_digest_undash(dashed, &again));
        assert_true(digest_equal(&digest, &again));
    }
    static const char *const wrong[] = {"",
                                        "-",
                                        "sha256",
                                        "sha256-",
                                        "sha256:" HEX_A,
                                        "sha512-" HEX_A,
                                        "md5-" HEX_A,
                                        "sha256-" HEX_A "0",
                                        "sha256--" HEX_A};
    struct digest digest;
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        assert_false(key_digest_undash(wrong[i], &digest));
}

static void check_round_trips(const struct repo_name *repo, const struct digest *a, const struct digest *b,
                              const struct tag_name *tag)
{
    char key[KEY_BYTES];
    struct key_parts parts;

    key_ref(a, repo, key);
    key_parse(key, &parts);
    assert_int_equal(parts.kind, KEY_REF);
    assert_string_equal(parts.repo.text, repo->text);
    assert_true(digest_equal(&parts.digest, a));

    key_manifest(repo, a, key);
    key_parse(key, &parts);
    assert_int_equal(parts.kind, KEY_MANIFEST);
    assert_string_equal(parts.repo.text, repo->text);
    assert_true(digest_equal(&parts.digest, a));

    key_tag(repo, tag, key);
    key_parse(key, &parts);
    assert_int_equal(parts.kind, KEY_TAG);
    assert_string_equal(parts.repo.text, repo->text);
    assert_string_equal(parts.tag.text, tag->text);

    key_tagged(repo, a, tag, key);
    key_parse(key, &parts);
    assert_int_equal(parts.kind, KEY_TAGGED);
    assert_string_equal(parts.repo.text, repo->text);
    assert_string_equal(parts.tag.text, tag->text);
    assert_true(digest_equal(&parts.digest, a));

    key_referrer(repo, a, b, key);
    key_parse(key, &parts);
    assert_int_equal(parts.kind, KEY_REFERRER);
    assert_string_equal(parts.repo.text, repo->text);
    assert_true(digest_equal(&parts.digest, a));
    assert_true(digest_equal(&parts.referrer, b));

    static const struct snapshot_part snapshots[] = {
        {.digits = 0}, {DIGEST_SHA256, 1, 0}, {DIGEST_SHA512, 1, 15}, {DIGEST_SHA256, 2, 255}};
    for (size_t i = 0; i < COUNT_OF(snapshots); i++) {
        key_snapshot(repo, a, &snapshots[i], key);
        key_parse(key, &parts);
        assert_int_equal(parts.kind, KEY_SNAPSHOT);
        assert_string_equal(parts.repo.text, repo->text);
        assert_true(digest_equal(&parts.digest, a));
        assert_memory_equal(&parts.part, &snapshots[i], sizeof(parts.part));
    }

    key_catalog(repo, key);
    key_parse(key, &parts);
    assert_int_equal(parts.kind, KEY_CATALOG);
    assert_string_equal(parts.repo.text, repo->text);

    struct digest blob;
    blob_key_format(a, key);
    assert_true(blob_key_parse(key, &blob));
    assert_true(digest_equal(&blob, a));
}

static void test_round_trips(void **state)
{
    (void) state;
    char longest_repo[REPO_NAME_CHARS_MAX + 1], longest_tag[TAG_CHARS_MAX + 1];
    for (size_t i = 0; i < REPO_NAME_CHARS_MAX; i++)
        longest_repo[i] = i % 2 ? '/' : 'a';
    longest_repo[REPO_NAME_CHARS_MAX] = '\0';
    memset(longest_tag, 't', TAG_CHARS_MAX);
    longest_tag[TAG_CHARS_MAX] = '\0';
    const char *const repos[] = {"a", "a/b", "a.b/c_d__e-f", "tags/manifests", longest_repo};
    const char *const tags[] = {"_", "latest", "_tags", ("sha256-" HEX_A), longest_tag};
    struct digest shorts[] = {sha256_of("a"), sha256_of("b")};
    struct digest longs[] = {digest_of(DIGEST_SHA512, STR("a")), digest_of(DIGEST_SHA512, STR("b"))};
    for (size_t r = 0; r < COUNT_OF(repos); r++) {
        for (size_t t = 0; t < COUNT_OF(tags); t++) {
            struct repo_name repo = repo_of(repos[r]);
            struct tag_name tag = tag_of(tags[t]);
            check_round_trips(&repo, &shorts[0], &shorts[1], &tag);
            check_round_trips(&repo, &longs[0], &longs[1], &tag);
            check_round_trips(&repo, &longs[0], &shorts[0], &tag);
        }
    }
}

static void test_foreign_keys(void **state)
{
    (void) state;
    static const char *const keys[] = {
        "",
        "x",
        "orlop.json",
        "blobs/sha256/ca/" HEX_A,
        "refs/",
        "refs/sha256",
        "refs/sha256/ca",
        "refs/sha256/ca/" HEX_A,
        "refs/sha256/ca/" HEX_A "/",
        "refs/sha256/cb/" HEX_A "/a",
        "refs/sha256/caa/" HEX_A "/a",
        "refs/sha256/ca/" HEX_A "/a/b",
        "refs/sha256/ca/" HEX_A "/A",
        "refs/sha512/ca/" HEX_A "/a",
        "refs/md5/ca/" HEX_A "/a",
        "refs//ca/" HEX_A "/a",
        "repos/",
        "repos/a",
        "repos/a/_tags",
        "repos/a/_tags/",
        "repos/a/_tags/.x",
        "repos/a/_tags/x/y",
        "repos/A/_tags/x",
        "repos//_tags/x",
        "repos/_tags/x",
        "repos/a/_manifests/sha256",
        "repos/a/_manifests/sha256/",
        "repos/a/_manifests/sha256/" HEX_A "/x",
        "repos/a/_manifests/sha256/" HEX_A "0",
        "repos/a/_manifests/" HEX_A,
        "repos/a/_tagged/sha256/" HEX_A,
        "repos/a/_tagged/sha256/" HEX_A "/",
        "repos/a/_tagged/sha256/" HEX_A "/x/y",
        "repos/a/_tagged/x",
        "repos/a/_referrers/sha256/" HEX_A,
        "repos/a/_referrers/sha256/" HEX_A "/" HEX_B,
        "repos/a/_referrers/sha256/" HEX_A "/sha256-" HEX_B "/x",
        "repos/a/_referrers/" HEX_A ".snapshot",
        "repos/a/_referrers/sha512/" HEX_A ".snapshot",
        "repos/a/_referrers/sha256/" HEX_A ".snapshot/x",
        "repos/a/_referrers/sha256/" HEX_A "..snapshot",
        "repos/a/_referrers/sha256/" HEX_A ".sha256-.snapshot",
        "repos/a/_referrers/sha256/" HEX_A ".sha256-g.snapshot",
        "repos/a/_referrers/sha256/" HEX_A ".sha256-012.snapshot",
        "repos/a/_referrers/sha256/" HEX_A ".md5-0.snapshot",
        "repos/a/_referrers/sha256/" HEX_A "-sha256-0.snapshot",
        "repos/a/_referrers/sha256/" HEX_A ".snapshots",
        "repos/a/_referrers/sha256/.snapshot",
        "repos/a/_other/sha256/" HEX_A,
        "repos/a/_/x",
        "names/",
        "names/A",
        "names/a/b",
        "names/a.",
    };
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        struct key_parts parts;
        key_parse(keys[i], &parts);
        assert_int_equal(parts.kind, KEY_UNKNOWN);
    }
    static const char *const blobs[] = {"",
                                        "blobs/",
                                        "blobs/sha256/ca/",
                                        "blobs/sha256/cb/" HEX_A,
                                        "blobs/sha256/ca/" HEX_A "0",
                                        "blobs/sha256/ca/" HEX_A ".at.at",
                                        "blobs/sha512/ca/" HEX_A,
                                        "blob/sha256/ca/" HEX_A,
                                        "blobs/sha256/c/a" HEX_A};
    struct digest digest;
    for (size_t i = 0; i < COUNT_OF(blobs); i++)
        assert_false(blob_key_parse(blobs[i], &digest));
    assert_true(blob_key_parse("blobs/sha256/ca/" HEX_A, &digest));
    assert_true(blob_key_parse("blobs/sha256/ca/" HEX_A ".at", &digest));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spelling),
        cmocka_unit_test(test_dashed_digests),
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_foreign_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "fixture.h"

#include "registry/referrers.h"

#define ENTRIES 5

static struct snapshot_entry entry_of(const struct digest *digest, const char *type, const char *descriptor)
{
    return (struct snapshot_entry){*digest, str_from(type), str_from(descriptor)};
}

static int compare(const void *a, const void *b)
{
    return digest_order(a, b);
}

/* A snapshot of a few, in order of name; out_digests has ENTRIES. */
static void sample(struct buf *out, struct digest *out_digests)
{
    static const char *const types[ENTRIES] = {"", "a/b", "text with spaces", "\n", "0 1 "};
    static const char *const descriptors[ENTRIES] = {"{}", "{\"a\":1}", "", "\n\n", "sha256-"};
    *out = BUF_INIT(STORE_OBJECT_BYTES_MAX);
    for (size_t i = 0; i < ENTRIES; i++)
        out_digests[i] = digest_of(i % 2 ? DIGEST_SHA512 : DIGEST_SHA256, str_from(descriptors[i]));
    qsort(out_digests, ENTRIES, sizeof(struct digest), compare);
    snapshot_begin(out);
    for (size_t i = 0; i < ENTRIES; i++) {
        struct snapshot_entry entry = entry_of(&out_digests[i], types[i], descriptors[i]);
        assert_true(snapshot_add(out, &entry));
    }
    snapshot_end(out, false);
}

static enum err_code decode(struct str bytes, struct snapshot *out)
{
    struct err err = ERR_INIT;
    struct buf copy = BUF_INIT(STORE_OBJECT_BYTES_MAX + 1);
    assert_true(buf_append(&copy, bytes.ptr, bytes.len));
    enum err_code code = snapshot_decode(&copy, out, &err);
    assert_int_equal(code, err.code);
    return code;
}

static void test_round_trip(void **state)
{
    (void) state;
    auto_buf bytes = BUF_INIT(0);
    struct digest digests[ENTRIES];
    struct snapshot snapshot;
    sample(&bytes, digests);
    assert_memory_equal(bytes.ptr, "orlop-referrers 1 whole ", 24);
    assert_ok(decode(buf_str(&bytes), &snapshot));
    assert_int_equal(snapshot.count, ENTRIES);
    assert_false(snapshot.is_split);
    for (size_t i = 0; i < ENTRIES; i++)
        assert_true(digest_equal(&snapshot.entries[i].digest, &digests[i]));
    assert_true(str_equal(snapshot.entries[2].type, STR("text with spaces")));
    assert_true(str_equal(snapshot.entries[2].descriptor, STR("")));
    assert_true(str_equal(snapshot.entries[4].type, STR("0 1 ")));
    assert_true(str_equal(snapshot.entries[4].descriptor, STR("sha256-")));
    snapshot_free(&snapshot);
}

static void test_empty_and_split(void **state)
{
    (void) state;
    for (int is_split = 0; is_split < 2; is_split++) {
        auto_buf bytes = BUF_INIT(STORE_OBJECT_BYTES_MAX);
        struct snapshot snapshot;
        struct digest digest = sha256_of("x");
        struct snapshot_entry entry = entry_of(&digest, "t", "d");
        snapshot_begin(&bytes);
        assert_true(!is_split || snapshot_add(&bytes, &entry));
        snapshot_end(&bytes, is_split); /* forgets what was added */
        assert_ok(decode(buf_str(&bytes), &snapshot));
        assert_int_equal(snapshot.count, 0);
        assert_int_equal(snapshot.is_split, is_split);
        snapshot_free(&snapshot);
    }
}

static void test_any_damage_is_found(void **state)
{
    (void) state;
    auto_buf bytes = BUF_INIT(0);
    struct digest digests[ENTRIES];
    struct snapshot snapshot;
    sample(&bytes, digests);
    for (size_t len = 0; len < bytes.len; len++)
        assert_int_not_equal(decode((struct str){bytes.ptr, len}, &snapshot), ERR_OK);
    for (size_t i = 0; i < bytes.len; i++) {
        bytes.ptr[i] ^= 1;
        enum err_code code = decode(buf_str(&bytes), &snapshot);
        bytes.ptr[i] ^= 1;
        assert_true(code == ERR_CORRUPT || code == ERR_VERSION);
    }
    bytes.ptr[strlen("orlop-referrers ")] = '2';
    assert_int_equal(decode(buf_str(&bytes), &snapshot), ERR_VERSION);
}

/* With a right checksum: the lines must be in order, each name once. */
static void test_disorder(void **state)
{
    (void) state;
    struct digest a = sha256_of("a"), b = sha256_of("b"); /* b's is the smaller */
    const struct digest *const orders[][2] = {{&a, &a}, {&a, &b}};
    for (size_t i = 0; i < COUNT_OF(orders); i++) {
        auto_buf bytes = BUF_INIT(STORE_OBJECT_BYTES_MAX);
        struct snapshot snapshot;
        snapshot_begin(&bytes);
        for (size_t j = 0; j < 2; j++) {
            struct snapshot_entry entry = entry_of(orders[i][j], "t", "d");
            assert_true(snapshot_add(&bytes, &entry));
        }
        snapshot_end(&bytes, false);
        assert_int_equal(decode(buf_str(&bytes), &snapshot), ERR_CORRUPT);
    }
}

static void test_limit(void **state)
{
    (void) state;
    auto_buf bytes = BUF_INIT(STORE_OBJECT_BYTES_MAX);
    auto_mem char *text = malloc(REFERRER_DESCRIPTOR_BYTES_MAX + 1);
    assert_non_null(text);
    memset(text, 'x', REFERRER_DESCRIPTOR_BYTES_MAX);
    text[REFERRER_DESCRIPTOR_BYTES_MAX] = '\0';
    struct digest first = {.algorithm = DIGEST_SHA256}, second = first;
    second.raw[0] = 1;
    struct snapshot_entry entry = entry_of(&first, "t", text);
    snapshot_begin(&bytes);
    assert_true(snapshot_add(&bytes, &entry));
    entry = entry_of(&second, "t", text);
    assert_false(snapshot_add(&bytes, &entry)); /* and nothing of it is there */
    for (size_t step = 1024 * 1024; step > 0; step /= 2) {
        while (entry.descriptor.len = step, snapshot_add(&bytes, &entry)) {
            second.raw[0]++;
            entry.digest = second;
        }
    }
    assert_false(bytes.overflowed);
    assert_true(bytes.len <= STORE_OBJECT_BYTES_MAX && bytes.len > STORE_OBJECT_BYTES_MAX - 400);
    snapshot_end(&bytes, false);
    struct snapshot snapshot;
    assert_ok(decode(buf_str(&bytes), &snapshot));
    snapshot_free(&snapshot);
}

static void test_parts(void **state)
{
    (void) state;
    struct digest digest = sha256_of("a"), other = digest_of(DIGEST_SHA512, STR("a")); /* ca…, 1f… */
    struct snapshot_part whole = {.digits = 0}, one = snapshot_part_of(&whole, &digest);
    assert_true(one.algorithm == DIGEST_SHA256 && one.digits == 1 && one.value == 0xc);
    struct snapshot_part two = snapshot_part_of(&one, &digest);
    assert_true(two.digits == 2 && two.value == 0xca);
    assert_true(snapshot_part_has(&whole, &digest) && snapshot_part_has(&whole, &other));
    assert_true(snapshot_part_has(&one, &digest) && snapshot_part_has(&two, &digest));
    assert_false(snapshot_part_has(&one, &other));
    one = snapshot_part_of(&whole, &other);
    assert_true(one.algorithm == DIGEST_SHA512 && one.value == 1);
    assert_false(snapshot_part_has(&one, &digest));
    digest.raw[0] = 0xcb;
    assert_false(snapshot_part_has(&two, &digest));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_empty_and_split),
        cmocka_unit_test(test_any_damage_is_found),
        cmocka_unit_test(test_disorder),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "fixture.h"

#include "digest/hash.h"

#define SPLIT_BYTES 300
#define LONG_BYTES (1024 * 1024)
#define RANDOM_SPLITS 200

static const enum digest_algorithm algorithms[] = {DIGEST_SHA256, DIGEST_SHA512};

/* The saved states after the 200 bytes 0, 1, … 199: what stores hold today must be read by every later release. */
static const char golden_sha256[] =
    "010800000000000000c82bed68b99987cae48183b2b049d393d0050868e4e8ba3730e9112b08765929b7c0c1c2c3c4c5"
    "c6c700000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000";
static const char golden_sha512[] =
    "024800000000000000c88e03953cd57cd6879321270afa70c5827bb5b69be59a8f0130147e94f2aedf7bdc01c56c9234"
    "3ca8bd837bb7f0208f5a23e155694516b6f147099d491a30b151808182838485868788898a8b8c8d8e8f909192939495"
    "969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5"
    "c6c700000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000";
#define GOLDEN_DIGEST_SHA256 "sha256:1901da1c9f699b48f6b2636e65cbf73abf99d0441ef67f5c540a42f7051dec6f"
#define GOLDEN_DIGEST_SHA512                                                  \
    "sha512:986058e9895e2c2ab8f9e8cbdf801db12a44842a56a91d5a4e87b1fc98b29372" \
    "2c4664142e42c3c551ff898646268cd92b84ed230b8c94bed7798d4f27cd7465"

static void count_up(uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t) i;
}

static struct digest finish(const struct hash *hash)
{
    struct digest digest;
    hash_digest(hash, &digest);
    return digest;
}

static void test_known_vectors(void **state)
{
    (void) state;
    static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    static const struct {
        enum digest_algorithm algorithm;
        const char *input, *digest;
    } vectors[] = {
        {DIGEST_SHA256, "", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {DIGEST_SHA256, "abc", "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {DIGEST_SHA256, two_blocks, "sha256:248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {DIGEST_SHA512, "",
         "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
         "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"},
        {DIGEST_SHA512, "abc",
         "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
         "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
    };
    for (size_t i = 0; i < COUNT_OF(vectors); i++) {
        struct digest digest = digest_of(vectors[i].algorithm, str_from(vectors[i].input));
        assert_string_equal(digest_text(&digest), vectors[i].digest);
    }
}

static void test_digest_leaves_the_hash_running(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT_OF(algorithms); i++) {
        struct hash hash, copy;
        hash_init(&hash, algorithms[i]);
        hash_update(&hash, "ab", 2);
        copy = hash;
        (void) finish(&hash);
        assert_int_equal(hash.total_bytes, 2);
        hash_update(&hash, "", 0);
        hash_update(&hash, "c", 1);
        struct digest ab = digest_of(algorithms[i], STR("ab")), abc = digest_of(algorithms[i], STR("abc"));
        struct digest of_copy = finish(&copy), of_hash = finish(&hash);
        assert_true(digest_equal(&of_copy, &ab));
        assert_true(digest_equal(&of_hash, &abc));
    }
}

/* Hash the first part, save, restore elsewhere, hash the rest. */
static struct digest split_digest(enum digest_algorithm algorithm, const uint8_t *bytes, size_t len, size_t split)
{
    struct hash first, second;
    uint8_t state[HASH_STATE_BYTES_MAX];
    hash_init(&first, algorithm);
    hash_update(&first, bytes, split);
    size_t state_len = hash_save(&first, state);
    assert_int_equal(state_len, algorithm == DIGEST_SHA256 ? HASH_STATE_BYTES_SHA256 : HASH_STATE_BYTES_SHA512);
    memset(&second, 0xee, sizeof(second));
    assert_true(hash_restore(&second, state, state_len));
    assert_int_equal(second.algorithm, algorithm);
    assert_int_equal(second.total_bytes, split);
    hash_update(&second, bytes + split, len - split);
    return finish(&second);
}

static void test_save_and_restore_at_every_position(void **state)
{
    (void) state;
    uint8_t bytes[SPLIT_BYTES];
    random_bytes(bytes, sizeof(bytes));
    for (size_t i = 0; i < COUNT_OF(algorithms); i++) {
        for (size_t split = 0; split <= SPLIT_BYTES; split++) {
            for (size_t len = split; len <= SPLIT_BYTES; len += len < split + 3 ? 1 : 61) {
                struct digest whole = digest_of(algorithms[i], (struct str){(const char *) bytes, len});
                struct digest parts = split_digest(algorithms[i], bytes, len, split);
                assert_true(digest_equal(&whole, &parts));
            }
        }
    }
}

static void test_save_and_restore_at_random_positions(void **state)
{
    (void) state;
    uint8_t *bytes = malloc(LONG_BYTES);
    assert_non_null(bytes);
    random_bytes(bytes, LONG_BYTES);
    for (size_t i = 0; i < COUNT_OF(algorithms); i++) {
        struct digest whole = digest_of(algorithms[i], (struct str){(const char *) bytes, LONG_BYTES});
        struct hash hash;
        hash_init(&hash, algorithms[i]);
        size_t done = 0;
        for (size_t n = 0; n < RANDOM_SPLITS; n++) {
            uint32_t number;
            uint8_t saved[HASH_STATE_BYTES_MAX];
            random_bytes(&number, sizeof(number));
            size_t len = number % (2 * LONG_BYTES / RANDOM_SPLITS);
            len = len < LONG_BYTES - done ? len : LONG_BYTES - done;
            hash_update(&hash, bytes + done, len);
            done += len;
            size_t saved_len = hash_save(&hash, saved);
            assert_true(hash_restore(&hash, saved, saved_len));
        }
        hash_update(&hash, bytes + done, LONG_BYTES - done);
        struct digest parts = finish(&hash);
        assert_true(digest_equal(&whole, &parts));
    }
    free(bytes);
}

static void hex_decode(const char *hex, uint8_t *out, size_t len)
{
    assert_int_equal(strlen(hex), 2 * len);
    for (size_t i = 0; i < len; i++) {
        unsigned value;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &value), 1);
        out[i] = (uint8_t) value;
    }
}

static void check_golden(enum digest_algorithm algorithm, const char *hex, size_t len, const char *digest)
{
    uint8_t bytes[200], golden[HASH_STATE_BYTES_MAX], saved[HASH_STATE_BYTES_MAX];
    struct hash hash;
    count_up(bytes, sizeof(bytes));
    hex_decode(hex, golden, len);
    hash_init(&hash, algorithm);
    hash_update(&hash, bytes, sizeof(bytes));
    assert_int_equal(hash_save(&hash, saved), len);
    assert_memory_equal(saved, golden, len);
    assert_true(hash_restore(&hash, golden, len));
    struct digest actual = finish(&hash);
    assert_string_equal(digest_text(&actual), digest);
}

static void test_golden_states(void **state)
{
    (void) state;
    check_golden(DIGEST_SHA256, golden_sha256, HASH_STATE_BYTES_SHA256, GOLDEN_DIGEST_SHA256);
    check_golden(DIGEST_SHA512, golden_sha512, HASH_STATE_BYTES_SHA512, GOLDEN_DIGEST_SHA512);
}

static void assert_refused(const uint8_t *state, size_t len)
{
    struct hash hash, before;
    hash_init(&hash, DIGEST_SHA256);
    hash_update(&hash, "kept", 4);
    before = hash;
    assert_false(hash_restore(&hash, state, len));
    assert_memory_equal(&hash, &before, sizeof(hash));
}

static void test_foreign_states_are_refused(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT_OF(algorithms); i++) {
        uint8_t saved[HASH_STATE_BYTES_MAX + 1] = {0}, bad[HASH_STATE_BYTES_MAX + 1];
        struct hash hash;
        hash_init(&hash, algorithms[i]);
        hash_update(&hash, "0123456789", 10);
        size_t len = hash_save(&hash, saved);
        for (size_t cut = 0; cut < len; cut++)
            assert_refused(saved, cut);
        assert_refused(saved, len + 1);

        for (unsigned algorithm = 0; algorithm < 256; algorithm++) {
            if (algorithm == algorithms[i])
                continue;
            memcpy(bad, saved, sizeof(bad));
            bad[0] = (uint8_t) algorithm;
            assert_refused(bad, len);
        }
        for (unsigned pending = 0; pending < 256; pending++) {
            if (pending == 10)
                continue;
            memcpy(bad, saved, sizeof(bad));
            bad[1] = (uint8_t) pending;
            assert_refused(bad, len);
        }
        memcpy(bad, saved, sizeof(bad));
        bad[9] = 11; /* the total no longer fits */
        assert_refused(bad, len);
        memcpy(bad, saved, sizeof(bad));
        bad[len - 1] = 1; /* something behind the unfinished block */
        assert_refused(bad, len);
        memcpy(bad, saved, sizeof(bad));
        bad[2] = 0x20; /* more bytes than have a count of bits */
        assert_refused(bad, len);
    }
}

static void test_totals_past_four_gigabytes(void **state)
{
    (void) state;
    /* The library counts bits in two halves: a state with a big total must come back as it was and go on. */
    for (size_t i = 0; i < COUNT_OF(algorithms); i++) {
        uint8_t saved[HASH_STATE_BYTES_MAX], again[HASH_STATE_BYTES_MAX];
        struct hash hash;
        hash_init(&hash, algorithms[i]);
        size_t len = hash_save(&hash, saved);
        static const uint8_t total[8] = {0, 0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0x80};
        memcpy(saved + 2, total, 8);
        assert_true(hash_restore(&hash, saved, len));
        assert_true(hash.total_bytes == 0x123456789a80);
        assert_int_equal(hash_save(&hash, again), len);
        assert_memory_equal(saved, again, len);
        hash_update(&hash, "x", 1);
        assert_int_equal(hash_save(&hash, again), len);
        struct hash other;
        assert_true(hash_restore(&other, again, len));
        hash_update(&hash, "yz", 2);
        hash_update(&other, "yz", 2);
        struct digest a = finish(&hash), b = finish(&other);
        assert_true(digest_equal(&a, &b));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_vectors),
        cmocka_unit_test(test_digest_leaves_the_hash_running),
        cmocka_unit_test(test_save_and_restore_at_every_position),
        cmocka_unit_test(test_save_and_restore_at_random_positions),
        cmocka_unit_test(test_golden_states),
        cmocka_unit_test(test_foreign_states_are_refused),
        cmocka_unit_test(test_totals_past_four_gigabytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "digest/checksum.h"
#include "digest/hmac.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static void assert_hex(const uint8_t *raw, size_t len, const char *expected)
{
    char hex[2 * 64 + 1] = "";
    for (size_t i = 0; i < len; i++)
        (void) snprintf(hex + 2 * i, 3, "%02x", raw[i]);
    assert_string_equal(hex, expected);
}

/* RFC 4231 */
static void test_hmac_vectors(void **state)
{
    (void) state;
    char bytes_aa[131], bytes_0b[20], bytes_dd[50];
    memset(bytes_aa, 0xaa, sizeof(bytes_aa));
    memset(bytes_0b, 0x0b, sizeof(bytes_0b));
    memset(bytes_dd, 0xdd, sizeof(bytes_dd));
    const struct {
        struct str key;
        struct str text;
        const char *mac;
    } rows[] = {
        {{bytes_0b, 20}, STR("Hi There"), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {STR("Jefe"), STR("what do ya want for nothing?"),
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {{bytes_aa, 20}, {bytes_dd, 50}, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
        {{bytes_aa, 131},
         STR("Test Using Larger Than Block-Size Key - Hash Key First"),
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
        {{bytes_aa, 131},
         STR("This is a test using a larger than block-size key and a larger than block-size data. The key needs to be "
             "hashed before being used by the HMAC algorithm."),
         "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
        {{NULL, 0}, {NULL, 0}, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"},
    };
    for (size_t i = 0; i < LENGTH(rows); i++) {
        uint8_t mac[HMAC_SHA256_BYTES];
        hmac_sha256(rows[i].key.ptr, rows[i].key.len, rows[i].text.ptr, rows[i].text.len, mac);
        assert_hex(mac, sizeof(mac), rows[i].mac);

        struct hmac pieces;
        hmac_init(&pieces, rows[i].key.ptr, rows[i].key.len);
        for (size_t at = 0; at < rows[i].text.len; at++)
            hmac_update(&pieces, rows[i].text.ptr + at, 1);
        hmac_final(&pieces, mac);
        assert_hex(mac, sizeof(mac), rows[i].mac);
    }
}

static void test_hmac_into_its_key(void **state)
{
    (void) state;
    uint8_t key[HMAC_SHA256_BYTES] = "Jefe";
    hmac_sha256(key, 4, "what do ya want for nothing?", 28, key);
    assert_hex(key, sizeof(key), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

/* RFC 3720, B.4, and the usual check value */
static void test_crc32c(void **state)
{
    (void) state;
    uint8_t zeros[32] = {0}, ones[32], up[32], down[32];
    memset(ones, 0xFF, sizeof(ones));
    for (uint8_t i = 0; i < 32; i++) {
        up[i] = i;
        down[i] = (uint8_t) (31 - i);
    }
    assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283);
    assert_int_equal(crc32c(0, zeros, 32), 0x8A9136AA);
    assert_int_equal(crc32c(0, ones, 32), 0x62A8AB43);
    assert_int_equal(crc32c(0, up, 32), 0x46DD794E);
    assert_int_equal(crc32c(0, down, 32), 0x113FDB5C);
    assert_int_equal(crc32c(0, "", 0), 0);
    for (size_t cut = 0; cut <= 32; cut++)
        assert_int_equal(crc32c(crc32c(0, up, cut), up + cut, 32 - cut), 0x46DD794E);
}

static void test_md5_and_base64(void **state)
{
    (void) state;
    const struct str spans[] = {STR("ab"), {NULL, 0}, STR("c")};
    uint8_t md5[MD5_BYTES];
    md5_spans(spans, LENGTH(spans), md5);
    assert_hex(md5, sizeof(md5), "900150983cd24fb0d6963f7d28e17f72");
    md5_spans(NULL, 0, md5);
    assert_hex(md5, sizeof(md5), "d41d8cd98f00b204e9800998ecf8427e");

    /* RFC 4648, 10 */
    static const struct {
        const char *raw;
        const char *text;
    } rows[] = {{"", ""},
                {"f", "Zg=="},
                {"fo", "Zm8="},
                {"foo", "Zm9v"},
                {"foob", "Zm9vYg=="},
                {"fooba", "Zm9vYmE="},
                {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < LENGTH(rows); i++) {
        char text[BASE64_BYTES(6)];
        base64_encode((const uint8_t *) rows[i].raw, strlen(rows[i].raw), text);
        assert_string_equal(text, rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hmac_vectors),
        cmocka_unit_test(test_hmac_into_its_key),
        cmocka_unit_test(test_crc32c),
        cmocka_unit_test(test_md5_and_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* CRC-32C by the processor's instruction where it has one, by slices of eight bytes elsewhere; MD5 by libcrypto. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "digest/checksum.h"

#include <assert.h>
#include <openssl/md5.h>
#include <pthread.h>

#define CRC32C_POLYNOMIAL 0x82F63B78U /* reflected */
#define SLICES 8

static_assert(MD5_BYTES == MD5_DIGEST_LENGTH, "an MD5 has 16 bytes");

/* crc_tables[k][b]: the CRC of byte b with k zero bytes behind it. Written once. */
static uint32_t crc_tables[SLICES][256];
static pthread_once_t crc_tables_once = PTHREAD_ONCE_INIT;

static void crc_fill_tables(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? CRC32C_POLYNOMIAL : 0);
        crc_tables[0][b] = crc;
    }
    for (size_t k = 1; k < SLICES; k++)
        for (size_t b = 0; b < 256; b++)
            crc_tables[k][b] = crc_tables[k - 1][b] >> 8 ^ crc_tables[0][crc_tables[k - 1][b] & 0xFF];
}

static uint32_t crc_by_slices(uint32_t crc, const uint8_t *p, size_t len)
{
    pthread_once(&crc_tables_once, crc_fill_tables);
    for (; len >= SLICES; p += SLICES, len -= SLICES) {
        uint32_t next = 0;
        for (size_t i = 0; i < SLICES; i++) {
            uint32_t mixed = p[i] ^ (i < sizeof(crc) ? crc >> (8 * i) : 0);
            next ^= crc_tables[SLICES - 1 - i][mixed & 0xFF];
        }
        crc = next;
    }
    for (; len > 0; p++, len--)
        crc = crc >> 8 ^ crc_tables[0][(crc ^ *p) & 0xFF];
    return crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc_by_instruction(uint32_t crc, const uint8_t *p, size_t len)
{
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, p, sizeof(word));
        crc = (uint32_t) __builtin_ia32_crc32di(crc, word);
    }
    for (; len > 0; p++, len--)
        crc = __builtin_ia32_crc32qi(crc, *p);
    return crc;
}
#endif

uint32_t crc32c(uint32_t crc, const void *bytes, size_t len)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.2"))
        return ~crc_by_instruction(~crc, bytes, len);
#endif
    return ~crc_by_slices(~crc, bytes, len);
}

void md5_spans(const struct str *spans, size_t count, uint8_t *out)
{
    MD5_CTX ctx;
    MD5_Init(&ctx);
    for (size_t i = 0; i < count; i++)
        MD5_Update(&ctx, spans[i].ptr, spans[i].len);
    MD5_Final(out, &ctx);
}

void base64_encode(const uint8_t *bytes, size_t len, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (; len > 0; bytes += 3, out += 4) {
        uint32_t group =
            (uint32_t) bytes[0] << 16 | (len > 1 ? (uint32_t) bytes[1] << 8 : 0) | (len > 2 ? bytes[2] : 0);
        out[0] = digits[group >> 18];
        out[1] = digits[group >> 12 & 63];
        out[2] = len > 1 ? digits[group >> 6 & 63] : '=';
        out[3] = len > 2 ? digits[group & 63] : '=';
        len = len > 3 ? len - 3 : 0;
    }
    *out = '\0';
}

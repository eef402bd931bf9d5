/* Encoding and decoding of upload records; the layout is in record.h. */
#include "registry/record.h"

#include <assert.h>

#define MAGIC "ORLU"
#define CHECKSUM_BYTES 4

static void put_number(struct buf *out, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        (void) buf_append_char(out, (char) (uint8_t) (value >> (8 * (bytes - 1 - i))));
}

static void put_text(struct buf *out, const void *text, size_t len, size_t length_bytes)
{
    put_number(out, len, length_bytes);
    (void) buf_append(out, text, len);
}

static void checksum(const char *bytes, size_t len, uint8_t out[CHECKSUM_BYTES])
{
    struct hash hash;
    struct digest digest;
    hash_init(&hash, DIGEST_SHA256);
    hash_update(&hash, bytes, len);
    hash_digest(&hash, &digest);
    memcpy(out, digest.raw, CHECKSUM_BYTES);
}

void record_encode(const struct upload_record *record, struct buf *out)
{
    uint8_t state[HASH_STATE_BYTES_MAX], sum[CHECKSUM_BYTES];
    size_t start = out->len;
    size_t state_len = hash_save(&record->hash, state);
    (void) buf_append_text(out, MAGIC);
    put_number(out, RECORD_VERSION, 2);
    put_text(out, record->repo.text, strlen(record->repo.text), 1);
    put_number(out, record->started_ms, 8);
    put_number(out, record->active_ms, 8);
    put_text(out, record->boot_id, strlen(record->boot_id), 1);
    put_text(out, state, state_len, 2);
    checksum(out->ptr + start, out->len - start, sum);
    (void) buf_append(out, sum, sizeof(sum));
    assert(!out->overflowed);
}

/* A reader that stays failed once it ran short. */
struct reader {
    const uint8_t *p;
    size_t left;
    bool failed;
};

static uint64_t take_number(struct reader *reader, size_t bytes)
{
    uint64_t value = 0;
    if (reader->left < bytes)
        reader->failed = true;
    if (reader->failed)
        return 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | reader->p[i];
    reader->p += bytes;
    reader->left -= bytes;
    return value;
}

static struct str take_text(struct reader *reader, size_t length_bytes)
{
    size_t len = (size_t) take_number(reader, length_bytes);
    if (reader->left < len)
        reader->failed = true;
    if (reader->failed)
        return STR("");
    struct str text = {(const char *) reader->p, len};
    reader->p += len;
    reader->left -= len;
    return text;
}

enum err_code record_decode(struct str bytes, struct upload_record *out, struct err *err)
{
    struct reader reader = {(const uint8_t *) bytes.ptr, bytes.len, false};
    if (bytes.len < 6 || memcmp(bytes.ptr, MAGIC, 4) != 0)
        return err_set(err, ERR_CORRUPT, "the upload's record is no record");
    reader.p += 4;
    reader.left -= 4;
    uint64_t version = take_number(&reader, 2);
    if (version < 1 || version > RECORD_VERSION)
        return err_set(err, ERR_VERSION, "the upload's record has version %u; this release knows 1 to %d",
                       (unsigned) version, RECORD_VERSION);

    struct upload_record record = {0};
    struct str repo = take_text(&reader, 1);
    record.started_ms = take_number(&reader, 8);
    record.active_ms = take_number(&reader, 8);
    struct str boot_id = version >= 2 ? take_text(&reader, 1) : STR("");
    struct str state = take_text(&reader, 2);
    uint8_t sum[CHECKSUM_BYTES];
    if (reader.failed || reader.left != CHECKSUM_BYTES)
        return err_set(err, ERR_CORRUPT, "the upload's record is cut or too long");
    checksum(bytes.ptr, bytes.len - CHECKSUM_BYTES, sum);
    if (memcmp(sum, reader.p, CHECKSUM_BYTES) != 0)
        return err_set(err, ERR_CORRUPT, "the upload's record has a wrong checksum");
    if (boot_id.len > RECORD_BOOT_ID_CHARS_MAX || (boot_id.len && memchr(boot_id.ptr, 0, boot_id.len)) ||
        !hash_restore(&record.hash, (const uint8_t *) state.ptr, state.len))
        return err_set(err, ERR_CORRUPT, "the upload's record holds no valid hash state or boot id");
    memcpy(record.boot_id, boot_id.ptr, boot_id.len);
    if (repo_name_parse(repo, &record.repo, err) != ERR_OK)
        return err_become(err, ERR_CORRUPT, "the upload's record names no repository");
    *out = record;
    return ERR_OK;
}

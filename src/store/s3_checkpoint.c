/* Encoding and decoding of checkpoint objects; the layout is in s3_checkpoint.h. */
#include "store/s3_checkpoint.h"

#include <assert.h>

#define MAGIC "ORLS"
#define FORMAT_VERSION 2
#define FORMAT_VERSION_OLD 1
#define NODE_CHARS 32
#define NONCE_CHARS 32

static void put_number(struct buf *out, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        (void) buf_append_char(out, (char) (uint8_t) (value >> (8 * (bytes - 1 - i))));
}

static void put_text(struct buf *out, struct str text)
{
    put_number(out, text.len, 2);
    (void) buf_append(out, text.ptr, text.len);
}

void s3_checkpoint_encode(const struct s3_checkpoint *checkpoint, struct buf *out)
{
    (void) buf_append_text(out, MAGIC);
    put_number(out, checkpoint->nonce[0] ? FORMAT_VERSION : FORMAT_VERSION_OLD, 2);
    (void) buf_append(out, checkpoint->node, NODE_CHARS);
    put_text(out, str_from(checkpoint->multipart_id));
    (void) buf_append_text(out, checkpoint->nonce);
    put_number(out, checkpoint->next_part, 4);
    put_number(out, checkpoint->run_count, 2);
    for (size_t i = 0; i < checkpoint->run_count; i++) {
        put_number(out, checkpoint->runs[i].first, 2);
        put_number(out, checkpoint->runs[i].count, 2);
    }
    put_number(out, checkpoint->parts_bytes, 8);
    put_number(out, checkpoint->tail_first, 4);
    put_number(out, checkpoint->bytes_offset, 8);
    put_text(out, checkpoint->record);
    assert(!out->overflowed);
}

/* A reader that stays failed once it ran short. */
struct reader {
    const char *p;
    size_t left;
    bool failed;
};

static struct str take(struct reader *reader, size_t len)
{
    if (reader->left < len)
        reader->failed = true;
    if (reader->failed)
        return STR("");
    struct str text = {reader->p, len};
    reader->p += len;
    reader->left -= len;
    return text;
}

static uint64_t take_number(struct reader *reader, size_t bytes)
{
    struct str raw = take(reader, bytes);
    uint64_t value = 0;
    for (size_t i = 0; i < raw.len; i++)
        value = value << 8 | (uint8_t) raw.ptr[i];
    return value;
}

/* It becomes part of a key. */
static bool nonce_is_sound(struct str nonce)
{
    for (size_t i = 0; i < nonce.len; i++) {
        if (!strchr("0123456789abcdef", nonce.ptr[i]) || nonce.ptr[i] == '\0')
            return false;
    }
    return true;
}

/* Runs in ascending order, below next_part. */
static bool runs_are_sound(const struct s3_checkpoint *checkpoint)
{
    unsigned end = 1;
    for (size_t i = 0; i < checkpoint->run_count; i++) {
        const struct s3_part_run *run = &checkpoint->runs[i];
        if (run->count == 0 || run->first < end)
            return false;
        end = (unsigned) run->first + run->count;
    }
    return checkpoint->next_part >= end && checkpoint->next_part <= S3_PARTS_MAX + 1;
}

enum err_code s3_checkpoint_decode(struct str object, struct s3_checkpoint *out, struct str *out_bytes, struct err *err)
{
    struct reader reader = {object.ptr, object.len, false};
    struct s3_checkpoint checkpoint = {0};
    if (!str_equal(take(&reader, 4), STR(MAGIC)))
        return err_set(err, ERR_CORRUPT, "the upload's checkpoint is none");
    uint64_t version = take_number(&reader, 2);
    if (version != FORMAT_VERSION && version != FORMAT_VERSION_OLD)
        return err_set(err, ERR_VERSION, "the upload's checkpoint has version %u; this release knows %d",
                       (unsigned) version, FORMAT_VERSION);
    struct str node = take(&reader, NODE_CHARS);
    struct str multipart_id = take(&reader, (size_t) take_number(&reader, 2));
    struct str nonce = take(&reader, version == FORMAT_VERSION ? NONCE_CHARS : 0);
    checkpoint.next_part = (uint32_t) take_number(&reader, 4);
    checkpoint.run_count = (size_t) take_number(&reader, 2);
    if (checkpoint.run_count > S3_CHECKPOINT_RUNS_MAX || multipart_id.len >= sizeof(checkpoint.multipart_id))
        reader.failed = true;
    for (size_t i = 0; !reader.failed && i < checkpoint.run_count; i++) {
        checkpoint.runs[i].first = (uint16_t) take_number(&reader, 2);
        checkpoint.runs[i].count = (uint16_t) take_number(&reader, 2);
    }
    checkpoint.parts_bytes = take_number(&reader, 8);
    checkpoint.tail_first = (uint32_t) take_number(&reader, 4);
    checkpoint.bytes_offset = take_number(&reader, 8);
    checkpoint.record = take(&reader, (size_t) take_number(&reader, 2));
    if (reader.failed || !runs_are_sound(&checkpoint) ||
        (multipart_id.len && memchr(multipart_id.ptr, 0, multipart_id.len)) || !nonce_is_sound(nonce))
        return err_set(err, ERR_CORRUPT, "the upload's checkpoint is damaged");
    memcpy(checkpoint.node, node.ptr, NODE_CHARS);
    memcpy(checkpoint.multipart_id, multipart_id.ptr, multipart_id.len);
    memcpy(checkpoint.nonce, nonce.ptr, nonce.len);
    *out = checkpoint;
    *out_bytes = (struct str){reader.p, reader.left};
    return ERR_OK;
}

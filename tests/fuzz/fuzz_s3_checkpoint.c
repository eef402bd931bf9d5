/* Checkpoint objects of S3 uploads: what is accepted, head and bytes, is written back as it was. */
#include "fuzz.h"
#include "store/s3_checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    struct str object = fuzz_text(data, size);
    struct str bytes;
    struct s3_checkpoint checkpoint;
    enum err_code code = s3_checkpoint_decode(object, &checkpoint, &bytes, &err);
    if (code != ERR_OK) {
        assert(code == err.code && (code == ERR_VERSION || code == ERR_CORRUPT));
        return 0;
    }
    assert(checkpoint.run_count <= S3_CHECKPOINT_RUNS_MAX && checkpoint.record.len <= STORE_RECORD_BYTES_MAX);
    assert(bytes.len <= size && bytes.ptr + bytes.len == object.ptr + size);

    auto_buf head = BUF_INIT(S3_CHECKPOINT_HEAD_BYTES_MAX);
    s3_checkpoint_encode(&checkpoint, &head);
    assert(!head.overflowed && str_equal(buf_str(&head), (struct str){object.ptr, size - bytes.len}));
    return 0;
}

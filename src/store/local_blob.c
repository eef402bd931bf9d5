/* Blobs as files: their bytes stand at their digest's key, so a reader gets a descriptor for sendfile. */
#include "store/local_priv.h"

#include <fcntl.h>
#include <sys/stat.h>

enum err_code local_blob_stat(struct store *store, const struct digest *digest, uint64_t *out_bytes, struct err *err)
{
    char key[BLOB_KEY_BYTES_MAX];
    blob_key_format(digest, key);
    return local_stat(store, key, out_bytes, err);
}

enum err_code local_blob_open(struct store *store, const struct digest *digest, const struct store_blob_info *known,
                              struct store_blob *out, struct err *err)
{
    (void) known; /* the file knows best */
    struct local *local = local_of(store);
    char key[BLOB_KEY_BYTES_MAX];
    blob_key_format(digest, key);
    auto_fd fd = openat(local->root_fd, key, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        (void) err_set_errno(err, errno, "open %s", key);
        return local_explain(local, err);
    }
    *out = (struct store_blob){.size_bytes = (uint64_t) st.st_size, .fd = TAKE_FD(fd)};
    return ERR_OK;
}

enum err_code local_blob_read(struct store *store, struct store_blob *blob, uint64_t offset, void *bytes, size_t len,
                              size_t *out_len, struct err *err)
{
    (void) store;
    return fs_pread_full(blob->fd, bytes, len, offset, out_len, err);
}

void local_blob_close(struct store *store, struct store_blob *blob)
{
    (void) store;
    fd_close(blob->fd);
    blob->fd = -1;
}

enum err_code local_blob_delete(struct store *store, const struct digest *digest, struct err *err)
{
    char key[BLOB_KEY_BYTES_MAX];
    blob_key_format(digest, key);
    return local_delete(store, (const char *const[]){key}, 1, err);
}

/*
 * Uploads as uploads/<id>/{data,record}. Bytes are written at their place in data and their write-back is started as
 * they land, so that the sync at commit finds little left to do. The record is replaced atomically after the bytes it
 * speaks of: a SIGKILL between the two leaves the older record, whose offset the next append goes on from.
 *
 * Commit publishes data by renaming it to the blob's key.
 */
#include "store/local_priv.h"

#include "store/local_names.h"

#include <fcntl.h>
#include <sys/stat.h>

#define UPLOAD_PATH_BYTES_MAX 64

static void upload_path(const char *id, const char *leaf, char *out)
{
    (void) snprintf(out, UPLOAD_PATH_BYTES_MAX, "uploads/%s%s", id, leaf);
}

/* uploads/<id> was made or removed, or that was tried. */
static void note_session(struct local *local, const char *id)
{
    char path[UPLOAD_PATH_BYTES_MAX];
    upload_path(id, "", path);
    local_index_note(local->index, path);
}

static enum err_code upload_new(struct store *store, const char *id, struct local_upload **out, struct err *err)
{
    struct local_upload *upload = calloc(1, sizeof(*upload));
    if (!upload)
        return err_set(err, ERR_NO_MEMORY, "out of memory");
    upload->base.store = store;
    upload->data_fd = -1;
    (void) snprintf(upload->id, sizeof(upload->id), "%s", id);
    *out = upload;
    return ERR_OK;
}

void local_upload_close(struct store_upload *base)
{
    struct local_upload *upload = (struct local_upload *) base;
    fd_close(upload->data_fd);
    free(upload);
}

enum err_code local_upload_create(struct store *store, const char *id, struct store_upload **out, struct err *err)
{
    struct local_upload *upload;
    if (local_check_root(local_of(store), err) != ERR_OK || upload_new(store, id, &upload, err) != ERR_OK)
        return err->code;
    *out = &upload->base;
    return ERR_OK;
}

enum err_code local_upload_record(struct store *store, const char *id, struct buf *out_record, struct err *err)
{
    char path[UPLOAD_PATH_BYTES_MAX];
    upload_path(id, "/record", path);
    return local_get(store, path, out_record, err);
}

/* Open data; with make, it and its directory are created. data_fd stays -1 when it is missing and not made. */
static enum err_code open_data(struct local_upload *upload, bool make, struct err *err)
{
    struct local *local = local_of(upload->base.store);
    char path[UPLOAD_PATH_BYTES_MAX];
    upload_path(upload->id, "/data", path);
    if (upload->data_fd >= 0)
        return ERR_OK;
    if (make) {
        char dir[UPLOAD_PATH_BYTES_MAX];
        upload_path(upload->id, "", dir);
        if (local_check_root(local, err) != ERR_OK || fs_make_dirs(local->root_fd, dir, FS_VOLATILE, err) != ERR_OK)
            return err->code;
        note_session(local, upload->id);
    }
    upload->data_fd = openat(local->root_fd, path, O_RDWR | O_CLOEXEC | (make ? O_CREAT : 0), 0640);
    if (upload->data_fd < 0 && (make || errno != ENOENT))
        return err_set_errno(err, errno, "open %s", path);
    return ERR_OK;
}

enum err_code local_upload_open(struct store *store, const char *id, struct store_upload **out, struct buf *out_record,
                                struct err *err)
{
    struct local_upload *upload = NULL;
    if (local_upload_record(store, id, out_record, err) != ERR_OK || upload_new(store, id, &upload, err) != ERR_OK)
        return err->code;
    if (open_data(upload, false, err) != ERR_OK) {
        local_upload_close(&upload->base);
        return err->code;
    }
    *out = &upload->base;
    return ERR_OK;
}

static enum err_code data_size(const struct local_upload *upload, uint64_t *out, struct err *err)
{
    struct stat st = {0};
    if (upload->data_fd >= 0 && fstat(upload->data_fd, &st) != 0)
        return err_set_errno(err, errno, "stat uploads/%s/data", upload->id);
    *out = (uint64_t) st.st_size;
    return ERR_OK;
}

enum err_code local_upload_seek(struct store_upload *base, uint64_t offset_bytes, struct err *err)
{
    struct local_upload *upload = (struct local_upload *) base;
    uint64_t size;
    if (data_size(upload, &size, err) != ERR_OK)
        return err->code;
    if (size < offset_bytes)
        return err_set(err, ERR_CORRUPT, "uploads/%s/data holds %llu bytes, its record says %llu", upload->id,
                       (unsigned long long) size, (unsigned long long) offset_bytes);
    upload->offset = offset_bytes;
    upload->written_back_to = offset_bytes;
    return ERR_OK;
}

enum err_code local_upload_append(struct store_upload *base, const void *bytes, size_t len, struct err *err)
{
    struct local_upload *upload = (struct local_upload *) base;
    if (open_data(upload, true, err) != ERR_OK)
        return err->code;
    crash_point("upload append");
    upload->is_synced = false;
    if (fs_pwrite_full(upload->data_fd, bytes, len, upload->offset, err) != ERR_OK)
        return err_wrap(err, "uploads/%s/data", upload->id);
    upload->offset += len;
    uint64_t pending = upload->offset - upload->written_back_to;
    if (pending >= LOCAL_WRITE_BACK_BYTES) {
        /* A hint: what goes wrong with the bytes shows at the sync of commit. */
        (void) sync_file_range(upload->data_fd, (off_t) upload->written_back_to, (off_t) pending,
                               SYNC_FILE_RANGE_WRITE);
        upload->written_back_to = upload->offset;
    }
    return ERR_OK;
}

enum err_code local_upload_checkpoint(struct store_upload *base, struct str record, struct err *err)
{
    struct local_upload *upload = (struct local_upload *) base;
    struct local *local = local_of(base->store);
    char path[UPLOAD_PATH_BYTES_MAX];
    upload_path(upload->id, "/record", path);
    if (local_check_root(local, err) != ERR_OK)
        return err->code;
    enum err_code code = fs_write_atomic(local->root_fd, LOCAL_TMP, path, record, FS_REPLACE, FS_VOLATILE, err);
    note_session(local, upload->id);
    return code;
}

enum err_code local_upload_read(struct store_upload *base, uint64_t offset, void *bytes, size_t len, size_t *out_len,
                                struct err *err)
{
    struct local_upload *upload = (struct local_upload *) base;
    *out_len = 0;
    return upload->data_fd < 0 ? ERR_OK : fs_pread_full(upload->data_fd, bytes, len, offset, out_len, err);
}

enum err_code local_upload_flush(struct store_upload *base, struct err *err)
{
    struct local_upload *upload = (struct local_upload *) base;
    if (upload->data_fd < 0 || upload->is_synced)
        return ERR_OK;
    crash_point("upload flush");
    if (fdatasync(upload->data_fd) != 0)
        return err_set_errno(err, errno, "sync uploads/%s/data", upload->id);
    upload->is_synced = true;
    return ERR_OK;
}

/* Our bytes are not there (an earlier commit published them) or not needed: is the blob whole? */
static enum err_code blob_is_whole(struct store *store, const struct digest *digest, uint64_t size_bytes, bool *out,
                                   struct err *err)
{
    uint64_t size;
    enum err_code code = local_blob_stat(store, digest, &size, err);
    *out = code == ERR_OK && size == size_bytes;
    return code == ERR_NOT_FOUND ? ERR_OK : code;
}

/*
 * Put data at the blob's key. A blob that is there whole stays; one of another size is damaged and is replaced.
 * ERR_NOT_FOUND: a delete removed the blob or its folder meanwhile.
 */
static enum err_code try_publish(struct local *local, const char *from, const struct digest *digest,
                                 uint64_t size_bytes, struct err *err)
{
    char to[BLOB_KEY_BYTES_MAX];
    blob_key_format(digest, to);
    enum err_code code = fs_publish(local->root_fd, from, to, FS_KEEP, err);
    if (code != ERR_EXISTS)
        return code;
    bool whole;
    if (blob_is_whole(&local->base, digest, size_bytes, &whole, err) != ERR_OK)
        return err->code;
    if (!whole)
        return fs_publish(local->root_fd, from, to, FS_REPLACE, err);
    /* Whoever put it there may not have synced its directory yet, and our answer promises that it stays. */
    *strrchr(to, '/') = '\0';
    if (fs_sync_dir(local->root_fd, to, err) != ERR_OK)
        return err->code;
    return fs_unlink(local->root_fd, from, FS_VOLATILE, err);
}

static enum err_code publish_data(struct local_upload *upload, const struct digest *digest, uint64_t size_bytes,
                                  struct err *err)
{
    struct local *local = local_of(upload->base.store);
    char from[UPLOAD_PATH_BYTES_MAX], to[BLOB_KEY_BYTES_MAX];
    upload_path(upload->id, "/data", from);
    blob_key_format(digest, to);
    enum err_code code = ERR_NOT_FOUND;
    for (int tries = 0; code == ERR_NOT_FOUND && tries < LOCAL_TRIES_MAX; tries++) {
        local_race_begin(local, tries);
        code = try_publish(local, from, digest, size_bytes, err);
        local_race_end(local, tries);
    }
    local_index_note(local->index, to);
    return code;
}

enum err_code local_upload_commit(struct store_upload *base, const struct digest *digest, uint64_t size_bytes,
                                  struct store_place *out_place, struct err *err)
{
    out_place->text[0] = '\0';
    struct local_upload *upload = (struct local_upload *) base;
    struct local *local = local_of(base->store);
    uint64_t size;
    bool whole = false;
    if (local_check_root(local, err) != ERR_OK)
        return err->code;
    if (upload->data_fd < 0) {
        if (blob_is_whole(base->store, digest, size_bytes, &whole, err) != ERR_OK || whole)
            return whole ? ERR_OK : err->code;
        if (size_bytes == 0 && open_data(upload, true, err) != ERR_OK)
            return err->code;
    }
    if (data_size(upload, &size, err) != ERR_OK)
        return err->code;
    if (size < size_bytes)
        return err_set(err, ERR_CORRUPT, "uploads/%s/data holds %llu bytes of %llu", upload->id,
                       (unsigned long long) size, (unsigned long long) size_bytes);
    if (size > size_bytes) {
        crash_point("upload truncate");
        upload->is_synced = false;
        if (ftruncate(upload->data_fd, (off_t) size_bytes) != 0)
            return err_set_errno(err, errno, "cut uploads/%s/data", upload->id);
    }
    if (local_upload_flush(base, err) != ERR_OK)
        return err->code;
    return publish_data(upload, digest, size_bytes, err);
}

enum err_code local_upload_remove(struct store *store, const char *id, struct err *err)
{
    struct local *local = local_of(store);
    char from[UPLOAD_PATH_BYTES_MAX], to[UPLOAD_PATH_BYTES_MAX];
    upload_path(id, "", from);
    (void) snprintf(to, sizeof(to), LOCAL_TMP "/%s", id);
    if (local_check_root(local, err) != ERR_OK)
        return err->code;
    /* One rename, so that the session is there whole or not at all; tmp is emptied at start. */
    crash_point("upload remove");
    if (renameat(local->root_fd, from, local->root_fd, to) != 0)
        return errno == ENOENT ? ERR_OK : err_set_errno(err, errno, "remove %s", from);
    note_session(local, id);
    crash_point("upload removed");
    return fs_remove_tree(local->root_fd, to, err);
}

enum err_code local_upload_discard(struct store_upload *base, struct err *err)
{
    return local_upload_remove(base->store, ((struct local_upload *) base)->id, err);
}

/* When the session last did something: at its last checkpoint, or when it was made. false: it is none, or gone. */
static bool read_activity(struct local *local, const char *name, struct store_upload_info *out)
{
    char path[UPLOAD_PATH_BYTES_MAX];
    struct stat st;
    if (strlen(name) != UUID_TEXT_BYTES - 1)
        return false;
    upload_path(name, "/record", path);
    if (fstatat(local->root_fd, path, &st, 0) != 0) {
        upload_path(name, "", path); /* died before its first checkpoint */
        if (fstatat(local->root_fd, path, &st, 0) != 0)
            return false;
    }
    memcpy(out->id, name, UUID_TEXT_BYTES);
    out->last_activity_ms = (uint64_t) st.st_mtim.tv_sec * 1000 + (uint64_t) st.st_mtim.tv_nsec / 1000000;
    return true;
}

enum err_code local_upload_list(struct store *store, const char *after, size_t limit, struct store_upload_info *out,
                                size_t *out_count, struct err *err)
{
    struct local *local = local_of(store);
    char last[LOCAL_NAME_BYTES_MAX + 1];
    bool more = true;
    (void) snprintf(last, sizeof(last), "%s", after);
    for (*out_count = 0; more && *out_count < limit;) {
        struct store_names names cleanup(store_names_free) = {0};
        if (local_list_dir(local, "uploads", LOCAL_FOLDERS, last, limit - *out_count, &names, err) != ERR_OK)
            return err->code;
        for (size_t i = 0; i < names.count; i++) {
            *out_count += read_activity(local, names.items[i], &out[*out_count]);
            (void) snprintf(last, sizeof(last), "%s", names.items[i]);
        }
        more = names.more;
    }
    return ERR_OK;
}

#include "store/local_index.h"

#include "base/cleanup.h"
#include "base/metrics.h"
#include "store/local_names.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#define SHRUNK_FACTOR 4 /* a directory is no longer too big when its names would take this part of the limit */

enum folder_state { FOLDER_NEW, FOLDER_READY, FOLDER_TOO_BIG, FOLDER_GONE };

struct folder {
    /* under mutex */
    pthread_mutex_t mutex;
    enum folder_state state;
    struct local_names names;
    /* never changed */
    enum local_kind kind;
    uint64_t hash; /* of kind and path */
    char *path;
    /* under the table's mutex */
    unsigned users; /* threads, and the table while it is listed */
    bool is_listed;
    size_t bytes;         /* charged for names */
    uint64_t last_listed; /* by the table's clock */
};

struct local_index {
    int root_fd;
    size_t bytes_max;
    pthread_mutex_t mutex;
    struct folder *folders[LOCAL_INDEX_FOLDERS_MAX];
    uint64_t hashes[LOCAL_INDEX_FOLDERS_MAX]; /* of the folders, so that looking one up reads little */
    size_t count;
    size_t bytes;
    uint64_t clock; /* counts lists */
};

struct local_index *local_index_new(int root_fd, size_t bytes_max)
{
    struct local_index *index = calloc(1, sizeof(*index));
    if (!index)
        return NULL;
    index->root_fd = root_fd;
    index->bytes_max = bytes_max;
    pthread_mutex_init(&index->mutex, NULL);
    return index;
}

void local_index_free(struct local_index *index)
{
    if (!index)
        return;
    local_index_clear(index);
    pthread_mutex_destroy(&index->mutex);
    free(index);
}

/* FNV-1a. */
static uint64_t hash_of(const char *path, size_t len, enum local_kind kind)
{
    uint64_t hash = 14695981039346656037U + kind;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char) path[i]) * 1099511628211U;
    return hash;
}

/* ---- folders; the table's mutex is held ---- */

static struct folder *folder_new(const char *path, size_t len, enum local_kind kind)
{
    struct folder *folder = calloc(1, sizeof(*folder));
    if (!folder || !(folder->path = strndup(path, len))) {
        free(folder);
        return NULL;
    }
    pthread_mutex_init(&folder->mutex, NULL);
    folder->kind = kind;
    folder->hash = hash_of(path, len, kind);
    return folder;
}

static void folder_unuse(struct folder *folder)
{
    if (--folder->users > 0)
        return;
    local_names_clear(&folder->names);
    pthread_mutex_destroy(&folder->mutex);
    free(folder->path);
    free(folder);
}

static void charge(struct local_index *index, struct folder *folder, size_t bytes)
{
    index->bytes += bytes - folder->bytes;
    folder->bytes = bytes;
    metric_gauge_set(METRIC_LIST_INDEX_BYTES, (int64_t) index->bytes);
}

static void unlist_at(struct local_index *index, size_t at)
{
    struct folder *folder = index->folders[at];
    charge(index, folder, 0);
    folder->is_listed = false;
    index->count--;
    index->folders[at] = index->folders[index->count];
    index->hashes[at] = index->hashes[index->count];
    folder_unuse(folder);
}

static size_t find_at(const struct local_index *index, const char *path, size_t len, enum local_kind kind)
{
    uint64_t hash = hash_of(path, len, kind);
    for (size_t at = 0; at < index->count; at++) {
        const struct folder *folder = index->folders[at];
        if (index->hashes[at] == hash && folder->kind == kind && strncmp(folder->path, path, len) == 0 &&
            folder->path[len] == '\0')
            return at;
    }
    return index->count;
}

/* Forget the folder not listed for longest, but `spared`; with_names: of those that take memory. false: none. */
static bool evict(struct local_index *index, const struct folder *spared, bool with_names)
{
    size_t oldest = index->count;
    for (size_t at = 0; at < index->count; at++) {
        const struct folder *folder = index->folders[at];
        if (folder == spared || (with_names && folder->bytes == 0))
            continue;
        if (oldest == index->count || folder->last_listed < index->folders[oldest]->last_listed)
            oldest = at;
    }
    if (oldest == index->count)
        return false;
    unlist_at(index, oldest);
    return true;
}

static struct folder *add_folder(struct local_index *index, const char *path, size_t len, enum local_kind kind)
{
    struct folder *folder = folder_new(path, len, kind);
    if (!folder)
        return NULL;
    if (index->count == LOCAL_INDEX_FOLDERS_MAX)
        (void) evict(index, NULL, false);
    folder->users = 1;
    folder->is_listed = true;
    index->folders[index->count] = folder;
    index->hashes[index->count++] = folder->hash;
    return folder;
}

/* ---- folders in use; the folder's mutex is held, the table's is not ---- */

enum purpose { TO_NOTE, TO_LIST, TO_BUILD };

/* The folder of path to work with, until folder_release; made, to build, when it is absent. NULL: absent. */
static struct folder *folder_use(struct local_index *index, const char *path, size_t len, enum local_kind kind,
                                 enum purpose purpose)
{
    pthread_mutex_lock(&index->mutex);
    size_t at = find_at(index, path, len, kind);
    struct folder *folder = at < index->count ? index->folders[at] : NULL;
    if (!folder && purpose == TO_BUILD)
        folder = add_folder(index, path, len, kind);
    if (folder)
        folder->users++;
    if (folder && purpose != TO_NOTE)
        folder->last_listed = ++index->clock;
    pthread_mutex_unlock(&index->mutex);
    if (folder)
        pthread_mutex_lock(&folder->mutex);
    return folder;
}

static void folder_release(struct local_index *index, struct folder *folder)
{
    pthread_mutex_unlock(&folder->mutex);
    pthread_mutex_lock(&index->mutex);
    folder_unuse(folder);
    pthread_mutex_unlock(&index->mutex);
}

static void folder_unlist(struct local_index *index, struct folder *folder)
{
    pthread_mutex_lock(&index->mutex);
    for (size_t at = 0; folder->is_listed; at++) {
        if (index->folders[at] == folder)
            unlist_at(index, at);
    }
    pthread_mutex_unlock(&index->mutex);
    local_names_clear(&folder->names);
    folder->state = FOLDER_GONE;
}

/* Pay for what the names take now, others making room. false: they are forgotten, for want of room or of interest. */
static bool folder_pay(struct local_index *index, struct folder *folder)
{
    size_t bytes = local_names_bytes(&folder->names);
    pthread_mutex_lock(&index->mutex);
    bool is_listed = folder->is_listed, fits = true;
    if (is_listed) {
        charge(index, folder, bytes);
        while (fits && index->bytes > index->bytes_max)
            fits = evict(index, folder, true);
        if (!fits)
            charge(index, folder, 0);
    }
    pthread_mutex_unlock(&index->mutex);
    if (is_listed && fits)
        return true;
    local_names_clear(&folder->names);
    folder->state = is_listed ? FOLDER_TOO_BIG : FOLDER_GONE;
    return false;
}

/* Put name in, or take it out. false: the folder's names are forgotten. */
static bool folder_set(struct local_index *index, struct folder *folder, const char *name, bool is_there)
{
    size_t bytes_before = local_names_bytes(&folder->names);
    if (!is_there) {
        local_names_remove(&folder->names, name);
    } else if (!local_names_add(&folder->names, name)) {
        folder_unlist(index, folder);
        return false;
    }
    return local_names_bytes(&folder->names) == bytes_before || folder_pay(index, folder);
}

bool local_kind_holds(enum local_kind kind, int dir_fd, const char *name, unsigned char type)
{
    struct stat st;
    if (name[0] == '.' || strnlen(name, LOCAL_NAME_BYTES_MAX + 1) > LOCAL_NAME_BYTES_MAX)
        return false;
    if (type != DT_UNKNOWN)
        return type == (kind == LOCAL_FILES ? DT_REG : DT_DIR);
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    return kind == LOCAL_FILES ? S_ISREG(st.st_mode) : S_ISDIR(st.st_mode);
}

/* Read the directory of a new folder. It is ready, too big or gone afterwards. */
static enum err_code folder_read(struct local_index *index, struct folder *folder, struct err *err)
{
    auto_fd fd = openat(index->root_fd, folder->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_dir list = fd >= 0 ? fdopendir(fd) : NULL;
    if (!list) {
        int sys_errno = errno;
        folder_unlist(index, folder);
        return sys_errno == ENOENT ? ERR_OK : err_set_errno(err, sys_errno, "list %s", folder->path);
    }
    fd = -1;
    folder->state = FOLDER_READY;
    bool goes_on = true;
    errno = 0;
    for (struct dirent *entry; goes_on && (entry = readdir(list)); errno = 0) {
        if (local_kind_holds(folder->kind, dirfd(list), entry->d_name, entry->d_type))
            goes_on = folder_set(index, folder, entry->d_name, true);
    }
    if (!goes_on || errno == 0)
        return ERR_OK;
    int sys_errno = errno;
    folder_unlist(index, folder);
    return err_set_errno(err, sys_errno, "list %s", folder->path);
}

/* ---- the interface ---- */

enum err_code local_index_page(struct local_index *index, const char *path, enum local_kind kind, bool build,
                               const char *after, size_t limit, enum local_index_answer *answer,
                               struct store_names *out, struct err *err)
{
    struct folder *folder = folder_use(index, path, strlen(path), kind, build ? TO_BUILD : TO_LIST);
    *answer = build ? LOCAL_INDEX_NONE : LOCAL_INDEX_ABSENT;
    if (!folder)
        return ERR_OK;
    enum err_code code = folder->state == FOLDER_NEW ? folder_read(index, folder, err) : ERR_OK;
    if (folder->state == FOLDER_READY) {
        *answer = LOCAL_INDEX_PAGE;
        if (!local_names_page(&folder->names, after, limit, out))
            code = err_set(err, ERR_NO_MEMORY, "out of memory");
    } else if (folder->state == FOLDER_TOO_BIG) {
        *answer = LOCAL_INDEX_NONE;
    }
    folder_release(index, folder);
    return code;
}

/* Look whether name, below the folder, is there. */
static void folder_note(struct local_index *index, struct folder *folder, const char *key, const char *name)
{
    struct stat st;
    if (folder->state != FOLDER_READY || strlen(name) > LOCAL_NAME_BYTES_MAX)
        return;
    if (fstatat(index->root_fd, key, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        bool is_ours = folder->kind == LOCAL_FILES ? S_ISREG(st.st_mode) : S_ISDIR(st.st_mode);
        (void) folder_set(index, folder, name, is_ours);
    } else if (errno == ENOENT || errno == ENOTDIR) {
        (void) folder_set(index, folder, name, false);
    } else {
        folder_unlist(index, folder);
    }
}

void local_index_note(struct local_index *index, const char *key)
{
    const char *slash = strrchr(key, '/');
    if (!index || !slash)
        return;
    for (int kind = 0; kind < LOCAL_KINDS; kind++) {
        struct folder *folder = folder_use(index, key, (size_t) (slash - key), (enum local_kind) kind, TO_NOTE);
        if (!folder)
            continue;
        folder_note(index, folder, key, slash + 1);
        folder_release(index, folder);
    }
}

void local_index_measured(struct local_index *index, const char *path, enum local_kind kind, size_t names_bytes)
{
    if (names_bytes > index->bytes_max / SHRUNK_FACTOR)
        return;
    struct folder *folder = folder_use(index, path, strlen(path), kind, TO_NOTE);
    if (!folder)
        return;
    if (folder->state == FOLDER_TOO_BIG)
        folder_unlist(index, folder);
    folder_release(index, folder);
}

void local_index_clear(struct local_index *index)
{
    if (!index)
        return;
    pthread_mutex_lock(&index->mutex);
    while (index->count > 0)
        unlist_at(index, index->count - 1);
    pthread_mutex_unlock(&index->mutex);
}

size_t local_index_bytes(struct local_index *index)
{
    pthread_mutex_lock(&index->mutex);
    size_t bytes = index->bytes;
    pthread_mutex_unlock(&index->mutex);
    return bytes;
}

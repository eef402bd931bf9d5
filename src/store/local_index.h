/*
 * The names in big directories, in memory, so that a page of a list costs what the page costs and not what the
 * directory does.
 *
 * Only a server that has the store to itself has an index: nobody else changes what is in it. A directory comes into
 * it when it is listed and found to hold more than LOCAL_INDEX_NAMES_MIN names; one reading of it puts them in order.
 *
 *     absent ──list finds many names──► new ──read──► ready ──page, note…──► ready
 *     new, ready ──needs more than bytes_max──► too big ──a reading finds that it shrank──► absent
 *     new, ready, too big ──least used when room is needed, error, clear──► gone: out of the table, freed by the last
 *                                                                           who works with it; absent to all others
 *
 * Whoever changes a directory says so afterwards, before its answer (local_index_note). The index does not believe
 * what it is told: under the folder's mutex it looks whether the name is there, so notes may come in any order, twice,
 * or after something that failed half-way. A folder is read under the same mutex. Therefore:
 *   - what was put before a list began is in it: its note came after the folder was new (and is in the names), or
 *     before (and then the file was there when the directory was read);
 *   - what was deleted before a list began is not, for the same reason;
 *   - of puts and deletes of one name that overlap, the last note comes after the last change, and sees how it ended.
 * A note of a directory that is being read waits for that reading; notes of other directories do not.
 *
 * Limits: bytes_max for all names together and LOCAL_INDEX_FOLDERS_MAX directories; the ones not listed for longest
 * make room. Locks: a folder's mutex, then the table's. Threads: any.
 */
#ifndef ORLOP_STORE_LOCAL_INDEX_H
#define ORLOP_STORE_LOCAL_INDEX_H

#include "store/store.h"

#define LOCAL_INDEX_NAMES_MIN 100 /* a directory with no more names is read for each list */
#define LOCAL_INDEX_FOLDERS_MAX 1024
#define LOCAL_INDEX_BYTES_MAX (64 * 1024 * 1024) /* 100,000 names of the greatest length; a million of 25 bytes */

/* What is listed of a directory: nothing else in it counts. */
enum local_kind { LOCAL_FILES, LOCAL_FOLDERS, LOCAL_KINDS };

/* Is the directory entry name, of d_type type, of this kind and one that keys can have? */
bool local_kind_holds(enum local_kind kind, int dir_fd, const char *name, unsigned char type);

enum local_index_answer {
    LOCAL_INDEX_PAGE,   /* out is the page */
    LOCAL_INDEX_ABSENT, /* read the directory; when it proves big, ask again with `build` */
    LOCAL_INDEX_NONE,   /* read the directory, all of it */
};

struct local_index;

/* Of the directories below root_fd, which stays the caller's. NULL: out of memory. */
struct local_index *local_index_new(int root_fd, size_t bytes_max);
/* NULL is fine. */
void local_index_free(struct local_index *index);

/* A page of the directory at path, as store_list. With build, one that is absent is read in first. */
must_check enum err_code local_index_page(struct local_index *index, const char *path, enum local_kind kind, bool build,
                                          const char *after, size_t limit, enum local_index_answer *answer,
                                          struct store_names *out, struct err *err);
/* The file or directory at key was made or removed, or that was tried. NULL is fine. */
void local_index_note(struct local_index *index, const char *key);
/* All of the directory at path was read: its names have so many bytes. One that was too big may be so no longer. */
void local_index_measured(struct local_index *index, const char *path, enum local_kind kind, size_t names_bytes);
/* root_fd is another directory now: forget everything. NULL is fine. */
void local_index_clear(struct local_index *index);
/* The memory that names take. */
size_t local_index_bytes(struct local_index *index);

#endif

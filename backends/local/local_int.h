/* SPDX-License-Identifier: MIT
 * local_int.h: what the files of this folder share.
 *
 * Invariants
 *  1. A key reaches the file system only through local_at(): its parent is opened below root_fd
 *     without following any symbolic link, and the last component is used with *at() calls that do
 *     not follow one either.
 *  2. An object changes in one rename of a complete, fsynced temporary file (TEMP_PREFIX), except
 * in local_patch(), which is in place and says so.
 *  3. Changes of one key by this process exclude each other (struct claims): condition and change
 * are one step for them. Other processes can come between.
 *  4. A version is made of mtime, ctime, size and inode. A change of ours that touches only
 * metadata is remembered (struct aliases), so that the version from before still means the same
 * content. */
#ifndef QUAY_BACKENDS_LOCAL_LOCAL_INT_H
#define QUAY_BACKENDS_LOCAL_LOCAL_INT_H

#include "backends/claims.h"
#include "backends/dirs.h"
#include "backends/local/local.h"
#include "backends/temp_name.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define ALIASES 1024
#define REST_NS (30 * NS_PER_S)

struct version_id {
    uint64_t mtime_ns, ctime_ns, size, ino;
};

/* Names of a directory, as they sort: those of directories end with '/'. */
struct local_names {
    char **v;
    size_t n, cap;
};

struct local {
    struct store store;
    int root_fd; /* O_PATH */
    bool read_only;
    atomic_bool no_openat2; /* the kernel is older than 5.6, or so configured */
    struct claims claims;
    struct {
        struct lock lock;
        struct {
            struct version_id from, to;
        } ring[ALIASES];
        unsigned next;
    } aliases;
    struct rests rests; /* of struct local_names */
};

static inline struct local *local_of(struct store *s)
{
    return (struct local *)s;
}

/* ---- local_list.c ---- */
void local_names_free(void *names);

/* ---- local_path.c ---- */
struct local_at {     /* where a key is: `base` in the directory `fd` */
    int fd;           /* O_PATH */
    const char *base; /* within the key; "." for the root */
};
#define LOCAL_AT_INIT ((struct local_at){.fd = -1})
void local_at_done(struct local_at *at);
#define CLEANUP_AT __attribute__((cleanup(local_at_done)))

int local_at(struct local *l, struct op *op, const char *key, struct local_at *ret);
/* An O_PATH descriptor of the directory `path` ("" = root). */
int local_open_dir(struct local *l, struct op *op, const char *path, int *ret_fd);
int local_fsync_dir(int path_fd);
/* A descriptor whose reads leave the atime as it is, where we may have that (our own files, or all as root). */
int local_open_to_read(int dirfd, const char *base, int flags);
/* op->err for a system call on key that gave r; maps it to an errno of the contract. */
int local_fail(struct op *op, int r, const char *what, const char *key);

/* ---- local_meta.c ---- */
struct version_id local_version_of(const struct stat *st);
void local_version_text(const struct version_id *v, char out[ATTR_VERSION_MAX]);
/* Is `version` ("" or NULL: any) the content that `st` describes? */
bool local_version_is(struct local *l, const char *version, const struct stat *st);
/* Remembers that `from` and `to` differ in metadata only. */
void local_version_alias(struct local *l, const struct stat *from, const struct stat *to);
/* lstat of a key's place; -EACCES for what is neither file, directory nor symbolic link. */
int local_lstat(struct op *op, const struct local_at *at, const char *key, struct stat *ret);
void local_attr_read(const struct local_at *at, const struct stat *st, struct attr *ret);
/* Stores what change->known names. `lenient`: an owner that may not be set is no error. */
int local_meta_write(struct op *op, const struct local_at *at, const char *key, bool is_symlink,
                     const struct attr *change, bool lenient);
int local_set_meta(struct store *s, struct op *op, const char *key, const char *if_match,
                   const struct attr *change, struct attr *ret);

/* ---- local_write.c ---- */
int local_put(struct store *s, struct op *op, const struct put_req *req, struct attr *ret);
int local_copy(struct store *s, struct op *op, const char *from, const char *from_version,
               const char *to, const struct precond *pre, struct attr *ret);

/* Copies the bytes [from, to) of a source to the same offsets of a file. */
int local_write_range(struct op *op, int fd, const char *key, const struct source *src,
                      uint64_t from, uint64_t to);
/* The metadata to store: as asked, and a modification time as fine as the clock, which keeps
 * versions apart where the file system's own clock is coarse. Borrows from `from`. */
struct attr local_with_mtime(const struct attr *from);

/* ---- local_patch.c ---- */
int local_patch(struct store *s, struct op *op, const struct patch_req *req, struct attr *ret);

/* ---- local_temp.c ---- */
struct temp {
    int dir;       /* borrowed */
    int fd;        /* of the file, or O_PATH of the symbolic link */
    char name[TEMP_NAME_MAX]; /* "" when there is none (any more) */
};
#define TEMP_INIT ((struct temp){.dir = -1, .fd = -1})
void temp_done(struct temp *t); /* removes the file unless it was committed */
#define CLEANUP_TEMP __attribute__((cleanup(temp_done)))
int temp_file(struct op *op, const struct local_at *at, const char *key, bool private,
              struct temp *ret);
int temp_symlink(struct op *op, const struct local_at *at, const char *key, const char *target,
                 struct temp *ret);
/* May key be replaced under this precondition? Asked before the work and again at the commit. */
int temp_check_target(struct local *l, struct op *op, const struct local_at *at, const char *key,
                      const struct precond *pre);
/* Makes the temporary the content of key under the precondition; durable on success. `attr` is the
 * metadata it was given; *ret describes exactly this object. */
int temp_commit(struct local *l, struct op *op, struct temp *t, const struct local_at *at,
                const char *key, const struct precond *pre, const struct attr *attr,
                struct attr *ret);
/* Removes a temporary file that a killed process has left, or a stranger's that is older than a day. */
void temp_sweep(int dir, const char *name);

/* ---- local_dir.c ---- */
int local_remove(struct store *s, struct op *op, const char *key, const char *if_match);
int local_rename(struct store *s, struct op *op, const char *from, const char *to, bool no_replace);
int local_exchange(struct store *s, struct op *op, const char *key_a, const char *key_b);
int local_make_dir(struct store *s, struct op *op, const char *key, const struct attr *attr);
int local_remove_dir(struct store *s, struct op *op, const char *key);

/* ---- local_list.c ---- */
int local_list(struct store *s, struct op *op, const struct list_query *q, struct list_page *ret);

#endif

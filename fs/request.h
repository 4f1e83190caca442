/* SPDX-License-Identifier: MIT
 * request.h: one FUSE request on its way through a worker, and the replies.
 *
 * A handler never waits: it copies its arguments into a struct request and submits it to the pool of the
 * key. The worker runs `run`, which ends with exactly one request_reply_*; that call frees the request.
 *     struct request *r = request_new(req, "mkdir", parent, do_mkdir);
 *     r->name = xstrdup(name); request_submit(r);
 * An interrupt (SIGINT on a stuck process) sets op.cancelled; the store call then ends with EINTR. A request
 * that still waits for a worker is taken back and answered by the pool fs->aside, which waits for nobody.
 * Logging: request_reply_err() is the one place that logs a failure of a mount operation: one line with
 * key, path, operation and the server's own words; repeats within 5 s are counted, not printed. */
#ifndef QUAY_FS_REQUEST_H
#define QUAY_FS_REQUEST_H

#include "base/name.h"
#include "fs/fs.h"
#include "fs/handle.h"

struct request {
    struct pool_job job;
    fuse_req_t req;
    struct fs *fs;
    struct op op;
    void (*run)(struct request *r);
    struct inode *inode;          /* referenced; the subject, or the parent directory */
    struct inode *inode2;         /* rename: the new parent */
    struct handle *handle;        /* borrowed from fi, which outlives the request */
    struct handle *handle2;       /* copy_file_range: the source's */
    struct fuse_file_info fi;
    char *name, *name2;           /* as the kernel gave them */
    void *data;                   /* owned copy of payload */
    size_t size;
    off_t off;
    int backing;                  /* open: passed through to this; 0 = not */
    uint64_t number;              /* flags, mode ... of the operation */
    struct attr change;
    bool plus;
};

struct fs *fs_of(fuse_req_t req);
/* NULL when the inode is not known: ENOENT (ESTALE) was replied. */
struct request *request_new(fuse_req_t req, const char *name, fuse_ino_t ino,
                            void (*run)(struct request *));
void request_submit(struct request *r, unsigned priority);
/* The same, for what must be done whatever the kernel thinks of it: no interrupt. */
void request_submit_always(struct request *r, unsigned priority);
struct volume *request_volume(struct request *r); /* NULL: the key failed to open, err filled */

void request_reply_err(struct request *r, int error /* 0 or -errno */);
void request_reply_entry(struct request *r, struct inode *i /* its reference is taken */,
                         const struct attr *a);
void request_reply_create(struct request *r, struct inode *i, const struct attr *a);
void request_reply_attr(struct request *r, struct inode *i, const struct attr *a);
void request_reply_open(struct request *r);
void request_reply_buf(struct request *r, const void *data, size_t size);
void request_reply_write(struct request *r, size_t n);
/* For replies made otherwise: the request to answer, whose interrupts are over; then request_free(). */
fuse_req_t request_take_reply(struct request *r);
void request_free(struct request *r);

/* Name -> segment of a child of directory i; resolves shortened names by listing. 0 or -errno. */
int request_segment(struct request *r, struct inode *dir, const char *name, char **ret_segment,
                    bool *ret_shadow);
/* The path of a child whose name no listing has to translate, and the name in the key; NULL: another one, or dir has no path. */
char *request_plain_child(struct request *r, struct inode *dir, const char *name, char ret_segment[NAME_MAX_BYTES + 1]);
/* Child path and stat flags for (inode, name). */
int request_child(struct request *r, struct inode *dir, const char *name, char **ret_path,
                  char **ret_segment, bool *ret_shadow);

/* Notes on the inode that the kernel is told so. */
/* Of the root, the directory of a key, .quay and what is in it. */
void fs_virtual_attr(struct fs *fs, const struct inode *i, struct attr *a);
void fs_fill_stat(struct inode *i, const struct attr *a, struct stat *st);
/* Are these the attributes that the kernel has, if it has any? */
bool fs_was_told(const struct inode *i, const struct attr *a);
/* The kernel keeps a symlink's target for as long as the inode lives: another target is another
 * generation of it. 32 bits, as the kernel has it. */
uint64_t fs_generation(const struct attr *a);
/* Milliseconds that something is valid as the kernel's timeout: at most a day, 0 for .load. */
double fs_kept_s(const struct fs_key *key, uint64_t ms);
double fs_valid_s(struct fs_key *key, const char *path);
#define FS_VIRTUAL_VALID_S 1.0 /* names and attributes above the keys' objects */
void fs_log_failure(struct fs *fs, const char *op, const char *key, const char *path, int error,
                    const struct err *err);
int fs_errno(int error); /* 0 or -errno -> positive errno that a user may see */

#endif

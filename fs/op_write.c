/* SPDX-License-Identifier: MIT
 * op_write.c: write, flush, fsync, fallocate, copy_file_range. Writes go to the staging file: at once where that waits for
 * nobody, else through a worker (a commit may run, uploads may have to make room); flush and fsync return
 * when the store has the bytes (write = through) or when they are safe on the local disk (write = back). */
#include "fs/descriptors.h"
#include "fs/ops.h"
#include "fs/request.h"

#include <fcntl.h>
#include <string.h>

/* A write past the kernel's pages leaves old ones where somebody has read between the moment in which it was sent and now.
 * Linux drops those from 6.19 on (older ones only what was there before it was sent, those below 6.6 nothing). */
static bool pages_are_old(const struct request *r)
{
    return r->handle->direct && (handle_made_pages_old(r->handle, r->inode) || !r->fs->direct_writes);
}

static void drop_pages(struct request *r)
{
    /* Where an append went is not always where the kernel took the end to be. */
    bool append = r->number == VFILE_END;
    if (r->fs->session)
        (void)fuse_lowlevel_notify_inval_inode(r->fs->session, r->inode->ino, append ? 0 : (off_t)r->number,
                                               append ? 0 : (off_t)r->size);
}

/* On a worker: it may wait for reads of those pages. */
static void do_drop_pages(struct request *r)
{
    drop_pages(r);
    request_reply_write(r, r->size);
}

static void do_write(struct request *r)
{
    ssize_t n = vfile_write(r->handle->file, &r->op, r->number, r->data, r->size);
    if (n < 0) {
        request_reply_err(r, (int)n);
        return;
    }
    r->size = (size_t)n;
    if (pages_are_old(r))
        drop_pages(r);
    int rc = r->op.durable ? vfile_fsync(r->handle->file, &r->op) : 0;
    if (rc < 0)
        request_reply_err(r, rc);
    else
        request_reply_write(r, r->size);
}

static struct request *file_request(fuse_req_t req, const char *name, fuse_ino_t ino,
                                    struct fuse_file_info *fi, void (*run)(struct request *))
{
    struct request *r = request_new(req, name, ino, run);
    if (!r)
        return NULL;
    r->handle = (struct handle *)(uintptr_t)fi->fh;
    if (!r->handle->file) {
        request_reply_err(r, -EBADF);
        return NULL;
    }
    return r;
}

/* A disk that is busy writing back holds up the thread: the others go on serving requests. */
#define AT_ONCE_MAX 4

static bool write_at_once(struct request *r, const char *data)
{
    struct fs *fs = r->fs;
    ssize_t n = -EAGAIN;
    if (atomic_fetch_add(&fs->writing, 1) < AT_ONCE_MAX)
        n = vfile_try_write(r->handle->file, r->number, data, r->size);
    atomic_fetch_sub(&fs->writing, 1);
    if (n < 0)
        return false;
    r->size = (size_t)n;
    if (pages_are_old(r)) {
        r->run = do_drop_pages;
        request_submit_always(r, 0);
    } else {
        request_reply_write(r, r->size);
    }
    return true;
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
              struct fuse_file_info *fi)
{
    struct request *r = file_request(req, "write", ino, fi, do_write);
    if (!r)
        return;
    r->size = size;
    /* The flag as it is now (F_SETFL changes it). Pages of a mapping have offsets of their own, and come
     * through any handle of the file. */
    bool append = (fi->flags & O_APPEND) && !fi->writepage;
    r->number = append ? VFILE_END : (uint64_t)off;
    /* O_SYNC, O_DSYNC, RWF_DSYNC: an fsync follows, but when the write goes past the kernel's pages. */
    r->op.durable = r->handle->direct && (fi->flags & (O_SYNC | O_DSYNC));
    if (!r->op.durable && write_at_once(r, data))
        return;
    r->data = xmalloc(size ? size : 1);
    memcpy(r->data, data, size);
    request_submit(r, 0);
}

/* Nothing was written yet, and the process keeps a descriptor for that: its close will tell. */
static bool is_only_begun(const struct request *r)
{
    return vfile_is_only_begun(r->handle->file) &&
           descriptors_write_too(fuse_req_ctx(r->req)->pid, r->fs->mount_id, r->inode->ino);
}

static void do_flush(struct request *r)
{
    if (is_only_begun(r)) {
        request_reply_err(r, 0);
        return;
    }
    request_reply_err(r, vfile_flush(r->handle->file, &r->op));
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct handle *h = (struct handle *)(uintptr_t)fi->fh;
    if (!h->file || vfile_is_flushed(h->file)) {
        fuse_reply_err(req, 0);
        return;
    }
    struct request *r = file_request(req, "close", ino, fi, do_flush);
    if (!r)
        return;
    r->op.durable = true;
    request_submit(r, 0);
}

static void do_fsync(struct request *r)
{
    request_reply_err(r, vfile_fsync(r->handle->file, &r->op));
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)datasync;
    struct request *r = file_request(req, "fsync", ino, fi, do_fsync);
    if (!r)
        return;
    r->op.durable = true;
    request_submit(r, 0);
}

static void do_fallocate(struct request *r)
{
    request_reply_err(r, vfile_fallocate(r->handle->file, &r->op, (int)r->number, (uint64_t)r->off,
                                         r->size));
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
                  struct fuse_file_info *fi)
{
    struct request *r = file_request(req, "fallocate", ino, fi, do_fallocate);
    if (!r)
        return;
    r->number = (unsigned)mode;
    r->off = off;
    r->size = (size_t)len;
    request_submit(r, 0);
}

static void do_copy(struct request *r)
{
    ssize_t n = vfile_copy(r->handle->file, &r->op, (uint64_t)r->off, r->handle2->file, r->number, r->size);
    if (n < 0)
        request_reply_err(r, (int)n);
    else
        request_reply_write(r, (size_t)n);
}

/* The kernel copies by reading and writing when it is told EOPNOTSUPP. */
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
                        fuse_ino_t ino, off_t off, struct fuse_file_info *fi, size_t len, int flags)
{
    (void)ino_in;
    (void)flags;
    struct request *r = file_request(req, "copy_file_range", ino, fi, do_copy);
    if (!r)
        return;
    r->handle2 = (struct handle *)(uintptr_t)fi_in->fh;
    r->off = off;
    r->number = (uint64_t)off_in;
    r->size = len;
    if (r->handle2->file)
        request_submit(r, 0);
    else
        request_reply_err(r, -EOPNOTSUPP);
}

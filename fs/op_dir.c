/* SPDX-License-Identifier: MIT
 * op_dir.c: directories. Offsets: 0 ".", 1 "..", 2.. the entries in key order, so a position stays valid
 * for as long as the directory is open. Pages are fetched as the reader gets to them.
 * readdirplus hands out attributes only where they are the truth (ATTR_META); other entries are plain,
 * and the kernel looks up those that somebody asks for. */
#include "base/clock.h"
#include "base/name.h"
#include "fs/ops.h"
#include "fs/request.h"
#include "fs/version.h"
#include "fs/view.h"

#include <string.h>

#define WAIT_SLICE_NS (100 * NS_PER_MS)

struct filler {
    struct request *r;
    char *buf;
    size_t used, size;
    double valid_s; /* how long the kernel may keep what a listing says */
};

/* Adds one entry; false when the buffer is full. */
static bool add_plain(struct filler *f, const char *name, uint64_t ino, mode_t type, off_t next)
{
    struct stat st = {.st_ino = ino, .st_mode = type};
    size_t room = f->size - f->used;
    size_t n;
    if (f->r->plus) {
        struct fuse_entry_param e = {.attr = st};
        n = fuse_add_direntry_plus(f->r->req, f->buf + f->used, room, name, &e, next);
    } else {
        n = fuse_add_direntry(f->r->req, f->buf + f->used, room, name, &st, next);
    }
    if (n > room)
        return false;
    f->used += n;
    return true;
}

static bool add_looked_up(struct filler *f, const char *shown, const struct volume_entry *v,
                          off_t next)
{
    struct inode_spec spec = {.kind = INODE_OBJECT,
                              .key = f->r->inode->key,
                              .name = shown,
                              .segment = v->name,
                              .shadow = v->shadow};
    size_t room = f->size - f->used;
    struct inode *i = version_enter(f->r->fs, f->r->inode, &spec);
    struct fuse_entry_param e = {.ino = i->ino, .generation = fs_generation(&v->attr)};
    fs_fill_stat(i, &v->attr, &e.attr);
    e.attr_timeout = e.entry_timeout = f->valid_s;
    size_t n = fuse_add_direntry_plus(f->r->req, f->buf + f->used, room, shown, &e, next);
    inode_unref(f->r->fs->inodes, i);
    if (n > room) {
        inode_forget(f->r->fs->inodes, e.ino, 1);
        return false;
    }
    f->used += n;
    return true;
}

static bool add_entry(struct filler *f, const struct volume_entry *v, off_t next)
{
    char shown[NAME_MAX_BYTES + 1];
    name_encode(v->name, strlen(v->name), v->shadow, shown);
    if (f->r->plus && (v->attr.known & ATTR_META))
        return add_looked_up(f, shown, v, next);
    mode_t type = v->attr.kind == ATTR_DIR ? S_IFDIR
                  : !(v->attr.known & ATTR_META) ? 0
                  : v->attr.kind == ATTR_SYMLINK ? S_IFLNK
                                                 : S_IFREG;
    return add_plain(f, shown, inode_guess(f->r->fs->inodes, f->r->inode, shown), type, next);
}

/* "." and ".."; returns false when full. */
static bool add_dots(struct filler *f, off_t *off)
{
    struct inode *i = f->r->inode;
    uint64_t up = i->parent ? i->parent->ino : i->ino;
    if (*off == 0) {
        if (!add_plain(f, ".", i->ino, S_IFDIR, 1))
            return false;
        *off = 1;
    }
    if (*off == 1) {
        if (!add_plain(f, "..", up, S_IFDIR, 2))
            return false;
        *off = 2;
    }
    return true;
}

static void reply_filled(struct filler *f, int rc)
{
    if (rc < 0 && f->used == 0)
        request_reply_err(f->r, rc);
    else
        request_reply_buf(f->r, f->buf, f->used);
    free(f->buf);
}

static int fill_from_key(struct filler *f, struct handle *h, off_t off)
{
    const struct volume_entry *e;
    int rc;
    f->valid_s = fs_kept_s(f->r->inode->key, volume_dir_valid_ms(h->dir));
    while ((rc = volume_readdir(h->dir, &f->r->op, (uint64_t)off - 2, &e)) == 1) {
        if (!add_entry(f, e, off + 1))
            break;
        off++;
        /* Answer with what there is rather than wait for the next page. */
        if (f->used > f->size / 2 && !volume_readdir_ready(h->dir, (uint64_t)off - 2))
            break;
    }
    return rc < 0 ? rc : 0;
}

/* One reader at a time; -EINTR. */
static int dir_begin(struct request *r)
{
    struct handle *h = r->handle;
    int rc = 0;
    LOCK_SCOPE(&h->dir_lock);
    while (h->busy && (rc = op_check(&r->op)) == 0)
        (void)cond_wait_until(&h->dir_cond, &h->dir_lock, clock_now_ns() + WAIT_SLICE_NS);
    if (rc == 0)
        h->busy = true;
    return rc;
}

/* rewinddir(3): names that were made since the open are to be found. What was a directory and is gone keeps the
 * names that it had. */
static void rewind_dir(struct request *r, struct handle *h)
{
    CLEANUP_FREE char *path = inode_path(r->fs->inodes, r->inode);
    struct volume_dir *d = NULL;
    if (path && h->key == r->inode->key && volume_opendir(h->key->volume, &r->op, path, &d) == 0) {
        volume_closedir(h->dir);
        h->dir = d;
    }
    err_clear(&r->op.err);
}

static void do_readdir(struct request *r)
{
    struct handle *h = r->handle;
    off_t off = r->off;
    int rc = dir_begin(r);
    if (rc < 0) {
        request_reply_err(r, rc);
        return;
    }
    if (r->off == 0 && h->dir_read)
        rewind_dir(r, h);
    h->dir_read = true;
    struct filler f = {.r = r, .buf = xmalloc(r->size), .size = r->size};
    if (add_dots(&f, &off))
        rc = fill_from_key(&f, h, off);
    lock_acquire(&h->dir_lock);
    h->busy = false;
    cond_signal(&h->dir_cond);
    lock_release(&h->dir_lock);
    reply_filled(&f, rc);
}

static void fill_root(struct filler *f, off_t off)
{
    struct fs *fs = f->r->fs;
    struct inode *root = f->r->inode;
    CLEANUP_KEYS struct fs_keys keys = fs_keys_get(fs);
    for (size_t n = (size_t)off - 2; n <= keys.n; n++) {
        const char *name = n < keys.n ? keys.v[n]->name : FS_QUAY_DIR;
        if (!add_plain(f, name, inode_guess(fs->inodes, root, name), S_IFDIR, (off_t)n + 3))
            return;
    }
}

static void fill_views(struct filler *f, off_t off)
{
    struct inode *i = f->r->inode;
    for (size_t n = (size_t)off - 2; n < view_count(); n++) {
        uint64_t ino = inode_guess(f->r->fs->inodes, i, view_name(n));
        if (!add_plain(f, view_name(n), ino, S_IFREG, (off_t)n + 3))
            return;
    }
}

static void readdir_common(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                           struct fuse_file_info *fi, bool plus)
{
    struct request *r = request_new(req, "readdir", ino, do_readdir);
    if (!r)
        return;
    r->handle = (struct handle *)(uintptr_t)fi->fh;
    r->plus = plus;
    r->size = size;
    r->off = off;
    if (r->inode->key) {
        request_submit(r, 0);
        return;
    }
    struct filler f = {.r = r, .buf = xmalloc(size), .size = size};
    if (add_dots(&f, &off)) {
        if (r->inode->kind == INODE_ROOT)
            fill_root(&f, off);
        else
            fill_views(&f, off);
    }
    reply_filled(&f, 0);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    readdir_common(req, ino, size, off, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                    struct fuse_file_info *fi)
{
    readdir_common(req, ino, size, off, fi, true);
}

static void do_opendir(struct request *r)
{
    CLEANUP_FREE char *path = inode_path(r->fs->inodes, r->inode);
    struct volume_dir *d = NULL;
    int rc = path ? volume_opendir(request_volume(r), &r->op, path, &d) : -ENOENT;
    if (rc < 0) {
        request_reply_err(r, rc);
        return;
    }
    r->handle = handle_new(r->fs->inodes, r->inode, NULL, d);
    r->fi.fh = (uint64_t)(uintptr_t)r->handle;
    request_reply_open(r);
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct request *r = request_new(req, "opendir", ino, do_opendir);
    if (!r)
        return;
    r->fi = *fi;
    if (r->inode->key) {
        request_submit(r, 0);
        return;
    }
    r->handle = handle_new(r->fs->inodes, r->inode, NULL, NULL);
    r->fi.fh = (uint64_t)(uintptr_t)r->handle;
    request_reply_open(r);
}

static void do_releasedir(struct request *r)
{
    handle_release(r->fs->inodes, r->handle);
    request_reply_err(r, 0);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct request *r = request_new(req, "releasedir", ino, do_releasedir);
    if (!r)
        return;
    r->handle = (struct handle *)(uintptr_t)fi->fh;
    do_releasedir(r);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)ino;
    (void)datasync;
    (void)fi;
    fuse_reply_err(req, 0); /* names are at the store when their call returned */
}

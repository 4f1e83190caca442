/* SPDX-License-Identifier: MIT
 * op_names.c: what changes or reads names: mkdir, rmdir, unlink, rename, symlink, readlink, mknod, link.
 * The inode table follows after the volume has succeeded. */
#include "backends/same.h"
#include "fs/ops.h"
#include "fs/request.h"
#include "fs/version.h"

#include <string.h>
#include <sys/stat.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

static struct request *name_request(fuse_req_t req, const char *op, fuse_ino_t parent,
                                    const char *name, void (*run)(struct request *))
{
    struct request *r = request_new(req, op, parent, run);
    if (r)
        r->name = xstrdup(name);
    return r;
}

static void reply_made(struct request *r, const char *segment, const struct attr *a)
{
    struct inode_spec spec = {
        .kind = INODE_OBJECT, .key = r->inode->key, .name = r->name, .segment = segment};
    struct inode *i = inode_enter(r->fs->inodes, r->inode, &spec);
    request_reply_entry(r, i, a);
}

static void do_mkdir(struct request *r)
{
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE char *segment = NULL;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    bool shadow = false;
    const struct fuse_ctx *ctx = fuse_req_ctx(r->req);
    int rc = request_child(r, r->inode, r->name, &path, &segment, &shadow);
    if (rc == 0)
        rc = volume_mkdir(request_volume(r), &r->op, path, (mode_t)r->number, ctx->uid, ctx->gid,
                          &a);
    if (rc < 0)
        request_reply_err(r, rc);
    else
        reply_made(r, segment, &a);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct request *r = name_request(req, "mkdir", parent, name, do_mkdir);
    if (!r)
        return;
    r->number = mode & 07777 & ~fuse_req_ctx(req)->umask;
    request_submit(r, 0);
}

/* What rmdir and unlink share: the name goes when the volume has removed the object. */
static void do_remove(struct request *r, bool dir)
{
    CLEANUP_FREE char *path = NULL;
    bool shadow = false;
    int rc = request_child(r, r->inode, r->name, &path, NULL, &shadow);
    if (rc == 0 && dir)
        rc = volume_rmdir(request_volume(r), &r->op, path);
    else if (rc == 0)
        rc = shadow ? -EISDIR : volume_unlink(request_volume(r), &r->op, path);
    if (rc == 0)
        inode_unlinked(r->fs->inodes, r->inode, r->name);
    request_reply_err(r, rc);
}

static void do_rmdir(struct request *r)
{
    do_remove(r, true);
}

static void do_unlink(struct request *r)
{
    do_remove(r, false);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct request *r = name_request(req, "rmdir", parent, name, do_rmdir);
    if (r)
        request_submit(r, 0);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct request *r = name_request(req, "unlink", parent, name, do_unlink);
    if (r)
        request_submit(r, 0);
}

static void do_rename(struct request *r)
{
    CLEANUP_FREE char *from = NULL;
    CLEANUP_FREE char *to = NULL;
    CLEANUP_FREE char *segment = NULL;
    bool from_shadow = false;
    bool to_shadow = false;
    bool begun = false;
    int rc = request_child(r, r->inode, r->name, &from, NULL, &from_shadow);
    if (rc == 0)
        rc = request_child(r, r->inode2, r->name2, &to, &segment, &to_shadow);
    unsigned flags = (r->number & RENAME_NOREPLACE ? VOLUME_RENAME_NO_REPLACE : 0) |
                     (from_shadow ? VOLUME_RENAME_DIR : 0);
    if (rc == 0)
        rc = volume_rename(request_volume(r), &r->op, from, to, flags, &begun);
    if (rc == 0)
        inode_renamed(r->fs->inodes, r->inode, r->name, r->inode2, r->name2, segment, to_shadow);
    if (rc < 0 && begun) { /* what is at both may be something else than before */
        version_forget_entry(r->fs, r->inode->ino, r->name);
        version_forget_entry(r->fs, r->inode2->ino, r->name2);
    }
    request_reply_err(r, rc);
}

/* -EXDEV: mv(1) then copies and removes. Where both names are one file that would be lost: -EPERM (-EINVAL has a meaning of its
 * own for mv(1): a directory below itself). */
static int apart(struct request *r, struct volume *to_volume)
{
    char segment[NAME_MAX_BYTES + 1];
    CLEANUP_FREE char *from = request_plain_child(r, r->inode, r->name, segment);
    CLEANUP_FREE char *to = request_plain_child(r, r->inode2, r->name2, segment);
    if (!from || !to)
        return -EXDEV;
    struct same_place a = {.store = volume_store(request_volume(r)), .path = from};
    struct same_place b = {.store = volume_store(to_volume), .path = to};
    bool sure = true;
    enum same_names rel = same_by_name(&a, &b, &sure);
    int one = sure ? rel == SAME_ONE || rel == SAME_BELOW : same_by_look(&r->op, &a, &b);
    if (one < 0)
        return one;
    if (one == 0)
        return -EXDEV;
    return sure && rel == SAME_BELOW
               ? err_set(&r->op.err, EINVAL, "%s has %s of key '%s' in it", from, to, r->inode2->key->name)
               : err_set(&r->op.err, EPERM, "%s and %s of key '%s' are the same file", from, to, r->inode2->key->name);
}

static void do_rename_across(struct request *r)
{
    struct fs_key *k = r->inode2->key;
    bool entered = fs_key_enter(k);
    int rc = entered && k->volume ? apart(r, k->volume) : -EXDEV;
    if (entered)
        fs_key_leave(k);
    request_reply_err(r, rc);
}

static void do_exchange(struct request *r)
{
    CLEANUP_FREE char *a = NULL;
    CLEANUP_FREE char *b = NULL;
    CLEANUP_FREE char *segment = NULL;
    CLEANUP_FREE char *segment2 = NULL;
    bool shadow = false;
    bool shadow2 = false;
    int rc = request_child(r, r->inode, r->name, &a, &segment, &shadow);
    if (rc == 0)
        rc = request_child(r, r->inode2, r->name2, &b, &segment2, &shadow2);
    if (rc == 0 && (shadow || shadow2)) /* shown under a name that is not its own */
        rc = -EINVAL;
    if (rc == 0)
        rc = volume_exchange(request_volume(r), &r->op, a, b);
    if (rc == 0)
        inode_exchanged(r->fs->inodes, &(struct inode_place){r->inode, r->name, segment},
                        &(struct inode_place){r->inode2, r->name2, segment2});
    request_reply_err(r, rc);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
               const char *new_name, unsigned flags)
{
    bool exchange = flags == RENAME_EXCHANGE;
    struct request *r = name_request(req, "rename", parent, name, exchange ? do_exchange : do_rename);
    if (!r)
        return;
    r->name2 = xstrdup(new_name);
    r->number = flags;
    r->inode2 = inode_by_number(r->fs->inodes, new_parent);
    if (!r->inode2)
        request_reply_err(r, -ESTALE);
    else if (!exchange && (flags & ~(unsigned)RENAME_NOREPLACE))
        request_reply_err(r, -EINVAL);
    else if (r->inode->key == r->inode2->key)
        request_submit(r, 0);
    else if (exchange || !r->inode2->key || !r->inode->key || !r->inode->key->volume)
        request_reply_err(r, -EXDEV);
    else {
        r->run = do_rename_across;
        request_submit(r, 0);
    }
}

static void do_symlink(struct request *r)
{
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE char *segment = NULL;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    bool shadow = false;
    const struct fuse_ctx *ctx = fuse_req_ctx(r->req);
    int rc = request_child(r, r->inode, r->name, &path, &segment, &shadow);
    if (rc == 0)
        rc = volume_symlink(request_volume(r), &r->op, r->name2, path, ctx->uid, ctx->gid, &a);
    if (rc < 0)
        request_reply_err(r, rc);
    else
        reply_made(r, segment, &a);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    struct request *r = name_request(req, "symlink", parent, name, do_symlink);
    if (!r)
        return;
    r->name2 = xstrdup(target);
    request_submit(r, 0);
}

static void do_readlink(struct request *r)
{
    CLEANUP_FREE char *path = inode_path(r->fs->inodes, r->inode);
    CLEANUP_BUF struct buf target = BUF_INIT;
    int rc = path ? volume_readlink(request_volume(r), &r->op, path, &target) : -ENOENT;
    if (rc < 0) {
        request_reply_err(r, rc);
        return;
    }
    fuse_req_t req = request_take_reply(r);
    fuse_reply_readlink(req, buf_str(&target));
    request_free(r);
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    struct request *r = request_new(req, "readlink", ino, do_readlink);
    if (r)
        request_submit(r, 0);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
    (void)ino;
    (void)new_parent;
    (void)new_name;
    fuse_reply_err(req, EPERM); /* one object has one name: what link(2) says of such file systems */
}

/* Some programs make files with mknod: an empty file is created and stored. */
static void do_mknod(struct request *r)
{
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE char *segment = NULL;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    bool shadow = false;
    bool keep = false;
    struct vfile *file = NULL;
    const struct fuse_ctx *ctx = fuse_req_ctx(r->req);
    struct vfile_open how = {.flags = VFILE_WRITE | VFILE_CREATE | VFILE_EXCL,
                             .mode = (mode_t)r->number & 07777,
                             .uid = ctx->uid,
                             .gid = ctx->gid};
    int rc = request_child(r, r->inode, r->name, &path, &segment, &shadow);
    if (rc == 0)
        rc = volume_open_file(request_volume(r), &r->op, path, &how, &file, &a, &keep);
    if (rc == 0) {
        rc = vfile_flush(file, &r->op);
        vfile_release(file);
    }
    if (rc < 0)
        request_reply_err(r, rc);
    else
        reply_made(r, segment, &a);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    (void)rdev;
    struct request *r = name_request(req, "mknod", parent, name, do_mknod);
    if (!r)
        return;
    r->number = mode & ~fuse_req_ctx(req)->umask;
    if (S_ISREG(mode))
        request_submit(r, 0);
    else
        request_reply_err(r, -EPERM); /* no fifos, sockets, devices in an object store */
}

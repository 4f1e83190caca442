/* SPDX-License-Identifier: MIT
 * op_attr.c: getattr, setattr, statfs. A file that is open answers from its handle (its path may be
 * gone); anything else from the volume by path. */
#include "base/clock.h"
#include "fs/ops.h"
#include "fs/request.h"
#include "fs/version.h"

#include <string.h>
#include <sys/statvfs.h>

void fs_virtual_attr(struct fs *fs, const struct inode *i, struct attr *a)
{
    a->kind = i->kind == INODE_VIEW_FILE ? ATTR_FILE : ATTR_DIR;
    a->mode = a->kind == ATTR_DIR ? 0555 : 0444;
    if (i->kind == INODE_KEY)
        a->mode = i->key->control ? 0700 : 0755;
    a->uid = fs->settings.uid;
    a->gid = fs->settings.gid;
    a->mtime = fs->started;
}

static int get_attr_open(struct request *r, bool old_too, struct attr *a)
{
    struct handle *h = handle_borrow(r->fs->inodes, r->inode, old_too);
    if (!h)
        return -ENOENT;
    int rc = vfile_get_attr(h->file, &r->op, a);
    handle_release(r->fs->inodes, h);
    return rc;
}

static int get_attr(struct request *r, struct attr *a)
{
    int rc = get_attr_open(r, false, a);
    if (rc != -ENOENT)
        return rc;
    CLEANUP_FREE char *path = inode_path(r->fs->inodes, r->inode);
    if (path)
        rc = volume_stat(request_volume(r), &r->op, path, r->inode->shadow ? VOLUME_STAT_DIR : 0, a);
    /* Gone for names, out of reach, or no file any more (which the kernel takes for a broken inode): who has an old
     * version open is told of that, and its reads say ESTALE. */
    CLEANUP_ATTR struct attr old = ATTR_INIT;
    bool gone = rc == 0 ? a->kind != ATTR_FILE : rc == -ENOENT || rc == -ENOTDIR || rc == -EACCES;
    if (!gone || get_attr_open(r, true, &old) < 0)
        return rc;
    attr_done(a);
    attr_move(a, &old);
    return 0;
}

static void do_getattr(struct request *r)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int rc = get_attr(r, &a);
    if (rc < 0)
        request_reply_err(r, rc);
    else
        request_reply_attr(r, r->inode, &a);
}

/* Is a file open under an inode whose name stands for something else now? */
static bool is_other(struct request *r, const struct attr *a)
{
    struct handle *h = a->kind == ATTR_FILE ? NULL : handle_borrow(r->fs->inodes, r->inode, true);
    if (h)
        handle_release(r->fs->inodes, h);
    return h != NULL;
}

static bool getattr_at_once(struct request *r)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (r->inode->kind != INODE_OBJECT) {
        fs_virtual_attr(r->fs, r->inode, &a);
        request_reply_attr(r, r->inode, &a);
        return true;
    }
    struct volume *v = r->inode->key->volume;
    bool left = version_is_left(r->fs, r->inode);
    CLEANUP_FREE char *path = left ? NULL : inode_path(r->fs->inodes, r->inode);
    if (left && get_attr_open(r, true, &a) == 0) {
        request_reply_attr(r, r->inode, &a);
        return true;
    }
    if (!v || !path ||
        volume_peek(v, path, r->inode->shadow ? VOLUME_STAT_DIR : 0, &a) != 0 || is_other(r, &a))
        return false;
    request_reply_attr(r, r->inode, &a);
    return true;
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)fi;
    struct request *r = request_new(req, "getattr", ino, do_getattr);
    if (r && !getattr_at_once(r))
        request_submit(r, 0);
}

static int apply_size(struct request *r, uint64_t size)
{
    struct handle *h = r->handle && r->handle->file ? r->handle : NULL;
    if (h)
        return vfile_truncate(h->file, &r->op, size);
    CLEANUP_FREE char *path = inode_path(r->fs->inodes, r->inode);
    if (path) {
        CLEANUP_ATTR struct attr a = ATTR_INIT;
        return volume_truncate(request_volume(r), &r->op, path, size, &a);
    }
    if (inode_is_superseded(r->fs->inodes, r->inode))
        return -ENOENT;
    h = handle_borrow(r->fs->inodes, r->inode, false);
    if (!h)
        return -ENOENT;
    int rc = vfile_truncate(h->file, &r->op, size);
    handle_release(r->fs->inodes, h);
    return rc;
}

static int apply_change(struct request *r)
{
    struct handle *h = handle_borrow(r->fs->inodes, r->inode, false);
    if (h) {
        int rc = vfile_set_attr(h->file, &r->op, &r->change);
        handle_release(r->fs->inodes, h);
        return rc;
    }
    CLEANUP_FREE char *path = inode_path(r->fs->inodes, r->inode);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (!path)
        return -ENOENT;
    if (r->inode->shadow) /* the path means the object beside it */
        return -EPERM;
    return volume_set_attr(request_volume(r), &r->op, path, &r->change, &a);
}

/* The kernel believes for the ttl what it was told of the inode that has the name: another one than ours, which is
 * read by way of a file of the cache (passthrough.h). */
static void changed_under_another(struct request *r)
{
    struct inode *i = inode_successor(r->fs->inodes, r->inode);
    if (!i)
        return;
    atomic_store(&i->told, INODE_TOLD_NONE);
    if (r->fs->session)
        (void)fuse_lowlevel_notify_inval_inode(r->fs->session, i->ino, -1, 0);
    inode_unref(r->fs->inodes, i);
}

static void do_setattr(struct request *r)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int rc = 0;
    if (r->number & FUSE_SET_ATTR_SIZE)
        rc = apply_size(r, (uint64_t)r->off);
    if (rc == 0 && r->change.known)
        rc = apply_change(r);
    if (rc == 0)
        rc = get_attr(r, &a);
    if (rc == 0)
        changed_under_another(r);
    if (rc < 0)
        request_reply_err(r, rc);
    else
        request_reply_attr(r, r->inode, &a);
}

static void wanted_times(struct request *r, const struct stat *st, int to_set)
{
    struct timespec now = clock_wall();
    if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) {
        r->change.known |= ATTR_HAS_MTIME;
        r->change.mtime = to_set & FUSE_SET_ATTR_MTIME_NOW ? now : st->st_mtim;
    }
    if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) {
        r->change.known |= ATTR_HAS_ATIME;
        r->change.atime = to_set & FUSE_SET_ATTR_ATIME_NOW ? now : st->st_atim;
    }
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set,
                struct fuse_file_info *fi)
{
    struct request *r = request_new(req, "setattr", ino, do_setattr);
    if (!r)
        return;
    if (r->inode->kind != INODE_OBJECT) {
        request_reply_err(r, -EPERM);
        return;
    }
    if (to_set & FUSE_SET_ATTR_MODE) {
        r->change.known |= ATTR_HAS_MODE;
        r->change.mode = st->st_mode & 07777;
    }
    if (to_set & FUSE_SET_ATTR_UID) {
        r->change.known |= ATTR_HAS_UID;
        r->change.uid = st->st_uid;
    }
    if (to_set & FUSE_SET_ATTR_GID) {
        r->change.known |= ATTR_HAS_GID;
        r->change.gid = st->st_gid;
    }
    wanted_times(r, st, to_set);
    r->number = (unsigned)to_set;
    r->off = st->st_size;
    r->handle = fi ? (struct handle *)(uintptr_t)fi->fh : NULL;
    request_submit(r, 0);
}

static void reply_space(struct request *r, const struct store_space *s)
{
    struct statvfs v = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = 255};
    v.f_blocks = s->total / 4096;
    v.f_bfree = s->free / 4096;
    v.f_bavail = s->avail / 4096;
    v.f_files = s->files;
    v.f_ffree = v.f_favail = s->files_free;
    fuse_req_t req = request_take_reply(r);
    fuse_reply_statfs(req, &v);
    request_free(r);
}

static void do_statfs(struct request *r)
{
    struct store_space s = {0};
    int rc = volume_space(request_volume(r), &r->op, &s);
    if (rc < 0)
        request_reply_err(r, rc);
    else
        reply_space(r, &s);
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct request *r = request_new(req, "statfs", ino, do_statfs);
    if (!r)
        return;
    if (r->inode->key && r->inode->key->volume) {
        request_submit(r, 0);
        return;
    }
    /* The root: as large as a store without limits says (1 PiB). */
    struct store_space s = {.total = 1ULL << 50, .free = 1ULL << 50, .avail = 1ULL << 50,
                            .files = 1ULL << 32, .files_free = 1ULL << 32};
    reply_space(r, &s);
}

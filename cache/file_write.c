/* SPDX-License-Identifier: MIT
 * file_write.c: changes of an open file: all go to its stage file; and to metadata.
 * Everything here runs with the vnode's token, so it never meets a commit.
 * Invariants: (1) the stage file is as long as attr.size, so every byte of the content that is not of the
 * base can be read from it at its own offset; (2) bytes are counted in `reserved` before they are written;
 * (3) what the journal has promised of a file can be had back until it has promised something else: undo.h, or
 * the file is left alone (old_name). */
#include "cache/volume_int.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/sys.h"
#include "cache/stage.h"
#include "cache/stream.h"
#include "cache/undo.h"

#include <fcntl.h>
#include <linux/falloc.h>

static int check_live(struct vnode *n, struct op *op)
{
    if (!atomic_load(&n->stale))
        return 0;
    return err_set(&op->err, ESTALE, "%s: %s: another client has changed the file", n->v->key,
                   n->path);
}

/* Begins a change through a handle: the token, or an error. */
static int begin_change(struct vfile *f, struct op *op)
{
    struct vnode *n = f->n;
    if (!(f->flags & VFILE_WRITE))
        return err_set(&op->err, EBADF, "%s: not open for writing", n->v->key);
    int r = vnode_begin_change(n, op);
    if (r < 0)
        return r;
    r = check_live(n, op);
    if (r < 0)
        vnode_end(n);
    return r;
}

static int stage_error(struct vnode *n, struct op *op, int r)
{
    return err_set(&op->err, -r, "%s: %s: staging in %s: %s", n->v->key, n->path,
                   stage_dir(n->v->stage), strerror(-r));
}

/* A file in the stage directory for all of the content that is in memory so far, or for none. */
static int new_file(struct vnode *n, struct op *op, struct stage_file **ret, char **ret_name)
{
    struct stage *s = n->v->stage;
    struct stage_file *f = NULL;
    char *name = NULL;
    int r = 0;
    if (n->in_row)
        r = stage_file_make(s, n->file_name, &op->err, &f);
    else
        r = n->file ? stage_file_new(s, &op->err, &f, &name) : vnode_take_file(n, op, &f, &name);
    if (r < 0)
        return err_prefix(&op->err, "%s: %s", n->v->key, n->path);
    r = n->attr.size ? sys_ftruncate(f->fd, n->attr.size) : 0;
    if (r == 0 && n->file)
        r = sys_copy_range(n->file->fd, 0, f->fd, 0, n->attr.size);
    if (r < 0 || n->unlinked) {
        stage_file_remove(s, name ? name : n->file_name);
        free(take_ptr(&name));
    }
    if (r < 0) {
        stage_file_put(f);
        return stage_error(n, op, r);
    }
    *ret = f;
    *ret_name = name;
    return 0;
}

/* What was closed while it waits. */
static int open_again(struct vnode *n, struct op *op)
{
    struct stage *s = n->v->stage;
    struct stage_file *f = NULL;
    int r = n->in_row ? stage_file_load(s, n->file_name, &op->err, &f)
                      : stage_file_open(s, n->file_name, &op->err, &f);
    if (r < 0)
        return err_prefix(&op->err, "%s: %s", n->v->key, n->path);
    LOCK_SCOPE(&n->lock);
    n->file = f;
    return 0;
}

static int new_nameless(struct vnode *n, struct op *op, struct stage_file **ret)
{
    struct stage_file *f = NULL;
    int r = stage_file_nameless(n->v->stage, &op->err, &f);
    if (r < 0)
        return err_prefix(&op->err, "%s: %s", n->v->key, n->path);
    if (n->attr.size && (r = sys_ftruncate(f->fd, n->attr.size)) < 0) {
        stage_file_put(f);
        return stage_error(n, op, r);
    }
    *ret = f;
    return 0;
}

int vnode_stage_open(struct vnode *n, struct op *op, uint64_t end)
{
    struct stage_file *f = NULL, *old = NULL;
    char *name = NULL;
    uint64_t most = n->v->policy.stage_memory;
    int r = n->file_name && !n->file ? open_again(n, op) : 0;
    if (r < 0)
        return r;
    lock_acquire(&n->lock);
    bool small = end <= most && n->attr.size <= most && n->passes == 0;
    lock_release(&n->lock);
    if (n->file && (small || !n->file->nameless))
        return 0;
    r = small ? new_nameless(n, op, &f) : new_file(n, op, &f, &name);
    if (r < 0)
        return r;
    lock_acquire(&n->lock);
    old = n->file;
    n->file = f;
    n->in_row = n->saved = n->name_synced = false;
    if (name)
        n->file_name = name;
    lock_release(&n->lock);
    stage_file_put(old);
    return 0;
}

/* ---- uploading while it is written ---- */

/* A file without content at the store that is written from its beginning on. */
static bool may_stream(const struct vnode *n)
{
    const struct store *s = n->v->store;
    return (s->caps & CAP_UPLOAD) && s->limits.upload_threshold && !(n->base && n->base_len) &&
           !n->unlinked && !n->taken && !n->journaled && n->attempts == 0 && n->file &&
           !n->file->nameless;
}

static uint64_t front_of(const struct vnode *n)
{
    return n->staged.n && n->staged.v[0].off == 0 ? n->staged.v[0].end : 0;
}

/* What is complete and larger than `least` goes on its way. */
static void stream_on(struct vnode *n, uint64_t least)
{
    uint64_t front = front_of(n);
    if (!n->stream && front > least && may_stream(n)) {
        vnode_fit_time(n);
        struct stream *s = stream_new(n->v, n->path, n->file, &n->attr);
        LOCK_SCOPE(&n->lock);
        n->stream = s;
        n->restamp = false;
    }
    if (n->stream)
        stream_ready(n->stream, front);
}

void vnode_drop_stream(struct vnode *n)
{
    lock_acquire(&n->lock);
    struct stream *s = take_ptr(&n->stream);
    lock_release(&n->lock);
    stream_drop(s);
}

static int reserve_once(struct vnode *n, struct op *op, uint64_t bytes)
{
    struct err none = ERR_INIT;
    int r = cache_reserve_dirty(n->v->cache, bytes, &none);
    if (r < 0)
        op->err = none;
    return r;
}

static void unreserve(struct vnode *n, uint64_t bytes)
{
    cache_release_dirty(n->v->cache, bytes);
    stat_add(n->v->pending_bytes, -(int64_t)bytes);
}

/* No room: what is at the store already gives up its place here. */
static bool give_way(struct vnode *n, struct op *op)
{
    if (n->journaled) /* the journal has promised these bytes */
        return false;
    stream_on(n, n->v->store->limits.part_size);
    uint64_t freed = n->stream ? stream_free(n->stream, op) : 0;
    if (freed == 0)
        return false;
    lock_acquire(&n->lock);
    freed = freed < n->reserved ? freed : n->reserved;
    n->reserved -= freed;
    lock_release(&n->lock);
    unreserve(n, freed);
    return true;
}

static int may_change(struct vnode *n, struct op *op, uint64_t off, uint64_t end)
{
    return n->stream ? stream_may_change(n->stream, op, off, end) : 0;
}

static void bytes_changed(struct vnode *n, uint64_t off, uint64_t end)
{
    if (n->stream)
        stream_changed(n->stream, off, end);
}

static int reserve(struct vnode *n, struct op *op, uint64_t bytes, bool wait)
{
    int r = reserve_once(n, op, bytes);
    while (r == -ENOSPC && wait && give_way(n, op))
        r = reserve_once(n, op, bytes);
    if (r < 0)
        return err_prefix(&op->err, "%s: %s", n->v->key, n->path);
    stat_add(n->v->pending_bytes, (int64_t)bytes);
    return 0;
}

/* Before [off, end) of the stage file changes. -EAGAIN: that takes time, and may not. */
static int keep_promised(struct vnode *n, struct op *op, uint64_t off, uint64_t end, bool wait)
{
    if (!n->promised)
        return 0;
    if (!n->undo) { /* what was fetched since the row is kept as well */
        struct undo *u = undo_new(n->v->stage, n->file_name, n->promise, n->attr.size, &n->staged);
        LOCK_SCOPE(&n->lock);
        n->undo = u;
    }
    struct range next;
    while (undo_next(n->undo, off, end, &next)) {
        int r = wait ? op_check(op) : -EAGAIN;
        uint64_t bytes = undo_need(n->undo, next);
        if (r == 0)
            r = reserve_once(n, op, bytes);
        if (r < 0)
            return r == -EAGAIN ? r : err_prefix(&op->err, "%s: %s", n->v->key, n->path);
        r = undo_keep(n->undo, n->file->fd, next, &op->err);
        if (r < 0) {
            cache_release_dirty(n->v->cache, bytes);
            return err_prefix(&op->err, "%s: %s", n->v->key, n->path);
        }
    }
    return 0;
}

/* [off, end) is in the stage file now. */
static void staged_locked(struct vnode *n, uint64_t off, uint64_t end, uint64_t reserved)
{
    lock_assert_held(&n->lock);
    ranges_add(&n->staged, off, end);
    n->reserved += reserved;
    if (end > n->attr.size)
        n->attr.size = end;
    n->attr.mtime = volume_time(n->v, clock_wall());
    n->attr.known |= ATTR_HAS_MTIME;
    n->stamped = false;
}

static void changed(struct vnode *n)
{
    if (!n->unlinked)
        vnode_mark_dirty(n);
}

static int check_size(struct vnode *n, struct op *op, uint64_t off, uint64_t len)
{
    const struct store *s = n->v->store;
    uint64_t most = store_size_max(s);
    most = most < INT64_MAX ? most : INT64_MAX;
    if (off <= most && len <= most - off)
        return 0;
    if (most == INT64_MAX)
        return err_set(&op->err, EFBIG, "%s: %s: file too large", n->v->key, n->path);
    return err_set(&op->err, EFBIG, "%s: %s: too large for this store: it takes objects of at most %llu bytes "
                                    "(%u parts of %llu)", n->v->key, n->path, (unsigned long long)most,
                   s->limits.parts_max, (unsigned long long)s->limits.part_max);
}

static ssize_t write_staged(struct vfile *f, struct op *op, uint64_t off, const void *buf,
                            size_t len, bool wait)
{
    struct vnode *n = f->n;
    if (off == VFILE_END)
        off = n->attr.size;
    int r = check_size(n, op, off, len);
    if (r == 0)
        r = vnode_stage_open(n, op, off + len);
    if (r < 0)
        return r;
    uint64_t add = len - ranges_overlap(&n->staged, off, off + len);
    r = may_change(n, op, off, off + len);
    if (r == 0)
        r = keep_promised(n, op, off, off + len, wait);
    if (r == 0)
        r = reserve(n, op, add, wait);
    if (r < 0)
        return r;
    ssize_t wrote = sys_pwrite(n->file->fd, buf, len, off);
    bytes_changed(n, off, off + len);
    if (wrote != (ssize_t)len) {
        unreserve(n, add);
        (void)sys_ftruncate(n->file->fd, n->attr.size); /* invariant 1 */
        return stage_error(n, op, wrote < 0 ? (int)wrote : -EIO);
    }
    lock_acquire(&n->lock);
    staged_locked(n, off, off + len, add);
    f->wrote = f->unflushed = true;
    lock_release(&n->lock);
    changed(n);
    stream_on(n, n->v->store->limits.upload_threshold);
    return wrote;
}

ssize_t vfile_write(struct vfile *f, struct op *op, uint64_t off, const void *buf, size_t len)
{
    if (len == 0)
        return 0;
    int r = begin_change(f, op);
    if (r < 0)
        return r;
    ssize_t wrote = write_staged(f, op, off, buf, len, true);
    vnode_end(f->n);
    return wrote;
}

ssize_t vfile_try_write(struct vfile *f, uint64_t off, const void *buf, size_t len)
{
    struct vnode *n = f->n;
    struct op op;
    if (len == 0 || !(f->flags & VFILE_WRITE) || atomic_load(&n->stale) || !vnode_try_begin(n))
        return -EAGAIN;
    op_init(&op, "write", 0);
    ssize_t wrote = write_staged(f, &op, off, buf, len, false);
    vnode_end(n);
    return wrote < 0 ? -EAGAIN : wrote;
}

/* ---- sizes ---- */

static void touch(struct vnode *n)
{
    lock_acquire(&n->lock);
    n->attr.mtime = volume_time(n->v, clock_wall());
    n->attr.known |= ATTR_HAS_MTIME;
    n->stamped = false;
    lock_release(&n->lock);
    changed(n);
}

/* What a truncation takes away, to be put back when it fails. */
struct cut {
    struct ranges staged;
    uint64_t base_len, size, reserved;
};

/* Content ends at `size` < attr.size. */
static void cut(struct vnode *n, uint64_t size, struct cut *ret)
{
    LOCK_SCOPE(&n->lock);
    ret->base_len = n->base_len;
    ret->size = n->attr.size;
    ranges_copy(&ret->staged, &n->staged);
    ranges_remove(&n->staged, size, UINT64_MAX);
    uint64_t less = ret->staged.bytes - n->staged.bytes;
    ret->reserved = less < n->reserved ? less : n->reserved;
    n->reserved -= ret->reserved;
    if (n->base_len > size)
        n->base_len = size;
    n->attr.size = size;
}

static void uncut(struct vnode *n, struct cut *c)
{
    LOCK_SCOPE(&n->lock);
    ranges_done(&n->staged);
    n->staged = c->staged;
    c->staged = RANGES_INIT;
    n->base_len = c->base_len;
    n->attr.size = c->size;
    n->reserved += c->reserved;
}

static int shrink(struct vnode *n, struct op *op, uint64_t size)
{
    struct cut c = {0};
    int r = may_change(n, op, size, size + 1);
    if (r == 0)
        r = keep_promised(n, op, size, UINT64_MAX, true);
    if (r < 0)
        return r;
    cut(n, size, &c);
    if ((r = sys_ftruncate(n->file->fd, size)) < 0) {
        r = stage_error(n, op, r);
        uncut(n, &c);
    } else {
        bytes_changed(n, size, UINT64_MAX);
        unreserve(n, c.reserved);
    }
    ranges_done(&c.staged);
    return r;
}

/* A file for the content up to `size`. */
static int shorter_file(struct vnode *n, struct op *op, uint64_t size, struct stage_file **ret, char **ret_name)
{
    struct stage *s = n->v->stage;
    bool small = size <= n->v->policy.stage_memory;
    int r = size ? vnode_stage_open(n, op, size) : 0;
    if (r < 0)
        return r;
    r = small ? stage_file_nameless(s, &op->err, ret) : stage_file_new(s, &op->err, ret, ret_name);
    if (r < 0)
        return err_prefix(&op->err, "%s: %s", n->v->key, n->path);
    if (size == 0)
        return 0;
    r = sys_ftruncate((*ret)->fd, size);
    if (r == 0)
        r = sys_copy_range(n->file->fd, 0, (*ret)->fd, 0, size);
    if (r == 0)
        return 0;
    if (*ret_name)
        stage_file_remove(s, *ret_name);
    free(take_ptr(ret_name));
    stage_file_put(take_ptr(ret));
    return stage_error(n, op, r);
}

/* What the journal has promised stays promised, with its file, until there is another promise: a program that
 * rewrites a file may be killed between the open that empties it and the close. What is left of it goes on in a
 * file of its own. */
static int leave_promised(struct vnode *n, struct op *op, uint64_t size)
{
    struct cut c = {0};
    struct stage_file *f = NULL, *old;
    char *name = NULL;
    int r = shorter_file(n, op, size, &f, &name);
    if (r < 0)
        return r;
    cut(n, size, &c);
    lock_acquire(&n->lock);
    old = n->file;
    n->file = f;
    n->old_name = n->file_name;
    n->file_name = name;
    n->journaled = n->name_synced = n->promised = false;
    lock_release(&n->lock);
    stage_file_put(old);
    unreserve(n, c.reserved);
    ranges_done(&c.staged);
    touch(n);
    return 0;
}

/* Cheaper than to copy away what is cut off. */
static bool may_leave_promised(const struct vnode *n, uint64_t size)
{
    bool less = size == 0 ? n->attr.size > 0 : n->promised && size < n->attr.size / 2;
    return less && n->journaled && !n->in_row && !n->taken && !n->stream;
}

int vnode_truncate(struct vnode *n, struct op *op, uint64_t size)
{
    int r = check_live(n, op);
    if (r == 0)
        r = check_size(n, op, size, 0);
    if (r < 0 || (size == n->attr.size && size > 0))
        return r;
    if (may_leave_promised(n, size))
        return leave_promised(n, op, size);
    r = vnode_stage_open(n, op, size);
    if (r == 0 && size < n->attr.size) {
        r = shrink(n, op, size);
    } else if (r == 0 && size > n->attr.size) {
        r = sys_ftruncate(n->file->fd, size);
        if (r < 0)
            return stage_error(n, op, r);
        lock_acquire(&n->lock);
        n->attr.size = size;
        lock_release(&n->lock);
    }
    if (r == 0)
        touch(n);
    return r;
}

int vfile_truncate(struct vfile *f, struct op *op, uint64_t size)
{
    int r = begin_change(f, op);
    if (r < 0)
        return r;
    r = vnode_truncate(f->n, op, size);
    lock_acquire(&f->n->lock);
    f->wrote = f->wrote || r == 0;
    f->unflushed = f->unflushed || r == 0;
    lock_release(&f->n->lock);
    vnode_end(f->n);
    return r;
}

/* [off, end) within the file reads as zeros. */
static int zero(struct vfile *f, struct op *op, uint64_t off, uint64_t end)
{
    struct vnode *n = f->n;
    int r = vnode_stage_open(n, op, end);
    if (r < 0 || off >= end)
        return r;
    uint64_t add = end - off - ranges_overlap(&n->staged, off, end);
    r = may_change(n, op, off, end);
    if (r == 0)
        r = keep_promised(n, op, off, end, true);
    if (r == 0)
        r = reserve(n, op, add, true);
    if (r < 0)
        return r;
    r = sys_fallocate(n->file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, end - off);
    bytes_changed(n, off, end);
    if (r < 0) {
        unreserve(n, add);
        return stage_error(n, op, r);
    }
    lock_acquire(&n->lock);
    staged_locked(n, off, end, add);
    f->wrote = f->unflushed = true;
    lock_release(&n->lock);
    changed(n);
    return 0;
}

static int allocate(struct vfile *f, struct op *op, int mode, uint64_t off, uint64_t end)
{
    struct vnode *n = f->n;
    uint64_t size = n->attr.size;
    bool keep = mode & FALLOC_FL_KEEP_SIZE;
    if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
        int r = zero(f, op, off, end < size ? end : size);
        if (r < 0 || keep || end <= size)
            return r;
    }
    return keep || end <= size ? 0 : vnode_truncate(n, op, end);
}

int vfile_fallocate(struct vfile *f, struct op *op, int mode, uint64_t off, uint64_t len)
{
    bool known = mode == 0 || mode == FALLOC_FL_KEEP_SIZE ||
                 mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) ||
                 (mode & ~FALLOC_FL_KEEP_SIZE) == FALLOC_FL_ZERO_RANGE;
    if (!known)
        return err_set(&op->err, EOPNOTSUPP, "%s: fallocate mode %d", f->v->key, mode);
    if (len == 0 || off > INT64_MAX || len > INT64_MAX - off)
        return err_set(&op->err, len == 0 ? EINVAL : EFBIG, "%s: fallocate range", f->v->key);
    int r = begin_change(f, op);
    if (r < 0)
        return r;
    r = allocate(f, op, mode, off, off + len);
    vnode_end(f->n);
    return r;
}

/* ---- metadata ---- */

#define LONGEST_NS 999999999

/* With the time that the next write gives it, unless it has been given one. */
static int meta_fits(struct vnode *n, struct attr later, bool stamped, struct err *err)
{
    if (!stamped)
        later.mtime.tv_nsec = LONGEST_NS;
    return store_check_meta(n->v->store, &later, err);
}

/* Could the file ever be stored with these? One that others have left no room for its time goes without (vnode_fit_time). */
static int check_meta(struct vnode *n, struct op *op, const struct attr *a, bool stamped)
{
    struct err before = ERR_INIT;
    int r = meta_fits(n, *a, stamped, &op->err);
    if (r == -E2BIG && !stamped && meta_fits(n, n->attr, false, &before) == -E2BIG) {
        struct attr timeless = *a;
        timeless.known &= ~(unsigned)ATTR_HAS_MTIME;
        err_clear(&op->err);
        r = meta_fits(n, timeless, false, &op->err);
    }
    return r < 0 ? err_prefix(&op->err, "%s: %s", n->v->key, n->path) : 0;
}

void vnode_fit_time(struct vnode *n)
{
    struct err err = ERR_INIT;
    if (n->stamped || store_check_meta(n->v->store, &n->attr, &err) != -E2BIG)
        return;
    LOCK_SCOPE(&n->lock);
    n->attr.known &= ~(unsigned)ATTR_HAS_MTIME;
}

static int staged_meta(struct vnode *n, struct op *op, const struct attr *change)
{
    CLEANUP_ATTR struct attr next = ATTR_INIT;
    bool stamped = n->stamped || (change->known & ATTR_HAS_MTIME);
    vnode_attr(n, &next);
    attr_apply(&next, change);
    int r = check_meta(n, op, &next, stamped);
    if (r < 0)
        return r;
    lock_acquire(&n->lock);
    attr_done(&n->attr);
    attr_move(&n->attr, &next);
    n->restamp = n->restamp || n->stream || n->maybe_stored;
    n->stamped = stamped;
    lock_release(&n->lock);
    return n->journaled && !n->unflushed ? vnode_journal(n, op) : 0; /* else it is promised with the content */
}

/* The store has changed the metadata of our version: `a` is what it has now. */
static void adopt_meta(struct vnode *n, struct attr *a, const struct attr *change)
{
    struct volume *v = n->v;
    struct attr next = ATTR_INIT;
    if (a->known & ATTR_META) {
        attr_move(&next, a);
    } else {
        attr_copy(&next, &n->attr);
        attr_apply(&next, change);
        memcpy(next.version, a->version, sizeof(next.version));
    }
    next.size = n->base->size;
    volume_complete(v, &next);
    bool moved = strcmp(next.version, n->base->version) != 0;
    struct base *b = moved ? base_new(v, n->path, next.version, next.size, true) : NULL;
    lock_acquire(&n->lock);
    attr_done(&n->attr);
    attr_copy(&n->attr, &next);
    lock_release(&n->lock);
    if (moved)
        vnode_set_base(n, b, next.size);
    vnode_seen(n, next.version);
    volume_changed(v, n->path, &next);
    attr_done(&next);
}

static int stored_meta(struct vnode *n, struct op *op, const struct attr *change)
{
    struct volume *v = n->v;
    CLEANUP_ATTR struct attr ret = ATTR_INIT;
    const char *match = v->store->caps & CAP_IF_MATCH ? n->base->version : NULL;
    volume_settle(v, n->path);
    int r = store_set_meta(v->store, op, n->path, match, change, &ret);
    if (r == 0) {
        adopt_meta(n, &ret, change);
        return 0;
    }
    if (r != -ESTALE)
        return r;
    atomic_store(&n->stale, true); /* the name means another version now: the change is for that */
    r = store_set_meta(v->store, op, n->path, NULL, change, &ret);
    if (r == 0)
        volume_changed(v, n->path, ret.known & ATTR_META ? &ret : NULL);
    return r;
}

int vnode_set_meta(struct vnode *n, struct op *op, const struct attr *change)
{
    struct attr exact = volume_times(n->v, change);
    int r = check_live(n, op);
    if (r < 0)
        return r;
    if (n->dirty || n->unlinked)
        return staged_meta(n, op, &exact);
    vnode_set_committing(n, true);
    r = stored_meta(n, op, &exact);
    vnode_set_committing(n, false);
    return r;
}

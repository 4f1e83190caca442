/* SPDX-License-Identifier: MIT
 * file_copy.c: copy_file_range between two files of one store that copies by itself.
 *
 * The target takes the source's version as its base: its content is "the first base_len bytes of that version of
 * vnode.copy_of", with whatever is written over it, and nothing has been transferred. Its commit is an upload whose
 * parts the store copies. So it is for what begins at 0 of an empty file and goes on without a gap; all else is
 * -EOPNOTSUPP, and the kernel copies by reading and writing.
 *
 * Until it is stored, such content hangs on a version under another name. Before this mount changes what that name
 * means, volume_settle_copies() fetches it, and so does the journal, which knows nothing of it. When another client
 * was faster, reads are -ESTALE as for everybody who has that version open, and close() fails. */
#include "cache/volume_int.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/sys.h"
#include "cache/stage.h"

struct copy_source {
    char *path;
    char version[ATTR_VERSION_MAX];
    uint64_t size;
};

/* The source as the store has it. false: some of it is here only, or it is too small to bother. */
static bool take_source(struct vnode *n, struct copy_source *ret)
{
    struct volume *v = n->v;
    LOCK_SCOPE(&v->s.lock);
    LOCK_SCOPE(&n->lock);
    bool plain = n->attached && n->base && !n->copy_of && !n->dirty && !n->unlinked &&
                 !atomic_load(&n->stale) && n->base_len == n->base->size && n->attr.size == n->base->size;
    if (!plain || n->base->size <= v->store->limits.part_min)
        return false;
    ret->path = xstrdup(n->path);
    ret->size = n->base->size;
    memcpy(ret->version, n->base->version, sizeof(ret->version));
    return true;
}

/* Is [0, off) of `to`, all it has, a copy of the same? With its token. */
static bool goes_on(struct vnode *to, const struct copy_source *s, uint64_t off)
{
    if (to->attr.size != off || to->staged.n || to->stream)
        return false;
    if (off == 0)
        return to->base_len == 0 || !to->base;
    return to->copy_of && to->base_len == off && strcmp(to->copy_of, s->path) == 0 &&
           strcmp(to->base->version, s->version) == 0;
}

static void extend(struct vfile *f, const struct copy_source *s, uint64_t off, uint64_t end)
{
    struct vnode *n = f->n;
    struct volume *v = n->v;
    if (!n->unlinked)
        vnode_mark_dirty(n); /* first: its condition is that of the version that it replaces */
    if (off == 0) {
        vnode_set_base(n, base_new(v, s->path, s->version, s->size, true), end);
        atomic_fetch_add(&v->copies, 1);
    }
    LOCK_SCOPE(&n->lock);
    if (off == 0)
        n->copy_of = xstrdup(s->path);
    n->base_len = n->attr.size = end;
    n->attr.mtime = clock_wall();
    n->attr.known |= ATTR_HAS_MTIME;
    f->wrote = f->unflushed = true;
}

/* The name of the source stays what it is meanwhile. */
static ssize_t copy_held(struct vfile *to, struct op *op, const struct copy_source *s, uint64_t off,
                         uint64_t end)
{
    int r = vnode_begin_change(to->n, op);
    if (r < 0)
        return r;
    bool can = !atomic_load(&to->n->stale) && goes_on(to->n, s, off);
    r = can ? vnode_stage_open(to->n, op, end) : -EOPNOTSUPP;
    if (r == 0 && (r = sys_ftruncate(to->n->file->fd, end)) < 0) /* a hole: what is written over it goes there */
        r = err_set(&op->err, -r, "%s: %s: %s: %s", to->v->key, to->n->path, to->n->file->path, strerror(-r));
    if (r == 0)
        extend(to, s, off, end);
    vnode_end(to->n);
    return r == 0 ? (ssize_t)(end - off) : r;
}

/* Of two inodes: the kernel sees neither that the ranges overlap nor where the file ends, over which it would go on into what it
 * has just written. */
static bool may_not_copy_within(struct vnode *n, uint64_t off_to, uint64_t off, uint64_t len)
{
    LOCK_SCOPE(&n->lock);
    return (off < off_to + len && off_to < off + len) || len > n->attr.size || off > n->attr.size - len;
}

ssize_t vfile_copy(struct vfile *to, struct op *op, uint64_t off_to, struct vfile *from, uint64_t off,
                   uint64_t len)
{
    struct volume *v = to->v;
    struct copy_source s = {0};
    struct name_lock l;
    if (from->n == to->n && len && may_not_copy_within(from->n, off_to, off, len))
        return err_set(&op->err, EINVAL, "%s: what is to be copied within one file overlaps, or is behind its end", v->key);
    if (from->v != v || from->n == to->n || off != off_to || len == 0 || !(v->store->caps & CAP_COPY_PART) ||
        !(to->flags & VFILE_WRITE) || !take_source(from->n, &s))
        return -EOPNOTSUPP;
    CLEANUP_FREE char *path = s.path;
    ssize_t r = off < s.size ? name_lock(v, op, &l, NAME_SHARED, path, NULL) : 0;
    if (r < 0 || off >= s.size)
        return r;
    CLEANUP_FREE char *again = NULL;
    struct copy_source now = {0};
    bool same = take_source(from->n, &now) && strcmp(now.path, s.path) == 0 &&
                strcmp(now.version, s.version) == 0;
    again = now.path;
    r = same ? copy_held(to, op, &s, off, len < s.size - off ? off + len : s.size) : -EOPNOTSUPP;
    name_unlock(v, &l);
    return r;
}

/* ---- the end of it ---- */

int vnode_unshare(struct vnode *n, struct op *op)
{
    if (!n->copy_of)
        return 0;
    int r = vnode_fill(n, op, 0, n->base_len);
    if (r == 0)
        vnode_set_base(n, NULL, 0);
    return r;
}

static bool pick_copy_locked(const struct vnode *n, const void *arg)
{
    return n->copy_of && path_within(n->copy_of, arg);
}

void volume_settle_copies(struct volume *v, struct op *op, const char *path)
{
    if (atomic_load(&v->copies) == 0)
        return;
    struct vnode **list = NULL;
    struct err keep = op->err;
    size_t n = vnode_collect(v, pick_copy_locked, path, &list);
    for (size_t i = 0; i < n; i++) {
        if (vnode_begin(list[i], op) == 0) {
            (void)vnode_unshare(list[i], op); /* else its own commit tells */
            vnode_end(list[i]);
        }
        vnode_put(list[i]);
    }
    free(list);
    op->err = keep;
}

void vnode_settle_copies(struct vnode *n, struct op *op)
{
    struct volume *v = n->v;
    if (atomic_load(&v->copies) == 0 || !vnode_is_dirty(n))
        return;
    lock_acquire(&v->s.lock);
    CLEANUP_FREE char *path = xstrdup(n->path);
    lock_release(&v->s.lock);
    volume_settle_copies(v, op, path);
}

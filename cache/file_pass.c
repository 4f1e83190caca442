/* SPDX-License-Identifier: MIT
 * file_pass.c: open files whose content the kernel reads by itself (volume.h, vfile_pass_begin).
 *
 * Handles are passed through to the block file of the version that is current when the first of them
 * begins. That file is to show the vnode's content for as long as one of them is open, so a local write
 * must reach it: the first change takes it out of the cache and makes it the stage file (vnode_take_file).
 * From then on stage, base and passed handles share one file, which is right as the base is read only
 * where nothing was written. States of a vnode with passes > 0:
 *   SHARED  !taken: `pass` is a version in the cache with the vnode's content; there is no stage file
 *   TAKEN   `file` is the file of `pass`. After the commit it stays, so that the next write reaches the
 *           passed handles too. It never becomes the new version's cache: that punches holes into it.
 * Invariants: (1) passes rises from 0 with the token only; (2) `pass` and the size in its file change as
 * the content does. */
#include "cache/volume_int.h"

#include "base/cleanup.h"
#include "base/sys.h"
#include "cache/stage.h"

static bool join(struct vfile *f)
{
    struct vnode *n = f->n;
    LOCK_SCOPE(&n->lock);
    if (n->passes == 0 || atomic_load(&n->stale))
        return false;
    n->passes++;
    f->passed = true;
    return true;
}

/* The version that is all there is to the content, referenced, or NULL. */
static struct cache_object *whole_version(struct vnode *n)
{
    LOCK_SCOPE(&n->lock);
    bool plain = n->base && !n->dirty && !n->file && !n->unlinked && !n->incomplete &&
                 !atomic_load(&n->stale) && n->base_len == n->base->size &&
                 n->attr.size == n->base->size;
    return plain ? cache_object_ref(n->base->object) : NULL;
}

struct cache_object *vfile_version(struct vfile *f)
{
    return whole_version(f->n);
}

static int begin_first(struct vfile *f)
{
    struct vnode *n = f->n;
    struct cache_object *o = whole_version(n);
    int fd = o ? cache_object_pass(o) : -EAGAIN;
    if (fd < 0) {
        cache_object_put(o);
        return fd;
    }
    LOCK_SCOPE(&n->lock);
    n->pass = o;
    n->passes = 1;
    f->passed = true;
    return 0;
}

int vfile_pass_begin(struct vfile *f, struct op *op)
{
    struct vnode *n = f->n;
    if (f->flags != VFILE_READ)
        return -EAGAIN;
    if (join(f))
        return 0;
    if (vnode_is_dirty(n)) /* an upload may have the token for long */
        return -EAGAIN;
    int r = vnode_begin(n, op);
    if (r < 0)
        return r;
    r = join(f) ? 0 : begin_first(f);
    vnode_end(n);
    return r;
}

const void *vfile_pass_file(const struct vfile *f)
{
    LOCK_SCOPE(&f->n->lock);
    return f->passed ? f->n->pass : NULL;
}

int vfile_pass_fd(struct vfile *f)
{
    return cache_object_passed_fd(f->n->pass); /* it stays while f is passed */
}

/* A stage file that was kept for passed handles only. */
static void drop_idle_file(struct vnode *n)
{
    if (!vnode_try_begin(n))
        return; /* the vnode's end removes it */
    lock_acquire(&n->lock);
    bool idle = n->passes == 0 && n->taken && !n->dirty && !n->unlinked;
    struct stage_file *file = idle ? take_ptr(&n->file) : NULL;
    char *name = idle ? take_ptr(&n->file_name) : NULL;
    n->taken = n->taken && !idle;
    lock_release(&n->lock);
    if (name)
        stage_file_remove(n->v->stage, name);
    stage_file_put(file);
    free(name);
    vnode_end(n);
}

void vfile_pass_end(struct vfile *f)
{
    struct vnode *n = f->n;
    if (!f->passed)
        return;
    lock_acquire(&n->lock);
    struct cache_object *o = --n->passes == 0 ? take_ptr(&n->pass) : NULL;
    bool taken = n->taken;
    f->passed = false;
    lock_release(&n->lock);
    if (!o)
        return;
    cache_object_unpass(o);
    cache_object_put(o);
    if (taken)
        drop_idle_file(n);
}

int vnode_take_file(struct vnode *n, struct op *op, struct stage_file **ret, char **ret_name)
{
    struct stage *s = n->v->stage;
    lock_acquire(&n->lock);
    struct cache_object *o = n->passes ? cache_object_ref(n->pass) : NULL;
    lock_release(&n->lock);
    if (!o)
        return stage_file_new(s, &op->err, ret, ret_name);
    CLEANUP_FREE char *name = NULL;
    CLEANUP_FREE char *path = stage_file_path(s, &name);
    int r = cache_object_give(o, path);
    cache_object_put(o);
    if (r == 0)
        r = sys_fsync_dir(stage_dir(s)); /* a journal row must find it */
    if (r < 0)
        return err_set(&op->err, -r, "%s: %s: its cached file cannot be staged in %s: %s", n->v->key,
                       n->path, stage_dir(s), strerror(-r));
    r = stage_file_open(s, name, &op->err, ret);
    if (r < 0)
        return r;
    *ret_name = take_ptr(&name);
    LOCK_SCOPE(&n->lock);
    n->taken = true;
    return 0;
}

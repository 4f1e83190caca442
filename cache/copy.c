/* SPDX-License-Identifier: MIT
 * copy.c: one file of a key copied to another name of it, by the store where it can.
 *
 * Others see what this mount's readers see: what is staged under the source is stored first. The version that
 * was looked at is the one that is copied. Handles of the file that is replaced are as after a change by
 * another client: stale. What somebody is writing under the new name is not overwritten. */
#include "cache/given_up.h"

#include "base/cleanup.h"

struct copying {
    struct volume *v;
    struct op *op;
    const char *from, *to;
    bool no_replace;
    struct vnode *src, *dst; /* with their tokens; may be NULL */
};

static int begin_both(struct copying *c)
{
    bool in_order = strcmp(c->from, c->to) < 0;
    struct vnode **first = in_order ? &c->src : &c->dst, **second = in_order ? &c->dst : &c->src;
    int r = vnode_begin_at(c->v, c->op, in_order ? c->from : c->to, false, first);
    if (r < 0)
        return r;
    return vnode_begin_at(c->v, c->op, in_order ? c->to : c->from, false, second);
}

static int look_at_target(struct copying *c)
{
    CLEANUP_ATTR struct attr b = ATTR_INIT;
    struct err *err = &c->op->err;
    if (c->dst && c->dst->dirty)
        return err_set(err, EBUSY, "%s: %s: is being written", c->v->key, c->to);
    int r = volume_stat_fresh(c->v, c->op, c->to, false, NULL, &b);
    if (r == -ENOENT) {
        err_clear(err);
        return 0;
    }
    if (r == 0 && b.kind == ATTR_DIR)
        return err_set(err, EISDIR, "%s: %s: is a directory", c->v->key, c->to);
    if (r == 0 && c->no_replace)
        return err_set(err, EEXIST, "%s: %s: exists already", c->v->key, c->to);
    return r;
}

/* Its handles have a version that is not there any more. */
static void retire(struct copying *c)
{
    struct vnode *n = c->dst;
    if (!n)
        return;
    lock_acquire(&c->v->s.lock);
    vnode_detach_locked(n);
    lock_release(&c->v->s.lock);
    atomic_store(&n->stale, true);
    vnode_end_put(n);
    c->dst = NULL;
}

static int copy_held(struct copying *c, struct attr *ret)
{
    struct volume *v = c->v;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    CLEANUP_ATTR struct attr now = ATTR_INIT;
    int r = c->src && c->src->dirty ? vnode_commit(c->src, c->op) : 0;
    if (r == 0)
        r = volume_stat_fresh(v, c->op, c->from, false, NULL, &a);
    if (r == 0 && a.kind == ATTR_DIR)
        r = err_set(&c->op->err, EISDIR, "%s: %s: is a directory", v->key, c->from);
    if (r == 0)
        r = look_at_target(c);
    if (r < 0)
        return r;
    r = volume_copy_object(v, c->op, c->from, &a, c->to, c->no_replace, &now);
    retire(c); /* whatever has happened */
    seen_set(v, c->to, NULL);
    volume_changed(v, c->to, NULL);
    if (r < 0)
        return r;
    given_up_stored(v, c->to);
    cache_forget_other_versions(v->cache, v->key, c->to, now.version);
    r = volume_stat_fresh(v, c->op, c->to, false, NULL, ret);
    if (r == 0 && (ret->size != a.size || strcmp(ret->version, now.version) != 0)) {
        attr_done(ret);
        r = err_set(&c->op->err, ESTALE, "%s: %s: was changed by another client just after the copy",
                    v->key, c->to);
    }
    return r;
}

int volume_copy(struct volume *v, struct op *op, const char *from, const char *to, unsigned flags,
                struct attr *ret)
{
    struct name_lock l;
    struct copying c = {.v = v, .op = op, .from = from, .to = to,
                        .no_replace = flags & VOLUME_RENAME_NO_REPLACE};
    int r = volume_check_write(v, op, to);
    if (r == 0 && (!*from || !*to || strcmp(from, to) == 0))
        r = err_set(&op->err, EINVAL, "%s: %s: cannot be copied to '%s'", v->key, from, to);
    if (r == 0 && path_is_unnamed(to))
        r = err_set(&op->err, EPERM, "%s: %s: a file of this name cannot be made", v->key, to);
    if (r == 0)
        r = name_lock(v, op, &l, NAME_EXCL, from, to);
    if (r < 0)
        return r;
    volume_settle_copies(v, op, from);
    volume_settle_copies(v, op, to);
    r = given_up_wait(v, op, to);
    if (r == 0)
        r = begin_both(&c);
    if (r == 0)
        r = copy_held(&c, ret);
    vnode_end_put(c.src);
    vnode_end_put(c.dst);
    name_unlock(v, &l);
    return r;
}

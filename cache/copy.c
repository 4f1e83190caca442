/* SPDX-License-Identifier: MIT
 * copy.c: one file copied to another name, by the store: within a key, or from another key of the same service.
 *
 * Others see what this mount's readers see: what is staged under the source is stored first. The version that was
 * looked at is the one that is copied; of another key that is all that holds it: no lock here waits for one there.
 * Handles of the file that is replaced are as after a change by another client: stale. What somebody is writing under
 * the new name is not overwritten. */
#include "cache/given_up.h"

#include "backends/versions.h"
#include "base/cleanup.h"

struct copying {
    struct volume *v;
    struct op *op;
    struct volume *source; /* of `from`; NULL: v */
    const char *from, *to;
    bool no_replace;
    struct attr a;           /* of `from`: what is copied */
    struct vnode *src, *dst; /* with their tokens; may be NULL */
};

/* What is staged of `n` (may be NULL) is stored; then: what is there? */
static int look_at_source(struct copying *c, struct volume *v, struct vnode *n)
{
    int r = n && n->dirty ? vnode_commit(n, c->op) : 0;
    if (r == 0)
        r = volume_stat_fresh(v, c->op, c->from, false, NULL, &c->a);
    if (r == 0 && c->a.kind == ATTR_DIR)
        r = err_set(&c->op->err, EISDIR, "%s: %s: is a directory", v->key, c->from);
    return r;
}

/* The source is in another volume: what is staged of it is stored, and its version known, before anything is locked here. */
static int prepare_source(struct copying *c)
{
    struct volume *v = c->source;
    struct name_lock l;
    int r = name_lock(v, c->op, &l, NAME_EXCL, c->from, NULL);
    if (r < 0)
        return r;
    volume_settle_copies(v, c->op, c->from);
    r = vnode_begin_at(v, c->op, c->from, false, &c->src);
    if (r == 0)
        r = look_at_source(c, v, c->src);
    vnode_end_put(c->src);
    c->src = NULL;
    name_unlock(v, &l);
    return r;
}

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
    vnode_retire(n);
    vnode_end_put(n);
    c->dst = NULL;
}

static int copy_object(struct copying *c, struct attr *ret)
{
    struct precond pre = {.if_absent = c->no_replace && (c->v->store->caps & CAP_IF_MATCH)};
    if (!c->source)
        return volume_copy_object(c->v, c->op, c->from, &c->a, c->to, c->no_replace, ret);
    return store_copy_from(c->v->store, c->op, c->source->store, c->from, c->a.version, c->to, &pre, ret);
}

static int copy_held(struct copying *c, struct attr *ret)
{
    struct volume *v = c->v;
    CLEANUP_ATTR struct attr now = ATTR_INIT;
    int r = c->source ? 0 : look_at_source(c, v, c->src);
    if (r == 0)
        r = look_at_target(c);
    if (r < 0)
        return r;
    r = copy_object(c, &now);
    retire(c); /* whatever has happened */
    seen_set(v, c->to, NULL);
    volume_changed(v, c->to, NULL);
    if (r < 0)
        return r;
    given_up_stored(v, c->to);
    cache_forget_other_versions(v->cache, v->key, c->to, now.version);
    r = volume_stat_fresh(v, c->op, c->to, false, NULL, ret);
    if (r == 0 && (ret->size != c->a.size || strcmp(ret->version, now.version) != 0)) {
        attr_done(ret);
        r = err_set(&c->op->err, ESTALE, "%s: %s: was changed by another client just after the copy",
                    v->key, c->to);
    }
    return r;
}

static int run_copy(struct copying *c, struct attr *ret)
{
    struct volume *v = c->v;
    struct op *op = c->op;
    struct name_lock l;
    int r = volume_check_write(v, op, c->to);
    if (r == 0 && (!*c->from || !*c->to || (!c->source && strcmp(c->from, c->to) == 0)))
        r = err_set(&op->err, EINVAL, "%s: %s: cannot be copied to '%s'", v->key, c->from, c->to);
    if (r == 0 && path_is_unnamed(c->to))
        r = err_set(&op->err, EPERM, "%s: %s: a file of this name cannot be made", v->key, c->to);
    if (r == 0 && c->source)
        r = prepare_source(c);
    if (r == 0)
        r = name_lock(v, op, &l, NAME_EXCL, c->source ? c->to : c->from, c->source ? NULL : c->to);
    if (r < 0)
        return r;
    if (!c->source)
        volume_settle_copies(v, op, c->from);
    volume_settle_copies(v, op, c->to);
    r = given_up_wait(v, op, c->to);
    if (r == 0)
        r = c->source ? vnode_begin_at(v, op, c->to, false, &c->dst) : begin_both(c);
    if (r == 0)
        r = copy_held(c, ret);
    vnode_end_put(c->src);
    vnode_end_put(c->dst);
    name_unlock(v, &l);
    return r;
}

int volume_copy(struct volume *v, struct op *op, const char *from, const char *to, unsigned flags,
                struct attr *ret)
{
    struct copying c = {.v = v, .op = op, .from = from, .to = to,
                        .no_replace = flags & VOLUME_RENAME_NO_REPLACE, .a = ATTR_INIT};
    int r = run_copy(&c, ret);
    attr_done(&c.a);
    return r;
}

int volume_copy_from(struct volume *v, struct op *op, struct volume *source, const char *from, const char *to,
                     unsigned flags, struct attr *ret)
{
    struct copying c = {.v = v, .op = op, .source = source, .from = from, .to = to,
                        .no_replace = flags & VOLUME_RENAME_NO_REPLACE, .a = ATTR_INIT};
    if (source == v)
        return volume_copy(v, op, from, to, flags, ret);
    if (!store_copies_from(v->store, source->store) || version_path_is(from))
        return err_set(&op->err, EXDEV, "no service holds both %s and %s", source->key, v->key);
    int r = run_copy(&c, ret);
    attr_done(&c.a);
    return r;
}

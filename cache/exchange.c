/* SPDX-License-Identifier: MIT
 * exchange.c: two names change places (RENAME_EXCHANGE), where the store does that in one step.
 *
 * What is staged of either, or below it, is stored first, under the name that it has: so what changes places is at
 * the store, and the open files only have to follow. They keep their versions: an exchange makes no new ones. */
#include "cache/volume_int.h"

#include "base/cleanup.h"

struct exchange {
    struct volume *v;
    struct op *op;
    const char *path[2];
    struct vnode **nodes; /* of the two, and below */
    size_t n, held;       /* the first `held` of them with their tokens */
};

static bool pick(const struct vnode *n, const void *arg)
{
    const struct exchange *x = arg;
    return path_within(n->path, x->path[0]) || path_within(n->path, x->path[1]);
}

/* All tokens; nothing is staged then. */
static int hold(struct exchange *x)
{
    x->n = vnode_collect(x->v, pick, x, &x->nodes);
    for (size_t i = 0; i < x->n; i++) {
        int r = vnode_begin(x->nodes[i], x->op);
        if (r < 0)
            return r;
        x->held = i + 1;
        r = vnode_commit(x->nodes[i], x->op);
        if (r < 0)
            return r;
        vnode_set_committing(x->nodes[i], true); /* base reads that fail wait for us */
    }
    return 0;
}

/* Handles of a version that another client has replaced: it changes places with nobody. */
static void retire(struct exchange *x, struct vnode *n)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (!n->attached || !n->base)
        return;
    int r = store_stat(x->v->store, x->op, n->path, &a);
    if (r != -ENOENT && (r < 0 || strcmp(a.version, n->base->version) == 0))
        return;
    vnode_retire(n);
}

static void release(struct exchange *x)
{
    for (size_t i = 0; i < x->n; i++) {
        if (i < x->held) {
            vnode_set_committing(x->nodes[i], false);
            vnode_end(x->nodes[i]);
        }
        vnode_put(x->nodes[i]);
    }
    free(x->nodes);
}

static char *new_path(const struct exchange *x, const char *path)
{
    bool second = path_within(path, x->path[1]);
    const char *from = x->path[second], *to = x->path[!second];
    return strcmp(path, from) == 0 ? xstrdup(to) : path_child(to, path_rest(path, from));
}

/* All at once: each takes a path that another has. A conflict has moved away what is attached elsewhere. */
static void swap_paths(struct exchange *x)
{
    LOCK_SCOPE(&x->v->s.lock);
    bool *moves = xcalloc(x->n + 1, sizeof(*moves));
    for (size_t i = 0; i < x->n; i++) {
        struct vnode *n = x->nodes[i];
        moves[i] = n->attached && pick(n, x);
        if (moves[i])
            vnode_detach_locked(n);
    }
    for (size_t i = 0; i < x->n; i++) {
        struct vnode *n = x->nodes[i];
        if (!moves[i])
            continue;
        char *path = new_path(x, n->path);
        free(n->path);
        n->path = path;
        vnode_attach_locked(n);
    }
    free(moves);
}

/* It has another name now, and on some stores its version another text. */
static void follow(struct exchange *x, struct vnode *n)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (n->attached && n->base && store_stat(x->v->store, x->op, n->path, &a) == 0)
        vnode_moved(n, n->path, &a);
}

static void forget(struct exchange *x)
{
    struct volume *v = x->v;
    for (int i = 0; i < 2; i++) {
        volume_forget_tree(v, x->path[i]);
        seen_set(v, x->path[i], NULL);
        volume_parents_forget(v, x->path[i]);
    }
}

static int exchange_held(struct exchange *x)
{
    struct volume *v = x->v;
    int r = hold(x);
    if (r < 0)
        return r;
    for (size_t i = 0; i < x->n; i++)
        retire(x, x->nodes[i]);
    volume_settle(v, NULL);
    r = store_exchange(v->store, x->op, x->path[0], x->path[1]);
    if (r == 0)
        swap_paths(x);
    forget(x); /* also when it is not known what has happened */
    for (int i = 0; i < 2 && r == 0; i++)
        cache_forget(v->cache, v->key, x->path[i]);
    for (size_t i = 0; i < x->n && r == 0; i++)
        follow(x, x->nodes[i]);
    return r;
}

int volume_exchange(struct volume *v, struct op *op, const char *a, const char *b)
{
    struct name_lock l;
    struct exchange x = {.v = v, .op = op, .path = {a, b}};
    int r = volume_check_write(v, op, a);
    if (r == 0)
        r = volume_check_write(v, op, b);
    if (r == 0 && !(v->store->caps & CAP_EXCHANGE))
        r = err_set(&op->err, EINVAL, "%s: %s: the store cannot exchange two names in one step", v->key, a);
    if (r == 0 && (path_below(a, b) || path_below(b, a) || !*a || !*b))
        r = err_set(&op->err, EINVAL, "%s: %s: cannot change places with what it is in", v->key, a);
    if (r < 0 || strcmp(a, b) == 0)
        return r;
    r = name_lock(v, op, &l, NAME_TREE, a, b);
    if (r < 0)
        return r;
    volume_settle_copies(v, op, a);
    volume_settle_copies(v, op, b);
    r = exchange_held(&x);
    release(&x);
    name_unlock(v, &l);
    if (r == -ENOTSUP) /* not these two */
        r = -(op->err.code = EINVAL);
    return r;
}

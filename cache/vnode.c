/* SPDX-License-Identifier: MIT
 * vnode.c: the table of paths with local state, name locks, tokens, and versions being read.
 * Invariants, under volume.s.lock: (1) v->s.nodes holds exactly the vnodes with `attached`, under their
 * path; (2) refs counts handles, the dirty state, the schedule, and running operations; at 0 the vnode is
 * taken out and freed; (3) no two held name locks conflict. */
#include "cache/given_up.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/sys.h"
#include "cache/stage.h"

#include <assert.h>

#define WAIT_SLICE_NS (100 * NS_PER_MS)
#define SEEN_MAX 65536
#define PATIENCE_NS (200 * NS_PER_MS) /* a writer waits so long for an upload in the background */
#define PATIENCE_REMOVAL_NS (1000 * NS_PER_MS) /* likewise, to remove the name: then what was sent is left to fly (given_up.h) */
#define PATIENCE_SENT_NS (2000 * NS_PER_MS) /* and for the answer to one that was sent as a whole: given up, it may still
                                               be done, later */
#define CANCELS_MAX 3 /* then it may take its time */

/* ---- name locks ---- */

static bool conflict(const struct name_lock *x, const struct name_lock *y)
{
    for (int i = 0; i < 2 && x->path[i]; i++) {
        for (int k = 0; k < 2 && y->path[k]; k++) {
            bool shared = x->mode == NAME_SHARED && y->mode == NAME_SHARED;
            if (!shared && strcmp(x->path[i], y->path[k]) == 0)
                return true;
            if (x->mode == NAME_TREE && path_below(y->path[k], x->path[i]))
                return true;
            if (y->mode == NAME_TREE && path_below(x->path[i], y->path[k]))
                return true;
        }
    }
    return false;
}

static bool is_free_locked(const struct volume *v, const struct name_lock *l)
{
    for (const struct name_lock *o = v->s.names; o; o = o->next)
        if (conflict(l, o))
            return false;
    return true;
}

int name_lock(struct volume *v, struct op *op, struct name_lock *l, enum name_mode mode,
              const char *a, const char *b)
{
    *l = (struct name_lock){.path = {a, b}, .mode = mode};
    LOCK_SCOPE(&v->s.lock);
    while (!is_free_locked(v, l)) {
        int r = op_check(op);
        if (r < 0)
            return r;
        (void)cond_wait_until(&v->s.names_free, &v->s.lock, clock_now_ns() + WAIT_SLICE_NS);
    }
    l->next = v->s.names;
    v->s.names = l;
    return 0;
}

bool name_try_lock(struct volume *v, struct name_lock *l, enum name_mode mode, const char *a)
{
    *l = (struct name_lock){.path = {a, NULL}, .mode = mode};
    LOCK_SCOPE(&v->s.lock);
    if (!is_free_locked(v, l))
        return false;
    l->next = v->s.names;
    v->s.names = l;
    return true;
}

void name_unlock(struct volume *v, struct name_lock *l)
{
    LOCK_SCOPE(&v->s.lock);
    struct name_lock **at = &v->s.names;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    cond_broadcast(&v->s.names_free);
}

/* ---- versions being read ---- */

struct base *base_new(struct volume *v, const char *path, const char *version, uint64_t size,
                      bool keep)
{
    struct base *b = xcalloc(1, sizeof(*b));
    atomic_init(&b->refs, 1);
    b->v = v;
    b->size = size;
    snprintf(b->version, sizeof(b->version), "%s", version);
    b->object = cache_object_get(v->cache, v->key, path, version, size, keep && v->keep_blocks);
    b->reader = reader_open(v->cache, b->object, v->store, v->fetch, path, v->policy.timeout_ms);
    return b;
}

struct base *base_ref(struct base *b)
{
    atomic_fetch_add(&b->refs, 1);
    return b;
}

static void base_close(struct pool_job *job)
{
    struct base *b = (struct base *)job;
    reader_close(b->reader);
    cache_object_put(b->object);
    free(b);
}

void base_put(struct base *b)
{
    if (!b || atomic_fetch_sub(&b->refs, 1) != 1)
        return;
    b->job.run = base_close;
    pool_submit(b->v->pool, &b->job, 2);
}

/* As base_put, for a caller without locks and outside of reads: closes here if nobody has to wait, as a job
 * costs more than that. */
static void base_drop(struct base *b)
{
    if (!b || atomic_fetch_sub(&b->refs, 1) != 1)
        return;
    b->job.run = base_close;
    if (reader_is_idle(b->reader))
        base_close(&b->job);
    else
        pool_submit(b->v->pool, &b->job, 2);
}

/* ---- vnodes ---- */

struct vnode *vnode_new(struct volume *v, const char *path)
{
    struct vnode *n = xcalloc(1, sizeof(*n));
    n->v = v;
    n->path = xstrdup(path);
    n->refs = 1;
    n->as_of_ns = clock_now_ns();
    lock_init(&n->lock, LOCK_RANK_FILE, "vnode");
    cond_init(&n->cond);
    return n;
}

static void vnode_free(struct vnode *n)
{
    assert(!n->attached && !n->dirty && !n->journaled && !n->parked && n->reads == 0 && !n->flying);
    vnode_drop_stream(n);
    base_drop(n->base);
    if (n->copy_of)
        atomic_fetch_sub(&n->v->copies, 1);
    free(n->copy_of);
    stage_file_put(n->file);
    if (n->file_name && !n->in_row)
        stage_file_remove(n->v->stage, n->file_name);
    free(n->file_name);
    assert(!n->old_name && !n->undo);
    cache_release_dirty(n->v->cache, n->reserved);
    stat_add(n->v->pending_bytes, -(int64_t)n->reserved);
    attr_done(&n->attr);
    ranges_done(&n->staged);
    cond_done(&n->cond);
    lock_done(&n->lock);
    free(n->path);
    free(n);
}

struct vnode *vnode_find(struct volume *v, const char *path)
{
    LOCK_SCOPE(&v->s.lock);
    struct vnode *n = strmap_get(&v->s.nodes, path);
    if (n)
        n->refs++;
    return n;
}

struct vnode *vnode_ref(struct vnode *n)
{
    LOCK_SCOPE(&n->v->s.lock);
    n->refs++;
    return n;
}

void vnode_put(struct vnode *n)
{
    if (!n)
        return;
    struct volume *v = n->v;
    lock_acquire(&v->s.lock);
    bool last = --n->refs == 0;
    if (last)
        vnode_detach_locked(n);
    lock_release(&v->s.lock);
    if (last)
        vnode_free(n);
}

void vnode_attach_locked(struct vnode *n)
{
    lock_assert_held(&n->v->s.lock);
    struct vnode *old = strmap_put(&n->v->s.nodes, n->path, n);
    assert(!old);
    n->attached = true;
}

bool vnode_attach(struct vnode *n)
{
    LOCK_SCOPE(&n->v->s.lock);
    if (strmap_get(&n->v->s.nodes, n->path))
        return false;
    vnode_attach_locked(n);
    return true;
}

void vnode_detach_locked(struct vnode *n)
{
    lock_assert_held(&n->v->s.lock);
    if (!n->attached)
        return;
    (void)strmap_del(&n->v->s.nodes, n->path);
    n->attached = false;
}

void vnode_retire(struct vnode *n)
{
    lock_acquire(&n->v->s.lock);
    vnode_detach_locked(n);
    lock_release(&n->v->s.lock);
    atomic_store(&n->stale, true);
}

bool vnode_move(struct vnode *n, const char *path)
{
    struct volume *v = n->v;
    LOCK_SCOPE(&v->s.lock);
    bool attached = n->attached;
    if (attached && strmap_get(&v->s.nodes, path))
        return false;
    vnode_detach_locked(n);
    free(n->path);
    n->path = xstrdup(path);
    if (attached)
        vnode_attach_locked(n);
    return true;
}

enum begin_how { BEGIN_WAIT, BEGIN_CHANGE, BEGIN_REMOVAL };

/* Who wants to change n has waited so long for its upload in the background. Asks that to end once if it is not sent, and
 * once more for all that. */
static void lose_patience_locked(struct vnode *n, uint64_t waited_ns, unsigned *asked)
{
    if (!n->background)
        return;
    if (*asked == 0 && waited_ns >= PATIENCE_NS && n->cancels < CANCELS_MAX) {
        op_cancel_unsent(n->background);
        n->cancels++;
        *asked = 1;
    }
    if (*asked == 1 && waited_ns >= PATIENCE_SENT_NS) {
        op_cancel(n->background);
        *asked = 2;
    }
}

static int begin(struct vnode *n, struct op *op, enum begin_how how)
{
    LOCK_SCOPE(&n->lock);
    unsigned asked = 0;
    for (uint64_t since = n->busy ? clock_now_ns() : 0; n->busy;) { /* each read that ends wakes it */
        int r = op_check(op);
        if (r < 0)
            return r;
        uint64_t now = clock_now_ns(), waited = now - since;
        uint64_t patience = n->background ? PATIENCE_REMOVAL_NS : PATIENCE_NS;
        if (how == BEGIN_REMOVAL && waited >= patience && given_up_may_fly_locked(n))
            return 1;
        if (how != BEGIN_WAIT)
            lose_patience_locked(n, waited, &asked);
        (void)cond_wait_until(&n->cond, &n->lock, now + WAIT_SLICE_NS);
    }
    n->busy = true;
    return 0;
}

int vnode_begin(struct vnode *n, struct op *op)
{
    return begin(n, op, BEGIN_WAIT);
}

int vnode_begin_closed(struct vnode *n, struct op *op)
{
    LOCK_SCOPE(&n->lock);
    while (n->busy && n->file_name && !n->file) {
        int r = op_check(op);
        if (r < 0)
            return r;
        (void)cond_wait_until(&n->cond, &n->lock, clock_now_ns() + WAIT_SLICE_NS);
    }
    if (n->busy || n->file)
        return 1;
    n->busy = true;
    return 0;
}

int vnode_begin_change(struct vnode *n, struct op *op)
{
    return begin(n, op, BEGIN_CHANGE);
}

void vnode_set_background(struct vnode *n, struct op *op)
{
    LOCK_SCOPE(&n->lock);
    n->background = op;
    if (!op && !n->dirty)
        n->cancels = 0;
}

static int begin_at(struct volume *v, struct op *op, const char *path, enum begin_how how, struct vnode **ret)
{
    for (;;) {
        struct vnode *n = vnode_find(v, path);
        int r = n ? begin(n, op, how) : 0;
        if (!n || r < 0) {
            vnode_put(n);
            *ret = NULL;
            return r;
        }
        if (r == 1) {
            *ret = n;
            return r;
        }
        lock_acquire(&v->s.lock);
        bool here = n->attached && strcmp(n->path, path) == 0;
        lock_release(&v->s.lock);
        if (here) {
            *ret = n;
            return 0;
        }
        vnode_end(n); /* it lost the name while we waited */
        vnode_put(n);
    }
}

int vnode_begin_at(struct volume *v, struct op *op, const char *path, bool change, struct vnode **ret)
{
    return begin_at(v, op, path, change ? BEGIN_CHANGE : BEGIN_WAIT, ret);
}

int vnode_begin_removal(struct volume *v, struct op *op, const char *path, struct vnode **ret)
{
    return begin_at(v, op, path, BEGIN_REMOVAL, ret);
}

void vnode_end_put(struct vnode *n)
{
    if (!n)
        return;
    vnode_end(n);
    vnode_put(n);
}

bool vnode_try_begin(struct vnode *n)
{
    LOCK_SCOPE(&n->lock);
    if (n->busy)
        return false;
    n->busy = true;
    return true;
}

void vnode_end(struct vnode *n)
{
    LOCK_SCOPE(&n->lock);
    n->busy = false;
    cond_broadcast(&n->cond);
}

void vnode_set_committing(struct vnode *n, bool on)
{
    lock_acquire(&n->lock);
    n->committing = on;
    lock_release(&n->lock);
    if (!on)
        vnode_unpark(n);
}

bool vnode_is_dirty(struct vnode *n)
{
    LOCK_SCOPE(&n->lock);
    return n->dirty;
}

void vnode_attr(struct vnode *n, struct attr *ret)
{
    LOCK_SCOPE(&n->lock);
    attr_copy(ret, &n->attr);
}

void vnode_learn(struct vnode *n, const struct attr *a, uint64_t seq, bool ours)
{
    struct volume *v = n->v;
    struct attr next = ATTR_INIT;
    attr_copy(&next, a);
    volume_complete(v, &next);
    LOCK_SCOPE(&v->s.lock); /* the path */
    LOCK_SCOPE(&n->lock);
    bool same = n->base && a->kind == ATTR_FILE && (a->known & ATTR_META) && strcmp(a->version, n->base->version) == 0;
    if (same && n->attached && !n->dirty && !n->unlinked && (ours || !n->busy) && meta_seq(v->meta, n->path) == seq) {
        next.size = n->attr.size;
        attr_done(&n->attr);
        attr_move(&n->attr, &next);
    }
    attr_done(&next);
}

void vnode_set_base(struct vnode *n, struct base *b, uint64_t base_len)
{
    lock_acquire(&n->lock);
    struct base *old = n->base;
    char *copy_of = take_ptr(&n->copy_of);
    n->base = b;
    n->base_len = base_len;
    n->base_gen++;
    lock_release(&n->lock);
    base_put(old);
    if (copy_of)
        atomic_fetch_sub(&n->v->copies, 1);
    free(copy_of);
}

void vnode_mark_dirty(struct vnode *n)
{
    struct volume *v = n->v;
    LOCK_SCOPE(&v->s.lock);
    LOCK_SCOPE(&n->lock);
    n->unflushed = true;
    n->saved = false;
    if (n->dirty)
        return;
    n->dirty = true;
    if (n->base) {
        n->pre = PRE_MATCH;
        memcpy(n->pre_version, n->base->version, sizeof(n->pre_version));
    }
    n->since = clock_wall();
    n->attempts = 0;
    n->last = ERR_INIT;
    n->maybe_stored = n->restamp = false;
    n->refs++;
    v->s.dirty++;
    stat_add(v->pending_files, 1);
}

void vnode_clean(struct vnode *n)
{
    struct volume *v = n->v;
    struct err err = ERR_INIT;
    vnode_drop_stream(n);
    vnode_drop_old(n, true);
    if (n->journaled)
        (void)stage_row_remove(v->stage, n->file_name, &err);
    vnode_drop_undo(n, false);
    lock_acquire(&n->lock);
    bool shown = n->taken && n->passes > 0; /* passed handles read it */
    lock_release(&n->lock);
    if (n->file_name && !shown && !n->in_row)
        stage_file_remove(v->stage, n->file_name);
    lock_acquire(&v->s.lock);
    lock_acquire(&n->lock);
    struct stage_file *file = shown ? NULL : take_ptr(&n->file);
    char *name = shown ? NULL : take_ptr(&n->file_name);
    n->taken = shown;
    uint64_t reserved = n->reserved;
    bool was = n->dirty;
    ranges_done(&n->staged);
    n->reserved = 0;
    n->journaled = n->dirty = n->unflushed = n->incomplete = n->in_row = n->saved = false;
    n->pre = PRE_NONE;
    v->s.dirty -= was;
    lock_release(&n->lock);
    lock_release(&v->s.lock);
    stage_file_put(file);
    free(name);
    cache_release_dirty(v->cache, reserved);
    stat_add(v->pending_bytes, -(int64_t)reserved);
    if (was) {
        stat_add(v->pending_files, -1);
        vnode_put(n); /* never the last one: the token's holder has one */
    }
}

size_t vnode_collect(struct volume *v, bool (*pick)(const struct vnode *n, const void *arg),
                     const void *arg, struct vnode ***ret)
{
    LOCK_SCOPE(&v->s.lock);
    struct vnode **list = xcalloc(v->s.nodes.count + 1, sizeof(struct vnode *));
    size_t count = 0;
    STRMAP_EACH(&v->s.nodes, it) {
        struct vnode *n = it->value;
        LOCK_SCOPE(&n->lock);
        if (!pick(n, arg))
            continue;
        n->refs++;
        list[count++] = n;
    }
    *ret = list;
    return count;
}

bool vnode_pick_dirty_locked(const struct vnode *n, const void *arg)
{
    (void)arg;
    return n->dirty;
}

bool vnode_any_dirty_below(struct volume *v, const char *dir)
{
    LOCK_SCOPE(&v->s.lock);
    if (v->s.dirty == 0)
        return false;
    STRMAP_EACH(&v->s.nodes, it) {
        struct vnode *n = it->value;
        if (!path_below(n->path, dir))
            continue;
        LOCK_SCOPE(&n->lock);
        if (n->dirty)
            return true;
    }
    return false;
}

/* ---- versions that the kernel has pages of ---- */

static void seen_clear_locked(struct volume *v)
{
    STRMAP_EACH(&v->s.seen, it)
        free(it->value);
    strmap_done(&v->s.seen);
}

void seen_set(struct volume *v, const char *path, const char *version)
{
    char *copy = version && version[0] ? xstrdup(version) : NULL;
    LOCK_SCOPE(&v->s.lock);
    if (v->s.seen.count >= SEEN_MAX)
        seen_clear_locked(v); /* costs a few cold pages */
    free(copy ? strmap_put(&v->s.seen, path, copy) : strmap_del(&v->s.seen, path));
}

void vnode_seen(struct vnode *n, const char *version)
{
    struct volume *v = n->v;
    char *copy = xstrdup(version);
    LOCK_SCOPE(&v->s.lock);
    if (!n->kernel) {
        free(copy);
        return;
    }
    if (v->s.seen.count >= SEEN_MAX)
        seen_clear_locked(v);
    free(strmap_put(&v->s.seen, n->path, copy));
}

void seen_forget_below(struct volume *v, const char *dir)
{
    LOCK_SCOPE(&v->s.lock);
    struct strmap kept = STRMAP_INIT;
    STRMAP_EACH(&v->s.seen, it) {
        if (path_below(it->key, dir))
            free(it->value);
        else
            (void)strmap_put(&kept, it->key, it->value);
    }
    strmap_done(&v->s.seen);
    v->s.seen = kept;
}

bool seen_is(struct volume *v, const char *path, const char *version)
{
    LOCK_SCOPE(&v->s.lock);
    const char *known = strmap_get(&v->s.seen, path);
    return known && version[0] && strcmp(known, version) == 0;
}

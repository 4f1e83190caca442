/* SPDX-License-Identifier: MIT
 * rename.c: renaming files. Directories: rename_dir.c.
 *
 * A store that renames does it in one step. Elsewhere: copy exactly the version we know, then remove the
 * source if it is still that version; the journal (rename_log.h) has it, and after a kill rename_resume.c removes the
 * source. The source is removed only after the copy succeeded; a copy is
 * undone only when the source is known to stay and the target was not there before: a removal without an answer may
 * be done long after (then both names are there for a while, and the caller is told).
 * What is staged under the source is stored first: the name that others see at the end has the content.
 * Open files: the source's handles go on under the new name; the target's keep what they have (unlinked). */
#include "cache/given_up.h"
#include "cache/rename_int.h"

#include "base/cleanup.h"
#include "base/log.h"

struct renaming {
    struct volume *v;
    struct op *op;
    const char *from, *to;
    bool no_replace;
    bool *begun;                /* volume_rename()'s */
    struct vnode *src, *dst;    /* with their tokens; may be NULL */
    struct attr a;              /* of the source now */
    bool replaces;              /* the target was there */
    int64_t id;                 /* in the journal; 0: not */
};

/* ---- copies ---- */

struct source_store { /* an object as the source of a put */
    struct source base;
    struct store *store;
    struct op *op;
    const char *key, *version;
};

static int read_object(const struct source *s, uint64_t off, void *buf, size_t len)
{
    const struct source_store *o = (const struct source_store *)s;
    struct read_req req = {.key = o->key,
                           .version = o->version,
                           .offset = off,
                           .iov = {.iov_base = buf, .iov_len = len}};
    struct read_res res = READ_RES_INIT;
    struct op op; /* the put's own op is at work */
    op_init(&op, "read", 0);
    op.deadline_ns = o->op->deadline_ns;
    int r = store_read(o->store, &op, &req, &res);
    bool whole = res.length == len;
    read_res_done(&res);
    return r == 0 && !whole ? -EIO : r;
}

int volume_copy_object(struct volume *v, struct op *op, const char *from, const struct attr *a,
                       const char *to, bool if_absent, struct attr *ret)
{
    struct precond pre = {.if_absent = if_absent && (v->store->caps & CAP_IF_MATCH)};
    if (v->store->caps & CAP_COPY)
        return store_copy(v->store, op, from, a->version, to, &pre, ret);
    struct source_store src = {.base = {.read_at = read_object, .size = a->size},
                               .store = v->store,
                               .op = op,
                               .key = from,
                               .version = a->version};
    struct put_req req = {.key = to, .src = &src.base, .attr = a, .precond = pre};
    return store_put(v->store, op, &req, ret);
}

/* ---- vnodes ---- */

void vnode_moved(struct vnode *n, const char *path, const struct attr *a)
{
    struct volume *v = n->v;
    struct attr next = ATTR_INIT;
    attr_copy(&next, a);
    volume_complete(v, &next);
    if (strcmp(n->path, path) != 0 && !vnode_move(n, path))
        vnode_retire(n);
    vnode_set_base(n, base_new(v, path, next.version, next.size, true), next.size);
    lock_acquire(&n->lock);
    attr_done(&n->attr);
    attr_move(&n->attr, &next);
    lock_release(&n->lock);
    vnode_seen(n, a->version);
}

void vnode_lost_name(struct vnode *n, const char *path, const char *version, uint64_t size)
{
    struct volume *v = n->v;
    lock_acquire(&v->s.lock);
    bool written = n->writers > 0;
    n->left = true;
    lock_release(&v->s.lock);
    if (written) {
        vnode_retire(n);
        return;
    }
    vnode_set_base(n, base_new(v, path, version, size, true), size);
    if (!n->unlinked)
        vnode_set_unlinked(n);
}

static int begin_both(struct renaming *rn)
{
    bool in_order = strcmp(rn->from, rn->to) < 0;
    struct vnode **first = in_order ? &rn->src : &rn->dst, **second = in_order ? &rn->dst : &rn->src;
    int r = vnode_begin_at(rn->v, rn->op, in_order ? rn->from : rn->to, false, first);
    if (r < 0)
        return r;
    return vnode_begin_at(rn->v, rn->op, in_order ? rn->to : rn->from, false, second);
}

/* ---- files ---- */

/* What is there, now. 0, or why it must not be done. */
static int look(struct renaming *rn)
{
    struct volume *v = rn->v;
    CLEANUP_ATTR struct attr b = ATTR_INIT;
    int r = volume_stat_fresh(v, rn->op, rn->from, false, NULL, &rn->a);
    if (r < 0)
        return r;
    if (rn->a.kind == ATTR_DIR)
        return err_set(&rn->op->err, ESTALE, "%s: %s: has become a directory", v->key, rn->from);
    r = volume_stat_fresh(v, rn->op, rn->to, false, NULL, &b);
    if (r < 0 && r != -ENOENT)
        return r;
    rn->replaces = r == 0;
    bool there = rn->replaces || (rn->dst && rn->dst->dirty);
    if (path_is_unnamed(rn->to))
        return err_set(&rn->op->err, EPERM, "%s: %s: a file of this name cannot be made", v->key,
                       rn->to);
    if (r == 0 && b.kind == ATTR_DIR)
        return err_set(&rn->op->err, EISDIR, "%s: %s: is a directory", v->key, rn->to);
    if (there && rn->no_replace)
        return err_set(&rn->op->err, EEXIST, "%s: %s: exists already", v->key, rn->to);
    return 0;
}

/* At a restart a large one is not to be read to know it. */
static void note_copy(const struct renaming *rn, const struct attr *made)
{
    const struct rename_copy copy = {.from = rn->from, .from_version = rn->a.version, .to_version = made->version};
    struct err err = ERR_INIT;
    if (rename_log_copied(rn->v->renames, rn->id, &copy, 1, &err) < 0)
        log_warn("rename", "%s: %s: its copy is not in the journal: %s", rn->v->key, rn->from, err_text(&err));
}

/* Removing the source failed with rn->op: is it there? 0: it is gone after all. */
static int undo_copy(struct renaming *rn, int error, const struct attr *copy)
{
    struct volume *v = rn->v;
    struct op op;
    CLEANUP_ATTR struct attr now = ATTR_INIT;
    bool may_go_yet = err_is_unknown(&rn->op->err, error);
    op_init(&op, "rename", v->policy.timeout_ms);
    int r = store_stat(v->store, &op, rn->from, &now);
    if (r == -ENOENT)
        return 0;
    if (may_go_yet)
        return err_prefix(&rn->op->err, "%s: %s was copied to %s, and may or may not be removed yet", v->key, rn->from,
                          rn->to);
    if (r == 0 && !rn->replaces)
        (void)store_remove(v->store, &op, rn->to,
                           v->store->caps & CAP_IF_MATCH ? copy->version : NULL);
    return error;
}

/* A look that may fail: before anything is done. */
static int keep_parent(struct renaming *rn)
{
    CLEANUP_FREE char *dir = path_parent(rn->from), *other = path_parent(rn->to);
    bool stays_as_full = strcmp(dir, other) == 0 && !rn->replaces;
    return stays_as_full || path_is_unnamed(rn->from) ? 0 : volume_keep_parent(rn->v, rn->op, rn->from);
}

static int copy_and_remove(struct renaming *rn, struct attr *ret)
{
    struct volume *v = rn->v;
    int r = keep_parent(rn);
    if (r == 0)
        r = volume_copy_object(v, rn->op, rn->from, &rn->a, rn->to, rn->no_replace, ret);
    if (r < 0)
        return r;
    if (rn->a.size >= RENAME_LARGE && rn->id)
        note_copy(rn, ret);
    r = volume_remove_version(v, rn->op, rn->from, rn->a.version);
    return r < 0 ? undo_copy(rn, r, ret) : 0;
}

/* A kill between the two would leave both names for good. */
static int copy_and_remove_journaled(struct renaming *rn, struct attr *ret)
{
    struct rename_log *log = rn->v->renames;
    struct err err = ERR_INIT;
    if (rename_log_begin_file(log, rn->from, rn->a.version, rn->to, &err, &rn->id) < 0)
        log_warn("rename", "%s: %s goes without the journal: %s", rn->v->key, rn->from, err_text(&err));
    int r = copy_and_remove(rn, ret);
    bool over = r != -EINTR || op_is_cancelled(rn->op); /* else the mount ends: the next one goes on */
    if (rn->id && over && rename_log_end(log, rn->id, &err) < 0)
        log_warn("rename", "%s: %s: the journal keeps its entry: %s", rn->v->key, rn->from, err_text(&err));
    return r;
}

static int move_object(struct renaming *rn, struct attr *ret)
{
    struct volume *v = rn->v;
    volume_settle(v, rn->from);
    volume_settle(v, rn->to);
    if (!(v->store->caps & CAP_RENAME_FILE))
        return copy_and_remove_journaled(rn, ret);
    int r = volume_keep_parent(v, rn->op, rn->from);
    if (r < 0)
        return r;
    volume_will_change(v, rn->to, "");
    r = store_rename(v->store, rn->op, rn->from, rn->to, rn->no_replace);
    if (r < 0)
        return r;
    /* It has happened. Whoever waits for the new name (quayload for a job) may have taken it already. */
    struct op look;
    op_init(&look, "rename", v->policy.timeout_ms);
    if (store_stat(v->store, &look, rn->to, ret) < 0)
        attr_copy(ret, &rn->a);
    return 0;
}

/* Metadata that the answer does not tell is that of the source. */
static void whole_attr(const struct renaming *rn, struct attr *ret)
{
    if (ret->known & ATTR_META)
        return;
    struct attr a = ATTR_INIT;
    attr_copy(&a, &rn->a);
    memcpy(a.version, ret->version, sizeof(a.version));
    attr_done(ret);
    attr_move(ret, &a);
}

static void renamed(struct renaming *rn, struct attr *now)
{
    struct volume *v = rn->v;
    bool seen = seen_is(v, rn->from, rn->a.version);
    whole_attr(rn, now);
    volume_changed(v, rn->from, NULL);
    volume_changed(v, rn->to, now);
    seen_set(v, rn->from, NULL);
    seen_set(v, rn->to, seen ? now->version : NULL);
    if (rn->dst)
        vnode_set_unlinked(rn->dst);
    if (rn->src)
        vnode_moved(rn->src, rn->to, now);
    cache_forget(v->cache, v->key, rn->from);
    cache_forget_other_versions(v->cache, v->key, rn->to, now->version);
}

static void retire_source(struct renaming *rn)
{
    struct vnode *n = rn->src;
    if (!n || !n->base || strcmp(n->base->version, rn->a.version) == 0)
        return;
    vnode_retire(n); /* its handles have a version that nobody renames */
    vnode_end_put(n);
    rn->src = NULL;
}

static int rename_held(struct renaming *rn)
{
    CLEANUP_ATTR struct attr now = ATTR_INIT;
    int r = rn->src && rn->src->dirty ? vnode_commit(rn->src, rn->op) : 0;
    if (r == 0)
        r = look(rn);
    if (r < 0)
        return r;
    retire_source(rn);
    if (rn->dst)
        r = vnode_keep_content(rn->dst, rn->op);
    if (r < 0)
        return r;
    if (rn->src)
        vnode_set_committing(rn->src, true);
    *rn->begun = true;
    r = move_object(rn, &now);
    if (r == 0) {
        renamed(rn, &now);
    } else {
        volume_changed(rn->v, rn->from, NULL); /* whatever has happened */
        volume_changed(rn->v, rn->to, NULL);
    }
    if (rn->src)
        vnode_set_committing(rn->src, false);
    return r;
}

static int rename_file(struct volume *v, struct op *op, const char *from, const char *to, bool no_replace, bool *ret_begun)
{
    struct renaming rn = {.v = v, .op = op, .from = from, .to = to, .no_replace = no_replace, .begun = ret_begun};
    int r = begin_both(&rn);
    if (r == 0)
        r = rename_held(&rn);
    vnode_end_put(rn.src);
    vnode_end_put(rn.dst);
    attr_done(&rn.a);
    return r;
}

/* ---- both ---- */

static int check_paths(struct volume *v, struct op *op, const char *from, const char *to)
{
    if (from[0] == '\0' || to[0] == '\0')
        return err_set(&op->err, EBUSY, "%s: the root directory stays", v->key);
    if (path_below(to, from))
        return err_set(&op->err, EINVAL, "%s: %s: cannot go into itself", v->key, from);
    if (path_below(from, to))
        return err_set(&op->err, ENOTEMPTY, "%s: %s: not empty", v->key, to);
    return 0;
}

int volume_rename(struct volume *v, struct op *op, const char *from, const char *to, unsigned flags, bool *ret_begun)
{
    struct name_lock l;
    bool begun = false;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    bool no_replace = flags & VOLUME_RENAME_NO_REPLACE;
    int r = volume_check_write(v, op, from);
    if (r == 0)
        r = volume_check_write(v, op, to);
    if (r == 0)
        r = volume_stat(v, op, from, flags & VOLUME_RENAME_DIR ? VOLUME_STAT_DIR : 0, &a);
    if (r == 0 && strcmp(from, to) == 0)
        return no_replace ? err_set(&op->err, EEXIST, "%s: %s: exists already", v->key, to) : 0;
    if (r == 0)
        r = check_paths(v, op, from, to);
    if (r < 0)
        return r;
    bool dir = a.kind == ATTR_DIR;
    r = name_lock(v, op, &l, dir ? NAME_TREE : NAME_EXCL, from, to);
    if (r < 0)
        return r;
    volume_settle_copies(v, op, from);
    volume_settle_copies(v, op, to);
    r = given_up_wait(v, op, to);
    if (r == 0 && dir)
        r = given_up_wait(v, op, from);
    if (r == 0)
        r = dir ? volume_rename_dir(v, op, from, to, no_replace, &begun) : rename_file(v, op, from, to, no_replace, &begun);
    if (begun && ret_begun)
        *ret_begun = true;
    if (r == 0) {
        given_up_arrived(v, to);
        given_up_removed(v, from);
    }
    name_unlock(v, &l);
    return r;
}

/* SPDX-License-Identifier: MIT
 * file.c: opening, closing, flushing; the states of a vnode.
 *
 * A vnode is one path with local state. All handles of a path share it, so a write is seen by every
 * reader of this mount at once. Its states, changed by who has the token:
 *
 *   CLEAN     !dirty. `base` is the version that was current when it was opened or last committed.
 *             Reads go to the base's reader. Exists only while handles are open.
 *   DIRTY     dirty. Content is, for every byte below attr.size: in `staged`: the stage file; else below
 *             base_len: the base; else 0. `pre` is what must be true at the store for the commit.
 *             Holds a reference of its own: outlives its handles until it is stored.
 *   COMMITTING dirty, the token is held and `committing` is set: the stage file is being uploaded.
 *             Writers wait for the token; reads go on. A base read that finds a new version meanwhile
 *             (ours, probably) is parked and begun again when the commit has ended.
 *
 *   create ------------> DIRTY   base NULL, pre ABSENT or NONE; nothing is at the store yet
 *   open --------------> CLEAN   (or shares what is there)
 *   CLEAN  write ------> DIRTY   pre MATCH base version
 *   DIRTY  flush ------> COMMITTING -> CLEAN (new base) | DIRTY + last error, journaled, scheduled
 *   COMMITTING  lost --> stale: detached, with nothing; what was staged is another vnode's, DIRTY under the name of
 *                        a conflict copy (conflict.c), to be opened as any other
 *   any    unlink -----> unlinked: detached, never uploaded, alive while handles are open
 *   CLEAN  open finds another version at the store -> stale: detached; its handles get -ESTALE
 * Who is stale stays so, and gets no further handles: a name that has lost its content means another vnode.
 *
 * Preconditions. A version that was opened is overwritten only if it is still there (-ESTALE). A file
 * that was not there at its creation is put with if_absent where the store honours that, with O_EXCL or
 * without: two clients that create the same name at once must not lose one of the two files silently.
 * The loser of O_EXCL gets -EEXIST, else -ESTALE. Stores without conditions are asked just before.
 * An open that creates and truncates without O_EXCL is not asked for when the name is known, within the ttl,
 * not to be there: the condition at the commit asks the same question. If it fails because of a version that
 * was there when the file was opened (by the store's own clock), that is what this open would have truncated:
 * it is replaced as if the open had seen it. */
#include "cache/volume_int.h"

#include "backends/versions.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "cache/keeper.h"
#include "cache/stage.h"

/* An open for reading only may have created or truncated the file: its close stores that. */
#define VFILE_CHANGES (VFILE_WRITE | VFILE_CREATE | VFILE_TRUNC)

struct opening {
    struct volume *v;
    struct op *op;
    const char *path;
    const struct vfile_open *how;
    bool internal;      /* not for the kernel: its page cache knows nothing of this */
    bool keep;
    bool created;
    struct vnode *n;    /* the result; one reference and one handle */
};

/* Another version is at the store. Handles get -ESTALE from now on, and nobody may fill the kernel's
 * pages with old bytes after the new version was opened: waits for the reads that are under way. */
static void retire(struct vnode *n)
{
    struct volume *v = n->v;
    lock_acquire(&v->s.lock);
    vnode_detach_locked(n);
    lock_release(&v->s.lock);
    lock_acquire(&n->lock);
    atomic_store(&n->stale, true);
    while (n->reads)
        cond_wait(&n->cond, &n->lock);
    lock_release(&n->lock);
}

/* Of a key that is gone: its name may mean another store now. */
static bool is_retired_locked(const struct opening *o)
{
    return o->v->s.retired && (o->how->flags & VFILE_WRITE);
}

static int check_retired(struct opening *o)
{
    LOCK_SCOPE(&o->v->s.lock);
    return is_retired_locked(o)
               ? err_set(&o->op->err, ESTALE, "%s: the key was removed or changed", o->v->key)
               : 0;
}

/* It waits for its upload, and nobody has it open. */
static bool is_closed(struct vnode *n)
{
    LOCK_SCOPE(&n->lock);
    return n->file_name && !n->file;
}

/* Makes this opening a handle of n, unless n has lost the name meanwhile, or was closed (vnode_close_idle). */
static bool join(struct opening *o, struct vnode *n)
{
    struct volume *v = o->v;
    LOCK_SCOPE(&v->s.lock);
    if (!n->attached || strcmp(n->path, o->path) != 0 || is_retired_locked(o) || is_closed(n))
        return false;
    n->refs++;
    n->handles++;
    n->writers += (o->how->flags & VFILE_WRITE) != 0;
    if (!o->internal) {
        o->keep = n->kernel;
        n->kernel = true;
    }
    o->n = n;
    return true;
}

static int exists(struct opening *o)
{
    return err_set(&o->op->err, EEXIST, "%s: %s: exists already", o->v->key, o->path);
}

/* Shares the vnode that is there; 1: it is gone or out of date, look again. */
static int open_shared(struct opening *o, struct vnode *n)
{
    if (o->how->flags & VFILE_EXCL)
        return exists(o);
    if (is_closed(n)) {
        int r = vnode_begin_closed(n, o->op);
        if (r < 0)
            return r;
        bool mine = r == 0; /* else its upload has opened it: not to be waited for */
        if (mine && is_closed(n))
            r = vnode_stage_open(n, o->op, 0);
        if (mine)
            vnode_end(n);
        if (r < 0)
            return r;
    }
    return join(o, n) ? 0 : 1;
}

static int refuse_kind(struct opening *o, const struct attr *a)
{
    if (a->kind == ATTR_DIR)
        return err_set(&o->op->err, EISDIR, "%s: %s: is a directory", o->v->key, o->path);
    if (a->kind == ATTR_SYMLINK)
        return err_set(&o->op->err, ELOOP, "%s: %s: is a symbolic link", o->v->key, o->path);
    return 0;
}

/* Opened to be read, and not past the cache. */
static bool is_for_reading(const struct opening *o)
{
    return !o->internal && o->how->flags == VFILE_READ;
}

/* A version that nobody has open yet; 1: somebody was faster. */
static int open_new(struct opening *o, struct attr *a, struct first_read *body)
{
    struct volume *v = o->v;
    struct vnode *n = vnode_new(v, o->path);
    n->base = base_new(v, o->path, a->version, a->size, true);
    first_read_give(v, body, a, n->base->reader);
    keeper_note(v->keeper, o->path, n->base->object);
    n->base_len = a->size;
    attr_move(&n->attr, a);
    volume_complete(v, &n->attr);
    char version[sizeof(n->attr.version)]; /* once it is attached, others may learn and change what it is */
    memcpy(version, n->attr.version, sizeof(version));
    bool keep = seen_is(v, o->path, version);
    bool ours = vnode_attach(n) && join(o, n);
    if (ours && !o->internal) {
        o->keep = keep;
        seen_set(v, o->path, version);
    }
    vnode_put(n);
    return ours ? 0 : 1;
}

static void created_attr(struct volume *v, const struct vfile_open *how, struct attr *a)
{
    const struct volume_policy *p = &v->policy;
    *a = (struct attr){.kind = ATTR_FILE,
                       .known = ATTR_META | ATTR_HAS_MTIME,
                       .mode = how->mode & 07777,
                       .uid = how->uid,
                       .gid = how->gid,
                       .mtime = volume_time(v, clock_wall()),
                       .tags = ATTR_TAGS_NONE};
    a->known |= a->mode != p->file_mode ? ATTR_HAS_MODE : 0;
    a->known |= a->uid != p->uid ? ATTR_HAS_UID : 0;
    a->known |= a->gid != p->gid ? ATTR_HAS_GID : 0;
    a->atime = a->mtime;
}

static int open_created(struct opening *o, bool assumed)
{
    struct volume *v = o->v;
    struct vnode *n = vnode_new(v, o->path);
    created_attr(v, o->how, &n->attr);
    n->assumed_ns = assumed ? clock_now_ns() : 0;
    n->excl = o->how->flags & VFILE_EXCL;
    n->pre = n->excl || (v->store->caps & CAP_IF_MATCH) ? PRE_ABSENT : PRE_NONE;
    vnode_mark_dirty(n);
    bool ours = vnode_attach(n) && join(o, n);
    if (ours)
        meta_own(v->meta, o->path, NULL);
    else
        vnode_clean(n);
    o->keep = false;
    o->created = ours;
    vnode_put(n);
    return ours ? 0 : 1;
}

/* A file that is made anew whatever is there: what is known within the ttl not to be there is not asked
 * for. Should another client have made it meanwhile, the commit finds that out (commit.c, made_late). */
static bool may_assume_absent(struct opening *o)
{
    const struct volume *v = o->v;
    unsigned need = VFILE_CREATE | VFILE_TRUNC, mask = need | VFILE_EXCL | VFILE_DIRECT;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    return (o->how->flags & mask) == need && (v->store->caps & CAP_IF_MATCH) &&
           (v->store->caps & CAP_AGE) &&
           meta_get(v->meta, o->path, false, v->policy.ttl_ms, false, &a, NULL) == META_ABSENT;
}

/* What the open would ask (volume_stat_fresh) was answered just now: there is no such file. */
static bool was_told_absent(struct opening *o)
{
    const struct volume *v = o->v;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (!(o->how->flags & VFILE_CREATE) || (o->how->flags & VFILE_DIRECT))
        return false;
    if (v->policy.trust_ttl && meta_get(v->meta, o->path, false, v->policy.ttl_ms, true, &a, NULL) == META_ABSENT)
        return true;
    return v->policy.ticket_ms && meta_take_ticket(v->meta, o->path, v->policy.ticket_ms, NULL) == META_ABSENT;
}

/* The store has what is the base of n. */
static bool may_share(struct vnode *n)
{
    LOCK_SCOPE(&n->v->s.lock);
    LOCK_SCOPE(&n->lock);
    n->as_of_ns = clock_now_ns();
    return !n->left;
}

/* `n` (may be NULL) is clean and its token is ours; `a`: of what is there now, when r is 0. */
static int open_answered(struct opening *o, struct vnode *n, int r, struct attr *a,
                         struct first_read *body)
{
    if (r == -ENOENT && (o->how->flags & VFILE_CREATE)) {
        if (n)
            retire(n);
        return open_created(o, false);
    }
    if (r == -ENOENT && n)
        retire(n);
    if (r == 0 && (o->how->flags & VFILE_EXCL))
        r = exists(o);
    if (r == 0)
        r = refuse_kind(o, a);
    if (r < 0)
        return r;
    if (n && !atomic_load(&n->stale) && strcmp(n->base->version, a->version) == 0 && may_share(n))
        return open_shared(o, n);
    if (n)
        retire(n);
    return open_new(o, a, body);
}

static int open_revalidated(struct opening *o, struct vnode *n)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct first_read body = FIRST_READ_INIT;
    bool ticket = !(o->how->flags & VFILE_DIRECT);
    if (!n && may_assume_absent(o))
        return open_created(o, true);
    uint64_t seq = meta_seq(o->v->meta, o->path);
    int r = volume_stat_fresh(o->v, o->op, o->path, ticket,
                              n || !is_for_reading(o) ? NULL : &body, &a);
    if (n && r == 0)
        vnode_learn(n, &a, seq, true);
    r = open_answered(o, n, r, &a, &body);
    first_read_drop(o->v, &body);
    return r;
}

/* One try; 1: the table has changed, again. */
static int open_try(struct opening *o)
{
    int r = check_retired(o);
    if (r < 0)
        return r;
    struct vnode *n = vnode_find(o->v, o->path);
    if (!n)
        return open_revalidated(o, NULL);
    r = 1;
    if (vnode_is_dirty(n)) {
        r = open_shared(o, n);
    } else if ((r = vnode_begin(n, o->op)) == 0) {
        r = n->dirty || !n->attached ? 1 : open_revalidated(o, n);
        vnode_end(n);
    }
    vnode_put(n);
    return r;
}

static void drop_handle(struct vnode *n, bool writer)
{
    struct volume *v = n->v;
    lock_acquire(&v->s.lock);
    n->handles--;
    n->writers -= writer;
    lock_release(&v->s.lock);
    vnode_put(n);
}

static int open_truncated(struct vnode *n, struct op *op)
{
    int r = vnode_begin(n, op);
    if (r < 0)
        return r;
    r = vnode_truncate(n, op, 0);
    vnode_end(n);
    return r;
}

static int open_path(struct opening *o)
{
    struct name_lock l;
    bool creates = o->how->flags & VFILE_CREATE;
    int r = name_lock(o->v, o->op, &l, creates ? NAME_EXCL : NAME_SHARED, o->path, NULL);
    if (r < 0)
        return r;
    while ((r = open_try(o)) > 0)
        ;
    name_unlock(o->v, &l);
    bool empties = (o->how->flags & (VFILE_TRUNC | VFILE_TRUNC_LATER)) == VFILE_TRUNC;
    if (r == 0 && empties && !o->created && (r = open_truncated(o->n, o->op)) < 0)
        drop_handle(o->n, o->how->flags & VFILE_WRITE);
    return r;
}

static struct vfile *new_handle(const struct opening *o)
{
    struct vfile *f = xcalloc(1, sizeof(*f));
    *f = (struct vfile){.v = o->v, .n = o->n, .flags = o->how->flags};
    f->unflushed = o->how->flags & (VFILE_CREATE | VFILE_TRUNC) && !(o->how->flags & VFILE_TRUNC_LATER);
    return f;
}

static int open_file(struct volume *v, struct op *op, const char *path,
                     const struct vfile_open *how, bool internal, bool *ret_keep,
                     struct vfile **ret)
{
    struct opening o = {.v = v, .op = op, .path = path, .how = how, .internal = internal};
    bool changes = how->flags & VFILE_CHANGES;
    int r = changes ? volume_check_write(v, op, path) : 0;
    if (r == 0 && changes && path_is_unnamed(path)) /* while it is empty it is a directory's marker */
        r = err_set(&op->err, EPERM, "%s: %s: a file of this name can be read, moved, removed; not "
                                     "written", v->key, path);
    if (r == 0)
        r = open_path(&o);
    if (r < 0)
        return r;
    *ret_keep = o.keep && !(how->flags & VFILE_DIRECT);
    *ret = new_handle(&o);
    return 0;
}

int volume_open_file(struct volume *v, struct op *op, const char *path, const struct vfile_open *how,
                     struct vfile **ret, struct attr *ret_attr, bool *ret_keep)
{
    int r = open_file(v, op, path, how, false, ret_keep, ret);
    if (r == 0)
        vnode_attr((*ret)->n, ret_attr);
    return r;
}

int vfile_truncate_opened(struct vfile *f, struct op *op, struct attr *ret_attr)
{
    int r = open_truncated(f->n, op);
    if (r < 0)
        return r;
    lock_acquire(&f->n->lock);
    f->unflushed = true;
    lock_release(&f->n->lock);
    attr_done(ret_attr);
    vnode_attr(f->n, ret_attr);
    return 0;
}

int volume_try_create(struct volume *v, const char *path, const struct vfile_open *how, struct vfile **ret,
                      struct attr *ret_attr)
{
    struct name_lock l;
    struct op op;
    op_init(&op, "create", 0);
    struct opening o = {.v = v, .op = &op, .path = path, .how = how};
    bool asks = (v->store->caps & CAP_VERSION_DIRS) && version_path_is(path);
    if (asks || volume_check_write(v, &op, path) < 0 || path_is_unnamed(path) ||
        !name_try_lock(v, &l, NAME_EXCL, path))
        return -EAGAIN;
    struct vnode *n = vnode_find(v, path);
    bool assumed = !n && may_assume_absent(&o);
    bool made = !n && (assumed || was_told_absent(&o)) && open_created(&o, assumed) == 0;
    name_unlock(v, &l);
    vnode_put(n);
    if (!made)
        return -EAGAIN;
    *ret = new_handle(&o);
    vnode_attr(o.n, ret_attr);
    return 0;
}

bool vfile_is_stale(const struct vfile *f)
{
    return atomic_load(&f->n->stale);
}

/* The path of a file that nobody here writes, or NULL. */
static char *path_when_read_only(struct vnode *n)
{
    LOCK_SCOPE(&n->v->s.lock);
    return n->attached && n->writers == 0 ? xstrdup(n->path) : NULL;
}

static bool has_left(struct vnode *n)
{
    LOCK_SCOPE(&n->v->s.lock);
    return n->left;
}

bool vfile_is_outdated(struct vfile *f)
{
    struct vnode *n = f->n;
    struct volume *v = n->v;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    CLEANUP_FREE char *path = path_when_read_only(n);
    uint64_t now = clock_now_ns(), age_ms = 0;
    if (vfile_is_stale(f) || has_left(n))
        return true;
    if (!path || meta_get(v->meta, path, false, UINT64_MAX, false, &a, &age_ms) != META_THERE)
        return false;
    LOCK_SCOPE(&v->s.lock);
    LOCK_SCOPE(&n->lock);
    bool younger = now - n->as_of_ns > (age_ms + 1) * NS_PER_MS && now > n->as_of_ns;
    bool read_only = n->attached && n->writers == 0 && !n->dirty && !n->unlinked && n->base;
    if (!younger || !read_only || (a.kind == ATTR_FILE && (a.version[0] == '\0' || n->base->version[0] == '\0' ||
                                                           strcmp(a.version, n->base->version) == 0)))
        return false;
    n->left = true;
    return true;
}

int vfile_get_attr(struct vfile *f, struct op *op, struct attr *ret)
{
    (void)op;
    vnode_attr(f->n, ret);
    return 0;
}

int vfile_set_attr(struct vfile *f, struct op *op, const struct attr *change)
{
    vnode_settle_copies(f->n, op);
    int r = vnode_begin_change(f->n, op);
    if (r < 0)
        return r;
    r = volume_check_write(f->v, op, f->n->path);
    if (r == 0)
        r = vnode_set_meta(f->n, op, change);
    vnode_end(f->n);
    return r;
}

/* ---- flushing ---- */

static int stale_error(struct vnode *n, struct op *op)
{
    return err_set(&op->err, n->excl && n->conflict ? EEXIST : ESTALE,
                   n->conflict ? "%s: %s: another client has changed the file; what was written here "
                                 "is kept under this name"
                               : "%s: %s: another client has changed the file",
                   n->v->key, n->path);
}

static int sync_node(struct vnode *n, struct op *op, bool wrote)
{
    if (n->unlinked)
        return 0;
    if (atomic_load(&n->stale))
        return wrote ? stale_error(n, op) : 0;
    if (!n->dirty)
        return 0;
    if (n->v->policy.write == VOLUME_THROUGH || n->copy_of) /* the store has the bytes already */
        return vnode_commit(n, op);
    int r = n->unflushed || !n->journaled ? vnode_journal(n, op) : 0;
    if (r == 0)
        volume_schedule(n, 0);
    return r;
}

static int sync_file(struct vfile *f, struct op *op)
{
    struct vnode *n = f->n;
    vnode_settle_copies(n, op);
    int r = vnode_begin(n, op);
    if (r < 0)
        return r;
    r = sync_node(n, op, f->wrote);
    if (r == 0) {
        LOCK_SCOPE(&n->lock);
        f->unflushed = false;
    }
    vnode_end(n);
    return r;
}

bool vfile_is_only_begun(const struct vfile *f)
{
    const struct vnode *n = f->n;
    LOCK_SCOPE(&f->v->s.lock);
    LOCK_SCOPE(&f->n->lock);
    return n->writers == 1 && (f->flags & VFILE_WRITE) && !f->wrote && n->dirty && !n->unlinked && n->unflushed && n->attr.size == 0;
}

bool vfile_is_flushed(struct vfile *f)
{
    struct vnode *n = f->n;
    if (!(f->flags & VFILE_CHANGES))
        return true;
    LOCK_SCOPE(&n->lock);
    bool done = !n->busy && !n->dirty && !atomic_load(&n->stale);
    if (done)
        f->unflushed = false;
    return done;
}

int vfile_flush(struct vfile *f, struct op *op)
{
    return f->flags & VFILE_CHANGES ? sync_file(f, op) : 0;
}

int vfile_fsync(struct vfile *f, struct op *op)
{
    return sync_file(f, op);
}

/* It can be opened again. What is in a row stays in memory for its upload while there is room. */
static bool may_close_locked(const struct vnode *n)
{
    lock_assert_held(&n->lock);
    if (!n->journaled || !n->file || atomic_load(&n->file->refs) > 1)
        return false; /* somebody else's reference keeps its lock */
    return !n->file->nameless || (n->in_row && n->saved && stage_memory_is_scarce(n->v->stage));
}

static struct stage_file *take_idle(struct vnode *n)
{
    LOCK_SCOPE(&n->v->s.lock); /* held until it is taken: who opens it now would read without its bytes */
    LOCK_SCOPE(&n->lock);
    return n->handles == 0 && may_close_locked(n) ? take_ptr(&n->file) : NULL;
}

void vnode_close_idle(struct vnode *n)
{
    stage_file_put(take_idle(n));
}

bool vfile_release_is_quick(const struct vfile *f)
{
    const struct vnode *n = f->n;
    LOCK_SCOPE(&f->n->lock);
    return !f->passed && !n->unlinked && !n->stream && (!n->file || stage_file_in_memory(n->file));
}

void vfile_release(struct vfile *f)
{
    struct vnode *n = vnode_ref(f->n);
    bool writer = f->flags & VFILE_WRITE;
    base_put(f->direct);
    vfile_pass_end(f);
    drop_handle(n, writer);
    lock_acquire(&n->lock);
    bool dirty = n->dirty && !n->unlinked;
    bool unflushed = dirty && (n->unflushed || !n->journaled) && f->unflushed;
    lock_release(&n->lock);
    free(f); /* behind the lock that its last read has taken */
    if (unflushed) { /* by a mapping. What other handles have written waits for their flush: it may be half */
        volume_schedule(n, 0);
    } else if (dirty && vnode_try_begin(n)) {
        vnode_close_idle(n);
        vnode_end(n);
    }
    vnode_put(n);
}

int volume_truncate(struct volume *v, struct op *op, const char *path, uint64_t size,
                    struct attr *ret)
{
    struct vfile_open how = {.flags = VFILE_WRITE};
    struct vfile *f = NULL;
    bool keep = false;
    int r = open_file(v, op, path, &how, true, &keep, &f);
    if (r < 0)
        return r;
    r = vfile_truncate(f, op, size);
    if (r == 0)
        r = vfile_flush(f, op);
    if (r == 0)
        vnode_attr(f->n, ret);
    vfile_release(f);
    return r;
}

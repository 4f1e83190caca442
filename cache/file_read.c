/* SPDX-License-Identifier: MIT
 * file_read.c: reads of an open file: staged bytes over a version of the store, without waiting.
 *
 * A read is planned once, under the vnode's lock, and then works on what it has references to: the base
 * and the stage file of that moment. Three cases:
 *   BASE    nothing staged in the range: the reader's answer is passed on, no copy
 *   STAGED  no byte of the base: one range of the stage file, which is sparse: what was never written
 *           and what lies behind base_len reads as zeros
 *   MIXED   one read of the base over the span of all base bytes, then both are copied together
 * An answer of the base that is -ESTALE may be our own commit: the store has the new version a moment
 * before the vnode knows. Such a read is begun again with the new base, after the commit. */
#include "cache/volume_int.h"

#include "base/cleanup.h"
#include "base/sys.h"
#include "cache/stage.h"
#include "cache/stream.h"

struct span {
    uint64_t off, end;
    bool staged; /* or a hole that reads as zeros from the stage file */
};

struct read_state {
    struct read_call sub;    /* first member: sub.done gets it back */
    struct read_call *user;
    struct vnode *n;
    struct vfile *direct;    /* VFILE_DIRECT: the handle, which outlives its reads; else NULL */
    struct base *base;       /* or NULL */
    uint64_t gen;            /* vnode.base_gen when it was taken */
    struct stage_file *file; /* or NULL */
    uint64_t off, end;       /* what is read, clipped */
    struct span *spans;      /* MIXED */
    size_t n_spans;
    unsigned char *buffer;
    struct read_piece piece; /* STAGED, MIXED */
    struct read_state *next; /* parked */
    unsigned refs;           /* vnode.lock: the read itself, who cancels it */
    bool cancelled;          /* vnode.lock */
};

static void begin(struct read_state *rs);

static void drop_plan(struct read_state *rs)
{
    base_put(rs->base);
    stage_file_put(rs->file);
    free(rs->spans);
    free(rs->buffer);
    rs->base = NULL;
    rs->file = NULL;
    rs->spans = NULL;
    rs->buffer = NULL;
    rs->n_spans = 0;
}

/* Answers the caller. `pieces` are valid until it returns. */
static void answer(struct read_state *rs, int error, struct read_piece *pieces, size_t n_pieces,
                   size_t total)
{
    struct read_call *user = rs->user;
    struct vnode *n = rs->n;
    if (error == 0 && atomic_load(&n->stale))
        error = err_set(&rs->sub.err, ESTALE, "%s: the file has changed at the store", n->v->key);
    user->error = error;
    if (error)
        user->err = rs->sub.err;
    user->pieces = error ? NULL : pieces;
    user->n_pieces = error ? 0 : n_pieces;
    user->total = error ? 0 : total;
    lock_acquire(&n->lock);
    user->priv = NULL;
    lock_release(&n->lock);
    user->done(user);
    drop_plan(rs);
    lock_acquire(&n->lock);
    bool last = --rs->refs == 0;
    n->reads--;
    cond_broadcast(&n->cond);
    lock_release(&n->lock);
    if (last)
        free(rs);
    vnode_put(n);
}

/* An object that is there no more, or whose name means a directory now, is to its readers a version that is there no
 * more. */
static int gone(int error)
{
    return error == -ENOENT || error == -EISDIR || error == -ENOTDIR ? -ESTALE : error;
}

/* The base's version was not there. True when the read was parked or begun again. */
static bool again(struct read_state *rs, int error)
{
    struct vnode *n = rs->n;
    if (gone(error) != -ESTALE || atomic_load(&n->stale))
        return false;
    lock_acquire(&n->lock);
    if (rs->cancelled) {
        lock_release(&n->lock);
        return false;
    }
    bool moved = n->base_gen != rs->gen;
    bool park = !moved && n->committing;
    if (moved || park)
        drop_plan(rs); /* under the lock: for who cancels it */
    if (park) {
        rs->next = n->parked;
        n->parked = rs;
    } else if (!moved && !n->dirty && !n->busy) { /* busy: may become dirty, and is not stale when it is stored */
        atomic_store(&n->stale, true);
    }
    lock_release(&n->lock);
    if (moved)
        begin(rs);
    return moved || park;
}

void vnode_unpark(struct vnode *n)
{
    lock_acquire(&n->lock);
    struct read_state *list = take_ptr(&n->parked);
    lock_release(&n->lock);
    while (list) {
        struct read_state *rs = list;
        list = rs->next;
        begin(rs);
    }
}

static void base_done(struct read_call *call)
{
    struct read_state *rs = (struct read_state *)call;
    if (again(rs, call->error))
        return;
    answer(rs, gone(call->error), call->pieces, call->n_pieces, call->total);
}

/* ---- MIXED ---- */

/* Copies what of the pieces (which begin at `at`) lies in [s->off, s->end). */
static int copy_span(struct read_state *rs, const struct read_call *call, const struct span *s)
{
    uint64_t at = call->offset;
    for (size_t i = 0; i < call->n_pieces; i++) {
        const struct read_piece *p = &call->pieces[i];
        uint64_t from = s->off > at ? s->off : at, to = at + p->length;
        to = s->end < to ? s->end : to;
        if (from < to) {
            unsigned char *out = rs->buffer + (from - rs->off);
            size_t n = (size_t)(to - from);
            if (p->mem) {
                memcpy(out, (const char *)p->mem + (from - at), n);
            } else {
                ssize_t got = sys_pread(p->fd, out, n, p->fd_offset + (from - at));
                if (got != (ssize_t)n)
                    return err_set(&rs->sub.err, got < 0 ? (int)-got : EIO, "cached block: %s",
                                   strerror(got < 0 ? (int)-got : EIO));
            }
        }
        at += p->length;
    }
    return 0;
}

static int copy_staged(struct read_state *rs, const struct span *s)
{
    if (!rs->file)
        return 0; /* zeros */
    ssize_t got = sys_pread(rs->file->fd, rs->buffer + (s->off - rs->off),
                            (size_t)(s->end - s->off), s->off);
    if (got < 0) /* short: the file was truncated meanwhile; zeros are right */
        return err_set(&rs->sub.err, (int)-got, "%s: %s", rs->file->path, strerror((int)-got));
    return 0;
}

static void mixed_done(struct read_call *call)
{
    struct read_state *rs = (struct read_state *)call;
    if (again(rs, call->error))
        return;
    int error = gone(call->error);
    for (size_t i = 0; i < rs->n_spans && error == 0; i++)
        error = rs->spans[i].staged ? copy_staged(rs, &rs->spans[i])
                                    : copy_span(rs, call, &rs->spans[i]);
    size_t total = (size_t)(rs->end - rs->off);
    rs->piece = (struct read_piece){.mem = rs->buffer, .fd = -1, .length = total};
    answer(rs, error, &rs->piece, 1, total);
}

/* ---- planning ---- */

/* Is `pos` content of the base? *ret_end is where that changes. */
static bool is_base(const struct vnode *n, uint64_t pos, uint64_t end, uint64_t *ret_end)
{
    bool staged = ranges_run(&n->staged, pos, end, ret_end);
    if (staged || pos >= n->base_len || !n->base)
        return false;
    if (*ret_end > n->base_len)
        *ret_end = n->base_len;
    return true;
}

/* Fills rs->spans; returns the number of bytes of the base among them. */
static uint64_t plan_locked(struct read_state *rs, uint64_t *ret_first, uint64_t *ret_last)
{
    struct vnode *n = rs->n;
    uint64_t base_bytes = 0;
    size_t cap = 0;
    for (uint64_t pos = rs->off, end; pos < rs->end; pos = end) {
        bool base = is_base(n, pos, rs->end, &end);
        if (base) {
            *ret_first = base_bytes ? *ret_first : pos;
            *ret_last = end;
            base_bytes += end - pos;
        }
        if (rs->n_spans && rs->spans[rs->n_spans - 1].staged == !base) {
            rs->spans[rs->n_spans - 1].end = end;
            continue;
        }
        if (rs->n_spans == cap) {
            cap = cap ? cap * 2 : 8;
            rs->spans = xrealloc(rs->spans, cap * sizeof(*rs->spans));
        }
        rs->spans[rs->n_spans++] = (struct span){.off = pos, .end = end, .staged = !base};
    }
    return base_bytes;
}

static void take_refs_locked(struct read_state *rs, bool wants_base)
{
    struct vnode *n = rs->n;
    rs->gen = n->base_gen;
    if (wants_base)
        rs->base = base_ref(n->base);
    if (n->file)
        rs->file = stage_file_ref(n->file);
}

static void begin_staged(struct read_state *rs)
{
    size_t total = (size_t)(rs->end - rs->off);
    if (rs->file) {
        rs->piece = (struct read_piece){.fd = rs->file->fd, .fd_offset = rs->off, .length = total};
    } else {
        rs->buffer = calloc(1, total);
        if (!rs->buffer) {
            answer(rs, err_set(&rs->sub.err, ENOMEM, "no memory for a read"), NULL, 0, 0);
            return;
        }
        rs->piece = (struct read_piece){.mem = rs->buffer, .fd = -1, .length = total};
    }
    answer(rs, 0, &rs->piece, 1, total);
}

/* VFILE_DIRECT: the same version by a reader that keeps nothing on disk. */
static void use_direct(struct read_state *rs)
{
    struct vnode *n = rs->n;
    struct vfile *f = rs->direct;
    struct base *kept = rs->base, *old = NULL;
    lock_acquire(&n->lock);
    bool have = f->direct && f->direct_gen == rs->gen;
    rs->base = have ? base_ref(f->direct) : NULL;
    lock_release(&n->lock);
    if (!have) {
        lock_acquire(&n->v->s.lock);
        CLEANUP_FREE char *path = xstrdup(n->path);
        lock_release(&n->v->s.lock);
        struct base *own = base_new(n->v, path, kept->version, kept->size, false);
        lock_acquire(&n->lock);
        rs->base = own;
        atomic_store(&rs->sub.cancelled, rs->cancelled); /* nobody saw whom to ask */
        old = f->direct;
        f->direct = base_ref(rs->base);
        f->direct_gen = rs->gen;
        lock_release(&n->lock);
    }
    base_put(old);
    base_put(kept);
}

static void begin_base(struct read_state *rs, uint64_t first, uint64_t last, bool mixed)
{
    rs->sub.offset = first;
    rs->sub.length = (size_t)(last - first);
    rs->sub.done = mixed ? mixed_done : base_done;
    if (mixed && !(rs->buffer = calloc(1, (size_t)(rs->end - rs->off)))) {
        answer(rs, err_set(&rs->sub.err, ENOMEM, "no memory for a read"), NULL, 0, 0);
        return;
    }
    if (rs->direct)
        use_direct(rs);
    reader_read(rs->base->reader, &rs->sub);
}

/* Bytes that are nowhere read as zeros: better none than those. An open file has its stage file (file.c, join). */
static bool lacks_file_locked(const struct read_state *rs)
{
    return !rs->n->file && rs->off < rs->end && ranges_overlap(&rs->n->staged, rs->off, rs->end);
}

static void begin(struct read_state *rs)
{
    struct vnode *n = rs->n;
    uint64_t first = 0, last = 0;
    rs->sub = (struct read_call){0};
    lock_acquire(&n->lock);
    if (rs->cancelled) {
        lock_release(&n->lock);
        answer(rs, err_set(&rs->sub.err, EINTR, "read: interrupted"), NULL, 0, 0);
        return;
    }
    if (n->adopting) {
        rs->next = n->parked;
        n->parked = rs;
        lock_release(&n->lock);
        return;
    }
    rs->off = rs->user->offset;
    rs->end = n->attr.size;
    if (rs->end > rs->off && rs->end - rs->off > rs->user->length)
        rs->end = rs->off + rs->user->length;
    uint64_t base_bytes = rs->off < rs->end ? plan_locked(rs, &first, &last) : 0;
    take_refs_locked(rs, base_bytes > 0);
    bool freed = n->stream && rs->off < rs->end && stream_is_freed(n->stream, rs->off, rs->end);
    bool lacking = lacks_file_locked(rs);
    lock_release(&n->lock);
    if (atomic_load(&n->stale))
        answer(rs, err_set(&rs->sub.err, ESTALE, "%s: the file has changed at the store", n->v->key),
               NULL, 0, 0);
    else if (rs->off >= rs->end)
        answer(rs, 0, NULL, 0, 0);
    else if (freed)
        answer(rs, err_set(&rs->sub.err, EIO, "%s: uploaded already, and no longer in the cache directory, "
                                              "which is too small for the file: it can be read when the "
                                              "file is closed", n->v->key), NULL, 0, 0);
    else if (lacking)
        answer(rs, err_set(&rs->sub.err, EIO, "%s: its staged file is not open", n->v->key), NULL, 0, 0);
    else if (base_bytes == 0)
        begin_staged(rs);
    else
        begin_base(rs, first, last, base_bytes < rs->end - rs->off);
}

void vfile_read(struct vfile *f, struct read_call *call)
{
    struct vnode *n = vnode_ref(f->n);
    struct read_state *rs = xcalloc(1, sizeof(*rs));
    rs->user = call;
    rs->n = n;
    rs->refs = 1;
    lock_acquire(&n->lock);
    call->priv = rs;
    rs->direct = f->flags & VFILE_DIRECT ? f : NULL;
    n->reads++;
    lock_release(&n->lock);
    begin(rs);
}

/* True when it was parked, and is not any more. */
static bool unpark_one_locked(struct vnode *n, const struct read_state *rs)
{
    for (struct read_state **at = &n->parked; *at; at = &(*at)->next) {
        if (*at != rs)
            continue;
        *at = rs->next;
        return true;
    }
    return false;
}

void vfile_read_cancel(struct vfile *f, struct read_call *call)
{
    struct vnode *n = vnode_ref(f->n);
    lock_acquire(&n->lock);
    struct read_state *rs = call->priv;
    bool parked = rs && unpark_one_locked(n, rs);
    struct base *base = rs && !parked && rs->base ? base_ref(rs->base) : NULL;
    if (rs) {
        rs->cancelled = true;
        rs->refs++;
    }
    lock_release(&n->lock);
    if (parked)
        begin(rs);
    else if (base)
        reader_cancel(base->reader, &rs->sub);
    base_put(base);
    lock_acquire(&n->lock);
    bool last = rs && --rs->refs == 0;
    lock_release(&n->lock);
    if (last)
        free(rs);
    vnode_put(n);
}

/* SPDX-License-Identifier: MIT
 * reader.c: reads of one open file.
 * States of a call: PLANNED (its segments are known) -> WAITING (pending > 0) -> READY -> pieces
 * are pinned -> done() -> released. A piece that cannot be had from disk after all leads back to
 * PLANNED. Invariants
 *   1. done() runs exactly once, without a lock held; the call may be gone when it returns.
 *   2. r->calls counts calls between reader_read and the end of their release: reader_close waits
 * for 0.
 *   3. A plan that is made anew fetches exactly what the call needs: waiting calls never need more
 *      memory than what they asked for, all together. */
#include "cache/reader.h"

#include "base/clock.h"
#include "base/sys.h"
#include "cache/fetch_int.h"
#include "cache/readahead.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PART_DEFAULT (8ULL << 20)
#define PART_LIMIT (16ULL << 20)
#define FLYING_DEFAULT 10
#define PREAD_CHUNK (1ULL << 20)
#define DISK_TRIES 2
#define PIECES_INLINE 4
#define WAIT_SLICE_NS (100 * NS_PER_MS)

struct reader {
    struct fetcher *f;
    struct fetch_source *src;
    struct cache_object *object;
    bool local; /* the store is as fast as the cache */
    unsigned flying_max;
    struct cond idle;    /* calls == 0 */
    struct readahead ra; /* under f->lock */
    unsigned calls;
};

struct reader_call {
    struct fetch_call fetch; /* first */
    struct reader *r;
    struct read_call *call;
    unsigned tries;
    bool missed;
    struct read_piece inline_pieces[PIECES_INLINE];
};

static size_t page_count(size_t n)
{
    return (n + CACHE_BUFFER_UNIT - 1) / CACHE_BUFFER_UNIT;
}

/* ---- opening ---- */
static uint64_t max_part(const struct cache *c, const struct store *store)
{
    uint64_t block = c->set.block_size, part = store->limits.part_size;
    if (part == 0)
        part = PART_DEFAULT;
    if (part > PART_LIMIT)
        part = PART_LIMIT;
    if (part > budget_total(c->budget) / 8)
        part = budget_total(c->budget) / 8;
    part -= part % block;
    return part ? part : block;
}

struct reader *reader_open(struct cache *c, struct cache_object *object, struct store *store,
                           struct pool *pool, const char *path, unsigned timeout_ms)
{
    struct reader *r = xcalloc(1, sizeof(*r));
    r->object = cache_object_ref(object);
    r->f = fetcher_get(object);
    r->src = fetch_source_new(store, pool, timeout_ms, path);
    r->local = (store->caps & CAP_LOCAL_FD) != 0;
    r->flying_max = store->limits.concurrency ? store->limits.concurrency : FLYING_DEFAULT;
    cond_init(&r->idle);
    readahead_init(&r->ra, c->set.block_size, max_part(c, store), budget_total(c->budget) / 4 * 3);
    LOCK_SCOPE(&r->f->lock);
    r->f->readers++;
    return r;
}

bool reader_is_idle(struct reader *r)
{
    LOCK_SCOPE(&r->f->lock);
    return r->calls == 0;
}

void reader_close(struct reader *r)
{
    if (!r)
        return;
    struct fetcher *f = r->f;
    struct fetch_work w = FETCH_WORK_INIT;
    lock_acquire(&f->lock);
    while (r->calls)
        cond_wait(&r->idle, &f->lock);
    bool last = --f->readers == 0;
    fetch_cancel_locked(f, last ? NULL : r->src, 0, UINT64_MAX, &w);
    lock_release(&f->lock);
    fetch_work_run(&w);
    fetcher_put(f);
    fetch_source_unref(r->src);
    cache_object_put(r->object);
    cond_done(&r->idle);
    free(r);
}

/* A part's buffer is accounted for by its length: the rest of a larger one goes back. */
static void *fitting(struct cache *c, void *buf, size_t size, size_t len)
{
    if (len == 0 || page_count(size) == page_count(len))
        return buf;
    void *less = cache_buffer_get(c, len, false);
    if (!less)
        return buf;
    memcpy(less, buf, len);
    cache_buffer_put(c, buf, size);
    return less;
}

void reader_give(struct reader *r, void *buf, size_t size, size_t len)
{
    struct fetcher *f = r->f;
    struct cache *c = f->cache;
    struct fetch_work w = FETCH_WORK_INIT;
    void *part = fitting(c, buf, size, len);
    size_t cost = part == buf ? size : len;
    lock_acquire(&f->lock);
    bool taken = len > 0 && page_count(cost) == page_count(len) && len <= f->size &&
                 fetch_give_locked(f, r->src, part, len, &w);
    lock_release(&f->lock);
    fetch_work_run(&w);
    if (!taken)
        cache_buffer_put(c, part, cost);
}

/* ---- the end of a call ---- */
static struct reader_call *new_call(struct reader *r, struct read_call *call);

/* Answers the call and frees rc; `released`: its segments were given back. */
static void answer(struct reader_call *rc)
{
    struct reader *r = rc->r;
    struct fetcher *f = r->f;
    struct read_call *call = rc->call;
    struct fetch_work w = FETCH_WORK_INIT;
    stat_add(rc->missed ? r->object->key->misses : r->object->key->hits, 1);
    struct read_piece *pieces = call->pieces; /* ours; the call may be gone soon */
    if (rc->fetch.waited) {
        lock_acquire(&f->lock);
        call->priv = NULL; /* nothing to cancel any more */
        lock_release(&f->lock);
    }
    call->done(call);
    if (pieces != rc->inline_pieces)
        free(pieces);
    for (struct fetch_seg *s = rc->fetch.segs; s; s = s->next)
        if (!s->part)
            cache_object_unpin(r->object, s->off, s->len);
    lock_acquire(&f->lock);
    fetch_release_locked(f, &rc->fetch, true, &w);
    if (--r->calls == 0)
        cond_broadcast(&r->idle);
    lock_release(&f->lock); /* r may be gone from here on */
    fetch_work_run(&w);
    free(rc);
}

static void answer_error(struct reader_call *rc, int error, const struct err *err)
{
    rc->missed = true;
    rc->call->error = error;
    rc->call->err = *err;
    rc->call->pieces = NULL;
    rc->call->n_pieces = 0;
    rc->call->total = 0;
    answer(rc);
}

/* Pins what is on disk and lists the pieces; false: some of it cannot be read from there. */
static bool make_pieces(struct reader_call *rc)
{
    struct cache_object *o = rc->r->object;
    struct read_call *call = rc->call;
    size_t n = 0;
    for (struct fetch_seg *s = rc->fetch.segs; s; s = s->next)
        n++;
    struct read_piece *pieces =
        n <= PIECES_INLINE ? rc->inline_pieces : xcalloc(n, sizeof(*pieces));
    call->total = 0;
    n = 0;
    for (struct fetch_seg *s = rc->fetch.segs; s; s = s->next, n++) {
        pieces[n] = (struct read_piece){.fd = -1, .length = s->len};
        call->total += s->len;
        if (s->part) {
            pieces[n].mem = s->part->buf + (s->off - s->part->off);
            continue;
        }
        pieces[n].fd = cache_object_pin(o, s->off, s->len);
        pieces[n].fd_offset = s->off;
        if (pieces[n].fd >= 0)
            continue;
        for (struct fetch_seg *x = rc->fetch.segs; x != s; x = x->next)
            if (!x->part)
                cache_object_unpin(o, x->off, x->len);
        if (pieces != rc->inline_pieces)
            free(pieces);
        return false;
    }
    call->pieces = pieces;
    call->n_pieces = n;
    call->error = 0;
    return true;
}

/* ---- planning ---- */
/* The call is to wait: it can be cancelled from here on, or was before. */
static void await_locked(struct reader_call *rc, struct fetch_work *w)
{
    rc->call->priv = rc;
    if (atomic_load(&rc->call->cancelled))
        fetch_abandon_locked(rc->r->f, &rc->fetch, rc->r->src, w);
}

void reader_cancel(struct reader *r, struct read_call *call)
{
    struct fetch_work w = FETCH_WORK_INIT;
    atomic_store(&call->cancelled, true);
    lock_acquire(&r->f->lock);
    struct reader_call *rc = call->priv;
    if (rc && rc->fetch.pending)
        fetch_abandon_locked(r->f, &rc->fetch, r->src, &w);
    lock_release(&r->f->lock);
    fetch_work_run(&w);
}

/* Exactly what the call still needs, past what went wrong. true: ready at once. */
static bool plan_again(struct reader_call *rc)
{
    struct reader *r = rc->r;
    struct fetch_work w = FETCH_WORK_INIT;
    struct fetch_how how = {.src = r->src, .ignore_disk = rc->tries > DISK_TRIES};
    lock_acquire(&r->f->lock);
    fetch_release_locked(r->f, &rc->fetch, false, &w);
    rc->fetch.again = false;
    fetch_plan_locked(r->f, &rc->fetch, &how, rc->call->offset, rc->call->length, &w);
    bool ready = rc->fetch.pending == 0;
    if (!ready)
        await_locked(rc, &w);
    lock_release(&r->f->lock);
    fetch_work_run(&w);
    return ready;
}

static void on_ready(struct fetch_call *fetch)
{
    struct reader_call *rc = (struct reader_call *)fetch;
    for (;;) {
        rc->missed |= fetch->waited;
        if (fetch->error) {
            answer_error(rc, fetch->error, &fetch->err);
            return;
        }
        if (!fetch->again && make_pieces(rc)) {
            answer(rc);
            return;
        }
        rc->tries += !fetch->again;
        if (!plan_again(rc))
            return; /* it is in other hands now */
    }
}

static void plan_locked(struct reader_call *rc, struct fetch_work *w)
{
    struct reader *r = rc->r;
    struct fetcher *f = r->f;
    struct read_call *call = rc->call;
    struct fetch_how how = {.src = r->src, .stop = call->stop};
    struct readahead_plan p = {0};
    if (!r->local && f->size <= READER_WHOLE_MAX) {
        how.whole = true;
    } else if (!r->local) {
        p = readahead_note(&r->ra, call->offset, call->length,
                           call->stop && call->stop < f->size ? call->stop : f->size);
        how.part = p.stream ? p.part : 0;
    }
    if (p.dropped)
        fetch_cancel_locked(f, r->src, p.drop_from, p.drop_to, w);
    fetch_plan_locked(f, &rc->fetch, &how, call->offset, call->length, w);
    if (p.stream && p.to > p.from)
        readahead_issued(&r->ra, &p, fetch_ahead_locked(f, &how, p.from, p.to, r->flying_max, w));
}

static struct reader_call *new_call(struct reader *r, struct read_call *call)
{
    struct reader_call *rc = xcalloc(1, sizeof(*rc));
    rc->r = r;
    rc->call = call;
    rc->fetch.ready = on_ready;
    return rc;
}

void reader_read(struct reader *r, struct read_call *call)
{
    struct fetcher *f = r->f;
    struct fetch_work w = FETCH_WORK_INIT;
    struct err stale = ERR_INIT;
    struct reader_call *rc = new_call(r, call);
    uint64_t left = call->offset < f->size ? f->size - call->offset : 0;
    if (call->length > left)
        call->length = (size_t)left;
    behind_bring(r->object);
    lock_acquire(&f->lock);
    r->calls++;
    bool is_stale = f->stale;
    if (is_stale)
        stale = f->stale_err;
    else if (call->length)
        plan_locked(rc, &w);
    bool ready = rc->fetch.pending == 0;
    if (!ready)
        await_locked(rc, &w);
    lock_release(&f->lock);
    fetch_work_run(&w); /* another thread may finish rc now, unless it is ready */
    if (is_stale)
        answer_error(rc, -ESTALE, &stale);
    else if (ready)
        on_ready(&rc->fetch);
}

/* ---- the blocking form ---- */
struct blocking {
    struct read_call call;
    struct lock lock;
    struct cond cond;
    char *buf;
    ssize_t result;
    bool done;
};

static void copy_out(struct read_call *call)
{
    struct blocking *b = (struct blocking *)call;
    ssize_t result = call->error;
    char *to = b->buf;
    for (size_t i = 0; i < call->n_pieces && result == 0; i++) {
        const struct read_piece *p = &call->pieces[i];
        if (p->mem) {
            memcpy(to, p->mem, p->length);
        } else {
            ssize_t n = sys_pread(p->fd, to, p->length, p->fd_offset);
            if (n != (ssize_t)p->length)
                result = err_set(&call->err, EIO, "cannot read the cache file");
        }
        to += p->length;
    }
    if (result == 0)
        result = (ssize_t)call->total;
    lock_acquire(&b->lock);
    b->result = result;
    b->done = true;
    cond_signal(&b->cond);
    lock_release(&b->lock);
}

/* Waits for the end; the call is cancelled when the op is. */
static void wait_done(struct reader *r, struct op *op, struct blocking *b)
{
    bool told = false;
    lock_acquire(&b->lock);
    while (!b->done) {
        if (!op) {
            cond_wait(&b->cond, &b->lock);
            continue;
        }
        (void)cond_wait_until(&b->cond, &b->lock, clock_now_ns() + WAIT_SLICE_NS);
        if (b->done || told || op_check(op) == 0)
            continue;
        told = true;
        lock_release(&b->lock);
        reader_cancel(r, &b->call);
        lock_acquire(&b->lock);
    }
    lock_release(&b->lock);
}

static ssize_t pread_once(struct reader *r, struct op *op, uint64_t off, char *buf, size_t len,
                          uint64_t stop, struct err *err)
{
    struct blocking b = {.call = {.offset = off, .length = len, .stop = stop, .done = copy_out}, .buf = buf};
    lock_init(&b.lock, LOCK_RANK_LEAF, "pread");
    cond_init(&b.cond);
    reader_read(r, &b.call);
    wait_done(r, op, &b);
    cond_done(&b.cond);
    lock_done(&b.lock);
    if (b.result < 0 && err)
        *err = b.call.err;
    return b.result;
}

ssize_t reader_pread(struct reader *r, struct op *op, uint64_t off, void *buf, size_t len,
                     uint64_t stop, struct err *err)
{
    size_t got = 0;
    lock_assert_none_held();
    while (got < len) { /* in pieces: a call holds all its buffers until it is answered */
        size_t want = len - got < PREAD_CHUNK ? len - got : PREAD_CHUNK;
        ssize_t n = pread_once(r, op, off + got, (char *)buf + got, want, stop, err);
        if (n < 0)
            return n;
        got += (size_t)n;
        if ((size_t)n < want)
            break;
    }
    return (ssize_t)got;
}

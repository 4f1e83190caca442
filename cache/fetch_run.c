/* SPDX-License-Identifier: MIT
 * fetch_run.c: parts being fetched, written to disk and given up.
 * Transitions: QUEUED -> RUNNING part_begin(); RUNNING -> DONE or DEAD part_end(); QUEUED -> DEAD
 * fetch_cancel_locked(), get_buffer(); DONE -> freed part_settle_locked(), reclaim_one().
 * Invariants: (1) `filled` only grows, and bytes below it do not change any more (a retried GET of
 * the same version writes the same); an unversioned object publishes no byte before its GET has
 * ended; (2) one write-behind job per part at a time, which alone moves `written`, but for
 * reclaim_one() on a part that is not being written; (3) whole blocks are written while the rest
 * arrives. */
#include "cache/fetch_int.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- progress ---- */
static void make_ready_locked(struct fetch_call *call, struct fetch_work *w)
{
    call->next = w->ready;
    w->ready = call;
}

static uint64_t next_border(const struct fetch_part *p, size_t filled)
{
    uint64_t block = p->f->cache->set.block_size, at = p->off + filled;
    return at - at % block + block - p->off;
}

/* How much of the part may be written: all, or whole blocks while more is to come. */
static size_t writable(const struct fetch_part *p)
{
    uint64_t block = p->f->cache->set.block_size;
    if (!p->buf)
        return 0;
    if (p->state == PART_DONE)
        return p->len;
    uint64_t end = p->off + atomic_load(&p->filled);
    end -= end % block;
    return end > p->off ? (size_t)(end - p->off) : 0;
}

void part_keep_locked(struct fetch_part *p, struct fetch_work *w)
{
    if (!p->f->keep || p->disk_queued || writable(p) <= p->written)
        return;
    p->disk_queued = true;
    p->refs++;
    p->next_disk = w->disk;
    w->disk = p;
}

static void progress_locked(struct fetch_part *p, struct fetch_work *w)
{
    size_t filled = atomic_load(&p->filled);
    size_t wake_at = (size_t)next_border(p, filled);
    for (struct fetch_seg *s = p->segs; s; s = s->next_part) {
        if (!s->waiting)
            continue;
        size_t need = (size_t)(s->off + s->len - p->off);
        if (need > filled) {
            wake_at = need < wake_at ? need : wake_at;
            continue;
        }
        s->waiting = false;
        if (--s->call->pending == 0)
            make_ready_locked(s->call, w);
    }
    atomic_store(&p->wake_at, wake_at);
    part_keep_locked(p, w);
}

static int on_data(void *arg, size_t so_far)
{
    struct fetch_part *p = arg;
    if (so_far > atomic_load(&p->filled))
        atomic_store(&p->filled, so_far);
    if (so_far >= atomic_load(&p->wake_at)) {
        struct fetch_work w = FETCH_WORK_INIT;
        lock_acquire(&p->f->lock);
        progress_locked(p, &w);
        lock_release(&p->f->lock);
        fetch_work_run(&w);
        if (p->op.deadline_ns) /* the deadline is one without progress */
            p->op.deadline_ns = clock_now_ns() + p->src->timeout_ms * NS_PER_MS;
    }
    return atomic_load(&p->op.cancelled);
}

/* ---- the job ---- */
static void fail_waiting_locked(struct fetch_part *p, int error, struct fetch_work *w)
{
    struct fetch_seg *s = p->segs;
    while (s) {
        if (!s->waiting) {
            s = s->next_part;
            continue;
        }
        struct fetch_call *call = s->call;
        call->error = error;
        call->err = p->op.err;
        fetch_release_locked(p->f, call, false, w);
        make_ready_locked(call, w);
        s = p->segs; /* others of this call have gone as well */
    }
}

void fetch_abandon_locked(struct fetcher *f, struct fetch_call *call,
                          const struct fetch_source *src, struct fetch_work *w)
{
    lock_assert_held(&f->lock);
    uint64_t from = call->segs->off, to = call->last->off + call->last->len;
    call->error = err_set(&call->err, EINTR, "read: interrupted");
    fetch_release_locked(f, call, false, w);
    make_ready_locked(call, w);
    fetch_cancel_locked(f, src, from, to, w);
}

static void part_end_locked(struct fetch_part *p, int r, struct fetch_work *w)
{
    struct fetcher *f = p->f;
    if (r == 0) {
        if (p->in_table)
            f->flying--;
        p->state = PART_DONE;
        atomic_store(&p->filled, p->len);
        progress_locked(p, w);
        part_settle_locked(p, w);
        return;
    }
    if (r == -ESTALE) {
        p->written = p->len; /* nothing of it is kept */
        f->stale = true;
        f->stale_err = p->op.err;
    }
    part_take_out_locked(p, w);
    p->state = PART_DEAD;
    part_keep_locked(p, w); /* first: it keeps the buffer */
    fail_waiting_locked(p, r, w);
}

static void part_end(struct fetch_part *p, int r)
{
    struct fetch_work w = FETCH_WORK_INIT;
    lock_acquire(&p->f->lock);
    part_end_locked(p, r, &w);
    part_unref_locked(p, &w);
    lock_release(&p->f->lock);
    fetch_work_run(&w);
}

/* QUEUED -> RUNNING; false when the other job was first, or nobody wants it any more. */
static bool part_begin(struct fetch_part *p)
{
    struct fetch_work w = FETCH_WORK_INIT;
    lock_acquire(&p->f->lock);
    bool mine = p->state == PART_QUEUED;
    if (mine)
        p->state = PART_RUNNING;
    else
        part_unref_locked(p, &w);
    lock_release(&p->f->lock);
    fetch_work_run(&w);
    return mine;
}

/* A part that somebody waits for waits for memory; read-ahead gives up: -ECANCELED. */
static int get_buffer(struct fetch_part *p)
{
    struct budget *budget = p->f->cache->budget;
    for (;;) {
        lock_acquire(&p->f->lock);
        bool wanted = p->segs != NULL;
        lock_release(&p->f->lock);
        p->buf = budget_get(budget, p->len, wanted);
        if (p->buf)
            return 0;
        if (wanted)
            return err_set(&p->op.err, ENOMEM, "read %s: no memory for a buffer of %zu bytes",
                           p->src->path, p->len);
        struct fetch_work w = FETCH_WORK_INIT;
        lock_acquire(&p->f->lock);
        bool give_up = p->segs == NULL;
        if (give_up)
            part_take_out_locked(p, &w);
        lock_release(&p->f->lock);
        fetch_work_run(&w);
        if (give_up)
            return -ECANCELED;
    }
}

/* An object without a version gets the one that the first reply tells. */
static int check_version(struct fetch_part *p, const char *asked, const char *told)
{
    struct fetcher *f = p->f;
    if (asked[0] || !told[0])
        return 0;
    LOCK_SCOPE(&f->lock);
    if (!f->version[0])
        snprintf(f->version, sizeof(f->version), "%s", told);
    if (strcmp(f->version, told) == 0)
        return 0;
    return err_set(&p->op.err, ESTALE, "read %s: it has changed", p->src->path);
}

static int part_read(struct fetch_part *p)
{
    struct fetcher *f = p->f;
    struct fetch_source *src = p->src;
    struct read_res res = READ_RES_INIT;
    char version[ATTR_VERSION_MAX];
    lock_acquire(&f->lock);
    memcpy(version, f->version, sizeof(version));
    lock_release(&f->lock);
    if (src->timeout_ms)
        p->op.deadline_ns = clock_now_ns() + src->timeout_ms * NS_PER_MS;
    struct read_req req = {.key = src->path,
                           .version = version[0] ? version : NULL,
                           .offset = p->off,
                           .iov = {.iov_base = p->buf, .iov_len = p->len},
                           .on_data = version[0] ? on_data : NULL,
                           .on_data_arg = p};
    int r = store_read(src->store, &p->op, &req, &res);
    if (r < 0)
        return r;
    r = check_version(p, version, res.attr.version);
    if (r == 0 && res.length < p->len)
        r = err_set(&p->op.err, version[0] ? EIO : ESTALE,
                    "read %s: the store sent %zu bytes of %zu at %llu", src->path, res.length,
                    p->len, (unsigned long long)p->off);
    read_res_done(&res);
    return r;
}

static void part_run(struct pool_job *job)
{
    struct fetch_part *p = ((struct fetch_job *)job)->part;
    if (!part_begin(p))
        return;
    int r = op_check(&p->op);
    if (r == 0)
        r = get_buffer(p);
    if (r == 0)
        r = part_read(p);
    part_end(p, r);
}

/* ---- write-behind, on the disk thread ---- */
static void disk_run(struct pool_job *job)
{
    struct fetch_part *p =
        __extension__((struct fetch_part *)((uintptr_t)job - offsetof(struct fetch_part, disk)));
    struct fetcher *f = p->f;
    struct fetch_work w = FETCH_WORK_INIT;
    lock_acquire(&f->lock);
    for (;;) {
        size_t from = p->written, to = writable(p);
        if (to <= from)
            break;
        size_t n = block_clip(f->cache, p->off + from, to - from);
        p->disk_running = true;
        lock_release(&f->lock);
        cache_object_store(f->object, p->off + from, p->buf + from, n);
        lock_acquire(&f->lock);
        p->disk_running = false;
        p->written = from + n;
    }
    p->disk_queued = false;
    part_settle_locked(p, &w);
    part_unref_locked(p, &w);
    lock_release(&f->lock);
    fetch_work_run(&w);
}

void part_prepare(struct fetch_part *p)
{
    p->normal = (struct fetch_job){.job.run = part_run, .part = p};
    p->urgent = (struct fetch_job){.job.run = part_run, .part = p};
    p->disk.run = disk_run;
    atomic_store(&p->wake_at, (size_t)next_border(p, 0));
}

/* ---- effects ---- */
static void part_free(struct fetch_part *p)
{
    assert(p->refs == 0 && !p->segs);
    if (p->buf)
        budget_put(p->f->cache->budget, p->buf, p->len);
    fetch_source_unref(p->src);
    fetcher_put(p->f);
    free(p);
}

#define TAKE(list, link)                                                                           \
    __extension__({                                                                                \
        __auto_type taken_ = (list);                                                               \
        (list) = taken_->link;                                                                     \
        taken_;                                                                                    \
    })

/* Lists were built by prepending: turns one round, so that offsets rise. */
static struct fetch_part *in_order(struct fetch_part *list)
{
    struct fetch_part *out = NULL;
    while (list) {
        struct fetch_part *p = TAKE(list, next_submit);
        p->next_submit = out;
        out = p;
    }
    return out;
}

void fetch_work_run(struct fetch_work *w)
{
    while (w->freed) {
        struct fetch_freed b = *w->freed;
        budget_put(b.budget, w->freed, b.len);
        w->freed = b.next;
    }
    struct fetch_part *submit = in_order(w->submit);
    while (submit) {
        struct fetch_part *p = TAKE(submit, next_submit);
        pool_submit(p->src->pool, &p->normal.job, p->background ? 2 : 0);
    }
    while (w->hurry) {
        struct fetch_part *p = TAKE(w->hurry, next_hurry);
        pool_submit(p->src->pool, &p->urgent.job, 0);
    }
    while (w->ready) {
        struct fetch_call *call = TAKE(w->ready, next);
        call->ready(call);
    }
    while (w->disk) {
        struct fetch_part *p = TAKE(w->disk, next_disk);
        pool_submit(p->f->cache->disk, &p->disk, 1);
    }
    while (w->dead)
        part_free(TAKE(w->dead, next_dead));
    *w = FETCH_WORK_INIT;
}

/* ---- giving memory back ---- */
/* Do only calls that wait for something else hold this part? */
static bool may_steal(const struct fetch_part *p)
{
    for (const struct fetch_seg *s = p->segs; s; s = s->next_part)
        if (s->call->pending == 0)
            return false;
    return true;
}

static bool may_reclaim(const struct fetch_part *p, enum reclaim_level level)
{
    if (p->state != PART_DONE || p->disk_running || !p->buf)
        return false;
    if (level == RECLAIM_FORCE)
        return may_steal(p);
    if (p->segs || (p->f->keep && p->written < p->len))
        return false;
    return p->f->keep || level == RECLAIM_AHEAD;
}

static void steal_locked(struct fetch_part *p, struct fetch_work *w)
{
    while (p->segs) {
        struct fetch_seg *s = p->segs;
        p->segs = s->next_part;
        s->part = NULL;
        s->call->again = true;
        part_unref_locked(p, w);
    }
}

/* Gives up one part's buffer; 0 when there is none. */
static size_t reclaim_one(struct fetcher *f, enum reclaim_level level)
{
    struct fetch_work w = FETCH_WORK_INIT;
    void *buf = NULL;
    size_t len = 0;
    lock_acquire(&f->lock);
    for (size_t i = 0; i < f->n && !buf; i++) {
        struct fetch_part *p = f->parts[i];
        if (!may_reclaim(p, level))
            continue;
        buf = p->buf;
        len = p->len;
        p->buf = NULL;
        p->written = p->len;
        steal_locked(p, &w);
        part_take_out_locked(p, &w);
    }
    lock_release(&f->lock);
    if (buf)
        budget_put(f->cache->budget, buf, len);
    fetch_work_run(&w);
    return len;
}

static struct fetcher *next_fetcher(struct cache *c, uint64_t after)
{
    LOCK_SCOPE(&c->lock);
    struct fetcher *f = c->s.fetchers;
    while (f && f->seq <= after)
        f = f->next;
    if (f)
        f->refs++;
    return f;
}

void fetch_reclaim(void *cache, uint64_t want, enum reclaim_level level)
{
    struct cache *c = cache;
    struct fetcher *f;
    uint64_t freed = 0;
    if (level >= RECLAIM_AHEAD)
        behind_write(c);
    for (uint64_t seq = 0; freed < want && (f = next_fetcher(c, seq));) {
        seq = f->seq;
        size_t n;
        while (freed < want && (n = reclaim_one(f, level)) > 0)
            freed += n;
        fetcher_put(f);
    }
}

/* SPDX-License-Identifier: MIT
 * fetch.c: planning: which bytes are where, and what is fetched for the rest. fetch_run.c does it.
 * Invariants, under f->lock
 *   1. Parts in the table are disjoint: no byte is fetched twice at once.
 *   2. A waiting segment's bytes lie behind part->filled, and wake_at is at most where they end:
 * setting wake_at and then looking at filled, against the worker's setting filled and then looking
 * at wake_at, loses no wake-up.
 *   3. pending of a call is the number of its waiting segments; at 0 it is handed to ready() once.
 *   4. Only parts with a worker or finished ones own a buffer: who waits for memory never waits for
 * a job that has not begun. */
#include "cache/fetch.h"
#include "cache/fetch_int.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_RUN (64u << 10) /* present bytes this few do not split a GET */
#define TAIL (256u << 10)     /* a rest of the object this small goes with the GET before it */

/* ---- sources and fetchers ---- */
struct fetch_source *fetch_source_new(struct store *store, struct pool *pool, unsigned timeout_ms,
                                      const char *path)
{
    size_t n = strlen(path) + 1;
    struct fetch_source *s = xcalloc(1, sizeof(*s) + n);
    atomic_init(&s->refs, 1);
    s->store = store;
    s->pool = pool;
    s->timeout_ms = timeout_ms;
    memcpy(s->path, path, n);
    return s;
}

struct fetch_source *fetch_source_ref(struct fetch_source *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void fetch_source_unref(struct fetch_source *s)
{
    if (atomic_fetch_sub(&s->refs, 1) == 1)
        free(s);
}

struct fetcher *fetcher_get(struct cache_object *o)
{
    struct cache *c = o->cache;
    LOCK_SCOPE(&c->lock);
    struct fetcher *f = o->fetcher;
    if (f) {
        f->refs++;
        return f;
    }
    f = xcalloc(1, sizeof(*f));
    f->cache = c;
    f->object = o;
    o->refs++;
    o->fetcher = f;
    f->size = o->size;
    f->keep = o->keep;
    f->refs = 1;
    snprintf(f->version, sizeof(f->version), "%s", o->version);
    lock_init(&f->lock, LOCK_RANK_READER, "fetcher");
    f->seq = ++c->s.fetcher_seq;
    struct fetcher **tail = &c->s.fetchers;
    while (*tail)
        tail = &(*tail)->next;
    *tail = f;
    return f;
}

void fetcher_put(struct fetcher *f)
{
    struct cache *c = f->cache;
    lock_acquire(&c->lock);
    bool last = --f->refs == 0;
    if (last) {
        struct fetcher **p = &c->s.fetchers;
        while (*p != f)
            p = &(*p)->next;
        *p = f->next;
        f->object->fetcher = NULL;
        cond_broadcast(&c->changed);
    }
    lock_release(&c->lock);
    if (!last)
        return;
    assert(f->n == 0);
    cache_object_put(f->object);
    lock_done(&f->lock);
    free(f->parts);
    free(f);
}

/* ---- the table ---- */
static size_t slot_of(const struct fetcher *f, uint64_t off)
{
    size_t lo = 0, hi = f->n; /* the first part that ends behind off */
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (f->parts[mid]->off + f->parts[mid]->len <= off)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct fetch_part *part_at(const struct fetcher *f, uint64_t off)
{
    size_t i = slot_of(f, off);
    return i < f->n && f->parts[i]->off <= off ? f->parts[i] : NULL;
}

static void table_insert(struct fetcher *f, struct fetch_part *p)
{
    size_t i = slot_of(f, p->off);
    assert(i == f->n || p->off + p->len <= f->parts[i]->off);
    if (f->n == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 8;
        f->parts = xrealloc(f->parts, f->cap * sizeof(struct fetch_part *));
    }
    memmove(&f->parts[i + 1], &f->parts[i], (f->n - i) * sizeof(struct fetch_part *));
    f->parts[i] = p;
    f->n++;
    p->in_table = true;
    p->refs++;
}

/* Nobody will look at the bytes any more: what still holds the part is a job that was overtaken and waits
 * for a worker, perhaps behind workers that wait for this memory (invariant 4). */
static bool is_read_out(const struct fetch_part *p)
{
    return p->buf && !p->in_table && !p->segs && !p->disk_queued && !p->disk_running &&
           (p->state == PART_DONE || p->state == PART_DEAD);
}

void part_unref_locked(struct fetch_part *p, struct fetch_work *w)
{
    if (--p->refs) {
        if (!is_read_out(p))
            return;
        struct fetch_freed *b = (struct fetch_freed *)(void *)p->buf;
        *b = (struct fetch_freed){.next = w->freed, .budget = p->f->cache->budget, .len = p->len};
        w->freed = b;
        p->buf = NULL;
        return;
    }
    p->next_dead = w->dead;
    w->dead = p;
}

void part_take_out_locked(struct fetch_part *p, struct fetch_work *w)
{
    struct fetcher *f = p->f;
    lock_assert_held(&f->lock);
    if (!p->in_table)
        return;
    size_t i = slot_of(f, p->off);
    assert(f->parts[i] == p);
    memmove(&f->parts[i], &f->parts[i + 1], (f->n - i - 1) * sizeof(struct fetch_part *));
    f->n--;
    if (p->state == PART_QUEUED || p->state == PART_RUNNING)
        f->flying--;
    p->in_table = false;
    part_unref_locked(p, w);
}

/* A finished part is kept only while something needs it. */
void part_settle_locked(struct fetch_part *p, struct fetch_work *w)
{
    if (p->state != PART_DONE || !p->in_table || p->segs)
        return;
    if (p->f->keep && p->written < p->len)
        return;
    if (!p->retain || p->consumed >= p->len || p->f->readers == 0)
        part_take_out_locked(p, w);
}

/* ---- making parts ---- */
static void fetcher_ref(struct fetcher *f)
{
    LOCK_SCOPE(&f->cache->lock);
    f->refs++;
}

static struct fetch_part *part_make_locked(struct fetcher *f, struct fetch_source *src,
                                           uint64_t from, uint64_t to)
{
    struct fetch_part *p = xcalloc(1, sizeof(*p));
    fetcher_ref(f);
    p->f = f;
    p->src = fetch_source_ref(src);
    p->off = from;
    p->len = (size_t)(to - from);
    op_init(&p->op, "read", 0);
    atomic_init(&p->filled, 0);
    atomic_init(&p->wake_at, SIZE_MAX);
    part_prepare(p);
    table_insert(f, p);
    return p;
}

static struct fetch_part *part_new_locked(struct fetcher *f, const struct fetch_how *how,
                                          uint64_t from, uint64_t to, bool background,
                                          struct fetch_work *w)
{
    struct fetch_part *p = part_make_locked(f, how->src, from, to);
    p->state = PART_QUEUED;
    p->retain = how->part > 0 || how->whole;
    p->background = background;
    p->hurried = !background;
    p->refs++; /* the normal job's */
    f->flying++;
    p->next_submit = w->submit;
    w->submit = p;
    return p;
}

/* Where the hole in the table around `pos` begins and ends. */
static void hole_at(const struct fetcher *f, uint64_t pos, uint64_t *lo, uint64_t *hi)
{
    size_t i = slot_of(f, pos);
    *lo = i > 0 ? f->parts[i - 1]->off + f->parts[i - 1]->len : 0;
    *hi = i < f->n ? f->parts[i]->off : f->size;
}

static uint64_t page_up(uint64_t v)
{
    return (v + CACHE_PAGE - 1) & ~(uint64_t)(CACHE_PAGE - 1);
}

/* Exactly what is missing of [pos, end): short present runs in between are fetched along. */
static uint64_t exact_end(struct fetcher *f, const struct fetch_how *how, uint64_t pos,
                          uint64_t end)
{
    uint64_t to = pos;
    if (how->ignore_disk)
        return page_up(end);
    while (to < end) {
        to += object_gap(f->object, to, end - to);
        uint64_t run = to < end ? object_run(f->object, to, end - to) : 0;
        if (run == 0 || run >= SMALL_RUN || to + run >= end)
            break;
        to += run;
    }
    return page_up(to > pos ? to : pos + 1); /* it may have come to disk just now */
}

/* To the end of the block in which a whole part is full, but not over a block that is present. */
static uint64_t stream_end(struct fetcher *f, const struct fetch_how *how, uint64_t pos,
                           uint64_t hi)
{
    uint64_t block = f->cache->set.block_size;
    uint64_t to = pos - pos % block + how->part;
    if (to + TAIL >= f->size)
        to = f->size;
    if (how->stop && to > page_up(how->stop) && how->stop > pos)
        to = page_up(how->stop);
    if (to > hi)
        to = hi;
    for (uint64_t at = pos - pos % block + block; at < to && !how->ignore_disk; at += block) {
        uint64_t len = at + block < f->size ? block : f->size - at;
        if (object_run(f->object, at, len) == len)
            return at;
    }
    return to;
}

/* The range to fetch for the missing byte at pos, which is wanted up to end. */
static void choose_range(struct fetcher *f, const struct fetch_how *how, uint64_t pos, uint64_t end,
                         uint64_t *ret_from, uint64_t *ret_to)
{
    uint64_t lo, hi;
    hole_at(f, pos, &lo, &hi);
    uint64_t from = how->whole ? 0 : pos - pos % CACHE_PAGE;
    uint64_t to = how->whole  ? f->size
                  : how->part ? stream_end(f, how, pos, hi)
                              : exact_end(f, how, pos, end);
    *ret_from = from > lo ? from : lo;
    *ret_to = to < hi ? to : hi;
}

/* ---- calls ---- */
static struct fetch_seg *add_seg(struct fetch_call *call, uint64_t off, uint64_t end)
{
    struct fetch_seg *s = call->segs ? xcalloc(1, sizeof(*s)) : &call->first;
    *s = (struct fetch_seg){.call = call, .off = off, .len = (size_t)(end - off)};
    if (call->segs)
        call->last->next = s;
    else
        call->segs = s;
    call->last = s;
    return s;
}

/* A reader waits for a part that was queued as read-ahead. */
static void hurry_locked(struct fetch_part *p, struct fetch_work *w)
{
    if (p->state != PART_QUEUED || p->hurried)
        return;
    p->hurried = true;
    p->refs++;
    p->next_hurry = w->hurry;
    w->hurry = p;
}

static void join_locked(struct fetch_part *p, struct fetch_seg *s, struct fetch_work *w)
{
    size_t need = (size_t)(s->off + s->len - p->off);
    s->part = p;
    s->next_part = p->segs;
    p->segs = s;
    p->refs++;
    s->call->waited |= p->given;
    if (p->state == PART_DONE)
        return;
    if (atomic_load(&p->wake_at) > need)
        atomic_store(&p->wake_at, need);
    if (atomic_load(&p->filled) >= need)
        return;
    s->waiting = true;
    s->call->pending++;
    s->call->waited = true;
    hurry_locked(p, w);
}

void fetch_plan_locked(struct fetcher *f, struct fetch_call *call, const struct fetch_how *how,
                       uint64_t off, uint64_t len, struct fetch_work *w)
{
    lock_assert_held(&f->lock);
    assert(!call->segs && call->pending == 0);
    for (uint64_t pos = off, end = off + len; pos < end;) {
        struct fetch_part *p = part_at(f, pos);
        uint64_t run = p || how->ignore_disk ? 0 : object_run(f->object, pos, end - pos);
        if (!p && run == 0) {
            uint64_t from, to;
            choose_range(f, how, pos, end, &from, &to);
            p = part_new_locked(f, how, from, to, false, w);
        }
        uint64_t stop = p ? p->off + p->len : pos + run;
        if (stop > end)
            stop = end;
        struct fetch_seg *s = add_seg(call, pos, stop);
        if (p)
            join_locked(p, s, w);
        pos = stop;
    }
}

static void leave_part(struct fetch_seg *s)
{
    struct fetch_seg **p = &s->part->segs;
    while (*p != s)
        p = &(*p)->next_part;
    *p = s->next_part;
    s->call->pending -= s->waiting;
    s->waiting = false;
}

void fetch_release_locked(struct fetcher *f, struct fetch_call *call, bool consumed,
                          struct fetch_work *w)
{
    lock_assert_held(&f->lock);
    for (struct fetch_seg *s = call->segs, *next; s; s = next) {
        next = s->next;
        struct fetch_part *p = s->part;
        if (p) {
            leave_part(s);
            if (consumed)
                p->consumed += s->len;
            part_settle_locked(p, w);
            part_unref_locked(p, w);
        }
        if (s != &call->first)
            free(s);
    }
    call->segs = call->last = NULL;
}

/* ---- read-ahead ---- */
bool fetch_give_locked(struct fetcher *f, struct fetch_source *src, void *buf, size_t len,
                       struct fetch_work *w)
{
    uint64_t lo, hi;
    lock_assert_held(&f->lock);
    hole_at(f, 0, &lo, &hi);
    if (f->stale || lo > 0 || hi < len)
        return false;
    struct fetch_part *p = part_make_locked(f, src, 0, len);
    p->buf = buf;
    p->state = PART_DONE;
    p->retain = p->given = true;
    atomic_store(&p->filled, len);
    part_keep_locked(p, w);
    return true;
}

uint64_t fetch_ahead_locked(struct fetcher *f, const struct fetch_how *how, uint64_t from,
                            uint64_t to, unsigned flying_max, struct fetch_work *w)
{
    uint64_t pos = from, block = f->cache->set.block_size;
    lock_assert_held(&f->lock);
    while (pos < to && f->flying < flying_max) {
        struct fetch_part *p = part_at(f, pos);
        if (p) {
            pos = p->off + p->len;
            continue;
        }
        uint64_t rest = block - pos % block;
        if (pos + rest > f->size)
            rest = f->size - pos;
        if (object_run(f->object, pos, rest) == rest) {
            pos += rest;
            continue;
        }
        /* one GET at least: starting it gives back what is on disk */
        if (f->flying && !budget_has_room(f->cache->budget, how->part))
            break;
        uint64_t start, end;
        choose_range(f, how, pos, to, &start, &end);
        (void)part_new_locked(f, how, start, end, true, w);
        pos = end;
    }
    return pos;
}

void fetch_cancel_locked(struct fetcher *f, const struct fetch_source *src, uint64_t from,
                         uint64_t to, struct fetch_work *w)
{
    lock_assert_held(&f->lock);
    for (size_t i = f->n; i-- > 0;) {
        struct fetch_part *p = f->parts[i];
        if ((src && p->src != src) || p->segs || p->off >= to || p->off + p->len <= from)
            continue;
        if (p->state == PART_DONE) {
            p->retain = false;
            part_settle_locked(p, w);
            continue;
        }
        if (p->f->keep && atomic_load(&p->filled) == p->len)
            continue; /* all of it has come: it goes to disk */
        op_cancel(&p->op);
        part_take_out_locked(p, w);
        if (p->state == PART_QUEUED)
            p->state = PART_DEAD;
    }
}

/* SPDX-License-Identifier: MIT
 * budget.c: bounded buffers.
 * Invariants, under b->lock: (1) nothing is handed out that makes used + idle_bytes exceed total;
 * (2) used is what callers hold, idle_bytes the sum over idle[0 .. n_idle); (3) a get that may not
 * wait fails while waiting > 0. Memory is mapped outside the lock, after it was counted and what it
 * displaces was unmapped. */
#include "cache/budget.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/lock.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

#define KEEP_FROM ((size_t)256 << 10) /* smaller ones are malloc's business */
#define IDLE_MAX 64
#define WAIT_SLICE_MS 50
#define FORCE_AFTER 4 /* slices */
#define PAGE 4096

struct idle_buffer {
    void *p;
    size_t size;
};

struct budget {
    budget_reclaim_fn *reclaim;
    void *reclaim_arg;
    struct lock lock;
    struct cond room;
    uint64_t total, used, idle_bytes;
    struct idle_buffer idle[IDLE_MAX];
    unsigned n_idle, waiting;
    bool touched; /* since the last trim */
};

static size_t rounded(size_t size)
{
    return (size + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static void *memory_get(size_t size)
{
    if (size < KEEP_FROM)
        return aligned_alloc(PAGE, size);
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void memory_put(void *p, size_t size)
{
    if (!p)
        return;
    if (size < KEEP_FROM)
        free(p);
    else
        (void)munmap(p, size);
}

struct budget *budget_new(uint64_t total)
{
    struct budget *b = xcalloc(1, sizeof(*b));
    b->total = total;
    lock_init(&b->lock, LOCK_RANK_BUDGET, "memory budget");
    cond_init(&b->room);
    return b;
}

void budget_free(struct budget *b)
{
    if (!b)
        return;
    assert(b->used == 0);
    for (unsigned i = 0; i < b->n_idle; i++)
        memory_put(b->idle[i].p, b->idle[i].size);
    cond_done(&b->room);
    lock_done(&b->lock);
    free(b);
}

void budget_set_reclaim(struct budget *b, budget_reclaim_fn *fn, void *arg)
{
    b->reclaim = fn;
    b->reclaim_arg = arg;
}

static struct idle_buffer take_idle_locked(struct budget *b, unsigned i)
{
    struct idle_buffer taken = b->idle[i];
    b->idle[i] = b->idle[--b->n_idle];
    b->idle_bytes -= taken.size;
    return taken;
}

/* Counts `size` as used. *ret_p: a kept buffer, or NULL: to be mapped. Kept buffers of other sizes
 * that stand in the way are given in drop[]. */
static bool take_locked(struct budget *b, size_t size, void **ret_p, struct idle_buffer *drop,
                        unsigned *n_drop)
{
    *ret_p = NULL;
    b->touched = true;
    if (b->used + size > b->total)
        return false;
    b->used += size;
    for (unsigned i = b->n_idle; i-- > 0 && !*ret_p;)
        if (b->idle[i].size == size)
            *ret_p = take_idle_locked(b, i).p;
    while (b->used + b->idle_bytes > b->total && b->n_idle)
        drop[(*n_drop)++] = take_idle_locked(b, b->n_idle - 1);
    return true;
}

static bool try_get(struct budget *b, size_t size, bool first, void **ret)
{
    struct idle_buffer drop[IDLE_MAX];
    unsigned n_drop = 0;
    lock_acquire(&b->lock);
    bool ok = (first || b->waiting == 0) && take_locked(b, size, ret, drop, &n_drop);
    lock_release(&b->lock);
    for (unsigned i = 0; i < n_drop; i++)
        memory_put(drop[i].p, drop[i].size);
    if (!ok)
        return false;
    if (!*ret)
        *ret = memory_get(size);
    if (!*ret) {
        budget_put(b, NULL, size);
        return false;
    }
    return true;
}

static void reclaim(struct budget *b, uint64_t want, enum reclaim_level level)
{
    if (b->reclaim)
        b->reclaim(b->reclaim_arg, want, level);
}

static void *wait_get(struct budget *b, size_t size)
{
    void *p = NULL;
    lock_acquire(&b->lock);
    b->waiting++;
    lock_release(&b->lock);
    for (unsigned tries = 0;; tries++) {
        reclaim(b, size, tries < FORCE_AFTER ? RECLAIM_AHEAD : RECLAIM_FORCE);
        if (try_get(b, size, true, &p))
            break;
        lock_acquire(&b->lock);
        bool room = b->used + size <= b->total;
        if (!room)
            cond_wait_until(&b->room, &b->lock, clock_now_ns() + WAIT_SLICE_MS * NS_PER_MS);
        lock_release(&b->lock);
        if (room)
            clock_sleep_ms(1); /* freed meanwhile, or the system has no memory */
    }
    lock_acquire(&b->lock);
    b->waiting--;
    lock_release(&b->lock);
    return p;
}

void *budget_get(struct budget *b, size_t size, bool wait)
{
    void *p = NULL;
    size = rounded(size);
    if (size == 0 || size > budget_total(b))
        return NULL;
    if (try_get(b, size, false, &p))
        return p;
    if (wait)
        return wait_get(b, size);
    reclaim(b, size, RECLAIM_SPARE);
    return try_get(b, size, false, &p) ? p : NULL;
}

void budget_put(struct budget *b, void *p, size_t size)
{
    size = rounded(size);
    lock_acquire(&b->lock);
    bool keep = p && size >= KEEP_FROM && b->n_idle < IDLE_MAX;
    if (keep) {
        b->idle[b->n_idle++] = (struct idle_buffer){p, size};
        b->idle_bytes += size;
        b->used -= size;
    }
    bool wake = b->waiting > 0;
    lock_release(&b->lock);
    if (!keep) {
        memory_put(p, size);
        lock_acquire(&b->lock);
        b->used -= size;
        lock_release(&b->lock);
    }
    if (wake)
        cond_broadcast(&b->room);
}

bool budget_has_room(struct budget *b, size_t size)
{
    LOCK_SCOPE(&b->lock);
    return b->waiting == 0 && b->used + rounded(size) <= b->total;
}

uint64_t budget_total(struct budget *b)
{
    LOCK_SCOPE(&b->lock);
    return b->total;
}

void budget_resize(struct budget *b, uint64_t total)
{
    LOCK_SCOPE(&b->lock);
    b->total = total;
}

uint64_t budget_used(struct budget *b)
{
    LOCK_SCOPE(&b->lock);
    return b->used;
}

void budget_trim(struct budget *b)
{
    struct idle_buffer drop[IDLE_MAX];
    unsigned n = 0;
    lock_acquire(&b->lock);
    while (!b->touched && b->n_idle)
        drop[n++] = take_idle_locked(b, b->n_idle - 1);
    b->touched = false;
    lock_release(&b->lock);
    for (unsigned i = 0; i < n; i++)
        memory_put(drop[i].p, drop[i].size);
}

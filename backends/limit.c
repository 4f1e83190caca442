/* SPDX-License-Identifier: MIT
 * limit.c: a store that is asked no more often, and moves no more bytes, than its owner wants.
 *
 * Three token buckets (requests, bytes read, bytes written), each filled for one second at most. A request
 * takes its tokens when it comes and waits until the bucket is out of debt: so they go in the order in which
 * they came, and one that is larger than a second's worth delays those behind it. What was not used (the end
 * of an object, a failure, an interrupt) is given back. It stands inside the retry wrapper: each attempt
 * counts. Time that is waited here is not the store's: a deadline moves by as much. */
#include "backends/registry.h"
#include "backends/wrap.h"

#include "base/clock.h"
#include "base/lock.h"

struct bucket {
    double per_s;   /* 0: no limit */
    double tokens;  /* below 0: in debt */
    uint64_t at_ns; /* as of */
};

enum { REQUESTS = 0, READ, WRITTEN, BUCKETS };

struct limit {
    struct wrapper base;
    struct stat_counter *waited_ms;
    struct lock lock;
    struct bucket b[BUCKETS]; /* under it */
};

/* How long to wait, in ns. */
static uint64_t take_locked(struct bucket *b, uint64_t n, uint64_t now)
{
    double full = b->per_s > 1 ? b->per_s : 1;
    if (b->per_s <= 0 || n == 0)
        return 0;
    b->tokens += b->per_s * (double)(now - b->at_ns) / (double)NS_PER_S;
    b->at_ns = now;
    if (b->tokens > full)
        b->tokens = full;
    b->tokens -= (double)n;
    return b->tokens < 0 ? (uint64_t)(-b->tokens / b->per_s * (double)NS_PER_S) : 0;
}

static void give_back(struct limit *l, const uint64_t n[BUCKETS])
{
    LOCK_SCOPE(&l->lock);
    for (int i = 0; i < BUCKETS; i++)
        l->b[i].tokens += (double)n[i];
}

static int wait_for(struct limit *l, struct op *op, uint64_t ns)
{
    uint64_t begun = clock_now_ns();
    if (op->deadline_ns)
        op->deadline_ns += ns;
    int r = op_sleep(op, (unsigned)((ns + NS_PER_MS - 1) / NS_PER_MS));
    if (l->waited_ms)
        stat_add(l->waited_ms, (int64_t)((clock_now_ns() - begun) / NS_PER_MS));
    return r;
}

static int limit_around(struct wrapper *w, struct op *op, struct call *c)
{
    struct limit *l = (struct limit *)w;
    uint64_t n[BUCKETS] = {[REQUESTS] = c->kind != STORE_OP_SIGN,
                           [READ] = c->kind == STORE_OP_READ ? c->u.read.req->iov.iov_len : 0,
                           [WRITTEN] = call_bytes_written(c)};
    uint64_t now = clock_now_ns(), wait = 0;
    lock_acquire(&l->lock);
    for (int i = 0; i < BUCKETS; i++) {
        uint64_t ns = take_locked(&l->b[i], n[i], now);
        wait = ns > wait ? ns : wait;
    }
    lock_release(&l->lock);
    int r = wait ? wait_for(l, op, wait) : 0;
    if (r < 0) {
        give_back(l, n);
        return r;
    }
    r = call_forward(w->base.next, op, c);
    uint64_t used = c->kind == STORE_OP_READ && r == 0 ? call_bytes_read(c) : 0;
    n[REQUESTS] = n[WRITTEN] = 0;
    n[READ] = n[READ] > used && r == 0 ? n[READ] - used : 0;
    give_back(l, n);
    return r;
}

static void limit_done(struct wrapper *w)
{
    lock_done(&((struct limit *)w)->lock);
}

static const struct store_class limit_class = {
    .abi = STORE_ABI,
    .name = "limit",
    .summary = "limits requests and bandwidth",
    WRAP_SLOTS,
};

struct store *store_wrap_limit(struct store *next, const struct limit_options *o, struct stats *stats)
{
    struct limit *l = xcalloc(1, sizeof(*l));
    wrapper_init(&l->base, &limit_class, next, limit_around);
    l->base.done = limit_done;
    lock_init(&l->lock, LOCK_RANK_STORE, "limit");
    l->b[REQUESTS].per_s = o->requests_per_s;
    l->b[READ].per_s = (double)o->read_per_s;
    l->b[WRITTEN].per_s = (double)o->written_per_s;
    for (int i = 0; i < BUCKETS; i++) {
        l->b[i].at_ns = clock_now_ns();
        l->b[i].tokens = l->b[i].per_s > 1 ? l->b[i].per_s : 1;
    }
    l->waited_ms = !stats ? NULL : stats_counter(stats, "quayfs_backend_limit_wait_ms_total",
                                 "Milliseconds that requests waited for rate_limit and bandwidth", "key",
                                 next->key, NULL);
    return &l->base.base;
}

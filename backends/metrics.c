/* SPDX-License-Identifier: MIT
 * metrics.c: counts what a store does, and remembers how it is (struct store_health).
 *
 *   quayfs_backend_requests_total{key,op,status}   status is "ok" or an errno name
 *   quayfs_backend_read_bytes_total{key}, quayfs_backend_written_bytes_total{key}
 *   quayfs_backend_seconds{key,op}                 histogram
 *   quayfs_backend_inflight{key}                   gauge
 *   quayfs_backend_errors_total{key}               requests that failed for a sick store's reasons
 *   quayfs_backend_retries_total{key}              attempts after the first
 * It is outermost: a request counts once, however often the retry wrapper repeated it, and its time
 * contains the waits.
 * Handles are looked up at the first use and kept in a table: later uses take no lock. */
#include "backends/registry.h"
#include "backends/wrap.h"

#include "base/clock.h"
#include "base/lock.h"

#include <errno.h>
#include <stdatomic.h>

struct metrics {
    struct wrapper base;
    struct stats *stats;
    struct stat_counter *read_bytes, *written_bytes, *inflight, *errors, *retries;
    _Atomic(struct stat_counter *) requests[STORE_OP_COUNT][ERRNO_NAMES];
    _Atomic(struct stat_histogram *) seconds[STORE_OP_COUNT];
    struct {
        struct lock lock;
        struct store_health health;
    } sync;
};

static struct stat_counter *request_counter(struct metrics *m, enum store_op kind, int code)
{
    unsigned i = errno_index(code);
    struct stat_counter *c = atomic_load_explicit(&m->requests[kind][i], memory_order_acquire);
    if (!c) { /* two threads may both look it up; they get the same */
        c = stats_counter(m->stats, "quayfs_backend_requests_total", "Requests to a store", "key",
                          m->base.base.key, "op", store_op_name(kind), "status", errno_name(code),
                          NULL);
        atomic_store_explicit(&m->requests[kind][i], c, memory_order_release);
    }
    return c;
}

static struct stat_histogram *seconds_histogram(struct metrics *m, enum store_op kind)
{
    struct stat_histogram *h = atomic_load_explicit(&m->seconds[kind], memory_order_acquire);
    if (!h) {
        h = stats_histogram(m->stats, "quayfs_backend_seconds", "Duration of requests to a store",
                            "key", m->base.base.key, "op", store_op_name(kind), NULL);
        atomic_store_explicit(&m->seconds[kind], h, memory_order_release);
    }
    return h;
}

/* Errors that tell of a sick store; all others are answers, or the caller's doing. */
static bool is_sick(int r)
{
    switch (-r) {
    case EIO:
    case EBUSY:
    case EACCES:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ECONNREFUSED:
    case ECONNRESET:
    case EPROTO:
    case ENOSPC:
    case EDQUOT:
    case EUCLEAN:
        return true;
    default:
        return false;
    }
}

static void note_health(struct metrics *m, const struct op *op, enum store_op kind, int r)
{
    struct timespec now = clock_wall();
    LOCK_SCOPE(&m->sync.lock);
    struct store_health *h = &m->sync.health;
    if (!is_sick(r)) {
        h->last_ok = now;
        h->errors_in_row = 0;
        return;
    }
    h->last_error = now;
    h->errors_in_row++;
    h->code = -r;
    snprintf(h->op, sizeof(h->op), "%s", store_op_name(kind));
    snprintf(h->text, sizeof(h->text), "%s", err_text(&op->err));
}

static int metrics_around(struct wrapper *w, struct op *op, struct call *c)
{
    struct metrics *m = (struct metrics *)w;
    uint64_t start = clock_now_ns();
    stat_add(m->inflight, 1);
    op->attempt = 1;
    int r = call_forward(w->base.next, op, c);
    stat_add(m->inflight, -1);
    stat_observe_ns(seconds_histogram(m, c->kind), clock_now_ns() - start);
    stat_add(request_counter(m, c->kind, -r), 1);
    if (op->attempt > 1)
        stat_add(m->retries, op->attempt - 1);
    if (is_sick(r))
        stat_add(m->errors, 1);
    if (r == 0) {
        stat_add(m->read_bytes, (int64_t)call_bytes_read(c));
        stat_add(m->written_bytes, (int64_t)call_bytes_written(c));
    }
    if (r != -EINTR)
        note_health(m, op, c->kind, r);
    return r;
}

static void metrics_done(struct wrapper *w)
{
    struct metrics *m = (struct metrics *)w;
    lock_done(&m->sync.lock);
}

static const struct store_class metrics_class = {
    .abi = STORE_ABI,
    .name = "metrics",
    .summary = "counts requests",
    WRAP_SLOTS,
};

struct store *store_wrap_metrics(struct store *next, struct stats *stats)
{
    struct metrics *m = xcalloc(1, sizeof(*m));
    wrapper_init(&m->base, &metrics_class, next, metrics_around);
    m->base.done = metrics_done;
    m->stats = stats;
    lock_init(&m->sync.lock, LOCK_RANK_LEAF, "store health");
    if (!m->base.base.key)
        m->base.base.key = xstrdup("");
    const char *key = m->base.base.key;
    m->read_bytes = stats_counter(stats, "quayfs_backend_read_bytes_total",
                                  "Bytes read from a store", "key", key, NULL);
    m->written_bytes = stats_counter(stats, "quayfs_backend_written_bytes_total",
                                     "Bytes written to a store", "key", key, NULL);
    m->errors = stats_counter(stats, "quayfs_backend_errors_total",
                              "Requests that a store failed to answer", "key", key, NULL);
    m->retries = stats_counter(stats, "quayfs_backend_retries_total",
                               "Attempts after the first of a request", "key", key, NULL);
    m->inflight = stats_gauge(stats, "quayfs_backend_inflight", "Requests under way to a store",
                              "key", key, NULL);
    return &m->base.base;
}

bool store_health(struct store *s, struct store_health *ret)
{
    for (; s; s = s->next) {
        if (s->cls != &metrics_class)
            continue;
        struct metrics *m = (struct metrics *)s;
        LOCK_SCOPE(&m->sync.lock);
        *ret = m->sync.health;
        return true;
    }
    return false;
}

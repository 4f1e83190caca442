/* SPDX-License-Identifier: MIT
 * stats.h: counters, gauges and latency histograms with labels, as Prometheus text.
 *
 * A registry belongs to a program (no globals); handles are found once and then are lock-free.
 *     struct stat_counter *c = stats_counter(reg, "quayfs_cache_hits_total", "Reads served ...",
 *                                            "key", "lake", NULL);
 *     stat_add(c, 1);     buf b; stats_render(reg, &b);
 * Labels: name, value pairs ended by NULL; escaped when rendered. Same name and labels give the same
 * handle. Threads: any. Handles live as long as the registry. */
#ifndef QUAY_BASE_STATS_H
#define QUAY_BASE_STATS_H

#include "base/buf.h"

#include <stdatomic.h>
#include <stdint.h>

struct stats;
struct stat_counter {
    atomic_int_fast64_t value;
};
struct stat_histogram;

struct stats *stats_new(void);
void stats_free(struct stats *s);
struct stat_counter *stats_counter(struct stats *s, const char *name, const char *help, ...)
    __attribute__((sentinel));
struct stat_counter *stats_gauge(struct stats *s, const char *name, const char *help, ...)
    __attribute__((sentinel));
/* Seconds; buckets 0.1 ms .. 60 s in powers of about 2.5. */
struct stat_histogram *stats_histogram(struct stats *s, const char *name, const char *help, ...)
    __attribute__((sentinel));
void stat_observe_ns(struct stat_histogram *h, uint64_t ns);
void stats_render(struct stats *s, struct buf *b);
/* What a series is now: of a histogram the buckets (not cumulative, the last is +Inf), else the value. */
struct stat_sample {
    const char *name;
    const char *const *labels; /* name, value, name, value ... */
    size_t n_labels;
    int64_t value;
    const uint64_t *buckets;   /* STATS_BUCKETS; NULL: no histogram */
    double seconds;            /* their sum */
};
#define STATS_BUCKETS 17
double stats_bound(size_t i); /* upper bound of bucket i < STATS_BUCKETS - 1, in seconds */
/* Every series; fn runs under the registry's lock. */
void stats_each(struct stats *s, void (*fn)(void *arg, const struct stat_sample *x), void *arg);
const char *stat_label(const struct stat_sample *x, const char *name); /* "" when it has none */
/* Sum over all label sets of `name` in which label `label` is `value` (label NULL: all). */
int64_t stats_sum(struct stats *s, const char *name, const char *label, const char *value);

static inline void stat_add(struct stat_counter *c, int64_t n)
{
    atomic_fetch_add_explicit(&c->value, n, memory_order_relaxed);
}
static inline void stat_set(struct stat_counter *c, int64_t n)
{
    atomic_store_explicit(&c->value, n, memory_order_relaxed);
}
static inline int64_t stat_get(struct stat_counter *c)
{
    return atomic_load_explicit(&c->value, memory_order_relaxed);
}

#endif

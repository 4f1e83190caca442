/* SPDX-License-Identifier: MIT
 * stats.c: the registry of counters, gauges and histograms.
 * Invariants: (1) families and series are only ever added, under s->lock, and freed with the
 * registry, so handles stay valid and their values are read and written without it; (2) the order
 * of output is the order of first use; (3) one name has one type. */
#include "base/stats.h"

#include "base/cleanup.h"
#include "base/lock.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum stat_type { STAT_COUNTER = 1, STAT_GAUGE, STAT_HISTOGRAM };

/* Upper bounds in microseconds; the last bucket is +Inf. */
static const uint64_t bounds_us[] = {100,    250,    500,     1000,    3000,     6000,     15000,   40000,
                                     100000, 250000, 600000, 1500000, 4000000, 10000000, 25000000, 60000000};
#define N_BOUNDS ARRAY_LEN(bounds_us)
_Static_assert(N_BOUNDS + 1 == STATS_BUCKETS, "stats.h says how many buckets there are");

struct stat_histogram {
    atomic_uint_fast64_t buckets[N_BOUNDS + 1];
    atomic_uint_fast64_t sum_us; /* microseconds: 64 bits last for 500,000 years */
};

struct series {
    struct stat_counter counter;
    struct stat_histogram histogram;
    char **labels; /* name, value, name, value ... */
    size_t n_labels;
    struct series *next;
};

struct family {
    char *name, *help;
    enum stat_type type;
    struct series *series, **tail;
    struct family *next;
};

struct stats {
    struct lock lock;
    struct family *families, **tail;
};

struct stats *stats_new(void)
{
    struct stats *s = xcalloc(1, sizeof(*s));
    lock_init(&s->lock, LOCK_RANK_LEAF, "stats");
    s->tail = &s->families;
    return s;
}

static void series_free(struct series *e)
{
    for (size_t i = 0; i < e->n_labels; i++)
        free(e->labels[i]);
    free(e->labels);
    free(e);
}

void stats_free(struct stats *s)
{
    if (!s)
        return;
    struct family *next_family;
    for (struct family *f = s->families; f; f = next_family) {
        struct series *next;
        for (struct series *e = f->series; e; e = next) {
            next = e->next;
            series_free(e);
        }
        next_family = f->next;
        free(f->name);
        free(f->help);
        free(f);
    }
    lock_done(&s->lock);
    free(s);
}

static struct family *family_locked(struct stats *s, enum stat_type type, const char *name,
                                    const char *help)
{
    for (struct family *f = s->families; f; f = f->next) {
        if (strcmp(f->name, name) != 0)
            continue;
        if (f->type != type) {
            fprintf(stderr, "stats: %s is used with two types\n", name);
            abort();
        }
        return f;
    }
    struct family *f = xcalloc(1, sizeof(*f));
    f->name = xstrdup(name);
    f->help = xstrdup(help);
    f->type = type;
    f->tail = &f->series;
    *s->tail = f;
    s->tail = &f->next;
    return f;
}

static bool same_labels(const struct series *a, const struct series *b)
{
    if (a->n_labels != b->n_labels)
        return false;
    for (size_t i = 0; i < a->n_labels; i++)
        if (strcmp(a->labels[i], b->labels[i]) != 0)
            return false;
    return true;
}

static struct series *series_get(struct stats *s, enum stat_type type, const char *name,
                                 const char *help, va_list ap)
{
    struct series *mine = xcalloc(1, sizeof(*mine));
    for (;;) {
        const char *label = va_arg(ap, const char *);
        if (!label)
            break;
        const char *value = va_arg(ap, const char *);
        mine->labels = xrealloc(mine->labels, (mine->n_labels + 2) * sizeof(char *));
        mine->labels[mine->n_labels++] = xstrdup(label);
        mine->labels[mine->n_labels++] = xstrdup(value ? value : "");
    }
    LOCK_SCOPE(&s->lock);
    struct family *f = family_locked(s, type, name, help);
    for (struct series *e = f->series; e; e = e->next) {
        if (same_labels(e, mine)) {
            series_free(mine);
            return e;
        }
    }
    *f->tail = mine;
    f->tail = &mine->next;
    return mine;
}

struct stat_counter *stats_counter(struct stats *s, const char *name, const char *help, ...)
{
    va_list ap;
    va_start(ap, help);
    struct series *e = series_get(s, STAT_COUNTER, name, help, ap);
    va_end(ap);
    return &e->counter;
}

struct stat_counter *stats_gauge(struct stats *s, const char *name, const char *help, ...)
{
    va_list ap;
    va_start(ap, help);
    struct series *e = series_get(s, STAT_GAUGE, name, help, ap);
    va_end(ap);
    return &e->counter;
}

struct stat_histogram *stats_histogram(struct stats *s, const char *name, const char *help, ...)
{
    va_list ap;
    va_start(ap, help);
    struct series *e = series_get(s, STAT_HISTOGRAM, name, help, ap);
    va_end(ap);
    return &e->histogram;
}

void stat_observe_ns(struct stat_histogram *h, uint64_t ns)
{
    size_t i = 0;
    while (i < N_BOUNDS && ns > bounds_us[i] * 1000)
        i++;
    atomic_fetch_add_explicit(&h->buckets[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_us, ns / 1000, memory_order_relaxed);
}

static void add_escaped(struct buf *b, const char *s, bool quotes)
{
    for (; *s; s++) {
        if (*s == '\n') {
            buf_adds(b, "\\n");
            continue;
        }
        if (*s == '\\' || (quotes && *s == '"'))
            buf_addc(b, '\\');
        buf_addc(b, *s);
    }
}

/* {a="b",le="1.5"}; `le` may be NULL. */
static void add_labels(struct buf *b, const struct series *e, const char *le)
{
    if (e->n_labels == 0 && !le)
        return;
    buf_addc(b, '{');
    for (size_t i = 0; i < e->n_labels; i += 2) {
        buf_addf(b, "%s%s=\"", i ? "," : "", e->labels[i]);
        add_escaped(b, e->labels[i + 1], true);
        buf_addc(b, '"');
    }
    if (le)
        buf_addf(b, "%sle=\"%s\"", e->n_labels ? "," : "", le);
    buf_addc(b, '}');
}

static void render_histogram(struct buf *b, const char *name, struct series *e)
{
    uint64_t count = 0;
    for (size_t i = 0; i <= N_BOUNDS; i++) {
        char le[32] = "+Inf";
        count += atomic_load_explicit(&e->histogram.buckets[i], memory_order_relaxed);
        if (i < N_BOUNDS)
            snprintf(le, sizeof(le), "%g", (double)bounds_us[i] / 1000000);
        buf_addf(b, "%s_bucket", name);
        add_labels(b, e, le);
        buf_addf(b, " %llu\n", (unsigned long long)count);
    }
    uint64_t us = atomic_load_explicit(&e->histogram.sum_us, memory_order_relaxed);
    buf_addf(b, "%s_sum", name);
    add_labels(b, e, NULL);
    buf_addf(b, " %llu.%06llu\n%s_count", (unsigned long long)(us / 1000000),
             (unsigned long long)(us % 1000000), name);
    add_labels(b, e, NULL);
    buf_addf(b, " %llu\n", (unsigned long long)count);
}

void stats_render(struct stats *s, struct buf *b)
{
    static const char *const types[] = {"", "counter", "gauge", "histogram"};
    LOCK_SCOPE(&s->lock);
    for (struct family *f = s->families; f; f = f->next) {
        buf_addf(b, "# HELP %s ", f->name);
        add_escaped(b, f->help, false);
        buf_addf(b, "\n# TYPE %s %s\n", f->name, types[f->type]);
        for (struct series *e = f->series; e; e = e->next) {
            if (f->type == STAT_HISTOGRAM) {
                render_histogram(b, f->name, e);
                continue;
            }
            buf_adds(b, f->name);
            add_labels(b, e, NULL);
            buf_addf(b, " %lld\n", (long long)stat_get(&e->counter));
        }
    }
}

static bool has_label(const struct series *e, const char *label, const char *value)
{
    for (size_t i = 0; i < e->n_labels; i += 2)
        if (strcmp(e->labels[i], label) == 0)
            return strcmp(e->labels[i + 1], value ? value : "") == 0;
    return false;
}

int64_t stats_sum(struct stats *s, const char *name, const char *label, const char *value)
{
    int64_t sum = 0;
    LOCK_SCOPE(&s->lock);
    for (struct family *f = s->families; f; f = f->next) {
        if (strcmp(f->name, name) != 0)
            continue;
        for (struct series *e = f->series; e; e = e->next) {
            if (label && !has_label(e, label, value))
                continue;
            if (f->type != STAT_HISTOGRAM)
                sum += stat_get(&e->counter);
            for (size_t i = 0; f->type == STAT_HISTOGRAM && i <= N_BOUNDS; i++)
                sum +=
                    (int64_t)atomic_load_explicit(&e->histogram.buckets[i], memory_order_relaxed);
        }
    }
    return sum;
}

double stats_bound(size_t i)
{
    return (double)bounds_us[i] / 1000000;
}

const char *stat_label(const struct stat_sample *x, const char *name)
{
    for (size_t i = 0; i < x->n_labels; i += 2)
        if (strcmp(x->labels[i], name) == 0)
            return x->labels[i + 1];
    return "";
}

void stats_each(struct stats *s, void (*fn)(void *arg, const struct stat_sample *x), void *arg)
{
    uint64_t buckets[STATS_BUCKETS];
    LOCK_SCOPE(&s->lock);
    for (const struct family *f = s->families; f; f = f->next)
        for (struct series *e = f->series; e; e = e->next) {
            struct stat_sample x = {.name = f->name,
                                    .labels = (const char *const *)e->labels,
                                    .n_labels = e->n_labels};
            if (f->type == STAT_HISTOGRAM) {
                for (size_t i = 0; i < STATS_BUCKETS; i++)
                    buckets[i] =
                        atomic_load_explicit(&e->histogram.buckets[i], memory_order_relaxed);
                x.buckets = buckets;
                x.seconds =
                    (double)atomic_load_explicit(&e->histogram.sum_us, memory_order_relaxed) / 1e6;
            } else {
                x.value = stat_get(&e->counter);
            }
            fn(arg, &x);
        }
}

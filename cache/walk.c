/* SPDX-License-Identifier: MIT
 * walk.c: see walk.h. A place is a directory in which names are being asked for; a few are remembered, as who
 * walks a tree has one on each level. */
#include "cache/walk.h"

#include "base/cleanup.h"

#define PLACES 8
#define NEAR 16     /* rows that may be skipped: names that need no question */
#define RUN_MIN 2   /* names in order before anything is asked for ahead */
#define QUEUE_MAX 256

struct place {
    char *dir;
    size_t last; /* the row asked for last */
    size_t next; /* the first one not asked for ahead */
    unsigned run;
    uint64_t used;
};

struct target {
    struct target *next;
    char *path;
    bool dir;
};

struct worker {
    struct pool_job job;
    struct walk *w;
    struct op op;
    struct worker *next;
};

struct walk {
    struct volume *v;
    struct lock lock;
    struct place places[PLACES];
    uint64_t uses;
    struct target *first, **end;
    size_t queued;
    struct worker *workers;
    unsigned n_workers, workers_max;
    bool stopped;
};

struct walk *walk_new(struct volume *v)
{
    struct walk *w = xcalloc(1, sizeof(*w));
    unsigned n = v->store->limits.concurrency;
    w->v = v;
    w->workers_max = n && n < WALK_WORKERS ? n : WALK_WORKERS;
    w->end = &w->first;
    lock_init(&w->lock, LOCK_RANK_LEAF, "walk");
    return w;
}

static struct target *take_target_locked(struct walk *w)
{
    struct target *t = w->first;
    if (!t)
        return NULL;
    w->first = t->next;
    w->queued--;
    if (!w->first)
        w->end = &w->first;
    return t;
}

static void target_free(struct target *t)
{
    free(t->path);
    free(t);
}

static void drop_targets_locked(struct walk *w)
{
    struct target *t;
    while ((t = take_target_locked(w)) != NULL)
        target_free(t);
}

void walk_stop(struct walk *w)
{
    LOCK_SCOPE(&w->lock);
    w->stopped = true;
    drop_targets_locked(w);
    for (struct worker *k = w->workers; k; k = k->next)
        op_cancel(&k->op);
}

void walk_free(struct walk *w)
{
    if (!w)
        return;
    for (unsigned i = 0; i < PLACES; i++)
        free(w->places[i].dir);
    lock_done(&w->lock);
    free(w);
}

/* ---- workers ---- */

static void ask(struct volume *v, struct op *op, const struct target *t)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct volume_dir *d = NULL;
    if (t->dir && volume_opendir(v, op, t->path, &d) == 0)
        volume_closedir(d); /* what it listed is kept */
    err_clear(&op->err);
    (void)volume_stat_ahead(v, op, t->path, &a);
}

static void worker_run(struct pool_job *job)
{
    struct worker *k = (struct worker *)job;
    struct walk *w = k->w;
    struct target *t;
    lock_acquire(&w->lock);
    while ((t = take_target_locked(w)) != NULL) {
        op_init(&k->op, "walk", w->v->policy.timeout_ms);
        lock_release(&w->lock);
        ask(w->v, &k->op, t);
        target_free(t);
        lock_acquire(&w->lock);
    }
    struct worker **at = &w->workers;
    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    w->n_workers--;
    lock_release(&w->lock);
    free(k);
}

/* One more worker, to be submitted without the lock; NULL: there are enough. */
static struct worker *worker_locked(struct walk *w)
{
    if (!w->first || w->n_workers >= w->workers_max)
        return NULL;
    struct worker *k = xcalloc(1, sizeof(*k));
    k->job.run = worker_run;
    k->w = w;
    op_init(&k->op, "walk", 0);
    k->next = w->workers;
    w->workers = k;
    w->n_workers++;
    return k;
}

static void start_workers(struct walk *w)
{
    for (;;) {
        lock_acquire(&w->lock);
        struct worker *k = worker_locked(w);
        lock_release(&w->lock);
        if (!k)
            return;
        pool_submit(w->v->pool, &k->job, 2);
    }
}

/* ---- places ---- */

static struct place *place_locked(struct walk *w, const char *dir)
{
    struct place *oldest = &w->places[0];
    for (unsigned i = 0; i < PLACES; i++) {
        struct place *p = &w->places[i];
        if (p->dir && strcmp(p->dir, dir) == 0) {
            p->used = ++w->uses;
            return p;
        }
        if (p->used < oldest->used)
            oldest = p;
    }
    free(oldest->dir);
    *oldest = (struct place){.dir = xstrdup(dir), .used = ++w->uses};
    return oldest;
}

/* Is there more to know about the row than the listing says? */
static bool is_target(const struct walk *w, const struct listing *l, size_t row)
{
    if (listing_is_dir(l, row))
        return !(w->v->store->caps & CAP_REAL_DIRS);
    return !(listing_known(l, row) & ATTR_META);
}

static void queue_locked(struct walk *w, const struct listing *l, const char *dir, size_t row)
{
    struct target *t = xcalloc(1, sizeof(*t));
    t->path = path_child(dir, listing_name(l, row));
    t->dir = listing_is_dir(l, row);
    *w->end = t;
    w->end = &t->next;
    w->queued++;
}

static void advance_locked(struct walk *w, const struct listing *l, const char *dir, size_t row)
{
    struct place *p = place_locked(w, dir);
    size_t known = p->next > p->last ? p->next : p->last;
    bool goes_on = p->run && row > p->last && row <= known + NEAR;
    p->run = goes_on ? p->run + 1 : 1;
    p->last = row;
    p->next = goes_on && p->next > row ? p->next : row + 1;
    if (p->run < RUN_MIN)
        return;
    size_t to = row + 1 + (p->run < 5 ? (size_t)4 << p->run : WALK_AHEAD);
    for (; p->next < l->n && p->next < to && w->queued < QUEUE_MAX; p->next++)
        if (is_target(w, l, p->next))
            queue_locked(w, l, dir, p->next);
}

void walk_note(struct walk *w, const char *path)
{
    size_t up = 0;
    if (path[0] == '\0')
        return;
    CLEANUP_FREE char *dir = path_parent(path);
    const char *name = path_base(path, &up);
    struct listing *l = meta_listing(w->v->meta, dir, UINT64_MAX);
    if (!l)
        return;
    long row = listing_find(l, name, false);
    row = row < 0 ? listing_find(l, name, true) : row;
    if (row >= 0) {
        LOCK_SCOPE(&w->lock);
        if (!w->stopped)
            advance_locked(w, l, dir, (size_t)row);
    }
    listing_put(l);
    start_workers(w);
}

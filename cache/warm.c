/* SPDX-License-Identifier: MIT
 * warm.c: the two passes of warming.
 *
 * The thread that calls trees and begins files; jobs of volume.fetch bring ranges; the last job of a file
 * puts it on the list `ended`, which the caller's thread settles. Invariants, under run->lock: (1)
 * `flying` jobs are queued or run, at most flying_max, of flying_bytes_max, each in `jobs`; (2) file->left is its jobs and, until
 * all are submitted, one more; (3) the caller returns only when flying is 0. */
#include "cache/warm.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "cache/object_int.h"
#include "cache/pin.h"
#include "cache/volume_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PART_DEFAULT (8ULL << 20)
#define PART_LIMIT (16ULL << 20)
#define FLYING_DEFAULT 8
#define TICK_NS (200 * NS_PER_MS)
#define SLICE_NS (50 * NS_PER_MS)
#define MEMORY_WAIT_MS 5

struct warm_file {
    struct run *run;
    struct warm_file *next; /* in ended, again */
    struct cache_object *object;
    uint64_t size, missing;
    unsigned left;
    int error;
    struct err err;
    bool again, pin_room; /* it was looked up anew; its room is that of pins */
    char version[ATTR_VERSION_MAX];
    char path[];
};

struct warm_job {
    struct pool_job job;
    struct warm_file *file;
    struct warm_job *prev, *next;
    struct op op;
    uint64_t off;
    size_t len;
};

struct run {
    struct volume *v;
    struct op *op;
    struct warm *w;
    uint64_t flying_bytes_max; /* half of the memory budget: the rest is the readers' */
    uint64_t part, taken; /* bytes of this run that are or will be on disk, but pinned ones */
    uint64_t pin_missing; /* of pinned files under way */
    uint64_t ticked_ns;
    unsigned flying_max;
    struct warm_file *again; /* changed while they were fetched */
    atomic_bool stop;
    atomic_uint_fast64_t fetched;
    struct lock lock;
    struct cond cond;
    unsigned flying;
    uint64_t flying_bytes;
    struct warm_job *jobs;
    struct warm_file *ended;
};

/* ---- one range ---- */
struct transfer {
    struct op *op;
    const atomic_bool *stop; /* or NULL */
    unsigned timeout_ms;
};

static int on_data(void *arg, size_t so_far)
{
    struct transfer *t = arg;
    (void)so_far;
    if (t->timeout_ms) /* the deadline is one without progress */
        t->op->deadline_ns = clock_now_ns() + t->timeout_ms * NS_PER_MS;
    return (t->stop && atomic_load(t->stop)) || atomic_load(&t->op->cancelled);
}

/* Waits for memory that nobody else wants: a reader's need goes first. */
static void *get_buffer(struct cache *c, struct op *op, size_t len)
{
    void *buf;
    while (!(buf = cache_buffer_get(c, len, false)))
        if (op_sleep(op, MEMORY_WAIT_MS) < 0)
            return NULL;
    return buf;
}

static int fetch_range(struct volume *v, struct cache_object *o, const char *path, uint64_t off,
                       size_t len, struct transfer *t)
{
    struct read_res res = READ_RES_INIT;
    struct op *op = t->op;
    void *buf = get_buffer(v->cache, op, len);
    if (!buf)
        return op_check(op);
    if (t->timeout_ms)
        op->deadline_ns = clock_now_ns() + t->timeout_ms * NS_PER_MS;
    struct read_req req = {.key = path,
                           .version = cache_object_version(o),
                           .offset = off,
                           .iov = {.iov_base = buf, .iov_len = len},
                           .on_data = on_data,
                           .on_data_arg = t};
    int r = store_read(v->store, op, &req, &res);
    if (r == 0 && res.length < len)
        r = err_set(&op->err, EIO, "read %s: the store sent %zu bytes of %zu at %llu", path,
                    res.length, len, (unsigned long long)off);
    if (r == 0)
        cache_object_store(o, off, buf, len);
    read_res_done(&res);
    cache_buffer_put(v->cache, buf, len);
    return r;
}

int volume_refetch(struct volume *v, struct op *op, const struct cache_bad *bad)
{
    struct transfer t = {.op = op, .timeout_ms = v->policy.timeout_ms};
    struct cache_object *o =
        cache_object_get(v->cache, v->key, bad->path, bad->version, bad->size, v->keep_blocks);
    int r = fetch_range(v, o, bad->path, bad->off, (size_t)bad->len, &t);
    if (r == 0 && !cache_object_has(o, bad->off, (size_t)bad->len))
        r = err_set(&op->err, ENOSPC, "%s: %s: the cache did not keep it", v->key, bad->path);
    cache_object_put(o);
    return r;
}

/* ---- jobs ---- */
static void end_file_locked(struct warm_file *f)
{
    if (--f->left)
        return;
    f->next = f->run->ended;
    f->run->ended = f;
}

static void job_run(struct pool_job *job)
{
    struct warm_job *j = (struct warm_job *)job;
    struct warm_file *f = j->file;
    struct run *run = f->run;
    struct volume *v = run->v;
    struct transfer t = {.op = &j->op, .stop = &run->stop, .timeout_ms = v->policy.timeout_ms};
    lock_acquire(&run->lock);
    bool wanted = f->error == 0;
    lock_release(&run->lock);
    int r = wanted ? op_check(&j->op) : 0;
    if (wanted && r == 0)
        r = fetch_range(v, f->object, f->path, j->off, j->len, &t);
    if (wanted && r == 0)
        atomic_fetch_add(&run->fetched, j->len);
    LOCK_SCOPE(&run->lock);
    if (r < 0 && f->error == 0) {
        f->error = r;
        f->err = j->op.err;
    }
    run->flying_bytes -= j->len;
    *(j->prev ? &j->prev->next : &run->jobs) = j->next;
    if (j->next)
        j->next->prev = j->prev;
    free(j);
    end_file_locked(f);
    run->flying--;
    cond_signal(&run->cond);
}

static void submit(struct run *run, struct warm_file *f, uint64_t off, uint64_t len)
{
    struct warm_job *j = xcalloc(1, sizeof(*j));
    j->job.run = job_run;
    j->file = f;
    j->off = off;
    j->len = (size_t)len;
    op_init(&j->op, "warm", 0);
    lock_acquire(&run->lock);
    f->left++;
    run->flying++;
    run->flying_bytes += len;
    j->next = run->jobs;
    if (j->next)
        j->next->prev = j;
    run->jobs = j;
    if (atomic_load(&run->stop))
        op_cancel(&j->op);
    lock_release(&run->lock);
    pool_submit(run->v->fetch, &j->job, POOL_PRIORITIES - 1);
}

static void stop(struct run *run)
{
    LOCK_SCOPE(&run->lock);
    atomic_store(&run->stop, true);
    for (struct warm_job *j = run->jobs; j; j = j->next)
        op_cancel(&j->op);
}

/* ---- telling ---- */
static void tell(struct run *run, enum warm_what what, const char *path, uint64_t size,
                 uint64_t present, const struct err *err)
{
    struct warm_event e = {.what = what, .path = path, .size = size, .present = present, .err = err};
    if (run->w->event)
        run->w->event(run->w->arg, &e);
}

static bool tick(struct run *run, const struct warm_total *sum, bool counting)
{
    uint64_t now = clock_now_ns();
    if (now - run->ticked_ns < TICK_NS)
        return !atomic_load(&run->stop);
    run->ticked_ns = now;
    run->w->total.fetched_bytes = atomic_load(&run->fetched);
    if ((run->w->tick && !run->w->tick(run->w->arg, sum, counting)) ||
        atomic_load(&run->op->cancelled))
        stop(run);
    return !atomic_load(&run->stop);
}

/* ---- files that have ended ---- */
static void settle(struct run *run, struct warm_file *f)
{
    struct volume *v = run->v;
    struct warm_total *t = &run->w->total;
    if (f->pin_room)
        run->pin_missing -= f->missing;
    if (f->error == 0 && object_run(f->object, 0, f->size) < f->size)
        f->error = err_set(&f->err, ENOSPC,
                           "it was fetched, but the cache has not kept all of it (no room, or a "
                           "disk error: see the log)");
    bool again = f->error == -ESTALE && !f->again;
    cache_object_put(f->object);
    f->object = NULL;
    if (again) {
        f->next = run->again;
        run->again = f;
        return;
    }
    if (f->error == 0) {
        t->fetched_files++;
        if (run->w->pin)
            cache_forget_other_versions(v->cache, v->key, f->path, f->version);
        tell(run, WARM_FETCHED, f->path, f->size, f->size, NULL);
    } else if (!atomic_load(&run->stop)) {
        t->failed_files++;
        tell(run, WARM_FAILED, f->path, f->size, 0, &f->err);
    }
    free(f);
}

static void settle_ended(struct run *run)
{
    for (;;) {
        lock_acquire(&run->lock);
        struct warm_file *f = run->ended;
        if (f)
            run->ended = f->next;
        lock_release(&run->lock);
        if (!f)
            return;
        settle(run, f);
    }
}

/* Until fewer than `n` jobs are under way, and (but for the first) `more` bytes fit in. */
static void wait_below(struct run *run, unsigned n, uint64_t more)
{
    for (;;) {
        settle_ended(run);
        (void)tick(run, &run->w->total, false);
        LOCK_SCOPE(&run->lock);
        if (run->flying < n &&
            (run->flying == 0 || run->flying_bytes + more <= run->flying_bytes_max))
            return;
        (void)cond_wait_until(&run->cond, &run->lock, clock_now_ns() + SLICE_NS);
    }
}

/* ---- files that begin ---- */
static void submit_ranges(struct run *run, struct warm_file *f)
{
    for (uint64_t pos = 0; pos < f->size && !atomic_load(&run->stop);) {
        pos += object_run(f->object, pos, f->size - pos);
        uint64_t len = pos < f->size ? object_gap(f->object, pos, f->size - pos) : 0;
        uint64_t most = run->part - pos % run->part;
        len = len < most ? len : most;
        if (len == 0)
            break;
        wait_below(run, run->flying_max, len);
        submit(run, f, pos, len);
        pos += len;
    }
    LOCK_SCOPE(&run->lock);
    end_file_locked(f);
}

/* Is there room for what is missing? Takes it. */
static bool take_room(struct run *run, struct warm_file *f)
{
    struct cache *c = run->v->cache;
    if (!cache_is_pinned(c, run->v->key, f->path)) {
        if (run->taken + f->missing > cache_room(c))
            return false;
        run->taken += f->missing;
        return true;
    }
    if (run->pin_missing + f->missing > cache_pin_room(c) && run->w->pin)
        cache_forget_other_versions(c, run->v->key, f->path, f->version);
    if (run->pin_missing + f->missing > cache_pin_room(c))
        return false;
    run->pin_missing += f->missing;
    f->pin_room = true;
    return true;
}

static bool is_staged(struct volume *v, const char *path)
{
    struct vnode *n = vnode_find(v, path);
    bool dirty = n && vnode_is_dirty(n);
    vnode_put(n);
    return dirty;
}

/* It is whole, or there is no room for it, or this is a dry run: true, then nothing is fetched. */
static bool is_settled(struct run *run, struct warm_file *f, bool first)
{
    struct warm_total *t = &run->w->total;
    uint64_t present = f->size - f->missing;
    if (first)
        t->cached_bytes += present;
    if (f->missing == 0) {
        t->cached_files++;
        cache_object_touch(f->object);
        if (run->w->pin)
            cache_forget_other_versions(run->v->cache, run->v->key, f->path, f->version);
        return true;
    }
    if (take_room(run, f)) {
        if (run->w->dry)
            tell(run, WARM_FOUND, f->path, f->size, present, NULL);
        return run->w->dry;
    }
    t->no_room_files++;
    t->no_room_bytes += f->missing;
    tell(run, WARM_NO_ROOM, f->path, f->size, present, NULL);
    return true;
}

static int refuse(struct run *run, const char *path, const struct attr *a, const struct err *err)
{
    run->w->total.failed_files++;
    tell(run, WARM_FAILED, path, a->size, 0, err);
    return 0;
}

static int begin_file(struct run *run, const char *path, const struct attr *a, bool again)
{
    struct volume *v = run->v;
    struct err err = ERR_INIT;
    if (a->version[0] == '\0' && a->size > 0) {
        err_set(&err, ENOTSUP, "the store tells no version of it: what is fetched cannot be kept");
        return refuse(run, path, a, &err);
    }
    size_t n = strlen(path) + 1;
    struct warm_file *f = xcalloc(1, sizeof(*f) + n);
    f->run = run;
    f->size = a->size;
    f->left = 1;
    f->again = again;
    memcpy(f->version, a->version, sizeof(f->version));
    memcpy(f->path, path, n);
    f->object = cache_object_get(v->cache, v->key, path, a->version, a->size, true);
    uint64_t present = cache_object_bytes(f->object);
    f->missing = present < f->size ? f->size - present : 0;
    if (run->w->pin)
        cache_pin_seen(f->object);
    if (is_settled(run, f, !again)) {
        cache_object_put(f->object);
        free(f);
    } else {
        submit_ranges(run, f);
    }
    return atomic_load(&run->stop) ? -EINTR : 0;
}

/* What is known best: an open may have found a later version than the listing. */
static int begin_listed(struct run *run, const char *path, const struct attr *a)
{
    CLEANUP_ATTR struct attr known = ATTR_INIT;
    if (volume_peek(run->v, path, 0, &known) == 0 && known.kind == ATTR_FILE && known.version[0])
        a = &known;
    if (!a->version[0]) { /* an index page tells names; their sizes are guesses */
        int r = volume_stat(run->v, run->op, path, VOLUME_STAT_FRESH, &known);
        if (r < 0)
            return refuse(run, path, a, &run->op->err);
        a = &known;
    }
    return begin_file(run, path, a, false);
}

/* The version that the listing told is not there any more. */
static int look_up_again(struct run *run)
{
    int r = 0;
    while (run->again && r == 0) {
        struct warm_file *f = run->again;
        run->again = f->next;
        CLEANUP_ATTR struct attr a = ATTR_INIT;
        if (volume_stat(run->v, run->op, f->path, VOLUME_STAT_FRESH, &a) < 0)
            r = refuse(run, f->path, &a, &run->op->err);
        else
            r = begin_file(run, f->path, &a, true);
        free(f);
    }
    return r;
}

/* ---- the passes ---- */
static int run_init(struct run *run, struct volume *v, struct op *op, struct warm *w)
{
    struct cache *c = v->cache;
    uint64_t part = v->store->limits.part_size, most = budget_total(c->budget) / 8;
    *run = (struct run){.v = v, .op = op, .w = w};
    if (v->store->caps & CAP_LOCAL_FD)
        return err_set(&op->err, ENOTSUP, "%s: its store is read directly: nothing of it is cached",
                       v->key);
    if (!v->keep_blocks || !c->set.enabled)
        return err_set(&op->err, ENOTSUP, "%s: the cache is switched off (cache.enabled)", v->key);
    part = part == 0 ? PART_DEFAULT : part > PART_LIMIT ? PART_LIMIT : part;
    part = part > most ? most : part;
    part -= part % c->set.block_size;
    run->part = part ? part : c->set.block_size;
    run->flying_bytes_max = most * 4;
    run->flying_max = v->store->limits.concurrency ? v->store->limits.concurrency : FLYING_DEFAULT;
    run->ticked_ns = clock_now_ns();
    atomic_init(&run->stop, false);
    atomic_init(&run->fetched, 0);
    lock_init(&run->lock, LOCK_RANK_LEAF, "warm");
    cond_init(&run->cond);
    return 0;
}

static void run_done(struct run *run)
{
    while (run->again) {
        struct warm_file *f = run->again;
        run->again = f->next;
        free(f);
    }
    cond_done(&run->cond);
    lock_done(&run->lock);
}

static int stopped(struct run *run)
{
    return err_set(&run->op->err, EINTR, "%s: stopped", run->v->key);
}

/* What is there already becomes the youngest: it is not what goes to make room for the rest. */
static int count_file(void *arg, const char *path, const struct attr *a)
{
    struct run *run = arg;
    struct volume *v = run->v;
    struct warm_total *t = &run->w->found;
    t->files++;
    t->bytes += a->size;
    if (a->version[0] && a->size) {
        struct cache_object *o =
            cache_object_get(v->cache, v->key, path, a->version, a->size, true);
        uint64_t present = cache_object_bytes(o);
        t->cached_bytes += present < a->size ? present : a->size;
        t->cached_files += present >= a->size;
        if (present && !run->w->dry)
            cache_object_touch(o);
        cache_object_put(o);
    }
    return tick(run, t, true) ? 0 : stopped(run);
}

/* One of several trees that fails is counted as a file that failed, in the second pass. */
static int walk_all(struct run *run, tree_fn *fn)
{
    struct warm *w = run->w;
    int r = 0;
    for (size_t i = 0; i < w->n_trees && r == 0; i++) {
        r = tree_walk(run->v, run->op, &w->trees[i], fn, run);
        if (r == 0 || r == -EINTR || w->n_trees == 1)
            continue;
        r = 0;
        if (fn == count_file)
            continue;
        w->total.failed_files++;
        tell(run, WARM_FAILED, w->trees[i].path, 0, 0, &run->op->err);
    }
    return r;
}

int volume_warm_count(struct volume *v, struct op *op, struct warm *w)
{
    struct run run;
    int r = run_init(&run, v, op, w);
    if (r < 0)
        return r;
    w->found = (struct warm_total){0};
    r = walk_all(&run, count_file);
    run_done(&run);
    return r;
}

static int fetch_file(void *arg, const char *path, const struct attr *a)
{
    struct run *run = arg;
    struct warm_total *t = &run->w->total;
    t->files++;
    t->bytes += a->size;
    if (is_staged(run->v, path)) {
        t->staged_files++;
        return tick(run, t, false) ? 0 : stopped(run);
    }
    int r = begin_listed(run, path, a);
    return r == 0 && tick(run, t, false) ? 0 : stopped(run);
}

int volume_warm_fetch(struct volume *v, struct op *op, struct warm *w)
{
    struct run run;
    int r = run_init(&run, v, op, w);
    if (r < 0)
        return r;
    w->total = (struct warm_total){0};
    run.taken = w->found.cached_bytes;
    r = walk_all(&run, fetch_file);
    if (r < 0)
        stop(&run);
    wait_below(&run, 1, 0);
    if (r == 0 && (r = look_up_again(&run)) < 0)
        stop(&run);
    wait_below(&run, 1, 0);
    settle_ended(&run);
    if (r == 0 && atomic_load(&run.stop))
        r = stopped(&run);
    w->total.fetched_bytes = atomic_load(&run.fetched);
    run_done(&run);
    return r;
}

int volume_warm(struct volume *v, struct op *op, struct warm *w)
{
    int r = volume_warm_count(v, op, w);
    return r < 0 ? r : volume_warm_fetch(v, op, w);
}

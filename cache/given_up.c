/* SPDX-License-Identifier: MIT
 * given_up.c: see given_up.h.
 * Invariants, under volume.s.lock: (1) `gone` entries that do not fly are in the journal, or will be before the removal is
 * reported; (2) an entry flies iff a vnode's `flying` points to it; (3) one job looks at a time (s.looking).
 * A look has the name and, where a vnode is, its token: no commit and no rename of ours can put something there between
 * the look and the removal. */
#include "cache/given_up.h"

#include "base/clock.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "cache/stage.h"
#include "cache/stream.h"

#define WATCH_MS (15 * 60 * 1000)
#define LOOK_FIRST_MS 500
#define LOOK_RARELY_MS 60000
#define KNOWN_MAX 4096 /* more are not watched: the oldest is forgotten */
#define WAIT_SLICE_NS (100 * NS_PER_MS)

struct given_up {
    char *path;
    uint64_t size;
    struct timespec mtime;
    bool sure;   /* by these two nobody else's object is meant */
    bool gone;   /* the name was removed here since */
    struct vnode *flying; /* is being uploaded without a name; has a reference while it is */
    unsigned looks;
    uint64_t look_ns, until_ns;
    struct given_up *next;
};

/* ---- the list ---- */

static struct given_up *entry_new(const char *path, uint64_t size, struct timespec mtime, bool sure)
{
    struct given_up *g = xcalloc(1, sizeof(*g));
    *g = (struct given_up){.path = xstrdup(path),
                           .size = size,
                           .mtime = mtime,
                           .sure = sure,
                           .until_ns = clock_now_ns() + WATCH_MS * NS_PER_MS};
    return g;
}

static void entry_free(struct given_up *g)
{
    free(g->path);
    free(g);
}

static bool is_same(const struct given_up *g, uint64_t size, struct timespec mtime)
{
    return g->size == size && g->mtime.tv_sec == mtime.tv_sec && g->mtime.tv_nsec == mtime.tv_nsec;
}

static bool is_at(const struct given_up *g, const char *path)
{
    return strcmp(g->path, path) == 0;
}

static void unlink_locked(struct volume *v, struct given_up *g)
{
    struct given_up **at = &v->s.given_up;
    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    atomic_fetch_sub(&v->given_ups, 1);
}

/* The oldest is the first. */
static void link_locked(struct volume *v, struct given_up *g)
{
    struct given_up **at = &v->s.given_up, *oldest = NULL;
    for (; *at; at = &(*at)->next)
        if (!oldest && !(*at)->flying && !(*at)->gone)
            oldest = *at;
    *at = g;
    if (atomic_fetch_add(&v->given_ups, 1) >= KNOWN_MAX && oldest) {
        unlink_locked(v, oldest);
        entry_free(oldest);
    }
}

static struct given_up *find_locked(struct volume *v, const struct given_up *like)
{
    struct given_up *g = v->s.given_up;
    while (g && (g->flying || !is_at(g, like->path) || !is_same(g, like->size, like->mtime)))
        g = g->next;
    return g;
}

static bool any(struct volume *v)
{
    return atomic_load_explicit(&v->given_ups, memory_order_relaxed) > 0;
}

/* What is, or was, being sent of n (volume.s.lock, vnode.lock). The object's time is what was given when its upload began. */
static struct given_up *entry_of_locked(const struct vnode *n)
{
    struct timespec mtime = n->stream ? stream_attr(n->stream)->mtime : n->attr.mtime;
    bool sure = (!n->stamped || n->stream) && !(n->v->store->caps & CAP_WHOLE_SECONDS);
    return entry_new(n->path, n->attr.size, mtime, sure);
}

/* ---- the journal ---- */

static char *journal_text(const struct given_up *g)
{
    return xasprintf("%llu %lld.%09ld", (unsigned long long)g->size, (long long)g->mtime.tv_sec, g->mtime.tv_nsec);
}

static void journal(struct volume *v, const struct given_up *g, bool put)
{
    struct err err = ERR_INIT;
    CLEANUP_FREE char *text = journal_text(g);
    int r = put ? stage_given_up_put(v->stage, g->path, text, &err) : stage_given_up_remove(v->stage, g->path, text, &err);
    if (r < 0)
        log_warn("upload", "%s: %s: what becomes of its upload will not be known after a restart: %s", v->key, g->path,
                 err_text(&err));
}

/* Sets `gone` of those at `path` (and below) which are not yet so, and says so in the journal. */
static void set_gone(struct volume *v, const char *path, bool below, bool gone)
{
    if (!any(v))
        return;
    struct given_up *changed = NULL;
    lock_acquire(&v->s.lock);
    for (struct given_up *g = v->s.given_up; g; g = g->next) {
        bool meant = is_at(g, path) || (below && path_below(g->path, path));
        if (!meant || g->flying || !g->sure || g->gone == gone)
            continue;
        g->gone = gone;
        g->looks = 0;
        g->look_ns = clock_now_ns() + LOOK_FIRST_MS * NS_PER_MS;
        struct given_up *copy = entry_new(g->path, g->size, g->mtime, true);
        copy->next = changed;
        changed = copy;
    }
    cond_broadcast(&v->s.cond);
    lock_release(&v->s.lock);
    while (changed) {
        struct given_up *g = changed;
        changed = g->next;
        journal(v, g, gone);
        entry_free(g);
    }
}

static void recovered(void *arg, const char *path, const char *text)
{
    struct volume *v = arg;
    unsigned long long size;
    long long sec;
    long nsec;
    if (sscanf(text, "%llu %lld.%ld", &size, &sec, &nsec) != 3)
        return;
    struct given_up *g = entry_new(path, size, (struct timespec){.tv_sec = (time_t)sec, .tv_nsec = nsec}, true);
    g->gone = true;
    LOCK_SCOPE(&v->s.lock);
    link_locked(v, g);
}

int given_up_recover(struct volume *v, struct err *err)
{
    return stage_given_ups(v->stage, recovered, v, err);
}

void given_up_free(struct volume *v)
{
    while (v->s.given_up) {
        struct given_up *g = v->s.given_up;
        v->s.given_up = g->next;
        entry_free(g);
    }
}

/* ---- what is known ---- */

void given_up_add(struct vnode *n)
{
    struct volume *v = n->v;
    if ((v->store->caps & (CAP_PRIVATE | CAP_LOCAL_FD)) || n->flying) /* nothing is done there after its caller has gone */
        return;
    LOCK_SCOPE(&v->s.lock);
    LOCK_SCOPE(&n->lock);
    struct given_up *g = entry_of_locked(n), *known = find_locked(v, g);
    if (known) {
        known->until_ns = g->until_ns;
        known->sure = g->sure;
        entry_free(g);
    } else {
        link_locked(v, g);
    }
}

void given_up_removed(struct volume *v, const char *path)
{
    set_gone(v, path, true, true);
}

void given_up_stored(struct volume *v, const char *path)
{
    set_gone(v, path, false, false);
}

void given_up_arrived(struct volume *v, const char *path)
{
    set_gone(v, path, true, false);
}

static bool is_known(struct volume *v, const char *path, const struct attr *a, bool gone)
{
    if (!any(v) || a->kind != ATTR_FILE || !(a->known & ATTR_HAS_MTIME))
        return false;
    LOCK_SCOPE(&v->s.lock);
    for (const struct given_up *g = v->s.given_up; g; g = g->next)
        if (g->sure && (g->gone || !gone) && is_same(g, a->size, a->mtime) && is_at(g, path))
            return true;
    return false;
}

bool given_up_is(struct volume *v, const char *path, const struct attr *a)
{
    return is_known(v, path, a, false);
}

bool given_up_hides(struct volume *v, const char *path, const struct attr *a)
{
    return is_known(v, path, a, true);
}

/* ---- flying ---- */

/* Without a base: or its readers would need what the removal takes away. */
bool given_up_may_fly_locked(const struct vnode *n)
{
    return n->upload && !n->base && !(n->v->store->caps & (CAP_PRIVATE | CAP_LOCAL_FD));
}

/* Gives the names of the rows that a crash would store again. */
static bool fly(struct vnode *n, char **ret_row, char **ret_old)
{
    struct volume *v = n->v;
    LOCK_SCOPE(&v->s.lock);
    LOCK_SCOPE(&n->lock);
    if (!given_up_may_fly_locked(n) || !n->attached)
        return false;
    vnode_detach_locked(n);
    n->flying = entry_of_locked(n);
    n->flying->gone = true;
    n->flying->flying = n;
    link_locked(v, n->flying);
    *ret_row = n->journaled && n->file_name ? xstrdup(n->file_name) : NULL;
    *ret_old = n->old_name ? xstrdup(n->old_name) : NULL;
    op_cancel_unsent(n->upload);
    return true;
}

bool given_up_fly(struct vnode *n)
{
    struct volume *v = n->v;
    struct err err = ERR_INIT;
    CLEANUP_FREE char *row = NULL, *old = NULL;
    lock_acquire(&v->s.lock); /* the path: a commit may end in a conflict */
    lock_acquire(&n->lock);
    struct given_up *g = entry_of_locked(n);
    lock_release(&n->lock);
    lock_release(&v->s.lock);
    if (g->sure)
        journal(v, g, true); /* before it can land */
    bool flies = fly(n, &row, &old);
    if (row)
        (void)stage_row_remove(v->stage, row, &err);
    if (old)
        (void)stage_row_remove(v->stage, old, &err);
    if (!flies && g->sure)
        journal(v, g, false);
    entry_free(g);
    return flies;
}

static int take_away(struct volume *v, struct op *op, const char *path, const char *version)
{
    CLEANUP_ATTR struct attr now = ATTR_INIT;
    int r = store_remove(v->store, op, path, v->store->caps & CAP_IF_MATCH ? version : NULL);
    if (r != -ENOTSUP)
        return r;
    r = store_stat(v->store, op, path, &now);
    if (r == 0 && strcmp(now.version, version) == 0)
        r = store_remove(v->store, op, path, NULL);
    return r;
}

static bool was_removed_at(struct volume *v, const char *path)
{
    if (!any(v))
        return false;
    LOCK_SCOPE(&v->s.lock);
    const struct given_up *g = v->s.given_up;
    while (g && !(g->sure && g->gone && is_at(g, path)))
        g = g->next;
    return g != NULL;
}

int given_up_sweep(struct volume *v, struct op *op, const char *path)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (!was_removed_at(v, path))
        return 0;
    int r = store_stat(v->store, op, path, &a);
    if (r < 0)
        return r == -ENOENT ? 1 : r;
    if (!given_up_hides(v, path, &a))
        return 0;
    struct err keep = op->err;
    (void)take_away(v, op, path, a.version);
    op->err = keep;
    return 1;
}

void given_up_land(struct vnode *n, struct op *op, int r, const struct attr *a)
{
    struct volume *v = n->v;
    struct op mine;
    op_init(&mine, "remove", v->policy.timeout_ms);
    bool settled = r < 0 && !err_is_unknown(&op->err, r); /* nothing of it can come to be there */
    if (r == 0) {
        int gone = take_away(v, &mine, n->path, a->version);
        settled = gone == 0 || gone == -ENOENT || gone == -ESTALE;
    }
    lock_acquire(&v->s.lock);
    lock_acquire(&n->lock);
    struct given_up *g = take_ptr(&n->flying);
    lock_release(&n->lock);
    g->flying = NULL;
    g->look_ns = clock_now_ns() + LOOK_FIRST_MS * NS_PER_MS;
    g->until_ns = clock_now_ns() + WATCH_MS * NS_PER_MS;
    settled = settled || !g->sure;
    if (settled)
        unlink_locked(v, g);
    cond_broadcast(&v->s.cond);
    lock_release(&v->s.lock);
    if (!settled)
        return;
    if (g->sure)
        journal(v, g, false);
    entry_free(g);
}

void given_up_halt(struct volume *v)
{
    if (!any(v))
        return;
    LOCK_SCOPE(&v->s.lock);
    for (const struct given_up *g = v->s.given_up; g; g = g->next) {
        if (!g->flying || !g->sure)
            continue;
        LOCK_SCOPE(&g->flying->lock);
        if (g->flying->upload)
            op_cancel(g->flying->upload);
    }
}

static bool flies_to_locked(const struct volume *v, const char *path)
{
    const struct given_up *g = v->s.given_up;
    while (g && !(g->flying && path_within(g->path, path)))
        g = g->next;
    return g != NULL;
}

int given_up_wait(struct volume *v, struct op *op, const char *path)
{
    if (!any(v))
        return 0;
    LOCK_SCOPE(&v->s.lock);
    while (flies_to_locked(v, path)) {
        int r = op_check(op);
        if (r < 0)
            return r;
        (void)cond_wait_until(&v->s.cond, &v->s.lock, clock_now_ns() + WAIT_SLICE_NS);
    }
    return 0;
}

/* ---- looking ---- */

struct look_job {
    struct pool_job job;
    struct volume *v;
    struct op op;
};

static struct given_up *first_due_locked(struct volume *v, uint64_t now)
{
    struct given_up *g = v->s.given_up;
    while (g && (!g->gone || g->flying || g->look_ns > now))
        g = g->next;
    return g;
}

bool given_up_due_locked(struct volume *v, uint64_t now, uint64_t *ret_next)
{
    if (v->s.looking)
        return false;
    for (struct given_up *g = v->s.given_up, *next; g; g = next) {
        next = g->next;
        if (g->flying)
            continue;
        if (!g->gone && g->until_ns <= now) {
            unlink_locked(v, g);
            entry_free(g);
            continue;
        }
        uint64_t due = g->gone ? g->look_ns : g->until_ns;
        *ret_next = due < *ret_next ? due : *ret_next;
    }
    return first_due_locked(v, now) != NULL;
}

/* 0: what is there is known now, and nothing of ours. Else: not known. */
static int look_held(struct volume *v, struct op *op, const struct given_up *g, struct vnode *n)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int r = store_stat(v->store, op, g->path, &a);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    bool ours = given_up_hides(v, g->path, &a) && !(n && n->base && strcmp(n->base->version, a.version) == 0);
    if (!ours)
        return 0;
    r = take_away(v, op, g->path, a.version);
    if (r == 0)
        log_warn("upload", "%s: %s: the server has stored what it was sent before the file was removed; it is removed "
                           "again", v->key, g->path);
    if (!n)
        volume_changed(v, g->path, NULL);
    return r == -ENOENT || r == -ESTALE ? 0 : r;
}

static int look(struct volume *v, struct op *op, const struct given_up *g)
{
    struct name_lock l;
    if (!name_try_lock(v, &l, NAME_EXCL, g->path))
        return -EBUSY;
    struct vnode *n = vnode_find(v, g->path);
    int r = -EBUSY;
    if (!n || vnode_try_begin(n)) {
        r = look_held(v, op, g, n);
        if (n)
            vnode_end(n);
    }
    vnode_put(n);
    name_unlock(v, &l);
    return r;
}

/* Was it looked for long enough? Then it is out of the list. */
static bool is_over(struct volume *v, const struct given_up *like, int r)
{
    uint64_t now = clock_now_ns();
    LOCK_SCOPE(&v->s.lock);
    struct given_up *g = find_locked(v, like);
    if (!g || r < 0 || now < g->until_ns)
        return false;
    unlink_locked(v, g);
    entry_free(g);
    return true;
}

static struct given_up *take_look(struct volume *v)
{
    uint64_t now = clock_now_ns();
    LOCK_SCOPE(&v->s.lock);
    struct given_up *g = v->s.stopping ? NULL : first_due_locked(v, now);
    if (!g)
        return NULL;
    g->look_ns = now + clock_backoff_ms(LOOK_FIRST_MS, LOOK_RARELY_MS, g->looks++) * NS_PER_MS;
    return entry_new(g->path, g->size, g->mtime, true);
}

static void look_run(struct pool_job *job)
{
    struct look_job *j = (struct look_job *)job;
    struct volume *v = j->v;
    for (struct given_up *g; (g = take_look(v));) {
        j->op.deadline_ns = clock_now_ns() + v->policy.timeout_ms * NS_PER_MS;
        if (is_over(v, g, look(v, &j->op, g)))
            journal(v, g, false);
        entry_free(g);
    }
    lock_acquire(&v->s.lock);
    v->s.looking = NULL;
    v->s.jobs--;
    cond_broadcast(&v->s.cond);
    lock_release(&v->s.lock);
    free(j);
}

void given_up_look_locked(struct volume *v)
{
    struct look_job *j = xcalloc(1, sizeof(*j));
    j->job.run = look_run;
    j->v = v;
    op_init(&j->op, "look", 0);
    v->s.looking = &j->op;
    v->s.jobs++;
    pool_submit(v->pool, &j->job, 2); /* the pool's lock ranks above */
}

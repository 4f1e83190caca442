/* SPDX-License-Identifier: MIT
 * volume.c: opening and closing a volume; attributes: local state over the metadata cache over the store.
 *
 * Order of an answer about a path
 *   1. a vnode with staged content: nobody else knows it yet
 *   2. the metadata cache, within the ttl: entry or listing, also "not there"
 *   3. the store; while it is away, with offline = serve, whatever was known last
 * A directory that exists only because a staged file is below it is made up (1 again, when 3 says no). */
#include "cache/given_up.h"

#include "backends/versions.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/commit.h"
#include "cache/keeper.h"
#include "cache/parallel.h"
#include "cache/rename_log.h"
#include "cache/stage.h"
#include "cache/stream.h"
#include "cache/walk.h"

#define WORKERS 24
#define FETCHERS_MIN 8
#define FETCHERS_MAX 64
#define SYNC_THREADS 8
#define COUNT_MAX 500 /* more: whole pages */
#define SPACE_ENDLESS (1ULL << 50)
#define FILES_ENDLESS (1ULL << 32)

/* ---- life ---- */

static void volume_free(struct volume *v)
{
    pool_free(v->fetch);
    pool_free(v->pool);
    walk_free(v->walk);
    lookahead_free(v->ahead);
    meta_close(v->meta);
    stage_close(v->stage);
    rename_log_close(v->renames);
    STRMAP_EACH(&v->s.seen, it)
        free(it->value);
    strmap_done(&v->s.seen);
    strmap_done(&v->s.nodes);
    volume_parents_free(v);
    given_up_free(v);
    left_uploads_free(v);
    store_close(v->store);
    cond_done(&v->s.names_free);
    cond_done(&v->s.cond);
    lock_done(&v->s.lock);
    free(v->key);
    free(v);
}

static struct volume *volume_new(const char *key, struct store *store,
                                 const struct volume_policy *policy, struct cache *cache,
                                 struct stats *stats)
{
    struct volume *v = xcalloc(1, sizeof(*v));
    unsigned fetchers = store->limits.concurrency * 2;
    fetchers = fetchers < FETCHERS_MIN ? FETCHERS_MIN : fetchers;
    v->key = xstrdup(key);
    v->store = store;
    v->policy = *policy;
    v->cache = cache;
    v->stats = stats;
    v->opened = clock_wall();
    v->keep_blocks = policy->cache_blocks && !(store->caps & CAP_LOCAL_FD);
    v->pool = pool_new(key, WORKERS);
    v->walk = walk_new(v);
    v->fetch = pool_new("fetch", fetchers > FETCHERS_MAX ? FETCHERS_MAX : fetchers);
    lock_init(&v->s.lock, LOCK_RANK_VOLUME, "volume");
    cond_init(&v->s.cond);
    cond_init(&v->s.names_free);
    v->pending_bytes = stats_gauge(stats, "quayfs_upload_pending_bytes",
                                   "Bytes written and not yet in the store", "key", key, NULL);
    v->pending_files = stats_gauge(stats, "quayfs_upload_pending_files",
                                   "Files written and not yet in the store", "key", key, NULL);
    v->conflicts = stats_counter(stats, "quayfs_write_conflicts_total",
                                 "Files that another client changed meanwhile; ours is kept as a copy",
                                 "key", key, NULL);
    return v;
}

int volume_open(const char *key, struct store *store, const struct volume_policy *policy,
                struct cache *cache, struct stats *stats, struct err *err, struct volume **ret)
{
    struct volume *v = volume_new(key, store, policy, cache, stats);
    store_on_recovery(store, volume_recovered, v);
    left_uploads_watch(v);
    /* A private store is another one after a restart; a local one is as near as the index. */
    bool warm = !(store->caps & (CAP_PRIVATE | CAP_LOCAL_FD));
    struct meta_how how = {.offline = policy->offline_serve,
                           .real_dirs = store->caps & CAP_REAL_DIRS,
                           .hidden = store->caps & CAP_HIDES,
                           .versions = store->caps & CAP_VERSION_DIRS,
                           .identity = warm ? policy->identity : NULL,
                           .ageless = policy->ttl_ms == UINT64_MAX};
    int r = meta_open(cache_get_index(cache), key, &how, err, &v->meta);
    if (r == 0 && !(store->caps & CAP_LOCAL_FD))
        v->ahead = lookahead_new(store, v->meta);
    if (r == 0)
        r = stage_open(cache_dir(cache), key, err, &v->stage);
    if (r == 0)
        r = rename_log_open(cache_dir(cache), key, err, &v->renames);
    if (r == 0)
        r = volume_recover(v, err);
    if (r == 0 && store->caps & CAP_WEAK_VERSIONS) /* after that: what is staged may need what its base was */
        cache_distrust(cache, key);
    if (r == 0)
        r = volume_retrier_start(v, err);
    if (r == 0)
        r = volume_resume_renames(v, err);
    if (r == 0) {
        v->keeper = keeper_new(v);
        *ret = v;
        return 0;
    }
    struct op op;
    op_init(&op, "close", 1);
    if (v->stage)
        (void)volume_close(v, &op);
    else
        volume_free(v);
    return err_prefix(err, "%s", key);
}

/* Its file and row stay for the next process. */
static void abandon(struct vnode *n)
{
    struct volume *v = n->v;
    if (n->stream && stream_has_freed(n->stream))
        stream_leave(n->stream); /* the journal's row says what of the content is in it */
    vnode_drop_undo(n, true);
    lock_acquire(&v->s.lock);
    vnode_detach_locked(n);
    lock_acquire(&n->lock);
    bool dirty = n->dirty;
    free(n->file_name);
    free(n->old_name);
    n->file_name = n->old_name = NULL;
    n->dirty = n->journaled = false;
    lock_release(&n->lock);
    lock_release(&v->s.lock);
    if (!dirty)
        return;
    stat_add(v->pending_files, -1);
    vnode_put(n); /* the reference of the dirty state */
}

struct sync_run {
    struct vnode **nodes;
    struct lock lock;
    int error;
    struct err err;
};

static int sync_one(void *arg, size_t i, struct op *op)
{
    struct sync_run *s = arg;
    struct vnode *n = s->nodes[i];
    int r = vnode_begin(n, op);
    if (r == 0) {
        r = vnode_commit(n, op);
        vnode_end(n);
    }
    LOCK_SCOPE(&s->lock);
    if (r < 0 && s->error == 0) {
        s->error = r;
        s->err = op->err;
    }
    return 0; /* the others still go */
}

int volume_sync(struct volume *v, struct op *op)
{
    struct sync_run s = {0};
    size_t count = vnode_collect(v, vnode_pick_dirty_locked, NULL, &s.nodes);
    lock_init(&s.lock, LOCK_RANK_LEAF, "sync");
    int r = parallel_each(count, SYNC_THREADS, sync_one, &s, op);
    for (size_t i = 0; i < count; i++)
        vnode_put(s.nodes[i]);
    free(s.nodes);
    lock_done(&s.lock);
    if (r == 0 && s.error)
        op->err = s.err;
    return r ? r : s.error;
}

/* What could not be stored in time: at least it is in the journal. */
static int leave_staged(struct volume *v)
{
    struct vnode **nodes = NULL;
    struct op op;
    op_init(&op, "close", 0);
    size_t count = vnode_collect(v, vnode_pick_dirty_locked, NULL, &nodes);
    for (size_t i = 0; i < count; i++) {
        struct vnode *n = nodes[i];
        bool unsaved = n->file && n->file->nameless && !n->saved;
        if ((n->unflushed || unsaved || !n->journaled) && vnode_begin(n, &op) == 0) {
            if (vnode_journal(n, &op) < 0)
                log_error("stage", "%s", err_text(&op.err));
            vnode_end(n);
        }
        abandon(n);
        vnode_put(n);
    }
    free(nodes);
    return (int)count;
}

int volume_close(struct volume *v, struct op *op)
{
    if (!v)
        return 0;
    keeper_stop(v->keeper);
    walk_stop(v->walk);
    volume_resume_stop(v);
    volume_retrier_stop(v);
    if (!v->silent)
        (void)volume_sync(v, op);
    volume_retrier_stop(v); /* what the failures have scheduled */
    int left = leave_staged(v);
    pool_drain(v->pool); /* readers that are being closed */
    volume_free(v);
    return left;
}

const char *volume_key(const struct volume *v)
{
    return v->key;
}

struct store *volume_store(struct volume *v)
{
    return v->store;
}

struct pool *volume_pool(struct volume *v)
{
    return v->pool;
}

void volume_halt(struct volume *v)
{
    if (v->halted_ns)
        return;
    v->answered = store_answered(v->store);
    v->halted_ns = clock_now_ns();
    store_halt(v->store, STORE_ASKS_NOTHING);
    given_up_halt(v);
}

/* When it is taken for silent, if it stays so. */
static uint64_t silence_ends_ns(const struct volume *v, uint64_t silence_ms)
{
    return silence_ms ? v->halted_ns + silence_ms * NS_PER_MS : UINT64_MAX;
}

/* Has it answered since it was looked at? The silence begins anew then. */
static bool has_answered(struct volume *v)
{
    uint64_t answered = store_answered(v->store);
    if (answered == v->answered)
        return false;
    v->answered = answered;
    v->halted_ns = clock_now_ns();
    return true;
}

static void give_up(struct volume *v)
{
    v->silent = true;
    store_halt(v->store, STORE_ENDS);
}

void volume_give_up_silent(struct volume *v, uint64_t silence_ms)
{
    if (has_answered(v) || !store_is_asked(v->store))
        v->halted_ns = clock_now_ns();
    else if (clock_now_ns() >= silence_ends_ns(v, silence_ms))
        give_up(v);
}

bool volume_drain(struct volume *v, uint64_t silence_ms)
{
    struct pool *const pools[] = {v->pool, v->fetch, v->pool /* readers that are being closed */};
    for (size_t i = 0; i < sizeof(pools) / sizeof(*pools); i++) {
        while (!pool_drain_until(pools[i], v->silent ? UINT64_MAX : silence_ends_ns(v, silence_ms)))
            if (!has_answered(v))
                give_up(v);
    }
    return !v->silent;
}

void volume_resume(struct volume *v)
{
    v->halted_ns = 0;
    if (!v->silent)
        store_halt(v->store, STORE_RUNS);
}

const struct volume_policy *volume_get_policy(const struct volume *v)
{
    return &v->policy;
}

int volume_check_write(struct volume *v, struct op *op, const char *path)
{
    if (!(v->store->caps & CAP_WRITE))
        return err_set(&op->err, EROFS, "%s: the store is read-only", v->key);
    return store_check_change(v->store, op, path);
}

void volume_will_change(struct volume *v, const char *path, const char *version)
{
    if (v->store->caps & CAP_WEAK_VERSIONS)
        cache_forget_other_versions(v->cache, v->key, path, version);
}

void volume_changed(struct volume *v, const char *path, const struct attr *a)
{
    if (a)
        given_up_stored(v, path);
    meta_own(v->meta, path, a);
}

void volume_forget_tree(struct volume *v, const char *dir)
{
    meta_forget_tree(v->meta, dir);
    volume_changed(v, dir, NULL);
    seen_forget_below(v, dir);
}

/* ---- attributes ---- */

static bool is_away(int r)
{
    return r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -EIO;
}

static int from_answer(struct volume *v, struct op *op, const char *path, enum meta_answer answer)
{
    return answer == META_THERE
               ? 0
               : err_set(&op->err, ENOENT, "%s: %s: not there", v->key, path);
}

struct below {
    size_t count;
    bool marker;      /* the directory has an object of its own */
    struct attr attr; /* which is this, where the listing told (ATTR_META) */
};

static void take_marker(struct below *b, struct list_page *page)
{
    if (page->count && path_is_unnamed(page->entries[0].key) && page->entries[0].attr.kind != ATTR_DIR)
        b->marker = true; /* with content: a file, too */
    else if (page->dir_attr.kind == ATTR_DIR)
        attr_move(&b->attr, &page->dir_attr);
}

static int look_below(struct volume *v, struct op *op, const char *dir, size_t want, struct below *ret)
{
    CLEANUP_FREE char *prefix = path_dir_prefix(dir);
    CLEANUP_FREE char *cursor = NULL;
    do {
        struct list_query q = {.prefix = prefix, .cursor = cursor,
                               .max = want < COUNT_MAX ? (unsigned)want + 1 : 0};
        struct list_page page = LIST_PAGE_INIT;
        int r = store_list(v->store, op, &q, &page);
        if (r < 0)
            return r;
        if (!cursor)
            take_marker(ret, &page);
        ret->marker = ret->marker || page.dir_exists;
        ret->count += page.count;
        free(cursor);
        cursor = take_ptr(&page.cursor);
        list_page_done(&page);
    } while (cursor && ret->count < want);
    return 0;
}

int volume_count_entries(struct volume *v, struct op *op, const char *dir, size_t want,
                         size_t *ret_count, bool *ret_marker)
{
    struct below b = {0};
    int r = look_below(v, op, dir, want, &b);
    if (r == 0) {
        *ret_count = b.count;
        *ret_marker = b.marker;
    }
    attr_done(&b.attr);
    return r;
}

/* The store's answer: what it has as a directory of that name, whatever else has it. */
static int ask_dir(struct volume *v, struct op *op, const char *path, struct attr *ret)
{
    if (v->store->caps & CAP_REAL_DIRS) {
        int r = store_stat(v->store, op, path, ret);
        if (r == 0 && ret->kind != ATTR_DIR) {
            attr_done(ret);
            r = err_set(&op->err, ENOENT, "%s: %s: not a directory", v->key, path);
        }
        return r;
    }
    size_t count = 0;
    bool marker = false;
    int r = volume_count_entries(v, op, path, 1, &count, &marker);
    if (r == 0 && count == 0 && !marker)
        r = err_set(&op->err, ENOENT, "%s: %s: no such directory", v->key, path);
    if (r == 0)
        *ret = (struct attr){.kind = ATTR_DIR, .known = ATTR_META};
    return r;
}

/* Who has it open shows the same. */
static void learn_open(struct volume *v, const char *path, const struct attr *a, uint64_t seq)
{
    struct vnode *n = vnode_find(v, path);
    if (n)
        vnode_learn(n, a, seq, false);
    vnode_put(n);
}

static int ask_store(struct volume *v, struct op *op, const char *path, bool dir,
                     struct first_read *body, struct attr *ret)
{
    uint64_t seq = meta_seq(v->meta, path);
    int r = body && first_read_wanted(v, path) ? first_read_ask(v, op, path, ret, body) : 1;
    if (r == 1)
        r = dir ? ask_dir(v, op, path, ret) : store_stat(v->store, op, path, ret);
    if (r == 0 && !dir && given_up_hides(v, path, ret)) {
        attr_done(ret);
        *ret = ATTR_INIT;
        r = err_set(&op->err, ENOENT, "%s: %s: was removed", v->key, path);
    }
    if (r == 0)
        ret->known |= ATTR_META;
    if (r == 0 || r == -ENOENT)
        meta_put(v->meta, path, dir, r == 0 ? ret : NULL, seq);
    if (r == 0 && !dir)
        learn_open(v, path, ret, seq);
    if (is_away(r) && v->policy.offline_serve) {
        struct err keep = op->err;
        enum meta_answer answer = meta_get_offline(v->meta, path, dir, ret);
        r = answer == META_MISS ? r : from_answer(v, op, path, answer);
        if (answer == META_MISS)
            op->err = keep;
    }
    if (r == -ENOENT && vnode_any_dirty_below(v, path)) {
        *ret = (struct attr){.kind = ATTR_DIR, .known = ATTR_META};
        r = 0;
    }
    return r;
}

int volume_stat_fresh(struct volume *v, struct op *op, const char *path, bool allow_ticket,
                      struct first_read *body, struct attr *ret)
{
    enum meta_answer answer = META_MISS;
    if (allow_ticket && v->policy.trust_ttl)
        answer = meta_get(v->meta, path, false, v->policy.ttl_ms, true, ret, NULL);
    if (answer == META_MISS && allow_ticket && v->policy.ticket_ms)
        answer = meta_take_ticket(v->meta, path, v->policy.ticket_ms, ret);
    if (answer != META_MISS)
        return from_answer(v, op, path, answer);
    int r = ask_store(v, op, path, false, body, ret);
    if (r == 0 || r == -ENOENT) { /* this answer is used up: the next open asks again */
        CLEANUP_ATTR struct attr used = ATTR_INIT;
        (void)meta_take_ticket(v->meta, path, 0, &used);
    }
    return r;
}

/* The root is there while its store is not, unless it is a real directory with attributes. */
static bool is_plain_root(const struct volume *v, const char *path)
{
    return path[0] == '\0' && !(v->store->caps & CAP_REAL_DIRS);
}

/* 0, -ENOENT, or -EAGAIN: not known here. */
static int known_attr(struct volume *v, const char *path, unsigned flags, struct attr *ret)
{
    bool dir = flags & VOLUME_STAT_DIR;
    if (is_plain_root(v, path)) {
        *ret = (struct attr){.kind = ATTR_DIR, .known = ATTR_META};
        return 0;
    }
    struct vnode *n = dir ? NULL : vnode_find(v, path);
    bool local = false;
    if (n) {
        lock_acquire(&n->lock);
        local = n->dirty;
        if (local)
            attr_copy(ret, &n->attr);
        lock_release(&n->lock);
        vnode_put(n);
    }
    if (local)
        return 0;
    if (flags & VOLUME_STAT_FRESH)
        return -EAGAIN;
    enum meta_answer answer = meta_get(v->meta, path, dir, v->policy.ttl_ms, true, ret, NULL);
    if (answer == META_MISS && !dir && v->ahead && lookahead_known(v->ahead, path, v->policy.ttl_ms))
        answer = meta_get(v->meta, path, dir, v->policy.ttl_ms, true, ret, NULL);
    switch (answer) {
    case META_THERE:
        return 0;
    case META_ABSENT:
        return vnode_any_dirty_below(v, path) ? -EAGAIN : -ENOENT;
    default:
        return -EAGAIN;
    }
}

/* Its own listing tells that it is there. 1: that is not the whole truth, -EAGAIN: there is none. */
static int dir_from_listing(struct volume *v, const char *path, struct attr *ret)
{
    struct listing *l = v->policy.ttl_ms ? meta_listing(v->meta, path, v->policy.ttl_ms) : NULL;
    int r = !l ? -EAGAIN : l->n == 0 || l->marker ? 1 : 0;
    listing_put(l);
    if (r == 0)
        *ret = (struct attr){.kind = ATTR_DIR, .known = ATTR_META};
    return r;
}

/* What a listing of its content told of it. 1: its marker's attributes, which count, are to be asked for. */
static int attr_from_below(struct below *b, struct attr *ret)
{
    if (b->attr.known & ATTR_META) {
        attr_move(ret, &b->attr);
        return 0;
    }
    if (b->marker || b->count == 0)
        return 1;
    *ret = (struct attr){.kind = ATTR_DIR, .known = ATTR_META};
    return 0;
}

/* A listing told that it is a directory: one request is enough, unless it has a marker of which listings do
 * not tell. 1: it is to be asked for in full. */
static int ask_listed_dir(struct volume *v, struct op *op, const char *path, unsigned flags,
                          struct attr *ret)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (flags || (v->store->caps & CAP_REAL_DIRS) ||
        meta_get(v->meta, path, false, v->policy.ttl_ms, false, &a, NULL) != META_THERE ||
        a.kind != ATTR_DIR)
        return 1;
    struct below b = {0};
    uint64_t seq = meta_seq(v->meta, path);
    int r = dir_from_listing(v, path, ret);
    if (r < 0)
        r = look_below(v, op, path, 1, &b) < 0 ? 1 : attr_from_below(&b, ret);
    if (r == 0)
        meta_put(v->meta, path, false, ret, seq);
    attr_done(&b.attr);
    return r;
}

static int stat_unknown(struct volume *v, struct op *op, const char *path, unsigned flags,
                        struct attr *ret)
{
    int r = ask_listed_dir(v, op, path, flags, ret);
    if (r == 1)
        r = ask_store(v, op, path, flags & VOLUME_STAT_DIR, NULL, ret);
    return r;
}

int volume_stat(struct volume *v, struct op *op, const char *path, unsigned flags, struct attr *ret)
{
    int r = known_attr(v, path, flags, ret);
    if (r == -EAGAIN && !flags && v->ahead && lookahead_ask(v->ahead, op, path, v->policy.ttl_ms))
        r = known_attr(v, path, flags, ret);
    if (r == -ENOENT)
        return from_answer(v, op, path, META_ABSENT);
    if (r == -EAGAIN) {
        if (!flags)
            walk_note(v->walk, path);
        r = stat_unknown(v, op, path, flags, ret);
    }
    if (r == 0)
        volume_complete(v, ret);
    return r;
}

int volume_stat_ahead(struct volume *v, struct op *op, const char *path, struct attr *ret)
{
    CLEANUP_ATTR struct attr used = ATTR_INIT;
    int r = known_attr(v, path, 0, ret);
    if (r != -EAGAIN)
        return r;
    r = stat_unknown(v, op, path, 0, ret);
    (void)meta_take_ticket(v->meta, path, 0, &used);
    return r;
}

int volume_peek(struct volume *v, const char *path, unsigned flags, struct attr *ret)
{
    int r = known_attr(v, path, flags & ~(unsigned)VOLUME_STAT_FRESH, ret);
    if (r == 0)
        volume_complete(v, ret);
    return r;
}

uint64_t volume_valid_ms(struct volume *v, const char *path)
{
    uint64_t ttl = v->policy.ttl_ms, age = 0;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (ttl == 0 || ttl == UINT64_MAX)
        return ttl;
    enum meta_answer answer = meta_get(v->meta, path, false, ttl, false, &a, &age);
    if (answer == META_ABSENT && (v->store->caps & CAP_VERSION_DIRS) && version_is_hidden(path))
        return 0; /* it comes to be with the first version: the kernel does not see that */
    if (answer != META_MISS)
        return age < ttl ? ttl - age : 0;
    struct vnode *n = vnode_find(v, path);
    bool local = n && vnode_is_dirty(n);
    vnode_put(n);
    return local ? ttl : 0;
}

int volume_space(struct volume *v, struct op *op, struct store_space *ret)
{
    int r = store_space(v->store, op, ret);
    if (r != -ENOTSUP)
        return r;
    *ret = (struct store_space){.total = SPACE_ENDLESS,
                                .free = SPACE_ENDLESS,
                                .avail = SPACE_ENDLESS,
                                .files = FILES_ENDLESS,
                                .files_free = FILES_ENDLESS};
    return 0;
}

void volume_forget(struct volume *v, const char *path, bool blocks)
{
    if (path)
        meta_forget_tree(v->meta, path);
    else
        meta_forget(v->meta, NULL);
    if (blocks)
        cache_forget(v->cache, v->key, path);
}

void volume_get_load(struct volume *v, struct volume_load *ret)
{
    struct pool_stats a, b;
    pool_stats(v->pool, &a);
    pool_stats(v->fetch, &b);
    *ret = (struct volume_load){.queued = a.queued + b.queued};
    LOCK_SCOPE(&v->s.lock);
    STRMAP_EACH(&v->s.nodes, it)
        ret->open_files += ((const struct vnode *)it->value)->handles;
}

/* ---- what is staged ---- */

static void staged_fill(struct vnode *n, struct staged_info *out)
{
    LOCK_SCOPE(&n->v->s.lock);
    LOCK_SCOPE(&n->lock);
    *out = (struct staged_info){.key = xstrdup(n->v->key),
                                .path = xstrdup(n->path),
                                .bytes = n->attr.size,
                                .attempts = n->attempts,
                                .last_error = xstrdup(n->last.code ? err_text(&n->last) : ""),
                                .since = n->since};
}

int volume_staged(struct volume *v, struct staged_info **ret, size_t *ret_n)
{
    struct vnode **nodes = NULL;
    size_t count = vnode_collect(v, vnode_pick_dirty_locked, NULL, &nodes);
    struct staged_info *list = xcalloc(count + 1, sizeof(*list));
    for (size_t i = 0; i < count; i++) {
        staged_fill(nodes[i], &list[i]);
        vnode_put(nodes[i]);
    }
    free(nodes);
    *ret = list;
    *ret_n = count;
    return 0;
}

void staged_list_free(struct staged_info *list, size_t n)
{
    for (size_t i = 0; list && i < n; i++) {
        free(list[i].key);
        free(list[i].path);
        free(list[i].last_error);
    }
    free(list);
}

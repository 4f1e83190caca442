/* SPDX-License-Identifier: MIT
 * cache.c: opening and closing the cache, its lock, the ticker and the figures.
 * States: OPENING (locked, index loaded, swept) -> OPEN -> CLOSING (ticker and disk thread ended,
 * rows committed) -> freed. Invariant: the directory lock is held from before the index is opened
 * until after it was closed. */
#include "cache/object_int.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sys.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#define TICK_NS (5 * NS_PER_S)
#define ENDING " ending" /* behind the pid in CACHE_DIR/lock */
#define WAIT_NS NS_PER_S /* for the lock of who may be about to note that */
#define WAIT_ENDING_NS (10 * NS_PER_S)
#define HEADROOM (48ULL << 20) /* of memory_limit, for all that is not a block buffer */
#define INDEX_FREE                                                                                 \
    (16ULL << 20) /* of it, for the tables; what they take more is taken off the buffers */
#define INDEX_LEAST (4ULL << 20)

/* ---- the directory ---- */
static int check_dir(const char *dir, struct err *err)
{
    struct stat st;
    int r = sys_mkdirs(dir, 0700);
    if (r < 0)
        return err_set(err, -r, "cache directory %s: %s", dir, strerrordesc_np(-r));
    if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
        return err_set(err, ENOTDIR, "cache directory %s: not a directory", dir);
    if (st.st_uid != geteuid())
        return err_set(err, EACCES, "cache directory %s belongs to another user (uid %u)", dir,
                       (unsigned)st.st_uid);
    if ((st.st_mode & 077) && chmod(dir, 0700) < 0)
        return err_set(err, errno, "cache directory %s: cannot make it private", dir);
    return 0;
}

static void read_holder(struct cache *c, char *buf, size_t size)
{
    ssize_t n = sys_pread(c->lock_fd, buf, size - 1, 0);
    buf[n > 0 ? n : 0] = '\0';
}

/* Who ends notes it a moment after its mount is gone; then it may be storing something. 0, or -errno. */
static int take_lock(struct cache *c)
{
    uint64_t began = clock_now_ns();
    for (bool told = false;;) {
        char holder[64] = "";
        if (flock(c->lock_fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK)
            return -errno;
        read_holder(c, holder, sizeof(holder));
        bool ends = strstr(holder, ENDING);
        if (clock_now_ns() - began >= (ends ? WAIT_ENDING_NS : WAIT_NS))
            return -EBUSY;
        if (ends && !told)
            log_info("cache", "%s: waits for pid %ld, which ends", c->dir, strtol(holder, NULL, 10));
        told = told || ends;
        clock_sleep_ms(20);
    }
}

static int note_holder(struct cache *c, const char *state)
{
    char text[64];
    int n = snprintf(text, sizeof(text), "%ld%s\n", (long)getpid(), state);
    ssize_t r = sys_pwrite(c->lock_fd, text, (size_t)n, 0);
    return r < 0 ? (int)r : sys_ftruncate(c->lock_fd, n);
}

void cache_ends(struct cache *c)
{
    (void)note_holder(c, ENDING);
}

static int lock_dir(struct cache *c, struct err *err)
{
    CLEANUP_BUF struct buf path = BUF_INIT;
    char holder[64] = "";
    buf_addf(&path, "%s/lock", c->dir);
    c->lock_fd = sys_openat(AT_FDCWD, path.data, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (c->lock_fd < 0)
        return err_set(err, -c->lock_fd, "%s: %s", path.data, strerrordesc_np(-c->lock_fd));
    int r = take_lock(c);
    if (r == -EBUSY) {
        read_holder(c, holder, sizeof(holder));
        return err_set(err, EBUSY, "cache directory %s is in use by pid %ld%s", c->dir, strtol(holder, NULL, 10),
                       strstr(holder, ENDING) ? ", which stores what was written before it ends" : "");
    }
    if (r < 0)
        return err_set(err, -r, "%s: cannot be locked", path.data);
    if (note_holder(c, "") < 0)
        log_debug("cache", "%s: the pid could not be noted", path.data);
    return 0;
}

static int open_blocks(struct cache *c, struct err *err)
{
    CLEANUP_BUF struct buf path = BUF_INIT;
    buf_addf(&path, "%s/blocks", c->dir);
    int r = sys_mkdirs(path.data, 0700);
    if (r == 0)
        r = c->blocks_fd = sys_openat(AT_FDCWD, path.data, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    return r < 0 ? err_set(err, -r, "%s: %s", path.data, strerrordesc_np(-r)) : 0;
}

/* Buffers and tables share the memory limit. */
static void fit_budget(struct cache *c)
{
    lock_acquire(&c->lock);
    uint64_t index = c->s.index_bytes;
    lock_release(&c->lock);
    uint64_t more = index > INDEX_FREE ? index - INDEX_FREE : 0;
    budget_resize(c->budget,
                  c->budget_base - (more < c->budget_base / 2 ? more : c->budget_base / 2));
}

/* ---- the ticker: use stamps to the index, the free-space floor, idle memory, and what is behind ---- */
static void wait_tick_locked(struct cache *c)
{
    uint64_t now = clock_now_ns(), due = now + TICK_NS;
    for (; !c->s.stopping && now < due; now = clock_now_ns()) {
        uint64_t behind = behind_due_locked(c);
        if (behind > now) {
            (void)cond_wait_until(&c->ticker_wake, &c->lock, behind < due ? behind : due);
            continue;
        }
        lock_release(&c->lock);
        behind_write(c);
        lock_acquire(&c->lock);
    }
}

static void *tick(void *arg)
{
    struct cache *c = arg;
    pthread_setname_np(pthread_self(), "quay-cache");
    lock_acquire(&c->lock);
    while (!c->s.stopping) {
        wait_tick_locked(c);
        if (c->s.stopping)
            break;
        lock_release(&c->lock);
        rows_flush_used(c);
        space_sample(c);
        fit_budget(c);
        budget_trim(c->budget);
        stat_set(c->memory_gauge, (int64_t)budget_used(c->budget));
        lock_acquire(&c->lock);
    }
    lock_release(&c->lock);
    return NULL;
}

static uint64_t budget_size(const struct cache_settings *set, uint64_t memory_limit)
{
    uint64_t half = memory_limit / 2, least = 8 * set->block_size;
    uint64_t size = memory_limit > half + HEADROOM ? memory_limit - HEADROOM : half;
    return size > least ? size : least;
}

static struct cache *cache_new(const struct cache_settings *set, uint64_t memory_limit,
                               struct stats *stats)
{
    struct cache *c = xcalloc(1, sizeof(*c));
    c->set = *set;
    c->dir = xstrdup(set->dir);
    c->set.dir = c->dir;
    c->stats = stats;
    c->lock_fd = c->blocks_fd = -1;
    lock_init(&c->lock, LOCK_RANK_CACHE, "cache");
    cond_init(&c->changed);
    cond_init(&c->ticker_wake);
    objects_init(c);
    c->budget_base = budget_size(set, memory_limit);
    c->index_max = memory_limit / 8 * 3 > INDEX_LEAST ? memory_limit / 8 * 3 : INDEX_LEAST;
    c->budget = budget_new(c->budget_base);
    budget_set_reclaim(c->budget, fetch_reclaim, c);
    c->disk = pool_new("quay-disk", 1);
    c->memory_gauge =
        stats_gauge(stats, "quayfs_cache_memory_bytes", "Block buffers in memory", NULL);
    c->dirty_gauge = stats_gauge(stats, "quayfs_cache_dirty_bytes",
                                 "Bytes staged on disk that are not yet in their store", NULL);
    return c;
}

/* Closes whatever was opened. */
static void cache_free(struct cache *c)
{
    pool_free(c->disk);
    rows_close(c);
    index_close(c->index);
    objects_done(c);
    budget_free(c->budget);
    if (c->blocks_fd >= 0)
        (void)close(c->blocks_fd);
    if (c->lock_fd >= 0)
        (void)close(c->lock_fd);
    cond_done(&c->changed);
    cond_done(&c->ticker_wake);
    lock_done(&c->lock);
    free(c->dir);
    free(c);
}

static int try_index(struct cache *c, struct err *err, bool *ret_clean)
{
    int r = index_open(c->dir, err, &c->index);
    if (r == 0)
        r = rows_open(c, err, ret_clean);
    if (r == 0)
        return 0;
    free(c->rows);
    c->rows = NULL; /* so that it is not marked clean */
    index_close(c->index);
    c->index = NULL;
    return r;
}

/* An index that turns out damaged while it is read was moved aside by index_close: once more,
 * empty. */
static int open_index(struct cache *c, struct err *err, bool *ret_clean)
{
    int r = try_index(c, err, ret_clean);
    if (r != -EUCLEAN)
        return r;
    objects_done(c);
    objects_init(c);
    return try_index(c, err, ret_clean);
}

int cache_open(const struct cache_settings *set, uint64_t memory_limit, struct stats *stats,
               struct err *err, struct cache **ret)
{
    bool clean = false;
    assert(set->block_size >= 16 * CACHE_PAGE && (set->block_size & (set->block_size - 1)) == 0);
    int r = check_dir(set->dir, err);
    if (r < 0)
        return r;
    struct cache *c = cache_new(set, memory_limit, stats);
    r = lock_dir(c, err);
    if (r == 0)
        r = open_blocks(c, err);
    if (r == 0)
        r = open_index(c, err, &clean);
    if (r < 0) {
        cache_free(c);
        return r;
    }
    c->ended_well = clean;
    if (!clean)
        blockfile_sweep(c);
    space_sample(c);
    space_shrink(c, 0);
    fit_budget(c);
    c->has_ticker = pthread_create(&c->ticker, NULL, tick, c) == 0;
    *ret = c;
    return 0;
}

void cache_close(struct cache *c)
{
    if (!c)
        return;
    lock_acquire(&c->lock);
    c->s.stopping = true;
    cond_signal(&c->ticker_wake);
    lock_release(&c->lock);
    if (c->has_ticker)
        pthread_join(c->ticker, NULL);
    behind_flush(c);
    cache_free(c);
}

struct cache_index *cache_get_index(struct cache *c)
{
    return c->index;
}

const char *cache_dir(const struct cache *c)
{
    return c->dir;
}

const struct cache_settings *cache_get_settings(const struct cache *c)
{
    return &c->set;
}

void *cache_buffer_get(struct cache *c, size_t size, bool wait)
{
    return budget_get(c->budget, size, wait);
}

void cache_buffer_put(struct cache *c, void *p, size_t size)
{
    if (p)
        budget_put(c->budget, p, size);
}

bool cache_last_version(struct cache *c, const char *key, const char *path, char version[129],
                        uint64_t *ret_size)
{
    LOCK_SCOPE(&c->lock);
    struct cache_object *o = object_newest_locked(c, key, path);
    if (!o || strlen(o->version) > 128)
        return false;
    snprintf(version, 129, "%s", o->version);
    *ret_size = o->size;
    return true;
}

static void add_usage(const struct cache_key *k, struct cache_usage *u)
{
    u->bytes += k->bytes;
    u->files += k->files;
    u->blocks += k->blocks;
    u->hits += (uint64_t)stat_get(k->hits);
    u->misses += (uint64_t)stat_get(k->misses);
    u->evictions += (uint64_t)stat_get(k->evictions);
    u->corrupt += (uint64_t)stat_get(k->corrupt);
    u->pinned_bytes += k->pinned;
}

void cache_get_usage(struct cache *c, const char *key, struct cache_usage *ret)
{
    struct cache_usage u = {.memory = budget_used(c->budget),
                            .memory_limit = budget_total(c->budget)};
    LOCK_SCOPE(&c->lock);
    u.dirty_bytes = c->s.dirty;
    STRMAP_EACH(&c->s.keys, it)
    {
        if (!key || strcmp(key, it->key) == 0)
            add_usage(it->value, &u);
    }
    *ret = u;
}

/* SPDX-License-Identifier: MIT
 * space.c: max_size and min_free, and everything that removes blocks.
 * Invariants
 *   1. clean + dirty + reserved <= max_size: room is made before it is taken (but for what
 * cache_adopt moves from dirty to clean, which is on the disk once).
 *   2. A block's bytes are given back after its hole was punched or its file unlinked.
 *   3. The tables take index_max bytes of memory at most, but for what is in use: many small
 * objects are limited by that rather than by their bytes.
 *   4. Who finds too little room while others evict waits for them and looks again. */
#include "cache/object_int.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#define BATCH 64
#define SAMPLE_NS NS_PER_S

/* What may be evicted: of a key (NULL = any), last used before. */
struct filter {
    const struct cache_key *key;
    uint64_t before_ms;
};
#define ANYTHING ((struct filter){.before_ms = UINT64_MAX})

static struct block *block_of(const struct evict_item *it)
{
    return __extension__((struct block *)((uintptr_t)it - offsetof(struct block, lru)));
}

static bool may_go(const struct evict_item *it, void *arg)
{
    const struct filter *f = arg;
    const struct block *b = block_of(it);
    return b->pins == 0 && !b->object->given && it->used_ms < f->before_ms && (!f->key || b->object->key == f->key);
}

/* Makes the coldest blocks LEAVING, with a reference on their objects. */
static size_t choose_locked(struct cache *c, uint64_t need, struct filter f, struct block **out)
{
    struct evict_item *items[BATCH];
    size_t n = evict_choose(&c->s.lru, need, may_go, &f, items, BATCH);
    for (size_t i = 0; i < n; i++) {
        out[i] = block_of(items[i]);
        block_leave_locked(out[i]);
    }
    return n;
}

void block_leave_locked(struct block *b)
{
    struct cache_object *o = b->object;
    evict_remove(object_list(o), &b->lru);
    b->leaving = true;
    o->refs++;
    o->cache->s.leaving += b->lru.bytes;
}

/* The only block of an object goes with its file. */
static bool unlink_last(struct cache_object *o)
{
    struct cache *c = o->cache;
    bool last = false;
    lock_acquire(&c->lock);
    if (o->n_blocks == 1) {
        object_busy_begin_locked(o);
        last = o->n_blocks == 1;
        lock_release(&c->lock);
        if (last)
            blockfile_unlink(o);
        lock_acquire(&c->lock);
        object_busy_end_locked(o);
    }
    lock_release(&c->lock);
    return last;
}

/* LEAVING -> ABSENT. */
bool evict_block(struct block *b, uint64_t *ret_bytes)
{
    struct cache_object *o = b->object;
    struct cache *c = o->cache;
    uint64_t bytes = b->lru.bytes;
    *ret_bytes += bytes;
    bool last = unlink_last(o);
    int r = last ? 0 : blockfile_punch(o, b->no);
    lock_acquire(&c->lock);
    c->s.leaving -= bytes;
    if (r < 0) { /* a file system without holes: the space comes back with the whole file */
        o->ghost += bytes;
        c->s.clean += bytes;
    } else {
        c->s.disk_free += bytes;
    }
    if (o->n_blocks > 1)
        rows_drop_extents_locked(o, b->no * c->set.block_size, c->set.block_size);
    last = o->n_blocks == 1;
    block_drop_locked(b);
    cond_broadcast(&c->changed);
    lock_release(&c->lock);
    cache_object_put(o);
    return last;
}

static void evict_blocks(struct block **blocks, size_t n, uint64_t *ret_bytes, uint64_t *ret_files)
{
    for (size_t i = 0; i < n; i++)
        *ret_files += evict_block(blocks[i], ret_bytes);
}

/* ---- limits ---- */
static void sample_disk(struct cache *c)
{
    struct statvfs v;
    lock_assert_none_held();
    if (fstatvfs(c->blocks_fd, &v) < 0)
        return;
    LOCK_SCOPE(&c->lock);
    c->s.disk_free = (uint64_t)v.f_bavail * v.f_frsize;
    c->s.sampled_ns = clock_now_ns();
}

static void sample_if_old(struct cache *c)
{
    lock_acquire(&c->lock);
    bool old = clock_now_ns() - c->s.sampled_ns > SAMPLE_NS;
    lock_release(&c->lock);
    if (old)
        sample_disk(c);
}

/* How much must go before `bytes` more fit. */
static uint64_t excess_locked(const struct cache *c, uint64_t bytes)
{
    uint64_t want = c->s.clean + c->s.dirty + c->s.reserved + bytes;
    uint64_t over = c->set.max_size && want > c->set.max_size ? want - c->set.max_size : 0;
    uint64_t floor = c->set.min_free + bytes;
    uint64_t under = c->s.disk_free < floor ? floor - c->s.disk_free : 0;
    return over > under ? over : under;
}

/* One step towards room: evicts, or waits for who does. false: nothing can be evicted. */
static bool make_room_locked(struct cache *c, uint64_t excess)
{
    struct block *blocks[BATCH];
    uint64_t bytes = 0, files = 0;
    size_t n =
        excess > c->s.leaving ? choose_locked(c, excess - c->s.leaving, ANYTHING, blocks) : 0;
    if (n == 0 && c->s.leaving == 0)
        return false;
    if (n == 0) {
        cond_wait(&c->changed, &c->lock);
        return true;
    }
    for (size_t i = 0; i < n; i++)
        stat_add(blocks[i]->object->key->evictions, 1);
    lock_release(&c->lock);
    evict_blocks(blocks, n, &bytes, &files);
    lock_acquire(&c->lock);
    return true;
}

static bool is_crowded_locked(const struct cache *c)
{
    return c->s.index_bytes > c->index_max;
}

static int reserve(struct cache *c, uint64_t bytes, uint64_t *counter)
{
    if (c->set.max_size && bytes > c->set.max_size)
        return -ENOSPC;
    sample_if_old(c);
    LOCK_SCOPE(&c->lock);
    for (;;) {
        uint64_t excess = excess_locked(c, bytes);
        if (excess == 0 && !(is_crowded_locked(c) && make_room_locked(c, 1)))
            break;
        if (excess && !make_room_locked(c, excess))
            return -ENOSPC;
    }
    *counter += bytes;
    c->s.disk_free -= bytes < c->s.disk_free ? bytes : c->s.disk_free;
    return 0;
}

int space_reserve(struct cache *c, uint64_t bytes)
{
    return reserve(c, bytes, &c->s.reserved);
}

void space_sample(struct cache *c)
{
    sample_disk(c);
    LOCK_SCOPE(&c->lock);
    while (c->s.disk_free < c->set.min_free &&
           make_room_locked(c, c->set.min_free - c->s.disk_free)) {
    }
    while (is_crowded_locked(c) && make_room_locked(c, 1)) {
    }
}

void space_shrink(struct cache *c, uint64_t slack)
{
    LOCK_SCOPE(&c->lock);
    while (c->set.max_size && c->s.clean + c->s.dirty > c->set.max_size + slack &&
           make_room_locked(c, c->s.clean + c->s.dirty - c->set.max_size - slack)) {
    }
}

int cache_reserve_dirty(struct cache *c, uint64_t bytes, struct err *err)
{
    if (reserve(c, bytes, &c->s.dirty) < 0)
        return err_set(
            err, ENOSPC,
            "cache directory %s: no room for %llu bytes to be written (max_size, min_free)", c->dir,
            (unsigned long long)bytes);
    LOCK_SCOPE(&c->lock);
    stat_set(c->dirty_gauge, (int64_t)c->s.dirty);
    return 0;
}

void cache_release_dirty(struct cache *c, uint64_t bytes)
{
    LOCK_SCOPE(&c->lock);
    c->s.dirty -= bytes < c->s.dirty ? bytes : c->s.dirty;
    stat_set(c->dirty_gauge, (int64_t)c->s.dirty);
}

/* ---- removing on request ---- */
static void remove_all(struct cache *c, struct filter f, uint64_t *ret_bytes, uint64_t *ret_files)
{
    struct block *blocks[BATCH];
    uint64_t bytes = 0, files = 0;
    for (;;) {
        lock_acquire(&c->lock);
        size_t n = choose_locked(c, UINT64_MAX, f, blocks);
        lock_release(&c->lock);
        if (n == 0)
            break;
        evict_blocks(blocks, n, &bytes, &files);
    }
    if (ret_bytes)
        *ret_bytes = bytes;
    if (ret_files)
        *ret_files = files;
}

static int filter_for(struct cache *c, const char *key, struct filter *ret)
{
    *ret = ANYTHING;
    if (!key)
        return 0;
    LOCK_SCOPE(&c->lock);
    ret->key = strmap_get(&c->s.keys, key);
    return ret->key ? 0 : -ENOENT;
}

int cache_clear(struct cache *c, const char *key, uint64_t *ret_bytes, uint64_t *ret_files)
{
    return cache_cleanup(c, key, 0, ret_bytes, ret_files);
}

int cache_cleanup(struct cache *c, const char *key, uint64_t ttl_ms, uint64_t *ret_bytes,
                  uint64_t *ret_files)
{
    struct filter f;
    behind_flush(c);
    if (filter_for(c, key, &f) < 0) { /* a key of which nothing was ever cached */
        if (ret_bytes)
            *ret_bytes = 0;
        if (ret_files)
            *ret_files = 0;
        return 0;
    }
    uint64_t now = cache_now_ms();
    if (ttl_ms)
        f.before_ms = now > ttl_ms ? now - ttl_ms : 0;
    remove_all(c, f, ret_bytes, ret_files);
    return 0;
}

/* The objects that are meant, with references. */
static struct cache_object **collect(struct cache *c, const char *key,
                                     bool (*match)(void *arg, const char *path), void *arg,
                                     size_t *ret_n)
{
    size_t n = 0;
    LOCK_SCOPE(&c->lock);
    struct cache_object **list = xcalloc(c->s.count + 1, sizeof(struct cache_object *));
    const struct cache_key *k = strmap_get(&c->s.keys, key);
    for (size_t i = 0; k && i < c->s.n_buckets; i++)
        for (struct cache_object *o = c->s.by_name[i]; o; o = o->next_name) {
            if (o->key != k || o->n_blocks == 0 || !match(arg, o->path))
                continue;
            o->refs++;
            list[n++] = o;
        }
    *ret_n = n;
    return list;
}

static size_t leave_some_locked(struct cache_object *o, struct block **out, uint64_t *ret_busy)
{
    size_t n = 0;
    *ret_busy = 0;
    for (uint32_t i = 0; i < o->n_blocks && n < BATCH; i++) {
        struct block *b = o->blocks[i];
        if (b->pins) {
            *ret_busy += b->lru.bytes;
        } else if (!b->leaving && evict_listed(&b->lru)) {
            block_leave_locked(b);
            out[n++] = b;
        }
    }
    return n;
}

static void evict_object(struct cache_object *o, struct cache_evicted *ret)
{
    struct block *blocks[BATCH];
    uint64_t busy = 0;
    for (size_t n = 1; n;) {
        lock_acquire(&o->cache->lock);
        n = leave_some_locked(o, blocks, &busy);
        lock_release(&o->cache->lock);
        evict_blocks(blocks, n, &ret->bytes, &ret->files);
    }
    ret->busy_bytes += busy;
}

void cache_evict(struct cache *c, const char *key, bool (*match)(void *arg, const char *path),
                 void *arg, bool pinned, struct cache_evicted *ret)
{
    size_t n = 0;
    behind_flush(c);
    struct cache_object **list = collect(c, key, match, arg, &n);
    for (size_t i = 0; i < n; i++) {
        lock_acquire(&c->lock);
        bool stays = list[i]->pinned && !pinned;
        uint64_t bytes = list[i]->bytes;
        lock_release(&c->lock);
        if (stays) {
            ret->pinned_bytes += bytes;
            ret->pinned_files++;
        } else {
            evict_object(list[i], ret);
        }
        cache_object_put(list[i]);
    }
    free(list);
}

/* NAMED -> ZOMBIE; the caller holds the lock, which is given up meanwhile. */
void object_forget_locked(struct cache_object *o)
{
    struct cache *c = o->cache;
    o->refs++;
    object_busy_begin_locked(o);
    bool mine = !o->zombie;
    if (mine) {
        o->zombie = true;
        rows_drop_object_locked(o);
        bool readers = o->refs > 1;
        lock_release(&c->lock);
        blockfile_detach(o, readers);
        lock_acquire(&c->lock);
        object_take_out_locked(o);
    }
    object_busy_end_locked(o);
    lock_release(&c->lock);
    cache_object_put(o);
    lock_acquire(&c->lock);
}

uint64_t cache_room(struct cache *c)
{
    if (!c->set.enabled)
        return 0;
    sample_disk(c);
    LOCK_SCOPE(&c->lock);
    uint64_t taken = c->s.dirty + c->s.reserved + c->s.pinned.bytes;
    uint64_t room = UINT64_MAX, disk = c->s.disk_free + c->s.lru.bytes;
    if (c->set.max_size)
        room = c->set.max_size > taken ? c->set.max_size - taken : 0;
    disk = disk > c->set.min_free ? disk - c->set.min_free : 0;
    return room < disk ? room : disk;
}

static size_t forget_key_locked(struct cache *c, const char *key)
{
    const struct cache_key *k = object_key_locked(c, key);
    struct cache_object *o;
    size_t n = 0, at = 0;
    for (; (o = object_of_key_locked(c, k, &at)); n++)
        object_forget_locked(o);
    return n;
}

void cache_forget(struct cache *c, const char *key, const char *path)
{
    struct cache_object *o;
    LOCK_SCOPE(&c->lock);
    if (!path) {
        (void)forget_key_locked(c, key);
        return;
    }
    while ((o = object_of_path_locked(c, key, path, NULL)))
        object_forget_locked(o);
}

void cache_distrust(struct cache *c, const char *key)
{
    lock_acquire(&c->lock);
    struct cache_key *k = object_key_locked(c, key);
    size_t n = k->trusted || c->ended_well ? 0 : forget_key_locked(c, key);
    k->trusted = true;
    lock_release(&c->lock);
    if (n)
        log_info("cache", "%s: the last process did not end well: %zu files that were kept are fetched again when they are "
                          "read (this store's versions cannot tell two changes of one second apart)", key, n);
}

void cache_forget_other_versions(struct cache *c, const char *key, const char *path,
                                 const char *version)
{
    struct cache_object *o;
    LOCK_SCOPE(&c->lock);
    while ((o = object_of_path_locked(c, key, path, version)))
        object_forget_locked(o);
}

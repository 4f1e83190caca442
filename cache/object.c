/* SPDX-License-Identifier: MIT
 * object.c: the table of object versions and their blocks, in memory. No I/O but closing
 * descriptors. States and invariants: object_int.h. Memory: about 250 bytes and the path per object
 * version. */
#include "cache/object_int.h"

#include "base/clock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUCKETS_MIN 1024
#define MALLOC_EXTRA 16
#define BLOCK_COST (sizeof(struct block) + 2 * MALLOC_EXTRA + 2 * sizeof(struct block *))

uint64_t cache_now_ms(void)
{
    struct timespec t = clock_wall();
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / NS_PER_MS;
}

/* ---- tables ---- */
void objects_init(struct cache *c)
{
    memset(&c->s, 0, sizeof(c->s));
    c->s.n_buckets = BUCKETS_MIN;
    c->s.by_name = xcalloc(c->s.n_buckets, sizeof(*c->s.by_name));
    c->s.by_path = xcalloc(c->s.n_buckets, sizeof(*c->s.by_path));
    c->s.next_id = 1;
    evict_init(&c->s.lru);
    evict_init(&c->s.pinned);
}

void objects_done(struct cache *c)
{
    for (size_t i = 0; i < c->s.n_buckets; i++)
        for (struct cache_object *o = c->s.by_name[i], *next; o; o = next) {
            next = o->next_name;
            object_free(o);
        }
    free(c->s.by_name);
    free(c->s.by_path);
    STRMAP_EACH(&c->s.keys, it)
    {
        struct cache_key *key = it->value;
        pins_free(key);
        free(key->name);
        free(key);
    }
    strmap_done(&c->s.keys);
}

static void key_counters(struct cache *c, struct cache_key *k)
{
    k->hits = stats_counter(c->stats, "quayfs_cache_hits_total",
                            "Reads answered without waiting for the store", "key", k->name, NULL);
    k->misses = stats_counter(c->stats, "quayfs_cache_misses_total",
                              "Reads that waited for the store", "key", k->name, NULL);
    k->evictions = stats_counter(c->stats, "quayfs_cache_evictions_total",
                                 "Blocks evicted to make room", "key", k->name, NULL);
    k->corrupt = stats_counter(c->stats, "quayfs_cache_corrupt_total",
                               "Cached ranges whose checksum did not match", "key", k->name, NULL);
    k->gauge = stats_gauge(c->stats, "quayfs_cache_bytes", "Bytes of clean blocks on disk", "key",
                           k->name, NULL);
}

struct cache_key *object_key_locked(struct cache *c, const char *name)
{
    lock_assert_held(&c->lock);
    struct cache_key *k = strmap_get(&c->s.keys, name);
    if (k)
        return k;
    k = xcalloc(1, sizeof(*k));
    k->name = xstrdup(name);
    key_counters(c, k);
    strmap_put(&c->s.keys, name, k);
    return k;
}

void object_name(const char *key, const char *path, const char *version, uint8_t name[SHA256_LEN])
{
    struct buf b = BUF_INIT;
    buf_add(&b, key, strlen(key) + 1);
    buf_add(&b, path, strlen(path) + 1);
    buf_adds(&b, version);
    sha256(b.data, b.len, name);
    buf_done(&b);
}

void object_hex(const struct cache_object *o, char out[68])
{
    hex_encode(o->name, 1, out);
    out[2] = '/';
    hex_encode(o->name, SHA256_LEN, out + 3);
}

static uint64_t path_hash(const struct cache_key *key, const char *path)
{
    return hash_bytes(path, strlen(path)) ^ (uint64_t)(uintptr_t)key;
}

static size_t name_slot(const struct cache *c, const uint8_t name[SHA256_LEN])
{
    uint64_t h;
    memcpy(&h, name, sizeof(h));
    return (size_t)h & (c->s.n_buckets - 1);
}

struct cache_object *object_new(struct cache *c, struct cache_key *key, const char *path,
                                const char *version, uint64_t size, bool keep)
{
    size_t path_len = strlen(path), version_len = strlen(version);
    struct cache_object *o = xcalloc(1, sizeof(*o) + path_len + version_len + 2);
    o->cache = c;
    o->key = key;
    o->size = size;
    o->keep = keep;
    o->fd = -1;
    memcpy(o->path, path, path_len);
    memcpy(o->path + path_len + 1, version, version_len);
    o->version = o->path + path_len + 1;
    o->path_hash = path_hash(key, path);
    object_name(key->name, path, version, o->name);
    return o;
}

void object_free(struct cache_object *o)
{
    for (uint32_t i = 0; i < o->n_blocks; i++) {
        extents_done(&o->blocks[i]->set);
        free(o->blocks[i]);
    }
    if (o->fd >= 0)
        (void)close(o->fd);
    free(o->blocks);
    free(o);
}

struct cache_object *object_find_locked(struct cache *c, const uint8_t name[SHA256_LEN], bool keep)
{
    lock_assert_held(&c->lock);
    struct cache_object *o = c->s.by_name[name_slot(c, name)];
    while (o && (o->keep != keep || memcmp(o->name, name, SHA256_LEN) != 0))
        o = o->next_name;
    return o;
}

static void link_object(struct cache *c, struct cache_object *o)
{
    struct cache_object **slot = &c->s.by_name[name_slot(c, o->name)];
    o->next_name = *slot;
    *slot = o;
    slot = &c->s.by_path[(size_t)o->path_hash & (c->s.n_buckets - 1)];
    o->next_path = *slot;
    *slot = o;
}

static void grow(struct cache *c)
{
    size_t old_n = c->s.n_buckets;
    struct cache_object **old = c->s.by_name;
    free(c->s.by_path);
    c->s.n_buckets *= 2;
    c->s.by_name = xcalloc(c->s.n_buckets, sizeof(*c->s.by_name));
    c->s.by_path = xcalloc(c->s.n_buckets, sizeof(*c->s.by_path));
    for (size_t i = 0; i < old_n; i++)
        for (struct cache_object *o = old[i], *next; o; o = next) {
            next = o->next_name;
            link_object(c, o);
        }
    free(old);
}

static uint64_t cost_of(const struct cache_object *o)
{
    return sizeof(*o) + strlen(o->path) + strlen(o->version) + 2 + MALLOC_EXTRA;
}

void object_insert_locked(struct cache_object *o)
{
    struct cache *c = o->cache;
    lock_assert_held(&c->lock);
    if (++c->s.count > c->s.n_buckets)
        grow(c);
    link_object(c, o);
    c->s.index_bytes += cost_of(o);
    o->named = true;
    o->pinned = o->keep && pins_cover_locked(o->key, o->path);
    o->pin_round = c->s.pin_round;
}

void object_take_out_locked(struct cache_object *o)
{
    struct cache *c = o->cache;
    lock_assert_held(&c->lock);
    if (!o->named)
        return;
    struct cache_object **p = &c->s.by_name[name_slot(c, o->name)];
    while (*p != o)
        p = &(*p)->next_name;
    *p = o->next_name;
    p = &c->s.by_path[(size_t)o->path_hash & (c->s.n_buckets - 1)];
    while (*p != o)
        p = &(*p)->next_path;
    *p = o->next_path;
    c->s.count--;
    c->s.index_bytes -= cost_of(o);
    o->named = false;
}

static bool is_wanted(const struct cache_object *o, const char *key, const char *path,
                      const char *except)
{
    return o->keep && !o->zombie && strcmp(o->key->name, key) == 0 &&
           strcmp(o->path, path) == 0 && (!except || strcmp(o->version, except) != 0);
}

struct cache_object *object_of_path_locked(struct cache *c, const char *key, const char *path,
                                           const char *except)
{
    lock_assert_held(&c->lock);
    struct cache_key *k = strmap_get(&c->s.keys, key);
    if (!k)
        return NULL;
    size_t i = (size_t)path_hash(k, path) & (c->s.n_buckets - 1);
    for (struct cache_object *o = c->s.by_path[i]; o; o = o->next_path)
        if (o->passes == 0 && is_wanted(o, key, path, except))
            return o;
    return NULL;
}

struct cache_object *object_of_key_locked(struct cache *c, const struct cache_key *k, size_t *at)
{
    lock_assert_held(&c->lock);
    for (; *at < c->s.n_buckets; ++*at)
        for (struct cache_object *o = c->s.by_path[*at]; o; o = o->next_path)
            if (o->key == k && o->keep && !o->zombie && o->passes == 0)
                return o;
    return NULL;
}

struct cache_object *object_newest_locked(struct cache *c, const char *key, const char *path)
{
    lock_assert_held(&c->lock);
    struct cache_object *newest = NULL;
    struct cache_key *k = strmap_get(&c->s.keys, key);
    if (!k)
        return NULL;
    size_t i = (size_t)path_hash(k, path) & (c->s.n_buckets - 1);
    for (struct cache_object *o = c->s.by_path[i]; o; o = o->next_path)
        if ((o->bytes || atomic_load(&o->behind)) && is_wanted(o, key, path, NULL) && (!newest || o->used_ms > newest->used_ms))
            newest = o;
    return newest;
}

void object_busy_begin_locked(struct cache_object *o)
{
    while (o->busy)
        cond_wait(&o->cache->changed, &o->cache->lock);
    o->busy = true;
}

void object_busy_end_locked(struct cache_object *o)
{
    lock_assert_held(&o->cache->lock);
    o->busy = false;
    cond_broadcast(&o->cache->changed);
}

void object_touch_locked(struct cache_object *o, struct block *b)
{
    struct cache *c = o->cache;
    o->used_ms = cache_now_ms();
    if (evict_listed(&b->lru))
        evict_touch(object_list(o), &b->lru, o->used_ms);
    if (!o->touched && o->id) {
        o->touched = true;
        o->next_touched = c->s.touched;
        c->s.touched = o;
    }
}

static void untouch(struct cache_object *o)
{
    if (!o->touched)
        return;
    struct cache_object **p = &o->cache->s.touched;
    while (*p != o)
        p = &(*p)->next_touched;
    *p = o->next_touched;
    o->touched = false;
}

/* ---- blocks ---- */
static uint32_t block_slot(const struct cache_object *o, uint32_t no)
{
    uint32_t lo = 0, hi = o->n_blocks;
    if (hi && o->blocks[hi - 1]->no < no)
        return hi; /* appending is the usual case */
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (o->blocks[mid]->no < no)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct block *block_find_locked(const struct cache_object *o, uint32_t no)
{
    uint32_t i = block_slot(o, no);
    return i < o->n_blocks && o->blocks[i]->no == no ? o->blocks[i] : NULL;
}

struct block *block_add_locked(struct cache_object *o, uint32_t no)
{
    lock_assert_held(&o->cache->lock);
    uint32_t i = block_slot(o, no);
    if (i < o->n_blocks && o->blocks[i]->no == no)
        return o->blocks[i];
    struct block *b = xcalloc(1, sizeof(*b));
    b->object = o;
    b->no = no;
    if (o->n_blocks == o->cap_blocks) {
        o->cap_blocks = o->cap_blocks ? o->cap_blocks * 2 : 1;
        o->blocks = xrealloc(o->blocks, o->cap_blocks * sizeof(struct block *));
    }
    memmove(&o->blocks[i + 1], &o->blocks[i], (o->n_blocks - i) * sizeof(struct block *));
    o->blocks[i] = b;
    o->n_blocks++;
    o->cache->s.index_bytes += BLOCK_COST;
    return b;
}

/* After the extents of a block changed from `before` bytes. */
static void account(struct block *b, uint64_t before)
{
    struct cache_object *o = b->object;
    struct cache *c = o->cache;
    uint64_t now = extents_bytes(&b->set), old_object = o->bytes;
    o->bytes += now - before;
    c->s.clean += now - before;
    o->key->bytes += now - before;
    o->key->pinned += o->pinned ? now - before : 0;
    stat_set(o->key->gauge, (int64_t)o->key->bytes);
    o->key->blocks += (now > 0) - (before > 0);
    o->key->files += (o->bytes > 0) - (old_object > 0);
    if (evict_listed(&b->lru) && now == 0)
        evict_remove(object_list(o), &b->lru);
    else if (evict_listed(&b->lru))
        evict_resize(object_list(o), &b->lru, now);
    else if (now && !b->leaving)
        evict_add(object_list(o), &b->lru, now, cache_now_ms());
}

void block_drop_locked(struct block *b)
{
    struct cache_object *o = b->object;
    struct cache *c = o->cache;
    lock_assert_held(&c->lock);
    assert(b->pins == 0);
    uint64_t before = extents_bytes(&b->set);
    extents_done(&b->set);
    account(b, before);
    uint32_t i = block_slot(o, b->no);
    memmove(&o->blocks[i], &o->blocks[i + 1], (o->n_blocks - i - 1) * sizeof(struct block *));
    o->n_blocks--;
    c->s.index_bytes -= BLOCK_COST;
    free(b);
    if (o->n_blocks)
        return;
    if (o->id)
        rows_drop_object_locked(o);
    untouch(o);
}

bool block_put_locked(struct block *b, struct extent e, struct extent *ret)
{
    lock_assert_held(&b->object->cache->lock);
    uint64_t before = extents_bytes(&b->set);
    if (!extents_add(&b->set, e, ret))
        return false;
    account(b, before);
    object_touch_locked(b->object, b);
    return true;
}

void block_cut_locked(struct block *b, struct extent e)
{
    uint64_t before = extents_bytes(&b->set);
    if (!extents_remove(&b->set, e.off, e.len))
        return;
    account(b, before);
    rows_drop_extents_locked(b->object, b->no * b->object->cache->set.block_size + e.off, e.len);
}

void block_load_locked(struct cache_object *o, uint32_t no, struct extent e)
{
    struct block *b = block_add_locked(o, no);
    uint64_t before = extents_bytes(&b->set);
    struct extent ignored;
    if (extents_add(&b->set, e, &ignored))
        account(b, before);
}

/* ---- ranges ---- */
uint64_t object_run_locked(const struct cache_object *o, uint64_t off, uint64_t len)
{
    const struct cache *c = o->cache;
    uint64_t at = off, end = off + len;
    uint32_t i = block_slot(o, block_no(c, off));
    for (; at < end && i < o->n_blocks; i++) {
        const struct block *b = o->blocks[i];
        if (b->leaving || b->no != block_no(c, at))
            break;
        uint32_t want = block_clip(c, at, end - at);
        uint32_t run = extents_run(&b->set, block_rel(c, at));
        at += run < want ? run : want;
        if (run < want)
            break;
    }
    return at - off;
}

uint64_t object_gap_locked(const struct cache_object *o, uint64_t off, uint64_t len)
{
    const struct cache *c = o->cache;
    uint64_t end = off + len;
    for (uint32_t i = block_slot(o, block_no(c, off)); i < o->n_blocks; i++) {
        const struct block *b = o->blocks[i];
        uint64_t start = b->no * c->set.block_size;
        uint64_t at = start > off ? start : off;
        if (at >= end)
            break;
        uint32_t want = block_clip(c, at, end - at);
        uint32_t gap = b->leaving ? want : extents_gap(&b->set, block_rel(c, at), want);
        if (gap < want)
            return at + gap - off;
    }
    return len;
}

uint64_t object_run(struct cache_object *o, uint64_t off, uint64_t len)
{
    LOCK_SCOPE(&o->cache->lock);
    return object_run_locked(o, off, len);
}

uint64_t object_gap(struct cache_object *o, uint64_t off, uint64_t len)
{
    LOCK_SCOPE(&o->cache->lock);
    return object_gap_locked(o, off, len);
}

/* ---- public ---- */
struct cache_object *cache_object_get(struct cache *c, const char *key, const char *path,
                                      const char *version, uint64_t size, bool keep)
{
    bool unversioned = version[0] == '\0'; /* its bytes cannot be told from later ones */
    lock_acquire(&c->lock);
    struct cache_key *k = object_key_locked(c, key);
    lock_release(&c->lock);
    struct cache_object *fresh =
        object_new(c, k, path, version, size, keep && c->set.enabled && !unversioned);
    lock_acquire(&c->lock);
    struct cache_object *o = unversioned ? NULL : object_find_locked(c, fresh->name, fresh->keep);
    bool leaving =
        o && o->zombie; /* its file name is just being given up: keep nothing this time */
    if (leaving)
        fresh->keep = false;
    if (!o || leaving) {
        o = fresh;
        fresh = NULL;
        if (!unversioned && !leaving)
            object_insert_locked(o);
    }
    if (o->refs == 0 && o->n_blocks == 0)
        o->size = size;
    o->refs++;
    lock_release(&c->lock);
    if (fresh)
        object_free(fresh);
    return o;
}

struct cache_object *cache_object_ref(struct cache_object *o)
{
    LOCK_SCOPE(&o->cache->lock);
    assert(o->refs > 0);
    o->refs++;
    return o;
}

/* The last reference: what is left of the object, or NULL when it stays in the tables. Its blocks
 * stay in the sums until the file is closed. */
static struct cache_object *last_put_locked(struct cache_object *o, int *ret_fd)
{
    *ret_fd = o->fd;
    o->fd = -1;
    if (o->n_blocks && !o->zombie)
        return NULL;
    object_take_out_locked(o);
    untouch(o);
    for (uint32_t i = 0; i < o->n_blocks; i++)
        if (evict_listed(&o->blocks[i]->lru))
            evict_remove(object_list(o), &o->blocks[i]->lru);
    return o;
}

static bool is_empty_file(const struct cache_object *o)
{
    return o->refs == 1 && o->has_file && o->n_blocks == 0 && !o->zombie;
}

void cache_object_put(struct cache_object *o)
{
    if (!o)
        return;
    struct cache *c = o->cache;
    int fd = -1;
    lock_acquire(&c->lock);
    assert(o->refs > 0);
    if (is_empty_file(o)) {
        object_busy_begin_locked(o);
        bool still = is_empty_file(o); /* it may have waited */
        lock_release(&c->lock);
        if (still)
            blockfile_unlink(o);
        lock_acquire(&c->lock);
        object_busy_end_locked(o);
    }
    struct cache_object *gone = --o->refs == 0 ? last_put_locked(o, &fd) : NULL;
    lock_release(&c->lock);
    if (fd >= 0)
        (void)close(fd);
    if (!gone)
        return;
    lock_acquire(&c->lock);
    while (o->n_blocks)
        block_drop_locked(o->blocks[o->n_blocks - 1]);
    c->s.clean -= o->ghost;
    lock_release(&c->lock);
    object_free(o);
}

uint64_t cache_object_size(const struct cache_object *o)
{
    return o->size;
}

const char *cache_object_version(const struct cache_object *o)
{
    return o->version;
}

bool cache_object_has(struct cache_object *o, uint64_t off, size_t len)
{
    behind_bring(o);
    return object_run(o, off, len) == len;
}

uint64_t cache_object_bytes(struct cache_object *o)
{
    behind_bring(o);
    LOCK_SCOPE(&o->cache->lock);
    return o->bytes;
}

bool cache_has(struct cache *c, const char *key, const char *path, const char *version,
               uint64_t size)
{
    uint8_t name[SHA256_LEN];
    object_name(key, path, version, name);
    LOCK_SCOPE(&c->lock);
    struct cache_object *o = object_find_locked(c, name, true);
    return o && !o->zombie && (atomic_load(&o->behind) || object_run_locked(o, 0, size) == size);
}

void cache_object_touch(struct cache_object *o)
{
    LOCK_SCOPE(&o->cache->lock);
    for (uint32_t i = 0; i < o->n_blocks; i++)
        object_touch_locked(o, o->blocks[i]);
}

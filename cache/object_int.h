/* SPDX-License-Identifier: MIT
 * object_int.h: the cache's own structures; only cache/ includes it.
 *
 * One lock (cache->lock, rank CACHE) guards everything in memory: tables, extents, pins, LRU, sums.
 * It is held for microseconds and never over I/O. Functions named _locked need it.
 *
 * A block (block_size bytes of one object version) is
 *   ABSENT   no struct block
 *   OPEN     in object->blocks; read, written, verified under pins
 *   LEAVING  chosen for eviction: `leaving`, out of the LRU, unpinned; not read, not written; its
 * hole is being punched; then ABSENT (or OPEN again when that failed) An object is NAMED    in the
 * tables; found by cache_object_get ZOMBIE   forgotten: out of the tables, file name unlinked,
 * blocks still read by open readers through `fd`; nothing is added; ends with its last reference
 * `busy` on an object: one thread opens, renames or unlinks its file; others wait on
 * cache->changed. Invariants
 *   1. A pinned block is not evicted, and a thread uses object->fd only while it pins a block of
 * it.
 *   2. cache->clean counts a block's bytes from before its data is complete (as `reserved`) until
 * after its hole was punched.
 *   3. A struct block without extents exists only while it is pinned (being written).
 *   4. A listed block is in the list of its object: `pinned` when a pinned path (pin.h) covers it,
 * else `lru`; nothing is ever chosen from `pinned` to make room. */
#ifndef QUAY_CACHE_OBJECT_INT_H
#define QUAY_CACHE_OBJECT_INT_H

#include "base/crypto.h"
#include "base/lock.h"
#include "base/pool.h"
#include "base/strmap.h"
#include "cache/budget.h"
#include "cache/cache.h"
#include "cache/evict.h"
#include "cache/extent.h"

#define CACHE_PAGE 4096

struct rows;
struct fetcher;
struct pin;

struct block {
    struct evict_item lru; /* in the list while it has extents and is not LEAVING */
    struct cache_object *object;
    struct extent_set set;
    uint32_t no; /* offset / block_size */
    uint32_t pins;
    bool leaving;
};

/* What belongs to one storage key; lives as long as the cache. */
struct cache_key {
    char *name;
    uint64_t bytes, files, blocks, pinned; /* under cache->lock; pinned: of bytes */
    struct pin *pins;                      /* pin.c's */
    bool trusted;                          /* cache_distrust() was here */
    struct stat_counter *hits, *misses, *evictions, *corrupt, *gauge;
};

struct cache_object {
    struct cache *cache;
    struct cache_key *key;
    struct cache_object *next_name, *next_path, *next_touched;
    struct fetcher *fetcher; /* fetch.c's; NULL without open readers */
    struct block **blocks;   /* by rising number */
    uint32_t n_blocks, cap_blocks;
    uint32_t refs;
    int fd; /* block file, -1 = not open */
    uint64_t size, bytes, used_ms, path_hash;
    uint64_t id;    /* of the row; 0 = none */
    uint64_t ghost; /* bytes that could not be punched: in clean until the file is unlinked */
    uint8_t name[SHA256_LEN];
    uint32_t passes; /* pass.c */
    bool keep, busy, zombie, has_file, touched, named, given, checking;
    atomic_bool behind; /* behind.c */
    uint64_t pin_round; /* in which a pin was last seen to need this version */
    bool pinned; /* a pinned path covers it */
    const char *version; /* behind the path */
    char path[];
};

struct cache {
    struct cache_settings set; /* dir is our copy */
    struct stats *stats;
    char *dir;
    int lock_fd, blocks_fd; /* -1 */
    struct cache_index *index;
    struct rows *rows;
    struct budget *budget;
    struct pool *disk; /* one thread: write-behind and checksums of adopted files */
    struct stat_counter *memory_gauge, *dirty_gauge;
    pthread_t ticker;
    bool has_ticker, ended_well; /* the process before this one */
    uint64_t index_max;   /* bytes that the tables may take; then the coldest blocks go */
    uint64_t budget_base; /* the budget while the tables are small */

    struct lock lock;
    struct cond changed; /* an object is no longer busy, blocks have left, a fetcher has ended */
    struct cond ticker_wake;
    struct {
        struct cache_object **by_name, **by_path;
        size_t n_buckets, count;
        struct strmap keys; /* -> struct cache_key */
        struct evict_list lru, pinned;
        uint64_t pin_round;
        uint64_t clean, dirty, reserved;
        uint64_t index_bytes; /* memory of named objects and of blocks, about */
        uint64_t leaving;     /* bytes of LEAVING blocks, still in clean */
        uint64_t passed;      /* sizes of passed objects: nothing of them can be evicted */
        uint64_t disk_free;   /* estimate: sample less what was written since */
        uint64_t sampled_ns;
        uint64_t next_id;
        struct cache_object *touched;
        uint64_t disk_warned_ns, corrupt_warned_ns;
        struct {
            struct behind_item *head, **tail;
            size_t n;
            uint64_t bytes, first_ns, last_ns;
            unsigned writing;
            bool is_much;
        } behind; /* behind.c */
        struct fetcher *fetchers; /* fetch.c's list */
        uint64_t fetcher_seq;
        bool stopping;
    } s; /* under lock */
};

/* Where a block of o is listed. */
static inline struct evict_list *object_list(const struct cache_object *o)
{
    return o->pinned ? &o->cache->s.pinned : &o->cache->s.lru;
}

static inline uint32_t block_no(const struct cache *c, uint64_t off)
{
    return (uint32_t)(off / c->set.block_size);
}

static inline uint32_t block_rel(const struct cache *c, uint64_t off)
{
    return (uint32_t)(off & (c->set.block_size - 1));
}

/* The length of [off, off + len) within off's block. */
static inline uint32_t block_clip(const struct cache *c, uint64_t off, uint64_t len)
{
    uint64_t left = c->set.block_size - block_rel(c, off);
    return (uint32_t)(len < left ? len : left);
}

uint64_t cache_now_ms(void);

/* ---- object.c: the table; no I/O ---- */
void objects_init(struct cache *c);
void objects_done(struct cache *c); /* frees all */
struct cache_key *object_key_locked(struct cache *c, const char *name);
void object_name(const char *key, const char *path, const char *version, uint8_t name[SHA256_LEN]);
void object_hex(const struct cache_object *o, char out[68]); /* "XX/<64 hex digits>" */
struct cache_object *object_new(struct cache *c, struct cache_key *key, const char *path,
                                const char *version, uint64_t size, bool keep);
void object_free(struct cache_object *o);
struct cache_object *object_find_locked(struct cache *c, const uint8_t name[SHA256_LEN], bool keep);
void object_insert_locked(struct cache_object *o);
void object_take_out_locked(struct cache_object *o); /* of the tables */
/* The first NAMED object of a path whose version is not `except` and that may be forgotten. */
struct cache_object *object_of_path_locked(struct cache *c, const char *key, const char *path,
                                           const char *except);
/* The kept version of a path that was used last, or NULL. */
/* Of a key; *at, 0 at first, is where the search goes on. */
struct cache_object *object_of_key_locked(struct cache *c, const struct cache_key *k, size_t *at);
struct cache_object *object_newest_locked(struct cache *c, const char *key, const char *path);
void object_busy_begin_locked(struct cache_object *o); /* waits: no other lock may be held */
void object_busy_end_locked(struct cache_object *o);
void object_touch_locked(struct cache_object *o, struct block *b);

struct block *block_find_locked(const struct cache_object *o, uint32_t no);
struct block *block_add_locked(struct cache_object *o,
                               uint32_t no); /* finds or makes an empty one */
void block_drop_locked(struct block *b);     /* with its sums; not pinned; frees it */
/* Adds a range that is on disk; updates sums and LRU. false: it overlaps another in part. */
bool block_put_locked(struct block *b, struct extent e, struct extent *ret);
void block_cut_locked(struct block *b, struct extent e); /* removes a bad range */
void block_load_locked(struct cache_object *o, uint32_t no, struct extent e); /* at start */
/* Bytes present from off on (at most len) without a break; likewise missing. */
uint64_t object_run_locked(const struct cache_object *o, uint64_t off, uint64_t len);
uint64_t object_gap_locked(const struct cache_object *o, uint64_t off, uint64_t len);
uint64_t object_run(struct cache_object *o, uint64_t off, uint64_t len); /* take the lock */
uint64_t object_gap(struct cache_object *o, uint64_t off, uint64_t len);

/* ---- blockfile.c: files ---- */
/* The descriptor of the block file, opened (made, with `create`) when needed; -errno. */
int blockfile_fd(struct cache_object *o, bool create);
void blockfile_unlink(
    struct cache_object *o); /* of an object that is busy; closes fd unless zombie */
/* Gives up the name of a busy object; with readers, its file stays open for them. */
void blockfile_detach(struct cache_object *o, bool readers);
int blockfile_punch(struct cache_object *o, uint32_t no); /* frees a block's disk space */
void block_unpin_locked(struct block *b);
/* Checks what is not yet verified of an object all of whose blocks are pinned; 0 or -errno. */
int blockfile_check_all(struct cache_object *o);
/* Checks one range's CRC: 0, or -EILSEQ (dropped, counted), of a block that the caller pins. */
int blockfile_check(struct cache_object *o, struct block *b, struct extent e);
void blockfile_sweep(struct cache *c); /* at start: removes files that no object names */
void cache_disk_trouble(struct cache *c, int error, const char *what); /* warns once per minute */

/* ---- space.c: limits ---- */
/* NAMED -> ZOMBIE; gives up the lock meanwhile. */
void object_forget_locked(struct cache_object *o);
int space_reserve(struct cache *c, uint64_t bytes); /* for clean blocks: 0 or -ENOSPC */
/* Looks at the file system, evicts below min_free and while the tables are too large. */
void space_sample(struct cache *c);
/* Shrinks until clean + dirty <= max_size + slack. */
void space_shrink(struct cache *c, uint64_t slack);

/* Makes a block LEAVING, with a reference on its object; then evict_block(). */
void block_leave_locked(struct block *b);
bool evict_block(struct block *b, uint64_t *ret_bytes); /* true: its object has no block left */

/* ---- pin.c: pinned paths ---- */
int pins_load(struct cache *c, struct sqldb *db, struct err *err); /* before the objects */
void pins_free(struct cache_key *k);
bool pins_cover_locked(const struct cache_key *k, const char *path);

/* ---- rows.c: the tables object and extent ---- */
int rows_open(struct cache *c, struct err *err, bool *ret_clean); /* loads all into memory */
void rows_close(struct cache *c);
void rows_put_extent_locked(struct cache_object *o, uint32_t no, const struct extent *e);
void rows_drop_extents_locked(struct cache_object *o, uint64_t off, uint64_t len);
void rows_drop_object_locked(struct cache_object *o);
void rows_flush_used(struct cache *c);

/* ---- behind.c: what is to be written later ---- */
uint64_t behind_due_locked(const struct cache *c); /* when something should be written */
void behind_write(struct cache *c);        /* what there is */
void behind_flush(struct cache *c);        /* the same, and waits for what others are writing */
void behind_bring(struct cache_object *o); /* afterwards it is on disk, or not kept */

/* ---- fetch.c ---- */
void fetch_reclaim(void *cache, uint64_t want, enum reclaim_level level);

#endif

/* SPDX-License-Identifier: MIT
 * cache.h: blocks of object versions, in memory and on disk.
 *
 * One cache per daemon, in one directory (0700) that it owns: CACHE_DIR/lock is flock'ed and holds the
 * pid; a second daemon gets -EBUSY "cache directory DIR is in use by pid N".
 *   index.db    what is there (index.h)
 *   blocks/XX/  one sparse file per object version, named by SHA-256(key, path, version)
 *   stage/      files being written (stage.h)         journal.db   what must still be uploaded
 * Invariants
 *   1. A range is served from disk only when its extent row was committed or it was written by this
 *      process; extents read back after a restart are checked against their CRC32C at first use; a
 *      mismatch drops the extent (counted, one warning) and it is fetched again.
 *   2. Data is written before its row. A row without data fails its CRC; data without a row is not there.
 *   3. Bytes of two versions are never in one file.
 *   4. used <= max_size and free disk >= min_free at all times, by evicting the least recently used
 *      extents (hole punching); staged (dirty) bytes count and are never evicted, nor are blocks of
 *      pinned paths (pin.h). When there is nothing to evict, clean blocks are not kept and writers get
 *      -ENOSPC.
 *   5. Block buffers in memory never exceed the budget; waiting for the budget is the back-pressure.
 *
 * struct cache_object is one version of one object: shared by all its readers, reference counted. */
#ifndef QUAY_CACHE_CACHE_H
#define QUAY_CACHE_CACHE_H

#include "base/settings.h"
#include "base/stats.h"
#include "cache/index.h"

struct cache;
struct cache_object;

/* -EBUSY: another process has the directory; one that ends (cache_ends) is waited for, for ten seconds. */
int cache_open(const struct cache_settings *set, uint64_t memory_limit, struct stats *stats,
               struct err *err, struct cache **ret);
void cache_close(struct cache *c); /* all objects and readers are gone; commits the index */
void cache_ends(struct cache *c);  /* tells who is about to open the directory that it will soon be free */
struct cache_index *cache_get_index(struct cache *c);
const char *cache_dir(const struct cache *c);
const struct cache_settings *cache_get_settings(const struct cache *c);

/* ---- one version of one object ---- */
/* Never fails. `keep` false: nothing of it goes to disk (ignore_cache, cache.enabled = no). */
struct cache_object *cache_object_get(struct cache *c, const char *key, const char *path,
                                      const char *version, uint64_t size, bool keep);
struct cache_object *cache_object_ref(struct cache_object *o);
void cache_object_put(struct cache_object *o); /* NULL ok */
uint64_t cache_object_size(const struct cache_object *o);
const char *cache_object_version(const struct cache_object *o);
/* True when the whole range is on disk (then cache_object_read will succeed but for I/O errors). */
bool cache_object_has(struct cache_object *o, uint64_t off, size_t len);
uint64_t cache_object_bytes(struct cache_object *o); /* present on disk */
/* Is the whole of that version on disk? */
bool cache_has(struct cache *c, const char *key, const char *path, const char *version,
               uint64_t size);
void cache_object_touch(struct cache_object *o); /* as if all of it had been read just now */
/* Reads a range that is wholly present: len, or 0 when it is not (or no longer, or a CRC failed). */
ssize_t cache_object_read(struct cache_object *o, uint64_t off, void *buf, size_t len);
/* For splice: a borrowed descriptor of the block file in which [off, off+len) is present and verified,
 * at the same offset; -1 when it is not. The extents stay until cache_object_unpin(). */
int cache_object_pin(struct cache_object *o, uint64_t off, size_t len);
void cache_object_unpin(struct cache_object *o, uint64_t off, size_t len);
/* Passed through: the kernel reads the file of a whole object by itself, without asking us. A borrowed
 * descriptor of that file, all of it present and verified; from now on nothing of the object is evicted,
 * cleared or forgotten, until cache_object_unpass(). -EAGAIN: not whole, not verified yet (then that is
 * begun in the background: a later call succeeds), or half of the cache is passed already. */
int cache_object_pass(struct cache_object *o);
void cache_object_unpass(struct cache_object *o);
int cache_object_passed_fd(struct cache_object *o); /* of a passed object: the same again */
/* Would cache_object_pass() succeed? Waits up to wait_ms for what is on its way to the disk. */
bool cache_object_settle(struct cache_object *o, unsigned wait_ms);
/* The file of a passed object, which somebody is going to write, gets the name `path` (on the same file
 * system) and leaves the cache: nobody finds the object any more; who has it reads on, but ranges that
 * were overwritten since. 0 or -errno: then nothing has changed. */
int cache_object_give(struct cache_object *o, const char *path);
/* Stores bytes that were fetched for this version. Failures to write only mean "not kept". */
void cache_object_store(struct cache_object *o, uint64_t off, const void *data, size_t len);

/* A staged file (complete content of the new version) becomes the clean cache of that version: the file
 * is renamed into blocks/, its extents are indexed. Takes the file; failure = not kept. `fd` is borrowed. */
void cache_adopt(struct cache *c, const char *key, const char *path, const char *version,
                 uint64_t size, const char *stage_path, int fd);

/* The same for small content in a buffer of the memory budget (cache_buffer_get), which is taken: it is
 * written when the writers make a pause, or when somebody asks for it. */
void cache_adopt_bytes(struct cache *c, const char *key, const char *path, const char *version,
                       void *bytes, size_t size);

/* Forgets all versions of a path (or of a key when path is NULL), but for passed ones. Open readers keep
 * working. */
void cache_forget(struct cache *c, const char *key, const char *path);
void cache_forget_other_versions(struct cache *c, const char *key, const char *path,
                                 const char *version);
/* The last process has ended without closing the index, so the newest changes of what is kept may be missing in it; and two
 * versions of this key may look alike. What was kept of it may then be what was there before a change of ours: it is
 * forgotten, once in a process. Open readers keep working. */
void cache_distrust(struct cache *c, const char *key);
/* The version of `path` last kept, for use while the store is away. false: none. */
bool cache_last_version(struct cache *c, const char *key, const char *path,
                        char version[129], uint64_t *ret_size);

/* ---- space ---- */
/* Reserves staging space (counts as dirty); evicts clean blocks; -ENOSPC when there is none. */
int cache_reserve_dirty(struct cache *c, uint64_t bytes, struct err *err);
void cache_release_dirty(struct cache *c, uint64_t bytes);

struct cache_usage {
    uint64_t bytes;        /* on disk, clean */
    uint64_t dirty_bytes;
    uint64_t files;        /* object versions with at least one extent */
    uint64_t blocks;
    uint64_t hits, misses, evictions, corrupt; /* since start */
    uint64_t memory, memory_limit; /* block buffers now, and what they may take */
    uint64_t pinned_bytes; /* of `bytes`: of pinned paths */
};
void cache_get_usage(struct cache *c, const char *key /* NULL = all */, struct cache_usage *ret);
/* How many bytes blocks that may be evicted can take in all: what is fetched beyond that pushes itself
 * out again. 0 when nothing is kept. */
uint64_t cache_room(struct cache *c);
/* Removes all clean blocks (of a key) but those of pinned paths: `quayctl cache clear`. */
int cache_clear(struct cache *c, const char *key, uint64_t *ret_bytes, uint64_t *ret_files);
/* Removes blocks not used for longer than ttl_ms (expired): `quayctl cache cleanup`. */
int cache_cleanup(struct cache *c, const char *key, uint64_t ttl_ms, uint64_t *ret_bytes,
                  uint64_t *ret_files);
struct cache_evicted {
    uint64_t bytes, files;               /* removed; files of which nothing is left */
    uint64_t pinned_bytes, pinned_files; /* left: pinned */
    uint64_t busy_bytes;                 /* left: being read or written just now */
};
/* Removes the blocks of the objects of a key for whose path match() is true (it is called under the
 * cache's lock); those of pinned paths only with `pinned`: `quayctl evict`. Adds to *ret. */
void cache_evict(struct cache *c, const char *key, bool (*match)(void *arg, const char *path),
                 void *arg, bool pinned, struct cache_evicted *ret);
/* A range that turned out bad and was dropped. */
struct cache_bad {
    const char *key, *path, *version;
    uint64_t size, off, len; /* of the object; of the range */
};
struct cache_verify {
    int (*progress)(void *arg, uint64_t done, uint64_t total); /* NULL ok; non-zero stops: -EINTR */
    void (*bad)(void *arg, const struct cache_bad *bad);       /* NULL ok; no lock is held */
    void *arg;
    uint64_t checked, n_bad; /* results */
};
/* Reads every block (of a key) and checks its CRC; drops bad ones. */
int cache_verify(struct cache *c, const char *key, struct cache_verify *v);

/* ---- memory budget (invariant 5) ---- */
/* Page-aligned buffers out of the budget. `wait`: block until there is room, else NULL at once. */
#define CACHE_BUFFER_UNIT 4096 /* bytes that sizes are rounded up to */
void *cache_buffer_get(struct cache *c, size_t size, bool wait);
void cache_buffer_put(struct cache *c, void *p, size_t size);

#endif

/* SPDX-License-Identifier: MIT
 * pass.c: whole objects whose block file the kernel reads by itself (cache.h, "passed through").
 * States of an object beside those of object_int.h
 *   PASSED  passes > 0: every block is pinned and was verified, the file is as long as the object; it is
 *           not evicted, cleared or forgotten
 *   GIVEN   given: PASSED or was, and its file now belongs to who writes it: a ZOMBIE whose blocks are
 *           never evicted nor checked any more (a hole or a "bad" block would hit the new owner's bytes)
 * Invariant: cache->s.passed is the sum of the sizes of PASSED objects, and at most half of what the
 * cache may have: evictions for others always find something. */
#include "cache/object_int.h"

#include "base/clock.h"
#include "base/sys.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define CHECK_NOW (4ULL << 20) /* bytes whose checksum an open may wait for */

static uint64_t limit_locked(const struct cache *c)
{
    uint64_t all = c->set.max_size ? c->set.max_size : c->s.clean + c->s.dirty + c->s.disk_free;
    return all / 2;
}

static bool may_begin_locked(const struct cache_object *o)
{
    const struct cache *c = o->cache;
    return o->keep && !o->zombie && o->size && object_run_locked(o, 0, o->size) == o->size &&
           c->s.passed + o->size <= limit_locked(c);
}

/* Pins all blocks for the first one. */
static bool begin_locked(struct cache_object *o)
{
    struct cache *c = o->cache;
    if (o->passes == 0) {
        if (!may_begin_locked(o))
            return false;
        c->s.passed += o->size;
        for (uint32_t i = 0; i < o->n_blocks; i++) {
            o->blocks[i]->pins++;
            object_touch_locked(o, o->blocks[i]);
        }
    }
    o->passes++;
    return true;
}

struct unchecked {
    uint64_t bytes;   /* not verified since the start */
    uint64_t from;    /* the first block with some of them begins here */
    bool pending;     /* there are bytes whose checksum is being made */
};

static struct unchecked unchecked_locked(const struct cache_object *o)
{
    struct unchecked u = {0};
    for (uint32_t i = 0; i < o->n_blocks; i++) {
        const struct extent *e = extents_array(&o->blocks[i]->set);
        for (uint32_t k = 0; k < o->blocks[i]->set.n; k++) {
            u.pending |= (e[k].flags & EXTENT_NO_CRC) != 0;
            if (e[k].flags & EXTENT_VERIFIED)
                continue;
            if (u.bytes == 0)
                u.from = o->blocks[i]->no * o->cache->set.block_size;
            u.bytes += e[k].len;
        }
    }
    return u;
}

/* ---- checking in the background, block by block, so that others get at the disk in between ---- */
struct check_job {
    struct pool_job job;
    struct cache_object *object;
    uint64_t at;
};

static void check_block(struct pool_job *job)
{
    struct check_job *j = (struct check_job *)job;
    struct cache_object *o = j->object;
    struct cache *c = o->cache;
    uint32_t len = block_clip(c, j->at, o->size - j->at);
    int fd = cache_object_pin(o, j->at, len);
    if (fd >= 0)
        cache_object_unpin(o, j->at, len);
    j->at += len;
    lock_acquire(&c->lock);
    bool more = fd >= 0 && j->at < o->size && !c->s.stopping && !o->zombie && o->refs > 1;
    o->checking = more;
    lock_release(&c->lock);
    if (more) {
        pool_submit(c->disk, &j->job, 2);
        return;
    }
    cache_object_put(o);
    free(j);
}

/* While somebody has it open; the next open goes on where this ended. */
static void check_later(struct cache_object *o, uint64_t from)
{
    struct cache *c = o->cache;
    lock_acquire(&c->lock);
    bool runs = o->checking;
    o->checking = true;
    lock_release(&c->lock);
    if (runs)
        return;
    struct check_job *j = xcalloc(1, sizeof(*j));
    j->job.run = check_block;
    j->object = cache_object_ref(o);
    j->at = from;
    pool_submit(c->disk, &j->job, 2);
}

static bool has_size(int fd, uint64_t size)
{
    struct stat st;
    return fstat(fd, &st) == 0 && (uint64_t)st.st_size == size;
}

int cache_object_pass(struct cache_object *o)
{
    struct cache *c = o->cache;
    struct unchecked u = {0};
    lock_assert_none_held();
    behind_bring(o);
    lock_acquire(&c->lock);
    bool begun = begin_locked(o);
    if (begun && !o->given)
        u = unchecked_locked(o);
    bool given = o->given;
    lock_release(&c->lock);
    if (!begun)
        return -EAGAIN;
    int fd = -1;
    if (!u.pending && u.bytes <= CHECK_NOW && (u.bytes == 0 || blockfile_check_all(o) == 0))
        fd = blockfile_fd(o, false);
    if (fd >= 0 && (given || has_size(fd, o->size)))
        return fd;
    cache_object_unpass(o);
    if (u.bytes > CHECK_NOW)
        check_later(o, u.from);
    return -EAGAIN;
}

bool cache_object_settle(struct cache_object *o, unsigned wait_ms)
{
    struct cache *c = o->cache;
    uint64_t until = clock_now_ns() + wait_ms * NS_PER_MS;
    behind_bring(o);
    LOCK_SCOPE(&c->lock);
    for (;;) {
        struct unchecked u = unchecked_locked(o);
        bool may = !o->given && (o->passes || may_begin_locked(o));
        if (may && !u.pending && u.bytes <= CHECK_NOW)
            return true;
        bool comes = o->fetcher || o->checking || u.pending;
        if (!comes || o->zombie || !cond_wait_until(&c->changed, &c->lock, until))
            return false;
    }
}

int cache_object_passed_fd(struct cache_object *o)
{
    return blockfile_fd(o, false);
}

void cache_object_unpass(struct cache_object *o)
{
    struct cache *c = o->cache;
    LOCK_SCOPE(&c->lock);
    assert(o->passes > 0);
    if (--o->passes > 0)
        return;
    c->s.passed -= o->size;
    for (uint64_t at = 0; at < o->size; at += c->set.block_size)
        block_unpin_locked(block_find_locked(o, block_no(c, at)));
}

int cache_object_give(struct cache_object *o, const char *path)
{
    struct cache *c = o->cache;
    char file[68];
    object_hex(o, file);
    lock_acquire(&c->lock);
    object_busy_begin_locked(o);
    bool may = !o->zombie && o->passes > 0 && o->fd >= 0;
    lock_release(&c->lock);
    int r = may ? sys_renameat(c->blocks_fd, file, AT_FDCWD, path, 0) : -EBUSY;
    lock_acquire(&c->lock);
    if (r == 0) {
        o->zombie = o->given = true;
        rows_drop_object_locked(o);
        object_take_out_locked(o);
    }
    object_busy_end_locked(o);
    lock_release(&c->lock);
    return r;
}

/* SPDX-License-Identifier: MIT
 * blockfile.c: the files below CACHE_DIR/blocks: reading, writing, checking, punching, adopting.
 * Invariants
 *   1. Data is written before its extent is added, with the block pinned all the while: what is
 * found in memory can be read.
 *   2. A file is opened, renamed and unlinked only by the thread that made its object busy.
 *   3. Failures never reach a reader: the range is then not in the cache. */
#include "cache/object_int.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sys.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_CHUNK (64u << 10)
#define WARN_EVERY_NS (60 * NS_PER_S)

static bool may_warn(struct cache *c, uint64_t *last_ns)
{
    LOCK_SCOPE(&c->lock);
    uint64_t now = clock_now_ns();
    if (*last_ns && now - *last_ns < WARN_EVERY_NS)
        return false;
    *last_ns = now;
    return true;
}

void cache_disk_trouble(struct cache *c, int error, const char *what)
{
    if (may_warn(c, &c->s.disk_warned_ns))
        log_warn("cache", "%s: %s: %s; data is read from the store and not kept", c->dir, what,
                 strerrordesc_np(error < 0 ? -error : error));
}

/* ---- files ---- */
static int make_parent(struct cache *c, const char *file)
{
    char dir[3] = {file[0], file[1], '\0'};
    int r = sys_mkdirat(c->blocks_fd, dir, 0700);
    return r == -EEXIST ? 0 : r;
}

static int open_file(struct cache_object *o, int flags)
{
    struct cache *c = o->cache;
    char file[68];
    object_hex(o, file);
    flags |= O_RDWR | O_NOFOLLOW;
    int fd = sys_openat(c->blocks_fd, file, flags, 0600);
    if (fd == -ENOENT && (flags & O_CREAT)) {
        fd = make_parent(c, file);
        if (fd == 0)
            fd = sys_openat(c->blocks_fd, file, flags, 0600);
    }
    return fd;
}

/* Somebody has removed the file: nothing of the object is there any more. */
static void lose_all_locked(struct cache_object *o)
{
    for (uint32_t i = o->n_blocks; i-- > 0;) {
        struct block *b = o->blocks[i];
        while (b->set.n && !b->leaving)
            block_cut_locked(b, extents_array(&b->set)[0]);
        if (b->pins == 0 && !b->leaving)
            block_drop_locked(b);
    }
}

/* Opens the file of a busy object. */
static int open_busy(struct cache_object *o, bool create)
{
    struct cache *c = o->cache;
    int fd = o->has_file ? open_file(o, 0) : -ENOENT;
    if (fd != -ENOENT)
        return fd;
    lock_acquire(&c->lock);
    if (o->has_file)
        lose_all_locked(o);
    o->has_file = false;
    bool zombie = o->zombie;
    lock_release(&c->lock);
    if (create && !zombie)
        fd = open_file(o, O_CREAT | O_TRUNC); /* an old file of that name is not ours */
    return fd;
}

int blockfile_fd(struct cache_object *o, bool create)
{
    struct cache *c = o->cache;
    lock_acquire(&c->lock);
    while (o->busy) /* also when fd is open: it may be about to be closed */
        cond_wait(&c->changed, &c->lock);
    int fd = o->fd;
    if (fd < 0) {
        o->busy = true;
        lock_release(&c->lock);
        fd = open_busy(o, create);
        lock_acquire(&c->lock);
        if (fd >= 0) {
            o->fd = fd;
            o->has_file = true;
        }
        object_busy_end_locked(o);
    }
    lock_release(&c->lock);
    return fd;
}

void blockfile_unlink(struct cache_object *o)
{
    char file[68];
    object_hex(o, file);
    assert(o->busy);
    if (!o->zombie)
        (void)sys_unlinkat(o->cache->blocks_fd, file, 0);
    if (o->fd >= 0)
        (void)close(o->fd);
    lock_acquire(&o->cache->lock);
    o->fd = -1;
    o->has_file = false;
    o->cache->s.clean -= o->ghost;
    o->ghost = 0;
    lock_release(&o->cache->lock);
}

void blockfile_detach(struct cache_object *o, bool readers)
{
    char file[68];
    object_hex(o, file);
    assert(o->busy);
    if (!o->has_file)
        return;
    int fd = readers && o->fd < 0 ? open_file(o, 0) : -1;
    (void)sys_unlinkat(o->cache->blocks_fd, file, 0);
    lock_acquire(&o->cache->lock);
    if (fd >= 0)
        o->fd = fd;
    o->has_file = o->fd >= 0;
    lock_release(&o->cache->lock);
}

int blockfile_punch(struct cache_object *o, uint32_t no)
{
    int fd = blockfile_fd(o, false);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    uint64_t size = o->cache->set.block_size;
    return sys_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, no * size, size);
}

static void sweep_dir(struct cache *c, const char *name)
{
    int fd = openat(c->blocks_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        uint8_t want[SHA256_LEN];
        char hex[2 * SHA256_LEN + 1];
        if (strlen(e->d_name) != 2 * SHA256_LEN)
            continue;
        bool ok = true;
        for (size_t i = 0; i < SHA256_LEN && ok; i++)
            ok = sscanf(&e->d_name[2 * i], "%2hhx", &want[i]) == 1;
        if (ok)
            hex_encode(want, SHA256_LEN, hex);
        if (!ok || strcmp(hex, e->d_name) != 0)
            continue;
        lock_acquire(&c->lock);
        bool known = object_find_locked(c, want, true) != NULL;
        lock_release(&c->lock);
        if (!known)
            (void)sys_unlinkat(fd, e->d_name, 0);
    }
    (void)closedir(d);
}

void blockfile_sweep(struct cache *c)
{
    for (unsigned i = 0; i < 256; i++) {
        char name[3];
        snprintf(name, sizeof(name), "%02x", i);
        sweep_dir(c, name);
    }
}

/* ---- pins ---- */
void block_unpin_locked(struct block *b)
{
    assert(b->pins > 0);
    if (--b->pins == 0 && b->set.n == 0)
        block_drop_locked(b);
}

static bool pin_range(struct cache_object *o, uint64_t off, uint64_t len)
{
    struct cache *c = o->cache;
    LOCK_SCOPE(&c->lock);
    if (len == 0 || object_run_locked(o, off, len) != len)
        return false;
    for (uint64_t at = off; at < off + len; at += block_clip(c, at, off + len - at)) {
        struct block *b = block_find_locked(o, block_no(c, at));
        b->pins++;
        object_touch_locked(o, b);
    }
    return true;
}

void cache_object_unpin(struct cache_object *o, uint64_t off, size_t len)
{
    struct cache *c = o->cache;
    LOCK_SCOPE(&c->lock);
    for (uint64_t at = off, end = off + len; at < end; at += block_clip(c, at, end - at))
        block_unpin_locked(block_find_locked(o, block_no(c, at)));
}

static int crc_of_file(int fd, uint64_t off, uint32_t len, uint32_t *ret)
{
    CLEANUP_FREE char *buf = xmalloc(len < CHECK_CHUNK ? len : CHECK_CHUNK);
    uint32_t crc = 0;
    for (uint32_t at = 0; at < len;) {
        uint32_t n = len - at < CHECK_CHUNK ? len - at : CHECK_CHUNK;
        ssize_t got = sys_pread(fd, buf, n, off + at);
        if (got != (ssize_t)n)
            return got < 0 ? (int)got : -EILSEQ;
        crc = crc32c(crc, buf, n);
        at += n;
    }
    *ret = crc;
    return 0;
}

static void drop_bad(struct cache_object *o, struct block *b, struct extent e, const char *why)
{
    struct cache *c = o->cache;
    lock_acquire(&c->lock);
    const struct extent *now = extents_at(&b->set, e.off);
    bool known = !now || now->off != e.off || now->len != e.len; /* another thread was faster */
    if (!known) {
        block_cut_locked(b, e);
        stat_add(o->key->corrupt, 1);
    }
    lock_release(&c->lock);
    if (known || !may_warn(c, &c->s.corrupt_warned_ns))
        return;
    log_warn("cache", "%s: %s/%s at %llu: %s; fetching it again", c->dir, o->key->name, o->path,
             (unsigned long long)(b->no * c->set.block_size + e.off), why);
}

static bool is_given(struct cache_object *o)
{
    LOCK_SCOPE(&o->cache->lock);
    return o->given;
}

int blockfile_check(struct cache_object *o, struct block *b, struct extent e)
{
    struct cache *c = o->cache;
    uint32_t crc = 0;
    int fd = blockfile_fd(o, false);
    int r = fd < 0 ? fd : crc_of_file(fd, b->no * c->set.block_size + e.off, e.len, &crc);
    if (r < 0 && r != -EILSEQ && r != -ENOENT && r != -EIO)
        return r; /* says nothing about the data */
    if (is_given(o))
        return 0; /* its owner has written since: what was read says nothing */
    if (r < 0 || (!(e.flags & EXTENT_NO_CRC) && crc != e.crc)) {
        drop_bad(o, b, e,
                 r == -ENOENT ? "the file is gone"
                 : r < 0      ? "it cannot be read"
                              : "the checksum does not match");
        return -EILSEQ;
    }
    LOCK_SCOPE(&c->lock);
    struct extent *now = extents_at(&b->set, e.off);
    if (!now || now->off != e.off || now->len != e.len || now->flags != e.flags)
        return 0; /* it has changed meanwhile; the caller looks again */
    now->flags = EXTENT_VERIFIED;
    now->crc = crc;
    if (e.flags & EXTENT_NO_CRC)
        rows_put_extent_locked(o, b->no, now);
    return 0;
}

/* Checks what is not yet verified in a pinned range. */
static int check_range(struct cache_object *o, uint64_t off, uint64_t len)
{
    struct cache *c = o->cache;
    for (uint64_t at = off, end = off + len; at < end;) {
        lock_acquire(&c->lock);
        struct block *b = block_find_locked(o, block_no(c, at));
        const struct extent *found = extents_at(&b->set, block_rel(c, at));
        struct extent e = found ? *found : (struct extent){0};
        lock_release(&c->lock);
        if (!found)
            return -EILSEQ; /* another thread has just dropped it */
        if (e.flags & EXTENT_VERIFIED) {
            at = b->no * c->set.block_size + e.off + e.len;
            continue;
        }
        int r = blockfile_check(o, b, e);
        if (r < 0)
            return r;
    }
    return 0;
}

int blockfile_check_all(struct cache_object *o)
{
    return check_range(o, 0, o->size);
}

int cache_object_pin(struct cache_object *o, uint64_t off, size_t len)
{
    if (!pin_range(o, off, len))
        return -1;
    int fd = check_range(o, off, len) < 0 ? -1 : blockfile_fd(o, false);
    if (fd >= 0)
        return fd;
    cache_object_unpin(o, off, len);
    return -1;
}

ssize_t cache_object_read(struct cache_object *o, uint64_t off, void *buf, size_t len)
{
    int fd = cache_object_pin(o, off, len);
    if (fd < 0)
        return 0;
    ssize_t n = sys_pread(fd, buf, len, off);
    cache_object_unpin(o, off, len);
    return n == (ssize_t)len ? n : 0;
}

/* ---- writing ---- */
/* A range within one block. Pins the block (or gives NULL) and cuts off what is there already. */
static struct block *begin_write(struct cache_object *o, uint64_t *off, uint32_t *len)
{
    struct cache *c = o->cache;
    LOCK_SCOPE(&c->lock);
    if (!o->keep || o->zombie)
        return NULL;
    struct block *b = block_find_locked(o, block_no(c, *off));
    uint32_t rel = block_rel(c, *off);
    if (b && (b->leaving || !extents_trim(&b->set, &rel, len)))
        return NULL;
    *off += rel - block_rel(c, *off);
    b = block_add_locked(o, block_no(c, *off));
    b->pins++;
    return b;
}

static int write_data(struct cache_object *o, uint64_t off, const void *data, uint32_t len)
{
    int fd = blockfile_fd(o, true);
    ssize_t n = fd < 0 ? fd : sys_pwrite(fd, data, len, off);
    if (n == (ssize_t)len)
        return 0;
    cache_disk_trouble(o->cache, n < 0 ? (int)n : -EIO, "writing a block");
    return n < 0 ? (int)n : -EIO;
}

static void store_piece(struct cache_object *o, uint64_t off, const char *data, uint32_t len)
{
    struct cache *c = o->cache;
    uint64_t from = off;
    struct block *b = begin_write(o, &from, &len);
    if (!b)
        return;
    data += from - off;
    int r = space_reserve(c, len);
    bool reserved = r == 0;
    struct extent e = {.off = block_rel(c, from), .len = len, .flags = EXTENT_VERIFIED}, now;
    if (r == 0) {
        e.crc = crc32c(0, data, len);
        r = write_data(o, from, data, len);
    }
    lock_acquire(&c->lock);
    bool punch = r < 0 && reserved && b->set.n == 0 && b->pins == 1;
    b->leaving = punch;
    lock_release(&c->lock);
    if (punch)
        (void)blockfile_punch(o, b->no); /* what was written of it */
    lock_acquire(&c->lock);
    if (punch)
        b->leaving = false;
    if (r == 0 && !o->zombie && block_put_locked(b, e, &now))
        rows_put_extent_locked(o, b->no, &now);
    if (reserved)
        c->s.reserved -= len;
    block_unpin_locked(b);
    lock_release(&c->lock);
}

void cache_object_store(struct cache_object *o, uint64_t off, const void *data, size_t len)
{
    const char *p = data;
    while (len) {
        uint32_t n = block_clip(o->cache, off, len);
        store_piece(o, off, p, n);
        off += n;
        p += n;
        len -= n;
    }
}

/* ---- adopting ---- */
struct adopt_job {
    struct pool_job job;
    struct cache_object *object;
};

/* The checksums of an adopted file; only now it gets its rows. */
static void adopt_checksums(struct pool_job *job)
{
    struct adopt_job *a = (struct adopt_job *)job;
    struct cache_object *o = a->object;
    struct cache *c = o->cache;
    for (uint64_t off = 0; off < o->size; off += c->set.block_size) {
        uint32_t len = block_clip(c, off, o->size - off);
        if (!pin_range(o, off, len))
            continue;
        lock_acquire(&c->lock);
        struct block *b = block_find_locked(o, block_no(c, off));
        struct extent e = *extents_at(&b->set, 0);
        lock_release(&c->lock);
        if (e.flags & EXTENT_NO_CRC)
            (void)blockfile_check(o, b, e);
        cache_object_unpin(o, off, len);
    }
    cache_object_put(o);
    free(a);
}

static int take_file(struct cache_object *o, const char *stage_path)
{
    struct cache *c = o->cache;
    char file[68];
    object_hex(o, file);
    lock_acquire(&c->lock);
    bool free_name = !o->has_file && o->n_blocks == 0 && o->keep && !o->zombie;
    lock_release(&c->lock);
    if (!free_name || (c->set.max_size && o->size > c->set.max_size))
        return -EEXIST;
    int r = sys_renameat(AT_FDCWD, stage_path, c->blocks_fd, file, 0);
    if (r == -ENOENT && (r = make_parent(c, file)) == 0)
        r = sys_renameat(AT_FDCWD, stage_path, c->blocks_fd, file, 0);
    return r;
}

static void index_adopted_locked(struct cache_object *o)
{
    struct cache *c = o->cache;
    for (uint64_t off = 0; off < o->size; off += c->set.block_size) {
        struct extent e = {.len = block_clip(c, off, o->size - off),
                           .flags = EXTENT_VERIFIED | EXTENT_NO_CRC},
                      ignored;
        struct block *b = block_add_locked(o, block_no(c, off));
        if (!b->leaving)
            (void)block_put_locked(b, e, &ignored);
    }
}

void cache_adopt(struct cache *c, const char *key, const char *path, const char *version,
                 uint64_t size, const char *stage_path, int fd)
{
    (void)fd;
    struct cache_object *o = cache_object_get(c, key, path, version, size, size > 0);
    lock_acquire(&c->lock);
    object_busy_begin_locked(o);
    lock_release(&c->lock);
    int r = size > 0 && o->size == size ? take_file(o, stage_path) : -EINVAL;
    lock_acquire(&c->lock);
    if (r == 0) {
        o->has_file = true;
        index_adopted_locked(o);
    }
    uint64_t slack = c->s.dirty < size ? c->s.dirty : size; /* the caller has not released it yet */
    object_busy_end_locked(o);
    lock_release(&c->lock);
    if (r < 0) {
        (void)sys_unlinkat(AT_FDCWD, stage_path, 0);
        cache_object_put(o);
        return;
    }
    space_shrink(c, slack);
    struct adopt_job *a = xcalloc(1, sizeof(*a));
    a->job.run = adopt_checksums;
    a->object = o; /* its reference */
    pool_submit(c->disk, &a->job, 1);
}

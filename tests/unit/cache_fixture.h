/* SPDX-License-Identifier: MIT
 * cache_fixture.h: what the cache's tests share: a directory, settings, and a store whose reads can
 * be slow, short, failing or of another version, and are counted. */
#ifndef QUAY_TESTS_CACHE_FIXTURE_H
#define QUAY_TESTS_CACHE_FIXTURE_H

#include "backends/store.h"
#include "base/clock.h"
#include "base/lock.h"
#include "cache/cache.h"
#include "t.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define MIB ((uint64_t)1 << 20)
#define KIB ((uint64_t)1 << 10)
#define UNUSED __attribute__((unused))

/* ---- a directory per program ---- */
static char fx_dir[PATH_MAX];

static int fx_remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static UNUSED void fx_wipe(void)
{
    if (fx_dir[0])
        nftw(fx_dir, fx_remove_one, 32, FTW_DEPTH | FTW_PHYS);
}

static UNUSED const char *fx_fresh_dir(void)
{
    const char *base = getenv("TMPDIR");
    fx_wipe();
    if (!fx_dir[0]) {
        snprintf(fx_dir, sizeof(fx_dir), "%s/quay-t-XXXXXX", base && *base ? base : "/tmp");
        CHECK(mkdtemp(fx_dir));
        atexit(fx_wipe);
    } else {
        CHECK(mkdir(fx_dir, 0700) == 0);
    }
    return fx_dir;
}

static UNUSED struct cache_settings fx_settings(void)
{
    return (struct cache_settings){.dir = fx_dir,
                                   .max_size = 0,
                                   .min_free = 0,
                                   .block_size = MIB,
                                   .ttl_ms = 5000,
                                   .enabled = true,
                                   .verify = true};
}

static UNUSED struct cache *fx_open(const struct cache_settings *set, struct stats *stats)
{
    struct err err = ERR_INIT;
    struct cache *c = NULL;
    int r = cache_open(set, 64 * MIB, stats, &err, &c);
    if (r < 0)
        fprintf(stderr, "cache_open: %s\n", err_text(&err));
    CHECK_INT(r, 0);
    return c;
}

/* Bytes that tell their place. */
static UNUSED char *fx_content(size_t n, uint64_t seed)
{
    char *p = malloc(n + 8);
    CHECK(p);
    for (size_t i = 0; i < n; i += 8) {
        uint64_t v = (i + seed) * 0x9E3779B97F4A7C15ULL;
        v ^= v >> 29;
        memcpy(p + i, &v, 8);
    }
    return p;
}

/* The path of the only block file; "" when there is none. */
static char fx_found[PATH_MAX];
static int fx_find_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)ftw;
    const char *name = strrchr(path, '/');
    if (flag == FTW_F && name && strlen(name + 1) == 64)
        snprintf(fx_found, sizeof(fx_found), "%s", path);
    return 0;
}

static UNUSED const char *fx_block_file(void)
{
    fx_found[0] = '\0';
    nftw(fx_dir, fx_find_one, 32, FTW_PHYS);
    return fx_found;
}

static uint64_t fx_disk_bytes;
static int fx_add_bytes(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)ftw;
    const char *name = strrchr(path, '/');
    if (flag == FTW_F && name && strlen(name + 1) == 64)
        fx_disk_bytes += (uint64_t)st->st_blocks * 512;
    return 0;
}

/* What the block files really take. */
static UNUSED uint64_t fx_disk_usage(void)
{
    fx_disk_bytes = 0;
    nftw(fx_dir, fx_add_bytes, 32, FTW_PHYS);
    return fx_disk_bytes;
}

/* A walk is no snapshot: what goes after it was counted, and what comes into its place further on, count both. What is
 * really too much is met by the next walks, too. */
static UNUSED bool fx_disk_exceeds(uint64_t limit)
{
    for (int i = 0; i < 3; i++)
        if (fx_disk_usage() <= limit)
            return false;
    return true;
}

static UNUSED int64_t fx_committed_extents(void)
{
    struct err err = ERR_INIT;
    struct sqldb *db = NULL;
    struct sqlstmt *st = NULL;
    int64_t n = 0;
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/index.db", fx_dir);
    if (sqldb_open(path, SQLDB_READONLY, &err, &db) == 0 &&
        sqldb_prepare(db, "SELECT count(*) FROM extent", &err, &st) == 0 && sqldb_step(st, &err) == 1)
        n = sqldb_i64(st, 0);
    sqldb_finalize(st);
    sqldb_close(db);
    return n;
}

/* Until the writer of the index has committed something. */
static UNUSED void fx_wait_committed(void)
{
    for (int i = 0; i < 3000 && fx_committed_extents() == 0; i++)
        clock_sleep_ms(20);
}

/* ---- a store to play with ---- */
#define FX_RANGES 4096
struct fx_store {
    struct store base;
    const char *data;
    uint64_t size;
    char version[ATTR_VERSION_MAX]; /* of what is there now */
    atomic_uint gets, flying, flying_max;
    atomic_uint_fast64_t bytes;
    _Atomic unsigned latency_ms; /* before the first byte */
    _Atomic unsigned chunk_ms;   /* between chunks */
    _Atomic size_t chunk;        /* bytes between on_data calls */
    _Atomic int fail;            /* errno of every read */
    _Atomic size_t fail_after;   /* bytes that arrive before it fails */
    _Atomic unsigned fail_nth;   /* only this one fails; 0 = all */
    _Atomic size_t cut;          /* sends so many bytes less */
    struct lock lock;
    struct {
        uint64_t off, len;
    } ranges[FX_RANGES];
    unsigned n_ranges;
};

static void fx_note(struct fx_store *s, const struct read_req *req)
{
    unsigned now = atomic_fetch_add(&s->flying, 1) + 1, max = atomic_load(&s->flying_max);
    while (now > max && !atomic_compare_exchange_weak(&s->flying_max, &max, now)) {
    }
    LOCK_SCOPE(&s->lock);
    if (s->n_ranges < FX_RANGES) {
        s->ranges[s->n_ranges].off = req->offset;
        s->ranges[s->n_ranges++].len = req->iov.iov_len;
    }
}

static int fx_transfer(struct fx_store *s, struct op *op, const struct read_req *req, size_t n,
                       int fail)
{
    size_t chunk = atomic_load(&s->chunk) ? atomic_load(&s->chunk) : 64 * KIB;
    if (atomic_load(&s->latency_ms) && op_sleep(op, atomic_load(&s->latency_ms)) < 0)
        return -op->err.code;
    for (size_t at = 0; at < n;) {
        size_t m = n - at < chunk ? n - at : chunk;
        if (fail && at + m > atomic_load(&s->fail_after))
            return err_set(&op->err, fail, "injected");
        memcpy((char *)req->iov.iov_base + at, s->data + req->offset + at, m);
        at += m;
        atomic_fetch_add(&s->bytes, m);
        if (req->on_data && req->on_data(req->on_data_arg, at))
            return err_set(&op->err, EINTR, "stopped");
        if (atomic_load(&s->chunk_ms) && op_sleep(op, atomic_load(&s->chunk_ms)) < 0)
            return -op->err.code;
    }
    return fail && n <= atomic_load(&s->fail_after) ? err_set(&op->err, fail, "injected") : 0;
}

static int fx_read(struct store *base, struct op *op, const struct read_req *req,
                   struct read_res *ret)
{
    struct fx_store *s = (struct fx_store *)base;
    unsigned nth = atomic_fetch_add(&s->gets, 1) + 1;
    fx_note(s, req);
    uint64_t left = req->offset < s->size ? s->size - req->offset : 0;
    size_t n = req->iov.iov_len < left ? req->iov.iov_len : (size_t)left;
    n -= n > atomic_load(&s->cut) ? atomic_load(&s->cut) : n;
    int fail =
        atomic_load(&s->fail_nth) && atomic_load(&s->fail_nth) != nth ? 0 : atomic_load(&s->fail);
    int r;
    if (req->version && req->version[0] && strcmp(req->version, s->version) != 0)
        r = err_set(&op->err, ESTALE, "it has changed");
    else
        r = fx_transfer(s, op, req, n, fail);
    atomic_fetch_sub(&s->flying, 1);
    if (r < 0)
        return r;
    ret->length = n;
    ret->attr.kind = ATTR_FILE;
    ret->attr.size = s->size;
    snprintf(ret->attr.version, sizeof(ret->attr.version), "%s", s->version);
    return 0;
}

static int fx_stat(struct store *s, struct op *op, const char *key, struct attr *ret)
{
    (void)s;
    (void)key;
    (void)ret;
    return err_set(&op->err, ENOTSUP, "not here");
}

static int fx_list(struct store *s, struct op *op, const struct list_query *q,
                   struct list_page *ret)
{
    (void)s;
    (void)q;
    (void)ret;
    return err_set(&op->err, ENOTSUP, "not here");
}

static void fx_close(struct store *s)
{
    lock_done(&((struct fx_store *)s)->lock);
    free(s);
}

static const struct store_class fx_class = {.abi = STORE_ABI,
                                            .name = "fixture",
                                            .summary = "for tests",
                                            .close = fx_close,
                                            .stat = fx_stat,
                                            .list = fx_list,
                                            .read = fx_read};

static UNUSED struct fx_store *fx_store_new(const char *data, uint64_t size, const char *version)
{
    struct fx_store *s = calloc(1, sizeof(*s));
    CHECK(s);
    s->base.cls = &fx_class;
    s->base.limits.part_size = 4 * MIB;
    s->base.limits.concurrency = 6;
    s->data = data;
    s->size = size;
    snprintf(s->version, sizeof(s->version), "%s", version);
    lock_init(&s->lock, LOCK_RANK_LEAF, "fixture");
    return s;
}

/* True when no byte was asked for twice. */
static UNUSED bool fx_disjoint(struct fx_store *s)
{
    for (unsigned i = 0; i < s->n_ranges; i++)
        for (unsigned k = i + 1; k < s->n_ranges; k++)
            if (s->ranges[i].off < s->ranges[k].off + s->ranges[k].len &&
                s->ranges[k].off < s->ranges[i].off + s->ranges[i].len) {
                fprintf(stderr, "fetched twice: %llu+%llu and %llu+%llu\n",
                        (unsigned long long)s->ranges[i].off, (unsigned long long)s->ranges[i].len,
                        (unsigned long long)s->ranges[k].off, (unsigned long long)s->ranges[k].len);
                return false;
            }
    return true;
}

#endif

/* SPDX-License-Identifier: MIT
 * vol_fixture.h: a volume over a real class for tests: a cache in a fresh directory, a store from text.
 *     struct vx x = vx_new(); vx_open(&x, "backend = memory\n"); ... vx_done(&x);
 * The store is reached past the volume ("the other client") by vx_foreign_*(). */
#ifndef QUAY_TESTS_VOL_FIXTURE_H
#define QUAY_TESTS_VOL_FIXTURE_H

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/sys.h"
#include "cache/volume.h"
#include "tests/unit/t.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>

#define KIB 1024ULL
#define MIB (1024 * KIB)

struct vx {
    char *dir;               /* everything of this test; vx_close(…) keeps it, vx_done removes it */
    struct stats *stats;
    struct cache *c;
    struct conf *conf;
    struct volume *v;
    struct store *store;     /* borrowed from the volume */
    struct volume_policy policy;
    uint32_t mask;           /* caps taken from the store */
    struct store_limits limits; /* those not 0 replace the store's */
    uint64_t max_size;       /* of the cache; 0 = 1 GiB */
    struct op op;
};

static inline int vx_remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
    (void)st, (void)flag, (void)f;
    return remove(path);
}

static inline struct vx vx_new(void)
{
    struct vx x = {0};
    lock_init_jitter();
    const char *tmp = getenv("TMPDIR");
    char random[9];
    random_hex(random, 8);
    x.dir = xasprintf("%s/quay-vol-%s", tmp ? tmp : "/tmp", random);
    CHECK_INT(sys_mkdirs(x.dir, 0700), 0);
    CLEANUP_FREE char *root = xasprintf("%s/root", x.dir);
    CHECK_INT(sys_mkdirs(root, 0755), 0);
    x.policy = (struct volume_policy){.cache_blocks = true,
                                      .ttl_ms = 5000,
                                      .write = VOLUME_THROUGH,
                                      .file_mode = 0644,
                                      .dir_mode = 0755,
                                      .uid = getuid(),
                                      .gid = getgid(),
                                      .timeout_ms = 20000};
    op_init(&x.op, "test", 0);
    return x;
}

static inline void vx_open(struct vx *x, const char *text)
{
    struct err err = ERR_INIT;
    CLEANUP_FREE char *dir = xasprintf("%s/cache", x->dir);
    CLEANUP_FREE char *conf = xasprintf("[store lake]\n%s\n", text);
    struct cache_settings set = {.dir = dir, .max_size = x->max_size ? x->max_size : 1 << 30, .block_size = MIB,
                                 .ttl_ms = 5000, .enabled = true, .verify = true};
    x->stats = stats_new();
    CHECK_INT(cache_open(&set, 128 * MIB, x->stats, &err, &x->c), 0);
    CHECK_INT(conf_parse("test.conf", conf, &err, &x->conf), 0);
    int r = registry_open(x->conf, conf_find(x->conf, "store", "lake"), x->stats, &err, &x->store);
    if (r < 0)
        fprintf(stderr, "store: %s\n", err_text(&err));
    CHECK_INT(r, 0);
    x->store->caps &= ~x->mask;
    if (x->limits.upload_threshold)
        x->store->limits.upload_threshold = x->limits.upload_threshold;
    if (x->limits.part_size)
        x->store->limits.part_size = x->limits.part_size;
    if (x->limits.part_min)
        x->store->limits.part_min = x->limits.part_min;
    if (x->limits.part_max)
        x->store->limits.part_max = x->limits.part_max;
    if (x->limits.put_max)
        x->store->limits.put_max = x->limits.put_max;
    if (x->limits.parts_max)
        x->store->limits.parts_max = x->limits.parts_max;
    r = volume_open("lake", x->store, &x->policy, x->c, x->stats, &err, &x->v);
    if (r < 0)
        fprintf(stderr, "volume: %s\n", err_text(&err));
    CHECK_INT(r, 0);
}

/* A local store below the fixture's directory: survives vx_close. */
static inline void vx_open_local(struct vx *x, const char *more)
{
    CLEANUP_FREE char *text = xasprintf("backend = local\nbase_path = %s/root\n%s", x->dir, more);
    vx_open(x, text);
}

/* Returns what volume_close said: files still staged. */
static inline int vx_close_ms(struct vx *x, unsigned ms)
{
    struct op op;
    op_init(&op, "close", ms);
    int left = volume_close(x->v, &op);
    cache_close(x->c);
    conf_free(x->conf);
    stats_free(x->stats);
    x->v = NULL;
    return left;
}

static inline int vx_close(struct vx *x)
{
    return vx_close_ms(x, 10000);
}

static inline void vx_done(struct vx *x)
{
    if (x->v)
        CHECK_INT(vx_close(x), 0);
    (void)nftw(x->dir, vx_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(x->dir);
}

/* ---- through the volume ---- */

static inline struct vfile *vx_fopen(struct vx *x, const char *path, unsigned flags, int want)
{
    struct vfile_open how = {.flags = flags, .mode = 0644, .uid = getuid(), .gid = getgid()};
    struct vfile *f = NULL;
    struct attr a = ATTR_INIT;
    bool keep = false;
    int r = volume_open_file(x->v, &x->op, path, &how, &f, &a, &keep);
    if (r != want)
        fprintf(stderr, "open %s: %s\n", path, err_text(&x->op.err));
    CHECK_INT(r, want);
    attr_done(&a);
    return f;
}

struct vx_read {
    struct read_call call;
    struct lock lock;
    struct cond cond;
    bool done;
    unsigned char *buf;
    int error;
    size_t total;
};

/* A staged file that is cut at this moment gives less: that is zeros. */
static inline void vx_read_fd(const struct read_piece *p, unsigned char *out)
{
    ssize_t n = sys_pread(p->fd, out, p->length, p->fd_offset);
    CHECK(n >= 0);
    memset(out + n, 0, p->length - (size_t)n);
}

static inline void vx_read_done(struct read_call *call)
{
    struct vx_read *r = (struct vx_read *)call;
    size_t at = 0;
    for (size_t i = 0; i < call->n_pieces && !call->error; i++) {
        const struct read_piece *p = &call->pieces[i];
        if (p->mem)
            memcpy(r->buf + at, p->mem, p->length);
        else
            vx_read_fd(p, r->buf + at);
        at += p->length;
    }
    CHECK(call->error || at == call->total);
    LOCK_SCOPE(&r->lock);
    r->error = call->error;
    r->total = call->total;
    r->done = true;
    cond_broadcast(&r->cond);
}

static inline ssize_t vx_pread(struct vfile *f, void *buf, size_t len, uint64_t off)
{
    struct vx_read r = {.call = {.offset = off, .length = len, .done = vx_read_done}, .buf = buf};
    lock_init(&r.lock, LOCK_RANK_LEAF, "test read");
    cond_init(&r.cond);
    vfile_read(f, &r.call);
    lock_acquire(&r.lock);
    while (!r.done)
        cond_wait(&r.cond, &r.lock);
    lock_release(&r.lock);
    cond_done(&r.cond);
    lock_done(&r.lock);
    return r.error ? r.error : (ssize_t)r.total;
}

static inline void vx_pwrite(struct vx *x, struct vfile *f, const void *buf, size_t len, uint64_t off)
{
    ssize_t n = vfile_write(f, &x->op, off, buf, len);
    if (n != (ssize_t)len)
        fprintf(stderr, "write: %s\n", err_text(&x->op.err));
    CHECK_INT(n, len);
}

static inline int vx_fclose(struct vx *x, struct vfile *f)
{
    int r = vfile_flush(f, &x->op);
    vfile_release(f);
    return r;
}

/* Creates or overwrites a whole file; returns what close said. */
static inline int vx_write_n(struct vx *x, const char *path, const void *data, size_t len)
{
    struct vfile *f = vx_fopen(x, path, VFILE_WRITE | VFILE_CREATE | VFILE_TRUNC, 0);
    if (len)
        vx_pwrite(x, f, data, len, 0);
    return vx_fclose(x, f);
}

static inline void vx_write(struct vx *x, const char *path, const char *text)
{
    int r = vx_write_n(x, path, text, strlen(text));
    if (r != 0)
        fprintf(stderr, "close %s: %s\n", path, err_text(&x->op.err));
    CHECK_INT(r, 0);
}

static inline char *vx_read(struct vx *x, const char *path)
{
    struct vfile *f = vx_fopen(x, path, VFILE_READ, 0);
    static char buf[1 << 16];
    ssize_t n = vx_pread(f, buf, sizeof(buf) - 1, 0);
    CHECK(n >= 0);
    buf[n] = '\0';
    CHECK_INT(vx_fclose(x, f), 0);
    return buf;
}

static inline int vx_stat(struct vx *x, const char *path, struct attr *a)
{
    attr_done(a);
    return volume_stat(x->v, &x->op, path, 0, a);
}

/* "a b/ c@": names in order, directories with '/', links with '@', shadows with '!'. */
static inline char *vx_ls(struct vx *x, const char *path)
{
    static char text[1 << 16];
    struct buf b = BUF_INIT;
    struct volume_dir *d = NULL;
    const struct volume_entry *e;
    int r = volume_opendir(x->v, &x->op, path, &d);
    if (r < 0) {
        snprintf(text, sizeof(text), "error %d", -r);
        return text;
    }
    for (uint64_t i = 0; (r = volume_readdir(d, &x->op, i, &e)) == 1; i++)
        buf_addf(&b, "%s%s%s%s", i ? " " : "", e->name,
                 e->attr.kind == ATTR_DIR ? "/" : e->attr.kind == ATTR_SYMLINK ? "@" : "",
                 e->shadow ? "!" : "");
    CHECK_INT(r, 0);
    volume_closedir(d);
    snprintf(text, sizeof(text), "%s", buf_str(&b));
    buf_done(&b);
    return text;
}

/* ---- the other client ---- */

static inline void vx_foreign_put(struct vx *x, const char *key, const char *text)
{
    struct source_mem src = source_mem(text, strlen(text));
    struct put_req req = {.key = key, .src = &src.base};
    struct attr a = ATTR_INIT;
    CHECK_INT(store_put(x->store, &x->op, &req, &a), 0);
    attr_done(&a);
}

/* The object's content, or NULL when it is not there. */
static inline char *vx_foreign_get(struct vx *x, const char *key)
{
    static char buf[1 << 16];
    struct read_req req = {.key = key, .iov = {.iov_base = buf, .iov_len = sizeof(buf) - 1}};
    struct read_res res = READ_RES_INIT;
    int r = store_read(x->store, &x->op, &req, &res);
    buf[r == 0 ? res.length : 0] = '\0';
    read_res_done(&res);
    return r == 0 ? buf : NULL;
}

static inline void vx_foreign_remove(struct vx *x, const char *key)
{
    CHECK_INT(store_remove(x->store, &x->op, key, NULL), 0);
}

/* Space separated keys below a prefix. */
static inline char *vx_foreign_ls(struct vx *x, const char *prefix)
{
    static char text[1 << 14];
    struct buf b = BUF_INIT;
    struct list_query q = {.prefix = prefix, .recursive = true};
    struct list_page page = LIST_PAGE_INIT;
    CHECK_INT(store_list(x->store, &x->op, &q, &page), 0);
    for (size_t i = 0; i < page.count; i++)
        buf_addf(&b, "%s%s%s", i ? " " : "", page.entries[i].key,
                 page.entries[i].attr.kind == ATTR_DIR ? "/" : "");
    list_page_done(&page);
    snprintf(text, sizeof(text), "%s", buf_str(&b));
    buf_done(&b);
    return text;
}

#endif

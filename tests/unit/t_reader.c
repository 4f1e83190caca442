/* SPDX-License-Identifier: MIT
 * t_reader.c: reads through the cache: every byte, single flight, read-ahead, failures, restarts.
 */
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/pool.h"
#include "base/sys.h"
#include "cache/reader.h"
#include "cache_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define BIG (24 * MIB + 54321)

static char *data; /* BIG bytes */

/* One mount of one object: everything a test needs. */
struct rig {
    struct cache_settings set;
    struct stats *stats;
    struct cache *c;
    struct fx_store *store;
    struct pool *pool;
    uint64_t size;
    bool keep;
};

static void rig_up(struct rig *g, uint64_t memory)
{
    struct err err = ERR_INIT;
    g->stats = stats_new();
    CHECK_INT(cache_open(&g->set, memory, g->stats, &err, &g->c), 0);
    g->store = fx_store_new(data, g->size, "v1");
    g->pool = pool_new("t-workers", 12);
}

static struct rig rig_new(uint64_t size)
{
    fx_fresh_dir();
    struct rig g = {.set = fx_settings(), .size = size, .keep = true};
    rig_up(&g, 64 * MIB);
    return g;
}

static void rig_down(struct rig *g)
{
    pool_free(g->pool);
    store_close(&g->store->base);
    struct cache_usage u;
    cache_get_usage(g->c, NULL, &u);
    if (!g->keep)
        CHECK_INT(u.bytes, 0);
    cache_close(g->c);
    stats_free(g->stats);
}

static void rig_restart(struct rig *g)
{
    rig_down(g);
    rig_up(g, 64 * MIB);
}

static struct reader *rig_reader(struct rig *g, const char *version)
{
    struct cache_object *o = cache_object_get(g->c, "lake", "obj", version, g->size, g->keep);
    struct reader *r = reader_open(g->c, o, &g->store->base, g->pool, "obj", 5000);
    cache_object_put(o);
    return r;
}

static void check_read(struct reader *r, uint64_t size, uint64_t off, size_t len)
{
    CLEANUP_FREE char *buf = xmalloc(len + 1);
    struct err err = ERR_INIT;
    ssize_t n = reader_pread(r, NULL, off, buf, len, 0, &err);
    uint64_t want = off < size ? size - off : 0;
    if (want > len)
        want = len;
    if (n < 0)
        fprintf(stderr, "pread: %s\n", err_text(&err));
    CHECK_INT(n, want);
    CHECK(memcmp(buf, data + off, (size_t)n) == 0);
}

static void read_all(struct reader *r, uint64_t size, size_t step)
{
    for (uint64_t off = 0; off < size; off += step)
        check_read(r, size, off, step);
}

/* Waits until what was fetched is on disk. */
static void wait_kept(struct rig *g, uint64_t bytes)
{
    struct cache_usage u = {0};
    for (int i = 0; i < 6000 && u.bytes < bytes; i++) {
        cache_get_usage(g->c, NULL, &u);
        clock_sleep_ms(u.bytes < bytes ? 10 : 0);
    }
    CHECK(u.bytes >= bytes);
}

static void test_sequential(void)
{
    struct rig g = rig_new(BIG);
    struct reader *r = rig_reader(&g, "v1");
    read_all(r, BIG, 128 * KIB);
    CHECK_INT(atomic_load(&g.store->bytes), BIG);
    CHECK(fx_disjoint(g.store));
    CHECK(atomic_load(&g.store->gets) <= 24);
    CHECK(atomic_load(&g.store->flying_max) <= 7);
    check_read(r, BIG, BIG - 10, 100); /* over the end */
    check_read(r, BIG, BIG + 10, 100);
    wait_kept(&g, BIG);
    reader_close(r);
    unsigned gets = atomic_load(&g.store->gets);
    r = rig_reader(&g, "v1"); /* a second open asks for nothing */
    read_all(r, BIG, 1000 * 1000);
    CHECK_INT(atomic_load(&g.store->gets), gets);
    CHECK(stats_sum(g.stats, "quayfs_cache_hits_total", "key", "lake") >= 24);
    reader_close(r);
    rig_restart(&g); /* nor does another process */
    r = rig_reader(&g, "v1");
    read_all(r, BIG, 64 * KIB);
    CHECK_INT(atomic_load(&g.store->gets), 0);
    CHECK_INT(stats_sum(g.stats, "quayfs_cache_misses_total", "key", "lake"), 0);
    reader_close(r);
    rig_down(&g);
}

static void test_random_is_exact(void)
{
    struct rig g = rig_new(BIG);
    struct reader *r = rig_reader(&g, "v1");
    check_read(r, BIG, 10 * MIB + 100, 50);
    CHECK_INT(g.store->n_ranges, 1);
    CHECK_INT(g.store->ranges[0].off, 10 * MIB);
    CHECK_INT(g.store->ranges[0].len, 4096);
    check_read(r, BIG, 15 * MIB + 4000, 200); /* two pages */
    CHECK_INT(g.store->ranges[1].off, 15 * MIB);
    CHECK_INT(g.store->ranges[1].len, 8192);
    wait_kept(&g, 12288);
    check_read(r, BIG, 10 * MIB, 4096);
    CHECK_INT(g.store->n_ranges, 2);
    reader_close(r);
    r = rig_reader(&g, "v1");                   /* one that has seen no stream here */
    check_read(r, BIG, 10 * MIB - 8192, 20480); /* around what is there: one GET */
    CHECK_INT(g.store->n_ranges, 3);
    CHECK_INT(g.store->ranges[2].off, 10 * MIB - 8192);
    reader_close(r);
    rig_down(&g);
}

static void test_small_file_in_one_get(void)
{
    struct rig g = rig_new(100 * KIB);
    struct reader *r = rig_reader(&g, "v1");
    check_read(r, 100 * KIB, 50 * KIB, 4096);
    read_all(r, 100 * KIB, 16 * KIB);
    CHECK_INT(atomic_load(&g.store->gets), 1);
    reader_close(r);
    rig_down(&g);
    g = rig_new(0);
    r = rig_reader(&g, "v1");
    check_read(r, 0, 0, 4096);
    CHECK_INT(atomic_load(&g.store->gets), 0);
    reader_close(r);
    rig_down(&g);
}

/* What an open has brought: read without a GET, and kept. `size` of the buffer, `len` of its bytes. */
static void give(struct rig *g, struct reader *r, size_t size, size_t len)
{
    void *buf = cache_buffer_get(g->c, size, false);
    CHECK(buf);
    memcpy(buf, data, len);
    reader_give(r, buf, size, len);
}

static uint64_t memory_used(struct rig *g)
{
    struct cache_usage u;
    cache_get_usage(g->c, NULL, &u);
    return u.memory;
}

/* What was cancelled on its way gives its memory back when its worker has noticed. */
static void wait_memory_back(struct rig *g)
{
    for (int i = 0; i < 60000 && memory_used(g); i++)
        clock_sleep_ms(1);
    CHECK_INT(memory_used(g), 0);
}

static void test_given(size_t size, size_t len, unsigned gets)
{
    struct rig g = rig_new(100 * KIB);
    struct reader *r = rig_reader(&g, "v1");
    give(&g, r, size, len);
    read_all(r, 100 * KIB, 16 * KIB);
    CHECK_INT(atomic_load(&g.store->gets), gets);
    CHECK(fx_disjoint(g.store));
    CHECK(stats_sum(g.stats, "quayfs_cache_misses_total", "key", "lake") > 0);
    wait_kept(&g, 100 * KIB);
    reader_close(r);
    wait_memory_back(&g);
    r = rig_reader(&g, "v1");
    read_all(r, 100 * KIB, 16 * KIB);
    CHECK_INT(atomic_load(&g.store->gets), gets);
    reader_close(r);
    rig_down(&g);
}

static void test_given_bytes_are_read(void)
{
    test_given(100 * KIB, 100 * KIB, 0);
    test_given(256 * KIB, 100 * KIB, 0); /* it has shrunk: the buffer is larger than need be */
    test_given(8 * KIB, 8 * KIB, 1);     /* it has grown: the rest is fetched */
    test_given(8 * KIB, 0, 1);
}

static void test_given_and_not_read(void)
{
    for (int keep = 0; keep < 2; keep++) {
        struct rig g = rig_new(100 * KIB);
        g.keep = keep;
        struct reader *r = rig_reader(&g, "v1");
        give(&g, r, 100 * KIB, 100 * KIB);
        CHECK_INT(memory_used(&g), 100 * KIB);
        reader_close(r);
        if (keep)
            wait_kept(&g, 100 * KIB);
        wait_memory_back(&g);
        rig_down(&g);
    }
}

/* Not taken: they are on their way, or of a version that is no more. Never leaked. */
static void test_given_too_late(void)
{
    struct rig g = rig_new(100 * KIB);
    struct reader *r = rig_reader(&g, "v1"), *other = rig_reader(&g, "v1");
    give(&g, r, 100 * KIB, 100 * KIB);
    give(&g, other, 100 * KIB, 100 * KIB);
    CHECK_INT(memory_used(&g), 100 * KIB);
    read_all(other, 100 * KIB, 16 * KIB);
    CHECK_INT(atomic_load(&g.store->gets), 0);
    reader_close(other);
    reader_close(r);
    rig_down(&g);
}

/* Memory that nobody has read yet goes to those who wait for some. */
static void test_given_is_reclaimed(void)
{
    struct rig g = rig_new(BIG);
    g.keep = false;
    struct reader *r = rig_reader(&g, "v1"), *holders[64];
    for (size_t i = 0; i < 64; i++) {
        char version[16];
        snprintf(version, sizeof(version), "h%zu", i);
        holders[i] = rig_reader(&g, version);
        void *buf = cache_buffer_get(g.c, 256 * KIB, false);
        if (buf)
            reader_give(holders[i], buf, 256 * KIB, 256 * KIB);
    }
    read_all(r, BIG, 128 * KIB);
    reader_close(r);
    for (size_t i = 0; i < 64; i++)
        reader_close(holders[i]);
    wait_memory_back(&g);
    rig_down(&g);
}

/* ---- calls without waiting ---- */
struct pending {
    struct read_call call;
    atomic_uint *left;
    atomic_int done;
    int error;
    bool wrong;
};

static void on_done(struct read_call *call)
{
    struct pending *p = (struct pending *)call;
    uint64_t at = call->offset;
    lock_assert_none_held();
    for (size_t i = 0; i < call->n_pieces; i++) {
        const struct read_piece *piece = &call->pieces[i];
        CLEANUP_FREE char *copy = piece->mem ? NULL : xmalloc(piece->length);
        if (copy && sys_pread(piece->fd, copy, piece->length, piece->fd_offset) < 0)
            p->wrong = true;
        if (memcmp(piece->mem ? piece->mem : copy, data + at, piece->length) != 0)
            p->wrong = true;
        at += piece->length;
    }
    p->error = call->error;
    if (!call->error && at - call->offset != call->length)
        p->wrong = true;
    atomic_fetch_add(&p->done, 1);
    if (p->left)
        atomic_fetch_sub(p->left, 1);
}

static void start(struct reader *r, struct pending *p, uint64_t off, size_t len, atomic_uint *left)
{
    *p = (struct pending){.call = {.offset = off, .length = len, .done = on_done}, .left = left};
    reader_read(r, &p->call);
}

static void wait_done(struct pending *p)
{
    for (int i = 0; i < 60000 && atomic_load(&p->done) == 0; i++)
        clock_sleep_ms(1);
    CHECK_INT(atomic_load(&p->done), 1);
    CHECK(!p->wrong);
}

static void test_single_flight(void)
{
    struct rig g = rig_new(BIG);
    struct reader *r[4];
    struct pending p[64];
    atomic_uint left = 64;
    atomic_store(&g.store->latency_ms, 50);
    for (int i = 0; i < 4; i++)
        r[i] = rig_reader(&g, "v1"); /* one object, four open files */
    for (unsigned i = 0; i < 64; i++)
        start(r[i % 4], &p[i], (i / 16) * 5 * MIB, 8192, &left);
    for (unsigned i = 0; i < 64; i++) {
        wait_done(&p[i]);
        CHECK_INT(p[i].error, 0);
    }
    CHECK(fx_disjoint(g.store));
    CHECK(g.store->n_ranges <= 4 + 4);
    for (int i = 0; i < 4; i++)
        reader_close(r[i]);
    rig_down(&g);
}

/* Bytes that have arrived are given before the GET has ended. */
static void test_progressive(void)
{
    struct rig g = rig_new(BIG);
    struct reader *r = rig_reader(&g, "v1");
    struct pending first, last;
    atomic_store(&g.store->chunk_ms, 500);
    start(r, &first, 0, 64 * KIB, NULL);
    start(r, &last, MIB - 64 * KIB, 64 * KIB, NULL);
    wait_done(&first);
    CHECK_INT(first.error, 0);
    CHECK_INT(atomic_load(&last.done), 0);
    CHECK(atomic_load(&g.store->bytes) < MIB);
    atomic_store(&g.store->chunk_ms, 0);
    wait_done(&last);
    reader_close(r);
    rig_down(&g);
}

static void test_close_cancels_readahead(void)
{
    struct rig g = rig_new(BIG);
    struct reader *r = rig_reader(&g, "v1");
    for (uint64_t off = 0; off < 3 * MIB; off += 128 * KIB)
        check_read(r, BIG, off, 128 * KIB);
    atomic_store(&g.store->chunk_ms, 100); /* what flies now will not have ended in seconds */
    for (uint64_t off = 3 * MIB; off < 3 * MIB + 256 * KIB; off += 128 * KIB)
        check_read(r, BIG, off, 128 * KIB);
    atomic_store(&g.store->chunk_ms, 600 * 1000); /* nor in minutes */
    reader_close(r);
    pool_drain(g.pool);
    atomic_store(&g.store->chunk_ms, 0);
    r = rig_reader(&g, "v1");
    read_all(r, BIG, 256 * KIB);
    reader_close(r);
    rig_down(&g);
}

static void test_stale_is_sticky(void)
{
    struct rig g = rig_new(BIG);
    struct reader *r = rig_reader(&g, "v1");
    struct err err = ERR_INIT;
    char buf[4096];
    check_read(r, BIG, 8 * MIB, 4096);
    pool_drain(g.pool);
    snprintf(g.store->version, sizeof(g.store->version), "v2");
    CHECK_INT(reader_pread(r, NULL, 12 * MIB, buf, sizeof(buf), 0, &err), -ESTALE);
    CHECK(strstr(err_text(&err), "changed"));
    CHECK_INT(reader_pread(r, NULL, 8 * MIB, buf, sizeof(buf), 0, &err), -ESTALE);
    unsigned gets = atomic_load(&g.store->gets);
    CHECK_INT(reader_pread(r, NULL, 0, buf, sizeof(buf), 0, &err), -ESTALE);
    CHECK_INT(atomic_load(&g.store->gets), gets);
    reader_close(r);
    r = rig_reader(&g, "v2");
    check_read(r, BIG, 12 * MIB, 4096);
    reader_close(r);
    rig_down(&g);
}

static void test_unversioned(void)
{
    struct rig g = rig_new(BIG);
    struct err err = ERR_INIT;
    char buf[4096];
    g.keep = false; /* checks at the end that nothing is on disk */
    struct reader *r = rig_reader(&g, "");
    read_all(r, BIG, 512 * KIB);
    pool_drain(g.pool);
    snprintf(g.store->version, sizeof(g.store->version), "v2");
    CHECK_INT(reader_pread(r, NULL, MIB, buf, sizeof(buf), 0, &err), -ESTALE); /* the first reply was v1 */
    reader_close(r);
    rig_down(&g);
}

static void test_failures_are_forgotten(void)
{
    struct rig g = rig_new(BIG);
    struct reader *r = rig_reader(&g, "v1");
    struct err err = ERR_INIT;
    char buf[4096];
    atomic_store(&g.store->fail, EIO);
    CHECK_INT(reader_pread(r, NULL, 5 * MIB, buf, sizeof(buf), 0, &err), -EIO);
    CHECK_STR(err_text(&err), "injected");
    CHECK_INT(reader_pread(r, NULL, 0, buf, sizeof(buf), 0, &err), -EIO);
    atomic_store(&g.store->fail, 0);
    check_read(r, BIG, 5 * MIB, 4096);
    check_read(r, BIG, 0, 4096);
    atomic_store(&g.store->cut, 100); /* a body that ends early is no success */
    CHECK_INT(reader_pread(r, NULL, 9 * MIB, buf, sizeof(buf), 0, &err), -EIO);
    atomic_store(&g.store->cut, 0);
    check_read(r, BIG, 9 * MIB, 4096);
    /* a stream that breaks off within a part: what arrived counts, the rest is asked for again */
    atomic_store(&g.store->fail_after, 700 * KIB);
    atomic_store(&g.store->fail_nth, atomic_load(&g.store->gets) + 2);
    atomic_store(&g.store->fail, ECONNRESET);
    for (uint64_t off = 0; off < BIG; off += 128 * KIB) {
        CLEANUP_FREE char *b = xmalloc(128 * KIB);
        ssize_t n = reader_pread(r, NULL, off, b, 128 * KIB, 0, &err);
        if (n < 0)
            n = reader_pread(r, NULL, off, b, 128 * KIB, 0, &err);
        CHECK(n > 0 && memcmp(b, data + off, (size_t)n) == 0);
    }
    reader_close(r);
    rig_down(&g);
}

static void test_corruption_is_refetched(void)
{
    struct rig g = rig_new(BIG);
    struct reader *r = rig_reader(&g, "v1");
    read_all(r, BIG, 512 * KIB);
    wait_kept(&g, BIG);
    reader_close(r);
    rig_restart(&g);
    int fd = open(fx_block_file(), O_RDWR);
    CHECK(fd >= 0 && pwrite(fd, "XYZ", 3, 7 * MIB + 5) == 3);
    CHECK(ftruncate(fd, 20 * MIB + 100) == 0); /* and the end is gone */
    close(fd);
    r = rig_reader(&g, "v1");
    read_all(r, BIG, 300 * KIB);
    CHECK(atomic_load(&g.store->gets) > 0);
    CHECK(atomic_load(&g.store->bytes) < 8 * MIB);
    CHECK(stats_sum(g.stats, "quayfs_cache_corrupt_total", "key", "lake") >= 2);
    reader_close(r);
    rig_down(&g);
}

static void test_eviction_meanwhile(void)
{
    struct rig g = rig_new(BIG);
    rig_down(&g);
    g.set.max_size = 6 * MIB; /* a quarter of the object */
    rig_up(&g, 64 * MIB);
    struct reader *r = rig_reader(&g, "v1");
    for (int round = 0; round < 3; round++) {
        read_all(r, BIG, 256 * KIB);
        struct cache_usage u;
        cache_get_usage(g.c, NULL, &u);
        CHECK(u.bytes <= 6 * MIB);
    }
    reader_close(r);
    rig_down(&g);
}

/* ---- many threads ---- */
struct worker {
    struct rig *g;
    struct reader *r;
    int no;
    unsigned rounds;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    uint64_t size = w->g->size;
    if (w->no % 2 == 0) { /* its own open file, start to end */
        struct reader *r = rig_reader(w->g, "v1");
        read_all(r, size, (size_t)(64 + w->no * 50) * KIB);
        reader_close(r);
        return NULL;
    }
    for (unsigned i = 0; i < w->rounds; i++) {
        uint64_t off = (uint64_t)random_below((uint32_t)(size / 512)) * 512;
        check_read(w->r, size, off, 1 + random_below(i % 8 == 0 ? 600000 : 20000));
    }
    return NULL;
}

static void run_workers(struct rig *g, unsigned rounds)
{
    struct reader *shared = rig_reader(g, "v1");
    struct worker w[8];
    pthread_t t[8];
    for (int i = 0; i < 8; i++) {
        w[i] = (struct worker){.g = g, .r = shared, .no = i, .rounds = rounds};
        CHECK_INT(pthread_create(&t[i], NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < 8; i++)
        pthread_join(t[i], NULL);
    reader_close(shared);
}

static void test_many_threads(void)
{
    struct rig g = rig_new(BIG);
    run_workers(&g, 300);
    rig_restart(&g);
    run_workers(&g, 300);
    rig_down(&g);
}

static void test_many_threads_small_cache(void)
{
    struct rig g = rig_new(BIG);
    rig_down(&g);
    g.set.max_size = 5 * MIB;
    rig_up(&g, 32 * MIB);
    run_workers(&g, 200);
    rig_down(&g);
}

/* Far less memory than what is asked for at once: everybody waits, nobody for ever. */
static void test_tight_memory(void)
{
    for (int keep = 0; keep < 2; keep++) {
        struct rig g = rig_new(BIG);
        rig_down(&g);
        rig_up(&g, MIB); /* the smallest budget there is */
        g.keep = keep;
        atomic_store(&g.store->latency_ms, 1);
        struct reader *r = rig_reader(&g, "v1");
        enum { N = 96 };
        struct pending p[N];
        atomic_uint left = N;
        for (unsigned i = 0; i < N; i++)
            start(r, &p[i], (uint64_t)random_below((uint32_t)(BIG - MIB)), 1024 * 1024, &left);
        for (int i = 0; i < 60000 && atomic_load(&left); i++)
            clock_sleep_ms(1);
        for (unsigned i = 0; i < N; i++) {
            wait_done(&p[i]);
            CHECK_INT(p[i].error, 0);
        }
        struct cache_usage u;
        cache_get_usage(g.c, NULL, &u);
        CHECK(u.memory <= 16 * MIB);
        reader_close(r);
        g.keep = true;
        rig_down(&g);
    }
}

static void full_disk(void)
{
    struct rig g = {.set = fx_settings(), .size = BIG, .keep = true};
    rig_up(&g, 64 * MIB);
    struct reader *r = rig_reader(&g, "v1");
    read_all(r, BIG, 128 * KIB);
    CHECK(fx_disjoint(g.store)); /* even so: from memory */
    reader_close(r);
    rig_down(&g);
}

static void test_disk_full(void)
{
    fx_fresh_dir();
    pid_t pid = fork();
    if (pid == 0) {
        char where[PATH_MAX + 16];
        snprintf(where, sizeof(where), "%s/blocks", fx_dir);
        setenv("QUAY_FAULT_DIR", where, 1);
        setenv("QUAY_FAULT_SYS", "pwrite:28@4+", 1);
        sys_init_faults();
        full_disk();
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_INT(status, 0);
}

static void test_local_store_is_read_plainly(void)
{
    struct rig g = rig_new(BIG);
    g.keep = false;
    g.store->base.caps |= CAP_LOCAL_FD;
    struct reader *r = rig_reader(&g, "v1");
    for (uint64_t off = 0; off < 4 * MIB; off += 128 * KIB)
        check_read(r, BIG, off, 128 * KIB);
    CHECK_INT(atomic_load(&g.store->bytes), 4 * MIB);
    CHECK_INT(atomic_load(&g.store->gets), 32);
    reader_close(r);
    rig_down(&g);
}

static void test_not_kept_is_read_once(void)
{
    struct rig g = rig_new(BIG);
    g.keep = false;
    struct reader *r = rig_reader(&g, "v1");
    read_all(r, BIG, 128 * KIB);
    CHECK(fx_disjoint(g.store));
    CHECK_INT(atomic_load(&g.store->bytes), BIG);
    reader_close(r);
    rig_down(&g);
}

int main(void)
{
    data = fx_content(BIG, 3);
    RUN(test_sequential);
    RUN(test_random_is_exact);
    RUN(test_small_file_in_one_get);
    RUN(test_given_bytes_are_read);
    RUN(test_given_and_not_read);
    RUN(test_given_too_late);
    RUN(test_given_is_reclaimed);
    RUN(test_single_flight);
    RUN(test_progressive);
    RUN(test_close_cancels_readahead);
    RUN(test_stale_is_sticky);
    RUN(test_unversioned);
    RUN(test_failures_are_forgotten);
    RUN(test_corruption_is_refetched);
    RUN(test_eviction_meanwhile);
    RUN(test_many_threads);
    RUN(test_many_threads_small_cache);
    RUN(test_tight_memory);
    RUN(test_disk_full);
    RUN(test_local_store_is_read_plainly);
    RUN(test_not_kept_is_read_once);
    free(data);
    return t_done();
}

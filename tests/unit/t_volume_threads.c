/* SPDX-License-Identifier: MIT
 * t_volume_threads.c: many threads and another client at one volume; for TSan, and for two promises:
 * a read never mixes versions, and what close() confirmed is at the store. */
#include "tests/unit/vol_fixture.h"

#include <pthread.h>

#define RW (VFILE_READ | VFILE_WRITE)
#define NEW (RW | VFILE_CREATE | VFILE_TRUNC)
#define SHARED 3
#define BIG_SIZE (200 * KIB)
#define WAITING_SIZE 5000

static struct vx x;
static atomic_bool stop;
static atomic_uint good_reads, stale_reads, writes, renames;

struct worker {
    pthread_t id;
    unsigned seed;
    void (*work)(struct worker *w, struct op *op);
};

static unsigned rnd(struct worker *w, unsigned below)
{
    w->seed = w->seed * 1103515245u + 12345u;
    return (w->seed >> 8) % below;
}

static int open_at(struct op *op, const char *path, unsigned flags, struct vfile **ret)
{
    struct vfile_open how = {.flags = flags, .mode = 0644, .uid = getuid(), .gid = getgid()};
    struct attr a = ATTR_INIT;
    bool keep = false;
    int r = volume_open_file(x.v, op, path, &how, ret, &a, &keep);
    attr_done(&a);
    return r;
}

static void put_past(struct op *op, const char *key, const char *data, size_t len)
{
    struct source_mem src = source_mem(data, len);
    struct put_req req = {.key = key, .src = &src.base};
    struct attr a = ATTR_INIT;
    CHECK_INT(store_put(x.store, op, &req, &a), 0);
    attr_done(&a);
}

/* Replaces whole objects of one repeated byte, past the volume. */
static void work_foreign(struct worker *w, struct op *op)
{
    CLEANUP_FREE char *data = xmalloc(BIG_SIZE);
    char key[32];
    size_t len = BIG_SIZE / 2 + rnd(w, BIG_SIZE / 2);
    memset(data, 'a' + (int)rnd(w, 26), len);
    snprintf(key, sizeof(key), "foreign%u", rnd(w, SHARED));
    put_past(op, key, data, len);
    clock_sleep_ms(2);
}

static void work_reader(struct worker *w, struct op *op)
{
    static _Thread_local char buf[32 * KIB];
    struct vfile *f = NULL;
    char key[32], first = 0;
    snprintf(key, sizeof(key), "foreign%u", rnd(w, SHARED));
    int r = open_at(op, key, rnd(w, 4) ? VFILE_READ : VFILE_READ | VFILE_DIRECT, &f);
    if (r == -ENOENT)
        return;
    CHECK_INT(r, 0);
    ssize_t n = 1;
    for (uint64_t off = 0; n > 0; off += (uint64_t)n) {
        n = vx_pread(f, buf, sizeof(buf), off);
        if (n == -ESTALE) {
            atomic_fetch_add(&stale_reads, 1);
            break;
        }
        CHECK(n >= 0);
        first = off == 0 && n ? buf[0] : first;
        for (ssize_t i = 0; i < n; i++)
            CHECK(buf[i] == first); /* one version */
        atomic_fetch_add(&good_reads, 1);
    }
    vfile_release(f);
}

/* Own file per thread: what close() confirmed is there. */
static void work_writer(struct worker *w, struct op *op)
{
    char key[32], text[64], got[64];
    struct vfile *f = NULL;
    snprintf(key, sizeof(key), "own/%p", (void *)w);
    int len = snprintf(text, sizeof(text), "content %u of this file", rnd(w, 100000));
    CHECK_INT(open_at(op, key, NEW, &f), 0);
    CHECK_INT(vfile_write(f, op, 0, text, (size_t)len), len);
    CHECK_INT(vfile_flush(f, op), 0);
    vfile_release(f);
    struct read_req req = {.key = key, .iov = {.iov_base = got, .iov_len = sizeof(got)}};
    struct read_res res = READ_RES_INIT;
    CHECK_INT(store_read(x.store, op, &req, &res), 0);
    CHECK_INT(res.length, len);
    CHECK(memcmp(got, text, (size_t)len) == 0);
    read_res_done(&res);
    atomic_fetch_add(&writes, 1);
}

/* All at the same few names; anything may happen but a crash, a race, or a lost name. */
static void work_chaos(struct worker *w, struct op *op)
{
    char a[32], b[32];
    struct attr attr = ATTR_INIT;
    struct vfile *f = NULL;
    struct volume_dir *d = NULL;
    const struct volume_entry *e;
    snprintf(a, sizeof(a), "chaos/%u", rnd(w, 4));
    snprintf(b, sizeof(b), "chaos%s/%u", rnd(w, 3) ? "" : "/sub", rnd(w, 4));
    struct attr mode = {.known = ATTR_HAS_MODE, .mode = 0600 + rnd(w, 64)};
    switch (rnd(w, 10)) {
    case 0:
        (void)volume_unlink(x.v, op, a);
        break;
    case 1:
        if (volume_rename(x.v, op, a, b, rnd(w, 3) == 0, NULL) == 0)
            atomic_fetch_add(&renames, 1);
        break;
    case 2:
        if (volume_opendir(x.v, op, "chaos", &d) == 0) {
            for (uint64_t i = 0; volume_readdir(d, op, i, &e) == 1; i++)
                CHECK(e->name[0]);
            volume_closedir(d);
        }
        break;
    case 3:
        (void)volume_set_attr(x.v, op, a, &mode, &attr);
        break;
    case 4:
        (void)volume_truncate(x.v, op, a, rnd(w, 5000), &attr);
        break;
    case 5:
        if (rnd(w, 8) == 0)
            (void)volume_rename(x.v, op, "chaos/sub", "chaos/sub2", false, NULL);
        else if (rnd(w, 2))
            (void)volume_rename(x.v, op, "chaos/sub2", "chaos/sub", false, NULL);
        else
            (void)volume_mkdir(x.v, op, "chaos/sub", 0755, 0, 0, &attr);
        break;
    case 6:
        (void)volume_stat(x.v, op, a, 0, &attr);
        break;
    default:
        if (open_at(op, a, rnd(w, 2) ? NEW : RW, &f) == 0) {
            char buf[4096];
            for (unsigned i = rnd(w, 5); i > 0; i--) {
                (void)vfile_write(f, op, rnd(w, 9000), buf, 1 + rnd(w, sizeof(buf) - 1));
                (void)vx_pread(f, buf, sizeof(buf), rnd(w, 9000));
            }
            (void)vfile_set_attr(f, op, &mode);
            (void)vfile_flush(f, op);
            vfile_release(f);
        }
    }
    attr_done(&attr);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct op op;
    while (!atomic_load(&stop)) {
        op_init(&op, "test", 0);
        w->work(w, &op);
    }
    return NULL;
}

static void work_for(struct worker *workers, size_t n, unsigned ms)
{
    atomic_store(&stop, false);
    for (size_t i = 0; i < n; i++)
        CHECK_INT(pthread_create(&workers[i].id, NULL, worker_main, &workers[i]), 0);
    clock_sleep_ms(ms);
    atomic_store(&stop, true);
    for (size_t i = 0; i < n; i++)
        pthread_join(workers[i].id, NULL);
}

static void run(uint32_t mask, unsigned ms, enum volume_write mode)
{
    static void (*const kinds[])(struct worker *, struct op *) = {
        work_foreign, work_reader, work_reader, work_writer, work_writer,
        work_chaos,   work_chaos,  work_chaos};
    struct worker workers[ARRAY_LEN(kinds)];
    struct attr a = ATTR_INIT;
    x = vx_new();
    x.mask = mask;
    x.policy.write = mode;
    x.policy.ttl_ms = 20;
    x.limits = (struct store_limits){.upload_threshold = 3000, .part_size = 1024, .part_min = 1024};
    vx_open(&x, "backend = memory");
    CHECK_INT(volume_mkdir(x.v, &x.op, "chaos", 0755, getuid(), getgid(), &a), 0);
    attr_done(&a);
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        workers[i] = (struct worker){.seed = i * 7919 + ms, .work = kinds[i]};
        if (mode == VOLUME_BACK && kinds[i] == work_writer)
            workers[i].work = work_chaos; /* close() does not mean stored */
    }
    work_for(workers, ARRAY_LEN(workers), ms);
    CHECK_INT(vx_close(&x), 0); /* nothing is left behind */
    vx_done(&x);
}

static void test_native(void)
{
    run(0, 1500, VOLUME_THROUGH);
}

static void test_like_s3(void)
{
    run(CAP_PATCH | CAP_RENAME_FILE | CAP_RENAME_DIR, 1500, VOLUME_THROUGH);
}

static void test_back(void)
{
    run(CAP_PATCH | CAP_RENAME_FILE | CAP_RENAME_DIR, 1500, VOLUME_BACK);
}

/* ---- a file that waits ---- */

static void work_waiting(struct worker *w, struct op *op)
{
    static _Thread_local char buf[WAITING_SIZE];
    struct vfile *f = NULL;
    CHECK_INT(open_at(op, "waiting", VFILE_READ, &f), 0);
    CHECK_INT(vx_pread(f, buf, sizeof(buf), 0), WAITING_SIZE);
    CHECK_INT(buf[rnd(w, WAITING_SIZE)], 'w');
    vfile_release(f);
}

/* Story: after a close that had failed, the next reader got zeros, once in weeks. A file that waits for its upload is
 * closed when its last handle is; who opened it between the look at the handles and the closing had no stage file. */
static void test_opened_while_it_is_closed(void)
{
    struct worker workers[4];
    CLEANUP_FREE char *data = xmalloc(WAITING_SIZE);
    memset(data, 'w', WAITING_SIZE);
    x = vx_new();
    vx_open(&x, "backend = memory\nretries = 0\nfault = op=put,errno=EHOSTUNREACH,retry=safe");
    CHECK_INT(vx_write_n(&x, "waiting", data, WAITING_SIZE), -EHOSTUNREACH);
    for (unsigned i = 0; i < ARRAY_LEN(workers); i++)
        workers[i] = (struct worker){.seed = i, .work = work_waiting};
    work_for(workers, ARRAY_LEN(workers), 1500);
    CHECK_INT(volume_unlink(x.v, &x.op, "waiting"), 0);
    vx_done(&x);
}

/* ---- conflict copies ---- */

#define LOST_MAX 20000
#define LOST_SIZE 6500

static atomic_uint lost, found_copies;

static size_t fill_lost(unsigned id, char *buf)
{
    size_t len = 500 + id * 7919 % 6000;
    memset(buf, 'a' + (int)(id % 26), len);
    int head = snprintf(buf, LOST_SIZE, "id %u\n", id);
    buf[head] = 'x'; /* over snprintf's end */
    return len;
}

/* Whole, or nothing of this test's: then LOST_MAX. */
static unsigned id_of(const char *buf, size_t len)
{
    static _Thread_local char wanted[LOST_SIZE];
    unsigned id = LOST_MAX;
    if (len < 10 || sscanf(buf, "id %u\n", &id) != 1)
        return LOST_MAX;
    CHECK(id < LOST_MAX && fill_lost(id, wanted) == len && memcmp(buf, wanted, len) == 0);
    return id;
}

/* Another client is first, every time. */
static void work_loser(struct worker *w, struct op *op)
{
    static _Thread_local char buf[LOST_SIZE];
    struct vfile *f = NULL;
    char key[32];
    bool back = x.policy.write == VOLUME_BACK;
    unsigned id = atomic_fetch_add(&lost, 1);
    size_t len = fill_lost(id, buf);
    if (id >= LOST_MAX) {
        atomic_fetch_sub(&lost, 1);
        return;
    }
    snprintf(key, sizeof(key), "race/%u", back ? id : w->seed); /* what waits is not to be written again */
    put_past(op, key, "base", 4);
    CHECK_INT(open_at(op, key, RW | VFILE_TRUNC, &f), 0);
    CHECK_INT(vfile_write(f, op, 0, buf, len), len);
    put_past(op, key, "theirs", 6);
    CHECK_INT(vfile_flush(f, op), back ? 0 : -ESTALE);
    if (!back)
        CHECK_INT(vx_pread(f, buf, sizeof(buf), 0), -ESTALE);
    vfile_release(f);
}

static void use_copy(struct worker *w, struct op *op, const char *path)
{
    static _Thread_local char buf[LOST_SIZE];
    struct vfile *f = NULL;
    struct attr mode = {.known = ATTR_HAS_MODE, .mode = 0600 + rnd(w, 64)}, attr = ATTR_INIT;
    CLEANUP_FREE char *kept = xasprintf("race/kept-%u", rnd(w, UINT32_MAX));
    if (rnd(w, 8) == 0)
        (void)volume_set_attr(x.v, op, path, &mode, &attr);
    if (rnd(w, 8) == 0)
        (void)volume_rename(x.v, op, path, kept, VOLUME_RENAME_NO_REPLACE, NULL);
    attr_done(&attr);
    if (open_at(op, path, RW, &f) < 0)
        return;
    ssize_t n = vx_pread(f, buf, sizeof(buf), 0);
    if (n > 0 && id_of(buf, (size_t)n) < LOST_MAX) {
        atomic_fetch_add(&found_copies, 1);
        if (rnd(w, 2))
            (void)vfile_write(f, op, (uint64_t)n / 2, buf + n / 2, (size_t)(n - n / 2));
    }
    (void)vfile_flush(f, op);
    vfile_release(f);
}

static void work_copies(struct worker *w, struct op *op)
{
    struct volume_dir *d = NULL;
    const struct volume_entry *e;
    CLEANUP_FREE char *path = NULL;
    unsigned seen = 0;
    if (volume_opendir(x.v, op, "race", &d) < 0)
        return;
    for (uint64_t i = 0; volume_readdir(d, op, i, &e) == 1; i++) {
        if (!strstr(e->name, ".conflict-") || rnd(w, ++seen))
            continue;
        free(path);
        path = xasprintf("race/%s", e->name);
    }
    volume_closedir(d);
    if (path)
        use_copy(w, op, path);
}

/* Each is at the store, once. */
static void check_kept(void)
{
    static unsigned char times[LOST_MAX];
    static char buf[LOST_SIZE];
    struct list_query q = {.prefix = "race/", .recursive = true};
    struct list_page page = LIST_PAGE_INIT;
    memset(times, 0, sizeof(times));
    do {
        CLEANUP_FREE char *cursor = take_ptr(&page.cursor);
        q.cursor = cursor;
        list_page_done(&page);
        CHECK_INT(store_list(x.store, &x.op, &q, &page), 0);
        for (size_t i = 0; i < page.count; i++) {
            struct read_req req = {.key = page.entries[i].key, .iov = {.iov_base = buf, .iov_len = sizeof(buf)}};
            struct read_res res = READ_RES_INIT;
            CHECK_INT(store_read(x.store, &x.op, &req, &res), 0);
            unsigned id = id_of(buf, res.length);
            if (id < LOST_MAX)
                times[id]++;
            read_res_done(&res);
        }
    } while (page.cursor);
    list_page_done(&page);
    for (unsigned id = 0; id < atomic_load(&lost); id++)
        CHECK_INT(times[id], 1);
}

static void copies_are_used_while_they_wait(enum volume_write mode)
{
    struct worker workers[6];
    x = vx_new();
    x.policy.write = mode;
    x.policy.ttl_ms = 20;
    x.policy.stage_memory = 3000;
    x.limits = (struct store_limits){.upload_threshold = 3000, .part_size = 1024, .part_min = 1024};
    x.mask = CAP_PATCH | CAP_RENAME_FILE;
    vx_open(&x, "backend = memory\nretries = 0\n"
                "fault = op=put,key=*.conflict-*,every=2,errno=EHOSTUNREACH,retry=safe;op=stat,latency=1ms");
    atomic_store(&lost, 0);
    for (unsigned i = 0; i < ARRAY_LEN(workers); i++)
        workers[i] = (struct worker){.seed = i, .work = i < 2 ? work_loser : work_copies};
    work_for(workers, ARRAY_LEN(workers), 500);
    for (int i = 0; i < 1000 && volume_sync(x.v, &x.op) < 0; i++)
        ;
    check_kept();
    vx_done(&x);
}

static void test_copies_are_used_while_they_wait(void)
{
    copies_are_used_while_they_wait(VOLUME_THROUGH);
    copies_are_used_while_they_wait(VOLUME_BACK);
}

int main(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    RUN(test_copies_are_used_while_they_wait);
    RUN(test_opened_while_it_is_closed);
    RUN(test_native);
    RUN(test_like_s3);
    RUN(test_back);
    printf("%u reads, %u stale, %u writes, %u renames\n", atomic_load(&good_reads),
           atomic_load(&stale_reads), atomic_load(&writes), atomic_load(&renames));
    printf("%u copies used\n", atomic_load(&found_copies));
    CHECK(atomic_load(&found_copies) > 0);
    CHECK(atomic_load(&good_reads) > 0 && atomic_load(&writes) > 0 && atomic_load(&renames) > 0);
    return t_done();
}

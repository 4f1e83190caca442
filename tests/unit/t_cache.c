/* SPDX-License-Identifier: MIT
 * t_cache.c: the block cache on disk: keeping, restarting, corruption, limits, forgetting,
 * adopting. */
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/sys.h"
#include "cache_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (4 * MIB + 12345)

static char *data; /* SIZE bytes */

static struct cache_object *get(struct cache *c, const char *path)
{
    return cache_object_get(c, "lake", path, "v1", SIZE, true);
}

static void store_all(struct cache_object *o)
{
    cache_object_store(o, 0, data, SIZE);
}

/* Every byte of a range, from disk. */
static bool matches(struct cache_object *o, uint64_t off, size_t len)
{
    CLEANUP_FREE char *buf = xmalloc(len);
    return cache_object_read(o, off, buf, len) == (ssize_t)len && memcmp(buf, data + off, len) == 0;
}

static struct cache_usage usage(struct cache *c)
{
    struct cache_usage u;
    cache_get_usage(c, NULL, &u);
    return u;
}

static void test_store_and_read(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    struct cache_object *o = get(c, "a/b");
    CHECK(!cache_object_has(o, 0, 1));
    CHECK_INT(cache_object_pin(o, 0, 1), -1);
    cache_object_store(o, 8192, data + 8192, 4096);
    CHECK(cache_object_has(o, 8192, 4096));
    CHECK(!cache_object_has(o, 8192, 4097));
    CHECK(matches(o, 9000, 1000));
    store_all(o);
    CHECK_INT(cache_object_bytes(o), SIZE);
    CHECK(matches(o, 0, SIZE));
    CHECK(matches(o, MIB - 10, 20));
    int fd = cache_object_pin(o, 5, 2 * MIB);
    char b[16];
    CHECK(fd >= 0 && pread(fd, b, sizeof(b), 7) == sizeof(b) &&
          memcmp(b, data + 7, sizeof(b)) == 0);
    cache_object_unpin(o, 5, 2 * MIB);
    struct cache_object *same = get(c, "a/b"), *other = get(c, "a/c");
    CHECK(same == o && other != o);
    CHECK_INT(usage(c).bytes, SIZE);
    CHECK_INT(usage(c).files, 1);
    CHECK_INT(usage(c).blocks, 5);
    CHECK_INT(stats_sum(stats, "quayfs_cache_bytes", "key", "lake"), SIZE);
    cache_object_put(other);
    cache_object_put(same);
    cache_object_put(o);
    cache_close(c);
    stats_free(stats);
}

static void test_restart(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    char version[129];
    uint64_t size = 0;
    struct cache *c = fx_open(&set, stats);
    struct cache_object *o = get(c, "a");
    cache_object_store(o, 0, data, 2 * MIB);
    cache_object_store(o, 3 * MIB + 4096, data + 3 * MIB + 4096, 8192);
    cache_object_store(o, 3 * MIB + 4096 + 8192, data + 3 * MIB + 4096 + 8192, 4096);
    cache_object_put(o);
    cache_close(c);
    c = fx_open(&set, stats);
    CHECK_INT(usage(c).bytes, 2 * MIB + 12288);
    CHECK(cache_last_version(c, "lake", "a", version, &size));
    CHECK_STR(version, "v1");
    CHECK_INT(size, SIZE);
    CHECK(!cache_last_version(c, "lake", "b", version, &size));
    CHECK(!cache_last_version(c, "sea", "a", version, &size));
    o = get(c, "a");
    CHECK(matches(o, 0, 2 * MIB));
    CHECK(matches(o, 3 * MIB + 4096, 12288));
    CHECK(!cache_object_has(o, 3 * MIB, 1));
    struct cache_object *v2 = cache_object_get(c, "lake", "a", "v2", SIZE, true);
    CHECK(v2 != o && !cache_object_has(v2, 0, 1));
    cache_object_put(v2);
    cache_object_put(o);
    cache_close(c);
    stats_free(stats);
}

static void flip_byte(off_t at)
{
    int fd = open(fx_block_file(), O_RDWR);
    char b;
    CHECK(fd >= 0 && pread(fd, &b, 1, at) == 1);
    b = (char)(b ^ 1);
    CHECK(pwrite(fd, &b, 1, at) == 1);
    close(fd);
}

static void test_corruption_is_found(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    struct cache_object *o = get(c, "a");
    store_all(o);
    cache_object_put(o);
    cache_close(c);
    flip_byte((off_t)MIB + 77);
    c = fx_open(&set, stats);
    o = get(c, "a");
    CHECK(cache_object_has(o, 0, SIZE));
    CHECK(matches(o, 0, MIB));
    CHECK(!matches(o, MIB + 4096, 4096)); /* same block: not trusted */
    CHECK(!cache_object_has(o, MIB, 1));
    CHECK_INT(usage(c).corrupt, 1);
    CHECK(matches(o, 2 * MIB, SIZE - 2 * MIB));
    cache_object_store(o, MIB, data + MIB, MIB); /* fetched again */
    CHECK(matches(o, 0, SIZE));
    cache_object_put(o);
    cache_close(c);
    set.verify = false; /* now nobody looks */
    flip_byte(99);
    c = fx_open(&set, stats);
    o = get(c, "a");
    CHECK(!matches(o, 0, 4096) && cache_object_has(o, 0, 4096));
    struct cache_verify verify = {0}; /* but verify does */
    CHECK_INT(cache_verify(c, NULL, &verify), 0);
    CHECK_INT(verify.checked, 5);
    CHECK_INT(verify.n_bad, 1);
    CHECK(!cache_object_has(o, 0, 4096));
    cache_object_put(o);
    cache_close(c);
    stats_free(stats);
}

static void test_lost_and_foreign_files(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    struct cache_object *o = get(c, "a");
    store_all(o);
    cache_object_put(o);
    cache_close(c);
    CHECK(unlink(fx_block_file()) == 0);
    c = fx_open(&set, stats);
    o = get(c, "a");
    CHECK(!matches(o, 0, 4096));
    CHECK_INT(cache_object_bytes(o), 0);
    cache_object_store(o, 0, data, MIB);
    CHECK(matches(o, 0, MIB));
    cache_object_put(o);
    CHECK(unlink(fx_block_file()) == 0); /* while we run */
    o = get(c, "a");
    cache_object_store(o, MIB, data + MIB, MIB); /* a new file: nothing old is believed */
    CHECK(!cache_object_has(o, 0, 4096));
    CHECK(matches(o, MIB, MIB));
    cache_object_put(o);
    CHECK(unlink(fx_block_file()) == 0);
    cache_close(c);
    /* after a crash (no `clean` mark: the index is new) files without an object are removed */
    c = fx_open(&set, stats);
    o = get(c, "b");
    store_all(o);
    cache_object_put(o);
    cache_close(c);
    char db[PATH_MAX + 16];
    snprintf(db, sizeof(db), "%s/index.db", fx_dir);
    CHECK(unlink(db) == 0);
    CHECK(fx_block_file()[0]);
    c = fx_open(&set, stats);
    CHECK_STR(fx_block_file(), "");
    CHECK_INT(usage(c).bytes, 0);
    cache_close(c);
    stats_free(stats);
}

static void test_max_size_and_lru(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    set.max_size = 10 * MIB;
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    struct cache_object *o[8];
    char path[8];
    for (int i = 0; i < 8; i++) {
        snprintf(path, sizeof(path), "f%d", i);
        o[i] = get(c, path);
        cache_object_store(o[i], 0, data, 2 * MIB);
        CHECK(usage(c).bytes <= set.max_size);
        CHECK(fx_disk_usage() <= set.max_size + 64 * KIB);
        CHECK(matches(o[0], 0, 4096)); /* the first block stays hot */
    }
    CHECK(usage(c).evictions >= 6);
    CHECK(matches(o[7], 0, 2 * MIB));
    CHECK(!cache_object_has(o[1], 0, 1));
    CHECK(!cache_object_has(o[0], MIB, 1)); /* the cold half of the hot file went */
    int fd = cache_object_pin(o[7], 0, 2 * MIB);
    CHECK(fd >= 0);
    for (int i = 1; i < 7; i++)
        cache_object_store(o[i], 0, data, 2 * MIB);
    CHECK(cache_object_has(o[7], 0, 2 * MIB)); /* pinned */
    cache_object_unpin(o[7], 0, 2 * MIB);
    struct err err = ERR_INIT;
    CHECK_INT(cache_reserve_dirty(c, 9 * MIB, &err), 0); /* evicts nearly all */
    CHECK(usage(c).bytes <= MIB);
    CHECK_INT(usage(c).dirty_bytes, 9 * MIB);
    CHECK_INT(cache_reserve_dirty(c, 2 * MIB, &err), -ENOSPC);
    CHECK(strstr(err_text(&err), "max_size"));
    cache_object_store(o[3], 0, data, 4 * MIB); /* what fits is kept, the rest is not */
    CHECK(usage(c).bytes <= MIB);
    cache_release_dirty(c, 9 * MIB);
    CHECK_INT(usage(c).dirty_bytes, 0);
    for (int i = 0; i < 8; i++)
        cache_object_put(o[i]);
    cache_close(c);
    stats_free(stats);
}

static void test_min_free(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    set.min_free = UINT64_MAX / 4; /* no disk is that empty */
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    struct cache_object *o = get(c, "a");
    struct err err = ERR_INIT;
    store_all(o);
    CHECK_INT(cache_object_bytes(o), 0);
    CHECK_INT(cache_reserve_dirty(c, 1, &err), -ENOSPC);
    cache_object_put(o);
    cache_close(c);
    stats_free(stats);
}

struct filler {
    struct cache *c;
    int no;
    bool *stop;
};

static void *fill(void *arg)
{
    struct filler *f = arg;
    char path[16];
    for (int i = 0; i < 40; i++) {
        snprintf(path, sizeof(path), "t%d-%d", f->no, i % 7);
        struct cache_object *o = get(f->c, path);
        uint64_t off = random_below(4) * MIB;
        cache_object_store(o, off, data + off, MIB);
        char buf[4096];
        ssize_t n = cache_object_read(o, off + 4096, buf, sizeof(buf));
        CHECK(n == 0 || memcmp(buf, data + off + 4096, sizeof(buf)) == 0);
        CHECK(usage(f->c).bytes <= 8 * MIB);
        if (i % 10 == 9)
            cache_forget(f->c, "lake", path);
        cache_object_put(o);
    }
    return NULL;
}

static void test_concurrent_fills_never_exceed(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    set.max_size = 8 * MIB;
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    pthread_t t[6];
    struct filler f[6];
    for (int i = 0; i < 6; i++) {
        f[i] = (struct filler){.c = c, .no = i / 2}; /* pairs share their files */
        CHECK_INT(pthread_create(&t[i], NULL, fill, &f[i]), 0);
    }
    for (int i = 0; i < 60; i++) {
        CHECK(!fx_disk_exceeds(set.max_size + MIB / 2));
        clock_sleep_ms(2);
    }
    for (int i = 0; i < 6; i++)
        pthread_join(t[i], NULL);
    uint64_t bytes = usage(c).bytes;
    cache_close(c);
    c = fx_open(&set, stats); /* the rows tell the same */
    CHECK_INT(usage(c).bytes, bytes);
    struct cache_verify verify = {0};
    CHECK_INT(cache_verify(c, "lake", &verify), 0);
    CHECK_INT(verify.n_bad, 0);
    cache_close(c);
    stats_free(stats);
}

static void test_forget(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    struct cache_object *a1 = get(c, "a");
    struct cache_object *a2 = cache_object_get(c, "lake", "a", "v2", SIZE, true), *b = get(c, "b");
    store_all(a1);
    store_all(a2);
    store_all(b);
    cache_forget_other_versions(c, "lake", "a", "v2");
    CHECK(matches(a1, 0, SIZE)); /* open readers keep it */
    struct cache_object *again = get(c, "a");
    CHECK(again != a1 && !cache_object_has(again, 0, 1));
    store_all(again); /* the same name, another file */
    CHECK(matches(a1, 0, SIZE) && matches(again, 0, SIZE));
    cache_object_put(a1);
    CHECK_INT(usage(c).bytes, 3 * SIZE);
    cache_distrust(c, "lake"); /* nothing says that this directory was left in order */
    CHECK_INT(usage(c).bytes, 3 * SIZE);
    cache_object_put(again);
    cache_object_put(a2);
    cache_object_put(b);
    CHECK_INT(usage(c).bytes, 0);
    CHECK_STR(fx_block_file(), "");
    cache_close(c);
    c = fx_open(&set, stats);
    CHECK_INT(usage(c).bytes, 0);
    b = get(c, "b");
    store_all(b);
    cache_distrust(c, "lake"); /* now it was */
    cache_object_put(b);
    CHECK_INT(usage(c).bytes, SIZE);
    cache_forget(c, "lake", NULL);
    CHECK_INT(usage(c).bytes, 0);
    cache_close(c);
    stats_free(stats);
}

static void test_clear_and_cleanup(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    uint64_t bytes, files;
    struct cache_object *a = get(c, "a"), *s = cache_object_get(c, "sea", "a", "v1", SIZE, true);
    store_all(a);
    store_all(s);
    CHECK_INT(cache_cleanup(c, NULL, 3600000, &bytes, &files), 0);
    CHECK_INT(bytes, 0);
    clock_sleep_ms(2100);
    CHECK(matches(a, 0, MIB)); /* used just now */
    CHECK_INT(cache_cleanup(c, "lake", 2000, &bytes, &files), 0);
    CHECK_INT(bytes, SIZE - MIB);
    CHECK_INT(files, 0);
    CHECK(cache_object_has(a, 0, MIB));
    CHECK_INT(cache_clear(c, "nobody", &bytes, &files), 0);
    CHECK_INT(bytes, 0);
    CHECK_INT(cache_clear(c, NULL, &bytes, &files), 0);
    CHECK_INT(bytes, SIZE + MIB);
    CHECK_INT(files, 2);
    CHECK_INT(usage(c).bytes, 0);
    CHECK_STR(fx_block_file(), "");
    store_all(a); /* goes on working */
    CHECK(matches(a, 0, SIZE));
    CHECK_INT(usage(c).evictions, 0); /* on request is no eviction */
    cache_object_put(a);
    cache_object_put(s);
    cache_close(c);
    stats_free(stats);
}

static void write_file(const char *path)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    CHECK(fd >= 0 && sys_pwrite(fd, data, SIZE, 0) == (ssize_t)SIZE);
    close(fd);
}

static void test_adopt(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    set.max_size = 6 * MIB; /* less than twice the file: it is counted once */
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    char path[PATH_MAX + 16];
    struct err err = ERR_INIT;
    snprintf(path, sizeof(path), "%s/staged", fx_dir);
    CHECK_INT(cache_reserve_dirty(c, SIZE, &err), 0);
    write_file(path);
    int fd = open(path, O_RDONLY);
    cache_adopt(c, "lake", "new", "v1", SIZE, path, fd);
    cache_release_dirty(c, SIZE);
    close(fd);
    CHECK(access(path, F_OK) < 0);
    struct cache_object *o = get(c, "new");
    CHECK(matches(o, 0, SIZE));
    CHECK_INT(usage(c).bytes, SIZE);
    write_file(path); /* once more: it is there already */
    cache_adopt(c, "lake", "new", "v1", SIZE, path, -1);
    CHECK(access(path, F_OK) < 0);
    CHECK(matches(o, 0, SIZE));
    cache_object_put(o);
    cache_close(c);
    c = fx_open(&set, stats); /* with checksums */
    o = get(c, "new");
    CHECK(matches(o, 0, SIZE));
    CHECK_INT(usage(c).corrupt, 0);
    cache_object_put(o);
    cache_close(c);
    stats_free(stats);
}

static void test_nothing_is_kept(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    struct cache_object *direct = cache_object_get(c, "lake", "a", "v1", SIZE, false);
    struct cache_object *unversioned = cache_object_get(c, "lake", "a", "", SIZE, true);
    struct cache_object *u2 = cache_object_get(c, "lake", "a", "", SIZE, true);
    CHECK(u2 != unversioned);
    store_all(direct);
    store_all(unversioned);
    CHECK_INT(usage(c).bytes, 0);
    cache_object_put(direct);
    cache_object_put(unversioned);
    cache_object_put(u2);
    cache_close(c);
    set.enabled = false;
    c = fx_open(&set, stats);
    struct cache_object *o = get(c, "a");
    store_all(o);
    CHECK_INT(usage(c).bytes, 0);
    cache_object_put(o);
    cache_close(c);
    stats_free(stats);
}

static void test_second_daemon_is_refused(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct err err = ERR_INIT;
    struct cache *c = fx_open(&set, stats), *second = NULL;
    struct stat st;
    char want[64];
    CHECK(stat(fx_dir, &st) == 0 && (st.st_mode & 0777) == 0700);
    CHECK_INT(cache_open(&set, 64 * MIB, stats, &err, &second), -EBUSY);
    snprintf(want, sizeof(want), "is in use by pid %ld", (long)getpid());
    CHECK(strstr(err_text(&err), want));
    cache_close(c);
    c = fx_open(&set, stats);
    cache_close(c);
    stats_free(stats);
}

static void test_damaged_index(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    struct cache_object *o = get(c, "a");
    store_all(o);
    cache_object_put(o);
    cache_close(c);
    char db[PATH_MAX + 16];
    snprintf(db, sizeof(db), "%s/index.db", fx_dir);
    int fd = open(db, O_RDWR);
    char junk[4096];
    memset(junk, 0x5a, sizeof(junk));
    struct stat st;
    CHECK(fd >= 0 && fstat(fd, &st) == 0);
    for (off_t at = 4096; at < st.st_size; at += 4096) /* all but the header page */
        CHECK(pwrite(fd, junk, sizeof(junk), at) == sizeof(junk));
    close(fd);
    c = fx_open(&set, stats);
    CHECK_INT(usage(c).bytes, 0);
    CHECK_STR(fx_block_file(), ""); /* nothing is served from files without rows */
    o = get(c, "a");
    store_all(o);
    CHECK(matches(o, 0, SIZE));
    cache_object_put(o);
    cache_close(c);
    stats_free(stats);
}

static void test_block_size_may_change(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    struct cache_object *o = get(c, "a");
    store_all(o);
    cache_object_put(o);
    cache_close(c);
    set.block_size = 64 * KIB;
    c = fx_open(&set, stats);
    CHECK_INT(usage(c).bytes, 0);
    o = get(c, "a");
    store_all(o);
    CHECK(matches(o, 0, SIZE));
    CHECK_INT(usage(c).blocks, 65);
    cache_object_put(o);
    cache_close(c);
    stats_free(stats);
}

/* In a child, as faults are set for a whole process. Returns its exit status. */
static int with_faults(const char *spec, void (*fn)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        char where[PATH_MAX + 16];
        snprintf(where, sizeof(where), "%s/blocks", fx_dir);
        setenv("QUAY_FAULT_DIR", where, 1);
        setenv("QUAY_FAULT_SYS", spec, 1);
        sys_init_faults();
        fn();
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static void fill_full_disk(void)
{
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    struct cache_object *o = get(c, "a");
    store_all(o);
    CHECK(cache_object_has(o, 0, 2 * MIB)); /* before the fault */
    CHECK_INT(cache_object_bytes(o), 2 * MIB);
    CHECK(matches(o, 0, 2 * MIB));
    cache_object_put(o);
    cache_close(c);
}

static void no_holes(void)
{
    struct cache_settings set = fx_settings();
    set.max_size = 5 * MIB;
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    for (int i = 0; i < 6; i++) {
        char path[8];
        snprintf(path, sizeof(path), "f%d", i);
        struct cache_object *o = get(c, path);
        cache_object_store(o, 0, data, 2 * MIB);
        CHECK(fx_disk_usage() <= set.max_size + 64 * KIB);
        if (cache_object_has(o, 0, 2 * MIB))
            CHECK(matches(o, 0, 2 * MIB));
        cache_object_put(o);
    }
    cache_close(c);
}

static void test_faults(void)
{
    fx_fresh_dir();
    CHECK_INT(with_faults("pwrite:28@3+", fill_full_disk), 0);
    fx_fresh_dir();
    CHECK_INT(with_faults("pwrite:5@3+", fill_full_disk), 0);
    fx_fresh_dir();
    CHECK_INT(with_faults("fallocate:95@1+", no_holes), 0); /* a file system without holes */
}

/* Killed without closing: what was committed is found, what was not is not there. */
static void fill_and_die(void)
{
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    struct cache_object *o = get(c, "a");
    cache_object_store(o, 0, data, 2 * MIB);
    fx_wait_committed();
    cache_object_store(o, 2 * MIB, data + 2 * MIB, MIB);
    _exit(0);
}

static void test_kill(void)
{
    fx_fresh_dir();
    CHECK_INT(with_faults("", fill_and_die), 0);
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    struct cache_object *o = get(c, "a");
    CHECK(cache_object_has(o, 0, 2 * MIB));
    CHECK(matches(o, 0, 2 * MIB));
    if (cache_object_has(o, 2 * MIB, 4096))
        CHECK(matches(o, 2 * MIB, MIB));
    cache_object_put(o);
    cache_close(c);
    stats_free(stats);
}

/* Many small objects: the tables are bounded as well, by evicting the coldest. */
static void test_tables_are_bounded(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct err err = ERR_INIT;
    struct cache *c;
    char path[64];
    CHECK_INT(cache_open(&set, MIB, stats, &err, &c), 0); /* 4 MiB for the tables */
    for (int i = 0; i < 14000; i++) {
        snprintf(path, sizeof(path), "file-%06d", i);
        struct cache_object *o = get(c, path);
        cache_object_store(o, 0, data, 100);
        CHECK(matches(o, 0, 100));
        cache_object_put(o);
    }
    CHECK(usage(c).files > 4000 && usage(c).files < 13000);
    cache_close(c);
    stats_free(stats);
}

static void test_many_objects_load_fast(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    int n = getenv("QUAY_TEST_MANY") ? 100000 : 5000;
    char path[64];
    uint64_t start = clock_now_ns();
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof(path), "dir/part-%04d/file-%06d.parquet", i / 1000, i);
        struct cache_object *o =
            cache_object_get(c, "lake", path, "0123456789abcdef0123456789abcdef", 4096, true);
        cache_object_store(o, 0, data, 4096);
        cache_object_put(o);
    }
    uint64_t stored = clock_now_ns();
    cache_close(c);
    uint64_t closed = clock_now_ns();
    c = fx_open(&set, stats);
    uint64_t opened = clock_now_ns();
    CHECK_INT(usage(c).files, n);
    printf("%d objects: stored in %llu ms, closed in %llu ms, opened in %llu ms\n", n,
           (unsigned long long)((stored - start) / NS_PER_MS),
           (unsigned long long)((closed - stored) / NS_PER_MS),
           (unsigned long long)((opened - closed) / NS_PER_MS));
    cache_close(c);
    stats_free(stats);
}

int main(void)
{
    data = fx_content(SIZE, 7);
    RUN(test_store_and_read);
    RUN(test_restart);
    RUN(test_corruption_is_found);
    RUN(test_lost_and_foreign_files);
    RUN(test_max_size_and_lru);
    RUN(test_min_free);
    RUN(test_concurrent_fills_never_exceed);
    RUN(test_forget);
    RUN(test_clear_and_cleanup);
    RUN(test_adopt);
    RUN(test_nothing_is_kept);
    RUN(test_second_daemon_is_refused);
    RUN(test_damaged_index);
    RUN(test_block_size_may_change);
    RUN(test_faults);
    RUN(test_kill);
    RUN(test_tables_are_bounded);
    RUN(test_many_objects_load_fast);
    free(data);
    return t_done();
}

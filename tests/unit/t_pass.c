/* SPDX-License-Identifier: MIT
 * t_pass.c: whole objects whose file the kernel reads by itself: when they may be passed, that nothing
 * removes them meanwhile, and that a file which was given away is left alone. */
#include "base/buf.h"
#include "base/cleanup.h"
#include "cache_fixture.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#define SIZE (4 * MIB + 12345)

static char *data;

static struct cache_object *get(struct cache *c, const char *path, uint64_t size)
{
    return cache_object_get(c, "lake", path, "v1", size, true);
}

static bool shows(int fd, uint64_t off, size_t len)
{
    CLEANUP_FREE char *buf = xmalloc(len);
    return pread(fd, buf, len, (off_t)off) == (ssize_t)len && memcmp(buf, data + off, len) == 0;
}

static void test_only_whole_objects(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    struct cache_object *o = get(c, "a", SIZE), *empty = get(c, "b", 0);
    CHECK_INT(cache_object_pass(o), -EAGAIN);
    CHECK_INT(cache_object_pass(empty), -EAGAIN);
    cache_object_store(o, 0, data, SIZE - 1);
    CHECK_INT(cache_object_pass(o), -EAGAIN);
    cache_object_store(o, SIZE - 1, data + SIZE - 1, 1);
    int fd = cache_object_pass(o);
    CHECK(fd >= 0 && shows(fd, 0, SIZE));
    CHECK_INT(cache_object_pass(o), fd);
    CHECK_INT(cache_object_passed_fd(o), fd);
    cache_object_unpass(o);
    cache_object_unpass(o);
    cache_object_put(empty);
    cache_object_put(o);
    cache_close(c);
    stats_free(stats);
}

static void test_nothing_removes_it(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    set.max_size = 12 * MIB;
    struct stats *stats = stats_new();
    struct err err = ERR_INIT;
    struct cache *c = fx_open(&set, stats);
    struct cache_object *o = get(c, "a", SIZE), *other = get(c, "b", SIZE);
    cache_object_store(o, 0, data, SIZE);
    cache_object_store(other, 0, data, SIZE);
    int fd = cache_object_pass(o);
    CHECK(fd >= 0);
    CHECK_INT(cache_object_pass(other), -EAGAIN); /* more than half of the cache */
    CHECK_INT(cache_clear(c, NULL, NULL, NULL), 0);
    cache_forget(c, "lake", "a");
    cache_forget_other_versions(c, "lake", "a", "v2");
    CHECK_INT(cache_reserve_dirty(c, 6 * MIB, &err), 0);
    CHECK_INT(cache_reserve_dirty(c, 4 * MIB, &err), -ENOSPC);
    cache_release_dirty(c, 6 * MIB);
    CHECK(shows(fd, 0, SIZE));
    CHECK(cache_object_has(o, 0, SIZE) && !cache_object_has(other, 0, 1));
    cache_object_unpass(o);
    cache_object_store(other, 0, data, SIZE);
    CHECK(cache_object_pass(other) >= 0); /* the share is free again */
    cache_object_unpass(other);
    cache_forget(c, "lake", "a");
    struct cache_object *again = get(c, "a", SIZE);
    CHECK(again != o && !cache_object_has(again, 0, 1));
    cache_object_put(again);
    cache_object_put(other);
    cache_object_put(o);
    CHECK_INT(cache_clear(c, NULL, NULL, NULL), 0);
    cache_close(c);
    stats_free(stats);
}

static void test_checksums_come_first(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    struct cache_object *big = get(c, "big", SIZE), *small = get(c, "small", MIB);
    cache_object_store(big, 0, data, SIZE);
    cache_object_store(small, 0, data, MIB);
    cache_object_put(big);
    cache_object_put(small);
    cache_close(c);
    c = fx_open(&set, stats);
    big = get(c, "big", SIZE);
    small = get(c, "small", MIB);
    CHECK(cache_object_pass(small) >= 0); /* little enough to be checked at once */
    cache_object_unpass(small);
    int fd = cache_object_pass(big); /* checked in the background, from now on */
    CHECK_INT(fd, -EAGAIN);
    for (int i = 0; i < 1000 && fd < 0; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        fd = cache_object_pass(big);
    }
    CHECK(fd >= 0 && shows(fd, 0, SIZE));
    cache_object_unpass(big);
    cache_object_put(big);
    cache_object_put(small);
    cache_close(c);
    stats_free(stats);
}

static void test_a_damaged_file_is_not_passed(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    struct cache_object *o = get(c, "a", MIB);
    cache_object_store(o, 0, data, MIB);
    cache_object_put(o);
    cache_close(c);
    int fd = open(fx_block_file(), O_RDWR);
    CHECK(fd >= 0 && pwrite(fd, "damage", 6, 5000) == 6);
    close(fd);
    c = fx_open(&set, stats);
    o = get(c, "a", MIB);
    CHECK_INT(cache_object_pass(o), -EAGAIN);
    struct cache_usage u;
    cache_get_usage(c, NULL, &u);
    CHECK_INT(u.corrupt, 1);
    cache_object_store(o, 0, data, MIB);
    CHECK((fd = cache_object_pass(o)) >= 0 && shows(fd, 0, MIB));
    cache_object_unpass(o);
    cache_object_put(o);
    cache_close(c);
    stats_free(stats);
}

static void test_a_given_file_is_left_alone(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    set.max_size = 16 * MIB;
    struct stats *stats = stats_new();
    struct err err = ERR_INIT;
    struct cache *c = fx_open(&set, stats);
    struct cache_object *o = get(c, "a", SIZE);
    CLEANUP_FREE char *path = xasprintf("%s/stage-file", fx_dir);
    cache_object_store(o, 0, data, SIZE);
    CHECK_INT(cache_object_give(o, path), -EBUSY); /* not passed: others would find it */
    int fd = cache_object_pass(o);
    CHECK_INT(cache_object_give(o, path), 0);
    CLEANUP_FD int mine = open(path, O_RDWR);
    CHECK(mine >= 0 && pwrite(mine, "written", 7, MIB - 3) == 7);
    CHECK(pread(fd, (char[7]){0}, 7, MIB - 3) == 7);
    struct cache_object *next = get(c, "a", SIZE);
    CHECK(next != o && !cache_object_has(next, 0, 1));
    cache_object_put(next);
    struct cache_verify verify = {0};
    CHECK_INT(cache_verify(c, NULL, &verify), 0);
    CHECK_INT(verify.n_bad, 0);
    cache_object_unpass(o); /* no pin any more, and it still must not be punched */
    CHECK_INT(cache_clear(c, NULL, NULL, NULL), 0);
    CHECK_INT(cache_reserve_dirty(c, 11 * MIB, &err), 0);
    cache_release_dirty(c, 11 * MIB);
    CHECK(cache_object_has(o, 0, SIZE));
    CHECK(shows(mine, 0, MIB - 3) && shows(mine, MIB + 4, SIZE - MIB - 4));
    cache_object_put(o);
    CHECK(shows(mine, MIB + 4, SIZE - MIB - 4));
    CHECK_INT(cache_reserve_dirty(c, 16 * MIB, &err), 0); /* nothing of it is counted any more */
    cache_release_dirty(c, 16 * MIB);
    cache_close(c);
    stats_free(stats);
}

int main(void)
{
    data = fx_content(SIZE, 9);
    RUN(test_only_whole_objects);
    RUN(test_nothing_removes_it);
    RUN(test_checksums_come_first);
    RUN(test_a_damaged_file_is_not_passed);
    RUN(test_a_given_file_is_left_alone);
    free(data);
    return t_done();
}

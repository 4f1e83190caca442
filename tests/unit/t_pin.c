/* SPDX-License-Identifier: MIT
 * t_pin.c: pinned paths: what they cover, what they keep from being evicted, what is refused, restarts;
 * and evicting by path. */
#include "base/buf.h"
#include "base/cleanup.h"
#include "cache/pin.h"
#include "cache_fixture.h"

#define SIZE (2 * MIB)

static char *data; /* SIZE bytes */
static struct stats *stats;

static void fill(struct cache *c, const char *path, const char *version)
{
    struct cache_object *o = cache_object_get(c, "lake", path, version, SIZE, true);
    cache_object_store(o, 0, data, SIZE);
    cache_object_put(o);
}

static uint64_t have(struct cache *c, const char *path, const char *version)
{
    struct cache_object *o = cache_object_get(c, "lake", path, version, SIZE, true);
    uint64_t n = cache_object_bytes(o);
    cache_object_put(o);
    return n;
}

static struct cache_usage usage(struct cache *c)
{
    struct cache_usage u;
    cache_get_usage(c, NULL, &u);
    return u;
}

static struct cache *fresh(uint64_t max_size)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    set.max_size = max_size;
    return fx_open(&set, stats);
}

static void pin(struct cache *c, const char *path, uint64_t bytes, int want)
{
    struct err err = ERR_INIT;
    int r = cache_pin(c, "lake", path, bytes, 1, &err);
    if (r != want)
        fprintf(stderr, "pin %s: %s\n", path, err_text(&err));
    CHECK_INT(r, want);
}

static void unpin(struct cache *c, const char *path, int want)
{
    struct err err = ERR_INIT;
    CHECK_INT(cache_unpin(c, "lake", path, &err), want);
}

/* "a:2 d/e:0": the pins, and MiB of each on disk. */
static const char *pins(struct cache *c)
{
    static char text[256];
    struct buf b = BUF_INIT;
    struct cache_pin *list = NULL;
    size_t n = 0;
    cache_pins(c, "lake", &list, &n);
    for (size_t i = 0; i < n; i++)
        buf_addf(&b, "%s%s:%d", i ? " " : "", list[i].path, (int)(list[i].have / MIB));
    cache_pins_free(list, n);
    snprintf(text, sizeof(text), "%s", buf_str(&b));
    buf_done(&b);
    return text;
}

static void test_kept(void)
{
    struct cache *c = fresh(8 * MIB);
    fill(c, "d/a", "v1");
    fill(c, "dx", "v1");
    pin(c, "d", SIZE, 0);
    CHECK_INT(usage(c).pinned_bytes, SIZE);
    CHECK(cache_is_pinned(c, "lake", "d/a") && cache_is_pinned(c, "lake", "d"));
    CHECK(!cache_is_pinned(c, "lake", "dx") && !cache_is_pinned(c, "other", "d/a"));
    fill(c, "d/b", "v1"); /* comes later: pinned, too */
    CHECK_INT(usage(c).pinned_bytes, 2 * SIZE);
    CHECK_INT(cache_room(c), 4 * MIB);
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof(name), "x%d", i);
        fill(c, name, "v1");
    }
    CHECK_INT(have(c, "d/a", "v1"), SIZE);
    CHECK_INT(have(c, "d/b", "v1"), SIZE);
    CHECK_INT(have(c, "dx", "v1"), 0);
    CHECK(usage(c).bytes <= 8 * MIB);
    CHECK_STR(pins(c), "d:4");
    CHECK_INT(cache_clear(c, NULL, NULL, NULL), 0);
    CHECK_INT(usage(c).bytes, 2 * SIZE);
    unpin(c, "d", 0);
    CHECK_INT(usage(c).pinned_bytes, 0);
    CHECK_INT(cache_clear(c, NULL, NULL, NULL), 0);
    CHECK_INT(usage(c).bytes, 0);
    cache_close(c);
}

/* Pinned blocks fill what they may: the rest is still the others'. */
static void test_nothing_left(void)
{
    struct cache *c = fresh(4 * MIB);
    pin(c, "", SIZE, 0);
    fill(c, "a", "v1");
    fill(c, "b", "v1");
    fill(c, "c", "v1"); /* no room: not kept, nothing lost */
    CHECK_INT(have(c, "a", "v1") + have(c, "b", "v1"), 4 * MIB);
    CHECK_INT(have(c, "c", "v1"), 0);
    struct err err = ERR_INIT;
    CHECK_INT(cache_reserve_dirty(c, 4096, &err), -ENOSPC);
    CHECK_INT(cache_pin_room(c), 0);
    unpin(c, "", 0);
    CHECK_INT(cache_reserve_dirty(c, 4096, &err), 0);
    cache_release_dirty(c, 4096);
    cache_close(c);
}

static void test_limits(void)
{
    struct cache *c = fresh(8 * MIB);
    pin(c, "a", 4 * MIB, 0);
    struct err err = ERR_INIT;
    CHECK_INT(cache_pin(c, "other", "x", 0, UINT32_MAX, &err), -ENOSPC); /* of files */
    CHECK(strstr(err_text(&err), "memory_limit"));
    pin(c, "b", 3 * MIB + 1, -ENOSPC);
    CHECK_STR(pins(c), "a:0");
    pin(c, "b", 3 * MIB, 0);
    pin(c, "b", 2 * MIB, 0); /* again: its own bytes are not counted twice */
    pin(c, "c", MIB, 0);
    cache_pin_checked(c, "lake", "c", 2 * MIB, 1, "");
    pin(c, "d", 1, -ENOSPC);
    cache_close(c);
}

static void test_overlaps(void)
{
    struct cache *c = fresh(0);
    pin(c, "d/e/f", 1, 0);
    pin(c, "d/g", 1, 0);
    pin(c, "dd", 1, 0);
    pin(c, "d", 1, 0);
    CHECK_STR(pins(c), "dd:0 d:0");
    pin(c, "d/e/f", 1, 1);
    unpin(c, "d/e/f", -ENOENT);
    pin(c, "d", 5, 0);
    CHECK_STR(pins(c), "dd:0 d:0");
    unpin(c, "nope", -ENOENT);
    cache_close(c);
}

static void test_restart(void)
{
    struct cache *c = fresh(0);
    struct cache_settings set = fx_settings();
    fill(c, "d/a", "v1");
    fill(c, "x", "v1");
    pin(c, "d", SIZE, 0);
    pin(c, "gone", SIZE, 0);
    unpin(c, "gone", 0);
    cache_pin_checked(c, "lake", "d", SIZE + 1, 7, "why");
    cache_close(c);
    c = fx_open(&set, stats);
    CHECK_STR(pins(c), "d:2");
    CHECK_INT(usage(c).pinned_bytes, SIZE);
    struct cache_pin *list = NULL;
    size_t n = 0;
    cache_pins(c, "lake", &list, &n);
    CHECK(n == 1 && list[0].bytes == SIZE + 1 && list[0].files == 7 && list[0].since_ms > 0);
    cache_pins_free(list, n);
    CHECK_INT(cache_clear(c, NULL, NULL, NULL), 0);
    CHECK_INT(have(c, "d/a", "v1"), SIZE);
    CHECK_INT(have(c, "x", "v1"), 0);
    cache_close(c);
}

static void test_rounds(void)
{
    struct cache *c = fresh(0);
    fill(c, "d/a", "v1");
    fill(c, "d/gone", "v1");
    fill(c, "x", "v1");
    pin(c, "d", SIZE, 0);
    uint64_t round = cache_pin_round(c);
    struct cache_object *o = cache_object_get(c, "lake", "d/a", "v2", SIZE, true);
    CHECK(cache_object_wanted(o));
    cache_object_store(o, 0, data, SIZE);
    CHECK(!cache_object_wanted(o));
    cache_pin_seen(o);
    cache_object_put(o);
    fill(c, "d/new", "v1"); /* made meanwhile: not looked at, not dropped */
    cache_pin_sweep(c, "lake", "d", round);
    CHECK_INT(have(c, "d/a", "v1"), 0);
    CHECK_INT(have(c, "d/a", "v2"), SIZE);
    CHECK_INT(have(c, "d/gone", "v1"), 0);
    CHECK_INT(have(c, "d/new", "v1"), SIZE);
    CHECK_INT(have(c, "x", "v1"), SIZE);
    CHECK_INT(usage(c).pinned_bytes, 2 * SIZE);
    cache_close(c);
}

static bool below_d(void *arg, const char *path)
{
    (void)arg;
    return strncmp(path, "d/", 2) == 0;
}

static void test_evict(void)
{
    struct cache *c = fresh(0);
    struct cache_evicted e = {0};
    fill(c, "d/a", "v1");
    fill(c, "d/b", "v1");
    fill(c, "x", "v1");
    pin(c, "d/b", SIZE, 0);
    struct cache_object *o = cache_object_get(c, "lake", "d/a", "v1", SIZE, true);
    CHECK(cache_object_pin(o, 0, 10) >= 0); /* being read: the first block stays */
    cache_evict(c, "lake", below_d, NULL, false, &e);
    CHECK_INT(e.bytes, MIB);
    CHECK_INT(e.busy_bytes, MIB);
    CHECK_INT(e.files, 0);
    CHECK(e.pinned_files == 1 && e.pinned_bytes == SIZE);
    cache_object_unpin(o, 0, 10);
    cache_object_put(o);
    e = (struct cache_evicted){0};
    cache_evict(c, "other", below_d, NULL, true, &e);
    CHECK_INT(e.bytes, 0);
    cache_evict(c, "lake", below_d, NULL, true, &e);
    CHECK_INT(e.bytes, MIB + SIZE);
    CHECK_INT(e.files, 2);
    CHECK_INT(e.pinned_files + e.busy_bytes, 0);
    CHECK_INT(usage(c).bytes, SIZE);
    CHECK_INT(usage(c).pinned_bytes, 0);
    CHECK(fx_disk_usage() <= SIZE + 64 * KIB);
    CHECK_INT(have(c, "x", "v1"), SIZE);
    cache_close(c);
}

int main(void)
{
    data = fx_content(SIZE, 1);
    stats = stats_new();
    RUN(test_kept);
    RUN(test_nothing_left);
    RUN(test_limits);
    RUN(test_overlaps);
    RUN(test_restart);
    RUN(test_rounds);
    RUN(test_evict);
    stats_free(stats);
    free(data);
    return t_done();
}

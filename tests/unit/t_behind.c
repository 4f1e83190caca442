/* SPDX-License-Identifier: MIT
 * t_behind.c: small contents that wait to be written into the cache. */
#include "base/buf.h"
#include "base/cleanup.h"
#include "cache_fixture.h"

#define SMALL 5000

static char *data; /* SMALL bytes */

static void adopt_small(struct cache *c, const char *path)
{
    void *bytes = cache_buffer_get(c, SMALL, true);
    memcpy(bytes, data, SMALL);
    cache_adopt_bytes(c, "lake", path, "v1", bytes, SMALL);
}

static bool matches(struct cache_object *o)
{
    char buf[SMALL];
    return cache_object_read(o, 0, buf, SMALL) == SMALL && memcmp(buf, data, SMALL) == 0;
}

static bool has_small(struct cache *c, const char *path)
{
    return cache_has(c, "lake", path, "v1", SMALL);
}

/* What waits to be written is there for everybody: who asks, who looks, who clears, and the end. */
static void test_adopt_small(void)
{
    fx_fresh_dir();
    struct cache_settings set = fx_settings();
    struct stats *stats = stats_new();
    struct cache *c = fx_open(&set, stats);
    uint64_t bytes = 0, files = 0;
    char path[32];
    adopt_small(c, "read");
    CHECK(has_small(c, "read"));
    struct cache_object *o = cache_object_get(c, "lake", "read", "v1", SMALL, true);
    CHECK(cache_object_has(o, 0, SMALL));
    CHECK(matches(o));
    adopt_small(c, "read"); /* once more: nothing happens */
    CHECK(matches(o));
    cache_object_put(o);
    adopt_small(c, "forgotten");
    cache_forget(c, "lake", "forgotten");
    CHECK(!has_small(c, "forgotten"));
    adopt_small(c, "cleared");
    CHECK_INT(cache_clear(c, "lake", &bytes, &files), 0);
    CHECK_INT(files, 2);
    CHECK_INT(bytes, 2 * SMALL);
    CHECK(!has_small(c, "cleared") && !has_small(c, "read"));
    for (unsigned i = 0; i < 200; i++) {
        snprintf(path, sizeof(path), "many%u", i);
        adopt_small(c, path);
    }
    cache_close(c);
    c = fx_open(&set, stats);
    for (unsigned i = 0; i < 200; i++) {
        snprintf(path, sizeof(path), "many%u", i);
        CHECK(has_small(c, path));
    }
    CHECK(!has_small(c, "forgotten"));
    struct cache_usage u;
    cache_get_usage(c, NULL, &u);
    CHECK_INT(u.bytes, 200 * SMALL);
    cache_close(c);
    stats_free(stats);
}

int main(void)
{
    data = fx_content(SMALL, 7);
    RUN(test_adopt_small);
    free(data);
    return t_done();
}

/* SPDX-License-Identifier: MIT
 * t_evict.c: choosing what goes first; extents of a block; the memory budget. */
#include "base/clock.h"
#include "base/crypto.h"
#include "cache/budget.h"
#include "cache/evict.h"
#include "cache/extent.h"
#include "t.h"

#include <pthread.h>
#include <stdatomic.h>

static bool not_odd(const struct evict_item *it, void *arg)
{
    return (size_t)(it - (struct evict_item *)arg) % 2 == 0;
}

static void test_lru_order(void)
{
    struct evict_list l;
    struct evict_item it[6], *out[6];
    evict_init(&l);
    memset(it, 0, sizeof(it));
    for (size_t i = 0; i < 6; i++)
        evict_add(&l, &it[i], 100, i);
    CHECK_INT(l.bytes, 600);
    evict_touch(&l, &it[0], 10);
    CHECK_INT(evict_choose(&l, 150, NULL, NULL, out, 6), 2);
    CHECK(out[0] == &it[1] && out[1] == &it[2]);
    CHECK_INT(evict_choose(&l, 1000, NULL, NULL, out, 6), 6);
    CHECK(out[5] == &it[0]);
    CHECK_INT(evict_choose(&l, 1000, NULL, NULL, out, 3), 3);
    CHECK_INT(evict_choose(&l, 1000, not_odd, it, out, 6), 3);
    CHECK(out[0] == &it[2] && out[1] == &it[4] && out[2] == &it[0]);
    CHECK_INT(evict_choose(&l, 0, NULL, NULL, out, 6), 0);
    evict_resize(&l, &it[3], 50);
    CHECK_INT(l.bytes, 550);
    CHECK(evict_listed(&it[3]));
    evict_remove(&l, &it[3]);
    CHECK(!evict_listed(&it[3]));
    CHECK_INT(l.bytes, 500);
    CHECK_INT(l.count, 5);
}

static struct extent ext(uint32_t off, uint32_t len, uint32_t crc)
{
    return (struct extent){.off = off, .len = len, .crc = crc, .flags = EXTENT_VERIFIED};
}

static void test_crc_join(void)
{
    char data[5000];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)(i * 7 + i / 256);
    size_t cuts[] = {0, 1, 7, 512, 4096, 4999, 5000};
    uint32_t all = crc32c(0, data, sizeof(data));
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        uint32_t a = crc32c(0, data, cuts[i]);
        uint32_t b = crc32c(0, data + cuts[i], sizeof(data) - cuts[i]);
        CHECK_INT(crc32c_join(a, b, sizeof(data) - cuts[i]), all);
    }
}

static void test_extents(void)
{
    struct extent_set s = {0};
    struct extent got;
    CHECK_INT(extents_run(&s, 0), 0);
    CHECK_INT(extents_gap(&s, 100, 50), 50);
    CHECK(extents_add(&s, ext(4096, 4096, 1), &got));
    CHECK(extents_add(&s, ext(16384, 4096, 2), &got));
    CHECK_INT(extents_bytes(&s), 8192);
    CHECK_INT(extents_run(&s, 5000), 8192 - 5000);
    CHECK_INT(extents_gap(&s, 0, 100000), 4096);
    CHECK_INT(extents_gap(&s, 8192, 100000), 8192);
    CHECK_INT(extents_gap(&s, 5000, 100000), 0);
    CHECK(extents_at(&s, 16384)->crc == 2);
    CHECK(!extents_at(&s, 8192));
    uint32_t off = 0, len = 20480; /* both ends reach into what is there */
    CHECK(extents_trim(&s, &off, &len));
    CHECK_INT(off, 0);
    CHECK_INT(len, 16384);
    off = 5000, len = 12000;
    CHECK(extents_trim(&s, &off, &len));
    CHECK_INT(off, 8192);
    CHECK_INT(len, 8192);
    off = 4096, len = 4000;
    CHECK(!extents_trim(&s, &off, &len));
    CHECK(!extents_add(&s, ext(6000, 8192, 3), &got)); /* overlaps in part */
    CHECK(extents_add(&s, ext(8192, 8192, 4), &got));  /* closes the hole: one range */
    CHECK_INT(s.n, 1);
    CHECK_INT(got.off, 4096);
    CHECK_INT(got.len, 16384);
    CHECK(extents_add(&s, ext(0, 65536, 5), &got)); /* swallows it */
    CHECK_INT(extents_bytes(&s), 65536);
    CHECK_INT(got.crc, 5);
    CHECK(!extents_remove(&s, 0, 4096));
    CHECK(extents_remove(&s, 0, 65536));
    CHECK_INT(s.n, 0);
    extents_done(&s);
}

static void test_extents_keep_kinds_apart(void)
{
    struct extent_set s = {0};
    struct extent got, e = ext(0, 4096, 1);
    e.flags = 0; /* unverified */
    CHECK(extents_add(&s, e, &got));
    CHECK(extents_add(&s, ext(4096, 4096, 2), &got));
    CHECK_INT(s.n, 2);
    CHECK_INT(extents_run(&s, 0), 8192);
    extents_done(&s);
}

/* A model of single bytes against the set, with random ranges. */
static void test_extents_random(void)
{
    enum { PAGES = 256 };
    struct extent_set s = {0};
    bool there[PAGES] = {0};
    for (int round = 0; round < 4000; round++) {
        uint32_t from = random_below(PAGES), n = 1 + random_below(PAGES - from);
        if (round % 64 == 63) {
            extents_done(&s);
            memset(there, 0, sizeof(there));
        }
        uint32_t off = from * 4096, len = (n > 8 ? 1 + n % 8 : n) * 4096;
        struct extent got;
        if (extents_trim(&s, &off, &len))
            CHECK(extents_add(&s, ext(off, len, 0), &got));
        for (uint32_t i = off / 4096; i < (off + len) / 4096; i++)
            there[i] = true;
        uint32_t sum = 0;
        for (uint32_t i = 0; i < PAGES; i++) {
            sum += there[i] ? 4096 : 0;
            CHECK((extents_run(&s, i * 4096) > 0) == there[i]);
        }
        CHECK_INT(extents_bytes(&s), sum);
    }
    extents_done(&s);
}

/* ---- budget ---- */
static atomic_int reclaims;
static void count_reclaim(void *arg, uint64_t want, enum reclaim_level level)
{
    (void)arg;
    (void)want;
    (void)level;
    atomic_fetch_add(&reclaims, 1);
}

static void *put_later(void *arg)
{
    void **a = arg;
    clock_sleep_ms(30);
    budget_put(a[0], a[1], 1 << 20);
    return NULL;
}

static void test_budget(void)
{
    struct budget *b = budget_new(4 << 20);
    void *p[4];
    budget_set_reclaim(b, count_reclaim, NULL);
    CHECK(!budget_get(b, 5 << 20, true)); /* can never be */
    for (int i = 0; i < 4; i++)
        CHECK((p[i] = budget_get(b, 1 << 20, false)));
    CHECK(((uintptr_t)p[0] & 4095) == 0);
    CHECK(!budget_has_room(b, 4096));
    CHECK(!budget_get(b, 4096, false));
    CHECK(atomic_load(&reclaims) > 0);
    pthread_t t;
    void *a[2] = {b, p[3]};
    pthread_create(&t, NULL, put_later, a);
    p[3] = budget_get(b, 900 << 10, true); /* waits; a kept buffer of another size makes room */
    CHECK(p[3]);
    pthread_join(t, NULL);
    budget_put(b, p[3], 900 << 10);
    for (int i = 0; i < 3; i++)
        budget_put(b, p[i], 1 << 20);
    CHECK_INT(budget_used(b), 0);
    void *again = budget_get(b, 1 << 20, false);
    CHECK(again == p[0] || again == p[1] || again == p[2]); /* reused */
    budget_put(b, again, 1 << 20);
    budget_trim(b);
    budget_trim(b);
    budget_free(b);
}

int main(void)
{
    RUN(test_lru_order);
    RUN(test_crc_join);
    RUN(test_extents);
    RUN(test_extents_keep_kinds_apart);
    RUN(test_extents_random);
    RUN(test_budget);
    return t_done();
}

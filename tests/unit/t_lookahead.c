/* SPDX-License-Identifier: MIT
 * t_lookahead.c: when a page of the listing is asked for, and what it answers. */
#include "cache/lookahead.h"

#include "base/clock.h"
#include "vol_fixture.h"

#define SECOND NS_PER_S

/* ---- pure ---- */

static void test_second_miss_brings_a_page(void)
{
    struct lookahead_policy p = {0};
    CHECK_INT(lookahead_on_miss(&p, 10 * SECOND), 0);
    CHECK_INT(lookahead_on_miss(&p, 10 * SECOND + 1), LOOKAHEAD_PAGE_MIN);
}

static void test_misses_far_apart_do_not(void)
{
    struct lookahead_policy p = {0};
    for (uint64_t at = 10; at < 100; at += 3)
        CHECK_INT(lookahead_on_miss(&p, at * SECOND), 0);
}

static void test_used_pages_grow(void)
{
    struct lookahead_policy p = {0};
    unsigned want = LOOKAHEAD_PAGE_MIN, got;
    (void)lookahead_on_miss(&p, SECOND);
    for (int page = 0; page < 8; page++) {
        got = lookahead_on_miss(&p, SECOND); /* after the first, one miss is enough */
        CHECK_INT(got, want);
        lookahead_on_page(&p, got);
        for (unsigned i = 0; i < got / 4; i++)
            lookahead_on_use(&p);
        want = want * 2 < LOOKAHEAD_PAGE_MAX ? want * 2 : LOOKAHEAD_PAGE_MAX;
    }
    CHECK_INT(want, LOOKAHEAD_PAGE_MAX);
}

/* Names all over a huge directory: a page gives one answer each. */
static void test_unused_pages_get_rare(void)
{
    struct lookahead_policy p = {0};
    unsigned pages = 0;
    for (int i = 0; i < 3000; i++) {
        unsigned n = lookahead_on_miss(&p, SECOND);
        CHECK(n == 0 || n == LOOKAHEAD_PAGE_MIN);
        if (!n)
            continue;
        pages++;
        lookahead_on_page(&p, n);
        lookahead_on_use(&p);
    }
    CHECK(pages >= 2 && pages <= 12);
}

static void test_failures_stop_it(void)
{
    struct lookahead_policy p = {0};
    (void)lookahead_on_miss(&p, SECOND);
    CHECK(lookahead_on_miss(&p, SECOND));
    lookahead_on_failure(&p);
    for (int i = 0; i < 500; i++)
        CHECK_INT(lookahead_on_miss(&p, SECOND), 0);
}

static void test_before(void)
{
    static const char *const names[] = {"a", "s00001", "s00000", "x.c", "0", "~", "\""};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP_FREE char *b = lookahead_before(names[i]);
        CHECK(b && strcmp(b, names[i]) < 0 && !strchr(b, '/'));
    }
    CHECK(!lookahead_before(""));
    CHECK(!lookahead_before("caf\xc3\xa9"));
    CHECK(!lookahead_before("end "));
    CHECK(!lookahead_before("end!"));
}

/* ---- pages ---- */

struct rig {
    struct vx x;
    struct meta *meta;
    struct lookahead *l;
};

static struct rig rig_new(uint32_t mask)
{
    struct rig g = {.x = vx_new()};
    struct err err = ERR_INIT;
    g.x.mask = mask;
    vx_open(&g.x, "backend = memory\n");
    CHECK_INT(meta_open(NULL, "lake", &(struct meta_how){0}, &err, &g.meta), 0);
    g.l = lookahead_new(g.x.store, g.meta);
    return g;
}

static void rig_done(struct rig *g)
{
    lookahead_free(g->l);
    meta_close(g->meta);
    vx_done(&g->x);
}

static uint64_t lists(struct rig *g)
{
    return stats_sum(g->x.stats, "quayfs_backend_requests_total", "op", "list");
}

static enum meta_answer ask(struct rig *g, const char *path)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (!lookahead_known(g->l, path, 5000) && !lookahead_ask(g->l, &g->x.op, path, 5000))
        return META_MISS;
    return meta_get(g->meta, path, false, 5000, true, &a, NULL);
}

static void fill(struct rig *g, const char *dir, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        CLEANUP_FREE char *key = xasprintf("%sf%04u", dir, i);
        vx_foreign_put(&g->x, key, "content");
    }
}

static void test_page_answers_its_range(void)
{
    struct rig g = rig_new(0);
    fill(&g, "d/", 200);
    vx_foreign_put(&g.x, "d/f0010.d/below", "x");
    CHECK_INT(ask(&g, "d/f0009"), META_MISS);
    CHECK_INT(lists(&g), 0);
    CHECK_INT(ask(&g, "d/f0010"), META_THERE);
    CHECK_INT(ask(&g, "d/f0011"), META_THERE);
    CHECK_INT(ask(&g, "d/f0010x"), META_MISS); /* not there, when the page was made */
    CHECK(ask(&g, "d/f0010.d") != META_ABSENT); /* a directory, told or not */
    CHECK_INT(lists(&g), 1);
    CHECK_INT(ask(&g, "d/f0001"), META_MISS); /* before the page */
    CHECK_INT(ask(&g, "d/f0150"), META_MISS); /* behind it */
    CHECK_INT(ask(&g, "d/e"), META_MISS);
    CHECK_INT(ask(&g, "other"), META_MISS);
    CHECK_INT(ask(&g, ""), META_MISS);
    rig_done(&g);
}

static void test_all_in_turn(void)
{
    struct rig g = rig_new(0);
    unsigned known = 0;
    fill(&g, "", 1000);
    for (unsigned i = 0; i < 1000; i++) {
        CLEANUP_FREE char *key = xasprintf("f%04u", i);
        known += ask(&g, key) == META_THERE;
    }
    CHECK_INT(known, 999);
    CHECK_INT(lists(&g), 5); /* 64, 128, 256, 512, the rest */
    rig_done(&g);
}

static void test_end_of_the_directory(void)
{
    struct rig g = rig_new(0);
    fill(&g, "d/", 3);
    CHECK_INT(ask(&g, "d/f0000"), META_MISS);
    CHECK_INT(ask(&g, "d/f0001"), META_THERE);
    CHECK_INT(ask(&g, "d/yyy"), META_MISS); /* nothing is behind it: no reason for another page */
    CHECK_INT(ask(&g, "d/zzz"), META_MISS);
    CHECK_INT(lists(&g), 1);
    rig_done(&g);
}

static void test_own_changes_go_first(void)
{
    struct rig g = rig_new(0);
    fill(&g, "d/", 10);
    (void)ask(&g, "d/f0000");
    CHECK_INT(ask(&g, "d/f0001"), META_THERE);
    meta_own(g.meta, "d/f0005", NULL);
    CHECK(!lookahead_known(g.l, "d/f0005", 5000));
    CHECK(lookahead_known(g.l, "d/f0006", 5000));
    meta_forget_tree(g.meta, "d");
    CHECK(!lookahead_known(g.l, "d/f0007", 5000));
    rig_done(&g);
}

static void test_old_pages_are_silent(void)
{
    struct rig g = rig_new(0);
    fill(&g, "d/", 10);
    (void)ask(&g, "d/f0000");
    CHECK_INT(ask(&g, "d/f0001"), META_THERE);
    clock_sleep_ms(20);
    CHECK(lookahead_known(g.l, "d/f0002", 10000));
    CHECK(!lookahead_known(g.l, "d/f0003", 10));
    CHECK(lookahead_known(g.l, "d/f0003", UINT64_MAX));
    rig_done(&g);
}

/* More directories than slots: the one that was unused for longest makes room. */
static void test_many_directories(void)
{
    struct rig g = rig_new(0);
    for (unsigned d = 0; d < 3 * LOOKAHEAD_DIRS; d++) {
        CLEANUP_FREE char *dir = xasprintf("d%02u/", d);
        CLEANUP_FREE char *first = xasprintf("%sf0000", dir), *second = xasprintf("%sf0001", dir);
        fill(&g, dir, 3);
        CHECK_INT(ask(&g, first), META_MISS);
        CHECK_INT(ask(&g, second), META_THERE);
    }
    CHECK(!lookahead_known(g.l, "d00/f0002", 5000));
    CHECK(lookahead_known(g.l, "d23/f0002", 5000));
    rig_done(&g);
}

int main(void)
{
    RUN(test_second_miss_brings_a_page);
    RUN(test_misses_far_apart_do_not);
    RUN(test_used_pages_grow);
    RUN(test_unused_pages_get_rare);
    RUN(test_failures_stop_it);
    RUN(test_before);
    RUN(test_page_answers_its_range);
    RUN(test_all_in_turn);
    RUN(test_end_of_the_directory);
    RUN(test_own_changes_go_first);
    RUN(test_old_pages_are_silent);
    RUN(test_many_directories);
    return t_done();
}

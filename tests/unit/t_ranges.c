/* SPDX-License-Identifier: MIT
 * t_ranges.c: the set of byte ranges, against a bitmap. */
#include "cache/ranges.h"
#include "tests/unit/t.h"

#include <stdint.h>

#define SPAN 200

static void test_merge(void)
{
    struct ranges e = RANGES_INIT;
    ranges_add(&e, 0, 10);
    ranges_add(&e, 20, 30);
    CHECK_INT(e.n, 2);
    ranges_add(&e, 10, 20);
    CHECK_INT(e.n, 1);
    CHECK_INT(e.bytes, 30);
    ranges_add(&e, 5, 5);
    ranges_add(&e, 9, 3);
    CHECK_INT(e.n, 1);
    ranges_remove(&e, 5, 7);
    CHECK_INT(e.n, 2);
    CHECK_INT(e.bytes, 28);
    CHECK(ranges_has(&e, 0, 5) && !ranges_has(&e, 0, 6) && ranges_has(&e, 7, 30));
    CHECK(ranges_has(&e, 6, 6));
    uint64_t end = 0;
    CHECK(ranges_run(&e, 0, 100, &end));
    CHECK_INT(end, 5);
    CHECK(!ranges_run(&e, 5, 100, &end));
    CHECK_INT(end, 7);
    CHECK(!ranges_run(&e, 30, 100, &end));
    CHECK_INT(end, 100);
    CHECK(ranges_run(&e, 8, 12, &end));
    CHECK_INT(end, 12);
    ranges_done(&e);
}

static void test_text(void)
{
    struct ranges e = RANGES_INIT, back = RANGES_INIT;
    CHECK(ranges_parse("", &back));
    CHECK_INT(back.n, 0);
    ranges_add(&e, 0, 4096);
    ranges_add(&e, 1ULL << 40, (1ULL << 40) + 1);
    struct buf b = BUF_INIT;
    ranges_format(&e, &b);
    CHECK_STR(b.data, "0-4096,1099511627776-1099511627777");
    CHECK(ranges_parse(b.data, &back));
    CHECK_INT(back.n, 2);
    CHECK_INT(back.bytes, 4097);
    ranges_done(&back);
    static const char *const bad[] = {"1", "1-", "-1", "2-1", "1-1", "1-2;", "a-b", "1-2 ",
                                      "99999999999999999999-999999999999999999999", "1--2"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK(!ranges_parse(bad[i], &back));
    buf_done(&b);
    ranges_done(&e);
}

static void check_same(const struct ranges *e, const bool *map)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < e->n; i++) {
        CHECK(e->v[i].off < e->v[i].end);
        CHECK(i == 0 || e->v[i - 1].end < e->v[i].off);
        sum += e->v[i].end - e->v[i].off;
    }
    CHECK_INT(e->bytes, sum);
    for (uint64_t i = 0; i < SPAN; i++) {
        uint64_t end = 0;
        CHECK(ranges_run(e, i, SPAN, &end) == map[i]);
        CHECK(end > i);
        for (uint64_t k = i; k < end; k++)
            CHECK(map[k] == map[i]);
        CHECK(end == SPAN || map[end] != map[i]);
        CHECK_INT(ranges_overlap(e, i, i + 1), map[i]);
    }
}

static void test_random(void)
{
    unsigned seed = 12345;
    for (int round = 0; round < 200; round++) {
        struct ranges e = RANGES_INIT, copy = RANGES_INIT;
        bool map[SPAN] = {false};
        for (int i = 0; i < 40; i++) {
            seed = seed * 1103515245u + 12345u;
            uint64_t off = (seed >> 8) % SPAN, end = off + (seed >> 20) % 30;
            end = end > SPAN ? SPAN : end;
            bool add = (seed >> 28) % 3 != 0;
            if (add)
                ranges_add(&e, off, end);
            else
                ranges_remove(&e, off, end);
            for (uint64_t k = off; k < end; k++)
                map[k] = add;
        }
        check_same(&e, map);
        ranges_copy(&copy, &e);
        check_same(&copy, map);
        ranges_done(&copy);
        ranges_done(&e);
    }
}

int main(void)
{
    RUN(test_merge);
    RUN(test_text);
    RUN(test_random);
    return t_done();
}

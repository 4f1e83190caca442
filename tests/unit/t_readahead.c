/* SPDX-License-Identifier: MIT
 * t_readahead.c: what counts as a stream, and how its window grows. */
#include "cache/readahead.h"

#include "base/clock.h"
#include "t.h"

#define MIB ((uint64_t)1 << 20)
#define KIB ((uint64_t)1 << 10)
#define SIZE (512 * MIB)

static struct readahead fresh(void)
{
    struct readahead ra;
    readahead_init(&ra, MIB, 8 * MIB, 64 * MIB);
    return ra;
}

/* Notes a read and issues all that is planned; returns the plan. */
static struct readahead_plan step(struct readahead *ra, uint64_t off, uint64_t len)
{
    struct readahead_plan p = readahead_note(ra, off, len, SIZE);
    if (p.stream && p.to > p.from)
        readahead_issued(ra, &p, p.to);
    return p;
}

static void test_sequential(void)
{
    struct readahead ra = fresh();
    struct readahead_plan p = step(&ra, 0, 128 * KIB);
    CHECK(p.stream); /* from the start: on credit */
    CHECK_INT(p.from, 0);
    CHECK_INT(p.to, 4 * MIB); /* a read this large is the beginning of more */
    CHECK_INT(p.part, MIB);
    uint64_t ahead = 4 * MIB, biggest = 0;
    for (uint64_t off = 128 * KIB; off < SIZE; off += 128 * KIB) {
        p = step(&ra, off, 128 * KIB);
        CHECK(p.stream && !p.dropped);
        if (p.to == p.from)
            continue;
        CHECK_INT(p.from, ahead); /* no gap and nothing twice */
        CHECK(p.to == SIZE || p.to % MIB == 0);
        ahead = p.to;
        biggest = p.part > biggest ? p.part : biggest;
        CHECK(ahead <= off + 128 * KIB + 64 * MIB + 256 * KIB); /* and the tail */
        CHECK(ahead > off);
    }
    CHECK_INT(ahead, SIZE);
    CHECK_INT(biggest, 8 * MIB);
}

static void test_little_credit_for_a_small_read(void)
{
    struct readahead ra = fresh();
    CHECK_INT(step(&ra, 0, 4 * KIB).to, MIB);
}

static void test_window_is_wide_soon(void)
{
    struct readahead ra = fresh();
    uint64_t ahead = 0;
    for (uint64_t off = 0; off < 40 * MIB; off += 128 * KIB) {
        struct readahead_plan p = step(&ra, off, 128 * KIB);
        ahead = p.to > ahead ? p.to : ahead;
    }
    CHECK(ahead >= 40 * MIB + 48 * MIB);
}

/* A far store: what was asked for can be read one round trip later. */
static void test_wide_after_few_round_trips(void)
{
    struct readahead ra = fresh();
    uint64_t off = 0, here = 256 * KIB, asked = 0;
    unsigned trips = 0;
    for (; asked < off + 48 * MIB; trips++, here = asked)
        for (; off < here; off += 128 * KIB) {
            struct readahead_plan p = step(&ra, off, 128 * KIB);
            asked = p.to > asked ? p.to : asked;
        }
    CHECK(trips <= 3);
}

/* The kernel sends the requests of one stream in any order. */
static void test_reordered(void)
{
    struct readahead ra = fresh();
    uint64_t ahead = 0, off[8];
    step(&ra, 0, 128 * KIB);
    step(&ra, 128 * KIB, 128 * KIB);
    for (uint64_t base = 256 * KIB; base < 64 * MIB; base += 8 * 128 * KIB) {
        for (unsigned i = 0; i < 8; i++)
            off[i] = base + i * 128 * KIB;
        for (unsigned i = 7; i > 0; i--) {
            unsigned k = random_below(i + 1);
            uint64_t t = off[i];
            off[i] = off[k];
            off[k] = t;
        }
        for (unsigned i = 0; i < 8; i++) {
            struct readahead_plan p = step(&ra, off[i], 128 * KIB);
            CHECK(p.stream && !p.dropped);
            CHECK_INT(p.slot, 0);
            ahead = p.to > ahead ? p.to : ahead;
        }
    }
    CHECK(ahead >= 96 * MIB);
}

static void test_two_streams(void)
{
    struct readahead ra = fresh();
    uint64_t a = 10 * MIB, b = 300 * MIB, ahead_a = 0, ahead_b = 0;
    for (unsigned i = 0; i < 400; i++) {
        struct readahead_plan p = step(&ra, a, 128 * KIB);
        a += 128 * KIB;
        if (i > 2)
            CHECK(p.stream && !p.dropped);
        ahead_a = p.to > ahead_a ? p.to : ahead_a;
        p = step(&ra, b, 128 * KIB);
        b += 128 * KIB;
        if (i > 2)
            CHECK(p.stream && !p.dropped);
        ahead_b = p.to > ahead_b ? p.to : ahead_b;
    }
    CHECK(ahead_a > a && ahead_a < 200 * MIB);
    CHECK(ahead_b > b);
}

static void test_random_reads_stay_exact(void)
{
    struct readahead ra = fresh();
    unsigned streams = 0;
    uint64_t seed = 88172645463325252ULL; /* the same pages on every run */
    for (unsigned i = 0; i < 20000; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        uint64_t page = 1 + seed % (SIZE / 4096 - 1);
        streams += step(&ra, page * 4096, 4096).stream;
    }
    CHECK(streams < 20); /* 0.1 %: neighbours by chance */
}

static void test_stream_survives_random_noise(void)
{
    struct readahead ra = fresh();
    uint64_t off = 0;
    for (unsigned i = 0; i < 300; i++) {
        struct readahead_plan p = step(&ra, off, 128 * KIB);
        CHECK(p.stream && p.slot == 0);
        off += 128 * KIB;
        for (unsigned k = 0; i > 0 && k < 5; k++)
            step(&ra, 100 * MIB + (uint64_t)random_below(400) * MIB, 4096);
    }
}

static void test_seek_drops_the_window(void)
{
    struct readahead ra = fresh();
    bool dropped = false;
    for (unsigned i = 0; i < 16; i++)
        step(&ra, i * 128 * KIB, 128 * KIB);
    for (unsigned s = 1; s <= 5; s++) /* more streams than there are slots */
        for (unsigned i = 0; i < 4; i++) {
            struct readahead_plan p = step(&ra, s * 50 * MIB + i * 128 * KIB, 128 * KIB);
            if (!p.dropped || p.drop_from > 10 * MIB)
                continue;
            dropped = true;
            CHECK_INT(p.drop_from, 2 * MIB);
            CHECK(p.drop_to > p.drop_from);
        }
    CHECK(dropped);
}

/* Row groups: 2 MiB in sequence at one place, then at another. What is fetched for nothing shrinks. */
static void test_short_streams_lose_trust(void)
{
    struct readahead ra = fresh();
    uint64_t wasted_early = 0, wasted_late = 0;
    for (unsigned i = 0; i < 60; i++) {
        uint64_t at = (uint64_t)(i * 37 % 60) * 8 * MIB + 4 * MIB;
        for (uint64_t off = 0; off < 2 * MIB; off += 128 * KIB) {
            struct readahead_plan p = step(&ra, at + off, 128 * KIB);
            *(i < 10 ? &wasted_early : &wasted_late) += p.dropped ? p.drop_to - p.drop_from : 0;
        }
    }
    CHECK(wasted_late / 50 < wasted_early / 10);
    CHECK(wasted_late / 50 <= 2 * MIB);
    CHECK_INT(ra.trust, ra.start);
    uint64_t ahead = 0;
    for (uint64_t off = 0; off < 256 * MIB; off += 128 * KIB) { /* a long one earns it back */
        struct readahead_plan p = step(&ra, off, 128 * KIB);
        ahead = p.to > off ? p.to - off : 0;
    }
    CHECK(ahead == 0 || ahead >= 48 * MIB);
    CHECK_INT(ra.trust, 64 * MIB);
}

static void test_window_shrinks_when_memory_is_short(void)
{
    struct readahead ra = fresh();
    uint64_t off = 0;
    for (; off < 128 * MIB; off += 128 * KIB)
        step(&ra, off, 128 * KIB);
    CHECK_INT(ra.streams[0].window, 64 * MIB);
    for (; off < 256 * MIB; off += 128 * KIB) { /* 2 MiB ahead is all that can be had */
        struct readahead_plan p = readahead_note(&ra, off, 128 * KIB, SIZE);
        uint64_t can = off + 2 * MIB;
        if (p.stream && p.to > p.from)
            readahead_issued(&ra, &p, can < p.to ? can : p.to);
    }
    CHECK(ra.streams[0].window <= 8 * MIB);
    CHECK(ra.streams[0].window >= ra.start);
}

static void test_small_sequential(void)
{
    struct readahead ra = fresh();
    CHECK(!step(&ra, 5 * MIB, 4096).stream);
    CHECK(!step(&ra, 5 * MIB + 4096, 4096).stream);
    struct readahead_plan p = step(&ra, 5 * MIB + 8192, 4096);
    CHECK(p.stream);
    CHECK(p.to <= 8 * MIB);
}

static void test_end_of_object(void)
{
    struct readahead ra = fresh();
    struct readahead_plan p = readahead_note(&ra, 0, 128 * KIB, MIB + 100 * KIB);
    CHECK(p.stream);
    CHECK_INT(p.to, MIB + 100 * KIB); /* the small rest goes along */
    readahead_issued(&ra, &p, p.to);
    p = readahead_note(&ra, MIB, 100 * KIB, MIB + 100 * KIB);
    CHECK_INT(p.to, p.from);
}

static void test_partly_issued(void)
{
    struct readahead ra = fresh();
    struct readahead_plan p = readahead_note(&ra, 0, 128 * KIB, SIZE);
    readahead_issued(&ra, &p, 512 * KIB); /* memory was short */
    p = readahead_note(&ra, 128 * KIB, 128 * KIB, SIZE);
    CHECK_INT(p.from, 512 * KIB);
}

int main(void)
{
    RUN(test_sequential);
    RUN(test_little_credit_for_a_small_read);
    RUN(test_window_is_wide_soon);
    RUN(test_wide_after_few_round_trips);
    RUN(test_reordered);
    RUN(test_two_streams);
    RUN(test_random_reads_stay_exact);
    RUN(test_stream_survives_random_noise);
    RUN(test_seek_drops_the_window);
    RUN(test_short_streams_lose_trust);
    RUN(test_window_shrinks_when_memory_is_short);
    RUN(test_small_sequential);
    RUN(test_end_of_object);
    RUN(test_partly_issued);
    return t_done();
}

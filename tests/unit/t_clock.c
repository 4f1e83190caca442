/* SPDX-License-Identifier: MIT
 * t_clock.c: clocks and randomness. */
#include "base/clock.h"

#include "tests/unit/t.h"

static void test_monotonic(void)
{
    uint64_t a = clock_now_ns();
    clock_sleep_ms(15);
    CHECK(clock_now_ns() - a >= 15 * NS_PER_MS);
}

static void test_wall(void)
{
    struct timespec fixed = {.tv_sec = 1000, .tv_nsec = 5};
    clock_set_wall_for_test(&fixed);
    CHECK_INT(clock_wall().tv_sec, 1000);
    CHECK_INT(clock_wall().tv_nsec, 5);
    clock_set_wall_for_test(NULL);
    CHECK(clock_wall().tv_sec > 1700000000);
}

static void test_random(void)
{
    unsigned seen[7] = {0};
    for (int i = 0; i < 7000; i++)
        seen[random_below(7)]++;
    for (int i = 0; i < 7; i++)
        CHECK(seen[i] > 700 && seen[i] < 1300);
    CHECK_INT(random_below(1), 0);
    char a[17], b[17];
    random_hex(a, 16);
    random_hex(b, 16);
    CHECK_INT(strspn(a, "0123456789abcdef"), 16);
    CHECK_INT(strlen(a), 16);
    CHECK(strcmp(a, b) != 0);
}

int main(void)
{
    RUN(test_monotonic);
    RUN(test_wall);
    RUN(test_random);
    return t_done();
}

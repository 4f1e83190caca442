/* SPDX-License-Identifier: MIT
 * t_units.c: sizes, durations, numbers, the nearest name. */
#include "base/conf.h"

#include "tests/unit/t.h"

static void check_size(const char *s, long long want)
{
    uint64_t v = 4711;
    bool ok = parse_size(s, &v);
    if (ok != (want >= 0))
        fprintf(stderr, "size '%s'\n", s);
    CHECK(ok == (want >= 0));
    CHECK_INT(v, want >= 0 ? want : 4711);
}

static void test_sizes(void)
{
    check_size("4096", 4096);
    check_size("0", 0);
    check_size("64K", 65536);
    check_size("16m", 16 << 20);
    check_size("20GiB", 20LL << 30);
    check_size("1 MB", 1 << 20);
    check_size(" 1 kb ", 1024);
    check_size("3T", 3LL << 40);
    check_size("2P", 2LL << 50);
    check_size("12B", 12);
    static const char *const bad[] = {"",
                                      "K",
                                      "20GiBB",
                                      "1.5G",
                                      "-1",
                                      "1 K B",
                                      "5X",
                                      "1 2",
                                      "1i",
                                      "1iB",
                                      "99999999999999999999",
                                      "9999999P",
                                      "0x10"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        check_size(bad[i], -1);
}

static void check_ms(const char *s, long long want)
{
    uint64_t v = 4711;
    bool ok = parse_duration_ms(s, &v);
    if (ok != (want >= 0))
        fprintf(stderr, "duration '%s'\n", s);
    CHECK(ok == (want >= 0));
    CHECK_INT(v, want >= 0 ? want : 4711);
}

static void test_durations(void)
{
    check_ms("250ms", 250);
    check_ms("30s", 30000);
    check_ms("30", 30000);
    check_ms("0", 0);
    check_ms("1.5", 1500);
    check_ms("0.25s", 250);
    check_ms("1.5 h", 5400000);
    check_ms("5m", 300000);
    check_ms("12h", 43200000);
    check_ms("7d", 604800000);
    check_ms("1W", 604800000);
    check_ms("0.0005", 0);
    static const char *const bad[] = {"",
                                      "s",
                                      "-1",
                                      "1.",
                                      ".5",
                                      "1x",
                                      "5 m s",
                                      "1e3",
                                      "99999999999999999999",
                                      "9999999999999999h",
                                      "never"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        check_ms(bad[i], -1);
}

static void test_numbers(void)
{
    int64_t v = 0;
    bool b = false;
    CHECK(parse_int("-12", &v) && v == -12);
    CHECK(parse_int(" +7 ", &v) && v == 7);
    CHECK(parse_int("9223372036854775807", &v) && v == INT64_MAX);
    CHECK(parse_int("-9223372036854775808", &v) && v == INT64_MIN);
    CHECK(!parse_int("9223372036854775808", &v) && !parse_int("", &v) && !parse_int("1x", &v));
    CHECK(!parse_int("- 1", &v) && !parse_int("1.0", &v));
    CHECK(parse_bool("Yes", &b) && b);
    CHECK(parse_bool("OFF", &b) && !b);
    CHECK(parse_bool(" 1 ", &b) && b);
    CHECK(!parse_bool("y", &b) && !parse_bool("", &b) && !parse_bool("yess", &b));
}

static void test_nearest(void)
{
    static const char *const names[] = {"bucket", "base_path", "region", "uri", "store"};
    CHECK_STR(nearest_name("bukcet", names, 5), "bucket");
    CHECK_STR(nearest_name("Bucket", names, 5), "bucket");
    CHECK_STR(nearest_name("basepath", names, 5), "base_path");
    CHECK_STR(nearest_name("stor", names, 5), "store");
    CHECK_STR(nearest_name("regoin", names, 5), "region");
    CHECK(nearest_name("xyz", names, 5) == NULL);
    CHECK(nearest_name("", names, 5) == NULL);
    CHECK(nearest_name("ab", names, 5) == NULL);
    CHECK(nearest_name("something_else", names, 5) == NULL);
    CHECK(nearest_name("bucket", names, 0) == NULL);
    char big[300];
    memset(big, 'a', 299);
    big[299] = '\0';
    CHECK(nearest_name(big, names, 5) == NULL);
}

int main(void)
{
    RUN(test_sizes);
    RUN(test_durations);
    RUN(test_numbers);
    RUN(test_nearest);
    return t_done();
}

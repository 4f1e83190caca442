/* SPDX-License-Identifier: MIT
 * t_date.c: protocol dates. */
#include "base/date.h"

#include "tests/unit/t.h"

#include <stdint.h>

static void test_http(void)
{
    time_t t;
    char out[30];
    CHECK(date_parse_http("Sun, 06 Nov 1994 08:49:37 GMT", &t));
    CHECK_INT(t, 784111777);
    date_format_http(784111777, out);
    CHECK_STR(out, "Sun, 06 Nov 1994 08:49:37 GMT");
    CHECK(!date_parse_http("Sun, 31 Feb 1994 08:49:37 GMT", &t));
    CHECK(!date_parse_http("Sun, 06 Nov 1994 24:49:37 GMT", &t));
    CHECK(!date_parse_http("Sun, 06 Nov 1994 08:49:37", &t));
    CHECK(!date_parse_http("Sun, 06 Nov 1994 08:49:37 GMT ", &t));
    CHECK(!date_parse_http("", &t));
    CHECK(date_parse_http("Thu, 29 Feb 2024 00:00:00 GMT", &t));
    CHECK(!date_parse_http("Wed, 29 Feb 2023 00:00:00 GMT", &t));
}

static void test_iso(void)
{
    struct timespec t;
    char out[32];
    CHECK(date_parse_iso("2013-05-24T00:00:00.123Z", &t));
    CHECK_INT(t.tv_sec, 1369353600);
    CHECK_INT(t.tv_nsec, 123000000);
    date_format_iso(t, out);
    CHECK_STR(out, "2013-05-24T00:00:00.123Z");
    CHECK(date_parse_iso("2013-05-24T02:00:00+02:00", &t));
    CHECK_INT(t.tv_sec, 1369353600);
    CHECK(date_parse_iso("2013-05-23T19:30:00.1234567891-0430", &t));
    CHECK_INT(t.tv_sec, 1369353600);
    CHECK_INT(t.tv_nsec, 123456789);
    CHECK(date_parse_iso("2013-05-24", &t));
    CHECK_INT(t.tv_sec, 1369353600);
    CHECK(date_parse_iso("1970-01-01T00:00:00", &t));
    CHECK_INT(t.tv_sec, 0);
    CHECK(!date_parse_iso("2013-13-24T00:00:00Z", &t));
    CHECK(!date_parse_iso("2013-05-24T00:00:00.Z", &t));
    CHECK(!date_parse_iso("2013-05-24T00:00:00Zx", &t));
    CHECK(!date_parse_iso("2013-05-24T00:00:00+2", &t));
    date_format_amz(1369353600, out);
    CHECK_STR(out, "20130524T000000Z");
}

static void check_unix(const char *in, long long s, long ns, const char *out_want)
{
    struct timespec t;
    char out[40];
    CHECK(date_parse_unix(in, &t));
    CHECK_INT(t.tv_sec, s);
    CHECK_INT(t.tv_nsec, ns);
    date_format_unix(t, out);
    CHECK_STR(out, out_want);
}

static void test_unix(void)
{
    struct timespec t;
    check_unix("1234567890.123456789", 1234567890, 123456789, "1234567890.123456789");
    check_unix("1234567890", 1234567890, 0, "1234567890.000000000");
    check_unix("0.5", 0, 500000000, "0.500000000");
    check_unix("-1.25", -2, 750000000, "-1.250000000");
    check_unix("-0.25", -1, 750000000, "-0.250000000");
    check_unix("-3", -3, 0, "-3.000000000");
    CHECK(!date_parse_unix("", &t));
    CHECK(!date_parse_unix("12x", &t));
    CHECK(!date_parse_unix("99999999999999", &t));
    CHECK(!date_parse_unix(".5", &t));
}

static void test_extreme(void)
{
    char out[40];
    struct timespec t = {.tv_sec = INT64_MAX, .tv_nsec = 0};
    date_format_http((time_t)INT64_MAX, out);
    date_format_http((time_t)INT64_MIN, out);
    date_format_iso(t, out);
    CHECK_STR(out, "9999-12-31T23:59:59.000Z");
    date_format_amz((time_t)INT64_MIN, out);
    CHECK_STR(out, "00000101T000000Z");
}

int main(void)
{
    RUN(test_http);
    RUN(test_iso);
    RUN(test_unix);
    RUN(test_extreme);
    return t_done();
}

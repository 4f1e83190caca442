/* SPDX-License-Identifier: MIT
 * Header lists, ranges, Content-Range, Retry-After. */
#include "backends/http.h"
#include "base/clock.h"
#include "tests/unit/t.h"

static void test_headers(void)
{
    struct http_headers h = {0};
    for (int i = 0; i < 20; i++)
        http_headers_addf(&h, i == 7 ? "X-Seven" : "x-other", "%d", i);
    CHECK_INT(h.n, 20);
    CHECK_STR(http_headers_get(&h, "x-SEVEN"), "7");
    CHECK_STR(h.v[7].name, "x-seven");
    CHECK(http_headers_get(&h, "nope") == NULL);
    http_headers_done(&h);
    CHECK_INT(h.n, 0);
    http_headers_done(&h);
}

static void test_range(void)
{
    char r[64];
    http_range(0, 1, r);
    CHECK_STR(r, "bytes=0-0");
    http_range(8388608, 8388608, r);
    CHECK_STR(r, "bytes=8388608-16777215");
    http_range(UINT64_MAX - 1, 100, r);
    CHECK_STR(r, "bytes=18446744073709551614-18446744073709551615");
}

static void test_content_range(void)
{
    uint64_t a, b, t;
    CHECK(http_parse_content_range("bytes 0-99/1234", &a, &b, &t));
    CHECK(a == 0 && b == 99 && t == 1234);
    CHECK(http_parse_content_range("bytes 5-5/*", &a, &b, &t));
    CHECK(a == 5 && b == 5 && t == UINT64_MAX);
    CHECK(
        http_parse_content_range("bytes 0-18446744073709551614/18446744073709551615", &a, &b, &t));
    static const char *const bad[] = {
        "",           "bytes",        "bytes 9-5/10", "bytes 0-9",
        "bytes 0-9/", "bytes 0-9/9",  "bytes -9/10",  "bytes 0-/10",
        "bytes */10", "bytes 0-9/1x", "items 0-9/10", "bytes 0-99999999999999999999/*"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK(!http_parse_content_range(bad[i], &a, &b, &t));
    CHECK(!http_parse_content_range(NULL, &a, &b, &t));
}

static unsigned retry_after(const char *value)
{
    struct http_headers h = {0};
    http_headers_add(&h, "Retry-After", value);
    unsigned ms = http_retry_after_ms(&h);
    http_headers_done(&h);
    return ms;
}

static void test_retry_after(void)
{
    struct timespec now = {.tv_sec = 784111777}; /* Sun, 06 Nov 1994 08:49:37 GMT */
    struct http_headers none = {0};
    clock_set_wall_for_test(&now);
    CHECK_INT(http_retry_after_ms(&none), 0);
    CHECK_INT(retry_after("3"), 3000);
    CHECK_INT(retry_after("0"), 0);
    CHECK_INT(retry_after("999999999999"), 300000);
    CHECK_INT(retry_after("Sun, 06 Nov 1994 08:49:47 GMT"), 10000);
    CHECK_INT(retry_after("Sun, 06 Nov 1994 08:49:07 GMT"), 0);
    CHECK_INT(retry_after("soon"), 0);
    CHECK_INT(retry_after("-1"), 0);
    clock_set_wall_for_test(NULL);
}

static void test_loopback(void)
{
    CHECK(http_host_is_loopback("127.0.0.1:9000"));
    CHECK(http_host_is_loopback("127.1.2.3"));
    CHECK(http_host_is_loopback("localhost"));
    CHECK(http_host_is_loopback("LOCALHOST:80"));
    CHECK(http_host_is_loopback("[::1]:9000"));
    CHECK(!http_host_is_loopback("127.0.0.1.example.com"));
    CHECK(!http_host_is_loopback("localhost.example.com"));
    CHECK(!http_host_is_loopback("[::1].example"));
    CHECK(!http_host_is_loopback("10.0.0.1"));
}

int main(void)
{
    RUN(test_headers);
    RUN(test_range);
    RUN(test_content_range);
    RUN(test_retry_after);
    RUN(test_loopback);
    return t_done();
}

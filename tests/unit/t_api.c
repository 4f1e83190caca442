/* SPDX-License-Identifier: MIT
 * The pure parts of backend = api: pages of records, Link headers, names of ids, the bucket of requests. */
#include "backends/api/api_page.h"
#include "backends/api/api_rate.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "tests/unit/t.h"

#include <errno.h>

static const struct api_shape plain = {"", "id", "", ""};

/* "NAMES|NEXT", or "-errno". */
static char *parsed(const char *text, const struct api_shape *shape)
{
    struct web_names names = {0};
    struct api_page page = API_PAGE_INIT;
    struct err err = ERR_INIT;
    struct buf b = BUF_INIT;
    int r = api_page_parse(text, strlen(text), shape, &err, &names, &page);
    CHECK((r < 0) == (err.text[0] != '\0'));
    if (r < 0)
        buf_addf(&b, "%d", r);
    for (size_t i = 0; r == 0 && i < names.n; i++)
        buf_addf(&b, "%s%s", i ? " " : "", names.v[i].name);
    if (r == 0)
        buf_addf(&b, "|%s%s", page.next_is_url ? "url " : "", page.next ? page.next : "");
    api_page_done(&page);
    web_names_done(&names);
    return buf_take(&b);
}

static void check(const char *text, const struct api_shape *shape, const char *want)
{
    CLEANUP_FREE char *got = parsed(text, shape);
    CHECK_STR(got, want);
}

static void pages(void)
{
    const struct api_shape deep = {"result.rows", "meta.name", "result.more", ".json"};
    check("[]", &plain, "|");
    check("[{\"id\":1},{\"id\":\"b\"},{\"id\":-3}]", &plain, "1 b -3|");
    check("[\"x\", 7]", &plain, "x 7|");
    check("{\"data\":[{\"id\":1}],\"next\":\"/p?2\"}", &plain, "1|url /p?2");
    check("{\"items\":[{\"id\":1}],\"next_cursor\":\"abc\"}", &plain, "1|abc");
    check("{\"items\":[{\"id\":1}],\"next_cursor\":7}", &plain, "1|7");
    check("{\"items\":[{\"id\":1}],\"next\":null,\"links\":{\"next\":\"http://h/2\"}}", &plain, "1|url http://h/2");
    check("{\"items\":[],\"next\":\"\"}", &plain, "|");
    check("{\"people\":[{\"id\":1}],\"total\":1}", &plain, "1|");
    check("{\"a\":[1],\"b\":[2]}", &plain, "-74");
    check("{\"result\":{\"rows\":[{\"meta\":{\"name\":\"x\"}}],\"more\":\"c\"}}", &deep, "x.json|c");
    check("{\"result\":{}}", &deep, "-74");
    check("[{\"name\":1}]", &plain, "-74");
    check("[{\"id\":{}}]", &plain, "-74");
    check("{", &plain, "-74");
    check("7", &plain, "-74");
    check("[{\"id\":\"a\\u0000b\"}]", &plain, "-74");
    check("[{\"id\":\"..\"},{\"id\":\"\"},{\"id\":\".\"},{\"id\":\"a/b\"},{\"id\":\"../x\"}]", &plain,
          "a%2Fb ..%2Fx|");
}

static void what_is_a_page(void)
{
    static const struct {
        const char *text;
        bool want;
    } t[] = {{"[]", true},
             {"[{\"id\":1}]", true},
             {"{\"items\":[]}", true},
             {"{\"id\":5,\"tags\":[1]}", false},
             {"{\"id\":5}", false},
             {"text", false},
             {"", false}};
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        CHECK_INT(api_page_is_one(t[i].text, strlen(t[i].text), &plain), t[i].want);
}

static void names(void)
{
    static const char *const ids[] = {"a", "a/b", "%2F", "%2f", "%25", "%252F", "%", "%2", "100%", "a%b/c", "/"};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        CLEANUP_FREE char *name = api_name_of_id(ids[i], ".json");
        CLEANUP_FREE char *back = api_id_of_name(name, ".json");
        CHECK(!strchr(name, '/'));
        CHECK_STR(back, ids[i]);
    }
    CHECK(!api_id_of_name("a", ".json"));
    CHECK(!api_id_of_name(".json", ".json"));
}

static void check_link(const char *value, const char *want)
{
    struct http_headers h = {0};
    http_headers_add(&h, "link", "<http://other/>; rel=up");
    http_headers_add(&h, "Link", value);
    CLEANUP_FREE char *got = api_link_next(&h);
    CHECK_STR(got ? got : "-", want);
    http_headers_done(&h);
}

static void links(void)
{
    check_link("<http://h/?p=2>; rel=\"next\"", "http://h/?p=2");
    check_link("<http://h/?p=2>; rel=next", "http://h/?p=2");
    check_link("<a>; rel=\"prev\", <b>;rel=\"next\", <c>; rel=last", "b");
    check_link("<a>; title=\"x, y\"; rel=\"first next\"", "a");
    check_link("<a>; REL=\"Next\"", "a");
    check_link("<a>; rel=\"prev\"", "-");
    check_link("<a>; rel=nextish", "-");
    check_link("<a>; notrel=next", "-");
    check_link("<a; rel=next", "-");
    check_link("", "-");
    check_link("<a>", "-");
    check_link("<a>; rel=\"", "-");
    check_link("<a>; rel", "-");
}

static void rates(void)
{
    static const char *const bad[] = {"x", "0", "-1", "1/", "1/x", "/s", "1//s", " 1", "9999999999999999999/s"};
    struct api_rate r;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(!api_rate_parse(bad[i], &r));
    CHECK(api_rate_parse("", &r) && api_rate_take(&r, 5) == 0);
}

/* In no window of the period are there more requests than allowed, whatever the pauses. */
static void check_windows(const char *text, unsigned limit, uint64_t period_ns, uint64_t pause_ns)
{
    enum { N = 400 };
    uint64_t at[N], now = 1000 * NS_PER_S;
    struct api_rate r;
    CHECK(api_rate_parse(text, &r));
    for (unsigned i = 0; i < N; i++) {
        at[i] = now + api_rate_take(&r, now);
        now = at[i] + (i % 50 == 49 ? pause_ns : 0);
        if (i >= limit)
            CHECK(at[i] - at[i - limit] >= period_ns * 99 / 100);
    }
    CHECK(at[N - 1] - at[0] <= (N + limit) / limit * 2 * period_ns + N / 50 * pause_ns);
}

static void windows(void)
{
    check_windows("10/s", 10, NS_PER_S, 0);
    check_windows("10", 10, NS_PER_S, 5 * NS_PER_S);
    check_windows("100/m", 100, 60 * NS_PER_S, 30 * NS_PER_S);
    check_windows("1/s", 1, NS_PER_S, 10 * NS_PER_S);
    check_windows("2/min", 2, 60 * NS_PER_S, 0);
    check_windows("5000/h", 5000, 3600 * NS_PER_S, 0);
    struct api_rate r;
    CHECK(api_rate_parse("10/s", &r));
    api_rate_close(&r, 100 * NS_PER_S); /* Retry-After */
    CHECK_INT(api_rate_take(&r, 90 * NS_PER_S), 10 * NS_PER_S);
    CHECK_INT(api_rate_take(&r, 101 * NS_PER_S), 0);
}

int main(void)
{
    RUN(pages);
    RUN(what_is_a_page);
    RUN(names);
    RUN(links);
    RUN(rates);
    RUN(windows);
    return t_done();
}

/* SPDX-License-Identifier: MIT
 * The HTTP client against a scripted server: reuse, broken connections, limits, cancelling. */
#include "backends/http.h"
#include "base/clock.h"
#include "tests/unit/fake_http.h"

#include <errno.h>

#define OK5 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Name:  v \r\n\r\nhello"
#define EMPTY "HTTP/1.1 204 No Content\r\n\r\n"

struct rig {
    struct fake_http f;
    struct http_client *c;
    struct op op;
    struct http_res res;
    struct http_req req;
    char url[64];
};

static void rig_start(struct rig *g, const struct fake_step *steps, int n, unsigned low_speed_s)
{
    struct http_options o = {.max_connections = 1, .low_speed_s = low_speed_s, .verify_tls = true};
    *g = (struct rig){.res = HTTP_RES_INIT};
    fake_start(&g->f, steps, n);
    CHECK_INT(http_client_new(&o, NULL, &g->c), 0);
    (void)snprintf(g->url, sizeof(g->url), "http://127.0.0.1:%d/a/../b//c", g->f.port);
    g->req = (struct http_req){.method = "GET", .url = g->url};
    op_init(&g->op, "t", 0);
}

static void rig_stop(struct rig *g)
{
    http_res_done(&g->res);
    http_client_free(g->c);
    fake_stop(&g->f);
}

static int go(struct rig *g)
{
    http_res_done(&g->res);
    return http_do(g->c, &g->op, &g->req, &g->res);
}

#define RIG_OF(g, low_speed_s, ...)                                                                \
    static const struct fake_step steps_[] = {__VA_ARGS__};                                        \
    struct rig g;                                                                                  \
    rig_start(&g, steps_, (int)(sizeof(steps_) / sizeof(steps_[0])), low_speed_s)
#define RIG(g, ...) RIG_OF(g, 1, __VA_ARGS__)

static void test_reuse(void)
{
    RIG(g, {.reply = OK5}, {.reply = OK5}, {.reply = EMPTY});
    CHECK_INT(go(&g), 0);
    CHECK_INT(g.res.status, 200);
    CHECK_STR(buf_str(&g.res.body), "hello");
    CHECK_STR(http_headers_get(&g.res.headers, "x-name"), "v");
    CHECK(strncmp(g.res.remote_addr, "127.0.0.1:", 10) == 0);
    CHECK_INT(go(&g), 0);
    g.req.method = "DELETE";
    CHECK_INT(go(&g), 0);
    CHECK_INT(g.res.status, 204);
    CHECK(!g.res.resent);
    CHECK_INT(g.f.connections, 1);
    CHECK(strncmp(g.f.requests[0].data, "GET /a/../b//c HTTP/1.1\r\n", 25) == 0);
    CHECK(strncmp(g.f.requests[2].data, "DELETE ", 7) == 0);
    CHECK(strstr(g.f.requests[0].data, "User-Agent: quayfs/") != NULL);
    CHECK(!strcasestr(g.f.requests[0].data, "\r\nAccept:"));
    rig_stop(&g);
}

/* A kept-alive connection that the server has given up must not be the caller's problem. */
static void test_dropped_reuse(void)
{
    RIG(g, {.reply = OK5}, {.then = FAKE_CLOSE}, {.reply = OK5}, {.then = FAKE_CLOSE},
        {.reply = EMPTY});
    struct source_mem m = source_mem("body", 4);
    CHECK_INT(go(&g), 0);
    CHECK_INT(go(&g), 0);
    CHECK(g.res.resent);
    CHECK_INT(g.f.connections, 2);
    g.req.method = "PUT";
    g.req.body = &m.base;
    CHECK_INT(go(&g), 0);
    CHECK(g.res.resent); /* the server may have seen the first one */
    CHECK_INT(g.f.n_requests, 5);
    CHECK(strstr(g.f.requests[4].data, "\r\n\r\nbody") != NULL);
    rig_stop(&g);
}

/* Refusing an upload is often followed by closing; and a small body comes with its head. */
static void test_refused_upload(void)
{
    RIG(g,
        {.reply = "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n",
         .then = FAKE_CLOSE},
        {.reply = OK5}, {.reply = OK5});
    static char big[100000];
    struct source_mem m = source_mem("body", 4),
                      b = source_mem(memset(big, 'b', sizeof(big)), sizeof(big));
    g.req.method = "PUT";
    g.req.body = &m.base;
    CHECK_INT(go(&g), 0);
    CHECK_INT(g.res.status, 412);
    g.req.body = &b.base;
    CHECK_INT(go(&g), 0);
    CHECK(!g.res.resent);
    CHECK_INT(g.f.connections, 2);
    CHECK(strncmp(g.f.requests[1].data, "PUT ", 4) == 0 &&
          !strcasestr(g.f.requests[1].data, "expect:"));
    CHECK(strstr(g.f.requests[1].data, "\r\n\r\nbbbbbb") != NULL);
    CHECK(g.f.requests[1].len > sizeof(big));
    g.req.method = "POST"; /* and the one after: no trace of the first body */
    g.req.body = NULL;
    CHECK_INT(go(&g), 0);
    CHECK(strcasestr(g.f.requests[2].data, "\r\ncontent-length: 0\r\n") != NULL);
    CHECK(!strcasestr(g.f.requests[2].data, "content-type:"));
    CHECK_INT(g.f.connections, 2);
    rig_stop(&g);
}

static void test_no_reply(void)
{
    RIG(g, {.then = FAKE_CLOSE}, {.then = FAKE_CLOSE});
    struct source_mem m = source_mem("body", 4);
    CHECK_INT(go(&g), -EIO);
    CHECK_INT(g.op.err.retry, ERR_RETRY_SAFE);
    g.req.method = "PUT";
    g.req.body = &m.base;
    CHECK_INT(go(&g), -EIO);
    CHECK_INT(g.op.err.retry, ERR_RETRY_UNKNOWN);
    rig_stop(&g);
}

static void test_short_body(void)
{
    char to[64];
    RIG(g, {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", .then = FAKE_CLOSE});
    g.req.to = (struct iovec){to, sizeof(to)};
    CHECK_INT(go(&g), -EIO);
    CHECK_INT(g.op.err.retry, ERR_RETRY_SAFE);
    rig_stop(&g);
}

static int seen;
static int count_data(void *arg, size_t so_far)
{
    (void)so_far;
    seen++;
    return arg != NULL;
}

static void test_into_memory(void)
{
    char to[5];
    RIG(g, {.reply = OK5}, {.reply = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone"},
        {.reply = OK5}, {.reply = OK5}, {.reply = OK5});
    g.req.to = (struct iovec){to, sizeof(to)};
    g.req.on_data = count_data;
    CHECK_INT(go(&g), 0);
    CHECK(g.res.to_len == 5 && memcmp(to, "hello", 5) == 0 && g.res.body.len == 0 && seen > 0);
    seen = 0;
    CHECK_INT(go(&g), 0);
    CHECK(g.res.to_len == 0 && seen == 0);
    CHECK_STR(buf_str(&g.res.body), "gone");
    g.req.to.iov_len = 4;
    CHECK_INT(go(&g), -EMSGSIZE);
    g.req.to.iov_len = 5;
    g.req.on_data_arg = &g;
    CHECK_INT(go(&g), -EINTR);
    g.req.to.iov_base = NULL;
    g.req.body_max = 4;
    CHECK_INT(go(&g), -EMSGSIZE);
    rig_stop(&g);
}

static int refuse(void *arg, const struct http_res *res)
{
    CHECK_STR(http_headers_get(&res->headers, "x-name"), "v");
    return err_set(&((struct op *)arg)->err, ESTALE, "not that one");
}

static void test_on_reply(void)
{
    char to[5] = "....";
    RIG(g, {.reply = "HTTP/1.1 100 Continue\r\n\r\n" OK5});
    seen = 0;
    g.req.to = (struct iovec){to, sizeof(to)};
    g.req.on_data = count_data;
    g.req.on_reply = refuse;
    g.req.on_reply_arg = &g.op;
    CHECK_INT(go(&g), -ESTALE);
    CHECK_STR(g.op.err.text, "not that one");
    CHECK(seen == 0 && to[0] == '.');
    rig_stop(&g);
}

static void test_redirect_stays(void)
{
    RIG(g, {.reply = "HTTP/1.1 307 Temporary Redirect\r\nLocation: "
                     "http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"});
    CHECK_INT(go(&g), 0);
    CHECK_INT(g.res.status, 307);
    CHECK_INT(g.f.n_requests, 1);
    rig_stop(&g);
}

static void *cancel_soon(void *arg)
{
    clock_sleep_ms(50);
    op_cancel(arg);
    return NULL;
}

static void test_cancel(void)
{
    RIG_OF(g, 600, {.then = FAKE_HANG});
    pthread_t t;
    CHECK_INT(pthread_create(&t, NULL, cancel_soon, &g.op), 0);
    CHECK_INT(go(&g), -EINTR);
    CHECK_INT(pthread_join(t, NULL), 0);
    rig_stop(&g);
}

static void test_deadline(void)
{
    RIG_OF(g, 600, {.then = FAKE_HANG});
    op_init(&g.op, "t", 150);
    CHECK_INT(go(&g), -ETIMEDOUT);
    CHECK_INT(g.op.err.retry, ERR_RETRY_SAFE);
    rig_stop(&g);
}

static void test_stall(void)
{
    RIG(g, {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", .then = FAKE_HANG});
    uint64_t begun = clock_now_ns();
    CHECK_INT(go(&g), -ETIMEDOUT);
    uint64_t ms = (clock_now_ns() - begun) / NS_PER_MS;
    CHECK(ms >= 1000);
    CHECK(strstr(g.op.err.text, "127.0.0.1") != NULL);
    rig_stop(&g);
}

static void test_headers(void)
{
    struct http_headers h = {0};
    struct buf big = BUF_INIT;
    RIG(g, {.reply = OK5}, {.reply = NULL, .then = FAKE_CLOSE});
    http_headers_add(&h, "X-Empty", "");
    http_headers_add(&h, "Range", "bytes=0-4");
    g.req.headers = &h;
    CHECK_INT(go(&g), 0);
    CHECK(strstr(g.f.requests[0].data, "\r\nrange: bytes=0-4\r\n") != NULL);
    CHECK(strstr(g.f.requests[0].data, "\r\nx-empty:\r\n") != NULL);
    http_headers_add(&h, "x-evil", "a\r\nHost: other");
    CHECK_INT(go(&g), -EINVAL);
    CHECK_INT(g.f.n_requests, 1);
    http_headers_done(&h);
    rig_stop(&g);
    buf_adds(&big, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 700; i++)
        buf_addf(&big, "X-%d: %0100d\r\n", i, i);
    buf_adds(&big, "Content-Length: 0\r\n\r\n");
    struct fake_step step = {.reply = big.data};
    rig_start(&g, &step, 1, 1);
    CHECK_INT(go(&g), -EIO);
    CHECK(strstr(g.op.err.text, "64 KiB of headers") != NULL);
    rig_stop(&g);
    buf_done(&big);
}

static void *second(void *arg)
{
    struct rig *g = arg;
    struct http_res res = HTTP_RES_INIT;
    struct op op;
    op_init(&op, "t", 0);
    CHECK_INT(http_do(g->c, &op, &g->req, &res), 0);
    http_res_done(&res);
    return NULL;
}

/* One connection, several threads: they take turns. */
static void test_pool(void)
{
    static struct fake_step steps[20];
    struct rig g;
    pthread_t t[4];
    for (int i = 0; i < 20; i++)
        steps[i].reply = OK5;
    rig_start(&g, steps, 20, 60);
    for (int i = 0; i < 4; i++)
        CHECK_INT(pthread_create(&t[i], NULL, second, &g), 0);
    for (int i = 0; i < 4; i++)
        CHECK_INT(pthread_join(t[i], NULL), 0);
    CHECK_INT(g.f.connections, 1);
    CHECK_INT(g.f.n_requests, 4);
    rig_stop(&g);
}

static void test_unreachable(void)
{
    RIG(g, {.reply = OK5});
    g.req.url = "http://127.0.0.1:1/";
    CHECK_INT(go(&g), -EHOSTUNREACH);
    CHECK_INT(g.op.err.retry, ERR_RETRY_SAFE);
    g.req.url = "ftp://127.0.0.1/";
    CHECK_INT(go(&g), -EINVAL);
    rig_stop(&g);
}

int main(void)
{
    RUN(test_reuse);
    RUN(test_dropped_reuse);
    RUN(test_refused_upload);
    RUN(test_no_reply);
    RUN(test_short_body);
    RUN(test_into_memory);
    RUN(test_on_reply);
    RUN(test_redirect_stays);
    RUN(test_cancel);
    RUN(test_deadline);
    RUN(test_stall);
    RUN(test_headers);
    RUN(test_pool);
    RUN(test_unreachable);
    return t_done();
}

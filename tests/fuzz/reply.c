/* SPDX-License-Identifier: MIT
 * reply.c: see reply.h. */
#include "tests/fuzz/reply.h"

#include "backends/http.h"
#include "base/lock.h"
#include "tests/fuzz/drive.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define END_OF_REPLY 0x1e
#define BODY_MAX ((size_t)16 << 20)

/* ---- the server ---- */

static struct {
    pthread_mutex_t lock; /* spools read in threads of their own */
    const uint8_t *at, *end;
} script = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct reply {
    const char *at, *end;
};

static bool next_reply(struct reply *ret)
{
    pthread_mutex_lock(&script.lock);
    bool any = script.at < script.end;
    const uint8_t *stop = any ? memchr(script.at, END_OF_REPLY, (size_t)(script.end - script.at)) : NULL;
    stop = stop ? stop : script.end;
    *ret = (struct reply){(const char *)script.at, (const char *)stop};
    script.at = stop < script.end ? stop + 1 : script.end;
    pthread_mutex_unlock(&script.lock);
    return any;
}

static char *take_line(struct reply *r)
{
    const char *nl = memchr(r->at, '\n', (size_t)(r->end - r->at));
    const char *stop = nl ? nl : r->end;
    char *line = xstrndup(r->at, (size_t)(stop - r->at));
    r->at = nl ? nl + 1 : r->end;
    line[strcspn(line, "\r")] = '\0';
    return line;
}

static void take_headers(struct reply *r, struct http_headers *h)
{
    while (r->at < r->end) {
        CLEANUP_FREE char *line = take_line(r);
        char *colon = strchr(line, ':');
        if (!*line)
            return;
        if (!colon || colon == line)
            continue;
        *colon = '\0';
        for (char *p = line; *p; p++)
            *p = (char)tolower((unsigned char)*p);
        http_headers_add(h, line, colon + 1 + strspn(colon + 1, " \t"));
    }
}

static int lost(struct op *op, const char *why)
{
    int r = err_set(&op->err, EIO, "fuzz: %s", why);
    op->err.retry = ERR_RETRY_NEVER;
    return r;
}

/* What http.h says of lengths: a body is whole or an error. */
static bool is_whole(const struct http_req *req, const struct http_headers *h, size_t len)
{
    const char *told = http_headers_get(h, "content-length");
    return !told || strcmp(req->method, "HEAD") == 0 || strtoull(told, NULL, 10) == len;
}

static int give_to_sink(const struct http_req *req, const struct reply *r)
{
    for (const char *p = r->at; p < r->end;) {
        size_t n = (size_t)(r->end - p) < 700 ? (size_t)(r->end - p) : 700;
        int e = req->sink(req->sink_arg, p, n);
        if (e < 0)
            return e;
        p += n;
    }
    return 0;
}

static int give_to_memory(const struct http_req *req, struct op *op, const struct reply *r,
                          struct http_res *ret)
{
    size_t n = (size_t)(r->end - r->at);
    if (n > req->to.iov_len)
        return err_set(&op->err, EMSGSIZE, "fuzz: more than was asked for");
    memcpy(req->to.iov_base, r->at, n);
    ret->to_len = n;
    return req->on_data ? req->on_data(req->on_data_arg, n) : 0;
}

static int give_body(const struct http_req *req, struct op *op, const struct reply *r, struct http_res *ret)
{
    bool good = ret->status / 100 == 2;
    size_t n = (size_t)(r->end - r->at);
    if (strcmp(req->method, "HEAD") == 0)
        return 0;
    if (good && req->sink)
        return give_to_sink(req, r);
    if (good && req->to.iov_base)
        return give_to_memory(req, op, r, ret);
    if (n > (req->body_max ? req->body_max : BODY_MAX))
        return err_set(&op->err, EMSGSIZE, "fuzz: the body is too long");
    buf_add(&ret->body, r->at, n);
    return 0;
}

int __wrap_http_do(struct http_client *c, struct op *op, const struct http_req *req, struct http_res *ret);
int __wrap_http_do(struct http_client *c, struct op *op, const struct http_req *req, struct http_res *ret)
{
    struct reply r;
    (void)c;
    lock_assert_none_held();
    *ret = HTTP_RES_INIT;
    int e = op_check(op);
    if (e < 0)
        return e;
    if (!next_reply(&r))
        return lost(op, "no more replies");
    CLEANUP_FREE char *status = take_line(&r);
    ret->status = (int)(strtoul(status, NULL, 10) % 1000);
    if (ret->status < 100)
        return lost(op, "the connection is lost");
    take_headers(&r, &ret->headers);
    e = req->on_reply ? req->on_reply(req->on_reply_arg, ret) : 0;
    if (e == 0)
        e = give_body(req, op, &r, ret);
    if (e == 0 && !is_whole(req, &ret->headers, (size_t)(r.end - r.at)))
        e = lost(op, "a short body");
    if (e < 0)
        http_res_done(ret);
    return e;
}

int __wrap_http_client_new(const struct http_options *o, struct err *err, struct http_client **ret);
int __wrap_http_client_new(const struct http_options *o, struct err *err, struct http_client **ret)
{
    static char nobody;
    (void)o;
    (void)err;
    *ret = (struct http_client *)(void *)&nobody;
    return 0;
}

void __wrap_http_client_free(struct http_client *c);
void __wrap_http_client_free(struct http_client *c)
{
    (void)c;
}

int __wrap_op_sleep(struct op *op, unsigned ms);
int __wrap_op_sleep(struct op *op, unsigned ms)
{
    (void)ms;
    return op_check(op);
}

int reply_fuzz(const struct reply_case *rc, const uint8_t *data, size_t size)
{
    const uint8_t *nl = size ? memchr(data, '\n', size) : NULL;
    if (!nl || nl - data > DRIVE_MAX || data[0] < '0' || (size_t)(data[0] - '0') >= rc->n_configs)
        return -1;
    struct store *s = drive_open(rc->cls, rc->configs[data[0] - '0']);
    script.at = nl + 1;
    script.end = data + size;
    drive(s, (const char *)data + 1, (size_t)(nl - data - 1));
    store_close(s);
    return 0;
}

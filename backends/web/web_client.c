/* SPDX-License-Identifier: MIT
 * web_client.c: see web_client.h. */
#include "backends/web/web_client.h"

#include "base/cleanup.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CONNECTIONS 16 /* max_connections, when it is not given */

/* ---- opening ---- */

static int take_root(const struct conf_section *c, const char *option, const char *url,
                     struct err *err, struct web *w)
{
    struct web_ref r = WEB_REF_INIT;
    if (!url || !*url)
        return conf_error(c, NULL, err, EINVAL, "backend needs '%s = https://HOST/...'", option);
    if (!web_ref_parse(url, &r) || r.query || strchr(url, '#')) {
        web_ref_done(&r);
        return conf_error(c, option, err, EINVAL,
                          "'%s' must be http(s)://HOST[:PORT][/PATH], without user, password and "
                          "query (see username, password_file, bearer_token_file)",
                          option);
    }
    size_t n = strlen(r.path);
    if (r.path[n - 1] != '/') {
        char *path = xasprintf("%s/", r.path);
        free(r.path);
        r.path = path;
    }
    w->root = r;
    return 0;
}

static bool crosses_in_the_clear(const struct web *w)
{
    return strncmp(w->root.origin, "http:", 5) == 0 && !http_host_is_loopback(w->root.origin + 7);
}

void web_add_credential(struct web *w, const char *name, const char *value)
{
    if (crosses_in_the_clear(w) && w->credentials.n == 0)
        log_warn("http",
                 "%s: the credentials are sent unencrypted; anyone on the way can read them",
                 w->root.origin);
    http_headers_add(&w->credentials, name, value);
}

static bool is_header_value(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    return true;
}

static int take_credentials(const struct conf_section *c, struct err *err, struct web *w)
{
    const char *user = conf_str(c, "username", NULL);
    char *password = NULL, *token = NULL;
    int r = conf_secret(c, "password", err, &password);
    if (r == 0 || r == -ENOENT)
        r = conf_secret(c, "bearer_token", err, &token);
    if (r == -ENOENT)
        r = 0;
    if (r == 0 && token && (user || password))
        r = conf_error(c, "username", err, EINVAL,
                       "'bearer_token' and 'username' exclude each other");
    if (r == 0 && password && !user)
        r = conf_error(c, NULL, err, EINVAL, "'password' needs 'username'");
    if (r == 0 && user && (strchr(user, ':') || !is_header_value(user)))
        r = conf_error(c, "username", err, EINVAL, "'username' has a ':' or control bytes");
    if (r == 0 && token && !is_header_value(token))
        r = conf_error(c, NULL, err, EINVAL, "'bearer_token' has control bytes");
    CLEANUP_BUF struct buf value = BUF_INIT, plain = BUF_INIT;
    if (r == 0 && token)
        buf_addf(&value, "Bearer %s", token);
    if (r == 0 && user) {
        buf_addf(&plain, "%s:%s", user, password ? password : "");
        buf_adds(&value, "Basic ");
        base64_add(&value, plain.data, plain.len);
        explicit_bzero(plain.data, plain.len);
    }
    if (value.len) {
        web_add_credential(w, "authorization", value.data);
        explicit_bzero(value.data, value.len);
    }
    secret_free(password);
    secret_free(token);
    return r;
}

int web_open(const struct conf_section *c, const char *option, const char *url, struct err *err,
             struct web *ret)
{
    struct web w = {.max_redirects = (unsigned)conf_int(c, "max_redirects", 5)};
    int r = take_root(c, option, url, err, &w);
    if (r == 0)
        r = take_credentials(c, err, &w);
    if (r == 0)
        r = http_client_of(c, CONNECTIONS, err, &w.http);
    if (r < 0)
        web_close(&w);
    else
        *ret = w;
    return r;
}

void web_close(struct web *w)
{
    http_client_free(w->http);
    for (size_t i = 0; i < w->credentials.n; i++)
        explicit_bzero(w->credentials.v[i].value, strlen(w->credentials.v[i].value));
    http_headers_done(&w->credentials);
    http_headers_done(&w->always);
    web_ref_done(&w->root);
    *w = (struct web){0};
}

/* ---- places ---- */

struct web_ref web_ref_of_key(const struct web *w, const char *key, bool dir)
{
    struct buf b = BUF_INIT;
    buf_adds(&b, w->root.path);
    url_encode(&b, key, strlen(key), true);
    if (dir && *key)
        buf_addc(&b, '/');
    return (struct web_ref){.origin = xstrdup(w->root.origin), .path = buf_take(&b)};
}

char *web_ref_text(const struct web_ref *r)
{
    return xasprintf("%s%.500s", r->origin, r->path);
}

bool web_reply_length(const struct http_res *res, uint64_t *ret)
{
    const char *v = http_headers_get(&res->headers, "content-length");
    char *end;
    if (!v || *v < '0' || *v > '9')
        return false;
    errno = 0;
    *ret = strtoull(v, &end, 10);
    return errno == 0 && *end == '\0' && *ret <= INT64_MAX;
}

/* ---- errors ---- */

static const struct {
    int status, err;
    enum err_retry retry;
    const char *text;
} by_status[] = {
    {401, EACCES, ERR_RETRY_NEVER, "401 Unauthorized: set username and password_file, or a token"},
    {403, EACCES, ERR_RETRY_NEVER, "403 Forbidden"},
    {404, ENOENT, ERR_RETRY_NEVER, "404 Not Found"},
    {405, ENOTSUP, ERR_RETRY_NEVER, "405 Method Not Allowed"},
    {407, EACCES, ERR_RETRY_NEVER, "407: the proxy wants credentials"},
    {408, EIO, ERR_RETRY_SAFE, "408 Request Timeout"},
    {410, ENOENT, ERR_RETRY_NEVER, "410 Gone"},
    {412, ESTALE, ERR_RETRY_NEVER, "412 Precondition Failed: the file has changed"},
    {414, ENAMETOOLONG, ERR_RETRY_NEVER, "414 URI Too Long"},
    {416, EINVAL, ERR_RETRY_NEVER, "416 Range Not Satisfiable"},
    {429, EBUSY, ERR_RETRY_SAFE, "429 Too Many Requests"},
    {451, EACCES, ERR_RETRY_NEVER, "451 Unavailable For Legal Reasons"},
    {501, ENOTSUP, ERR_RETRY_NEVER, "501 Not Implemented"},
    {503, EBUSY, ERR_RETRY_SAFE, "503 Service Unavailable"},
};

int web_error(struct op *op, const char *verb, const struct web_ref *at, const struct http_res *res)
{
    CLEANUP_FREE char *url = web_ref_text(at);
    int code = EIO;
    enum err_retry retry = res->status >= 500 ? ERR_RETRY_SAFE : ERR_RETRY_NEVER;
    const char *text = NULL;
    for (size_t i = 0; i < ARRAY_LEN(by_status); i++)
        if (by_status[i].status == res->status) {
            code = by_status[i].err;
            retry = by_status[i].retry;
            text = by_status[i].text;
        }
    int r = text ? err_set(&op->err, code, "%s %s: the server answered %s", verb, url, text)
                 : err_set(&op->err, code, "%s %s: the server answered %d", verb, url, res->status);
    op->err.retry = retry;
    op->err.status = res->status;
    op->err.retry_after_ms = http_retry_after_ms(&res->headers);
    return r;
}

/* ---- one request ---- */

static void add_headers(const struct web *w, const struct web_req *q, const struct web_ref *at,
                        struct http_headers *h)
{
    http_headers_add(h, "accept-encoding", "identity");
    for (size_t i = 0; i < w->always.n; i++)
        http_headers_add(h, w->always.v[i].name, w->always.v[i].value);
    for (size_t i = 0; i < q->headers.n; i++)
        http_headers_add(h, q->headers.v[i].name, q->headers.v[i].value);
    if (!web_same_origin(&w->root, at))
        return;
    for (size_t i = 0; i < w->credentials.n; i++)
        http_headers_add(h, w->credentials.v[i].name, w->credentials.v[i].value);
}

static bool is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static int send_one(struct web *w, struct op *op, const struct web_req *q, const struct web_ref *at,
                    struct http_res *ret)
{
    CLEANUP_FREE char *url = web_ref_url(at);
    struct http_headers h = {0};
    add_headers(w, q, at, &h);
    struct http_req req = {.method = q->method,
                           .url = url,
                           .headers = &h,
                           .to = q->to,
                           .on_data = q->on_data,
                           .on_data_arg = q->on_data_arg,
                           .sink = q->sink,
                           .sink_arg = q->sink_arg,
                           .body_max = q->body_max,
                           .on_reply = q->on_reply,
                           .on_reply_arg = q->on_reply_arg};
    int r = w->before ? w->before(w->around_arg, op) : 0;
    if (r == 0)
        r = http_do(w->http, op, &req, ret);
    if (r == 0 && w->after)
        w->after(w->around_arg, ret);
    http_headers_done(&h);
    if (r < 0 && op->err.text[0]) {
        CLEANUP_FREE char *text = web_ref_text(at);
        (void)err_prefix(&op->err, "%s %s", q->verb, text);
    }
    return r;
}

/* Where a 3xx leads: *ret is the next place. */
static int redirect(struct op *op, const struct web_req *q, const struct web_ref *at,
                    const struct http_res *res, struct web_ref *ret)
{
    CLEANUP_FREE char *url = web_ref_text(at);
    const char *location = http_headers_get(&res->headers, "location");
    if (!location || !web_ref_resolve(at, location, ret))
        return err_set(&op->err, EIO, "%s %s: redirected (%d) to what is no http(s) URL", q->verb, url,
                       res->status);
    const char *why = web_redirect_refused(at, ret);
    if (!why)
        return 0;
    CLEANUP_FREE char *to = web_ref_text(ret);
    web_ref_done(ret);
    return err_set(&op->err, EIO, "%s %s: redirected to %s: refused, as it leads %s", q->verb, url, to,
                   why);
}

static void ref_copy(struct web_ref *to, const struct web_ref *from)
{
    *to = (struct web_ref){.origin = xstrdup(from->origin),
                           .path = xstrdup(from->path),
                           .query = from->query ? xstrdup(from->query) : NULL};
}

static bool is_answer(const struct web_req *q, int status)
{
    return status / 100 == 2 || (status == 304 && q->take_304) || (status == 416 && q->take_416);
}

/* 0: answered; 1: *at is the next place; -errno. */
static int step(struct web *w, struct op *op, const struct web_req *q, struct web_ref *at,
                struct web_res *ret)
{
    CLEANUP_REF struct web_ref next = WEB_REF_INIT;
    int r = send_one(w, op, q, at, &ret->http);
    if (r < 0 || is_answer(q, ret->http.status))
        return r;
    if (is_redirect(ret->http.status)) {
        r = redirect(op, q, at, &ret->http, &next);
        ret->dir = r == 0 && q->stop_at_dir && web_is_dir_of(at, &next);
        if (r < 0 || ret->dir)
            return r;
        http_res_done(&ret->http);
        struct web_ref old = *at;
        *at = next;
        next = old;
        return 1;
    }
    return web_error(op, q->verb, at, &ret->http);
}

int web_do(struct web *w, struct op *op, struct web_req *req, struct web_res *ret)
{
    CLEANUP_REF struct web_ref at = WEB_REF_INIT;
    struct web_res res = WEB_RES_INIT;
    ref_copy(&at, req->at);
    int r = 1;
    for (unsigned n = 0; r == 1; n++) {
        r = step(w, op, req, &at, &res);
        if (r == 1 && n >= w->max_redirects) {
            CLEANUP_FREE char *url = web_ref_text(req->at);
            r = err_set(&op->err, EIO, "%s %s: more than %u redirects in a row", req->verb, url,
                        w->max_redirects);
        }
    }
    if (r < 0) {
        web_res_done(&res);
        return r;
    }
    res.from = at;
    at = WEB_REF_INIT;
    *ret = res;
    return 0;
}

void web_req_done(struct web_req *r)
{
    http_headers_done(&r->headers);
}

void web_res_done(struct web_res *r)
{
    http_res_done(&r->http);
    web_ref_done(&r->from);
    *r = WEB_RES_INIT;
}

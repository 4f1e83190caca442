/* SPDX-License-Identifier: MIT
 * azure_request.c: one request from its parts to its errno: URL, signature or SAS, send. */
#include "backends/azure/azure.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/name.h"
#include "base/url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void azure_req_param(struct azure_req *r, const char *name, const char *value)
{
    if (r->n_query < AZURE_MAX_PARAMS)
        r->query[r->n_query++] = (struct sign_s3_param){name, value};
}

void azure_req_precond(struct azure_req *r, const struct precond *pre)
{
    char etag[ATTR_VERSION_MAX + 2];
    if (!pre || (!pre->if_match && !pre->if_absent))
        return;
    r->once = true;
    if (pre->if_absent) {
        http_headers_add(&r->headers, "if-none-match", "*");
    } else {
        flat_etag_of_version(pre->if_match, etag);
        http_headers_add(&r->headers, "if-match", etag);
    }
}

bool azure_can_hold(const char *name)
{
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return xml_can_hold(name);
}

/* Names that the service cannot hold or would take for others: of a segment it drops dots at its end (and "."
 * and ".." vanish from URLs on their way), '\\' becomes '/', control bytes are refused, and its listings are
 * XML. */
static int check_name(const struct azure_store *s, struct op *op, const struct azure_req *r)
{
    const char *p = r->object;
    bool bad = p && (!azure_can_hold(p) || strchr(p, '\\'));
    while (p && !bad) {
        size_t n = strcspn(p, "/");
        bad = n > 0 && p[n - 1] == '.';
        p = p[n] ? p + n + 1 : NULL;
    }
    return bad ? err_set(&op->err, EINVAL, "%s %s/%.300s: the service cannot hold this name", r->op,
                         s->view.uri, r->object)
               : 0;
}

void azure_path(const struct azure_store *s, const char *object, struct buf *ret)
{
    buf_addf(ret, "%s/", s->endpoint.root);
    url_encode(ret, s->container, strlen(s->container), false);
    if (!object)
        return;
    buf_addc(ret, '/');
    url_encode(ret, object, strlen(object), true);
}

void azure_source_url(const struct azure_store *s, const char *object, struct buf *ret)
{
    buf_addf(ret, "%s://%s", s->endpoint.scheme, s->endpoint.host);
    azure_path(s, object, ret);
    if (s->creds.sas)
        buf_addf(ret, "?%s", s->creds.sas);
}

struct sending {
    const struct azure_store *s;
    const struct azure_req *r;
    struct buf path;
};

/* http_do calls this when a connection is free: the date is that of sending. */
static int sign_now(void *arg, struct http_headers *h)
{
    struct sending *g = arg;
    if (!g->s->creds.key)
        return 0;
    struct sign_azure_req q = {.method = g->r->method,
                               .account = g->s->creds.account,
                               .path = g->path.data,
                               .query = g->r->query,
                               .n_query = g->r->n_query,
                               .length = g->r->body ? g->r->body->size : 0,
                               .now = clock_wall().tv_sec};
    sign_azure_headers(&q, g->s->creds.key, g->s->creds.key_len, h);
    return 0;
}

static void build_url(const struct azure_store *s, const struct azure_req *r, const char *path,
                      struct buf *url)
{
    buf_addf(url, "%s://%s%s", s->endpoint.scheme, s->endpoint.host, path);
    if (r->n_query) {
        buf_addc(url, '?');
        sign_s3_query(url, r->query, r->n_query);
    }
    if (s->creds.sas)
        buf_addf(url, "%c%s", r->n_query ? '&' : '?', s->creds.sas);
}

static int send_request(struct azure_store *s, struct op *op, struct azure_req *r, struct http_res *ret)
{
    CLEANUP_BUF struct buf url = BUF_INIT;
    struct sending g = {.s = s, .r = r};
    azure_path(s, r->object, &g.path);
    build_url(s, r, g.path.data, &url);
    http_headers_add(&r->headers, "x-ms-version", AZURE_VERSION);
    struct http_req q = {.method = r->method,
                         .url = url.data,
                         .headers = &r->headers,
                         .body = r->body,
                         .to = r->to,
                         .on_data = r->on_data,
                         .on_data_arg = r->on_data_arg,
                         .on_reply = r->on_reply,
                         .on_reply_arg = r->on_reply_arg,
                         .stall_s = r->stall_s,
                         .sign = sign_now,
                         .sign_arg = &g};
    int rc = http_do(s->http, op, &q, ret);
    buf_done(&g.path);
    return rc;
}

int azure_do(struct azure_store *s, struct op *op, struct azure_req *r, struct http_res *ret)
{
    struct http_res res = HTTP_RES_INIT;
    int rc = check_name(s, op, r);
    if (rc == 0) {
        rc = send_request(s, op, r, &res);
        if (rc < 0)
            (void)err_prefix(&op->err, "%s %s/%.300s", r->op, s->view.uri, r->object ? r->object : "");
    }
    http_headers_done(&r->headers);
    if (rc < 0)
        return rc;
    if (res.status / 100 == 2) {
        *ret = res;
        return 0;
    }
    rc = azure_error_set(s, op, r, &res);
    rc = flat_resent_result(op, r->op, r->method, &res, rc == -ESTALE, rc);
    http_res_done(&res);
    return rc;
}

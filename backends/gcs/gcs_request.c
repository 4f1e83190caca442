/* SPDX-License-Identifier: MIT
 * gcs_request.c: one request from its parts to its errno: URL, access token, send. A token that is refused
 * is renewed and the request sent once more; that is not a retry (the same again), which wrappers do. */
#include "backends/gcs/gcs.h"

#include "base/cleanup.h"
#include "base/url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void gcs_req_param(struct gcs_req *r, const char *name, const char *value)
{
    if (r->n_query < GCS_MAX_PARAMS)
        r->query[r->n_query++] = (struct sign_s3_param){name, value};
}

bool gcs_is_generation(const char *version)
{
    size_t n = strlen(version);
    return n > 0 && n < 20 && version[0] != '0' && strspn(version, "0123456789") == n;
}

int gcs_req_precond(struct gcs_req *r, struct op *op, const struct precond *pre)
{
    if (!pre || (!pre->if_match && !pre->if_absent))
        return 0;
    if (pre->if_match && !gcs_is_generation(pre->if_match))
        return err_set(&op->err, ESTALE, "'%.40s' is not a version of an object here", pre->if_match);
    r->once = true;
    gcs_req_param(r, "ifGenerationMatch", pre->if_absent ? "0" : pre->if_match);
    return 0;
}

/* Names that the service cannot hold: said here, as a request might mean something else. */
static int check_name(const struct gcs_store *s, struct op *op, const struct gcs_req *r)
{
    if (!r->object)
        return 0;
    json_t *utf8 = json_string(r->object);
    bool bad = !utf8 || strpbrk(r->object, "\r\n") || strcmp(r->object, ".") == 0 ||
               strcmp(r->object, "..") == 0 || strncmp(r->object, ".well-known/acme-challenge/", 27) == 0;
    json_decref(utf8);
    return bad ? err_set(&op->err, EINVAL, "%s %s/%.300s: the service cannot hold this name", r->op,
                         s->view.uri, r->object)
               : 0;
}

void gcs_path(const struct gcs_store *s, const struct gcs_req *r, struct buf *ret)
{
    buf_addf(ret, "%s%s/storage/v1/b/", s->endpoint.root, r->upload ? "/upload" : "");
    const char *bucket = r->in ? r->in : s->bucket;
    url_encode(ret, bucket, strlen(bucket), false);
    if (!r->bucket)
        buf_adds(ret, "/o");
    if (r->object && !r->upload) {
        buf_addc(ret, '/');
        url_encode(ret, r->object, strlen(r->object), false);
    }
    if (r->suffix)
        buf_adds(ret, r->suffix);
}

static void build_url(struct gcs_store *s, struct gcs_req *r, struct buf *url)
{
    struct sign_s3_param query[GCS_MAX_PARAMS + 1];
    size_t n = r->n_query;
    memcpy(query, r->query, n * sizeof(*query));
    if (s->user_project)
        query[n++] = (struct sign_s3_param){"userProject", s->user_project};
    buf_addf(url, "%s://%s", s->endpoint.scheme, s->endpoint.host);
    gcs_path(s, r, url);
    if (n) {
        buf_addc(url, '?');
        sign_s3_query(url, query, n);
    }
}

static int send_once(struct gcs_store *s, struct op *op, const struct gcs_req *r, const char *url,
                     const char *token, struct http_res *ret)
{
    struct http_headers h = {0};
    for (size_t i = 0; i < r->headers.n; i++)
        http_headers_add(&h, r->headers.v[i].name, r->headers.v[i].value);
    if (token)
        http_headers_addf(&h, "authorization", "Bearer %s", token);
    struct http_req q = {.method = r->method,
                         .url = url,
                         .headers = &h,
                         .body = r->body,
                         .to = r->to,
                         .on_data = r->on_data,
                         .on_data_arg = r->on_data_arg,
                         .on_reply = r->on_reply,
                         .on_reply_arg = r->on_reply_arg,
                         .stall_s = r->stall_s};
    int rc = http_do(s->http, op, &q, ret);
    http_headers_done(&h);
    return rc;
}

/* What came is not 2xx. 0: ask again, with another token. */
static int judge(struct gcs_store *s, struct op *op, const struct gcs_req *r, const char *token, bool first,
                 const struct http_res *res)
{
    if (res->status == 401 && first && gcs_token_refused(s->tokens, token))
        return 0;
    int rc = gcs_error_set(s, op, r, res);
    return flat_resent_result(op, r->op, r->method, res, res->status == 412, rc);
}

static int attempt(struct gcs_store *s, struct op *op, const struct gcs_req *r, const char *url, bool first,
                   struct http_res *ret, bool *ret_done)
{
    char *token = NULL;
    struct http_res res = HTTP_RES_INIT;
    int rc = gcs_token(s->tokens, op, &token);
    if (rc == 0)
        rc = send_once(s, op, r, url, token, &res);
    if (rc < 0) {
        (void)err_prefix(&op->err, "%s %s/%.300s", r->op, s->view.uri, r->object ? r->object : "");
    } else if (res.status / 100 == 2) {
        *ret = res;
        *ret_done = true;
    } else {
        rc = judge(s, op, r, token, first, &res);
        http_res_done(&res);
    }
    secret_free(token);
    return rc;
}

int gcs_do(struct gcs_store *s, struct op *op, struct gcs_req *r, struct http_res *ret)
{
    CLEANUP_BUF struct buf url = BUF_INIT;
    bool done = false;
    int rc = check_name(s, op, r);
    build_url(s, r, &url);
    for (int i = 0; rc == 0 && !done; i++)
        rc = attempt(s, op, r, url.data, i == 0, ret, &done);
    http_headers_done(&r->headers);
    return rc;
}

int gcs_do_json(struct gcs_store *s, struct op *op, struct gcs_req *r, json_t *body, json_t **ret)
{
    struct http_res res = HTTP_RES_INIT;
    CLEANUP_FREE char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct source_mem src = source_mem(text ? text : "", text ? strlen(text) : 0);
    json_decref(body);
    if (text) {
        r->body = &src.base;
        http_headers_add(&r->headers, "content-type", "application/json; charset=UTF-8");
    }
    int rc = gcs_do(s, op, r, &res);
    r->body = NULL;
    if (rc < 0)
        return rc;
    json_t *o = json_loadb(buf_str(&res.body), res.body.len, 0, NULL);
    http_res_done(&res);
    if (!json_is_object(o)) {
        json_decref(o);
        rc = err_set(&op->err, EIO, "%s %s/%.300s: the reply is not a JSON object", r->op, s->view.uri,
                     r->object ? r->object : "");
        op->err.retry = r->once ? ERR_RETRY_UNKNOWN : ERR_RETRY_SAFE;
        return rc;
    }
    *ret = o;
    return 0;
}

/* SPDX-License-Identifier: MIT
 * azure_object.c: stat, read, put, remove, list of one blob or prefix; directories are flat_dir.c's. */
#include "backends/azure/azure.h"

#include "base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const struct flat_meta_rules azure_meta_rules = {
    .head = AZURE_META, .punct = "_", .identifiers = true, .max = AZURE_META_MAX, .title = "Azure"};

static void attr_of_reply(const struct azure_store *s, const struct http_res *res, uint64_t total,
                          struct attr *ret)
{
    struct attr a = {.kind = ATTR_FILE, .size = total};
    const char *etag = http_headers_get(&res->headers, "etag");
    if (etag)
        flat_version_of_etag(etag, a.version);
    flat_reply_times(res, &a);
    flat_meta_read(&res->headers, &azure_meta_rules, s->posix, &a);
    *ret = a;
}

/* ---- looking ---- */

int azure_head(struct azure_store *s, struct op *op, const char *opname, const char *object,
               const char *if_match, struct attr *ret, struct http_headers *ret_all)
{
    struct http_res res = HTTP_RES_INIT;
    struct azure_req r = {.op = opname, .method = "HEAD", .object = object};
    struct precond pre = {.if_match = if_match && *if_match ? if_match : NULL};
    uint64_t size;
    azure_req_precond(&r, &pre);
    int rc = flat_cond_result(op, &pre, azure_do(s, op, &r, &res));
    if (rc < 0)
        return rc;
    if (!flat_reply_length(&res, &size)) {
        http_res_done(&res);
        return err_set(&op->err, EIO, "%s %s/%.300s: the reply has no length", opname, s->view.uri, object);
    }
    attr_of_reply(s, &res, size, ret);
    if (ret_all) {
        *ret_all = res.headers;
        res.headers = (struct http_headers){0};
    }
    http_res_done(&res);
    return 0;
}

static int view_head(struct store *store, struct op *op, const char *opname, const char *object,
                     const char *if_match, struct attr *ret)
{
    int r = azure_head(azure_of(store), op, opname, object, if_match, ret, NULL);
    if (r == -EINVAL && op->err.status == 0) /* a name that cannot be there */
        r = err_set(&op->err, ENOENT, "%s: the service cannot hold the name '%.300s'", opname, object);
    return r;
}

int azure_stat(struct store *store, struct op *op, const char *key, struct attr *ret)
{
    return flat_stat(&azure_of(store)->view, store, op, key, ret);
}

/* ---- reading ---- */

/* Nothing at that offset (416), or nothing asked for. */
static int read_nothing(struct azure_store *s, struct op *op, const char *object,
                        const struct read_req *req, struct read_res *ret)
{
    struct attr a = ATTR_INIT;
    err_clear(&op->err);
    int r = azure_head(s, op, "read", object, req->version, &a, NULL);
    if (r < 0)
        return r;
    if (req->iov.iov_len > 0 && req->offset < a.size) {
        r = err_set(&op->err, EIO, "read %s/%.300s: 416 for offset %" PRIu64 " of %" PRIu64, s->view.uri,
                    object, req->offset, a.size);
        op->err.retry = ERR_RETRY_SAFE; /* replaced between the two requests */
        attr_done(&a);
        return r;
    }
    ret->attr = a;
    return 0;
}

static int read_failed(struct azure_store *s, struct op *op, const char *object,
                       const struct read_req *req, int r, struct read_res *ret)
{
    if (op->err.status == 416)
        return read_nothing(s, op, object, req, ret);
    return r == -EMSGSIZE ? err_set(&op->err, EIO, "read %s/%.300s: more came than was asked for",
                                    s->view.uri, object)
                          : r;
}

/* Azurite answers 206 and nothing where the service says 416, right behind the last byte. */
static int check_reply(void *arg, const struct http_res *res)
{
    struct flat_reading *g = arg;
    uint64_t length;
    if (res->status != 206 || !flat_reply_length(res, &length) || length > 0)
        return flat_check_reply(arg, res);
    g->total = g->req->offset;
    g->expected = 0;
    return 0;
}

int azure_read(struct store *store, struct op *op, const struct read_req *req, struct read_res *ret)
{
    struct azure_store *s = azure_of(store);
    CLEANUP_FREE char *object = flat_object(s->prefix, req->key);
    struct precond pre = {.if_match = req->version && *req->version ? req->version : NULL};
    struct flat_reading g = {.op = op, .req = req, .version_header = "etag"};
    struct http_res res = HTTP_RES_INIT;
    char range[64];
    if (req->iov.iov_len == 0)
        return read_nothing(s, op, object, req, ret);
    struct azure_req r = {.op = "read",
                          .method = "GET",
                          .object = object,
                          .to = req->iov,
                          .on_data = req->on_data,
                          .on_data_arg = req->on_data_arg,
                          .on_reply = check_reply,
                          .on_reply_arg = &g};
    http_range(req->offset, req->iov.iov_len, range);
    http_headers_add(&r.headers, "range", range);
    azure_req_precond(&r, &pre);
    int rc = flat_cond_result(op, &pre, azure_do(s, op, &r, &res));
    if (rc < 0)
        return read_failed(s, op, object, req, rc, ret);
    if (res.to_len != g.expected) {
        rc = err_set(&op->err, EIO, "read %s/%.300s: %zu bytes came of %" PRIu64, s->view.uri, object,
                     res.to_len, g.expected);
        op->err.retry = ERR_RETRY_SAFE;
    } else {
        ret->length = res.to_len;
        attr_of_reply(s, &res, g.total, &ret->attr);
    }
    http_res_done(&res);
    return rc;
}

/* ---- writing ---- */

int azure_meta_headers(const struct azure_store *s, const struct attr *a, bool dir, struct err *err,
                       struct http_headers *h)
{
    struct attr plain = {.kind = ATTR_FILE, .content_type = a ? a->content_type : NULL};
    struct http_headers all = {0};
    int r = flat_meta_write(s->posix ? a : &plain, dir, &azure_meta_rules, err, &all);
    for (size_t i = 0; r == 0 && i < all.n; i++) {
        bool type = strcmp(all.v[i].name, "content-type") == 0;
        http_headers_add(h, type ? "x-ms-blob-content-type" : all.v[i].name, all.v[i].value);
    }
    http_headers_done(&all);
    return r;
}

static int put_blob(struct azure_store *s, struct op *op, const char *opname, const char *object,
                    const struct attr *attr, bool dir, const struct source *src,
                    const struct precond *pre, struct attr *ret)
{
    struct http_res res = HTTP_RES_INIT;
    struct azure_req r = {.op = opname, .method = "PUT", .object = object, .body = src};
    int rc = azure_meta_headers(s, attr, dir, &op->err, &r.headers);
    if (rc < 0) {
        http_headers_done(&r.headers);
        return rc;
    }
    http_headers_add(&r.headers, "x-ms-blob-type", "BlockBlob");
    if (s->tier)
        http_headers_add(&r.headers, "x-ms-access-tier", s->tier);
    azure_req_precond(&r, pre);
    rc = flat_cond_result(op, pre, azure_do(s, op, &r, &res));
    if (rc < 0)
        return rc;
    if (ret)
        flat_attr_written(&res, attr, src->size, http_headers_get(&res.headers, "etag"), s->posix, ret);
    http_res_done(&res);
    return 0;
}

int azure_put(struct store *store, struct op *op, const struct put_req *req, struct attr *ret)
{
    struct azure_store *s = azure_of(store);
    CLEANUP_FREE char *object = flat_object(s->prefix, req->key);
    return put_blob(s, op, "put", object, req->attr, false, req->src, &req->precond, ret);
}

static int view_put_marker(struct store *store, struct op *op, const char *opname, const char *object,
                           const struct attr *attr, struct attr *ret)
{
    struct source_mem empty = source_mem("", 0);
    int r = put_blob(azure_of(store), op, opname, object, attr, true, &empty.base, NULL, ret);
    if (r == 0 && ret)
        flat_make_dir_attr(ret);
    return r;
}

/* ---- removing ---- */

static int view_remove(struct store *store, struct op *op, const char *object, const char *if_match)
{
    struct http_res res = HTTP_RES_INIT;
    struct precond pre = {.if_match = if_match && *if_match ? if_match : NULL};
    struct azure_req r = {.op = "remove", .method = "DELETE", .object = object};
    http_headers_add(&r.headers, "x-ms-delete-snapshots", "include"); /* else a blob that has some stays */
    azure_req_precond(&r, &pre);
    int rc = flat_cond_result(op, &pre, azure_do(azure_of(store), op, &r, &res));
    http_res_done(&res);
    return rc;
}

int azure_remove(struct store *store, struct op *op, const char *key, const char *if_match)
{
    CLEANUP_FREE char *object = flat_object(azure_of(store)->prefix, key);
    return view_remove(store, op, object, if_match);
}

int azure_make_dir(struct store *store, struct op *op, const char *key, const struct attr *attr)
{
    return flat_make_dir(&azure_of(store)->view, store, op, key, attr);
}

int azure_remove_dir(struct store *store, struct op *op, const char *key)
{
    return flat_remove_dir(&azure_of(store)->view, store, op, key);
}

/* ---- listing ---- */

int azure_list_raw(struct azure_store *s, struct op *op, const char *opname, const char *prefix,
                   const struct list_query *q, unsigned max, struct flat_result *ret)
{
    char count[16];
    struct http_res res = HTTP_RES_INIT;
    struct flat_result l = {0};
    struct azure_req r = {.op = opname, .method = "GET"};
    if (!azure_can_hold(prefix)) /* nothing can be there, and the reply would be no XML */
        return 0;
    (void)snprintf(count, sizeof(count), "%u", max);
    azure_req_param(&r, "restype", "container");
    azure_req_param(&r, "comp", "list");
    azure_req_param(&r, "maxresults", count);
    if (*prefix)
        azure_req_param(&r, "prefix", prefix);
    if (s->posix)
        azure_req_param(&r, "include", "metadata");
    if (q && !q->recursive)
        azure_req_param(&r, "delimiter", "/");
    if (q && q->cursor)
        azure_req_param(&r, "marker", q->cursor);
    int rc = azure_do(s, op, &r, &res);
    if (rc < 0)
        return rc;
    rc = azure_xml_list(buf_str(&res.body), res.body.len, &l);
    http_res_done(&res);
    return flat_take_listing(&s->view, op, opname, prefix, q, rc, &l, ret);
}

static int view_list(struct store *store, struct op *op, const char *opname, const char *prefix,
                     const struct list_query *q, unsigned max, struct flat_result *ret)
{
    return azure_list_raw(azure_of(store), op, opname, prefix, q, max, ret);
}

int azure_list(struct store *store, struct op *op, const struct list_query *q, struct list_page *ret)
{
    return flat_list(&azure_of(store)->view, store, op, q, ret);
}

void azure_view_set(struct azure_store *s)
{
    s->view = (struct flat_view){.uri = xasprintf("az://%s", s->container),
                                 .prefix = s->prefix,
                                 .posix = s->posix,
                                 .from_start = true,
                                 .page_max = AZURE_PAGE_MAX,
                                 .rules = &azure_meta_rules,
                                 .list = view_list,
                                 .head = view_head,
                                 .put_marker = view_put_marker,
                                 .remove = view_remove,
                                 .set_meta = azure_set_file_meta};
}

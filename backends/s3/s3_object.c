/* SPDX-License-Identifier: MIT
 * s3_object.c: stat, read, put, remove; directories are flat_dir.c's. */
#include "backends/s3/s3.h"

#include "base/cleanup.h"
#include "base/name.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The version that is to be there, or the kept one that is meant. */
static void add_version(struct s3_req *r, const struct s3_version *v)
{
    char etag[ATTR_VERSION_MAX + 2];
    if (v->id)
        s3_req_param(r, "versionId", v->id);
    if (!v->etag[0])
        return;
    flat_etag_of_version(v->etag, etag);
    http_headers_add(&r->headers, "if-match", etag);
}

/* ---- stat ---- */

int s3_head(struct s3_store *s, struct op *op, const char *opname, const char *object,
            const char *if_match, struct attr *ret, struct http_headers *ret_all)
{
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = opname, .method = "HEAD", .object = object};
    CLEANUP_S3_VERSION struct s3_version v = s3_version(if_match);
    uint64_t size;
    add_version(&r, &v);
    int rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    if (rc < 0)
        return rc == -ENOENT && if_match && *if_match
                   ? err_set(&op->err, ESTALE, "%s is gone", object)
                   : rc;
    if (!flat_reply_length(&res, &size)) {
        http_res_done(&res);
        return err_set(&op->err, EIO, "%s s3://%s/%s: the reply has no length", opname, s->bucket,
                       object);
    }
    s3_attr_from_reply(&res, size, s->posix, ret);
    ret->tags = s3_tags_told(s, &res.headers);
    s3_version_told(&v, ret);
    if (ret_all) {
        *ret_all = res.headers;
        res.headers = (struct http_headers){0};
    }
    http_res_done(&res);
    return 0;
}

int s3_head_file(struct s3_store *s, struct op *op, const char *opname, const char *key,
                 const char *if_match, struct attr *ret, struct http_headers *ret_all)
{
    CLEANUP_FREE char *object = s3_object(s, key);
    struct attr a = ATTR_INIT;
    if (strcmp(key, "/") == 0)
        return err_set(&op->err, ENOENT, "%s: no object has this key", key);
    int r = s3_head(s, op, opname, object, if_match, &a, ret_all);
    if (r < 0)
        return r;
    if (!path_is_unnamed(key) || a.size > 0) {
        *ret = a;
        return 0;
    }
    attr_done(&a);
    if (ret_all)
        http_headers_done(ret_all);
    return err_set(&op->err, ENOENT, "%s s3://%s/%s: a directory's marker", opname, s->bucket, object);
}

int s3_stat(struct store *store, struct op *op, const char *key, struct attr *ret)
{
    struct s3_store *s = s3_of(store);
    if (*key) {
        CLEANUP_FREE char *object = s3_object(s, key);
        int r = s3_head_file(s, op, "stat", key, NULL, ret, NULL);
        /* MinIO on a name that it cannot store ("a//b", ".."): nothing can be there. */
        bool refused = op->err.remote[0] ? strncmp(op->err.remote, "XMinioInvalid", 13) == 0
                                         : !path_is_inside(object);
        if (r == -EINVAL && refused)
            return err_set(&op->err, ENOENT, "stat s3://%s/%s: the server cannot hold this name",
                           s->bucket, object);
        if (r != -ENOENT)
            return r;
        err_clear(&op->err);
    }
    return flat_stat_dir(&s->view, store, op, key, ret, NULL);
}

/* ---- read ---- */

/* Nothing at that offset (416), or nothing asked for: the attributes come from HEAD. */
static int read_nothing(struct s3_store *s, struct op *op, const char *object,
                        const struct read_req *req, struct read_res *ret)
{
    struct read_res got = READ_RES_INIT;
    err_clear(&op->err);
    int r = s3_head(s, op, "read", object, req->version, &got.attr, NULL);
    if (r < 0)
        return r;
    if (req->iov.iov_len > 0 && req->offset < got.attr.size) {
        r = err_set(&op->err, EIO, "read s3://%s/%s: 416 for offset %" PRIu64 " of %" PRIu64,
                    s->bucket, object, req->offset, got.attr.size);
        op->err.retry = ERR_RETRY_SAFE; /* replaced between the two requests */
        read_res_done(&got);
        return r;
    }
    *ret = got;
    return 0;
}

static int read_failed(struct s3_store *s, struct op *op, const char *object,
                       const struct read_req *req, int r, struct read_res *ret)
{
    bool pinned = req->version && *req->version;
    if (op->err.status == 416)
        return read_nothing(s, op, object, req, ret);
    if (r == -ENOENT && pinned) {
        op->err.code = ESTALE;
        return -ESTALE;
    }
    return r == -EMSGSIZE ? err_set(&op->err, EIO, "read s3://%s/%s: more came than was asked for",
                                    s->bucket, object)
                          : r;
}

int s3_read(struct store *store, struct op *op, const struct read_req *req, struct read_res *ret)
{
    struct s3_store *s = s3_of(store);
    CLEANUP_FREE char *object = s3_object(s, req->key);
    if (req->iov.iov_len == 0)
        return read_nothing(s, op, object, req, ret);
    char range[64];
    CLEANUP_S3_VERSION struct s3_version v = s3_version(req->version);
    struct read_req pinned = *req;
    pinned.version = v.etag;
    struct flat_reading g = {.op = op, .req = &pinned, .version_header = "etag"};
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = "read",
                       .method = "GET",
                       .object = object,
                       .to = req->iov,
                       .on_data = req->on_data,
                       .on_data_arg = req->on_data_arg,
                       .on_reply = flat_check_reply,
                       .on_reply_arg = &g};
    http_range(req->offset, req->iov.iov_len, range);
    http_headers_add(&r.headers, "range", range);
    add_version(&r, &v);
    int rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    if (rc < 0)
        return read_failed(s, op, object, req, rc, ret);
    if (res.to_len != g.expected) {
        rc = err_set(&op->err, EIO, "read s3://%s/%s: %zu bytes came of %" PRIu64, s->bucket,
                     object, res.to_len, g.expected);
        op->err.retry = ERR_RETRY_SAFE;
    } else {
        ret->length = res.to_len;
        s3_attr_from_reply(&res, g.total, s->posix, &ret->attr);
        ret->attr.tags = s3_tags_told(s, &res.headers);
        s3_version_told(&v, &ret->attr);
    }
    http_res_done(&res);
    return rc;
}

/* ---- put ---- */

int s3_add_object_headers(struct s3_store *s, struct op *op, const struct attr *attr,
                          struct http_headers *h)
{
    if (s->storage_class)
        http_headers_add(h, "x-amz-storage-class", s->storage_class);
    struct attr plain = {.kind = ATTR_FILE, .content_type = attr ? attr->content_type : NULL};
    return s3_meta_to_headers(s->posix ? attr : &plain, S3_META_OBJECT, &op->err, h);
}

int s3_put(struct store *store, struct op *op, const struct put_req *req, struct attr *ret)
{
    struct s3_store *s = s3_of(store);
    CLEANUP_FREE char *object = s3_object(s, req->key);
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = "put",
                       .method = "PUT",
                       .object = object,
                       .body = req->src,
                       .checksum = S3_CHECKSUM_IF_TAKEN};
    int rc = s3_add_object_headers(s, op, req->attr, &r.headers);
    if (rc == 0)
        rc = s3_add_tags(s, op, object, req->attr, &r.headers);
    if (rc == 0)
        rc = s3_cond_prepare(s, op, req->key, &req->precond, &r);
    if (rc == 0)
        rc = s3_cond_result(op, &req->precond, s3_do(s, op, &r, &res));
    s3_req_done(&r);
    if (rc < 0)
        return rc;
    flat_attr_written(&res, req->attr, req->src->size, http_headers_get(&res.headers, "etag"),
                    s->posix, ret);
    http_res_done(&res);
    return 0;
}

int s3_put_marker(struct s3_store *s, struct op *op, const char *opname, const char *object,
                  const struct attr *attr, struct attr *ret)
{
    struct source_mem empty = source_mem("", 0);
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = opname, .method = "PUT", .object = object, .body = &empty.base};
    int rc = s3_meta_to_headers(s->posix ? attr : NULL, S3_META_DIR, &op->err, &r.headers);
    if (rc == 0)
        rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    if (rc == 0 && ret) {
        flat_attr_written(&res, attr, 0, NULL, s->posix, ret);
        flat_make_dir_attr(ret);
    }
    http_res_done(&res);
    return rc;
}

/* ---- remove ---- */

static int delete_object(struct s3_store *s, struct op *op, const char *object,
                         const char *if_match)
{
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = "remove", .method = "DELETE", .object = object};
    struct s3_version v = s3_version(if_match);
    add_version(&r, &v);
    int rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    s3_version_done(&v);
    http_res_done(&res);
    return rc;
}

int s3_remove(struct store *store, struct op *op, const char *key, const char *if_match)
{
    struct s3_store *s = s3_of(store);
    CLEANUP_FREE char *object = s3_object(s, key);
    bool aws = atomic_load(&s->server) == S3_SERVER_AWS;
    if (if_match && *if_match) {
        /* Few servers know If-Match on DELETE: look first, and let AWS have the last word. */
        struct precond pre = {.if_match = if_match};
        int r = s3_cond_look(s, op, key, &pre);
        if (r < 0)
            return r;
    }
    return delete_object(s, op, object, aws ? if_match : NULL);
}

/* The others go one by one. */
static bool in_batch(const char *key)
{
    return xml_can_hold(key) && !path_is_slashes(key);
}

static void add_delete_body(const struct s3_store *s, const char *const *keys, size_t n,
                            struct buf *b)
{
    buf_adds(b, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
    for (size_t i = 0; i < n; i++) {
        if (!in_batch(keys[i]))
            continue;
        buf_adds(b, "<Object><Key>");
        xml_escape(b, s->prefix);
        xml_escape(b, keys[i]);
        buf_adds(b, "</Key></Object>");
    }
    buf_adds(b, "</Delete>");
}

static int code_of_delete_error(const char *code)
{
    static const struct {
        const char *code;
        int err;
    } map[] = {
        {"AccessDenied", EACCES}, {"NoSuchKey", 0}, {"SlowDown", EBUSY}, {"NoSuchVersion", 0}};
    for (size_t i = 0; code && i < ARRAY_LEN(map); i++)
        if (strcmp(map[i].code, code) == 0)
            return map[i].err;
    return EIO;
}

static void take_delete_errors(const struct s3_store *s, const struct s3_delete_errors *errors,
                               const char *const *keys, size_t n, struct remove_result *results)
{
    size_t skip = strlen(s->prefix);
    for (size_t e = 0; e < errors->n; e++) {
        const char *object = errors->v[e].object;
        if (!object || strlen(object) < skip)
            continue;
        for (size_t i = 0; i < n; i++)
            if (strcmp(keys[i], object + skip) == 0)
                results[i].code = code_of_delete_error(errors->v[e].code);
    }
}

/* Keys that XML can hold, in one request. */
static int delete_batch(struct s3_store *s, struct op *op, const char *const *keys, size_t n,
                        struct remove_result *results)
{
    CLEANUP_BUF struct buf body = BUF_INIT;
    struct s3_delete_errors errors = {0};
    struct http_res res = HTTP_RES_INIT;
    add_delete_body(s, keys, n, &body);
    struct source_mem src = source_mem(body.data, body.len);
    struct s3_req r = {.op = "remove", .method = "POST", .body = &src.base, .md5 = true};
    http_headers_add(&r.headers, "content-type", "application/xml");
    s3_req_param(&r, "delete", "");
    int rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    if (rc < 0)
        return rc;
    if (s3_xml_delete(buf_str(&res.body), res.body.len, &errors) < 0) {
        rc = err_set(&op->err, EIO, "remove s3://%s: the reply is not a DeleteResult", s->bucket);
        op->err.retry = ERR_RETRY_SAFE;
    } else {
        take_delete_errors(s, &errors, keys, n, results);
        s3_delete_errors_done(&errors);
    }
    http_res_done(&res);
    return rc;
}

int s3_remove_many(struct store *store, struct op *op, const char *const *keys, size_t n,
                   struct remove_result *results)
{
    struct s3_store *s = s3_of(store);
    for (size_t i = 0; i < n; i++)
        results[i].code = 0;
    for (size_t i = 0; i < n; i += S3_DELETE_MAX) {
        size_t m = n - i < S3_DELETE_MAX ? n - i : S3_DELETE_MAX;
        int r = delete_batch(s, op, keys + i, m, results + i);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < n; i++) {
        if (in_batch(keys[i]))
            continue;
        int r = s3_remove(store, op, keys[i], NULL);
        results[i].code = r == -ENOENT ? 0 : -r;
        if (r == -EINTR || r == -ETIMEDOUT)
            return r;
    }
    return 0;
}

/* ---- directories: flat_dir.c, over these ---- */

int s3_make_dir(struct store *store, struct op *op, const char *key, const struct attr *attr)
{
    int r = flat_make_dir(&s3_of(store)->view, store, op, key, attr);
    if (r == 0) /* files follow: the first one's close need not wait for it */
        s3_cond_learn(s3_of(store), op);
    return r;
}

int s3_remove_dir(struct store *store, struct op *op, const char *key)
{
    return flat_remove_dir(&s3_of(store)->view, store, op, key);
}

static int view_list(struct store *store, struct op *op, const char *opname, const char *prefix,
                     const struct list_query *q, unsigned max, struct flat_result *ret)
{
    return s3_list_raw(s3_of(store), op, opname, prefix, q, max, ret);
}

static int view_head(struct store *store, struct op *op, const char *opname, const char *object,
                     const char *if_match, struct attr *ret)
{
    return s3_head(s3_of(store), op, opname, object, if_match, ret, NULL);
}

static int view_put_marker(struct store *store, struct op *op, const char *opname, const char *object,
                           const struct attr *attr, struct attr *ret)
{
    return s3_put_marker(s3_of(store), op, opname, object, attr, ret);
}

static int view_remove(struct store *store, struct op *op, const char *object, const char *if_match)
{
    return delete_object(s3_of(store), op, object, if_match);
}

void s3_view_set(struct s3_store *s)
{
    s->view = (struct flat_view){.uri = xasprintf("s3://%s", s->bucket),
                                 .prefix = s->prefix,
                                 .is_hidden = s3_is_probe,
                                 .posix = s->posix,
                                 .page_max = S3_PAGE_MAX,
                                 .rules = &s3_meta_rules,
                                 .list = view_list,
                                 .head = view_head,
                                 .put_marker = view_put_marker,
                                 .remove = view_remove};
}

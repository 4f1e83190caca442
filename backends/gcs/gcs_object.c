/* SPDX-License-Identifier: MIT
 * gcs_object.c: stat, read, put, remove, list of one object or prefix; directories are flat_dir.c's. */
#include "backends/gcs/gcs.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crypto.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FIELDS "name,generation,metageneration,size,timeCreated,contentType,metadata,crc32c"
#define SUM_CHUNK (256u << 10)
#define HOLD_MAX (1u << 20)

/* ---- looking ---- */

int gcs_take_object(struct gcs_store *s, struct op *op, const char *opname, json_t *o,
                    struct gcs_object *ret)
{
    if (gcs_json_object(o, s->posix, ret) == 0)
        return 0;
    int r = err_set(&op->err, EIO, "%s %s: the reply is not an object's resource", opname, s->view.uri);
    op->err.retry = ERR_RETRY_SAFE;
    return r;
}

int gcs_look(struct gcs_store *s, struct op *op, const char *opname, const char *object,
             const char *if_match, struct gcs_object *ret)
{
    json_t *o = NULL;
    struct gcs_object got = {0};
    struct gcs_req r = {.op = opname, .method = "GET", .object = object};
    struct gcs_version v = gcs_version(if_match);
    gcs_req_param(&r, "fields", FIELDS);
    if (v.generation[0])
        gcs_req_param(&r, "generation", v.generation);
    int rc = gcs_do_json(s, op, &r, NULL, &o);
    if (rc == 0)
        rc = gcs_take_object(s, op, opname, o, &got);
    if (rc == 0)
        gcs_version_told(&v, &got.attr);
    json_decref(o);
    bool pinned = if_match && *if_match;
    if (rc == -ENOENT && pinned)
        return err_set(&op->err, ESTALE, "%s %s/%.300s: it is gone", opname, s->view.uri, object);
    if (rc == 0 && pinned && strcmp(got.attr.version, if_match) != 0)
        rc = err_set(&op->err, ESTALE, "%s %s/%.300s: the version there is '%s', not '%.40s'", opname,
                     s->view.uri, object, got.attr.version, if_match);
    if (rc < 0)
        gcs_object_done(&got);
    else
        *ret = got;
    return rc;
}

static int view_head(struct store *store, struct op *op, const char *opname, const char *object,
                     const char *if_match, struct attr *ret)
{
    struct gcs_object got = {0};
    int r = gcs_look(gcs_of(store), op, opname, object, if_match, &got);
    if (r == -EINVAL && op->err.status == 0) /* a name that cannot be there */
        r = err_set(&op->err, ENOENT, "%s: the service cannot hold the name '%.300s'", opname, object);
    if (r == 0)
        attr_move(ret, &got.attr);
    gcs_object_done(&got);
    return r;
}

int gcs_stat(struct store *store, struct op *op, const char *key, struct attr *ret)
{
    return flat_stat(&gcs_of(store)->view, store, op, key, ret);
}

/* ---- reading ---- */

/* The whole object came: is it what was stored? */
static int check_sum(struct gcs_store *s, struct op *op, const char *object, const struct http_res *res,
                     const void *data)
{
    CLEANUP_BUF struct buf want = BUF_INIT;
    uint32_t crc = crc32c(0, data, res->to_len);
    uint8_t be[4] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16), (uint8_t)(crc >> 8), (uint8_t)crc};
    base64_add(&want, be, sizeof(be));
    for (size_t i = 0; i < res->headers.n; i++) {
        const struct http_header *h = &res->headers.v[i];
        const char *said = strcmp(h->name, "x-goog-hash") == 0 ? strstr(h->value, "crc32c=") : NULL;
        if (!said || strncmp(said + 7, want.data, want.len) == 0)
            continue;
        int r = err_set(&op->err, EIO, "read %s/%.300s: the CRC-32C is %s, the service says %.8s",
                        s->view.uri, object, want.data, said + 7);
        op->err.retry = ERR_RETRY_SAFE;
        return r;
    }
    return 0;
}

/* Nothing at that offset (416), or nothing asked for. */
static int read_nothing(struct gcs_store *s, struct op *op, const char *object, const struct read_req *req,
                        struct read_res *ret)
{
    struct gcs_object got = {0};
    err_clear(&op->err);
    int r = gcs_look(s, op, "read", object, req->version, &got);
    if (r < 0)
        return r;
    if (req->iov.iov_len > 0 && req->offset < got.attr.size) {
        r = err_set(&op->err, EIO, "read %s/%.300s: 416 for offset %" PRIu64 " of %" PRIu64, s->view.uri,
                    object, req->offset, got.attr.size);
        op->err.retry = ERR_RETRY_SAFE; /* replaced between the two requests */
    } else {
        attr_move(&ret->attr, &got.attr);
    }
    gcs_object_done(&got);
    return r;
}

static int read_failed(struct gcs_store *s, struct op *op, const char *object, const struct read_req *req,
                       int r, struct read_res *ret)
{
    bool pinned = req->version && *req->version;
    if (op->err.status == 416)
        return read_nothing(s, op, object, req, ret);
    if (r == -ENOENT && pinned) {
        op->err.code = ESTALE;
        return -ESTALE;
    }
    return r == -EMSGSIZE ? err_set(&op->err, EIO, "read %s/%.300s: more came than was asked for",
                                    s->view.uri, object)
                          : r;
}

static bool is_whole(const struct flat_reading *g)
{
    return g->req->offset == 0 && g->expected == g->total && g->total > 0;
}

/* A small whole object is announced when its sum is known to be right: what a reader was given cannot be
 * taken back. Larger ones are announced as they come. */
static bool is_held(const struct flat_reading *g)
{
    return is_whole(g) && g->total <= HOLD_MAX;
}

static int announce(void *arg, size_t so_far)
{
    const struct flat_reading *g = arg;
    return g->req->on_data && !is_held(g) ? g->req->on_data(g->req->on_data_arg, so_far) : 0;
}

static int read_done(struct gcs_store *s, struct op *op, const char *object, const struct flat_reading *g,
                     const struct http_res *res, struct read_res *ret)
{
    if (res->to_len != g->expected) {
        int r = err_set(&op->err, EIO, "read %s/%.300s: %zu bytes came of %" PRIu64, s->view.uri, object,
                        res->to_len, g->expected);
        op->err.retry = ERR_RETRY_SAFE;
        return r;
    }
    int r = is_whole(g) ? check_sum(s, op, object, res, g->req->iov.iov_base) : 0;
    if (r < 0)
        return r;
    if (is_held(g) && g->req->on_data && g->req->on_data(g->req->on_data_arg, res->to_len) != 0)
        return err_set(&op->err, EINTR, "stopped by the reader");
    const char *generation = http_headers_get(&res->headers, g->version_header);
    ret->length = res->to_len;
    ret->attr = (struct attr){.kind = ATTR_FILE, .size = g->total};
    if (generation)
        flat_version_of_etag(generation, ret->attr.version);
    return 0;
}

int gcs_read(struct store *store, struct op *op, const struct read_req *req, struct read_res *ret)
{
    struct gcs_store *s = gcs_of(store);
    CLEANUP_FREE char *object = flat_object(s->prefix, req->key);
    struct gcs_version v = gcs_version(req->version);
    struct read_req pinned = *req;
    if (v.generation[0])
        pinned.version = v.generation;
    bool current = !v.generation[0] && req->version && *req->version;
    struct precond pre = {.if_match = current ? req->version : NULL};
    struct flat_reading g = {.op = op, .req = &pinned, .version_header = "x-goog-generation"};
    struct http_res res = HTTP_RES_INIT;
    char range[64];
    struct gcs_req r = {.op = "read",
                        .method = "GET",
                        .object = object,
                        .to = req->iov,
                        .on_data = announce,
                        .on_data_arg = &g,
                        .on_reply = flat_check_reply,
                        .on_reply_arg = &g};
    int rc = gcs_req_precond(&r, op, &pre);
    if (rc < 0)
        return rc;
    if (req->iov.iov_len == 0)
        return read_nothing(s, op, object, req, ret);
    http_range(req->offset, req->iov.iov_len, range);
    gcs_req_param(&r, "alt", "media");
    if (v.generation[0])
        gcs_req_param(&r, "generation", v.generation);
    http_headers_add(&r.headers, "range", range);
    http_headers_add(&r.headers, "accept-encoding", "gzip"); /* stored bytes, never unpacked on the way */
    rc = gcs_do(s, op, &r, &res);
    if (rc < 0)
        return read_failed(s, op, object, req, rc, ret);
    rc = read_done(s, op, object, &g, &res, ret);
    if (rc == 0)
        gcs_version_told(&v, &ret->attr);
    http_res_done(&res);
    return rc;
}

/* ---- writing ---- */

/* multipart/related: the resource in JSON, then the bytes. */
struct related {
    struct source base;
    struct buf head;
    const struct source *data;
    char tail[64];
    size_t tail_len;
};

static void read_piece(const void *piece, size_t len, uint64_t *off, char **to, size_t *left)
{
    if (*off >= len) {
        *off -= len;
        return;
    }
    size_t n = len - (size_t)*off < *left ? len - (size_t)*off : *left;
    memcpy(*to, (const char *)piece + *off, n);
    *to += n;
    *left -= n;
    *off = 0;
}

static int related_read(const struct source *src, uint64_t off, void *buf, size_t len)
{
    const struct related *m = (const struct related *)src;
    char *to = buf;
    int r = 0;
    read_piece(m->head.data, m->head.len, &off, &to, &len);
    if (len > 0 && off < m->data->size) {
        uint64_t left = m->data->size - off;
        size_t n = left < len ? (size_t)left : len;
        r = m->data->read_at(m->data, off, to, n);
        to += n;
        len -= n;
        off = 0;
    } else {
        off -= len > 0 ? m->data->size : 0;
    }
    if (r == 0 && len > 0)
        read_piece(m->tail, m->tail_len, &off, &to, &len);
    return r;
}

static void related_init(struct related *m, const char *boundary, const json_t *meta, const char *type,
                         const struct source *data)
{
    CLEANUP_FREE char *text = json_dumps(meta, JSON_COMPACT);
    *m = (struct related){.data = data};
    buf_addf(&m->head,
             "--%s\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%s\r\n--%s\r\n"
             "Content-Type: %s\r\n\r\n",
             boundary, text, boundary, type);
    m->tail_len = (size_t)snprintf(m->tail, sizeof(m->tail), "\r\n--%s--\r\n", boundary);
    m->base = (struct source){.read_at = related_read, .size = m->head.len + data->size + m->tail_len};
}

static int sum_source(struct op *op, const struct source *src, char out[12])
{
    CLEANUP_BUF struct buf b64 = BUF_INIT;
    size_t chunk = src->size < SUM_CHUNK ? (size_t)src->size : SUM_CHUNK;
    CLEANUP_FREE char *p = xmalloc(chunk ? chunk : 1);
    uint32_t crc = 0;
    for (uint64_t off = 0; off < src->size; off += chunk) {
        size_t n = src->size - off < chunk ? (size_t)(src->size - off) : chunk;
        int r = op_check(op);
        if (r < 0)
            return r;
        r = src->read_at(src, off, p, n);
        if (r < 0)
            return err_set(&op->err, -r, "cannot read what is to be sent: %s", strerror(-r));
        crc = crc32c(crc, p, n);
    }
    uint8_t be[4] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16), (uint8_t)(crc >> 8), (uint8_t)crc};
    base64_add(&b64, be, sizeof(be));
    (void)snprintf(out, 12, "%s", b64.data);
    return 0;
}

/* The resource of what is written, with its name and CRC-32C: the service refuses other bytes. */
static int fill_resource(struct gcs_store *s, struct op *op, const char *object, json_t *meta,
                         const struct source *src)
{
    char crc[12];
    int r = sum_source(op, src, crc);
    if (r < 0)
        return r;
    if (json_object_set_new(meta, "name", json_string(object)) < 0)
        return err_set(&op->err, EINVAL, "%s/%.300s: names are UTF-8", s->view.uri, object);
    (void)json_object_set_new(meta, "crc32c", json_string(crc));
    if (s->storage_class && !json_object_get(meta, "storageClass"))
        (void)json_object_set_new(meta, "storageClass", json_string(s->storage_class));
    return 0;
}

int gcs_insert(struct gcs_store *s, struct op *op, const char *opname, const char *object, json_t *meta,
               const struct source *src, const struct precond *pre, struct gcs_object *ret)
{
    char tail[33], boundary[40];
    struct related body;
    json_t *o = NULL;
    struct gcs_req r = {.op = opname, .method = "POST", .object = object, .upload = true};
    const char *type = json_string_value(json_object_get(meta, "contentType"));
    random_hex(tail, 32);
    (void)snprintf(boundary, sizeof(boundary), "quay-%s", tail);
    int rc = fill_resource(s, op, object, meta, src);
    if (rc == 0)
        rc = gcs_req_precond(&r, op, pre);
    if (rc < 0)
        return rc;
    related_init(&body, boundary, meta, type ? type : "application/octet-stream", src);
    r.body = &body.base;
    gcs_req_param(&r, "uploadType", "multipart");
    gcs_req_param(&r, "fields", FIELDS);
    http_headers_addf(&r.headers, "content-type", "multipart/related; boundary=%s", boundary);
    rc = gcs_do_json(s, op, &r, NULL, &o);
    buf_done(&body.head);
    if (rc == 0)
        rc = gcs_take_object(s, op, opname, o, ret);
    json_decref(o);
    return flat_cond_result(op, pre, rc);
}

int gcs_put(struct store *store, struct op *op, const struct put_req *req, struct attr *ret)
{
    struct gcs_store *s = gcs_of(store);
    CLEANUP_FREE char *object = flat_object(s->prefix, req->key);
    struct attr plain = {.kind = ATTR_FILE, .content_type = req->attr ? req->attr->content_type : NULL};
    struct gcs_object made = {0};
    json_t *meta = json_object();
    int r = gcs_json_meta(s->posix ? req->attr : &plain, false, &op->err, meta);
    if (r == 0)
        r = gcs_insert(s, op, "put", object, meta, req->src, &req->precond, &made);
    json_decref(meta);
    if (r == 0)
        attr_move(ret, &made.attr);
    gcs_object_done(&made);
    return r;
}

static int view_put_marker(struct store *store, struct op *op, const char *opname, const char *object,
                           const struct attr *attr, struct attr *ret)
{
    struct gcs_store *s = gcs_of(store);
    struct source_mem empty = source_mem("", 0);
    struct gcs_object made = {0};
    json_t *meta = json_object();
    int r = gcs_json_meta(s->posix ? attr : NULL, true, &op->err, meta);
    if (r == 0)
        r = gcs_insert(s, op, opname, object, meta, &empty.base, NULL, &made);
    json_decref(meta);
    if (r == 0 && ret) {
        attr_move(ret, &made.attr);
        flat_make_dir_attr(ret);
    }
    gcs_object_done(&made);
    return r;
}

/* ---- removing ---- */

int gcs_delete(struct gcs_store *s, struct op *op, const char *opname, const char *object,
               const char *if_match)
{
    struct http_res res = HTTP_RES_INIT;
    struct precond pre = {.if_match = if_match && *if_match ? if_match : NULL};
    struct gcs_req r = {.op = opname, .method = "DELETE", .object = object};
    int rc = gcs_req_precond(&r, op, &pre);
    if (rc == 0)
        rc = gcs_do(s, op, &r, &res);
    http_res_done(&res);
    return flat_cond_result(op, &pre, rc);
}

static int view_remove(struct store *store, struct op *op, const char *object, const char *if_match)
{
    return gcs_delete(gcs_of(store), op, "remove", object, if_match);
}

int gcs_remove(struct store *store, struct op *op, const char *key, const char *if_match)
{
    struct gcs_store *s = gcs_of(store);
    CLEANUP_FREE char *object = flat_object(s->prefix, key);
    return gcs_delete(s, op, "remove", object, if_match);
}

int gcs_make_dir(struct store *store, struct op *op, const char *key, const struct attr *attr)
{
    return flat_make_dir(&gcs_of(store)->view, store, op, key, attr);
}

int gcs_remove_dir(struct store *store, struct op *op, const char *key)
{
    return flat_remove_dir(&gcs_of(store)->view, store, op, key);
}

/* ---- listing ---- */

int gcs_list_raw(struct gcs_store *s, struct op *op, const char *opname, const char *prefix,
                 const struct list_query *q, unsigned max, struct flat_result *ret)
{
    char count[16];
    CLEANUP_FREE char *after = q && q->after ? xasprintf("%s%s", s->prefix, q->after) : NULL;
    struct http_res res = HTTP_RES_INIT;
    struct flat_result l = {0};
    struct gcs_req r = {.op = opname, .method = "GET"};
    (void)snprintf(count, sizeof(count), "%u", max);
    gcs_req_param(&r, "prefix", prefix);
    gcs_req_param(&r, "maxResults", count);
    gcs_req_param(&r, "fields",
                  "nextPageToken,prefixes,items(name,generation,size,timeCreated,contentType,metadata)");
    if (q && !q->recursive)
        gcs_req_param(&r, "delimiter", "/");
    if (q && q->cursor)
        gcs_req_param(&r, "pageToken", q->cursor);
    if (after)
        gcs_req_param(&r, "startOffset", after); /* from there on, itself included */
    int rc = gcs_do(s, op, &r, &res);
    if (rc < 0)
        return rc;
    rc = gcs_json_list(buf_str(&res.body), res.body.len, &l);
    http_res_done(&res);
    return flat_take_listing(&s->view, op, opname, prefix, q, rc, &l, ret);
}

static int view_list(struct store *store, struct op *op, const char *opname, const char *prefix,
                     const struct list_query *q, unsigned max, struct flat_result *ret)
{
    return gcs_list_raw(gcs_of(store), op, opname, prefix, q, max, ret);
}

int gcs_list(struct store *store, struct op *op, const struct list_query *q, struct list_page *ret)
{
    return flat_list(&gcs_of(store)->view, store, op, q, ret);
}

void gcs_view_set(struct gcs_store *s)
{
    s->view = (struct flat_view){.uri = xasprintf("gs://%s", s->bucket),
                                 .prefix = s->prefix,
                                 .hide = GCS_PARTS,
                                 .posix = s->posix,
                                 .page_max = GCS_PAGE_MAX,
                                 .rules = &gcs_meta_rules,
                                 .list = view_list,
                                 .head = view_head,
                                 .put_marker = view_put_marker,
                                 .remove = view_remove,
                                 .set_meta = gcs_set_file_meta};
}

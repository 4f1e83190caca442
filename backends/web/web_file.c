/* SPDX-License-Identifier: MIT
 * web_file.c: stat and read.
 *
 * stat: HEAD; where that is refused or tells no length, a GET of one byte, of which only the head
 * counts. What is redirected to itself with a '/', or is there with a '/' only, is a directory.
 * read: a ranged GET with the version as its condition; each reply is compared with the version before
 * a byte of it is announced. A reply that is not a range (200), or that tells no version to pin, leads
 * to the whole download (web_spool.h), unless all of the file came with it. */
#include "backends/web/web_int.h"

#include "base/cleanup.h"
#include "base/crypto.h"
#include "base/name.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define SMALL_BODY 4096

/* ---- stat ---- */

struct asking {
    struct web_facts facts;
    bool empty;   /* 416 for byte 0 */
    bool stopped; /* the head was all we wanted */
};

static int stop_at_head(void *arg, const struct http_res *res)
{
    struct asking *a = arg;
    uint64_t length;
    if (res->status / 100 != 2)
        return 0;
    web_facts_read(res, &a->facts);
    if (web_reply_length(res, &length) && length <= SMALL_BODY)
        return 0;
    a->stopped = true;
    return -ECANCELED;
}

/* By a GET of the first byte. 0 and facts, or ret_dir. */
static int ask_get(struct web_store *s, struct op *op, const struct web_ref *at, bool *ret_dir,
                   struct web_facts *ret)
{
    struct asking a = {0};
    struct web_res res = WEB_RES_INIT;
    struct web_req req = {.verb = "stat",
                          .method = "GET",
                          .at = at,
                          .take_416 = true,
                          .stop_at_dir = true,
                          .on_reply = stop_at_head,
                          .on_reply_arg = &a};
    http_headers_add(&req.headers, "range", "bytes=0-0");
    int r = web_do(&s->web, op, &req, &res);
    web_req_done(&req);
    if (r == -ECANCELED && a.stopped) {
        err_clear(&op->err);
        r = 0;
    }
    if (r == 0 && res.http.status == 416) /* nothing to give a byte of */
        web_facts_set_size(&a.facts, 0);
    *ret_dir = res.dir;
    *ret = a.facts;
    web_res_done(&res);
    return r;
}

static int ask_head(struct web_store *s, struct op *op, const struct web_ref *at, bool *ret_dir,
                    struct web_facts *ret)
{
    struct web_res res = WEB_RES_INIT;
    struct web_req req = {.verb = "stat", .method = "HEAD", .at = at, .stop_at_dir = true};
    int r = web_do(&s->web, op, &req, &res);
    web_req_done(&req);
    if (r < 0)
        return r;
    *ret_dir = res.dir;
    if (!res.dir)
        web_facts_read(&res.http, ret);
    web_res_done(&res);
    return 0;
}

/* HEAD, or what stands in for it. */
static int ask(struct web_store *s, struct op *op, const struct web_ref *at, bool *ret_dir,
               struct web_facts *ret)
{
    int r = -ENOTSUP;
    bool dir = false;
    struct web_facts f = {0};
    if (!atomic_load(&s->no_head))
        r = ask_head(s, op, at, &dir, &f);
    bool refused = r == -ENOTSUP || (r < 0 && op->err.status == 400);
    if (refused || (r == 0 && !dir && !f.has_size)) {
        err_clear(&op->err);
        r = ask_get(s, op, at, &dir, &f);
        if (refused && r == 0)
            atomic_store(&s->no_head, true);
    }
    if (r == 0) {
        *ret = f;
        *ret_dir = dir;
    }
    return r;
}

/* No length is told anywhere: it is known when all has come. */
static int measure(struct web_store *s, struct op *op, const char *key, const struct web_ref *at,
                   struct web_facts *f)
{
    struct read_req req = {.key = key};
    size_t none;
    return web_spool_read(s->spool, op, at, &req, &none, f);
}

static int stat_file(struct web_store *s, struct op *op, const char *key, struct attr *ret)
{
    CLEANUP_REF struct web_ref at = web_ref_of_key(&s->web, key, false);
    struct web_facts f = {0};
    bool dir = false;
    int r = ask(s, op, &at, &dir, &f);
    if (r == 0 && dir) {
        atomic_store(&s->redirects_dirs, true);
        *ret = (struct attr){.kind = ATTR_DIR, .known = ATTR_META};
        return 0;
    }
    if (r == 0 && !f.has_size)
        r = measure(s, op, key, &at, &f);
    if (r == 0)
        web_facts_to_attr(&f, ret);
    return r;
}

/* Some servers know a directory only by its name with '/'. */
static int stat_dir(struct web_store *s, struct op *op, const char *key, struct attr *ret)
{
    CLEANUP_REF struct web_ref at = web_ref_of_key(&s->web, key, true);
    struct web_facts f = {0};
    bool dir = false;
    int r = ask(s, op, &at, &dir, &f);
    if (r == 0)
        *ret = (struct attr){.kind = ATTR_DIR, .known = ATTR_META};
    return r;
}

static int check_key(struct op *op, const char *verb, const char *key)
{
    if (path_is_inside(key))
        return 0;
    return err_set(&op->err, EACCES, "%s '%s': no path below the store's root", verb, key);
}

int web_stat(struct store *store, struct op *op, const char *key, struct attr *ret)
{
    struct web_store *s = web_of(store);
    if (!*key) {
        *ret = (struct attr){.kind = ATTR_DIR, .known = ATTR_META};
        return 0;
    }
    int r = check_key(op, "stat", key);
    if (r == 0 && s->has_manifest) {
        r = web_manifest_has_dir(s, op, key);
        if (r == 1) {
            *ret = (struct attr){.kind = ATTR_DIR, .known = ATTR_META};
            return 0;
        }
    }
    if (r == 0)
        r = stat_file(s, op, key, ret);
    if (r == -ENOENT && !atomic_load(&s->redirects_dirs)) {
        err_clear(&op->err);
        r = stat_dir(s, op, key, ret);
    }
    return r;
}

/* ---- read ---- */

struct reading {
    struct op *op;
    const struct read_req *req;
    struct web_facts facts;
    uint64_t expected; /* bytes that must come */
    bool whole;        /* only a whole download helps */
};

/* The reply cannot be used as a part of a version. */
static int need_whole(struct reading *g)
{
    g->whole = true;
    return -ECANCELED;
}

/* 206: the range that was asked for, or what is there of it. */
static int check_range(struct reading *g, const struct http_res *res, bool *ret_all)
{
    const struct read_req *q = g->req;
    uint64_t first, last, total;
    const char *cr = http_headers_get(&res->headers, "content-range");
    if (!http_parse_content_range(cr, &first, &last, &total) || first != q->offset)
        return err_set(&g->op->err, EIO,
                       "the reply's Content-Range '%.80s' is not the range asked for", cr ? cr : "");
    if (total == UINT64_MAX)
        return need_whole(g);
    uint64_t left = total - q->offset;
    g->expected = left < q->iov.iov_len ? left : q->iov.iov_len;
    if (last - first + 1 != g->expected)
        return err_set(&g->op->err, EIO, "the reply has %" PRIu64 " bytes of %" PRIu64 " asked for",
                       last - first + 1, g->expected);
    *ret_all = first == 0 && last == total - 1;
    return 0;
}

/* Is what comes what was asked for? Said before a byte of it is announced to the reader. */
static int check_reply(void *arg, const struct http_res *res)
{
    struct reading *g = arg;
    const struct read_req *q = g->req;
    const char *pinned = q->version ? q->version : "";
    bool all = false;
    int r = 0;
    if (res->status / 100 != 2)
        return 0;
    web_facts_read(res, &g->facts);
    if (res->status == 206) {
        r = check_range(g, res, &all);
    } else if (g->facts.has_size && q->offset == 0 && g->facts.size <= q->iov.iov_len) {
        g->expected = g->facts.size;
        all = true;
    } else {
        r = need_whole(g);
    }
    bool told = g->facts.version[0] != '\0';
    if (r == 0 && *pinned && told && !web_facts_agree(&g->facts, pinned))
        return err_set(&g->op->err, ESTALE, "the version there is '%s', not '%s'", g->facts.version,
                       pinned);
    if (r == 0 && ((*pinned && !told) || (!told && !all)))
        r = need_whole(g);
    return r;
}

/* Nothing is at that offset: is the file that short? */
static int read_past_end(struct web_store *s, struct op *op, const struct read_req *req,
                         struct read_res *ret)
{
    struct attr a = ATTR_INIT;
    int r = web_stat(&s->base, op, req->key, &a);
    if (r < 0)
        return r;
    if (a.kind == ATTR_DIR)
        r = err_set(&op->err, EISDIR, "read %s: it is a directory", req->key);
    else if (req->version && *req->version && strcmp(req->version, a.version) != 0)
        r = err_set(&op->err, ESTALE, "read %s: it has changed", req->key);
    else if (req->offset < a.size)
        r = err_set(&op->err, EIO, "read %s: 416 for offset %" PRIu64 " of %" PRIu64, req->key,
                    req->offset, a.size);
    if (r < 0) {
        op->err.retry = r == -EIO ? ERR_RETRY_SAFE : ERR_RETRY_NEVER;
        attr_done(&a);
        return r;
    }
    ret->length = 0;
    ret->attr = a;
    return 0;
}

static int read_whole(struct web_store *s, struct op *op, const struct web_ref *at,
                      const struct read_req *req, struct read_res *ret)
{
    struct web_facts f;
    size_t len;
    err_clear(&op->err);
    int r = web_spool_read(s->spool, op, at, req, &len, &f);
    if (r < 0)
        return r;
    ret->length = len;
    web_facts_to_attr(&f, &ret->attr);
    return 0;
}

static int read_failed(struct op *op, const struct read_req *req, int r)
{
    if (r == -ENOENT && req->version && *req->version) {
        op->err.code = ESTALE;
        return -ESTALE;
    }
    return r == -EMSGSIZE
               ? err_set(&op->err, EIO, "read %s: more came than was asked for", req->key)
               : r;
}

static void hash_of_all(const void *data, size_t len, struct web_facts *f)
{
    uint8_t digest[SHA256_LEN];
    sha256(data, len, digest);
    web_version_of_hash(digest, f->version);
}

/* The ranged GET. -ECANCELED with g->whole: the whole of it is needed. */
static int read_range(struct web_store *s, struct op *op, const struct web_ref *at,
                      struct reading *g, struct web_res *ret)
{
    char range[64];
    struct web_req req = {.verb = "read",
                          .method = "GET",
                          .at = at,
                          .take_416 = true,
                          .stop_at_dir = true,
                          .to = g->req->iov,
                          .on_data = g->req->on_data,
                          .on_data_arg = g->req->on_data_arg,
                          .on_reply = check_reply,
                          .on_reply_arg = g};
    http_range(g->req->offset, g->req->iov.iov_len, range);
    http_headers_add(&req.headers, "range", range);
    web_version_add_condition(g->req->version, &req.headers);
    int r = web_do(&s->web, op, &req, ret);
    web_req_done(&req);
    return r;
}

int web_read(struct store *store, struct op *op, const struct read_req *req, struct read_res *ret)
{
    struct web_store *s = web_of(store);
    int r = check_key(op, "read", req->key);
    if (r < 0)
        return r;
    CLEANUP_REF struct web_ref at = web_ref_of_key(&s->web, req->key, false);
    if (web_version_is_hash(req->version) || web_spool_has(s->spool, req->key, req->version))
        return read_whole(s, op, &at, req, ret);
    struct reading g = {.op = op, .req = req};
    struct web_res res = WEB_RES_INIT;
    r = read_range(s, op, &at, &g, &res);
    if (r == -ECANCELED && g.whole)
        return read_whole(s, op, &at, req, ret);
    if (r < 0)
        return read_failed(op, req, r);
    if (res.dir) {
        r = err_set(&op->err, EISDIR, "read %s: it is a directory", req->key);
    } else if (res.http.status == 416) {
        r = read_past_end(s, op, req, ret);
    } else if (res.http.to_len != g.expected) {
        r = err_set(&op->err, EIO, "read %s: %zu bytes came of %" PRIu64, req->key, res.http.to_len,
                    g.expected);
        op->err.retry = ERR_RETRY_SAFE;
    } else {
        if (!g.facts.version[0]) /* all of it came: its content says which version that is */
            hash_of_all(req->iov.iov_base, res.http.to_len, &g.facts);
        ret->length = res.http.to_len;
        web_facts_to_attr(&g.facts, &ret->attr);
    }
    web_res_done(&res);
    return r;
}

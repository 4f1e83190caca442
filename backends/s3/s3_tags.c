/* SPDX-License-Identifier: MIT
 * s3_tags.c: object tags: GET, PUT, DELETE ?tagging, and the header x-amz-tagging of a new object.
 *
 * HEAD and GET tell how many there are (x-amz-tagging-count) when there are any; of MinIO silence means none, of
 * others it means nothing. So an object that is replaced keeps its tags at the cost of one request, which is spared
 * where none are known to be. A server without tags is found out by its answer. */
#include "backends/s3/s3.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TAG_LEN (sizeof(ATTR_TAG) - 1)

enum attr_tags s3_tags_told(const struct s3_store *s, const struct http_headers *h)
{
    const char *count = http_headers_get(h, "x-amz-tagging-count");
    if (count)
        return strtoul(count, NULL, 10) > 0 ? ATTR_TAGS_SOME : ATTR_TAGS_NONE;
    bool says = atomic_load(&s->server) == S3_SERVER_MINIO || atomic_load(&s->no_tags);
    return says ? ATTR_TAGS_NONE : ATTR_TAGS_UNKNOWN;
}

/* ---- <Tagging> ---- */

struct tags_parse {
    struct attr *ret;
    char *name, *value;
    bool root_ok;
};

static void tags_open(void *arg, int depth, const char *name)
{
    struct tags_parse *p = arg;
    if (depth == 1)
        p->root_ok = strcmp(name, "Tagging") == 0;
}

static void tags_close(void *arg, int depth, const char *name, const char *text, size_t len)
{
    struct tags_parse *p = arg;
    if (depth == 4 && strcmp(name, "Key") == 0) {
        free(p->name);
        p->name = xstrndup(text, len);
    } else if (depth == 4 && strcmp(name, "Value") == 0) {
        free(p->value);
        p->value = xstrndup(text, len);
    } else if (depth == 3 && strcmp(name, "Tag") == 0 && p->name && *p->name) {
        CLEANUP_FREE char *full = xasprintf(ATTR_TAG "%s", p->name);
        attr_xattr_set(p->ret, full, p->value ? p->value : "", p->value ? strlen(p->value) : 0);
        free(take_ptr(&p->name));
        free(take_ptr(&p->value));
    }
}

static int parse_tags(struct s3_store *s, struct op *op, const char *object, const struct http_res *res,
                      struct attr *ret)
{
    static const struct xml_events events = {tags_open, tags_close};
    struct tags_parse p = {.ret = ret};
    int r = xml_parse(buf_str(&res->body), res->body.len, &events, &p);
    free(p.name);
    free(p.value);
    if (r == 0 && p.root_ok)
        return 0;
    op->err.retry = ERR_RETRY_SAFE;
    return err_set(&op->err, EIO, "get_tags s3://%s/%s: the reply is not a list of tags", s->bucket,
                   object);
}

/* The server has none: true, and it is not asked again. */
static bool has_no_tags(struct s3_store *s, struct op *op, int r)
{
    bool none = r == -ENOTSUP || strcmp(op->err.remote, "InvalidURI") == 0;
    if (none)
        atomic_store(&s->no_tags, true);
    return none;
}

static int no_tags(struct op *op)
{
    return err_set(&op->err, ENOTSUP, "the server keeps no tags of objects");
}

static int read_tags(struct s3_store *s, struct op *op, const char *object, struct attr *ret)
{
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = "get_tags", .method = "GET", .object = object};
    if (atomic_load(&s->no_tags))
        return no_tags(op);
    s3_req_param(&r, "tagging", "");
    int rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    if (rc < 0)
        return has_no_tags(s, op, rc) ? no_tags(op) : rc;
    rc = parse_tags(s, op, object, &res, ret);
    http_res_done(&res);
    return rc;
}

int s3_get_tags(struct store *store, struct op *op, const char *key, struct attr *ret)
{
    struct s3_store *s = s3_of(store);
    CLEANUP_FREE char *object = s3_object(s, key);
    return read_tags(s, op, object, ret);
}

/* ---- setting ---- */

static bool is_text(const struct xattr *x)
{
    CLEANUP_FREE char *value = xstrndup(x->value, x->size);
    return strlen(value) == x->size && xml_can_hold(value) && xml_can_hold(x->name);
}

static int check_text(struct op *op, const struct attr *tags)
{
    for (size_t i = 0; i < tags->n_xattrs; i++)
        if (attr_is_tag(tags->xattrs[i].name) && !is_text(&tags->xattrs[i]))
            return err_set(&op->err, EINVAL, "%s: S3 keeps tags of text only (UTF-8)", tags->xattrs[i].name);
    return 0;
}

static size_t add_body(const struct attr *tags, struct buf *b)
{
    size_t n = 0;
    buf_adds(b, "<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet>");
    for (size_t i = 0; i < tags->n_xattrs; i++) {
        const struct xattr *x = &tags->xattrs[i];
        if (!attr_is_tag(x->name))
            continue;
        CLEANUP_FREE char *value = xstrndup(x->value, x->size);
        buf_adds(b, "<Tag><Key>");
        xml_escape(b, x->name + TAG_LEN);
        buf_adds(b, "</Key><Value>");
        xml_escape(b, value);
        buf_adds(b, "</Value></Tag>");
        n++;
    }
    buf_adds(b, "</TagSet></Tagging>");
    return n;
}

int s3_set_tags(struct store *store, struct op *op, const char *key, const struct attr *tags)
{
    struct s3_store *s = s3_of(store);
    CLEANUP_FREE char *object = s3_object(s, key);
    CLEANUP_BUF struct buf body = BUF_INIT;
    struct http_res res = HTTP_RES_INIT;
    int rc = check_text(op, tags);
    if (rc < 0)
        return rc;
    if (atomic_load(&s->no_tags))
        return no_tags(op);
    bool any = add_body(tags, &body) > 0;
    struct source_mem src = source_mem(body.data, body.len);
    struct s3_req r = {.op = "set_tags",
                       .method = any ? "PUT" : "DELETE",
                       .object = object,
                       .body = any ? &src.base : NULL,
                       .md5 = any};
    if (any)
        http_headers_add(&r.headers, "content-type", "application/xml");
    s3_req_param(&r, "tagging", "");
    rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    http_res_done(&res);
    return rc < 0 && has_no_tags(s, op, rc) ? no_tags(op) : rc;
}

/* ---- of a new object ---- */

static void add_header(const struct attr *tags, struct http_headers *h)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    for (size_t i = 0; i < tags->n_xattrs; i++) {
        const struct xattr *x = &tags->xattrs[i];
        if (!attr_is_tag(x->name))
            continue;
        if (b.len)
            buf_addc(&b, '&');
        url_encode(&b, x->name + TAG_LEN, strlen(x->name + TAG_LEN), false);
        buf_addc(&b, '=');
        url_encode(&b, x->value, x->size, false);
    }
    if (b.len)
        http_headers_add(h, "x-amz-tagging", b.data);
}

/* May this key not see them? Then they cannot be kept; said once. */
static bool may_not_see(struct s3_store *s, int r)
{
    if (r != -EACCES)
        return false;
    if (!atomic_exchange(&s->hidden_tags, true))
        log_warn("s3", "%s: this key may not read tags (s3:GetObjectTagging): objects that are rewritten lose "
                       "theirs, if they have any", s->base.base_uri);
    return true;
}

int s3_add_tags(struct s3_store *s, struct op *op, const char *object, const struct attr *attr,
                struct http_headers *h)
{
    CLEANUP_ATTR struct attr found = ATTR_INIT;
    if (!attr)
        return 0;
    if (attr->known & ATTR_HAS_TAGS) {
        int r = check_text(op, attr);
        if (r == 0)
            add_header(attr, h);
        return r;
    }
    if (!attr->version[0] || attr->tags == ATTR_TAGS_NONE || atomic_load(&s->no_tags) ||
        atomic_load(&s->hidden_tags))
        return 0;
    int r = read_tags(s, op, object, &found);
    if (r == -ENOENT || r == -ENOTSUP || may_not_see(s, r)) { /* gone: the write itself will tell */
        err_clear(&op->err);
        return 0;
    }
    if (r == 0)
        add_header(&found, h);
    return r;
}

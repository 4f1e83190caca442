/* SPDX-License-Identifier: MIT
 * s3_list.c: ListObjectsV2. One call is one page; the cursor is S3's continuation token.
 *
 * MinIO's extension metadata=true returns each object's metadata with it: no HEAD per entry. It is
 * used when the server says that it is MinIO, and not again when it gave XML that cannot be read
 * (metadata names become element names there).
 *
 * What becomes an entry: object "d/f" -> key "d/f"; common prefix or marker "d/e/" -> directory
 * "d/e" (path_of_prefix: "d//" -> "d/", "//" -> "//"); the listed prefix itself -> dir_exists. A
 * marker with content is no marker but a file: "d/" -> key "d/" (and in a directory of slashes only
 * "/" -> key "//"). */
#include "backends/s3/s3.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/name.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool wants_meta(struct s3_store *s)
{
    if (!s->posix || s->list_meta == S3_LIST_META_NO || atomic_load(&s->no_list_meta))
        return false;
    return s->list_meta == S3_LIST_META_YES || atomic_load(&s->server) == S3_SERVER_MINIO;
}

static int list_once(struct s3_store *s, struct op *op, const char *opname, const char *prefix,
                     const struct list_query *q, unsigned max, bool meta,
                     struct s3_list_result *ret)
{
    char count[16];
    CLEANUP_FREE char *after = q && q->after ? xasprintf("%s%s", s->prefix, q->after) : NULL;
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = opname, .method = "GET"};
    (void)snprintf(count, sizeof(count), "%u", max);
    s3_req_param(&r, "list-type", "2");
    s3_req_param(&r, "encoding-type", "url");
    s3_req_param(&r, "prefix", prefix);
    s3_req_param(&r, "max-keys", count);
    if (q && !q->recursive)
        s3_req_param(&r, "delimiter", "/");
    if (q && q->cursor)
        s3_req_param(&r, "continuation-token", q->cursor);
    if (after)
        s3_req_param(&r, "start-after", after);
    if (meta)
        s3_req_param(&r, "metadata", "true");
    int rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    if (rc < 0)
        return rc;
    rc = s3_xml_list(buf_str(&res.body), res.body.len, ret);
    http_res_done(&res);
    return rc;
}

static int check_paging(struct op *op, const char *cursor, struct s3_list_result *l)
{
    if (!l->truncated) {
        free(l->token);
        l->token = NULL;
        return 0;
    }
    if (!l->token || !*l->token || (cursor && strcmp(cursor, l->token) == 0))
        return err_set(&op->err, EIO, "the server's listing does not advance (%s)",
                       l->token ? "same continuation token twice" : "truncated without a token");
    return 0;
}

int s3_list_raw(struct s3_store *s, struct op *op, const char *opname, const char *prefix,
                const struct list_query *q, unsigned max, struct s3_list_result *ret)
{
    struct s3_list_result l = {0};
    bool meta = wants_meta(s);
    int r = list_once(s, op, opname, prefix, q, max, meta, &l);
    if (r == 0 && !meta && l.n > 0 && wants_meta(s)) { /* the reply told that it is MinIO */
        s3_list_result_done(&l);
        meta = true;
        r = list_once(s, op, opname, prefix, q, max, meta, &l);
    }
    if (r == -EBADMSG && meta) {
        atomic_store(&s->no_list_meta, true);
        log_debug("s3", "%s: listing with metadata is not readable, going without",
                  s->base.base_uri);
        r = list_once(s, op, opname, prefix, q, max, false, &l);
    }
    if (r == -EBADMSG) {
        r = err_set(&op->err, EIO, "%s s3://%s/%s: the reply is not a ListBucketResult", opname,
                    s->bucket, prefix);
        op->err.retry = ERR_RETRY_SAFE;
    }
    if (r == 0)
        r = check_paging(op, q ? q->cursor : NULL, &l);
    if (r < 0)
        s3_list_result_done(&l);
    else
        *ret = l;
    return r;
}

static int compare_items(const void *a, const void *b)
{
    const struct s3_list_item *x = a, *y = b;
    return strcmp(x->object, y->object);
}

/* 0 bytes under a name that ends in '/', or what a common prefix stands for. */
static bool is_dir(const struct s3_list_item *i)
{
    return path_is_unnamed(i->object) && (i->is_prefix || i->size == 0);
}

static void item_attr(const struct s3_store *s, const struct s3_list_item *i, struct attr *ret)
{
    ret->kind = is_dir(i) ? ATTR_DIR : ATTR_FILE;
    ret->mtime.tv_sec = i->mtime.tv_sec; /* as HEAD has it: a time must not depend on who told it */
    if (ret->kind == ATTR_FILE) {
        ret->size = i->size;
        memcpy(ret->version, i->etag, sizeof(ret->version));
    }
    if (i->has_meta)
        s3_meta_from_headers(&i->meta, s->posix, ret);
}

/* `name`: the object's, below base_path. */
static void add_entry(const struct s3_store *s, const struct s3_list_item *i, const char *name,
                      struct list_page *page)
{
    bool dir = is_dir(i);
    CLEANUP_FREE char *key = dir ? path_of_prefix(name)
                                 : xasprintf("%s%s", name, path_is_slashes(name) ? "/" : "");
    item_attr(s, i, &list_page_add(page, key)->attr);
}

/* Objects ascend, and so do common prefixes; both come from `after` on (but a prefix that it lies in). */
static bool is_unordered(const struct s3_store *s, const struct list_query *q,
                         const struct s3_list_result *l)
{
    CLEANUP_FREE char *after = q->after ? xasprintf("%s%s", s->prefix, q->after) : NULL;
    const char *last[2] = {after, NULL};
    for (size_t i = 0; i < l->n; i++) {
        const struct s3_list_item *it = &l->v[i];
        const char **before = &last[it->is_prefix];
        if (*before && strcmp(it->object, *before) < 0)
            return true;
        if (after && it->is_prefix && strcmp(it->object, after) < 0 &&
            strncmp(it->object, after, strlen(it->object)) != 0)
            return true;
        *before = it->object;
    }
    return false;
}

static int fill_page(const struct s3_store *s, struct op *op, const char *prefix,
                     const struct list_query *q, struct s3_list_result *l, struct list_page *page)
{
    size_t base = strlen(s->prefix), n = strlen(prefix);
    page->unordered = is_unordered(s, q, l);
    if (l->n > 1)
        qsort(l->v, l->n, sizeof(*l->v), compare_items);
    for (size_t i = 0; i < l->n; i++) {
        const struct s3_list_item *it = &l->v[i];
        if (strncmp(it->object, prefix, n) != 0)
            return err_set(&op->err, EIO,
                           "list s3://%s/%s: the server listed '%s', which is elsewhere", s->bucket,
                           prefix, it->object);
        const char *name = it->object + base;
        bool itself = it->object[n] == '\0' && (n == 0 || prefix[n - 1] == '/');
        if (itself && (is_dir(it) || !*name)) {
            page->dir_exists = true;
            if (is_dir(it) && page->dir_attr.kind == ATTR_UNSET)
                item_attr(s, it, &page->dir_attr);
        } else if (!q->after || strcmp(name, q->after) > 0)
            add_entry(s, it, name, page);
    }
    page->dir_exists = page->dir_exists || !*q->prefix;
    page->cursor = take_ptr(&l->token);
    return 0;
}

int s3_list(struct store *store, struct op *op, const struct list_query *q, struct list_page *ret)
{
    struct s3_store *s = s3_of(store);
    CLEANUP_FREE char *prefix = xasprintf("%s%s", s->prefix, q->prefix);
    struct s3_list_result l = {0};
    struct list_page page = LIST_PAGE_INIT;
    unsigned max = q->max && q->max < S3_PAGE_MAX ? q->max : S3_PAGE_MAX;
    int r = s3_list_raw(s, op, "list", prefix, q, max, &l);
    if (r == 0)
        r = fill_page(s, op, prefix, q, &l, &page);
    s3_list_result_done(&l);
    if (r < 0)
        list_page_done(&page);
    else
        *ret = page;
    return r;
}

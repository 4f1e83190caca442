/* SPDX-License-Identifier: MIT
 * flat_list.c: what a server listed -> a page of the contract.
 *
 * What becomes an entry: object "d/f" -> key "d/f"; common prefix or marker "d/e/" -> directory
 * "d/e" (path_of_prefix: "d//" -> "d/", "//" -> "//"); the listed prefix itself -> dir_exists. A
 * marker with content is no marker but a file: "d/" -> key "d/" (and in a directory of slashes only
 * "/" -> key "//"). */
#include "backends/flat.h"

#include "base/cleanup.h"
#include "base/name.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct flat_item *flat_result_add(struct flat_result *r, bool is_prefix)
{
    if (r->n % 64 == 0)
        r->v = xrealloc(r->v, (r->n + 64) * sizeof(*r->v));
    struct flat_item *i = &r->v[r->n++];
    *i = (struct flat_item){.is_prefix = is_prefix};
    return i;
}

void flat_result_done(struct flat_result *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->v[i].object);
        http_headers_done(&r->v[i].meta);
    }
    free(r->v);
    free(r->token);
    *r = (struct flat_result){0};
}

int flat_check_paging(struct op *op, const char *cursor, struct flat_result *l)
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

int flat_take_listing(const struct flat_view *view, struct op *op, const char *opname, const char *prefix,
                      const struct list_query *q, int r, struct flat_result *l, struct flat_result *ret)
{
    if (r < 0) {
        r = err_set(&op->err, EIO, "%s %s/%.300s: the reply is not a listing", opname, view->uri, prefix);
        op->err.retry = ERR_RETRY_SAFE;
    } else {
        r = flat_check_paging(op, q ? q->cursor : NULL, l);
    }
    if (r < 0)
        flat_result_done(l);
    else
        *ret = *l;
    return r;
}

static int compare_items(const void *a, const void *b)
{
    const struct flat_item *x = a, *y = b;
    return strcmp(x->object, y->object);
}

/* 0 bytes under a name that ends in '/', or what a common prefix stands for. */
static bool is_dir(const struct flat_item *i)
{
    return path_is_unnamed(i->object) && (i->is_prefix || i->size == 0);
}

static void item_attr(const struct flat_view *v, const struct flat_item *i, struct attr *ret)
{
    ret->kind = is_dir(i) ? ATTR_DIR : ATTR_FILE;
    ret->mtime.tv_sec = i->mtime.tv_sec; /* as HEAD has it: a time must not depend on who told it */
    if (ret->kind == ATTR_FILE) {
        ret->size = i->size;
        memcpy(ret->version, i->etag, sizeof(ret->version));
    }
    if (i->has_meta)
        flat_meta_read(&i->meta, v->rules, v->posix, ret);
}

/* `name`: the object's, below base_path. */
static void add_entry(const struct flat_view *v, const struct flat_item *i, const char *name,
                      struct list_page *page)
{
    CLEANUP_FREE char *key = is_dir(i) ? path_of_prefix(name)
                                       : xasprintf("%s%s", name, path_is_slashes(name) ? "/" : "");
    item_attr(v, i, &list_page_add(page, key)->attr);
}

/* Objects ascend, and so do common prefixes; both come from `after` on (but a prefix that it lies in). */
static bool is_unordered(const struct flat_view *v, const struct list_query *q,
                         const struct flat_result *l)
{
    CLEANUP_FREE char *after = q->after && !v->from_start ? xasprintf("%s%s", v->prefix, q->after) : NULL;
    const char *last[2] = {after, NULL};
    for (size_t i = 0; i < l->n; i++) {
        const struct flat_item *it = &l->v[i];
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

int flat_fill_page(const struct flat_view *v, struct op *op, const char *prefix,
                     const struct list_query *q, struct flat_result *l, struct list_page *page)
{
    size_t base = strlen(v->prefix), n = strlen(prefix);
    page->unordered = is_unordered(v, q, l);
    if (l->n > 1)
        qsort(l->v, l->n, sizeof(*l->v), compare_items);
    for (size_t i = 0; i < l->n; i++) {
        const struct flat_item *it = &l->v[i];
        if (strncmp(it->object, prefix, n) != 0)
            return err_set(&op->err, EIO,
                           "list %s/%s: the server listed '%s', which is elsewhere", v->uri, prefix,
                           it->object);
        const char *name = it->object + base;
        if (v->hide && strncmp(name, v->hide, strlen(v->hide)) == 0)
            continue;
        if (v->is_hidden && v->is_hidden(name, it->size))
            continue;
        bool itself = it->object[n] == '\0' && (n == 0 || prefix[n - 1] == '/');
        if (itself && (is_dir(it) || !*name)) {
            page->dir_exists = true;
            if (is_dir(it) && page->dir_attr.kind == ATTR_UNSET)
                item_attr(v, it, &page->dir_attr);
        } else if (!q->after || strcmp(name, q->after) > 0) {
            add_entry(v, it, name, page);
        }
    }
    page->dir_exists = page->dir_exists || !*q->prefix;
    page->cursor = take_ptr(&l->token);
    return 0;
}

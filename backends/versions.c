/* SPDX-License-Identifier: MIT
 * versions.c: the wrapper that shows kept versions as files: see versions.h. */
#include "backends/versions.h"

#include "backends/registry.h"
#include "backends/wrap.h"
#include "base/cleanup.h"
#include "base/name.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A cursor of ours: the name behind which the next page begins. */
#define CURSOR "@versions/"

static struct store *next_of(struct wrapper *w)
{
    return w->base.next;
}

/* ---- one version ---- */

/* Attributes of the version that the path names. -ENOENT: none, or no such name. */
static int stat_file(struct wrapper *w, struct op *op, const struct version_path *p, struct attr *ret)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    CLEANUP_FREE char *id = NULL;
    struct timespec stored;
    int r = -ENOENT;
    if (p->name && version_name_parse(p->object, p->name, &stored, &id))
        r = store_stat_version(next_of(w), op, p->object, id, &a);
    if (r == -ENOTSUP || (r == 0 && a.changed_s && a.changed_s != stored.tv_sec))
        r = -ENOENT;
    if (r == -ENOENT)
        return err_set(&op->err, ENOENT, "%s: no such version", p->dir);
    if (r == 0)
        attr_move(ret, &a);
    return r;
}

/* ---- the directory ---- */

/* Are there versions, and when was the last change? -ENOENT: none. */
static int look(struct wrapper *w, struct op *op, const struct version_path *p, struct timespec *ret_changed)
{
    struct version_page page = VERSION_PAGE_INIT;
    int r = store_list_versions(next_of(w), op, p->object, NULL, 1, &page);
    if (r == -EACCES)
        return err_prefix(&op->err, "%s would show versions (or set versions = no)", p->dir);
    if (r == -ENOTSUP || (r == 0 && page.count == 0))
        r = err_set(&op->err, ENOENT, "%s: no versions are kept of it", p->object);
    if (r == 0)
        *ret_changed = page.v[0].attr.mtime;
    version_page_done(&page);
    return r;
}

static int stat_dir(struct wrapper *w, struct op *op, const struct version_path *p, struct attr *ret)
{
    struct timespec changed = {0};
    int r = look(w, op, p, &changed);
    if (r == 0)
        *ret = (struct attr){.kind = ATTR_DIR, .known = ATTR_META | ATTR_HAS_MTIME, .mtime = changed};
    return r;
}

static int do_stat(struct wrapper *w, struct op *op, const struct call *c, const struct version_path *p)
{
    int r = p->name ? stat_file(w, op, p, c->u.stat.ret) : -ENOENT;
    if (r == -ENOENT)
        r = call_forward(next_of(w), op, c);
    return r == -ENOENT && !p->name ? stat_dir(w, op, p, c->u.stat.ret) : r;
}

/* -EROFS in a directory of versions, and for itself. */
static int check_change(struct store *s, struct op *op, const char *key)
{
    struct wrapper *w = (struct wrapper *)s;
    CLEANUP_VERSION_PATH struct version_path p;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct timespec changed;
    if (!version_path_parse(key, &p))
        return 0;
    int r = store_stat(next_of(w), op, p.dir, &a);
    if (r == -ENOENT)
        r = look(w, op, &p, &changed);
    else if (r == 0)
        return 0;
    if (r == 0)
        return err_set(&op->err, EROFS, "%s: older versions are read-only", key);
    return r == -ENOENT ? 0 : r;
}

/* ---- listing ---- */

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct list_entry *)a)->key, ((const struct list_entry *)b)->key);
}

/* All of them, in the order of their names; *ret_any: there is something, if only a deletion. */
static int list_all(struct wrapper *w, struct op *op, const struct version_path *p, struct list_page *ret,
                    bool *ret_any)
{
    CLEANUP_FREE char *cursor = NULL;
    do {
        struct version_page page = VERSION_PAGE_INIT;
        int r = store_list_versions(next_of(w), op, p->object, cursor, 0, &page);
        if (r < 0)
            return r;
        for (size_t i = 0; i < page.count; i++) {
            struct kept_version *k = &page.v[i];
            if (k->deleted)
                continue;
            CLEANUP_FREE char *name = version_name(p->object, k->attr.mtime, k->id);
            CLEANUP_FREE char *key = path_child(p->dir, name);
            k->attr.mtime.tv_nsec = 0; /* as a stat tells it */
            attr_move(&list_page_add(ret, key)->attr, &k->attr);
        }
        *ret_any = *ret_any || page.count > 0;
        free(cursor);
        cursor = take_ptr(&page.cursor);
        version_page_done(&page);
    } while (cursor);
    if (ret->count > 1)
        qsort(ret->entries, ret->count, sizeof(*ret->entries), by_key);
    return 0;
}

/* Leaves the entries behind `after`, `max` at most. */
static void cut(struct list_page *page, const char *after, unsigned max)
{
    size_t n = 0;
    for (size_t i = 0; i < page->count; i++) {
        struct list_entry *e = &page->entries[i];
        if ((!after || strcmp(e->key, after) > 0) && !(max && n == max)) {
            page->entries[n++] = *e;
            continue;
        }
        if (n && n == max && !page->cursor)
            page->cursor = xasprintf(CURSOR "%s", page->entries[n - 1].key);
        free(e->key);
        attr_done(&e->attr);
    }
    page->count = n;
}

static int list_kept(struct wrapper *w, struct op *op, const struct list_query *q, const struct version_path *p,
                     struct list_page *ret)
{
    struct list_page page = LIST_PAGE_INIT;
    int r = list_all(w, op, p, &page, &page.dir_exists);
    if (r == -ENOTSUP) {
        err_clear(&op->err);
        return 0;
    }
    if (r < 0) {
        list_page_done(&page);
        return r;
    }
    cut(&page, q->cursor ? q->cursor + strlen(CURSOR) : q->after, q->max);
    *ret = page;
    return 0;
}

static int do_list(struct wrapper *w, struct op *op, const struct call *c, const struct version_path *p)
{
    const struct list_query *q = c->u.list.q;
    struct list_page *page = c->u.list.ret;
    if (q->cursor && strncmp(q->cursor, CURSOR, strlen(CURSOR)) == 0)
        return list_kept(w, op, q, p, page);
    int r = call_forward(next_of(w), op, c);
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == 0 && (page->count || page->cursor || page->dir_exists || q->cursor))
        return 0;
    list_page_done(page);
    err_clear(&op->err);
    return list_kept(w, op, q, p, page);
}

/* ---- reading: the object, and the version to be read ---- */

struct source_of {
    struct version_path path;
    const char *key, *version;
    struct attr attr; /* when it had to be asked for */
};

static void source_of_done(struct source_of *s)
{
    version_path_done(&s->path);
    attr_done(&s->attr);
}

/* Where to read `key` of `version` ("" or NULL: as it is now). */
static int find_source(struct wrapper *w, struct op *op, const char *key, const char *version,
                       struct source_of *ret)
{
    *ret = (struct source_of){.key = key, .version = version};
    if (!version_path_parse(key, &ret->path) || !ret->path.name)
        return 0;
    if (!version || !*version) {
        int r = stat_file(w, op, &ret->path, &ret->attr);
        if (r == -ENOENT) {
            err_clear(&op->err);
            return 0;
        }
        if (r < 0)
            return r;
        ret->version = ret->attr.version;
    }
    if (ret->version[0] == '@')
        ret->key = ret->path.object;
    return 0;
}

static int do_read(struct wrapper *w, struct op *op, const struct call *c)
{
    struct read_req req = *c->u.read.req;
    struct source_of from;
    int r = find_source(w, op, req.key, req.version, &from);
    req.key = from.key;
    req.version = from.version;
    if (r == 0)
        r = store_read(next_of(w), op, &req, c->u.read.ret);
    source_of_done(&from);
    return r;
}

static int do_copy(struct wrapper *w, struct op *op, struct call *c)
{
    struct source_of from;
    int r = check_change(&w->base, op, c->u.copy.to);
    if (r < 0)
        return r;
    if (c->u.copy.source)
        return call_forward(next_of(w), op, c);
    r = find_source(w, op, c->key, c->u.copy.from_version, &from);
    c->key = from.key;
    c->u.copy.from_version = from.version;
    if (r == 0)
        r = call_forward(next_of(w), op, c);
    source_of_done(&from);
    return r;
}

static int do_copy_part(struct wrapper *w, struct op *op, struct call *c)
{
    struct source_of from;
    int r = find_source(w, op, c->u.copy_part.from, c->u.copy_part.from_version, &from);
    c->u.copy_part.from = from.key;
    c->u.copy_part.from_version = from.version;
    if (r == 0)
        r = call_forward(next_of(w), op, c);
    source_of_done(&from);
    return r;
}

/* ---- everything else ---- */

static int do_remove_many(struct wrapper *w, struct op *op, const struct call *c)
{
    for (size_t i = 0; i < c->u.remove_many.n; i++) {
        int r = check_change(&w->base, op, c->u.remove_many.keys[i]);
        if (r < 0)
            return r;
    }
    return call_forward(next_of(w), op, c);
}

/* What only reads, of a version: neither tags nor URLs. */
static int refuse_of_version(struct wrapper *w, struct op *op, const struct call *c, const char *what)
{
    CLEANUP_VERSION_PATH struct version_path p;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int r = version_path_parse(c->key, &p) ? stat_file(w, op, &p, &a) : -ENOENT;
    if (r == 0)
        return err_set(&op->err, ENOTSUP, "%s: an older version has no %s here", c->key, what);
    return r == -ENOENT ? call_forward(next_of(w), op, c) : r;
}

static int do_other(struct wrapper *w, struct op *op, struct call *c)
{
    int r = 0;
    switch (c->kind) {
    case STORE_OP_READ:
        return do_read(w, op, c);
    case STORE_OP_COPY:
        return do_copy(w, op, c);
    case STORE_OP_UPLOAD_COPY_PART:
        return do_copy_part(w, op, c);
    case STORE_OP_REMOVE_MANY:
        return do_remove_many(w, op, c);
    case STORE_OP_GET_TAGS:
        return refuse_of_version(w, op, c, "tags");
    case STORE_OP_SIGN:
        return refuse_of_version(w, op, c, "URL");
    case STORE_OP_RENAME:
        r = check_change(&w->base, op, c->u.rename.to);
        break;
    case STORE_OP_EXCHANGE:
        r = check_change(&w->base, op, c->u.exchange.with);
        break;
    case STORE_OP_PROBE:
    case STORE_OP_SPACE:
    case STORE_OP_UPLOAD_PART: /* what has begun may end */
    case STORE_OP_UPLOAD_FINISH:
    case STORE_OP_UPLOAD_ABORT:
    case STORE_OP_LIST_VERSIONS:
    case STORE_OP_STAT_VERSION:
        return call_forward(next_of(w), op, c);
    default:
        break;
    }
    if (r == 0)
        r = check_change(&w->base, op, c->key);
    return r < 0 ? r : call_forward(next_of(w), op, c);
}

static int versions_around(struct wrapper *w, struct op *op, struct call *c)
{
    CLEANUP_VERSION_PATH struct version_path p = {0};
    if (c->kind == STORE_OP_STAT && version_path_parse(c->key, &p))
        return do_stat(w, op, c, &p);
    if (c->kind == STORE_OP_STAT)
        return call_forward(next_of(w), op, c);
    if (c->kind != STORE_OP_LIST)
        return do_other(w, op, c);
    CLEANUP_FREE char *dir = path_of_prefix(c->key);
    bool ours = path_is_unnamed(c->key) && version_path_parse(dir, &p) && !p.name;
    return ours ? do_list(w, op, c, &p) : call_forward(next_of(w), op, c);
}

static const struct store_class versions_class = {
    .abi = STORE_ABI,
    .name = "versions",
    .summary = "shows older versions as files",
    WRAP_SLOTS,
    .check_change = check_change,
};

struct store *store_wrap_versions(struct store *next)
{
    struct wrapper *w = xcalloc(1, sizeof(*w));
    wrapper_init(w, &versions_class, next, versions_around);
    w->base.caps |= CAP_VERSION_DIRS;
    return &w->base;
}

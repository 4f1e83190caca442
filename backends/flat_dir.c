/* SPDX-License-Identifier: MIT
 * flat_dir.c: stat, list and directories in a flat name space.
 *
 * A directory is there when any object lies below it. The object "key/" (0 bytes) is its marker: it
 * keeps an empty directory alive and carries mode, owner and times. With content the object "key/" is
 * no marker but a file of that key, beside the directory "key/" of an object "key//b". */
#include "backends/flat.h"

#include "base/cleanup.h"
#include "base/name.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int flat_list(const struct flat_view *v, struct store *s, struct op *op, const struct list_query *q,
              struct list_page *ret)
{
    CLEANUP_FREE char *prefix = xasprintf("%s%s", v->prefix, q->prefix);
    struct flat_result l = {0};
    struct list_page page = LIST_PAGE_INIT;
    unsigned max = q->max && q->max < v->page_max ? q->max : v->page_max;
    int r = v->list(s, op, "list", prefix, q, max, &l);
    if (r == 0)
        r = flat_fill_page(v, op, prefix, q, &l, &page);
    flat_result_done(&l);
    if (r < 0)
        list_page_done(&page);
    else
        *ret = page;
    return r;
}

int flat_head_file(const struct flat_view *v, struct store *s, struct op *op, const char *opname,
                   const char *key, const char *if_match, struct attr *ret)
{
    CLEANUP_FREE char *object = flat_object(v->prefix, key);
    struct attr a = ATTR_INIT;
    if (strcmp(key, "/") == 0)
        return err_set(&op->err, ENOENT, "%s: no object has this key", key);
    int r = v->head(s, op, opname, object, if_match, &a);
    if (r < 0)
        return r;
    if (!path_is_unnamed(key) || a.size > 0) {
        *ret = a;
        return 0;
    }
    attr_done(&a);
    return err_set(&op->err, ENOENT, "%s %s/%s: a directory's marker", opname, v->uri, object);
}

static int marker_attr(const struct flat_view *v, struct store *s, struct op *op,
                       const struct flat_item *item, struct attr *ret)
{
    struct attr a = {.mtime.tv_sec = item->mtime.tv_sec};
    int r = 0;
    if (item->has_meta)
        flat_meta_read(&item->meta, v->rules, v->posix, &a);
    else
        r = v->head(s, op, "stat", item->object, NULL, &a);
    if (r == -ENOENT) { /* gone meanwhile: others may be below it; the directory was there */
        err_clear(&op->err);
        r = 0;
    }
    if (r < 0)
        return r;
    flat_make_dir_attr(&a);
    *ret = a;
    return 0;
}

int flat_stat_dir(const struct flat_view *v, struct store *s, struct op *op, const char *key,
                  struct attr *ret, bool *ret_marker)
{
    CLEANUP_FREE char *prefix = flat_dir_object(v->prefix, key);
    struct flat_result l = {0};
    int r = v->list(s, op, "stat", prefix, NULL, 1, &l);
    if (r < 0)
        return r;
    bool marker = l.n > 0 && *prefix && strcmp(l.v[0].object, prefix) == 0 && l.v[0].size == 0;
    if (marker)
        r = marker_attr(v, s, op, &l.v[0], ret);
    else if (l.n > 0 || !*key)
        *ret = (struct attr){.kind = ATTR_DIR};
    else
        r = err_set(&op->err, ENOENT, "stat %s/%s%s: not there", v->uri, v->prefix, key);
    if (ret_marker)
        *ret_marker = marker;
    flat_result_done(&l);
    return r;
}

int flat_stat(const struct flat_view *v, struct store *s, struct op *op, const char *key, struct attr *ret)
{
    if (*key) {
        int r = flat_head_file(v, s, op, "stat", key, NULL, ret);
        if (r != -ENOENT)
            return r;
        err_clear(&op->err);
    }
    return flat_stat_dir(v, s, op, key, ret, NULL);
}

int flat_make_dir(const struct flat_view *v, struct store *s, struct op *op, const char *key,
                  const struct attr *attr)
{
    CLEANUP_FREE char *object = flat_dir_object(v->prefix, key);
    return v->put_marker(s, op, "make_dir", object, attr, NULL);
}

int flat_remove_dir(const struct flat_view *v, struct store *s, struct op *op, const char *key)
{
    CLEANUP_FREE char *object = flat_dir_object(v->prefix, key);
    struct flat_result l = {0};
    int r = v->list(s, op, "remove_dir", object, NULL, 2, &l);
    if (r < 0)
        return r;
    bool marker = l.n > 0 && strcmp(l.v[0].object, object) == 0 && l.v[0].size == 0;
    bool empty = l.n == 0 || (l.n == 1 && marker && !l.truncated);
    flat_result_done(&l);
    if (!empty)
        return err_set(&op->err, ENOTEMPTY, "remove_dir %s/%s: there are objects below", v->uri, object);
    if (!marker)
        return err_set(&op->err, ENOENT, "remove_dir %s/%s: not there", v->uri, object);
    return v->remove(s, op, object, NULL);
}

#define OVERTAKEN_MAX 100

bool flat_overtaken(struct op *op, unsigned *tries, int *r)
{
    if (*r != -EAGAIN)
        return false;
    op->err.code = EBUSY;
    op->err.retry = ERR_RETRY_SAFE;
    *r = -EBUSY;
    if (++*tries >= OVERTAKEN_MAX)
        return false;
    int ended = op_check(op);
    if (ended < 0)
        *r = ended;
    else
        err_clear(&op->err);
    return ended == 0;
}

static int set_object_meta(const struct flat_view *v, struct store *s, struct op *op, const char *object,
                           const char *if_match, const struct attr *change, struct attr *ret)
{
    unsigned tries = 0;
    int r;
    do
        r = v->set_meta(s, op, object, if_match, change, ret);
    while (flat_overtaken(op, &tries, &r));
    return r;
}

int flat_keep_time(const struct flat_view *v, struct store *s, struct op *op, struct store *source,
                   const char *from, const char *from_version, const char *to, struct attr *copy)
{
    struct attr shown = ATTR_INIT, now = ATTR_INIT;
    if (!v->posix || (copy->known & ATTR_HAS_MTIME))
        return 0;
    int r = v->head(source, op, "copy", from, from_version, &shown);
    if (r == 0 && shown.mtime.tv_sec != copy->mtime.tv_sec) {
        struct attr time = {.kind = ATTR_FILE, .known = ATTR_HAS_MTIME, .mtime = shown.mtime};
        r = set_object_meta(v, s, op, to, copy->version, &time, &now);
        if (r == 0) {
            attr_done(copy);
            attr_move(copy, &now);
        }
    }
    attr_done(&shown);
    if (r == -E2BIG || r == -ESTALE || r == -ENOENT) { /* no room for it; or others have changed source or copy */
        err_clear(&op->err);
        r = 0;
    }
    return r;
}

int flat_set_meta(const struct flat_view *v, struct store *s, struct op *op, const char *key, const char *if_match,
                  const struct attr *change, struct attr *ret)
{
    if (!*key || change->kind == ATTR_DIR)
        return flat_set_dir_meta(v, s, op, key, change, ret);
    CLEANUP_FREE char *object = flat_object(v->prefix, key);
    int r = set_object_meta(v, s, op, object, if_match, change, ret);
    if (r == -ENOENT && !(if_match && *if_match)) {
        err_clear(&op->err);
        return flat_set_dir_meta(v, s, op, key, change, ret);
    }
    return r;
}

int flat_set_dir_meta(const struct flat_view *v, struct store *s, struct op *op, const char *key,
                      const struct attr *change, struct attr *ret)
{
    CLEANUP_FREE char *object = flat_dir_object(v->prefix, key);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (!*object)
        return err_set(&op->err, ENOTSUP, "the root of a bucket has nothing to keep metadata in");
    int r = flat_stat_dir(v, s, op, key, &a, NULL);
    if (r < 0)
        return r;
    attr_apply(&a, change);
    a.kind = ATTR_DIR;
    return v->put_marker(s, op, "set_meta", object, &a, ret);
}

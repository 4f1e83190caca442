/* SPDX-License-Identifier: MIT
 * same.c: see same.h. */
#include "backends/same.h"

#include "backends/local/local.h"
#include "base/cleanup.h"
#include "base/name.h"

#include <errno.h>
#include <string.h>

struct place {
    const char *class;
    struct buf service, path;
};

static void place_done(struct place *p)
{
    buf_done(&p->service);
    buf_done(&p->path);
}

static void place_of(const struct same_place *given, struct place *ret)
{
    const struct store *s = given->store;
    *ret = (struct place){.class = local_class.name};
    while (s && s->next)
        s = s->next;
    if (s && s->cls->place)
        s->cls->place(s, &ret->service, &ret->path);
    else if (s)
        buf_adds(&ret->path, s->base_uri);
    if (s)
        ret->class = s->cls->name;
    else
        buf_adds(&ret->path, given->path);
    while (ret->path.len && ret->path.data[ret->path.len - 1] == '/')
        buf_truncate(&ret->path, ret->path.len - 1);
    if (s && *given->path)
        buf_addf(&ret->path, "/%s", given->path);
}

/* Is it in the directory? */
static bool within(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return strncmp(path, dir, n) == 0 && path[n] == '/';
}

/* "~/x" on a server may be "/home/me/x". */
static bool may_be_home(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    return a[0] == '~' && b[0] == '/' && m >= n - 1 && strcmp(a + 1, b + m - (n - 1)) == 0;
}

enum same_names same_by_name(const struct same_place *a, const struct same_place *b, bool *ret_sure)
{
    struct place x, y;
    place_of(a, &x);
    place_of(b, &y);
    const char *p = buf_str(&x.path), *q = buf_str(&y.path);
    enum same_names rel = strcmp(p, q) == 0 ? SAME_ONE : within(q, p) ? SAME_BELOW : within(p, q) ? SAME_ABOVE : SAME_APART;
    bool class = strcmp(x.class, y.class) == 0, service = strcmp(buf_str(&x.service), buf_str(&y.service)) == 0;
    bool home = may_be_home(p, q) || may_be_home(q, p);
    bool local = strcmp(x.class, local_class.name) == 0;
    if (!class)
        rel = SAME_APART;
    *ret_sure = !class || (rel == SAME_APART ? !home && !local : service);
    place_done(&x);
    place_done(&y);
    return rel;
}

/* 0: there is no such file. */
static int look(struct op *op, const struct same_place *p, struct attr *ret)
{
    if (!p->store && p->st)
        local_attr_from_stat(p->st, ret);
    if (!p->store)
        return p->st != NULL;
    int r = *p->path ? store_stat(p->store, op, p->path, ret) : -ENOENT;
    if (r == -ENOENT)
        err_clear(&op->err);
    return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

/* The store's own time, where it has one: what two keys show of a file's may differ (posix = no). */
static bool same_times(const struct attr *a, const struct attr *b)
{
    if (a->changed_s && b->changed_s)
        return a->changed_s == b->changed_s;
    return a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

int same_by_look(struct op *op, const struct same_place *a, const struct same_place *b)
{
    CLEANUP_ATTR struct attr x = ATTR_INIT, y = ATTR_INIT;
    int r = look(op, a, &x);
    if (r == 1)
        r = look(op, b, &y);
    if (r != 1)
        return r;
    return x.kind == y.kind && x.kind != ATTR_DIR && x.size == y.size && strcmp(x.version, y.version) == 0 &&
           same_times(&x, &y);
}

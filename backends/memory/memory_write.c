/* SPDX-License-Identifier: MIT
 * memory_write.c: changes of a memory store. Data is gathered first; then, in the change's turn, the
 * condition is looked at and the object is swapped, so every change is atomic. */
#include "backends/memory/memory_int.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/name.h"

/* The attributes of a new object: those asked for, and a time. */
static void new_attr(struct attr *to, const struct attr *from, enum attr_kind kind)
{
    attr_copy(to, from);
    to->kind = kind;
    if (!(to->known & ATTR_HAS_MTIME))
        to->mtime = clock_wall();
}

static int meets(struct memory *m, struct op *op, const char *key, const struct precond *pre)
{
    LOCK_SCOPE(&m->sync.lock);
    return memory_precond_locked(m, op, key, pre);
}

static int commit(struct memory *m, struct op *op, const char *key, const struct precond *pre,
                  struct mem_object *o, struct attr *ret)
{
    int r = memory_begin(m, op);
    if (r < 0) {
        object_unref(o);
        return r;
    }
    r = meets(m, op, key, pre);
    if (r == 0)
        r = memory_set(m, op, key, o, true, 0, ret);
    else
        object_unref(o);
    memory_end(m);
    return r;
}

int memory_put(struct store *s, struct op *op, const struct put_req *req, struct attr *ret)
{
    struct mem_data *data = NULL;
    int r = data_from_source(op, req->src, &data);
    if (r < 0)
        return r;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    new_attr(&a, req->attr, req->attr->kind == ATTR_SYMLINK ? ATTR_SYMLINK : ATTR_FILE);
    return commit(memory_of(s), op, req->key, &req->precond, mem_object_new(&a, data), ret);
}

static int patched_data(struct op *op, const struct patch_req *req, const struct mem_data *old,
                        struct mem_data **ret)
{
    struct mem_data *d = req->new_size > SIZE_MAX / 2 ? NULL : data_new((size_t)req->new_size);
    if (!d)
        return err_set(&op->err, ENOSPC, "no memory for %llu bytes",
                       (unsigned long long)req->new_size);
    size_t keep = old->size < d->size ? old->size : d->size;
    memcpy(d->bytes, old->bytes, keep);
    memset(d->bytes + keep, 0, d->size - keep);
    for (size_t i = 0; i < req->n_ranges; i++) {
        const struct patch_range *p = &req->ranges[i];
        int r = req->src->read_at(req->src, p->offset, d->bytes + p->offset, (size_t)p->length);
        if (r < 0) {
            data_unref(d);
            return err_set(&op->err, -r, "reading the data to store: %s", strerror(-r));
        }
    }
    *ret = d;
    return 0;
}

/* Patches a copy and swaps it in, if the object is still the one that was copied: two patches of
 * one object at the same time both take effect. */
int memory_patch(struct store *s, struct op *op, const struct patch_req *req, struct attr *ret)
{
    struct memory *m = memory_of(s);
    for (;;) {
        struct mem_object *old = NULL;
        struct mem_data *data = NULL;
        int r = op_check(op);
        if (r == 0)
            r = memory_snapshot(m, op, req->key, req->if_match, &old);
        if (r == 0)
            r = patched_data(op, req, old->data, &data);
        if (r < 0) {
            object_unref(old);
            return r;
        }
        CLEANUP_ATTR struct attr a = ATTR_INIT;
        attr_copy(&a, &old->attr);
        a.known &= ~(unsigned)ATTR_HAS_MTIME;
        a.mtime = clock_wall();
        if (req->attr)
            attr_apply(&a, req->attr);
        struct precond same = {.if_match = old->attr.version};
        r = commit(m, op, req->key, &same, mem_object_new(&a, data), ret);
        object_unref(old);
        if (r != -ESTALE || (req->if_match && req->if_match[0]))
            return r;
        err_clear(&op->err);
    }
}

/* In the turn. */
static int remove_now(struct memory *m, struct op *op, const char *key, const char *if_match)
{
    struct precond pre = {.if_match = if_match};
    struct mem_change gone = {.key = key};
    struct mem_object *o = NULL;
    {
        LOCK_SCOPE(&m->sync.lock);
        int r = memory_find_locked(m, op, key, &o);
        if (r == 0)
            r = memory_precond_locked(m, op, key, &pre);
        if (r < 0)
            return r;
    }
    return memory_apply(m, op, &gone, 1);
}

int memory_remove(struct store *s, struct op *op, const char *key, const char *if_match)
{
    struct memory *m = memory_of(s);
    int r = memory_begin(m, op);
    if (r < 0)
        return r;
    r = remove_now(m, op, key, if_match);
    memory_end(m);
    return r;
}

int memory_copy(struct store *s, struct op *op, const char *from, const char *from_version,
                const char *to, const struct precond *pre, struct attr *ret)
{
    struct memory *m = memory_of(s);
    struct mem_object *o = NULL;
    int r = memory_snapshot(m, op, from, from_version, &o);
    if (r < 0)
        return r;
    r = commit(m, op, to, pre, mem_object_new(&o->attr, data_ref(o->data)), ret);
    object_unref(o);
    return r;
}

/* In the turn. What is at `from`; 1: the rename changes nothing. */
static int look_at_rename(struct memory *m, struct op *op, const char *from, const char *to, bool no_replace,
                          struct mem_object **ret)
{
    struct precond pre = {.if_absent = no_replace};
    struct mem_object *o = NULL;
    LOCK_SCOPE(&m->sync.lock);
    int r = memory_find_locked(m, op, from, &o);
    if (r == -EISDIR)
        return err_set(&op->err, ENOTSUP, "'%s' is a directory: a memory store does not rename it", from);
    if (r == 0)
        r = memory_precond_locked(m, op, to, &pre);
    if (r < 0 || strcmp(from, to) == 0)
        return r < 0 ? r : 1;
    *ret = object_ref(o);
    return 0;
}

int memory_rename(struct store *s, struct op *op, const char *from, const char *to, bool no_replace)
{
    struct memory *m = memory_of(s);
    struct mem_change moved[2] = {{.key = from}, {.key = to}};
    int r = memory_begin(m, op);
    if (r < 0)
        return r;
    r = look_at_rename(m, op, from, to, no_replace, &moved[1].o);
    if (r == 0)
        r = memory_apply(m, op, moved, 2);
    memory_end(m);
    return r < 0 ? r : 0;
}

/* In the turn. */
static int look_at_both(struct memory *m, struct op *op, const char *a, const char *b, struct mem_object **ret_a,
                        struct mem_object **ret_b)
{
    struct mem_object *x = NULL, *y = NULL;
    LOCK_SCOPE(&m->sync.lock);
    int r = memory_find_locked(m, op, a, &x);
    if (r == 0 || r == -EISDIR) {
        int other = memory_find_locked(m, op, b, &y);
        r = other < 0 ? other : r;
    }
    if (r == -EISDIR)
        return err_set(&op->err, ENOTSUP, "'%s' and '%s': a memory store does not exchange directories", a, b);
    if (r < 0)
        return r;
    *ret_a = object_ref(x);
    *ret_b = object_ref(y);
    return 0;
}

int memory_exchange(struct store *s, struct op *op, const char *a, const char *b)
{
    struct memory *m = memory_of(s);
    struct mem_change swapped[2] = {{.key = a}, {.key = b}};
    int r = memory_begin(m, op);
    if (r < 0)
        return r;
    r = look_at_both(m, op, a, b, &swapped[1].o, &swapped[0].o);
    if (r == 0)
        r = memory_apply(m, op, swapped, 2);
    memory_end(m);
    return r;
}

/* The key under which the thing named `key` is: an object's own, or a directory's with '/'. */
static int meta_key_locked(struct memory *m, struct op *op, const char *key, char **ret_key,
                           struct mem_object **ret)
{
    int r = memory_find_locked(m, op, key, ret);
    if (r == 0)
        *ret_key = xstrdup(key);
    if (r != -EISDIR)
        return r;
    if (key[0] == '\0')
        return err_set(&op->err, ENOTSUP, "the root directory has no metadata here");
    err_clear(&op->err);
    *ret_key = path_dir_prefix(key);
    struct node *n = tree_find(&m->sync.tree, *ret_key);
    *ret = n ? n->object : NULL;
    return 0;
}

/* In the turn: the thing named `key` with the change; where it is goes to *ret_at. */
static int with_change(struct memory *m, struct op *op, const char *key, const char *if_match,
                       const struct attr *change, char **ret_at, struct mem_object **ret)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct precond pre = {.if_match = if_match};
    struct mem_object *now = NULL;
    LOCK_SCOPE(&m->sync.lock);
    int r = meta_key_locked(m, op, key, ret_at, &now);
    if (r == 0)
        r = memory_precond_locked(m, op, *ret_at, &pre);
    if (r < 0)
        return r;
    if (now)
        attr_copy(&a, &now->attr);
    else
        a.kind = ATTR_DIR;
    attr_apply(&a, change);
    *ret = mem_object_new(&a, now && now->data ? data_ref(now->data) : NULL);
    return 0;
}

/* The content, and so the version, stays. A directory without an entry of its own gets one. */
int memory_set_meta(struct store *s, struct op *op, const char *key, const char *if_match,
                    const struct attr *change, struct attr *ret)
{
    struct memory *m = memory_of(s);
    CLEANUP_FREE char *at = NULL;
    struct mem_object *o = NULL;
    int r = memory_begin(m, op);
    if (r < 0)
        return r;
    r = with_change(m, op, key, if_match, change, &at, &o);
    if (r == 0)
        r = memory_set(m, op, at, o, false, 0, ret);
    memory_end(m);
    return r;
}

static bool is_taken(struct memory *m, const char *key, const char *dir)
{
    LOCK_SCOPE(&m->sync.lock);
    return tree_find(&m->sync.tree, dir) || memory_object_locked(m, key);
}

int memory_make_dir(struct store *s, struct op *op, const char *key, const struct attr *attr)
{
    struct memory *m = memory_of(s);
    CLEANUP_FREE char *dir = path_dir_prefix(key);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int r = memory_begin(m, op);
    if (r < 0)
        return r;
    new_attr(&a, attr, ATTR_DIR);
    r = is_taken(m, key, dir) ? err_set(&op->err, EEXIST, "'%s' exists already", key)
                              : memory_set(m, op, dir, mem_object_new(&a, NULL), false, 0, NULL);
    memory_end(m);
    return r;
}

/* In the turn: is there an empty directory? */
static int look_at_dir(struct memory *m, struct op *op, const char *key, const char *dir)
{
    LOCK_SCOPE(&m->sync.lock);
    struct node *own = tree_find(&m->sync.tree, dir);
    struct node *child = own ? own->next[0] : tree_from(&m->sync.tree, dir);
    if (child && strncmp(child->key, dir, strlen(dir)) == 0)
        return err_set(&op->err, ENOTEMPTY, "'%s' is not empty", key);
    if (!own && memory_object_locked(m, key))
        return err_set(&op->err, ENOTDIR, "'%s' is not a directory", key);
    return own ? 0 : err_set(&op->err, ENOENT, "'%s' is not there", key);
}

int memory_remove_dir(struct store *s, struct op *op, const char *key)
{
    struct memory *m = memory_of(s);
    CLEANUP_FREE char *dir = path_dir_prefix(key);
    struct mem_change gone = {.key = dir};
    int r = memory_begin(m, op);
    if (r < 0)
        return r;
    r = look_at_dir(m, op, key, dir);
    if (r == 0)
        r = memory_apply(m, op, &gone, 1);
    memory_end(m);
    return r;
}

/* SPDX-License-Identifier: MIT
 * memory_write.c: changes of a memory store. Data is gathered without the lock; then one step under
 * it checks the condition and swaps the object, so every change is atomic. */
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

static int commit(struct memory *m, struct op *op, const char *key, const struct precond *pre,
                  struct mem_object *o, struct attr *ret)
{
    struct mem_object *old = o;
    int r;
    {
        LOCK_SCOPE(&m->sync.lock);
        r = memory_precond_locked(m, op, key, pre);
        if (r == 0)
            r = memory_commit_locked(m, op, key, o, true, ret, &old);
    }
    object_unref(old);
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

/* A reference to the object as it is now, if it has that version (NULL: any). */
static int snapshot(struct memory *m, struct op *op, const char *key, const char *version,
                    struct mem_object **ret)
{
    LOCK_SCOPE(&m->sync.lock);
    struct mem_object *o = NULL;
    int r = memory_find_locked(m, op, key, &o);
    if (r < 0)
        return r;
    if (version && version[0] && strcmp(version, o->attr.version) != 0)
        return err_set(&op->err, ESTALE, "'%s' has changed", key);
    *ret = object_ref(o);
    return 0;
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
            r = snapshot(m, op, req->key, req->if_match, &old);
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

int memory_remove(struct store *s, struct op *op, const char *key, const char *if_match)
{
    struct memory *m = memory_of(s);
    struct mem_object *o = NULL;
    {
        LOCK_SCOPE(&m->sync.lock);
        int r = memory_find_locked(m, op, key, &o);
        if (r < 0)
            return r;
        struct precond pre = {.if_match = if_match};
        r = memory_precond_locked(m, op, key, &pre);
        if (r < 0)
            return r;
        m->sync.bytes -= o->attr.size;
        o = tree_remove(&m->sync.tree, key);
    }
    object_unref(o);
    return 0;
}

int memory_copy(struct store *s, struct op *op, const char *from, const char *from_version,
                const char *to, const struct precond *pre, struct attr *ret)
{
    struct memory *m = memory_of(s);
    struct mem_object *o = NULL;
    int r = snapshot(m, op, from, from_version, &o);
    if (r < 0)
        return r;
    r = commit(m, op, to, pre, mem_object_new(&o->attr, data_ref(o->data)), ret);
    object_unref(o);
    return r;
}

int memory_rename(struct store *s, struct op *op, const char *from, const char *to, bool no_replace)
{
    struct memory *m = memory_of(s);
    struct mem_object *o = NULL, *old = NULL;
    {
        LOCK_SCOPE(&m->sync.lock);
        int r = memory_find_locked(m, op, from, &o);
        if (r == -EISDIR)
            return err_set(&op->err, ENOTSUP,
                           "'%s' is a directory: a memory store does not rename it", from);
        if (r < 0)
            return r;
        struct precond pre = {.if_absent = no_replace};
        r = memory_precond_locked(m, op, to, &pre);
        if (r < 0 || strcmp(from, to) == 0)
            return r;
        o = tree_remove(&m->sync.tree, from);
        old = tree_set(&m->sync.tree, to, o);
        m->sync.bytes -= old ? old->attr.size : 0;
    }
    object_unref(old);
    return 0;
}

int memory_exchange(struct store *s, struct op *op, const char *a, const char *b)
{
    struct memory *m = memory_of(s);
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
    (void)tree_set(&m->sync.tree, a, y);
    (void)tree_set(&m->sync.tree, b, x);
    return 0;
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

/* The content, and so the version, stays. A directory without an entry of its own gets one. */
int memory_set_meta(struct store *s, struct op *op, const char *key, const char *if_match,
                    const struct attr *change, struct attr *ret)
{
    struct memory *m = memory_of(s);
    CLEANUP_FREE char *at = NULL;
    struct mem_object *now = NULL, *old = NULL;
    int r;
    {
        LOCK_SCOPE(&m->sync.lock);
        r = meta_key_locked(m, op, key, &at, &now);
        struct precond pre = {.if_match = if_match};
        if (r == 0)
            r = memory_precond_locked(m, op, at, &pre);
        if (r < 0)
            return r;
        CLEANUP_ATTR struct attr a = ATTR_INIT;
        if (now)
            attr_copy(&a, &now->attr);
        else
            a.kind = ATTR_DIR;
        attr_apply(&a, change);
        struct mem_object *o = mem_object_new(&a, now && now->data ? data_ref(now->data) : NULL);
        r = memory_commit_locked(m, op, at, o, false, ret, &old);
    }
    object_unref(old);
    return r;
}

int memory_make_dir(struct store *s, struct op *op, const char *key, const struct attr *attr)
{
    struct memory *m = memory_of(s);
    CLEANUP_FREE char *dir = path_dir_prefix(key);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    new_attr(&a, attr, ATTR_DIR);
    struct mem_object *o = mem_object_new(&a, NULL), *old = o;
    int r = 0;
    {
        LOCK_SCOPE(&m->sync.lock);
        if (tree_find(&m->sync.tree, dir) || memory_object_locked(m, key))
            r = err_set(&op->err, EEXIST, "'%s' exists already", key);
        else
            r = memory_commit_locked(m, op, dir, o, false, NULL, &old);
    }
    object_unref(old);
    return r;
}

int memory_remove_dir(struct store *s, struct op *op, const char *key)
{
    struct memory *m = memory_of(s);
    CLEANUP_FREE char *dir = path_dir_prefix(key);
    struct mem_object *o = NULL;
    {
        LOCK_SCOPE(&m->sync.lock);
        struct node *own = tree_find(&m->sync.tree, dir);
        struct node *child = own ? own->next[0] : tree_from(&m->sync.tree, dir);
        if (child && strncmp(child->key, dir, strlen(dir)) == 0)
            return err_set(&op->err, ENOTEMPTY, "'%s' is not empty", key);
        if (!own && memory_object_locked(m, key))
            return err_set(&op->err, ENOTDIR, "'%s' is not a directory", key);
        if (!own)
            return err_set(&op->err, ENOENT, "'%s' is not there", key);
        o = tree_remove(&m->sync.tree, dir);
    }
    object_unref(o);
    return 0;
}

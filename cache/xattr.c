/* SPDX-License-Identifier: MIT
 * xattr.c: metadata by path: mode, owner, times, extended attributes.
 *
 * Staged with the content while that is not stored yet; else changed at the store at once. Extended
 * attributes are stored as a whole, so a change reads, edits and writes them under the name lock.
 * Namespaces: user.* is stored; user.etag is the version, read-only; all others are -EOPNOTSUPP. */
#include "cache/volume_int.h"

#include "base/cleanup.h"

#define XATTR_ETAG "user.etag"

/* Nothing of the file is open or staged here. */
static int change_stored(struct volume *v, struct op *op, const char *path,
                         const struct attr *change, struct attr *ret)
{
    CLEANUP_ATTR struct attr now = ATTR_INIT, full = ATTR_INIT, stored = ATTR_INIT;
    int r = volume_stat(v, op, path, 0, &now);
    if (r < 0)
        return r;
    attr_copy(&full, change);
    if (!((now.known | change->known) & ATTR_HAS_MTIME) && now.kind != ATTR_DIR) {
        full.mtime = now.mtime; /* a copy in place would change it */
        full.known |= ATTR_HAS_MTIME;
    }
    r = store_set_meta(v->store, op, path, NULL, &full, &stored);
    if (r == -ENOENT && now.kind == ATTR_DIR) { /* a prefix without an object of its own */
        attr_apply(&now, &full);
        r = store_make_dir(v->store, op, path, &now);
    }
    if (r < 0)
        return r;
    if (now.kind == ATTR_DIR)
        volume_parent_has_marker(v, path);
    if (stored.known & ATTR_META) {
        attr_done(&now);
        attr_move(&now, &stored);
    } else {
        attr_apply(&now, &full);
        if (stored.version[0])
            memcpy(now.version, stored.version, sizeof(now.version));
    }
    volume_complete(v, &now);
    volume_changed(v, path, &now);
    attr_move(ret, &now);
    return 0;
}

int volume_change_meta(struct volume *v, struct op *op, const char *path, const struct attr *change,
                       struct attr *ret)
{
    struct vnode *n = NULL;
    int r = vnode_begin_at(v, op, path, true, &n);
    if (r < 0)
        return r;
    if (!n || atomic_load(&n->stale)) {
        r = change_stored(v, op, path, change, ret);
    } else {
        r = vnode_set_meta(n, op, change);
        if (r == 0)
            vnode_attr(n, ret);
    }
    vnode_end_put(n);
    return r;
}

int volume_set_attr(struct volume *v, struct op *op, const char *path, const struct attr *change,
                    struct attr *ret)
{
    struct name_lock l;
    int r = volume_check_write(v, op);
    if (r == 0)
        r = name_lock(v, op, &l, NAME_EXCL, path, NULL);
    if (r < 0)
        return r;
    r = volume_change_meta(v, op, path, change, ret);
    name_unlock(v, &l);
    return r;
}

/* ---- extended attributes ---- */

static int check_name(struct volume *v, struct op *op, const char *name)
{
    if (strncmp(name, "user.", 5) == 0 && name[5])
        return 0;
    return err_set(&op->err, EOPNOTSUPP, "%s: extended attribute %s: only user.* are stored", v->key,
                   name);
}

int volume_get_xattr(struct volume *v, struct op *op, const char *path, const char *name,
                     struct buf *ret)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int r = check_name(v, op, name);
    if (r == 0)
        r = volume_stat(v, op, path, 0, &a);
    if (r < 0)
        return r;
    const struct xattr *x = attr_xattr(&a, name);
    if (strcmp(name, XATTR_ETAG) == 0 && a.version[0])
        buf_adds(ret, a.version);
    else if (x)
        buf_add(ret, x->value, x->size);
    else
        r = err_set(&op->err, ENODATA, "%s: %s: no attribute %s", v->key, path, name);
    return r;
}

int volume_list_xattr(struct volume *v, struct op *op, const char *path, struct buf *ret)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int r = volume_stat(v, op, path, 0, &a);
    if (r < 0)
        return r;
    for (size_t i = 0; i < a.n_xattrs; i++)
        buf_add(ret, a.xattrs[i].name, strlen(a.xattrs[i].name) + 1);
    return 0;
}

struct xattr_edit {
    const char *name;
    const void *value; /* NULL: remove */
    size_t size;
    unsigned flags;
};

static int edit(struct volume *v, struct op *op, const char *path, const struct xattr_edit *e)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT, change = ATTR_INIT, ret = ATTR_INIT;
    int r = volume_stat(v, op, path, 0, &a);
    if (r < 0)
        return r;
    bool there = attr_xattr(&a, e->name) != NULL;
    if (there && (e->flags & VOLUME_XATTR_CREATE))
        return err_set(&op->err, EEXIST, "%s: %s: %s exists already", v->key, path, e->name);
    if (!there && (!e->value || (e->flags & VOLUME_XATTR_REPLACE)))
        return err_set(&op->err, ENODATA, "%s: %s: no attribute %s", v->key, path, e->name);
    for (size_t i = 0; i < a.n_xattrs; i++)
        attr_xattr_set(&change, a.xattrs[i].name, a.xattrs[i].value, a.xattrs[i].size);
    if (e->value)
        attr_xattr_set(&change, e->name, e->value, e->size);
    else
        (void)attr_xattr_remove(&change, e->name);
    change.known = ATTR_HAS_XATTRS;
    return volume_change_meta(v, op, path, &change, &ret);
}

static int edit_locked(struct volume *v, struct op *op, const char *path, const struct xattr_edit *e)
{
    struct name_lock l;
    int r = volume_check_write(v, op);
    if (r == 0)
        r = check_name(v, op, e->name);
    if (r == 0 && strcmp(e->name, XATTR_ETAG) == 0)
        r = err_set(&op->err, EACCES, "%s: %s is read-only", v->key, XATTR_ETAG);
    if (r == 0)
        r = name_lock(v, op, &l, NAME_EXCL, path, NULL);
    if (r < 0)
        return r;
    r = edit(v, op, path, e);
    name_unlock(v, &l);
    return r;
}

int volume_set_xattr(struct volume *v, struct op *op, const char *path, const char *name,
                     const void *value, size_t size, unsigned flags)
{
    struct xattr_edit e = {.name = name, .value = size ? value : "", .size = size, .flags = flags};
    return edit_locked(v, op, path, &e);
}

int volume_remove_xattr(struct volume *v, struct op *op, const char *path, const char *name)
{
    struct xattr_edit e = {.name = name};
    return edit_locked(v, op, path, &e);
}

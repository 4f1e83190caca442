/* SPDX-License-Identifier: MIT
 * xattr.c: metadata by path: mode, owner, times, extended attributes.
 *
 * Staged with the content while that is not stored yet; else changed at the store at once: what is named, and nothing
 * else, as what is known here may be older than another client's change (ATTR_XATTR_EDITS). Whether an extended attribute
 * is there is asked at the store, by the calls that want to know.
 * Namespaces: user.* is stored; user.etag is the version, read-only; all others are -EOPNOTSUPP.
 * user.tag.* are the object's tags where the store has such (CAP_TAGS): asked for when they are asked for, set at
 * the store at once; of a file with staged content they are staged with it (ATTR_HAS_TAGS). */
#include "cache/volume_int.h"

#include "base/cleanup.h"

#define XATTR_ETAG "user.etag"

/* Nothing of the file is open or staged here. */
static int change_stored(struct volume *v, struct op *op, const char *path,
                         const struct attr *change, struct attr *ret)
{
    CLEANUP_ATTR struct attr now = ATTR_INIT, stored = ATTR_INIT;
    struct attr exact = volume_times(v, change);
    int r = volume_stat(v, op, path, 0, &now);
    if (r < 0)
        return r;
    volume_settle(v, path);
    r = store_set_meta(v->store, op, path, NULL, &exact, &stored);
    if (r == -ENOENT && now.kind == ATTR_DIR) { /* a prefix without an object of its own */
        attr_apply(&now, &exact);
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
        attr_apply(&now, &exact);
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
    int r = volume_check_write(v, op, path);
    if (r == 0)
        r = name_lock(v, op, &l, NAME_EXCL, path, NULL);
    if (r < 0)
        return r;
    volume_settle_copies(v, op, path);
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

static bool is_tag(const struct volume *v, const char *name)
{
    return (v->store->caps & CAP_TAGS) && attr_is_tag(name);
}

/* Adds the file's tags to its attributes, which are those of now. */
static int load_tags(struct volume *v, struct op *op, const char *path, struct attr *a)
{
    bool asked = a->kind == ATTR_FILE && a->version[0] && a->tags != ATTR_TAGS_NONE;
    if (!(v->store->caps & CAP_TAGS) || (a->known & ATTR_HAS_TAGS) || !asked)
        return 0;
    unsigned known = a->known;
    int r = store_get_tags(v->store, op, path, a);
    a->known = known;
    return r == -ENOTSUP ? 0 : r;
}

int volume_get_xattr(struct volume *v, struct op *op, const char *path, const char *name,
                     struct buf *ret)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int r = check_name(v, op, name);
    if (r == 0)
        r = volume_stat(v, op, path, 0, &a);
    if (r == 0 && is_tag(v, name))
        r = load_tags(v, op, path, &a);
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
    if (r == 0 && (r = load_tags(v, op, path, &a)) == -EACCES)
        r = 0; /* who may not see them can copy the file all the same */
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

static int check_edit(struct volume *v, struct op *op, const char *path, const struct attr *a,
                      const struct xattr_edit *e)
{
    bool there = attr_xattr(a, e->name) != NULL;
    if (there && (e->flags & VOLUME_XATTR_CREATE))
        return err_set(&op->err, EEXIST, "%s: %s: %s exists already", v->key, path, e->name);
    if (!there && (!e->value || (e->flags & VOLUME_XATTR_REPLACE)))
        return err_set(&op->err, ENODATA, "%s: %s: no attribute %s", v->key, path, e->name);
    return 0;
}

static int edit(struct volume *v, struct op *op, const char *path, const struct xattr_edit *e)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT, change = ATTR_INIT, ret = ATTR_INIT;
    int r = 0;
    if (!e->value || e->flags) {
        r = volume_stat(v, op, path, VOLUME_STAT_FRESH, &a);
        if (r == 0)
            r = check_edit(v, op, path, &a, e);
    }
    if (r < 0)
        return r;
    attr_xattr_edit(&change, e->name, e->value, e->size);
    return volume_change_meta(v, op, path, &change, &ret);
}

/* ---- tags ---- */

static size_t characters(const char *s, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)s[i] & 0xC0) != 0x80;
    return n;
}

static int check_tags(struct volume *v, struct op *op, const char *path, const struct attr *a)
{
    const struct store_limits *l = &v->store->limits;
    unsigned n = 0;
    for (size_t i = 0; i < a->n_xattrs; i++) {
        const struct xattr *x = &a->xattrs[i];
        const char *name = x->name + sizeof(ATTR_TAG) - 1;
        if (!attr_is_tag(x->name))
            continue;
        n++;
        if (characters(name, strlen(name)) > l->tag_name_max ||
            characters(x->value, x->size) > l->tag_value_max)
            return err_set(&op->err, E2BIG, "%s: %s: a tag has a name of at most %u and a value of at most %u "
                                            "characters", v->key, path, l->tag_name_max, l->tag_value_max);
    }
    if (n > l->tags_max)
        return err_set(&op->err, E2BIG, "%s: %s: an object has at most %u tags", v->key, path, l->tags_max);
    return 0;
}

/* `n`: the file's vnode, with its token, or NULL. */
static int edit_tags_held(struct volume *v, struct op *op, const char *path, struct vnode *n,
                          const struct xattr_edit *e)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT, change = ATTR_INIT;
    bool here = n && !atomic_load(&n->stale);
    bool staged = here && (n->dirty || n->unlinked);
    int r = 0;
    if (here)
        vnode_attr(n, &a);
    else
        r = volume_stat(v, op, path, 0, &a);
    if (r == 0 && a.kind != ATTR_FILE)
        r = err_set(&op->err, EOPNOTSUPP, "%s: %s: only files have tags", v->key, path);
    if (!staged)
        a.tags = ATTR_TAGS_UNKNOWN; /* those of now */
    if (r == 0)
        r = load_tags(v, op, path, &a);
    if (r == 0)
        r = check_edit(v, op, path, &a, e);
    if (r < 0)
        return r;
    attr_xattr_edit(&change, e->name, e->value, e->size);
    attr_apply(&a, &change);
    a.known = ATTR_HAS_XATTRS | ATTR_HAS_TAGS;
    r = check_tags(v, op, path, &a);
    if (r < 0)
        return r;
    if (staged)
        return vnode_set_meta(n, op, &a);
    r = store_set_tags(v->store, op, path, &a);
    if (r < 0)
        return r == -ENOTSUP ? err_set(&op->err, EOPNOTSUPP, "%s: %s: the server keeps no tags", v->key, path) : r;
    if (here) {
        LOCK_SCOPE(&n->lock);
        n->attr.tags = ATTR_TAGS_SOME;
    }
    volume_changed(v, path, NULL); /* whether it has tags is part of what is known of it */
    return 0;
}

static int edit_tags(struct volume *v, struct op *op, const char *path, const struct xattr_edit *e)
{
    struct vnode *n = NULL;
    int r = vnode_begin_at(v, op, path, true, &n);
    if (r < 0)
        return r;
    r = edit_tags_held(v, op, path, n, e);
    vnode_end_put(n);
    return r;
}

static int edit_locked(struct volume *v, struct op *op, const char *path, const struct xattr_edit *e)
{
    struct name_lock l;
    int r = volume_check_write(v, op, path);
    if (r == 0)
        r = check_name(v, op, e->name);
    if (r == 0 && strcmp(e->name, XATTR_ETAG) == 0)
        r = err_set(&op->err, EACCES, "%s: %s is read-only", v->key, XATTR_ETAG);
    if (r == 0 && (v->store->caps & CAP_NO_XATTRS)) /* now, not when the content has been staged with it */
        r = err_set(&op->err, EOPNOTSUPP, "%s: %s: backend '%s' has no extended attributes", v->key, path,
                    v->store->cls->name);
    if (r == 0)
        r = name_lock(v, op, &l, NAME_EXCL, path, NULL);
    if (r < 0)
        return r;
    volume_settle_copies(v, op, path);
    r = is_tag(v, e->name) ? edit_tags(v, op, path, e) : edit(v, op, path, e);
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

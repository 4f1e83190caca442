/* SPDX-License-Identifier: MIT
 * names.c: making and removing names: directories, symbolic links, unlink.
 *
 * Directories of an object store are prefixes; mkdir writes a marker object. Removing the last object
 * below a prefix without a marker would make the directory vanish, so before a removal we look whether the
 * parent has a marker or other entries, and write a marker otherwise. What one listing told is remembered:
 * `others` removals need no further look. (Removals by other clients are not seen; the directory may then
 * vanish with its last object, as it does for them.) */
#include "cache/given_up.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/stage.h"
#include "cache/stream.h"

#include <limits.h>

#define PARENTS_MAX 65536
#define LOOK_AHEAD 1000 /* removals that one look at a directory is good for */
#define KEEP_MAX (1024ULL * 1024 * 1024) /* of a removed file that is open: more is not fetched */

struct parent {
    bool marker;
    uint64_t others; /* entries that may still be removed without emptying it */
};

/* ---- directories that must stay ---- */

void volume_parents_free(struct volume *v)
{
    STRMAP_EACH(&v->s.parents, it)
        free(it->value);
    strmap_done(&v->s.parents);
}

static struct parent *parent_get_locked(struct volume *v, const char *dir)
{
    struct parent *p = strmap_get(&v->s.parents, dir);
    if (p)
        return p;
    if (v->s.parents.count >= PARENTS_MAX)
        volume_parents_free(v); /* costs a listing each */
    p = xcalloc(1, sizeof(*p));
    (void)strmap_put(&v->s.parents, dir, p);
    return p;
}

void volume_parent_has_marker(struct volume *v, const char *dir)
{
    LOCK_SCOPE(&v->s.lock);
    parent_get_locked(v, dir)->marker = true;
}

void volume_parents_forget(struct volume *v, const char *dir)
{
    LOCK_SCOPE(&v->s.lock);
    struct strmap kept = STRMAP_INIT;
    STRMAP_EACH(&v->s.parents, it) {
        if (path_within(it->key, dir))
            free(it->value);
        else
            (void)strmap_put(&kept, it->key, it->value);
    }
    strmap_done(&v->s.parents);
    v->s.parents = kept;
}

/* May one more entry go without a look at the store? */
static bool parent_allows(struct volume *v, const char *dir)
{
    LOCK_SCOPE(&v->s.lock);
    struct parent *p = parent_get_locked(v, dir);
    if (p->marker)
        return true;
    if (p->others == 0)
        return false;
    p->others--;
    return true;
}

int volume_keep_parent(struct volume *v, struct op *op, const char *path)
{
    CLEANUP_FREE char *dir = path_parent(path);
    if ((v->store->caps & CAP_REAL_DIRS) || dir[0] == '\0' || parent_allows(v, dir))
        return 0;
    size_t count = 0;
    bool marker = false;
    int r = volume_count_entries(v, op, dir, LOOK_AHEAD, &count, &marker);
    if (r < 0)
        return r;
    if (!marker && count <= 1) {
        r = store_make_dir(v->store, op, dir, NULL);
        if (r < 0 && r != -EEXIST)
            return r;
        marker = true;
    }
    LOCK_SCOPE(&v->s.lock);
    struct parent *p = parent_get_locked(v, dir);
    p->marker = marker;
    p->others = count > 2 ? count - 2 : 0;
    return 0;
}

/* ---- open files that lose their name ---- */

int vnode_keep_content(struct vnode *n, struct op *op)
{
    struct volume *v = n->v;
    lock_acquire(&v->s.lock);
    bool open = n->handles > 0;
    lock_release(&v->s.lock);
    if (!open || !n->base || n->base_len == 0 || n->base_len > KEEP_MAX)
        return 0;
    int r = vnode_fill(n, op, 0, n->base_len);
    if (r == -EINTR || r == -ETIMEDOUT)
        return r;
    if (r < 0) /* its readers may get -ESTALE; that must not make it impossible to remove it */
        log_debug("cache", "%s: %s: not kept for its readers: %s", v->key, n->path,
                  err_text(&op->err));
    return 0;
}

void vnode_set_unlinked(struct vnode *n)
{
    struct volume *v = n->v;
    if (n->stream && stream_has_freed(n->stream)) /* those bytes go with the upload: its readers must not take holes for them */
        atomic_store(&n->stale, true);
    vnode_drop_stream(n);
    vnode_drop_old(n, true);
    vnode_remove_row(n);
    vnode_drop_undo(n, false);
    if (n->file_name && !n->in_row)
        stage_file_remove(v->stage, n->file_name);
    bool whole = n->base && ranges_has(&n->staged, 0, n->base_len);
    lock_acquire(&v->s.lock);
    vnode_detach_locked(n);
    lock_acquire(&n->lock);
    bool was = n->dirty;
    n->unlinked = true;
    n->dirty = n->journaled = n->unflushed = n->in_row = n->saved = false;
    free(n->file_name);
    n->file_name = NULL;
    v->s.dirty -= was;
    lock_release(&n->lock);
    lock_release(&v->s.lock);
    if (whole)
        vnode_set_base(n, NULL, 0);
    if (was) {
        stat_add(v->pending_files, -1);
        vnode_put(n); /* the reference of the dirty state; the token's holder has another */
    }
}

/* ---- unlink ---- */

/* Nothing of it can be at the store. */
static bool is_only_here(const struct vnode *n)
{
    return n->dirty && !n->base && !n->maybe_stored;
}

int volume_remove_object(struct volume *v, struct op *op, const char *path, const char *if_match)
{
    volume_settle(v, path);
    if (!path_is_unnamed(path))
        return store_remove(v->store, op, path, if_match);
    CLEANUP_FREE char *dir = path_parent(path);
    int r = store_make_dir(v->store, op, dir, NULL);
    if (r == 0)
        volume_parent_has_marker(v, dir);
    return r;
}

int volume_remove_version(struct volume *v, struct op *op, const char *path, const char *version)
{
    const char *match = v->store->caps & CAP_IF_MATCH ? version : NULL;
    int r = volume_remove_object(v, op, path, match);
    return r == -ENOTSUP && match ? volume_remove_object(v, op, path, NULL) : r;
}

/* `version`: no other; NULL: any. */
static int remove_stored(struct volume *v, struct op *op, const char *path, const char *version, struct vnode *n)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int r = n && n->base ? 0 : volume_stat(v, op, path, 0, &a);
    if (r == 0 && a.kind == ATTR_DIR)
        r = err_set(&op->err, EISDIR, "%s: %s: is a directory", v->key, path);
    if (r == 0 && n)
        r = vnode_keep_content(n, op);
    if (r == 0 && !path_is_unnamed(path))
        r = volume_keep_parent(v, op, path);
    if (r == 0)
        r = volume_remove_version(v, op, path, version);
    return r == -ENOENT && n && n->dirty ? 0 : r;
}

/* 1: what was being uploaded has lost its name, and its upload goes on without one. */
static int leave_flying(struct volume *v, struct op *op, const char *path, struct vnode *n)
{
    int r = remove_stored(v, op, path, NULL, NULL);
    if (r == 0 || r == -ENOENT)
        r = given_up_fly(n) ? 1 : 0;
    vnode_put(n);
    return r;
}

static void forget_name(struct volume *v, const char *path)
{
    volume_changed(v, path, NULL);
    seen_set(v, path, NULL);
    cache_forget(v->cache, v->key, path);
}

static int remove_held(struct volume *v, struct op *op, const char *path, const char *version, struct vnode *n)
{
    int r = !n || !is_only_here(n) ? remove_stored(v, op, path, version, n) : 0;
    if (r < 0 && r != -ENOENT)
        return r;
    given_up_removed(v, path);
    if (n)
        vnode_set_unlinked(n);
    return r;
}

int volume_unlink_version(struct volume *v, struct op *op, const char *path, const char *version, struct vnode *n)
{
    int r = remove_held(v, op, path, version, n);
    if (r == 0 || r == -ENOENT)
        forget_name(v, path);
    return r;
}

static int unlink_path(struct volume *v, struct op *op, const char *path)
{
    struct vnode *n = NULL;
    int r;
    while ((r = vnode_begin_removal(v, op, path, &n)) == 1 && (r = leave_flying(v, op, path, n)) == 0)
        ; /* its upload has ended meanwhile */
    if (r == 0) {
        r = remove_held(v, op, path, NULL, n);
        vnode_end_put(n);
    }
    if (r < 0 && r != -ENOENT)
        return r;
    forget_name(v, path);
    return r == 1 ? 0 : r;
}

int volume_unlink(struct volume *v, struct op *op, const char *path)
{
    struct name_lock l;
    int r = volume_check_write(v, op, path);
    if (r == 0)
        r = name_lock(v, op, &l, NAME_EXCL, path, NULL);
    if (r < 0)
        return r;
    volume_settle_copies(v, op, path);
    r = unlink_path(v, op, path);
    name_unlock(v, &l);
    return r;
}

/* ---- directories ---- */

/* What is stored with a new name: what differs from the defaults, and its time. */
static void new_attr(const struct volume *v, enum attr_kind kind, mode_t mode, uid_t uid, gid_t gid,
                     struct attr *a)
{
    const struct volume_policy *p = &v->policy;
    mode_t plain = kind == ATTR_DIR ? p->dir_mode : 0777;
    *a = (struct attr){.kind = kind,
                       .known = ATTR_META | ATTR_HAS_MTIME,
                       .mode = mode & 07777,
                       .uid = uid,
                       .gid = gid,
                       .mtime = volume_time(v, clock_wall())};
    a->known |= (mode & 07777) != plain ? ATTR_HAS_MODE : 0;
    a->known |= uid != p->uid ? ATTR_HAS_UID : 0;
    a->known |= gid != p->gid ? ATTR_HAS_GID : 0;
    a->atime = a->mtime;
}

/* -EEXIST when something has this name, here or at the store. */
static int check_absent(struct volume *v, struct op *op, const char *path)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct vnode *n = vnode_find(v, path);
    bool local = n && vnode_is_dirty(n);
    vnode_put(n);
    int r = local ? 0 : volume_stat_fresh(v, op, path, true, NULL, &a);
    if (r == -ENOENT)
        return 0;
    return r < 0 ? r : err_set(&op->err, EEXIST, "%s: %s: exists already", v->key, path);
}

/* The attributes of what was just made; real directories have their own idea of them. */
static int made(struct volume *v, struct op *op, const char *path, const struct attr *a,
                struct attr *ret)
{
    bool ask = v->store->caps & CAP_REAL_DIRS;
    volume_changed(v, path, ask ? NULL : a);
    if (ask)
        return volume_stat(v, op, path, VOLUME_STAT_FRESH, ret);
    attr_copy(ret, a);
    volume_complete(v, ret);
    return 0;
}

int volume_mkdir(struct volume *v, struct op *op, const char *path, mode_t mode, uid_t uid, gid_t gid,
                 struct attr *ret)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct name_lock l;
    new_attr(v, ATTR_DIR, mode, uid, gid, &a);
    int r = volume_check_write(v, op, path);
    if (r == 0)
        r = name_lock(v, op, &l, NAME_EXCL, path, NULL);
    if (r < 0)
        return r;
    uint64_t seq = meta_seq(v->meta, path);
    struct listing *empty = listing_new(); /* what we know of it from now on, within the ttl */
    r = check_absent(v, op, path);
    if (r == 0)
        r = store_make_dir(v->store, op, path, &a);
    if (r == 0) {
        volume_parent_has_marker(v, path);
        meta_listing_put(v->meta, path, empty, seq);
        r = made(v, op, path, &a, ret);
    }
    listing_put(empty);
    name_unlock(v, &l);
    return r;
}

static int check_empty(struct volume *v, struct op *op, const char *path)
{
    if (vnode_any_dirty_below(v, path))
        return err_set(&op->err, ENOTEMPTY, "%s: %s: not empty", v->key, path);
    if (v->store->caps & CAP_REAL_DIRS)
        return 0;
    size_t count = 0;
    bool marker = false;
    int r = volume_count_entries(v, op, path, 1, &count, &marker);
    if (r < 0)
        return r;
    if (count)
        return err_set(&op->err, ENOTEMPTY, "%s: %s: not empty", v->key, path);
    return marker ? 0 : err_set(&op->err, ENOENT, "%s: %s: no such directory", v->key, path);
}

static int check_dir(struct volume *v, struct op *op, const char *path)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    CLEANUP_ATTR struct attr shadow = ATTR_INIT;
    if (path[0] == '\0')
        return err_set(&op->err, EBUSY, "%s: the root directory stays", v->key);
    int r = volume_stat(v, op, path, 0, &a);
    if (r < 0 || a.kind == ATTR_DIR)
        return r;
    r = volume_stat(v, op, path, VOLUME_STAT_DIR, &shadow);
    return r == -ENOENT ? err_set(&op->err, ENOTDIR, "%s: %s: not a directory", v->key, path) : r;
}

int volume_rmdir(struct volume *v, struct op *op, const char *path)
{
    struct name_lock l;
    int r = volume_check_write(v, op, path);
    if (r == 0)
        r = check_dir(v, op, path);
    if (r == 0)
        r = name_lock(v, op, &l, NAME_TREE, path, NULL);
    if (r < 0)
        return r;
    r = check_empty(v, op, path);
    if (r == 0)
        r = volume_keep_parent(v, op, path);
    if (r == 0)
        r = store_remove_dir(v->store, op, path);
    if (r == 0 || r == -ENOENT) {
        meta_forget_tree(v->meta, path);
        volume_changed(v, path, NULL);
        volume_parents_forget(v, path);
    }
    name_unlock(v, &l);
    return r;
}

/* ---- symbolic links ---- */

static int put_link(struct volume *v, struct op *op, const char *target, const char *path,
                    struct attr *a)
{
    struct source_mem src = source_mem(target, strlen(target));
    struct put_req req = {.key = path,
                          .src = &src.base,
                          .attr = a,
                          .precond.if_absent = v->store->caps & CAP_IF_MATCH};
    struct attr stored = ATTR_INIT;
    int r = check_absent(v, op, path);
    if (r == 0)
        r = store_put(v->store, op, &req, &stored);
    if (r < 0)
        return r;
    memcpy(a->version, stored.version, sizeof(a->version));
    attr_done(&stored);
    return 0;
}

int volume_symlink(struct volume *v, struct op *op, const char *target, const char *path, uid_t uid,
                   gid_t gid, struct attr *ret)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct name_lock l;
    new_attr(v, ATTR_SYMLINK, 0777, uid, gid, &a);
    a.size = strlen(target);
    int r = volume_check_write(v, op, path);
    if (r == 0 && path_is_unnamed(path))
        r = err_set(&op->err, EPERM, "%s: %s: a file of this name cannot be made", v->key, path);
    if (r == 0 && !(v->store->caps & CAP_SYMLINK))
        r = err_set(&op->err, EOPNOTSUPP, "%s: the store has no symbolic links", v->key);
    if (r == 0)
        r = name_lock(v, op, &l, NAME_EXCL, path, NULL);
    if (r < 0)
        return r;
    r = put_link(v, op, target, path, &a);
    if (r == 0)
        r = made(v, op, path, &a, ret);
    name_unlock(v, &l);
    return r;
}

static int read_link(struct volume *v, struct op *op, const char *path, unsigned flags,
                     struct buf *ret)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int r = volume_stat(v, op, path, flags, &a);
    if (r < 0)
        return r;
    if (a.kind != ATTR_SYMLINK)
        return err_set(&op->err, EINVAL, "%s: %s: not a symbolic link", v->key, path);
    if (a.size >= PATH_MAX)
        return err_set(&op->err, ENAMETOOLONG, "%s: %s: target too long", v->key, path);
    size_t before = ret->len;
    struct read_req req = {.key = path,
                           .version = a.version,
                           .iov = {.iov_base = buf_reserve(ret, a.size + 1), .iov_len = a.size}};
    struct read_res res = READ_RES_INIT;
    r = store_read(v->store, op, &req, &res);
    if (r == 0) {
        ret->len = before + res.length;
        ret->data[ret->len] = '\0';
    }
    read_res_done(&res);
    return r;
}

int volume_readlink(struct volume *v, struct op *op, const char *path, struct buf *ret)
{
    int r = read_link(v, op, path, 0, ret);
    if (r == -ESTALE || r == -ENOENT || r == -EINVAL) /* what we knew of it is out of date */
        r = read_link(v, op, path, VOLUME_STAT_FRESH, ret);
    return r;
}

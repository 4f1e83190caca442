/* SPDX-License-Identifier: MIT
 * sftp_meta.c: metadata: what SFTP 3 tells (mode, uid, gid, atime and mtime in seconds) and sets.
 * By commands it is the same, but that the nanoseconds of mtime are in the version.
 */
#include "backends/sftp/sftp_int.h"

#include <limits.h>
#include <sys/stat.h>

struct version_id sftp_id_of(const struct wire_attr *w)
{
    struct version_id id = {.mtime = w->mtime, .size = w->flags ? w->size : UINT64_MAX};
    if (w->flags & WIRE_EXACT) {
        id.mtime = w->mtime * NS_PER_S + w->mtime_ns;
        id.inode = w->inode;
    }
    return id;
}

bool sftp_is_dir(const struct wire_attr *w)
{
    return (w->flags & WIRE_MODE) && S_ISDIR(w->mode);
}

bool sftp_is_link(const struct wire_attr *w)
{
    return (w->flags & WIRE_MODE) && S_ISLNK(w->mode);
}

int sftp_check_kind(struct op *op, const struct wire_attr *w, const char *key)
{
    mode_t type = w->mode & S_IFMT;
    if (!(w->flags & WIRE_MODE) || type == S_IFREG || type == S_IFDIR || type == S_IFLNK ||
        type == 0)
        return 0;
    return err_set(&op->err, EACCES, "%s is a special file (device, fifo or socket)", key);
}

void sftp_attr_of(struct sftp *s, const char *key, const struct wire_attr *w, struct attr *ret)
{
    ret->kind = sftp_is_dir(w) ? ATTR_DIR : sftp_is_link(w) ? ATTR_SYMLINK : ATTR_FILE;
    ret->known = ATTR_META;
    if (w->flags & WIRE_MODE) {
        ret->known |= ATTR_HAS_MODE;
        ret->mode = w->mode & 07777;
    }
    if (w->flags & WIRE_OWNER) {
        ret->known |= ATTR_HAS_UID | ATTR_HAS_GID;
        ret->uid = w->uid;
        ret->gid = w->gid;
    }
    if (w->flags & WIRE_TIMES) {
        ret->known |= ATTR_HAS_MTIME | ATTR_HAS_ATIME;
        ret->mtime.tv_sec = w->mtime;
        ret->atime.tv_sec = w->atime;
    }
    ret->size = ret->kind == ATTR_DIR ? 0 : w->size;
    struct version_id id = sftp_id_of(w);
    if (ret->kind != ATTR_DIR)
        versions_text(&s->versions, key, &id, ret->version);
}

int sftp_no_xattrs(struct op *op, const struct attr *a, const char *key)
{
    if (!(a->known & (ATTR_HAS_XATTRS | ATTR_XATTR_EDITS)) || a->n_xattrs == 0)
        return 0;
    return err_set(&op->err, ENOTSUP, "%s: SFTP has no extended attributes (%s)", key,
                   a->xattrs[0].name);
}

struct wire_attr sftp_owner_of(const struct attr *change, const struct wire_attr *now)
{
    struct wire_attr w = {.uid = now->uid, .gid = now->gid};
    unsigned both = ATTR_HAS_UID | ATTR_HAS_GID;
    if (!(change->known & both) || (!(now->flags & WIRE_OWNER) && (change->known & both) != both))
        return w;
    if (change->known & ATTR_HAS_UID)
        w.uid = (uint32_t)change->uid;
    if (change->known & ATTR_HAS_GID)
        w.gid = (uint32_t)change->gid;
    if (!(now->flags & WIRE_OWNER) || w.uid != now->uid || w.gid != now->gid)
        w.flags = WIRE_OWNER;
    return w;
}

static uint32_t seconds(struct timespec t)
{
    return t.tv_sec < 0 ? 0 : t.tv_sec > UINT32_MAX ? UINT32_MAX : (uint32_t)t.tv_sec;
}

struct wire_attr sftp_rest_of(const struct attr *change, const struct wire_attr *now)
{
    uint32_t today = seconds(clock_wall());
    bool known = now->flags & WIRE_TIMES;
    struct wire_attr w = {.atime = known ? now->atime : today, .mtime = known ? now->mtime : today};
    if (change->known & ATTR_HAS_MODE) {
        w.flags |= WIRE_MODE;
        w.mode = change->mode & 07777;
    }
    if (change->known & (ATTR_HAS_MTIME | ATTR_HAS_ATIME))
        w.flags |= WIRE_TIMES;
    if (change->known & ATTR_HAS_MTIME)
        w.mtime = seconds(change->mtime);
    if (change->known & ATTR_HAS_ATIME)
        w.atime = seconds(change->atime);
    return w;
}

/* Of a symbolic link itself where the server can. */
static int set_some(struct conn *c, struct op *op, const char *path, const char *key, bool is_link,
                    const struct wire_attr *a)
{
    struct wire_attr w = *a;
    if (is_link)
        w.flags &= ~(uint32_t)WIRE_MODE; /* Linux has none on links */
    if (!w.flags)
        return 0;
    if (is_link && !(c->extensions & EXT_LSETSTAT))
        return err_set(
            &op->err, ENOTSUP,
            "set the metadata of %s: sftp %s: the server cannot do that to a symbolic link", key,
            c->name);
    conn_changing(c, true);
    int r = c->far->set(c, op, path, key, is_link, &w, "set the metadata of");
    conn_changing(c, false);
    return r;
}

static int set_meta_on(struct sftp *s, struct conn *c, struct op *op, const char *path,
                       const char *key, const char *if_match, const struct attr *change,
                       struct attr *ret)
{
    struct wire_attr before = {.flags = 0}, after;
    int r = far_lstat(c, op, path, key, &before);
    if (r == 0)
        r = sftp_check_kind(op, &before, key);
    struct version_id was = sftp_id_of(&before);
    if (r == 0 && !sftp_is_dir(&before) && !versions_match(&s->versions, key, if_match, &was))
        r = err_set(&op->err, ESTALE, "%s has changed", key);
    if (r < 0)
        return r;
    bool is_link = sftp_is_link(&before);
    struct wire_attr owner = sftp_owner_of(change, &before), rest = sftp_rest_of(change, &before);
    r = set_some(c, op, path, key, is_link, &owner);
    if (r == 0)
        r = set_some(c, op, path, key, is_link, &rest);
    if (r == 0)
        r = far_lstat(c, op, path, key, &after);
    if (r < 0)
        return r;
    struct version_id is = sftp_id_of(&after);
    if (is.size == was.size && is.inode == was.inode && (rest.flags & WIRE_TIMES) &&
        after.mtime == rest.mtime && after.mtime_ns == 0)
        versions_same(&s->versions, key, &was, &is);
    sftp_attr_of(s, key, &after, ret);
    return 0;
}

int sftp_set_meta(struct store *store, struct op *op, const char *key, const char *if_match,
                  const struct attr *change, struct attr *ret)
{
    struct sftp *s = sftp_of(store);
    CLEANUP_FREE char *path = NULL;
    struct conn *c;
    int r = sftp_no_xattrs(op, change, key);
    if (r == 0)
        r = sftp_path(s, op, key, &path);
    if (r == 0)
        r = claims_take(&s->claims, op, key);
    if (r < 0)
        return r;
    r = sftp_take(s, op, false, &c);
    if (r == 0) {
        r = set_meta_on(s, c, op, path, key, if_match, change, ret);
        sftp_give(s, c, false);
    }
    claims_release(&s->claims, key);
    return r;
}

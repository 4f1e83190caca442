/* SPDX-License-Identifier: MIT
 * local_meta.c: metadata of local files, and their versions.
 *
 * A version must change with every change of content. mtime and size do not suffice: rsync -t and
 * cp -p set mtime back. ctime cannot be set, so it is part of the version; but chmod and rename
 * move it too, and an open file must not become "stale" by them. So a change of metadata that this
 * store makes itself is remembered as "A became B" (aliases, the last ALIASES of them), and A still
 * matches B. A chmod by another program does make a new version: that is the safe side. */
#include "backends/local/local_int.h"

#include "base/clock.h"

#include <sys/xattr.h>

#define XATTR_BYTES_MAX 65536

struct version_id local_version_of(const struct stat *st)
{
    return (struct version_id){
        .mtime_ns = (uint64_t)st->st_mtim.tv_sec * NS_PER_S + (uint64_t)st->st_mtim.tv_nsec,
        .ctime_ns = (uint64_t)st->st_ctim.tv_sec * NS_PER_S + (uint64_t)st->st_ctim.tv_nsec,
        .size = (uint64_t)st->st_size,
        .ino = (uint64_t)st->st_ino,
    };
}

void local_version_text(const struct version_id *v, char out[ATTR_VERSION_MAX])
{
    snprintf(out, ATTR_VERSION_MAX, "%llx-%llx-%llx-%llx", (unsigned long long)v->mtime_ns,
             (unsigned long long)v->ctime_ns, (unsigned long long)v->size,
             (unsigned long long)v->ino);
}

static bool parse_version(const char *s, struct version_id *ret)
{
    uint64_t v[4];
    for (unsigned i = 0; i < 4; i++) {
        char *end;
        v[i] = strtoull(s, &end, 16);
        if (end == s || *end != (i < 3 ? '-' : '\0'))
            return false;
        s = end + 1;
    }
    *ret = (struct version_id){.mtime_ns = v[0], .ctime_ns = v[1], .size = v[2], .ino = v[3]};
    return true;
}

static bool same(const struct version_id *a, const struct version_id *b)
{
    return a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns && a->size == b->size &&
           a->ino == b->ino;
}

/* One step along the remembered changes. */
static bool follow_locked(struct local *l, struct version_id *v)
{
    lock_assert_held(&l->aliases.lock);
    for (unsigned i = 0; i < ALIASES; i++) {
        if (same(&l->aliases.ring[i].from, v) && l->aliases.ring[i].from.ino) {
            *v = l->aliases.ring[i].to;
            return true;
        }
    }
    return false;
}

bool local_version_is(struct local *l, const char *version, const struct stat *st)
{
    struct version_id now = local_version_of(st), v;
    if (!version || !version[0])
        return true;
    if (!parse_version(version, &v))
        return false;
    if (same(&v, &now))
        return true;
    if (v.ino != now.ino || v.size != now.size)
        return false;
    LOCK_SCOPE(&l->aliases.lock);
    for (unsigned steps = 0; steps < ALIASES && follow_locked(l, &v); steps++)
        if (same(&v, &now))
            return true;
    return false;
}

void local_version_alias(struct local *l, const struct stat *from, const struct stat *to)
{
    struct version_id a = local_version_of(from), b = local_version_of(to);
    if (a.ino != b.ino || a.size != b.size || same(&a, &b))
        return;
    LOCK_SCOPE(&l->aliases.lock);
    unsigned i = l->aliases.next++ % ALIASES;
    l->aliases.ring[i].from = a;
    l->aliases.ring[i].to = b;
}

int local_lstat(struct op *op, const struct local_at *at, const char *key, struct stat *ret)
{
    if (fstatat(at->fd, at->base, ret, AT_SYMLINK_NOFOLLOW) < 0)
        return local_fail(op, -errno, "stat", key);
    if (!S_ISREG(ret->st_mode) && !S_ISDIR(ret->st_mode) && !S_ISLNK(ret->st_mode))
        return err_set(&op->err, EACCES, "%s is a special file (device, fifo or socket)", key);
    return 0;
}

void local_attr_from_stat(const struct stat *st, struct attr *ret)
{
    ret->kind = S_ISDIR(st->st_mode) ? ATTR_DIR : S_ISLNK(st->st_mode) ? ATTR_SYMLINK : ATTR_FILE;
    ret->known =
        ATTR_HAS_MODE | ATTR_HAS_UID | ATTR_HAS_GID | ATTR_HAS_MTIME | ATTR_HAS_ATIME | ATTR_META;
    ret->mode = st->st_mode & 07777;
    ret->uid = st->st_uid;
    ret->gid = st->st_gid;
    ret->mtime = st->st_mtim;
    ret->atime = st->st_atim;
    ret->size = ret->kind == ATTR_DIR ? 0 : (uint64_t)st->st_size;
    struct version_id v = local_version_of(st);
    if (ret->kind != ATTR_DIR)
        local_version_text(&v, ret->version);
}

/* There are no *at() calls for xattrs before Linux 6.13: the directory is named by its descriptor.
 */
static void proc_path(const struct local_at *at, char out[300])
{
    snprintf(out, 300, "/proc/self/fd/%d/%s", at->fd, at->base);
}

static void read_xattr(const char *path, const char *name, struct attr *ret)
{
    char small[256];
    ssize_t n = lgetxattr(path, name, small, sizeof(small));
    if (n >= 0) {
        attr_xattr_set(ret, name, small, (size_t)n);
    } else if (errno == ERANGE) {
        CLEANUP_FREE char *big = xmalloc(XATTR_BYTES_MAX);
        n = lgetxattr(path, name, big, XATTR_BYTES_MAX);
        if (n >= 0)
            attr_xattr_set(ret, name, big, (size_t)n);
    }
}

/* The names of all xattrs of a path, each ended by a NUL; 0 also where there can be none. */
static size_t list_names(const char *path, char *small, size_t small_size, char **ret_big)
{
    ssize_t n = llistxattr(path, small, small_size);
    if (n < 0 && errno == ERANGE) {
        *ret_big = xmalloc(XATTR_BYTES_MAX);
        n = llistxattr(path, *ret_big, XATTR_BYTES_MAX);
    }
    return n < 0 ? 0 : (size_t)n;
}

static bool is_user(const char *name)
{
    return strncmp(name, "user.", 5) == 0;
}

void local_attr_read(const struct local_at *at, const struct stat *st, struct attr *ret)
{
    char path[300], small[1024];
    CLEANUP_FREE char *big = NULL;
    local_attr_from_stat(st, ret);
    if (S_ISLNK(st->st_mode))
        return; /* Linux has no user xattrs on symbolic links */
    proc_path(at, path);
    size_t n = list_names(path, small, sizeof(small), &big);
    const char *names = big ? big : small;
    for (const char *p = names; p < names + n; p += strlen(p) + 1)
        if (is_user(p))
            read_xattr(path, p, ret);
}

/* ---- writing ---- */

static int write_xattrs(struct op *op, const struct local_at *at, const char *key,
                        const struct attr *change)
{
    char path[300], small[1024];
    CLEANUP_FREE char *big = NULL;
    proc_path(at, path);
    for (size_t i = 0; i < change->n_xattrs; i++) {
        const struct xattr *x = &change->xattrs[i];
        if (!is_user(x->name))
            return err_set(&op->err, ENOTSUP, "%s: only user.* attributes are stored, not %s", key,
                           x->name);
        int r = x->remove ? lremovexattr(path, x->name) : lsetxattr(path, x->name, x->value, x->size, 0);
        if (r < 0 && !(x->remove && errno == ENODATA))
            return local_fail(op, -errno, x->remove ? "remove attributes of" : "set attributes of", key);
    }
    if (change->known & ATTR_XATTR_EDITS)
        return 0;
    size_t n = list_names(path, small, sizeof(small), &big);
    const char *names = big ? big : small;
    for (const char *p = names; p < names + n; p += strlen(p) + 1)
        if (is_user(p) && !attr_xattr(change, p) && lremovexattr(path, p) < 0 && errno != ENODATA)
            return local_fail(op, -errno, "remove attributes of", key);
    return 0;
}

static int write_owner(struct op *op, const struct local_at *at, const char *key,
                       const struct attr *change, bool lenient)
{
    uid_t uid = change->known & ATTR_HAS_UID ? change->uid : (uid_t)-1;
    gid_t gid = change->known & ATTR_HAS_GID ? change->gid : (gid_t)-1;
    if (uid == (uid_t)-1 && gid == (gid_t)-1)
        return 0;
    if (fchownat(at->fd, at->base, uid, gid, AT_SYMLINK_NOFOLLOW) == 0 ||
        (lenient && errno == EPERM))
        return 0;
    return local_fail(op, -errno, "set the owner of", key);
}

static int write_times(struct op *op, const struct local_at *at, const char *key,
                       const struct attr *change)
{
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
    if (change->known & ATTR_HAS_ATIME)
        t[0] = change->atime;
    if (change->known & ATTR_HAS_MTIME)
        t[1] = change->mtime;
    if (!(change->known & (ATTR_HAS_ATIME | ATTR_HAS_MTIME)))
        return 0;
    if (utimensat(at->fd, at->base, t, AT_SYMLINK_NOFOLLOW) < 0)
        return local_fail(op, -errno, "set the times of", key);
    return 0;
}

int local_meta_write(struct op *op, const struct local_at *at, const char *key, bool is_symlink,
                     const struct attr *change, bool lenient)
{
    int r = 0;
    if ((change->known & (ATTR_HAS_XATTRS | ATTR_XATTR_EDITS)) && (!is_symlink || change->n_xattrs))
        r = is_symlink
                ? err_set(&op->err, ENOTSUP, "%s: a symbolic link has no user attributes", key)
                : write_xattrs(op, at, key, change); /* before a mode that may forbid it */
    if (r == 0)
        r = write_owner(op, at, key, change, lenient); /* before the mode: it clears set-uid bits */
    if (r == 0 && (change->known & ATTR_HAS_MODE) && !is_symlink &&
        fchmodat(at->fd, at->base, change->mode & 07777, AT_SYMLINK_NOFOLLOW) < 0)
        r = local_fail(op, -errno, "set the mode of", key);
    if (r == 0)
        r = write_times(op, at, key, change);
    return r;
}

static int set_meta_claimed(struct local *l, struct op *op, const struct local_at *at,
                            const char *key, const char *if_match, const struct attr *change,
                            struct attr *ret)
{
    struct stat before, after;
    int r = local_lstat(op, at, key, &before);
    if (r == 0 && !S_ISDIR(before.st_mode) && !local_version_is(l, if_match, &before))
        r = err_set(&op->err, ESTALE, "%s has changed", key);
    if (r == 0)
        r = local_meta_write(op, at, key, S_ISLNK(before.st_mode), change, false);
    if (r == 0)
        r = local_lstat(op, at, key, &after);
    if (r < 0)
        return r;
    bool moved = before.st_mtim.tv_sec != after.st_mtim.tv_sec ||
                 before.st_mtim.tv_nsec != after.st_mtim.tv_nsec;
    if (!moved || (change->known & ATTR_HAS_MTIME)) /* else someone else wrote meanwhile */
        local_version_alias(l, &before, &after);
    local_attr_read(at, &after, ret);
    return 0;
}

int local_set_meta(struct store *s, struct op *op, const char *key, const char *if_match,
                   const struct attr *change, struct attr *ret)
{
    struct local *l = local_of(s);
    CLEANUP_AT struct local_at at = LOCAL_AT_INIT;
    int r = local_at(l, op, key, &at);
    if (r == 0)
        r = claims_take(&l->claims, op, key);
    if (r < 0)
        return r;
    r = set_meta_claimed(l, op, &at, key, if_match, change, ret);
    claims_release(&l->claims, key);
    return r;
}

/* SPDX-License-Identifier: MIT
 * local_dir.c: names: removing, renaming, directories.
 * put, copy, rename and exchange are durable when they return; removals and new directories are when the file
 * system writes them, as with rm and mkdir. */
#include "backends/local/local_int.h"

#include "base/name.h"
#include "base/sys.h"

#include <dirent.h>
#include <stdio.h>

static int remove_claimed(struct local *l, struct op *op, const struct local_at *at,
                          const char *key, const char *if_match)
{
    struct stat st;
    int r = local_lstat(op, at, key, &st);
    if (r < 0)
        return r;
    if (S_ISDIR(st.st_mode))
        return err_set(&op->err, EISDIR, "%s is a directory", key);
    if (!local_version_is(l, if_match, &st))
        return err_set(&op->err, ESTALE, "%s has changed", key);
    r = sys_unlinkat(at->fd, at->base, 0);
    return r < 0 ? local_fail(op, r, "remove", key) : 0;
}

int local_remove(struct store *s, struct op *op, const char *key, const char *if_match)
{
    struct local *l = local_of(s);
    CLEANUP_AT struct local_at at = LOCAL_AT_INIT;
    int r = local_at(l, op, key, &at);
    if (r == 0)
        r = claims_take(&l->claims, op, key);
    if (r < 0)
        return r;
    r = remove_claimed(l, op, &at, key, if_match);
    claims_release(&l->claims, key);
    return r;
}

/* A file system without RENAME_NOREPLACE: looking first is all there is. */
static int rename_absent(const struct local_at *from, const struct local_at *to)
{
    struct stat st;
    int r = sys_renameat(from->fd, from->base, to->fd, to->base, RENAME_NOREPLACE);
    if (r != -EINVAL)
        return r;
    if (fstatat(to->fd, to->base, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return -EEXIST;
    return sys_renameat(from->fd, from->base, to->fd, to->base, 0);
}

/* A name has moved, and what it names has another ctime, but is the same version. */
static void moved_to(struct local *l, const struct stat *before, const struct local_at *at)
{
    struct stat after;
    if (fstatat(at->fd, at->base, &after, AT_SYMLINK_NOFOLLOW) == 0 && before->st_mtim.tv_sec == after.st_mtim.tv_sec &&
        before->st_mtim.tv_nsec == after.st_mtim.tv_nsec)
        local_version_alias(l, before, &after);
}

static int rename_claimed(struct local *l, struct op *op, const struct local_at *a,
                          const struct local_at *b, const char *from, const char *to,
                          bool no_replace)
{
    struct stat before, target;
    int r = local_lstat(op, a, from, &before);
    if (r < 0)
        return r;
    bool there = fstatat(b->fd, b->base, &target, AT_SYMLINK_NOFOLLOW) == 0;
    if (there && !no_replace && target.st_ino == before.st_ino && target.st_dev == before.st_dev) {
        /* Two links to one file: rename(2) would leave both. The same key: nothing to do. */
        if (strcmp(from, to) == 0 || S_ISDIR(before.st_mode))
            return 0;
        r = sys_unlinkat(a->fd, a->base, 0);
        return r < 0 ? local_fail(op, r, "rename", from) : 0;
    }
    r = no_replace ? rename_absent(a, b) : sys_renameat(a->fd, a->base, b->fd, b->base, 0);
    if (r == -EEXIST && !no_replace)
        r = -ENOTEMPTY; /* POSIX lets a file system choose for directories */
    if (r < 0)
        return local_fail(op, r, "rename", from);
    moved_to(l, &before, b); /* renaming moves ctime */
    return 0;
}

static int names_durable(struct op *op, const struct local_at *a, const struct local_at *b, const char *key)
{
    int e = local_fsync_dir(b->fd);
    if (e == 0)
        e = local_fsync_dir(a->fd);
    if (e == 0)
        return 0;
    e = local_fail(op, e, "make durable", key);
    op->err.retry = ERR_RETRY_UNKNOWN;
    return e;
}

/* Both places, and their claims. */
static int hold_both(struct local *l, struct op *op, const char *key_a, const char *key_b,
                     struct local_at *a, struct local_at *b)
{
    int r = local_at(l, op, key_a, a);
    if (r == 0)
        r = local_at(l, op, key_b, b);
    return r < 0 ? r : claims_take_both(&l->claims, op, key_a, key_b);
}

int local_rename(struct store *s, struct op *op, const char *from, const char *to, bool no_replace)
{
    struct local *l = local_of(s);
    CLEANUP_AT struct local_at a = LOCAL_AT_INIT, b = LOCAL_AT_INIT;
    int r = hold_both(l, op, from, to, &a, &b);
    if (r < 0)
        return r;
    r = rename_claimed(l, op, &a, &b, from, to, no_replace);
    claims_release_both(&l->claims, from, to);
    return r < 0 ? r : names_durable(op, &a, &b, to);
}

static int exchange_claimed(struct local *l, struct op *op, const struct local_at *a, const struct local_at *b,
                            const char *key_a, const char *key_b)
{
    struct stat before_a, before_b;
    int r = local_lstat(op, a, key_a, &before_a);
    if (r == 0)
        r = local_lstat(op, b, key_b, &before_b);
    if (r < 0)
        return r;
    r = sys_renameat(a->fd, a->base, b->fd, b->base, RENAME_EXCHANGE);
    if (r == -EINVAL)
        return err_set(&op->err, ENOTSUP, "'%s' and '%s' cannot be exchanged: the file system does not do that", key_a,
                       key_b);
    if (r < 0)
        return local_fail(op, r, "exchange", key_a);
    moved_to(l, &before_a, b);
    moved_to(l, &before_b, a);
    return 0;
}

int local_exchange(struct store *s, struct op *op, const char *key_a, const char *key_b)
{
    struct local *l = local_of(s);
    CLEANUP_AT struct local_at a = LOCAL_AT_INIT, b = LOCAL_AT_INIT;
    int r = hold_both(l, op, key_a, key_b, &a, &b);
    if (r < 0)
        return r;
    r = exchange_claimed(l, op, &a, &b, key_a, key_b);
    claims_release_both(&l->claims, key_a, key_b);
    return r < 0 ? r : names_durable(op, &a, &b, key_b);
}

int local_make_dir(struct store *s, struct op *op, const char *key, const struct attr *attr)
{
    struct local *l = local_of(s);
    CLEANUP_AT struct local_at at = LOCAL_AT_INIT;
    int r = local_at(l, op, key, &at);
    if (r < 0)
        return r;
    r = sys_mkdirat(at.fd, at.base, attr->known & ATTR_HAS_MODE ? 0700 : 0777);
    if (r < 0)
        return local_fail(op, r, "make", key);
    r = local_meta_write(op, &at, key, false, attr, true);
    if (r < 0)
        (void)sys_unlinkat(at.fd, at.base, AT_REMOVEDIR);
    return r;
}

/* Forgotten temporary files are not shown, so they must not keep a directory that looks empty. */
static void sweep_dir(int parent, const char *name)
{
    int fd = sys_openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        cleanup_fd_(&fd);
        return;
    }
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (temp_name_is(e->d_name))
            temp_sweep(dirfd(d), e->d_name);
    closedir(d);
}

int local_remove_dir(struct store *s, struct op *op, const char *key)
{
    struct local *l = local_of(s);
    CLEANUP_AT struct local_at at = LOCAL_AT_INIT;
    int r = local_at(l, op, key, &at);
    if (r < 0)
        return r;
    r = sys_unlinkat(at.fd, at.base, AT_REMOVEDIR);
    if (r == -ENOTEMPTY || r == -EEXIST) {
        sweep_dir(at.fd, at.base);
        r = sys_unlinkat(at.fd, at.base, AT_REMOVEDIR);
    }
    if (r == -EEXIST)
        r = -ENOTEMPTY;
    return r < 0 ? local_fail(op, r, "remove", key) : 0;
}

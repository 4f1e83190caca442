/* SPDX-License-Identifier: MIT
 * local_patch.c: ranges of a file are changed.
 *
 * A file that is small, or that the file system can clone, is copied, changed and renamed over the old one: whatever
 * happens, it is the old or the new one. Others are changed in place: what was appended only (the old content stays
 * what it is, if in front of less than all of the new), what is large where copying is not free, and what a new file
 * would not be the same as (other links, ACLs and the like, an owner that we may not give). A crash in the middle of
 * that leaves it changed in part. */
#include "backends/local/local_int.h"

#include "base/clock.h"
#include "base/sys.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

#define COPY_MAX (1024ULL * 1024) /* copying this costs less than the fsync */
#define NAMES_MAX 65536

/* ---- as a new file ---- */

/* Nothing that local_attr_read() does not see: ACLs, capabilities. A label of SELinux comes by itself. */
static bool has_plain_xattrs(int fd)
{
    CLEANUP_FREE char *names = xmalloc(NAMES_MAX);
    ssize_t n = flistxattr(fd, names, NAMES_MAX);
    if (n < 0)
        return errno == EOPNOTSUPP;
    for (const char *name = names; name < names + n; name += strlen(name) + 1)
        if (strncmp(name, "user.", 5) != 0 && strcmp(name, "security.selinux") != 0)
            return false;
    return true;
}

static bool only_appends(const struct patch_req *req, uint64_t size)
{
    if (req->new_size < size)
        return false;
    for (size_t i = 0; i < req->n_ranges; i++)
        if (req->ranges[i].offset < size)
            return false;
    return true;
}

static bool may_replace(int fd, const struct stat *st, const struct patch_req *req)
{
    bool owner = geteuid() == 0 || (st->st_uid == geteuid() && st->st_gid == getegid());
    return st->st_nlink == 1 && owner && !only_appends(req, (uint64_t)st->st_size) && has_plain_xattrs(fd);
}

/* 1: it costs too much. */
static int copy_old(struct op *op, int fd, int to, const struct stat *st, const struct patch_req *req)
{
    uint64_t size = (uint64_t)st->st_size;
    if (ioctl(to, FICLONE, fd) == 0)
        return 0;
    if (size > COPY_MAX)
        return 1;
    return local_copy_bytes(op, fd, to, size < req->new_size ? size : req->new_size, req->key);
}

static int fill_new(struct op *op, int fd, int to, const struct stat *st, const struct patch_req *req)
{
    int r = copy_old(op, fd, to, st, req);
    for (size_t i = 0; i < req->n_ranges && r == 0; i++)
        r = local_write_range(op, to, req->key, req->src, req->ranges[i].offset,
                              req->ranges[i].offset + req->ranges[i].length);
    int e = r == 0 ? sys_ftruncate(to, req->new_size) : 0;
    return e < 0 ? local_fail(op, e, "resize", req->key) : r;
}

/* 1: to be done in place. */
static int patch_copy(struct local *l, struct op *op, const struct local_at *at,
                      const struct patch_req *req, struct attr *ret)
{
    CLEANUP_TEMP struct temp t = TEMP_INIT;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct precond pre = {.if_match = req->if_match};
    struct attr given = local_with_mtime(req->attr);
    struct stat st;
    CLEANUP_FD int fd = sys_openat(at->fd, at->base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !local_version_is(l, req->if_match, &st) ||
        !may_replace(fd, &st, req))
        return 1; /* the other way has the words for it */
    if (st.st_size > (off_t)COPY_MAX && atomic_load(&l->no_clone))
        return 1;
    int r = temp_file(op, at, req->key, true, &t);
    if (r == 0)
        r = fill_new(op, fd, t.fd, &st, req);
    if (r == 1)
        atomic_store(&l->no_clone, true);
    if (r)
        return r;
    local_attr_read(at, &st, &a);
    attr_apply(&a, &given);
    struct local_at temp_at = {.fd = at->fd, .base = t.name};
    r = local_meta_write(op, &temp_at, req->key, false, &a, true);
    int e = r == 0 ? sys_fsync(t.fd) : 0;
    if (e < 0)
        r = local_fail(op, e, "make durable", req->key);
    return r < 0 ? r : temp_commit(l, op, &t, at, req->key, &pre, &a, ret);
}

/* ---- in place ---- */

/* A version that is the same as before would hide the change: a clock too coarse, and an mtime that
 * the caller sets. The times are written again until ctime has moved. */
static int ensure_new_version(struct op *op, int fd, const struct local_at *at, const char *key,
                              const struct stat *before, const struct attr *a, struct stat *after)
{
    for (unsigned tries = 0;; tries++) {
        struct version_id was = local_version_of(before), is;
        if (fstat(fd, after) < 0)
            return local_fail(op, -errno, "stat", key);
        is = local_version_of(after);
        if (memcmp(&was, &is, sizeof(was)) != 0 || tries == 100)
            return 0;
        clock_sleep_ms(1);
        int r = local_meta_write(op, at, key, false, a, true);
        if (r < 0)
            return r;
    }
}

static int patch_open_file(struct op *op, int fd, const struct patch_req *req,
                           const struct local_at *at, const struct stat *before, struct stat *after)
{
    struct attr a = local_with_mtime(req->attr);
    int r = 0;
    for (size_t i = 0; i < req->n_ranges && r == 0; i++)
        r = local_write_range(op, fd, req->key, req->src, req->ranges[i].offset,
                        req->ranges[i].offset + req->ranges[i].length);
    struct stat now = *before;
    if (r == 0 && fstat(fd, &now) == 0 && (uint64_t)now.st_size != req->new_size) {
        int e = sys_ftruncate(fd, req->new_size);
        if (e < 0)
            r = local_fail(op, e, "resize", req->key);
    }
    if (r == 0)
        r = local_meta_write(op, at, req->key, false, &a, true);
    if (r == 0)
        r = ensure_new_version(op, fd, at, req->key, before, &a, after);
    int e = r == 0 ? sys_fdatasync(fd) : 0;
    if (e < 0)
        r = local_fail(op, e, "make durable", req->key);
    if (r < 0)
        err_prefix(&op->err, "%s may be changed in part", req->key);
    return r;
}

static int patch_claimed(struct local *l, struct op *op, const struct local_at *at,
                         const struct patch_req *req, struct attr *ret)
{
    struct stat before, after;
    int r = local_lstat(op, at, req->key, &before);
    if (r < 0)
        return r;
    if (!S_ISREG(before.st_mode))
        return err_set(&op->err, S_ISDIR(before.st_mode) ? EISDIR : EINVAL,
                       "patch %s: it is not a file", req->key);
    CLEANUP_FD int fd = sys_openat(at->fd, at->base, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0)
        return local_fail(op, fd, "open", req->key);
    if (fstat(fd, &before) < 0 || !S_ISREG(before.st_mode) ||
        !local_version_is(l, req->if_match, &before))
        return err_set(&op->err, ESTALE, "%s has changed", req->key);
    r = patch_open_file(op, fd, req, at, &before, &after);
    if (r == 0)
        local_attr_read(at, &after, ret);
    return r;
}

int local_patch(struct store *s, struct op *op, const struct patch_req *req, struct attr *ret)
{
    struct local *l = local_of(s);
    CLEANUP_AT struct local_at at = LOCAL_AT_INIT;
    int r = local_at(l, op, req->key, &at);
    if (r == 0)
        r = patch_copy(l, op, &at, req, ret);
    if (r <= 0)
        return r;
    r = claims_take(&l->claims, op, req->key);
    if (r < 0)
        return r;
    r = patch_claimed(l, op, &at, req, ret);
    claims_release(&l->claims, req->key);
    return r;
}

/* SPDX-License-Identifier: MIT
 * local_patch.c: ranges of a file are changed, in place: a crash in the middle leaves it changed in part. A changed copy
 * that is renamed over it would be whole, but not the same file: the times of its directory change (rsync --inplace
 * sees that), and other links, ACLs and open descriptors of other programs stay with the old one. */
#include "backends/local/local_int.h"

#include "base/clock.h"
#include "base/sys.h"

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

/* It failed: what is there now? It has a version of its own even if it looks as before. */
static void tell_what_is_left(int fd, const struct local_at *at, const char *key, const struct stat *before,
                              struct attr *ret)
{
    struct attr now = local_with_mtime(NULL);
    struct stat after;
    struct op op; /* the caller's may be cancelled */
    op_init(&op, "patch", 0);
    if (local_meta_write(&op, at, key, false, &now, true) == 0 &&
        ensure_new_version(&op, fd, at, key, before, &now, &after) == 0)
        local_attr_read(at, &after, ret);
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
    else
        tell_what_is_left(fd, at, req->key, &before, ret);
    return r;
}

int local_patch(struct store *s, struct op *op, const struct patch_req *req, struct attr *ret)
{
    struct local *l = local_of(s);
    CLEANUP_AT struct local_at at = LOCAL_AT_INIT;
    int r = local_at(l, op, req->key, &at);
    if (r == 0)
        r = claims_take(&l->claims, op, req->key);
    if (r < 0)
        return r;
    r = patch_claimed(l, op, &at, req, ret);
    claims_release(&l->claims, req->key);
    return r;
}

/* SPDX-License-Identifier: MIT
 * local_temp.c: temporary files, and the one step that makes them objects.
 *
 * States of a struct temp: none (name "") -> made (the file exists, being filled) -> committed
 * (name
 * "" again, the object is visible). temp_done() in the state made removes the file, so no error
 * path leaves one; a crash does, and temp_sweep() removes those when a listing meets them: at once
 * where it can tell that their process is no more (temp_name.h), else a day later. */
#include "backends/local/local_int.h"

#include "base/clock.h"
#include "base/sys.h"

void temp_done(struct temp *t)
{
    int saved = errno;
    cleanup_fd_(&t->fd);
    if (t->name[0])
        (void)sys_unlinkat(t->dir, t->name, 0);
    t->name[0] = '\0';
    errno = saved;
}

int temp_file(struct op *op, const struct local_at *at, const char *key, bool private,
              struct temp *ret)
{
    ret->dir = at->fd;
    temp_name_make(ret->name);
    int fd = sys_openat(at->fd, ret->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW,
                        private ? 0600 : 0666);
    if (fd < 0) {
        ret->name[0] = '\0';
        return local_fail(op, fd, "create", key);
    }
    ret->fd = fd;
    return 0;
}

int temp_symlink(struct op *op, const struct local_at *at, const char *key, const char *target,
                 struct temp *ret)
{
    ret->dir = at->fd;
    temp_name_make(ret->name);
    if (symlinkat(target, at->fd, ret->name) < 0) {
        int r = -errno;
        ret->name[0] = '\0';
        return local_fail(op, r, "create", key);
    }
    ret->fd = sys_openat(at->fd, ret->name, O_PATH | O_NOFOLLOW, 0);
    return ret->fd < 0 ? local_fail(op, ret->fd, "create", key) : 0;
}

int temp_check_target(struct local *l, struct op *op, const struct local_at *at, const char *key,
                      const struct precond *pre)
{
    struct stat st;
    int r = fstatat(at->fd, at->base, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
    if (r == -ENOENT)
        return pre->if_match ? err_set(&op->err, ESTALE, "%s is not there any more", key) : 0;
    if (r < 0)
        return local_fail(op, r, "stat", key);
    if (pre->if_absent)
        return err_set(&op->err, EEXIST, "%s exists already", key);
    if (S_ISDIR(st.st_mode))
        return err_set(&op->err, EISDIR, "%s is a directory", key);
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
        return err_set(&op->err, EACCES, "%s is a special file (device, fifo or socket)", key);
    if (!local_version_is(l, pre->if_match, &st))
        return err_set(&op->err, ESTALE, "%s has changed", key);
    return 0;
}

static int move_in_place(struct temp *t, const struct local_at *at, bool if_absent)
{
    int r = sys_renameat(t->dir, t->name, at->fd, at->base, if_absent ? RENAME_NOREPLACE : 0);
    if (r != -EINVAL || !if_absent)
        return r;
    /* A file system without RENAME_NOREPLACE: a second link also refuses an existing name. */
    if (linkat(t->dir, t->name, at->fd, at->base, 0) < 0)
        return -errno;
    return sys_unlinkat(t->dir, t->name, 0);
}

static int commit_claimed(struct local *l, struct op *op, struct temp *t, const struct local_at *at,
                          const char *key, const struct precond *pre)
{
    int r = temp_check_target(l, op, at, key, pre);
    if (r < 0)
        return r;
    r = move_in_place(t, at, pre->if_absent);
    if (r == -EEXIST)
        return err_set(&op->err, EEXIST, "%s exists already", key);
    if (r < 0)
        return local_fail(op, r, "put", key);
    t->name[0] = '\0'; /* committed */
    return 0;
}

int temp_commit(struct local *l, struct op *op, struct temp *t, const struct local_at *at,
                const char *key, const struct precond *pre, const struct attr *attr,
                struct attr *ret)
{
    int r = op_check(op);
    if (r == 0)
        r = claims_take(&l->claims, op, key);
    if (r < 0)
        return r;
    r = commit_claimed(l, op, t, at, key, pre);
    claims_release(&l->claims, key);
    if (r < 0)
        return r;
    r = local_fsync_dir(at->fd);
    if (r < 0) {
        local_fail(op, r, "make durable", key);
        op->err.retry = ERR_RETRY_UNKNOWN; /* it is visible, but may not outlive a power loss */
        return -op->err.code;
    }
    struct stat st;
    if (fstat(t->fd, &st) < 0)
        return local_fail(op, -errno, "stat", key);
    local_attr_from_stat(&st, ret);
    if (attr->known & ATTR_HAS_XATTRS)
        for (size_t i = 0; i < attr->n_xattrs; i++)
            attr_xattr_set(ret, attr->xattrs[i].name, attr->xattrs[i].value, attr->xattrs[i].size);
    return 0;
}

void temp_sweep(int dir, const char *name)
{
    struct stat st;
    if (temp_name_owner(name) == TEMP_OURS || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode))
        return;
    if (temp_name_is_left(name, st.st_ctim.tv_sec, st.st_size == 0))
        (void)sys_unlinkat(dir, name, 0);
}

/* SPDX-License-Identifier: MIT
 * local_path.c: from keys to places below the root directory, and nowhere else.
 *
 * The kernel resolves with openat2(RESOLVE_BENEATH | NO_MAGICLINKS | NO_SYMLINKS). Without it
 * (before Linux 5.6, or some seccomp filters) each component is opened by itself with O_NOFOLLOW.
 */
#include "backends/local/local_int.h"

#include "base/name.h"
#include "base/sys.h"

#include <linux/openat2.h>
#include <sys/syscall.h>

void local_at_done(struct local_at *at)
{
    cleanup_fd_(&at->fd);
}

static int map_errno(int code)
{
    switch (code) {
    case EPERM:
    case ELOOP:
        return EACCES;
    case EDQUOT:
        return ENOSPC;
    case EXDEV:
        return ENOTSUP; /* another file system is mounted below the root: copy instead */
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return EIO;
    default:
        return code;
    }
}

int local_fail(struct op *op, int r, const char *what, const char *key)
{
    if (r == -ELOOP) {
        r = err_set(&op->err, EACCES, "%s %s: symbolic links are not followed", what, key);
        op->err.status = ELOOP; /* tells it from what may not be opened */
        return r;
    }
    int e = err_set(&op->err, map_errno(-r), "%s %s: %s", what, key, strerror(-r));
    if (r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -EAGAIN)
        op->err.retry = ERR_RETRY_SAFE;
    return e;
}

/* One directory after the other; a symbolic link is -ELOOP as with openat2. */
static int open_by_component(int root, const char *path)
{
    CLEANUP_FD int at = sys_openat(root, ".", O_PATH | O_DIRECTORY, 0);
    CLEANUP_FREE char *copy = xstrdup(path);
    char *rest = copy;
    for (char *part; at >= 0 && (part = strsep(&rest, "/")) != NULL;) {
        int next = sys_openat(at, part, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
        struct stat st;
        if (next == -ENOTDIR && fstatat(at, part, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISLNK(st.st_mode))
            next = -ELOOP;
        cleanup_fd_(&at);
        at = next;
    }
    return take_fd(&at);
}

static int open_beneath(struct local *l, const char *path)
{
    struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
    };
    lock_assert_none_held();
    for (unsigned tries = 0; !atomic_load(&l->no_openat2) && tries < 100; tries++) {
        long fd = syscall(SYS_openat2, l->root_fd, path, &how, sizeof(how));
        if (fd >= 0)
            return (int)fd;
        if (errno == ENOSYS)
            atomic_store(&l->no_openat2, true);
        else if (errno != EAGAIN && errno != EINTR) /* EAGAIN: a rename went on at the same time */
            return errno == EXDEV ? -ELOOP : -errno;
    }
    return open_by_component(l->root_fd, path);
}

static int check_path(struct op *op, const char *path)
{
    if (!path_is_inside(path))
        return err_set(&op->err, EACCES, "'%s' is refused: not a path below the directory", path);
    if (temp_name_in(path))
        return err_set(&op->err, EACCES, "'%s' is refused: %s is a reserved name", path,
                       TEMP_PREFIX);
    return 0;
}

int local_open_dir(struct local *l, struct op *op, const char *path, int *ret_fd)
{
    int r = check_path(op, path);
    if (r < 0)
        return r;
    int fd = path[0] ? open_beneath(l, path) : sys_openat(l->root_fd, ".", O_PATH | O_DIRECTORY, 0);
    if (fd < 0)
        return local_fail(op, fd, "open", path[0] ? path : l->store.base_uri);
    *ret_fd = fd;
    return 0;
}

int local_at(struct local *l, struct op *op, const char *key, struct local_at *ret)
{
    size_t parent_len;
    const char *base = path_base(key, &parent_len);
    int r = check_path(op, key);
    if (r < 0)
        return r;
    CLEANUP_FREE char *parent = xstrndup(key, parent_len);
    r = local_open_dir(l, op, parent, &ret->fd);
    if (r < 0)
        return r;
    ret->base = base[0] ? base : ".";
    return 0;
}

int local_fsync_dir(int path_fd)
{
    CLEANUP_FD int fd = sys_openat(path_fd, ".", O_RDONLY | O_DIRECTORY, 0);
    return fd < 0 ? fd : sys_fsync(fd);
}

int local_open_to_read(int dirfd, const char *base, int flags)
{
    int fd = sys_openat(dirfd, base, O_RDONLY | O_NOATIME | flags, 0);
    return fd == -EPERM ? sys_openat(dirfd, base, O_RDONLY | flags, 0) : fd;
}

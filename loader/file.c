/* SPDX-License-Identifier: MIT
 * file.c: small whole files and trees of the spool (declared in spool.h). */
#include "loader/spool.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

static int write_all(int fd, const void *data, size_t len)
{
    ssize_t n = sys_pwrite(fd, data, len, 0);

    if (n < 0)
        return (int)n;
    return (size_t)n == len ? 0 : -EIO;
}

int spool_file_write(const char *path, const void *data, size_t len, bool durable)
{
    const char *slash = strrchr(path, '/');
    CLEANUP_FREE char *tmp = NULL;
    CLEANUP_FD int fd = -1;
    char random[9];
    int r;

    random_hex(random, 8);
    tmp = slash ? xasprintf("%.*s/.%s.%s.tmp", (int)(slash - path), path, slash + 1, random)
                : xasprintf(".%s.%s.tmp", path, random);
    fd = sys_openat(AT_FDCWD, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (fd < 0) {
        r = fd;
        fd = -1;
        return r;
    }
    r = write_all(fd, data, len);
    if (r == 0 && durable)
        r = sys_fsync(fd);
    if (r == 0)
        r = sys_renameat(AT_FDCWD, tmp, AT_FDCWD, path, 0);
    if (r < 0)
        (void)sys_unlinkat(AT_FDCWD, tmp, 0);
    return r;
}

int spool_file_read(const char *path, size_t max, struct buf *ret)
{
    CLEANUP_FD int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    CLEANUP_BUF struct buf b = BUF_INIT;
    struct stat st;
    ssize_t n;

    if (fd < 0) {
        int r = fd;

        fd = -1;
        return r;
    }
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    n = sys_pread(fd, buf_reserve(&b, max + 1), max + 1, 0);
    if (n < 0)
        return (int)n;
    if ((size_t)n > max)
        return -EFBIG;
    b.len = (size_t)n;
    buf_add(ret, buf_str(&b), b.len);
    return 0;
}

int spool_file_append(const char *path, const void *data, size_t len)
{
    CLEANUP_FD int fd = sys_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
    ssize_t n;

    if (fd < 0) {
        int r = fd;

        fd = -1;
        return r;
    }
    n = write(fd, data, len); /* one write: lines of several threads do not mix */
    if (n < 0)
        return -errno;
    return (size_t)n == len ? 0 : -EIO;
}

static int remove_below(int parent, const char *name, unsigned depth)
{
    int r = sys_unlinkat(parent, name, 0), fd;
    struct dirent *e;
    DIR *dir;

    if (r != -EISDIR && r != -EPERM)
        return r;
    if (depth > 32)
        return -ELOOP;
    fd = sys_openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd;
    dir = fdopendir(fd);
    if (!dir) {
        (void)close(fd);
        return -ENOMEM;
    }
    r = 0;
    while (r == 0 && (e = readdir(dir)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            r = remove_below(dirfd(dir), e->d_name, depth + 1);
    (void)closedir(dir);
    return r == 0 ? sys_unlinkat(parent, name, AT_REMOVEDIR) : r;
}

int spool_tree_remove(const char *path)
{
    return remove_below(AT_FDCWD, path, 0);
}

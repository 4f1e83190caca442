/* SPDX-License-Identifier: MIT
 * local_write.c: put and copy: a temporary file and a rename. */
#include "backends/local/local_int.h"

#include "base/clock.h"
#include "base/sys.h"

#include <limits.h>

#define CHUNK (1024UL * 1024)

int local_write_range(struct op *op, int fd, const char *key, const struct source *src,
                      uint64_t from, uint64_t to)
{
    size_t size = to - from < CHUNK ? (size_t)(to - from) : CHUNK;
    CLEANUP_FREE char *data = size ? malloc(size) : NULL;
    if (size && !data)
        return local_fail(op, -ENOMEM, "write", key);
    while (from < to) {
        size_t n = to - from < size ? (size_t)(to - from) : size;
        int r = op_check(op);
        if (r < 0)
            return r;
        r = src->read_at(src, from, data, n);
        if (r < 0)
            return err_set(&op->err, -r, "put %s: reading the data: %s", key, strerror(-r));
        ssize_t w = sys_pwrite(fd, data, n, from);
        if (w < 0)
            return local_fail(op, (int)w, "write", key);
        op_moved(op);
        from += n;
    }
    return 0;
}

struct attr local_with_mtime(const struct attr *from)
{
    struct attr a = from ? *from : ATTR_INIT;
    if (!(a.known & ATTR_HAS_MTIME))
        a.mtime = clock_wall();
    a.known |= ATTR_HAS_MTIME;
    return a;
}

static int put_file(struct local *l, struct op *op, const struct local_at *at,
                    const struct put_req *req, struct attr *ret)
{
    CLEANUP_TEMP struct temp t = TEMP_INIT;
    struct attr a = local_with_mtime(req->attr);
    int r = temp_file(op, at, req->key, (a.known & ATTR_HAS_MODE) != 0, &t);
    if (r == 0)
        r = local_write_range(op, t.fd, req->key, req->src, 0, req->src->size);
    struct local_at temp_at = {.fd = at->fd, .base = t.name};
    if (r == 0)
        r = local_meta_write(op, &temp_at, req->key, false, &a, true);
    int e = r == 0 ? sys_fsync(t.fd) : 0;
    if (e < 0)
        r = local_fail(op, e, "make durable", req->key);
    return r < 0 ? r : temp_commit(l, op, &t, at, req->key, &req->precond, &a, ret);
}

static int put_symlink(struct local *l, struct op *op, const struct local_at *at,
                       const struct put_req *req, struct attr *ret)
{
    char target[PATH_MAX];
    size_t n = (size_t)req->src->size;
    if (req->src->size == 0 || req->src->size >= sizeof(target))
        return err_set(&op->err, ENAMETOOLONG,
                       "put %s: the target of a symbolic link has 1 to %d bytes", req->key,
                       PATH_MAX - 1);
    int r = req->src->read_at(req->src, 0, target, n);
    if (r < 0)
        return err_set(&op->err, -r, "put %s: reading the data: %s", req->key, strerror(-r));
    target[n] = '\0';
    if (strlen(target) != n)
        return err_set(&op->err, EINVAL, "put %s: the target of a symbolic link has a NUL",
                       req->key);

    CLEANUP_TEMP struct temp t = TEMP_INIT;
    struct attr a = local_with_mtime(req->attr);
    r = temp_symlink(op, at, req->key, target, &t);
    struct local_at temp_at = {.fd = at->fd, .base = t.name};
    if (r == 0)
        r = local_meta_write(op, &temp_at, req->key, true, &a, true);
    return r < 0 ? r : temp_commit(l, op, &t, at, req->key, &req->precond, &a, ret);
}

int local_put(struct store *s, struct op *op, const struct put_req *req, struct attr *ret)
{
    struct local *l = local_of(s);
    CLEANUP_AT struct local_at at = LOCAL_AT_INIT;
    int r = local_at(l, op, req->key, &at);
    if (r == 0)
        r = temp_check_target(l, op, &at, req->key, &req->precond);
    if (r < 0)
        return r;
    return req->attr->kind == ATTR_SYMLINK ? put_symlink(l, op, &at, req, ret)
                                           : put_file(l, op, &at, req, ret);
}

/* ---- copy ---- */

static int open_source(struct local *l, struct op *op, const char *key, const char *version,
                       struct local_at *at, struct stat *st)
{
    int r = local_at(l, op, key, at);
    if (r == 0)
        r = local_lstat(op, at, key, st);
    if (r == 0 && S_ISDIR(st->st_mode))
        r = err_set(&op->err, EISDIR, "%s is a directory", key);
    if (r == 0 && !local_version_is(l, version, st))
        r = err_set(&op->err, ESTALE, "%s has changed", key);
    return r;
}

static int copy_symlink(struct local *l, struct op *op, const struct local_at *src,
                        const struct local_at *at, const char *to, const struct precond *pre,
                        const struct attr *attr, struct attr *ret)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(src->fd, src->base, target, sizeof(target) - 1);
    if (n < 0)
        return local_fail(op, -errno, "copy", to);
    target[n] = '\0';
    CLEANUP_TEMP struct temp t = TEMP_INIT;
    int r = temp_symlink(op, at, to, target, &t);
    struct local_at temp_at = {.fd = at->fd, .base = t.name};
    if (r == 0)
        r = local_meta_write(op, &temp_at, to, true, attr, true);
    return r < 0 ? r : temp_commit(l, op, &t, at, to, pre, attr, ret);
}

/* Step by step, so that a large copy can be cancelled. */
static int copy_bytes(struct op *op, int from, int to, uint64_t size, const char *key)
{
    const uint64_t step = 64ULL * 1024 * 1024;
    for (uint64_t off = 0; off < size; off += step) {
        int r = op_check(op);
        if (r < 0)
            return r;
        r = sys_copy_range(from, off, to, off, size - off < step ? size - off : step);
        if (r < 0)
            return local_fail(op, r, "copy", key);
        op_moved(op);
    }
    return 0;
}

static int copy_file(struct local *l, struct op *op, const struct local_at *src,
                     const struct stat *before, const struct local_at *at, const char *to,
                     const struct precond *pre, const struct attr *attr, struct attr *ret)
{
    CLEANUP_FD int fd = local_open_to_read(src->fd, src->base, O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return local_fail(op, fd, "open", src->base);
    CLEANUP_TEMP struct temp t = TEMP_INIT;
    char version[ATTR_VERSION_MAX];
    struct version_id id = local_version_of(before);
    local_version_text(&id, version);

    int r = temp_file(op, at, to, true, &t);
    if (r == 0)
        r = copy_bytes(op, fd, t.fd, (uint64_t)before->st_size, to);
    struct stat after;
    if (r == 0 && fstat(fd, &after) < 0)
        r = local_fail(op, -errno, "stat", src->base);
    if (r == 0 && !local_version_is(l, version, &after))
        r = err_set(&op->err, ESTALE, "%s changed while it was copied", src->base);
    struct local_at temp_at = {.fd = at->fd, .base = t.name};
    if (r == 0)
        r = local_meta_write(op, &temp_at, to, false, attr, true);
    int e = r == 0 ? sys_fsync(t.fd) : 0;
    if (e < 0)
        r = local_fail(op, e, "make durable", to);
    return r < 0 ? r : temp_commit(l, op, &t, at, to, pre, attr, ret);
}

int local_copy(struct store *s, struct op *op, const char *from, const char *from_version,
               const char *to, const struct precond *pre, struct attr *ret)
{
    struct local *l = local_of(s);
    CLEANUP_AT struct local_at src = LOCAL_AT_INIT, at = LOCAL_AT_INIT;
    CLEANUP_ATTR struct attr attr = ATTR_INIT;
    struct stat st;
    int r = open_source(l, op, from, from_version, &src, &st);
    if (r == 0)
        r = local_at(l, op, to, &at);
    if (r == 0)
        r = temp_check_target(l, op, &at, to, pre);
    if (r < 0)
        return r;
    local_attr_read(&src, &st, &attr);
    return S_ISLNK(st.st_mode) ? copy_symlink(l, op, &src, &at, to, pre, &attr, ret)
                               : copy_file(l, op, &src, &st, &at, to, pre, &attr, ret);
}

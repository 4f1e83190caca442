/* SPDX-License-Identifier: MIT
 * local.c: a directory of this machine as a store: opening, stat, read. See README.md and
 * local_int.h. */
#include "backends/local/local_int.h"

#include "base/sys.h"
#include "base/url.h"

#include <limits.h>
#include <sys/statvfs.h>

static const struct conf_option local_options[] = {
    {.name = "base_path",
     .type = CONF_PATH,
     .help = "The directory; default: where the program was started"},
    {.name = "path", .type = CONF_PATH, .alias = "base_path", .help = "Same as base_path"},
    {.name = "root", .type = CONF_PATH, .alias = "base_path", .help = "Same as base_path"},
    {.name = "create_if_missing",
     .type = CONF_BOOL,
     .def = "yes",
     .help = "Make the directory (and those above it) when it is not there"},
    {.name = "use_openat2",
     .type = CONF_BOOL,
     .def = "yes",
     .help = "no: open paths one component at a time, as on kernels before 5.6"},
};

/* A path that cannot exist means for readers that the object does not. */
static int not_there(struct op *op, int r, const char *key)
{
    return r == -ENOTDIR ? err_set(&op->err, ENOENT, "%s is not there", key) : r;
}

static int local_stat(struct store *s, struct op *op, const char *key, struct attr *ret)
{
    CLEANUP_AT struct local_at at = LOCAL_AT_INIT;
    struct stat st;
    int r = local_at(local_of(s), op, key, &at);
    if (r == 0)
        r = local_lstat(op, &at, key, &st);
    if (r < 0)
        return not_there(op, r, key);
    local_attr_read(&at, &st, ret);
    return 0;
}

static int read_symlink(struct local *l, struct op *op, const struct local_at *at,
                        const struct stat *st, const struct read_req *req, struct read_res *ret)
{
    char target[PATH_MAX];
    if (!local_version_is(l, req->version, st))
        return err_set(&op->err, ESTALE, "%s has changed", req->key);
    ssize_t n = readlinkat(at->fd, at->base, target, sizeof(target));
    if (n < 0)
        return local_fail(op, -errno, "read", req->key);
    size_t off = req->offset < (size_t)n ? (size_t)req->offset : (size_t)n;
    ret->length = (size_t)n - off < req->iov.iov_len ? (size_t)n - off : req->iov.iov_len;
    memcpy(req->iov.iov_base, target + off, ret->length);
    local_attr_from_stat(st, &ret->attr);
    return 0;
}

/* Reads until no write came between: what is returned is of one version. 1 = read again. */
static int read_once(struct local *l, struct op *op, int fd, const struct read_req *req,
                     struct stat *st, size_t *ret_len)
{
    struct stat after;
    if (fstat(fd, st) < 0)
        return local_fail(op, -errno, "stat", req->key);
    if (!S_ISREG(st->st_mode))
        return err_set(&op->err, EACCES, "%s is not a file any more", req->key);
    if (!local_version_is(l, req->version, st))
        return err_set(&op->err, ESTALE, "%s has changed", req->key);
    ssize_t n = sys_pread(fd, req->iov.iov_base, req->iov.iov_len, req->offset);
    if (n < 0)
        return local_fail(op, (int)n, "read", req->key);
    if (fstat(fd, &after) < 0)
        return local_fail(op, -errno, "stat", req->key);
    *ret_len = (size_t)n;
    return st->st_mtim.tv_sec != after.st_mtim.tv_sec ||
           st->st_mtim.tv_nsec != after.st_mtim.tv_nsec || st->st_size != after.st_size;
}

static int read_file(struct local *l, struct op *op, const struct local_at *at,
                     const struct read_req *req, struct read_res *ret)
{
    CLEANUP_FD int fd =
        local_open_to_read(at->fd, at->base, O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return local_fail(op, fd, "open", req->key);
    struct stat st;
    size_t len = 0;
    int r = 1;
    for (unsigned tries = 0; r == 1 && tries < 100; tries++) {
        r = op_check(op);
        if (r == 0)
            r = read_once(l, op, fd, req, &st, &len);
    }
    if (r == 1)
        r = err_set(&op->err, ESTALE, "%s is being written to all the time", req->key);
    if (r == 0 && req->on_data && len > 0 && req->on_data(req->on_data_arg, len) != 0)
        r = err_set(&op->err, EINTR, "read %s: stopped by the reader", req->key);
    if (r < 0)
        return r;
    ret->length = len;
    local_attr_from_stat(&st, &ret->attr);
    ret->attr.known &= ~(unsigned)ATTR_META; /* xattrs were not looked at */
    return 0;
}

/* The path does not lead to the file any more that had the version. */
static int gone(struct op *op, int r, const struct read_req *req)
{
    bool other = r == -ENOENT || r == -ENOTDIR || r == -EISDIR || (r == -EACCES && op->err.status == ELOOP);
    if (other && req->version && *req->version)
        return err_set(&op->err, ESTALE, "%s is not there any more", req->key);
    return r;
}

static int local_read(struct store *s, struct op *op, const struct read_req *req,
                      struct read_res *ret)
{
    struct local *l = local_of(s);
    CLEANUP_AT struct local_at at = LOCAL_AT_INIT;
    struct stat st;
    int r = local_at(l, op, req->key, &at);
    if (r == 0)
        r = local_lstat(op, &at, req->key, &st);
    if (r < 0)
        return gone(op, not_there(op, r, req->key), req);
    if (S_ISDIR(st.st_mode))
        return gone(op, err_set(&op->err, EISDIR, "%s is a directory", req->key), req);
    return S_ISLNK(st.st_mode) ? read_symlink(l, op, &at, &st, req, ret)
                               : read_file(l, op, &at, req, ret);
}

static int local_space(struct store *s, struct op *op, struct store_space *ret)
{
    struct statvfs v;
    if (fstatvfs(local_of(s)->root_fd, &v) < 0)
        return local_fail(op, -errno, "statvfs", s->base_uri);
    *ret = (struct store_space){
        .total = (uint64_t)v.f_blocks * v.f_frsize,
        .free = (uint64_t)v.f_bfree * v.f_frsize,
        .avail = (uint64_t)v.f_bavail * v.f_frsize,
        .files = v.f_files,
        .files_free = v.f_favail,
    };
    return 0;
}

static int local_probe(struct store *s, struct op *op, struct buf *ret_text)
{
    struct store_space space;
    struct stat st;
    if (fstat(local_of(s)->root_fd, &st) < 0)
        return local_fail(op, -errno, "stat", s->base_uri);
    if (st.st_nlink == 0)
        return err_set(&op->err, EIO, "%s was removed", s->base_uri);
    int r = local_space(s, op, &space);
    if (r == 0)
        buf_addf(ret_text, "%s, %llu MiB free", s->base_uri,
                 (unsigned long long)(space.avail >> 20));
    return r;
}

/* Without the symbolic links that lead there. */
static void local_place(const struct store *s, struct buf *ret_service, struct buf *ret_path)
{
    char link[64], path[PATH_MAX];
    (void)ret_service;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", ((const struct local *)s)->root_fd);
    ssize_t n = readlink(link, path, sizeof(path));
    if (n > 0)
        buf_add(ret_path, path, (size_t)n);
    else
        buf_adds(ret_path, s->base_uri);
}

/* ---- opening ---- */

/* The directory that is configured: base_path, or the path of `uri`, or the working directory. */
static int configured_path(const struct conf_section *c, struct err *err, char **ret)
{
    const char *path = conf_str(c, "base_path", ""), *uri = conf_str(c, "uri", "");
    CLEANUP_BUF struct buf b = BUF_INIT;
    if (!path[0] && strncmp(uri, "file://", 7) == 0) {
        uri += 7;
        if (strncmp(uri, "localhost/", 10) == 0)
            uri += 9;
        if (!url_decode(&b, uri, strlen(uri)))
            return conf_error(c, "uri", err, EINVAL, "'%s' has a malformed %%XX", uri);
        path = buf_str(&b);
    } else if (!path[0]) {
        path = uri;
    }
    if (path[0] == '/') {
        *ret = xstrdup(path);
    } else {
        char cwd[PATH_MAX];
        if (!getcwd(cwd, sizeof(cwd)))
            return conf_error(c, NULL, err, errno, "where are we? %s", strerror(errno));
        *ret = path[0] ? xasprintf("%s/%s", cwd, path) : xstrdup(cwd);
    }
    for (size_t n = strlen(*ret); n > 1 && (*ret)[n - 1] == '/'; n--)
        (*ret)[n - 1] = '\0';
    return 0;
}

static int open_root(const struct conf_section *c, const char *path, struct err *err, int *ret_fd)
{
    bool create = conf_bool(c, "create_if_missing", true) && !conf_bool(c, "read_only", false);
    int fd = sys_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
    if (fd == -ENOENT && create) {
        int r = sys_mkdirs(path, 0777);
        if (r < 0)
            return conf_error(c, "base_path", err, -r, "cannot make the directory %s: %s", path,
                              strerror(-r));
        fd = sys_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
    }
    if (fd == -ENOENT)
        return conf_error(c, "base_path", err, ENOENT,
                          "the directory %s does not exist (create_if_missing = yes would make it)",
                          path);
    if (fd < 0)
        return conf_error(c, "base_path", err, -fd, "cannot open the directory %s: %s", path,
                          strerror(-fd));
    *ret_fd = fd;
    return 0;
}

static int local_open(const struct conf_section *section, struct stats *stats, struct err *err,
                      struct store **ret)
{
    (void)stats;
    CLEANUP_FREE char *path = NULL;
    CLEANUP_BUF struct buf uri = BUF_INIT;
    int fd = -1, r = configured_path(section, err, &path);
    if (r == 0)
        r = open_root(section, path, err, &fd);
    if (r < 0)
        return r;
    buf_adds(&uri, "file://");
    url_encode(&uri, path, strlen(path), true);

    struct local *l = xcalloc(1, sizeof(*l));
    l->store = (struct store){
        .cls = &local_class,
        .base_uri = buf_take(&uri),
        .caps = CAP_WRITE | CAP_IF_MATCH | CAP_RENAME_FILE | CAP_RENAME_DIR | CAP_COPY | CAP_PATCH |
                CAP_REAL_DIRS | CAP_SET_META | CAP_LIST_META | CAP_SYMLINK | CAP_LOCAL_FD |
                CAP_EXCHANGE,
        .limits = {.concurrency = 4, .key_max = PATH_MAX - 1},
    };
    l->root_fd = fd;
    l->read_only = conf_bool(section, "read_only", false);
    atomic_init(&l->no_openat2, !conf_bool(section, "use_openat2", true));
    claims_init(&l->claims, "local claims");
    lock_init(&l->aliases.lock, LOCK_RANK_STORE, "local versions");
    rests_init(&l->rests, "local listings", REST_NS, local_names_free);
    *ret = &l->store;
    return 0;
}

static void local_close(struct store *s)
{
    struct local *l = local_of(s);
    cleanup_fd_(&l->root_fd);
    claims_done(&l->claims);
    lock_done(&l->aliases.lock);
    rests_done(&l->rests);
    free(l);
}

const struct store_class local_class = {
    .abi = STORE_ABI,
    .name = "local",
    .summary = "a directory of this machine",
    .options = local_options,
    .n_options = ARRAY_LEN(local_options),
    .open = local_open,
    .close = local_close,
    .stat = local_stat,
    .list = local_list,
    .read = local_read,
    .probe = local_probe,
    .put = local_put,
    .patch = local_patch,
    .remove = local_remove,
    .copy = local_copy,
    .place = local_place,
    .rename = local_rename,
    .exchange = local_exchange,
    .set_meta = local_set_meta,
    .make_dir = local_make_dir,
    .remove_dir = local_remove_dir,
    .space = local_space,
};

/* SPDX-License-Identifier: MIT
 * far_sftp.c: the far side by packets of SFTP version 3: names and metadata. See sftp_far.h.
 *
 * OpenSSH's server says FAILURE for most refusals of its kernel. RENAME (version 3) does not
 * replace: OpenSSH links and unlinks a file, so it is safe against others.
 * posix-rename@openssh.com replaces in one step. */
#include "backends/sftp/far_sftp.h"

#include <string.h>

#define READDIRS 4 /* on their way at once: some 100 names in each reply */

static int packets_look(struct conn *c, struct op *op, const char *path, const char *key,
                        bool follow, struct wire_attr *ret)
{
    uint32_t id = conn_path_req(c, follow ? SSH_FXP_STAT : SSH_FXP_LSTAT, path);
    return conn_expect_attrs(c, op, id, "stat", key, ret);
}

/* ---- directories ---- */

static int give_names(struct reply *rep, far_name_fn *take, void *arg)
{
    uint32_t count;
    if (!reply_u32(rep, &count))
        return -EIO;
    for (uint32_t i = 0; i < count; i++) {
        const char *name, *text;
        size_t len, text_len;
        struct wire_attr a;
        if (!reply_bytes(rep, &name, &len) || !reply_bytes(rep, &text, &text_len) ||
            !reply_attrs(rep, &a))
            return -EIO;
        take(arg, name, len, &a);
    }
    return 0;
}

static int read_names(struct conn *c, struct op *op, const struct handle *h, const char *key,
                      far_name_fn *take, void *arg)
{
    uint32_t ids[READDIRS];
    for (unsigned i = 0; i < READDIRS; i++)
        ids[i] = conn_handle_req(c, SSH_FXP_READDIR, h);
    for (unsigned i = 0;; i = (i + 1) % READDIRS) {
        struct reply rep;
        int r = conn_expect(c, op, ids[i], SSH_FXP_NAME, "list", key, &rep);
        if (r == 0 && give_names(&rep, take, arg) < 0)
            r = conn_bad_reply(c, op, "list", key);
        if (r != 0)
            return r == 1 ? 0 : r;
        ids[i] = conn_handle_req(c, SSH_FXP_READDIR, h);
    }
}

static int packets_names(struct conn *c, struct op *op, const char *path, const char *key,
                         far_name_fn *take, void *arg)
{
    struct handle h = {0};
    int r = conn_expect_handle(c, op, conn_opendir_req(c, path), "list", key, &h);
    if (r < 0)
        return r;
    r = read_names(c, op, &h, key, take, arg);
    conn_close_handle(c, &h);
    return r;
}

static int packets_make_dir(struct conn *c, struct op *op, const char *path, uint32_t mode,
                            const char *key)
{
    struct wire_attr a = {.flags = WIRE_MODE, .mode = mode};
    return conn_expect_ok(c, op, conn_attr_req(c, SSH_FXP_MKDIR, path, &a), "make", key);
}

static int packets_remove_dir(struct conn *c, struct op *op, const char *path, const char *key)
{
    return conn_expect_ok(c, op, conn_path_req(c, SSH_FXP_RMDIR, path), "remove", key);
}

static int packets_sync_dir(struct conn *c, struct op *op, const char *path, const char *key)
{
    struct handle h = {0};
    uint32_t open = conn_open_req(c, path, SSH_FXF_READ, NULL);
    int r = conn_expect_handle(c, op, open, "open", path, &h);
    if (r < 0)
        return r;
    r = conn_expect_ok(c, op, conn_fsync_req(c, &h), "make durable", key);
    conn_close_handle(c, &h);
    return r;
}

/* ---- names ---- */

/* Nobody waits for the answers now. */
static void open_next(struct conn *c, const struct far_move *m)
{
    struct wire_attr mode = packets_temp_mode(m->hidden);
    c->ahead = (struct ahead){
        .dir = xstrdup(m->dir), .temp = xstrdup(m->next), .hidden = m->hidden, .asked_ns = clock_now_ns()};
    c->ahead.open = conn_open_req(c, m->next, PACKETS_TEMP, &mode);
    c->ahead.open_dir = conn_open_req(c, m->dir, SSH_FXF_READ, NULL);
}

/* With the directory open the fsync goes together with the rename: they are done in that order, and
 * one that is not renamed costs a needless fsync. */
static int packets_rename(struct conn *c, struct op *op, struct far_move *m)
{
    bool plain = m->no_replace || !(c->extensions & EXT_POSIX_RENAME);
    struct handle dir = {0};
    if (m->held) {
        dir = *m->held;
        m->held->len = 0;
    }
    uint32_t open = 0, sync = 0;
    if (m->dir && !dir.len)
        open = conn_open_req(c, m->dir, SSH_FXF_READ, NULL);
    uint32_t id = plain ? conn_two_paths_req(c, SSH_FXP_RENAME, m->from, m->to)
                        : conn_posix_rename_req(c, m->from, m->to);
    if (m->dir && dir.len) {
        sync = conn_fsync_req(c, &dir);
        conn_close_handle(c, &dir);
        if (m->next && !c->ahead.temp)
            open_next(c, m);
    }
    int r = conn_expect_ok(c, op, id, "rename", m->key);
    m->moved = r == 0;
    if (open && !c->broken && r != -EINTR) {
        struct err first = op->err;
        int o = conn_expect_handle(c, op, open, "open", m->dir, &dir);
        if (r == 0 && o == 0)
            sync = conn_fsync_req(c, &dir);
        if (r < 0)
            op->err = first;
        else
            r = o;
    }
    if (r == 0 && sync)
        r = conn_expect_ok(c, op, sync, "make durable", m->key);
    conn_close_handle(c, &dir);
    return r;
}

static int packets_remove(struct conn *c, struct op *op, const char *const *paths,
                          const char *const *keys, size_t n, struct remove_result *results)
{
    uint32_t ids[FAR_REMOVES_MAX];
    int r = 0;
    for (size_t i = 0; i < n && r == 0; i++) {
        r = paths[i] ? conn_room(c, op, 0) : 0;
        if (r == 0 && paths[i])
            ids[i] = conn_path_req(c, SSH_FXP_REMOVE, paths[i]);
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        if (!paths[i])
            continue;
        int e = conn_expect_ok(c, op, ids[i], "remove", keys[i]);
        if (e < 0 && (c->broken || e == -EINTR))
            r = e;
        else
            results[i].code = -e;
    }
    return r;
}

static int packets_symlink(struct conn *c, struct op *op, const char *target, const char *path,
                           const char *key)
{
    return conn_expect_ok(c, op, conn_two_paths_req(c, SSH_FXP_SYMLINK, target, path), "put", key);
}

/* ---- metadata ---- */

static int packets_set(struct conn *c, struct op *op, const char *path, const char *key,
                       bool is_link, const struct wire_attr *a, const char *what)
{
    uint32_t id =
        is_link ? conn_lsetstat_req(c, path, a) : conn_attr_req(c, SSH_FXP_SETSTAT, path, a);
    return conn_expect_ok(c, op, id, what, key);
}

static int packets_space(struct conn *c, struct op *op, const char *path, struct store_space *ret)
{
    uint64_t v[11]; /* bsize frsize blocks bfree bavail files ffree favail fsid flag namemax */
    struct reply rep;
    int r = conn_expect(c, op, conn_statvfs_req(c, path), SSH_FXP_EXTENDED_REPLY, "statvfs", path,
                        &rep);
    if (r < 0)
        return r;
    for (size_t i = 0; i < ARRAY_LEN(v); i++)
        if (r == 1 || !reply_u64(&rep, &v[i]))
            return conn_bad_reply(c, op, "statvfs", path);
    *ret = (struct store_space){
        .total = v[2] * v[1],
        .free = v[3] * v[1],
        .avail = v[4] * v[1],
        .files = v[5],
        .files_free = v[7],
    };
    return 0;
}

const struct far far_sftp = {
    .how = "SFTP",
    .start = conn_init,
    .rest = conn_rest,
    .is_alive = conn_is_alive,
    .look = packets_look,
    .names = packets_names,
    .read = packets_read,
    .make = packets_make,
    .patch = packets_patch,
    .symlink = packets_symlink,
    .set = packets_set,
    .rename = packets_rename,
    .remove = packets_remove,
    .make_dir = packets_make_dir,
    .remove_dir = packets_remove_dir,
    .sync_dir = packets_sync_dir,
    .space = packets_space,
};

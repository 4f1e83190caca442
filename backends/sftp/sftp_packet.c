/* SPDX-License-Identifier: MIT
 * sftp_packet.c: SFTP requests as bytes, and the meaning of replies. See sftp_conn.h.
 * A packet is: length (4), type (1), id (4), then the fields; numbers are big-endian, strings have
 * their length (4) before them. */
#include "backends/sftp/sftp_conn.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* ---- writing: there is room, the caller has seen to that (conn_room), paths are limited ---- */

static void put_u8(struct conn *c, uint8_t v)
{
    c->out[c->out_len++] = v;
}

static void put_u32(struct conn *c, uint32_t v)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        put_u8(c, (uint8_t)(v >> shift));
}

static void put_u64(struct conn *c, uint64_t v)
{
    put_u32(c, (uint32_t)(v >> 32));
    put_u32(c, (uint32_t)v);
}

static void put_bytes(struct conn *c, const void *data, size_t len)
{
    put_u32(c, (uint32_t)len);
    memcpy(c->out + c->out_len, data, len);
    c->out_len += len;
}

static void put_string(struct conn *c, const char *s)
{
    put_bytes(c, s, strlen(s));
}

static void put_attrs(struct conn *c, const struct wire_attr *a)
{
    static const struct wire_attr none;
    a = a ? a : &none;
    put_u32(c, a->flags & WIRE_ALL);
    if (a->flags & WIRE_SIZE)
        put_u64(c, a->size);
    if (a->flags & WIRE_OWNER) {
        put_u32(c, a->uid);
        put_u32(c, a->gid);
    }
    if (a->flags & WIRE_MODE)
        put_u32(c, a->mode);
    if (a->flags & WIRE_TIMES) {
        put_u32(c, a->atime);
        put_u32(c, a->mtime);
    }
}

/* begin ... fields ... end(c, start, extra bytes that follow) */
static size_t begin(struct conn *c, uint8_t type)
{
    size_t start = c->out_len;
    assert(CONN_OUT_SIZE - start >= 2 * 4096 + 1024);
    put_u32(c, 0);
    put_u8(c, type);
    put_u32(c, c->next_id);
    return start;
}

static uint32_t end(struct conn *c, size_t start, size_t more)
{
    size_t stop = c->out_len, len = stop - start - 4 + more;
    c->out_len = start;
    put_u32(c, (uint32_t)len);
    c->out_len = stop;
    return c->next_id++;
}

uint32_t conn_path_req(struct conn *c, uint8_t type, const char *path)
{
    size_t at = begin(c, type);
    put_string(c, path);
    return end(c, at, 0);
}

uint32_t conn_two_paths_req(struct conn *c, uint8_t type, const char *a, const char *b)
{
    size_t at = begin(c, type);
    put_string(c, a);
    put_string(c, b);
    return end(c, at, 0);
}

uint32_t conn_attr_req(struct conn *c, uint8_t type, const char *path, const struct wire_attr *a)
{
    size_t at = begin(c, type);
    put_string(c, path);
    put_attrs(c, a);
    return end(c, at, 0);
}

uint32_t conn_open_req(struct conn *c, const char *path, uint32_t flags, const struct wire_attr *a)
{
    size_t at = begin(c, SSH_FXP_OPEN);
    put_string(c, path);
    put_u32(c, flags);
    put_attrs(c, a);
    c->opening++;
    return end(c, at, 0);
}

uint32_t conn_opendir_req(struct conn *c, const char *path)
{
    c->opening++;
    return conn_path_req(c, SSH_FXP_OPENDIR, path);
}

uint32_t conn_handle_req(struct conn *c, uint8_t type, const struct handle *h)
{
    size_t at = begin(c, type);
    put_bytes(c, h->bytes, h->len);
    return end(c, at, 0);
}

uint32_t conn_fsetstat_req(struct conn *c, const struct handle *h, const struct wire_attr *a)
{
    size_t at = begin(c, SSH_FXP_FSETSTAT);
    put_bytes(c, h->bytes, h->len);
    put_attrs(c, a);
    return end(c, at, 0);
}

uint32_t conn_read_req(struct conn *c, const struct handle *h, uint64_t off, uint32_t len)
{
    size_t at = begin(c, SSH_FXP_READ);
    put_bytes(c, h->bytes, h->len);
    put_u64(c, off);
    put_u32(c, len);
    return end(c, at, 0);
}

uint32_t conn_write_req(struct conn *c, const struct handle *h, uint64_t off, uint32_t len,
                        void **ret_data)
{
    size_t at = begin(c, SSH_FXP_WRITE);
    put_bytes(c, h->bytes, h->len);
    put_u64(c, off);
    put_u32(c, len);
    *ret_data = c->out + c->out_len;
    uint32_t id = end(c, at, len);
    c->out_len += len;
    return id;
}

static size_t begin_extended(struct conn *c, const char *name)
{
    size_t at = begin(c, SSH_FXP_EXTENDED);
    put_string(c, name);
    return at;
}

uint32_t conn_posix_rename_req(struct conn *c, const char *from, const char *to)
{
    size_t at = begin_extended(c, "posix-rename@openssh.com");
    put_string(c, from);
    put_string(c, to);
    return end(c, at, 0);
}

uint32_t conn_fsync_req(struct conn *c, const struct handle *h)
{
    size_t at = begin_extended(c, "fsync@openssh.com");
    put_bytes(c, h->bytes, h->len);
    return end(c, at, 0);
}

uint32_t conn_statvfs_req(struct conn *c, const char *path)
{
    size_t at = begin_extended(c, "statvfs@openssh.com");
    put_string(c, path);
    return end(c, at, 0);
}

uint32_t conn_lsetstat_req(struct conn *c, const char *path, const struct wire_attr *a)
{
    size_t at = begin_extended(c, "lsetstat@openssh.com");
    put_string(c, path);
    put_attrs(c, a);
    return end(c, at, 0);
}

uint32_t conn_limits_req(struct conn *c)
{
    return end(c, begin_extended(c, "limits@openssh.com"), 0);
}

void conn_close_handle(struct conn *c, struct handle *h)
{
    struct op op;
    op_init(&op, "close", 2000);
    if (h->len && !c->broken && conn_room(c, &op, 0) == 0)
        (void)conn_handle_req(c, SSH_FXP_CLOSE, h);
    h->len = 0;
}

/* ---- reading: remote bytes, nothing is believed ---- */

static bool has(const struct reply *r, size_t n)
{
    return (size_t)(r->end - r->at) >= n;
}

bool reply_u8(struct reply *r, uint8_t *ret)
{
    if (!has(r, 1))
        return false;
    *ret = *r->at++;
    return true;
}

bool reply_u32(struct reply *r, uint32_t *ret)
{
    if (!has(r, 4))
        return false;
    *ret = (uint32_t)r->at[0] << 24 | (uint32_t)r->at[1] << 16 | (uint32_t)r->at[2] << 8 | r->at[3];
    r->at += 4;
    return true;
}

bool reply_u64(struct reply *r, uint64_t *ret)
{
    uint32_t high, low;
    if (!reply_u32(r, &high) || !reply_u32(r, &low))
        return false;
    *ret = (uint64_t)high << 32 | low;
    return true;
}

bool reply_bytes(struct reply *r, const char **ret, size_t *ret_len)
{
    uint32_t len;
    if (!reply_u32(r, &len) || !has(r, len))
        return false;
    *ret = (const char *)r->at;
    *ret_len = len;
    r->at += len;
    return true;
}

bool reply_attrs(struct reply *r, struct wire_attr *ret)
{
    struct wire_attr a = {0};
    uint32_t extended;
    const char *text;
    size_t len;
    if (!reply_u32(r, &a.flags) || ((a.flags & WIRE_SIZE) && !reply_u64(r, &a.size)) ||
        ((a.flags & WIRE_OWNER) && (!reply_u32(r, &a.uid) || !reply_u32(r, &a.gid))) ||
        ((a.flags & WIRE_MODE) && !reply_u32(r, &a.mode)) ||
        ((a.flags & WIRE_TIMES) && (!reply_u32(r, &a.atime) || !reply_u32(r, &a.mtime))))
        return false;
    if (a.flags & 0x80000000U) {
        if (!reply_u32(r, &extended))
            return false;
        for (uint32_t i = 0; i < 2 * (uint64_t)extended; i++)
            if (!reply_bytes(r, &text, &len))
                return false;
    }
    a.flags &= WIRE_ALL;
    *ret = a;
    return true;
}

/* ---- judging ---- */

static int errno_of(uint32_t status, const char *key)
{
    switch (status) {
    case SSH_FX_NO_SUCH_FILE:
        return ENOENT;
    case SSH_FX_PERMISSION_DENIED:
        return EACCES;
    case SSH_FX_OP_UNSUPPORTED:
        return ENOTSUP;
    case SSH_FX_BAD_MESSAGE: /* OpenSSH: EINVAL or ENAMETOOLONG */
        for (const char *p = key; p; p = strchr(p, '/')) {
            p += *p == '/';
            if (strcspn(p, "/") > 255)
                return ENAMETOOLONG;
        }
        return strlen(key) > 3000 ? ENAMETOOLONG : EINVAL;
    default:
        return EIO;
    }
}

static const char *word_of(uint32_t status)
{
    static const char *const words[] = {
        "ok",          "end of file",   "no such file",    "permission denied", "failure",
        "bad message", "no connection", "connection lost", "not supported"};
    return status < sizeof(words) / sizeof(words[0]) ? words[status] : "unknown status";
}

int conn_bad_reply(struct conn *c, struct op *op, const char *what, const char *key)
{
    c->broken = true;
    return err_set(&op->err, EIO, "%s %s: sftp %s: the server's reply makes no sense", what, key,
                   c->name);
}

static int status_error(struct conn *c, struct op *op, struct reply *rep, const char *what,
                        const char *key)
{
    uint32_t status;
    const char *text = "";
    size_t len = 0;
    if (!reply_u32(rep, &status))
        return conn_bad_reply(c, op, what, key);
    if (status == SSH_FX_OK)
        return 0;
    (void)reply_bytes(rep, &text, &len);
    int r = err_set(&op->err, errno_of(status, key), "%s %s: sftp %s: %s%s%.*s", what, key, c->name,
                    word_of(status), len ? ": " : "", len > 200 ? 200 : (int)len, text);
    op->err.status = (int)status;
    return r;
}

static bool gives_handle(struct conn *c, const struct reply *rep)
{
    if (c->opening > 0)
        c->opening--;
    return rep->type == SSH_FXP_HANDLE;
}

int conn_expect(struct conn *c, struct op *op, uint32_t id, uint8_t type, const char *what,
                const char *key, struct reply *ret)
{
    int r = conn_wait(c, op, id, ret);
    if (r < 0) {
        err_prefix(&op->err, "%s %s", what, key);
        return r;
    }
    if (ret->type == type && type != SSH_FXP_STATUS)
        return 0;
    if (ret->type != SSH_FXP_STATUS)
        return conn_bad_reply(c, op, what, key);
    r = status_error(c, op, ret, what, key);
    if (r < 0 && op->err.status == SSH_FX_EOF) {
        err_clear(&op->err);
        return 1;
    }
    return r == 0 && type != SSH_FXP_STATUS ? conn_bad_reply(c, op, what, key) : r;
}

int conn_expect_ok(struct conn *c, struct op *op, uint32_t id, const char *what, const char *key)
{
    struct reply rep;
    int r = conn_expect(c, op, id, SSH_FXP_STATUS, what, key, &rep);
    return r == 1 ? conn_bad_reply(c, op, what, key) : r;
}

int conn_expect_attrs(struct conn *c, struct op *op, uint32_t id, const char *what, const char *key,
                      struct wire_attr *ret)
{
    struct reply rep;
    int r = conn_expect(c, op, id, SSH_FXP_ATTRS, what, key, &rep);
    if (r == 0 && !reply_attrs(&rep, ret))
        return conn_bad_reply(c, op, what, key);
    return r == 1 ? conn_bad_reply(c, op, what, key) : r;
}

int conn_expect_handle(struct conn *c, struct op *op, uint32_t id, const char *what,
                       const char *key, struct handle *ret)
{
    struct reply rep;
    const char *bytes;
    size_t len;
    int r = conn_wait(c, op, id, &rep);
    if (r < 0) {
        err_prefix(&op->err, "%s %s", what, key);
        return r;
    }
    if (!gives_handle(c, &rep)) {
        r = rep.type == SSH_FXP_STATUS ? status_error(c, op, &rep, what, key) : 0;
        return r < 0 ? r : conn_bad_reply(c, op, what, key);
    }
    if (!reply_bytes(&rep, &bytes, &len) || len == 0 || len > HANDLE_MAX)
        return conn_bad_reply(c, op, what, key);
    memcpy(ret->bytes, bytes, len);
    ret->len = (uint32_t)len;
    return 0;
}

bool status_is_failure(const struct op *op)
{
    return op->err.code == EIO && op->err.status == SSH_FX_FAILURE;
}

/* SPDX-License-Identifier: MIT
 * sftp_read.c: ranges of files, by several READs on their way at once.
 *
 * A read opens the file, asks for what it is, for the bytes, and again for what it is: the same
 * (mtime, size) before and after, and no change of ours meanwhile (versions_stable), mean bytes of
 * one version. Else it begins again, or is stale when a version was asked for. */
#include "backends/sftp/sftp_int.h"

#include <limits.h>

#define WINDOW_BYTES (4U << 20) /* asked for and not come yet */
#define REQUESTS_MAX 64
#define TRIES 100

struct piece {
    uint32_t id, len;
    uint64_t off;
};

struct transfer { /* one pass over the bytes */
    struct conn *c;
    struct op *op;
    const struct read_req *req;
    const struct handle *h;
    struct piece v[REQUESTS_MAX];
    size_t first, n; /* of those on their way; v is a ring */
    uint64_t asked;  /* up to here, from the start of the range */
    uint64_t most;   /* bytes to ask for */
    size_t got;
};

static void ask(struct transfer *t)
{
    uint32_t len = t->c->read_max;
    while (t->asked < t->most && t->n < REQUESTS_MAX &&
           (t->n == 0 || (t->n + 1) * len <= WINDOW_BYTES)) {
        struct piece *p = &t->v[(t->first + t->n++) % REQUESTS_MAX];
        p->off = t->asked;
        p->len = t->most - t->asked < len ? (uint32_t)(t->most - t->asked) : len;
        p->id = conn_read_req(t->c, t->h, t->req->offset + p->off, p->len);
        t->asked += p->len;
    }
}

/* The bytes of one piece; a server may send fewer than asked, then the rest is asked for. 1 = the
 * end. */
static int take_piece(struct transfer *t, struct piece p)
{
    while (p.len > 0) {
        struct reply rep;
        const char *data;
        size_t len;
        int r = conn_expect(t->c, t->op, p.id, SSH_FXP_DATA, "read", t->req->key, &rep);
        if (r != 0)
            return r;
        if (!reply_bytes(&rep, &data, &len) || len == 0 || len > p.len)
            return conn_bad_reply(t->c, t->op, "read", t->req->key);
        memcpy((char *)t->req->iov.iov_base + p.off, data, len);
        t->got = (size_t)p.off + len;
        p.off += len;
        p.len -= (uint32_t)len;
        if (p.len > 0)
            p.id = conn_read_req(t->c, t->h, t->req->offset + p.off, p.len);
    }
    return 0;
}

static int read_bytes(struct transfer *t)
{
    int r = 0;
    while (r == 0 && (t->n > 0 || t->asked < t->most)) {
        ask(t);
        struct piece p = t->v[t->first];
        t->first = (t->first + 1) % REQUESTS_MAX;
        t->n--;
        r = take_piece(t, p);
        if (r == 0 && t->req->on_data && t->req->on_data(t->req->on_data_arg, t->got) != 0)
            r = err_set(&t->op->err, EINTR, "read %s: stopped by the reader", t->req->key);
    }
    return r == 1 ? 0 : r; /* replies behind the end of the file are dropped with the rest */
}

static bool same_state(const struct wire_attr *a, const struct wire_attr *b)
{
    return a->mtime == b->mtime && a->size == b->size;
}

/* 0; 1 = a write came between. */
static int read_open(struct sftp *s, struct conn *c, struct op *op, const struct handle *h,
                     const struct read_req *req, struct read_res *ret)
{
    struct wire_attr before, after;
    struct transfer t = {.c = c, .op = op, .req = req, .h = h};
    uint32_t id = conn_handle_req(c, SSH_FXP_FSTAT, h);
    int r = conn_expect_attrs(c, op, id, "stat", req->key, &before);
    if (r == -ENOENT)
        r = err_set(&op->err, EIO, "read %s: the server has lost the open file", req->key);
    if (r < 0)
        return r;
    if (!versions_match(&s->versions, req->key, req->version, before.mtime, before.size))
        return err_set(&op->err, ESTALE, "%s has changed", req->key);
    uint64_t there = before.size > req->offset ? before.size - req->offset : 0;
    t.most = there < req->iov.iov_len ? there : req->iov.iov_len;
    r = read_bytes(&t);
    if (r < 0)
        return r;
    r = conn_expect_attrs(c, op, conn_handle_req(c, SSH_FXP_FSTAT, h), "stat", req->key, &after);
    if (r < 0)
        return r;
    if (!same_state(&before, &after) || t.got < t.most)
        return 1;
    ret->length = t.got;
    sftp_attr_of(s, req->key, &after, &ret->attr);
    return 0;
}

int sftp_readlink(struct conn *c, struct op *op, const char *path, const char *key, struct buf *ret)
{
    struct reply rep;
    uint32_t count;
    const char *target;
    size_t len;
    int r = conn_expect(c, op, conn_path_req(c, SSH_FXP_READLINK, path), SSH_FXP_NAME, "read", key,
                        &rep);
    if (r != 0)
        return r == 1 ? conn_bad_reply(c, op, "read", key) : r;
    if (!reply_u32(&rep, &count) || count != 1 || !reply_bytes(&rep, &target, &len) ||
        memchr(target, '\0', len))
        return conn_bad_reply(c, op, "read", key);
    buf_add(ret, target, len);
    return 0;
}

static int read_link(struct sftp *s, struct conn *c, struct op *op, const char *path,
                     const struct wire_attr *w, const struct read_req *req, struct read_res *ret)
{
    CLEANUP_BUF struct buf target = BUF_INIT;
    if (!versions_match(&s->versions, req->key, req->version, w->mtime, w->size))
        return err_set(&op->err, ESTALE, "%s has changed", req->key);
    int r = sftp_readlink(c, op, path, req->key, &target);
    if (r < 0)
        return r;
    if (target.len != w->size)
        return 1;
    size_t off = req->offset < target.len ? (size_t)req->offset : target.len;
    ret->length = target.len - off < req->iov.iov_len ? target.len - off : req->iov.iov_len;
    if (ret->length)
        memcpy(req->iov.iov_base, target.data + off, ret->length);
    sftp_attr_of(s, req->key, w, &ret->attr);
    if (req->on_data && ret->length && req->on_data(req->on_data_arg, ret->length) != 0)
        return err_set(&op->err, EINTR, "read %s: stopped by the reader", req->key);
    return 0;
}

/* One try: what is there, and its bytes. The look and the opening go together: one wait for both.
 */
static int read_once(struct sftp *s, struct conn *c, struct op *op, const char *path,
                     const struct read_req *req, struct read_res *ret)
{
    struct handle h = {0};
    struct wire_attr w;
    struct err first;
    uint32_t stat = conn_path_req(c, SSH_FXP_LSTAT, path);
    uint32_t open = conn_open_req(c, path, SSH_FXF_READ, NULL);
    int r = conn_expect_attrs(c, op, stat, "read", req->key, &w);
    if (c->broken || r == -EINTR)
        return r;
    first = op->err;
    int o = conn_expect_handle(c, op, open, "read", req->key, &h);
    if (r < 0)
        op->err = first;
    else if (sftp_is_dir(&w))
        r = err_set(&op->err, EISDIR, "%s is a directory", req->key);
    else if (sftp_check_kind(op, &w, req->key) < 0)
        r = -EACCES;
    else if (sftp_is_link(&w))
        r = read_link(s, c, op, path, &w, req, ret);
    else
        r = o < 0 ? o : read_open(s, c, op, &h, req, ret);
    conn_close_handle(c, &h);
    return r;
}

/* Waits until no change of ours is under way. */
static int wait_stable(struct sftp *s, struct op *op, const char *key, uint64_t *ret)
{
    while (!versions_stable(&s->versions, key, ret)) {
        int r = op_sleep(op, 2);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The same on a connection, between two looks at what we do ourselves. 1 = begin again. */
static int read_stable(struct sftp *s, struct op *op, const char *path, const struct read_req *req,
                       struct read_res *ret)
{
    bool transfer = req->iov.iov_len > 256 * 1024;
    uint64_t before, after;
    struct conn *c;
    int r =
        wait_stable(s, op, req->key, &before); /* without a connection: the change may need one */
    if (r == 0)
        r = sftp_take(s, op, transfer, &c);
    if (r < 0)
        return r;
    r = read_once(s, c, op, path, req, ret);
    sftp_give(s, c, transfer);
    bool quiet = versions_stable(&s->versions, req->key, &after) && after == before;
    return r == 0 && !quiet ? 1 : r;
}

int sftp_read(struct store *store, struct op *op, const struct read_req *req, struct read_res *ret)
{
    struct sftp *s = sftp_of(store);
    CLEANUP_FREE char *path = NULL;
    int r = sftp_path(s, op, req->key, &path);
    if (r < 0)
        return r;
    r = 1;
    for (unsigned tries = 0; r == 1 && tries < TRIES; tries++) {
        attr_done(&ret->attr);
        r = read_stable(s, op, path, req, ret);
    }
    if (r != 0)
        attr_done(&ret->attr);
    return r == 1 ? err_set(&op->err, ESTALE, "%s is being written to all the time", req->key) : r;
}

/* SPDX-License-Identifier: MIT
 * far_sftp_io.c: the far side by packets of SFTP version 3: the bytes of files. See sftp_far.h.
 *
 * What can go together does: the look at a file and its opening, a window of READs or WRITEs, what
 * finishes a new file. */
#include "backends/sftp/far_sftp.h"

#include <limits.h>
#include <string.h>

#define WINDOW_BYTES (4U << 20) /* asked for and not come yet */
#define READS_MAX 64            /* on their way at once */
#define WRITES_MAX 32
#define LOOK_AFTER_MS 5000 /* an answer that comes behind those of all writes */
#define AHEAD_BYTES (256U << 10) /* asked for before it is known what is there */

/* ---- reading ---- */

struct piece {
    uint32_t id, len;
    uint64_t off;
};

struct transfer { /* one pass over the bytes */
    struct conn *c;
    struct op *op;
    const struct read_req *req;
    const struct handle *h;
    struct piece v[READS_MAX];
    size_t first, n; /* of those on their way; v is a ring */
    uint64_t asked;  /* up to here, from the start of the range */
    uint64_t most;   /* bytes to ask for */
    size_t got;
};

static void ask(struct transfer *t)
{
    uint32_t len = t->c->read_max;
    while (t->asked < t->most && t->n < READS_MAX &&
           (t->n == 0 || (t->n + 1) * len <= WINDOW_BYTES)) {
        struct piece *p = &t->v[(t->first + t->n++) % READS_MAX];
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
    while (p.len > 0 && p.off < t->most) {
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
        if (p.len > 0 && p.off < t->most)
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
        t->first = (t->first + 1) % READS_MAX;
        t->n--;
        r = take_piece(t, p);
        if (r == 0 && t->req->on_data && t->req->on_data(t->req->on_data_arg, t->got) != 0)
            r = err_set(&t->op->err, EINTR, "read %s: stopped by the reader", t->req->key);
    }
    return r == 1 ? 0 : r; /* replies behind the end of the file are dropped with the rest */
}

/* The first bytes are asked for together with the look before them, the look after them with the
 * last: a server does what concerns one file in the order in which it was asked (the protocol says
 * so). */
static int read_handle(struct conn *c, struct op *op, const struct handle *h, struct far_read *f)
{
    const struct read_req *req = f->req;
    struct transfer t = {.c = c, .op = op, .req = req, .h = h};
    uint32_t id = conn_handle_req(c, SSH_FXP_FSTAT, h), after = 0;
    t.most = req->iov.iov_len < AHEAD_BYTES ? req->iov.iov_len : AHEAD_BYTES;
    ask(&t);
    bool all = t.asked == req->iov.iov_len;
    if (all)
        after = conn_handle_req(c, SSH_FXP_FSTAT, h);
    int r = conn_expect_attrs(c, op, id, "stat", req->key, &f->before);
    if (r == -ENOENT)
        r = err_set(&op->err, EIO, "read %s: the server has lost the open file", req->key);
    if (r == 0)
        r = f->judge(f->arg, op, &f->before);
    if (r < 0)
        return r;
    t.most = far_there(&f->before, req);
    r = read_bytes(&t);
    if (r < 0)
        return r;
    f->got = t.got < t.most ? t.got : (size_t)t.most;
    f->wanted = (size_t)t.most;
    if (!all)
        after = conn_handle_req(c, SSH_FXP_FSTAT, h);
    return conn_expect_attrs(c, op, after, "stat", req->key, &f->after);
}

static int read_target(struct conn *c, struct op *op, struct far_read *f)
{
    const char *key = f->req->key, *target;
    struct reply rep;
    uint32_t count;
    size_t len;
    uint32_t id = conn_path_req(c, SSH_FXP_READLINK, f->path);
    int r = conn_expect(c, op, id, SSH_FXP_NAME, "read", key, &rep);
    if (r < 0)
        return r;
    if (r == 1 || !reply_u32(&rep, &count) || count != 1 || !reply_bytes(&rep, &target, &len) ||
        memchr(target, '\0', len))
        return conn_bad_reply(c, op, "read", key);
    buf_add(&f->target, target, len);
    return 0;
}

/* The look and the opening go together: one wait for both. */
int packets_read(struct conn *c, struct op *op, struct far_read *f)
{
    struct handle h = {0};
    struct err first;
    uint32_t stat = conn_path_req(c, SSH_FXP_LSTAT, f->path);
    uint32_t open = conn_open_req(c, f->path, SSH_FXF_READ, NULL);
    int r = conn_expect_attrs(c, op, stat, "read", f->req->key, &f->before);
    if (c->broken || r == -EINTR)
        return r;
    first = op->err;
    int o = conn_expect_handle(c, op, open, "read", f->req->key, &h);
    bool is_file = r == 0 && !sftp_is_dir(&f->before) && !sftp_is_link(&f->before);
    if (r < 0)
        op->err = first;
    else if (!is_file || o < 0) /* a special file is refused for what it is */
        r = f->judge(f->arg, op, &f->before);
    if (r == 0 && is_file)
        r = o < 0 ? o : read_handle(c, op, &h, f);
    else if (r == 0)
        r = read_target(c, op, f);
    conn_close_handle(c, &h);
    return r;
}

/* ---- writing ---- */

struct writes { /* on their way: the newest, at most writes_max() */
    uint32_t ids[WRITES_MAX];
    uint64_t sent, done;
};

static unsigned writes_max(const struct conn *c)
{
    unsigned n = c->write_window / c->write_max;
    return n < 2 ? 2 : n > WRITES_MAX ? WRITES_MAX : n;
}

/* Sends a range. The last answers are left for writes_end(). */
static int send_range(struct conn *c, struct op *op, const struct handle *h, const char *key,
                      const struct source *src, uint64_t from, uint64_t to, struct writes *w)
{
    int r = 0;
    unsigned most = writes_max(c);
    while (r == 0 && from < to) {
        if (w->sent - w->done == most) {
            r = conn_expect_ok(c, op, w->ids[w->done++ % WRITES_MAX], "write", key);
            continue;
        }
        uint32_t n = to - from < c->write_max ? (uint32_t)(to - from) : c->write_max;
        void *data;
        r = op_check(op);
        if (r == 0)
            r = conn_room(c, op, n);
        if (r < 0)
            break;
        size_t queued = c->out_len;
        uint32_t id = conn_write_req(c, h, from, n, &data);
        r = src->read_at(src, from, data, n);
        if (r < 0) {
            c->out_len = queued; /* as if it had not been */
            return err_set(&op->err, -r, "put %s: reading the data: %s", key, strerror(-r));
        }
        w->ids[w->sent++ % WRITES_MAX] = id;
        from += n;
    }
    return r;
}

static int writes_end(struct conn *c, struct op *op, const char *key, struct writes *w)
{
    int r = 0;
    while (r == 0 && w->done < w->sent)
        r = conn_expect_ok(c, op, w->ids[w->done++ % WRITES_MAX], "write", key);
    return r;
}

struct finish { /* on its way: what makes a written file complete; 0: not asked for */
    uint32_t owner, rest, sync, stat;
};

/* Owner by itself, since it may be refused; then mode, times and size; then what it is now. */
static struct finish send_finish(struct conn *c, const struct handle *h,
                                 const struct wire_attr *owner, const struct wire_attr *rest)
{
    struct finish f = {0};
    if (owner->flags)
        f.owner = conn_fsetstat_req(c, h, owner);
    f.rest = conn_fsetstat_req(c, h, rest);
    if (c->extensions & EXT_FSYNC)
        f.sync = conn_fsync_req(c, h);
    f.stat = conn_handle_req(c, SSH_FXP_FSTAT, h);
    return f;
}

/* An owner that may not be set is no error, but a failure where it would have changed is. */
static int end_owner(struct conn *c, struct op *op, const char *what, const char *key, uint32_t id,
                     bool changes)
{
    int r = conn_expect_ok(c, op, id, what, key);
    if (r == 0 || c->broken || r == -EINTR || (changes && status_is_failure(op)))
        return r;
    err_clear(&op->err);
    return 0;
}

static int end_finish(struct conn *c, struct op *op, const char *what, const char *key,
                      const struct finish *f, bool owner_changes, struct wire_attr *ret)
{
    int r = f->owner ? end_owner(c, op, what, key, f->owner, owner_changes) : 0;
    if (r == 0)
        r = conn_expect_ok(c, op, f->rest, what, key);
    if (r == 0 && f->sync)
        r = conn_expect_ok(c, op, f->sync, "make durable", key);
    return r == 0 ? conn_expect_attrs(c, op, f->stat, what, key, ret) : r;
}

/* The owner that a new file is to get. Where only half of it is known, `made` is waited for. */
static int owner_to_set(struct conn *c, struct op *op, const struct far_make *m, uint32_t *fstat,
                        struct wire_attr *made, struct wire_attr *ret)
{
    unsigned half = m->attr->known & (ATTR_HAS_UID | ATTR_HAS_GID);
    int r = 0;
    if (half == ATTR_HAS_UID || half == ATTR_HAS_GID) {
        r = conn_expect_attrs(c, op, *fstat, "put", m->key, made);
        *fstat = 0;
    }
    if (r == 0)
        *ret = sftp_owner_of(m->attr, made);
    return r;
}

/* The answer to an LSTAT of what is to be replaced, judged. */
static int judge_old(struct conn *c, struct op *op, struct far_make *m, uint32_t stat)
{
    struct wire_attr old;
    int r = conn_expect_attrs(c, op, stat, "put", m->key, &old);
    return far_judge(op, r, &old, m->judge, m->arg);
}

/* Bytes and all that makes the file complete, in one go: nobody else sees it, so what follows a
 * write that fails does no harm. `look`: on its way, still to be judged; 0: none. */
static int fill_file(struct conn *c, struct op *op, struct far_make *m, const struct handle *h, uint32_t look)
{
    struct wire_attr made = {.flags = 0}, owner = {.flags = 0}, rest;
    struct writes w = {.sent = 0};
    struct finish f;
    bool owned = m->attr->known & (ATTR_HAS_UID | ATTR_HAS_GID);
    uint32_t fstat = owned ? conn_handle_req(c, SSH_FXP_FSTAT, h) : 0; /* before it gets its owner */
    int r = owner_to_set(c, op, m, &fstat, &made, &owner);
    rest = sftp_rest_of(m->attr, &made);
    if (r == 0)
        r = send_range(c, op, h, m->key, m->src, 0, m->src->size, &w);
    if (r < 0)
        return r;
    f = send_finish(c, h, &owner, &rest);
    if (look)
        r = judge_old(c, op, m, look);
    if (r == 0 && fstat)
        r = conn_expect_attrs(c, op, fstat, "put", m->key, &made);
    if (r == 0)
        r = writes_end(c, op, m->key, &w);
    if (r < 0)
        return r;
    owner = sftp_owner_of(m->attr, &made);
    return end_finish(c, op, "put", m->key, &f, owner.flags != 0, &m->attrs);
}

/* The handles that were asked for with the look; both are waited for, or they would be lost. */
static int take_handles(struct conn *c, struct op *op, struct far_make *m, uint32_t open,
                        uint32_t dir, struct handle *ret)
{
    int r = conn_expect_handle(c, op, open, "put", m->key, ret);
    m->made = r == 0 || c->broken || r == -EINTR;
    if (!dir || c->broken || r == -EINTR)
        return r;
    struct err first = op->err;
    int d = conn_expect_handle(c, op, dir, "open", m->dir, &m->held);
    if (r == 0 && (c->broken || d == -EINTR))
        return d;
    op->err = first; /* far_move tries it once more */
    return r;
}

struct wire_attr packets_temp_mode(bool hidden)
{
    return (struct wire_attr){.flags = WIRE_MODE, .mode = hidden ? 0600 : 0666};
}

/* The handles that were asked for with the file before: the look goes with the bytes. 1: there is none. */
static int make_ahead(struct conn *c, struct op *op, struct far_make *m, struct handle *h, uint32_t stat)
{
    uint32_t open = c->ahead.open, dir = c->ahead.open_dir;
    if (!m->ahead)
        return 1;
    int r = take_handles(c, op, m, open, dir, h);
    conn_ahead_clear(c);
    if (r < 0 && !c->broken && r != -EINTR) { /* as if it had not been asked for */
        conn_close_handle(c, &m->held);
        err_clear(&op->err);
        return 1;
    }
    return r < 0 ? r : fill_file(c, op, m, h, stat);
}

static int make_now(struct conn *c, struct op *op, struct far_make *m, struct handle *h, uint32_t stat)
{
    struct wire_attr mode = packets_temp_mode(m->attr->known & ATTR_HAS_MODE);
    uint32_t open = conn_open_req(c, m->temp, PACKETS_TEMP, &mode);
    uint32_t dir = m->dir ? conn_open_req(c, m->dir, SSH_FXF_READ, NULL) : 0;
    m->made = true;
    int r = judge_old(c, op, m, stat);
    struct err first = op->err;
    if (c->broken || r == -EINTR)
        return r;
    int o = take_handles(c, op, m, open, dir, h);
    if (r < 0)
        op->err = first;
    else
        r = o;
    return r < 0 ? r : fill_file(c, op, m, h, 0);
}

int packets_make(struct conn *c, struct op *op, struct far_make *m)
{
    struct handle h = {0};
    uint32_t stat = conn_path_req(c, SSH_FXP_LSTAT, m->path);
    int r = make_ahead(c, op, m, &h, stat);
    if (r > 0)
        r = make_now(c, op, m, &h, stat);
    conn_close_handle(c, &h);
    return r;
}

static int look_and_begin(struct conn *c, struct op *op, struct far_patch *p, const struct handle *h)
{
    uint32_t id = conn_handle_req(c, SSH_FXP_FSTAT, h);
    int r = conn_expect_attrs(c, op, id, "patch", p->req->key, &p->before);
    return far_begin_patch(c, op, r, p);
}

static int patch_handle(struct conn *c, struct op *op, struct far_patch *p, const struct handle *h)
{
    const struct patch_req *req = p->req;
    struct writes w = {.sent = 0};
    uint32_t sync = 0;
    int r = p->bytes_only ? 0 : look_and_begin(c, op, p, h);
    for (size_t i = 0; i < req->n_ranges && r == 0; i++)
        r = send_range(c, op, h, req->key, req->src, req->ranges[i].offset,
                       req->ranges[i].offset + req->ranges[i].length, &w);
    if (r == 0 && p->bytes_only && (c->extensions & EXT_FSYNC))
        sync = conn_fsync_req(c, h);
    if (r == 0)
        r = writes_end(c, op, req->key, &w);
    if (r < 0)
        return r; /* without the new mtime: it is not to look complete */
    if (p->bytes_only)
        return sync ? conn_expect_ok(c, op, sync, "make durable", req->key) : 0;
    struct wire_attr owner = sftp_owner_of(p->attr, &p->before),
                     rest = sftp_rest_of(p->attr, &p->before);
    rest.flags |= WIRE_SIZE;
    rest.size = req->new_size;
    struct finish f = send_finish(c, h, &owner, &rest);
    return end_finish(c, op, "patch", req->key, &f, false, &p->after);
}

/* It failed, and the connection did not: the server answers in order, so this is the file after the last write. */
static void look_after(struct conn *c, struct far_patch *p, const struct handle *h)
{
    struct op op; /* the caller's may be cancelled */
    op_init(&op, "patch", LOOK_AFTER_MS);
    uint32_t id = conn_handle_req(c, SSH_FXP_FSTAT, h);
    if (conn_expect_attrs(c, &op, id, "patch", p->req->key, &p->after) < 0)
        p->after.flags = 0;
}

int packets_patch(struct conn *c, struct op *op, struct far_patch *p)
{
    struct handle h = {0};
    uint32_t open = conn_open_req(c, p->path, SSH_FXF_WRITE, NULL);
    int r = conn_expect_handle(c, op, open, "patch", p->req->key, &h);
    if (r == 0)
        r = patch_handle(c, op, p, &h);
    if (r < 0) {
        p->after.flags = 0;
        if (p->begun && !c->broken)
            look_after(c, p, &h);
    }
    conn_close_handle(c, &h);
    return r;
}

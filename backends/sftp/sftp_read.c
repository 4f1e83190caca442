/* SPDX-License-Identifier: MIT
 * sftp_read.c: ranges of files.
 *
 * The far side tells what a file is before and after its bytes were read: the same version twice,
 * and no change of ours meanwhile (versions_stable), mean bytes of one version. Else it begins
 * again, or is stale when a version was asked for. */
#include "backends/sftp/sftp_int.h"

#define TRIES 100

struct reading {
    struct sftp *s;
    const struct read_req *req;
};

static int judge(void *arg, struct op *op, const struct wire_attr *w)
{
    const struct reading *rd = arg;
    struct version_id id = sftp_id_of(w);
    if (sftp_is_dir(w))
        return err_set(&op->err, EISDIR, "%s is a directory", rd->req->key);
    int r = sftp_check_kind(op, w, rd->req->key);
    if (r == 0 && !versions_match(&rd->s->versions, rd->req->key, rd->req->version, &id))
        r = err_set(&op->err, ESTALE, "%s has changed", rd->req->key);
    return r;
}

/* The range of a link's target. 1 = it is not the one that was looked at. */
static int give_target(struct sftp *s, struct op *op, const struct far_read *f,
                       struct read_res *ret)
{
    const struct read_req *req = f->req;
    const struct buf *target = &f->target;
    if (target->len != f->before.size)
        return 1;
    size_t off = req->offset < target->len ? (size_t)req->offset : target->len;
    ret->length = target->len - off < req->iov.iov_len ? target->len - off : req->iov.iov_len;
    if (ret->length)
        memcpy(req->iov.iov_base, target->data + off, ret->length);
    sftp_attr_of(s, req->key, &f->before, &ret->attr);
    if (req->on_data && ret->length && req->on_data(req->on_data_arg, ret->length) != 0)
        return err_set(&op->err, EINTR, "read %s: stopped by the reader", req->key);
    return 0;
}

/* One try: what is there, and its bytes. 1 = a write came between. */
static int read_once(struct sftp *s, struct conn *c, struct op *op, const char *path,
                     const struct read_req *req, struct read_res *ret)
{
    struct reading rd = {.s = s, .req = req};
    struct far_read f = {.path = path, .req = req, .judge = judge, .arg = &rd};
    int r = c->far->read(c, op, &f);
    if (r == 0 && sftp_is_link(&f.before)) {
        r = give_target(s, op, &f, ret);
    } else if (r == 0) {
        struct version_id before = sftp_id_of(&f.before), after = sftp_id_of(&f.after);
        if (!versions_alike(&before, &after) || f.got < f.wanted) {
            r = 1;
        } else {
            ret->length = f.got;
            sftp_attr_of(s, req->key, &f.after, &ret->attr);
        }
    }
    buf_done(&f.target);
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

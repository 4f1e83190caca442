/* SPDX-License-Identifier: MIT
 * sftp_write.c: put and patch.
 *
 * put: a temporary file beside the target gets bytes, owner, mode and times, is fsynced where the
 * server can, and is renamed over the target; then the directory is fsynced. A failure leaves the
 * target as it was and removes the temporary, by another connection if it must (sftp_orphan). The
 * symbolic link of a put with if_absent is made in its place: only that fails when the name is
 * taken. */
#include "backends/sftp/sftp_int.h"

#include <limits.h>

#define WRITES_MAX 32 /* on their way at once */

struct put { /* one put under way */
    struct sftp *s;
    struct op *op;
    struct conn *c; /* NULL: there is none any more */
    const struct put_req *req;
    const char *path;
    char *temp;
    bool made;                  /* the temporary may be there */
    struct wire_attr made_attr; /* what the new object is */
    struct wire_attr old;       /* what it replaces; flags 0: nothing */
};

/* ---- bytes ---- */

/* FAILURE may be a full disk: looks. */
static int explain_write(struct conn *c, struct op *op, const char *key)
{
    struct err was = op->err;
    struct reply rep;
    uint64_t v[5] = {0};
    if (!status_is_failure(op) || !(c->extensions & EXT_STATVFS))
        return -op->err.code;
    int r = conn_expect(c, op, conn_statvfs_req(c, c->root), SSH_FXP_EXTENDED_REPLY, "statvfs", key,
                        &rep);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(v); i++)
        (void)reply_u64(&rep, &v[i]);
    op->err = was;
    if (r == 0 && v[4] * v[1] < (1U << 20))
        return err_set(&op->err, ENOSPC, "write %s: sftp %s: the disk there is full", key, c->name);
    return -op->err.code;
}

int sftp_send_range(struct conn *c, struct op *op, const struct handle *h, const char *key,
                    const struct source *src, uint64_t from, uint64_t to)
{
    uint32_t ids[WRITES_MAX];
    uint64_t done = 0, sent = 0;
    int r = 0;
    while (r == 0 && (from < to || done < sent)) {
        if (from == to || sent - done == WRITES_MAX) {
            r = conn_expect_ok(c, op, ids[done++ % WRITES_MAX], "write", key);
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
        ids[sent % WRITES_MAX] = conn_write_req(c, h, from, n, &data);
        sent++;
        r = src->read_at(src, from, data, n);
        if (r < 0) {
            c->out_len = queued; /* as if it had not been */
            return err_set(&op->err, -r, "put %s: reading the data: %s", key, strerror(-r));
        }
        from += n;
    }
    return r < 0 && !c->broken ? explain_write(c, op, key) : r;
}

/* ---- the temporary ---- */

static char *temp_path(const char *path)
{
    CLEANUP_FREE char *dir = sftp_parent(path);
    char hex[17];
    random_hex(hex, 16);
    return xasprintf("%s/" TEMP_PREFIX "%s", strcmp(dir, "/") == 0 ? "" : dir, hex);
}

/* Nobody else sees the file, so an interrupted request and a lost connection leave no other trace.
 */
static void drop_temp(struct put *p)
{
    struct op op;
    op_init(&op, "remove", 3000);
    if (!p->made)
        return;
    if (!p->c || p->c->broken ||
        (conn_expect_ok(p->c, &op, conn_path_req(p->c, SSH_FXP_REMOVE, p->temp), "remove",
                        p->temp) < 0 &&
         op.err.code != ENOENT))
        sftp_orphan(p->s, p->temp);
    p->made = false;
}

int sftp_check_target(struct sftp *s, struct op *op, const char *key, const struct precond *pre,
                      bool seen, const struct wire_attr *w)
{
    if (!seen)
        return pre->if_match ? err_set(&op->err, ESTALE, "%s is not there any more", key) : 0;
    if (pre->if_absent)
        return err_set(&op->err, EEXIST, "%s exists already", key);
    if (sftp_is_dir(w))
        return err_set(&op->err, EISDIR, "%s is a directory", key);
    int r = sftp_check_kind(op, w, key);
    if (r == 0 && !versions_match(&s->versions, key, pre->if_match, w->mtime, w->size))
        r = err_set(&op->err, ESTALE, "%s has changed", key);
    return r;
}

/* The answer to an LSTAT of the target, judged by the precondition. */
static int look_at_target(struct put *p, uint32_t id)
{
    int r = conn_expect_attrs(p->c, p->op, id, "put", p->req->key, &p->old);
    if (r == -ENOENT) {
        err_clear(&p->op->err);
        p->old = (struct wire_attr){.flags = 0};
    } else if (r < 0) {
        return r;
    }
    return sftp_check_target(p->s, p->op, p->req->key, &p->req->precond, r == 0, &p->old);
}

/* Owner by itself, refused without harm; then mode and times. Gives what the file is then. */
static int finish_file(struct put *p, struct handle *h)
{
    const char *key = p->req->key;
    struct conn *c = p->c;
    struct attr a = *p->req->attr; /* borrows */
    struct wire_attr made;
    if (!(a.known & ATTR_HAS_MTIME))
        a.mtime = clock_wall();
    a.known |= ATTR_HAS_MTIME;
    int r = conn_expect_attrs(c, p->op, conn_handle_req(c, SSH_FXP_FSTAT, h), "put", key, &made);
    if (r < 0)
        return r;
    struct wire_attr owner = sftp_owner_of(&a, &made), rest = sftp_rest_of(&a, &made);
    if (owner.flags) {
        r = conn_expect_ok(c, p->op, conn_fsetstat_req(c, h, &owner), "put", key);
        if (r < 0 && (c->broken || r == -EINTR))
            return r;
        if (r == -EIO && status_is_failure(p->op))
            return r;
    }
    uint32_t set = conn_fsetstat_req(c, h, &rest), sync = 0;
    if (c->extensions & EXT_FSYNC)
        sync = conn_fsync_req(c, h);
    uint32_t stat = conn_handle_req(c, SSH_FXP_FSTAT, h);
    r = conn_expect_ok(c, p->op, set, "put", key);
    if (r == 0 && sync)
        r = conn_expect_ok(c, p->op, sync, "make durable", key);
    return r == 0 ? conn_expect_attrs(c, p->op, stat, "put", key, &p->made_attr) : r;
}

/* The file under its temporary name, complete. */
static int make_file(struct put *p)
{
    struct handle h = {0};
    bool private = p->req->attr->known & ATTR_HAS_MODE;
    struct wire_attr mode = {.flags = WIRE_MODE, .mode = private ? 0600 : 0666};
    uint32_t stat = conn_path_req(p->c, SSH_FXP_LSTAT, p->path);
    uint32_t open =
        conn_open_req(p->c, p->temp, SSH_FXF_WRITE | SSH_FXF_CREAT | SSH_FXF_EXCL, &mode);
    p->made = true;
    int r = look_at_target(p, stat);
    struct err first = p->op->err;
    if (p->c->broken || r == -EINTR)
        return r;
    int o = conn_expect_handle(p->c, p->op, open, "put", p->req->key, &h);
    p->made = o == 0 || p->c->broken || o == -EINTR;
    if (r < 0)
        p->op->err = first;
    else
        r = sftp_explain_parent(p->c, p->op, p->path, p->req->key, o);
    if (r == 0)
        r = sftp_send_range(p->c, p->op, &h, p->req->key, p->req->src, 0, p->req->src->size);
    if (r == 0)
        r = finish_file(p, &h);
    conn_close_handle(p->c, &h);
    return r;
}

/* ---- symbolic links ---- */

static int read_target(struct put *p, struct buf *ret)
{
    const struct source *src = p->req->src;
    if (src->size == 0 || src->size >= PATH_MAX)
        return err_set(&p->op->err, ENAMETOOLONG,
                       "put %s: the target of a symbolic link has 1 to %d bytes", p->req->key,
                       PATH_MAX - 1);
    int r = src->read_at(src, 0, buf_reserve(ret, (size_t)src->size + 1), (size_t)src->size);
    if (r < 0)
        return err_set(&p->op->err, -r, "put %s: reading the data: %s", p->req->key, strerror(-r));
    ret->len = (size_t)src->size;
    ret->data[ret->len] = '\0';
    if (strlen(ret->data) != ret->len)
        return err_set(&p->op->err, EINVAL, "put %s: the target of a symbolic link has a NUL",
                       p->req->key);
    return 0;
}

/* The times and owner of the link itself, where the server can; a link without them is still the
 * link. */
static int finish_link(struct put *p, const char *path)
{
    struct conn *c = p->c;
    struct wire_attr now = {.flags = 0};
    struct wire_attr owner = sftp_owner_of(p->req->attr, &now),
                     rest = sftp_rest_of(p->req->attr, &now);
    rest.flags &= ~(uint32_t)WIRE_MODE;
    for (unsigned i = 0; i < 2 && (c->extensions & EXT_LSETSTAT); i++) {
        const struct wire_attr *a = i ? &rest : &owner;
        int r = a->flags
                    ? conn_expect_ok(c, p->op, conn_lsetstat_req(c, path, a), "put", p->req->key)
                    : 0;
        if (r < 0 && (c->broken || r == -EINTR))
            return r;
    }
    return conn_expect_attrs(c, p->op, conn_path_req(c, SSH_FXP_LSTAT, path), "put", p->req->key,
                             &p->made_attr);
}

static int make_link(struct put *p)
{
    CLEANUP_BUF struct buf target = BUF_INIT;
    bool in_place = p->req->precond.if_absent;
    const char *path = in_place ? p->path : p->temp;
    int r = read_target(p, &target);
    if (r == 0)
        r = look_at_target(p, conn_path_req(p->c, SSH_FXP_LSTAT, p->path));
    if (r < 0)
        return r;
    conn_changing(p->c, in_place);
    p->made = !in_place;
    r = conn_expect_ok(p->c, p->op,
                       conn_two_paths_req(p->c, SSH_FXP_SYMLINK, buf_str(&target), path), "put",
                       p->req->key);
    if (r < 0 && in_place && status_is_failure(p->op))
        r = err_set(&p->op->err, EEXIST, "%s exists already", p->req->key);
    conn_changing(p->c, false);
    return r < 0 ? r : finish_link(p, path);
}

/* ---- put ---- */

static struct version_id id_of(const struct wire_attr *w)
{
    return (struct version_id){.mtime = w->mtime, .size = w->flags ? w->size : UINT64_MAX};
}

/* Under the claim: a last look where a version must match, and the rename. */
static int commit(struct put *p)
{
    const char *key = p->req->key;
    bool is_link = p->req->attr->kind == ATTR_SYMLINK;
    int r = 0;
    if (p->req->precond.if_match)
        r = look_at_target(p, conn_path_req(p->c, SSH_FXP_LSTAT, p->path));
    if (r == 0 && !(is_link && p->req->precond.if_absent))
        r = sftp_move(p->s, p->op, &p->c, p->temp, p->path, p->req->precond.if_absent, key);
    if (r == 0) {
        p->made = false;
        CLEANUP_FREE char *dir = sftp_parent(p->path);
        r = sftp_sync_dir(p->c, p->op, dir, key);
    }
    return r;
}

static int put_claimed(struct put *p)
{
    const char *key = p->req->key;
    versions_change(&p->s->versions, key);
    int r = commit(p);
    bool unknown = r < 0 && p->op->err.retry == ERR_RETRY_UNKNOWN;
    struct version_id before = id_of(&p->old), after = id_of(&p->made_attr);
    if (r == 0 || unknown)
        versions_changed(&p->s->versions, key, &before, &after);
    else
        versions_unchanged(&p->s->versions, key);
    return r;
}

int sftp_put(struct store *store, struct op *op, const struct put_req *req, struct attr *ret)
{
    struct sftp *s = sftp_of(store);
    CLEANUP_FREE char *path = NULL, *temp = NULL;
    bool transfer = req->src->size > 256 * 1024;
    struct put p = {.s = s, .op = op, .req = req};
    int r = sftp_no_xattrs(op, req->attr, req->key);
    if (r == 0)
        r = sftp_path(s, op, req->key, &path);
    if (r == 0)
        r = sftp_take(s, op, transfer, &p.c);
    if (r < 0)
        return r;
    p.path = path;
    p.temp = temp = temp_path(path);
    r = req->attr->kind == ATTR_SYMLINK ? make_link(&p) : make_file(&p);
    if (r == 0)
        r = claims_take(&s->claims, op, req->key);
    if (r == 0) {
        r = put_claimed(&p);
        claims_release(&s->claims, req->key);
    }
    if (r < 0)
        drop_temp(&p);
    sftp_give(s, p.c, transfer);
    if (r == 0)
        sftp_attr_of(s, req->key, &p.made_attr, ret);
    return r;
}

/* ---- patch ---- */

static int patch_open_file(struct sftp *s, struct conn *c, struct op *op, const struct handle *h,
                           const struct patch_req *req, struct wire_attr *before,
                           struct wire_attr *after)
{
    static const struct attr none = {.known = 0};
    struct attr a = req->attr ? *req->attr : none; /* borrows */
    int r =
        conn_expect_attrs(c, op, conn_handle_req(c, SSH_FXP_FSTAT, h), "patch", req->key, before);
    if (r == 0 &&
        !versions_match(&s->versions, req->key, req->if_match, before->mtime, before->size))
        r = err_set(&op->err, ESTALE, "%s has changed", req->key);
    if (r < 0)
        return r;
    if (!(a.known & ATTR_HAS_MTIME))
        a.mtime = clock_wall();
    a.known |= ATTR_HAS_MTIME;
    conn_changing(c, true);
    for (size_t i = 0; i < req->n_ranges && r == 0; i++)
        r = sftp_send_range(c, op, h, req->key, req->src, req->ranges[i].offset,
                            req->ranges[i].offset + req->ranges[i].length);
    struct wire_attr owner = sftp_owner_of(&a, before), rest = sftp_rest_of(&a, before);
    rest.flags |= WIRE_SIZE;
    rest.size = req->new_size;
    if (r == 0 && owner.flags)
        (void)conn_expect_ok(c, op, conn_fsetstat_req(c, h, &owner), "patch", req->key);
    if (r == 0)
        r = conn_expect_ok(c, op, conn_fsetstat_req(c, h, &rest), "patch", req->key);
    if (r == 0 && (c->extensions & EXT_FSYNC))
        r = conn_expect_ok(c, op, conn_fsync_req(c, h), "make durable", req->key);
    if (r == 0)
        r = conn_expect_attrs(c, op, conn_handle_req(c, SSH_FXP_FSTAT, h), "patch", req->key,
                              after);
    conn_changing(c, false);
    return r < 0 ? err_prefix(&op->err, "%s may be changed in part", req->key) : 0;
}

static int patch_claimed(struct sftp *s, struct conn *c, struct op *op, const char *path,
                         const struct patch_req *req, struct attr *ret)
{
    struct wire_attr before = {.flags = 0}, after;
    struct handle h = {0};
    int r = sftp_lstat(c, op, path, req->key, &before);
    if (r == 0 && (sftp_is_dir(&before) || sftp_is_link(&before)))
        r = err_set(&op->err, sftp_is_dir(&before) ? EISDIR : EINVAL, "patch %s: it is not a file",
                    req->key);
    if (r == 0)
        r = sftp_check_kind(op, &before, req->key);
    if (r == 0)
        r = conn_expect_handle(c, op, conn_open_req(c, path, SSH_FXF_WRITE, NULL), "patch",
                               req->key, &h);
    if (r < 0)
        return r;
    versions_change(&s->versions, req->key);
    r = patch_open_file(s, c, op, &h, req, &before, &after);
    conn_close_handle(c, &h);
    struct version_id was = id_of(&before), is = r == 0 ? id_of(&after) : was;
    if (r == -ESTALE)
        versions_unchanged(&s->versions, req->key);
    else
        versions_changed(&s->versions, req->key, &was, &is);
    if (r == 0)
        sftp_attr_of(s, req->key, &after, ret);
    return r;
}

int sftp_patch(struct store *store, struct op *op, const struct patch_req *req, struct attr *ret)
{
    struct sftp *s = sftp_of(store);
    CLEANUP_FREE char *path = NULL;
    struct conn *c;
    int r = sftp_path(s, op, req->key, &path);
    if (r == 0)
        r = claims_take(&s->claims, op, req->key);
    if (r < 0)
        return r;
    r = sftp_take(s, op, true, &c);
    if (r == 0) {
        r = patch_claimed(s, c, op, path, req, ret);
        sftp_give(s, c, true);
    }
    claims_release(&s->claims, req->key);
    return r;
}

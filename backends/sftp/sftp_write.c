/* SPDX-License-Identifier: MIT
 * sftp_write.c: put and patch.
 *
 * put: a temporary file beside the target gets bytes, owner, mode and times, is fsynced where the
 * far side can, and is renamed over the target; then the directory is fsynced. A failure leaves the
 * target as it was and removes the temporary, by another connection if it must (sftp_orphan). The
 * symbolic link of a put with if_absent is made in its place: only that fails when the name is
 * taken. */
#include "backends/sftp/sftp_int.h"

#include <limits.h>

#define SMALL_MAX (256U << 10) /* takes any connection, not a transfer's */

int sftp_explain_write(struct conn *c, struct op *op, const char *key, int r)
{
    struct err was = op->err;
    struct store_space space;
    if (r >= 0 || c->broken || !status_is_failure(op) || !(c->extensions & EXT_STATVFS))
        return r;
    int told = c->far->space(c, op, c->root, &space);
    op->err = was;
    if (told == 0 && space.avail < (1U << 20))
        return err_set(&op->err, ENOSPC, "write %s: sftp %s: the disk there is full", key, c->name);
    return -op->err.code;
}

/* ---- the temporary ---- */

char *sftp_temp_path(const char *path, const char *temp_name)
{
    CLEANUP_FREE char *dir = sftp_parent(path);
    return xasprintf("%s/%s", strcmp(dir, "/") == 0 ? "" : dir, temp_name);
}

/* Nobody else sees the file, so an interrupted request and a lost connection leave no other trace.
 */
void sftp_put_drop(struct put *p)
{
    struct op op;
    op_init(&op, "remove", 3000);
    if (!p->made)
        return;
    if (!p->c || p->c->broken ||
        (far_remove(p->c, &op, p->temp, p->temp) < 0 && op.err.code != ENOENT))
        sftp_orphan(p->s, p->temp);
    p->made = false;
}

/* What is at the target (flags 0: nothing), judged by the precondition. */
static int judge_target(void *arg, struct op *op, const struct wire_attr *w)
{
    struct put *p = arg;
    const char *key = p->req->key;
    const struct precond *pre = &p->req->precond;
    struct version_id id = sftp_id_of(w);
    p->old = *w;
    if (!w->flags)
        return pre->if_match ? err_set(&op->err, ESTALE, "%s is not there any more", key) : 0;
    if (pre->if_absent)
        return err_set(&op->err, EEXIST, "%s exists already", key);
    if (sftp_is_dir(w))
        return err_set(&op->err, EISDIR, "%s is a directory", key);
    int r = sftp_check_kind(op, w, key);
    if (r == 0 && !versions_match(&p->s->versions, key, pre->if_match, &id))
        r = err_set(&op->err, ESTALE, "%s has changed", key);
    return r;
}

int sftp_put_look(struct put *p)
{
    struct wire_attr w = {.flags = 0};
    int r = far_lstat(p->c, p->op, p->path, p->req->key, &w);
    return far_judge(p->op, r, &w, judge_target, p);
}

struct attr sftp_with_mtime(const struct attr *attr)
{
    static const struct attr none = {.known = 0};
    struct attr a = attr ? *attr : none;
    if (!(a.known & ATTR_HAS_MTIME))
        a.mtime = clock_wall();
    a.known |= ATTR_HAS_MTIME;
    return a;
}

int sftp_put_make(struct put *p)
{
    struct attr attr = sftp_with_mtime(p->req->attr);
    struct far_make m = {
        .path = p->path,
        .temp = p->temp,
        .key = p->req->key,
        .src = p->req->src,
        .attr = &attr,
        .judge = judge_target,
        .arg = p,
        .dir = sftp_syncs_dirs(p->c) ? p->dir : NULL,
        .ahead = p->ahead,
    };
    int r = p->c->far->make(p->c, p->op, &m);
    p->held = m.held;
    p->made = m.made;
    p->made_attr = m.attrs;
    if (r < 0 && !m.made)
        r = sftp_explain_parent(p->c, p->op, p->path, p->req->key, r);
    return sftp_explain_write(p->c, p->op, p->req->key, r);
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
        int r = a->flags ? c->far->set(c, p->op, path, p->req->key, true, a, "put") : 0;
        if (r < 0 && (c->broken || r == -EINTR))
            return r;
    }
    return far_lstat(c, p->op, path, p->req->key, &p->made_attr);
}

static int make_link(struct put *p)
{
    CLEANUP_BUF struct buf target = BUF_INIT;
    bool in_place = p->req->precond.if_absent;
    const char *path = in_place ? p->path : p->temp;
    int r = read_target(p, &target);
    if (r == 0)
        r = sftp_put_look(p);
    if (r < 0)
        return r;
    conn_changing(p->c, in_place);
    p->made = !in_place;
    r = p->c->far->symlink(p->c, p->op, buf_str(&target), path, p->req->key);
    if (r < 0 && in_place && status_is_failure(p->op))
        r = err_set(&p->op->err, EEXIST, "%s exists already", p->req->key);
    conn_changing(p->c, false);
    return r < 0 ? r : finish_link(p, path);
}

/* ---- put ---- */

/* Under the claim: a last look where a version must match, and the rename. */
static int commit(struct put *p)
{
    const char *key = p->req->key;
    bool is_link = p->req->attr->kind == ATTR_SYMLINK;
    struct far_move m = {.from = p->temp,
                         .to = p->path,
                         .key = key,
                         .no_replace = p->req->precond.if_absent,
                         .dir = p->dir,
                         .held = &p->held,
                         .next = p->next,
                         .hidden = p->req->attr->known & ATTR_HAS_MODE};
    int r = p->req->precond.if_match ? sftp_put_look(p) : 0;
    if (r < 0)
        return r;
    if (is_link && m.no_replace)
        return sftp_sync_dir(p->c, p->op, p->dir, key);
    if (p->next)
        sftp_note_ahead(p->s, p->c, p->temp, p->next);
    r = sftp_move(p->s, p->op, &p->c, &m, &p->made_attr);
    if (m.moved)
        p->made = false;
    return r;
}

static int put_claimed(struct put *p)
{
    const char *key = p->req->key;
    versions_change(&p->s->versions, key);
    int r = commit(p);
    bool unknown = r < 0 && p->op->err.retry == ERR_RETRY_UNKNOWN;
    struct version_id before = sftp_id_of(&p->old), after = sftp_id_of(&p->made_attr);
    if (r == 0 || unknown)
        versions_changed(&p->s->versions, key, &before, &after);
    else
        versions_unchanged(&p->s->versions, key);
    return r;
}

/* The claim of the target. Who has it may wait for a connection, so ours is given back while we
 * wait: or with all of them in the hands of such waiters nobody would go on. */
static int claim_target(struct put *p)
{
    struct sftp *s = p->s;
    bool transfer = p->transfer;
    size_t endpoint = p->c->endpoint;
    if (claims_try(&s->claims, p->req->key))
        return 0;
    conn_close_handle(p->c, &p->held);
    sftp_give(s, p->c, transfer);
    p->c = NULL;
    p->transfer = false;
    int r = claims_take(&s->claims, p->op, p->req->key);
    if (r < 0)
        return r;
    r = sftp_take(s, p->op, transfer, &p->c);
    p->transfer = r == 0 && transfer;
    if (r == 0 && p->c->endpoint != endpoint) { /* what was sent is not there */
        r = err_set(&p->op->err, EIO, "put %s: sent to an endpoint that is no longer used",
                    p->req->key);
        p->op->err.retry = ERR_RETRY_SAFE;
    }
    if (r < 0)
        claims_release(&s->claims, p->req->key);
    return r;
}

int sftp_put_commit(struct put *p)
{
    int r = claim_target(p);
    if (r < 0)
        return r;
    r = put_claimed(p);
    claims_release(&p->s->claims, p->req->key);
    return r;
}

/* One try; p has a connection. */
static int put_once(struct put *p)
{
    struct sftp *s = p->s;
    char name[TEMP_NAME_MAX];
    bool small = !p->transfer && p->req->attr->kind != ATTR_SYMLINK && sftp_syncs_dirs(p->c);
    CLEANUP_FREE char *ahead =
        small ? sftp_ahead_take(s, p->c, p->dir, p->req->attr->known & ATTR_HAS_MODE) : NULL;
    bool more = small && sftp_ahead_wanted(p->c, p->dir);
    CLEANUP_FREE char *temp = NULL, *next = NULL;
    temp_name_make(name);
    p->ahead = ahead != NULL;
    p->temp = temp = ahead ? take_ptr(&ahead) : sftp_temp_path(p->path, name);
    temp_name_make(name);
    p->next = next = more ? sftp_temp_path(p->path, name) : NULL;
    int r = p->req->attr->kind == ATTR_SYMLINK ? make_link(p) : sftp_put_make(p);
    if (r == 0)
        r = sftp_put_commit(p);
    if (p->c)
        conn_close_handle(p->c, &p->held);
    if (r < 0)
        sftp_put_drop(p);
    p->temp = p->next = NULL;
    return r;
}

int sftp_put(struct store *store, struct op *op, const struct put_req *req, struct attr *ret)
{
    struct sftp *s = sftp_of(store);
    CLEANUP_FREE char *path = NULL, *dir = NULL;
    struct put p = {.s = s, .op = op, .req = req, .transfer = req->src->size > SMALL_MAX};
    int r = sftp_no_xattrs(op, req->attr, req->key);
    if (r == 0)
        r = sftp_path(s, op, req->key, &path);
    if (r == 0)
        r = sftp_take(s, op, p.transfer, &p.c);
    if (r < 0)
        return r;
    p.path = path;
    p.dir = dir = sftp_parent(path);
    r = put_once(&p);
    if (r == -ENOENT && p.ahead && p.c && !p.c->broken) { /* somebody took away what was opened ahead */
        err_clear(&op->err);
        r = put_once(&p);
    }
    sftp_give(s, p.c, p.transfer);
    if (r == 0)
        sftp_attr_of(s, req->key, &p.made_attr, ret);
    return r;
}

/* ---- patch ---- */

struct patching {
    struct sftp *s;
    const struct patch_req *req;
};

static int judge_patched(void *arg, struct op *op, const struct wire_attr *w)
{
    const struct patching *pa = arg;
    struct version_id id = sftp_id_of(w);
    int r = sftp_check_kind(op, w, pa->req->key);
    if (r == 0 && (sftp_is_dir(w) || sftp_is_link(w)))
        r = err_set(&op->err, sftp_is_dir(w) ? EISDIR : EINVAL, "patch %s: it is not a file",
                    pa->req->key);
    if (r == 0 && !versions_match(&pa->s->versions, pa->req->key, pa->req->if_match, &id))
        r = err_set(&op->err, ESTALE, "%s has changed", pa->req->key);
    return r;
}

static int patch_claimed(struct sftp *s, struct conn *c, struct op *op, const char *path,
                         const struct patch_req *req, struct attr *ret)
{
    struct patching pa = {.s = s, .req = req};
    struct attr attr = sftp_with_mtime(req->attr);
    struct far_patch p = {
        .path = path, .req = req, .attr = &attr, .judge = judge_patched, .arg = &pa};
    struct wire_attr there;
    int r = far_lstat(c, op, path, req->key, &there); /* what is no file is not opened */
    if (r == 0)
        r = judge_patched(&pa, op, &there);
    if (r < 0)
        return r;
    versions_change(&s->versions, req->key);
    r = c->far->patch(c, op, &p);
    conn_changing(c, false);
    bool known = r == 0 || (p.begun && p.after.flags);
    struct version_id was = sftp_id_of(&p.before), is = known ? sftp_id_of(&p.after) : was;
    if (p.begun)
        versions_changed(&s->versions, req->key, &was, &is);
    else
        versions_unchanged(&s->versions, req->key);
    if (known)
        sftp_attr_of(s, req->key, &p.after, ret);
    r = sftp_explain_write(c, op, req->key, r);
    return r < 0 && p.begun ? err_prefix(&op->err, "%s may be changed in part", req->key) : r;
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

/* SPDX-License-Identifier: MIT
 * blob_write.c: changes of a store of BLOBs: put, remove, directories, metadata. Each is one transaction that has
 * the row of its key locked; payload of more than a chunk is staged before it. */
#include "backends/blob/blob_int.h"

#include "base/clock.h"
#include "base/name.h"

#include <errno.h>
#include <string.h>

#define PURGE_NOW_MAX (16 * BLOB_CHUNK) /* contents up to this size go with the change that frees them */

int64_t blob_now_ms(void)
{
    struct timespec t = clock_wall();
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* By time, so that new rows are at the end of the indexes; two of one number: -EEXIST, and the call is repeated. */
int64_t blob_new_id(void)
{
    return (blob_now_ms() << 21) | random_below(1u << 21);
}

void blob_new_version(struct attr *a)
{
    random_hex(a->version, 32);
}

void blob_new_attr(struct attr *to, const struct attr *from, enum attr_kind kind)
{
    attr_copy(to, from);
    to->kind = kind;
    to->known &= ~(unsigned)ATTR_META;
    to->version[0] = '\0';
    if (!(to->known & ATTR_HAS_MTIME))
        to->mtime = clock_wall();
}

static bool dir_is_there(struct blob_conn *c, struct op *op, const char *key, int *r)
{
    CLEANUP_BLOB_FILE struct blob_file f = BLOB_FILE_INIT;
    size_t n;
    CLEANUP_FREE char *dir = path_dir_prefix(key), *end = blob_prefix_end(dir, &n);
    *r = blob_first_in(c, op, dir, end, n, &f);
    return f.found;
}

int blob_not_there(struct blob_conn *c, struct op *op, const char *key)
{
    int r;
    if (dir_is_there(c, op, key, &r))
        return err_set(&op->err, EISDIR, "'%s' is a directory", key);
    return r < 0 ? r : err_set(&op->err, ENOENT, "'%s' is not there", key);
}

int blob_check_pre(struct op *op, const char *key, const struct precond *pre,
                   const struct blob_file *now)
{
    if (pre->if_absent && now->found)
        return err_set(&op->err, EEXIST, "'%s' exists already", key);
    if (pre->if_match && (!now->found || strcmp(now->attr.version, pre->if_match) != 0))
        return err_set(&op->err, ESTALE, "'%s' %s", key,
                       now->found ? "has changed" : "is not there any more");
    return 0;
}

int blob_unref(struct blob_conn *c, struct op *op, const struct blob_file *f, int64_t *ret_left)
{
    int64_t refs = 0;
    bool large = f->attr.size > PURGE_NOW_MAX;
    *ret_left = large ? f->content : 0;
    if (f->content == 0)
        return 0;
    int r = BLOB_RUN(c, op, SQL_CONTENT_UNREF, NULL, NULL, NULL, blob_i64(blob_now_ms()),
                     blob_i64(f->content));
    if (r == 0 && !large)
        r = BLOB_RUN(c, op, SQL_CONTENT_REFS, blob_int_row, &refs, NULL, blob_i64(f->content));
    if (r < 0 || large || refs > 0)
        return r;
    r = BLOB_RUN(c, op, SQL_CHUNKS_DELETE, NULL, NULL, NULL, blob_i64(f->content));
    if (r == 0)
        r = BLOB_RUN(c, op, SQL_PARTS_DELETE, NULL, NULL, NULL, blob_i64(f->content));
    if (r == 0)
        r = BLOB_RUN(c, op, SQL_CONTENT_DELETE, NULL, NULL, NULL, blob_i64(f->content));
    return r;
}

/* Another has made the same row between our look and our insert: the whole change is made again. */
static int met_another(struct op *op, const char *key, const struct precond *pre)
{
    if (pre->if_absent)
        return err_set(&op->err, EEXIST, "'%s' exists already", key);
    err_set(&op->err, EBUSY, "'%s' is being written by another", key);
    op->err.retry = ERR_RETRY_SAFE;
    return -EBUSY;
}

int blob_publish(struct blob_conn *c, struct op *op, const char *key, const struct precond *pre,
                 const struct attr *a, int64_t content, int64_t *ret_left)
{
    CLEANUP_BLOB_FILE struct blob_file now = BLOB_FILE_INIT;
    int64_t changes = 0;
    int r = blob_find(c, op, key, true, &now);
    if (r == 0)
        r = blob_check_pre(op, key, pre, &now);
    if (r == 0 && now.found) {
        r = blob_update(c, op, key, a, content);
    } else if (r == 0) {
        r = blob_insert(c, op, key, a, content);
        if (r == -EEXIST)
            r = met_another(op, key, pre);
    }
    if (r == 0)
        r = BLOB_RUN(c, op, SQL_CONTENT_REF, NULL, NULL, &changes, blob_i64(content));
    if (r == 0 && changes != 1)
        r = err_set(&op->err, ESTALE,
                    "%s: what was uploaded is not there any more (upload_expiry passed)", key);
    if (r == 0 && now.found)
        r = blob_unref(c, op, &now, ret_left);
    return r;
}

int blob_confirm(struct blob *b, struct op *op, const char *path, const char *etag, int r)
{
    CLEANUP_BLOB_FILE struct blob_file f = BLOB_FILE_INIT;
    struct blob_conn *c = NULL;
    struct op look;
    if (r == 0 || op->err.retry != ERR_RETRY_UNKNOWN)
        return r;
    op_init(&look, op->name, 10000);
    int found = blob_get(b, &look, false, &c);
    if (found == 0) {
        found = blob_find(c, &look, path, false, &f);
        blob_give(c);
    }
    return found == 0 && f.found && strcmp(f.attr.version, etag) == 0 ? 0 : r;
}

/* ---- put ---- */

struct putting {
    const struct put_req *req;
    struct attr attr;
    int64_t content, left;
    const void *data; /* a small one; NULL: it is staged */
};

static int insert_small(struct blob_conn *c, struct op *op, struct putting *p)
{
    uint64_t size = p->req->src->size;
    int r = BLOB_RUN(c, op, SQL_CONTENT_NEW, NULL, NULL, NULL, blob_i64(p->content), blob_i64(0),
                     blob_i64(0), blob_path(p->req->key), blob_text("{}"), blob_i64(blob_now_ms()));
    if (r == 0)
        r = BLOB_RUN(c, op, SQL_PART_NEW, NULL, NULL, NULL, blob_i64(p->content), blob_i64(1),
                     blob_i64(0), blob_i64((int64_t)size), blob_text(""));
    if (r == 0 && size > 0)
        r = BLOB_RUN(c, op, SQL_CHUNK_NEW, NULL, NULL, NULL, blob_i64(p->content), blob_i64(1),
                     blob_i64(0), blob_bytes(p->data, (size_t)size));
    if (r == -EEXIST) {
        r = err_set(&op->err, EBUSY, "%s: two contents got one number", p->req->key);
        op->err.retry = ERR_RETRY_SAFE;
    }
    return r;
}

static int put_change(struct blob_conn *c, struct op *op, void *arg)
{
    struct putting *p = arg;
    int r = p->data ? insert_small(c, op, p) : 0;
    return r < 0 ? r
                 : blob_publish(c, op, p->req->key, &p->req->precond, &p->attr, p->content, &p->left);
}

/* Gets the bytes to where the change finds them: into memory, or staged. */
static int put_gather(struct blob *b, struct op *op, struct putting *p, char **ret_data)
{
    const struct source *src = p->req->src;
    if (src->size > BLOB_CHUNK) {
        int r = blob_stage_begin(b, op, p->req->key, &p->attr, &p->content);
        return r < 0 ? r : blob_stage(b, op, p->content, 1, src, NULL);
    }
    *ret_data = xmalloc((size_t)src->size + 1);
    p->content = blob_new_id();
    p->data = *ret_data;
    int r = src->size ? src->read_at(src, 0, *ret_data, (size_t)src->size) : 0;
    return r < 0 ? err_set(&op->err, -r, "reading the data to store: %s", strerror(-r)) : 0;
}

int blob_put(struct store *s, struct op *op, const struct put_req *req, struct attr *ret)
{
    struct blob *b = blob_of(s);
    CLEANUP_FREE char *data = NULL;
    struct putting p = {.req = req};
    blob_new_attr(&p.attr, req->attr, req->attr->kind == ATTR_SYMLINK ? ATTR_SYMLINK : ATTR_FILE);
    p.attr.size = req->src->size;
    blob_new_version(&p.attr);
    int r = put_gather(b, op, &p, &data);
    if (r == 0)
        r = blob_confirm(b, op, req->key, p.attr.version, blob_change(b, op, put_change, &p));
    if (r == 0) {
        p.attr.known |= ATTR_META;
        attr_move(ret, &p.attr);
        blob_purge(b, p.left);
    } else if (!p.data && p.content && op->err.retry != ERR_RETRY_UNKNOWN) {
        blob_drop_staged(b, p.content);
    }
    attr_done(&p.attr);
    return r;
}

/* ---- remove ---- */

struct removing {
    const char *const *keys;
    size_t n;
    const char *if_match;
    struct remove_result *results; /* NULL: one key, whose failure is the change's */
    int64_t *left;                 /* contents to be purged, of each key */
};

static int remove_one(struct blob_conn *c, struct op *op, const char *key, const char *if_match,
                      int64_t *left)
{
    CLEANUP_BLOB_FILE struct blob_file f = BLOB_FILE_INIT;
    struct precond pre = {.if_match = if_match};
    int r = path_is_unnamed(key) ? 0 : blob_find(c, op, key, true, &f);
    if (r == 0 && !f.found)
        return blob_not_there(c, op, key);
    if (r == 0)
        r = blob_check_pre(op, key, &pre, &f);
    if (r == 0)
        r = BLOB_RUN(c, op, SQL_DELETE, NULL, NULL, NULL, blob_path(key));
    if (r == 0)
        r = blob_unref(c, op, &f, left);
    return r;
}

static int remove_change(struct blob_conn *c, struct op *op, void *arg)
{
    struct removing *m = arg;
    for (size_t i = 0; i < m->n; i++) {
        int r = remove_one(c, op, m->keys[i], m->if_match, &m->left[i]);
        bool answer = r == 0 || r == -ENOENT || r == -EISDIR;
        if (!m->results || !answer) {
            if (r < 0)
                return r;
            continue;
        }
        m->results[i].code = -r;
        err_clear(&op->err);
    }
    return 0;
}

static int remove_all(struct blob *b, struct op *op, struct removing *m)
{
    m->left = xcalloc(m->n, sizeof(*m->left));
    int r = blob_change(b, op, remove_change, m);
    for (size_t i = 0; i < m->n && r == 0; i++)
        blob_purge(b, m->left[i]);
    free(m->left);
    return r;
}

int blob_remove(struct store *s, struct op *op, const char *key, const char *if_match)
{
    struct removing m = {.keys = &key, .n = 1, .if_match = if_match};
    return remove_all(blob_of(s), op, &m);
}

int blob_remove_many(struct store *s, struct op *op, const char *const *keys, size_t n,
                     struct remove_result *results)
{
    struct removing m = {.keys = keys, .n = n, .results = results};
    return remove_all(blob_of(s), op, &m);
}

/* ---- directories ---- */

struct dir_change {
    const char *key;
    const struct attr *attr;
};

static int make_dir_change(struct blob_conn *c, struct op *op, void *arg)
{
    const struct dir_change *d = arg;
    CLEANUP_BLOB_FILE struct blob_file object = BLOB_FILE_INIT;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    CLEANUP_FREE char *dir = path_dir_prefix(d->key);
    blob_new_attr(&a, d->attr, ATTR_DIR);
    a.size = 0;
    int r = path_is_unnamed(d->key) ? 0 : blob_find(c, op, d->key, true, &object);
    if (r == 0 && object.found)
        r = -EEXIST;
    if (r == 0)
        r = blob_insert(c, op, dir, &a, 0);
    return r == -EEXIST ? err_set(&op->err, EEXIST, "'%s' exists already", d->key) : r;
}

int blob_make_dir(struct store *s, struct op *op, const char *key, const struct attr *attr)
{
    struct dir_change d = {.key = key, .attr = attr};
    return blob_change(blob_of(s), op, make_dir_change, &d);
}

/* Is anything below the directory, but its own marker? Gives that. */
static int below(struct blob_conn *c, struct op *op, const char *dir, struct blob_file *ret)
{
    CLEANUP_FREE char *first = xasprintf("%s\x01", dir);
    size_t n;
    CLEANUP_FREE char *end = blob_prefix_end(dir, &n);
    return blob_first_in(c, op, first, end, n, ret); /* keys have no NUL: \1 is the smallest byte */
}

static int remove_dir_change(struct blob_conn *c, struct op *op, void *arg)
{
    const struct dir_change *d = arg;
    CLEANUP_BLOB_FILE struct blob_file own = BLOB_FILE_INIT, child = BLOB_FILE_INIT, object = BLOB_FILE_INIT;
    CLEANUP_FREE char *dir = path_dir_prefix(d->key);
    int r = blob_find(c, op, dir, true, &own);
    if (r == 0)
        r = below(c, op, dir, &child);
    if (r == 0 && child.found)
        return err_set(&op->err, ENOTEMPTY, "'%s' is not empty", d->key);
    if (r == 0 && !own.found && !path_is_unnamed(d->key))
        r = blob_find(c, op, d->key, false, &object);
    if (r == 0 && object.found)
        return err_set(&op->err, ENOTDIR, "'%s' is not a directory", d->key);
    if (r == 0 && !own.found)
        return err_set(&op->err, ENOENT, "'%s' is not there", d->key);
    return r < 0 ? r : BLOB_RUN(c, op, SQL_DELETE, NULL, NULL, NULL, blob_path(dir));
}

int blob_remove_dir(struct store *s, struct op *op, const char *key)
{
    struct dir_change d = {.key = key};
    return blob_change(blob_of(s), op, remove_dir_change, &d);
}

/* ---- metadata ---- */

struct meta_change {
    const char *key, *if_match;
    const struct attr *change;
    struct attr *ret;
};

/* The row that the key means: an object's own, or a directory's; of an implied directory a new one. */
static int meta_row(struct blob_conn *c, struct op *op, const char *key, struct blob_file *ret)
{
    int r = path_is_unnamed(key) ? 0 : blob_find(c, op, key, true, ret);
    if (r < 0 || ret->found)
        return r;
    if (key[0] == '\0')
        return err_set(&op->err, ENOTSUP, "the root directory has no metadata here");
    CLEANUP_FREE char *dir = path_dir_prefix(key);
    r = blob_find(c, op, dir, true, ret);
    if (r < 0 || ret->found)
        return r;
    if (!dir_is_there(c, op, key, &r))
        return r < 0 ? r : err_set(&op->err, ENOENT, "'%s' is not there", key);
    struct attr a = {.kind = ATTR_DIR};
    r = blob_insert(c, op, dir, &a, 0);
    if (r == -EEXIST)
        return met_another(op, key, &(struct precond){0});
    return r < 0 ? r : blob_find(c, op, dir, true, ret);
}

static int meta_do(struct blob_conn *c, struct op *op, void *arg)
{
    struct meta_change *m = arg;
    CLEANUP_BLOB_FILE struct blob_file f = BLOB_FILE_INIT;
    struct precond pre = {.if_match = m->if_match};
    int r = meta_row(c, op, m->key, &f);
    if (r == 0)
        r = blob_check_pre(op, m->key, &pre, &f);
    if (r < 0)
        return r;
    f.attr.known &= ~(unsigned)ATTR_META;
    attr_apply(&f.attr, m->change);
    r = blob_update(c, op, f.path, &f.attr, f.content);
    f.attr.known |= ATTR_META;
    attr_done(m->ret);
    attr_move(m->ret, &f.attr);
    return r;
}

/* The content, and so the version, stays. */
int blob_set_meta(struct store *s, struct op *op, const char *key, const char *if_match,
                  const struct attr *change, struct attr *ret)
{
    CLEANUP_ATTR struct attr got = ATTR_INIT;
    struct meta_change m = {.key = key, .if_match = if_match, .change = change, .ret = &got};
    int r = blob_change(blob_of(s), op, meta_do, &m);
    if (r == 0)
        attr_move(ret, &got);
    return r;
}

/* SPDX-License-Identifier: MIT
 * blob_read.c: looking at a store of BLOBs: stat, read, list. No transaction: each is one statement, or
 * (a listing) statements that may see different moments, as the pages of a listing may anyway. */
#include "backends/blob/blob_int.h"

#include "base/name.h"

#include <errno.h>
#include <string.h>

#define PAGE_SIZE_DEFAULT 1000
#define BATCH_MIN 64 /* rows asked for at once: a level with large directories below it skips most of them */

/* ---- stat ---- */

struct looked {
    const char *key;
    struct blob_file object, below; /* the first of what is below the key as a directory */
};

static int stat_row(void *arg, struct op *op, const struct blob_value *row)
{
    struct looked *l = arg;
    bool exact = row[0].n == strlen(l->key) && memcmp(row[0].p, l->key, row[0].n) == 0;
    return blob_file_take(op, row, exact ? &l->object : &l->below);
}

/* The attributes of a directory whose first row is `below` (not found: it is not there). */
static int dir_attr(struct op *op, const char *key, const char *prefix, struct blob_file *below,
                    struct attr *ret)
{
    if (key[0] != '\0' && !below->found)
        return err_set(&op->err, ENOENT, "'%s' is not there", key);
    if (below->found && strcmp(below->path, prefix) == 0)
        attr_move(ret, &below->attr);
    else
        *ret = (struct attr){.kind = ATTR_DIR, .known = ATTR_META};
    return 0;
}

int blob_stat(struct store *s, struct op *op, const char *key, struct attr *ret)
{
    struct looked l = {.key = key};
    struct blob_conn *c = NULL;
    size_t end_len;
    CLEANUP_FREE char *prefix = path_dir_prefix(key), *end = blob_prefix_end(prefix, &end_len);
    int r = blob_get(blob_of(s), op, false, &c);
    if (r < 0)
        return r;
    r = BLOB_RUN(c, op, SQL_STAT, stat_row, &l, NULL, blob_path(key), blob_path(prefix),
                 blob_bytes(end, end_len));
    blob_give(c);
    if (r == 0 && path_is_unnamed(key) && l.object.found) { /* a marker, no object; of "/" its own */
        if (path_is_slashes(key)) {
            blob_file_done(&l.below);
            l.below = l.object;
            l.object = BLOB_FILE_INIT;
        }
        blob_file_done(&l.object);
    }
    if (r == 0 && l.object.found)
        attr_move(ret, &l.object.attr);
    else if (r == 0)
        r = dir_attr(op, key, prefix, &l.below, ret);
    blob_file_done(&l.object);
    blob_file_done(&l.below);
    return r;
}

/* ---- read ---- */

struct reading {
    const struct read_req *req;
    struct blob_file file;
    size_t want, got, so_far; /* bytes: asked for and there, placed, without a gap from the beginning */
};

/* What the row of the file itself says, once. */
static int read_begin(struct reading *rd, struct op *op, const struct blob_value *row)
{
    const struct read_req *req = rd->req;
    int r = blob_file_take(op, row, &rd->file);
    if (r < 0)
        return r;
    const struct attr *a = &rd->file.attr;
    if (req->version && req->version[0] && strcmp(req->version, a->version) != 0)
        return err_set(&op->err, ESTALE, "'%s' has changed", req->key);
    if (req->offset < a->size) {
        uint64_t left = a->size - req->offset;
        rd->want = left < req->iov.iov_len ? (size_t)left : req->iov.iov_len;
    }
    return 0;
}

/* The rows are those of the chunks in any order (a sort would be one of payload), mostly in the right one. */
static int read_row(void *arg, struct op *op, const struct blob_value *row)
{
    struct reading *rd = arg;
    const struct read_req *req = rd->req;
    int r = rd->file.found ? op_check(op) : read_begin(rd, op, row);
    if (r < 0 || row[6].type == BLOB_NULL || rd->want == 0)
        return r;
    uint64_t at = (uint64_t)row[6].i, first = at > req->offset ? at : req->offset;
    if (first - req->offset > rd->want || row[7].n > rd->want - (first - req->offset))
        return err_set(&op->err, EIO, "%s: a chunk reaches beyond the end of the file", req->key);
    size_t to = (size_t)(first - req->offset);
    memcpy((char *)req->iov.iov_base + to, row[7].p, row[7].n);
    rd->got += row[7].n;
    if (to != rd->so_far)
        return 0;
    rd->so_far += row[7].n;
    if (req->on_data && row[7].n && req->on_data(req->on_data_arg, rd->so_far) != 0)
        return err_set(&op->err, EINTR, "read %s: stopped by the reader", req->key);
    return 0;
}

static int read_finish(struct blob_conn *c, struct op *op, struct reading *rd)
{
    const struct read_req *req = rd->req;
    if (!rd->file.found && req->version && req->version[0])
        return err_set(&op->err, ESTALE, "'%s' is not there any more", req->key);
    if (!rd->file.found)
        return blob_not_there(c, op, req->key);
    if (rd->got != rd->want)
        return err_set(&op->err, EIO, "%s: %zu of %zu bytes are in the table: chunks are missing",
                       req->key, rd->got, rd->want);
    if (rd->so_far != rd->want && req->on_data && req->on_data(req->on_data_arg, rd->want) != 0)
        return err_set(&op->err, EINTR, "read %s: stopped by the reader", req->key);
    return 0;
}

int blob_read(struct store *s, struct op *op, const struct read_req *req, struct read_res *ret)
{
    struct reading rd = {.req = req};
    struct blob_conn *c = NULL;
    int64_t off = (int64_t)req->offset, end = off + (int64_t)req->iov.iov_len;
    int r = blob_get(blob_of(s), op, false, &c);
    if (r < 0)
        return r;
    r = BLOB_RUN(c, op, SQL_READ, read_row, &rd, NULL, blob_i64(off), blob_i64(end), blob_i64(off),
                 blob_i64(end), blob_i64(off - (int64_t)BLOB_PART_MAX), blob_i64(off), blob_i64(end),
                 blob_i64(off - (int64_t)BLOB_CHUNK), blob_path(req->key));
    if (r == 0)
        r = read_finish(c, op, &rd);
    blob_give(c);
    if (r == 0) {
        attr_move(&ret->attr, &rd.file.attr);
        ret->length = rd.want;
    }
    blob_file_done(&rd.file);
    return r;
}

/* ---- list ---- */

struct listing {
    const struct list_query *q;
    struct list_page *page;
    unsigned max;
    struct buf from; /* where to go on: the smallest path that may come next */
    char *last;      /* the last entry as it sorts, for the cursor */
    size_t rows;     /* of this statement */
    bool more;       /* the page is full, and there is another entry */
};

/* The path behind all that begin with `prefix`, or (whole = false) behind it alone. */
static void go_behind(struct listing *l, const char *path, bool whole)
{
    buf_reset(&l->from);
    if (whole) {
        size_t n;
        CLEANUP_FREE char *end = blob_prefix_end(path, &n);
        buf_add(&l->from, end, n);
        return;
    }
    buf_add(&l->from, path, strlen(path) + 1); /* with its NUL: the next that can be */
}

static void add_entry(struct listing *l, struct blob_file *f, const char *sorts_as)
{
    bool dir = sorts_as[strlen(sorts_as) - 1] == '/', own = strcmp(f->path, sorts_as) == 0;
    CLEANUP_FREE char *key = dir ? path_of_prefix(sorts_as) : xstrdup(f->path);
    struct list_entry *e = list_page_add(l->page, key);
    if (own)
        attr_move(&e->attr, &f->attr);
    else
        e->attr = (struct attr){.kind = ATTR_DIR, .known = ATTR_META};
    free(l->last);
    l->last = xstrdup(sorts_as);
}

static bool sorts_before(const void *path, size_t n, const struct buf *b)
{
    int way = b->len ? memcmp(path, b->data, n < b->len ? n : b->len) : 0;
    return way < 0 || (way == 0 && n < b->len);
}

static int list_row(void *arg, struct op *op, const struct blob_value *row)
{
    struct listing *l = arg;
    CLEANUP_BLOB_FILE struct blob_file f = BLOB_FILE_INIT;
    l->rows++;
    if (sorts_before(row[0].p, row[0].n, &l->from))
        return 0; /* below a directory that is an entry already */
    int r = blob_file_take(op, row, &f);
    if (r < 0)
        return r;
    size_t prefix_len = strlen(l->q->prefix);
    if (prefix_len && strcmp(f.path, l->q->prefix) == 0 && path_is_unnamed(f.path)) {
        if (l->page->dir_exists)
            attr_move(&l->page->dir_attr, &f.attr); /* the listed directory itself */
        go_behind(l, f.path, false);
        return 0;
    }
    if (l->page->count == l->max) {
        l->more = true;
        return 0;
    }
    const char *slash = l->q->recursive ? NULL : strchr(f.path + prefix_len, '/');
    CLEANUP_FREE char *as = slash ? xstrndup(f.path, (size_t)(slash + 1 - f.path)) : xstrdup(f.path);
    add_entry(l, &f, as);
    go_behind(l, as, slash != NULL);
    return 0;
}

/* Where the listing begins: behind the cursor (an entry as it sorts), behind `after`, or at the prefix. */
static void start(struct listing *l)
{
    const struct list_query *q = l->q;
    const char *behind = q->cursor ? q->cursor : q->after;
    if (!behind || strcmp(behind, q->prefix) < 0)
        buf_adds(&l->from, q->prefix);
    else
        go_behind(l, behind, !q->recursive && path_is_unnamed(behind));
}

/* Is there a marker of the listed directory? A listing that starts at its beginning meets it. */
static void own_marker(struct listing *l)
{
    const struct list_query *q = l->q;
    l->page->dir_exists = !q->cursor && !q->after && (q->prefix[0] == '\0' || path_is_unnamed(q->prefix));
}

static int list_batches(struct blob_conn *c, struct op *op, struct listing *l)
{
    size_t end_len;
    CLEANUP_FREE char *end = blob_prefix_end(l->q->prefix, &end_len);
    CLEANUP_BUF struct buf from = BUF_INIT;
    size_t batch = l->q->recursive || l->max < BATCH_MIN ? l->max + 2 : BATCH_MIN;
    for (;;) {
        size_t before = l->page->count;
        l->rows = 0;
        buf_reset(&from);
        buf_add(&from, l->from.data, l->from.len);
        int r = BLOB_RUN(c, op, SQL_LIST, list_row, l, NULL, blob_bytes(from.data, from.len),
                         blob_bytes(end, end_len), blob_i64((int64_t)batch));
        if (r < 0 || l->rows < batch || l->more)
            return r;
        /* Mostly entries of this level: larger batches. Mostly what is below them: smaller ones. */
        batch = (l->page->count - before) * 2 > batch ? batch * 4 : BATCH_MIN;
        if (batch > (size_t)l->max + 2)
            batch = (size_t)l->max + 2;
    }
}

int blob_list(struct store *s, struct op *op, const struct list_query *q, struct list_page *ret)
{
    struct list_page page = LIST_PAGE_INIT;
    struct listing l = {.q = q, .page = &page, .max = q->max ? q->max : PAGE_SIZE_DEFAULT};
    struct blob_conn *c = NULL;
    int r = blob_get(blob_of(s), op, false, &c);
    if (r < 0)
        return r;
    start(&l);
    own_marker(&l);
    r = list_batches(c, op, &l);
    blob_give(c);
    if (page.dir_exists && q->prefix[0] != '\0' && page.dir_attr.kind == ATTR_UNSET)
        page.dir_exists = false;
    if (r == 0 && l.more)
        page.cursor = take_ptr(&l.last);
    if (r == 0)
        *ret = page;
    else
        list_page_done(&page);
    free(l.last);
    buf_done(&l.from);
    return r;
}

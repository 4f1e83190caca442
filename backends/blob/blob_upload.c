/* SPDX-License-Identifier: MIT
 * blob_upload.c: what is staged: parts of multipart uploads, and whole objects of more than one chunk; and the
 * removal of contents that nobody has.
 *
 * A chunk is one statement and one commit: no lock is held while the next is read from the source. A part that is
 * sent again first removes its chunks. Finishing gives the parts their places and publishes the content, in one
 * transaction that moves no payload. Ids of uploads are numbers of contents. */
#include "backends/blob/blob_int.h"

#include "base/clock.h"
#include "base/crypto.h"

#include <errno.h>
#include <string.h>

#define DEAD_AFTER_MS 60000 /* contents without a reference wait so long for whoever removed that */
#define CLEAN_MS 30000      /* deadline of removing one */
#define SWEEP_MAX 100

/* Nothing is published yet: whatever became of a statement, all may be done again. */
static int harmless(struct op *op, int r)
{
    if (r < 0 && op->err.retry == ERR_RETRY_UNKNOWN)
        op->err.retry = ERR_RETRY_SAFE;
    return r;
}

static int no_upload(struct op *op, const char *key, const char *id)
{
    return err_set(&op->err, ENOENT, "%s: there is no upload '%s'", key, id);
}

static bool parse_id(const char *id, int64_t *ret)
{
    return parse_int(id, ret) && *ret > 0;
}

int blob_stage_begin(struct blob *b, struct op *op, const char *key, const struct attr *attr,
                     int64_t *ret_content)
{
    CLEANUP_FREE char *meta = attr_to_json(attr);
    int64_t id = blob_new_id();
    int r = BLOB_ALONE(b, op, SQL_CONTENT_NEW, NULL, blob_i64(id), blob_i64(0), blob_i64(0),
                       blob_path(key), blob_text(meta), blob_i64(blob_now_ms()));
    if (r == -EEXIST) {
        r = err_set(&op->err, EBUSY, "%s: two contents got one number", key);
        op->err.retry = ERR_RETRY_SAFE;
    }
    if (r == 0)
        *ret_content = id;
    return harmless(op, r);
}

struct part_begin {
    int64_t content;
    unsigned number;
    uint64_t size;
};

/* The part's row, and none of its chunks. */
static int part_begin(struct blob_conn *c, struct op *op, void *arg)
{
    const struct part_begin *p = arg;
    int r = BLOB_RUN(c, op, SQL_CHUNKS_DELETE_FROM, NULL, NULL, NULL, blob_i64(p->content),
                     blob_i64(p->number), blob_i64(0));
    if (r == 0)
        r = BLOB_RUN(c, op, SQL_PART_DELETE, NULL, NULL, NULL, blob_i64(p->content),
                     blob_i64(p->number));
    if (r == 0)
        r = BLOB_RUN(c, op, SQL_PART_NEW, NULL, NULL, NULL, blob_i64(p->content),
                     blob_i64(p->number), blob_i64(0), blob_i64((int64_t)p->size), blob_text(""));
    return r;
}

int blob_stage(struct blob *b, struct op *op, int64_t content, unsigned number,
               const struct source *src, char etag[ATTR_VERSION_MAX])
{
    struct part_begin p = {.content = content, .number = number, .size = src->size};
    CLEANUP_FREE char *data = malloc(BLOB_CHUNK);
    char text[ATTR_VERSION_MAX];
    uint32_t crc = 0;
    if (!data)
        return err_set(&op->err, ENOMEM, "no memory for a chunk of %llu bytes",
                       (unsigned long long)BLOB_CHUNK);
    int r = blob_change(b, op, part_begin, &p);
    for (uint64_t off = 0; off < src->size && r == 0; off += BLOB_CHUNK) {
        size_t n = src->size - off < BLOB_CHUNK ? (size_t)(src->size - off) : (size_t)BLOB_CHUNK;
        r = op_check(op);
        int bad = r == 0 ? src->read_at(src, off, data, n) : 0;
        if (bad < 0)
            r = err_set(&op->err, -bad, "reading the data to store: %s", strerror(-bad));
        if (r == 0)
            r = BLOB_ALONE(b, op, SQL_CHUNK_NEW, NULL, blob_i64(content), blob_i64(number),
                           blob_i64((int64_t)off), blob_bytes(data, n));
        crc = crc32c(crc, data, n);
    }
    snprintf(text, sizeof(text), "%08x-%llx", crc, (unsigned long long)src->size);
    if (r == 0)
        r = BLOB_ALONE(b, op, SQL_PART_SET, NULL, blob_i64((int64_t)src->size), blob_text(text),
                       blob_i64(content), blob_i64(number));
    if (r == 0 && etag)
        memcpy(etag, text, sizeof(text));
    return harmless(op, r);
}

/* ---- uploads ---- */

int blob_upload_begin(struct store *s, struct op *op, const struct upload_req *req, char **ret_id)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int64_t content = 0;
    blob_new_attr(&a, req->attr, req->attr->kind == ATTR_SYMLINK ? ATTR_SYMLINK : ATTR_FILE);
    int r = blob_stage_begin(blob_of(s), op, req->key, &a, &content);
    if (r == 0)
        *ret_id = xasprintf("%lld", (long long)content);
    return r;
}

int blob_upload_part(struct store *s, struct op *op, const char *key, const char *id,
                     const struct source *src, struct store_part *part)
{
    struct blob *b = blob_of(s);
    int64_t content = 0, changes = 0;
    char etag[ATTR_VERSION_MAX];
    if (!parse_id(id, &content))
        return no_upload(op, key, id);
    int r = BLOB_ALONE(b, op, SQL_CONTENT_TOUCH, &changes, blob_i64(blob_now_ms()), blob_i64(content),
                       blob_path(key));
    if (r == 0 && changes != 1)
        return no_upload(op, key, id);
    if (r == 0)
        r = blob_stage(b, op, content, part->number, src, etag);
    if (r == 0)
        memcpy(part->etag, etag, sizeof(etag));
    return harmless(op, r);
}

struct finishing {
    const char *key, *id;
    const struct store_part *parts;
    size_t n;
    const struct precond *pre;
    int64_t content, left;
    struct attr attr;
    bool has_attr;
    size_t at;             /* the next of parts to be met */
    unsigned *extra;       /* numbers that are staged and not wanted */
    size_t n_extra;
};

static int meta_row(void *arg, struct op *op, const struct blob_value *row)
{
    struct finishing *f = arg;
    CLEANUP_FREE char *meta = xstrndup(row[0].p, row[0].n);
    attr_done(&f->attr);
    f->attr = ATTR_INIT;
    f->has_attr = attr_from_json(meta, &f->attr);
    return f->has_attr ? 0 : err_set(&op->err, EIO, "%s: the row of its upload makes no sense", f->key);
}

/* Rows and wanted parts are both in order of their numbers. */
static int part_row(void *arg, struct op *op, const struct blob_value *row)
{
    struct finishing *f = arg;
    const struct store_part *p = f->at < f->n ? &f->parts[f->at] : NULL;
    if (!p || row[0].i < (int64_t)p->number) {
        f->extra = xrealloc(f->extra, (f->n_extra + 1) * sizeof(*f->extra));
        f->extra[f->n_extra++] = (unsigned)row[0].i;
        return 0;
    }
    if (row[0].i != (int64_t)p->number || row[2].i != (int64_t)p->size ||
        row[3].n != strlen(p->etag) || memcmp(row[3].p, p->etag, row[3].n) != 0)
        return err_set(&op->err, EINVAL, "%s: part %u is not the one that was uploaded", f->key,
                       p->number);
    f->at++;
    return 0;
}

static int place_parts(struct blob_conn *c, struct op *op, struct finishing *f)
{
    uint64_t start = 0;
    int r = 0;
    for (size_t i = 0; i < f->n_extra && r == 0; i++) {
        r = BLOB_RUN(c, op, SQL_CHUNKS_DELETE_FROM, NULL, NULL, NULL, blob_i64(f->content),
                     blob_i64(f->extra[i]), blob_i64(0));
        if (r == 0)
            r = BLOB_RUN(c, op, SQL_PART_DELETE, NULL, NULL, NULL, blob_i64(f->content),
                         blob_i64(f->extra[i]));
    }
    for (size_t i = 0; i < f->n && r == 0; i++) {
        if (start > 0) /* they are staged with 0 */
            r = BLOB_RUN(c, op, SQL_PART_START, NULL, NULL, NULL, blob_i64((int64_t)start),
                         blob_i64(f->content), blob_i64(f->parts[i].number));
        start += f->parts[i].size;
    }
    f->attr.size = start;
    return r;
}

static int finish_change(struct blob_conn *c, struct op *op, void *arg)
{
    struct finishing *f = arg;
    f->has_attr = false;
    f->at = f->n_extra = 0;
    int r = BLOB_RUN(c, op, SQL_CONTENT_STAGED, meta_row, f, NULL, blob_i64(f->content),
                     blob_path(f->key));
    if (r == 0 && !f->has_attr)
        return no_upload(op, f->key, f->id);
    if (r == 0)
        r = BLOB_RUN(c, op, SQL_PARTS, part_row, f, NULL, blob_i64(f->content));
    if (r == 0 && f->at < f->n)
        r = err_set(&op->err, EINVAL, "%s: part %u was not uploaded", f->key, f->parts[f->at].number);
    if (r == 0)
        r = place_parts(c, op, f);
    if (r < 0)
        return r;
    if (!(f->attr.known & ATTR_HAS_MTIME))
        f->attr.mtime = clock_wall();
    blob_new_version(&f->attr);
    return blob_publish(c, op, f->key, f->pre, &f->attr, f->content, &f->left);
}

int blob_upload_finish(struct store *s, struct op *op, const char *key, const char *id,
                       const struct store_part *parts, size_t n, const struct precond *pre,
                       struct attr *ret)
{
    struct blob *b = blob_of(s);
    struct finishing f = {.key = key, .id = id, .parts = parts, .n = n, .pre = pre};
    if (!parse_id(id, &f.content))
        return no_upload(op, key, id);
    int r = blob_change(b, op, finish_change, &f);
    r = blob_confirm(b, op, key, f.attr.version, r);
    if (r == 0) {
        f.attr.known |= ATTR_META;
        attr_move(ret, &f.attr);
        blob_purge(b, f.left);
    }
    attr_done(&f.attr);
    free(f.extra);
    return r;
}

/* Gives up what is staged; *ret_changes 0: there was nothing. */
static int expire(struct blob *b, struct op *op, int64_t content, int64_t until_ms, int64_t *ret_changes)
{
    return BLOB_ALONE(b, op, SQL_CONTENT_EXPIRE, ret_changes, blob_i64(content), blob_i64(until_ms));
}

int blob_upload_abort(struct store *s, struct op *op, const char *key, const char *id)
{
    struct blob *b = blob_of(s);
    int64_t content = 0, changes = 0;
    if (!parse_id(id, &content))
        return no_upload(op, key, id);
    int r = expire(b, op, content, INT64_MAX, &changes);
    if (r == 0 && changes != 1)
        return no_upload(op, key, id);
    if (r == 0)
        blob_purge(b, content);
    return r;
}

/* ---- removing what nobody has ---- */

struct numbers {
    int64_t v[SWEEP_MAX];
    size_t n;
};

static int number_row(void *arg, struct op *op, const struct blob_value *row)
{
    (void)op;
    struct numbers *l = arg;
    if (l->n < SWEEP_MAX)
        l->v[l->n++] = row[0].i;
    return 0;
}

/* Part by part, each a change of its own, the last of which takes the content's row too: no long locks. */
static int purge_some(struct blob *b, struct op *op, int64_t content, bool *ret_more)
{
    struct numbers parts = {.n = 0};
    struct blob_conn *c = NULL;
    int r = blob_get(b, op, false, &c);
    if (r < 0)
        return r;
    r = BLOB_RUN(c, op, SQL_PARTS, number_row, &parts, NULL, blob_i64(content));
    blob_give(c);
    for (size_t i = 0; i < parts.n && r == 0; i++) {
        r = BLOB_ALONE(b, op, SQL_CHUNKS_DELETE_FROM, NULL, blob_i64(content), blob_i64(parts.v[i]),
                       blob_i64(0));
        if (r == 0)
            r = BLOB_ALONE(b, op, SQL_PART_DELETE, NULL, blob_i64(content), blob_i64(parts.v[i]));
    }
    *ret_more = parts.n > 0;
    if (r == 0 && parts.n == 0)
        r = BLOB_ALONE(b, op, SQL_CONTENT_DELETE, NULL, blob_i64(content));
    return r;
}

void blob_purge(struct blob *b, int64_t content)
{
    struct blob_conn *c = NULL;
    struct op op;
    int64_t refs = 1;
    bool more = true;
    if (content == 0)
        return;
    op_init(&op, "purge", CLEAN_MS);
    int r = blob_get(b, &op, false, &c);
    if (r == 0) {
        r = BLOB_RUN(c, &op, SQL_CONTENT_REFS, blob_int_row, &refs, NULL, blob_i64(content));
        blob_give(c);
    }
    while (r == 0 && refs <= 0 && more)
        r = purge_some(b, &op, content, &more);
}

void blob_drop_staged(struct blob *b, int64_t content)
{
    struct op op;
    int64_t changes = 0;
    op_init(&op, "drop", CLEAN_MS);
    if (expire(b, &op, content, INT64_MAX, &changes) == 0 && changes == 1)
        blob_purge(b, content);
}

void blob_sweep(struct blob *b)
{
    struct numbers dead = {.n = 0};
    struct blob_conn *c = NULL;
    struct op op;
    int64_t now = blob_now_ms(), changes = 0;
    int64_t dead_ms = now - DEAD_AFTER_MS, old_ms = now - (int64_t)b->expiry_ms;
    op_init(&op, "sweep", CLEAN_MS);
    int r = blob_get(b, &op, false, &c);
    if (r < 0)
        return;
    r = BLOB_RUN(c, &op, SQL_CONTENT_SWEEP, number_row, &dead, NULL, blob_i64(dead_ms), blob_i64(old_ms));
    blob_give(c);
    for (size_t i = 0; i < dead.n && r == 0; i++) {
        r = expire(b, &op, dead.v[i], dead_ms, &changes); /* not if a part has come meanwhile */
        if (r == 0 && changes == 1)
            blob_purge(b, dead.v[i]);
    }
}

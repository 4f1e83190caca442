/* SPDX-License-Identifier: MIT
 * blob_patch.c: ranges of an object written in place, in one transaction: the chunks that change, the sizes, the new
 * version. A content that several objects have (copies) is cloned first, within the database. */
#include "backends/blob/blob_int.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>

struct part {
    int64_t number, start, size;
};

struct patching {
    const struct patch_req *req;
    struct attr attr;
    int64_t content, left;
    uint64_t old_size;
    struct part *parts;
    size_t n_parts;
    char *chunk; /* BLOB_CHUNK bytes */
};

static int part_row(void *arg, struct op *op, const struct blob_value *row)
{
    (void)op;
    struct patching *p = arg;
    p->parts = xrealloc(p->parts, (p->n_parts + 1) * sizeof(*p->parts));
    p->parts[p->n_parts++] = (struct part){.number = row[0].i, .start = row[1].i, .size = row[2].i};
    return 0;
}

struct old_bytes {
    char *to;
    size_t n;
};

static int chunk_row(void *arg, struct op *op, const struct blob_value *row)
{
    (void)op;
    struct old_bytes *o = arg;
    o->n = row[0].n < BLOB_CHUNK ? row[0].n : (size_t)BLOB_CHUNK;
    memcpy(o->to, row[0].p, o->n);
    return 0;
}

/* ---- one chunk ---- */

/* Is anything within [from, to) new: a range, or beyond the old end? */
static bool touches(const struct patching *p, uint64_t from, uint64_t to)
{
    if (to > p->old_size)
        return true;
    for (size_t i = 0; i < p->req->n_ranges; i++) {
        const struct patch_range *g = &p->req->ranges[i];
        if (g->offset < to && g->offset + g->length > from)
            return true;
    }
    return false;
}

static int overlay(struct op *op, struct patching *p, uint64_t from, uint64_t to)
{
    const struct source *src = p->req->src;
    for (size_t i = 0; i < p->req->n_ranges; i++) {
        const struct patch_range *g = &p->req->ranges[i];
        uint64_t a = g->offset > from ? g->offset : from;
        uint64_t e = g->offset + g->length < to ? g->offset + g->length : to;
        if (a >= e)
            continue;
        int r = src->read_at(src, a, p->chunk + (a - from), (size_t)(e - a));
        if (r < 0)
            return err_set(&op->err, -r, "reading the data to store: %s", strerror(-r));
    }
    return 0;
}

static int write_chunk(struct blob_conn *c, struct op *op, struct patching *p, const struct part *t,
                       int64_t pos, size_t len)
{
    uint64_t from = (uint64_t)(t->start + pos);
    struct old_bytes old = {.to = p->chunk};
    int64_t changes = 0;
    int r = BLOB_RUN(c, op, SQL_CHUNK_GET, chunk_row, &old, NULL, blob_i64(p->content),
                     blob_i64(t->number), blob_i64(pos));
    if (r < 0)
        return r;
    if (old.n < len)
        memset(p->chunk + old.n, 0, len - old.n);
    r = overlay(op, p, from, from + len);
    if (r == 0)
        r = BLOB_RUN(c, op, SQL_CHUNK_SET, NULL, NULL, &changes, blob_bytes(p->chunk, len),
                     blob_i64(p->content), blob_i64(t->number), blob_i64(pos));
    if (r == 0 && changes == 0)
        r = BLOB_RUN(c, op, SQL_CHUNK_NEW, NULL, NULL, NULL, blob_i64(p->content),
                     blob_i64(t->number), blob_i64(pos), blob_bytes(p->chunk, len));
    return r;
}

static int write_chunks(struct blob_conn *c, struct op *op, struct patching *p)
{
    const int64_t chunk = (int64_t)BLOB_CHUNK;
    for (size_t i = 0; i < p->n_parts; i++) {
        const struct part *t = &p->parts[i];
        for (int64_t pos = 0; pos < t->size; pos += chunk) {
            int64_t len = t->size - pos < chunk ? t->size - pos : chunk;
            uint64_t from = (uint64_t)(t->start + pos);
            bool cut = pos + len == t->size && p->req->new_size < p->old_size && i + 1 == p->n_parts;
            if (!cut && !touches(p, from, from + (uint64_t)len))
                continue;
            int r = write_chunk(c, op, p, t, pos, (size_t)len);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

/* ---- sizes ---- */

static int set_part(struct blob_conn *c, struct op *op, const struct patching *p, const struct part *t)
{
    return BLOB_RUN(c, op, SQL_PART_SET, NULL, NULL, NULL, blob_i64(t->size), blob_text(""),
                    blob_i64(p->content), blob_i64(t->number));
}

/* What is beyond the new size goes; at least one part stays, maybe empty. */
static int shrink(struct blob_conn *c, struct op *op, struct patching *p, int64_t size)
{
    const int64_t chunk = (int64_t)BLOB_CHUNK;
    int r = 0;
    while (r == 0 && p->n_parts > 1 && p->parts[p->n_parts - 1].start >= size) {
        const struct part *t = &p->parts[--p->n_parts];
        r = BLOB_RUN(c, op, SQL_CHUNKS_DELETE_FROM, NULL, NULL, NULL, blob_i64(p->content),
                     blob_i64(t->number), blob_i64(0));
        if (r == 0)
            r = BLOB_RUN(c, op, SQL_PART_DELETE, NULL, NULL, NULL, blob_i64(p->content),
                         blob_i64(t->number));
    }
    struct part *last = &p->parts[p->n_parts - 1];
    if (r < 0 || last->start + last->size <= size)
        return r;
    last->size = size - last->start;
    int64_t keep = (last->size + chunk - 1) / chunk * chunk;
    r = BLOB_RUN(c, op, SQL_CHUNKS_DELETE_FROM, NULL, NULL, NULL, blob_i64(p->content),
                 blob_i64(last->number), blob_i64(keep));
    return r < 0 ? r : set_part(c, op, p, last);
}

/* The last part grows, up to what a part may have; then come new ones. Their chunks are written later. */
static int grow(struct blob_conn *c, struct op *op, struct patching *p, int64_t size)
{
    const int64_t most = (int64_t)BLOB_PART_MAX;
    struct part *last = &p->parts[p->n_parts - 1];
    int64_t end = last->start + last->size, room = most > last->size ? most - last->size : 0;
    int r = 0;
    if (end < size && room > 0) {
        last->size += size - end < room ? size - end : room;
        end = last->start + last->size;
        r = set_part(c, op, p, last);
    }
    while (r == 0 && end < size) {
        struct part t = {.number = p->parts[p->n_parts - 1].number + 1, .start = end};
        t.size = size - end < most ? size - end : most;
        r = BLOB_RUN(c, op, SQL_PART_NEW, NULL, NULL, NULL, blob_i64(p->content), blob_i64(t.number),
                     blob_i64(t.start), blob_i64(t.size), blob_text(""));
        p->parts = xrealloc(p->parts, (p->n_parts + 1) * sizeof(*p->parts));
        p->parts[p->n_parts++] = t;
        end += t.size;
    }
    return r;
}

/* ---- the change ---- */

/* A content of its own for this object, where others have it too. */
static int own_content(struct blob_conn *c, struct op *op, struct patching *p, const struct blob_file *f)
{
    int64_t refs = 0, mine = blob_new_id();
    int r = BLOB_RUN(c, op, SQL_CONTENT_REFS, blob_int_row, &refs, NULL, blob_i64(f->content));
    p->content = f->content;
    if (r < 0 || refs <= 1)
        return r;
    r = BLOB_RUN(c, op, SQL_CONTENT_NEW, NULL, NULL, NULL, blob_i64(mine), blob_i64(1), blob_i64(1),
                 blob_path(f->path), blob_text("{}"), blob_i64(blob_now_ms()));
    if (r == 0)
        r = BLOB_RUN(c, op, SQL_PARTS_CLONE, NULL, NULL, NULL, blob_i64(mine), blob_i64(f->content));
    if (r == 0)
        r = BLOB_RUN(c, op, SQL_CHUNKS_CLONE, NULL, NULL, NULL, blob_i64(mine), blob_i64(f->content));
    if (r == 0)
        r = blob_unref(c, op, f, &p->left);
    p->content = mine;
    return r;
}

static void patched_attr(struct patching *p, struct blob_file *f)
{
    attr_done(&p->attr);
    attr_move(&p->attr, &f->attr);
    p->attr.known &= ~(unsigned)(ATTR_HAS_MTIME | ATTR_META);
    p->attr.mtime = clock_wall();
    if (p->req->attr)
        attr_apply(&p->attr, p->req->attr);
    p->attr.size = p->req->new_size;
    blob_new_version(&p->attr);
}

static int patch_change(struct blob_conn *c, struct op *op, void *arg)
{
    struct patching *p = arg;
    CLEANUP_BLOB_FILE struct blob_file f = BLOB_FILE_INIT;
    struct precond pre = {.if_match = p->req->if_match};
    int r = blob_find(c, op, p->req->key, true, &f);
    if (r == 0 && !f.found && !pre.if_match)
        return blob_not_there(c, op, p->req->key);
    if (r == 0)
        r = blob_check_pre(op, p->req->key, &pre, &f);
    p->n_parts = 0;
    p->old_size = f.attr.size;
    if (r == 0)
        r = own_content(c, op, p, &f);
    if (r == 0)
        r = BLOB_RUN(c, op, SQL_PARTS, part_row, p, NULL, blob_i64(p->content));
    if (r == 0 && p->n_parts == 0)
        r = err_set(&op->err, EIO, "%s: the rows of its content are missing", p->req->key);
    if (r == 0)
        r = p->req->new_size < p->old_size ? shrink(c, op, p, (int64_t)p->req->new_size)
                                           : grow(c, op, p, (int64_t)p->req->new_size);
    if (r == 0)
        r = write_chunks(c, op, p);
    if (r < 0)
        return r;
    patched_attr(p, &f);
    return blob_update(c, op, p->req->key, &p->attr, p->content);
}

int blob_patch(struct store *s, struct op *op, const struct patch_req *req, struct attr *ret)
{
    struct blob *b = blob_of(s);
    struct patching p = {.req = req, .chunk = malloc(BLOB_CHUNK)};
    if (!p.chunk)
        return err_set(&op->err, ENOMEM, "no memory for a chunk of %llu bytes",
                       (unsigned long long)BLOB_CHUNK);
    int r = blob_change(b, op, patch_change, &p);
    r = blob_confirm(b, op, req->key, p.attr.version, r);
    if (r == 0) {
        p.attr.known |= ATTR_META;
        attr_move(ret, &p.attr);
        blob_purge(b, p.left);
    }
    attr_done(&p.attr);
    free(p.parts);
    free(p.chunk);
    return r;
}

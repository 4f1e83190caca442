/* SPDX-License-Identifier: MIT
 * transfer_batch.c: see transfer_file.h: rows are kept in memory until BATCH_BYTES or BATCH_ROWS of
 * them are there, and go under a savepoint. A refused batch is rolled back and loaded up to the row
 * that the server blamed and from there on, or in halves where it blamed none (a foreign key),
 * until single rows are proved bad. Where many rows are bad, loads become as small as the good
 * stretches between them.
 *
 * Invariant: rows point into `bytes`, which is only grown while it is empty. */
#include "loader/transfer_file.h"

#include "base/cleanup.h"

struct batch_row {
    struct cell *cells; /* in batch.cells */
    const char *raw;
    size_t raw_len;
    uint64_t line, offset;
};

struct batch {
    char *bytes;
    size_t used, cap;
    struct batch_row rows[BATCH_ROWS];
    struct cell *cells;  /* max_rows times the plan's columns */
    size_t n, max_rows;  /* fewer rows where they are wide, so that `cells` is bounded too */
    size_t step;         /* rows in one load: fewer while many are bad */
    size_t failed_first; /* try_rows: the row that the server blamed, or SIZE_MAX */
};

void batch_free(struct batch *b)
{
    if (!b)
        return;
    free(b->bytes);
    free(b->cells);
    free(b);
}

static const char *keep(struct batch *b, const char *p, size_t len)
{
    char *at = b->bytes + b->used;

    if (len)
        memcpy(at, p, len);
    b->used += len;
    return at;
}

static int make_room(struct file_load *f, size_t need)
{
    struct batch *b = f->batch;

    if (b->n == b->max_rows || (b->n && b->used + need > b->cap)) {
        int r = batch_flush(f);
        if (r != 0)
            return r;
    }
    if (need > b->cap) { /* one long row */
        free(b->bytes);
        b->cap = need;
        b->bytes = malloc(need);
        if (!b->bytes) {
            b->cap = 0;
            return err_set(&f->op->err, ENOMEM, "%s: no memory for a row of %zu bytes",
                           f->req->path, need);
        }
    }
    return 0;
}

int batch_add(struct file_load *f, const struct record *rec, const struct cell *cells)
{
    size_t need = rec->raw_len, n = f->plan.n;

    if (!f->batch) {
        f->batch = xcalloc(1, sizeof(*f->batch));
        f->batch->cap = BATCH_BYTES;
        f->batch->step = BATCH_ROWS;
        f->batch->bytes = xmalloc(BATCH_BYTES);
        f->batch->max_rows = BATCH_CELLS / n < BATCH_ROWS ? BATCH_CELLS / n + 1 : BATCH_ROWS;
        f->batch->cells = xcalloc(f->batch->max_rows * n, sizeof(struct cell));
    }
    for (size_t i = 0; i < n; i++)
        need += cells[i].len;
    int r = make_room(f, need);
    if (r != 0)
        return r;
    struct batch *b = f->batch;
    struct batch_row *row = &b->rows[b->n];
    *row = (struct batch_row){.cells = b->cells + b->n * n,
                              .line = rec->line,
                              .offset = rec->offset,
                              .raw_len = rec->raw_len};
    row->raw = keep(b, rec->raw, rec->raw_len);
    for (size_t i = 0; i < n; i++)
        row->cells[i] =
            (struct cell){cells[i].kind, keep(b, cells[i].data, cells[i].len), cells[i].len};
    b->n++;
    return 0;
}

/* Rows lo..hi-1 in one load; -EBADMSG: rolled back, failed_first set. */
static int try_rows(struct file_load *f, size_t lo, size_t hi)
{
    struct batch *b = f->batch;
    struct db_load spec = file_load_spec(f);
    uint64_t loaded = 0;
    int r = database_savepoint(f->db, f->op, "quay_batch");

    if (r < 0)
        return r;
    r = database_load_begin(f->db, f->op, &spec);
    for (size_t i = lo; r == 0 && i < hi; i++)
        r = database_load_row(f->db, f->op, b->rows[i].cells);
    if (r == 0)
        r = database_load_end(f->db, f->op, &loaded);
    if (r == 0) {
        file_count(f, 0, loaded);
        return database_release(f->db, f->op, "quay_batch");
    }
    struct err kept = f->op->err;
    struct db_bad_row bad = f->db->bad;
    database_load_abort(f->db);
    if (r != -EBADMSG)
        return f->op->err = kept, r;
    int back = database_rollback_to(f->db, f->op, "quay_batch");
    if (back < 0)
        return back;
    f->op->err = kept;
    f->db->bad = bad;
    b->failed_first = bad.row && bad.row <= hi - lo ? lo + bad.row - 1 : SIZE_MAX;
    return r;
}

/* How many rows the next loads take after one of n was refused, with `good` ones before the bad one
 * (SIZE_MAX: the server did not say). */
static size_t shrink(size_t n, size_t good)
{
    if (good == SIZE_MAX)
        return n / 2 ? n / 2 : 1;
    return good * 2 > 16 ? good * 2 : 16;
}

static int load_range(struct file_load *f, size_t lo, size_t hi)
{
    struct batch *b = f->batch;
    size_t blamed = SIZE_MAX;

    while (lo < hi) {
        size_t end = hi - lo < b->step ? hi : lo + b->step;
        if (blamed != SIZE_MAX) /* up to it, then it alone */
            end = blamed > lo ? blamed : lo + 1;
        if (blamed == lo)
            blamed = SIZE_MAX;
        int r = try_rows(f, lo, end);
        if (r == -EBADMSG && end - lo > 1) {
            blamed = b->failed_first;
            b->step = shrink(end - lo, blamed == SIZE_MAX ? SIZE_MAX : blamed - lo);
            continue;
        }
        if (r == -EBADMSG) {
            const struct batch_row *row = &b->rows[lo];
            r = file_refused(f, row->line, row->offset, row->cells, row->raw, row->raw_len);
        } else if (r == 0 && b->step < BATCH_ROWS) {
            b->step *= 2;
        }
        if (r != 0)
            return r;
        lo = end;
    }
    return 0;
}

int batch_flush(struct file_load *f)
{
    struct batch *b = f->batch;

    if (!b || b->n == 0)
        return 0;
    int r = load_range(f, 0, b->n);
    b->n = 0;
    b->used = 0;
    if (b->cap > BATCH_BYTES) { /* a long row is gone */
        free(b->bytes);
        b->bytes = xmalloc(BATCH_BYTES);
        b->cap = BATCH_BYTES;
    }
    return r;
}

/* SPDX-License-Identifier: MIT
 * transfer_rows.c: see transfer_file.h: rows into the table, in one of three ways:
 *   pass    the bytes behind the header go to COPY as they are, after a look for what COPY would
 *           misread (invalid UTF-8, NUL, a lone \.); any fault: the parsing way
 *   direct  row by row into a database that says which row it refuses (DB_ROW_ERRORS)
 *   batch   rows in batches under a savepoint (transfer_batch.c) */
#include "loader/transfer_file.h"

#include "base/cleanup.h"
#include "loader/format.h"
#include "loader/utf8.h"

struct db_load file_load_spec(const struct file_load *f)
{
    return (struct db_load){.table = &f->table,
                            .columns = f->plan.targets,
                            .n_columns = f->plan.n,
                            .key = (const char *const *)f->plan.key,
                            .n_key = f->plan.n_key};
}

/* ---- pass ---- */

struct pass {
    char context[8]; /* the last bytes before the current ones: a cut character, a line's end */
    size_t n;
    bool cut;     /* the data so far ends within a character */
    char *joined; /* context and data together */
};

/* true: nothing in it that must be looked at closer. The context is kept up to date. */
static bool look(struct pass *s, const char *data, size_t len)
{
    size_t total = s->n + len;

    memcpy(s->joined, s->context, s->n);
    memcpy(s->joined + s->n, data, len);
    size_t from = 0;
    while (from < s->n && ((unsigned char)s->joined[from] & 0xC0) == 0x80)
        from++; /* the rest of a character that was looked at */
    size_t good = utf8_valid_prefix(s->joined + from, total - from, &s->cut);
    if (from + good != total && !s->cut)
        return false;
    if (memchr(data, 0, len) || memmem(s->joined, total, "\n\\.", 3))
        return false;
    s->n = total < 4 ? total : 4;
    memmove(s->context, s->joined + total - s->n, s->n);
    return true;
}

static uint64_t count_lines(const char *p, size_t len)
{
    uint64_t n = 0;

    for (const char *end = p + len; p < end && (p = memchr(p, '\n', (size_t)(end - p))); p++)
        n++;
    return n;
}

static int pass_bytes(struct file_load *f, struct pass *s, uint64_t *lines)
{
    int r = 1;

    while (r == 1) {
        const char *p = window_at(&f->window);
        size_t len = window_len(&f->window);
        for (size_t n; r == 1 && len > 0; p += n, len -= n) {
            n = len < FILE_STEP ? len : FILE_STEP;
            if (!look(s, p, n))
                return -EBADMSG;
            r = database_load_bytes(f->db, f->op, p, n);
            r = r < 0 ? r : 1;
            *lines += count_lines(p, n);
        }
        window_skip(&f->window, window_len(&f->window));
        if (f->req->progress)
            atomic_store_explicit(&f->req->progress->rows_read, *lines, memory_order_relaxed);
        if (r == 1)
            r = window_more(&f->window, f->op);
    }
    return r == 0 && s->cut ? -EBADMSG : r;
}

static int load_pass(struct file_load *f)
{
    const struct job_format_options *o = &f->req->what->format;
    struct db_csv csv = {.delimiter = format_delimiter(o, f->format),
                         .quote = o->quote,
                         .escape = o->escape ? o->escape : o->quote,
                         .null = o->null.n ? o->null.v[0] : ""};
    struct db_load spec = file_load_spec(f);
    struct pass s = {.context = "\n", .n = 1};
    CLEANUP_FREE char *joined = xmalloc(FILE_STEP + sizeof(s.context));
    uint64_t lines = 0, loaded = 0;
    int r;

    s.joined = joined;
    spec.csv = &csv;
    f->res->method = "copy";
    r = database_load_begin(f->db, f->op, &spec);
    if (r == 0)
        r = pass_bytes(f, &s, &lines);
    if (r == 0)
        r = database_load_end(f->db, f->op, &loaded);
    if (r < 0) {
        database_load_abort(f->db);
        return r;
    }
    file_count(f, loaded, loaded);
    return 0;
}

/* ---- direct ---- */

static int direct_row(struct file_load *f, const struct record *rec)
{
    int r = database_load_row(f->db, f->op, f->cells);

    if (r == 0)
        f->res->rows_loaded++;
    if (r == -EBADMSG)
        return file_refused(f, rec->line, rec->offset, f->cells, rec->raw, rec->raw_len);
    return r;
}

/* ---- rows ---- */

static int bad_record(struct file_load *f, const struct record *rec, struct bad_row *bad)
{
    /* Keys of a table made from a sample, or of a column left to its default: look again. */
    if (strcmp(bad->code, "column") == 0 && f->created && !f->how.scan_all) {
        f->how.scan_all = true;
        return FILE_REDO;
    }
    if (f->plan.wants_default_column && !f->how.all_defaults) {
        f->how.all_defaults = true;
        return FILE_REDO;
    }
    if (f->batch) { /* rows come to the rejects in the order of the file */
        int r = batch_flush(f);
        if (r != 0)
            return r;
    }
    return file_reject(f, bad, rec->raw, rec->raw_len);
}

static int each_row(struct file_load *f, bool direct)
{
    struct record rec;
    struct bad_row bad;
    int r;

    while ((r = reader_next(&f->rows, f->op, &rec)) == 1) {
        f->res->rows_read++;
        if (f->res->rows_read % 1024 == 0) {
            file_count(f, 0, 0);
            r = op_check(f->op);
            if (r < 0)
                return r;
        }
        r = plan_row(&f->plan, &rec, f->cells, &bad);
        if (r == 1)
            r = bad_record(f, &rec, &bad);
        else
            r = direct ? direct_row(f, &rec) : batch_add(f, &rec, f->cells);
        if (r != 0)
            return r;
    }
    return r;
}

static int load_direct(struct file_load *f)
{
    struct db_load spec = file_load_spec(f);
    uint64_t loaded = 0;
    int r = database_load_begin(f->db, f->op, &spec);

    f->res->method = "insert";
    if (r == 0)
        r = each_row(f, true);
    if (r == 0)
        r = database_load_end(f->db, f->op, &loaded);
    if (r != 0) {
        struct err kept = f->op->err;
        database_load_abort(f->db);
        f->op->err = kept;
    }
    return r;
}

static int load_batches(struct file_load *f)
{
    f->res->method = "copy+parse";
    int r = each_row(f, false);
    if (r == 0)
        r = batch_flush(f);
    return r;
}

static int check_counts(struct file_load *f)
{
    const struct transfer_result *n = f->res;
    double pct = f->req->what->max_errors_pct;

    if (n->rows_read != n->rows_loaded + n->rows_rejected + n->rows_skipped)
        return err_set(
            &f->op->err, EIO,
            "%s: %llu rows read are not %llu loaded + %llu rejected (a bug, please report)",
            f->req->path, (unsigned long long)n->rows_read, (unsigned long long)n->rows_loaded,
            (unsigned long long)n->rows_rejected);
    if (pct >= 0 && n->rows_rejected &&
        100.0 * (double)n->rows_rejected > pct * (double)n->rows_read) {
        struct err first = n->first_error;
        f->policy = true;
        (void)err_set(&f->op->err, EBADMSG,
                      "%llu of %llu rows are bad, more than max_errors = %g%%: first %s",
                      (unsigned long long)n->rows_rejected, (unsigned long long)n->rows_read, pct,
                      first.text);
        f->op->err.status = 1;
        f->data_error = f->op->err;
        return -EBADMSG;
    }
    return 0;
}

int file_load_rows(struct file_load *f)
{
    bool direct = f->db->caps & DB_ROW_ERRORS;
    int r = 0;

    f->res->method = direct ? "insert" : "copy";
    if (f->plan.n == 0)
        return 0;
    f->cells = xcalloc(f->plan.n, sizeof(*f->cells));
    if (!f->how.parse && !plan_why_parsed(&f->plan, f->db->caps))
        r = load_pass(f);
    else
        r = direct ? load_direct(f) : load_batches(f);
    file_count(f, 0, 0);
    return r != 0 ? r : check_counts(f);
}

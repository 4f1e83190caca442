/* SPDX-License-Identifier: MIT
 * transfer_export.c: see transfer.h: a table or query into one object. Rows are read in one
 * read-only transaction; the object is published after the last row came and the database said that
 * it was. */
#include "loader/transfer.h"

#include "base/cleanup.h"
#include "loader/csv_write.h"
#include "loader/format.h"
#include "loader/output.h"
#include "loader/utf8.h"

#define WRITE_AT (256u << 10)

struct export_run {
    const struct transfer_export *req;
    struct transfer_result *res;
    struct op *op;
    struct database *db;
    enum job_format format;
    enum job_compress compress;
    struct db_csv csv;
    struct db_table columns;
    struct output *out;
    struct buf text; /* rows not yet written */
};

static int resolve(struct export_run *x)
{
    const struct job_format_options *o = &x->req->what->format;

    x->format = o->type ? o->type : format_of_name(x->req->path);
    x->compress = o->compress ? o->compress : format_compress_of_name(x->req->path);
    if (x->format == JOB_FORMAT_AUTO)
        return err_set(
            &x->op->err, EINVAL,
            "%s: the name does not tell the format: set type = csv, tsv or jsonl in [format]",
            x->req->path);
    x->csv = (struct db_csv){.delimiter = format_delimiter(o, x->format),
                             .quote = o->quote,
                             .escape = o->escape ? o->escape : o->quote,
                             .null = o->null.n ? o->null.v[0] : "",
                             .header = o->header != JOB_HEADER_NO};
    if (x->format != JOB_FORMAT_JSONL && !o->quote)
        return err_set(&x->op->err, EINVAL, "an export needs a quote character");
    return 0;
}

static int flush(struct export_run *x, bool all)
{
    int r = 0;

    if (x->text.len >= (all ? 1 : WRITE_AT)) {
        r = output_write(x->out, x->op, x->text.data, x->text.len);
        if (x->req->progress)
            atomic_fetch_add_explicit(&x->req->progress->bytes_done, x->text.len,
                                      memory_order_relaxed);
        buf_reset(&x->text);
    }
    return r;
}

static void count(struct export_run *x)
{
    x->res->rows_read++;
    x->res->rows_loaded++;
    if (x->req->progress && x->res->rows_read % 1024 == 0) {
        atomic_store_explicit(&x->req->progress->rows_read, x->res->rows_read,
                              memory_order_relaxed);
        atomic_store_explicit(&x->req->progress->rows_loaded, x->res->rows_read,
                              memory_order_relaxed);
    }
}

/* CSV as the database writes it: one row a call, the header first. */
static int copy_bytes(struct export_run *x)
{
    bool header = x->csv.header;
    const char *data;
    size_t len;
    int r;

    while ((r = database_dump_bytes(x->db, x->op, &data, &len)) == 1) {
        buf_add(&x->text, data, len);
        if (!header)
            count(x);
        header = false;
        r = flush(x, false);
        if (r < 0)
            return r;
    }
    return r;
}

/* JSON must be UTF-8; a database that does not check (SQLite) may hold something else. */
static int check_text(struct export_run *x, const struct cell *cells)
{
    for (size_t i = 0; i < x->columns.n_columns; i++) {
        if (cells[i].kind == CELL_TEXT && !utf8_valid(cells[i].data, cells[i].len)) {
            int r = err_set(&x->op->err, EILSEQ, "row %llu: column %s is not UTF-8",
                            (unsigned long long)x->res->rows_read + 1, x->columns.columns[i].name);
            x->op->err.status = 1;
            return r;
        }
    }
    return 0;
}

static int write_rows(struct export_run *x)
{
    bool json = x->format == JOB_FORMAT_JSONL;
    const struct cell *cells;
    int r;

    if (!json && x->csv.header)
        csv_write_names(&x->text, &x->csv, &x->columns);
    while ((r = database_dump_row(x->db, x->op, &cells)) == 1) {
        if (json) {
            r = check_text(x, cells);
            if (r < 0)
                return r;
            json_write_row(&x->text, &x->columns, cells);
        } else {
            csv_write_row(&x->text, &x->csv, cells, x->columns.n_columns);
        }
        count(x);
        r = x->res->rows_read % 1024 == 0 ? op_check(x->op) : 0;
        if (r == 0)
            r = flush(x, false);
        if (r < 0)
            return r;
    }
    return r;
}

static int check_names(struct export_run *x)
{
    for (size_t i = 0; i < x->columns.n_columns; i++) {
        for (size_t k = 0; k < i && x->format == JOB_FORMAT_JSONL; k++) {
            if (strcmp(x->columns.columns[i].name, x->columns.columns[k].name) == 0)
                return err_set(&x->op->err, EINVAL,
                               "the query gives two columns named '%s': rename one (AS)",
                               x->columns.columns[i].name);
        }
    }
    return 0;
}

static int dump(struct export_run *x)
{
    bool bytes = x->format != JOB_FORMAT_JSONL && (x->db->caps & DB_DUMP_CSV);
    struct db_dump spec = {.table = x->req->what->query ? NULL : x->req->what->table,
                           .query = x->req->what->query,
                           .csv = bytes ? &x->csv : NULL};
    int r = database_begin(x->db, x->op, DB_BEGIN_SNAPSHOT);

    x->res->method = bytes ? "copy" : "rows";
    if (r == 0)
        r = database_dump_begin(x->db, x->op, &spec, &x->columns);
    if (r == 0)
        r = check_names(x);
    if (r == 0)
        r = bytes ? copy_bytes(x) : write_rows(x);
    if (r == 0)
        r = flush(x, true);
    struct err kept = x->op->err;
    database_dump_end(x->db);
    database_abort(x->db); /* nothing was changed */
    x->op->err = kept;
    return r;
}

static const char *content_type(const struct export_run *x)
{
    if (x->compress == JOB_COMPRESS_GZIP)
        return "application/gzip";
    if (x->compress == JOB_COMPRESS_ZSTD)
        return "application/zstd";
    if (x->format == JOB_FORMAT_JSONL)
        return "application/x-ndjson";
    return x->format == JOB_FORMAT_TSV ? "text/tab-separated-values" : "text/csv";
}

static int run(struct export_run *x)
{
    struct output_req to = {.store = x->req->store,
                            .key = x->req->key,
                            .path = x->req->path,
                            .tmp_dir = x->req->run_dir,
                            .if_absent = x->req->what->overwrite == JOB_OVERWRITE_FAIL ||
                                         x->req->what->overwrite == JOB_OVERWRITE_SKIP};
    int r = resolve(x);

    if (r == 0)
        r = database_connect(x->db, x->op);
    if (r < 0)
        return r;
    to.compress = x->compress;
    to.content_type = content_type(x);
    r = output_open(&to, x->op, &x->out);
    if (r == 0)
        r = dump(x);
    if (r == 0 && x->req->progress)
        atomic_store(&x->req->progress->phase, "committing");
    if (r == 0)
        r = output_finish(x->out, x->op, &x->res->bytes);
    if (r == -EEXIST && x->req->what->overwrite == JOB_OVERWRITE_SKIP) {
        x->res->rows_read = x->res->rows_loaded = 0;
        x->res->already_loaded = true;
        err_clear(&x->op->err);
        r = 0;
    }
    return r;
}

int transfer_export(const struct transfer_export *req, struct transfer_result *ret, struct err *err)
{
    struct export_run x = {.req = req, .res = ret, .op = req->op, .db = req->db};

    *ret = (struct transfer_result){.method = "none"};
    (void)snprintf(ret->guarantee, sizeof(ret->guarantee), "whole or not at all");
    if (req->progress)
        atomic_store(&req->progress->phase, "running");
    int r = run(&x);
    output_close(x.out);
    db_table_done(&x.columns);
    buf_done(&x.text);
    if (r < 0) {
        ret->rows_loaded = 0;
        req->op->err.code = -r;
        if (req->op->err.retry == ERR_RETRY_UNKNOWN)
            req->op->err.status = 7;
        else if ((req->op->err.status == 0 || req->op->err.status > 7) && r != -EINTR &&
                 r != -ETIMEDOUT)
            req->op->err.status = 1;
        if (err)
            *err = req->op->err;
    } else if (req->progress) {
        atomic_store(&req->progress->rows_read, ret->rows_read);
        atomic_store(&req->progress->rows_loaded, ret->rows_loaded);
    }
    return r;
}

/* SPDX-License-Identifier: MIT
 * transfer_explain.c: see transfer.h: what an import would do, found out without writing. */
#include "loader/transfer_file.h"

#include "base/cleanup.h"
#include "loader/format.h"
#include "loader/sqltext.h"

static void explain_format(const struct file_load *f, struct buf *b)
{
    const struct job_format_options *o = &f->req->what->format;

    buf_addf(b, "file: %s, %llu bytes, version %s\n", f->req->path,
             (unsigned long long)f->req->attr.size, f->req->attr.version);
    buf_addf(b, "format: %s, compression: %s", format_name(f->format),
             format_compress_name(f->input->compress));
    if (f->format != JOB_FORMAT_JSONL)
        buf_addf(b, ", delimiter: %s%c, header: %s, columns: %zu",
                 format_delimiter(o, f->format) == '\t' ? "tab" : "",
                 format_delimiter(o, f->format) == '\t' ? ' ' : format_delimiter(o, f->format),
                 o->header == JOB_HEADER_NO    ? "no"
                 : o->header == JOB_HEADER_YES ? "yes"
                                               : "match",
                 f->rows.n_columns);
    buf_addc(b, '\n');
    if (f->sample.rows)
        buf_addf(b, "sample: %llu rows looked at\n", (unsigned long long)f->sample.rows);
}

static void explain_column(const struct plan_column *c, const struct file_load *f, struct buf *b)
{
    buf_addf(b, "  %s (%s%s) <- ", c->column->name,
             *c->column->declared ? c->column->declared : db_type_name(c->column->type),
             c->column->not_null ? ", not null" : "");
    if (c->from == PLAN_LINE)
        buf_adds(b, "@line");
    else if (c->from == PLAN_TEXT)
        buf_addf(b, "'%s'", c->text);
    else if (c->name)
        buf_addf(b, "%s", c->name);
    else if (c->field < f->names.n)
        buf_addf(b, "#%zu (%s)", c->field + 1, f->names.v[c->field]);
    else
        buf_addf(b, "#%zu", c->field + 1);
    buf_addc(b, '\n');
}

/* The table that would be made takes the place of the one that is missing. */
static int explain_create(struct file_load *f, const struct plan_req *req, struct buf *b)
{
    struct db_table wanted = DB_TABLE_INIT;
    CLEANUP_BUF struct buf sql = BUF_INIT;
    const struct sql_dialect *d = f->db->cls->dialect;
    int r = plan_table(req, &f->sample, &f->table, d->ident_max, &f->op->err, &wanted);

    if (r < 0)
        return r;
    sql_create_table(&sql, d, &wanted);
    buf_addf(b, "would create: %s;\n", sql.data);
    for (size_t i = 0; i < wanted.n_columns; i++) {
        free(wanted.columns[i].declared);
        wanted.columns[i].declared = xstrdup(d->type_names[wanted.columns[i].type]);
    }
    db_table_done(&f->table);
    f->table = wanted;
    return 0;
}

static int explain_table(struct file_load *f, struct buf *b)
{
    static const char *const modes[] = {"?", "append", "truncate", "replace", "create", "upsert"};
    enum job_mode mode = f->req->what->mode;
    struct plan_req req;
    int r = database_connect(f->db, f->op);

    if (r == 0)
        r = database_describe(f->db, f->op, f->req->what->table, &f->table);
    if (r < 0)
        return r;
    buf_addf(b, "table: %s.%s in %s (%s), mode: %s\n", f->table.schema, f->table.name,
             f->db->name ? f->db->name : "", f->db->cls->name, modes[mode]);
    file_plan_req(f, &req);
    bool missing = !f->table.exists, create = mode == JOB_CREATE || mode == JOB_REPLACE;
    if (missing && !create) {
        r = err_set(&f->op->err, ENOENT, "table %s does not exist; use mode = create, or create it",
                    f->req->what->table);
        f->op->err.status = 1;
    } else if (missing || (mode == JOB_REPLACE && !plan_fits(&req))) {
        buf_adds(b, missing ? "" : "the columns do not fit: the table would be dropped\n");
        r = explain_create(f, &req, b);
    }
    return r;
}

static int explain_plan(struct file_load *f, struct buf *b)
{
    struct plan_req req;

    file_plan_req(f, &req);
    int r = plan_make(&f->plan, &req, &f->op->err);
    if (r < 0)
        return r;
    f->planned = true;
    buf_adds(b, "columns:\n");
    for (size_t i = 0; i < f->plan.n; i++)
        explain_column(&f->plan.columns[i], f, b);
    const char *why = plan_why_parsed(&f->plan, f->db->caps);
    if (f->db->caps & DB_ROW_ERRORS)
        buf_adds(b, "method: insert\n");
    else if (why)
        buf_addf(b, "method: copy+parse (%s)\n", why);
    else
        buf_adds(b, "method: copy (bytes are passed on; at the first error: copy+parse)\n");
    buf_addf(b, "guarantee: %s\n",
             f->req->what->ledger ? "exactly once (ledger " LEDGER_TABLE ")" : "at least once");
    buf_addf(b, "memory: at most %zu MiB\n", transfer_bound(f->req->what) >> 20);
    return 0;
}

int transfer_explain(const struct transfer_import *req, struct buf *report, struct err *err)
{
    struct transfer_result res = {0};
    struct file_load f = {.req = req, .res = &res, .op = req->op, .db = req->db};
    int r = file_open(&f);

    if (r == 0)
        explain_format(&f, report);
    if (r == 0)
        r = explain_table(&f, report);
    if (r == 0)
        r = explain_plan(&f, report);
    file_close(&f);
    if (r < 0) {
        if (req->op->err.status == 0 && r != -EINTR && r != -ETIMEDOUT)
            req->op->err.status = 1;
        req->op->err.code = -r;
        if (err)
            *err = req->op->err;
    }
    return r;
}

size_t transfer_bound(const struct job_op *what)
{
    size_t max_row = what->format.max_row ? (size_t)what->format.max_row : 16u << 20;
    size_t fixed = 16u << 20; /* SQLite's page cache, libpq's and zstd's buffers */

    if (what->direction == JOB_EXPORT)
        return fixed + (16u << 20) + 2 * max_row;
    /* The ring; the window holds the sample or two rows; a batch holds its bytes or one row and
     * cells. */
    size_t window = 4 * (max_row > FILE_SAMPLE ? max_row : FILE_SAMPLE) / 2;
    return fixed + (size_t)INPUT_BLOCKS * INPUT_BLOCK + window + BATCH_BYTES + 2 * max_row;
}

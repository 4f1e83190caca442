/* SPDX-License-Identifier: MIT
 * transfer_file.c: see transfer_file.h: the file side of an import, and what happens to bad rows.
 */
#include "loader/transfer_file.h"

#include "base/cleanup.h"
#include "loader/format.h"

static int open_input(struct file_load *f, struct input **ret)
{
    const struct transfer_import *q = f->req;
    struct input_req req = {.store = q->store,
                            .key = q->key,
                            .path = q->path,
                            .attr = &q->attr,
                            .compress = q->what->format.compress,
                            .progress = q->progress ? &q->progress->bytes_done : NULL};

    return input_open(&req, f->op, ret);
}

static int fill_window(struct file_load *f)
{
    int r = 1;

    while (r == 1 && window_len(&f->window) < FILE_SAMPLE)
        r = window_more(&f->window, f->op);
    return r < 0 ? r : 0;
}

/* The header, or its faults, as an error of its line. */
static int read_header(struct file_load *f)
{
    struct record header = {0};
    int r = reader_header(&f->rows, f->op, &f->names, &f->header, &header);

    if (r == -EBADMSG) {
        struct bad_row bad = {.line = header.error_line,
                              .offset = header.offset,
                              .column = "",
                              .code = header.code,
                              .sqlstate = "",
                              .message = header.message};
        f->rejects = rejects_new(f->req->run_dir, f->req->path, "", 0);
        f->res->rows_read = 1;
        r = file_reject(f, &bad, header.raw, header.raw_len);
        if (r == 0) { /* skipping the header's line would make a row of data the header */
            f->policy = true;
            r = file_bad(f, &bad);
            f->data_error = f->op->err;
        }
        return r;
    }
    return r < 0 ? r : 0;
}

static void take_names(struct file_load *f)
{
    for (size_t i = 0; i < f->sample.names.n; i++)
        names_add(&f->names, f->sample.names.v[i], strlen(f->sample.names.v[i]));
}

/* A table may have to be made, or the columns are not known otherwise. */
static bool wants_sample(const struct file_load *f)
{
    enum job_mode mode = f->req->what->mode;

    return f->format == JOB_FORMAT_JSONL || f->names.n == 0 || mode == JOB_CREATE ||
           mode == JOB_REPLACE;
}

static void take_sample(struct file_load *f)
{
    sample_scan(&f->sample, f->format, &f->req->what->format, &f->names, window_at(&f->window),
                window_len(&f->window), f->window.eof);
    if (f->format == JOB_FORMAT_JSONL)
        take_names(f);
    if (f->rows.n_columns == 0 && f->format != JOB_FORMAT_JSONL)
        f->rows.n_columns = f->sample.names.n;
}

int file_open(struct file_load *f)
{
    const struct job_format_options *o = &f->req->what->format;
    int r = open_input(f, &f->input);

    if (r < 0)
        return r;
    window_init(&f->window, &f->input->feed, FILE_STEP);
    r = fill_window(f);
    if (r == 0)
        r = format_resolve(o, f->req->path, window_at(&f->window), window_len(&f->window),
                           &f->op->err, &f->format);
    if (r < 0)
        return r;
    reader_init(&f->rows, f->format, o, &f->window);
    f->reader_ready = true;
    r = read_header(f);
    if (r == 0 && wants_sample(f))
        take_sample(f);
    if (!f->rejects)
        f->rejects = rejects_new(f->req->run_dir, f->req->path, f->header.data, f->header.len);
    return r;
}

void file_close(struct file_load *f)
{
    batch_free(f->batch);
    if (f->reader_ready)
        reader_done(&f->rows);
    if (f->window.data)
        window_done(&f->window);
    input_close(f->input);
    rejects_free(f->rejects);
    names_done(&f->names);
    buf_done(&f->header);
    sample_done(&f->sample);
    if (f->planned)
        plan_done(&f->plan);
    db_table_done(&f->table);
    free(f->cells);
    *f = (struct file_load){.req = f->req, .res = f->res, .op = f->op, .db = f->db, .how = f->how};
}

int file_scan_all(struct file_load *f, struct sample *ret)
{
    struct file_load pass = {.req = f->req, .res = f->res, .op = f->op, .db = f->db};
    const struct names none = {0};
    struct sample all = {0};
    int r = file_open(&pass);

    if (r == 0)
        r = sample_read(&all, f->op, &pass.rows, &f->req->what->format,
                        pass.format == JOB_FORMAT_JSONL ? &none : &pass.names);
    file_close(&pass);
    if (r < 0)
        sample_done(&all);
    else
        *ret = all;
    return r;
}

void file_use_sample(struct file_load *f, struct sample *all)
{
    sample_done(&f->sample);
    f->sample = *all;
    *all = (struct sample){0};
    if (f->format == JOB_FORMAT_JSONL) {
        names_done(&f->names);
        take_names(f);
    }
}

void file_plan_req(const struct file_load *f, struct plan_req *ret)
{
    *ret = (struct plan_req){.what = f->req->what,
                             .path = f->req->path,
                             .run_id = f->req->run_id,
                             .format = f->format,
                             .names = &f->names,
                             .n_fields = f->rows.n_columns,
                             .table = &f->table,
                             .all_defaults = f->how.all_defaults};
}

int file_bad(struct file_load *f, const struct bad_row *bad)
{
    int r = err_set(&f->op->err, EBADMSG, "%s:%llu: %s%s%s%s", f->req->path,
                    (unsigned long long)bad->line, *bad->column ? "column " : "", bad->column,
                    *bad->column ? ": " : "", bad->message);

    (void)snprintf(f->op->err.remote, sizeof(f->op->err.remote), "%s", bad->sqlstate);
    f->op->err.status = 1;
    return r;
}

static int stop(struct file_load *f)
{
    f->policy = true;
    f->data_error = f->op->err;
    return -EBADMSG;
}

int file_reject(struct file_load *f, const struct bad_row *bad, const void *raw, size_t len)
{
    const struct job_op *what = f->req->what;
    struct err local = ERR_INIT;
    bool ragged = strcmp(bad->code, "columns") == 0 && what->format.ragged == JOB_RAGGED_REJECT;

    (void)file_bad(f, bad);
    if (f->res->rows_rejected++ == 0)
        f->res->first_error = f->op->err;
    if (f->req->progress)
        atomic_fetch_add_explicit(&f->req->progress->rows_rejected, 1, memory_order_relaxed);
    if (rejects_add(f->rejects, bad, raw, len, &local) < 0) {
        f->op->err = local;
        f->op->err.status = 1;
        return -local.code;
    }
    if (what->on_error == JOB_SKIP_FILE && !ragged) {
        f->skip_file = true;
        return stop(f);
    }
    if (what->on_error != JOB_SKIP_ROW && !ragged)
        return stop(f);
    if (what->max_errors >= 0 && f->res->rows_rejected > (uint64_t)what->max_errors) {
        struct err first = f->res->first_error;
        (void)err_set(
            &f->op->err, EBADMSG, "%llu rows are bad, more than max_errors = %lld: first %s",
            (unsigned long long)f->res->rows_rejected, (long long)what->max_errors, first.text);
        f->op->err.status = 1;
        return stop(f);
    }
    return 0;
}

static const char *code_of(const char *sqlstate, bool type)
{
    static const struct {
        const char *state, *code;
    } codes[] = {{"23502", "null"},
                 {"SQLITE_CONSTRAINT_NOTNULL", "null"},
                 {"23505", "duplicate"},
                 {"SQLITE_CONSTRAINT_UNIQUE", "duplicate"},
                 {"SQLITE_CONSTRAINT_PRIMARYKEY", "duplicate"},
                 {"23503", "foreign_key"},
                 {"SQLITE_CONSTRAINT_FOREIGNKEY", "foreign_key"},
                 {"23514", "check"},
                 {"SQLITE_CONSTRAINT_CHECK", "check"}};

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (strcmp(codes[i].state, sqlstate) == 0)
            return codes[i].code;
    }
    return type || strncmp(sqlstate, "22", 2) == 0 ? "value" : "constraint";
}

int file_refused(struct file_load *f, uint64_t line, uint64_t offset, const struct cell *cells,
                 const void *raw, size_t len)
{
    const struct db_bad_row *where = &f->db->bad;
    struct err e = f->op->err;
    struct bad_row bad = {.line = line,
                          .offset = offset,
                          .column = where->column,
                          .code = code_of(e.remote, where->type),
                          .sqlstate = e.remote,
                          .message = e.text};
    char prefix[160];

    /* A table made from a sample: the sample was too small. Nothing is lost by looking at all. */
    if (where->type && f->created && !f->how.scan_all) {
        f->how.scan_all = true;
        return FILE_REDO;
    }
    for (size_t i = 0; i < f->plan.n; i++) {
        if (strcmp(f->plan.targets[i]->name, where->column) != 0)
            continue;
        bad.column_number = f->plan.columns[i].from == PLAN_FIELD && f->format != JOB_FORMAT_JSONL
                                ? f->plan.columns[i].field + 1
                                : 0;
        bad.value = cells[i].kind == CELL_NULL ? NULL : cells[i].data;
        bad.value_len = cells[i].len;
    }
    (void)snprintf(prefix, sizeof(prefix), "column %s: ", where->column);
    if (*where->column && strncmp(e.text, prefix, strlen(prefix)) == 0)
        bad.message = e.text + strlen(prefix); /* sqlite's says the column itself */
    return file_reject(f, &bad, raw, len);
}

void file_count(struct file_load *f, uint64_t read, uint64_t loaded)
{
    f->res->rows_read += read;
    f->res->rows_loaded += loaded;
    if (!f->req->progress)
        return;
    atomic_store_explicit(&f->req->progress->rows_read, f->res->rows_read, memory_order_relaxed);
    atomic_store_explicit(&f->req->progress->rows_loaded, f->res->rows_loaded,
                          memory_order_relaxed);
}

void file_phase(const struct file_load *f, const char *phase)
{
    if (f->req->progress)
        atomic_store_explicit(&f->req->progress->phase, phase, memory_order_relaxed);
}

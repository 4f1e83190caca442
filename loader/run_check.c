/* SPDX-License-Identifier: MIT
 * run_check.c: check/NAME.job -> check/NAME.out: what the job would do.
 * Parses, applies the policy, lists the files and asks the engine to explain the first file of each
 * operation. Nothing is written but the report; then the job file is removed. */
#include "loader/run_impl.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "loader/job_parts.h"
#include "loader/text.h"

#include <fcntl.h>

#define FILES_SHOWN 200
#define CHECK_TIMEOUT_MS 120000

static const char *mode_word(enum job_mode mode)
{
    static const char *const words[] = {[JOB_APPEND] = "append", [JOB_TRUNCATE] = "truncate",
                                        [JOB_REPLACE] = "replace", [JOB_CREATE] = "create",
                                        [JOB_UPSERT] = "upsert"};

    return words[mode];
}

static void explain_files(const struct run *run, size_t from, struct buf *out)
{
    uint64_t bytes = 0;

    for (size_t i = from; i < run->n_files; i++)
        bytes += run->files[i].attr.size;
    buf_addf(out, "  files: %zu, ", run->n_files - from);
    text_bytes(out, bytes);
    buf_addc(out, '\n');
    for (size_t i = from; i < run->n_files && i - from < FILES_SHOWN; i++) {
        buf_addf(out, "    %s  ", run->files[i].path);
        text_bytes(out, run->files[i].attr.size);
        buf_addf(out, "  version %s\n", run->files[i].attr.version);
    }
    if (run->n_files - from > FILES_SHOWN)
        buf_addf(out, "    ... and %zu more\n", run->n_files - from - FILES_SHOWN);
}

/* What the engine says about the first file; a database that cannot be asked is part of the report. */
static int explain_first(struct run *run, size_t op, const struct run_file *f, struct buf *out,
                         struct err *err)
{
    const struct job_op *what = &run->job->ops[op];
    CLEANUP_FREE char *dir = spool_path(run->env->spool, "check", NULL); /* nothing is written there */
    struct transfer_import req = {.op = &run->op, .job = run->job, .what = what,
                                  .store = f->store, .key = f->key, .path = f->path,
                                  .attr = f->attr, .run_id = run->run_id, .run_dir = dir,
                                  .first_in_table = true};
    struct database *db = NULL;
    int r = run_open_database(run->env, what->db, err, &db);

    if (r == 0 && (r = database_connect(db, &run->op)) < 0)
        *err = run->op.err;
    req.db = db;
    if (r == 0)
        r = transfer_explain(&req, out, err);
    database_close(db);
    return r;
}

static int check_op(struct run *run, size_t op, struct buf *out, struct err *err)
{
    const struct job_op *what = &run->job->ops[op];
    CLEANUP_BUF struct buf skipped = BUF_INIT;
    size_t from = run->n_files;
    int rc = RC_DATA, r;

    buf_addf(out, "\noperation %zu%s%s: ", op + 1, *what->label ? " " : "", what->label);
    if (what->direction == JOB_IMPORT)
        buf_addf(out, "import into %s.%s, mode %s\n", what->db, what->table, mode_word(what->mode));
    else
        buf_addf(out, "export of %s.%s to %s\n", what->db, what->table ? what->table : "(query)",
                 what->paths.v[0]);
    run->skipped = &skipped;
    r = run_plan_op(run, op, &rc, err);
    run->skipped = NULL;
    if (r < 0) {
        buf_addf(out, "  would fail with rc %d: %s\n", rc, err_text(err));
        return rc;
    }
    if (what->direction == JOB_EXPORT)
        return RC_OK;
    explain_files(run, from, out);
    if (skipped.len)
        buf_addf(out, "  left out:\n%s", buf_str(&skipped));
    if (run->n_files == from)
        return RC_OK;
    if (explain_first(run, op, &run->files[from], out, err) < 0) {
        rc = run_rc(err);
        buf_addf(out, "  would fail with rc %d: %s\n", rc, err_text(err));
        return rc;
    }
    return RC_OK;
}

static void add_warnings(struct run *run, struct buf *out)
{
    json_t *o = status_json(run->status), *w;
    size_t i;

    json_array_foreach(json_object_get(o, "warnings"), i, w)
        buf_addf(out, "warning: %s\n", json_string_value(w));
    json_decref(o);
}

static int check_text(struct run *run, const char *file, const char *path, struct buf *out)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    struct err err = ERR_INIT;
    int rc = RC_OK, r = spool_file_read(path, JOB_MAX_BYTES, &text);

    if (r < 0)
        r = err_set(&err, -r, "%s: %s", file, r == -EFBIG ? "larger than 64 KiB" : strerror(-r));
    else
        r = job_parse(file, buf_str(&text), &err, &run->job);
    if (r < 0) {
        buf_addf(out, "would fail with rc %d: %s\n", RC_JOB, err_text(&err));
        return RC_JOB;
    }
    buf_addf(out, "job %s: %zu operation%s, %s\n", run->job->name, run->job->n_ops,
             run->job->n_ops == 1 ? "" : "s",
             run->job->atomic_job ? "all in one transaction" : "one transaction for each file "
             "(truncate, replace, create: for each operation)");
    op_init(&run->op, "check", CHECK_TIMEOUT_MS);
    for (size_t i = 0; i < run->job->n_ops; i++) {
        struct err e = ERR_INIT;
        int op_rc = check_op(run, i, out, &e);

        if (rc == RC_OK)
            rc = op_rc;
    }
    add_warnings(run, out);
    return rc;
}

void run_check(struct run_env *env, const char *file, const char *name, struct run_control *ctl)
{
    CLEANUP_FREE char *path = spool_path(env->spool, "check", file);
    CLEANUP_FREE char *out_name = xasprintf("%s.out", name);
    CLEANUP_FREE char *out_path = spool_path(env->spool, "check", out_name);
    CLEANUP_BUF struct buf out = BUF_INIT;
    struct run run = {.env = env, .ctl = ctl, .name = name};
    int rc, r;

    spool_run_id(run.run_id);
    run.status = status_new(NULL, name, run.run_id);
    rc = check_text(&run, file, path, &out);
    buf_addf(&out, "\nresult: %s (rc %d); nothing was changed\n",
             rc == RC_OK ? "the job can run" : "the job would fail", rc);
    r = spool_file_write(out_path, buf_str(&out), out.len, false);
    if (r == 0)
        r = sys_unlinkat(AT_FDCWD, path, 0);
    if (r < 0)
        log_error("loader", "%s: %s", out_path, strerror(-r));
    run_files_done(&run);
    status_free(run.status);
    job_free(run.job);
}

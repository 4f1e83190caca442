/* SPDX-License-Identifier: MIT
 * transfer_import.c: see transfer.h and transfer_file.h: attempts, transactions, the ledger,
 * COMMIT.
 *
 * Order within an attempt: the object is opened and looked at before BEGIN (no transaction waits
 * for the network to start); then BEGIN, ledger row, table, rows, ledger counts, rejects to disk,
 * COMMIT, rejects published. Anything that fails before COMMIT rolls back to the state before the
 * attempt. */
#include "loader/transfer_file.h"

#include "base/cleanup.h"
#include "loader/sqltext.h"

#define SETTLE_TRIES 6
#define SAVEPOINT "quay_file"

static void version_of(const struct attr *a, char out[ATTR_VERSION_MAX])
{
    if (a->version[0])
        (void)snprintf(out, ATTR_VERSION_MAX, "%s", a->version);
    else
        (void)snprintf(out, ATTR_VERSION_MAX, "%llu-%lld.%09ld", (unsigned long long)a->size,
                       (long long)a->mtime.tv_sec, a->mtime.tv_nsec);
}

/* Is the table emptied or made anew by this file? */
static bool starts_table(const struct transfer_import *q)
{
    return q->first_in_table && (q->what->mode == JOB_TRUNCATE || q->what->mode == JOB_REPLACE);
}

static struct ledger_claim claim_of(const struct transfer_import *q, const struct db_table *table,
                                    const char *version)
{
    return (struct ledger_claim){.table = table,
                                 .path = q->path,
                                 .version = version,
                                 .run = q->run_id,
                                 .job = q->job->name ? q->job->name : "",
                                 .size = q->attr.size,
                                 .clear = starts_table(q) ||
                                          (!table->exists && q->what->mode == JOB_CREATE),
                                 .force = q->what->force};
}

static int settle_once(const struct transfer_import *q, struct op *op, bool *ret_done)
{
    CLEANUP_DB_TABLE struct db_table table = DB_TABLE_INIT;
    char version[ATTR_VERSION_MAX];
    int r = database_connect(q->db, op);

    if (r == 0)
        r = database_describe(q->db, op, q->what->table, &table);
    if (r < 0)
        return r;
    version_of(&q->attr, version);
    struct ledger_claim claim = claim_of(q, &table, version);
    return ledger_settle(q->db, op, &claim, ret_done);
}

/* COMMIT was not answered: which way did it go? Not stopped by a cancelled op: the answer matters.
 */
static int settle(const struct transfer_import *q)
{
    struct op own;
    struct err lost = q->op->err;
    bool done = false;
    int r = -ECONNRESET;

    op_init(&own, "settle", 0);
    for (unsigned i = 0; q->what->ledger && i < SETTLE_TRIES; i++) {
        own.deadline_ns = 0;
        (void)op_sleep(&own, i ? 250u << i : 0);
        r = settle_once(q, &own, &done);
        if (r == 0 || own.err.retry == ERR_RETRY_NEVER)
            break;
    }
    if (r == 0 && done) {
        err_clear(&q->op->err);
        return 0;
    }
    if (r == 0) {
        r = err_set(&q->op->err, EAGAIN, "%s: COMMIT was lost and nothing was committed", q->path);
        q->op->err.retry = ERR_RETRY_SAFE;
        q->op->err.status = 2;
        return r;
    }
    r = err_set(&q->op->err, ECONNRESET, "%s: whether it was committed is not known (%s); %s",
                q->path, lost.text,
                q->what->ledger ? "the ledger could not be asked"
                                : "there is no ledger to ask (ledger = no)");
    q->op->err.retry = ERR_RETRY_UNKNOWN;
    q->op->err.status = 7;
    return r;
}

static int commit(const struct transfer_import *q)
{
    int r = database_commit(q->db, q->op);

    if (r < 0 && q->op->err.retry == ERR_RETRY_UNKNOWN)
        return settle(q);
    return r < 0 ? err_prefix(&q->op->err, "%s: COMMIT", q->path) : 0;
}

/* ---- the table ---- */

static int no_table(struct file_load *f)
{
    int r = err_set(&f->op->err, ENOENT,
                    "table %s does not exist in database %s; use mode = create, or create it",
                    f->req->what->table, f->db->name ? f->db->name : "");

    f->op->err.status = 1;
    return r;
}

static int make_table(struct file_load *f)
{
    struct plan_req req;
    struct db_table wanted = DB_TABLE_INIT;

    file_plan_req(f, &req);
    int r = plan_table(&req, &f->sample, &f->table, f->db->cls->dialect->ident_max, &f->op->err,
                       &wanted);
    if (r == 0)
        r = database_create_table(f->db, f->op, &wanted);
    db_table_done(&wanted);
    if (r == 0) {
        db_table_done(&f->table);
        r = database_describe(f->db, f->op, f->req->what->table, &f->table);
    }
    f->created = r == 0;
    f->res->table_created = f->created;
    return r;
}

static int renew_table(struct file_load *f)
{
    struct plan_req req;

    file_plan_req(f, &req);
    if (plan_fits(&req))
        return database_empty_table(f->db, f->op, &f->table);
    int r = database_drop_table(f->db, f->op, &f->table);
    return r < 0 ? r : make_table(f);
}

static int prepare_table(struct file_load *f)
{
    bool may_create = f->req->what->mode == JOB_CREATE || f->req->what->mode == JOB_REPLACE;

    if (!f->table.exists)
        return may_create ? make_table(f) : no_table(f);
    if (!starts_table(f->req))
        return 0;
    if (f->req->what->mode == JOB_REPLACE)
        return renew_table(f);
    return database_empty_table(f->db, f->op, &f->table);
}

static int make_plan(struct file_load *f)
{
    struct plan_req req;

    file_plan_req(f, &req);
    int r = plan_make(&f->plan, &req, &f->op->err);
    f->planned = r == 0;
    if (r < 0)
        f->op->err.status = 1;
    return r;
}

/* ---- the ledger ---- */

static int changed(struct file_load *f, const char *before)
{
    int r;

    /* An upsert of the new version is what one wants; the others were emptied. */
    if (f->req->what->changed == JOB_CHANGED_RELOAD || f->req->what->force ||
        f->req->what->mode == JOB_UPSERT)
        return 0;
    if (f->req->what->changed == JOB_CHANGED_SKIP) {
        f->res->already_loaded = true;
        return 0;
    }
    r = err_set(&f->op->err, EEXIST,
                "%s has changed since it was loaded into %s (%s): its rows would be there twice. "
                "Set changed = reload to add them all the same, changed = skip to leave it, or use "
                "mode = replace or upsert",
                f->req->path, f->req->what->table, before);
    f->op->err.status = 1;
    return r;
}

static int claim(struct file_load *f, const char *version)
{
    CLEANUP_FREE char *before = NULL;
    enum ledger_found found = LEDGER_NEW;
    struct ledger_claim c = claim_of(f->req, &f->table, version);
    int r = 0;

    if (f->req->in_transaction)
        r = ledger_prepare(f->db, f->op, &f->table);
    if (r == 0)
        r = ledger_claim(f->db, f->op, &c, &found, &before);
    if (r == 0 && found == LEDGER_CHANGED)
        r = changed(f, before);
    if (r == 0 && found == LEDGER_LOADED)
        f->res->already_loaded = true;
    return r;
}

static int finish_ledger(struct file_load *f, const char *version)
{
    struct ledger_claim c = claim_of(f->req, &f->table, version);
    struct ledger_counts n = {f->res->rows_read, f->res->rows_loaded, f->res->rows_rejected};

    return f->req->what->ledger ? ledger_finish(f->db, f->op, &c, &n) : 0;
}

/* ---- an attempt ---- */

static int start_transaction(struct file_load *f)
{
    CLEANUP_DB_TABLE struct db_table table = DB_TABLE_INIT;
    int r;

    if (f->req->in_transaction)
        return database_savepoint(f->db, f->op, SAVEPOINT);
    r = database_connect(f->db, f->op);
    if (r == 0 && f->req->what->ledger) {
        r = database_describe(f->db, f->op, f->req->what->table, &table);
        if (r == 0 && !table.exists && f->req->what->mode != JOB_CREATE &&
            f->req->what->mode != JOB_REPLACE)
            return no_table(f);
        if (r == 0)
            r = ledger_prepare(f->db, f->op, &table);
    }
    return r < 0 ? r : database_begin(f->db, f->op, DB_BEGIN_WRITE);
}

static void roll_back(struct file_load *f)
{
    struct err kept = f->op->err;
    struct op own;

    if (!f->req->in_transaction) {
        database_abort(f->db);
    } else if (f->db->connected && f->db->in_transaction) {
        op_init(&own, "rollback", 10000);
        database_load_abort(f->db);
        if (database_rollback_to(f->db, &own, SAVEPOINT) < 0)
            database_abort(f->db); /* the caller's next call fails, its COMMIT too */
    }
    f->op->err = kept;
}

static int within_transaction(struct file_load *f)
{
    char version[ATTR_VERSION_MAX];
    int r;

    version_of(&f->req->attr, version);
    r = database_describe(f->db, f->op, f->req->what->table, &f->table);
    if (r == 0 && f->req->what->ledger)
        r = claim(f, version);
    if (r < 0 || f->res->already_loaded)
        return r;
    r = prepare_table(f);
    if (r == 0)
        r = make_plan(f);
    if (r == 0)
        r = file_load_rows(f);
    if (r == 0)
        r = finish_ledger(f, version);
    if (r == 0)
        r = rejects_flush(f->rejects, &f->op->err);
    return r;
}

static int end_transaction(struct file_load *f)
{
    int r;

    file_phase(f, "committing");
    if (f->req->in_transaction)
        r = database_release(f->db, f->op, SAVEPOINT);
    else
        r = commit(f->req);
    if (r == 0 && rejects_publish(f->rejects, &f->op->err) < 0)
        return err_prefix(&f->op->err, "%s: its rows are loaded, but", f->req->path);
    return r;
}

static void reset_counts(struct file_load *f)
{
    struct transfer_result *n = f->res;

    n->rows_read = n->rows_loaded = n->rows_rejected = n->rows_skipped = 0;
    n->already_loaded = n->table_created = false;
    n->first_error = ERR_INIT;
    if (f->req->progress) {
        atomic_store(&f->req->progress->bytes_total, f->req->attr.size);
        atomic_store(&f->req->progress->bytes_done, 0);
        atomic_store(&f->req->progress->rows_rejected, 0);
        file_count(f, 0, 0);
    }
}

/* What the failure of an attempt teaches; true: do it again. */
static bool learn(struct file_load *f, int r, bool passed)
{
    if (r == FILE_REDO)
        return true;
    if (r != -EBADMSG || !passed || f->policy)
        return false;
    if (f->created && f->db->bad.type && !f->how.scan_all)
        f->how.scan_all = true;
    else
        f->how.parse = true;
    return true;
}

/* A failure that is final: the bad rows are published, or the file is skipped. */
static int fail(struct file_load *f, int r)
{
    struct err kept = f->policy && f->data_error.code ? f->data_error : f->op->err;

    f->res->rows_loaded = 0;
    if (f->policy && f->rejects && rejects_publish(f->rejects, &f->op->err) < 0)
        return -f->op->err.code;
    if (f->skip_file) {
        f->res->file_skipped = true;
        f->res->rows_skipped = f->res->rows_read - f->res->rows_rejected;
        return 0;
    }
    f->op->err = kept;
    return r;
}

static int attempt(struct file_load *f, bool *ret_again)
{
    reset_counts(f);
    file_phase(f, "running");
    f->db->bad = (struct db_bad_row){0};
    struct sample all = {0};
    int r = f->how.scan_all ? file_scan_all(f, &all) : 0;
    if (r == 0)
        r = file_open(f);
    if (r == 0 && f->how.scan_all)
        file_use_sample(f, &all);
    sample_done(&all);
    if (r < 0)
        return fail(f, r);
    r = start_transaction(f);
    if (r == 0)
        r = within_transaction(f);
    if (r == 0 && !f->res->already_loaded)
        r = end_transaction(f);
    else
        roll_back(f);
    if (r == 0)
        return 0;
    bool passed = f->planned && !f->how.parse && !plan_why_parsed(&f->plan, f->db->caps);
    *ret_again = learn(f, r, passed);
    return *ret_again ? r : fail(f, r);
}

int transfer_import(const struct transfer_import *req, struct transfer_result *ret, struct err *err)
{
    struct file_load f = {.req = req, .res = ret, .op = req->op, .db = req->db};
    bool again = true;
    int r = 0;

    *ret = (struct transfer_result){.bytes = req->attr.size, .method = "none"};
    (void)snprintf(ret->guarantee, sizeof(ret->guarantee), "%s",
                   req->what->ledger ? "exactly once (ledger)" : "at least once (no ledger)");
    for (int i = 0; again; i++) {
        again = false;
        if (i > 0)
            file_phase(&f, "retrying");
        r = i < 8 ? attempt(&f, &again)
                  : err_set(&req->op->err, EIO, "%s: redone too often", req->path);
        file_close(&f);
    }
    if (r < 0) {
        if (req->op->err.status == 0 && r != -EINTR && r != -ETIMEDOUT)
            req->op->err.status = 1;
        req->op->err.code = -r;
        if (err)
            *err = req->op->err;
    }
    return r;
}

int transfer_prepare(const struct transfer_import *req, struct err *err)
{
    CLEANUP_DB_TABLE struct db_table table = DB_TABLE_INIT;
    int r = database_connect(req->db, req->op);

    if (r == 0 && req->what->ledger)
        r = database_describe(req->db, req->op, req->what->table, &table);
    if (r == 0 && req->what->ledger)
        r = ledger_prepare(req->db, req->op, &table);
    if (r < 0 && err)
        *err = req->op->err;
    return r;
}

int transfer_commit(const struct transfer_import *req, struct err *err)
{
    int r = commit(req);

    if (r < 0 && err)
        *err = req->op->err;
    return r;
}

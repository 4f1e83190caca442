/* SPDX-License-Identifier: MIT
 * run_exec.c: the units of a run are done by its slots (threads), each with its own connections.
 *
 * A unit that fails transiently is done again as a whole: what it did is rolled back first, and what a
 * lost connection left committed is found in the ledger. A unit that fails for good ends its operation
 * (with atomic = job: the job); units of other operations go on. */
#include "loader/run_impl.h"

#include "base/cleanup.h"
#include "base/clock.h"

#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MAX_MS (5 * 60 * 1000)

int run_rc(const struct err *err)
{
    switch (err->status) {
    case RC_DATA:
    case RC_CONNECT:
    case RC_POLICY:
    case RC_UNKNOWN:
        return err->status;
    }
    switch (err->code) {
    case EINTR:
        return RC_CANCELLED;
    case EHOSTUNREACH:
    case ETIMEDOUT:
    case ECONNRESET:
    case ECONNREFUSED:
    case EACCES:
        return RC_CONNECT;
    default:
        return RC_DATA;
    }
}

bool run_stopped(const struct run *run)
{
    return atomic_load(&run->ctl->cancelled) || atomic_load(&run->ctl->stopping);
}

void run_fail_op(struct run *run, size_t op, int rc, const struct err *err)
{
    const struct job_op *what = &run->job->ops[op];

    lock_acquire(&run->lock);
    run->op_failed[op] = true;
    lock_release(&run->lock);
    status_op_error(run->status, op, rc, err);
    status_log(run->status, "error%s%s: %s", *what->label ? " in operation " : "", what->label,
               err_text(err));
}

int run_open_database(struct run_env *env, const char *name, struct err *err, struct database **ret)
{
    struct conf_section *section;
    int r = run_find_database(env, name, err, &section);

    if (r < 0)
        return r;
    lock_acquire(&env->opening.lock);
    while (env->opening.busy)
        cond_wait(&env->opening.free, &env->opening.lock);
    env->opening.busy = true;
    lock_release(&env->opening.lock);
    r = database_open(section, err, ret);
    lock_acquire(&env->opening.lock);
    env->opening.busy = false;
    cond_signal(&env->opening.free);
    lock_release(&env->opening.lock);
    return r;
}

/* This slot's connection to the database, connected. */
static int slot_database(struct run_slot *slot, const char *name, struct err *err,
                         struct database **ret)
{
    struct run *run = slot->run;
    struct database *db = NULL;
    int r;

    for (size_t i = 0; i < slot->n_dbs; i++)
        if (!strcmp(slot->dbs[i].name, name))
            db = slot->dbs[i].db;
    if (!db) {
        r = run_open_database(run->env, name, err, &db);
        if (r < 0) {
            if (err->status == 0)
                err->status = RC_CONNECT;
            return r;
        }
        lock_acquire(&run->lock); /* the ticker cancels through this array */
        slot->dbs = xrealloc(slot->dbs, (slot->n_dbs + 1) * sizeof(*slot->dbs));
        slot->dbs[slot->n_dbs++] = (struct run_db){name, db};
        lock_release(&run->lock);
    }
    r = database_connect(db, &slot->op);
    if (r < 0) {
        *err = slot->op.err;
        return r;
    }
    *ret = db;
    return 0;
}

static void progress_reset(struct transfer_progress *p)
{
    atomic_store(&p->bytes_total, 0);
    atomic_store(&p->bytes_done, 0);
    atomic_store(&p->rows_read, 0);
    atomic_store(&p->rows_loaded, 0);
    atomic_store(&p->rows_rejected, 0);
    atomic_store(&p->phase, "running");
}

static struct transfer_import import_request(struct run_slot *slot, const struct run_file *f,
                                             struct database *db)
{
    struct run *run = slot->run;

    return (struct transfer_import){.op = &slot->op,
                                    .job = run->job,
                                    .what = &run->job->ops[f->op],
                                    .db = db,
                                    .store = f->store,
                                    .key = f->key,
                                    .path = f->path,
                                    .attr = f->attr,
                                    .run_id = run->run_id,
                                    .run_dir = run->dir,
                                    .progress = &slot->progress};
}

static int do_export(struct run_slot *slot, const struct run_file *f, struct database *db,
                     struct transfer_result *res, struct err *err)
{
    struct run *run = slot->run;
    struct transfer_export req = {.op = &slot->op,
                                  .job = run->job,
                                  .what = &run->job->ops[f->op],
                                  .db = db,
                                  .store = f->store,
                                  .key = f->key,
                                  .path = f->path,
                                  .run_id = run->run_id,
                                  .run_dir = run->dir,
                                  .progress = &slot->progress};

    return transfer_export(&req, res, err);
}

static void file_ended(struct run *run, const struct run_file *f, const struct transfer_result *res)
{
    enum status_file_state state = FILE_LOADED;

    if (res->file_skipped)
        state = FILE_SKIPPED;
    else if (res->already_loaded)
        state = run->job->ops[f->op].direction == JOB_IMPORT ? FILE_ALREADY : FILE_SKIPPED;
    else if (res->rows_rejected)
        state = FILE_REJECTS;
    status_file_end(run->status, f->status, state, res, NULL);
    if (res->file_skipped)
        status_warn(run->status, "%s was skipped: %s", f->path,
                    res->first_error.code ? err_text(&res->first_error) : "a row was bad");
    else if (res->already_loaded && state == FILE_ALREADY)
        status_log(run->status, "%s: was loaded before (ledger), nothing to do", f->path);
    else if (res->already_loaded)
        status_warn(run->status, "%s exists: nothing was written (overwrite = skip)", f->path);
    else
        status_log(run->status, "%s: %llu rows read, %llu loaded, %llu rejected (%s)", f->path,
                   (unsigned long long)res->rows_read, (unsigned long long)res->rows_loaded,
                   (unsigned long long)res->rows_rejected, res->method ? res->method : "?");
}

/* One file, import or export. On failure the file's state is FAILED with what was counted. */
static int do_file(struct run_slot *slot, struct run_file *f, struct database *db, bool in_tx,
                   bool first, struct transfer_result *res, struct err *err)
{
    struct run *run = slot->run;
    int r;

    status_file_begin(run->status, f->status);
    progress_reset(&slot->progress);
    status_live(run->status, slot->index, f->status, &slot->progress);
    slot->op.attempt = 1;
    if (run->job->ops[f->op].direction == JOB_IMPORT) {
        struct transfer_import req = import_request(slot, f, db);

        req.in_transaction = in_tx;
        req.first_in_table = first;
        r = transfer_import(&req, res, err);
    } else {
        r = do_export(slot, f, db, res, err);
    }
    status_live(run->status, slot->index, f->status, NULL);
    if (r == 0)
        file_ended(run, f, res);
    return r;
}

/* All files of the unit in one transaction. *ret_failed = the file that failed, or NULL. */
static int transaction_once(struct run_slot *slot, const struct run_unit *u, struct database *db,
                            struct transfer_result *res, struct run_file **ret_failed,
                            struct err *err)
{
    struct run *run = slot->run;
    struct run_file *files = run->files + u->first;
    struct transfer_import last = import_request(slot, &files[0], db);
    bool begun_table = false, any = false;
    int r = 0;

    for (size_t i = 0; r == 0 && i < u->n; i++) {
        struct transfer_import first = import_request(slot, &files[i], db);

        if (i == 0 || files[i].op != files[i - 1].op) /* each table of the unit */
            r = transfer_prepare(&first, err);
    }
    if (r == 0 && (r = database_begin(db, &slot->op, DB_BEGIN_WRITE)) < 0)
        *err = slot->op.err;
    for (size_t i = 0; r == 0 && i < u->n; i++) {
        if (i > 0 && files[i].op != files[i - 1].op)
            begun_table = false;
        *res = (struct transfer_result){0};
        r = do_file(slot, &files[i], db, true, !begun_table, res, err);
        if (r < 0) {
            *ret_failed = &files[i];
            break;
        }
        if (!res->file_skipped)
            begun_table = true;
        if (!res->file_skipped && !res->already_loaded) {
            last = import_request(slot, &files[i], db);
            any = true;
        }
    }
    if (r < 0) {
        database_abort(db);
        return r;
    }
    last.in_transaction = true;
    if (any)
        return transfer_commit(&last, err);
    database_abort(db);
    return 0;
}

static int unit_once(struct run_slot *slot, const struct run_unit *u, struct transfer_result *res,
                     struct run_file **ret_failed, struct err *err)
{
    struct run *run = slot->run;
    struct run_file *f = &run->files[u->first];
    struct database *db = NULL;
    int r = slot_database(slot, run->job->ops[f->op].db, err, &db);

    *res = (struct transfer_result){0};
    *ret_failed = u->one_transaction ? NULL : f;
    if (r < 0)
        return r;
    if (u->one_transaction)
        return transaction_once(slot, u, db, res, ret_failed, err);
    r = do_file(slot, f, db, false, true, res, err);
    if (r == -ESTALE) { /* the object changed since it was listed: take what is there now */
        struct attr now = ATTR_INIT;

        if (store_stat(f->store, &slot->op, f->key, &now) == 0) {
            attr_done(&f->attr);
            attr_move(&f->attr, &now);
            err->retry = ERR_RETRY_SAFE;
        }
    }
    return r;
}

/* Whatever the unit did in the status is taken back before it is done again or given up. */
static void unit_undo(struct run *run, const struct run_unit *u)
{
    for (size_t i = 0; i < u->n; i++)
        status_file_undo(run->status, run->files[u->first + i].status);
}

static void unit_failed(struct run_slot *slot, const struct run_unit *u, struct run_file *failed,
                        const struct transfer_result *res, struct err *err)
{
    struct run *run = slot->run;
    size_t op = run->files[u->first].op;
    int rc;

    if (slot->op.deadline_ns && clock_now_ns() >= slot->op.deadline_ns && !run_stopped(run))
        (void)err_set(err, ETIMEDOUT, "the job's timeout of %.3g s has passed",
                      (double)run->job->timeout_ms / 1000);
    rc = err->code == ETIMEDOUT && slot->op.deadline_ns ? RC_DATA : run_rc(err);
    unit_undo(run, u);
    if (failed && (atomic_load(&run->ctl->cancelled) || !atomic_load(&run->ctl->stopping))) {
        status_file_end(run->status, failed->status, FILE_FAILED, res, err);
        op = failed->op;
    }
    if (run_stopped(run) && rc != RC_UNKNOWN)
        rc = RC_CANCELLED;
    run_fail_op(run, op, rc, err);
    for (size_t i = 0; run->job->atomic_job && i < run->job->n_ops; i++)
        if (i != op) {
            struct err other = ERR_INIT;

            (void)err_set(&other, ECANCELED, "rolled back: atomic = job, and operation %s failed",
                          run->job->ops[op].label);
            status_op_error(run->status, i, rc, &other);
        }
}

static unsigned backoff_ms(unsigned attempt, const struct err *err)
{
    unsigned ms = (unsigned)clock_backoff_ms(BACKOFF_FIRST_MS, BACKOFF_MAX_MS, attempt - 1);

    ms += random_below(ms / 4);
    return ms < err->retry_after_ms ? err->retry_after_ms : ms;
}

static void do_unit(struct run_slot *slot, const struct run_unit *u)
{
    struct run *run = slot->run;

    for (unsigned attempt = 1;; attempt++) {
        struct transfer_result res;
        struct run_file *failed;
        struct err err = ERR_INIT;
        unsigned wait;

        if (unit_once(slot, u, &res, &failed, &err) == 0)
            return;
        if (err.retry != ERR_RETRY_SAFE || attempt > run->job->retries || run_stopped(run) ||
            err.code == EINTR) {
            unit_failed(slot, u, failed, &res, &err);
            return;
        }
        unit_undo(run, u);
        wait = backoff_ms(attempt, &err);
        status_log(run->status, "transient error, again in %.1f s (%u of %u): %s", wait / 1000.0,
                   attempt, run->job->retries, err_text(&err));
        status_retrying(run->status, wait, attempt, run->job->retries);
        if (op_sleep(&slot->op, wait) < 0) {
            unit_failed(slot, u, failed, &res, &err);
            return;
        }
        status_state(run->status, "running");
    }
}

static const struct run_unit *next_unit(struct run *run)
{
    LOCK_SCOPE(&run->lock);
    while (run->next_unit < run->n_units) {
        const struct run_unit *u = &run->units[run->next_unit++];

        if (!run->op_failed[run->files[u->first].op])
            return u;
    }
    return NULL;
}

static void *slot_main(void *arg)
{
    struct run_slot *slot = arg;
    const struct run_unit *u;

    while (!run_stopped(slot->run) && (u = next_unit(slot->run)))
        do_unit(slot, u);
    return NULL;
}

void run_execute(struct run *run)
{
    unsigned started = 1;

    if (run->n_units == 0)
        return;
    for (; started < run->n_slots; started++)
        if (pthread_create(&run->slots[started].thread, NULL, slot_main, &run->slots[started]) != 0)
            break; /* fewer do it too */
    (void)slot_main(&run->slots[0]);
    for (unsigned i = 1; i < started; i++)
        (void)pthread_join(run->slots[i].thread, NULL);
}

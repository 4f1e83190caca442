/* SPDX-License-Identifier: MIT
 * run.c: the life of one run: its directory, parsing, the ticker, and the end.
 *
 * States: queued -> planning -> running (<-> retrying, committing) -> done | done-with-rejects | failed
 * | cancelled; or left in run/ as queued when the loader stops.
 * The ticker thread writes the progress once a second, passes a cancel on to whatever waits, and takes an
 * unlinked run/NAME/job, or the word in run/NAME/ctl, for a cancel. It ends before anything it looks at is freed. */
#include "loader/run_impl.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sys.h"
#include "loader/job_parts.h"
#include "loader/text.h"

#include <fcntl.h>

#define TICK_MS 200
#define ATTEMPTS_MAX 10

void run_env_init(struct run_env *env)
{
    lock_init(&env->opening.lock, LOCK_RANK_REGISTRY, "database opening");
    cond_init(&env->opening.free);
}

void run_env_done(struct run_env *env)
{
    cond_done(&env->opening.free);
    lock_done(&env->opening.lock);
}

/* ---- the ticker ---- */

static void cancel_all(struct run *run)
{
    op_cancel(&run->op);
    for (unsigned i = 0; i < run->job->parallel; i++) {
        struct run_slot *slot = &run->slots[i];

        op_cancel(&slot->op);
        for (size_t d = 0;; d++) {
            struct database *db;

            lock_acquire(&run->lock);
            db = d < slot->n_dbs ? slot->dbs[d].db : NULL;
            lock_release(&run->lock);
            if (!db)
                break;
            database_cancel(db); /* closed only after this thread ended */
        }
    }
}

/* Somebody wrote "cancel" into run/NAME/ctl. */
static bool asked_to_cancel(struct run *run, const char *ctl)
{
    CLEANUP_BUF struct buf b = BUF_INIT;

    if (access(ctl, F_OK) < 0 || spool_file_read(ctl, 256, &b) < 0 || b.len == 0)
        return false;
    if (strncmp(b.data, "cancel", 6) == 0) {
        status_log(run->status, "cancel was asked for in ctl");
        return true;
    }
    status_log(run->status, "ctl: unknown command '%.*s' (known: cancel)",
               (int)strcspn(b.data, "\n"), b.data);
    (void)sys_unlinkat(AT_FDCWD, ctl, 0);
    return false;
}

static void *ticker_main(void *arg)
{
    struct run *run = arg;
    CLEANUP_FREE char *job = xasprintf("%s/job", run->dir);
    CLEANUP_FREE char *ctl = xasprintf("%s/ctl", run->dir);
    bool told = false, ended = false;

    for (unsigned tick = 1; !ended; tick++) {
        lock_acquire(&run->lock);
        if (!run->ended)
            (void)cond_wait_until(&run->wake, &run->lock, clock_now_ns() + TICK_MS * NS_PER_MS);
        ended = run->ended;
        lock_release(&run->lock);
        if (ended)
            break;
        if (!told && asked_to_cancel(run, ctl))
            atomic_store(&run->ctl->cancelled, true);
        if (run_stopped(run) && !told) {
            cancel_all(run);
            told = true;
        }
        if (tick % (1000 / TICK_MS) != 0)
            continue;
        status_tick(run->status);
        if (!told && access(job, F_OK) < 0 && errno == ENOENT) {
            status_log(run->status, "the job file was removed: cancelled");
            atomic_store(&run->ctl->cancelled, true);
        }
    }
    return NULL;
}

/* ---- the directory ---- */

static int write_word(struct run *run, const char *file, const char *text)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", run->dir, file);

    return spool_file_write(path, text, strlen(text), false);
}

static bool read_word(struct run *run, const char *file, char *out, size_t size)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", run->dir, file);
    CLEANUP_BUF struct buf b = BUF_INIT;

    if (spool_file_read(path, size - 1, &b) < 0)
        return false;
    (void)snprintf(out, size, "%.*s", (int)strcspn(buf_str(&b), "\n"), buf_str(&b));
    return out[0] != 0;
}

static void remove_word(struct run *run, const char *file)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", run->dir, file);

    (void)sys_unlinkat(AT_FDCWD, path, 0);
}

/* Counts how often this run was begun; -EIO when that is too often. */
static int count_attempt(struct run *run, struct err *err)
{
    char word[32];
    int64_t n = 0;

    if (read_word(run, "attempt", word, sizeof(word)) && (!parse_int(word, &n) || n < 0))
        n = 0;
    if (n >= ATTEMPTS_MAX)
        return err_set(err, EIO, "the loader ended %d times while it ran this job: given up (see the "
                       "log of quayload; `quayctl retry %s` tries again)", ATTEMPTS_MAX, run->name);
    (void)snprintf(word, sizeof(word), "%lld\n", (long long)n + 1);
    return write_word(run, "attempt", word);
}

static void open_directory(struct run *run)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    bool again = read_word(run, "run_id", run->run_id, sizeof(run->run_id)) &&
                 strlen(run->run_id) == SPOOL_RUN_ID_MAX - 1;

    if (!again)
        spool_run_id(run->run_id);
    run->status = status_new(run->dir, run->name, run->run_id);
    (void)write_word(run, "run_id", run->run_id);
    buf_addf(&b, "%ld\n", (long)getpid());
    (void)write_word(run, "pid", buf_str(&b));
    buf_reset(&b);
    text_time(&b, clock_wall());
    buf_addc(&b, '\n');
    (void)write_word(run, "started", buf_str(&b));
    status_log(run->status, again ? "recovered after the loader ended: run %s begins again"
                                  : "run %s begins", run->run_id);
}

static int load_job(struct run *run, struct err *err)
{
    CLEANUP_FREE char *path = xasprintf("%s/job", run->dir);
    CLEANUP_FREE char *file = xasprintf("%s.job", run->name);
    CLEANUP_BUF struct buf b = BUF_INIT;
    int r = spool_file_read(path, JOB_MAX_BYTES, &b);

    if (r == -ENOENT)
        return err_set(err, EINTR, "the job file was removed: cancelled");
    if (r == -EFBIG)
        return err_set(err, EFBIG, "%s: larger than 64 KiB", file);
    if (r == -ELOOP || r == -EINVAL)
        return err_set(err, EINVAL, "%s: not a regular file", file);
    if (r < 0)
        return err_set(err, -r, "%s: %s", file, strerror(-r));
    if (memchr(buf_str(&b), 0, b.len))
        return err_set(err, EINVAL, "%s: has a NUL byte: this is not a job file", file);
    run->text = buf_take(&b);
    return job_parse(file, run->text ? run->text : "", err, &run->job);
}

/* ---- life ---- */

static void start(struct run *run)
{
    unsigned n = run->job->parallel;

    status_job(run->status, run->job);
    for (size_t i = 0; i < run->job->warnings.n; i++)
        status_warn(run->status, "%s", run->job->warnings.v[i]);
    op_init(&run->op, "plan", 0);
    if (run->job->timeout_ms)
        run->op.deadline_ns = clock_now_ns() + run->job->timeout_ms * NS_PER_MS;
    run->op_failed = xcalloc(run->job->n_ops, sizeof(*run->op_failed));
    run->slots = xcalloc(n, sizeof(*run->slots));
    for (unsigned i = 0; i < n; i++) {
        run->slots[i].run = run;
        run->slots[i].index = i;
        op_init(&run->slots[i].op, "transfer", 0);
        run->slots[i].op.deadline_ns = run->op.deadline_ns;
    }
}

static void work(struct run *run)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    uint64_t bytes = 0;
    bool ticking = pthread_create(&run->ticker, NULL, ticker_main, run) == 0;

    status_state(run->status, "planning");
    run_plan(run);
    for (size_t i = 0; i < run->n_files; i++)
        bytes += run->files[i].attr.size;
    text_bytes(&b, bytes);
    status_log(run->status, "%zu operation%s, %zu file%s, %s", run->job->n_ops,
               run->job->n_ops == 1 ? "" : "s", run->n_files, run->n_files == 1 ? "" : "s",
               buf_str(&b));
    if (!run_stopped(run)) {
        status_state(run->status, "running");
        run_execute(run);
    }
    lock_acquire(&run->lock);
    run->ended = true;
    cond_signal(&run->wake);
    lock_release(&run->lock);
    if (ticking)
        (void)pthread_join(run->ticker, NULL);
}

/* The result of the run: that of its first failing operation. */
static int result(struct run *run, struct err *err)
{
    size_t failed = 0;
    int rc = RC_OK;

    for (size_t i = 0; i < run->job->n_ops; i++) {
        struct err e = ERR_INIT;
        int op_rc = status_op_result(run->status, i, &e);

        if (op_rc == RC_OK)
            continue;
        if (failed++ == 0) {
            rc = op_rc;
            *err = e;
        }
    }
    if (failed && run->job->n_ops > 1)
        (void)err_prefix(err, "%zu of %zu operations failed; the first", failed, run->job->n_ops);
    if (rc == RC_UNKNOWN || !atomic_load(&run->ctl->cancelled) ||
        (rc == RC_OK && status_is_complete(run->status)))
        return rc; /* a cancel that came too late changes nothing */
    (void)err_set(err, EINTR, "cancelled; what was committed before stays (files.tsv)");
    return RC_CANCELLED;
}

static void count_run(struct run *run, int rc)
{
    static const char *const words[] = {"done", "failed", "failed", "done-with-rejects",
                                        "failed", "cancelled", "failed", "failed"};
    struct stats *s = run->env->stats;
    static const char help[] = "Rows by database and what became of them";

    stat_add(stats_counter(s, "quayload_jobs_total", "Runs that ended", "state", words[rc], NULL), 1);
    for (size_t i = 0; run->job && i < run->job->n_ops; i++) {
        const char *db = run->job->ops[i].db;
        struct status_totals t;

        status_op_totals(run->status, i, &t);
        stat_add(stats_counter(s, "quayload_rows_total", help, "database", db, "result", "loaded", NULL),
                 (int64_t)t.rows_loaded);
        stat_add(stats_counter(s, "quayload_rows_total", help, "database", db, "result", "rejected", NULL),
                 (int64_t)t.rows_rejected);
        stat_add(stats_counter(s, "quayload_rows_total", help, "database", db, "result", "skipped", NULL),
                 (int64_t)t.rows_skipped);
        stat_add(stats_counter(s, "quayload_bytes_total", "Bytes transferred", "database", db, NULL),
                 (int64_t)t.bytes);
    }
}

/* Everything in the directory is complete, then it appears in done/ or failed/ by one rename. */
static enum run_outcome finish(struct run *run, int rc, const struct err *err, int *ret_rc)
{
    CLEANUP_FREE char *job = xasprintf("%s/job", run->dir);
    CLEANUP_BUF struct buf history = BUF_INIT;
    struct err why = ERR_INIT;

    if (run->text && access(job, F_OK) < 0)
        (void)write_word(run, "job", run->text);
    remove_word(run, "attempt");
    remove_word(run, "pid");
    remove_word(run, "ctl");
    if (rc == RC_OK || rc == RC_REJECTS)
        status_log(run->status, "ended");
    else
        status_log(run->status, "ended: %s", err_text(err));
    rc = status_end(run->status, rc, err);
    count_run(run, rc);
    status_history(run->status, &history);
    (void)spool_history(run->env->spool, buf_str(&history));
    *ret_rc = rc;
    if (spool_finish(run->env->spool, run->name, run->run_id, rc != RC_OK && rc != RC_REJECTS,
                     &why) < 0) {
        log_error("loader", "%s: %s", run->name, err_text(&why));
        return RUN_LEFT;
    }
    if (rc == RC_OK || rc == RC_REJECTS)
        log_info("loader", "%s: run %s ended, rc %d", run->name, run->run_id, rc);
    else
        log_warn("loader", "%s: run %s ended, rc %d: %s", run->name, run->run_id, rc, err_text(err));
    return RUN_FINISHED;
}

static void leave(struct run *run)
{
    status_log(run->status, "the loader is stopping: rolled back, to be run again at its next start");
    status_state(run->status, "queued");
    status_tick(run->status);
    remove_word(run, "attempt"); /* this was no crash */
    log_info("loader", "%s: left for the next start", run->name);
}

static void run_free(struct run *run)
{
    for (unsigned i = 0; run->slots && i < run->job->parallel; i++) {
        for (size_t d = 0; d < run->slots[i].n_dbs; d++)
            database_close(run->slots[i].dbs[d].db);
        free(run->slots[i].dbs);
    }
    free(run->slots);
    free(run->units);
    free(run->op_failed);
    run_files_done(run);
    status_free(run->status);
    job_free(run->job);
    free(run->text);
    free(run->dir);
    cond_done(&run->wake);
    lock_done(&run->lock);
}

enum run_outcome run_job(struct run_env *env, const char *name, struct run_control *ctl,
                         int *ret_rc)
{
    struct run run = {.env = env, .ctl = ctl, .name = name};
    enum run_outcome outcome = RUN_LEFT;
    struct err err = ERR_INIT;
    int rc;

    lock_init(&run.lock, LOCK_RANK_VOLUME, "run");
    cond_init(&run.wake);
    run.dir = spool_path(env->spool, "run", name);
    open_directory(&run);
    if (load_job(&run, &err) < 0) {
        rc = err.code == EINTR ? RC_CANCELLED : RC_JOB;
    } else if (count_attempt(&run, &err) < 0) {
        rc = RC_DATA;
    } else {
        start(&run);
        work(&run);
        rc = result(&run, &err);
    }
    if (atomic_load(&ctl->stopping) && !atomic_load(&ctl->cancelled) && run.slots &&
        (rc == RC_CANCELLED || !status_is_complete(run.status)))
        leave(&run);
    else
        outcome = finish(&run, rc, &err, ret_rc);
    run_free(&run);
    return outcome;
}

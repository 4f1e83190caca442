/* SPDX-License-Identifier: MIT
 * run_impl.h: the inside of a run, for run*.c only.
 *   run.c       life: parse, plan, execute, finish     run_plan.c   operations -> files
 *   run_exec.c  units, transactions, retries           run_check.c  the report of check/ */
#ifndef QUAY_LOADER_RUN_IMPL_H
#define QUAY_LOADER_RUN_IMPL_H

#include "loader/run.h"
#include "loader/status.h"

struct run_file {
    size_t op;             /* index in job->ops */
    size_t status;         /* index of status_add_file() */
    struct store *store;
    char *key, *path;
    struct attr attr;
};

struct run_unit {
    size_t first, n;       /* of run->files */
    bool one_transaction;
};

struct run_slot {          /* one thread's work */
    struct run *run;
    unsigned index;
    pthread_t thread;
    struct op op;
    struct transfer_progress progress;
    struct run_db {        /* open connections, by name; closed after the ticker ended */
        const char *name;
        struct database *db;
    } *dbs;
    size_t n_dbs;
};

struct run {
    struct run_env *env;
    struct run_control *ctl;
    const char *name;
    char *dir;
    char run_id[SPOOL_RUN_ID_MAX];
    char *text;            /* of the job, to restore an unlinked one */
    struct job *job;
    struct status *status;
    struct op op;          /* planning */
    struct buf *skipped;   /* check/: a line for each file left out, and why; or NULL */
    struct run_file *files;
    size_t n_files;
    struct run_unit *units;
    size_t n_units;
    bool *op_failed;       /* by operation; under lock */
    struct run_slot *slots;
    unsigned n_slots;

    struct lock lock;      /* below; slots' dbs arrays too */
    struct cond wake;
    size_t next_unit;
    bool ended;            /* ticker: go home */
    bool cancelled;        /* ops were told */
    pthread_t ticker;
};

/* rc of an error: of the transfer (err.status 1, 2, 6, 7) or else by its code. */
int run_rc(const struct err *err);
bool run_stopped(const struct run *run); /* cancelled or stopping */

/* Fills files and units. An operation that cannot be planned is marked as failed (status_op_error). */
void run_plan(struct run *run);
/* One operation's files are appended to run->files; used by check/ too. */
int run_plan_op(struct run *run, size_t op, int *ret_rc, struct err *err);
int run_find_database(struct run_env *env, const char *name, struct err *err,
                      struct conf_section **ret);
int run_open_database(struct run_env *env, const char *name, struct err *err,
                      struct database **ret);
void run_execute(struct run *run);
void run_files_done(struct run *run);
void run_fail_op(struct run *run, size_t op, int rc, const struct err *err);

#endif

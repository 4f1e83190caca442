/* SPDX-License-Identifier: MIT
 * run.h: one run of one job, from run/NAME/job to done/NAME.RUNID or failed/NAME.RUNID.
 *
 *     spool_take(...);                        // the job file is in run/NAME/job now
 *     outcome = run_job(env, name, &ctl, &rc);
 * The job is parsed, its files are listed and checked against the policy, and every file is transferred
 * by loader/transfer.h; transient errors are tried again (errors.retries, 1 s doubled up to 5 min).
 * Units of work: a file (append), an operation (truncate, replace, create: one transaction over its
 * files, so that a failure leaves the table as it was), or the whole job (atomic = job).
 * A failing file ends its operation; other operations go on, and the results stay in order.
 *
 * Recovery: run/NAME left behind by a loader that ended is run again in place under its old run id; what
 * was committed is in the ledger and not loaded twice. A job during which the loader ended ten times
 * is given up.
 * Threads: any number of runs at once. run_cancel() from any thread. */
#ifndef QUAY_LOADER_RUN_H
#define QUAY_LOADER_RUN_H

#include "base/lock.h"
#include "base/settings.h"
#include "loader/policy.h"
#include "loader/spool.h"
#include "loader/stores.h"

struct run_env { /* shared by all runs; filled once */
    struct conf *conf;
    const struct settings *settings;
    struct spool *spool;
    struct stores *stores;
    struct policy *policy;
    struct stats *stats;
    struct {         /* one thread opens databases at a time: checking a section changes it */
        struct lock lock;
        struct cond free;
        bool busy;
    } opening;
};

void run_env_init(struct run_env *env); /* the gate only */
void run_env_done(struct run_env *env);

struct run_control {
    atomic_bool cancelled; /* the job is to end as cancelled */
    atomic_bool stopping;  /* the loader ends: leave the job in run/ for the next start */
};

enum run_outcome { RUN_FINISHED = 1, RUN_LEFT };

enum run_outcome run_job(struct run_env *env, const char *name, struct run_control *ctl,
                         int *ret_rc);
/* check/FILE -> check/NAME.out: what would be done; nothing is written to a database. */
void run_check(struct run_env *env, const char *file, const char *name, struct run_control *ctl);

#endif

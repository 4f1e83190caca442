/* SPDX-License-Identifier: MIT
 * status.h: what one run tells the world, as files in its directory.
 *
 *   state        one word: queued planning running retrying committing done done-with-rejects failed
 *                cancelled
 *   progress     one line, replaced once a second: running 42.1% 1.31 MiB/3.11 MiB 18,204 rows ...
 *   status.json  everything; replaced with state and progress
 *   files.tsv    a line for each file     log  appended, for tail -f
 *   rc, summary  written at the end, before the directory is renamed to done/ or failed/
 *
 *     st = status_new(dir, name, run_id);          // "queued"
 *     i = status_add_file(st, op, path, size, version);        // while planning, one thread
 *     status_file_begin(st, i); status_live(st, slot, i, &progress) ... status_file_end(st, i, ...);
 *     status_tick(st);                             // from a timer: writes what changed
 *     status_end(st, rc, &err);  status_free(st);
 *
 * Ownership: copies what it is given; `job` given to status_job() must outlive the status.
 * Threads: any after planning; files are written outside the lock. Failing to write a status file is
 * logged once and does not fail the run. Secrets never come here: the structs it sees have none. */
#ifndef QUAY_LOADER_STATUS_H
#define QUAY_LOADER_STATUS_H

#include "loader/transfer.h"

#include <jansson.h>

/* Return codes of a run (rc, status.json, quayctl). */
enum run_rc {
    RC_OK = 0,
    RC_DATA = 1,      /* data or SQL */
    RC_CONNECT = 2,   /* a store or database could not be reached, or refused us */
    RC_REJECTS = 3,   /* loaded, with rejected rows */
    RC_JOB = 4,       /* the job file is wrong */
    RC_CANCELLED = 5,
    RC_POLICY = 6,
    RC_UNKNOWN = 7    /* the commit's outcome is not known */
};

#define STATUS_SLOTS_MAX 64

enum status_file_state {
    FILE_WAITING = 0,
    FILE_RUNNING,
    FILE_LOADED,
    FILE_REJECTS,   /* loaded, some rows rejected */
    FILE_ALREADY,   /* the ledger had it */
    FILE_SKIPPED,   /* on_error = skip_file, overwrite = skip */
    FILE_FAILED,
    FILE_UNDONE,    /* was loaded in a transaction that was rolled back */
    FILE_NOT_RUN
};

struct status;

/* `dir` NULL: nothing is written (check/). */
struct status *status_new(const char *dir, const char *name, const char *run_id);
void status_free(struct status *st); /* NULL ok */
void status_job(struct status *st, const struct job *job);
void status_state(struct status *st, const char *state /* static */);
void status_retrying(struct status *st, unsigned ms, unsigned attempt, unsigned of);
void status_log(struct status *st, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void status_warn(struct status *st, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

size_t status_add_file(struct status *st, size_t op, const char *path, uint64_t size,
                       const char *version);
size_t status_n_files(const struct status *st);
void status_file_begin(struct status *st, size_t file);
/* `progress` is read while it is set: give NULL before it ends. */
void status_live(struct status *st, unsigned slot, size_t file, struct transfer_progress *progress);
void status_file_end(struct status *st, size_t file, enum status_file_state state,
                     const struct transfer_result *res /* or NULL */, const struct err *err);
void status_file_undo(struct status *st, size_t file); /* LOADED, REJECTS -> UNDONE, counts gone */
void status_op_error(struct status *st, size_t op, int rc, const struct err *err);

void status_tick(struct status *st);
/* Final files; not yet renamed. rc RC_OK becomes RC_REJECTS when rows were rejected; gives the rc. */
int status_end(struct status *st, int rc, const struct err *err);

struct status_totals {
    uint64_t rows_read, rows_loaded, rows_rejected, rows_skipped, bytes;
};
void status_totals(struct status *st, struct status_totals *ret);
void status_op_totals(struct status *st, size_t op, struct status_totals *ret);
/* The rc of an operation so far (RC_OK: nothing failed) and its error. */
int status_op_result(struct status *st, size_t op, struct err *ret_err);
bool status_is_complete(struct status *st); /* no file is waiting or running */
/* Lines for history.tsv. */
void status_history(struct status *st, struct buf *out);
json_t *status_json(struct status *st);

#endif

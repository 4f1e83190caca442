/* SPDX-License-Identifier: MIT
 * transfer.h: moves the rows of one file into one table, or one table or query into one object.
 * This is the engine below the job runner: formats, decompression, drivers, ledger, rejects.
 *
 * Import, per file:  transfer_import(&req, &res, &err)
 *   - begins (unless req.in_transaction) a transaction on req.db; the first statement in it inserts the
 *     ledger row (so two loaders serialise on its unique key), then rows, then counts, then COMMIT;
 *   - fast path: bytes are handed to COPY unparsed where format and columns allow; the first error rolls
 *     back and the file is done again on the parsing path, which finds the row;
 *   - a bad row aborts the file (the transaction rolls back), is skipped into the rejects, or skips
 *     the file, as job->on_error says; rows read = loaded + rejected + skipped is checked;
 *   - COMMIT lost: reconnects and asks the ledger: done, not done (-EAGAIN, class SAFE), or unknown.
 * Retries are the caller's: a transfer is one attempt (its own redo on the parsing path apart). Repeat it
 * while err->retry == ERR_RETRY_SAFE; what it left in run_dir is replaced, not doubled.
 * on_error = skip_file: returns 0 with file_skipped set and first_error filled; nothing was loaded.
 *
 * -ESTALE: the object was replaced while it was read; stat it again and repeat.
 *
 * Modes (act at the first file of a table, the others are appended; all in the file's transaction):
 *     append    the table must exist
 *     create    made when it is not there, with types that hold every value of the file; else append
 *     truncate  the table must exist; its rows are replaced
 *     replace   its rows are replaced; it is made anew when it is missing or when the columns of the file
 *               do not fit it by name (then indexes and grants go with it)
 *     upsert    the table must exist and be unique by `key`; of equal keys the last row wins
 * Ledger: append, create, upsert: the same version again is already_loaded. Another version of the same
 * path: by `changed` (upsert: always loaded). truncate and replace always load, and forget what was
 * loaded into the table before. `force` loads in any case.
 * Blank lines are not rows (but in a file of one column they are). header = yes goes by position.
 *
 * atomic = job, all files in one transaction:
 *     database_connect(db), transfer_prepare(...) for each table, database_begin(db, DB_BEGIN_WRITE);
 *     transfer_import(...) for each file, in_transaction = true;   // a failed file leaves no rows, but
 *     transfer_commit(&last_req, &err);  or  database_abort(db);   // the caller aborts the whole
 * Export: a consistent snapshot (one transaction), written through a staged upload that is published
 * whole (store put/upload), so that a failure leaves nothing visible.
 *
 * Memory: bounded by rings; transfer_bound() tells the bytes. Threads: one transfer is run by one
 * thread (it may start its own); several transfers run concurrently on separate databases handles.
 * Cancel: op_cancel(req.op) from another thread.
 * Errors: -errno, err text "KEY/path:LINE: message" for data errors. err->status = rc class:
 * 1 data or SQL, 2 connect or auth, 6 refused by policy, 7 outcome unknown; retry class set. */
#ifndef QUAY_LOADER_TRANSFER_H
#define QUAY_LOADER_TRANSFER_H

#include "backends/store.h"
#include "loader/database.h"
#include "loader/job.h"

#include <stdatomic.h>

struct transfer_progress { /* written by the transfer, read by others: relaxed atomics */
    atomic_uint_fast64_t bytes_total, bytes_done, rows_read, rows_loaded, rows_rejected;
    _Atomic(const char *) phase; /* "running" "committing" "retrying": static strings */
};

struct transfer_import {
    struct op *op;
    const struct job *job;
    const struct job_op *what;
    struct database *db;      /* connected; owned by the caller */
    struct store *store;
    const char *key;          /* object key in the store */
    const char *path;         /* KEY/object as the user wrote it, for messages and the ledger */
    struct attr attr;         /* as listed or stated: size, version */
    const char *run_id;
    const char *run_dir;      /* errors.tsv and rejects/ are written here */
    bool in_transaction;      /* atomic = job: the caller began and will commit */
    bool first_in_table;      /* truncate/replace/create act at the first file of a table only: true until a
                                 transfer into it gave 0 and not file_skipped (that one was undone) */
    struct transfer_progress *progress; /* or NULL */
};

struct transfer_result {
    uint64_t rows_read, rows_loaded, rows_rejected, rows_skipped, bytes;
    bool already_loaded;      /* the ledger had it: nothing was done; export: overwrite = skip, there */
    bool file_skipped;        /* on_error = skip_file: a row was bad, none was loaded */
    bool table_created;
    const char *method;       /* "copy", "copy+parse", "insert" ... static string */
    char guarantee[64];       /* "exactly once (ledger)" ... */
    struct err first_error;   /* of rejected rows */
};

/* `ret` is filled also on failure (rows_read, rows_rejected, first_error so far). */
int transfer_import(const struct transfer_import *req, struct transfer_result *ret, struct err *err);

/* atomic = job: makes the ledger table outside of the transaction (else two jobs that start at once
 * would wait for each other); commits, and finds out which way a lost COMMIT went as transfer_import
 * does, by the ledger row of `req` (the last file that was not already_loaded). */
int transfer_prepare(const struct transfer_import *req, struct err *err);
int transfer_commit(const struct transfer_import *req, struct err *err);

struct transfer_export {
    struct op *op;
    const struct job *job;
    const struct job_op *what;
    struct database *db;
    struct store *store;
    const char *key, *path;
    const char *run_id, *run_dir;
    struct transfer_progress *progress;
};

int transfer_export(const struct transfer_export *req, struct transfer_result *ret, struct err *err);

/* For check/: what would be done, without writing: format, columns, types, method, DDL of a table that
 * would be created, memory bound; appended to `report` as text lines. */
int transfer_explain(const struct transfer_import *req, struct buf *report, struct err *err);
size_t transfer_bound(const struct job_op *what);

#endif

/* SPDX-License-Identifier: MIT
 * ledger.h: which version of which file was loaded into which table, in the target database itself,
 * in the transaction of the rows: table `_quay_loads` in the target's schema, UNIQUE (target, path,
 * version).
 *
 *     ledger_prepare(db, op, &table);                  // before BEGIN: makes the table when
 * missing database_begin(...); ledger_claim(db, op, &claim, &found);            // first statement:
 * two loaders serialise on it
 *     ... rows ...
 *     ledger_finish(db, op, &claim, &counts);          // last statement before COMMIT
 * A COMMIT that was not answered: ledger_settle() on a new connection. It inserts the same row,
 * which waits for a transaction that is still being decided, and rolls that back; so its answer is
 * final. Rows never expire.
 * The columns are the table's form: a version that gives rows another meaning renames a column, and columns that an
 * older one may leave out are nullable. ledger_prepare refuses what it cannot keep (-EPROTO): a column is missing,
 * or an unknown one must be filled. Threads and errors as database.h. */
#ifndef QUAY_LOADER_LEDGER_H
#define QUAY_LOADER_LEDGER_H

#include "loader/database.h"

#define LEDGER_TABLE "_quay_loads"

struct ledger_claim {
    const struct db_table *table; /* schema and name */
    const char *path, *version, *run, *job;
    uint64_t size;
    bool clear; /* the table is emptied or made anew: forget all its files first */
    bool force; /* forget this version of this file first */
};

enum ledger_found {
    LEDGER_NEW = 1, /* claimed */
    LEDGER_LOADED,  /* this version is there already */
    LEDGER_CHANGED  /* claimed, but another version of this path was loaded before */
};

struct ledger_counts {
    uint64_t rows_read, rows_loaded, rows_rejected;
};

int ledger_prepare(struct database *db, struct op *op, const struct db_table *table);
/* *ret_before: LEDGER_CHANGED: "VERSION by run RUN at TIME", malloc'd; else NULL. */
int ledger_claim(struct database *db, struct op *op, const struct ledger_claim *c,
                 enum ledger_found *ret, char **ret_before);
int ledger_finish(struct database *db, struct op *op, const struct ledger_claim *c,
                  const struct ledger_counts *n);
/* Connects, and tells whether the run's transaction was committed. */
int ledger_settle(struct database *db, struct op *op, const struct ledger_claim *c, bool *ret_done);

#endif

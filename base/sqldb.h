/* SPDX-License-Identifier: MIT
 * sqldb.h: SQLite with our error type; the only way the cache and backends/blob touch it.
 * (The loader's sqlite driver is a user of SQLite in its own right.)
 *
 *     struct sqldb *db; sqldb_open(path, SQLDB_WAL_NORMAL, &err, &db);
 *     r = sqldb_exec(db, &err, "CREATE TABLE IF NOT EXISTS ...");
 *     struct sqlstmt *st; sqldb_prepare(db, "SELECT a, b FROM t WHERE k = ?", &err, &st);
 *     sqldb_bind_text(st, 1, k);
 *     while ((r = sqldb_step(st, &err)) == 1) use(sqldb_i64(st, 0), sqldb_text(st, 1));
 *     sqldb_reset(st); ... sqldb_finalize(st); sqldb_close(db);
 *
 * Threads: one connection belongs to one thread at a time. Asserts that no struct lock is held.
 * Errors: -EUCLEAN when the file is not a sound database (move it aside, start anew), -ENOSPC, -EIO,
 * -EBUSY after 5 s of waiting, -EEXIST for a constraint; the text has SQLite's message. */
#ifndef QUAY_BASE_SQLDB_H
#define QUAY_BASE_SQLDB_H

#include "base/err.h"
#include "base/op.h"

#include <stddef.h>
#include <stdint.h>

struct sqldb;
struct sqlstmt;

enum sqldb_mode {
    SQLDB_WAL_NORMAL = 1, /* survives a crash of the program; may lose the last commits at power loss */
    SQLDB_WAL_FULL,       /* every commit is on disk: journals */
    SQLDB_READONLY
};

int sqldb_open(const char *path, enum sqldb_mode mode, struct err *err, struct sqldb **ret);
void sqldb_close(struct sqldb *db); /* finalizes what was left; NULL ok */
/* Of SQLDB_WAL_FULL, outside of transactions: are commits from now on on disk when they return? (A crash of the program
 * loses none either way.) One that is takes those before it along. */
int sqldb_set_durable(struct sqldb *db, bool durable, struct err *err);
/* From now on (until NULL) a statement that runs or waits ends with -EINTR or -ETIMEDOUT when the op does. */
void sqldb_set_op(struct sqldb *db, struct op *op);
int sqldb_exec(struct sqldb *db, struct err *err, const char *sql);
int sqldb_prepare(struct sqldb *db, const char *sql, struct err *err, struct sqlstmt **ret);
/* The same, once for each `sql` (a literal: the address tells); stays with the database: do not finalize it, and leave
 * it as sqldb_run() or sqldb_reset() does. */
int sqldb_kept(struct sqldb *db, const char *sql, struct err *err, struct sqlstmt **ret);
void sqldb_finalize(struct sqlstmt *st);
void sqldb_bind_text(struct sqlstmt *st, int i, const char *s); /* copied; NULL binds NULL */
void sqldb_bind_blob(struct sqlstmt *st, int i, const void *p, size_t n);
void sqldb_bind_i64(struct sqlstmt *st, int i, int64_t v);
int sqldb_step(struct sqlstmt *st, struct err *err); /* 1 row, 0 done, or -errno */
void sqldb_reset(struct sqlstmt *st);                /* also clears bindings */
int sqldb_run(struct sqlstmt *st, struct err *err);  /* step to the end, reset: 0 or -errno */
enum sqldb_type { SQLDB_NULL = 1, SQLDB_INT, SQLDB_TEXT, SQLDB_BLOB, SQLDB_REAL };
enum sqldb_type sqldb_type(struct sqlstmt *st, int col);
int sqldb_columns(struct sqlstmt *st);
int64_t sqldb_i64(struct sqlstmt *st, int col);
const char *sqldb_text(struct sqlstmt *st, int col); /* "" for NULL; valid until the next step */
const void *sqldb_blob(struct sqlstmt *st, int col, size_t *ret_n);
int64_t sqldb_last_id(struct sqldb *db);
int64_t sqldb_changes(struct sqldb *db);
int sqldb_begin(struct sqldb *db, struct err *err); /* BEGIN IMMEDIATE */
int sqldb_commit(struct sqldb *db, struct err *err);
void sqldb_rollback(struct sqldb *db);
/* What is in the file has a form, a number > 0 that the program which writes it raises with every change that an
 * older one would get wrong (PRAGMA user_version). A file of a newer form is refused and not changed: -ENOTSUP, the
 * text has the file, both numbers and `todo`. Any other gets this form: call it before tables are made or altered. */
int sqldb_claim_form(struct sqldb *db, const char *path, int form, const char *todo, struct err *err);
int sqldb_newer_form(const char *path, int64_t has, int form, const char *todo, struct err *err); /* that error */
/* Moves an unsound database (with -wal and -shm) to PATH.broken-TIME. */
int sqldb_move_aside(const char *path, struct err *err);

#endif

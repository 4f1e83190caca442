/* SPDX-License-Identifier: MIT
 * sqldb.c: SQLite behind our errors.
 * Invariants: (1) every call that may touch the disk asserts that no lock is held; (2) a statement
 * is on its database's list until finalized, and closing finalizes the rest; (3) a failed bind is
 * out of memory or a bug and aborts, so only steps have errors. */
#include "base/sqldb.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/date.h"
#include "base/lock.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUSY_MS 5000
#define BUSY_SLICE_MS 2      /* between two tries while another has the database */
#define PROGRESS_STEPS 20000 /* of SQLite's machine between two looks at the op */

struct sqldb {
    sqlite3 *lite;
    struct sqlstmt *statements;
    struct op *op; /* of sqldb_set_op */
    bool relaxed; /* of sqldb_set_durable */
};

struct sqlstmt {
    sqlite3_stmt *lite;
    struct sqldb *db;
    const char *kept; /* sqldb_kept's literal */
    struct sqlstmt *next, **at; /* *at == this */
};

static int io_errno(sqlite3 *lite)
{
    int e = sqlite3_system_errno(lite);
    return e == ENOSPC || e == EDQUOT || e == EROFS || e == EACCES ? e : EIO;
}

static int open_errno(sqlite3 *lite)
{
    int e = sqlite3_system_errno(lite);
    return e > 0 ? e : EIO;
}

static int errno_of(sqlite3 *lite, int code)
{
    switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
        return EUCLEAN;
    case SQLITE_FULL:
        return ENOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return EBUSY;
    case SQLITE_CONSTRAINT:
        return EEXIST;
    case SQLITE_IOERR:
        return io_errno(lite);
    case SQLITE_CANTOPEN:
        return open_errno(lite);
    case SQLITE_READONLY:
        return EROFS;
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return EACCES;
    case SQLITE_NOMEM:
        return ENOMEM;
    case SQLITE_TOOBIG:
        return E2BIG;
    case SQLITE_INTERRUPT:
        return EINTR;
    case SQLITE_ERROR: /* the SQL itself, or a table that is not there */
    case SQLITE_MISMATCH:
    case SQLITE_RANGE:
        return EINVAL;
    default:
        return EIO;
    }
}

static int lite_error(sqlite3 *lite, int code, struct err *err)
{
    int r = err_set(err, errno_of(lite, code), "SQLite: %s", sqlite3_errmsg(lite));
    if (err)
        err->status = code;
    return r;
}

int sqldb_open(const char *path, enum sqldb_mode mode, struct err *err, struct sqldb **ret)
{
    lock_assert_none_held();
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    flags |=
        mode == SQLDB_READONLY ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    struct sqldb *db = xcalloc(1, sizeof(*db));
    int code = sqlite3_open_v2(path, &db->lite, flags, NULL);
    int r = 0;
    if (code != SQLITE_OK) {
        r = db->lite ? lite_error(db->lite, code, err) : err_set(err, ENOMEM, "out of memory");
    } else {
        sqlite3_busy_timeout(db->lite, BUSY_MS);
        if (mode == SQLDB_READONLY)
            r = sqldb_exec(db, err, "SELECT count(*) FROM sqlite_schema");
        else
            r = sqldb_exec(db, err,
                           mode == SQLDB_WAL_FULL
                               ? "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL"
                               : "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL");
    }
    if (r < 0) {
        err_prefix(err, "%s", path);
        sqldb_close(db);
        return r;
    }
    *ret = db;
    return 0;
}

int sqldb_newer_form(const char *path, int64_t has, int form, const char *todo, struct err *err)
{
    return err_set(err, ENOTSUP, "%s was written by a newer quayfs: it has form %lld, this program knows forms up to "
                                 "%d and does not touch it. %s", path, (long long)has, form, todo);
}

int sqldb_claim_form(struct sqldb *db, const char *path, int form, const char *todo, struct err *err)
{
    struct sqlstmt *st = NULL;
    char set[40];
    int r = sqldb_prepare(db, "PRAGMA user_version", err, &st);
    if (r < 0)
        return r;
    r = sqldb_step(st, err);
    int64_t has = r == 1 ? sqldb_i64(st, 0) : 0;
    sqldb_finalize(st);
    if (r < 0 || has == form)
        return r < 0 ? r : 0;
    if (has > form)
        return sqldb_newer_form(path, has, form, todo, err);
    snprintf(set, sizeof(set), "PRAGMA user_version = %d", form);
    return sqldb_exec(db, err, set);
}

static int on_progress(void *arg)
{
    struct sqldb *db = arg;
    return db->op && op_check(db->op) < 0;
}

static int on_busy(void *arg, int tries)
{
    struct sqldb *db = arg;
    if ((db->op && op_check(db->op) < 0) || tries > BUSY_MS / BUSY_SLICE_MS)
        return 0;
    clock_sleep_ms(BUSY_SLICE_MS);
    return 1;
}

void sqldb_set_op(struct sqldb *db, struct op *op)
{
    db->op = op;
    sqlite3_busy_handler(db->lite, on_busy, db);
    sqlite3_progress_handler(db->lite, op ? PROGRESS_STEPS : 0, on_progress, db);
}

void sqldb_close(struct sqldb *db)
{
    if (!db)
        return;
    lock_assert_none_held();
    while (db->statements)
        sqldb_finalize(db->statements);
    if (sqlite3_close(db->lite) != SQLITE_OK) {
        fprintf(stderr, "SQLite: a database is closed while in use\n");
        abort();
    }
    free(db);
}

int sqldb_exec(struct sqldb *db, struct err *err, const char *sql)
{
    lock_assert_none_held();
    int code = sqlite3_exec(db->lite, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : lite_error(db->lite, code, err);
}

int sqldb_set_durable(struct sqldb *db, bool durable, struct err *err)
{
    if (db->relaxed == !durable)
        return 0;
    int r = sqldb_exec(db, err, durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
    if (r == 0)
        db->relaxed = !durable;
    return r;
}

int sqldb_prepare(struct sqldb *db, const char *sql, struct err *err, struct sqlstmt **ret)
{
    lock_assert_none_held();
    sqlite3_stmt *lite = NULL;
    int code = sqlite3_prepare_v3(db->lite, sql, -1, SQLITE_PREPARE_PERSISTENT, &lite, NULL);
    if (code != SQLITE_OK)
        return lite_error(db->lite, code, err);
    if (!lite)
        return err_set(err, EINVAL, "SQLite: an empty statement");
    struct sqlstmt *st = xcalloc(1, sizeof(*st));
    st->lite = lite;
    st->db = db;
    st->next = db->statements;
    st->at = &db->statements;
    if (st->next)
        st->next->at = &st->next;
    db->statements = st;
    *ret = st;
    return 0;
}

int sqldb_kept(struct sqldb *db, const char *sql, struct err *err, struct sqlstmt **ret)
{
    for (struct sqlstmt *st = db->statements; st; st = st->next)
        if (st->kept == sql) {
            *ret = st;
            return 0;
        }
    int r = sqldb_prepare(db, sql, err, ret);
    if (r == 0)
        (*ret)->kept = sql;
    return r;
}

void sqldb_finalize(struct sqlstmt *st)
{
    if (!st)
        return;
    sqlite3_finalize(st->lite);
    *st->at = st->next;
    if (st->next)
        st->next->at = st->at;
    free(st);
}

static void must_bind(int code)
{
    if (code == SQLITE_OK)
        return;
    fprintf(stderr, "SQLite: binding failed: %s\n", sqlite3_errstr(code));
    abort();
}

void sqldb_bind_text(struct sqlstmt *st, int i, const char *s)
{
    must_bind(s ? sqlite3_bind_text(st->lite, i, s, -1, SQLITE_TRANSIENT)
                : sqlite3_bind_null(st->lite, i));
}

void sqldb_bind_blob(struct sqlstmt *st, int i, const void *p, size_t n)
{
    must_bind(sqlite3_bind_blob64(st->lite, i, n ? p : "", n, SQLITE_TRANSIENT));
}

void sqldb_bind_i64(struct sqlstmt *st, int i, int64_t v)
{
    must_bind(sqlite3_bind_int64(st->lite, i, v));
}

int sqldb_step(struct sqlstmt *st, struct err *err)
{
    lock_assert_none_held();
    int code = sqlite3_step(st->lite);
    if (code == SQLITE_ROW)
        return 1;
    return code == SQLITE_DONE ? 0 : lite_error(st->db->lite, code, err);
}

void sqldb_reset(struct sqlstmt *st)
{
    sqlite3_reset(st->lite);
    sqlite3_clear_bindings(st->lite);
}

int sqldb_run(struct sqlstmt *st, struct err *err)
{
    int r;
    do
        r = sqldb_step(st, err);
    while (r == 1);
    sqldb_reset(st);
    return r;
}

enum sqldb_type sqldb_type(struct sqlstmt *st, int col)
{
    switch (sqlite3_column_type(st->lite, col)) {
    case SQLITE_INTEGER:
        return SQLDB_INT;
    case SQLITE_TEXT:
        return SQLDB_TEXT;
    case SQLITE_BLOB:
        return SQLDB_BLOB;
    case SQLITE_FLOAT:
        return SQLDB_REAL;
    default:
        return SQLDB_NULL;
    }
}

int sqldb_columns(struct sqlstmt *st)
{
    return sqlite3_column_count(st->lite);
}

int64_t sqldb_i64(struct sqlstmt *st, int col)
{
    return sqlite3_column_int64(st->lite, col);
}

const char *sqldb_text(struct sqlstmt *st, int col)
{
    const unsigned char *s = sqlite3_column_text(st->lite, col);
    return s ? (const char *)s : "";
}

const void *sqldb_blob(struct sqlstmt *st, int col, size_t *ret_n)
{
    const void *p = sqlite3_column_blob(st->lite, col);
    *ret_n = (size_t)sqlite3_column_bytes(st->lite, col);
    return p;
}

int64_t sqldb_last_id(struct sqldb *db)
{
    return sqlite3_last_insert_rowid(db->lite);
}

int64_t sqldb_changes(struct sqldb *db)
{
    return sqlite3_changes64(db->lite);
}

int sqldb_begin(struct sqldb *db, struct err *err)
{
    return sqldb_exec(db, err, "BEGIN IMMEDIATE");
}

int sqldb_commit(struct sqldb *db, struct err *err)
{
    return sqldb_exec(db, err, "COMMIT");
}

void sqldb_rollback(struct sqldb *db)
{
    if (!sqlite3_get_autocommit(db->lite)) /* some errors have rolled back already */
        (void)sqldb_exec(db, NULL, "ROLLBACK");
}

static int move_one(const char *path, const char *to, const char *suffix)
{
    char *a = xasprintf("%s%s", path, suffix), *b = xasprintf("%s%s", to, suffix);
    int r = sys_renameat(AT_FDCWD, a, AT_FDCWD, b, 0);
    free(a);
    free(b);
    return r == -ENOENT ? 0 : r;
}

/* The log goes first: left behind it would be replayed into the new database of that name. */
int sqldb_move_aside(const char *path, struct err *err)
{
    char when[17];
    date_format_amz(clock_wall().tv_sec, when);
    char *to = xasprintf("%s.broken-%s", path, when);
    for (unsigned n = 2; n < 100; n++) {
        struct stat st;
        if (lstat(to, &st) != 0)
            break;
        free(to);
        to = xasprintf("%s.broken-%s-%u", path, when, n);
    }
    int r = move_one(path, to, "-wal");
    if (r == 0)
        r = move_one(path, to, "-shm");
    if (r == 0)
        r = move_one(path, to, "");
    if (r < 0)
        err_set(err, -r, "cannot move %s to %s: %s", path, to, strerror(-r));
    free(to);
    return r;
}

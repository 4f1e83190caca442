/* SPDX-License-Identifier: MIT
 * db_sqlite.c: the sqlite driver: connecting, transactions, describing.
 *
 * One transaction is one BEGIN IMMEDIATE: writers queue up on it for at most BUSY_WAIT, then the
 * error is transient. Journal mode and synchronous stay as the file has them. Foreign keys are
 * enforced. The file must be on a local disk: SQLite's locks and -shm do not work on a quayfs
 * mount. */
#include "loader/db_sqlite.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/settings.h"
#include "loader/drivers.h"
#include "loader/sqltext.h"

#include <strings.h>
#include <unistd.h>

#define BUSY_WAIT_S 30
#define CACHE_PRAGMA "PRAGMA cache_size = -16384" /* KiB: part of transfer_bound() */

static const struct sql_dialect dialect = {
    .name = "sqlite",
    .param = '?',
    .type_names = {[DB_BOOLEAN] = "BOOLEAN",
                   [DB_INTEGER] = "INTEGER",
                   [DB_DOUBLE] = "REAL",
                   [DB_NUMERIC] = "TEXT", /* SQLite's NUMERIC is a double */
                   [DB_DATE] = "DATE",
                   [DB_TIMESTAMP] = "TIMESTAMP",
                   [DB_TIMESTAMPTZ] = "TIMESTAMP",
                   [DB_TEXT] = "TEXT",
                   [DB_JSON] = "TEXT",
                   [DB_BYTES] = "BLOB",
                   [DB_OTHER] = "TEXT"},
    .empty_table = "DELETE FROM ",
};

static int sqlite_open(const struct conf_section *section, struct err *err, struct database **ret)
{
    static const char *const foreign[] = {"host", "port", "dbname", "user", "password"};
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE char *dsn = NULL;

    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        if (conf_has(section, foreign[i]))
            return conf_error(section, foreign[i], err, EINVAL,
                              "'%s' is for database servers: sqlite takes path = FILE", foreign[i]);
    }
    int r = conf_secret(section, "dsn", err, &dsn);
    if (r < 0 && r != -ENOENT)
        return r;
    if (conf_has(section, "path"))
        path = xstrdup(conf_str(section, "path", ""));
    else if (r == 0)
        path = xstrdup(strncmp(dsn, "sqlite:///", 10) == 0 ? dsn + 10 : dsn);
    if (!path || !*path)
        return conf_error(section, NULL, err, EINVAL, "[database %s] needs path = FILE",
                          section->name);
    struct db_sqlite *d = xcalloc(1, sizeof(*d));
    d->base.cls = &db_sqlite_class;
    d->base.caps = DB_ROW_ERRORS | DB_UPSERT;
    d->path = take_ptr(&path);
    d->schema = xstrdup(conf_str(section, "schema", "main"));
    d->init = xstrdup(conf_str(section, "init", ""));
    *ret = &d->base;
    return 0;
}

static void disconnect(struct db_sqlite *d)
{
    db_sqlite_load_abort(&d->base);
    db_sqlite_dump_end(&d->base);
    (void)sqlite3_close_v2(d->handle);
    d->handle = NULL;
    d->base.connected = false;
}

static void sqlite_close(struct database *db)
{
    struct db_sqlite *d = db_sqlite_of(db);

    disconnect(d);
    free(d->path);
    free(d->schema);
    free(d->init);
    free(d);
}

static const char *constraint_name(int code)
{
    switch (code) {
    case SQLITE_CONSTRAINT_UNIQUE:
        return "SQLITE_CONSTRAINT_UNIQUE";
    case SQLITE_CONSTRAINT_PRIMARYKEY:
        return "SQLITE_CONSTRAINT_PRIMARYKEY";
    case SQLITE_CONSTRAINT_NOTNULL:
        return "SQLITE_CONSTRAINT_NOTNULL";
    case SQLITE_CONSTRAINT_CHECK:
        return "SQLITE_CONSTRAINT_CHECK";
    case SQLITE_CONSTRAINT_FOREIGNKEY:
        return "SQLITE_CONSTRAINT_FOREIGNKEY";
    case SQLITE_CONSTRAINT_TRIGGER:
        return "SQLITE_CONSTRAINT_TRIGGER";
    case SQLITE_CONSTRAINT_DATATYPE:
        return "SQLITE_CONSTRAINT_DATATYPE";
    default:
        return "SQLITE_CONSTRAINT";
    }
}

static const struct {
    int code;
    int number; /* errno */
    enum err_retry retry;
    int status; /* rc class */
    const char *name;
} failures[] = {
    {SQLITE_BUSY, EAGAIN, ERR_RETRY_SAFE, 1, "SQLITE_BUSY"},
    {SQLITE_LOCKED, EAGAIN, ERR_RETRY_SAFE, 1, "SQLITE_LOCKED"},
    {SQLITE_CONSTRAINT, EBADMSG, ERR_RETRY_NEVER, 1, NULL},
    {SQLITE_MISMATCH, EBADMSG, ERR_RETRY_NEVER, 1, "SQLITE_MISMATCH"},
    {SQLITE_TOOBIG, EBADMSG, ERR_RETRY_NEVER, 1, "SQLITE_TOOBIG"},
    {SQLITE_FULL, ENOSPC, ERR_RETRY_NEVER, 1, "SQLITE_FULL"},
    {SQLITE_IOERR, EIO, ERR_RETRY_NEVER, 1, "SQLITE_IOERR"},
    {SQLITE_CORRUPT, EUCLEAN, ERR_RETRY_NEVER, 1, "SQLITE_CORRUPT"},
    {SQLITE_NOTADB, EUCLEAN, ERR_RETRY_NEVER, 2, "SQLITE_NOTADB"},
    {SQLITE_CANTOPEN, EACCES, ERR_RETRY_NEVER, 2, "SQLITE_CANTOPEN"},
    {SQLITE_PERM, EACCES, ERR_RETRY_NEVER, 2, "SQLITE_PERM"},
    {SQLITE_READONLY, EROFS, ERR_RETRY_NEVER, 2, "SQLITE_READONLY"},
    {SQLITE_AUTH, EACCES, ERR_RETRY_NEVER, 2, "SQLITE_AUTH"},
    {SQLITE_NOMEM, ENOMEM, ERR_RETRY_NEVER, 1, "SQLITE_NOMEM"},
};

int db_sqlite_fail(struct db_sqlite *d, struct op *op, const char *what)
{
    int code = d->handle ? sqlite3_extended_errcode(d->handle) : SQLITE_NOMEM;
    const char *text = d->handle ? sqlite3_errmsg(d->handle) : "out of memory";
    int r;

    if ((code & 0xFF) == SQLITE_INTERRUPT) {
        r = op_check(op);
        return r < 0 ? r : err_set(&op->err, EINTR, "%s: cancelled", what);
    }
    for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
        if (failures[i].code != (code & 0xFF))
            continue;
        r = err_set(&op->err, failures[i].number, "%s%s%s", what, *what ? ": " : "", text);
        op->err.retry = failures[i].retry;
        op->err.status = failures[i].status;
        (void)snprintf(op->err.remote, sizeof(op->err.remote), "%s",
                       failures[i].name ? failures[i].name : constraint_name(code));
        if (r == -EBADMSG) {
            const char *dot = strrchr(text, '.');
            d->base.bad = (struct db_bad_row){0};
            if (dot && strncmp(text, "NOT NULL", 8) == 0)
                (void)snprintf(d->base.bad.column, sizeof(d->base.bad.column), "%s", dot + 1);
        }
        return r;
    }
    bool missing = strncmp(text, "no such table", 13) == 0;
    r = err_set(&op->err, missing ? ENOENT : EINVAL, "%s%s%s", what, *what ? ": " : "", text);
    op->err.status = 1;
    (void)snprintf(op->err.remote, sizeof(op->err.remote), "SQLITE_ERROR");
    return r;
}

/* Every few thousand steps of SQLite's machine: non-zero interrupts. */
static int on_progress(void *arg)
{
    struct db_sqlite *d = arg;

    return d->op && (atomic_load(&d->op->cancelled) ||
                     (d->op->deadline_ns && clock_now_ns() >= d->op->deadline_ns));
}

/* Somebody else writes: 0 gives up. */
static int on_busy(void *arg, int times)
{
    struct db_sqlite *d = arg;

    if (times == 0)
        d->busy_until_ns = clock_now_ns() + BUSY_WAIT_S * NS_PER_S;
    if (on_progress(arg) || clock_now_ns() >= d->busy_until_ns)
        return 0;
    clock_sleep_ms(times < 10 ? 2 : 20);
    return 1;
}

static int run(struct db_sqlite *d, struct op *op, const char *sql)
{
    d->op = op;
    int code = sqlite3_exec(d->handle, sql, NULL, NULL, NULL);
    d->op = NULL;
    if (code == SQLITE_BUSY && op_check(op) < 0)
        return op_check(op);
    return code == SQLITE_OK ? 0 : db_sqlite_fail(d, op, d->path);
}

static bool is_absent(const struct db_sqlite *d)
{
    return !d->handle && strcmp(d->path, ":memory:") != 0 && access(d->path, F_OK) != 0;
}

/* Opens the file, making it when it is not there. */
static int ensure_open(struct db_sqlite *d, struct op *op)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;

    if (d->handle)
        return 0;
    if (sqlite3_open_v2(d->path, &d->handle, flags, NULL) != SQLITE_OK) {
        int r = db_sqlite_fail(d, op, d->path);
        disconnect(d);
        return r;
    }
    (void)sqlite3_extended_result_codes(d->handle, 1);
    sqlite3_progress_handler(d->handle, 20000, on_progress, d);
    (void)sqlite3_busy_handler(d->handle, on_busy, d);
    int r = run(d, op, "PRAGMA foreign_keys = ON; " CACHE_PRAGMA);
    if (r == 0 && *d->init)
        r = run(d, op, d->init);
    if (r < 0)
        disconnect(d);
    return r;
}

/* A file that is not there is made by the first write, not by looking or by an export. */
static int sqlite_connect(struct database *db, struct op *op)
{
    struct db_sqlite *d = db_sqlite_of(db);

    return is_absent(d) ? 0 : ensure_open(d, op);
}

static int sqlite_begin(struct database *db, struct op *op, enum db_begin how)
{
    struct db_sqlite *d = db_sqlite_of(db);

    if (how == DB_BEGIN_SNAPSHOT && is_absent(d)) {
        int r = err_set(&op->err, ENOENT, "database file %s does not exist", d->path);
        op->err.status = 2;
        return r;
    }
    int r = ensure_open(d, op);
    return r < 0 ? r : run(d, op, how == DB_BEGIN_WRITE ? "BEGIN IMMEDIATE" : "BEGIN");
}

static int sqlite_commit(struct database *db, struct op *op)
{
    return run(db_sqlite_of(db), op, "COMMIT");
}

static void sqlite_abort(struct database *db)
{
    struct db_sqlite *d = db_sqlite_of(db);

    if (!sqlite3_get_autocommit(d->handle) &&
        sqlite3_exec(d->handle, "ROLLBACK", NULL, NULL, NULL) != SQLITE_OK)
        disconnect(d);
}

static void add_row(struct db_rows *rows, sqlite3_stmt *stmt)
{
    rows->n_columns = (size_t)sqlite3_column_count(stmt);
    rows->v = xrealloc(rows->v, (rows->n + 1) * sizeof(*rows->v));
    char **row = xcalloc(rows->n_columns, sizeof(*row));
    for (size_t i = 0; i < rows->n_columns; i++) {
        const char *text = (const char *)sqlite3_column_text(stmt, (int)i);
        row[i] = text ? xstrdup(text) : NULL;
    }
    rows->v[rows->n++] = row;
}

static int sqlite_exec(struct database *db, struct op *op, const char *sql,
                       const char *const *params, size_t n_params, struct db_rows *ret)
{
    struct db_sqlite *d = db_sqlite_of(db);
    struct db_rows rows = DB_ROWS_INIT;
    sqlite3_stmt *stmt = NULL;
    int code, r = ensure_open(d, op);

    if (r < 0)
        return r;
    d->op = op;
    code = sqlite3_prepare_v2(d->handle, sql, -1, &stmt, NULL);
    for (size_t i = 0; code == SQLITE_OK && i < n_params; i++)
        code = sqlite3_bind_text(stmt, (int)i + 1, params[i], -1, SQLITE_STATIC);
    if (code == SQLITE_OK) {
        while ((code = sqlite3_step(stmt)) == SQLITE_ROW)
            add_row(&rows, stmt);
    }
    rows.affected = (uint64_t)sqlite3_changes64(d->handle);
    if (code != SQLITE_DONE)
        r = db_sqlite_fail(d, op, "");
    (void)sqlite3_finalize(stmt);
    d->op = NULL;
    if (r == 0 && ret)
        *ret = rows;
    else
        db_rows_done(&rows);
    return r;
}

static void describe_column(struct db_table *t, char *const *row, bool one_key)
{
    enum { NAME, TYPE, NOT_NULL, DEFAULT, KEY, HIDDEN };

    if (strcmp(row[HIDDEN], "1") == 0)
        return;
    const char *declared = row[TYPE] ? row[TYPE] : "";
    struct db_column *c = db_table_add(t, row[NAME], db_sqlite_type(declared));
    bool rowid = one_key && strcmp(row[KEY], "1") == 0 && strcasecmp(declared, "INTEGER") == 0;
    c->declared = xstrdup(declared);
    c->not_null = strcmp(row[NOT_NULL], "0") != 0 && !rowid;
    c->has_default = row[DEFAULT] || rowid;
    c->generated = strcmp(row[HIDDEN], "0") != 0;
}

static int sqlite_describe(struct database *db, struct op *op, const char *table,
                           struct db_table *ret)
{
    struct db_sqlite *d = db_sqlite_of(db);
    CLEANUP_DB_ROWS struct db_rows names = DB_ROWS_INIT;
    CLEANUP_DB_ROWS struct db_rows rows = DB_ROWS_INIT;
    CLEANUP_FREE char *schema = NULL;
    CLEANUP_FREE char *name = NULL;
    int r = sql_split_table(table, &op->err, &schema, &name);

    if (r < 0)
        return r;
    const char *params[] = {name, schema ? schema : d->schema};
    if (!is_absent(d))
        r = sqlite_exec(db, op,
                        "SELECT name, schema FROM pragma_table_list"
                        " WHERE lower(name) = lower(?1) AND lower(schema) = lower(?2)",
                        params, 2, &names);
    if (r == 0 && names.n)
        r = sqlite_exec(db, op,
                        "SELECT name, type, \"notnull\", dflt_value, pk, hidden"
                        " FROM pragma_table_xinfo(?1, ?2)",
                        params, 2, &rows);
    if (r < 0)
        return r;
    size_t keys = 0;
    for (size_t i = 0; i < rows.n; i++)
        keys += strcmp(rows.v[i][4], "0") != 0;
    for (size_t i = 0; i < rows.n; i++)
        describe_column(ret, rows.v[i], keys == 1);
    ret->exists = names.n > 0;
    ret->name = xstrdup(names.n ? names.v[0][0] : name);
    ret->schema = xstrdup(names.n ? names.v[0][1] : params[1]);
    return 0;
}

static void sqlite_cancel(struct database *db)
{
    struct db_sqlite *d = db_sqlite_of(db);

    if (d->handle)
        sqlite3_interrupt(d->handle);
}

static int sqlite_probe(struct database *db, struct op *op, char **ret_text)
{
    CLEANUP_DB_ROWS struct db_rows rows = DB_ROWS_INIT;
    bool absent = is_absent(db_sqlite_of(db));
    int r = absent ? 0 : sqlite_exec(db, op, "SELECT count(*) FROM sqlite_schema", NULL, 0, &rows);

    if (r == 0)
        *ret_text = xasprintf("SQLite %s, %s%s", sqlite3_libversion(), db_sqlite_of(db)->path,
                              absent ? " (not there yet)" : "");
    return r;
}

const struct database_class db_sqlite_class = {
    .abi = DATABASE_ABI,
    .name = "sqlite",
    .summary = "an SQLite file on a local disk",
    .dialect = &dialect,
    .open = sqlite_open,
    .close = sqlite_close,
    .connect = sqlite_connect,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .abort = sqlite_abort,
    .exec = sqlite_exec,
    .describe = sqlite_describe,
    .load_begin = db_sqlite_load_begin,
    .load_row = db_sqlite_load_row,
    .load_end = db_sqlite_load_end,
    .load_abort = db_sqlite_load_abort,
    .dump_begin = db_sqlite_dump_begin,
    .dump_row = db_sqlite_dump_row,
    .dump_end = db_sqlite_dump_end,
    .cancel = sqlite_cancel,
    .probe = sqlite_probe,
};

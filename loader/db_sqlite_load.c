/* SPDX-License-Identifier: MIT
 * db_sqlite_load.c: the sqlite driver: rows in and out.
 *
 * In: one prepared INSERT; a refused row undoes itself only (SQLite's statement rollback), so the
 * load goes on (DB_ROW_ERRORS). Values are checked against the column's type here, as SQLite would
 * store '12abc' in an INTEGER column without a word. */
#include "loader/db_sqlite.h"

#include "base/cleanup.h"
#include "loader/sqltext.h"

int db_sqlite_load_begin(struct database *db, struct op *op, const struct db_load *spec)
{
    struct db_sqlite *d = db_sqlite_of(db);
    CLEANUP_BUF struct buf sql = BUF_INIT;

    sql_insert(&sql, db->cls->dialect, spec);
    if (sqlite3_prepare_v3(d->handle, sql.data, -1, SQLITE_PREPARE_PERSISTENT, &d->load.stmt,
                           NULL) != SQLITE_OK)
        return db_sqlite_fail(d, op, spec->table->name);
    d->load.n = spec->n_columns;
    d->load.columns = xcalloc(d->load.n, sizeof(struct db_column *));
    for (size_t i = 0; i < d->load.n; i++)
        d->load.columns[i] = spec->columns[i];
    d->load.rows = 0;
    return 0;
}

static int refuse_value(struct db_sqlite *d, struct op *op, const struct db_column *c,
                        const struct cell *cell, const char *why)
{
    d->base.bad = (struct db_bad_row){.type = true};
    (void)snprintf(d->base.bad.column, sizeof(d->base.bad.column), "%s", c->name);
    int r = err_set(&op->err, EBADMSG, "column %s: '%.*s' %s (%s)", c->name,
                    cell->len > 100 ? 100 : (int)cell->len, cell->data, why, c->declared);
    (void)snprintf(op->err.remote, sizeof(op->err.remote), "SQLITE_MISMATCH");
    return r;
}

int db_sqlite_load_row(struct database *db, struct op *op, const struct cell *cells)
{
    struct db_sqlite *d = db_sqlite_of(db);
    const char *why = NULL;

    for (size_t i = 0; i < d->load.n; i++) {
        if (!db_sqlite_bind(d->load.stmt, (int)i + 1, d->load.columns[i], &cells[i], &why))
            return refuse_value(d, op, d->load.columns[i], &cells[i], why);
    }
    d->op = op;
    int code = sqlite3_step(d->load.stmt);
    d->op = NULL;
    if (code == SQLITE_DONE) {
        (void)sqlite3_reset(d->load.stmt);
        d->load.rows++;
        return 0;
    }
    int r = db_sqlite_fail(d, op, "");
    (void)sqlite3_reset(d->load.stmt);
    if (r == -EBADMSG && sqlite3_get_autocommit(d->handle)) {
        CLEANUP_FREE char *text = xstrdup(op->err.text);
        return err_set(&op->err, EINVAL, "the whole transaction was rolled back: %s", text);
    }
    return r;
}

int db_sqlite_load_end(struct database *db, struct op *op, uint64_t *ret_rows)
{
    struct db_sqlite *d = db_sqlite_of(db);

    (void)op;
    *ret_rows = d->load.rows;
    db_sqlite_load_abort(db);
    return 0;
}

void db_sqlite_load_abort(struct database *db)
{
    struct db_sqlite *d = db_sqlite_of(db);

    (void)sqlite3_finalize(d->load.stmt);
    d->load.stmt = NULL;
    free(d->load.columns);
    d->load.columns = NULL;
}

static int check_query(struct db_sqlite *d, struct op *op, const char *tail)
{
    if (!d->dump.stmt)
        return err_set(&op->err, EINVAL, "the query is empty");
    if (!sqlite3_stmt_readonly(d->dump.stmt) || sqlite3_column_count(d->dump.stmt) == 0)
        return err_set(&op->err, EINVAL, "the query must be a SELECT: exports only read");
    sqlite3_stmt *second = NULL;
    int code = tail && *tail ? sqlite3_prepare_v2(d->handle, tail, -1, &second, NULL) : SQLITE_OK;
    bool more = second || code != SQLITE_OK;
    (void)sqlite3_finalize(second);
    return more ? err_set(&op->err, EINVAL, "the query must be one statement") : 0;
}

static void dump_columns(struct db_sqlite *d, struct db_table *ret)
{
    d->dump.n = (size_t)sqlite3_column_count(d->dump.stmt);
    d->dump.cells = xcalloc(d->dump.n, sizeof(*d->dump.cells));
    d->dump.types = xcalloc(d->dump.n, sizeof(*d->dump.types));
    for (size_t i = 0; i < d->dump.n; i++) {
        const char *declared = sqlite3_column_decltype(d->dump.stmt, (int)i);
        d->dump.types[i] = db_sqlite_type(declared ? declared : "");
        struct db_column *c =
            db_table_add(ret, sqlite3_column_name(d->dump.stmt, (int)i), d->dump.types[i]);
        c->declared = xstrdup(declared ? declared : "");
    }
}

int db_sqlite_dump_begin(struct database *db, struct op *op, const struct db_dump *spec,
                         struct db_table *ret_columns)
{
    struct db_sqlite *d = db_sqlite_of(db);
    CLEANUP_BUF struct buf sql = BUF_INIT;
    CLEANUP_DB_TABLE struct db_table table = DB_TABLE_INIT;
    const char *tail = NULL;
    int r = 0;

    if (spec->table) {
        r = db->cls->describe(db, op, spec->table, &table);
        if (r == 0 && !table.exists)
            r = err_set(&op->err, ENOENT, "table %s does not exist", spec->table);
        if (r < 0)
            return r;
        sql_addf(&sql, db->cls->dialect, "SELECT * FROM %T", table.schema, table.name);
    } else {
        buf_adds(&sql, spec->query);
    }
    if (sqlite3_prepare_v2(d->handle, buf_str(&sql), -1, &d->dump.stmt, &tail) != SQLITE_OK)
        return db_sqlite_fail(d, op, "");
    r = check_query(d, op, tail);
    if (r < 0) {
        db_sqlite_dump_end(db);
        return r;
    }
    dump_columns(d, ret_columns);
    return 0;
}

int db_sqlite_dump_row(struct database *db, struct op *op, const struct cell **ret)
{
    struct db_sqlite *d = db_sqlite_of(db);
    size_t room = 0;

    d->op = op;
    int code = sqlite3_step(d->dump.stmt);
    d->op = NULL;
    if (code == SQLITE_DONE)
        return 0;
    if (code != SQLITE_ROW)
        return db_sqlite_fail(d, op, "");
    for (size_t i = 0; i < d->dump.n; i++) {
        bool blob = sqlite3_column_type(d->dump.stmt, (int)i) == SQLITE_BLOB;
        room +=
            blob ? 2 * (size_t)sqlite3_column_bytes(d->dump.stmt, (int)i) + 2 : DB_SQLITE_NUMBER;
    }
    buf_reset(&d->dump.text);
    (void)buf_reserve(&d->dump.text, room + 1);
    for (size_t i = 0; i < d->dump.n; i++)
        d->dump.cells[i] = db_sqlite_value(d->dump.stmt, (int)i, d->dump.types[i], &d->dump.text);
    *ret = d->dump.cells;
    return 1;
}

void db_sqlite_dump_end(struct database *db)
{
    struct db_sqlite *d = db_sqlite_of(db);

    (void)sqlite3_finalize(d->dump.stmt);
    free(d->dump.cells);
    free(d->dump.types);
    buf_done(&d->dump.text);
    memset(&d->dump, 0, sizeof(d->dump));
}

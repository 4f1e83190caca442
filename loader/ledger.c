/* SPDX-License-Identifier: MIT
 * ledger.c: see ledger.h. The statements are the same for all SQL drivers so far. */
#include "loader/ledger.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/date.h"
#include "loader/sqltext.h"

#include <errno.h>

static char *target_of(const struct db_table *t)
{
    return xasprintf("%s.%s", t->schema, t->name);
}

static int create(struct database *db, struct op *op, const struct db_table *table)
{
    const struct sql_dialect *d = db->cls->dialect;
    CLEANUP_BUF struct buf sql = BUF_INIT;
    const char *n = d->type_names[DB_INTEGER], *t = d->type_names[DB_TEXT];

    sql_addf(&sql, d, "CREATE TABLE IF NOT EXISTS %T (", table->schema, LEDGER_TABLE);
    buf_addf(&sql,
             "target %s NOT NULL, path %s NOT NULL, version %s NOT NULL, run %s NOT NULL,"
             " job %s NOT NULL, size %s, rows_read %s, rows_loaded %s, rows_rejected %s,"
             " loaded_at %s, UNIQUE (target, path, version))",
             t, t, t, t, t, n, n, n, n, d->type_names[DB_TIMESTAMPTZ]);
    return database_exec(db, op, sql.data, NULL, 0, NULL);
}

static const char *const columns[] = {"target", "path", "version", "run", "job", "size", "rows_read", "rows_loaded",
                                      "rows_rejected", "loaded_at"};

static bool is_ours(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(columns); i++)
        if (strcmp(columns[i], name) == 0)
            return true;
    return false;
}

static int refuse(struct op *op, const struct db_table *ledger, const char *column, const char *what)
{
    return err_set(&op->err, EPROTO, "the ledger table %s.%s %s column %s: it was made by another version of quayload. "
                                     "Use that one, or rename the table (then files that were loaded are loaded again)",
                   ledger->schema, ledger->name, what, column);
}

/* Can rows be read and written as this program does it? */
static int check_form(struct op *op, const struct db_table *ledger)
{
    for (size_t i = 0; i < ARRAY_LEN(columns); i++)
        if (!db_table_column(ledger, columns[i]))
            return refuse(op, ledger, columns[i], "has no");
    for (size_t i = 0; i < ledger->n_columns; i++) {
        const struct db_column *c = &ledger->columns[i];
        if (c->not_null && !c->has_default && !c->generated && !is_ours(c->name))
            return refuse(op, ledger, c->name, "wants a value for the unknown");
    }
    return 0;
}

static int exists(struct database *db, struct op *op, const struct db_table *table, bool *ret)
{
    CLEANUP_DB_TABLE struct db_table ledger = DB_TABLE_INIT;
    CLEANUP_BUF struct buf name = BUF_INIT;

    sql_addf(&name, db->cls->dialect, "%T", table->schema, LEDGER_TABLE);
    int r = database_describe(db, op, name.data, &ledger);
    *ret = r == 0 && ledger.exists;
    return *ret ? check_form(op, &ledger) : r;
}

int ledger_prepare(struct database *db, struct op *op, const struct db_table *table)
{
    bool there = false;
    int r = exists(db, op, table, &there);

    if (r < 0 || there)
        return r;
    bool nested = db->in_transaction;
    if (nested)
        r = database_savepoint(db, op, "quay_ledger");
    if (r == 0)
        r = create(db, op, table);
    if (r == 0)
        return nested ? database_release(db, op, "quay_ledger") : 0;
    /* Two at once: one of them fails on the catalog's unique key although it said IF NOT EXISTS. */
    struct err first = op->err;
    if (nested && database_rollback_to(db, op, "quay_ledger") < 0)
        return -op->err.code;
    r = exists(db, op, table, &there);
    if (r == 0 && !there) {
        op->err = first;
        return err_prefix(&op->err, "making the ledger table %s.%s", table->schema, LEDGER_TABLE);
    }
    return r;
}

/* Runs a statement about the ledger; %T is its table, params are the claim's. */
static int run(struct database *db, struct op *op, const struct ledger_claim *c, const char *fmt,
               const char *const *params, size_t n, struct db_rows *ret)
{
    CLEANUP_BUF struct buf sql = BUF_INIT;

    for (const char *p = fmt; *p; p++) {
        if (*p == '@')
            sql_addf(&sql, db->cls->dialect, "%T", c->table->schema, LEDGER_TABLE);
        else if (*p == '?')
            sql_addf(&sql, db->cls->dialect, "%P", *++p - '0');
        else
            buf_addc(&sql, *p);
    }
    return database_exec(db, op, sql.data, params, n, ret);
}

static int insert(struct database *db, struct op *op, const struct ledger_claim *c,
                  const char *target, uint64_t *ret_affected)
{
    CLEANUP_DB_ROWS struct db_rows rows = DB_ROWS_INIT;
    CLEANUP_FREE char *size = xasprintf("%llu", (unsigned long long)c->size);
    char now[32];

    date_format_iso(clock_wall(), now);
    const char *params[] = {target, c->path, c->version, c->run, c->job, size, now};
    int r =
        run(db, op, c,
            "INSERT INTO @ (target, path, version, run, job, size, loaded_at)"
            " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (target, path, version) DO NOTHING",
            params, 7, &rows);
    *ret_affected = rows.affected;
    return r;
}

static int forget(struct database *db, struct op *op, const struct ledger_claim *c,
                  const char *target)
{
    const char *params[] = {target, c->path, c->version};

    if (c->clear)
        return run(db, op, c, "DELETE FROM @ WHERE target = ?1", params, 1, NULL);
    if (c->force)
        return run(db, op, c, "DELETE FROM @ WHERE target = ?1 AND path = ?2 AND version = ?3",
                   params, 3, NULL);
    return 0;
}

/* Other versions of the path that were loaded. */
static int find_before(struct database *db, struct op *op, const struct ledger_claim *c,
                       const char *target, char **ret)
{
    CLEANUP_DB_ROWS struct db_rows rows = DB_ROWS_INIT;
    const char *params[] = {target, c->path, c->version};
    int r = run(db, op, c,
                "SELECT version, run, loaded_at FROM @ WHERE target = ?1 AND path = ?2"
                " AND version <> ?3 ORDER BY loaded_at DESC LIMIT 1",
                params, 3, &rows);

    if (r == 0 && rows.n)
        *ret = xasprintf("version %s by run %s at %s", rows.v[0][0], rows.v[0][1],
                         rows.v[0][2] ? rows.v[0][2] : "an unknown time");
    return r;
}

int ledger_claim(struct database *db, struct op *op, const struct ledger_claim *c,
                 enum ledger_found *ret, char **ret_before)
{
    CLEANUP_FREE char *target = target_of(c->table);
    CLEANUP_FREE char *before = NULL;
    uint64_t inserted = 0;
    int r = 0;

    /* A row that another transaction inserts meanwhile is not seen by our DELETE, but our INSERT
     * waits for it: then once more. */
    for (int round = 0; round < 5 && r == 0 && inserted == 0; round++) {
        r = forget(db, op, c, target);
        if (r == 0)
            r = insert(db, op, c, target, &inserted);
        if (!c->clear && !c->force)
            break;
    }
    if (r == 0 && inserted)
        r = find_before(db, op, c, target, &before);
    if (r < 0)
        return r;
    *ret = !inserted ? LEDGER_LOADED : before ? LEDGER_CHANGED : LEDGER_NEW;
    *ret_before = take_ptr(&before);
    return 0;
}

int ledger_finish(struct database *db, struct op *op, const struct ledger_claim *c,
                  const struct ledger_counts *n)
{
    CLEANUP_DB_ROWS struct db_rows rows = DB_ROWS_INIT;
    CLEANUP_FREE char *target = target_of(c->table);
    CLEANUP_FREE char *read = xasprintf("%llu", (unsigned long long)n->rows_read);
    CLEANUP_FREE char *loaded = xasprintf("%llu", (unsigned long long)n->rows_loaded);
    CLEANUP_FREE char *rejected = xasprintf("%llu", (unsigned long long)n->rows_rejected);
    const char *params[] = {target, c->path, c->version, read, loaded, rejected};
    int r = run(db, op, c,
                "UPDATE @ SET rows_read = ?4, rows_loaded = ?5, rows_rejected = ?6"
                " WHERE target = ?1 AND path = ?2 AND version = ?3",
                params, 6, &rows);

    if (r == 0 && rows.affected != 1)
        return err_set(&op->err, EIO,
                       "the ledger row of %s is gone: did a trigger or somebody else "
                       "change " LEDGER_TABLE "?",
                       c->path);
    return r;
}

int ledger_settle(struct database *db, struct op *op, const struct ledger_claim *c, bool *ret_done)
{
    CLEANUP_DB_ROWS struct db_rows rows = DB_ROWS_INIT;
    CLEANUP_FREE char *target = target_of(c->table);
    uint64_t inserted = 0;
    int r = database_begin(db, op, DB_BEGIN_WRITE);

    if (r < 0)
        return r;
    r = insert(db, op, c, target, &inserted);
    if (r == 0 && !inserted) {
        const char *params[] = {target, c->path, c->version, c->run};
        r = run(db, op, c,
                "SELECT run FROM @ WHERE target = ?1 AND path = ?2 AND version = ?3 AND run = ?4",
                params, 4, &rows);
    }
    struct err kept = op->err;
    database_abort(db);
    op->err = kept;
    if (r == 0)
        *ret_done = rows.n > 0;
    return r;
}

/* SPDX-License-Identifier: MIT
 * db_postgres_dump.c: the postgres driver: rows out, by COPY (query) TO STDOUT: one message a row,
 * so memory is bounded by the longest row. */
#include "loader/db_postgres.h"

#include "base/cleanup.h"
#include "loader/sqltext.h"

/* The user's query without the semicolon that COPY (...) does not want. */
static char *trim_query(const char *query)
{
    size_t len = strlen(query);

    while (len && strchr(" \t\r\n;", query[len - 1]))
        len--;
    return xstrndup(query, len);
}

static int describe_query(struct db_postgres *d, struct op *op, const char *sql,
                          struct db_table *ret)
{
    PGresult *res = NULL, *more = NULL;

    if (!PQsendPrepare(d->conn, "", sql, 0, NULL))
        return pg_lost(d, op);
    int r = pg_result(d, op, &res);
    while (r == 0 && (r = pg_result(d, op, &more)) == 0 && more)
        PQclear(more);
    if (r == 0 && res && PQresultStatus(res) == PGRES_FATAL_ERROR)
        r = pg_result_error(d, op, res);
    PQclear(res);
    res = NULL;
    if (r == 0 && !PQsendDescribePrepared(d->conn, ""))
        r = pg_lost(d, op);
    if (r == 0)
        r = pg_result(d, op, &res);
    while (r == 0 && (r = pg_result(d, op, &more)) == 0 && more)
        PQclear(more);
    if (r == 0 && res && PQresultStatus(res) == PGRES_FATAL_ERROR)
        r = pg_result_error(d, op, res);
    for (int i = 0; r == 0 && res && i < PQnfields(res); i++) {
        struct db_column *c = db_table_add(ret, PQfname(res, i), pg_type_of_oid(PQftype(res, i)));
        c->declared = xstrdup("");
    }
    PQclear(res);
    if (r == 0 && ret->n_columns == 0)
        r = err_set(&op->err, EINVAL, "the query gives no columns: exports are made of a SELECT");
    return r;
}

static int table_query(struct db_postgres *d, struct op *op, const char *table, struct buf *sql)
{
    CLEANUP_DB_TABLE struct db_table t = DB_TABLE_INIT;
    int r = d->base.cls->describe(&d->base, op, table, &t);

    if (r == 0 && !t.exists)
        r = err_set(&op->err, ENOENT, "table %s does not exist", table);
    if (r == 0)
        sql_addf(sql, d->base.cls->dialect, "SELECT * FROM %T", t.schema, t.name);
    return r;
}

int pg_dump_begin(struct database *db, struct op *op, const struct db_dump *spec,
                  struct db_table *ret_columns)
{
    struct db_postgres *d = db_postgres_of(db);
    CLEANUP_BUF struct buf query = BUF_INIT;
    CLEANUP_BUF struct buf copy = BUF_INIT;
    CLEANUP_FREE char *trimmed = spec->query ? trim_query(spec->query) : NULL;
    CLEANUP_DB_TABLE struct db_table columns = DB_TABLE_INIT;
    PGresult *res = NULL;
    int r = 0;

    if (spec->table)
        r = table_query(d, op, spec->table, &query);
    else
        buf_adds(&query, trimmed);
    if (r == 0)
        r = describe_query(d, op, buf_str(&query), &columns);
    if (r < 0)
        return r;
    sql_copy_out(&copy, db->cls->dialect, query.data, spec->csv);
    r = pg_query(d, op, copy.data, NULL, 0, &res);
    if (r < 0)
        return r;
    bool good = PQresultStatus(res) == PGRES_COPY_OUT;
    PQclear(res);
    if (!good)
        return err_set(&op->err, EPROTO, "the server did not start COPY");
    d->dump.copying = true;
    d->dump.n = columns.n_columns;
    d->dump.cells = xcalloc(d->dump.n, sizeof(*d->dump.cells));
    d->dump.types = xcalloc(d->dump.n, sizeof(*d->dump.types));
    for (size_t i = 0; i < d->dump.n; i++)
        d->dump.types[i] = columns.columns[i].type;
    *ret_columns = columns;
    columns = DB_TABLE_INIT;
    return 0;
}

/* The COPY is over: its result tells how. 0 = all rows were given. */
static int finish(struct db_postgres *d, struct op *op)
{
    PGresult *res = NULL;
    int r = 0, failed = 0;

    d->dump.copying = false;
    while ((r = pg_result(d, op, &res)) == 0 && res) {
        if (PQresultStatus(res) == PGRES_FATAL_ERROR && failed == 0)
            failed = pg_result_error(d, op, res);
        PQclear(res);
        if (!d->conn)
            return failed;
    }
    return r < 0 ? r : failed;
}

int pg_dump_bytes(struct database *db, struct op *op, const char **ret, size_t *ret_len)
{
    struct db_postgres *d = db_postgres_of(db);
    int n;

    if (d->dump.row)
        PQfreemem(d->dump.row);
    d->dump.row = NULL;
    while ((n = PQgetCopyData(d->conn, &d->dump.row, 1)) == 0) {
        int r = pg_wait(d, op, false);
        if (r < 0)
            return r;
        if (!PQconsumeInput(d->conn))
            return pg_lost(d, op);
    }
    if (n == -1)
        return finish(d, op);
    if (n < 0)
        return pg_lost(d, op);
    *ret = d->dump.row;
    *ret_len = (size_t)n;
    return 1;
}

/* Decodes one field of COPY's text format in place, from *pp to the next tab or the row's end. */
static struct cell take_field(char **pp, char *end)
{
    static const char from[] = "bfnrtv", to[] = "\b\f\n\r\t\v";
    char *p = *pp, *out = p, *start = p;

    if (end - p >= 2 && p[0] == '\\' && p[1] == 'N' && (p + 2 == end || p[2] == '\t')) {
        *pp = p + 2;
        return (struct cell){CELL_NULL, "", 0};
    }
    while (p < end && *p != '\t') {
        if (*p == '\\' && p + 1 < end) {
            const char *at = strchr(from, *++p);
            *out++ = at && *p ? to[at - from] : *p;
            p++;
        } else {
            *out++ = *p++;
        }
    }
    *pp = p;
    return (struct cell){CELL_TEXT, start, (size_t)(out - start)};
}

static struct cell typed(struct cell cell, enum db_type type)
{
    if (cell.kind == CELL_NULL)
        return cell;
    if (type == DB_BOOLEAN) {
        bool yes = cell.data[0] == 't';
        return (struct cell){CELL_BOOL, yes ? "true" : "false", yes ? 4 : 5};
    }
    bool number = type == DB_INTEGER || type == DB_DOUBLE || type == DB_NUMERIC;
    char last = cell.len ? cell.data[cell.len - 1] : 'x';
    if (number && last >= '0' && last <= '9') /* not NaN, Infinity */
        cell.kind = CELL_NUMBER;
    if (type == DB_JSON)
        cell.kind = CELL_JSON;
    return cell;
}

int pg_dump_row(struct database *db, struct op *op, const struct cell **ret)
{
    struct db_postgres *d = db_postgres_of(db);
    const char *row = NULL;
    size_t len = 0;
    int r = pg_dump_bytes(db, op, &row, &len);

    if (r <= 0)
        return r;
    char *p = d->dump.row, *end = p + len;
    if (end > p && end[-1] == '\n')
        end--;
    for (size_t i = 0; i < d->dump.n; i++) {
        d->dump.cells[i] = typed(take_field(&p, end), d->dump.types[i]);
        if (d->dump.types[i] == DB_JSON && d->dump.cells[i].kind == CELL_JSON) {
            char *json = d->dump.row + (d->dump.cells[i].data - row);
            for (size_t k = 0; k < d->dump.cells[i].len; k++) /* line ends there are only blanks */
                json[k] = json[k] == '\n' || json[k] == '\r' ? ' ' : json[k];
        }
        p += p < end;
    }
    *ret = d->dump.cells;
    return 1;
}

void pg_dump_end(struct database *db)
{
    struct db_postgres *d = db_postgres_of(db);

    if (d->conn && d->dump.copying) { /* early: the rest is not wanted */
        db->cls->cancel(db);
        pg_disconnect(d);
        db->in_transaction = false;
    }
    if (d->dump.row)
        PQfreemem(d->dump.row);
    free(d->dump.cells);
    free(d->dump.types);
    memset(&d->dump, 0, sizeof(d->dump));
}

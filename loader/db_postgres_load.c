/* SPDX-License-Identifier: MIT
 * db_postgres_load.c: the postgres driver: rows in, by COPY FROM STDIN.
 *
 * While the server is in COPY IN it says nothing unless something went wrong (notices are switched
 * off), and libpq keeps even that to itself until the COPY is ended. So: the socket became readable
 * = end the COPY and fetch the error, now and not after 50 GB. At most one PG_SLICE waits in libpq:
 * it is flushed before the next one is put.
 *
 * Upsert: COPY goes into a temporary table of the load's columns, load_end merges it: of rows with
 * the same key the last one in the file wins. */
#include "loader/db_postgres.h"

#include "base/cleanup.h"
#include "loader/sqltext.h"

#include <poll.h>

static uint64_t fnv(uint64_t h, const char *s)
{
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 0x100000001B3ULL;
    return h * 0x100000001B3ULL;
}

/* One stage for a target and a list of columns; it lives until the end of the transaction. */
static void stage_name(const struct db_load *spec, char out[40])
{
    uint64_t h = fnv(fnv(0xCBF29CE484222325ULL, spec->table->schema), spec->table->name);

    for (size_t i = 0; i < spec->n_columns; i++)
        h = fnv(h, spec->columns[i]->name);
    (void)snprintf(out, 40, "_quay_stage_%016llx", (unsigned long long)h);
}

static void merge_sql(struct buf *b, const struct sql_dialect *d, const char *stage,
                      const struct db_load *spec)
{
    sql_addf(b, d, "INSERT INTO %T (", spec->table->schema, spec->table->name);
    sql_columns(b, d, spec);
    buf_adds(b, ") SELECT DISTINCT ON (");
    for (size_t i = 0; i < spec->n_key; i++)
        sql_addf(b, d, "%I, ", spec->key[i]);
    /* Rows with a NULL in the key are equal to none. */
    buf_adds(b, "CASE WHEN ");
    for (size_t i = 0; i < spec->n_key; i++)
        sql_addf(b, d, i ? " OR %I IS NULL" : "%I IS NULL", spec->key[i]);
    buf_adds(b, " THEN _quay_line END) ");
    sql_columns(b, d, spec);
    sql_addf(b, d, " FROM %I ORDER BY ", stage);
    for (size_t i = 0; i < spec->n_key; i++)
        sql_addf(b, d, "%I, ", spec->key[i]);
    buf_adds(b, "CASE WHEN ");
    for (size_t i = 0; i < spec->n_key; i++)
        sql_addf(b, d, i ? " OR %I IS NULL" : "%I IS NULL", spec->key[i]);
    buf_adds(b, " THEN _quay_line END, _quay_line DESC");
    sql_on_conflict(b, d, spec);
}

static int make_stage(struct db_postgres *d, struct op *op, const char *stage,
                      const struct db_load *spec)
{
    const struct sql_dialect *dialect = d->base.cls->dialect;
    CLEANUP_BUF struct buf sql = BUF_INIT;

    /* pg_temp first is a promise of PostgreSQL for temporary tables, so the name finds the stage.
     */
    sql_addf(&sql, dialect, "CREATE TEMP TABLE IF NOT EXISTS %I ON COMMIT DROP AS SELECT ", stage);
    sql_columns(&sql, dialect, spec);
    sql_addf(&sql, dialect, " FROM %T WITH NO DATA", spec->table->schema, spec->table->name);
    int r = pg_query(d, op, sql.data, NULL, 0, NULL);
    if (r < 0)
        return r;
    buf_reset(&sql);
    sql_addf(&sql, dialect, "ALTER TABLE %I ADD COLUMN IF NOT EXISTS _quay_line bigserial", stage);
    r = pg_query(d, op, sql.data, NULL, 0, NULL);
    buf_reset(&d->load.merge);
    buf_reset(&d->load.empty);
    merge_sql(&d->load.merge, dialect, stage, spec);
    sql_addf(&d->load.empty, dialect, "TRUNCATE TABLE %I", stage);
    return r;
}

int pg_load_begin(struct database *db, struct op *op, const struct db_load *spec)
{
    struct db_postgres *d = db_postgres_of(db);
    CLEANUP_BUF struct buf sql = BUF_INIT;
    PGresult *res = NULL;
    char stage[40];
    int r = 0;

    buf_done(&d->load.merge);
    buf_done(&d->load.empty);
    if (spec->n_key) {
        stage_name(spec, stage);
        r = make_stage(d, op, stage, spec);
    }
    if (r < 0)
        return r;
    sql_copy_in(&sql, db->cls->dialect, spec->n_key ? NULL : spec->table->schema,
                spec->n_key ? stage : spec->table->name, spec);
    r = pg_query(d, op, sql.data, NULL, 0, &res);
    if (r < 0)
        return r;
    bool good = PQresultStatus(res) == PGRES_COPY_IN;
    PQclear(res);
    if (!good)
        return err_set(&op->err, EPROTO, "the server did not start COPY");
    d->load.copying = true;
    d->load.n_columns = spec->n_columns;
    buf_reset(&d->load.out);
    return 0;
}

/* Ends the COPY; `reason`: makes the server roll it back. Gives its outcome. */
static int end_copy(struct db_postgres *d, struct op *op, const char *reason, uint64_t *ret_rows)
{
    PGresult *res = NULL;
    int r = 0, put;

    while ((put = PQputCopyEnd(d->conn, reason)) == 0) {
        r = pg_wait(d, op, true);
        if (r < 0)
            return r;
        if (PQflush(d->conn) < 0)
            return pg_lost(d, op);
    }
    if (put < 0)
        return pg_lost(d, op);
    d->load.copying = false;
    while ((r = pg_result(d, op, &res)) == 0 && res) {
        if (PQresultStatus(res) == PGRES_COMMAND_OK && ret_rows)
            *ret_rows = strtoull(PQcmdTuples(res), NULL, 10);
        int failed = PQresultStatus(res) == PGRES_FATAL_ERROR ? pg_result_error(d, op, res) : 0;
        PQclear(res);
        if (failed < 0) {
            r = failed;
            break;
        }
    }
    while (r < 0 && d->conn && (res = PQgetResult(d->conn)))
        PQclear(res);
    if (r < 0 && d->conn && PQstatus(d->conn) == CONNECTION_BAD)
        pg_disconnect(d);
    return r;
}

/* The server spoke during COPY IN. */
static int fetch_error(struct db_postgres *d, struct op *op)
{
    static const char reason[] = "quayload stopped to listen";
    int r = end_copy(d, op, reason, NULL);

    if (r == 0 || strstr(op->err.text, reason)) { /* it was nothing: a changed setting */
        r = err_set(&op->err, EAGAIN, "the server interrupted the COPY");
        op->err.retry = ERR_RETRY_SAFE;
        op->err.status = 1;
    }
    return r;
}

static bool has_spoken(struct db_postgres *d)
{
    struct pollfd p = {.fd = PQsocket(d->conn), .events = POLLIN};

    return poll(&p, 1, 0) > 0;
}

static int send_slice(struct db_postgres *d, struct op *op, const char *data, size_t len)
{
    int r, put;

    while ((put = PQputCopyData(d->conn, data, (int)len)) == 0) {
        r = pg_wait(d, op, true);
        if (r == 0)
            r = PQflush(d->conn) < 0 ? pg_lost(d, op) : 0;
        else if (r == 1)
            r = fetch_error(d, op);
        if (r < 0)
            return r;
    }
    if (put < 0)
        return pg_lost(d, op);
    while ((r = PQflush(d->conn)) == 1) {
        r = pg_wait(d, op, true);
        if (r == 1)
            r = fetch_error(d, op);
        if (r < 0)
            return r;
    }
    if (r < 0)
        return pg_lost(d, op);
    return has_spoken(d) ? fetch_error(d, op) : 0;
}

int pg_load_bytes(struct database *db, struct op *op, const void *data, size_t len)
{
    struct db_postgres *d = db_postgres_of(db);
    const char *p = data;

    while (len > 0) {
        size_t n = len < PG_SLICE ? len : PG_SLICE;
        int r = send_slice(d, op, p, n);
        if (r < 0)
            return r;
        p += n;
        len -= n;
    }
    return 0;
}

/* The text format of COPY: what would be a control there gets a backslash. */
static void add_field(struct buf *b, const struct cell *cell)
{
    static const char escapes[256] = {['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n',
                                      ['\r'] = 'r',  ['\t'] = 't', ['\v'] = 'v'};
    char *out = buf_reserve(b, 2 * cell->len + 2);
    char *at = out;

    for (size_t i = 0; i < cell->len; i++) {
        char e = escapes[(unsigned char)cell->data[i]];
        if (e)
            *at++ = '\\';
        *at++ = e ? e : cell->data[i];
    }
    b->len += (size_t)(at - out);
    b->data[b->len] = '\0';
}

int pg_load_row(struct database *db, struct op *op, const struct cell *cells)
{
    struct db_postgres *d = db_postgres_of(db);
    struct buf *out = &d->load.out;

    for (size_t i = 0; i < d->load.n_columns; i++) {
        if (i)
            buf_addc(out, '\t');
        if (cells[i].kind == CELL_NULL)
            buf_add(out, "\\N", 2);
        else
            add_field(out, &cells[i]);
    }
    buf_addc(out, '\n');
    if (out->len < PG_SLICE)
        return 0;
    int r = pg_load_bytes(db, op, out->data, out->len);
    buf_reset(out);
    return r;
}

int pg_load_end(struct database *db, struct op *op, uint64_t *ret_rows)
{
    struct db_postgres *d = db_postgres_of(db);
    int r = d->load.out.len ? pg_load_bytes(db, op, d->load.out.data, d->load.out.len) : 0;

    buf_reset(&d->load.out);
    if (r == 0)
        r = end_copy(d, op, NULL, ret_rows);
    if (r == 0 && d->load.merge.len) {
        r = pg_query(d, op, d->load.merge.data, NULL, 0, NULL);
        d->base.bad.row = 0;
    }
    if (r == 0 && d->load.empty.len)
        r = pg_query(d, op, d->load.empty.data, NULL, 0, NULL);
    return r;
}

void pg_load_abort(struct database *db)
{
    struct db_postgres *d = db_postgres_of(db);
    struct op own;

    op_init(&own, "abort", 10000);
    if (d->conn && d->load.copying)
        (void)end_copy(d, &own, "aborted", NULL);
    if (d->conn && d->load.copying)
        pg_disconnect(d);
    d->load.copying = false;
    buf_done(&d->load.merge);
    buf_done(&d->load.empty);
    buf_reset(&d->load.out);
}

/* SPDX-License-Identifier: MIT
 * db_postgres.c: the postgres driver: connecting, waiting, transactions, describing.
 *
 * A lost or cancelled connection is dropped at once: the server then rolls back, and the next
 * database_connect() makes a new one. COMMIT is the exception: once sent it is waited for (at most
 * COMMIT_WAIT_MS, no matter what the op says), and a loss then is ERR_RETRY_UNKNOWN. */
#include "loader/db_postgres.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/settings.h"
#include "loader/drivers.h"
#include "loader/sqltext.h"

#include <poll.h>

#define COMMIT_WAIT_MS 60000
#define ABORT_WAIT_MS 10000

struct pg_cancel {
    unsigned refs; /* under sync.lock */
    PGcancel *handle;
};

static const struct sql_dialect dialect = {
    .name = "postgres",
    .param = '$',
    .escape_strings = true,
    .ident_max = 63,
    .type_names = {[DB_BOOLEAN] = "boolean",
                   [DB_INTEGER] = "bigint",
                   [DB_DOUBLE] = "double precision",
                   [DB_NUMERIC] = "numeric",
                   [DB_DATE] = "date",
                   [DB_TIMESTAMP] = "timestamp",
                   [DB_TIMESTAMPTZ] = "timestamptz",
                   [DB_TEXT] = "text",
                   [DB_JSON] = "json", /* jsonb would reorder and round */
                   [DB_BYTES] = "bytea",
                   [DB_OTHER] = "text"},
    .empty_table = "TRUNCATE TABLE ",
};

static char *option(const struct conf_section *section, const char *name)
{
    const char *v = conf_str(section, name, NULL);

    return v ? xstrdup(v) : NULL;
}

static void pg_close(struct database *db)
{
    struct db_postgres *d = db_postgres_of(db);

    pg_disconnect(d);
    secret_free(d->dsn);
    secret_free(d->password);
    free(d->host);
    free(d->port);
    free(d->dbname);
    free(d->user);
    free(d->schema);
    free(d->init);
    buf_done(&d->load.out);
    lock_done(&d->sync.lock);
    free(d);
}

/* libpq's own words about a dsn may repeat it, with the password in it: they are not passed on. */
static bool is_dsn(const char *dsn)
{
    char *text = NULL;
    PQconninfoOption *options = PQconninfoParse(dsn, &text);
    bool good = options != NULL;

    PQconninfoFree(options);
    PQfreemem(text);
    return good;
}

static int pg_open(const struct conf_section *section, struct err *err, struct database **ret)
{
    if (conf_has(section, "path"))
        return conf_error(section, "path", err, EINVAL,
                          "'path' is for sqlite: postgres takes dsn, or host, port, dbname, user");
    struct db_postgres *d = xcalloc(1, sizeof(*d));
    lock_init(&d->sync.lock, LOCK_RANK_LEAF, "postgres");
    d->base.cls = &db_postgres_class;
    d->base.caps = DB_COPY_CSV | DB_DUMP_CSV | DB_UPSERT;
    d->host = option(section, "host");
    d->port = option(section, "port");
    d->dbname = option(section, "dbname");
    d->user = option(section, "user");
    d->schema = option(section, "schema");
    d->init = option(section, "init");
    d->connect_ms = conf_ms(section, "connect_timeout", 10000);
    d->statement_ms = conf_ms(section, "statement_timeout", 0);
    int r = conf_secret(section, "dsn", err, &d->dsn);
    if (r == 0 || r == -ENOENT)
        r = conf_secret(section, "password", err, &d->password);
    if (r == -ENOENT)
        r = 0;
    if (r == 0 && d->dsn && !is_dsn(d->dsn))
        r = conf_error(section, "dsn", err, EINVAL,
                       "dsn is not a connection string: write postgresql://user@host/dbname or "
                       "host=... dbname=... with names that libpq knows");
    if (r < 0) {
        pg_close(&d->base);
        return r;
    }
    *ret = &d->base;
    return 0;
}

static void cancel_unref(struct db_postgres *d, struct pg_cancel *c)
{
    lock_acquire(&d->sync.lock);
    bool last = --c->refs == 0;
    lock_release(&d->sync.lock);
    if (last) {
        PQfreeCancel(c->handle);
        free(c);
    }
}

static void pg_cancel_now(struct database *db)
{
    struct db_postgres *d = db_postgres_of(db);
    char text[256];

    lock_acquire(&d->sync.lock);
    struct pg_cancel *c = d->sync.cancel;
    if (c)
        c->refs++;
    lock_release(&d->sync.lock);
    if (!c)
        return;
    (void)PQcancel(c->handle, text, sizeof(text));
    cancel_unref(d, c);
}

void pg_disconnect(struct db_postgres *d)
{
    lock_acquire(&d->sync.lock);
    struct pg_cancel *c = d->sync.cancel;
    d->sync.cancel = NULL;
    lock_release(&d->sync.lock);
    if (c)
        cancel_unref(d, c);
    if (d->dump.row)
        PQfreemem(d->dump.row);
    d->dump.row = NULL;
    if (d->conn)
        PQfinish(d->conn);
    d->conn = NULL;
    d->load.copying = d->dump.copying = false;
    d->base.connected = false;
}

int pg_wait(struct db_postgres *d, struct op *op, bool write)
{
    struct pollfd p = {.fd = PQsocket(d->conn), .events = (short)(POLLIN | (write ? POLLOUT : 0))};

    for (;;) {
        int r = op_check(op);
        if (r < 0) {
            pg_cancel_now(&d->base);
            pg_disconnect(d);
            return r;
        }
        r = poll(&p, 1, 250);
        if (r < 0 && errno != EINTR)
            return pg_lost(d, op);
        if (r > 0)
            return (p.revents & ~POLLOUT) != 0;
    }
}

/* Sends what libpq still holds. */
static int flush(struct db_postgres *d, struct op *op)
{
    int r;

    while ((r = PQflush(d->conn)) == 1) {
        r = pg_wait(d, op, true);
        if (r < 0)
            return r;
        if (r == 1 && !PQconsumeInput(d->conn))
            return pg_lost(d, op);
    }
    return r < 0 ? pg_lost(d, op) : 0;
}

int pg_result(struct db_postgres *d, struct op *op, PGresult **ret)
{
    int r = flush(d, op);

    while (r == 0 && PQisBusy(d->conn)) {
        r = pg_wait(d, op, false);
        if (r >= 0)
            r = PQconsumeInput(d->conn) ? 0 : pg_lost(d, op);
    }
    if (r == 0)
        *ret = PQgetResult(d->conn);
    return r;
}

int pg_query(struct db_postgres *d, struct op *op, const char *sql, const char *const *params,
             size_t n_params, PGresult **ret)
{
    PGresult *last = NULL, *res = NULL;
    int r = 0;

    if (!d->conn)
        return pg_lost(d, op);
    if (!PQsendQueryParams(d->conn, sql, (int)n_params, NULL, params, NULL, NULL, 0))
        return pg_lost(d, op);
    while ((r = pg_result(d, op, &res)) == 0 && res) {
        PQclear(last);
        last = res;
        ExecStatusType status = PQresultStatus(res);
        if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT)
            break;
    }
    if (r == 0 && last) {
        ExecStatusType status = PQresultStatus(last);
        if (status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE)
            r = pg_result_error(d, op, last);
        if (d->conn && PQstatus(d->conn) == CONNECTION_BAD) {
            pg_disconnect(d);
            r = r < 0 ? r : pg_lost(d, op);
        }
    }
    if (r == 0 && ret)
        *ret = last;
    else
        PQclear(last);
    return r;
}

static int run(struct db_postgres *d, struct op *op, const char *sql)
{
    return pg_query(d, op, sql, NULL, 0, NULL);
}

static PGconn *connect_start(const struct db_postgres *d)
{
    const char *names[20] = {0}, *values[20] = {0};
    const char *given[][2] = {{"dbname", d->dsn},          {"host", d->host},
                              {"port", d->port},           {"dbname", d->dbname},
                              {"user", d->user},           {"password", d->password},
                              {"client_encoding", "UTF8"}, {"application_name", "quayload"},
                              {"keepalives_idle", "30"},   {"keepalives_interval", "10"},
                              {"keepalives_count", "3"},   {"tcp_user_timeout", "60000"}};
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(given); i++) {
        if (!given[i][1])
            continue;
        names[n] = given[i][0];
        values[n++] = given[i][1];
    }
    return PQconnectStartParams(names, values, 1);
}

static int connect_poll(struct db_postgres *d, struct op *op)
{
    uint64_t deadline = d->connect_ms ? clock_now_ns() + d->connect_ms * NS_PER_MS : UINT64_MAX;
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;

    while (state != PGRES_POLLING_OK) {
        struct pollfd p = {.fd = PQsocket(d->conn),
                           .events = state == PGRES_POLLING_READING ? POLLIN : POLLOUT};
        int r = op_check(op);
        if (r < 0)
            return r;
        if (clock_now_ns() > deadline) {
            r = err_set(&op->err, EHOSTUNREACH, "no connection within connect_timeout (%llu ms)",
                        (unsigned long long)d->connect_ms);
            op->err.retry = ERR_RETRY_SAFE;
            op->err.status = 2;
            return r;
        }
        if (poll(&p, 1, 100) == 0)
            continue;
        state = PQconnectPoll(d->conn);
        if (state == PGRES_POLLING_FAILED)
            return pg_connect_error(d, op);
    }
    return 0;
}

static int setup_session(struct db_postgres *d, struct op *op)
{
    CLEANUP_BUF struct buf sql = BUF_INIT;
    /* No notices: during COPY IN anything the server says is an error (see db_postgres_load.c). */
    static const char *const settings[] = {"SET client_min_messages = error",
                                           "SET idle_in_transaction_session_timeout = 0",
                                           "SET datestyle = ISO", "SET bytea_output = hex"};

    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        int r = run(d, op, settings[i]);
        if (r < 0)
            return r;
    }
    if (d->schema && *d->schema) {
        sql_addf(&sql, &dialect, "SET search_path = %I", d->schema);
        int r = run(d, op, sql.data);
        if (r < 0)
            return r;
        buf_reset(&sql);
    }
    buf_addf(&sql, "SET statement_timeout = %llu", (unsigned long long)d->statement_ms);
    int r = run(d, op, sql.data);
    return r == 0 && d->init && *d->init ? run(d, op, d->init) : r;
}

static int pg_connect(struct database *db, struct op *op)
{
    struct db_postgres *d = db_postgres_of(db);

    pg_disconnect(d);
    d->conn = connect_start(d);
    if (!d->conn || PQstatus(d->conn) == CONNECTION_BAD) {
        int r = pg_connect_error(d, op);
        pg_disconnect(d);
        return r;
    }
    (void)PQsetErrorVerbosity(d->conn, PQERRORS_VERBOSE);
    int r = connect_poll(d, op);
    if (r == 0) {
        struct pg_cancel *c = xcalloc(1, sizeof(*c));
        c->refs = 1;
        c->handle = PQgetCancel(d->conn);
        lock_acquire(&d->sync.lock);
        d->sync.cancel = c;
        lock_release(&d->sync.lock);
        r = PQsetnonblocking(d->conn, 1) == 0 ? setup_session(d, op) : pg_lost(d, op);
    }
    if (r < 0)
        pg_disconnect(d);
    return r;
}

static int pg_begin(struct database *db, struct op *op, enum db_begin how)
{
    return run(db_postgres_of(db), op,
               how == DB_BEGIN_WRITE ? "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
                                     : "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
}

static int pg_commit(struct database *db, struct op *op)
{
    struct db_postgres *d = db_postgres_of(db);
    struct op own;
    PGresult *res = NULL;

    op_init(&own, "commit", COMMIT_WAIT_MS);
    int r = pg_query(d, &own, "COMMIT", NULL, 0, &res);
    op->err = own.err;
    if (!d->conn) { /* broken or not waited for: it may have been done */
        CLEANUP_FREE char *text = xstrdup(err_text(&own.err));
        r = err_set(&op->err, ECONNRESET, "COMMIT was sent and not answered: %s", text);
        op->err.retry = ERR_RETRY_UNKNOWN;
        op->err.status = 7;
    } else if (r == 0 && strcmp(PQcmdStatus(res), "COMMIT") != 0) {
        r = err_set(&op->err, EIO, "the server rolled the transaction back");
        op->err.status = 1;
    }
    PQclear(res);
    return r;
}

static void pg_abort(struct database *db)
{
    struct db_postgres *d = db_postgres_of(db);
    struct op own;

    op_init(&own, "rollback", ABORT_WAIT_MS);
    if (d->conn && run(d, &own, "ROLLBACK") < 0)
        pg_disconnect(d);
}

static void take_rows(const PGresult *res, struct db_rows *ret)
{
    ret->n_columns = (size_t)PQnfields(res);
    ret->n = (size_t)PQntuples(res);
    ret->affected = strtoull(PQcmdTuples((PGresult *)(uintptr_t)res), NULL, 10);
    ret->v = ret->n ? xcalloc(ret->n, sizeof(*ret->v)) : NULL;
    for (size_t i = 0; i < ret->n; i++) {
        ret->v[i] = xcalloc(ret->n_columns, sizeof(char *));
        for (size_t j = 0; j < ret->n_columns; j++) {
            if (!PQgetisnull(res, (int)i, (int)j))
                ret->v[i][j] = xstrdup(PQgetvalue(res, (int)i, (int)j));
        }
    }
}

static int pg_exec(struct database *db, struct op *op, const char *sql, const char *const *params,
                   size_t n_params, struct db_rows *ret)
{
    PGresult *res = NULL;
    int r = pg_query(db_postgres_of(db), op, sql, params, n_params, &res);

    if (r == 0 && ret && res)
        take_rows(res, ret);
    PQclear(res);
    return r;
}

static int describe_columns(struct database *db, struct op *op, const char *oid,
                            struct db_table *ret)
{
    enum { NAME, DECLARED, NOT_NULL, DEFAULT, GENERATED, TYPE };
    CLEANUP_DB_ROWS struct db_rows rows = DB_ROWS_INIT;
    static const char sql[] =
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull OR t.typnotnull,"
        " a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL, a.attgenerated <> '',"
        " coalesce(b.typname, t.typname)"
        " FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid"
        " LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype"
        " WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    int r = pg_exec(db, op, sql, &oid, 1, &rows);

    if (r < 0)
        return r;
    for (size_t i = 0; i < rows.n; i++) {
        char **row = rows.v[i];
        struct db_column *c = db_table_add(ret, row[NAME], pg_type_of_name(row[TYPE]));
        c->declared = xstrdup(row[DECLARED]);
        c->not_null = row[NOT_NULL][0] == 't';
        c->has_default = row[DEFAULT][0] == 't';
        c->generated = row[GENERATED][0] == 't';
    }
    return 0;
}

static int pg_describe(struct database *db, struct op *op, const char *table, struct db_table *ret)
{
    CLEANUP_DB_ROWS struct db_rows rows = DB_ROWS_INIT;
    CLEANUP_FREE char *schema = NULL;
    CLEANUP_FREE char *name = NULL;
    CLEANUP_BUF struct buf quoted = BUF_INIT;
    int r = sql_split_table(table, &op->err, &schema, &name);

    if (r < 0)
        return r;
    sql_addf(&quoted, &dialect, "%T", schema, name);
    const char *params[] = {quoted.data};
    r = pg_exec(db, op,
                "SELECT c.oid, n.nspname, c.relname, current_schema() FROM (SELECT 1) one"
                " LEFT JOIN pg_class c ON c.oid = to_regclass($1)"
                " LEFT JOIN pg_namespace n ON n.oid = c.relnamespace",
                params, 1, &rows);
    if (r < 0)
        return r;
    if (rows.n != 1)
        return err_set(&op->err, EPROTO, "the server's answer about table %s is not one row", table);
    char **row = rows.v[0];
    if (!row[0] && !schema && !row[3])
        return err_set(&op->err, EINVAL, "table %s: no schema of the search_path exists", table);
    struct db_table found = {.exists = row[0] != NULL};
    r = found.exists ? describe_columns(db, op, row[0], &found) : 0;
    if (r < 0) {
        db_table_done(&found);
        return r;
    }
    found.schema = xstrdup(found.exists ? row[1] : schema ? schema : row[3]);
    found.name = xstrdup(found.exists ? row[2] : name);
    *ret = found;
    return 0;
}

static int pg_probe(struct database *db, struct op *op, char **ret_text)
{
    CLEANUP_DB_ROWS struct db_rows rows = DB_ROWS_INIT;
    int r = pg_exec(db, op, "SELECT version()", NULL, 0, &rows);

    if (r == 0)
        *ret_text = xstrdup(rows.n ? rows.v[0][0] : "PostgreSQL");
    return r;
}

const struct database_class db_postgres_class = {
    .abi = DATABASE_ABI,
    .name = "postgres",
    .summary = "PostgreSQL 12 or newer, by COPY",
    .dialect = &dialect,
    .open = pg_open,
    .close = pg_close,
    .connect = pg_connect,
    .begin = pg_begin,
    .commit = pg_commit,
    .abort = pg_abort,
    .exec = pg_exec,
    .describe = pg_describe,
    .load_begin = pg_load_begin,
    .load_row = pg_load_row,
    .load_bytes = pg_load_bytes,
    .load_end = pg_load_end,
    .load_abort = pg_load_abort,
    .dump_begin = pg_dump_begin,
    .dump_row = pg_dump_row,
    .dump_bytes = pg_dump_bytes,
    .dump_end = pg_dump_end,
    .cancel = pg_cancel_now,
    .probe = pg_probe,
};

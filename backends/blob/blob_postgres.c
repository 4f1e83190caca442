/* SPDX-License-Identifier: MIT
 * blob_postgres.c: backend = postgres: the driver over libpq, and the class.
 *
 * Connections are non-blocking: every wait is a poll() of at most SLICE_MS, then a look at the op and at the clock. A
 * call that is cancelled, late, or without an answer for `timeout` drops its connection, and the server, which looks
 * after its client once a second (client_connection_check_interval), gives up the statement and rolls back. PQcancel
 * would wait without a limit for a server that hangs. COMMIT is the exception: once sent it is waited for (COMMIT_WAIT_MS, whatever the op says),
 * and when no answer comes the outcome is unknown. Rows are taken one by one (single-row mode), in binary.
 * Nothing is kept prepared, so that poolers of transactions may be in between. */
#include "backends/blob/blob_int.h"

#include "base/clock.h"

#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <string.h>

#define SLICE_MS 100
#define VALUES_MAX 12
#define OID_BYTEA 17
#define OID_INT8 20
#define OID_INT4 23
#define OID_TEXT 25

struct pg_conn {
    struct blob_conn base;
    PGconn *pg;
};

static struct pg_conn *pg_of(struct blob_conn *c)
{
    return (struct pg_conn *)c;
}

/* ---- errors ---- */

static const struct {
    const char *state; /* how the SQLSTATE begins; the first that fits */
    int code;
    enum err_retry retry;
    bool broken;
} states[] = {
    {"23505", EEXIST, ERR_RETRY_NEVER, false},    /* unique violation */
    {"40", EBUSY, ERR_RETRY_SAFE, false},         /* serialization, deadlock */
    {"55P03", EBUSY, ERR_RETRY_SAFE, false},      /* lock not available */
    {"53100", ENOSPC, ERR_RETRY_NEVER, false},    /* disk full */
    {"53", EBUSY, ERR_RETRY_SAFE, true},          /* too many connections, out of memory */
    {"57014", ETIMEDOUT, ERR_RETRY_SAFE, false},  /* statement_timeout, cancelled by an administrator */
    {"57", EHOSTUNREACH, ERR_RETRY_SAFE, true},   /* shutting down, starting up */
    {"08", EHOSTUNREACH, ERR_RETRY_SAFE, true},   /* connection */
    {"28", EACCES, ERR_RETRY_NEVER, true},        /* authorization */
    {"42501", EACCES, ERR_RETRY_NEVER, false},    /* no privilege */
    {"25006", EROFS, ERR_RETRY_NEVER, false},     /* read-only transaction: a standby */
    {"25P03", EHOSTUNREACH, ERR_RETRY_SAFE, true}, /* idle in transaction for too long */
    {"", EIO, ERR_RETRY_NEVER, false},
};

static int fail_state(struct pg_conn *c, struct op *op, const char *state, const char *text,
                      const char *more)
{
    size_t i = 0;
    while (strncmp(states[i].state, state, strlen(states[i].state)) != 0)
        i++;
    int r = err_set(&op->err, states[i].code, "PostgreSQL: %s%s%s", text, *more ? ": " : "", more);
    op->err.retry = states[i].retry;
    snprintf(op->err.remote, sizeof(op->err.remote), "%s", state);
    c->base.broken |= states[i].broken;
    return r;
}

/* libpq's words, one line. They do not repeat the password. */
static char *one_line(const char *text)
{
    char *s = xstrdup(text);
    for (char *p = s; *p; p++)
        if (isspace((unsigned char)*p))
            *p = ' ';
    for (size_t n = strlen(s); n > 0 && s[n - 1] == ' '; n--)
        s[n - 1] = '\0';
    return s;
}

/* The connection broke: whatever was under way is rolled back by the server. */
static int lost(struct pg_conn *c, struct op *op)
{
    CLEANUP_FREE char *text = one_line(PQerrorMessage(c->pg));
    c->base.broken = true;
    int r = err_set(&op->err, EHOSTUNREACH, "PostgreSQL: the connection was lost%s%s",
                    *text ? ": " : "", text);
    op->err.retry = ERR_RETRY_SAFE;
    return r;
}

static int fail_result(struct pg_conn *c, struct op *op, const PGresult *res)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL);
    if (!state)
        return lost(c, op);
    return fail_state(c, op, state, text ? text : "an error without a text", detail ? detail : "");
}

/* ---- waiting ---- */

/* Until the socket can be read (or written): 1 readable, 0 writable only, -errno. `since`: of the last progress. */
static int wait_for(struct pg_conn *c, struct op *op, bool write, uint64_t since)
{
    const struct blob_server *o = c->base.b->own;
    struct pollfd p = {.fd = PQsocket(c->pg), .events = (short)(POLLIN | (write ? POLLOUT : 0))};
    for (;;) {
        int r = op_check(op);
        if (r == 0 && o->timeout_ms && clock_now_ns() - since > o->timeout_ms * NS_PER_MS) {
            r = err_set(&op->err, ETIMEDOUT, "PostgreSQL: no answer for %llu ms (timeout)",
                        (unsigned long long)o->timeout_ms);
            op->err.retry = ERR_RETRY_SAFE;
        }
        if (r < 0) {
            c->base.broken = true;
            return r;
        }
        r = poll(&p, 1, SLICE_MS);
        if (r < 0 && errno != EINTR)
            return lost(c, op);
        if (r > 0)
            return (p.revents & ~POLLOUT) != 0;
    }
}

static int flush(struct pg_conn *c, struct op *op)
{
    int r, n;
    while ((n = PQflush(c->pg)) == 1) {
        r = wait_for(c, op, true, clock_now_ns());
        if (r < 0)
            return r;
        if (r == 1 && !PQconsumeInput(c->pg))
            return lost(c, op);
    }
    return n < 0 ? lost(c, op) : 0;
}

static int next_result(struct pg_conn *c, struct op *op, PGresult **ret)
{
    int r = 0;
    while (r == 0 && PQisBusy(c->pg)) {
        r = wait_for(c, op, false, clock_now_ns());
        if (r >= 0)
            r = PQconsumeInput(c->pg) ? 0 : lost(c, op);
    }
    if (r == 0)
        *ret = PQgetResult(c->pg);
    return r;
}

/* ---- statements ---- */

static void take_row(const PGresult *res, struct blob_value *row)
{
    int n = PQnfields(res) < VALUES_MAX ? PQnfields(res) : VALUES_MAX;
    for (int i = 0; i < n; i++) {
        const void *p = PQgetvalue(res, 0, i);
        size_t len = (size_t)PQgetlength(res, 0, i);
        uint64_t wide;
        uint32_t narrow;
        row[i] = blob_bytes(p, len);
        if (PQgetisnull(res, 0, i))
            row[i].type = BLOB_NULL;
        else if (PQftype(res, i) == OID_INT8 && len == sizeof(wide))
            row[i] = (memcpy(&wide, p, len), blob_i64((int64_t)be64toh(wide)));
        else if (PQftype(res, i) == OID_INT4 && len == sizeof(narrow))
            row[i] = (memcpy(&narrow, p, len), blob_i64((int32_t)be32toh(narrow)));
    }
}

struct params {
    Oid types[VALUES_MAX];
    const char *values[VALUES_MAX];
    int lengths[VALUES_MAX], formats[VALUES_MAX];
    uint64_t numbers[VALUES_MAX];
};

static void set_params(struct params *to, const struct blob_value *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to->formats[i] = 1;
        to->types[i] = from[i].type == BLOB_TEXT ? OID_TEXT : OID_BYTEA;
        to->values[i] = from[i].p;
        to->lengths[i] = (int)from[i].n;
        if (from[i].type != BLOB_INT)
            continue;
        to->numbers[i] = htobe64((uint64_t)from[i].i);
        to->types[i] = OID_INT8;
        to->values[i] = (const char *)&to->numbers[i];
        to->lengths[i] = sizeof(to->numbers[i]);
    }
}

/* All results of what was sent; after a failure the rest is read and forgotten. */
static int take_results(struct pg_conn *c, struct op *op, blob_row_fn *fn, void *arg,
                        int64_t *ret_changes)
{
    struct blob_value row[VALUES_MAX];
    struct err first = ERR_INIT;
    PGresult *res = NULL;
    int r = 0, n;
    while ((n = next_result(c, op, &res)) == 0 && res) {
        ExecStatusType status = PQresultStatus(res);
        if (r == 0 && status == PGRES_SINGLE_TUPLE && fn) {
            take_row(res, row);
            r = fn(arg, op, row);
        } else if (r == 0 && status == PGRES_COMMAND_OK) {
            *ret_changes = strtoll(PQcmdTuples(res), NULL, 10);
        } else if (r == 0 && (status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE)) {
            r = fail_result(c, op, res);
        }
        if (r < 0 && first.code == 0)
            first = op->err;
        PQclear(res);
        res = NULL;
    }
    if (n < 0)
        return n;
    if (r < 0)
        op->err = first;
    if (PQstatus(c->pg) == CONNECTION_BAD) {
        c->base.broken = true;
        return r < 0 ? r : lost(c, op);
    }
    return r;
}

static int pg_run(struct blob_conn *base, struct op *op, enum blob_sql id, const char *text,
                  const struct blob_value *params, size_t n, blob_row_fn *row, void *arg,
                  int64_t *ret_changes)
{
    struct pg_conn *c = pg_of(base);
    struct params p;
    set_params(&p, params, n);
    if (!PQsendQueryParams(c->pg, text ? text : base->b->sql[id], (int)n, p.types, p.values,
                           p.lengths, p.formats, 1))
        return lost(c, op);
    (void)PQsetSingleRowMode(c->pg);
    int r = flush(c, op);
    return r < 0 ? r : take_results(c, op, row, arg, ret_changes);
}

static int pg_begin(struct blob_conn *c, struct op *op)
{
    return blob_server_text(c, op, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE");
}

/* ---- connecting ---- */

static void silent(void *arg, const char *message)
{
    (void)arg, (void)message;
}

static PGconn *start(const struct blob_server *o)
{
    const char *given[][2] = {{"dbname", o->dsn},          {"host", o->host},
                              {"port", o->port},           {"dbname", o->dbname},
                              {"user", o->user},           {"password", o->password},
                              {"sslmode", o->tls},         {"sslrootcert", o->ca_file},
                              {"client_encoding", "UTF8"}, {"application_name", "quayfs"},
                              {"keepalives_idle", "30"},   {"keepalives_interval", "10"},
                              {"keepalives_count", "3"},   {"tcp_user_timeout", "60000"}};
    const char *names[ARRAY_LEN(given) + 1] = {0}, *values[ARRAY_LEN(given) + 1] = {0};
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(given); i++) {
        if (!given[i][1])
            continue;
        names[n] = given[i][0];
        values[n++] = given[i][1];
    }
    return PQconnectStartParams(names, values, 1);
}

/* Refused, unknown, or an answer of the server's ("FATAL:  password authentication failed ..."). */
static int connect_error(struct pg_conn *c, struct op *op)
{
    static const struct {
        const char *words;
        int code;
        const char *step;
    } answers[] = {{"password", EACCES, "login"},       {"pg_hba.conf", EACCES, "login"},
                   {"authentication", EACCES, "login"}, {"permission", EACCES, ""},
                   {"does not exist", EIO, "database"}, {"certificate", EIO, "TLS"},
                   {"invalid connection", EIO, ""},     {"SSL", EIO, "TLS"},
                   {"translate host name", EHOSTUNREACH, "DNS"}};
    CLEANUP_FREE char *text = one_line(PQerrorMessage(c->pg));
    bool away = strstr(text, "starting up") || strstr(text, "shutting down");
    size_t i = 0;
    while (i < ARRAY_LEN(answers) && !strstr(text, answers[i].words))
        i++;
    bool known = i < ARRAY_LEN(answers) && !away;
    int code = known ? answers[i].code : EHOSTUNREACH;
    int r = err_set(&op->err, code, "PostgreSQL: %s", text);
    snprintf(op->err.remote, sizeof(op->err.remote), "%s", known ? answers[i].step : away ? "" : "connect");
    op->err.retry = code == EHOSTUNREACH ? ERR_RETRY_SAFE : ERR_RETRY_NEVER;
    return r;
}

static int connect_wait(struct pg_conn *c, struct op *op)
{
    const struct blob_server *o = c->base.b->own;
    uint64_t end = o->connect_ms ? clock_now_ns() + o->connect_ms * NS_PER_MS : UINT64_MAX;
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;
    while (state != PGRES_POLLING_OK) {
        struct pollfd p = {.fd = PQsocket(c->pg),
                           .events = state == PGRES_POLLING_READING ? POLLIN : POLLOUT};
        int r = op_check(op);
        if (r < 0)
            return r;
        if (clock_now_ns() > end) {
            r = err_set(&op->err, EHOSTUNREACH, "PostgreSQL: no connection within %llu ms (connect_timeout)",
                        (unsigned long long)o->connect_ms);
            op->err.retry = ERR_RETRY_SAFE;
            return r;
        }
        if (poll(&p, 1, SLICE_MS) <= 0)
            continue;
        state = PQconnectPoll(c->pg);
        if (state == PGRES_POLLING_FAILED)
            return connect_error(c, op);
    }
    return 0;
}

/* Our statements are made for the indexes: a planner without statistics might think otherwise. */
static int setup(struct pg_conn *c, struct op *op)
{
    static const char *const settings[] = {
        "SET client_min_messages = error", "SET enable_seqscan = off", "SET enable_hashjoin = off",
        "SET enable_mergejoin = off", "SET bytea_output = hex",
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') = 'off'",
        "SELECT set_config(name, '1s', false) FROM pg_settings"
        " WHERE name = 'client_connection_check_interval'"};
    const struct blob_server *o = c->base.b->own;
    int64_t changes;
    int r = 0;
    for (size_t i = 0; i < ARRAY_LEN(settings) && r == 0; i++)
        r = blob_server_text(&c->base, op, settings[i]);
    if (r == 0 && o->schema) {
        const struct blob_value schema = blob_text(o->schema);
        r = pg_run(&c->base, op, SQL_NONE, "SELECT set_config('search_path', quote_ident($1), false)",
                   &schema, 1, NULL, NULL, &changes);
    }
    return r;
}

static void pg_disconnect(struct blob_conn *base)
{
    struct pg_conn *c = pg_of(base);
    PQfinish(c->pg);
    free(c);
}

static int pg_connect(struct blob *b, struct op *op, struct blob_conn **ret)
{
    struct pg_conn *c = xcalloc(1, sizeof(*c));
    c->base.b = b;
    c->pg = start(b->own);
    if (!c->pg) {
        free(c);
        return err_set(&op->err, ENOMEM, "out of memory");
    }
    (void)PQsetNoticeProcessor(c->pg, silent, NULL);
    int r = PQstatus(c->pg) == CONNECTION_BAD ? connect_error(c, op) : connect_wait(c, op);
    if (r == 0 && PQsetnonblocking(c->pg, 1) != 0)
        r = lost(c, op);
    if (r == 0)
        r = setup(c, op);
    if (r < 0) {
        pg_disconnect(&c->base);
        return r;
    }
    *ret = &c->base;
    return 0;
}

static const char *const pg_schema[] = {
    "CREATE TABLE {} (path bytea PRIMARY KEY, kind bigint NOT NULL, size bigint NOT NULL,"
    " mtime bigint NOT NULL, etag text NOT NULL, content bigint NOT NULL, meta text NOT NULL)",
    "CREATE TABLE {_content} (id bigint PRIMARY KEY, refs bigint NOT NULL, state bigint NOT NULL,"
    " path bytea NOT NULL, meta text NOT NULL, touched bigint NOT NULL)",
    "CREATE INDEX {_content_dead} ON {_content} (state, touched) WHERE state <> 1",
    "CREATE TABLE {_part} (content bigint NOT NULL, number bigint NOT NULL, start bigint NOT NULL,"
    " size bigint NOT NULL, etag text NOT NULL, PRIMARY KEY (content, number))",
    "CREATE INDEX {_part_start} ON {_part} (content, start)",
    "CREATE TABLE {_chunk} (content bigint NOT NULL, part bigint NOT NULL, pos bigint NOT NULL,"
    " data bytea NOT NULL, PRIMARY KEY (content, part, pos))",
    /* not compressed: a slice of it is read without the rest */
    "ALTER TABLE {_chunk} ALTER COLUMN data SET STORAGE EXTERNAL",
    "CREATE TABLE {_meta} (name text PRIMARY KEY, value text NOT NULL)",
    NULL,
};

static const struct blob_driver pg_driver = {
    .quote = "\"",
    .numbered = true,
    .lock = " FOR UPDATE",
    .move = "? || substr(path, ?::int)",
    .slice = "substr(c.data, (1 + greatest(0, ? - p.start - c.pos))::int,"
             " least(? - greatest(p.start + c.pos, ?), 1048576)::int)",
    .has_table = "SELECT 1 FROM pg_catalog.pg_class WHERE relkind IN ('r', 'v', 'm', 'f', 'p')"
                 " AND relname = ? AND pg_catalog.pg_table_is_visible(oid)",
    .schema = pg_schema,
    .connect = pg_connect,
    .disconnect = pg_disconnect,
    .run = pg_run,
    .begin = pg_begin,
    .commit = blob_server_commit,
    .rollback = blob_server_rollback,
};

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

static int pg_open(const struct conf_section *section, struct stats *stats, struct err *err,
                   struct store **ret)
{
    (void)stats;
    struct store *s = NULL;
    int r = blob_server_open(section, err, &blob_postgres_class, &pg_driver, &s);
    if (r < 0)
        return r;
    const struct blob_server *o = blob_of(s)->own;
    if (o->dsn && !is_dsn(o->dsn)) {
        r = conf_error(section, "dsn", err, EINVAL,
                       "dsn is not a connection string: write postgresql://user@host/dbname or "
                       "host=... dbname=... with names that libpq knows");
        store_close(s);
        return r;
    }
    *ret = s;
    return 0;
}

const struct store_class blob_postgres_class = {
    .abi = STORE_ABI,
    .name = "postgres",
    .summary = "files as BLOBs in PostgreSQL",
    .options = blob_postgres_options,
    .n_options = BLOB_POSTGRES_N_OPTIONS,
    .open = pg_open,
    .close = blob_server_close,
    .place = blob_server_place,
    BLOB_SLOTS,
};

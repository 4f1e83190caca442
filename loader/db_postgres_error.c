/* SPDX-License-Identifier: MIT
 * db_postgres_error.c: the postgres driver: SQLSTATE to errno, retry class and rc class; type
 * names. */
#include "loader/db_postgres.h"

#include "base/cleanup.h"

#include <ctype.h>
#include <strings.h>

static const struct {
    const char *prefix; /* of the SQLSTATE; the first that fits */
    int number;
    enum err_retry retry;
    int status;
} classes[] = {
    {"08", ECONNRESET, ERR_RETRY_SAFE, 2},    /* connection */
    {"28", EACCES, ERR_RETRY_NEVER, 2},       /* authorization */
    {"3D", ENOENT, ERR_RETRY_NEVER, 2},       /* no such database */
    {"40", EAGAIN, ERR_RETRY_SAFE, 1},        /* serialization, deadlock */
    {"53100", ENOSPC, ERR_RETRY_NEVER, 1},    /* disk full */
    {"53", EAGAIN, ERR_RETRY_SAFE, 2},        /* too many connections, out of memory */
    {"55P03", EAGAIN, ERR_RETRY_SAFE, 1},     /* lock not available */
    {"57014", ECANCELED, ERR_RETRY_NEVER, 1}, /* statement timeout, cancelled by an administrator */
    {"57P", EAGAIN, ERR_RETRY_SAFE, 2},       /* shutting down, starting up */
    {"22", EBADMSG, ERR_RETRY_NEVER, 1},      /* the data */
    {"23", EBADMSG, ERR_RETRY_NEVER, 1},      /* constraints */
    {"44", EBADMSG, ERR_RETRY_NEVER, 1},      /* WITH CHECK OPTION */
    {"P0001", EBADMSG, ERR_RETRY_NEVER, 1},   /* RAISE in a trigger */
    {"42501", EACCES, ERR_RETRY_NEVER, 1},    /* no privilege */
    {"42P01", ENOENT, ERR_RETRY_NEVER, 1},    /* no such table */
    {"42P07", EEXIST, ERR_RETRY_NEVER, 1},    /* table exists */
    {"25006", EROFS, ERR_RETRY_NEVER, 1},     /* read-only transaction */
    {"58030", EIO, ERR_RETRY_NEVER, 1},       {"XX001", EUCLEAN, ERR_RETRY_NEVER, 1},
    {"", EINVAL, ERR_RETRY_NEVER, 1},
};

static int classify(struct op *op, const char *state, const char *text)
{
    size_t i = 0;

    while (strncmp(classes[i].prefix, state, strlen(classes[i].prefix)) != 0)
        i++;
    int r = err_set(&op->err, classes[i].number, "%s", text);
    op->err.retry = classes[i].retry;
    op->err.status = classes[i].status;
    (void)snprintf(op->err.remote, sizeof(op->err.remote), "%s", state);
    return r;
}

/* From CONTEXT `COPY t, line 12, column c: "x"`: a hint, proved by whoever uses it. */
static void parse_context(const char *context, struct db_bad_row *bad)
{
    const char *line = context ? strstr(context, ", line ") : NULL;
    const char *column = line ? strstr(line, ", column ") : NULL;

    if (line)
        bad->row = strtoull(line + 7, NULL, 10);
    if (column && !bad->column[0]) {
        const char *end = strstr(column, ": ");
        size_t len = end ? (size_t)(end - column) - 9 : strlen(column + 9);
        (void)snprintf(bad->column, sizeof(bad->column), "%.*s", (int)len, column + 9);
    }
}

int pg_result_error(struct db_postgres *d, struct op *op, const PGresult *res)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL);
    const char *column = PQresultErrorField(res, PG_DIAG_COLUMN_NAME);

    if (!state)
        return pg_lost(d, op);
    d->base.bad = (struct db_bad_row){0};
    (void)snprintf(d->base.bad.column, sizeof(d->base.bad.column), "%s", column ? column : "");
    parse_context(PQresultErrorField(res, PG_DIAG_CONTEXT), &d->base.bad);
    d->base.bad.type = strncmp(state, "22", 2) == 0 && strcmp(state, "22P04") != 0 &&
                       strcmp(state, "22021") != 0 && strcmp(state, "22001") != 0;
    CLEANUP_FREE char *all = xasprintf("%s%s%s%s", text ? text : "error without a text",
                                       detail ? " (" : "", detail ? detail : "", detail ? ")" : "");
    return classify(op, state, all);
}

/* libpq's message, first line, without "FATAL:  28P01: " and the like in front. */
static char *first_line(const char *message, char state[6])
{
    CLEANUP_FREE char *line = xstrndup(message, strcspn(message, "\n"));

    state[0] = '\0';
    for (const char *p = strstr(line, ":  "); p; p = strstr(p + 1, ":  ")) {
        size_t n = 0;
        while (n < 5 && (isdigit((unsigned char)p[3 + n]) || isupper((unsigned char)p[3 + n])))
            n++;
        if (n == 5 && p[8] == ':' && p[9] == ' ') {
            memcpy(state, p + 3, 5);
            state[5] = '\0';
            return xstrdup(p + 10);
        }
    }
    return take_ptr(&line);
}

int pg_lost(struct db_postgres *d, struct op *op)
{
    char state[6];
    CLEANUP_FREE char *text = first_line(d->conn ? PQerrorMessage(d->conn) : "", state);

    pg_disconnect(d);
    int r = err_set(&op->err, ECONNRESET, "the connection to the server was lost%s%s",
                    *text ? ": " : "", text);
    op->err.retry = ERR_RETRY_SAFE;
    op->err.status = 2;
    (void)snprintf(op->err.remote, sizeof(op->err.remote), "%s", *state ? state : "08006");
    return r;
}

int pg_connect_error(struct db_postgres *d, struct op *op)
{
    char state[6];
    CLEANUP_FREE char *text =
        first_line(d->conn ? PQerrorMessage(d->conn) : "out of memory", state);
    int r;

    if (*state) {
        r = classify(op, state, text);
    } else { /* not the server: name resolution, refused, or an option libpq does not know */
        bool option = strstr(text, "invalid connection option") || strstr(text, "missing \"=\"") ||
                      strstr(text, "no password supplied");
        r = err_set(&op->err, option ? EINVAL : EHOSTUNREACH, "%s", text);
        op->err.retry = option ? ERR_RETRY_NEVER : ERR_RETRY_SAFE;
    }
    op->err.status = 2;
    return r;
}

static const struct {
    const char *name;
    Oid oid; /* pg_type.dat; fixed for ever */
    enum db_type type;
} types[] = {
    {"bool", 16, DB_BOOLEAN},
    {"int2", 21, DB_INTEGER},
    {"int4", 23, DB_INTEGER},
    {"int8", 20, DB_INTEGER},
    {"float4", 700, DB_DOUBLE},
    {"float8", 701, DB_DOUBLE},
    {"numeric", 1700, DB_NUMERIC},
    {"date", 1082, DB_DATE},
    {"timestamp", 1114, DB_TIMESTAMP},
    {"timestamptz", 1184, DB_TIMESTAMPTZ},
    {"text", 25, DB_TEXT},
    {"varchar", 1043, DB_TEXT},
    {"bpchar", 1042, DB_TEXT},
    {"name", 19, DB_TEXT},
    {"json", 114, DB_JSON},
    {"jsonb", 3802, DB_JSON},
    {"bytea", 17, DB_BYTES},
};

enum db_type pg_type_of_name(const char *typname)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strcmp(types[i].name, typname) == 0)
            return types[i].type;
    }
    return DB_OTHER;
}

enum db_type pg_type_of_oid(Oid oid)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (types[i].oid == oid)
            return types[i].type;
    }
    return DB_OTHER;
}

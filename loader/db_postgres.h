/* SPDX-License-Identifier: MIT
 * db_postgres.h: what the files of the postgres driver share. The connection is non-blocking: every
 * wait is a poll() of at most half a second, then op_check(). */
#ifndef QUAY_LOADER_DB_POSTGRES_H
#define QUAY_LOADER_DB_POSTGRES_H

#include "base/buf.h"
#include "base/lock.h"
#include "loader/database.h"

#include <libpq-fe.h>

#define PG_SLICE (256u * 1024) /* bytes of one CopyData message */

struct pg_cancel; /* a PGcancel shared with the thread that cancels */

struct db_postgres {
    struct database base;
    char *dsn, *host, *port, *dbname, *user, *password, *schema, *init;
    uint64_t connect_ms, statement_ms;
    PGconn *conn;
    struct {
        struct lock lock;
        struct pg_cancel *cancel; /* NULL: not connected */
    } sync;
    struct {
        bool copying;   /* the server is in COPY IN */
        struct buf out; /* rows on their way */
        size_t n_columns;
        struct buf merge; /* upsert: the statement after the COPY, and the emptying of the stage */
        struct buf empty;
    } load;
    struct {
        char *row; /* libpq's, of the row given last */
        struct cell *cells;
        enum db_type *types;
        size_t n;
        bool copying;
    } dump;
};

static inline struct db_postgres *db_postgres_of(struct database *db)
{
    return (struct db_postgres *)(void *)db;
}

/* ---- db_postgres.c ---- */
/* Waits until the socket can be read (or written); 1 readable, 0 writable only, -errno. A cancelled
 * or late op cancels at the server and drops the connection. */
int pg_wait(struct db_postgres *d, struct op *op, bool write);
/* The next result of the command under way; NULL at its end. Caller: PQclear. */
int pg_result(struct db_postgres *d, struct op *op, PGresult **ret);
/* Sends and runs to the end; the last result in *ret (may be NULL). Errors are classified. */
int pg_query(struct db_postgres *d, struct op *op, const char *sql, const char *const *params,
             size_t n_params, PGresult **ret);
void pg_disconnect(struct db_postgres *d);

/* ---- db_postgres_error.c ---- */
/* Fills op->err from a failed result; also d->base.bad. Gives -errno. */
int pg_result_error(struct db_postgres *d, struct op *op, const PGresult *res);
/* The connection broke: -ECONNRESET, transient. */
int pg_lost(struct db_postgres *d, struct op *op);
int pg_connect_error(struct db_postgres *d, struct op *op);
enum db_type pg_type_of_name(const char *typname);
enum db_type pg_type_of_oid(Oid oid);

/* ---- db_postgres_load.c, db_postgres_dump.c ---- */
int pg_load_begin(struct database *db, struct op *op, const struct db_load *spec);
int pg_load_row(struct database *db, struct op *op, const struct cell *cells);
int pg_load_bytes(struct database *db, struct op *op, const void *data, size_t len);
int pg_load_end(struct database *db, struct op *op, uint64_t *ret_rows);
void pg_load_abort(struct database *db);
int pg_dump_begin(struct database *db, struct op *op, const struct db_dump *spec,
                  struct db_table *ret_columns);
int pg_dump_row(struct database *db, struct op *op, const struct cell **ret);
int pg_dump_bytes(struct database *db, struct op *op, const char **ret, size_t *ret_len);
void pg_dump_end(struct database *db);

#endif

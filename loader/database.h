/* SPDX-License-Identifier: MIT
 * database.h: the one interface to every database the loader moves rows to and from.
 *
 * A *class* (driver) is constant code for one product (name, options, slots). A *database* is one
 * connection of it, for one [database NAME] section. Callers use the database_*() functions only
 * (the gate, database.c), which check arguments and capabilities and are the only place that calls
 * a slot.
 *
 *     struct database *db;
 *     r = database_open(section, &err, &db);      // validates; waits for nothing
 *     r = database_connect(db, op);               // also reconnects one that was lost; idempotent
 *     r = database_begin(db, op, DB_BEGIN_WRITE);
 *     r = database_load_begin(db, op, &spec);  database_load_row(...)...;  database_load_end(...);
 *     r = database_commit(db, op);   or   database_abort(db);
 *     database_close(db);
 *
 * Contract
 *  1. Return 0 or -errno, never -1; on failure `ret` is untouched and op->err is filled: text,
 * remote = SQLSTATE (or "SQLITE_CONSTRAINT_UNIQUE"), retry class, and status = rc class of
 * loader.md: 1 data or SQL, 2 connect or auth, 6 refused, 7 outcome unknown. -EBADMSG      the data
 * of a row is refused (a value that does not fit, a constraint): the row is to blame and other rows
 * may go. SQLSTATE 22*, 23*, 44*, P0001. -EAGAIN       transient, repeat the transaction: 40001
 * 40P01 53* 57P0* 55P03, SQLITE_BUSY -ECONNRESET   the connection was lost (08*); transient, except
 * from commit: see 4 -EHOSTUNREACH cannot connect (transient), -EACCES wrong password or no
 * privilege (permanent) -ENOENT       no such table, -EINVAL other SQL errors (permanent), -ENOSPC,
 * -EIO, -EINTR -ETIMEDOUT of op_check(), -ENOTSUP no such slot, -EUCLEAN not a sound database.
 *  2. One database belongs to one thread at a time; several databases run concurrently. Any thread
 * may call op_cancel(op), which a waiting call notices within half a second, or
 * database_cancel(db), which tells the server at once.
 *  3. Ownership: arguments are borrowed until return. `ret` objects are empty on entry and the
 *     caller's afterwards: db_table_done(), db_rows_done(). Cells that a dump gives are valid until
 * the next call on that database.
 *  4. commit: 0 = durable. -errno with retry NEVER or SAFE = certainly not committed (the
 * transaction is gone). ERR_RETRY_UNKNOWN = the connection was lost while it was decided: ask the
 * ledger.
 *  5. abort never fails: what cannot be rolled back is disconnected, and the server rolls back.
 *  6. Names are taken exactly as written, never folded: `Orders` is "Orders". A table may be
 * written `schema.table` or `"with.dot"."x"`. Only sqltext.h builds SQL text.
 *  7. A driver whose library was not found when quayfs was built stays in the table with
 *     `missing` = what to install; opening it gives -ENOTSUP with that text. */
#ifndef QUAY_LOADER_DATABASE_H
#define QUAY_LOADER_DATABASE_H

#include "base/conf.h"
#include "base/op.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DATABASE_ABI 1

enum database_caps {
    DB_COPY_CSV = 1 << 0,   /* load_bytes: takes CSV as it is */
    DB_ROW_ERRORS = 1 << 1, /* a refused load_row leaves the load usable, without that row */
    DB_DUMP_CSV = 1 << 2,   /* dump_bytes: gives CSV as it is */
    DB_UPSERT = 1 << 3      /* db_load.key is honoured */
};

enum db_type { /* what the loader distinguishes; `declared` has the database's own name */
               DB_TYPE_UNSET = 0,
               DB_BOOLEAN,
               DB_INTEGER, /* 64 bit or narrower */
               DB_DOUBLE,
               DB_NUMERIC, /* exact decimal */
               DB_DATE,
               DB_TIMESTAMP, /* without zone */
               DB_TIMESTAMPTZ,
               DB_TEXT,
               DB_JSON,
               DB_BYTES,
               DB_OTHER /* passed as text; the database judges */
};

struct db_column {
    char *name;
    char *declared; /* "bigint", "VARCHAR(10)"; may be "" */
    enum db_type type;
    bool not_null;
    bool has_default; /* default, identity, rowid: may be left out */
    bool generated;   /* cannot be written */
};

struct db_table {
    bool exists;
    char *schema, *name; /* resolved, also when it does not exist ("public", "main") */
    struct db_column *columns;
    size_t n_columns;
};

#define DB_TABLE_INIT ((struct db_table){0})

/* One value on its way in or out. */
enum cell_kind {
    CELL_NULL = 1,
    CELL_TEXT,   /* in: text to be read as the column's type */
    CELL_NUMBER, /* the number's exact text */
    CELL_BOOL,   /* "true" or "false" */
    CELL_JSON    /* an array or object as JSON text */
};

struct cell {
    enum cell_kind kind;
    const char *data;
    size_t len;
};

struct db_rows { /* a small result: text, NULL where null */
    char ***v;   /* v[row][column] */
    size_t n, n_columns;
    uint64_t affected;
};

#define DB_ROWS_INIT ((struct db_rows){0})

struct db_csv {                    /* dialect of load_bytes and dump_bytes */
    char delimiter, quote, escape; /* escape = quote: doubled */
    const char *null;              /* unquoted text that is NULL */
    bool header;                   /* dump: a first line of names */
};

struct db_load {
    const struct db_table *table;
    const struct db_column *const *columns; /* of the table, in the order of the cells */
    size_t n_columns;
    const char *const *key; /* upsert by these columns (last row wins); else n_key 0 */
    size_t n_key;
    const struct db_csv *csv; /* load_bytes; NULL: load_row */
};

struct db_dump {
    const char *table;        /* or */
    const char *query;        /* exactly one */
    const struct db_csv *csv; /* dump_bytes; NULL: dump_row */
};

enum db_begin {
    DB_BEGIN_WRITE = 1,
    DB_BEGIN_SNAPSHOT /* read-only, one consistent state */
};

/* Where load_end, load_bytes or load_row met a refused row; from the server's own words. */
struct db_bad_row {
    uint64_t row;     /* 1 = first row since load_begin; 0 = the server did not say */
    char column[128]; /* or "" */
    bool type;        /* the text is not of the column's type (not a constraint) */
};

struct database;
struct sql_dialect; /* sqltext.h */

struct database_class {
    uint32_t abi;     /* DATABASE_ABI */
    const char *name; /* "postgres": the value of driver = */
    const char *summary;
    const char *missing; /* not built: which package to install; then all else is NULL */
    const struct conf_option *options;
    size_t n_options;
    const struct sql_dialect *dialect;

    int (*open)(const struct conf_section *section, struct err *err, struct database **ret);
    void (*close)(struct database *db); /* rolls back, disconnects, frees */

    /* Required. */
    int (*connect)(struct database *db, struct op *op); /* not connected, or lost: connects */
    int (*begin)(struct database *db, struct op *op, enum db_begin how);
    int (*commit)(struct database *db, struct op *op);
    void (*abort)(struct database *db);
    /* Runs one statement. `params` are texts or NULL; `ret` may be NULL. For small results. */
    int (*exec)(struct database *db, struct op *op, const char *sql, const char *const *params,
                size_t n_params, struct db_rows *ret);
    int (*describe)(struct database *db, struct op *op, const char *table, struct db_table *ret);
    int (*load_begin)(struct database *db, struct op *op, const struct db_load *spec);
    int (*load_row)(struct database *db, struct op *op, const struct cell *cells);
    /* Ends the load and gives how many rows it made. After any error of the load: load_abort. */
    int (*load_end)(struct database *db, struct op *op, uint64_t *ret_rows);
    void (*load_abort)(struct database *db);
    int (*dump_begin)(struct database *db, struct op *op, const struct db_dump *spec,
                      struct db_table *ret_columns);
    int (*dump_row)(struct database *db, struct op *op,
                    const struct cell **ret); /* 1, 0 at the end */
    void (*dump_end)(struct database *db);    /* also early */

    /* Optional. */
    int (*load_bytes)(struct database *db, struct op *op, const void *data, size_t len);
    int (*dump_bytes)(struct database *db, struct op *op, const char **ret,
                      size_t *ret_len);  /* 1, 0 */
    void (*cancel)(struct database *db); /* any thread */
    int (*probe)(struct database *db, struct op *op,
                 char **ret_text); /* "PostgreSQL 15.3 on ..." */
};

struct database { /* first member of every class's own struct */
    const struct database_class *cls;
    char *name; /* of the section */
    uint32_t caps;
    struct db_bad_row bad;                            /* of the last -EBADMSG */
    bool connected, in_transaction, loading, dumping; /* kept by the gate */
};

/* All classes, ended by NULL. */
const struct database_class *const *database_classes(void);
const struct database_class *database_find(const char *name);

/* Checks the section's keys for its driver (FILE:LINE texts); no connection is made. */
int database_check(struct conf_section *section, struct err *err,
                   const struct database_class **ret);
/* database_check and open. -ENOTSUP when the driver was not built. */
int database_open(struct conf_section *section, struct err *err, struct database **ret);

/* ---- the gate ---- */
void database_close(struct database *db); /* NULL ok */
int database_connect(struct database *db, struct op *op);
/* Connects and gives the server's version in one line (malloc'd), for `quayctl check`. */
int database_probe(struct database *db, struct op *op, char **ret_text);
int database_begin(struct database *db, struct op *op, enum db_begin how);
int database_commit(struct database *db, struct op *op);
void database_abort(struct database *db); /* no transaction: nothing */
int database_exec(struct database *db, struct op *op, const char *sql, const char *const *params,
                  size_t n_params, struct db_rows *ret);
int database_describe(struct database *db, struct op *op, const char *table, struct db_table *ret);
int database_load_begin(struct database *db, struct op *op, const struct db_load *spec);
int database_load_row(struct database *db, struct op *op, const struct cell *cells);
int database_load_bytes(struct database *db, struct op *op, const void *data, size_t len);
int database_load_end(struct database *db, struct op *op, uint64_t *ret_rows);
void database_load_abort(struct database *db);
int database_dump_begin(struct database *db, struct op *op, const struct db_dump *spec,
                        struct db_table *ret_columns);
int database_dump_row(struct database *db, struct op *op, const struct cell **ret);
int database_dump_bytes(struct database *db, struct op *op, const char **ret, size_t *ret_len);
void database_dump_end(struct database *db);
void database_cancel(struct database *db);

/* ---- made of the above ---- */
/* Savepoints nest by name ("quay_file", "quay_batch"). */
int database_savepoint(struct database *db, struct op *op, const char *name);
int database_release(struct database *db, struct op *op, const char *name);
int database_rollback_to(struct database *db, struct op *op,
                         const char *name); /* and releases it */
/* CREATE TABLE with the dialect's names for the column types; DROP; all rows away. */
int database_create_table(struct database *db, struct op *op, const struct db_table *table);
int database_drop_table(struct database *db, struct op *op, const struct db_table *table);
int database_empty_table(struct database *db, struct op *op, const struct db_table *table);

/* ---- helpers ---- */
void db_table_done(struct db_table *t);
void db_rows_done(struct db_rows *r);
struct db_column *db_table_add(struct db_table *t, const char *name, enum db_type type);
/* The column named so exactly, else the only one that differs in case; NULL. */
const struct db_column *db_table_column(const struct db_table *t, const char *name);
const char *db_type_name(enum db_type type); /* "integer", for messages and check/ */

#define CLEANUP_DB_TABLE __attribute__((cleanup(db_table_done)))
#define CLEANUP_DB_ROWS __attribute__((cleanup(db_rows_done)))

#endif

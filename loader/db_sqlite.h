/* SPDX-License-Identifier: MIT
 * db_sqlite.h: what the files of the sqlite driver share. */
#ifndef QUAY_LOADER_DB_SQLITE_H
#define QUAY_LOADER_DB_SQLITE_H

#include "base/buf.h"
#include "loader/database.h"

#include <sqlite3.h>

struct db_sqlite {
    struct database base;
    char *path, *schema, *init;
    sqlite3 *handle;
    struct op *op; /* of the call that is under way: for the progress and busy handlers */
    uint64_t busy_until_ns;
    struct {
        sqlite3_stmt *stmt;
        const struct db_column **columns; /* copies of the pointers in the spec */
        size_t n;
        uint64_t rows;
    } load;
    struct {
        sqlite3_stmt *stmt;
        struct cell *cells;
        enum db_type *types;
        size_t n;
        struct buf text; /* numbers and blobs of the current row */
    } dump;
};

static inline struct db_sqlite *db_sqlite_of(struct database *db)
{
    return (struct db_sqlite *)(void *)db;
}

/* Fills op->err from the handle's last error; `what` goes in front. */
int db_sqlite_fail(struct db_sqlite *d, struct op *op, const char *what);
enum db_type db_sqlite_type(const char *declared);

/* Binds one value as the column's type wants it. false: it does not fit, *ret_why says why
 * (static). */
bool db_sqlite_bind(sqlite3_stmt *stmt, int i, const struct db_column *column,
                    const struct cell *cell, const char **ret_why);
/* The value of a result's column i; text that must be made goes behind `text` (reserved by the
 * caller: DB_SQLITE_NUMBER bytes a number, 2 n + 2 a blob). */
#define DB_SQLITE_NUMBER 40
struct cell db_sqlite_value(sqlite3_stmt *stmt, int i, enum db_type type, struct buf *text);

int db_sqlite_load_begin(struct database *db, struct op *op, const struct db_load *spec);
int db_sqlite_load_row(struct database *db, struct op *op, const struct cell *cells);
int db_sqlite_load_end(struct database *db, struct op *op, uint64_t *ret_rows);
void db_sqlite_load_abort(struct database *db);
int db_sqlite_dump_begin(struct database *db, struct op *op, const struct db_dump *spec,
                         struct db_table *ret_columns);
int db_sqlite_dump_row(struct database *db, struct op *op, const struct cell **ret);
void db_sqlite_dump_end(struct database *db);

#endif

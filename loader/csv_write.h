/* SPDX-License-Identifier: MIT
 * csv_write.h: rows as CSV, TSV or JSON lines text. A cell is quoted when it must be: delimiter,
 * quote, CR, LF in it, or it reads as NULL without; so reading it back gives the same. Pure. */
#ifndef QUAY_LOADER_CSV_WRITE_H
#define QUAY_LOADER_CSV_WRITE_H

#include "base/buf.h"
#include "loader/database.h"

void csv_write_cell(struct buf *b, const struct db_csv *d, const struct cell *cell);
void csv_write_row(struct buf *b, const struct db_csv *d, const struct cell *cells, size_t n);
void csv_write_names(struct buf *b, const struct db_csv *d, const struct db_table *columns);

/* {"name":value,...} and a newline. Numbers, booleans and JSON go as such, all else as strings. */
void json_write_row(struct buf *b, const struct db_table *columns, const struct cell *cells);
void json_write_string(struct buf *b, const char *p, size_t len);

#endif

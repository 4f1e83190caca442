/* SPDX-License-Identifier: MIT
 * plan.h: which value of a row goes into which column of the table.
 *
 *     struct plan p = {0};
 *     r = plan_make(&p, &req, &err);            // matches names, refuses what cannot be right
 *     r = plan_row(&p, &record, cells, &bad);   // 0, or 1: the row is bad and `bad` says why
 *     plan_done(&p);
 *
 * Names match exactly, else when only one name differs in nothing but case. A column of the file
 * that is not in the table is an error, unless it is under drop, or [columns] lists what to take
 * without `* = auto`. header = match (default) goes by name; header = yes by position, and is
 * refused where the names are those of the table in another order; header = no by position. JSON
 * lines: by name; a key that a row lacks is NULL, or the column's default where no row of the
 * sample has it.
 * Pure (the table was described before). Threads: one owner. Ownership: borrows the table. */
#ifndef QUAY_LOADER_PLAN_H
#define QUAY_LOADER_PLAN_H

#include "loader/database.h"
#include "loader/reader.h"
#include "loader/rejects.h"
#include "loader/sample.h"

struct plan_req {
    const struct job_op *what;
    const char *path; /* KEY/object, for messages and @file */
    const char *run_id;
    enum job_format format;
    const struct names *names; /* the header; JSON lines: the keys of the sample */
    size_t n_fields;           /* CSV: columns of the file; 0 = empty file */
    const struct db_table *table;
    bool all_defaults; /* JSON lines: also columns that have a default and were not in the
                          sample */
};

enum plan_from { PLAN_FIELD = 1, PLAN_LINE, PLAN_TEXT };

struct plan_column {
    const struct db_column *column;
    enum plan_from from;
    size_t field; /* CSV: index in the row */
    char *name;   /* JSON lines: the key */
    char *text;   /* PLAN_TEXT */
};

struct plan {
    struct plan_column *columns;
    const struct db_column **targets; /* columns[i].column, for db_load */
    size_t n;
    char **key; /* upsert: the table's spelling */
    size_t n_key;
    const struct job_op *what;
    enum job_format format;
    const struct db_table *table;
    size_t n_fields;
    bool reorder; /* the cells are not simply the fields in order */
    char line_text[24];
    char message[256];
    uint64_t *seen; /* JSON lines: the row number in which a column was last set */
    uint64_t row;
    bool wants_default_column; /* a key was met whose column plan_make left to its default */
};

int plan_make(struct plan *p, const struct plan_req *req, struct err *err);
void plan_done(struct plan *p);
/* cells has p->n places. *ret_bad: line, offset, column, code, message (valid until the next call).
 */
int plan_row(struct plan *p, const struct record *rec, struct cell *cells, struct bad_row *ret_bad);

/* The table that the file asks for, named as `like`: columns of [columns], then the file's own. */
int plan_table(const struct plan_req *req, const struct sample *s, const struct db_table *like,
               size_t ident_max, struct err *err, struct db_table *ret);
/* Do the file's columns fit the table (replace: else it is made anew)? */
bool plan_fits(const struct plan_req *req);

/* Why rows cannot be passed to the database as they are; NULL: they can. */
const char *plan_why_parsed(const struct plan *p, uint32_t db_caps);

#endif

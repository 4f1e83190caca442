/* SPDX-License-Identifier: MIT
 * reader.h: rows of any text format, with their place in the file and what is wrong with them.
 *
 *     struct reader_rows rr; reader_init(&rr, format, options, &window);
 *     r = reader_header(&rr, op, &names, &err_record);   // CSV, TSV with a header
 *     while ((r = reader_next(&rr, op, &record)) == 1) ...
 *     reader_done(&rr);
 * Blank lines are not rows, but in a file of one column a blank line is a row with an empty cell.
 * A record is valid until the next call. Threads: one owner. */
#ifndef QUAY_LOADER_READER_H
#define QUAY_LOADER_READER_H

#include "loader/csv_parse.h"
#include "loader/job.h"
#include "loader/jsonl.h"

struct names { /* malloc'd list of names */
    char **v;
    size_t n;
};

struct record {
    const char *raw;
    size_t raw_len;
    uint64_t offset, line;
    const char *code;             /* NULL: good; else "quote" "too_long" "nul" "utf8" "cr" "json" */
    const char *message;          /* static */
    uint64_t error_line;          /* where exactly */
    uint64_t error_column;        /* from 1; 0 = not known */
    const struct csv_cell *cells; /* CSV, TSV */
    const struct jsonl_member *members; /* JSON lines */
    size_t n;
};

struct reader_rows {
    enum job_format format;
    bool has_header;
    unsigned header_skip;
    size_t n_columns; /* CSV: of the header or the first row; 0 = not known yet */
    struct csv csv;
    struct jsonl jsonl;
};

void reader_init(struct reader_rows *rr, enum job_format format, const struct job_format_options *o,
                 struct window *w);
void reader_done(struct reader_rows *rr);
/* Reads the header line when the format has one: 1 and names, 0 when the file is empty or has none
 * (names empty), -errno. A bad header is -EBADMSG with *ret_bad filled. ret_raw: its bytes. */
int reader_header(struct reader_rows *rr, struct op *op, struct names *ret, struct buf *ret_raw,
                  struct record *ret_bad);
int reader_next(struct reader_rows *rr, struct op *op, struct record *ret);

void names_add(struct names *names, const char *p, size_t len);
void names_done(struct names *names);
#define NAMES_NONE ((size_t)-1)
size_t names_find(const struct names *names, const char *p, size_t len); /* exact; or NAMES_NONE */
/* Exact, else the only one that differs in case; or NAMES_NONE. */
size_t names_match(const struct names *names, const char *name);

#endif

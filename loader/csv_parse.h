/* SPDX-License-Identifier: MIT
 * csv_parse.h: CSV and TSV rows with their exact place in the file.
 *
 *     struct csv c; csv_init(&c, &dialect, &window);
 *     while ((r = csv_next(&c, op, &row)) == 1) ...   // 1 a row (good or bad), 0 the end, -errno
 *     csv_done(&c);
 *
 * The grammar is that of PostgreSQL's COPY (FORMAT csv), so that the passing-through path and this
 * one agree: a quote toggles anywhere in a cell; a cell with a quote in it is never NULL; inside
 * quotes the escape character stands before a quote or itself. Lines end with LF or CRLF, mixed as
 * they come. Beyond COPY: a UTF-8 byte order mark at the start, comment lines, trimming, and blank
 * lines are recognised (row.blank). A bare CR outside of quotes is an error of the row, as in COPY.
 *
 * A bad row (row.error) is a row like any other: its bytes are given and the next call goes on
 * behind it; only an unclosed quote takes everything up to the end with it. Bounded memory: a row
 * longer than max_row is given by its first CSV_KEEP bytes. Rows and cells are valid until the next
 * call. Threads: one owner. */
#ifndef QUAY_LOADER_CSV_PARSE_H
#define QUAY_LOADER_CSV_PARSE_H

#include "base/buf.h"
#include "loader/window.h"

#include <stdbool.h>

#define CSV_KEEP 65536

enum csv_error {
    CSV_GOOD = 0,
    CSV_UNCLOSED, /* quote still open at the end of the file; error_line: where it was opened */
    CSV_TOO_LONG,
    CSV_NUL,
    CSV_UTF8,
    CSV_BARE_CR
};

struct csv_dialect {
    char delimiter;
    char quote;   /* 0: none */
    char escape;  /* same as quote: doubled */
    char comment; /* 0: none */
    bool trim;    /* blanks around cells */
    size_t max_row;
};

struct csv_cell {
    const char *data; /* unescaped */
    size_t len;
    bool quoted;
};

struct csv_row {
    const char *raw; /* as in the file, with its line end if it has one */
    size_t raw_len;
    uint64_t offset; /* of raw, in the decompressed file */
    uint64_t line;   /* from 1 */
    const struct csv_cell *cells;
    size_t n;
    bool blank; /* nothing but a line end */
    enum csv_error error;
    uint64_t error_line;
    size_t error_cell; /* from 0 */
};

struct csv_span; /* private: a cell while the row is being scanned */

struct csv {
    struct csv_dialect dialect;
    struct window *window; /* borrowed */
    uint8_t special[256];
    uint64_t line;
    bool started;
    struct csv_cell *cells;
    struct csv_span *spans;
    size_t n_spans, cap_spans;
    struct buf scratch;
};

void csv_init(struct csv *c, const struct csv_dialect *d, struct window *w);
void csv_done(struct csv *c);
int csv_next(struct csv *c, struct op *op, struct csv_row *ret);
/* Skips n physical lines (before a header). 1, or 0 when the file ended, -errno. */
int csv_skip_lines(struct csv *c, struct op *op, unsigned n);
const char *csv_error_text(enum csv_error e);

#endif

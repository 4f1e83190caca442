/* SPDX-License-Identifier: MIT
 * jsonl.h: one JSON object a line (RFC 8259, strict), with its exact place in the file.
 *
 *     struct jsonl j; jsonl_init(&j, max_row, &window);
 *     while ((r = jsonl_next(&j, op, &row)) == 1) ...   // 1 a row (good or bad), 0 the end, -errno
 *     jsonl_done(&j);
 *
 * Values keep their text: a number is given exactly as written (no double in between), an array or
 * object as its JSON text. That is why this is a scanner of our own and not jansson, which gives
 * numbers as double and no positions. Strings are decoded. Blank lines are given as row.blank. A row
 * longer than max_row is given by its first JSONL_KEEP bytes. Rows and members are valid until the next
 * call. Threads: one owner. */
#ifndef QUAY_LOADER_JSONL_H
#define QUAY_LOADER_JSONL_H

#include "base/buf.h"
#include "loader/database.h"
#include "loader/window.h"

#define JSONL_KEEP 65536

enum jsonl_error { JSONL_GOOD = 0, JSONL_SYNTAX, JSONL_TOO_LONG, JSONL_NUL, JSONL_UTF8 };

struct jsonl_member {
    const char *name; /* decoded; not NUL-terminated */
    size_t name_len;
    struct cell value;
};

struct jsonl_row {
    const char *raw; /* with its line end */
    size_t raw_len;
    uint64_t offset, line;
    const struct jsonl_member *members;
    size_t n;
    bool blank;
    enum jsonl_error error;
    const char *message; /* static text */
    size_t error_at;     /* byte within raw */
};

struct jsonl {
    struct window *window; /* borrowed */
    size_t max_row;
    uint64_t line;
    bool started;
    struct jsonl_member *members;
    size_t n, cap;
    struct buf scratch;
};

void jsonl_init(struct jsonl *j, size_t max_row, struct window *w);
void jsonl_done(struct jsonl *j);
int jsonl_next(struct jsonl *j, struct op *op, struct jsonl_row *ret);

#endif

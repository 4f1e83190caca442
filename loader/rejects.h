/* SPDX-License-Identifier: MIT
 * rejects.h: the rows that were refused, in the run's directory:
 *   errors.tsv            file line byte_off col_no col_name code sqlstate message value(<= 200
 * bytes) rejects/<file>.bad    the header and the original bytes of the rows: can be loaded as it
 * is rejects/<file>.bad.err  one line for each of those rows: line number, code, message <file> is
 * the base name without .gz or .zst; a second file of that name in another directory gets
 * "<file>-<8 hex digits of its path>".
 *
 *     struct rejects *j = rejects_new(run_dir, path, header, header_len);   // touches nothing yet
 *     rejects_add(j, &bad, raw, len, &err);          // into files under rejects/.partial-*
 *     rejects_publish(j, &err);                      // the file is done, or failed for good
 *     rejects_free(j);                               // not published: leaves nothing
 * So a transfer that is repeated does not list its rows twice. Threads: one owner; several rejects
 * may append to one errors.tsv (flock). Errors: -errno of the local disk. */
#ifndef QUAY_LOADER_REJECTS_H
#define QUAY_LOADER_REJECTS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct bad_row {
    uint64_t line, offset;
    uint64_t column_number; /* from 1; 0 = not one column */
    const char *column;     /* name or "" */
    const char *code;       /* "columns" "utf8" "quote" "nul" "too_long" "value" "null" ... */
    const char *sqlstate;   /* or "" */
    const char *message;
    const char *value; /* or NULL */
    size_t value_len;
};

struct rejects;

struct rejects *rejects_new(const char *run_dir, const char *path, const void *header,
                            size_t header_len);
int rejects_add(struct rejects *j, const struct bad_row *bad, const void *raw, size_t len,
                struct err *err);
/* All bytes are on the disk's side: before a COMMIT, so that a full disk is noticed in time. */
int rejects_flush(struct rejects *j, struct err *err);
/* On failure the hidden files stay. */
int rejects_publish(struct rejects *j, struct err *err);
void rejects_free(struct rejects *j); /* NULL ok */

#endif

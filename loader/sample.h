/* SPDX-License-Identifier: MIT
 * sample.h: what columns a file has and what types their values could have, from its first rows or
 * from all of them. Used to make tables; a table made from a sample that later rows do not fit is
 * made again from the whole file (transfer_import.c), so a guess never costs a value.
 *
 *     struct sample s = {0};
 *     sample_add(&s, &record, &options, &names);   // for each good row
 *     sample_done(&s);
 * Threads: one owner. */
#ifndef QUAY_LOADER_SAMPLE_H
#define QUAY_LOADER_SAMPLE_H

#include "loader/reader.h"
#include "loader/types.h"

struct sample {
    struct names names; /* JSON lines: keys in order of appearance; CSV: the header, or c1, c2 */
    struct type_guess *guesses; /* one for each name */
    uint64_t rows;
};

void sample_add(struct sample *s, const struct record *rec, const struct job_format_options *o);
void sample_done(struct sample *s);
/* The rows in `data` (bytes behind the header; `whole`: up to the end of the file, else the last,
 * perhaps cut, row is left out). `names`: the header, or empty. */
void sample_scan(struct sample *s, enum job_format format, const struct job_format_options *o,
                 const struct names *names, const char *data, size_t len, bool whole);
/* All rows of a reader whose header was read. */
int sample_read(struct sample *s, struct op *op, struct reader_rows *rr,
                const struct job_format_options *o, const struct names *names);
/* An unquoted text that means NULL. */
bool sample_is_null(const struct job_format_options *o, const struct csv_cell *cell);

#endif

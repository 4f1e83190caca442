/* SPDX-License-Identifier: MIT
 * types.h: what type a text can have without losing anything, for tables that the loader creates
 * and for databases that would store whatever they get. Pure. Threads: any.
 *
 *     struct type_guess g = {0};
 *     for each value: type_guess_add(&g, &cell, typed);
 *     type = type_guess_result(&g);
 *
 * A guess never changes a value: "007" and "+5" are text (zeros are lost as numbers), an integer
 * beyond 64 bits or a decimal that a double does not hold is NUMERIC, a time finer than
 * microseconds is text, and values of two kinds in one column make it text. */
#ifndef QUAY_LOADER_TYPES_H
#define QUAY_LOADER_TYPES_H

#include "loader/database.h"

struct type_guess {
    enum db_type type; /* DB_TYPE_UNSET: no value yet */
    bool wide_integer; /* an integer that a double does not hold was seen */
};

/* `typed`: the source has types of its own (JSON): a string is never a number or boolean. */
void type_guess_add(struct type_guess *g, const struct cell *cell, bool typed);
enum db_type type_guess_result(const struct type_guess *g);

enum db_type type_of_text(const char *p, size_t len);

/* Optional sign and digits only. false: not so, or beyond 64 bits. */
bool text_to_int64(const char *p, size_t len, int64_t *ret);
/* [sign] digits [. digits] [e [sign] digits]; no blanks, no inf, no nan, no hex. */
bool text_is_number(const char *p, size_t len);
/* The double nearest to a number's text. *ret_exact: its shortest form is that number again.
 * false: not a number, or beyond the range of a double. */
bool text_to_double(const char *p, size_t len, double *ret, bool *ret_exact);
/* true/false, t/f, yes/no, y/n, on/off, 1/0, in any case. */
bool text_to_bool(const char *p, size_t len, bool *ret);

#endif

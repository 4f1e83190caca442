/* SPDX-License-Identifier: MIT
 * sqltext.h: quoting of identifiers and literals, and the statements made of them. Nothing else in
 * the loader puts a name or a value into SQL text.
 *
 *     sql_addf(&b, dialect, "DELETE FROM %T WHERE %I = %P", schema, table, "target", 1);
 *   %T  schema, name -> "schema"."name" (schema NULL or "": the name alone)
 *   %I  identifier -> "a""b"      %L  literal -> 'it''s'      %P  int n -> $n or ?n      %%  a '%'
 *
 * Pure. Threads: any. Names with a NUL cannot exist here (C strings). */
#ifndef QUAY_LOADER_SQLTEXT_H
#define QUAY_LOADER_SQLTEXT_H

#include "base/buf.h"
#include "loader/database.h"

#include <stdarg.h>

struct sql_dialect {
    const char *name;
    char param;          /* '$' or '?' before the number of a parameter */
    bool escape_strings; /* a backslash in a literal needs E'...' */
    size_t ident_max;    /* longer names would be cut by the server; 0 = no limit */
    const char *type_names[DB_OTHER + 1]; /* for CREATE TABLE */
    const char *empty_table;              /* "TRUNCATE TABLE " or "DELETE FROM " */
};

void sql_addf(struct buf *b, const struct sql_dialect *d, const char *fmt, ...);
void sql_vaddf(struct buf *b, const struct sql_dialect *d, const char *fmt, va_list ap);

/* Splits `a.b`, `"a.x".b`, `t` into schema (NULL when not given) and name, malloc'd. -EINVAL when
 * not one of these forms. */
int sql_split_table(const char *text, struct err *err, char **ret_schema, char **ret_name);

void sql_create_table(struct buf *b, const struct sql_dialect *d, const struct db_table *t);
/* INSERT INTO t (columns) VALUES (params), and for an upsert ON CONFLICT ... */
void sql_insert(struct buf *b, const struct sql_dialect *d, const struct db_load *spec);
/* " ON CONFLICT (key) DO UPDATE SET ..." or DO NOTHING when all columns are key. */
void sql_on_conflict(struct buf *b, const struct sql_dialect *d, const struct db_load *spec);
/* COPY into (schema, name) or (NULL, name) the spec's columns FROM STDIN; csv NULL = text format.
 */
void sql_copy_in(struct buf *b, const struct sql_dialect *d, const char *schema, const char *name,
                 const struct db_load *spec);
/* COPY (query) TO STDOUT. */
void sql_copy_out(struct buf *b, const struct sql_dialect *d, const char *query,
                  const struct db_csv *csv);
/* "a", "b", "c" */
void sql_columns(struct buf *b, const struct sql_dialect *d, const struct db_load *spec);

#endif

/* SPDX-License-Identifier: MIT
 * sqltext.c: see sqltext.h. Identifiers are always quoted, so a name can be anything but cannot be
 * anything else than a name. */
#include "loader/sqltext.h"

#include "base/cleanup.h"

#include <assert.h>

static void add_ident(struct buf *b, const char *name)
{
    buf_addc(b, '"');
    for (const char *p = name; *p; p++) {
        if (*p == '"')
            buf_addc(b, '"');
        buf_addc(b, *p);
    }
    buf_addc(b, '"');
}

static void add_literal(struct buf *b, const struct sql_dialect *d, const char *text)
{
    bool escape = d->escape_strings && strchr(text, '\\');

    if (escape)
        buf_addc(b, 'E');
    buf_addc(b, '\'');
    for (const char *p = text; *p; p++) {
        if (*p == '\'' || (escape && *p == '\\'))
            buf_addc(b, *p);
        buf_addc(b, *p);
    }
    buf_addc(b, '\'');
}

static void add_table(struct buf *b, const char *schema, const char *name)
{
    if (schema && *schema) {
        add_ident(b, schema);
        buf_addc(b, '.');
    }
    add_ident(b, name);
}

void sql_vaddf(struct buf *b, const struct sql_dialect *d, const char *fmt, va_list ap)
{
    for (const char *p = fmt; *p; p++) {
        if (*p != '%') {
            buf_addc(b, *p);
            continue;
        }
        switch (*++p) {
        case 'T': {
            const char *schema = va_arg(ap, const char *);
            add_table(b, schema, va_arg(ap, const char *));
            break;
        }
        case 'I':
            add_ident(b, va_arg(ap, const char *));
            break;
        case 'L':
            add_literal(b, d, va_arg(ap, const char *));
            break;
        case 'P':
            buf_addf(b, "%c%d", d->param, va_arg(ap, int));
            break;
        default:
            assert(*p == '%');
            buf_addc(b, '%');
        }
    }
}

void sql_addf(struct buf *b, const struct sql_dialect *d, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    sql_vaddf(b, d, fmt, ap);
    va_end(ap);
}

/* Reads one part of a table name at *p, moves *p behind it; NULL when it is malformed or empty. */
static char *split_part(const char **p)
{
    CLEANUP_BUF struct buf part = BUF_INIT;
    const char *s = *p;

    if (*s == '"') {
        for (s++;; s++) {
            if (!*s)
                return NULL;
            if (*s == '"' && *++s != '"')
                break;
            buf_addc(&part, *s);
        }
    } else {
        while (*s && *s != '.' && *s != '"')
            buf_addc(&part, *s++);
    }
    *p = s;
    return part.len ? buf_take(&part) : NULL;
}

int sql_split_table(const char *text, struct err *err, char **ret_schema, char **ret_name)
{
    const char *p = text;
    CLEANUP_FREE char *first = split_part(&p);
    CLEANUP_FREE char *second = NULL;

    if (first && *p == '.') {
        p++;
        second = split_part(&p);
        if (!second)
            first[0] = '\0';
    }
    if (!first || !first[0] || *p)
        return err_set(
            err, EINVAL,
            "'%s' is not a table name: write table, schema.table or \"schema\".\"table\"", text);
    *ret_name = second ? take_ptr(&second) : take_ptr(&first);
    *ret_schema = take_ptr(&first);
    return 0;
}

void sql_create_table(struct buf *b, const struct sql_dialect *d, const struct db_table *t)
{
    sql_addf(b, d, "CREATE TABLE %T (", t->schema, t->name);
    for (size_t i = 0; i < t->n_columns; i++) {
        const struct db_column *c = &t->columns[i];
        sql_addf(b, d, i ? ", %I " : "%I ", c->name);
        buf_addf(b, "%s%s", d->type_names[c->type], c->not_null ? " NOT NULL" : "");
    }
    buf_addc(b, ')');
}

void sql_columns(struct buf *b, const struct sql_dialect *d, const struct db_load *spec)
{
    for (size_t i = 0; i < spec->n_columns; i++)
        sql_addf(b, d, i ? ", %I" : "%I", spec->columns[i]->name);
}

static bool is_key(const struct db_load *spec, const char *name)
{
    for (size_t i = 0; i < spec->n_key; i++) {
        if (strcmp(spec->key[i], name) == 0)
            return true;
    }
    return false;
}

void sql_on_conflict(struct buf *b, const struct sql_dialect *d, const struct db_load *spec)
{
    const char *sep = " DO UPDATE SET ";

    buf_adds(b, " ON CONFLICT (");
    for (size_t i = 0; i < spec->n_key; i++)
        sql_addf(b, d, i ? ", %I" : "%I", spec->key[i]);
    buf_addc(b, ')');
    for (size_t i = 0; i < spec->n_columns; i++) {
        const char *name = spec->columns[i]->name;
        if (is_key(spec, name))
            continue;
        buf_adds(b, sep);
        sql_addf(b, d, "%I = excluded.%I", name, name);
        sep = ", ";
    }
    if (sep[0] == ' ')
        buf_adds(b, " DO NOTHING");
}

void sql_insert(struct buf *b, const struct sql_dialect *d, const struct db_load *spec)
{
    sql_addf(b, d, "INSERT INTO %T (", spec->table->schema, spec->table->name);
    sql_columns(b, d, spec);
    buf_adds(b, ") VALUES (");
    for (size_t i = 0; i < spec->n_columns; i++)
        sql_addf(b, d, i ? ", %P" : "%P", (int)(i + 1));
    buf_addc(b, ')');
    if (spec->n_key)
        sql_on_conflict(b, d, spec);
}

static void add_csv_options(struct buf *b, const struct sql_dialect *d, const struct db_csv *csv)
{
    char one[2] = {0};

    one[0] = csv->delimiter;
    sql_addf(b, d, "(FORMAT csv, DELIMITER %L", one);
    one[0] = csv->quote;
    sql_addf(b, d, ", QUOTE %L", one);
    one[0] = csv->escape;
    sql_addf(b, d, ", ESCAPE %L, NULL %L", one, csv->null ? csv->null : "");
    buf_adds(b, csv->header ? ", HEADER true)" : ")");
}

void sql_copy_in(struct buf *b, const struct sql_dialect *d, const char *schema, const char *name,
                 const struct db_load *spec)
{
    sql_addf(b, d, "COPY %T (", schema, name);
    sql_columns(b, d, spec);
    buf_adds(b, ") FROM STDIN ");
    if (spec->csv)
        add_csv_options(b, d, spec->csv);
}

void sql_copy_out(struct buf *b, const struct sql_dialect *d, const char *query,
                  const struct db_csv *csv)
{
    /* The newline keeps a query that ends in a -- comment from eating the parenthesis. */
    buf_addf(b, "COPY (%s\n) TO STDOUT ", query);
    if (csv)
        add_csv_options(b, d, csv);
}

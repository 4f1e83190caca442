/* SPDX-License-Identifier: MIT
 * plan_row.c: see plan.h: rows into cells, and the table that a file asks for. */
#include "loader/plan.h"

#include "base/buf.h"
#include "base/cleanup.h"

#include <errno.h>
#include <strings.h>

static struct cell text_cell(const char *s)
{
    return (struct cell){CELL_TEXT, s, strlen(s)};
}

static int bad(struct plan *p, const struct record *rec, struct bad_row *ret, const char *code,
               const char *message)
{
    (void)p;
    *ret = (struct bad_row){.line = rec->line,
                            .offset = rec->offset,
                            .column = "",
                            .code = code,
                            .sqlstate = "",
                            .message = message};
    return 1;
}

static void blame_column(const struct plan *p, uint64_t number, struct bad_row *ret)
{
    ret->column_number = number;
    for (size_t i = 0; number && i < p->n; i++) {
        if (p->columns[i].from == PLAN_FIELD && p->columns[i].field == number - 1)
            ret->column = p->columns[i].column->name;
    }
}

/* The columns that are the same for all fields: @line, constants. */
static void fill_fixed(struct plan *p, const struct record *rec, struct cell *cells)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->columns[i].from == PLAN_TEXT) {
            cells[i] = text_cell(p->columns[i].text);
        } else if (p->columns[i].from == PLAN_LINE) {
            (void)snprintf(p->line_text, sizeof(p->line_text), "%llu",
                           (unsigned long long)rec->line);
            cells[i] = (struct cell){CELL_NUMBER, p->line_text, strlen(p->line_text)};
        }
    }
}

static int csv_row(struct plan *p, const struct record *rec, struct cell *cells,
                   struct bad_row *ret)
{
    const struct job_format_options *o = &p->what->format;

    if (rec->n != p->n_fields && !(rec->n < p->n_fields && o->ragged == JOB_RAGGED_NULL)) {
        (void)snprintf(p->message, sizeof(p->message), "the row has %zu column%s, not %zu", rec->n,
                       rec->n == 1 ? "" : "s", p->n_fields);
        return bad(p, rec, ret, "columns", p->message);
    }
    for (size_t i = 0; i < p->n; i++) {
        size_t field = p->columns[i].field;
        if (p->columns[i].from != PLAN_FIELD)
            continue;
        if (field >= rec->n || sample_is_null(o, &rec->cells[field]))
            cells[i] = (struct cell){CELL_NULL, "", 0};
        else
            cells[i] = (struct cell){CELL_TEXT, rec->cells[field].data, rec->cells[field].len};
    }
    return 0;
}

static bool is_key(const struct plan_column *c, const struct jsonl_member *m)
{
    return c->from == PLAN_FIELD && strncmp(c->name, m->name, m->name_len) == 0 &&
           c->name[m->name_len] == '\0';
}

/* The column for a key: probably the one at `hint`. p->n: none. */
static size_t find_column(const struct plan *p, const struct jsonl_member *m, size_t hint)
{
    size_t found = p->n, n = 0;

    if (hint < p->n && is_key(&p->columns[hint], m))
        return hint;
    for (size_t i = 0; i < p->n; i++) {
        if (is_key(&p->columns[i], m))
            return i;
        if (p->columns[i].from == PLAN_FIELD && strlen(p->columns[i].name) == m->name_len &&
            strncasecmp(p->columns[i].name, m->name, m->name_len) == 0) {
            found = i;
            n++;
        }
    }
    return n == 1 ? found : p->n;
}

static bool is_dropped(const struct plan *p, const struct jsonl_member *m)
{
    for (size_t i = 0; i < p->what->drop.n; i++) {
        if (strlen(p->what->drop.v[i]) == m->name_len &&
            strncasecmp(p->what->drop.v[i], m->name, m->name_len) == 0)
            return true;
    }
    return p->what->n_columns && !p->what->columns_rest;
}

static int unknown_key(struct plan *p, const struct record *rec, const struct jsonl_member *m,
                       struct bad_row *ret)
{
    CLEANUP_FREE char *name = xstrndup(m->name, m->name_len);
    const struct db_column *column = db_table_column(p->table, name);

    if (column && column->has_default)
        p->wants_default_column = true;
    (void)snprintf(p->message, sizeof(p->message), "key '%.100s' is not a column of table %.60s",
                   name, p->table->name);
    return bad(p, rec, ret, "column", p->message);
}

static int jsonl_row(struct plan *p, const struct record *rec, struct cell *cells,
                     struct bad_row *ret)
{
    p->row++;
    for (size_t i = 0; i < p->n; i++) {
        if (p->columns[i].from == PLAN_FIELD)
            cells[i] = (struct cell){CELL_NULL, "", 0};
    }
    for (size_t i = 0; i < rec->n; i++) {
        const struct jsonl_member *m = &rec->members[i];
        size_t at = find_column(p, m, i);
        if (at == p->n) {
            if (is_dropped(p, m))
                continue;
            return unknown_key(p, rec, m, ret);
        }
        if (p->seen[at] == p->row) {
            (void)snprintf(p->message, sizeof(p->message), "key '%.100s' is there twice",
                           p->columns[at].name);
            return bad(p, rec, ret, "json", p->message);
        }
        p->seen[at] = p->row;
        cells[at] = m->value;
    }
    return 0;
}

int plan_row(struct plan *p, const struct record *rec, struct cell *cells, struct bad_row *ret_bad)
{
    if (rec->code) {
        (void)bad(p, rec, ret_bad, rec->code, rec->message);
        ret_bad->line = rec->error_line;
        blame_column(p, rec->error_column, ret_bad);
        return 1;
    }
    fill_fixed(p, rec, cells);
    return p->format == JOB_FORMAT_JSONL ? jsonl_row(p, rec, cells, ret_bad)
                                         : csv_row(p, rec, cells, ret_bad);
}

const char *plan_why_parsed(const struct plan *p, uint32_t db_caps)
{
    const struct job_format_options *o = &p->what->format;

    if (!(db_caps & DB_COPY_CSV))
        return "this database takes rows, not CSV";
    if (p->format == JOB_FORMAT_JSONL)
        return "JSON lines are parsed here";
    if (!o->quote)
        return "quote = none";
    if (o->comment)
        return "comment lines are taken out";
    if (o->trim)
        return "trim = yes";
    if (o->null.n > 1)
        return "several texts mean NULL";
    if (o->null.n == 1 && strpbrk(o->null.v[0], "\r\n"))
        return "the NULL text has a line end";
    if (p->reorder)
        return "columns are dropped or added";
    return NULL;
}

/* ---- the table that a file asks for ---- */

static enum db_type source_type(const struct plan_req *req, const struct sample *s,
                                const char *source)
{
    size_t field = names_match(req->names, source);
    size_t len = strlen(source);
    int64_t number;

    if (strcmp(source, "@line") == 0)
        return DB_INTEGER;
    if (strcmp(source, "@loaded_at") == 0)
        return DB_TIMESTAMPTZ;
    if (source[0] == '#' && parse_int(source + 1, &number) && number > 0)
        field = (size_t)number - 1;
    if (len >= 2 && source[0] == '\'')
        return type_of_text(source + 1, len - 2);
    return field < s->names.n ? type_guess_result(&s->guesses[field]) : DB_TEXT;
}

static bool is_mapped(const struct plan_req *req, size_t field)
{
    for (size_t i = 0; i < req->what->n_columns; i++) {
        const char *source = req->what->columns[i].source;
        int64_t number;
        if (source[0] == '#' && parse_int(source + 1, &number) && (size_t)number == field + 1)
            return true;
        if (names_match(req->names, source) == field)
            return true;
    }
    for (size_t i = 0; i < req->what->drop.n; i++) {
        if (field < req->names->n && strcasecmp(req->what->drop.v[i], req->names->v[field]) == 0)
            return true;
    }
    return req->what->n_columns && !req->what->columns_rest;
}

static int check_names(const struct plan_req *req, const struct db_table *t, size_t ident_max,
                       struct err *err)
{
    for (size_t i = 0; i < t->n_columns; i++) {
        const char *name = t->columns[i].name;
        if (!*name)
            return err_set(err, EINVAL, "%s: column %zu has no name, so no table can be made of it",
                           req->path, i + 1);
        if (ident_max && strlen(name) > ident_max)
            return err_set(err, EINVAL, "%s: the column name '%.80s...' is longer than %zu bytes",
                           req->path, name, ident_max);
        for (size_t k = 0; k < i; k++) {
            if (strcasecmp(t->columns[k].name, name) == 0)
                return err_set(err, EINVAL, "%s: two columns are named '%s'", req->path, name);
        }
    }
    return 0;
}

int plan_table(const struct plan_req *req, const struct sample *s, const struct db_table *like,
               size_t ident_max, struct err *err, struct db_table *ret)
{
    struct db_table t = {.schema = xstrdup(like->schema), .name = xstrdup(like->name)};
    int r;

    for (size_t i = 0; i < req->what->n_columns; i++) {
        const struct job_column *c = &req->what->columns[i];
        (void)db_table_add(&t, c->name, source_type(req, s, c->source));
    }
    for (size_t i = 0; i < s->names.n; i++) {
        if (!is_mapped(req, i))
            (void)db_table_add(&t, s->names.v[i], type_guess_result(&s->guesses[i]));
    }
    for (size_t i = 0; i < t.n_columns; i++)
        t.columns[i].declared = xstrdup("");
    r = check_names(req, &t, ident_max, err);
    if (r == 0 && t.n_columns == 0)
        r = err_set(err, EINVAL, "%s is empty: table %s cannot be made of it", req->path,
                    like->name);
    if (r < 0)
        db_table_done(&t);
    else
        *ret = t;
    return r;
}

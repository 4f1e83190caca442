/* SPDX-License-Identifier: MIT
 * plan.c: see plan.h: making the plan. Rows are mapped in plan_row.c. */
#include "loader/plan.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/date.h"

#include <assert.h>
#include <errno.h>
#include <strings.h>

static bool in_list(const struct job_list *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++) {
        if (strcasecmp(list->v[i], name) == 0)
            return true;
    }
    return false;
}

static bool takes_rest(const struct job_op *what)
{
    return what->n_columns == 0 || what->columns_rest;
}

static bool by_name(const struct plan_req *req)
{
    return req->format == JOB_FORMAT_JSONL || req->what->format.header == JOB_HEADER_MATCH ||
           req->what->format.header == 0;
}

/* "a, b, c ..." of a table, for messages. */
static char *column_list(const struct db_table *t)
{
    struct buf b = BUF_INIT;

    for (size_t i = 0; i < t->n_columns && b.len < 200; i++)
        buf_addf(&b, "%s%s", i ? ", " : "", t->columns[i].name);
    if (b.len >= 200)
        buf_adds(&b, " ...");
    return buf_take(&b);
}

static int unknown_column(const struct plan_req *req, const char *name, bool ours, struct err *err)
{
    CLEANUP_FREE char *list = column_list(req->table);
    CLEANUP_FREE const char **names = xcalloc(req->table->n_columns + 1, sizeof(*names));

    for (size_t i = 0; i < req->table->n_columns; i++)
        names[i] = req->table->columns[i].name;
    const char *near = nearest_name(name, names, req->table->n_columns);
    if (ours)
        return err_set(err, EINVAL, "[columns] %s: table %s has no such column (it has %s)", name,
                       req->table->name, list);
    return err_set(err, EINVAL,
                   "%s: column '%s' of the file is not in table %s (it has %s)%s%s%s; map it in "
                   "[columns] or list it under drop",
                   req->path, name, req->table->name, list, near ? "; did you mean '" : "",
                   near ? near : "", near ? "'?" : "");
}

static struct plan_column *add(struct plan *p, const struct db_column *column, enum plan_from from)
{
    p->columns = xrealloc(p->columns, (p->n + 1) * sizeof(*p->columns));
    p->columns[p->n] = (struct plan_column){.column = column, .from = from};
    return &p->columns[p->n++];
}

static bool has_target(const struct plan *p, const struct db_column *column)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->columns[i].column == column)
            return true;
    }
    return false;
}

/* The field that a [columns] source names: an index, or NAMES_NONE with err. */
static int source_field(const struct plan_req *req, const char *source, size_t *ret,
                        struct err *err)
{
    int64_t number;

    if (source[0] == '#' && parse_int(source + 1, &number)) {
        if (number < 1 || (req->n_fields && (uint64_t)number > req->n_fields))
            return err_set(err, EINVAL, "[columns] %s: %s has %zu columns", source, req->path,
                           req->n_fields);
        *ret = (size_t)number - 1;
        return 0;
    }
    *ret = names_match(req->names, source);
    if (*ret == NAMES_NONE && req->format != JOB_FORMAT_JSONL)
        return err_set(err, EINVAL, "[columns] %s: %s has no such column", source, req->path);
    return 0;
}

/* @file and 'constants': the text, malloc'd; NULL when the source is something else. */
static char *source_text(const struct plan_req *req, const char *source)
{
    size_t len = strlen(source);
    char now[32];

    if (strcmp(source, "@file") == 0)
        return xstrdup(req->path);
    if (strcmp(source, "@run") == 0)
        return xstrdup(req->run_id);
    if (strcmp(source, "@loaded_at") == 0) {
        date_format_iso(clock_wall(), now);
        return xstrdup(now);
    }
    if (len >= 2 && source[0] == '\'' && source[len - 1] == '\'')
        return xstrndup(source + 1, len - 2);
    return NULL;
}

static int add_mapped(struct plan *p, const struct plan_req *req, const struct job_column *m,
                      bool *used, struct err *err)
{
    const struct db_column *column = db_table_column(req->table, m->name);
    size_t field = NAMES_NONE;

    if (!column)
        return unknown_column(req, m->name, true, err);
    if (column->generated)
        return err_set(err, EINVAL, "[columns] %s: the column is computed by the database",
                       m->name);
    if (has_target(p, column))
        return err_set(err, EINVAL, "[columns] %s is given twice", m->name);
    if (strcmp(m->source, "@line") == 0)
        return add(p, column, PLAN_LINE), 0;
    char *text = source_text(req, m->source);
    if (text) {
        add(p, column, PLAN_TEXT)->text = text;
        return 0;
    }
    int r = source_field(req, m->source, &field, err);
    if (r < 0)
        return r;
    if (field != NAMES_NONE && field < req->names->n)
        used[field] = true;
    struct plan_column *c = add(p, column, PLAN_FIELD);
    c->field = field;
    c->name =
        xstrdup(field != NAMES_NONE && field < req->names->n ? req->names->v[field] : m->source);
    return 0;
}

static int add_by_name(struct plan *p, const struct plan_req *req, size_t i, struct err *err)
{
    const char *name = req->names->v[i];
    const struct db_column *column = *name ? db_table_column(req->table, name) : NULL;

    if (!column)
        return unknown_column(req, name, false, err);
    if (column->generated)
        return err_set(err, EINVAL,
                       "%s: column '%s' is computed by the database: list it under drop", req->path,
                       name);
    if (has_target(p, column))
        return err_set(err, EINVAL, "%s: two columns of the file are for column '%s'", req->path,
                       column->name);
    struct plan_column *c = add(p, column, PLAN_FIELD);
    c->field = i;
    c->name = xstrdup(name);
    return 0;
}

/* header = yes over names that are the table's, but elsewhere: surely a mistake. */
static int check_order(const struct plan_req *req, struct err *err)
{
    size_t same = 0, moved = 0;

    if (req->what->format.header != JOB_HEADER_YES)
        return 0;
    for (size_t i = 0; i < req->names->n; i++) {
        const struct db_column *c = db_table_column(req->table, req->names->v[i]);
        same += c != NULL;
        moved += c && i < req->table->n_columns && c != &req->table->columns[i];
    }
    if (same == req->names->n && moved)
        return err_set(err, EINVAL,
                       "%s: header = yes goes by position, but the names are in another order than "
                       "in table %s: use header = match",
                       req->path, req->table->name);
    return 0;
}

static int add_by_position(struct plan *p, const struct plan_req *req, const bool *used,
                           struct err *err)
{
    size_t at = 0;
    int r = check_order(req, err);

    for (size_t i = 0; r == 0 && i < req->n_fields; i++) {
        if (used[i] || (i < req->names->n && in_list(&req->what->drop, req->names->v[i])))
            continue;
        while (at < req->table->n_columns &&
               (req->table->columns[at].generated || has_target(p, &req->table->columns[at])))
            at++;
        if (at == req->table->n_columns)
            return err_set(err, EINVAL, "%s: the rows have %zu columns, more than table %s takes",
                           req->path, req->n_fields, req->table->name);
        add(p, &req->table->columns[at++], PLAN_FIELD)->field = i;
    }
    for (; r == 0 && req->n_fields && at < req->table->n_columns; at++) {
        if (!req->table->columns[at].generated && !has_target(p, &req->table->columns[at]))
            return err_set(
                err, EINVAL,
                "%s: the rows have %zu columns, table %s has %zu: name them in [columns]",
                req->path, req->n_fields, req->table->name, req->table->n_columns);
    }
    return r;
}

/* JSON lines: keys that may still come. */
static void add_later_keys(struct plan *p, const struct plan_req *req)
{
    for (size_t i = 0; i < req->table->n_columns; i++) {
        const struct db_column *c = &req->table->columns[i];
        if (c->generated || has_target(p, c) || in_list(&req->what->drop, c->name))
            continue;
        if (!c->has_default || req->all_defaults) {
            struct plan_column *later = add(p, c, PLAN_FIELD);
            later->field = NAMES_NONE;
            later->name = xstrdup(c->name);
        }
    }
}

static int add_rest(struct plan *p, const struct plan_req *req, const bool *used, struct err *err)
{
    if (!by_name(req))
        return add_by_position(p, req, used, err);
    for (size_t i = 0; i < req->names->n; i++) {
        if (used[i] || in_list(&req->what->drop, req->names->v[i]))
            continue;
        /* An unknown key of JSON lines is the error of its row; two spellings are one key. */
        const struct db_column *column = db_table_column(req->table, req->names->v[i]);
        if (req->format == JOB_FORMAT_JSONL && (!column || has_target(p, column)))
            continue;
        int r = add_by_name(p, req, i, err);
        if (r < 0)
            return r;
    }
    if (req->format == JOB_FORMAT_JSONL)
        add_later_keys(p, req);
    return 0;
}

static int by_field(const void *a, const void *b)
{
    const struct plan_column *x = a, *y = b;

    return x->field < y->field ? -1 : x->field > y->field;
}

/* In the order of the file, so that rows can be passed on; what is not of the file comes last. */
static void put_in_order(struct plan *p)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->columns[i].from != PLAN_FIELD)
            p->columns[i].field = NAMES_NONE;
    }
    if (p->format != JOB_FORMAT_JSONL && p->n)
        qsort(p->columns, p->n, sizeof(*p->columns), by_field);
    p->targets = xcalloc(p->n + 1, sizeof(*p->targets));
    p->seen = xcalloc(p->n + 1, sizeof(*p->seen));
    p->reorder = p->n != p->n_fields;
    for (size_t i = 0; i < p->n; i++) {
        p->targets[i] = p->columns[i].column;
        p->reorder |= p->columns[i].field != i || p->columns[i].from != PLAN_FIELD;
    }
}

static int check_required(const struct plan *p, const struct plan_req *req, struct err *err)
{
    for (size_t i = 0; i < req->table->n_columns; i++) {
        const struct db_column *c = &req->table->columns[i];
        if (c->not_null && !c->has_default && !c->generated && !has_target(p, c))
            return err_set(err, EINVAL,
                           "%s: column '%s' of table %s is NOT NULL, has no default and is not in "
                           "the file: map it in [columns]",
                           req->path, c->name, req->table->name);
    }
    return 0;
}

static int find_key(struct plan *p, const struct plan_req *req, struct err *err)
{
    const struct job_list *key = &req->what->key;

    if (req->what->mode != JOB_UPSERT)
        return 0;
    if (key->n == 0)
        return err_set(err, EINVAL, "mode = upsert needs key = COLUMN, ...");
    p->key = xcalloc(key->n, sizeof(*p->key));
    for (size_t i = 0; i < key->n; i++) {
        const struct db_column *c = db_table_column(req->table, key->v[i]);
        if (!c)
            return err_set(err, EINVAL, "key = %s: table %s has no such column", key->v[i],
                           req->table->name);
        if (!has_target(p, c))
            return err_set(err, EINVAL, "key = %s: %s has no such column", key->v[i], req->path);
        p->key[p->n_key++] = xstrdup(c->name);
    }
    return 0;
}

int plan_make(struct plan *p, const struct plan_req *req, struct err *err)
{
    CLEANUP_FREE bool *used = xcalloc(req->names->n + req->n_fields + 1, sizeof(*used));
    int r = 0;

    *p = (struct plan){
        .what = req->what, .format = req->format, .table = req->table, .n_fields = req->n_fields};
    for (size_t i = 0; r == 0 && i < req->what->n_columns; i++)
        r = add_mapped(p, req, &req->what->columns[i], used, err);
    if (r == 0 && takes_rest(req->what))
        r = add_rest(p, req, used, err);
    if (r == 0 && (req->n_fields || req->names->n))
        r = check_required(p, req, err);
    if (r == 0)
        r = find_key(p, req, err);
    if (r == 0 && p->n == 0 && req->n_fields)
        r = err_set(err, EINVAL, "%s: no column of the file is loaded", req->path);
    if (r < 0) {
        plan_done(p);
        return r;
    }
    put_in_order(p);
    return 0;
}

void plan_done(struct plan *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->columns[i].name);
        free(p->columns[i].text);
    }
    for (size_t i = 0; i < p->n_key; i++)
        free(p->key[i]);
    free(p->key);
    free(p->columns);
    free(p->targets);
    free(p->seen);
    *p = (struct plan){0};
}

bool plan_fits(const struct plan_req *req)
{
    struct plan p;
    bool fits = plan_make(&p, req, NULL) == 0;

    for (size_t i = 0; fits && req->format == JOB_FORMAT_JSONL && i < req->names->n; i++)
        fits = db_table_column(req->table, req->names->v[i]) ||
               in_list(&req->what->drop, req->names->v[i]);
    plan_done(&p);
    return fits;
}

/* SPDX-License-Identifier: MIT
 * sample.c: see sample.h. */
#include "loader/sample.h"

#include "base/op.h"

bool sample_is_null(const struct job_format_options *o, const struct csv_cell *cell)
{
    if (cell->quoted)
        return false;
    if (o->null.n == 0)
        return cell->len == 0;
    for (size_t i = 0; i < o->null.n; i++) {
        if (strlen(o->null.v[i]) == cell->len && memcmp(o->null.v[i], cell->data, cell->len) == 0)
            return true;
    }
    return false;
}

static size_t add_name(struct sample *s, const char *p, size_t len)
{
    names_add(&s->names, p, len);
    s->guesses = xrealloc(s->guesses, s->names.n * sizeof(*s->guesses));
    s->guesses[s->names.n - 1] = (struct type_guess){0};
    return s->names.n - 1;
}

static void start(struct sample *s, const struct names *names)
{
    for (size_t i = 0; i < names->n; i++)
        (void)add_name(s, names->v[i], strlen(names->v[i]));
}

static void add_members(struct sample *s, const struct record *rec)
{
    for (size_t i = 0; i < rec->n; i++) {
        const struct jsonl_member *m = &rec->members[i];
        size_t at = i;
        if (at >= s->names.n || strncmp(s->names.v[at], m->name, m->name_len) != 0 ||
            s->names.v[at][m->name_len])
            at = names_find(&s->names, m->name, m->name_len);
        if (at == NAMES_NONE)
            at = add_name(s, m->name, m->name_len);
        type_guess_add(&s->guesses[at], &m->value, true);
    }
}

void sample_add(struct sample *s, const struct record *rec, const struct job_format_options *o)
{
    s->rows++;
    if (rec->members) {
        add_members(s, rec);
        return;
    }
    for (size_t i = 0; i < rec->n; i++) {
        const struct csv_cell *cell = &rec->cells[i];
        struct cell value = {CELL_TEXT, cell->data, cell->len};
        if (i >= s->names.n && s->rows == 1) {
            char name[24];
            int n = snprintf(name, sizeof(name), "c%zu", i + 1);
            (void)add_name(s, name, (size_t)n);
        }
        if (i < s->names.n && !sample_is_null(o, cell))
            type_guess_add(&s->guesses[i], &value, false);
    }
}

void sample_done(struct sample *s)
{
    names_done(&s->names);
    free(s->guesses);
    *s = (struct sample){0};
}

int sample_read(struct sample *s, struct op *op, struct reader_rows *rr,
                const struct job_format_options *o, const struct names *names)
{
    struct record rec;
    int r;

    start(s, names);
    while ((r = reader_next(rr, op, &rec)) == 1) {
        bool ragged = !rec.code && !rec.members && s->names.n && rec.n != s->names.n;
        if (!rec.code && !ragged)
            sample_add(s, &rec, o);
    }
    return r;
}

void sample_scan(struct sample *s, enum job_format format, const struct job_format_options *o,
                 const struct names *names, const char *data, size_t len, bool whole)
{
    struct window w;
    struct reader_rows rr;
    struct op op;

    if (!whole) {
        const char *lf = len ? memrchr(data, '\n', len) : NULL;
        len = lf ? (size_t)(lf - data) + 1 : len;
    }
    op_init(&op, "sample", 0);
    window_init_memory(&w, data, len);
    reader_init(&rr, format, o, &w);
    rr.n_columns = names->n;
    (void)sample_read(s, &op, &rr, o, names); /* memory cannot fail; bad rows are met again later */
    reader_done(&rr);
    window_done(&w);
}

/* SPDX-License-Identifier: MIT
 * reader.c: see reader.h. */
#include "loader/reader.h"

#include "loader/format.h"

#include <errno.h>
#include <strings.h>

void names_add(struct names *names, const char *p, size_t len)
{
    names->v = xrealloc(names->v, (names->n + 1) * sizeof(*names->v));
    names->v[names->n++] = xstrndup(p, len);
}

void names_done(struct names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->v[i]);
    free(names->v);
    *names = (struct names){0};
}

size_t names_find(const struct names *names, const char *p, size_t len)
{
    for (size_t i = 0; i < names->n; i++) {
        if (strncmp(names->v[i], p, len) == 0 && names->v[i][len] == '\0')
            return i;
    }
    return NAMES_NONE;
}

size_t names_match(const struct names *names, const char *name)
{
    size_t found = NAMES_NONE, n = 0;

    for (size_t i = 0; i < names->n; i++) {
        if (strcmp(names->v[i], name) == 0)
            return i;
        if (strcasecmp(names->v[i], name) == 0) {
            found = i;
            n++;
        }
    }
    return n == 1 ? found : NAMES_NONE;
}

void reader_init(struct reader_rows *rr, enum job_format format, const struct job_format_options *o,
                 struct window *w)
{
    size_t max_row = o->max_row ? (size_t)o->max_row : 16u << 20;
    struct csv_dialect d = {.delimiter = format_delimiter(o, format),
                            .quote = o->quote,
                            .escape = o->escape ? o->escape : o->quote,
                            .comment = o->comment,
                            .trim = o->trim,
                            .max_row = max_row};

    *rr = (struct reader_rows){.format = format};
    if (format == JOB_FORMAT_JSONL) {
        jsonl_init(&rr->jsonl, max_row, w);
        return;
    }
    csv_init(&rr->csv, &d, w);
    rr->has_header = o->header != JOB_HEADER_NO;
    rr->header_skip = o->header_skip;
}

void reader_done(struct reader_rows *rr)
{
    if (rr->format == JOB_FORMAT_JSONL)
        jsonl_done(&rr->jsonl);
    else
        csv_done(&rr->csv);
}

static const char *csv_code(enum csv_error e)
{
    static const char *const codes[] = {NULL, "quote", "too_long", "nul", "utf8", "cr"};

    return codes[e];
}

static int next_csv(struct reader_rows *rr, struct op *op, struct record *ret)
{
    struct csv_row row;
    int r;

    do {
        r = csv_next(&rr->csv, op, &row);
    } while (r == 1 && row.blank && rr->n_columns != 1);
    if (r != 1)
        return r;
    if (rr->n_columns == 0 && row.error == CSV_GOOD)
        rr->n_columns = row.n;
    *ret = (struct record){
        .raw = row.raw,
        .raw_len = row.raw_len,
        .offset = row.offset,
        .line = row.line,
        .code = csv_code(row.error),
        .message = row.error ? csv_error_text(row.error) : NULL,
        .error_line = row.error_line,
        .error_column = row.error == CSV_NUL || row.error == CSV_UTF8 ? row.error_cell + 1 : 0,
        .cells = row.cells,
        .n = row.n};
    return 1;
}

static int next_jsonl(struct reader_rows *rr, struct op *op, struct record *ret)
{
    static const char *const codes[] = {NULL, "json", "too_long", "nul", "utf8"};
    struct jsonl_row row;
    int r;

    do {
        r = jsonl_next(&rr->jsonl, op, &row);
    } while (r == 1 && row.blank);
    if (r != 1)
        return r;
    *ret = (struct record){.raw = row.raw,
                           .raw_len = row.raw_len,
                           .offset = row.offset,
                           .line = row.line,
                           .code = codes[row.error],
                           .message = row.message,
                           .error_line = row.line,
                           .members = row.members,
                           .n = row.n};
    return 1;
}

int reader_next(struct reader_rows *rr, struct op *op, struct record *ret)
{
    return rr->format == JOB_FORMAT_JSONL ? next_jsonl(rr, op, ret) : next_csv(rr, op, ret);
}

int reader_header(struct reader_rows *rr, struct op *op, struct names *ret, struct buf *ret_raw,
                  struct record *ret_bad)
{
    struct record header;
    int r = 1;

    if (!rr->has_header)
        return 0;
    if (rr->header_skip)
        r = csv_skip_lines(&rr->csv, op, rr->header_skip);
    if (r == 1)
        r = next_csv(rr, op, &header);
    if (r != 1)
        return r;
    if (header.code) {
        *ret_bad = header;
        return -EBADMSG;
    }
    for (size_t i = 0; i < header.n; i++)
        names_add(ret, header.cells[i].data, header.cells[i].len);
    buf_add(ret_raw, header.raw, header.raw_len);
    rr->n_columns = ret->n;
    return 1;
}

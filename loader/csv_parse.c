/* SPDX-License-Identifier: MIT
 * csv_parse.c: see csv_parse.h.
 *
 * A row is scanned once, byte by byte through a table of special bytes (quoted stretches by
 * memchr), and leaves spans: positions relative to the row's start, which stay true when the window
 * moves. The spans become cells when the row is whole; only cells with inner quotes are copied. */
#include "loader/csv_parse.h"

#include "loader/utf8.h"

#include <errno.h>

enum { SPECIAL_DELIMITER = 1, SPECIAL_QUOTE, SPECIAL_LF, SPECIAL_CR };

struct csv_span {
    size_t start, end;
    unsigned quotes; /* how many quote characters are in it */
    bool inner;      /* needs unescaping: not simply "text" or text */
};

/* The state of one row's scan. */
struct scan {
    size_t pos;           /* next byte to look at */
    size_t quote_at;      /* where the open quote is, when in_quote */
    struct csv_span span; /* the cell being scanned */
    uint64_t newlines;    /* in what was cut away, for the line count */
    uint64_t quote_line;  /* newlines before quote_at that were cut */
    bool in_quote, ended, bare_cr, cut;
};

void csv_init(struct csv *c, const struct csv_dialect *d, struct window *w)
{
    *c = (struct csv){.dialect = *d, .window = w, .line = 1};
    c->special['\n'] = SPECIAL_LF;
    c->special['\r'] = SPECIAL_CR;
    c->special[(uint8_t)d->delimiter] = SPECIAL_DELIMITER;
    if (d->quote)
        c->special[(uint8_t)d->quote] = SPECIAL_QUOTE;
}

void csv_done(struct csv *c)
{
    free(c->cells);
    free(c->spans);
    buf_done(&c->scratch);
    *c = (struct csv){0};
}

static uint64_t count_newlines(const char *p, size_t len)
{
    uint64_t n = 0;
    const char *end = p + len;

    while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
        n++;
        p++;
    }
    return n;
}

static void end_span(struct csv *c, struct scan *s, size_t end)
{
    if (c->n_spans == c->cap_spans) {
        c->cap_spans = c->cap_spans ? 2 * c->cap_spans : 32;
        c->spans = xrealloc(c->spans, c->cap_spans * sizeof(*c->spans));
        c->cells = xrealloc(c->cells, c->cap_spans * sizeof(*c->cells));
    }
    s->span.end = end;
    if (s->span.quotes)
        s->span.inner = s->span.quotes != 2 || s->span.inner;
    c->spans[c->n_spans++] = s->span;
    s->span = (struct csv_span){.start = end + 1};
}

/* Position of the next quote or escape character, or len. */
static size_t find_quote(const struct csv_dialect *d, const char *base, size_t pos, size_t len)
{
    if (d->escape == d->quote) {
        const char *p = memchr(base + pos, d->quote, len - pos);
        return p ? (size_t)(p - base) : len;
    }
    while (pos < len && base[pos] != d->quote && base[pos] != d->escape)
        pos++;
    return pos;
}

/* Moves through a quoted stretch; false when the data ended first. `pos` then stands on what must
 * be looked at again with more data. */
static bool scan_quoted(const struct csv *c, struct scan *s, const char *base, size_t len)
{
    const char quote = c->dialect.quote, escape = c->dialect.escape;

    while ((s->pos = find_quote(&c->dialect, base, s->pos, len)) < len) {
        bool last = s->pos + 1 >= len;
        char next = last ? '\0' : base[s->pos + 1];
        if (base[s->pos] == escape && last && !c->window->eof)
            return false;
        if (base[s->pos] == escape && !last && (next == quote || next == escape)) {
            s->span.inner = true;
            s->pos += 2;
        } else if (base[s->pos++] == quote) {
            s->span.quotes++;
            s->in_quote = false;
            return true;
        }
    }
    return false;
}

/* One special byte outside of quotes; false when more data is needed to judge it. */
static bool scan_special(struct csv *c, struct scan *s, const char *base, size_t len)
{
    switch (c->special[(uint8_t)base[s->pos]]) {
    case SPECIAL_DELIMITER:
        end_span(c, s, s->pos++);
        break;
    case SPECIAL_QUOTE:
        if (s->pos != s->span.start)
            s->span.inner = true;
        s->in_quote = true;
        s->quote_at = s->pos++;
        s->quote_line = s->newlines;
        s->span.quotes++;
        break;
    case SPECIAL_CR:
        if (s->pos + 1 >= len && !c->window->eof)
            return false;
        if (s->pos + 1 < len && base[s->pos + 1] == '\n') {
            end_span(c, s, s->pos);
            s->pos += 2;
            s->ended = true;
        } else {
            s->bare_cr = true;
            s->pos++;
        }
        break;
    default: /* SPECIAL_LF */
        end_span(c, s, s->pos++);
        s->ended = true;
    }
    return true;
}

/* Scans on until the row has ended (true) or more data is needed. */
static bool scan_row(struct csv *c, struct scan *s)
{
    const char *base = window_at(c->window);
    size_t len = window_len(c->window);

    while (s->pos < len) {
        if (s->in_quote) {
            if (!scan_quoted(c, s, base, len))
                return false;
            continue;
        }
        size_t pos = s->pos;
        while (pos < len && !c->special[(uint8_t)base[pos]])
            pos++;
        if (s->span.quotes && pos > s->pos)
            s->span.inner = true; /* text behind a closing quote */
        s->pos = pos;
        if (pos < len && !scan_special(c, s, base, len))
            return false;
        if (s->ended)
            return true;
    }
    return false;
}

/* The row outgrew max_row: keeps its beginning and drops what was scanned. */
static void scan_cut(struct csv *c, struct scan *s)
{
    if (s->pos <= CSV_KEEP)
        return;
    uint64_t lines = count_newlines(window_at(c->window) + CSV_KEEP, s->pos - CSV_KEEP);
    size_t n = window_cut(c->window, CSV_KEEP, s->pos - CSV_KEEP);
    if (n == 0)
        return;
    s->cut = true;
    s->newlines += lines;
    s->pos -= n;
    s->span.start = s->pos;
    c->n_spans = 0;
}

/* A cell with quotes inside, as COPY reads it. */
static struct csv_cell unescape(struct csv *c, const char *p, size_t len)
{
    const char quote = c->dialect.quote, escape = c->dialect.escape;
    size_t at = c->scratch.len;
    bool in_quote = false;

    for (size_t i = 0; i < len; i++) {
        if (in_quote && p[i] == escape && i + 1 < len &&
            (p[i + 1] == quote || p[i + 1] == escape)) {
            buf_addc(&c->scratch, p[++i]);
        } else if (p[i] == quote) {
            in_quote = !in_quote;
        } else {
            buf_addc(&c->scratch, p[i]);
        }
    }
    return (struct csv_cell){c->scratch.data + at, c->scratch.len - at, true};
}

static struct csv_cell make_cell(struct csv *c, const char *base, struct csv_span span)
{
    const char *p = base + span.start;
    size_t len = span.end - span.start;

    if (c->dialect.trim) {
        while (len && (*p == ' ' || *p == '\t'))
            p++, len--;
        while (len && (p[len - 1] == ' ' || p[len - 1] == '\t'))
            len--;
    }
    if (!span.quotes)
        return (struct csv_cell){p, len, false};
    if (!span.inner && len >= 2)
        return (struct csv_cell){p + 1, len - 2, true};
    return unescape(c, p, len);
}

static void make_cells(struct csv *c, const struct csv_row *row)
{
    size_t inner = 0;

    /* Cells point into scratch: it must not move while they are made. */
    for (size_t i = 0; i < c->n_spans; i++)
        inner += c->spans[i].inner ? c->spans[i].end - c->spans[i].start : 0;
    buf_reset(&c->scratch);
    (void)buf_reserve(&c->scratch, inner + 1);
    for (size_t i = 0; i < c->n_spans; i++)
        c->cells[i] = make_cell(c, row->raw, c->spans[i]);
}

static size_t cell_at(const struct csv *c, size_t pos)
{
    size_t i = 0;

    while (i + 1 < c->n_spans && c->spans[i].end < pos)
        i++;
    return i;
}

/* What is wrong with the row's bytes as such. */
static void judge(const struct csv *c, const struct scan *s, struct csv_row *row)
{
    const char *nul;
    size_t good;

    row->error_line = row->line;
    if (s->cut || row->raw_len > c->dialect.max_row) {
        row->error = CSV_TOO_LONG;
        row->raw_len = row->raw_len > CSV_KEEP ? CSV_KEEP : row->raw_len;
    } else if (s->in_quote) {
        row->error = CSV_UNCLOSED;
        row->error_line = row->line + s->quote_line + count_newlines(row->raw, s->quote_at);
        row->error_cell = c->n_spans ? c->n_spans - 1 : 0;
    } else if ((nul = memchr(row->raw, 0, row->raw_len))) {
        row->error = CSV_NUL;
        row->error_cell = cell_at(c, (size_t)(nul - row->raw));
    } else if ((good = utf8_valid_prefix(row->raw, row->raw_len, NULL)) < row->raw_len) {
        row->error = CSV_UTF8;
        row->error_cell = cell_at(c, good);
    } else if (s->bare_cr) {
        row->error = CSV_BARE_CR;
    }
    if (row->error == CSV_NUL || row->error == CSV_UTF8)
        row->error_line = row->line + count_newlines(row->raw, c->spans[row->error_cell].start);
}

static void finish_row(struct csv *c, struct scan *s, struct csv_row *row)
{
    row->raw = window_at(c->window);
    row->raw_len = s->pos;
    row->line = c->line;
    judge(c, s, row);
    c->line += s->newlines + count_newlines(row->raw, s->pos);
    if (row->error == CSV_GOOD)
        make_cells(c, row);
    else
        c->n_spans = 0;
    row->cells = c->cells;
    row->n = c->n_spans;
    row->blank = row->n == 1 && !row->cells[0].quoted && row->cells[0].len == 0;
}

/* Removes the row given last and a byte order mark; 1 when there is data, 0 at the end. */
static int begin_row(struct csv *c, struct op *op)
{
    int r = 1;

    while (r == 1 && window_len(c->window) < 3)
        r = window_more(c->window, op);
    if (r < 0)
        return r;
    if (!c->started && window_len(c->window) >= 3 &&
        memcmp(window_at(c->window), "\xEF\xBB\xBF", 3) == 0)
        window_skip(c->window, 3);
    c->started = true;
    return window_len(c->window) ? 1 : window_more(c->window, op);
}

static int scan_whole_row(struct csv *c, struct op *op, struct scan *s)
{
    while (!scan_row(c, s)) {
        if (s->pos > c->dialect.max_row || s->cut)
            scan_cut(c, s);
        bool was_eof = c->window->eof;
        int r = window_more(c->window, op);
        if (r < 0)
            return r;
        if (r == 0 && was_eof) {
            s->pos = window_len(c->window);
            end_span(c, s, s->pos);
            break;
        }
    }
    return 0;
}

int csv_next(struct csv *c, struct op *op, struct csv_row *ret)
{
    for (;;) {
        struct scan s = {0};
        struct csv_row row = {0};
        int r = begin_row(c, op);
        if (r <= 0)
            return r;
        row.offset = c->window->offset;
        c->n_spans = 0;
        bool comment = c->dialect.comment && *window_at(c->window) == c->dialect.comment;
        r = comment ? csv_skip_lines(c, op, 1) : scan_whole_row(c, op, &s);
        if (r < 0)
            return r;
        if (comment)
            continue;
        finish_row(c, &s, &row);
        window_skip(c->window, s.pos);
        *ret = row;
        return 1;
    }
}

int csv_skip_lines(struct csv *c, struct op *op, unsigned n)
{
    while (n > 0) {
        int r = begin_row(c, op);
        if (r <= 0)
            return r;
        const char *p = window_at(c->window);
        const char *lf = memchr(p, '\n', window_len(c->window));
        window_skip(c->window, lf ? (size_t)(lf - p) + 1 : window_len(c->window));
        if (lf) {
            c->line++;
            n--;
        } else if (c->window->eof) {
            return 0;
        }
    }
    return 1;
}

const char *csv_error_text(enum csv_error e)
{
    switch (e) {
    case CSV_UNCLOSED:
        return "a quote is opened here and never closed";
    case CSV_TOO_LONG:
        return "the row is longer than max_row";
    case CSV_NUL:
        return "the row has a NUL byte";
    case CSV_UTF8:
        return "invalid UTF-8";
    case CSV_BARE_CR:
        return "the row has a carriage return outside of quotes";
    default:
        return "good";
    }
}

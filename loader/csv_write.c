/* SPDX-License-Identifier: MIT
 * csv_write.c: see csv_write.h. */
#include "loader/csv_write.h"

static bool needs_quotes(const struct db_csv *d, const char *p, size_t len)
{
    size_t null_len = d->null ? strlen(d->null) : 0;

    if (len == null_len && memcmp(p, d->null ? d->null : "", len) == 0)
        return true;
    if (len == 2 && p[0] == '\\' && p[1] == '.')
        return true; /* alone on a line it would end a COPY */
    for (size_t i = 0; i < len; i++) {
        if (p[i] == d->delimiter || p[i] == d->quote || p[i] == '\n' || p[i] == '\r')
            return true;
    }
    return false;
}

void csv_write_cell(struct buf *b, const struct db_csv *d, const struct cell *cell)
{
    if (cell->kind == CELL_NULL) {
        buf_adds(b, d->null ? d->null : "");
        return;
    }
    if (!needs_quotes(d, cell->data, cell->len)) {
        buf_add(b, cell->data, cell->len);
        return;
    }
    buf_addc(b, d->quote);
    for (size_t i = 0; i < cell->len; i++) {
        if (cell->data[i] == d->quote || cell->data[i] == d->escape)
            buf_addc(b, d->escape);
        buf_addc(b, cell->data[i]);
    }
    buf_addc(b, d->quote);
}

void csv_write_row(struct buf *b, const struct db_csv *d, const struct cell *cells, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_addc(b, d->delimiter);
        csv_write_cell(b, d, &cells[i]);
    }
    buf_addc(b, '\n');
}

void csv_write_names(struct buf *b, const struct db_csv *d, const struct db_table *columns)
{
    for (size_t i = 0; i < columns->n_columns; i++) {
        const char *name = columns->columns[i].name;
        struct cell cell = {CELL_TEXT, name, strlen(name)};
        if (i)
            buf_addc(b, d->delimiter);
        csv_write_cell(b, d, &cell);
    }
    buf_addc(b, '\n');
}

void json_write_string(struct buf *b, const char *p, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    size_t from = 0;

    buf_addc(b, '"');
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buf_add(b, p + from, i - from);
        from = i + 1;
        buf_addc(b, '\\');
        if (c == '"' || c == '\\') {
            buf_addc(b, (char)c);
        } else if (c == '\n') {
            buf_addc(b, 'n');
        } else if (c == '\t') {
            buf_addc(b, 't');
        } else if (c == '\r') {
            buf_addc(b, 'r');
        } else {
            buf_adds(b, "u00");
            buf_addc(b, hex[c >> 4]);
            buf_addc(b, hex[c & 15]);
        }
    }
    buf_add(b, p + from, len - from);
    buf_addc(b, '"');
}

void json_write_row(struct buf *b, const struct db_table *columns, const struct cell *cells)
{
    buf_addc(b, '{');
    for (size_t i = 0; i < columns->n_columns; i++) {
        const char *name = columns->columns[i].name;
        if (i)
            buf_addc(b, ',');
        json_write_string(b, name, strlen(name));
        buf_addc(b, ':');
        if (cells[i].kind == CELL_NULL)
            buf_adds(b, "null");
        else if (cells[i].kind == CELL_TEXT)
            json_write_string(b, cells[i].data, cells[i].len);
        else
            buf_add(b, cells[i].data, cells[i].len);
    }
    buf_adds(b, "}\n");
}

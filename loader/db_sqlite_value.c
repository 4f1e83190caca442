/* SPDX-License-Identifier: MIT
 * db_sqlite_value.c: the sqlite driver: what a text becomes in a column and back.
 *
 * Rule: what is stored is the value that was in the file, or the row is refused. So numbers go in
 * as numbers, and what SQLite's affinity would round (a decimal of 30 digits in a NUMERIC column)
 * is an error, not a rounding. */
#include "loader/db_sqlite.h"

#include "base/cleanup.h"
#include "loader/types.h"

#include <math.h>
#include <strings.h>

/* By SQLite's own rules of affinity first (datatype3.html 3.1), then finer. */
enum db_type db_sqlite_type(const char *declared)
{
    static const struct {
        const char *part;
        enum db_type type;
    } parts[] = {{"INT", DB_INTEGER},        {"CHAR", DB_TEXT},           {"CLOB", DB_TEXT},
                 {"TEXT", DB_TEXT},          {"BLOB", DB_BYTES},          {"REAL", DB_DOUBLE},
                 {"FLOA", DB_DOUBLE},        {"DOUB", DB_DOUBLE},         {"BOOL", DB_BOOLEAN},
                 {"DATETIME", DB_TIMESTAMP}, {"TIMESTAMP", DB_TIMESTAMP}, {"DATE", DB_DATE},
                 {"NUMERIC", DB_NUMERIC},    {"DECIMAL", DB_NUMERIC},     {"NUMBER", DB_NUMERIC}};

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (strcasestr(declared, parts[i].part))
            return parts[i].type;
    }
    return DB_OTHER;
}

static bool bind_integer(sqlite3_stmt *stmt, int i, const char *p, size_t len, const char **ret_why)
{
    int64_t whole;
    double v;
    bool exact;

    if (text_to_int64(p, len, &whole)) {
        (void)sqlite3_bind_int64(stmt, i, whole);
        return true;
    }
    if (!text_is_number(p, len))
        return *ret_why = "is not an integer", false;
    if (!text_to_double(p, len, &v, &exact) || fabs(v) > 9007199254740992.0)
        return *ret_why = "does not fit in 64 bits", false;
    if (!exact || v != floor(v))
        return *ret_why = "is not an integer", false;
    (void)sqlite3_bind_int64(stmt, i, (int64_t)v); /* 12.0 */
    return true;
}

static bool bind_double(sqlite3_stmt *stmt, int i, const char *p, size_t len, const char **ret_why)
{
    double v;

    if (!text_is_number(p, len))
        return *ret_why = "is not a number", false;
    if (!text_to_double(p, len, &v, NULL))
        return *ret_why = "is out of range", false;
    (void)sqlite3_bind_double(stmt, i, v);
    return true;
}

static bool bind_numeric(sqlite3_stmt *stmt, int i, const char *p, size_t len, const char **ret_why)
{
    int64_t whole;
    double v;
    bool exact;

    if (text_to_int64(p, len, &whole)) {
        (void)sqlite3_bind_int64(stmt, i, whole);
        return true;
    }
    if (!text_is_number(p, len))
        return *ret_why = "is not a number", false;
    if (!text_to_double(p, len, &v, &exact) || !exact)
        return *ret_why = "has more digits than SQLite keeps in this column (make it TEXT)", false;
    (void)sqlite3_bind_double(stmt, i, v);
    return true;
}

static bool bind_bool(sqlite3_stmt *stmt, int i, const char *p, size_t len, const char **ret_why)
{
    bool v;

    if (!text_to_bool(p, len, &v))
        return *ret_why = "is not true or false", false;
    (void)sqlite3_bind_int(stmt, i, v);
    return true;
}

static bool bind_text(sqlite3_stmt *stmt, int i, const char *p, size_t len)
{
    (void)sqlite3_bind_text64(stmt, i, len ? p : "", len, SQLITE_STATIC, SQLITE_UTF8);
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "\x48656c" is bytes, as PostgreSQL writes them; anything else is kept as text. */
static bool bind_bytes(sqlite3_stmt *stmt, int i, const char *p, size_t len, const char **ret_why)
{
    if (len < 2 || p[0] != '\\' || p[1] != 'x')
        return bind_text(stmt, i, p, len);
    if (len % 2)
        return *ret_why = "has an odd number of hex digits", false;
    size_t n = (len - 2) / 2;
    CLEANUP_FREE unsigned char *bytes = xmalloc(n + 1);
    for (size_t at = 0; at < n; at++) {
        int high = hex_digit(p[2 + 2 * at]), low = hex_digit(p[3 + 2 * at]);
        if (high < 0 || low < 0)
            return *ret_why = "is not hexadecimal behind \\x", false;
        bytes[at] = (unsigned char)(high << 4 | low);
    }
    (void)sqlite3_bind_blob64(stmt, i, bytes, n, SQLITE_TRANSIENT);
    return true;
}

/* DATE, TIME, STRING ... have NUMERIC affinity: a text that looks like a number becomes one. */
static bool bind_other(sqlite3_stmt *stmt, int i, const struct db_column *column, const char *p,
                       size_t len, const char **ret_why)
{
    if (!*column->declared || strcasecmp(column->declared, "ANY") == 0 || !text_is_number(p, len))
        return bind_text(stmt, i, p, len);
    enum db_type t = type_of_text(p, len);
    if (t != DB_INTEGER && t != DB_DOUBLE)
        return *ret_why = "would be changed by SQLite's numeric affinity (make the column TEXT)",
               false;
    return bind_text(stmt, i, p, len);
}

bool db_sqlite_bind(sqlite3_stmt *stmt, int i, const struct db_column *column,
                    const struct cell *cell, const char **ret_why)
{
    const char *p = cell->data;
    size_t len = cell->len;

    if (cell->kind == CELL_NULL)
        return (void)sqlite3_bind_null(stmt, i), true;
    bool text = column->type == DB_TEXT || column->type == DB_BYTES || column->type == DB_OTHER;
    if (!text) { /* blanks around are not part of a value, here as in PostgreSQL */
        while (len && *p == ' ')
            p++, len--;
        while (len && p[len - 1] == ' ')
            len--;
    }
    if (cell->kind == CELL_BOOL && column->type == DB_INTEGER)
        return bind_bool(stmt, i, p, len, ret_why);
    switch (column->type) {
    case DB_INTEGER:
        return bind_integer(stmt, i, p, len, ret_why);
    case DB_DOUBLE:
        return bind_double(stmt, i, p, len, ret_why);
    case DB_NUMERIC:
        return bind_numeric(stmt, i, p, len, ret_why);
    case DB_BOOLEAN:
        return bind_bool(stmt, i, p, len, ret_why);
    case DB_TEXT:
        return bind_text(stmt, i, p, len);
    case DB_BYTES:
        return bind_bytes(stmt, i, p, len, ret_why);
    default:
        return bind_other(stmt, i, column, p, len, ret_why);
    }
}

/* The shortest text that reads as the same double, always with a point or exponent. */
static void format_double(double v, char out[DB_SQLITE_NUMBER])
{
    for (int precision = 15; precision <= 17; precision++) {
        (void)snprintf(out, DB_SQLITE_NUMBER, "%.*g", precision, v);
        if (strtod(out, NULL) == v)
            break;
    }
    if (!strpbrk(out, ".e"))
        (void)snprintf(out + strlen(out), 3, ".0");
}

static struct cell add_text(struct buf *text, enum cell_kind kind, const char *p, size_t len)
{
    size_t at = text->len;

    buf_add(text, p, len);
    return (struct cell){kind, text->data + at, len};
}

static struct cell blob_value(sqlite3_stmt *stmt, int i, struct buf *text)
{
    const unsigned char *p = sqlite3_column_blob(stmt, i);
    static const char hex[] = "0123456789abcdef";
    size_t n = (size_t)sqlite3_column_bytes(stmt, i), at = text->len;

    buf_adds(text, "\\x");
    for (size_t k = 0; k < n; k++) {
        buf_addc(text, hex[p[k] >> 4]);
        buf_addc(text, hex[p[k] & 15]);
    }
    return (struct cell){CELL_TEXT, text->data + at, text->len - at};
}

struct cell db_sqlite_value(sqlite3_stmt *stmt, int i, enum db_type type, struct buf *text)
{
    char number[DB_SQLITE_NUMBER];

    switch (sqlite3_column_type(stmt, i)) {
    case SQLITE_NULL:
        return (struct cell){CELL_NULL, "", 0};
    case SQLITE_INTEGER: {
        int64_t v = sqlite3_column_int64(stmt, i);
        if (type == DB_BOOLEAN && (v == 0 || v == 1))
            return (struct cell){CELL_BOOL, v ? "true" : "false", v ? 4 : 5};
        int n = snprintf(number, sizeof(number), "%lld", (long long)v);
        return add_text(text, CELL_NUMBER, number, (size_t)n);
    }
    case SQLITE_FLOAT: {
        double v = sqlite3_column_double(stmt, i);
        if (isinf(v))
            return (struct cell){CELL_TEXT, v < 0 ? "-Infinity" : "Infinity", v < 0 ? 9 : 8};
        format_double(v, number);
        return add_text(text, CELL_NUMBER, number, strlen(number));
    }
    case SQLITE_BLOB:
        return blob_value(stmt, i, text);
    default: {
        const char *p = (const char *)sqlite3_column_text(stmt, i);
        return (struct cell){CELL_TEXT, p ? p : "", (size_t)sqlite3_column_bytes(stmt, i)};
    }
    }
}

/* SPDX-License-Identifier: MIT
 * types.c: see types.h. No locale: numbers are scanned by hand, strtod gets plain digits only. */
#include "loader/types.h"

#include "base/buf.h"
#include "base/cleanup.h"

#include <ctype.h>
#include <math.h>
#include <strings.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool text_to_int64(const char *p, size_t len, int64_t *ret)
{
    bool negative = len && *p == '-';
    size_t i = len && (*p == '-' || *p == '+');
    uint64_t v = 0, limit = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;

    if (i == len)
        return false;
    for (; i < len; i++) {
        if (!is_digit(p[i]))
            return false;
        uint64_t digit = (uint64_t)(p[i] - '0');
        if (v > (limit - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *ret = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

bool text_is_number(const char *p, size_t len)
{
    size_t i = len && (*p == '-' || *p == '+');
    size_t digits = 0;

    for (; i < len && is_digit(p[i]); i++)
        digits++;
    if (i < len && p[i] == '.')
        for (i++; i < len && is_digit(p[i]); i++)
            digits++;
    if (!digits)
        return false;
    if (i < len && (p[i] == 'e' || p[i] == 'E')) {
        i++;
        i += i < len && (p[i] == '-' || p[i] == '+');
        size_t at = i;
        while (i < len && is_digit(p[i]))
            i++;
        if (i == at)
            return false;
    }
    return i == len;
}

/* The significant digits of a number's text (no zeros around them) and the power of ten of the
 * first one: 0.0120 -> "12", -2. Two texts are the same number when both agree (and the signs). */
static void normalise(const char *p, size_t len, struct buf *digits, long *ret_exponent)
{
    long exponent = -1;
    bool point = false;
    size_t i = len && (*p == '-' || *p == '+');

    for (; i < len && p[i] != 'e' && p[i] != 'E'; i++) {
        if (p[i] == '.') {
            point = true;
        } else if (p[i] == '0' && digits->len == 0) {
            exponent -= point;
        } else {
            buf_addc(digits, p[i]);
            exponent += !point;
        }
    }
    if (i < len) {
        char tail[24];
        (void)snprintf(tail, sizeof(tail), "%.*s", (int)(len - i - 1), p + i + 1);
        exponent += strtol(tail, NULL, 10);
    }
    while (digits->len && digits->data[digits->len - 1] == '0')
        buf_truncate(digits, digits->len - 1);
    *ret_exponent = digits->len ? exponent : 0;
}

static bool same_number(const struct buf *digits, long exponent, const char *text)
{
    CLEANUP_BUF struct buf other = BUF_INIT;
    long other_exponent;

    normalise(text, strlen(text), &other, &other_exponent);
    return exponent == other_exponent && strcmp(buf_str(digits), buf_str(&other)) == 0;
}

/* Texts of up to 15 digits always survive; longer ones when 16 or 17 digits of the double give
 * them. */
static bool is_exact(const char *p, size_t len, double v)
{
    CLEANUP_BUF struct buf digits = BUF_INIT;
    char text[40];
    long exponent;

    normalise(p, len, &digits, &exponent);
    if (digits.len == 0)
        return true;
    if (v == 0 || digits.len > 17)
        return false;
    if (digits.len <= 15 && fabs(v) > 1e-300)
        return true;
    for (int precision = 15; precision <= 17; precision++) {
        (void)snprintf(text, sizeof(text), "%.*e", precision - 1, v);
        if (same_number(&digits, exponent, text))
            return true;
    }
    return false;
}

bool text_to_double(const char *p, size_t len, double *ret, bool *ret_exact)
{
    char small[64];
    CLEANUP_FREE char *big = NULL;
    const char *text = small;

    if (!text_is_number(p, len))
        return false;
    if (len < sizeof(small)) {
        memcpy(small, p, len);
        small[len] = '\0';
    } else {
        text = big = xstrndup(p, len);
    }
    double v = strtod(text, NULL);
    if (!isfinite(v))
        return false;
    *ret = v;
    if (ret_exact)
        *ret_exact = len <= 15 || is_exact(p, len, v);
    return true;
}

bool text_to_bool(const char *p, size_t len, bool *ret)
{
    static const char *const yes[] = {"true", "t", "1", "yes", "y", "on"};
    static const char *const no[] = {"false", "f", "0", "no", "n", "off"};

    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (strlen(yes[i]) == len && strncasecmp(yes[i], p, len) == 0)
            return *ret = true, true;
        if (strlen(no[i]) == len && strncasecmp(no[i], p, len) == 0)
            return *ret = false, true;
    }
    return false;
}

/* Reads n digits within lo..hi at p; the caller has checked the length. */
static bool digits_within(const char *p, int n, int lo, int hi, int *ret)
{
    int v = 0;

    for (int i = 0; i < n; i++) {
        if (!is_digit(p[i]))
            return false;
        v = v * 10 + (p[i] - '0');
    }
    *ret = v;
    return v >= lo && v <= hi;
}

static bool is_date(const char *p)
{
    static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int y, m, d;

    if (!digits_within(p, 4, 1, 9999, &y) || p[4] != '-' || !digits_within(p + 5, 2, 1, 12, &m) ||
        p[7] != '-' || !digits_within(p + 8, 2, 1, days[m - 1], &d))
        return false;
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    return !(m == 2 && d == 29 && !leap);
}

/* What follows the time: nothing, Z, +HH, +HHMM, +HH:MM. */
static enum db_type zone_type(const char *p, size_t len)
{
    size_t i = 3;
    int v;

    if (len == 0)
        return DB_TIMESTAMP;
    if (len == 1 && *p == 'Z')
        return DB_TIMESTAMPTZ;
    if ((*p != '+' && *p != '-') || len < 3 || !digits_within(p + 1, 2, 0, 14, &v))
        return DB_TEXT;
    i += i < len && p[i] == ':';
    bool good = len == 3 || (i + 2 == len && digits_within(p + i, 2, 0, 59, &v));
    return good ? DB_TIMESTAMPTZ : DB_TEXT;
}

/* Length of ".ffffff" at p, 0 when there is none; -1: finer than microseconds, or no digit. */
static int fraction_length(const char *p, size_t len)
{
    size_t i = 1;

    if (len == 0 || *p != '.')
        return 0;
    while (i < len && is_digit(p[i]))
        i++;
    return i == 1 || i > 7 ? -1 : (int)i;
}

/* What follows the date: [T ]HH:MM[:SS[.ffffff]] and a zone or not. */
static enum db_type time_type(const char *p, size_t len)
{
    int v, fraction;
    size_t i = 6;

    if (len < 6 || (p[0] != 'T' && p[0] != ' ') || !digits_within(p + 1, 2, 0, 23, &v) ||
        p[3] != ':' || !digits_within(p + 4, 2, 0, 59, &v))
        return DB_TEXT;
    if (len >= 9 && p[6] == ':') {
        if (!digits_within(p + 7, 2, 0, 59, &v))
            return DB_TEXT;
        i = 9;
        fraction = fraction_length(p + i, len - i);
        if (fraction < 0)
            return DB_TEXT;
        i += (size_t)fraction;
    }
    return zone_type(p + i, len - i);
}

static enum db_type number_type(const char *p, size_t len)
{
    size_t i = *p == '-';
    int64_t whole;
    double v;
    bool exact;

    if (*p == '+' || *p == '.' || p[i] == '.' || p[len - 1] == '.' ||
        (p[i] == '0' && i + 1 < len && is_digit(p[i + 1])))
        return DB_TEXT; /* forms that a number would not give back */
    if (text_to_int64(p, len, &whole))
        return *p == '-' && whole == 0 ? DB_TEXT : DB_INTEGER;
    if (text_to_double(p, len, &v, &exact) && exact && memchr(p, '.', len))
        return DB_DOUBLE;
    if (memchr(p, 'e', len) || memchr(p, 'E', len))
        return text_to_double(p, len, &v, &exact) && exact ? DB_DOUBLE : DB_TEXT;
    return len < 1000 ? DB_NUMERIC : DB_TEXT;
}

enum db_type type_of_text(const char *p, size_t len)
{
    if (len == 0)
        return DB_TEXT;
    if (text_is_number(p, len))
        return number_type(p, len);
    if ((len == 4 && strncasecmp(p, "true", 4) == 0) ||
        (len == 5 && strncasecmp(p, "false", 5) == 0))
        return DB_BOOLEAN;
    if (len >= 10 && is_date(p))
        return len == 10 ? DB_DATE : time_type(p + 10, len - 10);
    return DB_TEXT;
}

static enum db_type cell_type(const struct cell *cell, bool typed)
{
    if (cell->kind == CELL_BOOL)
        return DB_BOOLEAN;
    if (cell->kind == CELL_JSON)
        return DB_JSON;
    enum db_type t = type_of_text(cell->data, cell->len);
    bool plain = t == DB_DATE || t == DB_TIMESTAMP || t == DB_TIMESTAMPTZ;
    if (typed && cell->kind == CELL_TEXT && !plain)
        return DB_TEXT;
    if (cell->kind == CELL_NUMBER && t == DB_TEXT) { /* JSON says it is a number: -0, 1e400 */
        double v;
        bool exact;
        return text_to_double(cell->data, cell->len, &v, &exact) && exact ? DB_DOUBLE : DB_TEXT;
    }
    return t;
}

static bool is_number_type(enum db_type t)
{
    return t == DB_INTEGER || t == DB_DOUBLE || t == DB_NUMERIC;
}

void type_guess_add(struct type_guess *g, const struct cell *cell, bool typed)
{
    int64_t v;

    if (cell->kind == CELL_NULL || g->type == DB_TEXT)
        return;
    enum db_type t = cell_type(cell, typed);
    if (t == DB_INTEGER && text_to_int64(cell->data, cell->len, &v) &&
        (v > (1LL << 53) || v < -(1LL << 53)))
        g->wide_integer = true;
    if (g->type == DB_TYPE_UNSET || g->type == t)
        g->type = t;
    else if (is_number_type(g->type) && is_number_type(t))
        g->type = g->type == DB_NUMERIC || t == DB_NUMERIC ? DB_NUMERIC : DB_DOUBLE;
    else
        g->type = DB_TEXT;
}

enum db_type type_guess_result(const struct type_guess *g)
{
    if (g->type == DB_DOUBLE && g->wide_integer)
        return DB_NUMERIC;
    return g->type == DB_TYPE_UNSET ? DB_TEXT : g->type;
}

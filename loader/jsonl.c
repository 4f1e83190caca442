/* SPDX-License-Identifier: MIT
 * jsonl.c: see jsonl.h. Recursive descent over one line, at most JSON_DEPTH deep. */
#include "loader/jsonl.h"

#include "loader/utf8.h"

#include <errno.h>

enum { JSON_DEPTH = 200 };

struct scan {
    const char *p, *end;
    const char *message; /* set: failed at p */
    enum jsonl_error error;
    struct buf *scratch; /* big enough for the whole line: never moves */
};

static bool fail(struct scan *s, const char *message)
{
    if (!s->message) {
        s->message = message;
        s->error = JSONL_SYNTAX;
    }
    return false;
}

static void skip_blanks(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\r' || *s->p == '\n'))
        s->p++;
}

static bool expect(struct scan *s, char c, const char *message)
{
    skip_blanks(s);
    if (s->p >= s->end || *s->p != c)
        return fail(s, message);
    s->p++;
    return true;
}

static bool hex4(const char *p, const char *end, uint32_t *ret)
{
    uint32_t v = 0;

    if (end - p < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint32_t)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            v = v << 4 | (uint32_t)((c | 32) - 'a' + 10);
        else
            return false;
    }
    *ret = v;
    return true;
}

/* \uXXXX, also a surrogate pair; s->p stands behind the 'u'. */
static bool scan_unicode(struct scan *s, struct buf *out)
{
    uint32_t code, low;

    if (!hex4(s->p, s->end, &code))
        return fail(s, "\\u wants four hex digits");
    s->p += 4;
    if (code == 0) {
        s->error = JSONL_NUL;
        s->message = "the string has a NUL (\\u0000)";
        return false;
    }
    if (code >= 0xD800 && code <= 0xDFFF) {
        if (code >= 0xDC00 || s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u' ||
            !hex4(s->p + 2, s->end, &low) || low < 0xDC00 || low > 0xDFFF)
            return fail(s, "half of a surrogate pair");
        s->p += 6;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (out)
        utf8_add(out, code);
    return true;
}

static bool scan_escape(struct scan *s, struct buf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";

    if (s->p >= s->end)
        return fail(s, "the string is not closed");
    char c = *s->p++;
    if (c == 'u')
        return scan_unicode(s, out);
    const char *at = strchr(from, c);
    if (!at || !c)
        return fail(s, "unknown escape in the string");
    if (out)
        buf_addc(out, to[at - from]);
    return true;
}

/* A string; s->p stands on its quote. `out` gets the decoded text (in the line when it has no
 * escape). */
static bool scan_string(struct scan *s, const char **ret, size_t *ret_len)
{
    const char *start = ++s->p;
    size_t at = s->scratch->len;
    bool escaped = false;

    for (;;) {
        const char *from = s->p;
        while (s->p < s->end && *s->p != '"' && *s->p != '\\' && (unsigned char)*s->p >= 0x20)
            s->p++;
        if (s->p >= s->end)
            return fail(s, "the string is not closed");
        if ((unsigned char)*s->p < 0x20)
            return fail(s, "a control character in the string");
        if (escaped || *s->p == '\\')
            buf_add(s->scratch, escaped ? from : start, (size_t)(s->p - (escaped ? from : start)));
        if (*s->p++ == '"')
            break;
        escaped = true;
        if (!scan_escape(s, s->scratch))
            return false;
    }
    *ret = escaped ? s->scratch->data + at : start;
    *ret_len = escaped ? s->scratch->len - at : (size_t)(s->p - 1 - start);
    return true;
}

static bool is_digit(const struct scan *s)
{
    return s->p < s->end && *s->p >= '0' && *s->p <= '9';
}

static bool scan_number(struct scan *s)
{
    if (*s->p == '-')
        s->p++;
    if (!is_digit(s))
        return fail(s, "not a JSON value");
    if (*s->p == '0') {
        s->p++;
        if (is_digit(s))
            return fail(s, "a number with a leading zero");
    }
    while (is_digit(s))
        s->p++;
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        if (!is_digit(s))
            return fail(s, "a number wants digits behind the point");
        while (is_digit(s))
            s->p++;
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
            s->p++;
        if (!is_digit(s))
            return fail(s, "a number wants digits in its exponent");
        while (is_digit(s))
            s->p++;
    }
    return true;
}

static bool scan_value(struct scan *s, int depth, struct cell *ret);

/* The inside of an array or object; s->p stands on its bracket. */
static bool scan_nested(struct scan *s, int depth)
{
    bool object = *s->p++ == '{';
    const char close = object ? '}' : ']';
    const char *name;
    size_t len;
    struct cell ignored;

    if (depth >= JSON_DEPTH)
        return fail(s, "nested too deeply");
    skip_blanks(s);
    if (s->p < s->end && *s->p == close)
        return s->p++, true;
    for (;;) {
        skip_blanks(s);
        if (object) {
            if (s->p >= s->end || *s->p != '"')
                return fail(s, "a name in quotes is expected");
            if (!scan_string(s, &name, &len) || !expect(s, ':', "':' is expected"))
                return false;
        }
        if (!scan_value(s, depth + 1, &ignored))
            return false;
        skip_blanks(s);
        if (s->p < s->end && *s->p == close)
            return s->p++, true;
        if (!expect(s, ',', object ? "',' or '}' is expected" : "',' or ']' is expected"))
            return false;
    }
}

static bool scan_word(struct scan *s, const char *word)
{
    size_t len = strlen(word);

    if ((size_t)(s->end - s->p) < len || memcmp(s->p, word, len) != 0)
        return fail(s, "not a JSON value");
    s->p += len;
    return true;
}

static bool scan_value(struct scan *s, int depth, struct cell *ret)
{
    skip_blanks(s);
    if (s->p >= s->end)
        return fail(s, "the line ends within the object");
    const char *start = s->p;
    bool good;

    switch (*start) {
    case '"':
        ret->kind = CELL_TEXT;
        return scan_string(s, &ret->data, &ret->len);
    case '{':
    case '[':
        ret->kind = CELL_JSON;
        good = scan_nested(s, depth);
        break;
    case 't':
        ret->kind = CELL_BOOL;
        good = scan_word(s, "true");
        break;
    case 'f':
        ret->kind = CELL_BOOL;
        good = scan_word(s, "false");
        break;
    case 'n':
        ret->kind = CELL_NULL;
        good = scan_word(s, "null");
        break;
    default:
        ret->kind = CELL_NUMBER;
        good = scan_number(s);
    }
    ret->data = start;
    ret->len = (size_t)(s->p - start);
    return good;
}

static bool scan_member(struct jsonl *j, struct scan *s)
{
    if (j->n == j->cap) {
        j->cap = j->cap ? 2 * j->cap : 32;
        j->members = xrealloc(j->members, j->cap * sizeof(*j->members));
    }
    struct jsonl_member *m = &j->members[j->n];
    skip_blanks(s);
    if (s->p >= s->end || *s->p != '"')
        return fail(s, "a name in quotes is expected");
    if (!scan_string(s, &m->name, &m->name_len) || !expect(s, ':', "':' is expected") ||
        !scan_value(s, 1, &m->value))
        return false;
    j->n++;
    skip_blanks(s);
    return true;
}

static bool scan_line(struct jsonl *j, struct scan *s)
{
    if (!expect(s, '{', "each line must be one JSON object"))
        return false;
    skip_blanks(s);
    if (s->p < s->end && *s->p == '}') {
        s->p++;
    } else {
        for (;;) {
            if (!scan_member(j, s))
                return false;
            if (s->p < s->end && *s->p == '}')
                break;
            if (!expect(s, ',', "',' or '}' is expected"))
                return false;
        }
        s->p++;
    }
    skip_blanks(s);
    return s->p == s->end || fail(s, "something follows the object on its line");
}

void jsonl_init(struct jsonl *j, size_t max_row, struct window *w)
{
    *j = (struct jsonl){.window = w, .max_row = max_row, .line = 1};
}

void jsonl_done(struct jsonl *j)
{
    free(j->members);
    buf_done(&j->scratch);
    *j = (struct jsonl){0};
}

static bool is_blank(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r' && p[i] != '\n')
            return false;
    }
    return true;
}

static void parse_row(struct jsonl *j, struct jsonl_row *row)
{
    struct scan s = {.p = row->raw, .end = row->raw + row->raw_len, .scratch = &j->scratch};
    size_t good;

    j->n = 0;
    row->blank = is_blank(row->raw, row->raw_len);
    if (row->blank)
        return;
    if ((good = utf8_valid_prefix(row->raw, row->raw_len, NULL)) < row->raw_len) {
        row->error = JSONL_UTF8;
        row->message = "invalid UTF-8";
        row->error_at = good;
        return;
    }
    buf_reset(&j->scratch);
    (void)buf_reserve(&j->scratch, row->raw_len + 8);
    if (!scan_line(j, &s)) {
        row->error = s.error;
        row->message = s.message;
        row->error_at = (size_t)(s.p - row->raw);
        j->n = 0;
    }
    row->members = j->members;
    row->n = j->n;
}

/* Length of the line at the window's start; *ret_cut when it was too long to keep. 0 = the end. */
static int find_line(struct jsonl *j, struct op *op, size_t *ret_len, bool *ret_cut)
{
    size_t pos = 0;

    *ret_cut = false;
    for (;;) {
        const char *p = window_at(j->window);
        size_t len = window_len(j->window);
        const char *lf = len > pos ? memchr(p + pos, '\n', len - pos) : NULL;
        if (lf || (j->window->eof && len)) {
            *ret_len = lf ? (size_t)(lf - p) + 1 : len;
            return 1;
        }
        pos = len;
        if (pos > JSONL_KEEP && (*ret_cut || pos > j->max_row)) {
            size_t n = window_cut(j->window, JSONL_KEEP, pos - JSONL_KEEP);
            *ret_cut |= n > 0;
            pos -= n;
        }
        int r = window_more(j->window, op);
        if (r < 0)
            return r;
        if (r == 0 && window_len(j->window) == 0)
            return 0;
    }
}

int jsonl_next(struct jsonl *j, struct op *op, struct jsonl_row *ret)
{
    struct jsonl_row row = {0};
    size_t len = 0;
    bool cut = false;
    int r = 1;

    while (r == 1 && !j->started && window_len(j->window) < 3)
        r = window_more(j->window, op);
    if (r < 0)
        return r;
    if (!j->started && window_len(j->window) >= 3 &&
        memcmp(window_at(j->window), "\xEF\xBB\xBF", 3) == 0)
        window_skip(j->window, 3);
    j->started = true;
    row.offset = j->window->offset;
    r = find_line(j, op, &len, &cut);
    if (r <= 0)
        return r;
    row.raw = window_at(j->window);
    row.raw_len = len;
    row.line = j->line++;
    if (cut || len > j->max_row) {
        row.raw_len = len > JSONL_KEEP ? JSONL_KEEP : len;
        row.error = JSONL_TOO_LONG;
        row.message = "the row is longer than max_row";
    } else {
        parse_row(j, &row);
    }
    window_skip(j->window, len);
    *ret = row;
    return 1;
}

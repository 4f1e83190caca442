/* SPDX-License-Identifier: MIT
 * job_value.c: the values of a job file: lists, quoted texts, single bytes, limits. Pure. */
#include "loader/job_parts.h"

#include "base/buf.h"
#include "base/cleanup.h"

#include <ctype.h>
#include <math.h>

void job_list_add(struct job_list *l, const char *text, size_t len)
{
    l->v = xrealloc(l->v, (l->n + 1) * sizeof(*l->v));
    l->v[l->n++] = xstrndup(text, len);
}

void job_list_done(struct job_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
    *l = (struct job_list){0};
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes one escape behind a backslash at *s, moves *s past it; -1 when there is none such. */
static int escape_byte(const char **s)
{
    const char *p = *s;

    *s = p + 1;
    switch (*p) {
    case 'n':
        return '\n';
    case 't':
        return '\t';
    case 'r':
        return '\r';
    case '"':
    case '\\':
        return *p;
    case 'x':
        if (hex_digit(p[1]) < 0 || hex_digit(p[2]) < 0)
            return -1;
        *s = p + 3;
        return hex_digit(p[1]) * 16 + hex_digit(p[2]);
    default:
        return -1;
    }
}

/* `*s` is behind the opening quote; afterwards behind the closing one. */
static bool quoted(const char **s, struct buf *out, const char **ret_why)
{
    const char *p = *s;

    while (*p != '"') {
        int c = (unsigned char)*p;

        if (c == 0) {
            *ret_why = "the double quote is not closed";
            return false;
        }
        p++;
        if (c == '\\' && (c = escape_byte(&p)) <= 0) {
            *ret_why = "unknown escape (known: \\n \\t \\r \\\" \\\\ \\xNN)";
            return false;
        }
        buf_addc(out, (char)c);
    }
    *s = p + 1;
    return true;
}

static const char *skip_blanks(const char *s)
{
    while (*s == ' ' || *s == '\t' || *s == '\r')
        s++;
    return s;
}

static bool is_separator(char c)
{
    return c == ',' || c == '\n';
}

/* One item from *s up to a separator or the end. */
static bool list_item(const char **s, struct job_list *ret, const char **ret_why)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    const char *p = skip_blanks(*s), *end;

    if (*p == '"') {
        p++;
        if (!quoted(&p, &b, ret_why))
            return false;
        p = skip_blanks(p);
        if (*p && !is_separator(*p)) {
            *ret_why = "text behind a closing double quote";
            return false;
        }
        job_list_add(ret, buf_str(&b), b.len);
        *s = p;
        return true;
    }
    for (end = p; *end && !is_separator(*end); end++)
        ;
    *s = end;
    while (end > p && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
        end--;
    if (end == p) {
        *ret_why = "empty item (write \"\" for an empty text)";
        return false;
    }
    job_list_add(ret, p, (size_t)(end - p));
    return true;
}

bool job_value_list(const char *text, struct job_list *ret, const char **ret_why)
{
    const char *s = text;

    for (;;) {
        if (!list_item(&s, ret, ret_why)) {
            job_list_done(ret);
            return false;
        }
        if (!*s)
            return true;
        s++;
        /* "a,\n b" and a final newline are one separator */
        for (const char *p = skip_blanks(s); *p == '\n'; p = skip_blanks(s))
            s = p + 1;
    }
}

bool job_value_text(const char *text, char **ret, const char **ret_why)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    const char *s = skip_blanks(text);

    if (*s != '"') {
        *ret = xstrdup(text);
        return true;
    }
    s++;
    if (!quoted(&s, &b, ret_why))
        return false;
    if (*skip_blanks(s)) {
        *ret_why = "text behind a closing double quote";
        return false;
    }
    *ret = xstrdup(buf_str(&b));
    return true;
}

bool job_value_char(const char *text, char *ret)
{
    static const struct {
        const char *word;
        char c;
    } words[] = {{"tab", '\t'},   {"comma", ','},  {"pipe", '|'}, {"semicolon", ';'},
                 {"colon", ':'},  {"space", ' '},  {"none", 0},   {"hash", '#'},
                 {"quote", '"'},  {"single", '\''}, {"backslash", '\\'}};
    const char *s = text;
    size_t len = strlen(text);
    int c;

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (!strcmp(text, words[i].word)) {
            *ret = words[i].c;
            return true;
        }
    if (len >= 3 && text[0] == '"' && text[len - 1] == '"') { /* "x", "\t" */
        CLEANUP_BUF struct buf b = BUF_INIT;
        const char *why;

        s = text + 1;
        if (!quoted(&s, &b, &why) || *s || b.len != 1)
            return false;
        *ret = b.data[0];
        return true;
    }
    if (len == 1) {
        *ret = text[0];
        return true;
    }
    if (text[0] != '\\')
        return false;
    s = text + 1;
    c = escape_byte(&s);
    if (c <= 0 || *s || c > 127)
        return false;
    *ret = (char)c;
    return true;
}

bool job_value_limit(const char *text, int64_t *ret_count, double *ret_pct)
{
    size_t len = strlen(text);
    char *end;
    double pct;

    if (len == 0 || text[len - 1] != '%') {
        int64_t n;

        if (!parse_int(text, &n) || n < 0)
            return false;
        *ret_count = n;
        *ret_pct = -1;
        return true;
    }
    if (!isdigit((unsigned char)text[0]))
        return false;
    pct = strtod(text, &end);
    while (*end == ' ')
        end++;
    if (end != text + len - 1 || !isfinite(pct) || pct > 100)
        return false;
    *ret_count = -1;
    *ret_pct = pct;
    return true;
}

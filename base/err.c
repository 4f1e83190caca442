/* SPDX-License-Identifier: MIT
 * err.c: filling struct err.
 * Invariants: (1) text is always NUL-terminated, one line, without control bytes; (2) formatting
 * goes through a local buffer, so e->text itself may be among the arguments; (3) NULL is accepted.
 */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void clean(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = '?';
}

/* A text cut by the buffer's end must not end within a UTF-8 sequence. */
static void cut_utf8(char *s, size_t len)
{
    size_t i = len;
    size_t back = 0;
    while (i > 0 && back < 3 && ((unsigned char)s[i - 1] & 0xC0) == 0x80) {
        i--;
        back++;
    }
    if (i == 0)
        return;
    unsigned char lead = (unsigned char)s[i - 1];
    size_t want = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
    if (lead >= 0xC0 && back < want)
        s[i - 1] = '\0';
}

static void put_text(struct err *e, const char *text, int len)
{
    snprintf(e->text, sizeof(e->text), "%s", text);
    if (len >= (int)sizeof(e->text))
        cut_utf8(e->text, sizeof(e->text) - 1);
    clean(e->text);
}

int err_vset(struct err *e, int code, const char *fmt, va_list ap)
{
    if (code <= 0)
        code = EIO;
    if (!e)
        return -code;
    char text[sizeof(e->text)];
    int len = vsnprintf(text, sizeof(text), fmt, ap);
    e->code = code;
    e->retry = ERR_RETRY_NEVER;
    e->retry_after_ms = 0;
    e->status = 0;
    e->remote[0] = '\0';
    put_text(e, len < 0 ? "" : text, len);
    return -code;
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int r = err_vset(e, code, fmt, ap);
    va_end(ap);
    return r;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    if (!e)
        return -EIO;
    if (e->code <= 0)
        e->code = EIO;
    char text[2 * sizeof(e->text)];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(e->text), fmt, ap);
    va_end(ap);
    if (n < 0)
        n = 0;
    if (n >= (int)sizeof(e->text))
        n = (int)sizeof(e->text) - 1;
    int m = snprintf(text + n, sizeof(text) - (size_t)n, ": %s", err_text(e));
    put_text(e, text, n + m);
    return -e->code;
}

bool err_is_unknown(const struct err *e, int r)
{
    return r == -EINTR || e->retry == ERR_RETRY_UNKNOWN;
}

void err_clear(struct err *e)
{
    if (e)
        *e = ERR_INIT;
}

const char *err_text(const struct err *e)
{
    if (!e)
        return "unknown error";
    if (e->text[0])
        return e->text;
    return strerror(e->code);
}

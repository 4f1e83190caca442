/* SPDX-License-Identifier: MIT
 * exec_text.c: see exec_text.h. Remote bytes: nothing is believed. */
#include "backends/sftp/exec_text.h"

#include <errno.h>
#include <string.h>

static void add_quoted(struct buf *b, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\'')
            buf_adds(b, "'\\''");
        else if (*p == '\n')
            buf_adds(b, "'\"$n\"'");
        else
            buf_addc(b, *p);
    }
}

void exec_quote(struct buf *b, const char *text, const char *tail)
{
    buf_addc(b, '\'');
    add_quoted(b, text);
    add_quoted(b, tail);
    buf_addc(b, '\'');
}

void exec_quote_path(struct buf *b, const char *path, const char *tail)
{
    buf_adds(b, *path == '/' || *path == '.' ? "" : "./");
    exec_quote(b, path, tail);
}

/* ---- attributes ---- */

static bool number(const char **at, const char *end, unsigned base, uint64_t *ret)
{
    const char *digits = "0123456789abcdef", *from = *at, *d;
    uint64_t n = 0;
    for (; *at < end && **at && (d = strchr(digits, **at)) && d - digits < (int)base; (*at)++)
        if (__builtin_mul_overflow(n, base, &n) ||
            __builtin_add_overflow(n, (uint64_t)(d - digits), &n))
            return false;
    *ret = n;
    return *at > from;
}

/* Seconds; those before 1970 and after 2106 as the nearest that SFTP 3 could tell. */
static bool seconds(const char **at, const char *end, uint32_t *ret)
{
    uint64_t n;
    bool before = *at < end && **at == '-';
    *at += before;
    if (!number(at, end, 10, &n))
        return false;
    *ret = before ? 0 : n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
    return true;
}

static bool is_char(const char **at, const char *end, char c)
{
    if (*at >= end || **at != c)
        return false;
    (*at)++;
    return true;
}

/* "2026-11-22 01:08:30.123456789 +0000" -> 123456789; 0 where there is no fraction. */
static uint32_t fraction(const char *at, const char *end)
{
    const char *dot = memchr(at, '.', (size_t)(end - at));
    uint32_t n = 0;
    for (unsigned i = 1; dot && i <= 9; i++) {
        bool digit = dot + i < end && dot[i] >= '0' && dot[i] <= '9';
        n = n * 10 + (digit ? (uint32_t)(dot[i] - '0') : 0);
        end = digit ? end : dot;
    }
    return n;
}

#define ATTRS_MAX 400

ssize_t exec_attrs(const char *at, const char *end, struct wire_attr *ret)
{
    struct wire_attr w = {.flags = WIRE_ALL | WIRE_EXACT};
    const char *p = at, *bar = memchr(at, '|', (size_t)(end - at));
    const char *last = bar ? memchr(bar + 1, '|', (size_t)(end - bar - 1)) : NULL;
    uint64_t mode, uid, gid;
    if (!last)
        return end - at > ATTRS_MAX ? -1 : 0;
    if (!number(&p, bar, 16, &mode) || !is_char(&p, bar, ' ') || !number(&p, bar, 10, &uid) ||
        !is_char(&p, bar, ' ') || !number(&p, bar, 10, &gid) || !is_char(&p, bar, ' ') ||
        !number(&p, bar, 10, &w.size) || !is_char(&p, bar, ' ') || !seconds(&p, bar, &w.atime) ||
        !is_char(&p, bar, ' ') || !seconds(&p, bar, &w.mtime) || !is_char(&p, bar, ' ') ||
        !number(&p, bar, 10, &w.inode) || p != bar || mode > UINT32_MAX || uid > UINT32_MAX ||
        gid > UINT32_MAX)
        return -1;
    w.mode = (uint32_t)mode;
    w.uid = (uint32_t)uid;
    w.gid = (uint32_t)gid;
    w.mtime_ns = fraction(bar + 1, last);
    *ret = w;
    return last + 1 - at;
}

ssize_t exec_record(const char *at, const char *end, const char *dir, struct wire_attr *ret,
                    const char **ret_name, size_t *ret_len)
{
    ssize_t n = exec_attrs(at, end, ret);
    if (n <= 0)
        return n;
    const char *p = at + n;
    size_t len = strlen(dir), have = (size_t)(end - p);
    if (memcmp(p, dir, have < len ? have : len) != 0)
        return -1;
    if (have <= len)
        return 0;
    const char *name = p + len, *slash = memchr(name, '/', (size_t)(end - name));
    if (!slash)
        return end - name > 4096 ? -1 : 0;
    if (slash + 1 == end)
        return 0;
    if (slash[1] != '\n')
        return -1;
    *ret_name = name;
    *ret_len = (size_t)(slash - name);
    return slash + 2 - at;
}

/* ---- reasons ---- */

static const struct {
    const char *text;
    int code;
} reasons[] = {
    {"No such file or directory", ENOENT},
    {"No such file", ENOENT},          /* dash */
    {"Directory nonexistent", ENOENT}, /* dash */
    {"nonexistent directory", ENOENT}, /* ash */
    {"Not a directory", ENOENT},       /* as SFTP has it */
    {"Permission denied", EACCES},
    {"Operation not permitted", EACCES},
    {"Read-only file system", EROFS},
    {"File exists", EEXIST},
    {"cannot overwrite existing file", EEXIST}, /* bash */
    {"Directory not empty", ENOTEMPTY},
    {"is a directory", EISDIR}, /* BusyBox */
    {"Is a directory", EISDIR},
    {"No space left on device", ENOSPC},
    {"Disk quota exceeded", ENOSPC},
    {"Quota exceeded", ENOSPC},
    {"File name too long", ENAMETOOLONG},
    {"Filename too long", ENAMETOOLONG}, /* musl */
    {"Invalid cross-device link", EXDEV},
    {"Cross-device link", EXDEV},
    {"Stale file handle", ESTALE},
    {"File too large", EFBIG},
};

int exec_errno(unsigned status, const char *reason)
{
    size_t len = strlen(reason);
    if (status == 126 || status == 127)
        return EIO; /* the command was not there; a file it was not about */
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        size_t n = strlen(reasons[i].text);
        if (len >= n && strcmp(reason + len - n, reasons[i].text) == 0)
            return reasons[i].code;
    }
    return EIO;
}

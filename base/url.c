/* SPDX-License-Identifier: MIT
 * url.c: percent-encoding and splitting.
 * Invariants: (1) only unreserved characters pass unencoded, in any locale; (2) a URL is split,
 * never decoded: each part is as it was written; (3) control bytes are refused, so no part can
 * smuggle a line into a header. A '#' is an ordinary character, as object names have it. */
#include "base/url.h"

#include <stdlib.h>
#include <string.h>

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_unreserved(char c)
{
    return is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

void url_encode(struct buf *b, const char *s, size_t len, bool keep_slash)
{
    static const char hex[] = "0123456789ABCDEF";
    buf_reserve(b, len);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (is_unreserved(s[i]) || (keep_slash && c == '/')) {
            buf_addc(b, s[i]);
        } else {
            char out[3] = {'%', hex[c >> 4], hex[c & 15]};
            buf_add(b, out, 3);
        }
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool url_decode(struct buf *b, const char *s, size_t len)
{
    size_t start = b->len;
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        if (c == '%') {
            int hi = i + 2 < len ? hex_value(s[i + 1]) : -1;
            int lo = hi >= 0 ? hex_value(s[i + 2]) : -1;
            if (hi < 0 || lo < 0 || (hi == 0 && lo == 0)) {
                buf_truncate(b, start);
                return false;
            }
            c = (char)(hi * 16 + lo);
            i += 2;
        }
        buf_addc(b, c);
    }
    return true;
}

/* SCHEME of "SCHEME://"; its length or 0. */
static size_t scheme_length(const char *s)
{
    size_t n = 0;
    while (is_alnum(s[n]) || (n > 0 && (s[n] == '+' || s[n] == '-' || s[n] == '.')))
        n++;
    if (n == 0 || (s[0] >= '0' && s[0] <= '9') || strncmp(s + n, "://", 3) != 0)
        return 0;
    return n;
}

static bool parse_port(const char *s, size_t len, int *ret)
{
    int port = 0;
    if (len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        port = port * 10 + (s[i] - '0');
    }
    if (len > 0 && (port < 1 || port > 65535))
        return false;
    *ret = port;
    return true;
}

static bool parse_authority(const char *s, size_t len, struct url *u)
{
    const char *at = memrchr(s, '@', len);
    if (at) {
        size_t n = (size_t)(at - s);
        if (memchr(s, ':', n))
            return false;
        u->user = xstrndup(s, n);
        s += n + 1;
        len -= n + 1;
    } else {
        u->user = xstrdup("");
    }
    size_t host_len = len;
    if (len > 0 && s[0] == '[') {
        const char *end = memchr(s, ']', len);
        if (!end)
            return false;
        u->host = xstrndup(s + 1, (size_t)(end - s) - 1);
        host_len = (size_t)(end - s) + 1;
    } else {
        const char *colon = memchr(s, ':', len);
        if (colon)
            host_len = (size_t)(colon - s);
        u->host = xstrndup(s, host_len);
    }
    static const char never[] = " \\\"<>|^`{}[]";
    if (strpbrk(u->host, never) || strpbrk(u->user, never))
        return false;
    if (host_len == len)
        return true;
    return s[host_len] == ':' && parse_port(s + host_len + 1, len - host_len - 1, &u->port);
}

bool url_parse(const char *s, struct url *ret)
{
    struct url u = {0};
    size_t n = scheme_length(s);
    if (n == 0)
        return false;
    for (const char *p = s; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    u.scheme = xstrndup(s, n);
    for (char *p = u.scheme; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    const char *authority = s + n + 3;
    const char *path = authority + strcspn(authority, "/?");
    const char *query = path + strcspn(path, "?");
    if (!parse_authority(authority, (size_t)(path - authority), &u)) {
        url_done(&u);
        return false;
    }
    u.path = xstrndup(path, (size_t)(query - path));
    u.query = xstrdup(*query ? query + 1 : "");
    *ret = u;
    return true;
}

void url_done(struct url *u)
{
    free(u->scheme);
    free(u->user);
    free(u->host);
    free(u->path);
    free(u->query);
    *u = (struct url){0};
}

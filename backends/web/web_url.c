/* SPDX-License-Identifier: MIT
 * web_url.c: see web_url.h. */
#include "backends/web/web_url.h"

#include "backends/http.h"
#include "base/cleanup.h"
#include "base/url.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void web_ref_done(struct web_ref *r)
{
    free(r->origin);
    free(r->path);
    free(r->query);
    *r = WEB_REF_INIT;
}

/* ---- parts ---- */

/* Letters, digits, '-', '.', '_' of a name or an IPv4 address; an IPv6 address has ':'. */
static bool is_host(const char *host)
{
    const char *more = strchr(host, ':') ? ":." : "-._";
    if (!*host)
        return false;
    for (const char *p = host; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr(more, *p))
            return false;
    return true;
}

static char *make_origin(const struct url *u)
{
    bool https = strcmp(u->scheme, "https") == 0, v6 = strchr(u->host, ':') != NULL;
    struct buf b = BUF_INIT;
    buf_addf(&b, "%s://%s", u->scheme, v6 ? "[" : "");
    buf_add_lower(&b, u->host);
    buf_adds(&b, v6 ? "]" : "");
    if (u->port && u->port != (https ? 443 : 80))
        buf_addf(&b, ":%d", u->port);
    return buf_take(&b);
}

/* Keeps what may be in a path or a query, encodes the rest. */
static void add_clean(struct buf *b, const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (isalnum(c) || (c && strchr("-._~!$&'()*+,;=:@/%?", c)))
            buf_addc(b, (char)c);
        else
            buf_addf(b, "%%%02X", c);
    }
}

/* Is the segment "." or "..", also when its dots are written as %2E? The number of dots, or 0. */
static int dots(const char *s, size_t len)
{
    int n = 0;
    for (size_t i = 0; i < len; n++) {
        if (s[i] == '.')
            i++;
        else if (len - i >= 3 && strncasecmp(s + i, "%2e", 3) == 0)
            i += 3;
        else
            return 0;
    }
    return n <= 2 ? n : 0;
}

/* Without "." and ".."; `path` begins with '/'. */
static char *without_dots(const char *path)
{
    struct buf b = BUF_INIT;
    for (const char *p = path; *p == '/';) {
        size_t n = strcspn(p + 1, "/");
        int d = n ? dots(p + 1, n) : 0;
        bool last = p[1 + n] == '\0';
        if (d == 2) {
            char *up = b.len ? memrchr(b.data, '/', b.len) : NULL;
            buf_truncate(&b, up ? (size_t)(up - b.data) : 0);
        }
        if (d == 0)
            buf_add(&b, p, n + 1);
        else if (last)
            buf_addc(&b, '/');
        p += n + 1;
    }
    if (b.len == 0)
        buf_addc(&b, '/');
    return buf_take(&b);
}

static void set_path(struct web_ref *r, const char *path, size_t len)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    if (len == 0 || *path != '/')
        buf_addc(&b, '/');
    add_clean(&b, path, len);
    r->path = without_dots(buf_str(&b));
}

static void set_query(struct web_ref *r, const char *query, size_t len)
{
    struct buf b = BUF_INIT;
    add_clean(&b, query, len);
    r->query = b.data ? buf_take(&b) : xstrdup("");
}

/* ---- whole URLs ---- */

static bool parse_bytes(const char *s, size_t len, struct web_ref *ret)
{
    CLEANUP_FREE char *text = xstrndup(s, len);
    struct url u;
    if (!url_parse(text, &u))
        return false;
    bool web = strcmp(u.scheme, "http") == 0 || strcmp(u.scheme, "https") == 0;
    bool good = web && !*u.user && is_host(u.host);
    if (good) {
        const char *q = strchr(text, '?');
        ret->origin = make_origin(&u);
        set_path(ret, u.path, strlen(u.path));
        if (q)
            set_query(ret, q + 1, strlen(q + 1));
    }
    url_done(&u);
    return good;
}

bool web_ref_parse(const char *url, struct web_ref *ret)
{
    return parse_bytes(url, strcspn(url, "#"), ret);
}

char *web_ref_url(const struct web_ref *r)
{
    return xasprintf("%s%s%s%s", r->origin, r->path, r->query ? "?" : "", r->query ? r->query : "");
}

/* Does it begin with "scheme:"? */
static bool has_scheme(const char *s, size_t len)
{
    size_t n = 0;
    while (n < len && (isalnum((unsigned char)s[n]) || strchr("+.-", s[n])))
        n++;
    return n > 0 && n < len && s[n] == ':' && isalpha((unsigned char)s[0]);
}

/* A path, or a path and a query, below `base`. */
static void resolve_path(const struct web_ref *base, const char *s, size_t len, struct web_ref *ret)
{
    const char *q = memchr(s, '?', len);
    size_t n = q ? (size_t)(q - s) : len;
    ret->origin = xstrdup(base->origin);
    if (n == 0) {
        ret->path = xstrdup(base->path);
    } else if (*s == '/') {
        set_path(ret, s, n);
    } else {
        CLEANUP_BUF struct buf b = BUF_INIT;
        const char *end = strrchr(base->path, '/');
        buf_add(&b, base->path, end ? (size_t)(end + 1 - base->path) : 0);
        buf_add(&b, s, n);
        set_path(ret, buf_str(&b), b.len);
    }
    if (q)
        set_query(ret, q + 1, len - n - 1);
    else if (n == 0 && base->query)
        ret->query = xstrdup(base->query);
}

bool web_ref_resolve(const struct web_ref *base, const char *link, struct web_ref *ret)
{
    link += strspn(link, " \t\r\n\f");
    size_t len = strcspn(link, "#");
    while (len > 0 && strchr(" \t\r\n\f", link[len - 1]))
        len--;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)link[i] < 0x20 || link[i] == 0x7f || link[i] == '\\')
            return false;
    if (has_scheme(link, len))
        return parse_bytes(link, len, ret);
    if (len >= 2 && link[0] == '/' && link[1] == '/') {
        CLEANUP_FREE char *whole =
            xasprintf("%.*s%.*s", (int)strcspn(base->origin, "/"), base->origin, (int)len, link);
        return parse_bytes(whole, strlen(whole), ret);
    }
    resolve_path(base, link, len, ret);
    return true;
}

/* ---- whose ---- */

bool web_same_origin(const struct web_ref *a, const struct web_ref *b)
{
    return strcmp(a->origin, b->origin) == 0;
}

bool web_is_dir_of(const struct web_ref *from, const struct web_ref *to)
{
    size_t n = strlen(from->path);
    return web_same_origin(from, to) && strncmp(from->path, to->path, n) == 0 &&
           strcmp(to->path + n, "/") == 0;
}

static bool is_near(const char *origin)
{
    const char *host = strstr(origin, "://") + 3;
    return http_host_is_loopback(host) || strncmp(host, "169.254.", 8) == 0 ||
           strncasecmp(host, "[fe80:", 6) == 0 || strncmp(host, "0.0.0.0", 7) == 0 ||
           strncasecmp(host, "[::", 3) == 0;
}

const char *web_redirect_refused(const struct web_ref *from, const struct web_ref *to)
{
    if (strncmp(from->origin, "https:", 6) == 0 && strncmp(to->origin, "https:", 6) != 0)
        return "from https to http";
    if (is_near(to->origin) && !is_near(from->origin))
        return "to this machine or a link-local address";
    return NULL;
}

/* ---- names ---- */

bool web_is_name(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Decodes a path's segments one by one: an encoded '/' is no separator, it is refused. */
static bool decode_path(const char *path, size_t len, struct buf *b)
{
    for (const char *p = path, *end = path + len; p < end;) {
        const char *slash = memchr(p, '/', (size_t)(end - p));
        size_t n = slash ? (size_t)(slash - p) : (size_t)(end - p), before = b->len;
        if (n && (!url_decode(b, p, n) || memchr(b->data + before, '/', b->len - before)))
            return false;
        if (slash)
            buf_addc(b, '/');
        p += n + (slash != NULL);
    }
    return true;
}

char *web_child_name(const struct web_ref *page, const char *link, bool *ret_dir)
{
    CLEANUP_REF struct web_ref to = WEB_REF_INIT;
    CLEANUP_BUF struct buf dir = BUF_INIT, path = BUF_INIT;
    if (!web_ref_resolve(page, link, &to) || to.query || !web_same_origin(page, &to))
        return NULL;
    const char *end = strrchr(page->path, '/');
    if (!decode_path(page->path, (size_t)(end + 1 - page->path), &dir) ||
        !decode_path(to.path, strlen(to.path), &path))
        return NULL;
    if (path.len <= dir.len || memcmp(path.data, dir.data, dir.len) != 0)
        return NULL;
    *ret_dir = path.data[path.len - 1] == '/';
    if (*ret_dir)
        buf_truncate(&path, path.len - 1);
    const char *name = path.data + dir.len;
    return path.len > dir.len && web_is_name(name) ? xstrdup(name) : NULL;
}

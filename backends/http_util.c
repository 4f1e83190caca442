/* SPDX-License-Identifier: MIT
 * http_util.c: the pure half of http.h: header lists, ranges, Content-Range, Retry-After. */
#include "backends/http.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/date.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define RETRY_AFTER_MAX_MS 300000u

void http_headers_add(struct http_headers *h, const char *name, const char *value)
{
    /* Grows in steps of eight: a reply has about fifteen. */
    if (h->n % 8 == 0)
        h->v = xrealloc(h->v, (h->n + 8) * sizeof(*h->v));
    struct http_header *e = &h->v[h->n++];
    e->name = xstrdup(name);
    for (char *p = e->name; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    e->value = xstrdup(value);
}

void http_headers_addf(struct http_headers *h, const char *name, const char *fmt, ...)
{
    struct buf b = BUF_INIT;
    va_list ap;
    va_start(ap, fmt);
    buf_vaddf(&b, fmt, ap);
    va_end(ap);
    http_headers_add(h, name, buf_str(&b));
    buf_done(&b);
}

const char *http_headers_get(const struct http_headers *h, const char *name)
{
    for (size_t i = 0; i < h->n; i++)
        if (strcasecmp(h->v[i].name, name) == 0)
            return h->v[i].value;
    return NULL;
}

void http_headers_done(struct http_headers *h)
{
    for (size_t i = 0; i < h->n; i++) {
        free(h->v[i].name);
        free(h->v[i].value);
    }
    free(h->v);
    *h = (struct http_headers){0};
}

void http_res_done(struct http_res *r)
{
    http_headers_done(&r->headers);
    buf_done(&r->body);
    *r = HTTP_RES_INIT;
}

void http_range(uint64_t offset, uint64_t len, char out[64])
{
    uint64_t last = len - 1 > UINT64_MAX - offset ? UINT64_MAX : offset + (len - 1);
    (void)snprintf(out, 64, "bytes=%" PRIu64 "-%" PRIu64, offset, last);
}

/* Digits only; moves *p behind them. */
static bool parse_u64(const char **p, uint64_t *ret)
{
    const char *s = *p;
    if (!isdigit((unsigned char)*s))
        return false;
    uint64_t v = 0;
    for (; isdigit((unsigned char)*s); s++) {
        uint64_t d = (uint64_t)(*s - '0');
        if (v > (UINT64_MAX - d) / 10)
            return false;
        v = v * 10 + d;
    }
    *p = s;
    *ret = v;
    return true;
}

bool http_parse_content_range(const char *s, uint64_t *first, uint64_t *last, uint64_t *total)
{
    uint64_t a, b, t = UINT64_MAX;
    if (!s || strncasecmp(s, "bytes ", 6) != 0)
        return false;
    s += 6;
    while (*s == ' ')
        s++;
    if (!parse_u64(&s, &a) || *s++ != '-' || !parse_u64(&s, &b) || *s++ != '/')
        return false;
    if (*s == '*')
        s++;
    else if (!parse_u64(&s, &t) || t <= b)
        return false;
    if (*s != '\0' || b < a)
        return false;
    *first = a;
    *last = b;
    *total = t;
    return true;
}

bool http_host_is_loopback(const char *authority)
{
    size_t n = strcspn(authority, ":");
    if (strncmp(authority, "[::1]", 5) == 0)
        return authority[5] == '\0' || authority[5] == ':';
    if (n == 9 && strncasecmp(authority, "localhost", 9) == 0)
        return true;
    /* 127.x.y.z in digits; 127.example.com is somewhere else. */
    return n >= 9 && strncmp(authority, "127.", 4) == 0 && strspn(authority, "0123456789.") == n;
}

unsigned http_retry_after_ms(const struct http_headers *h)
{
    const char *v = http_headers_get(h, "retry-after");
    if (!v)
        return 0;
    const char *p = v;
    uint64_t s;
    time_t at;
    if (parse_u64(&p, &s) && *p == '\0') {
        /* seconds */
    } else if (date_parse_http(v, &at)) {
        time_t now = clock_wall().tv_sec;
        s = at > now ? (uint64_t)(at - now) : 0;
    } else {
        return 0;
    }
    return s > RETRY_AFTER_MAX_MS / 1000 ? RETRY_AFTER_MAX_MS : (unsigned)s * 1000;
}

int http_client_of(const struct conf_section *c, unsigned connections, struct err *err, struct http_client **ret)
{
    uint64_t idle_s = conf_ms(c, "timeout", 30000) / 1000;
    uint64_t connect_ms = conf_ms(c, "connect_timeout", 5000);
    struct http_options o = {
        .max_connections = (unsigned)conf_int(c, "max_connections", connections),
        .connect_ms = connect_ms < INT32_MAX ? (unsigned)connect_ms : INT32_MAX,
        .low_speed_s = idle_s < 1       ? 1
                       : idle_s < 86400 ? (unsigned)idle_s
                                        : 86400,
        .verify_tls = conf_bool(c, "verify_tls", true),
        .ca_file = conf_str(c, "ca_file", NULL),
    };
    int r = http_client_new(&o, err, ret);
    return r < 0 ? conf_error(c, "ca_file", err, -r, "ca_file '%s' cannot be read: %s", o.ca_file,
                              strerror(-r))
                 : 0;
}

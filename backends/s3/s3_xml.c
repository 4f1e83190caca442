/* SPDX-License-Identifier: MIT
 * s3_xml.c: the XML that S3 speaks, read by expat.
 *
 * Replies are hostile input: a document type ends the parse (so there are no entities to expand and
 * nothing to fetch), depth is capped, the size was capped by the HTTP client, and elements that are
 * not known are skipped. Text is collected for the innermost open element only. */
#include "backends/s3/s3.h"

#include "base/cleanup.h"
#include "base/date.h"
#include "base/url.h"

#include <errno.h>
#include <expat.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 16
#define TEXT_MAX (64u << 10) /* one element's text; keys have 1024 bytes, 3072 when encoded */

struct parse {
    XML_Parser xml;
    const struct s3_xml_events *ev;
    void *arg;
    int depth;
    bool bad;
    struct buf text;
};

static void stop(struct parse *p)
{
    p->bad = true;
    (void)XML_StopParser(p->xml, XML_FALSE);
}

static const char *local_name(const char *name)
{
    const char *colon = strrchr(name, ':');
    return colon ? colon + 1 : name;
}

static void XMLCALL on_start(void *arg, const XML_Char *name, const XML_Char **atts)
{
    struct parse *p = arg;
    (void)atts;
    if (++p->depth > DEPTH_MAX) {
        stop(p);
        return;
    }
    buf_reset(&p->text);
    if (p->ev->open)
        p->ev->open(p->arg, p->depth, local_name(name));
}

static void XMLCALL on_end(void *arg, const XML_Char *name)
{
    struct parse *p = arg;
    if (p->bad)
        return;
    if (p->ev->close)
        p->ev->close(p->arg, p->depth, local_name(name), buf_str(&p->text), p->text.len);
    buf_reset(&p->text);
    p->depth--;
}

static void XMLCALL on_text(void *arg, const XML_Char *s, int len)
{
    struct parse *p = arg;
    if (p->bad)
        return;
    if (p->text.len + (size_t)len > TEXT_MAX)
        stop(p);
    else
        buf_add(&p->text, s, (size_t)len);
}

static void XMLCALL on_doctype(void *arg, const XML_Char *name, const XML_Char *sys,
                               const XML_Char *pub, int subset)
{
    (void)name, (void)sys, (void)pub, (void)subset;
    stop(arg);
}

int s3_xml_parse(const char *data, size_t len, const struct s3_xml_events *ev, void *arg)
{
    if (len > INT32_MAX)
        return -EBADMSG;
    struct parse p = {.xml = XML_ParserCreate("UTF-8"), .ev = ev, .arg = arg};
    if (!p.xml)
        return -ENOMEM;
    XML_SetUserData(p.xml, &p);
    XML_SetElementHandler(p.xml, on_start, on_end);
    XML_SetCharacterDataHandler(p.xml, on_text);
    XML_SetStartDoctypeDeclHandler(p.xml, on_doctype);
    enum XML_Status st = XML_Parse(p.xml, data, (int)len, XML_TRUE);
    XML_ParserFree(p.xml);
    buf_done(&p.text);
    return st == XML_STATUS_OK && !p.bad ? 0 : -EBADMSG;
}

/* ---- one field ---- */

struct field {
    const char *name;
    char *value;
};

static void field_close(void *arg, int depth, const char *name, const char *text, size_t len)
{
    struct field *f = arg;
    if (depth > 1 && !f->value && strcmp(name, f->name) == 0)
        f->value = xstrndup(text, len);
}

char *s3_xml_field(const char *data, size_t len, const char *name)
{
    static const struct s3_xml_events ev = {.close = field_close};
    struct field f = {.name = name};
    if (s3_xml_parse(data, len, &ev, &f) == 0)
        return f.value;
    free(f.value);
    return NULL;
}

/* ---- writing ---- */

void s3_xml_escape(struct buf *b, const char *s)
{
    for (; *s; s++) {
        if (*s == '&')
            buf_adds(b, "&amp;");
        else if (*s == '<')
            buf_adds(b, "&lt;");
        else if (*s == '>')
            buf_adds(b, "&gt;");
        else if (*s == '"')
            buf_adds(b, "&quot;");
        else if (*s == '\r' || *s == '\n' || *s == '\t')
            buf_addf(b, "&#%d;", *s);
        else
            buf_addc(b, *s);
    }
}

/* Length of the UTF-8 sequence at s for a character that XML 1.0 has, or 0. */
static size_t xml_char_len(const unsigned char *s)
{
    unsigned c = s[0];
    if (c < 0x80)
        return c >= 0x20 || c == '\t' || c == '\n' || c == '\r' ? 1 : 0;
    size_t n = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
    if (c < 0xC2 || c > 0xF4)
        return 0;
    unsigned v = c & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
        v = (v << 6) | (s[i] & 0x3Fu);
    }
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    bool holds =
        v >= least[n] && v <= 0x10FFFF && (v < 0xD800 || v > 0xDFFF) && (v & 0xFFFE) != 0xFFFE;
    return holds ? n : 0;
}

bool s3_xml_can_hold(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    while (*p) {
        size_t n = xml_char_len(p);
        if (n == 0)
            return false;
        p += n;
    }
    return true;
}

/* ---- ListBucketResult ---- */

struct list_parse {
    struct s3_list_result *ret;
    struct s3_list_item *now; /* being filled */
    int meta_depth;           /* of the open UserMetadata, 0 = none */
    bool root_ok, url_encoded, bad;
};

static struct s3_list_item *add_item(struct s3_list_result *r, bool is_prefix)
{
    if (r->n % 64 == 0)
        r->v = xrealloc(r->v, (r->n + 64) * sizeof(*r->v));
    struct s3_list_item *i = &r->v[r->n++];
    *i = (struct s3_list_item){.is_prefix = is_prefix};
    return i;
}

static void list_open(void *arg, int depth, const char *name)
{
    struct list_parse *p = arg;
    if (depth == 1)
        p->root_ok = strcmp(name, "ListBucketResult") == 0;
    else if (depth == 2 && strcmp(name, "Contents") == 0)
        p->now = add_item(p->ret, false);
    else if (depth == 2 && strcmp(name, "CommonPrefixes") == 0)
        p->now = add_item(p->ret, true);
    else if (depth == 3 && p->now && !p->now->is_prefix && strcmp(name, "UserMetadata") == 0)
        p->meta_depth = depth, p->now->has_meta = true;
}

static void set_object(struct list_parse *p, const char *text, size_t len)
{
    free(p->now->object);
    p->now->object = xstrndup(text, len);
}

static void close_contents_field(struct list_parse *p, const char *name, const char *text,
                                 size_t len)
{
    struct s3_list_item *i = p->now;
    char *end;
    if (strcmp(name, "Key") == 0) {
        set_object(p, text, len);
    } else if (strcmp(name, "Size") == 0) {
        errno = 0;
        i->size = strtoull(text, &end, 10);
        if (errno || *end || *text < '0' || *text > '9')
            p->bad = true;
    } else if (strcmp(name, "LastModified") == 0) {
        if (!date_parse_iso(text, &i->mtime))
            i->mtime = (struct timespec){0};
    } else if (strcmp(name, "ETag") == 0) {
        s3_etag_to_version(text, i->etag);
    } else if (strcmp(name, "UserMetadata") == 0) {
        p->meta_depth = 0;
    }
}

static void list_close(void *arg, int depth, const char *name, const char *text, size_t len)
{
    struct list_parse *p = arg;
    if (depth == 2) {
        p->now = NULL;
        if (strcmp(name, "IsTruncated") == 0)
            p->ret->truncated = strcmp(text, "true") == 0;
        else if (strcmp(name, "NextContinuationToken") == 0 && !p->ret->token)
            p->ret->token = xstrndup(text, len);
        else if (strcmp(name, "EncodingType") == 0)
            p->url_encoded = strcmp(text, "url") == 0;
    } else if (p->now && p->meta_depth && depth == p->meta_depth + 1) {
        http_headers_add(&p->now->meta, name, text);
    } else if (depth == 3 && p->now && p->now->is_prefix) {
        if (strcmp(name, "Prefix") == 0)
            set_object(p, text, len);
    } else if (depth == 3 && p->now) {
        close_contents_field(p, name, text, len);
    }
}

/* Undoes encoding-type=url, in which a blank may also be '+'. */
static bool decode_object(struct s3_list_item *i)
{
    struct buf b = BUF_INIT;
    for (char *s = i->object; *s; s++)
        if (*s == '+')
            *s = ' ';
    if (!url_decode(&b, i->object, strlen(i->object)))
        return false;
    free(i->object);
    i->object = b.data ? buf_take(&b) : xstrdup("");
    return true;
}

int s3_xml_list(const char *data, size_t len, struct s3_list_result *ret)
{
    static const struct s3_xml_events ev = {list_open, list_close};
    struct s3_list_result r = {0};
    struct list_parse p = {.ret = &r};
    int rc = s3_xml_parse(data, len, &ev, &p);
    if (rc == 0 && (!p.root_ok || p.bad))
        rc = -EBADMSG;
    for (size_t i = 0; rc == 0 && i < r.n; i++)
        if (!r.v[i].object || (p.url_encoded && !decode_object(&r.v[i])))
            rc = -EBADMSG;
    if (rc < 0)
        s3_list_result_done(&r);
    else
        *ret = r;
    return rc;
}

void s3_list_result_done(struct s3_list_result *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->v[i].object);
        http_headers_done(&r->v[i].meta);
    }
    free(r->v);
    free(r->token);
    *r = (struct s3_list_result){0};
}

/* ---- DeleteResult ---- */

struct delete_parse {
    struct s3_delete_errors *ret;
    struct s3_delete_error *now;
    bool root_ok;
};

static void delete_open(void *arg, int depth, const char *name)
{
    struct delete_parse *p = arg;
    if (depth == 1)
        p->root_ok = strcmp(name, "DeleteResult") == 0;
    if (depth != 2 || strcmp(name, "Error") != 0)
        return;
    struct s3_delete_errors *e = p->ret;
    e->v = xrealloc(e->v, (e->n + 1) * sizeof(*e->v));
    p->now = &e->v[e->n++];
    *p->now = (struct s3_delete_error){0};
}

static void delete_close(void *arg, int depth, const char *name, const char *text, size_t len)
{
    struct delete_parse *p = arg;
    if (depth == 2)
        p->now = NULL;
    if (depth != 3 || !p->now)
        return;
    if (strcmp(name, "Key") == 0 && !p->now->object)
        p->now->object = xstrndup(text, len);
    else if (strcmp(name, "Code") == 0 && !p->now->code)
        p->now->code = xstrndup(text, len);
}

int s3_xml_delete(const char *data, size_t len, struct s3_delete_errors *ret)
{
    static const struct s3_xml_events ev = {delete_open, delete_close};
    struct s3_delete_errors e = {0};
    struct delete_parse p = {.ret = &e};
    int rc = s3_xml_parse(data, len, &ev, &p);
    if (rc == 0 && !p.root_ok)
        rc = -EBADMSG;
    if (rc < 0)
        s3_delete_errors_done(&e);
    else
        *ret = e;
    return rc;
}

void s3_delete_errors_done(struct s3_delete_errors *e)
{
    for (size_t i = 0; i < e->n; i++) {
        free(e->v[i].object);
        free(e->v[i].code);
    }
    free(e->v);
    *e = (struct s3_delete_errors){0};
}

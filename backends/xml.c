/* SPDX-License-Identifier: MIT
 * xml.c: xml.h over expat.
 *
 * Replies are hostile input: a document type ends the parse (so there are no entities to expand and
 * nothing to fetch), depth is capped, the size was capped by the HTTP client, and elements that are
 * not known are skipped. Text is collected for the innermost open element only. */
#include "backends/xml.h"

#include "base/cleanup.h"

#include <errno.h>
#include <expat.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 16
#define TEXT_MAX (64u << 10) /* one element's text; keys have 1024 bytes, 3072 when encoded */

struct parse {
    XML_Parser xml;
    const struct xml_events *ev;
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

int xml_parse(const char *data, size_t len, const struct xml_events *ev, void *arg)
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

char *xml_field(const char *data, size_t len, const char *name)
{
    static const struct xml_events ev = {.close = field_close};
    struct field f = {.name = name};
    if (xml_parse(data, len, &ev, &f) == 0)
        return f.value;
    free(f.value);
    return NULL;
}

/* ---- writing ---- */

void xml_escape(struct buf *b, const char *s)
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

bool xml_can_hold(const char *s)
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

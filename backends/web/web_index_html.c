/* SPDX-License-Identifier: MIT
 * web_index_html.c: HTML index pages by libxml2's push parser, as a stream of links and the text that
 * follows each of them. Where libxml2 is missing, web_index_html_none.c takes the place of this file. */
#include "backends/web/web_index.h"

#include "base/cleanup.h"

#include <libxml/HTMLparser.h>

#include <errno.h>
#include <string.h>
#include <strings.h>

#define TAIL_MAX 256    /* of the text behind a link: date and size */
#define CHUNK (64 << 10)

struct page {
    const struct web_ref *at;
    struct web_names *names;
    struct buf tail;
    bool in_link;
    size_t last;     /* index + 1 of the entry that the tail belongs to; 0: none */
};

/* What was behind the last link: its size, if it is one. */
static void finish_entry(struct page *p)
{
    uint64_t size;
    if (p->last && web_index_size(buf_str(&p->tail), &size)) {
        p->names->v[p->last - 1].size = size;
        p->names->v[p->last - 1].has_size = true;
    }
    p->last = 0;
    buf_reset(&p->tail);
}

static void on_link(struct page *p, const char *href)
{
    bool dir;
    CLEANUP_FREE char *name = web_child_name(p->at, href, &dir);
    if (!name)
        return;
    (void)web_names_add(p->names, name, dir);
    p->last = dir ? 0 : p->names->n;
}

static void on_start(void *arg, const xmlChar *name, const xmlChar **atts)
{
    struct page *p = arg;
    const char *tag = (const char *)name;
    if (strcasecmp(tag, "td") == 0 || strcasecmp(tag, "th") == 0)
        buf_addc(&p->tail, ' ');
    if (strcasecmp(tag, "tr") == 0)
        finish_entry(p);
    if (strcasecmp(tag, "a") != 0)
        return;
    finish_entry(p);
    p->in_link = true;
    for (; atts && atts[0]; atts += 2)
        if (atts[1] && strcasecmp((const char *)atts[0], "href") == 0)
            on_link(p, (const char *)atts[1]);
}

static void on_end(void *arg, const xmlChar *name)
{
    struct page *p = arg;
    if (strcasecmp((const char *)name, "a") == 0)
        p->in_link = false;
}

static void on_text(void *arg, const xmlChar *text, int len)
{
    struct page *p = arg;
    size_t room = p->tail.len < TAIL_MAX ? TAIL_MAX - p->tail.len : 0;
    if (!p->last || p->in_link || len <= 0)
        return;
    const char *nl = memchr(text, '\n', (size_t)len);
    size_t n = nl ? (size_t)(nl - (const char *)text) : (size_t)len;
    buf_add(&p->tail, text, n < room ? n : room);
    if (nl && p->tail.len > 0 && p->tail.data[p->tail.len - 1] != ' ')
        finish_entry(p); /* a line of <pre> has ended */
}

static void be_quiet(void *arg, const char *format, ...)
{
    (void)arg, (void)format;
}

int web_index_html(const struct web_ref *page, const char *text, size_t len, struct err *err,
                   struct web_names *ret)
{
    struct web_names names = {0};
    struct page p = {.at = page, .names = &names};
    htmlSAXHandler sax = {.startElement = on_start,
                          .endElement = on_end,
                          .characters = on_text,
                          .cdataBlock = on_text,
                          .ignorableWhitespace = on_text,
                          .warning = be_quiet,
                          .error = be_quiet};
    htmlParserCtxtPtr ctxt =
        htmlCreatePushParserCtxt(&sax, &p, NULL, 0, NULL, XML_CHAR_ENCODING_UTF8);
    if (!ctxt)
        return err_set(err, ENOMEM, "no memory to read an index page");
    (void)htmlCtxtUseOptions(ctxt, HTML_PARSE_RECOVER | HTML_PARSE_NONET | HTML_PARSE_NOERROR |
                                       HTML_PARSE_NOWARNING);
    for (size_t at = 0; at < len; at += CHUNK) {
        size_t n = len - at < CHUNK ? len - at : CHUNK;
        (void)htmlParseChunk(ctxt, text + at, (int)n, 0);
    }
    (void)htmlParseChunk(ctxt, text, 0, 1);
    htmlFreeParserCtxt(ctxt);
    finish_entry(&p);
    buf_done(&p.tail);
    web_names_sort(&names);
    *ret = names;
    return 0;
}

/* SPDX-License-Identifier: MIT
 * The pure parts of backend = http: links, versions, index pages, manifests. */
#include "backends/web/web_index.h"
#include "backends/web/web_version.h"
#include "base/cleanup.h"
#include "base/date.h"
#include "tests/unit/t.h"

#include <errno.h>

static char *resolved(const char *base, const char *link)
{
    CLEANUP_REF struct web_ref b = WEB_REF_INIT, r = WEB_REF_INIT;
    CHECK(web_ref_parse(base, &b));
    return web_ref_resolve(&b, link, &r) ? web_ref_url(&r) : xstrdup("refused");
}

static void urls(void)
{
    static const struct {
        const char *link, *want;
    } t[] = {
        {"x", "https://h/a/b/x"},
        {"./x", "https://h/a/b/x"},
        {"../x", "https://h/a/x"},
        {"../../../x", "https://h/x"},
        {"..", "https://h/a/"},
        {".%2E/x", "https://h/a/x"},
        {"%2e%2e", "https://h/a/"},
        {"/x", "https://h/x"},
        {"", "https://h/a/b/c?q"},
        {"#f", "https://h/a/b/c?q"},
        {"?z", "https://h/a/b/c?z"},
        {"x#f", "https://h/a/b/x"},
        {" x \n", "https://h/a/b/x"},
        {"a b", "https://h/a/b/a%20b"},
        {"\xc3\xbc", "https://h/a/b/%C3%BC"},
        {"//Other:443/x", "https://other/x"},
        {"//other:444", "https://other:444/"},
        {"http://o/x?y", "http://o/x?y"},
        {"HTTPS://O/x", "https://o/x"},
        {"ftp://o/x", "refused"},
        {"javascript:alert", "refused"},
        {"mailto:a@b", "refused"},
        {"http://user@o/x", "refused"},
        {"http://user:pw@o/x", "refused"},
        {"http://h\\@o/x", "refused"},
        {"\\\\o\\x", "refused"},
        {"http:///x", "refused"},
        {"http://o:99999/", "refused"},
        {"http://o;x/", "refused"},
        {"http://[::1]:80/x", "http://[::1]/x"},
    };
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        CLEANUP_FREE char *got = resolved("https://h/a/b/c?q", t[i].link);
        CHECK_STR(got, t[i].want);
    }
}

static const char *refused(const char *from, const char *to)
{
    CLEANUP_REF struct web_ref a = WEB_REF_INIT, b = WEB_REF_INIT;
    CHECK(web_ref_parse(from, &a) && web_ref_parse(to, &b));
    return web_redirect_refused(&a, &b);
}

static void redirects(void)
{
    CHECK(!refused("https://a/", "https://b/"));
    CHECK(!refused("http://a/", "https://b/"));
    CHECK(!refused("http://127.0.0.1:1/", "http://127.0.0.1:2/"));
    CHECK(refused("https://a/", "http://a/"));
    CHECK(refused("http://a/", "http://127.0.0.1/"));
    CHECK(refused("http://a/", "http://localhost:80/"));
    CHECK(refused("http://a/", "http://[::1]/"));
    CHECK(refused("http://a/", "http://[::ffff:127.0.0.1]/"));
    CHECK(refused("http://a/", "http://169.254.169.254/latest/meta-data"));
    CHECK(refused("http://a/", "http://0.0.0.0/"));
}

static void child_names(void)
{
    static const struct {
        const char *link, *want; /* "-": no name; with '/': a directory */
    } t[] = {
        {"f", "f"},           {"d/", "d/"},          {"a%20b", "a b"},       {"%C3%BC", "\xc3\xbc"},
        {"a%25b", "a%b"},     {"/p q/f", "f"},       {"http://h/p%20q/f", "f"}, {"./f", "f"},
        {"x%3Ay", "x:y"},     {"..", "-"},           {"../", "-"},           {"/", "-"},
        {"/p%20q/", "-"},     {"/p%20q", "-"},       {"", "-"},              {"?C=N", "-"},
        {"f?x", "-"},         {"d/f", "-"},          {"d%2Ff", "-"},         {"%2e%2e", "-"},
        {"%2e%2e%2fx", "-"},  {"x%00", "-"},         {"%", "-"},             {"%zz", "-"},
        {"http://o/p%20q/f", "-"}, {"https://h/p%20q/f", "-"}, {"//h:81/p%20q/f", "-"}, {"d//", "-"},
    };
    CLEANUP_REF struct web_ref page = WEB_REF_INIT;
    CHECK(web_ref_parse("http://h/p%20q/", &page));
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        bool dir = false;
        CLEANUP_FREE char *name = web_child_name(&page, t[i].link, &dir);
        CLEANUP_FREE char *got = name ? xasprintf("%s%s", name, dir ? "/" : "") : xstrdup("-");
        CHECK_STR(got, t[i].want);
    }
}

/* ---- versions ---- */

static struct web_facts facts(const char *etag, const char *modified, const char *length)
{
    struct http_res res = {.status = 200};
    struct web_facts f;
    http_headers_add(&res.headers, "date", "Sat, 21 Nov 2026 12:00:00 GMT");
    if (etag)
        http_headers_add(&res.headers, "etag", etag);
    if (modified)
        http_headers_add(&res.headers, "last-modified", modified);
    if (length)
        http_headers_add(&res.headers, "content-length", length);
    web_facts_read(&res, &f);
    http_res_done(&res);
    return f;
}

static void check_version(const char *etag, const char *modified, const char *length, const char *want)
{
    struct web_facts f = facts(etag, modified, length);
    CHECK_STR(f.version, want);
}

static void versions(void)
{
    const char *old = "Sat, 21 Nov 2026 11:00:00 GMT", *new = "Sat, 21 Nov 2026 11:59:59 GMT";
    check_version("\"abc\"", NULL, "5", "abc");
    check_version("\"abc\"", old, "5", "abc");
    check_version("W/\"abc\"", old, "5", "W/\"abc\" 1795258800 5");
    check_version("W/\"abc\"", new, "5", "");
    check_version("W/\"abc\"", NULL, "5", "");
    check_version(NULL, old, "5", "\"\" 1795258800 5");
    check_version(NULL, new, "5", "");
    check_version(NULL, NULL, "5", "");
    check_version("\"\"", NULL, "5", "");
    check_version("abc", NULL, "5", "\"raw\" abc");
    char tag[300];
    memset(tag, 'x', sizeof(tag));
    tag[0] = tag[298] = '"';
    tag[299] = '\0';
    struct web_facts f = facts(tag, NULL, "5");
    CHECK(strncmp(f.version, "\"long\" ", 7) == 0);
    tag[100] = 'y';
    struct web_facts g = facts(tag, NULL, "5");
    CHECK(strcmp(f.version, g.version) != 0);
}

/* A reply without a length agrees with any size, and gets its own at the end. */
static void sizes(void)
{
    struct web_facts whole = facts(NULL, "Sat, 21 Nov 2026 11:00:00 GMT", "15"),
                     open = facts(NULL, "Sat, 21 Nov 2026 11:00:00 GMT", NULL),
                     other = facts(NULL, "Sat, 21 Nov 2026 11:00:00 GMT", "1");
    CHECK(web_facts_agree(&whole, whole.version));
    CHECK(web_facts_agree(&open, whole.version));
    CHECK(!web_facts_agree(&other, whole.version));
    web_facts_set_size(&open, 15);
    CHECK_STR(open.version, whole.version);
}

static void check_condition(const char *version, const char *name, const char *value)
{
    struct http_headers h = {0};
    web_version_add_condition(version, &h);
    CHECK_INT(h.n, name != NULL);
    if (name)
        CHECK_STR(http_headers_get(&h, name), value);
    http_headers_done(&h);
}

static void conditions(void)
{
    check_condition("abc", "if-match", "\"abc\"");
    check_condition("W/\"abc\" 1795258800 5", "if-unmodified-since", "Sat, 21 Nov 2026 11:00:00 GMT");
    check_condition("W/\"a b\" 1795258800 5", "if-unmodified-since", "Sat, 21 Nov 2026 11:00:00 GMT");
    check_condition("\"\" 1795258800 5", "if-unmodified-since", "Sat, 21 Nov 2026 11:00:00 GMT");
    check_condition("\"raw\" abc", NULL, NULL);
    check_condition("\"sha256\" 00", NULL, NULL);
    check_condition("", NULL, NULL);
    check_condition(NULL, NULL, NULL);
}

/* ---- index pages ---- */

/* "name:size ..." with '-' for a size that is not known. */
static char *text_of(struct web_names *a)
{
    struct buf b = BUF_INIT;
    for (size_t i = 0; i < a->n; i++) {
        buf_addf(&b, "%s%s", i ? " " : "", a->v[i].name);
        if (a->v[i].has_size)
            buf_addf(&b, ":%llu", (unsigned long long)a->v[i].size);
    }
    web_names_done(a);
    return b.data ? buf_take(&b) : xstrdup("");
}

static void check_html(const char *html, const char *want)
{
    CLEANUP_REF struct web_ref page = WEB_REF_INIT;
    struct web_names names = {0};
    struct err err = ERR_INIT;
    CHECK(web_ref_parse("http://h/d/", &page));
    CHECK_INT(web_index_html(&page, html, strlen(html), &err, &names), 0);
    CLEANUP_FREE char *got = text_of(&names);
    CHECK_STR(got, want);
}

static bool built_without_libxml2(void)
{
    CLEANUP_REF struct web_ref page = WEB_REF_INIT;
    struct web_names names = {0};
    struct err err = ERR_INIT;
    CHECK(web_ref_parse("http://h/", &page));
    int r = web_index_html(&page, "", 0, &err, &names);
    web_names_done(&names);
    if (r == -ENOTSUP)
        printf("html: not tested: %s\n", err.text);
    return r == -ENOTSUP;
}

static void html(void)
{
    if (built_without_libxml2())
        return;
    check_html("<html><head><title>Index of /d/</title></head><body><h1>Index of /d/</h1><hr><pre>"
               "<a href=\"../\">../</a>\r\n"
               "<a href=\"sub/\">sub/</a>                21-Nov-2026 15:04                   -\r\n"
               "<a href=\"a.txt\">a.txt</a>              21-Nov-2026 15:04                1234\r\n"
               "<a href=\"b.txt\">b.txt</a>              21-Nov-2026 15:04                1.2K\r\n"
               "</pre><hr></body></html>",
               "a.txt:1234 b.txt sub/");
    check_html("<table><tr><th><a href=\"?C=N;O=D\">Name</a></th><th><a href=\"?C=S\">Size</a></th></tr>"
               "<tr><td><a href=\"/\">Parent Directory</a></td><td>&nbsp;</td><td>-</td></tr>"
               "<tr><td><a href=\"x.iso\">x.iso</a></td><td>2026-11-21 15:04  </td><td>4.4G</td></tr>"
               "<tr><td><a href=\"y\">y</a></td><td>2026-11-21 15:04  </td><td>  7 </td></tr></table>",
               "x.iso y:7");
    check_html("<ul><li><a href=\"a%26b\">a&amp;b</a></li><li><a href='%3Cx%3E'>x</a><li>"
               "<a href=\"a&amp;c\">q</a><A HREF=upper>u</A><a name=\"n\">n</a></ul>",
               "<x> a&b a&c upper");
    check_html("<a href=\"x\">1</a><a href=\"x\">2</a><a href=\"x/\">3</a>", "x/");
    check_html("", "");
    check_html("no page at all \xff\xfe", "");
    check_html("<a href=\"open", "open");
    check_html("<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><a href=\"&e;\">x</a><a href=k>", "&e; k");
}

static void check_json(const char *json, int code, const char *want)
{
    struct web_names names = {0};
    struct err err = ERR_INIT;
    CHECK_INT(web_index_json(json, strlen(json), &err, &names), code);
    CLEANUP_FREE char *got = text_of(&names);
    CHECK_STR(got, want);
}

static void json(void)
{
    check_json("[{\"name\":\"d\",\"type\":\"directory\",\"mtime\":\"Wed, 21 Oct 2015 07:28:00 GMT\"},"
               "{\"name\":\"f\",\"type\":\"file\",\"mtime\":\"Wed, 21 Oct 2015 07:28:00 GMT\",\"size\":5}]",
               0, "d/ f:5");
    check_json("[{\"name\":\"d/\",\"size\":1,\"mod_time\":\"2015-10-21T07:28:00Z\",\"is_dir\":true}]", 0, "d/:1");
    check_json("[{\"name\":\"..\"},{\"name\":\"a/b\"},{\"name\":\"\"},{\"name\":\"/\"},{\"name\":\"ok\",\"size\":-5}]",
               0, "ok");
    check_json("{\"error\": \"no\"}", -EBADMSG, "");
    check_json("[5]", -EBADMSG, "");
    check_json("[", -EBADMSG, "");
    check_json("[{\"name\":\"a\\u0000b\"}]", -EBADMSG, "");
}

static void check_manifest(const char *text, int code, const char *want)
{
    struct web_names names = {0};
    struct err err = ERR_INIT;
    CHECK_INT(web_manifest_parse(text, strlen(text), &err, &names), code);
    CHECK(code == 0 || err.text[0]);
    CLEANUP_FREE char *got = text_of(&names);
    CHECK_STR(got, want);
}

static void manifests(void)
{
    check_manifest("# a comment\n\nz\r\na/b c.txt\nempty/\n a\n", 0, " a a/b c.txt empty/ z");
    check_manifest("", 0, "");
    check_manifest("[\"b\", {\"path\": \"a/x\", \"size\": 3}]", 0, "a/x:3 b");
    check_manifest("{\"files\": [\"b\"]}", 0, "b");
    check_manifest("ok\n../up\n", -EBADMSG, "");
    check_manifest("/etc/passwd\n", -EBADMSG, "");
    check_manifest("a//b\n", -EBADMSG, "");
    check_manifest("[\"\"]", -EBADMSG, "");
    check_manifest("{}", -EBADMSG, "");
}

int main(void)
{
    RUN(urls);
    RUN(redirects);
    RUN(child_names);
    RUN(versions);
    RUN(sizes);
    RUN(conditions);
    RUN(html);
    RUN(json);
    RUN(manifests);
    return t_done();
}

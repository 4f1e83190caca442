/* SPDX-License-Identifier: MIT
 * web_version.c: see web_version.h. */
#include "backends/web/web_version.h"

#include "backends/web/web_client.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/date.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETTLED_S 2 /* a second is what times have; Date and Last-Modified may be of two clock ticks */
#define HASH_MARK "\"sha256\" "

static void put(struct web_facts *f, const char *mark, const char *text)
{
    uint8_t digest[SHA256_LEN];
    char hex[2 * SHA256_LEN + 1];
    size_t before = strlen(mark), len = strlen(text);
    if (before + len < sizeof(f->version)) {
        memcpy(f->version, mark, before);
        memcpy(f->version + before, text, len + 1);
        return;
    }
    sha256(text, strlen(text), digest);
    hex_encode(digest, sizeof(digest), hex);
    (void)snprintf(f->version, sizeof(f->version), "\"long\" %s%s", *mark == 'W' ? "W/" : "", hex);
}

/* Was the file last changed so long before this reply that its time names one version only? */
static bool is_settled(const struct http_res *res, time_t modified)
{
    const char *v = http_headers_get(&res->headers, "date");
    time_t now;
    if (!v || !date_parse_http(v, &now))
        now = clock_wall().tv_sec;
    return modified > 0 && now - modified >= SETTLED_S;
}

/* The text between the quotes of an ETag; malloc'd, NULL when it has none. */
static char *unquoted(const char *s)
{
    size_t n = strlen(s);
    if (n < 2 || s[0] != '"' || s[n - 1] != '"' || memchr(s + 1, '"', n - 2))
        return NULL;
    return xstrndup(s + 1, n - 2);
}

static void read_version(const struct http_res *res, struct web_facts *f)
{
    const char *etag = http_headers_get(&res->headers, "etag");
    bool weak = etag && strncmp(etag, "W/", 2) == 0, settled = is_settled(res, f->mtime);
    char *tag = etag ? unquoted(etag + 2 * weak) : NULL, *text = NULL;
    if (etag && !weak && tag && *tag) {
        put(f, "", tag);
    } else if (etag && !weak && !tag && *etag) {
        put(f, "\"raw\" ", etag);
    } else if (settled) {
        text = weak && tag ? xasprintf("W/\"%s\" %" PRIdMAX " ", tag, (intmax_t)f->mtime)
                           : xasprintf("\"\" %" PRIdMAX " ", (intmax_t)f->mtime);
        put(f, "", text);
    }
    if (text && f->has_size) {
        f->has_size = false;
        web_facts_set_size(f, f->size);
    }
    free(text);
    free(tag);
}

void web_facts_read(const struct http_res *res, struct web_facts *ret)
{
    uint64_t first, last, total;
    const char *range = http_headers_get(&res->headers, "content-range");
    const char *modified = http_headers_get(&res->headers, "last-modified");
    const char *type = http_headers_get(&res->headers, "content-type");
    struct web_facts f = {0};
    if (res->status == 206)
        f.has_size = http_parse_content_range(range, &first, &last, &total) && total != UINT64_MAX;
    else
        f.has_size = web_reply_length(res, &total);
    f.size = f.has_size ? total : 0;
    if (!modified || !date_parse_http(modified, &f.mtime) || f.mtime < 0)
        f.mtime = 0;
    (void)snprintf(f.type, sizeof(f.type), "%s", type ? type : "");
    read_version(res, &f);
    *ret = f;
}

/* "W/..." and "\"\" ..." end in the size: open behind the last blank while it is not known. */
static bool has_size_in_it(const char *version)
{
    return strncmp(version, "W/\"", 3) == 0 || strncmp(version, "\"\" ", 3) == 0;
}

void web_facts_set_size(struct web_facts *f, uint64_t size)
{
    char number[24];
    if (f->has_size)
        return;
    f->has_size = true;
    f->size = size;
    if (!has_size_in_it(f->version))
        return;
    size_t n = strlen(f->version);
    (void)snprintf(number, sizeof(number), "%" PRIu64, size);
    if (n + strlen(number) < sizeof(f->version))
        (void)snprintf(f->version + n, sizeof(f->version) - n, "%s", number);
}

void web_facts_to_attr(const struct web_facts *f, struct attr *ret)
{
    *ret = (struct attr){.kind = ATTR_FILE, .known = ATTR_META, .size = f->size};
    ret->mtime.tv_sec = f->mtime;
    memcpy(ret->version, f->version, sizeof(ret->version));
    ret->content_type = f->type[0] ? xstrdup(f->type) : NULL;
}

bool web_facts_agree(const struct web_facts *f, const char *expected)
{
    size_t n = strlen(f->version);
    if (f->has_size || !has_size_in_it(f->version))
        return strcmp(f->version, expected) == 0;
    return strncmp(f->version, expected, n) == 0 && isdigit((unsigned char)expected[n]);
}

void web_version_add_condition(const char *version, struct http_headers *h)
{
    const char *end = version ? strrchr(version, ' ') : NULL;
    char date[30];
    if (!version || !*version)
        return;
    if (*version != '"' && strncmp(version, "W/\"", 3) != 0) {
        http_headers_addf(h, "if-match", "\"%s\"", version);
    } else if (has_size_in_it(version) && end) {
        while (end > version && end[-1] != ' ')
            end--;
        date_format_http((time_t)strtoll(end, NULL, 10), date);
        http_headers_add(h, "if-unmodified-since", date);
    }
}

bool web_version_is_hash(const char *version)
{
    return version && strncmp(version, HASH_MARK, sizeof(HASH_MARK) - 1) == 0;
}

void web_version_of_hash(const uint8_t digest[32], char out[ATTR_VERSION_MAX])
{
    char hex[2 * SHA256_LEN + 1];
    hex_encode(digest, SHA256_LEN, hex);
    (void)snprintf(out, ATTR_VERSION_MAX, HASH_MARK "%s", hex);
}

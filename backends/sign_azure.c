/* SPDX-License-Identifier: MIT
 * sign_azure.c: string to sign, HMAC-SHA256, base64. */
#include "backends/sign_azure.h"

#include "base/cleanup.h"
#include "base/date.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SAS_VERSION "2021-12-02"

static void add_standard(struct buf *b, const struct http_headers *h, const char *name)
{
    const char *v = http_headers_get(h, name);
    buf_addf(b, "%s\n", v ? v : "");
}

static int compare_headers(const void *a, const void *b)
{
    const struct http_header *x = *(const struct http_header *const *)a;
    const struct http_header *y = *(const struct http_header *const *)b;
    return strcmp(x->name, y->name);
}

/* x-ms-* in order, blanks at the value's ends gone. */
static void add_own(struct buf *b, const struct http_headers *h)
{
    CLEANUP_FREE const struct http_header **v = xcalloc(h->n + 1, sizeof(*v));
    size_t n = 0;
    for (size_t i = 0; i < h->n; i++)
        if (strncmp(h->v[i].name, "x-ms-", 5) == 0)
            v[n++] = &h->v[i];
    if (n > 1)
        qsort(v, n, sizeof(*v), compare_headers);
    for (size_t i = 0; i < n; i++) {
        const char *s = v[i]->value + strspn(v[i]->value, " \t");
        size_t len = strlen(s);
        while (len > 0 && (s[len - 1] == ' ' || s[len - 1] == '\t'))
            len--;
        buf_addf(b, "%s:%.*s\n", v[i]->name, (int)len, s);
    }
}

static int compare_params(const void *a, const void *b)
{
    const struct sign_s3_param *x = a, *y = b;
    int c = strcmp(x->name, y->name);
    return c ? c : strcmp(x->value, y->value);
}

/* /ACCOUNT/PATH, then each parameter on a line: name:value. Names are lower case here. */
static void add_resource(struct buf *b, const struct sign_azure_req *r)
{
    CLEANUP_FREE struct sign_s3_param *v = xcalloc(r->n_query + 1, sizeof(*v));
    buf_addf(b, "/%s%s", r->account, r->path);
    if (r->n_query)
        memcpy(v, r->query, r->n_query * sizeof(*v));
    if (r->n_query > 1)
        qsort(v, r->n_query, sizeof(*v), compare_params);
    for (size_t i = 0; i < r->n_query; i++) {
        bool again = i > 0 && strcmp(v[i].name, v[i - 1].name) == 0;
        if (again)
            buf_addf(b, ",%s", v[i].value);
        else
            buf_addf(b, "\n%s:%s", v[i].name, v[i].value);
    }
}

void sign_azure_string(const struct sign_azure_req *r, const struct http_headers *h, struct buf *ret)
{
    static const char *const after_length[] = {"content-md5",   "content-type",        "date",
                                               "if-modified-since", "if-match",      "if-none-match",
                                               "if-unmodified-since", "range"};
    buf_addf(ret, "%s\n", r->method);
    add_standard(ret, h, "content-encoding");
    add_standard(ret, h, "content-language");
    if (r->length)
        buf_addf(ret, "%" PRIu64, r->length);
    buf_addc(ret, '\n');
    for (size_t i = 0; i < ARRAY_LEN(after_length); i++)
        add_standard(ret, h, after_length[i]);
    add_own(ret, h);
    add_resource(ret, r);
}

static void add_mac(struct buf *b, const void *key, size_t key_len, const struct buf *text)
{
    uint8_t mac[SHA256_LEN];
    hmac_sha256(key, key_len, buf_str(text), text->len, mac);
    base64_add(b, mac, sizeof(mac));
}

void sign_azure_headers(const struct sign_azure_req *r, const void *key, size_t key_len,
                        struct http_headers *h)
{
    char date[30];
    CLEANUP_BUF struct buf text = BUF_INIT, auth = BUF_INIT;
    date_format_http(r->now, date);
    http_headers_add(h, "x-ms-date", date);
    sign_azure_string(r, h, &text);
    buf_addf(&auth, "SharedKey %s:", r->account);
    add_mac(&auth, key, key_len, &text);
    http_headers_add(h, "authorization", auth.data);
}

/* ---- SAS ---- */

static void format_expiry(time_t t, char out[32])
{
    char iso[32];
    date_format_iso((struct timespec){.tv_sec = t}, iso);
    (void)snprintf(out, 32, "%.19sZ", iso); /* whole seconds */
}

static const char *permissions(const struct sign_azure_sas *s)
{
    return s->write ? "cw" : "r";
}

static const char *protocols(const struct sign_azure_sas *s)
{
    return s->https ? "https" : "https,http";
}

void sign_azure_sas_string(const struct sign_azure_sas *s, struct buf *ret)
{
    char expiry[32];
    format_expiry(s->expires, expiry);
    /* permissions, start, expiry, resource, identifier, addresses, protocols, version, kind; then snapshot,
     * encryption scope and five headers of the reply: none. */
    buf_addf(ret, "%s\n\n%s\n/blob/%s/%s/%s\n\n\n%s\n" SAS_VERSION "\nb\n\n\n\n\n\n\n", permissions(s),
             expiry, s->account, s->container, s->blob, protocols(s));
}

void sign_azure_sas(const struct sign_azure_sas *s, const void *key, size_t key_len, struct buf *query)
{
    char expiry[32];
    CLEANUP_BUF struct buf text = BUF_INIT, sig = BUF_INIT;
    format_expiry(s->expires, expiry);
    sign_azure_sas_string(s, &text);
    add_mac(&sig, key, key_len, &text);
    const struct sign_s3_param v[] = {{"sv", SAS_VERSION}, {"spr", protocols(s)}, {"se", expiry},
                                      {"sr", "b"},         {"sp", permissions(s)}, {"sig", sig.data}};
    sign_s3_query(query, v, ARRAY_LEN(v));
}

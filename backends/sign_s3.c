/* SPDX-License-Identifier: MIT
 * sign_s3.c: Signature Version 4, in the four steps of its specification: canonical request, string
 * to sign, signing key, signature. */
#include "backends/sign_s3.h"

#include "base/cleanup.h"
#include "base/date.h"
#include "base/url.h"

#include <stdlib.h>
#include <string.h>

void sign_s3_key(const char *secret, const char *date, const char *region, const char *service,
                 struct sign_s3_key *ret)
{
    uint8_t k[SHA256_LEN];
    *ret = (struct sign_s3_key){0};
    (void)snprintf(ret->date, sizeof(ret->date), "%.8s", date);
    (void)snprintf(ret->region, sizeof(ret->region), "%s", region);
    (void)snprintf(ret->service, sizeof(ret->service), "%s", service);
    char *first = xasprintf("AWS4%s", secret);
    hmac_sha256(first, strlen(first), ret->date, strlen(ret->date), k);
    secret_free(first);
    hmac_sha256(k, sizeof(k), ret->region, strlen(ret->region), k);
    hmac_sha256(k, sizeof(k), ret->service, strlen(ret->service), k);
    hmac_sha256(k, sizeof(k), "aws4_request", 12, ret->key);
    explicit_bzero(k, sizeof(k));
}

/* ---- canonical query ---- */

struct pair {
    char *name, *value; /* encoded */
};

static int compare_pairs(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    int c = strcmp(x->name, y->name);
    return c ? c : strcmp(x->value, y->value);
}

static char *encoded(const char *s)
{
    struct buf b = BUF_INIT;
    url_encode(&b, s, strlen(s), false);
    return b.data ? buf_take(&b) : xstrdup("");
}

void sign_s3_query(struct buf *b, const struct sign_s3_param *query, size_t n)
{
    CLEANUP_FREE struct pair *v = xcalloc(n ? n : 1, sizeof(*v));
    for (size_t i = 0; i < n; i++)
        v[i] = (struct pair){encoded(query[i].name), encoded(query[i].value ? query[i].value : "")};
    qsort(v, n, sizeof(*v), compare_pairs);
    for (size_t i = 0; i < n; i++) {
        buf_addf(b, "%s%s=%s", i ? "&" : "", v[i].name, v[i].value);
        free(v[i].name);
        free(v[i].value);
    }
}

/* ---- canonical headers ---- */

static int compare_headers(const void *a, const void *b)
{
    const struct http_header *x = *(const struct http_header *const *)a;
    const struct http_header *y = *(const struct http_header *const *)b;
    return strcmp(x->name, y->name);
}

/* Trimmed, runs of blanks as one blank. */
static void add_canonical_value(struct buf *b, const char *v)
{
    while (*v == ' ' || *v == '\t')
        v++;
    while (*v) {
        if (*v != ' ' && *v != '\t') {
            buf_addc(b, *v++);
            continue;
        }
        while (*v == ' ' || *v == '\t')
            v++;
        if (*v)
            buf_addc(b, ' ');
    }
}

static void add_canonical_headers(struct buf *b, struct buf *names, const struct http_headers *h,
                                  const char *host)
{
    struct http_header own = {(char[]){"host"}, (char *)(uintptr_t)host};
    CLEANUP_FREE const struct http_header **v = xcalloc(h->n + 1, sizeof(*v));
    size_t n = 0;
    v[n++] = &own;
    for (size_t i = 0; i < h->n; i++)
        if (strcmp(h->v[i].name, "host") != 0)
            v[n++] = &h->v[i];
    qsort(v, n, sizeof(*v), compare_headers);
    for (size_t i = 0; i < n; i++) {
        /* Two headers of one name are signed as one, joined by a comma, in the order they are sent.
         */
        bool again = i > 0 && strcmp(v[i]->name, v[i - 1]->name) == 0;
        if (!again)
            buf_addf(names, "%s%s", i ? ";" : "", v[i]->name);
        if (i > 0)
            buf_addc(b, again ? ',' : '\n');
        if (!again)
            buf_addf(b, "%s:", v[i]->name);
        add_canonical_value(b, v[i]->value);
    }
    buf_addc(b, '\n');
}

void sign_s3_canonical(const struct sign_s3_req *r, const char *canonical_query,
                       const struct http_headers *h, const char *payload_hash, struct buf *ret,
                       struct buf *ret_signed_headers)
{
    buf_addf(ret, "%s\n%s\n%s\n", r->method, r->path, canonical_query);
    add_canonical_headers(ret, ret_signed_headers, h, r->host);
    buf_addf(ret, "\n%s\n%s", buf_str(ret_signed_headers), payload_hash);
}

/* ---- signature ---- */

static void add_scope(struct buf *b, const struct sign_s3_key *k)
{
    buf_addf(b, "%s/%s/%s/aws4_request", k->date, k->region, k->service);
}

static void signature(const struct sign_s3_key *key, const char *amz_date,
                      const struct buf *canonical, char out[65])
{
    char hash[65];
    uint8_t mac[SHA256_LEN];
    CLEANUP_BUF struct buf text = BUF_INIT;
    sha256_hex(buf_str(canonical), canonical->len, hash);
    buf_addf(&text, "AWS4-HMAC-SHA256\n%s\n", amz_date);
    add_scope(&text, key);
    buf_addf(&text, "\n%s", hash);
    hmac_sha256(key->key, sizeof(key->key), text.data, text.len, mac);
    hex_encode(mac, sizeof(mac), out);
}

void sign_s3_headers(const struct sign_s3_req *r, const struct sign_s3_key *key,
                     struct http_headers *h)
{
    char date[17], sig[65];
    CLEANUP_BUF struct buf canonical = BUF_INIT, names = BUF_INIT, query = BUF_INIT,
                           auth = BUF_INIT;
    date_format_amz(r->now, date);
    http_headers_add(h, "x-amz-date", date);
    http_headers_add(h, "x-amz-content-sha256", r->payload_hash);
    if (r->token && *r->token)
        http_headers_add(h, "x-amz-security-token", r->token);
    sign_s3_query(&query, r->query, r->n_query);
    sign_s3_canonical(r, buf_str(&query), h, r->payload_hash, &canonical, &names);
    signature(key, date, &canonical, sig);
    buf_addf(&auth, "AWS4-HMAC-SHA256 Credential=%s/", r->access_key);
    add_scope(&auth, key);
    buf_addf(&auth, ", SignedHeaders=%s, Signature=%s", buf_str(&names), sig);
    http_headers_add(h, "authorization", auth.data);
}

void sign_s3_presign(const struct sign_s3_req *r, const struct sign_s3_key *key, unsigned expires_s,
                     struct buf *query)
{
    char date[17], sig[65], expires[16];
    CLEANUP_BUF struct buf canonical = BUF_INIT, names = BUF_INIT, cred = BUF_INIT, q = BUF_INIT;
    size_t n = 0;
    CLEANUP_FREE struct sign_s3_param *v = xcalloc(r->n_query + 6, sizeof(*v));
    date_format_amz(r->now, date);
    (void)snprintf(expires, sizeof(expires), "%u", expires_s);
    buf_addf(&cred, "%s/", r->access_key);
    add_scope(&cred, key);
    v[n++] = (struct sign_s3_param){"X-Amz-Algorithm", "AWS4-HMAC-SHA256"};
    v[n++] = (struct sign_s3_param){"X-Amz-Credential", cred.data};
    v[n++] = (struct sign_s3_param){"X-Amz-Date", date};
    v[n++] = (struct sign_s3_param){"X-Amz-Expires", expires};
    if (r->token && *r->token)
        v[n++] = (struct sign_s3_param){"X-Amz-Security-Token", r->token};
    v[n++] = (struct sign_s3_param){"X-Amz-SignedHeaders", "host"};
    for (size_t i = 0; i < r->n_query; i++)
        v[n++] = r->query[i];
    sign_s3_query(&q, v, n);
    sign_s3_canonical(r, q.data, &(struct http_headers){0}, SIGN_S3_UNSIGNED, &canonical, &names);
    signature(key, date, &canonical, sig);
    buf_addf(query, "%s&X-Amz-Signature=%s", q.data, sig);
}

/* SPDX-License-Identifier: MIT
 * s3_sse.c: headers that depend on what a request does, not on who makes it: encryption at the server and
 * who pays.
 *
 *   sse = AES256 | aws:kms | aws:kms:dsse, sse_kms_key_id: with whatever makes an object (PUT, the begin of
 *   an upload, a copy).
 *   sse_customer_key (SSE-C; 32 bytes in base64): with whatever makes, reads or describes an object, and its
 *   parts, the end of an upload too (AWS wants it with checksums, MinIO with conditions); of a copy for the
 *   source as well. Everything of such a store is encrypted with that one key. Its
 *   server must speak TLS: the key goes with each request.
 *   request_payer = yes: x-amz-request-payer with every request. */
#include "backends/s3/s3.h"

#include "base/cleanup.h"

#include <errno.h>
#include <string.h>

#define KEY_LEN 32

/* base64 of 32 bytes: s->customer_key, and of their MD5: s->customer_md5 */
static int take_customer_key(const struct conf_section *c, char *text, struct err *err,
                             struct s3_store *s)
{
    CLEANUP_BUF struct buf raw = BUF_INIT;
    CLEANUP_BUF struct buf sum = BUF_INIT;
    uint8_t digest[MD5_LEN];
    bool good = base64_decode(&raw, text, strlen(text)) && raw.len == KEY_LEN;
    if (good) {
        md5(raw.data, raw.len, digest);
        base64_add(&sum, digest, sizeof(digest));
        s->customer_md5 = buf_take(&sum);
        s->customer_key = xstrdup(text);
    }
    if (raw.data)
        explicit_bzero(raw.data, raw.len);
    if (!good)
        return conf_error(c, "sse_customer_key", err, EINVAL,
                          "'sse_customer_key' is not 32 bytes in base64 (openssl rand -base64 32)");
    if (strcmp(s->scheme, "https") != 0 && !http_host_is_loopback(s->endpoint))
        return conf_error(c, "sse_customer_key", err, EINVAL,
                          "'sse_customer_key' needs an endpoint_url with https: the key goes with each request");
    return 0;
}

int s3_sse_take(const struct conf_section *c, struct err *err, struct s3_store *s)
{
    const char *sse = conf_str(c, "sse", "none"), *kms = conf_str(c, "sse_kms_key_id", NULL);
    char *text = NULL;
    s->pay = conf_bool(c, "request_payer", false);
    s->sse = strcmp(sse, "none") != 0 ? xstrdup(sse) : NULL;
    if (kms && *kms) {
        if (!s->sse)
            s->sse = xstrdup("aws:kms");
        if (strncmp(s->sse, "aws:kms", 7) != 0)
            return conf_error(c, "sse_kms_key_id", err, EINVAL, "'sse_kms_key_id' needs sse = aws:kms");
        s->kms_key = xstrdup(kms);
    }
    int r = conf_secret(c, "sse_customer_key", err, &text);
    if (r == -ENOENT)
        return 0;
    if (r == 0 && s->sse)
        r = conf_error(c, "sse_customer_key", err, EINVAL, "either 'sse' or 'sse_customer_key'");
    if (r == 0)
        r = take_customer_key(c, text, err, s);
    secret_free(text);
    return r;
}

void s3_sse_done(struct s3_store *s)
{
    free(s->sse);
    free(s->kms_key);
    secret_free(s->customer_key);
    free(s->customer_md5);
}

static bool has_param(const struct s3_req *r, const char *name)
{
    for (size_t i = 0; i < r->n_query; i++)
        if (strcmp(r->query[i].name, name) == 0)
            return true;
    return false;
}

static void add_customer_key(const struct s3_store *s, const char *infix, struct http_headers *h)
{
    CLEANUP_FREE char *algorithm = xasprintf("x-amz-%sserver-side-encryption-customer-algorithm", infix);
    CLEANUP_FREE char *key = xasprintf("x-amz-%sserver-side-encryption-customer-key", infix);
    CLEANUP_FREE char *sum = xasprintf("x-amz-%sserver-side-encryption-customer-key-md5", infix);
    http_headers_add(h, algorithm, "AES256");
    http_headers_add(h, key, s->customer_key);
    http_headers_add(h, sum, s->customer_md5);
}

void s3_sse_headers(const struct s3_store *s, const struct s3_req *r, struct http_headers *h)
{
    bool put = strcmp(r->method, "PUT") == 0, post = strcmp(r->method, "POST") == 0;
    bool gets = strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0;
    bool part = has_param(r, "partNumber");
    bool object = r->object && !has_param(r, "tagging");
    bool makes = object && ((put && !part) || (post && has_param(r, "uploads")));
    if (s->pay)
        http_headers_add(h, "x-amz-request-payer", "requester");
    if (s->sse && makes)
        http_headers_add(h, "x-amz-server-side-encryption", s->sse);
    if (s->kms_key && makes)
        http_headers_add(h, "x-amz-server-side-encryption-aws-kms-key-id", s->kms_key);
    bool ends = object && post && has_param(r, "uploadId");
    if (!s->customer_key || !object || !(makes || part || ends || gets))
        return;
    add_customer_key(s, "", h);
    if (http_headers_get(h, "x-amz-copy-source"))
        add_customer_key(s, "copy-source-", h);
}

static bool says(const struct s3_error *e, const char *words)
{
    return strstr(e->message, words) != NULL;
}

const char *s3_sse_advice(const struct s3_store *s, const struct s3_req *r, int status, const struct s3_error *e)
{
    bool silent = !e->code[0] && strcmp(r->method, "HEAD") == 0;
    bool denied = status == 403 && (!e->code[0] || strcmp(e->code, "AccessDenied") == 0);
    if (!r->object)
        return NULL;
    if (says(e, "encryption parameters are not applicable"))
        return "the object is not encrypted with a customer's key: read it by a store without sse_customer_key";
    if (says(e, "stored using a form of Server Side Encryption"))
        return s->customer_key ? "sse_customer_key is not the object's key"
                               : "the object is encrypted with a customer's key: set sse_customer_key";
    if (s->customer_key && (denied || (status == 400 && silent)))
        return "not allowed, or sse_customer_key is not the object's key";
    if (status == 400 && silent)
        return "it may be encrypted with a customer's key, then set sse_customer_key";
    return NULL;
}

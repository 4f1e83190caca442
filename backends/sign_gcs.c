/* SPDX-License-Identifier: MIT
 * sign_gcs.c: the V4 signing process: canonical request, string to sign, RSA signature in hex. */
#include "backends/sign_gcs.h"

#include "base/cleanup.h"
#include "base/date.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The port is not signed: the service does not look at it. */
static char *without_port(const char *host)
{
    const char *end = strchr(host, ']'), *colon = strrchr(end ? end : host, ':');
    return colon ? xstrndup(host, (size_t)(colon - host)) : xstrdup(host);
}

/* "content-type;host": names in order, as they are signed. */
static void add_signed_names(const struct sign_gcs_req *r, struct buf *names)
{
    static const struct http_headers none;
    CLEANUP_BUF struct buf canonical = BUF_INIT;
    struct sign_s3_req q = {.method = r->method, .host = r->host, .path = r->path};
    sign_s3_canonical(&q, "", r->headers ? r->headers : &none, SIGN_S3_UNSIGNED, &canonical, names);
}

static void add_query(const struct sign_gcs_req *r, const char *credential, const char *date,
                      const char *names, struct buf *ret)
{
    char expires[16];
    size_t n = 0;
    CLEANUP_FREE struct sign_s3_param *v = xcalloc(r->n_query + 5, sizeof(*v));
    (void)snprintf(expires, sizeof(expires), "%u", r->expires_s);
    v[n++] = (struct sign_s3_param){"X-Goog-Algorithm", "GOOG4-RSA-SHA256"};
    v[n++] = (struct sign_s3_param){"X-Goog-Credential", credential};
    v[n++] = (struct sign_s3_param){"X-Goog-Date", date};
    v[n++] = (struct sign_s3_param){"X-Goog-Expires", expires};
    v[n++] = (struct sign_s3_param){"X-Goog-SignedHeaders", names};
    for (size_t i = 0; i < r->n_query; i++)
        v[n++] = r->query[i];
    sign_s3_query(ret, v, n);
}

int sign_gcs_presign(const struct sign_gcs_req *r, struct err *err, struct buf *query)
{
    static const struct http_headers none;
    char date[17], hash[65];
    CLEANUP_FREE char *host = without_port(r->host);
    CLEANUP_BUF struct buf canonical = BUF_INIT, names = BUF_INIT, again = BUF_INIT, q = BUF_INIT,
                           text = BUF_INIT, sig = BUF_INIT;
    date_format_amz(r->now, date);
    CLEANUP_FREE char *scope = xasprintf("%.8s/auto/storage/goog4_request", date);
    CLEANUP_FREE char *credential = xasprintf("%s/%s", r->email, scope);
    struct sign_s3_req s = {.method = r->method, .host = host, .path = r->path};
    add_signed_names(r, &names);
    add_query(r, credential, date, buf_str(&names), &q);
    sign_s3_canonical(&s, q.data, r->headers ? r->headers : &none, SIGN_S3_UNSIGNED, &canonical, &again);
    sha256_hex(canonical.data, canonical.len, hash);
    buf_addf(&text, "GOOG4-RSA-SHA256\n%s\n%s\n%s", date, scope, hash);
    if (rsa_sha256_sign(r->private_key, text.data, text.len, &sig) < 0)
        return err_set(err, EINVAL, "the private_key of the service account is not an RSA key in PEM");
    CLEANUP_FREE char *hex = xmalloc(2 * sig.len + 1);
    hex_encode(sig.data, sig.len, hex);
    buf_addf(query, "%s&X-Goog-Signature=%s", q.data, hex);
    return 0;
}

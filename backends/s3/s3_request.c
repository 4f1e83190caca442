/* SPDX-License-Identifier: MIT
 * s3_request.c: one request from its parts to its errno: checksums of the body, URL, signature,
 * send.
 *
 * A refusal that teaches us something is answered by sending the request once more, changed: the
 * server's clock, the bucket's region, new keys in the profile, no checksum header. That is not a
 * retry (the same thing again), which wrappers do. The body is a source, so it can be read again.
 */
#include "backends/s3/s3.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/date.h"
#include "base/name.h"
#include "base/url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ADAPT_MAX 3
#define SUM_CHUNK (256u << 10) /* stays in the CPU's cache while both sums run over it */
#define SKEW_MIN_S 30

void s3_req_param(struct s3_req *r, const char *name, const char *value)
{
    if (r->n_query < S3_MAX_PARAMS)
        r->query[r->n_query++] = (struct sign_s3_param){name, value};
}

void s3_req_done(struct s3_req *r)
{
    http_headers_done(&r->headers);
}

char *s3_object(const struct s3_store *s, const char *key)
{
    return flat_object(s->prefix, key);
}

char *s3_dir_object(const struct s3_store *s, const char *key)
{
    return flat_dir_object(s->prefix, key);
}

/* ---- where to ---- */

void s3_host(const struct s3_store *s, const char *region, struct buf *ret)
{
    if (!s->path_style)
        buf_addf(ret, "%s.", s->bucket);
    if (s->endpoint)
        buf_adds(ret, s->endpoint);
    else
        buf_addf(ret, "s3.%s.amazonaws.com%s", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
}

void s3_path(const struct s3_store *s, const char *object, struct buf *ret)
{
    buf_adds(ret, s->root);
    if (s->path_style) {
        buf_addc(ret, '/');
        url_encode(ret, s->bucket, strlen(s->bucket), false);
    }
    if (object || !s->path_style)
        buf_addc(ret, '/');
    if (object)
        url_encode(ret, object, strlen(object), true);
}

/* ---- the signer ---- */

bool s3_signer_take(struct s3_store *s, struct s3_signer *ret)
{
    char date[17];
    *ret = (struct s3_signer){.now = clock_wall().tv_sec + atomic_load(&s->skew_s)};
    date_format_amz(ret->now, date);
    LOCK_SCOPE(&s->sync.lock);
    ret->region = xstrdup(s->sync.region);
    if (!s->sync.creds.access_key)
        return false;
    struct sign_s3_key *k = &s->sync.key;
    if (strncmp(k->date, date, 8) != 0 || strcmp(k->region, s->sync.region) != 0)
        sign_s3_key(s->sync.creds.secret, date, s->sync.region, "s3", k);
    ret->access_key = xstrdup(s->sync.creds.access_key);
    ret->token = s->sync.creds.token ? xstrdup(s->sync.creds.token) : NULL;
    ret->key = *k;
    return true;
}

void s3_signer_done(struct s3_signer *g)
{
    free(g->access_key);
    secret_free(g->token);
    free(g->region);
    explicit_bzero(&g->key, sizeof(g->key));
    *g = (struct s3_signer){0};
}

/* ---- the body ---- */

struct sums {
    char sha256[65]; /* or SIGN_S3_UNSIGNED */
    char crc32c[16]; /* base64; "" = not sent */
    char md5[32];
};

static void base64_into(const void *data, size_t len, char *out, size_t size)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    base64_add(&b, data, len);
    (void)snprintf(out, size, "%s", buf_str(&b));
}

static int sum_failed(struct op *op, int r)
{
    return r == -EINTR || r == -ETIMEDOUT
               ? r
               : err_set(&op->err, -r, "cannot read what is to be sent: %s", strerror(-r));
}

/* SHA-256 and CRC-32C in one pass over the source. */
static int sum_source(struct op *op, const struct source *src, struct sha256_stream *sha,
                      uint32_t *crc)
{
    size_t chunk = src->size < SUM_CHUNK ? (size_t)src->size : SUM_CHUNK;
    CLEANUP_FREE char *p = xmalloc(chunk ? chunk : 1);
    for (uint64_t off = 0; off < src->size; off += chunk) {
        size_t n = src->size - off < chunk ? (size_t)(src->size - off) : chunk;
        int r = op_check(op);
        if (r == 0)
            r = src->read_at(src, off, p, n);
        if (r < 0)
            return sum_failed(op, r);
        if (sha)
            sha256_add(sha, p, n);
        if (crc)
            *crc = crc32c(*crc, p, n);
    }
    return 0;
}

static int sum_md5(struct op *op, const struct source *src, char out[32])
{
    uint8_t sum[MD5_LEN];
    CLEANUP_FREE char *p = xmalloc((size_t)src->size + 1);
    int r = src->read_at(src, 0, p, (size_t)src->size);
    if (r < 0)
        return sum_failed(op, r);
    md5(p, (size_t)src->size, sum);
    base64_into(sum, sizeof(sum), out, 32);
    return 0;
}

static int sum_body(struct s3_store *s, struct op *op, const struct s3_req *r, struct sums *ret)
{
    bool want_sha = s->sign_payload && !s->anonymous;
    bool want_crc = r->checksum == S3_CHECKSUM_ALWAYS ||
                    (r->checksum == S3_CHECKSUM_IF_TAKEN && !atomic_load(&s->no_checksum));
    uint8_t sum[SHA256_LEN], be[4];
    uint32_t crc = 0;
    int rc = 0;
    *ret = (struct sums){.sha256 = SIGN_S3_EMPTY};
    if (!r->body)
        return 0;
    struct sha256_stream *sha = want_sha ? sha256_begin() : NULL;
    if (want_sha || want_crc)
        rc = sum_source(op, r->body, sha, want_crc ? &crc : NULL);
    if (sha)
        sha256_end(sha, sum);
    if (sha)
        hex_encode(sum, sizeof(sum), ret->sha256);
    else
        (void)snprintf(ret->sha256, sizeof(ret->sha256), "%s", SIGN_S3_UNSIGNED);
    if (want_crc) {
        for (int i = 0; i < 4; i++)
            be[i] = (uint8_t)(crc >> (24 - 8 * i));
        base64_into(be, sizeof(be), ret->crc32c, sizeof(ret->crc32c));
    }
    if (rc == 0 && r->md5)
        rc = sum_md5(op, r->body, ret->md5);
    return rc;
}

/* ---- sending ---- */

struct sending {
    struct s3_store *s;
    const struct s3_req *r;
    const struct sums *sums;
    struct buf host, path;
};

/* http_do calls this when a connection is free: the date is that of sending. */
static int sign_now(void *arg, struct http_headers *h)
{
    struct sending *g = arg;
    struct s3_signer signer;
    if (s3_signer_take(g->s, &signer)) {
        struct sign_s3_req q = {.method = g->r->method,
                                .host = buf_str(&g->host),
                                .path = buf_str(&g->path),
                                .query = g->r->query,
                                .n_query = g->r->n_query,
                                .access_key = signer.access_key,
                                .token = signer.token,
                                .payload_hash = g->sums->sha256,
                                .now = signer.now};
        sign_s3_headers(&q, &signer.key, h);
    }
    s3_signer_done(&signer);
    return 0;
}

static void copy_region(struct s3_store *s, char out[64])
{
    LOCK_SCOPE(&s->sync.lock);
    memcpy(out, s->sync.region, 64);
}

static void build_url(struct sending *g, struct buf *url)
{
    char region[64];
    copy_region(g->s, region);
    s3_host(g->s, region, &g->host);
    s3_path(g->s, g->r->object, &g->path);
    buf_addf(url, "%s://%s%s", g->s->scheme, buf_str(&g->host), buf_str(&g->path));
    if (g->r->n_query) {
        buf_addc(url, '?');
        sign_s3_query(url, g->r->query, g->r->n_query);
    }
}

static int send_once(struct s3_store *s, struct op *op, const struct s3_req *r,
                     const struct sums *sums, struct http_res *ret)
{
    struct sending g = {.s = s, .r = r, .sums = sums};
    struct http_headers h = {0};
    CLEANUP_BUF struct buf url = BUF_INIT;
    build_url(&g, &url);
    for (size_t i = 0; i < r->headers.n; i++)
        http_headers_add(&h, r->headers.v[i].name, r->headers.v[i].value);
    s3_sse_headers(s, r, &h);
    if (sums->crc32c[0])
        http_headers_add(&h, "x-amz-checksum-crc32c", sums->crc32c);
    if (sums->md5[0])
        http_headers_add(&h, "content-md5", sums->md5);
    struct http_req q = {.method = r->method,
                         .url = url.data,
                         .headers = &h,
                         .body = r->body,
                         .to = r->to,
                         .on_data = r->on_data,
                         .on_data_arg = r->on_data_arg,
                         .on_reply = r->on_reply,
                         .on_reply_arg = r->on_reply_arg,
                         .stall_s = r->stall_s,
                         .sign = sign_now,
                         .sign_arg = &g};
    int rc = http_do(s->http, op, &q, ret);
    http_headers_done(&h);
    buf_done(&g.host);
    buf_done(&g.path);
    return rc;
}

/* ---- adapting ---- */

static void note_server(struct s3_store *s, const struct http_res *res)
{
    if (atomic_load(&s->server) != S3_SERVER_UNKNOWN)
        return;
    const char *name = http_headers_get(&res->headers, "server");
    bool minio = name && strncasecmp(name, "MinIO", 5) == 0;
    atomic_store(&s->server, minio ? S3_SERVER_MINIO : S3_SERVER_OTHER);
}

static bool learn_skew(struct s3_store *s, const struct http_res *res)
{
    const char *date = http_headers_get(&res->headers, "date");
    time_t theirs;
    if (!date || !date_parse_http(date, &theirs))
        return false;
    long skew = (long)(theirs - clock_wall().tv_sec), old = atomic_exchange(&s->skew_s, skew);
    return labs(skew - old) >= SKEW_MIN_S;
}

/* The region becomes part of a host name: only what can be a region is believed. */
static bool learn_region(struct s3_store *s, const char *region)
{
    size_t n = strlen(region);
    if (n == 0 || n >= 40 || strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") != n)
        return false;
    LOCK_SCOPE(&s->sync.lock);
    if (strcmp(s->sync.region, region) == 0)
        return false;
    (void)snprintf(s->sync.region, sizeof(s->sync.region), "%s", region);
    return true;
}

/* Expired keys that came from a profile: something may have renewed them there. */
static bool learn_creds(struct s3_store *s)
{
    char *profile = NULL;
    struct s3_creds fresh = {0}, old = {0};
    lock_acquire(&s->sync.lock);
    if (s->sync.creds.profile)
        profile = xstrdup(s->sync.creds.profile);
    lock_release(&s->sync.lock);
    int r = profile ? s3_creds_load_profile(profile, flat_environment, NULL, &fresh) : -ENOENT;
    free(profile);
    if (r < 0 || !fresh.access_key) { /* or it asks for them now: at the next start */
        s3_creds_done(&fresh);
        return false;
    }
    lock_acquire(&s->sync.lock);
    bool changed =
        strcmp(fresh.access_key, s->sync.creds.access_key) != 0 ||
        strcmp(fresh.secret, s->sync.creds.secret) != 0 ||
        strcmp(fresh.token ? fresh.token : "", s->sync.creds.token ? s->sync.creds.token : "") != 0;
    if (changed) {
        old = s->sync.creds;
        s->sync.creds = fresh;
        s->sync.key = (struct sign_s3_key){0};
        fresh = (struct s3_creds){0};
    }
    lock_release(&s->sync.lock);
    s3_creds_done(&fresh);
    s3_creds_done(&old);
    return changed;
}

static bool is_one_of(const char *code, const char *const *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(code, v[i]) == 0)
            return true;
    return false;
}

/* Does the refusal tell how to ask better? */
static bool adapt(struct s3_store *s, struct op *op, struct sums *sums, const struct http_res *res,
                  const struct s3_error *e)
{
    static const char *const unknown_header[] = {"NotImplemented", "InvalidArgument",
                                                 "InvalidRequest", "XNotImplemented",
                                                 "UnsupportedHeader"};
    static const char *const skewed[] = {"RequestTimeTooSkewed", "RequestExpired"};
    static const char *const expired[] = {"ExpiredToken", "TokenRefreshRequired", "InvalidToken"};
    if (is_one_of(e->code, skewed, ARRAY_LEN(skewed)))
        return learn_skew(s, res);
    if (is_one_of(e->code, expired, ARRAY_LEN(expired)))
        return s->role ? s3_role_refresh(s, op, true) == 0 : learn_creds(s);
    bool elsewhere = res->status == 301 || res->status == 307 || res->status == 400;
    if (elsewhere && e->region[0] && (!s->endpoint || res->status == 400))
        return learn_region(s, e->region);
    if (sums->crc32c[0] && is_one_of(e->code, unknown_header, ARRAY_LEN(unknown_header))) {
        sums->crc32c[0] = '\0';
        return true;
    }
    return false;
}

static int with_place(struct s3_store *s, struct op *op, const struct s3_req *r, int rc)
{
    (void)err_prefix(&op->err, "%s s3://%s/%.300s", r->op, s->bucket, r->object ? r->object : "");
    return rc;
}

/* MinIO drops slashes that an object's name begins with: "/a" would be "a", another object. Where the
 * server is not known yet, a listing tells. */
static int check_leading_slash(struct s3_store *s, struct op *op, const struct s3_req *r)
{
    struct flat_result l = {0};
    if (!r->object || r->object[0] != '/')
        return 0;
    int rc = 0;
    if (atomic_load(&s->server) == S3_SERVER_UNKNOWN)
        rc = s3_list_raw(s, op, r->op, "", NULL, 1, &l);
    flat_result_done(&l);
    if (rc < 0 || atomic_load(&s->server) != S3_SERVER_MINIO)
        return rc;
    rc = err_set(&op->err, EINVAL, "%s s3://%s/%.300s: MinIO cannot hold a leading '/'", r->op,
                 s->bucket, r->object);
    (void)snprintf(op->err.remote, sizeof(op->err.remote), "XMinioInvalidObjectName");
    return rc;
}

int s3_do(struct s3_store *s, struct op *op, struct s3_req *r, struct http_res *ret)
{
    struct sums sums = {0};
    struct s3_error e;
    int rc = check_leading_slash(s, op, r);
    if (rc < 0)
        return rc;
    rc = sum_body(s, op, r, &sums);
    bool had_checksum = sums.crc32c[0] != '\0';
    for (int i = 0; rc == 0; i++) {
        struct http_res res = HTTP_RES_INIT;
        rc = s3_role_refresh(s, op, false);
        if (rc == 0)
            rc = send_once(s, op, r, &sums, &res);
        if (rc < 0)
            break;
        note_server(s, &res);
        if (res.status / 100 == 2) {
            if (had_checksum && !sums.crc32c[0])
                atomic_store(&s->no_checksum, true); /* that was what it disliked */
            memcpy(r->crc32c, sums.crc32c, sizeof(r->crc32c));
            *ret = res;
            return 0;
        }
        s3_error_read(&res, &e);
        bool again = i < ADAPT_MAX && adapt(s, op, &sums, &res, &e);
        if (!again)
            rc = flat_resent_result(op, r->op, r->method, &res, res.status == 412, s3_error_set(s, op, r, &res, &e));
        http_res_done(&res);
        if (rc < 0)
            return rc;
    }
    return with_place(s, op, r, rc);
}

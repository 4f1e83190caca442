/* SPDX-License-Identifier: MIT
 * gcs_token.c: access tokens. One is kept, and renewed when it has less than EARLY_S left: by one thread,
 * while the others go on with the old one as long as it is good, and else wait. A renewal that fails while
 * the old token is good is not an error.
 *
 * Grants: a service account's signed assertion (RFC 7523), a user's refresh token (RFC 6749), or the
 * metadata server of a virtual machine. They go to the token endpoint only; storage sees the token. */
#include "backends/gcs/gcs.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SCOPE "https://www.googleapis.com/auth/devstorage.read_write"
#define GRANT "urn:ietf:params:oauth:grant-type:jwt-bearer"
#define EARLY_S 240 /* a token that has less than this (or half of its life) left is renewed */
#define LEAST_S 10  /* and one that has less than this is not used any more */
#define ASSERTION_S 3600
#define REPLY_MAX (64u << 10)

struct gcs_tokens {
    struct gcs_creds creds; /* constant */
    struct http_client *http;
    struct {
        struct lock lock;
        struct cond renewed;
        char *token;
        uint64_t until_ns; /* of clock_now_ns() */
        uint64_t early_s;  /* it is renewed when it has less than this left */
        bool renewing;
    } sync;
};

struct gcs_tokens *gcs_tokens_new(struct gcs_creds *creds, struct http_client *http)
{
    struct gcs_tokens *t = xcalloc(1, sizeof(*t));
    t->creds = *creds;
    *creds = (struct gcs_creds){0};
    t->http = http;
    lock_init(&t->sync.lock, LOCK_RANK_STORE, "gcs tokens");
    cond_init(&t->sync.renewed);
    return t;
}

void gcs_tokens_free(struct gcs_tokens *t)
{
    if (!t)
        return;
    gcs_creds_done(&t->creds);
    secret_free(t->sync.token);
    cond_done(&t->sync.renewed);
    lock_done(&t->sync.lock);
    free(t);
}

const struct gcs_creds *gcs_tokens_creds(const struct gcs_tokens *t)
{
    return &t->creds;
}

/* ---- asking ---- */

static void add_json(struct buf *b, json_t *o)
{
    char *text = json_dumps(o, JSON_COMPACT);
    base64url_add(b, text, strlen(text));
    free(text);
    json_decref(o);
}

int gcs_jwt(const struct gcs_creds *c, time_t now, struct err *err, struct buf *ret)
{
    CLEANUP_BUF struct buf sig = BUF_INIT;
    size_t start = ret->len;
    json_t *head = json_pack("{s:s, s:s, s:s*}", "alg", "RS256", "typ", "JWT", "kid", c->key_id);
    json_t *claims = json_pack("{s:s, s:s, s:s, s:I, s:I}", "iss", c->email, "scope", SCOPE, "aud",
                               c->token_uri, "iat", (json_int_t)now, "exp",
                               (json_int_t)(now + ASSERTION_S));
    if (!head || !claims) {
        json_decref(head);
        json_decref(claims);
        return err_set(err, EINVAL, "the service account key is not UTF-8");
    }
    add_json(ret, head);
    buf_addc(ret, '.');
    add_json(ret, claims);
    if (rsa_sha256_sign(c->private_key, ret->data + start, ret->len - start, &sig) < 0)
        return err_set(err, EINVAL, "the private_key of the service account is not an RSA key in PEM");
    buf_addc(ret, '.');
    base64url_add(ret, sig.data, sig.len);
    return 0;
}

static void add_field(struct buf *b, const char *name, const char *value)
{
    buf_addf(b, "%s%s=", b->len ? "&" : "", name);
    url_encode(b, value, strlen(value), false);
}

static int make_form(const struct gcs_creds *c, struct err *err, struct buf *ret)
{
    if (c->kind == GCS_SERVICE_ACCOUNT) {
        CLEANUP_BUF struct buf jwt = BUF_INIT;
        int r = gcs_jwt(c, clock_wall().tv_sec, err, &jwt);
        if (r < 0)
            return r;
        add_field(ret, "grant_type", GRANT);
        add_field(ret, "assertion", jwt.data);
    } else {
        add_field(ret, "grant_type", "refresh_token");
        add_field(ret, "client_id", c->client_id);
        add_field(ret, "client_secret", c->client_secret);
        add_field(ret, "refresh_token", c->refresh_token);
    }
    return 0;
}

static int refused(struct gcs_tokens *t, struct op *op, const struct http_res *res)
{
    json_t *o = json_loadb(buf_str(&res->body), res->body.len, 0, NULL);
    const char *code = json_string_value(json_object_get(o, "error"));
    const char *text = json_string_value(json_object_get(o, "error_description"));
    bool later = res->status >= 500 || res->status == 429 || res->status == 408;
    int r = err_set(&op->err, later ? EIO : EACCES,
                    "no access token with credentials from %s: the token endpoint answered %d %.60s: %.200s",
                    t->creds.from, res->status, code ? code : "", text ? text : "");
    op->err.retry = later ? ERR_RETRY_SAFE : ERR_RETRY_NEVER;
    op->err.status = res->status;
    op->err.retry_after_ms = http_retry_after_ms(&res->headers);
    (void)snprintf(op->err.remote, sizeof(op->err.remote), "%.60s", code ? code : "");
    json_decref(o);
    return r;
}

static int take_reply(struct gcs_tokens *t, struct op *op, const struct http_res *res, char **ret,
                      uint64_t *ret_seconds)
{
    if (res->status / 100 != 2)
        return refused(t, op, res);
    json_t *o = json_loadb(buf_str(&res->body), res->body.len, 0, NULL);
    const char *token = json_string_value(json_object_get(o, "access_token"));
    json_int_t seconds = json_integer_value(json_object_get(o, "expires_in"));
    int r = 0;
    if (!token || !*token || strpbrk(token, "\r\n")) {
        r = err_set(&op->err, EIO, "the token endpoint's reply has no access_token");
        op->err.retry = ERR_RETRY_SAFE;
    } else {
        *ret = xstrdup(token);
        *ret_seconds = seconds > 0 && seconds < 86400 ? (uint64_t)seconds : 3600;
    }
    json_decref(o);
    return r;
}

static int ask(struct gcs_tokens *t, struct op *op, char **ret, uint64_t *ret_seconds)
{
    CLEANUP_BUF struct buf form = BUF_INIT;
    struct http_headers h = {0};
    struct http_res res = HTTP_RES_INIT;
    bool metadata = t->creds.kind == GCS_METADATA;
    int r = metadata ? 0 : make_form(&t->creds, &op->err, &form);
    if (r < 0)
        return r;
    struct source_mem body = source_mem(buf_str(&form), form.len);
    if (metadata)
        http_headers_add(&h, "metadata-flavor", "Google");
    else
        http_headers_add(&h, "content-type", "application/x-www-form-urlencoded");
    struct http_req q = {.method = metadata ? "GET" : "POST",
                         .url = t->creds.token_uri,
                         .headers = &h,
                         .body = metadata ? NULL : &body.base,
                         .body_max = REPLY_MAX};
    r = http_do(t->http, op, &q, &res);
    if (r == 0)
        r = take_reply(t, op, &res, ret, ret_seconds);
    else if (op->err.retry == ERR_RETRY_UNKNOWN)
        op->err.retry = ERR_RETRY_SAFE; /* asking for a token changes nothing */
    if (res.body.data)
        explicit_bzero(res.body.data, res.body.len);
    http_res_done(&res);
    http_headers_done(&h);
    if (form.data)
        explicit_bzero(form.data, form.len);
    return r;
}

/* ---- keeping ---- */

static bool has_left(const struct gcs_tokens *t, uint64_t seconds)
{
    return t->sync.token && t->sync.until_ns > clock_now_ns() + seconds * NS_PER_S;
}

/* true: *ret is a token. false: this thread is the one that renews. */
static int take_or_claim(struct gcs_tokens *t, struct op *op, char **ret)
{
    LOCK_SCOPE(&t->sync.lock);
    while (!has_left(t, LEAST_S) && t->sync.renewing) {
        (void)cond_wait_until(&t->sync.renewed, &t->sync.lock, clock_now_ns() + 100 * NS_PER_MS);
        int r = op_check(op);
        if (r < 0)
            return r;
    }
    if (has_left(t, t->sync.early_s) || t->sync.renewing)
        *ret = xstrdup(t->sync.token);
    else
        t->sync.renewing = true;
    return 0;
}

int gcs_token(struct gcs_tokens *t, struct op *op, char **ret)
{
    char *token = NULL;
    uint64_t seconds = 0;
    *ret = NULL;
    if (t->creds.kind == GCS_ANONYMOUS)
        return 0;
    if (t->creds.kind == GCS_TOKEN) {
        *ret = xstrdup(t->creds.token);
        return 0;
    }
    int r = take_or_claim(t, op, ret);
    if (r < 0 || *ret)
        return r;
    r = ask(t, op, &token, &seconds);
    lock_acquire(&t->sync.lock);
    if (r == 0) {
        secret_free(t->sync.token);
        t->sync.token = token;
        t->sync.until_ns = clock_now_ns() + seconds * NS_PER_S;
        t->sync.early_s = seconds < 2 * EARLY_S ? seconds / 2 : EARLY_S;
    }
    if (r == 0 || has_left(t, LEAST_S))
        *ret = xstrdup(t->sync.token);
    t->sync.renewing = false;
    cond_broadcast(&t->sync.renewed);
    lock_release(&t->sync.lock);
    if (r < 0 && *ret && r != -EINTR) {
        log_debug("gcs", "the old token is used on: %s", err_text(&op->err));
        err_clear(&op->err);
        r = 0;
    }
    if (r < 0) {
        secret_free(*ret);
        *ret = NULL;
    }
    return r;
}

bool gcs_token_refused(struct gcs_tokens *t, const char *token)
{
    if (!token || t->creds.kind == GCS_ANONYMOUS || t->creds.kind == GCS_TOKEN)
        return false;
    LOCK_SCOPE(&t->sync.lock);
    if (t->sync.token && strcmp(t->sync.token, token) == 0)
        t->sync.until_ns = 0;
    return true;
}

/* SPDX-License-Identifier: MIT
 * s3_role.c: temporary keys that somebody gives out for a while, fetched when they are needed and again before
 * they expire.
 *
 *   STS    role_arn: AssumeRole, with the keys that were found; with a token file (Kubernetes):
 *          AssumeRoleWithWebIdentity, unsigned
 *   ECS    AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI: the container's agent
 *   IMDS   the EC2 instance's metadata service, version 2 (a session token first)
 *   credential_process, SSO of a profile: s3_indirect.c; also for the keys that ask STS
 * One thread fetches; others go on with the keys they have while those are good, else wait for it. A failure
 * while the old keys are still good is tried again later. Tokens and keys are never in a URL or a log.
 * ECS over http: as the environment says it, which is the machine's owner's.
 * Sources of the protocols: AWS's API references of STS, and the SDKs' guide on credential providers. */
#include "backends/s3/s3.h"

#include "backends/xml.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/date.h"
#include "base/log.h"
#include "base/url.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#define AHEAD_S 300     /* fetched again so long before the end, or at half of a short life */
#define AGAIN_S 30      /* after a failure */
#define FETCH_MS 15000
#define TOKEN_MAX 65536

enum kind { KIND_ASSUME = 1, KIND_WEB, KIND_ECS, KIND_IMDS, KIND_INDIRECT };

struct s3_role {
    enum kind kind;
    struct http_client *http;
    struct s3_creds base;   /* ASSUME: who asks; INDIRECT: how to ask */
    char *url;              /* of the service */
    char *region;           /* that STS is asked in */
    char *arn, *external_id, *session, *token_file;
    char *authorization;    /* ECS: given in the environment */
    char *authorization_file;
    struct lock lock;
    struct cond changed;
    time_t refresh_at, expires; /* wall clock; 0: none yet; under lock, as: */
    bool fetching;
};

/* ---- one request ---- */

static int fetch(struct s3_role *g, struct op *op, struct http_req *q, const char *what, struct buf *ret)
{
    struct http_res res = HTTP_RES_INIT;
    int r = http_do(g->http, op, q, &res);
    if (r < 0)
        return err_prefix(&op->err, "%s", what);
    if (res.status / 100 != 2) {
        CLEANUP_FREE char *code = xml_field(buf_str(&res.body), res.body.len, "Code");
        CLEANUP_FREE char *text = xml_field(buf_str(&res.body), res.body.len, "Message");
        r = err_set(&op->err, EACCES, "%s: answered %d %s%s%s", what, res.status, code ? code : "",
                    text ? ": " : "", text ? text : "");
        op->err.status = res.status;
        (void)snprintf(op->err.remote, sizeof(op->err.remote), "%s", code ? code : "");
    } else {
        buf_add(ret, buf_str(&res.body), res.body.len);
    }
    if (res.body.data)
        explicit_bzero(res.body.data, res.body.len);
    http_res_done(&res);
    return r;
}

static char *read_token(const char *path, struct op *op)
{
    CLEANUP_FILE FILE *f = fopen(path, "re");
    CLEANUP_FREE char *text = xcalloc(1, TOKEN_MAX + 1);
    size_t n = f ? fread(text, 1, TOKEN_MAX, f) : 0;
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r' || text[n - 1] == ' '))
        text[--n] = '\0';
    if (n > 0)
        return take_ptr(&text);
    (void)err_set(&op->err, EACCES, "token file %s: %s", path, f ? "is empty" : strerror(errno));
    return NULL;
}

static int take_expiry(const char *text, struct op *op, time_t *ret)
{
    struct timespec t;
    if (!text || !date_parse_iso(text, &t))
        return err_set(&op->err, EACCES, "temporary keys without a time at which they expire");
    *ret = t.tv_sec;
    return 0;
}

/* ---- STS ---- */

static void add_field(struct buf *b, const char *name, const char *value)
{
    if (!value || !*value)
        return;
    buf_addf(b, "&%s=", name);
    url_encode(b, value, strlen(value), false);
}

static void sign_sts(const struct s3_role *g, const char *host, const struct buf *body,
                     struct http_headers *h)
{
    struct sign_s3_key key;
    char date[17], hash[65];
    time_t now = clock_wall().tv_sec;
    date_format_amz(now, date);
    sha256_hex(body->data, body->len, hash);
    sign_s3_key(g->base.secret, date, g->region, "sts", &key);
    struct sign_s3_req q = {.method = "POST", .host = host, .path = "/",
                            .access_key = g->base.access_key, .token = g->base.token,
                            .payload_hash = hash, .now = now};
    sign_s3_headers(&q, &key, h);
    explicit_bzero(&key, sizeof(key));
}

static int take_sts(const struct buf *b, struct op *op, struct s3_creds *ret, time_t *expires)
{
    CLEANUP_FREE char *end = xml_field(b->data, b->len, "Expiration");
    ret->access_key = xml_field(b->data, b->len, "AccessKeyId");
    ret->secret = xml_field(b->data, b->len, "SecretAccessKey");
    ret->token = xml_field(b->data, b->len, "SessionToken");
    if (!ret->access_key || !ret->secret || !ret->token)
        return err_set(&op->err, EACCES, "the STS reply has no keys");
    return take_expiry(end, op, expires);
}

static int ask_sts(struct s3_role *g, struct op *op, struct s3_creds *ret, time_t *expires)
{
    bool web = g->kind == KIND_WEB;
    CLEANUP_BUF struct buf body = BUF_INIT;
    CLEANUP_BUF struct buf reply = BUF_INIT;
    struct http_headers h = {0};
    const char *host = strstr(g->url, "://") + 3;
    char *token = web ? read_token(g->token_file, op) : NULL;
    if (web && !token)
        return -EACCES;
    buf_addf(&body, "Action=%s&Version=2011-06-15", web ? "AssumeRoleWithWebIdentity" : "AssumeRole");
    add_field(&body, "RoleArn", g->arn);
    add_field(&body, "RoleSessionName", g->session);
    add_field(&body, "ExternalId", web ? NULL : g->external_id);
    add_field(&body, "WebIdentityToken", token);
    secret_free(token);
    CLEANUP_FREE char *url = xasprintf("%s/", g->url);
    CLEANUP_FREE char *what = xasprintf("%s of %s at %s", web ? "AssumeRoleWithWebIdentity" : "AssumeRole",
                                        g->arn, host);
    struct source_mem src = source_mem(body.data, body.len);
    http_headers_add(&h, "content-type", "application/x-www-form-urlencoded");
    if (!web)
        sign_sts(g, host, &body, &h);
    struct http_req q = {.method = "POST", .url = url, .headers = &h, .body = &src.base};
    int r = fetch(g, op, &q, what, &reply);
    if (r == 0)
        r = take_sts(&reply, op, ret, expires);
    explicit_bzero(body.data, body.len);
    if (reply.data)
        explicit_bzero(reply.data, reply.len);
    http_headers_done(&h);
    return r;
}

/* ---- ECS and IMDS: JSON ---- */

static int take_json(const struct buf *b, const char *what, struct op *op, struct s3_creds *ret,
                     time_t *expires)
{
    json_t *j = json_loadb(buf_str(b), b->len, 0, NULL);
    const char *id = json_string_value(json_object_get(j, "AccessKeyId"));
    const char *secret = json_string_value(json_object_get(j, "SecretAccessKey"));
    const char *token = json_string_value(json_object_get(j, "Token"));
    int r = id && secret && token ? 0 : err_set(&op->err, EACCES, "%s: gave no keys", what);
    if (r == 0)
        r = take_expiry(json_string_value(json_object_get(j, "Expiration")), op, expires);
    if (r == 0)
        *ret = (struct s3_creds){.access_key = xstrdup(id), .secret = xstrdup(secret),
                                 .token = xstrdup(token)};
    json_decref(j);
    return r;
}

static int ask_ecs(struct s3_role *g, struct op *op, struct s3_creds *ret, time_t *expires)
{
    static const char what[] = "the container's credentials (AWS_CONTAINER_CREDENTIALS_*)";
    CLEANUP_BUF struct buf reply = BUF_INIT;
    struct http_headers h = {0};
    char *token = g->authorization_file ? read_token(g->authorization_file, op) : NULL;
    if (g->authorization_file && !token)
        return -EACCES;
    if (token || g->authorization)
        http_headers_add(&h, "authorization", token ? token : g->authorization);
    secret_free(token);
    struct http_req q = {.method = "GET", .url = g->url, .headers = &h};
    int r = fetch(g, op, &q, what, &reply);
    if (r == 0)
        r = take_json(&reply, what, op, ret, expires);
    if (reply.data)
        explicit_bzero(reply.data, reply.len);
    http_headers_done(&h);
    return r;
}

static int imds_get(struct s3_role *g, struct op *op, const char *method, const char *path,
                    struct http_headers *h, struct buf *ret)
{
    CLEANUP_FREE char *url = xasprintf("%s%s", g->url, path);
    struct http_req q = {.method = method, .url = url, .headers = h};
    return fetch(g, op, &q, "the instance's metadata service", ret);
}

static int ask_imds(struct s3_role *g, struct op *op, struct s3_creds *ret, time_t *expires)
{
    static const char base[] = "/latest/meta-data/iam/security-credentials/";
    CLEANUP_BUF struct buf token = BUF_INIT;
    CLEANUP_BUF struct buf role = BUF_INIT;
    CLEANUP_BUF struct buf reply = BUF_INIT;
    struct http_headers ask = {0}, h = {0};
    http_headers_add(&ask, "x-aws-ec2-metadata-token-ttl-seconds", "300");
    int r = imds_get(g, op, "PUT", "/latest/api/token", &ask, &token);
    http_headers_add(&h, "x-aws-ec2-metadata-token", buf_str(&token));
    if (r == 0)
        r = imds_get(g, op, "GET", base, &h, &role);
    size_t n = strcspn(buf_str(&role), "\r\n");
    if (r == 0 && (n == 0 || n > 200))
        r = err_set(&op->err, EACCES, "this instance has no IAM role");
    CLEANUP_FREE char *path = xasprintf("%s%.*s", base, (int)n, buf_str(&role));
    if (r == 0)
        r = imds_get(g, op, "GET", path, &h, &reply);
    if (r == 0)
        r = take_json(&reply, "the instance's metadata service", op, ret, expires);
    if (reply.data)
        explicit_bzero(reply.data, reply.len);
    http_headers_done(&ask);
    http_headers_done(&h);
    return r;
}

/* ---- when ---- */

static void set_creds(struct s3_store *s, struct s3_creds *fresh)
{
    lock_acquire(&s->sync.lock);
    struct s3_creds old = s->sync.creds;
    s->sync.creds = *fresh;
    s->sync.creds.region = take_ptr(&old.region);
    memcpy(s->sync.creds.from, old.from, sizeof(old.from));
    s->sync.key = (struct sign_s3_key){0};
    lock_release(&s->sync.lock);
    *fresh = (struct s3_creds){0};
    s3_creds_done(&old);
}

/* Who asks STS has keys of its own only for a while, too. */
static int ask_sts_as(struct s3_role *g, struct op *op, struct s3_creds *ret, time_t *expires)
{
    struct s3_creds base = {0};
    time_t end;
    if (g->kind == KIND_WEB || !s3_indirect_given(&g->base.indirect))
        return ask_sts(g, op, ret, expires);
    int r = s3_indirect_ask(&g->base.indirect, g->http, op, &base, &end);
    if (r < 0)
        return r;
    struct s3_creds old = g->base;
    g->base = base;
    g->base.indirect = old.indirect;
    old.indirect = (struct s3_indirect){0};
    s3_creds_done(&old);
    return ask_sts(g, op, ret, expires);
}

static int ask(struct s3_role *g, struct op *op, struct s3_creds *ret, time_t *expires)
{
    int r = g->kind == KIND_ECS        ? ask_ecs(g, op, ret, expires)
            : g->kind == KIND_IMDS     ? ask_imds(g, op, ret, expires)
            : g->kind == KIND_INDIRECT ? s3_indirect_ask(&g->base.indirect, g->http, op, ret, expires)
                                       : ask_sts_as(g, op, ret, expires);
    if (r == -EHOSTUNREACH || r == -ETIMEDOUT)
        op->err.retry = ERR_RETRY_SAFE;
    return r;
}

/* 0: the keys are good now; 1: fetch them (this thread); -errno. */
static int look_locked(struct s3_role *g, struct op *op, bool refused)
{
    for (;;) {
        time_t now = clock_wall().tv_sec;
        if (!refused && now < g->refresh_at)
            return 0;
        if (!g->fetching) {
            g->fetching = true;
            return 1;
        }
        if (!refused && now < g->expires)
            return 0;
        refused = false; /* the one that is being fetched will do */
        int r = op_check(op);
        if (r < 0)
            return r;
        (void)cond_wait_until(&g->changed, &g->lock, clock_now_ns() + NS_PER_S / 10);
    }
}

int s3_role_refresh(struct s3_store *s, struct op *op, bool refused)
{
    struct s3_role *g = s->role;
    struct s3_creds fresh = {0};
    struct op own;
    time_t expires = 0;
    if (!g)
        return 0;
    lock_acquire(&g->lock);
    int r = look_locked(g, op, refused);
    lock_release(&g->lock);
    if (r <= 0)
        return r;
    op_init(&own, "credentials", FETCH_MS + (s3_indirect_given(&g->base.indirect) ? S3_INDIRECT_MS : 0));
    r = ask(g, &own, &fresh, &expires);
    if (r == 0)
        set_creds(s, &fresh);
    s3_creds_done(&fresh);
    lock_acquire(&g->lock);
    time_t now = clock_wall().tv_sec;
    bool still_good = r < 0 && !refused && now < g->expires;
    if (r == 0) {
        time_t life = expires > now ? expires - now : 0;
        g->expires = expires;
        g->refresh_at = expires - (life / 2 < AHEAD_S ? life / 2 : AHEAD_S);
    } else if (still_good) {
        g->refresh_at = now + AGAIN_S;
    }
    g->fetching = false;
    cond_broadcast(&g->changed);
    lock_release(&g->lock);
    if (still_good)
        log_warn("s3", "%s; the keys that are there are good for another %lld s", err_text(&own.err),
                 (long long)(g->expires - now));
    else if (r < 0)
        op->err = own.err;
    return still_good ? 0 : r;
}

/* ---- which ---- */

static char *copy_of(const char *s)
{
    return s && *s ? xstrdup(s) : NULL;
}

static void use_sts(const struct conf_section *c, s3_env_fn *env, struct s3_role *g, const char *region)
{
    const char *given = conf_str(c, "sts_endpoint_url", env("AWS_ENDPOINT_URL_STS"));
    size_t n = given ? strlen(given) : 0;
    while (n > 0 && given[n - 1] == '/')
        n--;
    g->region = xstrdup(region);
    g->url = n ? xasprintf("%.*s", (int)n, given)
               : xasprintf("https://sts.%s.amazonaws.com%s", region, strncmp(region, "cn-", 3) ? "" : ".cn");
    if (!g->session)
        g->session = xstrdup("quayfs");
}

static bool use_ecs(s3_env_fn *env, struct s3_role *g)
{
    const char *rel = env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = env("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    if (rel && *rel)
        g->url = xasprintf("http://169.254.170.2%s", rel);
    else if (full && (strncmp(full, "https://", 8) == 0 || strncmp(full, "http://", 7) == 0))
        g->url = xstrdup(full);
    else
        return false;
    g->authorization = copy_of(env("AWS_CONTAINER_AUTHORIZATION_TOKEN"));
    g->authorization_file = copy_of(env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"));
    return true;
}

/* Asking 169.254.169.254 on any other machine would be a wait for nothing. */
static bool is_ec2(void)
{
    char line[64] = "";
    CLEANUP_FILE FILE *f = fopen("/sys/devices/virtual/dmi/id/sys_vendor", "re");
    return f && fgets(line, sizeof(line), f) && strncmp(line, "Amazon EC2", 10) == 0;
}

static bool use_imds(const struct conf_section *c, s3_env_fn *env, struct s3_role *g)
{
    const char *wanted = conf_str(c, "imds", "auto"), *off = env("AWS_EC2_METADATA_DISABLED");
    const char *given = env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    bool use = strcmp(wanted, "yes") == 0 ||
               (strcmp(wanted, "auto") == 0 && !(off && strcmp(off, "true") == 0) &&
                ((given && *given) || is_ec2()));
    if (use)
        g->url = xstrdup(given && *given ? given : "http://169.254.169.254");
    return use;
}

static enum kind choose(const struct conf_section *c, s3_env_fn *env, struct s3_creds *found,
                        struct s3_role *g)
{
    const char *arn = conf_str(c, "role_arn", found->role_arn);
    g->token_file = copy_of(conf_str(c, "web_identity_token_file", found->token_file));
    bool someone = found->access_key || s3_indirect_given(&found->indirect);
    if (!arn && !someone) {
        arn = env("AWS_ROLE_ARN");
        if (!g->token_file)
            g->token_file = copy_of(env("AWS_WEB_IDENTITY_TOKEN_FILE"));
        g->session = copy_of(env("AWS_ROLE_SESSION_NAME"));
    }
    g->arn = copy_of(arn);
    g->external_id = copy_of(conf_str(c, "external_id", found->external_id));
    if (conf_has(c, "role_session_name") || found->role_session)
        g->session = copy_of(conf_str(c, "role_session_name", found->role_session));
    if (g->arn && g->token_file)
        return KIND_WEB;
    if (g->arn && someone)
        return KIND_ASSUME;
    if (someone && !found->access_key)
        return KIND_INDIRECT;
    if (someone || g->arn) /* a role, but nobody to take it: what was looked for is said */
        return 0;
    return use_ecs(env, g) ? KIND_ECS : use_imds(c, env, g) ? KIND_IMDS : 0;
}

int s3_role_open(const struct conf_section *c, s3_env_fn *env, const char *region, struct err *err,
                 struct s3_creds *found, struct s3_role **ret)
{
    static const char *const from[] = {"", "AssumeRole", "AssumeRoleWithWebIdentity",
                                       "the container's agent", "the instance's metadata", ""};
    struct s3_role *g = xcalloc(1, sizeof(*g));
    struct http_options o = {.max_connections = 2, .connect_ms = 2000, .low_speed_s = 10,
                             .verify_tls = conf_bool(c, "verify_tls", true)};
    lock_init(&g->lock, LOCK_RANK_STORE, "s3 role");
    cond_init(&g->changed);
    g->kind = choose(c, env, found, g);
    if (!g->kind) {
        s3_role_free(g);
        return 0;
    }
    if (conf_has(c, "sts_endpoint_url"))
        o.ca_file = conf_str(c, "ca_file", NULL);
    if (g->kind == KIND_ASSUME || g->kind == KIND_WEB)
        use_sts(c, env, g, region);
    int r = g->kind == KIND_INDIRECT || strstr(g->url, "://") ? http_client_new(&o, err, &g->http)
                                  : conf_error(c, "sts_endpoint_url", err, EINVAL, "'%s' is no URL", g->url);
    if (r < 0) {
        s3_role_free(g);
        return r;
    }
    g->base = *found;
    *found = (struct s3_creds){.region = g->base.region ? xstrdup(g->base.region) : NULL};
    if (g->kind == KIND_INDIRECT)
        memcpy(found->from, g->base.from, sizeof(found->from));
    else
        (void)snprintf(found->from, sizeof(found->from), "%s%s%.100s", from[g->kind], g->arn ? " of " : "",
                       g->arn ? g->arn : "");
    *ret = g;
    return 0;
}

void s3_role_free(struct s3_role *g)
{
    if (!g)
        return;
    http_client_free(g->http);
    s3_creds_done(&g->base);
    free(g->url);
    free(g->region);
    free(g->arn);
    free(g->external_id);
    free(g->session);
    free(g->token_file);
    secret_free(g->authorization);
    free(g->authorization_file);
    cond_done(&g->changed);
    lock_done(&g->lock);
    free(g);
}

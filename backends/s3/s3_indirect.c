/* SPDX-License-Identifier: MIT
 * s3_indirect.c: keys that a profile does not have but gets.
 *
 * credential_process = COMMAND: the command line is split into words (spawn.h: no shell), the program writes
 *   {"Version": 1, "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"} to its stdout; the last two may
 *   be left out. What it writes to stderr is told when it fails: AWS asks such programs to keep secrets out of it.
 * SSO: `aws sso login` leaves a token in ~/.aws/sso/cache/SHA1.json, the SHA-1 of the name of the [sso-session], or of
 *   sso_start_url: {"accessToken", "expiresAt", "refreshToken", "clientId", "clientSecret", ...}. The portal gives
 *   keys of the role for it (GetRoleCredentials). A token of an [sso-session] that is about to expire is renewed
 *   (CreateToken, grant refresh_token) and written back for all who use the file, as the SDKs do.
 * Called by one thread at a time (s3_role.c). Nothing of it is in a URL but account and role, nothing in a log.
 * Sources: AWS's SDKs and Tools reference guide (process and SSO credential providers), and the API references of
 * IAM Identity Center's portal (GetRoleCredentials) and OIDC (CreateToken). */
#include "backends/s3/s3.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/date.h"
#include "base/log.h"
#include "base/spawn.h"
#include "base/sys.h"
#include "base/url.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define RENEW_S 300 /* a token is renewed so long before it expires */
#define TOLD_MAX 200

bool s3_indirect_given(const struct s3_indirect *i)
{
    return i->process || i->sso_url || i->sso_session;
}

void s3_indirect_done(struct s3_indirect *i)
{
    free(i->process);
    free(i->sso_url);
    free(i->sso_region);
    free(i->sso_account);
    free(i->sso_role);
    free(i->sso_session);
    free(i->where);
    free(i->home);
    free(i->portal);
    free(i->oidc);
    *i = (struct s3_indirect){0};
}

static const char *text_of(const json_t *j, const char *name)
{
    return json_string_value(json_object_get(j, name));
}

/* ---- credential_process ---- */

static int take_process_json(const struct buf *out, struct op *op, struct s3_creds *ret, time_t *expires)
{
    json_t *j = json_loadb(buf_str(out), out->len, 0, NULL);
    const char *id = text_of(j, "AccessKeyId"), *secret = text_of(j, "SecretAccessKey");
    const char *token = text_of(j, "SessionToken"), *end = text_of(j, "Expiration");
    time_t now = clock_wall().tv_sec;
    struct timespec t = {.tv_sec = (time_t)(now + S3_NEVER)};
    int r = 0;
    if (!j)
        r = err_set(&op->err, EACCES, "what it wrote is not JSON");
    else if (json_integer_value(json_object_get(j, "Version")) != 1)
        r = err_set(&op->err, EACCES, "its JSON is not of Version 1");
    else if (!id || !*id || !secret || !*secret)
        r = err_set(&op->err, EACCES, "its JSON has no AccessKeyId and SecretAccessKey");
    else if (end && !date_parse_iso(end, &t))
        r = err_set(&op->err, EACCES, "its Expiration is not a time");
    else if (t.tv_sec <= now)
        r = err_set(&op->err, EACCES, "its keys have expired at %.40s", end);
    if (r == 0) {
        *ret = (struct s3_creds){.access_key = xstrdup(id), .secret = xstrdup(secret),
                                 .token = token && *token ? xstrdup(token) : NULL};
        *expires = t.tv_sec;
    }
    json_decref(j);
    return r;
}

/* The last line of what it said, without what a terminal would act upon. */
static void last_words(const struct buf *errors, char out[TOLD_MAX + 1])
{
    const char *text = buf_str(errors);
    size_t end = errors->len;
    while (end > 0 && strchr(" \t\r\n", text[end - 1]))
        end--;
    size_t begin = end;
    while (begin > 0 && text[begin - 1] != '\n' && end - begin < TOLD_MAX)
        begin--;
    for (size_t i = begin; i < end; i++)
        out[i - begin] = (unsigned char)text[i] < ' ' || text[i] == 127 ? '?' : text[i];
    out[end - begin] = '\0';
}

static int run_process(const struct s3_indirect *i, struct op *op, struct s3_creds *ret, time_t *expires)
{
    struct spawn_result out = SPAWN_RESULT_INIT;
    char said[TOLD_MAX + 1];
    char **argv = spawn_words(i->process, &op->err);
    if (!argv)
        return -EACCES;
    int r = spawn_capture(argv, S3_INDIRECT_MS, op, &out);
    spawn_words_free(argv);
    last_words(&out.errors, said);
    if (r == 0 && WIFSIGNALED(out.status))
        r = err_set(&op->err, EACCES, "it was killed by signal %d", WTERMSIG(out.status));
    else if (r == 0 && WEXITSTATUS(out.status) != 0)
        r = err_set(&op->err, EACCES, "it ended with exit code %d%s%s", WEXITSTATUS(out.status), *said ? ": " : "",
                    said);
    if (r == 0)
        r = take_process_json(&out.out, op, ret, expires);
    spawn_result_done(&out);
    return r == 0 || r == -EINTR ? r : -EACCES;
}

/* ---- SSO: the token ---- */

struct token {
    char *path;
    json_t *json;
    time_t expires;
};

static void token_done(struct token *t)
{
    free(t->path);
    json_decref(t->json);
}

static int read_token(const struct s3_indirect *i, struct op *op, struct token *ret)
{
    char name[2 * SHA1_LEN + 1];
    const char *of = i->sso_session ? i->sso_session : i->sso_url;
    struct timespec end;
    sha1_hex(of, strlen(of), name);
    ret->path = xasprintf("%s/.aws/sso/cache/%s.json", i->home, name);
    ret->json = json_load_file(ret->path, 0, NULL);
    if (!text_of(ret->json, "accessToken") || !text_of(ret->json, "expiresAt") ||
        !date_parse_iso(text_of(ret->json, "expiresAt"), &end))
        return err_set(&op->err, EACCES, "no token in %s: aws sso login%s%s", ret->path,
                       i->sso_session ? " --sso-session " : "", i->sso_session ? i->sso_session : "");
    ret->expires = end.tv_sec;
    return 0;
}

/* For us and for all others that use it; a reader sees the old or the new one. */
static void write_token(const struct token *t)
{
    CLEANUP_FREE char *temp = xasprintf("%s.quayfs-%d", t->path, (int)getpid());
    char *text = json_dumps(t->json, JSON_COMPACT | JSON_PRESERVE_ORDER);
    size_t len = text ? strlen(text) : 0;
    int fd = sys_openat(AT_FDCWD, temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
    int r = fd < 0 ? fd : sys_pwrite(fd, text, len, 0) == (ssize_t)len ? sys_fsync(fd) : -EIO;
    if (fd >= 0)
        (void)close(fd);
    if (r == 0)
        r = sys_renameat(AT_FDCWD, temp, AT_FDCWD, t->path, 0);
    if (r < 0) {
        (void)sys_unlinkat(AT_FDCWD, temp, 0);
        log_warn("s3", "the renewed SSO token could not be written to %s: %s", t->path, strerror(-r));
    }
    secret_free(text);
}

/* One request with a JSON answer. */
static int ask_json(struct http_client *http, struct op *op, struct http_req *q, const char *what, json_t **ret)
{
    struct http_res res = HTTP_RES_INIT;
    int r = http_do(http, op, q, &res);
    if (r < 0)
        return err_prefix(&op->err, "%s", what);
    json_t *j = json_loadb(buf_str(&res.body), res.body.len, 0, NULL);
    if (res.status / 100 != 2) {
        const char *text = text_of(j, "error_description");
        text = text ? text : text_of(j, "message");
        r = err_set(&op->err, EACCES, "%s answered %d%s%.200s", what, res.status, text ? ": " : "", text ? text : "");
        op->err.status = res.status;
    } else if (!j) {
        r = err_set(&op->err, EACCES, "%s answered no JSON", what);
    } else {
        *ret = json_incref(j);
    }
    json_decref(j);
    if (res.body.data)
        explicit_bzero(res.body.data, res.body.len);
    http_res_done(&res);
    return r;
}

static void take_renewed(struct token *t, const json_t *answer)
{
    struct timespec end = {.tv_sec = clock_wall().tv_sec + (time_t)json_integer_value(json_object_get(answer, "expiresIn"))};
    char text[32];
    date_format_iso(end, text);
    memcpy(text + 19, "Z", 2); /* whole seconds, as the CLI writes it */
    t->expires = end.tv_sec;
    json_object_set_new(t->json, "accessToken", json_string(text_of(answer, "accessToken")));
    json_object_set_new(t->json, "expiresAt", json_string(text));
    if (text_of(answer, "refreshToken"))
        json_object_set_new(t->json, "refreshToken", json_string(text_of(answer, "refreshToken")));
}

static int renew_token(const struct s3_indirect *i, struct http_client *http, struct op *op, struct token *t)
{
    const char *const names[] = {"clientId", "clientSecret", "refreshToken"};
    json_t *ask = json_pack("{s:s}", "grantType", "refresh_token"), *answer = NULL;
    for (size_t n = 0; n < ARRAY_LEN(names); n++)
        json_object_set(ask, names[n], json_object_get(t->json, names[n]));
    char *body = json_dumps(ask, JSON_COMPACT);
    CLEANUP_FREE char *url = xasprintf("%s/token", i->oidc);
    struct source_mem src = source_mem(body, strlen(body));
    struct http_headers h = {0};
    http_headers_add(&h, "content-type", "application/json");
    struct http_req q = {.method = "POST", .url = url, .headers = &h, .body = &src.base};
    int r = ask_json(http, op, &q, "renewing the SSO token", &answer);
    if (r == 0 && (!text_of(answer, "accessToken") || json_integer_value(json_object_get(answer, "expiresIn")) <= 0))
        r = err_set(&op->err, EACCES, "renewing the SSO token gave none");
    if (r == 0) {
        take_renewed(t, answer);
        write_token(t);
    }
    json_decref(ask);
    json_decref(answer);
    secret_free(body);
    http_headers_done(&h);
    return r;
}

/* One that can be used now. */
static int get_token(const struct s3_indirect *i, struct http_client *http, struct op *op, struct token *t)
{
    int r = read_token(i, op, t);
    time_t now = clock_wall().tv_sec;
    if (r < 0 || t->expires - now > RENEW_S)
        return r;
    bool can = i->sso_session && text_of(t->json, "refreshToken") && text_of(t->json, "clientId") &&
               text_of(t->json, "clientSecret");
    if (can)
        r = renew_token(i, http, op, t);
    if (t->expires > now) {
        err_clear(&op->err);
        return 0;
    }
    return can ? r : err_set(&op->err, EACCES, "the token in %s has expired: aws sso login%s%s", t->path,
                             i->sso_session ? " --sso-session " : "", i->sso_session ? i->sso_session : "");
}

/* ---- SSO: keys for a token ---- */

static int take_role_json(const json_t *answer, struct op *op, struct s3_creds *ret, time_t *expires)
{
    const json_t *j = json_object_get(answer, "roleCredentials");
    const char *id = text_of(j, "accessKeyId"), *secret = text_of(j, "secretAccessKey");
    const char *token = text_of(j, "sessionToken");
    json_int_t end_ms = json_integer_value(json_object_get(j, "expiration"));
    if (!id || !secret || !token || end_ms <= 0)
        return err_set(&op->err, EACCES, "GetRoleCredentials gave no keys");
    *ret = (struct s3_creds){.access_key = xstrdup(id), .secret = xstrdup(secret), .token = xstrdup(token)};
    *expires = (time_t)(end_ms / 1000);
    return 0;
}

static int ask_sso(const struct s3_indirect *i, struct http_client *http, struct op *op, struct s3_creds *ret,
                   time_t *expires)
{
    struct token token = {0};
    json_t *answer = NULL;
    int r = get_token(i, http, op, &token);
    if (r == 0) {
        CLEANUP_BUF struct buf url = BUF_INIT;
        CLEANUP_FREE char *what = xasprintf("GetRoleCredentials of %.60s in account %.20s at %.100s", i->sso_role,
                                            i->sso_account, i->portal);
        struct http_headers h = {0};
        buf_addf(&url, "%s/federation/credentials?role_name=", i->portal);
        url_encode(&url, i->sso_role, strlen(i->sso_role), false);
        buf_adds(&url, "&account_id=");
        url_encode(&url, i->sso_account, strlen(i->sso_account), false);
        http_headers_add(&h, "x-amz-sso_bearer_token", text_of(token.json, "accessToken"));
        struct http_req q = {.method = "GET", .url = buf_str(&url), .headers = &h};
        r = ask_json(http, op, &q, what, &answer);
        http_headers_done(&h);
    }
    if (r == 0)
        r = take_role_json(answer, op, ret, expires);
    if (r < 0 && op->err.status == 401)
        r = err_set(&op->err, EACCES, "the token in %s is not taken any more: aws sso login", token.path);
    json_decref(answer);
    token_done(&token);
    return r;
}

int s3_indirect_ask(const struct s3_indirect *i, struct http_client *http, struct op *op, struct s3_creds *ret,
                    time_t *expires)
{
    bool sso = i->sso_url || i->sso_session;
    int r = sso ? ask_sso(i, http, op, ret, expires) : run_process(i, op, ret, expires);
    if (r == 0)
        return 0;
    op->err.code = -r;
    (void)err_prefix(&op->err, "%s of %s", sso ? "SSO" : "credential_process", i->where);
    return r;
}

/* SPDX-License-Identifier: MIT
 * gcs_error.c: what an error reply means: errno, retry class, and what to do about it.
 *
 * The reason in the JSON decides where it says more than the status. Only a missing object is ENOENT: a
 * missing bucket is a configuration mistake, and says so. */
#include "backends/gcs/gcs.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct rule {
    const char *reason; /* or NULL: by status */
    int status, err;
    enum err_retry retry;
    const char *advice;
};

static const struct rule rules[] = {
    {"rateLimitExceeded", 0, EBUSY, ERR_RETRY_SAFE, NULL},
    {"userRateLimitExceeded", 0, EBUSY, ERR_RETRY_SAFE, NULL},
    {"quotaExceeded", 0, ENOSPC, ERR_RETRY_NEVER, NULL},
    {"retentionPolicyNotMet", 0, EACCES, ERR_RETRY_NEVER, "the bucket's retention policy keeps it"},
    {"objectUnderActiveHold", 0, EACCES, ERR_RETRY_NEVER, "the object is under a hold"},
    {"userProjectMissing", 0, EACCES, ERR_RETRY_NEVER, "requester pays: set 'user_project'"},
    {"uploadBrokenConnection", 0, EIO, ERR_RETRY_SAFE, NULL},
    {NULL, 304, ESTALE, ERR_RETRY_NEVER, NULL},
    {NULL, 400, EINVAL, ERR_RETRY_NEVER, NULL},
    {NULL, 401, EACCES, ERR_RETRY_NEVER, "check the credentials"},
    {NULL, 403, EACCES, ERR_RETRY_NEVER, "check what this account may do with the bucket"},
    {NULL, 404, EIO, ERR_RETRY_NEVER, "create the bucket or correct 'bucket'"},
    {NULL, 405, ENOTSUP, ERR_RETRY_NEVER, NULL},
    {NULL, 408, EIO, ERR_RETRY_SAFE, NULL},
    {NULL, 409, EBUSY, ERR_RETRY_SAFE, NULL},
    {NULL, 410, ESTALE, ERR_RETRY_NEVER, NULL},
    {NULL, 412, ESTALE, ERR_RETRY_NEVER, NULL},
    {NULL, 413, EFBIG, ERR_RETRY_NEVER, NULL},
    {NULL, 416, EINVAL, ERR_RETRY_NEVER, NULL},
    {NULL, 429, EBUSY, ERR_RETRY_SAFE, NULL},
    {NULL, 501, ENOTSUP, ERR_RETRY_NEVER, NULL},
    {NULL, 503, EBUSY, ERR_RETRY_SAFE, NULL},
};

struct told {
    char reason[64];
    char message[256];
};

static void read_body(const struct http_res *res, struct told *ret)
{
    json_t *o = json_loadb(buf_str(&res->body), res->body.len, 0, NULL);
    const json_t *e = json_object_get(o, "error");
    const char *reason = json_string_value(
        json_object_get(json_array_get(json_object_get(e, "errors"), 0), "reason"));
    const char *message = json_string_value(json_object_get(e, "message"));
    *ret = (struct told){0};
    (void)snprintf(ret->reason, sizeof(ret->reason), "%.60s", reason ? reason : "");
    if (message)
        (void)snprintf(ret->message, sizeof(ret->message), "%.250s", message);
    else if (!o && res->body.len > 0 && res->body.len < sizeof(ret->message))
        (void)snprintf(ret->message, sizeof(ret->message), "%s", buf_str(&res->body)); /* plain text */
    json_decref(o);
}

static struct rule find_rule(const struct gcs_req *r, int status, const struct told *t)
{
    struct rule found = {NULL, status, EIO, status >= 500 ? ERR_RETRY_SAFE : ERR_RETRY_NEVER, NULL};
    for (size_t i = ARRAY_LEN(rules); i-- > 0;)
        if (rules[i].reason ? strcmp(rules[i].reason, t->reason) == 0 : rules[i].status == status)
            found = rules[i];
    bool bucket = strcasestr(t->message, "bucket does not exist") != NULL;
    if (status == 404 && r->object && !r->upload && !bucket)
        found = (struct rule){NULL, status, ENOENT, ERR_RETRY_NEVER, NULL};
    return found;
}

int gcs_error_set(const struct gcs_store *s, struct op *op, const struct gcs_req *r,
                  const struct http_res *res)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    struct told t;
    read_body(res, &t);
    struct rule rule = find_rule(r, res->status, &t);
    buf_addf(&text, "%s %s/%.300s: %s answered %d %s", r->op, s->view.uri, r->object ? r->object : "",
             s->endpoint.host, res->status, t.reason);
    if (t.message[0])
        buf_addf(&text, ": %s", t.message);
    if (rule.advice)
        buf_addf(&text, " (%s)", rule.advice);
    int code = err_set(&op->err, rule.err, "%s", buf_str(&text));
    op->err.retry = rule.retry;
    /* The change may have been made before it went wrong. */
    if (r->once && rule.err == EIO && rule.retry == ERR_RETRY_SAFE && res->status >= 500)
        op->err.retry = ERR_RETRY_UNKNOWN;
    op->err.status = res->status;
    op->err.retry_after_ms = http_retry_after_ms(&res->headers);
    (void)snprintf(op->err.remote, sizeof(op->err.remote), "%s", t.reason);
    return code;
}

/* SPDX-License-Identifier: MIT
 * s3_error.c: what an error reply means: errno, retry class, and what to do about it.
 *
 * The server's own code decides (the table); its absence (HEAD, proxies) leaves the HTTP status.
 * Only a missing object is ENOENT: a missing bucket is a configuration mistake, and says so. */
#include "backends/s3/s3.h"

#include "base/cleanup.h"
#include "base/name.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct rule {
    const char *code;
    int err;
    enum err_retry retry;
    const char *advice;
};

#define REGION_ADVICE "the bucket is in another region: set 'region'"

static const struct rule rules[] = {
    {"NoSuchKey", ENOENT, ERR_RETRY_NEVER, NULL},
    {"NoSuchBucket", EIO, ERR_RETRY_NEVER, "create the bucket or correct 'bucket'"},
    {"NoSuchUpload", ESTALE, ERR_RETRY_NEVER, "the multipart upload was ended by someone else"},
    {"NoSuchVersion", ESTALE, ERR_RETRY_NEVER, NULL},
    {"AccessDenied", EACCES, ERR_RETRY_NEVER, "check the policy of this access key and bucket"},
    {"AllAccessDisabled", EACCES, ERR_RETRY_NEVER, NULL},
    {"AccountProblem", EACCES, ERR_RETRY_NEVER, NULL},
    {"InvalidAccessKeyId", EACCES, ERR_RETRY_NEVER, "check access_key_id and endpoint_url"},
    {"SignatureDoesNotMatch", EACCES, ERR_RETRY_NEVER, "check secret_access_key"},
    {"ExpiredToken", EACCES, ERR_RETRY_NEVER, "the session token has expired: get new credentials"},
    {"TokenRefreshRequired", EACCES, ERR_RETRY_NEVER, "get new credentials"},
    {"InvalidToken", EACCES, ERR_RETRY_NEVER, "check session_token"},
    {"InvalidObjectState", EACCES, ERR_RETRY_NEVER, "the object is archived: restore it first"},
    {"RequestTimeTooSkewed", EIO, ERR_RETRY_SAFE, "set the clock of this machine"},
    {"RequestExpired", EIO, ERR_RETRY_SAFE, "set the clock of this machine"},
    {"RequestTimeout", EIO, ERR_RETRY_SAFE, NULL},
    {"SlowDown", EBUSY, ERR_RETRY_SAFE, NULL},
    {"SlowDownRead", EBUSY, ERR_RETRY_SAFE, NULL},
    {"SlowDownWrite", EBUSY, ERR_RETRY_SAFE, NULL},
    {"ServiceUnavailable", EBUSY, ERR_RETRY_SAFE, NULL},
    {"TooManyRequests", EBUSY, ERR_RETRY_SAFE, NULL},
    {"Throttling", EBUSY, ERR_RETRY_SAFE, NULL},
    {"ThrottlingException", EBUSY, ERR_RETRY_SAFE, NULL},
    {"RequestLimitExceeded", EBUSY, ERR_RETRY_SAFE, NULL},
    {"BandwidthLimitExceeded", EBUSY, ERR_RETRY_SAFE, NULL},
    {"OperationAborted", EBUSY, ERR_RETRY_SAFE, NULL},
    {"ConditionalRequestConflict", EBUSY, ERR_RETRY_SAFE, NULL},
    {"XMinioServerNotInitialized", EBUSY, ERR_RETRY_SAFE, NULL},
    {"PreconditionFailed", ESTALE, ERR_RETRY_NEVER, NULL},
    {"PermanentRedirect", EIO, ERR_RETRY_NEVER, REGION_ADVICE},
    {"TemporaryRedirect", EIO, ERR_RETRY_NEVER, REGION_ADVICE},
    {"Redirect", EIO, ERR_RETRY_NEVER, REGION_ADVICE},
    {"AuthorizationHeaderMalformed", EIO, ERR_RETRY_NEVER, REGION_ADVICE},
    {"IllegalLocationConstraintException", EIO, ERR_RETRY_NEVER, REGION_ADVICE},
    {"InvalidRegion", EIO, ERR_RETRY_NEVER, REGION_ADVICE},
    {"EntityTooLarge", EFBIG, ERR_RETRY_NEVER, NULL},
    {"EntityTooSmall", EINVAL, ERR_RETRY_NEVER, "parts but the last have at least 5 MiB"},
    {"InvalidPart", ESTALE, ERR_RETRY_NEVER, NULL},
    {"InvalidPartOrder", EINVAL, ERR_RETRY_NEVER, NULL},
    {"KeyTooLongError", ENAMETOOLONG, ERR_RETRY_NEVER, NULL},
    {"KeyTooLong", ENAMETOOLONG, ERR_RETRY_NEVER, NULL},
    {"MetadataTooLarge", E2BIG, ERR_RETRY_NEVER, NULL},
    {"InvalidTag", EINVAL, ERR_RETRY_NEVER, "letters, digits, blanks and + - = . _ : / @"},
    {"InvalidRange", EINVAL, ERR_RETRY_NEVER, NULL},
    {"InvalidBucketName", EINVAL, ERR_RETRY_NEVER, "correct 'bucket'"},
    {"XMinioInvalidObjectName", EINVAL, ERR_RETRY_NEVER, NULL},
    {"XMinioInvalidResourceName", EINVAL, ERR_RETRY_NEVER, NULL},
    {"XMinioParentIsObject", ENOTDIR, ERR_RETRY_NEVER, NULL},
    {"XMinioObjectExistsAsDirectory", EISDIR, ERR_RETRY_NEVER, NULL},
    {"MethodNotAllowed", ENOTSUP, ERR_RETRY_NEVER, NULL},
    {"NotImplemented", ENOTSUP, ERR_RETRY_NEVER, NULL},
    {"XMinioStorageFull", ENOSPC, ERR_RETRY_NEVER, NULL},
    {"XMinioAdminBucketQuotaExceeded", ENOSPC, ERR_RETRY_NEVER, NULL},
    {"QuotaExceeded", ENOSPC, ERR_RETRY_NEVER, NULL},
    {"BadDigest", EIO, ERR_RETRY_SAFE, NULL},
    {"InvalidDigest", EIO, ERR_RETRY_SAFE, NULL},
    {"IncompleteBody", EIO, ERR_RETRY_SAFE, NULL},
    {"XAmzContentSHA256Mismatch", EIO, ERR_RETRY_SAFE, NULL},
    {"XAmzContentChecksumMismatch", EIO, ERR_RETRY_SAFE, NULL},
    {"InternalError", EIO, ERR_RETRY_SAFE, NULL},
};

static const struct rule *rule_of_code(const char *code)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (strcmp(rules[i].code, code) == 0)
            return &rules[i];
    return NULL;
}

/* When the server gave no code that we know. */
static struct rule rule_of_status(int status, bool has_code, bool of_object)
{
    static const struct {
        int status, err;
        enum err_retry retry;
    } by_status[] = {
        {401, EACCES, ERR_RETRY_NEVER},  {403, EACCES, ERR_RETRY_NEVER},
        {405, ENOTSUP, ERR_RETRY_NEVER}, {408, EIO, ERR_RETRY_SAFE},
        {409, EBUSY, ERR_RETRY_SAFE},    {412, ESTALE, ERR_RETRY_NEVER},
        {304, ESTALE, ERR_RETRY_NEVER},  {413, EFBIG, ERR_RETRY_NEVER},
        {416, EINVAL, ERR_RETRY_NEVER},  {429, EBUSY, ERR_RETRY_SAFE},
        {501, ENOTSUP, ERR_RETRY_NEVER}, {503, EBUSY, ERR_RETRY_SAFE},
        {507, ENOSPC, ERR_RETRY_NEVER},
    };
    struct rule r = {NULL, EIO, status >= 500 ? ERR_RETRY_SAFE : ERR_RETRY_NEVER, NULL};
    if (status == 404 && !has_code && of_object)
        r.err = ENOENT;
    if (status / 100 == 3 && status != 304)
        r.advice = REGION_ADVICE " or 'endpoint_url'";
    for (size_t i = 0; i < ARRAY_LEN(by_status); i++)
        if (by_status[i].status == status) {
            r.err = by_status[i].err;
            r.retry = by_status[i].retry;
        }
    return r;
}

static void copy_field(const struct http_res *res, const char *name, char *out, size_t size)
{
    CLEANUP_FREE char *v = xml_field(buf_str(&res->body), res->body.len, name);
    (void)snprintf(out, size, "%.*s", (int)size - 1, v ? v : "");
}

void s3_error_read(const struct http_res *res, struct s3_error *ret)
{
    struct s3_error e = {0};
    const char *v;
    if (res->body.len > 0) {
        copy_field(res, "Code", e.code, sizeof(e.code));
        copy_field(res, "Message", e.message, sizeof(e.message));
        copy_field(res, "Region", e.region, sizeof(e.region));
    }
    /* MinIO explains the errors of HEAD, which have no body. */
    if (!e.code[0] && (v = http_headers_get(&res->headers, "x-minio-error-code")))
        (void)snprintf(e.code, sizeof(e.code), "%.60s", v);
    if (!e.message[0] && (v = http_headers_get(&res->headers, "x-minio-error-desc")))
        (void)snprintf(e.message, sizeof(e.message), "%.*s", (int)strcspn(v + (*v == '"'), "\""),
                       v + (*v == '"'));
    if ((v = http_headers_get(&res->headers, "x-amz-bucket-region")))
        (void)snprintf(e.region, sizeof(e.region), "%.60s", v);
    *ret = e;
}

static void add_text(struct buf *b, const struct s3_store *s, const struct s3_req *r,
                     const struct http_res *res, const struct s3_error *e, const struct rule *rule)
{
    buf_addf(b, "%s s3://%s/%.300s: %s answered %d", r->op, s->bucket, r->object ? r->object : "",
             s->endpoint ? s->endpoint : "AWS", res->status);
    if (e->code[0])
        buf_addf(b, " %s", e->code);
    if (e->message[0])
        buf_addf(b, ": %s", e->message);
    if (rule->advice)
        buf_addf(b, " (%s", rule->advice);
    else if (res->status == 403 && strcmp(r->method, "HEAD") == 0)
        buf_adds(b, " (not allowed, or absent and this key may not list the bucket");
    else
        return;
    if (e->region[0])
        buf_addf(b, "; it is in '%s'", e->region);
    buf_addc(b, ')');
}

int s3_error_set(const struct s3_store *s, struct op *op, const struct s3_req *r,
                 const struct http_res *res, const struct s3_error *e)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    const struct rule *known = e->code[0] ? rule_of_code(e->code) : NULL;
    struct rule rule = known ? *known : rule_of_status(res->status, e->code[0] != '\0', r->object);
    /* MinIO's answer to ".." in a HEAD, which it cannot hold. */
    if (res->status == 400 && !e->code[0] && r->object && !path_is_inside(r->object))
        rule.err = EINVAL;
    const char *sealed =
        rule.err == EACCES || rule.err == EIO ? s3_sse_advice(s, r, res->status, e) : NULL;
    if (sealed && (e->code[0] || s->customer_key))
        rule.err = EACCES;
    if (sealed)
        rule.advice = sealed;
    add_text(&text, s, r, res, e, &rule);
    int code = err_set(&op->err, rule.err, "%s", buf_str(&text));
    op->err.retry = rule.retry;
    /* 500, 502, 504, and an error after a 200: the change may have been made before it went wrong.
     */
    bool unclear = res->status >= 500 || res->status == 200;
    if (r->once && rule.err == EIO && rule.retry == ERR_RETRY_SAFE && unclear)
        op->err.retry = ERR_RETRY_UNKNOWN;
    op->err.status = res->status;
    op->err.retry_after_ms = http_retry_after_ms(&res->headers);
    (void)snprintf(op->err.remote, sizeof(op->err.remote), "%s", e->code);
    return code;
}

int s3_error_in_body(const struct s3_store *s, struct op *op, const struct s3_req *r,
                     const struct http_res *res)
{
    struct s3_error e;
    if (res->body.len == 0 || !memmem(res->body.data, res->body.len, "<Error", 6))
        return 0;
    s3_error_read(res, &e);
    if (!e.code[0])
        return 0;
    return s3_error_set(s, op, r, res, &e);
}

/* SPDX-License-Identifier: MIT
 * azure_error.c: what an error reply means: errno, retry class, and what to do about it. The service names
 * the error in x-ms-error-code, also for HEAD; its absence (proxies) leaves the HTTP status. */
#include "backends/azure/azure.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct rule {
    const char *code; /* or NULL: by status */
    int status, err;
    enum err_retry retry;
    const char *advice;
};

#define CONTAINER_ADVICE "create the container or correct 'container'"

static const struct rule rules[] = {
    {"BlobNotFound", 0, ENOENT, ERR_RETRY_NEVER, NULL},
    {"CannotVerifyCopySource", 404, ENOENT, ERR_RETRY_NEVER, NULL},
    {"ContainerNotFound", 0, EIO, ERR_RETRY_NEVER, CONTAINER_ADVICE},
    {"ContainerBeingDeleted", 0, EBUSY, ERR_RETRY_SAFE, NULL},
    {"ContainerDisabled", 0, EACCES, ERR_RETRY_NEVER, NULL},
    {"AccountIsDisabled", 0, EACCES, ERR_RETRY_NEVER, NULL},
    {"AccountBeingCreated", 0, EBUSY, ERR_RETRY_SAFE, NULL},
    {"AuthenticationFailed", 0, EACCES, ERR_RETRY_NEVER,
     "check account, key or SAS, and the clock of this machine"},
    {"AuthorizationFailure", 0, EACCES, ERR_RETRY_NEVER, "check account, key or SAS, its permissions, the firewall"},
    {"InsufficientAccountPermissions", 0, EACCES, ERR_RETRY_NEVER, NULL},
    {"BlobAlreadyExists", 0, ESTALE, ERR_RETRY_NEVER, NULL},
    {"ConditionNotMet", 0, ESTALE, ERR_RETRY_NEVER, NULL},
    {"TargetConditionNotMet", 0, ESTALE, ERR_RETRY_NEVER, NULL},
    {"SourceConditionNotMet", 0, ESTALE, ERR_RETRY_NEVER, NULL},
    {"LeaseIdMissing", 0, EACCES, ERR_RETRY_NEVER, "somebody has a lease on the blob"},
    {"LeaseAlreadyPresent", 0, EACCES, ERR_RETRY_NEVER, "somebody has a lease on the blob"},
    {"BlobArchived", 0, EACCES, ERR_RETRY_NEVER, "the blob is archived: rehydrate it first"},
    {"BlobBeingRehydrated", 0, EACCES, ERR_RETRY_NEVER, "the blob is being rehydrated"},
    {"BlobImmutableDueToPolicy", 0, EACCES, ERR_RETRY_NEVER, "an immutability policy keeps it"},
    {"InvalidBlobType", 0, ENOTSUP, ERR_RETRY_NEVER, "it is a page or append blob"},
    {"InvalidBlockList", 0, ESTALE, ERR_RETRY_NEVER, "the blocks are gone: the upload was ended"},
    {"InvalidBlobOrBlock", 0, EBUSY, ERR_RETRY_SAFE, "blocks of another upload are in the way"},
    {"PendingCopyOperation", 0, EBUSY, ERR_RETRY_SAFE, NULL},
    {"ServerBusy", 0, EBUSY, ERR_RETRY_SAFE, NULL},
    {"OperationTimedOut", 0, EIO, ERR_RETRY_SAFE, NULL},
    {"InternalError", 0, EIO, ERR_RETRY_SAFE, NULL},
    {"MetadataTooLarge", 0, E2BIG, ERR_RETRY_NEVER, NULL},
    {"RequestBodyTooLarge", 0, EFBIG, ERR_RETRY_NEVER, NULL},
    {"BlockCountExceedsLimit", 0, EFBIG, ERR_RETRY_NEVER, NULL},
    {"Md5Mismatch", 0, EIO, ERR_RETRY_SAFE, NULL},
    {"InvalidRange", 0, EINVAL, ERR_RETRY_NEVER, NULL},
    {NULL, 304, ESTALE, ERR_RETRY_NEVER, NULL},
    {NULL, 400, EINVAL, ERR_RETRY_NEVER, NULL},
    {NULL, 401, EACCES, ERR_RETRY_NEVER, "check the credentials"},
    {NULL, 403, EACCES, ERR_RETRY_NEVER, "check the credentials"},
    {NULL, 405, ENOTSUP, ERR_RETRY_NEVER, NULL},
    {NULL, 408, EIO, ERR_RETRY_SAFE, NULL},
    {NULL, 409, EBUSY, ERR_RETRY_SAFE, NULL},
    {NULL, 412, ESTALE, ERR_RETRY_NEVER, NULL},
    {NULL, 413, EFBIG, ERR_RETRY_NEVER, NULL},
    {NULL, 416, EINVAL, ERR_RETRY_NEVER, NULL},
    {NULL, 429, EBUSY, ERR_RETRY_SAFE, NULL},
    {NULL, 501, ENOTSUP, ERR_RETRY_NEVER, NULL},
    {NULL, 503, EBUSY, ERR_RETRY_SAFE, NULL},
};

static struct rule find_rule(const struct azure_req *r, int status, const char *code)
{
    struct rule found = {NULL, status, EIO, status >= 500 ? ERR_RETRY_SAFE : ERR_RETRY_NEVER, NULL};
    if (status == 404)
        found = r->object && !*code ? (struct rule){NULL, 404, ENOENT, ERR_RETRY_NEVER, NULL}
                                    : (struct rule){NULL, 404, EIO, ERR_RETRY_NEVER, CONTAINER_ADVICE};
    for (size_t i = ARRAY_LEN(rules); i-- > 0;)
        if (rules[i].code ? strcmp(rules[i].code, code) == 0 &&
                                (!rules[i].status || rules[i].status == status)
                          : rules[i].status == status)
            found = rules[i];
    return found;
}

int azure_error_set(const struct azure_store *s, struct op *op, const struct azure_req *r,
                    const struct http_res *res)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    const char *head = http_headers_get(&res->headers, "x-ms-error-code");
    CLEANUP_FREE char *in_body = xml_field(buf_str(&res->body), res->body.len, "Code");
    CLEANUP_FREE char *message = xml_field(buf_str(&res->body), res->body.len, "Message");
    const char *code = head ? head : in_body ? in_body : "";
    struct rule rule = find_rule(r, res->status, code);
    buf_addf(&text, "%s %s/%.300s: %s answered %d %.60s", r->op, s->view.uri, r->object ? r->object : "",
             s->endpoint.host, res->status, code);
    if (message) /* its first line: the others are ids and, for 403, what was signed */
        buf_addf(&text, ": %.*s", (int)strcspn(message, "\r\n"), message);
    if (rule.advice)
        buf_addf(&text, " (%s)", rule.advice);
    int errcode = err_set(&op->err, rule.err, "%s", buf_str(&text));
    op->err.retry = rule.retry;
    /* The change may have been made before it went wrong. */
    if (r->once && rule.err == EIO && rule.retry == ERR_RETRY_SAFE && res->status >= 500)
        op->err.retry = ERR_RETRY_UNKNOWN;
    op->err.status = res->status;
    op->err.retry_after_ms = http_retry_after_ms(&res->headers);
    (void)snprintf(op->err.remote, sizeof(op->err.remote), "%.60s", code);
    return errcode;
}

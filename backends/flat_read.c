/* SPDX-License-Identifier: MIT
 * flat_read.c: is what comes what was asked for? Said before a byte of it is announced to the reader. And what a
 * refusal means to a conditional request. */
#include "backends/flat.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

bool flat_reply_length(const struct http_res *res, uint64_t *ret)
{
    const char *v = http_headers_get(&res->headers, "content-length");
    char *end;
    if (!v || *v < '0' || *v > '9')
        return false;
    errno = 0;
    *ret = strtoull(v, &end, 10);
    return errno == 0 && *end == '\0';
}

int flat_check_reply(void *arg, const struct http_res *res)
{
    struct flat_reading *g = arg;
    const struct read_req *q = g->req;
    char version[ATTR_VERSION_MAX] = "";
    uint64_t first, last, total;
    if (res->status / 100 != 2)
        return 0;
    const char *etag = http_headers_get(&res->headers, g->version_header);
    if (etag)
        flat_version_of_etag(etag, version);
    if (q->version && *q->version && strcmp(version, q->version) != 0)
        return err_set(&g->op->err, ESTALE, "the version there is '%s', not '%s'", version,
                       q->version);
    if (res->status == 206) {
        const char *cr = http_headers_get(&res->headers, "content-range");
        if (!http_parse_content_range(cr, &first, &last, &total) || first != q->offset ||
            total == UINT64_MAX)
            return err_set(&g->op->err, EIO,
                           "the reply's Content-Range '%.80s' is not the range asked for",
                           cr ? cr : "");
    } else if (q->offset == 0 && flat_reply_length(res, &total) && total <= q->iov.iov_len) {
        last = total ? total - 1 : 0; /* the whole object, as it is small */
    } else {
        return err_set(&g->op->err, EIO, "the server ignores Range (status %d)", res->status);
    }
    uint64_t left = total - q->offset;
    g->total = total;
    g->expected = left < q->iov.iov_len ? left : q->iov.iov_len;
    if (g->expected && last - q->offset + 1 != g->expected)
        return err_set(&g->op->err, EIO, "the reply has %" PRIu64 " bytes of %" PRIu64 " asked for",
                       last - q->offset + 1, g->expected);
    return 0;
}

int flat_cond_result(struct op *op, const struct precond *pre, int r)
{
    int code = 0;
    if (pre && pre->if_absent && r == -ESTALE && (op->err.status == 409 || op->err.status == 412))
        code = EEXIST;
    if (pre && pre->if_match && r == -ENOENT)
        code = ESTALE;
    if (!code)
        return r;
    op->err.code = code;
    return -code;
}

int flat_resent_result(struct op *op, const char *opname, const char *method, const struct http_res *res, bool refused,
                       int r)
{
    if (!refused || !res->resent || method[0] != 'P') /* PUT, POST, PATCH */
        return r;
    r = err_set(&op->err, EIO, "%s: the connection broke and the outcome is unknown", opname);
    op->err.retry = ERR_RETRY_UNKNOWN;
    return r;
}

/* SPDX-License-Identifier: MIT
 * s3_upload.c: multipart uploads.
 *
 * Every part carries its CRC-32C. On AWS the upload is declared to have checksums, and completing
 * names them all: what is assembled is what was sent. Elsewhere the parts are checked one by one
 * only: MinIO cannot copy parts into an upload that declares checksums. So that callers need to
 * keep nothing more than id and etag, an id is 'c' (declared), 'p' (parts only) or '-' (none) and
 * S3's upload id, and a part's etag is S3's, in a declared upload followed by ';' and the checksum
 * in base64. */
#include "backends/s3/s3.h"

#include "base/cleanup.h"
#include "base/url.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ALGORITHM "x-amz-checksum-algorithm"

static int bad_reply(const struct s3_store *s, struct op *op, const struct s3_req *r,
                     enum err_retry retry)
{
    int rc = err_set(&op->err, EIO, "%s s3://%s/%.300s: the reply lacks what it must have", r->op,
                     s->bucket, r->object);
    op->err.retry = retry;
    return rc;
}

static bool dislikes_header(const struct err *e)
{
    static const char *const codes[] = {"NotImplemented", "InvalidArgument", "InvalidRequest",
                                        "XNotImplemented"};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (strcmp(e->remote, codes[i]) == 0)
            return true;
    return false;
}

/* ---- begin ---- */

static int create_once(struct s3_store *s, struct op *op, const char *object,
                       const struct http_headers *h, bool declare, char **ret_id)
{
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = "upload_begin", .method = "POST", .object = object};
    s3_req_param(&r, "uploads", "");
    for (size_t i = 0; i < h->n; i++)
        http_headers_add(&r.headers, h->v[i].name, h->v[i].value);
    if (declare)
        http_headers_add(&r.headers, ALGORITHM, "CRC32C");
    int rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    if (rc < 0)
        return rc;
    CLEANUP_FREE char *id = xml_field(buf_str(&res.body), res.body.len, "UploadId");
    /* A server that does not know the algorithm does not repeat it. */
    bool agreed = declare && http_headers_get(&res.headers, ALGORITHM);
    http_res_done(&res);
    if (!id || !*id)
        return bad_reply(s, op, &r, ERR_RETRY_SAFE);
    *ret_id = xasprintf("%c%s", agreed ? 'c' : atomic_load(&s->no_checksum) ? '-' : 'p', id);
    return 0;
}

int s3_upload_create(struct s3_store *s, struct op *op, const char *object,
                     const struct http_headers *h, char **ret_id)
{
    bool declare = !atomic_load(&s->no_checksum) && atomic_load(&s->server) == S3_SERVER_AWS;
    int r = create_once(s, op, object, h, declare, ret_id);
    if (r < 0 && declare && dislikes_header(&op->err))
        r = create_once(s, op, object, h, false, ret_id);
    return r;
}

int s3_upload_begin(struct store *store, struct op *op, const struct upload_req *req, char **ret_id)
{
    struct s3_store *s = s3_of(store);
    CLEANUP_FREE char *object = s3_object(s, req->key);
    struct http_headers h = {0};
    int r = s3_add_object_headers(s, op, req->attr, &h);
    if (r == 0)
        r = s3_add_tags(s, op, object, req->attr, &h);
    if (r == 0)
        r = s3_upload_create(s, op, object, &h, ret_id);
    http_headers_done(&h);
    return r;
}

/* ---- parts ---- */

static int bad_id(struct op *op)
{
    return err_set(&op->err, EINVAL, "not an upload id of this store");
}

static bool is_id(const char *id)
{
    return (id[0] == 'c' || id[0] == 'p' || id[0] == '-') && id[1];
}

static int set_part_etag(struct store_part *part, const char *etag, const char *checksum)
{
    char version[ATTR_VERSION_MAX];
    flat_version_of_etag(etag, version);
    int n = snprintf(part->etag, sizeof(part->etag), checksum && *checksum ? "%s;%s" : "%s",
                     version, checksum);
    return n < 0 || (size_t)n >= sizeof(part->etag) ? -EIO : 0;
}

static void add_part_params(struct s3_req *r, const char *id, unsigned number, char text[16])
{
    (void)snprintf(text, 16, "%u", number);
    s3_req_param(r, "partNumber", text);
    s3_req_param(r, "uploadId", id + 1);
}

int s3_upload_part(struct store *store, struct op *op, const char *key, const char *id,
                   const struct source *src, struct store_part *part)
{
    struct s3_store *s = s3_of(store);
    char number[16];
    if (!is_id(id))
        return bad_id(op);
    CLEANUP_FREE char *object = s3_object(s, key);
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = "upload_part",
                       .method = "PUT",
                       .object = object,
                       .body = src,
                       .checksum = id[0] == 'c'   ? S3_CHECKSUM_ALWAYS
                                   : id[0] == 'p' ? S3_CHECKSUM_IF_TAKEN
                                                  : S3_CHECKSUM_NONE};
    add_part_params(&r, id, part->number, number);
    int rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    if (rc < 0)
        return rc;
    const char *etag = http_headers_get(&res.headers, "etag");
    if (!etag || set_part_etag(part, etag, id[0] == 'c' ? r.crc32c : NULL) < 0)
        rc = bad_reply(s, op, &r, ERR_RETRY_SAFE);
    http_res_done(&res);
    return rc;
}

void s3_add_copy_source(const struct s3_store *s, struct s3_req *r, const char *object,
                        const char *version)
{
    CLEANUP_BUF struct buf from = BUF_INIT;
    CLEANUP_S3_VERSION struct s3_version v = s3_version(version);
    char etag[ATTR_VERSION_MAX + 2];
    buf_adds(&from, "/");
    url_encode(&from, s->bucket, strlen(s->bucket), false);
    buf_addc(&from, '/');
    url_encode(&from, object, strlen(object), true);
    if (v.id) {
        buf_adds(&from, "?versionId=");
        url_encode(&from, v.id, strlen(v.id), false);
    }
    http_headers_add(&r->headers, "x-amz-copy-source", from.data);
    if (v.etag[0]) {
        flat_etag_of_version(v.etag, etag);
        http_headers_add(&r->headers, "x-amz-copy-source-if-match", etag);
    }
}

int s3_copy_part(struct s3_store *s, struct op *op, const char *object, const char *id,
                 const struct s3_store *source, const char *from, const char *from_version, uint64_t offset,
                 struct store_part *part)
{
    char number[16];
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {
        .op = "upload_copy_part", .method = "PUT", .object = object, .stall_s = S3_COPY_STALL_S};
    if (part->size == 0)
        return err_set(&op->err, EINVAL, "a copied part must not be empty");
    add_part_params(&r, id, part->number, number);
    s3_add_copy_source(source, &r, from, from_version);
    http_headers_addf(&r.headers, "x-amz-copy-source-range", "bytes=%" PRIu64 "-%" PRIu64, offset,
                      offset + part->size - 1);
    int rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    if (rc == 0)
        rc = s3_error_in_body(s, op, &r, &res);
    if (rc == 0) {
        CLEANUP_FREE char *etag = xml_field(buf_str(&res.body), res.body.len, "ETag");
        CLEANUP_FREE char *crc = xml_field(buf_str(&res.body), res.body.len, "ChecksumCRC32C");
        if (!etag || set_part_etag(part, etag, id[0] == 'c' ? crc : NULL) < 0)
            rc = bad_reply(s, op, &r, ERR_RETRY_SAFE);
    }
    http_res_done(&res);
    /* The source is what is missing: the upload is known by its own error. */
    if (rc == -ENOENT && from_version && *from_version) {
        op->err.code = ESTALE;
        rc = -ESTALE;
    }
    return rc;
}

int s3_upload_copy_part(struct store *store, struct op *op, const char *key, const char *id,
                        const char *from, const char *from_version, uint64_t offset,
                        struct store_part *part)
{
    struct s3_store *s = s3_of(store);
    if (!is_id(id))
        return bad_id(op);
    CLEANUP_FREE char *object = s3_object(s, key);
    CLEANUP_FREE char *source = s3_object(s, from);
    return s3_copy_part(s, op, object, id, s, source, from_version, offset, part);
}

/* ---- finish ---- */

static void add_complete_body(struct buf *b, const struct store_part *parts, size_t n)
{
    buf_adds(b, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (size_t i = 0; i < n; i++) {
        const char *semi = strchr(parts[i].etag, ';');
        CLEANUP_FREE char *version = xstrndup(parts[i].etag, strcspn(parts[i].etag, ";"));
        char etag[ATTR_VERSION_MAX + 2];
        flat_etag_of_version(version, etag);
        buf_adds(b, "<Part>");
        if (semi) {
            buf_adds(b, "<ChecksumCRC32C>");
            xml_escape(b, semi + 1);
            buf_adds(b, "</ChecksumCRC32C>");
        }
        buf_adds(b, "<ETag>");
        xml_escape(b, etag);
        buf_addf(b, "</ETag><PartNumber>%u</PartNumber></Part>", parts[i].number);
    }
    buf_adds(b, "</CompleteMultipartUpload>");
}

/* The reply of completing: 0 with the new object's attributes. */
static int take_complete(struct s3_store *s, struct op *op, const struct s3_req *r,
                         const struct http_res *res, uint64_t size, struct attr *ret)
{
    int rc = s3_error_in_body(s, op, r, res);
    if (rc < 0)
        return rc;
    CLEANUP_FREE char *etag = xml_field(buf_str(&res->body), res->body.len, "ETag");
    if (!etag || !*etag)
        return bad_reply(s, op, r, ERR_RETRY_UNKNOWN);
    flat_attr_written(res, NULL, size, etag, s->posix, ret);
    ret->known &= ~(unsigned)ATTR_META; /* given when the upload began; not repeated here */
    return 0;
}

static int complete(struct s3_store *s, struct op *op, const char *key, const char *id,
                    const struct store_part *parts, size_t n, const struct precond *pre,
                    struct attr *ret)
{
    CLEANUP_FREE char *object = s3_object(s, key);
    CLEANUP_BUF struct buf body = BUF_INIT;
    struct http_res res = HTTP_RES_INIT;
    uint64_t size = 0;
    for (size_t i = 0; i < n; i++)
        size += parts[i].size;
    add_complete_body(&body, parts, n);
    struct source_mem src = source_mem(body.data, body.len);
    struct s3_req r = {.op = "upload_finish",
                       .method = "POST",
                       .object = object,
                       .body = &src.base,
                       .once = true,
                       .stall_s = S3_COPY_STALL_S};
    http_headers_add(&r.headers, "content-type", "application/xml");
    s3_req_param(&r, "uploadId", id + 1);
    int rc = s3_cond_prepare(s, op, key, pre, &r);
    if (rc == 0)
        rc = s3_do(s, op, &r, &res);
    if (rc == 0)
        rc = take_complete(s, op, &r, &res, size, ret);
    s3_req_done(&r);
    http_res_done(&res);
    return s3_cond_result(op, pre, rc);
}

int s3_upload_complete(struct s3_store *s, struct op *op, const char *key, const char *id,
                       const struct store_part *parts, size_t n, const struct precond *pre,
                       struct attr *ret)
{
    bool conditional = pre && (pre->if_match || pre->if_absent);
    /* Servers that honour conditions on PUT need not do so here, and only PUT was probed. */
    if (conditional && atomic_load(&s->server) != S3_SERVER_AWS) {
        int r = s3_cond_look(s, op, key, pre);
        if (r < 0)
            return r;
    }
    return complete(s, op, key, id, parts, n, pre, ret);
}

int s3_upload_finish(struct store *store, struct op *op, const char *key, const char *id,
                     const struct store_part *parts, size_t n, const struct precond *pre,
                     struct attr *ret)
{
    if (!is_id(id))
        return bad_id(op);
    int r = s3_upload_complete(s3_of(store), op, key, id, parts, n, pre, ret);
    /* It met another write of this object, which need not have won: an upload has to be begun anew then. */
    if (r == -EBUSY && strcmp(op->err.remote, "ConditionalRequestConflict") == 0) {
        op->err.code = ESTALE;
        op->err.retry = ERR_RETRY_NEVER;
        r = -ESTALE;
    }
    return r;
}

int s3_upload_abort(struct store *store, struct op *op, const char *key, const char *id)
{
    struct s3_store *s = s3_of(store);
    if (!is_id(id))
        return bad_id(op);
    CLEANUP_FREE char *object = s3_object(s, key);
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = "upload_abort", .method = "DELETE", .object = object};
    s3_req_param(&r, "uploadId", id + 1);
    int rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    http_res_done(&res);
    if (rc == -ESTALE || rc == -ENOENT) { /* gone already */
        err_clear(&op->err);
        rc = 0;
    }
    return rc;
}

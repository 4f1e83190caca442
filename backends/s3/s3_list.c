/* SPDX-License-Identifier: MIT
 * s3_list.c: ListObjectsV2. One call is one page; the cursor is S3's continuation token.
 *
 * MinIO's extension metadata=true returns each object's metadata with it: no HEAD per entry. It is
 * used when the server says that it is MinIO, and not again when it gave XML that cannot be read
 * (metadata names become element names there).
 * What becomes an entry: flat_list.c. */
#include "backends/s3/s3.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/name.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool wants_meta(struct s3_store *s)
{
    if (!s->posix || s->list_meta == S3_LIST_META_NO || atomic_load(&s->no_list_meta))
        return false;
    return s->list_meta == S3_LIST_META_YES || atomic_load(&s->server) == S3_SERVER_MINIO;
}

static int list_once(struct s3_store *s, struct op *op, const char *opname, const char *prefix,
                     const struct list_query *q, unsigned max, bool meta,
                     struct flat_result *ret)
{
    char count[16];
    CLEANUP_FREE char *after = q && q->after ? xasprintf("%s%s", s->prefix, q->after) : NULL;
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = opname, .method = "GET"};
    (void)snprintf(count, sizeof(count), "%u", max);
    s3_req_param(&r, "list-type", "2");
    s3_req_param(&r, "encoding-type", "url");
    s3_req_param(&r, "prefix", prefix);
    s3_req_param(&r, "max-keys", count);
    if (q && !q->recursive)
        s3_req_param(&r, "delimiter", "/");
    if (q && q->cursor)
        s3_req_param(&r, "continuation-token", q->cursor);
    if (after)
        s3_req_param(&r, "start-after", after);
    if (meta)
        s3_req_param(&r, "metadata", "true");
    int rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    if (rc < 0)
        return rc;
    rc = s3_xml_list(buf_str(&res.body), res.body.len, ret);
    http_res_done(&res);
    return rc;
}

int s3_list_raw(struct s3_store *s, struct op *op, const char *opname, const char *prefix,
                const struct list_query *q, unsigned max, struct flat_result *ret)
{
    struct flat_result l = {0};
    bool meta = wants_meta(s);
    int r = list_once(s, op, opname, prefix, q, max, meta, &l);
    if (r == 0 && !meta && l.n > 0 && wants_meta(s)) { /* the reply told that it is MinIO */
        flat_result_done(&l);
        meta = true;
        r = list_once(s, op, opname, prefix, q, max, meta, &l);
    }
    if (r == -EBADMSG && meta) {
        atomic_store(&s->no_list_meta, true);
        log_debug("s3", "%s: listing with metadata is not readable, going without",
                  s->base.base_uri);
        r = list_once(s, op, opname, prefix, q, max, false, &l);
    }
    if (r == 0 || r == -EBADMSG)
        return flat_take_listing(&s->view, op, opname, prefix, q, r, &l, ret);
    flat_result_done(&l);
    return r;
}

int s3_list(struct store *store, struct op *op, const struct list_query *q, struct list_page *ret)
{
    return flat_list(&s3_of(store)->view, store, op, q, ret);
}

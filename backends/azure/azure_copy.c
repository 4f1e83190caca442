/* SPDX-License-Identifier: MIT
 * azure_copy.c: copies by the service (Copy Blob; one that is pending is waited for) and changes of metadata
 * (Set Blob Metadata replaces all of it, so it is read first and pinned by its ETag). */
#include "backends/azure/azure.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define POLL_FIRST_MS 50u
#define POLL_MAX_MS 2000u

/* ---- copy ---- */

static int begin_copy(struct azure_store *s, struct op *op, const struct azure_store *other, const char *from,
                      const char *from_version, const char *to, const struct precond *pre, struct http_res *ret)
{
    CLEANUP_BUF struct buf url = BUF_INIT;
    char etag[ATTR_VERSION_MAX + 2];
    struct azure_req r = {.op = "copy", .method = "PUT", .object = to, .stall_s = AZURE_STALL_S};
    azure_source_url(other, from, &url);
    http_headers_add(&r.headers, "x-ms-copy-source", url.data);
    if (from_version && *from_version) {
        flat_etag_of_version(from_version, etag);
        http_headers_add(&r.headers, "x-ms-source-if-match", etag);
    }
    azure_req_precond(&r, pre);
    int rc = azure_do(s, op, &r, ret);
    bool source = strcmp(op->err.remote, "SourceConditionNotMet") == 0 ||
                  strcmp(op->err.remote, "CannotVerifyCopySource") == 0;
    if (rc < 0 && !source && strcmp(op->err.remote, "BlobNotFound") != 0)
        return flat_cond_result(op, pre, rc);
    if (rc == -ENOENT && from_version && *from_version) {
        op->err.code = ESTALE;
        rc = -ESTALE;
    }
    return rc;
}

static bool is_pending(const struct http_headers *h)
{
    const char *status = http_headers_get(h, "x-ms-copy-status");
    return status && strcmp(status, "pending") == 0;
}

/* 0 when the copy is complete; *ret: the new blob. */
static int wait_copied(struct azure_store *s, struct op *op, const char *to, bool pending, struct attr *ret)
{
    for (unsigned ms = POLL_FIRST_MS;; ms = ms * 2 < POLL_MAX_MS ? ms * 2 : POLL_MAX_MS) {
        struct http_headers all = {0};
        struct attr a = ATTR_INIT;
        int r = pending ? op_sleep(op, ms) : 0;
        if (r == 0)
            r = azure_head(s, op, "copy", to, NULL, &a, &all);
        const char *status = r == 0 ? http_headers_get(&all, "x-ms-copy-status") : NULL;
        bool again = r == 0 && is_pending(&all);
        if (r == 0 && !again && status && strcmp(status, "success") != 0)
            r = err_set(&op->err, EIO, "copy to %s/%.300s: the service says '%.40s': %.200s", s->view.uri, to,
                        status, http_headers_get(&all, "x-ms-copy-status-description")
                                    ? http_headers_get(&all, "x-ms-copy-status-description")
                                    : "");
        http_headers_done(&all);
        if (r == 0 && !again) {
            *ret = a;
            return 0;
        }
        attr_done(&a);
        if (r < 0)
            return r;
        pending = true;
    }
}

/* One account: another one's key does not open the source. */
bool azure_same_service(const struct store *store, const struct store *other)
{
    const struct azure_store *a = (const struct azure_store *)store, *b = (const struct azure_store *)other;
    const char *one = a->creds.account ? a->creds.account : "", *two = b->creds.account ? b->creds.account : "";
    return flat_same_endpoint(&a->endpoint, &b->endpoint) && strcmp(one, two) == 0;
}

void azure_place(const struct store *store, struct buf *ret_service, struct buf *ret_path)
{
    const struct azure_store *s = (const struct azure_store *)store;
    flat_place_text(&s->endpoint, s->container, s->prefix, ret_service, ret_path);
}

int azure_copy(struct store *store, struct op *op, const char *from, const char *from_version,
               const char *to, const struct precond *pre, struct attr *ret)
{
    return azure_copy_from(store, op, store, from, from_version, to, pre, ret);
}

int azure_copy_from(struct store *store, struct op *op, struct store *other, const char *from,
                    const char *from_version, const char *to, const struct precond *pre, struct attr *ret)
{
    struct azure_store *s = azure_of(store);
    CLEANUP_FREE char *source = flat_object(azure_of(other)->prefix, from), *target = flat_object(s->prefix, to);
    struct http_res res = HTTP_RES_INIT;
    int r = begin_copy(s, op, azure_of(other), source, from_version, target, pre, &res);
    if (r < 0)
        return r;
    bool pending = is_pending(&res.headers);
    http_res_done(&res);
    struct attr made = ATTR_INIT;
    r = wait_copied(s, op, target, pending, &made);
    if (r == 0)
        r = flat_keep_time(&s->view, store, op, other, source, from_version, target, &made);
    if (r == 0)
        attr_move(ret, &made);
    attr_done(&made);
    return r;
}

/* ---- set_meta ---- */

/* The whole metadata anew: what the change names, and all the rest as it is. */
static int new_headers(struct op *op, struct attr *a, const struct http_headers *all,
                       const struct attr *change, struct http_headers *h)
{
    bool xattrs = change->known & (ATTR_HAS_XATTRS | ATTR_XATTR_EDITS);
    size_t n = strlen(AZURE_META);
    struct http_headers fresh = {0};
    if (a->mtime.tv_sec)
        a->known |= ATTR_HAS_MTIME; /* Last-Modified changes with the metadata: the time that was shown is stored */
    attr_apply(a, change);
    unsigned known = a->known;
    if (!xattrs)
        a->known &= ~(unsigned)ATTR_HAS_XATTRS; /* the headers that hold them are kept */
    int r = flat_meta_write(a, false, &azure_meta_rules, &op->err, &fresh);
    a->known = known;
    for (size_t i = 0; r == 0 && i < fresh.n; i++)
        if (strncmp(fresh.v[i].name, AZURE_META, n) == 0)
            http_headers_add(h, fresh.v[i].name, fresh.v[i].value);
    for (size_t i = 0; r == 0 && !xattrs && i < all->n; i++) {
        const char *name = all->v[i].name;
        bool kept = strncmp(name, AZURE_META, n) == 0 &&
                    (strcmp(name + n, "xattr") == 0 || !flat_meta_is_own(name + n));
        if (kept)
            http_headers_add(h, name, all->v[i].value);
    }
    http_headers_done(&fresh);
    return r;
}

static int send_meta(struct azure_store *s, struct op *op, const char *object, struct attr *a,
                     const struct http_headers *all, const struct attr *change)
{
    struct http_res res = HTTP_RES_INIT;
    const struct precond pre = {.if_match = a->version};
    struct azure_req r = {.op = "set_meta", .method = "PUT", .object = object};
    azure_req_param(&r, "comp", "metadata");
    int rc = new_headers(op, a, all, change, &r.headers);
    if (rc < 0) {
        http_headers_done(&r.headers);
        return rc;
    }
    azure_req_precond(&r, &pre);
    rc = azure_do(s, op, &r, &res);
    if (rc < 0)
        return rc;
    const char *etag = http_headers_get(&res.headers, "etag");
    a->version[0] = '\0';
    if (etag)
        flat_version_of_etag(etag, a->version);
    http_res_done(&res);
    return 0;
}

int azure_set_file_meta(struct store *store, struct op *op, const char *object, const char *if_match,
                        const struct attr *change, struct attr *ret)
{
    struct azure_store *s = azure_of(store);
    struct attr a = ATTR_INIT;
    struct http_headers all = {0};
    int r = azure_head(s, op, "set_meta", object, if_match, &a, &all);
    if (r == 0)
        r = send_meta(s, op, object, &a, &all, change);
    http_headers_done(&all);
    if (r == -ESTALE && !(if_match && *if_match)) /* changed since we looked: nothing was done */
        r = -EAGAIN;
    if (r < 0)
        attr_done(&a);
    else
        *ret = a;
    return r;
}

int azure_check_meta(const struct store *store, const struct attr *a, struct err *err)
{
    const struct azure_store *s = (const struct azure_store *)store;
    return s->posix ? flat_meta_check(a, &azure_meta_rules, false, err) : 0;
}

int azure_set_meta(struct store *store, struct op *op, const char *key, const char *if_match,
                   const struct attr *change, struct attr *ret)
{
    return flat_set_meta(&azure_of(store)->view, store, op, key, if_match, change, ret);
}

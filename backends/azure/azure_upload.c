/* SPDX-License-Identifier: MIT
 * azure_upload.c: blocks, sent at once and in any order, then the list of those that make the blob. They wait
 * at the blob's own name and are not seen; the service drops them after a week, or when the blob is written.
 *
 * An upload's id is 16 hex digits, '.', and the metadata that the blob gets (JSON in base64url): the service
 * wants that with the list only. A part's etag is its block's id, which has the upload, the number, and a nonce:
 * of a part that was sent twice the list names the one that the caller knows. All ids have one length, as the
 * service wants. Blocks cannot be removed: of an upload that was aborted, this store remembers the id. */
#include "backends/azure/azure.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crypto.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define ID_LEN 16

/* ---- ids ---- */

static int check_id(struct azure_store *s, struct op *op, const char *id)
{
    if (strspn(id, "0123456789abcdef") != ID_LEN || id[ID_LEN] != '.')
        return err_set(&op->err, EINVAL, "not an upload id of this store");
    LOCK_SCOPE(&s->sync.lock);
    return strmap_get(&s->sync.aborted, id) ? err_set(&op->err, ESTALE, "the upload was aborted") : 0;
}

static char *id_of_headers(const struct http_headers *h)
{
    struct buf b = BUF_INIT;
    char hex[ID_LEN + 1];
    json_t *o = json_object();
    random_hex(hex, ID_LEN);
    for (size_t i = 0; i < h->n; i++)
        (void)json_object_set_new(o, h->v[i].name, json_string(h->v[i].value));
    char *text = json_dumps(o, JSON_COMPACT);
    buf_addf(&b, "%s.", hex);
    base64url_add(&b, text, strlen(text));
    free(text);
    json_decref(o);
    return buf_take(&b);
}

/* Only headers that azure_meta_headers() makes: an id comes back from a journal on the disk. */
static bool is_ours(const char *name)
{
    return strncmp(name, AZURE_META, sizeof(AZURE_META) - 1) == 0 ||
           strcmp(name, "x-ms-blob-content-type") == 0;
}

static int headers_of_id(struct op *op, const char *id, struct http_headers *h)
{
    CLEANUP_BUF struct buf b64 = BUF_INIT, text = BUF_INIT;
    const char *name;
    json_t *v;
    for (const char *p = id + ID_LEN + 1; *p; p++)
        buf_addc(&b64, *p == '-' ? '+' : *p == '_' ? '/' : *p);
    while (b64.len % 4)
        buf_addc(&b64, '=');
    json_t *o = base64_decode(&text, buf_str(&b64), b64.len) ? json_loadb(buf_str(&text), text.len, 0, NULL)
                                                              : NULL;
    bool good = json_is_object(o);
    json_object_foreach(o, name, v)
    {
        good = good && is_ours(name) && json_is_string(v);
        if (good)
            http_headers_add(h, name, json_string_value(v));
    }
    json_decref(o);
    return good ? 0 : err_set(&op->err, EINVAL, "not an upload id of this store");
}

/* ---- begin, part, abort ---- */

int azure_upload_begin(struct store *store, struct op *op, const struct upload_req *req, char **ret_id)
{
    struct http_headers h = {0};
    int r = azure_meta_headers(azure_of(store), req->attr, false, &op->err, &h);
    if (r == 0)
        *ret_id = id_of_headers(&h);
    http_headers_done(&h);
    return r;
}

int azure_upload_part(struct store *store, struct op *op, const char *key, const char *id,
                      const struct source *src, struct store_part *part)
{
    struct azure_store *s = azure_of(store);
    CLEANUP_FREE char *object = flat_object(s->prefix, key);
    CLEANUP_BUF struct buf block = BUF_INIT;
    struct http_res res = HTTP_RES_INIT;
    char nonce[9], plain[64];
    int r = check_id(s, op, id);
    if (r < 0)
        return r;
    random_hex(nonce, 8);
    int n = snprintf(plain, sizeof(plain), "quay-%.16s-%06u-%s", id, part->number % 1000000, nonce);
    base64_add(&block, plain, (size_t)n);
    struct azure_req q = {.op = "upload_part", .method = "PUT", .object = object, .body = src};
    azure_req_param(&q, "comp", "block");
    azure_req_param(&q, "blockid", block.data);
    r = azure_do(s, op, &q, &res);
    http_res_done(&res);
    if (r == 0)
        (void)snprintf(part->etag, sizeof(part->etag), "%s", block.data);
    return r;
}

int azure_upload_abort(struct store *store, struct op *op, const char *key, const char *id)
{
    struct azure_store *s = azure_of(store);
    (void)key;
    int r = check_id(s, op, id);
    if (r == -ESTALE) { /* again */
        err_clear(&op->err);
        return 0;
    }
    if (r < 0)
        return r;
    LOCK_SCOPE(&s->sync.lock);
    (void)strmap_put(&s->sync.aborted, id, s);
    return 0;
}

/* ---- finish ---- */

static void add_list(struct buf *b, const struct store_part *parts, size_t n)
{
    buf_adds(b, "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    for (size_t i = 0; i < n; i++) {
        buf_adds(b, "<Uncommitted>");
        xml_escape(b, parts[i].etag);
        buf_adds(b, "</Uncommitted>");
    }
    buf_adds(b, "</BlockList>");
}

static int commit(struct azure_store *s, struct op *op, const char *object, const char *id,
                  const struct buf *list, const struct precond *pre, struct http_res *ret)
{
    struct source_mem src = source_mem(list->data, list->len);
    struct azure_req r = {.op = "upload_finish",
                          .method = "PUT",
                          .object = object,
                          .body = &src.base,
                          .once = true,
                          .stall_s = AZURE_STALL_S};
    int rc = headers_of_id(op, id, &r.headers);
    if (rc < 0) {
        http_headers_done(&r.headers);
        return rc;
    }
    azure_req_param(&r, "comp", "blocklist");
    http_headers_add(&r.headers, "content-type", "application/xml");
    if (s->tier)
        http_headers_add(&r.headers, "x-ms-access-tier", s->tier);
    azure_req_precond(&r, pre);
    return flat_cond_result(op, pre, azure_do(s, op, &r, ret));
}

int azure_upload_finish(struct store *store, struct op *op, const char *key, const char *id,
                        const struct store_part *parts, size_t n, const struct precond *pre,
                        struct attr *ret)
{
    struct azure_store *s = azure_of(store);
    CLEANUP_FREE char *object = flat_object(s->prefix, key);
    CLEANUP_BUF struct buf list = BUF_INIT;
    struct http_res res = HTTP_RES_INIT;
    uint64_t size = 0;
    for (size_t i = 0; i < n; i++)
        size += parts[i].size;
    add_list(&list, parts, n);
    int r = check_id(s, op, id);
    if (r == 0)
        r = commit(s, op, object, id, &list, pre, &res);
    if (r < 0)
        return r;
    flat_attr_written(&res, NULL, size, http_headers_get(&res.headers, "etag"), s->posix, ret);
    ret->known &= ~(unsigned)ATTR_META; /* given when the upload began; not repeated here */
    http_res_done(&res);
    return 0;
}

/* SPDX-License-Identifier: MIT
 * s3_copy.c: copies within the bucket and from others of the service, and changing metadata, which in S3 is a copy onto itself.
 *
 * The source is pinned by its ETag, so a copy is of one version and a change of metadata never
 * brings back old content. CopyObject does up to 5 GiB; more goes by multipart copy, as does a copy
 * with a condition on its target, since CopyObject knows no conditions on many servers. */
#include "backends/s3/s3.h"

#include "base/cleanup.h"
#include "base/date.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct copy {
    struct s3_store *source;             /* that of `from` */
    const char *op, *from, *to_key, *to; /* from, to: full names */
    struct attr attr;                    /* the source's, then the target's */
    struct http_headers all;             /* the source's, of HEAD */
    struct http_headers fresh;           /* the target's; REPLACE when replace */
    bool replace;
};

static void copy_done(struct copy *c)
{
    attr_done(&c->attr);
    http_headers_done(&c->all);
    http_headers_done(&c->fresh);
}

/* Headers that are the object's own and not of this reply. */
static bool is_kept(const char *name, bool meta)
{
    static const char *const kept[] = {"content-type",
                                       "cache-control",
                                       "content-disposition",
                                       "content-encoding",
                                       "expires",
                                       "content-language",
                                       "x-amz-storage-class",
                                       "x-amz-website-redirect-location"};
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        if (strcmp(name, kept[i]) == 0)
            return true;
    return meta && strncmp(name, "x-amz-meta-", 11) == 0;
}

static void keep_headers(const struct http_headers *all, bool meta, struct http_headers *to)
{
    for (size_t i = 0; i < all->n; i++)
        if (is_kept(all->v[i].name, meta) && !http_headers_get(to, all->v[i].name))
            http_headers_add(to, all->v[i].name, all->v[i].value);
}

/* ---- CopyObject ---- */

static void take_copy_result(const struct http_res *res, struct attr *a)
{
    CLEANUP_FREE char *etag = xml_field(buf_str(&res->body), res->body.len, "ETag");
    CLEANUP_FREE char *date = xml_field(buf_str(&res->body), res->body.len, "LastModified");
    a->version[0] = '\0';
    if (etag)
        flat_version_of_etag(etag, a->version);
    if (!(a->known & ATTR_HAS_MTIME) && date)
        (void)date_parse_iso(date, &a->mtime);
    if (!(a->known & ATTR_HAS_MTIME))
        a->mtime.tv_nsec = 0; /* as HEAD has it */
}

static int copy_whole(struct s3_store *s, struct op *op, struct copy *c)
{
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = c->op, .method = "PUT", .object = c->to, .stall_s = S3_COPY_STALL_S};
    int rc = 0;
    s3_add_copy_source(c->source, &r, c->from, c->attr.version);
    if (c->replace) {
        http_headers_add(&r.headers, "x-amz-metadata-directive", "REPLACE");
        for (size_t i = 0; i < c->fresh.n; i++)
            http_headers_add(&r.headers, c->fresh.v[i].name, c->fresh.v[i].value);
        if (c->attr.known & ATTR_HAS_TAGS) { /* else the server copies them */
            http_headers_add(&r.headers, "x-amz-tagging-directive", "REPLACE");
            rc = s3_add_tags(c->source, op, c->from, &c->attr, &r.headers);
        }
    } else if (s->storage_class) {
        http_headers_add(&r.headers, "x-amz-storage-class", s->storage_class);
    }
    if (rc == 0)
        rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    if (rc == 0)
        rc = s3_error_in_body(s, op, &r, &res);
    if (rc == 0)
        take_copy_result(&res, &c->attr);
    http_res_done(&res);
    if (rc == -ENOENT) { /* there when we looked */
        op->err.code = ESTALE;
        rc = -ESTALE;
    }
    return rc;
}

/* ---- by parts ---- */

static int copy_all_parts(struct s3_store *s, struct op *op, const struct copy *c, const char *id,
                          struct store_part *parts, size_t n, uint64_t part_size)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t off = i * part_size, left = c->attr.size - off;
        parts[i].number = (unsigned)i + 1;
        parts[i].size = left < part_size ? left : part_size;
        int r = s3_copy_part(s, op, c->to, id, c->source, c->from, c->attr.version, off, &parts[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

static int copy_parts(struct store *store, struct op *op, struct copy *c, const struct precond *pre)
{
    struct s3_store *s = s3_of(store);
    uint64_t part_size = S3_COPY_PART;
    while (c->attr.size / part_size >= S3_PARTS_MAX)
        part_size *= 2;
    size_t n = (size_t)((c->attr.size + part_size - 1) / part_size);
    CLEANUP_FREE struct store_part *parts = xcalloc(n, sizeof(*parts));
    CLEANUP_FREE char *id = NULL;
    struct attr made = ATTR_INIT;
    if (!c->replace)
        keep_headers(&c->all, true, &c->fresh);
    int r = s3_add_tags(c->source, op, c->from, &c->attr, &c->fresh);
    if (r == 0)
        r = s3_upload_create(s, op, c->to, &c->fresh, &id);
    if (r < 0)
        return r;
    store_upload_begun(store, c->to_key, id, c->attr.size);
    r = copy_all_parts(s, op, c, id, parts, n, part_size);
    if (r == 0)
        r = s3_upload_complete(s, op, c->to_key, id, parts, n, pre, &made);
    store_upload_ended(store, c->to_key, id, r == 0);
    if (r < 0)
        return r;
    memcpy(c->attr.version, made.version, sizeof(c->attr.version));
    if (!(c->attr.known & ATTR_HAS_MTIME))
        c->attr.mtime = made.mtime;
    attr_done(&made);
    return 0;
}

/* An empty source has no parts to copy: it is written anew. */
static int put_empty(struct s3_store *s, struct op *op, struct copy *c, const struct precond *pre)
{
    struct source_mem empty = source_mem("", 0);
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = c->op, .method = "PUT", .object = c->to, .body = &empty.base};
    keep_headers(c->replace ? &c->fresh : &c->all, true, &r.headers);
    int rc = s3_add_tags(c->source, op, c->from, &c->attr, &r.headers);
    if (rc == 0)
        rc = s3_cond_prepare(s, op, c->to_key, pre, &r);
    if (rc == 0)
        rc = s3_cond_result(op, pre, s3_do(s, op, &r, &res));
    const char *etag = http_headers_get(&res.headers, "etag");
    if (rc == 0 && etag)
        flat_version_of_etag(etag, c->attr.version);
    s3_req_done(&r);
    http_res_done(&res);
    return rc;
}

static int run_copy(struct store *store, struct op *op, struct copy *c, const struct precond *pre)
{
    struct s3_store *s = s3_of(store);
    bool conditional = pre && (pre->if_match || pre->if_absent), honoured = false;
    int r = 0;
    if (conditional) {
        r = s3_cond_supported(s, op, &honoured);
        if (r == 0 && !honoured)
            r = s3_cond_look(s, op, c->to_key, pre);
    }
    if (r < 0)
        return r;
    if (honoured && c->attr.size == 0)
        return put_empty(s, op, c, pre);
    if (honoured || c->attr.size > S3_PUT_MAX)
        return copy_parts(store, op, c, pre);
    return copy_whole(s, op, c);
}

/* ---- set_meta ---- */

/* x-amz-meta-* that no field of struct attr stands for: kept as they are. */
static void keep_foreign(const struct http_headers *all, struct http_headers *to)
{
    static const char *const ours[] = {"mode", "uid", "gid", "mtime", "atime", "ctime"};
    for (size_t i = 0; i < all->n; i++) {
        const char *name = all->v[i].name;
        bool keep = strncmp(name, "x-amz-meta-", 11) == 0;
        for (size_t k = 0; keep && k < ARRAY_LEN(ours); k++)
            keep = strcmp(name + 11, ours[k]) != 0;
        if (keep)
            http_headers_add(to, name, all->v[i].value);
    }
}

/* A copy has a time of its own: the one that was shown is stored. */
static int new_headers(struct op *op, struct copy *c, const struct attr *change)
{
    bool xattrs = change->known & (ATTR_HAS_XATTRS | ATTR_XATTR_EDITS);
    if (c->attr.mtime.tv_sec)
        c->attr.known |= ATTR_HAS_MTIME;
    attr_apply(&c->attr, change);
    unsigned known = c->attr.known;
    if (!xattrs)
        c->attr.known &= ~(unsigned)ATTR_HAS_XATTRS; /* the headers that hold them are kept */
    int r = s3_meta_to_headers(&c->attr, S3_META_OBJECT, &op->err, &c->fresh);
    c->attr.known = known;
    if (!xattrs)
        keep_foreign(&c->all, &c->fresh);
    keep_headers(&c->all, false, &c->fresh);
    return r;
}

/* As the slot set_meta of a view: -EAGAIN when somebody was faster. `seen`: the version at the last look; a server that
 * has still the same one, and says again that it is another, will say so for ever. */
static int set_file_meta(struct store *store, struct op *op, const char *key, const char *if_match,
                         const struct attr *change, char seen[ATTR_VERSION_MAX], struct attr *ret)
{
    struct s3_store *s = s3_of(store);
    CLEANUP_FREE char *object = s3_object(s, key);
    struct copy c = {
        .source = s, .op = "set_meta", .from = object, .to_key = key, .to = object, .replace = true};
    int r = s3_head_file(s, op, "set_meta", key, if_match, &c.attr, &c.all);
    if (r == 0)
        r = new_headers(op, &c, change);
    if (r == 0)
        r = run_copy(store, op, &c, NULL);
    if (r == -ESTALE && !(if_match && *if_match) && strcmp(c.attr.version, seen) != 0)
        r = -EAGAIN;
    memcpy(seen, c.attr.version, ATTR_VERSION_MAX);
    attr_tags_stored(&c.attr);
    if (r == 0)
        attr_move(ret, &c.attr);
    copy_done(&c);
    return r;
}

int s3_check_meta(const struct store *store, const struct attr *a, struct err *err)
{
    const struct s3_store *s = (const struct s3_store *)store;
    bool whole_names = atomic_load(&s->server) != S3_SERVER_AWS;
    return s->posix ? flat_meta_check(a, &s3_meta_rules, whole_names, err) : 0;
}

int s3_set_meta(struct store *store, struct op *op, const char *key, const char *if_match,
                const struct attr *change, struct attr *ret)
{
    struct s3_store *s = s3_of(store);
    char seen[ATTR_VERSION_MAX] = "";
    unsigned tries = 0;
    int r;
    if (!s->posix)
        return err_set(&op->err, ENOTSUP, "posix = no: no metadata is kept");
    if (!*key || change->kind == ATTR_DIR)
        return flat_set_dir_meta(&s->view, store, op, key, change, ret);
    do
        r = set_file_meta(store, op, key, if_match, change, seen, ret);
    while (flat_overtaken(op, &tries, &r));
    if (r != -ENOENT)
        return r;
    err_clear(&op->err);
    return flat_set_dir_meta(&s->view, store, op, key, change, ret);
}

/* ---- copy ---- */

/* As the strictest servers count: the whole names. */
static size_t meta_bytes(const struct http_headers *h)
{
    size_t n = 0;
    for (size_t i = 0; i < h->n; i++)
        if (strncmp(h->v[i].name, "x-amz-meta-", 11) == 0)
            n += strlen(h->v[i].name) + strlen(h->v[i].value);
    return n;
}

/* An object of somebody who stores no times has that of its upload; so would its copy. As the copy is to look like
 * the source, it is given the time that the source has shown, if there is room for it. */
static void keep_time(struct s3_store *s, struct op *op, struct copy *c)
{
    const struct attr none = ATTR_INIT;
    unsigned known = c->attr.known;
    if (!s->posix || (known & ATTR_HAS_MTIME) || !c->attr.mtime.tv_sec)
        return;
    if (s->storage_class)
        http_headers_add(&c->fresh, "x-amz-storage-class", s->storage_class);
    if (new_headers(op, c, &none) == 0 && meta_bytes(&c->fresh) <= S3_META_MAX) {
        c->replace = true;
        return;
    }
    err_clear(&op->err);
    http_headers_done(&c->fresh);
    c->attr.known = known;
}

/* With the keys of the target's store; a source that is encrypted with another customer key would need that too. */
bool s3_same_service(const struct store *store, const struct store *other)
{
    const struct s3_store *a = (const struct s3_store *)store, *b = (const struct s3_store *)other;
    return flat_same_text(a->scheme, b->scheme) && flat_same_text(a->endpoint, b->endpoint) &&
           flat_same_text(a->root, b->root) && flat_same_text(a->customer_key, b->customer_key);
}

void s3_place(const struct store *store, struct buf *ret_service, struct buf *ret_path)
{
    const struct s3_store *s = (const struct s3_store *)store;
    struct flat_endpoint e = {.scheme = s->scheme, .host = s->endpoint, .root = s->root};
    flat_place_text(&e, s->bucket, s->prefix, ret_service, ret_path);
}

int s3_copy(struct store *store, struct op *op, const char *from, const char *from_version,
            const char *to, const struct precond *pre, struct attr *ret)
{
    return s3_copy_from(store, op, store, from, from_version, to, pre, ret);
}

int s3_copy_from(struct store *store, struct op *op, struct store *source_store, const char *from,
                 const char *from_version, const char *to, const struct precond *pre, struct attr *ret)
{
    struct s3_store *s = s3_of(store), *other = s3_of(source_store);
    CLEANUP_FREE char *source = s3_object(other, from);
    CLEANUP_FREE char *target = s3_object(s, to);
    struct copy c = {.source = other, .op = "copy", .from = source, .to_key = to, .to = target};
    int r = s3_head(other, op, "copy", source, from_version, &c.attr, &c.all);
    if (r == 0)
        keep_time(s, op, &c);
    if (r == 0)
        r = run_copy(store, op, &c, pre);
    if (r == 0)
        attr_move(ret, &c.attr);
    copy_done(&c);
    return r;
}

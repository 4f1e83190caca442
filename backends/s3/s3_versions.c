/* SPDX-License-Identifier: MIT
 * s3_versions.c: versions that a bucket keeps: ListObjectVersions, HEAD with versionId.
 *
 * A bucket on which versioning was never enabled lists its objects as the version "null". Whether it is such a
 * one is asked with GET ?versioning when the first versions are wanted, and again UNVERSIONED_S later; a key
 * that may not ask (s3:GetBucketVersioning) lists, and takes a lone "null" for no versions.
 * Facts: the API references of GetBucketVersioning, ListObjectVersions, GetObject, HeadObject. */
#include "backends/s3/s3.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/name.h"

#include <errno.h>
#include <string.h>

#define UNVERSIONED_S 300

struct s3_version s3_version(const char *version)
{
    struct s3_version v = {0};
    if (version && !kept_version_split(version, &v.id, v.etag))
        (void)snprintf(v.etag, sizeof(v.etag), "%s", version);
    return v;
}

void s3_version_done(struct s3_version *v)
{
    free(v->id);
    v->id = NULL;
}

void s3_version_told(const struct s3_version *v, struct attr *attr)
{
    char etag[ATTR_VERSION_MAX];
    if (!v->id)
        return;
    memcpy(etag, attr->version, sizeof(etag));
    (void)kept_version_make(v->id, etag, attr->version);
    attr->tags = ATTR_TAGS_NONE; /* those that can be asked for are the object's */
}

static int no_versions(struct s3_store *s, struct op *op)
{
    return err_set(&op->err, ENOTSUP, "s3://%s: the bucket keeps no versions", s->bucket);
}

/* Does the bucket keep versions? -ENOTSUP: no. *ret_certain: the server said so. */
static int check_bucket(struct s3_store *s, struct op *op, bool *ret_certain)
{
    uint64_t seen = atomic_load(&s->unversioned_ns);
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = "list_versions", .method = "GET"};
    *ret_certain = atomic_load(&s->versioned);
    if (*ret_certain)
        return 0;
    if (seen && clock_now_ns() - seen < UNVERSIONED_S * NS_PER_S)
        return no_versions(s, op);
    s3_req_param(&r, "versioning", "");
    int rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    if (rc == -EACCES || rc == -ENOTSUP) {
        err_clear(&op->err);
        return 0;
    }
    if (rc < 0)
        return rc;
    CLEANUP_FREE char *status = xml_field(buf_str(&res.body), res.body.len, "Status");
    http_res_done(&res);
    *ret_certain = status != NULL; /* "Enabled" or "Suspended": once on, it is never quite off */
    atomic_store(&s->versioned, *ret_certain);
    if (*ret_certain)
        return 0;
    atomic_store(&s->unversioned_ns, clock_now_ns());
    return no_versions(s, op);
}

/* The cursor is "ID\nKEY", the two markers that the server gave; MinIO's KEY has more in it than the key. */
static int ask(struct s3_store *s, struct op *op, const char *object, const char *cursor, unsigned max,
               struct s3_versions *ret)
{
    char count[16];
    const char *end = cursor ? strchr(cursor, '\n') : NULL;
    CLEANUP_FREE char *id = end ? xstrndup(cursor, (size_t)(end - cursor)) : NULL;
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = "list_versions", .method = "GET"};
    (void)snprintf(count, sizeof(count), "%u", max && max < S3_PAGE_MAX ? max : S3_PAGE_MAX);
    s3_req_param(&r, "versions", "");
    s3_req_param(&r, "encoding-type", "url");
    s3_req_param(&r, "prefix", object);
    s3_req_param(&r, "delimiter", "/");
    s3_req_param(&r, "max-keys", count);
    if (id) {
        s3_req_param(&r, "key-marker", end + 1);
        s3_req_param(&r, "version-id-marker", id);
    }
    int rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    if (rc == 0 && s3_xml_versions(buf_str(&res.body), res.body.len, ret) < 0) {
        rc = err_set(&op->err, EIO, "list_versions s3://%s/%s: the reply is not a ListVersionsResult",
                     s->bucket, object);
        op->err.retry = ERR_RETRY_SAFE;
    }
    http_res_done(&res);
    return rc;
}

/* The versions of just this object, which come before those of longer names. */
static int take(struct s3_store *s, struct op *op, const char *object, const struct s3_versions *l,
                struct version_page *ret)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct s3_listed *from = &l->v[i];
        if (strcmp(from->object, object) != 0)
            continue;
        struct kept_version *k = version_page_add(ret, from->id);
        k->deleted = from->deleted;
        k->attr.mtime = from->mtime;
        if (k->deleted)
            continue;
        k->attr.kind = ATTR_FILE;
        k->attr.size = from->size;
        if (!kept_version_make(from->id, from->etag, k->attr.version))
            return err_set(&op->err, EIO, "s3://%s/%s: the id of a version has %zu bytes: too long", s->bucket,
                           object, strlen(from->id));
    }
    return 0;
}

/* The next page, unless names behind the object's were reached: its own come first. */
static int take_cursor(struct s3_store *s, struct op *op, const char *object, const char *cursor,
                       const struct s3_versions *l, struct version_page *ret)
{
    if (!l->truncated || l->n == 0 || strcmp(l->v[l->n - 1].object, object) != 0)
        return 0;
    if (l->next_id && l->next_object)
        ret->cursor = xasprintf("%s\n%s", l->next_id, l->next_object);
    if (ret->cursor && !(cursor && strcmp(cursor, ret->cursor) == 0))
        return 0;
    return err_set(&op->err, EIO, "list_versions s3://%s/%s: the server's listing does not advance", s->bucket,
                   object);
}

int s3_list_versions(struct store *store, struct op *op, const char *key, const char *cursor, unsigned max,
                     struct version_page *ret)
{
    struct s3_store *s = s3_of(store);
    struct s3_versions l = {0};
    struct version_page page = VERSION_PAGE_INIT;
    CLEANUP_FREE char *object = s3_object(s, key);
    bool certain;
    int r = check_bucket(s, op, &certain);
    if (r == 0)
        r = ask(s, op, object, cursor, certain ? max : 0, &l);
    if (r == 0)
        r = take(s, op, object, &l, &page);
    if (r == 0)
        r = take_cursor(s, op, object, cursor, &l, &page);
    if (r == 0 && !certain && page.count == 1 && strcmp(page.v[0].id, "null") == 0)
        r = no_versions(s, op);
    s3_versions_done(&l);
    if (r < 0)
        version_page_done(&page);
    else
        *ret = page;
    return r;
}

int s3_stat_version(struct store *store, struct op *op, const char *key, const char *id, struct attr *ret)
{
    struct s3_store *s = s3_of(store);
    CLEANUP_FREE char *object = s3_object(s, key);
    char version[ATTR_VERSION_MAX];
    if (!kept_version_make(id, "", version))
        return err_set(&op->err, ENOENT, "%s: no such version", object);
    int r = s3_head(s, op, "stat_version", object, version, ret, NULL);
    /* no such version, no such id, the id of a deletion */
    if (r == -ESTALE || r == -EINVAL || r == -ENOTSUP)
        r = err_set(&op->err, ENOENT, "s3://%s/%s: no version %s", s->bucket, object, id);
    return r;
}

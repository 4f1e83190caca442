/* SPDX-License-Identifier: MIT
 * s3_xml.c: what S3's replies in XML say: listings, of versions too, and the results of deleting many. */
#include "backends/s3/s3.h"

#include "base/cleanup.h"
#include "base/date.h"
#include "base/url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- ListBucketResult ---- */

struct list_parse {
    struct flat_result *ret;
    struct flat_item *now; /* being filled */
    int meta_depth;           /* of the open UserMetadata, 0 = none */
    bool root_ok, url_encoded, bad;
};

static void list_open(void *arg, int depth, const char *name)
{
    struct list_parse *p = arg;
    if (depth == 1)
        p->root_ok = strcmp(name, "ListBucketResult") == 0;
    else if (depth == 2 && strcmp(name, "Contents") == 0)
        p->now = flat_result_add(p->ret, false);
    else if (depth == 2 && strcmp(name, "CommonPrefixes") == 0)
        p->now = flat_result_add(p->ret, true);
    else if (depth == 3 && p->now && !p->now->is_prefix && strcmp(name, "UserMetadata") == 0)
        p->meta_depth = depth, p->now->has_meta = true;
}

static void set_object(struct list_parse *p, const char *text, size_t len)
{
    free(p->now->object);
    p->now->object = xstrndup(text, len);
}

static bool take_size(const char *text, uint64_t *ret)
{
    char *end;
    errno = 0;
    *ret = strtoull(text, &end, 10);
    return !errno && !*end && *text >= '0' && *text <= '9';
}

static void close_contents_field(struct list_parse *p, const char *name, const char *text,
                                 size_t len)
{
    struct flat_item *i = p->now;
    if (strcmp(name, "Key") == 0) {
        set_object(p, text, len);
    } else if (strcmp(name, "Size") == 0) {
        p->bad = p->bad || !take_size(text, &i->size);
    } else if (strcmp(name, "LastModified") == 0) {
        if (!date_parse_iso(text, &i->mtime))
            i->mtime = (struct timespec){0};
    } else if (strcmp(name, "ETag") == 0) {
        flat_version_of_etag(text, i->etag);
    } else if (strcmp(name, "UserMetadata") == 0) {
        p->meta_depth = 0;
    }
}

static void list_close(void *arg, int depth, const char *name, const char *text, size_t len)
{
    struct list_parse *p = arg;
    if (depth == 2) {
        p->now = NULL;
        if (strcmp(name, "IsTruncated") == 0)
            p->ret->truncated = strcmp(text, "true") == 0;
        else if (strcmp(name, "NextContinuationToken") == 0 && !p->ret->token)
            p->ret->token = xstrndup(text, len);
        else if (strcmp(name, "EncodingType") == 0)
            p->url_encoded = strcmp(text, "url") == 0;
    } else if (p->now && p->meta_depth && depth == p->meta_depth + 1) {
        http_headers_add(&p->now->meta, name, text);
    } else if (depth == 3 && p->now && p->now->is_prefix) {
        if (strcmp(name, "Prefix") == 0)
            set_object(p, text, len);
    } else if (depth == 3 && p->now) {
        close_contents_field(p, name, text, len);
    }
}

/* Undoes encoding-type=url, in which a blank may also be '+'. */
static bool decode_object(char **object)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    for (char *s = *object; *s; s++)
        if (*s == '+')
            *s = ' ';
    if (!url_decode(&b, *object, strlen(*object)))
        return false;
    free(*object);
    *object = b.data ? buf_take(&b) : xstrdup("");
    return true;
}

int s3_xml_list(const char *data, size_t len, struct flat_result *ret)
{
    static const struct xml_events ev = {list_open, list_close};
    struct flat_result r = {0};
    struct list_parse p = {.ret = &r};
    int rc = xml_parse(data, len, &ev, &p);
    if (rc == 0 && (!p.root_ok || p.bad))
        rc = -EBADMSG;
    for (size_t i = 0; rc == 0 && i < r.n; i++)
        if (!r.v[i].object || (p.url_encoded && !decode_object(&r.v[i].object)))
            rc = -EBADMSG;
    if (rc < 0)
        flat_result_done(&r);
    else
        *ret = r;
    return rc;
}

/* ---- ListVersionsResult ---- */

struct versions_parse {
    struct s3_versions *ret;
    struct s3_listed *now;
    bool root_ok, url_encoded, bad;
};

static void versions_open(void *arg, int depth, const char *name)
{
    struct versions_parse *p = arg;
    struct s3_versions *l = p->ret;
    bool deleted = strcmp(name, "DeleteMarker") == 0;
    if (depth == 1)
        p->root_ok = strcmp(name, "ListVersionsResult") == 0;
    if (depth != 2 || (!deleted && strcmp(name, "Version") != 0))
        return;
    if (l->n % 64 == 0)
        l->v = xrealloc(l->v, (l->n + 64) * sizeof(*l->v));
    p->now = &l->v[l->n++];
    *p->now = (struct s3_listed){.deleted = deleted};
}

static void set_text(char **field, const char *text, size_t len)
{
    free(*field);
    *field = xstrndup(text, len);
}

static void close_version_field(struct versions_parse *p, const char *name, const char *text, size_t len)
{
    struct s3_listed *i = p->now;
    if (strcmp(name, "Key") == 0)
        set_text(&i->object, text, len);
    else if (strcmp(name, "VersionId") == 0)
        set_text(&i->id, text, len);
    else if (strcmp(name, "Size") == 0)
        p->bad = p->bad || !take_size(text, &i->size);
    else if (strcmp(name, "LastModified") == 0)
        p->bad = p->bad || !date_parse_iso(text, &i->mtime);
    else if (strcmp(name, "ETag") == 0)
        flat_version_of_etag(text, i->etag);
}

static void versions_close(void *arg, int depth, const char *name, const char *text, size_t len)
{
    struct versions_parse *p = arg;
    if (depth == 3 && p->now)
        close_version_field(p, name, text, len);
    if (depth != 2)
        return;
    p->now = NULL;
    if (strcmp(name, "IsTruncated") == 0)
        p->ret->truncated = strcmp(text, "true") == 0;
    else if (strcmp(name, "NextKeyMarker") == 0)
        set_text(&p->ret->next_object, text, len);
    else if (strcmp(name, "NextVersionIdMarker") == 0)
        set_text(&p->ret->next_id, text, len);
    else if (strcmp(name, "EncodingType") == 0)
        p->url_encoded = strcmp(text, "url") == 0;
}

void s3_versions_done(struct s3_versions *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->v[i].object);
        free(l->v[i].id);
    }
    free(l->v);
    free(l->next_object);
    free(l->next_id);
    *l = (struct s3_versions){0};
}

int s3_xml_versions(const char *data, size_t len, struct s3_versions *ret)
{
    static const struct xml_events ev = {versions_open, versions_close};
    struct s3_versions l = {0};
    struct versions_parse p = {.ret = &l};
    int rc = xml_parse(data, len, &ev, &p);
    if (rc == 0 && (!p.root_ok || p.bad))
        rc = -EBADMSG;
    for (size_t i = 0; rc == 0 && i < l.n; i++)
        if (!l.v[i].object || !l.v[i].id || (p.url_encoded && !decode_object(&l.v[i].object)))
            rc = -EBADMSG;
    if (rc == 0 && l.next_object && p.url_encoded && !decode_object(&l.next_object))
        rc = -EBADMSG;
    if (rc < 0)
        s3_versions_done(&l);
    else
        *ret = l;
    return rc;
}

/* ---- DeleteResult ---- */

struct delete_parse {
    struct s3_delete_errors *ret;
    struct s3_delete_error *now;
    bool root_ok;
};

static void delete_open(void *arg, int depth, const char *name)
{
    struct delete_parse *p = arg;
    if (depth == 1)
        p->root_ok = strcmp(name, "DeleteResult") == 0;
    if (depth != 2 || strcmp(name, "Error") != 0)
        return;
    struct s3_delete_errors *e = p->ret;
    e->v = xrealloc(e->v, (e->n + 1) * sizeof(*e->v));
    p->now = &e->v[e->n++];
    *p->now = (struct s3_delete_error){0};
}

static void delete_close(void *arg, int depth, const char *name, const char *text, size_t len)
{
    struct delete_parse *p = arg;
    if (depth == 2)
        p->now = NULL;
    if (depth != 3 || !p->now)
        return;
    if (strcmp(name, "Key") == 0 && !p->now->object)
        p->now->object = xstrndup(text, len);
    else if (strcmp(name, "Code") == 0 && !p->now->code)
        p->now->code = xstrndup(text, len);
}

int s3_xml_delete(const char *data, size_t len, struct s3_delete_errors *ret)
{
    static const struct xml_events ev = {delete_open, delete_close};
    struct s3_delete_errors e = {0};
    struct delete_parse p = {.ret = &e};
    int rc = xml_parse(data, len, &ev, &p);
    if (rc == 0 && !p.root_ok)
        rc = -EBADMSG;
    if (rc < 0)
        s3_delete_errors_done(&e);
    else
        *ret = e;
    return rc;
}

void s3_delete_errors_done(struct s3_delete_errors *e)
{
    for (size_t i = 0; i < e->n; i++) {
        free(e->v[i].object);
        free(e->v[i].code);
    }
    free(e->v);
    *e = (struct s3_delete_errors){0};
}

/* SPDX-License-Identifier: MIT
 * s3_meta.c: attributes <-> headers, in the keys of s3fs; rclone's mtime is read as well.
 *
 *   x-amz-meta-mode    decimal st_mode with the type bits (written), with or without them (read)
 *   x-amz-meta-uid -gid -mtime -atime
 *   x-amz-meta-xattr   URL-encoded JSON, name -> base64 of the value
 *   x-amz-meta-NAME    any other: the xattr user.meta.NAME, so that foreign metadata survives
 * Pure functions. Threads: any. */
#include "backends/s3/s3.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/date.h"
#include "base/url.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define META "x-amz-meta-"
#define META_LEN (sizeof(META) - 1)
#define FOREIGN "user.meta."
#define FOREIGN_LEN (sizeof(FOREIGN) - 1)
#define DIR_TYPE "application/x-directory"

static const char *const own_names[] = {"mode", "uid", "gid", "mtime", "atime", "ctime", "xattr"};

static bool is_own_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(own_names); i++)
        if (strcmp(name, own_names[i]) == 0)
            return true;
    return false;
}

/* ---- ETag ---- */

void s3_etag_to_version(const char *etag, char out[ATTR_VERSION_MAX])
{
    size_t n = strlen(etag);
    if (n >= 2 && etag[0] == '"' && etag[n - 1] == '"') {
        etag++;
        n -= 2;
    }
    if (n >= ATTR_VERSION_MAX)
        n = ATTR_VERSION_MAX - 1;
    memcpy(out, etag, n);
    out[n] = '\0';
}

void s3_version_to_etag(const char *version, char out[ATTR_VERSION_MAX + 2])
{
    bool weak = strncmp(version, "W/\"", 3) == 0;
    (void)snprintf(out, ATTR_VERSION_MAX + 2, weak ? "%s" : "\"%s\"", version);
}

/* ---- attributes to headers ---- */

/* Can the xattr be a header of its own and come back as it was? */
static bool is_foreign(const struct xattr *x)
{
    if (strncmp(x->name, FOREIGN, FOREIGN_LEN) != 0 || !x->name[FOREIGN_LEN])
        return false;
    const char *name = x->name + FOREIGN_LEN, *v = x->value;
    for (const char *p = name; *p; p++)
        if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && !strchr("-_.", *p))
            return false;
    if (is_own_name(name) || (x->size > 0 && (v[0] == ' ' || v[x->size - 1] == ' ')))
        return false;
    for (size_t i = 0; i < x->size; i++)
        if (v[i] < 0x20 || v[i] > 0x7e || (v[i] == ' ' && v[i + 1] == ' '))
            return false;
    return x->size > 0;
}

static void add_xattrs(const struct attr *a, struct http_headers *h)
{
    CLEANUP_BUF struct buf text = BUF_INIT, b64 = BUF_INIT;
    json_t *all = json_object();
    for (size_t i = 0; i < a->n_xattrs; i++) {
        const struct xattr *x = &a->xattrs[i];
        if (attr_is_tag(x->name)) /* s3_tags.c */
            continue;
        if (is_foreign(x)) {
            CLEANUP_FREE char *name = xasprintf(META "%s", x->name + FOREIGN_LEN);
            http_headers_addf(h, name, "%.*s", (int)x->size, (const char *)x->value);
            continue;
        }
        buf_reset(&b64);
        base64_add(&b64, x->value, x->size);
        (void)json_object_set_new(all, x->name, json_string(buf_str(&b64)));
    }
    if (json_object_size(all) > 0) {
        char *json = json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
        if (json)
            url_encode(&text, json, strlen(json), false);
        free(json);
        http_headers_add(h, META "xattr", buf_str(&text));
    }
    json_decref(all);
}

static mode_t type_bits(const struct attr *a, enum s3_meta_as as)
{
    if (as == S3_META_DIR)
        return S_IFDIR;
    return a->kind == ATTR_SYMLINK ? S_IFLNK : S_IFREG;
}

static void add_posix(const struct attr *a, enum s3_meta_as as, struct http_headers *h)
{
    char t[40];
    bool link =
        a->kind == ATTR_SYMLINK && as == S3_META_OBJECT; /* only the mode tells that it is one */
    unsigned mode = (a->known & ATTR_HAS_MODE) ? a->mode & 07777 : 0777;
    if ((a->known & ATTR_HAS_MODE) || link)
        http_headers_addf(h, META "mode", "%u", (unsigned)type_bits(a, as) | mode);
    if (a->known & ATTR_HAS_UID)
        http_headers_addf(h, META "uid", "%u", (unsigned)a->uid);
    if (a->known & ATTR_HAS_GID)
        http_headers_addf(h, META "gid", "%u", (unsigned)a->gid);
    if (a->known & ATTR_HAS_MTIME) {
        date_format_unix(a->mtime, t);
        http_headers_add(h, META "mtime", t);
    }
    if (a->known & ATTR_HAS_ATIME) {
        date_format_unix(a->atime, t);
        http_headers_add(h, META "atime", t);
    }
    if (a->known & ATTR_HAS_XATTRS)
        add_xattrs(a, h);
}

static bool is_header_value(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || (unsigned char)*s > 0x7e)
            return false;
    return true;
}

int s3_meta_to_headers(const struct attr *a, enum s3_meta_as as, struct err *err,
                       struct http_headers *h)
{
    size_t from = h->n, size = 0;
    const char *type = as == S3_META_DIR ? DIR_TYPE : a ? a->content_type : NULL;
    if (type && *type && !is_header_value(type))
        return err_set(err, EINVAL, "the content type is not printable ASCII");
    if (a)
        add_posix(a, as, h);
    for (size_t i = from; i < h->n; i++)
        size += strlen(h->v[i].name) - META_LEN + strlen(h->v[i].value);
    if (size > S3_META_MAX)
        return err_set(err, E2BIG, "metadata of %zu bytes: S3 keeps at most %u", size, S3_META_MAX);
    if (type && *type)
        http_headers_add(h, "content-type", type);
    return 0;
}

/* ---- headers to attributes ---- */

static bool parse_number(const char *s, uint64_t max, uint64_t *ret)
{
    if (!isdigit((unsigned char)*s))
        return false;
    errno = 0;
    char *end;
    unsigned long long v = strtoull(s, &end, 10);
    if (errno || *end || v > max)
        return false;
    *ret = v;
    return true;
}

static void take_mode(struct attr *a, const char *s)
{
    uint64_t v;
    if (!parse_number(s, UINT32_MAX, &v))
        return;
    a->mode = (uint32_t)v & 07777;
    a->known |= ATTR_HAS_MODE;
    if (S_ISLNK((mode_t)v) && a->kind == ATTR_FILE)
        a->kind = ATTR_SYMLINK;
}

static void take_xattrs(struct attr *a, const char *s)
{
    CLEANUP_BUF struct buf text = BUF_INIT, value = BUF_INIT;
    json_t *all = NULL, *v;
    const char *name;
    if (url_decode(&text, s, strlen(s)))
        all = json_loadb(buf_str(&text), text.len, JSON_REJECT_DUPLICATES, NULL);
    json_object_foreach(all, name, v)
    {
        const char *b64 = json_string_value(v);
        buf_reset(&value);
        if (b64 && *name && !attr_is_tag(name) && base64_decode(&value, b64, strlen(b64)))
            attr_xattr_set(a, name, value.len ? value.data : "", value.len);
    }
    json_decref(all);
}

static void take_foreign(struct attr *a, const char *name, const char *value)
{
    if (is_own_name(name) || !*name)
        return;
    CLEANUP_FREE char *full = xasprintf(FOREIGN "%s", name);
    attr_xattr_set(a, full, value, strlen(value));
}

static void take_one(struct attr *a, const char *name, const char *value)
{
    uint64_t v;
    if (strcmp(name, "mode") == 0) {
        take_mode(a, value);
    } else if (strcmp(name, "uid") == 0 && parse_number(value, UINT32_MAX - 1, &v)) {
        a->uid = (uid_t)v;
        a->known |= ATTR_HAS_UID;
    } else if (strcmp(name, "gid") == 0 && parse_number(value, UINT32_MAX - 1, &v)) {
        a->gid = (gid_t)v;
        a->known |= ATTR_HAS_GID;
    } else if (strcmp(name, "mtime") == 0 && date_parse_unix(value, &a->mtime)) {
        a->known |= ATTR_HAS_MTIME;
    } else if (strcmp(name, "atime") == 0 && date_parse_unix(value, &a->atime)) {
        a->known |= ATTR_HAS_ATIME;
    } else if (strcmp(name, "xattr") == 0) {
        take_xattrs(a, value);
    } else {
        take_foreign(a, name, value);
    }
}

void s3_meta_from_headers(const struct http_headers *h, bool posix, struct attr *a)
{
    const char *type = http_headers_get(h, "content-type");
    if (type && *type) {
        free(a->content_type);
        a->content_type = xstrdup(type);
    }
    for (size_t i = 0; posix && i < h->n; i++)
        if (strncmp(h->v[i].name, META, META_LEN) == 0)
            take_one(a, h->v[i].name + META_LEN, h->v[i].value);
    a->known |= ATTR_META | (a->n_xattrs ? (unsigned)ATTR_HAS_XATTRS : 0);
}

void s3_attr_from_reply(const struct http_res *res, uint64_t total, bool posix, struct attr *ret)
{
    struct attr a = ATTR_INIT;
    time_t t;
    const char *etag = http_headers_get(&res->headers, "etag");
    const char *date = http_headers_get(&res->headers, "last-modified");
    a.kind = ATTR_FILE;
    a.size = total;
    if (etag)
        s3_etag_to_version(etag, a.version);
    if (date && date_parse_http(date, &t)) {
        a.mtime = (struct timespec){.tv_sec = t};
        const char *said = http_headers_get(&res->headers, "date");
        time_t now;
        if (said && date_parse_http(said, &now) && now > t)
            a.age_ms = (uint64_t)(now - t) * 1000;
    }
    s3_meta_from_headers(&res->headers, posix, &a);
    *ret = a;
}

void s3_attr_written(const struct http_res *res, const struct attr *given, uint64_t size,
                     const char *etag, bool posix, struct attr *ret)
{
    struct attr a = ATTR_INIT;
    time_t t;
    const char *date = http_headers_get(&res->headers, "date");
    if (given)
        attr_copy(&a, given);
    attr_tags_stored(&a);
    if (!posix)
        a.known = 0;
    a.known |= ATTR_META;
    if (!a.kind)
        a.kind = ATTR_FILE;
    a.size = size;
    a.version[0] = '\0';
    if (etag)
        s3_etag_to_version(etag, a.version);
    if (!(a.known & ATTR_HAS_MTIME))
        a.mtime = date && date_parse_http(date, &t) ? (struct timespec){.tv_sec = t} : clock_wall();
    *ret = a;
}

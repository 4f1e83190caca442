/* SPDX-License-Identifier: MIT
 * flat_meta.c: attributes <-> metadata, in the keys of s3fs; rclone's, which have the same names, are read as well.
 *
 *   mode    decimal st_mode with the type bits (written), with or without them (read); rclone: octal, with them
 *   uid gid decimal
 *   mtime atime   seconds since 1970 with fraction; rclone's atime: RFC 3339
 *   xattr   URL-encoded JSON, name -> base64 of the value
 *   NAME    any other: the xattr user.meta.NAME, so that foreign metadata survives
 * Pure functions. Threads: any. */
#include "backends/flat.h"

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

#define FOREIGN "user.meta."
#define FOREIGN_LEN (sizeof(FOREIGN) - 1)
#define ST_MODE_MAX (S_IFMT | 07777)

static const char *const own_names[] = {"mode", "uid", "gid", "mtime", "atime", "ctime", "xattr"};

bool flat_meta_is_own(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(own_names); i++)
        if (strcmp(name, own_names[i]) == 0)
            return true;
    return false;
}

/* ---- ETag ---- */

void flat_version_of_etag(const char *etag, char out[ATTR_VERSION_MAX])
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

void flat_etag_of_version(const char *version, char out[ATTR_VERSION_MAX + 2])
{
    bool weak = strncmp(version, "W/\"", 3) == 0;
    (void)snprintf(out, ATTR_VERSION_MAX + 2, weak ? "%s" : "\"%s\"", version);
}

/* ---- attributes to metadata ---- */

/* Can the xattr be a header of its own and come back as it was? */
static bool is_foreign(const struct xattr *x, const struct flat_meta_rules *rules)
{
    if (strncmp(x->name, FOREIGN, FOREIGN_LEN) != 0 || !x->name[FOREIGN_LEN])
        return false;
    const char *name = x->name + FOREIGN_LEN, *v = x->value;
    if (rules->identifiers && isdigit((unsigned char)*name))
        return false;
    for (const char *p = name; *p; p++)
        if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && !strchr(rules->punct, *p))
            return false;
    if (flat_meta_is_own(name) || (x->size > 0 && (v[0] == ' ' || v[x->size - 1] == ' ')))
        return false;
    for (size_t i = 0; i < x->size; i++)
        if (v[i] < 0x20 || v[i] > 0x7e || (v[i] == ' ' && v[i + 1] == ' '))
            return false;
    return x->size > 0;
}

static void add_one(const struct flat_meta_rules *rules, const char *name, const char *value,
                    struct http_headers *h)
{
    CLEANUP_FREE char *full = xasprintf("%s%s", rules->head, name);
    http_headers_add(h, full, value);
}

static void add_number(const struct flat_meta_rules *rules, const char *name, unsigned value,
                       struct http_headers *h)
{
    char text[16];
    (void)snprintf(text, sizeof(text), "%u", value);
    add_one(rules, name, text, h);
}

static void add_xattrs(const struct attr *a, const struct flat_meta_rules *rules, struct http_headers *h)
{
    CLEANUP_BUF struct buf text = BUF_INIT, b64 = BUF_INIT;
    json_t *all = json_object();
    for (size_t i = 0; i < a->n_xattrs; i++) {
        const struct xattr *x = &a->xattrs[i];
        if (rules->tags && attr_is_tag(x->name))
            continue;
        if (is_foreign(x, rules)) {
            CLEANUP_FREE char *name = xasprintf("%s%s", rules->head, x->name + FOREIGN_LEN);
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
        add_one(rules, "xattr", buf_str(&text), h);
    }
    json_decref(all);
}

static mode_t type_bits(const struct attr *a, bool dir)
{
    if (dir)
        return S_IFDIR;
    return a->kind == ATTR_SYMLINK ? S_IFLNK : S_IFREG;
}

static void add_posix(const struct attr *a, bool dir, const struct flat_meta_rules *rules,
                      struct http_headers *h)
{
    char t[40];
    bool link =
        a->kind == ATTR_SYMLINK && !dir; /* only the mode tells that it is one */
    unsigned mode = (a->known & ATTR_HAS_MODE) ? a->mode & 07777 : 0777;
    if ((a->known & ATTR_HAS_MODE) || link)
        add_number(rules, "mode", (unsigned)type_bits(a, dir) | mode, h);
    if (a->known & ATTR_HAS_UID)
        add_number(rules, "uid", (unsigned)a->uid, h);
    if (a->known & ATTR_HAS_GID)
        add_number(rules, "gid", (unsigned)a->gid, h);
    if (a->known & ATTR_HAS_MTIME) {
        date_format_unix(a->mtime, t);
        add_one(rules, "mtime", t, h);
    }
    if (a->known & ATTR_HAS_ATIME) {
        date_format_unix(a->atime, t);
        add_one(rules, "atime", t, h);
    }
    if (a->known & ATTR_HAS_XATTRS)
        add_xattrs(a, rules, h);
}

static bool is_header_value(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || (unsigned char)*s > 0x7e)
            return false;
    return true;
}

static int check_bytes(const struct flat_meta_rules *rules, const struct http_headers *h, size_t from, size_t head,
                       struct err *err)
{
    size_t size = 0;
    for (size_t i = from; i < h->n; i++)
        size += strlen(h->v[i].name) - head + strlen(h->v[i].value);
    if (size <= rules->max)
        return 0;
    return err_set(err, E2BIG, "metadata of %zu bytes: %s keeps at most %zu", size, rules->title, rules->max);
}

int flat_meta_write(const struct attr *a, bool dir, const struct flat_meta_rules *rules, struct err *err,
                    struct http_headers *h)
{
    size_t from = h->n;
    const char *type = dir ? "application/x-directory" : a ? a->content_type : NULL;
    if (type && *type && !is_header_value(type))
        return err_set(err, EINVAL, "the content type is not printable ASCII");
    if (a)
        add_posix(a, dir, rules, h);
    int r = check_bytes(rules, h, from, strlen(rules->head), err);
    if (r < 0)
        return r;
    if (type && *type)
        http_headers_add(h, "content-type", type);
    return 0;
}

int flat_meta_check(const struct attr *a, const struct flat_meta_rules *rules, bool whole_names, struct err *err)
{
    struct http_headers h = {0};
    struct attr plain = *a;
    plain.content_type = NULL;
    int r = flat_meta_write(&plain, false, rules, err, &h);
    if (r == 0 && whole_names)
        r = check_bytes(rules, &h, 0, 0, err);
    http_headers_done(&h);
    return r;
}

/* ---- metadata to attributes ---- */

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

/* s3fs writes st_mode in decimal, `rclone --metadata` in octal: of a file or link that is more than any st_mode in decimal. */
static bool parse_mode(const char *s, uint64_t *ret)
{
    char *end;
    if (!parse_number(s, UINT32_MAX, ret))
        return false;
    if (*ret <= ST_MODE_MAX)
        return true;
    *ret = strtoull(s, &end, 8);
    return *end == '\0' && *ret <= ST_MODE_MAX;
}

static void take_mode(struct attr *a, const char *s)
{
    uint64_t v;
    if (!parse_mode(s, &v))
        return;
    a->mode = (uint32_t)v & 07777;
    a->known |= ATTR_HAS_MODE;
    if (S_ISLNK((mode_t)v) && a->kind == ATTR_FILE)
        a->kind = ATTR_SYMLINK;
}

static void take_xattrs(struct attr *a, const struct flat_meta_rules *rules, const char *s)
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
        if (b64 && *name && !(rules->tags && attr_is_tag(name)) && base64_decode(&value, b64, strlen(b64)))
            attr_xattr_set(a, name, value.len ? value.data : "", value.len);
    }
    json_decref(all);
}

static void take_foreign(struct attr *a, const char *name, const char *value)
{
    if (flat_meta_is_own(name) || !*name)
        return;
    CLEANUP_FREE char *full = xasprintf(FOREIGN "%s", name);
    attr_xattr_set(a, full, value, strlen(value));
}

static bool parse_time(const char *s, struct timespec *ret)
{
    return date_parse_unix(s, ret) || date_parse_iso(s, ret);
}

static void take_one(struct attr *a, const struct flat_meta_rules *rules, const char *name,
                     const char *value)
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
    } else if (strcmp(name, "mtime") == 0 && parse_time(value, &a->mtime)) {
        a->known |= ATTR_HAS_MTIME;
    } else if (strcmp(name, "atime") == 0 && parse_time(value, &a->atime)) {
        a->known |= ATTR_HAS_ATIME;
    } else if (strcmp(name, "xattr") == 0) {
        take_xattrs(a, rules, value);
    } else {
        take_foreign(a, name, value);
    }
}

void flat_meta_read(const struct http_headers *h, const struct flat_meta_rules *rules, bool posix,
                    struct attr *a)
{
    size_t n = strlen(rules->head);
    const char *type = http_headers_get(h, "content-type");
    if (type && *type) {
        free(a->content_type);
        a->content_type = xstrdup(type);
    }
    for (size_t i = 0; posix && i < h->n; i++)
        if (strncmp(h->v[i].name, rules->head, n) == 0)
            take_one(a, rules, h->v[i].name + n, h->v[i].value);
    a->known |= ATTR_META | (a->n_xattrs ? (unsigned)ATTR_HAS_XATTRS : 0);
}

/* ---- replies ---- */

void flat_reply_times(const struct http_res *res, struct attr *a)
{
    const char *date = http_headers_get(&res->headers, "last-modified");
    const char *said = http_headers_get(&res->headers, "date");
    time_t t, now;
    if (!date || !date_parse_http(date, &t))
        return;
    a->mtime = (struct timespec){.tv_sec = t};
    a->changed_s = t;
    if (said && date_parse_http(said, &now) && now > t)
        a->age_ms = (uint64_t)(now - t) * 1000;
}

void flat_attr_written(const struct http_res *res, const struct attr *given, uint64_t size,
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
        flat_version_of_etag(etag, a.version);
    struct timespec now = date && date_parse_http(date, &t) ? (struct timespec){.tv_sec = t} : clock_wall();
    if (!(a.known & ATTR_HAS_MTIME))
        a.mtime = now;
    a.changed_s = now.tv_sec; /* about; and just now */
    a.age_ms = 0;
    *ret = a;
}

void flat_make_dir_attr(struct attr *a)
{
    a->kind = ATTR_DIR;
    a->size = 0;
    a->version[0] = '\0';
}

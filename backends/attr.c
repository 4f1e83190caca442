/* SPDX-License-Identifier: MIT
 * attr.c: see attr.h. */
#include "backends/attr.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/crypto.h"
#include "base/url.h"

#include <jansson.h>

/* The jansson reference of a local. */
static void json_cleanup_(json_t **j)
{
    json_decref(*j);
    *j = NULL;
}

static void xattr_done(struct xattr *x)
{
    free(x->name);
    free(x->value);
    *x = (struct xattr){0};
}

void attr_done(struct attr *a)
{
    for (size_t i = 0; i < a->n_xattrs; i++)
        xattr_done(&a->xattrs[i]);
    free(a->xattrs);
    free(a->content_type);
    *a = ATTR_INIT;
}

static struct xattr *find_xattr(const struct attr *a, const char *name)
{
    for (size_t i = 0; i < a->n_xattrs; i++)
        if (strcmp(a->xattrs[i].name, name) == 0)
            return &a->xattrs[i];
    return NULL;
}

static void xattrs_copy(struct attr *to, const struct attr *from)
{
    for (size_t i = 0; i < from->n_xattrs; i++) {
        const struct xattr *x = &from->xattrs[i];
        attr_xattr_set(to, x->name, x->value, x->size);
        find_xattr(to, x->name)->remove = x->remove;
    }
}

void attr_copy(struct attr *to, const struct attr *from)
{
    *to = *from;
    to->content_type = from->content_type ? xstrdup(from->content_type) : NULL;
    to->xattrs = NULL;
    to->n_xattrs = 0;
    xattrs_copy(to, from);
    to->known = from->known; /* attr_xattr_set() may have added to it */
}

void attr_move(struct attr *to, struct attr *from)
{
    *to = *from;
    *from = ATTR_INIT;
}

const struct xattr *attr_xattr(const struct attr *a, const char *name)
{
    return find_xattr(a, name);
}

void attr_xattr_set(struct attr *a, const char *name, const void *value, size_t size)
{
    struct xattr *x = find_xattr(a, name);
    void *copy = xmalloc(size ? size : 1);
    if (size)
        memcpy(copy, value, size);
    if (!x) {
        a->xattrs = xrealloc(a->xattrs, (a->n_xattrs + 1) * sizeof(*a->xattrs));
        x = &a->xattrs[a->n_xattrs++];
        *x = (struct xattr){.name = xstrdup(name)};
    }
    free(x->value);
    x->value = copy;
    x->size = size;
    a->known |= ATTR_HAS_XATTRS;
}

void attr_xattr_edit(struct attr *change, const char *name, const void *value, size_t size)
{
    unsigned known = change->known;
    attr_xattr_set(change, name, value, size);
    find_xattr(change, name)->remove = !value;
    change->known = known | ATTR_XATTR_EDITS;
}

bool attr_xattr_remove(struct attr *a, const char *name)
{
    struct xattr *x = find_xattr(a, name);
    if (!x)
        return false;
    xattr_done(x);
    *x = a->xattrs[--a->n_xattrs]; /* order has no meaning */
    return true;
}

bool attr_is_tag(const char *name)
{
    size_t n = sizeof(ATTR_TAG) - 1;
    return strncmp(name, ATTR_TAG, n) == 0 && name[n];
}

void attr_tags_stored(struct attr *a)
{
    if (!(a->known & ATTR_HAS_TAGS))
        return;
    for (size_t i = a->n_xattrs; i-- > 0;) {
        if (!attr_is_tag(a->xattrs[i].name))
            continue;
        xattr_done(&a->xattrs[i]);
        a->xattrs[i] = a->xattrs[--a->n_xattrs];
    }
    a->known &= ~(unsigned)ATTR_HAS_TAGS;
    a->tags = ATTR_TAGS_SOME;
}

static void edit_xattrs(struct attr *a, const struct attr *change)
{
    for (size_t i = 0; i < change->n_xattrs; i++) {
        const struct xattr *x = &change->xattrs[i];
        if (x->remove)
            (void)attr_xattr_remove(a, x->name);
        else
            attr_xattr_set(a, x->name, x->value, x->size);
    }
    a->known |= ATTR_HAS_XATTRS;
}

void attr_apply(struct attr *a, const struct attr *change)
{
    if (change->known & ATTR_HAS_MODE)
        a->mode = change->mode & 07777;
    if (change->known & ATTR_HAS_UID)
        a->uid = change->uid;
    if (change->known & ATTR_HAS_GID)
        a->gid = change->gid;
    if (change->known & ATTR_HAS_MTIME)
        a->mtime = change->mtime;
    if (change->known & ATTR_HAS_ATIME)
        a->atime = change->atime;
    if (change->known & ATTR_XATTR_EDITS) {
        edit_xattrs(a, change);
    } else if (change->known & ATTR_HAS_XATTRS) {
        for (size_t i = 0; i < a->n_xattrs; i++)
            xattr_done(&a->xattrs[i]);
        a->n_xattrs = 0;
        xattrs_copy(a, change);
    }
    a->known |= change->known & ~(unsigned)(ATTR_META | ATTR_XATTR_EDITS);
}

/* ---- JSON: bytes that need not be UTF-8 are percent-encoded ---- */

static json_t *json_bytes(const char *s)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    url_encode(&b, s, strlen(s), true);
    return json_string(buf_str(&b));
}

static json_t *json_time(struct timespec t)
{
    return json_pack("[I, I]", (json_int_t)t.tv_sec, (json_int_t)t.tv_nsec);
}

static json_t *json_xattrs(const struct attr *a)
{
    json_t *all = json_object();
    for (size_t i = 0; i < a->n_xattrs; i++) {
        CLEANUP_BUF struct buf name = BUF_INIT, value = BUF_INIT;
        url_encode(&name, a->xattrs[i].name, strlen(a->xattrs[i].name), true);
        base64_add(&value, a->xattrs[i].value, a->xattrs[i].size);
        json_object_set_new(all, buf_str(&name), json_string(buf_str(&value)));
    }
    return all;
}

char *attr_to_json(const struct attr *a)
{
    __attribute__((cleanup(json_cleanup_))) json_t *o = json_object();
    json_object_set_new(o, "kind", json_integer((json_int_t)a->kind));
    json_object_set_new(o, "known", json_integer((json_int_t)a->known));
    json_object_set_new(o, "size", json_integer((json_int_t)a->size));
    json_object_set_new(o, "mtime", json_time(a->mtime));
    if (a->known & ATTR_HAS_MODE)
        json_object_set_new(o, "mode", json_integer((json_int_t)a->mode));
    if (a->known & ATTR_HAS_UID)
        json_object_set_new(o, "uid", json_integer((json_int_t)a->uid));
    if (a->known & ATTR_HAS_GID)
        json_object_set_new(o, "gid", json_integer((json_int_t)a->gid));
    if (a->known & ATTR_HAS_ATIME)
        json_object_set_new(o, "atime", json_time(a->atime));
    if (a->version[0])
        json_object_set_new(o, "version", json_bytes(a->version));
    if (a->content_type)
        json_object_set_new(o, "type", json_bytes(a->content_type));
    if (a->n_xattrs)
        json_object_set_new(o, "xattrs", json_xattrs(a));
    return json_dumps(o, JSON_COMPACT);
}

/* A value that is absent leaves *ret; one of another type or range is false. */
static bool get_int(const json_t *o, const char *name, int64_t max, int64_t *ret)
{
    const json_t *v = json_object_get(o, name);
    if (!v)
        return true;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > max)
        return false;
    *ret = json_integer_value(v);
    return true;
}

static bool get_time(const json_t *o, const char *name, struct timespec *ret)
{
    const json_t *v = json_object_get(o, name);
    if (!v)
        return true;
    const json_t *sec = json_array_get(v, 0), *nsec = json_array_get(v, 1);
    if (!json_is_integer(sec) || !json_is_integer(nsec) || json_integer_value(nsec) < 0 ||
        json_integer_value(nsec) > 999999999)
        return false;
    ret->tv_sec = (time_t)json_integer_value(sec);
    ret->tv_nsec = (long)json_integer_value(nsec);
    return true;
}

/* Gives the decoded text of a string value in b; false when it is not such a string. */
static bool get_bytes(const json_t *v, struct buf *b)
{
    return json_is_string(v) && url_decode(b, json_string_value(v), json_string_length(v));
}

static bool get_texts(const json_t *o, struct attr *a)
{
    const json_t *version = json_object_get(o, "version"), *type = json_object_get(o, "type");
    if (version) {
        CLEANUP_BUF struct buf b = BUF_INIT;
        if (!get_bytes(version, &b) || b.len >= sizeof(a->version))
            return false;
        memcpy(a->version, buf_str(&b), b.len + 1);
    }
    if (type) {
        CLEANUP_BUF struct buf b = BUF_INIT;
        if (!get_bytes(type, &b))
            return false;
        a->content_type = xstrdup(buf_str(&b));
    }
    return true;
}

static bool get_xattrs(json_t *o, struct attr *a)
{
    json_t *all = json_object_get(o, "xattrs");
    if (!all)
        return true;
    if (!json_is_object(all))
        return false;
    const char *key;
    json_t *v;
    json_object_foreach(all, key, v)
    {
        CLEANUP_BUF struct buf name = BUF_INIT, value = BUF_INIT;
        if (!url_decode(&name, key, strlen(key)) || !json_is_string(v) ||
            !base64_decode(&value, json_string_value(v), json_string_length(v)))
            return false;
        attr_xattr_set(a, buf_str(&name), value.data, value.len);
    }
    return true;
}

bool attr_from_json(const char *text, struct attr *ret)
{
    __attribute__((cleanup(json_cleanup_))) json_t *o =
        json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int64_t kind = 0, known = 0, size = 0, mode = 0, uid = 0, gid = 0;

    if (!json_is_object(o) || !get_int(o, "kind", ATTR_SYMLINK, &kind) ||
        !get_int(o, "known", 0xffff, &known) || !get_int(o, "size", INT64_MAX, &size) ||
        !get_int(o, "mode", 07777, &mode) || !get_int(o, "uid", UINT32_MAX, &uid) ||
        !get_int(o, "gid", UINT32_MAX, &gid) || !get_time(o, "mtime", &a.mtime) ||
        !get_time(o, "atime", &a.atime) || !get_texts(o, &a) || !get_xattrs(o, &a))
        return false;
    a.kind = (enum attr_kind)kind;
    a.known = (unsigned)known;
    a.size = (uint64_t)size;
    a.mode = (uint32_t)mode;
    a.uid = (uid_t)uid;
    a.gid = (gid_t)gid;
    attr_move(ret, &a);
    return true;
}

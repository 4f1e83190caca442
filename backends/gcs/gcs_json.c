/* SPDX-License-Identifier: MIT
 * gcs_json.c: object resources and listings. Replies are hostile: every field is checked for its type, what
 * must be there and is not makes the whole reply unusable (-EBADMSG). Pure functions. Threads: any. */
#include "backends/gcs/gcs.h"

#include "base/cleanup.h"
#include "base/date.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "x-goog-meta-"

const struct flat_meta_rules gcs_meta_rules = {
    .head = HEAD, .punct = "-_.", .max = GCS_META_MAX, .title = "Cloud Storage"};

/* 64-bit numbers are strings in this API. */
static bool take_number(const json_t *o, const char *name, uint64_t *ret)
{
    const char *s = json_string_value(json_object_get(o, name));
    char *end;
    if (!s || *s < '0' || *s > '9')
        return false;
    errno = 0;
    *ret = strtoull(s, &end, 10);
    return errno == 0 && *end == '\0';
}

static void take_text(const json_t *o, const char *name, char *out, size_t size)
{
    const char *s = json_string_value(json_object_get(o, name));
    (void)snprintf(out, size, "%s", s && strlen(s) < size ? s : "");
}

/* metadata and contentType as headers. */
static void take_meta(const json_t *o, struct http_headers *h)
{
    const char *type = json_string_value(json_object_get(o, "contentType"));
    json_t *meta = json_object_get(o, "metadata"), *v;
    const char *name;
    if (type && *type)
        http_headers_add(h, "content-type", type);
    json_object_foreach(meta, name, v)
    {
        CLEANUP_FREE char *full = xasprintf(HEAD "%s", name);
        if (json_is_string(v))
            http_headers_add(h, full, json_string_value(v));
    }
}

/* Name, generation, size and time: what a listing and a resource have in common. */
static int take_item(const json_t *o, struct flat_item *i)
{
    const char *name = json_string_value(json_object_get(o, "name"));
    char time[64];
    take_text(o, "generation", i->etag, sizeof(i->etag));
    take_text(o, "timeCreated", time, sizeof(time));
    if (!name || !*name || !gcs_is_generation(i->etag) || !take_number(o, "size", &i->size))
        return -EBADMSG;
    if (!date_parse_iso(time, &i->mtime))
        i->mtime = (struct timespec){0};
    i->mtime.tv_nsec = 0;
    i->object = xstrdup(name);
    i->has_meta = true;
    take_meta(o, &i->meta);
    return 0;
}

int gcs_json_object(const json_t *o, bool posix, struct gcs_object *ret)
{
    struct flat_item i = {0};
    struct gcs_object g = {0};
    char time[64];
    take_text(o, "timeCreated", time, sizeof(time));
    int r = json_is_object(o) ? take_item(o, &i) : -EBADMSG;
    if (r == 0) {
        g.name = take_ptr(&i.object);
        g.attr = (struct attr){.kind = ATTR_FILE, .size = i.size, .mtime = i.mtime};
        (void)date_parse_iso(time, &g.created);
        memcpy(g.attr.version, i.etag, sizeof(g.attr.version));
        flat_meta_read(&i.meta, &gcs_meta_rules, posix, &g.attr);
        take_text(o, "metageneration", g.metageneration, sizeof(g.metageneration));
        take_text(o, "crc32c", g.crc32c, sizeof(g.crc32c));
        *ret = g;
    }
    http_headers_done(&i.meta);
    return r;
}

void gcs_object_done(struct gcs_object *o)
{
    free(o->name);
    attr_done(&o->attr);
    *o = (struct gcs_object){0};
}

/* ---- listings ---- */

static int add_items(const json_t *items, struct flat_result *l)
{
    size_t i;
    json_t *v;
    if (items && !json_is_array(items))
        return -EBADMSG;
    json_array_foreach(items, i, v)
    {
        int r = take_item(v, flat_result_add(l, false));
        if (r < 0)
            return r;
    }
    return 0;
}

static int add_prefixes(const json_t *prefixes, struct flat_result *l)
{
    size_t i;
    json_t *v;
    if (prefixes && !json_is_array(prefixes))
        return -EBADMSG;
    json_array_foreach(prefixes, i, v)
    {
        const char *name = json_string_value(v);
        if (!name || !*name)
            return -EBADMSG;
        flat_result_add(l, true)->object = xstrdup(name);
    }
    return 0;
}

int gcs_json_list(const char *data, size_t len, struct flat_result *ret)
{
    struct flat_result l = {0};
    json_t *o = json_loadb(data, len, JSON_REJECT_DUPLICATES, NULL);
    const char *token = json_string_value(json_object_get(o, "nextPageToken"));
    int r = json_is_object(o) ? add_items(json_object_get(o, "items"), &l) : -EBADMSG;
    if (r == 0)
        r = add_prefixes(json_object_get(o, "prefixes"), &l);
    l.truncated = token && *token;
    l.token = l.truncated ? xstrdup(token) : NULL;
    json_decref(o);
    if (r < 0)
        flat_result_done(&l);
    else
        *ret = l;
    return r;
}

/* ---- writing ---- */

int gcs_json_meta(const struct attr *a, bool dir, struct err *err, json_t *to)
{
    struct http_headers h = {0};
    size_t n = strlen(HEAD);
    int r = flat_meta_write(a, dir, &gcs_meta_rules, err, &h);
    json_t *meta = json_object();
    for (size_t i = 0; r == 0 && i < h.n; i++) {
        if (strncmp(h.v[i].name, HEAD, n) == 0)
            (void)json_object_set_new(meta, h.v[i].name + n, json_string(h.v[i].value));
        else
            (void)json_object_set_new(to, "contentType", json_string(h.v[i].value));
    }
    if (r == 0 && json_object_size(meta) > 0)
        (void)json_object_set(to, "metadata", meta);
    json_decref(meta);
    http_headers_done(&h);
    return r;
}

/* SPDX-License-Identifier: MIT
 * azure_xml.c: listings (EnumerationResults). Elements that are not known are skipped; a blob without a name,
 * length or ETag makes the whole reply unusable (-EBADMSG). Pure. Threads: any. */
#include "backends/azure/azure.h"

#include "base/cleanup.h"
#include "base/date.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* EnumerationResults 1 / Blobs 2 / Blob or BlobPrefix 3 / Name, Properties, Metadata 4 / ... 5 */
struct parse {
    struct flat_result *ret;
    struct flat_item *now; /* being filled */
    bool in_properties, in_metadata, has_size, root_ok, bad;
};

static void on_open(void *arg, int depth, const char *name)
{
    struct parse *p = arg;
    if (depth == 1)
        p->root_ok = strcmp(name, "EnumerationResults") == 0;
    else if (depth == 3 && strcmp(name, "Blob") == 0)
        p->now = flat_result_add(p->ret, false), p->now->has_meta = true, p->has_size = false;
    else if (depth == 3 && strcmp(name, "BlobPrefix") == 0)
        p->now = flat_result_add(p->ret, true);
    else if (depth == 4 && p->now) {
        p->in_properties = strcmp(name, "Properties") == 0;
        p->in_metadata = strcmp(name, "Metadata") == 0;
    }
}

static void take_property(struct parse *p, const char *name, const char *text)
{
    struct flat_item *i = p->now;
    char *end;
    time_t t;
    if (strcmp(name, "Content-Length") == 0) {
        errno = 0;
        i->size = strtoull(text, &end, 10);
        p->has_size = !errno && !*end && *text >= '0' && *text <= '9';
    } else if (strcmp(name, "Etag") == 0) {
        flat_version_of_etag(text, i->etag);
    } else if (strcmp(name, "Last-Modified") == 0 && date_parse_http(text, &t)) {
        i->mtime.tv_sec = t;
    } else if (strcmp(name, "Content-Type") == 0) {
        http_headers_add(&i->meta, "content-type", text);
    }
}

static void take_metadata(struct parse *p, const char *name, const char *text)
{
    CLEANUP_FREE char *full = xasprintf(AZURE_META "%s", name);
    http_headers_add(&p->now->meta, full, text);
}

static void on_close(void *arg, int depth, const char *name, const char *text, size_t len)
{
    struct parse *p = arg;
    if (depth == 2 && strcmp(name, "NextMarker") == 0 && len > 0) {
        free(p->ret->token);
        p->ret->token = xstrndup(text, len);
        p->ret->truncated = true;
    } else if (depth == 3 && p->now) {
        p->bad |= !p->now->object || (!p->now->is_prefix && (!p->has_size || !p->now->etag[0]));
        p->now = NULL;
    } else if (depth == 4 && p->now && strcmp(name, "Name") == 0 && !p->now->object && len > 0) {
        p->now->object = xstrndup(text, len);
    } else if (depth == 5 && p->now && p->in_properties) {
        take_property(p, name, text);
    } else if (depth == 5 && p->now && p->in_metadata) {
        take_metadata(p, name, text);
    }
}

int azure_xml_list(const char *data, size_t len, struct flat_result *ret)
{
    static const struct xml_events events = {on_open, on_close};
    struct flat_result l = {0};
    struct parse p = {.ret = &l};
    /* The service begins its XML with a byte order mark. */
    size_t skip = len >= 3 && memcmp(data, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    int r = xml_parse(data + skip, len - skip, &events, &p);
    if (r == 0 && (!p.root_ok || p.bad))
        r = -EBADMSG;
    if (r < 0)
        flat_result_done(&l);
    else
        *ret = l;
    return r;
}

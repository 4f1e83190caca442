/* SPDX-License-Identifier: MIT
 * store_util.c: the end of store.h: uploads that a store begins by itself; helpers for listing pages, kept versions, read
 * results, sources. */
#include "backends/store.h"

#include "base/cleanup.h"
#include "base/sys.h"
#include "base/url.h"

#include <assert.h>

void list_page_done(struct list_page *p)
{
    for (size_t i = 0; i < p->count; i++) {
        free(p->entries[i].key);
        attr_done(&p->entries[i].attr);
    }
    free(p->entries);
    free(p->cursor);
    attr_done(&p->dir_attr);
    *p = LIST_PAGE_INIT;
}

/* The array grows at the counts 0, 16, 32, 64 ...: its capacity needs no field of its own. */
struct list_entry *list_page_add(struct list_page *p, const char *key)
{
    size_t n = p->count;
    if (n == 0)
        p->entries = xrealloc(p->entries, 16 * sizeof(*p->entries));
    else if (n >= 16 && (n & (n - 1)) == 0)
        p->entries = xrealloc(p->entries, 2 * n * sizeof(*p->entries));
    struct list_entry *e = &p->entries[p->count++];
    *e = (struct list_entry){.key = xstrdup(key)};
    return e;
}

void version_page_done(struct version_page *p)
{
    for (size_t i = 0; i < p->count; i++) {
        free(p->v[i].id);
        attr_done(&p->v[i].attr);
    }
    free(p->v);
    free(p->cursor);
    *p = VERSION_PAGE_INIT;
}

struct kept_version *version_page_add(struct version_page *p, const char *id)
{
    if (p->count % 64 == 0)
        p->v = xrealloc(p->v, (p->count + 64) * sizeof(*p->v));
    struct kept_version *k = &p->v[p->count++];
    *k = (struct kept_version){.id = xstrdup(id)};
    return k;
}

bool kept_version_make(const char *id, const char *etag, char ret[ATTR_VERSION_MAX])
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    url_encode(&b, id, strlen(id), false);
    int n = snprintf(ret, ATTR_VERSION_MAX, "@%s %s", buf_str(&b), etag);
    return n > 0 && n < ATTR_VERSION_MAX;
}

bool kept_version_split(const char *version, char **ret_id, char ret_etag[ATTR_VERSION_MAX])
{
    const char *blank = version && version[0] == '@' ? strchr(version, ' ') : NULL;
    struct buf id = BUF_INIT;
    if (!blank || !url_decode(&id, version + 1, (size_t)(blank - version - 1))) {
        buf_done(&id);
        return false;
    }
    *ret_id = id.data ? buf_take(&id) : xstrdup("");
    (void)snprintf(ret_etag, ATTR_VERSION_MAX, "%s", blank + 1);
    return true;
}

void read_res_done(struct read_res *r)
{
    attr_done(&r->attr);
    *r = READ_RES_INIT;
}

static int mem_read_at(const struct source *s, uint64_t off, void *buf, size_t len)
{
    const struct source_mem *m = (const struct source_mem *)s;
    if (off > s->size || len > s->size - off)
        return -EINVAL;
    if (len)
        memcpy(buf, (const char *)m->data + off, len);
    return 0;
}

struct source_mem source_mem(const void *data, size_t len)
{
    return (struct source_mem){.base = {.read_at = mem_read_at, .size = len}, .data = data};
}

static int fd_read_at(const struct source *s, uint64_t off, void *buf, size_t len)
{
    const struct source_fd *f = (const struct source_fd *)s;
    if (off > s->size || len > s->size - off)
        return -EINVAL;
    ssize_t n = sys_pread(f->fd, buf, len, f->offset + off);
    if (n < 0)
        return (int)n;
    if ((size_t)n < len)
        return -EIO; /* the file is shorter than was said */
    return 0;
}

struct source_fd source_fd(int fd, uint64_t offset, uint64_t len)
{
    assert(fd >= 0);
    return (struct source_fd){
        .base = {.read_at = fd_read_at, .size = len}, .fd = fd, .offset = offset};
}

uint64_t store_size_max(const struct store *s)
{
    const struct store_limits *l = &s->limits;
    uint64_t put = l->put_max ? l->put_max : UINT64_MAX;
    if (!(s->caps & CAP_UPLOAD))
        return put;
    if (!l->parts_max || !l->part_max || l->part_max > UINT64_MAX / l->parts_max)
        return UINT64_MAX;
    uint64_t parts = l->part_max * l->parts_max;
    return parts > put ? parts : put;
}

int store_check_meta(const struct store *s, const struct attr *a, struct err *err)
{
    while (s->next)
        s = s->next; /* wrappers keep no attributes */
    return s->cls->check_meta ? s->cls->check_meta(s, a, err) : 0;
}

/* ---- uploads of the store's own ---- */

#define ABORT_MS 10000

void store_watch_uploads(struct store *s, const struct upload_watch *w)
{
    for (; s; s = s->next)
        s->watch = w;
}

void store_upload_begun(struct store *s, const char *key, const char *id, uint64_t size)
{
    if (s->watch)
        s->watch->begun(s->watch->arg, key, id, size);
}

void store_upload_ended(struct store *s, const char *key, const char *id, bool finished)
{
    struct op op;
    if (s->watch) {
        s->watch->ended(s->watch->arg, key, id, finished);
    } else if (!finished) {
        op_init(&op, "upload_abort", ABORT_MS);
        (void)store_upload_abort(s, &op, key, id);
    }
}

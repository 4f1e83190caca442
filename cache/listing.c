/* SPDX-License-Identifier: MIT
 * listing.c: see listing.h. Rows lie in blocks, one behind the other; what few rows have (extended
 * attributes, times of access) is a whole struct attr beside them. */
#include "cache/listing.h"

#include "base/buf.h"
#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK (16UL << 10)

struct listing_row {
    uint64_t size;
    int64_t mtime_s, listed;
    struct attr *extra;  /* or NULL: the whole truth */
    uint32_t mtime_ns;
    uint32_t known, mode, uid, gid;
    unsigned char kind;
    char text[];         /* name, version, content type ("": none), each with its NUL */
};

struct listing_block {
    struct listing_block *next;
    size_t used, size;
    _Alignas(8) char bytes[];
};

struct listing *listing_new(void)
{
    struct listing *l = xcalloc(1, sizeof(*l));
    atomic_init(&l->refs, 1);
    l->at_ns = clock_now_ns();
    l->bytes = sizeof(*l);
    return l;
}

struct listing *listing_ref(struct listing *l)
{
    atomic_fetch_add(&l->refs, 1);
    return l;
}

void listing_put(struct listing *l)
{
    if (!l || atomic_fetch_sub(&l->refs, 1) != 1)
        return;
    for (size_t i = 0; i < l->n; i++) {
        if (!l->v[i]->extra)
            continue;
        attr_done(l->v[i]->extra);
        free(l->v[i]->extra);
    }
    for (struct listing_block *b = l->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    strmap_done(&l->voided);
    free(l->v);
    free(l);
}

/* The first block is small: most directories are. */
static void *row_alloc(struct listing *l, size_t n)
{
    n = (n + 7) & ~(size_t)7;
    struct listing_block *b = l->blocks;
    if (!b || b->size - b->used < n) {
        size_t size = b ? BLOCK : BLOCK / 16;
        size = size < n ? n : size;
        b = xmalloc(sizeof(*b) + size);
        *b = (struct listing_block){.next = l->blocks, .size = size};
        l->blocks = b;
        l->bytes += sizeof(*b) + size;
    }
    b->used += n;
    return b->bytes + b->used - n;
}

static char *put_text(char *to, const char *s, size_t len)
{
    memcpy(to, s, len + 1);
    return to + len + 1;
}

void listing_add(struct listing *l, const char *name, const struct attr *a, time_t listed)
{
    if (l->n == l->cap) {
        l->bytes -= l->cap * sizeof(*l->v);
        l->cap = l->cap ? l->cap + l->cap / 2 : 16;
        l->v = xrealloc(l->v, l->cap * sizeof(*l->v));
        l->bytes += l->cap * sizeof(*l->v);
    }
    const char *type = a->content_type ? a->content_type : "";
    size_t n = strlen(name), v = strlen(a->version), t = strlen(type);
    struct listing_row *r = row_alloc(l, sizeof(*r) + n + v + t + 3);
    *r = (struct listing_row){.size = a->size,
                              .mtime_s = a->mtime.tv_sec,
                              .listed = listed,
                              .mtime_ns = (uint32_t)a->mtime.tv_nsec,
                              .known = a->known,
                              .mode = a->mode,
                              .uid = a->uid,
                              .gid = a->gid,
                              .kind = (unsigned char)a->kind};
    (void)put_text(put_text(put_text(r->text, name, n), a->version, v), type, t);
    if (a->n_xattrs || a->atime.tv_sec || a->atime.tv_nsec || (a->content_type && !*type)) {
        r->extra = xcalloc(1, sizeof(*r->extra));
        attr_copy(r->extra, a);
        l->bytes += sizeof(*r->extra);
        for (size_t i = 0; i < a->n_xattrs; i++)
            l->bytes += a->xattrs[i].size + strlen(a->xattrs[i].name) + sizeof(a->xattrs[i]);
    }
    l->v[l->n++] = r;
}

const char *listing_name(const struct listing *l, size_t i)
{
    return l->v[i]->text;
}

bool listing_is_dir(const struct listing *l, size_t i)
{
    return l->v[i]->kind == ATTR_DIR;
}

unsigned listing_known(const struct listing *l, size_t i)
{
    return l->v[i]->known;
}

time_t listing_listed(const struct listing *l, size_t i)
{
    return (time_t)l->v[i]->listed;
}

const char *listing_version(const struct listing *l, size_t i)
{
    return l->v[i]->text + strlen(l->v[i]->text) + 1;
}

void listing_get(const struct listing *l, size_t i, struct attr *ret)
{
    const struct listing_row *r = l->v[i];
    if (r->extra) {
        attr_copy(ret, r->extra);
        return;
    }
    const char *version = listing_version(l, i);
    size_t n = strlen(version);
    *ret = (struct attr){.kind = (enum attr_kind)r->kind,
                         .known = r->known,
                         .mode = r->mode,
                         .uid = r->uid,
                         .gid = r->gid,
                         .size = r->size,
                         .mtime = {.tv_sec = r->mtime_s, .tv_nsec = r->mtime_ns}};
    memcpy(ret->version, version, n + 1);
    if (version[n + 1])
        ret->content_type = xstrdup(version + n + 1);
}

int listing_compare(const char *a, bool a_dir, const char *b, bool b_dir)
{
    while (*a && *a == *b)
        a++, b++;
    unsigned char x = *a ? (unsigned char)*a : a_dir ? '/' : 0;
    unsigned char y = *b ? (unsigned char)*b : b_dir ? '/' : 0;
    if (x == '/' && y == '/') /* a name has no '/': both have ended */
        return 0;
    return (x > y) - (x < y);
}

size_t listing_from(const struct listing *l, const char *name, bool dir)
{
    size_t lo = 0, hi = l->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (listing_compare(listing_name(l, mid), listing_is_dir(l, mid), name, dir) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

long listing_find(const struct listing *l, const char *name, bool dir)
{
    size_t i = listing_from(l, name, dir);
    bool found = i < l->n && listing_is_dir(l, i) == dir && strcmp(listing_name(l, i), name) == 0;
    return found ? (long)i : -1;
}

static int by_key(const void *a, const void *b)
{
    const struct listing_row *x = *(struct listing_row *const *)a;
    const struct listing_row *y = *(struct listing_row *const *)b;
    return listing_compare(x->text, x->kind == ATTR_DIR, y->text, y->kind == ATTR_DIR);
}

void listing_sort(struct listing *l)
{
    if (l->n > 1)
        qsort(l->v, l->n, sizeof(*l->v), by_key);
}

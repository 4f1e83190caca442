/* SPDX-License-Identifier: MIT
 * web_list.c: see web_list.h. The cursor is "LISTING.TURN:LAST": the number of the listing and how often it
 * went on, in hex, and the last entry as it sorts (a directory with its '/'). A page takes directories off the shelf and puts them back: two pages
 * of one listing at once read a directory twice, and nobody waits. */
#include "backends/web/web_list.h"

#include "base/cleanup.h"
#include "base/name.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

struct web_name *web_names_add(struct web_names *a, const char *name, bool dir)
{
    if (a->n == a->cap) {
        a->cap = a->cap ? 2 * a->cap : 64;
        a->v = xrealloc(a->v, a->cap * sizeof(*a->v));
    }
    struct web_name *e = &a->v[a->n++];
    *e = (struct web_name){.name = dir ? xasprintf("%s/", name) : xstrdup(name)};
    return e;
}

static void name_done(struct web_name *e)
{
    free(e->name);
    free(e->version);
}

void web_names_cut(struct web_names *a, size_t n)
{
    while (a->n > n)
        name_done(&a->v[--a->n]);
}

void web_names_done(struct web_names *a)
{
    web_names_cut(a, 0);
    free(a->v);
    *a = (struct web_names){0};
}

/* How much is known, so that the better of two doubles stays. */
static int knowledge(const struct web_name *e)
{
    return e->has_size + e->has_mtime + (e->version != NULL);
}

static int compare(const void *a, const void *b)
{
    const struct web_name *x = a, *y = b;
    int c = strcmp(x->name, y->name);
    return c ? c : knowledge(y) - knowledge(x);
}

static int compare_to_key(const void *key, const void *e)
{
    return strcmp(key, ((const struct web_name *)e)->name);
}

static bool is_dir(const struct web_name *e)
{
    return e->name[strlen(e->name) - 1] == '/';
}

static bool dir_is_there(const struct web_names *a, const char *name)
{
    CLEANUP_FREE char *dir = xasprintf("%s/", name);
    return bsearch(dir, a->v, a->n, sizeof(*a->v), compare_to_key) != NULL;
}

void web_names_sort(struct web_names *a)
{
    if (a->n < 2)
        return;
    qsort(a->v, a->n, sizeof(*a->v), compare);
    size_t n = 1;
    for (size_t i = 1; i < a->n; i++) {
        if (strcmp(a->v[i].name, a->v[n - 1].name) == 0)
            name_done(&a->v[i]);
        else
            a->v[n++] = a->v[i];
    }
    a->n = n;
    bool *drop = xcalloc(n, sizeof(*drop)); /* first looked for, then dropped: bsearch needs them all */
    for (size_t i = 0; i < n; i++)
        drop[i] = !is_dir(&a->v[i]) && dir_is_there(a, a->v[i].name);
    size_t left = 0;
    for (size_t i = 0; i < n; i++) {
        if (drop[i])
            name_done(&a->v[i]);
        else
            a->v[left++] = a->v[i];
    }
    a->n = left;
    free(drop);
}

/* ---- shelf ---- */

void web_shelf_init(struct web_shelf *s)
{
    *s = (struct web_shelf){0};
    lock_init(&s->lock, LOCK_RANK_STORE, "web-shelf");
}

static void place_done(struct web_shelf_place *p)
{
    web_names_done(&p->names);
    free(p->dir);
    *p = (struct web_shelf_place){0};
}

void web_shelf_done(struct web_shelf *s)
{
    for (unsigned i = 0; i < WEB_SHELF; i++)
        place_done(&s->v[i]);
    lock_done(&s->lock);
}

static bool shelf_take(struct web_shelf *s, uint64_t listing, const char *dir, struct web_names *ret)
{
    LOCK_SCOPE(&s->lock);
    for (unsigned i = 0; i < WEB_SHELF; i++) {
        struct web_shelf_place *p = &s->v[i];
        if (!p->dir || p->listing != listing || strcmp(p->dir, dir) != 0)
            continue;
        *ret = p->names;
        p->names = (struct web_names){0};
        free(p->dir);
        *p = (struct web_shelf_place){0};
        return true;
    }
    return false;
}

/* Takes the names; the place used longest ago is given up. */
static void shelf_put(struct web_shelf *s, uint64_t listing, const char *dir, struct web_names *names)
{
    struct web_shelf_place fresh = {.names = *names, .dir = xstrdup(dir), .listing = listing};
    lock_acquire(&s->lock);
    struct web_shelf_place *oldest = &s->v[0];
    for (unsigned i = 1; i < WEB_SHELF; i++)
        if (s->v[i].used < oldest->used)
            oldest = &s->v[i];
    struct web_shelf_place old = *oldest;
    fresh.used = ++s->uses;
    *oldest = fresh;
    lock_release(&s->lock);
    *names = (struct web_names){0};
    place_done(&old);
}

/* ---- pages ---- */

struct paging {
    struct web_shelf *shelf;
    const struct web_lister *l;
    struct op *op;
    uint64_t listing, turn;
    const char *behind; /* only what sorts behind this full key; NULL: everything */
    bool recursive;
    size_t max;
    struct list_page *page;
    char *last; /* the last entry, as it sorts */
};

/* The first entry of `dir` that is wanted, or whose inside may be. */
static size_t first_wanted(const struct paging *p, const char *dir, const struct web_names *a)
{
    size_t low = 0, high = a->n, n = strlen(dir);
    if (!p->behind)
        return 0;
    int c = strncmp(dir, p->behind, n);
    if (c != 0)
        return c > 0 ? 0 : a->n;
    while (low < high) { /* entries below `behind` that are no prefix of it */
        size_t mid = low + (high - low) / 2;
        const char *name = a->v[mid].name, *rest = p->behind + n;
        bool around = is_dir(&a->v[mid]) && strncmp(name, rest, strlen(name)) == 0;
        if (around || strcmp(name, rest) > 0)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

static void emit(struct paging *p, const struct web_name *e, const char *full)
{
    bool dir = is_dir(e);
    CLEANUP_FREE char *key = xstrndup(full, strlen(full) - dir);
    struct list_entry *le = list_page_add(p->page, key);
    le->attr.kind = dir ? ATTR_DIR : ATTR_FILE;
    le->attr.mtime.tv_sec = e->mtime_s;
    if (dir)
        return;
    le->attr.size = e->size;
    if (e->version)
        (void)snprintf(le->attr.version, sizeof(le->attr.version), "%s", e->version);
    if (p->l->whole_truth && e->has_size && e->has_mtime)
        le->attr.known |= ATTR_META;
}

static int list_dir(struct paging *p, const char *dir, const char *filter, unsigned depth);

/* One entry, and in a recursive listing what is in it. 1: the page is full. */
static int list_name(struct paging *p, const char *dir, const struct web_name *e, unsigned depth)
{
    CLEANUP_FREE char *full = xasprintf("%s%s", dir, e->name);
    bool fresh = !p->behind || strcmp(full, p->behind) > 0;
    if (fresh && p->page->count == p->max)
        return 1;
    if (fresh) {
        emit(p, e, full);
        free(p->last);
        p->last = xstrdup(full);
    }
    return p->recursive && is_dir(e) ? list_dir(p, full, "", depth + 1) : 0;
}

static int list_dir(struct paging *p, const char *dir, const char *filter, unsigned depth)
{
    __attribute__((cleanup(web_names_done))) struct web_names names = {0};
    if (depth > WEB_DEPTH_MAX)
        return err_set(&p->op->err, ELOOP,
                       "list %s: more than %d levels: the server shows a directory in itself", dir,
                       WEB_DEPTH_MAX);
    int r = op_check(p->op);
    if (r == 0 && !shelf_take(p->shelf, p->listing, dir, &names))
        r = p->l->load(p->l->arg, p->op, p->listing, dir, &names);
    if (r == 1) /* later */
        return r;
    if (r == -ENOENT && depth > 0) { /* gone meanwhile */
        err_clear(&p->op->err);
        return 0;
    }
    size_t n = strlen(filter);
    for (size_t i = first_wanted(p, dir, &names); r == 0 && i < names.n; i++)
        if (strncmp(names.v[i].name, filter, n) == 0)
            r = list_name(p, dir, &names.v[i], depth);
    if (r == 1)
        shelf_put(p->shelf, p->listing, dir, &names);
    return r;
}

/* "LISTING.TURN:LAST". */
static int read_cursor(struct paging *p, const struct list_query *q)
{
    char *end;
    if (!q->cursor)
        return 0;
    errno = 0;
    p->listing = strtoull(q->cursor, &end, 16);
    if (*end == '.')
        p->turn = strtoull(end + 1, &end, 16) + 1;
    if (errno || *end != ':')
        return err_set(&p->op->err, EINVAL, "list %s: '%s' is no cursor of this store", q->prefix,
                       q->cursor);
    p->behind = end + 1;
    return 0;
}

static uint64_t next_listing(struct web_shelf *s)
{
    LOCK_SCOPE(&s->lock);
    return ++s->listings;
}

int web_list(struct web_shelf *shelf, const struct web_lister *l, struct op *op,
             const struct list_query *q, struct list_page *ret)
{
    const char *slash = strrchr(q->prefix, '/');
    size_t dir_len = slash ? (size_t)(slash + 1 - q->prefix) : 0;
    CLEANUP_FREE char *dir = xstrndup(q->prefix, dir_len);
    struct list_page page = LIST_PAGE_INIT;
    struct paging p = {.shelf = shelf,
                       .l = l,
                       .op = op,
                       .behind = q->after,
                       .recursive = q->recursive,
                       .max = q->max && q->max < WEB_PAGE_MAX ? q->max : WEB_PAGE_MAX,
                       .page = &page};
    int r = read_cursor(&p, q);
    if (r == 0 && !q->cursor)
        p.listing = next_listing(shelf);
    if (r == 0)
        r = list_dir(&p, dir, q->prefix + dir_len, 0);
    if (r == -ENOENT || r == -ENOTDIR) {
        err_clear(&op->err); /* nothing is there, as in any store of objects */
        list_page_done(&page);
        free(p.last);
        return 0;
    }
    if (r < 0) {
        list_page_done(&page);
    } else {
        page.dir_exists = !q->cursor && q->prefix[dir_len] == '\0';
        const char *last = p.last ? p.last : p.behind ? p.behind : "";
        page.cursor = r == 1 ? xasprintf("%" PRIx64 ".%" PRIx64 ":%s", p.listing, p.turn, last) : NULL;
        *ret = page;
    }
    free(p.last);
    return r < 0 ? r : 0;
}

/* SPDX-License-Identifier: MIT
 * dir.c: listings: staged files merged over pages of the store, or over a cached listing.
 *
 * Both streams are in key order, where a directory sorts as its name plus '/'. So an object "a" and the
 * directory "a" are not neighbours ("a", "a-b", "a/"): a stack holds the names of files that may still be
 * followed by a directory of that name: each is a prefix of the next, and one that is no prefix of the
 * entry at hand can be forgotten.
 * What is staged is looked at when the listing is opened: names made before that are shown, whether they
 * are stored meanwhile or not. Entries stay where they are once given, so positions are stable. */
#include "cache/volume_int.h"

#include "base/cleanup.h"
#include "base/clock.h"

#define CHUNK 256

struct chunk {
    struct volume_entry v[CHUNK];
};

struct local_entry {
    char *name;
    struct attr attr;
};

struct volume_dir {
    struct volume *v;
    char *path, *prefix;       /* "a/b", "a/b/"; the root: "", "" */
    struct listing *list;      /* what the store has; ours until it is whole, then shared */
    size_t at;                 /* of it, the first entry not merged yet */
    bool whole;                /* no page is missing */
    bool cached;               /* list came from the cache */
    bool keep;                 /* list is worth keeping */
    bool given;                /* the first page was asked for */
    uint64_t asked_ns;         /* when the newest page was asked for */
    char *cursor;
    uint64_t seq;
    struct local_entry *local; /* staged files, in order */
    size_t n_local, local_at;
    struct chunk **chunks;     /* the merged entries */
    size_t n;
    bool complete;
    const char **open_names;   /* the stack; borrowed from entries */
    size_t n_open, cap_open;
};

/* ---- staged files ---- */

static bool pick_child_locked(const struct vnode *n, const void *arg)
{
    const char *dir = arg;
    return n->dirty && path_below(n->path, dir) && !strchr(path_rest(n->path, dir), '/');
}

static int by_name(const void *a, const void *b)
{
    const struct local_entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static void collect_local(struct volume_dir *d)
{
    struct vnode **nodes = NULL;
    size_t count = vnode_collect(d->v, pick_child_locked, d->path, &nodes);
    d->local = xcalloc(count + 1, sizeof(*d->local));
    for (size_t i = 0; i < count; i++) {
        struct vnode *n = nodes[i];
        lock_acquire(&d->v->s.lock);
        if (path_below(n->path, d->path)) /* not renamed meanwhile */
            d->local[d->n_local].name = xstrdup(path_rest(n->path, d->path));
        lock_release(&d->v->s.lock);
        if (d->local[d->n_local].name)
            vnode_attr(n, &d->local[d->n_local++].attr);
        vnode_put(n);
    }
    free(nodes);
    if (d->n_local)
        qsort(d->local, d->n_local, sizeof(*d->local), by_name);
}

/* ---- merging ---- */

static struct volume_entry *entry_at(struct volume_dir *d, size_t i)
{
    return &d->chunks[i / CHUNK]->v[i % CHUNK];
}

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* Is there an object of the directory's name? Also keeps the stack. */
static bool shadows(struct volume_dir *d, const struct volume_entry *e, bool dir)
{
    while (d->n_open && !starts_with(e->name, d->open_names[d->n_open - 1]))
        d->n_open--;
    if (dir)
        return d->n_open && strcmp(d->open_names[d->n_open - 1], e->name) == 0;
    if (d->n_open == d->cap_open) {
        d->cap_open = d->cap_open ? d->cap_open * 2 : 8;
        d->open_names = xrealloc(d->open_names, d->cap_open * sizeof(*d->open_names));
    }
    d->open_names[d->n_open++] = e->name;
    return false;
}

static void emit(struct volume_dir *d, const char *name, const struct attr *a)
{
    if (d->n % CHUNK == 0) {
        size_t chunks = d->n / CHUNK;
        d->chunks = xrealloc(d->chunks, (chunks + 1) * sizeof(*d->chunks));
        d->chunks[chunks] = xcalloc(1, sizeof(struct chunk));
    }
    struct volume_entry *e = entry_at(d, d->n++);
    e->name = xstrdup(name);
    attr_copy(&e->attr, a);
    volume_complete(d->v, &e->attr);
    e->shadow = shadows(d, e, a->kind == ATTR_DIR);
}

static void emit_local(struct volume_dir *d)
{
    const struct local_entry *l = &d->local[d->local_at++];
    emit(d, l->name, &l->attr);
}

static void merge(struct volume_dir *d)
{
    for (; d->at < d->list->n; d->at++) {
        const struct meta_entry *e = &d->list->v[d->at];
        bool dir = e->attr.kind == ATTR_DIR, same = false;
        while (d->local_at < d->n_local) {
            int c = listing_compare(d->local[d->local_at].name, false, e->name, dir);
            if (c > 0)
                break;
            same = same || c == 0;
            emit_local(d);
        }
        if (!same)
            emit(d, e->name, &e->attr);
    }
    if (d->whole) {
        while (d->local_at < d->n_local)
            emit_local(d);
        d->complete = true;
    }
}

/* ---- pages ---- */

static void take_page(struct volume_dir *d, const struct list_page *page)
{
    for (size_t i = 0; i < page->count; i++) {
        struct list_entry *e = &page->entries[i];
        if (!path_below(e->key, d->path) || strchr(path_rest(e->key, d->path), '/'))
            continue; /* not ours: a class that breaks its contract */
        meta_fill(d->v->meta, e->key, &e->attr);
        listing_add(d->list, path_rest(e->key, d->path), &e->attr);
    }
    d->keep = d->keep && d->list->n <= LISTING_KEPT_MAX;
}

static int fetch_page(struct volume_dir *d, struct op *op)
{
    struct list_query q = {.prefix = d->prefix, .cursor = d->cursor};
    struct list_page page = LIST_PAGE_INIT;
    bool first = !d->given;
    if (first)
        d->seq = meta_seq(d->v->meta, d->path);
    uint64_t asked = clock_now_ns();
    int r = store_list(d->v->store, op, &q, &page);
    if (r < 0)
        return r;
    d->given = true;
    d->asked_ns = asked;
    if (first)
        d->list->marker = page.dir_exists;
    take_page(d, &page);
    free(d->cursor);
    d->cursor = take_ptr(&page.cursor);
    d->whole = !d->cursor;
    list_page_done(&page);
    if (d->whole && d->keep)
        meta_listing_put(d->v->meta, d->path, d->list, d->seq);
    return 0;
}

/* Pages of a listing that is not kept need no second copy. */
static void drop_merged(struct volume_dir *d)
{
    if (d->keep || d->cached || d->at < d->list->n)
        return;
    listing_put(d->list);
    d->list = listing_new();
    d->at = 0;
}

static bool is_away(int r)
{
    return r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -EIO;
}

static int more(struct volume_dir *d, struct op *op)
{
    int r = d->whole ? 0 : fetch_page(d, op);
    if (is_away(r) && !d->given && d->v->policy.offline_serve) {
        struct listing *old = meta_listing_offline(d->v->meta, d->path);
        if (old) {
            listing_put(d->list);
            d->list = old;
            d->cached = d->whole = true;
            r = 0;
        }
    }
    if (r < 0)
        return r;
    merge(d);
    drop_merged(d);
    return 0;
}

/* ---- the interface ---- */

static int check_there(struct volume_dir *d, struct op *op)
{
    bool there = d->n || d->list->marker || d->cached || d->cursor || d->path[0] == '\0' ||
                 vnode_any_dirty_below(d->v, d->path);
    if (there)
        return 0;
    return err_set(&op->err, ENOENT, "%s: %s: no such directory", d->v->key, d->path);
}

int volume_opendir(struct volume *v, struct op *op, const char *path, struct volume_dir **ret)
{
    struct volume_dir *d = xcalloc(1, sizeof(*d));
    d->v = v;
    d->path = xstrdup(path);
    d->prefix = path_dir_prefix(path);
    collect_local(d);
    d->list = v->policy.ttl_ms ? meta_listing(v->meta, path, v->policy.ttl_ms) : NULL;
    d->cached = d->whole = d->list != NULL;
    d->keep = !d->cached;
    if (!d->list)
        d->list = listing_new();
    d->asked_ns = d->list->at_ns;
    int r = more(d, op);
    if (r == 0)
        r = check_there(d, op);
    if (r < 0) {
        volume_closedir(d);
        return r;
    }
    if (d->list->marker)
        volume_parent_has_marker(v, path);
    *ret = d;
    return 0;
}

int volume_readdir(struct volume_dir *d, struct op *op, uint64_t index,
                   const struct volume_entry **ret)
{
    while (index >= d->n && !d->complete) {
        int r = more(d, op);
        if (r < 0)
            return r;
    }
    if (index >= d->n)
        return 0;
    *ret = entry_at(d, (size_t)index);
    return 1;
}

bool volume_readdir_ready(struct volume_dir *d, uint64_t index)
{
    return index < d->n || d->complete;
}

uint64_t volume_dir_valid_ms(const struct volume_dir *d)
{
    uint64_t ttl = d->v->policy.ttl_ms;
    if (ttl == 0 || ttl == UINT64_MAX)
        return ttl;
    uint64_t now = clock_now_ns();
    uint64_t age = now > d->asked_ns ? (now - d->asked_ns) / NS_PER_MS : 0;
    return age < ttl ? ttl - age : 0;
}

void volume_closedir(struct volume_dir *d)
{
    for (size_t i = 0; i < d->n; i++) {
        struct volume_entry *e = entry_at(d, i);
        free(e->name);
        attr_done(&e->attr);
    }
    for (size_t i = 0; i < (d->n + CHUNK - 1) / CHUNK; i++)
        free(d->chunks[i]);
    for (size_t i = 0; i < d->n_local; i++) {
        free(d->local[i].name);
        attr_done(&d->local[i].attr);
    }
    free(d->local);
    free(d->chunks);
    free(d->open_names);
    listing_put(d->list);
    free(d->cursor);
    free(d->path);
    free(d->prefix);
    free(d);
}

/* SPDX-License-Identifier: MIT
 * dir.c: listings: staged files merged over pages of the store, or over a cached listing.
 *
 * Both streams are in key order, where a directory sorts as its name plus '/'. So an object "a" and the
 * directory "a" are not neighbours ("a", "a-b", "a/"): a stack holds the names of files that may still be
 * followed by a directory of that name: each is a prefix of the next, and one that is no prefix of the
 * entry at hand can be forgotten.
 * What is staged is looked at when the listing is opened: names made before that are shown, whether they
 * are stored meanwhile or not.
 *
 * Memory does not grow with the directory: entries well behind the reader are forgotten in chunks, and of
 * each chunk its last name is kept (a mark). Who goes back further (rewinddir, seekdir) gets the listing
 * anew from that name on, so what has not changed has its position again. */
#include "cache/volume_int.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "cache/lister.h"

#define CHUNK 256
#define BEHIND 8       /* chunks kept behind the reader: more than the kernel asks for in one reply */
#define STEP (4 * CHUNK) /* entries of a cached listing that are merged at once */

struct chunk {
    struct volume_entry v[CHUNK];
};

struct local_entry {
    char *name;
    struct attr attr;
};

/* The stack: prefixes of one name, by their lengths. */
struct open_names {
    char *name;
    size_t *len;
    size_t n, cap, room;
};

/* What is known at the end of a chunk that was forgotten. */
struct mark {
    char *name;
    bool dir;
    struct open_names open;
};

struct volume_dir {
    struct volume *v;
    char *path;                /* "a/b"; the root: "" */
    struct lister *lister;     /* pages of the store, or */
    struct listing *list;      /* cached: what was kept; else being made for the cache (NULL: is not) */
    bool cached;
    size_t at;                 /* cached: of list, the first entry not merged yet */
    struct list_page page;     /* not cached: being merged */
    bool marker;               /* the directory has an object of its own */
    bool given;                /* the first page was got */
    bool whole;                /* nothing is missing in list or page */
    uint64_t asked_ns;         /* when the newest page was asked for */
    uint64_t seq;
    struct local_entry *local; /* staged files, in order */
    size_t n_local, local_at;
    struct chunk **chunks;     /* merged entries [base, n) */
    size_t base, n;
    bool complete;
    struct mark *marks;        /* of the chunks [0, base / CHUNK) at least */
    size_t n_marks, cap_marks;
    struct open_names open;
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

/* ---- the stack ---- */

static bool starts_with(const char *s, const char *prefix, size_t n)
{
    return strncmp(s, prefix, n) == 0;
}

/* Is there an object of the directory's name? Also keeps the stack. */
static bool shadows(struct open_names *o, const char *name, bool dir)
{
    size_t len = strlen(name);
    while (o->n && !starts_with(name, o->name, o->len[o->n - 1]))
        o->n--;
    if (dir)
        return o->n && o->len[o->n - 1] == len;
    if (o->n == o->cap) {
        o->cap = o->cap ? o->cap * 2 : 4;
        o->len = xrealloc(o->len, o->cap * sizeof(*o->len));
    }
    if (o->room <= len) {
        o->room = len + 64;
        o->name = xrealloc(o->name, o->room);
    }
    memcpy(o->name, name, len + 1);
    o->len[o->n++] = len;
    return false;
}

static void open_names_done(struct open_names *o)
{
    free(o->name);
    free(o->len);
    *o = (struct open_names){0};
}

static struct open_names open_names_copy(const struct open_names *o)
{
    struct open_names c = {.n = o->n, .cap = o->n, .room = o->n ? o->len[o->n - 1] + 1 : 0};
    if (o->n == 0)
        return c;
    c.name = xstrndup(o->name, o->len[o->n - 1]);
    c.len = xmalloc(o->n * sizeof(*c.len));
    memcpy(c.len, o->len, o->n * sizeof(*c.len));
    return c;
}

/* ---- entries ---- */

static struct volume_entry *entry_at(struct volume_dir *d, size_t i)
{
    return &d->chunks[(i - d->base) / CHUNK]->v[i % CHUNK];
}

static void entry_done(struct volume_entry *e)
{
    free(e->name);
    attr_done(&e->attr);
}

/* The chunk that ends here will be forgotten one day. */
static void set_mark(struct volume_dir *d)
{
    const struct volume_entry *e = entry_at(d, d->n - 1);
    if (d->n / CHUNK <= d->n_marks)
        return;
    if (d->n_marks == d->cap_marks) {
        d->cap_marks = d->cap_marks ? d->cap_marks * 2 : 16;
        d->marks = xrealloc(d->marks, d->cap_marks * sizeof(*d->marks));
    }
    d->marks[d->n_marks++] = (struct mark){.name = xstrdup(e->name),
                                           .dir = e->attr.kind == ATTR_DIR,
                                           .open = open_names_copy(&d->open)};
}

/* Takes the attributes. */
static void emit(struct volume_dir *d, const char *name, struct attr *a)
{
    if (d->n % CHUNK == 0) {
        size_t chunks = (d->n - d->base) / CHUNK;
        d->chunks = xrealloc(d->chunks, (chunks + 1) * sizeof(*d->chunks));
        d->chunks[chunks] = xcalloc(1, sizeof(struct chunk));
    }
    struct volume_entry *e = entry_at(d, d->n++);
    e->name = xstrdup(name);
    attr_move(&e->attr, a);
    volume_complete(d->v, &e->attr);
    e->shadow = shadows(&d->open, name, e->attr.kind == ATTR_DIR);
    if (d->n % CHUNK == 0)
        set_mark(d);
}

/* Entries [base, to) are forgotten; `to` begins a chunk. */
static void forget_before(struct volume_dir *d, size_t to)
{
    size_t gone = (to - d->base) / CHUNK, chunks = (d->n - d->base + CHUNK - 1) / CHUNK;
    for (size_t i = d->base; i < to && i < d->n; i++)
        entry_done(entry_at(d, i));
    for (size_t i = 0; i < gone && i < chunks; i++)
        free(d->chunks[i]);
    if (gone < chunks)
        memmove(d->chunks, d->chunks + gone, (chunks - gone) * sizeof(*d->chunks));
    d->base = to;
}

static void keep_behind(struct volume_dir *d, size_t index)
{
    size_t chunk = index / CHUNK;
    if (chunk > d->base / CHUNK + BEHIND)
        forget_before(d, (chunk - BEHIND) * CHUNK);
}

static void forget_all(struct volume_dir *d)
{
    forget_before(d, (d->n + CHUNK - 1) / CHUNK * CHUNK);
    free(d->chunks);
    d->chunks = NULL;
}

/* ---- merging ---- */

static void emit_local(struct volume_dir *d)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    const struct local_entry *l = &d->local[d->local_at++];
    attr_copy(&a, &l->attr);
    emit(d, l->name, &a);
}

/* One entry of the store, after the staged ones before it; a staged one of the same name takes its place. */
static void merge_one(struct volume_dir *d, const char *name, struct attr *a)
{
    bool dir = a->kind == ATTR_DIR, same = false;
    while (d->local_at < d->n_local) {
        int c = listing_compare(d->local[d->local_at].name, false, name, dir);
        if (c > 0)
            break;
        same = same || c == 0;
        emit_local(d);
    }
    if (!same)
        emit(d, name, a);
}

static void merge_cached(struct volume_dir *d)
{
    for (size_t n = 0; d->at < d->list->n && n < STEP; n++, d->at++) {
        CLEANUP_ATTR struct attr a = ATTR_INIT;
        listing_get(d->list, d->at, &a);
        merge_one(d, listing_name(d->list, d->at), &a);
    }
    d->whole = d->at == d->list->n;
}

static void merge_page(struct volume_dir *d)
{
    for (size_t i = 0; i < d->page.count; i++) {
        struct list_entry *e = &d->page.entries[i];
        merge_one(d, path_rest(e->key, d->path), &e->attr);
    }
    list_page_done(&d->page);
}

static void merge_rest(struct volume_dir *d)
{
    if (!d->whole)
        return;
    while (d->local_at < d->n_local)
        emit_local(d);
    d->complete = true;
}

/* ---- pages ---- */

/* Of a listing that is too long to be kept none of it is. */
static void keep_page(struct volume_dir *d)
{
    for (size_t i = 0; i < d->page.count; i++) {
        struct list_entry *e = &d->page.entries[i];
        time_t listed = e->attr.known & ATTR_META ? 0 : e->attr.mtime.tv_sec;
        meta_fill(d->v->meta, e->key, &e->attr);
        if (d->list)
            listing_add(d->list, path_rest(e->key, d->path), &e->attr, listed);
    }
    if (d->list && d->list->bytes > LISTING_KEPT_BYTES) {
        listing_put(d->list);
        d->list = NULL;
    }
}

/* What the first page tells of the directory itself needs no request of its own; but under its name there
 * may be a file as well, which then goes by it. */
static void keep_marker(struct volume_dir *d)
{
    CLEANUP_ATTR struct attr known = ATTR_INIT;
    const struct attr *a = &d->page.dir_attr;
    const struct volume *v = d->v;
    d->marker = d->page.dir_exists;
    if (a->kind == ATTR_DIR && (a->known & ATTR_META) && d->path[0] != '\0' &&
        meta_get(v->meta, d->path, false, v->policy.ttl_ms, false, &known, NULL) == META_THERE &&
        known.kind == ATTR_DIR)
        meta_put(v->meta, d->path, false, a, d->seq);
}

static int fetch_page(struct volume_dir *d, struct op *op)
{
    bool first = !d->given;
    if (first)
        d->seq = meta_seq(d->v->meta, d->path);
    int r = lister_next(d->lister, op, &d->page, &d->asked_ns);
    if (r < 0)
        return r;
    d->given = true;
    if (first)
        keep_marker(d);
    d->whole = r == 0 || lister_is_end(d->lister);
    keep_page(d);
    if (d->whole && d->list) {
        d->list->marker = d->marker;
        meta_listing_put(d->v->meta, d->path, d->list, d->seq);
        listing_put(d->list);
        d->list = NULL;
    }
    return 0;
}

static bool is_away(int r)
{
    return r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -EIO;
}

static void use_cached(struct volume_dir *d, struct listing *l /* taken */)
{
    listing_put(d->list);
    d->list = l;
    d->cached = d->given = true;
    d->marker = l->marker;
    d->asked_ns = l->at_ns;
}

static int more(struct volume_dir *d, struct op *op)
{
    int r = d->cached ? 0 : fetch_page(d, op);
    if (is_away(r) && !d->given && d->v->policy.offline_serve) {
        struct listing *old = meta_listing_offline(d->v->meta, d->path);
        if (old)
            use_cached(d, old);
        r = old ? 0 : r;
    }
    if (r < 0)
        return r;
    if (d->cached)
        merge_cached(d);
    else
        merge_page(d);
    merge_rest(d);
    return 0;
}

/* ---- the interface ---- */

static int check_there(struct volume_dir *d, struct op *op)
{
    bool there = d->n || d->marker || d->cached || !d->whole || d->path[0] == '\0' ||
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
    collect_local(d);
    struct listing *known = v->policy.ttl_ms ? meta_listing(v->meta, path, v->policy.ttl_ms) : NULL;
    if (known) {
        use_cached(d, known);
    } else {
        d->list = listing_new();
        d->lister = lister_new(v, path, NULL, false);
    }
    int r = more(d, op);
    if (r == 0)
        r = check_there(d, op);
    if (r < 0) {
        volume_closedir(d);
        return r;
    }
    if (d->marker)
        volume_parent_has_marker(v, path);
    *ret = d;
    return 0;
}

/* To the chunk that holds entry `index`, which was forgotten. */
static void go_back(struct volume_dir *d, size_t index)
{
    size_t chunk = index / CHUNK;
    const struct mark *m = chunk ? &d->marks[chunk - 1] : NULL;
    forget_all(d);
    d->base = d->n = chunk * CHUNK;
    d->complete = d->whole = false;
    open_names_done(&d->open);
    if (m)
        d->open = open_names_copy(&m->open);
    d->local_at = 0;
    while (m && d->local_at < d->n_local &&
           listing_compare(d->local[d->local_at].name, false, m->name, m->dir) <= 0)
        d->local_at++;
    if (d->cached) {
        d->at = m ? listing_from(d->list, m->name, m->dir) : 0;
        if (m && d->at < d->list->n &&
            listing_compare(listing_name(d->list, d->at), listing_is_dir(d->list, d->at), m->name,
                            m->dir) == 0)
            d->at++;
        return;
    }
    listing_put(d->list);
    d->list = NULL;
    list_page_done(&d->page);
    lister_close(d->lister);
    d->lister = lister_new(d->v, d->path, m ? m->name : NULL, m && m->dir);
}

int volume_readdir(struct volume_dir *d, struct op *op, uint64_t index,
                   const struct volume_entry **ret)
{
    if (index < d->base)
        go_back(d, (size_t)index);
    while (index >= d->n && !d->complete) {
        keep_behind(d, d->n);
        int r = more(d, op);
        if (r < 0)
            return r;
    }
    if (index >= d->n)
        return 0;
    keep_behind(d, (size_t)index);
    *ret = entry_at(d, (size_t)index);
    return 1;
}

bool volume_readdir_ready(struct volume_dir *d, uint64_t index)
{
    if (index < d->base)
        return false;
    return index < d->n || d->complete || d->cached || (index == d->n && lister_ready(d->lister));
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
    forget_all(d);
    for (size_t i = 0; i < d->n_local; i++) {
        free(d->local[i].name);
        attr_done(&d->local[i].attr);
    }
    for (size_t i = 0; i < d->n_marks; i++) {
        free(d->marks[i].name);
        open_names_done(&d->marks[i].open);
    }
    free(d->marks);
    free(d->local);
    open_names_done(&d->open);
    list_page_done(&d->page);
    lister_close(d->lister);
    listing_put(d->list);
    free(d->path);
    free(d);
}

/* SPDX-License-Identifier: MIT
 * lookahead.c: see lookahead.h. First the pure decisions, then the pages.
 * Invariants, under l->lock: (1) a page is complete from behind `after` up to its last entry, or up to the
 * end of the directory (`end`); (2) one thread at a time asks for a page of a directory (`busy`), and a
 * busy slot keeps its directory. */
#include "cache/lookahead.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/name.h"

#define NEED_FIRST 2
#define NEED_MAX 1024
#define USED_SHARE 8 /* a page was worth it when one of so many entries was asked for */

/* ---- pure ---- */

static void judge(struct lookahead_policy *p)
{
    bool good = p->used > 0 && p->used * USED_SHARE >= p->got;
    p->judging = false;
    if (good) {
        p->need = 1;
        p->size = p->size * 2 < LOOKAHEAD_PAGE_MAX ? p->size * 2 : LOOKAHEAD_PAGE_MAX;
        return;
    }
    p->need = p->need * 2 + NEED_FIRST < NEED_MAX ? p->need * 2 + NEED_FIRST : NEED_MAX;
    p->size = LOOKAHEAD_PAGE_MIN;
}

unsigned lookahead_on_miss(struct lookahead_policy *p, uint64_t now_ns)
{
    if (!p->need) {
        p->need = NEED_FIRST;
        p->size = LOOKAHEAD_PAGE_MIN;
    }
    if (p->judging)
        judge(p);
    if (now_ns - p->last_ns > LOOKAHEAD_WINDOW_MS * NS_PER_MS)
        p->misses = 0;
    p->last_ns = now_ns;
    if (++p->misses < p->need)
        return 0;
    p->misses = 0;
    return p->size;
}

void lookahead_on_page(struct lookahead_policy *p, size_t got)
{
    p->judging = true;
    p->got = got;
    p->used = 0;
}

void lookahead_on_use(struct lookahead_policy *p)
{
    p->used++;
}

void lookahead_on_failure(struct lookahead_policy *p)
{
    p->judging = false;
    p->need = NEED_MAX;
    p->size = LOOKAHEAD_PAGE_MIN;
}

/* Its last byte one less, and '~' behind it: printable ASCII, so any server's listing takes it. "x/" is not
 * a name's beginning: '/' is passed over. */
char *lookahead_before(const char *name)
{
    size_t n = strlen(name);
    unsigned char last = n ? (unsigned char)name[n - 1] : 0;
    if (last <= '!' || last > '~')
        return NULL;
    char *before = xasprintf("%s~", name);
    before[n - 1] = (char)(last - 1 == '/' ? last - 2 : last - 1);
    return before;
}

/* ---- pages ---- */

struct page {
    char *dir; /* NULL: the slot is free */
    struct lookahead_policy policy;
    bool busy;
    struct list_page list; /* no entries: none was got */
    char *after;           /* the name behind which it begins; NULL: there is no page */
    bool end;
    uint64_t at_ns, used_ns;
    uint64_t seqs[META_SEQS];
};

struct lookahead {
    struct store *store;
    struct meta *meta;
    struct lock lock;
    bool off; /* listings do not tell enough here */
    struct page pages[LOOKAHEAD_DIRS];
};

struct lookahead *lookahead_new(struct store *store, struct meta *meta)
{
    struct lookahead *l = xcalloc(1, sizeof(*l));
    l->store = store;
    l->meta = meta;
    lock_init(&l->lock, LOCK_RANK_META, "lookahead");
    return l;
}

static void page_drop(struct page *p)
{
    list_page_done(&p->list);
    p->list = LIST_PAGE_INIT;
    free(p->after);
    p->after = NULL;
}

void lookahead_free(struct lookahead *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < LOOKAHEAD_DIRS; i++) {
        page_drop(&l->pages[i]);
        free(l->pages[i].dir);
    }
    lock_done(&l->lock);
    free(l);
}

static struct page *find_locked(struct lookahead *l, const char *dir)
{
    for (size_t i = 0; i < LOOKAHEAD_DIRS; i++)
        if (l->pages[i].dir && strcmp(l->pages[i].dir, dir) == 0)
            return &l->pages[i];
    return NULL;
}

/* The directory's slot, or the one that was unused for longest; NULL: all are busy. */
static struct page *take_locked(struct lookahead *l, const char *dir)
{
    struct page *p = find_locked(l, dir);
    for (size_t i = 0; i < LOOKAHEAD_DIRS && (!p || strcmp(p->dir ? p->dir : "", dir) != 0); i++) {
        struct page *q = &l->pages[i];
        if (!q->busy && (!p || !q->dir || (p->dir && q->used_ns < p->used_ns)))
            p = q;
    }
    if (!p || (p->dir && strcmp(p->dir, dir) == 0))
        return p;
    page_drop(p);
    free(p->dir);
    p->dir = xstrdup(dir);
    p->policy = (struct lookahead_policy){0};
    return p;
}

static const char *name_of(const struct page *p, const struct list_entry *e)
{
    return path_rest(e->key, p->dir);
}

/* Its own order, as a directory: "name/". */
static int order(const struct page *p, const struct list_entry *e, const char *name, bool dir)
{
    return listing_compare(name_of(p, e), e->attr.kind == ATTR_DIR, name, dir);
}

/* Are both the object and the directory of that name in the page's range? */
static bool covers(const struct page *p, const char *name)
{
    if (!p->after || listing_compare(p->after, false, name, false) >= 0)
        return false;
    return p->end ||
           (p->list.count && order(p, &p->list.entries[p->list.count - 1], name, true) >= 0);
}

static const struct list_entry *entry_of(const struct page *p, const char *name, bool dir)
{
    size_t lo = 0, hi = p->list.count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = order(p, &p->list.entries[mid], name, dir);
        if (c == 0)
            return &p->list.entries[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static bool is_fresh(const struct page *p, uint64_t ttl_ms)
{
    uint64_t now = clock_now_ns();
    return p->after &&
           (ttl_ms == UINT64_MAX || now < p->at_ns || (now - p->at_ns) / NS_PER_MS < ttl_ms);
}

static bool told_locked(const struct page *p, const char *name, struct attr *ret)
{
    const struct list_entry *e = entry_of(p, name, false);
    if (!e && covers(p, name)) /* no object of that name: the directory is what it means */
        e = entry_of(p, name, true);
    if (!e || !(e->attr.known & ATTR_META))
        return false;
    attr_copy(ret, &e->attr);
    return true;
}

bool lookahead_known(struct lookahead *l, const char *path, uint64_t ttl_ms)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    bool told = false;
    uint64_t seq = 0, at_ns = 0;
    if (path[0] == '\0' || path_is_unnamed(path))
        return false;
    CLEANUP_FREE char *dir = path_parent(path);
    lock_acquire(&l->lock);
    struct page *p = find_locked(l, dir);
    if (p && is_fresh(p, ttl_ms))
        told = told_locked(p, path_rest(path, dir), &a);
    if (told) {
        lookahead_on_use(&p->policy);
        p->used_ns = clock_now_ns();
        seq = p->seqs[meta_slot(path)];
        at_ns = p->at_ns;
    }
    lock_release(&l->lock);
    return told && meta_put_listed(l->meta, path, &a, seq, at_ns);
}

/* What it tells of each name must be everything; returns how many such names it has. */
static size_t complete_entries(struct lookahead *l, struct list_page *list)
{
    size_t n = 0;
    for (size_t i = 0; i < list->count; i++) {
        struct list_entry *e = &list->entries[i];
        meta_fill(l->meta, e->key, &e->attr);
        n += e->attr.kind == ATTR_DIR || (e->attr.known & ATTR_META);
    }
    return n;
}

/* The slot is busy. */
static void fetch(struct lookahead *l, struct op *op, struct page *p, char *after /* taken */,
                  unsigned max)
{
    CLEANUP_FREE char *prefix = path_dir_prefix(p->dir);
    CLEANUP_FREE char *from = xasprintf("%s%s", prefix, after);
    CLEANUP_FREE uint64_t *seqs = xcalloc(META_SEQS, sizeof(*seqs));
    struct list_query q = {.prefix = prefix, .after = from, .max = max};
    struct list_page list = LIST_PAGE_INIT;
    meta_seqs(l->meta, seqs);
    uint64_t at_ns = clock_now_ns();
    int r = store_list(l->store, op, &q, &list);
    size_t complete = r == 0 ? complete_entries(l, &list) : 0;
    LOCK_SCOPE(&l->lock);
    page_drop(p);
    p->busy = false;
    p->used_ns = at_ns;
    if (r < 0) {
        free(after);
        err_clear(&op->err);
        lookahead_on_failure(&p->policy);
        return;
    }
    l->off = list.count > 0 && complete == 0;
    lookahead_on_page(&p->policy, list.count);
    p->end = !list.cursor;
    p->list = list;
    p->after = after;
    p->at_ns = at_ns;
    memcpy(p->seqs, seqs, sizeof(p->seqs));
}

bool lookahead_ask(struct lookahead *l, struct op *op, const char *path, uint64_t ttl_ms)
{
    if (path[0] == '\0' || path_is_unnamed(path))
        return false;
    CLEANUP_FREE char *dir = path_parent(path);
    const char *name = path_rest(path, dir);
    struct listing *whole = meta_listing(l->meta, dir, ttl_ms);
    listing_put(whole);
    if (whole) /* it has told all that listings do (walk.h goes on from there) */
        return false;
    lock_acquire(&l->lock);
    struct page *p = l->off ? NULL : take_locked(l, dir);
    unsigned max = 0;
    if (p && !p->busy && !(is_fresh(p, ttl_ms) && covers(p, name)))
        max = lookahead_on_miss(&p->policy, clock_now_ns());
    char *after = max ? lookahead_before(name) : NULL;
    if (after)
        p->busy = true;
    lock_release(&l->lock);
    if (!after)
        return false;
    fetch(l, op, p, after, max);
    return lookahead_known(l, path, ttl_ms);
}

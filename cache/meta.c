/* SPDX-License-Identifier: MIT
 * meta.c: see meta.h.
 * Invariants, under m->lock: (1) an entry is in its map and in the LRU list, or in neither; (2) entries
 * and listings with at_ns 0 were read back from SQLite and answer only meta_fill and the offline calls; (3) seqs[hash]
 * grows with every change of our own of a name, and of a name within that directory: an answer that was
 * asked for before it is not taken; (4) a listing in the table is complete. */
#include "cache/meta.h"

#include "backends/versions.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/name.h"
#include "base/strmap.h"
#include "cache/meta_db.h"
#include "cache/meta_warm.h"

#include <errno.h>

#define BINDING_AGE_MS 2000 /* a store's machines need not agree on the second */
#define META_ENTRIES 32768
#define VOIDED_MAX 20000

struct entry {
    char *path;
    bool dir;
    bool absent;
    bool ticket;     /* from a stat, not used for an open yet */
    uint64_t at_ns;  /* when it was learnt; 0: before this process */
    time_t listed;   /* the mtime that a listing gave for this version; 0: not known */
    bool before;     /* learnt by the process before */
    bool timed;      /* of a store that tells when an object was changed: nothing but that binds it to a listing */
    struct attr attr;
    struct entry *newer, *older;
};

struct meta {
    struct cache_index *index;
    char *key, *identity;     /* identity NULL: nothing is kept but rows of entries */
    bool offline, real_dirs;
    bool hidden, versions; /* see struct meta_how */
    struct lock lock;
    struct strmap maps[2];    /* of entries: [0] by path, [1] the directory of that name */
    struct entry lru;         /* .newer: the oldest, .older: the newest: a ring through this one */
    size_t n;
    struct strmap listings;   /* directory -> struct listing */
    size_t listed;            /* bytes in them */
    uint64_t seqs[META_SEQS];
};

/* ---- entries ---- */

static void lru_out(struct entry *e)
{
    e->newer->older = e->older;
    e->older->newer = e->newer;
}

static void lru_in(struct meta *m, struct entry *e)
{
    e->older = m->lru.older;
    e->newer = &m->lru;
    e->older->newer = e;
    m->lru.older = e;
}

static void entry_free(struct entry *e)
{
    attr_done(&e->attr);
    free(e->path);
    free(e);
}

static void entry_drop_locked(struct meta *m, const char *path, bool dir)
{
    struct entry *e = strmap_del(&m->maps[dir], path);
    if (!e)
        return;
    lru_out(e);
    m->n--;
    entry_free(e);
}

static struct entry *entry_make_locked(struct meta *m, const char *path, bool dir)
{
    struct entry *e = strmap_get(&m->maps[dir], path);
    if (e) {
        lru_out(e);
        lru_in(m, e);
        return e;
    }
    if (m->n >= META_ENTRIES)
        entry_drop_locked(m, m->lru.newer->path, m->lru.newer->dir);
    e = xcalloc(1, sizeof(*e));
    e->path = xstrdup(path);
    e->dir = dir;
    (void)strmap_put(&m->maps[dir], path, e);
    lru_in(m, e);
    m->n++;
    return e;
}

static void listing_drop_locked(struct meta *m, const char *dir)
{
    struct listing *l = strmap_del(&m->listings, dir);
    if (l)
        m->listed -= l->bytes;
    listing_put(l); /* memory only */
}

unsigned meta_slot(const char *path)
{
    return (unsigned)(hash_bytes(path, strlen(path)) % META_SEQS);
}

static uint64_t *seq_of(struct meta *m, const char *path)
{
    return &m->seqs[meta_slot(path)];
}

static uint64_t age_ms(uint64_t at_ns, uint64_t now)
{
    return now > at_ns ? (now - at_ns) / NS_PER_MS : 0;
}

/* ---- asking ---- */

/* An answer where it lies. */
struct found {
    const struct entry *entry;
    const struct listing *list; /* and the row in it, when it is there */
    size_t row;
    uint64_t at_ns;
};

static void found_copy(const struct found *f, struct attr *ret)
{
    if (f->entry)
        attr_copy(ret, &f->entry->attr);
    else
        listing_get(f->list, f->row, ret);
}

/* What the parent's listing says. */
static enum meta_answer ask_listing_locked(struct meta *m, const char *path, bool dir,
                                           struct found *ret)
{
    if (path[0] == '\0')
        return META_MISS;
    CLEANUP_FREE char *parent = path_parent(path);
    const struct listing *l = strmap_get(&m->listings, parent);
    if (!l || !l->at_ns)
        return META_MISS;
    size_t up = 0;
    const char *name = path_base(path, &up);
    if (strmap_get(&l->voided, name))
        return META_MISS;
    long row = dir ? -1 : listing_find(l, name, false);
    if (row < 0)
        row = listing_find(l, name, true);
    if (row < 0 && (m->hidden || (m->versions && version_is_hidden(path))))
        return META_MISS;
    *ret = (struct found){.list = l, .row = row < 0 ? 0 : (size_t)row, .at_ns = l->at_ns};
    return row < 0 ? META_ABSENT : META_THERE;
}

/* The youngest answer of all ages. */
static enum meta_answer ask_locked(struct meta *m, const char *path, bool dir, struct found *ret)
{
    enum meta_answer listed = ask_listing_locked(m, path, dir, ret);
    const struct entry *e = strmap_get(&m->maps[dir], path);
    if (!e || !e->at_ns || (listed != META_MISS && e->at_ns < ret->at_ns))
        return listed;
    *ret = (struct found){.entry = e, .at_ns = e->at_ns};
    return e->absent ? META_ABSENT : META_THERE;
}

enum meta_answer meta_get(struct meta *m, const char *path, bool dir, uint64_t max_age_ms,
                          bool need_meta, struct attr *ret, uint64_t *ret_age_ms)
{
    struct found found = {0};
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    LOCK_SCOPE(&m->lock);
    enum meta_answer answer = ask_locked(m, path, dir, &found);
    uint64_t age = age_ms(found.at_ns, clock_now_ns());
    if (answer == META_MISS || (max_age_ms != UINT64_MAX && age >= max_age_ms))
        return META_MISS;
    if (answer == META_THERE)
        found_copy(&found, &a);
    if (answer == META_THERE && need_meta && !(a.known & ATTR_META))
        return META_MISS;
    if (answer == META_THERE)
        attr_move(ret, &a);
    if (ret_age_ms)
        *ret_age_ms = age;
    return answer;
}

enum meta_answer meta_take_ticket(struct meta *m, const char *path, uint64_t max_age_ms,
                                  struct attr *ret)
{
    LOCK_SCOPE(&m->lock);
    struct entry *e = strmap_get(&m->maps[0], path);
    if (!e || !e->ticket || (!ret && !e->absent))
        return META_MISS;
    e->ticket = false;
    if (age_ms(e->at_ns, clock_now_ns()) >= max_age_ms)
        return META_MISS;
    if (!e->absent)
        attr_copy(ret, &e->attr);
    return e->absent ? META_ABSENT : META_THERE;
}

uint64_t meta_seq(struct meta *m, const char *path)
{
    LOCK_SCOPE(&m->lock);
    return *seq_of(m, path);
}

void meta_seqs(struct meta *m, uint64_t ret[META_SEQS])
{
    LOCK_SCOPE(&m->lock);
    memcpy(ret, m->seqs, sizeof(m->seqs));
}

/* ---- telling ---- */

/* The time that says, in a listing, that the object still has the metadata of this answer; 0: none does, as
 * somebody may change it within the second in which it was changed last. */
static time_t binding_time(const struct attr *a)
{
    return a->age_ms >= BINDING_AGE_MS ? a->changed_s : 0;
}

/* Fills the entry; true when its row is to be written, with *ret_listed. `asked`: the store's answer. */
static bool set_locked(struct meta *m, const char *path, bool dir, const struct attr *a, bool asked,
                       time_t *ret_listed)
{
    struct entry *e = entry_make_locked(m, path, dir);
    bool row = a && !dir && (a->known & ATTR_META);
    bool keep = row && (e->absent || !meta_db_is_same(&e->attr, a));
    time_t listed = asked && row ? binding_time(a) : 0;
    if (!keep && !listed)
        listed = e->listed;
    keep = keep || (row && listed != e->listed);
    e->listed = *ret_listed = listed;
    e->timed = a && a->changed_s;
    e->before = false;
    attr_done(&e->attr);
    if (a)
        attr_copy(&e->attr, a);
    e->absent = !a;
    e->at_ns = clock_now_ns();
    e->ticket = asked;
    return keep;
}

static void persist(struct meta *m, const char *path, const struct attr *a, time_t listed)
{
    if (!m->index || (a->kind != ATTR_DIR && path_is_unnamed(path)))
        return;
    CLEANUP_FREE char *row = a->kind == ATTR_DIR ? path_dir_prefix(path) : xstrdup(path);
    meta_db_put(m->index, m->key, row, a, listed);
}

void meta_put(struct meta *m, const char *path, bool dir, const struct attr *a, uint64_t seq)
{
    lock_acquire(&m->lock);
    time_t listed = 0;
    bool keep = *seq_of(m, path) == seq && set_locked(m, path, dir, a, true, &listed);
    lock_release(&m->lock);
    if (keep)
        persist(m, path, a, listed);
}

bool meta_put_listed(struct meta *m, const char *path, const struct attr *a, uint64_t seq,
                     uint64_t at_ns)
{
    lock_acquire(&m->lock);
    const struct entry *old = strmap_get(&m->maps[0], path);
    bool taken = *seq_of(m, path) == seq && !(old && old->at_ns > at_ns);
    time_t listed = 0;
    bool keep = taken && set_locked(m, path, false, a, false, &listed);
    if (taken)
        ((struct entry *)strmap_get(&m->maps[0], path))->at_ns = at_ns;
    lock_release(&m->lock);
    if (keep && m->offline)
        persist(m, path, a, listed);
    return taken;
}

/* The listing of `parent` no longer knows about the name. */
static void listing_void_locked(struct meta *m, const char *parent, const char *path)
{
    struct listing *l = strmap_get(&m->listings, parent);
    size_t up = 0;
    if (!l)
        return;
    l->changed = true;
    (void)strmap_put(&l->voided, path_base(path, &up), l);
    if (l->voided.count > VOIDED_MAX)
        listing_drop_locked(m, parent);
}

/* What is shown of its older versions is more now. */
static void versions_changed_locked(struct meta *m, const char *path)
{
    CLEANUP_FREE char *dir = xasprintf("%s" VERSIONS_SUFFIX, path);
    ++*seq_of(m, dir);
    entry_drop_locked(m, dir, false);
    entry_drop_locked(m, dir, true);
    listing_drop_locked(m, dir);
}

static void changed_locked(struct meta *m, const char *path)
{
    CLEANUP_FREE char *parent = path_parent(path);
    if (m->versions && path[0])
        versions_changed_locked(m, path);
    ++*seq_of(m, path);
    if (path[0] != '\0') {
        ++*seq_of(m, parent);
        listing_void_locked(m, parent, path);
    }
    entry_drop_locked(m, path, false);
    entry_drop_locked(m, path, true);
    const struct entry *up = strmap_get(&m->maps[0], parent);
    if (up && (m->real_dirs || up->absent)) /* its times have changed, or it has come to be */
        entry_drop_locked(m, parent, false);
    entry_drop_locked(m, parent, true);
}

void meta_own(struct meta *m, const char *path, const struct attr *a)
{
    lock_acquire(&m->lock);
    changed_locked(m, path);
    time_t listed = 0;
    bool keep = a && set_locked(m, path, false, a, false, &listed);
    lock_release(&m->lock);
    if (keep)
        persist(m, path, a, listed);
    else if (!a && m->index)
        meta_db_remove(m->index, m->key, path, false);
}

void meta_forget(struct meta *m, const char *path)
{
    if (!path) {
        meta_forget_tree(m, "");
        return;
    }
    LOCK_SCOPE(&m->lock);
    changed_locked(m, path);
    listing_drop_locked(m, path);
}

static void forget_listings_locked(struct meta *m, const char *dir)
{
    struct strmap kept = STRMAP_INIT;
    STRMAP_EACH(&m->listings, it) {
        struct listing *l = it->value;
        if (!path_within(it->key, dir)) {
            (void)strmap_put(&kept, it->key, l);
            continue;
        }
        m->listed -= l->bytes;
        listing_put(l);
    }
    strmap_done(&m->listings);
    m->listings = kept;
}

void meta_forget_tree(struct meta *m, const char *dir)
{
    lock_acquire(&m->lock);
    for (size_t i = 0; i < META_SEQS; i++)
        m->seqs[i]++;
    for (struct entry *e = m->lru.newer, *next; e != &m->lru; e = next) {
        next = e->newer;
        if (path_within(e->path, dir))
            entry_drop_locked(m, e->path, e->dir);
    }
    forget_listings_locked(m, dir);
    changed_locked(m, dir);
    lock_release(&m->lock);
    if (m->index && dir[0])
        meta_db_remove(m->index, m->key, dir, true);
}

/* ---- listings in the table ---- */

struct listing *meta_listing(struct meta *m, const char *dir, uint64_t max_age_ms)
{
    LOCK_SCOPE(&m->lock);
    struct listing *l = strmap_get(&m->listings, dir);
    if (!l || l->changed || !l->at_ns || (max_age_ms != UINT64_MAX && age_ms(l->at_ns, clock_now_ns()) >= max_age_ms))
        return NULL;
    return listing_ref(l);
}

/* Makes room by dropping the oldest listings. */
static void listings_fit_locked(struct meta *m, size_t n)
{
    while (m->listed + n > LISTING_KEPT_BYTES && m->listings.count) {
        const char *oldest = NULL;
        uint64_t at = UINT64_MAX;
        STRMAP_EACH(&m->listings, it) {
            const struct listing *l = it->value;
            if (l->at_ns < at) {
                at = l->at_ns;
                oldest = it->key;
            }
        }
        CLEANUP_FREE char *dir = xstrdup(oldest);
        listing_drop_locked(m, dir);
    }
}

static bool listing_take_locked(struct meta *m, const char *dir, struct listing *l, uint64_t seq)
{
    if (l->bytes > LISTING_KEPT_BYTES || *seq_of(m, dir) != seq)
        return false;
    listing_drop_locked(m, dir);
    listings_fit_locked(m, l->bytes);
    (void)strmap_put(&m->listings, dir, listing_ref(l));
    m->listed += l->bytes;
    return true;
}

void meta_listing_put(struct meta *m, const char *dir, struct listing *l, uint64_t seq)
{
    lock_acquire(&m->lock);
    bool taken = listing_take_locked(m, dir, l, seq);
    lock_release(&m->lock);
    if (taken && m->index && m->offline)
        meta_db_put_listing(m->index, m->key, dir, l);
}

/* The store copies metadata changes without a new version: the mtime of the listing tells that it is
 * the object we knew. What binds the two is the time that the answer itself told, when it was old enough by then;
 * of a store that tells none the listing that we had when we learnt of the metadata; */
static time_t listed_when_learnt_locked(const struct meta *m, const struct entry *e)
{
    CLEANUP_FREE char *parent = path_parent(e->path);
    const struct listing *l = e->listed || e->timed ? NULL : strmap_get(&m->listings, parent);
    size_t up = 0;
    const char *name = path_base(e->path, &up);
    if (!l || !l->at_ns || l->at_ns > e->at_ns || strmap_get(&l->voided, name))
        return e->listed;
    long row = listing_find(l, name, false);
    return row >= 0 && strcmp(listing_version(l, (size_t)row), e->attr.version) == 0
               ? listing_listed(l, (size_t)row)
               : 0;
}

/* else the first one after that. */
static bool fill_locked(struct meta *m, const char *path, struct attr *a, bool *ret_bound)
{
    struct entry *e = strmap_get(&m->maps[0], path);
    if (!e || e->absent || !(e->attr.known & ATTR_META) || e->attr.kind == ATTR_DIR ||
        a->version[0] == '\0' || strcmp(e->attr.version, a->version) != 0)
        return false;
    time_t listed = listed_when_learnt_locked(m, e);
    if (listed ? listed != a->mtime.tv_sec : !e->at_ns || e->before || e->timed) /* the object may have changed since */
        return false;
    *ret_bound = !e->listed && a->mtime.tv_sec;
    e->listed = a->mtime.tv_sec;
    attr_done(a);
    attr_copy(a, &e->attr);
    return true;
}

/* The listing before this one had the metadata of the same version, and the same time. */
static bool fill_from_listing_locked(struct meta *m, const char *path, struct attr *a)
{
    CLEANUP_FREE char *parent = path_parent(path);
    const struct listing *l = strmap_get(&m->listings, parent);
    size_t up = 0;
    const char *name = path_base(path, &up);
    long row = l && !strmap_get(&l->voided, name) ? listing_find(l, name, false) : -1;
    if (row < 0 || !(listing_known(l, (size_t)row) & ATTR_META) || a->version[0] == '\0' ||
        !a->mtime.tv_sec || listing_listed(l, (size_t)row) != a->mtime.tv_sec)
        return false;
    if (strcmp(listing_version(l, (size_t)row), a->version) != 0)
        return false;
    attr_done(a);
    listing_get(l, (size_t)row, a);
    return true;
}

void meta_fill(struct meta *m, const char *path, struct attr *a)
{
    if ((a->known & ATTR_META) || a->kind == ATTR_DIR)
        return;
    time_t listed = a->mtime.tv_sec;
    bool bound = false;
    lock_acquire(&m->lock);
    bool filled = fill_locked(m, path, a, &bound);
    if (!filled)
        (void)fill_from_listing_locked(m, path, a);
    lock_release(&m->lock);
    if (filled && bound)
        persist(m, path, a, listed);
}

/* ---- while the store is away ---- */

enum meta_answer meta_get_offline(struct meta *m, const char *path, bool dir, struct attr *ret)
{
    lock_acquire(&m->lock);
    struct found found = {0};
    enum meta_answer answer = ask_locked(m, path, dir, &found);
    const struct entry *e = strmap_get(&m->maps[0], path);
    if (answer == META_MISS && e && !e->absent && (!dir || e->attr.kind == ATTR_DIR)) {
        found = (struct found){.entry = e};
        answer = META_THERE;
    }
    if (answer == META_THERE)
        found_copy(&found, ret);
    lock_release(&m->lock);
    if (answer != META_MISS || !m->index)
        return answer;
    if (!dir && !path_is_unnamed(path) && meta_db_get(m->index, m->key, path, ret) == 0)
        return META_THERE;
    CLEANUP_FREE char *row = path_dir_prefix(path);
    return meta_db_get(m->index, m->key, row, ret) == 0 ? META_THERE : META_MISS;
}

/* The listing with what we have changed since: a voided name is there iff its entry says so. */
static struct listing *listing_patched_locked(struct meta *m, const char *dir)
{
    const struct listing *old = strmap_get(&m->listings, dir);
    if (!old)
        return NULL;
    struct listing *l = listing_new();
    l->marker = old->marker;
    for (size_t i = 0; i < old->n; i++) {
        CLEANUP_ATTR struct attr a = ATTR_INIT;
        if (strmap_get(&old->voided, listing_name(old, i)))
            continue;
        listing_get(old, i, &a);
        listing_add(l, listing_name(old, i), &a, 0);
    }
    STRMAP_EACH(&old->voided, it) {
        CLEANUP_FREE char *path = path_child(dir, it->key);
        const struct entry *e = strmap_get(&m->maps[0], path);
        if (e && !e->absent)
            listing_add(l, it->key, &e->attr, 0);
    }
    listing_sort(l);
    return l;
}

struct listing *meta_listing_offline(struct meta *m, const char *dir)
{
    struct listing *l = meta_listing(m, dir, UINT64_MAX);
    if (!l) {
        LOCK_SCOPE(&m->lock);
        l = listing_patched_locked(m, dir);
    }
    if (!l && m->index)
        (void)meta_db_listing(m->index, m->key, dir, &l);
    return l;
}

/* ---- from one process to the next ---- */

static void take_row(void *arg, const char *path, struct attr *a, time_t listed)
{
    struct meta *m = arg;
    CLEANUP_FREE char *name = path_is_unnamed(path) ? path_of_prefix(path) : xstrdup(path);
    LOCK_SCOPE(&m->lock);
    struct entry *e = strmap_get(&m->maps[0], name);
    if (e || m->n >= META_ENTRIES) {
        attr_done(a);
        return;
    }
    e = entry_make_locked(m, name, false);
    e->listed = listed;
    attr_move(&e->attr, a);
}

static void take_warm_listing(void *arg, const char *dir, struct listing *l)
{
    struct meta *m = arg;
    LOCK_SCOPE(&m->lock);
    (void)listing_take_locked(m, dir, l, 0);
    listing_put(l);
}

static void take_warm_entry(void *arg, const struct warm_entry *from)
{
    struct meta *m = arg;
    LOCK_SCOPE(&m->lock);
    struct entry *e = entry_make_locked(m, from->path, from->dir);
    attr_done(&e->attr);
    attr_copy(&e->attr, from->attr);
    e->absent = from->absent;
    e->at_ns = from->at_ns;
    e->listed = from->listed;
    e->before = true;
}

int meta_open(struct cache_index *index, const char *key, const struct meta_how *how, struct err *err,
              struct meta **ret)
{
    struct meta *m = xcalloc(1, sizeof(*m));
    const char *identity = how->identity ? how->identity : "";
    struct warm_sink sink = {.listing = take_warm_listing, .entry = take_warm_entry, .arg = m};
    m->index = index;
    m->key = xstrdup(key);
    m->offline = how->offline;
    m->real_dirs = how->real_dirs;
    m->hidden = how->hidden;
    m->versions = how->versions;
    lock_init(&m->lock, LOCK_RANK_META, "meta");
    m->lru.newer = m->lru.older = &m->lru;
    int r = index ? meta_warm_take(index, key, identity, how->ageless, &sink, err) : 0;
    if (index && r == 0)
        r = meta_db_open(index, key, META_ENTRIES / 2, take_row, m, err);
    if (r < 0) {
        meta_close(m);
        return r;
    }
    m->identity = *identity ? xstrdup(identity) : NULL;
    *ret = m;
    return 0;
}

struct saving {
    struct meta *m;
    const struct entry *at;
};

/* The metadata of a listed object whose version and time in the listing are those of a stat since. */
static void complete_row(void *arg, const char *dir, const struct listing *l, size_t row, struct attr *a)
{
    const struct meta *m = ((struct saving *)arg)->m;
    CLEANUP_FREE char *path = path_child(dir, listing_name(l, row));
    const struct entry *e = strmap_get(&m->maps[0], path);
    time_t listed = listing_listed(l, row);
    if (!e || e->absent || !(e->attr.known & ATTR_META) || e->attr.kind == ATTR_DIR || !listed ||
        a->version[0] == '\0' || strcmp(e->attr.version, a->version) != 0 ||
        listed_when_learnt_locked(m, e) != listed)
        return;
    attr_done(a);
    attr_copy(a, &e->attr);
}

static bool next_entry(void *arg, struct warm_entry *ret)
{
    struct saving *s = arg;
    do {
        s->at = s->at->newer;
    } while (s->at != &s->m->lru && !s->at->at_ns);
    const struct entry *e = s->at;
    *ret = (struct warm_entry){.path = e->path, .dir = e->dir, .absent = e->absent, .at_ns = e->at_ns,
                               .attr = &e->attr};
    if (e == &s->m->lru)
        return false;
    ret->listed = listed_when_learnt_locked(s->m, e);
    return true;
}

static void save(struct meta *m)
{
    struct saving s = {.m = m, .at = &m->lru};
    struct warm_source from = {.listings = &m->listings, .next = next_entry, .complete = complete_row,
                               .arg = &s};
    meta_warm_save(m->index, m->key, m->identity, &from);
}

void meta_close(struct meta *m)
{
    if (!m)
        return;
    if (m->identity)
        save(m);
    lock_acquire(&m->lock);
    while (m->lru.newer != &m->lru)
        entry_drop_locked(m, m->lru.newer->path, m->lru.newer->dir);
    STRMAP_EACH(&m->listings, it)
        listing_put(it->value);
    strmap_done(&m->listings);
    lock_release(&m->lock);
    strmap_done(&m->maps[0]);
    strmap_done(&m->maps[1]);
    lock_done(&m->lock);
    free(m->key);
    free(m->identity);
    free(m);
}

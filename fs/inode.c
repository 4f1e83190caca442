/* SPDX-License-Identifier: MIT
 * inode.c: see inode.h. Invariants:
 *   1. An inode is in the number table while nlookup + refs > 0.
 *   2. It is in the name table unless it is unlinked (or the root).
 *   3. A child references its parent, so a path can always be built.
 *   4. The number of a live inode is not given to another one (probing by +1). */
#include "fs/inode.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/name.h"
#include "fs/handle.h"
#include "fs/fs.h"

#include <assert.h>
#include <string.h>

/* The kernel looks the name up and opens it again; each may wait for the store. */
#define WARY_NS (10 * NS_PER_S)

#define SENT_MAX 64

struct inode_table {
    struct lock lock;
    struct {
        pid_t thread;
        uint64_t until_ns;
    } sent[SENT_MAX]; /* threads that were told to come again */
    unsigned sent_at;
    struct inode **by_ino, **by_name;
    size_t n_buckets, count;
    struct inode root;
};

static uint64_t mix(uint64_t h, const char *s)
{
    for (; *s; s++) {
        h ^= (unsigned char)*s;
        h *= 0x100000001b3ULL;
    }
    return h;
}

/* The same on every run: FNV-1a over the path from the mount's root. */
static uint64_t stable_number(const struct inode *parent, const char *name)
{
    uint64_t h = mix(parent->ino ^ 0xcbf29ce484222325ULL, name);
    h ^= h >> 29;
    h *= 0x9e3779b97f4a7c15ULL;
    h ^= h >> 32;
    return h < 16 ? h + 16 : h;
}

static size_t name_bucket(const struct inode_table *t, const struct inode *parent, const char *name)
{
    return (size_t)(mix((uint64_t)(uintptr_t)parent * 0x9e3779b97f4a7c15ULL, name) &
                    (t->n_buckets - 1));
}

static size_t ino_bucket(const struct inode_table *t, uint64_t ino)
{
    return (size_t)((ino * 0x9e3779b97f4a7c15ULL >> 17) & (t->n_buckets - 1));
}

struct inode_table *inode_table_new(void)
{
    struct inode_table *t = xcalloc(1, sizeof(*t));
    lock_init(&t->lock, LOCK_RANK_INODE, "inode table");
    t->n_buckets = 1024;
    t->by_ino = xcalloc(t->n_buckets, sizeof(*t->by_ino));
    t->by_name = xcalloc(t->n_buckets, sizeof(*t->by_name));
    t->root.ino = FUSE_ROOT_ID;
    t->root.kind = INODE_ROOT;
    t->root.nlookup = 1;
    t->root.name = xstrdup("");
    t->root.segment = xstrdup("");
    t->by_ino[ino_bucket(t, FUSE_ROOT_ID)] = &t->root;
    t->count = 1;
    return t;
}

static void inode_destroy(struct inode *i)
{
    if (i->segment != i->name)
        free(i->segment);
    free(i->name);
    free(i);
}

void inode_table_free(struct inode_table *t)
{
    if (!t)
        return;
    for (size_t b = 0; b < t->n_buckets; b++) {
        struct inode *next;
        for (struct inode *i = t->by_ino[b]; i; i = next) {
            next = i->next_ino;
            if (i != &t->root)
                inode_destroy(i);
        }
    }
    free(t->root.name);
    free(t->root.segment);
    free(t->by_ino);
    free(t->by_name);
    lock_done(&t->lock);
    free(t);
}

struct inode *inode_root(struct inode_table *t)
{
    return &t->root;
}

static struct inode *find_ino(struct inode_table *t, uint64_t ino)
{
    struct inode *i = t->by_ino[ino_bucket(t, ino)];
    while (i && i->ino != ino)
        i = i->next_ino;
    return i;
}

static struct inode *find_name(struct inode_table *t, struct inode *parent, const char *name)
{
    struct inode *i = t->by_name[name_bucket(t, parent, name)];
    while (i && (i->parent != parent || strcmp(i->name, name) != 0))
        i = i->next_name;
    return i;
}

static void link_name(struct inode_table *t, struct inode *i)
{
    struct inode **b = &t->by_name[name_bucket(t, i->parent, i->name)];
    i->next_name = *b;
    *b = i;
}

static void unlink_name(struct inode_table *t, struct inode *i)
{
    struct inode **p = &t->by_name[name_bucket(t, i->parent, i->name)];
    while (*p != i) {
        assert(*p);
        p = &(*p)->next_name;
    }
    *p = i->next_name;
    i->next_name = NULL;
}

static void unlink_ino(struct inode_table *t, struct inode *i)
{
    struct inode **p = &t->by_ino[ino_bucket(t, i->ino)];
    while (*p != i) {
        assert(*p);
        p = &(*p)->next_ino;
    }
    *p = i->next_ino;
}

/* Doubles both tables; chains stay short with a million inodes. */
static void grow(struct inode_table *t)
{
    if (t->count < t->n_buckets * 2)
        return;
    struct inode **old = t->by_ino;
    size_t n_old = t->n_buckets;
    free(t->by_name);
    t->n_buckets *= 4;
    t->by_ino = xcalloc(t->n_buckets, sizeof(*t->by_ino));
    t->by_name = xcalloc(t->n_buckets, sizeof(*t->by_name));
    for (size_t b = 0; b < n_old; b++) {
        struct inode *next;
        for (struct inode *i = old[b]; i; i = next) {
            next = i->next_ino;
            struct inode **to = &t->by_ino[ino_bucket(t, i->ino)];
            i->next_ino = *to;
            *to = i;
            if (i->parent && !i->unlinked)
                link_name(t, i);
        }
    }
    free(old);
}

/* Frees i when nothing holds it, and then its ancestors for whom it was the last child. */
static void release_locked(struct inode_table *t, struct inode *i)
{
    while (i != &t->root && i->nlookup == 0 && i->refs == 0) {
        struct inode *parent = i->parent;
        if (!i->unlinked)
            unlink_name(t, i);
        unlink_ino(t, i);
        t->count--;
        if (i->successor) {
            i->successor->refs--; /* a chain of them is short: each had open handles */
            release_locked(t, i->successor);
        }
        inode_destroy(i);
        i = parent;
        assert(i->refs > 0);
        i->refs--;
    }
}

struct inode *inode_by_number(struct inode_table *t, uint64_t ino)
{
    LOCK_SCOPE(&t->lock);
    struct inode *i = find_ino(t, ino);
    if (i)
        i->refs++;
    return i;
}

void inode_ref(struct inode_table *t, struct inode *i)
{
    LOCK_SCOPE(&t->lock);
    i->refs++;
}

void inode_unref(struct inode_table *t, struct inode *i)
{
    if (!i)
        return;
    LOCK_SCOPE(&t->lock);
    assert(i->refs > 0);
    i->refs--;
    release_locked(t, i);
}

static struct inode *create_locked(struct inode_table *t, struct inode *parent,
                                   const struct inode_spec *spec)
{
    struct inode *i = xcalloc(1, sizeof(*i));
    i->ino = stable_number(parent, spec->name);
    while (find_ino(t, i->ino))
        i->ino++;
    i->kind = spec->kind;
    i->key = spec->key;
    i->view = spec->view;
    i->parent = parent;
    parent->refs++;
    i->name = xstrdup(spec->name);
    i->segment = strcmp(i->name, spec->segment) == 0 ? i->name : xstrdup(spec->segment);
    i->shadow = spec->shadow;
    struct inode **b = &t->by_ino[ino_bucket(t, i->ino)];
    i->next_ino = *b;
    *b = i;
    link_name(t, i);
    t->count++;
    grow(t);
    return i;
}

struct inode *inode_enter(struct inode_table *t, struct inode *parent, const struct inode_spec *spec)
{
    LOCK_SCOPE(&t->lock);
    struct inode *i = find_name(t, parent, spec->name);
    if (!i)
        i = create_locked(t, parent, spec);
    i->nlookup++;
    i->refs++;
    return i;
}

void inode_forget(struct inode_table *t, uint64_t ino, uint64_t nlookup)
{
    LOCK_SCOPE(&t->lock);
    struct inode *i = find_ino(t, ino);
    if (!i || i == &t->root)
        return;
    i->nlookup -= nlookup < i->nlookup ? nlookup : i->nlookup;
    release_locked(t, i);
}

uint64_t inode_guess(struct inode_table *t, struct inode *parent, const char *name)
{
    LOCK_SCOPE(&t->lock);
    struct inode *i = find_name(t, parent, name);
    return i ? i->ino : stable_number(parent, name);
}

/* The segments joined by '/'; when all are empty as many slashes (path_child in base/name.h). */
static char *path_locked(struct inode *i, const char *child)
{
    size_t len = child ? strlen(child) + 1 : 0, n_segments = child ? 1 : 0;
    for (struct inode *p = i; p->kind == INODE_OBJECT; p = p->parent) {
        if (p->unlinked)
            return NULL;
        len += strlen(p->segment) + 1;
        n_segments++;
    }
    if (len == n_segments) {
        char *slashes = xmalloc(len + 1);
        memset(slashes, '/', len);
        slashes[len] = '\0';
        return slashes;
    }
    char *path = xmalloc(len);
    char *end = path + len - 1;
    *end = '\0';
    if (child) {
        end -= strlen(child);
        memcpy(end, child, strlen(child));
    }
    for (struct inode *p = i; p->kind == INODE_OBJECT; p = p->parent) {
        if (child)
            *--end = '/';
        size_t n = strlen(p->segment);
        end -= n;
        memcpy(end, p->segment, n);
        child = p->segment;
    }
    assert(end == path);
    return path;
}

char *inode_path(struct inode_table *t, struct inode *i)
{
    LOCK_SCOPE(&t->lock);
    return path_locked(i, NULL);
}

char *inode_child_path(struct inode_table *t, struct inode *i, const char *segment)
{
    LOCK_SCOPE(&t->lock);
    return path_locked(i, segment);
}

static void unlinked_locked(struct inode_table *t, struct inode *i)
{
    unlink_name(t, i);
    i->unlinked = true;
    release_locked(t, i);
}

void inode_unlinked(struct inode_table *t, struct inode *parent, const char *name)
{
    LOCK_SCOPE(&t->lock);
    struct inode *i = find_name(t, parent, name);
    if (i)
        unlinked_locked(t, i);
}

/* Without a name; the caller has references on the old and the new parent. */
static void place_locked(struct inode_table *t, struct inode *i, const struct inode_place *p)
{
    struct inode *old_parent = i->parent;
    i->parent = p->parent;
    i->parent->refs++;
    if (i->segment != i->name)
        free(i->segment);
    free(i->name);
    i->name = xstrdup(p->name);
    i->segment = strcmp(i->name, p->segment) == 0 ? i->name : xstrdup(p->segment);
    link_name(t, i);
    assert(old_parent->refs > 0);
    old_parent->refs--;
    release_locked(t, old_parent);
}

void inode_renamed(struct inode_table *t, struct inode *from, const char *name, struct inode *to,
                   const char *new_name, const char *new_segment, bool shadow)
{
    LOCK_SCOPE(&t->lock);
    struct inode *i = find_name(t, from, name);
    struct inode *old = find_name(t, to, new_name);
    if (old == i)
        return;
    if (old)
        unlinked_locked(t, old);
    if (!i)
        return;
    unlink_name(t, i);
    place_locked(t, i, &(struct inode_place){to, new_name, new_segment});
    i->shadow = shadow;
}

void inode_exchanged(struct inode_table *t, const struct inode_place *a, const struct inode_place *b)
{
    LOCK_SCOPE(&t->lock);
    struct inode *i = find_name(t, a->parent, a->name);
    struct inode *j = find_name(t, b->parent, b->name);
    if (i == j)
        return;
    if (i)
        unlink_name(t, i);
    if (j)
        unlink_name(t, j);
    if (i)
        place_locked(t, i, b);
    if (j)
        place_locked(t, j, a);
}

void inode_add_handle(struct inode_table *t, struct inode *i, struct handle *h)
{
    LOCK_SCOPE(&t->lock);
    i->refs++;
    h->inode = i;
    h->next = i->handles;
    i->handles = h;
}

struct handle *inode_first_handle(struct inode_table *t, struct inode *i, bool old_too)
{
    LOCK_SCOPE(&t->lock);
    struct handle *old = NULL;
    struct handle *h = i->handles;
    for (; h; h = h->next) {
        if (!h->file || h->refs == 0)
            continue;
        if (!vfile_is_stale(h->file))
            break;
        old = h;
    }
    if (!h && (old_too || i->unlinked))
        h = old;
    if (h)
        h->refs++;
    return h;
}

void inode_ref_handle(struct inode_table *t, struct handle *h)
{
    LOCK_SCOPE(&t->lock);
    h->refs++;
}

struct handle *inode_any_handle(struct inode_table *t)
{
    LOCK_SCOPE(&t->lock);
    for (size_t b = 0; b < t->n_buckets; b++) {
        for (struct inode *i = t->by_ino[b]; i; i = i->next_ino) {
            if (i->handles)
                return i->handles;
        }
    }
    return NULL;
}

/* ---- passed through or not ---- */

/* The name goes to a new inode, which exists from now on: who looks it up next gets that one. */
static void supersede_locked(struct inode_table *t, struct inode *i)
{
    if (i->unlinked)
        return;
    struct inode_spec spec = {.kind = i->kind,
                              .key = i->key,
                              .view = i->view,
                              .name = i->name,
                              .segment = i->segment,
                              .shadow = i->shadow};
    unlink_name(t, i);
    i->unlinked = true;
    i->successor = create_locked(t, i->parent, &spec);
    i->successor->refs++;
    i->successor->io.wary_until_ns = clock_now_ns() + WARY_NS;
}

void inode_supersede(struct inode_table *t, struct inode *i)
{
    LOCK_SCOPE(&t->lock);
    supersede_locked(t, i);
}

char *inode_old_name(struct inode_table *t, const struct inode *i, uint64_t *ret_parent)
{
    LOCK_SCOPE(&t->lock);
    *ret_parent = i->parent->ino;
    return xstrdup(i->name);
}

struct inode *inode_successor(struct inode_table *t, struct inode *i)
{
    LOCK_SCOPE(&t->lock);
    struct inode *last = NULL;
    for (struct inode *s = i->successor; s; s = s->successor)
        last = s;
    if (last)
        last->refs++;
    return last;
}

bool inode_is_superseded(struct inode_table *t, struct inode *i)
{
    LOCK_SCOPE(&t->lock);
    return i->successor != NULL;
}

/* A handle that has another version than whoever opens i now. */
static bool has_older_locked(const struct inode *i)
{
    for (const struct handle *h = i->unlinked ? NULL : i->handles; h; h = h->next)
        if (h->file && vfile_is_stale(h->file))
            return true;
    return false;
}

static void send_locked(struct inode_table *t, pid_t thread)
{
    if (thread == INODE_NOBODY)
        return;
    t->sent[t->sent_at].thread = thread;
    t->sent[t->sent_at].until_ns = clock_now_ns() + WARY_NS;
    t->sent_at = (t->sent_at + 1) % SENT_MAX;
}

static bool take_sent_locked(struct inode_table *t, pid_t thread)
{
    uint64_t now = clock_now_ns();
    bool was = false;
    for (unsigned n = 0; n < SENT_MAX; n++) {
        if (t->sent[n].thread != thread || t->sent[n].until_ns == 0)
            continue;
        was = was || now < t->sent[n].until_ns;
        t->sent[n].until_ns = 0;
    }
    return was;
}

static bool is_free_locked(const struct inode *i)
{
    return !i->io.passed && !i->io.cached && !i->successor && clock_now_ns() >= i->io.wary_until_ns;
}

bool inode_is_free(struct inode_table *t, const struct inode *i)
{
    LOCK_SCOPE(&t->lock);
    return is_free_locked(i);
}

enum inode_io inode_claim_io(struct inode_table *t, struct inode *i, struct inode_io_claim *claim)
{
    LOCK_SCOPE(&t->lock);
    claim->again |= take_sent_locked(t, claim->opener);
    if ((i->io.passed && i->io.file != claim->file) || (!claim->again && has_older_locked(i))) {
        supersede_locked(t, i);
        send_locked(t, claim->opener);
        return INODE_IO_AGAIN;
    }
    if (claim->file && is_free_locked(i)) {
        if (!claim->backing)
            return INODE_IO_FREE;
        i->io.file = claim->file;
        i->io.backing = claim->backing;
    }
    if (claim->file && i->io.file == claim->file) {
        i->io.passed++;
        claim->backing = i->io.backing;
        return INODE_IO_PASSED;
    }
    i->io.cached++;
    return INODE_IO_CACHED;
}

static int unclaim_locked(struct inode *i, enum inode_io io)
{
    int backing = 0;
    if (io == INODE_IO_CACHED)
        i->io.cached--;
    if (io == INODE_IO_PASSED && --i->io.passed == 0) {
        backing = i->io.backing;
        i->io.backing = 0;
        i->io.file = NULL;
    }
    return backing;
}

bool inode_drop_handle(struct inode_table *t, struct handle *h, int *ret_backing)
{
    LOCK_SCOPE(&t->lock);
    *ret_backing = 0;
    assert(h->refs > 0);
    if (--h->refs > 0)
        return false;
    struct inode *i = h->inode;
    if (!i)
        return true;
    *ret_backing = unclaim_locked(i, h->io);
    if (h->paged) {
        atomic_fetch_sub(&i->page_writers, h->writes);
        atomic_fetch_sub(&i->page_handles, 1);
    }
    struct handle **p = &i->handles;
    while (*p != h) {
        assert(*p);
        p = &(*p)->next;
    }
    *p = h->next;
    h->inode = NULL;
    i->refs--;
    release_locked(t, i);
    return true;
}

size_t inode_count(struct inode_table *t)
{
    LOCK_SCOPE(&t->lock);
    return t->count;
}

struct inode_numbers inode_numbers_of(struct inode_table *t, const char *shown)
{
    struct inode_numbers ret = {0};
    LOCK_SCOPE(&t->lock);
    struct inode *i = &t->root;
    for (const char *s = shown; i && *s;) {
        size_t n = strcspn(s, "/");
        char *name = xstrndup(s, n);
        ret.dir = i->ino;
        i = find_name(t, i, name);
        free(name);
        s += n + (s[n] == '/');
        if (*s)
            ret.dir = 0;
    }
    ret.self = i ? i->ino : 0;
    return ret;
}

#define SLICE 1024 /* buckets looked at without letting others in */

static void numbers_of_slice(struct inode_table *t, size_t from, size_t to, struct inode_query *q)
{
    for (size_t b = from; b < to; b++)
        for (struct inode *i = t->by_ino[b]; i; i = i->next_ino) {
            char *path = i->kind == INODE_OBJECT && i->key == q->key ? path_locked(i, NULL) : NULL;
            if (path && q->match(q->arg, path)) {
                q->numbers = xrealloc(q->numbers, (q->n + 1) * sizeof(*q->numbers));
                q->numbers[q->n++] = i->ino;
            }
            free(path);
        }
}

void inode_find_all(struct inode_table *t, struct inode_query *q)
{
    size_t buckets = 0;
    for (size_t at = 0;;) {
        LOCK_SCOPE(&t->lock);
        if (t->n_buckets != buckets) { /* it has grown: from the beginning */
            buckets = t->n_buckets;
            at = q->n = 0;
        }
        size_t end = at + SLICE < buckets ? at + SLICE : buckets;
        numbers_of_slice(t, at, end, q);
        at = end;
        if (at == buckets)
            return;
    }
}

/* SPDX-License-Identifier: MIT
 * behind.c: small contents that were just stored, on their way into the cache (cache_adopt_bytes).
 *
 * They wait in memory until nothing was added for QUIET_NS: making their files takes as much of a
 * processor as storing them, and who writes many files at once is waiting for the stores. Written
 * sooner: when they are asked for (behind_bring), when they take a lot of memory or others want it,
 * and after AGE_NS at the latest. The cache's ticker does it.
 * Invariants, under cache->lock: (1) object.behind is set from its addition until it is on disk, or
 * is known not to be kept; (2) an item is in the list, or `writing` counts it; it has a reference. */
#include "cache/object_int.h"

#include "base/clock.h"

#include <stdlib.h>

#define QUIET_NS (100 * NS_PER_MS)
#define AGE_NS NS_PER_S
#define BYTES_MAX (8ULL << 20)

struct behind_item {
    struct behind_item *next;
    struct cache_object *object;
    void *bytes;
};

static uint64_t bytes_max(struct cache *c)
{
    uint64_t part = budget_total(c->budget) / 8;
    return part < BYTES_MAX ? part : BYTES_MAX;
}

uint64_t behind_due_locked(const struct cache *c)
{
    lock_assert_held(&c->lock);
    if (!c->s.behind.head)
        return UINT64_MAX;
    if (c->s.behind.is_much)
        return 0;
    uint64_t quiet = c->s.behind.last_ns + QUIET_NS, old = c->s.behind.first_ns + AGE_NS;
    return quiet < old ? quiet : old;
}

/* The item of o, or the oldest (NULL), out of the list; NULL: there is none. */
static struct behind_item *take_locked(struct cache *c, const struct cache_object *o)
{
    struct behind_item **at = &c->s.behind.head;
    while (*at && o && (*at)->object != o)
        at = &(*at)->next;
    struct behind_item *item = *at;
    if (!item)
        return NULL;
    *at = item->next;
    if (!item->next)
        c->s.behind.tail = at;
    c->s.behind.n--;
    c->s.behind.bytes -= item->object->size;
    c->s.behind.writing++;
    return item;
}

static void write_item(struct cache *c, struct behind_item *item)
{
    struct cache_object *o = item->object;
    cache_object_store(o, 0, item->bytes, (size_t)o->size);
    cache_buffer_put(c, item->bytes, (size_t)o->size);
    lock_acquire(&c->lock);
    atomic_store(&o->behind, false);
    c->s.behind.writing--;
    cond_broadcast(&c->changed);
    lock_release(&c->lock);
    cache_object_put(o);
    free(item);
}

/* What is added meanwhile is for the next time. */
void behind_write(struct cache *c)
{
    lock_acquire(&c->lock);
    size_t n = c->s.behind.n;
    c->s.behind.is_much = false;
    c->s.behind.first_ns = clock_now_ns();
    lock_release(&c->lock);
    for (; n > 0; n--) {
        lock_acquire(&c->lock);
        struct behind_item *item = take_locked(c, NULL);
        lock_release(&c->lock);
        if (!item)
            return;
        write_item(c, item);
    }
}

void behind_flush(struct cache *c)
{
    behind_write(c);
    LOCK_SCOPE(&c->lock);
    while (c->s.behind.writing)
        cond_wait(&c->changed, &c->lock);
}

void behind_bring(struct cache_object *o)
{
    struct cache *c = o->cache;
    if (!atomic_load(&o->behind))
        return;
    lock_acquire(&c->lock);
    struct behind_item *item = take_locked(c, o);
    while (!item && atomic_load(&o->behind))
        cond_wait(&c->changed, &c->lock);
    lock_release(&c->lock);
    if (item)
        write_item(c, item);
}

static void add_locked(struct cache *c, struct behind_item *item)
{
    uint64_t now = clock_now_ns();
    bool first = !c->s.behind.head;
    *(first ? &c->s.behind.head : c->s.behind.tail) = item;
    c->s.behind.tail = &item->next;
    c->s.behind.n++;
    c->s.behind.bytes += item->object->size;
    c->s.behind.last_ns = now;
    if (first)
        c->s.behind.first_ns = now;
    bool much = c->s.behind.bytes > bytes_max(c);
    if (first || (much && !c->s.behind.is_much))
        cond_signal(&c->ticker_wake);
    c->s.behind.is_much |= much;
}

void cache_adopt_bytes(struct cache *c, const char *key, const char *path, const char *version,
                       void *bytes, size_t size)
{
    struct cache_object *o = cache_object_get(c, key, path, version, size, true);
    struct behind_item *item = xcalloc(1, sizeof(*item));
    *item = (struct behind_item){.object = o, .bytes = bytes};
    lock_acquire(&c->lock);
    bool waits = c->has_ticker && o->keep && !o->zombie && !atomic_exchange(&o->behind, true);
    if (waits)
        add_locked(c, item);
    lock_release(&c->lock);
    if (waits)
        return;
    cache_object_store(o, 0, bytes, size);
    cache_buffer_put(c, bytes, size);
    cache_object_put(o);
    free(item);
}

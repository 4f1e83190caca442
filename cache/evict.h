/* SPDX-License-Identifier: MIT
 * evict.h: which blocks go first. Pure bookkeeping and choice: the effects (punching holes, rows)
 * are space.c's.
 *
 *     evict_add(&list, &b->lru, bytes, now_ms);   evict_touch(&list, &b->lru, now_ms);
 *     n = evict_choose(&list, need, may_go, arg, out, max);   // coldest first, not removed yet
 *     evict_remove(&list, &b->lru);
 * Ownership: items belong to the caller and must be removed before they are freed. Threads: the
 * caller locks. */
#ifndef QUAY_CACHE_EVICT_H
#define QUAY_CACHE_EVICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct evict_item {
    struct evict_item *prev, *next; /* NULL: in no list */
    uint64_t used_ms;               /* wall clock of the last use */
    uint64_t bytes;
};

struct evict_list {
    struct evict_item head; /* next = coldest */
    uint64_t bytes;
    size_t count;
};

void evict_init(struct evict_list *l);
void evict_add(struct evict_list *l, struct evict_item *it, uint64_t bytes, uint64_t now_ms);
void evict_touch(struct evict_list *l, struct evict_item *it, uint64_t now_ms);
void evict_resize(struct evict_list *l, struct evict_item *it, uint64_t bytes);
void evict_remove(struct evict_list *l, struct evict_item *it);
bool evict_listed(const struct evict_item *it);

/* May this item go? It sees the caller's state (pins, key, age). */
typedef bool evict_may_fn(const struct evict_item *it, void *arg);

/* The coldest items that may go, until they are `need` bytes or `max` items. */
size_t evict_choose(const struct evict_list *l, uint64_t need, evict_may_fn *may, void *arg,
                    struct evict_item **out, size_t max);

#endif

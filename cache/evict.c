/* SPDX-License-Identifier: MIT
 * evict.c: a least-recently-used list.
 * Invariants: (1) the list is a ring through `head`, coldest at head.next; (2) l->bytes and
 * l->count are the sums over the ring; (3) an item out of the ring has NULL links. */
#include "cache/evict.h"

void evict_init(struct evict_list *l)
{
    *l = (struct evict_list){0};
    l->head.prev = l->head.next = &l->head;
}

static void link_last(struct evict_list *l, struct evict_item *it)
{
    it->prev = l->head.prev;
    it->next = &l->head;
    it->prev->next = it;
    l->head.prev = it;
}

static void unlink_item(struct evict_item *it)
{
    it->prev->next = it->next;
    it->next->prev = it->prev;
    it->prev = it->next = NULL;
}

void evict_add(struct evict_list *l, struct evict_item *it, uint64_t bytes, uint64_t now_ms)
{
    it->bytes = bytes;
    it->used_ms = now_ms;
    link_last(l, it);
    l->bytes += bytes;
    l->count++;
}

void evict_touch(struct evict_list *l, struct evict_item *it, uint64_t now_ms)
{
    it->used_ms = now_ms;
    if (l->head.prev == it)
        return;
    unlink_item(it);
    link_last(l, it);
}

void evict_resize(struct evict_list *l, struct evict_item *it, uint64_t bytes)
{
    l->bytes += bytes;
    l->bytes -= it->bytes;
    it->bytes = bytes;
}

void evict_remove(struct evict_list *l, struct evict_item *it)
{
    unlink_item(it);
    l->bytes -= it->bytes;
    l->count--;
}

bool evict_listed(const struct evict_item *it)
{
    return it->next != NULL;
}

size_t evict_choose(const struct evict_list *l, uint64_t need, evict_may_fn *may, void *arg,
                    struct evict_item **out, size_t max)
{
    size_t n = 0;
    uint64_t got = 0;
    for (struct evict_item *it = l->head.next; it != &l->head && n < max && got < need;
         it = it->next) {
        if (may && !may(it, arg))
            continue;
        out[n++] = it;
        got += it->bytes;
    }
    return n;
}

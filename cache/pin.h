/* SPDX-License-Identifier: MIT
 * pin.h: pinned paths: what is below them is kept on disk and never evicted to make room.
 *
 * A pinned path is a file, or a directory and all below it ("" is the whole key). Pins of one key do not
 * overlap: one that lies below another is part of it. They are rows of index.db, so they outlive the
 * process; here is the bookkeeping, and what may be pinned at most; keeper.h fetches what they name and
 * follows new versions.
 *     r = cache_pin(c, "lake", "models/v2", bytes, files, &err);
 *     cache_pins(c, "lake", &list, &n);   cache_pins_free(list, n);
 * Every object version in the cache whose path is covered is `pinned`; so is one that comes later.
 * `bytes` and `files` are what a pin is expected to need, as last counted: their sum over all pins is
 * limited, so that writes and other reads keep an eighth of max_size, and memory for the index remains.
 *
 * Rounds. Who has looked at everything that a pin names can drop what it names no more:
 *     round = cache_pin_round(c);  for each current version: cache_pin_seen(object);
 *     cache_pin_sweep(c, key, path, round);
 * Threads: any. cache_pin and cache_unpin wait for the commit of the row. */
#ifndef QUAY_CACHE_PIN_H
#define QUAY_CACHE_PIN_H

#include "cache/cache.h"

struct cache_pin {
    char *path;
    uint64_t bytes, files;      /* wanted */
    uint64_t have;              /* bytes on disk */
    uint64_t since_ms;          /* wall clock */
    uint64_t checked_ms;        /* when it was last compared with the store; 0 = not since the start */
    char *error;                /* why it is not complete; "" */
};

/* 0; 1: another pin covers it already (its numbers are not changed); -ENOSPC: the pins would take more
 * than may be pinned; or what the index says. Pins below `path` become part of it. */
int cache_pin(struct cache *c, const char *key, const char *path, uint64_t bytes, uint64_t files,
              struct err *err);
/* -ENOENT: that path is not pinned; the text says so, or by what it is covered. */
int cache_unpin(struct cache *c, const char *key, const char *path, struct err *err);
/* What the last look has found; `error` NULL or "" when all is there. Posted, not waited for. */
void cache_pin_checked(struct cache *c, const char *key, const char *path, uint64_t bytes,
                       uint64_t files, const char *error);
void cache_pins(struct cache *c, const char *key, struct cache_pin **ret, size_t *ret_n);
void cache_pins_free(struct cache_pin *list, size_t n);
bool cache_is_pinned(struct cache *c, const char *key, const char *path);
/* A pinned version of which something is missing. */
bool cache_object_wanted(struct cache_object *o);
/* How many bytes more of pinned paths may be stored now. */
uint64_t cache_pin_room(struct cache *c);

uint64_t cache_pin_round(struct cache *c);
void cache_pin_seen(struct cache_object *o);
/* Forgets versions at or below `path` that were neither seen nor made since that round began, but for
 * those that are passed through now. */
void cache_pin_sweep(struct cache *c, const char *key, const char *path, uint64_t round);

#endif

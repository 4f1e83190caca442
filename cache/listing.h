/* SPDX-License-Identifier: MIT
 * listing.h: what a store listed in one directory, in key order, kept compactly.
 *
 * A row is some 70 bytes and its name and version. Counted: a listing that was put into the metadata cache
 * is shared and constant, but for the last two fields, which belong to meta.c: names that we have changed
 * since, about which it answers nothing any more.
 * Threads: one owner until it is shared. Ownership: listing_get gives copies; names are borrowed. */
#ifndef QUAY_CACHE_LISTING_H
#define QUAY_CACHE_LISTING_H

#include "backends/attr.h"
#include "base/strmap.h"

#include <stdatomic.h>

struct listing_row;
struct listing_block;

struct listing {
    atomic_uint refs;
    uint64_t at_ns;   /* when it was begun; 0: before this process, nobody knows when */
    struct listing_row **v;
    size_t n, cap;
    size_t bytes;     /* of memory, about */
    struct listing_block *blocks;
    bool marker;      /* the directory has an object of its own */
    bool changed;
    struct strmap voided;
};

#define LISTING_KEPT_BYTES (24UL << 20) /* of all listings of a key; a longer one is not kept */

struct listing *listing_new(void);
struct listing *listing_ref(struct listing *l);
void listing_put(struct listing *l); /* NULL ok */
/* `listed`: its time in the store's listing, when that is not the truth (no ATTR_META); 0 = not known. */
void listing_add(struct listing *l, const char *name, const struct attr *a, time_t listed);
/* Sorts rows that were added in another order. */
void listing_sort(struct listing *l);

const char *listing_name(const struct listing *l, size_t i);
bool listing_is_dir(const struct listing *l, size_t i);
unsigned listing_known(const struct listing *l, size_t i); /* attr.known */
time_t listing_listed(const struct listing *l, size_t i);
const char *listing_version(const struct listing *l, size_t i);
void listing_get(const struct listing *l, size_t i, struct attr *ret /* empty */);
/* The first row not before the name. */
size_t listing_from(const struct listing *l, const char *name, bool dir);
/* Its row, or -1. */
long listing_find(const struct listing *l, const char *name, bool dir);

/* As strcmp of the keys, where that of a directory ends with '/': the order of listings. */
int listing_compare(const char *a, bool a_dir, const char *b, bool b_dir);

#endif

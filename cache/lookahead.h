/* SPDX-License-Identifier: MIT
 * lookahead.h: names that are looked up one after the other are answered from pages of the listing.
 *
 * A lookup of a name that nothing is known about costs a request. When lookups in one directory miss
 * repeatedly, a page of its listing that begins at the name is asked for instead: one request answers for
 * all names that are there in its range, for as long as any listing does (ttl). Of names that are not there
 * it says nothing: who was told by the writer that a name is there now must find it at the first try.
 *     if (lookahead_known(l, path, ttl) || lookahead_ask(l, op, path, ttl)) meta_get() answers now.
 * Only pages that have the whole truth serve: entries with ATTR_META. Where listings have none (and the
 * index does not know the versions), the first page is the last.
 * Bounded: LOOKAHEAD_DIRS directories, a page of LOOKAHEAD_PAGE_MAX entries each. Pages begin small, grow
 * while their entries are used, and get rare when they are not (struct lookahead_policy: pure).
 * A change of our own since the page was asked for takes its name out of it (meta_seqs).
 * Threads: any. lookahead_known does not wait; lookahead_ask waits for the store, outside of locks. */
#ifndef QUAY_CACHE_LOOKAHEAD_H
#define QUAY_CACHE_LOOKAHEAD_H

#include "backends/store.h"
#include "cache/meta.h"

#define LOOKAHEAD_DIRS 8
#define LOOKAHEAD_PAGE_MIN 64
#define LOOKAHEAD_PAGE_MAX 1000
#define LOOKAHEAD_WINDOW_MS 2000 /* misses further apart do not belong together */

struct lookahead;

/* `store` and `meta` are borrowed. */
struct lookahead *lookahead_new(struct store *store, struct meta *meta);
void lookahead_free(struct lookahead *l); /* NULL ok */
/* True: a page knows the name, and meta has the answer now. */
bool lookahead_known(struct lookahead *l, const char *path, uint64_t ttl_ms);
/* The name is in no page: asks for one when it is time to. True as above; else the store is to be asked
 * about the name itself (errors of the listing show there, if they last). */
bool lookahead_ask(struct lookahead *l, struct op *op, const char *path, uint64_t ttl_ms);

/* ---- pure ---- */
/* One directory's lookups; all zero: none yet. */
struct lookahead_policy {
    unsigned misses; /* in a row, since the last page */
    unsigned need;   /* so many bring the next page */
    unsigned size;   /* of the next page */
    bool judging;    /* a page is out, */
    size_t got, used; /* which had `got` entries and gave `used` answers */
    uint64_t last_ns;
};
/* A name that is in no page was looked up: the number of entries to list, or 0: not now. */
unsigned lookahead_on_miss(struct lookahead_policy *p, uint64_t now_ns);
void lookahead_on_page(struct lookahead_policy *p, size_t got);
void lookahead_on_use(struct lookahead_policy *p);
void lookahead_on_failure(struct lookahead_policy *p);
/* A name for list_query.after, so that the listing begins with `name` or little before it; malloc'd, NULL:
 * there is none that every server takes. */
char *lookahead_before(const char *name);

#endif

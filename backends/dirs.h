/* SPDX-License-Identifier: MIT
 * dirs.h: listings of stores with real directories (local, sftp): which names are behind a cursor, and rests.
 *
 * Such a store reads a directory whole and in no order; a page returns a part of it. What is left of a listing of one
 * level is kept for the next page (a rest, for a few listings and for max_age_ns each), so that each page does not read
 * the directory again; what others create and remove meanwhile is not seen by it.
 *
 *   struct rest rest = rests_take(&rests, q, changes);    // empty, or what the page before left
 *   ... give names from rest.left (rest.at is the first), or read the directory into it ...
 *   rests_keep(&rests, q, cursor, &rest);                  // if some are left
 *   rests_drop(&rests, &rest);                             // always
 *
 * Threads: any; one lock, held for moments. Ownership: rests_take gives, rests_keep takes; `left` is the class's, freed by
 * the function it gave. */
#ifndef QUAY_BACKENDS_DIRS_H
#define QUAY_BACKENDS_DIRS_H

#include "backends/store.h"
#include "base/lock.h"

#define RESTS 4

/* Where a listing goes on: only what sorts behind the full key `behind` (NULL: all) is given. */
struct dirs_position {
    const char *behind;
    bool recursive;
};

/* Is what sorts as dir + name (+ '/' of a directory) still to be listed, or is something below it? */
bool dirs_is_wanted(const struct dirs_position *p, const char *dir, const char *name, bool is_dir);

struct rest {
    char *prefix, *cursor; /* of the query that goes on with it; NULL: nothing was found, or free */
    void *left;            /* the names, as the class keeps them; NULL: none */
    size_t at;             /* the first one to give */
    uint64_t read_ns;      /* when the directory was read */
    unsigned changes;      /* made by this store before that: after one more it is not shown */
};

struct rests {
    struct lock lock;
    uint64_t max_age_ns;
    void (*free_left)(void *left);
    struct rest v[RESTS];
};

/* `name` is the lock's. */
void rests_init(struct rests *r, const char *name, uint64_t max_age_ns, void (*free_left)(void *left));
void rests_done(struct rests *r);

struct rest rests_take(struct rests *r, const struct list_query *q, unsigned changes);
/* The oldest one goes for it; *rest is empty afterwards. */
void rests_keep(struct rests *r, const struct list_query *q, const char *cursor, struct rest *rest);
void rests_drop(struct rests *r, struct rest *rest);

#endif

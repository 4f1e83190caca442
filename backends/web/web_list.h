/* SPDX-License-Identifier: MIT
 * web_list.h: pages of listings from sources that tell a whole directory at once, in any order.
 *
 * An index page, a manifest or the pages of a REST collection become a struct web_names: sorted, without
 * doubles. web_list() cuts the pages that store_list wants out of them, recursive ones too.
 * What a listing has read is kept on a shelf (a few directories, the least recently used goes) under
 * the number of that listing, which its cursor carries: the next page asks the server for nothing and
 * shows the same state. When it has gone from the shelf it is read again, and the listing goes on behind
 * the last name. A new listing always asks the server.
 *
 *     struct web_lister l = {.load = my_load, .arg = s};     // my_load(s, op, 1, "a/", &names)
 *     r = web_list(&s->shelf, &l, op, q, ret);
 * Limits: WEB_DEPTH_MAX levels (a server may link a directory into itself). Threads: any. */
#ifndef QUAY_BACKENDS_WEB_LIST_H
#define QUAY_BACKENDS_WEB_LIST_H

#include "backends/store.h"
#include "base/lock.h"

#define WEB_DEPTH_MAX 64
#define WEB_SHELF 16
#define WEB_PAGE_MAX 5000

struct web_name {
    char *name;    /* of a directory with '/' at its end, as it sorts */
    char *version; /* or NULL */
    uint64_t size;
    int64_t mtime_s;
    bool has_size, has_mtime;
};

struct web_names {
    struct web_name *v;
    size_t n, cap;
};

/* The entry is empty but for its name; `dir`: a '/' is added. Valid until the next add. */
struct web_name *web_names_add(struct web_names *a, const char *name, bool dir);
/* Sorts, and drops doubles: the one that knows most stays, a directory rather than a file. */
void web_names_sort(struct web_names *a);
void web_names_cut(struct web_names *a, size_t n); /* to the first n */
void web_names_done(struct web_names *a);

struct web_lister {
    /* All that is in the directory `dir` ("" or "a/b/"), sorted; -ENOENT: there is none; 1: it takes longer,
     * ask again (with the same number of the listing). */
    int (*load)(void *arg, struct op *op, uint64_t listing, const char *dir, struct web_names *ret);
    void *arg;
    bool whole_truth; /* size and mtime known: that is all there is to know (ATTR_META) */
};

struct web_shelf_place {
    struct web_names names;
    char *dir;
    uint64_t listing, used;
};

struct web_shelf {
    struct lock lock;
    struct web_shelf_place v[WEB_SHELF];
    uint64_t listings, uses;
};

void web_shelf_init(struct web_shelf *s);
void web_shelf_done(struct web_shelf *s);

int web_list(struct web_shelf *shelf, const struct web_lister *l, struct op *op,
             const struct list_query *q, struct list_page *ret);

#endif

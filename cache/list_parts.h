/* SPDX-License-Identifier: MIT
 * list_parts.h: the plan of one listing: which parts of a directory to ask for next, and the pages in
 * order. Pure: the caller asks the store.
 *
 * A directory is a row of parts, each the names behind `from` up to and with `end`: not listed yet, being
 * asked for, or a page that waits to be taken. A page shorter than its part leaves the rest as a part with
 * the store's cursor. Once a first page has told that there is more, parts are cut at guessed names
 * (list_split.h), about a page long, later several, so that `limit` of them can be asked for at once; what
 * waits to be taken is bounded too (LIST_PARTS_WINDOW pages), so memory does not grow with the directory.
 * A part that turns out to be large is cut again; while guesses are bad (much of what is listed lies behind
 * the end of its part) none is cut. A page without a cursor ends the directory.
 *
 *     list_parts_init(&p, dir, limit, NULL, false);
 *     while ((part = list_parts_ask(&p, false))) ... store_list(list_parts_query(...)) ...
 *         list_parts_answer(&p, part, &page) or list_parts_failed(&p, part);
 *     switch (list_parts_take(&p, &page, &ns)) ...
 *
 * Order: entries of a page lie within their part and ascend, or the store does not list in byte order
 * (`unordered`): then everything is asked for again page by page from the last page taken; and when what
 * was taken has come from a cut part, that is too late: LIST_PARTS_BROKEN.
 * Threads: caller locks; a part that is being asked for may be read without. */
#ifndef QUAY_CACHE_LIST_PARTS_H
#define QUAY_CACHE_LIST_PARTS_H

#include "backends/store.h"
#include "cache/list_split.h"

#define LIST_PARTS_WINDOW 32

enum list_part_state { LIST_PART_OPEN = 1, LIST_PART_ASKED, LIST_PART_PAGE };

struct list_name {       /* a name as it sorts: that of a directory ends with '/' */
    char *name;          /* NULL: before the first, or behind the last */
    bool dir;
};

struct list_part {
    struct list_part *next;
    enum list_part_state state;
    bool dead;           /* asked for, and not wanted any more */
    bool cut;            /* does not begin where a page has ended */
    bool tried;          /* a short page was not enough */
    struct list_name from;
    char *end;           /* NULL: to the end of the directory */
    char *cursor;
    unsigned max;        /* entries to ask for; 0: a whole page */
    uint64_t asked_ns;   /* the caller's */
    struct list_page page;
};

struct list_parts {
    char *dir;
    struct list_part *first;
    struct list_split *split; /* NULL: page by page only */
    char *low, *high;         /* the names between which the last page lay */
    size_t between;           /* how many */
    unsigned limit;
    unsigned asked, waiting;  /* parts in these states */
    size_t arrived;           /* pages */
    size_t useful, wasted;    /* entries, of late: in their part, and behind its end */
    size_t no_cut_until;      /* so many pages have arrived: the last guesses were bad */
    char *resume;             /* the cursor behind what was taken; NULL: the beginning */
    bool mended;              /* no part that was taken was cut: `resume` is true */
    bool unordered;
    bool broken;
};

enum list_parts_answer {
    LIST_PARTS_END = 0,
    LIST_PARTS_TAKEN,
    LIST_PARTS_WAIT,  /* the first part is being asked for */
    LIST_PARTS_ASK,   /* the first part is to be asked for: list_parts_ask(p, true) */
    LIST_PARTS_BROKEN
};

/* `limit` 1: page by page. `after`: behind this name only, or NULL. */
void list_parts_init(struct list_parts *p, const char *dir, unsigned limit, const char *after,
                     bool after_dir);
void list_parts_done(struct list_parts *p); /* nothing is being asked for */
/* A part that is now being asked for, or NULL. `now`: the first one, whatever the limits say. */
struct list_part *list_parts_ask(struct list_parts *p, bool now);
/* The query for it; borrows from part and prefix; *after is the caller's to free. */
struct list_query list_parts_query(const struct list_part *part, const char *prefix, char **after);
/* Takes the page; frees the part if it is dead. */
void list_parts_answer(struct list_parts *p, struct list_part *part, struct list_page *page);
void list_parts_failed(struct list_parts *p, struct list_part *part);
/* The next page in order, with entries of this directory only; *ret_ns: its asked_ns. */
enum list_parts_answer list_parts_take(struct list_parts *p, struct list_page *ret, uint64_t *ret_ns);
bool list_parts_ready(const struct list_parts *p); /* list_parts_take gives something at once */
bool list_parts_is_end(const struct list_parts *p);

#endif

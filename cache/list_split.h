/* SPDX-License-Identifier: MIT
 * list_split.h: guesses where the names of a large directory can be cut, so that parts of it are listed
 * at once. Pure.
 *
 * Nothing but the names seen so far is known. They are read as numbers whose digits at each position are
 * the kinds of bytes seen there (one decimal digit seen: all ten may come; 'a' to 'f' among digits: all 16
 * may); n names that lie between `first` and `last` let the next n be expected in as much of the number
 * line behind `last`. A guess may be wrong in every way but one: it lies strictly between the two names
 * asked for, so the parts before and behind it are disjoint and are the whole. It has no '/', so what
 * is below one sub-directory is in one part. It is valid UTF-8 when the names are.
 *     list_split_note(s, name) for every name listed; then list_split_point(...)
 * Threads: one owner. Ownership: strings given are malloc'd. */
#ifndef QUAY_CACHE_LIST_SPLIT_H
#define QUAY_CACHE_LIST_SPLIT_H

#include <stdbool.h>
#include <stdint.h>

#define LIST_SPLIT_POSITIONS 96 /* bytes of a name that are looked at */

struct list_split {
    struct list_split_position {
        uint32_t seen[8];  /* a set of bytes */
        bool ends;         /* a name ended here */
    } at[LIST_SPLIT_POSITIONS];
};

void list_split_note(struct list_split *s, const char *name);

/* A name behind `from` by `times` of what lies between first and last (both noted), and before `end`
 * (NULL: no end); NULL when there is none. */
char *list_split_point(const struct list_split *s, const char *first, const char *last,
                       const char *from, const char *end, double times);
/* How many times of what lies between first and last fit between from and end; < 0: not known. */
double list_split_ratio(const struct list_split *s, const char *first, const char *last,
                        const char *from, const char *end);

#endif

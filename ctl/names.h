/* SPDX-License-Identifier: MIT
 * names.h: goes through the names of a directory of the mount.
 *
 * In the order of the keys ("a.txt" before "a/b": a directory sorts as "a/"), as the mount lists them, one page
 * after the other: nothing is collected. Paths are the objects' own (base/name.h); what a listing cannot tell
 * apart by name alone (names of more than 255 bytes) has the name that ls shows.
 *     status = names_walk(&place, &options, fn, arg);
 * Threads: main's. What cannot be listed is told on stderr, and the rest gone through: CTL_FAILED then. */
#ifndef QUAY_CTL_NAMES_H
#define QUAY_CTL_NAMES_H

#include "ctl/place.h"

#include <sys/stat.h>

struct name_entry {
    const char *path; /* the object's, below the key; of a directory with a final slash */
    const char *file; /* where the mount shows it */
    struct stat st;   /* filled when options.stat */
    bool dir;
};

struct names_options {
    bool recursive;     /* files of all levels, and no directories; else one level of both */
    bool stat;
    const char *prefix; /* only keys that begin so, below the place; NULL: all. Implies recursive. */
};

/* Something else than CTL_OK ends the walk and is given back. */
typedef int names_fn(void *arg, const struct name_entry *e);

int names_walk(const struct place *top, const struct names_options *o, names_fn *fn, void *arg);

#endif

/* SPDX-License-Identifier: MIT
 * same.h: do two names mean one object? Two keys may show one bucket or directory, the one perhaps below the other, and a
 * file of this machine may be that of a key: what is copied onto itself, and then removed as the source of a move, is lost.
 *
 *     struct same_place a = {.store = s, .path = "proj/x"}, b = {.path = "/data/x", .st = &st};
 *     rel = same_by_name(&a, &b, &sure);   if (!sure) r = same_by_look(&op, &a, &b);
 * By name: sure where one service is spelled in one way. Where its spelling differs (another name of the host, https and
 * http) and the rest is alike, and for directories of this machine (bind mounts), looking tells: what has one version,
 * size and time is taken for one object. Different classes are never compared. Threads: any. */
#ifndef QUAY_BACKENDS_SAME_H
#define QUAY_BACKENDS_SAME_H

#include "backends/store.h"

#include <sys/stat.h>

struct same_place {
    struct store *store;   /* NULL: a file of this machine */
    const char *path;      /* in the store; of a file: absolute, without symbolic links */
    const struct stat *st; /* of a file, for same_by_look; NULL: there is none */
};

enum same_names {
    SAME_APART = 0,
    SAME_ONE,
    SAME_BELOW, /* b is in the directory a */
    SAME_ABOVE  /* a is in the directory b */
};

/* No network. Not sure: only looking tells whether it is so. */
enum same_names same_by_name(const struct same_place *a, const struct same_place *b, bool *ret_sure);
/* 1: nothing tells them apart; 0: two objects, or one is not there; -errno. */
int same_by_look(struct op *op, const struct same_place *a, const struct same_place *b);

#endif

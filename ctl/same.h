/* SPDX-License-Identifier: MIT
 * same.h: are two places of quayctl cp, mv and sync one and the same? Asks the daemon (backends/same.h). */
#ifndef QUAY_CTL_SAME_H
#define QUAY_CTL_SAME_H

#include "base/err.h"

#include <stdbool.h>
#include <sys/stat.h>

struct same_side {
    const char *key;       /* NULL: outside the mount */
    const char *path;      /* in the key; or absolute */
    const struct stat *st; /* outside: of the file; NULL: there is none */
};

enum same_relation { RELATION_APART = 0, RELATION_ONE, RELATION_NESTED };

/* By names. *ret_unsure: same_looked must be asked for each file. 0, or -errno. */
int same_named(const char *control, const struct same_side *from, const struct same_side *to, enum same_relation *ret,
               bool *ret_unsure, struct err *err);
/* 0: two files, or the one is not there; -EINVAL: nothing tells them apart; -errno. */
int same_looked(const char *control, const struct same_side *from, const struct same_side *to, struct err *err);

#endif

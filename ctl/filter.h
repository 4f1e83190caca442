/* SPDX-License-Identifier: MIT
 * filter.h: --include and --exclude: which names of a tree are meant.
 *
 * Rules in the order of the command line, the first that matches decides. A pattern without '/' is for the
 * last part of a path, another for all of it from the top of the tree (*, ?, [..], **; a leading '/' is
 * taken off). What no rule matches is meant, unless there is an include: then only directories are, to be
 * looked into. A directory that is excluded is not looked into. Pure functions. */
#ifndef QUAY_CTL_FILTER_H
#define QUAY_CTL_FILTER_H

#include <stdbool.h>
#include <stddef.h>

struct filter_rule {
    const char *pattern; /* borrowed */
    bool include;
};

struct filter {
    struct filter_rule *rules;
    size_t n;
    bool includes; /* there is one */
};

void filter_add(struct filter *f, const char *pattern, bool include);
bool filter_wants(const struct filter *f, const char *path, bool dir);
void filter_done(struct filter *f);

#endif

/* SPDX-License-Identifier: MIT
 * tree.h: the files that a path of a key stands for: one file, a directory and all below, or a pattern.
 *
 * A pattern has *, ?, [..] or ** (name.h: path_glob) and stands for what it matches, directories with all
 * below them. What is there under exactly that name goes before a pattern.
 *     struct tree w = {.path = "models/v*", .dir = false};
 *     r = tree_walk(v, op, &w, fn, arg);       // fn: 0, or -errno that ends the walk
 * Directories are listed one after the other through the volume (so listings are cached), entries in key
 * order. Nothing that matches is -ENOENT. Symbolic links are no files. Blocking; threads: any. */
#ifndef QUAY_CACHE_TREE_H
#define QUAY_CACHE_TREE_H

#include "cache/volume.h"

struct tree {
    const char *path; /* "" is the whole key */
    bool dir;         /* the directory of that name, if there is a file as well */
};

typedef int tree_fn(void *arg, const char *path, const struct attr *a);

int tree_walk(struct volume *v, struct op *op, const struct tree *w, tree_fn *fn, void *arg);
/* Does the walk stand for this path? By name only. */
bool tree_covers(const struct tree *w, const char *path);
bool tree_is_pattern(const char *path);

#endif

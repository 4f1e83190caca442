/* SPDX-License-Identifier: MIT
 * commit.h: between commit.c (one attempt to get staged content into the store) and conflict.c (what is
 * done when another client was there first). Everything here runs with the vnode's token. */
#ifndef QUAY_CACHE_COMMIT_H
#define QUAY_CACHE_COMMIT_H

#include "cache/volume_int.h"

/* One attempt, without consequences for the vnode but bytes filled in. 0: the store has it as *ret. */
int commit_attempt(struct vnode *n, struct op *op, struct attr *ret);
/* The store has it: becomes CLEAN with the new version (a conflict copy: is done with). */
void commit_done(struct vnode *n, const struct attr *a);
/* It does not: stays DIRTY, gets a journal row and another attempt later. Returns -op->err.code. */
int commit_failed(struct vnode *n, struct op *op);
/* Is what the store has under this name what is staged here? An attempt may have succeeded although we
 * were told otherwise, or told nothing (a lost answer, a crash). 1 with *ret, 0, or -errno: not known. */
int commit_is_ours(struct vnode *n, struct op *op, struct attr *ret);

/* Another client was first. Saves ours under another name; returns -ESTALE or -EEXIST. */
int commit_conflict(struct vnode *n, struct op *op);

#endif

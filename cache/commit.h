/* SPDX-License-Identifier: MIT
 * commit.h: between commit.c (one attempt to get staged content into the store), commit_ours.c (what is there when
 * that went wrong) and conflict.c (what is done when another client was there first). Everything here runs with the
 * vnode's token. */
#ifndef QUAY_CACHE_COMMIT_H
#define QUAY_CACHE_COMMIT_H

#include "cache/volume_int.h"

/* DIRTY, `committing`. 0: the store has it, or nobody wants it any more; 1: another client was first; else it stays
 * staged, as after commit_failed. */
int commit_staged(struct vnode *n, struct op *op);
/* It was not stored: stays DIRTY, gets a journal row and another attempt later. Returns -op->err.code. */
int commit_failed(struct vnode *n, struct op *op);
/* The time of a file that leaves while it is written is that of its upload's beginning, unless it was set: an object's
 * metadata cannot be changed without a copy. */
void commit_take_stream_time(struct vnode *n);
/* Another client was first. Ours becomes another vnode's, under another name, and is stored if that can be; n is stale.
 * Returns -ESTALE or -EEXIST. */
int commit_conflict(struct vnode *n, struct op *op);

/* ---- commit_ours.c ---- */
enum commit_found {
    COMMIT_OURS = 0,  /* what is staged: stored, as *ret */
    COMMIT_EARLIER,   /* what was sent, or half of it, by an earlier attempt: the next one is to replace it */
    COMMIT_UNCHANGED, /* what was expected, or nothing where nothing was: nobody was first */
    COMMIT_THEIRS
};
/* What is there now? -errno: not known. */
int commit_look(struct vnode *n, struct op *op, struct attr *ret);
/* The name was taken to be free at the open without asking the store. Was the version that is there now
 * there already? Then it is what the open has truncated, and 1. */
int commit_made_late(struct vnode *n, struct op *op);
/* A patch ended in the middle: what is there now has the ranges that are staged here in some state, and is the base
 * in all else. The next attempt goes on from there; with the old version it would take its own work for another
 * client's. */
void commit_go_on_from(struct vnode *n, const struct attr *now);
/* Is all of the new content staged? */
bool commit_is_complete(const struct vnode *n);

#endif

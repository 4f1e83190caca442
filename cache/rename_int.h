/* SPDX-License-Identifier: MIT
 * rename_int.h: what rename_dir.c (the rename that somebody waits for) and rename_resume.c (the one that
 * was interrupted) share: moving a tree object by object.
 *
 *     struct moving m = {.v = v, .op = op, .from = from, .to = to};     with a name lock of both trees
 *     moving_begin(&m); moving_list(&m); moving_copy(&m); moving_remove(&m); moving_end(&m);
 * Entries whose `done` is set are not copied again; those with `keep` stay at their source. */
#ifndef QUAY_CACHE_RENAME_INT_H
#define QUAY_CACHE_RENAME_INT_H

#include "cache/rename_log.h"
#include "cache/volume_int.h"

#define RENAME_LARGE (1u << 20) /* written down at once: comparing it would cost more */
#define MOVING_UNWRITTEN 64 /* copies that are not in the journal yet, at most */

struct moving_entry {
    char *from, *to;
    struct attr attr;                /* of the source, as listed */
    char version[ATTR_VERSION_MAX];  /* of the copy, when done */
    bool done;                       /* the copy is there */
    bool unknown;                    /* it was sent, and not answered: the copy may be there */
    bool keep;                       /* somebody else's object is in its way: it stays */
};

struct moving {
    struct volume *v;
    struct op *op;
    const char *from, *to;
    struct moving_entry *entries;
    size_t n, cap;
    bool marker;           /* the source has an object of its own */
    bool made;             /* the target's marker is ours */
    bool whole;            /* the target is: open files go on there, whatever becomes of the source */
    bool resumed;          /* by another process: what is open at the target was opened since */
    size_t changed;        /* sources that others have made or written meanwhile: they stay, and moving_remove() is -EBUSY */
    struct vnode **nodes;  /* below, with their tokens */
    size_t n_nodes;
    int64_t id;            /* in the journal; 0: not */
    struct volume_rename_info info; /* in volume.s.renames; its counts are under volume.s.lock */
    struct moving *next;
    struct lock lock;      /* of: */
    size_t unwritten[MOVING_UNWRITTEN];
    unsigned n_unwritten;
};

void moving_init(struct moving *m, struct volume *v, struct op *op, const char *from, const char *to);
void moving_done(struct moving *m);
/* Shows it in volume_renames() from here to moving_done(). */
void moving_phase(struct moving *m, enum rename_phase phase);
int moving_list(struct moving *m);
int moving_copy(struct moving *m);         /* an error leaves copies: moving_undo() */
int moving_undo(struct moving *m, struct op *op); /* removes the copies that are `done`, all that it can; the first failure */
int moving_remove(struct moving *m);       /* the sources whose copies are done, then the directories */
/* Open files below both: takes their tokens and stores what is staged; then those of m->from go on below m->to. */
int moving_hold(struct moving *m, size_t *ret_held);
void moving_nodes(struct moving *m);       /* the latter: when the target is whole */
void moving_release(struct moving *m, size_t held);
void moving_forget(struct moving *m);      /* what is known of both trees */

#endif

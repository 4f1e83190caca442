/* SPDX-License-Identifier: MIT
 * given_up.h: uploads of which nobody can say yet what became of them.
 *
 * What a server was sent it may do long after nobody waits for its answer: a removed file would be back, and what was
 * written after it would meet an object that nobody here knows. So each such upload stays known to the volume, under its
 * path:
 *   flying   its file was removed while the request was on its way. The name is free, the file has none any more; who
 *            waits for the answer takes away what was stored, if it is still that version. Who wants to store something
 *            else as this path, or move something there, or its directory away, waits for that (given_up_wait).
 *   unknown  nobody waits any more (cancelled, timed out, the connection broke, this process died). The object is known
 *            by its size and its time, the nanosecond of our clock at which it was written; where a user has set the
 *            time, or the store keeps seconds, it cannot be told from another client's, and is left alone.
 *            WATCH_MS long a commit that finds such an object in its way replaces it (given_up_is). When the name was
 *            removed or moved away here (given_up_removed), it is not shown (given_up_hides), and the retrier's looks, ever
 *            rarer, take it away. That is in the journal: the next process goes on with it.
 * What others have put there is another version, or has another time: it stays.
 * Threads: any, without struct locks. The list is under volume.s.lock. */
#ifndef QUAY_CACHE_GIVEN_UP_H
#define QUAY_CACHE_GIVEN_UP_H

#include "cache/volume_int.h"

/* With the token: an attempt to store it has ended, and nobody knows how. */
void given_up_add(struct vnode *n);
/* Its name, or its directory's, is gone here: what comes to be there late is to go, too. */
void given_up_removed(struct volume *v, const char *path);
/* A change of ours has put something there. */
void given_up_stored(struct volume *v, const char *path);
void given_up_arrived(struct volume *v, const char *path); /* and below */
/* Is this object, found as `path`, one of those? */
bool given_up_is(struct volume *v, const char *path, const struct attr *a);
/* And of a file that was removed? */
bool given_up_hides(struct volume *v, const char *path, const struct attr *a);

/* Without the token, which an upload of n has: its name is removed, what the upload stores will be taken away. False: there is
 * no such upload (any more), or it is one that must be waited for. */
bool given_up_fly(struct vnode *n);
bool given_up_may_fly_locked(const struct vnode *n); /* vnode.lock */
/* With the token: the upload of n, which flies, has ended like this; `a`: what was stored. */
void given_up_land(struct vnode *n, struct op *op, int r, const struct attr *a);
/* The mount ends: nobody waits for what flies, the next process looks for it. */
void given_up_halt(struct volume *v);
/* With its name lock: is what a listing has found as `path` of a file that was removed? Then it is taken away (or later, by a
 * look). 1, 0 or -errno. */
int given_up_sweep(struct volume *v, struct op *op, const char *path);
/* 0: nothing flies to this path, or below. */
int given_up_wait(struct volume *v, struct op *op, const char *path);

/* For the retrier, under volume.s.lock: is there something to look for? Else *ret_next is not behind the time of the next. */
bool given_up_due_locked(struct volume *v, uint64_t now, uint64_t *ret_next);
void given_up_look_locked(struct volume *v); /* submits a job, counted in s.jobs */
/* At start: what the journal has. */
int given_up_recover(struct volume *v, struct err *err);
void given_up_free(struct volume *v);

#endif

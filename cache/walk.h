/* SPDX-License-Identifier: MIT
 * walk.h: asks ahead for somebody who goes through a directory name by name.
 *
 * `find`, `du`, `ls -l` look up the names of a listing one after the other. What a listing does not tell is one
 * request each: what is in a sub-directory, and the attributes of a file where listings have none. When
 * names of one listing are asked for in its order, those that follow are asked for by a few workers: a
 * sub-directory is listed (which serves its stat and its opendir), a file's attributes are fetched. Answers go
 * into the metadata cache with their own age, as if they had been asked for; a file asked for ahead gives no
 * ticket for an open.
 *     walk_note(v, path)  whenever the store is to be asked for the attributes of path
 * Bounded: WALK_WORKERS requests at once (the store's limit, if that is less), WALK_AHEAD names behind the
 * one asked for. Threads: any; no call waits. */
#ifndef QUAY_CACHE_WALK_H
#define QUAY_CACHE_WALK_H

#include "cache/volume_int.h"

#define WALK_WORKERS 8
#define WALK_AHEAD 64

struct walk;

struct walk *walk_new(struct volume *v);
void walk_note(struct walk *w, const char *path);
void walk_stop(struct walk *w); /* cancels; nothing is begun any more */
void walk_free(struct walk *w); /* NULL ok; no job is left */

#endif

/* SPDX-License-Identifier: MIT
 * keeper.h: sees to it that what is pinned (pin.h) in a volume is on disk, in its current version.
 *
 * A thread of the volume, started when it has pins, looks at them when it starts, every [cache] pin_check,
 * and at a file soon after an open has found a new version of it: it fetches what is missing (warm.h)
 * and then drops older versions and what the store has no more. While the store is away, everything stays.
 * Listings and attributes younger than the key's ttl are believed, as everywhere.
 *     r = volume_pin(v, &op, &w, &covered);     // w as for volume_warm, with one walk
 * Threads: volume_pin and volume_unpin from any; one look at a time. keeper_stop ends what runs. */
#ifndef QUAY_CACHE_KEEPER_H
#define QUAY_CACHE_KEEPER_H

#include "cache/pin.h"
#include "cache/warm.h"

struct keeper;

/* Pins w->trees[0].path, durably, and fetches it. *ret_covered: it is part of a pin that was there already.
 * -ENOSPC: too much, nothing is pinned. -EINTR and failures of single files: it is pinned, and the keeper
 * goes on with it. */
int volume_pin(struct volume *v, struct op *op, struct warm *w, bool *ret_covered);
int volume_unpin(struct volume *v, const char *path, struct err *err);

/* ---- for volume.c and file.c ---- */
struct keeper *keeper_new(struct volume *v); /* starts when there is something pinned */
void keeper_stop(struct keeper *k);          /* NULL ok; frees */
/* An open has found this version: if it is pinned and not whole, it is fetched. Never waits. */
void keeper_note(struct keeper *k, const char *path, struct cache_object *o);

#endif

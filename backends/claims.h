/* SPDX-License-Identifier: MIT
 * claims.h: changes of one key by this process exclude each other, without holding a mutex over
 * I/O.
 *
 * For stores whose server does not join condition and change into one step: whoever holds the claim
 * of a key may look and then change. Keys share CLAIMS flags by hash, so two keys may exclude each
 * other.
 *
 *     r = claims_take(&c, op, key); if (r < 0) return r; ... claims_release(&c, key);
 *
 * A thread holds one claim, or the two of claims_take_both (taken in ascending order). Who waits for
 * a claim holds nothing that its holder may wait for, a connection of a pool for instance: with one
 * in hand, claims_try() first.
 * Errors: op_check()'s while waiting. Threads: any. */
#ifndef QUAY_BACKENDS_CLAIMS_H
#define QUAY_BACKENDS_CLAIMS_H

#include "base/lock.h"
#include "base/op.h"

#define CLAIMS 64

struct claims {
    struct lock lock;
    struct cond released;
    bool busy[CLAIMS];
};

void claims_init(struct claims *c, const char *name /* must live as long as c */);
void claims_done(struct claims *c);
int claims_take(struct claims *c, struct op *op, const char *key);
bool claims_try(struct claims *c, const char *key); /* taken, without waiting? */
void claims_release(struct claims *c, const char *key);
int claims_take_both(struct claims *c, struct op *op, const char *a, const char *b);
void claims_release_both(struct claims *c, const char *a, const char *b);

#endif

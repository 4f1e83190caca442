/* SPDX-License-Identifier: MIT
 * claims.c: see claims.h. Invariant: busy[i] is true while one thread is between take and release.
 */
#include "backends/claims.h"

#include "base/clock.h"
#include "base/strmap.h"

#include <string.h>

void claims_init(struct claims *c, const char *name)
{
    lock_init(&c->lock, LOCK_RANK_STORE, name);
    cond_init(&c->released);
}

void claims_done(struct claims *c)
{
    lock_done(&c->lock);
    cond_done(&c->released);
}

static size_t claim_of(const char *key)
{
    return hash_bytes(key, strlen(key)) % CLAIMS;
}

static int take(struct claims *c, struct op *op, size_t i)
{
    LOCK_SCOPE(&c->lock);
    while (c->busy[i]) {
        (void)cond_wait_until(&c->released, &c->lock, clock_now_ns() + 100 * NS_PER_MS);
        int r = op_check(op);
        if (r < 0)
            return r;
    }
    c->busy[i] = true;
    return 0;
}

static void release(struct claims *c, size_t i)
{
    LOCK_SCOPE(&c->lock);
    c->busy[i] = false;
    cond_broadcast(&c->released);
}

int claims_take(struct claims *c, struct op *op, const char *key)
{
    return take(c, op, claim_of(key));
}

bool claims_try(struct claims *c, const char *key)
{
    size_t i = claim_of(key);
    LOCK_SCOPE(&c->lock);
    bool taken = !c->busy[i];
    c->busy[i] = true;
    return taken;
}

void claims_release(struct claims *c, const char *key)
{
    release(c, claim_of(key));
}

int claims_take_both(struct claims *c, struct op *op, const char *a, const char *b)
{
    size_t i = claim_of(a), j = claim_of(b);
    size_t first = i < j ? i : j, second = i < j ? j : i;
    int r = take(c, op, first);
    if (r < 0 || first == second)
        return r;
    r = take(c, op, second);
    if (r < 0)
        release(c, first);
    return r;
}

void claims_release_both(struct claims *c, const char *a, const char *b)
{
    size_t i = claim_of(a), j = claim_of(b);
    release(c, i);
    if (i != j)
        release(c, j);
}

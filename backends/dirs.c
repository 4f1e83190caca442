/* SPDX-License-Identifier: MIT
 * dirs.c: what listings of real directories share. */
#include "backends/dirs.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

bool dirs_is_wanted(const struct dirs_position *p, const char *dir, const char *name, bool is_dir)
{
    if (!p->behind)
        return true;
    size_t n = strlen(dir);
    int c = strncmp(dir, p->behind, n);
    if (c != 0)
        return c > 0;
    const char *tail = p->behind + n;
    n = strlen(name);
    if (!is_dir)
        return strcmp(name, tail) > 0;
    c = strncmp(name, tail, n);
    if (c != 0)
        return c > 0;
    if (tail[n] == '/')
        return p->recursive; /* `behind` is this directory, or within it */
    return '/' > (unsigned char)tail[n];
}

void rests_init(struct rests *r, const char *name, uint64_t max_age_ns, void (*free_left)(void *left))
{
    lock_init(&r->lock, LOCK_RANK_STORE, name);
    r->max_age_ns = max_age_ns;
    r->free_left = free_left;
}

void rests_drop(struct rests *r, struct rest *rest)
{
    if (rest->left)
        r->free_left(rest->left);
    free(rest->prefix);
    free(rest->cursor);
    *rest = (struct rest){0};
}

void rests_done(struct rests *r)
{
    for (unsigned i = 0; i < RESTS; i++)
        rests_drop(r, &r->v[i]);
    lock_done(&r->lock);
}

static struct rest find(struct rests *r, const struct list_query *q)
{
    struct rest found = {0};
    LOCK_SCOPE(&r->lock);
    for (unsigned i = 0; i < RESTS && !q->recursive && q->cursor; i++) {
        struct rest *x = &r->v[i];
        if (!x->prefix || strcmp(x->prefix, q->prefix) != 0 || strcmp(x->cursor, q->cursor) != 0)
            continue;
        found = *x;
        *x = (struct rest){0};
        break;
    }
    return found;
}

struct rest rests_take(struct rests *r, const struct list_query *q, unsigned changes)
{
    uint64_t now = clock_now_ns();
    struct rest found = find(r, q);
    if (found.prefix && (now - found.read_ns > r->max_age_ns || found.changes != changes))
        rests_drop(r, &found);
    if (!found.prefix) {
        found.read_ns = now;
        found.changes = changes;
    }
    return found;
}

void rests_keep(struct rests *r, const struct list_query *q, const char *cursor, struct rest *rest)
{
    free(rest->prefix);
    free(rest->cursor);
    rest->prefix = xstrdup(q->prefix);
    rest->cursor = xstrdup(cursor);
    lock_acquire(&r->lock);
    struct rest *oldest = &r->v[0];
    for (unsigned i = 1; i < RESTS; i++)
        if (r->v[i].read_ns < oldest->read_ns)
            oldest = &r->v[i];
    struct rest old = *oldest;
    *oldest = *rest;
    lock_release(&r->lock);
    *rest = (struct rest){0};
    rests_drop(r, &old);
}

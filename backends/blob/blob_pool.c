/* SPDX-License-Identifier: MIT
 * blob_pool.c: the connections of a store: made when wanted, at most max_connections, kept while they work.
 * When one breaks, those that are idle are not trusted either (the server was restarted): the next call makes
 * a new one. Where the database has one writer at a time (SQLite), the writers of this store queue here and
 * not in its busy handler. */
#include "backends/blob/blob_int.h"

#include "base/clock.h"

#include <errno.h>

#define SLICE_NS (50 * NS_PER_MS) /* how soon a cancelled op is noticed while it waits */
#define SWEEP_EVERY_NS (3600 * NS_PER_S)

/* Takes an idle connection, or the right to make one (*ret NULL). false: wait. */
static bool take_locked(struct blob *b, bool write, struct blob_conn **ret, struct blob_conn **stale)
{
    lock_assert_held(&b->sync.lock);
    if (write && b->d->one_writer && b->sync.writing)
        return false;
    while (b->sync.idle && b->sync.idle->generation != b->sync.generation) {
        struct blob_conn *c = b->sync.idle;
        b->sync.idle = c->next;
        b->sync.open--;
        c->next = *stale;
        *stale = c;
    }
    struct blob_conn *c = b->sync.idle;
    if (!c && b->sync.open >= b->max_connections)
        return false;
    if (c)
        b->sync.idle = c->next;
    else
        b->sync.open++;
    if (write && b->d->one_writer)
        b->sync.writing = true;
    *ret = c;
    return true;
}

static void close_all(struct blob *b, struct blob_conn *list)
{
    for (struct blob_conn *next; list; list = next) {
        next = list->next;
        b->d->disconnect(list);
    }
}

/* A place that was taken is free again. */
static void leave(struct blob *b, bool writer, bool closed, bool broke)
{
    LOCK_SCOPE(&b->sync.lock);
    if (writer)
        b->sync.writing = false;
    if (closed)
        b->sync.open--;
    if (broke)
        b->sync.generation++;
    cond_broadcast(&b->sync.changed);
}

static int make(struct blob *b, struct op *op, struct blob_conn **ret)
{
    bool ready;
    unsigned generation;
    {
        LOCK_SCOPE(&b->sync.lock);
        generation = b->sync.generation;
        ready = b->sync.ready;
    }
    struct blob_conn *c = NULL;
    int r = b->d->connect(b, op, &c);
    if (r < 0)
        return r;
    c->generation = generation;
    if (!ready)
        r = blob_check_tables(c, op);
    if (r < 0) {
        b->d->disconnect(c);
        return r;
    }
    if (!ready) {
        LOCK_SCOPE(&b->sync.lock);
        b->sync.ready = true;
    }
    *ret = c;
    return 0;
}

int blob_get(struct blob *b, struct op *op, bool write, struct blob_conn **ret)
{
    struct blob_conn *c = NULL, *stale = NULL;
    int r;
    {
        LOCK_SCOPE(&b->sync.lock);
        while ((r = op_check(op)) == 0 && !take_locked(b, write, &c, &stale))
            (void)cond_wait_until(&b->sync.changed, &b->sync.lock, clock_now_ns() + SLICE_NS);
    }
    close_all(b, stale);
    if (r < 0)
        return r;
    bool writer = write && b->d->one_writer;
    if (!c)
        r = make(b, op, &c);
    if (r < 0) {
        leave(b, writer, true, false);
        return r;
    }
    c->b = b;
    c->writer = writer;
    c->next = NULL;
    *ret = c;
    return 0;
}

void blob_give(struct blob_conn *c)
{
    struct blob *b = c->b;
    bool writer = c->writer;
    if (c->broken) {
        b->d->disconnect(c);
        leave(b, writer, true, true);
        return;
    }
    LOCK_SCOPE(&b->sync.lock);
    c->next = b->sync.idle;
    b->sync.idle = c;
    if (writer)
        b->sync.writing = false;
    cond_broadcast(&b->sync.changed);
}

void blob_pool_close(struct blob *b)
{
    close_all(b, b->sync.idle);
    b->sync.idle = NULL;
}

/* ---- changes ---- */

static bool sweep_is_due(struct blob *b)
{
    uint64_t now = clock_now_ns();
    LOCK_SCOPE(&b->sync.lock);
    if (now < b->sync.next_sweep_ns)
        return false;
    b->sync.next_sweep_ns = now + SWEEP_EVERY_NS;
    return true;
}

int blob_change(struct blob *b, struct op *op, blob_change_fn *fn, void *arg)
{
    struct blob_conn *c = NULL;
    int r = blob_get(b, op, true, &c);
    if (r < 0)
        return r;
    r = b->d->begin(c, op);
    if (r == 0) {
        r = fn(c, op, arg);
        if (r == 0)
            r = b->d->commit(c, op);
        else if (!c->broken)
            b->d->rollback(c);
    }
    blob_give(c);
    if (r == 0 && sweep_is_due(b))
        blob_sweep(b);
    return r;
}

int blob_alone(struct blob *b, struct op *op, enum blob_sql id, const struct blob_value *params,
               size_t n, int64_t *ret_changes)
{
    struct blob_conn *c = NULL;
    int r = blob_get(b, op, true, &c);
    if (r < 0)
        return r;
    r = blob_run(c, op, id, params, n, NULL, NULL, ret_changes);
    blob_give(c);
    return r;
}

/* SPDX-License-Identifier: MIT
 * parallel.c: see parallel.h. */
#include "cache/parallel.h"

#include "base/lock.h"

#define THREADS_MAX 16

struct parallel {
    struct lock lock;
    size_t next, n;
    int error;
    struct err err;
    parallel_fn *fn;
    void *arg;
    struct op *op; /* the caller's: only `cancelled` is looked at by others */
};

static bool take(struct parallel *p, size_t *ret)
{
    LOCK_SCOPE(&p->lock);
    if (p->error || p->next == p->n)
        return false;
    *ret = p->next++;
    return true;
}

static void work(struct parallel *p, struct op *op)
{
    size_t i = 0;
    while (take(p, &i)) {
        if (op_is_cancelled(p->op))
            op_cancel(op);
        int r = op_check(op);
        if (r == 0)
            r = p->fn(p->arg, i, op);
        if (r == 0)
            continue;
        LOCK_SCOPE(&p->lock);
        if (p->error == 0) {
            p->error = r;
            p->err = op->err;
        }
    }
}

static void *thread_main(void *arg)
{
    struct parallel *p = arg;
    struct op op;
    op_init(&op, p->op->name, 0);
    op.deadline_ns = p->op->deadline_ns;
    op.durable = p->op->durable;
    work(p, &op);
    return NULL;
}

int parallel_each(size_t n, unsigned threads, parallel_fn *fn, void *arg, struct op *op)
{
    struct parallel p = {.n = n, .fn = fn, .arg = arg, .op = op};
    pthread_t ids[THREADS_MAX];
    unsigned started = 0;
    lock_init(&p.lock, LOCK_RANK_LEAF, "parallel");
    if (threads > n)
        threads = (unsigned)n;
    while (started + 1 < threads && started < THREADS_MAX) {
        if (pthread_create(&ids[started], NULL, thread_main, &p) != 0)
            break; /* fewer will do */
        started++;
    }
    struct op mine;
    op_init(&mine, op->name, 0);
    mine.deadline_ns = op->deadline_ns;
    mine.durable = op->durable;
    work(&p, &mine);
    for (unsigned i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
    lock_done(&p.lock);
    if (p.error)
        op->err = p.err;
    return p.error;
}

/* SPDX-License-Identifier: MIT
 * op.c: deadlines and cancelling.
 * Invariants: (1) op_cancel touches only the atomic flag; (2) a sleep looks at it every SLICE_MS,
 * so that an op needs no condition variable of its own. */
#include "base/op.h"

#include "base/clock.h"

#include <errno.h>

#define SLICE_MS 20

void op_init(struct op *op, const char *name, unsigned timeout_ms)
{
    static atomic_uint_fast64_t last_id;
    op->name = name;
    op->id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1;
    op->deadline_ns = timeout_ms ? clock_now_ns() + timeout_ms * NS_PER_MS : 0;
    atomic_init(&op->cancelled, false);
    atomic_init(&op->unwanted, false);
    op->halt = NULL;
    op->halt_from = 0;
    op->moved = NULL;
    op->durable = false;
    op->attempt = 1;
    op->once = false;
    op->err = ERR_INIT;
}

void op_cancel(struct op *op)
{
    atomic_store(&op->cancelled, true);
}

void op_cancel_unsent(struct op *op)
{
    atomic_store(&op->unwanted, true);
}

bool op_waits_for_sent(const struct op *op)
{
    return atomic_load(&op->unwanted) && !atomic_load(&op->cancelled);
}

bool op_is_cancelled(const struct op *op)
{
    return atomic_load(&op->cancelled) || atomic_load(&op->unwanted);
}

int op_check(struct op *op)
{
    if (op_is_cancelled(op) || (op->halt && atomic_load(op->halt) >= op->halt_from))
        return err_set(&op->err, EINTR, "%s: cancelled", op->name);
    if (op->deadline_ns && clock_now_ns() >= op->deadline_ns)
        return err_set(&op->err, ETIMEDOUT, "%s: deadline passed", op->name);
    return 0;
}

void op_moved(struct op *op)
{
    if (op->moved)
        atomic_fetch_add_explicit(op->moved, 1, memory_order_relaxed);
}

void op_sent(struct op *op)
{
    if (op->attempt <= 1)
        op_moved(op);
}

int op_sleep(struct op *op, unsigned ms)
{
    uint64_t end = clock_now_ns() + ms * NS_PER_MS;
    for (;;) {
        int r = op_check(op);
        uint64_t now = clock_now_ns();
        if (r != 0 || now >= end)
            return r;
        uint64_t until = op->deadline_ns && op->deadline_ns < end ? op->deadline_ns : end;
        uint64_t left_ms = until > now ? (until - now + NS_PER_MS - 1) / NS_PER_MS : 1;
        clock_sleep_ms(left_ms < SLICE_MS ? (unsigned)left_ms : SLICE_MS);
    }
}

/* SPDX-License-Identifier: MIT
 * op.h: the context of one request: who asked, until when, and what went wrong.
 *
 * Every call that may wait takes a struct op. The caller owns it for the duration of the call; a
 * callee keeps no pointer to it. Any thread may call op_cancel(); everything else belongs to the
 * thread that runs the request.
 * Errors: op_check() gives -EINTR when cancelled (either way), -ETIMEDOUT past the deadline, else 0. */
#ifndef QUAY_BASE_OP_H
#define QUAY_BASE_OP_H

#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct op {
    const char *name;      /* "read", "stat": for the log */
    uint64_t id;           /* unique in this process */
    uint64_t deadline_ns;  /* of clock_now_ns(); 0 = none */
    atomic_bool cancelled; /* set from any thread */
    atomic_bool unwanted;  /* likewise: cancelled, but for a request that is on its way to a server already */
    const atomic_uint *halt; /* NULL, or: it is cancelled while that is halt_from or more (store_halt) */
    unsigned halt_from;
    atomic_uint_fast64_t *moved; /* NULL, or counts what a store has taken or given (op_moved) */
    bool durable;          /* about bytes that somebody was promised: its questions are halted as changes are */
    unsigned attempt;      /* 1 for the first try; the retry wrapper counts up */
    bool once;             /* the retry wrapper is not to repeat anything (a probe) */
    struct err err;        /* filled by whoever fails */
};

/* `timeout_ms` 0 = no deadline. */
void op_init(struct op *op, const char *name, unsigned timeout_ms);
void op_cancel(struct op *op);
/* The same, but a change that was sent completely is waited for: given up, it may still be made, behind what the
 * caller does next. */
void op_cancel_unsent(struct op *op);
/* Is a request that was sent completely to be waited for? */
bool op_waits_for_sent(const struct op *op);
bool op_is_cancelled(const struct op *op); /* by one of those; from any thread */
int op_check(struct op *op);
/* A byte has come or an answer, or bytes have gone: a store where this happens is not silent. */
void op_moved(struct op *op);
/* Bytes have gone. They count the first time only: a server that takes requests and is silent takes repeated ones, too. */
void op_sent(struct op *op);
/* Sleeps at most `ms`, less when cancelled or past the deadline; returns op_check(). */
int op_sleep(struct op *op, unsigned ms);

#endif

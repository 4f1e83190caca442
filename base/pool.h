/* SPDX-License-Identifier: MIT
 * pool.h: a bounded pool of worker threads, started on demand, ended when idle.
 *
 * Purpose: FUSE handlers and schedulers hand blocking work to a pool and go on. Each key has its own,
 * so a dead store holds up nobody else.
 *     struct my_job { struct pool_job job; ... };  my->job.run = fn;  pool_submit(pool, &my->job);
 * Ownership: the job struct is the submitter's (often embedded); run() may free it. It is not touched
 * by the pool after run() was called.
 * pool_submit never blocks and never fails; callers bound their own number of jobs.
 * A job that nobody needs any more is taken back with pool_take_back() while it is queued; one that may be
 * given up at any time is submitted with pool_submit_unless(): set *given_up, then take it back: one of the
 * two calls gives the job to its caller, or it runs.
 * pool_free runs what is queued, then ends the threads. No job may call pool_free.
 * Priorities: 0 is first (a reader waits for it), 1 normal, 2 background (read-ahead, write-behind).
 * Background jobs never have more than max - max(1, max/4) of the threads (of a pool of one: that one),
 * so a reader finds one free. Jobs run with all signals blocked, on a stack of 256 KiB. */
#ifndef QUAY_BASE_POOL_H
#define QUAY_BASE_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POOL_PRIORITIES 3

struct pool;

struct pool_job {
    void (*run)(struct pool_job *job);
    struct pool_job *next; /* the pool's */
};

struct pool *pool_new(const char *name, unsigned max_threads);
void pool_submit(struct pool *p, struct pool_job *job, unsigned priority);
bool pool_submit_unless(struct pool *p, struct pool_job *job, unsigned priority,
                        const atomic_bool *given_up); /* false: it is, the job was not queued */
bool pool_take_back(struct pool *p, struct pool_job *job); /* false: not queued (any more) */
void pool_drain(struct pool *p); /* waits until queue and workers are idle */
bool pool_drain_until(struct pool *p, uint64_t until_ns); /* false: not in time */
void pool_free(struct pool *p);  /* NULL ok */

struct pool_stats {
    unsigned threads, busy;
    size_t queued;
};
void pool_stats(struct pool *p, struct pool_stats *ret);

#endif

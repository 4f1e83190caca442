/* SPDX-License-Identifier: MIT
 * lock.h: mutexes with a rank and an owner, and condition variables on them.
 *
 * Purpose: lock-order mistakes and I/O under a lock abort at once instead of deadlocking one day.
 * Every lock has a rank; a thread may only take locks of a higher rank than those it holds (locks of
 * equal rank are never held together). The ranks are listed in ARCHITECTURE.md and nowhere else used.
 * sys.h, the store gate and sqldb.h call lock_assert_none_held(): no I/O under a mutex.
 *
 *     struct lock l; lock_init(&l, LOCK_RANK_INODE, "inode");
 *     lock_acquire(&l); ... lock_release(&l);
 *     { LOCK_SCOPE(&l); ... }                  // released at the end of the scope
 * What happens between two locks is seen rarely: QUAY_LOCK_JITTER=500 makes threads sleep there now and then, for up to
 * 500 us, so that a test finds in seconds what takes weeks. Read once by lock_init_jitter(), in programs and tests.
 * Functions that need the lock end in _locked and begin with lock_assert_held(&l). */
#ifndef QUAY_BASE_LOCK_H
#define QUAY_BASE_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum lock_rank { /* outermost first */
    LOCK_RANK_REGISTRY = 10,
    LOCK_RANK_INODE = 20,
    LOCK_RANK_VOLUME = 30,   /* table of open files */
    LOCK_RANK_FILE = 40,     /* one open file: extents, sizes, state */
    LOCK_RANK_META = 50,     /* attribute and listing cache */
    LOCK_RANK_READER = 60,   /* one stream set */
    LOCK_RANK_CACHE = 70,    /* in-memory block index */
    LOCK_RANK_OBJECT = 75,   /* one cached object version */
    LOCK_RANK_BUDGET = 80,   /* memory budget */
    LOCK_RANK_STORE = 85,    /* inside one backend or wrapper */
    LOCK_RANK_HTTP = 90,     /* handle pool */
    LOCK_RANK_POOL = 92,     /* worker queue */
    LOCK_RANK_LEAF = 95      /* anything that calls nothing while held */
};

struct lock {
    pthread_mutex_t mutex;
    pthread_t owner;
    bool held;
    int rank;
    const char *name;
};

struct cond {
    pthread_cond_t cond; /* on CLOCK_MONOTONIC */
};

void lock_init_jitter(void); /* before other threads are there */
void lock_init(struct lock *l, int rank, const char *name); /* `name` must live as long as l */
void lock_done(struct lock *l);
void lock_acquire(struct lock *l);
void lock_release(struct lock *l);
void lock_assert_held(const struct lock *l);
void lock_assert_none_held(void); /* by this thread */

void cond_init(struct cond *c);
void cond_done(struct cond *c);
/* Waiting gives up l only, so l must be the one lock this thread holds (else it aborts). */
void cond_wait(struct cond *c, struct lock *l);
/* Waits until deadline_ns of clock_now_ns() (0 = for ever). false when the deadline passed. */
bool cond_wait_until(struct cond *c, struct lock *l, uint64_t deadline_ns);
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);

static inline void lock_scope_end_(struct lock **l)
{
    lock_release(*l);
}

static inline struct lock *lock_scope_begin_(struct lock *l)
{
    lock_acquire(l);
    return l;
}

#define LOCK_CAT2_(a, b) a##b
#define LOCK_CAT_(a, b) LOCK_CAT2_(a, b)
#define LOCK_SCOPE(l)                                                                              \
    __attribute__((cleanup(lock_scope_end_), unused)) struct lock *LOCK_CAT_(lock_scope_,          \
                                                                             __LINE__) =           \
        lock_scope_begin_(l)

#endif

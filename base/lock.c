/* SPDX-License-Identifier: MIT
 * lock.c: ranked mutexes.
 * Invariants: (1) held_locks[0 .. n_held) are this thread's locks in rising rank, so only the last
 * needs a comparison; releases may come in any order; (2) l->held and l->owner are written only by
 * the holder and are for a debugger: the checks read the thread's own list, which nobody races
 * with; (3) a wait on a condition gives up that lock only, so it must be the only one held. */
#include "base/lock.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELD_MAX 16
#define JITTER_ONE_OF 8

static _Thread_local const struct lock *held_locks[HELD_MAX];
static _Thread_local unsigned n_held;
static unsigned jitter_us; /* 0: none */
static _Thread_local unsigned jitter_seed;

static _Noreturn void lock_bug(const char *what, const struct lock *a, const struct lock *b)
{
    fprintf(stderr, "lock bug: %s '%s' (rank %d)", what, a->name ? a->name : "?", a->rank);
    if (b)
        fprintf(stderr, " while holding '%s' (rank %d)", b->name ? b->name : "?", b->rank);
    fputc('\n', stderr);
    abort();
}

static void must(int r, const char *what, const struct lock *l)
{
    if (r == 0)
        return;
    fprintf(stderr, "lock bug: %s: %s\n", what, strerror(r));
    if (l)
        lock_bug(what, l, NULL);
    abort();
}

void lock_init_jitter(void)
{
    const char *text = getenv("QUAY_LOCK_JITTER");
    unsigned long us = text ? strtoul(text, NULL, 10) : 0;
    us = us < 1000000 ? us : 1000000;
    if (us != jitter_us) /* C tests say the same again while threads end */
        jitter_us = (unsigned)us;
}

/* With no lock held: others may overtake here at any time. */
static void jitter(void)
{
    if (jitter_us == 0 || n_held > 0)
        return;
    if (jitter_seed == 0)
        jitter_seed = (unsigned)clock_now_ns() | 1;
    jitter_seed = jitter_seed * 1103515245u + 12345u;
    unsigned drawn = jitter_seed >> 8;
    if (drawn % JITTER_ONE_OF)
        return;
    struct timespec t = {.tv_nsec = (long)(drawn / JITTER_ONE_OF % jitter_us) * 1000};
    (void)nanosleep(&t, NULL);
}

void lock_init(struct lock *l, int rank, const char *name)
{
    memset(l, 0, sizeof(*l));
    l->rank = rank;
    l->name = name;
    must(pthread_mutex_init(&l->mutex, NULL), "init", l);
}

void lock_done(struct lock *l)
{
    for (unsigned i = 0; i < n_held; i++)
        if (held_locks[i] == l)
            lock_bug("destroying the held", l, NULL);
    must(pthread_mutex_destroy(&l->mutex), "destroy", l);
}

static void check_order(const struct lock *l)
{
    if (n_held == 0)
        return;
    const struct lock *top = held_locks[n_held - 1];
    if (l->rank <= top->rank)
        lock_bug("taking", l, top);
    if (n_held == HELD_MAX)
        lock_bug("too many locks, taking", l, top);
}

static void push(struct lock *l)
{
    held_locks[n_held++] = l;
    l->owner = pthread_self();
    l->held = true;
}

static void pop(struct lock *l)
{
    unsigned i = n_held;
    while (i > 0 && held_locks[i - 1] != l)
        i--;
    if (i == 0)
        lock_bug("releasing the lock that is not held,", l, NULL);
    n_held--;
    memmove(&held_locks[i - 1], &held_locks[i], (n_held - (i - 1)) * sizeof(held_locks[0]));
    l->held = false;
}

void lock_acquire(struct lock *l)
{
    check_order(l);
    jitter();
    must(pthread_mutex_lock(&l->mutex), "acquire", l);
    push(l);
}

void lock_release(struct lock *l)
{
    pop(l);
    must(pthread_mutex_unlock(&l->mutex), "release", l);
    jitter();
}

void lock_assert_held(const struct lock *l)
{
    for (unsigned i = 0; i < n_held; i++)
        if (held_locks[i] == l)
            return;
    lock_bug("needed and not held:", l, NULL);
}

void lock_assert_none_held(void)
{
    if (n_held)
        lock_bug("waiting or doing I/O under", held_locks[n_held - 1], NULL);
}

void cond_init(struct cond *c)
{
    pthread_condattr_t attr;
    must(pthread_condattr_init(&attr), "cond attr", NULL);
    must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC), "cond clock", NULL);
    must(pthread_cond_init(&c->cond, &attr), "cond init", NULL);
    pthread_condattr_destroy(&attr);
}

void cond_done(struct cond *c)
{
    must(pthread_cond_destroy(&c->cond), "cond destroy", NULL);
}

static void before_wait(struct lock *l)
{
    lock_assert_held(l);
    if (n_held > 1)
        lock_bug("waiting on", l, held_locks[0] == l ? held_locks[1] : held_locks[0]);
    pop(l);
}

void cond_wait(struct cond *c, struct lock *l)
{
    before_wait(l);
    must(pthread_cond_wait(&c->cond, &l->mutex), "cond wait", l);
    push(l);
}

bool cond_wait_until(struct cond *c, struct lock *l, uint64_t deadline_ns)
{
    if (deadline_ns == 0) {
        cond_wait(c, l);
        return true;
    }
    struct timespec t = {.tv_sec = (time_t)(deadline_ns / NS_PER_S),
                         .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    before_wait(l);
    int r = pthread_cond_timedwait(&c->cond, &l->mutex, &t);
    if (r != 0 && r != ETIMEDOUT)
        must(r, "cond timed wait", l);
    push(l);
    return r == 0;
}

void cond_signal(struct cond *c)
{
    pthread_cond_signal(&c->cond);
}

void cond_broadcast(struct cond *c)
{
    pthread_cond_broadcast(&c->cond);
}

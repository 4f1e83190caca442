/* SPDX-License-Identifier: MIT
 * pool.c: worker threads on demand.
 * Invariants, under p->lock: (1) busy + idle <= threads <= max (the rest are starting); (2) queued
 * == sum of the three queues; (3) background_busy <= background_max, which leaves a quarter of the
 * workers, at least one where there are two, to readers and normal work; (4) whenever a runnable
 * job is queued, either an idle worker was signalled for it, a thread is starting, or all max
 * threads are busy and each looks at the queue when it is done. */
#include "base/pool.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/lock.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDLE_END_NS (10 * NS_PER_S)
#define STACK_BYTES (256 * 1024)
#define STACK_BYTES_SANITIZED (1024 * 1024)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

struct pool_queue {
    struct pool_job *head, **tail;
    size_t n;
};

struct pool {
    struct lock lock;
    struct cond work;    /* a job to run, or stopping */
    struct cond drained; /* nothing queued nor busy, or a thread has ended */
    struct pool_queue queues[POOL_PRIORITIES];
    unsigned max, threads, idle, busy;
    unsigned background_max, background_busy;
    bool stopping;
    char name[16];
};

struct pool *pool_new(const char *name, unsigned max_threads)
{
    struct pool *p = xcalloc(1, sizeof(*p));
    lock_init(&p->lock, LOCK_RANK_POOL, "pool");
    cond_init(&p->work);
    cond_init(&p->drained);
    p->max = max_threads ? max_threads : 1;
    unsigned kept = p->max / 4 ? p->max / 4 : 1;
    p->background_max = p->max > kept ? p->max - kept : 1;
    for (int i = 0; i < POOL_PRIORITIES; i++)
        p->queues[i].tail = &p->queues[i].head;
    snprintf(p->name, sizeof(p->name), "%s", name);
    return p;
}

/* Jobs that a free worker could start now. */
static size_t runnable_locked(const struct pool *p)
{
    size_t background = p->background_max - p->background_busy;
    if (background > p->queues[2].n)
        background = p->queues[2].n;
    return p->queues[0].n + p->queues[1].n + background;
}

static struct pool_job *take_locked(struct pool *p, unsigned *ret_priority)
{
    for (unsigned i = 0; i < POOL_PRIORITIES; i++) {
        struct pool_queue *q = &p->queues[i];
        if (!q->head || (i == 2 && p->background_busy >= p->background_max))
            continue;
        struct pool_job *job = q->head;
        q->head = job->next;
        if (!q->head)
            q->tail = &q->head;
        q->n--;
        job->next = NULL;
        *ret_priority = i;
        return job;
    }
    return NULL;
}

static void run_job_locked(struct pool *p, struct pool_job *job, unsigned priority)
{
    p->busy++;
    p->background_busy += priority == 2;
    lock_release(&p->lock);
    job->run(job);
    lock_assert_none_held();
    lock_acquire(&p->lock);
    p->background_busy -= priority == 2;
    p->busy--;
    if (p->busy == 0 && p->queues[0].n + p->queues[1].n + p->queues[2].n == 0)
        cond_broadcast(&p->drained);
}

static void *worker(void *arg)
{
    struct pool *p = arg;
    pthread_setname_np(pthread_self(), p->name);
    lock_acquire(&p->lock);
    for (;;) {
        unsigned priority;
        struct pool_job *job = take_locked(p, &priority);
        if (job) {
            run_job_locked(p, job, priority);
            continue;
        }
        if (p->stopping)
            break;
        p->idle++;
        bool in_time = cond_wait_until(&p->work, &p->lock, clock_now_ns() + IDLE_END_NS);
        p->idle--;
        if (!in_time && !p->stopping && runnable_locked(p) == 0)
            break;
    }
    crypto_thread_done(); /* the process may end before this thread has */
    p->threads--;
    cond_broadcast(&p->drained);
    lock_release(&p->lock); /* after this the pool may be gone */
    return NULL;
}

static int start_thread(struct pool *p)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, old;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, SANITIZED ? STACK_BYTES_SANITIZED : STACK_BYTES);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int r = pthread_create(&thread, &attr, worker, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return r;
}

/* p->threads already counts the new thread. Without any other thread the job would wait for ever,
 * so then keep trying for a while; a process that gets no thread at all for that long cannot go on.
 */
static void start_counted(struct pool *p)
{
    for (int tries = 0; start_thread(p) != 0; tries++) {
        lock_acquire(&p->lock);
        bool others = p->threads > 1;
        if (others)
            p->threads--;
        lock_release(&p->lock);
        if (others)
            return;
        if (tries == 500) {
            fprintf(stderr, "pool %s: cannot start a thread\n", p->name);
            abort();
        }
        clock_sleep_ms(10);
    }
}

bool pool_submit_unless(struct pool *p, struct pool_job *job, unsigned priority,
                        const atomic_bool *given_up)
{
    if (priority >= POOL_PRIORITIES)
        priority = POOL_PRIORITIES - 1;
    job->next = NULL;
    lock_acquire(&p->lock);
    if (given_up && atomic_load(given_up)) {
        lock_release(&p->lock);
        return false;
    }
    struct pool_queue *q = &p->queues[priority];
    *q->tail = job;
    q->tail = &job->next;
    q->n++;
    bool start = p->threads < p->max && runnable_locked(p) > p->threads - p->busy;
    if (start)
        p->threads++;
    else if (p->idle)
        cond_signal(&p->work);
    lock_release(&p->lock);
    if (start)
        start_counted(p);
    return true;
}

void pool_submit(struct pool *p, struct pool_job *job, unsigned priority)
{
    (void)pool_submit_unless(p, job, priority, NULL);
}

bool pool_take_back(struct pool *p, struct pool_job *job)
{
    LOCK_SCOPE(&p->lock);
    for (unsigned i = 0; i < POOL_PRIORITIES; i++) {
        struct pool_queue *q = &p->queues[i];
        for (struct pool_job **at = &q->head; *at; at = &(*at)->next) {
            if (*at != job)
                continue;
            *at = job->next;
            if (q->tail == &job->next)
                q->tail = at;
            q->n--;
            cond_broadcast(&p->drained); /* it may have been the last */
            return true;
        }
    }
    return false;
}

static bool is_busy_locked(const struct pool *p)
{
    return p->busy || p->queues[0].n || p->queues[1].n || p->queues[2].n;
}

void pool_drain(struct pool *p)
{
    lock_acquire(&p->lock);
    while (is_busy_locked(p))
        cond_wait(&p->drained, &p->lock);
    lock_release(&p->lock);
}

bool pool_drain_until(struct pool *p, uint64_t until_ns)
{
    lock_acquire(&p->lock);
    while (is_busy_locked(p) && clock_now_ns() < until_ns)
        (void)cond_wait_until(&p->drained, &p->lock, until_ns);
    bool idle = !is_busy_locked(p);
    lock_release(&p->lock);
    return idle;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    lock_acquire(&p->lock);
    while (is_busy_locked(p))
        cond_wait(&p->drained, &p->lock);
    p->stopping = true;
    cond_broadcast(&p->work);
    while (p->threads)
        cond_wait(&p->drained, &p->lock);
    lock_release(&p->lock);
    cond_done(&p->work);
    cond_done(&p->drained);
    lock_done(&p->lock);
    free(p);
}

void pool_stats(struct pool *p, struct pool_stats *ret)
{
    lock_acquire(&p->lock);
    ret->threads = p->threads;
    ret->busy = p->busy;
    ret->queued = p->queues[0].n + p->queues[1].n + p->queues[2].n;
    lock_release(&p->lock);
}

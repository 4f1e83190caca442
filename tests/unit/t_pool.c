/* SPDX-License-Identifier: MIT
 * t_pool.c: workers on demand, priorities, draining. */
#include "base/pool.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/lock.h"
#include "tests/unit/t.h"

#include <pthread.h>
#include <stdatomic.h>

struct job {
    struct pool_job job;
    struct pool *pool;
    int number;
};

static atomic_int done, running, most;
static atomic_bool gate;

static void count_up(struct pool_job *j)
{
    atomic_fetch_add(&done, 1);
    free(j); /* run() may free its job */
}

static void wait_at_gate(struct pool_job *j)
{
    (void)j;
    int now = atomic_fetch_add(&running, 1) + 1;
    int seen = atomic_load(&most);
    while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now))
        ;
    while (!atomic_load(&gate))
        clock_sleep_ms(1);
    atomic_fetch_sub(&running, 1);
    atomic_fetch_add(&done, 1);
}

static void wait_for(atomic_int *value, int want)
{
    for (int i = 0; atomic_load(value) != want && i < 10000; i++)
        clock_sleep_ms(1);
    CHECK_INT(atomic_load(value), want);
}

static void test_many(void)
{
    struct pool *p = pool_new("a-long-pool-name-here", 4);
    atomic_store(&done, 0);
    for (int i = 0; i < 20000; i++) {
        struct job *j = xcalloc(1, sizeof(*j));
        j->job.run = count_up;
        pool_submit(p, &j->job, (unsigned)i % 3);
    }
    pool_drain(p);
    CHECK_INT(atomic_load(&done), 20000);
    struct pool_stats s;
    pool_stats(p, &s);
    CHECK(s.threads >= 1 && s.threads <= 4);
    CHECK_INT(s.busy, 0);
    CHECK_INT(s.queued, 0);
    pool_free(p);
    pool_free(NULL);
}

static void test_on_demand(void)
{
    struct pool *p = pool_new("demand", 8);
    struct job jobs[8] = {0};
    struct pool_stats s;
    pool_stats(p, &s);
    CHECK_INT(s.threads, 0);
    atomic_store(&gate, false);
    for (int i = 0; i < 8; i++) {
        jobs[i].job.run = wait_at_gate;
        pool_submit(p, &jobs[i].job, 0);
        wait_for(&running, i + 1); /* each gets a thread, as the others are all busy */
        pool_stats(p, &s);
        CHECK_INT(s.threads, i + 1);
    }
    atomic_store(&gate, true);
    pool_free(p);
    CHECK_INT(atomic_load(&running), 0);
}

static void background_leaves_room(unsigned max, int background)
{
    struct pool *p = pool_new("room", max);
    struct job jobs[40] = {0}, reader = {.job.run = wait_at_gate};
    struct pool_stats s;
    atomic_store(&gate, false);
    atomic_store(&most, 0);
    for (int i = 0; i < 40; i++) {
        jobs[i].job.run = wait_at_gate;
        pool_submit(p, &jobs[i].job, 2);
    }
    wait_for(&running, background);
    clock_sleep_ms(20);
    CHECK_INT(atomic_load(&running), background);
    if (max > 1) {
        pool_submit(p, &reader.job, 0);
        wait_for(&running, background + 1);
    }
    pool_stats(p, &s);
    CHECK_INT(s.queued, 40 - background);
    atomic_store(&gate, true);
    pool_drain(p);
    pool_free(p);
}

static void test_background(void)
{
    background_leaves_room(1, 1);
    background_leaves_room(2, 1);
    background_leaves_room(4, 3);
    background_leaves_room(16, 12);
}

static int order[3];
static int n_order;

static void note_order(struct pool_job *j)
{
    order[n_order++] = ((struct job *)j)->number;
}

static void test_priority(void)
{
    struct pool *p = pool_new("prio", 1);
    struct job first = {.job.run = wait_at_gate}, jobs[3] = {0};
    n_order = 0;
    atomic_store(&gate, false);
    pool_submit(p, &first.job, 1);
    wait_for(&running, 1);
    for (int i = 0; i < 3; i++) {
        jobs[i].job.run = note_order;
        jobs[i].number = 2 - i;
        pool_submit(p, &jobs[i].job, (unsigned)(2 - i));
    }
    atomic_store(&gate, true);
    pool_free(p); /* runs what is queued */
    CHECK_INT(n_order, 3);
    for (int i = 0; i < 3; i++)
        CHECK_INT(order[i], i);
}

static void submit_again(struct pool_job *j)
{
    struct job *job = (struct job *)j;
    atomic_fetch_add(&done, 1);
    if (job->number-- > 0)
        pool_submit(job->pool, j, 2);
}

static void *submitter(void *arg)
{
    for (int i = 0; i < 3000; i++) {
        struct job *j = xcalloc(1, sizeof(*j));
        j->job.run = count_up;
        pool_submit(arg, &j->job, (unsigned)i % 3);
    }
    return NULL;
}

static void test_concurrent(void)
{
    struct pool *p = pool_new("many", 3);
    struct job chain = {.job.run = submit_again, .pool = p, .number = 500};
    pthread_t threads[4];
    atomic_store(&done, 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, submitter, p) == 0);
    pool_submit(p, &chain.job, 2);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    pool_free(p);
    CHECK_INT(atomic_load(&done), 4 * 3000 + 501);
}

/* A job is given back while it is queued, and only then; given up before that, it is not queued. */
static void test_take_back(void)
{
    struct pool *p = pool_new("back", 1);
    struct job first = {.job.run = wait_at_gate}, jobs[4] = {0};
    struct pool_stats s;
    atomic_bool given_up = false;
    atomic_store(&gate, false);
    atomic_store(&done, 0);
    pool_submit(p, &first.job, 0);
    wait_for(&running, 1);
    for (int i = 0; i < 4; i++) {
        jobs[i].job.run = wait_at_gate;
        CHECK(pool_submit_unless(p, &jobs[i].job, 0, &given_up));
    }
    CHECK(!pool_take_back(p, &first.job)); /* it runs */
    CHECK(pool_take_back(p, &jobs[1].job));
    CHECK(!pool_take_back(p, &jobs[1].job));
    CHECK(pool_take_back(p, &jobs[3].job)); /* the last: the queue can be added to */
    atomic_store(&given_up, true);
    CHECK(!pool_submit_unless(p, &jobs[3].job, 0, &given_up));
    pool_submit(p, &jobs[1].job, 0);
    pool_stats(p, &s);
    CHECK_INT(s.queued, 3);
    atomic_store(&gate, true);
    pool_drain(p);
    CHECK_INT(atomic_load(&done), 4);
    pool_free(p);
}

int main(void)
{
    RUN(test_take_back);
    RUN(test_many);
    RUN(test_on_demand);
    RUN(test_background);
    RUN(test_priority);
    RUN(test_concurrent);
    return t_done();
}

/* SPDX-License-Identifier: MIT
 * queue.c: jobs that wait and run, and the worker threads.
 *
 * States of an item: WAITING -> RUNNING -> gone. A name occurs once (jobs and checks apart). Everything
 * below `lock`; a running item is freed by its worker only, so run_control stays valid meanwhile. */
#include "loader/queue.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "loader/text.h"

#include <errno.h>

struct item {
    enum queue_kind kind;
    char *file, *name;
    struct run_control ctl;
    bool running;
    struct timespec since;
    struct item *next;
};

struct queue {
    struct run_env *env;
    int wake_fd;
    pthread_t *threads;
    unsigned n_threads;
    struct lock lock;
    struct cond changed;
    struct item *items; /* oldest first */
    bool stopping;
    struct queue_counts counts;
};

static void item_free(struct item *it)
{
    free(it->file);
    free(it->name);
    free(it);
}

static struct item *find_locked(struct queue *q, bool check, const char *name)
{
    lock_assert_held(&q->lock);
    for (struct item *it = q->items; it; it = it->next)
        if ((it->kind == QUEUE_CHECK) == check && !strcmp(it->name, name))
            return it;
    return NULL;
}

static struct item *take(struct queue *q)
{
    LOCK_SCOPE(&q->lock);
    while (!q->stopping) {
        for (struct item *it = q->items; it; it = it->next)
            if (!it->running) {
                it->running = true;
                it->since = clock_wall();
                q->counts.waiting--;
                q->counts.running++;
                return it;
            }
        cond_wait(&q->changed, &q->lock);
    }
    return NULL;
}

static void drop(struct queue *q, struct item *it, bool ended, bool stuck, int rc)
{
    uint64_t one = 1;

    lock_acquire(&q->lock);
    for (struct item **at = &q->items; *at; at = &(*at)->next)
        if (*at == it) {
            *at = it->next;
            break;
        }
    q->counts.running--;
    q->counts.ended += ended;
    q->counts.stuck += stuck && !q->stopping;
    if (ended && rc > q->counts.worst_rc)
        q->counts.worst_rc = rc;
    lock_release(&q->lock);
    item_free(it);
    if (ended)
        (void)!write(q->wake_fd, &one, sizeof(one));
}

static void run_item(struct queue *q, struct item *it)
{
    struct err err = ERR_INIT;
    enum run_outcome outcome = RUN_LEFT;
    int rc = 0, r = 0;

    if (it->kind == QUEUE_CHECK) {
        run_check(q->env, it->file, it->name, &it->ctl);
        drop(q, it, true, false, 0);
        return;
    }
    if (it->kind == QUEUE_JOB)
        r = spool_take(q->env->spool, it->file, it->name, &err);
    if (r == -ENOENT || r == -EEXIST) { /* withdrawn; or its run/ directory could not be moved */
        log_debug("loader", "%s: not taken: %s", it->file, err_text(&err));
        drop(q, it, false, r == -EEXIST, 0);
        return;
    }
    if (r < 0) {
        log_error("loader", "%s: %s", it->file, err_text(&err));
        drop(q, it, false, true, 0);
        return;
    }
    log_info("loader", "%s: %s", it->name, it->kind == QUEUE_RECOVERED ? "recovered" : "begins");
    outcome = run_job(q->env, it->name, &it->ctl, &rc);
    drop(q, it, outcome == RUN_FINISHED, outcome == RUN_LEFT, rc);
}

static void *worker_main(void *arg)
{
    struct queue *q = arg;
    struct item *it;

    while ((it = take(q)))
        run_item(q, it);
    return NULL;
}

struct queue *queue_new(struct run_env *env, unsigned workers, int wake_fd)
{
    struct queue *q = xcalloc(1, sizeof(*q));

    q->env = env;
    q->wake_fd = wake_fd;
    lock_init(&q->lock, LOCK_RANK_REGISTRY, "job queue");
    cond_init(&q->changed);
    q->threads = xcalloc(workers, sizeof(*q->threads));
    while (q->n_threads < workers &&
           pthread_create(&q->threads[q->n_threads], NULL, worker_main, q) == 0)
        q->n_threads++;
    if (q->n_threads < workers)
        log_warn("loader", "only %u of %u workers could be started", q->n_threads, workers);
    return q;
}

void queue_stop(struct queue *q)
{
    lock_acquire(&q->lock);
    q->stopping = true;
    for (struct item *it = q->items; it; it = it->next)
        atomic_store(&it->ctl.stopping, true);
    cond_broadcast(&q->changed);
    lock_release(&q->lock);
    for (unsigned i = 0; i < q->n_threads; i++)
        (void)pthread_join(q->threads[i], NULL);
    q->n_threads = 0;
}

void queue_free(struct queue *q)
{
    if (!q)
        return;
    while (q->items) {
        struct item *it = q->items;

        q->items = it->next;
        item_free(it);
    }
    free(q->threads);
    cond_done(&q->changed);
    lock_done(&q->lock);
    free(q);
}

bool queue_add(struct queue *q, enum queue_kind kind, const char *file, const char *name)
{
    struct item **at, *it;

    LOCK_SCOPE(&q->lock);
    if (q->stopping || find_locked(q, kind == QUEUE_CHECK, name))
        return false;
    it = xcalloc(1, sizeof(*it));
    *it = (struct item){.kind = kind, .file = xstrdup(file), .name = xstrdup(name),
                        .since = clock_wall()};
    for (at = &q->items; *at; at = &(*at)->next)
        ;
    *at = it;
    q->counts.waiting++;
    cond_signal(&q->changed);
    return true;
}

int queue_cancel(struct queue *q, const char *name)
{
    struct item *it;

    LOCK_SCOPE(&q->lock);
    it = find_locked(q, false, name);
    if (!it)
        return -ENOENT;
    atomic_store(&it->ctl.cancelled, true);
    return 0;
}

void queue_counts(struct queue *q, struct queue_counts *ret)
{
    LOCK_SCOPE(&q->lock);
    *ret = q->counts;
    ret->workers = q->n_threads;
}

json_t *queue_json(struct queue *q)
{
    json_t *list = json_array();

    LOCK_SCOPE(&q->lock);
    for (struct item *it = q->items; it; it = it->next) {
        CLEANUP_BUF struct buf since = BUF_INIT;

        text_time(&since, it->since);
        (void)json_array_append_new(
            list, json_pack("{s:s%,s:s,s:s,s:s}", "name", it->name, strlen(it->name), "kind",
                            it->kind == QUEUE_CHECK ? "check" : "job", "state",
                            it->running ? "running" : "queued", "since", buf_str(&since)));
    }
    return list;
}

/* SPDX-License-Identifier: MIT
 * queue.h: the jobs that wait and run, in memory; the spool is the truth behind it.
 *
 *     q = queue_new(env, workers, wake_fd);
 *     queue_add(q, QUEUE_JOB, file, name);    // false: a job of that name waits or runs already
 *     r = queue_cancel(q, name);              // -ENOENT: neither
 *     queue_stop(q);  queue_free(q);          // running jobs are left in run/ for the next start
 * Workers take jobs in the order they were added. When one ends, 1 is added to the eventfd wake_fd, so
 * that the spool is looked at again (a second job of the same name may wait there).
 * Threads: any. */
#ifndef QUAY_LOADER_QUEUE_H
#define QUAY_LOADER_QUEUE_H

#include "loader/run.h"

#include <jansson.h>

struct queue;

enum queue_kind {
    QUEUE_JOB = 1,   /* new/FILE */
    QUEUE_RECOVERED, /* run/NAME left by a loader that ended */
    QUEUE_CHECK      /* check/FILE */
};

struct queue *queue_new(struct run_env *env, unsigned workers, int wake_fd);
void queue_stop(struct queue *q); /* waits for the workers */
void queue_free(struct queue *q); /* after queue_stop; NULL ok */
bool queue_add(struct queue *q, enum queue_kind kind, const char *file, const char *name);
int queue_cancel(struct queue *q, const char *name);

struct queue_counts {
    unsigned waiting, running, workers;
    unsigned ended, stuck; /* stuck: could not be moved out of run/ */
    int worst_rc;          /* of those that ended */
};
void queue_counts(struct queue *q, struct queue_counts *ret);
/* [{"name", "kind", "state": "queued"|"running", "since"}] */
json_t *queue_json(struct queue *q);

#endif

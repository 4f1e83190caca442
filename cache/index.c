/* SPDX-License-Identifier: MIT
 * index.c: the thread that owns CACHE_DIR/index.db.
 *
 * States of a job: QUEUED -> RUN within a transaction (its own savepoint) -> COMMITTED | FAILED ->
 * freed (posted) or handed back to the waiting caller. Invariants
 *   1. Jobs run and commit in the order in which they were queued.
 *   2. Only the writer thread touches the connection after index_open.
 *   3. A transaction is open only while jobs run: between batches other readers of the file see
 * all.
 *   4. Once the file proved unsound (-EUCLEAN) every job fails; it is moved aside at close.
 *   5. A batch starts at once when somebody waits (index_call, close), else when the first job is
 *      BATCH_MS old or BATCH_JOBS are queued. */
#include "cache/index.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>

#define BATCH_MS 20
#define BATCH_JOBS 1000
#define SCHEMA 1
#define NEWER_INDEX "Start that quayfs again, or move the file away: then the cache starts empty, without its pins"

struct index_job {
    struct index_job *next;
    index_fn *fn;
    void *arg;
    bool waited, done; /* a caller waits; done: under idx->lock */
    int result;
    struct err err;
};

struct cache_index {
    char *path;
    struct sqldb *db;
    struct sqlstmt *savepoint, *release, *undo;
    pthread_t thread;
    bool unsound; /* the writer's */
    struct lock lock;
    struct cond work, done;
    struct {
        struct index_job *head, **tail;
        size_t n, n_waited;
        uint64_t first_ns; /* when the oldest was queued */
        bool stopping;
    } q; /* under lock */
};

/* ---- schema ---- */
static int read_version(struct sqldb *db, struct err *err, int64_t *ret)
{
    struct sqlstmt *st = NULL;
    int r =
        sqldb_exec(db, err, "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)");
    if (r == 0)
        r = sqldb_prepare(db, "SELECT version FROM schema_version", err, &st);
    if (r < 0)
        return r;
    r = sqldb_step(st, err);
    *ret = r == 1 ? sqldb_i64(st, 0) : 0;
    sqldb_finalize(st);
    return r < 0 ? r : 0;
}

static int open_db(struct cache_index *idx, struct err *err)
{
    int64_t version = 0;
    struct sqldb *db = NULL;
    int r = sqldb_open(idx->path, SQLDB_WAL_NORMAL, err, &db);
    if (r < 0)
        return r;
    r = read_version(db, err, &version);
    if (r == 0 && version == 0)
        r = sqldb_exec(db, err, "INSERT INTO schema_version VALUES (1)");
    else if (r == 0 && version > SCHEMA)
        r = sqldb_newer_form(idx->path, version, SCHEMA, NEWER_INDEX, err);
    else if (r == 0 && version != SCHEMA)
        r = err_set(err, EUCLEAN, "%s has schema %lld, this program uses %d", idx->path,
                    (long long)version, SCHEMA);
    if (r == 0)
        r = sqldb_prepare(db, "SAVEPOINT job", err, &idx->savepoint);
    if (r == 0)
        r = sqldb_prepare(db, "RELEASE job", err, &idx->release);
    if (r == 0)
        r = sqldb_prepare(db, "ROLLBACK TO job", err, &idx->undo);
    if (r < 0) {
        sqldb_close(db);
        return r;
    }
    idx->db = db;
    return 0;
}

static int open_sound_db(struct cache_index *idx, struct err *err)
{
    struct err why = ERR_INIT;
    int r = open_db(idx, &why);
    if (r != -EUCLEAN) {
        if (r < 0 && err)
            *err = why;
        return r;
    }
    r = sqldb_move_aside(idx->path, err);
    if (r < 0)
        return r;
    log_warn("cache", "%s; it was moved aside and the cache starts empty", err_text(&why));
    return open_db(idx, err);
}

/* ---- the writer ---- */
static int run_job(struct cache_index *idx, struct index_job *job)
{
    int r = sqldb_run(idx->savepoint, &job->err);
    if (r < 0) {
        struct err ignored = ERR_INIT;
        (void)job->fn(idx->db, job->arg, &ignored); /* it frees its argument */
        return r;
    }
    r = job->fn(idx->db, job->arg, &job->err);
    if (r < 0) {
        struct err ignored = ERR_INIT;
        (void)sqldb_run(idx->undo, &ignored);
        (void)sqldb_run(idx->release, &ignored);
        return r;
    }
    r = sqldb_run(idx->release, &job->err);
    return r < 0 || !idx->unsound ? r : err_set(&job->err, EUCLEAN, "the index is damaged");
}

static void note_result(struct cache_index *idx, struct index_job *job)
{
    if (job->result >= 0)
        return;
    log_debug("cache", "index: %s", err_text(&job->err));
    if (job->result != -EUCLEAN || idx->unsound)
        return;
    idx->unsound = true;
    log_warn("cache", "index %s is damaged: %s; it is set aside at the next start", idx->path,
             err_text(&job->err));
}

/* Runs every job of the list; results are in the jobs. Without a transaction (BEGIN failed,
 * unsound) each savepoint is a transaction of its own. */
static void run_batch(struct cache_index *idx, struct index_job *jobs)
{
    struct err err = ERR_INIT;
    bool begun = !idx->unsound && sqldb_begin(idx->db, &err) == 0;
    for (struct index_job *j = jobs; j; j = j->next) {
        j->result = run_job(idx, j);
        note_result(idx, j);
    }
    int r = begun ? sqldb_commit(idx->db, &err) : 0;
    if (r == 0)
        return;
    sqldb_rollback(idx->db);
    for (struct index_job *j = jobs; j; j = j->next)
        if (j->result >= 0) {
            j->result = r;
            j->err = err;
            note_result(idx, j);
        }
}

/* Waits until a batch is due (invariant 5); NULL when stopping and nothing is left. */
static struct index_job *next_batch_locked(struct cache_index *idx)
{
    while (!idx->q.head && !idx->q.stopping)
        cond_wait(&idx->work, &idx->lock);
    uint64_t due = idx->q.first_ns + BATCH_MS * NS_PER_MS;
    while (idx->q.n_waited == 0 && idx->q.n < BATCH_JOBS && !idx->q.stopping &&
           cond_wait_until(&idx->work, &idx->lock, due)) {
    }
    struct index_job *list = idx->q.head, *last = list;
    for (size_t i = 1; last && last->next && i < BATCH_JOBS; i++)
        last = last->next;
    if (!last)
        return NULL;
    idx->q.head = last->next;
    last->next = NULL;
    if (!idx->q.head)
        idx->q.tail = &idx->q.head;
    idx->q.first_ns = clock_now_ns();
    for (struct index_job *j = list; j; j = j->next) {
        idx->q.n--;
        idx->q.n_waited -= j->waited;
    }
    return list;
}

static void finish_batch(struct cache_index *idx, struct index_job *list)
{
    struct index_job *next, *posted = NULL;
    bool any_waited = false;
    lock_acquire(&idx->lock);
    for (struct index_job *j = list; j; j = next) {
        next = j->next;
        if (j->waited) {
            j->done = any_waited = true;
        } else {
            j->next = posted;
            posted = j;
        }
    }
    if (any_waited)
        cond_broadcast(&idx->done);
    lock_release(&idx->lock);
    for (struct index_job *j = posted; j; j = next) {
        next = j->next;
        free(j);
    }
}

static void *writer(void *arg)
{
    struct cache_index *idx = arg;
    pthread_setname_np(pthread_self(), "quay-index");
    for (;;) {
        lock_acquire(&idx->lock);
        struct index_job *list = next_batch_locked(idx);
        lock_release(&idx->lock);
        if (!list)
            return NULL;
        run_batch(idx, list);
        finish_batch(idx, list);
    }
}

static void queue(struct cache_index *idx, struct index_job *job)
{
    LOCK_SCOPE(&idx->lock);
    if (idx->q.n == 0)
        idx->q.first_ns = clock_now_ns();
    *idx->q.tail = job;
    idx->q.tail = &job->next;
    idx->q.n++;
    idx->q.n_waited += job->waited;
    if (idx->q.n == 1 || job->waited || idx->q.n == BATCH_JOBS)
        cond_signal(&idx->work);
}

void index_post(struct cache_index *idx, index_fn *fn, void *arg)
{
    struct index_job *job = xcalloc(1, sizeof(*job));
    job->fn = fn;
    job->arg = arg;
    queue(idx, job);
}

int index_call(struct cache_index *idx, index_fn *fn, void *arg, struct err *err)
{
    struct index_job job = {.fn = fn, .arg = arg, .waited = true};
    queue(idx, &job);
    lock_acquire(&idx->lock);
    while (!job.done)
        cond_wait(&idx->done, &idx->lock);
    lock_release(&idx->lock);
    if (job.result < 0 && err)
        *err = job.err;
    return job.result;
}

static void index_free(struct cache_index *idx)
{
    sqldb_close(idx->db);
    cond_done(&idx->work);
    cond_done(&idx->done);
    lock_done(&idx->lock);
    free(idx->path);
    free(idx);
}

int index_open(const char *dir, struct err *err, struct cache_index **ret)
{
    struct cache_index *idx = xcalloc(1, sizeof(*idx));
    idx->path = xasprintf("%s/index.db", dir);
    lock_init(&idx->lock, LOCK_RANK_LEAF, "index queue");
    cond_init(&idx->work);
    cond_init(&idx->done);
    idx->q.tail = &idx->q.head;
    int r = open_sound_db(idx, err);
    if (r == 0 && (r = -pthread_create(&idx->thread, NULL, writer, idx)) < 0)
        err_set(err, -r, "cannot start the index thread");
    if (r < 0) {
        index_free(idx);
        return r;
    }
    *ret = idx;
    return 0;
}

void index_close(struct cache_index *idx)
{
    if (!idx)
        return;
    lock_acquire(&idx->lock);
    idx->q.stopping = true;
    cond_signal(&idx->work);
    lock_release(&idx->lock);
    pthread_join(idx->thread, NULL);
    if (idx->unsound) {
        sqldb_close(idx->db);
        idx->db = NULL;
        (void)sqldb_move_aside(idx->path, NULL);
    }
    index_free(idx);
}

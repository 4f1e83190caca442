/* SPDX-License-Identifier: MIT
 * left_upload.c: uploads in parts that nobody goes on with, and that could not be aborted (yet): the store was away.
 *
 * Each has a row in the journal until the store has said that it is gone; also those that the store begins by itself, for its
 * copies, which it tells of (struct upload_watch). Those of this process are kept in memory, too, and
 * are aborted by a job of the retrier: when the store answers again, and at growing intervals; what an earlier process has
 * left is taken up at the start in the same way.
 * Invariants, under volume.s.lock: (1) `op` is of the one job, in the pool or running; (2) an entry that the job is at is
 * in no list. */
#include "cache/volume_int.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/stage.h"
#include "cache/stream.h"

#define ABORT_MS 10000
#define LARGE (64u << 20) /* an upload for which the disk is waited for: the server's work takes longer */
#define KEPT_MAX 256 /* of this process; the next one has the others from the journal */
#define AGAIN_MS 1000
#define AGAIN_MAX_MS (10 * 60 * 1000)

struct left_upload {
    char *path, *id;
    bool told; /* the log says that it is there */
    struct left_upload *next;
};

struct sweep_job {
    struct pool_job job;
    struct volume *v;
    struct op op;
};

static struct left_upload *entry_new(const char *path, const char *id, bool told)
{
    struct left_upload *u = xcalloc(1, sizeof(*u));
    *u = (struct left_upload){.path = xstrdup(path), .id = xstrdup(id), .told = told};
    return u;
}

static void entry_free(struct left_upload *u)
{
    free(u->path);
    free(u->id);
    free(u);
}

/* ---- the list ---- */

static void append_locked(struct volume *v, struct left_upload *u)
{
    struct left_upload **at = &v->s.left.first;
    while (*at)
        at = &(*at)->next;
    u->next = NULL;
    *at = u;
    v->s.left.n++;
}

static void again_locked(struct volume *v)
{
    v->s.left.due_ns = clock_now_ns() + clock_backoff_ms(AGAIN_MS, AGAIN_MAX_MS, v->s.left.tries++) * NS_PER_MS;
}

/* False: it is the next process's. */
static bool keep(struct volume *v, const char *path, const char *id)
{
    LOCK_SCOPE(&v->s.lock);
    if (v->s.stopping || v->s.left.n >= KEPT_MAX)
        return false;
    append_locked(v, entry_new(path, id, true));
    v->s.left.tries = 0;
    again_locked(v);
    cond_broadcast(&v->s.cond);
    return true;
}

void left_uploads_free(struct volume *v)
{
    for (struct left_upload *u; (u = v->s.left.first);) {
        v->s.left.first = u->next;
        entry_free(u);
    }
}

/* ---- aborting ---- */

static int abort_one(struct volume *v, struct op *op, const char *path, const char *id)
{
    struct err err = ERR_INIT;
    int r = store_upload_abort(v->store, op, path, id);
    if (r < 0 && r != -ENOENT)
        return r;
    (void)stage_upload_remove(v->stage, id, &err); /* the next start learns that it is gone */
    return 0;
}

static void tell(const struct volume *v, const char *path, const char *when, const struct err *why)
{
    log_warn("upload", "%s: %s: parts of an upload that was given up are still at the store, and are removed %s: %s",
             v->key, path, when, err_text(why));
}

void volume_abort_upload(struct volume *v, const char *path, const char *id)
{
    struct op op;
    struct err err = ERR_INIT;
    op_init(&op, "abort", ABORT_MS);
    int r = abort_one(v, &op, path, id);
    if (r == 0)
        return;
    if (stage_upload_put(v->stage, path, id, &err) < 0) /* one that was taken up has no row */
        log_debug("stage", "%s: %s", v->key, err_text(&err));
    bool kept = keep(v, path, id);
    if (r != -EINTR) /* the mount ends */
        tell(v, path, kept ? "when it answers" : "at the next start", &op.err);
}

/* ---- those of the store's own ---- */

static void copy_begun(void *arg, const char *path, const char *id, uint64_t size)
{
    struct volume *v = arg;
    struct err err = ERR_INIT;
    int r = size < LARGE ? stage_upload_put_relaxed(v->stage, path, id, &err)
                         : stage_upload_put(v->stage, path, id, &err);
    if (r < 0)
        log_debug("stage", "%s: %s", v->key, err_text(&err)); /* a crash would leave an orphan */
}

static void copy_ended(void *arg, const char *path, const char *id, bool finished)
{
    struct volume *v = arg;
    if (!finished) {
        volume_abort_upload(v, path, id);
        return;
    }
    stage_upload_forget(v->stage, id);
    LOCK_SCOPE(&v->s.lock);
    volume_settle_soon_locked(v);
}

void left_uploads_watch(struct volume *v)
{
    v->upload_watch = (struct upload_watch){.begun = copy_begun, .ended = copy_ended, .arg = v};
    store_watch_uploads(v->store, &v->upload_watch);
}

/* ---- the job ---- */

static int sweep_one(struct volume *v, struct op *op, struct left_upload *u)
{
    op->deadline_ns = clock_now_ns() + v->policy.timeout_ms * NS_PER_MS;
    int r = abort_one(v, op, u->path, u->id);
    if (r == 0 && u->told)
        log_info("upload", "%s: %s: the parts of the upload that was given up are removed", v->key, u->path);
    if (r < 0 && r != -EINTR && !u->told) {
        tell(v, u->path, "when it answers", &op->err);
        u->told = true;
    }
    return r;
}

static struct left_upload *take_first(struct volume *v)
{
    LOCK_SCOPE(&v->s.lock);
    struct left_upload *u = v->s.stopping ? NULL : v->s.left.first;
    if (!u)
        return NULL;
    v->s.left.first = u->next;
    v->s.left.n--;
    return u;
}

/* The others would meet the same. */
static bool is_away(int r)
{
    return r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -EINTR;
}

static void sweep_run(struct pool_job *job)
{
    struct sweep_job *j = (struct sweep_job *)job;
    struct volume *v = j->v;
    int r = 0;
    lock_acquire(&v->s.lock);
    size_t n = v->s.left.n;
    lock_release(&v->s.lock);
    for (size_t i = 0; i < n && !is_away(r); i++) {
        struct left_upload *u = take_first(v);
        if (!u)
            break;
        r = sweep_one(v, &j->op, u);
        if (r == 0) {
            entry_free(u);
            continue;
        }
        LOCK_SCOPE(&v->s.lock);
        append_locked(v, u);
    }
    lock_acquire(&v->s.lock);
    again_locked(v);
    v->s.left.op = NULL;
    v->s.jobs--;
    cond_broadcast(&v->s.cond);
    lock_release(&v->s.lock);
    free(j);
}

/* ---- for the retrier ---- */

bool left_uploads_due_locked(struct volume *v, uint64_t now, uint64_t *ret_next)
{
    if (!v->s.left.first || v->s.left.op)
        return false;
    if (v->s.left.due_ns <= now)
        return true;
    *ret_next = v->s.left.due_ns < *ret_next ? v->s.left.due_ns : *ret_next;
    return false;
}

void left_uploads_sweep_locked(struct volume *v)
{
    struct sweep_job *j = xcalloc(1, sizeof(*j));
    j->job.run = sweep_run;
    j->v = v;
    op_init(&j->op, "abort", 0);
    v->s.left.op = &j->op;
    v->s.jobs++;
    pool_submit(v->pool, &j->job, 2); /* the pool's lock ranks above */
}

void left_uploads_now_locked(struct volume *v)
{
    v->s.left.tries = 0;
    v->s.left.due_ns = 0;
}

/* ---- at start ---- */

static bool has_upload(const struct vnode *n, const void *id)
{
    CLEANUP_FREE char *own = n->stream ? stream_id(n->stream) : NULL;
    return own && strcmp(own, id) == 0;
}

/* Is it part of what was taken up? Then it goes on, and may end as one that is left there (conflict.c). */
static bool is_taken_up(struct volume *v, const char *id)
{
    struct vnode **found = NULL;
    size_t n = vnode_collect(v, has_upload, id, &found);
    for (size_t i = 0; i < n; i++)
        vnode_put(found[i]);
    free(found);
    return n > 0;
}

static void add_row(void *arg, const char *path, const char *id)
{
    struct left_upload **list = arg, *u = entry_new(path, id, false);
    u->next = *list;
    *list = u;
}

int left_uploads_recover(struct volume *v, struct err *err)
{
    struct left_upload *list = NULL;
    int r = stage_uploads(v->stage, add_row, &list, err);
    for (struct left_upload *u; (u = list);) {
        list = u->next;
        if (is_taken_up(v, u->id)) {
            entry_free(u);
            continue;
        }
        LOCK_SCOPE(&v->s.lock);
        append_locked(v, u);
    }
    return r;
}

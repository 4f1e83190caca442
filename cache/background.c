/* SPDX-License-Identifier: MIT
 * background.c: staged content that nobody waits for: journal rows, retries, recovery at start.
 *
 * One thread per volume (the retrier) looks for what is due and hands it to the pool; a job takes the
 * token and commits. Back-off doubles from 1 s to 60 s, with jitter. A file that is being written again is
 * left alone until it is flushed.
 * Invariants, under volume.s.lock: (1) a vnode is in `due` iff `scheduled`, with a reference; (2) `queued`
 * iff a job for it is in the pool, with a reference; never two; (3) jobs <= JOBS_MAX. */
#include "cache/given_up.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sys.h"
#include "cache/commit.h"
#include "cache/stage.h"
#include "cache/stream.h"
#include "cache/undo.h"

#define JOBS_MAX 8
#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 60000
#define BUSY_MS 1000
#define SETTLE_MS 100
#define IDLE_NS (3600 * NS_PER_S)

struct commit_job {
    struct pool_job job;
    struct vnode *n;
    struct op op;
    struct commit_job *next; /* volume.s.running */
};

uint64_t retry_delay_ms(unsigned attempts)
{
    uint64_t ms = clock_backoff_ms(RETRY_MIN_MS, RETRY_MAX_MS, attempts ? attempts - 1 : 0);
    return ms - ms / 4 + random_below((uint32_t)ms / 2 + 1);
}

/* ---- journal rows ---- */

static void fill_row(struct vnode *n, struct stage_row *row)
{
    row->path = xstrdup(n->path);
    row->file = n->file_name ? xstrdup(n->file_name) : stage_row_name(n->v->stage);
    attr_copy(&row->attr, &n->attr);
    if (n->base) {
        memcpy(row->base_version, n->base->version, sizeof(row->base_version));
        row->base_size = n->base->size;
    }
    row->base_len = n->base_len;
    row->pre = (int)n->pre;
    memcpy(row->pre_version, n->pre_version, sizeof(row->pre_version));
    row->sent = sent_patches_format(&n->sent);
    row->excl = n->excl;
    row->conflict = n->conflict;
    row->incomplete = n->incomplete;
    row->stamped = n->stamped;
    row->restamp = n->restamp;
    ranges_copy(&row->staged, &n->staged);
    row->replaces = n->old_name;
    row->upload = n->stream ? stream_format(n->stream) : NULL;
    row->since = n->since;
    row->attempts = n->attempts;
    snprintf(row->error, sizeof(row->error), "%.250s", n->last.code ? err_text(&n->last) : "");
}

/* The bytes are on disk, or in the row. */
static int save_content(struct vnode *n, struct stage_row *row, void **ret_bytes)
{
    row->in_row = n->file->nameless;
    if (!row->in_row) {
        int r = sys_fdatasync(n->file->fd);
        if (r == 0 && !n->name_synced)
            r = sys_fsync_dir(stage_dir(n->v->stage));
        n->name_synced = r == 0;
        return r;
    }
    size_t size = (size_t)n->attr.size;
    void *bytes = *ret_bytes = malloc(size + 1);
    if (!bytes)
        return -ENOMEM;
    ssize_t got = size ? sys_pread(n->file->fd, bytes, size, 0) : 0;
    row->content = bytes;
    return got == (ssize_t)size ? 0 : got < 0 ? (int)got : -EIO;
}

static int put_row(struct vnode *n, struct op *op, struct stage_row *row)
{
    CLEANUP_FREE void *bytes = NULL;
    int r = vnode_unshare(n, op);
    if (r == 0)
        r = vnode_stage_open(n, op, n->attr.size);
    if (r < 0)
        return r;
    r = save_content(n, row, &bytes);
    if (r < 0)
        return err_set(&op->err, -r, "%s: %s: %s", n->v->key, n->path, strerror(-r));
    commit_take_stream_time(n); /* what close shows is what the next process stores */
    fill_row(n, row);
    r = stage_row_put(n->v->stage, row, &op->err);
    return r < 0 ? err_prefix(&op->err, "%s: %s: journal", n->v->key, n->path) : 0;
}

int vnode_journal(struct vnode *n, struct op *op)
{
    struct stage_row row = {0};
    int r = put_row(n, op, &row);
    if (r == 0)
        vnode_drop_undo(n, false);
    lock_acquire(&n->lock);
    if (r == 0) {
        n->journaled = true;
        n->unflushed = false;
        n->promise = row.promise;
        n->promised = !row.in_row;
        n->in_row = n->saved = row.in_row;
        if (!n->file_name)
            n->file_name = take_ptr(&row.file);
    }
    lock_release(&n->lock);
    stage_row_done(&row);
    if (r == 0)
        vnode_drop_old(n, false);
    return r;
}

void vnode_drop_old(struct vnode *n, bool row)
{
    struct stage *s = n->v->stage;
    struct err err = ERR_INIT;
    lock_acquire(&n->lock);
    CLEANUP_FREE char *name = take_ptr(&n->old_name);
    lock_release(&n->lock);
    if (!name)
        return;
    if (row && stage_row_remove(s, name, &err) < 0)
        log_warn("stage", "%s: %s: the journal keeps what it was before: %s", n->v->key, n->path, err_text(&err));
    else
        stage_file_remove(s, name);
}

void vnode_drop_undo(struct vnode *n, bool leave)
{
    lock_acquire(&n->lock);
    struct undo *u = take_ptr(&n->undo);
    n->promised = false;
    lock_release(&n->lock);
    if (!u)
        return;
    cache_release_dirty(n->v->cache, undo_bytes(u));
    if (leave)
        undo_leave(u);
    else
        undo_drop(u);
}

void volume_settle_soon_locked(struct volume *v)
{
    if (v->s.settle_ns)
        return;
    v->s.settle_ns = clock_now_ns() + SETTLE_MS * NS_PER_MS;
    cond_broadcast(&v->s.cond);
}

static void settle_soon(struct volume *v)
{
    LOCK_SCOPE(&v->s.lock);
    volume_settle_soon_locked(v);
}

void vnode_forget_row(struct vnode *n)
{
    struct volume *v = n->v;
    struct err err = ERR_INIT;
    vnode_drop_old(n, true);
    if (n->journaled && n->in_row)
        stage_row_forget(v->stage, n->file_name, n->path);
    else if (n->journaled && stage_row_remove(v->stage, n->file_name, &err) < 0)
        return;
    vnode_drop_undo(n, false);
    lock_acquire(&n->lock);
    bool forgotten = n->journaled && n->in_row;
    n->journaled = false; /* first the row, then the file */
    lock_release(&n->lock);
    if (forgotten)
        settle_soon(v);
}

void vnode_remove_row(struct vnode *n)
{
    struct volume *v = n->v;
    struct err err = ERR_INIT;
    if (!n->journaled || stage_row_remove(v->stage, n->file_name, &err) == 0)
        return;
    log_warn("stage", "%s: %s: it is removed, but the journal keeps an entry of it for now: %s", v->key, n->path, err_text(&err));
    stage_row_forget(v->stage, n->file_name, n->path);
    settle_soon(v);
}

void volume_settle(struct volume *v, const char *path)
{
    struct err err = ERR_INIT;
    if (stage_settle(v->stage, path, &err) < 0)
        log_warn("stage", "%s: the journal keeps entries of files that are stored: %s", v->key, err_text(&err));
}

/* ---- the schedule ---- */

void volume_schedule(struct vnode *n, uint64_t delay_ms)
{
    struct volume *v = n->v;
    uint64_t due = clock_now_ns() + delay_ms * NS_PER_MS;
    LOCK_SCOPE(&v->s.lock);
    if (!n->scheduled) {
        n->scheduled = true;
        n->due_ns = due;
        n->refs++;
        n->next_due = v->s.due;
        v->s.due = n;
    } else if (due < n->due_ns) {
        n->due_ns = due;
    }
    cond_broadcast(&v->s.cond);
}

void volume_recovered(void *volume)
{
    struct volume *v = volume;
    LOCK_SCOPE(&v->s.lock);
    for (struct vnode *n = v->s.due; n; n = n->next_due)
        n->due_ns = 0;
    left_uploads_now_locked(v);
    cond_broadcast(&v->s.cond);
}

/* The first vnode that is due, out of the list; else *ret_next is not behind the time when the next will be. */
static struct vnode *take_due_locked(struct volume *v, uint64_t now, uint64_t *ret_next)
{
    for (struct vnode **at = &v->s.due; *at; at = &(*at)->next_due) {
        struct vnode *n = *at;
        if (n->queued)
            continue;
        if (n->due_ns <= now) {
            *at = n->next_due;
            n->scheduled = false;
            return n;
        }
        if (n->due_ns < *ret_next)
            *ret_next = n->due_ns;
    }
    return NULL;
}

static void commit_run(struct pool_job *job)
{
    struct commit_job *j = (struct commit_job *)job;
    struct vnode *n = j->n;
    struct volume *v = n->v;
    vnode_settle_copies(n, &j->op);
    int r = vnode_begin(n, &j->op);
    if (r == 0) {
        lock_acquire(&v->s.lock);
        bool being_written = n->writers > 0 && n->unflushed && !v->s.stopping;
        lock_release(&v->s.lock);
        vnode_set_background(n, &j->op);
        if (being_written)
            volume_schedule(n, BUSY_MS);
        else if ((r = vnode_commit(n, &j->op)) < 0 && r != -EINTR)
            log_warn("upload", "%s", err_text(&j->op.err));
        vnode_set_background(n, NULL);
        vnode_end(n);
    }
    lock_acquire(&v->s.lock);
    n->queued = false;
    struct commit_job **at = &v->s.running;
    while (*at != j)
        at = &(*at)->next;
    *at = j->next;
    v->s.jobs--;
    cond_broadcast(&v->s.cond);
    lock_release(&v->s.lock);
    vnode_put(n);
    free(j);
}

static void submit_locked(struct volume *v, struct vnode *n)
{
    struct commit_job *j = xcalloc(1, sizeof(*j));
    j->job.run = commit_run;
    j->n = n;
    op_init(&j->op, "upload", 0);
    j->op.durable = true;
    n->queued = true;
    j->next = v->s.running;
    v->s.running = j;
    v->s.jobs++;
    pool_submit(v->pool, &j->job, 2); /* the pool's lock ranks above */
}

static void settle_due_locked(struct volume *v)
{
    v->s.settle_ns = 0;
    lock_release(&v->s.lock);
    volume_settle(v, NULL);
    lock_acquire(&v->s.lock);
}

static void *retrier_main(void *arg)
{
    struct volume *v = arg;
    LOCK_SCOPE(&v->s.lock);
    while (!v->s.stopping) {
        uint64_t now = clock_now_ns(), next = now + IDLE_NS;
        struct vnode *n = v->s.jobs < JOBS_MAX ? take_due_locked(v, now, &next) : NULL;
        if (n)
            submit_locked(v, n);
        else if (v->s.settle_ns && v->s.settle_ns <= now)
            settle_due_locked(v);
        else if (v->s.given_up && given_up_due_locked(v, now, &next))
            given_up_look_locked(v);
        else if (left_uploads_due_locked(v, now, &next))
            left_uploads_sweep_locked(v);
        else
            (void)cond_wait_until(&v->s.cond, &v->s.lock,
                                  v->s.settle_ns && v->s.settle_ns < next ? v->s.settle_ns : next);
    }
    return NULL;
}

int volume_retrier_start(struct volume *v, struct err *err)
{
    int r = pthread_create(&v->retrier, NULL, retrier_main, v);
    if (r != 0)
        return err_set(err, r, "%s: no thread for uploads: %s", v->key, strerror(r));
    v->retrier_runs = true;
    return 0;
}

/* Ends the thread, cancels what runs in the background and waits for it. */
void volume_retrier_stop(struct volume *v)
{
    lock_acquire(&v->s.lock);
    v->s.stopping = true;
    for (struct commit_job *j = v->s.running; j; j = j->next)
        op_cancel(&j->op);
    if (v->s.looking)
        op_cancel(v->s.looking);
    if (v->s.left.op)
        op_cancel(v->s.left.op);
    cond_broadcast(&v->s.cond);
    lock_release(&v->s.lock);
    if (v->retrier_runs)
        pthread_join(v->retrier, NULL);
    v->retrier_runs = false;
    lock_acquire(&v->s.lock);
    while (v->s.jobs)
        cond_wait(&v->s.cond, &v->s.lock);
    struct vnode *due = take_ptr(&v->s.due);
    lock_release(&v->s.lock);
    while (due) {
        struct vnode *n = due;
        due = n->next_due;
        lock_acquire(&v->s.lock);
        n->scheduled = false;
        lock_release(&v->s.lock);
        vnode_put(n);
    }
}

/* ---- recovery ---- */

/* Part of its content is in an upload only. Without that it cannot be whole any more. */
static void recover_stream(struct vnode *n, const char *text)
{
    n->stream = stream_parse(n->v, n->path, n->file, &n->attr, text);
    if (n->stream)
        return;
    n->incomplete = true;
    log_error("stage", "%s: %s: the journal's entry of its upload cannot be read; parts of it are zeros",
              n->v->key, n->path);
}

/* Takes up what an earlier process has left. */
static void recover(void *arg, struct stage_row *row, struct stage_file *f)
{
    struct volume *v = arg;
    struct vnode *n = vnode_new(v, row->path);
    struct err err = ERR_INIT;
    n->file = f;
    n->file_name = take_ptr(&row->file);
    n->in_row = row->in_row;
    n->name_synced = true;
    attr_move(&n->attr, &row->attr);
    volume_complete(v, &n->attr);
    n->staged = row->staged;
    row->staged = RANGES_INIT;
    if (row->base_version[0]) {
        n->base = base_new(v, n->path, row->base_version, row->base_size, true);
        n->base_len = row->base_len;
    }
    vnode_mark_dirty(n);
    n->journaled = true;
    n->unflushed = false;
    n->saved = n->in_row;
    n->promised = !n->in_row;
    n->promise = row->promise;
    n->pre = (enum vnode_pre)row->pre;
    memcpy(n->pre_version, row->pre_version, sizeof(n->pre_version));
    sent_patches_parse(row->sent, &n->sent);
    n->excl = row->excl;
    n->conflict = row->conflict;
    n->incomplete = row->incomplete;
    n->stamped = row->stamped;
    n->restamp = row->restamp;
    n->maybe_stored = true; /* just before the end */
    n->since = row->since;
    n->attempts = row->attempts;
    if (row->error[0])
        err_set(&n->last, EIO, "%s", row->error);
    if (row->upload)
        recover_stream(n, row->upload);
    given_up_add(n);
    if (cache_reserve_dirty(v->cache, n->staged.bytes, &err) == 0)
        n->reserved = n->staged.bytes;
    stat_add(v->pending_bytes, (int64_t)n->reserved);
    while (!vnode_attach(n)) { /* two rows of one path: both are somebody's data */
        CLEANUP_FREE char *to = xasprintf("%s.recovered-%08x", row->path, random_below(UINT32_MAX));
        (void)vnode_move(n, to);
    }
    stage_row_done(row);
    vnode_close_idle(n); /* nobody else knows it yet */
    volume_schedule(n, 0);
    vnode_put(n);
}

int volume_recover(struct volume *v, struct err *err)
{
    int r = stage_recover(v->stage, recover, v, err);
    if (r == 0)
        r = given_up_recover(v, err);
    return r == 0 ? left_uploads_recover(v, err) : r;
}

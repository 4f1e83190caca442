/* SPDX-License-Identifier: MIT
 * status.c: the state of one run, and counting it. Rendering and files: status_write.c.
 *
 * Invariants: (1) everything below `lock` is only touched with it held; (2) `writing` is held by one
 * thread at a time, from rendering until the files are renamed, so that no older state overwrites a
 * newer one; (3) a file's result is counted in the totals exactly when its state is LOADED, REJECTS,
 * ALREADY or SKIPPED, or it FAILED (its read and rejected rows). */
#include "loader/status_impl.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>

struct status *status_new(const char *dir, const char *name, const char *run_id)
{
    struct status *st = xcalloc(1, sizeof(*st));

    lock_init(&st->lock, LOCK_RANK_LEAF, "run status");
    cond_init(&st->written);
    st->dir = dir ? xstrdup(dir) : NULL;
    st->name = xstrdup(name);
    st->run_id = xstrdup(run_id);
    st->state = "queued";
    st->started = clock_wall();
    st->started_ns = clock_now_ns();
    st->rc = -1;
    return st;
}

static void file_done(struct status_file *f)
{
    free(f->path);
    free(f->version);
    free(f->error);
}

void status_free(struct status *st)
{
    if (!st)
        return;
    for (size_t i = 0; i < st->n_files; i++)
        file_done(&st->files[i]);
    for (size_t i = 0; i < st->n_ops; i++)
        free(st->ops[i].error);
    for (size_t i = 0; i < st->n_warnings; i++)
        free(st->warnings[i]);
    free(st->files);
    free(st->ops);
    free(st->warnings);
    free(st->error);
    free(st->dir);
    free(st->name);
    free(st->run_id);
    cond_done(&st->written);
    lock_done(&st->lock);
    free(st);
}

void status_job(struct status *st, const struct job *job)
{
    LOCK_SCOPE(&st->lock);
    st->job = job;
    st->n_ops = job->n_ops;
    st->ops = xcalloc(job->n_ops, sizeof(*st->ops));
}

void status_state(struct status *st, const char *state)
{
    bool changed;

    lock_acquire(&st->lock);
    changed = strcmp(st->state, state) != 0;
    st->state = state;
    if (changed && !strcmp(state, "running") && st->running_ns == 0)
        st->running_ns = clock_now_ns();
    lock_release(&st->lock);
    if (changed)
        status_tick(st);
}

void status_retrying(struct status *st, unsigned ms, unsigned attempt, unsigned of)
{
    lock_acquire(&st->lock);
    st->state = "retrying";
    st->retry_at_ns = clock_now_ns() + (uint64_t)ms * NS_PER_MS;
    st->retry_attempt = attempt;
    st->retry_of = of;
    lock_release(&st->lock);
    status_tick(st);
}

static void log_line(struct status *st, const char *text)
{
    CLEANUP_FREE char *path = NULL;
    CLEANUP_BUF struct buf b = BUF_INIT;

    if (!st->dir)
        return;
    path = xasprintf("%s/log", st->dir);
    text_time(&b, clock_wall());
    buf_addc(&b, ' ');
    for (const char *p = text; *p; p++)
        buf_addc(&b, (unsigned char)*p < ' ' && *p != '\n' ? '?' : *p);
    buf_addc(&b, '\n');
    (void)spool_file_append(path, b.data, b.len);
    log_debug("loader", "%s: %s", st->name, text);
}

void status_log(struct status *st, const char *fmt, ...)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    va_list ap;

    va_start(ap, fmt);
    buf_vaddf(&b, fmt, ap);
    va_end(ap);
    log_line(st, buf_str(&b));
}

void status_warn(struct status *st, const char *fmt, ...)
{
    CLEANUP_BUF struct buf b = BUF_INIT, line = BUF_INIT;
    va_list ap;

    va_start(ap, fmt);
    buf_vaddf(&b, fmt, ap);
    va_end(ap);
    buf_addf(&line, "warning: %s", buf_str(&b));
    log_line(st, buf_str(&line));
    buf_done(&line);

    LOCK_SCOPE(&st->lock);
    for (size_t i = 0; i < st->n_warnings; i++)
        if (!strcmp(st->warnings[i], buf_str(&b)))
            return;
    st->warnings = xrealloc(st->warnings, (st->n_warnings + 1) * sizeof(*st->warnings));
    st->warnings[st->n_warnings++] = xstrdup(buf_str(&b));
}

/* ---- files ---- */

size_t status_add_file(struct status *st, size_t op, const char *path, uint64_t size,
                       const char *version)
{
    LOCK_SCOPE(&st->lock);
    if (st->n_files == st->cap_files) {
        st->cap_files = st->cap_files ? st->cap_files * 2 : 16;
        st->files = xrealloc(st->files, st->cap_files * sizeof(*st->files));
    }
    st->files[st->n_files] = (struct status_file){
        .path = xstrdup(path), .version = xstrdup(version), .op = op, .size = size};
    st->bytes_total += size;
    st->dirty = true;
    return st->n_files++;
}

size_t status_n_files(const struct status *st)
{
    return st->n_files;
}

void status_file_begin(struct status *st, size_t file)
{
    LOCK_SCOPE(&st->lock);
    st->files[file].state = FILE_RUNNING;
    st->files[file].began_ns = clock_now_ns();
    st->dirty = true;
}

void status_live(struct status *st, unsigned slot, size_t file, struct transfer_progress *progress)
{
    LOCK_SCOPE(&st->lock);
    st->live[slot].file = file;
    st->live[slot].progress = progress;
}

/* What a run's method is: that of its files, "mixed" when they differ. */
static void note_method(struct status *st, const struct transfer_result *res)
{
    if (res->already_loaded || !res->method)
        return;
    if (!st->method)
        st->method = res->method;
    else if (strcmp(st->method, res->method) != 0)
        st->method = "mixed";
    if (res->guarantee[0])
        memcpy(st->guarantee, res->guarantee, sizeof(st->guarantee));
}

static void count(struct status_totals *t, const struct transfer_result *r, bool add)
{
    if (add) {
        t->rows_read += r->rows_read;
        t->rows_loaded += r->rows_loaded;
        t->rows_rejected += r->rows_rejected;
        t->rows_skipped += r->rows_skipped;
        t->bytes += r->bytes;
    } else {
        t->rows_read -= r->rows_read;
        t->rows_loaded -= r->rows_loaded;
        t->rows_rejected -= r->rows_rejected;
        t->rows_skipped -= r->rows_skipped;
        t->bytes -= r->bytes;
    }
}

void status_file_end(struct status *st, size_t file, enum status_file_state state,
                     const struct transfer_result *res, const struct err *err)
{
    struct status_file *f;

    LOCK_SCOPE(&st->lock);
    f = &st->files[file];
    f->state = state;
    f->ended_ns = clock_now_ns();
    if (f->began_ns)
        f->seconds = (double)(f->ended_ns - f->began_ns) / (double)NS_PER_S;
    if (res) {
        f->result = *res;
        if (state == FILE_FAILED)
            f->result.rows_loaded = 0; /* its transaction is gone */
        count(&st->totals, &f->result, true);
        note_method(st, res);
    }
    st->bytes_done += f->size;
    if (err && err->code) {
        free(f->error);
        f->error = xstrdup(err_text(err));
    } else if (res && res->first_error.code && !f->error) {
        f->error = xstrdup(err_text(&res->first_error));
    }
    st->dirty = true;
}

void status_file_undo(struct status *st, size_t file)
{
    struct status_file *f;

    LOCK_SCOPE(&st->lock);
    f = &st->files[file];
    st->dirty = true;
    if (f->state == FILE_RUNNING)
        f->state = FILE_WAITING;
    if (f->state < FILE_LOADED || f->state > FILE_SKIPPED)
        return;
    count(&st->totals, &f->result, false);
    f->state = FILE_UNDONE;
    f->result = (struct transfer_result){0};
    if (st->bytes_done >= f->size)
        st->bytes_done -= f->size;
}

void status_op_error(struct status *st, size_t op, int rc, const struct err *err)
{
    LOCK_SCOPE(&st->lock);
    if (op >= st->n_ops || st->ops[op].rc != 0)
        return; /* the first one counts */
    st->ops[op].rc = rc;
    st->ops[op].error = xstrdup(err_text(err));
}

void status_totals(struct status *st, struct status_totals *ret)
{
    LOCK_SCOPE(&st->lock);
    *ret = st->totals;
}

void status_op_totals_locked(const struct status *st, size_t op, struct status_totals *ret)
{
    lock_assert_held(&st->lock);
    *ret = (struct status_totals){0};
    for (size_t i = 0; i < st->n_files; i++)
        if (st->files[i].op == op)
            count(ret, &st->files[i].result, true);
}

void status_op_totals(struct status *st, size_t op, struct status_totals *ret)
{
    LOCK_SCOPE(&st->lock);
    status_op_totals_locked(st, op, ret);
}

int status_op_result(struct status *st, size_t op, struct err *ret_err)
{
    LOCK_SCOPE(&st->lock);
    if (st->ops[op].rc != RC_OK)
        (void)err_set(ret_err, EIO, "%s", st->ops[op].error);
    return st->ops[op].rc;
}

bool status_is_complete(struct status *st)
{
    LOCK_SCOPE(&st->lock);
    for (size_t i = 0; i < st->n_files; i++)
        if (st->files[i].state == FILE_WAITING || st->files[i].state == FILE_RUNNING)
            return false;
    return true;
}

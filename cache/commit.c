/* SPDX-License-Identifier: MIT
 * commit.c: staged content into the store. What is sent, and how, is decided by commit_plan.c.
 *
 * Outcomes of an attempt
 *   stored          CLEAN: base is the new version; a complete stage file becomes its cached blocks
 *   precondition    somebody else's version is there (conflict.c), unless it is ours from an attempt that we were not
 *                   told about, or still the one that was expected (commit_ours.c): again
 *   anything else   nothing is given up: DIRTY, journaled, tried again later and at the next flush
 * No object is replaced by less than the whole new content, and none is removed. */
#include "cache/commit.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sys.h"
#include "cache/commit_plan.h"
#include "cache/given_up.h"
#include "cache/parallel.h"
#include "cache/stage.h"
#include "cache/stream.h"

#include <fcntl.h>

#define CHUNK (1024 * 1024)
#define ADOPT_WAIT_MS 100
#define LATE_TRIES 10
#define AGAIN_TRIES 3
#define LATE_MS 200

/* ---- filling in ---- */

static int fill_chunk(struct vnode *n, struct op *op, uint64_t pos, size_t len, uint64_t stop, void *buf)
{
    struct volume *v = n->v;
    int r = op_check(op);
    if (r == 0)
        r = cache_reserve_dirty(v->cache, len, &op->err);
    if (r < 0)
        return r;
    ssize_t got = reader_pread(n->base->reader, op, pos, buf, len, stop, &op->err);
    if (got >= 0 && got != (ssize_t)len)
        got = err_set(&op->err, EIO, "%s: %s: the store gave %zd of %zu bytes", v->key, n->path, got,
                      len);
    if (got > 0) {
        got = sys_pwrite(n->file->fd, buf, len, pos);
        if (got != (ssize_t)len)
            got = err_set(&op->err, got < 0 ? (int)-got : EIO, "%s: %s", n->file->path,
                          strerror(got < 0 ? (int)-got : EIO));
    }
    if (got < 0) {
        cache_release_dirty(v->cache, len);
        return (int)got;
    }
    LOCK_SCOPE(&n->lock);
    ranges_add(&n->staged, pos, pos + len);
    n->saved = false;
    n->reserved += len;
    stat_add(v->pending_bytes, (int64_t)len);
    return 0;
}

int vnode_fill(struct vnode *n, struct op *op, uint64_t off, uint64_t end)
{
    uint64_t limit = n->base_len < n->attr.size ? n->base_len : n->attr.size;
    end = end < limit ? end : limit;
    if (!n->base || off >= end)
        return 0;
    int r = vnode_stage_open(n, op, end);
    if (r < 0)
        return r;
    CLEANUP_FREE void *buf = malloc(CHUNK);
    if (!buf)
        return err_set(&op->err, ENOMEM, "%s: %s: no memory", n->v->key, n->path);
    for (uint64_t pos = off, next; pos < end && r == 0; pos = next) {
        if (ranges_run(&n->staged, pos, end, &next))
            continue;
        next = next - pos > CHUNK ? pos + CHUNK : next;
        r = fill_chunk(n, op, pos, (size_t)(next - pos), end, buf);
    }
    return r;
}

/* ---- sending ---- */

/* The condition as the store takes it; without CAP_IF_MATCH it is looked at here, just before. */
static int precondition(struct vnode *n, struct op *op, struct precond *ret)
{
    struct store *s = n->v->store;
    *ret = (struct precond){.if_match = n->pre == PRE_MATCH ? n->pre_version : NULL,
                            .if_absent = n->pre == PRE_ABSENT};
    if ((s->caps & CAP_IF_MATCH) || n->pre == PRE_NONE)
        return 0;
    *ret = (struct precond){0};
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int r = store_stat(s, op, n->path, &a);
    if (r < 0 && r != -ENOENT)
        return r;
    if (n->pre == PRE_ABSENT)
        return r == 0 ? err_set(&op->err, EEXIST, "%s: exists already", n->path) : 0;
    if (r == 0 && strcmp(a.version, n->pre_version) == 0)
        return 0;
    return err_set(&op->err, ESTALE, "%s: %s", n->path, r ? "has been removed" : "has changed");
}

static int send_put(struct vnode *n, struct op *op, const struct precond *pre, struct attr *ret)
{
    struct source_mem none = source_mem("", 0);
    struct source_fd file = {0};
    if (n->attr.size)
        file = source_fd(n->file->fd, 0, n->attr.size);
    struct put_req req = {.key = n->path,
                          .src = n->attr.size ? &file.base : &none.base,
                          .attr = &n->attr,
                          .precond = *pre};
    return store_put(n->v->store, op, &req, ret);
}

static void set_sent(struct vnode *n, const struct sent_patches *sent)
{
    LOCK_SCOPE(&n->lock);
    n->sent = *sent;
}

/* What is sent now may be there in part whatever becomes of this process. */
static int note_patch(struct vnode *n, struct op *op, const struct patch_req *req)
{
    struct sent_patches sent = n->sent;
    struct sent_patch p;
    int r = sent_patch_of(req, n->base->size, n->file->fd, &p);
    if (r < 0)
        return err_set(&op->err, -r, "%s: %s", n->file->path, strerror(-r));
    if (!sent_patches_add(&sent, &p))
        return 0;
    CLEANUP_FREE char *text = sent_patches_format(&sent);
    r = n->journaled ? stage_row_sent(n->v->stage, n->file_name, text, &op->err) : 0;
    if (r == 0)
        set_sent(n, &sent);
    return r;
}

static int send_patch(struct vnode *n, struct op *op, const struct commit_plan *p,
                      const struct precond *pre, struct attr *ret)
{
    struct source_fd file = source_fd(n->file->fd, 0, n->attr.size);
    struct patch_req req = {.key = n->path,
                            .if_match = pre->if_match,
                            .src = &file.base,
                            .ranges = p->ranges,
                            .n_ranges = p->n_ranges,
                            .new_size = n->attr.size,
                            .attr = &n->attr};
    struct sent_patches before = n->sent;
    int r = note_patch(n, op, &req);
    if (r == 0)
        r = store_patch(n->v->store, op, &req, ret);
    bool not_begun = r == -ESTALE || r == -ENOENT || (r < 0 && op->err.retry == ERR_RETRY_SAFE);
    if (r < 0 && ret->version[0]) {
        commit_go_on_from(n, ret);
        attr_done(ret);
        *ret = ATTR_INIT;
        set_sent(n, &SENT_PATCHES_INIT);
    } else if (not_begun) {
        set_sent(n, &before);
    }
    return r;
}

struct upload_run {
    struct vnode *n;
    const struct commit_plan *plan;
    const char *id;
    struct store_part *parts;
};

static int send_part(void *arg, size_t i, struct op *op)
{
    struct upload_run *u = arg;
    const struct plan_part *p = &u->plan->parts[i];
    struct vnode *n = u->n;
    struct store_part *part = &u->parts[i];
    part->number = (unsigned)i + 1;
    part->offset = p->off;
    part->size = p->len;
    if (p->copy)
        return store_upload_copy_part(n->v->store, op, n->path, u->id, n->copy_of ? n->copy_of : n->path,
                                      n->base->version, p->off, part);
    struct source_fd src = source_fd(n->file->fd, p->off, p->len);
    return store_upload_part(n->v->store, op, n->path, u->id, &src.base, part);
}

static int send_upload(struct vnode *n, struct op *op, const struct commit_plan *p,
                       const struct precond *pre, struct attr *ret)
{
    struct store *s = n->v->store;
    CLEANUP_FREE char *id = NULL;
    CLEANUP_FREE struct store_part *parts = xcalloc(p->n_parts, sizeof(*parts));
    struct upload_req begin = {.key = n->path, .attr = &n->attr};
    int r = store_upload_begin(s, op, &begin, &id);
    if (r < 0)
        return r;
    struct upload_run run = {.n = n, .plan = p, .id = id, .parts = parts};
    struct err err = ERR_INIT;
    if (stage_upload_put(n->v->stage, n->path, id, &err) < 0)
        log_debug("stage", "%s: %s", n->v->key, err_text(&err)); /* a crash would leave an orphan */
    r = parallel_each(p->n_parts, s->limits.concurrency, send_part, &run, op);
    if (r == 0)
        r = store_upload_finish(s, op, n->path, id, parts, p->n_parts, pre, ret);
    if (r == 0)
        (void)stage_upload_remove(n->v->stage, id, &err);
    else
        volume_abort_upload(n->v, n->path, id);
    return r;
}

static int send_plan(struct vnode *n, struct op *op, const struct commit_plan *p, struct attr *ret)
{
    struct precond pre;
    int r = 0;
    for (size_t i = 0; i < p->fill.n && r == 0; i++)
        r = vnode_fill(n, op, p->fill.v[i].off, p->fill.v[i].end);
    if (r == 0 && n->attr.size)
        r = vnode_stage_open(n, op, n->attr.size);
    if (r == 0)
        r = precondition(n, op, &pre);
    if (r < 0)
        return r;
    switch (p->kind) {
    case PLAN_PATCH:
        return send_patch(n, op, p, &pre, ret);
    case PLAN_UPLOAD:
        return send_upload(n, op, p, &pre, ret);
    default:
        return send_put(n, op, &pre, ret);
    }
}

/* A directory on the way was removed by another client: the data needs a place. */
static int make_parents(struct vnode *n, struct op *op)
{
    struct store *s = n->v->store;
    CLEANUP_FREE char *dir = xstrdup(n->path);
    int r = 0;
    for (char *slash = strchr(dir, '/'); slash && r == 0; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        r = store_make_dir(s, op, dir, NULL);
        r = r == -EEXIST ? 0 : r;
        *slash = '/';
    }
    return r;
}

/* What was changed after the upload had begun, which took the metadata of that moment along; or after one that was ours
 * had been sent. */
static int restamp(struct vnode *n, struct op *op, struct attr *ret)
{
    struct attr now = ATTR_INIT;
    const char *match = n->v->store->caps & CAP_IF_MATCH ? ret->version : NULL;
    int r = store_set_meta(n->v->store, op, n->path, match, &n->attr, &now);
    if (r < 0)
        return err_prefix(&op->err, "%s: the content is stored, its attributes are not", n->path);
    attr_done(ret);
    attr_move(ret, &now);
    return 0;
}

void commit_take_stream_time(struct vnode *n)
{
    LOCK_SCOPE(&n->lock);
    if (n->stream && !n->restamp)
        n->attr.mtime = stream_attr(n->stream)->mtime;
}

/* The upload that ran while the file was written. */
static int finish_stream(struct vnode *n, struct op *op, struct attr *ret)
{
    struct precond pre;
    int r = precondition(n, op, &pre);
    commit_take_stream_time(n);
    if (r == 0)
        r = stream_finish(n->stream, op, n->attr.size, &pre, ret);
    return r;
}

/* An upload that runs already, if it is (still) the way to send this content. */
static bool is_streamed(struct vnode *n)
{
    if (!n->stream)
        return false;
    bool fits = n->attr.size > n->v->store->limits.upload_threshold || stream_has_freed(n->stream);
    if (fits && n->attr.size && strcmp(stream_path(n->stream), n->path) == 0)
        return true;
    vnode_drop_stream(n);
    return false;
}

static int attempt_plan(struct vnode *n, struct op *op, struct attr *ret)
{
    struct store *s = n->v->store;
    struct plan_input in = {.caps = s->caps,
                            .limits = &s->limits,
                            .size = n->attr.size,
                            .has_base = n->base != NULL,
                            .copied = n->copy_of != NULL,
                            .base_size = n->base ? n->base->size : 0,
                            .base_len = n->base_len,
                            .staged = &n->staged};
    struct commit_plan plan = COMMIT_PLAN_INIT;
    int r = commit_plan_make(&in, &plan);
    if (r < 0)
        return err_set(&op->err, -r, "%s: too large for this store: %llu bytes do not fit into %u parts of %llu",
                       n->path, (unsigned long long)n->attr.size, s->limits.parts_max,
                       (unsigned long long)s->limits.part_max);
    r = send_plan(n, op, &plan, ret);
    if (r == -ENOENT && !n->base && (s->caps & CAP_REAL_DIRS) && make_parents(n, op) == 0)
        r = send_plan(n, op, &plan, ret);
    commit_plan_done(&plan);
    if (r == 0) { /* with the metadata of now */
        LOCK_SCOPE(&n->lock);
        n->restamp = false;
    }
    return r;
}

/* A version of another file, which the store was to copy: it may be gone there, and be in the cache here. */
static int attempt_copy(struct vnode *n, struct op *op, struct attr *ret)
{
    int r = attempt_plan(n, op, ret);
    CLEANUP_ATTR struct attr source = ATTR_INIT;
    if (r != -ESTALE && r != -ENOENT)
        return r;
    struct err first = op->err;
    if (store_stat(n->v->store, op, n->copy_of, &source) == 0 &&
        strcmp(source.version, n->base->version) == 0) {
        op->err = first; /* it is there: the target is meant */
        return r;
    }
    if (vnode_unshare(n, op) == 0)
        return attempt_plan(n, op, ret);
    return err_set(&op->err, EIO, "%s: what it is a copy of, %s, has been changed by another client before the "
                                  "copy was stored", n->path, n->copy_of);
}

/* Without consequences for the vnode but bytes filled in. 0: the store has it as *ret. */
static int attempt(struct vnode *n, struct op *op, struct attr *ret)
{
    vnode_fit_time(n);
    if (is_streamed(n)) {
        int sent = finish_stream(n, op, ret);
        if ((sent != -EFBIG && sent != -ENOENT) || stream_has_freed(n->stream))
            return sent;
        vnode_drop_stream(n); /* now that the size is known, other parts may do; the upload may be gone there */
    }
    return n->copy_of ? attempt_copy(n, op, ret) : attempt_plan(n, op, ret);
}

/* ---- consequences ---- */

/* What the object is like now: the store's answer, and what we know to have sent with it. */
static void new_attr(struct vnode *n, const struct attr *a, struct attr *ret)
{
    if (a->known & ATTR_META) {
        attr_copy(ret, a);
    } else {
        attr_copy(ret, &n->attr);
        memcpy(ret->version, a->version, sizeof(ret->version));
    }
    attr_tags_stored(ret);
    ret->changed_s = a->changed_s;
    ret->age_ms = 0;
    ret->kind = ATTR_FILE;
    ret->known |= ATTR_META;
    ret->size = n->attr.size;
    if (n->attr.known & ATTR_HAS_MTIME)
        ret->mtime = n->attr.mtime;
    ret->atime = n->attr.atime;
    volume_complete(n->v, ret);
}

/* The cache may punch holes into a file that it has adopted: reads that have the stage file must end
 * first, new ones wait. false: they take too long, the file is not worth it. */
static bool reads_are_over(struct vnode *n)
{
    uint64_t deadline = clock_now_ns() + ADOPT_WAIT_MS * NS_PER_MS;
    LOCK_SCOPE(&n->lock);
    n->adopting = true;
    while (atomic_load(&n->file->refs) > 1)
        if (!cond_wait_until(&n->cond, &n->lock, deadline))
            break;
    n->adopting = atomic_load(&n->file->refs) == 1;
    return n->adopting;
}

/* Nameless content goes to the cache in the background, if the budget has room for it. */
static void keep_small(struct vnode *n, const struct attr *a)
{
    struct volume *v = n->v;
    size_t size = (size_t)a->size;
    void *bytes = cache_buffer_get(v->cache, size, false);
    if (bytes && sys_pread(n->file->fd, bytes, size, 0) == (ssize_t)size)
        cache_adopt_bytes(v->cache, v->key, n->path, a->version, bytes, size);
    else if (bytes)
        cache_buffer_put(v->cache, bytes, size);
}

static void keep_content(struct vnode *n, const struct attr *a)
{
    struct volume *v = n->v;
    if (!v->keep_blocks || !n->file || n->unlinked || a->size == 0 || n->taken ||
        !commit_is_complete(n) || (n->stream && stream_has_freed(n->stream)))
        return;
    if (n->file->nameless)
        keep_small(n, a);
    else if (n->file_name && reads_are_over(n))
        cache_adopt(v->cache, v->key, n->path, a->version, a->size, n->file->path, n->file->fd);
}

static void set_clean(struct vnode *n, struct attr *a)
{
    vnode_set_base(n, base_new(n->v, n->path, a->version, a->size, true), a->size);
    lock_acquire(&n->lock);
    n->as_of_ns = clock_now_ns();
    attr_done(&n->attr);
    attr_move(&n->attr, a);
    n->excl = n->conflict = false;
    n->assumed_ns = 0;
    n->maybe_stored = n->restamp = false;
    n->sent = SENT_PATCHES_INIT;
    n->attempts = 0;
    lock_release(&n->lock);
    vnode_clean(n);
}

/* The store has it. */
static void become_clean(struct vnode *n, const struct attr *a)
{
    struct volume *v = n->v;
    struct attr next = ATTR_INIT;
    new_attr(n, a, &next);
    volume_changed(v, n->path, &next);
    vnode_seen(n, next.version);
    vnode_forget_row(n);
    keep_content(n, &next);
    if (v->keep_blocks)
        cache_forget_other_versions(v->cache, v->key, n->path, next.version);
    set_clean(n, &next);
    lock_acquire(&n->lock);
    n->adopting = false; /* what was parked goes on when the commit has ended */
    lock_release(&n->lock);
}

static void drop_staged_stream(struct vnode *n)
{
    if (n->stream && !stream_has_freed(n->stream))
        vnode_drop_stream(n); /* all of it is staged */
}

int commit_failed(struct vnode *n, struct op *op)
{
    struct volume *v = n->v;
    struct err first = op->err;
    int code = first.code ? first.code : EIO;
    bool unknown = err_is_unknown(&first, -code);
    if (unknown)
        given_up_add(n);
    drop_staged_stream(n);
    lock_acquire(&n->lock);
    n->maybe_stored = n->maybe_stored || unknown;
    if (code != EINTR) { /* cancelled: says nothing about the store */
        n->attempts++;
        n->last = first;
    }
    lock_release(&n->lock);
    int r = vnode_journal(n, op);
    if (r < 0)
        log_error("stage", "%s: %s: the journal refuses an entry for it: %s", v->key, n->path,
                  err_text(&op->err));
    volume_schedule(n, retry_delay_ms(n->attempts));
    err_set(&op->err, code, "%s: %s: %.400s; the data stays staged in %s and is retried%s; see "
                            "quayctl status", v->key, n->path, err_text(&first), stage_dir(v->stage),
            r < 0 ? " (but would not survive a restart)" : "");
    op->err.retry = first.retry;
    op->err.status = first.status;
    memcpy(op->err.remote, first.remote, sizeof(first.remote));
    return -code;
}

static bool is_lost(const struct vnode *n, int r)
{
    return r == -ESTALE || (r == -EEXIST && n->pre == PRE_ABSENT) ||
           (r == -ENOENT && n->pre == PRE_MATCH);
}

/* Nothing of another client's is in the way: the next attempt begins with a new upload, unless some bytes are nowhere else
 * than in this one. */
static int attempt_again(struct vnode *n, struct op *op, int found, bool pause, struct attr *ret)
{
    if (found == COMMIT_UNCHANGED)
        drop_staged_stream(n);
    if (pause && op_sleep(op, LATE_MS) < 0) /* the server may still do what a lost connection had on its way */
        return -op->err.code;
    return attempt(n, op, ret);
}

/* It stays staged: there is no other version to be kept beside it. */
static int refused(struct vnode *n, struct op *op)
{
    struct err why = op->err;
    CLEANUP_FREE char *id = n->stream ? stream_id(n->stream) : NULL;
    err_set(&op->err, EIO, "nobody has changed the file, but the store refuses what is to replace it%s%s: %.250s",
            id ? "; parts of it are only in the upload " : "", id ? id + 1 : "", err_text(&why));
    return commit_failed(n, op);
}

/* Outcome not known, or a condition failed: what is there now? 1: another client's. */
static int look_again(struct vnode *n, struct op *op, int r, struct attr *ret)
{
    for (unsigned tries = 0;; tries++) {
        struct err first = op->err;
        bool lost = is_lost(n, r);
        int found = commit_look(n, op, ret);
        if (found == COMMIT_OURS)
            return 0;
        if (!lost || found >= 0)
            op->err = first;
        if (!lost || found < 0) /* not sure that it is another's: later */
            return commit_failed(n, op);
        if (found == COMMIT_UNCHANGED && tries >= AGAIN_TRIES)
            return refused(n, op);
        if (found == COMMIT_THEIRS || tries == LATE_TRIES)
            return 1;
        r = attempt_again(n, op, found, tries > 0 || found == COMMIT_UNCHANGED, ret);
        if (r == 0)
            return 0;
    }
}

static int commit_stored(struct vnode *n, struct op *op, struct attr *a)
{
    int r = n->restamp ? restamp(n, op, a) : 0;
    if (r < 0 && !n->stream && op->err.retry != ERR_RETRY_NEVER) {
        op->err.retry = ERR_RETRY_UNKNOWN; /* it is there: the next attempt finds that it is ours, and goes on with this */
        return commit_failed(n, op);
    }
    become_clean(n, a);
    if (r < 0)
        volume_changed(n->v, n->path, NULL);
    return r;
}

static void set_upload(struct vnode *n, struct op *op)
{
    LOCK_SCOPE(&n->lock);
    n->upload = op;
}

/* What is sent can be left to itself (given_up_fly) only while this waits for it. */
static int send(struct vnode *n, struct op *op, struct attr *ret)
{
    int r = given_up_wait(n->v, op, n->path);
    if (r < 0)
        return r;
    set_upload(n, op);
    volume_will_change(n->v, n->path, n->base ? n->base->version : "");
    r = attempt(n, op, ret);
    if (r == -EEXIST && n->assumed_ns && commit_made_late(n, op) == 1)
        r = attempt(n, op, ret);
    set_upload(n, NULL);
    return r;
}

/* Its name was removed meanwhile. */
static int commit_removed(struct vnode *n, struct op *op, int r, const struct attr *a)
{
    given_up_land(n, op, r, a);
    vnode_set_unlinked(n);
    err_clear(&op->err);
    return 0;
}

int commit_staged(struct vnode *n, struct op *op)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    volume_settle(n->v, n->path);
    int r = send(n, op, &a);
    if (n->flying)
        return commit_removed(n, op, r, &a);
    if (is_lost(n, r) || (r < 0 && op->err.retry == ERR_RETRY_UNKNOWN))
        r = look_again(n, op, r, &a);
    else if (r < 0)
        r = commit_failed(n, op);
    return r == 0 ? commit_stored(n, op, &a) : r;
}

int vnode_commit(struct vnode *n, struct op *op)
{
    if (!n->dirty || n->unlinked)
        return 0;
    if (atomic_load(&n->stale))
        return err_set(&op->err, ESTALE, "%s: %s: the file has changed at the store", n->v->key,
                       n->path);
    vnode_set_committing(n, true);
    int r = commit_staged(n, op);
    if (r == 1)
        r = commit_conflict(n, op);
    vnode_set_committing(n, false);
    if (r < 0)
        vnode_close_idle(n); /* there may be many that wait, for hours */
    return r;
}

/* SPDX-License-Identifier: MIT
 * rename_resume.c: finishing, after a restart, the renames that were cut short.
 *
 * One thread per volume, only when the journal has a row. It goes forward: what is not copied yet is
 * copied, then the sources go; with the name lock of both trees, so that nobody sees it half done. When
 * the store is away it lets go of the lock and tries again later.
 * What may be removed at the source: an object whose version is the one that was copied, and whose copy is
 * there as it was made (journal), or, for the last copies before the end, which the journal does not
 * have, one that has the same bytes under both names. All else stays, and is logged: it was written by
 * somebody after the interruption.
 * A file whose copy is not there is left as it was. */
#include "cache/rename_int.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#define COMPARE_CHUNK ((size_t)1 << 20)

/* ---- what is already there ---- */

/* One range of both, each of the version we know: 1 the same bytes, 0 others, or -errno. */
static int same_range(struct moving *m, const struct moving_entry *e, const struct attr *at,
                      uint64_t off, size_t len, char *buf)
{
    const char *const keys[] = {e->from, e->to};
    const char *const versions[] = {e->attr.version, at->version};
    for (size_t i = 0; i < 2; i++) {
        struct read_req req = {.key = keys[i],
                               .version = versions[i],
                               .offset = off,
                               .iov = {.iov_base = buf + i * COMPARE_CHUNK, .iov_len = len}};
        struct read_res res = READ_RES_INIT;
        int r = store_read(m->v->store, m->op, &req, &res);
        bool whole = res.length == len;
        read_res_done(&res);
        if (r < 0)
            return r == -ESTALE || r == -ENOENT ? 0 : r;
        if (!whole)
            return 0;
    }
    return memcmp(buf, buf + COMPARE_CHUNK, len) == 0;
}

static int same_bytes(struct moving *m, const struct moving_entry *e, const struct attr *at)
{
    if (at->size != e->attr.size)
        return 0;
    CLEANUP_FREE char *buf = xmalloc((size_t)2 * COMPARE_CHUNK);
    int same = 1;
    for (uint64_t off = 0; off < at->size && same == 1; off += COMPARE_CHUNK) {
        uint64_t left = at->size - off;
        same = same_range(m, e, at, off, left < COMPARE_CHUNK ? (size_t)left : COMPARE_CHUNK, buf);
    }
    return same;
}

/* Copies keep the time. */
static bool has_another_time(const struct attr *a, const struct attr *b)
{
    return (a->known & b->known & ATTR_HAS_MTIME) &&
           (a->mtime.tv_sec != b->mtime.tv_sec || a->mtime.tv_nsec != b->mtime.tv_nsec);
}

/* Is the copy of an entry that is a file there (done)? -ENOENT: nothing is. timed: the same bytes with another time are none. */
static int find_copy(struct moving *m, struct moving_entry *e, const struct rename_made *made, bool timed)
{
    CLEANUP_ATTR struct attr at = ATTR_INIT;
    bool noted = made && strcmp(made->from_version, e->attr.version) == 0;
    int r = store_stat(m->v->store, m->op, e->to, &at);
    if (r < 0 || at.kind == ATTR_DIR)
        return r;
    int ours = noted && strcmp(at.version, made->to_version) == 0 ? 1 : 0;
    if (!ours && !(timed && has_another_time(&at, &e->attr)))
        ours = same_bytes(m, e, &at);
    if (ours == 1) {
        memcpy(e->version, at.version, sizeof(e->version));
        e->done = true;
    }
    return ours < 0 ? ours : 0;
}

/* Decides about one entry that is a file: copy it (neither), it is copied (done), leave it (keep). */
static int judge(struct moving *m, struct moving_entry *e, const struct rename_made *made,
                 enum rename_phase phase)
{
    int r = find_copy(m, e, made, false);
    if (r < 0 && r != -ENOENT)
        return r;
    /* Sources that came after the target was whole are new; a copy that went was removed by somebody. */
    e->keep = !e->done && (r == 0 || phase == RENAME_REMOVE);
    if (e->keep)
        log_warn("rename", "%s: %s stays: after the interruption it, or %s, was changed by somebody",
                 m->v->key, e->from, e->to);
    return 0;
}

static int judge_all(struct moving *m, const struct strmap *made, enum rename_phase phase)
{
    int r = 0;
    for (size_t i = 0; i < m->n && r == 0; i++)
        if (m->entries[i].attr.kind != ATTR_DIR)
            r = judge(m, &m->entries[i], strmap_get(made, m->entries[i].from), phase);
    return r;
}

/* ---- the phases ---- */

static int forward(struct moving *m, const struct strmap *made, enum rename_phase phase)
{
    struct volume *v = m->v;
    int r = moving_list(m);
    moving_phase(m, RENAME_COPY);
    if (r == 0)
        r = judge_all(m, made, phase);
    if (r == 0 && (m->n || m->marker))
        r = moving_copy(m);
    if (r == 0 && phase == RENAME_COPY)
        r = rename_log_phase(v->renames, m->id, RENAME_REMOVE, &m->op->err);
    if (r < 0)
        return r;
    moving_phase(m, RENAME_REMOVE);
    m->whole = true;
    r = volume_keep_parent(v, m->op, m->from);
    return r == 0 ? moving_remove(m) : r;
}

/* Copies that are still as they were made go, when their source is still as it was. */
static int backward(struct moving *m, const struct strmap *made)
{
    int r = moving_list(m);
    moving_phase(m, RENAME_UNDO);
    if (r == 0)
        r = judge_all(m, made, RENAME_UNDO);
    for (size_t i = 0; i < m->n; i++)
        if (m->entries[i].attr.kind == ATTR_DIR)
            m->entries[i].done = true; /* a marker; what is in use is not removed by it */
    m->made = m->marker;
    return r == 0 ? moving_undo(m, m->op) : r;
}

/* ---- one file ---- */

/* Removes the source if its copy is there, with the token of what is open under its name. 1: done. */
static int finish_held(struct moving *m, struct moving_entry *e, const struct rename_made *made, struct vnode *n)
{
    int r = store_stat(m->v->store, m->op, e->from, &e->attr);
    bool same = made && e->attr.kind != ATTR_DIR && strcmp(made->from_version, e->attr.version) == 0;
    if (r == 0 && same && !(n && n->dirty))
        r = find_copy(m, e, made, true); /* the source may have been made anew, with the same bytes */
    if (r == 0 && e->done)
        r = volume_unlink_version(m->v, m->op, e->from, e->attr.version, n);
    if (r == 0 && e->done && n)
        vnode_lost_name(n, e->to, e->version, e->attr.size);
    if (r == -ENOENT) /* a source without a copy, or a copy without a source: as it should be */
        return 0;
    return r < 0 && r != -ESTALE ? r : r == 0 && e->done;
}

static int finish_file(struct moving *m, const struct strmap *made)
{
    struct vnode *n = NULL;
    struct moving_entry e = {.from = m->info.from, .to = m->info.to};
    int r = vnode_begin_at(m->v, m->op, m->from, false, &n);
    if (r == 0)
        r = finish_held(m, &e, strmap_get(made, m->from), n);
    if (r == 1)
        log_info("rename", "%s: finished the rename of %s to %s that was interrupted", m->v->key, m->from, m->to);
    else if (r == 0 && e.attr.version[0])
        log_info("rename", "%s: the rename of %s to %s was interrupted, and %s stays: its copy had not been made, or one of "
                           "them was changed since", m->v->key, m->from, m->to, m->from);
    vnode_end_put(n);
    attr_done(&e.attr);
    return r < 0 ? r : 0;
}

/* ---- one row ---- */

static int resume_tree(struct moving *m, const struct rename_row *row, const struct strmap *made)
{
    size_t held = 0;
    int r = moving_hold(m, &held);
    if (r == 0) {
        r = row->phase == RENAME_UNDO ? backward(m, made) : forward(m, made, row->phase);
        moving_forget(m);
        moving_nodes(m);
    }
    moving_release(m, held);
    return r;
}

static int resume_locked(struct moving *m, const struct rename_row *row)
{
    struct strmap made = STRMAP_INIT;
    int r = rename_log_copies(m->v->renames, row->id, &m->op->err, &made);
    if (r == 0)
        r = row->phase == RENAME_FILE ? finish_file(m, &made) : resume_tree(m, row, &made);
    STRMAP_EACH(&made, it)
        rename_made_free(it->value);
    strmap_done(&made);
    return r;
}

static int resume(struct volume *v, const struct rename_row *row, struct op *op)
{
    struct moving m;
    struct name_lock l;
    bool file = row->phase == RENAME_FILE;
    moving_init(&m, v, op, row->from, row->to);
    m.id = row->id;
    m.resumed = true;
    int r = name_lock(v, op, &l, file ? NAME_EXCL : NAME_TREE, row->from, row->to);
    if (r == 0) {
        volume_settle_copies(v, op, row->from);
        volume_settle_copies(v, op, row->to);
        r = resume_locked(&m, row);
        name_unlock(v, &l);
    }
    bool over = r == 0 || (r == -EBUSY && m.changed); /* what stays, stays: it was said */
    if (over && rename_log_end(v->renames, row->id, &op->err) < 0)
        over = false;
    if (over && !file)
        log_info("rename", "%s: %s the rename of %s to %s that was interrupted, %zu objects", v->key,
                 row->phase == RENAME_UNDO ? "undid" : "finished", row->from, row->to, m.n);
    moving_done(&m);
    return over ? 0 : r;
}

/* ---- the thread ---- */

static bool set_op(struct volume *v, struct op *op)
{
    LOCK_SCOPE(&v->s.lock);
    v->resuming = op;
    return !v->s.stopping;
}

/* Until it is done or the volume closes: 0, or -EINTR. */
static int resume_row(struct volume *v, const struct rename_row *row)
{
    for (unsigned attempts = 1;; attempts++) {
        struct op op;
        op_init(&op, "rename", 0);
        int r = set_op(v, &op) ? resume(v, row, &op) : -EINTR;
        bool go_on = set_op(v, NULL);
        if (r == 0)
            return 0;
        if (!go_on)
            return -EINTR;
        log_warn("rename", "%s: the interrupted rename of %s to %s waits: %s", v->key, row->from,
                 row->to, err_text(&op.err));
        uint64_t until = clock_now_ns() + retry_delay_ms(attempts) * NS_PER_MS;
        LOCK_SCOPE(&v->s.lock);
        while (!v->s.stopping && clock_now_ns() < until)
            (void)cond_wait_until(&v->s.cond, &v->s.lock, until);
    }
}

static void *resumer_main(void *arg)
{
    struct volume *v = arg;
    struct err err = ERR_INIT;
    struct rename_row *rows = NULL;
    int r = rename_log_rows(v->renames, &err, &rows);
    if (r < 0)
        log_error("rename", "%s: the journal of renames cannot be read: %s", v->key, err_text(&err));
    for (const struct rename_row *row = rows; row && r == 0; row = row->next)
        r = resume_row(v, row);
    rename_rows_free(rows);
    return NULL;
}

int volume_resume_renames(struct volume *v, struct err *err)
{
    struct rename_row *rows = NULL;
    int r = rename_log_rows(v->renames, err, &rows);
    if (r < 0 || !rows)
        return r;
    rename_rows_free(rows);
    r = pthread_create(&v->resumer, NULL, resumer_main, v);
    if (r != 0)
        return err_set(err, r, "%s: no thread to finish renames: %s", v->key, strerror(r));
    v->resumer_runs = true;
    return 0;
}

void volume_resume_stop(struct volume *v)
{
    lock_acquire(&v->s.lock);
    v->s.stopping = true;
    if (v->resuming)
        op_cancel(v->resuming);
    cond_broadcast(&v->s.cond);
    lock_release(&v->s.lock);
    if (v->resumer_runs)
        pthread_join(v->resumer, NULL);
    v->resumer_runs = false;
}

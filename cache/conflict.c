/* SPDX-License-Identifier: MIT
 * conflict.c: two clients wrote the same file. Neither version is lost: theirs keeps the name, ours goes to
 * PATH.conflict-HOST-TIME in the same store, and the writer gets -ESTALE (O_EXCL: -EEXIST).
 *
 * What is staged moves into a vnode of its own under the new name, with all that the journal has promised of it: from
 * then on it is a new file, DIRTY like any other that waits for its upload, and stored at once if that can be. The old
 * vnode has nothing any more; it is stale and detached, for the handles of the old name. If the new name is another
 * client's by the time it is stored, the copy has lost that, too, and moves on in the same way, with something random
 * in its name. An empty file is no copy worth keeping (a lost race for a lock file).
 * Of an edit inside a large file only the edited ranges may be here, and the base is gone from the store:
 * what neither the stage file nor the cache has is zeros in the copy, whose name then ends in
 * "-incomplete". So is what was uploaded while it was written and gave up its place on a full disk
 * (stream.h): the upload stays at the store, unfinished, and one error line has its id. */
#include "cache/commit.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/date.h"
#include "base/log.h"
#include "cache/stage.h"
#include "cache/stream.h"

#include <limits.h>

#define HOST_MAX 64
#define TRIES 4

static void host_name(char out[HOST_MAX + 1])
{
    if (gethostname(out, HOST_MAX) != 0)
        snprintf(out, HOST_MAX, "host");
    out[HOST_MAX] = '\0';
    for (char *p = out; *p; p++)
        if (*p == '/' || (unsigned char)*p < 0x21)
            *p = '_';
}

/* Cut so that the last segment is a legal file name and the key is not too long. */
static char *conflict_name(const struct vnode *n, bool again)
{
    char host[HOST_MAX + 1], when[17], random[9];
    size_t parent = 0, key_max = n->v->store->limits.key_max;
    host_name(host);
    date_format_amz(clock_wall().tv_sec, when);
    random_hex(random, 8);
    CLEANUP_FREE char *end = xasprintf(".conflict-%s-%s%s%s%s", host, when, again ? "-" : "",
                                       again ? random : "", n->incomplete ? "-incomplete" : "");
    size_t base = strlen(path_base(n->path, &parent)), lead = strlen(n->path) - base;
    size_t room = NAME_MAX_BYTES;
    if (key_max && key_max < lead + room)
        room = key_max > lead ? key_max - lead : 0;
    room = room > strlen(end) ? room - strlen(end) : 0;
    return xasprintf("%.*s%s", (int)(lead + (base < room ? base : room)), n->path, end);
}

/* All of the content that can still be had. */
static bool fill_best(struct vnode *n, struct op *op)
{
    struct err keep = op->err;
    int r = vnode_fill(n, op, 0, n->base_len);
    op->err = keep;
    return r == 0;
}

/* What is staged, and promised, of n becomes the copy's. */
static void give_locked(struct vnode *n, struct vnode *copy)
{
    lock_assert_held(&n->lock);
    attr_copy(&copy->attr, &n->attr);
    copy->attr.version[0] = '\0';
    copy->pre = PRE_ABSENT; /* there may be a copy of the same second */
    copy->conflict = copy->dirty = true;
    copy->incomplete = n->incomplete;
    copy->stamped = n->stamped;
    copy->since = n->since;
    copy->attempts = n->attempts;
    copy->last = n->last;
    copy->staged = n->staged;
    copy->reserved = n->reserved;
    copy->unflushed = n->unflushed;
    copy->file = take_ptr(&n->file);
    copy->file_name = take_ptr(&n->file_name);
    copy->old_name = take_ptr(&n->old_name);
    copy->journaled = n->journaled;
    copy->in_row = n->in_row;
    copy->saved = n->saved;
    copy->name_synced = n->name_synced;
    copy->promised = n->promised;
    copy->promise = n->promise;
    copy->undo = take_ptr(&n->undo);
    copy->taken = n->taken;
    copy->background = n->background;
    n->staged = RANGES_INIT;
    n->reserved = 0;
    n->dirty = n->unflushed = n->journaled = n->in_row = n->saved = n->promised = n->taken = false;
    copy->refs++; /* that of the dirty state */
    n->refs--;
}

/* A vnode of that name has it, with its token, in one step: no moment at which it is under no name, or under both. NULL:
 * the name is that of another copy, which is not stored yet, or is open. */
static struct vnode *give_to(struct vnode *n, const char *path)
{
    struct volume *v = n->v;
    LOCK_SCOPE(&v->s.lock);
    if (strmap_get(&v->s.nodes, path))
        return NULL;
    struct vnode *copy = vnode_new(v, path);
    copy->busy = copy->committing = true;
    vnode_detach_locked(n);
    vnode_attach_locked(copy);
    LOCK_SCOPE(&n->lock);
    atomic_store(&n->stale, true);
    n->conflict = true;
    give_locked(n, copy);
    return copy;
}

static struct vnode *move_away(struct vnode *n, bool incomplete)
{
    struct volume *v = n->v;
    struct vnode *copy = NULL;
    lock_acquire(&n->lock);
    n->incomplete = n->incomplete || incomplete;
    lock_release(&n->lock);
    for (bool again = n->conflict; !copy; again = true) {
        CLEANUP_FREE char *to = conflict_name(n, again);
        copy = give_to(n, to);
    }
    vnode_set_base(n, NULL, 0);
    seen_set(v, n->path, NULL);
    volume_changed(v, n->path, NULL);
    (void)vnode_move(n, copy->path); /* its handles are told where their content is */
    return copy;
}

static void let_go(struct vnode *copy)
{
    vnode_set_background(copy, NULL);
    vnode_set_committing(copy, false);
    vnode_close_idle(copy); /* there may be many that wait, for hours */
    vnode_end_put(copy);
}

static void forget(struct vnode *n)
{
    struct volume *v = n->v;
    atomic_store(&n->stale, true);
    seen_set(v, n->path, NULL);
    volume_changed(v, n->path, NULL);
    lock_acquire(&v->s.lock);
    vnode_detach_locked(n);
    lock_release(&v->s.lock);
    vnode_clean(n);
}

/* Under another name if that one is taken, too. 0: it is stored; else it stays staged. *copy is the vnode that has it. */
static int keep_copy(struct vnode **copy, struct op *op)
{
    for (int i = 0;; i++) {
        int r = commit_staged(*copy, op);
        if (r == 1 && i == TRIES)
            r = commit_failed(*copy, op);
        if (r <= 0)
            return r;
        struct vnode *next = move_away(*copy, false);
        let_go(*copy);
        *copy = next;
    }
}

/* The upload under the old name. True when some of its bytes are nowhere else. */
static bool leave_stream(struct vnode *n)
{
    bool freed = stream_has_freed(n->stream);
    if (freed) {
        CLEANUP_FREE char *id = stream_id(n->stream);
        log_error("upload", "%s: %s: another client was first, and parts of what was written here are in the "
                            "unfinished upload %s only, which is left at the store", n->v->key, n->path,
                  id ? id + 1 : "");
        stream_leave(n->stream);
    }
    vnode_drop_stream(n);
    return freed;
}

int commit_conflict(struct vnode *n, struct op *op)
{
    struct volume *v = n->v;
    int code = n->excl ? EEXIST : ESTALE;
    CLEANUP_FREE char *path = xstrdup(n->path);
    if (n->attr.size == 0) {
        forget(n);
        return err_set(&op->err, code, "%s: %s: another client was first; nothing was written here",
                       v->key, path);
    }
    stat_add(v->conflicts, !n->conflict);
    bool freed = n->stream && leave_stream(n);
    struct vnode *copy = move_away(n, !fill_best(n, op) || freed);
    bool incomplete = copy->incomplete;
    int r = keep_copy(&copy, op);
    (void)vnode_move(n, copy->path);
    let_go(copy);
    log_warn("cache", "%s: %s: another client changed it; what was written here %s %s%s", v->key,
             path, r == 0 ? "is kept as" : "is staged and will be kept as", n->path,
             incomplete ? " (incomplete: the base is gone)" : "");
    return err_set(&op->err, code, "%s: %s: another client has changed the file; what was written "
                                   "here %s %s", v->key, path,
                   r == 0 ? "is kept as" : "stays staged and will be kept as", n->path);
}

/* SPDX-License-Identifier: MIT
 * conflict.c: two clients wrote the same file. Neither version is lost: theirs keeps the name, ours goes to
 * PATH.conflict-HOST-TIME in the same store, and the writer gets -ESTALE (O_EXCL: -EEXIST).
 *
 * The vnode moves to the new name and becomes stale: its handles get -ESTALE. If the copy cannot be stored
 * now, it stays DIRTY under that name, journaled and retried like any other. An empty file is no copy worth
 * keeping (a lost race for a lock file).
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
static char *conflict_name(const struct vnode *n, bool incomplete, bool again)
{
    char host[HOST_MAX + 1], when[17], random[9];
    size_t parent = 0, key_max = n->v->store->limits.key_max;
    host_name(host);
    date_format_amz(clock_wall().tv_sec, when);
    random_hex(random, 8);
    CLEANUP_FREE char *end = xasprintf(".conflict-%s-%s%s%s%s", host, when, again ? "-" : "",
                                       again ? random : "", incomplete ? "-incomplete" : "");
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

/* From now on this is another file. */
static void move_away(struct vnode *n, bool incomplete, bool again)
{
    struct volume *v = n->v;
    CLEANUP_FREE char *from = xstrdup(n->path);
    CLEANUP_FREE char *to = conflict_name(n, incomplete || n->incomplete, again);
    vnode_set_base(n, NULL, 0);
    lock_acquire(&n->lock);
    n->conflict = true;
    n->incomplete = n->incomplete || incomplete;
    n->pre = v->store->caps & CAP_IF_MATCH ? PRE_ABSENT : PRE_NONE;
    n->assumed_ns = 0;
    n->attr.version[0] = '\0';
    atomic_store(&n->stale, true);
    lock_release(&n->lock);
    while (!vnode_move(n, to)) { /* that of a copy which is not stored yet */
        free(to);
        to = conflict_name(n, n->incomplete, true);
    }
    seen_set(v, from, NULL);
    volume_changed(v, from, NULL);
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

/* Under another name if that one is taken, too. */
static int store_copy_of_ours(struct vnode *n, struct op *op)
{
    for (int i = 0;; i++) {
        CLEANUP_ATTR struct attr a = ATTR_INIT;
        int r = commit_attempt(n, op, &a);
        if (r < 0 && op->err.retry == ERR_RETRY_UNKNOWN && commit_look(n, op, &a) == COMMIT_OURS)
            r = 0;
        if (r == 0)
            commit_done(n, &a);
        if (r != -EEXIST || i == TRIES)
            return r;
        move_away(n, false, true);
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
    bool first = !n->conflict;
    if (n->attr.size == 0) {
        forget(n);
        return err_set(&op->err, code, "%s: %s: another client was first; nothing was written here",
                       v->key, path);
    }
    bool freed = n->stream && leave_stream(n);
    move_away(n, freed || (first && !fill_best(n, op)), !first);
    bool incomplete = n->incomplete;
    int r = store_copy_of_ours(n, op);
    if (r < 0)
        (void)commit_failed(n, op);
    stat_add(v->conflicts, first);
    const char *name = n->path;
    log_warn("cache", "%s: %s: another client changed it; what was written here %s %s%s", v->key,
             path, r == 0 ? "is kept as" : "is staged and will be kept as", name,
             incomplete ? " (incomplete: the base is gone)" : "");
    return err_set(&op->err, code, "%s: %s: another client has changed the file; what was written "
                                   "here %s %s", v->key, path,
                   r == 0 ? "is kept as" : "stays staged and will be kept as", name);
}

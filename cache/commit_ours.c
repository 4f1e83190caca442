/* SPDX-License-Identifier: MIT
 * commit_ours.c: a condition has failed, or nobody knows how an attempt to store has ended: what is there now, and is it
 * ours? */
#include "cache/commit.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/sys.h"
#include "cache/given_up.h"
#include "cache/stage.h"
#include "cache/stream.h"

#define CHUNK (1024 * 1024)
#define AGE_SLACK_MS 2000 /* the store's times are in whole seconds */

bool commit_is_complete(const struct vnode *n)
{
    uint64_t needed = n->base_len < n->attr.size ? n->base_len : n->attr.size;
    return !n->base || ranges_has(&n->staged, 0, needed);
}

/* ---- the same bytes ---- */

/* 1: all of them; 0: there are fewer; or -errno. */
static int read_there(struct vnode *n, struct op *op, const char *version, uint64_t pos, void *to, size_t len)
{
    struct read_req req = {.key = n->path,
                           .version = version,
                           .offset = pos,
                           .iov = {.iov_base = to, .iov_len = len}};
    struct read_res res = READ_RES_INIT;
    int r = store_read(n->v->store, op, &req, &res);
    size_t got = res.length;
    read_res_done(&res);
    return r < 0 ? r : got == len;
}

static int same_bytes(struct vnode *n, struct op *op, const char *version, struct range range,
                      char *mine, char *theirs)
{
    for (uint64_t pos = range.off; pos < range.end;) {
        size_t len = range.end - pos > CHUNK ? CHUNK : (size_t)(range.end - pos);
        if (n->stream && stream_is_freed(n->stream, pos, pos + len)) { /* nothing to compare with */
            pos += len;
            continue;
        }
        int r = read_there(n, op, version, pos, theirs, len);
        if (r != 1)
            return r;
        if (sys_pread(n->file->fd, mine, len, pos) != (ssize_t)len || memcmp(mine, theirs, len) != 0)
            return 0;
        pos += len;
    }
    return 1;
}

static int same_content(struct vnode *n, struct op *op, const struct attr *a)
{
    CLEANUP_FREE char *mine = malloc(CHUNK);
    CLEANUP_FREE char *theirs = malloc(CHUNK);
    if (!mine || !theirs)
        return 0;
    int r = n->attr.size ? vnode_stage_open(n, op, n->attr.size) : 0;
    if (r < 0)
        return r;
    r = 1;
    for (size_t i = 0; i < n->staged.n && r == 1; i++) {
        struct range range = n->staged.v[i];
        range.end = range.end < n->attr.size ? range.end : n->attr.size;
        r = same_bytes(n, op, a->version, range, mine, theirs);
    }
    return r;
}

/* An attempt may have succeeded although we were told otherwise, or told nothing (a lost answer, a crash). 1, 0, or
 * -errno: not known. */
static int is_ours(struct vnode *n, struct op *op, const struct attr *there)
{
    const struct attr *sent = n->stream ? stream_attr(n->stream) : &n->attr;
    bool timed = sent->known & ATTR_HAS_MTIME; /* vnode_fit_time */
    bool same = there->kind == ATTR_FILE && there->size == n->attr.size &&
                timed == (bool)(there->known & ATTR_HAS_MTIME) &&
                (!timed || (there->mtime.tv_sec == sent->mtime.tv_sec && there->mtime.tv_nsec == sent->mtime.tv_nsec));
    return same ? same_content(n, op, there) : 0;
}

/* ---- from here, earlier ---- */

/* A patch ended in the middle: what is there now has the ranges that are staged here in some state, and is the base
 * in all else. The next attempt goes on from there; with the old version it would take its own work for another
 * client's. */
void commit_go_on_from(struct vnode *n, const struct attr *now)
{
    struct base *b = base_new(n->v, n->path, now->version, now->size, true);
    vnode_set_base(n, b, n->base_len < now->size ? n->base_len : now->size);
    lock_acquire(&n->lock);
    if (n->pre == PRE_MATCH)
        memcpy(n->pre_version, now->version, sizeof(n->pre_version));
    lock_release(&n->lock);
    vnode_seen(n, now->version);
    volume_changed(n->v, n->path, NULL);
}

int commit_made_late(struct vnode *n, struct op *op)
{
    uint64_t open_ms = (clock_now_ns() - n->assumed_ns) / NS_PER_MS;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int r = store_stat(n->v->store, op, n->path, &a);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    if (a.kind != ATTR_FILE || a.age_ms < open_ms + AGE_SLACK_MS)
        return 0;
    LOCK_SCOPE(&n->lock);
    n->pre = PRE_MATCH;
    memcpy(n->pre_version, a.version, sizeof(n->pre_version));
    n->assumed_ns = 0;
    return 1;
}

/* What is in the way came from here, late (given_up.h). Of a file that is not all staged it is the base of the new content:
 * what is not staged now was not staged when it was sent (since then it has not been clean). */
static bool sent_before(struct vnode *n, const struct attr *there)
{
    bool complete = commit_is_complete(n);
    if (!atomic_load(&n->v->given_ups) || (!complete && (n->copy_of || !n->maybe_stored)) ||
        !given_up_is(n->v, n->path, there))
        return false;
    if (!complete)
        commit_go_on_from(n, there);
    LOCK_SCOPE(&n->lock);
    n->pre = PRE_MATCH;
    memcpy(n->pre_version, there->version, sizeof(n->pre_version));
    return true;
}

static bool has_sum(struct vnode *n, struct op *op, const char *version, struct range range, uint32_t sum)
{
    char theirs[SENT_PROOF];
    size_t len = (size_t)(range.end - range.off);
    return len == 0 || (read_there(n, op, version, range.off, theirs, len) == 1 && crc32c(0, theirs, len) == sum);
}

/* Where the file was growing when it was cut off there is no checksum: that has to be staged as it was sent. */
static bool has_tail(struct vnode *n, struct op *op, const struct attr *there, const struct sent_patch *p, struct range tail)
{
    char mine[SENT_PROOF], theirs[SENT_PROOF];
    if (there->size == p->size)
        return has_sum(n, op, there->version, tail, p->tail_crc);
    return same_bytes(n, op, there->version, tail, mine, theirs) == 1;
}

/* Is it what a patch of ours has left, which ended nobody knows where? Then the next one goes on from there. */
static bool patched_before(struct vnode *n, struct op *op, const struct attr *there)
{
    struct range tail;
    if (!n->sent.n || !n->base || n->copy_of || n->pre != PRE_MATCH || there->kind != ATTR_FILE ||
        vnode_stage_open(n, op, n->attr.size) < 0)
        return false;
    for (size_t i = n->sent.n; i-- > 0;) {
        const struct sent_patch *p = &n->sent.v[i];
        if (!sent_patch_can_leave(p, there->size, &tail) || !has_sum(n, op, there->version, p->head, p->head_crc) ||
            !has_tail(n, op, there, p, tail))
            continue;
        commit_go_on_from(n, there);
        return true;
    }
    return false;
}

/* ---- the look ---- */

int commit_look(struct vnode *n, struct op *op, struct attr *ret)
{
    CLEANUP_ATTR struct attr there = ATTR_INIT;
    int r = store_stat(n->v->store, op, n->path, &there);
    if (r == -ENOENT)
        return n->pre == PRE_MATCH ? COMMIT_THEIRS : COMMIT_UNCHANGED;
    if (r < 0)
        return r;
    if (n->pre == PRE_MATCH && strcmp(there.version, n->pre_version) == 0)
        return COMMIT_UNCHANGED;
    r = is_ours(n, op, &there);
    if (r < 0)
        return r;
    if (r == 1) {
        attr_move(ret, &there);
        return COMMIT_OURS;
    }
    if (sent_before(n, &there) || patched_before(n, op, &there))
        return COMMIT_EARLIER;
    return n->pre == PRE_NONE ? COMMIT_UNCHANGED : COMMIT_THEIRS;
}

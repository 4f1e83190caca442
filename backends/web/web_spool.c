/* SPDX-License-Identifier: MIT
 * web_spool.c: see web_spool.h.
 *
 * States of an entry: RUNNING (its job reads the reply) -> DONE (all is in the file, `facts` are final)
 * or FAILED (taken out of the list; `err` says why). Invariants: (1) bytes below `have` do not change;
 * (2) `facts` are valid from `replied` on, final in DONE; (3) an entry is freed when it is out of the
 * list and `refs` (readers and the job) is 0; (4) `used` is the sum of `have` of all entries. */
#include "backends/web/web_spool.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/lock.h"
#include "base/pool.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 4
#define IDLE_S 10
#define TICK_MS 100
#define ENTRIES 128 /* each has an open file */

enum state { RUNNING = 1, DONE, FAILED };

struct entry {
    struct pool_job job;
    struct web_spool *s;
    struct entry *next;
    char *key, *asked; /* version asked for, or "" */
    struct web_ref at;
    struct op op;
    int fd;
    struct sha256_stream *hash; /* the job's */
    /* Guarded by the spool's lock: */
    enum state state;
    bool replied, listed;
    uint64_t have, used_ns;
    unsigned refs, waiting;
    struct web_facts facts;
    struct err err;
};

struct web_spool {
    struct web *web;
    char *dir;
    uint64_t max;
    struct pool *pool;
    struct lock lock;
    struct cond moved;
    struct entry *list;
    uint64_t used;
    bool closing;
};

/* ---- entries ---- */

static void entry_free(struct entry *e)
{
    if (e->fd >= 0)
        (void)close(e->fd);
    free(e->key);
    free(e->asked);
    web_ref_done(&e->at);
    free(e);
}

static void unlist_locked(struct entry *e)
{
    struct entry **p = &e->s->list;
    lock_assert_held(&e->s->lock);
    while (*p && *p != e)
        p = &(*p)->next;
    if (*p)
        *p = e->next;
    e->listed = false;
}

/* Gives the entry back when it is to be freed, by the caller without the lock. */
static struct entry *unref_locked(struct entry *e)
{
    lock_assert_held(&e->s->lock);
    if (--e->refs > 0 || e->listed)
        return NULL;
    e->s->used -= e->have;
    return e;
}

static struct entry *find_locked(struct web_spool *s, const char *key, const char *version)
{
    for (struct entry *e = s->list; e; e = e->next) {
        const char *v = e->state == DONE ? e->facts.version : e->asked;
        if (*version && strcmp(e->key, key) == 0 && strcmp(v, version) == 0)
            return e;
    }
    return NULL;
}

/* The finished entry that nobody reads and that was used longest ago, out of the list; or NULL. */
static struct entry *evict_locked(struct web_spool *s)
{
    struct entry *oldest = NULL;
    for (struct entry *e = s->list; e; e = e->next)
        if (e->state == DONE && e->refs == 0 && (!oldest || e->used_ns < oldest->used_ns))
            oldest = e;
    if (oldest) {
        unlist_locked(oldest);
        s->used -= oldest->have;
    }
    return oldest;
}

/* A file of many small ones: the oldest goes. */
static struct entry *trim_locked(struct web_spool *s)
{
    unsigned n = 0;
    for (struct entry *e = s->list; e; e = e->next)
        n++;
    return n > ENTRIES ? evict_locked(s) : NULL;
}

/* ---- the download ---- */

static int make_room(struct entry *e, size_t n)
{
    struct web_spool *s = e->s;
    int r = 0;
    for (bool room = false; !room && r == 0;) {
        lock_acquire(&s->lock);
        room = s->used + n <= s->max;
        struct entry *old = room ? NULL : evict_locked(s);
        bool alone = s->used == e->have;
        if (room)
            s->used += n; /* `have` follows when the bytes are written */
        lock_release(&s->lock);
        if (old)
            entry_free(old);
        else if (!room)
            r = err_set(&e->op.err, alone ? EFBIG : ENOSPC,
                        "%s can only be read as a whole, and %s of %llu bytes: raise spool_max", e->key,
                        alone ? "is larger than spool_max" : "other downloads fill spool_max",
                        (unsigned long long)s->max);
    }
    return r;
}

static bool is_forgotten(struct entry *e)
{
    LOCK_SCOPE(&e->s->lock);
    return e->s->closing || (!e->waiting && clock_now_ns() - e->used_ns > IDLE_S * NS_PER_S);
}

static int sink(void *arg, const void *data, size_t len)
{
    struct entry *e = arg;
    if (is_forgotten(e))
        return err_set(&e->op.err, EINTR, "nobody reads %s any more", e->key);
    int r = make_room(e, len);
    if (r < 0)
        return r;
    ssize_t n = sys_pwrite(e->fd, data, len, e->have);
    lock_acquire(&e->s->lock);
    if (n == (ssize_t)len)
        e->have += len;
    else
        e->s->used -= len;
    cond_broadcast(&e->s->moved);
    lock_release(&e->s->lock);
    if (n != (ssize_t)len)
        return err_set(&e->op.err, n < 0 ? (int)-n : EIO, "cannot write to %s: %s", e->s->dir,
                       strerror(n < 0 ? (int)-n : EIO));
    sha256_add(e->hash, data, len);
    return 0;
}

static int on_reply(void *arg, const struct http_res *res)
{
    struct entry *e = arg;
    struct web_facts f;
    if (res->status / 100 != 2)
        return 0;
    web_facts_read(res, &f);
    if (res->status != 200)
        return err_set(&e->op.err, EIO, "the server answered %d to a request for all of it",
                       res->status);
    if (*e->asked && !web_version_is_hash(e->asked) && !web_facts_agree(&f, e->asked))
        return err_set(&e->op.err, ESTALE, "the version there is '%s', not '%s'", f.version, e->asked);
    if (f.has_size && f.size > e->s->max)
        return err_set(&e->op.err, EFBIG,
                       "it can only be read as a whole, and has %llu bytes, more than spool_max",
                       (unsigned long long)f.size);
    LOCK_SCOPE(&e->s->lock);
    e->facts = f;
    e->replied = true;
    cond_broadcast(&e->s->moved);
    return 0;
}

static int download(struct entry *e)
{
    CLEANUP_FREE char *path = xasprintf("%s/quayfs-spool-XXXXXX", e->s->dir);
    struct web_res res = WEB_RES_INIT;
    struct web_req req = {.verb = "read",
                          .method = "GET",
                          .at = &e->at,
                          .sink = sink,
                          .sink_arg = e,
                          .on_reply = on_reply,
                          .on_reply_arg = e};
    e->fd = mkostemp(path, O_CLOEXEC);
    if (e->fd < 0)
        return err_set(&e->op.err, errno, "cannot make a file in spool_dir %s: %s", e->s->dir,
                       strerror(errno));
    (void)unlink(path);
    e->hash = sha256_begin();
    if (!web_version_is_hash(e->asked))
        web_version_add_condition(e->asked, &req.headers);
    int r = web_do(e->s->web, &e->op, &req, &res);
    web_req_done(&req);
    web_res_done(&res);
    if (r == -ENOENT && *e->asked)
        r = err_set(&e->op.err, ESTALE, "read %s: it is gone", e->key);
    return r;
}

/* All has come: is it what was asked for, and what is it? */
static int judge(struct entry *e, const uint8_t digest[SHA256_LEN], struct web_facts *f)
{
    web_facts_set_size(f, e->have);
    if (!f->version[0] || web_version_is_hash(e->asked))
        web_version_of_hash(digest, f->version);
    if (f->size != e->have)
        return err_set(&e->op.err, EIO, "read %s: %llu bytes came of %llu", e->key,
                       (unsigned long long)e->have, (unsigned long long)f->size);
    if (*e->asked && strcmp(f->version, e->asked) != 0)
        return err_set(&e->op.err, ESTALE, "read %s: it has changed", e->key);
    return 0;
}

static void run(struct pool_job *job)
{
    struct entry *e = (struct entry *)job;
    uint8_t digest[SHA256_LEN] = {0};
    int r = download(e);
    if (e->hash)
        sha256_end(e->hash, digest);
    e->hash = NULL;
    lock_acquire(&e->s->lock);
    struct web_facts f = e->facts;
    if (r == 0)
        r = judge(e, digest, &f);
    if (r == 0) {
        e->facts = f;
        e->state = DONE;
    } else {
        e->err = e->op.err;
        e->err.code = -r;
        e->state = FAILED;
        unlist_locked(e);
    }
    cond_broadcast(&e->s->moved);
    struct entry *gone = unref_locked(e);
    lock_release(&e->s->lock);
    if (gone)
        entry_free(gone);
}

/* ---- readers ---- */

static struct entry *entry_new(struct web_spool *s, const struct web_ref *at,
                               const struct read_req *req)
{
    struct entry *e = xcalloc(1, sizeof(*e));
    e->job.run = run;
    e->s = s;
    e->fd = -1;
    e->key = xstrdup(req->key);
    e->asked = xstrdup(req->version ? req->version : "");
    e->at = (struct web_ref){.origin = xstrdup(at->origin),
                             .path = xstrdup(at->path),
                             .query = at->query ? xstrdup(at->query) : NULL};
    op_init(&e->op, "download", 0);
    e->state = RUNNING;
    e->used_ns = clock_now_ns();
    return e;
}

/* Finds or begins the download; the caller has one of its refs. */
static struct entry *entry_get(struct web_spool *s, const struct web_ref *at,
                               const struct read_req *req)
{
    struct entry *fresh = entry_new(s, at, req);
    lock_acquire(&s->lock);
    struct entry *e = find_locked(s, req->key, fresh->asked);
    bool begin = !e;
    if (begin) {
        e = fresh;
        e->listed = true;
        e->next = s->list;
        s->list = e;
        e->refs++; /* the job's */
    }
    e->refs++;
    e->waiting++;
    struct entry *old = begin ? trim_locked(s) : NULL;
    lock_release(&s->lock);
    if (old)
        entry_free(old);
    if (begin)
        pool_submit(s->pool, &e->job, 0);
    else
        entry_free(fresh);
    return e;
}

/* Is the range there, as far as it can be given now? */
static bool is_ready_locked(const struct entry *e, const struct read_req *req)
{
    bool pinned = *e->asked && !web_version_is_hash(e->asked);
    if (e->state != RUNNING)
        return true;
    return pinned && e->replied && req->iov.iov_len && e->have >= req->offset + req->iov.iov_len &&
           e->facts.has_size;
}

/* Waits; a deadline is one without progress, as for every transfer. */
static int wait_for(struct web_spool *s, struct entry *e, struct op *op, const struct read_req *req)
{
    uint64_t deadline = op->deadline_ns, start = clock_now_ns();
    uint64_t limit = deadline > start ? deadline - start : 0, seen = 0;
    int r = 0;
    lock_acquire(&s->lock);
    while (r == 0 && !is_ready_locked(e, req)) {
        (void)cond_wait_until(&s->moved, &s->lock, clock_now_ns() + TICK_MS * NS_PER_MS);
        if (deadline && e->have > seen)
            op->deadline_ns = clock_now_ns() + limit;
        seen = e->have;
        r = op_check(op);
    }
    lock_release(&s->lock);
    op->deadline_ns = deadline;
    return r;
}

static int copy_out(struct entry *e, struct op *op, const struct read_req *req, uint64_t size,
                    size_t *ret_len)
{
    uint64_t left = size > req->offset ? size - req->offset : 0;
    size_t n = left < req->iov.iov_len ? (size_t)left : req->iov.iov_len;
    ssize_t got = n ? sys_pread(e->fd, req->iov.iov_base, n, req->offset) : 0;
    if (got != (ssize_t)n)
        return err_set(&op->err, EIO, "read %s: cannot read from %s: %s", req->key, e->s->dir,
                       got < 0 ? strerror((int)-got) : "the file is too short");
    if (n && req->on_data && req->on_data(req->on_data_arg, n) != 0)
        return err_set(&op->err, EINTR, "stopped by the reader");
    *ret_len = n;
    return 0;
}

int web_spool_read(struct web_spool *s, struct op *op, const struct web_ref *at,
                   const struct read_req *req, size_t *ret_len, struct web_facts *ret)
{
    struct entry *e = entry_get(s, at, req);
    int r = wait_for(s, e, op, req);
    lock_acquire(&s->lock);
    struct web_facts f = e->facts;
    if (r == 0 && e->state == FAILED) {
        op->err = e->err;
        r = -e->err.code;
    }
    lock_release(&s->lock);
    if (r == 0)
        r = copy_out(e, op, req, f.size, ret_len);
    if (r == 0)
        *ret = f;
    lock_acquire(&s->lock);
    e->waiting--;
    e->used_ns = clock_now_ns();
    struct entry *gone = unref_locked(e);
    lock_release(&s->lock);
    if (gone)
        entry_free(gone);
    return r;
}

bool web_spool_has(struct web_spool *s, const char *key, const char *version)
{
    LOCK_SCOPE(&s->lock);
    return version && find_locked(s, key, version);
}

/* ---- life ---- */

struct web_spool *web_spool_new(struct web *w, const char *dir, uint64_t max)
{
    struct web_spool *s = xcalloc(1, sizeof(*s));
    s->web = w;
    s->dir = xstrdup(dir);
    s->max = max ? max : UINT64_MAX / 2;
    lock_init(&s->lock, LOCK_RANK_STORE, "web-spool");
    cond_init(&s->moved);
    s->pool = pool_new("web-spool", THREADS);
    return s;
}

void web_spool_free(struct web_spool *s)
{
    if (!s)
        return;
    lock_acquire(&s->lock);
    s->closing = true;
    for (struct entry *e = s->list; e; e = e->next)
        op_cancel(&e->op);
    lock_release(&s->lock);
    pool_free(s->pool);
    while (s->list) {
        struct entry *e = s->list;
        s->list = e->next;
        entry_free(e);
    }
    cond_done(&s->moved);
    lock_done(&s->lock);
    free(s->dir);
    free(s);
}

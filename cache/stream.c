/* SPDX-License-Identifier: MIT
 * stream.c: see stream.h.
 * Invariants, under s->lock: (1) refs = the owner's one and one per job; who drops the last ends the upload;
 * (2) parts[0, n) are cut, without gaps; (3) `freed` only with SENT: those bytes are holes in the stage file;
 * (4) the upload is begun by one thread (`beginning`), whoever needs it first. */
#include "cache/stream.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sys.h"
#include "cache/parallel.h"
#include "cache/stage.h"
#include "cache/volume_int.h"

#include <fcntl.h>
#include <linux/falloc.h>

#define MARGIN (1024 * 1024)
#define STEPS 12
#define WAIT_NS (100 * NS_PER_MS)

enum part_state { PART_WAITING = 0, PART_SENDING, PART_SENT, PART_AGAIN };

struct part {
    enum part_state state;
    bool changed; /* while SENDING */
    bool freed;
    struct store_part sent;
};

struct stream_job {
    struct pool_job job;
    struct stream *s;
    struct op op;
    struct stream_job *next; /* s->jobs */
};

struct stream {
    struct volume *v;
    char *path;
    struct stage_file *file;
    struct attr attr;
    struct lock lock;
    struct cond cond;
    unsigned refs;
    char *id;          /* NULL: not begun */
    bool beginning;
    bool dropped, finished, left;
    struct part *parts;
    size_t n, cap;
    struct stream_job *jobs; /* queued or running */
    unsigned n_jobs;
    size_t freed;      /* parts */
    struct err err;    /* why the jobs have stopped */
};

bool stream_part(const struct store_limits *l, uint64_t index, uint64_t *ret_off, uint64_t *ret_len)
{
    uint64_t parts = l->parts_max ? l->parts_max : 10000;
    uint64_t most = l->part_max ? l->part_max : UINT64_MAX / 2;
    uint64_t step = parts / STEPS ? parts / STEPS : 1;
    uint64_t len = l->part_size ? l->part_size : 16ULL << 20, off = 0;
    len = len < l->part_min ? l->part_min : len;
    if (index >= parts)
        return false;
    for (; index >= step; index -= step) {
        len = len > most ? most : len;
        off += step * len;
        len = len > most / 2 ? most : len * 2;
    }
    len = len > most ? most : len;
    *ret_off = off + index * len;
    *ret_len = len;
    return true;
}

/* The part that has byte `pos`. */
static uint64_t part_of(const struct store_limits *l, uint64_t pos)
{
    uint64_t lo = 0, hi = (l->parts_max ? l->parts_max : 10000) - 1, off = 0, len = 0;
    while (lo < hi) {
        uint64_t mid = (lo + hi + 1) / 2;
        (void)stream_part(l, mid, &off, &len);
        if (off <= pos)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

/* ---- life ---- */

struct stream *stream_new(struct volume *v, const char *path, struct stage_file *file,
                          const struct attr *attr)
{
    struct stream *s = xcalloc(1, sizeof(*s));
    s->v = v;
    s->path = xstrdup(path);
    s->file = stage_file_ref(file);
    attr_copy(&s->attr, attr);
    lock_init(&s->lock, LOCK_RANK_LEAF, "upload");
    cond_init(&s->cond);
    s->refs = 1;
    return s;
}

static void end_upload(struct stream *s)
{
    struct err err = ERR_INIT;
    if (s->finished || s->left)
        (void)stage_upload_remove(s->v->stage, s->id, &err);
    else
        volume_abort_upload(s->v, s->path, s->id);
}

static void stream_put(struct stream *s)
{
    lock_acquire(&s->lock);
    bool last = --s->refs == 0;
    cond_broadcast(&s->cond);
    lock_release(&s->lock);
    if (!last)
        return;
    if (s->id)
        end_upload(s);
    stage_file_put(s->file);
    attr_done(&s->attr);
    cond_done(&s->cond);
    lock_done(&s->lock);
    free(s->parts);
    free(s->path);
    free(s->id);
    free(s);
}

/* ---- sending ---- */

static int begin_upload(struct stream *s, struct op *op)
{
    struct upload_req req = {.key = s->path, .attr = &s->attr};
    struct err err = ERR_INIT;
    char *id = NULL;
    int r = store_upload_begin(s->v->store, op, &req, &id);
    if (r == 0 && stage_upload_put(s->v->stage, s->path, id, &err) < 0)
        log_debug("stage", "%s: %s", s->v->key, err_text(&err)); /* a crash would leave an orphan */
    LOCK_SCOPE(&s->lock);
    s->id = id;
    s->beginning = false;
    cond_broadcast(&s->cond);
    return r;
}

/* s->id is there when this returns 0. */
static int need_upload(struct stream *s, struct op *op)
{
    lock_acquire(&s->lock);
    int r = 0;
    while (s->beginning && (r = op_check(op)) == 0)
        (void)cond_wait_until(&s->cond, &s->lock, clock_now_ns() + WAIT_NS);
    bool begin = r == 0 && !s->id;
    s->beginning = s->beginning || begin;
    lock_release(&s->lock);
    return begin ? begin_upload(s, op) : r;
}

/* Sends part i, of which `size` bytes are content; it is SENDING. */
static int send_part(struct stream *s, struct op *op, size_t i, uint64_t size)
{
    uint64_t off = 0, len = 0;
    struct store_part sent = {.number = (unsigned)i + 1};
    int r = need_upload(s, op);
    (void)stream_part(&s->v->store->limits, i, &off, &len);
    sent.offset = off;
    sent.size = len < size - off ? len : size - off;
    struct source_fd src = source_fd(s->file->fd, off, sent.size);
    if (r == 0)
        r = store_upload_part(s->v->store, op, s->path, s->id, &src.base, &sent);
    LOCK_SCOPE(&s->lock);
    struct part *p = &s->parts[i];
    p->state = r == 0 && !p->changed ? PART_SENT : PART_AGAIN;
    if (p->state == PART_SENT)
        p->sent = sent;
    if (p->changed) /* read while it was being written: its failure says nothing */
        r = 0;
    p->changed = false;
    cond_broadcast(&s->cond);
    return r;
}

/* ---- jobs: while the file is written ---- */

static bool take_waiting_locked(struct stream *s, size_t *ret)
{
    for (size_t i = 0; i < s->n && !s->dropped && !s->err.code; i++) {
        if (s->parts[i].state != PART_WAITING)
            continue;
        s->parts[i].state = PART_SENDING;
        *ret = i;
        return true;
    }
    return false;
}

static void job_run(struct pool_job *job)
{
    struct stream_job *j = (struct stream_job *)job;
    struct stream *s = j->s;
    size_t i = 0;
    lock_acquire(&s->lock);
    while (take_waiting_locked(s, &i)) {
        lock_release(&s->lock);
        int r = send_part(s, &j->op, i, UINT64_MAX);
        lock_acquire(&s->lock);
        if (r < 0 && !s->err.code)
            s->err = j->op.err;
    }
    struct stream_job **at = &s->jobs;
    while (*at != j)
        at = &(*at)->next;
    *at = j->next;
    s->n_jobs--;
    lock_release(&s->lock);
    free(j);
    stream_put(s);
}

/* One more job, unless there are enough. */
static void start_job(struct stream *s)
{
    unsigned most = s->v->store->limits.concurrency ? s->v->store->limits.concurrency : 1;
    struct stream_job *j = xcalloc(1, sizeof(*j));
    j->job.run = job_run;
    j->s = s;
    op_init(&j->op, "upload", 0);
    lock_acquire(&s->lock);
    bool start = s->n_jobs < most && !s->err.code;
    if (start) {
        s->refs++;
        s->n_jobs++;
        j->next = s->jobs;
        s->jobs = j;
    }
    lock_release(&s->lock);
    if (start)
        pool_submit(s->v->fetch, &j->job, 2); /* waits for nobody */
    else
        free(j);
}

static void add_part_locked(struct stream *s)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 64;
        s->parts = xrealloc(s->parts, s->cap * sizeof(*s->parts));
    }
    s->parts[s->n++] = (struct part){0};
}

void stream_ready(struct stream *s, uint64_t front)
{
    uint64_t off = 0, len = 0;
    const struct store_limits *l = &s->v->store->limits;
    uint64_t margin = l->part_size < MARGIN ? l->part_size : MARGIN;
    while (stream_part(l, s->n, &off, &len) && off + len + margin <= front) {
        lock_acquire(&s->lock);
        add_part_locked(s);
        lock_release(&s->lock);
        start_job(s);
    }
}

void stream_drop(struct stream *s)
{
    if (!s)
        return;
    struct stream_job *j = xcalloc(1, sizeof(*j)); /* ends the upload, which takes a request */
    j->job.run = job_run;
    j->s = s;
    lock_acquire(&s->lock);
    s->dropped = true;
    for (struct stream_job *run = s->jobs; run; run = run->next)
        op_cancel(&run->op);
    j->next = s->jobs;
    s->jobs = j;
    s->n_jobs++;
    lock_release(&s->lock);
    pool_submit(s->v->fetch, &j->job, 2); /* with the owner's reference */
}

/* ---- changes ---- */

static size_t first_part(struct stream *s, uint64_t off)
{
    return (size_t)part_of(&s->v->store->limits, off);
}

/* Does part i reach into [off, end)? */
static bool part_meets(struct stream *s, size_t i, uint64_t end)
{
    uint64_t off = 0, len = 0;
    return i < s->n && stream_part(&s->v->store->limits, i, &off, &len) && off < end;
}

bool stream_is_freed(struct stream *s, uint64_t off, uint64_t end)
{
    LOCK_SCOPE(&s->lock);
    for (size_t i = first_part(s, off); s->freed && part_meets(s, i, end); i++)
        if (s->parts[i].freed)
            return true;
    return false;
}

bool stream_has_freed(struct stream *s)
{
    LOCK_SCOPE(&s->lock);
    return s->freed > 0;
}

int stream_may_change(struct stream *s, struct op *op, uint64_t off, uint64_t end)
{
    if (!stream_is_freed(s, off, end))
        return 0;
    return err_set(&op->err, ENOSPC, "%s: %s: the part at %llu has been uploaded and is no longer in the "
                                     "cache directory, which is too small for the file", s->v->key, s->path,
                   (unsigned long long)off);
}

void stream_changed(struct stream *s, uint64_t off, uint64_t end)
{
    LOCK_SCOPE(&s->lock);
    for (size_t i = first_part(s, off); part_meets(s, i, end); i++) {
        struct part *p = &s->parts[i];
        if (p->state == PART_SENT)
            p->state = PART_AGAIN;
        p->changed = p->state == PART_SENDING;
        s->freed -= p->freed;
        p->freed = false;
    }
}

/* ---- finishing ---- */

struct finish_run {
    struct stream *s;
    uint64_t size;
    size_t *todo;
};

static int finish_part(void *arg, size_t i, struct op *op)
{
    struct finish_run *f = arg;
    return send_part(f->s, op, f->todo[i], f->size);
}

/* Is part i not as it must be, and nobody else at it? */
static bool is_missing_locked(const struct stream *s, size_t i, uint64_t size)
{
    uint64_t off = 0, len = 0;
    const struct part *p = &s->parts[i];
    (void)stream_part(&s->v->store->limits, i, &off, &len);
    len = len < size - off ? len : size - off;
    switch (p->state) {
    case PART_SENT:
        return p->sent.size != len;
    case PART_WAITING:
        return s->n_jobs == 0;
    default:
        return p->state == PART_AGAIN;
    }
}

/* Parts to be sent by the caller, made SENDING; waits while there are none but some are on their way.
 * *ret_n is 0 when all is at the store. */
static int take_missing(struct stream *s, struct op *op, size_t n, uint64_t size, size_t *todo,
                        size_t *ret_n)
{
    LOCK_SCOPE(&s->lock);
    while (s->n < n) {
        add_part_locked(s);
        s->parts[s->n - 1].state = PART_AGAIN;
    }
    for (*ret_n = 0;;) {
        for (size_t i = 0; i < n; i++)
            if (is_missing_locked(s, i, size))
                todo[(*ret_n)++] = i;
        for (size_t i = 0; i < *ret_n; i++)
            s->parts[todo[i]].state = PART_SENDING;
        int r = *ret_n || s->n_jobs == 0 ? 0 : op_check(op);
        if (*ret_n || s->n_jobs == 0 || r < 0)
            return r;
        (void)cond_wait_until(&s->cond, &s->lock, clock_now_ns() + WAIT_NS);
    }
}

static int send_missing(struct stream *s, struct op *op, size_t n, uint64_t size)
{
    CLEANUP_FREE size_t *todo = xcalloc(n, sizeof(*todo));
    struct finish_run f = {.s = s, .size = size, .todo = todo};
    size_t missing = 0;
    int r = 0;
    lock_acquire(&s->lock);
    err_clear(&s->err); /* what the jobs could not send is tried again */
    lock_release(&s->lock);
    do {
        r = take_missing(s, op, n, size, todo, &missing);
        if (r == 0)
            r = parallel_each(missing, s->v->store->limits.concurrency, finish_part, &f, op);
    } while (r == 0 && missing);
    LOCK_SCOPE(&s->lock);
    for (size_t i = 0; i < missing && r < 0; i++) /* those not begun */
        if (s->parts[todo[i]].state == PART_SENDING)
            s->parts[todo[i]].state = PART_AGAIN;
    return r;
}

int stream_finish(struct stream *s, struct op *op, uint64_t size, const struct precond *pre,
                  struct attr *ret)
{
    uint64_t off = 0, len = 0;
    size_t n = first_part(s, size - 1) + 1;
    (void)stream_part(&s->v->store->limits, n - 1, &off, &len);
    if (off + len < size)
        return err_set(&op->err, EFBIG, "%s: too large for this store", s->path);
    int r = send_missing(s, op, n, size);
    if (r == 0)
        r = need_upload(s, op);
    if (r < 0)
        return r;
    CLEANUP_FREE struct store_part *parts = xcalloc(n, sizeof(*parts));
    for (size_t i = 0; i < n; i++)
        parts[i] = s->parts[i].sent; /* no job runs: nobody changes them */
    r = store_upload_finish(s->v->store, op, s->path, s->id, parts, n, pre, ret);
    if (r < 0)
        return r;
    s->finished = true;
    stage_file_put(take_ptr(&s->file)); /* who adopts it as the cache waits for the others */
    return 0;
}

/* ---- disk space ---- */

/* A part that can be freed, or waits for one. -1: none. */
static ssize_t wait_sent(struct stream *s, struct op *op)
{
    LOCK_SCOPE(&s->lock);
    for (;;) {
        for (size_t i = 1; i < s->n; i++)
            if (s->parts[i].state == PART_SENT && !s->parts[i].freed)
                return (ssize_t)i;
        if (s->n_jobs == 0 || s->err.code || op_check(op) < 0)
            return -1;
        (void)cond_wait_until(&s->cond, &s->lock, clock_now_ns() + WAIT_NS);
    }
}

uint64_t stream_free(struct stream *s, struct op *op)
{
    uint64_t off = 0, len = 0;
    ssize_t i = s->finished ? -1 : wait_sent(s, op); /* then the file is not ours any more */
    if (i < 0)
        return 0;
    (void)stream_part(&s->v->store->limits, (uint64_t)i, &off, &len);
    lock_acquire(&s->lock); /* first: a reader must not take the hole for content */
    s->parts[i].freed = true;
    s->freed++;
    lock_release(&s->lock);
    if (sys_fallocate(s->file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len) == 0)
        return len;
    lock_acquire(&s->lock);
    s->parts[i].freed = false;
    s->freed--;
    lock_release(&s->lock);
    return 0;
}

void stream_leave(struct stream *s)
{
    s->left = true;
}

/* ---- in the journal ---- */

char *stream_format(struct stream *s)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    LOCK_SCOPE(&s->lock);
    if (!s->freed)
        return NULL;
    buf_addf(&b, "%s %lld %ld\n", s->id, (long long)s->attr.mtime.tv_sec, s->attr.mtime.tv_nsec);
    for (size_t i = 0; i < s->n; i++) {
        const struct part *p = &s->parts[i];
        if (p->state == PART_SENT)
            buf_addf(&b, "%zu %llu %d %s\n", i, (unsigned long long)p->sent.size, p->freed, p->sent.etag);
    }
    return buf_take(&b);
}

static bool parse_part(struct stream *s, const char *line)
{
    size_t i = 0;
    unsigned long long size = 0;
    int freed = 0, at = 0;
    uint64_t off = 0, len = 0;
    if (sscanf(line, "%zu %llu %d %n", &i, &size, &freed, &at) != 3 ||
        !stream_part(&s->v->store->limits, i, &off, &len) || strlen(line + at) >= ATTR_VERSION_MAX)
        return false;
    while (s->n <= i) {
        add_part_locked(s);
        s->parts[s->n - 1].state = PART_AGAIN;
    }
    struct part *p = &s->parts[i];
    /* What is here as well goes again: it may have been changed and sent since the row, and the change taken back. */
    *p = (struct part){.state = freed ? PART_SENT : PART_AGAIN, .freed = freed != 0};
    p->sent.number = (unsigned)i + 1;
    p->sent.offset = off;
    p->sent.size = size;
    snprintf(p->sent.etag, sizeof(p->sent.etag), "%s", line + at);
    s->freed += p->freed;
    return true;
}

struct stream *stream_parse(struct volume *v, const char *path, struct stage_file *file,
                            const struct attr *attr, const char *text)
{
    CLEANUP_FREE char *copy = xstrdup(text);
    long long seconds = 0;
    long nanos = 0;
    char *save = NULL, *line = strtok_r(copy, "\n", &save);
    size_t id = line ? strcspn(line, " ") : 0;
    if (!id || sscanf(line + id, "%lld %ld", &seconds, &nanos) != 2)
        return NULL;
    struct stream *s = stream_new(v, path, file, attr);
    s->attr.mtime = (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = nanos};
    s->id = xstrndup(line, id);
    bool ok = true;
    while (ok && (line = strtok_r(NULL, "\n", &save)))
        ok = parse_part(s, line);
    if (ok)
        return s;
    s->left = true; /* whatever it is, it may be all there is */
    stream_put(s);
    return NULL;
}

const struct attr *stream_attr(const struct stream *s)
{
    return &s->attr;
}

const char *stream_path(const struct stream *s)
{
    return s->path;
}

char *stream_id(struct stream *s)
{
    LOCK_SCOPE(&s->lock);
    return s->id ? xstrdup(s->id) : NULL;
}

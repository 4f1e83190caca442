/* SPDX-License-Identifier: MIT
 * lister.c: see lister.h. */
#include "cache/lister.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/list_parts.h"

#define WAIT_SLICE_NS (50 * NS_PER_MS)

struct lister_job {
    struct pool_job job;
    struct lister *l;
    struct list_part *part;
    struct op op;
    struct lister_job *next; /* of the running ones */
};

struct lister {
    struct volume *v;
    char *prefix;
    atomic_uint refs;        /* the reader's, and one for each job */
    struct lock lock;
    struct cond cond;
    struct list_parts parts;
    struct lister_job *jobs;
    bool closed;
    bool faltered;           /* a job failed: none is started until a page was got */
};

static unsigned parts_at_once(const struct volume *v)
{
    unsigned n = v->store->limits.concurrency;
    if (!(v->store->caps & CAP_LIST_AFTER) || atomic_load(&v->list_serially))
        return 1;
    return n < 1 ? 1 : n > LISTER_MAX ? LISTER_MAX : n;
}

struct lister *lister_new(struct volume *v, const char *dir, const char *after, bool after_dir)
{
    struct lister *l = xcalloc(1, sizeof(*l));
    l->v = v;
    l->prefix = path_dir_prefix(dir);
    atomic_init(&l->refs, 1);
    lock_init(&l->lock, LOCK_RANK_READER, "lister");
    cond_init(&l->cond);
    list_parts_init(&l->parts, dir, parts_at_once(v), after, after_dir);
    return l;
}

static void lister_unref(struct lister *l)
{
    if (atomic_fetch_sub(&l->refs, 1) != 1)
        return;
    list_parts_done(&l->parts);
    cond_done(&l->cond);
    lock_done(&l->lock);
    free(l->prefix);
    free(l);
}

void lister_close(struct lister *l)
{
    if (!l)
        return;
    lock_acquire(&l->lock);
    l->closed = true;
    for (struct lister_job *j = l->jobs; j; j = j->next)
        op_cancel(&j->op);
    lock_release(&l->lock);
    lister_unref(l);
}

/* Without the lock: asks for the part. */
static int ask(struct lister *l, struct op *op, struct list_part *part, struct list_page *ret)
{
    CLEANUP_FREE char *after = NULL;
    struct list_query q = list_parts_query(part, l->prefix, &after);
    uint64_t now = clock_now_ns();
    int r = store_list(l->v->store, op, &q, ret);
    part->asked_ns = now;
    return r;
}

static void start_jobs_locked(struct lister *l);

static void take_answer_locked(struct lister *l, struct list_part *part, int r,
                               struct list_page *page)
{
    if (r < 0)
        list_parts_failed(&l->parts, part);
    else
        list_parts_answer(&l->parts, part, page);
    l->faltered = r < 0;
    if (!l->closed && !l->faltered)
        start_jobs_locked(l);
    cond_broadcast(&l->cond);
}

static void job_run(struct pool_job *job)
{
    struct lister_job *j = (struct lister_job *)job;
    struct lister *l = j->l;
    struct list_page page = LIST_PAGE_INIT;
    int r = ask(l, &j->op, j->part, &page);
    lock_acquire(&l->lock);
    struct lister_job **at = &l->jobs;
    while (*at != j)
        at = &(*at)->next;
    *at = j->next;
    take_answer_locked(l, j->part, r, &page);
    lock_release(&l->lock);
    free(j);
    lister_unref(l);
}

static void start_jobs_locked(struct lister *l)
{
    struct list_part *part;
    while ((part = list_parts_ask(&l->parts, false)) != NULL) {
        struct lister_job *j = xcalloc(1, sizeof(*j));
        j->job.run = job_run;
        j->l = l;
        j->part = part;
        op_init(&j->op, "list", l->v->policy.timeout_ms);
        j->next = l->jobs;
        l->jobs = j;
        atomic_fetch_add(&l->refs, 1);
        pool_submit(l->v->fetch, &j->job, 1);
    }
}

/* Asks in the reader's own name. */
static int ask_first(struct lister *l, struct op *op)
{
    struct list_page page = LIST_PAGE_INIT;
    struct list_part *part = list_parts_ask(&l->parts, true);
    lock_release(&l->lock);
    int r = ask(l, op, part, &page);
    lock_acquire(&l->lock);
    take_answer_locked(l, part, r, &page);
    return r;
}

static int broken(struct lister *l, struct op *op)
{
    return err_set(&op->err, EIO,
                   "%s: %s: the server does not list in byte order; it is now listed page by page: "
                   "list it again", l->v->key, l->parts.dir);
}

static int next_locked(struct lister *l, struct op *op, struct list_page *ret, uint64_t *ret_ns)
{
    for (;;) {
        int r = op_check(op);
        if (r < 0)
            return r;
        switch (list_parts_take(&l->parts, ret, ret_ns)) {
        case LIST_PARTS_TAKEN:
            if (!l->faltered)
                start_jobs_locked(l);
            return 1;
        case LIST_PARTS_END:
            return 0;
        case LIST_PARTS_BROKEN:
            return broken(l, op);
        case LIST_PARTS_ASK:
            r = ask_first(l, op);
            if (r < 0)
                return r;
            break;
        case LIST_PARTS_WAIT:
            (void)cond_wait_until(&l->cond, &l->lock, clock_now_ns() + WAIT_SLICE_NS);
        }
    }
}

int lister_next(struct lister *l, struct op *op, struct list_page *ret, uint64_t *ret_asked_ns)
{
    lock_acquire(&l->lock);
    int r = next_locked(l, op, ret, ret_asked_ns);
    bool unordered = l->parts.unordered;
    lock_release(&l->lock);
    if (unordered && !atomic_exchange(&l->v->list_serially, true))
        log_warn("list", "%s: the server does not list in byte order, or not from where it is told: large "
                 "directories are listed page by page", l->v->key);
    return r;
}

bool lister_ready(struct lister *l)
{
    LOCK_SCOPE(&l->lock);
    return list_parts_ready(&l->parts);
}

bool lister_is_end(struct lister *l)
{
    LOCK_SCOPE(&l->lock);
    return list_parts_is_end(&l->parts);
}

/* SPDX-License-Identifier: MIT
 * sftp_pool.c: the connections of a store, and which endpoint they go to.
 *
 * A connection is idle (in pool.idle), in use by one thread, or being made; pool.open counts them
 * all and is at most max_connections. One is kept free of transfers, so that a listing does not
 * wait for uploads.
 *
 * Endpoints are tried in their order, those that did not answer last time (down) after the others;
 * the first that lets us in is used. The keeper, a thread of the store's, asks the better ones that
 * are down again after fail_back, and when one answers connections to worse ones are closed as they
 * become free. It also makes the first connection (auto_connect), sees to idle ones (keepalive),
 * closes those that nobody has used for idle_ns, and removes temporary files that were left behind
 * or opened ahead and not used.
 *
 * A refusal (host key, login) is remembered for REFUSAL_NS: no server is asked a hundred times a
 * second. After a refused password it is minutes, more each time, and no other endpoint is asked;
 * and until one was taken only one connection at a time is made: servers lock accounts and addresses
 * after a few wrong ones. Invariants: (1) pool.lock is never
 * held over I/O; (2) the keeper runs iff pool.runs. */
#include "backends/sftp/sftp_int.h"

#include "base/log.h"

#include <stddef.h>

#define REFUSAL_NS (5 * NS_PER_S)
#define FULL_NS (10 * NS_PER_S)
#define TICK_NS NS_PER_S
#define ALIVE_MS 5000
#define BYTES_MAX (16ULL << 30) /* then a new connection has new keys */

static void keeper_start(struct sftp *s);

/* With pool.lock. */
static uint64_t pause_locked(const struct sftp *s)
{
    static const unsigned pauses_s[] = {120, 600, 1800};
    size_t n = s->pool.passwords;
    return n == 0 ? REFUSAL_NS : pauses_s[n < 3 ? n - 1 : 2] * NS_PER_S;
}

uint64_t sftp_note_password(struct sftp *s, bool refused)
{
    LOCK_SCOPE(&s->pool.lock);
    s->pool.passwords = refused ? s->pool.passwords + 1 : 0;
    s->pool.password_good = !refused;
    return pause_locked(s);
}

static bool password_refused(struct sftp *s)
{
    LOCK_SCOPE(&s->pool.lock);
    return s->pool.passwords > 0;
}

/* ---- one connection ---- */

/* base_path must be there: an empty mount point of the server's is not an empty store. */
static int make_root(struct sftp *s, struct op *op, struct conn *c)
{
    struct wire_attr w;
    CLEANUP_FREE char *path = xstrdup(s->root);
    for (char *p = path + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        if (c->far->look(c, op, path, path, true, &w) < 0 && !c->broken)
            (void)c->far->make_dir(c, op, path, 0777, path);
        *p = '/';
    }
    return c->broken ? -EIO : c->far->make_dir(c, op, path, 0777, path);
}

static int check_root(struct sftp *s, struct op *op, struct conn *c)
{
    struct wire_attr w;
    int r = c->far->look(c, op, s->root, s->root, true, &w);
    if (r == -ENOENT && s->create) {
        r = make_root(s, op, c);
        if (r == 0 || c->broken)
            return r;
        struct err made = op->err; /* another connection may have been first */
        if (c->far->look(c, op, s->root, s->root, true, &w) < 0) {
            op->err = made;
            return c->broken ? -EIO : err_prefix(&op->err, "create_if_missing");
        }
        err_clear(&op->err);
        r = 0;
    }
    if (r == -ENOENT)
        return err_set(&op->err, EIO,
                       "sftp %s: base_path %s is not there (create_if_missing = yes would make it)",
                       c->name, s->root);
    if (r == 0 && (w.flags & WIRE_MODE) && !sftp_is_dir(&w))
        return err_set(&op->err, EIO, "sftp %s: base_path %s is not a directory", c->name, s->root);
    return r;
}

static int connect_one(struct sftp *s, struct op *op, size_t i, struct conn **ret)
{
    struct conn *c = NULL;
    int r = ssh_connect(s, op, i, &c);
    if (r == 0)
        r = check_root(s, op, c);
    if (r < 0) {
        conn_free(c);
        return r;
    }
    log_debug("sftp", "connected to %s (%s)", c->name, c->far->how);
    *ret = c;
    return 0;
}

static void note_endpoint(struct sftp *s, size_t i, bool down)
{
    LOCK_SCOPE(&s->pool.lock);
    s->endpoints[i].down = down;
    s->endpoints[i].tried_ns = clock_now_ns();
    if (!down && i > s->pool.best)
        s->pool.best = i;
}

static bool is_down(struct sftp *s, size_t i)
{
    LOCK_SCOPE(&s->pool.lock);
    return s->endpoints[i].down;
}

/* What the endpoints said, as one error: a refusal is one that trying again does not mend. */
static int all_failed(struct op *op, const struct buf *texts, int refusal, const char *step)
{
    int r = err_set(&op->err, refusal ? refusal : EHOSTUNREACH, "%s", buf_str(texts));
    snprintf(op->err.remote, sizeof(op->err.remote), "%s", step);
    op->err.retry = refusal ? ERR_RETRY_NEVER : ERR_RETRY_SAFE;
    return r;
}

static bool is_refusal(int r)
{
    return r == -EACCES;
}

/* A new connection to the first endpoint that lets us in. */
static int connect_any(struct sftp *s, struct op *op, struct conn **ret)
{
    CLEANUP_BUF struct buf texts = BUF_INIT;
    char step[sizeof(op->err.remote)] = "";
    int refusal = 0;
    for (size_t n = 0; n < 2 * s->n_endpoints; n++) {
        size_t i = n % s->n_endpoints;
        if (is_down(s, i) != (n >= s->n_endpoints) ||
            (n >= s->n_endpoints && texts.len && strstr(buf_str(&texts), s->endpoints[i].name)))
            continue;
        int r = connect_one(s, op, i, ret);
        if (r == 0 || r == -EINTR || (op->deadline_ns && clock_now_ns() >= op->deadline_ns)) {
            if (r != -EINTR)
                note_endpoint(s, i, r < 0);
            return r;
        }
        note_endpoint(s, i, true);
        if (is_refusal(r) || !refusal)
            memcpy(step, op->err.remote, sizeof(step));
        refusal = is_refusal(r) ? -r : refusal;
        bool last = is_refusal(r) && password_refused(s);
        if (r == -EIO && op->err.retry == ERR_RETRY_NEVER && !refusal)
            refusal = EIO; /* base_path, no SFTP */
        buf_addf(&texts, "%s%s", texts.len ? "; " : "", err_text(&op->err));
        if (last)
            break;
    }
    return all_failed(op, &texts, refusal, step);
}

/* ---- taking and giving ---- */

static void note_free(struct ahead_note *note)
{
    free(note->now);
    free(note->next);
    free(note);
}

static void forget_ahead(struct sftp *s, const struct conn *c)
{
    LOCK_SCOPE(&s->pool.lock);
    for (struct ahead_note **at = &s->pool.notes, *note; (note = *at) != NULL; at = &note->more) {
        if (note->c != c)
            continue;
        *at = note->more;
        note_free(note);
        return;
    }
}

static void end_connection(struct sftp *s, struct conn *c)
{
    if (c && c->ahead.temp)
        sftp_orphan(s, c->ahead.temp);
    if (c)
        forget_ahead(s, c);
    conn_free(c);
}

static bool may_take_locked(const struct sftp *s, bool transfer)
{
    unsigned most = s->max_connections > 1 ? s->max_connections - 1 : 1;
    return !transfer || s->pool.transfers < most;
}

/* 1: *ret is an idle one; 2: make one; 0: wait; < 0: refused. */
static int next_step_locked(struct sftp *s, struct op *op, bool transfer, struct conn **ret)
{
    uint64_t now = clock_now_ns();
    if (now < s->pool.refused_ns) {
        op->err = s->pool.refusal;
        return -op->err.code;
    }
    if (!may_take_locked(s, transfer))
        return 0;
    if (s->pool.n_idle) {
        *ret = s->pool.idle[--s->pool.n_idle];
        return 1;
    }
    if (s->pool.open >= s->max_connections || (s->pool.open && now < s->pool.full_ns))
        return 0;
    if (s->pool.open && s->login.password && !s->pool.password_good)
        return 0;
    s->pool.open++;
    return 2;
}

/* Who came first is first, or one busy thread after the other goes by one that waits; but who may
 * have a connection now does not wait for a transfer that may not. */
static bool is_turn_locked(const struct sftp *s, const struct waiter *me)
{
    const struct waiter *w = s->pool.waiting;
    while (w != me && w->transfer && !may_take_locked(s, true))
        w = w->next;
    return w == me;
}

static void leave_locked(struct sftp *s, const struct waiter *me)
{
    struct waiter **at = &s->pool.waiting;
    while (*at != me)
        at = &(*at)->next;
    *at = me->next;
    if (s->pool.waiting)
        cond_broadcast(&s->pool.changed);
}

static int next_step(struct sftp *s, struct op *op, bool transfer, struct conn **ret)
{
    struct waiter me = {.transfer = transfer}, **last = &s->pool.waiting;
    int r = 0;
    LOCK_SCOPE(&s->pool.lock);
    while (*last)
        last = &(*last)->next;
    *last = &me;
    for (;;) {
        r = op_check(op);
        if (r == 0 && is_turn_locked(s, &me))
            r = next_step_locked(s, op, transfer, ret);
        if (r != 0)
            break;
        (void)cond_wait_until(&s->pool.changed, &s->pool.lock, clock_now_ns() + 100 * NS_PER_MS);
    }
    s->pool.transfers += r > 0 && transfer;
    leave_locked(s, &me);
    return r;
}

/* The place of a connection that is no more. */
static void give_place_locked(struct sftp *s, bool transfer)
{
    s->pool.open--;
    s->pool.transfers -= transfer;
    cond_broadcast(&s->pool.changed);
}

static void give_place(struct sftp *s, bool transfer)
{
    LOCK_SCOPE(&s->pool.lock);
    give_place_locked(s, transfer);
}

/* A place's connection could not be made: who waits for it learns why. true: there are others to
 * wait for. */
static bool note_failure(struct sftp *s, const struct op *op, bool transfer, int r)
{
    LOCK_SCOPE(&s->pool.lock);
    give_place_locked(s, transfer);
    bool others = s->pool.open > 0;
    if (r == -EHOSTUNREACH && others)
        s->pool.full_ns = clock_now_ns() + FULL_NS; /* as many as the server allows, perhaps */
    if (r != -EHOSTUNREACH && r != -EINTR && r != -ETIMEDOUT) {
        s->pool.refused_ns = clock_now_ns() + pause_locked(s);
        s->pool.refusal = op->err;
    }
    return r == -EHOSTUNREACH && others;
}

int sftp_take(struct sftp *s, struct op *op, bool transfer, struct conn **ret)
{
    keeper_start(s);
    for (;;) {
        struct conn *c = NULL;
        int r = next_step(s, op, transfer, &c);
        if (r < 0)
            return r;
        if (r == 1 && c->far->is_alive(c)) {
            c->busy_ns = clock_now_ns();
            *ret = c;
            return 0;
        }
        if (r == 1) {
            end_connection(s, c);
            give_place(s, transfer);
            continue;
        }
        r = connect_any(s, op, &c);
        if (r == 0) {
            c->busy_ns = clock_now_ns();
            *ret = c;
            return 0;
        }
        if (!note_failure(s, op, transfer, r))
            return r;
    }
}

void sftp_give(struct sftp *s, struct conn *c, bool transfer)
{
    if (!c) { /* given up before; a transfer still counts as one */
        LOCK_SCOPE(&s->pool.lock);
        s->pool.transfers -= transfer;
        cond_broadcast(&s->pool.changed);
        return;
    }
    if (c->touched)
        atomic_fetch_add(&s->changes, 1);
    c->touched = false;
    bool keep = c->far->rest(c) && c->moved < BYTES_MAX;
    lock_acquire(&s->pool.lock);
    keep = keep && c->endpoint <= s->pool.best && !s->pool.stopping;
    if (keep)
        s->pool.idle[s->pool.n_idle++] = c;
    else
        s->pool.open--;
    s->pool.transfers -= transfer;
    cond_broadcast(&s->pool.changed);
    if (s->pool.n_orphans)
        cond_broadcast(&s->pool.due);
    lock_release(&s->pool.lock);
    if (!keep)
        end_connection(s, c);
}

/* ---- the keeper ---- */

static void orphan_locked(struct sftp *s, const char *path)
{
    if (s->pool.n_orphans < ORPHANS) /* those beyond are removed by a listing, a day later */
        s->pool.orphans[s->pool.n_orphans++] = xstrdup(path);
}

void sftp_orphan(struct sftp *s, const char *path)
{
    LOCK_SCOPE(&s->pool.lock);
    orphan_locked(s, path);
}

void sftp_note_ahead(struct sftp *s, const struct conn *c, const char *now, const char *next)
{
    LOCK_SCOPE(&s->pool.lock);
    struct ahead_note *note = s->pool.notes;
    while (note && note->c != c)
        note = note->more;
    if (!note) {
        note = xcalloc(1, sizeof(*note));
        *note = (struct ahead_note){.more = s->pool.notes, .c = c};
        s->pool.notes = note;
    }
    free(note->now);
    free(note->next);
    note->now = xstrdup(now);
    note->next = xstrdup(next);
}

static void follow_locked(struct sftp *s, const char *path, const char *from, const char *to)
{
    size_t len = strlen(from);
    if (strncmp(path, from, len) != 0 || path[len] != '/')
        return;
    CLEANUP_FREE char *moved = xasprintf("%s%s", to, path + len);
    orphan_locked(s, moved);
}

/* Who has them looks for them where they were, and finds nothing. */
void sftp_follow_temps(struct sftp *s, const char *from, const char *to)
{
    LOCK_SCOPE(&s->pool.lock);
    size_t n = s->pool.n_orphans;
    for (size_t i = 0; i < n; i++)
        follow_locked(s, s->pool.orphans[i], from, to);
    for (size_t i = 0; i < s->pool.n_removing; i++)
        follow_locked(s, s->pool.removing[i], from, to);
    for (const struct ahead_note *note = s->pool.notes; note; note = note->more) {
        follow_locked(s, note->now, from, to);
        follow_locked(s, note->next, from, to);
    }
}

/* The better endpoint that it is time to ask again; n_endpoints: none. */
static size_t due_endpoint(struct sftp *s)
{
    uint64_t now = clock_now_ns();
    LOCK_SCOPE(&s->pool.lock);
    size_t i = 0;
    for (; i < s->n_endpoints && s->endpoints[i].down; i++)
        if (s->fail_back_ns && now - s->endpoints[i].tried_ns >= s->fail_back_ns)
            break;
    return i < s->n_endpoints && s->endpoints[i].down && s->pool.open ? i : s->n_endpoints;
}

static void take_back(struct sftp *s, struct conn *c, size_t i)
{
    struct conn *old[64];
    size_t n_old = 0;
    lock_acquire(&s->pool.lock);
    s->endpoints[i].down = false;
    s->pool.best = i;
    size_t n = 0;
    for (size_t k = 0; k < s->pool.n_idle; k++) {
        struct conn *idle = s->pool.idle[k];
        if (idle->endpoint > i && n_old < ARRAY_LEN(old))
            old[n_old++] = idle;
        else
            s->pool.idle[n++] = idle;
    }
    s->pool.n_idle = n;
    s->pool.open -= (unsigned)n_old;
    bool keep = s->pool.open < s->max_connections && !s->pool.stopping;
    if (keep) {
        s->pool.idle[s->pool.n_idle++] = c;
        s->pool.open++;
    }
    cond_broadcast(&s->pool.changed);
    lock_release(&s->pool.lock);
    for (size_t k = 0; k < n_old; k++)
        end_connection(s, old[k]);
    if (!keep)
        end_connection(s, c);
}

static void fail_back(struct sftp *s)
{
    struct conn *c = NULL;
    size_t i = due_endpoint(s);
    if (i == s->n_endpoints)
        return;
    if (connect_one(s, &s->pool.op, i, &c) < 0 || !c->far->rest(c)) {
        end_connection(s, c);
        note_endpoint(s, i, true);
        return;
    }
    log_debug("sftp", "back on %s", c->name);
    take_back(s, c, i);
}

static bool has_rested(const struct sftp *s, const struct conn *c)
{
    return s->keepalive_ns && clock_now_ns() - c->used_ns >= s->keepalive_ns;
}

static bool has_ahead(const struct sftp *s, const struct conn *c)
{
    (void)s;
    return c->ahead.temp != NULL;
}

static bool has_old_ahead(const struct sftp *s, const struct conn *c)
{
    (void)s;
    return sftp_ahead_is_old(c);
}

/* An idle connection that is so, the one that waits longest; taken out. */
static struct conn *take_idle(struct sftp *s, bool (*is_so)(const struct sftp *s, const struct conn *c))
{
    LOCK_SCOPE(&s->pool.lock);
    for (size_t i = 0; i < s->pool.n_idle; i++) {
        struct conn *c = s->pool.idle[i];
        if (!is_so(s, c))
            continue;
        memmove(&s->pool.idle[i], &s->pool.idle[i + 1],
                (s->pool.n_idle - i - 1) * sizeof(*s->pool.idle));
        s->pool.n_idle--;
        return c;
    }
    return NULL;
}

static void keep_alive(struct sftp *s)
{
    struct op op;
    struct wire_attr w;
    for (struct conn *c; (c = take_idle(s, has_rested)) != NULL;) {
        op_init(&op, "keepalive", ALIVE_MS);
        int r = c->far->look(c, &op, s->root, s->root, true, &w);
        if (r == -ETIMEDOUT)
            note_endpoint(s, c->endpoint, true);
        if (s->idle_ns && clock_now_ns() - c->busy_ns > s->idle_ns)
            c->broken = true; /* nobody needs it */
        sftp_give(s, c, false);
    }
}

static void drop_ahead(struct sftp *s, bool (*is_so)(const struct sftp *s, const struct conn *c))
{
    for (struct conn *c; (c = take_idle(s, is_so)) != NULL;) {
        sftp_ahead_drop(s, c);
        sftp_give(s, c, false);
    }
}

void sftp_clear_ahead(struct sftp *s)
{
    drop_ahead(s, has_ahead);
}

static void remove_orphans(struct sftp *s)
{
    char *paths[ORPHANS];
    struct conn *c = NULL;
    lock_acquire(&s->pool.lock);
    size_t n = s->pool.n_idle ? s->pool.n_orphans : 0; /* not the occasion to connect */
    memcpy(paths, s->pool.orphans, n * sizeof(*paths));
    s->pool.n_orphans -= n;
    s->pool.removing = paths;
    s->pool.n_removing = n;
    lock_release(&s->pool.lock);
    if (n == 0)
        return;
    int taken = sftp_take(s, &s->pool.op, false, &c);
    for (size_t i = 0; i < n; i++) {
        int r = taken == 0 ? far_remove(c, &s->pool.op, paths[i], paths[i]) : taken;
        if (r == -EIO || r == -EHOSTUNREACH || r == -ETIMEDOUT)
            sftp_orphan(s, paths[i]);
    }
    lock_acquire(&s->pool.lock);
    s->pool.removing = NULL;
    s->pool.n_removing = 0;
    lock_release(&s->pool.lock);
    for (size_t i = 0; i < n; i++)
        free(paths[i]);
    if (c)
        sftp_give(s, c, false);
}

static void first_connection(struct sftp *s)
{
    struct conn *c = NULL;
    if (!s->auto_connect)
        return;
    if (sftp_take(s, &s->pool.op, false, &c) == 0)
        sftp_give(s, c, false);
    else
        log_debug("sftp", "%s", err_text(&s->pool.op.err));
}

static void keeper_run(struct pool_job *job)
{
    struct sftp *s = (struct sftp *)(void *)((char *)job - offsetof(struct sftp, keep));
    first_connection(s);
    lock_acquire(&s->pool.lock);
    while (!s->pool.stopping) {
        (void)cond_wait_until(&s->pool.due, &s->pool.lock, clock_now_ns() + TICK_NS);
        if (s->pool.stopping)
            break;
        lock_release(&s->pool.lock);
        fail_back(s);
        keep_alive(s);
        drop_ahead(s, has_old_ahead);
        remove_orphans(s);
        lock_acquire(&s->pool.lock);
    }
    lock_release(&s->pool.lock);
}

static void keeper_start(struct sftp *s)
{
    lock_acquire(&s->pool.lock);
    bool start = !s->pool.runs && !s->pool.stopping;
    s->pool.runs = true;
    lock_release(&s->pool.lock);
    if (start)
        pool_submit(s->keeper, &s->keep, 1);
}

/* ---- life ---- */

void sftp_pool_init(struct sftp *s)
{
    lock_init(&s->pool.lock, LOCK_RANK_STORE, "sftp pool");
    cond_init(&s->pool.changed);
    cond_init(&s->pool.due);
    s->pool.idle = xcalloc(s->max_connections, sizeof(*s->pool.idle));
    s->pool.best = s->n_endpoints;
    op_init(&s->pool.op, "keeper", 0);
    s->keeper = pool_new("sftp", 1);
    s->keep.run = keeper_run;
    if (s->auto_connect)
        keeper_start(s);
}

void sftp_pool_done(struct sftp *s)
{
    lock_acquire(&s->pool.lock);
    s->pool.stopping = true;
    op_cancel(&s->pool.op);
    cond_broadcast(&s->pool.changed);
    cond_broadcast(&s->pool.due);
    lock_release(&s->pool.lock);
    pool_free(s->keeper);
    sftp_clear_ahead(s); /* and closes those connections */
    for (size_t i = 0; i < s->pool.n_idle; i++)
        conn_free(s->pool.idle[i]);
    for (size_t i = 0; i < s->pool.n_orphans; i++)
        free(s->pool.orphans[i]);
    for (struct ahead_note *note; (note = s->pool.notes) != NULL;) {
        s->pool.notes = note->more;
        note_free(note);
    }
    free(s->pool.idle);
    cond_done(&s->pool.changed);
    cond_done(&s->pool.due);
    lock_done(&s->pool.lock);
}

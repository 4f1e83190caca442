/* SPDX-License-Identifier: MIT
 * breaker.c: a store that is away is asked by probes only; everybody else is refused at once.
 *
 * It stands around the retry wrapper: what it sees as failed has been repeated. When that says that the
 * store is away (circuit.h), calls get -EHOSTUNREACH with the reason, without waiting for a connection
 * each. A thread of its own probes, after 1 s, 2 s, 4 s ... 30 s, and the first answer lets all calls
 * through again. A call that is refused has a probe made at once, unless one began within HURRY_NS, and
 * waits for it for PATIENCE_MS: where the refusal of a connection comes back at once, a store that has
 * returned is noticed by the first call that needs it.
 * sign needs no network, nor does space where the class has none: they go through. So does probe (a
 * person asks); its answer makes the next probe due.
 * Invariants, under b->lock: (1) a prober runs, or is queued, iff `runs`; it does when circuit_wants_prober;
 * (2) `op` belongs to the running prober; cancelled only under the lock. */
#include "backends/registry.h"
#include "backends/wrap.h"

#include "backends/circuit.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/pool.h"

#include <errno.h>
#include <stddef.h>

#define HURRY_NS (100 * NS_PER_MS)
#define PATIENCE_MS 100

struct breaker {
    struct wrapper base;
    char *name; /* for the log: base.key is taken away before the prober has ended */
    struct breaker_options o;
    struct stat_counter *up;
    struct pool *pool;
    struct pool_job prober;
    struct lock lock;
    struct cond changed; /* the circuit, or a probe has ended */
    struct circuit circuit;
    struct store_outage outage; /* of the state OPEN */
    struct op op;
    bool runs, stopping;
    void (*recovered)(void *arg);
    void *recovered_arg;
};

/* ---- probing ---- */

static int probe(struct breaker *b)
{
    struct buf text = BUF_INIT;
    int r = store_probe(b->base.base.next, &b->op, &text);
    buf_done(&text);
    return r;
}

static void note_reason_locked(struct breaker *b, int r, const struct err *err)
{
    b->outage.code = -r;
    snprintf(b->outage.text, sizeof(b->outage.text), "%s", err_text(err));
}

static void note_opened_locked(struct breaker *b)
{
    b->outage.since = clock_wall();
    if (b->up)
        stat_set(b->up, 0);
}

static void tell_opened(struct breaker *b, const struct err *err)
{
    log_warn("store", "%s: the store is away: %.500s; until it answers again requests fail at once",
             b->name, err_text(err));
}

static void tell_closed(struct breaker *b, time_t away_s)
{
    log_info("store", "%s: the store answers again, after %lld s", b->name, (long long)away_s);
}

/* One probe. Called and left with the lock held, which is given up meanwhile. */
static void probe_once(struct breaker *b)
{
    circuit_probe_begin(&b->circuit, clock_now_ns());
    op_init(&b->op, "probe", b->o.probe_ms);
    b->op.once = true;
    lock_release(&b->lock);
    int r = probe(b);
    lock_acquire(&b->lock);
    enum circuit_blame blame = circuit_judge(r, &b->op.err);
    if (b->stopping)
        return;
    enum circuit_state was =
        circuit_probe_end(&b->circuit, blame, clock_now_ns(), random_below(256));
    bool opened = was != CIRCUIT_OPEN && b->circuit.state == CIRCUIT_OPEN;
    bool closed = was == CIRCUIT_OPEN && b->circuit.state == CIRCUIT_CLOSED;
    time_t away_s = clock_wall().tv_sec - b->outage.since.tv_sec;
    if (blame != BLAME_NONE)
        note_reason_locked(b, r, &b->op.err);
    if (opened)
        note_opened_locked(b);
    if (closed && b->up)
        stat_set(b->up, 1);
    cond_broadcast(&b->changed);
    void (*recovered)(void *) = closed ? b->recovered : NULL;
    void *arg = b->recovered_arg;
    lock_release(&b->lock);
    if (opened)
        tell_opened(b, &b->op.err);
    if (closed)
        tell_closed(b, away_s);
    if (recovered)
        recovered(arg);
    lock_acquire(&b->lock);
}

static void prober_run(struct pool_job *job)
{
    struct breaker *b = (struct breaker *)(void *)((char *)job - offsetof(struct breaker, prober));
    lock_acquire(&b->lock);
    while (!b->stopping && circuit_wants_prober(&b->circuit)) {
        if (circuit_probe_due(&b->circuit, clock_now_ns()))
            probe_once(b);
        else
            (void)cond_wait_until(&b->changed, &b->lock, b->circuit.probe_ns);
    }
    b->runs = false;
    lock_release(&b->lock);
}

/* ---- calls ---- */

static bool has_space(const struct store *s)
{
    while (s->next)
        s = s->next;
    return s->cls->space != NULL;
}

static bool needs_store(const struct breaker *b, const struct call *c)
{
    return c->kind != STORE_OP_SIGN && c->kind != STORE_OP_PROBE &&
           (c->kind != STORE_OP_SPACE || has_space(b->base.base.next));
}

/* Is it still away? Has a probe made where that is worth it. */
static bool is_away_locked(struct breaker *b)
{
    uint64_t now = clock_now_ns(), until = now + PATIENCE_MS * NS_PER_MS;
    if (circuit_admits(&b->circuit))
        return false;
    if (circuit_hurry(&b->circuit, now)) {
        uint64_t began = b->circuit.began_ns;
        cond_broadcast(&b->changed);
        while (!b->stopping && (b->circuit.probing || b->circuit.began_ns == began) &&
               cond_wait_until(&b->changed, &b->lock, until)) {
        }
    }
    return !circuit_admits(&b->circuit);
}

static int refuse_locked(const struct breaker *b, struct op *op)
{
    struct timespec now = clock_wall();
    int r = err_set(&op->err, EHOSTUNREACH, "the store is away since %lld s: %.560s",
                    (long long)(now.tv_sec - b->outage.since.tv_sec), b->outage.text);
    op->err.retry = ERR_RETRY_SAFE;
    return r;
}

/* What a call's end says about the store; starts the prober when one is needed. */
static void note_result(struct breaker *b, const struct op *op, int r)
{
    enum circuit_blame blame = circuit_judge(r, &op->err);
    if (blame == BLAME_NONE)
        return;
    lock_acquire(&b->lock);
    bool opened = circuit_note(&b->circuit, blame, clock_now_ns());
    if (opened) {
        note_reason_locked(b, r, &op->err);
        note_opened_locked(b);
        cond_broadcast(&b->changed);
    }
    bool start = circuit_wants_prober(&b->circuit) && !b->runs && !b->stopping;
    if (start)
        b->runs = true;
    lock_release(&b->lock);
    if (opened)
        tell_opened(b, &op->err);
    if (start)
        pool_submit(b->pool, &b->prober, 1);
}

static void note_answer(struct breaker *b)
{
    LOCK_SCOPE(&b->lock);
    if (b->circuit.state == CIRCUIT_OPEN && !b->circuit.probing) {
        b->circuit.probe_ns = clock_now_ns();
        cond_broadcast(&b->changed);
    }
}

static int breaker_around(struct wrapper *w, struct op *op, struct call *c)
{
    struct breaker *b = (struct breaker *)w;
    if (needs_store(b, c)) {
        lock_acquire(&b->lock);
        int refused = is_away_locked(b) ? refuse_locked(b, op) : 0;
        lock_release(&b->lock);
        if (refused)
            return refused;
    }
    int r = call_forward(w->base.next, op, c);
    if (r < 0)
        note_result(b, op, r);
    else if (c->kind == STORE_OP_PROBE)
        note_answer(b);
    return r;
}

/* ---- life ---- */

static void breaker_done(struct wrapper *w)
{
    struct breaker *b = (struct breaker *)w;
    lock_acquire(&b->lock);
    b->stopping = true;
    op_cancel(&b->op);
    cond_broadcast(&b->changed);
    lock_release(&b->lock);
    pool_free(b->pool);
    cond_done(&b->changed);
    lock_done(&b->lock);
    free(b->name);
}

static const struct store_class breaker_class = {
    .abi = STORE_ABI,
    .name = "breaker",
    .summary = "refuses requests while the store is away",
    WRAP_SLOTS,
};

struct store *store_wrap_breaker(struct store *next, const struct breaker_options *o,
                                 struct stats *stats)
{
    struct breaker *b = xcalloc(1, sizeof(*b));
    wrapper_init(&b->base, &breaker_class, next, breaker_around);
    b->base.done = breaker_done;
    b->name = xstrdup(next->key ? next->key : "");
    b->o = *o;
    b->circuit = (struct circuit){.first_ns = o->first_ms * NS_PER_MS,
                                  .max_ns = o->max_ms * NS_PER_MS,
                                  .hurry_ns = HURRY_NS};
    b->pool = pool_new("probe", 1);
    b->prober.run = prober_run;
    lock_init(&b->lock, LOCK_RANK_STORE, "breaker");
    cond_init(&b->changed);
    op_init(&b->op, "probe", 0);
    if (stats)
        b->up = stats_gauge(stats, "quayfs_backend_up", "0 while a store does not answer", "key",
                            b->name, NULL);
    if (b->up)
        stat_set(b->up, 1);
    return &b->base.base;
}

static struct breaker *find(struct store *s)
{
    while (s && s->cls != &breaker_class)
        s = s->next;
    return (struct breaker *)s;
}

bool store_outage(struct store *s, struct store_outage *ret)
{
    struct breaker *b = find(s);
    if (!b)
        return false;
    LOCK_SCOPE(&b->lock);
    if (b->circuit.state != CIRCUIT_OPEN)
        return false;
    uint64_t now = clock_now_ns(), due = b->circuit.probe_ns;
    *ret = b->outage;
    ret->probes = b->circuit.failed + b->circuit.probing;
    ret->next_probe_ms = b->circuit.probing || due < now ? 0 : (due - now) / NS_PER_MS;
    return true;
}

void store_on_recovery(struct store *s, void (*fn)(void *arg), void *arg)
{
    struct breaker *b = find(s);
    if (!b)
        return;
    LOCK_SCOPE(&b->lock);
    b->recovered = fn;
    b->recovered_arg = arg;
}

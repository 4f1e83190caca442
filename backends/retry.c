/* SPDX-License-Identifier: MIT
 * retry.c: repeats failed requests, with exponential back-off and full jitter.
 *
 * What is repeated
 *  1. Any request whose error says ERR_RETRY_SAFE: nothing happened.
 *  2. Requests that may be made twice (is_idempotent), also when the outcome is ERR_RETRY_UNKNOWN:
 *     all reading, parts of uploads, and changes without a precondition (the same bytes again, the
 *     same key removed again; an -ENOENT of a removal repeated so is success).
 *  3. The keys of remove_many that failed with -EIO or -EBUSY, and only those.
 *  4. A request that had no answer within timeout_ms only once: the next would wait as long.
 * Not repeated: a conditional put or upload_finish, a rename or a patch of unknown outcome: the
 * second try could meet the first one's result. The caller gets the error with ERR_RETRY_UNKNOWN,
 * stats, and compares. Nothing is repeated after op_cancel(), or with op->once. What one attempt has left open stays so,
 * whatever the later ones have said.
 *
 * A repeated read begins again at the start: on_data is then called with a smaller so_far. The
 * bytes are of one version where read_req.version is set, so those consumed before stay right.
 *
 * Waiting: random in [0, delay * 2^n], at most max_delay, at least the server's Retry-After. A wait
 * that would pass op->deadline_ns is not begun; the last error is returned at once.
 * A throttled request (-EBUSY) that stays so becomes -EIO. Texts end with "(after N attempts)".
 *
 * timeout_ms limits each attempt of the requests without payload; transfers are limited by
 * progress, in the HTTP client. */
#include "backends/registry.h"
#include "backends/wrap.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#define SILENT_MAX 2 /* attempts without an answer */

struct retry {
    struct wrapper base;
    struct retry_options o;
};

/* Would a second execution leave the same state and give the same answer? */
static bool is_idempotent(const struct call *c)
{
    switch (c->kind) {
    case STORE_OP_STAT:
    case STORE_OP_LIST:
    case STORE_OP_READ:
    case STORE_OP_PROBE:
    case STORE_OP_SPACE:
    case STORE_OP_SIGN:
    case STORE_OP_GET_TAGS:
    case STORE_OP_LIST_VERSIONS:
    case STORE_OP_STAT_VERSION:
    case STORE_OP_SET_TAGS:
    case STORE_OP_UPLOAD_PART:
    case STORE_OP_UPLOAD_COPY_PART:
    case STORE_OP_UPLOAD_ABORT:
    case STORE_OP_REMOVE_MANY:
        return true;
    case STORE_OP_PUT:
        return !c->u.put.req->precond.if_match && !c->u.put.req->precond.if_absent;
    case STORE_OP_COPY:
        return !c->u.copy.pre || (!c->u.copy.pre->if_match && !c->u.copy.pre->if_absent);
    case STORE_OP_REMOVE:
        return !c->u.remove.if_match;
    case STORE_OP_SET_META:
        return !c->u.set_meta.if_match;
    default: /* upload_begin would leave an orphan; finish, rename, patch, directories */
        return false;
    }
}

/* Does an attempt take about as long as any other, so that timeout_ms can limit it? */
static bool is_short(enum store_op kind)
{
    switch (kind) {
    case STORE_OP_STAT:
    case STORE_OP_LIST:
    case STORE_OP_PROBE:
    case STORE_OP_SPACE:
    case STORE_OP_GET_TAGS:
    case STORE_OP_LIST_VERSIONS:
    case STORE_OP_STAT_VERSION:
    case STORE_OP_SET_TAGS:
    case STORE_OP_UPLOAD_BEGIN:
    case STORE_OP_UPLOAD_ABORT:
    case STORE_OP_REMOVE:
    case STORE_OP_MAKE_DIR:
    case STORE_OP_REMOVE_DIR:
        return true;
    default:
        return false;
    }
}

static bool is_late(const struct op *op)
{
    return op->deadline_ns && clock_now_ns() >= op->deadline_ns;
}

/* One attempt with its own deadline. */
static int attempt(struct retry *w, struct op *op, struct call *c)
{
    uint64_t deadline = op->deadline_ns;
    if (w->o.timeout_ms && is_short(c->kind)) {
        uint64_t mine = clock_now_ns() + w->o.timeout_ms * NS_PER_MS;
        if (!deadline || mine < deadline)
            op->deadline_ns = mine;
    }
    int r = call_forward(w->base.base.next, op, c);
    op->deadline_ns = deadline;
    if (r == -ETIMEDOUT && op->err.retry == ERR_RETRY_NEVER && !is_late(op))
        op->err.retry = ERR_RETRY_UNKNOWN; /* only this attempt was out of time */
    return r;
}

static bool may_repeat(struct op *op, const struct call *c, int r)
{
    if (r == -EINTR || op->once || atomic_load(&op->cancelled) || is_late(op))
        return false;
    return op->err.retry == ERR_RETRY_SAFE ||
           (op->err.retry == ERR_RETRY_UNKNOWN && is_idempotent(c));
}

/* A removal that is repeated after an unknown outcome has done its work when nothing is there. */
static bool is_done_before(const struct call *c, int r)
{
    return r == -ENOENT && (c->kind == STORE_OP_REMOVE || c->kind == STORE_OP_UPLOAD_ABORT);
}

/* How long to wait before try number `tries` + 1. */
static uint64_t wait_ms(const struct retry *w, const struct op *op, unsigned tries)
{
    uint64_t span = clock_backoff_ms(w->o.delay_ms, w->o.max_delay_ms, tries - 1);
    if (span > UINT32_MAX - 1)
        span = UINT32_MAX - 1;
    uint64_t ms = random_below((uint32_t)span + 1);
    return ms < op->err.retry_after_ms ? op->err.retry_after_ms : ms;
}

/* Sleeps; false when the time or the patience of the caller does not allow it. op->err stays. */
static bool wait_for_next(const struct retry *w, struct op *op, unsigned tries)
{
    uint64_t ms = wait_ms(w, op, tries);
    if (op->deadline_ns && clock_now_ns() + ms * NS_PER_MS >= op->deadline_ns)
        return false;
    struct err keep = op->err;
    int r = op_sleep(op, ms > UINT32_MAX ? UINT32_MAX : (unsigned)ms);
    if (r != -EINTR)
        op->err = keep;
    return r == 0;
}

static int give_up(struct op *op, unsigned tries, int r)
{
    if (r == -EBUSY && op->err.retry != ERR_RETRY_NEVER) {
        op->err.code = EIO;
        r = -EIO;
    }
    if (tries > 1) {
        size_t len = strlen(op->err.text);
        snprintf(op->err.text + len, sizeof(op->err.text) - len, " (after %u attempts)", tries);
    }
    return r;
}

/* The keys of a remove_many that the store answered with a passing failure. */
static size_t failed_keys(const struct call *c, const char **keys, size_t *index)
{
    size_t n = 0;
    for (size_t i = 0; i < c->u.remove_many.n; i++) {
        int code = c->u.remove_many.results[i].code;
        if (code != EIO && code != EBUSY)
            continue;
        keys[n] = c->u.remove_many.keys[i];
        index[n++] = i;
    }
    return n;
}

static void merge_results(struct call *c, const size_t *index, const struct remove_result *again,
                          size_t n)
{
    for (size_t i = 0; i < n; i++) /* gone: the first try had removed it after all */
        c->u.remove_many.results[index[i]].code = again[i].code == ENOENT ? 0 : again[i].code;
}

/* Repeats only what failed, key by key. The call has succeeded: only cancelling makes it fail. */
static int repeat_removals(struct retry *w, struct op *op, struct call *c)
{
    size_t n = c->u.remove_many.n;
    CLEANUP_FREE const char **keys = xcalloc(n, sizeof(*keys));
    CLEANUP_FREE size_t *index = xcalloc(n, sizeof(*index));
    CLEANUP_FREE struct remove_result *results = xcalloc(n, sizeof(*results));

    n = failed_keys(c, keys, index);
    for (unsigned tries = 1; n > 0 && tries <= w->o.retries; tries++) {
        if (!wait_for_next(w, op, tries))
            break;
        struct call again = {
            .kind = STORE_OP_REMOVE_MANY, .key = keys[0], .u.remove_many = {keys, n, results}};
        if (attempt(w, op, &again) == 0)
            merge_results(c, index, results, n);
        n = failed_keys(c, keys, index);
    }
    for (size_t i = 0; i < n; i++)
        c->u.remove_many.results[index[i]].code = EIO;
    return atomic_load(&op->cancelled) ? op_check(op) : 0;
}

/* Is there to be another attempt after this failure? Waits for it. false: give up with *r. */
static bool goes_on(const struct retry *w, struct op *op, const struct call *c, unsigned tries, bool silent,
                    int *r)
{
    if (silent || tries > w->o.retries || !may_repeat(op, c, *r)) {
        *r = give_up(op, tries, *r);
        return false;
    }
    log_debug("retry", "%s: %s %s: attempt %u: %s", w->base.base.key ? w->base.base.key : "",
              store_op_name(c->kind), c->key, tries, op->err.text);
    if (wait_for_next(w, op, tries))
        return true;
    *r = op->err.code == EINTR ? -EINTR : give_up(op, tries, *r);
    return false;
}

static int retry_around(struct wrapper *base, struct op *op, struct call *c)
{
    struct retry *w = (struct retry *)base;
    bool unknown = false;
    unsigned silent = 0;
    for (unsigned tries = 1;; tries++) {
        op->attempt = tries;
        int r = attempt(w, op, c);
        if (r == 0 && c->kind == STORE_OP_REMOVE_MANY)
            return repeat_removals(w, op, c);
        if (r == 0 || (unknown && is_done_before(c, r)))
            return 0;
        unknown |= op->err.retry == ERR_RETRY_UNKNOWN;
        silent += r == -ETIMEDOUT;
        if (goes_on(w, op, c, tries, silent == SILENT_MAX, &r))
            continue;
        op->err.retry = unknown ? ERR_RETRY_UNKNOWN : op->err.retry;
        return r;
    }
}

static const struct store_class retry_class = {
    .abi = STORE_ABI,
    .name = "retry",
    .summary = "repeats failed requests",
    WRAP_SLOTS,
};

struct store *store_wrap_retry(struct store *next, const struct retry_options *o)
{
    struct retry *w = xcalloc(1, sizeof(*w));
    wrapper_init(&w->base, &retry_class, next, retry_around);
    w->o = *o;
    return &w->base.base;
}

/* SPDX-License-Identifier: MIT
 * t_retry.c: the retry wrapper over a store that plays a script. */
#include "backends/registry.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "tests/unit/t.h"

#include <pthread.h>

struct step {
    int r; /* 0 or -errno */
    enum err_retry retry;
    unsigned after_ms;
};

struct script {
    struct store store;
    const struct step *steps; /* the last one repeats */
    size_t n;
    unsigned calls, last_attempt;
    uint64_t seen_deadline;
    unsigned removed; /* keys in the last remove_many */
};

static int play(struct store *s, struct op *op)
{
    struct script *p = (struct script *)s;
    const struct step *step = &p->steps[p->calls < p->n ? p->calls : p->n - 1];
    p->calls++;
    p->last_attempt = op->attempt;
    p->seen_deadline = op->deadline_ns;
    if (step->r == 0)
        return 0;
    err_set(&op->err, -step->r, "the script says so");
    op->err.retry = step->retry;
    op->err.retry_after_ms = step->after_ms;
    return step->r;
}

static int play_stat(struct store *s, struct op *op, const char *key, struct attr *ret)
{
    (void)key;
    int r = play(s, op);
    if (r == 0)
        ret->kind = ATTR_FILE;
    return r;
}

static int play_list(struct store *s, struct op *op, const struct list_query *q,
                     struct list_page *ret)
{
    (void)q, (void)ret;
    return play(s, op);
}

static int play_read(struct store *s, struct op *op, const struct read_req *req,
                     struct read_res *ret)
{
    (void)req, (void)ret;
    return play(s, op);
}

static int play_put(struct store *s, struct op *op, const struct put_req *req, struct attr *ret)
{
    (void)req, (void)ret;
    return play(s, op);
}

static int play_remove(struct store *s, struct op *op, const char *key, const char *if_match)
{
    (void)key, (void)if_match;
    return play(s, op);
}

static int play_rename(struct store *s, struct op *op, const char *from, const char *to,
                       bool no_replace)
{
    (void)from, (void)to, (void)no_replace;
    return play(s, op);
}

/* Fails the keys that begin with 'b' ("busy") while the script says so. */
static int play_remove_many(struct store *s, struct op *op, const char *const *keys, size_t n,
                            struct remove_result *results)
{
    struct script *p = (struct script *)s;
    int r = play(s, op);
    p->removed = (unsigned)n;
    if (r == -EAGAIN) { /* the call works, single keys do not */
        for (size_t i = 0; i < n; i++)
            results[i].code = keys[i][0] == 'b' ? EBUSY : keys[i][0] == 'a' ? EACCES : 0;
        return 0;
    }
    for (size_t i = 0; i < n && r == 0; i++)
        results[i].code = keys[i][0] == 'a' ? EACCES : 0;
    return r;
}

static void play_close(struct store *s)
{
    free(s);
}

static const struct store_class script_class = {
    .abi = STORE_ABI,
    .name = "script",
    .close = play_close,
    .stat = play_stat,
    .list = play_list,
    .read = play_read,
    .put = play_put,
    .remove = play_remove,
    .remove_many = play_remove_many,
    .rename = play_rename,
};

static struct script *script(const struct step *steps, size_t n)
{
    struct script *p = xcalloc(1, sizeof(*p));
    p->store = (struct store){
        .cls = &script_class,
        .key = xstrdup("k"),
        .caps = CAP_WRITE | CAP_IF_MATCH | CAP_RENAME_FILE,
    };
    p->steps = steps;
    p->n = n;
    return p;
}

static struct store *wrap(struct script *p, unsigned retries, unsigned delay_ms)
{
    struct retry_options o = {
        .retries = retries, .delay_ms = delay_ms, .max_delay_ms = 4 * delay_ms, .timeout_ms = 5000};
    return store_wrap_retry(&p->store, &o);
}

static int stat_once(struct store *s, struct op *op)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    return store_stat(s, op, "x", &a);
}

static int put_once(struct store *s, struct op *op, const struct precond *pre)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct source_mem src = source_mem("x", 1);
    struct put_req req = {.key = "x", .src = &src.base};
    if (pre)
        req.precond = *pre;
    return store_put(s, op, &req, &a);
}

static void test_safe_is_repeated(void)
{
    const struct step steps[] = {{-EIO, ERR_RETRY_SAFE, 0}, {-EBUSY, ERR_RETRY_SAFE, 0}, {0}};
    struct script *p = script(steps, 3);
    struct store *s = wrap(p, 3, 1);
    struct op op;
    op_init(&op, "t", 0);
    CHECK_INT(stat_once(s, &op), 0);
    CHECK_INT(p->calls, 3);
    CHECK_INT(p->last_attempt, 3);
    CHECK_INT(op.err.code, 0);
    CHECK_INT(op.deadline_ns, 0); /* the attempt's own deadline is gone */
    CHECK(p->seen_deadline > 0);
    p->calls = 0;
    CHECK_INT(put_once(s, &op, NULL), 0);
    CHECK_INT(p->calls, 3);
    store_close(s);
}

static void test_never_is_not(void)
{
    const struct step steps[] = {{-ENOENT, ERR_RETRY_NEVER, 0}};
    struct script *p = script(steps, 1);
    struct store *s = wrap(p, 3, 1);
    struct op op;
    op_init(&op, "t", 0);
    CHECK_INT(stat_once(s, &op), -ENOENT);
    CHECK_INT(p->calls, 1);
    CHECK_STR(op.err.text, "the script says so");
    store_close(s);
}

static void test_giving_up(void)
{
    const struct step steps[] = {{-EBUSY, ERR_RETRY_SAFE, 0}};
    struct script *p = script(steps, 1);
    struct store *s = wrap(p, 3, 1);
    struct op op;
    op_init(&op, "t", 0);
    CHECK_INT(stat_once(s, &op), -EIO); /* throttled to the end */
    CHECK_INT(op.err.code, EIO);
    CHECK_INT(p->calls, 4);
    CHECK_STR(op.err.text, "the script says so (after 4 attempts)");
    store_close(s);
    p = script(steps, 1);
    s = wrap(p, 0, 1);
    CHECK_INT(stat_once(s, &op), -EIO);
    CHECK_STR(op.err.text, "the script says so");
    store_close(s);
}

static void test_unknown_outcome(void)
{
    const struct step steps[] = {{-EIO, ERR_RETRY_UNKNOWN, 0}, {0}};
    struct script *p = script(steps, 2);
    struct store *s = wrap(p, 3, 1);
    struct op op;
    op_init(&op, "t", 0);
    CHECK_INT(stat_once(s, &op), 0); /* reading: what does it matter */
    p->calls = 0;
    CHECK_INT(put_once(s, &op, NULL), 0); /* the same bytes again */
    p->calls = 0;
    struct precond absent = {.if_absent = true}, match = {.if_match = "v"};
    CHECK_INT(put_once(s, &op, &absent), -EIO); /* the first may have been it: the caller looks */
    CHECK_INT(op.err.retry, ERR_RETRY_UNKNOWN);
    CHECK_INT(p->calls, 1);
    p->calls = 0;
    CHECK_INT(put_once(s, &op, &match), -EIO);
    p->calls = 0;
    CHECK_INT(store_rename(s, &op, "x", "y", false), -EIO);
    p->calls = 0;
    CHECK_INT(store_remove(s, &op, "x", "v"), -EIO);
    CHECK_INT(p->calls, 1);
    store_close(s);
}

static void test_repeated_removal(void)
{
    const struct step lost[] = {{-EIO, ERR_RETRY_UNKNOWN, 0}, {-ENOENT, ERR_RETRY_NEVER, 0}};
    struct script *p = script(lost, 2);
    struct store *s = wrap(p, 3, 1);
    struct op op;
    op_init(&op, "t", 0);
    CHECK_INT(store_remove(s, &op, "x", NULL), 0); /* the first one had done it */
    CHECK_INT(op.err.code, 0);
    store_close(s);
    const struct step safe[] = {{-EIO, ERR_RETRY_SAFE, 0}, {-ENOENT, ERR_RETRY_NEVER, 0}};
    p = script(safe, 2);
    s = wrap(p, 3, 1);
    CHECK_INT(store_remove(s, &op, "x", NULL), -ENOENT); /* nothing had happened before */
    store_close(s);
    const struct step refused[] = {{-EIO, ERR_RETRY_UNKNOWN, 0}, {-EACCES, ERR_RETRY_NEVER, 0}};
    p = script(refused, 2);
    s = wrap(p, 3, 1);
    CHECK_INT(store_remove(s, &op, "x", NULL), -EACCES);
    CHECK_INT(op.err.retry, ERR_RETRY_UNKNOWN); /* the first may be done yet */
    store_close(s);
}

static void test_waiting(void)
{
    const struct step after[] = {{-EBUSY, ERR_RETRY_SAFE, 80}, {0}};
    struct script *p = script(after, 2);
    struct store *s = wrap(p, 3, 1);
    struct op op;
    op_init(&op, "t", 0);
    uint64_t start = clock_now_ns();
    CHECK_INT(stat_once(s, &op), 0);
    CHECK(clock_now_ns() - start >= 79 * NS_PER_MS); /* the server's Retry-After */

    store_close(s);

    const struct step later[] = {{-EBUSY, ERR_RETRY_SAFE, 60000}, {0}};
    p = script(later, 2);
    s = wrap(p, 3, 1);
    op_init(&op, "t", 50000);
    start = clock_now_ns();
    CHECK_INT(stat_once(s, &op), -EIO); /* no use waiting past the deadline: told at once */
    CHECK(clock_now_ns() - start < 30 * NS_PER_S);
    CHECK_INT(p->calls, 1);
    store_close(s);

    const struct step fail[] = {{-EIO, ERR_RETRY_SAFE, 0}};
    p = script(fail, 1);
    s = wrap(p, 14, 10); /* at most 10 + 20 + 12 * 40 ms; without the limit 80 s on average */
    op_init(&op, "t", 0);
    start = clock_now_ns();
    CHECK_INT(stat_once(s, &op), -EIO);
    CHECK(clock_now_ns() - start < 20 * NS_PER_S);
    CHECK_INT(p->calls, 15);
    store_close(s);
}

static void *cancel_soon(void *op)
{
    clock_sleep_ms(30);
    op_cancel(op);
    return NULL;
}

static void test_cancel(void)
{
    const struct step steps[] = {{-EBUSY, ERR_RETRY_SAFE, 20000}};
    struct script *p = script(steps, 1);
    struct store *s = wrap(p, 3, 1);
    struct op op;
    pthread_t thread;
    op_init(&op, "t", 0);
    CHECK(pthread_create(&thread, NULL, cancel_soon, &op) == 0);
    uint64_t start = clock_now_ns();
    CHECK_INT(stat_once(s, &op), -EINTR);
    CHECK(clock_now_ns() - start < 15 * NS_PER_S);
    CHECK_INT(op.err.code, EINTR);
    CHECK_INT(p->calls, 1);
    CHECK(pthread_join(thread, NULL) == 0);
    store_close(s);
}

/* An attempt that runs into its own limit is repeated; the request's deadline is the end. */
static void test_attempt_out_of_time(void)
{
    const struct step steps[] = {{-ETIMEDOUT, ERR_RETRY_NEVER, 0}, {0}};
    struct script *p = script(steps, 2);
    struct store *s = wrap(p, 3, 1);
    struct op op;
    op_init(&op, "t", 60000);
    uint64_t deadline = op.deadline_ns;
    CHECK_INT(stat_once(s, &op), 0);
    CHECK_INT(p->calls, 2);
    CHECK(p->seen_deadline < deadline);
    CHECK(op.deadline_ns == deadline);
    store_close(s);
}

/* A store that says nothing is asked twice, one whose request is only to be made once, once. */
static void test_silence(void)
{
    const struct step steps[] = {{-ETIMEDOUT, ERR_RETRY_NEVER, 0}};
    struct script *p = script(steps, 1);
    struct store *s = wrap(p, 9, 1);
    struct op op;
    op_init(&op, "t", 0);
    CHECK_INT(stat_once(s, &op), -ETIMEDOUT);
    CHECK_INT(p->calls, 2);
    CHECK_STR(op.err.text, "the script says so (after 2 attempts)");
    p->calls = 0;
    op.once = true;
    CHECK_INT(stat_once(s, &op), -ETIMEDOUT);
    CHECK_INT(p->calls, 1);
    store_close(s);
}

static void test_remove_many(void)
{
    const struct step steps[] = {{-EAGAIN, ERR_RETRY_NEVER, 0}, {-EAGAIN, ERR_RETRY_NEVER, 0}, {0}};
    struct script *p = script(steps, 3);
    struct store *s = wrap(p, 3, 1);
    struct op op;
    const char *const keys[] = {"x", "busy1", "access", "y", "busy2"};
    struct remove_result results[5];
    op_init(&op, "t", 0);
    CHECK_INT(store_remove_many(s, &op, keys, 5, results), 0);
    CHECK_INT(p->calls, 3);
    CHECK_INT(p->removed, 2); /* only the busy ones again */
    for (unsigned i = 0; i < 5; i++)
        CHECK_INT(results[i].code, i == 2 ? EACCES : 0);
    store_close(s);

    p = script(steps, 1);
    s = wrap(p, 2, 1);
    CHECK_INT(store_remove_many(s, &op, keys, 5, results), 0);
    CHECK_INT(p->calls, 3);
    CHECK_INT(results[1].code, EIO);
    CHECK_INT(results[0].code, 0);
    store_close(s);
}

int main(void)
{
    RUN(test_safe_is_repeated);
    RUN(test_never_is_not);
    RUN(test_giving_up);
    RUN(test_unknown_outcome);
    RUN(test_repeated_removal);
    RUN(test_waiting);
    RUN(test_cancel);
    RUN(test_attempt_out_of_time);
    RUN(test_silence);
    RUN(test_remove_many);
    return t_done();
}
